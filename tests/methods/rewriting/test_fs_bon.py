"""FS-BoN, exactly: the two pools, what stands in the prompt of the second, and which sample is the row."""

from __future__ import annotations

from scripted_world import number, run, student

from potstill.methods.rewriting.fs_bon import SHORT
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel, render
from potstill.records import Message
from potstill.runs.cast import Cast
from potstill.traces.prompts import fill_template

# Four problems have no eight examples of other ones.
CAST = Cast(values={"n": 4, "shots": 1})

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
LONG, BRIEF = "Two and two more, which makes \\boxed{4}.", "Two twice: \\boxed{4}."
ASKED = {
    P1.prompt: [LONG, LONG, "It is \\boxed{5}.", {"text": "\\boxed{4}", "finish": "length"}],
    P2.prompt: ["Three and four make \\boxed{7}.", {"error": "down"}, "Hm.", "No, \\boxed{1}."],
}


def turns(example, text, asked):
    return (
        Message("user", f"Question: {example.question}\nSolution:"),
        Message("assistant", text),
        Message("user", f"Question: {asked.question}\nSolution:"),
    )


# Behind the example of the other problem, its own shortest right sample.
SHOWN = {
    render(turns(P2, "Three and four make \\boxed{7}.", P1)): [
        BRIEF,
        "So \\boxed{3}.",
        BRIEF,
        "Hm.",
    ],
    render(turns(P1, LONG, P2)): ["It must be that it is \\boxed{7}.", "x", "x", "x"],
}


def fs_bon(**values):
    pupil = student({**ASKED, **SHOWN})
    return run("fs_bon", [P1, P2], {"student": pupil}, n=4, shots=1, **values), pupil


def test_the_shortest_right_sample_of_both_pools_is_the_row_under_the_bare_prompt():
    ran, pupil = fs_bon()
    assert {row.problem.id: row.text for row in ran.rows} == {
        "p1": BRIEF,
        "p2": "Three and four make \\boxed{7}.",
    }
    assert {row.prompt for row in ran.rows} == {P1.prompt, P2.prompt}
    assert len(pupil.calls) == 4 * 2 * 2
    assert {request.sampling for request in pupil.calls} == {
        Sampling(0.7, top_p=0.95, top_k=40, max_new_tokens=512)
    }
    [stage] = ran.stages
    assert stage.model is pupil and stage.objective == "sft"


def test_what_is_cut_failed_wrong_unreadable_or_said_twice_is_dropped_with_its_reason():
    ran, _ = fs_bon(arm="bon")
    assert ran.dropped("is_finished") == [("", "error: down"), ("\\boxed{4}", "not finished")]
    assert [text for text, _ in ran.dropped("right")] == [
        "Hm.",
        "It is \\boxed{5}.",
        "No, \\boxed{1}.",
    ]
    assert [text for text, _ in ran.dropped("words")] == [LONG]
    assert [row.text for row in ran.rows] == [LONG, "Three and four make \\boxed{7}."]


def test_the_examples_are_parents_of_what_was_written_behind_them():
    ran, _ = fs_bon()
    row = next(row for row in ran.rows if row.text == BRIEF)
    [example] = [
        trace for trace in ran.book.traces.values() if trace.text.startswith("Three and four")
    ]
    assert set(row.parents) == {P1.id, example.id}


def test_a_writers_examples_are_shown_and_no_rows():
    asked = [fill_template(SHORT, {"prompt": problem.prompt}) for problem in (P1, P2)]
    writer = ScriptedModel(dict(zip(asked, (["\\boxed{4}"], ["\\boxed{7}"]), strict=True)))
    pupil = student([LONG])
    ran = run("fs_bon", [P1, P2], {"student": pupil, "writer": writer}, n=1, shots=1)
    assert len(writer.calls) == 2
    assert turns(P2, "\\boxed{7}", P1) in [request.prompt for request in pupil.calls]
    assert [(row.problem.id, row.author.model) for row in ran.rows] == [("p1", pupil.id)]


def test_the_controls_take_a_sample_without_regard_to_its_length():
    few_shot, _ = fs_bon(arm="few-shot")
    assert {row.text for row in few_shot.rows} == {BRIEF, "It must be that it is \\boxed{7}."}
    any_length, _ = fs_bon(arm="any-length")
    assert {row.problem.id for row in any_length.rows} == {"p1", "p2"}
    assert len(any_length.dropped("problem")) == 2
