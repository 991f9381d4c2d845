"""One suite over every method of the catalogue: what holds for all of them. A new method is covered by being listed."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, NamedTuple, get_args

import pytest
from scripted_world import cast, run, stories

from potstill.methods import METHODS, catalogue
from potstill.records import Stage
from potstill.runs.driver import describe, drive
from potstill.store.cached_model import cached
from potstill.store.store import Store
from potstill.traces import Session, using
from potstill.training.settings import Training

OBJECTIVES = ("likelihood",)


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Every method with its defaults, and once for every other choice of a Literal value."""
    made: list[tuple[str, dict[str, Any]]] = []
    for name in METHODS:
        made.append((name, {}))
        for value in catalogue.entry(name).values:
            choices = get_args(value.annotation)
            made += [
                (name, {value.name: c})
                for c in choices
                if isinstance(c, str) and c != value.default
            ]
    return made


CASES = cases()
IDS = [name + "".join(f"-{k}={v}" for k, v in values.items()) for name, values in CASES]
every = pytest.mark.parametrize(("name", "values"), CASES, ids=IDS)


class Stored(NamedTuple):
    """A run through a store: its stages, calls made, solver, parents that don't resolve, and rows by stage."""

    stages: list[Stage]
    calls: int
    solver: Any
    orphans: list[tuple[str, str]]
    rows: dict[str, list[str]]


def stored_run(folder, name, values, *, fail=0.0, budget=None, seed=1) -> Stored:
    """Drive a method with cached models; KeyboardInterrupt after `budget` fresh completions."""
    problems, models, stages = stories(6), cast(name, fail=fail), []
    spent = [0]
    for model in models.values():
        _limit(model, spent, budget)
    with Store.open(folder) as store:
        ledger = store.ledger(name)
        roles = {
            role: cached(m, store, role=role, arm=name, seed=seed) for role, m in models.items()
        }

        def train(stage: Stage):
            stages.append(stage)
            ledger.rows(stage.id, stage.rows)
            return stage.model

        with using(Session(ledger, store.judgements, workers=4)):
            ledger.made(problems)
            solver = drive(METHODS[name], problems, roles, values, train)
        calls = sum(len(m.calls) for m in models.values())
        return Stored(stages, calls, solver, store.history.missing(), store.history.rows(name))


def _limit(model, spent, budget):
    real = model.write

    def write(requests):
        if budget is not None and spent[0] + len(requests) > budget:
            raise KeyboardInterrupt
        spent[0] += len(requests)
        return real(requests)

    model.write = write


def keys(stages: list[Stage]) -> list[tuple[str, list[str]]]:
    return [(stage.id, [row.id for row in stage.rows]) for stage in stages]


@every
def test_it_yields_stages_with_rows_that_can_be_trained(name, values):
    ran = run(name, stories(8), cast(name), **values)
    assert ran.stages
    for stage in ran.stages:
        assert stage.rows and stage.objective in OBJECTIVES
        assert all(row.text and not row.error and row.finish == "stop" for row in stage.rows)
        assert set(stage.constants) <= {f.name for f in dataclasses.fields(Training)}


@every
def test_the_learner_sees_the_problems_prompts_as_the_solver_will(name, values):
    ran = run(name, stories(8), cast(name), **values)
    asked = {t.prompt for t in ran.problems}
    assert {row.prompt for stage in ran.stages for row in stage.rows} <= asked


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def twice(request, tmp_path_factory):
    """The same run twice through one store."""
    folder = tmp_path_factory.mktemp("run")
    return stored_run(folder, *request.param), stored_run(folder, *request.param)


def test_run_again_it_asks_nobody_and_yields_the_same_stages(twice):
    first, again = twice
    assert first.calls > 0 and again.calls == 0
    assert keys(first.stages) == keys(again.stages)


def test_every_parent_resolves_and_the_rows_are_in_the_store(twice):
    for ran in twice:
        assert ran.orphans == []
        assert ran.rows == {stage.id: [row.id for row in stage.rows] for stage in ran.stages}


def test_its_solver_can_be_told_later(twice):
    assert describe(twice[0].solver)["name"].startswith("potstill.")


@every
def test_with_eight_percent_failing_generations_it_ends_and_trains_no_errored_row(name, values):
    ran = run(name, stories(16), cast(name, fail=0.08), **values)
    assert ran.rows and not any(row.error for stage in ran.stages for row in stage.rows)
    failed = {t.id for t in ran.book.traces.values() if t.error}
    assert failed == {d.trace.id for d in ran.book.drops if d.trace.error}
    assert {d.reason for d in ran.book.drops if d.trace.error} == {"error: scripted failure"}


@pytest.mark.parametrize("name", METHODS)
def test_a_recorded_failure_is_final(name, tmp_path):
    first, again = (stored_run(tmp_path, name, {}, fail=0.3) for _ in range(2))
    assert first.calls > 0 and again.calls == 0 and keys(first.stages) == keys(again.stages)


@pytest.mark.parametrize("name", METHODS)
def test_another_seed_draws_anew(name, tmp_path):
    first = stored_run(tmp_path, name, {})
    other = stored_run(tmp_path, name, {}, seed=2)
    assert other.calls > 0 and keys(first.stages) != keys(other.stages)


@pytest.mark.parametrize("name", METHODS)
def test_stopped_by_budgets_and_resumed_it_ends_in_the_same_stages(name, tmp_path):
    whole = stored_run(tmp_path / "whole", name, {})
    for i, budget in enumerate((0, whole.calls // 3, whole.calls // 2, whole.calls - 1)):
        with pytest.raises(KeyboardInterrupt):
            stored_run(tmp_path / str(i), name, {}, budget=budget)
        resumed = stored_run(tmp_path / str(i), name, {})
        assert keys(resumed.stages) == keys(whole.stages)
        assert whole.calls - budget <= resumed.calls <= whole.calls


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_problems_does_not_decide_which_rows_there_are(name):
    problems = stories(8)
    one, two = (run(name, given, cast(name)) for given in (problems, problems[::-1]))
    assert {row.id for row in one.rows} == {row.id for row in two.rows}


@pytest.mark.parametrize("name", METHODS)
def test_it_is_a_generator_function_that_cites_its_paper_and_defaults_every_value(name):
    method = METHODS[name]
    assert inspect.isgeneratorfunction(method) and method.__name__ == name
    assert re.fullmatch(rf"potstill\.methods\.\w+\.(\w+\.)?{name}", method.__module__)
    assert re.search(r"arXiv:\d{4}\.\d{5}", inspect.getdoc(method) or "")
    first, *rest = inspect.signature(method).parameters.values()
    assert first.name == "problems" and first.default is first.empty
    for parameter in rest:
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert parameter.default is not parameter.empty, parameter.name


def test_the_suite_covers_every_arm():
    assert {v["arm"] for name, v in CASES if name == "orion" and v} | {"own"} == {
        *("own", "none", "shuffled", "errors-only", "no-rewriting", "teacher-refines")
    }
