"""DAP: the teacher judges how hard a problem is, and rewrites its long chain in the form of that level.

The paper's pipeline is known from its abstract, the levels' headings from a generator that its authors released
(SmallThoughts). Inferred: the wording of the prompt that shows a chain, and the filters.

| constant | value | source |
|---|---|---|
| levels and their headings | `LEVELS` | released generator |
| temperature of the rewriting | 0 | released generator |
| longest rewrite | 8,192 tokens | released generator |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.replies import reply_alone
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    Share,
    edit,
    fill_template,
    is_finished,
    is_shorter,
    keep,
    keep_reasoned,
    of_each,
    prompt_text,
    read_sections,
    refuse_hidden_end,
    report_shares,
    rewrite,
    right_test,
    sample,
    score,
    verify,
)

# The second heading of each level occurs in no other one, and tells the level of a text.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "simple": ("Analysis", "Approach", "Summary"),
    "moderate": ("Analysis", "Initial Approach", "Reflection", "Improvement", "Summary"),
    "hard": (
        *("Analysis", "Problem Decomposition", "Sub-problem Processing", "Integration"),
        *("Overall Reflection", "Final Optimization", "Summary"),
    ),
}
SOLUTION = "Solution"
FORM = """\
First judge how complex the problem is. Then write the reasoning in the form of that level, with exactly these \
headings in bold and in this order, each followed by its text:

simple: **Analysis:** **Approach:** **Summary:**
moderate: **Analysis:** **Initial Approach:** **Reflection:** **Improvement:** **Summary:**
hard: **Analysis:** **Problem Decomposition:** **Sub-problem Processing:** (for each sub-problem a first attempt, \
what is weak about it, and the better one) **Integration:** **Overall Reflection:** **Final Optimization:** **Summary:**

At the end write **Solution:** and the steps that lead to the answer, and the answer, in as few words as they need."""
REWRITE = f"""\
{FORM}

Rewrite the solution below in this way. Keep every step that is needed, and leave out what leads nowhere.

Question: {{question}}

Solution:
{{text}}"""
UNIFORM = """\
Rewrite the solution below so that it is short and clear. Keep every step that is needed, and leave out what leads \
nowhere. End with the answer.

Question: {question}

Solution:
{text}"""
GENERATE = f"""\
{FORM}

Question: {{prompt}}

Its correct answer, for you alone:
{{gold}}

Write as if you did not know it."""


def dap(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    editor: Model | None = None,
    *,
    arm: Literal["dap", "generate", "uniform", "long"] = "dap",
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 32768,
    max_rewrite_tokens: int = 8192,
    gate: ReferenceGate = ReferenceGate(),
) -> Generator[Stage, Trainable, None]:
    """DAP: pruning long chains with difficulty-aware prompting (LiteCoT; Wu et al., arXiv:2505.19716).

    Learns from: the teacher's right chains, rewritten in the form of the level that the teacher gives the problem.
    Needs: teacher (writes chains and rewrites them), student (is trained), [editor] (rewrites in its place).
    Controls: arm=generate (the released generator: no chain, one call that shows the problem's solution, or the gold
        answer where there is none), uniform (one instruction for all: is it the levels?), long (the chains as they are:
        the paper's own comparison).
    Departure: a rewrite is a row where it is finished, right, complete in its headings, shorter than its chain, and
        has as much of the chain's reasoning as `gate` asks for; with `steps` its steps are right too. The paper's
        prompt was not read, so its wording is ours.
    Paper: 5
    Cite: Yifan Wu, Jingze Shi, Bingheng Wu, Jiayi Zhang, Xiaotian Lin, Nan Tang, Yuyu Luo: Concise Reasoning, Big
        Gains: Pruning Long Reasoning Trace with Difficulty-Aware Prompting (2025).

    Args:
        teacher: reasons at length.
        student: learns.
        editor: judges the difficulty and rewrites.
        arm: the method or one of its controls.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher's chains; rewrites are greedy.
        max_new_tokens: longest chain.
        max_rewrite_tokens: longest rewrite.
        gate: how much of the chain a rewrite must show.
    """
    is_right = right_test(problems, steps)
    refuse_hidden_end(gate, "dap", "the chain is what is rewritten")
    writer = editor or teacher
    short: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": max_rewrite_tokens}
    if arm == "generate":
        texts = sample(writer, problems, prompt=show_gold, **short)
        texts = edit(reply_alone, keep(is_finished, texts))
        rows = keep(has_level, keep(is_right, verify(texts)))
        yield Stage(student, score("level", of_each(level_of), rows), "sft")
        return

    # The long chains, and each one rewritten.
    chains = sample(teacher, problems, temperature=temperature, max_new_tokens=max_new_tokens)
    chains = keep(is_right, verify(keep(is_finished, chains)))
    if arm == "long":
        yield Stage(student, chains, "sft")
        return
    prompt = REWRITE if arm == "dap" else UNIFORM
    rows = keep(is_finished, rewrite(writer, chains, prompt=prompt, guard=False, **short))

    # What the writer says behind its own thought, as right as its chain, shorter, and in the form that was asked for.
    rows = keep(is_right, verify(edit(reply_alone, rows)))
    rows = keep(partial(is_shorter, {chain.line: chain.text for chain in chains}), rows)
    if arm == "dap":
        rows = score("level", of_each(level_of), keep(has_level, rows))
    rows = keep_reasoned(rows, chains, gate=gate)
    report_levels(chains, rows)
    yield Stage(student, rows, "sft")


def show_gold(trace: Any) -> str:
    """The prompt of the released generator, which shows the whole solution."""
    gold = trace.problem.solution or trace.problem.answer
    return fill_template(GENERATE, {"prompt": prompt_text(trace), "gold": gold})


def level_of(trace: Trace) -> str:
    """The level whose headings a text has, all of them and a solution; "" where it has no level's."""
    text = trace.text
    for level, headings in LEVELS.items():
        if re.search(
            rf"^[ \t#*]{{0,9}}{headings[1]}[ \t]{{0,9}}:", text, re.MULTILINE | re.IGNORECASE
        ):
            is_complete = read_sections(text, [*headings, SOLUTION]) is not None
            return level if is_complete else ""
    return ""


def has_level(trace: Trace) -> tuple[bool, str]:
    """It has the headings of one of the levels, and a solution."""
    return bool(level_of(trace)), "not in the form of one of the levels"


def report_levels(chains: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say which levels the rows have, and how long they are beside their chains."""
    row_problems = {row.problem.id for row in rows}
    chain_words = 0
    for chain in chains:
        if chain.problem.id in row_problems:
            chain_words += len(chain.text.split())
    row_words = sum(len(row.text.split()) for row in rows)
    shares: list[Share] = []
    for level in LEVELS:
        count = sum(row.scores.get("level") == level for row in rows)
        shares.append(Share(f"{level} problems", count, len(rows)))
    shares.append(Share("words of the rows, of their chains'", row_words, chain_words))
    report_shares(
        "Rewrites by difficulty",
        shares,
        hint="The teacher says how hard a problem is by the form that it chooses.",
    )
