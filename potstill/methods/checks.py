"""Checks that methods share: stop where a model gave nothing to work with, before anything else is paid for.

`sample_attempts` is where most methods that learn from errors begin: it samples, judges and checks in one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import StageError
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import sample, verify


def sample_attempts(
    method: str,
    model: Model,
    problems: Sequence[Trace],
    *,
    n: int,
    alternative: str = "",
    **sampling: Any,
) -> list[Trace]:
    """Judged attempts of a model to err in, right ones among them; at least one is wrong.

    Call it before another model is asked: a model without errors then costs nothing more.

    Args:
        method: the name that an error begins with.
        model: who is to err.
        problems: blank traces.
        n: attempts a problem.
        alternative: what the paper offers a student that does not err; the end of the error's last line.
        sampling: of the attempts.

    Raises:
        StageError: none of them is wrong.
    """
    attempts = verify(sample(model, problems, n=n, **sampling))
    require_wrong_attempts(method, attempts, alternative=alternative)
    return attempts


def require_wrong_attempts(
    method: str, attempts: Sequence[Trace], *, alternative: str = ""
) -> None:
    """Stop a method that learns from errors where no judged attempt is wrong.

    Call it right after the attempts were judged, before another model is asked.

    Args:
        method: the name that the message begins with.
        attempts: judged traces.
        alternative: what the paper offers a student that does not err; the end of the message's last line.

    Raises:
        StageError: there are attempts, and none of them is wrong.
    """
    statuses: Counter[str] = Counter()
    for trace in attempts:
        statuses["error" if trace.error else trace.verdict.status] += 1
    if statuses and not statuses["wrong"]:
        raise no_wrong_attempts(method, statuses, alternative=alternative)


def no_wrong_attempts(
    method: str, statuses: Mapping[str, int], *, alternative: str = ""
) -> StageError:
    """The error of a method that learns from errors and got none; `statuses` counts the attempts by verdict."""
    total = sum(statuses.values())
    if statuses.get("unparsed", 0) == total:
        return no_readable_answer(method, total)
    counts = ", ".join(
        f"{count} {status}" for status, count in Counter(statuses).most_common() if count
    )
    advice = "harder problems, or more attempts (--set n=8), in another --out"
    return StageError(
        f"{method} learns from errors, and none of {total} attempts is wrong ({counts})",
        expected="at least one wrong attempt with an answer that can be read",
        fix=f"{advice}; {alternative}" if alternative else advice,
    )


def require_pairs(method: str, pairs: Sequence[Trace], *, alternative: str = "") -> None:
    """Stop a method that learns from right and wrong texts of one problem where there are no two.

    Call it before the first stage is trained.

    Args:
        method: the name that the message begins with.
        pairs: what `pair` returned.
        alternative: what the paper offers without pairs; the end of the message's last line.

    Raises:
        StageError: there is none.
    """
    if pairs:
        return
    advice = "more texts a problem (--set n=8), or other problems, in another --out"
    raise StageError(
        f"{method} learns from pairs, and no problem has a right and a wrong text",
        expected="a problem that is solved in one text, and not in another",
        fix=f"{advice}; {alternative}" if alternative else advice,
    )


def no_readable_answer(method: str, total: int) -> StageError:
    """The error of a method whose models wrote no answer that a verifier can read."""
    return StageError(
        f"{method}: none of {total} answers is in a form that can be read",
        expected="an answer that the verifier can read, such as \\boxed{18}, '#### 18' or 'The answer is 18.'",
        fix="ask for that form with --prompt, allow longer answers (max_new_tokens), or choose --kind",
    )
