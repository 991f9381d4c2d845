"""Servers that write rollouts with the student's own weights, which they are given between steps.

`potstill serve`, SGLang and vLLM. Two engines compute one checkpoint a little differently, and a server's weights may
be some steps old: so the student in training says itself how likely each token is, and a server that disagrees on fresh
weights is refused. What is left is weighed, token by token: w = min(p_student / p_server, cap).

Departure: the sum of weights is also what a token mean is divided by (self-normalised); verl and TRL divide by the
number of tokens.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from potstill.errors import ConfigError, StageError
from potstill.models.local import checkpoint
from potstill.models.local.generate import GeneratedRow
from potstill.models.remote import event_loop
from potstill.models.remote.errors import Failure
from potstill.models.remote.http import HttpClient
from potstill.models.remote.json_body import parse_json_object
from potstill.models.remote.options import ServerOptions
from potstill.training import distributed
from potstill.training.checkpoint import TOKENIZER_FILES
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig

CALLS_AT_ONCE = 128  # of one server
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a call is tried again
KEPT_WEIGHTS = 2  # checkpoints that stay in the folder: a server may still read the last but one


class WrittenRow(NamedTuple):
    """A completion and the number of the server that wrote it."""

    row: GeneratedRow
    server: int


class Backend(NamedTuple):
    """How a kind of server is asked.

    Args:
        weights_path: where it takes weights, below the server's root.
        weights_body: of that call, from a folder.
        write_path: where it writes, below the server's root.
        write_body: of that call, from prompt, limit, temperature and seed.
        read_answer: ids, log-probabilities and whether the completion ended by itself, of the answer.
    """

    weights_path: str
    weights_body: Callable[[str], dict[str, Any]]
    write_path: str
    write_body: Callable[[Sequence[int], int, float, int], dict[str, Any]]
    read_answer: Callable[[Mapping[str, Any]], GeneratedRow]


@final
class RolloutServers:
    """The servers of a training.

    Args:
        config: names them, and the folder through which they get weights.
        start: the checkpoint that the training began with, whose tokenizer goes with the weights.
        end_ids: tokens that end a completion.
    """

    def __init__(self, config: ObjectiveConfig, start: Path, end_ids: Sequence[int]) -> None:
        self._config, self._start = config, start
        self._end_ids = frozenset(end_ids)
        self._backend = BACKENDS[config.rollout_backend]
        self.urls = server_urls(config.rollout_server)
        self._clients = [HttpClient(ServerOptions(url=url)) for url in self.urls]
        self._step_of_weights: int | None = None

    def age(self, step: int) -> int:
        """For how many steps the servers have had their weights."""
        assert self._step_of_weights is not None
        return step - self._step_of_weights

    def update_weights(self, model: Any, step: int) -> None:
        """Give the servers the student's weights, if theirs are `rollout_sync_steps` steps old; all processes call it.

        Raises:
            StageError: a server does not take them, or says that it has others.
        """
        newest = self._step_of_weights
        if newest is not None and step - newest < self._config.rollout_sync_steps:
            return
        if distributed.process_rank() == 0:
            folder = self._write_weights(model, step)
            event_loop.submit(self._send_weights(folder)).result()
        distributed.wait_for_all()
        self._step_of_weights = step

    def _write_weights(self, model: Any, step: int) -> Path:
        """A checkpoint of the student as it is, adapters merged, complete when it has its name."""
        folder = Path(self._config.rollout_weights_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        target, draft = folder / f"step-{step:06}", folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        whole = model
        if hasattr(model, "merge_and_unload"):
            whole = copy.deepcopy(model).merge_and_unload()
        whole.save_pretrained(draft)
        for pattern in TOKENIZER_FILES:
            for file in self._start.glob(pattern):
                if file.is_file():
                    shutil.copyfile(file, draft / file.name)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
        others = sorted(path for path in folder.glob("step-*") if path != target)
        for old in others[: max(0, len(others) + 1 - KEPT_WEIGHTS)]:
            shutil.rmtree(old)
        return target

    async def _send_weights(self, folder: Path) -> None:
        expected_id = checkpoint.content_id(folder)
        body = self._backend.weights_body(str(folder))
        calls = []
        for number in range(len(self.urls)):
            calls.append(self._post(number, self._backend.weights_path, body))
        for url, answer in zip(self.urls, await asyncio.gather(*calls), strict=True):
            if answer.get("success") is False:
                raise StageError(f"{url} did not take the student's weights: {str(answer)[:300]}")
            if answer.get("id", expected_id) != expected_id:
                raise StageError(
                    f"{url} says that it has other weights ({answer['id']}) than the student's ({expected_id})",
                    expected="a server that reads the folder that this training writes",
                    fix=f"give both the same folder: rollout_weights_dir={folder.parent}",
                )

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        limits: Sequence[int],
        temperature: float,
    ) -> list[WrittenRow]:
        """A completion of each prompt, dealt out over the servers in turn.

        Raises:
            StageError: a server gives no answer, or one that is no completion of ids with their log-probabilities.
        """
        work = self._write_all(prompts, seeds, limits, temperature)
        return event_loop.submit(work).result()

    async def _write_all(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        limits: Sequence[int],
        temperature: float,
    ) -> list[WrittenRow]:
        rooms = [asyncio.Semaphore(CALLS_AT_ONCE) for _ in self.urls]

        async def write_one(place: int) -> WrittenRow:
            server = place % len(self.urls)
            body = self._backend.write_body(
                prompts[place], limits[place], temperature, seeds[place]
            )
            async with rooms[server]:
                answer = await self._post(server, self._backend.write_path, body)
            return WrittenRow(self._read_row(self.urls[server], answer, limits[place]), server)

        return list(await asyncio.gather(*map(write_one, range(len(prompts)))))

    def _read_row(self, url: str, answer: Mapping[str, Any], limit: int) -> GeneratedRow:
        """A server's completion, or an error that says what is wrong with it."""
        try:
            row = self._backend.read_answer(answer)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise StageError(
                f"{url}: an answer without the completion's token ids and log-probabilities "
                f"({type(error).__name__}: {error})",
                expected=f"the form of {self._config.rollout_backend}",
                fix="rollout_backend=potstill, sglang or vllm, as the server is",
            ) from error
        ends_itself = bool(row.ids) and row.ids[-1] in self._end_ids
        mistake = ""
        if len(row.ids) != len(row.logprobs):
            mistake = f"{len(row.ids)} tokens with {len(row.logprobs)} log-probabilities"
        elif not row.ids or len(row.ids) > limit:
            mistake = f"{len(row.ids)} tokens, where 1 to {limit} were asked for"
        elif any(not value <= 1e-3 for value in row.logprobs):  # nan too
            mistake = "a log-probability above 0, or one that is no number"
        elif row.stopped and not ends_itself:
            mistake = "a completion that ended by itself at a token that does not end the student's"
        if mistake:
            raise StageError(f"{url}: {mistake}", expected="a completion of the student's tokens")
        return row

    async def _post(self, server: int, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a call; tried again while the server is busy."""
        url = root_of(self.urls[server]) + path
        data = json.dumps(body).encode()
        for seconds in (*WAITS, None):
            try:
                return parse_json_object(await self._clients[server].command(url, data))
            except Failure as failure:
                if seconds is None or not failure.may_retry:
                    raise StageError(
                        f"{url}: {failure}",
                        expected="a server that writes this training's rollouts",
                        fix="start it again; the same command goes on from the last checkpoint",
                    ) from failure
            await asyncio.sleep(seconds)
        raise AssertionError

    def compared(
        self,
        rows: Sequence[TokenizedRow],
        servers: Sequence[int],
        own_log_probs: Sequence[Sequence[float]],
        step: int,
    ) -> list[TokenizedRow]:
        """The rows with the student's own log-probabilities, and weighed by how far the server's are from them.

        Columns: `sampled` the student's as it is now, `drift` the mean of |log p_student - log p_server| over the row,
        `importance` the mean weight, `staleness` the age of the weights in steps.

        Args:
            servers: which server wrote each row.
            own_log_probs: of each row's counted tokens.

        Raises:
            StageError: on fresh weights a server's mean is above `max_rollout_drift`.
        """
        cap, age = self._config.rollout_importance_cap, self.age(step)
        compared, drifts = [], []
        for row, student_logp in zip(rows, own_log_probs, strict=True):
            counted = row.is_learnt
            log_ratio = np.asarray(student_logp, np.float64) - row.columns["sampled"][counted]
            importance = np.ones(len(log_ratio))
            if cap:
                importance = np.minimum(np.exp(np.minimum(log_ratio, 50.0)), cap)
            drifts.append(float(np.abs(log_ratio).mean()))
            sampled, loss_weights = np.zeros(len(row)), row.loss_weights.copy()
            sampled[counted] = student_logp
            loss_weights[counted] *= importance
            of_row = {
                "drift": drifts[-1],
                "importance": float(importance.mean()),
                "staleness": float(age),
            }
            columns = {name: np.full(len(row), value) for name, value in of_row.items()}
            weighed = TokenizedRow.of(
                row.trace_index, row.input_ids, loss_weights, row.prompt_length, row.columns
            )
            compared.append(weighed.with_columns(sampled=sampled, **columns))
        if age == 0:
            self._refuse_drift(drifts, servers)
        return compared

    def _refuse_drift(self, drifts: Sequence[float], servers: Sequence[int]) -> None:
        """Refuse a server whose log-probabilities are not those of the weights that it was just given."""
        limit = self._config.max_rollout_drift
        for number, url in enumerate(self.urls):
            of_server = [
                drift for drift, server in zip(drifts, servers, strict=True) if server == number
            ]
            mean = float(np.mean(of_server)) if of_server else 0.0
            if not mean <= limit:  # nan too
                raise StageError(
                    f"{url}: its log-probabilities differ from the student's by {mean:.3g} nats a token "
                    "right after it was given the student's weights",
                    expected=f"at most {limit:g} (max_rollout_drift)",
                    fix="check that the server reads rollout_weights_dir, has the student's tokenizer, and returns "
                    "log-probabilities before temperature; a coarser dtype there needs a larger bound",
                )


def server_urls(text: str) -> list[str]:
    """The URLs of servers that are named with commas between them; each as far as its /v1."""
    urls = [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
    if len(set(urls)) != len(urls):
        raise ConfigError(f"rollout_server names a server twice: {text}")
    return urls


def root_of(url: str) -> str:
    """A server's address without /v1."""
    return url.removesuffix("/v1")


def _openai_body(
    prompt: Sequence[int], limit: int, temperature: float, seed: int
) -> dict[str, Any]:
    """A plain completion of token ids; filters are named since a server may have defaults of the checkpoint's."""
    return {
        "prompt": list(prompt),
        "max_tokens": limit,
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": -1,
        "repetition_penalty": 1.0,
        "seed": seed,
        "logprobs": 0,
        "return_token_ids": True,
    }


def _openai_row(answer: Mapping[str, Any]) -> GeneratedRow:
    choice = answer["choices"][0]
    ids = [int(number) for number in choice["token_ids"]]
    logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
    return GeneratedRow(ids, choice["finish_reason"] == "stop", logprobs)


def _sglang_body(
    prompt: Sequence[int], limit: int, temperature: float, seed: int
) -> dict[str, Any]:
    """SGLang's own protocol, which takes and returns token ids; seeds count under deterministic inference alone."""
    sampling = {
        "max_new_tokens": limit,
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": -1,
        "sampling_seed": seed,
    }
    return {"input_ids": list(prompt), "sampling_params": sampling, "return_logprob": True}


def _sglang_row(answer: Mapping[str, Any]) -> GeneratedRow:
    """Its entries are (log-probability, id, text) a token."""
    meta = answer["meta_info"]
    entries = meta["output_token_logprobs"]
    ids = [int(entry[1]) for entry in entries]
    return GeneratedRow(
        ids, meta["finish_reason"]["type"] == "stop", [float(entry[0]) for entry in entries]
    )


BACKENDS = {
    "potstill": Backend(
        "/update_weights",
        lambda path: {"model_path": path},
        "/v1/completions",
        _openai_body,
        _openai_row,
    ),
    "sglang": Backend(
        "/update_weights_from_disk",
        lambda path: {"model_path": path},
        "/generate",
        _sglang_body,
        _sglang_row,
    ),
    # In its development mode (VLLM_SERVER_DEV_MODE=1).
    "vllm": Backend(
        "/collective_rpc",
        lambda path: {"method": "reload_weights", "kwargs": {"weights_path": path}},
        "/v1/completions",
        _openai_body,
        _openai_row,
    ),
}
