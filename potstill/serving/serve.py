"""Start and stop a completion server: the checkpoint, the address, and the end of the process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from potstill.serving.server import CompletionServer

DEFAULT_PORT = 8747
LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = (LOOPBACK, "localhost", "::1")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How a server is started.

    Args:
        names: of the model in calls; the first one is told.
        host: the address to listen at.
        port: 0 takes a free one.
        key_variable: NAME of the environment variable that holds the key; "" for none.
        allows_strangers: whether another host than this one may be served without a key.
        context: positions that prompt and answer may have together; 0 is the model's.
        max_logprobs: most probable tokens a place.
        max_rows: completions of one call.
        max_waiting: completions that may wait.
        patience: seconds that calls under way have at the end.
        updates_folder: where checkpoints for weight updates lie; None refuses updates.
    """

    names: Sequence[str]
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    key_variable: str = ""
    allows_strangers: bool = False
    context: int = 0
    max_logprobs: int = 256
    max_rows: int = 1024
    max_waiting: int = 4096
    patience: float = 30.0
    updates_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """Where a server answers, the names of its model, and the model's content id."""

    url: str
    names: tuple[str, ...]
    model_id: str


def serve(model: Any, settings: ServeSettings, announce: Callable[[ServedAddress], None]) -> None:
    """Serve until the process is told to end; a second Ctrl-C does not wait for what is under way.

    Args:
        model: a local checkpoint.
        settings: of the server.
        announce: called once with the address, when it listens.
    """
    api_key = read_api_key(settings)
    listener = open_listener(settings)
    asyncio.run(_serve(model, settings, api_key, listener, announce))


async def _serve(
    model: Any,
    settings: ServeSettings,
    api_key: str,
    listener: socket.socket,
    announce: Callable[[ServedAddress], None],
) -> None:
    from aiohttp import web

    server = make_server(model, settings, api_key)
    # A client that hangs up cancels its handler, which gives up its rows.
    runner = web.AppRunner(
        server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=5.0
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    ended, hurried = asyncio.Event(), asyncio.Event()

    def handle_signal() -> None:
        if ended.is_set():
            hurried.set()
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, handle_signal)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    announce(
        ServedAddress(f"http://{host}:{port}/v1", tuple(settings.names), server.engine.model.id)
    )
    await ended.wait()

    # New calls are refused, those under way are finished or, after a while, refused too.
    server.begin_closing()
    closing = asyncio.to_thread(server.engine.close, settings.patience)
    close_task = asyncio.ensure_future(closing)
    hurry_task = asyncio.ensure_future(hurried.wait())
    await asyncio.wait((close_task, hurry_task), return_when=asyncio.FIRST_COMPLETED)
    if not close_task.done():
        await asyncio.to_thread(server.engine.close, 0.0)
    hurry_task.cancel()
    await runner.cleanup()


def make_server(model: Any, settings: ServeSettings, api_key: str = "") -> CompletionServer:
    """The server of a local checkpoint; its weights are loaded now."""
    from potstill.models.local.engine import Engine
    from potstill.models.local.transformers import TransformersModel
    from potstill.serving.server import CompletionServer, ServedModel

    if not isinstance(model, TransformersModel):
        raise ModelError(
            f"{settings.names[0]} is no local checkpoint",
            expected="transformers:PATH (a folder or FILE.gguf), or world:student",
            fix="a model behind a server is asked there; a checkpoint for vLLM is served by `vllm serve`",
        )
    context = min(model.context, settings.context or model.context)
    engine = Engine(model, max_waiting=settings.max_waiting)
    engine.start()
    served = ServedModel(
        names=settings.names,
        context=context,
        api_key=api_key,
        checks_host=settings.host in LOOPBACK_HOSTS,
        max_logprobs=settings.max_logprobs,
        max_rows=settings.max_rows,
        updates_folder=settings.updates_folder,
    )
    return CompletionServer(engine, served)


def read_api_key(settings: ServeSettings) -> str:
    """The key from the environment.

    Raises:
        ConfigError: it is not there, or other machines could ask without one.
    """
    variable = settings.key_variable
    if not variable:
        if settings.host not in LOOPBACK_HOSTS and not settings.allows_strangers:
            raise ConfigError(
                f"--host {settings.host} lets other machines ask",
                expected="a key that calls must bring, or that you say that none is wanted",
                fix="--api-key NAME of an environment variable that holds the key, or --no-api-key",
            )
        return ""
    if not _VARIABLE_NAME.fullmatch(variable):
        raise ConfigError(
            "--api-key is no name of an environment variable",
            expected="the NAME of the variable; a key on the command line can be read by every user of this machine",
            fix="export MY_KEY=… and --api-key MY_KEY",
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {variable} is not set", fix=f"export {variable}=…"
        )
    return key


def open_listener(settings: ServeSettings) -> socket.socket:
    """A socket that listens at the wanted address.

    Raises:
        ConfigError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{settings.host}:{settings.port} can't be listened at: {error.strerror or error}",
            fix="--port with another number, or --port 0 for a free one",
        ) from error
    return listener
