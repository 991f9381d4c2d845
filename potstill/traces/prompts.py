"""What a writer or learner is shown: templates and functions of a trace, and the traces brought in beside it.

A template is a string with `{question}`, `{answer}`, `{solution}`, `{tests}`, `{choices}`, `{table}`, `{schema}` (the
table without its rows), `{text}` (what the trace says so far), `{prompt}` (what its learner sees) and the names of the
context, or messages of such strings. Choices and schema stand below the question where a template has no place of
their own for them. It is filled in one pass: braces in a value are never expanded again, for values
are what models wrote. `{{` and the `}}` that belongs to it are literal braces; a brace that encloses no name is itself.

Whether the gold answer was shown is derived here, never set by hand: a template that names `{answer}`, `{solution}` or
`{tests}` shows it, and so does a function that reads one of them, or a verdict's reason, from the view it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from potstill.errors import ConfigError, InputError
from potstill.records import Message, Problem, Prompt, Trace, Verdict
from potstill.template import fill_template, template_names
from potstill.traces.few_shots import Examples, FewShot
from potstill.traces.keys import Key, group_traces
from potstill.verifiers.sql.schema import schema_text

Template: TypeAlias = str | Sequence[Message] | Callable[..., Any]
Context: TypeAlias = Mapping[str, Sequence[Trace] | FewShot]
Viewed: TypeAlias = Trace | Problem | Verdict

GOLD_FIELDS = frozenset({"answer", "solution", "tests"})


class RenderedPrompt(NamedTuple):
    """A filled prompt, whether it shows gold, and the context traces that are in it."""

    prompt: Prompt
    saw_gold: bool = False
    sources: tuple[Trace, ...] = ()


def render_prompts(
    template: Template | None, traces: Sequence[Trace], context: Context | None, by: Key
) -> list[RenderedPrompt]:
    """Fill a template for each trace.

    Args:
        template: what is filled; without one each prompt is the learner's.
        traces: the traces to show.
        context: more traces to show, by name; errored ones are left out.
        by: the key under which a trace finds its context.

    Raises:
        ConfigError: the template has an unknown name (also where there are no traces), or there is a context and no
            template that shows it.
        InputError: the template shows a gold field that a problem does not have.
    """
    if template is None:
        if context:
            raise ConfigError(
                f"context {', '.join(map(repr, context))} without a prompt that shows it",
                fix="pass prompt=, a template or function that names the context",
            )
        return [RenderedPrompt(trace.prompt) for trace in traces]
    check_template(template, context or {})
    rendered: list[RenderedPrompt] = []
    for trace, context_lists in zip(traces, context_of_each(traces, context, by), strict=True):
        rendered.append(render_prompt(template, trace, context_lists))
    return rendered


def context_of_each(
    traces: Sequence[Trace], context: Context | None, by: Key
) -> list[dict[str, list[Trace]]]:
    """For each trace, return the context traces that share its key, by name; errored ones are left out.

    Few-shot examples are chosen for each trace without a key.
    """
    # Each list is grouped once, and every trace finds its group by its own key.
    groups_of_name = {}
    for name, context_traces in (context or {}).items():
        if not isinstance(context_traces, FewShot):
            healthy = [trace for trace in context_traces if not trace.error]
            groups_of_name[name] = group_traces(healthy, by)
    result: list[dict[str, list[Trace]]] = []
    for trace in traces:
        context_lists: dict[str, list[Trace]] = {}
        for name, context_traces in (context or {}).items():
            if isinstance(context_traces, FewShot):
                context_lists[name] = context_traces(trace)
            else:
                context_lists[name] = groups_of_name[name].get(by(trace), [])
        result.append(context_lists)
    return result


def render_prompt(
    template: Template, trace: Trace, context_lists: Mapping[str, Sequence[Trace]]
) -> RenderedPrompt:
    """Fill a template for one trace; a function is called with a view of the trace and views of the context."""
    # A function says what it shows by what it reads from its views.
    sources: list[Trace] = []
    if callable(template):
        recorder = GoldRecorder()
        views: dict[str, list[TraceView]] = {}
        for name, context_traces in context_lists.items():
            views[name] = [recorder.view(source) for source in context_traces]
            sources += context_traces
        prompt = _to_prompt(template(recorder.view(trace), **views))
        return RenderedPrompt(prompt, recorder.saw_gold, tuple(sources))

    # A template says it by its names; only context that it names becomes a parent.
    used_names = template_names(template)
    values = field_values(used_names, trace)
    for name, context_traces in context_lists.items():
        texts = [source.text for source in context_traces]
        if isinstance(context_traces, Examples):
            texts = context_traces.texts()
        values[name] = numbered_list(texts)
        if name in used_names:
            sources += context_traces
    if isinstance(template, str):
        prompt = fill_template(template, values)
    else:
        prompt = tuple(Message(role, fill_template(content, values)) for role, content in template)
    return RenderedPrompt(prompt, bool(used_names & GOLD_FIELDS), tuple(sources))


def show_one(template: str, trace: Any, **context: Sequence[Any]) -> str:
    """A prompt function: the template with the one text of each context as it is, without a number before it.

    `pose(partial(show_one, REFINE), rows, context={"attempt": errors}, by=line)`.

    Args:
        template: names fields of the trace and of the context.
        trace: what is shown, or a view of it.
        context: a list of one trace by name.

    Raises:
        ConfigError: a list has another number of traces.
    """
    names = template_names(template)
    values = field_values(names, trace)
    for name, sources in context.items():
        if len(sources) != 1:
            raise ConfigError(
                f"show_one got {len(sources)} traces for {{{name}}}",
                expected="one",
                fix="a template without show_one makes a numbered list",
            )
        values[name] = sources[0].text
    return fill_template(template, values)


def field_values(names: set[str], trace: Any) -> dict[str, str]:
    """What a template's names stand for in a trace; names of the context are not among them.

    A question is shown with what it is asked about: the choices and the table's schema stand below it where the
    template has no place of their own for them.
    """
    values = {name: _FIELDS[name](trace) for name in names if name in _FIELDS}
    if "question" not in names or "prompt" in names:
        return values
    parts: list[str] = []
    if "choices" not in names:
        parts.append(trace.problem.lettered_choices)
    if not names & {"table", "schema"}:
        parts.append(schema_text(trace.problem.table or ""))
    for part in parts:
        # The question of some data already holds them.
        if part and part not in values["question"]:
            values["question"] += f"\n\n{part}"
    return values


def check_template(template: Template, context: Context) -> None:
    """Refuse context names that hide a field, and template names that are neither field nor context.

    Raises:
        ConfigError: there is such a name.
    """
    hiding = sorted(set(context) & set(_FIELDS))
    if hiding:
        raise ConfigError(
            f"the context name {hiding[0]!r} is a field of the trace", fix="choose another name"
        )
    if callable(template):
        return
    available = [*_FIELDS, *context]
    for name in sorted(template_names(template) - set(available)):
        raise ConfigError(
            f"a prompt template uses the unknown name {{{name}}}",
            available=available,
            wanted=name,
            fix=f"for literal braces write {{{{{name}}}}}",
        )


def numbered_list(texts: Iterable[str]) -> str:
    """Join texts as a numbered list, the form in which a template shows context."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


