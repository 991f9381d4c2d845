"""YAML of plain values only: no object tags, no key twice, no value that contains itself or grows without bound.

Values are those of YAML 1.2's core schema: 1e-4 and 8e-1 are numbers, 010 is ten; `no`, `on`, 1:30 and dates are text.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.config import Untyped
from potstill.errors import InputError

if TYPE_CHECKING:
    from yaml import Node

MOST = 100_000  # values in a file, aliases written out

_FIX = "write plain values: texts, numbers, lists, mappings"


# Scalars of the core schema (yaml.org/spec/1.2.2, 10.3.2), by tag: the pattern and the letters that one begins with.
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), list("-+0123456789")),
    "float": (
        re.compile(
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        list("-+.0123456789"),
    ),
    "merge": (re.compile(r"<<"), ["<"]),
}


def load(text: str, name: object, *, untyped: bool = False) -> Any:
    """The value of a YAML text.

    Args:
        text: the document.
        name: of the file, for errors.
        untyped: leave numbers and booleans as `config.Untyped` texts, for settings whose type decides.
    """
    import yaml

    try:
        loader = _loader(untyped)(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count_values(node, name, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply", expected="YAML", fix=_FIX) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else f"{name}"
        reason = " ".join(
            filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
        )
        fix = "correct it there; indent with spaces, put texts with ': ' or '#' in quotes"
        raise InputError(f"{at}: not YAML ({reason or error})", expected="YAML", fix=fix) from error


def read(path: Path, name: object = "", *, untyped: bool = False) -> Any:
    """The value of a YAML file; `untyped` as for `load`."""
    name = name or path
    try:
        return load(path.read_bytes().decode("utf-8-sig"), name, untyped=untyped)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not YAML: not UTF-8 (byte {error.start})", fix="save it as UTF-8"
        ) from error


def lines(text: str) -> dict[str, int]:
    """The line of each key of a YAML text that `load` reads, by its dotted path: `evaluate.n`."""
    import yaml

    line_of_key: dict[str, int] = {}
    open_nodes: list[tuple[str, Node | None]] = [("", yaml.compose(text, _loader(False)))]
    while open_nodes:
        path, node = open_nodes.pop()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            line_of_key[path + str(key.value)] = key.start_mark.line + 1
            open_nodes.append((f"{path}{key.value}.", value))
    return line_of_key


def read_untyped(text: str) -> Untyped:
    """A text with the value that YAML reads in it, or itself where it is not YAML: the value of `--set KEY=VALUE`."""
    try:
        value = load(text, "the value", untyped=True)
    except InputError:
        value = text
    if isinstance(value, Untyped):
        return Untyped(text, value.value)
    # Quotes are taken off; other signs of YAML's, such as | or #, are part of the text.
    if isinstance(value, str) and text[:1] not in ("'", '"'):
        value = text
    return Untyped(text, value)


def scalar_value(text: str) -> Any:
    """The value of a scalar without quotes, by the core schema."""
    for kind in ("bool", "int", "float"):
        if not _SCALARS[kind][0].fullmatch(text):
            continue
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            return int(text, base)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


@cache
def _loader(untyped: bool) -> Any:
    """PyYAML's safe loader with the scalars of YAML 1.2; its own are those of 1.1."""
    import yaml

    class CoreLoader(yaml.SafeLoader):
        pass

    CoreLoader.yaml_implicit_resolvers = {}

    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        value = scalar_value(text)
        return Untyped(text, value) if untyped else value

    for kind, (pattern, letters) in _SCALARS.items():
        anchored = re.compile(f"(?:{pattern.pattern})$")  # PyYAML matches at the beginning only
        CoreLoader.add_implicit_resolver(_TAG + kind, anchored, letters)
        if kind in ("bool", "int", "float"):
            CoreLoader.add_constructor(_TAG + kind, construct)
    return CoreLoader


def _count_values(node: Node, name: object, sizes: dict[int, int], inside: set[int]) -> int:
    """How many values a node has with its aliases written out; InputError for what is no plain value."""
    import yaml

    if id(node) in inside:
        raise _refusal(
            node, name, "a value that contains itself", "no alias (*) inside its own anchor (&)"
        )
    if id(node) in sizes:
        return sizes[id(node)]
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith(
        "tag:yaml.org,2002:python"
    ):
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _refusal(node, name, f"the tag {tag} makes an object", "plain values without tags")
    inside.add(id(node))
    children: list[Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, name)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_count_values(child, name, sizes, inside) for child in children)
    inside.discard(id(node))
    if size > MOST:
        raise _refusal(node, name, "aliases that write out to too much", f"at most {MOST:,} values")
    sizes[id(node)] = size
    return size


def _check_keys(node: Any, name: object) -> None:
    """Refuse a key that stands twice in a mapping."""
    line_of_key: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key.value, str) or key.tag.endswith(":merge"):
            continue
        line = key.start_mark.line + 1
        identity = (key.tag, key.value)
        if identity in line_of_key:
            first_line = line_of_key[identity]
            raise InputError(
                f"{name}, line {line}: the key {key.value!r} stands on line {first_line} already",
                expected="each key once",
                fix=f"remove or rename one of lines {first_line}, {line}",
            )
        line_of_key[identity] = line


def _refusal(node: Any, name: object, found: str, expected: str) -> InputError:
    mark = node.start_mark
    where = f"{name}, line {mark.line + 1}, column {mark.column + 1}"
    return InputError(f"{where}: {found}", expected=expected, fix=_FIX)
