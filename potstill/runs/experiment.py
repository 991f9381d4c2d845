"""Run a recipe: its arms on the same problems, models and store; each driven, trained, measured and compared.

Everything is found again by content, so the same call on the same folder continues where a killed one stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from potstill.budget import prices
from potstill.data import files
from potstill.errors import ConfigError, PotstillError
from potstill.evaluation.benchmark import Solver
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.methods.catalogue import find_method, method_entry
from potstill.methods.role_annotations import fill_roles, role_of
from potstill.models.model import Model
from potstill.records import Problem, Progress, Stage, Trace, no_progress
from potstill.runs import preflight
from potstill.runs.answer_watch import AnswerWatch
from potstill.runs.collect import (
    ROWS_ONLY_NOTE,
    RowsCollected,
    collect_rows,
    load_to_collect,
    refuse_asked_students,
)
from potstill.runs.driver import drive
from potstill.runs.examples import example_rows, further_row_problems
from potstill.runs.folder_layout import RESULTS_FILE, UNTRAINED, evaluation_ledger, examples_ledger
from potstill.runs.headline import (
    describe_calls,
    expected_calls,
    headline,
    seconds_by_role,
)
from potstill.runs.measure import answer_once, measure_solver
from potstill.runs.open_folder import (
    STUDENT,
    AnswerRules,
    Folder,
    open_folder,
    refuse_many_processes,
)
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.results import deciding_settings
from potstill.runs.results import describe_run as describe_results
from potstill.runs.run_journal import (
    Announce,
    Publish,
    RunJournal,
    announce_nothing,
    publish_nothing,
)
from potstill.runs.sources import brings_kinds, load_model, load_problems, pose_all
from potstill.runs.stages import ArmStages, stage_rows, stage_title
from potstill.runs.train import train_stage, write_stage_files
from potstill.traces import ReportSection, plain, using
from potstill.verifiers import reading_thoughts


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe in its open folder, with the problems to train on and the problems to measure on."""

    recipe: Recipe
    folder: Folder
    problems: list[Trace]
    tests: list[Trace]
    answers: AnswerWatch
    rows_only: bool = False


def execute(
    recipe: Recipe,
    out: Path,
    *,
    title: str = "",
    progress: Progress = no_progress,
    threads: int = 0,
    retry_errors: bool = False,
    announce: Announce = announce_nothing,
    publish: Publish = publish_nothing,
    rows_only: bool = False,
) -> Results:
    """Run every arm of a recipe in `out` and write results.json and rows.

    Args:
        recipe: what to run.
        out: the run folder; an unfinished run of the same recipe in it is taken up again.
        title: of the report.
        progress: called with (label, done, total).
        threads: CPU threads of local models and training; 0 is one a core. Part of the fingerprint.
        retry_errors: ask again where a recorded generation failed.
        announce: called with a sentence that people should read before anything is asked.
        publish: called with the results now and then, and at the end of the run, whatever ended it.
        rows_only: end with the rows of each arm's first stage: nothing is trained and nothing measured.
    """
    with open_run(
        recipe,
        out,
        progress=progress,
        threads=threads,
        retry_errors=retry_errors,
        rows_only=rows_only,
    ) as run:
        return run_arms(run, title=title, publish=publish, announce=announce)


def run_arms(
    run: Run,
    *,
    title: str = "",
    publish: Publish = publish_nothing,
    announce: Announce = announce_nothing,
) -> Results:
    """Drive, train and measure every arm of an open run; write results.json, rows and run.log into its folder.

    Whatever ends the run, what it did until then is published.
    """
    recipe, folder = run.recipe, run.folder
    title = title or f"Potstill: {', '.join(recipe.arms)}"
    journal = RunJournal(
        described=describe_results(recipe, folder.models, run.problems, title=title),
        store=folder.store,
        path=folder.path,
        compare_arm=recipe.compare,
        publish=publish,
        announce=announce,
    )
    run.answers.on_answers = journal.estimate_time
    with journal.recording_the_end():
        announce_run(run, journal)
        arm_notes = _measure_and_drive(run, journal)
    unused = preflight.unused_roles(recipe, run.problems, run.tests)
    notes = [*files.notes(), *folder.budget.notes(), *unused, *arm_notes]
    if run.rows_only:
        notes.append(ROWS_ONLY_NOTE)
    return journal.finish(notes)


