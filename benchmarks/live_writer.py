"""A run that goes on for half a minute in the folder of `large_run.py`, for what a viewer beside it costs.

python benchmarks/live_writer.py FOLDER

It writes an arm named `live` at a steady rate, as an unfinished run does, and is idle between two writes.
"""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from large_run import DRAWS, STUDENT, judge_trace, make_problems, store_calls, write_trace

from potstill.evaluation import results
from potstill.records import blank
from potstill.runs.folder_layout import RESULTS_FILE, UNFINISHED_FILE
from potstill.store import Store

LIVE_SECONDS = 30
PROBLEMS_PER_SECOND = (
    4  # of which each has its draws, in a transaction for the calls and one for the traces
)
ARM = "live"


class Writer:
    """The script as a process of its own.

    Args:
        folder: the run.
    """

    def __init__(self, folder: Path) -> None:
        self.cpu_seconds = 0.0
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        """Until it has ended; then `cpu_seconds` is what its writing took of a core."""
        output, _ = self._process.communicate(timeout=LIVE_SECONDS + 570)
        assert self._process.returncode == 0, output
        self.cpu_seconds = float(json.loads(output))


def main() -> None:
    """Write for a while, then say how much CPU time that took."""
    folder = Path(sys.argv[1])
    finished = results.load(folder / RESULTS_FILE)
    running = dataclasses.replace(finished, ending=results.Ending("running"))
    rng = random.Random(1)
    with Store.open(folder) as store:
        results.save(running, folder / UNFINISHED_FILE)
        ledger = store.ledger(ARM)
        used = time.process_time()
        problems = make_problems(ARM, LIVE_SECONDS * PROBLEMS_PER_SECOND)
        # New calls at every run of this script: an equal one would replace the call that is there.
        first_index = int(time.time()) * DRAWS
        began = time.monotonic()
        for number, problem in enumerate(problems):
            time.sleep(max(0.0, began + number / PROBLEMS_PER_SECOND - time.monotonic()))
            traces = []
            for index in range(first_index, first_index + DRAWS):
                traces.append(judge_trace(write_trace(problem, STUDENT, index, 2200, rng), rng))
            store_calls(store, ARM, traces)
            ledger.add_traces([blank(problem), *traces])
        print(json.dumps(time.process_time() - used))
        ledger.finish()
    (folder / UNFINISHED_FILE).unlink()


if __name__ == "__main__":
    main()
