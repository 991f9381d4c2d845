"""The child side of `pool`: reads one JSON line a task, writes one JSON line a reply, and dies of its own clock.

It is run as a file, with the parent's import path as its arguments, and imports nothing of the package until an
operation needs it: so it starts as fast as the interpreter does. The interval timer counts computing time and its
default action kills the process, even inside C code: so a verdict does not depend on how busy the machine is, and a
worker whose parent was killed can't run for ever.
"""

from __future__ import annotations

import gc
import json
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

MEMORY = 4 << 30  # bytes of address space: a hostile answer must not take the machine's memory


def main() -> None:
    """Answer tasks until the parent closes the pipe."""
    _limit_memory()
    out = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not get into the replies
    loaded: dict[str, Callable[..., Any]] = {}
    for line in sys.stdin:
        name, limit_s, arguments = json.loads(line)
        reply = (
            _load(name, loaded) if arguments is None else _answer(loaded[name], limit_s, arguments)
        )
        out.write(json.dumps(reply) + "\n")
        out.flush()


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (
        ImportError,
        ValueError,
        OSError,
    ) as error:  # not everywhere; the time limit still holds
        print(f"no memory limit: {error}", file=sys.stderr)


def _load(name: str, loaded: dict[str, Callable[..., Any]]) -> list[Any]:
    """Import what an operation needs, outside its time limit; collecting garbage meanwhile would cost a fifth of it."""
    gc.disable()
    try:
        loaded[name] = {"math": _math, "regex": _regex, "gym": _gym, "table": _table}[name]()
    except ImportError as error:
        return ["missing", str(error)]
    finally:
        gc.freeze()
        gc.enable()
    return ["done", None]


def _answer(operation: Callable[..., Any], limit_s: float, arguments: list[str]) -> list[Any]:
    try:
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        result = operation(*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return ["done", result]
    except (
        Exception
    ) as error:  # boundary: whatever a library raises on hostile text becomes a recorded reply
        signal.setitimer(signal.ITIMER_PROF, 0)
        return ["failed", f"failed with {type(error).__name__}: {str(error)[:160]}"]


def _math() -> Callable[..., Any]:
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns that its timeouts are off; ours kills

    def compare(gold: str, answer: str) -> str:
        golds = parse(gold, parsing_timeout=None, raise_on_error=True)
        answers = parse(answer, parsing_timeout=None, raise_on_error=True)
        if not golds:
            return "unjudged"
        if not answers:
            return "unparsed"
        if verify(golds, answers, timeout_seconds=None):
            return "right"
        read = not all(isinstance(item, str) for item in answers)
        return "wrong" if read or all(isinstance(item, str) for item in golds) else "unparsed"

    parse(
        "$x^2+\\frac{1}{2}$", parsing_timeout=None
    )  # builds its grammars once, outside anybody's time limit
    return compare


def _regex() -> Callable[..., Any]:
    def match(pattern: str, *texts: str) -> str | None:
        compiled = re.compile(pattern, re.DOTALL)
        return next((text for text in texts if compiled.fullmatch(text)), None)

    return match


def _gym() -> Callable[..., Any]:
    import reasoning_gym

    def score(task: str, config: str, index: str, question: str, *answers: str) -> list[float]:
        dataset = reasoning_gym.create_dataset(task, **json.loads(config), size=int(index) + 1)
        entry = dataset[int(index)]
        if (
            str(entry["question"]).strip() != question
        ):  # tasks that draw from a set depend on the process's hash seed
            raise ValueError(
                "the task makes another item in each process; judge it as --kind exact or math"
            )
        return [float(dataset.score_answer(answer, entry)) for answer in answers]

    return score


def _table() -> Callable[..., Any]:
    from potstill.verifiers.sql import execute

    def run(table: str, gold: str, candidate: str, seconds: str) -> list[str]:
        return execute.run(table, gold, candidate, float(seconds))

    return run


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    main()
