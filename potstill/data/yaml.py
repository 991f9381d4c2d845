"""YAML of plain values only: no object tags, no key twice, no value that contains itself or grows without bound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import InputError

if TYPE_CHECKING:
    from yaml import Node

MOST = 100_000  # values in a file, aliases written out

_FIX = "write plain values: texts, numbers, lists, mappings"


def load(text: str, name: object) -> Any:
    """The value of a YAML text.

    Args:
        name: of the file, for errors.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, name, {}, set())
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


def read(path: Path, name: object = "") -> Any:
    """The value of a YAML file."""
    name = name or path
    try:
        return load(path.read_bytes().decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not YAML: not UTF-8 (byte {error.start})", fix="save it as UTF-8"
        ) from error


def lines(text: str) -> dict[str, int]:
    """The line of each key of a YAML text that `load` reads, by its dotted path: `evaluate.n`."""
    import yaml

    found: dict[str, int] = {}
    open_: list[tuple[str, Node | None]] = [("", yaml.compose(text, yaml.SafeLoader))]
    while open_:
        path, node = open_.pop()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            found[path + str(key.value)] = key.start_mark.line + 1
            open_.append((f"{path}{key.value}.", value))
    return found


def _check(node: Node, name: object, sizes: dict[int, int], inside: set[int]) -> int:
    """How many values a node has with its aliases written out; InputError for what is no plain value."""
    import yaml

    if id(node) in inside:
        raise _refused(
            node, name, "a value that contains itself", "no alias (*) inside its own anchor (&)"
        )
    if id(node) in sizes:
        return sizes[id(node)]
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith(
        "tag:yaml.org,2002:python"
    ):
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _refused(node, name, f"the tag {tag} makes an object", "plain values without tags")
    inside.add(id(node))
    children: list[Node] = []
    if isinstance(node, yaml.MappingNode):
        _unique(node, name)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_check(child, name, sizes, inside) for child in children)
    inside.discard(id(node))
    if size > MOST:
        raise _refused(node, name, "aliases that write out to too much", f"at most {MOST:,} values")
    sizes[id(node)] = size
    return size


def _unique(node: Any, name: object) -> None:
    seen: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key.value, str) or key.tag.endswith(":merge"):
            continue
        line = key.start_mark.line + 1
        if (known := (key.tag, key.value)) in seen:
            found = (
                f"{name}, line {line}: the key {key.value!r} stands on line {seen[known]} already"
            )
            raise InputError(
                found,
                expected="each key once",
                fix=f"remove or rename one of lines {seen[known]}, {line}",
            )
        seen[known] = line


def _refused(node: Any, name: object, found: str, expected: str) -> InputError:
    mark = node.start_mark
    where = f"{name}, line {mark.line + 1}, column {mark.column + 1}"
    return InputError(f"{where}: {found}", expected=expected, fix=_FIX)
