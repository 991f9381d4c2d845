"""Requests against a local OpenAI-compatible server: `openai:` with the store on, beside a bare aiohttp loop.

    python benchmarks/orchestration.py [--peer NAME=PYTHON ...] [--rounds 3] [--quick] [--json]

The server and each client are processes of their own; benchmarks/clients.py says what each client does. They take
turns, and the best of their rounds counts, as what else runs on the machine only ever slows. PYTHON is that of an
environment in which NAME (datatrove, curator, easydistill) is installed. CPU is the client's, in ms a request, all of
its threads. The exit code says whether, where latency binds, ours reaches 0.85 of the bare loop at 1 ms of CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fakes"))

from openai_server import process  # noqa: E402

OURS, BARE = "potstill", "bare"
RATIO, CPU = 0.85, 1.0
PATIENCE = 600  # seconds for one run of one client


class Setting(NamedTuple):
    """What the server does and how much is asked; `binds` is whether latency, not the processor, is the limit."""

    latency: float
    at_once: int
    count: int
    binds: bool


SETTINGS = (
    Setting(0.05, 64, 4096, True),
    Setting(0.05, 256, 8192, False),
    Setting(2.0, 256, 2560, True),
)


def once(name: str, python: str, url: str, setting: Setting) -> dict[str, Any]:
    """One run of one client: seconds, CPU seconds and rows, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        told = [
            str(ROOT / "benchmarks" / "clients.py"),
            name,
            url,
            str(setting.count),
            str(setting.at_once),
            folder,
        ]
        try:
            done = subprocess.run(
                [python, *told],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                check=False,
            )
        except OSError as error:
            return {"error": str(error)}
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {PATIENCE} s"}
    if done.returncode or not done.stdout.strip():
        return {"error": (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(runs: Sequence[dict[str, Any]], setting: Setting, bare: float) -> dict[str, Any]:
    """The fastest run: requests a second, share of the bare loop's, CPU ms a request."""
    good = [run for run in runs if "error" not in run and run["rows"] == setting.count]
    if not good:
        missing = [f"{run['rows']} of {setting.count} rows" for run in runs if "error" not in run]
        return {"error": (missing or [run["error"] for run in runs])[0]}
    rate = setting.count / min(run["seconds"] for run in good)
    cpu = 1000 * min(run["cpu"] for run in good) / setting.count
    return {
        "rate": round(rate, 1),
        "ratio": round(rate / (bare or rate), 3),
        "cpu_ms": round(cpu, 3),
    }


def measure(setting: Setting, clients: dict[str, str], rounds: int) -> dict[str, Any]:
    """Every client under one setting."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}
    with process("--latency", str(setting.latency)) as url:
        for turn in range(rounds):
            for name, python in clients.items():
                if turn == 0 or name in (
                    BARE,
                    "model",
                    OURS,
                ):  # the others are slow and far away: once
                    runs[name].append(once(name, python, url, setting))
    bare = best(runs[BARE], setting, 0.0).get("rate", 0.0)
    return {
        **setting._asdict(),
        "clients": {name: best(found, setting, bare) for name, found in runs.items()},
    }


def shown(result: dict[str, Any]) -> str:
    """A table of one setting."""
    lines = [
        f"{1000 * result['latency']:g} ms, {result['at_once']} at once, {result['count']} requests"
    ]
    lines.append(f"  {'':12}{'requests/s':>12}{'of bare':>9}{'CPU ms':>9}")
    for name, found in result["clients"].items():
        if "error" in found:
            lines.append(f"  {name:12}not measured: {found['error']}")
        else:
            lines.append(
                f"  {name:12}{found['rate']:>12,.0f}{found['ratio']:>9.3f}{found['cpu_ms']:>9.3f}"
            )
    return "\n".join(lines)


def missed(result: dict[str, Any]) -> bool:
    """Whether ours is below what it should reach."""
    ours = result["clients"][OURS]
    return result["binds"] and ("error" in ours or ours["ratio"] < RATIO or ours["cpu_ms"] > CPU)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter of the requests, one round")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in given.peer)
    clients = {BARE: sys.executable, "model": sys.executable, OURS: sys.executable, **peers}
    results = []
    for setting in SETTINGS:
        setting = (
            setting._replace(count=max(setting.count // 4, 3 * setting.at_once))
            if given.quick
            else setting
        )
        results.append(measure(setting, clients, 1 if given.quick else given.rounds))
        if not given.json:
            print(shown(results[-1]), flush=True)
    if given.json:
        print(json.dumps(results))
    sys.exit(any(map(missed, results)))


if __name__ == "__main__":
    main()
