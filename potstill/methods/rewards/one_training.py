"""Reinforcement learning in one training: a line a paper.

A source is the paper, its authors' code, its abstract, a second description of it, or "inferred": none of them says it.
"""

from __future__ import annotations

from potstill.methods.lines import Arm, Constant, Line

LINES = (
    Line(
        name="alphamed",
        title="AlphaMed: rule-based reinforcement learning on multiple choice, without distilled reasoning",
        authors="Liu et al.",
        arxiv="2505.17952",
        paper=13,
        cite=(
            "Che Liu, Haozhe Wang, Jiazhen Pan, Zhongwei Wan, Yong Dai, Fangzhen Lin, Wenjia Bai, Daniel Rueckert, "
            "Rossella Arcucci: Beyond Distillation: Pushing the Limits of Medical LLM Reasoning with Minimalist "
            "Rule-Based RL (2025)."
        ),
        objective="grpo",
        texts="student",
        learns_from="its own texts, by whether the chosen answer is right.",
        constants=(
            Constant("on_policy_fraction", 1.0, "all texts are its own", "abstract"),
            Constant("num_generations", 8, "texts a problem", "inferred"),
            Constant("rollout_temperature", 1.0, "of its texts", "inferred"),
            Constant("max_new_tokens", 2048, "longest text", "inferred"),
        ),
        compared_with="sft, the distilled chains that it does without",
        departure="all but the rule-based reward on multiple choice is inferred.",
        abstract_only=True,
    ),
    Line(
        name="nover",
        title="NOVER: reinforcement learning without a verifier, by how likely the reasoning makes the gold answer",
        authors="Liu et al.",
        arxiv="2505.16022",
        paper=15,
        cite=(
            "Wei Liu, Siya Qi, Xinyu Wang, Chen Qian, Yali Du, Yulan He: NOVER: Incentive Training for Language "
            "Models via Verifier-Free Reinforcement Learning (2025)."
        ),
        objective="grpo",
        texts="student",
        learns_from=(
            "its own texts, by the perplexity of the gold answer behind their reasoning, their brevity, their form."
        ),
        constants=(
            Constant(
                "reward",
                {"nover": 1.0, "nover_efficiency": 1.0, "form": 1.0},
                "weights of reasoning, brevity and form",
                "code",
            ),
            Constant("beta", 0.1, "weight of the divergence to the reference", "code"),
            Constant("clip", 0.1, "lower clip of the ratio", "code"),
            Constant("clip_high", 0.2, "upper clip of the ratio", "code"),
            Constant("on_policy_fraction", 1.0, "all texts are its own", "paper"),
            Constant("num_generations", 8, "texts a problem", "code"),
            Constant("rollout_temperature", 0.6, "of its texts", "code"),
            Constant("max_new_tokens", 2048, "longest text", "code"),
        ),
        arms=(
            Arm(
                "verifier",
                "rewards of verdicts: what doing without a verifier costs",
                {"reward": {"verifier": 1.0, "form": 1.0}},
            ),
        ),
        departure=(
            "the reference is the student as it starts, and advantages are divided by the group's deviation; in the "
            "code the reference follows the student and they are not."
        ),
    ),
    Line(
        name="shorterbetter",
        title="ShorterBetter: reinforcement learning towards the length of the shortest right sample",
        authors="Yi et al.",
        arxiv="2504.21370",
        paper=82,
        cite=(
            "Jingyang Yi, Jiazheng Wang, Sida Li: ShorterBetter: Guiding Reasoning Models to Find Optimal Inference "
            "Length for Efficient Reasoning (2025)."
        ),
        objective="grpo",
        texts="student",
        learns_from=(
            "its own texts, by verdict and by how far their length is from the shortest right one of their group."
        ),
        constants=(
            Constant(
                "reward",
                {"verifier": 2.0, "optimal_length": 0.001},
                "weights of the verdict, and of each token from the optimal length",
                "code: alpha and beta",
            ),
            Constant("beta", 0.001, "weight of the divergence to the student as it starts", "code"),
            Constant(
                "corrected",
                False,
                "whether that divergence's gradient is the reverse KL's",
                "code: low_var_kl",
            ),
            Constant("on_policy_fraction", 1.0, "all texts are its own", "paper"),
            Constant("num_generations", 8, "texts a problem", "code"),
            Constant("rollout_temperature", 0.9, "of its texts", "code"),
            Constant("max_new_tokens", 6000, "longest text", "code"),
        ),
        arms=(
            Arm(
                "verdict-alone",
                "without lengths: what the optimal length adds",
                {"reward": {"verifier": 2.0}},
            ),
        ),
        departure=(
            "one step is made on each rollout, 128 problems in eight in the code (--set "
            "training.objective_config.num_iterations=8)."
        ),
    ),
)
