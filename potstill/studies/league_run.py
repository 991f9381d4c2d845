"""The run folders of the league: every method tried on the dev split, then measured on the test split.

    METHOD/tune      the method with every trial, seed 0, measured on the dev split
    METHOD/seed-0    the method with its best trial, measured on the test split
    METHOD/stopped.json   why it was not run to its end

Each is a plain run folder that `potstill report` opens. Folders are worked on in several processes, one thread each.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import PotstillError, StageError, StoreError
from potstill.evaluation.results import Results
from potstill.models.phase import COLLECTION, split_account
from potstill.records import Progress
from potstill.runs import experiment, manifest, recipe
from potstill.runs.dry_run import drive_with_stand_ins
from potstill.runs.stand_in import Assumptions
from potstill.studies import arms
from potstill.studies.league_entries import Entry, roles_of
from potstill.studies.run_folders import read_results, share_work
from potstill.studies.study import StudySettings, write_json

BASE = "sft_gold"  # asks nobody for its rows: what its folders were answered are the untrained student's tests alone
TUNING_SEED = 0
TUNE = "tune"
STOPPED_FILE = "stopped.json"
CPU_FILE = "cpu.json"
MAX_WORKERS = 8  # each has the program and its models in memory
# A trial's need is not known before it has run: a call is taken for as much as one of `sft`, and two budgets are
# allowed, so that the estimate only holds back what would take hours.
TOKENS_OF_A_CALL = 190
MOST_BUDGETS_OF_A_TRIAL = 2
BATCH = 16
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "batch_size": BATCH}
TRIALS: Sequence[Mapping[str, Any]] = ({"learning_rate": 4e-4}, {"learning_rate": 2e-3})
SAMPLING: Mapping[str, Any] = {"temperature": 0.6, "max_new_tokens": 256}


@dataclass(frozen=True, slots=True)
class Cell:
    """A folder that is to be worked on: a method, tuned (`seed` None) or measured with a seed."""

    entry: Entry
    seed: int | None

    def folder(self, settings: StudySettings) -> Path:
        """Where it is."""
        name = TUNE if self.seed is None else f"seed-{self.seed}"
        return settings.out / self.entry.method / name


def run_cells(
    settings: StudySettings, cells: Sequence[Cell], label: str, progress: Progress
) -> None:
    """Work on folders in as many processes as there are cores; a method that stops does not stop the others."""
    open_cells = [cell for cell in cells if not is_done(settings, cell)]
    done = len(cells) - len(open_cells)
    progress(label, done, len(cells))
    if not open_cells:
        return
    workers = min(MAX_WORKERS, os.cpu_count() or 1, len(open_cells))
    # Each thread only waits for the process of its folder.
    with ThreadPoolExecutor(workers) as threads:
        try:
            waits = [threads.submit(run_in_process, settings, cell) for cell in open_cells]
            for wait in as_completed(waits):
                wait.result()
                done += 1
                progress(label, done, len(cells))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def run_in_process(settings: StudySettings, cell: Cell) -> None:
    """Work on a folder in a process of its own, which leaves no memory behind.

    Raises:
        StageError: the process did not end well.
    """
    # A fresh one: a fork would take the locks of this process's threads with it.
    process = get_context("spawn").Process(target=run_and_exit, args=(settings, cell))
    process.start()
    process.join()
    if process.exitcode:
        raise StageError(
            f"the process that worked on {cell.folder(settings)} ended with {process.exitcode}",
            fix="the same command goes on from there; what went wrong stands above",
        )


def run_and_exit(settings: StudySettings, cell: Cell) -> None:
    """What the process of a folder does; it ends when the one that started it has, however that ended."""
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        run_cell(settings, cell)
    except KeyboardInterrupt:
        sys.exit(130)  # the run's own folder says how far it came


def is_done(settings: StudySettings, cell: Cell) -> bool:
    """Whether nothing is left to do in a folder: it is finished, or its method has stopped."""
    stopped = settings.out / cell.entry.method / STOPPED_FILE
    return stopped.exists() or manifest.is_finished(cell.folder(settings))


def run_cell(settings: StudySettings, cell: Cell) -> None:
    """Run a method's recipe in its folder, or go on with it; where it stops, note why."""
    folder = cell.folder(settings)
    began = time.process_time()
    try:
        data = recipe_of_cell(settings, cell)
        if cell.entry.method != BASE:
            share_work([Cell(Entry(BASE), cell.seed).folder(settings)], folder)
        experiment.execute(
            recipe.from_data(data),
            folder,
            title=f"league: {cell.entry.method}, {folder.name}",
            threads=arms.THREADS,
            retry_errors=settings.retry_errors,
        )
    except StoreError:
        raise  # of the folder, and not of the method
    except PotstillError as error:
        write_json(folder.parent / STOPPED_FILE, {"in": folder.name, "why": str(error)})
    finally:
        add_seconds(folder.parent / CPU_FILE, folder.name, time.process_time() - began)


