"""Failed calls: every verb that asks models says how many, and with --retry-errors asks for these alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import Server, serving

from potstill.cli import VERBS, module_of
from potstill.cli.options import Parser

ASKING = ("run", "quickstart", "plan", "tune-prompts", "evaluate", "judge", "study", "train")
PROBLEMS = [
    {"id": f"p{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(4)
]


def save(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def break_down(server: Server) -> str:
    """Let every call fail, and return the spec of a model there."""
    server.settings.fail["500"] = 1.0
    return f"openai:m?url={server.url}&deadline=0.05&concurrency=4"


@pytest.mark.parametrize("verb", ASKING)
def test_every_verb_that_asks_models_can_ask_again(verb: str) -> None:
    parser = Parser(prog=verb)
    module_of(verb).add_arguments(parser)
    assert "--retry-errors" in parser.format_help()


@pytest.mark.slow
def test_an_evaluation_says_what_failed_and_mends_it(potstill, tmp_path: Path) -> None:
    problems, out = save(tmp_path / "p.jsonl", PROBLEMS), tmp_path / "e.json"
    words = ["evaluate", "--problems", problems, "--n", "1", "--quiet", "--json", "--out", out]
    with serving() as server:
        words += ["--model", break_down(server)]
        first = potstill(*words)
        assert first.json["statuses"] == {"error": 4}
        [note] = [note for note in first.json["notes"] if "--retry-errors" in note]
        assert note.startswith("4 calls failed (server 4)") and f"--out {out}" in note

        # Final until it is asked for again, whether the server is back or not.
        server.settings.fail.clear()
        assert potstill(*words).json["statuses"] == {"error": 4}
        mended = potstill(*words, "--retry-errors")
    assert "error" not in mended.json["statuses"]
    assert not [note for note in mended.json["notes"] if "calls failed" in note]


@pytest.mark.slow
def test_without_a_store_the_same_command_asks_again(potstill, tmp_path: Path) -> None:
    problems = save(tmp_path / "p.jsonl", PROBLEMS)
    with serving() as server:
        words = ["--model", break_down(server), "--problems", problems, "--n", "1", "--quiet"]
        done = potstill("evaluate", *words)
    assert "were not stored; ask again: potstill evaluate" in " ".join(done.out.split())
    assert "--retry-errors" not in done.out


@pytest.mark.slow
def test_a_judge_that_failed_is_asked_again(potstill, tmp_path: Path) -> None:
    problems = save(tmp_path / "p.jsonl", PROBLEMS)
    replies = [{"id": row["id"], "completion": row["answer"]} for row in PROBLEMS]
    answers = save(tmp_path / "a.jsonl", replies)
    words = ["judge", "--problems", problems, "--answers", answers, "--quiet", "--json"]
    with serving() as server:
        words += ["--judge", break_down(server), "--out", tmp_path / "judged"]
        first = potstill(*words)
        assert first.json["answers"][0]["unjudged"] == 4
        assert any("server 4" in note and "--retry-errors" in note for note in first.json["notes"])
        server.settings.fail.clear()
        assert potstill(*words).json["answers"][0]["unjudged"] == 4
        assert potstill(*words, "--retry-errors").json["answers"][0]["unjudged"] == 0


def test_verbs_are_all_thought_of() -> None:
    """A new verb that asks models has to be named above."""
    others = {
        *("prices", "models", "methods", "check", "verify", "cache-teacher", "compare", "import"),
        *("export", "cache", "world", "report", "show", "score", "view", "curate", "serve"),
    }
    assert set(VERBS) - others == set(ASKING)


@pytest.mark.slow
def test_a_run_says_what_failed_and_mends_it(potstill, tmp_path: Path) -> None:
    problems = save(tmp_path / "p.jsonl", [{**row, "answer": "(?s).*"} for row in PROBLEMS])
    out = tmp_path / "run"
    words = ["run", "sft", "--problems", problems, "--kind", "regex", "--rows-only", "--quiet"]
    with serving() as server:
        server.settings.fail["400"] = 0.5
        words += ["--teacher", f"openai:m?url={server.url}&concurrency=1", "--set", "n=4"]
        first = potstill(*words, "--json", "--out", out)
        assert first.code == 0, first.err
        [note] = [note for note in first.json["notes"] if "--retry-errors" in note]
        assert "calls failed (refused" in note and f"--out {out}" in note
        server.settings.fail.clear()
        mended = potstill(*words, "--json", "--out", out, "--retry-errors")
    assert not [note for note in mended.json["notes"] if "calls failed" in note]
