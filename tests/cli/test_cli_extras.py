"""Each verb with the packages of the extras hidden: it says which extra it needs before it asks anybody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from openai_server import serving

from potstill import extras
from potstill.cli import VERBS, main
from potstill.errors import ConfigError
from potstill.verifiers.code import sandbox

LOCAL = "the extra potstill[local]"
HIDDEN = [package for packages in extras.EXTRAS.values() for package in packages]
HIDDEN += ["datasets", "reasoning_gym", "tokenizers", "peft", "trl"]

# Of each verb a command that needs an extra, with {teacher} on a server, and the extra that it must name.
NEEDY = {
    "quickstart": [(["--out", "q"], LOCAL)],
    "run": [
        (
            [
                "sft",
                "--problems",
                "p.jsonl",
                "--teacher",
                "{teacher}",
                "--student",
                "world:student",
            ],
            LOCAL,
        ),
        (["rft", "--problems", "p.jsonl", "--student", "world:student", "--rows-only"], LOCAL),
        (["sft", "--problems", "p.jsonl", "--teacher", "litellm:a/b", "--rows-only"], "[vendors]"),
        (["sft", "--problems", "hf:a/b", "--teacher", "{teacher}", "--rows-only"], "[data]"),
        (["sft", "--problems", "gym:x", "--teacher", "{teacher}", "--rows-only"], "[data]"),
    ],
    "plan": [
        (
            [
                "sft",
                "--problems",
                "p.jsonl",
                "--teacher",
                "{teacher}",
                "--student",
                "world:student",
            ],
            LOCAL,
        ),
    ],
    "tune-prompts": [
        (
            [
                "orion",
                *("--problems", "p.jsonl", "--teacher", "{teacher}", "--student", "world:student"),
            ],
            LOCAL,
        ),
    ],
    "evaluate": [
        (["--model", "world:student", "--problems", "p.jsonl"], LOCAL),
        (["--model", "transformers:tiny", "--problems", "p.jsonl"], LOCAL),
        (["--model", "vllm:tiny", "--problems", "p.jsonl"], "[vllm]"),
        (["--model", "{teacher}", "--problems", "p.jsonl", "--judge", "world:teacher"], LOCAL),
    ],
    "models": [(["get", "smollm2"], LOCAL)],
    "judge": [
        (["--answers", "r.jsonl", "--judge", "world:teacher", "--problems", "p.jsonl"], LOCAL),
    ],
    "train": [
        (["--rows", "rows.jsonl", "--student", "world:student", "--out", "s"], LOCAL),
        (
            [
                *("--rows", "rows.jsonl", "--student", "transformers:tiny"),
                *("--objective", "forward_kl", "--teacher", "world:teacher", "--out", "s"),
            ],
            LOCAL,
        ),
    ],
    "cache-teacher": [
        (["--rows", "rows.jsonl", "--teacher", "world:teacher", "--out", "c"], LOCAL)
    ],
    "score": [(["run", "--arm", "sft"], LOCAL)],
    "serve": [(["world:student", "--port", "0"], LOCAL)],
    "study": [(["objectives", "--out", "st"], LOCAL)],
    "world": [(["build", "student", "--out", "w", "--work", "ww"], LOCAL), (["check"], LOCAL)],
    "import": [(["hf:a/b", "--out", "t.jsonl"], "[data]")],
    "verify": [(["--problems", "hf:a/b"], "[data]")],
    "curate": [(["r.jsonl", "--near-duplicates", "0.8", "--out", "c"], "[curate]")],
}
# Commands of the other verbs, and of some of those above, that work without any extra.
COLLECT = ["run", "sft", "--problems", "p.jsonl", "--teacher", "recorded:r.jsonl", "--rows-only"]
ENOUGH = [
    [*COLLECT, "--student", "world:student", "--out", "run"],
    ["plan", "sft", "--problems", "p.jsonl", "--teacher", "recorded:r.jsonl", "--rows-only"],
    ["export", "run", "--arm", "sft", "--format", "openai", "--out", "t.jsonl"],
    ["cache", "stats", "run"],
    ["report", "run"],
    ["show", "sft:1", "run"],
    ["import", "r.jsonl", "--out", "traces.jsonl"],
    ["verify", "--problems", "p.jsonl", "--answers", "r.jsonl"],
    ["curate", "r.jsonl", "--verify", "--out", "clean"],
    [
        "evaluate",
        "--model",
        "recorded:r.jsonl",
        "--problems",
        "p.jsonl",
        "--n",
        "1",
        "--out",
        "a.json",
    ],
    ["compare", "a.json", "a.json"],
    ["methods", "orion"],
    ["check", "sft"],
    ["prices", "gpt-4.1"],
    ["models", "list"],
    ["world", "problems", "story"],
    ["train", "--help"],
    ["view", "--help"],
]
CASES = [(verb, words, extra) for verb, cases in NEEDY.items() for words, extra in cases]


def write_files(folder: Path) -> None:
    problems = [{"question": f"{n}+{n}?", "answer": str(2 * n)} for n in (2, 3)]
    answers = [
        {"question": p["question"], "completion": f"\\boxed{{{p['answer']}}}"} for p in problems
    ]
    rows = [{"prompt": p["question"], "completion": p["answer"]} for p in problems]
    for name, lines in (("p", problems), ("r", answers), ("rows", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder on an installation where importing a package of an extra fails."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    for package in HIDDEN:
        monkeypatch.setitem(sys.modules, package, None)
    return tmp_path


@pytest.mark.parametrize(
    ("verb", "words", "extra"), CASES, ids=[f"{verb} {' '.join(w)[:40]}" for verb, w, _ in CASES]
)
def test_a_verb_names_the_extra_that_it_needs_and_asks_nobody(
    core: Path, tiny_checkpoint: Path, capsys, verb: str, words: list[str], extra: str
) -> None:
    (core / "tiny").symlink_to(tiny_checkpoint)
    with serving() as server:
        teacher = f"openai:x?url={server.url}"
        assert main([verb, *[word.replace("{teacher}", teacher) for word in words]]) == 2
        assert extra in capsys.readouterr().err
        assert sum(server.statuses.values()) == 0


@pytest.mark.slow
def test_what_needs_no_extra_works_without(core: Path, capsys) -> None:
    for words in ENOUGH:
        assert main(words) == 0, (words, capsys.readouterr().err)


@pytest.mark.slow
def test_without_a_sandbox_all_works_but_programs(core: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    monkeypatch.setattr(sandbox.platform, "system", lambda: "Darwin")
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)
    sandbox.sandbox_obstacle.cache_clear()
    try:
        for words in ENOUGH:
            assert main(words) == 0, (words, capsys.readouterr().err)
        row = {"question": "Add.", "answer": "print(2)", "tests": ["assert add(1, 1) == 2"]}
        (core / "code.jsonl").write_text(json.dumps(row | {"kind": "code"}) + "\n")
        with serving() as server:
            words = ["sft", "--problems", "code.jsonl", "--kind", "code", "--rows-only"]
            assert main(["run", *words, "--teacher", f"openai:x?url={server.url}"]) == 2
            assert sum(server.statuses.values()) == 0
        refusal = capsys.readouterr().err
        assert "Darwin has no such thing" in refusal and "Linux container" in refusal
    finally:
        sandbox.sandbox_obstacle.cache_clear()


def test_every_verb_is_tried() -> None:
    assert set(NEEDY) | {words[0] for words in ENOUGH} == set(VERBS)


@pytest.mark.slow
def test_a_process_without_the_packages_says_the_same(tmp_path: Path) -> None:
    write_files(tmp_path)
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({HIDDEN!r}))\n"
        "from potstill.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    root = str(Path(__file__).resolve().parents[2])
    for words, status in (*[(words, 0) for words in ENOUGH], (["quickstart", "--out", "q"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, (words, done.stderr)


def test_a_package_is_missing_where_it_can_not_be_imported(monkeypatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "local", ("json", "no_such_package"))
    assert extras.missing_packages("local") == ["no_such_package"]
    with pytest.raises(ConfigError, match="pip install 'potstill\\[local\\]', or do without"):
        extras.require_extra("local", "this", fix="do without")
