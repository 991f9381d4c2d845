"""sample, rewrite, pose: what the writer sees, what the learner sees, draws, lineage, failures, the guard."""

from __future__ import annotations

import pytest
from fakes import Cached, Fake, Meter, sums

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion
from potstill.records import Problem, Trace, Verdict, blank, learns_end
from potstill.traces import (
    Session,
    edit,
    keep,
    line,
    ok,
    plain,
    pose,
    rewrite,
    right,
    sample,
    segment,
    using,
    verify,
    wrong,
)


class Says:
    """Answers from a list, in order; keeps the requests."""

    def __init__(self, *answers: str | Completion) -> None:
        self.id, self.answers, self.requests = "says", list(answers), []

    def write(self, requests):
        self.requests += requests
        answers = [self.answers.pop(0) for _ in requests]
        return [a if isinstance(a, Completion) else Completion(a) for a in answers]


def test_sample_writes_below_the_learners_prompt():
    [problem] = sums(1)
    model = Says(" 3.")
    [made] = sample(model, [problem], temperature=0.5, stop="\n", prefix="Well,")
    [request] = model.requests
    assert (request.prompt, request.prefix, request.sampling.stop) == (
        problem.prompt,
        "Well,",
        ("\n",),
    )
    assert (made.text, made.prefix_length, made.new, made.finish_reason) == (
        "Well, 3.",
        5,
        " 3.",
        "stop",
    )
    assert made.parents == (problem.id,) and made.operator == "sample" and made.root == ""
    assert (
        made.author.settings == (("temperature", 0.5), ("stop", ("\n",)))
        and made.author.sample_index == 0
    )


def test_sample_continues_held_text_and_keeps_what_was_said_of_it():
    [problem] = sums(1)
    [cut] = segment(
        r"(?<=\. )",
        [Trace(problem.problem, "q", text="One. Two. ", finish_reason="cut", operator="edit")],
    )
    model = Says("Three.")
    [made] = sample(model, [cut])
    assert (
        model.requests[0].prefix == "One. Two. "
        and made.text == "One. Two. Three."
        and made.prefix_length == 10
    )
    assert made.units == ("One. ", "Two. ") and made.line == cut.id == made.root


def test_prompt_is_for_the_writer_only():
    [problem] = sums(1)
    held = Trace(problem.problem, problem.prompt, text="One. ", finish_reason="cut")
    model = Says("Two.")
    [made] = sample(model, [held], prompt="Finish {text}", prefix="So: ")
    assert model.requests[0].prompt == "Finish One. " and model.requests[0].prefix == "So: "
    assert (
        made.prompt == problem.prompt and made.text == "One. So: Two." and made.prefix_length == 9
    )


def test_pose_is_for_the_learner():
    [problem] = sums(1)
    attempt = Trace(problem.problem, problem.prompt, text="bad chain", finish_reason="stop")
    [posed] = pose("Correct: {question} {text}", [attempt])
    assert posed.prompt == f"Correct: {problem.question} bad chain"
    assert posed.text == "" and posed.parents == (attempt.id,) and posed.line == attempt.id
    [made] = sample(Says("fix"), [posed], prompt="secret instruction for {prompt}")
    assert made.prompt == posed.prompt and made.line == attempt.id and made.prefix_length == 0


def test_another_run_reuses_and_sample_index_asks_for_others():
    held, meter = {}, Meter()
    model = Cached(Fake("m"), held, meter)

    def run(**how):
        with using(Session()):
            return sample(model, sums(3), **how)

    first = run()
    assert [t.id for t in run()] == [t.id for t in first] and len(meter.keys) == 3
    again = run(sample_index=1)
    assert len(meter.keys) == 6 and not {t.id for t in first} & {t.id for t in again}
    four = run(n=4)
    assert len(meter.keys) == 6 + 9 and [t.id for t in four[::4]] == [t.id for t in first]
    eight = run(n=8)
    assert len(meter.keys) == 15 + 12 and {t.id for t in four} < {t.id for t in eight}
    assert [t.author.sample_index for t in eight[:8]] == list(range(8))
    assert again[0].author.sample_index == 1_000_000


def test_equal_calls_of_one_run_take_different_samples():
    model = Fake("m")
    with using(Session()):
        once, twice = sample(model, sums(1), n=2), sample(model, sums(1), n=3)
        other = sample(model, sums(1), temperature=0.5)
    assert [t.author.sample_index for t in once + twice] == [0, 1, 2, 3, 4]
    assert other[0].author.sample_index == 0, "another temperature is another request"


