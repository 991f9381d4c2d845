"""Flow-DPO, exactly: who writes what in turn, which rollouts make a pair, and what the student learns."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, number, prompts, run, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.searching.flow_dpo import STOP
from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel
from potstill.records import learns_end, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.scripted import student_reply, teacher_reply

P1 = number("p1", "What is 2 + 2?", "4")


def asked(text: str) -> str:
    return fill_template(STOP, {"question": P1.question, "text": text})


def say_done(request: Request) -> str:
    """Done as soon as there is a box."""
    return "Yes." if "boxed{" in str(request.prompt).partition("so far:")[2] else "No."


def solve_at_times(request: Request) -> str:
    """The world's teacher, or its student."""
    is_strong = request.random_seed("skill") / 2**63 < 0.6
    return teacher_reply(request) if is_strong else student_reply(request)


CAST = Cast(
    models={
        "answerer": ScriptedModel(solve_at_times, weights=NOWHERE, name="answerer"),
        "student": ScriptedModel(solve_at_times, weights=NOWHERE),
        "stopper": ScriptedModel(say_done, weights=NOWHERE, name="stopper"),
    },
    values={"rounds": 2},
    poses=True,
)


def flow(chunks, *, stops=say_done, **values):
    """One problem; the answer model says these chunks in turn wherever it is asked the same."""
    answerer = ScriptedModel(chunks, weights=NOWHERE, name="answerer")
    stopper = ScriptedModel(stops, weights=NOWHERE, name="stopper")
    roles = {"student": student(["\\boxed{4}"]), "answerer": answerer, "stopper": stopper}
    return run("flow_dpo", [P1], roles, rounds=1, **values), answerer, stopper


def of(*rules):
    """Chunks by what stands before them."""
    return [{"pattern": rf"{before}\Z", "answers": list(texts)} for before, texts in rules]


CHUNKS = of(
    (r"2 is ", ["\\boxed{4}."]),
    (r"= 5, ", ["\\boxed{5}."]),
    (r"4\}\.", [" No, \\boxed{5}."]),
    (r"2 \+ 2\?", [{"text": "2 + 2 is ", "finish": "length"}, "Hm, 2 + 2 = 5, "]),
)


def test_chunks_and_decisions_are_paired_by_where_they_end():
    ran, answerer, stopper = flow(CHUNKS)
    assert [stage.name for stage in ran.stages] == ["answer-1", "stop-1", "student"]
    assert [stage.objective for stage in ran.stages] == ["dpo", "dpo", "sft"]
    assert ran.texts(0) == {"p1": ["2 + 2 is  > Hm, 2 + 2 = 5, "]}
    # To stop early would have been wrong, and so would it have been to go on.
    assert sorted(zip(ran.prompts_learnt(1), ran.texts(1)["p1"], strict=True)) == [
        (asked("2 + 2 is "), "No. > Yes."),
        (asked("2 + 2 is \\boxed{4}."), "Yes. > No."),
    ]
    assert ran.stages[0].model is answerer and ran.stages[1].model is stopper
    assert ran.stages[0].constants == {"beta": 1.0, "learning_rate": 5e-6}
    assert {call.sampling.max_new_tokens for call in answerer.calls} == {160}
    assert prompts(stopper)[0] == asked("2 + 2 is ")


def test_the_student_learns_the_right_solutions_whole_with_their_end():
    ran, _, _ = flow(CHUNKS, arm="untrained")
    [row] = ran.rows
    assert row.text == "2 + 2 is \\boxed{4}." and row.prompt == P1.prompt
    assert learnt_stretches(row) == [(0, len(row.text))] and learns_end(row)
    assert len(ran.stages) == 1 and ran.stages[0].constants["num_train_epochs"] == 3


def test_a_later_chunk_is_preferred_behind_what_stands_before_it():
    chunks = of(
        (r"2 is ", ["\\boxed{4}.", "\\boxed{4}.", "\\boxed{5}."]),
        (r"\?", ["2 + 2 is "]),
        ("", ["."]),
    )
    ran, _, _ = flow(chunks)
    [row] = ran.stages[0].rows
    for side in (row, row.rejected):
        assert [side.text[start:stop] for start, stop in learnt_stretches(side)] in (
            ["\\boxed{4}."],
            ["\\boxed{5}."],
        )


@pytest.mark.parametrize("reply", ["Perhaps.", {"error": "down"}])
def test_where_the_stop_model_says_neither_a_solution_ends_by_itself(reply):
    ran, _, _ = flow(["So \\boxed{4}."], stops=[reply], arm="untrained")
    assert ran.texts() == {"p1": ["So \\boxed{4}."]}


def test_a_solution_that_is_never_done_or_fails_is_no_row_and_without_pairs_it_ends():
    with pytest.raises(StageError, match="not finished"):
        flow(["2 "], stops=["No."], max_chunks=2, arm="untrained")
    with pytest.raises(StageError, match="flow_dpo"):
        flow([{"error": "down"}])
    ran, _, _ = flow(CHUNKS, stops=[{"error": "down"}])
    assert [stage.name for stage in ran.stages] == ["answer-1", "student"]
    with pytest.raises(StageError, match="arm=untrained"):
        flow(["So \\boxed{4}."])


def test_the_student_alone_learns_its_own_right_solutions():
    ran, answerer, _ = flow(CHUNKS, arm="self")
    assert ran.texts() == {"p1": ["\\boxed{4}"]} and not answerer.calls


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["answerer=world:teacher", "stopper=world:student"]
    ran = run_on_world(
        tmp_path, "flow_dpo", roles=roles, sets=["sampling.max_new_tokens=24", "rounds=1"]
    )
    assert {"answer-1", "student"} <= set(ran.rows)
