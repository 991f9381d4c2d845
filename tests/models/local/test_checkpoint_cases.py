"""The collected faults of checkpoints, where their folder lies beside the repository: each with its right value."""

from __future__ import annotations

import datetime
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from fault_commands import FAULTS, fault_cases

from potstill.cli.rows import read_rows
from potstill.errors import PotstillError
from potstill.models import load
from potstill.models.local import checkpoint, weights
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Problem, Trace
from potstill.training.dataset.batching import collate
from potstill.training.dataset.chat_template import ChatTemplate, read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.fit import fit
from potstill.training.logprobs import batch_log_probs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.settings import LoraSettings, TrainingSettings

pytestmark = pytest.mark.slow
QUESTION = "Add 3 and 4."
CASES = fault_cases("checkpoint")


def makers() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "tiny_checkpoints", FAULTS / "tiny_checkpoints.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", CASES or [None], ids=lambda folder: folder and folder.name)
def test_case(folder: Path | None, tmp_path: Path) -> None:
    if folder is None:
        pytest.skip("no faults in the shared folder")
    case = json.loads((folder / "expected.json").read_text("utf-8"))
    made = case["checkpoint"]
    name, *text = made if isinstance(made, list) else [made]
    path = makers().make(name, tmp_path / "checkpoint", *text)
    way, *args = case["args"]
    TRIES[way](path, folder, case["expected"], args)


def write(path: Path) -> Completion:
    sampling = Sampling(temperature=0, max_new_tokens=48, logprobs=True)
    [completion] = TransformersModel(path).write([Request(QUESTION, sampling=sampling)])
    return completion


def template_of(path: Path) -> ChatTemplate:
    return read_chat_template(checkpoint.load_tokenizer(path))


def check_text(text: str, expected: dict[str, Any]) -> None:
    assert text == expected.get("text", text)
    assert all(part in text for part in expected.get("text_has", []))


def try_written(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    completion = write(path)
    check_text(completion.text, expected)
    assert completion.finish_reason == expected["finish"]


def try_rollout(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    template, blank = template_of(path), Trace(Problem("p", QUESTION), QUESTION)
    settings = TrainingSettings(max_steps=1)
    config = ObjectiveConfig(
        objective="grpo",
        on_policy_fraction=1,
        num_generations=2,
        max_new_tokens=40,
        rollout_temperature=0.01,
    )
    rollouts = Rollouts([blank], template, config, settings)
    model = weights.load_weights(path, torch.float32)
    [row] = rollouts.write_completions(model, [template.encode_prompt(QUESTION)], [0])
    assert row.stopped == expected["stopped"]
    assert len(row.ids) <= expected["tokens"]
    check_text(rollouts.text(row.ids), expected)


def try_agrees(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    completion = write(path)
    [scored] = TransformersModel(path).likelihood([(QUESTION, completion.text)])
    assert len(scored) == len(completion.logprobs) > 0
    assert sum(scored) == pytest.approx(sum(completion.logprobs), abs=expected["gap"])


def try_retokens(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    model, template = TransformersModel(path), template_of(path)
    for text in expected["texts"]:
        ids = model.encoder.tokenizer.encode(text, add_special_tokens=False)
        decoded = model.encoder.decode_text(ids)
        scored, start = model.encoder.encode_completion(QUESTION, decoded)
        assert scored[start:] == ids
        trace = Trace(Problem("p", QUESTION), QUESTION, text=decoded, finish_reason="length")
        [row] = tokenize_traces([trace], template, max_length=512).rows
        assert row.completion_ids == ids


def try_plain(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    model = load(f"transformers:{path}?chat=plain")
    assert isinstance(model, TransformersModel)
    for prefix in ("", "The"):
        ids = model.encoder.encode_prompt(QUESTION, prefix)
        assert expected["lacks"] not in model.encoder.tokenizer.decode(ids)


def try_context(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    assert TransformersModel(path).context == expected["context"]


def try_learnt(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    template = template_of(path)
    rows = tokenize_traces(
        read_rows(str(folder / "in.jsonl")).traces, template, max_length=512
    ).rows
    learnt = [template.codec.decode(row.input_ids[row.is_learnt].tolist()) for row in rows]
    assert learnt == expected["learnt"]


def try_two_days(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    today, other = datetime.datetime.now(), datetime.datetime(2031, 5, 17)
    texts = []
    for day in (today, other):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock(day))
            texts.append(TransformersModel(path).encoder.render_prompt(QUESTION))
            texts.append(template_of(path).render_prompt(QUESTION))
    assert len(set(texts)) == 1


class FixedClock:
    """A `datetime` whose now is given."""

    def __init__(self, day: datetime.datetime) -> None:
        self._day = day

    def now(self) -> datetime.datetime:
        return self._day


def try_id(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    before = TransformersModel(path).id
    (path / args[0]).write_text('{"base_model_name_or_path": "elsewhere"}')
    try:
        after = TransformersModel(path).id
    except PotstillError:
        return
    assert (before != after) == expected["differ"]


def try_stored(path: Path, folder: Path, expected: dict[str, Any], args: list[str]) -> None:
    traces, template = read_rows(str(folder / "in.jsonl")).traces, template_of(path)
    lora = LoraSettings(r=8, target_modules=tuple(args))
    settings = TrainingSettings(max_steps=30, learning_rate=0.01, lora=lora, threads=1)
    try:
        result = fit(traces, path, path.parent / "out", settings)
    except PotstillError:
        return
    rows = tokenize_traces(traces, template, max_length=512).rows
    batch = collate(TrainingDataset.of_rows(traces, rows)[:])
    stored = weights.load_weights(path.parent / "out", torch.float32)
    assert -batch_log_probs(stored, batch).sum() / rows[0].is_learnt.sum() < result.losses[0]


TRIES: dict[str, Callable[[Path, Path, dict[str, Any], list[str]], None]] = {
    "written": try_written,
    "rollout": try_rollout,
    "agrees": try_agrees,
    "retokens": try_retokens,
    "plain prompt": try_plain,
    "context": try_context,
    "learnt": try_learnt,
    "two days": try_two_days,
    "id of": try_id,
    "stored": try_stored,
}
