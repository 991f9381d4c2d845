"""One client of the orchestration benchmark in a process of its own, run with the Python that has it installed.

    python benchmarks/clients.py NAME URL COUNT CONCURRENCY FOLDER

asks COUNT questions of an OpenAI-compatible server at URL (".../v1") and prints one JSON line: wall and CPU seconds
from before the client is made until its last answer is there and what it keeps is closed, and the number of answers.
What it imports is not timed. FOLDER is where it may keep things. The clients: `bare` is an aiohttp loop and nothing
else, `model` is `openai:` alone, `potstill` is `openai:` with the store on, then `datatrove`, `curator`, `easydistill`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT, MODEL = 256, "test-model"


def question(number: int) -> str:
    """About as long as a word problem."""
    return f"Question {number}: a baker sells {number} loaves in the morning and half as many after lunch. How many?"


def bare(url: str, count: int, at_once: int, folder: Path) -> Callable[[], int]:
    """As many workers as calls at once, one session, no store; on uvloop where it is there, as ours."""
    import aiohttp

    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop

    async def run() -> int:
        numbers, texts = iter(range(count)), []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                for number in numbers:
                    message = {"role": "user", "content": question(number)}
                    body = {
                        "model": MODEL,
                        "messages": [message],
                        "max_tokens": LIMIT,
                        "seed": number,
                    }
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        texts.append((await response.json())["choices"][0]["message"]["content"])

            await asyncio.gather(*(work() for _ in range(at_once)))
        return sum(bool(text) for text in texts)

    def start() -> int:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(run())

    return start


def ours(url: str, count: int, at_once: int, folder: Path | None) -> Callable[[], int]:
    """`openai:`, with the store where there is a folder."""
    import aiohttp

    from potstill import models
    from potstill.models.model import Request, Sampling
    from potstill.models.remote import event_loop
    from potstill.store.cached_model import with_cache
    from potstill.store.store import Store

    spec = f"openai:{MODEL}?url={url}&concurrency={at_once}"
    models.load(spec)
    event_loop.get_loop()  # like aiohttp, what it imports is there before the clock starts
    assert aiohttp

    def start() -> int:
        model = models.load(spec)
        how = Sampling(max_new_tokens=LIMIT)
        requests = [Request(question(i), sampling=how) for i in range(count)]
        if folder is None:
            return sum(bool(completion.text) for completion in model.write(requests))
        with Store.open(folder / "store") as store:
            written = with_cache(model, store, role="teacher", arm="a", seed=1).write(requests)
        return sum(bool(completion.text) for completion in written)

    return start


def datatrove(url: str, count: int, at_once: int, folder: Path) -> Callable[[], int]:
    """Its inference step with checkpoints and the request cache on."""
    from datatrove.data import Document
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter
    from loguru import logger

    logger.remove()

    async def ask(document: Any, generate: Any) -> Any:
        return await generate(
            {"messages": [{"role": "user", "content": document.text}], "max_tokens": LIMIT}
        )

    def start() -> int:
        config = InferenceConfig(
            server_type="endpoint", model_name_or_path=MODEL, endpoint_url=url.removesuffix("/v1"),
            max_concurrent_generations=at_once, server_ready_delay_sec=0.05,
        )  # fmt: skip
        writer = JsonlWriter(
            str(folder / "out"), output_filename="${rank}_${chunk_index}.jsonl", compression=None
        )
        kept = str(folder / "checkpoints")
        runner = InferenceRunner(
            ask, config, writer, checkpoints_local_dir=kept, records_per_chunk=777
        )
        runner.run([Document(text=question(i), id=str(i)) for i in range(count)])
        return sum(len(file.read_text().splitlines()) for file in (folder / "out").glob("*.jsonl"))

    return start


def curator(url: str, count: int, at_once: int, folder: Path) -> Callable[[], int]:
    """Its online backend, which keeps answers in a cache folder."""
    os.environ |= {
        "TELEMETRY_ENABLED": "false", "OPENAI_API_KEY": "none", "HOME": str(folder), "HF_HOME": str(folder),
        "CURATOR_CACHE_DIR": str(folder / "cache"), "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "1",
    }  # fmt: skip
    from importlib.util import find_spec

    # litellm, which comes with it, holds the token table that it would else download.
    tokens = (
        Path((find_spec("litellm") or sys.exit("no litellm")).origin or "").parent
        / "litellm_core_utils/tokenizers"
    )
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tokens)
    from bespokelabs import curator

    def start() -> int:
        limits = {
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**10,
            "max_concurrent_requests": at_once,
        }
        llm = curator.LLM(
            model_name=MODEL, backend="openai", backend_params={"base_url": url, **limits},
            generation_params={"max_tokens": LIMIT},
        )  # fmt: skip
        answers = llm([question(i) for i in range(count)], working_dir=str(folder / "cache"))
        return len(getattr(answers, "dataset", answers))

    return start


def easydistill(url: str, count: int, at_once: int, folder: Path) -> Callable[[], int]:
    """Its text generation, which keeps nothing until the end."""
    from easydistill.backends.openai_backend import OpenAIBackend
    from easydistill.data.models import GenerationRequest
    from easydistill.operators.generation import TextGenerationOperator

    def start() -> int:
        backend = OpenAIBackend("none", url, MODEL)
        settings = {"max_workers": at_once, "max_tokens": LIMIT, "show_progress": False}
        asked = [GenerationRequest(id=str(i), instruction=question(i)) for i in range(count)]
        return len(TextGenerationOperator(backend, settings).run(asked))

    return start


CLIENTS: dict[str, Callable[..., Callable[[], int]]] = {
    "bare": bare,
    "model": lambda url, count, at_once, folder: ours(url, count, at_once, None),
    "potstill": ours,
    "datatrove": datatrove,
    "curator": curator,
    "easydistill": easydistill,
}


def main() -> None:
    """Run one client; what it prints itself goes to stderr."""
    name, url, count, at_once, folder = sys.argv[1:6]
    logging.disable(logging.WARNING)
    printed, sys.stdout = sys.stdout, sys.stderr
    start = CLIENTS[name](url, int(count), int(at_once), Path(folder))
    began, burned = time.perf_counter(), time.process_time()
    rows = start()
    result = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - burned,
        "rows": rows,
    }
    print(json.dumps(result), file=printed, flush=True)
    os._exit(0)  # some clients leave threads behind that never end


if __name__ == "__main__":
    main()
