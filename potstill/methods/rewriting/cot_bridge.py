"""CoT-Bridge: a bridger finds where a solution leaps over a step, and writes the step.

The released code was read: the bridger's prompt and data, how its reply is read, and where the steps go.

| constant | value | source |
|---|---|---|
| solutions that gaps are made in | at least 6 steps | released code |
| without a gap | a fifth of them | released code |
| steps removed | 1 or 2; up to 3 of more than 10; never two neighbours, nor one of the last two | released code |
| bridger | greedy, 1,024 tokens | released code |
| training of the bridger | 1 epoch, 1e-5 | released code; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple

from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.methods.replies import reply_of
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance,
    count_reading,
    edit,
    keep,
    line,
    pose,
    report_shares,
    rewrite,
    right,
    right_test,
    sample,
    segment,
    split_by,
    verify,
)
from potstill.traces.reasoning_steps import find_units

MIN_STEPS = 6
WITHOUT_GAP = 0.2
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 1024}
COMPLETE = "No missing steps."
BRIDGE = """\
You are a mathematics teacher and review a solution in which steps may be missing. Its steps are numbered; step 0 is \
the question. Find each place where the reasoning jumps, and write the step that belongs there. For each of them write

Missing Step X:
The missing step should be placed between Step Y and Step Y+1.
The missing step is:
[the step itself]

If nothing is missing, write "No missing steps." Write nothing else.

"""
_MISSING = re.compile(
    r"Missing Step \d{1,4}\s*[:：]\s*The missing step should be placed between Step (\d{1,4}) and Step (\d{1,4})\.\s*"
    r"The missing step is\s*[:：]\s*(.*?)(?=\n\s{0,9}Missing Step \d{1,4}\s*[:：]|\Z)",
    re.DOTALL,
)


class MissingStep(NamedTuple):
    """A step that a solution lacks, and the number of the step that it stands behind; 0 is the question."""

    behind: int
    text: str


def cot_bridge(
    problems: list[Trace],
    student: Trainable,
    bridger: Model,
    teacher: Model | None = None,
    apprentice: Trainable | None = None,
    *,
    arm: Literal["bridge", "none", "random-place"] = "bridge",
    steps: bool | None = None,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, None]:
    """CoT-Bridge: thought leaps are bridged before a solution is learnt (Mind the Gap; Xu et al., arXiv:2505.14684).

    Learns from: solutions, the problems' own or a teacher's right chains, with the steps put in that they leap over.
    Needs: student (is trained), bridger (finds leaps and writes the missing steps), [teacher] (writes the solutions),
        [apprentice] (is trained on solutions with gaps, and bridges in the bridger's place).
    Controls: arm=none (the solutions as they are), random-place (the same steps, each at a place by chance: is it
        where they stand?).
    Departure: the paper's bridger is always trained; here an untrained one is asked unless there is an apprentice (its
        own comparison: 48.4 against 49.7). The apprentice learns from gaps in the solutions that are bridged later,
        where the paper has another data set. A solution is bridged where its answer is right; where its answer, or with
        `steps` a step, is wrong afterwards, it stays as it was. A solution without blank lines has a step a line, and
        one of a single line a step a sentence.
    Partial: no process reward model vetoes steps that were put in.
    Paper: 132
    Cite: Haolei Xu, Yuchen Yan, Yongliang Shen, Wenqi Zhang, Guiyang Hou, Shengpei Jiang, Kaitao Song, Weiming Lu, Jun
        Xiao, Yueting Zhuang: Mind the Gap: Bridging Thought Leap for Improved Chain-of-Thought Tuning (2025).

    Args:
        student: learns the bridged solutions.
        bridger: one call a solution.
        teacher: writes the solutions; without one they are the problems'.
        apprentice: learns to bridge in a first stage.
        arm: the method or one of its controls.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain of the teacher.
    """
    is_right = right_test(problems, steps)
    if teacher is None:
        solutions = edit(show_solution, keep(has_solution, problems))
    else:
        solutions = sample(teacher, problems, temperature=0.6, max_new_tokens=max_new_tokens)
    # A solution that leaps need not be right in every step: its answer is.
    solutions = segment(step_starts, keep(right, verify(solutions)))

    # ScaleQM+: gaps are made in complete solutions, and an apprentice learns to fill them.
    if apprentice is not None and arm != "none":
        whole = {"whole": solutions}
        gaps = edit(write_missing_steps, keep(is_long_enough, solutions))
        bridger = yield Stage(
            apprentice, pose(show_gapped, gaps, context=whole, by=line, keep_text=True), "sft"
        )

    # The bridger's reply, and its steps put in.
    rows = solutions
    if arm != "none":
        replies = rewrite(bridger, solutions, prompt=show_solution_steps, guard=False, **GREEDY)
        put_in = partial(insert_steps, arm)
        bridged = edit(put_in, solutions, context={"replies": replies}, by=line)
        rows = keep(is_right, verify(bridged))
        # Where a step that was put in is wrong, the solution stays as it was.
        _, unbridged = split_by(rows, solutions, by=line)
        rows += unbridged
        report_bridges(solutions, replies, rows)
    yield Stage(student, rows, "sft")


def step_starts(text: str) -> list[int]:
    """Where the steps of a solution begin: behind blank lines, else behind lines, else behind sentences."""
    for delimiter in ("\n\n", "\n"):
        if delimiter in text.strip():
            return [
                match.end()
                for match in re.finditer(f"{delimiter}+", text)
                if match.end() < len(text)
            ]
    return [unit.start for unit in find_units(text)]


def numbered_steps(question: str, units: Sequence[str]) -> str:
    """A solution as the bridger sees it: the question as step 0, then each step under its number."""
    steps = [f"Step 0:\n{question}"]
    for number, unit in enumerate(units, 1):
        steps.append(f"Step {number}:\n{unit.strip()}")
    return "\n".join(steps)


def show_solution_steps(trace: Any) -> str:
    """The bridger's prompt for a whole solution."""
    return BRIDGE + numbered_steps(trace.question, trace.units)


