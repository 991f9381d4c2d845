"""The operators and the driver on the real verifiers, the scripted model and the store, without any stand-in."""

from __future__ import annotations

import pytest

from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Stage, Trace, blank
from potstill.runs.driver import drive
from potstill.store import Store, with_cache
from potstill.traces import (
    Session,
    keep,
    mix,
    pair,
    rewrite,
    right,
    sample,
    sound,
    unparsed,
    using,
    verify,
    wrong,
)

STORY = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
GOOD = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
LUCKY = "19 - 14 = 4. 5 * 2 = 10. The answer is \\boxed{10}."
BAD = "19 - 14 = 6. 6 * 2 = 12. The answer is \\boxed{12}."


def made(problem: Problem, *texts: str) -> list[Trace]:
    return [
        Trace(problem, problem.question, text=text, operator="sample", finish_reason="stop")
        for text in texts
    ]


def test_the_worlds_steps():
    judged = verify(made(Problem("s", STORY, "10", "story"), GOOD, LUCKY, BAD, "19 - 14 = 5."))
    assert [t.verdict.status for t in judged] == ["right", "right", "wrong", "unparsed"]
    assert [t.scores["steps"] for t in judged] == [1.0, 0.0, 0.0, 1.0]
    assert [t.text for t in keep(sound, judged)] == [GOOD]
    assert next(LUCKY[s.start : s.stop] for s in judged[1].spans if s.score == 0) == "19 - 14 = 4"
    assert verify(judged) == judged


@pytest.mark.parametrize(
    ("kind", "gold", "good", "bad"),
    [
        ("number", "18", "So it is 6 + 12.\nA: 18", "A: 19"),
        ("choice", "B", "The answer is (B).", "The answer is (C)."),
        ("exact", "blue whale", "<answer>blue  whale</answer>", "<answer>whale</answer>"),
        ("math", "\\frac{1}{2}", "Thus \\boxed{0.5}", "Thus \\boxed{2}"),
    ],
)
def test_other_kinds_have_no_steps(kind, gold, good, bad):
    judged = verify(
        made(Problem("p", "Which?", gold, kind, choices=("x", "y", "z")), good, bad, "")
    )
    assert [t.verdict.status for t in judged[:2]] == ["right", "wrong"]
    assert all("steps" not in t.scores for t in judged)


def learn(problems, teacher, student):
    chains = verify(sample(teacher, problems, n=2))
    ours = verify(sample(student, problems, n=2))
    better = rewrite(
        student,
        keep(right, chains),
        prompt="{text}\n{attempts}",
        context={"attempts": keep(wrong, ours)},
    )
    assert keep(unparsed, ours) == []
    student = yield Stage(student, mix(keep(right, verify(better))), "sft")
    yield Stage(student, pair(keep(right, chains), keep(wrong, ours)), "preference")


def test_a_method_on_the_store(tmp_path):
    problems = [
        blank(Problem(f"s{i}", STORY.replace("Ned", name), "10", "story"))
        for i, name in enumerate(("Ann", "Tom"))
    ]
    teacher, student = (
        ScriptedModel([GOOD, BAD], name="teacher"),
        ScriptedModel([BAD, BAD + " ", GOOD], name="student"),
    )
    outcomes = []
    with Store.open(tmp_path / "store") as store:
        for _ in range(2):
            ledger, stages = store.ledger("a"), []

            def train(stage, stages=stages, ledger=ledger):
                stages.append(stage)
                ledger.rows(stage.id, stage.rows)
                return stage.model

            roles = {
                name: with_cache(model, store, role=name, arm="a", seed=1)
                for name, model in (("teacher", teacher), ("student", student))
            }
            with using(Session(ledger, store.verdicts)):
                drive(learn, problems, roles, {}, train)
            outcomes.append(([s.id for s in stages], [[r.id for r in s.rows] for s in stages]))
            if len(outcomes) == 1:
                calls = len(teacher.calls), len(student.calls)
                teacher.calls.clear(), student.calls.clear()
        assert outcomes[0] == outcomes[1] and [len(rows) for rows in outcomes[0][1]] == [2, 2]
        assert calls == (4, 6) and not teacher.calls and not student.calls
