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
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it may be inherited as ignored
    _limit_memory()
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not get into the replies
    operations: dict[str, Callable[..., Any]] = {}
    for line in sys.stdin:
        name, limit_s, arguments = json.loads(line)
        if arguments is None:
            reply = _load_operation(name, operations)
        else:
            reply = _run_operation(operations[name], limit_s, arguments)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError) as error:
        # Not every system has it; the time limit still holds.
        print(f"no memory limit: {error}", file=sys.stderr)


def _load_operation(name: str, operations: dict[str, Callable[..., Any]]) -> list[Any]:
    """Import what an operation needs, outside its time limit; collecting garbage meanwhile would cost a fifth of it."""
    gc.disable()
    try:
        operations[name] = _LOADERS[name]()
    except ImportError as error:
        return ["missing", str(error)]
    finally:
        gc.freeze()
        gc.enable()
    return ["done", None]


def _run_operation(
    operation: Callable[..., Any], limit_s: float, arguments: list[str]
) -> list[Any]:
    try:
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        result = operation(*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return ["done", result]
    except Exception as error:
        # Boundary: whatever a library raises on hostile text becomes a recorded reply.
        signal.setitimer(signal.ITIMER_PROF, 0)
        return ["failed", f"failed with {type(error).__name__}: {str(error)[:160]}"]


def _load_math() -> Callable[..., Any]:
    from potstill.verifiers.math import algebra

    algebra.prepare()  # outside anybody's time limit
    return algebra.compare


def _load_regex() -> Callable[..., Any]:
    def first_match(pattern: str, *texts: str) -> str | None:
        compiled = re.compile(pattern, re.DOTALL)
        return next((text for text in texts if compiled.fullmatch(text)), None)

    return first_match


def _load_gym() -> Callable[..., Any]:
    import reasoning_gym

    def score(task: str, config: str, index: str, question: str, *answers: str) -> list[float]:
        dataset = reasoning_gym.create_dataset(task, **json.loads(config), size=int(index) + 1)
        entry = dataset[int(index)]
        # Tasks that draw from a set depend on the process's hash seed.
        if str(entry["question"]).strip() != question:
            raise ValueError(
                "the task makes another item in each process; judge it as --kind exact or math"
            )
        return [float(dataset.score_answer(answer, entry)) for answer in answers]

    return score


def _load_table() -> Callable[..., Any]:
    from potstill.verifiers.sql import execute

    def compare(table: str, gold: str, candidate: str, seconds: str) -> list[str]:
        return execute.compare_queries(table, gold, candidate, float(seconds))

    return compare


def _load_query() -> Callable[..., Any]:
    from potstill.verifiers.sql import execute

    def show(table: str, query: str, seconds: str) -> list[str]:
        return execute.show_rows(table, query, float(seconds))

    return show


_LOADERS = {
    "math": _load_math,
    "regex": _load_regex,
    "gym": _load_gym,
    "table": _load_table,
    "query": _load_query,
}


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    main()
