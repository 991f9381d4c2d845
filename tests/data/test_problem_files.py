"""Problem files: layouts, guessed columns, final answers, and everything that can be wrong with a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data import files, problems
from potstill.data.trace_json import to_record
from potstill.errors import ConfigError, InputError
from potstill.records import Problem, Trace

FIXTURE = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"


def write(path: Path, *rows: Any) -> str:
    """A jsonl file of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_gsm8k_layout_gives_final_answers_and_keeps_the_solutions() -> None:
    loaded = problems.load(str(FIXTURE))
    assert [p.answer for p in loaded][:4] == ["76", "840", "24", "1,250"]
    assert {p.kind for p in loaded} == {"number"}
    assert loaded[3].solution == "It took 250 * 5 = <<250*5=1250>>1,250 euros.\nA: 1,250"
    assert loaded[0].source == "gsm8k_like.jsonl"
    assert loaded[0].id == problems.load(str(FIXTURE))[0].id
    assert problems.describe(loaded) == {
        "count": 20,
        "kinds": {"number": 20},
        "sources": {"gsm8k_like.jsonl": 20},
        "mapping": {"question": "question", "answer": "ground_truth"},
        "unread": ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"],
        "without_answer": 0,
        "repeated_questions": 0,
        "notes": [],
    }


@pytest.mark.parametrize("question", ["problem", "question", "Prompt", "instruction", "query"])
@pytest.mark.parametrize(
    "answer",
    ["answer", "gold", "ground_truth", "reference", "solution", "gt", "Target", "final_answer"],
)
def test_usual_column_names_are_guessed(tmp_path: Path, question: str, answer: str) -> None:
    [found] = problems.load(
        write(tmp_path / "p.jsonl", {"id": 7, question: "1 + 1?", answer: 2.0, "level": "easy"})
    )
    assert (found.id, found.question, found.answer, found.kind) == ("7", "1 + 1?", "2", "number")


@pytest.mark.parametrize(
    ("gold", "answer", "kept"),
    [
        ("48/2 = 24\n#### 72", "72", True),
        ("So it is 18.\nA: 1,800", "1,800", True),
        ("Hence $x = \\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}", True),
        ("#### 72", "72", True),
        ("\\frac{1}{2}", "\\frac{1}{2}", False),
        ("A: is for apples\nand more", "A: is for apples\nand more", False),
    ],
)
def test_final_answers_are_taken_from_gold_solutions(
    tmp_path: Path, gold: str, answer: str, kept: bool
) -> None:
    [found] = problems.load(write(tmp_path / "p.jsonl", {"question": "?", "answer": gold}))
    assert (found.answer, found.solution) == (answer, gold if kept else None)


def test_a_solution_beside_the_answer_is_kept(tmp_path: Path) -> None:
    [found] = problems.load(
        write(tmp_path / "p.jsonl", {"problem": "?", "answer": "2", "solution": "1 + 1 = 2"})
    )
    assert (found.answer, found.solution) == ("2", "1 + 1 = 2")


def test_options_make_a_choice_with_a_letter(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "options": ["A)1 km", "B)2 km"], "correct": "B"},
        {"question": "b", "options": ["1", "2", "3"], "correct": 2},
    ]
    first, second = problems.load(write(tmp_path / "p.jsonl", *rows))
    assert (first.kind, first.choices, first.answer, first.question) == (
        "choice",
        ("1 km", "2 km"),
        "B",
        "a",
    )
    assert (second.choices, second.answer) == (("1", "2", "3"), "C")


def test_kinds_follow_from_all_golds_and_can_be_given(tmp_path: Path) -> None:
    mixed = write(
        tmp_path / "p.jsonl", {"question": "a", "answer": 3}, {"question": "b", "answer": "x+1"}
    )
    assert [p.kind for p in problems.load(mixed)] == ["math", "math"]
    assert [p.kind for p in problems.load(mixed, kind="exact")] == ["exact", "exact"]
    numbers = write(
        tmp_path / "n.jsonl",
        {"question": "a", "answer": "$1,200"},
        {"question": "b", "answer": "-3/4"},
    )
    assert [p.kind for p in problems.load(numbers)] == ["number", "number"]


def test_columns_can_be_mapped_joined_and_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"story": "Two apples.", "ask": "How many?", "n": 2, "id": "x"}
    )
    [found] = problems.load(path, mapping={"question": "story+ask", "answer": "n"})
    assert (found.question, found.answer) == ("Two apples. How many?", "2")
    [found] = problems.load(path, mapping={"question": "ask", "answer": "", "id": ""})
    assert found.answer is None
    assert found.id.startswith("problem-")


