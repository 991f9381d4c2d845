"""The command itself: it starts fast and light, says what is wrong, and stops politely."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import child
import pytest

from potstill import cli, models, verifiers
from potstill.cli import VERBS, main, module_of
from potstill.cli.options import Parser
from potstill.errors import ConfigError

HEAVY = (
    *(
        "torch",
        "transformers",
        "pyarrow",
        "aiohttp",
        "asyncio",
        "rich",
        "yaml",
        "numpy",
        "sqlite3",
        "difflib",
        "pydantic",
    ),
    *("potstill.runs.recipe", "potstill.runs.sources", "potstill.records"),
)


def imported(program: str) -> set[str]:
    report = f"{program}\nimport json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    done = child.run([sys.executable, "-c", report])
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_is_light() -> None:
    loaded = imported("from potstill.cli import main; main(['--help'])")
    assert "potstill.cli" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example(verb: str, potstill) -> None:
    helped = potstill(verb, "--help")
    assert helped.code == 0
    assert f"examples:\n  potstill {verb}" in helped.out.split("options:")[0]


def test_help_and_text_do_not_import_torch() -> None:
    words = [[verb, "--help"] for verb in VERBS] + [
        ["methods", "--json"],
        ["world", "problems"],
        ["world", "info"],
    ]
    loaded = imported(f"from potstill.cli import main; assert not any(main(w) for w in {words!r})")
    assert "potstill.cli.world" in loaded and not {"torch", "transformers", "numpy"} & loaded


def test_help_is_fast() -> None:
    def once() -> float:
        began = time.perf_counter()
        child.run([sys.executable, "-m", "potstill", "--help"])
        return time.perf_counter() - began

    assert min(once() for _ in range(3)) < 0.4


def test_every_module_is_a_command_or_a_part_of_them() -> None:
    files = {path.stem for path in Path(str(cli.__file__)).parent.glob("*.py")}
    parts = {
        "__init__",
        "answers",
        "check_teacher",
        "evaluations",
        "instruments",
        "options",
        "progress",
        "results",
        "retry",
        "rows",
        "sharing",
        "show",
        "solver",
        "viewing",
        "width",
    }
    assert {name.removesuffix("_").replace("_", "-") for name in files - parts} == set(VERBS)
    for verb in VERBS:
        module = module_of(verb)
        assert callable(module.add_arguments) and callable(module.execute)


def test_all_commands_print_json() -> None:
    for verb in VERBS:
        parser = Parser(prog=f"potstill {verb}")
        module_of(verb).add_arguments(parser)
        actions = [a for a in parser._actions if a.dest == "action"]
        parsers = list(actions[0].choices.values()) if actions else [parser]
        assert all(any("--json" in a.option_strings for a in p._actions) for p in parsers), verb


def test_unknown_command_names_the_nearest(potstill) -> None:
    failed = potstill("metods")
    assert failed.code == 2 and failed.out == ""
    assert "no command called 'metods'" in failed.err
    assert "nearest:   methods" in failed.err
    assert "fix:       potstill --help" in failed.err


def test_wrong_flag_is_an_error_like_any_other(potstill) -> None:
    failed = potstill(
        "evaluate", "--model", "world:student", "--problems", "world:story", "--n", "0"
    )
    assert failed.code == 2
    assert "argument --n: '0' is not a whole number above 0" in failed.err
    assert "fix:       potstill evaluate --help" in failed.err


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, potstill) -> None:
    def stop(args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("potstill.cli.run.execute", stop)
    stopped = potstill("run", "sft", "--problems", "world:story?size=3")
    assert stopped.code == 130
    assert (
        "can be taken up again with the same command: potstill run sft --problems 'world:story?size=3'"
        in stopped.err
    )
    for name, value in {"WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "MASTER_ADDR": "node-0"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("MASTER_PORT", raising=False)
    launcher = "torchrun --nnodes 2 --node-rank 0 --rdzv-endpoint node-0:29500 --nproc-per-node 4"
    assert launcher in potstill("run", "sft", "--problems", "world:story?size=3").err
    monkeypatch.setattr("potstill.cli.methods.execute", stop)
    assert potstill("methods").err == "\nstopped\n"


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.cli.methods.execute", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["methods"])


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "potstill", "methods", "--json"]
    done = child.run(words, check=False, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_version(potstill) -> None:
    from potstill import __version__

    assert potstill("--version").out == f"potstill {__version__}\n"


def test_abbreviated_flags_are_refused() -> None:
    parser = Parser(prog="potstill x")
    parser.add_argument("--problems")
    with pytest.raises(ConfigError):
        parser.parse_args(["--prob", "x"])


def test_help_names_every_kind_of_verifier_and_model(potstill) -> None:
    helped = " ".join(potstill("run", "--help").out.split())
    for kind in verifiers.KINDS:
        assert f"{kind}," in helped or f"{kind} (default" in helped, kind
    for kind in models.KINDS:
        assert f" {kind}:" in helped, kind


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--model", "world:student", "--problems", "absent.jsonl", "--json"],
        ["compare", "--json", "absent.json", "absent.json"],
        ["cache", "stats", "absent", "--json"],
        ["run", "sft", "--json"],
        ["no-such-verb", "--json"],
        ["judge", "--json", "--no-such-flag"],
    ],
)
def test_with_json_a_mistake_is_one_json_document(potstill, words):
    outcome = potstill(*words)
    assert outcome.code == 2 and outcome.err == ""
    error = outcome.json["error"]
    assert error["message"] and set(error) >= {"kind", "expected", "available", "fix", "notes"}


def test_a_command_that_printed_its_document_prints_no_second_one(potstill, tmp_path):
    (tmp_path / "p.jsonl").write_text(
        '{"question": "1+1?", "answer": "two or so", "kind": "number"}\n'
    )
    outcome = potstill("verify", "--problems", tmp_path / "p.jsonl", "--kind", "number", "--json")
    assert outcome.code == 2 and outcome.json and "potstill:" in outcome.err
