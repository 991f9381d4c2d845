"""What makes a student's key: all that its training reads, and nothing else."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs, rows, stored
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import StageError
from potstill.records import Problem, Trace, Verdict
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, bind
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.student_key import student_key


def shorter_is_better(problem, text):
    return -float(len(text))


def key(objective, given, settings=TrainingSettings(), traces=None):
    bound = bind(objective, given)
    settings = dataclasses.replace(settings, **bound.settings)
    return student_key(traces or rows(), settings, bound.config, start_id="model-1").id


def test_a_setting_counts_wherever_it_is_given():
    longer = TrainingSettings(num_train_epochs=2)
    assert key("sft", {"num_train_epochs": 2}) == key("sft", {}, longer) != key("sft", {})
    assert key("sft", {}, TrainingSettings(save_steps=7)) == key("sft", {})


def test_new_settings_change_no_old_key():
    first = ("num_train_epochs", "max_steps", "learning_rate", "adamw_learning_rate", "lr_scheduler_type",
             "warmup_steps", "weight_decay", "max_grad_norm", "optimizer", "batch_tokens", "batch_size",
             "gradient_accumulation_steps", "group_by_length", "max_length", "max_dropped_share", "seed", "lora",
             "gradient_checkpointing", "bf16", "dtype", "threads", "chat")  # fmt: skip
    assert tuple(TrainingSettings().identity()) == first, (
        "a new setting may count only where it is not its default"
    )
    assert "use_dora" not in TrainingSettings(lora=LoraSettings()).identity()["lora"]
    assert TrainingSettings(lora=LoraSettings(use_dora=True)).identity()["lora"]["use_dora"] is True


def test_other_students_keys_cover_the_task_by_content(tmp_path):
    one, same, other = (
        make_checkpoint(tmp_path / n, seed=s) for n, s in (("a", 0), ("copy", 0), ("b", 5))
    )
    by_id = {p: SimpleNamespace(id="hf-same", weights=p) for p in (one, same, other)}
    keys = [key("jsd", {"teacher": by_id[p]}) for p in (one, same, other)]
    assert keys[0] == keys[1] != keys[2], "a copy of the teacher is the same teacher"
    assert key("redi", {"alpha": 0.5}) != key("redi", {"alpha": 0.8}) != key("redi", {})
    group = {"on_policy_fraction": 1, "num_generations": 2}
    assert key("grpo", group) != key("grpo", {**group, "reward": shorter_is_better})
    entries = stored(tmp_path)
    moved = entries.rename(tmp_path / "elsewhere")
    assert key("forward_kl", {"teacher_cache": str(moved)}) == key(
        "forward_kl", {"teacher_cache": moved}
    )


def test_rewarded_students_depend_on_gold_answers():
    other = [
        Trace(Problem(t.problem.id, t.problem.question, "0", "number"), t.prompt, text=t.text)
        for t in rows()
    ]
    same = [Trace(t.problem, t.prompt, text=t.text) for t in rows()]
    group = {"on_policy_fraction": 1, "num_generations": 2}
    assert key("grpo", group, traces=other) != key("grpo", group, traces=same)
    assert key("redi", {}, traces=other) == key("redi", {}, traces=same)


def labelled(label):
    return [trace.annotate(scores={"label": label(at)}) for at, trace in enumerate(rows())]


def test_kto_reads_labels_or_verdicts_and_sft_does_not():
    right, flipped = labelled(lambda at: at % 2), labelled(lambda at: 1 - at % 2)
    assert key("kto", {}, traces=right) != key("kto", {}, traces=flipped)
    assert key("sft", {}, traces=right) == key("sft", {}, traces=flipped)
    judged = [
        [trace.annotate(verdict=Verdict(status)) for trace in rows()]
        for status in ("right", "wrong")
    ]
    assert key("kto", {}, traces=judged[0]) != key("kto", {}, traces=judged[1])


def test_objectives_of_prompts_read_the_scores_of_rationales():
    def scored(score):
        return [
            pair.annotate(
                scores={"score": 0.9}, rejected=pair.rejected.annotate(scores={"score": score})
            )
            for pair in pairs()
        ]

    assert key("qcrd", {}, traces=scored(0.1)) != key("qcrd", {}, traces=scored(0.2))
    assert key("dpo", {}, traces=scored(0.1)) == key("dpo", {}, traces=scored(0.2))


def test_a_student_that_writes_depends_on_the_problems_it_is_judged_by():
    group = {"on_policy_fraction": 0.5}
    changed = [
        dataclasses.replace(trace, problem=dataclasses.replace(trace.problem, answer="0"))
        for trace in rows()
    ]
    assert key("sft", group, traces=changed) != key("sft", group)
    assert key("sft", {}, traces=changed) == key("sft", {})


@pytest.mark.slow
def test_the_student_of_other_labels_is_not_returned(tiny_checkpoint, tmp_path):
    settings, config = TrainingSettings(max_steps=1), ObjectiveConfig("kto")
    out = tmp_path / "out"
    fit(labelled(lambda at: at % 2), tiny_checkpoint, out, settings, config=config)
    with pytest.raises(StageError, match="a student of other rows or settings: other rows"):
        fit(labelled(lambda at: 1 - at % 2), tiny_checkpoint, out, settings, config=config)


def test_flipped_labels_of_the_shared_case_make_another_key(shared_data):
    case = shared_data.parent / "faults" / "cases" / "student-key-ignores-labels"
    if not case.is_dir():
        pytest.skip(f"no shared case at {case}")
    lines = [json.loads(line) for line in (case / "in.jsonl").read_text("utf-8").splitlines()]

    def traces(flip):
        return [
            Trace(
                Problem(line["prompt"], line["prompt"]), line["prompt"], text=line["completion"]
            ).annotate(scores={"label": float(line["label"] != flip)})
            for line in lines
        ]

    assert key("kto", {}, traces=traces(flip=False)) != key("kto", {}, traces=traces(flip=True))
