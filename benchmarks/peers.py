"""What the benchmarks share: versions of the peers, a process each for what is compared, and CPU time.

The machines that these run on are busy with other work, so ratios are of CPU time (user and system of the process, all
its threads) of runs that take turns; the clock's seconds stand beside them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PEERS = ("torch", "transformers", "trl", "liger-kernel", "accelerate", "aiohttp", "math-verify")
MIB = 2**20


def versions(*names: str) -> str:
    """The versions of the named packages, or of all peers, that are installed here."""
    told = []
    for name in names or PEERS:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            told.append(f"{name} not installed")
    return ", ".join(told)


@dataclass
class Timer:
    """Seconds of the clock and of the CPU between `with` and its end."""

    seconds: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Timer:
        self._clock, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._clock
        self.cpu += time.process_time() - self._cpu


def run_alone(script: str, arguments: list[str]) -> dict[str, Any]:
    """The JSON object in the last line of what a benchmark prints, run in a process of its own."""
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def resident_mib() -> float:
    """This process's memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def highest_mib() -> float:
    """This process's memory at its highest, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def product_rate(device: str = "cpu", dtype: Any = None, *, side: int = 0) -> float:
    """The rate of a large square matrix product in FLOP/s: the best of three after a first one.

    On a CPU the rate is that of CPU time over the threads that torch has, which other work disturbs less.

    Args:
        dtype: of torch; None is float32.
        side: of the matrices; 0 is 8,192 on a GPU, 2,048 on a CPU.
    """
    import torch

    on_gpu = device.startswith("cuda")
    side = side or (8192 if on_gpu else 2048)
    left, right = torch.randn(2, side, side, device=device, dtype=dtype or torch.float32)
    seconds = []
    for _ in range(4):
        with Timer() as timer:
            float((left @ right)[0, 0])  # a GPU is waited for
        seconds.append(timer.seconds if on_gpu else timer.cpu / torch.get_num_threads())
    return 2 * side**3 / min(seconds[1:])


def best(runs: list[dict[str, float]], *, highest: tuple[str, ...] = ()) -> dict[str, float]:
    """Key by key the smallest of several runs, or the largest of what is better the higher it is."""
    result = {}
    for key in runs[0]:
        choose: Callable[..., float] = max if key in highest else min
        result[key] = choose(run[key] for run in runs)
    return result


if __name__ == "__main__":
    print(versions())
