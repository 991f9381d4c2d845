"""The web server of `potstill serve`: OpenAI's routes, vLLM's /tokenize and /detokenize, weight updates."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from aiohttp import web

from potstill import __version__
from potstill.errors import PotstillError
from potstill.models.local.engine import Engine, EngineClosedError
from potstill.models.local.running_batch import Row
from potstill.models.local.transformers import has_stop_string
from potstill.serving.answers import Answer, model_list, token_list
from potstill.serving.api_error import ApiError, context_error
from potstill.serving.call import (
    CallLimits,
    ChatPrompt,
    CompletionCall,
    TextPrompt,
    read_call,
    read_messages,
)
from potstill.serving.event_stream import ChoiceStream, opening_parts
from potstill.serving.fields import Fields, check_text, parse_body
from potstill.serving.prompts import EncodedPrompt, PromptTokens
from potstill.serving.row_group import RowGroup

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
OPEN_PATHS = ("/health",)  # answered without a key
MAX_SCORES = 1 << 23  # log-probabilities of one answer: hundreds of megabytes of JSON

log = logging.getLogger("potstill.serving")
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What is served, and to whom.

    Args:
        names: of the model; the first one is told.
        context: positions that prompt and answer may have together.
        api_key: that every call must bring; "" for none.
        checks_host: whether calls must name this machine as their host: a web page can't then ask under another name.
        max_logprobs: most probable tokens a place.
        max_rows: completions of one call.
        max_body: bytes of a call.
        updates_folder: where checkpoints for weight updates lie; None refuses updates.
    """

    names: Sequence[str]
    context: int
    api_key: str = ""
    checks_host: bool = True
    max_logprobs: int = 256
    max_rows: int = 1024
    max_body: int = 16 << 20
    updates_folder: Path | None = None


