"""`results.json`: everything a run has to say, in one file that two equal runs write byte for byte.

What a clock or a cache decides (TIMED keys of costs and training) goes into the file's separate `timing` section and is
merged back by `load`; `outcome` is the file without it, so a resumed run compares equal to an undisturbed one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from potstill import __version__
from potstill.data.atomic_write import write_bytes
from potstill.errors import InputError
from potstill.evaluation.compare import Comparison
from potstill.evaluation.metrics import measures
from potstill.evaluation.rows import Evaluation
from potstill.records import Span, Trace
from potstill.traces import ReportSection, Share

SCHEMA = 2
TIMED = frozenset(
    {"seconds", "reused", "lost", "started", "finished", "tokens_per_second", "rows_per_second"}
)
WORLD_NOTE = "The world shows that the machinery works; it is no evidence for a paper."

PASSAGES = ("error", "teacher", "rewrite", "answer")

_T = TypeVar("_T")


class FunnelStep(NamedTuple):
    """One bulk operator call: traces in, traces out."""

    operator: str
    label: str
    taken: int
    returned: int


@dataclass(frozen=True, slots=True)
class FunnelDrop:
    """Why traces were dropped: operator, the test's name, its reason, how many."""

    operator: str
    test: str
    reason: str
    count: int


class Funnel(NamedTuple):
    """An arm's way from problems to rows, in program order."""

    steps: tuple[FunnelStep, ...] = ()
    drops: tuple[FunnelDrop, ...] = ()


class Cost(NamedTuple):
    """What a role used in an arm. Calls, tokens, errors and cost are totals over the store: a resumed run has the same.

    `cost` is in USD, of the completions; `lost` is what was paid for tries that brought none.
    """

    calls: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    errors: int = 0
    cost: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Length:
    """How long texts are, in tokens (or characters, if `unit` says so)."""

    count: int
    mean: float
    p10: float
    p50: float
    p90: float
    unit: str = "tokens"


