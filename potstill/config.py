"""The one converter: plain data (YAML, `--set`, flags, options of a model) become typed settings.

A setting has a name, perhaps an alias, and a type: the annotation of a dataclass's field, of a function's parameter or
of an objective's constant. The type decides what a text means: `no` is text for a `str` and False for a `bool`. Every
mistake is collected with its dotted key (`training.lora.r`), and all of them are reported in one error.

pydantic converts single values. It is imported when the first value is converted: most commands convert none.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from potstill.errors import ConfigError

if typing.TYPE_CHECKING:
    from pydantic import TypeAdapter

Tree: TypeAlias = dict[str, Any]

NO_DEFAULT = object()  # of a setting that must be given
_UNIONS = (typing.Union, types.UnionType)
_NULLS = ("null", "Null", "NULL", "~")
_SHOWN = 60  # characters of a wrong value in an error
_TYPE_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "nothing",
}


class Untyped(str):
    """A value as it was written, without a type of its own; `value` is what YAML reads in it."""

    value: Any

    def __new__(cls, text: str, value: Any) -> Untyped:
        """Keep the text and what it reads as."""
        untyped = super().__new__(cls, text)
        untyped.value = value
        return untyped


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set.

    Args:
        name: the key under which it is set.
        kind: its annotation.
        default: its value where it is not set. Of a settings object, values that are not given keep the default's.
        alias: another key under which it can be set; "" where there is none.
    """

    name: str
    kind: Any
    default: Any = NO_DEFAULT
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A setting from the command line, which wins over a file.

    Args:
        key: dotted, such as `training.lora.r`.
        value: an `Untyped` text, or a value that a flag has converted.
        source: the words on the command line, such as `--set training.lora.r=8`.
    """

    key: str
    value: Any
    source: str


class Place(NamedTuple):
    """Where a key was set (`line 7`, or words of the command line), and the key as it was written there."""

    where: str
    key: str


class KeyedValue(NamedTuple):
    """A value and the dotted key under which it was given."""

    value: Any
    key: str


class Mistakes:
    """Mistakes with their dotted keys, collected to be reported together."""

    def __init__(self) -> None:
        """Begin without a mistake."""
        self.entries: list[tuple[str, str]] = []
        self._added = 0

    def __len__(self) -> int:
        """How many were added, the same one twice included: whether a step added any is seen from this."""
        return self._added

    def add(self, key: str, message: str) -> None:
        """Add a mistake; the key is "" where no single key is wrong."""
        self._added += 1
        if (key, message) not in self.entries:
            self.entries.append((key, message))

    def add_unknown(
        self,
        key: str,
        available: Iterable[str],
        what: str = "setting",
        aliases: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Add a mistake about a key that is not among those available at its level; see `unknown_name`."""
        prefix, _, name = key.rpartition(".")
        self.add(key, unknown_name(what, name, available, prefix=prefix, aliases=aliases))

    def lines(self, places: Mapping[str, Place] | None = None) -> list[str]:
        """The mistakes as lines: `line 7: training.lora.r: expected a whole number, found 'x'`."""
        lines = []
        for key, message in self.entries:
            place = find_place(key, places or {})
            parts = [part for part in (place.where, place.key, message) if part]
            lines.append(": ".join(parts))
        return list(dict.fromkeys(lines))

    def raise_if_any(
        self, subject: str, *, places: Mapping[str, Place] | None = None, fix: str = ""
    ) -> None:
        """Raise one ConfigError that lists all mistakes of the subject, if there are any."""
        lines = self.lines(places)
        if lines:
            listed = "".join(f"\n  - {line}" for line in lines)
            raise ConfigError(f"{subject} has {len(lines)} mistake(s):{listed}", fix=fix)


