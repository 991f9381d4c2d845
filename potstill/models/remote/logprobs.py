"""Likelihoods of given completions from a server: prompt log-probabilities (vLLM) or `echo` (plain completions)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.models.remote.json_body import as_list, as_object, parse_json_object
from potstill.models.remote.options import ServerOptions
from potstill.models.remote.request import ApiCall, RequestBuilder, to_messages
from potstill.models.remote.response import read_logprobs, read_usage
from potstill.models.scoring import Passage

# What a remote model has only where options say how, and the options that do so.
OPTIONS_OF_ABILITY = {
    "likelihood": "score= (and weights=)",
    "score_tokens": "score=",
    "weights": "weights=",
}
UNKNOWN_BOUNDARY = "the texts of its tokens do not say where the scored text begins (weights=PATH counts them here)"


def scoring_calls(builder: RequestBuilder, passage: Passage) -> list[ApiCall]:
    """The calls that score a text: of all up to its end, and of the prompt alone where its length is not known."""
    options, encoder = builder.options, builder.encoder
    prompt, answer = passage.prompt, passage.prefix + passage.text
    body: dict[str, Any] = {
        "model": builder.model,
        "max_tokens": 1,
        "temperature": 0,
        **options.extra,
    }
    # A plain completion that repeats the prompt says by characters which tokens are the text's.
    if options.score == "echo":
        rendered = builder.render_prompt(prompt, answer, is_rendered=options.mode != "text")
        body |= {"prompt": rendered + answer, "echo": True, "logprobs": 1}
        return [ApiCall("/completions", body, is_chat=False)]

    # With prompt_logprobs the number of the prompt's tokens has to be known: from the tokenizer, or from a second call.
    body["prompt_logprobs"] = 0
    if encoder is not None and options.mode != "text":
        ids, _ = encoder.encode_passage(passage)
        return [ApiCall("/completions", body | {"prompt": ids}, is_chat=False)]
    if options.mode == "text":
        rendered = builder.render_prompt(prompt, is_rendered=False)
        return [
            ApiCall("/completions", body | {"prompt": rendered + answer}, is_chat=False),
            ApiCall("/completions", body | {"prompt": rendered}, is_chat=False),
        ]
    turns = to_messages(prompt)
    answered_turns = [*turns, {"role": "assistant", "content": answer}]
    continuation = {"continue_final_message": True, "add_generation_prompt": False}
    path = "/chat/completions"
    return [
        ApiCall(path, body | {"messages": answered_turns} | continuation, is_chat=True),
        ApiCall(path, body | {"messages": turns}, is_chat=True),
    ]


def text_logprobs(builder: RequestBuilder, passage: Passage, answers: list[bytes]) -> list[float]:
    """The log-probabilities of the text's tokens, from the answers to `scoring_calls`."""
    scored, *prompt_answers = map(parse_json_object, answers)
    options = builder.options
    if options.score == "echo":
        answer = passage.prefix + passage.text
        rendered = builder.render_prompt(passage.prompt, answer, is_rendered=options.mode != "text")
        start = len(rendered) + len(passage.prefix)
        logprobs = _logprobs_of_echo(scored, start, start + len(passage.text))
    else:
        # The text begins behind the tokens of prompt and prefix. The tokenizer says how many these are; without it the
        # second answer counts the prompt's, and the texts of the tokens behind them say where the prefix ends.
        entries = _prompt_entries(scored)
        first_token = 0
        if prompt_answers:
            first_token = read_usage(prompt_answers[0].get("usage")).prompt
            if passage.prefix:
                prefix_count = _count_prefix_tokens(entries[first_token:], passage)
                if prefix_count is None:
                    raise scoring_error(builder.model, options, UNKNOWN_BOUNDARY)
                first_token += prefix_count
        elif builder.encoder is not None:
            _, first_token = builder.encoder.encode_passage(passage)
        logprobs = _logprobs_of_entries(entries, first_token)
    if not logprobs:
        reason = "its answer holds no log-probabilities of the prompt"
        raise scoring_error(builder.model, options, reason)
    return list(logprobs)


