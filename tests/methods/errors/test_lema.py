"""LEMA, exactly: whose mistakes are pooled, what corrector and learner see, what is a row and why the rest is none."""

from __future__ import annotations

import typing

import pytest
from scripted_world import ORACLE, number, prompts, run, student

from potstill.errors import ConfigError, StageError
from potstill.methods.errors.lema.evolution import draw_seed_questions
from potstill.methods.errors.lema.prompts import (
    CHOICE_CORRECTION,
    CORRECTION,
    INJECTION,
    NO_EXPLANATION,
    WHOLE_CHAIN,
)
from potstill.methods.errors.lema.settings import Arm, Settings
from potstill.methods.errors.lema.steps import number_chain
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, blank, learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces.prompts import fill_template

# Its teacher corrects too, which the world's scripted ones can't.
CAST = Cast(
    models={"teacher": ORACLE, "corrector": ORACLE},
    values={"settings": Settings(attempts=2, chains=1)},
    poses=True,
)

P1 = number("p1", "What is 2 + 2 + 3?", "7")
P2 = number("p2", "What is 5 + 6?", "11")
CHAINS = {P1.prompt: "Seven: \\boxed{7}.", P2.prompt: "Eleven: \\boxed{11}."}
WRONG1 = "2 + 2 = 4.\n4 + 3 = 8.\nThe answer is \\boxed{8}."
OTHER1 = "2 + 2 = 5.\n5 + 3 = 8.\nThe answer is \\boxed{8}."
WRONG2 = "5 + 6 = 12. The answer is \\boxed{12}."
FIX1 = (
    "Step 2\nExplanation: 4 and 3 make 7.\nCorrect solution:\n"
    "...\nStep 2: 4 + 3 = 7.\nStep 3: The answer is \\boxed{7}."
)
# The corrector marks its parts in its own way.
OTHER_FIX1 = (
    "**Step 1**: 2 + 2 = 5\n**Explanation:** 2 and 2 make 4.\n**Corrected solution:**\n"
    "Step 1: 2 + 2 = 4.\nStep 2: 4 + 3 = 7.\nStep 3: The answer is \\boxed{7}."
)
FIX2 = "Step 1\nExplanation: 5 and 6 make 11.\nCorrect solution:\nStep 1: 5 + 6 = 11. The answer is \\boxed{11}."
READER = {P1.prompt: [OTHER1, WRONG1], P2.prompt: ["No idea.", {"error": "down"}]}
PUPIL = {P1.prompt: [WRONG1, "It is \\boxed{7}."], P2.prompt: [WRONG2, WRONG2]}
NUMBERED = {
    WRONG1: "Step 1: 2 + 2 = 4.\nStep 2: 4 + 3 = 8.\nStep 3: The answer is \\boxed{8}.",
    OTHER1: "Step 1: 2 + 2 = 5.\nStep 2: 5 + 3 = 8.\nStep 3: The answer is \\boxed{8}.",
    WRONG2: "Step 1: 5 + 6 = 12.\nStep 2: The answer is \\boxed{12}.",
}
FIXES = {WRONG1: FIX1, OTHER1: OTHER_FIX1, WRONG2: FIX2}


def shown(template: str, problem, attempt: str) -> str:
    return fill_template(template, {"question": problem.question, "attempt": attempt})


def correcting(fixes) -> ScriptedModel:
    """A corrector that knows its task by the numbered chain at the end of its prompt."""
    rules = [
        Rule(
            (fix,),
            pattern=NUMBERED[wrong].replace("\\", "\\\\").replace("+", "\\+").replace("{", "\\{"),
        )
        for wrong, fix in fixes.items()
    ]
    return ScriptedModel(rules, name="corrector")


def lema(*, fixes=FIXES, pupil=PUPIL, problems=(P1, P2), **values):
    """Run LEMA with a reader and the student as reasoners; `settings` are overrides of two attempts and one chain."""
    roles = {
        "teacher": ScriptedModel(CHAINS, name="teacher"),
        "student": student(pupil),
        "corrector": correcting(fixes),
    }
    roles["reasoners"] = [ScriptedModel(READER, name="reader"), roles["student"]]
    settings = Settings(**{"attempts": 2, "chains": 1, **values.pop("settings", {})})
    return run("lema", list(problems), roles, settings=settings, **values), roles


def fixes_of(ran) -> dict[str, str]:
    """Text -> the learner's prompt, of the rows that are no chains."""
    return {t.text: t.prompt for t in ran.rows if t.text not in CHAINS.values()}


