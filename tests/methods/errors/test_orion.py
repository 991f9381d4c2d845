"""ORION, exactly: who is asked what, what is an error, what becomes a row, and why the rest does not."""

from __future__ import annotations

import dataclasses

import pytest
from scripted_world import SHORT_TEXTS, number, prompts, run, student

from potstill.errors import StageError
from potstill.methods import METHODS
from potstill.methods.errors.orion.copying import longest_run, overlap_share, score_copying
from potstill.methods.errors.orion.filters import is_self_contained
from potstill.methods.errors.orion.orion import select_attempts
from potstill.methods.errors.orion.prompts import CORRECT_ALONE, REFLECT, REFLECT_ALONE
from potstill.methods.errors.orion.settings import ARMS, Settings
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Sampling
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, Trace, Verdict, blank
from potstill.runs.driver import drive
from potstill.traces import ReferenceGate, Session, Share, using
from potstill.traces.prompts import fill_template
from potstill.traces.word_overlap import word_jaccard

P1 = number("p1", "What is 2 + 2?", "4")
P2 = number("p2", "What is 3 + 4?", "7")
P3 = number("p3", "What is 5 + 6?", "11")

CHAIN = {
    "p1": "<think>\nTwo and two more are four.\n</think>\nThe answer is \\boxed{4}.",
    "p2": "<think>\nThree plus four gives seven.\n</think>\nThe answer is \\boxed{7}.",
    "p3": "<think>\nFive and six make eleven.\n</think>\nThe answer is \\boxed{11}.",
}
TEACHER = {p.prompt: CHAIN[p.problem.id] for p in (P1, P2, P3)}

FIVE_LONG = "Well, I count quite slowly on all my fingers, so two and two is five. The answer is \\boxed{5}."
FIVE = "Counting gives five here. The answer is \\boxed{5}."
THREE = "I lost one finger: the answer is \\boxed{3}."
TWELVE = "Five, six, skip one: the answer is \\boxed{12}."
TEN = "Half done, and it would go on if there were room: the answer is \\boxed{10}."
ATTEMPTS = {
    P1.prompt: [FIVE_LONG, THREE, "No idea at all.", FIVE, "It is \\boxed{4}."],
    P2.prompt: ["Surely \\boxed{7}."],
    P3.prompt: [
        {"text": TEN, "finish": "length"},
        "Hm, hm.",
        TWELVE,
        {"error": "timed out"},
        "So \\boxed{11}.",
    ],
}
OWN = {
    "p1": f"1. {FIVE}\n2. {THREE}",
    "p3": f"1. {TWELVE}",
}
REPEATS = "repeats more than 20% of its 32-word stretches"
GOOD = {
    "p1": "Two and two: 4. So \\boxed{4}.",
    "p2": "Three, four: 7. So \\boxed{7}.",
    "p3": "Five, six: 11. So \\boxed{11}.",
}


def shown(template: str, problem: Trace, attempts: str = "") -> str:
    key = problem.problem.id
    return fill_template(
        template, {"question": problem.question, "text": CHAIN[key], "attempts": attempts}
    )


def writing(answers: dict[str, list], attempts: dict = ATTEMPTS) -> list[Rule]:
    """A student that attempts as told and answers any prompt that asks for a rewrite by its question."""
    asked = [Rule(tuple(made), prompt=prompt) for prompt, made in attempts.items()]
    for problem in (P1, P2, P3):
        pattern = f"Question: {problem.question}".replace("+", "\\+").replace("?", "\\?")
        asked.append(Rule(tuple(answers.get(problem.problem.id, ["no"])), pattern=pattern))
    return asked


def orion(answers=None, *, attempts=ATTEMPTS, teacher=TEACHER, problems=(P1, P2, P3), **values):
    """Run ORION; `settings` are overrides of the defaults."""
    made = student(
        writing({k: [v] for k, v in GOOD.items()} if answers is None else answers, attempts)
    )
    master = ScriptedModel(teacher)
    settings = Settings(**{**SHORT_TEXTS, **values.pop("settings", {})})
    ran = run(
        "orion", list(problems), {"teacher": master, "student": made}, settings=settings, **values
    )
    return ran, master, made


