"""A recipe: methods, models and values, from a YAML file or from flags; every mistake in it is reported at once."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from potstill.budget.flags import UNLIMITED, RunLimits
from potstill.data import files
from potstill.errors import ConfigError, InputError
from potstill.methods import METHODS
from potstill.methods.catalogue import Entry, Value, entry, type_name
from potstill.models.model import Sampling
from potstill.training.settings import TrainingSettings

FREE = (
    "budget",
    "prices",
    "batch",
    "when_spent",
    "compare",
)  # what a run may cost, how it is paid for, what is shown of it: no part of it
Truncated = typing.Literal["keep", "drop", "continue", "raise", "shorter"]

_KEY = re.compile(
    r"unknown [a-z ]+ '(?P<quoted>[^']+)'|(?:arm [^:]+: )?(?P<key>[\w.]+): "
)  # what a mistake is about
_NAME = re.compile(r"[\w][\w .=+-]*")


@dataclass(frozen=True, slots=True)
class Arm:
    """One method with its values and training settings; a run compares arms on the same problems and models."""

    method: str
    values: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()


@dataclass(frozen=True, slots=True)
class Evaluating:
    """How arms are measured: on which problems, n samples each, drawn how; without problems nothing is measured.

    `kind` and `mapping` are those of the training problems where they are not given.
    """

    problems: str = ""
    n: int = 4
    limit: int = 0
    kind: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling = Sampling(temperature=0.6)

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        if self.n < 1 or self.limit < 0:
            raise ConfigError(f"n={self.n}, limit={self.limit}: n is at least 1, limit at least 0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run needs.

    Args:
        arms: by name, in the order in which they run.
        roles: model spec by role, e.g. {"teacher": "world:teacher", "student": "transformers:PATH"}.
        problems: file, hf:NAME, gym:TASK or world:TASK.
        evaluate: how the arms are measured.
        seed: from which every random choice is derived.
        limit: problems to train on at most; 0 is all.
        kind: verifier of the problems; "" guesses.
        prompt: what the learner sees, a template over the problem's fields; "" is the default of the problems' kind.
        mapping: problem field -> column.
        overlap: training problems that are also evaluation problems "stop" the run, or are "drop"ped.
        overlap_n: n-gram length in words that counts as overlap; 0 compares whole questions only; None is 13, but 0 for
            the world's stories, which come from one mould.
        truncated: what becomes of a completion that ends at its token limit: "keep" it, "drop" it as a failure,
            "continue" it from where it stopped, "raise" the limit once, or ask once for a "shorter" one.
        budget: tokens and money that the run and its roles may spend; another one goes on with the same folder.
        when_spent: at the end of the budget the run "stop"s, or goes on to "train" with what was paid for.
        prices: a file of prices, or prices by model name, over those that come with potstill; USD per million tokens.
        batch: send the calls of `openai:` models as batches, at the vendor's batch price.
        compare: the arm that is also compared with every other arm; all are compared with the untrained student.
    """

    arms: Mapping[str, Arm]
    roles: Mapping[str, str]
    problems: str
    evaluate: Evaluating = Evaluating()
    seed: int = 0
    limit: int = 0
    kind: str = ""
    prompt: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    overlap: typing.Literal["stop", "drop"] = "stop"
    overlap_n: int | None = None
    truncated: Truncated = "keep"
    budget: RunLimits = UNLIMITED
    when_spent: typing.Literal["stop", "train"] = "stop"
    prices: str | Mapping[str, Mapping[str, float | str]] = ""
    batch: bool = False
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
        """What decides the results, as plain data to be saved beside them: not what the run may cost."""
        given = dataclasses.asdict(self)
        for name, arm in self.arms.items():
            given["arms"][name]["training"] = arm.training.to_json()
        plain: dict[str, Any] = json.loads(
            json.dumps(given)
        )  # lists, as they come back from a file
        free = (*FREE, "truncated") if self.truncated == "keep" else FREE
        return {name: value for name, value in plain.items() if name not in free}


