"""How fast a finished run was, from its own folder; and how well `plan --scale` foretold runs that were measured."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.models.phase import split_account
from potstill.runs import manifest
from potstill.runs.estimate import Need, Plan
from potstill.runs.results import collect_trainings
from potstill.runs.scale import TRAIN, VERIFY, Cluster, Engine
from potstill.runs.stand_in import Assumptions
from potstill.store.store import Store

LOG_FILE = "run.log"
MEASUREMENTS_FILE = Path(__file__).with_name("scale_measurements.json")

# What may differ between a run and a larger one of the same recipe.
_SIZE_SETTINGS = ("problems", "limit", "seed", "threads", "evaluate", "overlap")
_LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (.*)")
_RUN_BEGINS = re.compile(r"(?:\d[\d,]* arms: |arm ).*; [\d,]+ problems")
_STEP = re.compile(r"  [\d,]+ → [\d,]+|: avg@|: train  ")
_VERIFIED = re.compile(r": verify \S+  ([\d,]+) → ")


class LogTimes(NamedTuple):
    """What a run's log says of its time, in seconds.

    Args:
        total: from its beginning to its end; of a run that was stopped and taken up, of all its parts.
        start: until the first step.
        verifying: of steps that verify.
        verified: answers in these steps.
    """

    total: float
    start: float
    verifying: float
    verified: int


class AccountTotals(NamedTuple):
    """What an account had written: calls, and tokens of their prompts and completions."""

    calls: int
    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What a run has shown.

    Args:
        folder: of the run.
        cluster: its engines, each of one replica: this machine.
        assumptions: by role, what models did: length of completions, share of right ones.
        problems: that it trained on.
        accounts: by role and phase, all that was written.
        training_tokens: that went through its students, by arm or stage.
        settings: that decided its results.
        seconds: that it took.
    """

    folder: Path
    cluster: Cluster
    assumptions: Mapping[str, Assumptions]
    problems: int
    accounts: Mapping[str, AccountTotals]
    training_tokens: Mapping[str, float]
    settings: Mapping[str, Any]
    seconds: float


def measure_run(folder: Path, assume: Mapping[str, Assumptions]) -> MeasuredRun:
    """Read speeds and lengths from a run's store and log.

    Args:
        folder: of a run that came to its end in one go or in several.
        assume: what is assumed where the run says nothing.
    """
    times = read_log_times(folder / LOG_FILE)
    engines: dict[str, Engine] = {}
    assumptions = dict(assume)
    with Store.open(folder, create=False, readonly=True) as store:
        # One row an account: how much it wrote, and how long the models worked on it.
        rows = store.database.read(
            "SELECT role, count(*), sum(prompt_tokens), sum(completion_tokens), sum(length(text)), sum(seconds) "
            "FROM completions WHERE error = '' AND completion_tokens > 0 GROUP BY role",
            (),
        )
        rights = _right_shares(store)
        [[problems]] = store.database.read(
            "SELECT coalesce(max(returned), 0) FROM steps WHERE operator = 'problems'", ()
        )
        training_tokens = _tokens_by_training(store)
        trained_tokens = trained_seconds = 0.0
        for student in store.students.all():
            trained_tokens += student.report.get("tokens", 0)
            trained_seconds += student.report.get("seconds", 0.0)
    # Speeds and lengths by account; what a flag assumed stays.
    accounts: dict[str, AccountTotals] = {}
    calls = 0
    written_seconds = 0.0
    for account, count, prompt, tokens, chars, seconds in rows:
        accounts[account] = AccountTotals(count, prompt, tokens)
        calls += count
        written_seconds += seconds
        if seconds > 0:
            engines[account] = Engine(tokens_per_second=tokens / seconds)
        if account in assume:
            continue  # the user has said it
        general = assume[""]
        right, unparsed = rights.get(account, (general.right, general.unparsed))
        assumptions[account] = Assumptions(
            right=right, unparsed=unparsed, chars=chars / tokens, completion=tokens / count
        )
    if trained_seconds:
        engines[TRAIN] = Engine(tokens_per_second=trained_tokens / trained_seconds)
    # The log counts whole seconds: a few of them are no rate.
    verifying_seconds = 0.0
    if times.verified and times.verifying >= 5.0:
        verifying_seconds = times.verifying
        engines[VERIFY] = Engine(rows_per_second=times.verified / times.verifying)
    # What is left of the run's time is the driver's: storing, judging, choosing, rendering.
    working_seconds = times.start + written_seconds + trained_seconds + verifying_seconds
    driver_seconds = max(0.0, times.total - working_seconds)
    cluster = Cluster(
        engines,
        seconds_per_call=driver_seconds / calls if calls else 0.0,
        start_seconds=times.start,
    )
    return MeasuredRun(
        folder=folder,
        cluster=cluster,
        assumptions=assumptions,
        problems=problems,
        accounts=accounts,
        training_tokens=training_tokens,
        settings=manifest.read(folder).settings,
        seconds=times.total,
    )


