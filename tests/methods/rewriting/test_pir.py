"""PIR, exactly: which sentences are functional, what is scored behind what, and which of them go."""

from __future__ import annotations

from scripted_world import NOWHERE, number, prompts, run

from potstill.methods.reasoning_sentences import marked_kind
from potstill.methods.rewriting.pir import read_kinds
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank

STORY = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
P1 = number("p1", "What is 2 + 3 + 4?", "9")
SENTENCES = [
    "We begin with 2. ",
    "2 + 3 = 5. ",
    "Check: 5 - 3 = 2. ",
    "So 5 + 4 = 8. ",
    "Wait, that is not right. ",
    "5 + 4 = 9. ",
    "Let me verify: 9 - 4 = 5.\n",
]
ANSWER = "</think>\nIt is \\boxed{9}."
CHAIN = f"<think>\n{''.join(SENTENCES)}{ANSWER}"


def without(*numbers):
    left = [text for number, text in enumerate(SENTENCES, 1) if number not in numbers]
    return f"<think>\n{''.join(left)}{ANSWER}"


def doubt(passage):
    """The answer is a nat less likely without the first check, two without the correction, none without the last."""
    lost = 1.0 * ("Check" not in passage.prefix) + 2.0 * ("Wait" not in passage.prefix)
    return [-1.0 - lost]


def pir(**values):
    pupil = ScriptedModel(["-"], weights=NOWHERE, logprobs=doubt)
    roles = {"teacher": ScriptedModel([CHAIN]), "student": pupil}
    labeller = values.pop("labeller", None)
    if labeller is not None:
        roles["labeller"] = labeller
    return run("pir", [P1], roles, **values), pupil


def test_the_functional_steps_that_the_answer_needs_least_go():
    ran, pupil = pir()
    [row] = ran.rows
    assert row.text == without(7) and row.prompt == P1.prompt and row.verdict.status == "right"
    assert {passage.text for passage in pupil.scored} == {ANSWER}
    # The whole reasoning, and without each of the three functional steps: no progressive step is tried.
    assert len(pupil.scored) == 4
    assert [row.text for row in pir(ratio=0.6)[0].rows] == [without(3, 7)]
    assert [row.text for row in pir(ratio=0.0)[0].rows] == [CHAIN]


def test_the_controls_choose_by_chance_among_all_kinds_or_take_nothing_out():
    ran, pupil = pir(arm="random", ratio=0.6)
    assert ran.rows[0].text in (without(3, 5), without(3, 7), without(5, 7)) and not pupil.scored
    ran, pupil = pir(arm="all-kinds", ratio=0.6)
    assert len(pupil.scored) == 8 and len(ran.rows[0].text) < len(CHAIN)
    assert [row.text for row in pir(arm="whole")[0].rows] == [CHAIN]


def test_measured_on_the_chain_the_whole_text_is_scored():
    pupil = ScriptedModel(["-"], weights=NOWHERE)
    roles = {"teacher": ScriptedModel([CHAIN]), "student": pupil}
    run("pir", [P1], roles, measured="chain")
    assert {passage.text for passage in pupil.scored} == {CHAIN, without(3), without(5), without(7)}


def test_a_labeller_is_asked_for_the_steps_without_a_marker_alone():
    labeller = ScriptedModel(["4: verification\nStep 6: progressive\n3: correction"])
    ran, _ = pir(labeller=labeller, ratio=0.5)
    [shown] = prompts(labeller)
    assert "For each of the steps 1, 2, 4, 6 write" in shown and "3. Check: 5 - 3 = 2." in shown
    # Step 4 is functional now and as little needed as step 7; what has a marker keeps its kind.
    assert [row.text for row in ran.rows] == [without(4, 7)]
    unreadable, _ = pir(labeller=ScriptedModel(["I can't tell."]))
    assert [row.text for row in unreadable.rows] == [without(7)]
    assert read_kinds("none of them") is None


def test_markers_stand_at_the_beginning_of_a_sentence():
    kinds = {"Wait, no.": "correction", "Let me double-check it.": "verification"}
    kinds |= {"Another way: 9.": "alternative", "We wait 3 days.": "", "Checks cost 5.": ""}
    assert {text: marked_kind(text) for text in kinds} == kinds


def test_wrong_chains_and_cut_ones_are_no_rows_and_cost_no_scoring():
    pupil = ScriptedModel(["-"], weights=NOWHERE)
    others = [number("p2", "q", "4"), number("p3", "r", "5")]
    script = {
        P1.prompt: [CHAIN],
        "Solve: q": [{"text": "It is \\boxed{4}.", "finish": "length"}],
        "Solve: r": ["It is \\boxed{8}."],
    }
    ran = run("pir", [P1, *others], {"teacher": ScriptedModel(script), "student": pupil})
    assert [row.problem.id for row in ran.rows] == ["p1"] and len(pupil.scored) == 4
    assert ran.dropped("is_finished") == [("It is \\boxed{4}.", "not finished")]
    assert ran.dropped("right") == [("It is \\boxed{8}.", "wrong: 8 is not 5 (boxed)")]


def test_a_chain_whose_slip_would_lose_its_correction_stays_whole():
    asked = blank(Problem("s", STORY, "10", kind="story"))
    slip = "<think>\n19 - 14 = 6. Wait, that is not right. 19 - 14 = 5. 5 * 2 = 10.\n</think>\n\\boxed{10}"
    pupil = ScriptedModel(["-"], weights=NOWHERE)
    ran = run("pir", [asked], {"teacher": ScriptedModel([slip]), "student": pupil}, ratio=1.0)
    assert [row.text for row in ran.rows] == [slip]
    assert [reason for _, reason in ran.dropped("sound")] == ["right answer, but a step is wrong"]