def test_rows_are_right_chains_and_corrections_of_every_reasoners_mistakes_each_wording_once():
    ran, roles = lema()
    canonical = (
        "Step 1\nExplanation: 2 and 2 make 4.\nCorrect solution:\n"
        "Step 1: 2 + 2 = 4.\nStep 2: 4 + 3 = 7.\nStep 3: The answer is \\boxed{7}."
    )
    assert fixes_of(ran) == {
        FIX1: shown(CORRECTION, P1, NUMBERED[WRONG1]),
        canonical: shown(CORRECTION, P1, NUMBERED[OTHER1]),
        FIX2: shown(CORRECTION, P2, NUMBERED[WRONG2]),
    }
    assert {t.text: t.prompt for t in ran.rows if t.text in CHAINS.values()} == {
        text: prompt for prompt, text in CHAINS.items()
    }
    assert all(learnt_stretches(t) == [(0, len(t.text))] and learns_end(t) for t in ran.rows)
    sources = {t.text: t.scores["source_model"] for t in ran.rows if t.text in fixes_of(ran)}
    reader, pupil = roles["reasoners"]
    assert sources == {FIX1: reader.id, canonical: reader.id, FIX2: pupil.id}
    assert [(s.objective, s.model, s.errored) for s in ran.stages] == [("sft", pupil, 0)]


def test_the_corrector_sees_four_examples_and_no_gold_answer():
    ran, roles = lema()
    asked = prompts(roles["corrector"])
    assert len(asked) == 3 and len(roles["teacher"].calls) == 2
    for prompt in asked:
        assert prompt.count("Incorrect step:") == 5 and prompt.endswith("}\n\nIncorrect step:")
    assert asked[0].endswith(shown(CORRECTION, P1, NUMBERED[OTHER1]))
    assert not any(row.saw_gold for row in ran.rows)
    assert "\\boxed{7}" not in asked[0].rpartition("Question:")[2]


def test_a_correction_that_is_wrong_or_can_not_be_read_is_dropped_with_the_reason():
    unreadable = "Step 5\nExplanation: no.\nCorrect solution:\n...\nStep 5: \\boxed{7}."
    ran, _ = lema(fixes={**FIXES, OTHER1: unreadable, WRONG2: FIX2.replace("11", "13")})
    assert list(fixes_of(ran)) == [FIX1]
    dropped = {d.trace.text: d.reason for d in ran.book.drops}
    assert dropped[unreadable] == "names step 5 of 3"
    assert dropped["5 + 6 = 13. The answer is \\boxed{13}."].startswith("wrong")


def test_an_answer_that_can_not_be_read_is_not_the_zero_that_the_gold_answer_is():
    zero = number("z", "What is 2 - 2?", "0")
    fix = (
        "Step 1\nExplanation: 2 less 2 leaves nothing.\nCorrect solution:\nStep 1: nothing at all."
    )
    roles = {
        "teacher": ScriptedModel({zero.prompt: "\\boxed{0}"}),
        "student": student([WRONG2]),
        "corrector": ScriptedModel([fix]),
    }
    with pytest.raises(StageError, match=r"\(1 can be read, 1 unparsed\)"):
        run("lema", [zero], roles, settings=Settings(attempts=1, chains=1))


def test_every_row_keeps_where_its_mistake_came_from_and_how_deep_it_is():
    ran, _ = lema()
    row = next(t for t in ran.rows if t.text == FIX1)
    names = ("incorrect_step", "step_depth", "solve_rate", "first_error")
    assert [row.scores[name] for name in names] == [2.0, 2 / 3, 1 / 4, None]


def test_one_row_a_correction_in_every_arm_and_none_of_them_without():
    for arm in typing.get_args(Arm):
        ran, roles = lema(arm=arm)
        rows = [t for t in ran.rows if t.operator != "sample"]
        assert len(ran.rows) - len(rows) == 2
        assert len(rows) == {"cot": 0, "injection": 6}.get(arm, 3), arm
        assert len(roles["corrector"].calls) == (0 if arm == "cot" else 3)
        assert all(learns_end(t) and learnt_stretches(t) == [(0, len(t.text))] for t in rows), arm


SPLICED = "2 + 2 = 4.\n4 + 3 = 7.\nThe answer is \\boxed{7}."