# Making gaps.


def is_long_enough(trace: Trace) -> tuple[bool, str]:
    """It has enough steps that some can be taken out."""
    count = len(trace.units)
    return count >= MIN_STEPS, f"{count} steps, where gaps are made in {MIN_STEPS} or more"


def choose_gaps(trace: Any) -> list[int]:
    """Which steps are taken out of a solution, by their places from 0; none in a fifth of the solutions."""
    rng = Random(chance("gaps", trace.problem.id, trace.text))
    count = len(trace.units)
    if rng.random() < WITHOUT_GAP:
        return []
    wanted = rng.randint(1, 2 if count <= 10 else 3)
    # Never one of the last two, and never two neighbours.
    gaps: list[int] = []
    for place in rng.sample(range(count - 2), count - 2):
        if len(gaps) < wanted and not {place - 1, place + 1} & set(gaps):
            gaps.append(place)
    return sorted(gaps)


def write_missing_steps(trace: Any) -> str:
    """What an apprentice is to answer: each missing step behind the step that it follows in the gapped solution."""
    parts: list[str] = []
    for number, place in enumerate(choose_gaps(trace)):
        parts.append(
            f"Missing Step {number + 1}:\n"
            f"The missing step should be placed between Step {place - number} and Step {place - number + 1}.\n"
            f"The missing step is:\n{trace.units[place].strip()}"
        )
    return "\n".join(parts) or COMPLETE


def show_gapped(trace: Any, whole: Sequence[Any]) -> str:
    """The apprentice's prompt: the solution without the steps that were taken out."""
    [solution] = whole
    gaps = choose_gaps(solution)
    left = [unit for place, unit in enumerate(solution.units) if place not in gaps]
    return BRIDGE + numbered_steps(solution.question, left)


# Filling gaps.


def read_missing_steps(text: str, count: int) -> list[MissingStep] | None:
    """The missing steps of a reply, by place; None where it can't be read.

    A step that stands between no neighbours, behind the last step, or begins with the mark of an answer is left out.
    """
    matches = _MISSING.findall(text)
    is_complete = text.strip().lower().startswith(COMPLETE[:-1].lower())
    count_reading("missing steps", text, "strict" if matches or is_complete else "unparsed")
    if not matches and not is_complete:
        return None
    missing: list[MissingStep] = []
    for behind, before, step in matches:
        is_placed = int(before) == int(behind) + 1 and int(behind) < count
        if is_placed and step.strip() and not step.startswith("####"):
            missing.append(MissingStep(int(behind), step.strip()))
    return sorted(missing, key=lambda step: step.behind)


def insert_steps(arm: str, trace: Any, replies: Sequence[Any]) -> str | None:
    """The solution with the steps of its reply put in; unchanged where the reply failed or can't be read."""
    missing = [
        step
        for reply in replies
        for step in read_missing_steps(reply_of(reply.text), len(trace.units)) or []
    ]
    if arm == "random-place":
        rng = Random(chance("places", trace.problem.id, trace.text))
        missing = [step._replace(behind=rng.randrange(len(trace.units))) for step in missing]
    separator = separator_of(trace.text)
    parts: list[str] = []
    for number, unit in enumerate(("", *trace.units)):
        parts.append(unit)
        for step in missing:
            if step.behind == number:
                parts.append(step.text + separator)
    return "".join(parts)


def separator_of(text: str) -> str:
    """What stands between the steps of a solution."""
    for delimiter in ("\n\n", "\n"):
        if delimiter in text.strip():
            return delimiter
    return " "


def report_bridges(
    solutions: Sequence[Trace], replies: Sequence[Trace], rows: Sequence[Trace]
) -> None:
    """Say how many solutions got steps, how many their bridger found complete, and how many lost them again."""
    texts = {trace.line: trace.text for trace in solutions}
    with_leap = sum(bool(_MISSING.search(reply_of(reply.text))) for reply in replies)
    bridged = sum(row.text != texts[row.line] for row in rows)
    shares = (
        Share("solutions with a leap, as the bridger finds", with_leap, len(replies)),
        Share("solutions that were bridged and are right", bridged, len(rows)),
    )
    report_shares(
        "Bridged leaps",
        shares,
        hint="A solution that is not right with the steps that were put in is learnt as it was.",
    )
