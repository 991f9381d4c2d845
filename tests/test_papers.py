"""Papers live in methods/, objectives/ and studies/: the engine knows none of them by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from potstill.methods import METHODS
from potstill.objectives import TABLE

PACKAGE = Path(__file__).resolve().parents[1] / "potstill"
ENGINE = ("training", "runs", "evaluation", "report", "world")
# Words of the field, not names of one paper.
GENERAL = {"sft", "sft_gold", "rft", "explain", "fair", "gold", "pad", "forward_kl", "reverse_kl"}
PAPERS = {
    *(set(METHODS) - GENERAL),
    *(set(TABLE) - GENERAL),
    *("euler", "p-align", "lema", "star"),
    *("skd", "gkd", "distillm", "distillm-2", "nover", "stepwise internalisation", "icot"),
}
NAME = re.compile(
    rf"(?<![\w-])(?:{'|'.join(sorted(map(re.escape, PAPERS)))})(?![\w-])", re.IGNORECASE
)
# `potstill check my_method.py:star` is an example of a user's own file, not the paper.
EXAMPLE = re.compile(r"my_method\.py:\w+")


def named_papers(text: str) -> list[str]:
    return NAME.findall(EXAMPLE.sub("", text))


@pytest.mark.parametrize("folder", ENGINE)
def test_the_engine_names_no_paper(folder):
    files = [p for p in (PACKAGE / folder).rglob("*.py") if "checkpoints" not in p.parts]
    assert files
    named = {}
    for path in files:
        papers = named_papers(path.read_text("utf-8"))
        if papers:
            named[path.name] = papers
    assert not named, (
        f"{folder}/ names methods or objectives: {named}. Take the name out of the engine; "
        "where it is a word of the field and no paper's own, add it to GENERAL in this file"
    )


def test_the_check_can_fail():
    assert named_papers("as ORION does; orionid; started") == ["ORION"]
    assert named_papers('objective == "dskd"') == ["dskd"]
    assert named_papers("potstill check my_method.py:star") == []
