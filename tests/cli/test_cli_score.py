"""potstill score: the log-probabilities of a student's rows, and what is said where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

from potstill.cli import main
from potstill.runs import score_rows as scoring
from potstill.runs.row_logprobs import LogprobsFolder

pytestmark = pytest.mark.slow  # a tiny student is trained


@pytest.fixture(scope="module")
def trained(bench: Path) -> Path:
    """A run in `bench` whose student has learnt something; only read it."""
    words = "run sft --problems train.jsonl --teacher scripted:teacher.json --student transformers:tiny --set n=2"
    words += (
        " --set training.learning_rate=1e-2 --set training.num_train_epochs=4 --threads 1 --quiet"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(bench)
        assert main([*words.split(), "--out", "runs/scored"]) == 0
    return bench / "runs" / "scored"


@pytest.fixture
def run(bench: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, where the student that it began with is found."""
    monkeypatch.chdir(bench)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def files_of(run: Path) -> dict[str, int]:
    return {
        path.relative_to(run).as_posix(): path.stat().st_mtime_ns
        for path in run.rglob("*")
        if path.is_file()
    }


def test_every_token_has_what_the_models_say(run: Path, potstill, bench: Path):
    from potstill.models.local.transformers import TransformersModel

    before = files_of(run)
    done = potstill("score", run, "--arm", "sft", "--quiet", "--threads", "1", "--json").json
    path = Path(done["path"])
    # Nothing else of the run has changed, the store least of all.
    after = files_of(run)
    assert after.pop(path.relative_to(run).as_posix()) and after == before
    assert done["rows"] == done["rows_of_student"] == done["newly_scored"] > 0
    assert done["after"]["mean_logprob"] > done["before"]["mean_logprob"]
    tokens = parquet.read_table(path.with_name("tokens.parquet")).to_pylist()
    for row, scores in zip(tokens, parquet.read_table(path).to_pylist(), strict=True):
        assert (row["trace"], row["side"]) == (scores["trace"], scores["side"])
        for moment, folder in (("before", bench / "tiny"), ("after", path.parent)):
            [expected] = TransformersModel(folder, threads=1).score_tokens([row["ids"]])
            assert scores[moment][0] is None
            assert scores[moment][1:] == pytest.approx(expected.logprobs, abs=1e-4)
            assert scores[f"{moment}_ranks"][1:] == expected.ranks
    assert potstill("score", run, "--arm", "sft", "--quiet", "--json").json["newly_scored"] == 0


def test_what_was_stopped_goes_on(run: Path, potstill, monkeypatch: pytest.MonkeyPatch):
    written = []
    write_part = LogprobsFolder.write_part

    def stop_at_the_second(self, moment, rows, scores):
        written.append(moment)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_part(self, moment, rows, scores)

    monkeypatch.setattr(LogprobsFolder, "write_part", stop_at_the_second)
    words = ["score", run, "--arm", "sft", "--quiet", "--threads", "1"]
    stopped = potstill(*words)
    assert stopped.code == 130 and "potstill score" in stopped.err
    assert potstill(*words).code == 0
    assert written == ["before", "after", "after"]


def test_what_can_not_be_scored_is_said(run: Path, potstill, monkeypatch: pytest.MonkeyPatch):
    words = ["score", run, "--quiet", "--arm"]
    assert "nearest:   sft" in potstill(*words, "stf").err
    monkeypatch.chdir(run)  # the recipe's student was named relative to another folder
    assert "--before transformers:PATH" in potstill(*words, "sft").err
    [student] = (run / "students").iterdir()
    other = potstill(*words, "sft", "--before", f"transformers:{student}")
    assert "is another checkpoint than the training of sft began with" in other.err
    (student / "tokens.parquet").unlink()
    assert "has no tokens.parquet" in potstill(*words, "sft").err
    (student / "model.safetensors").unlink()
    assert "the weights of the student of sft are not in" in potstill(*words, "sft").err


def test_an_arm_without_a_student_has_nothing_to_score(potstill, here: Path):
    words = "run sft --problems train.jsonl --teacher scripted:teacher.json --rows-only --quiet"
    assert potstill(*words.split(), "--student", "transformers:tiny", "--out", "rows").code == 0
    refused = potstill("score", "rows", "--arm", "sft", "--quiet")
    assert refused.code == 2 and "not trained yet" in refused.err
    assert scoring.TOKENS_FILE not in refused.err
