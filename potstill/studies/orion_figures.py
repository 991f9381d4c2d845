"""What `orion-arms` reads of its run folders: scores, effort, and what the rows of each arm are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.leakage import LeakageParts, summarise_leakage
from potstill.evaluation.results import Results
from potstill.evaluation.row_steps import steps_of_row
from potstill.evaluation.rows import Row
from potstill.methods.errors.orion.copying import score_copying
from potstill.models.model import Scored
from potstill.records import Trace
from potstill.runs.sources import load_model
from potstill.runs.stages import stage_rows
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.orion_run import CPU_FILE, TUNING_SEED, WorldRun
from potstill.studies.orion_worlds import ARMS, OWN
from potstill.studies.run_folders import read_results
from potstill.studies.study import write_json
from potstill.traces import answer_probability
from potstill.training.row_sample import sample_rows

LEAKAGE_FILE = "leakage.json"
READING_FILE = "reading.md"  # what somebody who has read the rows writes of them; the page shows it
SHOWN_ROWS = 10  # of each arm
DIFFICULTIES = ("never", "sometimes", "always")
Figures = dict[str, Any]


def collect(run: WorldRun) -> Figures:
    """Everything that the page shows of a world, as plain JSON, as far as its folders have come.

    Returns:
        "row_counts" by seed and arm, "matched_rows" by seed, "trials" and "choices" by regime and arm, "cells" by
        regime, arm and seed, "rows" (what they are, by arm), "answer_probability" by arm, "cpu" seconds by run folder,
        and "reading".
    """
    settings, world = run.settings, run.world
    seeds = range(settings.seeds)
    counts = {str(seed): run.row_counts(seed) for seed in seeds}
    figures: Figures = {
        "seeds": settings.seeds,
        "sizes": dict(settings.sizes),
        "roles": dict(settings.roles),
        "row_counts": counts,
        "matched_rows": {},
        "trials": {},
        "choices": {},
        "cells": {},
        "rows": {},
        "answer_probability": read_json(run, LEAKAGE_FILE),
        "cpu": read_json(run, CPU_FILE),
        "reading": "",
    }
    # Which folders are there: a study that still runs has only some of them.
    for seed in seeds:
        if counts[str(seed)] and run.arms_of("matched", seed):
            figures["matched_rows"][str(seed)] = run.matched_rows(seed)
    for regime in world.regimes:
        figures["trials"][regime] = run.trial_scores(regime)
        figures["choices"][regime] = run.choices(regime)
        cells: Figures = {}
        for seed in seeds:
            results = read_results(run.test_folder(regime, seed))
            if results is None:
                continue
            for name in results.evaluations:
                cells.setdefault(name, {})[str(seed)] = cell_figures(results, name)
        figures["cells"][regime] = cells
    if counts[str(TUNING_SEED)]:
        figures["rows"] = row_figures(run)
    # What a person wrote about this very run.
    reading = settings.out / READING_FILE
    if reading.exists():
        figures["reading"] = reading.read_text("utf-8")
    return figures


def read_json(run: WorldRun, name: str) -> Figures:
    """A JSON file of the world's folder; nothing where it is not there yet."""
    file = run.settings.out / name
    if not file.exists():
        return {}
    document: Figures = json.loads(file.read_text("utf-8"))
    return document


def cell_figures(results: Results, arm: str) -> Figures:
    """What one arm of one seed came to: that of `arms.arm_figures`, and more.

    Returns:
        Also "step_shares" (right in every step; None where no step can be judged) and "passes" (one of the answers is
        right), by problem; and of a trained arm "train_seconds" and "perplexity", the median of its rows under the
        untrained student.
    """
    evaluation = results.evaluations[arm]
    figures = arms.arm_figures(results, arm)
    figures["step_shares"] = [step_share(row) for row in evaluation.rows]
    figures["passes"] = [float(row.right > 0) for row in evaluation.rows]
    # Seconds by the clock: what else the machine did is in them.
    seconds = [float(report.get("seconds", 0.0)) for report in arms.stage_reports(results, arm)]
    if seconds:
        figures["train_seconds"] = math.fsum(seconds)
    perplexity = results.lengths.get(arm, {}).get("rows before training")
    if perplexity is not None:
        figures["perplexity"] = perplexity.p50
    return figures


def step_share(row: Row) -> float | None:
    """The share of answers that are right in every step; None where steps can't be judged."""
    steps_right = row.steps_right
    return None if steps_right is None else steps_right / row.n


# The rows: what they are made of, and some of them to be read.


def row_figures(run: WorldRun) -> Figures:
    """By arm, what the rows of seed 0 are: lengths, steps, what they copy, which problems they cover, ten of them."""
    folder = run.rows_folder(TUNING_SEED)
    results = read_results(folder)
    assert results is not None
    with Store.open(folder, readonly=True) as store:
        rows_by_arm = {name: rows_of_arm(store, name) for name in run.world.arms}
        difficulties = difficulty_by_problem(store, results.models["student"])
    # The rows of sft are the teacher's right chains: what the other arms may have copied from.
    chains = rows_by_arm.get("sft", [])
    figures: Figures = {}
    for name, rows in rows_by_arm.items():
        # A row without a text is a problem that the student answers in its training.
        written = [row for row in rows if row.text]
        figures[name] = {
            "rows": len(rows),
            # Words: of a text that no model wrote nobody counted tokens.
            "words": mean([float(len(row.text.split())) for row in written]),
            "stepless": mean([float(steps_of_row(row) == 0) for row in written]),
            "copied": copied_shares(written, chains),
            "chain_recall": chain_recall(written, chains),
            "kept": kept_by_difficulty(rows, difficulties),
            "shown": [show_row(row) for row in sample_rows(rows, SHOWN_ROWS, TUNING_SEED)],
        }
        if ARMS[name].rows_of:
            figures[name]["shown"] = show_trained_rows(run, name) or figures[name]["shown"]
    return figures


