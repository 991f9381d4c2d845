"""SuperCorrect, exactly: who is shown what, what is inspected, what each side of a pair holds, what is left out."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from scripted_world import ORACLE, prompts, run, student

from potstill.errors import ConfigError
from potstill.methods.errors.supercorrect.prompts import (
    CORRECT_ALONE,
    add_request,
    correction_prompt,
    student_request,
)
from potstill.methods.errors.supercorrect.settings import ARMS, Settings
from potstill.methods.errors.supercorrect.supercorrect import solve_and_correct, solve_in_steps
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Message, Problem, Trace, blank, learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import ReferenceGate, ReportSection, Session, using
from potstill.traces.prompts import fill_template

CAST = Cast(
    models={"teacher": ORACLE, "inspector": ORACLE},
    values={"n": 2, "settings": Settings(rounds=2, errors_per_problem=1, self_corrections=2)},
    poses=True,
)

ONE = blank(
    Problem("p1", "Double 2 + 3.", "10", "number", "2 + 3 = 5. 5 * 2 = 10. \\boxed{10}"),
    "Solve: Double 2 + 3.",
)
TWO = blank(
    Problem("p2", "Halve 9 - 1.", "4", "number", "9 - 1 = 8. 8 / 2 = 4. \\boxed{4}"),
    "Solve: Halve 9 - 1.",
)
REQUEST = student_request(Settings())
FAST = Settings(rounds=1, self_corrections=2)


def steps(*texts: str, answer: str) -> str:
    """A solution in the template."""
    blocks = [f"<Step{n}>\n{text}\n</Step{n}>\n" for n, text in enumerate(texts, 1)]
    return "".join(blocks) + f"<Answer>\\boxed{{{answer}}}</Answer>"


def fault(text: str, cause: str, correction: str) -> str:
    """A step with its cause and correction."""
    return f"{text}\n<Cause>{cause}</Cause>\n<Correction>{correction}</Correction>"


TEMPLATE = {
    "p1": steps("2 + 3 = 5", "<Key>twice is plus itself</Key>5 * 2 = 10", answer="10"),
    "p2": steps("9 - 1 = 8", "8 / 2 = 4", answer="4"),
}
ATTEMPT = {
    "p1": steps("2 + 3 = 5", "5 * 2 = 12", answer="12"),
    "p2": steps("9 - 1 = 7", "7 / 2 = 3", answer="3"),
}
CORRECTION = {
    "p1": steps("2 + 3 = 5", fault("5 * 2 = 12", "tens slipped", "5 * 2 = 10"), answer="10"),
    "p2": steps(fault("9 - 1 = 7", "took two", "9 - 1 = 8"), "8 / 2 = 4", answer="4"),
}
OWN = {
    "p1": [
        steps("2 + 3 = 5", fault("5 * 2 = 12", "too many", "5 * 2 = 11"), answer="11"),
        CORRECTION["p1"],
    ],
    "p2": [
        steps("9 - 1 = 7", fault("7 / 2 = 3", "cut off", "7 / 2 = 3.5"), answer="3.5"),
        steps(fault("9 - 1 = 7", "miscounted", "9 - 1 = 6"), "6 / 2 = 3", answer="3"),
    ],
}
# Cause and correction behind the attempt's steps before the first wrong one.
SHOWN = {"p1": "<Step1>\n2 + 3 = 5\n</Step1>\n<Step2>\n", "p2": "<Step1>\n"}


def of_problem(begin: str, answers: dict[str, object]) -> list[Rule]:
    """Rules that answer by the question, in prompts that begin so."""
    rules = []
    for problem in (ONE, TWO):
        answer = answers[problem.problem.id]
        question = problem.question.replace("+", "\\+").replace(".", "\\.")
        several = tuple(answer) if isinstance(answer, list) else (answer,)
        rules.append(Rule(several, pattern=f"(?s){begin}.*{question}"))
    return rules


def teacher(templates=TEMPLATE, corrections=CORRECTION) -> ScriptedModel:
    return ScriptedModel(
        [*of_problem("Rewrite", templates), *of_problem("A student's solution", corrections)],
        name="teacher",
    )


def inspector(*replies: str) -> ScriptedModel:
    return ScriptedModel(list(replies or ["Yes."]), name="inspector")


def pupil(attempts=ATTEMPT, own=OWN) -> ScriptedModel:
    raw = {"p1": "It is \\boxed{12}.", "p2": "It is \\boxed{3}."}
    return student(
        [
            *of_problem("A student's solution", own),
            *of_problem("", {key: [attempts[key]] for key in attempts}),
            *of_problem("", raw),
        ]
    )


def correct(problems=(ONE, TWO), *, settings=FAST, teach=None, check=None, learn=None, **values):
    """A run of the method with these models in its roles."""
    roles = {
        "teacher": teach or teacher(),
        "student": learn or pupil(),
        "inspector": check or inspector(),
    }
    values = {"n": 1, **values}
    return run("supercorrect", list(problems), roles, settings=settings, **values)


def by_problem(rows: list[Trace]) -> dict[str, Trace]:
    return {row.problem.id: row for row in rows}


def sides(ran) -> dict[str, tuple[str, str]]:
    """By problem, what is learnt of the chosen and of the rejected side."""
    pairs = {}
    for row in ran.rows:
        pairs[row.problem.id] = (row.new, row.rejected.new if row.rejected else "")
    return pairs


def reasons(ran) -> dict[str, list[str]]:
    """By test, why it dropped what it dropped."""
    found: dict[str, list[str]] = {}
    for drop in ran.book.drops:
        found.setdefault(drop.test, []).append(drop.reason)
    return found


# The two stages.


def test_the_first_stage_learns_templates_under_the_students_prompt():
    ran = correct()
    [hsft, _] = ran.stages
    assert (hsft.name, hsft.objective) == ("hsft", "sft")
    row = by_problem(hsft.rows)["p1"]
    assert row.prompt == f"{ONE.prompt}\n\n{REQUEST}" and row.text == TEMPLATE["p1"]
    assert row.saw_gold and "\\boxed{10}" not in row.prompt
    assert row.scores["inspections"] == 1 and learns_end(row)
    assert hsft.constants == {"num_train_epochs": 4, "learning_rate": 2e-5, "warmup_steps": 0.02}


def test_the_second_stage_prefers_the_teachers_correction_of_the_first_wrong_step():
    ran = correct()
    stage = ran.stages[1]
    assert (stage.name, stage.objective, stage.constants["beta"]) == ("cross-dpo", "step_dpo", 0.5)
    row = by_problem(ran.rows)["p1"]
    chosen = "<Cause>tens slipped</Cause>\n<Correction>5 * 2 = 10</Correction>\n"
    rejected = "<Cause>too many</Cause>\n<Correction>5 * 2 = 11</Correction>\n"
    assert (row.text, row.rejected.text) == (SHOWN["p1"] + chosen, SHOWN["p1"] + rejected)
    assert row.prompt == row.rejected.prompt == f"{ONE.prompt}\n\n{REQUEST}"
    for side, new in ((row, chosen), (row.rejected, rejected)):
        assert [side.text[a:b] for a, b in learnt_stretches(side)] == [new]
        assert not learns_end(side) and side.scores["k"] == 2
    assert sides(ran)["p2"] == (
        "<Cause>took two</Cause>\n<Correction>9 - 1 = 8</Correction>\n",
        "<Cause>miscounted</Cause>\n<Correction>9 - 1 = 6</Correction>\n",
    )


def test_both_sides_know_who_wrote_them_and_which_solution_they_correct():
    teach, learn = teacher(), pupil()
    ran = correct(teach=teach, learn=learn)
    row = by_problem(ran.rows)["p1"]
    assert (row.author.model, row.rejected.author.model) == (teach.id, learn.id)
    assert row.saw_gold and not row.rejected.saw_gold
    attempt = next(t for t in ran.book.traces.values() if t.text == ATTEMPT["p1"])
    assert row.line == row.rejected.line == attempt.id and attempt.id in row.parents


def test_who_is_shown_the_reference_and_how_often_who_is_asked():
    teach, learn, check = teacher(), pupil(), inspector()
    correct(teach=teach, learn=learn, check=check)
    assert all("Reference solution:\n" in prompt for prompt in prompts(teach) + prompts(check))
    assert not any("eference solution" in prompt for prompt in prompts(learn))
    # Templates and corrections; their inspections; solutions and two corrections of each.
    assert (len(teach.calls), len(check.calls), len(learn.calls)) == (4, 4, 6)
    own = fill_template(
        correction_prompt(Settings(), grounded=False),
        {"question": ONE.question, "text": ATTEMPT["p1"]},
    )
    assert own in prompts(learn) and CORRECT_ALONE[:30] in own


# The inspector.


def test_what_is_faulted_is_written_again_with_its_faults_and_inspected_again():
    first = replace_text(TEMPLATE["p1"], "= 5", "= 6")
    rules = of_problem("Rewrite", {"p1": first, "p2": TEMPLATE["p2"]})
    teach = ScriptedModel([Rule((TEMPLATE["p1"],), pattern="Faults:"), *rules])
    check = ScriptedModel(
        [Rule(("No. Step 1 is wrong.",), pattern="(?s)to inspect.*2 \\+ 3 = 6"), Rule(("Yes.",))]
    )
    ran = correct(teach=teach, check=check, settings=replace(FAST, rounds=3), arm="hsft")
    row = by_problem(ran.rows)["p1"]
    assert row.text == TEMPLATE["p1"] and row.scores["inspections"] == 2
    [revision] = [prompt for prompt in prompts(teach) if "Faults:" in prompt]
    assert revision.startswith("Rewrite the reference solution")
    assert f"Your last version:\n{first}" in revision
    assert revision.endswith("Faults: No. Step 1 is wrong.")
    assert by_problem(ran.rows)["p2"].scores["inspections"] == 1


def replace_text(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def test_after_three_rounds_what_is_still_faulted_is_dropped():
    check = inspector("No, I do not like it.")
    teach = teacher()
    with pytest.raises(Exception, match="until inspect_round: 2"):
        correct(teach=teach, check=check, settings=Settings(), arm="hsft")
    # Three inspections and two revisions of each: behind the last inspection nothing is written again.
    assert len(check.calls) == 6 and len(teach.calls) == 6


def test_a_reply_that_says_neither_is_asked_for_again_of_the_same_text():
    check, teach = inspector("Hm.", "Yes."), teacher()
    ran = correct([ONE], teach=teach, check=check, settings=replace(FAST, rounds=2), arm="hsft")
    assert len(check.calls) == 2 and len(teach.calls) == 1
    assert ran.rows[0].scores["inspections"] == 2


def test_the_teacher_inspects_where_nobody_else_does_and_no_round_inspects_nothing():
    rules = [Rule(("Yes.",), pattern="^Inspect"), *of_problem("Rewrite", TEMPLATE)]
    alone = ScriptedModel(rules)
    roles = {"teacher": alone, "student": pupil()}
    run("supercorrect", [ONE], roles, n=1, arm="hsft", settings=FAST)
    assert len(alone.calls) == 2
    check = inspector()
    correct(check=check, settings=replace(FAST, rounds=0))
    assert check.calls == []


# What is left out.


@pytest.mark.parametrize(
    ("correction", "test", "reason"),
    [
        ("No tags at all: \\boxed{10}", "finds_fault", "no steps, or no answer behind them"),
        (TEMPLATE["p1"], "finds_fault", "finds no wrong step"),
        (
            steps("2 + 3 = 5", "<Correction>5 * 2 = 10</Correction>", answer="10"),
            *("finds_fault", "no cause in its first wrong step"),
        ),
        (
            steps("2 + 3 = 5", "<Cause>tens slipped</Cause>", answer="10"),
            *("finds_fault", "no correction in its first wrong step"),
        ),
        (
            steps("2 + 3 = 5", "5 * 2 = 10", fault("", "missing", "done"), answer="10"),
            *("faults_step_of(dict)", "faults a step that the solution does not have"),
        ),
        (
            CORRECTION["p1"].replace("tens", "the reference says 10, tens"),
            *("is_self_contained", "mentions 'reference'"),
        ),
        (CORRECTION["p1"].replace("\\boxed{10}", "\\boxed{12}"), "right", "wrong: 12 is not 10"),
        ({"text": CORRECTION["p1"], "finish": "length"}, "is_finished", "not finished"),
        ({"error": "timed out"}, "is_finished", "error: timed out"),
    ],
)
def test_why_a_correction_is_no_chosen_side(correction, test, reason):
    ran = correct(teach=teacher(corrections={**CORRECTION, "p1": correction}))
    assert list(sides(ran)) == ["p2"]
    assert reason.split(":")[0] in " ".join(reasons(ran)[test])


def test_a_self_correction_that_is_right_or_of_another_step_is_no_rejected_side():
    ran = correct()
    dropped = reasons(ran)
    assert dropped["is_not_right"] == ["right after all"]
    of_other_steps = {"p1": OWN["p2"][1:], "p2": OWN["p2"][:1]}
    with pytest.raises(Exception, match="no free rival in its group for which differ_on_one_step"):
        correct(learn=pupil(own=of_other_steps))


PLAIN = {
    "template": "Step 1: 2 + 3 = 5\nStep 2: 5 * 2 = 10\nAnswer: \\boxed{10}",
    "attempt": "Step 1: 2 + 3 = 5\nStep 2: 5 * 2 = 12\nAnswer: \\boxed{12}",
    "correction": "Step 1: 2 + 3 = 5\nStep 2: 5 * 2 = 12\nCause: tens slipped\nCorrection: 5 * 2 = 10\n"
    "Answer: \\boxed{10}",
}
XML = {"template": TEMPLATE["p1"], "attempt": ATTEMPT["p1"], "correction": CORRECTION["p1"]}


@pytest.mark.parametrize("xml", [True, False])
def test_a_student_can_be_made_to_speak_of_the_chosen_sides_step(xml):
    texts = XML if xml else PLAIN

    def write(request):
        if request.prefix.endswith(("<Cause>", "Cause:")):
            return {"text": "no idea</Cause>" if xml else " no idea\nmore"}
        if request.prefix:
            return {"text": "13</Correction>\\boxed{13}" if xml else " 13\nAnswer: \\boxed{13}"}
        return texts["attempt"]

    learn = student(write)
    both = {"p1": texts["template"], "p2": ""}, {"p1": texts["correction"], "p2": ""}
    settings = replace(FAST, other_step="force", self_corrections=1, xml=xml)
    [row] = correct([ONE], learn=learn, teach=teacher(*both), settings=settings).rows
    new = "<Cause>no idea</Cause>\n<Correction>13</Correction>\n"
    assert row.rejected.new == (new if xml else "Cause: no idea\nCorrection: 13\n")
    assert row.rejected.prompt == row.prompt and row.rejected.author.model == learn.id
    # What it is given: the steps up to the wrong one, as it wrote them itself.
    [cause, _] = [request for request in learn.calls if request.prefix]
    assert cause.prompt.startswith("A student's solution") and "5 * 2 = 12" in cause.prefix
    assert "tens slipped" not in cause.prefix + cause.prompt


def test_an_equal_self_correction_is_no_rejected_side():
    same = CORRECTION["p2"].replace("\\boxed{4}", "\\boxed{5}")
    ran = correct(learn=pupil(own={"p1": OWN["p1"], "p2": [same]}))
    assert list(sides(ran)) == ["p1"]


def test_a_problem_without_a_reference_and_a_template_that_is_wrong_are_dropped():
    bare = blank(replace(TWO.problem, id="p3", question="Nothing.", solution=None))
    wrong = {"p1": TEMPLATE["p1"].replace("\\boxed{10}", "\\boxed{9}"), "p2": TEMPLATE["p2"]}
    ran = correct([ONE, TWO, bare], teach=teacher(templates=wrong), arm="hsft")
    assert list(by_problem(ran.rows)) == ["p2"]
    assert reasons(ran)["has_solution"] == ["the problem has no solution"]


def test_a_student_without_errors_stops_the_method_before_it_is_corrected():
    teach = teacher()
    right = {"p1": TEMPLATE["p1"], "p2": TEMPLATE["p2"]}
    with pytest.raises(Exception, match="supercorrect learns from errors") as caught:
        correct(teach=teach, learn=pupil(attempts=right))
    assert "--set arm=hsft" in caught.value.fix and len(teach.calls) == 2


# The controls.

CAUSE, MENDED = "<Cause>tens slipped</Cause>\n", "<Correction>5 * 2 = 10</Correction>\n"
BAD_CAUSE, BAD_MENDED = "<Cause>too many</Cause>\n", "<Correction>5 * 2 = 11</Correction>\n"


@pytest.mark.parametrize(
    ("arm", "objective", "chosen", "rejected"),
    [
        ("cross", "step_dpo", CAUSE + MENDED, BAD_CAUSE + BAD_MENDED),
        ("correction-only", "step_dpo", MENDED, BAD_MENDED),
        ("cause-only", "step_dpo", CAUSE, BAD_CAUSE),
        ("chosen-only", "sft", CAUSE + MENDED, ""),
        ("step", "step_dpo", "5 * 2 = 10\n", "5 * 2 = 12\n"),
        ("whole", "dpo", TEMPLATE["p1"], ATTEMPT["p1"]),
        ("self", "step_dpo", CAUSE + MENDED, BAD_CAUSE + BAD_MENDED),
        ("ungrounded", "step_dpo", CAUSE + MENDED, BAD_CAUSE + BAD_MENDED),
        ("student-grounded", "step_dpo", CAUSE + MENDED, BAD_CAUSE + BAD_MENDED),
        (
            *("shuffled-cause", "step_dpo"),
            *("<Cause>took two</Cause>\n" + MENDED, BAD_CAUSE + BAD_MENDED),
        ),
    ],
)
def test_what_each_control_prefers(arm, objective, chosen, rejected):
    ran = correct(arm=arm)
    assert ran.stages[1].objective == objective and sides(ran)["p1"] == (chosen, rejected)


@pytest.mark.parametrize("arm", ["self", "student-grounded", "ungrounded"])
def test_who_corrects_with_and_without_the_reference(arm):
    teach, learn, check = teacher(), pupil(), inspector()
    row = by_problem(correct(arm=arm, teach=teach, learn=learn, check=check).rows)["p1"]
    assert row.author.model == (teach.id if arm == "ungrounded" else learn.id)
    shows = [p for p in prompts(learn) + prompts(teach) if p.startswith("A student's solution")]
    assert any("Reference solution:" in p for p in shows) == (arm == "student-grounded")
    corrected = [p for p in prompts(check) if p.startswith("Inspect the correction")]
    assert bool(corrected) == (arm == "student-grounded")


def test_a_flat_chain_has_no_steps_and_the_problems_own_prompt():
    flat = {"p1": "Two, three: 5. So \\boxed{10}", "p2": "Nine less one: 8. So \\boxed{4}"}
    ran = correct(teach=teacher(templates=flat), arm="flat")
    [stage] = ran.stages
    row = by_problem(stage.rows)["p1"]
    assert (row.prompt, row.text) == (ONE.prompt, flat["p1"])


def test_the_arms_are_settings():
    for overrides in ARMS.values():
        dataclasses.replace(Settings(), **overrides)


def test_controls_of_one_size_take_the_same_number_of_pairs():
    assert len(correct(settings=replace(FAST, max_pairs=1)).rows) == 1


def test_parts_of_the_template_are_asked_for_one_by_one():
    full = student_request(Settings())
    assert all(part in full for part in ("<Step1>", "<Key>", "<Generalized>", "\\boxed{}"))
    bare = student_request(Settings(key=False, generalized=False))
    assert "<Key>" not in bare and "<Generalized>" not in bare
    plain = student_request(Settings(xml=False))
    assert "<" not in plain and "'Step 1:'" in plain and "'Key:'" in plain


# Corrections that are taught with the templates, the report, and test time.


def test_corrections_can_be_taught_under_the_prompt_without_the_reference():
    ran = correct(settings=replace(FAST, taught_corrections=True), arm="hsft")
    taught = [row for row in ran.rows if row.operator == "pose"]
    row = by_problem(taught)["p1"]
    assert row.prompt.startswith("A student's solution is wrong.")
    assert "eference" not in row.prompt and row.prompt.endswith(ATTEMPT["p1"])
    assert row.text == CORRECTION["p1"] and len(ran.rows) == 4


def test_the_report_says_how_well_wrong_steps_are_found():
    sections: list[ReportSection] = []
    with using(Session(sections=sections.append)):
        from potstill.methods import METHODS
        from potstill.runs.driver import drive

        roles = {"teacher": teacher(), "student": pupil(), "inspector": inspector()}
        values = {"n": 1, "settings": FAST}
        drive(METHODS["supercorrect"], [ONE, TWO], roles, values, lambda stage: stage.model)
    shares = {share.label: (share.part, share.whole) for share in sections[0].shares}
    assert shares == {
        "chosen side: names a wrong step, its cause and correction": (2, 2),
        "chosen side: and comes to the right answer": (2, 2),
        "student: names a wrong step, its cause and correction": (4, 4),
        "student: and comes to the right answer": (1, 4),
        "student: names the step of the chosen side": (3, 4),
        "pairs: the chosen side is the longer one": (1, 2),
    }
    assert sections[1].title == "Replies that were read"


def test_the_student_is_measured_as_it_was_taught_and_may_correct_itself():
    model = pupil()
    [drawn, second] = solve_in_steps(model, REQUEST, [ONE], n=2, temperature=0.5)
    assert drawn.text == ATTEMPT["p1"] and prompts(model)[0].endswith(REQUEST)
    assert drawn.problem is ONE.problem and second.author.sample_index == 1
    template = correction_prompt(Settings(), grounded=False)
    [final] = solve_and_correct(model, REQUEST, template, [ONE])
    assert final.text == OWN["p1"][0] and final.problem is ONE.problem


def test_the_request_goes_behind_what_the_user_says_last():
    chat = blank(ONE.problem, (Message("system", "Be kind."), Message("user", "Go.")))
    assert add_request("In steps.", chat) == [
        Message("system", "Be kind."),
        ("user", "Go.\n\nIn steps."),
    ]


def test_a_template_without_the_solutions_steps_is_no_row():
    bare = {**TEMPLATE, "p2": steps("So \\boxed{4}.", answer="4")}
    ran = correct(teach=teacher(templates=bare), arm="hsft")
    assert [row.problem.id for row in ran.rows] == ["p1"]
    [(_, reason)] = ran.dropped("reasons_enough")
    assert reason == "too few steps: 0 where the reference has 2"


def test_the_whole_solution_is_shown():
    with pytest.raises(ConfigError, match="supercorrect can't hide the end"):
        correct(gate=ReferenceGate(hide_end="answer"))
