"""One suite over every method of the catalogue: what holds for all of them. A new method is covered by being listed."""

from __future__ import annotations

import inspect
import random
import re
import types
from dataclasses import replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from potstill.methods import METHODS, catalogue
from potstill.models.model import Model, Request, Trainable
from potstill.models.scripted import ScriptedModel, render
from potstill.records import Problem, Stage, blank, learnt_stretches
from potstill.runs import conformance
from potstill.runs.cast import STORIES, Case, Cast, scripted_roles
from potstill.traces import edit, keep, learn, pair, pose, right, sample, verify, wrong
from potstill.world.scripted import NO_WEIGHTS

CASES: list[tuple[str, dict[str, Any]]] = [
    (name, values)
    for name in METHODS
    for values in conformance.value_choices(catalogue.method_entry(name))
]
IDS = [name + "".join(f"-{k}={v}" for k, v in values.items()) for name, values in CASES]
# What the fast suite checks of every method, on few problems: one run, and its repetition with a solver behind it.
ONE_RUN = (
    conformance.check_signature,
    conformance.check_stages,
    conformance.check_keywords,
    conformance.check_prompts,
    conformance.check_repetition,
    conformance.check_lineage,
    conformance.check_solver,
)
# Lines of a table of one training differ in their keywords alone.
OF_A_LINE = ONE_RUN[:3]
FEW_PROBLEMS = 4
# Checks of many runs: with the defaults alone, whatever the choices are.
ONCE = (
    conformance.check_signature,
    conformance.check_optional_roles,
    conformance.check_final_failures,
    conformance.check_seeds,
    conformance.check_resume,
    conformance.check_order,
)
# The methods that stand for all in the fast suite: every check, among them resuming.
STANDING_FOR_ALL = ("rft", "sft")
# Resuming takes nine runs: it is left out of the methods below.
WITHOUT_RESUMING = tuple(
    check for check in conformance.CHECKS if check is not conformance.check_resume
)
TESTS = Path(__file__).parents[1]