def test_every_problem_gets_one_row_written_by_the_student_and_the_learner_sees_the_bare_prompt():
    ran, master, made = orion()
    assert [(t.problem.id, t.text) for t in ran.rows] == [
        ("p1", GOOD["p1"]),
        ("p3", GOOD["p3"]),
        ("p2", GOOD["p2"]),
    ]
    assert [t.prompt for t in ran.rows] == [P1.prompt, P3.prompt, P2.prompt]
    assert {t.author.model for t in ran.rows} == {made.id}
    assert {t.operator for t in ran.rows} == {"rewrite"} and not any(t.saw_gold for t in ran.rows)
    [stage] = ran.stages
    assert (stage.model, stage.objective, stage.constants, stage.errored) == (
        made,
        "sft",
        {},
        0,
    )
    assert len(master.calls) == 3 and len(made.calls) == 15 + 2 + 1


def test_the_writer_sees_question_reference_and_its_own_chosen_errors_word_for_word():
    _, _, made = orion()
    rewriting = prompts(made)[15:]
    assert rewriting == [
        shown(REFLECT, P1, OWN["p1"]),
        shown(REFLECT, P3, OWN["p3"]),
        shown(REFLECT_ALONE, P2),
    ]
    assert "Put the final answer in \\boxed{}.\n" in rewriting[0]


def test_attempts_are_drawn_as_the_reference_says():
    _, master, made = orion()
    assert {r.sampling for r in made.calls[:15]} == {
        Sampling(0.8, 0.9, repetition_penalty=1.05, max_new_tokens=1024)
    }
    assert [r.sample_index for r in made.calls[:15]] == [0, 1, 2, 3, 4] * 3
    assert {r.sampling for r in made.calls[15:]} == {
        Sampling(0.6, 0.9, repetition_penalty=1.05, max_new_tokens=32768)
    }
    assert {r.sampling for r in master.calls} == {Sampling(0.6, max_new_tokens=32768)}


def test_parents_are_the_reference_and_the_errors_that_were_shown():
    ran, _, _ = orion()
    text = {key: trace.text for key, trace in ran.book.traces.items()}
    first, third, second = ran.rows
    assert [text[key] for key in first.parents] == [CHAIN["p1"], FIVE, THREE]
    assert [text[key] for key in third.parents] == [CHAIN["p3"], TWELVE]
    assert [text[key] for key in second.parents] == [CHAIN["p2"]]
    for row in ran.rows:
        assert row.root == row.parents[0]  # the teacher's chain is the line it descends from


def test_unparsed_cut_off_failed_and_looping_attempts_are_never_shown_as_errors():
    loop = "round and round and " * 200 + "\\boxed{99}."
    ran, _, made = orion(attempts={**ATTEMPTS, P2.prompt: [loop]})
    everything = "\n".join(prompts(made)[15:])
    assert not any(text in everything for text in ("No idea", "Hm, hm", TEN, "round and round"))
    assert ran.dropped("is_finished") == [(TEN, "not finished")]
    assert ran.dropped("repeats_little(0.2)") == [(loop, REPEATS)] * 5
    assert [
        (t, r.split(":")[0])
        for t, r in ran.dropped("wrong")
        if t in ("No idea at all.", "Hm, hm.", "")
    ] == [
        ("", "error"),
        ("Hm, hm.", "unparsed"),
        ("No idea at all.", "unparsed"),
    ]
    assert ("", "error: timed out") in ran.dropped("wrong")


def test_an_error_is_selected_by_frequency_then_by_length_one_an_answer_at_most_k():
    answers = ["5", "5", "5", "8", "8", "9", "6"]
    texts = ["a a a a", "b b", "c c c", "d d d", "e e", "f", "g g g g g"]
    problem = Problem("p", "q", "1")
    tried = [
        Trace(
            problem,
            "q",
            text=t,
            finish_reason="stop",
            operator="sample",
            verdict=Verdict("wrong", a),
        )
        for t, a in zip(texts, answers, strict=True)
    ]
    assert [t.text for t in select_attempts(Settings(), tried)] == ["b b", "e e", "f"]
    assert [t.text for t in select_attempts(Settings(), tried[::-1])] == ["b b", "e e", "f"]
    assert [t.text for t in select_attempts(Settings(attempts_per_prompt=5), tried)] == [
        "b b",
        "e e",
        "f",
        "g g g g g",
    ]
    assert [t.text for t in select_attempts(Settings(attempts_per_prompt=1), tried)] == ["b b"]


