"""A student is stored only as what it was in memory; a full disk is a message and loses nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
import rolling
from safetensors import SafetensorError
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, StageError
from potstill.training import checkpoint as student
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.fit import fit
from potstill.training.full_disk import explain_full_disk
from potstill.training.settings import LoraSettings, TrainingSettings

ARCHIVE_ERROR = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"


def rows_of(template):
    return tokenize_traces(rolling.traces(), template, max_length=512).rows


def test_the_student_on_disk_is_compared_with_the_one_in_memory(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model, template = rolling.load(tiny_checkpoint)
    out, draft, settings = tmp_path / "out", tmp_path / "draft", TrainingSettings()
    out.mkdir()
    stored = {"draft": draft, "rows": rows_of(template)}
    student.store_student(model, tiny_checkpoint, out, template, settings, **stored)
    assert (out / "model.safetensors").is_file() and not draft.exists()

    batch = student.probe_batch(stored["rows"])
    loss = student.mean_loss(model, batch)
    student.check_stored_loss(out, batch, loss, model.device)
    for other in (loss + 0.1, float("nan")):
        with pytest.raises(StageError, match="not the trained one"):
            student.check_stored_loss(out, batch, other, model.device)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_student_that_merging_changes_is_not_stored(
    target: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "_refuse_adapted_tied_head", lambda model: None)
    lora = LoraSettings(r=8, target_modules=(target,))
    settings = TrainingSettings(max_steps=20, learning_rate=0.05, lora=lora, threads=1)
    with pytest.raises(StageError, match="the stored student is not the trained one"):
        fit(rolling.traces(), tiny_checkpoint, tmp_path / "out", settings)
    assert not (tmp_path / "out" / "fit.json").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("targets", [("lm_head",), ("q_proj", "lm_head"), ("embed_tokens",)])
def test_adapters_on_a_matrix_that_is_head_and_embedding_are_refused(
    targets: tuple[str, ...], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    settings = TrainingSettings(lora=LoraSettings(r=2, target_modules=targets))
    with pytest.raises(ConfigError, match=f"{targets[-1]}; head and embedding"):
        student.load_student(tiny_checkpoint, settings)
    untied = make_checkpoint(tmp_path / "untied", tie_word_embeddings=False)
    student.load_student(untied, settings)


def test_one_name_of_a_layer_is_no_pattern(tiny_checkpoint: Path) -> None:
    settings = TrainingSettings(lora=LoraSettings(r=2, target_modules="q_proj"))
    model = student.load_student(tiny_checkpoint, settings)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained and all(".q_proj.lora_" in name for name in trained)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
        RuntimeError(ARCHIVE_ERROR),
    ],
)
def test_a_full_disk_is_a_message(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(StageError, match="no space left") as message,
        explain_full_disk(tmp_path / "out", "run it again"),
    ):
        raise error
    assert "MiB are free" in message.value.found and "run it again" in message.value.fix


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), PermissionError(13, "no")])
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), explain_full_disk(tmp_path, ""):
        raise error


@pytest.mark.slow
def test_a_training_goes_on_after_a_full_disk(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(max_steps=4, batch_size=2, save_steps=1, threads=1)
    fit(rolling.traces(), tiny_checkpoint, tmp_path / "undisturbed", settings)
    out, save, saved = tmp_path / "out", torch.save, []

    def save_until_full(state, path, *args, **kwargs):
        saved.append(path)
        if len(saved) > 8:
            Path(path).write_bytes(b"half")
            raise RuntimeError(ARCHIVE_ERROR)
        save(state, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_until_full)
        with pytest.raises(StageError, match="no space left"):
            fit(rolling.traces(), tiny_checkpoint, out, settings)
    checkpoints = sorted((out / "training").glob("checkpoint-*"))
    assert checkpoints and all((folder / "complete").is_file() for folder in checkpoints)
    fit(rolling.traces(), tiny_checkpoint, out, settings)
    assert rolling.weights(out) == rolling.weights(tmp_path / "undisturbed")
