"""Problem, Trace, Verdict, Stage: what flows through everything, and how each gets its id.

Ids are SHA-256 over canonical JSON: keys sorted, no spaces, ASCII escapes (so every Python string, lone surrogates
included, has one form), floats as `repr`, NaN and infinity refused. Every digest starts with the scheme tag, so a
changed rule can never be mistaken for an old id. Golden ids stand in `tests/test_records.py`.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from potstill.values import plain_function

SCHEME = "potstill-3"
OLDER_SCHEMES = ("potstill-1", "potstill-2")
"""Under which stores are still read: the first has other names for a few fields, both say nothing of stop strings."""

Status: TypeAlias = Literal["right", "wrong", "unparsed", "unjudged"]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a label, how many are done, and how many there are."""


def no_progress(label: str, done: int, total: int) -> None:
    """A `Progress` that reports to nobody."""


class Message(NamedTuple):
    """One turn of a chat prompt."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]

FinishReason: TypeAlias = Literal[
    "stop",  # the model ended its answer
    "stop_string",  # it wrote a stop string, or may have: the server does not say which of the two it was
    "length",  # a limit of tokens ended it
    "tool_calls",  # it called a tool instead of answering
    "content_filter",  # a filter or a refusal took the answer
    "error",  # the server broke it off
    "unknown",  # nobody says, or in words that are not in the table: not finished
]

FINISH_REASON_KEYS = (
    "finish",
    "finish_reason",
    "finish_reasons",
    "stop_reason",
    "is_reasoning_complete",
)
"""Under which names servers and files say how a completion ended; `is_reasoning_complete` holds booleans."""

REASONING_KEYS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thought",
    "reasoning_text",
    "reasoning_details",
    "thinking_blocks",
    "thinking_trajectory",
    "chain_of_thought",
)
"""Under which names servers and files give a thought beside the reply; the first that is not empty holds it."""

_FINISH_REASONS: Mapping[FinishReason, tuple[str, ...]] = {
    "stop": (
        "stop",
        "stop_token",
        "end_turn",
        "eos",
        "eos_token",
        "complete",
        "completed",
        "finished",
        "done",
    ),
    "stop_string": ("stop_string", "stop_sequence", "stop_str", "stop_word"),
    "length": (
        "length",
        "max_length",
        "max_tokens",
        "max_output_tokens",
        "max_new_tokens",
        "model_length",
        "token_limit",
        "limit",
        "error_limit",
        "context_length_exceeded",
        "model_context_window_exceeded",
    ),
    "tool_calls": (
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
        "malformed_function_call",
        "unexpected_tool_call",
    ),
    "content_filter": (
        "content_filter",
        "content_filtered",
        "guardrail_intervened",
        "refusal",
        "safety",
        "recitation",
        "sensitive",
        "language",
        "blocklist",
        "prohibited_content",
        "spii",
        "error_toxic",
    ),
    "error": (
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "user_cancel",
        "timeout",
        "insufficient_system_resource",
        "network_error",
    ),
}
_BY_SPELLING: Mapping[str, FinishReason] = {
    spelling: reason for reason, spellings in _FINISH_REASONS.items() for spelling in spellings
}
# A file keeps the text of a generation that was broken off: such a text is a beginning, as one at the limit is.
_LENGTH_IN_FILES = ("truncated", "abort", "aborted", "cut", "incomplete", "timeout")


def read_finish_reason(
    value: Any, *, key: str = "finish_reason", in_file: bool = False
) -> FinishReason:
    """How a completion ended, from what a server or a file says of it, in any case and any known spelling.

    Args:
        value: a word, an object whose `type` is the word (SGLang), or a boolean under `is_reasoning_complete`.
        key: under which of `FINISH_REASON_KEYS` it stood.
        in_file: whether a file says it, where "truncated" and "abort" count as "length".
    """
    if key == "is_reasoning_complete" and isinstance(value, bool):
        return "stop" if value else "length"
    if isinstance(value, Mapping):
        value = value.get("type")
    if not isinstance(value, str):
        return "unknown"
    spelling = value.strip().casefold().replace("-", "_").replace(" ", "_")
    for prefix in ("finish_reason_", "finishreason."):
        spelling = spelling.removeprefix(prefix)
    if in_file and spelling in _LENGTH_IN_FILES:
        return "length"
    return _BY_SPELLING.get(spelling, "unknown")


def canonical(value: Any) -> str:
    """The one JSON text of a value; dataclasses become objects, tuples and sets lists, functions their syntax tree."""
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


# What nearly all values are. Their exact types are looked up first: an `isinstance` of an abstract class is slow, and a
# trace has some twenty values to ask it of.
_JSON_SCALARS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    kind: Any = type(value)  # mypy holds no class for hashable
    if kind in _JSON_SCALARS:
        return value
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float):
        return value
    fields = _canonical_fields(kind)
    if fields is not None:
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((_plain(item) for item in value), key=canonical)
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    if callable(value):
        return plain_function(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


@functools.cache
def _canonical_fields(kind: type) -> tuple[str, ...] | None:
    """The names of a dataclass's fields that are in its canonical JSON; None of another type."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(field.name for field in dataclasses.fields(kind) if field.repr)


