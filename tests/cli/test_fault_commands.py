"""Command lines that once went wrong, as they lie in the optional folder of faults, each run as a person runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_commands import fault_cases, make_finished_run, run_case

# Cases that still go wrong. One that is mended must leave this list: its test fails otherwise.
NOT_YET: set[str] = set()

pytestmark = pytest.mark.slow


def cases(*checks: str) -> list:
    """Each case as a parameter; those that still go wrong are expected to fail."""
    parameters = []
    for folder in fault_cases(*checks):
        marks = [pytest.mark.xfail(strict=True)] if folder.name in NOT_YET else []
        parameters.append(pytest.param(folder, id=folder.name, marks=marks))
    return parameters or [
        pytest.param(None, marks=pytest.mark.skip(reason="no faults in the shared folder"))
    ]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_finished_run(folder)
    return folder


@pytest.mark.parametrize("folder", cases("command"))
def test_a_command_does_as_expected(folder: Path, tmp_path: Path) -> None:
    differences = run_case(folder, tmp_path)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("folder", cases("finished run"))
def test_a_command_on_a_finished_run_does_as_expected(
    folder: Path, tmp_path: Path, finished_run: Path
) -> None:
    differences = run_case(folder, tmp_path, finished=finished_run)
    assert not differences, "\n".join(differences)
