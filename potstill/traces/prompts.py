"""What a writer or learner is shown: templates and functions of a trace, and the traces brought in beside it.

A template is a string with `{question}`, `{answer}`, `{solution}`, `{tests}`, `{choices}`, `{table}`, `{text}` (what
the trace says so far), `{prompt}` (what its learner sees) and the names of the context, or messages of such strings. It
is filled in one pass: braces in a value are never expanded again, for values are what models wrote. `{{` and the `}}`
that belongs to it are literal braces; a brace that encloses no name is itself.

Whether the gold answer was shown is derived here, never set by hand: a template that names `{answer}`, `{solution}` or
`{tests}` shows it, and so does a function that reads one of them, or a verdict's reason, from the view it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from potstill.errors import ConfigError, InputError
from potstill.records import Message, Problem, Prompt, Trace, Verdict
from potstill.traces.keys import Key, grouped

Template: TypeAlias = str | Sequence[Message] | Callable[..., Any]
Context: TypeAlias = Mapping[str, Sequence[Trace]]
Viewed: TypeAlias = Trace | Problem | Verdict

GOLD = frozenset({"answer", "solution", "tests"})
_MARK = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


class Shown(NamedTuple):
    """A rendered prompt, whether it shows gold, and the context traces that are in it."""

    prompt: Prompt
    saw_gold: bool = False
    sources: tuple[Trace, ...] = ()


def show(
    template: Template | None, traces: Sequence[Trace], context: Context | None, by: Key
) -> list[Shown]:
    """What `template` shows for each trace, with the context traces of the same key; the learner's prompt without one.

    Errored context traces are left out. A wrong name in the template is an error even where there are no traces.
    """
    if template is None:
        if context:
            found = f"context {', '.join(map(repr, context))} without a prompt that shows it"
            raise ConfigError(
                found, fix="pass prompt=, a template or function that names the context"
            )
        return [Shown(trace.prompt) for trace in traces]
    check(template, context or {})
    return [
        render(template, trace, lists)
        for trace, lists in zip(traces, beside(traces, context, by), strict=True)
    ]


def beside(
    traces: Sequence[Trace], context: Context | None, by: Key
) -> list[dict[str, list[Trace]]]:
    """For each trace, the context traces that share its key, by name; without the errored ones."""
    tables = {
        name: grouped((t for t in held if not t.error), by)
        for name, held in (context or {}).items()
    }
    return [{name: table.get(by(trace), []) for name, table in tables.items()} for trace in traces]


def render(template: Template, trace: Trace, lists: Mapping[str, Sequence[Trace]]) -> Shown:
    """One prompt: a filled template, or what a function of (view of the trace, **views of the context) returns."""
    if callable(template):
        recorder = Recorder()
        views = {name: [recorder.view(t) for t in held] for name, held in lists.items()}
        prompt = as_prompt(template(recorder.view(trace), **views))
        return Shown(prompt, recorder.gold, tuple(t for held in lists.values() for t in held))
    used = names(template)
    prompt = _map(lambda text: fill(text, _values(used, trace, lists)), template)
    return Shown(
        prompt,
        bool(used & GOLD),
        tuple(t for name, held in lists.items() if name in used for t in held),
    )


def fill(template: str, values: Mapping[str, str]) -> str:
    """Substitute in one pass; `{{` and its `}}` are literal braces."""
    depth = 0

    def one(mark: re.Match[str]) -> str:
        nonlocal depth
        if mark[1]:
            return values[mark[1]]
        if mark[0] == "{{":
            depth += 1
            return "{"
        if depth:
            depth -= 1
            return "}"
        return mark[0]  # `\frac{1}{\sqrt{2}}` needs no escape

    return _MARK.sub(one, template)


def names(template: str | Sequence[Message]) -> set[str]:
    """The names that a template uses."""
    texts = [template] if isinstance(template, str) else [content for _, content in template]
    return {mark[1] for text in texts for mark in _MARK.finditer(text) if mark[1]}


def check(template: Template, context: Context) -> None:
    """Refuse context names that hide a field, and template names that are neither field nor context."""
    hidden = sorted(set(context) & set(_FIELDS))
    if hidden:
        raise ConfigError(
            f"the context name {hidden[0]!r} is a field of the trace", fix="choose another name"
        )
    if callable(template):
        return
    available = [*_FIELDS, *context]
    for name in sorted(names(template) - set(available)):
        found = f"a prompt template uses the unknown name {{{name}}}"
        raise ConfigError(
            found, available=available, wanted=name, fix=f"for literal braces write {{{{{name}}}}}"
        )


def numbered(texts: Iterable[str]) -> str:
    """Texts as a numbered list, the form in which a template shows context."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(texts, 1))


def as_prompt(value: Any) -> Prompt:
    """A string, or messages given as (role, content) pairs; anything else is an error."""
    if isinstance(value, str):
        return value
    if (
        isinstance(value, Sequence)
        and value
        and all(isinstance(m, tuple) and len(m) == 2 for m in value)
    ):
        return tuple(Message(*m) for m in value)
    raise ConfigError(
        f"a prompt function returned {type(value).__name__}",
        expected="a string or (role, content) pairs",
    )


def _map(fn: Callable[[str], str], template: str | Sequence[Message]) -> Prompt:
    if isinstance(template, str):
        return fn(template)
    return tuple(Message(role, fn(content)) for role, content in template)


def _values(used: set[str], trace: Trace, lists: Mapping[str, Sequence[Trace]]) -> dict[str, str]:
    fields = {name: _FIELDS[name](trace) for name in used if name in _FIELDS}
    return fields | {name: numbered(t.text for t in held) for name, held in lists.items()}


def _required(name: str) -> Callable[[Trace], str]:
    def read(trace: Trace) -> str:
        value = getattr(trace.problem, name)
        if not value:
            # An empty gold answer in a prompt would make rows that look fine and teach nothing.
            raise InputError(
                f"a prompt shows {{{name}}}, but problem {trace.problem.id!r} has none"
            )
        return value if isinstance(value, str) else "\n".join(value)

    return read


def _choices(trace: Trace) -> str:
    return "\n".join(
        f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(trace.problem.choices)
    )


def _seen(trace: Trace) -> str:
    return (
        trace.prompt
        if isinstance(trace.prompt, str)
        else "\n\n".join(m.content for m in trace.prompt)
    )


_FIELDS: dict[str, Callable[[Trace], str]] = {
    "question": lambda trace: trace.problem.question,
    "answer": _required("answer"),
    "solution": _required("solution"),
    "tests": _required("tests"),
    "choices": _choices,
    "table": lambda trace: trace.problem.table or "",
    "text": lambda trace: trace.text,
    "prompt": _seen,
}


class Recorder:
    """Notes whether anyone read a gold field through one of its views."""

    def __init__(self) -> None:
        self.gold = False

    def view(self, of: Viewed) -> View:
        """A stand-in for a trace, problem or verdict."""
        return View(of, self)


class View:
    """Reads like what is behind it, and tells the recorder when something is read that holds or quotes gold."""

    __slots__ = ("_of", "_recorder")

    def __init__(self, of: Viewed, recorder: Recorder) -> None:
        self._of, self._recorder = of, recorder

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._of, name)
        if name == "reason" or (name in GOLD and isinstance(self._of, Problem)):
            self._recorder.gold = True
        return self._recorder.view(value) if isinstance(value, Trace | Problem | Verdict) else value