class Passage(NamedTuple):
    """A model's text with its judged steps (spans with score 1 or 0) and its status."""

    text: str
    spans: tuple[Span, ...] = ()
    status: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One problem seen side by side; what an arm doesn't have is None."""

    question: str
    gold: str | None
    arm: str
    error: Passage | None = None
    teacher: Passage | None = None
    rewrite: Passage | None = None
    answer: Passage | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """A run's whole outcome; arms in program order.

    Args:
        recipe: the resolved recipe, as plain JSON.
        training: per arm, plain JSON: rows, steps, tokens, seconds, losses, student, whatever the trainer reports.
        lengths: per arm, what was measured ("rows", "answers", "right answers", "wrong answers", "rows before
            training", which are perplexities) -> Length.
        sections: per arm, what its method adds to the report.
    """

    title: str
    seed: int
    note: str = WORLD_NOTE
    recipe: Mapping[str, Any] = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    funnels: Mapping[str, Funnel] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, Cost]] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, Length]] = field(default_factory=dict)
    sections: Mapping[str, Sequence[ReportSection]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    notes: Sequence[str] = ()


def passage(trace: Trace) -> Passage:
    """A trace as an example's text: its step spans and its status ("error" where the generation failed)."""
    spans = tuple(span for span in trace.spans if span.kind == "step")
    return Passage(trace.text, spans, "error" if trace.error else trace.verdict.status)


def length(values: Sequence[float], unit: str = "tokens") -> Length:
    """Count, mean and nearest-rank percentiles of lengths."""
    ordered = sorted(values)
    if not ordered:
        return Length(0, 0.0, 0.0, 0.0, 0.0, unit)
    p10, p50, p90 = (float(ordered[max(0, -(-len(ordered) * p // 100) - 1)]) for p in (10, 50, 90))
    return Length(len(ordered), sum(ordered) / len(ordered), p10, p50, p90, unit)


def to_json(results: Results) -> dict[str, Any]:
    """The results as a JSON object, timing apart."""
    costs, costs_timed = _split(
        {arm: {role: c._asdict() for role, c in r.items()} for arm, r in results.costs.items()}
    )
    training, training_timed = _split(dict(results.training))
    return {
        "potstill": __version__,
        "schema": SCHEMA,
        "title": results.title,
        "note": results.note,
        "seed": results.seed,
        "recipe": dict(results.recipe),
        "measures": {arm: _plain_measures(e) for arm, e in results.evaluations.items()},
        "comparisons": [c.to_json() for c in results.comparisons],
        "funnels": {arm: _funnel_json(f) for arm, f in results.funnels.items()},
        "costs": costs,
        "training": training,
        "lengths": {
            arm: {what: asdict(v) for what, v in items.items()}
            for arm, items in results.lengths.items()
        },
        "sections": {
            arm: [section_to_json(section) for section in sections]
            for arm, sections in results.sections.items()
            if sections
        },
        "examples": [_example_json(e) for e in results.examples],
        "notes": list(results.notes),
        "evaluations": {arm: e.to_json() for arm, e in results.evaluations.items()},
        "timing": {"costs": costs_timed, "training": training_timed},
    }


def outcome(results: Results) -> dict[str, Any]:
    """The results without timing: equal for an undisturbed run and one that was killed and resumed."""
    return {name: value for name, value in to_json(results).items() if name != "timing"}


def save(results: Results, path: Path) -> None:
    """Write results.json atomically; one top-level section a line."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in to_json(results).items()
    ]
    write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii"))


def load(path: Path) -> Results:
    """Read results.json; a missing, damaged or other-version file is an InputError."""
    fix = "potstill run ... (the same command again: it resumes), then potstill report"
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"no results at {path}", expected="a results.json of a finished run", fix=fix
        ) from None
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{path} can't be read as JSON: {problem}", expected="a results.json", fix=fix
        ) from problem
    found = data.get("schema") if isinstance(data, dict) else None
    if found != SCHEMA:
        written = data.get("potstill", "unknown") if isinstance(data, dict) else "unknown"
        raise InputError(
            f"{path} has results schema {found!r} (written by potstill {written})",
            expected=f"schema {SCHEMA} (potstill {__version__})",
            fix=fix,
        )
    try:
        return from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        what = f"{type(problem).__name__}: {problem}"
        raise InputError(
            f"{path} is damaged ({what})", expected=f"results schema {SCHEMA}", fix=fix
        ) from problem


def from_json(data: Mapping[str, Any]) -> Results:
    """The results that `to_json` wrote."""
    costs = _merge(data["costs"], data["timing"]["costs"])
    return Results(
        title=data["title"],
        note=data["note"],
        seed=data["seed"],
        recipe=data["recipe"],
        evaluations=_mapped(data["evaluations"], Evaluation.from_json),
        comparisons=tuple(Comparison.from_json(item) for item in data["comparisons"]),
        funnels=_mapped(data["funnels"], _funnel),
        costs=_mapped(costs, lambda roles: _mapped(roles, lambda cost: Cost(**cost))),
        training=_merge(data["training"], data["timing"]["training"]),
        lengths=_mapped(data["lengths"], lambda items: _mapped(items, lambda item: Length(**item))),
        sections=_mapped(data["sections"], sections_from_json),
        examples=tuple(_example(item) for item in data["examples"]),
        notes=tuple(data["notes"]),
    )


def _mapped(items: Mapping[str, Any], make: Callable[[Any], _T]) -> dict[str, _T]:
    return {name: make(item) for name, item in items.items()}


def _plain_measures(evaluation: Evaluation) -> dict[str, Any]:
    return {k: v._asdict() if isinstance(v, tuple) else v for k, v in measures(evaluation).items()}


def _funnel_json(funnel: Funnel) -> dict[str, Any]:
    return {
        "steps": [s._asdict() for s in funnel.steps],
        "drops": [asdict(d) for d in funnel.drops],
    }


def _funnel(data: Mapping[str, Any]) -> Funnel:
    steps = tuple(FunnelStep(**step) for step in data["steps"])
    return Funnel(steps, tuple(FunnelDrop(**drop) for drop in data["drops"]))


def section_to_json(section: ReportSection) -> dict[str, Any]:
    """A method's section of the report as a JSON object."""
    return {
        "title": section.title,
        "hint": section.hint,
        "shares": [share._asdict() for share in section.shares],
    }


def sections_from_json(items: Sequence[Mapping[str, Any]]) -> list[ReportSection]:
    """The sections of an arm that `section_to_json` wrote."""
    sections: list[ReportSection] = []
    for item in items:
        shares = tuple(Share(**share) for share in item["shares"])
        sections.append(ReportSection(item["title"], item["hint"], shares))
    return sections


def _example_json(example: Example) -> dict[str, Any]:
    texts = {name: _passage_json(getattr(example, name)) for name in PASSAGES}
    return {"question": example.question, "gold": example.gold, "arm": example.arm, **texts}


def _passage_json(passage: Passage | None) -> dict[str, Any] | None:
    return passage and {
        "text": passage.text,
        "spans": [list(s) for s in passage.spans],
        "status": passage.status,
    }


def _example(data: Mapping[str, Any]) -> Example:
    texts = {name: _passage(data[name]) for name in PASSAGES}
    return Example(data["question"], data["gold"], data["arm"], **texts)


def _passage(data: Mapping[str, Any] | None) -> Passage | None:
    return (
        None
        if data is None
        else Passage(data["text"], tuple(Span(*s) for s in data["spans"]), data["status"])
    )


def _split(data: Any) -> tuple[Any, Any]:
    """A tree of mappings as (what a rerun repeats, what a clock or cache decides)."""
    if not isinstance(data, Mapping):
        return data, {}
    kept, timed = {}, {}
    for name, value in data.items():
        if name in TIMED:
            timed[name] = value
            continue
        kept[name], below = _split(value)
        if below:
            timed[name] = below
    return kept, timed


def _merge(kept: Any, timed: Any) -> Any:
    if not isinstance(kept, Mapping):
        return kept
    merged = {name: _merge(value, timed.get(name, {})) for name, value in kept.items()}
    return {**merged, **{name: value for name, value in timed.items() if name not in kept}}
