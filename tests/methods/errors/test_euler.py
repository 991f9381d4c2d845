"""EULER, exactly: what the error model prefers, what the learner is shown, and who is asked at test time."""

from __future__ import annotations

import pytest
from scripted_world import number, prompts, run, student

from potstill.errors import StageError
from potstill.methods import METHODS
from potstill.methods.errors.euler.prompts import AVOID
from potstill.methods.errors.euler.settings import Settings
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.runs.cast import Cast
from potstill.runs.driver import drive
from potstill.traces import Session, Share, using
from potstill.traces.prompts import fill_template

CAST = Cast(poses=True)

P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
TEACHER = {p.prompt: f"The chain to \\boxed{{{p.problem.answer}}}." for p in (P1, P2, P3)}
CHAINS = list(TEACHER.values())
# Five attempts and then errors of the same model; the third problem is never got wrong.
WRONG = {P1.prompt: "One is \\boxed{1}.", P2.prompt: "Two is \\boxed{5}."}
PUPIL = {
    P1.prompt: [WRONG[P1.prompt], "I say \\boxed{2}."],
    P2.prompt: [WRONG[P2.prompt]],
    P3.prompt: ["Six: \\boxed{6}."],
}


def errors_of(problem, tag="lie", count=3):
    return [f"A {tag} {k} on {problem.problem.id}: \\boxed{{9{k}}}." for k in range(count)]


def shown(problem, errors):
    numbered = "\n".join(f"{k}. {text}" for k, text in enumerate(errors, 1))
    return fill_template(AVOID, {"prompt": problem.prompt, "errors": numbered})


def euler(problems=(P1, P2, P3), teacher=TEACHER, settings=None, **values):
    """Run EULER; the first stage makes a liar, the second one a solver that says what it was asked."""
    base, master = student(PUPIL), ScriptedModel(teacher)
    liar = student({p.prompt: errors_of(p) for p in (P1, P2, P3)}, name="liar")
    solver_model = student(["It is \\boxed{2}."], name="solver")
    stages, sections = [], []

    def train(stage):
        stages.append(stage)
        return liar if stage.name == "exposure" else solver_model

    with using(Session(sections=sections.append)):
        solve = drive(
            METHODS["euler"],
            list(problems),
            {"teacher": master, "student": base},
            {"settings": Settings(**(settings or {})), **values},
            train,
        )
        answers = solve(list(problems), n=2, temperature=0.5)
    return stages, sections, {"base": base, "liar": liar, "solver": solver_model}, answers


def test_the_error_model_prefers_the_students_wrong_solutions_to_its_right_ones():
    stages, _, models, _ = euler()
    exposure = stages[0]
    assert (exposure.name, exposure.objective, exposure.model) == (
        "exposure",
        "dpo",
        models["base"],
    )
    assert {"beta": 0.1, "sft": 1.0}.items() <= exposure.constants.items()
    pairs = [(row.prompt, row.text, row.rejected.text) for row in exposure.rows]
    # It never solves the second problem, so that there is nothing to be trained away from.
    assert pairs == [(P1.prompt, WRONG[P1.prompt], "I say \\boxed{2}.")] * 2
    assert {r.sampling for r in models["base"].calls} == {
        Sampling(0.8, 0.9, repetition_penalty=1.05, max_new_tokens=1024)
    }


@pytest.mark.parametrize(
    ("rejected", "texts"),
    [("teacher", [CHAINS[0]]), ("both", [CHAINS[0], *["I say \\boxed{2}."] * 2])],
)
def test_whose_right_solutions_are_rejected_is_a_setting(rejected, texts):
    stages, _, _, _ = euler(settings={"rejected": rejected})
    first = [row.rejected.text for row in stages[0].rows if row.prompt == P1.prompt]
    assert first == texts


def test_a_student_that_is_always_right_or_always_wrong_has_no_pairs_of_its_own():
    with pytest.raises(
        StageError, match="none of the problems with a wrong attempt has a right"
    ) as stop:
        euler(problems=(P2, P3))
    assert "--set settings.rejected=teacher" in stop.value.fix
    stages, _, _, _ = euler(problems=(P2, P3), settings={"rejected": "teacher"})
    assert [row.rejected.text for row in stages[0].rows] == [TEACHER[P2.prompt]]


