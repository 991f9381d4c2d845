"""What a method says where the models give it nothing to work with: a student that never errs, or is never understood.

Read from the arm's funnel, so that no method needs a line for it.
"""

from __future__ import annotations

from collections import Counter

from potstill.errors import StageError
from potstill.store.store import Store

_READABLE = (
    "an answer that the verifier can read, such as \\boxed{18}, '#### 18' or 'The answer is 18.'"
)
_ASK = "ask for that form with --prompt, allow longer answers (max_tokens), or choose the verifier with --kind"


def check(store: Store, arm: str) -> None:
    """Refuse rows that should have come from a model's errors where it made none, or none that could be read."""
    found = _lost(store, arm, ("wrong",))
    taken = found.total()
    if not taken:
        return
    if found["unparsed"] == taken:
        raise _unread(arm, taken)
    raise StageError(
        f"{arm} learns from errors, and none of {taken} attempts is wrong ({_told(found)})",
        expected="at least one wrong attempt with an answer that can be read",
        fix="harder problems, or more attempts (--set n=8), in another --out; ORION without errors is --set arm=none",
    )


def explain(store: Store, arm: str) -> None:
    """Say, where a stage has no rows, if that is because no answer could be read."""
    check(store, arm)
    found = _lost(store, arm, ("right", "sound"))
    if found and found["unparsed"] == found.total():
        raise _unread(arm, found.total())


def _lost(store: Store, arm: str, tests: tuple[str, ...]) -> Counter[str]:
    """What these tests dropped, by status; nothing where they let something pass."""
    if any(
        step.returned
        for step in store.history.steps(arm)
        if step.operator == "keep" and step.label in tests
    ):
        return Counter()
    drops = store.history.drops(arm)
    return Counter(
        d.reason.split(":")[0] for d in drops if d.operator == "keep" and d.test in tests
    )


def _unread(arm: str, count: int) -> StageError:
    return StageError(
        f"{arm}: none of {count} answers is in a form that can be read",
        expected=_READABLE,
        fix=_ASK,
    )


def _told(found: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in found.most_common())