def announce_run(run: Run, journal: RunJournal) -> None:
    """Say what the run is about to do; in a new folder, where somebody listens, also how many calls it will make."""
    recipe, models = run.recipe, run.folder.models
    tests = [] if run.rows_only else run.tests
    for line in headline(recipe, run.problems, tests, journal.described.prompts):
        journal.say(line)
    is_new = not (run.folder.path / RESULTS_FILE).exists()
    if is_new and journal.announce is not announce_nothing:
        announce_calls(run, journal)
    for sentence in preflight.describe_run(recipe, models, run.problems, tests):
        journal.say(sentence)
    journal.begin_steps()


def announce_calls(run: Run, journal: RunJournal) -> None:
    """Say how many calls a run will make, and how long they may take."""
    tests = [] if run.rows_only else run.tests
    try:
        calls = expected_calls(
            run.recipe, run.folder.models, run.problems, tests, rows_only=run.rows_only
        )
    except PotstillError as error:
        # The run itself need not stop at it: made-up answers are not the models'.
        journal.say(f"how many calls it makes is not known before it runs: {error.found}")
        return
    if not calls:
        return
    seconds_a_call = seconds_by_role(run.folder.store)
    journal.say(describe_calls(calls, seconds_a_call))
    journal.expect_calls(sum(calls.values()), is_time_known=seconds_a_call.keys() >= calls.keys())


def _measure_and_drive(run: Run, journal: RunJournal) -> list[str]:
    """Measure the untrained student, then run every arm; what people should know of the arms."""
    notes: list[str] = []
    student = run.folder.models.get(STUDENT)
    if student is not None and run.tests and not run.rows_only:
        journal.finish_evaluation(measure_untrained(run, student))
    for name, arm in run.recipe.arms.items():
        outcome = run_arm(run, name, arm, journal)
        journal.sections[name] = outcome.sections
        for evaluation in outcome.evaluations.values():
            journal.finish_evaluation(evaluation)
        notes += outcome.notes
    return notes


