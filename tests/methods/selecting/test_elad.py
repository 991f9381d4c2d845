"""ELAD on scripted models: which problems are chosen, what the teacher is asked, and what becomes a row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fakes import Book
from scripted_world import NOWHERE, ORACLE, run, student

from potstill.errors import ConfigError, StageError
from potstill.methods import METHODS
from potstill.methods.selecting.elad.claer import read_verdict
from potstill.methods.selecting.elad.prompts import CHECK_ALL, CHECK_STEP
from potstill.methods.selecting.elad.selection import score_candidates
from potstill.methods.selecting.elad.settings import Selection, Settings
from potstill.models.model import Request, Sampling
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, blank, learnt_stretches
from potstill.runs.cast import Cast
from potstill.runs.driver import drive
from potstill.runs.stand_in import Assumptions, CallTable, StandIn
from potstill.traces import Session, using
from potstill.traces.prompts import fill_template
from potstill.world.story import problems as world_stories


def short_stories(size):
    """Three quarters as many stories, of two or three events."""
    return [blank(problem) for problem in world_stories("story-easy", size=max(3, 3 * size // 4))]


# A teacher that judges steps; few and short stories, for every step of every chain is probed.
CAST = Cast(
    models={"teacher": ORACLE},
    problems=short_stories,
    values={"n": 2, "settings": Settings(rounds=2)},
)

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
TOM = "Tom has 8 coins. Then Tom buys 4. Then Tom sells 2. How many coins does Tom have now?"
NO_SEED = Settings(seed_share=0.0, rounds=1)
RIGHT = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
WRONG = "19 - 14 = 5. 5 * 2 = 12. The answer is \\boxed{12}."


def story(name, question, answer=None):
    return blank(Problem(name, question, answer, kind="story"), f"Solve: {question}")


def teacher(*verdicts, rest="5 * 2 = 10. The answer is \\boxed{10}.", chain=RIGHT):
    """A teacher with a verdict a step, by the step's number, and one text for the rest."""
    rules = [Rule((verdict,), pattern=f"step {n} right") for n, verdict in enumerate(verdicts, 1)]
    return ScriptedModel([*rules, Rule((rest,), pattern="Go on"), Rule((chain,))])


def annotate_one(writer, own=WRONG, *, answer=None, settings=NO_SEED, **values):
    """The run in which the teacher annotates the one chain of a student who always writes the same."""
    values = {"n": 2, "annotated": 1.0, "arm": "random", **values}
    roles = {"teacher": writer, "student": student([own])}
    return run("elad", [story("ned", NED, answer)], roles, settings=settings, **values)


def test_the_walk_stops_at_the_first_no_and_the_teacher_writes_the_rest():
    writer = teacher("Yes", "No.", "Yes")
    ran = annotate_one(writer)
    [row] = ran.rows
    assert row.text == RIGHT and row.prompt == f"Solve: {NED}" and not row.saw_gold
    assert row.text[: row.prefix_length] == "19 - 14 = 5." and row.author.model == writer.id
    assert learnt_stretches(row) == [(0, len(RIGHT))]
    assert (row.scores["verdicts"], row.scores["first_error"]) == ("yes no", 2.0)
    # Each prompt shows the steps so far and none behind them; the rest is asked for without the wrong step.
    shown = [request.prompt.partition("so far:\n")[2] for request in writer.calls]
    assert shown == [
        "1. 19 - 14 = 5.\n\nIs step 1 right? Answer Yes or No.",
        "1. 19 - 14 = 5.\n2. 5 * 2 = 12.\n\nIs step 2 right? Answer Yes or No.",
        "19 - 14 = 5.",
    ]
    ancestors = {trace.id: trace for trace in ran.book.traces.values()}
    [continued, chain] = [ancestors[parent] for parent in row.parents]
    assert continued.operator == "sample" and chain.text == WRONG


