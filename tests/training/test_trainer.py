"""The loop's own dice; what it learns is asked in test_supervised and test_training_objectives."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows
from rolling import dataset_of
from transformers import AutoTokenizer

from potstill.training import checkpoint, distributed
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.trainer import StudentTrainer, step_records


def losses(start, folder, dropout):
    settings = TrainingSettings(
        max_steps=3,
        batch_size=4,
        learning_rate=1e-2,
        warmup_steps=0,
        lora=LoraSettings(r=4, lora_dropout=dropout),
        save_steps=0,
    )
    torch.manual_seed(0)
    template = read_chat_template(AutoTokenizer.from_pretrained(start))
    loop = StudentTrainer(
        checkpoint.load_student(start, settings),
        dataset_of(rows(), template),
        settings,
        folder,
        None,
    )
    loop.train()
    return [step["loss"] for step in step_records(loop.state)]


@pytest.mark.slow
def test_each_process_drops_out_by_dice_of_its_own(tiny_checkpoint, tmp_path, monkeypatch):
    """The same rows in both, so what differs is what was dropped."""
    plain, first = (losses(tiny_checkpoint, tmp_path, dropout) for dropout in (0.0, 0.3))
    assert first != plain
    monkeypatch.setattr(distributed, "process_rank", lambda: 1)
    assert losses(tiny_checkpoint, tmp_path, 0.0) == plain
    assert losses(tiny_checkpoint, tmp_path, 0.3) != first
