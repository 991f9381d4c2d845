"""Every script of examples/ runs, on a few problems and steps."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
SMALL = {"PROBLEMS": 6, "TEST_PROBLEMS": 3, "STEPS": 1}


def load_example(name: str):
    """A script as a module, made small."""
    path = next(path for path in EXAMPLES if path.stem == name)
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for constant, value in SMALL.items():
        if hasattr(module, constant):
            setattr(module, constant, value)
    return module


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # two threads on busy cores crawl


@pytest.mark.slow
def test_distil_says_what_was_gained_and_a_second_run_asks_nobody(capsys, monkeypatch):
    example = load_example("distil")
    example.main()
    first = capsys.readouterr().out
    assert "TraceList of" in first and "trained" in first and "problems" in first

    from potstill.models.local.transformers import TransformersModel

    monkeypatch.setattr(
        TransformersModel, "write", lambda *_: pytest.fail("a model was asked again")
    )
    example.main()
    assert capsys.readouterr().out == first


@pytest.mark.slow
def test_star_runs_two_rounds(capsys):
    load_example("star").main()
    assert "untrained" in capsys.readouterr().out
    assert len(list(Path("runs/star/students").iterdir())) == 2


@pytest.mark.slow
def test_prefer_right_answers_trains_on_pairs(capsys):
    load_example("prefer_right_answers").main()
    assert "have a right and a wrong answer" in capsys.readouterr().out


def test_own_verifier_scores_and_keeps(capsys):
    load_example("own_verifier").main()
    assert capsys.readouterr().out.splitlines() == ["[1.0, 0.5, None]", "It is 68 °F."]


@pytest.mark.slow
def test_look_at_a_run_shows_where_a_row_came_from(capsys):
    load_example("star").main()
    capsys.readouterr()
    load_example("look_at_a_run").main("runs/star", "star")
    out = capsys.readouterr().out
    assert "made by sample from:" in out and "by problem" in out


def test_every_example_is_run_here():
    source = Path(__file__).read_text("utf-8")
    assert all(f'load_example("{path.stem}")' in source for path in EXAMPLES)