def test_twins_take_different_draws():
    problem = blank(Problem("a", "Add 1, 2.")), blank(Problem("b", "Add 1, 2."))
    model = Says("x", "y", "z", "w")
    sample(model, problem, n=2)
    assert [r.sample_index for r in model.requests] == [0, 1, 2, 3]


def test_a_rewrite_has_many_parents():
    """ORION: one reference, several errors, in one prompt; joined by problem, or by line where each has its own."""
    a, b = sums(2)
    references = [
        Trace(t.problem, t.prompt, text=f"reference {t.problem.id}", finish_reason="stop")
        for t in (a, b)
    ]
    mistakes = [
        Trace(a.problem, a.prompt, text=f"mistake {i}", operator="sample") for i in range(3)
    ]
    model = Says("new a", "new b")
    ours, other = rewrite(
        model, references, prompt="{text}|{attempts}", context={"attempts": mistakes}
    )
    assert model.requests[0].prompt == "reference p0|1. mistake 0\n2. mistake 1\n3. mistake 2"
    assert model.requests[1].prompt == "reference p1|"
    assert ours.parents == (references[0].id, *(m.id for m in mistakes)) and other.parents == (
        references[1].id,
    )
    assert (
        ours.text == "new a"
        and ours.prefix_length == 0
        and ours.prompt == a.prompt
        and ours.root == references[0].id
    )

    posed = pose("{text}", mistakes)
    model = Says("1", "2", "3")
    rewrite(model, posed, prompt="{attempts}", context={"attempts": mistakes}, by=line)
    assert [r.prompt for r in model.requests] == ["1. mistake 0", "1. mistake 1", "1. mistake 2"]


def test_saw_gold_is_inherited_from_parents_and_context():
    [problem] = sums(1)
    [told] = sample(Says("x"), [problem], prompt="{question} {answer}")
    assert told.saw_gold and not problem.saw_gold
    [later] = sample(Says("y"), pose("{text}", [told]))
    [beside] = rewrite(Says("z"), [problem], prompt="{hints}", context={"hints": [told]})
    [apart] = rewrite(Says("z"), [problem], prompt="{question}", context={"hints": [told]})
    assert later.saw_gold and beside.saw_gold and not apart.saw_gold
    assert edit(lambda t: t.problem.answer + "!", [problem])[0].saw_gold
    assert not edit(lambda t: t.question + "!", [problem])[0].saw_gold


def test_a_failed_generation_is_a_trace_and_passes_through(book):
    [problem] = sums(1)
    [failed] = sample(Says(Completion("", "", error="timed out")), [problem])
    assert (
        failed.error == "timed out"
        and failed.finish_reason == ""
        and failed.parents == (problem.id,)
    )
    nobody = Says()
    assert sample(nobody, [failed], n=5) == rewrite(nobody, [failed], prompt="{text}") == [failed]
    assert pose("{text}", [failed]) == verify([failed]) == [failed]
    assert keep(right, [failed]) == keep(ok, [failed]) == []
    assert [d.reason for d in book.drops] == ["error: timed out"] * 2


def test_errored_traces_keep_their_place():
    a, b, c = sums(3)
    failed = Trace(b.problem, b.prompt, error="timed out")
    made = sample(Says("1", "2", "3", "4"), [a, failed, c], n=2)
    assert [t.text for t in made] == ["1", "2", "", "3", "4"] and made[2] is failed


def judged(problem: Trace, text: str) -> Trace:
    [trace] = verify(
        [Trace(problem.problem, problem.prompt, text=text, finish_reason="stop", operator="sample")]
    )
    return trace


def test_the_guard_keeps_a_parent_whose_answer_was_lost(book):
    [problem] = sums(1)
    gold = problem.problem.answer
    parent = judged(problem, f"long. The answer is {gold}.")
    model = Says(f"short. The answer is {gold}.", "The answer is 1.", "nothing")
    made = rewrite(model, [parent], prompt="{text}", n=3)
    assert [t.text for t in made] == [f"short. The answer is {gold}.", parent.text] and made[
        1
    ] is parent
    assert [(d.operator, d.test, d.reason) for d in book.drops] == [
        ("rewrite", "guard", f"the answer changed from {gold!r} to '1'; its parent is kept"),
        ("rewrite", "guard", f"the answer changed from {gold!r} to None; its parent is kept"),
    ]
    assert [d.trace.text for d in book.drops] == ["The answer is 1.", "nothing"]
    assert book.steps[-1] == ("rewrite", "says", 1, 2)


