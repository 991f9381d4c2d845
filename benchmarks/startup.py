"""Start-up time of `potstill --help`, and whether it imports anything heavy.

python benchmarks/startup.py [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

RUNS, LIMIT = 5, 0.4
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "aiohttp", "asyncio", "sqlite3")
START = "import sys; sys.argv = ['potstill', '--help']; from potstill.cli import main; main()"
PROBE = f"""
import contextlib, io, json, sys
sys.argv = ["potstill", "--help"]
from potstill.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def run(program: str) -> str:
    """What a fresh interpreter prints for the program."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"potstill --help failed:\n{done.stderr}")
    return done.stdout


def seconds() -> float:
    """Wall time of one start, the interpreter's included."""
    began = time.perf_counter()
    run(START)
    return time.perf_counter() - began


def imported() -> list[str]:
    """Which heavy packages the help imports."""
    return list(json.loads(run(PROBE).strip().split("\n")[-1]))


def main() -> None:
    """Measure and print; exit code 1 when too slow or something heavy came in."""
    parser = argparse.ArgumentParser(description="start-up time of potstill --help")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    heavy = imported()
    best = min(seconds() for _ in range(RUNS))
    result = {
        "seconds": round(best, 3),
        "runs": RUNS,
        "limit": LIMIT,
        "imported": heavy,
        "torch": "torch" in heavy,
    }
    if given.json:
        print(json.dumps(result))
    else:
        came = ", ".join(heavy) or "none"
        print(
            f"potstill --help: {best:.3f} s (best of {RUNS}, limit {LIMIT}), heavy imports: {came}"
        )
    sys.exit(1 if best > LIMIT or heavy else 0)


if __name__ == "__main__":
    main()