def digest(kind: str, value: Any, *, scheme: str = SCHEME) -> str:
    """`kind-` and 20 hex characters of SHA-256 over the scheme tag, the kind and the canonical value."""
    data = f"{scheme}\n{kind}\n{canonical(value)}".encode("ascii")
    return f"{kind}-{hashlib.sha256(data).hexdigest()[:20]}"


MetadataValue: TypeAlias = str | int | float


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with what is needed to judge an answer to it; `kind` names its verifier.

    What its source says of it beside, and what it was made from, are annotations: they change no id, and problems that
    differ in nothing else are equal. (Fields with `repr=False` are left out of canonical JSON.)

    Args:
        metadata: what a file's columns say of it, such as `level`, `rating`, `date`, `topic` and `source`; not to be
            changed in place.
        parents: ids of the traces that a derived problem was made from: the one that holds its question, and those
            that voted for its gold answer.
    """

    id: str
    question: str
    answer: str | None = None
    kind: str = "math"
    solution: str | None = None
    tests: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    table: str | None = None
    source: str = ""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict, repr=False, compare=False)
    parents: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def lettered_choices(self) -> str:
        """The options, one a line behind its letter; "" where there are none."""
        lines: list[str] = []
        for index, choice in enumerate(self.choices):
            lines.append(f"{chr(ord('A') + index)}. {choice}")
        return "\n".join(lines)


class Span(NamedTuple):
    """A stretch of a trace's text: a unit, a step with its score, a loss weight, a tool turn. Layers may overlap.

    Args:
        kind: "unit" and "step"; "written", of the prefix what a model wrote in this run; "tool" and "user", what
            somebody else wrote; "learnt" and "masked", what the operator `learn` decided; or any word.
        weight: of its tokens in the loss.
        score: of a step; of a unit what `leave_one_out` measured.
        author: id of the model that wrote it, of a span of the kind "written".
    """

    start: int
    stop: int
    kind: str
    weight: float = 1.0
    score: float | None = None
    author: str = ""


OTHER_AUTHORS = ("tool", "user")
"""Kinds of spans that no model wrote: never learnt, unless `learn` says so."""
LEARNING_KINDS = ("written", *OTHER_AUTHORS, "learnt", "masked")
"""Kinds of spans that say who wrote a stretch, or whether it is learnt."""


class Verdict(NamedTuple):
    """What a verifier says of a text: a status, the answer it read, why, and which verifier at which version."""

    status: Status
    answer: str | None = None
    reason: str = ""
    verifier: str = ""


class Tokens(NamedTuple):
    """Token counts of one call, as the model reports them."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class Author(NamedTuple):
    """Who wrote a trace: model id, hash of the prompt it was shown, settings that are no defaults, sample index."""

    model: str
    prompt_hash: str
    settings: tuple[tuple[str, Any], ...]
    sample_index: int


UNJUDGED = Verdict("unjudged")
NO_TOKENS = Tokens()
NO_SCORES: Mapping[str, float | str | None] = MappingProxyType({})


def _restore_read_only(items: dict[str, Any]) -> MappingProxyType[str, Any]:
    return MappingProxyType(items)


# A trace without scores is sent to other processes and to the disk too; Python can't pickle a read-only mapping.
copyreg.pickle(MappingProxyType, lambda proxy: (_restore_read_only, (dict(proxy),)))

_IDENTITY = ("problem", "prompt", "text", "prefix_length", "author", "parents", "operator")


