"""`judge`: recorded answers judged by a model, compared in pairs, kept so that nothing is asked twice."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from openai_server import serving

PROBLEMS = [
    {"id": f"p{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(3)
]
ANSWERS = [
    {"id": f"p{i}", "model": name, "completion": text, "correct": good}
    for i in range(3)
    for name, text, good in (("brief", "good", True), ("wordy", "bad, and at length", i == 0))
]
GRADES = [
    {"pattern": "answer begins\ngood", "answers": ["Fine.\nVerdict: right"]},
    {"pattern": "bad", "answers": ["No.\nVerdict: wrong"]},
]
FIRST = [{"pattern": "", "answers": ["Better: first"]}]


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    problems, answers = save(tmp_path / "p.jsonl", PROBLEMS), save(tmp_path / "a.jsonl", ANSWERS)  # type: ignore[arg-type]
    return [
        "judge",
        "--problems",
        problems,
        "--answers",
        answers,
        "--out",
        tmp_path / "out",
        "--quiet",
    ]


def judge(path: Path, rules: list[dict[str, object]]) -> str:
    path.write_text(json.dumps(rules), "utf-8")
    return f"scripted:{path}"


def test_answers_are_graded_and_compared_with_their_labels(words, tmp_path: Path, potstill) -> None:
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Good is right.")
    spec = judge(tmp_path / "judge.json", GRADES)
    done = potstill(*words, "--judge", spec, "--rubric", rubric, "--json")
    assert done.code == 0, done.err
    brief, wordy = done.json["answers"]
    assert (brief["right"], brief["wrong"], brief["agrees with labels"]) == (3, 0, 1.0)
    assert (wordy["right"], wordy["wrong"], wordy["agrees with labels"]) == (
        0,
        3,
        pytest.approx(2 / 3),
    )
    assert "answers" in potstill(*words, "--judge", spec, "--rubric", rubric).out
    rubric.write_text("")
    assert "holds 0 characters" in potstill(*words, "--judge", spec, "--rubric", rubric).err


def test_pairs_show_the_bias(words, tmp_path: Path, potstill) -> None:
    done = potstill(*words, "--judge", judge(tmp_path / "judge.json", FIRST), "--pairs", "--json")
    assert done.json["pairs"] == [
        {"model": "brief", "against": "wordy", "won": 0, "lost": 0, "ties": 3}
    ]
    assert done.json["bias"]["first_place"] == 1.0
    assert done.json["bias"]["agreement"] == 0.0
    told = potstill(*words, "--judge", judge(tmp_path / "judge.json", FIRST), "--pairs")
    assert "bias of the judge" in told.out


def test_one_model_alone_has_no_pairs(tmp_path: Path, words, potstill) -> None:
    save(tmp_path / "a.jsonl", ANSWERS[::2])  # type: ignore[arg-type]
    failed = potstill(*words, "--judge", judge(tmp_path / "judge.json", FIRST), "--pairs")
    assert failed.code == 2
    assert "no problem is answered by two" in failed.err


def test_an_evaluation_is_judged_by_a_model(tmp_path: Path, potstill) -> None:
    problems = save(tmp_path / "p.jsonl", PROBLEMS)  # type: ignore[arg-type]
    answers = [
        {"question": row["question"], "completion": "good" if i else "bad"}
        for i, row in enumerate(PROBLEMS)
    ]
    told = save(tmp_path / "r.jsonl", answers)  # type: ignore[arg-type]
    words = [
        "evaluate",
        "--problems",
        problems,
        "--kind",
        "judge",
        "--model",
        f"recorded:{told}",
        "--n",
        "1",
        "--quiet",
    ]
    refused = potstill(*words)
    assert refused.code == 2
    assert (
        "3 problems are to be judged by a model, and there is none" in refused.err
        and "--judge SPEC" in refused.err
    )
    spec = judge(tmp_path / "judge.json", GRADES)
    done = potstill(*words, "--judge", spec, "--out", tmp_path / "e.json", "--json")
    assert done.code == 0, done.err
    assert done.json["statuses"] == {"right": 2, "wrong": 1}
    assert "judge" in str(done.json["fingerprint"]["task"])
    Path(tmp_path / "judge.json").write_text(
        json.dumps(GRADES[::-1]), "utf-8"
    )  # another judge, another fingerprint
    other = potstill(*words, "--judge", spec, "--out", tmp_path / "f.json", "--json").json
    assert (
        other["statuses"] == done.json["statuses"]
        and other["fingerprint"] != done.json["fingerprint"]
    )


def test_a_judge_stops_at_its_budget_and_goes_on_with_a_larger_one(
    words, tmp_path: Path, potstill
) -> None:
    spec = judge(tmp_path / "judge.json", GRADES)
    whole = potstill(*words[:-2], tmp_path / "whole", "--judge", spec, "--json", "--quiet").json
    stopped = potstill(*words, "--judge", spec, "--budget", "10tok")
    assert stopped.code == 2 and "the budget is spent: 0 of 10 tokens" in stopped.err
    again = shlex.split(stopped.err.split("to go on: ")[1])[1:]
    assert again[0] == "judge" and "10tok" not in again
    done = potstill(*again, "--json")
    assert done.code == 0 and done.json["answers"] == whole["answers"]
    assert (
        "unknown role in the budget 'teacher'"
        in potstill(*words, "--judge", spec, "--budget", "teacher=5tok").err
    )
    assert (
        "no prices at none.json" in potstill(*words, "--judge", spec, "--prices", "none.json").err
    )


def test_money_needs_a_price_before_the_first_call(words, tmp_path: Path, potstill) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"my-judge": {"prompt": 1e6, "completion": 1e6}}))
    with serving() as server:
        judged = [*words, "--judge", f"openai:my-judge?url={server.url}", "--budget", "judge=1usd"]
        local = potstill(*judged)  # on this machine it costs nothing, unless the user says so
        assert local.code == 0, local.err
        stopped = potstill(*judged, "--out", tmp_path / "other", "--prices", prices)
        assert stopped.code == 2 and "the budget of the judge is spent" in stopped.err
        asked = sum(server.served.values())
        elsewhere = [
            *words,
            "--judge",
            "openai:my-judge?url=https://example.invalid/v1",
            "--budget",
            "1usd",
        ]
        assert (
            "the price of the model 'my-judge' is not known"
            in potstill(*elsewhere, "--out", tmp_path / "third").err
        )
        assert sum(server.served.values()) == asked


def test_bad_rows_of_answers_are_left_out_where_that_is_asked(
    words, tmp_path: Path, potstill
) -> None:
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"id": "p0", "completion": \n')
    spec = judge(tmp_path / "judge.json", GRADES)
    assert "a.jsonl, line 7" in potstill(*words, "--judge", spec, "--threads", "1").err
    done = potstill(*words, "--judge", spec, "--skip-bad", "--json")
    assert done.code == 0, done.err
    assert [row["where"] for row in done.json["bad"]] == ["line 7"] and len(
        done.json["answers"]
    ) == 2
    assert "a.jsonl, line 7" in potstill(*words, "--judge", spec, "--skip-bad").out


def test_an_evaluation_keeps_to_a_budget(tmp_path: Path, potstill) -> None:
    problems, told = save(tmp_path / "p.jsonl", PROBLEMS), tmp_path / "m.json"  # type: ignore[arg-type]
    told.write_text(json.dumps([{"pattern": "", "answers": ["1", "2", "3"]}]), "utf-8")
    words = ["evaluate", "--problems", problems, "--model", f"scripted:{told}", "--quiet"]
    assert "--out FILE.json" in potstill(*words, "--budget", "1Mtok").err
    whole = potstill(*words, "--json", "--out", tmp_path / "whole.json").json
    words += ["--out", tmp_path / "e.json"]
    stopped = potstill(*words, "--budget", "evaluation=10tok")
    assert stopped.code == 2 and "the budget of the evaluation is spent" in stopped.err
    assert not (tmp_path / "e.json").exists()
    done = potstill(*shlex.split(stopped.err.split("to go on: ")[1])[1:], "--json")
    assert done.code == 0, done.err
    assert done.json["measures"] == whole["measures"]
