"""Long CoT Collection: models that write short chains are led to long ones, outline first, with a budget of steps.

The paper's text was not read: its abstract and notes are the source. Inferred: the prompts' wording, the temperature,
the longest outline, and that a budget keeps evenly chosen steps of an outline.

| constant | value | source |
|---|---|---|
| share of seed problems, with the reasoner's flow | a tenth here; 1,000 for 100,000 in the paper | notes |
| outline, then each step from those before, its own item and the next one | | notes |
| budget of steps | 100, 50, 25 % | notes: MATH-500 66.6, 60.7, 57.6 |
| kept by the check of the answer | about 76 % | notes |
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.replies import reply_alone, reply_of
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance,
    count_reading,
    edit,
    few_shot,
    fill_template,
    is_finished,
    keep,
    line,
    report_shares,
    rewrite,
    right_test,
    sample,
    show_as_turns,
    verify,
)

THOUGHT_TOKENS = 32768  # of the reasoner
BUDGETS = {"long": 1.0, "half": 0.5, "quarter": 0.25}
FLOW = """\
Here is how somebody thought about a question. Write the flow of the thought as a numbered list: what each step does, \
detours, doubts and checks included, one short line a step, no results.

Question: {question}

Thought:
{text}"""
OUTLINE = """\
Write the outline of a long thought about the question below: a numbered list of steps, one short line each, of what \
to find out, try, doubt and check, without solving it.

Question: """
WRITE_STEP = """\
You write down a long thought step by step. Write the step that is due now and nothing else: think aloud, calculate \
where it is needed, and do not go on to what comes next.

Question: {question}

The thought so far:
{written}

The step due now: {due}
What comes after it: {following}"""
CONCLUDE = """\
{prompt}

A thought about it:
{text}

