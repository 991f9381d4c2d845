"""What is checked before a run asks anybody. `run` and `plan` make the same checks, by these functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from potstill import verifiers
from potstill.budget import prices
from potstill.budget.budget import Budget
from potstill.errors import ConfigError, InputError, StageError
from potstill.extras import TRAINING, is_installed, require_extra
from potstill.methods.catalogue import method_entry
from potstill.methods.role_annotations import keys_of, missing_abilities, needs_weights, role_of
from potstill.models.model import ChecksRequests, Model, Trainable
from potstill.models.recorded import Recorded
from potstill.records import Stage, Trace
from potstill.runs import manifest
from potstill.runs.open_folder import JUDGE, STUDENT, recorded_settings
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.recipe_checks import stage_calls
from potstill.runs.results import deciding_settings
from potstill.runs.sources import checkpoint_of
from potstill.runs.teacher_roles import played_teacher_roles
from potstill.runs.train import student_chat_mode
from potstill.store import database, truncation
from potstill.store.store import Store
from potstill.traces import Session, check_overlap, decontaminate, using
from potstill.traces.overlap import NGRAM, OverlapIndex
from potstill.traces.verification import check_judge


def check_run(
    recipe: Recipe,
    models: Mapping[str, Model],
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    *,
    rows_only: bool = False,
) -> None:
    """Make every check that needs the models: what they can do, who judges, what they cost.

    Args:
        recipe: of the run.
        models: by key.
        problems: to train on.
        tests: to measure on.
        rows_only: whether the run ends with its rows: then nothing is trained.
    """
    check_roles(recipe, models, rows_only=rows_only)
    check_judge([*problems, *tests], models.get(JUDGE), f"--role {JUDGE}=SPEC")
    check_prices(recipe, models)


def check_training_extra(recipe: Recipe) -> None:
    """Refuse to begin what could not be trained: training needs an extra."""
    require_extra("local", TRAINING, fix="--rows-only, which collects the rows and trains nothing")
    uses_adapters = any(arm.training.lora is not None for arm in recipe.arms.values())
    if uses_adapters and not is_installed("peft"):
        raise ConfigError(
            "training.lora needs peft, which is not installed",
            expected="the extra potstill[local]",
            fix="pip install 'potstill[local]', or leave training.lora out",
        )


def check_disk(out: Path, needed_bytes: float) -> None:
    """Refuse a run whose students or answers the disk has no room for."""
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free + folder_bytes(out)
    if needed_bytes > free_bytes:
        raise InputError(
            f"{out} needs about {needed_bytes / 1e9:.3g} GB, and the disk has {free_bytes / 1e9:.3g} GB",
            expected="room for the answers, the rows and a student of each arm",
            fix="free some space, or give a folder on another disk with --out",
        )


def folder_bytes(folder: Path) -> int:
    """What a run folder holds already, which the same run does not need again."""
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def students_bytes(recipe: Recipe) -> int:
    """What the arms' students need on the disk: the weights of each role that is trained, where they are here."""
    needed = 0
    for arm in recipe.arms.values():
        for role in method_entry(arm.method).roles:
            if not needs_weights(role.annotation):
                continue
            for key in keys_of(role.name, recipe.roles):
                folder = checkpoint_of(recipe.roles[key])
                if folder is not None:
                    needed += sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return needed


def check_folder(recipe: Recipe, out: Path, threads: int) -> None:
    """Refuse a run folder that holds another run, without writing anything into it."""
    if not (out / manifest.FILE).is_file() or not (out / database.FILE).is_file():
        return
    with Store.open(out, create=False, readonly=True) as store:
        is_empty = store.is_empty()
    if not is_empty:
        manifest.check(out, recorded_settings(deciding_settings(recipe), recipe.seed, threads))


def check_prices(recipe: Recipe, models: Mapping[str, Model]) -> None:
    """Refuse a limit of money on a model without a price."""
    custom_prices = prices.load_custom_prices(recipe.prices)
    account = Budget(recipe.budget.by_name(), prices=custom_prices)
    for key, model in models.items():
        account.permit(role_of(key), model, "")


# Roles.


def check_roles(recipe: Recipe, models: Mapping[str, Model], *, rows_only: bool = False) -> None:
    """Refuse a model that can't do what its role is annotated with; roles that may be left out and lists included.

    Scripted models pass: they are for trying a method, and say themselves what they can't do. Where nothing is trained,
    nobody needs weights.
    """
    for name, arm in recipe.arms.items():
        for role in method_entry(arm.method).roles:
            for key in keys_of(role.name, models):
                missing = missing_abilities(models[key], role.annotation)
                if rows_only and Trainable.__name__ in missing:
                    missing.remove(Trainable.__name__)
                check_model(models[key], missing, name, recipe, key=key)
                if not rows_only and needs_weights(role.annotation):
                    student_chat_mode(models[key])  # a student is trained as it is asked


