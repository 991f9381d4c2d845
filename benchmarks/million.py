"""What a million rows of 2 KB cost: import, verify, near-duplicates, decontaminate, export; beside datatrove.

python benchmarks/million.py /tmp/million --rows 10000 100000 --datatrove /tmp/datatrove/bin/python

Rows are made by a fixed seed: prose of invented words around a sum, 10 % wrong answers, 10 % copies of an earlier row
with 1 to 40 words changed. For each size both tools run one after the other, in as many processes, over the same files;
CPU time and the peak of memory (PSS) are those of all their processes, looked at twice a second.
The folder needs about eight times the rows' bytes; what was made is deleted at the end.

datatrove (any environment with `datatrove[processing]`) does the same work in `benchmarks/million_datatrove.py`: a
filter that compares the last number with the gold answer, its MinHash with as many bands and rows, its n-gram
decontamination. It compares no pair word by word, and its words are split at white space, faster than by its tokenizer.
"""

from __future__ import annotations

import argparse
import glob
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILE_ROWS = 25_000
QUESTION_WORDS, ANSWER_WORDS = 60, 260
COPIES_FROM = 5000  # earlier rows that a copy may be of
EVALUATION_ROWS = 500  # of the rows' questions are evaluation problems


def main() -> None:
    """Make the rows of each size, run both tools, print a table and the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--datatrove", default="", help="the Python of an environment with datatrove"
    )
    parser.add_argument("--most-datatrove-rows", type=int, default=10**9)
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    args = parser.parse_args()
    obstacle = datatrove_obstacle(args.datatrove)
    if obstacle:
        print(f"datatrove is left out: {obstacle}")
    figures: list[dict[str, Any]] = []
    for rows in args.rows:
        folder = args.folder / str(rows)
        make_rows(folder, rows)
        figures.append({"tool": "potstill", "rows": rows, **run_potstill(folder, args.processes)})
        if not obstacle and rows <= args.most_datatrove_rows:
            command = [args.datatrove, str(HERE / "million_datatrove.py"), str(folder)]
            command.append(str(args.processes))
            figures.append(
                {"tool": "datatrove", "rows": rows, **measure(command, folder / "datatrove")}
            )
        shutil.rmtree(folder)
        print_table(figures)
        if args.out:
            args.out.write_text(json.dumps(figures, indent=1) + "\n")


def datatrove_obstacle(python: str) -> str:
    """Why datatrove can't run; "" where it can."""
    if not python:
        return "no --datatrove PYTHON is given"
    words = [python, "-c", "import datatrove.pipeline.dedup, orjson"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode:
        return f"{python} can't import it: {found.stderr.strip().splitlines()[-1]}"
    return ""


# Rows


def make_rows(folder: Path, count: int) -> None:
    """Write `rows-00000.jsonl`, … and `evaluation.jsonl` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    vocabulary = invent_words(rng, 20_000)
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(vocabulary))))
    stream = rng.choices(vocabulary, cum_weights=weights, k=2_000_000)

    def prose(words: int) -> list[str]:
        """Words as they follow one another in the stream, each seventh another one, so that no two are alike."""
        start = rng.randrange(len(stream) - words)
        text = stream[start : start + words]
        for place in range(0, words, 7):
            text[place] = rng.choice(vocabulary)
        return text

    earlier: list[dict[str, str]] = []
    evaluation = (folder / "evaluation.jsonl").open("w")
    for number in range(count):
        if number % FILE_ROWS == 0:
            file = (folder / f"rows-{number // FILE_ROWS:05}.jsonl").open("w")
        if earlier and rng.random() < 0.1:
            row = dict(rng.choice(earlier))
            words = row["response"].split(" ")
            for _ in range(rng.randint(1, 40)):
                words[rng.randrange(ANSWER_WORDS)] = rng.choice(vocabulary)
            row["response"] = " ".join(words)
        else:
            first, second = rng.randint(10, 9999), rng.randint(10, 9999)
            answer = first + second if rng.random() < 0.9 else first - second
            question = f"{' '.join(prose(QUESTION_WORDS))}. What is {first} + {second}?"
            response = f"{' '.join(prose(ANSWER_WORDS))}. So the answer is {answer}."
            row = {"question": question, "response": response, "gold": str(first + second)}
            if len(earlier) < COPIES_FROM:
                earlier.append(row)
            else:
                earlier[rng.randrange(COPIES_FROM)] = row
            if number % max(1, count // EVALUATION_ROWS) == 0:
                problem = {"question": question, "answer": row["gold"]}
                evaluation.write(json.dumps(problem) + "\n")
        file.write(json.dumps(row) + "\n")
        if number % FILE_ROWS == FILE_ROWS - 1:
            file.close()
    file.close()
    evaluation.close()


def invent_words(rng: random.Random, count: int) -> list[str]:
    """Words of one to four syllables."""
    words: list[str] = []
    for _ in range(count):
        syllables = [
            rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))
        ]
        words.append("".join(syllables))
    return words


# Runs


def run_potstill(folder: Path, processes: int) -> dict[str, Any]:
    """The command over the files of a folder, and what its report says of the steps."""
    out = folder / "potstill"
    words = [sys.executable, "-m", "potstill", "curate", str(folder / "rows-*.jsonl")]
    words += ["--verify", "--keep", "right", "--near-duplicates", "0.8"]
    words += ["--decontaminate", str(folder / "evaluation.jsonl"), "--format", "messages"]
    words += ["--out", str(out), "--processes", str(processes), "--json"]
    figures = measure(words, out)
    report = json.loads((out / "curation.json").read_text())
    figures["steps"] = {line["step"]: line["went"] for line in report["steps"]}
    return figures


def measure(command: list[str], out: Path) -> dict[str, Any]:
    """Run a command to its end: wall and CPU time in seconds, peak memory in MB, and the rows that it wrote."""
    began = time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=HERE.parent
        )
        sampler = ProcessSampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
    sampler.stop()
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    rows = 0
    for name in glob.glob(str(out / "*.jsonl")):
        if Path(name).name != "dropped.jsonl":
            with open(name, "rb") as file:
                rows += sum(1 for _ in file)
    return {
        "wall_s": round(time.perf_counter() - began, 1),
        # Workers that nobody waited for are in no usage: what was seen of them counts.
        "cpu_s": round(max(usage.ru_utime + usage.ru_stime, sum(sampler.cpu_s.values())), 1),
        "peak_mb": round(sampler.peak_bytes / 1e6),
        "rows_out": rows,
    }


class ProcessSampler(threading.Thread):
    """Looks at the memory and the CPU time of a process and its descendants twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.cpu_s: dict[int, float] = {}
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._ended.wait(0.5):
            pids = descendants(self._pid)
            self.peak_bytes = max(self.peak_bytes, sum(map(pss_bytes, pids)))
            for pid in pids:
                self.cpu_s[pid] = max(self.cpu_s.get(pid, 0.0), cpu_seconds(pid))

    def stop(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def descendants(pid: int) -> list[int]:
    """A process, its children and theirs."""
    found = [pid]
    for parent in found:
        for file in glob.glob(f"/proc/{parent}/task/*/children"):
            try:
                found += map(int, Path(file).read_text().split())
            except OSError:
                continue  # it has ended meanwhile
    return found


def pss_bytes(pid: int) -> int:
    """The memory of a process, what it shares counted in parts; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_table(figures: list[dict[str, Any]]) -> None:
    """All that was measured so far, as a table of Markdown."""
    print("\n| rows | tool | minutes | CPU minutes | CPU ms a row | peak MB | rows out |")
    print("|---|---|---|---|---|---|---|")
    for line in figures:
        per_row = 1000 * line["cpu_s"] / line["rows"]
        print(
            f"| {line['rows']:,} | {line['tool']} | {line['wall_s'] / 60:.1f} | {line['cpu_s'] / 60:.1f} "
            f"| {per_row:.2f} | {line['peak_mb']:,} | {line['rows_out']:,} |"
        )
    for line in figures:
        if "steps" in line:
            print(f"{line['rows']:,} rows, went at each step: {line['steps']}")


if __name__ == "__main__":
    main()
