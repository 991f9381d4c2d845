"""A fake model that says what it was told to: for tests, demonstrations and dry runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, final

from potstill.data import files
from potstill.errors import InputError, ModelError
from potstill.models.model import Completion, CompletionEnd, Request, cut_at_stop
from potstill.models.scoring import Passage, PassageLike, to_passages
from potstill.records import Prompt, Tokens, digest, read_finish_reason

Answer: TypeAlias = str | Mapping[str, str] | Completion
Script: TypeAlias = Sequence[Any] | Mapping[str, Any] | Callable[[Request], Answer]

ROUND = 1_000_000  # a request's sample index is ROUND * round + place among equal requests
RULE_KEYS = ("prompt", "pattern", "answers", "answer")
SETTINGS = ("rules", "fail", "seed", "name")  # of a file
_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Rule:
    """Answers for the prompts that it matches.

    Args:
        answers: one a sample, taken in turn and from the beginning again; a string, or {text, finish, stop_string,
            error}.
        prompt: the exact rendered prompt, or its last user turn.
        pattern: a regular expression searched in the rendered prompt with the prefix behind it; used without `prompt`.
    """

    answers: tuple[Answer, ...]
    prompt: str | None = None
    pattern: str = ""

    def matches(self, request: Request) -> bool:
        """Whether this rule answers the request."""
        if self.prompt is not None:
            return self.prompt.strip() in (
                render(request.prompt).strip(),
                last_user(request.prompt).strip(),
            )
        return re.search(self.pattern, render(request.prompt) + request.prefix) is not None


@final
class ScriptedModel:
    """Answers by rule, the first that matches; the same request always gets the same completion.

    A token is a word with the blanks before it. An answer that begins with the request's prefix is continued after it.

    Args:
        script: a list of answers for every prompt, or of `Rule`s or {prompt or pattern, answers}; a mapping from
            prompt to answer or answers; or a function of the request.
        fail: share of requests that fail, chosen by hash.
        seed: changes which ones fail, the likelihoods, and the id.
        name: part of the id, to tell apart what has one script.
        weights: a checkpoint folder, which makes this a model that a stage can train.
        logprobs: the log-probabilities of a passage's tokens; without it they are hashed.
    """

    weights: Path

    def __init__(
        self,
        script: Script,
        *,
        fail: float = 0.0,
        seed: int = 0,
        name: str = "",
        weights: Path | None = None,
        logprobs: Callable[[Passage], Sequence[float]] | None = None,
    ) -> None:
        self._logprobs = logprobs
        self._function = script if callable(script) else None
        self._rules = () if callable(script) else _read_script(script)
        self._fail, self._seed, self._name = fail, seed, name
        self.calls: list[Request] = []
        self.scored: list[Passage] = []
        if weights is not None:
            self.weights = weights
        if self._function is not None or logprobs is not None:
            _ = self.id  # made now: what the function closed over may change while it answers

    @classmethod
    def load(cls, path: Path, **options: Any) -> ScriptedModel:
        """Read a .json, .jsonl or .yaml file: a list, a mapping, or {rules: …, fail: …, seed: …}."""
        # A mapping is settings with rules, one rule, or answers by prompt.
        content = files.read_value(path, "a file of scripted answers")
        if isinstance(content, dict) and "rules" in content:
            unknown_keys = sorted(set(content) - set(SETTINGS))
            if unknown_keys:
                message = f"{path}: unknown key {unknown_keys[0]!r}"
                raise InputError(message, available=SETTINGS, fix="rename or remove it")
            script = content.pop("rules")
            return cls(script, **{**content, **options})
        if isinstance(content, dict) and ("answers" in content or "answer" in content):
            content = [content]
        if not isinstance(content, list | dict):
            raise InputError(
                f"{path} holds a {type(content).__name__}",
                expected="a list or a mapping",
                fix="write a list of answers or of {pattern: …, answers: […]}",
            )
        return cls(content, **options)

    @cached_property
    def id(self) -> str:
        """Content id over the rules and settings."""
        script = self._function or self._rules
        parts: list[Any] = [script, self._fail, self._seed, self._name]
        if self._logprobs is not None:
            parts.append(self._logprobs)
        return digest("scripted", parts)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; every request is noted in `calls`."""
        self.calls.extend(requests)
        return [self._complete(request) for request in requests]

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """A number for each word: what `logprobs` says, or one from -5 to 0 hashed from what stands up to the word."""
        all_passages = to_passages(passages)
        self.scored.extend(all_passages)
        if self._logprobs is not None:
            return [list(self._logprobs(passage)) for passage in all_passages]
        return [self._word_logprobs(passage) for passage in all_passages]

    def _complete(self, request: Request) -> Completion:
        if self._fail and request.random_seed(self.id) / 2**63 < self._fail:
            return Completion("", "", error="scripted failure")
        answer = self._function(request) if self._function else self._choose_answer(request)
        if isinstance(answer, Completion):
            return answer
        if isinstance(answer, Mapping):
            return _complete_from_mapping(answer, request)
        return _complete_from_text(answer, request)

    def _choose_answer(self, request: Request) -> Answer:
        for rule in self._rules:
            if rule.matches(request):
                round_number, place = divmod(request.sample_index, ROUND)
                return rule.answers[(round_number + place) % len(rule.answers)]
        raise ModelError(
            f"the scripted model has no rule for the prompt {render(request.prompt)[:80]!r}",
            expected=f"one of its {len(self._rules)} rules to match",
            available=[(rule.prompt or f"/{rule.pattern}/")[:60] for rule in self._rules[:10]],
            fix="add a last rule with the pattern '' that answers everything else",
        )

    def _word_logprobs(self, passage: Passage) -> list[float]:
        logprobs = []
        prompt = render(passage.prompt)
        for match in _WORD.finditer(passage.text):
            hashed = f"{self._seed}\0{prompt}\0{passage.prefix}{passage.text[: match.end()]}"
            digest_bytes = hashlib.sha256(hashed.encode("utf-8", "surrogatepass")).digest()
            logprobs.append(-5.0 * int.from_bytes(digest_bytes[:8], "big") / 2**64)
        return logprobs


