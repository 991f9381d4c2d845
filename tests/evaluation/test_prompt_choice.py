"""Which prompt is chosen, and what may be said of it."""

from __future__ import annotations

import pytest

from potstill.errors import StageError
from potstill.evaluation.prompt_choice import PromptOutcome, choose_prompt


def outcome(name: str, *shares: float, control: bool = False, first: int = 0) -> PromptOutcome:
    by_problem = {f"p{first + n}": share for n, share in enumerate(shares)}
    texts = {
        problem: frozenset({"same"} if share == 1 else {name})
        for problem, share in by_problem.items()
    }
    return PromptOutcome(
        name, control, by_problem, texts, len(shares), {}, {"right: wrong": 2}, 5.0
    )


def test_the_largest_share_is_chosen_of_equal_ones_the_first_and_never_a_control() -> None:
    choice = choose_prompt(
        [
            outcome("a", 0, 1, 0),
            outcome("b", 1, 1, 0),
            outcome("c", 1, 0, 1),
            outcome("none", 1, 1, 1, control=True),
        ]
    )
    assert choice.name == "b"
    assert [prompt.outcome.name for prompt in choice.prompts] == ["b", "c", "a", "none"]
    assert choice.prompts[0].difference is None
    assert [prompt.like_control for prompt in choice.prompts] == [2 / 3, 2 / 3, 1 / 3, None]
    assert choice.sentences[-1].startswith("67% of the texts of b are word for word a control's")
    assert choice.prompts[3].difference.value == pytest.approx(1 / 3)


def test_it_is_compared_with_the_next_one_the_one_in_use_and_the_best_control() -> None:
    wins, loses = [1.0] * 8, [0.0] * 8
    choice = choose_prompt(
        [
            outcome("now", *loses),
            outcome("best", *wins),
            outcome("next", *wins),
            outcome("none", *loses, control=True),
        ],
        current="now",
    )
    more, most = "gives more sound texts than", "is not distinguishable from"
    assert [sentence.split(" (")[0] for sentence in choice.sentences] == [
        f"best {most} next",
        f"best {more} now",
        f"best {more} none",
    ]


def test_problems_are_those_of_the_variants_and_no_text_counts_as_none_sound() -> None:
    choice = choose_prompt(
        [outcome("a", 1, 1), outcome("b", 1, 1, 1), outcome("none", 1, 1, 1, 1, 1, control=True)]
    )
    assert choice.problems == ("p0", "p1", "p2") and choice.name == "b"
    assert [prompt.share.value for prompt in choice.prompts] == pytest.approx([1, 2 / 3, 1])


def test_without_a_sound_text_there_is_no_choice() -> None:
    with pytest.raises(
        StageError, match=r"no prompt gave a sound text on 2 problems; a: right: wrong \(2\)"
    ):
        choose_prompt([outcome("a", 0, 0), outcome("b", 0, 0), outcome("none", 1, 1, control=True)])
