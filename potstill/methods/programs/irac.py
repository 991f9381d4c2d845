"""IRAC: explanations are restructured into named parts, and a few questions of each domain are learnt with them.

| constant | value | source |
|---|---|---|
| parts of an explanation | concept, facts, application, conclusion | released code, `distill_dataset.py` |
| teacher: temperature, longest reply | 0.2, 1,024 | released code, `data_distill_config.yaml` |
| worked examples that the teacher sees | 1 | released code; here none |
| questions of a domain | 20; also 1, 10, 75, 125 and all, of seven domains | paper, abstract; released configurations |
| order and form of an answer | 2 orders, 3 forms | released prompts; which is the default is our choice |
| training: rate, epochs, batch | 1e-4 cosine with restarts, 15 (its settings: 10), 8 | code; left to the recipe |
| adapter | QLoRA, rank 64, alpha 32, dropout 0.05 | released code; left to the recipe |
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.metadata import require_metadata
from potstill.methods.gold_solutions import judge_solutions
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    Share,
    best,
    by_chance,
    by_metadata,
    edit,
    is_finished,
    keep,
    keep_reasoned,
    note,
    pose,
    prompt_text,
    read_sections,
    report_shares,
    rewrite,
    right,
    solve_posed,
    verify,
)


class Part(NamedTuple):
    """A part of an answer: its name, and its text, or what stands there."""

    name: str
    text: str


# The parts of an explanation in the order of an answer, by the tags that the teacher writes.
PARTS: Mapping[str, Part] = {
    "concept": Part("Legal Concept", "the principle or doctrine at the heart of the question"),
    "facts": Part("Fact Analysis", "the facts of the question that matter"),
    "application": Part("Rule Application", "how the principle applies to these facts"),
    "conclusion": Part("Legal Conclusion", "why the chosen answer is the right one"),
}
EXPLANATION = Part("Explanation", "why the chosen answer is the right one")
DOMAIN = Part("Domain", "the field that the question belongs to")
ANSWER = Part("Answer", "the chosen answer, in \\boxed{}")

# The wording is ours. The paper's asks for the parts as JSON and enforces the schema.
RESTRUCTURE = """\
Restructure the explanation of an answer into four parts:
<concept>the principle or doctrine that it rests on, in brief</concept>
<facts>the facts of the question that matter to it</facts>
<application>how the rule applies to these facts, in detail</application>
<conclusion>what follows, and that the right answer is therefore the right one</conclusion>

Reorganise what the explanation says. Bring in nothing new, and do not depart from what it means.

Question: {question}
{choices}
Right answer: {answer}

Explanation:
{solution}

Write the four parts with their tags, and nothing else."""

PARAGRAPH = "\n\n"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How an answer is written, which the learner's prompt describes.

    Args:
        order: whether it begins with its explanation or with what it chooses.
        layout: its parts as a numbered list, under headings, or as a JSON object.
        example: show the learner one more question of the data with its answer.
    """

    order: Literal["explanation-first", "answer-first"] = "explanation-first"
    layout: Literal["numbered", "markdown", "json"] = "numbered"
    example: bool = False