def test_the_teachers_solution_is_learnt_under_a_prompt_that_shows_the_errors():
    stages, _, models, _ = euler()
    learning = stages[1]
    assert (learning.name, learning.objective, learning.model) == ("euler", "sft", models["base"])
    assert [(row.prompt, row.text) for row in learning.rows] == [
        (shown(p, errors_of(p)), TEACHER[p.prompt]) for p in (P1, P2, P3)
    ]
    assert not any(row.saw_gold for row in learning.rows)


def test_at_test_time_errors_are_made_anew_and_the_solver_sees_them():
    _, _, models, answers = euler()
    # Three errors a problem for the rows, three more for the test, which are other samples.
    assert [r.sample_index for r in models["liar"].calls] == [0, 1, 2] * 3 + [3, 4, 5] * 3
    assert len(answers) == 6 and {trace.problem.id for trace in answers} == {"p1", "p2", "p3"}
    asked = models["solver"].calls
    assert all("Here are wrong solutions" in request.prompt for request in asked)
    assert {request.sampling.temperature for request in asked} == {0.5}


@pytest.mark.parametrize(
    ("arm", "stages", "learns_errors", "sees_errors"),
    [
        ("euler", 2, True, True),
        ("sampled", 1, True, True),
        ("train-only", 2, True, False),
        ("test-only", 2, False, True),
        ("none", 1, False, False),
    ],
)
def test_each_arm_shows_errors_where_its_name_says(arm, stages, learns_errors, sees_errors):
    yielded, _, models, _ = euler(arm=arm)
    assert len(yielded) == stages
    assert all(("wrong solutions" in row.prompt) == learns_errors for row in yielded[-1].rows)
    assert all(("wrong solutions" in p) == sees_errors for p in prompts(models["solver"]))
    if arm == "sampled":
        assert yielded[-1].rows[0].prompt == shown(P1, [*PUPIL[P1.prompt], WRONG[P1.prompt]])
    if arm == "none":
        assert not models["base"].calls and not models["liar"].calls


def test_shuffled_errors_are_another_problems_in_training_and_a_training_problems_at_test_time():
    yielded, _, models, _ = euler(arm="shuffled")
    other = {"p1": P2, "p2": P3, "p3": P1}
    assert [row.prompt for row in yielded[1].rows] == [
        shown(p, errors_of(other[p.problem.id])) for p in (P1, P2, P3)
    ]
    assert len(models["liar"].calls) == 9  # nothing is asked at test time
    assert all("lie 0 on p" in prompt for prompt in prompts(models["solver"]))


def test_the_report_says_how_many_errors_are_wrong_and_how_different():
    _, sections, _, _ = euler()
    assert sections[0].shares == (
        Share("the student's own attempts: wrong", 8, 15),
        Share("errors: wrong", 9, 9),
        Share("errors: the answer can't be read", 0, 9),
        Share("problems whose errors have several answers", 3, 3),
        Share("problems with an error, and none among the attempts", 1, 3),
    )


def test_a_problem_whose_errors_all_failed_is_learnt_under_its_own_prompt():
    failing = {**PUPIL, P2.prompt: {"error": "down"}}
    ran = run(
        "euler",
        [P1, P2],
        {"teacher": ScriptedModel(TEACHER), "student": student(failing)},
        arm="sampled",
    )
    assert [row.prompt == row.problem.question for row in ran.rows] == [False, False]
    assert ran.rows[1].prompt == P2.prompt and "wrong solutions" in ran.rows[0].prompt


def test_a_student_that_never_errs_costs_no_teacher():
    teacher = ScriptedModel(TEACHER)
    with pytest.raises(StageError, match="euler learns from errors, and none of 5 attempts"):
        run("euler", [P3], {"teacher": teacher, "student": student(PUPIL)})
    assert not teacher.calls
