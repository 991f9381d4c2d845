"""Commands that only look into a run change no file of it; every command says a mistake in JSON where that is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from potstill.cli import VERBS


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time of change, by its path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["cache", "stats", "RUN"],
        ["cache", "verify", "RUN"],
        ["cache", "journal", "RUN"],
        ["cache", "gc", "RUN"],
        ["cache", "export", "RUN", "--out", "OUT/completions.jsonl"],
        ["compare", "RUN"],
        ["show", "trace-", "RUN"],
        ["report", "RUN", "--out", "OUT/report.html"],
        ["export", "RUN", "--arm", "sft", "--out", "OUT/rows.jsonl"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_looking_into_a_finished_run_changes_nothing(
    finished: Path, tmp_path: Path, potstill, words: list[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = files_of(run)
    names = {"RUN": str(run), "OUT": str(tmp_path / "out")}
    (tmp_path / "out").mkdir()
    filled = []
    for word in words:
        for name, value in names.items():
            word = word.replace(name, value)
        filled.append(word)
    outcome = potstill(*filled)
    assert outcome.code in (0, 2) and outcome.out + outcome.err
    assert files_of(run) == before


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_a_mistake_in_json(verb: str, potstill) -> None:
    outcome = potstill(verb, "--no-such-flag", "--json")
    assert outcome.code == 2 and outcome.err == ""
    assert outcome.json["error"]["kind"] == "ConfigError"
