"""The good response y of a problem, and how likely it is behind a thought: what REER's search lowers."""

from __future__ import annotations

from potstill.methods.searching.reer.segments import split_segments
from potstill.methods.searching.reer.settings import Settings
from potstill.models.scoring import Passage
from potstill.records import Problem, Trace, split_reasoning
from potstill.template import fill_template

ANSWER_SENTENCE = "The answer is \\boxed{{{answer}}}."


def read_reference(settings: Settings, problem: Problem) -> str:
    """The response y: the solution without its thought, or a sentence that states the answer; "" without either."""
    if settings.reference == "answer":
        return ANSWER_SENTENCE.format(answer=problem.answer) if problem.answer else ""
    return split_reasoning(problem.solution or "")[1].strip()


def has_reference(settings: Settings, trace: Trace) -> tuple[bool, str]:
    """The problem has a response to reason towards."""
    is_there = bool(read_reference(settings, trace.problem))
    return is_there, f"the problem has no {settings.reference}: --set settings.reference=…"


def row_text(settings: Settings, thought: str, reference: str) -> str:
    """What the learner learns to write: the thought and the response; the response alone without a thought."""
    if not thought:
        return reference
    return settings.opening + thought + settings.closing + reference


def reference_passage(settings: Settings, trace: Trace) -> Passage:
    """The scored part of y behind the thought that the trace's text is.

    The first segment of y is given and not scored, as in the released code, which thereby has nothing left of a
    response of one segment. Departure: such a response is scored whole.
    """
    reference = read_reference(settings, trace.problem)
    segments = split_segments(reference, settings.min_segment_chars, settings.segment)
    given_part = ""
    if settings.first_segment_is_free and len(segments) > 1:
        given_part = segments[0]
    scored = reference[len(given_part) :]
    # The prefix is the row up to the scored part: what the student would have written before it.
    whole = row_text(settings, trace.text, reference)
    prompt = trace.prompt
    if settings.score_prompt:
        prompt = fill_template(settings.score_prompt, {"question": trace.question})
    return Passage(prompt, scored, prefix=whole.removesuffix(scored))
