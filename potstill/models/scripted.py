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
from potstill.models.model import Completion, Request
from potstill.records import Prompt, Tokens, digest

Answer: TypeAlias = str | Mapping[str, str] | Completion
Script: TypeAlias = Sequence[Any] | Mapping[str, Any] | Callable[[Request], Answer]

ROUND = 1_000_000  # a Request's draw is round * ROUND + index of the twin
_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Rule:
    """Answers for the prompts that it matches.

    Args:
        answers: one a draw, taken in turn and from the beginning again; a string, or {text, finish, error}.
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
        name: part of the id; give one to closures, whose values the id can't see.
        weights: a checkpoint folder, which makes this a model that a stage can train.
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
    ) -> None:
        self._function = script if callable(script) else None
        self._rules = () if callable(script) else _rules(script)
        self._fail, self._seed, self._name = fail, seed, name
        self.calls: list[Request] = []
        self.scored: list[tuple[Prompt, str]] = []
        if weights is not None:
            self.weights = weights

    @classmethod
    def load(cls, path: Path, **options: Any) -> ScriptedModel:
        """Read a .json, .jsonl or .yaml file: a list, a mapping, or {rules: …, fail: …, seed: …}."""
        content = files.content(path, "a file of scripted answers")
        if isinstance(content, dict) and "rules" in content:
            unknown = set(content) - {"rules", "fail", "seed", "name"}
            if unknown:
                found = f"{path}: unknown key {sorted(unknown)[0]!r}"
                raise InputError(
                    found, available=("rules", "fail", "seed", "name"), fix="rename or remove it"
                )
            options = {**{k: v for k, v in content.items() if k != "rules"}, **options}
            content = content["rules"]
        if isinstance(content, dict) and ("answers" in content or "answer" in content):
            content = [content]
        if not isinstance(content, list | dict):
            fix = "write a list of answers or of {pattern: …, answers: […]}"
            raise InputError(
                f"{path} holds a {type(content).__name__}", expected="a list or a mapping", fix=fix
            )
        return cls(content, **options)

    @cached_property
    def id(self) -> str:
        """Content id over the rules and settings."""
        return digest(
            "scripted", [self._function or self._rules, self._fail, self._seed, self._name]
        )

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; every request is noted in `calls`."""
        self.calls.extend(requests)
        return [self._one(request) for request in requests]

    def likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """A fixed number between -5 and 0 for each word, hashed from the prompt and the text up to it."""
        self.scored.extend(pairs)
        return [self._logprobs(render(prompt), text) for prompt, text in pairs]

    def _one(self, request: Request) -> Completion:
        if self._fail and request.random_seed(self.id) / 2**63 < self._fail:
            return Completion("", "", error="scripted failure")
        answer = self._function(request) if self._function else self._choose(request)
        if isinstance(answer, Completion):
            return answer
        if isinstance(answer, Mapping):
            return (
                _given(answer, request)
                if "error" in answer or "finish" in answer
                else _cut(answer["text"], request)
            )
        return _cut(answer, request)

    def _choose(self, request: Request) -> Answer:
        for rule in self._rules:
            if rule.matches(request):
                again, index = divmod(request.draw, ROUND)
                return rule.answers[(again + index) % len(rule.answers)]
        raise ModelError(
            f"the scripted model has no rule for the prompt {render(request.prompt)[:80]!r}",
            expected=f"one of its {len(self._rules)} rules to match",
            available=[(rule.prompt or f"/{rule.pattern}/")[:60] for rule in self._rules[:10]],
            fix="add a last rule with the pattern '' that answers everything else",
        )

    def _logprobs(self, prompt: str, text: str) -> list[float]:
        ends = [match.end() for match in _WORD.finditer(text)]
        hashes = (
            hashlib.sha256(f"{self._seed}\0{prompt}\0{text[:end]}".encode("utf-8", "surrogatepass"))
            for end in ends
        )
        return [-5.0 * int.from_bytes(h.digest()[:8], "big") / 2**64 for h in hashes]


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


def _cut(text: str, request: Request) -> Completion:
    sampling = request.sampling
    text = text.removeprefix(request.prefix) if request.prefix else text
    cuts = [at for stop in sampling.stop if stop and (at := text.find(stop)) >= 0]
    text = text[: min(cuts)] if cuts else text
    words = _WORD.findall(text)
    used = Tokens(
        len(
            render(
                request.prompt + request.prefix
                if isinstance(request.prompt, str)
                else request.prompt
            ).split()
        )
    )
    if len(words) > sampling.max_tokens:
        kept = "".join(words[: sampling.max_tokens])
        return Completion(kept, "length", used._replace(completion=sampling.max_tokens))
    return Completion(text, "stop", used._replace(completion=len(words)))


def _given(answer: Mapping[str, str], request: Request) -> Completion:
    if answer.get("error"):
        return Completion("", "", error=answer["error"])
    made = _cut(answer.get("text", ""), request)
    return made._replace(finish="length") if answer.get("finish") == "length" else made


def _rules(script: Sequence[Any] | Mapping[str, Any]) -> tuple[Rule, ...]:
    if isinstance(script, Mapping):
        return tuple(
            Rule(_answers(value, prompt), prompt=prompt) for prompt, value in script.items()
        )
    if any(
        isinstance(item, Rule) or (isinstance(item, Mapping) and _is_rule(item)) for item in script
    ):
        return tuple(item if isinstance(item, Rule) else _rule(item) for item in script)
    return (Rule(_answers(list(script), "every prompt")),)


def _is_rule(item: Mapping[str, Any]) -> bool:
    return bool({"answers", "answer", "pattern", "prompt"} & set(item))


def _rule(item: Any) -> Rule:
    keys = ("prompt", "pattern", "answers", "answer")
    if (
        not isinstance(item, Mapping)
        or not {"answers", "answer"} & set(item)
        or set(item) - set(keys)
    ):
        fix = "write {pattern: 'regular expression', answers: ['first draw', 'second draw']}"
        raise InputError(
            f"not a rule: {str(item)[:80]}",
            expected="prompt or pattern, and answers",
            available=keys,
            fix=fix,
        )
    pattern = item.get("pattern", "")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"not a regular expression: {pattern!r} ({error})", fix="escape its special characters"
        ) from error
    return Rule(
        _answers(item.get("answers", item.get("answer")), pattern), item.get("prompt"), pattern
    )


def _answers(value: Any, where: str) -> tuple[Answer, ...]:
    answers = (
        tuple(value)
        if isinstance(value, list | tuple) and not isinstance(value, Completion)
        else (value,)
    )
    for answer in answers:
        fine = isinstance(answer, str | Completion) or (
            isinstance(answer, Mapping) and {"text", "error"} & set(answer)
        )
        if not fine:
            found = f"not an answer, for {where[:60]!r}: {str(answer)[:80]}"
            raise InputError(
                found, expected="a string, or {text, finish, error}", fix="quote numbers: '42'"
            )
    if not answers:
        raise InputError(
            f"no answers for {where[:60]!r}",
            expected="at least one",
            fix="add one, or remove the rule",
        )
    return answers
