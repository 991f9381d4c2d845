"""The scores of ELAD's selection, exactly: entropy of answers, what a step's absence changes, and the noise of that."""

from __future__ import annotations

import json
import math

import pytest
from scripted_world import student

from potstill.methods.selecting.elad.egss import (
    Probed,
    change_shares,
    combine_scores,
    sample_chains,
    score_steps,
    standing_chains,
)
from potstill.methods.selecting.elad.selection import (
    count_ties,
    select_highest,
    select_same_length,
)
from potstill.methods.selecting.elad.settings import Selection, Settings
from potstill.methods.selecting.elad.steps import cut_into_steps, step_starts
from potstill.records import Problem, Trace, blank
from potstill.traces import Session, using

ASKED = blank(Problem("p", "What is 2 + 3 + 4?", kind="number"))
CHAIN = "2 + 3 = 5. 5 + 4 = 9. The answer is 9."


def scored(texts, selection, asked=ASKED):
    """The standing chain of a student who writes these texts in turn, probed by continuing them."""
    pupil = student(texts)
    with using(Session()):
        chains = sample_chains(pupil, [asked], selection.n, selection.settings)
        standing = standing_chains(pupil, [asked], chains, selection.settings)
        [chain] = score_steps(pupil, standing, chains, selection)
    return pupil, chain


@pytest.mark.parametrize(
    ("answers", "choices", "inter"),
    [
        (["1", "1", "1", "1"], (), 0.0),
        (["1", "2", "3", "4"], (), 1.0),
        (["1", "1", "2", "2"], (), math.log(2) / math.log(4)),
        (["1", "1.0", "2", "2"], ("1", "2"), 1.0),
        (["1", "Hm.", "2", "1"], (), (math.log(3) - 2 / 3 * math.log(2)) / math.log(4)),
        (["Hm.", "Well."] * 2, (), None),
    ],
)
def test_inter_is_the_entropy_of_equal_answers_over_its_maximum(answers, choices, inter):
    asked = blank(Problem("p", "?", kind="number", choices=choices))
    with using(Session()):
        [first, *_] = sample_chains(student(answers), [asked], 4, Settings())
    assert first.scores["inter"] == (None if inter is None else pytest.approx(inter))


def test_the_branch_goes_on_with_and_without_each_step():
    selection = Selection(n=1)
    # The chain, without step 1 and 2, with step 1 and 2.
    texts = [CHAIN, "It is 9.", " It is 8.", " It is 9.", " It is 9."]
    pupil, _ = scored(texts, selection)
    assert [call.prefix for call in pupil.calls] == [
        "",
        "",
        "2 + 3 = 5.",
        "2 + 3 = 5.",
        "2 + 3 = 5. 5 + 4 = 9.",
    ]
    assert len({(call.prefix, call.sample_index) for call in pupil.calls}) == 5


def test_the_branchs_answers_are_compared_step_by_step_and_between_two_steps_for_the_noise():
    def write(request):
        # By the text that is continued and which sample of it is taken: with step 1 it is 9, without step 2 it is 8.
        if not request.prefix:
            return CHAIN
        if request.prefix == "2 + 3 = 5.":
            return (
                request.prefix
                + (" The answer is 8.", " The answer is 9.")[request.sample_index % 2]
            )
        return request.prefix + " The answer is 9."

    _, chain = scored(write, Selection(n=1))
    assert json.loads(chain.scores["probes"]) == [[1, "9", "9"], [2, "9", "8"], [0, "9", "8"]]
    assert chain.scores["change"] == 0.5 and chain.scores["noise"] == 1.0


def test_drop_one_has_the_answer_written_behind_all_steps_but_one():
    def write(request):
        if not request.prefix:
            return CHAIN
        kept = request.prefix.removesuffix(" The answer is \\boxed{")
        answers = {"2 + 3 = 5. 5 + 4 = 9.": "9}", "5 + 4 = 9.": "9}.", "2 + 3 = 5.": "5}"}
        return request.prefix + answers[kept]

    pupil, chain = scored(write, Selection(n=1, probe="drop-one"))
    assert json.loads(chain.scores["probes"]) == [[0, "9", "9"], [1, "9", "9"], [2, "9", "5"]]
    assert (chain.scores["change"], chain.scores["noise"]) == (0.5, 0.0)
    assert {call.sampling.max_new_tokens for call in pupil.calls[1:]} == {16}


