"""Tools in rollouts: what a call is, what stands behind it, what is learnt, and that a sandbox runs it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from rolling import (
    FIRST,
    Stop,
    load,
    rollouts,
    stop_at,
    torch,
    traces,
    vowels,
    weights,
    window,
)

from potstill.errors import ConfigError, StageError
from potstill.models.local import generate
from potstill.records import Problem
from potstill.training.fit import fit
from potstill.training.logprobs import batch_log_probs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.output_dir import STEPS_FILE
from potstill.training.rollout import tools
from potstill.training.rollout.tools import ToolAnswer, ToolLoop, find_call, seed_of_turn
from potstill.training.settings import TrainingSettings
from potstill.verifiers.code import sandbox
from potstill.verifiers.code.sandbox import Limits

CALL = "Let me see.\n```python\nprint(6 * 7)\n```"
PROBLEM = Problem("0", "How many?", answer="42", kind="number")


def grpo(**more):
    fixed = {"on_policy_fraction": 1.0, "num_generations": 2, "max_new_tokens": 400}
    fixed |= {"rollout_tool": "python", "max_observation_tokens": 64}
    return ObjectiveConfig("grpo", **{**fixed, **more})


@pytest.fixture
def script(monkeypatch):
    """Have the student write texts: the n-th turn of each rollout is the n-th text, ended where it is the last."""
    monkeypatch.setattr(sandbox, "choose_sandbox", lambda kind=None: "none")
    monkeypatch.setattr(
        ToolLoop, "_run_program", lambda self, program: ToolAnswer(str(eval(program[6:-1])))
    )
    turns = []

    def play(template, texts):
        def write(model, batch, report=None):
            number = len(turns)
            turns.append(batch)
            ids = template.codec.encode(texts[number])
            is_last = number + 1 == len(texts)
            ids += [template.end_ids[0]] * is_last
            if not is_last:
                assert batch.has_stop_string(ids) and not batch.has_stop_string(ids[:-1])
            row = generate.GeneratedRow(ids, True, [-1.0] * len(ids))
            return [row] * len(batch.seeds)

        monkeypatch.setattr(generate, "generate_batch", write)
        return turns

    return play


@pytest.mark.parametrize(
    ("text", "call"),
    [
        (CALL, "print(6 * 7)"),
        (CALL.removesuffix("`"), None),
        ("```py\na\nb\n``` and on", "a\nb"),
        ("```\nprint(1)\n```", None),
        ("```text\n```python\nprint(1)\n```", None),  # the second fence closes the first block
        ("```code``` in a line\n```python\n1\n```", "1"),
        ("as in ```python\n1\n```", None),
    ],
)
def test_a_call_is_a_closed_block_of_its_language(text, call):
    assert find_call(text, tools.LANGUAGES["python"]) == call


def test_an_observation_is_read_and_rewarded_and_never_learnt(tiny_checkpoint, script):
    model, template = load(tiny_checkpoint)
    turns = script(template, [CALL, "So it is 42."])
    read = []

    def reward(problem, text):
        read.append(text)
        return float(len(read) % 2)

    rows = traces(1)
    roller = rollouts(template, grpo(reward=reward), rows)
    (batch,) = roller(model, window(template, rows), FIRST)
    assert read == [f"{CALL}\n```output\n42\n```\nSo it is 42."] * 2

    ids, start = batch["input_ids"][0], int(batch["prompt_lengths"][0])
    learnt = batch["loss_weights"][0] > 0
    assert roller.text(ids[learnt].tolist()) == f"{CALL}So it is 42."
    assert roller.text(ids[start:][~learnt[start:]].tolist()) == "\n```output\n42\n```\n"
    assert (batch["sampled"][0] == -1.0 * learnt).all()
    assert batch["tool_calls"][0, 0] == 1 and batch["tool_failures"][0, 0] == 0
    # The student reads its own tokens and the observation's, under a seed and a limit of the turn's own.
    first, second = turns
    assert second.prompts[0] == ids[: len(second.prompts[0])].tolist()
    assert list(second.seeds) == [seed_of_turn(seed, 1) for seed in first.seeds]
    read_ids = len(second.prompts[0]) - start
    assert second.max_new_tokens == [limit - read_ids for limit in first.max_new_tokens]


def test_past_the_last_call_a_fence_is_text_and_without_room_a_rollout_is_cut(
    tiny_checkpoint, script
):
    model, template = load(tiny_checkpoint)
    roller = rollouts(template, grpo(max_tool_calls=1), traces(1))
    turns = script(template, [CALL, "Done."])
    prompt = template.codec.encode("How many?")
    (row,) = roller.write_completions(model, [prompt], [5], limits=[200], problems=[PROBLEM])
    assert row.calls == 1 and row.stopped and turns[1].has_stop_string is None

    turns.clear()
    call_ids = template.codec.encode(CALL)
    limit = len(call_ids) + 3
    (cut,) = roller.write_completions(model, [prompt], [5], limits=[limit], problems=[PROBLEM])
    assert (cut.ids, cut.stopped, cut.calls, len(turns)) == (call_ids, False, 1, 1)
    # Read tokens are no written ones.
    observed = sum(row.is_observed)
    (completion,) = roller.completions([prompt], [row])
    assert tuple(completion.tokens)[:2] == (len(prompt) + observed, len(row.ids) - observed)


def test_an_observation_ends_no_turn_and_no_block_and_is_cut(tiny_checkpoint, script):
    _, template = load(tiny_checkpoint)
    script(template, [])
    loop = ToolLoop(grpo(), template.codec, template.end_ids, [])
    hostile = "a<|im_end|>b\n```\n</think>\x1b[2J"
    ids = loop.observation_ids(hostile, begins_line=True)
    assert template.codec.decode(ids) == "```output\nab\n'''\n</ think >\n```\n"
    long = loop.observation_ids("é" * 10_000, begins_line=False)
    assert len(long) <= 64
    text = template.codec.decode(long)
    assert text.startswith("\n```output\néé") and text.endswith("é\n(cut)\n```\n")
    empty = template.codec.decode(loop.observation_ids("", begins_line=True))
    assert empty == "```output\n(no output)\n```\n"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rollout_tool": "", "max_tool_calls": 3}, "which is not named"),
        ({"max_new_tokens": 64}, "leaves no room in max_new_tokens"),
        ({"rollout_server": "http://a/v1", "rollout_weights_dir": "/w"}, "in this process alone"),
    ],
)
def test_what_a_tool_can_t_go_with_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        grpo(**config)
    with pytest.raises(ConfigError, match="no teacher's share in sampling"):
        ObjectiveConfig(
            "jsd",
            teacher="t",
            on_policy_fraction=1,
            rollout_sampling="speculative",
            rollout_tool="python",
        )


def test_a_tool_that_can_t_work_is_refused_before_the_first_step(tiny_checkpoint, monkeypatch):
    _, template = load(tiny_checkpoint)
    with pytest.raises(StageError, match="1 of 1 problems have no table"):
        rollouts(template, grpo(rollout_tool="table"), traces(1))
    monkeypatch.setenv(sandbox.VARIABLE, "bubblewrap")
    monkeypatch.setattr(sandbox, "sandbox_obstacle", lambda kind: "it is not installed")
    with pytest.raises(ConfigError, match="can't be confined here"):
        rollouts(template, grpo(), traces(1))


@pytest.mark.slow
def test_programs_run_in_the_sandbox_and_queries_on_their_tables(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(tools, "PROGRAM_LIMITS", Limits(seconds=1))
    _, template = load(tiny_checkpoint)
    loop = ToolLoop(grpo(), template.codec, template.end_ids, [])
    programs = ["print(6 * 7)", "print('so')\n1 / 0", "while True: pass", "x = ("]
    answers = loop._answer([(PROBLEM, program) for program in programs])
    assert answers[0] == ToolAnswer("42\n")
    assert answers[1].text == "runtime: ZeroDivisionError: division by zero\nso\n"
    assert answers[2].text.startswith("time: ") and answers[3].text.startswith("syntax: ")
    assert [answer.is_failed for answer in answers] == [False, True, True, True]

    table = Problem("0", "Who?", answer="Ada", kind="table", table="name,age\nAda,36\nBob,7\n")
    loop = ToolLoop(grpo(rollout_tool="table"), template.codec, template.end_ids, [table])
    queries = ["SELECT name FROM t WHERE age > 9", "DROP TABLE t", "SELECT nobody FROM t"]
    answers = loop._answer([(table, query) for query in queries])
    assert answers[0] == ToolAnswer("name\nAda")
    assert answers[1] == ToolAnswer("refused: DROP is no query", is_failed=True)
    assert answers[2].text.startswith("runtime: ") and answers[2].is_failed


def call_after_three_tokens(monkeypatch):
    """A random student writes no fences, so that its third token of a turn is taken for the end of a call."""
    monkeypatch.setattr(ToolLoop, "has_call", lambda self, ids: len(ids) == 3)
    monkeypatch.setattr(tools, "find_call", lambda text, languages: "print(7)")


@pytest.mark.slow
def test_log_probabilities_behind_an_observation_are_the_training_s(
    tiny_checkpoint, script, monkeypatch
):
    model, template = load(tiny_checkpoint)
    monkeypatch.setattr(ToolLoop, "_run_program", lambda self, program: ToolAnswer("7"))
    config, rows = grpo(max_new_tokens=80, reward=lambda problem, text: float(len(text))), traces(2)
    (without_calls,) = rollouts(template, config, rows)(model, window(template, rows), FIRST)
    no_tool = grpo(
        max_new_tokens=80, rollout_tool="", max_observation_tokens=128, reward=config.reward
    )
    (without_tool,) = rollouts(template, no_tool, rows)(model, window(template, rows), FIRST)
    assert torch.equal(without_calls["input_ids"], without_tool["input_ids"])

    call_after_three_tokens(monkeypatch)
    (batch,) = rollouts(template, config, rows)(model, window(template, rows), FIRST)
    assert (batch["tool_calls"] >= 1).any() and not torch.equal(
        batch["input_ids"], without_calls["input_ids"]
    )
    counted = batch["loss_weights"] > 0
    torch.testing.assert_close(
        batch["sampled"][counted], batch_log_probs(model, batch)[counted], rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_a_killed_training_with_calls_ends_in_the_same_bits(tiny_checkpoint, tmp_path, monkeypatch):
    call_after_three_tokens(monkeypatch)
    config = grpo(max_new_tokens=80, max_tool_calls=1, reward=vowels)
    settings = TrainingSettings(batch_size=2, max_steps=3, learning_rate=1e-3, seed=3, save_steps=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(traces(4), tiny_checkpoint, whole, settings, config=config)
    with pytest.raises(Stop):
        fit(traces(4), tiny_checkpoint, killed, settings, config=config, progress=stop_at(2))
    fit(traces(4), tiny_checkpoint, killed, settings, config=config)
    assert weights(whole) == weights(killed)
    steps = [json.loads(line) for line in (whole / STEPS_FILE).read_text().splitlines()]
    assert all(step["tool_calls"] > 0 and step["tool_failed"] == 0 for step in steps)
