"""Fixtures that every part shares, and what a run of the tests says at its start and at its end."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from suite_report import end_lines, shared_folder, start_lines

from potstill.store import Store

# Imports and collection make 700,000 objects that stay: the collector is off until they are all there.
gc.disable()
# Bits and processes are compared, and those of a CPU are known; set it to see what a GPU makes of the tests.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Processes that a test starts import this checkout and the fakes, as the test itself does.
TESTS = Path(__file__).resolve().parent
IMPORTED = (str(TESTS.parent), str(TESTS / "fakes"), os.environ.get("PYTHONPATH", ""))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, IMPORTED))
# pytest-xdist tells its workers how wide the terminal is: what a command prints must not depend on that.
os.environ.pop("COLUMNS", None)


def pytest_configure(config: pytest.Config) -> None:
    """A law has 30 examples in the fast suite, where its test does not say another number; 100 in `make test-all`."""
    # How long an example takes says nothing of a law on a machine that others use too.
    settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("fast", settings.get_profile("full"), max_examples=30)
    settings.load_profile("fast" if config.getoption("-m") == "not slow" else "full")


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
def ray_cluster() -> Iterator[object]:
    """A Ray cluster of two nodes with a CPU each, on this machine; its tests are in the xdist group "ray"."""
    pytest.importorskip("ray", reason="needs the extra potstill[ray]")
    from cluster_workers import two_nodes

    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems and recorded outputs that lies beside the repository, where there is one."""
    folder = shared_folder() / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder} is absent (set POTSTILL_SHARED to a folder with data/gsm8k)"
        )
    return folder


# The suite's own words. Under xdist the tests are collected in worker processes: the process that reports learns their
# number from the first worker that has collected them, and what was left out when the workers end.
LEFT_OUT = pytest.StashKey[int]()
ANNOUNCED = pytest.StashKey[bool]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        stash = items[0].config.stash
        stash[LEFT_OUT] = stash.get(LEFT_OUT, 0) + len(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    # What was imported and collected stays until the end: the collector need not look at it again and again.
    gc.enable()
    gc.freeze()
    if not hasattr(session.config, "workerinput") and session.items:
        _announce(session.config, len(session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: object, ids: list[str]) -> None:
    _announce(node.config, len(ids))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    terminalreporter.write_line("")
    for line in end_lines(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line)
    left_out = config.stash.get(LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out} left out by -m or -k (make test-all runs all)")


def _announce(config: pytest.Config, count: int) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.stash.get(ANNOUNCED, False):
        return
    config.stash[ANNOUNCED] = True
    reporter.write_line("")
    for line in start_lines(count, config.stash.get(LEFT_OUT, 0), config.getoption("-m")):
        reporter.write_line(line)
