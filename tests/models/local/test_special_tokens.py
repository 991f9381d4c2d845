"""Which tokens end an answer, found by using the chat template; and a template that prints the date."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.errors import PotstillWarning
from potstill.models.local import checkpoint
from potstill.models.local.chat_template import FIXED_DATE, date_note, render_prompt
from potstill.models.local.special_tokens import SpecialTokens, read_special_tokens
from potstill.records import Message

LOOP = "{% for m in messages %}"
PROMPT = "{% endfor %}{% if add_generation_prompt %}"
CHATML = (
    LOOP
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    + PROMPT
    + "<|im_start|>assistant\n"
)
TEMPLATES = {
    "every turn is closed": CHATML + "{% endif %}",
    "a system turn by default": "<|im_start|>system\nHelp.<|im_end|>\n" + CHATML + "{% endif %}",
    "the last turn stays open": LOOP
    + "<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last or m.role != 'assistant' %}<|im_end|>\n{% endif %}"
    + PROMPT
    + "<|im_start|>assistant\n{% endif %}",
    "the text ends behind the last turn": CHATML + "{% else %}<|endoftext|>{% endif %}",
    "answers alone are closed": LOOP
    + "{{ '<|im_start|>' + m.content if m.role == 'user' else m.content + '<|im_end|>' }}{% endfor %}",
    "a thought is closed apart": LOOP
    + "<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}{{ m.reasoning_content }}<|endoftext|>{% endif %}"
    + "{{ m.content }}{{ '<|im_end|>' if loop.last else '<|endoftext|>' }}\n"
    + PROMPT
    + "<|im_start|>assistant\n{% endif %}",
}


def tokens_of(template: str | None, **tokens: str | None) -> tuple[Any, SpecialTokens]:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return tokenizer, read_special_tokens(tokenizer)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_templates_end_is_the_one_that_closes_an_answer(name: str) -> None:
    tokenizer, tokens = tokens_of(TEMPLATES[name], eos_token="<|endoftext|>")
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert tokens.turn_ends[0] == end
    assert tokens.end_ids == tuple(sorted((end, eos)))


def test_both_ends_of_a_template_end_an_answer() -> None:
    tokenizer, tokens = tokens_of(
        LOOP
        + "<|im_start|>{{ m.content }}{{ '<|endoftext|>' if loop.last else '<|im_end|>' }}{% endfor %}",
        eos_token=None,
    )
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert list(tokens.turn_ends) == ends
    assert set(tokens.end_ids) == set(ends)


@pytest.mark.parametrize(
    "template",
    [
        LOOP + "<|im_start|>{{ m.content }}{% endfor %}",  # a turn's beginning is no end
        LOOP + "{{ m.content | upper }}<|im_end|>{% endfor %}",
        None,
    ],
)
def test_where_the_template_closes_nothing_the_tokenizers_end_is_left(template: str | None) -> None:
    tokenizer, tokens = tokens_of(template, eos_token="<|endoftext|>")
    assert tokens.turn_ends == ()
    assert tokens.end_ids == (tokenizer.eos_token_id,)


def test_the_generation_config_adds_its_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for number, (file, content) in enumerate(
        [("generation_config.json", {"eos_token_id": [7, 9]}), ("config.json", {"eos_token_id": 8})]
    ):
        folder = tmp_path / str(number)
        tiny_tokenizer().save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": 5}))
        (folder / "model.safetensors").touch()
        (folder / file).write_text(json.dumps({"model_type": "qwen2", **content}))
        tokens = read_special_tokens(checkpoint.load_tokenizer(folder))
        declared = content["eos_token_id"]
        assert set(tokens.end_ids) >= set(declared if isinstance(declared, list) else [declared])
        assert 5 not in tokens.end_ids


def test_a_template_that_prints_the_date_gets_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    plain_prompt = render_prompt(tokenizer, "Add 3 and 4.")
    assert date_note(tokenizer) == ""
    tokenizer.chat_template = (
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y, %A') }}{{ strftime_now(format='%-d.%-m.') }}"
        "{% endif %}" + TEMPLATES["every turn is closed"]
    )

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2031, 5, 17)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    day = f"{FIXED_DATE:%d %b %Y, %A%-d.%-m.}"
    assert render_prompt(tokenizer, (Message("user", "Add 3 and 4."),)) == day + plain_prompt
    assert "26 Jul 2024" in date_note(tokenizer)


def test_the_fixed_date_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    (folder / "chat_template.jinja").write_text(
        "{{ strftime_now('%Y') }}" + TEMPLATES["every turn is closed"]
    )
    with pytest.warns(PotstillWarning, match="prints today's date: it gets 26 Jul 2024"):
        checkpoint.load_tokenizer(folder)
