"""What is checked before a run asks anybody. `run` and `plan` make the same checks, by these functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ConfigError, InputError, StageError
from potstill.methods.catalogue import method_entry
from potstill.methods.roles import Role, keys_of, missing_abilities, role_of
from potstill.models.model import Model
from potstill.records import Trace
from potstill.runs.open_folder import JUDGE
from potstill.runs.recipe import Recipe
from potstill.runs.recipe_checks import stage_calls
from potstill.store import truncation
from potstill.traces import Session, check_overlap, decontaminate, using
from potstill.traces.overlap import NGRAM

# Roles.


def check_roles(recipe: Recipe, models: Mapping[str, Model]) -> None:
    """Refuse a model that can't do what its role is annotated with; roles that may be left out and lists included.

    Scripted models pass: they are for trying a method, and say themselves what they can't do.
    """
    for name, arm in recipe.arms.items():
        for role in method_entry(arm.method).roles:
            for key in keys_of(role.name, models):
                check_model(models[key], role, name, recipe, key=key)


def check_model(model: Model, role: Role, arm: str, recipe: Recipe, *, key: str) -> None:
    """Refuse a model that can't do what one role of an arm asks."""
    spec = recipe.roles.get(key, "")
    description = f"the {key} {spec}"
    truncation.check_can_continue(recipe.truncated, model, description)
    missing = missing_abilities(model, role.annotation)
    if missing and not spec.startswith("scripted:"):
        raise ConfigError(
            f"arm {arm}: {description} can't be what {recipe.arms[arm].method} needs: {' and '.join(missing)}",
            expected="a local checkpoint, with weights to train and to score with",
            fix=f"--{role.name} transformers:PATH, world:student, or openai:NAME?…&weights=PATH",
        )


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


def overlap_ngram(recipe: Recipe) -> int:
    """How many words in a row count as overlap; 0 compares whole questions only."""
    if recipe.overlap_n is not None:
        return recipe.overlap_n
    # The world's stories come from one mould: runs of their words are the same everywhere.
    return 0 if recipe.problems.startswith("world:") else NGRAM


# What people should know before anything is asked.


def describe_run(recipe: Recipe, problems: Sequence[Trace], tests: Sequence[Trace]) -> list[str]:
    """Sentences to read before the start: roles that nobody uses, what measuring will ask."""
    sentences = unused_roles(recipe, problems, tests)
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


def describe_evaluation(recipe: Recipe, tests: Sequence[Trace]) -> str:
    """What measuring will ask, in a sentence; "" where nothing is measured."""
    if not tests:
        return ""
    measured = ["the untrained student"] if recipe.roles.get("student") else []
    measured += recipe.arms
    n = recipe.evaluate.n
    answers = len(tests) * n * len(measured)
    return (
        f"measuring asks {len(tests):,} problems x {n} answers of {', '.join(measured)}: "
        f"{answers:,} answers"
    )
