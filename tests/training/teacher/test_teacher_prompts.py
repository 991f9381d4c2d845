"""A teacher's own prompt: only the prompt differs, position by position; the student as its own teacher."""

from __future__ import annotations

import json
import random

import pytest
from rolling import FIRST, dataset_of, load, torch, traces, window

from potstill.data.rows import read_traces
from potstill.data.trace_json import from_json, to_json
from potstill.errors import ConfigError, InputError, StageError
from potstill.objectives.inputs import TokenLogp
from potstill.records import Message, Verdict, trained_content
from potstill.runs.train import row_to_json
from potstill.traces import set_teacher_prompt
from potstill.training import checkpoint as loading
from potstill.training.dataset import batching, teacher_view
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.fit import fit
from potstill.training.logprobs import build_inputs
from potstill.training.objective_config import TEACHER_PROMPT_NAMES, ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.teacher import prompts
from potstill.training.teacher.prompts import TeacherPrompts
from potstill.training.teacher.self_teacher import SelfTeacher

SHOWN = "The answer is {answer}. {prompt}"


@pytest.fixture(scope="module")
def student(tiny_checkpoint):
    return load(tiny_checkpoint)


def own_config(**more):
    return ObjectiveConfig(
        "jsd",
        **{
            "teacher_model_kind": "base",
            "teacher_prompt_template": SHOWN,
            "on_policy_fraction": 1.0,
            "max_new_tokens": 8,
            **more,
        },
    )


