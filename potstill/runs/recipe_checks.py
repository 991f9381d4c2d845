"""What is wrong with a recipe beyond its types: roles, limits of roles, and objectives, before anything is asked."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from potstill import config, models, objectives
from potstill.budget.amounts import is_limit_name
from potstill.budget.flags import RunLimits
from potstill.config import Mistakes, Tree, join_key, parse_query
from potstill.errors import PotstillError
from potstill.methods import METHODS
from potstill.methods.catalogue import MethodEntry
from potstill.methods.listing import list_methods
from potstill.methods.role_annotations import keys_of, list_key, needs_weights, role_of
from potstill.models.phase import PHASES
from potstill.models.ray_spec import inner_spec
from potstill.models.remote.options import TEXT_SCORES, TOKEN_SCORES
from potstill.runs.sources import WORLD_MODELS, load_gym_teacher, load_oracle
from potstill.runs.teacher_roles import played_teacher_roles, teacher_roles, with_role_teachers
from potstill.training.settings import TrainingSettings
from potstill.world.tasks import TASKS

EXTRA_ROLES = ("judge",)  # a role of the verifiers, not of a method


@dataclass(frozen=True, slots=True)
class ArmDraft:
    """An arm while its recipe is read.

    Args:
        method: its name in the recipe.
        values: of the method's parameters.
        training: its settings, without the objective config.
        objective_config: as it was given.
        entry: of the method in the catalogue; None where there is no such method.
        key: dotted, of the arm: `arms.NAME`, or "" where the recipe is of one method.
        objective_key: dotted, of its objective config; "" where it has none.
        stage: the label of the stage whose settings these are; "" for those of the arm.
        stages: of an arm, the drafts of the stages that have settings of their own, by label.
    """

    method: str
    values: Tree
    training: TrainingSettings
    objective_config: Tree
    entry: MethodEntry | None
    key: str
    objective_key: str = ""
    stage: str = ""
    stages: Mapping[str, ArmDraft] = field(default_factory=dict)


def spread_lists(
    roles: Mapping[str, Any], arms: Sequence[ArmDraft], mistakes: Mistakes
) -> dict[str, Any]:
    """The roles with a key of its own for each model of a list: `readers: [A, B]` is `readers.1: A, readers.2: B`."""
    list_roles: set[str] = set()
    for arm in arms:
        if arm.entry is not None:
            list_roles.update(role.name for role in arm.entry.roles if role.is_list)
    spread: dict[str, Any] = {}
    for role, spec_or_specs in roles.items():
        value = config.plain_value(spec_or_specs)
        if role not in list_roles:
            spread[role] = spec_or_specs
        elif isinstance(value, Mapping):  # numbered, as `--set roles.readers.2=SPEC` makes it
            for number, spec in value.items():
                if not number.isdecimal():
                    mistakes.add(f"roles.{role}.{number}", "a list's models are numbered from 1")
                spread[f"{role}.{number}"] = spec
        else:
            specs = value if isinstance(value, list | tuple) else [spec_or_specs]
            for number, spec in enumerate(specs, start=1):
                spread[list_key(role, number)] = spec
    return spread


def check_roles(
    roles: Mapping[str, Any],
    arms: Sequence[ArmDraft],
    mistakes: Mistakes,
    *,
    rows_only: bool = False,
) -> None:
    """Refuse roles that nobody plays, roles of a method without a model, and options that a model does not have.

    Where nothing is trained, a role that asks for weights may be left out.
    """
    available = role_names(arms, roles)
    for role, spec in roles.items():
        if role_of(role) not in available:
            mistakes.add_unknown(f"roles.{role}", available, "role")
        if not isinstance(spec, str):
            continue  # its type is a mistake already
        kind, _, name_and_query = inner_spec(spec).partition(":")
        name, _, query = name_and_query.partition("?")
        if kind == "world" and name in TASKS:
            models_listed = ", ".join(WORLD_MODELS)
            message = f"world:{name} is a task, no model; available: {models_listed}"
            mistakes.add(f"roles.{role}", message)
        elif kind == "world" and name not in WORLD_MODELS:
            message = config.unknown_name("world model", name, WORLD_MODELS)
            mistakes.add(f"roles.{role}", message)
        try:
            models.check_options(spec)
            if kind == "world" and name == "oracle":
                load_oracle(query)
            if kind == "world" and name == "gym-teacher":
                load_gym_teacher(query)
        except PotstillError as error:
            listed = error.found.replace(":\n  - ", ": ").replace("\n  - ", "; ")
            mistakes.add(f"roles.{role}", listed)
    for arm in arms:
        for needed in arm.entry.roles if arm.entry else ():
            if rows_only and needs_weights(needed.annotation):
                continue
            if not needed.optional and not any(roles[key] for key in keys_of(needed.name, roles)):
                flag = f"--{needed.name} world:{needed.name}, transformers:PATH, …"
                mistakes.add(arm.key, f"role {needed.name!r} of {arm.method} has no model ({flag})")


def check_budget(
    budget: RunLimits, arms: Sequence[ArmDraft], roles: Mapping[str, Any], mistakes: Mistakes
) -> None:
    """Refuse limits on roles that nobody plays."""
    available = role_names(arms, roles)
    for name in budget.roles:
        if not is_limit_name(name, available):
            mistakes.add_unknown(f"budget.roles.{name}", sorted([*available, *PHASES]), "role")


def role_names(arms: Sequence[ArmDraft], roles: Mapping[str, Any]) -> list[str]:
    """Every role that a method of the catalogue or of one of the arms has, and the teachers that an arm chooses among.

    Args:
        arms: of the recipe.
        roles: as they were given.
    """
    names = set(EXTRA_ROLES)
    drafts = [draft for arm in arms for draft in (arm, *arm.stages.values())]
    names.update(played_teacher_roles(roles, [draft.objective_config for draft in drafts]))
    for listed in list_methods().values():
        names.update(role.name for role in listed.roles)
    for arm in arms:
        if arm.entry is not None:
            names.update(role.name for role in arm.entry.roles)
    return sorted(names)


# Objectives.


class StageCall(NamedTuple):
    """A `Stage(…)` in a method's file, as far as it can be read without running the method.

    Args:
        objective: its name; "" where it is not written out.
        name: of the stage, "" where it has none; None where it is made while the method runs.
        keywords: those whose values are written out.
        is_complete: whether every keyword's value is written out.
    """

    objective: str = ""
    keywords: Mapping[str, Any] = {}
    is_complete: bool = False
    name: str | None = ""


@dataclass(frozen=True, slots=True)
class RoleWeights:
    """Stands for the model of a role while keywords are checked: nothing is loaded."""

    weights: Path | None


@dataclass(frozen=True, slots=True)
class ScoringRole(RoleWeights):
    """Stands for a model that says how likely given texts are."""

    likelihood: bool = field(default=True)


@dataclass(frozen=True, slots=True)
class TokenScoringRole(RoleWeights):
    """Stands for a model that scores given tokens (`TokenScored`): it has what that Protocol names."""

    id: str = "token-scoring-role"
    write: bool = True
    score_tokens: bool = True


@dataclass(frozen=True, slots=True)
class TextAndTokenScoringRole(TokenScoringRole):
    """Stands for a model that scores texts and tokens."""

    likelihood: bool = True


def convert_objective(arm: ArmDraft, roles: Mapping[str, Any], mistakes: Mistakes) -> Tree:
    """The arm's objective config with its values converted, checked against the stages that its method yields."""
    keywords = dict(arm.objective_config)
    if not keywords:
        return {}
    objective = str(keywords.pop("objective", ""))
    if objective and objective not in objectives.TABLE:
        message = config.unknown_name("objective", objective, objectives.TABLE)
        mistakes.add(join_key(arm.objective_key, "objective"), message)
        return {}
    check = ObjectiveCheck(objective, keywords, arm.objective_key, roles)
    calls = stage_calls(arm.entry) if arm.entry else []
    if arm.stage:
        calls = calls_of_stage(calls, arm.stage)
    converted: Tree = {"objective": objective} if objective else {}
    for call in calls or [StageCall()]:
        converted.update(check.convert(call, mistakes))
    return converted


