"""Supervised training against TRL's SFTTrainer: the same checkpoint, rows, loss tokens, rows a step and optimizer.

    python benchmarks/sft.py [CHECKPOINT] [--rows FILE.jsonl] [--json]

FILE has `prompt` and `completion` a line; without one the rows are stories of the built-in world. Both train all
weights in fp32 on the very same token ids, labels included, with 32 rows a step; tokens are those of the rows, prompts
included and padding not. Only the training loop is timed. The runs take turns, so that a busy machine slows both;
`cpu_ratio` is the ratio per second of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from potstill.models.local import checkpoint
from potstill.records import Problem, Trace
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import StudentTrainer
from potstill.world.story import problems

DEFAULT = Path(__file__).resolve().parents[1] / "potstill" / "world" / "checkpoints" / "student"
RATE = 1e-4


def traces(file: Path | None, count: int) -> list[Trace]:
    """The rows to train on."""
    if file is None:
        stories = problems("story", size=count, seed=1, split="bench")
        return [
            Trace(story, story.question, text=story.solution or "", finish_reason="stop")
            for story in stories
        ]
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()][
        :count
    ]
    return [
        Trace(
            Problem(str(i), line["prompt"]),
            line["prompt"],
            text=line["completion"],
            finish_reason="stop",
        )
        for i, line in enumerate(lines)
    ]


def potstill(
    start: Path,
    rows: Sequence[TokenizedRow],
    batch: int,
    folder: Path,
    *,
    sort: bool,
    packing: bool = False,
) -> Any:
    """Our training of one epoch, ready to start."""
    settings = TrainingSettings(
        num_train_epochs=1,
        batch_size=batch,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        group_by_length=sort,
        save_steps=0,
        packing=packing,
    )
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    made = prepare_objective(ObjectiveConfig(), model, packing=packing)
    dataset = TrainingDataset.from_items([(row,) for row in rows])
    return StudentTrainer(model, dataset, settings, folder, None, objective_inputs=made)


def trl(
    start: Path, rows: Sequence[TokenizedRow], batch: int, folder: Path, *, packing: bool = False
) -> Any:
    """TRL's training of one epoch on the same ids and labels, ready to start."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    labels = [np.where(row.is_learnt, row.input_ids, -100).tolist() for row in rows]
    data = Dataset.from_dict(
        {"input_ids": [row.input_ids.tolist() for row in rows], "labels": labels}
    )
    longest, tokens = max(len(row) for row in rows), sum(len(row) for row in rows)
    bins = (
        max(1, round(batch * tokens / len(rows) / longest)) if packing else batch
    )  # as many tokens a step
    args = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=bins, num_train_epochs=1, learning_rate=RATE,
        lr_scheduler_type="constant", max_length=longest if packing else None, packing=packing,
        bf16=False, gradient_checkpointing=False,
        save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    trainer = SFTTrainer(
        model, args, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(start)
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure(start: Path, rows: Sequence[TokenizedRow], batch: int, rounds: int) -> dict[str, Any]:
    """Tokens a second of ours (length-sorted, and in TRL's random order) and TRL's, with their ratios."""
    tokens = sum(len(row) for row in rows)
    makers = {
        "potstill": lambda some, folder: potstill(start, some, batch, folder, sort=True),
        "potstill_unsorted": lambda some, folder: potstill(start, some, batch, folder, sort=False),
        "trl": lambda some, folder: trl(start, some, batch, folder),
        "potstill_packed": lambda some, folder: potstill(
            start, some, batch, folder, sort=False, packing=True
        ),
        "trl_packed": lambda some, folder: trl(start, some, batch, folder, packing=True),
    }
    wall, cpu = dict.fromkeys(makers, 0.0), dict.fromkeys(makers, 0.0)
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        for make in makers.values():
            make(rows[: 2 * batch], Path(folder)).train()  # load what is loaded lazily
        for _ in range(rounds):
            for name in order.sample(list(makers), len(makers)):
                trainer = makers[name](rows, Path(folder))
                began, used = time.perf_counter(), time.process_time()
                trainer.train()
                wall[name] += time.perf_counter() - began
                cpu[name] += time.process_time() - used
    done = tokens * rounds
    return {
        "rows": len(rows), "batch_size": batch, "tokens": tokens, "rounds": rounds, "threads": torch.get_num_threads(),
        **{f"{name}_tokens_per_second": round(done / wall[name], 1) for name in makers},
        **{f"{name}_tokens_per_cpu_second": round(done / cpu[name], 1) for name in makers},
        "ratio": round(wall["trl"] / wall["potstill"], 2),
        "ratio_unsorted": round(wall["trl"] / wall["potstill_unsorted"], 2),
        "ratio_packed": round(wall["trl_packed"] / wall["potstill_packed"], 2),
        "cpu_ratio_packed": round(cpu["trl_packed"] / cpu["potstill_packed"], 2),
        "cpu_ratio": round(cpu["trl"] / cpu["potstill"], 2),
        "cpu_ratio_unsorted": round(cpu["trl"] / cpu["potstill_unsorted"], 2),
    }  # fmt: skip


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--rows", type=Path, help="JSONL with prompt and completion")
    parser.add_argument("--count", type=int, default=640, help="rows at most")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    hf_logging.disable_progress_bar()
    checkpoint.check_checkpoint(given.checkpoint)
    facts = read_chat_template(AutoTokenizer.from_pretrained(given.checkpoint))
    context = checkpoint.read_context(given.checkpoint)
    rows = tokenize_traces(traces(given.rows, given.count), facts, max_length=context).rows
    found = measure(given.checkpoint, rows, given.batch_size, given.rounds)
    if given.json:
        print(json.dumps(found))
        return
    print(
        f"{found['rows']} rows, {found['tokens']} tokens, {given.batch_size} rows a step, {found['threads']} threads"
    )
    for name in ("potstill", "potstill_unsorted", "trl", "potstill_packed", "trl_packed"):
        print(f"  {name:18} {found[f'{name}_tokens_per_second']:8.0f} tokens/s")
    print(f"  ratio to trl       {found['ratio']:8.2f}   (unsorted {found['ratio_unsorted']:.2f}; per CPU second "
          f"{found['cpu_ratio']:.2f} and {found['cpu_ratio_unsorted']:.2f})")  # fmt: skip
    print(
        f"  both packed        {found['ratio_packed']:8.2f}   (per CPU second {found['cpu_ratio_packed']:.2f})"
    )


if __name__ == "__main__":
    main()