def test_all_formats_hold_the_same_problems(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"question": 'é, "quoted"\nnext', "answer": "1"}, {"question": "b", "answer": "2"}]
    jsonl = write(tmp_path / "p.jsonl", *rows)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(Path(jsonl).read_bytes()))
    (tmp_path / "p.json").write_text(json.dumps({"data": rows}, indent=1))
    (tmp_path / "p.csv").write_text(
        'question,answer\n"é, ""quoted""\nnext",1\nb,2\n', encoding="utf-8"
    )
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    wanted = [(p.id, p.question, p.answer) for p in problems.load(jsonl)]
    assert wanted[0][1] == 'é, "quoted"\nnext'
    for name in ("p.jsonl.gz", "p.json", "p.csv", "p.parquet"):
        assert [
            (p.id, p.question, p.answer) for p in problems.load(str(tmp_path / name))
        ] == wanted, name


def test_a_limit_takes_the_same_problems_from_any_order_and_larger_ones_add(tmp_path: Path) -> None:
    rows = [{"id": n, "question": f"{n}?", "answer": n} for n in range(50)]
    forward = write(tmp_path / "f.jsonl", *rows)
    backward = write(tmp_path / "b.jsonl", *rows[::-1])
    ten = [p.id for p in problems.load(forward, limit=10, seed=1)]
    assert ten == [p.id for p in problems.load(backward, limit=10, seed=1)]
    assert ten == [p.id for p in problems.load(forward, limit=20, seed=1)][:10]
    assert ten != [p.id for p in problems.load(forward, limit=10, seed=2)]
    assert [p.id for p in problems.load(forward)] == [str(n) for n in range(50)]
    assert len(problems.load(forward, limit=99)) == 50


def test_equal_rows_without_ids_stay_two_problems(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": "2"}
    loaded = problems.load(write(tmp_path / "p.jsonl", row, row))
    assert loaded[1].id == f"{loaded[0].id}-2"
    assert problems.describe(loaded)["repeated_questions"] == 1


def test_the_same_id_twice_names_both_lines(tmp_path: Path) -> None:
    rows = [{"id": key, "question": f"{n}?", "answer": n} for n, key in enumerate(["a", "b", "a"])]
    with pytest.raises(InputError, match=r"line 1 and line 3 have the same id 'a'"):
        problems.load(write(tmp_path / "p.jsonl", *rows))


def test_a_column_of_a_fitting_name_that_is_not_taken_says_why(tmp_path: Path) -> None:
    blank = write(tmp_path / "b.jsonl", {"question": " ", "answer": "4"})
    with pytest.raises(InputError, match="for the question: 'question' holds nothing"):
        problems.load(blank)
    labels = [{"question": f"{n}?", "choices": ["a", "b"], "correct": n} for n in (0, 1)]
    with pytest.raises(InputError, match="for the answer: 'correct' holds labels of right"):
        problems.load(write(tmp_path / "l.jsonl", *labels))


def test_missing_columns_list_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        problems.load(write(tmp_path / "p.jsonl", {"text": "1 + 1?", "answer": 2}))
    assert raised.value.available == ("text", "answer")
    assert raised.value.fix == "--map question=COL"
    with pytest.raises(InputError) as raised:
        problems.load(write(tmp_path / "p.jsonl", {"question": "1 + 1?", "result": 2}))
    assert "--map answer=COL" in raised.value.fix
    with pytest.raises(ConfigError) as raised_by_name:
        problems.load(str(tmp_path / "p.jsonl"), mapping={"answer": "resul"})
    assert raised_by_name.value.nearest == ("result",)
    with pytest.raises(ConfigError, match="no field 'anser'"):
        problems.load(str(tmp_path / "p.jsonl"), mapping={"anser": "result"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b"", "is empty"),
        ("p.jsonl", b"\n \n", "is empty"),
        ("p.json", b"[]", "is empty"),
        ("p.csv", b"question,answer\n", "is empty"),
        ("p.jsonl", b'{"question": "a", "answer": 1}\n{"question": "b",\n', "line 2, column 18"),
        ("p.json", b'[\n{"question": "a"},\n]', "line 3, column 1"),
        ("p.jsonl", b"[1, 2]\n", "line 1: a JSON list"),
        ("p.json", b"3", "holds a JSON int"),
        ("p.jsonl", b'{"question": "\xff"}\n', "line 1: not UTF-8"),
        (
            "p.jsonl",
            b'{"question": "a", "answer": 1}\n{"answer": 1}\n',
            "line 2: the question is empty",
        ),
        ("p.csv", b"question,answer\na,1,2\n", "line 2: more fields"),
        ("p.csv", b"question,answer\na\n", "line 2: fewer fields"),
        ("p.jsonl.gz", b"no gzip", "can't be read"),
        ("p.parquet", b"no parquet", "is no parquet file"),
        ("p.txt", b"x", "of no kind that can be read"),
    ],
)
def test_bad_files_say_what_and_where(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        problems.load(str(tmp_path / name))
    assert message in str(raised.value)
    assert name in str(raised.value)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"question": "a", "answer": 1})
    with pytest.raises(InputError) as raised:
        problems.load(str(tmp_path / "trian.jsonl"))
    assert raised.value.nearest == ("train.jsonl",)
    with pytest.raises(InputError, match="is a folder"):
        problems.load(str(tmp_path))


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="limit is 0"):
        problems.load(str(FIXTURE), limit=0)


