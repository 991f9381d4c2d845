"""Look at runs in the browser: from a student's error to the row that it became, and what the row taught.

Works during a run, after a kill, and on a folder that may not be written to; a run is not changed by being looked at.
The page is served on this machine alone, to who has the address that is printed.

examples:
  potstill view runs/quickstart
  potstill view runs
  potstill view runs/orion runs/sft --port 8000 --no-open
  potstill view runs/orion --socket /tmp/view.sock      then, on your own machine: ssh -L 7747:/tmp/view.sock HOST
  potstill view runs/orion --notes
  potstill view runs/orion --share orion.html
  potstill view runs/orion --share rows.html --arm orion --find row:yes
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import webbrowser
from pathlib import Path

from potstill.cli import options, sharing, show
from potstill.viewer.serve import DEFAULT_PORT, LOOPBACK, Address, ServerSettings, serve

TOKEN_VARIABLE = "POTSTILL_VIEW_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=options.expand_path,
        metavar="RUN",
        help="run folders, folders of them, or a results.json (default: runs)",
    )
    parser.add_argument(
        "--port",
        type=options.positive_int,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"where it listens; if it is taken, the next free one ({DEFAULT_PORT})",
    )
    parser.add_argument(
        "--socket",
        type=options.expand_path,
        metavar="PATH",
        help="a Unix socket that only you can open, instead of a port",
    )
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--no-words", action="store_true", help="do not index words: search finds exact texts alone"
    )
    parser.add_argument(
        "--notes",
        nargs="?",
        const=True,
        type=options.expand_path,
        metavar="FILE",
        help="take notes on traces, into FILE or into each run's notes.jsonl (default: read-only)",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help=f"another interface to listen on; needs a token of 32 or more characters in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "--trust-host",
        action="append",
        default=[],
        metavar="HOST",
        help="answer under this name too, such as that of a proxy, with its port (may be given again)",
    )
    parser.add_argument(
        "--index",
        type=options.expand_path,
        metavar="DIR",
        help="where the index lies, which may be deleted (default: the user's cache)",
    )
    # Of a viewer that was started beside a run: it ends when the run's process does, however that ends.
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print {url, token, pid} on a line, then serve; of a copy, print what it holds",
    )
    sharing.add_arguments(parser)


def execute(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C, or write a copy."""
    if args.share is not None:
        sharing.write_share(args)
        return
    sharing.check_flags(args)
    notes = args.notes if isinstance(args.notes, Path) else None
    settings = ServerSettings(
        paths=args.runs or [Path("runs")],
        port=args.port,
        socket=args.socket,
        host=args.host,
        token=os.environ.get(TOKEN_VARIABLE, ""),
        trusted_hosts=args.trust_host,
        with_words=not args.no_words,
        notes=notes,
        takes_notes=args.notes is not None,
        index_folder=args.index,
        ends_with_parent=args.with_parent,
    )
    serve(settings, lambda address: announce(address, as_json=args.json, opens=not args.no_open))


def announce(address: Address, *, as_json: bool, opens: bool) -> None:
    """Say where the page is, and open it where there is a browser on this machine."""
    if as_json:
        document = {"url": address.url, "token": address.token, "pid": os.getpid()}
        print(json.dumps(document), flush=True)
        return
    show.print_line(f"view     {address.url}")
    is_remote = "SSH_CONNECTION" in os.environ
    if is_remote or address.socket:
        place = f"{getpass.getuser()}@{socket.gethostname()}"
        target = address.socket or f"{LOOPBACK}:{address.port}"
        local_port = address.port or DEFAULT_PORT
        show.print_line(f"from your own machine: ssh -L {local_port}:{target} {place}")
    show.print_line("Ctrl-C ends it")
    if opens and not is_remote and not address.socket:
        webbrowser.open(address.url)
