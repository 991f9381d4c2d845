"""verify and score: annotations only, cached by content, replaced when judged again."""

from __future__ import annotations

import dataclasses
import math

import pytest
from fakes import Fake, sums

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion
from potstill.models.scoring import Passage
from potstill.records import Problem, Span, Trace, blank
from potstill.store import with_cache
from potstill.traces import (
    ask,
    keep,
    length,
    nll,
    perplexity,
    right,
    sample,
    score,
    sound,
    steps,
    unparsed,
    verify,
)

PROBLEM = Problem("p", "Add 3, 5, 9.", "17", kind="sum")


def chain(text: str, problem: Problem = PROBLEM) -> Trace:
    return Trace(problem, problem.question, text=text, finish_reason="stop", operator="sample")


GOOD = chain("3 + 5 = 8. Then 8 + 9 = 17. The answer is 17.")
LUCKY = chain("3 + 5 = 7. Then 8 + 9 = 17. The answer is 17.")
BARE = chain("The answer is 17.")
LOST = chain("3 + 5 = 8. Hm.")


def test_verdicts_steps_and_sound():
    good, lucky, bare, lost = verified = verify([GOOD, LUCKY, BARE, LOST])
    assert [t.verdict.status for t in verified] == ["right", "right", "right", "unparsed"]
    assert [t.scores["steps"] for t in verified] == [1.0, 0.0, None, 1.0]
    assert [(s.start, s.stop, s.score) for s in lucky.spans] == [(0, 10, 0.0), (16, 27, 1.0)]
    assert (
        keep(sound, verified) == [good] and keep(unparsed, verified) == [lost] and bare.spans == ()
    )
    assert [t.id for t in verified] == [t.id for t in (GOOD, LUCKY, BARE, LOST)]


def test_reasons_why_not_sound(book):
    keep(sound, verify([LUCKY, BARE, LOST, chain("The answer is 1.")]))
    assert [d.reason for d in book.drops] == [
        "right answer, but a step is wrong",
        "right answer, no steps judged",
        "unparsed: no answer",
        "wrong: 1 is not 17",
    ]


def test_reverification_keeps_every_id_and_pays_nobody(judge):
    model = Fake("m")
    first = verify(sample(model, sums(5), n=3))
    asked, judged = len(model.requests), len(judge.judged)
    assert judged == len({(t.problem.id, t.text) for t in first}), "equal texts are judged once"
    again = verify(first)
    assert again == first and [t.id for t in again] == [t.id for t in first]
    assert len(model.requests) == asked and len(judge.judged) == judged


def test_a_new_verifier_version_judges_again_and_replaces_verdict_and_steps(judge):
    [old] = verify([LUCKY.annotate(spans=(Span(0, 5, "unit"),), scores={"x": 1.0})])
    judge.number = 2
    [new] = verify([old])
    assert len(judge.judged) == 2 and new.verdict.verifier == "sum@2" and new.id == old.id
    assert [s.kind for s in new.spans] == ["unit", "step", "step"] and new.scores == {
        "x": 1.0,
        "steps": 0.0,
    }


def test_a_kind_without_step_verifier_gets_no_steps():
    plain = chain("The answer is 17.", Problem("p", "Add 3, 5, 9.", "17", kind="number"))
    [judged] = verify([plain.annotate(spans=(Span(0, 3, "step", 1.0, 0.5),))])
    assert "steps" not in judged.scores and judged.spans == (Span(0, 3, "step", 1.0, 0.5),)


def test_blank_problems_are_not_judged_but_empty_completions_are(judge):
    class Silent(Fake):
        def write(self, requests):
            return [Completion("") for _ in requests]

    problem = blank(PROBLEM)
    [empty] = sample(Silent("m"), [problem])
    assert [t.verdict.status for t in verify([problem, empty])] == ["unjudged", "unparsed"]
    assert judge.judged == [("p", "")]


def test_without_a_session_verify_judges_equal_texts_once(judge):
    from contextvars import Context

    result = Context().run(verify, [GOOD, GOOD, LOST])
    assert [t.verdict.status for t in result] == ["right", "right", "unparsed"] and len(
        judge.judged
    ) == 2


