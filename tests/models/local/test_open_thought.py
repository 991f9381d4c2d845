"""A template that opens `<think>` itself, and answers that bring their own: the tag comes once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.models.local.prompt import PromptEncoder
from potstill.models.remote.options import ServerOptions
from potstill.models.remote.request import RequestBuilder
from potstill.models.scoring import Passage

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
HEAD = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
THOUGHT = "<think>\nTwo.\n</think>\n\n"


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> PromptEncoder:
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("thinking") / "qwen3")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return PromptEncoder(folder)


def read(encoder: PromptEncoder, ids: list[int]) -> str:
    return str(encoder.tokenizer.decode(ids))


@pytest.mark.parametrize(("answer", "before"), [(THOUGHT, HEAD), ("Two.", f"{HEAD}<think>\n")])
def test_the_tag_comes_once_in_prompts_prefixes_and_passages(
    encoder: PromptEncoder, answer: str, before: str
) -> None:
    assert read(encoder, encoder.encode_prompt("hi", answer)) == before + answer
    ids, start = encoder.encode_passage(Passage("hi", "It is two.", prefix=answer))
    assert read(encoder, ids[:start]) == before + answer
    assert read(encoder, ids[start:]) == "It is two."
    builder = RequestBuilder("m", ServerOptions(url="http://localhost/v1"), encoder)
    assert builder.render_prompt("hi", answer, is_rendered=True) == before
