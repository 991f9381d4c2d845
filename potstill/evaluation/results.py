"""`results.json`: everything a run has to say, in one file that two equal runs write byte for byte.

What a clock or a cache decides (TIMED keys of costs and training) goes into the file's separate `timing` section and is
merged back by `load`; `outcome` is the file without it, so a resumed run compares equal to an undisturbed one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from potstill import __version__
from potstill.data.atomic_write import write_bytes
from potstill.errors import InputError
from potstill.evaluation.compare import Comparison
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import measures
from potstill.evaluation.row_steps import RowSteps
from potstill.evaluation.rows import Evaluation
from potstill.records import Span, Trace
from potstill.traces import ReportSection, Share

SCHEMA = 3
TIMED = frozenset(
    {"seconds", "reused", "lost", "started", "finished", "tokens_per_second", "rows_per_second"}
)
WORLD_NOTE = "The world shows that the machinery works; it is no evidence for a paper."

# The parts of an example, in the order in which they came about: a wrong attempt and a right text that the row was made
# from, the row, and what students answer: the untrained one and the trained one. A rejected text stands alone.
Part: TypeAlias = Literal["attempt", "source", "row", "before", "answer", "rejected"]

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


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

    `cost` is in USD, of the completions; `lost` is what was paid for tries that brought none. `cut` counts completions
    that ended at the limit of tokens.
    """

    calls: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    errors: int = 0
    cost: float = 0.0
    lost: float = 0.0
    cut: int = 0


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
    """A model's text, as an example shows it.

    Args:
        part: what the text is in the example.
        text: as it was written.
        author: the role that wrote it ("teacher", "student"), "trained student", or "" where no model did.
        spans: its judged steps, with score 1 or 0.
        status: "right", "wrong", "unparsed", "unjudged", or "error" where the generation failed.
        cut: whether the length limit ended it.
        question: the question that it answers, where that is not the example's.
    """

    part: Part
    text: str
    author: str = ""
    spans: tuple[Span, ...] = ()
    status: str = ""
    cut: bool = False
    question: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One problem seen side by side.

    Args:
        question: of the problem.
        gold: its answer.
        arm: whose example it is.
        passages: what was written about it.
        held_out: a problem that was measured on; otherwise one that was trained on.
        note: what else is known of it, such as how many of its answers are right.
    """

    question: str
    gold: str | None
    arm: str
    passages: tuple[Passage, ...] = ()
    held_out: bool = False
    note: str = ""

    def passage(self, part: Part) -> Passage | None:
        """The first text of a part."""
        return next((passage for passage in self.passages if passage.part == part), None)


class Ending(NamedTuple):
    """How a run came to its end, as far as this is known: a report of a killed run says that it is running."""

    status: Literal["finished", "running", "stopped", "failed"] = "finished"
    message: str = ""


FINISHED = Ending()


@dataclass(frozen=True, slots=True)
class Results:
    """A run's whole outcome; arms in program order.

    Args:
        recipe: the resolved recipe, as plain JSON.
        models: the ids of the roles' models.
        prompts: what the learner sees: the templates of the problems' prompts.
        training: per arm, plain JSON: rows, steps, tokens, seconds, losses, student, whatever the trainer reports.
        lengths: per arm, what was measured ("rows", "answers", "right answers", "wrong answers", "rows before
            training", which are perplexities) -> Length.
        row_steps: per arm, how much its rows reason: steps, rows without one. None in results of before there were any.
        sections: per arm, what its method adds to the report.
        ending: whether these are the results of a whole run.
    """

    title: str
    seed: int
    note: str = WORLD_NOTE
    recipe: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    prompts: Sequence[str] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    funnels: Mapping[str, Funnel] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, Cost]] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, Length]] = field(default_factory=dict)
    row_steps: Mapping[str, RowSteps] = field(default_factory=dict)
    sections: Mapping[str, Sequence[ReportSection]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    notes: Sequence[str] = ()
    ending: Ending = FINISHED


def to_passage(trace: Trace, part: Part, author: str = "", *, question: str = "") -> Passage:
    """A trace as an example's text.

    Args:
        trace: the text with its judged steps and its verdict.
        part: what it is in the example.
        author: the role that wrote it.
        question: of the example; where the trace answers another, the passage says which.
    """
    return Passage(
        part,
        trace.text,
        author,
        tuple(span for span in trace.spans if span.kind == "step"),
        "error" if trace.error else trace.verdict.status,
        trace.finish_reason == "length",
        trace.question if question and trace.question != question else "",
    )


def summarize_lengths(values: Sequence[float], unit: str = "tokens") -> Length:
    """Count, mean and nearest-rank percentiles of lengths."""
    count = len(values)
    if not count:
        return Length(0, 0.0, 0.0, 0.0, 0.0, unit)
    ordered = sorted(values)

    def percentile(percent: int) -> float:
        # Nearest rank: a length that is there, no mean of two.
        rank = math.ceil(count * percent / 100)
        return float(ordered[max(0, rank - 1)])

    mean = sum(ordered) / count
    return Length(count, mean, percentile(10), percentile(50), percentile(90), unit)


def to_json(results: Results) -> dict[str, Any]:
    """The results as a JSON object, what a clock or cache decides in a section of its own."""
    # Seconds and reuse differ between a run and its repetition: they stand apart.
    costs: dict[str, Any] = {}
    for arm, cost_by_role in results.costs.items():
        costs[arm] = {role: cost._asdict() for role, cost in cost_by_role.items()}
    costs, timed_costs = split_timed(costs)
    training, timed_training = split_timed(dict(results.training))
    return {
        "potstill": __version__,
        "schema": SCHEMA,
        "title": results.title,
        "note": results.note,
        "seed": results.seed,
        "ending": results.ending._asdict(),
        "recipe": dict(results.recipe),
        "models": dict(results.models),
        "prompts": list(results.prompts),
        "measures": map_values(results.evaluations, measures_to_json),
        "comparisons": [comparison.to_json() for comparison in results.comparisons],
        "funnels": map_values(results.funnels, funnel_to_json),
        "costs": costs,
        "training": training,
        "lengths": map_values(results.lengths, lengths_to_json),
        "row_steps": map_values(results.row_steps, RowSteps._asdict),
        "sections": sections_by_arm_to_json(results),
        "examples": [example_to_json(example) for example in results.examples],
        "notes": list(results.notes),
        "evaluations": map_values(results.evaluations, Evaluation.to_json),
        "timing": {"costs": timed_costs, "training": timed_training},
    }


def outcome(results: Results) -> dict[str, Any]:
    """The results without timing: equal for an undisturbed run and one that was killed and resumed."""
    document = to_json(results)
    del document["timing"]
    return document


def save(results: Results, path: Path) -> None:
    """Write results.json atomically; one top-level section a line."""
    # A section a line: a diff of two files shows which sections differ.
    lines: list[str] = []
    for name, value in to_json(results).items():
        lines.append(f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
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
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} can't be read as JSON: {error}", expected="a results.json", fix=fix
        ) from error

    # A file of another version is not damaged: it says so.
    document = data if isinstance(data, dict) else {}
    schema = document.get("schema")
    if schema != SCHEMA:
        raise InputError(
            f"{path} has results schema {schema!r} (written by potstill {document.get('potstill', 'unknown')})",
            expected=f"schema {SCHEMA} (potstill {__version__})",
            fix=fix,
        )
    try:
        return from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            expected=f"results schema {SCHEMA}",
            fix=fix,
        ) from error


def from_json(data: Mapping[str, Any]) -> Results:
    """The results that `to_json` wrote."""
    # What a clock decides stands apart in the file, and is put back.
    stored_costs, timing = data["costs"], data["timing"]
    costs: dict[str, dict[str, Cost]] = {}
    for arm, cost_by_role in merge_timed(stored_costs, timing["costs"]).items():
        costs[arm] = {role: Cost(**cost) for role, cost in cost_by_role.items()}
    lengths: dict[str, dict[str, Length]] = {}
    for arm, items in data["lengths"].items():
        lengths[arm] = {what: Length(**item) for what, item in items.items()}
    return Results(
        title=data["title"],
        note=data["note"],
        seed=data["seed"],
        ending=Ending(**data["ending"]),
        recipe=data["recipe"],
        models=data["models"],
        prompts=tuple(data["prompts"]),
        evaluations=map_values(data["evaluations"], Evaluation.from_json),
        comparisons=tuple(Comparison.from_json(item) for item in data["comparisons"]),
        funnels=map_values(data["funnels"], funnel_from_json),
        costs=costs,
        training=merge_timed(data["training"], timing["training"]),
        lengths=lengths,
        row_steps=map_values(data.get("row_steps", {}), lambda steps: RowSteps(**steps)),
        sections=map_values(data["sections"], sections_from_json),
        examples=tuple(example_from_json(item) for item in data["examples"]),
        notes=tuple(data["notes"]),
    )


def map_values(
    items: Mapping[str, _Value], convert: Callable[[_Value], _Result]
) -> dict[str, _Result]:
    """The mapping with each value converted."""
    return {name: convert(item) for name, item in items.items()}


def measures_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Every score of an evaluation; an estimate as its value with the ends of its interval."""
    document: dict[str, Any] = {}
    for name, value in measures(evaluation).items():
        document[name] = value._asdict() if isinstance(value, Estimate) else value
    return document


def funnel_to_json(funnel: Funnel) -> dict[str, Any]:
    """A funnel as a JSON object."""
    return {
        "steps": [step._asdict() for step in funnel.steps],
        "drops": [asdict(drop) for drop in funnel.drops],
    }


def funnel_from_json(data: Mapping[str, Any]) -> Funnel:
    """The funnel that `funnel_to_json` wrote."""
    steps = tuple(FunnelStep(**step) for step in data["steps"])
    drops = tuple(FunnelDrop(**drop) for drop in data["drops"])
    return Funnel(steps, drops)


def lengths_to_json(lengths: Mapping[str, Length]) -> dict[str, Any]:
    """An arm's lengths as a JSON object."""
    return {what: asdict(item) for what, item in lengths.items()}


def sections_by_arm_to_json(results: Results) -> dict[str, list[dict[str, Any]]]:
    """What the methods add to the report, for the arms whose method adds anything."""
    document: dict[str, list[dict[str, Any]]] = {}
    for arm, sections in results.sections.items():
        if sections:
            document[arm] = [section_to_json(section) for section in sections]
    return document


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


def example_to_json(example: Example) -> dict[str, Any]:
    """An example as a JSON object."""
    passages: list[dict[str, Any]] = []
    for passage in example.passages:
        passages.append({**passage._asdict(), "spans": [list(span) for span in passage.spans]})
    return {**shallow_dict(example), "passages": passages}


def example_from_json(data: Mapping[str, Any]) -> Example:
    """The example that `example_to_json` wrote."""
    passages: list[Passage] = []
    for item in data["passages"]:
        spans = tuple(Span(*span) for span in item["spans"])
        passages.append(Passage(**{**item, "spans": spans}))
    return Example(**{**data, "passages": tuple(passages)})


def shallow_dict(value: Any) -> dict[str, Any]:
    """A dataclass's fields by name, their values as they are."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def split_timed(data: Any) -> tuple[Any, Any]:
    """A tree of mappings as (what a rerun repeats, what a clock or cache decides)."""
    if not isinstance(data, Mapping):
        return data, {}
    repeated: dict[str, Any] = {}
    timed: dict[str, Any] = {}
    for name, value in data.items():
        if name in TIMED:
            timed[name] = value
            continue
        repeated[name], timed_below = split_timed(value)
        if timed_below:
            timed[name] = timed_below
    return repeated, timed


def merge_timed(repeated: Any, timed: Any) -> Any:
    """The tree that `split_timed` took apart."""
    if not isinstance(repeated, Mapping):
        return repeated
    merged: dict[str, Any] = {}
    for name, value in repeated.items():
        merged[name] = merge_timed(value, timed.get(name, {}))
    for name, value in timed.items():
        merged.setdefault(name, value)
    return merged
