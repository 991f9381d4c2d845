"""P-ALIGN, exactly: which prefixes are judged, what the student is shown, and what a row is made of."""

from __future__ import annotations

import pytest
from scripted_world import ORACLE, number, prompts, run, student

from potstill.methods.rewriting.p_align.prefixes import Bisection, read_verdict, split_sentences
from potstill.methods.rewriting.p_align.prompts import ALIGN, JUDGE
from potstill.methods.rewriting.p_align.settings import Settings
from potstill.models.model import Sampling
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, Trace, learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import ReferenceGate
from potstill.traces.prompts import fill_template

# It reads prefixes; the verdicts of the world's scripted student can't be read.
CAST = Cast(models={"evaluator": ORACLE})

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
SENTENCES = {
    "p1": ["One is two. ", "Two is two. ", "Now add. ", "It makes 4."],
    "p2": ["Three. ", "Four more."],
}
CHAIN = {
    key: f"<think>\n{''.join(sentences)}\n</think>\nThe answer is \\boxed{{{answer}}}."
    for (key, sentences), answer in zip(SENTENCES.items(), ("4", "7"), strict=True)
}
TEACHER = {P1.prompt: CHAIN["p1"], P2.prompt: CHAIN["p2"]}
GOOD = {"p1": "So \\boxed{4}.", "p2": "So \\boxed{7}."}


def beginning(problem: Trace, length: int) -> str:
    return "".join(SENTENCES[problem.problem.id][:length]).rstrip()


def judged(problem: Trace, length: int) -> str:
    values = {"question": problem.question, "text": beginning(problem, length)}
    return fill_template(JUDGE, values)


def shown(problem: Trace, length: int) -> str:
    values = {"question": problem.question, "text": beginning(problem, length)}
    return fill_template(ALIGN, values)


def pupil(enough: dict[str, int], good=GOOD) -> ScriptedModel:
    """A student for whom so many sentences are enough, or more; it goes on as it is told."""
    rules = []
    for problem in (P1, P2):
        key = problem.problem.id
        for length in range(1, 5):
            verdict = "[ENOUGH]" if length >= enough.get(key, 9) else "[NOT_ENOUGH]"
            rules.append(Rule((verdict,), prompt=judged(problem, length)))
            rules.append(Rule((good[key],), prompt=shown(problem, length)))
    return student(rules)


def p_align(enough, *, good=GOOD, teacher=TEACHER, settings=None, **values):
    made, master = pupil(enough, good), ScriptedModel(teacher)
    values.setdefault("gate", ReferenceGate(0, 0))  # it has a test of its own
    ran = run(
        "p_align",
        [P1, P2],
        {"teacher": master, "student": made},
        settings=Settings(**(settings or {})),
        **values,
    )
    return ran, made


def test_the_shortest_sufficient_prefix_and_the_continuation_are_the_row():
    ran, made = p_align({"p1": 3, "p2": 1})
    assert [row.text for row in ran.rows] == [
        "<Begin_of_Prefix>One is two. Two is two. Now add.<End_of_Prefix>\nSo \\boxed{4}.",
        "<Begin_of_Prefix>Three.<End_of_Prefix>\nSo \\boxed{7}.",
    ]
    assert [row.prompt for row in ran.rows] == [P1.prompt, P2.prompt]
    assert [row.scores["prefix_share"] for row in ran.rows] == [0.75, 0.5]
    [stage] = ran.stages
    assert stage.model is made and stage.objective == "sft"


def test_prefix_and_continuation_are_learnt_each_as_its_authors():
    ran, made = p_align({"p1": 3, "p2": 1})
    row = ran.rows[0]
    assert learnt_stretches(row) == [(0, len(row.text))] and learns_end(row)
    [written] = [span for span in row.spans if span.kind == "written"]
    text = {trace.text: trace for trace in ran.book.traces.values()}
    assert written.author == text[CHAIN["p1"]].author.model and row.author.model == made.id
    assert row.new == "So \\boxed{4}." and not row.saw_gold
    # The parents are the continuation and the prefix, and the teacher's chain is the line.
    parents = [ran.book.traces[parent].text for parent in row.parents]
    assert parents == ["So \\boxed{4}.", beginning(P1, 3)]
    assert ran.book.traces[row.root].text == CHAIN["p1"]


def test_both_searches_go_on_a_round_of_verdicts_at_a_time():
    _, made = p_align({"p1": 3, "p2": 1})
    asked = [judged(P1, 2), judged(P2, 1), judged(P1, 3)]
    assert prompts(made)[:3] == asked
    assert prompts(made)[3:] == [shown(P1, 3), shown(P2, 1)]
    assert {r.sampling for r in made.calls[:3]} == {Sampling(0.0, max_new_tokens=256)}
    assert {r.sampling for r in made.calls[3:]} == {
        Sampling(0.6, 0.9, repetition_penalty=1.05, max_new_tokens=32768)
    }


def test_without_a_sufficient_prefix_the_whole_thought_is_taken():
    ran, _ = p_align({"p1": 9, "p2": 9})
    assert [row.scores["prefix_share"] for row in ran.rows] == [1, 1]
    assert "Now add. It makes 4.<End_of_Prefix>" in ran.rows[0].text


