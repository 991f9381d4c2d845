"""Runs the cases of the optional folder of faults that are tried as command lines: `command` and `finished run`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import child
from openai_server import Reply, Server, serving

SHARED = Path(os.environ.get("POTSTILL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FAULTS = SHARED / "faults"

# The run that the cases `finished run` look into: four problems with recorded answers, one training step.
FINISHED_PROBLEMS = [{"question": f"{n}+{n}?", "answer": str(2 * n)} for n in range(2, 6)]


def fault_cases(*checks: str) -> list[Path]:
    """The folders of the cases that are tried in one of these ways, in order of their names."""
    folders = []
    for file in sorted((FAULTS / "cases").glob("*/expected.json")):
        expected = json.loads(file.read_text("utf-8"))
        if expected.get("check", expected["how"]) in checks:
            folders.append(file.parent)
    return folders


def run_case(folder: Path, scratch: Path, *, finished: Path | None = None) -> list[str]:
    """Run a case's commands in a scratch folder, and return what came out otherwise than expected.

    Arguments:
        folder: the case, with `expected.json` and the files that its commands read.
        scratch: an empty folder that the commands are run in.
        finished: a folder with a finished run and its files, for a case of that kind.
    """
    case = json.loads((folder / "expected.json").read_text("utf-8"))
    for source in (finished, folder):
        if source is not None:
            shutil.copytree(source, scratch, dirs_exist_ok=True)
    if "checkpoint" in case:
        make = [
            sys.executable,
            str(FAULTS / "tiny_checkpoints.py"),
            case["checkpoint"],
            "checkpoint",
        ]
        child.run(make, cwd=scratch, prepared=True)

    before = digests(scratch / case["unchanged"]) if "unchanged" in case else {}
    done = None
    streams = ""
    with fault_server(folder) as server:
        for line in case["args"]:
            done = run_line([word.replace("{server}", server.url) for word in line], case, scratch)
            streams = done.stdout + done.stderr
            if "Traceback (most recent call last)" in streams:
                return [f"{shlex.join(line)} ended in a traceback:\n{streams}"]
        requests = sum(server.statuses.values())
    assert done is not None, f"{folder.name} has no commands"

    wrong = differences(case["expected"], done, scratch, requests)
    if before and digests(scratch / case["unchanged"]) != before:
        wrong.append(f"files of {case['unchanged']} changed")
    return [f"{what}\n{streams}" for what in wrong]


def run_line(
    line: list[str], case: dict[str, Any], scratch: Path
) -> subprocess.CompletedProcess[str]:
    """Run one line: words of `potstill`, or any command after a `!`."""
    own = line[0] != "!"
    command = [sys.executable, "-m", "potstill", *line] if own else line[1:]
    typed = case.get("typed", "")
    if "stdin" in case:
        typed = (scratch / case["stdin"]).read_text("utf-8")
    package = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200", **case.get("env", {})}
    return child.run(command, check=False, prepared=own, cwd=scratch, env=env, input=typed)


def differences(
    expected: dict[str, Any], done: subprocess.CompletedProcess[str], scratch: Path, requests: int
) -> list[str]:
    """What the last command did otherwise than the case expects."""
    streams = done.stdout + done.stderr
    wrong = []
    if "rc" in expected and bool(expected["rc"]) != bool(done.returncode):
        wrong.append(f"expected the exit status {expected['rc']}, found {done.returncode}")
    for pattern in expected.get("out_has", []):
        if not re.search(pattern, streams):
            wrong.append(f"the output lacks /{pattern}/")
    for pattern in expected.get("out_lacks", []):
        if re.search(pattern, streams):
            wrong.append(f"the output has /{pattern}/")
    for name in expected.get("files_lack", []):
        if (scratch / name).exists():
            wrong.append(f"there is a file {name}")
    if requests > expected.get("at_most", requests):
        wrong.append(f"expected at most {expected['at_most']} requests, the server saw {requests}")
    for source, values in expected.get("json", {}).items():
        text = done.stdout if source == "stdout" else (scratch / source).read_text("utf-8")
        wrong += json_differences(text, values)
    return wrong


def json_differences(text: str, values: dict[str, Any]) -> list[str]:
    """The dotted keys of a JSON document that don't hold what is expected."""
    try:
        document = json.loads(text)
    except ValueError:
        return [f"expected a JSON document, found {text[:200]!r}"]
    wrong = []
    for dotted, value in values.items():
        found = document
        for key in dotted.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != value:
            wrong.append(f"{dotted}: expected {value!r}, found {found!r}")
    return wrong


def digests(folder: Path) -> dict[str, str]:
    """A digest of each file under a folder, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextlib.contextmanager
def fault_server(folder: Path) -> Iterator[Server]:
    """A server that answers every chat completion as the case's `reply.json` or `body.json` says, or else well."""
    with serving() as server:
        reply = case_reply(folder)
        if reply is not None:
            server.next += [reply] * 200
        yield server


def case_reply(folder: Path) -> Reply | None:
    """The answer that a case's server gives, or None where the case has no answer of its own."""
    if (folder / "body.json").is_file():
        return Reply(200, (folder / "body.json").read_bytes())
    if not (folder / "reply.json").is_file():
        return None
    told = json.loads((folder / "reply.json").read_text("utf-8"))
    if told.get("reset"):
        return Reply(200, None)
    body = json.dumps(told.get("body", {})).encode()
    if "raw" in told:
        body = told["raw"].encode()
    if "body_base64" in told:
        body = base64.b64decode(told["body_base64"])
    headers = tuple(told.get("headers", {}).items())
    return Reply(told.get("status", 200), body, headers=headers)


def make_finished_run(folder: Path) -> None:
    """Make a run that ended well, of the kind that the cases `finished run` are tried in."""
    problems, answers = [], []
    for row in FINISHED_PROBLEMS:
        problems.append(json.dumps(row))
        answers.append(
            json.dumps({"question": row["question"], "completion": f"\\boxed{{{row['answer']}}}"})
        )
    (folder / "p.jsonl").write_text("\n".join(problems) + "\n")
    (folder / "r.jsonl").write_text("\n".join(answers) + "\n")
    words = "run sft --problems world:story?size=6 --teacher world:teacher --student world:student"
    words += " --set training.max_steps=1 --evaluate world:story?size=3&seed=9 --eval-n 1 --threads 1 --out run --quiet"
    done = run_line(words.split(), {}, folder)
    assert done.returncode == 0, done.stdout + done.stderr
