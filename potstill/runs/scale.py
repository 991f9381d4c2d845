"""How long a planned run takes on given machines, what it costs, and what binds: `plan --scale`.

A run is a chain of parts: each role writes, answers are verified, students train, students are measured. A part of W
replica-seconds on n replicas takes

    t(n) = max(W / n, rate limit) + start

and the run takes the sum, since a method asks for one thing after the other. What n does not shorten (starts, rate
limits, the driver's own work) is Amdahl's serial part. Departure: replicas are taken to be full to the end of each
part; the tail in which a few long completions keep one replica busy is not in the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.files import read_yaml
from potstill.errors import ConfigError
from potstill.models.phase import COLLECTION, Phase, split_account

if TYPE_CHECKING:
    from potstill.runs.estimate import Plan

TRAIN, VERIFY, DRIVER, DISK = "train", "verify", "driver", "disk"
FACTORS = (1, 2, 4, 8, 16)  # times the replicas that were given, for which the time is shown
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What does one kind of work: the replicas of a model, devices that train, processes that verify.

    Args:
        replicas: that work at once.
        tokens_per_second: of one replica with full batches; written, or read by a training. 0 is not known.
        rows_per_second: that one process verifies; 0 is not known.
        usd_per_hour: of one replica.
        start_seconds: until it works: loading weights, waiting for a machine.
        requests_per_minute: that a server takes; 0 is no limit.
        tokens_per_minute: prompt and completion, that a server takes; 0 is no limit.
    """

    replicas: float = 1.0
    tokens_per_second: float = 0.0
    rows_per_second: float = 0.0
    usd_per_hour: float = 0.0
    start_seconds: float = 0.0
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no machine has."""
        values = dataclasses.asdict(self)
        if self.replicas <= 0 or min(values.values()) < 0:
            raise ConfigError(
                f"--scale: {values}", expected="replicas above 0, and no other value below 0"
            )


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a run would have.

    Args:
        engines: by role (`teacher`), by role and phase (`student/evaluation`), `train` and `verify`.
        seconds_per_call: that the driver works for a call while nothing else happens: storing, choosing.
        start_seconds: until the first call.
        disk_bytes: free for the run's folder; 0 is not asked.
    """

    engines: Mapping[str, Engine] = field(default_factory=dict)
    seconds_per_call: float = 0.0
    start_seconds: float = 0.0
    disk_bytes: float = 0.0

    def engine_of(self, account: str) -> Engine | None:
        """The engine of a role in a phase, or else of the role."""
        role, _ = split_account(account)
        return self.engines.get(account, self.engines.get(role))

    def with_replicas(self, factor: float) -> Cluster:
        """The same with so many times the replicas of everything."""
        engines = {}
        for name, engine in self.engines.items():
            engines[name] = dataclasses.replace(engine, replicas=engine.replicas * factor)
        return dataclasses.replace(self, engines=engines)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the run.

    Args:
        name: of the work, such as `teacher` or `verify`.
        kind: what binds here: generation, verification, training, rate limit or driver.
        seconds: that it takes.
        serial_seconds: of these, what more replicas do not shorten.
        replicas: that work.
        money: USD of the replicas, while they work here.
        tokens: written, or read by a training.
    """

    name: str
    kind: str
    seconds: float
    serial_seconds: float
    replicas: float = 0.0
    money: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class ScaledPlan:
    """A plan on a cluster.

    Args:
        parts: in the order in which they happen, without those whose speed is not known.
        seconds_by_factor: of the whole run with so many times the replicas.
        serial_seconds: what no number of replicas shortens.
        replica_money: USD of the replicas while each works.
        held_money: USD of the replicas if all are held from the start to the end.
        api_money: USD of calls that are paid by tokens; None where a price is not known.
        disk_bytes: that the run needs.
        unknown: a sentence for each part whose speed is not known.
        warnings: what stops the run, such as a disk that is too small.
    """

    parts: Sequence[Part]
    seconds_by_factor: Mapping[int, float]
    serial_seconds: float
    replica_money: float
    held_money: float
    api_money: float | None
    disk_bytes: int
    unknown: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """Of the whole run, as far as speeds are known."""
        return self.seconds_by_factor[1]

    def binding(self) -> tuple[str, float]:
        """The kind of work that takes the most time, and its share of the time."""
        by_kind: dict[str, float] = {}
        for part in self.parts:
            by_kind[part.kind] = by_kind.get(part.kind, 0.0) + part.seconds
        if not by_kind or not self.seconds:
            return "", 0.0
        kind = max(by_kind, key=lambda name: by_kind[name])
        return kind, by_kind[kind] / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        kind, share = self.binding()
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["parts"] = [dataclasses.asdict(part) for part in self.parts]
        return values | {"seconds": self.seconds, "binds": kind, "binding_share": share}


def scale_plan(plan: Plan, cluster: Cluster) -> ScaledPlan:
    """What a plan takes on a cluster."""
    parts, unknown = list_parts(plan, cluster)
    # Amdahl's question is answered by asking again: the same parts with more replicas of everything.
    seconds_by_factor = {}
    for factor in FACTORS:
        scaled_parts, _ = list_parts(plan, cluster.with_replicas(factor))
        seconds_by_factor[factor] = sum(part.seconds for part in scaled_parts)
    # Machines that are held cost from the start to the end, whoever works.
    per_hour = sum(engine.replicas * engine.usd_per_hour for engine in cluster.engines.values())
    disk_bytes = sum(plan.disk.values())
    # A disk is no speed: it is large enough, or the run stops.
    warnings = []
    if 0 < cluster.disk_bytes < disk_bytes:
        warnings.append(
            f"the disk binds: the run needs {disk_bytes / 1e9:,.3g} GB and has {cluster.disk_bytes / 1e9:,.3g} GB"
        )
    # One price that is not known makes the sum unknown.
    api_money: float | None = 0.0
    for need in plan.needs:
        is_unknown = api_money is None or need.money is None
        api_money = None if is_unknown else (api_money or 0.0) + (need.money or 0.0)
    return ScaledPlan(
        parts=parts,
        seconds_by_factor=seconds_by_factor,
        serial_seconds=sum(part.serial_seconds for part in parts),
        replica_money=sum(part.money for part in parts),
        held_money=per_hour * seconds_by_factor[1] / _HOUR,
        api_money=api_money,
        disk_bytes=disk_bytes,
        unknown=unknown,
        warnings=warnings,
    )


def list_parts(plan: Plan, cluster: Cluster) -> tuple[list[Part], list[str]]:
    """The parts of a run in their order, and a sentence for each whose speed is not known."""
    unknown: list[str] = []
    # Engines whose start has been counted: they stay up from one phase to the next.
    started: set[str] = set()
    parts = [Part("start", "driver", cluster.start_seconds, cluster.start_seconds)]
    calls = sum(need.calls for need in plan.needs if need.completion > 0)
    parts += _writing_parts(plan, cluster, (COLLECTION,), started, unknown)
    # Where no speed of verifying is known, its time is part of the driver's, as --scale-from measures it.
    verify = cluster.engines.get(VERIFY)
    if verify is not None and verify.rows_per_second:
        # Each text is judged once; a method that judges none of them verifies less.
        parts.append(_engine_part("verify", "verification", calls / verify.rows_per_second, verify))
    # Rollouts, then the steps of the training itself.
    parts += _writing_parts(plan, cluster, ("training",), started, unknown)
    train = cluster.engines.get(TRAIN)
    for arm, tokens in plan.training_tokens.items():
        if train is None or not train.tokens_per_second:
            unknown.append(
                f"how fast {arm} trains is not known: --scale train.tokens_per_second=N, or --scale-from RUN"
            )
            continue
        work = tokens / train.tokens_per_second
        part = _engine_part(f"train {arm}", "training", work, train)
        parts.append(dataclasses.replace(part, tokens=tokens))
    parts += _writing_parts(plan, cluster, ("evaluation",), started, unknown)
    # The driver stores and chooses while models wait: nothing shortens it.
    driver_seconds = calls * cluster.seconds_per_call
    parts.append(Part("driver", "driver", driver_seconds, driver_seconds))
    return [part for part in parts if part.seconds], unknown


def _writing_parts(
    plan: Plan,
    cluster: Cluster,
    phases: Sequence[Phase],
    started: set[str],
    unknown: list[str],
) -> list[Part]:
    """The parts of the roles that write in some phases; an engine starts once."""
    parts = []
    for need in plan.needs:
        role, phase = split_account(need.role)
        if phase not in phases or need.completion <= 0:
            continue
        # A server of somebody else may have limits and no speed that anybody knows.
        engine = cluster.engine_of(need.role)
        limit = _rate_limit_seconds(need.calls, need.prompt + need.completion, engine)
        if engine is None or not (engine.tokens_per_second or limit):
            unknown.append(
                f"how fast {need.role} writes is not known: --scale {role}.tokens_per_second=N, or --scale-from RUN"
            )
            continue
        if role in started:
            engine = dataclasses.replace(engine, start_seconds=0.0)
        started.add(role)
        work = 0.0
        if engine.tokens_per_second:
            work = need.completion / engine.tokens_per_second
        part = _engine_part(need.role, "generation", work, engine, limit_seconds=limit)
        parts.append(dataclasses.replace(part, tokens=float(need.completion)))
    return parts


def _engine_part(
    name: str, kind: str, work: float, engine: Engine, *, limit_seconds: float = 0.0
) -> Part:
    """Work of so many replica-seconds on an engine: t(n) = max(W / n, rate limit) + start."""
    # Whichever is slower: the replicas, or what the server lets through.
    working_seconds = max(work / engine.replicas, limit_seconds)
    is_limited = limit_seconds > work / engine.replicas
    serial_seconds = engine.start_seconds + limit_seconds
    seconds = working_seconds + engine.start_seconds
    return Part(
        name=name,
        kind="rate limit" if is_limited else kind,
        seconds=seconds,
        serial_seconds=min(seconds, serial_seconds),
        replicas=engine.replicas,
        money=engine.replicas * engine.usd_per_hour * seconds / _HOUR,
    )


def _rate_limit_seconds(calls: int, tokens: int, engine: Engine | None) -> float:
    """How long a server's limits make the calls last, whatever the replicas."""
    seconds = 0.0
    if engine is not None and engine.requests_per_minute:
        seconds = 60.0 * calls / engine.requests_per_minute
    if engine is not None and engine.tokens_per_minute:
        seconds = max(seconds, 60.0 * tokens / engine.tokens_per_minute)
    return seconds


