"""What a student wrote at each evaluation: kept in order, cut where a training goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.training.rollout_log import KEPT_ROLLOUTS, KeptRollout, RolloutLog, read_rollouts


def rollout(step: int, number: int = 0) -> KeptRollout:
    text = f"text {number}\ud800"
    return KeptRollout(step, f"trace-{number}", "p0", "2 + 2?", "4", text, 3, is_truncated=False)


def test_rollouts_are_cut_to_the_checkpoint(tmp_path: Path):
    log = RolloutLog(tmp_path / "rollouts.jsonl")
    log.begin(0)
    for step in (0, 10, 20):
        log.append([rollout(step, number) for number in range(KEPT_ROLLOUTS + 2)])
    assert len(list(read_rollouts(log.path))) == 3 * KEPT_ROLLOUTS
    with log.path.open("a") as file:
        file.write('{"step": 30, "tra')  # killed here
    log.begin(20)  # the evaluation before step 20 is made again
    assert [one.step for one in read_rollouts(log.path)] == [0] * 8 + [10] * 8
    assert next(read_rollouts(log.path)) == rollout(0)


@pytest.mark.slow
def test_a_training_keeps_what_its_student_wrote(tiny_checkpoint: Path, tmp_path: Path):
    from learning_rows import rows

    from potstill.training.fit import fit
    from potstill.training.objective_config import ObjectiveConfig
    from potstill.training.settings import TrainingSettings

    traces = rows()
    config = ObjectiveConfig(
        "opd", teacher=tiny_checkpoint, on_policy_fraction=1.0, max_new_tokens=6, eval_steps=2
    )
    settings = TrainingSettings(max_steps=4, batch_size=3, threads=1, save_steps=1)
    fit(traces, tiny_checkpoint, tmp_path / "out", settings, config=config)
    kept = list(read_rollouts(tmp_path / "out" / "rollouts.jsonl"))
    assert [one.step for one in kept[::8]] == [0, 2, 4] and len(kept) == 24
    # The same prompts each time, by the rows' own ids, and what a verifier said.
    assert [one.trace for one in kept[:8]] == [one.trace for one in kept[-8:]]
    assert {one.trace for one in kept} == {trace.id for trace in traces}
    assert all(one.tokens <= 6 and one.status in ("right", "wrong", "unparsed") for one in kept)
    assert {one.is_truncated for one in kept if one.tokens < 6} <= {False}

    # Stopped behind the evaluation before step 2, and taken up again from the checkpoint before it.
    def stop(label: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        fit(traces, tiny_checkpoint, again, settings, config=config, progress=stop)
    assert [one.step for one in read_rollouts(again / "training" / "rollouts.jsonl")][::8] == [0, 2]
    fit(traces, tiny_checkpoint, again, settings, config=config)
    assert list(read_rollouts(again / "rollouts.jsonl")) == kept
