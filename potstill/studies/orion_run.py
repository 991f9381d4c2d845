"""The run folders of `orion-arms` in a world: rows of every arm, trials on a dev split, arms on the test split.

A world's folder holds plain run folders, each of which `potstill report` opens:

    rows-SEED        the rows of every arm; nothing is trained
    REGIME-tune      every arm with every trial, seed 0, measured on the dev split
    REGIME-SEED      every arm with its best trial, measured on the test split

What one of them has paid for is brought to the next, so nothing is asked or trained twice, and a killed study goes on
where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.records import Progress
from potstill.runs import experiment, manifest, recipe
from potstill.runs.folder_layout import RESULTS_FILE
from potstill.runs.stages import stage_rows
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.orion_worlds import ARMS, Regime, World
from potstill.studies.run_folders import read_results, share_work
from potstill.studies.study import StudySettings, write_json

TUNING_SEED = 0
CPU_FILE = "cpu.json"  # CPU seconds by run folder, over all times that the study was started


@dataclass(frozen=True, slots=True)
class WorldRun:
    """The folders of a world: what is run in each, and what is read of them.

    Args:
        settings: of the study.
        world: whose arms they are.
    """

    settings: StudySettings
    world: World

    def rows_folder(self, seed: int) -> Path:
        """Where the rows of a seed are collected."""
        return self.settings.out / f"rows-{seed}"

    def tuning_folder(self, regime: Regime) -> Path:
        """Where the trials of a regime are measured."""
        return self.settings.out / f"{regime}-tune"

    def test_folder(self, regime: Regime, seed: int) -> Path:
        """Where the arms of a regime and seed are measured."""
        return self.settings.out / f"{regime}-{seed}"

    # The three kinds of runs.

    def collect_rows(self, seed: int, progress: Progress) -> None:
        """Collect the rows of every arm."""
        recipe_arms: dict[str, Any] = {}
        for name in self.world.arms:
            recipe_arms[name] = self.arm_block(name)
        self._execute(self.rows_folder(seed), recipe_arms, seed, progress, rows_only=True)

    def tune(self, regime: Regime, progress: Progress) -> None:
        """Measure every arm with every trial of a regime on the dev split."""
        recipe_arms: dict[str, Any] = {}
        for name in self.arms_of(regime, TUNING_SEED):
            # Each trial collects the same rows anew, from the store.
            for number, trial in enumerate(self.world.trials[regime]):
                block = self.arm_block(name)
                block["training"] |= self.training(regime, TUNING_SEED, trial)
                recipe_arms[trial_name(name, number)] = block
        folder = self.tuning_folder(regime)
        # A first stage that no trial changes was trained for the other regime already.
        others = [self.tuning_folder(other) for other in self.world.regimes if other != regime]
        share_work([self.rows_folder(TUNING_SEED), *others], folder)
        evaluate = self.evaluation("dev", self.settings.sizes["dev_n"])
        self._execute(folder, recipe_arms, TUNING_SEED, progress, evaluate=evaluate)

    def test(self, regime: Regime, seed: int, progress: Progress) -> None:
        """Measure every arm with its best trial on the test split."""
        choices = self.choices(regime)
        recipe_arms: dict[str, Any] = {}
        for name in self.arms_of(regime, seed):
            if name not in choices:
                continue  # too few rows in the seed of the tuning; `figures` says so
            block = self.arm_block(name)
            trial = self.world.trials[regime][choices[name]]
            block["training"] |= self.training(regime, seed, trial)
            recipe_arms[name] = block
        folder = self.test_folder(regime, seed)
        # The untrained student's answers are the same in every regime, and the chosen trials were trained already.
        sources = [self.rows_folder(seed)]
        if seed == TUNING_SEED:
            sources.append(self.tuning_folder(regime))
        sources += [
            self.test_folder(other, seed) for other in self.world.regimes if other != regime
        ]
        share_work(sources, folder)
        evaluate = self.evaluation("test", self.settings.sizes["n"])
        self._execute(folder, recipe_arms, seed, progress, evaluate=evaluate)

    # What recipes are made of.

    def arm_block(self, name: str) -> dict[str, Any]:
        """An arm as a recipe has it; of its training only what no trial changes."""
        values = self.world.values_of(name, self.settings.sizes["samples"])
        training = {
            stage: dict(stage_training) for stage, stage_training in ARMS[name].stages.items()
        }
        return {"method": ARMS[name].method, "values": values, "training": training}

    def training(self, regime: Regime, seed: int, trial: Mapping[str, Any]) -> dict[str, Any]:
        """The training settings of a trial; matched ones have equal rows and steps."""
        training: dict[str, Any] = {**trial, "seed": seed}
        if regime == "matched":
            training["max_steps"] = self.settings.sizes["steps"]
            training["max_train_samples"] = self.matched_rows(seed)
        return training

    def evaluation(self, split: str, n: int) -> dict[str, Any]:
        """How arms are measured on a split."""
        size = self.settings.sizes[split]
        return {
            "problems": self.world.source(split, size),
            "n": n,
            "sampling": dict(self.world.sampling),
        }

    def row_counts(self, seed: int) -> dict[str, int]:
        """By arm, how many rows a seed collected, of its last stage."""
        folder = self.rows_folder(seed)
        if not (folder / RESULTS_FILE).exists():
            return {}
        with Store.open(folder, readonly=True) as store:
            counts: dict[str, int] = {}
            for name in self.world.arms:
                counts[name] = len(stage_rows(store, ARMS[name].rows_of or name))
            return counts

    def arms_of(self, regime: Regime, seed: int) -> list[str]:
        """The arms that are trained: all, or for matched rows those with as many as are asked for at least."""
        if regime == "unmatched":
            return list(self.world.arms)
        counts = self.row_counts(seed)
        least = self.settings.sizes["min_rows"]
        return [name for name, count in counts.items() if count >= least]

    def matched_rows(self, seed: int) -> int:
        """How many rows each matched arm learns: as many as the smallest of them has."""
        counts = self.row_counts(seed)
        return min(counts[name] for name in self.arms_of("matched", seed))

    def choices(self, regime: Regime) -> dict[str, int]:
        """By arm, the number of its best trial on the dev split; of equal ones the first."""
        choices: dict[str, int] = {}
        for name, scores in self.trial_scores(regime).items():
            # Only where all trials are measured: half of them choose nothing.
            if len(scores) == len(self.world.trials[regime]):
                choices[name] = scores.index(max(scores))
        return choices

    def trial_scores(self, regime: Regime) -> dict[str, list[float]]:
        """By arm, the score of each trial on the dev split in percent, as far as they are measured."""
        results = read_results(self.tuning_folder(regime))
        scores: dict[str, list[float]] = {}
        if results is None:
            return scores
        for name in self.world.arms:
            for number in range(len(self.world.trials[regime])):
                title = trial_name(name, number)
                if title in results.evaluations:
                    figures = arms.arm_figures(results, title)
                    scores.setdefault(name, []).append(arms.score([figures]))
        return scores

    # How it is run.

    def _execute(
        self,
        folder: Path,
        recipe_arms: Mapping[str, Any],
        seed: int,
        progress: Progress,
        *,
        evaluate: Mapping[str, Any] | None = None,
        rows_only: bool = False,
    ) -> None:
        """Run a recipe of this world in a folder, or go on with it; a finished one is left as it is."""
        # A finished run would only be read again. Its recipe is not compared: a later version may write it otherwise.
        if manifest.is_finished(folder):
            return
        data: dict[str, Any] = {
            "arms": recipe_arms,
            "training": dict(self.world.training),
            "roles": dict(self.settings.roles),
            "problems": self.world.source("train", self.settings.sizes["train"], seed),
            "seed": seed,
            "overlap_n": 0,
            "overlap": self.world.overlap,
        }
        # A run that ends with its rows has nothing to measure.
        if evaluate is not None:
            data["evaluate"] = dict(evaluate)
        with self.counting_cpu(folder.name):
            experiment.execute(
                recipe.from_data(data),
                folder,
                title=f"orion-arms, {self.world.title}: {folder.name}",
                progress=progress,
                threads=arms.THREADS,
                retry_errors=self.settings.retry_errors,
                rows_only=rows_only,
            )

    @contextmanager
    def counting_cpu(self, name: str) -> Iterator[None]:
        """Add the CPU seconds of a block to those that the folder has counted under a name."""
        began = time.process_time()
        try:
            yield
        finally:
            file = self.settings.out / CPU_FILE
            seconds: dict[str, float] = {}
            if file.exists():
                seconds = json.loads(file.read_text("utf-8"))
            seconds[name] = round(seconds.get(name, 0.0) + time.process_time() - began, 1)
            write_json(file, seconds)


def trial_name(arm: str, number: int) -> str:
    """What an arm with one of its trials is called in the run that tunes it."""
    return f"{arm} trial {number + 1}"