@pytest.mark.parametrize(
    ("arm", "prompt", "text"),
    [
        ("spliced", P1.prompt, SPLICED),
        ("whole-chain", shown(WHOLE_CHAIN, P1, NUMBERED[WRONG1]), SPLICED),
        ("caution", P1.prompt, f"Be careful: 4 and 3 make 7.\n{SPLICED}"),
        (
            "no-explanation",
            shown(NO_EXPLANATION, P1, NUMBERED[WRONG1]),
            FIX1.replace("Explanation: 4 and 3 make 7.\n", ""),
        ),
        (
            "shuffled-explanations",
            shown(CORRECTION, P1, NUMBERED[WRONG1]),
            FIX1.replace("4 and 3 make 7", "5 and 6 make 11"),
        ),
        ("shuffled-attempts", shown(CORRECTION, P1, NUMBERED[WRONG2]), FIX1),
        (
            "injection",
            fill_template(
                INJECTION,
                {
                    "question": P1.question,
                    "chain": number_chain(SPLICED),
                    "part": "Step 2",
                },
            ),
            "...\nStep 2: 4 + 3 = 8.\nStep 3: The answer is \\boxed{8}.",
        ),
    ],
)
def test_what_the_learner_sees_and_learns_in_an_arm(arm, prompt, text):
    ran, _ = lema(arm=arm, fixes={**FIXES, OTHER1: "Hm."})
    assert (text, prompt) in [(t.text, t.prompt) for t in ran.rows]


def test_a_spliced_chain_says_who_wrote_which_part():
    ran, roles = lema(arm="spliced")
    [row] = [t for t in ran.rows if t.text == SPLICED and t.spans]
    [written] = [s for s in row.spans if s.kind == "written"]
    assert row.text[written.start : written.stop] == "2 + 2 = 4.\n"
    assert (written.author, row.author.model) == (roles["reasoners"][0].id, roles["corrector"].id)
    mistake = next(t for t in ran.book.traces.values() if t.text == WRONG1)
    assert mistake.id in row.parents and row.line == mistake.id


def test_random_text_is_as_long_as_the_explanation_and_made_of_explanations_words():
    ran, _ = lema(arm="random-text")
    words = {"2", "and", "make", "4.", "4", "3", "7.", "5", "6", "11."}
    for row in ran.rows:
        if row.text not in CHAINS.values():
            random_words = row.text.splitlines()[1].removeprefix("Explanation: ").split()
            assert len(random_words) == 5 and set(random_words) <= words
    assert [t.id for t in ran.rows] == [t.id for t in lema(arm="random-text")[0].rows]


def test_the_size_of_the_data_can_be_that_of_the_chains():
    ran, _ = lema(match="rows", settings={"chains": 1})
    assert len(ran.rows) == 3 and len(fixes_of(ran)) == 3  # there is no room for a chain
    [(_, reason), _] = ran.dropped("fits_size")
    assert reason == "the data has its size in rows without it"


def test_a_choice_problem_has_mistakes_and_a_corrected_answer():
    problem = blank(
        Problem("c", "Where is a plate kept?", "B", "choice", choices=("table", "cupboard"))
    )
    wrong = "One eats at a table. The answer is \\boxed{A}."
    fix = "That is where it is used.\nCorrected answer: (A) is for use. (B) is for keeping. The answer is \\boxed{B}."
    roles = {
        "teacher": ScriptedModel({problem.prompt: "It is \\boxed{B}."}, name="teacher"),
        "student": student({problem.prompt: wrong}),
        "corrector": ScriptedModel([fix]),
    }
    for arm, text in {
        "full": fix,
        "no-solution": "That is where it is used.",
        "whole-chain": fix.partition("Corrected answer: ")[2],
        "injection": wrong,
    }.items():
        ran = run("lema", [problem], roles, arm=arm, settings=Settings(attempts=1, chains=1))
        row = next(t for t in ran.rows if t.text == text and t.operator != "sample")
        assert row.scores["incorrect_step"] is None
        if arm == "full":
            values = {
                "question": problem.question,
                "choices": "A. table\nB. cupboard",
                "attempt": wrong,
            }
            assert row.prompt == fill_template(CHOICE_CORRECTION, values)
    assert prompts(roles["corrector"])[0].count("Mistakes:") == 5


def test_without_mistakes_or_without_corrections_it_stops_and_says_so():
    right = {P1.prompt: "\\boxed{7}", P2.prompt: "\\boxed{11}"}
    with pytest.raises(
        StageError, match="lema learns from errors, and none of 4 attempts is wrong"
    ):
        run(
            "lema",
            [P1, P2],
            {"teacher": ScriptedModel(CHAINS), "student": student(right)},
            settings=Settings(attempts=2),
        )
    with pytest.raises(StageError, match=r"none of 3 corrections can be learnt \(0 can be read\)"):
        lema(fixes=dict.fromkeys(FIXES, "Hm."))
    with pytest.raises(ConfigError, match="arm=cot has no corrections"):
        lema(arm="cot", rounds=1)


