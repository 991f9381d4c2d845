"""Explain-based distillation, exactly: who sees what, which editorials become rows, and who answers at test time."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from scripted_world import prompts, run, student

from potstill.errors import ConfigError, InputError, StageError
from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.metrics import count_by_plan
from potstill.methods import METHODS
from potstill.methods.gold_solutions import show_solution
from potstill.methods.roles.explain.checks import score_copied_shares
from potstill.methods.roles.explain.explain import choose_sections
from potstill.methods.roles.explain.prompts import (
    CARRY_OUT,
    EDITORIAL,
    EXPLAIN,
    SECTIONS,
    STEP_BY_STEP,
)
from potstill.methods.roles.explain.settings import Settings
from potstill.methods.roles.explain.solving import solve_by_plans
from potstill.methods.roles.explain.weights import weigh_problems
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank, learnt_stretches
from potstill.runs.driver import drive
from potstill.traces import Session, Share, using
from potstill.traces.prompts import fill_template


def number(name, question, answer, solution, **metadata):
    """A blank trace with a solution, whose learner sees more than the bare question."""
    problem = Problem(name, question, answer, "number", solution, metadata=metadata)
    return blank(problem, f"Solve: {question}")


P1 = number("p1", "What is 2 + 2?", "4", "Two and two more are four. So \\boxed{4}.", rating=800)
P2 = number("p2", "What is 3 + 4?", "7", "Three, four, seven: \\boxed{7}.", rating=1200)


def editorial(**changes):
    """An editorial with every section, but for the changes."""
    sections = {**{name: f"About {name}." for name in SECTIONS}, **changes}
    return "\n".join(f"<{name}>{text}</{name}>" for name, text in sections.items())


ADD = editorial(key_insight="It is a sum.", step_by_step="1. Add the numbers.")


def explain_prompt(problem):
    values = {"prompt": problem.prompt, "text": problem.problem.solution}
    return fill_template(EXPLAIN, values)


def explaining(first, second=ADD):
    """An Explainer that writes these editorials of the two problems."""
    return ScriptedModel({explain_prompt(P1): [first], explain_prompt(P2): [second]})


def explained(teacher, **values):
    return run("explain", [P1, P2], {"teacher": teacher, "student": student(["never"])}, **values)


def test_the_explainer_sees_problem_and_solution_and_the_reasoner_learns_sections_from_the_problem():
    teacher, settings = explaining(ADD), Settings(sections=("key_insight", "step_by_step"))
    ran = explained(teacher, settings=settings)
    target = "Key insight:\nIt is a sum.\n\nStep by step:\n1. Add the numbers."
    assert [(row.prompt, row.text) for row in ran.rows] == [
        ("Solve: What is 2 + 2?", target),
        ("Solve: What is 3 + 4?", target),
    ]
    assert prompts(teacher) == [explain_prompt(P1), explain_prompt(P2)]
    assert {call.sampling for call in teacher.calls} == {Sampling(0.6, max_new_tokens=8192)}
    assert ran.stages[0].objective == "sft" and ran.stages[0].constants == {}


def test_a_row_descends_from_its_editorial_and_the_solution_and_is_learnt_whole():
    ran = explained(explaining(ADD))
    traces = {trace.id: trace for trace in ran.book.traces.values()}
    for row, problem in zip(ran.rows, (P1, P2), strict=True):
        [parent] = row.parents
        [grandparent] = traces[parent].parents
        assert traces[parent].text == ADD and traces[grandparent].text == problem.problem.solution
        assert traces[grandparent].parents == (problem.id,)
        assert row.saw_gold and row.finish_reason == "stop"
        assert learnt_stretches(row) == [(0, len(row.text))]


@pytest.mark.parametrize(
    ("text", "test", "reason"),
    [
        ("It is a sum.", "has_every_section", "a section is missing or empty"),
        (editorial(pitfalls=""), "has_every_section", "a section is missing or empty"),
        (editorial(step_by_step="```\n2 + 2\n```"), "has_no_code_block", "has a block of code"),
        (editorial(step_by_step="Line 2 sets it to 4."), "is_no_walkthrough", "'Line 2 sets'"),
        (editorial(pitfalls="As the given solution says."), "is_no_walkthrough", "given solution"),
        (editorial(key_insight=P1.problem.solution), "copies_little", "repeats more than 50%"),
        ({"text": ADD, "finish": "length"}, "is_finished", "not finished"),
        ({"error": "down"}, "is_finished", "error: down"),
    ],
)
def test_an_editorial_that_fails_a_check_is_in_the_ledger_with_the_reason(text, test, reason):
    ran = explained(explaining(text))
    assert [row.problem.id for row in ran.rows] == ["p2"]
    [drop] = [drop for drop in ran.book.drops if drop.test.startswith(test)]
    assert drop.trace.problem.id == "p1" and reason in drop.reason


def test_how_much_of_the_solution_an_editorial_copies_is_a_share_of_its_runs_of_four():
    made = dataclasses.replace(P1, text="Two and two more are five.", parents=("s",))
    [share] = score_copied_shares({"s": "Two and two more are four."}, [made])
    assert share == 2 / 4  # of its four runs, those without "four"
    assert score_copied_shares({"s": "Short."}, [made]) == [0.0]


def test_only_problems_with_a_solution_that_passes_are_explained():
    unsolved = number("p3", "What is 1 + 1?", "2", None, rating=900)
    failing = number("p4", "What is 1 + 2?", "3", "It is \\boxed{4}.", rating=900)
    teacher = explaining(ADD)
    roles = {"teacher": teacher, "student": student(["never"])}
    ran = run("explain", [P1, unsolved, failing], roles)
    assert [row.problem.id for row in ran.rows] == ["p1"] and len(teacher.calls) == 1
    assert ran.dropped("has_solution") == [("", "the problem has no solution")]
    assert ran.dropped("right") == [("It is \\boxed{4}.", "wrong: 4 is not 3 (boxed)")]
    with pytest.raises(StageError, match="has_solution: 1"):
        run("explain", [unsolved], roles)


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("sampled-right", ["It is \\boxed{4}."]),
        ("sampled-wrong", ["It is \\boxed{8}."]),
        ("sampled", ["It is \\boxed{4}.", "It is \\boxed{8}."]),
    ],
)
def test_the_oracle_solution_may_be_sampled_and_be_wrong(source, texts):
    solver = ScriptedModel({P1.prompt: ["It is \\boxed{4}."], P2.prompt: ["It is \\boxed{8}."]})
    teacher = ScriptedModel([ADD])
    roles = {"teacher": teacher, "student": student(["never"]), "solver": solver}
    ran = run("explain", [P1, P2], roles, settings=Settings(oracle=source))
    assert [prompt.rpartition("Solution:\n")[2] for prompt in prompts(teacher)] == texts
    assert len(ran.rows) == len(texts) and not any(row.saw_gold for row in ran.rows)


def test_faithfulness_is_a_score_and_drops_nothing():
    coder = ScriptedModel(["It is \\boxed{4}.", "It is \\boxed{5}."])
    roles = {"teacher": explaining(ADD), "student": student(["never"]), "coder": coder}
    ran = run("explain", [P1, P2], roles, settings=Settings(faithful_tries=2))
    assert len(ran.rows) == 2 and len(coder.calls) == 4
    assert {row.problem.id: row.scores["faithful"] for row in ran.rows} == {"p1": 0.5, "p2": 0}
    assert {row.scores["copied"] for row in ran.rows} == {0.0}


def test_what_the_explainer_thought_is_neither_checked_nor_learnt():
    thought = (
        "<think>\n```\nprint(4)\n```\nThe given program: Two and two more are four. So</think>"
    )
    ran = explained(explaining(thought + ADD))
    assert len(ran.rows) == 2 and not any("print" in row.text for row in ran.rows)
    assert {row.scores["copied"] for row in ran.rows} == {0.0}


def test_the_explainer_is_shown_a_sampled_solution_without_its_thought():
    solver = ScriptedModel(
        {P1.prompt: "<think>Hm.</think>It is \\boxed{4}.", P2.prompt: "<think>\\boxed{7}"}
    )
    teacher = ScriptedModel([ADD])
    roles = {"teacher": teacher, "student": student(["never"]), "solver": solver}
    ran = run("explain", [P1, P2], roles, settings=Settings(oracle="sampled"))
    assert prompts(teacher) == [
        fill_template(EXPLAIN, {"prompt": P1.prompt, "text": "It is \\boxed{4}."})
    ]
    assert [reason for _, reason in ran.dropped("solution_alone")] == [
        "solution_alone returned nothing"
    ]


# Row weights.


def weights(*problems, **settings):
    return weigh_problems(list(problems), Settings(**settings))


def test_easier_and_more_recent_problems_weigh_more_and_the_mean_is_one():
    problems = [
        number("a", "?", "1", "", rating=800, date="2023-05-01"),
        number("b", "?", "1", "", rating=1600, date="2024-05-01"),
        number("c", "?", "1", "", rating=1600, date="2022-05-01"),
    ]
    assert weights(*problems) == pytest.approx({"a": 1.25, "b": 1.125, "c": 0.625})
    assert weights(*problems, easy_weight=0) == {"a": 1, "b": 1.25, "c": 0.75}
    assert set(weights(*problems, easy_weight=0, recent_weight=0).values()) == {1}


def test_what_no_problem_says_does_not_weigh_and_what_some_do_not_say_is_refused():
    rated, unrated = number("a", "?", "1", "", rating=800), number("b", "?", "1", "")
    notes = []
    with using(Session(on_note=notes.append)):
        assert weights(unrated, number("c", "?", "1", "")) == {"b": 1, "c": 1}
        weights(unrated, easy_weight=0, recent_weight=0)  # what is not asked for is not missed
    assert notes == [
        "no problem has a rating or level in its metadata: difficulty does not weigh",
        "no problem has a date in its metadata: recency does not weigh",
    ]
    with pytest.raises(InputError, match="explain's weights need the rating of each problem"):
        weights(rated, unrated)


def test_the_rows_of_a_run_are_weighed():
    assert [row.weight for row in explained(explaining(ADD)).rows] == [1.25, 0.75]


def test_the_report_says_by_what_rows_are_weighed():
    sections = []
    with using(Session(sections=sections.append)):
        weights(P1, P2)
    [section] = sections
    assert section.title == "Row weights"
    assert section.shares == (
        Share("difficulty: by rating", 2, 2),
        Share("recency: no date", 0, 2),
    )


@pytest.mark.parametrize(
    "values",
    [{"sections": ("plot",)}, {"sections": ()}, {"easy_weight": 2.0}, {"programs": 0}],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        Settings(**values)


# At test time.


def coded(plan):
    """The Coder's prompt for P1 and a plan."""
    return fill_template(CARRY_OUT, {"prompt": P1.prompt, "text": plan})


