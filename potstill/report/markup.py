"""HTML that can't be injected into: a plain string is always escaped, only what `tag` built goes in as it is."""

from __future__ import annotations

import html
import re
from typing import TypeAlias

from potstill.escape import visible

_NAME = re.compile(r"[a-z][a-z0-9-]*")
# Elements without content, as HTML and as SVG write them.
_VOID_HTML = frozenset({"br", "meta"})
_VOID_SVG = frozenset({"circle", "line", "rect", "path", "polyline"})


class Html(str):
    """Markup made by `tag`; the only strings that are not escaped."""

    __slots__ = ()


Node: TypeAlias = str | Html | int | float | None


def tag(name: str, /, *children: Node, **attributes: str | int | float | bool | None) -> Html:
    """An element; children are escaped unless built here, `class_` is class, `text_anchor` text-anchor; no None."""
    parts: list[str] = [name]
    for keyword, value in attributes.items():
        key = keyword.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(key.lower()):
            raise ValueError(f"{keyword!r} is not an attribute name")
        if value is not None and value is not False:
            parts.append(_format_attribute(key, value))
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not an element name")
    opening = " ".join(parts)
    if name in _VOID_HTML:
        return Html(f"<{opening}>")
    if name in _VOID_SVG:
        return Html(f"<{opening}/>")
    return Html(f"<{opening}>{join_nodes(*children)}</{name}>")


def join_nodes(*children: Node) -> Html:
    """Children one after another, escaped unless built here."""
    return Html("".join(_escape_node(child) for child in children if child is not None))


def _format_attribute(key: str, value: str | int | float | bool) -> str:
    if value is True:
        return key
    return f'{key}="{html.escape(visible(str(value)), quote=True)}"'


def _escape_node(child: str | Html | int | float) -> str:
    if isinstance(child, Html):
        return str(child)
    return html.escape(visible(str(child)), quote=True)
