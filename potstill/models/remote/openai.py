"""A model at any server that speaks OpenAI's protocol: `openai:MODEL?at=vllm`, `openai:MODEL?url=http://HOST/v1`."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ModelError, PotstillError, PotstillWarning
from potstill.models.local.prompt import PromptEncoder, prompt_length_error
from potstill.models.model import Attempt, Completion, Request, Scored, SpendingPermit, Traffic
from potstill.models.remote import batch_api, event_loop
from potstill.models.remote.dispatch import Portion, RequestStream
from potstill.models.remote.error_messages import names_field, run_stopping_error
from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import FlowControl
from potstill.models.remote.http import HttpClient
from potstill.models.remote.logprobs import (
    OPTIONS_OF_ABILITY,
    missing_ability_error,
    scoring_calls,
    scoring_error,
    text_logprobs,
    token_scoring_error,
)
from potstill.models.remote.options import (
    TEXT_SCORES,
    TOKEN_SCORES,
    ServerOptions,
    refuse_secrets,
)
from potstill.models.remote.reading import ServedTokenizer
from potstill.models.remote.request import ApiCall, RequestBuilder, encode_body
from potstill.models.remote.response import (
    LONG_PREFIX,
    Response,
    ResponseContext,
    read_response,
    read_spent,
    to_completions,
)
from potstill.models.remote.token_scoring import FORMS, explain_refusal, parse_positions
from potstill.models.scoring import (
    Passage,
    PassageLike,
    TokenScoring,
    scored_completion,
    scored_passage,
    scored_token_ids,
    scoring_request,
    to_passages,
)
from potstill.models.token_scoring import BadScoresError, check_positions, token_scores
from potstill.records import NO_TOKENS, Prompt, Tokens, digest

LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
CHARACTERS_PER_TOKEN = 3  # an estimate on the safe side, for the limit of tokens a minute


@final
class OpenAIModel:
    """A model that a server answers for.

    It scores only where `score=` says how (`likelihood`), and is trainable only where `weights=` names the same model's
    checkpoint.

    Args:
        model: the server's name for it.
        options: ready-made; else they are made from `option_values`.
        client_class: what brings a body to the server.
        option_values: see `options.ServerOptions`.
    """

    weights: Path
    likelihood: Callable[[Sequence[PassageLike]], list[list[float]]]
    score_tokens: Callable[[Sequence[Request]], list[Completion]]
    stream_scores: Callable[[Iterable[Request], SpendingPermit | None], Iterator[Portion]]

    def __init__(
        self,
        model: str,
        options: ServerOptions | None = None,
        client_class: Callable[[ServerOptions], HttpClient] = HttpClient,
        **option_values: Any,
    ) -> None:
        """Read the key from the environment; nothing is sent yet."""
        refuse_secrets(model)
        if not model:
            raise ModelError(
                "openai: without a model's name",
                fix="openai:NAME?at=… or openai:NAME?url=http://HOST/v1",
            )
        # With the weights at hand, prompts are rendered and counted here.
        self.model = model
        self.options = options if options is not None else ServerOptions(**option_values)
        self.encoder: PromptEncoder | None = None
        if self.options.weights is not None:
            self.weights = self.options.weights
            self.encoder = PromptEncoder(self.options.weights)
        if self.options.score == "weights":
            self.likelihood = self._likelihood_of_weights
        elif self.options.score:
            self.stream_scores = self._stream_scores
        if self.options.score in TEXT_SCORES:
            self.likelihood = self._likelihood_of_server
        if self.options.score in TOKEN_SCORES:
            self.score_tokens = self._score_tokens
        self._builder = RequestBuilder(model, self.options, self.encoder)
        self._client = client_class(self.options)
        self._flow_controls: dict[int, FlowControl] = {}  # by loop: a forked child has its own
        self._lock = threading.Lock()
        # Learnt from answers: how many samples go in one call.
        self._group_size = self.options.n if self.options.preset.grouped else 1

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, {self.options.base!r})"

    def __getattr__(self, name: str) -> Any:
        """Say, of an ability that it was not given, how it is given; to a Protocol it is not there."""
        if name in OPTIONS_OF_ABILITY:
            raise missing_ability_error(self.model, self.options.base, name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    @cached_property
    def id(self) -> str:
        """Digest over host (a loopback one is "local"), model, mode and extra fields; not over key, port or limits."""
        options = self.options
        identity = ["name", options.name] if options.name else [options.host, self.model]
        parts = [*identity, options.mode, dict(options.extra), options.think]
        if options.repeats != "auto":
            parts.append(["repeats", options.repeats])
        return digest("openai", parts)

    @property
    def priced(self) -> str:
        """The name of the model for the price table, behind that of its server: one model has many hosts."""
        return f"{self.options.at}/{self.model}" if self.options.at else self.model

    @property
    def continues(self) -> bool:
        """Whether it can go on with a text that was given or cut off; a model that does not say can."""
        return self._builder.continues

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine: then only the user's own prices count."""
        return self.options.host == "local"

    @property
    def rate(self) -> float:
        """The share of the price that is paid."""
        return batch_api.PRICE_SHARE if self.options.batch else 1.0

    def check_request(self, request: Request) -> None:
        """Refuse a request that can't be put to this server, such as for a setting that it has not; nothing is sent."""
        self._builder.build(request, n=1, seed=0)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; equal requests are asked once."""
        unique_requests = list(dict.fromkeys(requests))
        completion_of: dict[Request, Completion] = {}
        for portion in self.stream(unique_requests):
            for place, completion in portion:
                completion_of[unique_requests[place]] = completion
        return [completion_of[request] for request in requests]

    def stream(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[Portion]:
        """Completions in portions as they land, each with the place of its request."""
        if self.options.batch:
            return self._stream_batches(requests, permit)
        stream = RequestStream(
            self._flow_control,
            self._send,
            permit=permit,
            explain=self._explain,
            count_max_tokens=_estimate_tokens if self.options.tpm else _no_tokens,
            group_size=lambda: self._group_size,
        )
        return stream.portions(requests)

    def _stream_batches(
        self, requests: Iterable[Request], permit: SpendingPermit | None
    ) -> Iterator[Portion]:
        for chunk in batch_api.split_requests(iter(enumerate(requests)), permit):
            # Calls are known by the keys of their requests, so that another process knows them too.
            keys = {place: request.key(self.id) for place, request in chunk}
            calls = {}
            for place, request in chunk:
                calls[keys[place]] = self._builder.build(request, 1, request.random_seed(self.id))
            done_counts: dict[str, int] = {}
            server = batch_api.BatchServer(self._client, self._flow_control)
            batches = event_loop.submit(batch_api.run_until_answered(server, calls, done_counts))
            try:
                yield from batch_api.report_progress(batches, done_counts)
                answers = batches.result()
            except Failure as failure:
                raise event_loop.submit(self._explain(failure)).result() from None
            finally:
                batches.cancel()  # the batch stays with the server, where the next process finds it
            # What has no answer, or one that can't be read, is a completion with an error. What would fail for every
            # request is none: it stops the run, after the answers that came are handed over.
            portion = []
            run_stopping: Failure | None = None
            for place, request in chunk:
                key = keys[place]
                answer = answers.get(key)
                if isinstance(answer, Failure) and answer.stops_run:
                    run_stopping = answer
                    continue
                completion = self._completion_of_batch(request, calls[key], answer)
                portion.append((place, completion))
            yield portion
            if run_stopping is not None:
                raise event_loop.submit(self._explain(run_stopping)).result()

    def _completion_of_batch(
        self, request: Request, call: ApiCall, answer: bytes | Failure | None
    ) -> Completion:
        """A completion from what a batch says of its call."""
        try:
            if answer is None:
                raise Failure("timeout", "the batch ended without an answer to this call")
            if isinstance(answer, Failure):
                raise answer
            response = read_response(answer, self._response_context(request, call))
        except Failure as failure:
            completion = Completion("", "", error=str(failure), rate=batch_api.PRICE_SHARE)
            if not failure.billed:
                return completion
            attempt = Attempt(
                str(failure), failure.tokens, None, text=failure.text, billed=failure.billed
            )
            return completion._replace(tries=(attempt,))
        return to_completions(response)[0]._replace(rate=batch_api.PRICE_SHARE)

    @property
    def traffic(self) -> Traffic:
        """What this process has sent to the server so far."""
        return self._flow_control.traffic

    @property
    def _flow_control(self) -> FlowControl:
        """The flow control of this process's loop."""
        loop_id = id(event_loop.get_loop())
        options = self.options
        with self._lock:
            if loop_id not in self._flow_controls:
                flow_control = FlowControl(
                    concurrency=options.max_in_flight,
                    rpm=options.rpm,
                    tpm=options.tpm,
                    timeout=options.timeout,
                    deadline=options.deadline,
                    max_paid_tries=options.max_paid_tries,
                )
                self._flow_controls = {loop_id: flow_control}
            return self._flow_controls[loop_id]

    async def _send(self, requests: Sequence[Request]) -> list[Completion]:
        """One call: completions for the first of the requests, one for each where the server takes n."""
        began = time.perf_counter()
        requests = requests[: self._group_size]
        request = requests[0]
        context = self.options.context
        if context:
            prompt_tokens = self._builder.count_prompt_tokens(request)
            if prompt_tokens >= context:
                return [prompt_length_error(prompt_tokens, context)] * len(requests)

        # Samples of one prompt share a call, under the seed of the first.
        call = self._builder.build(request, len(requests), request.random_seed(self.id))
        data = await self._post(call)
        response = read_response(data, self._response_context(request, call))
        if len(response.choices) < len(requests):
            # A server that ignores n, or gives fewer: the rest is asked for one by one.
            self._group_size = 1
        # Choices that were broken off come last, and are left out where there are more than were asked for.
        choices = sorted(response.choices, key=lambda choice: choice.may_retry)
        response = response._replace(choices=tuple(choices[: len(requests)]))
        seconds = (time.perf_counter() - began) / len(response.choices)
        return _whole_completions(response, seconds)

    async def _post(self, call: ApiCall) -> bytes:
        """The answer; sent once more where the server wants another name for the limit, or no n."""
        try:
            return await self._client.post(call.path, encode_body(call.body))
        except Failure as failure:
            if call.body.get("n") and names_field(failure, "n"):
                self._group_size = 1
                del call.body["n"]
            elif call.is_chat and all(names_field(failure, name) for name in LIMIT_NAMES):
                self._rename_limit(call.body)
            else:
                raise
        return await self._client.post(call.path, encode_body(call.body))

    def _rename_limit(self, body: dict[str, Any]) -> None:
        """Give the limit its other name, in this body and in those to come."""
        first_name, second_name = LIMIT_NAMES
        old_name = first_name if first_name in body else second_name
        new_name = second_name if old_name == first_name else first_name
        body[new_name] = body.pop(old_name)
        self._builder.limit_name = new_name

    def _response_context(self, request: Request, call: ApiCall) -> ResponseContext:
        """How to read the answer to a request."""
        think = self.options.think or self.options.preset.think
        # A plain completion goes on behind the prompt: only chats say a prefix again.
        repeats_prefix = self.options.repeats_prefix if call.is_chat else False
        if repeats_prefix is None and 0 < len(request.prefix) < LONG_PREFIX:
            warnings.warn(
                f"{self.model}: nobody knows whether this server's answers say a given prefix again, and one of "
                f"{len(request.prefix)} characters can't be told from an answer: write ?repeats=yes or ?repeats=no",
                PotstillWarning,
                stacklevel=2,
            )
        return ResponseContext(request.prefix, request.sampling.stop, think, repeats_prefix)

    async def _explain(self, failure: Failure) -> PotstillError:
        """The error for a failure that stops the run, with the server's models where the name is wrong."""
        offered_models: list[str] = []
        if failure.detail.startswith("model:"):
            offered_models = await self._client.list_models()
        return run_stopping_error(failure, self.model, self.options, offered_models)

    def _likelihood_of_weights(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        return self._scorer.likelihood(passages)

    @cached_property
    def _scorer(self) -> Scored:
        """The checkpoint, loaded once."""
        from potstill.models.local.transformers import TransformersModel

        return TransformersModel(self.weights)

    def _likelihood_of_server(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of each token; an empty list for an empty text or one beyond the context.

        Raises:
            ModelError: the server did not score a text.
        """
        all_passages = to_passages(passages)
        distinct = [passage for passage in dict.fromkeys(all_passages) if passage.text]
        answers: dict[Passage, Completion] = {}
        for portion in self._stream_scores(map(scoring_request, distinct)):
            for place, answer in portion:
                answers[distinct[place]] = answer
        for answer in answers.values():
            if answer.error and not answer.error.startswith("context"):
                raise scoring_error(self.model, self.options, answer.error)
        return [list(answers[passage].logprobs) if passage.text else [] for passage in all_passages]

    def read_text(self, text: str) -> Sequence[int] | None:
        """See `models.token_scoring.ReadsTokens`."""
        return self._ask_tokenizer(self._served_tokenizer.read_text(text))

    def read_prompt(self, prompt: Prompt) -> Sequence[int] | None:
        """See `models.token_scoring.ReadsTokens`."""
        return self._ask_tokenizer(self._served_tokenizer.read_prompt(prompt))

    def _ask_tokenizer(
        self, question: Coroutine[Any, Any, Sequence[int] | None]
    ) -> Sequence[int] | None:
        try:
            return event_loop.submit(question).result()
        except Failure as failure:
            raise event_loop.submit(self._explain(failure)).result() from None

    @property
    def _served_tokenizer(self) -> ServedTokenizer:
        return ServedTokenizer(self._client, self.model, self.options)

    def _score_tokens(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score tokens; equal requests are asked once."""
        distinct = list(dict.fromkeys(requests))
        answer_of: dict[Request, Completion] = {}
        for portion in self._stream_scores(distinct):
            for place, answer in portion:
                answer_of[distinct[place]] = answer
        return [answer_of[request] for request in requests]

    def _stream_scores(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[Portion]:
        """Answers to requests to score, in portions as they land, each with the place of its request."""
        stream = RequestStream(
            self._flow_control,
            self._send_scoring,
            permit=permit,
            explain=self._explain,
            count_max_tokens=_estimate_tokens if self.options.tpm else _no_tokens,
            group_size=lambda: 1,
        )
        return stream.portions(requests)

    async def _send_scoring(self, requests: Sequence[Request]) -> list[Completion]:
        """Score one text, or the tokens of one row; where it takes several calls, the answer says what all used."""
        if isinstance(requests[0].sampling, TokenScoring):
            return [await self._send_token_scoring(requests[0])]
        began = time.perf_counter()
        passage = scored_passage(requests[0])
        answers: list[bytes] = []
        used = NO_TOKENS
        costs: list[float] = []
        for call in scoring_calls(self._builder, passage):
            try:
                data = await self._client.post(call.path, encode_body(call.body))
                tokens, cost = read_spent(data)
            except Failure as failure:
                if names_field(failure, "prompt_logprobs", "echo", "logprobs", "max_tokens"):
                    raise scoring_error(self.model, self.options, failure.detail) from None
                if answers:
                    # The first call is paid for, and made again with the second.
                    raise replace(failure, billed=True, tokens=used) from failure
                raise
            answers.append(data)
            used = Tokens(*map(sum, zip(used, tokens, strict=True)))
            if cost is not None:
                costs.append(cost)
        logprobs = text_logprobs(self._builder, passage, answers)
        answer = scored_completion(logprobs, used, cost=sum(costs) if costs else None)
        return [answer._replace(seconds=time.perf_counter() - began)]

    async def _send_token_scoring(self, request: Request) -> Completion:
        """Score the tokens of one row, and refuse an answer that can't be what was asked for."""
        began = time.perf_counter()
        sampling = request.sampling
        assert isinstance(sampling, TokenScoring)
        form = FORMS[self.options.score]
        answers: list[bytes] = []
        for call in form.calls(self._builder, request):
            try:
                answers.append(await self._client.post(call.path, encode_body(call.body)))
            except Failure as failure:
                reason = explain_refusal(failure, sampling.top_logprobs)
                if reason is not None:
                    raise token_scoring_error(self.model, self.options, reason) from None
                raise
        token_ids = scored_token_ids(request)
        try:
            positions = parse_positions(form, request, answers)
            table = check_positions(
                positions, token_ids, start=sampling.start, top_logprobs=sampling.top_logprobs
            )
        except BadScoresError as error:
            raise token_scoring_error(self.model, self.options, str(error)) from error
        # Counted here where the server does not: it read the row's tokens, and wrote what its form wants.
        tokens, cost = read_spent(answers[0])
        if not tokens.prompt or len(answers) > 1:
            tokens = Tokens(len(token_ids), form.written_tokens(len(positions)))
        answer = token_scores(positions, table, tokens)
        return answer._replace(cost=cost, seconds=time.perf_counter() - began)


def _whole_completions(response: Response, seconds: float) -> list[Completion]:
    """The completions of an answer without those that the server broke off beside whole ones.

    These are asked for again; what they used is a try of the first whole one.
    """
    whole: list[Completion] = []
    broken_off: list[Attempt] = []
    for choice, completion in zip(response.choices, to_completions(response), strict=True):
        if choice.may_retry:
            error, tokens, cost = completion.error, completion.tokens, completion.cost
            broken_off.append(Attempt(error, tokens, cost, seconds, completion.text, billed=True))
        else:
            whole.append(completion._replace(seconds=seconds))
    if broken_off:
        whole[0] = whole[0]._replace(tries=tuple(broken_off))
    return whole


def _estimate_tokens(request: Request) -> int:
    """About how many tokens a request may use, for the limit of tokens a minute."""
    prompt = request.prompt
    contents = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
    prompt_tokens = sum(map(len, contents)) // CHARACTERS_PER_TOKEN
    prefix_tokens = len(request.prefix) // CHARACTERS_PER_TOKEN
    return prompt_tokens + prefix_tokens + request.sampling.max_new_tokens


def _no_tokens(request: Request) -> int:
    return 0
