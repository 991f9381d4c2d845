"""`training.<stage>` in recipes and on the command line: what a stage is trained with, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill.errors import ConfigError
from potstill.methods.catalogue import describe_method
from potstill.records import Problem, Stage, Trace
from potstill.runs import conformance
from potstill.runs.cast import Case
from potstill.runs.recipe import Recipe, from_data
from potstill.runs.stages import ArmStages
from potstill.store.store import Store
from potstill.training.settings import TrainingSettings

METHODS = """
from potstill.models.model import Model, Trainable
from potstill.methods.catalogue import describe_method
from potstill.records import Problem, Stage, Trace
from potstill.runs import conformance
from potstill.runs.cast import Case
from potstill.store.store import Store
from potstill.traces import sample


def two(problems, teacher: Model, student: Trainable):
    "A warm-up, then preferences."
    chains = sample(teacher, problems)
    student = yield Stage(student, chains, "sft", name="warm-up")
    yield Stage(student, chains, "redi", name="pairs", alpha=0.5)


def rounds(problems, teacher: Model, student: Trainable, *, n: int = 3):
    "As many stages as a value says, each with a name that is made."
    for number in range(n):
        student = yield Stage(student, sample(teacher, problems), "sft", name=f"round-{number}")
"""


@pytest.fixture
def recipe(tmp_path: Path):
    (tmp_path / "mine.py").write_text(METHODS)

    def make(training: dict[str, Any], *sets: str, method: str = "two", **parts: Any) -> Recipe:
        data = {
            "method": f"{tmp_path / 'mine.py'}:{method}",
            "roles": {"teacher": "scripted:t", "student": "world:student"},
            "problems": "world:story",
            "training": training,
        }
        return from_data({**data, **parts}, sets)

    return make


def settings(made: Recipe) -> dict[str, tuple[float, int]]:
    """By stage, "" for the arm: learning rate and epochs."""
    [arm] = made.arms.values()
    found = {"": (arm.training.learning_rate, arm.training.num_train_epochs)}
    for label, training in arm.training_by_stage.items():
        found[label] = (training.learning_rate, training.num_train_epochs)
    return found


def test_a_stages_settings_stand_over_its_arms(recipe) -> None:
    made = recipe({"lr": 1e-3, "epochs": 5, "pairs": {"lr": 1e-4}, 1: {"epochs": 2}})
    assert settings(made) == {"": (1e-3, 5), "pairs": (1e-4, 5), "1": (1e-3, 2)}
    stages = ArmStages("two", made.arms["two"].training, made.arms["two"].training_by_stage)
    assert stages.settings("pairs").learning_rate == 1e-4
    assert stages.settings("warm-up").learning_rate == 1e-3


def test_an_arms_own_stage_wins_over_the_shared_one(recipe) -> None:
    method = recipe({}).arms["two"].method
    arms = {"a": {"method": method, "training": {"pairs": {"lr": 1e-5}}}}
    made = recipe({"pairs": {"lr": 1e-4, "epochs": 7}}, arms=arms)
    assert settings(made)["pairs"] == (1e-5, 7)


@pytest.mark.parametrize(
    ("sets", "pairs"),
    [
        (["training.pairs.lr=1e-6"], (1e-6, 3)),
        (["training.lr=1e-2"], (1e-2, 3)),
        (["training.lr=1e-2", "training.pairs.learning_rate=1e-6"], (1e-6, 3)),
        (["training.pairs.learning_rate=1e-6", "training.lr=1e-2"], (1e-6, 3)),
        (["training.epochs=9"], (1e-4, 9)),
        (["training.pairs={lr: 1e-6, epochs: 4}"], (1e-6, 4)),
        (["training.pairs={epochs: 4}"], (1e-4, 4)),
    ],
)
def test_the_command_line_wins_over_a_stages_block(
    recipe, sets: list[str], pairs: tuple[float, int]
) -> None:
    assert settings(recipe({"pairs": {"lr": 1e-4}}, *sets))["pairs"] == pairs


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"pears": {"lr": 1e-4}},
            r"training\.pears: unknown setting or stage .*nearest: training\.pairs",
        ),
        ({"pairs": {"lrr": 1e-4}}, r"training\.pairs\.lrr: unknown setting"),
        ({"pairs": {"lr": "x"}}, r"training\.pairs\.lr: expected a number"),
        ({0: {"lr": 1e-4}}, "numbered from 1"),
        ({"pairs": {"objective_config": {"alpha": "x"}}}, "alpha: expected a number"),
        ({"pairs": {"objective_config": {"beta": 1}}}, "beta"),
    ],
)
def test_mistakes_in_a_stages_settings_have_their_key(recipe, training, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(training)


def test_an_objective_config_of_a_stage_is_checked_for_that_stage_alone(recipe) -> None:
    made = recipe({"pairs": {"objective_config": {"alpha": 0.8}}})
    arm = made.arms["two"]
    assert arm.training_by_stage["pairs"].objective_config == {"alpha": 0.8}
    assert arm.training.objective_config == {}


def test_names_that_a_method_makes_while_it_runs_are_taken(recipe) -> None:
    made = recipe({"round-2": {"lr": 1e-4}}, method="rounds")
    assert "round-2" in made.arms["rounds"].training_by_stage


def test_a_recipe_with_stages_comes_back_from_its_json(recipe) -> None:
    made = recipe({"pairs": {"lr": 1e-4}}, evaluate={"problems": "world:story", "stages": True})
    plain = made.to_json()
    assert plain["arms"]["two"]["training_by_stage"]["pairs"]["learning_rate"] == 1e-4
    assert plain["evaluate"]["stages"] is True
    without = recipe({}).to_json()
    assert "training_by_stage" not in without["arms"]["two"] and "stages" not in without["evaluate"]


class Student:
    id = "student"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["", "", "pairs"], ""),
        (["pairs", "pairs"], "two stages with the name 'pairs'"),
        (["2", ""], "the name '2'"),
        (["learning_rate"], "no name of a training setting"),
        (["a b"], "the name 'a b'"),
    ],
)
def test_what_a_stage_may_be_called(names: list[str], message: str) -> None:
    stages = ArmStages(
        "arm", TrainingSettings(), {"pairs": TrainingSettings(), "9": TrainingSettings()}
    )

    def yield_all() -> None:
        for name in names:
            stages.students[stages.label(Stage(Student(), [], "sft", name=name))] = Student()

    if message:
        with pytest.raises(ConfigError, match=message):
            yield_all()
        return
    yield_all()
    assert list(stages.students) == ["1", "2", "pairs"]
    assert stages.unused_settings() == [
        "training.9 was given, and arm has no such stage (it has 1, 2, pairs)"
    ]


def test_a_name_does_not_retrain() -> None:
    assert Stage(Student(), [], "sft", name="a").id == Stage(Student(), [], "sft").id


def test_two_stages_of_one_student_keep_their_own_rows(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        ledger = store.ledger("arm")
        traces = [trace_of(text) for text in ("a", "b")]
        ledger.rows("stage-same", traces, label="1")
        ledger.rows("stage-same", traces, label="2")
        stages = store.history.stages("arm")
    assert [(stage.label, len(stage.row_ids)) for stage in stages] == [("1", 2), ("2", 2)]


def trace_of(text: str) -> Trace:
    return Trace(Problem("p", "?", "1"), "p", text, operator="sample")


def test_a_method_without_a_stage_and_without_a_solver_is_refused(tmp_path: Path) -> None:
    entry = describe_method("nothing", nothing)
    finding = conformance.run_check(conformance.check_stages, Case(entry, {}, tmp_path))
    assert "without a stage and without a solver" in finding.problem


def nothing(problems, student):
    """Neither trains nor answers."""
    return
    yield
