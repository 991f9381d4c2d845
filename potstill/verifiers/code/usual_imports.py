"""The names that the harnesses of contests import before a program: those that it uses are imported, and no others.

LiveCodeBench and APPS put `from typing import *`, `from heapq import *` and their like in front of every program, so
that `List` and `heappush` need no import. Importing all of them each time would take longer than most programs.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache

# Later modules win where two have a name, as the last star import does.
MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "time", "typing",
)  # fmt: skip
RECURSION_LIMIT = 50_000  # LiveCodeBench's
_WORD = re.compile(r"[A-Za-z_]\w*")


def imports_for(code: str) -> str:
    """Return the lines that import what a program uses of these modules."""
    module_of_name = _module_of_name()
    lines = [f"import sys\nsys.setrecursionlimit({RECURSION_LIMIT})"]
    for word in sorted(set(_WORD.findall(code))):
        if word in module_of_name:
            lines.append(f"from {module_of_name[word]} import {word}")
        elif word in MODULES:
            lines.append(f"import {word}")
    return "\n".join(lines) + "\n"


@lru_cache(1)
def _module_of_name() -> dict[str, str]:
    """The module that each public name is imported from; the builtins keep their own names."""
    import builtins

    module_of_name: dict[str, str] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        public = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        for name in public:
            if not hasattr(builtins, name):
                module_of_name[name] = module_name
    return module_of_name
