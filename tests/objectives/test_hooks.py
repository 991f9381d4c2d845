"""What an objective brings beside its loss: one module and one line of the table are enough for a new one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows

from potstill import objectives
from potstill.errors import ConfigError, StageError
from potstill.objectives.hooks import Hooks, at_least
from potstill.objectives.inputs import Loss
from potstill.objectives.likelihood import sft
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, bind
from potstill.training.settings import TrainingSettings


@dataclass(frozen=True)
class Options:
    fewest_rows: int = 1


class NewHooks(Hooks):
    options = Options

    def option_mistakes(self, options):
        return at_least(options, "fewest_rows", 1)

    def check_rows(self, rows):
        if len(rows) < 3:
            raise StageError("too few rows")

    def schedule(self, constants, scheduled):
        return Doubling()


class Doubling:
    """A constant that doubles at each step."""

    def __init__(self):
        self.scale = 1.0

    def constants(self):
        return {"scale": self.scale}

    def advance(self, record, progress):
        self.scale *= 2

    def state(self):
        return {"scale": self.scale}

    def restore(self, state):
        self.scale = state["scale"]


@pytest.fixture
def new_objective(monkeypatch):
    """A module with a loss and HOOKS, and a line of the table."""
    module = ModuleType("potstill.objectives.new_paper")

    def new_paper(x, *, scale: float = 1.0, chunk: int = 0) -> Loss:
        loss = sft(x, chunk=chunk)
        return Loss(scale * loss.values_N, loss.stats)

    new_paper.__annotations__ = {"scale": float, "chunk": int}
    module.new_paper, module.HOOKS = new_paper, {"new_paper": NewHooks()}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    line = objectives.Objective("new_paper")
    monkeypatch.setattr(objectives, "TABLE", {**objectives.TABLE, "new_paper": line})
    return "new_paper"


@pytest.mark.slow
def test_a_new_objective_is_one_module_and_one_line(new_objective, tiny_checkpoint, tmp_path):
    config = bind(new_objective, {"fewest_rows": 2, "epochs": 1}).config
    assert config == ObjectiveConfig(new_objective, options={"fewest_rows": 2})
    with pytest.raises(ConfigError, match="fewest_rows=0 is out of range: 1 or more"):
        bind(new_objective, {"fewest_rows": 0})
    settings = TrainingSettings(max_steps=2, batch_size=8, threads=1, learning_rate=1e-9)
    with pytest.raises(StageError, match="too few rows"):
        fit(rows(2), tiny_checkpoint, tmp_path / "few", settings, config=config)
    done = fit(rows(), tiny_checkpoint, tmp_path / "out", settings, config=config)
    assert done.losses[1] == pytest.approx(2 * done.losses[0], rel=1e-3), "its constant doubles"


def test_hooks_are_those_of_objectives_in_their_module():
    for module_name in {entry.module for entry in objectives.TABLE.values()}:
        hooks = getattr(import_module(f"potstill.objectives.{module_name}"), "HOOKS", {})
        for name in hooks:
            assert objectives.entry(name).module == module_name


def test_the_table_and_the_hooks_load_no_torch():
    code = (
        "import sys, potstill.objectives, potstill.objectives.hooks; print('torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "False"