def test_nearly_equal_wordings_count_as_one_error_even_with_other_answers():
    problem = Problem("p", "q", "1")
    one = "a b c d e f g h i j 5"
    near, far = one.replace("5", "6"), "k l m n 7"  # 10 of 12 words shared: 0.83
    tried = [
        Trace(
            problem,
            "q",
            text=t,
            finish_reason="stop",
            operator="sample",
            verdict=Verdict("wrong", t.strip()[-1]),
        )
        for t in (one, one + " ", near, far)
    ]
    assert word_jaccard(tried[0].text, tried[2].text) == pytest.approx(10 / 12)
    assert [t.text for t in select_attempts(Settings(), tried)] == [one, far]
    assert [t.text for t in select_attempts(Settings(duplicate_jaccard=0.9), tried)] == [
        one,
        far,
        near,
    ]


def test_what_selection_leaves_out_is_in_the_ledger():
    ran, _, _ = orion()
    assert ran.dropped("selected") == [(FIVE_LONG, "not selected")]
    assert ("each", "select_attempts(Settings)", 3, 3) not in ran.book.steps
    assert ("each", "select_attempts(Settings)", 4, 3) in ran.book.steps


def test_a_rewrite_must_pass_every_filter_and_is_drawn_again_until_it_does():
    bad = [
        "I say \\boxed{9}.",
        "As in the reference, \\boxed{4}.",
        {"text": "Four: \\boxed{4}.", "finish": "length"},
        "la " * 100 + ". So \\boxed{4}.",
        GOOD["p1"],
    ]
    ran, _, made = orion({"p1": bad}, problems=[P1])
    assert [t.text for t in ran.rows] == [GOOD["p1"]]
    again = made.calls[5:]
    assert [r.sample_index for r in again] == [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]
    assert len({r.prompt for r in again}) == 1
    reasons = [(d.test, d.reason) for d in ran.book.drops if d.trace.operator == "rewrite"]
    assert reasons == [
        ("right", "wrong: 9 is not 4 (boxed)"),
        ("is_self_contained", "mentions 'reference'"),
        ("is_finished", "not finished"),
        ("repeats_little(0.2)", REPEATS),
    ]


def test_a_problem_stops_being_drawn_once_it_has_its_row():
    ran, _, made = orion({"p1": ["\\boxed{9}", GOOD["p1"]], "p3": [GOOD["p3"]], "p2": [GOOD["p2"]]})
    assert [(r.sample_index, "2 + 2" in r.prompt) for r in made.calls[15:]] == [
        (0, True),
        (0, False),
        (1_000_000, True),
        (0, False),
    ]
    assert sorted(t.problem.id for t in ran.rows) == ["p1", "p2", "p3"]


def test_after_m_resamples_a_problem_is_dropped_or_falls_back_to_the_teacher():
    never = {"p1": ["\\boxed{9}"], "p2": ["\\boxed{9}"], "p3": [GOOD["p3"]]}
    ran, _, made = orion(never)
    assert [t.problem.id for t in ran.rows] == ["p3"]
    assert (
        len(made.calls) == 15 + 5 + 1 + 5
    )  # p2 has no errors, but its rewrite fails just the same
    ran, _, made = orion(never, settings={"resamples": 1, "on_fail": "teacher"})
    assert [(t.problem.id, t.text) for t in ran.rows] == [
        ("p3", GOOD["p3"]),
        ("p1", CHAIN["p1"]),
        ("p2", CHAIN["p2"]),
    ]
    assert len(made.calls) == 15 + 2 + 1 + 2


def test_what_happens_to_problems_without_errors():
    ran, _, made = orion(settings={"no_errors": "drop"})
    assert [t.problem.id for t in ran.rows] == ["p1", "p3"]
    assert ran.dropped("has_errors_to_show") == [
        (CHAIN["p2"], "the student made no error to be shown")
    ]
    ran, _, made = orion(settings={"no_errors": "teacher"})
    assert [(t.problem.id, t.text) for t in ran.rows][2] == ("p2", CHAIN["p2"])
    assert not any("3 + 4" in p for p in prompts(made)[15:])


