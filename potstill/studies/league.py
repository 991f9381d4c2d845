"""Every method that the built-in world can carry, on the same problems at equal effort: a league table.

`league_entries.py` has who plays which role, `league_run.py` the runs, and `league_page.py` the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from potstill.evaluation.results import Results
from potstill.methods import METHODS
from potstill.models.phase import split_account
from potstill.records import Progress
from potstill.studies import arms
from potstill.studies.arms import UNTRAINED
from potstill.studies.league_entries import Entry, list_entries
from potstill.studies.league_page import describe_league
from potstill.studies.league_run import (
    BASE,
    CPU_FILE,
    STOPPED_FILE,
    Cell,
    choose_trial,
    run_cells,
    trial_scores,
)
from potstill.studies.run_folders import read_results
from potstill.studies.study import StudyPage, StudySettings

QUESTION = "How do all methods compare on the same problems, at equal effort?"
SIZES: Mapping[str, int] = {
    "train": 64,
    "dev": 50,
    "test": 100,
    "n": 2,
    "steps": 16,
    "trials": 2,
    "tokens": 60_000,
}
ROLES: Mapping[str, str] = {"teacher": "world:teacher", "student": "world:student"}
WORLDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "whole": {},
    "short": {"sizes": {"train": 32, "test": 50, "n": 1, "steps": 8, "trials": 1}},
}


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Tune, train and measure every method."""
    entries = [entry for entry in list_entries() if not entry.left_out]
    base = [entry for entry in entries if entry.method == BASE]
    rounds: list[int | None] = [*range(settings.seeds)]
    if settings.sizes["trials"] > 1:
        rounds = [None, *rounds]
    # Round by round, so that what is there early holds all methods.
    for seed in rounds:
        label = "tuned on the dev split" if seed is None else f"measured with seed {seed}"
        # The untrained student's answers of a round are those of one folder, in which nobody writes rows.
        run_cells(
            settings, [Cell(entry, seed) for entry in base], f"first method {label}", progress
        )
        run_cells(settings, [Cell(entry, seed) for entry in entries], f"methods {label}", progress)
    return collect_figures(settings)


def collect_figures(settings: StudySettings) -> dict[str, Any]:
    """The figures of what the folder holds by now, by method.

    Returns:
        "methods": of each its "family", "roles", "left_out" or "stopped" (why), "trials" (scores on the dev split),
        "chosen" (a number), "runs" (one a seed, up to the first that is missing) and "cpu" seconds; and "untrained",
        the same runs of the student itself.
    """
    methods: dict[str, Any] = {}
    untrained: list[dict[str, Any]] = []
    for entry in list_entries():
        methods[entry.method] = figures_of_entry(settings, entry)
    for seed in range(settings.seeds):
        results = read_results(Cell(Entry(BASE), seed).folder(settings))
        if results is None or UNTRAINED not in results.evaluations:
            break
        untrained.append(arms.arm_figures(results, UNTRAINED))
    return {
        "methods": methods,
        "untrained": untrained,
        "seeds": settings.seeds,
        "sizes": dict(settings.sizes),
    }


def figures_of_entry(settings: StudySettings, entry: Entry) -> dict[str, Any]:
    """What the folder holds of one method."""
    folder = settings.out / entry.method
    scores = trial_scores(settings, entry)
    figures: dict[str, Any] = {
        "family": METHODS.files[entry.method].family,
        "roles": dict(entry.roles),
        "left_out": entry.left_out,
        "stopped": read_json(folder / STOPPED_FILE).get("why", ""),
        "trials": scores,
        "chosen": choose_trial(settings, entry) if len(scores) == settings.sizes["trials"] else 0,
        "cpu": read_json(folder / CPU_FILE),
        "runs": [],
    }
    for seed in range(settings.seeds):
        results = read_results(Cell(entry, seed).folder(settings))
        run = None if results is None else figures_of_run(results)
        # Up to the first gap: the n-th entry is seed n, as the untrained student's is.
        if run is None:
            break
        figures["runs"].append(run)
    return figures


def figures_of_run(results: Results) -> dict[str, Any] | None:
    """Those of `arms.arm_figures`, and more; None where nothing was measured.

    Returns:
        Also "tokens_by_phase", what all roles read and wrote, and "helpers", the roles besides the student that are
        asked while it is measured.
    """
    measured = [name for name in results.evaluations if name != UNTRAINED]
    if not measured:
        return None
    [arm] = measured
    figures = arms.arm_figures(results, arm)
    tokens_by_phase: dict[str, int] = {}
    helpers: list[str] = []
    for account, cost in results.costs.get(arm, {}).items():
        role, phase = split_account(account)
        tokens = cost.prompt_tokens + cost.completion_tokens
        tokens_by_phase[phase] = tokens_by_phase.get(phase, 0) + tokens
        if phase == "evaluation" and role != "student" and cost.calls:
            helpers.append(role)
    return {**figures, "tokens_by_phase": tokens_by_phase, "helpers": sorted(helpers)}


def read_json(file: Any) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    if not file.exists():
        return {}
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return document


def describe_study(figures: Mapping[str, Mapping[str, Any]]) -> StudyPage:
    """The table, a figure, and what came out."""
    return describe_league(figures)
