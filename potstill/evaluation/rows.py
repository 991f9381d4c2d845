"""What an evaluation keeps: one row a problem, its judged answers, and a fingerprint of what moves the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

from potstill.records import MetadataValue, digest
from potstill.traces.usage import Usage


class Answer(NamedTuple):
    """One judged answer.

    Args:
        status: "right", "wrong", "unparsed", "unjudged", or "error" where the generation failed.
        answer: what the verifier read; None where it read nothing.
        steps: right answer *and* every step right; None where the problem's kind has no step verifier.
        tokens: completion tokens of its text; what the whole solver asked for it is in the row's `usage`.
        cut: whether the length limit ended it.
        group: which parent it descends from, counted within the problem; for nested solve@(M,T).
        ballot: which class of equal answers it votes for, counted within the problem; None where it has no answer, and
            in results of before there were classes.
        is_repeat: whether an earlier answer to the problem is the same draw: the same text of the same call.
    """

    status: str
    answer: str | None = None
    steps: bool | None = None
    tokens: int = 0
    cut: bool = False
    group: int = 0
    ballot: int | None = None
    is_repeat: bool = False


@dataclass(frozen=True)
class Row:
    """All answers to one problem, in the order of their sample indices; the cluster of every interval.

    Args:
        usage: by role, what the solver asked for all of these answers, drafts and votes that nobody sees included.
        metadata: of the problem, with its length in words; none in evaluations of before there were any.
    """

    problem: str
    answers: tuple[Answer, ...]
    usage: Mapping[str, Usage] = field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many answers there are, failed ones included."""
        return len(self.answers)

    @cached_property
    def right(self) -> int:
        """How many answers are right."""
        return self.count("right")

    @property
    def steps_right(self) -> int | None:
        """How many answers are right in every step; None where steps can't be judged."""
        judged = [answer.steps for answer in self.answers if answer.steps is not None]
        return sum(judged) if judged else None

    @property
    def tokens(self) -> int:
        """Completion tokens of all that the solver asked for these answers."""
        if not self.usage:
            # An evaluation that was made without the solver: what stands in the answers is all that is known.
            return sum(answer.tokens for answer in self.answers)
        return round(sum(used.completion_tokens for used in self.usage.values()))

    def count(self, status: str) -> int:
        """How many answers have a status."""
        return [answer.status for answer in self.answers].count(status)

    def to_json(self) -> dict[str, Any]:
        """Counts for a reader, and the answers as columns."""
        columns: dict[str, list[Any]] = {}
        for name in Answer._fields:
            columns[name] = [getattr(answer, name) for answer in self.answers]
        usage = {role: used._asdict() for role, used in self.usage.items()}
        row: dict[str, Any] = {
            "problem": self.problem,
            "n": self.n,
            "right": self.right,
            "draws": columns,
            "usage": usage,
        }
        if self.metadata:
            row["metadata"] = dict(self.metadata)
        return row

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The row that `to_json` wrote."""
        columns: list[list[Any]] = []
        for name in Answer._fields:
            default = [Answer._field_defaults.get(name)] * data["n"]
            columns.append(data["draws"].get(name, default))
        answers = tuple(Answer(*values) for values in zip(*columns, strict=True))
        usage = {role: Usage(**used) for role, used in data.get("usage", {}).items()}
        return cls(data["problem"], answers, usage, data.get("metadata", {}))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that moves a score, as readable components.

    `task` (problems, prompts, sampling, n, verifiers) says what was asked: two evaluations with different tasks are not
    compared. `run` (models, solver, seed, threads, versions) says who answered and where: it differs between arms.
    """

    task: Mapping[str, str]
    run: Mapping[str, str]

    @property
    def task_id(self) -> str:
        """Digest of the task alone."""
        return digest("task", self.task)

    @property
    def id(self) -> str:
        """Digest of task and run."""
        return digest("run", [self.task, self.run])

    def to_json(self) -> dict[str, Any]:
        """Both parts with their digests, as a JSON object."""
        return {
            "task_id": self.task_id,
            "id": self.id,
            "task": dict(self.task),
            "run": dict(self.run),
        }

    def differs(self, other: Fingerprint) -> tuple[str, ...]:
        """Names of the task components that are not equal."""
        names = [*self.task, *(name for name in other.task if name not in self.task)]
        return tuple(name for name in names if self.task.get(name) != other.task.get(name))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One arm on one problem set."""

    name: str
    rows: tuple[Row, ...]
    fingerprint: Fingerprint
    # What `metrics` has computed of it: an evaluation never changes, and table, report and viewer ask for the same.
    measured: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        right, answers = self.count("right"), sum(row.n for row in self.rows)
        share = 100 * right / answers if answers else 0.0
        return (
            f"Evaluation({self.name!r}: {share:.1f} % of {answers:,} answers right, "
            f"{len(self.rows):,} problems)"
        )

    def _repr_html_(self) -> str:
        """Statuses as a small table, for a notebook."""
        cells = "".join(
            f"<tr><td>{escape(status)}</td><td>{count:,}</td></tr>"
            for status, count in self.statuses().items()
        )
        return f"<p>{escape(repr(self))}</p><table>{cells}</table>"

    @property
    def n(self) -> int:
        """Answers a problem (equal for all problems)."""
        return self.rows[0].n

    def count(self, status: str) -> int:
        """How many answers have a status, over all problems."""
        return sum(row.count(status) for row in self.rows)

    @property
    def repeats(self) -> int:
        """How many answers are a draw that was counted before."""
        return sum(answer.is_repeat for row in self.rows for answer in row.answers)

    def repeat_note(self) -> str:
        """A sentence for an evaluation with fewer different draws than answers; "" for the others."""
        if not self.repeats:
            return ""
        answers = sum(row.n for row in self.rows)
        return (
            f"{self.name}: {self.repeats:,} of {answers:,} answers repeat another draw of the same problem, so its "
            f"avg@{self.n} and pass@{self.n} are those of fewer than {self.n} draws. "
            "Let the solver sample n answers, or give its calls different values of sample_index."
        )

    def statuses(self) -> dict[str, int]:
        """Answers by status, most frequent first."""
        counts: Counter[str] = Counter()
        for row in self.rows:
            counts.update(answer.status for answer in row.answers)
        return dict(counts.most_common())

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` gives the evaluation back."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote."""
        parts = data["fingerprint"]
        fingerprint = Fingerprint(dict(parts["task"]), dict(parts["run"]))
        rows = tuple(Row.from_json(row) for row in data["rows"])
        return cls(data["name"], rows, fingerprint)
