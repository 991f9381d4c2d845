"""A model behind any server that speaks OpenAI's protocol: `openai:MODEL?at=vllm`, `openai:MODEL?url=http://HOST/v1`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

from potstill.errors import ModelError, PotstillError
from potstill.models.local.prompt import PromptEncoder
from potstill.models.model import Completion, Gate, Request, Scored
from potstill.models.remote import batch_api, event_loop
from potstill.models.remote.dispatch import Stream
from potstill.models.remote.error_messages import is_field, stopped
from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import Flow
from potstill.models.remote.http import Wire
from potstill.models.remote.logprobs import ABILITIES, questions, refused, unable, values
from potstill.models.remote.options import Options, refuse_secrets
from potstill.models.remote.request import Bodies, Call, encoded
from potstill.models.remote.response import ResponseContext, read_response, to_completions
from potstill.records import Prompt, digest

LONG = 24  # characters of a prefix that no answer repeats by chance
LIMITS = ("max_tokens", "max_completion_tokens")


@final
class OpenAIModel:
    """A model that a server answers for.

    It scores only where `score=` says how (`likelihood`), and is trainable only where `weights=` names the same model's
    checkpoint.

    Args:
        model: the server's name for it.
        chosen: options that are made already, in the place of `options`.
        wire: what brings a body to the server.
        options: see `wire_options.Options`.
    """

    weights: Path
    likelihood: Callable[[Sequence[tuple[Prompt, str]]], list[list[float]]]

    def __init__(
        self,
        model: str,
        chosen: Options | None = None,
        wire: Callable[[Options], Wire] = Wire,
        **options: Any,
    ) -> None:
        """Read the key from the environment; nothing is sent yet."""
        refuse_secrets(model)
        if not model:
            raise ModelError(
                "openai: without a model's name",
                fix="openai:NAME?at=… or openai:NAME?url=http://HOST/v1",
            )
        self.model, self.options = model, chosen or Options(**options)
        self.encoder = None
        if self.options.weights is not None:
            self.weights, self.encoder = self.options.weights, PromptEncoder(self.options.weights)
        if self.options.score:
            self.likelihood = self._weighed if self.options.score == "weights" else self._likelihood
        self._bodies = Bodies(model, self.options, self.encoder)
        self._wire = wire(self.options)
        self._flows: dict[int, Flow] = {}
        self._lock = threading.Lock()
        self._group = self.options.n if self.options.preset.grouped else 1
        self._repeats = False

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, {self.options.base!r})"

    def __getattr__(self, name: str) -> Any:
        """Say, of an ability that it was not given, how it is given; to a Protocol it is not there."""
        if name in ABILITIES:
            raise unable(self.model, self.options.base, name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    @cached_property
    def id(self) -> str:
        """Digest over host (a loopback one is "local"), model, mode and extra fields; not over key, port or limits."""
        options = self.options
        who = ["name", options.name] if options.name else [options.host, self.model]
        return digest("openai", [*who, options.mode, dict(options.extra), options.think])

    @property
    def priced(self) -> str:
        """The name of the model for the price table, behind that of its server: one model has many hosts."""
        return f"{self.options.at}/{self.model}" if self.options.at else self.model

    @property
    def continues(self) -> bool:
        """Whether it can go on with a text that was given or cut off; a model that does not say can."""
        return self._bodies.continues

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine: then only the user's own prices count."""
        return self.options.host == "local"

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; equal requests are asked once."""
        places: defaultdict[Request, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            places[request].append(place)
        unique, made = list(places), dict[int, Completion]()
        for portion in self.stream(unique):
            for at, completion in portion:
                made |= dict.fromkeys(places[unique[at]], completion)
        return [made[place] for place in range(len(requests))]

    def stream(
        self, requests: Iterable[Request], gate: Gate | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """Completions in portions as they land, each with the place of its request."""
        if self.options.batch:
            return self._batches(requests, gate)
        stream = Stream(
            self._flow,
            self._send,
            gate=gate,
            explain=self._explain,
            weigh=self._weigh if self.options.tpm else _nothing,
            size=lambda: self._group,
        )
        return stream.portions(requests)

    def _batches(
        self, requests: Iterable[Request], gate: Gate | None
    ) -> Iterator[list[tuple[int, Completion]]]:
        for chunk in batch_api.chunks(iter(enumerate(requests)), gate):
            seeded = [(place, request, request.key(self.id)) for place, request in chunk]
            calls = {key: self._bodies.call(r, 1, r.random_seed(self.id)) for _, r, key in seeded}
            seen: dict[str, int] = {}
            under_way = event_loop.submit(batch_api.collected(self._wire, calls, seen))
            try:
                yield from batch_api.beats(under_way, seen)
                found = under_way.result()
            except Failure as failure:
                raise event_loop.submit(self._explain(failure)).result() from None
            finally:
                under_way.cancel()  # the batch stays with the server, where the next process finds it
            yield [
                (place, self._collected(request, calls[key], found.get(key)))
                for place, request, key in seeded
            ]

    def _collected(self, request: Request, call: Call, found: bytes | Failure | None) -> Completion:
        """A completion from what a batch says of its call."""
        try:
            if found is None:
                raise Failure("timeout", "the batch ended without an answer to this call")
            if isinstance(found, Failure):
                raise found
            [completion] = to_completions(read_response(found, self._asked(request, found, call)))[
                :1
            ]
        except Failure as failure:
            return Completion("", "", failure.tokens, error=str(failure), rate=batch_api.RATE)
        return completion._replace(rate=batch_api.RATE)

    @property
    def rate(self) -> float:
        """The share of the price that is paid."""
        return batch_api.RATE if self.options.batch else 1.0

    @property
    def _flow(self) -> Flow:
        """The flow control of this process's loop."""
        running, options = event_loop.loop(), self.options
        with self._lock:
            if id(running) not in self._flows:
                limits = {
                    name: getattr(options, name) for name in ("rpm", "tpm", "timeout", "deadline")
                }
                self._flows = {id(running): Flow(concurrency=options.most, **limits)}
            return self._flows[id(running)]

    async def _send(self, requests: Sequence[Request]) -> list[Completion]:
        """One call: completions for the first of the requests, one for each where the server takes n."""
        began = time.perf_counter()
        requests = requests[: self._group]
        first = requests[0]
        if too_long := self._too_long(first):
            return [too_long] * len(requests)
        call = self._bodies.call(first, len(requests), first.random_seed(self.id))
        data = await self._posted(call)
        answer = read_response(data, self._asked(first, data, call))
        if len(answer.choices) < len(requests):
            self._group = (
                1  # a server that ignores n, or gives fewer: the rest is asked for one by one
            )
        made = to_completions(answer._replace(choices=answer.choices[: len(requests)]))
        seconds = (time.perf_counter() - began) / len(made)
        return [completion._replace(seconds=seconds) for completion in made]

    async def _posted(self, call: Call) -> bytes:
        """The answer; sent once more where the server wants another name for the limit, or no n."""
        try:
            return await self._wire.post(call.path, encoded(call.body))
        except Failure as failure:
            if call.body.get("n") and is_field(failure, "n"):
                self._group = 1
                del call.body["n"]
            elif call.chat and all(is_field(failure, name) for name in LIMITS):
                self._bodies.limit = next(name for name in LIMITS if name not in call.body)
                call.body[self._bodies.limit] = next(
                    call.body.pop(n) for n in LIMITS if n in call.body
                )
            else:
                raise
        return await self._wire.post(call.path, encoded(call.body))

    def _asked(self, request: Request, data: bytes, call: Call) -> ResponseContext:
        """How to read the answer to a request."""
        think = self.options.think or self.options.preset.think
        asked = ResponseContext(request.prefix, request.sampling.stop, think)
        if not request.prefix:
            return asked
        # Some servers say the prefix again. A long one that comes back is told from a short one that does by chance.
        if len(request.prefix) >= LONG and not self._repeats and call.chat:
            self._repeats = all(
                choice.text.startswith(request.prefix)
                for choice in read_response(data, asked).choices
            )
        return asked._replace(repeats_prefix=self._repeats)

    def _too_long(self, request: Request) -> Completion | None:
        context = self.options.context
        if not context or (length := self._bodies.length(request)) < context:
            return None
        return Completion(
            "",
            "",
            error=f"context: a prompt of {length} tokens leaves no room in {context} positions",
        )

    def _weigh(self, request: Request) -> int:
        """About how many tokens a request may use, for the limit of tokens a minute."""
        turns = (
            (request.prompt,)
            if isinstance(request.prompt, str)
            else [turn.content for turn in request.prompt]
        )
        return sum(map(len, turns)) // 3 + len(request.prefix) // 3 + request.sampling.max_tokens

    async def _explain(self, failure: Failure) -> PotstillError:
        offered = await self._wire.models() if failure.detail.startswith("model:") else []
        return stopped(failure, self.model, self.options, offered)

    def _weighed(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        return self._scorer.likelihood(pairs)

    @cached_property
    def _scorer(self) -> Scored:
        """The checkpoint, loaded once."""
        from potstill.models.local.transformers import TransformersModel

        return TransformersModel(self.weights)

    def _likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Natural-log probabilities of each token; an empty list for an empty completion or one beyond the context."""
        unique = list(dict.fromkeys(pairs))
        made = dict(zip(unique, event_loop.submit(self._all(unique)).result()))
        return [list(made[pair]) for pair in pairs]

    async def _all(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        tasks = [asyncio.ensure_future(self._score(prompt, text)) for prompt, text in pairs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _score(self, prompt: Prompt, text: str) -> list[float]:
        if not text:
            return []
        try:
            calls = questions(self._bodies, prompt, text)
            answers = [
                await self._flow.call(partial(self._wire.post, p, encoded(b)), lost=_ignored)
                for p, b in calls
            ]
        except Failure as failure:
            if failure.kind == "context":
                return []
            if is_field(failure, "prompt_logprobs", "echo", "logprobs", "max_tokens"):
                raise refused(self.model, self.options, failure.detail) from None
            raise await self._explain(failure) from None
        return values(self._bodies, prompt, text, answers)


def _nothing(request: Request) -> int:
    return 0


def _ignored(failure: Failure, seconds: float) -> None:
    """Scores are no completions: a try that failed has nowhere to be told."""
