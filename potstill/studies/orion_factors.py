"""When do a student's own errors help it? ORION with and without errors in sight, one factor at a time.

Every level of a factor is ORION twice, with the student's errors in the writer's prompt and without, on the same
problems, rows and steps. What is read is the difference of the two, and whether it changes with the factor.
`orion_factor_page.py` says what the figures mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from potstill.errors import StageError
from potstill.evaluation.results import Results
from potstill.records import Progress
from potstill.runs import experiment, manifest, recipe
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.orion_factor_page import describe_factors
from potstill.studies.run_folders import read_results
from potstill.studies.study import StudyPage, StudySettings

QUESTION = "When do a student's own errors help it (ORION)?"
SIZES: Mapping[str, int] = {
    "train": 64,
    "rows": 40,
    "samples": 4,
    "test": 100,
    "n": 2,
    "steps": 16,
    "warm_rows": 120,
    "warm_steps": 8,
    "long_warm_steps": 24,
}
ROLES: Mapping[str, str] = {"teacher": "world:teacher", "student": "world:student"}

TAUGHT_PROMPT = "paper"
NOTHING: Mapping[str, Any] = MappingProxyType({})
SFT, OWN, NONE, SHUFFLED = "sft", "own", "none", "shuffled"
WARM_UP = "warm-up"  # the folder of the students that are trained before
WARMED, WARMED_LONGER = "warmed", "warmed longer"
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1e-3, "batch_size": 16}
SAMPLING: Mapping[str, Any] = {"temperature": 0.6, "max_new_tokens": 320}
WILD: Mapping[str, Any] = {
    "temperature": 1.3,
    "top_p": 1.0,
    "repetition_penalty": 1.05,
    "max_new_tokens": 200,
}


class Setting(NamedTuple):
    """Where arms are compared: problems, and who plays the roles. Arms of one setting share everything else.

    Args:
        task: of the built-in world.
        roles: in the place of the study's.
        warm_up: the arm of the warm-up whose student takes part, in the place of the study's; "" for none.
    """

    task: str = "story"
    roles: Mapping[str, str] = NOTHING
    warm_up: str = ""


SETTINGS: Mapping[str, Setting] = {
    "base": Setting(),
    "brief teacher": Setting(roles={"teacher": "world:oracle"}),
    WARMED_LONGER: Setting(warm_up=WARMED_LONGER),
    "hard": Setting("story-hard"),
    WARMED: Setting(warm_up=WARMED),
}


class Level(NamedTuple):
    """A level of a factor: two arms of ORION that differ in whether errors are shown, and what both have changed.

    Args:
        label: what the page calls it.
        setting: a name in `SETTINGS`.
        with_errors: values of the arm with errors, in the place of those of the base.
        without_errors: the same of the arm without; None is the base's own arm without errors.
        errors: whose errors are shown: an arm of ORION.
    """

    label: str
    setting: str = "base"
    with_errors: Mapping[str, Any] = NOTHING
    without_errors: Mapping[str, Any] | None = None
    errors: str = OWN


# The first level of a factor is the one that its others are compared with, each in one thing alone.
FACTORS: Mapping[str, Sequence[Level]] = {
    "Teacher's style and length": (
        Level("long, foreign style: two steps at once, checks, detours"),
        Level("brief, the student's own style (a program)", "brief teacher"),
    ),
    "Student's strength": (
        Level("its own problems (4 to 8 events)"),
        Level("harder problems (8 to 10 events)", "hard"),
        Level("its own problems, after a short warm-up on solutions of others", WARMED),
        Level("its own problems, after a longer one", WARMED_LONGER),
    ),
    "Kind of error": (
        Level("its own, at temperature 0.8, three at most"),
        Level("one error at most", with_errors={"settings": {"attempts_per_prompt": 1}}),
        Level(
            "wild ones, at temperature 1.3", with_errors={"settings": {"exposure_sampling": WILD}}
        ),
        Level("another problem's", errors=SHUFFLED),
    ),
    "What is verified": (
        Level("every step"),
        Level("the answer alone", with_errors={"steps": False}, without_errors={"steps": False}),
    ),
    "Prompt order": (
        Level("errors behind the reference, as it was taught"),
        Level("errors before the reference", with_errors={"settings": {"prompt": "errors-first"}}),
    ),
    "Where the errors stand": (
        Level(
            "one at a time, as written", with_errors={"settings": {"prompt": "errors-first-one"}}
        ),
        Level("all at once, as written", with_errors={"settings": {"prompt": "errors-first"}}),
        Level(
            "the first wrong step marked",
            with_errors={"settings": {"prompt": "errors-first-marked"}},
        ),
        Level(
            "cut behind the first wrong step",
            with_errors={"settings": {"prompt": "errors-first-cut"}},
        ),
    ),
}


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure the arms of every setting with every seed."""
    # Seed by seed, so that what is there early holds all factors.
    for seed in range(settings.seeds):
        run_recipe(settings, WARM_UP, seed, warm_up_recipe(settings, seed), progress)
        for name in SETTINGS:
            recipe_data = recipe_of_setting(settings, name, seed)
            run_recipe(settings, name, seed, recipe_data, progress)
    return collect_figures(settings)


