"""docs/methods.md: its rows are those of `goals`, its figures what methods ask today, and its commands run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from slow_cases import slow_except

from potstill.cli import main
from potstill.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
FIGURES = re.compile(r"(?<=`) \([^)]*\)")
# Planning and running import torch.
SLOW_VERBS = ("plan", "run")


def load_maker():
    spec = importlib.util.spec_from_file_location("make_methods", ROOT / "docs" / "make_methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
PAGE = maker.PAGE.read_text("utf-8")
COMMANDS = re.findall(r"^potstill .*?(?= *#|$)", PAGE, re.MULTILINE)
FAST_COMMANDS = [command for command in COMMANDS if command.split()[1] not in SLOW_VERBS]
STALE = "run `make papers` and commit docs/methods.md"


@pytest.mark.parametrize("kind", ["have", "problem"])
def test_the_rows_are_those_that_a_search_finds(kind):
    no_calls = dict.fromkeys(maker.guide_methods(), maker.MethodCalls(0, 0, 0, 0))
    table = maker.goal_table(kind, no_calls)
    assert FIGURES.sub("", table) in FIGURES.sub("", PAGE), STALE


def test_a_figure_is_counted_and_not_typed():
    assert f"`orion` ({maker.count_calls('orion').text})" in PAGE, STALE


@pytest.mark.slow
def test_every_figure_is_what_the_method_asks_today():
    assert maker.make_page(PAGE, maker.guide_methods()) == PAGE, STALE


def test_a_newcomer_reads_it_in_ten_minutes_and_every_method_is_there():
    words = [word for word in PAGE.split() if any(letter.isalnum() for letter in word)]
    assert len(words) < 1900
    named = set(re.findall(r"`([a-z]\w*)`", PAGE))
    families = set(METHODS.families)
    assert named - set(METHODS) - families <= {"low", "medium", "high"}


@pytest.mark.parametrize("command", slow_except(FAST_COMMANDS, COMMANDS))
def test_every_command_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