def test_failing_rewrites_of_problems_with_errors_do_not_follow_the_policy_for_problems_without():
    ran, _, _ = orion(
        {"p1": ["\\boxed{9}"], "p3": ["\\boxed{9}"]},
        settings={"no_errors": "teacher", "resamples": 0},
    )
    assert [(t.problem.id, t.text) for t in ran.rows] == [("p2", CHAIN["p2"])]


def test_a_teacher_that_is_wrong_or_fails_gives_neither_reference_nor_row():
    ran, _, made = orion(teacher={**TEACHER, P1.prompt: "\\boxed{5}", P2.prompt: {"error": "busy"}})
    assert [t.problem.id for t in ran.rows] == ["p3"]
    assert [reason.split(":")[0] for _, reason in ran.dropped("right")] == ["error", "wrong"]
    assert len(made.calls) == 15 + 1


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("own", [(REFLECT, P1, OWN["p1"]), (REFLECT, P3, OWN["p3"]), (REFLECT_ALONE, P2, "")]),
        ("none", [(REFLECT_ALONE, P1, ""), (REFLECT_ALONE, P2, ""), (REFLECT_ALONE, P3, "")]),
        ("shuffled", [(REFLECT, P1, OWN["p3"]), (REFLECT, P3, OWN["p1"]), (REFLECT_ALONE, P2, "")]),
        ("errors-only", [(CORRECT_ALONE, P1, OWN["p1"]), (CORRECT_ALONE, P3, OWN["p3"])]),
        ("no-rewriting", []),
    ],
)
def test_each_arm_shows_the_student_what_its_name_says(arm, expected):
    ran, _, made = orion(arm=arm)
    tried = 0 if arm in ("none", "no-rewriting") else 15
    assert prompts(made)[tried:] == [
        shown(template, p, attempts) for template, p, attempts in expected
    ]
    assert set(prompts(made)[:tried]) <= {P1.prompt, P2.prompt, P3.prompt}
    ids = [p.problem.id for _, p, _ in expected]
    texts = [GOOD[i] for i in ids] if expected else [CHAIN[i] for i in ("p1", "p2", "p3")]
    assert [t.text for t in ran.rows] == texts


def test_the_teacher_refines_arm_asks_the_teacher_with_the_students_errors():
    teacher = [*writing({k: [v] for k, v in GOOD.items()}, {p: [c] for p, c in TEACHER.items()})]
    ran, master, made = orion(arm="teacher-refines", teacher=teacher)
    assert prompts(master)[3:] == [
        shown(REFLECT, P1, OWN["p1"]),
        shown(REFLECT, P3, OWN["p3"]),
        shown(REFLECT_ALONE, P2),
    ]
    assert len(made.calls) == 15 and {t.author.model for t in ran.rows} == {master.id}
    assert ran.stages[0].model is made


def test_the_arms_are_the_table_and_every_one_of_them_is_a_real_setting():
    assert list(ARMS) == [
        "own",
        "none",
        "shuffled",
        "errors-only",
        "no-rewriting",
        "teacher-refines",
        "on-policy",
        "on-policy-none",
        "on-policy-shuffled",
    ]
    for overrides in ARMS.values():
        dataclasses.replace(Settings(), **overrides)


def test_shuffled_errors_need_two_problems():
    with pytest.raises(StageError, match="errors on one problem only") as caught:
        orion(arm="shuffled", problems=[P1, P2])
    assert "--limit" in caught.value.fix


def test_shuffling_shows_every_problem_errors_of_another_and_each_once():
    def mistake(name):
        return Trace(
            Problem(name, "q"), "q", text=f"wrong {name}", finish_reason="stop", operator="sample"
        )

    mistakes = [mistake(f"p{i}") for i in range(7)]
    by = shuffled_key(mistakes)
    got = {by(m): m.problem.id for m in mistakes}
    assert sorted(got) == sorted(got.values()) == [f"p{i}" for i in range(7)]
    assert all(to != of for to, of in got.items())
    assert by(blank(Problem("p3", "q"))) == "p3"