def collect_figures(settings: StudySettings) -> dict[str, Any]:
    """The figures of what the folder holds by now: of each arm those of the first seeds, as far as they have come."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in SETTINGS:
        runs[name] = {}
        for seed in range(settings.seeds):
            results = read_results(run_folder(settings, name, seed))
            # Seeds are read in their order up to the first gap: the n-th entry of an arm is seed n everywhere.
            if results is None:
                break
            for arm in results.evaluations:
                seeds_before = runs[name].setdefault(arm, [])
                # An arm that a killed run lacks for an earlier seed would move its later seeds forward.
                if len(seeds_before) == seed:
                    seeds_before.append(figures_of_arm(results, arm))
    levels: dict[str, list[dict[str, str]]] = {}
    for factor, factor_levels in FACTORS.items():
        levels[factor] = [describe_level(level) for level in factor_levels]
    return {"settings": runs, "factors": levels, "seeds": settings.seeds, **settings.sizes}


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, a figure and a paragraph a factor."""
    return describe_factors(figures)


def describe_level(level: Level) -> dict[str, str]:
    """A level as the figures have it: its label, its setting, and the names of its two arms."""
    without_errors = NONE
    if level.without_errors is not None:
        without_errors = arm_name(NONE, level.without_errors)
    return {
        "label": level.label,
        "setting": level.setting,
        "own": arm_name(level.errors, level.with_errors),
        "none": without_errors,
    }


def arm_name(arm: str, values: Mapping[str, Any]) -> str:
    """What an arm with these values is called in its recipe: the same values, the same name."""
    parts = [arm]
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts += value
            parts += [choice for choice in value.values() if isinstance(choice, str)]
        else:
            parts.append(f"{name} {value}")
    return " ".join(parts)


def run_folder(settings: StudySettings, name: str, seed: int) -> Path:
    """Where a setting is run with a seed."""
    return settings.out / name.replace(" ", "-") / f"seed-{seed}"