def from_file(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` settings to it."""
    try:
        data = files.yaml(path)
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
        holds = "is empty" if data is None else f"holds {type(data).__name__}"
        fix = "begin with `method: sft`; recipes/ has whole ones"
        raise ConfigError(
            f"{path} {holds}", expected="a mapping with method, roles, problems", fix=fix
        )
    return from_data(data, sets, path)


def from_data(
    data: Mapping[str, Any], sets: Sequence[str] = (), file: Path | None = None
) -> Recipe:
    """A recipe from plain data: `method` with `values` and `training`, or several under `arms`.

    Args:
        data: the recipe.
        sets: `key=value` settings over it.
        file: where the data were read, so that mistakes are told with their lines.
    """
    wrong: list[str] = []
    tree = _tree(data, sets, wrong)
    method = str(tree.pop("method", "") or "")
    arms = _mapping("arms", tree.pop("arms", None), wrong) or {method: {"method": method}}
    values, training = (
        _mapping(part, tree.pop(part, None), wrong) for part in ("values", "training")
    )
    made = {str(name): _arm(str(name), arm, values, training, wrong) for name, arm in arms.items()}
    fields = _fields(Recipe, tree, "", wrong, skip=("arms",))
    roles = _mapping("roles", tree.get("roles"), [])
    known = {role.name for method in METHODS for role in entry(method).roles} | {"judge"}
    wrong += [_unknown("role", role, sorted(known)) for role in roles if role not in known]
    budget = fields.get("budget")
    limited = budget.roles if isinstance(budget, RunLimits) else {}
    wrong += [
        _unknown("role in the budget", r, sorted(known | {"evaluation"}))
        for r in limited
        if r not in known | {"evaluation"}
    ]
    for name, arm in made.items():
        if arm.method in METHODS:
            wrong += _roles(name, entry(arm.method), roles)
    if not tree.get("problems"):
        wrong.append("problems: none given (a file, hf:NAME, gym:TASK or world:TASK)")
    wrong += [
        f"{name}: {fields[name]} is below 0"
        for name in ("limit", "overlap_n")
        if (fields.get(name) or 0) < 0
    ]
    if wrong:
        named = method if method in METHODS else "NAME"
        raise ConfigError(
            _listed(list(dict.fromkeys(wrong)), file), fix=f"potstill methods {named}"
        )
    return Recipe(arms=made, **fields)


def _listed(wrong: Sequence[str], file: Path | None) -> str:
    """All mistakes, and where a file is known those of a key that stands in it once with its line."""
    places = files.yaml_lines(file) if file else {}
    lines = "\n".join(f"  - {_line(mistake, places)}{mistake}" for mistake in wrong)
    return f"{file or 'the recipe'} has {len(wrong)} mistake(s):\n{lines}"


def _line(mistake: str, places: Mapping[str, int]) -> str:
    if not (named := _KEY.match(mistake)):
        return ""
    key = named["quoted"] or named["key"]
    found = {line for path, line in places.items() if f".{path}".endswith(f".{key}")}
    return f"line {found.pop()}: " if len(found) == 1 else ""


def _mapping(name: str, value: Any, wrong: list[str]) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        wrong.append(f"{name}: expected a mapping, found {value!r}")
    return dict(value) if isinstance(value, Mapping) else {}


def _tree(data: Mapping[str, Any], sets: Sequence[str], wrong: list[str]) -> dict[str, Any]:
    """A deep copy of the data with the settings applied; a bare key is a method value."""
    import yaml

    tree = {k: dict(v) if isinstance(v, Mapping) else v for k, v in data.items()}
    known = {f.name for f in dataclasses.fields(Recipe)} | {"training", "values", "method"}
    for setting in sets:
        key, eq, text = setting.partition("=")
        if not eq:
            wrong.append(f"--set {setting}: expected key=value")
            continue
        path = key.split(".") if key.split(".")[0] in known else ["values", *key.split(".")]
        at = tree
        for i, part in enumerate(path[:-1]):
            at[part] = _mapping(f"--set {setting}: {'.'.join(path[: i + 1])}", at.get(part), wrong)
            at = at[part]
        try:
            at[path[-1]] = yaml.safe_load(text)
        except yaml.YAMLError:
            wrong.append(f"--set {setting}: {text!r} is not YAML")
    return tree


def _arm(
    name: str, given: Any, values: Mapping[str, Any], training: Mapping[str, Any], wrong: list[str]
) -> Arm:
    arm = _mapping(f"arm {name}", given, wrong)
    method = str(arm.get("method", name))
    if name and not _NAME.fullmatch(name):  # a file is named after it
        wrong.append(
            f"arm {name!r}: a name is letters, digits and ' _.=+-', a letter or digit first"
        )
    for extra in set(arm) - {"method", "values", "training"}:
        wrong.append(f"arm {name}: unknown key {extra!r} (method, values, training)")
    if method not in METHODS:
        wrong.append(_unknown("method", method, METHODS))
        return Arm(method)
    found = entry(method)
    mine = {**values, **_mapping(f"arm {name}: values", arm.get("values"), wrong)}
    bound = _values(found.values, mine, "", wrong)
    own = _mapping(f"arm {name}: training", arm.get("training"), wrong)
    trained = _fields(TrainingSettings, {**training, **own}, "training.", wrong)
    try:
        return Arm(method, bound, TrainingSettings(**trained))
    except ConfigError as error:
        wrong.append(error.found)
        return Arm(method, bound)


def _roles(arm: str, found: Entry, roles: Mapping[str, str]) -> Iterable[str]:
    for role in found.roles:
        if not role.optional and not roles.get(role.name):
            yield f"arm {arm}: role {role.name!r} has no model (--{role.name} world:{role.name}, transformers:PATH, …)"


def _values(
    known: Sequence[Value], given: Mapping[str, Any], where: str, wrong: list[str]
) -> dict[str, Any]:
    """Values by name, converted to their annotations; settings objects are made from their fields."""
    by_name = {v.name: v for v in known}
    bound: dict[str, Any] = {}
    for name, value in given.items():
        if name not in by_name:
            wrong.append(_unknown("parameter", where + name, [where + n for n in by_name]))
            continue
        before = len(wrong)
        default = by_name[name].default
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            # What is not given keeps the default object's values, not those of its class.
            found = _fields(type(default), value, f"{where}{name}.", wrong)
            made = _made(partial(dataclasses.replace, default, **found), where + name, wrong)
        else:
            made = convert(by_name[name].annotation, value, where + name, wrong)
        if len(wrong) == before:
            bound[name] = made
    return bound


def _made(make: Callable[[], Any], name: str, wrong: list[str]) -> Any:
    """A settings object, or None where it refuses its values."""
    try:
        return make()
    except ConfigError as error:
        wrong.append(f"{name}: {error.found}")
        return None


def _fields(
    cls: Any, given: Any, where: str, wrong: list[str], skip: Sequence[str] = ()
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        wrong.append(f"{where.rstrip('.')}: expected a mapping, found {given!r}")
        return {}
    hints = typing.get_type_hints(cls)
    known = [
        Value(f.name, hints[f.name], f.default, "")
        for f in dataclasses.fields(cls)
        if f.name not in skip
    ]
    aliases = {
        f.metadata["alias"]: f.name for f in dataclasses.fields(cls) if "alias" in f.metadata
    }
    known += [Value(alias, hints[name], None, "") for alias, name in aliases.items()]
    bound = _values(known, given, where, wrong)
    return {aliases.get(name, name): value for name, value in bound.items()}


def convert(hint: Any, value: Any, name: str, wrong: list[str]) -> Any:
    """A YAML value as its annotation demands; what does not fit is added to `wrong`."""
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        made = _fields(hint, value, f"{name}.", wrong)
        return _made(partial(hint, **made), name, wrong)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        fitting = [a for a in rest if not convert_fails(a, value, name)]
        return convert((fitting or rest)[0], value, name, wrong)
    if origin is typing.Literal:
        if value not in args:
            wrong.append(f"{name}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        items = list(value.items()) if isinstance(value, Mapping) else value
        if isinstance(items, list | tuple):
            return tuple(tuple(i) if isinstance(i, list | tuple) else i for i in items)
    if hint is float and (number := _float(value)) is not None:
        return number
    if isinstance(hint, type) and origin is None and _fits(hint, value):
        return value
    if origin is not None and isinstance(value, Mapping) and origin not in (tuple, list):
        return {
            str(key): convert(args[1], item, f"{name}.{key}", wrong) for key, item in value.items()
        }
    wrong.append(f"{name}: expected {type_name(hint)}, found {value!r}")
    return value


def convert_fails(hint: Any, value: Any, name: str) -> bool:
    """Whether a value does not fit an annotation."""
    trial: list[str] = []
    convert(hint, value, name, trial)
    return bool(trial)


def _float(value: Any) -> float | None:
    """A finite number, or None; YAML reads 1e-4, which has no dot, as a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _fits(hint: type, value: Any) -> bool:
    if hint is float:
        return False
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    shown = ConfigError("", available=known, wanted=name)
    nearest = f" (nearest: {shown.nearest[0]})" if shown.nearest else ""
    return f"unknown {what} {name!r}{nearest}; available: {', '.join(shown.available)}"