def scoring_error(model: str, options: ServerOptions, reason: str) -> ModelError:
    """The error of a server that can't score."""
    return ModelError(
        f"{model} at {options.base} gave no likelihoods with score={options.score}: {reason}",
        expected="log-probabilities of given tokens: vLLM's prompt_logprobs, or echo of plain completions",
        available=(
            "score=prompt_logprobs",
            "score=echo&mode=text",
            "score=weights&weights=PATH",
            "transformers:PATH",
        ),
        fix="score with the checkpoint itself: transformers:PATH, or ?weights=PATH&score=weights",
    )


def token_scoring_error(model: str, options: ServerOptions, reason: str) -> ModelError:
    """The error of a server that does not say what a teacher of distributions must say."""
    return ModelError(
        f"{model} at {options.base} gave no likeliest tokens with score={options.score}: {reason}",
        expected="of each token its log-probability, and the k likeliest in its place, likeliest first",
        available=("score=prompt_logprobs", "score=input_top_logprobs", "score=n_probs"),
        fix="docs/servers.md says how each server is started; or give a local checkpoint: transformers:PATH",
    )


class MissingAbilityError(ModelError, AttributeError):
    """An ability that a model was not given: an attribute that is not there, so that no Protocol takes it for one."""


def missing_ability_error(model: str, base: str, ability: str) -> MissingAbilityError:
    """The error of a model without `likelihood` or `weights`."""
    fix = "?weights=PATH of a local checkpoint of the same model"
    if ability == "score_tokens":
        fix = "?score=prompt_logprobs (vLLM), input_top_logprobs (SGLang) or n_probs (llama.cpp)"
    if ability == "likelihood":
        fix = "?score=prompt_logprobs (vLLM), score=echo&mode=text, or weights=PATH&score=weights"
    return MissingAbilityError(
        f"{model} at {base} has no {ability}: its options do not say how",
        expected=f"a model with {OPTIONS_OF_ABILITY[ability]}",
        available=(f"openai:{model}?…&score=… with weights=PATH", "transformers:PATH"),
        fix=fix,
    )


def _logprobs_of_echo(answer: Mapping[str, Any], start: int, stop: int) -> tuple[float, ...]:
    """Of a plain completion that repeats the prompt: those of the tokens between two characters of it."""
    logprobs = as_object(_first_choice(answer).get("logprobs"))
    tokens = as_list(logprobs.get("tokens"))
    offsets = as_list(logprobs.get("text_offset"))
    values = as_list(logprobs.get("token_logprobs"))
    if not len(tokens) == len(offsets) == len(values):
        return ()
    # Some servers count characters from the beginning of the text, some from elsewhere.
    first_offset = next((offset for offset in offsets if isinstance(offset, int)), 0)
    text_values = []
    for token, offset, value in zip(tokens, offsets, values):
        if not isinstance(token, str) or not isinstance(offset, int):
            return ()
        position = offset - first_offset
        if position + len(token) > start and position < stop:
            text_values.append(value)
    return read_logprobs(text_values) or ()


def _prompt_entries(answer: Mapping[str, Any]) -> list[Any]:
    """Of vLLM: one entry a position of the prompt, null for the first."""
    entries = as_list(answer.get("prompt_logprobs"))
    return list(entries or as_list(_first_choice(answer).get("prompt_logprobs")))


def _logprobs_of_entries(entries: Sequence[Any], first_token: int) -> tuple[float, ...]:
    """The log-probabilities of the tokens from one on."""
    if not 0 < first_token < len(entries):
        return ()
    return (
        read_logprobs([_given_token(entry).get("logprob") for entry in entries[first_token:]]) or ()
    )


def _given_token(entry: Any) -> Mapping[str, Any]:
    """What an entry says of the token that stands at its position: the first one that it names."""
    return as_object(next(iter(as_object(entry).values()), None))


def _count_prefix_tokens(entries: Sequence[Any], passage: Passage) -> int | None:
    """How many of the answer's tokens hold characters of the prefix alone, by the texts that the server gives of them.

    None where these do not join to prefix and text, so that nobody knows where the text begins: a character may be cut
    into several tokens, or the server's template may have changed the answer.
    """
    pieces = [_given_token(entry).get("decoded_token") for entry in entries]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    if len(texts) < len(pieces) or "".join(texts) != passage.prefix + passage.text:
        return None
    ends = itertools.accumulate(map(len, texts))
    return sum(end <= len(passage.prefix) for end in ends)


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = as_list(answer.get("choices"))
    return as_object(choices[0]) if choices else {}
