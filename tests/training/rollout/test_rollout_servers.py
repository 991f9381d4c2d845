"""Rollouts by a real server: the student's weights go there, and what it writes is what the student would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import Stop, stop_at, traces
from serving_thread import serving
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, StageError
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.output_dir import STEPS_FILE
from potstill.training.rollout import rollout_servers
from potstill.training.rollout.rollout_servers import BACKENDS, RolloutServers
from potstill.training.settings import LoraSettings, TrainingSettings

SETTINGS = TrainingSettings(batch_size=3, max_steps=4, learning_rate=1e-3, seed=3)


def opd(teacher, **more):
    fixed = {"on_policy_fraction": 1.0, "max_new_tokens": 12}
    return ObjectiveConfig("opd", teacher=teacher, **{**fixed, **more})


def steps_of(out: Path):
    return [json.loads(line) for line in (out / STEPS_FILE).read_text().splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("teacher") / "qwen3", seed=7, hidden_size=48)


def test_a_server_is_named_with_its_folder_and_a_folder_with_its_server():
    with pytest.raises(ConfigError, match="rollout_weights_dir=/shared/weights"):
        opd("teacher", rollout_server="http://127.0.0.1:8747/v1")
    with pytest.raises(ConfigError, match="which is not named"):
        opd("teacher", rollout_sync_steps=2)
    with pytest.raises(ConfigError, match="names a server twice"):
        rollout_servers.server_urls("http://a/v1, http://a/v1/")


def test_sglang_s_own_form_is_read():
    entries = [[-0.5, 17, None], [-1.25, 2, None]]
    answer = {"meta_info": {"output_token_logprobs": entries, "finish_reason": {"type": "stop"}}}
    row = BACKENDS["sglang"].read_answer(answer)
    assert (row.ids, row.logprobs, row.stopped) == ([17, 2], [-0.5, -1.25], True)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, target_modules="all-linear")])
def test_a_server_with_fresh_weights_makes_the_student_of_local_rollouts(
    tiny_checkpoint, teacher, tmp_path, lora
):
    settings = TrainingSettings(batch_size=3, max_steps=4, learning_rate=1e-3, seed=3, lora=lora)
    here = fit(traces(), tiny_checkpoint, tmp_path / "here", settings, config=opd(teacher))
    with serving(tiny_checkpoint, updates_folder=tmp_path / "weights") as server:
        config = opd(
            teacher, rollout_server=server.url, rollout_weights_dir=str(tmp_path / "weights")
        )
        there = fit(traces(), tiny_checkpoint, tmp_path / "there", settings, config=config)
    assert there.losses == pytest.approx(here.losses, abs=1e-4)
    for step in steps_of(tmp_path / "there"):
        assert step["staleness"] == 0 and step["drift"] < 1e-4
        assert step["importance"] == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_older_weights_are_weighed_and_a_killed_training_goes_on(
    tiny_checkpoint, teacher, tmp_path
):
    with serving(tiny_checkpoint, updates_folder=tmp_path / "weights") as server:
        config = opd(
            teacher,
            rollout_server=server.url,
            rollout_weights_dir=str(tmp_path / "weights"),
            rollout_sync_steps=2,
        )
        out = tmp_path / "out"
        with pytest.raises(Stop):
            fit(traces(), tiny_checkpoint, out, SETTINGS, config=config, progress=stop_at(3))
        fit(traces(), tiny_checkpoint, out, SETTINGS, config=config)
    steps = steps_of(out)
    # The third step was made anew after the kill, on weights that were sent anew.
    assert [step["staleness"] for step in steps] == [0, 1, 0, 1]
    assert steps[3]["importance"] != 1 and steps[3]["drift"] > 10 * steps[2]["drift"]
    kept = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert len(kept) <= rollout_servers.KEPT_WEIGHTS and all(n.startswith("step-") for n in kept)


@pytest.mark.slow
def test_a_server_that_has_other_weights_is_refused(
    tiny_checkpoint, teacher, tmp_path, monkeypatch
):
    stranger = make_checkpoint(tmp_path / "stranger", seed=11)

    async def send_nothing(self, folder):
        pass

    monkeypatch.setattr(RolloutServers, "_send_weights", send_nothing)
    with serving(stranger) as server:
        config = opd(
            teacher, rollout_server=server.url, rollout_weights_dir=str(tmp_path / "weights")
        )
        with pytest.raises(StageError, match="differ from the student's by"):
            fit(traces(), tiny_checkpoint, tmp_path / "out", SETTINGS, config=config)
