"""ORION against everything that it is compared with, at equal effort: arms with and without errors, seeds, worlds.

`orion_worlds.py` has the arms and worlds, `orion_run.py` the runs, `orion_figures.py` what is read of them,
`orion_leads.py` the comparisons, `orion_sentences.py` what they say, and `orion_tables.py` the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.records import Progress
from potstill.studies import orion_figures
from potstill.studies.orion_run import TUNING_SEED, WorldRun
from potstill.studies.orion_tables import describe_worlds
from potstill.studies.orion_worlds import WORLD_OF, World
from potstill.studies.study import StudyPage, StudySettings

QUESTION = "Does a student learn more from its own errors (ORION) than from anything else, at equal effort?"
SIZES: Mapping[str, int] = {
    "train": 120,
    "dev": 60,
    "test": 150,
    "samples": 4,
    "dev_n": 1,
    "n": 2,
    "steps": 20,
    "min_rows": 24,
}
ROLES: Mapping[str, str] = {"teacher": "world:teacher", "student": "world:student"}
WORLDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "built-in": {"roles": {"evaluator": "world:oracle"}},
    "built-in-on-policy": {},
    "built-in-walk": {"roles": {"teacher": "world:walk-teacher", "student": "world:walk-student"}},
    "real": {
        "sizes": {
            "train": 48,
            "dev": 30,
            "test": 90,
            "samples": 3,
            "n": 1,
            "steps": 8,
            "min_rows": 12,
        },
        "roles": {"teacher": "world:gym-teacher", "student": "transformers:models/smollm2-student"},
    },
    "real-small": {
        "sizes": {
            "train": 24,
            "dev": 12,
            "test": 24,
            "samples": 3,
            "n": 1,
            "steps": 6,
            "min_rows": 6,
        },
        "roles": {"teacher": "world:gym-teacher", "student": "transformers:models/smollm2-student"},
    },
    "real-whole": {
        "sizes": {
            "train": 48,
            "dev": 30,
            "test": 90,
            "samples": 3,
            "n": 1,
            "steps": 8,
            "min_rows": 12,
        },
        "roles": {"teacher": "world:gym-teacher", "student": "transformers:models/smollm2-student"},
    },
}


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Collect, tune, train and measure the arms in the settings' world."""
    return run_world(settings, WORLD_OF[settings.world], progress)


def collect_figures(settings: StudySettings) -> dict[str, Any]:
    """The figures of what the world's folder holds by now."""
    return orion_figures.collect(WorldRun(settings, WORLD_OF[settings.world]))


def describe_study(figures: Mapping[str, Mapping[str, Any]]) -> StudyPage:
    """Tables, chart, rows and what came out, of all worlds that have figures."""
    return describe_worlds({world: (WORLD_OF[world], figures[world]) for world in figures})


def run_world(settings: StudySettings, world: World, progress: Progress) -> dict[str, Any]:
    """Do all the work of a world; what was done before in its folder is not done again.

    Args:
        settings: of the study; `sizes` as in `SIZES`, `out` is the world's folder.
        world: problems, arms and trials.
        progress: called with (label, done, total).

    Returns:
        The figures of the world's folder.
    """
    run = WorldRun(settings, world)
    # Seed by seed, so that what is there early is whole: all arms of one seed before any of the next.
    run.collect_rows(TUNING_SEED, progress)
    for regime in world.regimes:
        run.tune(regime, progress)
        for seed in range(settings.seeds):
            run.collect_rows(seed, progress)
            run.test(regime, seed, progress)
    orion_figures.measure_leakage(run)
    return orion_figures.collect(run)
