"""A recipe: methods, models and values, from a YAML file or from flags; every mistake in it is reported at once."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from potstill import config
from potstill.budget.flags import UNLIMITED, RunLimits
from potstill.config import NO_DEFAULT, Mistakes, Override, Place, Setting, Tree, join_key
from potstill.data import files, yaml
from potstill.errors import ConfigError, InputError
from potstill.methods.catalogue import (
    MethodEntry,
    Value,
    method_entry,
    method_names,
    short_name,
)
from potstill.models.model import Sampling
from potstill.models.phase import PHASES
from potstill.runs import recipe_checks
from potstill.runs.folder_layout import UNTRAINED
from potstill.runs.overrides import ARM_KEYS, SHARED_KEYS, apply_overrides, parse_overrides
from potstill.runs.recipe_checks import ArmDraft
from potstill.training.settings import TrainingSettings

# What a run may cost, how it is paid for, and what is shown of it: another value does not make another run.
UNSAVED_KEYS = ("budget", "prices", "batch", "when_spent", "compare")
Truncated = typing.Literal["keep", "drop", "continue", "raise", "shorter"]

# Keywords of `potstill.run`, beside the keys of a recipe: a method's value of that name could not be given.
PYTHON_KEYWORDS = ("out", "eval_n", "threads", "progress")

Layer: typing.TypeAlias = tuple[str, Tree]
"""Settings with the dotted key under which they were given; of several layers the last wins."""

# Names that results and ledgers have for something else: an arm of that name would be taken for it.
LEDGER_SUFFIXES = (" evaluated", " examples")

_ARM_NAME = re.compile(r"[\w][\w .=+-]*")  # a file is named after an arm


@dataclass(frozen=True, slots=True)
class Arm:
    """One method with its values and training settings; a run compares arms on the same problems and models.

    Args:
        method: its name.
        values: of its parameters.
        training: how its stages are trained.
        training_by_stage: how single stages are trained, by name or number, where a recipe says so.
    """

    method: str
    values: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    training_by_stage: Mapping[str, TrainingSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How arms are measured: on which problems, n samples each, drawn how; without problems nothing is measured.

    `stages` measures the student of every stage too, not only what the arm ends with. `kind` and `mapping` are those of
    the training problems where they are not given; `where` are conditions on the evaluation problems' metadata. `rows`
    of an arm's rows more have their own problem answered once by what the arm ends with, to be looked at: no score is
    made of these answers.
    """

    problems: str = ""
    n: int = 4
    limit: int = 0
    kind: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling = Sampling(temperature=0.6)
    stages: bool = False
    where: tuple[str, ...] = ()
    rows: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        if self.n < 1:
            raise ConfigError(f"n={self.n}: n is at least 1")
        if self.limit < 0:
            raise ConfigError(f"limit={self.limit}: limit is at least 0")
        if self.rows < 0:
            raise ConfigError(f"rows={self.rows}: rows is at least 0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run needs.

    Args:
        arms: by name, in the order in which they run.
        roles: model spec by role, e.g. {"teacher": "world:teacher", "student": "transformers:PATH"}; of a role that
            several models play by `NAME.1`, `NAME.2`.
        problems: file, hf:NAME, gym:TASK or world:TASK.
        evaluate: how the arms are measured.
        seed: from which every random choice is derived.
        limit: problems to train on at most; 0 is all.
        kind: verifier of the problems; "" guesses.
        prompt: what the learner sees, a template over the problem's fields; "" is the default of the problems' kind.
        mapping: problem field -> column.
        where: conditions on the training problems' metadata, such as "level>=4"; all must hold.
        overlap: training problems that are also evaluation problems "stop" the run, or are "drop"ped.
        overlap_n: n-gram length in words that counts as overlap; 0 compares whole questions only; None is 13, but 0 for
            the world's stories, which come from one mould.
        truncated: what becomes of a completion that ends at its token limit: "keep" it, "drop" it as a failure,
            "continue" it from where it stopped, "raise" the limit once, or ask once for a "shorter" one.
        answers_in_thoughts: whether an answer counts that stands only inside a thought; otherwise it is unparsed.
        budget: tokens and money that the run and its roles may spend; another one goes on with the same folder.
        when_spent: at the end of the budget the run "stop"s, or goes on to "train" with what was paid for.
        prices: a file of prices, or prices by model name, over those that come with potstill; USD per million tokens.
        batch: send the calls of `openai:` models as batches, at the vendor's batch price.
        answer_probability: also score a sample of each arm's rows by the probability that the untrained student gives
            the gold answer behind the row without its last line; the student must give likelihoods.
        compare: the arm that is also compared with every other arm; all are compared with the untrained student.
    """

    arms: Mapping[str, Arm]
    roles: Mapping[str, str]
    problems: str
    evaluate: EvaluationSettings = EvaluationSettings()
    seed: int = 0
    limit: int = 0
    kind: str = ""
    prompt: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    overlap: typing.Literal["stop", "drop"] = "stop"
    overlap_n: int | None = None
    truncated: Truncated = "keep"
    answers_in_thoughts: bool = False
    budget: RunLimits = UNLIMITED
    when_spent: typing.Literal["stop", "train"] = "stop"
    prices: str | Mapping[str, Mapping[str, float | str]] = ""
    batch: bool = False
    answer_probability: bool = False
    compare: str = ""

    def __post_init__(self) -> None:
        """Refuse to compare an arm that does not exist."""
        if self.compare and self.compare not in self.arms:
            raise ConfigError(
                f"compare: there is no arm {self.compare!r}",
                available=self.arms,
                wanted=self.compare,
            )

    def to_json(self) -> dict[str, Any]:
        """What decides the results, as plain data to be saved beside them; without what the run may cost."""
        data = dataclasses.asdict(self)
        for name, arm in self.arms.items():
            data["arms"][name]["training"] = arm.training.to_json()
            if not arm.training_by_stage:
                del data["arms"][name]["training_by_stage"]
            for label, training in arm.training_by_stage.items():
                data["arms"][name]["training_by_stage"][label] = training.to_json()
        if not self.evaluate.stages:
            del data["evaluate"]["stages"]
        # Answers to look at: a finished run may get some more.
        del data["evaluate"]["rows"]
        # Tuples become lists, as they come back from a file.
        plain: dict[str, Any] = json.loads(json.dumps(data))
        for name in UNSAVED_KEYS:
            del plain[name]
        if self.truncated == "keep":
            del plain["truncated"]
        for name in ("answers_in_thoughts", "answer_probability"):
            if not plain[name]:
                del plain[name]
        for settings in (plain, plain["evaluate"]):
            if not settings["where"]:
                del settings["where"]
        return plain


def from_file(
    path: Path, sets: Sequence[str | Override] = (), *, rows_only: bool = False
) -> Recipe:
    """Read a YAML recipe and apply `key=value` settings to it."""
    try:
        data = files.read_yaml(path, untyped=True)
    except FileNotFoundError:
        raise ConfigError(
            f"no recipe at {path}", fix="potstill methods lists what can be run without one"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}", expected="a YAML file"
        ) from None
    except InputError as error:
        raise ConfigError(
            error.found, expected=error.expected or "a YAML file", fix=error.fix
        ) from None
    if not isinstance(data, dict):
        content = "is empty" if data is None else f"holds {type(data).__name__}"
        raise ConfigError(
            f"{path} {content}",
            expected="a mapping with method, roles, problems",
            fix="begin with `method: sft`; recipes/ has whole ones",
        )
    return from_data(data, sets, path, rows_only=rows_only)


def from_data(
    data: Mapping[str, Any],
    sets: Sequence[str | Override] = (),
    file: Path | None = None,
    *,
    rows_only: bool = False,
) -> Recipe:
    """A recipe from plain data: `method` with `values` and `training`, or several under `arms`.

    Args:
        data: the recipe.
        sets: settings from the command line, which win over the data: `key=value` texts or overrides.
        file: where the data were read, so that mistakes are reported with their lines.
        rows_only: whether the run ends with its rows: then a role that is only trained may be left out.

    Raises:
        ConfigError: lists every mistake in the recipe, each with its dotted key.
    """
    mistakes = Mistakes()
    places: dict[str, Place] = {}
    if file is not None:
        places = {key: Place(f"line {n}", key) for key, n in files.yaml_key_lines(file).items()}
    tree = config.as_mapping(data, "", mistakes)
    has_arms = tree.get("arms") is not None
    arm_blocks = _arm_blocks(tree, mistakes)
    overrides = parse_overrides(sets, Recipe, mistakes)
    apply_overrides(tree, arm_blocks, overrides, places, mistakes, schema=Recipe, has_arms=has_arms)

    shared = {}
    for part in SHARED_KEYS:
        shared[part] = config.as_mapping(tree.pop(part, None), part, mistakes)
    method = str(tree.pop("method", "") or "")
    if not has_arms:
        arm_blocks.setdefault(short_name(method), {})["method"] = method
    elif method and arm_blocks and method not in arm_methods(arm_blocks):
        mistakes.add("method", f"{method!r} is none of the arms'; each arm has its own `method`")
    arms = {}
    for name, block in arm_blocks.items():
        arms[name] = _read_arm(name, block, shared, mistakes, has_own_block=has_arms)

    roles = config.as_mapping(tree.get("roles"), "roles", mistakes)
    roles = recipe_checks.spread_lists(roles, list(arms.values()), mistakes)
    tree["roles"] = roles
    settings = [s for s in config.settings_of(Recipe) if s.name != "arms"]
    keyed = config.merge_layers(settings, [("", tree)], mistakes)
    values = config.convert_settings(settings, keyed, mistakes)
    for name in ("limit", "overlap_n", "seed"):
        if (values.get(name) or 0) < 0:
            mistakes.add(keyed[name].key, f"{values[name]} is below 0")
    compared = values.get("compare")
    if compared and compared not in arms:
        mistakes.add("compare", config.unknown_name("arm", compared, arms))
    values.setdefault("roles", {})
    if not tree.get("problems"):
        mistakes.add("problems", "none given (a file, hf:NAME, gym:TASK or world:TASK)")
    # The roles as they were given, so that a wrong one does not hide what is wrong with the others.
    recipe_checks.check_roles(roles, list(arms.values()), mistakes, rows_only=rows_only)
    recipe_checks.check_budget(
        values.get("budget", UNLIMITED), list(arms.values()), roles, mistakes
    )
    bound_trainings: dict[str, dict[str, TrainingSettings]] = {}
    for name, arm in arms.items():
        bound_trainings[name] = {}
        for label, draft in {"": arm, **arm.stages}.items():
            objective_config = recipe_checks.convert_objective(draft, roles, mistakes)
            bound_trainings[name][label] = dataclasses.replace(
                draft.training, objective_config=objective_config
            )
    mistakes.raise_if_any(
        str(file or "the recipe"),
        places=places,
        fix=f"potstill methods {_named_method(arms.values())}",
    )
    bound = {}
    for name, arm in arms.items():
        trainings = bound_trainings[name]
        bound[name] = Arm(arm.method, arm.values, trainings.pop(""), trainings)
    return Recipe(arms=bound, **values)


def _named_method(arms: Iterable[ArmDraft]) -> str:
    """The arms' method, where they have one in common, for the command that describes it."""
    names = {arm.method for arm in arms if arm.entry is not None}
    return names.pop() if len(names) == 1 else "NAME"


def _arm_blocks(tree: Tree, mistakes: Mistakes) -> dict[str, Tree]:
    """The blocks under `arms`, by name; taken out of the recipe's data."""
    blocks = {}
    for name, block in config.as_mapping(tree.pop("arms", None), "arms", mistakes).items():
        blocks[name] = config.as_mapping(block, f"arms.{name}", mistakes)
    return blocks


def arm_methods(blocks: Mapping[str, Tree]) -> list[str]:
    """The name of each arm's method: its own name where the block has none."""
    return [str(block.get("method") or name) for name, block in blocks.items()]


def _read_arm(
    name: str, block: Tree, shared: Mapping[str, Tree], mistakes: Mistakes, *, has_own_block: bool
) -> ArmDraft:
    """An arm from its block and what all arms share."""
    key = f"arms.{name}" if has_own_block else ""
    if name == UNTRAINED or name.endswith(LEDGER_SUFFIXES):
        mistakes.add("", f"arm {name!r}: every run measures something else under this name")
    if has_own_block and not _ARM_NAME.fullmatch(name):
        mistakes.add(
            "", f"arm {name!r}: a name is letters, digits and ' _.=+-', a letter or digit first"
        )
    for unknown in block:
        if unknown not in ARM_KEYS:
            mistakes.add_unknown(join_key(key, unknown), ARM_KEYS, "key")

    # Of each part the shared layer, then the arm's own, which wins.
    layers = {}
    for part in SHARED_KEYS:
        layers[part] = [(part, shared[part])]
        if has_own_block:
            own_key = join_key(key, part)
            layers[part].append((own_key, config.as_mapping(block.get(part), own_key, mistakes)))

    # A method that is not there is one mistake; its values can't be checked.
    method_name = str(block.get("method") or name)
    values: Tree = {}
    method = None
    try:
        method = method_entry(method_name)
        for message in shadowing_names(method):
            mistakes.add(join_key(key, "method"), message)
        values = _convert_values(method.values, layers["values"], key, mistakes)
    except ConfigError as error:
        message = error.found
        if ":" not in method_name and method_name not in method_names():
            message = config.unknown_name("method", method_name, method_names())
        mistakes.add(join_key(key, "method"), message)

    arm_layers, stage_layers = _split_stages(layers["training"])
    training = _convert_training(arm_layers, mistakes)
    draft = ArmDraft(method=method_name, values=values, entry=method, key=key, **training._asdict())
    drafts: dict[str, ArmDraft] = {}
    for label, layers_of_stage in stage_layers.items():
        recipe_checks.check_stage_label(label, method, layers_of_stage[-1][0], mistakes)
        stage_training = _convert_training(arm_layers, mistakes, stage_layers=layers_of_stage)
        drafts[label] = dataclasses.replace(draft, **stage_training._asdict(), stage=label)
    return dataclasses.replace(draft, stages=drafts)


def shadowing_names(method: MethodEntry) -> list[str]:
    """What is wrong with the names of a method's roles and values: `--set limit=3` can set one thing only."""
    recipe_keys = {*config.names_of(config.settings_of(Recipe)), *ARM_KEYS}
    messages: list[str] = []
    for value in method.values:
        if value.name in recipe_keys:
            messages.append(
                f"the value {value.name} of {method.name} has the name of a key of every recipe; rename it"
            )
        elif value.name in PYTHON_KEYWORDS:
            messages.append(
                f"the value {value.name} of {method.name} has the name of a keyword of ps.run; rename it"
            )
    for role in method.roles:
        if role.name in (*recipe_keys, *PYTHON_KEYWORDS, *PHASES):
            messages.append(
                f"the role {role.name} of {method.name} has a name that every run uses; rename it"
            )
    return messages


def convert_values(method: MethodEntry, sets: Sequence[str]) -> Tree:
    """Values of a method from the texts of `--set` alone; every mistake is reported at once."""
    mistakes = Mistakes()
    tree: Tree = {}
    for override in config.read_overrides(sets, yaml.read_untyped, mistakes):
        config.apply_override(tree, override.key.split("."), override, mistakes)
    converted = _convert_values(method.values, [("", tree)], "", mistakes)
    mistakes.raise_if_any(f"values of {method.name}", fix=f"potstill methods {method.name}")
    return converted


def _convert_values(
    parameters: Sequence[Value],
    layers: Sequence[tuple[str, Tree]],
    arm_key: str,
    mistakes: Mistakes,
) -> Tree:
    """The values of a method's parameters after `*`."""
    settings = []
    for parameter in parameters:
        is_required = parameter.default is inspect.Parameter.empty
        default = NO_DEFAULT if is_required else parameter.default
        settings.append(Setting(parameter.name, parameter.annotation, default))
    keyed = config.merge_layers(settings, layers, mistakes, what="parameter")
    for setting in settings:
        if setting.default is NO_DEFAULT and setting.name not in keyed:
            mistakes.add(join_key(arm_key, f"values.{setting.name}"), "must be given")
    return config.convert_settings(settings, keyed, mistakes)


class ConvertedTraining(NamedTuple):
    """The training part of an arm; see `ArmDraft`."""

    training: TrainingSettings
    objective_config: Tree
    objective_key: str


def _split_stages(layers: Sequence[Layer]) -> tuple[list[Layer], dict[str, list[Layer]]]:
    """The layers of an arm's training settings without those of single stages, and these by the stage's label.

    `training: {lr: 1e-5, 2: {lr: 1e-6}}`: a mapping under a key that is no training setting is a stage's.
    """
    training_names = config.names_of(config.settings_of(TrainingSettings))
    arm_layers: list[Layer] = []
    stage_layers: dict[str, list[Layer]] = {}
    for key, layer in layers:
        arm_layer: Tree = {}
        for name, value in layer.items():
            is_mapping = isinstance(config.plain_value(value), Mapping)
            if name in training_names or not is_mapping:
                arm_layer[name] = value
                continue
            stage_key = join_key(key, name)
            block = value.value if isinstance(value, config.Untyped) else value
            stage_layers.setdefault(name, []).append((stage_key, dict(block)))
        arm_layers.append((key, arm_layer))
    return arm_layers, stage_layers


def _convert_training(
    layers: Sequence[Layer], mistakes: Mistakes, *, stage_layers: Sequence[Layer] = ()
) -> ConvertedTraining:
    """The training settings of an arm, and its objective config, whose values are converted later.

    Args:
        layers: of the arm; the last wins.
        mistakes: where they are added.
        stage_layers: of one of its stages, which win over the arm's.
    """
    settings = config.settings_of(TrainingSettings)
    all_layers = [*layers, *stage_layers]
    keyed = config.merge_layers(settings, all_layers, mistakes)
    count = len(mistakes)
    converted = config.convert_settings(settings, keyed, mistakes)
    objective_config = converted.pop("objective_config", {})
    if stage_layers:
        objective_config = _merge_objective_configs(all_layers, mistakes)
    key, last_layer = all_layers[-1]
    training = config.construct(
        TrainingSettings,
        converted,
        key if last_layer else "training",
        mistakes,
        keyed=keyed,
        is_whole=len(mistakes) == count,
    )
    objective_key = ""
    if "objective_config" in keyed:
        objective_key = keyed["objective_config"].key
    return ConvertedTraining(training or TrainingSettings(), objective_config, objective_key)


def _merge_objective_configs(layers: Sequence[Layer], mistakes: Mistakes) -> Tree:
    """The objective configs of all layers, key by key: a stage's adds to the arm's."""
    merged: Tree = {}
    for key, layer in layers:
        own_config = layer.get("objective_config")
        merged |= config.as_mapping(own_config, join_key(key, "objective_config"), mistakes)
    return merged
