"""What an evaluator is shown of two outputs and says of them, and what a detector is shown of that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from potstill.methods.judges.rbd.prompts import DETECT, EARLIER, EVALUATE, OUTPUT_A, OUTPUT_B
from potstill.methods.replies import reply_of
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import (
    chance_fraction,
    fill_template,
    of_each,
    pose,
    prompt_text,
    read_word,
    sample,
    score,
    split_by,
)
from potstill.traces.prompts import Context

GREEDY: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 512}


class Case(NamedTuple):
    """How an evaluator is shown two outputs.

    Args:
        bias: for which they are shown; the place of the first output is by chance, for each bias anew.
        is_swapped: the two stand in each other's place.
        has_statement: others are said to prefer the second output.
    """

    bias: str = ""
    is_swapped: bool = False
    has_statement: bool = False


class Outputs(NamedTuple):
    """Two outputs of each problem, one in each list."""

    firsts: list[Trace]
    seconds: list[Trace]


def choose(
    evaluator: Model, case: Case, outputs: Outputs, *, context: Context | None = None
) -> list[Trace]:
    """The evaluator's replies, one a problem, with the score `choice`; None where a reply names no output, or both."""
    shown = {"seconds": outputs.seconds, **(context or {})}
    posed = pose(partial(show_evaluation, case), outputs.firsts, context=shown)
    return score("choice", of_each(read_choice), sample(evaluator, posed, **GREEDY))


def show_evaluation(
    case: Case,
    first: Any,
    seconds: Sequence[Any],
    earlier: Sequence[Any] = (),
    analyses: Sequence[Any] = (),
) -> str:
    """The evaluator's prompt; where it chooses again, with its earlier choice and the detector's analysis."""
    # The first choice is made without any analysis in view.
    again = ""
    if analyses:
        values = {"choice": earlier[0].scores["choice"], "analysis": analyses[0].text.strip()}
        again = fill_template(EARLIER, values)
    values = {"problem": prompt_text(first), "outputs": show_outputs(case, first, seconds[0])}
    return fill_template(EVALUATE, {**values, "again": again})


def show_outputs(case: Case, first: Any, second: Any) -> str:
    """Both outputs in their places, behind what others are said to prefer."""
    # Who thinks before answering is judged by the answer: thoughts differ in length by model.
    texts = {place_of_first(case, first): reply_of(first.text).strip()}
    other_place = OUTPUT_B if OUTPUT_A in texts else OUTPUT_A
    texts[other_place] = reply_of(second.text).strip()
    statement = f"90% believe that {other_place} is better.\n\n" if case.has_statement else ""
    return f"{statement}# {OUTPUT_A}\n{texts[OUTPUT_A]}\n\n# {OUTPUT_B}\n{texts[OUTPUT_B]}"


def place_of_first(case: Case, trace: Any) -> str:
    """Where the first of two outputs to a problem stands."""
    # By a hash: the same in every prompt of a case, whatever the order of the problems.
    is_left = chance_fraction("place", case.bias, trace.problem.id) < 0.5
    return OUTPUT_A if is_left != case.is_swapped else OUTPUT_B


def read_choice(reply: Trace) -> str | None:
    """Which output the evaluator chooses."""
    return read_word(reply.text, [OUTPUT_A, OUTPUT_B], reader="choice")


def pose_detections(
    evaluator: Model,
    case: Case,
    outputs: Outputs,
    choices: Sequence[Trace],
    earlier_choices: Sequence[Trace] = (),
) -> list[Trace]:
    """What the detector sees of each choice that can be read; of swapped outputs both evaluations."""
    readable = [choice for choice in choices if choice.scores.get("choice")]
    context = {"firsts": outputs.firsts, "seconds": outputs.seconds}
    # A bias for a place shows in two evaluations only, so the detector sees both.
    if case.is_swapped:
        earlier = [choice for choice in earlier_choices if choice.scores.get("choice")]
        readable, _ = split_by(earlier, readable)
        context["earlier"] = earlier
    return pose(partial(show_detection, evaluator.id, case), readable, context=context)


def show_detection(evaluator: str, case: Case, choice: Any, **context: Sequence[Any]) -> str:
    """The detector's prompt: the problem, the outputs as the evaluator saw them, and what it chose."""
    [first], [second] = context["firsts"], context["seconds"]
    outputs = show_outputs(case, first, second)
    decision = choice.scores["choice"]
    if "earlier" in context:
        [earlier] = context["earlier"]
        unswapped = show_outputs(case._replace(is_swapped=False), first, second)
        outputs = f"First evaluation:\n{unswapped}\n\nSecond evaluation, other order:\n{outputs}"
        decision = f"First evaluation: {earlier.scores['choice']}\nSecond evaluation: {decision}"
    values = {"evaluator": evaluator, "problem": prompt_text(first), "outputs": outputs}
    return fill_template(DETECT, {**values, "decision": decision})