def read_cluster(texts: Iterable[str], measured: Cluster | None = None) -> Cluster:
    """The cluster of `--scale` texts: each a YAML file, or `NAME.SETTING=VALUE`; later ones win.

    Args:
        texts: of the flags; what they say of a role holds in all its phases, unless they say something of a phase.
        measured: what a run has shown; the texts go over it.
    """
    settings: dict[str, dict[str, float]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            section, _, setting = name.rpartition(".")
            settings.setdefault(section, {})[setting] = _number(text, value)
            continue
        for section, values in _read_cluster_file(Path(text).expanduser()).items():
            settings.setdefault(section, {}).update(values)
    # What was measured is the ground; roles come before their phases, so that a phase has the last word.
    base = measured or Cluster()
    engines = dict(base.engines)
    driver = {"seconds_per_call": base.seconds_per_call, "start_seconds": base.start_seconds}
    disk_bytes = base.disk_bytes
    for section, values in sorted(settings.items(), key=lambda item: "/" in item[0]):
        if section == DRIVER:
            driver |= _known_settings(section, values, tuple(driver))
        elif section == DISK:
            disk_bytes = _known_settings(section, values, ("gb",))["gb"] * 1e9
        else:
            names = tuple(item.name for item in dataclasses.fields(Engine))
            known_values = _known_settings(section, values, names)
            phases = [name for name in engines if split_account(name)[0] == section]
            # A role's setting holds in each of its phases that has an engine of its own.
            for name in {section, *phases}:
                engines[name] = dataclasses.replace(engines.get(name, Engine()), **known_values)
    return Cluster(engines, disk_bytes=disk_bytes, **driver)


def _read_cluster_file(file: Path) -> dict[str, dict[str, float]]:
    content = read_yaml(file) if file.is_file() else None
    if not isinstance(content, dict) or not all(
        isinstance(item, dict) for item in content.values()
    ):
        raise ConfigError(
            f"--scale {file} is neither a file of sections nor NAME.SETTING=VALUE",
            expected="a YAML file such as `teacher: {replicas: 8, tokens_per_second: 2500}`",
            fix="--scale teacher.replicas=8",
        )
    sections = {}
    for section, values in content.items():
        sections[str(section)] = {
            name: _number(f"{section}.{name}", value) for name, value in values.items()
        }
    return sections


def _number(text: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"--scale {text}: not a number", fix="--scale teacher.replicas=8"
        ) from None


def _known_settings(
    section: str, values: Mapping[str, float], names: Sequence[str]
) -> dict[str, float]:
    for name in values:
        if name not in names:
            raise ConfigError(
                f"--scale {section}.{name} is unknown",
                available=[f"{section}.{setting}" for setting in names],
                wanted=f"{section}.{name}",
            )
    return dict(values)


def refuse_unknown_sections(cluster: Cluster, roles: Iterable[str]) -> None:
    """Refuse an engine of a role that the run does not have: its speed would change nothing."""
    sections = [*roles, TRAIN, VERIFY, DRIVER, DISK]
    for section in cluster.engines:
        role, _ = split_account(section)
        if role not in sections:
            raise ConfigError(
                f"--scale {section}: the run has no such role",
                available=sections,
                wanted=role,
            )