def render(prompt: Prompt) -> str:
    """A prompt as one string: itself, or `role: content` turns with a blank line between."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def last_user(prompt: Prompt) -> str:
    """What the user said last: a bare prompt, or the content of the last user turn."""
    if isinstance(prompt, str):
        return prompt
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _complete_from_text(text: str, request: Request) -> Completion:
    """The text behind the request's prefix, as far as a stop string or the limit allows; a token is a word."""
    # The text ends at its first stop string.
    sampling = request.sampling
    text, stop_string = cut_at_stop(text.removeprefix(request.prefix), sampling.stop)
    words = _WORD.findall(text)
    # A word is a token: of the prompt, and of the completion up to the limit.
    prompt = render(request.prompt)
    if isinstance(request.prompt, str):
        prompt += request.prefix
    prompt_tokens = len(prompt.split())
    if len(words) > sampling.max_new_tokens:
        text = "".join(words[: sampling.max_new_tokens])
        return Completion(text, "length", Tokens(prompt_tokens, sampling.max_new_tokens))
    finish_reason: CompletionEnd = "stop_string" if stop_string else "stop"
    tokens = Tokens(prompt_tokens, len(words))
    return Completion(text, finish_reason, tokens, stop_string=stop_string)


def _complete_from_mapping(answer: Mapping[str, str], request: Request) -> Completion:
    if answer.get("error"):
        return Completion("", "", error=answer["error"])
    completion = _complete_from_text(answer.get("text", ""), request)
    finish_reason = read_finish_reason(answer.get("finish", "stop"), in_file=True)
    if finish_reason == "length":
        return completion._replace(finish_reason="length", stop_string="")
    if finish_reason == "stop_string":
        stop_string = completion.stop_string or answer.get("stop_string", "")
        return completion._replace(finish_reason="stop_string", stop_string=stop_string)
    if finish_reason != "stop":
        error = f"unfinished: the script says {answer['finish']!r} of its end"
        return completion._replace(finish_reason="", stop_string="", error=error)
    return completion


def _read_script(script: Sequence[Any] | Mapping[str, Any]) -> tuple[Rule, ...]:
    """Rules from a mapping of prompts, from a list of rules, or from a list of answers to every prompt."""
    if isinstance(script, Mapping):
        rules = []
        for prompt, value in script.items():
            rules.append(Rule(_read_answers(value, prompt), prompt=prompt))
        return tuple(rules)
    if any(_is_rule(item) for item in script):
        return tuple(item if isinstance(item, Rule) else _read_rule(item) for item in script)
    return (Rule(_read_answers(list(script), "every prompt")),)


def _is_rule(item: Any) -> bool:
    if isinstance(item, Rule):
        return True
    return isinstance(item, Mapping) and not set(RULE_KEYS).isdisjoint(item)


def _read_rule(item: Any) -> Rule:
    is_mapping = isinstance(item, Mapping)
    if not is_mapping or not {"answers", "answer"} & set(item) or set(item) - set(RULE_KEYS):
        raise InputError(
            f"not a rule: {str(item)[:80]}",
            expected="prompt or pattern, and answers",
            available=RULE_KEYS,
            fix="write {pattern: 'regular expression', answers: ['first sample', 'second sample']}",
        )
    pattern = item.get("pattern", "")
    try:
        re.compile(pattern)
    except re.error as error:
        message = f"not a regular expression: {pattern!r} ({error})"
        raise InputError(message, fix="escape its special characters") from error
    answers = _read_answers(item.get("answers", item.get("answer")), pattern)
    return Rule(answers, item.get("prompt"), pattern)


def _read_answers(value: Any, where: str) -> tuple[Answer, ...]:
    """The answers to a prompt: one, or a list of them."""
    is_list = isinstance(value, list | tuple) and not isinstance(value, Completion)
    answers = tuple(value) if is_list else (value,)
    for answer in answers:
        if isinstance(answer, str | Completion):
            continue
        if not isinstance(answer, Mapping) or not {"text", "error"} & set(answer):
            raise InputError(
                f"not an answer, for {where[:60]!r}: {str(answer)[:80]}",
                expected="a string, or {text, finish, stop_string, error}",
                fix="quote numbers: '42'",
            )
    if not answers:
        raise InputError(
            f"no answers for {where[:60]!r}",
            expected="at least one",
            fix="add one, or remove the rule",
        )
    return answers