@dataclass(frozen=True, slots=True)
class Trace:
    """Reasoning on a problem, finished or not yet begun; the one type that operators take and return.

    Identity (hashed into `id`): problem, prompt, text, prefix_length, author, parents, operator. What comes after
    `error` is an annotation: a verdict, a score or a price never changes an id.

    Args:
        prompt: what the *learner* sees before the text; set by the problem source and by `pose` alone.
        prefix_length: how many characters of `text` stood there before the author wrote. Those are learnt where a model
            wrote them in this run (`learnt_stretches`).
        finish_reason: "stop", "stop_string", "length" or "cut"; "" for a blank trace. Only "stop" is an end that is
            learnt.
        stop_string: which string ended it, not part of the text; "" where none did, or where nobody says which.
        root: id of the first non-blank ancestor, inherited; see `line`.
        saw_gold: whether the writer was shown the gold answer, solution or tests, directly or through a parent.
        error: why the generation failed; an errored trace passes through every operator and is never trained on.
        rejected: the rejected trace, where this one was chosen by `pair`.
        teacher_prompt: what a teacher reads in the place of `prompt` while it is asked about the completion, with what
            only it may see; "" where it reads the same. `set_teacher_prompt` sets it.
    """

    problem: Problem
    prompt: Prompt
    text: str = ""
    prefix_length: int = 0
    finish_reason: str = ""
    stop_string: str = ""
    author: Author | None = None
    parents: tuple[str, ...] = ()
    root: str = ""
    operator: str = "problem"
    saw_gold: bool = False
    error: str = ""
    verdict: Verdict = UNJUDGED
    scores: Mapping[str, float | str | None] = field(default_factory=lambda: NO_SCORES)
    spans: tuple[Span, ...] = ()
    weight: float = 1.0
    tokens: Tokens = NO_TOKENS
    rejected: Trace | None = None
    teacher_prompt: Prompt = ""
    _id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """Content id, computed once; annotated copies share it."""
        if not self._id:
            identity = {name: getattr(self, name) for name in _IDENTITY}
            identity["error"] = self.error
            object.__setattr__(self, "_id", digest("trace", identity))
        return self._id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def line(self) -> str:
        """Which attempt this descends from: the id of the first non-blank ancestor, or its own."""
        return self.root or self.id

    @property
    def question(self) -> str:
        """The problem's question."""
        return self.problem.question

    @property
    def answer(self) -> str | None:
        """The answer that the verifier read in the text, if it was judged."""
        return self.verdict.answer

    @property
    def new(self) -> str:
        """What the author wrote: the text after the prefix."""
        return self.text[self.prefix_length :]

    @property
    def reasoning(self) -> str:
        """The thought: what stands between `<think>` and `</think>`; "" without one."""
        return split_reasoning(self.text)[0]

    @property
    def reply(self) -> str:
        """What stands after `</think>`, or the whole text; "" while the thought is not closed."""
        return split_reasoning(self.text)[1]

    @property
    def units(self) -> tuple[str, ...]:
        """The texts of the spans that `segment` made; joined, they are the text."""
        return tuple(self.text[s.start : s.stop] for s in self.spans if s.kind == "unit")

    def annotate(self, **annotations: Any) -> Trace:
        """A copy with other annotations and the same id; refuses the fields that make the id."""
        inside = set(annotations) & {*_IDENTITY, "error"}
        if inside:
            raise TypeError(
                f"{', '.join(sorted(inside))} make a trace's id; annotations can't change them"
            )
        copy = dataclasses.replace(self, **annotations)
        object.__setattr__(copy, "_id", self.id)
        return copy


def split_reasoning(text: str) -> tuple[str, str]:
    """The thought of a text and its reply, without the tags between: `<think>thought</think>reply`.

    A text that was begun inside its thought has no `<think>`; one that was cut inside it has no `</think>`, and so no
    reply. Without either the whole text is the reply.
    """
    before, opened, after = text.partition("<think>")
    if opened and not before.strip():
        thought, _, reply = after.partition("</think>")
        return thought, reply
    thought, closed, reply = text.partition("</think>")
    return (thought, reply) if closed and "<think>" not in thought else ("", text)


