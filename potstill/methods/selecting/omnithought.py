"""OmniThought: chains with marks for how wordy and how demanding they are; a student learns those that fit it.

| constant | value | source |
|---|---|---|
| correctness | 0 or 1, one call | released code |
| verbosity RV, difficulty CD | 0 to 9, one call each, temperature 0 | released code |
| longest reply of the judge | 2,048 tokens | inferred: 512 in the released code, too few for a judge that thinks |
| bins of CD | from 0, 3 and 6 | released code |
| matched target of RV by bin | 2 + 8 bin / (bins - 1), at most 9: 2, 6, 9 | released code, where the last is 10 |
| fixed targets of RV | 2, 5, 8 | released code |
| rows of a bin, most | no limit | released code: optional |
| chains a question of each teacher | 2 | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace, split_reasoning
from potstill.traces import (
    Share,
    ask,
    best,
    by_chance,
    count_reading,
    is_finished,
    keep,
    problem,
    report_shares,
    right_test,
    sample,
    score,
    verify,
)

BIN_STARTS = (0, 3, 6)
HIGHEST = 9
JUDGING: Mapping[str, Any] = {"temperature": 0.0, "max_new_tokens": 2048}
FIXED_TARGETS: Mapping[str, float] = {"concise": 2, "moderate": 5, "exhaustive": 8}
FORM = """\
Question:
{question}

Reasoning:
{text}

Analyse it first. End with one whole number in a tag: <score>NUMBER</score>"""
CORRECTNESS = f"""\
Is the reasoning below logically correct? Give 1 where it is coherent, uses every condition of the question, has no \
contradiction and no unsupported leap, and really leads to its answer; else 0.

{FORM}"""
VERBOSITY = f"""\
How wordy is the reasoning below, for a question of this difficulty? Give a number from 0 to 9: 0 or 1 for next to \
nothing, 2 or 3 for concise, 4 or 5 for moderate, 6 or 7 for extensive with checks and alternatives, 8 or 9 for \
exhaustive.

{FORM}"""
DIFFICULTY = f"""\
How much competence does it take to follow the reasoning below? Give a number from 0 to 9: 0 or 1 for a single fact, \
2 or 3 for arithmetic in a few steps, 4 or 5 for early undergraduate work with one insight, 6 or 7 for techniques of \
advanced undergraduates, 8 or 9 for the abstraction of graduates.

