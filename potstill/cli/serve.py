"""Serve a checkpoint behind OpenAI's protocol: to try a student, to evaluate it with other tools, as a teacher.

It answers /v1/chat/completions and /v1/completions (n, seeds, stop strings, log-probabilities of new tokens and of the
prompt, streams), /v1/models, /tokenize and /detokenize as vLLM has them. Calls that come while others are written join
them. docs/serving.md has every field. On this machine alone unless --host says otherwise.

examples:
  potstill serve world:student
  potstill serve runs/first/students/STUDENT --port 8000 --name student
  potstill serve model.gguf --threads 4
  potstill serve models/Qwen3-0.6B?dtype=bfloat16 --host 0.0.0.0 --api-key MY_KEY
  potstill evaluate --model 'openai:student?url=http://127.0.0.1:8000/v1' --problems test.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from potstill.cli import options, show
from potstill.errors import ConfigError
from potstill.serving.serve import (
    DEFAULT_PORT,
    LOOPBACK,
    ServedAddress,
    ServeSettings,
    serve,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a checkpoint: a folder, FILE.gguf, transformers:PATH?dtype=bfloat16, world:student",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="what calls call the model (may be given again; default: MODEL, and the last part of its path)",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help=f"the address to listen at ({LOOPBACK}); another one needs --api-key or --no-api-key",
    )
    parser.add_argument(
        "--port",
        type=options.non_negative_int,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"where it listens; 0 takes a free port ({DEFAULT_PORT})",
    )
    parser.add_argument(
        "--api-key",
        default="",
        metavar="VARIABLE",
        help="NAME of the environment variable with the key that every call must bring",
    )
    parser.add_argument(
        "--no-api-key", action="store_true", help="serve other machines without a key"
    )
    parser.add_argument(
        "--context",
        type=options.positive_int,
        default=0,
        metavar="N",
        help="positions that prompt and answer may have together (default: the model's)",
    )
    parser.add_argument(
        "--max-logprobs",
        type=options.positive_int,
        default=256,
        metavar="K",
        help="most probable tokens a place that a call may ask for (256)",
    )
    parser.add_argument(
        "--max-waiting",
        type=options.positive_int,
        default=4096,
        metavar="N",
        help="completions that may wait for room; more are refused with 503 (4096)",
    )
    parser.add_argument(
        "--allow-weight-updates",
        type=options.expand_path,
        metavar="FOLDER",
        help="answer POST /update_weights with a checkpoint below FOLDER (default: refused)",
    )
    options.add_threads(parser)
    parser.add_argument(
        "--json", action="store_true", help="print {url, models, id, pid} on a line, then serve"
    )


def execute(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from potstill.runs.sources import load_checkpoint

    if args.api_key and args.no_api_key:
        raise ConfigError("--api-key and --no-api-key say opposite things", fix="leave one out")
    model = load_checkpoint(args.model, role="model", threads=args.threads)
    settings = ServeSettings(
        names=args.name or default_names(args.model),
        host=args.host,
        port=args.port,
        key_variable=args.api_key,
        allows_strangers=args.no_api_key,
        context=args.context,
        max_logprobs=args.max_logprobs,
        max_waiting=args.max_waiting,
        updates_folder=args.allow_weight_updates,
    )
    serve(model, settings, lambda address: announce(address, as_json=args.json))


def default_names(spec: str) -> list[str]:
    """What a model is called where the user says nothing: its spec, and the last part of its path."""
    place = spec.partition("?")[0]
    path = place.partition(":")[2] or place
    names = [place]
    for name in (path, Path(path).name):
        if name and name not in names:
            names.append(name)
    return names


def announce(address: ServedAddress, *, as_json: bool) -> None:
    """Say where the server is and how it is asked."""
    if as_json:
        document = {
            "url": address.url,
            "models": list(address.names),
            "id": address.model_id,
            "pid": os.getpid(),
        }
        print(json.dumps(document), flush=True)
        return
    show.print_line(f"serving  {address.names[0]} ({address.model_id}) at {address.url}")
    show.print_line(f"in specs 'openai:{address.names[-1]}?at=potstill&url={address.url}'")
    show.print_line("Ctrl-C ends it")