def test_all_chains_may_be_probed_and_the_greedy_one_may_stand_for_its_problem():
    pupil, _ = scored([CHAIN], Selection(n=3, settings=Settings(probed="all")))
    assert len(pupil.calls) == 3 + 3 * 4
    pupil, chain = scored([CHAIN], Selection(n=3, settings=Settings(probed="greedy")))
    assert len(pupil.calls) == 3 + 1 + 4 and pupil.calls[3].sampling.temperature == 0
    assert chain.scores["inter"] == 0.0


def test_equal_answers_are_no_change_and_unreadable_ones_are_no_comparison():
    asked = Problem("p", "?", kind="math")
    probes = [
        Probed(asked, 1, "0.5", "\\frac12"),
        Probed(asked, 2, "3", None),
        Probed(asked, 3, "3", "4"),
    ]
    assert change_shares(probes) == {"p": 0.5}
    assert change_shares([Probed(asked, 1, None, None)]) == {"p": None}


def test_a_chain_that_is_only_an_answer_has_no_steps_to_probe():
    pupil, chain = scored(["The answer is 9."], Selection(n=2))
    assert len(pupil.calls) == 2 and chain.scores["change"] is None


@pytest.mark.parametrize(
    ("terms", "score"),
    [
        ({}, 0.7 + 0.25),
        ({"sign": "same"}, 0.7 + 0.75),
        ({"settings": Settings(intra_weight=2.0)}, 0.7 + 0.5),
        ({"settings": Settings(subtract_noise=True)}, 0.7 + 0.15),
        ({"settings": Settings(subtract_noise=True), "sign": "same"}, 0.7 + 0.85),
        ({"inter": False}, 0.25),
        ({"intra": False}, 0.7),
        ({"inter": False, "intra": False}, None),
    ],
)
def test_the_two_terms_add_up_and_each_can_be_left_out(terms, score):
    chain = Trace(ASKED.problem, "?", CHAIN).annotate(
        scores={"inter": 0.7, "change": 0.25, "noise": 0.1}
    )
    [chain] = combine_scores([chain], **terms)
    assert chain.scores["egss"] == (None if score is None else pytest.approx(score))


def chains_with(scores):
    chains = []
    for number, value in enumerate(scores):
        chain = Trace(
            Problem(f"p{number}", "?", kind="number"),
            "?",
            "1 + 1 = 2. " * (number % 3) + "It is 2.",
        )
        chains.append(chain.annotate(scores={"egss": value}))
    return cut_into_steps(chains, Settings())


def test_equal_scores_are_decided_by_the_seed_and_not_by_the_order_of_the_problems():
    chains = chains_with([0.5, 0.9, 0.5, 0.5, None])
    chosen = [select_highest(chains, 2, seed) for seed in range(6)]
    assert {one.problem.id for one, _ in chosen} == {"p1"}
    assert {other.problem.id for _, other in chosen} > {"p0"}
    assert select_highest(chains[::-1], 2, 3) == chosen[3]
    assert select_highest(chains, 5, 0)[-1].problem.id == "p4"
    assert count_ties(chains, chosen[0]) == 1


def test_chance_with_equal_lengths_takes_as_many_of_each_number_of_steps():
    chains = chains_with([0.1] * 9)
    pattern = [chains[2], chains[5], chains[0]]
    lengths = {
        tuple(sorted(len(chain.units) for chain in select_same_length(chains, pattern, seed)))
        for seed in range(4)
    }
    assert lengths == {(1, 3, 3)}


def test_a_long_chain_is_cut_into_few_steps_and_its_last_sentence():
    text = "".join(f"{number} + 1 = {number + 1}. " for number in range(30)) + "The answer is 30."
    starts = step_starts(Settings().step_pattern, 4, text)
    pieces = [
        text[start:stop] for start, stop in zip([0, *starts], [*starts, len(text)], strict=True)
    ]
    assert len(pieces) == 5 and pieces[-1] == " The answer is 30."
    assert [piece.count("=") for piece in pieces] == [8, 7, 7, 8, 0]
    assert len(step_starts(Settings().step_pattern, 40, text)) == 30
