"""What a run of the tests says at its start and end: how many, which are left out, what is missing, why skips."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from packaging.version import Version

# What some tests want beyond the package's own dependencies: module -> what it is for.
OPTIONAL = {
    "torch": "local models and training (potstill[local])",
    "datasets": "hf: problems (potstill[data])",
    "reasoning_gym": "gym: problems (potstill[data])",
    "gguf": "GGUF files (potstill[gguf])",
    "litellm": "litellm: models (potstill[vendors])",
    "vllm": "vllm: models (potstill[vllm])",
    "xllamacpp": "a real llama.cpp server",
    "trl": "second opinions on objectives",
    "liger_kernel": "second opinions on fused losses",
    "pandas": "tables of traces",
}
SHOWN_REASONS = 8


def shared_folder() -> Path:
    """The folder with real problems and recorded outputs, where there is one."""
    repository = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("POTSTILL_SHARED", repository.parent / "shared"))


def missing_things() -> list[str]:
    """Optional packages and folders that are not here, with what they are for."""
    missing = []
    for module, purpose in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            missing.append(f"{module} ({purpose})")
    if not (shared_folder() / "data").is_dir():
        missing.append("the folder of POTSTILL_SHARED: real problems and recorded outputs")
    return missing


def start_lines(count: int, left_out: int, markers: str) -> list[str]:
    """How many tests run, how many the markers leave out, and what is missing.

    Args:
        count: tests that will run.
        left_out: tests that the markers or -k leave out; 0 where they are not counted yet.
        markers: the expression of -m.
    """
    lines = [f"{count} tests will run"]
    if left_out > 0:
        lines[0] += f", {left_out} are left out"
    if markers:
        lines[0] += f"; -m '{markers}' chooses them"
    if Version(pytest.__version__) >= Version("9.2"):
        lines.append(
            "pytest 9.2 keeps no xdist groups together: several workers make what a group shares (make install)"
        )
    missing = missing_things()
    if missing:
        lines.append(f"missing, so tests of it are skipped: {'; '.join(missing)}")
    return lines


def end_lines(skips: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """What was skipped and why, the commonest reason first."""
    reasons = Counter(_reason(report) for report in skips)
    if not reasons:
        return ["nothing was skipped"]
    lines = [f"{sum(reasons.values())} skipped:"]
    for reason, count in reasons.most_common(SHOWN_REASONS):
        lines.append(f"  {count}: {reason}")
    further = len(reasons) - SHOWN_REASONS
    if further > 0:
        lines.append(f"  and for {further} more reasons (pytest -rs lists them)")
    return lines


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    details = report.longrepr
    text = str(details[2] if isinstance(details, Sequence) and len(details) == 3 else details)
    return text.removeprefix("Skipped: ")[:160]
