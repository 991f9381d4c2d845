"""docs/collecting.md, run as it stands on the core install: rows, a provider's file, what the tuned model gained."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Reply, serving

from potstill.cli import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "collecting.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.split("\n")
]
LOCAL = ("torch", "transformers", "accelerate", "safetensors", "peft", "numpy", "tokenizers")


@pytest.fixture
def core_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra potstill[local]: importing a package of it fails."""
    for package in LOCAL:
        monkeypatch.setitem(sys.modules, package, None)


class Provider:
    """A vendor whose large model adds rightly, whose small one does so once it was tuned on right sums."""

    def __init__(self, server: Any) -> None:
        self.tuned_on: list[Any] = []
        server.completion = self.completion

    def tune(self, file: Path) -> None:
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert set(row) == {"messages"}, "a vendor refuses other keys"
            assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
            assert all(set(turn) == {"role", "content"} for turn in row["messages"])
            self.tuned_on.append(row)

    def completion(self, body: dict[str, Any], chat: bool, crowded: bool) -> Any:
        one, other = map(int, re.findall(r"\d+", body["messages"][-1]["content"])[:2])
        model = body["model"]
        is_tuned = model.startswith("ft:") and bool(self.tuned_on)
        answer = one + other if model == "gpt-4.1" or is_tuned else one - other
        message = {"role": "assistant", "content": f"The answer is \\boxed{{{answer}}}."}
        choices = []
        for index in range(body.get("n") or 1):
            choices.append({"index": index, "finish_reason": "stop", "message": message})
        usage = {"prompt_tokens": 9, "completion_tokens": 9 * len(choices), "total_tokens": 18}
        answered = {"id": "x", "object": "chat.completion", "created": 1, "model": model}
        answered |= {"choices": choices, "usage": usage}
        return 0.0, Reply(200, json.dumps(answered).encode()), []


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("train", range(10, 16)), ("test", range(30, 34))):
        rows = [{"question": f"What is {n} + {n + 1}?", "answer": str(2 * n + 1)} for n in numbers]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving() as server:
        made = Provider(server)
        made.url = server.url
        yield made


def run_page(provider: Provider, verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the page's commands of one verb; what they printed."""
    commands = [shlex.split(line)[1:] for line in COMMANDS if line.startswith(f"potstill {verb} ")]
    assert commands, f"the page has no potstill {verb}"
    for words in commands:
        words = [word.replace("?at=openai", f"?url={provider.url}") for word in words]
        assert main(words) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_page_works_on_the_core_install(
    provider: Provider, core_install: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "calls for 6 problems" in run_page(provider, "plan", capsys)
    assert "nothing was trained or measured" in run_page(provider, "run", capsys)
    run_page(provider, "export", capsys)
    provider.tune(Path("tuning.jsonl"))
    assert len(provider.tuned_on) == 12
    run_page(provider, "evaluate", capsys)
    assert "+100.0" in run_page(provider, "compare", capsys)


def test_the_page_names_no_command_that_is_not_run() -> None:
    verbs = {line.split()[1] for line in COMMANDS if line.startswith("potstill")}
    assert verbs == {"plan", "run", "export", "evaluate", "compare"}
