"""The gym's problems for a pretrained student, in splits that share none, and the program that is their teacher."""

from __future__ import annotations

from random import Random

import pytest

from potstill.errors import ConfigError, InputError
from potstill.models.model import Message, Model, Request, Sampling, Trainable
from potstill.runs.sources import load_model, load_problems
from potstill.verifiers.equations import follow
from potstill.verifiers.equations.families import FAMILIES, solve_question
from potstill.verifiers.equations.leg_counting import LEGS
from potstill.world.gym.problems import SPLITS, make_problems
from potstill.world.gym.styles import write_short

SUM = "State the final answer to the following arithmetic problem: 3 + 4 - 2 ="


def ask(prompt, prefix: str = "", style: str = "long", **sampling):
    teacher = load_model(f"world:gym-teacher?style={style}")
    [completion] = teacher.write([Request(prompt, prefix, Sampling(**sampling))])
    return completion


def test_the_splits_of_a_family_share_no_problem():
    pytest.importorskip("reasoning_gym")
    questions: list[str] = []
    for split in SPLITS:
        for seed in (0, 1):
            problems = make_problems("gym-products", size=20, split=split, seed=seed)
            questions += {problem.question for problem in problems}
            assert len({problem.id for problem in problems}) == 20
    by_split = [set(questions[start : start + 40]) for start in range(0, 160, 40)]
    assert not set.intersection(*by_split[:2]) and not by_split[0] & by_split[3]


def test_the_mixture_takes_its_families_in_turn():
    pytest.importorskip("reasoning_gym")
    problems = load_problems("world:gym?split=dev&size=7")
    families = [problem.metadata["family"] for problem in problems]
    assert len(problems) == 7 and len(set(families[:3])) == 3 and families[0] == families[3]


@pytest.mark.slow  # sympy makes simple_equations
@pytest.mark.parametrize("family", FAMILIES)
def test_solutions_have_the_answers_of_reasoning_gym(family):
    gym = pytest.importorskip("reasoning_gym")
    settings = dict(FAMILIES[family].settings)
    dataset = gym.create_dataset(family, size=200, seed=7, **settings)
    solved = 0
    for item in dataset:
        solution = solve_question(item["question"].strip())
        if solution is not None:
            solved += 1
            assert dataset.score_answer(str(solution.answer), item) == 1.0
            assert write_short(solution, Random(0)).endswith(f"\\boxed{{{item['answer']}}}.")
    assert solved > 180


def test_animals_have_as_many_legs_as_in_reasoning_gym():
    pytest.importorskip("reasoning_gym")
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    assert dict(LEGS) == ANIMALS


def test_an_unknown_split_and_a_split_that_is_too_small_are_refused():
    pytest.importorskip("reasoning_gym")
    with pytest.raises(ConfigError, match="no split 'tset'"):
        make_problems("gym", size=3, split="tset")
    with pytest.raises(InputError, match="distinct problems"):
        make_problems("gym-count-bits", size=500, split="dev")


def test_the_teacher_knows_what_its_prompt_shows_and_nothing_else():
    teacher = load_model("world:gym-teacher")
    assert isinstance(teacher, Model) and not isinstance(teacher, Trainable)
    assert ask(SUM, style="short").text == (
        "Start with 3. Next, 3 + 4 = 7. Then 7 - 2 = 5. So the answer is \\boxed{5}."
    )
    other = ask((Message("user", SUM.replace("3 + 4", "9 + 4")),))
    assert "\\boxed{11}" in other.text and other.finish_reason == "stop"
    assert "no question" in ask("How are you?").error


def test_samples_of_a_long_chain_differ_and_a_stop_string_ends_one():
    teacher = load_model("world:gym-teacher?style=long")
    requests = [Request(SUM, sample_index=index) for index in range(8)]
    assert len({completion.text for completion in teacher.write(requests)}) > 3
    stopped = ask(SUM, style="plain", stop=("Now",))
    assert stopped.finish_reason == "stop_string" and "Now" not in stopped.text


@pytest.mark.parametrize("prefix", ["Start with 3. 3 + 4 = 7.", "3 + 4 = 8. "])
def test_the_teacher_goes_on_behind_a_prefix_and_starts_again_behind_an_error(prefix):
    text = prefix + ask(SUM, prefix).text
    solution = solve_question(SUM)
    spans = follow.follow_text(solution, text).spans()
    assert spans[-1].score == 1.0 and text.count("\\boxed") == 1
    assert ("Start again" in text) == ("8" in prefix)


def test_an_unknown_style_is_refused():
    with pytest.raises(ConfigError, match="not one of short, plain, long"):
        load_model("world:gym-teacher?style=verbose")


@pytest.mark.parametrize(
    ("spec", "found", "fix"),
    [
        ("world:gym-nosuch", "no world task called 'gym-nosuch'", "world:gym"),
        ("world:walk-nosuch?split=x", "no world task called 'walk-nosuch'", "world:walk"),
        ("world:wolk", "no world task called 'wolk'", "world:walk"),
        ("world:nosuch", "no world task called 'nosuch'", "world:story"),
        (
            "world:gym-teacher?style=long",
            "is a model, no task",
            "--teacher world:gym-teacher?style=long",
        ),
        ("world:walk?split=tset", "unknown split 'tset' (nearest: test)", "world:walk?split=test"),
        ("world:story?split=", "unknown split ''", "world:story?split=test"),
        ("world:gym?split=tset", "unknown split 'tset' (nearest: test)", "world:gym?split=test"),
        ("world:walk?siez=3", "unknown option 'siez'", "world:walk?split=test"),
        ("gym:chain_sum?size=x", "has the size 'x'", "gym:chain_sum?size=100"),
        ("gym:chain_sum?size=0", "has the size 0", "gym:chain_sum?size=100"),
    ],
)
def test_a_mistake_in_a_spec_is_named_with_what_helps(spec, found, fix):
    with pytest.raises((ConfigError, InputError)) as refusal:
        load_problems(spec)
    assert found in refusal.value.found
    assert refusal.value.fix.startswith(fix)


def test_a_task_is_no_model():
    with pytest.raises(ConfigError, match="world:story is a task, no model"):
        load_model("world:story")
    with pytest.raises(ConfigError, match="no world model called 'nosuch'"):
        load_model("world:nosuch?x=1")
