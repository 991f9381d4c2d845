"""Texts with names in braces, filled in one pass: the values are what models wrote, and are never expanded again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from potstill.records import Message

_NAME_OR_BRACES = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Substitute the names of a template in one pass; `{{` and its `}}` become literal braces."""
    open_braces = 0

    def replacement(match: re.Match[str]) -> str:
        nonlocal open_braces
        if match[1]:
            return values[match[1]]
        if match[0] == "{{":
            open_braces += 1
            return "{"
        if open_braces:
            open_braces -= 1
            return "}"
        return match[0]  # `\frac{1}{\sqrt{2}}` needs no escape

    return _NAME_OR_BRACES.sub(replacement, template)


def template_names(template: str | Sequence[Message]) -> set[str]:
    """Return the names that a template uses."""
    texts = [template] if isinstance(template, str) else [content for _, content in template]
    names: set[str] = set()
    for text in texts:
        names.update(match[1] for match in _NAME_OR_BRACES.finditer(text) if match[1])
    return names