def test_a_chain_that_is_right_to_its_answer_is_a_row_as_it_is():
    writer = teacher("Yes", "yes, it is", "YES")
    ran = annotate_one(writer, RIGHT)
    [row] = ran.rows
    assert row.text == RIGHT and row.author.model != writer.id
    assert (row.scores["verdicts"], row.scores["first_error"]) == ("yes yes yes", 0.0)
    assert "Check the final answer" in writer.calls[2].prompt and len(writer.calls) == 3


@pytest.mark.parametrize(
    ("verdicts", "own", "rest", "text"),
    [
        (
            ("Yes", "Yes", "No"),
            "19 - 14 = 5. 5 * 2 = 10. \\boxed{9}",
            "\\boxed{10}",
            "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}",
        ),
        (
            ("Yes", "Yes"),
            "19 - 14 = 5. 5 * 2 = 10.",
            "\\boxed{10}",
            "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}",
        ),
        (("No",), WRONG, "  " + RIGHT, RIGHT),
        (
            ("Yes", "No"),
            WRONG,
            "<think>Hm, 5 * 2.</think>\n5 * 2 = 10. \\boxed{10}",
            "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}",
        ),
    ],
    ids=["wrong answer", "no answer", "wrong from the beginning", "thought before it"],
)
def test_the_rest_begins_where_the_chain_stops_being_right(verdicts, own, rest, text):
    [row] = annotate_one(teacher(*verdicts, rest=rest), own).rows
    assert row.text == text


def test_a_verdict_that_can_not_be_read_is_asked_for_once_more_and_then_drops_the_chain():
    hesitant = ScriptedModel(
        [
            Rule(("Hm.", "Yes"), pattern="step 1 right"),
            Rule(("Hm.", "Well."), pattern="step 2 right"),
        ]
    )
    other = story("tom", TOM)
    roles = {
        "teacher": hesitant,
        "student": student({f"Solve: {NED}": [WRONG], other.prompt: [RIGHT]}),
    }
    with pytest.raises(StageError, match="without rows; dropped before it: keep is_read: 2"):
        run(
            "elad",
            [story("ned", NED), other],
            roles,
            settings=NO_SEED,
            n=1,
            annotated=1.0,
        )
    assert [call.sampling.temperature for call in hesitant.calls] == [0.0, 0.0, 0.7, 0.7] * 2


@pytest.mark.parametrize(
    ("reply", "verdicts", "text"),
    [
        ("Yes.", "yes", WRONG),
        ("No, step 2", "no, step 2", RIGHT),
        ("**No**: the first wrong one is step 2, for 5 * 2 is 10", "no, step 2", RIGHT),
    ],
)
def test_one_call_names_the_first_wrong_step_of_all(reply, verdicts, text):
    writer = ScriptedModel(
        [
            Rule((reply,), pattern="Is every step right"),
            Rule(("5 * 2 = 10. The answer is \\boxed{10}.",), pattern="Go on"),
        ]
    )
    [row] = annotate_one(writer, annotation="single-call").rows
    assert row.text == text and row.scores["verdicts"] == verdicts
    assert "1. 19 - 14 = 5.\n2. 5 * 2 = 12.\n3. The answer is" in writer.calls[0].prompt


@pytest.mark.parametrize("reply", ["No.", "No, step 9", "No, because 5 * 2 is not 12", "Hm."])
def test_a_no_that_names_no_step_of_the_chain_is_no_verdict(reply):
    writer = ScriptedModel([Rule((reply,), pattern="Is every step right")])
    with pytest.raises(StageError, match="keep is_read: 1"):
        annotate_one(writer, annotation="single-call")
    assert len(writer.calls) == 2


def test_a_fresh_chain_pays_no_regard_to_the_students():
    writer = teacher(chain="I see. " + RIGHT)
    [row] = annotate_one(writer, annotation="fresh-chain").rows
    assert row.text == "I see. " + RIGHT and row.prefix_length == 0
    assert [call.prompt for call in writer.calls] == [f"Solve: {NED}"]