def unknown_name(
    what: str,
    name: str,
    available: Iterable[str],
    *,
    prefix: str = "",
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The message about a name that is not available, with the nearest one that is.

    Args:
        what: a name of what it is.
        name: the unknown one.
        available: the known ones.
        prefix: dotted, in front of the nearest.
        aliases: the alias of an available name, where it has one.
    """
    names = list(available)
    nearest = difflib.get_close_matches(name, [*names, *aliases.values()], n=1)
    suggestion = f" (nearest: {join_key(prefix, nearest[0])})" if nearest else ""
    listed = [f"{n} ({aliases[n]})" if n in aliases else n for n in names]
    return f"unknown {what} {name!r}{suggestion}; available: {', '.join(listed)}"


def join_key(prefix: str, name: str) -> str:
    """A dotted key."""
    return f"{prefix}.{name}" if prefix else name


def find_place(key: str, places: Mapping[str, Place]) -> Place:
    """Where a key was set: itself, else a key below it, else the nearest above; empty where nobody wrote it down."""
    if key not in places:
        for below, place in places.items():
            if below.startswith(f"{key}."):
                return Place(place.where, key)
    above = key
    while above:
        if above in places:
            where, written = places[above]
            return Place(where, written + key[len(above) :])
        above = above.rpartition(".")[0]
    return Place("", key)


@cache
def settings_of(cls: type) -> tuple[Setting, ...]:
    """The fields of a dataclass as settings; `field(metadata={"alias": "lr"})` gives one a second name."""
    kinds = typing.get_type_hints(cls)
    settings = []
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = NO_DEFAULT
        settings.append(
            Setting(field.name, kinds[field.name], default, field.metadata.get("alias", ""))
        )
    return tuple(settings)


def names_of(settings: Iterable[Setting]) -> dict[str, str]:
    """The name of a setting by each key under which it can be set."""
    names = {}
    for setting in settings:
        names[setting.name] = setting.name
        if setting.alias:
            names[setting.alias] = setting.name
    return names


def as_mapping(value: Any, key: str, mistakes: Mistakes) -> Tree:
    """A mapping with text keys; empty, with a mistake, where the value is something else."""
    value = value.value if isinstance(value, Untyped) else value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        mistakes.add(key, f"expected a mapping, found {show_value(value)}")
        return {}
    return {str(name): item for name, item in value.items()}


def merge_layers(
    settings: Sequence[Setting],
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    mistakes: Mistakes,
    *,
    what: str = "setting",
) -> dict[str, KeyedValue]:
    """What was given for each setting; of several layers (dotted key, mapping) the last wins.

    A setting that one layer gives under its name and under its alias is a mistake.
    """
    names = names_of(settings)
    merged: dict[str, KeyedValue] = {}
    for prefix, layer in layers:
        written: dict[str, str] = {}  # the keys of this layer, by the setting's name
        for key, value in layer.items():
            if key not in names:
                available = [setting.name for setting in settings]
                aliases = {setting.name: setting.alias for setting in settings if setting.alias}
                mistakes.add_unknown(join_key(prefix, key), available, what, aliases)
                continue
            name = names[key]
            if name in written:
                mistakes.add(
                    join_key(prefix, key),
                    f"{written[name]} and {key} are the same setting: give one",
                )
            written[name] = key
            merged[name] = KeyedValue(value, join_key(prefix, key))
    return merged


def convert_settings(
    settings: Sequence[Setting], keyed: Mapping[str, KeyedValue], mistakes: Mistakes
) -> Tree:
    """The values that could be converted, by the settings' names; the others are added to the mistakes."""
    converted = {}
    for setting in settings:
        if setting.name not in keyed:
            continue
        value, key = keyed[setting.name]
        count = len(mistakes)
        result = convert(setting.kind, value, key, mistakes, default=setting.default)
        if len(mistakes) == count:
            converted[setting.name] = result
    return converted


def convert(kind: Any, value: Any, key: str, mistakes: Mistakes, *, default: Any = None) -> Any:
    """A value of the annotated kind; a value that does not fit is a mistake and gives None.

    Args:
        kind: an annotation; a dataclass is made from a mapping.
        value: plain data, with or without `Untyped` in it.
        key: dotted, for mistakes.
        mistakes: where they are added.
        default: an instance of the dataclass whose values stand where none are given.
    """
    is_null = value is None or (isinstance(value, Untyped) and value.value is None)
    if is_null and type(None) in _members(kind):
        return None
    # Settings objects and mappings are converted here, part by part, so that each mistake has the key of its part.
    dataclass_kind = _dataclass_in(kind)
    if dataclass_kind is not None:
        return build(dataclass_kind, value, key, mistakes, default=default)
    if _is_subclass(typing.get_origin(kind), Mapping):
        _, item_kind = typing.get_args(kind)
        items = as_mapping(value, key, mistakes).items()
        item_settings = [Setting(name, item_kind) for name, _ in items]
        keyed = {name: KeyedValue(item, join_key(key, name)) for name, item in items}
        return convert_settings(item_settings, keyed, mistakes)
    # Everything else is a single value to pydantic, also a list or a union.
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        mistakes.add(key, f"expected {describe_type(kind)}, found {show_value(value)}")
        return None


def build(cls: type, value: Any, key: str, mistakes: Mistakes, *, default: Any = None) -> Any:
    """An instance of a dataclass from a mapping; None, with mistakes, where it can't be made.

    Args:
        cls: the dataclass.
        value: a mapping of its fields or their aliases; an instance stays as it is.
        key: dotted, of the mapping, for mistakes.
        mistakes: where they are added.
        default: an instance whose values stand for what the mapping leaves out, in the place of the class's defaults.
    """
    if isinstance(value, cls):
        return value
    count = len(mistakes)
    settings = settings_of(cls)
    keyed = merge_layers(settings, [(key, as_mapping(value, key, mistakes))], mistakes)
    values = convert_settings(settings, keyed, mistakes)
    return construct(
        cls, values, key, mistakes, default=default, keyed=keyed, is_whole=len(mistakes) == count
    )


def construct(
    cls: type,
    values: Mapping[str, Any],
    key: str,
    mistakes: Mistakes,
    *,
    default: Any = None,
    keyed: Mapping[str, KeyedValue] | None = None,
    is_whole: bool = True,
) -> Any:
    """Make an instance from converted values; what the class itself refuses is a mistake.

    Args:
        cls: the dataclass.
        values: of its fields, converted.
        key: dotted, of the instance, for mistakes.
        mistakes: where they are added.
        default: an instance whose values stand for those that are missing.
        keyed: what was given, so that a refusal which names one of these settings is reported under its key.
        is_whole: whether all that was given could be converted. If not, settings may be missing for that reason, and
            only what the class refuses is of interest.
    """
    missing = [s.name for s in settings_of(cls) if s.default is NO_DEFAULT and s.name not in values]
    if missing and not isinstance(default, cls):
        if is_whole:
            mistakes.add(key, f"{', '.join(missing)} must be given")
        return None
    try:
        if isinstance(default, cls):
            return dataclasses.replace(typing.cast(Any, default), **values)
        return cls(**values)
    except ConfigError as error:
        message = error.found
        if error.expected:
            message += f" (expected: {error.expected})"
        mistakes.add(_key_of_refusal(error, key, keyed or {}), message)
        return None


def _key_of_refusal(error: ConfigError, key: str, keyed: Mapping[str, KeyedValue]) -> str:
    """The key of the one setting that a class's refusal names, such as `n=0: n is at least 1`; else the class's key."""
    words = set(re.split(r"[\s=:,;]+", error.found))
    named = [name for name in keyed if name in words]
    return keyed[named[0]].key if len(named) == 1 else key


def read_overrides(
    sets: Sequence[str | Override], parse: Callable[[str], Any], mistakes: Mistakes
) -> list[Override]:
    """`KEY=VALUE` texts of `--set` as overrides; what are overrides already stay.

    Args:
        sets: texts or overrides.
        parse: makes a value of its text: `data.yaml.read_untyped`.
        mistakes: gets one for each text that is no `KEY=VALUE`.
    """
    overrides = []
    for item in sets:
        if isinstance(item, Override):
            overrides.append(item)
            continue
        key, equals, text = item.partition("=")
        if equals and all(key.split(".")):
            # A model's spec may hold a key by mistake, and the source is shown beside a mistake.
            source = f"--set {key}" if key.startswith("roles.") else f"--set {item}"
            overrides.append(Override(key, parse(text), source))
        else:
            mistakes.add("", f"--set {item}: expected key=value")
    return overrides


def refuse_two_names(overrides: Iterable[tuple[str, Override]], mistakes: Mistakes) -> None:
    """Add a mistake for each setting that gets two values, under its name and under a short one.

    Of two values under one name the later one wins, as in a shell.

    Args:
        overrides: each with its whole key, short names written out.
        mistakes: gets the mistakes.
    """
    first_of_key: dict[str, Override] = {}
    for key, override in overrides:
        first = first_of_key.setdefault(key, override)
        if first.key != override.key and str(first.value) != str(override.value):
            mistakes.add(
                "", f"{first.source} and {override.source} give {key} two values; give one"
            )


def apply_override(
    tree: Tree,
    path: Sequence[str],
    override: Override,
    mistakes: Mistakes,
    *,
    schema: type | None = None,
) -> None:
    """Set a value deep in a tree of mappings, in the place of what stands there under the name or the alias.

    Args:
        tree: changed in place; mappings below it are copied.
        path: the parts of the override's key that lie below the tree.
        override: the value, and its whole key for mistakes.
        mistakes: gets one where the path leads through something that is no mapping.
        schema: the dataclass that the tree becomes, if it becomes one.
    """
    name, *deeper = path
    settings = settings_of(schema) if schema is not None else ()
    names = names_of(settings)
    # The key as the tree has it: perhaps the setting's other name.
    key_in_tree = name
    for key in tree:
        if key == name or (key in names and names[key] == names.get(name)):
            key_in_tree = key
    if not deeper:
        tree.pop(key_in_tree, None)
        tree[name] = override.value
        return
    schema_below = None
    for setting in settings:
        if setting.name == names.get(name):
            schema_below = _dataclass_in(setting.kind)
    below = tree.get(key_in_tree)
    if isinstance(below, Untyped):
        below = below.value
    if below is not None and not isinstance(below, Mapping):
        above = override.key.removesuffix("." + ".".join(deeper))
        mistakes.add(
            "", f"{override.source}: {above} is given as a value too ({show_value(below)})"
        )
        return
    tree[key_in_tree] = {str(k): v for k, v in (below or {}).items()}
    apply_override(tree[key_in_tree], deeper, override, mistakes, schema=schema_below)


def parse_query(query: str) -> dict[str, str]:
    """Options behind the question mark of a spec, such as `dtype=bfloat16&chat=plain`.

    Raises:
        ConfigError: an option is given twice.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise ConfigError(f"the option {name} is given twice", fix=f"leave one {name}=… out")
        options[name] = value
    return options


def describe_type(kind: Any) -> str:
    """A type in words: `a whole number or nothing`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _TYPE_WORDS:
        return _TYPE_WORDS[kind]
    if origin in _UNIONS:
        return " or ".join(describe_type(member) for member in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if _dataclass_in(kind) is not None or _is_subclass(origin or kind, Mapping):
        return "a mapping"
    if origin is tuple and Ellipsis not in arguments:
        return "[" + ", ".join(describe_type(item) for item in arguments) + "]"
    if arguments and _is_subclass(origin, Sequence):
        return f"a list of {describe_type(arguments[0])}"
    if origin is Callable:
        return "a function"
    return "a value"


def show_value(value: Any) -> str:
    """A value as an error quotes it: as it was written, shortened."""
    text = repr(str(value) if isinstance(value, Untyped) else plain_value(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def plain_value(value: Any) -> Any:
    """Data without `Untyped` texts: each is what YAML reads in it."""
    if isinstance(value, Untyped):
        return plain_value(value.value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of any other annotation the annotation itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)


def _dataclass_in(kind: Any) -> type | None:
    """The dataclass that an annotation is, or one member of its union."""
    for member in _members(kind):
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            return member
    return None


def _is_subclass(kind: Any, parent: type) -> bool:
    """Whether an annotation is a class below another; most annotations are no classes."""
    return isinstance(kind, type) and issubclass(kind, parent)


# Single values, by pydantic.


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(_with_readings(kind), config=config)


def _with_readings(kind: Any) -> Any:
    """The annotation with a validator at each level that tries the readings of a value."""
    from pydantic import WrapValidator

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    inner = kind
    if origin in _UNIONS:
        inner = typing.Union[tuple(_with_readings(member) for member in arguments)]  # noqa: UP007
    elif arguments and origin is not typing.Literal and origin is not Callable:
        inner = origin[tuple(a if a is Ellipsis else _with_readings(a) for a in arguments)]

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        *first, last = readings(kind, value)
        for reading in first:
            try:
                return handler(reading)
            except ValueError:
                continue  # the next reading may fit; the last one's error counts
        return handler(last)

    return typing.Annotated[inner, WrapValidator(validate)]


def readings(kind: Any, value: Any) -> list[Any]:
    """What a value may mean to a setting of a kind, the likeliest first.

    Raises:
        ValueError: the value is a number or a truth, and the other is asked for.
    """
    # Python takes True for 1; a person does not.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, bool) and kind in (int, float):
        raise ValueError("true and false are no numbers")
    if is_number and kind is bool:
        raise ValueError("a number is neither true nor false")

    if kind is Any:
        return [plain_value(value)]
    if not isinstance(value, Untyped):
        return [_as_pairs(kind, value)]
    if isinstance(value.value, list | Mapping) and kind is not str:
        return [_as_pairs(kind, value.value), str(value)]
    if value in _NULLS:
        return [None]

    # Quotes around a text were for YAML; any other text is taken as it was written.
    text = value.value if isinstance(value.value, str) else str(value)
    members = _members(kind)
    has_typed_member = bool({int, float, bool}.intersection(members))
    if str in members and has_typed_member:
        return [value.value, text]  # 2.5 is a number to `float | str`
    if str in members:
        return [text]  # 010 is text to `str`
    if len(members) > 1:
        return [value]  # each member has its own readings
    if kind in (int, float) and isinstance(value.value, bool):
        return [text]
    return [text, value.value]  # pydantic reads 1_000 of the text, and YAML 1e3 as a number


def _as_pairs(kind: Any, value: Any) -> Any:
    """A mapping as a list of pairs where a tuple is asked for."""
    if typing.get_origin(kind) is tuple and isinstance(value, Mapping):
        return list(value.items())
    return value