def add_seconds(file: Path, name: str, seconds: float) -> None:
    """Add CPU seconds to those that a file has under a name."""
    spent: dict[str, float] = {}
    if file.exists():
        spent = json.loads(file.read_text("utf-8"))
    spent[name] = round(spent.get(name, 0.0) + seconds, 1)
    write_json(file, spent)


def recipe_of_cell(settings: StudySettings, cell: Cell) -> dict[str, Any]:
    """The recipe of a folder: every trial on the dev split, or the best one on the test split."""
    sizes = settings.sizes
    seed = TUNING_SEED if cell.seed is None else cell.seed
    trials = range(sizes["trials"])
    split, answers = "dev", 1
    if cell.seed is not None:
        trials = range(choice := choose_trial(settings, cell.entry), choice + 1)
        split, answers = "test", sizes["n"]
    data: dict[str, Any] = {
        "roles": roles_of(cell.entry, settings.roles),
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story?split={split}&size={sizes[split]}",
            "n": answers,
            "sampling": dict(SAMPLING),
        },
        "training": dict(TRAINING),
        "seed": seed,
        "overlap_n": 0,
    }
    rehearsed = rehearse(data, cell.entry)
    steps = max(1, sizes["steps"] // rehearsed.trainings)
    # By what the calls of a rehearsal may take, and from then on by what the trial took.
    expected_tokens = rehearsed.calls * TOKENS_OF_A_CALL / MOST_BUDGETS_OF_A_TRIAL
    problems = affordable_problems(sizes, expected_tokens)
    results = read_results(Cell(cell.entry, None).folder(settings))
    if cell.seed is not None and results is not None:
        tokens_a_problem = collection_tokens(results, trial_name(0)) / problems
        problems = affordable_problems(sizes, tokens_a_problem * sizes["train"])
    data["problems"] = f"world:story?split=train&seed={seed}&size={problems}"
    arm_blocks: dict[str, Any] = {}
    for number in trials:
        training = {**TRIALS[number], "max_steps": steps, "seed": seed}
        arm_blocks[trial_name(number)] = {
            "method": cell.entry.method,
            "values": dict(cell.entry.values),
            "training": training,
        }
    return {**data, "arms": arm_blocks}


def trial_name(number: int) -> str:
    """What the arm of a trial is called."""
    return f"trial-{number + 1}"


class Rehearsed(NamedTuple):
    """What a method does with made-up answers: how many trainings, and how many calls before and between them."""

    trainings: int
    calls: int


def rehearse(data: Mapping[str, Any], entry: Entry) -> Rehearsed:
    """Drive a method with made-up answers; nobody is asked."""
    arm = {"values": dict(entry.values)}
    rehearsed = recipe.from_data({**data, "arms": {entry.method: arm}})
    problems, _ = experiment.load_recipe_problems(rehearsed)
    driven = drive_with_stand_ins(rehearsed, problems, [], {"": Assumptions()})
    trainings = len(driven.arms[entry.method].stages)
    if driven.arms[entry.method].stopped:
        trainings = max(trainings, entry.trainings)
    calls = 0
    for group, counted, share in driven.groups:
        if group.phase == COLLECTION:
            calls += round(counted.calls / share)
    return Rehearsed(max(1, trainings), calls)


def affordable_problems(sizes: Mapping[str, int], tokens: float) -> int:
    """How many problems the budget is enough for, where collecting the rows of all of them takes so many tokens."""
    return min(sizes["train"], max(1, int(sizes["train"] * sizes["tokens"] / max(1, tokens))))


def collection_tokens(results: Results, arm: str) -> int:
    """The tokens that all models read and wrote while the rows of an arm were collected."""
    tokens = 0
    for account, cost in results.costs[arm].items():
        if split_account(account)[1] == COLLECTION:
            tokens += cost.prompt_tokens + cost.completion_tokens
    return tokens


def choose_trial(settings: StudySettings, entry: Entry) -> int:
    """The number of a method's best trial on the dev split; of equal ones the first, and where there is one, that."""
    if settings.sizes["trials"] < 2:
        return 0
    scores = trial_scores(settings, entry)
    return scores.index(max(scores))


def trial_scores(settings: StudySettings, entry: Entry) -> list[float]:
    """The score of each trial on the dev split in percent, as far as they are measured."""
    results = read_results(Cell(entry, None).folder(settings))
    scores: list[float] = []
    if results is not None:
        for number in range(settings.sizes["trials"]):
            if trial_name(number) in results.evaluations:
                scores.append(arms.score([arms.arm_figures(results, trial_name(number))]))
    return scores