def _to_prompt(value: Any) -> Prompt:
    """Accept a string, or messages given as (role, content) pairs, from a prompt function."""
    if isinstance(value, str):
        return value
    is_list = isinstance(value, Sequence) and bool(value)
    if is_list and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return tuple(Message(*item) for item in value)
    raise ConfigError(
        f"a prompt function returned {type(value).__name__}",
        expected="a string or (role, content) pairs",
    )


def _gold_field(name: str) -> Callable[[Trace], str]:
    """A field of the problem that must be there."""

    def read(trace: Trace) -> str:
        value = getattr(trace.problem, name)
        if not value:
            # An empty gold answer in a prompt would make rows that look fine and teach nothing.
            raise InputError(
                f"a prompt shows {{{name}}}, but problem {trace.problem.id!r} has none"
            )
        return value if isinstance(value, str) else "\n".join(value)

    return read


def prompt_text(trace: Trace | TraceView) -> str:
    """What the learner sees of a trace, as one text: of messages their contents, a blank line between two."""
    if isinstance(trace.prompt, str):
        return trace.prompt
    return "\n\n".join(message.content for message in trace.prompt)


_FIELDS: dict[str, Callable[[Trace], str]] = {
    "question": lambda trace: trace.problem.question,
    "answer": _gold_field("answer"),
    "solution": _gold_field("solution"),
    "tests": _gold_field("tests"),
    "choices": lambda trace: trace.problem.lettered_choices,
    "table": lambda trace: trace.problem.table or "",
    "schema": lambda trace: schema_text(trace.problem.table or ""),
    "text": lambda trace: trace.text,
    "prompt": prompt_text,
}


class GoldRecorder:
    """Notes whether anyone read a gold field through one of its views."""

    def __init__(self) -> None:
        self.saw_gold = False

    def view(self, target: Viewed) -> TraceView:
        """Return a stand-in for a trace, problem or verdict."""
        return TraceView(target, self)


class TraceView:
    """Reads like its target, and tells the recorder when a field is read that holds or quotes gold."""

    __slots__ = ("_recorder", "_target")

    def __init__(self, target: Viewed, recorder: GoldRecorder) -> None:
        self._target, self._recorder = target, recorder

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        # A verdict's reason may quote the gold answer.
        if name == "reason" or (name in GOLD_FIELDS and isinstance(self._target, Problem)):
            self._recorder.saw_gold = True
        if isinstance(value, Trace | Problem | Verdict):
            return self._recorder.view(value)
        return value