@contextmanager
def open_run(
    recipe: Recipe,
    out: Path,
    *,
    progress: Progress = no_progress,
    threads: int = 0,
    retry_errors: bool = False,
    models: Mapping[str, Model] | None = None,
    problems: list[Trace] | None = None,
    tests: list[Trace] | None = None,
    rows_only: bool = False,
) -> Iterator[Run]:
    """Load what a recipe names, check it, and open its folder for the length of the block.

    Args:
        recipe: what to run.
        out: the run folder.
        progress: called with (label, done, total).
        threads: CPU threads of local models and training; 0 is one a core.
        retry_errors: ask again where a recorded generation failed.
        models: by role, in the place of those that the recipe names.
        problems: blank traces to train on, in the place of the recipe's.
        tests: blank traces to measure on, in the place of the recipe's.
        rows_only: end with the rows of each arm's first stage: nothing is trained and nothing measured.
    """
    prepared = prepare_run(
        recipe,
        threads=threads,
        rows_only=rows_only,
        models=models,
        problems=problems,
        tests=tests,
    )
    if not rows_only:
        preflight.check_disk(out, preflight.students_bytes(recipe))
    rules = AnswerRules(retry_errors, recipe.truncated, recipe.when_spent)
    answers = AnswerWatch(progress)
    with (
        reading_thoughts(recipe.answers_in_thoughts),
        open_folder(
            out,
            settings=deciding_settings(recipe),
            models=prepared.models,
            budget=recipe.budget.by_name(),
            price_table=prices.load_custom_prices(recipe.prices),
            seed=recipe.seed,
            threads=threads,
            progress=answers,
            rules=rules,
        ) as folder,
    ):
        yield Run(recipe, folder, prepared.problems, prepared.tests, answers, rows_only)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a recipe names, loaded and checked: nobody has been asked, and nothing has been written."""

    problems: list[Trace]
    tests: list[Trace]
    models: Mapping[str, Model]


def prepare_run(
    recipe: Recipe,
    *,
    threads: int = 0,
    rows_only: bool = False,
    models: Mapping[str, Model] | None = None,
    problems: list[Trace] | None = None,
    tests: list[Trace] | None = None,
    load: Callable[[Recipe, int], Mapping[str, Model]] | None = None,
) -> PreparedRun:
    """Load what a recipe names and make every check of a run that needs no folder; `plan` calls this too.

    Args:
        recipe: what to run.
        threads: CPU threads of local models; 0 is one a core.
        rows_only: whether the run ends with its rows.
        models: by key, in the place of those that the recipe names.
        problems: blank traces to train on, in the place of the recipe's.
        tests: blank traces to measure on, in the place of the recipe's.
        load: loads the models, in the place of `load_recipe_models`.
    """
    refuse_many_processes()
    if problems is None or tests is None:
        problems, tests = load_recipe_problems(recipe)
    preflight.refuse_overlap(recipe, problems, tests)
    if not rows_only:
        preflight.check_training_extra(recipe)
    if models is None:
        load = load or (load_to_collect if rows_only else load_recipe_models)
        models = load(recipe, threads or os.cpu_count() or 1)
    preflight.check_run(recipe, models, problems, tests, rows_only=rows_only)
    check_stage_settings(recipe, problems)
    if rows_only:
        refuse_asked_students(recipe, models, problems)
    return PreparedRun(problems, tests, models)


def check_stage_settings(recipe: Recipe, problems: Sequence[Trace]) -> None:
    """Refuse settings of stages that the methods do not yield, as stand-ins show; they ask nobody."""
    if not any(arm.training_by_stage for arm in recipe.arms.values()):
        return
    from potstill.runs.dry_run import drive_with_stand_ins
    from potstill.runs.stand_in import Assumptions

    driven = drive_with_stand_ins(recipe, problems, [], {"": Assumptions()})
    unused: list[str] = []
    for arm in driven.arms.values():
        unused += arm.unused  # none of an arm that was not driven to its end
    if unused:
        raise ConfigError(
            "; ".join(unused),
            expected="a stage's name or number",
            fix="potstill plan says which stages there are",
        )


def load_recipe_models(recipe: Recipe, threads: int) -> dict[str, Model]:
    """The models of the roles that the recipe fills, by key."""
    return {
        role: load_model(spec, threads=threads, batch=recipe.batch)
        for role, spec in recipe.roles.items()
        if spec
    }


def load_recipe_problems(recipe: Recipe) -> tuple[list[Trace], list[Trace]]:
    """The problems to train on and those to measure on, as the learner sees them."""
    evaluate = recipe.evaluate
    problems = load_problems(
        recipe.problems,
        mapping=recipe.mapping,
        limit=recipe.limit,
        seed=recipe.seed,
        kind=recipe.kind,
        where=recipe.where,
    )
    tests: list[Problem] = []
    if evaluate.problems:
        inherited_kind = "" if brings_kinds(evaluate.problems) else recipe.kind
        tests = load_problems(
            evaluate.problems,
            mapping=evaluate.mapping or recipe.mapping,
            limit=evaluate.limit,
            seed=recipe.seed,
            kind=evaluate.kind or inherited_kind,
            where=evaluate.where,
        )
    is_recorded = any(spec.startswith("recorded:") for spec in recipe.roles.values())
    return (
        pose_all(problems, recipe.prompt, recorded=is_recorded),
        pose_all(tests, recipe.prompt, recorded=is_recorded),
    )


def measure_untrained(run: Run, student: Model) -> Evaluation:
    """The evaluation of the student before any training."""
    solver = partial(plain, run.folder.wrap_model(student, STUDENT, UNTRAINED))
    return measure_arm(run, UNTRAINED, solver, ledger_name=evaluation_ledger(UNTRAINED))


def measure_arm(run: Run, name: str, solver: Solver, *, ledger_name: str) -> Evaluation:
    """The evaluation of a solver on the recipe's problems, sampled as the recipe says."""
    return measure_solver(
        run.folder,
        solver,
        run.tests,
        name=name,
        n=run.recipe.evaluate.n,
        sampling=run.recipe.evaluate.sampling,
        ledger_name=ledger_name,
    )


class ArmOutcome(NamedTuple):
    """What an arm came to.

    Args:
        evaluations: of its solver under the arm's name, before it those of single stages; none without problems.
        sections: what its method adds to the report.
        notes: what else people should know.
    """

    evaluations: Mapping[str, Evaluation]
    sections: list[ReportSection]
    notes: list[str]