def extrapolate(plan: Plan, measured: MeasuredRun, settings: Mapping[str, Any]) -> tuple[Plan, str]:
    """The plan with the calls and rows a problem of a measured run of the same recipe, and a sentence that says so.

    Where the recipes differ in more than their problems and evaluation, the plan stays as it is: its stand-ins were
    driven with the lengths and shares that the run has shown.

    Args:
        plan: of the larger run.
        measured: the smaller one.
        settings: that decide the results of the larger one.
    """
    name = measured.folder.name
    # Another number of problems is the point; another method, prompt or model is not.
    differences = []
    for line in manifest.list_differences(dict(measured.settings), dict(settings)):
        if not line.startswith(_SIZE_SETTINGS):
            differences.append(line)
    if differences or not measured.problems:
        return plan, (
            f"speeds, lengths and shares of right answers are those of {name}, which is of another recipe "
            f"({'; '.join(differences[:3]) or 'without problems'}): calls and rows are those of stand-ins"
        )
    factor = plan.problems / measured.problems
    needs: list[Need] = []
    for need in plan.needs:
        totals = measured.accounts.get(need.role)
        _, phase = split_account(need.role)
        # How much is measured does not grow with the problems that are trained on.
        if totals is None or phase == "evaluation" or not need.completion:
            needs.append(need)
            continue
        prompt, completion = round(totals.prompt * factor), round(totals.completion * factor)
        money = need.money
        if money:
            money *= (prompt + completion) / (need.prompt + need.completion)
        calls = round(totals.calls * factor)
        needs.append(need._replace(calls=calls, prompt=prompt, completion=completion, money=money))
    # Rows grow with the problems, whatever filters and duplicates leave of them.
    training_tokens = dict(plan.training_tokens)
    for title in training_tokens:
        if title in measured.training_tokens:
            training_tokens[title] = measured.training_tokens[title] * factor
    sentence = (
        f"scale: speeds, and calls and rows a problem, are those of {name} ({measured.problems:,} problems), "
        f"times {factor:.4g}"
    )
    return dataclasses.replace(plan, needs=needs, training_tokens=training_tokens), sentence


def read_log_times(file: Path) -> LogTimes:
    """The times of a run by the lines of its log, each of which stands at the end of what it tells of."""
    if not file.is_file():
        raise InputError(
            f"there is no {file}",
            expected="the folder of a run that potstill run has made",
            fix="--scale-from RUN",
        )
    total = start = verifying = 0.0
    verified = steps = 0
    last_time: datetime | None = None
    for line in file.read_text("utf-8").splitlines():
        match = _LOG_LINE.fullmatch(line)
        if match is None:
            continue
        time, text = datetime.fromisoformat(match[1]), match[2]
        # What lies before the first line of a run is a pause.
        is_pause = last_time is None or _RUN_BEGINS.match(text) is not None
        seconds = 0.0
        if last_time is not None and not is_pause:
            seconds = (time - last_time).total_seconds()
        last_time = time
        total += seconds
        if _STEP.search(text):
            steps += 1
        elif not steps:
            start += seconds
        verify_match = _VERIFIED.search(text)
        if verify_match:
            verifying += seconds
            verified += int(verify_match[1].replace(",", ""))
    return LogTimes(total, start, verifying, verified)


def _tokens_by_training(store: Store) -> dict[str, float]:
    """By arm, or by arm and stage, the tokens that went through the student."""
    tokens: dict[str, float] = {}
    for arm in store.history.arms():
        for title, report in collect_trainings(store, arm).items():
            count = report.get("tokens")
            if isinstance(count, int | float):
                tokens[title] = float(count)
    return tokens


def _right_shares(store: Store) -> dict[str, tuple[float, float]]:
    """By role, the shares of right and of unreadable answers among those that were judged."""
    # A trace names its author's model; a model may play several roles.
    roles_of_model: dict[str, set[str]] = {}
    for role, model in store.database.read("SELECT DISTINCT role, model FROM completions", ()):
        roles_of_model.setdefault(model, set()).add(role)
    statuses: dict[str, Counter[str]] = {}
    for arm in store.history.arms():
        for trace in store.history.traces(arm):
            if trace.author is None or trace.verdict.status == "unjudged":
                continue
            for role in roles_of_model.get(trace.author.model, ()):
                statuses.setdefault(role, Counter())[trace.verdict.status] += 1
    shares = {}
    for role, counts in statuses.items():
        total = counts.total()
        shares[role] = counts["right"] / total, counts["unparsed"] / total
    return shares


class Measurement(NamedTuple):
    """A run whose time was foretold from a smaller one, and then measured.

    Args:
        name: of the run.
        recipe: in words.
        problems: of the run, and of the smaller one.
        small_problems: of the smaller one, whose speeds were taken.
        planned_seconds: by `plan --scale`.
        measured_seconds: by the run's log.
        busy_share: of the time in which the process computed; the rest the machine gave to others.
    """

    name: str
    recipe: str
    problems: int
    small_problems: int
    planned_seconds: float
    measured_seconds: float
    busy_share: float

    @property
    def error(self) -> float:
        """The planned time over the measured one, less 1."""
        return self.planned_seconds / self.measured_seconds - 1


class Measurements(NamedTuple):
    """What `benchmarks/scale.py` has measured."""

    command: str
    date: str
    machine: str
    runs: Sequence[Measurement]

    def error_sentence(self) -> str:
        """How far the plans were from the runs."""
        errors = ", ".join(f"{run.error:+.0%}" for run in self.runs)
        problems = ", ".join(f"{run.problems:,}" for run in self.runs)
        return (
            f"this model of the time was off by {errors} on {len(self.runs)} measured runs of {problems} problems on "
            f"one replica ({self.machine}, {self.date}; {self.command}); several replicas and GPUs were not measured"
        )


@cache
def load_measurements() -> Measurements | None:
    """The measurements that came with this version; None where there are none."""
    if not MEASUREMENTS_FILE.is_file():
        return None
    content: dict[str, Any] = json.loads(MEASUREMENTS_FILE.read_text("utf-8"))
    runs = [Measurement(**run) for run in content["runs"]]
    return Measurements(content["command"], content["date"], content["machine"], runs)
