"""Supervised training against TRL's SFTTrainer: the same checkpoint, rows, loss tokens, rows a step and optimizer.

    python benchmarks/sft.py [CHECKPOINT] [--rows FILE.jsonl] [--threads 1] [--json]

FILE has `prompt` and `completion` a line; without one the rows are stories of the built-in world. Both train all
weights in fp32 on the very same token ids, labels included, with 32 rows a step; tokens are those of the rows, prompts
included and padding not. Only the training loop is timed. The runs take turns in random order, and ratios are of CPU
time with one thread: by the clock, a run that other work happens to slow decides them (0.43 once, where CPU time said
1.2). `share` is the rate of the weights' own products, 6 FLOPs a weight and token without embeddings that are looked
up, over that of a large square product on the same threads; padding, softmax and attention are what it lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import numpy as np
import torch
from peers import Timer, product_rate, versions
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


def multiplied_weights(start: Path) -> int:
    """Weights that every token is multiplied by: all but an embedding that is no head too."""
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    count = sum(weight.numel() for weight in model.parameters())
    if not model.config.get_text_config().tie_word_embeddings:
        count -= model.get_input_embeddings().weight.numel()
    return count


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
                with Timer() as timer:
                    trainer.train()
                wall[name] += timer.seconds
                cpu[name] += timer.cpu
    done = tokens * rounds
    peak = product_rate()
    flops = 6 * multiplied_weights(start)
    return {
        "rows": len(rows), "batch_size": batch, "tokens": tokens, "rounds": rounds, "threads": torch.get_num_threads(),
        **{f"{name}_tokens_per_second": round(done / wall[name], 1) for name in makers},
        **{f"{name}_tokens_per_cpu_second": round(done / cpu[name], 1) for name in makers},
        **{f"{name}_share": round(flops * done / cpu[name] / peak, 3) for name in makers},
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    hf_logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    checkpoint.check_checkpoint(given.checkpoint)
    facts = read_chat_template(AutoTokenizer.from_pretrained(given.checkpoint))
    context = checkpoint.read_context(given.checkpoint)
    rows = tokenize_traces(traces(given.rows, given.count), facts, max_length=context).rows
    found = measure(given.checkpoint, rows, given.batch_size, given.rounds)
    if given.json:
        print(json.dumps(found))
        return
    print(versions("torch", "transformers", "trl"))
    print(
        f"{found['rows']} rows, {found['tokens']} tokens, {given.batch_size} rows a step, {found['threads']} thread(s)"
    )
    print("| training | tokens a CPU second | by the clock | share of the peak |")
    print("|---|---|---|---|")
    for name in ("potstill", "potstill_unsorted", "trl", "potstill_packed", "trl_packed"):
        cpu_rate = found[f"{name}_tokens_per_cpu_second"]
        clock_rate, share = found[f"{name}_tokens_per_second"], found[f"{name}_share"]
        print(f"| {name} | {cpu_rate:,.0f} | {clock_rate:,.0f} | {share:.2f} |")
    for name, title in (
        ("", "sorted"),
        ("_unsorted", "in TRL's order"),
        ("_packed", "both packed"),
    ):
        ratio, by_clock = found[f"cpu_ratio{name}"], found[f"ratio{name}"]
        print(
            f"potstill / trl, {title}: {ratio:.2f} times the tokens a CPU second ({by_clock:.2f} by the clock)"
        )


if __name__ == "__main__":
    main()
