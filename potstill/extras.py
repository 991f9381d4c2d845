"""The extras of an installation: what each brings, and an error that names the missing one before anybody is asked."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from potstill.errors import ConfigError

# The packages of each extra that something can't do without (pyproject.toml has their versions).
EXTRAS = {
    "local": ("torch", "transformers", "accelerate", "safetensors", "numpy"),
    "gguf": ("gguf",),
    "vendors": ("litellm",),
    "curate": ("rensa",),
    "vllm": ("vllm", "transformers"),
    "ray": ("ray",),
    "s3": ("s3fs",),
}
TRAINING = "training a student"


def require_extra(extra: str, purpose: str, *, fix: str = "") -> None:
    """Refuse to go on where an extra is not installed; nothing is imported.

    Args:
        extra: its name in pyproject.toml.
        purpose: what it is needed for, as the error's subject.
        fix: what else can be done.
    """
    if missing_packages(extra):
        raise extra_error(extra, purpose, fix=fix)


def extra_error(extra: str, purpose: str, *, fix: str = "") -> ConfigError:
    """The error of a missing extra; arguments as for `require_extra`."""
    packages = missing_packages(extra) or EXTRAS[extra]
    command = f"pip install 'potstill[{extra}]'"
    return ConfigError(
        f"{purpose} needs {packages[0]}, which is not installed",
        expected=f"the extra potstill[{extra}]",
        fix=f"{command}, or {fix}" if fix else command,
    )


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [package for package in EXTRAS[extra] if not is_installed(package)]


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    if sys.modules.get(package) is not None:
        return True
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # hidden, or half taken out
        return False