def check_model(
    model: Model, missing: Sequence[str], arm: str, recipe: Recipe, *, key: str
) -> None:
    """Refuse a model that lacks what one role of an arm asks."""
    spec = recipe.roles.get(key, "")
    description = f"the {key} {spec}"
    truncation.check_can_continue(recipe.truncated, model, description)
    if missing and not spec.startswith("scripted:"):
        raise ConfigError(
            f"arm {arm}: {description} can't be what {recipe.arms[arm].method} needs: {' and '.join(missing)}",
            expected="a local checkpoint, with weights to train and to score with; for scores a server will do",
            fix=f"{role_flag(role_of(key))}transformers:PATH, world:student, openai:NAME?…&weights=PATH, "
            "or for scores openai:NAME?…&score=prompt_logprobs",
        )


def role_flag(role: str) -> str:
    """How a role is given on the command line, up to its model."""
    return f"--{role} " if role in ("teacher", STUDENT, "sampler") else f"--role {role}="


# Training problems that are evaluation problems.


def refuse_overlap(recipe: Recipe, problems: Sequence[Trace], tests: Sequence[Trace]) -> None:
    """Refuse training problems that are evaluation problems; where these are dropped, refuse to be left with none."""
    if not tests:
        return
    if recipe.overlap == "drop":
        with using(
            Session()
        ):  # nothing is recorded here: the arms drop them again, into their own ledgers
            remove_overlap(recipe, problems, tests)
        return
    test_problems = [trace.problem for trace in tests]
    try:
        check_overlap(test_problems, problems, n=overlap_ngram(recipe))
    except StageError as error:
        fix = "leave them out with --overlap drop (or choose another evaluation set)"
        raise StageError(error.found, expected=error.expected, fix=fix) from None


def remove_overlap(
    recipe: Recipe, problems: Sequence[Trace], tests: Sequence[Trace]
) -> list[Trace]:
    """The training problems that are no evaluation problems; the others are recorded as dropped."""
    if not tests:
        return list(problems)
    test_problems = [trace.problem for trace in tests]
    remaining = decontaminate(test_problems, problems, n=overlap_ngram(recipe))
    if not remaining:
        raise InputError(
            "every training problem is an evaluation problem", fix="choose other problems"
        )
    return remaining


def overlap_rule(recipe: Recipe, tests: Sequence[Trace]) -> Callable[[Trace], str] | None:
    """What says how a trace overlaps the evaluation set, "" where it does not; None where nothing is measured.

    The index of the evaluation set is built when somebody asks for the first time: few methods make new problems.
    """
    if not tests:
        return None

    @cache
    def build_index() -> OverlapIndex:
        return OverlapIndex([trace.problem for trace in tests], overlap_ngram(recipe))

    def overlap_reason(trace: Trace) -> str:
        return build_index().overlap_reason(trace)

    return overlap_reason


def refuse_leaks(
    recipe: Recipe, stage: Stage, problems: Sequence[Trace], tests: Sequence[Trace]
) -> None:
    """Refuse rows on new problems that overlap the evaluation set; the run's own problems were checked before.

    Raises:
        StageError: a method made such a problem, and not by `derive`, which drops them.
    """
    known_ids = {trace.problem.id for trace in problems}
    new_rows = [row for row in stage.rows if row.problem.id not in known_ids]
    if new_rows and tests:
        test_problems = [trace.problem for trace in tests]
        check_overlap(test_problems, new_rows, n=overlap_ngram(recipe))


def overlap_ngram(recipe: Recipe) -> int:
    """How many words in a row count as overlap; 0 compares whole questions only."""
    if recipe.overlap_n is not None:
        return recipe.overlap_n
    # The world's stories come from one mould: runs of their words are the same everywhere.
    return 0 if recipe.problems.startswith("world:") else NGRAM


def checking_models(models: Mapping[str, Model]) -> dict[str, ChecksRequests]:
    """The models that can refuse a request without asking anybody, by key."""
    checking: dict[str, ChecksRequests] = {}
    for key, model in models.items():
        if isinstance(model, ChecksRequests):
            checking[key] = model
    return checking


# Recordings.


def recorded_models(models: Mapping[str, Model]) -> dict[str, Recorded]:
    """The models of the roles of methods that repeat a file, by key."""
    recorded: dict[str, Recorded] = {}
    for key, model in models.items():
        if isinstance(model, Recorded) and key != JUDGE:
            recorded[key] = model
    return recorded


