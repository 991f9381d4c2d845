"""What the engine does on a GPU: sampling, training, FSDP2, resuming, too little memory, on-policy; a table at the end.

    benchmarks/gpu.sh [--device cuda|cpu] [--tiny] [--only sampling,full] [--json]

Each section runs in a process of its own with a time limit; one that fails is told in the table with its reason, and
the others go on. The models are one of random weights in the shape of Qwen3-0.6B, built here, and the built-in ones: no
network. Without a GPU it ends well with the reason. `--device cpu --tiny` exercises every section on a CPU, at sizes
that say nothing about speed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_sections import CHILDREN, FULL, SECTIONS, TINY, Line, Place, child_command, last_line

WHOLE_SECONDS = 460.0  # of all sections together
SECTION_SECONDS = 110.0  # of one at most


def main() -> None:
    """Run the sections, each in its process, and print the table."""
    args = arguments()
    if args.section:
        place = Place(args.device, TINY if args.tiny else FULL, args.folder)
        lines = {**SECTIONS, **CHILDREN}[args.section](place)
        print(json.dumps([dataclasses.asdict(one) for one in lines]))
        return
    reason = why_not(args.device)
    if reason:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Place(args.device, TINY if args.tiny else FULL, Path(folder))
        table = measure(place, args.only or list(SECTIONS))
    if args.json:
        print(
            json.dumps(
                {name: [dataclasses.asdict(one) for one in lines] for name, lines in table.items()}
            )
        )
        return
    print_table(table)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Potstill on a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in moments")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help="sections, with commas between"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.only or ()) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return args


def why_not(device: str) -> str:
    """Why nothing can be measured here; "" where it can."""
    try:
        import torch
    except ImportError:
        return "torch is not installed (pip install 'potstill[local]')"
    if device == "cpu":
        return ""
    if not torch.cuda.is_available():
        return "torch sees no GPU (--device cpu --tiny exercises the script on a CPU)"
    if not torch.cuda.is_bf16_supported():
        return f"{torch.cuda.get_device_name()} has no bf16"
    return ""


def measure(place: Place, names: list[str]) -> dict[str, list[Line]]:
    """The lines of each section; what fails, hangs or is left without time says so."""
    deadline = time.monotonic() + WHOLE_SECONDS
    table: dict[str, list[Line]] = {}
    for name in ["model", *(name for name in SECTIONS if name in names)]:
        began = time.monotonic()
        seconds_left = min(SECTION_SECONDS, deadline - began)
        print(f"{name} …", file=sys.stderr, flush=True)
        lines = run_section(place, name, seconds_left)
        if lines:
            seconds = time.monotonic() - began
            note = (
                f"{lines[0].note}; {seconds:.0f} s in all"
                if lines[0].note
                else f"{seconds:.0f} s in all"
            )
            table[name] = [dataclasses.replace(lines[0], note=note), *lines[1:]]
    return table


def run_section(place: Place, name: str, seconds: float) -> list[Line]:
    """One section in its process."""
    if seconds <= 0:
        return [Line("not measured", "skipped", note=f"no time left of {WHOLE_SECONDS:.0f} s")]
    environment = dict(os.environ)
    if place.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    # A session of its own: whatever it has started ends with it.
    process = subprocess.Popen(
        child_command(place, name),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return [Line("not measured", "failed", note=f"no end after {seconds:.0f} s")]
    finally:
        end_session(process)
    if process.returncode:
        return [Line("not measured", "failed", note=last_line(errors))]
    return [Line(**values) for values in json.loads(output.splitlines()[-1])]


def end_session(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a section and of its children."""
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def print_table(table: dict[str, list[Line]]) -> None:
    """The table as Markdown, for docs/LOG.md."""
    print("| section | what | value | peak memory | share of the peak | note |")
    print("|---|---|---|---|---|---|")
    for name, lines in table.items():
        for one in lines:
            cells = (name, one.what, one.value, one.memory, one.share, one.note)
            print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")


if __name__ == "__main__":
    main()
