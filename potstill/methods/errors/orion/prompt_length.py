"""What ORION's writer is shown where a reference and its attempts are long: attempts are cut first (inferred)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.methods.errors.orion.prompts import PROMPTS, WRONG_STEP_MARK
from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.template import fill_template
from potstill.traces.keys import group_traces, problem
from potstill.traces.prompts import numbered_list, prompt_text

MIN_ATTEMPT_CHARS = 400  # of the end of every attempt: where it went is said there
CUT = "\n[…]\n"


def show_prompt(
    template: str, settings: Settings, trace: Trace, attempts: Sequence[Trace] = ()
) -> str:
    """The template filled within `max_prompt_chars`: a prompt function; the question is never cut."""
    texts = [text_to_show(attempt, settings) for attempt in attempts]
    reference, attempt_texts = fit_texts(trace.text, texts, settings)
    if PROMPTS[settings.prompt].one_at_a_time:
        shown_attempts = "\n\n".join(attempt_texts)
    else:
        shown_attempts = numbered_list(attempt_texts)
    fields = {
        "question": trace.question,
        "text": reference,
        "attempts": shown_attempts,
        "prompt": prompt_text(trace),
    }
    return fill_template(template, fields)


def text_to_show(attempt: Trace, settings: Settings) -> str:
    """A wrong attempt as the prompt shows it: its first wrong step marked, or cut behind it, where one is known."""
    wrong_step = PROMPTS[settings.prompt].wrong_step
    end = end_of_first_wrong_step(attempt)
    if wrong_step == "as-written" or end is None:
        return attempt.text
    marked = attempt.text[:end] + WRONG_STEP_MARK
    if wrong_step == "cut":
        return marked
    return marked + attempt.text[end:]


def end_of_first_wrong_step(attempt: Trace) -> int | None:
    """Where the first step ends that the verifier found wrong; None where it found none."""
    ends = [span.stop for span in attempt.spans if span.kind == "step" and span.score == 0]
    return min(ends, default=None)


def attempts_of_draw(attempts: list[Trace], settings: Settings, draw: int) -> list[Trace]:
    """The attempts that a draw's prompts show: all, or one of each problem, another one for the next draw."""
    if not PROMPTS[settings.prompt].one_at_a_time:
        return attempts
    chosen: list[Trace] = []
    for attempts_of_problem in group_traces(attempts, problem).values():
        chosen.append(attempts_of_problem[draw % len(attempts_of_problem)])
    return chosen


def fit_texts(reference: str, attempts: Sequence[str], settings: Settings) -> tuple[str, list[str]]:
    """Reference and attempts within `max_prompt_chars`: attempts keep their ends, a reference both its ends.

    The last `hidden_share` of the reference is not shown in any case.
    """
    reference = reference[: len(reference) - round(settings.hidden_share * len(reference))]
    chars_left = settings.max_prompt_chars - len(reference)
    attempt_texts, chars_left = fit_attempts(attempts, chars_left)
    if chars_left >= 0:
        return reference, attempt_texts
    return cut_middle(reference, len(reference) + chars_left), attempt_texts


def fit_attempts(attempts: Sequence[str], chars_left: int) -> tuple[list[str], int]:
    """The ends of the attempts in equal shares of the characters, short attempts whole; and what is left then.

    Every attempt keeps its last 400 characters, so that less than nothing may be left.
    """
    texts = dict.fromkeys(range(len(attempts)), "")
    by_length = sorted(texts, key=lambda index: len(attempts[index]))
    for done, index in enumerate(by_length):
        share = chars_left // (len(attempts) - done)
        size = min(len(attempts[index]), max(MIN_ATTEMPT_CHARS, share))
        texts[index] = attempts[index][len(attempts[index]) - size :]
        chars_left -= size
    return list(texts.values()), chars_left


def cut_middle(reference: str, max_chars: int) -> str:
    """The reference without the end of its exploration: before `</think>`, or else before its last paragraph."""
    space = max(0, max_chars - len(CUT))
    conclusion = reference.rfind("</think>")
    if conclusion < 0:
        conclusion = reference.rfind("\n\n")
    if conclusion < 0:
        conclusion = len(reference) - MIN_ATTEMPT_CHARS
    # The end that stays is never more than half of the space.
    end_start = max(conclusion, len(reference) - space // 2)
    end = reference[end_start:]
    return reference[: space - len(end)] + CUT + end


def left_out(
    settings: Settings,
    attempts: Sequence[Trace],
    attempts_key: Callable[[Trace], str],
    bases: Sequence[Trace],
) -> list[float | str | None]:
    """Characters of reference and attempts that the first prompt of each base leaves out for want of room: a scorer."""
    shown_attempts = attempts_of_draw(list(attempts), settings, draw=0)
    attempts_by_key = group_traces(shown_attempts, attempts_key)
    counts: list[float | str | None] = []
    for base in bases:
        base_attempts = attempts_by_key.get(attempts_key(base), [])
        texts = [text_to_show(attempt, settings) for attempt in base_attempts]
        shown_reference, shown_texts = fit_texts(base.text, texts, settings)
        counts.append(count_chars(base.text, texts) - count_chars(shown_reference, shown_texts))
    return counts


def count_chars(reference: str, attempts: Sequence[str]) -> int:
    """Characters of a reference, the mark of its cut left out, and of the attempts."""
    return len(reference.replace(CUT, "")) + sum(map(len, attempts))
