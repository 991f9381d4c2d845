"""What a constant may be: outside of it an objective would train the wrong way round, or nothing at all."""

from __future__ import annotations

from potstill.errors import ConfigError


def positive(objective: str, **constants: float) -> None:
    """Refuse what is not above 0."""
    for name, value in constants.items():
        _refuse(objective, name, value, value > 0, "above 0")


def not_negative(objective: str, **constants: float | None) -> None:
    """Refuse what is below 0; None is whatever its objective says."""
    for name, value in constants.items():
        _refuse(objective, name, value, value is None or value >= 0, "0 or more")


def share(objective: str, **constants: float) -> None:
    """Refuse what is not from 0 to 1."""
    for name, value in constants.items():
        _refuse(objective, name, value, 0 <= value <= 1, "a share from 0 to 1")


def _refuse(objective: str, name: str, value: float | None, fine: bool, wanted: str) -> None:
    if not fine:
        raise ConfigError(
            f"{name}={value} of {objective}",
            expected=wanted,
            fix=f"leave {name} out for its default",
        )