def show_trained_rows(run: WorldRun, arm: str) -> list[dict[str, str]]:
    """Rows of an arm whose last stage is made behind a training, with what its learner is asked; none before that."""
    folder = run.test_folder(run.world.regimes[0], TUNING_SEED)
    if read_results(folder) is None:
        return []
    with Store.open(folder, readonly=True) as store:
        rows = stage_rows(store, arm)
    shown_rows: list[dict[str, str]] = []
    for row in sample_rows(rows, SHOWN_ROWS, TUNING_SEED):
        prompt = row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
        shown_rows.append({**show_row(row), "prompt": prompt})
    return shown_rows


def rows_of_arm(store: Store, arm: str) -> list[Trace]:
    """The rows that an arm's last stage learns, as they were collected; EULER's are sft's, under other prompts."""
    return stage_rows(store, ARMS[arm].rows_of or arm)


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def copied_shares(rows: Sequence[Trace], chains: Sequence[Trace]) -> Figures:
    """Mean shares of a row's runs of 8 words that stand in the teacher's chain, and in the errors that were shown."""
    errors = numbers_of(rows, "overlap8_errors")
    against_chains = numbers_of(score_copying(rows, chains, []), "overlap8_teacher")
    return {"teacher": mean(against_chains), "errors": mean(errors)}


def numbers_of(rows: Sequence[Trace], score: str) -> list[float]:
    """A score of the rows that have it as a number."""
    values: list[float] = []
    for row in rows:
        value = row.scores.get(score)
        if isinstance(value, int | float):
            values.append(float(value))
    return values


def chain_recall(rows: Sequence[Trace], chains: Sequence[Trace]) -> float | None:
    """How much of the teacher's chain stands in the rows, in words in the same order (ROUGE-L recall)."""
    text_by_problem = {chain.problem.id: chain.text for chain in chains}
    with_chain = [row for row in rows if row.problem.id in text_by_problem]

    def parts_of(row: Trace) -> LeakageParts:
        return LeakageParts(row.question, row.text, text_by_problem[row.problem.id])

    recall = summarise_leakage(with_chain, parts_of)["rouge_l_recall"]
    return None if recall is None else recall.value


def difficulty_by_problem(store: Store, student_id: str) -> dict[str, str]:
    """How often the untrained student solved each training problem in the attempts of ORION: a word of DIFFICULTIES."""
    # ORION's exposure: the only samples of the untrained student on training problems that every seed has.
    outcomes: dict[str, list[bool]] = {}
    for trace in store.history.traces(OWN, "sample"):
        if trace.author is not None and trace.author.model == student_id:
            outcomes.setdefault(trace.problem.id, []).append(trace.verdict.status == "right")
    difficulties: dict[str, str] = {}
    for problem_id, solved in outcomes.items():
        difficulties[problem_id] = "sometimes"
        if all(solved):
            difficulties[problem_id] = "always"
        elif not any(solved):
            difficulties[problem_id] = "never"
    return difficulties


def kept_by_difficulty(
    rows: Sequence[Trace], difficulties: Mapping[str, str]
) -> dict[str, list[int]]:
    """By difficulty, how many problems have a row, and how many there are."""
    covered = {row.problem.id for row in rows}
    counts: dict[str, list[int]] = {name: [0, 0] for name in DIFFICULTIES}
    for problem_id, difficulty in difficulties.items():
        counts[difficulty][0] += problem_id in covered
        counts[difficulty][1] += 1
    return counts


def show_row(row: Trace) -> dict[str, str]:
    """A row as the page shows it."""
    text = row.text
    if (
        not text
    ):  # the student writes it in the training; its teacher's prompt is what there is to be read
        text = f"(its teacher reads) {row.teacher_prompt}"
    return {"question": row.question, "answer": row.problem.answer or "", "text": text}


# Leakage: is the answer there before the last line says it?


def measure_leakage(run: WorldRun) -> None:
    """Measure how likely the answer is behind the rows of seed 0 without their last lines, once."""
    file = run.settings.out / LEAKAGE_FILE
    if file.exists():
        return
    with run.counting_cpu("leakage"):
        student = load_model(run.settings.roles["student"], threads=arms.THREADS)
        if not isinstance(student, Scored):
            return
        scorer = answer_probability(student)
        probabilities: dict[str, float | None] = {}
        with Store.open(run.rows_folder(TUNING_SEED), readonly=True) as store:
            rows_by_arm = {name: rows_of_arm(store, name) for name in run.world.arms}
        for name, rows in rows_by_arm.items():
            # A few rows tell: each costs a reading by the student.
            written = [row for row in rows if row.text]
            scored_rows = sample_rows(written, run.settings.sizes["min_rows"], TUNING_SEED)
            values = [value for value in scorer(scored_rows) if isinstance(value, float)]
            probabilities[name] = mean(values)
        write_json(file, probabilities)
