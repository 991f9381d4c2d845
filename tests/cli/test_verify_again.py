"""`verify --again`: a changed verifier re-scores a run without a call, and the next run goes by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from potstill.records import Problem, Verdict
from potstill.store import Store
from potstill.verifiers import number

RUN = [
    *(
        "run",
        "sft",
        "--problems",
        "train.jsonl",
        "--teacher",
        "scripted:teacher.json",
        "--student",
        "transformers:tiny",
    ),
    *(
        "--set",
        "n=2",
        "--set",
        "training.learning_rate=1e-3",
        "--set",
        "training.num_train_epochs=1",
        "--evaluate",
        "test.jsonl",
    ),
    *(
        "--eval-n",
        "2",
        "--quiet",
        "--set",
        "evaluate.sampling.max_new_tokens=4",
        "--threads",
        "1",
        "--json",
    ),
]


@pytest.fixture
def run(finished: Path, here: Path) -> Path:
    """A copy of the finished run, in the folder where its command can be given again."""
    return Path(shutil.copytree(finished, here / "runs" / "sft"))


def strict(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A verifier of numbers that calls one of the teacher's solutions wrong."""
    old = number.judge

    def judge(problem: Problem, text: str) -> Verdict:
        found = old(problem, text)
        if "4 + 5 = 9" in text:
            return Verdict("wrong", "9", "9 is not to my taste", version)
        return found._replace(verifier=version)

    monkeypatch.setattr(number, "judge", judge)
    monkeypatch.setattr(number, "VERSION", version)


def lines(found: dict[str, object], arm: str) -> list[dict[str, object]]:
    return [line for line in found["lines"] if line["arm"] == arm]


def test_the_same_verifier_says_the_same(run: Path, potstill) -> None:
    done = potstill("verify", "--again", run, "--json", "--quiet")
    assert done.code == 0
    (line,) = lines(done.json, "sft")
    assert (line["before"], line["after"]) == (number.VERSION, number.VERSION)
    assert (line["traces"], line["changed"], line["changes"]) == (6, 0, {})
    assert done.json["changed"] == []
    assert "0 of " in potstill("verify", "--again", run, "--quiet").out


@pytest.mark.slow
def test_a_changed_verifier_changes_verdicts_and_the_next_run_goes_by_them(
    run: Path, potstill, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(run, readonly=True) as store:
        (before,) = store.history.row_ids("sft").values()
        completions = [s.key for s in store.completions.iterate()]
    strict(monkeypatch, "number@77")
    done = potstill("verify", "--again", run, "--json", "--quiet")
    (line,) = lines(done.json, "sft")
    assert (line["before"][:7], line["after"]) == ("number@", "number@77")
    assert line["changes"] == {"right -> wrong": 1}
    assert (line["changed"], line["rows"], line["traces"]) == (1, 1, 6)
    (moved,) = [item for item in done.json["changed"] if item["arm"] == "sft"]
    assert (moved["before"]["status"], moved["after"]["status"], moved["row"]) == (
        "right",
        "wrong",
        True,
    )
    assert moved["trace"] in before
    told = potstill("verify", "--again", run, "--quiet").out
    assert "right -> wrong" in told
    assert "goes by the new verdicts" in told

    assert potstill(*RUN, "--out", run).code == 0
    with Store.open(run, readonly=True) as store:
        (after,) = store.history.row_ids("sft").values()
        assert set(after) == set(before) - {moved["trace"]}
        again = [s for s in store.completions.iterate() if s.key not in completions]
        # Only the student that was trained anew was asked; the teacher's answers are those that were paid for.
        assert {s.role for s in again} <= {"student/evaluation"}


@pytest.mark.slow
def test_again_at_the_same_version_replaces_what_was_judged(
    run: Path, potstill, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict(monkeypatch, number.VERSION)
    (line,) = lines(potstill("verify", "--again", run, "--json", "--quiet").json, "sft")
    assert line["changes"] == {"right -> wrong": 1}
    monkeypatch.undo()
    monkeypatch.chdir(run.parents[1])
    assert potstill(*RUN, "--out", run).code == 0
    with Store.open(run, readonly=True) as store:
        statuses = [t.verdict.reason for t in store.history.traces("sft", "sample")]
        assert statuses.count("9 is not to my taste") == 1


def test_only_one_kind(run: Path, potstill) -> None:
    assert (
        potstill("verify", "--again", run, "--kind", "math", "--json", "--quiet").json["lines"]
        == []
    )
    done = potstill("verify", "--again", run, "--kind", "numbr", "--quiet")
    assert done.code == 2
    assert "nearest:   number" in done.err


def test_what_does_not_go_together(run: Path, potstill) -> None:
    for words in (["--again", run, "--problems", "train.jsonl"], []):
        done = potstill("verify", *words)
        assert done.code == 2
        assert "fix:" in done.err
    done = potstill("verify", "--again", run.parent / "absent")
    assert done.code == 2
    assert "there is no store" in done.err
