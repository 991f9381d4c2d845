"""`potstill view RUN --share OUT`: what is chosen, what is said, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from viewed_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("shared") / "one", problems=2)


@pytest.mark.slow
def test_it_says_what_it_holds_and_how_large_it_is(potstill, run: Path, tmp_path: Path):
    out = tmp_path / "one.html"
    done = potstill("view", run, "--share", out, "--index", tmp_path)
    assert done.code == 0, done.err
    assert "holds    8 traces" in done.out and "2 problems, 2 with their gold answer" in done.out
    assert "without  keys and passwords" in done.out
    assert f"{out}  {out.stat().st_size / 1e6:.1f} MB" in done.out


@pytest.mark.slow
def test_flags_choose_traces(potstill, run: Path, tmp_path: Path):
    out = tmp_path / "some.html"
    words = ["--arm", "orion", "--find", "status:right", "--index", tmp_path, "--json"]
    report = json.loads(potstill("view", run, "--share", out, *words).out)
    assert (report["traces"], report["of"]) == (4, 8)
    assert report["bytes"] == out.stat().st_size


@pytest.mark.parametrize("words", [("--arm", "orion"), ("--find", "x"), ("--yes",)])
def test_flags_of_a_copy_without_one_are_refused(potstill, run: Path, words: tuple[str, ...]):
    done = potstill("view", run, *words)
    assert done.code != 0 and f"{words[0]} is for a copy" in done.err


@pytest.mark.slow
def test_one_run_is_copied(potstill, tmp_path: Path):
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name, problems=0)
    done = potstill("view", tmp_path / "runs", "--share", tmp_path / "all.html")
    assert done.code != 0 and "--share copies one run, and there are 2" in done.err
