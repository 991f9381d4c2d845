"""One suite over every method of the catalogue: what holds for all of them. A new method is covered by being listed."""

from __future__ import annotations

import inspect
import random
import re
from dataclasses import replace
from typing import Any

import pytest

from potstill.methods import METHODS, catalogue
from potstill.models.model import Model, Trainable
from potstill.records import Stage
from potstill.runs import conformance
from potstill.runs.conformance import Case
from potstill.traces import sample

CASES: list[tuple[str, dict[str, Any]]] = [
    (name, values)
    for name in METHODS
    for values in conformance.value_choices(catalogue.method_entry(name))
]
IDS = [name + "".join(f"-{k}={v}" for k, v in values.items()) for name, values in CASES]
every_choice = pytest.mark.parametrize(("name", "values"), CASES, ids=IDS)
ONCE = (
    conformance.check_signature,
    conformance.check_optional_roles,
    conformance.check_final_failures,
    conformance.check_seeds,
    conformance.check_resume,
    conformance.check_order,
)
every_check = pytest.mark.parametrize(
    "check", conformance.CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)


@every_check
@every_choice
def test_a_method_holds_to_the_check(name, values, check, tmp_path):
    if values and check in ONCE:
        pytest.skip("checked with the defaults")
    check(Case(catalogue.method_entry(name), values, tmp_path))


@every_choice
def test_the_learner_sees_the_problems_prompts_as_the_solver_will(name, values, tmp_path):
    ran = Case(catalogue.method_entry(name), values, tmp_path).run()
    asked = {story.prompt for story in conformance.scripted_stories(8)}
    assert {row.prompt for stage in ran.stages for row in stage.rows} <= asked


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_package_cites_its_paper(name):
    method = METHODS[name]
    assert method.__name__ == name
    assert re.fullmatch(rf"potstill\.methods\.\w+\.(\w+\.)?{name}", method.__module__)
    assert re.search(r"arXiv:\d{4}\.\d{5}", inspect.getdoc(method) or "")


def test_the_suite_covers_every_arm():
    arms = {values["arm"] for name, values in CASES if name == "orion" and values}
    others = {"none", "shuffled", "errors-only", "no-rewriting", "teacher-refines"}
    assert arms == others


# Methods that break one rule each, and the check that must say so.


def no_default(problems, student, *, n):
    """A method whose value has no default."""
    yield


def asks_anew(problems, student: Trainable):
    """A method whose requests change from run to run."""
    drawn = sample(student, problems, temperature=random.random() + 0.1)
    yield Stage(student, drawn, "sft")


def follows_order(problems, student: Trainable):
    """A method that trains on the first problems of the file."""
    yield Stage(student, sample(student, problems[:3]), "sft")


def orphan_rows(problems, student: Trainable):
    """A method whose rows name parents that nobody made."""
    drawn = [replace(trace, parents=("trace-0",)) for trace in sample(student, problems)]
    yield Stage(student, drawn, "sft")


def local_solver(problems, student: Trainable):
    """A method that returns a closure."""
    student = yield Stage(student, sample(student, problems), "sft")
    return lambda traces, **settings: sample(student, traces, **settings)


def shadows_a_recipe_key(problems, student: Trainable, *, limit: int = 3):
    """A method whose value --set could not reach."""
    yield Stage(student, sample(student, problems[:limit]), "sft")


def needs_its_optional_role(problems, student: Trainable, coder: Model | None = None):
    """A method that asks a model that nobody gave."""
    yield Stage(student, sample(coder, problems), "sft")


def takes_one_reader(problems, student: Trainable, readers: list[Model] = ()):
    """A method that works with one reader alone."""
    [reader] = readers or [student]
    yield Stage(student, sample(reader, problems), "sft")


BROKEN = [
    (shadows_a_recipe_key, conformance.check_signature, "limit .* key of every recipe"),
    (needs_its_optional_role, conformance.check_optional_roles, "None"),
    (takes_one_reader, conformance.check_optional_roles, "too many values"),
    (no_default, conformance.check_signature, "n has no default"),
    (asks_anew, conformance.check_repetition, "the repetition asked for"),
    (follows_order, conformance.check_order, "in another order"),
    (orphan_rows, conformance.check_lineage, "the ledger's rows|parents that no ledger knows"),
    (local_solver, conformance.check_solver, "closure"),
]


@pytest.mark.parametrize(
    ("method", "check", "message"), BROKEN, ids=[method.__name__ for method, *_ in BROKEN]
)
def test_a_check_finds_the_method_that_breaks_it(method, check, message, tmp_path):
    case = Case(catalogue.describe_method(method.__name__, method), {}, tmp_path)
    finding = conformance.run_check(check, case)
    assert re.search(message, finding.problem)


def reads_mistakes(
    problems,
    student: Trainable,
    coder: Model | None = None,
    readers: list[Model] = (),
):
    """A method whose optional role and list role add rows where models play them."""
    drawn = sample(student, problems)
    for writer in [*readers, coder] if coder else readers:
        drawn += sample(writer, problems, sample_index=1)
    yield Stage(student, drawn, "sft")


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_an_optional_and_a_list_role_may_be_left_out(check, tmp_path):
    entry = catalogue.describe_method("reads_mistakes", reads_mistakes)
    assert conformance.run_check(check, Case(entry, {}, tmp_path, size=4)).problem == ""


def test_every_reader_of_a_list_role_is_asked(tmp_path):
    entry = catalogue.describe_method("reads_mistakes", reads_mistakes)
    roles = conformance.scripted_roles(entry, optional=True)
    assert list(roles) == ["student", "coder", "readers.1", "readers.2"]
    [stage] = Case(entry, {}, tmp_path, size=4).run(roles=roles).stages
    assert {row.author.model for row in stage.rows} == {model.id for model in roles.values()}
