"""`verify`: gold answers, recorded answers in three layouts, and where label and verifier disagree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.verifiers.code import sandbox

FIXTURE = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"
PROBLEMS = [
    {"id": f"p{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(4)
]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return save(tmp_path / "problems.jsonl", PROBLEMS)


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_gold_answers_pass(problems: Path, potstill) -> None:
    done = potstill("verify", "--problems", problems, "--json", "--quiet")
    assert done.json["gold"] == {"checked": 4, "right": 4, "failing": [], "without_rows": []}
    assert done.json["problems"]["kinds"] == {"number": 4}
    assert "gold answers: 4 of 4 pass" in potstill("verify", "--problems", problems, "--quiet").out


def test_recorded_layout_with_a_column_a_model(potstill) -> None:
    rows = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    models = [name for name, value in rows[0].items() if isinstance(value, dict)]
    done = potstill("verify", "--problems", FIXTURE, "--answers", FIXTURE, "--json", "--quiet")
    assert done.code == 0
    counts = {row["model"]: row for row in done.json["answers"]}
    assert list(counts) == models
    for model in models:
        assert counts[model]["answers"] == len(rows)
        assert counts[model]["right by label"] == sum(row[model]["is_correct"] for row in rows)
        told = [d for d in done.json["disagreements"] if d["model"] == model]
        assert counts[model]["disagreements"] == len(told)


def test_disagreements_are_listed(problems: Path, tmp_path: Path, potstill) -> None:
    answers = [
        {"id": "p0", "completion": "The answer is 1.", "correct": True},
        {"id": "p1", "completion": "The answer is 7.", "correct": True},
        {"id": "p2", "completion": "The answer is 3.", "correct": False},
        {"id": "p3", "completion": "\x1b[mNo idea.", "correct": True},
        {"id": "p9", "completion": "The answer is 9.", "correct": True},
    ]
    words = [
        "verify",
        "--problems",
        problems,
        "--answers",
        save(tmp_path / "a.jsonl", answers),
        "--quiet",
    ]
    done = potstill(*words, "--json")
    assert [(d["problem"], d["label"], d["verdict"]) for d in done.json["disagreements"]] == [
        ("p1", "right", "wrong"),
        ("p2", "wrong", "right"),
        ("p3", "right", "unparsed"),
    ]
    [counts] = done.json["answers"]
    assert counts == {
        **{"model": "answers", "answers": 4, "right by label": 3},
        **{"right": 2, "wrong": 1, "unparsed": 1, "unjudged": 0, "cut": 0, "disagreements": 3},
    }
    assert done.json["strays"] == 1
    told = potstill(*words)
    assert (
        "label and verifier disagree" in told.out
        and "rows that answer none of the problems: 1" in told.out
    )
    assert "\x1b" not in told.out


def test_other_layouts(problems: Path, tmp_path: Path, potstill) -> None:
    said = [
        {"role": "user", "content": "What is 0 + 1?"},
        {"role": "assistant", "content": "The answer is 1."},
    ]
    answers = [
        {"messages": said, "model": "chat"},
        {
            "question": "What is  1 + 1?",
            "responses": ["The answer is 2.", "The answer is 3."],
            "label": [1, 0],
        },
        {"problem_id": "p2", "output": "The answer is 3.", "model": "chat"},
    ]
    done = potstill(
        "verify", "--problems", problems, "--answers", save(tmp_path / "a.jsonl", answers), "--json"
    )
    by_model = {row["model"]: row for row in done.json["answers"]}
    assert (
        by_model["chat"]["answers"],
        by_model["chat"]["right"],
        by_model["chat"]["right by label"],
    ) == (2, 2, None)
    assert (by_model["answers"]["right by label"], by_model["answers"]["wrong"]) == (1, 1)
    assert done.json["disagreements"] == []


def test_columns_are_named_with_map(problems: Path, tmp_path: Path, potstill) -> None:
    file = save(tmp_path / "a.jsonl", [{"key": "p1", "said": "The answer is 2.", "good": 0}])
    words = [
        "verify",
        "--problems",
        problems,
        "--answers",
        file,
        "--json",
        "--quiet",
        "--map",
        "completion=said",
    ]
    failed = potstill(*words)
    assert failed.code == 2 and "none of 1 rows" in failed.out
    file = save(tmp_path / "a.jsonl", [{"id": "p1", "said": "The answer is 2.", "good": 0}])
    done = potstill(*words, "--map", "label=good")
    assert [(d["problem"], d["label"], d["verdict"]) for d in done.json["disagreements"]] == [
        ("p1", "wrong", "right")
    ]
    failed = potstill(*words[:-2])
    assert (
        failed.code == 2
        and "line 1: no completion" in failed.out
        and "--map completion=COLUMN" in failed.out
    )


@pytest.mark.slow
def test_gsm8k_recorded_models(shared_data: Path, potstill) -> None:
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    done = potstill("verify", "--problems", file, "--answers", file, "--json", "--quiet")
    assert done.json["gold"]["right"] == 1319
    assert [row["right by label"] for row in done.json["answers"]] == [286, 515, 458, 742]
    assert [row["right"] + row["wrong"] + row["unparsed"] for row in done.json["answers"]] == [
        1319
    ] * 4


@pytest.mark.slow
def test_a_solution_that_fails_its_tests_is_told_with_the_test(tmp_path: Path, potstill) -> None:
    if all(map(sandbox.sandbox_obstacle, sandbox.KINDS)):
        pytest.skip(
            "; ".join(f"{kind}: {sandbox.sandbox_obstacle(kind)}" for kind in sandbox.KINDS)
        )
    tests = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "2 2\n", "stdout": "5\n"}]
    row = {
        "id": "a",
        "question": "Add.",
        "solution": "print(sum(map(int, input().split())))",
        "tests": tests,
    }
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")
    words = ("--problems", tmp_path / "c.jsonl", "--kind", "code", "--quiet")
    failed = potstill("verify", *words)
    assert failed.code == 2 and "test 2: prints '4', not '5'" in failed.out
    stopped = potstill("evaluate", "--model", "recorded:none.jsonl", *words)
    assert stopped.code == 2 and "line 1, a: wrong: test 2: prints '4', not '5'" in stopped.err
    for told in (failed.err, stopped.err):
        assert (
            "1 of 1 reference solutions" in told
            and "--map solution=" in told
            and "answer=" not in told
        )
    assert potstill("verify", *words, "--map", "solution=").code == 0


def test_a_field_of_map_that_there_is_not_is_refused(problems: Path, potstill) -> None:
    failed = potstill("verify", "--problems", problems, "--map", "golden=answer", "--quiet")
    assert failed.code == 2 and "no field 'golden'" in failed.err