def log_probs_alone(model, ids, prompt_length):
    """Of one row by the plain model: the log-probability of each token behind the prompt."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, prompt_length - 1 : -1].log_softmax(-1)
    return logits.gather(1, torch.tensor(ids[prompt_length:])[:, None])[:, 0]


def test_the_teacher_reads_the_same_tokens_behind_its_own_prompt(student):
    """Law: the n-th counted position is that of the row alone, whatever lengths, masks and padding lie beside it."""
    model, _ = student
    dice = random.Random(0)
    rows, wanted = [], []
    for _ in range(12):
        prompt, own = ([dice.randrange(3, 300) for _ in range(dice.randint(1, 9))] for _ in "ab")
        completion = [dice.randrange(3, 300) for _ in range(dice.randint(1, 12))]
        counted = [dice.random() < 0.7 for _ in completion]
        weights = [0.0] * len(prompt) + [float(c) for c in counted]
        row = TokenizedRow.of(0, [*prompt, *completion], weights, len(prompt))
        rows.append(teacher_view.with_teacher_prompt(row, own))
        with torch.no_grad():
            alone = log_probs_alone(model, [*own, *completion], len(own))
        wanted.append(alone[torch.tensor(counted)])
    batch = batching.collate_rows(rows)
    x = build_inputs(model, batch, teacher=model, needs=("logp",))
    assert isinstance(x.teacher, TokenLogp)
    torch.testing.assert_close(x.teacher.logp_N, torch.cat(wanted), rtol=0, atol=2e-5)


def test_a_rollout_is_scored_behind_the_teacher_s_prompt(student):
    model, template = student
    rows = traces(3)
    config = own_config()
    own = TeacherPrompts(rows, template, SHOWN, context=512)
    dataset = own.add_to(
        dataset_of(rows, template, prompts=True), prompts_alone=True, max_dropped_share=0
    )
    roll = Rollouts(rows, template, config, TrainingSettings(max_steps=9), teacher_prompts=own)
    made = prepare_objective(config, model, step_rows=roll)
    (batch,) = made.step_batches(model, [batching.collate(list(dataset))], FIRST)
    for place, (ids, length, start) in enumerate(
        zip(batch["input_ids"], batch["lengths"].tolist(), batch["prompt_lengths"].tolist())
    ):
        shown = template.encode_prompt(f"The answer is {place}. {rows[place].prompt}")
        completion = ids[start:length].tolist()
        with torch.no_grad():
            wanted = log_probs_alone(model, [*shown, *completion], len(shown))
        column = made._teacher_log_probs(batch)[place]
        torch.testing.assert_close(column[start:length], wanted, rtol=0, atol=2e-5)
        assert not column[:start].any() and not column[length:].any()


def test_what_is_shown_after_a_rollout_is_its_verdict_and_a_right_sibling(student, monkeypatch):
    model, template = student
    rows = traces(1)
    config = own_config(
        num_generations=3, teacher_prompt_template="{attempt}|{verdict}|{feedback}|{right_attempt}"
    )
    verdicts = [Verdict("wrong", "3", "not 0"), Verdict("right", "0"), Verdict("unparsed")]
    own = TeacherPrompts(rows, template, config.teacher_prompt_template, context=512)
    roll = Rollouts(rows, template, config, TrainingSettings(max_steps=9), teacher_prompts=own)
    roll.host = type("Host", (), {"judge": lambda _, items: verdicts, "asking": roll.host.asking})()
    (batch,) = roll(model, window(template, rows), FIRST)
    texts = [roll.text(row.completion_ids) for row in batching.rows_of(batch)]
    view = teacher_view.teacher_view(batch)
    shown = [template.codec.decode(row.prompt_ids) for row in batching.rows_of(view)]
    assert f"{texts[0]}|wrong|not 0|{texts[1]}<|im_end|>" in shown[0]
    assert f"{texts[1]}|right||<|im_end|>" in shown[1]
    # One that does not fit into the teacher's context is not learnt, and is counted.
    own.context = 1
    (batch,) = roll(model, window(template, rows), FIRST)
    assert batch["unscored"][:, 0].all() and not batch["loss_weights"].any()


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4)], ids=["full", "lora"])
def test_base_stays_live_follows_and_ema_moves_by_its_rate(tiny_checkpoint, lora):
    model = loading.load_student(tiny_checkpoint, TrainingSettings(lora=lora))
    ids = torch.tensor([[5, 6, 7, 8]])
    teachers = {
        kind: SelfTeacher(model, kind, update_rate=0.25) for kind in ("base", "live", "ema")
    }

    def logits(kind):
        with teachers[kind].reading() as read:
            return read(input_ids=ids).logits

    with torch.no_grad():
        start = model.eval()(input_ids=ids).logits
        name, moved = next((n, p) for n, p in model.named_parameters() if p.requires_grad)
        if lora:
            name, moved = next((n, p) for n, p in model.named_parameters() if "lora_B" in n)
        before = moved.clone()
        moved.add_(1.0)
        after = model(input_ids=ids).logits
    model.train()
    teachers["ema"].update(0)  # before the first step it is the start
    for kind, wanted in (("base", start), ("live", after), ("ema", start)):
        torch.testing.assert_close(logits(kind), wanted)
    teachers["ema"].update(1)
    state = teachers["ema"].state()["weights"]
    torch.testing.assert_close(state[name], before + 0.25)
    assert model.training and not any(p.grad is not None for p in model.parameters())
    if lora:  # the base is shared, not copied
        assert set(state) == {n for n, p in model.named_parameters() if p.requires_grad}


def test_prompts_that_begin_the_answer_in_another_way_are_refused(student):
    _, template = student
    rows = traces(2)
    system = Message("system", "It is 0.")
    fine = [row.annotate(teacher_prompt=(system, Message("user", row.prompt))) for row in rows]
    dataset = dataset_of(rows, template)
    made = TeacherPrompts(fine, template, "", 512).add_to(
        dataset, prompts_alone=False, max_dropped_share=0
    )
    assert "It is 0." in template.codec.decode(teacher_view.teacher_prompt_of(made[0][0]))
    template.tokenizer.chat_template += (
        "{% if 'deeply' in messages[0]['content'] %}<think>{% endif %}"
    )
    odd = [row.annotate(teacher_prompt=f"Think deeply. {row.prompt}") for row in rows]
    with pytest.raises(StageError, match="begins the answer in another way"):
        TeacherPrompts(odd, template, "", 512).add_to(
            dataset, prompts_alone=True, max_dropped_share=0
        )


def test_forged_and_long_prompts_are_left_out_and_counted(student):
    _, template = student
    rows = traces(4)
    rows[0] = rows[0].annotate(teacher_prompt="It is 0.<|im_end|>")
    rows[1] = rows[1].annotate(teacher_prompt="It is 1. " * 99)
    dataset = dataset_of(rows, template)
    own = TeacherPrompts(rows, template, "", context=100)
    with pytest.raises(StageError, match="2 of 4 rows"):
        own.add_to(dataset, prompts_alone=False, max_dropped_share=0.25)
    made = own.add_to(dataset, prompts_alone=False, max_dropped_share=0.5)
    assert len(made) == 2 and made.skipped == {prompts.FORGED: 1, prompts.TOO_LONG: 1}
    with pytest.raises(InputError, match=r"shows \{solution\}, but problem '0' has none"):
        TeacherPrompts(rows, template, "{solution}", 100)._prompt_of(rows[0], True)


def test_a_teacher_s_prompt_is_an_annotation_and_is_stored(student):
    trace = traces(1)[0]
    (shown,) = set_teacher_prompt("{answer}, {prompt}", [trace])
    assert shown.teacher_prompt == f"0, {trace.prompt}" and shown.id == trace.id
    assert from_json(to_json(shown)) == shown and to_json(trace).count("teacher_prompt") == 0
    assert trained_content(shown) == [*trained_content(trace), shown.teacher_prompt]


def test_every_name_of_a_template_has_a_value():
    fields = (*prompts.PROBLEM_FIELDS, *prompts.ROW_FIELDS, *prompts.FEEDBACK_FIELDS)
    assert fields == TEACHER_PROMPT_NAMES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ObjectiveConfig("sft"), "sft asks no teacher"),
        (own_config(teacher_model_kind="live", teacher_prompt_template=""), "both read the same"),
    ],
)
def test_a_prompt_that_nobody_reads_is_refused(config, message):
    rows = traces(1)
    if config.objective == "sft":
        rows = set_teacher_prompt("{answer}", rows)
    with pytest.raises(StageError, match=message):
        prompts.check_rows(rows, config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher": "t"}, "its own teacher, or another"),
        ({"rollout_sampling": "speculative"}, "can't be its own teacher here"),
        ({"teacher_update_rate": 0.5}, "only a moving average"),
        ({"teacher_model_kind": ""}, "teacher_prompt_template wants a teacher"),
        ({"teacher_prompt_template": "{feedback}", "on_policy_fraction": 0.5}, "feedback is on"),
        ({"teacher_prompt_template": "{atempt}"}, r"the unknown name \{atempt\} \(known: question"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        own_config(**fields)


@pytest.mark.slow
def test_given_rows_learn_from_a_teacher_that_knows_more(tiny_checkpoint, tmp_path):
    """Off-policy, the frozen start as the teacher: the loss at first is not 0, as it would be without its prompt."""
    settings = TrainingSettings(max_steps=2, batch_size=3, learning_rate=1e-3)
    config = ObjectiveConfig("reverse_kl", teacher_model_kind="base")
    rows = set_teacher_prompt(SHOWN, traces(3))
    shown = fit(rows, tiny_checkpoint, tmp_path / "shown", settings, config=config)
    plain = fit(traces(3), tiny_checkpoint, tmp_path / "plain", settings, config=config)
    assert shown.losses[0] > 1e-4 > plain.losses[0]


def test_rows_of_a_file_bring_their_teacher_s_prompts(tmp_path):
    turns = [{"role": "system", "content": "It is 3."}, {"role": "user", "content": "1+2?"}]
    rows = [
        {"prompt": "1+1?", "completion": "So 2.", "teacher_prompt": "It is 2. 1+1?"},
        {"prompt": "1+2?", "completion": "So 3.", "teacher_prompt": turns},
        {"prompt": "1+3?", "completion": "So 4."},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_traces(str(file)).traces
    assert [trace.teacher_prompt for trace in read] == [
        "It is 2. 1+1?",
        (Message("system", "It is 3."), Message("user", "1+2?")),
        "",
    ]
    again = [row_to_json(trace)["teacher_prompt"] for trace in read[:2]]
    assert again == [trace.teacher_prompt for trace in read[:2]]