def run_arm(run: Run, name: str, arm: Arm, journal: RunJournal) -> ArmOutcome:
    """Drive one method and measure its solver."""
    folder = run.folder
    sections: list[ReportSection] = []
    ledger = folder.open_ledger(name)
    entry = method_entry(arm.method)
    wrapped_models: dict[str, Model] = {}
    for key, model in folder.models.items():
        wrapped_models[key] = folder.wrap_model(model, role_of(key), name)
    roles = fill_roles(entry.roles, wrapped_models)

    notes: list[str] = []

    def take_note(sentence: str) -> None:
        text = f"{name}: {sentence}"
        if text not in notes:
            notes.append(text)
            journal.say(text)

    # The method sees problems without the evaluation's, and makes none; its stages are trained as it yields them.
    session = folder.session(
        ledger,
        name,
        sections=sections.append,
        on_step=journal.step_listener(name),
        overlap_reason=preflight.overlap_rule(run.recipe, run.tests),
        on_note=take_note,
    )
    with using(session):
        ledger.add_traces(run.problems)
        ledger.add_step("problems", run.recipe.problems, len(run.problems), len(run.problems))
        problems = preflight.remove_overlap(run.recipe, run.problems, run.tests)
        stages = ArmStages(name, arm.training, arm.training_by_stage)

        def train(stage: Stage) -> Model:
            preflight.refuse_leaks(run.recipe, stage, run.problems, run.tests)
            label = stages.label(stage)
            if run.rows_only:
                collect_rows(folder, stage, arm=name, ledger=ledger, label=label)
            student = train_stage(
                folder,
                stage,
                stages.settings(label),
                arm=name,
                ledger=ledger,
                label=label,
                answer_probabilities=run.recipe.answer_probability,
            )
            stages.students[label] = student
            journal.finish_training(name)
            return student

        try:
            solver = drive(find_method(arm.method), problems, roles, arm.values, train, name=name)
        except RowsCollected:
            ledger.finish()
            return ArmOutcome({}, sections, notes)
    write_stage_files(folder, name)

    # Measured after the method's session, with a ledger of its own: answers are no part of the funnel.
    evaluations: dict[str, Evaluation] = {}
    if run.tests and not run.rows_only:
        if run.recipe.evaluate.stages:
            evaluations |= measure_stages(run, stages, solver)
        evaluations[name] = measure_arm(run, name, solver, ledger_name=evaluation_ledger(name))
    if not run.rows_only:
        answer_row_problems(run, name, solver)
    ledger.finish()
    notes += stages.unused_settings() + note_measured_stage(stages, solver)
    return ArmOutcome(evaluations, sections, notes)


def note_measured_stage(stages: ArmStages, solver: Solver) -> list[str]:
    """A sentence where an arm is measured by another stage's student than that of its last one."""
    *earlier, last = stages.students or [""]
    for label in earlier:
        if samples_student(solver, stages.students[label]):
            return [
                f"{stages.arm} is measured by the student of its stage {label}; its rows and what is exported without "
                f"--stage are those of its last stage, {last}"
            ]
    return []


def samples_student(solver: Solver, student: Model) -> bool:
    """Whether a solver does nothing but sample this student."""
    samples_one = isinstance(solver, partial) and solver.func is plain
    return samples_one and getattr(solver, "args", ()) == (student,)


def measure_stages(run: Run, stages: ArmStages, solver: Solver) -> dict[str, Evaluation]:
    """The evaluation of each stage's student, sampled as it is; not of the one that the arm is measured by."""
    evaluations: dict[str, Evaluation] = {}
    for label, student in stages.students.items():
        if samples_student(solver, student):
            continue
        title = stage_title(stages.arm, label)
        # Wrapped anew, so that its answers are counted for the stage.
        model = run.folder.wrap_model(
            getattr(student, "inner", student), getattr(student, "role", STUDENT), title
        )
        evaluations[title] = measure_arm(
            run, title, partial(plain, model), ledger_name=evaluation_ledger(title)
        )
    return evaluations


def answer_row_problems(run: Run, name: str, solver: Solver) -> None:
    """Ask the trained student the problems of the rows that a report of measures shows, and of `evaluate.rows` more."""
    rows = stage_rows(run.folder.store, name)
    problem_ids: list[str] = []
    if run.tests:
        problem_ids += [row.problem.id for row in example_rows(rows)]
    problem_ids += further_row_problems(rows, run.recipe.evaluate.rows)
    problems_by_id = {trace.problem.id: trace for trace in run.problems}
    # A method may have made a row's problem itself, which nobody posed.
    problems = [problems_by_id[one] for one in problem_ids if one in problems_by_id]
    if not problems and not run.tests:
        return
    answer_once(
        run.folder,
        solver,
        problems,
        name=name,
        max_new_tokens=run.recipe.evaluate.sampling.max_new_tokens,
        ledger_name=examples_ledger(name),
    )