def test_bad_rows_are_left_out_and_listed_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", *({"id": key, "question": f"{key}?", "answer": 1} for key in "abca")
    )
    with Path(path).open("ab") as file:
        file.write(b'{"id": "d", "question": " ", "answer": 1}\n{"id": "e", "question"')
    with pytest.raises(InputError, match=r"line 6.*cut short"):
        problems.load(path)
    with files.skipping() as bad:
        assert [p.id for p in problems.load(path)] == ["a", "b", "c"]
    assert [(item.where, item.reason.split(":")[0]) for item in bad] == [
        ("line 6", "column 23"),
        ("line 5", "the question is empty"),
        ("line 4", "line 1 and line 4 have the same id 'a'"),
    ]


def load_rows(path: Path, *rows: dict[str, Any], **keywords: Any) -> list[Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return problems.load(str(path), **keywords)


def test_tests_that_no_kind_would_use_are_refused(tmp_path: Path) -> None:
    row = {"prompt": "Write f.", "answer": "def f(): return 1", "tests": ["assert f() == 1"]}
    for kind in (None, "math"):
        with pytest.raises(
            InputError, match=r"'tests' holds tests, which .* would not use"
        ) as caught:
            load_rows(tmp_path / "p.jsonl", row, kind=kind)
        assert "--kind code" in caught.value.fix
    [problem] = load_rows(tmp_path / "p.jsonl", row, kind="code")
    assert problem.tests == ("assert f() == 1",)
    [problem] = load_rows(tmp_path / "p.jsonl", row, mapping={"tests": ""})
    assert problem.kind == "math" and not problem.tests


@pytest.mark.parametrize("gold", ["nan", "None", "NULL"])
def test_the_text_of_a_missing_gold_is_refused(tmp_path: Path, gold: str) -> None:
    rows = [{"question": "1 + 1?", "answer": "2"}, {"question": "2 + 2?", "answer": gold}]
    with pytest.raises(InputError, match=f"line 2: the gold answer is the text '{gold}'"):
        load_rows(tmp_path / "p.jsonl", *rows)
    assert load_rows(tmp_path / "p.jsonl", *rows, kind="exact")[1].answer == gold


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_key_that_stands_twice_in_a_row_is_refused(tmp_path: Path, suffix: str) -> None:
    text = '{"question": "1 + 1?", "answer": "3", "answer": "2"}'
    path = tmp_path / f"p.{suffix}"
    path.write_text(text if suffix == "jsonl" else f"[{text}]")
    with pytest.raises(InputError, match="the key 'answer' twice in one object"):
        problems.load(str(path))


def traces_of(*wanted: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Rows of a trace file: a trace of each problem (id, question, gold answer)."""
    records = []
    for name, question, answer in wanted:
        problem = Problem(name, question, answer, "math", source="r.jsonl")
        records.append(to_record(Trace(problem, question, f"It is {answer}.")))
    return records


def test_a_trace_file_gives_each_of_its_problems_once(tmp_path: Path) -> None:
    rows = traces_of(("a", "1+1?", "2"), ("a", "1+1?", "2"), ("b", "2+2?", "4"))
    loaded = problems.load(write(tmp_path / "t.jsonl", *rows))
    assert [(p.id, p.question, p.kind) for p in loaded] == [
        ("a", "1+1?", "math"),
        ("b", "2+2?", "math"),
    ]
    assert loaded.places == {"a": "line 1", "b": "line 3"}


def test_a_kind_that_is_given_is_that_of_a_trace_files_problems_too(tmp_path: Path) -> None:
    rows = traces_of(("a", "1+1?", "2"))
    [problem] = problems.load(write(tmp_path / "t.jsonl", *rows), kind="exact")
    assert (problem.id, problem.kind) == ("a", "exact")


@pytest.mark.parametrize(
    "other", [traces_of(("a", "3+3?", "6")), [{"id": "a", "question": "3+3?", "answer": "6"}]]
)
def test_two_problems_of_one_id_in_a_trace_file_are_refused(tmp_path: Path, other: Any) -> None:
    file = write(tmp_path / "t.jsonl", *traces_of(("a", "1+1?", "2")), *other)
    with pytest.raises(InputError, match=r"id 'a': '1\+1\?' and '3\+3\?'"):
        problems.load(file)


def test_a_list_is_no_question(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", {"question": ["How many?", "Why?"], "answer": "8"})
    with pytest.raises(InputError, match="'question' holds a list of 2"):
        problems.load(file)