def test_a_student_without_errors_stops_orion_before_the_teacher_is_asked():
    teacher = ScriptedModel(TEACHER)
    for attempts, message in (
        ({p.prompt: [GOOD[p.problem.id]] for p in (P1, P2, P3)}, "none of 15 attempts is wrong"),
        ({p.prompt: ["what?"] for p in (P1, P2, P3)}, "none of 15 answers is in a form"),
    ):
        roles = {"teacher": teacher, "student": student(writing({}, attempts))}
        with pytest.raises(StageError, match=message) as caught:
            run("orion", [P1, P2, P3], roles, settings=Settings(**SHORT_TEXTS))
        assert not teacher.calls
        assert ("--set arm=none" in caught.value.fix) == ("wrong" in message)


def test_without_any_rewrite_and_without_an_error_to_show_there_are_no_rows():
    with pytest.raises(StageError, match="without rows"):
        orion({})
    looping = {p.prompt: [f"{'round ' * 200}\\boxed{{999}}"] for p in (P1, P2, P3)}
    with pytest.raises(StageError, match="the student made no error to be shown"):
        orion(attempts=looping, arm="errors-only")


def test_the_report_says_how_often_first_rewrites_pass_by_what_was_shown():
    sections = []
    good = {name: [text] for name, text in GOOD.items()}
    roles = {"teacher": ScriptedModel(TEACHER), "student": student(writing({**good, "p3": ["no"]}))}
    with using(Session(sections=sections.append)):
        values = {"n": 5, "settings": Settings(**SHORT_TEXTS)}
        drive(METHODS["orion"], [P1, P2, P3], roles, values, lambda stage: stage.model)
    [section] = sections
    assert section.shares == (
        Share("shown wrong attempts", 1, 2),
        Share("shown no attempts", 1, 1),
    )


def test_errors_only_falls_back_to_the_teachers_text_never_to_an_empty_row():
    ran, _, _ = orion(
        {"p1": ["\\boxed{9}"], "p3": [GOOD["p3"]]},
        arm="errors-only",
        settings={"on_fail": "teacher"},
    )
    assert [t.text for t in ran.rows] == [GOOD["p3"], CHAIN["p1"]]


def test_without_a_reference_nobody_is_asked_to_rewrite_nothing():
    ran, _, made = orion(settings={"reference": False})
    assert prompts(made)[15:] == [
        shown(CORRECT_ALONE, P1, OWN["p1"]),
        shown(CORRECT_ALONE, P3, OWN["p3"]),
    ]
    assert [t.problem.id for t in ran.rows] == ["p1", "p3"]


def test_the_length_filter_counts_the_writers_tokens():
    ran, _, _ = orion(settings={"min_new_tokens": 6, "resamples": 0})
    assert {t.problem.id: t.tokens.completion for t in ran.rows} == {"p1": 6}
    assert ran.dropped("has_length(6, 32768)") == [
        (GOOD["p3"], "not 6 to 32768 tokens long"),
        (GOOD["p2"], "not 6 to 32768 tokens long"),
    ]
    assert (Settings().min_new_tokens, Settings().max_new_tokens) == (32, 32768)


def test_scores_of_copying_stand_on_every_row_and_filter_none():
    copy = "Let us say that one two three four five six seven eight nine ten is \\boxed{4}."
    error = "Perhaps eight nine ten is it after all, my friends and others \\boxed{5}."
    ran, _, _ = orion(
        {
            "p1": [copy.replace("is \\boxed", "is it after all, my friends \\boxed")],
            "p2": [GOOD["p2"]],
        },
        problems=[P1, P2],
        teacher={
            **TEACHER,
            P1.prompt: "One. one two three four five six seven eight nine ten \\boxed{4}.",
        },
        attempts={**ATTEMPTS, P1.prompt: [error]},
        settings={"on_fail": "teacher", "max_repetition": 1.0},
        gate=ReferenceGate(min_step_share=0),
    )
    first, second = ran.rows
    words = len(first.text.split())
    assert first.scores["run_teacher"] == 10
    assert first.scores["overlap8_teacher"] == pytest.approx(3 / (words - 7))
    assert first.scores["overlap8_errors"] == pytest.approx(2 / (words - 7))
    assert second.scores == {"run_teacher": 0.0, "overlap8_teacher": 0.0, "overlap8_errors": None}
    untouched, _, _ = orion(
        arm="no-rewriting", teacher={p: t + " word" * 9 for p, t in TEACHER.items()}
    )
    assert {t.scores["overlap8_teacher"] for t in untouched.rows} == {1.0}
    assert {t.scores["overlap8_errors"] for t in untouched.rows} == {None}


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        ("As the reference says, 4.", "reference"),
        ("Unlike attempt 2, I add.", "attempt 2"),
        ("The WRONG ATTEMPTS forget one.", "ATTEMPTS"),
        ("The first attempt forgot one.", "first attempt"),
        ("By the provided solution, 4.", "provided solution"),
        ("The given solution adds.", "given solution"),
        ("A clear preference for tea: 4 cups.", ""),
        ("We attempt to add: 4.", ""),
    ],
)
def test_leaks_are_whole_phrases(text, leak):
    trace = Trace(Problem("p", "How many?"), "How many?", text=text)
    assert is_self_contained(trace) == (not leak, f"mentions {leak!r}" if leak else "")


