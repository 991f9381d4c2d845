"""LLMQuoter: a student learns to quote what bears on a question, and an untrained reader answers from the quotes alone.

The paper was read in excerpts, the released code whole.

| constant | value | source |
|---|---|---|
| the teacher sees | question, context and gold answer | paper; released code |
| the learner sees | question and context | paper; released code |
| temperature of the teacher and of the quoter | 0 | released code |
| form of a quote | `##begin_quote## … ##end_quote##`, nothing else | released code |
| questions | 15,000 of HotpotQA, 4 % of them held out | paper; left to the recipe |
| training: LoRA on a model of 3B | | paper; rank, rate and epochs were not read |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.choices import with_choices
from potstill.methods.replies import reply_alone
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    count_reading,
    edit,
    fill_template,
    is_finished,
    keep,
    pose,
    report_shares,
    sample,
    share_of,
)

COPY = """\
Copy from the context the passages that support the answer to the question, word for word. Write each of them as \
##begin_quote## passage ##end_quote##, and nothing else. Leave out what does not bear on the question.

Question: {question}

Context:
{context}"""
QUOTE = f"{COPY}\n\nQuotes:"
QUOTE_FOR_ANSWER = f"{COPY}\n\nAnswer: {{answer}}\n\nQuotes:"
READ = """\
Answer the question from the text below. At the end write the answer as \\boxed{{answer}}.

Text:
{text}

