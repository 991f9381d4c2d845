"""Server answers that were once misread, from the folder of faults beside the repository, where there is one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from openai_server import Reply, serving

from potstill.models.model import Request
from potstill.models.remote.openai import OpenAIModel

SHARED = Path(os.environ.get("POTSTILL_SHARED", Path(__file__).resolve().parents[4] / "shared"))


def server_answer_cases() -> list[Path]:
    """Cases that a server's answer is the input of, of the kind that this package answers for."""
    folders = []
    for folder in sorted((SHARED / "faults" / "cases").glob("wire-*")):
        if json.loads((folder / "expected.json").read_text("utf-8"))["kind"] == "house 2":
            folders.append(folder)
    return folders


CASES = server_answer_cases()


@pytest.mark.skipif(not CASES, reason="no faults/cases in the shared folder (POTSTILL_SHARED)")
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_case_is_read_as_expected(folder: Path) -> None:
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf-8"))["expected"]
    answer = (folder / "body.json").read_bytes()
    with serving() as server:
        server.next += [Reply(200, answer)] * 20
        model = OpenAIModel("m", url=server.url, deadline=4)
        [completion] = model.write([Request("What is seven plus nine?")])

    if expected.get("or_error") and completion.error:
        return
    assert completion.error == ""
    if "text" in expected:
        assert completion.text == expected["text"]
    if "finish" in expected:
        assert completion.finish_reason == expected["finish"]
    if "finish_not" in expected:
        assert completion.finish_reason != expected["finish_not"]