@final
class CompletionServer:
    """One server.

    Args:
        engine: started.
        served: what it says of itself.
    """

    def __init__(self, engine: Engine, served: ServedModel) -> None:
        self.engine, self.served = engine, served
        self.tokens = PromptTokens(engine.model.encoder)
        config = engine.model.model.config.get_text_config()
        self.limits = CallLimits(served.max_logprobs, served.max_rows, config.vocab_size)
        self._created = int(time.time())
        self._is_closing = False
        # One thread: a tokenizer must not encode in several at once. Large bodies are made in another.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="potstill-tokens")
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="potstill-answers")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="potstill-weights")

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application(
            middlewares=[self._check], client_max_size=self.served.max_body
        )
        routes: dict[str, Handler] = {
            "/v1/completions": functools.partial(self._complete, is_chat=False),
            "/v1/chat/completions": functools.partial(self._complete, is_chat=True),
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
            "/update_weights": self._update_weights,
            "/update_weights_from_disk": self._update_weights,  # SGLang's name of it
        }
        for path, handler in routes.items():
            application.router.add_post(path, handler)
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/version", self._version)
        application.router.add_get("/metrics", self._metrics)
        application.on_cleanup.append(self._stop_workers)
        return application

    def begin_closing(self) -> None:
        """Refuse new calls; those under way go on."""
        self._is_closing = True

    async def _stop_workers(self, _: web.Application) -> None:
        for executor in (self._worker, self._builder, self._loader):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _in_worker(self, function: Callable[..., T], *args: Any) -> T:
        """Call what reads a body or uses the tokenizer."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not ask, and make OpenAI's error of whatever goes wrong."""
        try:
            self._refuse_strangers(request)
            return await handler(request)
        except ApiError as error:
            return _send_error(error)
        except web.HTTPException as error:
            return _send_error(ApiError(error.reason or error.text or "", status=error.status))
        except EngineClosedError as error:
            return _send_error(ApiError(error.found, status=503))
        except PotstillError as error:
            return _send_error(ApiError(error.render()))
        except Exception as error:
            # Boundary: a bug of ours must not end the server. The log has the traceback.
            log.exception("the answer to %s failed", request.path)
            message = f"an error of the server's own: {type(error).__name__}: {error}"
            return _send_error(ApiError(message, status=500))

    def _refuse_strangers(self, request: web.Request) -> None:
        """Who has no key, and web pages that reach this machine under another name."""
        if self.served.checks_host:
            host = request.headers.get("Host", "")
            name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
            if name not in LOCAL_NAMES:
                raise ApiError(f"this server does not answer as {host[:80]!r}", status=403)
        if request.method == "POST" and request.content_type != "application/json":
            # A web page of another origin may not send this type without being asked about.
            raise ApiError("the body must be sent as application/json", status=415)
        if self.served.api_key and request.path not in OPEN_PATHS:
            authorization = request.headers.get("Authorization", "").removeprefix("Bearer ")
            sent_key = authorization.encode("utf-8", "surrogateescape")
            if not secrets.compare_digest(sent_key, self.served.api_key.encode()):
                raise ApiError(
                    "the API key is missing or wrong", code="invalid_api_key", status=401
                )

    async def _read_body(self, request: web.Request) -> dict[str, Any]:
        if self._is_closing:
            raise ApiError("the server is shutting down", status=503)
        return await self._in_worker(parse_body, await request.read())

    # Completions.

    async def _complete(self, request: web.Request, *, is_chat: bool) -> web.StreamResponse:
        body = await self._read_body(request)
        call = read_call(body, self.limits, is_chat=is_chat)
        self._check_model_name(call.model)
        prompts = [await self._in_worker(self.tokens.encode, prompt) for prompt in call.prompts]
        self._check_prompts(call, prompts)
        rows = self._make_rows(call, prompts)
        if not self.engine.has_room(len(rows)):
            raise ApiError(
                f"{self.engine.waiting_rows} completions wait already; try again later",
                code="overloaded",
                status=503,
            )
        answer = Answer(call, self.served.names[0], prompts, rows, self.tokens)
        if call.stream:
            return await self._stream(request, answer)
        await RowGroup(self.engine, rows, only_ends=True).finish()
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._builder, lambda: _to_bytes(answer.to_json()))
        return web.Response(body=data, content_type="application/json")

    def _check_model_name(self, name: str) -> None:
        if name and name not in self.served.names:
            raise ApiError(
                f"there is no model {name[:100]!r} here, only {', '.join(self.served.names)}",
                param="model",
                code="model_not_found",
                status=404,
            )

    def _check_prompts(self, call: CompletionCall, prompts: Sequence[EncodedPrompt]) -> None:
        new_tokens = 0 if call.max_new_tokens == 0 else 1
        for prompt in prompts:
            if not prompt.ids:
                raise ApiError("a prompt without tokens", param="prompt")
            if len(prompt.ids) + new_tokens > self.served.context:
                raise context_error(self.served.context, len(prompt.ids))
        top_count = call.scored_prompt_tokens
        if top_count is not None:
            score_count = sum(len(prompt.ids) for prompt in prompts) * (top_count + 1)
            if score_count > MAX_SCORES:
                raise ApiError(
                    f"{top_count} most probable tokens of these prompts are {score_count} log-probabilities, and "
                    f"at most {MAX_SCORES} fit one answer; ask in several calls",
                    param="prompt_logprobs",
                )

    def _make_rows(self, call: CompletionCall, prompts: Sequence[EncodedPrompt]) -> list[Row]:
        """`n` rows of each prompt; the first of them is asked for the prompt's scores."""
        end_ids = set(call.stop_token_ids)
        if not call.ignore_eos:
            end_ids.update(self.engine.model.end_ids)
        find_stop = None
        if call.stop:
            find_stop = functools.partial(has_stop_string, self.tokens.encoder, call.stop)
        rows = []
        for prompt in prompts:
            free_positions = self.served.context - len(prompt.ids)
            limit = call.max_new_tokens
            for index in range(call.n):
                rows.append(
                    Row(
                        prompt=prompt.ids,
                        sampling=call.sampling,
                        seed=(call.seed + index) % (1 << 63),
                        max_new_tokens=free_positions
                        if limit is None
                        else min(limit, free_positions),
                        end_ids=frozenset(end_ids),
                        has_stop_string=find_stop,
                        top_logprobs=call.top_logprobs,
                        prompt_logprobs=call.scored_prompt_tokens if index == 0 else None,
                    )
                )
        return rows

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Send the parts of an answer as they are written, as server-sent events."""
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        group = RowGroup(self.engine, answer.rows, only_ends=False)
        choices = [ChoiceStream(answer, index) for index in range(len(answer.rows))]
        async with contextlib.aclosing(group.changes()) as changes:
            try:
                async for _ in changes:
                    if not response.prepared:
                        # Only now, so that a call that fails at once has its status.
                        await response.prepare(request)
                        if answer.call.is_chat:
                            await _send_event(response, answer.part(opening_parts(answer)))
                    for choice, progress in zip(choices, group.progress, strict=True):
                        part = choice.next_part(progress)
                        if part is not None:
                            await _send_event(response, answer.part([part]))
                if answer.call.include_usage:
                    await _send_event(response, answer.part([]) | {"usage": answer.usage()})
                await response.write(b"data: [DONE]\n\n")
            except ApiError as error:
                if not response.prepared:
                    raise
                # The status has gone out; an event says what happened, as in vLLM.
                await _send_event(response, error.to_json())
            except ConnectionError:
                log.debug("a client hung up")
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    # Tokens, and the server itself.

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        fields = Fields(await self._read_body(request))
        self._check_model_name(fields.text("model"))
        with_texts = fields.flag("return_token_strs")
        prompt: TextPrompt | ChatPrompt
        messages = fields.value("messages")
        if messages is None:
            text = check_text("prompt", fields.value("prompt"))
            prompt = TextPrompt(text, fields.flag("add_special_tokens", True))
        else:
            fields.refuse_unsupported({"add_special_tokens": (False,)})
            opens_answer = fields.flag("add_generation_prompt", True)
            prompt = ChatPrompt(read_messages(messages), add_generation_prompt=opens_answer)
        fields.refuse_unknown(
            ("model", "prompt", "messages", "add_special_tokens", "add_generation_prompt")
        )
        encoded = await self._in_worker(self.tokens.encode, prompt)
        context = self.served.context
        return web.json_response(
            await self._in_worker(
                lambda: token_list(self.tokens, encoded.ids, context, with_texts=with_texts)
            )
        )

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        fields = Fields(await self._read_body(request))
        self._check_model_name(fields.text("model"))
        ids = fields.integers("tokens", self.limits.vocabulary - 1)
        fields.refuse_unknown(("model", "tokens"))
        return web.json_response({"prompt": await self._in_worker(self.tokens.decode, ids)})

    async def _list_models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(model_list(self.served.names, self._created, self.served.context))

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if self._is_closing else 200)

    async def _version(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"version": __version__, "model": self.engine.model.id})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        """Counts in the text form of Prometheus."""
        counts = self.engine.counts
        values = {
            "requests_running": self.engine.running_rows,
            "requests_waiting": self.engine.waiting_rows,
            "requests_total": counts.rows,
            "requests_failed_total": counts.failed_rows,
            "requests_cancelled_total": counts.cancelled_rows,
            "prompt_tokens_total": counts.prompt_tokens,
            "generation_tokens_total": counts.new_tokens,
            "steps_total": counts.steps,
            "weight_updates_total": counts.weight_updates,
            "busy_seconds_total": round(counts.busy_seconds, 3),
        }
        lines = [f"potstill_{name} {value}" for name, value in values.items()]
        return web.Response(text="\n".join(lines) + "\n")

    async def _update_weights(self, request: web.Request) -> web.StreamResponse:
        """Go on with another checkpoint below the folder that was named at the start."""
        fields = Fields(await self._read_body(request))
        path = check_text("model_path", fields.value("model_path"))
        fields.refuse_unsupported({"load_format": ("auto",), "abort_all_requests": (False,)})
        fields.refuse_unknown(("model_path",))
        folder = self.served.updates_folder
        if folder is None:
            raise ApiError(
                "weight updates are off; start the server with --allow-weight-updates FOLDER",
                status=403,
            )
        checkpoint = Path(path).resolve()
        if not checkpoint.is_relative_to(folder.resolve()):
            raise ApiError(f"{path[:200]} is not below {folder}", param="model_path", status=403)
        loop = asyncio.get_running_loop()
        update = await loop.run_in_executor(self._loader, self.engine.update_weights, checkpoint)
        new_id = await asyncio.wrap_future(update)
        return web.json_response(
            {
                "success": True,
                "message": f"{new_id} writes what begins from now on",
                "id": new_id,
                "weight_updates": self.engine.counts.weight_updates,
            }
        )


async def _send_event(response: web.StreamResponse, body: dict[str, Any]) -> None:
    await response.write(b"data: " + _to_bytes(body) + b"\n\n")


def _send_error(error: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if error.status == 503 else {}
    return web.Response(
        body=_to_bytes(error.to_json()),
        status=error.status,
        content_type="application/json",
        headers=headers,
    )


def _to_bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
