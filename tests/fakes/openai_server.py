"""A counting OpenAI-compatible server that answers from a hash: for tests and benchmarks, no model behind it.

    python tests/openai_server.py --port 0 --latency 0.05 --fail-429 0.05 --count served.jsonl

prints its port as the first line and serves until it is killed. In a test: `with serving(latency=0.01) as server:` (a
thread of this process: `server.url`, `server.calls`, `server.served`, `server.next`), or
`with process("--latency", "0.05") as url:` (a process of its own).

An answer is a pure function of prompt, prefix and seed (at temperature 0 the seed does not matter); a token is a word
with the blanks before it. Every choice that was answered with 200 is counted under (prompt, prefix, seed, index), where
prompt is `role: content` turns joined with blank lines.

    --port N --host H         0 takes a free port
    --latency S --jitter S    seconds before each answer, and how much more at random
    --capacity N              429 while more than N calls are under way; 0 has no limit
    --rpm N                   429 above N calls in the last minute
    --model A,B               the models it knows (404 for others); "" knows every name
    --key K                   the key it wants (401 otherwise, with the wrong key in the message, as OpenAI does)
    --context N               400 context_length_exceeded for prompts of more words
    --words N                 about how many words an answer has
    --reasoning none|think|content|field   in the text, in reasoning_content, or in reasoning
    --strip                   blanks around reasoning and answer are lost when they are returned apart
    --prefill continue|repeat|ignore       what a last assistant turn does
    --n take|ignore|refuse    what n > 1 does
    --limit max_tokens|max_completion_tokens|any   the one name of the limit that it accepts
    --scoring none|prompt_logprobs|echo|both       what it can score with
    --no-usage --no-logprobs --strict (400 for unknown fields) --cached N (cached prompt tokens in the usage)
    --fail-KIND P             share of calls that fail with KIND: see FAULTS; decided by --seed and the call's number
    --retry-after S           the header of the 429 and 503; without it there is none
    --slow S                  seconds of the fault "slow"
    --batch-seconds S         how long a batch takes
    --count FILE              one JSON line a choice served: {"prompt", "prefix", "seed", "index", "status", "sent"}

A prompt that holds `[[KIND]]` always fails with KIND. POST /control {"next": ["429", …], "set": {"latency": 1}} gives
the faults of the next calls and changes settings; GET /stats tells what was served.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import child

FAULTS = (
    "429", "500", "503", "400", "403", "html", "json", "shape", "empty", "null", "filter",
    "refusal", "length", "drop", "half", "slow", "quota", "utf8", "nan", "tool",
)  # fmt: skip
KNOWN_FIELDS = {
    "model", "messages", "prompt", "n", "seed", "stop", "temperature", "top_p",
    "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "echo", "stream",
    "user", "prompt_logprobs", "continue_final_message", "add_generation_prompt", "top_k",
    "repetition_penalty",
}  # fmt: skip
WORD = re.compile(r"\s*\S+|\s+$")
MARK = re.compile(r"\[\[(\w+)\]\]")


class Reply(NamedTuple):
    """What is sent; a body of None drops the connection, `cut` drops it in the middle of the body."""

    status: int
    body: bytes | None
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False


@dataclass
class Settings:
    """See the flags at the top."""

    port: int = 0
    host: str = "127.0.0.1"
    latency: float = 0.0
    jitter: float = 0.0
    capacity: int = 0
    rpm: int = 0
    model: str = ""
    key: str = ""
    context: int = 0
    words: int = 12
    reasoning: str = "none"
    strip: bool = False
    prefill: str = "continue"
    n: str = "take"
    limit: str = "any"
    scoring: str = "both"
    no_usage: bool = False
    no_logprobs: bool = False
    strict: bool = False
    cached: int = 0
    seed: int = 0
    retry_after: float = 0.0
    slow: float = 5.0
    batch_seconds: float = 0.0
    count: str = ""
    keep: bool = False
    fail: dict[str, float] = field(default_factory=dict)


class Server:
    """The state of one server; `handle` is HTTP-free, `_HttpConnection` speaks HTTP/1.1."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.next: deque[str | Reply] = deque()
        self.calls: list[dict[str, Any]] = []
        self.served: Counter[tuple[str, str, int | None, int]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.choices, self.under_way, self.most_under_way, self.connections = 0, 0, 0, 0
        self.open: set[Any] = set()  # transports
        self.recent: deque[float] = deque()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.url = ""
        self._random = random.Random(settings.seed)
        self._log = None
        if settings.count:
            self._log = open(settings.count, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def stats(self) -> dict[str, Any]:
        return {
            "choices": self.choices,
            "distinct": len(self.served),
            "twice": sum(1 for count in self.served.values() if count > 1),
            "statuses": {str(k): v for k, v in self.statuses.items()},
            "most_under_way": self.most_under_way,
            "connections": self.connections,
        }

    def fault(self, prompt: str) -> str | Reply:
        """The fault of this call, or ""; asked once a call."""
        if self.next:
            return self.next.popleft()
        if "[[" in prompt and (found := MARK.search(prompt)):
            return found[1]
        for kind, share in self.settings.fail.items():
            if share and self._random.random() < share:
                return kind
        return ""

    def completion(
        self, body: dict[str, Any], chat: bool, crowded: bool
    ) -> tuple[float, Reply, list[Any]]:
        """Seconds to wait, the reply, and what to count once it is sent."""
        s = self.settings
        if s.keep:
            self.calls.append(body)
        shown, prefix = _shown(body) if chat else (str(body.get("prompt", "")), "")
        wait = s.latency + (self._random.random() * s.jitter if s.jitter else 0)
        fault = self.fault(shown)
        if isinstance(fault, Reply):
            return wait, fault, []
        if fault == "slow":
            wait, fault = s.slow, ""
        if fault in ("429", "503", "500") or crowded:
            headers = (("retry-after", str(s.retry_after)),) if s.retry_after else ()
            status = 429 if crowded else int(fault)
            return (
                wait,
                _error(
                    status, "Rate limit reached" if status == 429 else "overloaded", headers=headers
                ),
                [],
            )
        refused = self._refused(body, shown, chat) or _broken(fault)
        if refused:
            return wait, refused, []
        answered, keys = self._answer(body, chat, shown, prefix, fault)
        encoded = json.dumps(answered).encode()
        if fault == "utf8":
            encoded = encoded.replace(b"answer", b"\xff\xfe answer", 1)
        return wait, Reply(200, encoded, cut=fault == "half"), keys

    def _refused(self, body: dict[str, Any], shown: str, chat: bool) -> Reply | None:
        s = self.settings
        if s.model and body.get("model") not in s.model.split(","):
            return _error(404, f"The model `{body.get('model')}` does not exist", "model_not_found")
        words = len(shown.split())
        if s.context and words > s.context:
            text = f"This model's maximum context length is {s.context} tokens. However, you requested {words} tokens."
            return _error(400, text, "context_length_exceeded")
        wrong = ({"max_tokens", "max_completion_tokens"} - {s.limit}) & body.keys()
        if s.limit != "any" and wrong:
            name = min(wrong)
            text = f"Unsupported parameter: '{name}' is not supported with this model. Use '{s.limit}' instead."
            return _error(400, text, "unsupported_parameter", param=name)
        if s.n == "refuse" and body.get("n", 1) > 1:
            return _error(400, "n > 1 is not supported", param="n")
        if s.strict and (unknown := body.keys() - KNOWN_FIELDS):
            return _error(
                400, f"Unrecognized request argument supplied: {min(unknown)}", param=min(unknown)
            )
        asks = (
            (body.get("prompt_logprobs") is not None, "prompt_logprobs"),
            (body.get("echo"), "echo"),
        )
        for asked, name in asks:
            if asked and s.scoring not in (name, "both"):
                return _error(400, f"{name} is not supported", param=name)
        return None

    def _answer(
        self, body: dict[str, Any], chat: bool, shown: str, prefix: str, fault: str
    ) -> tuple[Any, list[Any]]:
        s = self.settings
        seed, warm = body.get("seed"), body.get("temperature", 1.0) > 0
        count = 1 if s.n == "ignore" else int(body.get("n") or 1)
        choices, made = [], 0
        for index in range(count):
            whole = _text(shown, f"{seed}/{index}" if warm else "", s)
            seen = prefix if chat else ""
            rest = whole[len(seen) :] if whole.startswith(seen) else f" and so on, {whole[8:]}"
            if s.prefill == "ignore":
                rest = whole
            limit = body.get("max_completion_tokens", body.get("max_tokens"))
            text, finish, used = _cut(
                rest, limit, body.get("stop"), "" if fault == "empty" else None
            )
            made += used
            finish = {"length": "length", "filter": "content_filter", "tool": "tool_calls"}.get(
                fault, finish
            )
            text = (seen + text) if s.prefill == "repeat" else text
            logs = _logs(text, body) if body.get("logprobs") and not s.no_logprobs else None
            choices.append(
                {"index": index, "finish_reason": finish, **self._part(chat, text, logs, fault)}
            )
        answer = {
            "id": "x",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "choices": choices,
        }
        answer["model"] = f"{body.get('model')}-2026"
        prompt = len(shown.split()) + len(prefix.split())
        if body.get("prompt_logprobs") is not None:
            (answer if chat else choices[0])["prompt_logprobs"] = _prompt_logs(shown, prefix)
        if body.get("echo"):
            _echoed(choices[0], shown, limit)
        if not s.no_usage:
            answer["usage"] = _usage(prompt, made, s, choices)
        return answer, [(shown, prefix, seed, index) for index in range(count)]

    def _part(self, chat: bool, text: str, logs: Any, fault: str) -> dict[str, Any]:
        if not chat:
            return {"text": text, "logprobs": _old_logs(logs) if logs else None}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        apart = {"content": "reasoning_content", "field": "reasoning"}.get(self.settings.reasoning)
        if apart and text.startswith("<think>"):
            thought, _, reply = text.removeprefix("<think>").partition("</think>")
            thought, reply = (
                (thought.strip(), reply.strip()) if self.settings.strip else (thought, reply)
            )
            message = {"role": "assistant", "content": reply or None, apart: thought}
        if fault == "null":
            message = {"role": "assistant", "content": None}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
        return {"message": message, "logprobs": {"content": logs} if logs else None}

    def count(self, keys: list[Any], status: int, sent: bool) -> None:
        """Count what was answered."""
        self.statuses[status] += 1
        self.choices += len(keys)
        if self.settings.keep:
            self.served.update(keys)
        if self._log:
            for prompt, prefix, seed, index in keys:
                row = {
                    "prompt": prompt,
                    "prefix": prefix,
                    "seed": seed,
                    "index": index,
                    "status": status,
                    "sent": sent,
                }
                self._log.write(json.dumps(row) + "\n")

    def crowded(self) -> bool:
        """Whether this call is above the capacity or the calls of a minute."""
        s, now = self.settings, time.monotonic()
        if s.rpm:
            while self.recent and self.recent[0] < now - 60:
                self.recent.popleft()
            if len(self.recent) >= s.rpm:
                return True
            self.recent.append(now)
        return bool(s.capacity) and self.under_way > s.capacity

    def other(self, method: str, path: str, body: bytes, kind: str) -> Reply:
        """Everything but completions: models, files, batches, control."""
        if path == "/v1/models":
            names = self.settings.model.split(",") if self.settings.model else ["test-model"]
            return _json({"object": "list", "data": [{"id": n, "object": "model"} for n in names]})
        if path == "/stats":
            return _json(self.stats())
        if path == "/control":
            wanted = json.loads(body)
            self.next.extend(wanted.get("next", []))
            for name, value in wanted.get("set", {}).items():
                setattr(self.settings, name, value)
            return _json({})
        if path.startswith("/v1/files"):
            return self._file(method, path, body, kind)
        if path.startswith("/v1/batches"):
            return self._batch(method, path, body)
        return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")

    def _file(self, method: str, path: str, body: bytes, kind: str) -> Reply:
        if method == "POST":
            name = f"file-{len(self.files)}"
            self.files[name] = _upload(body, kind)
            return _json(
                {"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"}
            )
        name = path.split("/")[3]
        if name not in self.files:
            return _error(404, f"No such File object: {name}")
        if method == "DELETE":
            del self.files[name]
            return _json({"id": name, "deleted": True})
        return Reply(200, self.files[name], "application/octet-stream")

    def _batch(self, method: str, path: str, body: bytes) -> Reply:
        parts = path.split("/")
        if method == "GET" and len(parts) == 3:
            return _json(
                {
                    "object": "list",
                    "data": [self._state(b) for b in self.batches.values()],
                    "has_more": False,
                }
            )
        if method == "POST" and len(parts) == 3:
            wanted = json.loads(body)
            batch = {
                "id": f"batch-{len(self.batches)}",
                "object": "batch",
                "status": "in_progress",
                **wanted,
            }
            batch |= {
                "created_at": int(time.time()),
                "due": time.monotonic() + self.settings.batch_seconds,
            }
            self.batches[batch["id"]] = batch
            return _json(self._state(batch))
        if len(parts) < 4 or parts[3] not in self.batches:
            return _error(404, f"No batch found with id {parts[-1]}")
        batch = self.batches[parts[3]]
        if method == "POST":
            batch["status"] = "cancelled" if batch["status"] == "in_progress" else batch["status"]
        return _json(self._state(batch))

    def _state(self, batch: dict[str, Any]) -> dict[str, Any]:
        if batch["status"] == "in_progress" and time.monotonic() >= batch["due"]:
            self._run(batch)
        return {k: v for k, v in batch.items() if k != "due"}

    def _run(self, batch: dict[str, Any]) -> None:
        good, bad = [], []
        chat = "chat" in batch.get("endpoint", "chat")
        for line in self.files[batch["input_file_id"]].decode().splitlines():
            row = json.loads(line)
            _, reply, keys = self.completion(row["body"], chat, crowded=False)
            self.count(keys, reply.status, True)
            done = {"id": "r", "custom_id": row["custom_id"], "error": None}
            answer = {"status_code": reply.status, "request_id": "q", "body": _loads(reply.body)}
            (good if reply.status == 200 else bad).append(json.dumps(done | {"response": answer}))
        batch["status"], total = "completed", len(good) + len(bad)
        batch["request_counts"] = {"total": total, "completed": len(good), "failed": len(bad)}
        for rows, name in ((good, "output_file_id"), (bad, "error_file_id")):
            if rows:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = ("\n".join(rows) + "\n").encode()


def _loads(body: bytes | None) -> Any:
    try:
        return json.loads(body or b"null")
    except ValueError:
        return None


def _shown(body: dict[str, Any]) -> tuple[str, str]:
    """The turns as one string, and the last assistant turn, which is to be continued."""
    turns = [(str(m.get("role")), str(m.get("content"))) for m in body.get("messages") or []]
    prefix = turns.pop()[1] if turns and turns[-1][0] == "assistant" else ""
    return "\n\n".join(f"{role}: {content}" for role, content in turns), prefix


def _text(shown: str, seed: str, settings: Settings) -> str:
    made = hashlib.sha256(f"{shown}\0{seed}".encode("utf-8", "surrogatepass")).hexdigest()
    number = int(made[:8], 16)
    steps = [
        f"Step {i} gives {number * (i + 3) % 997}." for i in range(max(1, settings.words // 4 - 1))
    ]
    if settings.reasoning == "none":
        return f"We see {made[:8]}. {' '.join(steps)} The answer is \\boxed{{{number % 1000}}}."
    return f"<think>\nWe see {made[:8]}. {' '.join(steps)}\n</think>\nThe answer is \\boxed{{{number % 1000}}}."


def _cut(text: str, limit: int | None, stop: Any, forced: str | None) -> tuple[str, str, int]:
    if forced is not None:
        return forced, "stop", 0
    stops = [stop] if isinstance(stop, str) else stop or []
    cuts = [at for s in stops if s and (at := text.find(s)) >= 0]
    text = text[: min(cuts)] if cuts else text
    words = WORD.findall(text)
    if limit is not None and len(words) > limit:
        return "".join(words[:limit]), "length", limit
    return text, "stop", len(words)


def _logprob(context: str) -> float:
    return (
        -5.0
        * int(hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16)
        / 2**32
        - 0.001
    )


def _logs(text: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"token": m[0], "logprob": _logprob(text[: m.end()]), "top_logprobs": []}
        for m in WORD.finditer(text)
    ]


def _old_logs(logs: list[dict[str, Any]]) -> dict[str, Any]:
    offsets = [0]
    for entry in logs:
        offsets.append(offsets[-1] + len(entry["token"]))
    values = [entry["logprob"] for entry in logs]
    return {
        "tokens": [e["token"] for e in logs],
        "token_logprobs": values,
        "text_offset": offsets[:-1],
    }


def _prompt_logs(shown: str, prefix: str) -> list[Any]:
    """One entry a token, null for the first; the assistant's turn begins with a token of its own."""
    found: list[Any] = []
    tokens = [match[0] for text in (shown, prefix) for match in WORD.finditer(text)]
    for place, token in enumerate(tokens):
        value = {
            "logprob": _logprob("".join(tokens[: place + 1])),
            "rank": 2,
            "decoded_token": token,
        }
        other = {"logprob": -0.1, "rank": 1, "decoded_token": "?"}
        found.append({"7": value, "8": other} if found else None)
    return found


def _echoed(choice: dict[str, Any], shown: str, limit: int | None) -> None:
    """Put the prompt before the text, as `echo` does; the first token has no log-probability."""
    choice["text"] = shown + (choice["text"] if limit else "")
    choice["logprobs"] = _old_logs(_logs(choice["text"], {}))
    choice["logprobs"]["token_logprobs"][0] = None


def _usage(prompt: int, made: int, s: Settings, choices: list[dict[str, Any]]) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
    }
    if s.cached:
        usage["prompt_tokens_details"] = {"cached_tokens": min(s.cached, prompt)}
    thoughts = [
        c["message"].get("reasoning_content") or c["message"].get("reasoning")
        for c in choices
        if "message" in c
    ]
    if any(thoughts):
        usage["completion_tokens_details"] = {
            "reasoning_tokens": sum(len(t.split()) for t in thoughts if t)
        }
    return usage


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode())


def _error(status: int, text: str, code: str = "", *, param: str = "", headers: Any = ()) -> Reply:
    error = {"message": text, "type": "error", "code": code or None, "param": param or None}
    return Reply(status, json.dumps({"error": error}).encode(), headers=headers)


def _broken(fault: str) -> Reply | None:
    """The reply of a fault that has nothing of an answer."""
    quota = "You exceeded your current quota, please check your plan and billing details."
    made = {
        "400": _error(400, "bad request"),
        "403": _error(403, "Country, region, or territory not supported"),
        "html": Reply(
            200, b"<!DOCTYPE html><html><head><title>Welcome</title></head></html>", "text/html"
        ),
        "json": Reply(200, b'{"choices": [{"message": {"content": "half'),
        "shape": _json({"choices": [{"message": {"content": 5}}]}),
        "nan": Reply(
            200,
            b'{"choices": [{"message": {"content": NaN}}], "usage": {"prompt_tokens": Infinity}}',
        ),
        "drop": Reply(200, None),
        "quota": _error(429, quota, "insufficient_quota"),
    }
    return made.get(fault)


def _upload(body: bytes, kind: str) -> bytes:
    """The content of the part called "file" of a multipart form."""
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    for part in body.split(b"--" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    return b""


class _HttpConnection(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive, one request after the other."""

    def __init__(self, server: Server) -> None:
        self.server, self.buffer, self.transport, self.last = server, bytearray(), None, False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections += 1
        self.server.open.add(transport)

    def connection_lost(self, failure: Exception | None) -> None:
        self.server.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            if "chunked" in headers.get("transfer-encoding", ""):
                body, stop = _unchunked(self.buffer, end + 4)
            else:
                stop = end + 4 + int(headers.get("content-length", 0))
                body = bytes(self.buffer[end + 4 : stop])
            if stop < 0 or len(self.buffer) < stop:
                return
            del self.buffer[:stop]
            self.last = headers.get("connection", "").lower() == "close"
            self._call(first, headers, body)

    def _call(self, first: str, headers: dict[str, str], body: bytes) -> None:
        method, path, *_ = first.split(" ")
        server, path = self.server, path.partition("?")[0].rstrip("/")
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if (
            server.settings.key
            and key != server.settings.key
            and path not in ("/stats", "/control")
        ):
            text = f"Incorrect API key provided: {key}. You can find your API key at https://example.com."
            return self._send(_error(401, text, "invalid_api_key"), [])
        chat = path.endswith("/chat/completions")
        if not (method == "POST" and path in ("/v1/chat/completions", "/v1/completions")):
            return self._send(server.other(method, path, body, headers.get("content-type", "")), [])
        server.under_way += 1
        server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            wanted = json.loads(body)
        except ValueError:
            wanted = {}
        wait, reply, keys = server.completion(wanted, chat, server.crowded())
        if wait:
            asyncio.get_running_loop().call_later(wait, self._answer, reply, keys)
            return None
        return self._answer(reply, keys)

    def _answer(self, reply: Reply, keys: list[Any]) -> None:
        self.server.under_way -= 1
        self.server.count(keys, reply.status, not self.transport.is_closing())
        self._send(reply, keys)

    def _send(self, reply: Reply, keys: list[Any]) -> None:
        if self.transport.is_closing():
            return None
        if reply.body is None:
            return self.transport.abort()
        head = f"HTTP/1.1 {reply.status} X\r\ncontent-type: {reply.kind}\r\ncontent-length: {len(reply.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers) + "\r\n"
        if reply.cut:
            self.transport.write(head.encode() + reply.body[: len(reply.body) // 2])
            return self.transport.close()
        self.transport.write(head.encode() + reply.body)
        return self.transport.close() if self.last else None


def _unchunked(buffer: bytearray, start: int) -> tuple[bytes, int]:
    """A chunked body and where it ends; -1 while it has not come whole."""
    body = b""
    while (line := buffer.find(b"\r\n", start)) >= 0:
        size = int(bytes(buffer[start:line]).split(b";")[0] or b"0", 16)
        if len(buffer) < line + 4 + size:
            return b"", -1
        if not size:
            return body, line + 4
        body += bytes(buffer[line + 2 : line + 2 + size])
        start = line + 4 + size
    return b"", -1


async def start(server: Server) -> asyncio.Server:
    """Listen; `server.url` is known afterwards."""
    loop = asyncio.get_running_loop()
    settings = server.settings
    listening = await loop.create_server(
        lambda: _HttpConnection(server), settings.host, settings.port, backlog=2048
    )
    server.url = f"http://{settings.host}:{listening.sockets[0].getsockname()[1]}/v1"
    return listening


async def _shut(server: Server, listening: asyncio.Server) -> None:
    """Close what listens and every connection, and wait until they are closed."""
    listening.close()
    for transport in list(server.open):
        transport.abort()
    while server.open:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """A server in a thread of this process, which keeps what it was asked."""
    server = Server(Settings(**{"keep": True, **settings}))
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(start(server))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_shut(server, listening))
        loop.close()


@contextmanager
def process(*flags: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, flags)]
    with child.started(command, deadline=900, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(
        description="a fake OpenAI-compatible server; see the top of the file"
    )
    for entry in fields(Settings):
        name, kind = f"--{entry.name.replace('_', '-')}", type(entry.default)
        if entry.name != "fail":
            how: dict[str, Any] = (
                {"action": "store_true"}
                if kind is bool
                else {"type": kind, "default": entry.default}
            )
            parser.add_argument(name, **how)
    for kind in FAULTS:
        parser.add_argument(f"--fail-{kind}", type=float, default=0.0)
    args = vars(parser.parse_args())
    fail = {kind: share for kind in FAULTS if (share := args.pop(f"fail_{kind}"))}
    server = Server(Settings(fail=fail, **args))

    async def forever() -> None:
        listening = await start(server)
        print(server.url.split(":")[-1].split("/")[0], flush=True)
        await listening.serve_forever()

    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    run(forever())


if __name__ == "__main__":
    main()
