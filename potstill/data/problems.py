"""Where work comes from: files, Hugging Face datasets, reasoning-gym, and whatever more prefixes the caller knows.

load("train.jsonl")   load("hf:openai/gsm8k:train?config=main")   load("gym:chain_sum?size=200&min_terms=3")
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from potstill import plugins
from potstill.data import files, gym, skipped
from potstill.data.rows import Loaded, problems_of_rows
from potstill.data.urls import is_url
from potstill.errors import ConfigError, InputError
from potstill.metadata import select_problems
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
    where: Sequence[str] = (),
    extra: Mapping[str, Source] | None = None,
) -> list[Problem]:
    """The problems that a spec names.

    Args:
        spec: a file (.jsonl, .json, .csv, .tsv, .parquet, also compressed), its URL, a pattern of several, the folder
            of a set of shards, a pipe, `hf:NAME[/config][:split]`, `gym:TASK[?size=…&…]`.
        mapping: which column is `question`, `answer`, `id`, `choices`, `solution`; joined columns as "Body+Question".
        limit: how many; the first in the order of a hash of (seed, id), so a larger limit adds to a smaller one.
        seed: of that order, and of the items that `gym:` makes.
        kind: the verifier; guessed where it is not given.
        where: conditions on the problems' metadata, such as "level>=4", which all must hold; what they left out is
            noted. The limit is of what is left.
        extra: more prefixes, each with what makes problems of the text after it.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}", expected="a whole number above 0", fix="--limit 100")
    # Where problems are made to order, conditions choose from more than the limit.
    order = None if where else limit
    problems = _read_problems(
        spec, mapping or {}, limit=order, seed=seed, kind=kind, extra=extra or {}
    )
    if not problems:
        raise InputError(
            f"{spec} has no problems", expected="at least one row", fix="give another file or split"
        )
    if where:
        selection = select_problems(problems, where)
        skipped.record_selection(files.source_name(spec), selection)
        notes = [*problems.notes, *selection.notes]
        problems = Loaded(
            selection.problems, problems.mapping, problems.places, problems.unread, notes
        )
    if limit is None:
        return problems
    chosen = shuffle_by_hash(problems, seed)[:limit]
    return Loaded(chosen, problems.mapping, problems.places, problems.unread, problems.notes)


def shuffle_by_hash(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """The problems in the order of a hash of (seed, id): the same for everybody, whatever order they came in."""

    def hash_of(problem: Problem) -> bytes:
        return hashlib.sha256(f"{seed}\n{problem.id}".encode("utf-8", "surrogatepass")).digest()

    return sorted(problems, key=hash_of)


def describe(problems: Sequence[Problem]) -> dict[str, Any]:
    """What was loaded, for the command line: count, kinds, sources, columns used, golds missing, repeated questions."""
    questions = {(problem.question, problem.choices) for problem in problems}
    without_answer = 0
    for problem in problems:
        is_program = bool(problem.tests and problem.solution)
        without_answer += problem.answer is None and not is_program
    loaded = problems if isinstance(problems, Loaded) else Loaded(problems, {})
    return {
        "count": len(problems),
        "kinds": dict(Counter(problem.kind for problem in problems)),
        "sources": dict(Counter(problem.source for problem in problems)),
        "mapping": dict(loaded.mapping),
        "unread": list(loaded.unread),
        "notes": list(loaded.notes),
        "without_answer": without_answer,
        "repeated_questions": len(problems) - len(questions),
    }


def _read_problems(
    spec: str,
    mapping: Mapping[str, str],
    *,
    limit: int | None,
    seed: int,
    kind: str | None,
    extra: Mapping[str, Source],
) -> Loaded:
    prefix, colon, name = ("", "", "") if is_url(spec) else spec.partition(":")
    if colon and prefix in extra:
        return _make_problems(spec, extra[prefix](name), kind)
    if colon and prefix not in OWN_PREFIXES and prefix in plugins.plugin_names("problems"):
        return _make_problems(spec, plugins.load_plugin("problems", prefix)(name), kind)
    if colon and prefix == "gym":
        return Loaded(gym.make_problems(name, size=limit, seed=seed, kind=kind), {})
    is_prefix = colon and prefix != "hf" and len(prefix) > 1 and prefix.isidentifier()
    if is_prefix and not files.is_file(spec):
        others = [*plugins.plugin_names("problems"), *extra]
        prefixes = [f"{other}:…" for other in others]
        raise InputError(
            f"problems of kind {prefix!r} are unknown ({spec})",
            available=["a file", "hf:NAME", "gym:TASK", *prefixes],
            wanted=f"{prefix}:",
        )
    rows = list(files.read_rows(spec, "a problem file"))
    return problems_of_rows(
        rows, spec=spec, source=files.source_name(spec), mapping=mapping, kind=kind
    )


def _make_problems(spec: str, made: Any, kind: str | None) -> Loaded:
    """What a prefix made, where it is problems of the kind that was asked for."""
    problems = list(made) if isinstance(made, Iterable) else [made]
    strangers = [item for item in problems if not isinstance(item, Problem)]
    if strangers:
        raise ConfigError(
            f"{spec} made {strangers[0]!r:.80}, which is no Problem",
            expected="a list of potstill.records.Problem, as docs/api.md says",
        )
    other_kinds = sorted({problem.kind for problem in problems} - {kind})
    if kind and other_kinds:
        raise ConfigError(
            f"{spec} makes problems of kind {', '.join(other_kinds)}, which can't be judged as {kind!r}",
            expected="the kind that their source gives them",
            fix="leave the kind out; one for the evaluation set alone is evaluate.kind",
        )
    return Loaded(problems, {})