def test_the_guard_is_off_for_unjudged_parents_and_on_demand():
    [problem] = sums(1)
    bad = judged(problem, "The answer is 1.")
    assert bad.verdict.status == "wrong"
    fixed = f"The answer is {problem.problem.answer}."
    assert rewrite(Says(fixed), [bad], prompt="{text}") == [bad]
    assert rewrite(Says(fixed), [bad], prompt="{text}", guard=False)[0].text == fixed
    unjudged = Trace(problem.problem, problem.prompt, text="The answer is 1.")
    assert rewrite(Says(fixed), [unjudged], prompt="{text}")[0].text == fixed


def test_the_guard_takes_two_forms_of_a_right_answer_as_one(monkeypatch, judge):
    [problem] = sums(1)
    parent = Trace(problem.problem, "q", text="0.5").annotate(verdict=Verdict("right", "0.5"))
    monkeypatch.setattr(
        judge, "_verdict", lambda problem, text: Verdict("right", "1/2", "", "sum@1")
    )
    assert [t.text for t in rewrite(Says("half"), [parent], prompt="{text}")] == ["half"]


def test_a_failed_rewrite_is_an_error_and_not_a_lost_answer(book):
    [problem] = sums(1)
    parent = judged(problem, f"The answer is {problem.problem.answer}.")
    [made] = rewrite(Says(Completion("", "", error="down")), [parent], prompt="{text}")
    assert made.error == "down" and not book.drops


def test_plain_is_sampling():
    model = Fake("m")
    with using(Session()):
        one = plain(model, sums(2), n=2, temperature=0.5)
    with using(Session()):
        assert [t.id for t in sample(model, sums(2), n=2, temperature=0.5)] == [t.id for t in one]


def test_made_traces_and_funnel_lines_reach_the_ledger(book):
    made = verify(sample(Fake("m"), sums(3), n=2))
    kept = keep(wrong, made)
    assert set(book.traces) == {t.id for t in made}
    assert book.steps == [
        ("sample", "m", 3, 6),
        ("verify", "sum@1", 6, 6),
        ("keep", "wrong", 6, len(kept)),
    ]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sample(Says(), sums(1), temprature=0.5), "unknown setting 'temprature'"),
        (lambda: sample(Says(), sums(1), temperature="0.5"), "temperature is '0.5'"),
        (lambda: sample(Says(), sums(1), max_new_tokens=9.5), "max_new_tokens is 9.5"),
        (lambda: sample(Says(), sums(1), stop=3), "stop is 3"),
        (lambda: sample(Says(), sums(1), n=1.5), "n is 1.5"),
        (lambda: sample(Says(), sums(1), n=0), "n=0"),
        (lambda: sample(Says(), sums(1), sample_index=-1), "sample_index=-1"),
    ],
)
def test_wrong_calls_are_config_errors(call, says):
    with pytest.raises(ConfigError, match=says):
        call()


def test_a_model_must_answer_every_request():
    class Short(Says):
        def write(self, requests):
            return [Completion("x")]

    with pytest.raises(ModelError, match="returned 1 completions for 2 requests"):
        sample(Short(), sums(2))


def test_no_traces_make_no_call():
    model = Says()
    assert sample(model, []) == rewrite(model, [], prompt="{text}") == pose("{text}", []) == []
    assert not model.requests


def test_pose_with_its_text_moves_it_under_another_prompt():
    [problem] = sums(1)
    [chain] = verify(sample(Says("It is 3. The answer is 3."), [problem], prefix="So: "))
    [moved] = pose("Be brief. {question}", [chain], keep_text=True)
    assert moved.prompt == f"Be brief. {problem.question}" and moved.parents == (chain.id,)
    assert (moved.text, moved.new, moved.author) == (chain.text, chain.new, chain.author)
    assert (moved.verdict, moved.spans, moved.finish_reason) == (
        *(chain.verdict, chain.spans, "stop"),
    )
    assert moved.operator == "pose" and moved.line == chain.id and not moved.saw_gold
    assert learns_end(moved) and pose("{answer}", [chain], keep_text=True)[0].saw_gold
    with pytest.raises(ConfigError, match="pose both sides first"):
        pose("{question}", [chain.annotate(rejected=moved)], keep_text=True)
