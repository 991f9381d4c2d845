"""A recipe's `training.objective_config` over a stage, in a whole run; recipes without one are what they were."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.errors import ConfigError
from potstill.runs.experiment import execute
from potstill.runs.recipe import from_data

PLAIN = {
    "method": "sft",
    "values": {"n": 1},
    "roles": {"teacher": "world:teacher", "student": "world:student"},
    "problems": "world:story",
    "limit": 4,
}


@pytest.mark.slow
def test_an_arm_distils_from_the_runs_teacher(tmp_path):
    config = {"objective": "jsd", "beta": 0.5, "teacher": "teacher"}
    training = {"max_steps": 1, "packing": True, "objective_config": config}
    execute(from_data({**PLAIN, "training": training}), tmp_path / "run", threads=1)
    (fit,) = (tmp_path / "run" / "students").glob("*/fit.json")
    assert json.loads(fit.read_text())["stats"]["jsd"][0] > 0


def test_what_is_new_is_told_only_where_it_is_used():
    told = from_data(PLAIN).to_json()["arms"]["sft"]["training"]
    assert not {"packing", "objective_config"} & set(told)
    told = from_data(
        {
            **PLAIN,
            "training": {"objective_config": {"objective": "dft"}, "lora": {"use_dora": True}},
        }
    ).to_json()
    assert told["arms"]["sft"]["training"]["objective_config"] == {"objective": "dft"}
    assert told["arms"]["sft"]["training"]["lora"]["use_dora"] is True


def test_an_unknown_objective_is_a_mistake_of_the_recipe():
    with pytest.raises(ConfigError, match="unknown objective 'rdi'"):
        from_data({**PLAIN, "training": {"objective_config": {"objective": "rdi"}}})


def test_threads_may_be_a_setting_of_a_stage():
    from potstill.runs.train import merge_settings
    from potstill.training.objective_config import bind
    from potstill.training.settings import TrainingSettings

    bound = bind("sft", {"threads": 3})
    assert merge_settings(TrainingSettings(), bound, 0).threads == 3
    assert merge_settings(TrainingSettings(threads=2), bound, 8).threads == 2
    assert merge_settings(TrainingSettings(), bind("sft", {}), 8).threads == 8
