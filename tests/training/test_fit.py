"""Training: equal to a loop written by hand, exact after a kill, stored as a plain checkpoint."""

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import child
import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
import torch.nn.functional as F
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.errors import ConfigError, ModelError, StageError
from potstill.records import Problem, Span, Trace
from potstill.training.dataset.batching import plan_batches
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import FIT_FILE, LoraSettings, TrainingSettings

ANSWERS = (7, 3, 9, 1, 8, 2, 6, 4, 5, 0, 7, 2)


def rows(count=8):
    return [
        Trace(
            Problem(str(i), f"Ned has {10 + i} shells."),
            f"Ned has {10 + i} shells.",
            text="So " * (i % 4) + f"{ANSWERS[i]} - {i} = {ANSWERS[-i]}.",
            finish_reason="length" if i == 5 else "stop",
            weight=0.5 if i == 2 else 1.0,
            spans=(Span(0, 3, "step", 2.0),) if i == 3 else (),
        )
        for i in range(count)
    ]


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


class Stop(Exception):
    """What a kill looks like from inside."""


def stop_at(step):
    def progress(label, done, total):
        if done == step:
            raise Stop

    return progress


def by_hand(start, traces, settings):
    """A plain loop: full logits, attention mask, one optimizer, the normaliser of the whole window."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(start),
        AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
    )
    rows = tokenize_traces(traces, read_chat_template(tokenizer), max_length=512).rows
    batches = plan_batches([len(row) for row in rows], settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for first in range(0, len(batches), settings.gradient_accumulation_steps):
        window = batches[first : first + settings.gradient_accumulation_steps]
        total = sum(float(rows[row].loss_weights.sum()) for batch in window for row in batch)
        losses.append(0.0)
        for batch in window:
            longest = max(len(rows[row]) for row in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            weight, mask = torch.zeros(len(batch), longest), torch.zeros(len(batch), longest)
            for at, row in enumerate(batch):
                length = len(rows[row])
                ids[at, :length] = torch.tensor(rows[row].input_ids.tolist())
                weight[at, :length] = torch.tensor(rows[row].loss_weights.tolist())
                mask[at, :length] = 1
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            nll = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            loss = (nll * weight[:, 1:]).sum() / total
            loss.backward()
            losses[-1] += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return losses, model


@pytest.mark.parametrize(
    "size",
    [
        {"batch_size": 3},
        pytest.param({"batch_size": 0, "batch_tokens": 90}, marks=pytest.mark.slow),
        pytest.param({"batch_size": 2, "gradient_accumulation_steps": 3}, marks=pytest.mark.slow),
        pytest.param({"batch_size": 8, "gradient_checkpointing": True}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_it_equals_a_loop_written_by_hand(tiny_checkpoint, tmp_path, size):
    settings = TrainingSettings(
        num_train_epochs=4, learning_rate=3e-3, lr_scheduler_type="constant", warmup_steps=0, **size
    )
    losses, model = by_hand(tiny_checkpoint, rows(), settings)
    done = fit(rows(), tiny_checkpoint, tmp_path / "out", settings)
    assert done.losses == pytest.approx(losses, rel=2e-4)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for mine, theirs in zip(stored.parameters(), model.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-4)


@pytest.mark.slow
def test_it_learns_eight_rows_by_heart_and_stops_by_itself(tiny_checkpoint, tmp_path):
    traces = [t.annotate(weight=1.0, spans=(), finish_reason="stop") for t in rows()]
    done = fit(
        traces,
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(num_train_epochs=120, learning_rate=5e-3, batch_size=8),
    )
    assert done.losses[0] > 3 and done.losses[-1] < 0.05
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "out"),
        AutoTokenizer.from_pretrained(tmp_path / "out"),
    )
    for t in traces:
        turns = [{"role": "user", "content": t.prompt}]
        prompt = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**prompt, max_new_tokens=60, do_sample=False)[
            0, prompt["input_ids"].shape[1] :
        ]
        assert tokenizer.decode(ids) == t.text + "<|im_end|>"


@pytest.mark.slow
def test_the_report_counts_steps_rows_and_tokens(tiny_checkpoint, tmp_path):
    traces = [*rows(), Trace(Problem("x", "q"), "q", text="hi <|im_end|>", finish_reason="stop")]
    calls = []
    settings = TrainingSettings(num_train_epochs=2, batch_size=4, learning_rate=1e-3, threads=1)
    done = fit(
        traces,
        tiny_checkpoint,
        tmp_path / "out",
        settings,
        progress=lambda *call: calls.append(call),
    )
    tokenized = tokenize_traces(
        traces, read_chat_template(AutoTokenizer.from_pretrained(tiny_checkpoint)), max_length=512
    ).rows
    assert (done.rows, done.steps, done.threads) == (8, 4, 1)
    assert done.skipped == {"text holds a control token": 1}
    assert done.tokens == 2 * tokenized.input_ids.lengths.sum()
    assert done.loss_tokens == 2 * sum(int(row.is_learnt.sum()) for row in tokenized)
    assert calls == [("training", n, 4) for n in range(5)]
    assert 0 < done.seconds < 60


@pytest.mark.slow
def test_it_prints_nothing_and_leaves_threads_and_dice_alone(
    tiny_checkpoint, tmp_path, capfd, monkeypatch
):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)  # GPUs of which none is used
    fit(rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=1, threads=2, seed=5))
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {
                "learning_rate": 6e-3,
                "optimizer": "muon",
                "batch_size": 0,
                "batch_tokens": 90,
                "gradient_accumulation_steps": 2,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"learning_rate": 5e-3, "lora": LoraSettings(r=4, lora_dropout=0.2)},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["muon", "lora"],
)
def test_after_a_kill_the_weights_are_those_of_an_undisturbed_run(
    tiny_checkpoint, tmp_path, settings
):
    """Killed twice, at steps that are no checkpoints; dropout, schedule, momentum and batch order all go on."""
    settings = TrainingSettings(
        **{"num_train_epochs": 6, "batch_size": 3, "threads": 1, "save_steps": 4, **settings}
    )
    whole = fit(rows(), tiny_checkpoint, tmp_path / "whole", settings)
    out = tmp_path / "killed"
    for step in (6, 10):
        torch.manual_seed(step)  # what the process rolled before must not matter
        with pytest.raises(Stop):
            fit(rows(), tiny_checkpoint, out, settings, progress=stop_at(step))
        assert not (out / "fit.json").exists()
    seen = []
    resumed = fit(
        rows(),
        tiny_checkpoint,
        out,
        settings,
        progress=lambda label, done, total: seen.append(done),
    )
    assert seen[0] == 8
    assert (
        resumed.losses == whole.losses
        and resumed.tokens == whole.tokens
        and resumed.steps == whole.steps
    )
    assert weights(out) == weights(tmp_path / "whole")
    assert sorted(p.name for p in out.iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over(tiny_checkpoint, tmp_path):
    settings = TrainingSettings(
        num_train_epochs=6, batch_size=4, learning_rate=5e-3, threads=1, save_steps=3
    )
    whole = fit(rows(), tiny_checkpoint, tmp_path / "whole", settings)
    out = tmp_path / "killed"
    with pytest.raises(Stop):
        fit(rows(), tiny_checkpoint, out, settings, progress=stop_at(10))
    last = out / "training" / "checkpoint-9"
    (last / "complete").unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    (out / "model.safetensors").write_bytes(b"half")
    seen = []
    assert (
        fit(
            rows(),
            tiny_checkpoint,
            out,
            settings,
            progress=lambda _, done, total: seen.append(done),
        ).losses
        == whole.losses
    )
    assert seen[0] == 6 and weights(out) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_a_finished_student_is_not_trained_again_even_without_its_start(tmp_path):
    start = make_checkpoint(tmp_path / "start")
    settings = TrainingSettings(max_steps=2)
    done = fit(rows(), start, tmp_path / "out", settings)
    before = weights(tmp_path / "out")
    again = fit(rows(), tmp_path / "gone", tmp_path / "out", settings, progress=stop_at(0))
    assert again == done and weights(tmp_path / "out") == before


@pytest.mark.slow
def test_a_finished_student_of_another_start_is_refused(tmp_path):
    start = make_checkpoint(tmp_path / "start")
    other = make_checkpoint(tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other)
    model.get_input_embeddings().weight.data.add_(1)
    model.save_pretrained(other)
    settings = TrainingSettings(max_steps=1)
    done = fit(rows(), start, tmp_path / "out", settings)
    with pytest.raises(StageError, match=r"trained from another checkpoint than .*other"):
        fit(rows(), other, tmp_path / "out", settings)
    # A copy of the start is the start.
    moved = start.rename(tmp_path / "moved")
    assert fit(rows(), moved, tmp_path / "out", settings) == done


@pytest.mark.slow
def test_a_folder_of_another_training_is_refused(tiny_checkpoint, tmp_path):
    fit(rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=1))
    with pytest.raises(
        StageError, match=r"other rows or settings: max_steps was 1, now 2\n"
    ) as error:
        fit(rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=2))
    assert error.value.found.count("now") == 1
    with pytest.raises(StageError) as error:
        fit(rows(7), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=1))
    assert error.value.found.endswith("other rows or settings: other rows")
    with pytest.raises(StageError) as error:
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("length_balanced", {"power": 2}),
        )
    assert error.value.found.endswith(
        "constant power was not given, now 2, objective was sft, now length_balanced"
    )
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine")
    with pytest.raises(StageError, match=r"not empty \(thesis.txt\)"):
        fit(rows(), tiny_checkpoint, tmp_path / "notes", TrainingSettings(max_steps=1))
    with pytest.raises(Stop):
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "half",
            TrainingSettings(num_train_epochs=2),
            progress=stop_at(1),
        )
    with pytest.raises(
        StageError,
        match="half-finished training of other rows, settings or start: num_train_epochs was 2, now 3",
    ):
        fit(rows(), tiny_checkpoint, tmp_path / "half", TrainingSettings(num_train_epochs=3))


@pytest.mark.slow
def test_a_folder_from_before_what_was_trained_was_written_is_refused_without(
    tiny_checkpoint, tmp_path
):
    fit(rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=1))
    mark = tmp_path / "out" / FIT_FILE
    told = json.loads(mark.read_text())
    del told["trained"]
    mark.write_text(json.dumps(told))
    with pytest.raises(StageError, match=r"holds a student of other rows or settings\n"):
        fit(rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=2))


@pytest.mark.slow
def test_a_folder_is_free_again_where_the_objective_refused(tiny_checkpoint, tmp_path):
    """A constant out of its range comes out at the first step: the corrected one may use the same folder."""
    with pytest.raises(ConfigError, match="power=-1 of length_balanced"):
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("length_balanced", {"power": -1}),
        )
    config = ObjectiveConfig("length_balanced", {"power": 1})
    assert (
        fit(
            rows(), tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=1), config=config
        ).steps
        == 1
    )


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_naming_the_step(tiny_checkpoint, tmp_path):
    with pytest.raises(StageError) as error:
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(
                num_train_epochs=40,
                learning_rate=1e30,
                max_grad_norm=0,
                lr_scheduler_type="constant",
                warmup_steps=0,
            ),
        )
    assert re.match(r"the loss is (nan|inf) at step [23] of 40$", error.value.found)
    assert "lower learning_rate (1e+30)" in error.value.fix
    assert not (tmp_path / "out" / "fit.json").exists()


@pytest.mark.slow
def test_bad_rows_stop_before_anything_is_trained(tiny_checkpoint, tmp_path):
    long = [Trace(Problem("l", "q"), "q", text="Ned " * 600, finish_reason="stop"), *rows()]
    with pytest.raises(StageError, match="1 of 9 rows longer than max_length=512"):
        fit(long, tiny_checkpoint, tmp_path / "a", TrainingSettings())
    assert (
        fit(
            long,
            tiny_checkpoint,
            tmp_path / "b",
            TrainingSettings(max_steps=1, max_dropped_share=0.2),
        ).rows
        == 8
    )
    with pytest.raises(ModelError, match="no checkpoint folder"):
        fit(rows(), tmp_path / "nowhere", tmp_path / "c", TrainingSettings())
    with pytest.raises(ModelError, match="no chat template"):
        fit(
            rows(),
            make_checkpoint(tmp_path / "plain", chat=False),
            tmp_path / "d",
            TrainingSettings(),
        )


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["qwen2", "qwen3"])
def test_one_lora_step_on_each_architecture_of_the_recipes(tmp_path, arch):
    start = make_checkpoint(tmp_path / "start", arch, tie_word_embeddings=arch == "qwen3")
    settings = TrainingSettings(
        max_steps=1,
        learning_rate=1e-2,
        warmup_steps=0,
        lora=LoraSettings(r=4, target_modules=("q_proj", "v_proj"), save_adapter=True),
    )
    done = fit(rows(), start, tmp_path / "out", settings)
    assert done.steps == 1
    before = AutoModelForCausalLM.from_pretrained(start).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert before.keys() == after.keys()  # merged: a plain checkpoint
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "v_proj"}
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        start / "tokenizer.json"
    ).read_bytes()


def test_no_negative_length_of_a_training():
    from potstill.errors import ConfigError

    for wrong in ({"max_steps": -2}, {"num_train_epochs": -1, "max_steps": 3}):
        with pytest.raises(ConfigError, match="is negative"):
            TrainingSettings(**wrong)


@pytest.mark.parametrize("target_modules", [("q_project",), "[q_proj,v_proj"])
def test_unknown_lora_targets_name_the_layers_there_are(tiny_checkpoint, tmp_path, target_modules):
    from potstill.errors import ConfigError

    with pytest.raises(ConfigError) as error:
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(lora=LoraSettings(target_modules=target_modules)),
        )
    assert "q_proj" in error.value.available


@pytest.mark.slow
def test_the_stored_dtype_is_the_starts_unless_asked(tmp_path):
    start = make_checkpoint(tmp_path / "start")
    half = AutoModelForCausalLM.from_pretrained(start, dtype=torch.bfloat16)
    half.save_pretrained(start)
    fit(rows(), start, tmp_path / "same", TrainingSettings(max_steps=1))
    fit(rows(), start, tmp_path / "full", TrainingSettings(max_steps=1, dtype="float32"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("same", "full")]
    assert 1.8 < sizes[1] / sizes[0] < 2.1
    assert json.loads((tmp_path / "same" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.slow
def test_generation_stops_at_the_trained_end_of_turn(tmp_path):
    """A base model's eos is often not its template's end of turn; without this every answer runs into the limit."""
    start = make_checkpoint(tmp_path / "start")
    generation = json.loads((start / "generation_config.json").read_text())
    (start / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": 0}))
    fit(rows(), start, tmp_path / "out", TrainingSettings(max_steps=1))
    stored = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert stored["eos_token_id"] == [
        AutoTokenizer.from_pretrained(start).convert_tokens_to_ids("<|im_end|>"),
        0,
    ]


CHILD = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from test_fit import rows
from potstill.training.settings import TrainingSettings
from potstill.training.fit import fit
def progress(label, done, total): print(done, flush=True)
settings = TrainingSettings(
    num_train_epochs=40, batch_size=2, threads=1, save_steps=5, learning_rate=1e-3
)
fit(rows(), Path({start!r}), Path({out!r}), settings, progress=progress)
"""


@pytest.mark.slow
def test_kill_9_at_several_moments(tiny_checkpoint, tmp_path):
    settings = TrainingSettings(
        num_train_epochs=40, batch_size=2, threads=1, save_steps=5, learning_rate=1e-3
    )
    whole = fit(rows(), tiny_checkpoint, tmp_path / "whole", settings)
    here, out = Path(__file__).resolve().parent, tmp_path / "out"
    code = CHILD.format(
        tests=str(here.parent), here=str(here), start=str(tiny_checkpoint), out=str(out)
    )
    for moment in (3, 31, 77, 120, 150):
        command = [sys.executable, "-c", code]
        pipes = {"stdout": subprocess.PIPE, "text": True}
        with child.started(command, prepared=True, **pipes) as training:
            for line in training.stdout:
                if int(line) >= moment:
                    time.sleep(0.003 * (moment % 7))
                    training.kill()
                    break
    assert fit(rows(), tiny_checkpoint, out, settings).losses == whole.losses
    assert weights(out) == weights(tmp_path / "whole")
