"""Methods, verifiers, models and problem sources from outside the package.

Two ways in. An installed package names what it brings as entry points, one group a kind:

    [project.entry-points."potstill.methods"]
    star = "my_package.star:star"

and a file of one's own is named on the command line or in a recipe as `my_method.py:star`. What each object has to be:

| group | object |
|---|---|
| `potstill.methods` | a generator function that yields `Stage(...)` (docs/adding-a-method.md) |
| `potstill.verifiers` | a module or object with `VERSION`, `judge(problem, text)`, `gold_text(problem)`, and perhaps |
|                      | `read(problem, text)` and `equal(problem, first, second)` |
| `potstill.models` | a function from what stands behind `NAME:` to a model |
| `potstill.problems` | a function from what stands behind `NAME:` to a list of problems |

Nothing is imported before its name is asked for, and what the package has itself can't be replaced.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill.errors import ConfigError


def plugin_names(group: str) -> list[str]:
    """The names that installed packages bring to a group, sorted."""
    return sorted(_entry_points(group))


def load_plugin(group: str, name: str) -> Any:
    """The object of an entry point.

    Raises:
        ConfigError: no installed package brings this name, or importing it failed; the cause is in the message.
    """
    points = _entry_points(group)
    if name not in points:
        raise ConfigError(
            f"No installed package brings {name!r} to potstill.{group}.",
            available=points,
            wanted=name,
        )
    try:
        return points[name].load()
    except Exception as error:
        raise ConfigError(
            f"The {group} plugin {name!r} ({points[name].value}) can't be imported: "
            f"{type(error).__name__}: {error}",
            expected="an installed package that imports",
        ) from error


def is_object_path(text: str) -> bool:
    """Whether a text names an object of a file, as `my_method.py:star` does."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def load_object(path: str) -> Any:
    """The object that `FILE.py:NAME` names; the file is run as a module, once a process and content.

    Raises:
        ConfigError: there is no such file or name, or running the file failed; the cause is in the message.
    """
    file, _, name = path.rpartition(":")
    module = _load_file(Path(file))
    if not hasattr(module, name):
        public = [word for word in vars(module) if not word.startswith("_")]
        raise ConfigError(f"{file} has no {name!r}.", available=public, wanted=name)
    return getattr(module, name)


def _load_file(file: Path) -> ModuleType:
    """A file as a module. Its name holds a hash of its place, so that two files of one name don't meet."""
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file} can't be read: {error.strerror}.", expected="a Python file"
        ) from None
    resolved = file.resolve()
    place = hashlib.sha256(str(resolved).encode("utf-8", "surrogatepass") + source).hexdigest()[:8]
    name = f"potstill_plugin_{file.stem}_{place}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(resolved)
    # Functions of the file are found again by module and name when a solver is described.
    sys.modules[name] = module
    try:
        # Compiled here: cached bytecode is known by its time in seconds, and a file may change twice in one.
        exec(compile(source, str(resolved), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"{file} can't be run: {type(error).__name__}: {error}",
            expected="a file that imports without an error",
        ) from error
    return module


@cache
def _entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Entry points by name; of two packages that bring one name, an error is better than a guess."""
    points: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=f"potstill.{group}"):
        if point.name in points and points[point.name].value != point.value:
            raise ConfigError(
                f"Two installed packages bring {point.name!r} to potstill.{group}: "
                f"{points[point.name].value} and {point.value}.",
                fix="uninstall one of them",
            )
        points[point.name] = point
    return points
