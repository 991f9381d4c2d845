"""Which sandbox is taken, what is said where there is none, and that each works for root and for others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import child
import pytest

from potstill.errors import ConfigError
from potstill.records import Problem
from potstill.verifiers import placement
from potstill.verifiers.code import execute, sandbox, verifier
from potstill.verifiers.code.inside import confine
from potstill.verifiers.code.sandbox import Limits

RIGHT = (
    Problem(id="p", question="?", kind="code", tests=("assert f(1) == 1",)),
    "def f(x): return x",
)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)


def pretend(monkeypatch, **found: str) -> None:
    """Let kinds of sandbox work ("") or not (why)."""
    monkeypatch.setattr(sandbox, "sandbox_obstacle", lambda kind: found[kind])


def test_bubblewrap_is_taken_where_it_works_then_namespaces(monkeypatch):
    pretend(monkeypatch, bubblewrap="", namespaces="")
    assert sandbox.choose_sandbox() == "bubblewrap"
    assert placement.describe_sandbox() == "programs run in: bubblewrap"
    pretend(monkeypatch, bubblewrap="bwrap is not installed", namespaces="")
    assert sandbox.choose_sandbox() == "namespaces"


def test_one_can_be_named(monkeypatch):
    pretend(monkeypatch, bubblewrap="", namespaces="")
    monkeypatch.setenv(sandbox.VARIABLE, "namespaces")
    assert sandbox.choose_sandbox() == "namespaces"
    assert sandbox.choose_sandbox("bubblewrap") == "bubblewrap"
    with pytest.raises(ConfigError, match=r"nearest: +namespaces"):
        sandbox.choose_sandbox("namespace")


def test_without_a_sandbox_nothing_is_run(monkeypatch, tmp_path):
    pretend(
        monkeypatch,
        bubblewrap="bwrap is not installed",
        namespaces="unshare: Operation not permitted",
    )
    program = f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(x): return x"
    with pytest.raises(ConfigError) as refused:
        verifier.judge(RIGHT[0], program)
    for words in (
        "bwrap is not installed",
        "not permitted",
        "apt install bubblewrap",
        "none-i-trust-this-code",
    ):
        assert words in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "word", ["none", "no", "off", "0", "none-i-trust", "NONE-I-TRUST-THIS-CODE"]
)
def test_a_short_no_is_not_enough(monkeypatch, word):
    monkeypatch.setenv(sandbox.VARIABLE, word)
    with pytest.raises(ConfigError, match="there is no sandbox"):
        verifier.judge(*RIGHT)


@pytest.mark.slow
def test_asked_in_words_programs_run_unconfined_and_the_verdict_says_so(monkeypatch, tmp_path):
    pretend(monkeypatch, bubblewrap="no", namespaces="no")
    monkeypatch.setenv(sandbox.VARIABLE, sandbox.TRUSTED)
    [found] = verifier.judge_all(
        [(RIGHT[0], f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(x): return x")]
    )
    assert found.status == "right" and found.reason.endswith("[none-i-trust-this-code]")
    assert (tmp_path / "ran").exists()
    loop = "def f(x):\n  while True: pass"
    assert verifier.judge_all([(RIGHT[0], loop)], limits=Limits(seconds=1))[0].reason.startswith(
        "time"
    )


def test_other_systems_are_told(monkeypatch):
    sandbox.sandbox_obstacle.cache_clear()
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    monkeypatch.setattr(sandbox.platform, "system", lambda: "Darwin")
    try:
        with pytest.raises(ConfigError, match="Darwin has no such thing") as refused:
            sandbox.choose_sandbox()
        assert "Linux container" in str(refused.value)
    finally:
        sandbox.sandbox_obstacle.cache_clear()


def test_without_bwrap_the_reason_is_said(monkeypatch):
    sandbox.sandbox_obstacle.cache_clear()
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    try:
        assert sandbox.sandbox_obstacle("bubblewrap") == "bwrap is not installed"
    finally:
        sandbox.sandbox_obstacle.cache_clear()


def test_a_sandbox_that_breaks_is_not_the_programs_fault(monkeypatch):
    usable()
    real = sandbox.sandbox_command
    monkeypatch.setattr(sandbox, "sandbox_command", lambda *a, **k: ["/bin/false", *real(*a, **k)])
    found = verifier.judge(*RIGHT)
    assert found.status == "unjudged" and found.reason.startswith("sandbox")
    ended = execute.run_program(sandbox.choose_sandbox(), [["print(1)"]], "", Limits())
    assert ended.outcome == "sandbox"


def usable() -> list[str]:
    """Kinds that work here."""
    found = [kind for kind in sandbox.KINDS if not sandbox.sandbox_obstacle(kind)]
    if not found:
        pytest.skip(
            "; ".join(f"{kind}: {sandbox.sandbox_obstacle(kind)}" for kind in sandbox.KINDS)
        )
    return found


def test_the_filter_of_system_calls_is_on():
    if os.uname().machine not in confine._MACHINES:
        pytest.skip(f"no filter for {os.uname().machine}")
    program = "import ctypes\nprint(ctypes.CDLL(None).prctl(21, 0, 0, 0, 0))"  # PR_GET_SECCOMP: 2 is a filter
    for kind in usable():
        assert execute.run_program(kind, [[program]], "", Limits()).output == b"2\n"


def test_verdicts_do_not_depend_on_the_hash_seed():
    program = "print(list({'a', 'b', 'c', 'd', 'e', 'f'}), hash('x'))"
    for kind in usable():
        runs = {execute.run_program(kind, [[program]], "", Limits()).output for _ in range(3)}
        assert len(runs) == 1


AS_OTHER = """
import os
from potstill.records import Problem
from potstill.verifiers.code import sandbox, verifier
problem = Problem(id="p", question="?", kind="code", tests=("assert f(1) == 1",))
programs = ["def f(x): return x", "import os\\ndef f(x): return os.fork()", "import os\\ndef f(x): return os.getuid() or 1"]
for kind in sandbox.KINDS:
    why = sandbox.sandbox_obstacle(kind)
    reasons = [v.reason.split(":")[0] for v in verifier.judge_all([(problem, p) for p in programs], kind=kind)] if not why else []
    print(os.getuid(), kind, why or " ".join(reasons), sep="|")
"""  # fmt: skip  # noqa: E501


@pytest.mark.slow
def test_it_works_without_being_root():
    """The user is another one, where we are root and an interpreter can be read by all."""
    if os.getuid() != 0:
        pytest.skip("every other test of this file runs without being root already")
    root = str(Path(sandbox.__file__).resolve().parents[3])
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            done = child.run(
                [python, "-B", "-c", f"import sys; assert sys.version_info >= (3, 11)\n{AS_OTHER}"],
                user=65534, group=65534, extra_groups=[], env={"PATH": os.environ["PATH"], "PYTHONPATH": root},
                check=False, cwd="/",
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            break
    else:
        pytest.skip("no interpreter and package that another user may read")
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["65534", kind] for kind in sandbox.KINDS]
    worked = [line[2] for line in lines if line[2].startswith("pass")]
    if not worked:
        pytest.skip(f"another user may make no namespaces here: {lines}")
    assert set(worked) == {"pass runtime wrong"}
