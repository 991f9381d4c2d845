"""What can go wrong, said so that it can be mended.

PotstillError            expected, found, available, the command that fixes it
├── ConfigError          a recipe, a flag, a parameter, a role
├── InputError           a problem file, a trace file, a checkpoint that isn't one
├── ModelError           a model that can't do what was asked
├── StageError           a stage without rows, rows that would train the wrong thing
├── BudgetSpent          a limit of tokens or money that is reached; nothing is lost, a larger one goes on
└── StoreError           a run folder or store of another version, or damaged
"""

from __future__ import annotations

from collections.abc import Iterable


class PotstillError(Exception):
    """An error with four parts: what was expected, what was found, what is available, what to do."""

    def __init__(
        self,
        found: str,
        *,
        expected: str = "",
        available: Iterable[str] = (),
        wanted: str = "",
        fix: str = "",
    ) -> None:
        """State the problem; `wanted` is compared with `available` to suggest the nearest name."""
        self.found, self.expected, self.fix = found, expected, fix
        self.available = tuple(available)
        self.nearest: tuple[str, ...] = ()
        if wanted:
            import difflib  # here, because every command imports this module and few of them fail

            self.nearest = tuple(difflib.get_close_matches(wanted, self.available, n=1))
        super().__init__(self.render())

    def render(self) -> str:
        """The error as the lines a user reads."""
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected:  {self.expected}")
        if self.nearest:
            lines.append(f"  nearest:   {self.nearest[0]}")
        if self.available:
            lines.append(f"  available: {', '.join(self.available)}")
        if self.fix:
            lines.append(f"  fix:       {self.fix}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The error as a JSON object for programs; the notes are what the command line added."""
        return {
            "kind": type(self).__name__,
            "message": self.found,
            "expected": self.expected,
            "nearest": list(self.nearest),
            "available": list(self.available),
            "fix": self.fix,
            "notes": list(getattr(self, "__notes__", ())),
        }


class PotstillWarning(UserWarning):
    """What a user should know and that stops nothing; the command line prints it once."""


class ConfigError(PotstillError):
    """A recipe, flag, parameter or role that does not fit the method."""


class InputError(PotstillError):
    """A file or dataset that can't be read as what it should be."""


class ModelError(PotstillError):
    """A model that is missing, is not a checkpoint, or can't do what was asked."""


class StageError(PotstillError):
    """A stage that can't be trained: no rows, or rows that would teach the wrong thing."""


class BudgetSpent(PotstillError):
    """A limit of tokens or money that the next call could exceed; `larger` is one to go on with."""

    larger: str = ""


class StoreError(PotstillError):
    """A run folder or store that is damaged or of another version."""
