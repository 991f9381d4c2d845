"""What ORION's writer is shown where a reference and its attempts are long: attempts are cut first (inferred)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.traces.keys import group_traces
from potstill.traces.prompts import fill_template, numbered_list

MIN_ATTEMPT_CHARS = 400  # of the end of every attempt: where it went is said there
CUT = "\n[…]\n"


def show_prompt(
    template: str, settings: Settings, trace: Trace, attempts: Sequence[Trace] = ()
) -> str:
    """The template filled within `max_prompt_chars`: a prompt function; the question is never cut."""
    reference, attempt_texts = fit_texts(trace.text, [t.text for t in attempts], settings)
    fields = {
        "question": trace.question,
        "text": reference,
        "attempts": numbered_list(attempt_texts),
    }
    return fill_template(template, fields)


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
    """Characters of reference and attempts that the prompt of each base will not show: a scorer."""
    attempts_by_key = group_traces(attempts, attempts_key)
    counts: list[float | str | None] = []
    for base in bases:
        texts = [attempt.text for attempt in attempts_by_key.get(attempts_key(base), [])]
        shown_reference, shown_texts = fit_texts(base.text, texts, settings)
        counts.append(count_chars(base.text, texts) - count_chars(shown_reference, shown_texts))
    return counts


def count_chars(reference: str, attempts: Sequence[str]) -> int:
    """Characters of a reference, the mark of its cut left out, and of the attempts."""
    return len(reference.replace(CUT, "")) + sum(map(len, attempts))
