"""The inspector: it compares a text with problem and reference, and what it faults is written again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from potstill.methods.errors.supercorrect.prompts import revision_prompt
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import ask, constant, line, read_yes_no, rewrite, score, until


def inspect_texts(
    inspector: Model,
    writer: Model,
    drafts: list[Trace],
    *,
    inspect: str,
    write: str,
    settings: Settings,
    attempts: Sequence[Trace] = (),
) -> list[Trace]:
    """The texts that the inspector finds right, each written again at most `rounds` - 1 times.

    A reply that is neither yes nor no is asked for again in the next round, of the same text. A text that is still
    faulted in the last round goes to the ledger.

    Args:
        inspector: who compares.
        writer: who wrote the drafts, and writes them again.
        drafts: what is inspected.
        inspect: the inspector's prompt.
        write: the prompt that the drafts were written for.
        settings: rounds and sampling.
        attempts: the wrong solutions that the drafts correct, where they are corrections.

    Returns:
        Texts with the score `inspections`: in which round they passed.
    """
    if not settings.rounds:
        return drafts
    context = {"attempts": attempts} if attempts else None

    def inspect_round(texts: list[Trace], number: int) -> tuple[list[Trace], list[Trace]]:
        inspector_replies = ask(
            inspector,
            inspect,
            read_faults,
            sample_index=number,
            max_new_tokens=settings.max_new_tokens,
            **dict(settings.inspector_sampling),
        )
        inspected = score("faults", inspector_replies, texts)
        passed = [text for text in inspected if text.scores["faults"] == ""]
        unread = [text for text in inspected if text.scores["faults"] is None]
        faulted = [text for text in inspected if text.scores["faults"]]
        if number + 1 < settings.rounds:
            faulted = rewrite(
                writer,
                faulted,
                prompt=partial(revision_prompt, write),
                context=context,
                by=line,
                guard=False,
                max_new_tokens=settings.max_new_tokens,
                **dict(settings.teacher_sampling),
            )
        return score("inspections", constant(number + 1), passed), faulted + unread

    return until(inspect_round, drafts, settings.rounds)


def read_faults(reply: str) -> str | None:
    """What the inspector faults: "" for yes, the whole reply for no, None where it says neither."""
    verdict = read_yes_no(reply)
    if verdict is None:
        return None
    return "" if verdict else reply.strip()
