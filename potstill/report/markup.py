"""HTML that can't be injected into: a plain string is always escaped, only what `tag` built goes in as it is."""

from __future__ import annotations

import html
import re
from typing import TypeAlias

from potstill.escape import visible

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VOID = frozenset({"br", "meta", "circle", "line", "rect", "path"})


class Html(str):
    """Markup made by `tag`; the only strings that are not escaped."""

    __slots__ = ()


Node: TypeAlias = str | Html | int | float | None


def tag(name: str, /, *children: Node, **attributes: str | int | float | bool | None) -> Html:
    """An element; children are escaped unless built here, `class_` is class, `text_anchor` text-anchor; no None."""
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    if not all(_NAME.fullmatch(key) for key in (name, *(key.lower() for key, _ in pairs))):
        raise ValueError(f"not an element or attribute name in {name!r} {sorted(attributes)}")
    written = "".join(
        _attribute(key, value) for key, value in pairs if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>" if name in ("br", "meta") else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Node) -> Html:
    """Children one after another, escaped unless built here."""
    return Html("".join(_escape(child) for child in children if child is not None))


def _attribute(key: str, value: str | int | float | bool) -> str:
    return (
        f" {key}" if value is True else f' {key}="{html.escape(visible(str(value)), quote=True)}"'
    )


def _escape(child: str | Html | int | float) -> str:
    return str(child) if isinstance(child, Html) else html.escape(visible(str(child)), quote=True)