EVOLVED = "What is 8 + 9?"
EVOLVED_WRONG = "8 + 9 = 16. The answer is \\boxed{16}."
EVOLVED_FIX = "Step 1\nExplanation: 8 and 9 make 17.\nCorrect solution:\nStep 1: 8 + 9 = 17. So it is \\boxed{17}."


def evolving(*, votes=("\\boxed{17}", "\\boxed{16}", "\\boxed{17}."), written=EVOLVED, **values):
    """LEMA on P1 alone, which one of two reasoners gets wrong; everything that is written evolves into EVOLVED."""
    posed = f"Solve: {EVOLVED}"
    roles = {
        "teacher": ScriptedModel({P1.prompt: CHAINS[P1.prompt], posed: list(votes)}),
        "student": student({P1.prompt: WRONG1, posed: EVOLVED_WRONG}),
        "reasoners": [ScriptedModel({P1.prompt: WRONG1, posed: EVOLVED_WRONG}, name="reader")],
        "corrector": ScriptedModel(
            [
                Rule((written,), pattern="New question:"),
                Rule((EVOLVED_FIX,), pattern="Step 1: 8 \\+ 9 = 16"),
                Rule((FIX1,), pattern=""),
            ]
        ),
    }
    settings = Settings(**{"attempts": 1, "chains": 1, **values.pop("settings", {})})
    return run("lema", [P1], roles, settings=settings, **values), roles


def test_an_evolved_question_has_a_voted_gold_answer_and_its_mistakes_are_corrected_too():
    ran, roles = evolving(rounds=1)
    [stage] = ran.stages
    row = next(t for t in stage.rows if t.text == EVOLVED_FIX)
    assert (row.problem.question, row.problem.answer) == (EVOLVED, "17")
    assert row.problem.metadata["derived_from"] == "p1" and row.problem.metadata["gold_votes"] == 2
    assert not row.saw_gold and row.line != next(t for t in stage.rows if t.text == FIX1).line
    assert len(roles["teacher"].calls) == 1 + 3 and len(roles["corrector"].calls) == 3
    assert "p1" not in {t.problem.id for t in stage.rows if t.text == EVOLVED_FIX}


def test_in_the_second_round_the_trained_student_makes_the_mistakes_and_the_base_is_trained_again():
    ran, roles = evolving(rounds=2)
    assert [(s.name, s.model) for s in ran.stages] == [
        ("round-1", roles["student"]),
        ("", roles["student"]),
    ]
    assert len(roles["reasoners"][0].calls) == 2 and len(roles["student"].calls) == 1


def test_evolution_without_a_question_that_has_a_gold_answer_is_told():
    with pytest.raises(StageError, match=r"none of 1 evolved .*\(1 are new questions") as caught:
        evolving(rounds=1, votes=("\\boxed{17}", "\\boxed{16}", "\\boxed{18}"))
    assert "another corrector" in caught.value.fix
    with pytest.raises(StageError, match=r"\(0 are new questions"):
        evolving(rounds=1, written=P1.question)  # it repeats the seed question


def test_seed_questions_are_drawn_as_often_as_they_were_corrected():
    ran, _ = lema()
    corrections = [t for t in ran.rows if t.operator != "sample"]
    settings = Settings(evolved=200)
    drawn = [t.problem.id for t in draw_seed_questions([P1, P2], corrections, settings)]
    assert drawn == [
        t.problem.id for t in draw_seed_questions([P2, P1], corrections[::-1], settings)
    ]
    assert 110 < drawn.count("p1") < 156  # two corrections of p1, one of p2
    alike = draw_seed_questions([P1, P2], [], Settings(evolved=200, evolve_from="all"))
    assert 80 < [t.problem.id for t in alike].count("p1") < 120


def test_a_vote_that_nobody_could_win_is_refused():
    with pytest.raises(ConfigError, match="4 equal votes are asked for, and 3 answers vote"):
        Settings(votes=4)


def test_a_correction_that_only_states_the_answer_is_dropped_with_the_count():
    stepless = "Step 1\nExplanation: 5 and 6 make 11.\nCorrect solution:\nStep 1: The answer is \\boxed{11}."
    ran, _ = lema(fixes={**FIXES, WRONG2: stepless})
    assert not any("\\boxed{11}" in text for text in fixes_of(ran))
    [(text, reason)] = ran.dropped("reasons_enough")
    assert text == "The answer is \\boxed{11}."
    assert reason == "too few steps: 0 where the reference has 1"
