"""New problems, made from traces: `derive` poses them, `gold_by_vote` gives them the answer on which attempts agree.

A derived problem knows the traces that it was made from (`Problem.parents`) and the problem that it came from
(`metadata["derived_from"]`). It is never an evaluation problem: inside a run, what overlaps the evaluation set is
dropped here, and refused where it is trained on (`runs.preflight.refuse_leaks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.records import Message, Problem, Prompt, Trace, digest
from potstill.traces import session
from potstill.traces.answers import answer_classes, read_answers
from potstill.traces.keys import function_name, group_traces, problem
from potstill.traces.overlap import NGRAM, OverlapIndex
from potstill.traces.prompts import Template, check_template, render_prompt
from potstill.traces.question_text import Words, read_question

NewQuestion: TypeAlias = str | Mapping[str, Any] | tuple[None, str] | None

DERIVED_FROM = "derived_from"
GOLD_VOTES, GOLD_VOTERS = "gold_votes", "gold_voters"
# What the writer of a problem may set beside its question.
FIELDS = ("question", "choices", "table", "kind", "answer", "solution", "tests", "metadata")
BROKEN_OFF = ("length", "cut", "content_filter", "error")
"""Finish reasons of texts that stop in the middle: half a question is another question."""


def derive(
    write: Callable[[Trace], NewQuestion],
    traces: Sequence[Trace],
    *,
    prompt: Template | None = None,
    keep_gold: bool = False,
    held_out: Sequence[Problem] | None = None,
) -> list[Trace]:
    """Make a new problem of each trace: a blank trace on it, without a gold answer.

    Its id is a hash of its content. It has the kind, table and source of the problem that it came from, the trace among
    its `parents`, and that problem's id in its metadata, under `derived_from`; other metadata are not handed on, since
    a new question has another level. Dropped with the reason are texts that broke off, questions that are one of the
    traces' own or were made before, and what overlaps the evaluation set.

    Args:
        write: from a trace to the question of the new problem, or a mapping of it and other fields (`choices`,
            `table`, `kind`, `answer`, `solution`, `tests`, `metadata`); None, or (None, reason), where there is none.
        traces: what the problems are made of: texts that a model wrote of other problems, or blank ones.
        prompt: what the learner sees. Without one it sees what the trace's learner sees, with the new question (and
            options) in the place of the old one.
        keep_gold: whether the new problem has the gold answer, solution and tests of the old one, as a rephrasing has.
        held_out: the evaluation problems, by `decontaminate`'s rule; without it those of the run, by the run's rule.

    Returns:
        A blank trace in the place of each trace; an errored trace passes unchanged.

    Raises:
        ConfigError: `write` sets another field, or the learner's prompt does not show the old question.
    """
    if prompt is not None:
        check_template(prompt, {})
    # The questions that a new one must differ from.
    overlap_reason = _overlap_rule(held_out)
    questions: dict[Words, str] = {}
    for trace in traces:
        words = _words_of(trace.question)
        questions.setdefault(words, f"the question of problem {trace.problem.id!r}")

    # Of each trace a new problem, or the reason why there is none: the first that holds.
    result: list[Trace] = []
    created: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in traces:
        if trace.error:
            result.append(trace)
            continue
        fields, reason = _read_fields(write, trace)
        if not reason:
            derived = _derive_problem(trace, fields, keep_gold=keep_gold)
            words = _words_of(derived.question)
            reason = questions.get(words, "")
        if not reason:
            blank_trace = _pose_problem(trace, derived, prompt, keep_gold=keep_gold)
            reason = overlap_reason(blank_trace)
        if reason:
            drops.append((trace, reason))
            continue
        questions[words] = "the same question as another new problem"
        result.append(blank_trace)
        created.append(blank_trace)
    session.record_traces(created)
    session.record_drops("derive", function_name(write), drops)
    session.record_step("derive", function_name(write), len(traces), len(result))
    return result


def gold_by_vote(
    problems: Sequence[Trace], answers: Sequence[Trace], *, votes: int = 2
) -> list[Trace]:
    """Give each problem the answer on which most of its answers agree as gold answer; drop those without one.

    Answers that the verifier of the problem's kind calls equal are one. A problem is dropped, with the reason, where
    fewer than `votes` agree, where two answers have as many, or where the elected answer fails its own verifier. The
    traces that voted for it join the problem's parents; `gold_votes` and `gold_voters` in its metadata say how many
    there were, of how many with an answer.

    Args:
        problems: blank traces of problems without a gold answer.
        answers: traces on these problems; failed and unreadable ones do not vote.
        votes: for the same answer that a gold answer takes.

    Returns:
        Blank traces of the problems with a gold answer; an errored trace passes unchanged.

    Raises:
        ConfigError: a problem has a gold answer already, or `votes` is below 1.
    """
    _check_vote(problems, votes)
    ballots_by_problem = _sort_ballots(answers)
    text_by_voter = dict(zip((trace.id for trace in answers), read_answers(answers), strict=True))

    # Who has a gold answer, and of whom there is a reason against one.
    elected: dict[str, Trace] = {}
    reasons: dict[str, str] = {}
    for trace in problems:
        if trace.error:
            continue
        ballots = ballots_by_problem.get(trace.problem.id, [])
        voters, reason = _elect(ballots, votes)
        if reason:
            reasons[trace.problem.id] = reason
        else:
            gold = text_by_voter[voters[0].id] or ""
            elected[trace.problem.id] = _with_gold(trace, gold, voters, sum(map(len, ballots)))

    # A gold answer must pass its own verifier, as that of any file.
    for failing, verdict in verifiers.check_gold([trace.problem for trace in elected.values()]):
        reasons[failing.id] = (
            f"its elected answer fails its verifier: {failing.answer!r} is {verdict.status}"
        )

    result: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in problems:
        if trace.error:
            result.append(trace)
        elif trace.problem.id in reasons:
            drops.append((trace, reasons[trace.problem.id]))
        else:
            result.append(elected[trace.problem.id])
    session.record_traces([trace for trace in result if not trace.error])
    session.record_drops("gold_by_vote", f"votes={votes}", drops)
    session.record_step("gold_by_vote", f"votes={votes}", len(problems), len(result))
    return result


def _sort_ballots(answers: Sequence[Trace]) -> dict[str, list[list[Trace]]]:
    """The voters of each problem by its id, those of one answer together."""
    classes = dict(zip((trace.id for trace in answers), answer_classes(answers), strict=True))
    ballots_by_problem: dict[str, list[list[Trace]]] = {}
    for problem_id, voters in group_traces(answers, problem).items():
        ballots = group_traces(voters, lambda voter: classes[voter.id])
        ballots.pop(None, None)  # who has no answer does not vote
        ballots_by_problem[str(problem_id)] = list(ballots.values())
    return ballots_by_problem


def _words_of(question: str) -> Words:
    """By what two questions are one: their words, or their text where it has no word."""
    return read_question(question).words or (question,)


def _overlap_rule(held_out: Sequence[Problem] | None) -> Callable[[Trace], str]:
    """What says how a trace overlaps the evaluation set; "" of every trace where nobody knows of one."""
    if held_out is not None:
        return OverlapIndex(held_out, NGRAM).overlap_reason
    return session.current_session().overlap_reason or _no_overlap


def _no_overlap(trace: Trace) -> str:
    return ""


def _read_fields(write: Callable[[Trace], NewQuestion], trace: Trace) -> tuple[dict[str, Any], str]:
    """What `write` says of a new problem, and why there is none; "" where there is one."""
    # What stops in the middle is not read: the beginning of a question may look like a whole one.
    if trace.finish_reason in BROKEN_OFF:
        return {}, f"the text broke off: {trace.finish_reason}"
    written = write(trace)
    no_question = f"{function_name(write)} returned no question"
    if written is None:
        return {}, no_question
    if isinstance(written, tuple) and len(written) == 2 and written[0] is None:
        return {}, str(written[1]) or no_question
    if not isinstance(written, str | Mapping):
        raise ConfigError(
            f"{function_name(write)} returned {written!r:.60}",
            expected="a question, a mapping of fields, None, or (None, reason)",
        )
    fields = {"question": written} if isinstance(written, str) else dict(written)
    for name in fields:
        if name not in FIELDS:
            raise ConfigError(
                f"{function_name(write)} set {name!r} of a new problem",
                available=FIELDS,
                wanted=name,
            )
    _check_fields(write, fields)
    fields["question"] = str(fields.get("question") or "").strip()
    return fields, "" if fields["question"] else "the question is empty"


def _check_fields(write: Callable[[Trace], NewQuestion], fields: Mapping[str, Any]) -> None:
    """Refuse what is no text, and a text in the place of a list, whose characters would be its items."""
    metadata = fields.get("metadata", {})
    bad: list[str] = []
    if not isinstance(metadata, Mapping) or not all(
        isinstance(value, str | int | float) for value in metadata.values()
    ):
        bad.append("metadata")
    for name in ("answer", "solution"):
        if not isinstance(fields.get(name), str | None):
            bad.append(name)
    for name in ("choices", "tests"):
        value = fields.get(name, ())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            bad.append(name)
    for name in bad:
        raise ConfigError(
            f"{function_name(write)} set {name} of a new problem to {fields[name]!r:.60}",
            expected="texts, lists of texts for choices and tests, and texts or numbers by name for metadata",
        )


def _derive_problem(trace: Trace, fields: Mapping[str, Any], *, keep_gold: bool) -> Problem:
    """The new problem of a trace; what `write` did not set comes from the old one, but for its gold."""
    old = trace.problem
    metadata = {**fields.get("metadata", {}), DERIVED_FROM: old.id}
    values: dict[str, Any] = {"kind": old.kind, "choices": old.choices, "table": old.table}
    if keep_gold:
        values |= {"answer": old.answer, "solution": old.solution, "tests": old.tests}
    # What the writer says goes before what the old problem has.
    values |= {name: value for name, value in fields.items() if name != "metadata"}
    for name in ("choices", "tests"):
        values[name] = tuple(values.get(name, ()))
    content = [values["question"], values.get("answer"), values["kind"], values["choices"]]
    return Problem(
        id=digest("problem", content),
        **values,
        source=old.source,
        metadata=metadata,
        parents=(trace.id,),
    )


def _pose_problem(
    trace: Trace, derived: Problem, prompt: Template | None, *, keep_gold: bool
) -> Trace:
    """The blank trace of a new problem, with the prompt that its learner sees."""
    blank_trace = Trace(
        derived,
        derived.question,
        parents=(trace.id,),
        operator="derive",
        # The gold answer of another problem is no secret here.
        saw_gold=keep_gold and trace.saw_gold,
    )
    if prompt is None:
        learner_prompt = _exchange_question(trace, derived)
    else:
        learner_prompt = render_prompt(prompt, blank_trace, {}).prompt
    return dataclasses.replace(blank_trace, prompt=learner_prompt)


def _exchange_question(trace: Trace, derived: Problem) -> Prompt:
    """What the learner of a trace sees, with the new question and options in the place of the old ones."""
    old = trace.problem
    if not _shows(trace.prompt, old.question):
        raise ConfigError(
            f"the learner's prompt of trace {trace.id} does not show its question",
            expected="a prompt with the question, word for word, for the new one to take its place",
            fix='derive(…, prompt="{question}"), or the template that the learner should see',
        )
    # The options change only where the writer gave others.
    replacements = [(old.question, derived.question)]
    if old.choices != derived.choices:
        replacements.append((old.lettered_choices, derived.lettered_choices))
    if isinstance(trace.prompt, str):
        return _replace_all(trace.prompt, replacements)
    turns: list[Message] = []
    for turn in trace.prompt:
        turns.append(Message(turn.role, _replace_all(turn.content, replacements)))
    return tuple(turns)


def _shows(prompt: Prompt, question: str) -> bool:
    if isinstance(prompt, str):
        return question in prompt
    return any(question in turn.content for turn in prompt)


def _replace_all(text: str, replacements: Sequence[tuple[str, str]]) -> str:
    for old, new in replacements:
        text = text.replace(old, new)
    return text


def _check_vote(problems: Sequence[Trace], votes: int) -> None:
    if votes < 1:
        raise ConfigError(f"gold_by_vote got votes={votes}", expected="a whole number above 0")
    for trace in problems:
        if not trace.error and trace.problem.answer is not None:
            raise ConfigError(
                f"problem {trace.problem.id!r} has a gold answer, over which nobody votes",
                expected="problems without one, as derive makes them",
            )


def _elect(ballots: Sequence[Sequence[Trace]], votes: int) -> tuple[Sequence[Trace], str]:
    """The largest ballot, and why it decides nothing; "" where it decides."""
    if not ballots:
        return (), "nobody voted: no answer could be read"
    ranked = sorted(ballots, key=len, reverse=True)
    counts = [len(ballot) for ballot in ranked]
    if counts[0] < votes:
        return (), f"too few agree: {counts[0]} of {sum(counts)} votes for one answer"
    if len(counts) > 1 and counts[0] == counts[1]:
        return (), f"the vote is tied: {counts[0]} votes each"
    return ranked[0], ""


def _with_gold(trace: Trace, gold: str, voters: Sequence[Trace], voter_count: int) -> Trace:
    voter_ids = tuple(voter.id for voter in voters)
    old = trace.problem
    metadata = {**old.metadata, GOLD_VOTES: len(voters), GOLD_VOTERS: voter_count}
    with_gold = dataclasses.replace(
        old, answer=gold, metadata=metadata, parents=old.parents + voter_ids
    )
    return Trace(
        with_gold,
        trace.prompt,
        parents=(trace.id, *voter_ids),
        operator="gold_by_vote",
        saw_gold=trace.saw_gold,
    )
