"""Money against a server that counts: what it bills never exceeds the budget, and nothing is paid for twice."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import child
import openai_server
import pytest
from openai_server import serving

from potstill.cli import main
from potstill.store import Store

PRICES = {
    "test-model": {"prompt": 1000.0, "completion": 3000.0}
}  # a tenth of a cent a token, so that little is much

PROBLEMS = 16
CALLS = 2 * PROBLEMS


@pytest.fixture
def bills(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the server bills for each answer that it counts."""
    found: list[float] = []
    plain = openai_server._usage

    def usage(*args):
        made = plain(*args)
        price = PRICES["test-model"]
        found.append(
            (
                made["prompt_tokens"] * price["prompt"]
                + made["completion_tokens"] * price["completion"]
            )
            / 1e6
        )
        return made

    monkeypatch.setattr(openai_server, "_usage", usage)
    return found


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`potstill run sft` on problems that any answer solves, without the server."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint

    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny", positions=128)
    rows = [{"question": f"Say something about {i}.", "answer": "(?s).*"} for i in range(PROBLEMS)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("prices.json").write_text(json.dumps(PRICES))
    told = "run sft --problems train.jsonl --kind regex --student transformers:tiny --set n=2 --set max_new_tokens=40"
    told += (
        " --set training.max_steps=1 --threads 1 --quiet --prices prices.json --prompt {question}"
    )
    return told.split()


def teacher(url: str) -> list[str]:
    return ["--teacher", f"openai:test-model?url={url}&concurrency=8"]


def run(*words: str) -> int:
    return main(list(words))


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"fail": {"429": 0.2, "drop": 0.1, "empty": 0.1}},
    ],
)
def test_the_server_never_bills_more_than_the_budget_and_nothing_twice(
    words, bills, faults, capsys
):
    with serving(latency=0.005, words=6, **faults) as server:
        money, rounds = 0.9, 0
        out = ["--out", "part"]
        while run(*words, *teacher(server.url), *out, "--budget", f"teacher={money}usd") == 2:
            said = capsys.readouterr().err
            assert "the budget of the teacher is spent" in said
            assert f"of {money:g} USD" in said
            assert sum(bills) <= money + 1e-9
            with Store.open(Path("part"), readonly=True) as store:
                assert store.attempts.spent_by_role()["teacher"].cost <= money + 1e-9
                stored = sum(1 for _ in store.completions.iterate())
                # Left open are only calls whose failed try may have been billed, and which had no money for another.
                assert faults or not store.attempts.open_intents()
            assert f"sft/teacher: {stored} of {CALLS}" in said
            assert shlex.split(said.split("to go on: ")[1])[-2] == "--budget"
            money, rounds = money + 0.9, rounds + 1
            assert rounds < 60
        assert rounds >= 1, "the budget was never reached: the test says nothing"
        assert sum(bills) <= money
        with Store.open(Path("part"), readonly=True) as store:
            spent = store.attempts.spent_by_role()["teacher"].cost
            completed = sum(1 for stored in store.completions.iterate() if stored.role == "teacher")
        assert completed == CALLS
        assert (
            spent >= sum(bills) - 1e-9
        )  # what nobody can know is counted at its worst, never forgotten
        if not faults:
            assert spent == pytest.approx(sum(bills))
            assert sorted(server.served.values()) == [1] * CALLS
        before = len(bills)
        assert (
            run(*words, *teacher(server.url), *out) == 0
        )  # a finished run asks nothing, whatever its budget
        assert len(bills) == before


@pytest.mark.slow
def test_another_port_is_the_same_run(words, bills):
    with serving(words=6) as server:
        assert run(*words, *teacher(server.url)) == 0
    asked = len(bills)
    with serving(words=6) as server:
        assert (
            run(*words, "--teacher", f"openai:test-model?url={server.url}&concurrency=3&timeout=9")
            == 0
        )
    assert len(bills) == asked == CALLS


@pytest.mark.slow
def test_money_in_the_outcome(words, bills, capsys):
    with serving(words=6) as server:
        assert run(*words, *teacher(server.url), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["costs"]["sft"]["teacher"]["cost"] == pytest.approx(sum(bills))
    assert "money" in Path("runs/sft/report.html").read_text()


def test_money_needs_a_price(words, capsys):
    away = [
        *words[: words.index("--prices")],
        *words[words.index("--prices") + 2 :],
        "--budget",
        "1usd",
    ]
    assert run(*away, "--teacher", "openai:no-such-model?url=http://example.invalid/v1") == 2
    said = capsys.readouterr().err
    assert "the price of the model 'no-such-model' is not known" in said
    assert "--prices" in said


# A teacher asked through store and budget, without a student: a process that is up in half a second.
ASKING = """
import json, sys
from pathlib import Path
from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.budget.prices import load_custom_prices
from potstill.models import load
from potstill.models.model import Request, Sampling
from potstill.store import Store, with_cache

spec, folder, limit = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
sampling = Sampling(max_new_tokens=40)
requests = [Request(f"Say something about {i}.", "", sampling, draw) for i in range(40) for draw in range(6)]
with Store.open(folder) as store:
    limits, prices = {"": Limit(money=limit)}, load_custom_prices("prices.json")
    budget = Budget.from_call_log(store.attempts, limits, prices)
    with_cache(load(spec), store, role="teacher", arm="sft", seed=0, budget=budget).write(requests)
"""


@pytest.mark.slow
def test_a_killed_run_forgets_nothing_that_was_billed(
    bills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Kill -9 in the middle of calls, again and again: what the folder counts as spent is never below the bill."""
    monkeypatch.chdir(tmp_path)
    Path("prices.json").write_text(json.dumps(PRICES))
    money, kills = 30.0, 0
    with serving(latency=0.03, words=6) as server:
        command = [sys.executable, "-c", ASKING, teacher(server.url)[1], "part", money]
        for wanted in (20, 70, 130, 10**9):
            with child.started(command, stderr=subprocess.PIPE) as running:
                while running.poll() is None and len(bills) < wanted:
                    time.sleep(0.002)
                if wanted < 10**9 and running.poll() is None:
                    running.kill()
                    kills += 1
                _, err = running.communicate()
            time.sleep(0.3)  # the server bills what had reached it
            with Store.open(Path("part"), readonly=True) as store:
                spent = sum(paid.cost for paid in store.attempts.spent_by_role().values())
                open_count = len(store.attempts.open_intents())
            assert sum(bills) <= spent + 1e-9 <= money + 2e-9
            assert open_count <= 24  # under way, or landed a moment ago and not yet committed
        assert running.returncode == 0, err
        assert kills == 3
        assert sum(server.served.values()) <= 240 + 3 * 24
        assert len(server.served) == 240