@dataclass(frozen=True, slots=True)
class ObjectiveCheck:
    """Checks the keywords of an arm's objective config over those of a method's stages.

    Args:
        objective: in the place of the stages' own; "" leaves theirs.
        keywords: of the objective config.
        key: dotted, of the objective config.
        roles: model spec by role; a keyword that takes a model may name a role.
    """

    objective: str
    keywords: Tree
    key: str
    roles: Mapping[str, Any]

    def convert(self, call: StageCall, mistakes: Mistakes) -> Tree:
        """The keywords, converted; what is wrong with them over those of one stage is added to the mistakes."""
        from potstill.training.objective_config import bind
        from potstill.training.objective_keywords import convert_keywords, keyword_settings

        name = self.objective or call.objective
        if name not in objectives.TABLE:
            name = ""
        count = len(mistakes)
        converted = convert_keywords(keyword_settings(name), self.keywords, self.key, mistakes)
        stand_ins = self._stand_in_models(converted, mistakes)
        stand_in_teachers = {}
        for role in teacher_roles(self.roles).values():
            stand_in_teachers[role] = role_stand_in(str(self.roles[role]))
        if len(mistakes) == count and name and call.is_complete:
            try:
                keywords = {**call.keywords, **converted, **stand_ins}
                bind(name, with_role_teachers(keywords, stand_in_teachers))
            except PotstillError as error:
                mistakes.add(self.key, error.found)
        return converted

    def _stand_in_models(self, keywords: Tree, mistakes: Mistakes) -> Tree:
        """A stand-in for each keyword that names a role; a name of neither a role nor a folder is a mistake."""
        from potstill.training.objective_keywords import MODEL_KEYWORDS

        stand_ins = {}
        for keyword in MODEL_KEYWORDS:
            value = keywords.get(keyword)
            if not isinstance(value, str):
                continue
            if value in self.roles:
                stand_ins[keyword] = role_stand_in(str(self.roles[value]))
            elif not Path(value).expanduser().exists():
                message = f"{value!r} is no role ({', '.join(self.roles)}) and no folder"
                mistakes.add(join_key(self.key, keyword), message)
        return stand_ins


