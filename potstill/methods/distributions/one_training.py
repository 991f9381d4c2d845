"""Distillation of distributions in one training: a line a paper.

A source is the paper, its authors' code, its abstract, a second description of it, or "inferred": none of them says it.
"""

from __future__ import annotations

from potstill.methods.lines import Arm, Constant, Line

RIGHT_TEXTS_ALONE = (
    "texts without a right answer are no rows (inferred: the papers' tasks have no verifier)."
)

LINES = (
    Line(
        name="cot2align",
        title="CoT2Align: optimal transport between the states of teacher and student, across chains and tokenizers",
        authors="Le et al.",
        arxiv="2502.16806",
        paper=131,
        cite=(
            "Anh Duc Le, Tu Vu, Nam Le Hai, Nguyen Thi Ngoc Diep, Linh Ngo Van, Trung Le, Thien Huu Nguyen: "
            "CoT2Align: Cross-Chain of Thought Distillation via Optimal Transport Alignment for Language Models with"
            " Different Tokenizers (2025)."
        ),
        objective="cot2align",
        texts="teacher",
        teacher="distribution",
        learns_from="the teacher's states on chains and on the bare answers, of any tokenizer.",
        constants=(
            Constant("align", 1.0, "weight of the transport's cost", "inferred"),
            Constant("weight", 1.5, "weight of ULD, beside it", "ULD's own, arXiv:2402.12030"),
            Constant("epsilon", 0.1, "entropy of the transport", "inferred"),
            Constant(
                "projector_lr", 1e-3, "learning rate of the projection", "as DSKD, arXiv:2406.17328"
            ),
        ),
        arms=(
            Arm(
                "uncrossed",
                "each text carried to itself: what crossing the chains adds",
                {"crossed": False},
            ),
            Arm("uld", "ULD alone: what the transport adds", {"weight": 1.5}, objective="uld"),
        ),
        departure=(
            "cost, direction and weights of the transport are inferred, from a second description; no code is "
            f"published; {RIGHT_TEXTS_ALONE}"
        ),
    ),
    Line(
        name="distillm",
        title="DistiLLM: skewed divergence, on the student's own texts as far as they help",
        authors="Ko et al.",
        arxiv="2402.03898",
        paper=194,
        cite=(
            "Jongwoo Ko, Sungnyun Kim, Tianyi Chen, Se-Young Yun: DistiLLM: Towards Streamlined Distillation for "
            "Large Language Models (2024)."
        ),
        objective="skew_kl",
        texts="teacher",
        teacher="distribution",
        learns_from="the teacher's distribution, on given texts and more and more on its own, which are used again.",
        constants=(
            Constant(
                "skew",
                0.1,
                "the teacher's share in the mixture that is compared",
                "paper, sec. 3.1",
            ),
            Constant(
                "on_policy_fraction", 0.0, "share of its own texts to begin with", "paper, sec. 3.2"
            ),
            Constant("replay_buffer_size", 1000, "own texts kept to be learnt again", "code"),
        ),
        arms=(
            Arm(
                "given-texts",
                "no text of its own: what the adaptive share adds",
                {"replay_buffer_size": 0},
            ),
            Arm(
                "forward-kl",
                "without the skew",
                {"on_policy_fraction": 0.0, "replay_buffer_size": 1000},
                objective="forward_kl",
            ),
        ),
        departure=f"the value of the loss is the divergence, not its cross-entropy form; {RIGHT_TEXTS_ALONE}",
    ),
    Line(
        name="gkd",
        title="GKD: generalised distillation, on given texts and on the student's own",
        authors="Agarwal et al.",
        arxiv="2306.13649",
        paper=108,
        cite=(
            "Rishabh Agarwal, Nino Vieillard, Yongchao Zhou, Piotr Stanczyk, Sabela Ramos, Matthieu Geist, Olivier "
            "Bachem: On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes (2023)."
        ),
        objective="jsd",
        texts="teacher",
        teacher="distribution",
        learns_from="the teacher's distribution, on given texts and on what it writes itself.",
        constants=(
            Constant(
                "beta",
                0.5,
                "0 is the forward, 1 the reverse KL",
                "paper: 0 to 1 are tried; TRL's default",
            ),
            Constant(
                "on_policy_fraction",
                0.5,
                "share of its own texts, lambda",
                "paper: 0.5 to 1 are best",
            ),
            Constant("rollout_temperature", 1.0, "of its own texts", "paper, sec. 4"),
        ),
        arms=(
            Arm(
                "supervised",
                "given texts alone: what its own mistakes add",
                {"on_policy_fraction": 0.0},
            ),
            Arm("on-policy", "its own texts alone", {"on_policy_fraction": 1.0}),
        ),
        departure=f"the teacher's texts are sampled once, not anew in every epoch; {RIGHT_TEXTS_ALONE}",
    ),
    Line(
        name="kdrl",
        title="KDRL: reinforcement learning and reverse KL to a teacher in one policy gradient",
        authors="Xu et al.",
        arxiv="2506.02208",
        paper=148,
        cite=(
            "Hongling Xu, Qi Zhu, Heyuan Deng, Jinpeng Li, Lu Hou, Yasheng Wang, Lifeng Shang, Ruifeng Xu, Fei Mi: "
            "KDRL: Post-Training Reasoning LLMs via Unified Knowledge Distillation and Reinforcement Learning "
            "(2025)."
        ),
        objective="kdrl",
        texts="student",
        teacher="likelihood",
        learns_from="its own texts, by their verdicts and by how likely the teacher finds each token.",
        constants=(
            Constant(
                "beta",
                1e-3,
                "weight of the KL, estimated by k2",
                "second description: of this order",
            ),
            Constant("on_policy_fraction", 1.0, "all texts are its own", "paper"),
            Constant("num_generations", 8, "texts a problem", "inferred"),
            Constant("rollout_temperature", 1.0, "of its texts", "inferred"),
            Constant("max_new_tokens", 2048, "longest text", "inferred"),
        ),
        arms=(
            Arm("reward-alone", "GRPO: what the teacher adds", {"beta": 0.0}),
            Arm(
                "teacher-alone",
                "the KL alone: what the verifier adds",
                {"estimator": "k2", "on_policy_fraction": 1.0, "max_new_tokens": 2048},
                objective="token_kl",
            ),
        ),
        departure="coefficients are known from a second description alone.",
        partial=(
            'beta that falls from 5e-3 to 1e-3 (--set \'training.objective_config.schedule={"beta": [0.005, '
            "0.001]}'), and no distillation where the reward is full already."
        ),
    ),
    Line(
        name="kid",
        title="KID: distillation on texts with the student's own slips in them",
        authors="Zhong et al.",
        arxiv="2410.11371",
        paper=154,
        cite=(
            "Qihuang Zhong, Kunfeng Chen, Liang Ding, Juhua Liu, Bo Du, Dacheng Tao: Learning from Imperfect Data: "
            "Towards Efficient Knowledge Distillation of Autoregressive Language Models for Text-to-SQL (2024)."
        ),
        objective="kid",
        texts="solutions",
        teacher="distribution",
        learns_from="texts of the data set in which tokens of its own stand, and what the teacher says behind them.",
        constants=(
            Constant(
                "replaced", 0.2, "share of a text's tokens in whose place its own stand", "inferred"
            ),
            Constant("mle", 1.0, "weight of the likelihood of the text's own tokens", "inferred"),
        ),
        arms=(
            Arm("perfect-texts", "no token is replaced: what the slips add", {"replaced": 0.0}),
            Arm(
                "own-texts",
                "the student writes whole texts: what writing them costs",
                {"on_policy_fraction": 1.0, "max_new_tokens": 2048},
                objective="reverse_kl",
                texts="student",
            ),
        ),
        departure=(
            "which tokens are replaced, by the likeliest one, the reverse divergence, that what is replaced has no "
            "likelihood of its own, and every constant are inferred."
        ),
        abstract_only=True,
    ),
    Line(
        name="pretraining_distillation",
        title="Pre-training distillation: likelihood of the text and divergence to the teacher, mixed",
        authors="Peng et al.",
        arxiv="2410.16215",
        paper=152,
        cite=(
            "Hao Peng, Xin Lv, Yushi Bai, Zijun Yao, Jiajie Zhang, Lei Hou, Juanzi Li: Pre-training Distillation for"
            " Large Language Models: A Design Space Exploration (2024)."
        ),
        objective="forward_kl",
        texts="solutions",
        teacher="distribution",
        learns_from="texts of the data set, and the teacher's distribution on them.",
        constants=(
            Constant(
                "kd", 0.9, "share of the divergence in the loss", "inferred; the paper writes alpha"
            ),
        ),
        arms=(
            Arm(
                "text-alone",
                "language modelling: what the teacher adds",
                objective="sft",
                asks_teacher=False,
            ),
        ),
        departure=(
            "the teacher is asked during the training; the paper stores 0.95 of its mass, 100 tokens at most, of "
            "every position (`potstill cache-teacher`, then `potstill train --teacher-cache`); documents are a data "
            "set's solutions."
        ),
        partial="the share that moves with the learning rate, and the grid of sizes, losses and temperatures.",
    ),
    Line(
        name="self_evolution",
        title="Self-evolution: tokens that are hard for the student are shown to it in part",
        authors="Song et al.",
        arxiv="2412.15303",
        paper=182,
        cite=(
            "Yuncheng Song, Liang Ding, Changtong Zan, Shujian Huang: Self-Evolution Knowledge Distillation for LLM-"
            "based Machine Translation (2024)."
        ),
        objective="self_evolution",
        texts="solutions",
        teacher="distribution",
        learns_from=(
            "the teacher's distribution on texts of the data set, hard tokens with gold and teacher mixed into its "
            "own."
        ),
        constants=(
            Constant(
                "prior",
                0.5,
                "share of prior knowledge in its distribution at hard tokens",
                "inferred",
            ),
            Constant("gold", 0.5, "share of the text's token in that knowledge", "inferred"),
            Constant(
                "threshold", 1.0, "divergence, in nats, above which a token is hard", "inferred"
            ),
        ),
        arms=(
            Arm(
                "forward-kl",
                "every token alike: what the prior knowledge adds",
                objective="forward_kl",
            ),
        ),
        departure="all constants are inferred, and so is the teacher alone as the target.",
        abstract_only=True,
    ),
    Line(
        name="skd",
        title="SKD: the student proposes each token, the teacher replaces those that it would not say",
        authors="Xu et al.",
        arxiv="2410.11325",
        paper=113,
        cite=(
            "Wenda Xu, Rujun Han, Zifeng Wang, Long T. Le, Dhruv Madeka, Lei Li, William Yang Wang, Rishabh Agarwal,"
            " Chen-Yu Lee, Tomas Pfister: Speculative Knowledge Distillation: Bridging the Teacher-Student Gap "
            "Through Interleaved Sampling (2024)."
        ),
        objective="jsd",
        texts="student",
        teacher="distribution",
        learns_from="the teacher's distribution on texts that both write together.",
        constants=(
            Constant("beta", 0.5, "of the divergence", "paper: any divergence"),
            Constant("on_policy_fraction", 1.0, "all texts are written in the training", "paper"),
            Constant(
                "rollout_sampling",
                "speculative",
                "who writes",
                "paper, alg. 1, with 25 of the teacher's tokens",
            ),
            Constant("rollout_temperature", 0.5, "of the student's proposals", "code"),
            Constant("max_new_tokens", 2048, "longest text", "inferred"),
        ),
        arms=(
            Arm(
                "on-policy",
                "the student writes alone: what the teacher's tokens add",
                {"rollout_sampling": "student"},
            ),
        ),
        departure=(
            "Jensen-Shannon divergence at the position that predicts each token; the code's is KL(m, p) + KL(m, q), "
            "one position off. The student's proposals are not cut to the most likely half (code: top-p 0.5)."
        ),
    ),
    Line(
        name="taid",
        title="TAID: a target that moves from the student's own distribution to the teacher's",
        authors="Shing et al.",
        arxiv="2501.16937",
        paper=150,
        cite=(
            "Makoto Shing, Kou Misaki, Han Bao, Sho Yokoi, Takuya Akiba: TAID: Temporally Adaptive Interpolated "
            "Distillation for Efficient Knowledge Transfer in Language Models (2025)."
        ),
        objective="taid",
        texts="teacher",
        teacher="distribution",
        learns_from="a mixture of its own distribution and the teacher's, whose share grows as its loss falls.",
        arms=(Arm("forward-kl", "the teacher alone from the first step", objective="forward_kl"),),
        departure=f"the value of the loss is the divergence, not its cross-entropy form; {RIGHT_TEXTS_ALONE}",
    ),
    Line(
        name="uld",
        title="ULD: sorted distributions compared, whatever the two tokenizers",
        authors="Boizard et al.",
        arxiv="2402.12030",
        paper=167,
        cite=(
            "Nicolas Boizard, Kevin El Haddad, Céline Hudelot, Pierre Colombo: Towards Cross-Tokenizer Distillation:"
            " the Universal Logit Distillation Loss for LLMs (2024)."
        ),
        objective="uld",
        texts="teacher",
        teacher="distribution",
        learns_from="the teacher's texts, and its sorted probabilities where both vocabularies begin a token.",
        constants=(
            Constant("weight", 1.5, "of the distance", "paper and code"),
            Constant("ce", 1.0, "of the likelihood", "paper, eq. 5"),
        ),
        arms=(
            Arm(
                "texts-alone",
                "the teacher's texts: what its distribution adds",
                objective="sft",
                asks_teacher=False,
            ),
        ),
        departure=(
            f"groups of bytes are compared where the paper compares position t with position t; {RIGHT_TEXTS_ALONE}"
        ),
    ),
)
