"""What a chat template is found to do: where it refuses, or changes what the assistant says, training says so."""

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.errors import ModelError
from potstill.models.local.chat_template import render_prompt
from potstill.records import Message
from potstill.training.dataset.chat_template import read_chat_template

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def made(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return read_chat_template(tokenizer)


def test_a_template_that_refuses_a_role_is_named():
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + TURNS
    )
    with pytest.raises(ModelError) as error:
        made(refusing).render_prompt((Message("system", "Be brief."), Message("user", "Hi")))
    assert "system, user" in error.value.found and "no system role" in error.value.found
    with pytest.raises(ModelError):
        made("{{ raise_exception('boom') }}")


@pytest.mark.parametrize(
    "changing", [TURNS.replace("m.content", "m.content | upper"), "<|im_start|>user\n<|im_end|>"]
)
def test_a_template_that_changes_what_the_assistant_says_is_refused(changing):
    """The token after the assistant's text ends a turn; without that text any token would pass for it."""
    with pytest.raises(ModelError, match="leaves out or changes"):
        made(changing)


@pytest.mark.parametrize("template", ["hello", TURNS.replace("m.content", "m.content | upper")])
def test_a_template_that_hides_the_question_is_refused(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match="leaves out or changes what the user says"):
        render_prompt(tokenizer, "What is 3 plus 4?")


def test_blanks_are_the_templates_business():
    template = TURNS.replace("m.content", r"m.content.replace('\n\n', '\n') | trim")
    rendered = made(template).render_prompt(" Add:\n\n3 and 4. ")
    assert "user\nAdd:\n3 and 4.<|im_end|>" in rendered