def role_stand_in(spec: str) -> RoleWeights:
    """What a spec says about a model's weights and scores, without loading it."""
    kind, _, name_and_query = inner_spec(spec).partition(":")
    name, _, query = name_and_query.partition("?")
    options = parse_query(query)
    if kind not in (*models.KINDS, "world") or kind in ("world", "transformers", "vllm"):
        return RoleWeights(Path(name))
    weights = Path(options["weights"]) if options.get("weights") else None
    score = options.get("score", "")
    if score in TOKEN_SCORES:
        is_of_texts = score in TEXT_SCORES
        return TextAndTokenScoringRole(weights) if is_of_texts else TokenScoringRole(weights)
    if score:
        return ScoringRole(weights)
    return RoleWeights(weights)


def stage_calls(method: MethodEntry) -> list[StageCall]:
    """The `Stage(model, traces, "objective", …)` calls in a method's function; none where they can't be read.

    Only the function itself is read: its file may hold other methods, and helpers that other choices lead to. A method
    that is a line of a table yields one stage, whose values stand in the recipe.
    """
    file = METHODS.files.get(method.name) if method.family else None
    if file is not None and file.line is not None:
        objectives_of_arms = {arm.objective for arm in file.line.arms if arm.objective}
        return [StageCall("" if objectives_of_arms else file.line.objective)]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method.method)))
    except (OSError, TypeError, SyntaxError):  # a method that was made by a program, or typed in
        return []
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Stage":
            calls.append(_read_stage_call(node))
    return calls


def _read_stage_call(node: ast.Call) -> StageCall:
    """One call; only what is written out as a constant is known."""
    objective: Any = ""
    if len(node.args) > 2 and isinstance(node.args[2], ast.Constant):
        objective = node.args[2].value
    keywords = {}
    name: str | None = ""
    is_complete = True
    for keyword in node.keywords:
        if keyword.arg is None or not isinstance(keyword.value, ast.Constant):
            is_complete = False
            if keyword.arg in (None, "name"):
                name = None
        elif keyword.arg == "objective":
            objective = keyword.value.value
        elif keyword.arg == "name":
            name = str(keyword.value.value)
        else:
            keywords[keyword.arg] = keyword.value.value
    return StageCall(str(objective), keywords, is_complete, name)


def calls_of_stage(calls: Sequence[StageCall], label: str) -> list[StageCall]:
    """The calls that may be a stage's: the one of its name; by a number, which a loop may reach too, any."""
    named = [call for call in calls if call.name == label]
    if named or not label.isdecimal():
        return named
    return list(calls)


def check_stage_label(label: str, method: MethodEntry | None, key: str, mistakes: Mistakes) -> None:
    """Refuse settings of a stage that a method can't have, as far as its code says."""
    if method is None:
        return
    if label.isdecimal():
        if int(label) < 1:
            mistakes.add(key, "stages are numbered from 1")
        return
    names = stage_names(method)
    if names is not None and label not in names:
        training_names = config.names_of(config.settings_of(TrainingSettings))
        mistakes.add_unknown(key, [*training_names, *names], "setting or stage")


def stage_names(method: MethodEntry) -> list[str] | None:
    """The names of a method's stages; None where its code alone does not say them all."""
    calls = stage_calls(method)
    if not calls or "yield from" in inspect.getsource(method.method):
        return None
    names: list[str] = []
    for call in calls:
        if call.name is None:
            return None
        if call.name:
            names.append(call.name)
    return names
