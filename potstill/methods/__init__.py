"""The methods, one file a paper. A new one is a file and a line here; a test proves that folder and list agree."""

from collections.abc import Callable
from typing import Any

from potstill.methods.chains.rft import rft
from potstill.methods.chains.sft import sft
from potstill.methods.errors.orion.orion import orion

METHODS: dict[str, Callable[..., Any]] = {
    "orion": orion,
    "rft": rft,
    "sft": sft,
}
