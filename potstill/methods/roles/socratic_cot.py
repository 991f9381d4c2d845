"""Socratic CoT: one student learns to ask the sub-questions of a problem, another one to answer them in turn.

Read as its abstract and the authors' page; the paper's text and code were not (the repository has a README alone).

| constant | value | source |
|---|---|---|
| what the teacher writes | sub-questions, each with its solution | abstract, authors' page |
| students | a question generator and a question answerer of one base model | abstract, authors' page |
| a chain is learnt | where its last answer is gold | authors' page |
| chains a problem, temperature | 1, 0.7 | inferred |
| sub-questions that are answered at test time | at most 10 | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.replies import reply_alone
from potstill.models.model import Model, Trainable
from potstill.records import Span, Stage, Trace
from potstill.traces import (
    Share,
    count_reading,
    edit,
    is_finished,
    keep,
    mix,
    plain,
    pose,
    report_shares,
    right,
    sample,
    verify,
)

# The wording of the three prompts is ours.
DECOMPOSE = """\
Solve the problem below by simpler sub-questions. Ask one, answer it, and go on until the problem is solved, in this \
form:

Question 1: the first sub-question
Answer 1: its solution, in one line
Question 2: the next one
Answer 2: its solution

The last sub-question is what the problem asks for, and its solution ends with the answer as \\boxed{{answer}}.

Problem: {prompt}"""
ASK = """\
Break the question below down into the sub-questions that lead to its answer, one a line and numbered. The last one is \
what the question asks for. Answer nothing.

Question: {prompt}"""
ANSWER = "{prompt}\n\nAnswer the sub-questions one by one, and the last one with \\boxed{{answer}}."

_PART = re.compile(r"^[*#_ ]{0,4}(Question|Answer) (\d{1,3})[*_ ]{0,4}:", re.MULTILINE)
_NUMBERED = re.compile(r"^ {0,4}\d{1,3}[.):] (.+)$", re.MULTILINE)


def socratic_cot(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["socratic", "unified", "teacher-asks", "cot"] = "socratic",
    n: int = 1,
    max_questions: int = 10,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, Any]:
    """Socratic CoT: distilling reasoning capabilities into smaller language models (Shridhar et al., arXiv:2212.00193).

    The generator learns p(q_1 … q_k | P), the answerer the product over j of p(s_j | P, q_1, s_1, …, q_j): it is one
    row a chain, in which the questions are shown and only the solutions are learnt.

    Learns from: the teacher's sub-questions, and its solutions of them, of chains that end in the right answer.
    Needs: teacher (asks and answers itself), student (is trained, once to ask and once to answer).
    Controls: arm=unified (one student learns both), teacher-asks (the answerer alone is trained, and the teacher
        asks at test time: what better questions would give), cot (the solutions without questions: the paper's
        baseline).
    Departure: every step is inferred but for the table's. All sub-questions are asked at once. A solution is one line.
        A question that is not broken down is its own only sub-question.
    Partial: the generator has no guidance, neither a number of questions nor the equations that they lead to; problems
        with written solutions are decomposed as others are, where the paper has questions asked for their steps.
    Paper: 43 (from the abstract)
    Cite: Kumar Shridhar, Alessandro Stolfo, Mrinmaya Sachan: Distilling Reasoning Capabilities into Smaller Language
        Models (2023).

    Args:
        teacher: is asked once a chain.
        student: the base model of both.
        arm: the method or one of its controls.
        n: chains a problem.
        max_questions: that are answered at test time, at most.
        temperature: of the teacher.
        max_new_tokens: longest reply of the teacher; one that is cut there is no row.
    """
    # The teacher's sub-questions and solutions, where they can be read and lead to the right answer.
    settings: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    replies = sample(teacher, problems, prompt=DECOMPOSE, n=n, **settings)
    chains = keep(has_parts, edit(reply_alone, keep(is_finished, replies)))
    chains = keep(right, verify(chains))
    report_parts(chains)

    if arm == "cot":
        student = yield Stage(student, edit(join_solutions, chains), "sft")
        return partial(plain, student)

    # What each of the two learns of them.
    questions = edit(list_questions, pose(ASK, chains, keep_text=True))
    answers = edit(answer_in_turn, pose(ANSWER, chains, keep_text=True))
    if arm == "unified":
        student = yield Stage(student, mix(questions, answers), "sft")
        return partial(solve_by_questions, student, student, max_questions)
    # Two students of one base, or the answerer alone behind the teacher's questions.
    asker: Model = teacher
    if arm == "socratic":
        asker = yield Stage(student, questions, "sft", name="questions")
    answerer = yield Stage(student, answers, "sft", name="answers")
    return partial(solve_by_questions, asker, answerer, max_questions)


def solve_by_questions(
    asker: Model,
    answerer: Model,
    max_questions: int,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Ask the sub-questions of each problem, n times, and answer each list in turn."""
    lists = edit(reply_alone, sample(asker, problems, prompt=ASK, n=n, **sampling))
    questions_of: dict[str, list[str]] = {}
    for trace in lists:
        questions = read_questions(trace.text)[:max_questions]
        questions_of[trace.line] = questions or [trace.question]

    # Round by round the next question of each list that has one, and its solution up to the end of the line.
    transcripts = pose(ANSWER, lists)
    longest = max((len(questions) for questions in questions_of.values()), default=0)
    for number in range(1, longest + 1):
        ended: list[Trace] = []
        unfinished: list[Trace] = []
        for trace in transcripts:
            is_open = not trace.error and number <= len(questions_of[trace.line])
            (unfinished if is_open else ended).append(trace)
        unfinished = edit(partial(ask_next, questions_of, number), unfinished)
        transcripts = [*ended, *sample(answerer, unfinished, stop="\n", **sampling)]
    return transcripts


