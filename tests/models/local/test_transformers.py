"""Local checkpoints against transformers' own generation and plain arithmetic."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, ModelError
from potstill.models import load
from potstill.models.local import generate
from potstill.models.local import transformers as local
from potstill.models.local.generate import filter_probabilities, sample_tokens
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import (
    Planned,
    Request,
    RowProgress,
    RowReport,
    Sampling,
    Scored,
    Trainable,
)
from potstill.models.scoring import Passage
from potstill.records import Message

PROMPTS = [
    "hi",
    "Ned has 19 shells. Then Ned sells 14.",
    "What is 6 times 7?",
    "Janet's ducks lay 16 eggs per day. " * 3,
]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> TransformersModel:
    return TransformersModel(tiny_checkpoint)


def _generate(model: TransformersModel, prompt: str, **options: object) -> str:
    """transformers' own greedy completion of one prompt."""
    ids = torch.tensor([model.encoder.encode_prompt(prompt)])
    mask = torch.ones_like(ids)
    out = model.model.generate(ids, attention_mask=mask, do_sample=False, **options)
    return str(model.encoder.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def test_it_can_do_all_that_roles_ask(model: TransformersModel, tiny_checkpoint: Path) -> None:
    assert isinstance(model, Planned) and isinstance(model, Scored) and isinstance(model, Trainable)
    assert model.weights == tiny_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["qwen3", "qwen2"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_what_generate_gives(tmp_path: Path, arch: str, penalty: float) -> None:
    model = TransformersModel(make_checkpoint(tmp_path / "c", arch, seed=3))
    sampling = Sampling(
        temperature=0, max_new_tokens=70, repetition_penalty=penalty
    )  # 70: past one growth of the cache
    ours = [c.text for c in model.write([Request(prompt, sampling=sampling) for prompt in PROMPTS])]
    theirs = [
        _generate(model, p, max_new_tokens=70, repetition_penalty=penalty).rstrip("\ufffd")
        for p in PROMPTS
    ]
    assert ours == theirs
    assert len(set(ours)) == len(PROMPTS)


@pytest.mark.slow
def test_rows_that_end_early_leave_the_others_alone(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many ending ids make rows end at different steps, so the batch is compacted again and again."""
    sampling = Sampling(max_new_tokens=40, temperature=1.5)
    requests = [
        Request(prompt, sample_index=d, sampling=sampling) for prompt in PROMPTS for d in range(8)
    ]
    monkeypatch.setitem(model.__dict__, "end_ids", tuple(range(100, 130)))
    together, alone = model.write(requests), [model.write([request])[0] for request in requests]
    assert [c.text for c in together] == [c.text for c in alone]
    lengths = {c.tokens.completion for c in together}
    assert len(lengths) > 8 and {c.finish_reason for c in together} == {"stop", "length"}
    stopped = next(c for c in together if c.finish_reason == "stop")
    assert stopped.tokens.completion >= 1


def test_likelihood_is_the_plain_computation(model: TransformersModel) -> None:
    pairs = [
        (prompt, text)
        for prompt in PROMPTS
        for text in ("5", "19 - 14 = 5. The answer is 5.", "é≤😀")
    ]
    for (prompt, text), ours in zip(pairs, model.likelihood(pairs)):
        start = len(model.encoder.encode_prompt(prompt))
        ids = torch.tensor(
            [model.encoder.encode_prompt(prompt) + model.encoder.tokenizer.encode(text)]
        )
        with torch.no_grad():
            logits = model.model(ids).logits[0].log_softmax(-1)
        plain = [logits[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])]
        assert ours == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("prefix", ["", "He thinks. ", "It says: 19 - 1", "Über", "\n\n"])
def test_a_passage_is_scored_by_the_tokens_of_prefix_and_text_together(
    model: TransformersModel, prefix: str
) -> None:
    text = "4 = 5 é😀 The answer"
    prompt_ids, codec = model.encoder.encode_prompt("hi"), model.encoder.codec
    ids = prompt_ids + codec.encode(prefix + text)
    with torch.no_grad():
        logits = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    plain = [logits[i - 1, ids[i]].item() for i in range(1, len(ids))]
    [ours] = model.likelihood([Passage("hi", text, prefix=prefix)])
    assert ours == pytest.approx(plain[-len(ours) :], abs=1e-5)
    scored_text = codec.decode(ids[-len(ours) :])
    assert scored_text.endswith(text), "every character of the text is scored"
    assert codec.decode(ids[len(ids) - len(ours) + 1 :]) in text, "and no token before it"


def test_likelihood_beyond_the_context_is_empty(model: TransformersModel) -> None:
    assert model.likelihood([("hi", "word " * 600), ("hi", "5")])[0] == []


def test_likelihood_in_small_batches_is_the_same(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(prompt, "The answer is 5.") for prompt in PROMPTS]
    whole = model.likelihood(pairs)
    monkeypatch.setitem(local.SCORE_TOKENS, "cpu", 1)
    for a, b in zip(model.likelihood(pairs), whole):
        assert a == pytest.approx(b, abs=1e-5)


def test_the_plan_is_a_function_of_the_requests(model: TransformersModel) -> None:
    sets = (Sampling(max_new_tokens=20), Sampling(max_new_tokens=20, temperature=0.5))
    requests = [
        Request(p, sample_index=d, sampling=s) for p in PROMPTS for d in range(100) for s in sets
    ]
    plan = model.plan(requests)
    assert sorted(i for batch in plan for i in batch) == list(range(len(requests)))
    assert [len(batch) for batch in plan] == [256, 144, 256, 144]
    assert all(len({requests[i].sampling for i in batch}) == 1 for batch in plan)
    shuffled = requests.copy()
    random.Random(5).shuffle(shuffled)
    assert [[shuffled[i] for i in b] for b in model.plan(shuffled)] == [
        [requests[i] for i in b] for b in plan
    ]
    part = [requests[i] for i in plan[0]][10:200]
    assert model.plan(part) == [list(range(190))]


def test_the_plan_keeps_within_memory(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_row = (len(model.encoder.encode_prompt("hi")) + 20) * model._cache_bytes_per_token
    monkeypatch.setitem(local.CACHE_BYTES, "cpu", 3 * per_row + 1)
    requests = [
        Request("hi", sample_index=d, sampling=Sampling(max_new_tokens=20)) for d in range(7)
    ]
    assert [len(batch) for batch in model.plan(requests)] == [3, 3, 1]
    monkeypatch.setitem(local.CACHE_BYTES, "cpu", 1)
    assert [len(batch) for batch in model.plan(requests)] == [1] * 7


def test_the_plan_counts_on_answers_that_stay_below_their_limit(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "context", 40_000)
    requests = [
        Request("hi", sample_index=d, sampling=Sampling(max_new_tokens=32_768)) for d in range(64)
    ]
    assert [len(batch) for batch in model.plan(requests)] == [64]


@pytest.mark.parametrize(
    "max_positions",
    [600, pytest.param(1, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)],
)
def test_rows_that_wait_for_room_are_written_as_the_others(
    model: TransformersModel, max_positions: int
) -> None:
    sampling = Sampling(max_new_tokens=24, temperature=1.2, repetition_penalty=1.2, logprobs=True)
    requests = [
        Request(prompt, sample_index=d, sampling=sampling) for prompt in PROMPTS for d in range(3)
    ]
    prompts = [model.encoder.encode_prompt(request.prompt) for request in requests]
    batch = model._to_batch(requests, prompts)
    expected = generate.generate_batch(model.model, batch)
    tight = dataclasses.replace(batch, max_positions=max_positions)
    for row, other in zip(expected, generate.generate_batch(model.model, tight), strict=True):
        assert (row.ids, row.stopped) == (other.ids, other.stopped)
        assert row.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_the_cache_stays_within_its_positions(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest: list[int] = []
    real = generate.GrowingLayer.update

    def update(layer, keys, values, *arguments, **keywords):
        largest.append(keys.shape[0] * (layer.length + keys.shape[2]))
        return real(layer, keys, values, *arguments, **keywords)

    monkeypatch.setattr(generate.GrowingLayer, "update", update)
    requests = [
        Request("hi", sample_index=d, sampling=Sampling(max_new_tokens=30)) for d in range(8)
    ]
    prompt = model.encoder.encode_prompt("hi")
    batch = model._to_batch(requests, [prompt] * 8)
    generate.generate_batch(model.model, dataclasses.replace(batch, max_positions=200))
    assert max(largest) <= 200


def test_sampled_first_tokens_follow_the_softmax(model: TransformersModel) -> None:
    n, sampling = 4000, Sampling(temperature=0.8, max_new_tokens=1)
    ids = [row.ids[0] for row in _rows(model, "hi", n, sampling)]
    with torch.no_grad():
        logits = model.model(torch.tensor([model.encoder.encode_prompt("hi")])).logits[0, -1]
    expected = (logits / 0.8).softmax(-1).double() * n
    counts = Counter(ids)
    common = [i for i in range(len(expected)) if expected[i] >= 10]
    statistic = sum((counts[i] - expected[i].item()) ** 2 / expected[i].item() for i in common)
    assert len(common) > 40
    assert abs(statistic - len(common)) < 4 * math.sqrt(2 * len(common))


def _rows(
    model: TransformersModel, prompt: str, n: int, sampling: Sampling
) -> list[generate.GeneratedRow]:
    requests = [Request(prompt, sample_index=d, sampling=sampling) for d in range(n)]
    return generate.generate_batch(
        model.model, model._to_batch(requests, [model.encoder.encode_prompt(prompt)] * n)
    )


def test_inverse_cdf_takes_the_token_that_the_number_falls_on() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.0, 0.7]]).log().repeat(6, 1)
    uniforms = torch.tensor([0.0, 0.0999, 0.1001, 0.29, 0.31, 1 - 1e-16], dtype=torch.float64)
    assert sample_tokens(logits, Sampling(), uniforms).tolist() == [0, 0, 1, 1, 3, 3]


def test_top_k_and_top_p_are_those_of_transformers() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = torch.randn(16, 50, generator=torch.Generator().manual_seed(1))
    for sampling in (
        Sampling(top_k=5),
        Sampling(top_p=0.7),
        Sampling(top_k=20, top_p=0.5, temperature=1.7),
    ):
        theirs = TemperatureLogitsWarper(sampling.temperature)(None, scores)
        theirs = TopKLogitsWarper(sampling.top_k)(None, theirs) if sampling.top_k else theirs
        theirs = TopPLogitsWarper(sampling.top_p)(None, theirs) if sampling.top_p < 1 else theirs
        ours = filter_probabilities(scores, sampling)
        torch.testing.assert_close(
            ours / ours.sum(-1, keepdim=True), theirs.double().softmax(-1), atol=1e-7, rtol=1e-6
        )


def test_a_stop_string_ends_the_text_before_it(model: TransformersModel) -> None:
    free = model.write([Request(PROMPTS[1], sampling=Sampling(temperature=0, max_new_tokens=40))])[
        0
    ]
    stop = free.text[12:16]
    at = free.text.index(stop)
    [stopped] = model.write(
        [Request(PROMPTS[1], sampling=Sampling(temperature=0, max_new_tokens=40, stop=(stop,)))]
    )
    assert (stopped.text, stopped.finish_reason) == (free.text[:at], "stop_string")
    assert stopped.stop_string == stop
    assert stopped.tokens.completion < 40


def test_a_banned_beginning_does_not_come(model: TransformersModel) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=20)
    free = model.write([Request("hi", sampling=sampling)])[0].text
    for banned in (free[:1], free[:9]):
        settings = Sampling(temperature=0, max_new_tokens=20, ban_first=(banned, "never seen"))
        other = model.write([Request("hi", sampling=settings)])[0].text
        assert other and not other.startswith(banned)
    letters = tuple("abcdefghijklmnopqrstuvwxyz ")
    settings = Sampling(max_new_tokens=3, ban_first=letters)
    texts = [
        c.text
        for c in model.write([Request("hi", sample_index=d, sampling=settings) for d in range(64)])
    ]
    assert not any(text.startswith(letters) for text in texts)


def test_the_prefix_is_read_behind_the_opened_answer(model: TransformersModel) -> None:
    ids = model.encoder.encode_prompt("hi", "So 19 -")
    shown = model.encoder.tokenizer.decode(ids)
    assert shown == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nSo 19 -"
    assert ids[: len(model.encoder.encode_prompt("hi"))] == model.encoder.encode_prompt("hi")
    sampling = Sampling(temperature=0, max_new_tokens=10)
    [written] = model.write([Request("hi", prefix="So 19 -", sampling=sampling)])
    out = model.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=10)
    assert written.text == model.encoder.decode_text(out[0, len(ids) :].tolist()).rstrip("\ufffd")


def test_text_is_given_back_byte_for_byte(model: TransformersModel) -> None:
    for text in ("a b  c\n\n", " leading", "é≤😀", "\\boxed{4}", "<think>no</think>"):
        assert model.encoder.decode_text(model.encoder.tokenizer.encode(text)) == text


def test_the_context_limits_the_answer_and_never_crashes(tmp_path: Path) -> None:
    model = TransformersModel(make_checkpoint(tmp_path / "c", positions=64))
    room = 64 - len(model.encoder.encode_prompt("hi"))
    [limited, over] = model.write([Request("hi"), Request("hi " * 60)])
    assert (limited.finish_reason, limited.tokens.completion) == (
        "length",
        room,
    ) or limited.finish_reason == "stop"
    assert (
        over.error
        == f"context: a prompt of {over.tokens.prompt} tokens leaves no room in 64 positions"
    )


def test_memory_that_runs_out_halves_the_batch(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        Request("hi", sample_index=d, sampling=Sampling(max_new_tokens=6)) for d in range(8)
    ]
    expected, sizes, real = model.write(requests), [], local.generate_batch

    def small(
        net: object, batch: generate.GenerationBatch, report: RowReport | None
    ) -> list[generate.GeneratedRow]:
        sizes.append(len(batch.prompt_of_row))
        if len(batch.prompt_of_row) > 3:
            raise torch.OutOfMemoryError("no memory")
        return real(net, batch, report)

    monkeypatch.setattr(local, "generate_batch", small)
    assert [c.text for c in model.write(requests)] == [c.text for c in expected]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_while_a_batch_is_written_it_says_how_far_each_row_is(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that wait for room included, and each thread's rows alone where several threads asked."""
    monkeypatch.setattr(generate, "REPORT_SECONDS", 0.0)
    sampling = Sampling(max_new_tokens=12, temperature=1.5)
    requests = [
        Request(p, sample_index=d, sampling=sampling) for p in PROMPTS[:2] for d in range(4)
    ]
    reports: list[list[RowProgress]] = []
    answers = model.write_reporting(requests, lambda rows: reports.append(list(rows)))
    assert answers == [
        answer._replace(seconds=same.seconds)
        for answer, same in zip(model.write(requests), answers, strict=True)
    ]
    lengths = [answer.tokens.completion for answer in answers]
    assert len(reports) == max(lengths) - 1
    for before, after in itertools.pairwise(reports):
        for row, later, length in zip(before, after, lengths, strict=True):
            assert row.tokens <= later.tokens <= length and row.is_finished <= later.is_finished
            assert later.is_finished == (later.tokens == length)

    batch = model._to_batch(requests, [model.encoder.encode_prompt(r.prompt) for r in requests])
    tight: list[int] = []
    generate.generate_batch(
        model.model,
        dataclasses.replace(batch, max_positions=100),
        lambda rows: tight.append(sum(row.tokens for row in rows)),
    )
    assert tight == sorted(tight) and len(tight) > len(reports)


def test_weights_load_on_first_use(tiny_checkpoint: Path) -> None:
    model = TransformersModel(tiny_checkpoint)
    assert model.plan([Request("hi")]) == [[0]] and model.id.startswith("hf-")
    assert "model" not in model.__dict__


def test_the_id_sees_weights_tokenizer_and_chat(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ids = {TransformersModel(tiny_checkpoint).id, TransformersModel(tiny_checkpoint, chat=False).id}
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        folder = shutil.copytree(tiny_checkpoint, tmp_path / name)
        with (folder / name).open("ab") as file:
            file.write(b" ")
        ids.add(TransformersModel(folder).id)
    assert len(ids) == 5
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "log")
    (folder / "training.log").write_text("not part of it")
    assert TransformersModel(folder).id in ids


def test_plain_text_needs_no_template(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "base", chat=False)
    with pytest.raises(ModelError, match="has no chat template") as caught:
        load(f"transformers:{folder}").write([Request("hi")])
    assert "?chat=plain" in caught.value.fix and "tokenizer.json" in caught.value.available
    model = load(f"transformers:{folder}?chat=plain")
    assert isinstance(model, TransformersModel)
    assert model.encoder.tokenizer.decode(model.encoder.encode_prompt("hi", " you")) == "hi you"
    assert model.encoder.render_prompt((Message("user", "a"), Message("user", "b"))) == "a\n\nb"
    [empty, fine] = model.write([Request(""), Request("hi", sampling=Sampling(max_new_tokens=2))])
    assert empty.error == "context: an empty prompt" and fine.error == ""


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (shutil.rmtree, "no checkpoint folder"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "only pytorch_model.bin",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'),
            "can't be loaded",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer can't be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "can't be loaded"),
    ],
)
def test_a_folder_that_is_no_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path, spoil: object, found: str
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=found) as caught:
        load(f"transformers:{folder}").write([Request("hi")])
    assert caught.value.fix and caught.value.expected


def test_missing_weights_are_not_made_up(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weights are missing, the first is model\.layers\.1\.mlp\.up_proj"
    ):
        TransformersModel(folder).write([Request("hi")])


def test_code_in_the_folder_is_not_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError):
        TransformersModel(folder).write([Request("hi")])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spec", "found", "nearest"),
    [
        ("transformer:x", "unknown model kind", "transformers"),
        ("gpt", "unknown model kind", None),
        ("transformers:{}?dtpye=float32", "unknown option 'dtpye'", "dtype"),
        ("transformers:{}?dtype=float33", "unknown dtype", "float32"),
        ("transformers:{}?device=gpu", "no device 'gpu'", None),
        ("transformers:{}?chat=plan", "unknown chat", "plain"),
        ("transformers:{}?batch=many", "batch: expected a whole number, found 'many'", None),
    ],
)
def test_a_spec_that_names_nothing(
    tiny_checkpoint: Path, spec: str, found: str, nearest: str | None
) -> None:
    with pytest.raises(ConfigError, match=found) as caught:
        load(spec.format(tiny_checkpoint))
    assert caught.value.fix
    assert (
        nearest is None
        or caught.value.nearest == (nearest,)
        or f"(nearest: {nearest})" in str(caught.value)
    )


def test_options_and_further_kinds(tiny_checkpoint: Path) -> None:
    model = load(f"transformers:{tiny_checkpoint}?batch=2&dtype=bfloat16", batch=3)
    assert isinstance(model, TransformersModel)
    assert [len(b) for b in model.plan([Request("hi", sample_index=d) for d in range(4)])] == [3, 1]
    assert model.dtype is torch.bfloat16
    assert load("world:x", extra={"world": lambda name: model}) is model


def test_logprobs_are_the_models_own(tiny_checkpoint):
    model = TransformersModel(tiny_checkpoint)
    asked = [
        Request(
            "Add 3 and 4.",
            sampling=Sampling(temperature=0.7, max_new_tokens=9, logprobs=True),
            sample_index=i,
        )
        for i in range(3)
    ]
    for request, made in zip(asked, model.write(asked)):
        [again] = model.likelihood([(request.prompt, made.text)])
        if made.finish_reason == "length" and len(again) == len(made.logprobs):
            assert made.logprobs == pytest.approx(again, abs=1e-4)
        assert len(made.logprobs) in (made.tokens.completion, made.tokens.completion - 1)
    assert model.write([Request("Add 3 and 4.")])[0].logprobs == ()
