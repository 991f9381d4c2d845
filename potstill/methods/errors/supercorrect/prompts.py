"""SuperCorrect's prompts: the reference gives their intents and the tags; the wording is ours (inferred)."""

from __future__ import annotations

import re
from typing import Any

from potstill.methods.errors.supercorrect.settings import Settings
from potstill.template import fill_template

# What a part of the template looks like: in tags, and as plain text (the paper's "full template, non-XML").
STEP_RULES = {
    True: "Write the steps as <Step1>…</Step1>, <Step2>…</Step2> and so on.",
    False: "Begin each step with 'Step 1:', 'Step 2:' and so on.",
}
KEY_RULES = {
    True: "Where a step is hard, explain it inside that step in <Key>…</Key>.",
    False: "Where a step is hard, explain it in that step behind 'Key:'.",
}
GENERALIZED_RULES = {
    True: "After the steps say in <Generalized>…</Generalized> how such problems are solved.",
    False: "After the steps say behind 'Generalized:' how such problems are solved.",
}
ANSWER_RULES = {
    True: "End with <Answer>…</Answer>, the final answer in \\boxed{{}} in it.",
    False: "End with 'Answer:' and the final answer in \\boxed{{}}.",
}
CORRECTION_RULES = {
    True: "Inside a wrong step, behind its text, give the cause in <Cause>…</Cause> and the right step in "
    "<Correction>…</Correction>.",
    False: "In a wrong step, behind its text, give 'Cause:' and the cause, then 'Correction:' and the right step.",
}

WRITE_TEMPLATE = """\
Rewrite the reference solution for a student who has to learn from it. Do not solve the problem anew. {rules}

Problem: {{question}}

Reference solution:
{{solution}}"""

WRITE_FLAT = """\
Rewrite the reference solution as one flowing solution, for a student who has to learn from it. Do not solve the \
problem anew. Put the final answer in \\boxed{{}}.

Problem: {question}

Reference solution:
{solution}"""

SOLVE = "Solve it in steps that a weaker classmate can follow."

CORRECT_GROUNDED = """\
A student's solution is wrong. Compare it with the reference solution. Restate its steps, evaluate each, and go on \
from a wrong one as it should be. {rules} Do not mention the reference solution.

Problem: {{question}}

Reference solution:
{{solution}}

The student's solution:
{{text}}"""

CORRECT_ALONE = """\
A student's solution is wrong. Restate its steps, evaluate each, and go on from a wrong one as it should be. {rules}

Problem: {{question}}

The student's solution:
{{text}}"""

INSPECT = """\
Inspect a solution: compare it with the problem and the reference solution. Begin your answer with Yes or No: \
Yes where every step and the final answer is right. Then say which step is wrong, and why.

Problem: {question}

Reference solution:
{solution}

Solution to inspect:
{text}"""

INSPECT_CORRECTION = """\
Inspect the correction of a student's solution: compare it with the problem and the reference solution. Begin your \
answer with Yes or No: Yes where it finds the first wrong step, names the right cause and corrects it. Then say which \
step is wrong, and why.

Problem: {question}

Reference solution:
{solution}

Correction to inspect:
{text}"""

# Goes behind the prompt that a text was written for, with what the inspector said of it.
REVISE = """\


Your last version:
{text}

An inspector finds faults in it. Write the whole text again without them.
Faults: {faults}"""

# A target that speaks of what only its writer saw is not self-contained.
LEAKS = re.compile(
    r"\b(?:references?|(?:given|provided|official|standard) solution|ground truth|answer key)\b",
    re.IGNORECASE,
)


def template_rules(settings: Settings) -> str:
    """What a solution in the thought template must look like."""
    rules = [STEP_RULES[settings.xml]]
    if settings.key:
        rules.append(KEY_RULES[settings.xml])
    if settings.generalized:
        rules.append(GENERALIZED_RULES[settings.xml])
    rules.append(ANSWER_RULES[settings.xml])
    return " ".join(rules)


def correction_rules(settings: Settings) -> str:
    """What a correction must look like."""
    xml = settings.xml
    return " ".join([STEP_RULES[xml], CORRECTION_RULES[xml], ANSWER_RULES[xml]])


def teacher_prompt(settings: Settings) -> str:
    """What the teacher is shown to write a solution from the reference: a template."""
    if not settings.hierarchy:
        return WRITE_FLAT
    return fill_template(WRITE_TEMPLATE, {"rules": template_rules(settings)})


def student_request(settings: Settings) -> str:
    """What the learner is asked for, behind the problem's own prompt; plain text. "" for a flat chain."""
    if not settings.hierarchy:
        return ""
    return f"{SOLVE} {fill_template(template_rules(settings), {})}"


def add_request(request: str, trace: Any) -> Any:
    """The prompt of a problem with the request behind what the user says last: a prompt function."""
    if isinstance(trace.prompt, str):
        return f"{trace.prompt}\n\n{request}"
    *earlier_turns, (role, content) = trace.prompt
    return [*earlier_turns, (role, f"{content}\n\n{request}")]


def correction_prompt(settings: Settings, *, grounded: bool) -> str:
    """What a corrector is shown of a wrong solution, with or without the reference: a template."""
    template = CORRECT_GROUNDED if grounded else CORRECT_ALONE
    return fill_template(template, {"rules": correction_rules(settings)})


def revision_prompt(template: str, trace: Any, attempts: Any = ()) -> str:
    """The prompt that a text was written for, with the text and its faults behind it: a prompt function.

    Args:
        template: of the first version.
        trace: a view of the text, its faults in `scores["faults"]`.
        attempts: views of the wrong solution that the text corrects, where it is a correction.
    """
    first_text = attempts[0].text if attempts else ""
    fields = {
        "question": trace.problem.question,
        "solution": trace.problem.solution or "",
        "text": first_text,
    }
    revision = fill_template(REVISE, {"text": trace.text, "faults": str(trace.scores["faults"])})
    return fill_template(template, fields) + revision


def alone_prompt(template: str, trace: Any, attempts: Any) -> str:
    """The correction prompt of the wrong solution that a text corrects: a prompt function."""
    return fill_template(template, {"question": trace.problem.question, "text": attempts[0].text})
