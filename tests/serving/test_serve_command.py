"""`potstill serve` as a process: what it prints, whom it serves, and how it ends."""

from __future__ import annotations

import json
import signal
import sys
import threading
import urllib.request
from pathlib import Path

import child
import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main
from potstill.cli.serve import default_names

pytestmark = pytest.mark.slow  # a process of its own


def test_it_ends_with_the_calls_under_way_answered(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "potstill", "serve", tiny_checkpoint, "--port", "0", "--json"]
    log = (tmp_path / "log").open("wb")
    with log, child.started(command, text=True, stdout=child.subprocess.PIPE, stderr=log) as server:
        address = json.loads(server.stdout.readline())
        assert address["models"][-1] == tiny_checkpoint.name
        body = {"prompt": "Add 3.", "max_tokens": 400, "ignore_eos": True, "n": 4, "stream": True}
        answers: list[bytes] = []
        call = urllib.request.Request(
            address["url"] + "/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(call, timeout=60) as answer:
            answers.append(answer.readline())  # it has begun
            reader = threading.Thread(target=lambda: answers.append(answer.read()))
            server.send_signal(signal.SIGINT)
            reader.start()
            reader.join(60)
        assert answers[1].endswith(b"data: [DONE]\n\n")
        assert server.wait(60) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["world:student", "--host", "0.0.0.0"], "lets other machines ask"),
        (["world:student", "--api-key", "sk-123"], "no name of an environment variable"),
        (["world:student", "--api-key", "NOT_SET_ANYWHERE"], "is not set"),
        (["world:oracle"], "has no weights"),
    ],
)
def test_what_can_not_be_served_is_refused(words: list[str], message: str, capsys) -> None:
    assert main(["serve", *words, "--port", "0"]) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_called_by_its_spec_or_the_end_of_its_path() -> None:
    assert default_names("world:student") == ["world:student", "student"]
    assert default_names("runs/a/student?threads=1") == ["runs/a/student", "student"]
    expected = ["transformers:m/x.gguf", "m/x.gguf", "x.gguf"]
    assert default_names("transformers:m/x.gguf") == expected