def test_words_of_the_question_are_no_leak():
    question = "Tom makes 3 of 9 Attempts, how many does he miss?"
    trace = Trace(
        Problem("p", question), question, text="He misses 6 attempts, as the reference says."
    )
    assert is_self_contained(trace) == (False, "mentions 'reference'")
    assert is_self_contained(dataclasses.replace(trace, text="He misses 6 attempts."))[0]


def test_overlap_by_hand():
    assert overlap_share("abcd", ["xbcd"], 2) == pytest.approx(2 / 3)
    assert overlap_share("abcd", ["ab", "cd"], 2) == pytest.approx(2 / 3)
    assert overlap_share("a", ["a"], 2) == 0.0
    assert score_copying([], [], []) == []
    assert [
        longest_run(a, "xabcdefghijabcdefghi") for a in ("abcdefgh", "abcdefg", "zabcdefghijz", "")
    ] == [
        8,
        0,
        10,
        0,
    ]


def test_a_failed_generation_is_neither_error_nor_row():
    ran, _, _ = orion(
        {"p1": [{"error": "down"}, GOOD["p1"]], "p3": [{"error": "down"}], "p2": [GOOD["p2"]]}
    )
    assert sorted(t.problem.id for t in ran.rows) == ["p1", "p2"]
    assert ran.dropped("is_finished").count(("", "error: down")) == 1 + 5


def test_a_rewrite_that_copies_the_answer_without_the_reasoning_is_no_row():
    chain = "Two and two more are four. One and one are two. So the answer is \\boxed{4}."
    stepless = "So the answer is \\boxed{4}."
    ran, _, _ = orion({"p1": [stepless, GOOD["p1"]]}, problems=[P1], teacher={P1.prompt: chain})
    assert [t.text for t in ran.rows] == [GOOD["p1"]]
    assert ran.dropped("reasons_enough") == [
        (stepless, "too few steps: 0 where the reference has 2")
    ]


def test_the_end_of_the_reference_can_be_hidden_from_the_writer():
    ran, _, made = orion(problems=[P1], gate=ReferenceGate(hide_end="last-line"))
    hidden = "<think>\nTwo and two more are four.\n</think>"
    assert prompts(made)[5:] == [shown(REFLECT, P1, OWN["p1"]).replace(CHAIN["p1"], hidden)]
    reference = ran.book.traces[ran.rows[0].parents[0]]
    assert reference.scores["hidden"] == "The answer is \\boxed{4}."


def test_step_checking_drops_right_answers_with_a_wrong_step():
    question = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
    asked = blank(Problem("s", question, "10", kind="story"))
    sound = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
    lucky = "19 - 14 = 6. 6 * 2 = 10. The answer is \\boxed{10}."
    wrong = "19 - 14 = 6. 6 * 2 = 12. The answer is \\boxed{12}."
    teacher = ScriptedModel({question: sound})
    made = student([Rule((wrong,), prompt=question), Rule((lucky, sound), pattern="Reference")])
    roles = {"teacher": teacher, "student": made}
    loose = run("orion", [asked], roles, settings=Settings(**SHORT_TEXTS), steps=False)
    assert [t.text for t in loose.rows] == [lucky]
    # Left open, steps are checked where the problem's verifier judges them.
    strict = run("orion", [asked], roles, settings=Settings(**SHORT_TEXTS))
    assert [t.text for t in strict.rows] == [sound]
    assert strict.dropped("sound") == [(lucky, "right answer, but a step is wrong")]
