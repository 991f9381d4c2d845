"""Where work comes from: files, Hugging Face datasets, reasoning-gym, and whatever more prefixes the caller knows.

load("train.jsonl")   load("hf:openai/gsm8k:train?config=main")   load("gym:chain_sum?size=200&min_terms=3")
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from potstill import plugins
from potstill.data import files, gym
from potstill.data.problem_rows import Loaded, problems_of_rows
from potstill.errors import ConfigError, InputError
from potstill.records import Problem

Source: TypeAlias = Callable[[str], Sequence[Problem]]

OWN_PREFIXES = ("hf", "gym")


def load(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    kind: str | None = None,
    extra: Mapping[str, Source] | None = None,
) -> list[Problem]:
    """The problems that a spec names.

    Args:
        spec: a file (.jsonl, .json, .csv, .parquet, each also .gz), `hf:NAME[/config][:split]`,
            `gym:TASK[?size=…&…]`.
        mapping: which column is `question`, `answer`, `id`, `choices`, `solution`; joined columns as "Body+Question".
        limit: how many; the first in the order of a hash of (seed, id), so a larger limit adds to a smaller one.
        seed: of that order, and of the items that `gym:` makes.
        kind: the verifier; guessed where it is not given.
        extra: more prefixes, each with what makes problems of the text after it.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}", expected="a whole number above 0", fix="--limit 100")
    problems = _read(spec, mapping or {}, limit=limit, seed=seed, kind=kind, extra=extra or {})
    if not problems:
        raise InputError(
            f"{spec} has no problems", expected="at least one row", fix="give another file or split"
        )
    return (
        problems
        if limit is None
        else Loaded(
            shuffled(problems, seed)[:limit], problems.mapping, problems.places, problems.unread
        )
    )


def shuffled(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """In the order of a hash of (seed, id): the same for everybody, whatever the order they came in."""
    return sorted(
        problems,
        key=lambda p: hashlib.sha256(f"{seed}\n{p.id}".encode("utf-8", "surrogatepass")).digest(),
    )


def describe(problems: Sequence[Problem]) -> dict[str, Any]:
    """What was loaded, for the command line: count, kinds, sources, columns used, golds missing, repeated questions."""
    questions = Counter((problem.question, problem.choices) for problem in problems)
    return {
        "count": len(problems),
        "kinds": dict(Counter(problem.kind for problem in problems)),
        "sources": dict(Counter(problem.source for problem in problems)),
        "mapping": dict(problems.mapping) if isinstance(problems, Loaded) else {},
        "unread": list(problems.unread) if isinstance(problems, Loaded) else [],
        "without_answer": sum(p.answer is None and not (p.tests and p.solution) for p in problems),
        "repeated_questions": len(problems) - len(questions),
    }


def _read(
    spec: str,
    mapping: Mapping[str, str],
    *,
    limit: int | None,
    seed: int,
    kind: str | None,
    extra: Mapping[str, Source],
) -> Loaded:
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in extra:
        return Loaded(extra[prefix](rest), {})
    if colon and prefix not in OWN_PREFIXES and prefix in plugins.plugin_names("problems"):
        return Loaded(plugins.load_plugin("problems", prefix)(rest), {})
    if colon and prefix == "gym":
        return Loaded(gym.problems(rest, size=limit, seed=seed, kind=kind), {})
    if (
        colon
        and prefix != "hf"
        and len(prefix) > 1
        and prefix.isidentifier()
        and not files.exists(spec)
    ):
        others = [*plugins.plugin_names("problems"), *extra]
        known = ["a file", "hf:NAME", "gym:TASK", *(f"{name}:…" for name in others)]
        raise InputError(
            f"problems of kind {prefix!r} are unknown ({spec})",
            available=known,
            wanted=f"{prefix}:",
        )
    found = list(files.rows(spec, "a problem file"))
    return problems_of_rows(found, spec=spec, source=files.name(spec), mapping=mapping, kind=kind)
