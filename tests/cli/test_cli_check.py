"""`potstill check`: a method of the package, one of a file, and one that breaks a rule."""

from __future__ import annotations

import json

import pytest

GOOD = """
from potstill.models.model import Trainable
from potstill.records import Stage
from potstill.traces import keep, right, sample, verify


def star(problems, student: Trainable, *, n: int = 4):
    \"\"\"Learn from one's own right answers (STaR, arXiv:2203.14465).

    Args:
        n: samples a problem.
    \"\"\"
    rows = keep(right, verify(sample(student, problems, n=n)))
    yield Stage(student, rows, "sft")
"""
BROKEN = GOOD.replace("problems, n=n", "problems[:3], n=n")


@pytest.mark.slow
def test_a_method_of_a_file_passes(potstill, tmp_path):
    file = tmp_path / "my_method.py"
    file.write_text(GOOD)
    done = potstill("check", f"{file}:star")
    assert done.code == 0, done.err
    assert "Run again it asks no model and yields the same stages. holds" in done.out


@pytest.mark.slow
def test_a_method_that_breaks_a_rule_fails_and_the_rule_is_named(potstill, tmp_path):
    file = tmp_path / "my_method.py"
    file.write_text(BROKEN)
    done = potstill("check", f"{file}:star", "--json")
    assert done.code == 2
    failed = [f for f in json.loads(done.out)["findings"] if f["problem"]]
    assert [f["problem"] for f in failed] == ["the same problems in another order gave other rows"]


@pytest.mark.slow
def test_a_cast_from_flags(potstill, tmp_path):
    file, problems, student = (tmp_path / name for name in ("m.py", "p.jsonl", "s.json"))
    posed = GOOD.replace(
        "sample(student, problems,", 'sample(student, pose("Now: {question}", problems),'
    )
    file.write_text(posed.replace("import keep, ", "import keep, pose, "))
    assert "rows have prompts that no problem has" in potstill("check", f"{file}:star").out
    rows = [{"question": f"{number} + 1?", "answer": str(number + 1)} for number in range(16)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = [
        {"pattern": f"Now: {row['question'][:2]}", "answers": [row["answer"], "I am not sure."]}
        for row in reversed(rows)
    ]
    student.write_text(json.dumps([*rules, {"pattern": "", "answers": ["7"]}]))
    flags = ("--poses", "--problems", problems, "--role", f"student=scripted:{student}")
    done = potstill("check", f"{file}:star", *map(str, flags), "--set", "n=2", "--json")
    failed = [f["problem"] for f in json.loads(done.out)["findings"] if f["problem"]]
    assert failed == ["another seed yielded the same stages"], "answers by rule follow no seed"


@pytest.mark.slow
def test_a_method_that_raises_fails_with_the_line_of_its_file(potstill, tmp_path):
    file = tmp_path / "my_method.py"
    file.write_text(GOOD.replace("    rows = ", '    raise ValueError("oops")\n    rows = '))
    done = potstill("check", f"{file}:star")
    assert done.code == 2
    assert "does not hold: it raised ValueError: oops (my_method.py, line 13)" in done.out
    file.write_text(GOOD.replace("n: int = 4", "n: int"))
    assert "the value n has no default" in potstill("check", f"{file}:star").out


def test_what_is_no_method_is_refused(potstill, tmp_path):
    file = tmp_path / "my_method.py"
    file.write_text("value = 1\n\ndef plain(problems): return []\n")
    assert "has no 'star'" in potstill("check", f"{file}:star").err
    assert "no generator function" in potstill("check", f"{file}:plain").err
    assert "can't be read" in potstill("check", f"{tmp_path / 'none.py'}:star").err
    assert "There is no method 'orionn'" in potstill("check", "orionn").err
    file.write_text("1 / 0")
    assert "ZeroDivisionError" in potstill("check", f"{file}:star").err
