"""Where the methods are: files in the folders of their families, found by their names; none is imported to be listed.

A method `NAME` is the function of that name in `FAMILY/NAME.py`, or in `FAMILY/NAME/NAME.py` where it brings files of
its own, such as prompts and settings. A file whose name begins with an underscore is no method. A paper that is one
training is a line of `FAMILY/one_training.py` (`methods.lines`), a table that is read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from potstill.errors import ConfigError
from potstill.methods.lines import TABLE_FILE, Line, read_lines


@dataclass(frozen=True, slots=True)
class MethodFile:
    """A method's file.

    Args:
        name: of the method and its function.
        family: the folder that it lies in.
        path: of the file.
        module: its dotted name.
        line: of a method that is a line of the file; None where the file is the method.
    """

    name: str
    family: str
    path: Path
    module: str
    line: Line | None = field(default=None, hash=False)


class MethodFolders(Mapping[str, Callable[..., Any]]):
    """The methods below a folder by name, in the order of names; a method is imported when it is looked up.

    Args:
        folder: that holds a folder for each family.
        package: its dotted name.
    """

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        self.package = package

    @cached_property
    def families(self) -> dict[str, Path]:
        """Each family's folder, those without a method too."""
        folders: dict[str, Path] = {}
        for init in sorted(self.folder.glob("*/__init__.py")):
            folders[init.parent.name] = init.parent
        return folders

    @cached_property
    def files(self) -> dict[str, MethodFile]:
        """The file of each method, by the method's name."""
        files: dict[str, MethodFile] = {}
        for family, folder in self.families.items():
            # FAMILY/NAME.py, and FAMILY/NAME/NAME.py.
            for path in [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/*.py")]:
                if path.parent != folder and path.stem != path.parent.name:
                    continue  # prompts or settings of the method that the folder is named after
                for file in self._methods_of(path, family):
                    if file.name in files:
                        raise ConfigError(
                            f"Two methods are called {file.name!r}: {files[file.name].path} and {path}.",
                            fix="rename one of them",
                        )
                    files[file.name] = file
        return {name: files[name] for name in sorted(files)}

    def _methods_of(self, path: Path, family: str) -> list[MethodFile]:
        """The method that a file is, or the lines of a family's table."""
        relative = path.relative_to(self.folder).with_suffix("")
        module = ".".join([self.package, *relative.parts])
        if path.stem != TABLE_FILE:
            return [MethodFile(path.stem, family, path, module)]
        return [MethodFile(line.name, family, path, module, line) for line in read_lines(module)]

    def __getitem__(self, name: str) -> Callable[..., Any]:
        file = self.files[name]
        if file.line is not None:
            return self._line_methods[name]
        method = getattr(import_module(file.module), name, None)
        if method is None:
            raise missing_function(file)
        return method  # type: ignore[no-any-return]

    @cached_property
    def _line_methods(self) -> dict[str, Callable[..., Any]]:
        """The methods that are lines, made once: a method is known by being the same object."""
        from potstill.methods.one_training import make_method

        methods: dict[str, Callable[..., Any]] = {}
        for file in self.files.values():
            if file.line is not None:
                methods[file.name] = make_method(file.line, file.module)
        return methods

    def __contains__(self, name: object) -> bool:
        return name in self.files  # without the import that looking it up takes

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def missing_function(file: MethodFile) -> ConfigError:
    """The error of a file that has no method of its name."""
    return ConfigError(
        f"{file.path} has no function {file.name!r}.",
        expected="a method under the name of its file",
        fix=f"name the function {file.name}, or begin the file's name with an underscore if it is no method",
    )
