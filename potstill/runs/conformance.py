"""What holds for every method, checked on scripted models in seconds: `potstill check my_method.py:star`.

A method that passes can be stopped at any moment and resumed, never pays for a completion twice, trains no failed
generation, and knows where each of its rows came from. The checks say nothing about whether it is a good method.
"""

from __future__ import annotations

import inspect
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

from potstill import objectives
from potstill.errors import PotstillError
from potstill.extras import missing_packages
from potstill.methods.catalogue import MethodEntry
from potstill.methods.role_annotations import role_of
from potstill.records import learnt_stretches
from potstill.runs.cast import STORIES, Case, Cast, Interrupted, row_ids, scripted_roles
from potstill.runs.driver import describe
from potstill.runs.recipe import shadowing_names
from potstill.training.objective_config import bind

FAILING = 0.08  # share of generations that fail in the check of failures
Check: TypeAlias = Callable[[Case], None]
STOPS = (0.0, 0.33, 0.5, 0.99)  # where a run is stopped, as a share of its calls


class ConformanceError(AssertionError):
    """A method does not hold to what every method must."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check on one choice of values: passed, or why not; or the cast's reason for leaving it out."""

    check: str
    values: Mapping[str, Any]
    problem: str = ""
    left_out: str = ""

    @property
    def passed(self) -> bool:
        """Whether the method holds to it."""
        return not self.problem


def check_method(method: MethodEntry, *, cast: Cast = STORIES, size: int = 8) -> list[Finding]:
    """Run every check on a method, with its defaults and with every other choice of its `Literal` values.

    Args:
        method: the catalogue's entry.
        cast: who plays it, on what, and which rules hold for it.
        size: problems that it is run on.

    Returns:
        A finding for each check and choice; all have passed where none says what is wrong.
    """
    findings: list[Finding] = []
    for values in value_choices(method):
        with tempfile.TemporaryDirectory() as folder:
            findings += check_case(Case(method, values, Path(folder), cast, size))
    return findings


def check_case(case: Case, checks: Sequence[Check] | None = None) -> list[Finding]:
    """Run checks on one choice of values, all without a list; they share the case's first run.

    Args:
        case: of an empty folder.
        checks: some of `CHECKS`, in their order.
    """
    return [run_check(check, case) for check in checks or CHECKS]


def value_choices(method: MethodEntry) -> list[dict[str, Any]]:
    """The method's defaults, and one choice for every other value of a `Literal` parameter."""
    choices: list[dict[str, Any]] = [{}]
    for value in method.values:
        for option in get_args(value.annotation):
            if isinstance(option, str) and option != value.default:
                choices.append({value.name: option})
    return choices


def run_check(check: Check, case: Case) -> Finding:
    """One check on a case; whatever the method raises is what is wrong with it."""
    title = (check.__doc__ or check.__name__).strip().splitlines()[0]
    reason = case.cast.without.get(check.__name__, "")
    if check is check_keywords and missing_packages("local"):
        reason = "objectives need torch, which is not installed (potstill[local])"
    if reason:
        return Finding(title, case.values, left_out=reason)
    try:
        check(case)
    except (ConformanceError, PotstillError) as error:
        return Finding(title, case.values, str(error))
    except (
        Exception
    ) as error:  # whatever the method raises is a finding, and the other checks go on
        return Finding(title, case.values, _describe_exception(error, case.method.method))
    return Finding(title, case.values)


def _describe_exception(error: Exception, method: Callable[..., Any]) -> str:
    """An exception with the last line of the method's own file that it passed through."""
    file = inspect.getsourcefile(method)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
    ]
    place = ""
    if frames:
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return f"it raised {type(error).__name__}: {error}{place}"


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)


def check_signature(case: Case) -> None:
    """It is a generator function whose first parameter is the problems and whose values have defaults."""
    method = case.method.method
    _require(
        inspect.isgeneratorfunction(method), "it is no generator function: it has no `yield Stage`"
    )
    first, *others = inspect.signature(method).parameters.values()
    _require(first.default is first.empty, f"its first parameter, {first.name}, has a default")
    for parameter in others:
        if parameter.kind is parameter.KEYWORD_ONLY:
            has_default = parameter.default is not parameter.empty
            _require(has_default, f"the value {parameter.name} has no default")
    _require(bool(case.method.title), "it has no docstring: the first line says what it is")
    for message in shadowing_names(case.method):
        _require(False, message)


def check_optional_roles(case: Case) -> None:
    """With every role filled, lists by two models, and with only those that it must have, it yields a stage."""
    every_role = {**scripted_roles(case.method, optional=True), **case.cast.models}
    needed = [role.name for role in case.method.roles if not role.optional]
    needed_roles = {key: model for key, model in every_role.items() if role_of(key) in needed}
    filled = case.run("every-role", roles=every_role)
    needed_only = case.run("needed-roles", roles=needed_roles)
    has_stages = [bool(run.stages) for run in (filled, needed_only)]
    _require(
        has_stages[0] == has_stages[1],
        "it yields a stage with every role filled, or with only those that it must have, and not with both",
    )