Question: {question}"""

_QUOTE = re.compile(r"##begin_quote##(.*?)##end_quote##", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]?\s+")


def llmquoter(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    reader: Model | None = None,
    *,
    arm: Literal["quotes", "as-written", "untrained", "full-context"] = "quotes",
    temperature: float = 0.0,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, Any]:
    """LLMQuoter: quotes first, then the answer (Bezerra and Weigang, arXiv:2501.05554).

    f_teacher(question, context, answer) -> quotes; the student learns (question, context) -> quotes; at test time
    f_reader(question, quotes of the student) -> answer.

    Learns from: passages that a teacher, who sees the gold answer, copied from the context of each question.
    Needs: teacher (quotes), student (is trained to quote), [reader] (answers from the quotes; without one the student
        as it was before the training).
    Controls: arm=full-context (the reader sees the whole context, nothing is trained: the paper's comparison),
        untrained (the student quotes as it is), as-written (quotes are learnt whether or not they are copied: the
        check).
    Departure: a problem's context is what stands before the last paragraph of its question, or before the last
        sentence of a single paragraph. A reply is a row where all of its quotes stand in the context and it says
        nothing else; the paper checks nothing. The prompts ask for what the released ones ask for, in words of ours;
        the reader's prompt is inferred. The quoter is sampled at test time like the reader, where the paper's is
        greedy.
    Paper: 14
    Cite: Yuri Facanha Bezerra, Li Weigang: LLMQuoter: Enhancing RAG Capabilities Through Efficient Quote Extraction
        From Large Contexts (2025).

    Args:
        teacher: copies what supports the answer.
        student: a small model.
        reader: any model; it is not trained.
        arm: the method or one of its controls.
        temperature: of the teacher.
        max_new_tokens: longest list of quotes.
    """
    # The model that reads is never the one that the training below returns: that one only quotes.
    reader = reader or student
    if arm == "full-context":
        return partial(answer_from_context, reader)
    if arm == "untrained":
        return partial(answer_from_quotes, student, reader)

    # The teacher is shown the answer, the learner is not.
    problems = keep(has_context, problems)
    replies = sample(
        teacher,
        pose(partial(show_context, QUOTE), problems),
        prompt=partial(show_context, QUOTE_FOR_ANSWER),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    replies = keep(has_quotes, edit(reply_alone, keep(is_finished, replies)))
    # A quote that its context does not hold would teach to make evidence up.
    rows = replies if arm == "as-written" else keep(is_copied, keep(quotes_alone, replies))
    report_quotes(replies, rows)
    student = yield Stage(student, rows, "sft")
    return partial(answer_from_quotes, student, reader)


def answer_from_quotes(
    quoter: Model, reader: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Quote n times for each question, and answer each time from what was quoted."""
    # Nothing is checked here: what the quoter writes is all that the reader sees, as in the paper.
    posed = pose(partial(show_context, QUOTE), problems)
    quotes = edit(reply_alone, sample(quoter, posed, n=n, **sampling))
    return sample(reader, pose(show_quotes, quotes), **sampling)


def answer_from_context(
    reader: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Answer from the whole context, under the same prompt."""
    return sample(reader, pose(show_whole_context, problems), n=n, **sampling)


# Question and context.


def split_question(text: str) -> tuple[str, str]:
    """The context and the question that it ends with; a context without words where there is only a question."""
    # Files put the question in a paragraph of its own; a story ends with it.
    text = text.strip()
    context, _, question = text.rpartition("\n\n")
    if not context:
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        start = ends[-1] if ends else 0
        context, question = text[:start], text[start:]
    return context.strip(), question.strip()


def context_and_question(trace: Any) -> tuple[str, str]:
    """The context of a problem, and its question with the choices where it has any."""
    context, question = split_question(trace.question)
    return context, with_choices(question, trace.problem)


def has_context(trace: Trace) -> tuple[bool, str]:
    """There is something to quote from, and an answer to quote for."""
    if not split_question(trace.question)[0]:
        return False, "no context before its question"
    return trace.problem.answer is not None, "the problem has no gold answer"


def show_context(template: str, trace: Any) -> str:
    """A prompt with the question and its context apart, and the gold answer where the template names it."""
    context, question = context_and_question(trace)
    # Whoever reads the answer from the view has seen gold: it is read only where the template shows it.
    values = {"context": context, "question": question}
    if "{answer}" in template:
        values["answer"] = trace.problem.answer
    return fill_template(template, values)


def show_quotes(trace: Any) -> str:
    """The reader's prompt: what the quoter wrote, and the question."""
    _, question = context_and_question(trace)
    return fill_template(READ, {"text": trace.text.strip(), "question": question})


def show_whole_context(trace: Any) -> str:
    """The reader's prompt without a quoter: the context, and the question."""
    context, question = context_and_question(trace)
    return fill_template(READ, {"text": context, "question": question})


# Tests of the quotes.


def quotes_of(text: str) -> list[str]:
    """What is quoted in a reply, with one blank for each stretch of white space."""
    quotes = [" ".join(quote.split()) for quote in _QUOTE.findall(text)]
    return [quote for quote in quotes if quote]


def has_quotes(trace: Trace) -> tuple[bool, str]:
    """It quotes something, in the form that was asked for."""
    is_readable = bool(quotes_of(trace.text))
    count_reading("quotes", trace.text, "strict" if is_readable else "unparsed")
    return is_readable, "no quote in it"


def quotes_alone(trace: Trace) -> tuple[bool, str]:
    """It says nothing besides its quotes, such as the answer."""
    return not _QUOTE.sub("", trace.text).strip(), "says more than its quotes"


def is_copied(trace: Trace) -> tuple[bool, str]:
    """Each of its quotes stands in the context, word for word."""
    # Line breaks are no part of a quote: models wrap what they copy.
    context = " ".join(split_question(trace.question)[0].split())
    for quote in quotes_of(trace.text):
        if quote not in context:
            return False, f"not in the context: {quote[:60]!r}"
    return True, ""


def report_quotes(replies: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say how many replies only copy, and how much of its context a row keeps."""
    quoted_words = context_words = 0
    for row in rows:
        quoted_words += sum(len(quote.split()) for quote in quotes_of(row.text))
        context_words += len(split_question(row.question)[0].split())
    shares = [
        share_of("replies that only copy", is_copied, replies),
        Share("words of the contexts that are quoted", quoted_words, context_words),
    ]
    report_shares("Quotes", shares, hint="Whatever is not quoted, the reader does not see.")
