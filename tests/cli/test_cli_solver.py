"""`potstill evaluate --solver`: a method's solver beside the plain answers of the same student."""

from __future__ import annotations

import json

import pytest

FIRST = "1 + 2 = 4. Wait, no. So it is 4.\n\\boxed{4}"
RULES = [
    {"pattern": r"= 4\.\Z", "answers": [" Wait.\n\\boxed{3}"]},
    {"pattern": r"no\.\Z", "answers": [" So 3.\n\\boxed{3}"]},
    {"pattern": r"is 4\.\Z", "answers": ["\n\\boxed{4}"]},
    {"pattern": "", "answers": [FIRST]},
]
WORDS = ["evaluate", "--model", "scripted:m.json", "--problems", "p.jsonl", "--n", 1, "--quiet"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.json").write_text(json.dumps(RULES))
    rows = [{"question": f"Problem {i}: what is 1 + 2?", "answer": "3"} for i in range(3)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.slow
def test_a_solver_is_measured_beside_the_plain_answers_with_calls_and_tokens(potstill, folder):
    words = [*WORDS, "--solver", "subthoughts", "--out", folder / "s.json"]
    document = potstill(*words, "--json").json
    assert document["per_answer"]["model"]["calls"] == 4
    assert document["control"]["per_answer"]["model"]["calls"] == 1
    assert document["comparison"]["difference"] == 1.0
    shown = potstill(*words)
    assert "takes 4 calls and" in shown.out and "times the tokens" in shown.out, shown.err
    compared = potstill("compare", folder / "s.json", folder / "s.plain.json", "--json").json
    assert compared["comparisons"][0]["difference"] == 1.0
    last = potstill(*WORDS, "--solver", "subthoughts", "--set", "arm=last", "--json").json
    assert last["comparison"]["difference"] == 0 and last["per_answer"]["model"]["calls"] == 1


def test_replies_that_a_solver_could_not_read_are_noted(potstill, folder):
    words = [*WORDS, "--solver", "discriminator", "--set", "arm=binary"]
    [note] = [note for note in potstill(*words, "--json").json["notes"] if "verdict" in note]
    assert note == "verdict: 1 of 1 different replies could not be read"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--solver", "subthoughts", "--set", "arm=lost"], "'lost'"),
        (["--solver", "subthoughts", "--role", "judge=scripted:m.json"], "no role 'judge'"),
        (["--solver", "divide_or_conquer"], "needs a model in the role teacher"),
        (["--solver", "rft"], "rft trains its student"),
        (["--solver", "subthoughts", "--planner", "world:oracle"], "one of the two"),
        (["--set", "arm=last"], "without a solver"),
    ],
)
def test_what_is_no_solver_is_refused_before_a_model_is_asked(potstill, folder, words, message):
    refused = potstill(*WORDS, *words)
    assert refused.code != 0 and message in " ".join(refused.err.split())


def test_any_method_that_trains_nothing_has_a_solver(potstill, folder):
    teacher = ["--role", "teacher=scripted:m.json", "--set", "arm=untrained"]
    document = potstill(*WORDS, "--solver", "divide_or_conquer", *teacher, "--json").json
    assert (
        document["per_answer"]["teacher"]["calls"] == document["per_answer"]["model"]["calls"] == 1
    )