def test_rows_are_not_chosen_by_gold_answers_unless_that_is_asked_for():
    misled = teacher("Yes", "Yes", "Yes")
    [row] = annotate_one(misled, answer="10").rows
    assert row.verdict.status == "wrong"
    with pytest.raises(StageError, match="keep is_not_wrong: 1"):
        annotate_one(misled, answer="10", settings=replace(NO_SEED, check_answers=True))
    [row] = annotate_one(misled, settings=replace(NO_SEED, check_answers=True)).rows
    assert row.verdict.status == "unjudged"


@pytest.mark.parametrize(
    "rest", ["I give up.", {"text": "5 * 2 = 10", "finish": "length"}, {"error": "down"}]
)
def test_a_rest_without_an_end_or_an_answer_is_no_row(rest):
    with pytest.raises(StageError, match=r"keep (has_answer|is_finished): 1"):
        annotate_one(teacher("Yes", "No", rest=rest))


def test_accepted_steps_can_weigh_less_or_nothing():
    halved = annotate_one(teacher("Yes", "No"), settings=replace(NO_SEED, prefix_weight=0.5))
    [span] = [span for span in halved.rows[0].spans if span.kind == "accepted"]
    assert (span.start, span.stop, span.weight) == (0, len("19 - 14 = 5."), 0.5)
    with pytest.raises(StageError, match="keep is_written_by_teacher: 1"):
        annotate_one(teacher("Yes", "Yes", "Yes"), settings=replace(NO_SEED, prefix_weight=0.0))


# Rounds and the choice.


def by_skill(request):
    """Sure and wrong on Ned's story, torn between two answers on Tom's."""
    if "Ned" in request.prompt:
        return WRONG
    total = 12 + request.sample_index % 2
    return f"8 + 4 = {total}. {total} - 2 = {total - 2}. The answer is \\boxed{{{total - 2}}}."


def run_both(arm="egss", problems=None, **values):
    roles = {
        "teacher": teacher("No", rest="The answer is \\boxed{10}.", chain=RIGHT),
        "student": student(by_skill),
    }
    values = {"settings": NO_SEED, "n": 4, "annotated": 0.5, "arm": arm, **values}
    return run("elad", problems or [story("ned", NED), story("tom", TOM)], roles, **values)


def test_the_problem_that_the_student_doubts_is_annotated_and_the_other_stands_in_the_ledger():
    ran = run_both()
    [row] = ran.rows
    assert row.problem.id == "tom" and row.scores["inter"] == pytest.approx(0.5)
    assert ran.dropped("chosen_in_round") == [(WRONG, "round 1: score 0.000")]


def test_every_round_trains_from_the_warm_start_on_all_rows_so_far():
    roles = {
        "teacher": teacher("No", rest="\\boxed{10}", chain=RIGHT),
        "student": student(by_skill),
    }
    problems = [story(f"s{i}", NED.replace("19", str(20 + i))) for i in range(10)]
    ran = run("elad", problems, roles, settings=Settings(seed_share=0.2, rounds=3), n=1)
    assert [stage.name for stage in ran.stages] == ["warm-start", "round-1", "round-2", "round-3"]
    assert [len(stage.rows) for stage in ran.stages] == [2, 3, 5, 6]
    assert len({row.problem.id for row in ran.rows}) == 6


def test_a_labelled_seed_with_wrong_answers_teaches_nothing():
    problems = [story(f"s{i}", NED, "10") for i in range(4)]
    roles = {"teacher": teacher("No", chain=WRONG), "student": student([WRONG])}
    ran = run(
        "elad", problems, roles, settings=Settings(seed_share=0.5, rounds=1), n=1, arm="random"
    )
    assert [stage.name for stage in ran.stages] == ["round-1"]
    assert ran.dropped("is_not_wrong") == [(WRONG, "wrong answer")] * 2


