"""What holds for every role of `world:oracle`: its prompt is its own, and its answer changes with what it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.models.model import Request
from potstill.records import Prompt
from potstill.traces.prompts import fill_template
from potstill.world.oracle.program import answer_request, choose_role, prompt_text


def ask_role(
    role: str, prompt: Prompt, *, prefix: str = "", sample_index: int = 0, slip_rate: float = 0.0
) -> str:
    """What the oracle answers, in this role and no other, and without slips where none are asked for."""
    assert choose_role(prompt_text(prompt)).name == role
    request = Request(prompt, prefix, sample_index=sample_index)
    completion = answer_request(request, slip_rate)
    assert not completion.error, completion.error
    return completion.text


def assert_answer_depends_on(
    role: str, template: str, values: Mapping[str, str], changes: Mapping[str, str]
) -> None:
    """Fail where the role's answer stays as it is although something else is shown.

    Args:
        role: the role that must recognise the prompt.
        template: the method's own prompt.
        values: what fills it.
        changes: another value for each name on which the answer must depend; one is changed at a time.
    """
    answer = ask_role(role, fill_template(template, values))
    for name, other_value in changes.items():
        other_answer = ask_role(role, fill_template(template, {**values, name: other_value}))
        assert other_answer != answer, f"the {role} answers the same whatever {name} it is shown"
