"""The template writer: shown a reference solution, it rewrites it as a thought template, without solving anything.

It believes the reference, also a wrong one. It may slip in one step; shown its last version with an inspector's faults
it mends the step that they name.
"""

from __future__ import annotations

import re

from potstill.verifiers.story import Equation
from potstill.world.oracle.role import Role, RoleInput
from potstill.world.oracle.stepped import Form, asked_form, need_reference, revise_draft
from potstill.world.story import careful_steps, near_miss, write_equation

RECIPE = "Take the events in their order. Keep the total after each."
HARD_OPERAND = 10  # from which on a sum is hard


def write_template(role_input: RoleInput) -> str:
    """The reference solution in the form that the prompt asks for."""
    reference = need_reference(role_input.prompt)
    revised = revise_draft(role_input.prompt, reference.equations, reference.answer)
    if revised is not None:
        return revised
    equations = list(reference.equations)
    if role_input.rng.random() < role_input.slip_rate:
        place = role_input.rng.randrange(len(equations))
        wrong_result = near_miss(equations[place].result, role_input.rng)
        equations[place] = equations[place]._replace(result=wrong_result)
    form = asked_form(role_input.prompt)
    if form.flat:
        sentences = " ".join(write_equation(equation) for equation in equations)
        return f"{sentences} The answer is \\boxed{{{reference.answer}}}."
    text = ""
    for number, equation in enumerate(equations, 1):
        text += form.step(number, write_step(equation, form))
    if form.generalized:
        text += form.part("Generalized", RECIPE) + "\n"
    return text + form.part("Answer", f"\\boxed{{{reference.answer}}}")


def write_step(equation: Equation, form: Form) -> str:
    """A step: its equation, with an explanation in small steps where it is hard and the form has keys."""
    is_hard = equation.op in "*/" or equation.right >= HARD_OPERAND
    if not form.key or not is_hard:
        return write_equation(equation)
    if form.xml:
        return f"{form.part('Key', careful_steps(equation))}\n{write_equation(equation)}"
    # Without tags a key goes on to the end of its step.
    return f"{write_equation(equation)}\nKey:\n{careful_steps(equation)}"


ROLE = Role(
    "template_writer",
    re.compile(r"^Rewrite the reference solution", re.MULTILINE),
    write_template,
)
