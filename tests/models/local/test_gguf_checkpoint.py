"""A GGUF file is a model: the same weights, tokens and chat template, from a checkpoint that is written once."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from gguf_made import POSITIONS, entry, small_file, text, write_gguf
from tiny import CHATML, tiny_tokenizer

from potstill import models
from potstill.errors import ConfigError, ModelError, PotstillWarning
from potstill.extras import is_installed
from potstill.models import cache_folder
from potstill.models.local import checkpoint, gguf_checkpoint
from potstill.models.model import Request, Sampling
from potstill.runs.sources import checkpoint_of

needs_gguf = pytest.mark.skipif(
    not is_installed("gguf"),
    reason="needs the extra potstill[gguf], which writes and reads the files",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def load_quietly(spec: str) -> models.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PotstillWarning)
        return models.load(spec)


@needs_gguf
def test_a_file_is_the_model_that_was_written(tmp_path: Path) -> None:
    written = write_gguf(tmp_path / "m.gguf")
    with pytest.warns(PotstillWarning, match="m.gguf is written once as a checkpoint"):
        model = models.load(f"transformers:{tmp_path / 'm.gguf'}")
    loaded = model.model.state_dict()
    for name, weight in written.state_dict().items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=0)
    assert model.context == POSITIONS
    assert model.encoder.tokenizer.chat_template == CHATML
    assert model.encoder.tokenizer.eos_token == "<|im_end|>"
    [completion] = model.write(
        [Request("Add 3.", sampling=Sampling(temperature=0, max_new_tokens=4))]
    )
    assert completion.error == "" and completion.tokens.completion

    # A second time it is there; wherever the file lies it is the same model.
    (tmp_path / "moved").mkdir()
    moved = shutil.move(tmp_path / "m.gguf", tmp_path / "moved" / "n.gguf")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PotstillWarning)
        again = models.load(f"transformers:{moved}")
    assert (again.id, again.weights) == (model.id, model.weights)
    assert checkpoint_of(f"transformers:{moved}") == model.weights


@needs_gguf
@pytest.mark.parametrize(
    ("cut", "tokens"),
    [
        ("smollm", ["Ġ", "1", "9", "Ġ", "Ġ", "1", "4"]),  # each digit alone
        ("gpt-2", ["Ġ19", "Ġ", "Ġ14"]),
    ],
)
def test_texts_are_cut_as_the_file_says(cut: str, tokens: list[str], tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", cut=cut)
    tokenizer = checkpoint.load_tokenizer(
        load_quietly(f"transformers:{tmp_path / 'm.gguf'}").weights
    )
    assert tokenizer.tokenize(" 19  14") == tokens
    if cut == "gpt-2":
        text = "Ned has 19 shells.  19 - 14 = 5. <|im_end|>"
        assert tokenizer.encode(text) == tiny_tokenizer().encode(text)


@needs_gguf
def test_a_cut_that_is_not_known_is_said(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", cut="no-such-cut")
    with pytest.warns(
        PotstillWarning, match="cuts texts as 'no-such-cut', which is not known here"
    ):
        models.load(f"transformers:{tmp_path / 'm.gguf'}")


@needs_gguf
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"without": "blk.1.ffn_up.weight"}, "weights, and the file has"),
        ({"block_count": 1 << 30}, "1073741824 layers, and 20 tensors"),
        ({"feed_forward_length": 1 << 30}, "weights, and the file has"),
        ({"feed_forward_length": 48}, "mlp.*have another shape|another shape"),
        ({"attention.head_count": 0}, "can't be read by transformers"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    fault: dict[str, object], message: str, tmp_path: Path, cache: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", **fault)
    with pytest.raises(ModelError, match=message) as refusal:
        load_quietly(f"transformers:{tmp_path / 'm.gguf'}")
    assert refusal.value.fix
    assert list((cache / "gguf").iterdir()) == []


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(small_file(entry("general.architecture", 8, text("llama"))))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"pip install 'potstill\[gguf\]'"):
        models.load(f"transformers:{tmp_path / 'm.gguf'}")
    assert checkpoint_of(f"transformers:{tmp_path / 'm.gguf'}") is None


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").touch()
    with pytest.raises(ModelError, match=r"nearest: +model-q4.gguf"):
        models.load(f"transformers:{tmp_path / 'model-q8.gguf'}")


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(small_file())
    monkeypatch.setattr(gguf_checkpoint, "DISK_MARGIN", 1 << 60)
    with pytest.raises(ModelError, match="GB are free on the disk"):
        gguf_checkpoint.write_checkpoint(tmp_path / "m.gguf", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
