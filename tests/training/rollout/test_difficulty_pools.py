"""Which prompts the student writes on: by its pass rates, without those that teach nothing, the same after a resume."""

from __future__ import annotations

from collections import Counter

import pytest
from rolling import dataset_of, load, traces, window

from potstill.difficulty import DIFFICULTY_POOLS, mistake_in_pools, pool_of
from potstill.errors import ConfigError
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout.prompt_choice import Observation, PromptChoice
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings

PROMPTS = [TokenizedRow.of(index, [index + 3], [0.0], 1) for index in range(10)]
DROP_EASY = {"hard": (0.5, 1.0), "easy": (1.0, 0.0)}


def choice_of(pools=DROP_EASY, recheck_steps=0):
    return PromptChoice(PROMPTS, pools, recheck_steps, seed=0)


def asked(choice, step, times=40):
    """How often each prompt is asked where each is planned so many times."""
    places = [f"{step}/{number}" for number in range(times * len(PROMPTS))]
    return Counter(row.trace_index for row in choice.choose(PROMPTS * times, places, step))


def test_pools_are_prime_rl_s_unless_others_are_named():
    assert [pool_of(rate, DIFFICULTY_POOLS) for rate in (0, 0.25, 0.3, 0.75, 0.8, 1)] == [
        *("hard", "hard", "normal", "normal", "easy", "easy")
    ]
    assert "weight 0" in mistake_in_pools({"all": (1.0, 0.0)})
    assert "one threshold" in mistake_in_pools({"a": (1.0, 0.0), "b": (1.0, 1.0)})


def test_what_is_planned_is_asked_until_something_else_is_known():
    choice = choice_of()
    assert choice.choose(PROMPTS, [str(i) for i in range(10)], 0) == PROMPTS
    choice.observe([Observation(0, 1.0, True, 0), Observation(1, 0.5, True, 0)])
    counts = asked(choice, 1)
    assert counts[0] == 0 and all(counts[index] >= 40 for index in range(1, 10))
    assert choice.counts(1) == {
        **{"pool_hard": 1, "pool_easy": 1, "pool_unseen": 8, "set_aside": 0},
    }


def test_a_weight_is_how_often_a_prompt_is_asked_beside_the_others():
    choice = choice_of({"hard": (0.5, 1.0), "easy": (1.0, 0.25)})
    choice.observe([Observation(index, float(index < 5), True, 0) for index in range(10)])
    counts = asked(choice, 1, times=400)
    easy, hard = (sum(counts[i] for i in part) for part in (range(5), range(5, 10)))
    assert easy / hard == pytest.approx(0.25, abs=0.03)


def test_prompts_without_spread_are_set_aside_and_checked_again():
    choice = choice_of(pools={}, recheck_steps=3)
    choice.observe([Observation(0, 0.0, False, 1)])
    assert [asked(choice, step)[0] > 0 for step in (2, 3, 4)] == [False, False, True]
    # Where nothing is left, those that were asked longest ago are asked again.
    choice.observe([Observation(index, 0.0, False, 4 + (index > 1)) for index in range(10)])
    assert set(asked(choice, 5)) == {0, 1}


def test_a_resumed_choice_is_the_same():
    choice, other = choice_of(recheck_steps=5), choice_of(recheck_steps=5)
    choice.observe([Observation(index, index / 9, index % 3 > 0, index) for index in range(9)])
    other.restore(choice.state())
    assert asked(choice, 9) == asked(other, 9) and other.state() == choice.state()


def test_even_groups_are_replaced_in_the_step_and_what_was_asked_is_observed(tiny_checkpoint):
    model, template = load(tiny_checkpoint)
    rows = traces(6)

    def only_even_problems(problem, text):
        return len(text) * float(int(problem.id) % 2 == 0)

    config = ObjectiveConfig(
        "grpo",
        on_policy_fraction=1.0,
        num_generations=3,
        max_new_tokens=6,
        reward=only_even_problems,
        recheck_steps=9,
        max_resample_times=8,
    )
    roll = Rollouts(rows, template, config, TrainingSettings(max_steps=9))
    roll.choose_among(dataset_of(rows, template, prompts=True).item_rows)
    (batch,) = roll(model, window(template, rows, size=6), When(0, 9))
    assert {index % 2 for index in batch["trace_index"].tolist()} == {0}
    assert batch["advantages"].abs().sum() > 0 and batch["tries"].max() > 1
    swapped = batch["swapped"][:, 0].view(6, 3)
    assert swapped[1::2].all() and not swapped[0].any()
    assert roll.statistics(When(1, 9)) == {"pool_unseen": 0, "set_aside": 3}
    # In the next step they are not asked at all.
    (batch,) = roll(model, window(template, rows, size=6), When(1, 9))
    assert set(batch["tries"][:, 0].tolist()) == {1.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"difficulty_pools": {"all": (1.0, 0.0)}}, "every difficulty pool has the weight 0"),
        ({"difficulty_pools": DROP_EASY, "on_policy_fraction": 0.5}, "prompts are chosen for"),
        ({"max_resample_times": 1}, "without rewards"),
    ],
)
def test_choices_that_can_t_be_made_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig("jsd", teacher="t", **{"on_policy_fraction": 1.0, **fields})
