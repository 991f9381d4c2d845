"""Server answers that were once misread, from the folder of faults beside the repository, where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fault_commands import case_reply, fault_cases
from openai_server import serving

from potstill.errors import ModelError
from potstill.models.model import Request
from potstill.models.remote.openai import OpenAIModel

KINDS = ("house 2", "B1", "B2")
BAD_ANSWERS = 4  # of a server that the case has answering badly for four seconds
DEADLINE = 0.15  # seconds, of answers that stay bad


def read_expected(folder: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf-8"))
    return expected


CASES = [
    folder for folder in fault_cases("wire", "wire4s") if read_expected(folder)["kind"] in KINDS
]


@pytest.mark.skipif(not CASES, reason="no faults/cases in the shared folder (POTSTILL_SHARED)")
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_case_is_read_as_expected(folder: Path) -> None:
    case = read_expected(folder)
    expected, reply = case["expected"], case_reply(folder)
    assert reply is not None
    passes = folder.name.endswith("-4s")
    with serving() as server:
        server.next += [reply] * (BAD_ANSWERS if passes else 200)
        model = OpenAIModel("m", url=server.url, deadline=30 if passes else DEADLINE)
        request = [Request("What is seven plus nine?")]
        if expected.get("stops"):
            with pytest.raises(ModelError):
                model.write(request)
            return
        [completion] = model.write(request)

    if expected.get("error") or (expected.get("or_error") and completion.error):
        assert completion.error and "�" not in completion.text
        return
    assert completion.error == ""
    if passes:
        assert completion.text and len(completion.tries) == BAD_ANSWERS
    elif "text" in expected:
        assert completion.text == expected["text"]
    if "finish" in expected:
        assert completion.finish_reason == expected["finish"]
    if "finish_not" in expected:
        assert completion.finish_reason != expected["finish_not"]
