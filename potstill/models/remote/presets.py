"""How servers that speak OpenAI's protocol differ from it, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

# How a server is told to go on with what the assistant has written:
#   continue  vLLM's continue_final_message with add_generation_prompt=false
#   prefix    the last assistant message with prefix: true (DeepSeek's beta, Mistral)
#   last      the last assistant message, continued without being told
#   template  plain completions of a prompt that is rendered here, with the template of `weights`
#   none      not at all
Prefill: TypeAlias = Literal["continue", "prefix", "last", "template", "none"]
PREFILL_MODES = ("auto", "continue", "prefix", "last", "template", "none")
THINK_MODES = ("raw", "lines")
# Whether an answer begins with the prefix that it goes on with. "auto": as the preset knows, and where it does not, a
# prefix that is too long to come back by chance is taken off the answers that begin with it.
REPEATS_MODES = ("auto", "yes", "no")


@dataclass(frozen=True, slots=True)
class Preset:
    """How a server differs from OpenAI's protocol.

    Args:
        url: where it answers.
        key: name of the environment variable that holds its key.
        paid: a vendor that answers nobody without a key.
        prefill: see `Prefill`.
        think: how reasoning and answer that are returned apart stood together: "raw" as they are, "lines" with a line
            break after `<think>` and around `</think>` that the server took away.
        limit: what it calls the most tokens of an answer.
        seed: what it calls the seed.
        seed_bits: of a seed that it takes.
        explicit: it has defaults of its own for settings that a request leaves out, so all of them are sent.
        neutral: fields that we have no setting for and it has a default for, with the value that changes nothing.
        beta: where `prefix` is answered, if elsewhere.
        packs_scores: it returns scores of prompts as arrays where it is asked to (`prompt_logprobs_base64`).
        names: what it calls settings beyond the protocol; a setting that it does not know is not here.
        grouped: whether it takes n > 1.
        repeats_prefix: whether its answers say a given prefix again; None where nobody has tried.
        concurrency: calls in flight at most, where the user says nothing.
    """

    url: str = ""
    key: str = ""
    paid: bool = False
    prefill: Prefill = "none"
    think: str = "raw"
    limit: str = "max_tokens"
    seed: str = "seed"
    seed_bits: int = 31
    explicit: bool = False
    neutral: tuple[tuple[str, float], ...] = ()
    beta: str = ""
    names: tuple[tuple[str, str], ...] = ()
    grouped: bool = True
    repeats_prefix: bool | None = None
    packs_scores: bool = False
    concurrency: int = 64


# llama.cpp cuts what is rarer than a twentieth of the best token, unless it is told; vLLM and SGLang take min_p from
# the model's generation config.
_NO_MIN_P = (("min_p", 0.0),)
_SAME_NAMES = (("top_k", "top_k"), ("repetition_penalty", "repetition_penalty"))

DEFAULT_PRESET = Preset(names=_SAME_NAMES)
PRESETS: Mapping[str, Preset] = {
    # Vendors.
    "openai": Preset(
        url="https://api.openai.com/v1",
        key="OPENAI_API_KEY",
        paid=True,
        limit="max_completion_tokens",
    ),
    "deepseek": Preset(
        url="https://api.deepseek.com/v1",
        key="DEEPSEEK_API_KEY",
        paid=True,
        prefill="prefix",
        think="lines",
        beta="https://api.deepseek.com/beta",
    ),
    "openrouter": Preset(
        url="https://openrouter.ai/api/v1",
        key="OPENROUTER_API_KEY",
        paid=True,
        prefill="last",
        think="lines",
        names=_SAME_NAMES,
    ),
    "together": Preset(
        url="https://api.together.xyz/v1",
        key="TOGETHER_API_KEY",
        paid=True,
        prefill="last",
        names=_SAME_NAMES,
    ),
    "groq": Preset(
        url="https://api.groq.com/openai/v1",
        key="GROQ_API_KEY",
        paid=True,
        prefill="last",
        limit="max_completion_tokens",
        grouped=False,
    ),
    "mistral": Preset(
        url="https://api.mistral.ai/v1",
        key="MISTRAL_API_KEY",
        paid=True,
        prefill="prefix",
        seed="random_seed",
    ),
    # Servers of one's own, at the port that each takes by itself.
    "vllm": Preset(
        url="http://127.0.0.1:8000/v1",
        key="VLLM_API_KEY",
        prefill="continue",
        seed_bits=63,
        explicit=True,
        names=_SAME_NAMES,
        neutral=_NO_MIN_P,
        repeats_prefix=False,  # its `echo`, which is not sent, would
    ),
    "potstill": Preset(
        url="http://127.0.0.1:8747/v1",
        key="POTSTILL_API_KEY",
        packs_scores=True,
        prefill="continue",
        seed_bits=63,
        names=_SAME_NAMES,
        repeats_prefix=False,
    ),
    "sglang": Preset(
        url="http://127.0.0.1:30000/v1",
        key="SGLANG_API_KEY",
        prefill="continue",
        explicit=True,
        neutral=_NO_MIN_P,
        names=_SAME_NAMES,
    ),
    "llamacpp": Preset(
        url="http://127.0.0.1:8080/v1",
        key="LLAMA_API_KEY",
        prefill="last",
        names=(("top_k", "top_k"), ("repetition_penalty", "repeat_penalty")),
        explicit=True,
        neutral=_NO_MIN_P,
        grouped=False,  # with n it counts the tokens of one sample alone
        repeats_prefix=True,
    ),
    "ollama": Preset(url="http://127.0.0.1:11434/v1", prefill="last", grouped=False),
    "transformers": Preset(
        url="http://127.0.0.1:8000/v1",
        prefill="template",
        think="lines",
        seed_bits=63,
        explicit=True,
        names=(("top_k", "generation_config"), ("repetition_penalty", "generation_config")),
        grouped=False,
        concurrency=1,  # its samples share one random generator: calls side by side would change each other's
    ),
}
