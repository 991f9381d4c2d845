"""Set a value in the text of a YAML file, its comments and layout left as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data import atomic_write, yaml
from potstill.errors import InputError

if TYPE_CHECKING:
    from yaml import MappingNode, Node

_PLAIN_WORD = re.compile(r"[A-Za-z][\w-]*")
_NOT_TEXT = ("true", "false", "null")  # words that YAML reads as something else


def write_values(path: Path, parent: str, values: Mapping[str, object]) -> None:
    """Set values in a YAML file.

    Args:
        path: of the file.
        parent: the dotted key below which they stand; "" is the document.
        values: by dotted key below the parent.

    Raises:
        InputError: the file does not read with the values in their places; it is left as it was.
    """
    text = path.read_text("utf-8-sig")
    expected = yaml.load(text, path) or {}
    for key, value in values.items():
        keys = [*filter(None, parent.split(".")), *key.split(".")]
        text = set_value(text, keys, value)
        expected = with_value(expected, keys, value)
    if yaml.load(text, path) != expected:
        raise InputError(
            f"{path} is written in a way that can't be changed by itself",
            fix="; ".join(f"set {parent}.{key} to {value}" for key, value in values.items()),
        )
    atomic_write.write_text(path, text)


def with_value(data: Any, keys: Sequence[str], value: object) -> Any:
    """A copy of nested mappings with one value set."""
    if not keys:
        return value
    first, *deeper = keys
    mapping = data if isinstance(data, Mapping) else {}
    return {**mapping, first: with_value(mapping.get(first), deeper, value)}


def set_value(text: str, keys: Sequence[str], value: object) -> str:
    """The text of a YAML mapping with a value set: in its place where the key is there, else as a new first key.

    Args:
        text: the document.
        keys: from the outermost mapping to the value.
        value: a text, number, truth value or list of them.
    """
    import yaml as pyyaml

    written = format_value(value)
    node = pyyaml.compose(text, pyyaml.SafeLoader)
    if node is None:
        return f"{text}{nest(keys, written)[1:-1]}\n"  # a document without values
    for depth, key in enumerate(keys):
        if not isinstance(node, pyyaml.MappingNode) or not node.value:
            # Nothing there to go into: what is missing becomes the value.
            return replace_node(text, node, nest(keys[depth:], written))
        child = next((child for name, child in node.value if name.value == key), None)
        if child is None:
            return insert_key(text, node, key, nest(keys[depth + 1 :], written))
        node = child
    return replace_node(text, node, written)


def replace_node(text: str, node: Node, value: str) -> str:
    """The text with a value in the place of another."""
    start, stop = node.start_mark.index, node.end_mark.index
    # A value that is not there begins right behind the colon; one of several lines ends behind its last line.
    before = " " if text[start - 1 : start] == ":" else ""
    behind = "\n" if text[start:stop].endswith("\n") else ""
    return f"{text[:start]}{before}{value}{behind}{text[stop:]}"


def insert_key(text: str, mapping: MappingNode, key: str, value: str) -> str:
    """The text with a key in front of the others of a mapping."""
    first_key, _ = mapping.value[0]
    place = first_key.start_mark.index
    separator = ", " if mapping.flow_style else "\n" + " " * first_key.start_mark.column
    return f"{text[:place]}{key}: {value}{separator}{text[place:]}"


def nest(keys: Sequence[str], value: str) -> str:
    """A value inside a flow mapping for each key: `{settings: {prompt: plain}}`."""
    for key in reversed(keys):
        value = f"{{{key}: {value}}}"
    return value


def format_value(value: object) -> str:
    """A value as YAML writes it in one line: a plain word, or JSON."""
    is_word = isinstance(value, str) and _PLAIN_WORD.fullmatch(value) is not None
    if is_word and str(value).lower() not in _NOT_TEXT:
        return str(value)
    return json.dumps(value)