def cast_of(name: str) -> Cast:
    """Who plays a method: `CAST` of its own test file, `tests/methods/FAMILY/test_NAME.py`, or else STORIES."""
    path = TESTS / "methods" / METHODS.files[name].family / f"test_{name}.py"
    if not path.is_file() or "\nCAST = " not in path.read_text("utf-8"):
        return STORIES
    spec = spec_from_file_location(f"cast_of_{name}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    cast = module.CAST
    assert isinstance(cast, Cast)
    return cast


def assert_holds(case: Case, checks=conformance.CHECKS) -> None:
    """Every check of the case passes."""
    failed = [finding for finding in conformance.check_case(case, checks) if not finding.passed]
    assert not failed, "\n".join(f"{finding.check} {finding.problem}" for finding in failed)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_holds_to_the_checks_of_one_run(name, tmp_path):
    checks = ONE_RUN
    if METHODS.files[name].line is not None:
        checks = OF_A_LINE
    assert_holds(Case(entry_of(name), {}, tmp_path, cast_of(name), size=FEW_PROBLEMS), checks)


@pytest.mark.parametrize("name", STANDING_FOR_ALL)
def test_a_short_method_holds_to_every_check(name, tmp_path):
    assert_holds(Case(entry_of(name), {}, tmp_path, cast_of(name)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "values"), CASES, ids=IDS)
def test_a_method_holds_to_every_check_with_every_choice(name, values, tmp_path):
    checks = conformance.CHECKS
    if values:
        checks = tuple(check for check in checks if check not in ONCE)
    assert_holds(Case(entry_of(name), values, tmp_path, cast_of(name)), checks)


def entry_of(name):
    return catalogue.method_entry(name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_package_cites_its_paper(name):
    method = METHODS[name]
    assert method.__name__ == name
    assert re.fullmatch(
        rf"potstill\.methods\.\w+\.((\w+\.)?{name}|one_training)", method.__module__
    )
    assert re.search(r"arXiv:\d{4}\.\d{5}", inspect.getdoc(method) or "")


def test_the_suite_covers_every_arm():
    arms = {values["arm"] for name, values in CASES if name == "orion" and values}
    others = {"none", "shuffled", "errors-only", "no-rewriting", "teacher-refines"}
    others |= {"on-policy", "on-policy-none", "on-policy-shuffled"}
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


def poses_in_silence(problems, student: Trainable):
    """A method that trains on prompts that no problem has."""
    yield Stage(student, sample(student, pose("Think. {question}", problems)), "sft")


def learns_nothing(problems, student: Trainable):
    """A method whose rows hold only what was shown."""
    yield Stage(student, learn(nothing, sample(student, problems)), "sft")


def nothing(trace):
    return []


def misspells_a_keyword(problems, student: Trainable):
    """A method that gives its objective a keyword of another one."""
    yield Stage(student, sample(student, problems), "sft", bta=0.1)


def prefers_without_pairs(problems, student: Trainable):
    """A method that gives a preference objective no pairs."""
    yield Stage(student, sample(student, problems), "dpo", beta=0.1)


def pairs_its_rows(problems, student: Trainable):
    """A method whose rows are the chosen side of a pair in another stage."""
    drawn = sample(student, problems, n=2)
    student = yield Stage(student, drawn[::2], "sft")
    yield Stage(student, pair(drawn[::2], drawn[1::2]), "dpo")


def distils_a_server(problems, teacher: Model, student: Trainable):
    """A method that reads distributions of a model that need not have any."""
    yield Stage(student, sample(teacher, problems), "jsd", teacher=teacher)


def repeats_one_answer(problems, student: Trainable):
    """A method whose solver draws one answer and returns it n times."""
    yield Stage(student, sample(student, problems), "sft")
    return partial(first_answer, student)


def first_answer(student, problems, *, n, **sampling):
    return [trace for trace in sample(student, problems, **sampling) for _ in range(n)]


def forgets_n(problems, student: Trainable):
    """A method whose solver gives one answer, however many are asked for."""
    yield Stage(student, sample(student, problems), "sft")
    return partial(one_answer, student)


def one_answer(student, problems, *, n, **sampling):
    return sample(student, problems, **sampling)


def asks_past_the_operators(problems, student: Trainable):
    """A method whose solver asks its model itself, once for each problem."""
    yield Stage(student, sample(student, problems), "sft")
    return partial(hint_and_answer, student)


def hint_and_answer(student, problems, **sampling):
    student.write([Request(f"A hint, please: {trace.question}") for trace in problems])
    return sample(student, problems, **sampling)


BROKEN = [
    (asks_past_the_operators, conformance.check_solver, "asked for 8 completions by model.write"),
    (poses_in_silence, conformance.check_prompts, "8 rows have prompts that no problem has"),
    (learns_nothing, conformance.check_stages, "nothing of the row .* is learnt"),
    (misspells_a_keyword, conformance.check_keywords, "nothing is called bta"),
    (prefers_without_pairs, conformance.check_keywords, "dpo learns from pairs"),
    (distils_a_server, conformance.check_keywords, "no weights to read distributions from"),
    (repeats_one_answer, conformance.check_solver, "8 of 16 answers repeat another draw"),
    (forgets_n, conformance.check_solver, "returned 1 answers"),
    (shadows_a_recipe_key, conformance.check_signature, "limit .* key of every recipe"),
    (needs_its_optional_role, conformance.check_optional_roles, "None"),
    (takes_one_reader, conformance.check_optional_roles, "too many values"),
    (no_default, conformance.check_signature, "n has no default"),
    (asks_anew, conformance.check_repetition, "the repetition asked for"),
    (follows_order, conformance.check_order, "in another order"),
    (pairs_its_rows, conformance.check_lineage, "stored with another rejected side"),
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


def test_an_optional_and_a_list_role_may_be_left_out(tmp_path):
    entry = catalogue.describe_method("reads_mistakes", reads_mistakes)
    assert_holds(Case(entry, {}, tmp_path, size=4))


def test_every_reader_of_a_list_role_is_asked(tmp_path):
    entry = catalogue.describe_method("reads_mistakes", reads_mistakes)
    roles = scripted_roles(entry, optional=True)
    assert list(roles) == ["student", "coder", "readers.1", "readers.2"]
    [stage] = Case(entry, {}, tmp_path, size=4).run(roles=roles).stages
    assert {row.author.model for row in stage.rows} == {model.id for model in roles.values()}


# Methods with a cast of their own: other problems, models that answer by rule, posed rows, other objectives.


def step_by_step(problems, writer: Model, mentor: Trainable, student: Trainable, *, steps: int = 3):
    """A chain grown sentence by sentence, learnt from a mentor's distribution."""
    chains = problems
    for _ in range(steps):
        chains = edit(with_its_end, sample(writer, chains, stop=(". ",)))
    yield Stage(student, verify(chains), "jsd", teacher=mentor, beta=0.5)


def with_its_end(trace):
    return trace.text + trace.stop_string


def prefers(problems, student: Trainable, *, n: int = 4):
    """Right answers to a posed prompt against wrong ones."""
    answers = verify(sample(student, pose("Take care. {question}", problems), n=n))
    yield Stage(student, pair(keep(right, answers), keep(wrong, answers)), "dpo", beta=0.1)


def rewarded(problems, student: Trainable, *, rounds: int = 2):
    """Only the student's own text of the training, by a reward, in two rounds."""
    for _ in range(rounds):
        student = yield Stage(
            student,
            problems,
            "grpo",
            on_policy_fraction=1.0,
            num_generations=4,
            reward=brevity,
            learning_rate=1e-5,
        )


def brevity(problem, text):
    return -float(len(text))


def half_on_policy(problems, teacher: Trainable, student: Trainable):
    """Generalised distillation: half of the steps on the teacher's text, half on the student's."""
    yield Stage(
        student, sample(teacher, problems), "jsd", teacher=teacher, on_policy_fraction=0.5, beta=0.1
    )


def sums(size):
    return [blank(Problem(f"p{i}", f"What is {i} + 2?", str(i + 2), "number")) for i in range(size)]


def add(request):
    """A sum in three sentences, of which the request has some already; the sample index decides whether it is right."""
    [number] = re.findall(r"What is (\d+)", render(request.prompt))
    total = int(number) + 2 + (request.random_seed("slip") % 3 == 0)
    return f"I add. It is {total}. \\boxed{{{total}}}"


ADDING = ScriptedModel(add, weights=NO_WEIGHTS)
OWN_CASTS = {
    rewarded: STORIES,
    half_on_policy: STORIES,
    step_by_step: Cast(models={"writer": ADDING}, problems=sums, values={"steps": 4}),
    prefers: Cast(models={"student": ADDING}, problems=sums, values={"n": 8}, poses=True),
}


@pytest.mark.parametrize("method", OWN_CASTS, ids=lambda method: method.__name__)
def test_a_method_with_a_cast_of_its_own_holds_to_the_checks(method, tmp_path):
    entry = catalogue.describe_method(method.__name__, method)
    assert_holds(Case(entry, {}, tmp_path, OWN_CASTS[method], size=4), WITHOUT_RESUMING)


def test_a_grown_chain_of_a_cast_is_learnt_whole(tmp_path):
    entry = catalogue.describe_method("step_by_step", step_by_step)
    [stage] = Case(entry, {}, tmp_path, OWN_CASTS[step_by_step]).run().stages
    row = stage.rows[0]
    assert learnt_stretches(row) == [(0, len(row.text))] and row.text.count(". ") == 2
    assert len([span for span in row.spans if span.kind == "written"]) == 3


def test_without_torch_the_check_of_keywords_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(conformance, "missing_packages", lambda extra: ["torch"])
    case = Case(entry_of("sft"), {}, tmp_path)
    assert "need torch" in conformance.run_check(conformance.check_keywords, case).left_out
    assert conformance.run_check(conformance.check_stages, case).left_out == ""


def test_a_check_that_can_not_hold_is_left_out_with_its_reason(tmp_path):
    entry = catalogue.describe_method("asks_anew", asks_anew)
    cast = Cast(without={"check_repetition": "it draws its temperature"})
    finding = conformance.run_check(conformance.check_repetition, Case(entry, {}, tmp_path, cast))
    assert finding.passed and finding.left_out == "it draws its temperature"


def lema_of_the_page():
    """The method that docs/adding-a-method.md writes, as its first block has it."""
    page = Path(__file__).parents[2] / "docs" / "adding-a-method.md"
    block = re.search(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert block is not None
    module = types.ModuleType("lema_of_the_page")
    exec(compile(block[1], str(page), "exec"), module.__dict__)
    return catalogue.describe_method("short_lema", module.short_lema)


def test_the_example_of_the_page_holds_to_the_checks(tmp_path):
    cast = Cast(values={"n": 2}, poses=True)
    assert_holds(Case(lema_of_the_page(), {}, tmp_path, cast, size=6), WITHOUT_RESUMING)


def test_the_example_of_the_page_says_that_it_poses(tmp_path):
    case = Case(lema_of_the_page(), {}, tmp_path, size=6)
    finding = conformance.run_check(conformance.check_prompts, case)
    assert "Cast(poses=True)" in finding.problem


@pytest.mark.slow
def test_rounds_of_evolution_hold_to_the_checks(tmp_path):
    """Methods that make new problems: the defaults of lema make none."""
    assert_holds(Case(entry_of("lema"), {"rounds": 2}, tmp_path, cast_of("lema")))