Write the final solution that this thought leads to, in a few lines, and the answer on the last line, in \\boxed{{}}."""
_ITEM = re.compile(r"^[ \t]{0,9}(?:\d{1,2}[.):]|[-*])[ \t]{1,9}(\S.*)$", re.MULTILINE)


def long_cot(
    problems: list[Trace],
    reasoner: Model,
    writer: Model,
    student: Trainable,
    *,
    arm: Literal["long", "half", "quarter", "short"] = "long",
    seeds: float = 0.1,
    shots: int = 2,
    max_steps: int = 16,
    steps: bool | None = None,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, None]:
    """Long CoT Collection: long chains by writers of short ones (One Missing Piece; Chae et al., arXiv:2506.02338).

    Learns from: long thoughts that the writer made step by step behind an outline of its own, with the solution.
    Needs: reasoner (thinks at length about a few seed problems), writer (writes outlines, steps and solutions),
        student (is trained).
    Controls: arm=half, quarter (outlines of half and a quarter of the steps: the budget of thought), short (the
        writer's usual chains: is it the length?).
    Departure: the number of steps is the outline's, where the paper has it predicted first. With `steps` a row's steps
        are right too; what is inferred is named above.
    Partial: the flows shown to the writer are the same for all problems, not retrieved by domain and budget; nothing
        but the verifier checks the answer; reinforcement learning from this start is another run's.
    Paper: 120
    Cite: Hyungjoo Chae, Dongjin Kang, Jihyuk Kim, Beong-woo Kwak, Sunghyun Park, Haeju Park, Jinyoung Yeo, Moontae Lee,
        Kyungjae Lee: One Missing Piece for Open-Source Reasoning Models: A Dataset to Mitigate Cold-Starting Short CoT
        LLMs in RL (2025).

    Args:
        reasoner: o1 in the paper; its thoughts are no rows.
        writer: a model that writes short chains, such as GPT-4o.
        student: learns.
        arm: the method or one of its controls.
        seeds: share of the problems that the reasoner thinks about; one at least.
        shots: flows that are shown to the writer.
        max_steps: longest outline; a longer one is cut there.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest step, outline and solution.
    """
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": 0.7, "max_new_tokens": max_new_tokens}
    if arm == "short":
        chains = sample(writer, problems, **sampling)
        yield Stage(student, keep(is_right, verify(keep(is_finished, chains))), "sft")
        return

    # The flow of the reasoner's thoughts about the seed problems.
    by_chance = sorted(problems, key=lambda one: chance("seed", one.problem.id))
    count = max(1, round(seeds * len(problems)))
    seed_problems, others = by_chance[:count], by_chance[count:]
    thoughts = keep(is_finished, sample(reasoner, seed_problems, max_new_tokens=THOUGHT_TOKENS))
    flows = rewrite(writer, thoughts, prompt=FLOW, guard=False, **sampling)
    flows = keep(has_outline, edit(reply_alone, flows))

    # An outline of each other problem, cut to its budget.
    shown = {"examples": few_shot(flows, shots, at_least=1)}
    ask = partial(show_as_turns, ask_for_outline)
    outlines = edit(reply_alone, sample(writer, others, prompt=ask, context=shown, **sampling))
    outlines = keep(has_outline, outlines)
    plans = edit(partial(cut_outline, BUDGETS[arm], max_steps), outlines)

    # Step by step, then the solution behind the thought, kept where its answer is right.
    thoughts = write_thoughts(writer, plans, max_steps, sampling)
    rows = edit(close_thought, thoughts)
    rows = keep(is_finished, sample(writer, rows, prompt=CONCLUDE, **sampling))
    rows = keep(is_right, verify(rows))
    report_shares(
        "Long chains",
        [Share("problems with a long chain that is right", len(rows), len(others))],
        hint="The others had no outline that can be read, a step that broke off, or another answer.",
    )
    yield Stage(student, rows, "sft")


def write_thoughts(
    writer: Model, plans: Sequence[Trace], max_steps: int, sampling: Mapping[str, Any]
) -> list[Trace]:
    """A thought behind each outline, all of them a step at a time; one whose step broke off is dropped."""
    plan_lengths = {plan.line: len(read_outline(plan.text)) for plan in plans}
    ongoing = edit(begin_thought, plans)
    complete: list[Trace] = []
    for number in range(max_steps):
        complete += [thought for thought in ongoing if plan_lengths[thought.line] == number]
        ongoing = [thought for thought in ongoing if plan_lengths[thought.line] > number]
        prompt = partial(show_step, number)
        written = sample(
            writer, ongoing, prompt=prompt, context={"plan": plans}, by=line, **sampling
        )
        ongoing = edit(end_paragraph, keep(is_finished, written))
    return [*complete, *ongoing]


def read_outline(text: str) -> list[str]:
    """The items of a numbered list."""
    return [item.strip() for item in _ITEM.findall(text)]


def has_outline(trace: Trace) -> tuple[bool, str]:
    """It is a list of two steps or more."""
    count = len(read_outline(trace.text))
    if not trace.error:
        count_reading("outline", trace.text, "strict" if count > 1 else "unparsed")
    return count > 1, "no outline can be read"


def ask_for_outline(trace: Any) -> str:
    """A turn of the user: the outline of a question."""
    return OUTLINE + str(trace.question)


def cut_outline(budget: float, max_steps: int, trace: Any) -> str:
    """The outline within its budget: evenly chosen steps, the first and the last among them where it has two."""
    items = read_outline(trace.text)[:max_steps]
    count = max(1, math.ceil(budget * len(items)))
    places = [round(place * (len(items) - 1) / max(1, count - 1)) for place in range(count)]
    lines = [f"{number}. {items[place]}" for number, place in enumerate(places, 1)]
    return "\n".join(lines)


def begin_thought(trace: Any) -> dict[str, str]:
    """A thought about the outline's problem, with nothing in it yet but its beginning."""
    return {"text": "<think>\n", "finish_reason": "cut"}


def show_step(number: int, trace: Any, plan: Sequence[Any]) -> str:
    """The prompt for one step: the thought so far, the item due, and the one after it."""
    [outline] = plan
    items = [*read_outline(outline.text), "nothing; the thought ends here"]
    written = trace.text.removeprefix("<think>\n").strip() or "(nothing yet)"
    values = {"question": trace.question, "written": written}
    values |= {"due": items[number], "following": items[number + 1]}
    return fill_template(WRITE_STEP, values)


def end_paragraph(trace: Any) -> dict[str, str]:
    """The thought so far with a blank line behind it."""
    written = reply_of(trace.new).strip()
    return {"text": trace.text[: trace.prefix_length] + written + "\n\n", "finish_reason": "cut"}


def close_thought(trace: Any) -> dict[str, str]:
    """The whole thought, closed; its solution comes behind it."""
    return {"text": trace.text.rstrip() + "\n</think>\n\n", "finish_reason": "cut"}