def check_stages(case: Case) -> None:
    """It yields stages with objectives and rows that can be trained, or it returns a solver."""
    run = case.first_run()  # refuses a method without a stage that returns no solver
    for stage in run.stages:
        _require(bool(stage.rows), "it yielded a stage without rows")
        _require(stage.objective in objectives.TABLE, f"there is no objective {stage.objective!r}")
        if stage.constants.get("on_policy_fraction") == 1:
            continue  # the student writes all that it learns
        for row in stage.rows:
            _require(not row.error, f"the row {row.id} is a failed generation")
            _require(bool(row.text), f"the row {row.id} has no text")
            _require(bool(learnt_stretches(row)), f"nothing of the row {row.id} is learnt")


def check_keywords(case: Case) -> None:
    """The objective of each stage takes its keywords, its models and its rows."""
    for stage in case.first_run().stages:
        config = bind(stage.objective, stage.constants).config
        config.hooks.check_rows(stage.rows)
        if config.wants_pairs and not config.writes_rows:
            single = [row for row in stage.rows if row.rejected is None]
            _require(
                not single,
                f"{stage.objective} learns from pairs, and {len(single)} rows have no rejected side",
            )


def check_prompts(case: Case) -> None:
    """What the learner sees in training are the problems' prompts, unless the cast says that it poses others."""
    if case.cast.poses:
        return
    prompts = {problem.prompt for problem in case.problems()}
    for stage in case.first_run().stages:
        posed = [row for row in stage.rows if row.prompt not in prompts]
        _require(
            not posed,
            f"{len(posed)} rows have prompts that no problem has; where the paper poses them, say so: "
            "Cast(poses=True), or --poses",
        )


def check_repetition(case: Case) -> None:
    """Run again it asks no model and yields the same stages."""
    first, again = case.first_run(), case.repetition()
    _require(again.calls == 0, f"the repetition asked for {again.calls} completions")
    _require(first.stage_keys() == again.stage_keys(), "the repetition yielded other stages")


def check_lineage(case: Case) -> None:
    """Every parent of every trace is in the ledger, and so are the rows of every stage."""
    run = case.first_run()
    _require(not run.orphans, f"{len(run.orphans)} traces have parents that no ledger knows")
    rows = {stage.id: row_ids(stage) for stage in run.stages}
    _require(run.stored_rows == rows, "the ledger's rows are not the stages'")
    _require(
        not run.other_rivals,
        f"{len(run.other_rivals)} rows are stored with another rejected side than they were trained with: a text that "
        "is a row by itself, or in several pairs, is paired by pair_all",
    )


def check_solver(case: Case) -> None:
    """What it returns to be measured with can be named later, gives n different answers, and asks by operators."""
    describe(case.first_run().solver)
    run = case.repetition()
    if run.evaluation is not None:
        _require(not run.evaluation.repeats, run.evaluation.repeat_note())
    _require(
        not run.uncounted,
        f"its solver asked for {run.uncounted} completions by model.write, which are missing in the tokens and the "
        "cost of its answers; ask by sample, rewrite or ask",
    )


def check_failures(case: Case) -> None:
    """With 8 % of the generations failing it ends, and trains none of them."""
    # Twice as many problems, so that some calls fail for sure.
    run = case.run("failing", problems=case.problems(2 * case.size), fail=FAILING)
    trained: set[str] = set()
    for stage in run.stages:
        trained.update(row_ids(stage))
    _require(not trained & run.errored, "a failed generation is trained on")


def check_final_failures(case: Case) -> None:
    """A recorded failure is final: it is not asked for again."""
    first, again = (case.run("often-failing", fail=0.3) for _ in range(2))
    _require(again.calls == 0, f"the repetition asked for {again.calls} completions")
    _require(first.stage_keys() == again.stage_keys(), "the repetition yielded other stages")


def check_seeds(case: Case) -> None:
    """Another seed draws other samples."""
    first, other = case.first_run(), case.run(seed=2)
    if not first.calls:
        return  # its solver asks alone, or its student writes in the training
    _require(other.calls > 0, "another seed asked no model")
    _require(first.stage_keys() != other.stage_keys(), "another seed yielded the same stages")


def check_resume(case: Case) -> None:
    """Stopped at four moments and resumed it ends in the same stages, and asks for no more than it asks in one go."""
    whole = case.first_run()
    if not whole.calls:
        return  # its solver asks alone, or its student writes in the training
    for number, share in enumerate(STOPS):
        stop_after = int(share * whole.calls)
        was_stopped = False
        try:
            case.run(f"stopped-{number}", stop_after=stop_after)
        except Interrupted:
            was_stopped = True
        _require(
            was_stopped,
            f"a run that was stopped after {stop_after} of {whole.calls} calls came to its end",
        )
        resumed = case.run(f"stopped-{number}")
        _require(
            resumed.stage_keys() == whole.stage_keys(),
            f"stopped after {stop_after} calls and resumed it yielded other stages",
        )
        _require(
            resumed.calls <= whole.calls,
            f"resumed after {stop_after} calls it asked for {resumed.calls} of {whole.calls} again",
        )


def check_order(case: Case) -> None:
    """The order of the problems does not decide which rows there are."""
    forward = case.first_run()
    backward = case.run("backward", problems=case.problems()[::-1])
    for one, other in zip(forward.stages, backward.stages, strict=True):
        same = {row.id for row in one.rows} == {row.id for row in other.rows}
        _require(same, "the same problems in another order gave other rows")


CHECKS: tuple[Check, ...] = (
    check_signature,
    check_optional_roles,
    check_stages,
    check_keywords,
    check_prompts,
    check_repetition,
    check_lineage,
    check_solver,
    check_failures,
    check_final_failures,
    check_seeds,
    check_resume,
    check_order,
)
