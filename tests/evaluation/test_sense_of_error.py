"""ΔPPL between right and wrong chains, from a scripted model's likelihoods."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from potstill.errors import InputError, StageError
from potstill.evaluation.intervals import student_t_quantile
from potstill.evaluation.sense_of_error import (
    PairLikelihood,
    count_shared,
    sense_change,
    sense_of_error,
    summarize_sense,
)
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Trace, blank


def chain(problem: str, right: str, wrong: str) -> Trace:
    trace = blank(Problem(problem, "?", "1"))
    return replace(trace, text=right, rejected=replace(trace, text=wrong))


def test_it_is_by_token_so_that_length_counts_for_nothing() -> None:
    def logprobs(passage):
        # Two tokens of ln 2 each for a right chain, four of ln 4 for a wrong one.
        return [-math.log(4)] * 4 if "wrong" in passage.text else [-math.log(2)] * 2

    found = sense_of_error(
        ScriptedModel([""], logprobs=logprobs),
        [chain("a", "good", "wrong"), chain("b", "fine", "wrong too")],
    )
    assert found.delta_perplexity.value == pytest.approx(2)
    assert found.delta_nll.value == pytest.approx(math.log(2))
    assert found.auroc.value == found.in_pair == 1


def test_what_both_chains_share_is_read_and_not_scored() -> None:
    model = ScriptedModel([""])
    pairs = [chain("a", "2 + 2 = 4. Then 4 * 2 = 8.", "2 + 2 = 4. Then 4 * 2 = 88.")]
    sense_of_error(model, pairs, after_shared=True)
    assert [(passage.prefix, passage.text) for passage in model.scored] == [
        ("2 + 2 = 4. Then 4 * 2 =", " 8."),
        ("2 + 2 = 4. Then 4 * 2 =", " 88."),
    ]
    assert count_shared("other", "words") == 0
    with pytest.raises(InputError, match="a chain of problem 'a' has no likelihood"):
        sense_of_error(model, [chain("a", "good", "")])


def test_pairs_of_one_problem_hang_together() -> None:
    gains = [("a", 1), ("a", 1), ("b", 2), ("c", 4)]
    pairs = [PairLikelihood(problem, 0.0, math.log(1 + gain)) for problem, gain in gains]
    found = summarize_sense(pairs)
    assert found.delta_perplexity.value == pytest.approx(2)
    # Deviations of the problems' sums -2, 0 and 2: SE^2 = 3/2 * 8 / 16.
    half = student_t_quantile(2) * math.sqrt(3 / 2 * 8 / 16)
    assert found.delta_perplexity.half == pytest.approx(half)


def test_a_training_changes_it_pair_by_pair() -> None:
    before = summarize_sense([PairLikelihood(p, 0.0, math.log(2)) for p in "abc"])
    gains = {"a": 1, "b": 2, "c": 3}
    after = summarize_sense([PairLikelihood(p, 0.0, math.log(2 + gains[p])) for p in "abc"])
    assert sense_change(before, after).value == pytest.approx(2)
    with pytest.raises(InputError, match="other pairs after than before"):
        sense_change(before, summarize_sense(before.pairs[:2]))


def test_what_has_no_wrong_chain_is_refused() -> None:
    lonely = replace(chain("a", "good", "wrong"), rejected=None)
    with pytest.raises(StageError, match="has no wrong chain beside it"):
        sense_of_error(ScriptedModel([""]), [lonely])
