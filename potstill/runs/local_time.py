"""How long models on this machine take: by what the run's folder has measured, or by a short probe; always a range.

A rate is in tokens a second: those that a model writes, and those that a training reads. What stands in a store was
measured in whole batches of the real run; a probe is shorter, so its range is between a small and a larger batch.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.models.local.checkpoint import read_context
from potstill.models.model import Model, ReportsRows, Request, Sampling
from potstill.records import Problem, Trace
from potstill.store.database import FILE as STORE_FILE
from potstill.store.store import Store
from potstill.training.memory_estimate import count_steps
from potstill.training.settings import TrainingSettings

LOW_SHARE, HIGH_SHARE = (
    0.1,
    0.9,
)  # of the tokens, that were written at lower rates than the range's ends
PROBE_ROWS = (4, 32)  # rows of the two batches of a probe
PROBE_PROMPTS = 8  # different ones among them
PROBE_NEW_TOKENS = 24
PROBE_STEPS = 3  # of a training; the first sets libraries up and is not counted
PROBE_STEP_TOKENS = 512
PROBE_LEARNING_RATE = 1e-9  # made-up rows are far from what a student knows: it must not run away
# Two trainings of equal values here go through as many tokens a second.
SPEED_SETTINGS = (
    "batch_size",
    "batch_tokens",
    "bf16",
    "gradient_checkpointing",
    "lora",
    "optimizer",
    "packing",
    "threads",
)
HOW_TO_MEASURE_CALLS = "--probe lets it write for some seconds, --pilot 20 asks it 20 problems"
HOW_TO_MEASURE_TRAINING = "--probe trains it for a few short steps"


class Range(NamedTuple):
    """The ends of a range: of rates in tokens a second, or of seconds."""

    low: float
    high: float


def is_here(model: Model) -> bool:
    """Whether a model writes in this process, and takes its time."""
    return isinstance(model, ReportsRows)


def seconds_for(tokens: float, rate: Range) -> Range:
    """How long so many tokens take."""
    return Range(tokens / rate.high, tokens / rate.low)


def rates_in_store(folder: Path, model_ids: Sequence[str]) -> dict[str, Range]:
    """The rates at which models have written in a run folder, by id; those that have not are left out."""
    if not (folder / STORE_FILE).exists():
        return {}
    # A batch is committed at once, and its seconds are shared out evenly over its answers.
    sql = (
        "SELECT sum(completion_tokens), sum(seconds) FROM completions "
        "WHERE model = ? AND error = '' GROUP BY created HAVING sum(completion_tokens) > 0 AND sum(seconds) > 0"
    )
    rates: dict[str, Range] = {}
    with Store.open(folder, create=False, readonly=True) as store:
        for model_id in model_ids:
            batches = store.database.read(sql, (model_id,))
            if batches:
                rates[model_id] = _range_of_rates(batches)
    return rates


def _range_of_rates(batches: Sequence[Any]) -> Range:
    """Between which rates all but the slowest and the fastest tenth of the tokens were written.

    The rate of all batches together is always within: few tokens may have taken much of the time.
    """
    by_rate = sorted((tokens / seconds, tokens) for tokens, seconds in batches)
    total = sum(tokens for _, tokens in by_rate)
    low = high = by_rate[0][0]
    tokens_so_far = 0
    for rate, tokens in by_rate:
        if tokens_so_far <= LOW_SHARE * total:
            low = rate
        if tokens_so_far <= HIGH_SHARE * total:
            high = rate
        tokens_so_far += tokens
    overall = total / sum(seconds for _, seconds in batches)
    return Range(min(low, overall), max(high, overall))


def training_rates_in_store(folder: Path, arm: str, settings: TrainingSettings) -> Range | None:
    """The rates at which an arm's trainings have gone through their tokens in a run folder; None where there is none.

    Only trainings count whose settings are as fast as these.
    """
    if not (folder / STORE_FILE).exists():
        return None
    rates = []
    with Store.open(folder, create=False, readonly=True) as store:
        for student in store.students.all():
            report = student.report
            is_same_arm = report.get("arm") == arm
            if is_same_arm and _is_as_fast(student.settings, settings) and report.get("seconds"):
                rates.append(report["tokens"] / report["seconds"])
    return Range(min(rates), max(rates)) if rates else None


def _is_as_fast(trained: Mapping[str, Any], settings: TrainingSettings) -> bool:
    values = json.loads(json.dumps(settings.identity()))
    # The run says how many threads a training has where its settings leave it open.
    names = [name for name in SPEED_SETTINGS if name != "threads" or settings.threads]
    return all(trained.get(name) == values.get(name) for name in names)


def training_tokens(settings: TrainingSettings, row_count: float, row_length: float) -> float:
    """Tokens that go through the model in a training of so many rows."""
    steps, step_rows = count_steps(settings, row_count, row_length)
    return steps * step_rows * row_length


def probe_rate(model: Model, problems: Sequence[Trace]) -> Range | None:
    """Let a model write a small and a larger batch; None where it writes nothing.

    What it writes is not stored.
    """
    prompts = [trace.prompt for trace in problems[:PROBE_PROMPTS]]
    # The weights load with the first call, which is not counted.
    sampling = Sampling(max_new_tokens=1)
    model.write([Request(prompt, sampling=sampling) for prompt in prompts[:1]])
    rates = []
    sampling = Sampling(max_new_tokens=PROBE_NEW_TOKENS)
    for row_count in PROBE_ROWS:
        requests = []
        for row in range(row_count):
            prompt = prompts[row % len(prompts)]
            requests.append(Request(prompt, sampling=sampling, sample_index=row))
        answers = model.write(requests)
        tokens = sum(answer.tokens.completion for answer in answers)
        seconds = sum(answer.seconds for answer in answers)
        if tokens and seconds:
            rates.append(tokens / seconds)
    return Range(min(rates), max(rates)) if rates else None


def probe_training(
    start: Path, settings: TrainingSettings, row_length: float, threads: int
) -> Range:
    """Train a checkpoint on made-up rows for a few short steps; the student is thrown away.

    The objective is supervised learning, whatever the arm's is: one that asks a teacher, or lets the student write,
    takes longer.
    """
    from potstill.training.fit import fit
    from potstill.training.step_log import STEPS_FILE

    # A letter and its blank may be two tokens.
    row_length = max(1.0, min(row_length, PROBE_STEP_TOKENS, read_context(start) / 4))
    rows_a_step = max(1, round(PROBE_STEP_TOKENS / row_length))
    settings = dataclasses.replace(
        settings,
        max_steps=PROBE_STEPS,
        batch_size=rows_a_step,
        batch_tokens=0,
        gradient_accumulation_steps=1,
        learning_rate=PROBE_LEARNING_RATE,
        adamw_learning_rate=0.0,
        save_steps=0,
        report_to="",
        objective_config={},
        threads=settings.threads or threads,
    )
    with tempfile.TemporaryDirectory() as folder:
        student = Path(folder) / "student"
        fit(_made_up_rows(PROBE_STEPS * rows_a_step, row_length), start, student, settings)
        lines = (student / STEPS_FILE).read_text("utf-8").splitlines()
    rates = []
    for line in lines[1:]:
        step = json.loads(line)
        rates.append(step["tokens"] / step["seconds"])
    return Range(min(rates), max(rates))


def _made_up_rows(count: int, row_length: float) -> list[Trace]:
    """Rows of about so many tokens; every tokenizer has tokens for single letters between blanks."""
    rows = []
    for number in range(count):
        problem = Problem(f"probe-{number}", f"Count to {number}.", "0")
        letters = " ".join("abcdefghij"[(number + place) % 10] for place in range(int(row_length)))
        rows.append(Trace(problem, problem.question, text=letters, finish_reason="stop"))
    return rows
