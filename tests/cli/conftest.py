"""What the command line's tests share: a folder with problems, scripted models and a tiny student; one finished run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from potstill.cli import main

QUESTIONS = {"Add 2 and 3.": "5", "Add 4 and 5.": "9", "Add 6 and 7.": "13"}
TEACHER = [
    {"pattern": "2 and 3", "answers": ["2 + 3 = 5. The answer is \\boxed{5}."]},
    {
        "pattern": "4 and 5",
        "answers": ["It is \\boxed{10}.", "\x1b[31m4 + 5 = 9.\x1b[0m [bold]So \\boxed{9}[/bold]."],
    },
    {"pattern": "", "answers": ["I do not know."]},
]


class Outcome(NamedTuple):
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def potstill(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl, test.jsonl, teacher.json and a tiny student with 128 positions; only read it."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint

    folder = tmp_path_factory.mktemp("bench")
    train = [{"question": q, "answer": a, "level": 2} for q, a in QUESTIONS.items()]
    jsonl(folder / "train.jsonl", train)
    jsonl(
        folder / "test.jsonl", [{"question": "What is 2 and 3 and 4?", "answer": "9", "level": 3}]
    )
    (folder / "teacher.json").write_text(json.dumps(TEACHER), "utf-8")
    tiny_checkpoint(folder / "tiny", positions=128)
    return folder


@pytest.fixture(scope="session")
def finished(bench: Path) -> Path:
    """A finished run of sft in `bench`, with evaluation; only read it."""
    with inside(bench):
        words = "run sft --problems train.jsonl --teacher scripted:teacher.json --student transformers:tiny --set n=2"
        words += " --set training.learning_rate=1e-3 --set training.num_train_epochs=1"
        words += " --evaluate test.jsonl --eval-n 2 --quiet --set evaluate.sampling.max_new_tokens=4 --threads 1 --json"
        assert main(words.split()) == 0
    return bench / "runs" / "sft"


@pytest.fixture
def here(bench: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder of one's own with the bench's files in it, as the working directory."""
    for name in ("train.jsonl", "test.jsonl", "teacher.json"):
        shutil.copy(bench / name, tmp_path / name)
    (tmp_path / "tiny").symlink_to(bench / "tiny")
    with inside(tmp_path):
        yield tmp_path


class inside:
    """A working directory for the length of a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.before = folder, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)
