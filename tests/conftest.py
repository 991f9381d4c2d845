"""Fixtures that every part shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from potstill.store import Store

# Bits and processes are compared, and those of a CPU are known; set it to see what a GPU makes of the tests.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Processes that a test starts import this checkout and the fakes, as the test itself does.
TESTS = Path(__file__).resolve().parent
IMPORTED = (str(TESTS.parent), str(TESTS / "fakes"), os.environ.get("PYTHONPATH", ""))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, IMPORTED))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store, open for writing; files that want one with something in it fill it in a fixture of this name."""
    with Store.open(tmp_path / "run") as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 checkpoint with a chat template; read it, never write into it."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint as make

    return make(tmp_path_factory.mktemp("tiny") / "qwen3")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems and recorded outputs that lies beside the repository, where there is one."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("POTSTILL_SHARED", repository.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder} is absent (set POTSTILL_SHARED to a folder with data/gsm8k)"
        )
    return folder