def ask_next(questions_of: Mapping[str, Sequence[str]], number: int, trace: Any) -> dict[str, Any]:
    """The transcript so far with the next question behind it."""
    before = f"{trace.text.strip()}\n" if trace.text else ""
    text = before + question_line(number, questions_of[trace.line][number - 1])
    return {"text": text, "spans": (Span(len(before), len(text), "user"),)}


def read_parts(text: str) -> list[tuple[str, str]]:
    """The sub-questions of a chain, each with its solution, in one line each; none where it is not in the form."""
    headings = list(_PART.finditer(text))
    # Question 1, Answer 1, Question 2, …: anything else is another form.
    bodies: list[str] = []
    for place, heading in enumerate(headings):
        expected = ("Question" if place % 2 == 0 else "Answer", str(place // 2 + 1))
        stop = headings[place + 1].start() if place + 1 < len(headings) else len(text)
        body = " ".join(text[heading.end() : stop].split()).strip("*_ ")
        if heading.groups() != expected or not body:
            return []
        bodies.append(body)
    if len(bodies) % 2:
        return []
    return list(zip(bodies[::2], bodies[1::2], strict=True))


def has_parts(trace: Trace) -> tuple[bool, str]:
    """It asks and answers in the form that it was asked for."""
    is_readable = bool(read_parts(trace.text))
    count_reading("sub-questions", trace.text, "strict" if is_readable else "unparsed")
    return is_readable, "not a question and an answer in turn"


def list_questions(trace: Any) -> dict[str, str]:
    """The sub-questions of a chain alone: what the generator learns."""
    lines: list[str] = []
    for number, (question, _) in enumerate(read_parts(trace.text), 1):
        lines.append(question_line(number, question).strip())
    return {"text": "\n".join(lines), "finish_reason": "stop"}


def answer_in_turn(trace: Any) -> dict[str, Any]:
    """The whole chain, of which the answerer is shown the questions and learns the solutions."""
    text = ""
    question_spans: list[Span] = []
    for number, (question, solution) in enumerate(read_parts(trace.text), 1):
        heading = question_line(number, question)
        # What somebody else wrote: shown to the answerer, and not learnt.
        question_spans.append(Span(len(text), len(text) + len(heading), "user"))
        # The end of the line is learnt: at test time it is where the next question is asked.
        text += f"{heading}{solution}\n"
    return {"text": text.removesuffix("\n"), "spans": question_spans, "finish_reason": "stop"}


def join_solutions(trace: Any) -> dict[str, str]:
    """The chain of thought that is left without its questions."""
    solutions = [solution for _, solution in read_parts(trace.text)]
    return {"text": "\n".join(solutions), "finish_reason": "stop"}


def question_line(number: int, question: str) -> str:
    """A sub-question as it stands in lists and transcripts."""
    return f"{number}. {question}\n"


def read_questions(text: str) -> list[str]:
    """The numbered lines of a list of sub-questions."""
    return [question.strip() for question in _NUMBERED.findall(text)]


def report_parts(chains: Sequence[Trace]) -> None:
    """Say how many sub-questions a chain has."""
    parts = sum(len(read_parts(chain.text)) for chain in chains)
    hint = "Of each chain that is learnt, one student learns the questions and one the solutions."
    report_shares(
        "Sub-questions", [Share("sub-questions, of chains", parts, len(chains))], hint=hint
    )