@pytest.mark.parametrize(
    ("arm", "student_calls"),
    [
        ("egss", 2 * (4 + 4)),
        ("intra", 2 * (4 + 4)),
        ("random-same-length", 2 * (4 + 4)),
        ("inter", 2 * 4),
        ("inter-same-calls", 2 * (4 + 4)),
        ("random", 4),
    ],
)
def test_an_arm_asks_the_student_for_what_its_scores_need(arm, student_calls):
    ran = run_both(arm)
    assert len(ran.stages[0].model.calls) == student_calls


def test_the_probes_calls_buy_chains_that_vote_together_with_the_others():
    ten, twelve = RIGHT, WRONG
    pupil = student([ten, ten, twelve, twelve, twelve, twelve])
    selection = Selection(n=2, arm="inter-same-calls")
    with using(Session(Book(), Book())):
        [candidate] = score_candidates(pupil, [story("ned", NED)], selection)
    # Two of six against four of six: each call by itself would have been certain.
    entropy = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3) / math.log(6)
    assert candidate.scores["inter"] == pytest.approx(entropy) and candidate.text == WRONG


def test_the_same_cost_buys_more_annotations_by_chance():
    problems = [story(f"s{i}", NED.replace("19", str(20 + i))) for i in range(8)]
    cheap = replace(NO_SEED, teacher_price=0.1)
    ran = run_both("random-same-cost", problems, annotated=0.25, settings=cheap)
    assert len(ran.rows) == 8
    dear = replace(NO_SEED, teacher_price=1000.0)
    ran = run_both("random-same-cost", problems, annotated=0.25, settings=dear)
    assert len(ran.rows) == 2


def test_the_report_counts_what_nobody_could_judge():
    sections = []
    roles = {"teacher": teacher("Yes", "No"), "student": student([WRONG])}
    with using(Session(Book(), Book(), sections=sections.append)):
        drive(
            METHODS["elad"],
            [story("ned", NED), story("gold", NED.replace("19", "29"), "30")],
            roles,
            {"settings": NO_SEED, "n": 1, "annotated": 1.0},
            lambda stage: stage.model,
        )
    chosen, annotations, replies = sections
    shares = {share.label: (share.part, share.whole) for share in annotations.shares}
    assert shares == {
        "annotations that became rows": (2, 2),
        "verdicts that could not be read": (0, 2),
        "chains that were revised": (2, 2),
        "accepted although the answer was wrong": (0, 1),
        "rows with an accepted step that is wrong": (1, 2),
        "rows with the right answer": (0, 1),
        "rows that nobody could judge: no gold answer": (1, 2),
    }
    assert "seed 0" in chosen.hint and "round 1: chosen by chance among equals" not in shares
    assert replies.title == "Replies that were read"


@pytest.mark.parametrize(
    ("values", "message"),
    [({"annotated": 1.5}, "annotated=1.5"), ({"settings": Settings(rounds=0)}, "rounds=0")],
)
def test_shares_and_rounds_out_of_range_are_refused_before_anybody_is_asked(values, message):
    with pytest.raises(ConfigError, match=message):
        run_both(**values)


@pytest.mark.parametrize("template", [CHECK_STEP, CHECK_ALL])
def test_a_plans_stand_in_gives_verdicts_that_can_be_read(template):
    stand_in = StandIn("teacher", {"": Assumptions()}, CallTable(), weights=NOWHERE)
    prompt = fill_template(template, {"prompt": NED, "steps": "1. 19 - 14 = 5.", "number": "1"})
    requests = [
        Request(prompt, sampling=Sampling(max_new_tokens=64), sample_index=i) for i in range(30)
    ]
    verdicts = [read_verdict(completion.text) for completion in stand_in.write(requests)]
    assert {"yes", "no"} <= set(verdicts) and verdicts.count(None) < 6