{FORM}"""
_SCORE = re.compile(r"<score>\s*(\d{1,3})\s*</score>", re.IGNORECASE)

Arm = Literal["matched", "concise", "moderate", "exhaustive", "by-chance"]


def omnithought(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    others: Sequence[Model] = (),
    judge: Model | None = None,
    *,
    arm: Arm = "matched",
    n: int = 2,
    per_bin: int | None = None,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.6, top_p=0.95, max_new_tokens=32768),
) -> Generator[Stage, Trainable, None]:
    """OmniThought: chains annotated with verbosity and cognitive difficulty (Cai et al., arXiv:2505.10937).

    Of each question's correct chains the one with the least |RV - target(CD)| is learnt; target rises with the bin
    that CD is in: the harder a chain, the wordier it may be.

    Learns from: a teacher's correct chain of each question, of the verbosity that fits its difficulty.
    Needs: teacher (writes chains), student (is trained), [others] (write chains beside it), [judge] (marks the chains,
        in the teacher's place).
    Controls: arm=concise, moderate and exhaustive (one verbosity for all difficulties), by-chance (any correct chain:
        is it the marks?).
    Departure: a chain must also be right by its verifier, which is asked first and costs no call. A mark that can't be
        read is none, and its chain is no row. The rubrics' wording is ours. The code takes all
        correct chains of a bin, the nearest first; one row a question is inferred, and the thresholds of the paper's
        students are not known.
    Partial: the preference pairs of the release are not here.
    Paper: 22
    Cite: Wenrui Cai, Chengyu Wang, Junbing Yan, Jun Huang, Xiangzhong Fang: Reasoning with OmniThought: A Large CoT
        Dataset with Verbosity and Cognitive Difficulty Annotations (2025).

    Args:
        teacher: R1 in the paper.
        student: learns.
        others: QwQ-32B in the paper.
        judge: marks correctness, verbosity and difficulty; three calls a chain.
        arm: the method or one of its controls.
        n: chains a question, of each teacher.
        per_bin: rows of a bin of difficulty, at most, those that fit best; without it all.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        sampling: of the teachers.
    """
    # Chains of all teachers that are right.
    chains: list[Trace] = []
    for writer in (teacher, *others):
        chains += sample(writer, problems, n=n, **dict(sampling))
    chains = keep(right_test(problems, steps), verify(keep(is_finished, chains)))

    # Three marks: correctness first, so that the other two are asked of correct chains only.
    marker = judge or teacher
    read_correctness = partial(read_mark, "correctness", 1)
    chains = score("correctness", ask(marker, CORRECTNESS, read_correctness, **JUDGING), chains)
    chains = keep(is_correct, chains)
    read_verbosity = partial(read_mark, "verbosity", HIGHEST)
    chains = score("verbosity", ask(marker, VERBOSITY, read_verbosity, **JUDGING), chains)
    read_difficulty = partial(read_mark, "difficulty", HIGHEST)
    chains = score("difficulty", ask(marker, DIFFICULTY, read_difficulty, **JUDGING), chains)
    marked = keep(is_marked, chains)

    # The chain of each question that fits best, and of each bin the best of these.
    key = by_chance if arm == "by-chance" else partial(fit_of, arm)
    rows = best(key, marked, by=problem)
    if per_bin is not None:
        rows = best(key, rows, by=bin_of, k=per_bin)
    report_bins(marked, rows)
    yield Stage(student, rows, "sft")


def read_mark(name: str, highest: int, text: str) -> float | None:
    """The whole number in a reply's tag; None without one, with two different ones, or off the scale."""
    marks = set(_SCORE.findall(split_reasoning(text)[1]))
    # Two different numbers are no mark: which one is meant would be a guess.
    if len(marks) == 1:
        mark = int(marks.pop())
        if mark <= highest:
            count_reading(name, text, "strict")
            return float(mark)
    count_reading(name, text, "unparsed")
    return None


def is_correct(trace: Trace) -> tuple[bool, str]:
    """The judge calls it correct."""
    mark = trace.scores.get("correctness")
    return mark == 1, "no mark of correctness" if mark is None else "not correct to the judge"


def is_marked(trace: Trace) -> tuple[bool, str]:
    """It has both other marks."""
    for name in ("verbosity", "difficulty"):
        if trace.scores.get(name) is None:
            return False, f"no mark of {name}"
    return True, ""


def mark_of(name: str, trace: Trace) -> float:
    """A mark that is known to be there."""
    return float(trace.scores[name] or 0)


def bin_of(trace: Trace) -> int:
    """Key: the bin of its difficulty, from 0."""
    difficulty = mark_of("difficulty", trace)
    return sum(difficulty >= start for start in BIN_STARTS) - 1


def target_of(arm: str, difficulty_bin: int) -> float:
    """The verbosity that is wanted of a bin."""
    if arm in FIXED_TARGETS:
        return FIXED_TARGETS[arm]
    # From 2 evenly up with the bins; the last would be 10, on a scale that ends at 9.
    return min(HIGHEST, 2 + 8 * difficulty_bin / (len(BIN_STARTS) - 1))


def fit_of(arm: str, trace: Trace) -> tuple[float, str]:
    """Key: how near its verbosity is to the target, equal ones by chance; the highest fits best."""
    distance = abs(mark_of("verbosity", trace) - target_of(arm, bin_of(trace)))
    return -distance, by_chance(trace)


def report_bins(marked: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say how many chains and rows each bin of difficulty has."""
    shares: list[Share] = []
    for number, start in enumerate(BIN_STARTS):
        chains = sum(bin_of(trace) == number for trace in marked)
        learnt = sum(bin_of(trace) == number for trace in rows)
        shares.append(Share(f"chains of difficulty {start} and up", chains, len(marked)))
        shares.append(Share(f"rows of difficulty {start} and up", learnt, len(rows)))
    hint = "Up to the next bin. Of each question the chain is learnt whose verbosity is nearest to its bin's."
    report_shares("Difficulty of the chains", shares, hint=hint)
