"""An on-policy distillation step: ours beside TRL's stable DistillationTrainer, on the same tiny student and teacher.

    python benchmarks/on_policy.py [--batch-size 16] [--steps 10] [--max-new-tokens 96] [--threads 1] [--json]

Both write one completion a prompt at temperature 1, of at most so many tokens, and learn the reverse KL over the whole
vocabulary (`beta=1`) of what they wrote, in float32, with AdamW at the same rate: the same prompts, lengths and rows a
step. Tokens are those of prompts and completions, padding not; each side draws its own. Sides run in processes of their
own that take turns; rates are of CPU time. Shares are of the same time: `rollouts` is all that writes completions,
`teacher` the teacher's forward passes, `loss` the rest: the student's passes, the divergence, the optimizer, the loop.
Ours evaluates the student before its first step and behind its last, which TRL's does not: that is left out, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from peers import Timer, run_alone, versions

CHECKPOINTS = Path(__file__).resolve().parents[1] / "potstill" / "world" / "checkpoints"
LEARNING_RATE = 1e-5
WARM_UP_STEPS = 1
SIDES = ("potstill", "trl")


def main() -> None:
    args = arguments()
    if args.side:
        print(json.dumps(measure(args)))
        return
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(args.repeat):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            runs[side].append(run_alone(__file__, [*command_line(args), "--side", side]))
    totals = {side: add_up(found) for side, found in runs.items()}
    ratio = totals["potstill"]["tokens_per_cpu_second"] / totals["trl"]["tokens_per_cpu_second"]
    if args.json:
        print(json.dumps({**vars(args), "versions": versions(), **totals, "cpu_ratio": ratio}))
        return
    print(versions("torch", "transformers", "trl"))
    print(
        f"{args.batch_size} prompts a step, at most {args.max_new_tokens} new tokens, {args.steps} steps, "
        f"{args.threads} thread(s)"
    )
    print("| side | tokens a CPU second | by the clock | rollouts | teacher | loss |")
    print("|---|---|---|---|---|---|")
    for side, total in totals.items():
        rates = f"{total['tokens_per_cpu_second']:,.0f} | {total['tokens_per_second']:,.0f}"
        shares = " | ".join(
            f"{100 * total[part]:.0f} %" for part in ("rollouts", "teacher", "loss")
        )
        print(f"| {side} | {rates} | {shares} |")
    print(f"potstill / trl: {ratio:.2f} times the tokens a CPU second")
    evaluation = sum(run["evaluation"] for run in runs["potstill"])
    print(f"beside that potstill evaluated its student, for {evaluation:.1f} s of CPU time in all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", type=Path, default=CHECKPOINTS / "student")
    parser.add_argument("--teacher", type=Path, default=CHECKPOINTS / "teacher")
    parser.add_argument("--batch-size", type=int, default=16, help="prompts a step (16)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=2, help="processes of each (2)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def command_line(args: argparse.Namespace) -> list[str]:
    """The arguments of a process that measures one side."""
    words = []
    for name in ("student", "teacher", "batch_size", "steps", "max_new_tokens", "threads"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return words


def add_up(runs: list[dict[str, float]]) -> dict[str, float]:
    """Rates and shares of all runs of a side."""
    total = {key: sum(run[key] for run in runs) for key in runs[0]}
    shares = {part: total[part] / total["cpu"] for part in ("rollouts", "teacher")}
    return {
        "tokens_per_cpu_second": total["tokens"] / total["cpu"],
        "tokens_per_second": total["tokens"] / total["seconds"],
        **shares,
        "loss": 1 - sum(shares.values()),
    }


def measure(args: argparse.Namespace) -> dict[str, float]:
    """A training of one side in this process, behind a short one that loads what is loaded lazily."""
    import torch
    from transformers.utils import logging

    from potstill.world.story import problems

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    count = args.batch_size * args.steps
    questions = [problem.question for problem in problems("story", size=count, seed=1)]
    train = {"potstill": train_potstill, "trl": train_trl}[args.side]
    with tempfile.TemporaryDirectory() as folder:
        for number, steps in enumerate((WARM_UP_STEPS, args.steps)):
            parts = Parts()
            train(args, questions[: args.batch_size * steps], Path(folder) / str(number), parts)
    return {
        "tokens": parts.tokens,
        "seconds": parts.whole.seconds - parts.evaluation.seconds,
        "cpu": parts.whole.cpu - parts.evaluation.cpu,
        "rollouts": parts.rollouts.cpu,
        "teacher": parts.teacher.cpu,
        "evaluation": parts.evaluation.cpu,
    }


class Parts:
    """What a training spends its time on, and the tokens that it had."""

    def __init__(self) -> None:
        self.whole, self.rollouts, self.teacher = Timer(), Timer(), Timer()
        self.evaluation = Timer()
        self.is_evaluating = False
        self.tokens = 0

    def watch_teacher(self, teacher: Any) -> None:
        """Count the forward passes of its layers, but for those of an evaluation."""

        def begin(*_: Any) -> None:
            if not self.is_evaluating:
                self.teacher.__enter__()

        def end(*_: Any) -> None:
            if not self.is_evaluating:
                self.teacher.__exit__()

        teacher.model.register_forward_pre_hook(begin)
        teacher.model.register_forward_hook(end)


def train_potstill(
    args: argparse.Namespace, questions: list[str], folder: Path, parts: Parts
) -> None:
    """Our training, as `potstill train` makes it."""
    from potstill.records import Problem, blank
    from potstill.training.fit import fit
    from potstill.training.objective_config import ObjectiveConfig
    from potstill.training.rollout.rollouts import Rollouts
    from potstill.training.settings import TrainingSettings
    from potstill.training.trainer import StudentTrainer

    settings = TrainingSettings(
        num_train_epochs=1,
        batch_size=args.batch_size,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        save_steps=0,
        threads=args.threads,
    )
    config = ObjectiveConfig(
        "reverse_kl",
        teacher=args.teacher,
        on_policy_fraction=1,
        max_new_tokens=args.max_new_tokens,
    )
    rows = [blank(Problem(f"p{number}", question)) for number, question in enumerate(questions)]
    train, roll_out = StudentTrainer.train, Rollouts._roll_out
    evaluate = StudentTrainer._evaluate_student

    def timed_train(trainer: Any, *arguments: Any, **keywords: Any) -> Any:
        parts.watch_teacher(trainer.objective_inputs.local_teacher)
        with parts.whole:
            return train(trainer, *arguments, **keywords)

    def timed_roll_out(rollouts: Any, *arguments: Any) -> Any:
        with parts.rollouts:
            return roll_out(rollouts, *arguments)

    def timed_evaluation(trainer: Any) -> Any:
        parts.is_evaluating = True
        with parts.evaluation:
            values = evaluate(trainer)
        parts.is_evaluating = False
        return values

    StudentTrainer.train, Rollouts._roll_out = timed_train, timed_roll_out
    StudentTrainer._evaluate_student = timed_evaluation
    try:
        result = fit(rows, args.student, folder, settings, config=config)
    finally:
        StudentTrainer.train, Rollouts._roll_out = train, roll_out
        StudentTrainer._evaluate_student = evaluate
    parts.tokens = result.tokens


def train_trl(args: argparse.Namespace, questions: list[str], folder: Path, parts: Parts) -> None:
    """TRL's training, by its own defaults where they change no result."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import DistillationConfig, DistillationTrainer

    settings = DistillationConfig(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=args.batch_size,
        gradient_accumulation_steps=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_completion_length=args.max_new_tokens,
        temperature=1.0,
        beta=1.0,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=True,
    )
    models = []
    for path in (args.student, args.teacher):
        models.append(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32))
    prompts = [[{"role": "user", "content": question}] for question in questions]
    trainer = DistillationTrainer(
        model=models[0],
        teacher_model=models[1],
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(args.student),
    )
    trainer.remove_callback(PrinterCallback)
    parts.watch_teacher(trainer.accelerator.unwrap_model(trainer.teacher_model))
    generate = trainer._generate_single_turn

    def timed_generate(prompt_ids: list[list[int]], *others: Any) -> Any:
        with parts.rollouts:
            completions = generate(prompt_ids, *others)
        parts.tokens += sum(len(ids) for ids in [*prompt_ids, *completions])
        return completions

    trainer._generate_single_turn = timed_generate
    with parts.whole:
        trainer.train()


if __name__ == "__main__":
    main()
