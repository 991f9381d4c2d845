"""`plan --scale` beside what was measured: four runs foretold from smaller ones, then run.

python benchmarks/scale.py [--folder DIR] [--write]

For each case a small run is made, `potstill plan --scale-from SMALL` foretells a larger one of the same recipe (other
problems, five to six times as many), and the larger one is run. The time of both is that of their logs; the CPU time
beside it says how much of the machine the process had. --write stores the table where `plan --scale` reads its error
from.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from potstill.runs.scale_rates import LOG_FILE, MEASUREMENTS_FILE, Measurement, read_log_times

COMMAND = "python benchmarks/scale.py"


class Case(NamedTuple):
    """A recipe at two sizes."""

    name: str
    recipe: str
    method: str
    family: str
    teacher: str
    student: str
    small: int
    large: int
    settings: tuple[str, ...] = ()


CASES = (
    Case(
        "rft on stories", "several attempts, the right ones are trained on",
        "rft", "story", "world:teacher", "world:student", 40, 240,
    ),
    Case(
        "sft on stories", "a teacher's chains, eight epochs",
        "sft", "story", "world:teacher", "world:student", 60, 300, ("training.num_train_epochs=8",),
    ),
    Case(
        "orion on stories", "chains rewritten by the student over its own errors",
        "orion", "story", "world:teacher", "world:student", 20, 100,
    ),
    Case(
        "rft on walks", "several attempts, the right ones are trained on",
        "rft", "walk", "world:walk-teacher", "world:walk-student", 40, 240,
    ),
)  # fmt: skip


def command_of(case: Case, size: int, folder: Path, verb: str) -> list[str]:
    """A `potstill run` or `plan` of a case; both sizes are measured on the same test problems."""
    command = [sys.executable, "-m", "potstill", verb, case.method]
    command += ["--problems", f"world:{case.family}?split=train&size={size}"]
    command += ["--evaluate", f"world:{case.family}?split=test&size=60"]
    command += ["--teacher", case.teacher, "--student", case.student, "--threads", "1"]
    for setting in case.settings:
        command += ["--set", setting]
    return [*command, "--out", str(folder), "--quiet"]


def run_case(case: Case, size: int, folder: Path) -> tuple[float, float]:
    """Run a case; the seconds of its log, and the share of its time in which the process computed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command_of(case, size, folder, "run"), check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read_log_times(folder / LOG_FILE).total, cpu / seconds


def plan_case(case: Case, small_folder: Path, folder: Path) -> dict[str, Any]:
    """The larger run as `plan --scale-from` foretells it, before anything of it is run."""
    command = command_of(case, case.large, folder, "plan")
    command += ["--scale-from", str(small_folder), "--json"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    document: dict[str, Any] = json.loads(printed)
    return document


def measure_case(case: Case, folder: Path) -> Measurement:
    """Small run, plan, large run."""
    small, large = folder / f"{case.name}-small", folder / f"{case.name}-large"
    run_case(case, case.small, small)
    plan = plan_case(case, small, large)
    measured_seconds, busy_share = run_case(case, case.large, large)
    for part in plan["scale"]["parts"]:
        print(f"  {part['name']:<22} {part['seconds']:7.1f} s planned")
    return Measurement(
        name=case.name,
        recipe=case.recipe,
        problems=case.large,
        small_problems=case.small,
        planned_seconds=round(plan["scale"]["seconds"], 1),
        measured_seconds=measured_seconds,
        busy_share=round(busy_share, 2),
    )


def main() -> None:
    """Measure, print, and with --write store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the runs go (default: thrown away)")
    parser.add_argument("--machine", default=f"{platform.machine()}, one thread", help="in words")
    parser.add_argument("--write", action="store_true", help=f"write {MEASUREMENTS_FILE.name}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        runs = []
        for case in CASES:
            run = measure_case(case, folder)
            runs.append(run)
            print(
                f"{run.name}: {run.small_problems} -> {run.problems} problems, planned {run.planned_seconds:.0f} s, "
                f"measured {run.measured_seconds:.0f} s, {run.error:+.0%}, computing {run.busy_share:.0%} of the time",
                flush=True,
            )
    if args.write:
        content = {
            "command": COMMAND,
            "date": time.strftime("%Y-%m-%d"),
            "machine": args.machine,
            "runs": [run._asdict() for run in runs],
        }
        MEASUREMENTS_FILE.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
