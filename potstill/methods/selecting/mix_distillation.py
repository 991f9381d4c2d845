"""Mix distillation: a fifth of the rows is hard to learn, long or by a large teacher; the rest is easy.

| constant | value | source |
|---|---|---|
| share of hard rows | 0.2 | released code: long 0.2, short 0.8; large and small likewise |
| hard and easy texts | QwQ-32B-Preview and Qwen2.5-32B-Instruct; 72B and 3B | paper |
| tries until a text is right | 4 | inferred: rejection sampling, no number |
| sampling | temperature 0.7, 16,384 tokens | inferred |
| training: learning rate, epochs | 1e-5, 2 | released code |
| cut and packing | 4,096 tokens, packed; of long chains alone 8,192, not packed | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal

from potstill.errors import ConfigError, StageError
from potstill.methods.until_right import sample_until_right
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance,
    mix,
    report_shares,
    right_test,
    split_by,
)

TRAINING: dict[str, Any] = {"learning_rate": 1e-5, "num_train_epochs": 2}


def mix_distillation(
    problems: list[Trace],
    teacher: Model,
    easier: Model,
    student: Trainable,
    *,
    arm: Literal["mix", "hard-only", "easy-only"] = "mix",
    hard_share: float = 0.2,
    tries: int = 4,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 16384,
) -> Generator[Stage, Trainable, None]:
    """Mix distillation: small models struggle to learn from strong reasoners (Li et al., arXiv:2502.12143).

    D = 0.2 D_hard + 0.8 D_easy on the same questions. Mix-Long: hard is a long chain, easy a short one; mix-Large: hard
    is a large teacher's chain, easy a small one's. The gap of a student is P(hard-only) - P(easy-only), below 0 for
    students of up to 3B in the paper.

    Learns from: right chains of the teacher on a fifth of the questions, and of the easier one on the rest.
    Needs: teacher (writes long chains, or is large), easier (writes short chains, or is small), student (is trained).
    Controls: arm=hard-only and easy-only (one source alone, on the same questions: their difference is the gap).
    Departure: inferred: each question is learnt once, and only questions that both sources got right, so that the
        arms differ in nothing else. A chain that is not finished is none; the released code trains on chains that
        it cuts, the mix at 4,096 tokens and the long chains alone at 8,192: here all arms are trained alike. With
        `steps` a chain is right in every step.
    Paper: 64
    Cite: Yuetai Li, Xiang Yue, Zhangchen Xu, Fengqing Jiang, Luyao Niu, Bill Yuchen Lin, Bhaskar Ramasubramanian, Radha
        Poovendran: Small Models Struggle to Learn from Strong Reasoners (2025).

    Args:
        teacher: the strong reasoner.
        easier: whose chains a small student can follow: a model of short chains (mix-Long), or a small one (mix-Large).
        student: learns.
        arm: the method or one of its controls.
        hard_share: of the rows, from 0 to 1; the paper's best for its students.
        tries: a source gets at each question, until it is right.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of both sources.
        max_new_tokens: longest chain.
    """
    if not 0 <= hard_share <= 1:
        raise ConfigError(f"mix_distillation got hard_share={hard_share}", expected="from 0 to 1")
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}

    # One right chain a question of each source, on the questions that both got right.
    hard = sample_until_right(is_right, teacher, problems, tries, **sampling)
    both, _ = split_by(hard, problems)
    easy = sample_until_right(is_right, easier, both, tries, **sampling)
    hard, _ = split_by(easy, hard)
    require_both(hard, len(problems))

    # The hard rows are of questions chosen by chance, the easy ones of all others.
    shares = {"mix": hard_share, "hard-only": 1.0, "easy-only": 0.0}
    chosen = choose_share(shares[arm], hard)
    _, others = split_by(chosen, easy)
    report_mix(hard, easy, chosen, others)
    yield Stage(student, mix(chosen, others), "sft", **TRAINING)


def choose_share(share: float, traces: Sequence[Trace]) -> list[Trace]:
    """This share of the traces, by chance: the same questions whatever is learnt beside them."""
    # By a hash of the question: a larger share contains a smaller one, in whatever order the problems come.
    ranked = sorted(traces, key=lambda trace: chance("hard", trace.problem.id))
    return ranked[: round(share * len(ranked))]


def require_both(hard: Sequence[Trace], total: int) -> None:
    """Stop before the training where no question was solved by both sources."""
    if not hard:
        raise StageError(
            f"mix_distillation mixes two sources, and none of {total} problems was solved by both",
            expected="a right chain of the teacher and of the easier one on the same problem",
            fix="more tries (--set tries=8), or easier problems, in another --out",
        )


def report_mix(
    hard: Sequence[Trace],
    easy: Sequence[Trace],
    chosen: Sequence[Trace],
    others: Sequence[Trace],
) -> None:
    """Say how many rows are hard, and how long both kinds are on the same questions."""
    # Over all common questions, not the rows: the two kinds are compared on the same ones.
    hard_words = sum(len(trace.text.split()) for trace in hard)
    easy_words = sum(len(trace.text.split()) for trace in easy)
    shares = [
        Share("rows that are hard", len(chosen), len(chosen) + len(others)),
        Share("words of an easy chain, of a hard one's", easy_words, hard_words),
    ]
    hint = "Both sources' chains on the same questions; where they are as long, the mix is of teachers, not of lengths."
    report_shares("Mix of the sources", shares, hint=hint)