def test_each_plan_is_carried_out_so_many_times_and_is_the_parent_of_its_answers():
    reasoner = student({P1.prompt: ["Add.", "<think>Hm.</think>Guess."]})
    coder = ScriptedModel(
        {coded("Add."): ["\\boxed{4}", "\\boxed{5}"], coded("Guess."): ["\\boxed{1}"]}
    )
    settings = Settings(programs=2)
    answers = solve_by_plans(reasoner, coder, settings, [P1], n=4, temperature=0.3)
    assert [answer.text for answer in answers] == ["\\boxed{4}", "\\boxed{5}"] + ["\\boxed{1}"] * 2
    assert len({answer.parents for answer in answers}) == 2
    assert {call.sampling for call in reasoner.calls} == {Sampling(0.3)}
    assert {call.sampling for call in coder.calls} == {Sampling(0.8, 0.95, max_new_tokens=8192)}
    solver = partial(solve_by_plans, reasoner, coder, settings)
    measured = evaluate(solver, [P1], name="explain", n=4, sampling=Sampling(), seed=0)
    assert count_by_plan(measured.rows[0]) == [(2, 1), (2, 0)]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_last_plan_has_what_is_left_of_n(n):
    reasoner, coder = student(["Add."]), ScriptedModel(["\\boxed{4}"])
    answers = solve_by_plans(reasoner, coder, Settings(programs=2), [P1, P2], n=n)
    assert sorted(answer.problem.id for answer in answers) == ["p1"] * n + ["p2"] * n
    assert len(reasoner.calls) == 2 * ((n + 1) // 2) and len(coder.calls) == 2 * n


def test_a_plan_that_failed_gives_as_many_failed_answers():
    reasoner = student({P1.prompt: [{"error": "down"}, "Add."]})
    answers = solve_by_plans(reasoner, ScriptedModel(["4"]), Settings(programs=3), [P1], n=6)
    assert [answer.error for answer in answers].count("down") == 3 and len(answers) == 6


def test_a_plan_that_broke_off_in_its_thought_is_none_and_the_coder_is_not_asked():
    reasoner, coder = student({P1.prompt: ["<think>First I", "Add."]}), ScriptedModel(["4"])
    answers = solve_by_plans(reasoner, coder, Settings(programs=2), [P1], n=4)
    assert [bool(answer.error) for answer in answers].count(True) == 2
    assert {a.error for a in answers if a.error} == {
        "empty: the plan says nothing behind its thought"
    }
    assert prompts(coder) == [coded("Add.")] * 2


def test_the_coder_is_the_untrained_student_where_nobody_else_is():
    first, trained = student(["\\boxed{4}"], name="first"), student(["A plan."], name="trained")
    roles = {"teacher": ScriptedModel([ADD]), "student": first}
    solver = drive(METHODS["explain"], [P1, P2], roles, {}, lambda stage: trained)
    [answer] = solver([P1], n=1)
    assert answer.author.model == first.id and prompts(first) == [coded("A plan.")]


# Controls.


def run_arm(arm, **roles):
    chosen = {"teacher": ScriptedModel(["\\boxed{4}"]), "student": student(["never"]), **roles}
    return run("explain", [P1, P2], chosen, arm=arm)


def test_solve_based_learns_the_teachers_right_chains():
    ran = run_arm("solve-based")
    assert [(row.prompt, row.text) for row in ran.rows] == [(P1.prompt, "\\boxed{4}")]
    assert ran.dropped("right") == [("\\boxed{4}", "wrong: 4 is not 7 (boxed)")]


def test_direct_learns_the_oracle_solutions_whole():
    ran = run_arm("direct")
    assert [row.text for row in ran.rows] == [P1.problem.solution, P2.problem.solution]
    assert all(learnt_stretches(row) == [(0, len(row.text))] for row in ran.rows)


@pytest.mark.parametrize("arm", ["zero-shot", "zero-shot-cot", "zero-shot-editorial"])
def test_the_zero_shot_arms_train_nothing(arm):
    assert not run_arm(arm).stages


def test_the_untrained_student_is_asked_for_an_editorial():
    reasoner, coder = student(["Add."]), ScriptedModel(["\\boxed{4}"])
    roles = {"teacher": ScriptedModel(["never"]), "student": reasoner, "coder": coder}
    solver = drive(METHODS["explain"], [P1], roles, {"arm": "zero-shot-editorial"}, None)
    solver([P1], n=1)
    assert prompts(reasoner) == [fill_template(EDITORIAL, {"prompt": P1.prompt})]
    assert prompts(coder) == [coded("Add.")]


def test_the_coder_alone_is_asked_to_think_step_by_step():
    coder = ScriptedModel(["\\boxed{4}"])
    roles = {"teacher": ScriptedModel(["never"]), "student": student(["never"]), "coder": coder}
    solver = drive(METHODS["explain"], [P1], roles, {"arm": "zero-shot-cot"}, None)
    [answer] = solver([P1], n=1)
    assert prompts(coder) == [fill_template(STEP_BY_STEP, {"prompt": P1.prompt})]
    assert answer.prompt == P1.prompt


def test_a_program_problem_shows_its_solution_as_a_block():
    problem = Problem("c", "Print 4.", None, "code", "print(4)", tests=("assert True",))
    assert show_solution(blank(problem))["text"] == "```python\nprint(4)\n```"


def test_a_text_without_its_sections_is_no_row():
    assert choose_sections(("key_insight",), dataclasses.replace(P1, text="Nothing.")) is None


def test_an_editorial_with_fewer_than_half_of_the_solutions_steps_is_no_row():
    solution = " ".join(f"Add finger {number}." for number in range(30)) + " So \\boxed{4}."
    longer = number("p1", "What is 2 + 2?", "4", solution)
    roles = {"teacher": ScriptedModel([ADD]), "student": student(["never"])}
    with pytest.raises(StageError, match="too few steps"):
        run("explain", [longer], roles)