def test_hostile_text_is_judged_as_it_is(judge):
    [trace] = verify([chain("\ud800 {answer} \x00 The answer is 17")])
    assert right(trace) and judge.judged == [("p", "\ud800 {answer} \x00 The answer is 17")]


def test_verdicts_are_kept_by_exact_text_and_whole_problem(judge):
    other = dataclasses.replace(PROBLEM, answer="18")
    traces = [
        chain("The answer is 17"),
        chain("The answer is 17 "),
        chain("The answer is 17", other),
    ]
    assert [t.verdict.status for t in verify(traces)] == ["right", "right", "wrong"] and len(
        judge.judged
    ) == 3


def test_plain_scorers():
    [trace] = score("share", steps, score("length", length, verify([LUCKY])))
    assert (
        trace.scores == {"steps": 0.0, "length": float(len(LUCKY.text)), "share": 0.5}
        and trace.id == LUCKY.id
    )
    assert score("share", steps, [GOOD])[0].scores == {"share": None}, "not verified: cannot tell"
    assert (
        score("twice", lambda ts: [2 * len(t.text) for t in ts], [BARE])[0].scores["twice"] == 34.0
    )


class Counting(Fake):
    """Counts what it measures."""

    def likelihood(self, passages):
        self.passages = [*getattr(self, "passages", []), *passages]
        return super().likelihood(passages)


def test_nll_and_perplexity_share_their_stored_values(store):
    real = Counting("m")
    model = with_cache(real, store, role="scorer", arm="sft", seed=0)
    traces = [GOOD, BARE, GOOD, chain("")]
    elsewhere = Trace(PROBLEM, "Another prompt", text=GOOD.text)
    score("nll", nll(model), [elsewhere])
    assert real.passages.pop() == Passage("Another prompt", GOOD.text)
    scored = score("ppl", perplexity(model), score("nll", nll(model), traces))
    assert len(real.passages) == 2, (
        "equal ones once, an empty text never, for the second scorer none"
    )
    assert store.usage("sft")["scorer"]["calls"] == 3
    for trace in scored[:3]:
        [logprobs] = Fake("m").likelihood([(trace.prompt, trace.text)])
        assert trace.scores["nll"] == pytest.approx(-sum(logprobs) / len(logprobs))
        assert trace.scores["ppl"] == pytest.approx(math.exp(trace.scores["nll"]))
    assert scored[3].scores == {"nll": None, "ppl": None}


def answer_after(trace):
    return Passage(trace.prompt, trace.problem.answer, prefix=trace.text)


def test_nll_of_something_else():
    model = Counting("m")
    score("nll", nll(model, answer_after), [LOST])
    assert model.passages == [Passage("Add 3, 5, 9.", "17", prefix=LOST.text)]


def test_a_black_box_gives_no_likelihoods():
    class Box:
        id = "box"

    with pytest.raises(ModelError, match="box gives no likelihoods"):
        score("nll", nll(Box()), [GOOD])


def yes_no(reply: str) -> float | None:
    return {"yes": 1.0, "no": 0.0}.get(reply.strip())


def test_ask_reads_a_reply_or_none():
    class Replies(Fake):
        def write(self, requests):
            self.requests += requests
            return [Completion("yes"), Completion("perhaps"), Completion("", "", error="down")]

    model = Replies("m")
    failed = Trace(PROBLEM, "q", error="x")
    scored = score(
        "sound",
        ask(model, "Fine? {text} {answer}", yes_no, temperature=0.0),
        [GOOD, failed, LUCKY, BARE],
    )
    assert [t.scores.get("sound", "-") for t in scored] == [1.0, "-", None, None]
    assert (
        model.requests[0].prompt == f"Fine? {GOOD.text} 17"
        and model.requests[0].sampling.temperature == 0
    )
    assert not scored[0].saw_gold, "the judge saw it, the author did not"


@pytest.mark.parametrize(
    ("scorer", "error", "says"),
    [
        (lambda ts: [1.0, 2.0], ConfigError, "returned 2 values"),
        (lambda ts: [math.nan], ModelError, "gave nan for trace"),
        (lambda ts: [math.inf], ModelError, "gave inf for trace"),
    ],
)
def test_scorers_are_checked(scorer, error, says):
    with pytest.raises(error, match=says):
        score("x", scorer, [GOOD])
