"""Likelihoods of given completions from a server: prompt log-probabilities (vLLM) or `echo` (plain completions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.errors import ModelError
from potstill.models.remote.options import Options
from potstill.models.remote.request import Bodies, messages
from potstill.models.remote.response import parse_json, read_logprobs, read_usage
from potstill.records import Prompt

Bodyful = tuple[str, dict[str, Any]]

# What a model behind a wire has only where it is told how, and the options that do so.
ABILITIES = {"likelihood": "score= (and weights=)", "weights": "weights="}


def questions(bodies: Bodies, prompt: Prompt, text: str) -> list[Bodyful]:
    """The calls that score a text: the whole; where nothing else tells where the text begins, the prompt alone too."""
    options, encoder = bodies.options, bodies.encoder
    body: dict[str, Any] = {
        "model": bodies.model,
        "max_tokens": 1,
        "temperature": 0,
        **options.extra,
    }
    if options.score == "echo":
        asked = bodies.shown(prompt, rendered=options.mode != "text")
        return [("/completions", {**body, "prompt": asked + text, "echo": True, "logprobs": 1})]
    body["prompt_logprobs"] = 0
    if encoder is not None and options.mode != "text":
        ids, _ = encoder.encode_completion(prompt, text)
        return [("/completions", {**body, "prompt": ids})]
    if options.mode == "text":
        asked = bodies.shown(prompt, rendered=False)
        return [("/completions", {**body, "prompt": asked + end}) for end in (text, "")]
    turns = messages(prompt)
    whole = [*turns, {"role": "assistant", "content": text}]
    more = {"continue_final_message": True, "add_generation_prompt": False}
    return [
        ("/chat/completions", {**body, "messages": whole, **more}),
        ("/chat/completions", {**body, "messages": turns}),
    ]


def values(bodies: Bodies, prompt: Prompt, text: str, answers: list[bytes]) -> list[float]:
    """The log-probabilities of the text's tokens, from the answers to `questions`."""
    found = [parse_json(answer) for answer in answers]
    options, whole = bodies.options, found[0] if isinstance(found[0], dict) else {}
    if options.score == "echo":
        asked = bodies.shown(prompt, rendered=options.mode != "text")
        made = _echoed(whole, len(asked), len(asked) + len(text))
    else:
        start = (
            len(bodies.encoder.encode_prompt(prompt)) if len(answers) == 1 and bodies.encoder else 0
        )
        if len(answers) == 2:
            start = read_usage(found[1].get("usage") if isinstance(found[1], dict) else None).prompt
        made = _given(whole, start)
    if not made:
        raise refused(bodies.model, options, "its answer holds no log-probabilities of the prompt")
    return list(made)


def refused(model: str, options: Options, why: str) -> ModelError:
    """The error of a server that can't score."""
    return ModelError(
        f"{model} at {options.base} gave no likelihoods with score={options.score}: {why}",
        expected="log-probabilities of given tokens: vLLM's prompt_logprobs, or echo of plain completions",
        available=(
            "score=prompt_logprobs",
            "score=echo&mode=text",
            "score=weights&weights=PATH",
            "transformers:PATH",
        ),
        fix="score with the checkpoint itself: transformers:PATH, or ?weights=PATH&score=weights",
    )


class UnableError(ModelError, AttributeError):
    """An ability that a model was not given: an attribute that is not there, so that no Protocol takes it for one."""


def unable(model: str, base: str, name: str) -> UnableError:
    """The error of a model without `likelihood` or `weights`."""
    score = "score=prompt_logprobs (vLLM), score=echo&mode=text, or weights=PATH&score=weights"
    return UnableError(
        f"{model} at {base} was not told how to give {name}",
        expected=f"a model with {ABILITIES[name]}",
        available=(f"openai:{model}?…&score=… with weights=PATH", "transformers:PATH"),
        fix=f"?{score}"
        if name == "likelihood"
        else "?weights=PATH of a local checkpoint of the same model",
    )


def _echoed(whole: Mapping[str, Any], start: int, stop: int) -> tuple[float, ...]:
    logs = (_first(whole).get("logprobs") or {}) if whole else {}
    logs = logs if isinstance(logs, Mapping) else {}
    tokens, offsets, given = (
        logs.get(name) for name in ("tokens", "text_offset", "token_logprobs")
    )
    lists = [part for part in (tokens, offsets, given) if isinstance(part, list)]
    if len(lists) < 3 or len({len(part) for part in lists}) != 1:
        return ()
    base = next((o for o in lists[1] if isinstance(o, int)), 0)
    inside = []
    for token, offset, value in zip(*lists):
        if not isinstance(token, str) or not isinstance(offset, int):
            return ()
        at = offset - base
        if at + len(token) > start and at < stop:
            inside.append(value)
    return read_logprobs(inside) or ()


def _given(whole: Mapping[str, Any], start: int) -> tuple[float, ...]:
    """Of vLLM: one entry a position, null for the first; an entry's first token is the one that stands there."""
    entries = whole.get("prompt_logprobs") or _first(whole).get("prompt_logprobs")
    if not isinstance(entries, list) or not 0 < start < len(entries):
        return ()
    tops = [
        next(iter(entry.values()), None) if isinstance(entry, Mapping) else None
        for entry in entries[start:]
    ]
    return (
        read_logprobs([top.get("logprob") if isinstance(top, Mapping) else None for top in tops])
        or ()
    )


def _first(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = whole.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}
