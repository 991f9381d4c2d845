"""Recipes that were once read wrongly without a word, as they lie in the optional data folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from potstill.cli import main


@pytest.fixture
def case(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that copies a case into the working directory."""

    def take(name: str) -> dict:
        folder = shared_data.parent / "faults" / "cases" / name
        if not folder.is_dir():
            pytest.skip(f"no case {name} in {folder.parent}")
        shutil.copytree(folder, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return json.loads((folder / "expected.json").read_text("utf-8"))

    return take


def test_a_limit_of_minutes_is_refused(case, capsys):
    [words] = case("recipe-limit-of-minutes")["args"]
    assert main(words) != 0
    assert "expected a whole number, found '1:30'" in capsys.readouterr().err


def test_the_command_line_wins_over_an_arms_own_block(case, capsys):
    [words] = case("recipe-set-over-an-arms-block")["args"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["training"]["a"]["steps"] == 7