def test_an_evaluator_judges_in_the_students_place():
    judge = ScriptedModel(["[ENOUGH]"])
    made = pupil({})
    roles = {"teacher": ScriptedModel(TEACHER), "student": made, "evaluator": judge}
    ran = run("p_align", [P1, P2], roles, gate=ReferenceGate(0, 0))
    assert [row.scores["prefix_share"] for row in ran.rows] == [0.25, 0.5]
    assert len(made.calls) == 2 and len(judge.calls) == 3


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[ENOUGH]", 1),
        ("I say [NOT_ENOUGH].", 0),
        ("<think>[NOT_ENOUGH]?</think>[ENOUGH]", 1),
        ("Enough.", 1),
        ("not enough", 0),
        ("[ENOUGH] or [NOT_ENOUGH]", None),
        ("It is enough work.", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_none(text, verdict):
    assert read_verdict(text) == verdict


def test_a_bisection_finds_the_boundary_in_few_looks():
    for total in range(1, 40):
        for enough in range(1, total + 2):
            search, looks = Bisection(1, total), 0
            while search.is_open:
                search = search.narrow(is_enough=search.middle >= enough)
                looks += 1
            assert search.shortest == (enough if enough <= total else None)
            assert looks <= total.bit_length()


@pytest.mark.parametrize("text", ["A. B.\n\nC. 3.5 is one. D", "no stop", "One.  Two. "])
def test_sentences_joined_are_the_text(text):
    [thought] = split_sentences(Settings(), [Trace(Problem("p", "q"), "q", text)])
    assert "".join(thought.units) == text.strip()


@pytest.mark.parametrize(
    ("arm", "lengths"),
    [("align", (3, 1)), ("fixed", (2, 1)), ("whole", (4, 2)), ("shuffled", (2, 2))],
)
def test_each_arm_cuts_where_its_name_says(arm, lengths):
    ran, made = p_align({"p1": 3, "p2": 1}, arm=arm)
    calls = 3 if arm in ("align", "shuffled") else 0
    assert prompts(made)[calls:] == [shown(P1, lengths[0]), shown(P2, lengths[1])]
    assert len(ran.rows) == 2


def test_the_continuation_alone_is_learnt_where_the_arm_says_so():
    ran, _ = p_align({"p1": 3, "p2": 1}, arm="continuation-only", gate=ReferenceGate())
    assert [row.text for row in ran.rows] == list(GOOD.values())


def test_a_prefix_is_judged_by_its_outcome_where_the_arm_says_so():
    # The student comes to the right answer behind every prefix, so the first sentence is enough.
    ran, made = p_align({}, arm="outcome")
    assert [row.scores["prefix_share"] for row in ran.rows] == [0.25, 0.5]
    assert prompts(made) == [
        *(shown(P1, 2), shown(P2, 1), shown(P1, 1)),
        *(shown(P1, 1), shown(P2, 1)),
    ]


def test_a_continuation_must_be_finished_boxed_and_right_and_is_drawn_again_where_it_is_told():
    bad = {"p1": "So it is 4.", "p2": "So \\boxed{8}."}
    ran, made = p_align({"p1": 1}, good={"p1": bad["p1"], "p2": GOOD["p2"]})
    assert [row.problem.id for row in ran.rows] == ["p2"]
    assert ran.dropped("has_box") == [(bad["p1"], "no box for its answer")]
    ran, made = p_align({"p1": 1}, good={**GOOD, "p2": bad["p2"]}, settings={"resamples": 2})
    assert ran.dropped("right") == [(bad["p2"], "wrong: 8 is not 7 (boxed)")] * 3
    assert [r.sample_index for r in made.calls[-3:]] == [0, 1_000_000, 2_000_000]


def test_a_row_shows_half_of_the_teachers_steps_prefix_and_continuation_together():
    ran, _ = p_align({"p1": 1, "p2": 1}, gate=ReferenceGate())
    assert [row.problem.id for row in ran.rows] == ["p2"]
    [(text, reason)] = ran.dropped("reasons_enough")
    assert "One is two." in text and reason == "too few steps: 1 where the reference has 3"


def test_a_wrong_chain_of_the_teacher_is_no_reference():
    ran, made = p_align({"p1": 1, "p2": 1}, teacher={**TEACHER, P1.prompt: "\\boxed{5}"})
    assert [row.problem.id for row in ran.rows] == ["p2"]
    assert not any("2 + 2" in prompt for prompt in prompts(made))


STORY = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
THOUGHT = "We start with 19. The pile shrinks: 19 - 14 = 5. The pile grows: 5 * 2 = 10."


@pytest.mark.parametrize(
    ("continuation", "is_row"),
    [
        ("5 * 2 = 10. \\boxed{10}", True),  # goes on behind the prefix
        ("19 - 14 = 5. 5 * 2 = 10. \\boxed{10}", True),  # begins anew
        ("5 * 3 = 10. \\boxed{10}", False),
    ],
)
def test_steps_are_right_of_the_whole_or_of_a_continuation_that_begins_anew(continuation, is_row):
    story = Trace(Problem("s", STORY, "10", kind="story"), STORY)
    other = Trace(Problem("t", STORY, "10", kind="story"), f"Solve: {STORY}")
    teacher = ScriptedModel([f"<think>{THOUGHT}</think>\\boxed{{10}}"])
    rules = [
        Rule(("[ENOUGH]",), pattern="Answer \\[ENOUGH\\]"),
        Rule((continuation, "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}"), pattern="Draft:"),
    ]
    settings = Settings(prefix="fixed", fixed_share=2 / 3)
    ran = run(
        "p_align",
        [story, other],
        {"teacher": teacher, "student": student(rules)},
        steps=True,
        settings=settings,
    )
    assert ("s" in [row.problem.id for row in ran.rows]) == is_row