def irac(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["irac", "unstructured"] = "irac",
    form: AnswerForm = AnswerForm(),
    domain: str = "",
    per_domain: int = 20,
    temperature: float = 0.2,
    max_new_tokens: int = 1024,
    gate: ReferenceGate = ReferenceGate(),
) -> Generator[Stage, Trainable, Any]:
    """IRAC: explanations in named parts, a few of each domain (Fernandes et al., arXiv:2504.04945).

    Rows: (x, form) -> domain, concept, facts, application, conclusion and gold answer.

    Learns from: the problems' own explanations, restructured by a teacher, with their gold answers.
    Needs: teacher (restructures explanations), student (is trained).
    Controls: arm=unstructured (the explanations as they are: the paper's comparison), form.order=answer-first (the
        answer before its explanation), form.layout=markdown (headings), form.layout=json (an object), form.example (a
        worked example in the learner's prompt), per_domain (how many questions are enough).
    Departure: the paper's text was read as an abstract and a summary, its released code and data as they are. The
        teacher is shown no worked example and writes tags, not JSON under a schema. Parts that say much less than the
        explanation are no row. The answer stands in a box, so that every verifier reads it. Where the problems' domain
        is not named (--set domain=NAME of metadata) they are of one domain, and no answer says which.
    Paper: 40
    Cite: Rean Fernandes, André Biedenkapp, Frank Hutter, Noor Awad: A Llama walks into the 'Bar': Efficient Supervised
        Fine-Tuning for Legal Reasoning in the Multi-state Bar Exam (2025).

    Args:
        teacher: is shown question, answer and explanation; Llama 3 70B in the paper.
        arm: the method or its control.
        form: of an answer.
        domain: metadata that name a problem's domain, such as "domain"; empty is one domain for all.
        per_domain: questions of each domain, by chance; 0 is all.
        temperature: of the teacher.
        max_new_tokens: of the teacher; a reply that is cut there is no row.
        gate: what restructured parts must show of the explanation.
    """
    # A few questions of each domain, with their explanations.
    by_domain = by_metadata(domain) if domain else None
    if domain:
        require_metadata([domain], [trace.problem for trace in problems], needed_by="irac")
    explained = judge_solutions("irac", problems)
    if per_domain:
        explained = best(by_chance, explained, by=by_domain, k=per_domain)

    # Each as paragraphs: one of the explanation, or one a part.
    if arm == "unstructured":
        explanations = edit(join_lines, explained)
    else:
        replies = rewrite(
            teacher,
            explained,
            prompt=RESTRUCTURE,
            guard=False,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
        )
        restructured = edit(write_paragraphs, keep(is_finished, replies))
        explanations = keep_reasoned(restructured, gate=gate)
        report_restructured(explained, restructured, explanations)

    # The whole answers, in the form that their prompt describes.
    parts = named_parts(form, has_domain=bool(domain), is_structured=arm == "irac")
    write_answer = partial(write_response, form, parts, domain)
    answers = keep(right, verify(edit(write_answer, explanations)))
    worked_example = ""
    if form.example and answers:
        # One question is every prompt's example, and so no row.
        first = max(answers, key=by_chance)
        answers.remove(first)
        note(f"irac: problem {first.problem.id!r} is the worked example, and no row")
        worked_example = (
            f"Question: {first.problem.question}\n{first.problem.lettered_choices}\n\n{first.text}"
        )
    prompt = partial(show_form, describe_form(form, parts), worked_example)
    student = yield Stage(student, pose(prompt, answers, keep_text=True), "sft")
    return partial(solve_posed, student, prompt)


def join_lines(trace: Any) -> str:
    """A text as one paragraph."""
    return " ".join(trace.text.split())


def write_paragraphs(trace: Any) -> str | None:
    """A paragraph a part of the teacher's reply; None where one is missing."""
    sections = read_sections(trace.text, list(PARTS))
    if sections is None:
        return None
    return PARAGRAPH.join(" ".join(section.split()) for section in sections.values())


def named_parts(form: AnswerForm, *, has_domain: bool, is_structured: bool) -> list[Part]:
    """What an answer consists of, in its order."""
    explanation = list(PARTS.values()) if is_structured else [EXPLANATION]
    beginning = [DOMAIN] if has_domain else []
    if form.order == "answer-first":
        return [*beginning, ANSWER, *explanation]
    return [*beginning, *explanation, ANSWER]


def write_response(form: AnswerForm, parts: Sequence[Part], domain: str, trace: Any) -> str | None:
    """A whole answer around the paragraphs of its explanation; None for a problem without a gold answer."""
    if not trace.problem.answer:
        return None
    # The explanation's paragraphs are its parts, in their order; domain and answer are the problem's.
    paragraphs = iter(trace.text.split(PARAGRAPH))
    filled: list[Part] = []
    for part in parts:
        if part == DOMAIN:
            text = str(by_metadata(domain)(trace))
        elif part == ANSWER:
            text = f"\\boxed{{{trace.problem.answer}}}"
        else:
            text = next(paragraphs)
        filled.append(Part(part.name, text))
    return fill_form(form, filled)


def fill_form(form: AnswerForm, parts: Sequence[Part]) -> str:
    """Parts as a numbered list, under headings, or as a JSON object."""
    # A key of an object has no blanks, as in the released prompts.
    if form.layout == "json":
        return json.dumps({part.name.replace(" ", "_"): part.text for part in parts}, indent=2)
    if form.layout == "markdown":
        return PARAGRAPH.join(f"## {part.name}\n{part.text}" for part in parts)
    return "\n".join(f"{number}. {part.name}: {part.text}" for number, part in enumerate(parts, 1))


def describe_form(form: AnswerForm, parts: Sequence[Part]) -> str:
    """What the learner is told of the form of its answer."""
    return f"Answer the question in this form:\n\n{fill_form(form, parts)}"


def show_form(instruction: str, example: str, trace: Any) -> str:
    """What the learner sees: the form of its answer, an example where there is one, and the problem."""
    sections = [instruction, prompt_text(trace)]
    if example:
        sections.insert(1, f"Example:\n{example}\n\nNow your question.")
    return PARAGRAPH.join(sections)


def report_restructured(
    explained: Sequence[Trace], restructured: Sequence[Trace], explanations: Sequence[Trace]
) -> None:
    """Say how many explanations came back in four parts, and how many of those say enough."""
    shares = [
        Share("in four parts", len(restructured), len(explained)),
        Share("that say enough", len(explanations), len(restructured)),
    ]
    report_shares("Explanations", shares, hint="Of those that the teacher was shown.")