def run_recipe(
    settings: StudySettings,
    name: str,
    seed: int,
    recipe_data: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Run the recipe of a setting and a seed in its folder, or go on with it; a finished one is left as it is."""
    folder = run_folder(settings, name, seed)
    if manifest.is_finished(folder):
        return
    # One seed for the rows that are sampled and for the order in which they are learnt.
    training = {**recipe_data["training"], "seed": seed}
    experiment.execute(
        recipe.from_data({**recipe_data, "seed": seed, "training": training}),
        folder,
        title=f"orion-factors: {name}, seed {seed}",
        progress=progress,
        threads=arms.THREADS,
        retry_errors=settings.retry_errors,
    )


def figures_of_arm(results: Results, arm: str) -> dict[str, Any]:
    """What `arms.arm_figures` keeps of an arm, and how many of its first rewrites passed, as [part, whole]."""
    figures = arms.arm_figures(results, arm)
    for section in results.sections.get(arm, ()):
        if section.title == "First rewrites that pass":
            # An arm with errors counts rewrites with and without them; an arm without has one share alone.
            shares = {share.label: share for share in section.shares}
            share = shares.get("shown wrong attempts", next(iter(shares.values())))
            figures["passing"] = [share.part, share.whole]
    return figures


# The recipes.


def recipe_of_setting(settings: StudySettings, name: str, seed: int) -> dict[str, Any]:
    """The recipe of one setting and seed: ORION's arms of its levels, and the teacher's chains."""
    setting, sizes = SETTINGS[name], settings.sizes
    recipe_arms: dict[str, Any] = {SFT: {"values": {"steps": True}}}
    for level in levels_of(name):
        names = describe_level(level)
        # Levels with equal values have equal names, so what two factors share is trained once.
        recipe_arms[names["own"]] = orion_arm(settings, level.errors, level.with_errors)
        recipe_arms[names["none"]] = orion_arm(settings, NONE, level.without_errors or {})
    roles = {**settings.roles, **setting.roles}
    if setting.warm_up:
        roles["student"] = f"transformers:{warmed_student(settings, setting.warm_up, seed)}"
    return {
        "arms": recipe_arms,
        "training": {
            **TRAINING,
            "max_steps": sizes["steps"],
            "max_train_samples": sizes["rows"],
        },
        "roles": roles,
        "problems": f"world:{setting.task}?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": evaluation(settings, setting.task),
        "overlap_n": 0,
    }


def levels_of(setting: str) -> list[Level]:
    """The levels that are measured in a setting."""
    levels: list[Level] = []
    for factor_levels in FACTORS.values():
        levels += [level for level in factor_levels if level.setting == setting]
    return levels


def orion_arm(settings: StudySettings, arm: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """An arm of ORION with these values; without another one, by the prompt that the built-in student was taught."""
    values = {"n": settings.sizes["samples"], "steps": True, **values}
    values["settings"] = {"prompt": TAUGHT_PROMPT, **values.get("settings", {})}
    return {"method": "orion", "values": {"arm": arm, **values}}


def evaluation(settings: StudySettings, task: str) -> dict[str, Any]:
    """How the arms of a task are measured."""
    sizes = settings.sizes
    return {
        "problems": f"world:{task}?split=test&size={sizes['test']}",
        "n": sizes["n"],
        "sampling": dict(SAMPLING),
    }


def warm_up_recipe(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of students that learn solutions of stories that no arm has, for a short time and a longer one."""
    sizes = settings.sizes
    return {
        "arms": {
            WARMED: {"method": "sft_gold", "training": {"max_steps": sizes["warm_steps"]}},
            WARMED_LONGER: {
                "method": "sft_gold",
                "training": {"max_steps": sizes["long_warm_steps"]},
            },
        },
        "training": dict(TRAINING),
        "roles": {"student": settings.roles["student"]},
        "problems": f"world:story?split=warm-up&seed={seed}&size={sizes['warm_rows']}",
        "evaluate": evaluation(settings, "story"),
        "overlap_n": 0,
    }


def warmed_student(settings: StudySettings, arm: str, seed: int) -> str:
    """The folder of a student of the warm-up."""
    folder = run_folder(settings, WARM_UP, seed)
    with Store.open(folder, readonly=True) as store:
        student = store.students.get(store.history.stages(arm)[-1].stage)
    if student is None:
        raise StageError(
            f"the student {arm!r} of seed {seed} is not in {folder}",
            fix="remove that folder: the study makes it again",
        )
    return str(student.folder)
