"""Start and stop the viewer: the port or the socket, what is printed, the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import ConfigError
from potstill.viewer.run_folders import RunFolder, find_meant_runs
from potstill.viewer.security import MIN_TOKEN, Guard, make_token

if TYPE_CHECKING:
    from potstill.viewer.answers import Answers

DEFAULT_PORT = 7747
PARENT_SECONDS = 2.0  # between two looks whether the parent is there
PORTS_TRIED = 50  # from the wanted one on
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a viewer is started.

    Args:
        paths: runs, and folders of runs.
        port: where it listens; where that is taken, on the next free one.
        socket: a Unix socket instead of a port.
        host: the address of another interface; only with a token of the user's own.
        token: of the user's own.
        trusted_hosts: further values of the Host header.
        with_words: whether words are indexed.
        notes: takes notes into this file; of several runs into each one's own.
        takes_notes: whether notes are taken at all.
        index_folder: where indexes lie; None is the user's cache.
        ends_with_parent: whether it ends when the process that started it is gone, however that ended.
    """

    paths: Sequence[Path]
    port: int = DEFAULT_PORT
    socket: Path | None = None
    host: str = LOOPBACK
    token: str = ""
    trusted_hosts: Sequence[str] = ()
    with_words: bool = True
    notes: Path | None = None
    takes_notes: bool = False
    index_folder: Path | None = None
    ends_with_parent: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a viewer listens: the page's address with the token, and the parts."""

    url: str
    token: str
    port: int
    socket: str = ""


def serve(settings: ServerSettings, announce: Callable[[Address], None]) -> None:
    """Serve until the process is told to end.

    Args:
        settings: of the server.
        announce: called once with the address, when it listens.
    """
    # Only now: aiohttp takes a third of a second to import, and a wrong path needs none of it.
    from aiohttp import web

    from potstill.viewer.server import Viewer

    answers = make_answers(settings)
    token = settings.token or make_token()
    listener = open_socket(settings)
    port = 0 if settings.socket else listener.getsockname()[1]
    guard = Guard(token, port, tuple(settings.trusted_hosts) + _own_hosts(settings, port))
    if answers.indexer is not None:
        answers.indexer.start()
        for name in list(answers.readers)[:1]:
            answers.indexer.ask_for(name)
    # The server itself; everything it needs is open, and nothing can be refused any more.
    viewer = Viewer(answers, guard)

    async def run() -> None:
        runner = web.AppRunner(viewer.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        announce(_address(settings, token, port))
        parent = os.getppid()
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), PARENT_SECONDS)
            if settings.ends_with_parent and os.getppid() != parent:
                ended.set()
        await runner.cleanup()

    try:
        asyncio.run(run())
    finally:
        if settings.socket is not None:
            settings.socket.unlink(missing_ok=True)


def make_answers(settings: ServerSettings) -> Answers:
    """What a server of these settings answers with."""
    from potstill.viewer.answers import Answers
    from potstill.viewer.index.index_file import default_index_folder
    from potstill.viewer.index.indexer import Indexer
    from potstill.viewer.reader import RunReader
    from potstill.viewer.run_catalogue import RunCatalogue

    index_folder = settings.index_folder or default_index_folder()
    run_of_notes = _find_run_of_notes(settings)

    def make_reader(run: RunFolder) -> RunReader:
        notes = settings.notes if run.path == run_of_notes else None
        return RunReader(run, index_folder, notes)

    catalogue = RunCatalogue(settings.paths, make_reader)
    indexer = Indexer(catalogue.readers, with_words=settings.with_words)
    return Answers(
        catalogue.readers,
        indexer,
        takes_notes=settings.takes_notes,
        find_new_runs=catalogue.refresh,
    )


def _find_run_of_notes(settings: ServerSettings) -> Path | None:
    """The run whose notes go into the file that --notes names; others, and those that come later, have their own.

    Raises:
        ConfigError: the command names several runs.
    """
    if settings.notes is None:
        return None
    runs = list(find_meant_runs(settings.paths).values())
    if len(runs) > 1:
        raise ConfigError(
            f"--notes names one file, and there are {len(runs)} runs",
            fix="leave the file out: each run gets its own notes.jsonl",
        )
    return runs[0].path


def open_socket(settings: ServerSettings) -> socket.socket:
    """A socket that listens: the Unix socket, or the wanted port, or the next free one.

    Raises:
        ConfigError: another interface without a token of the user's own, or no free port.
    """
    if settings.token and len(settings.token) < MIN_TOKEN:
        raise ConfigError(
            f"the token has {len(settings.token)} characters", expected=f"{MIN_TOKEN} or more"
        )
    if settings.socket is not None:
        return _open_unix_socket(settings.socket)
    if settings.host != LOOPBACK and not settings.token:
        raise ConfigError(
            f"--host {settings.host} lets other machines ask",
            expected=f"a token of your own of {MIN_TOKEN} or more characters in POTSTILL_VIEW_TOKEN",
            fix="leave --host out, and use ssh -L",
        )
    # A taken port belongs to somebody: never ended, only passed by.
    for port in range(settings.port, settings.port + PORTS_TRIED):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(
                    f"can't listen on {settings.host}:{port}: {error.strerror}"
                ) from error
            continue
        return listener
    raise ConfigError(
        f"no free port from {settings.port} to {settings.port + PORTS_TRIED - 1}",
        fix="--port N, or --socket PATH",
    )


def _open_unix_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made without rights for others from the beginning: between bind and chmod anybody could connect.
    old_mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the socket {path} can't be made: {error.strerror}",
            fix="another path, or delete what is there",
        ) from error
    finally:
        os.umask(old_mask)
    listener.listen(128)
    return listener


def _own_hosts(settings: ServerSettings, port: int) -> tuple[str, ...]:
    return () if settings.host in (LOOPBACK, "0.0.0.0", "::") else (f"{settings.host}:{port}",)


def _address(settings: ServerSettings, token: str, port: int) -> Address:
    if settings.socket is not None:
        # Through ssh -L 7747:PATH, under the port that is chosen there.
        return Address(
            f"http://localhost:{DEFAULT_PORT}/#token={token}", token, 0, str(settings.socket)
        )
    return Address(f"http://{settings.host}:{port}/#token={token}", token, port)
