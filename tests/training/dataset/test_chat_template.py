"""What a chat template is found to do: where it refuses, or changes what the assistant says, training says so."""

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.errors import ModelError
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
