"""potstill train and keep: rows of many layouts, every objective's needs, kept entries from one command to the next."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main  # noqa: E402
from potstill.cli.rows import read  # noqa: E402
from potstill.errors import InputError  # noqa: E402

QUESTIONS = [f"Ned has {10 + i} shells. How many?" for i in range(4)]
TURN = {"role": "user", "content": QUESTIONS[0]}
ROWS = {
    "completion": {"prompt": QUESTIONS[0], "completion": "10."},
    "messages": {"messages": [TURN, {"role": "assistant", "content": "10."}]},
    "sharegpt": {"conversations": [{"from": "human", "value": QUESTIONS[0]}, {"from": "gpt", "value": "10."}]},
    "alpaca": {"instruction": QUESTIONS[0], "input": "", "output": "10."},
    "preference": {"prompt": QUESTIONS[0], "chosen": "10.", "rejected": "11, no."},
    "implicit": {
        "chosen": [TURN, {"role": "assistant", "content": "10."}],
        "rejected": [TURN, {"role": "assistant", "content": "11, no."}],
    },
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("layout", ROWS)
def test_the_usual_layouts_are_one_row(tmp_path, layout):
    (found,) = read(write(tmp_path / "rows.jsonl", [ROWS[layout]]))
    assert (found.prompt, found.text, found.finish) == (QUESTIONS[0], "10.", "stop")
    assert (found.rival.text if found.rival else "") == ("11, no." if layout in ("preference", "implicit") else "")


def run(capsys, *words):
    code = main(list(map(str, words)))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_label_stays_with_its_completion(tmp_path):
    told = [{"prompt": "a", "completion": "b", **more} for more in ({"label": False}, {"label": True}, {"label": "x"})]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, told)))
    assert [dict(row.scores) for row in read(str(tmp_path / "rows.jsonl"), 0)] == [{"label": 0.0}, {"label": 1.0}, {}]


def test_weights_of_rows_and_of_stretches_are_read(tmp_path):
    told = [
        {"prompt": "a", "completion": "one two", "weight": 0.5, "spans": [[0, 3, 2], [4, 7, 0]]},
        ROWS["completion"],
    ]
    weighted, plain = read(write(tmp_path / "rows.jsonl", told))
    assert (weighted.weight, [(s.start, s.stop, s.weight) for s in weighted.spans]) == (0.5, [(0, 3, 2.0), (4, 7, 0.0)])
    assert (plain.weight, plain.spans) == (1.0, ())


BAD = [
    ({"weight": "heavy"}, "weight is 'heavy'"),
    ({"weight": True}, "weight is True"),
    ({"spans": [[0, 99, 1]]}, "[0, 99, 1]"),
    ({"spans": [[0, 1, -1]]}, "[0, 1, -1]"),
    ({"spans": ["one"]}, "'one'"),
    ({"completion": None}, "completion is None"),
    ({"completion": 5}, "completion is 5"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD)
def test_a_bad_row_says_what_is_bad_and_no_column_that_is_right_is_renamed(tmp_path, wrong, said):
    with pytest.raises(InputError) as error:
        read(write(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "one two", **wrong}]))
    assert said in error.value.found and "line 1" in error.value.found
    assert "rename the columns" not in error.value.fix


def test_entries_are_kept_once_and_distilled_from(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [{"prompt": q, "completion": f"{q} 1 + 2 = 3."} for q in QUESTIONS])
    kept, student = tmp_path / "kept", f"transformers:{tiny_checkpoint}"
    words = ("keep", "--rows", rows, "--teacher", student, "--k", 32, "--out", kept, "--quiet", "--json")
    code, out, err = run(capsys, *words)
    told = json.loads(out)
    assert code == 0 and not err and told["rows"] == 4 and 192 < told["bytes_per_token"] < 600
    assert told["gib_per_million_tokens"] == round(told["bytes_per_token"] * 1e6 / 2**30, 3)
    assert run(capsys, *words)[1] == out, "a second time nothing is done"
    words = ("train", "--rows", rows, "--start", tiny_checkpoint, "--objective", "forward_kl", "--kept", kept)
    code, out, _ = run(capsys, *words, "--set", "max_steps=2", "--out", tmp_path / "kd", "--quiet", "--json")
    told = json.loads(out)
    assert code == 0 and told["objective"] == "forward_kl" and told["steps"] == 2
    assert told["first_loss"] == pytest.approx(0, abs=1e-3), "the teacher is the student"


def test_constants_and_settings_find_their_place(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [{**ROWS["preference"], "prompt": q} for q in QUESTIONS])
    words = ("train", "--rows", rows, "--student", f"transformers:{tiny_checkpoint}", "--objective", "redi", "--quiet")
    code, out, _ = run(capsys, *words, "--set", "alpha=0.5", "--set", "max_steps=1", "--out", tmp_path / "a", "--json")
    assert code == 0 and {"better", "worse"} <= set(json.loads(out)["stats"])
    code, _, err = run(capsys, *words, "--set", "alfa=0.5", "--out", tmp_path / "b")
    assert code == 2 and "nothing is called alfa" in err and "nearest:   alpha" in err
    code, _, err = run(capsys, *words[:-2], "forward_kl", "--out", tmp_path / "b")
    assert code == 2 and "a teacher= or kept= is needed" in err
    code, _, err = run(capsys, *words[:-2], "rdi", "--out", tmp_path / "b")
    assert code == 2 and "no objective 'rdi'" in err and "nearest:   redi" in err
    assert not (tmp_path / "b").exists()


def test_help_names_the_objectives(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0 and all(name in out for name in ("likelihood", "redi", "forward_kl", "kdrl", "rollout"))