def learnt_stretches(trace: Trace) -> list[tuple[int, int]]:
    """What is learnt of a trace's text, as (start, stop) in order, none of them empty and none beside another.

    What a model wrote in this run is learnt, however many calls it took: the text behind the prefix, and of the prefix
    the spans of the kind "written". What was only shown is not: the rest of the prefix, and the turns of a tool or a
    user. What `learn` decided ("learnt", "masked") stands above both. Weights of spans are another matter.
    """
    layers = [("written", True), *((kind, False) for kind in OTHER_AUTHORS)]
    layers += [("learnt", True), ("masked", False)]
    end = len(trace.text)
    boundaries = {0, trace.prefix_length, end}
    spans = [span for span in trace.spans if span.kind in LEARNING_KINDS]
    for span in spans:
        boundaries |= {min(max(0, span.start), end), min(max(0, span.stop), end)}

    # Between two boundaries all is learnt or nothing is; a later layer outweighs an earlier one.
    stretches: list[tuple[int, int]] = []
    for start, stop in itertools.pairwise(sorted(boundaries)):
        kinds = {span.kind for span in spans if span.start <= start and stop <= span.stop}
        is_learnt = start >= trace.prefix_length
        for kind, decision in layers:
            if kind in kinds:
                is_learnt = decision
        if not is_learnt:
            continue
        if stretches and stretches[-1][1] == start:
            stretches[-1] = (stretches[-1][0], stop)
        else:
            stretches.append((start, stop))
    return stretches


def learns_end(trace: Trace) -> bool:
    """Whether the end of turn behind the text is learnt: its author ended there, and all up to there is learnt text."""
    stretches = learnt_stretches(trace)
    ends_learnt = bool(stretches) and stretches[-1][1] == len(trace.text)
    return ends_learnt and trace.finish_reason == "stop"


def blank(problem: Problem, prompt: Prompt | None = None) -> Trace:
    """A problem nobody has worked on yet: a trace with empty text; its learner sees `prompt`, or else the question."""
    return Trace(problem, problem.question if prompt is None else prompt)


class HasId(Protocol):
    """Anything a stage can train: it is known by its id."""

    @property
    def id(self) -> str:
        """Content id."""
        ...


class Stage:
    """Train `model` on `traces` with an objective: what a method yields, and receives the student for.

    Errored traces are dropped and counted in `errored`. The id covers what the trainer sees (prompt, text, finish,
    weights, rejected side), the objective, its constants and the model; lineage, verdicts and scores do not retrain.
    """

    def __init__(
        self,
        model: HasId,
        traces: Sequence[Trace],
        objective: str,
        *,
        name: str = "",
        **constants: Any,
    ) -> None:
        """Take the traces that did not fail; constants bind to the training loop or to the objective's signature.

        A name is for recipes (`training.NAME`) and tables; a stage without one goes by its number. It does not retrain.
        """
        self.name = name
        self.model = model
        self.rows = tuple(
            t for t in traces if not t.error and not (t.rejected and t.rejected.error)
        )
        self.errored = len(traces) - len(self.rows)
        self.objective = objective
        self.constants = constants

    def __repr__(self) -> str:
        return (
            f"Stage({self.model.id}, {len(self.rows)} rows, {self.objective!r}, {self.constants})"
        )

    @property
    def id(self) -> str:
        """Content id without the recipe's training settings; `key` adds them."""
        return self.key({})

    def key(self, settings: Mapping[str, Any]) -> str:
        """The id of the student that this stage makes under these training settings."""
        constants = {name: getattr(value, "id", value) for name, value in self.constants.items()}
        contents = [trained_content(row) for row in self.rows]
        rollout = bool(self.constants.get("on_policy_fraction"))
        problems = [row.problem for row in self.rows] if rollout else []
        return digest(
            "stage", [self.model.id, self.objective, constants, dict(settings), contents, problems]
        )


def trained_content(trace: Trace) -> list[Any]:
    """What the trainer sees of a trace, its rejected side included."""
    weights = []
    for span in trace.spans:
        if span.weight != 1.0 and span.kind not in LEARNING_KINDS:
            weights.append(span[:4])
    rejected = trained_content(trace.rejected) if trace.rejected else None
    content = [
        trace.prompt,
        trace.text,
        learnt_stretches(trace),
        trace.finish_reason,
        trace.weight,
        weights,
        rejected,
    ]
    # Newer than the first ids, which stay.
    if trace.teacher_prompt:
        content.append(trace.teacher_prompt)
    return content
