"""The vLLM engine: against a stand-in that answers with `transformers:`, and against the real one if there is one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from potstill.errors import ModelError
from potstill.models.model import Request, Sampling, Scored, Trainable

VLLM_SETTINGS = {
    *("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens"),
    *("stop", "seed", "logprobs", "prompt_logprobs"),
    *("stop_token_ids", "skip_special_tokens", "logit_bias"),
}
Q = "Ned has 19 shells and sells 14. How many are left?"


class StandIn:
    """What `vllm` offers, as its documentation of the offline engine says, answered by a transformers checkpoint."""

    def __init__(self, checkpoint) -> None:
        from potstill.models.local.transformers import TransformersModel

        self.local, self.options, self.asked = TransformersModel(checkpoint), {}, []
        self.ended = "length", None  # finish_reason and stop_reason of every sample
        self.drawn = []  # token ids of every sample; else the prompt's last ones

    def module(self) -> ModuleType:
        module = ModuleType("vllm")
        module.LLM = self.start
        module.SamplingParams = self.sampling_params
        return module

    def sampling_params(self, **settings):
        """Takes the settings under the engine's own names, and no other."""
        assert settings.keys() <= VLLM_SETTINGS, settings
        return SimpleNamespace(**settings)

    def start(self, **options):
        self.options = options
        return SimpleNamespace(generate=self.generate)

    def generate(self, prompts, params, use_tqdm):
        assert not use_tqdm
        self.asked += params
        return [
            self._one(p["prompt_token_ids"], how) for p, how in zip(prompts, params, strict=True)
        ]

    def _one(self, ids, how):
        from potstill.models.local.logprobs import completion_logprobs

        if getattr(how, "prompt_logprobs", None):
            [values] = completion_logprobs(self.local.model, [(ids, 1)])
            places = [
                None,
                *({i: SimpleNamespace(logprob=v)} for i, v in zip(ids[1:], values, strict=True)),
            ]
            return SimpleNamespace(prompt_logprobs=places, outputs=[])
        ids = self.drawn or ids[-how.max_tokens :]
        drawn = SimpleNamespace(
            text="as vLLM decodes it",
            token_ids=ids,
            finish_reason=self.ended[0],
            stop_reason=self.ended[1],
            logprobs=None,
        )
        return SimpleNamespace(outputs=[drawn])


@pytest.fixture
def stand_in(tiny_checkpoint, monkeypatch):
    made = StandIn(tiny_checkpoint)
    monkeypatch.setitem(sys.modules, "vllm", made.module())
    return made


def _engine(path, **options):
    from potstill.models.local.vllm import VllmModel

    return VllmModel(path, **options)


def test_without_vllm_the_error_names_the_server(tiny_checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match="vllm serve PATH"):
        _engine(tiny_checkpoint).write([Request(Q)])


def test_what_the_engine_is_told(stand_in, tiny_checkpoint):
    engine = _engine(tiny_checkpoint, memory=0.5, context=64)
    how = Sampling(temperature=0.7, top_k=5, max_new_tokens=4, stop=("\n\n",), logprobs=True)
    made = engine.write([Request(Q, sampling=how), Request(Q, sampling=how, sample_index=1)])
    assert stand_in.options["gpu_memory_utilization"] == 0.5
    assert stand_in.options["trust_remote_code"] is False
    assert stand_in.options["load_format"] == "safetensors"
    first, second = stand_in.asked
    assert (first.temperature, first.top_k, first.max_tokens, first.stop, first.logprobs) == (
        0.7,
        5,
        4,
        ["\n\n"],
        1,
    )
    assert first.seed != second.seed
    assert [c.finish_reason for c in made] == ["length", "length"]
    assert made[0].tokens == (len(engine.encoder.encode_prompt(Q)), 4, 0, 0)
    assert isinstance(engine, Scored)
    assert isinstance(engine, Trainable)
    assert engine.id != stand_in.local.id


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (("stop", None), ("stop", "")),
        (("stop", 7), ("stop", "")),
        (("stop", "\n\n"), ("stop_string", "\n\n")),
        (("length", None), ("length", "")),
    ],
)
def test_a_stop_string_is_told_from_an_end(stand_in, tiny_checkpoint, ended, expected):
    stand_in.ended = ended
    [made] = _engine(tiny_checkpoint).write([Request(Q, sampling=Sampling(stop=("\n\n",)))])
    assert (made.finish_reason, made.stop_string) == expected


def test_answers_end_and_are_decoded_as_those_of_transformers(stand_in, tmp_path):
    from tiny import tiny_checkpoint, tiny_tokenizer

    known = len(tiny_tokenizer())
    engine = _engine(tiny_checkpoint(tmp_path / "padded", vocab_size=known + 2))
    encoder = engine.encoder
    [end] = encoder.end_ids
    stand_in.drawn = [*encoder.codec.encode("The answer is 5."), end]
    stand_in.ended = "stop", end
    [made] = engine.write([Request(Q)])
    assert (made.text, made.finish_reason) == ("The answer is 5.", "stop")
    [asked] = stand_in.asked
    assert asked.stop_token_ids == [end]
    assert asked.skip_special_tokens is False
    assert asked.logit_bias == {known: -100.0, known + 1: -100.0}


def test_ids_beyond_the_embedding_are_a_message(stand_in, tmp_path):
    from tiny import tiny_checkpoint

    with pytest.raises(ModelError, match="the model has 60 embeddings"):
        _engine(tiny_checkpoint(tmp_path / "narrow", vocab_size=60)).write([Request(Q)])


def test_likelihoods_are_those_of_the_checkpoint(stand_in, tiny_checkpoint):
    pairs = [(Q, "He has 5 left."), (Q, ""), ("Other?", "Yes.")]
    found = _engine(tiny_checkpoint).likelihood(pairs)
    for mine, wanted in zip(found, stand_in.local.likelihood(pairs), strict=True):
        assert mine == pytest.approx(wanted, abs=1e-4)
    assert found[1] == []


def test_a_prompt_beyond_the_context_is_an_error_and_asks_nothing(stand_in, tiny_checkpoint):
    [made] = _engine(tiny_checkpoint, context=4).write([Request(Q)])
    assert made.error.startswith("context: a prompt of")
    assert stand_in.asked == []


def test_what_vllm_cannot_do_is_refused(stand_in, tiny_checkpoint):
    with pytest.raises(ModelError, match="ban_first"):
        _engine(tiny_checkpoint).write([Request(Q, sampling=Sampling(ban_first=("But",)))])


def test_the_real_engine_agrees_with_transformers(tiny_checkpoint):
    pytest.importorskip(
        "vllm", reason="vLLM is not installed here: it needs a GPU and several gigabytes"
    )
    from potstill.models.local.transformers import TransformersModel

    how = Sampling(temperature=0, max_new_tokens=12)
    [ours], [wanted] = (
        _engine(tiny_checkpoint).write([Request(Q, sampling=how)]),
        TransformersModel(tiny_checkpoint).write([Request(Q, sampling=how)]),
    )
    assert ours.text == wanted.text