def unrecorded_problems(recording: Recorded, problems: Sequence[Trace]) -> list[Trace]:
    """The problems whose own prompt was never recorded."""
    return [trace for trace in problems if not recording.knows(trace.prompt)]


def describe_recordings(
    recipe: Recipe, models: Mapping[str, Model], problems: Sequence[Trace]
) -> list[str]:
    """For each recording with gaps a sentence that says for how many problems it has answers."""
    sentences: list[str] = []
    for key, recording in recorded_models(models).items():
        missing = unrecorded_problems(recording, problems)
        if missing:
            known_count = len(problems) - len(missing)
            sentences.append(
                f"the {key} {recipe.roles[key]} is recorded for {known_count:,} of {len(problems):,} problems"
            )
    return sentences


# What people should know before anything is asked.


def describe_run(
    recipe: Recipe,
    models: Mapping[str, Model],
    problems: Sequence[Trace],
    tests: Sequence[Trace],
) -> list[str]:
    """Sentences to read before the start: unused roles, gaps of recordings, what is verified, what measuring asks."""
    sentences = unused_roles(recipe, problems, tests)
    sentences += describe_recordings(recipe, models, problems)
    sentences += describe_unchecked_steps(recipe, problems)
    evaluation = describe_evaluation(recipe, tests)
    if evaluation:
        sentences.append(evaluation)
    return sentences


def unused_roles(recipe: Recipe, problems: Sequence[Trace], tests: Sequence[Trace]) -> list[str]:
    """A sentence for each role that has a model and that nothing in the run asks or trains."""
    used_roles: set[str] = set()
    for arm in recipe.arms.values():
        entry = method_entry(arm.method)
        used_roles.update(role.name for role in entry.roles)
        used_roles.update(model_keywords(arm.training.objective_config))
        configs = [arm.training.objective_config]
        used_roles.update(played_teacher_roles(recipe.roles, configs))
        for call in stage_calls(entry):
            used_roles.update(model_keywords(call.keywords))
    if tests:
        used_roles.add("student")  # measured before any training
    if any(trace.problem.kind == JUDGE for trace in (*problems, *tests)):
        used_roles.add(JUDGE)
    sentences: list[str] = []
    for role, spec in recipe.roles.items():
        if spec and role_of(role) not in used_roles:
            sentences.append(f"the role {role} ({spec}) is given, and no arm uses it")
    return sentences


def model_keywords(keywords: Mapping[str, Any]) -> list[str]:
    """The roles that an objective's keywords name."""
    from potstill.training.objective_keywords import MODEL_KEYWORDS

    return [keywords[name] for name in MODEL_KEYWORDS if isinstance(keywords.get(name), str)]


def describe_unchecked_steps(recipe: Recipe, problems: Sequence[Trace]) -> list[str]:
    """A sentence for the arms whose rows are verified by their answers alone, and why their steps are not judged."""
    judging = {verifiers.has_steps(trace.problem) for trace in problems}
    arms_by_reason: dict[str, list[str]] = {}
    for name, arm in recipe.arms.items():
        steps = asked_step_checks(arm)
        if steps is True or (steps is None and judging == {True}):
            continue
        if steps is False:
            reason = "steps=false"
        else:
            share = "all" if judging == {False} else "some"
            kinds = {t.problem.kind for t in problems if not verifiers.has_steps(t.problem)}
            reason = f"{share} of the problems are of a kind without a step verifier ({', '.join(sorted(kinds))})"
        arms_by_reason.setdefault(reason, []).append(name)
    return [
        f"{', '.join(names)}: answers alone are verified, and not the steps to them: {reason}"
        for reason, names in arms_by_reason.items()
    ]


def asked_step_checks(arm: Arm) -> bool | None:
    """What an arm's value `steps`, or that of its settings, says; True where its method has none to be set."""
    for value in method_entry(arm.method).values:
        arm_value = arm.values.get(value.name, value.default)
        if value.name == "steps":
            return cast("bool | None", arm_value)
        # A method with many values has it in its settings.
        if any(field.name == "steps" for field in value.fields):
            return cast("bool | None", arm_value.steps)
    return True


def describe_evaluation(recipe: Recipe, tests: Sequence[Trace]) -> str:
    """What measuring will ask, in a sentence; "" where nothing is measured."""
    if not tests:
        return ""
    measured = ["the untrained student"] if recipe.roles.get("student") else []
    measured += recipe.arms
    n = recipe.evaluate.n
    answers = len(tests) * n * len(measured)
    sentence = (
        f"measuring asks {len(tests):,} problems x {n} answers of {', '.join(measured)}: "
        f"{answers:,} answers"
    )
    if recipe.evaluate.stages:
        sentence += f", and {len(tests) * n:,} more of each earlier stage's student"
    return sentence
