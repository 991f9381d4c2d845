"""A run folder: arms on the same problems, models and store; driven, trained, measured, compared, reported.

Everything is found again by content, so the same call on the same folder goes on where a killed one stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from potstill.budget import prices
from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.data import files
from potstill.errors import ConfigError, InputError, StageError
from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.results import Results, save
from potstill.evaluation.rows import Evaluation
from potstill.methods import METHODS
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Problem, Stage, Trace
from potstill.runs import exposure, manifest
from potstill.runs.driver import Solver, drive
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.results import examples_of, gather, settled, shown, trained_on
from potstill.runs.sources import load_model, load_problems, pose_all
from potstill.store import truncation
from potstill.store.cached_model import cached
from potstill.store.ledger import Ledger
from potstill.store.store import Store
from potstill.store.students import Student
from potstill.traces import (
    Session,
    check_overlap,
    decontaminate,
    perplexity,
    plain,
    score,
    using,
    verify,
)
from potstill.traces.overlap import NGRAM
from potstill.traces.verification import check_judge
from potstill.training.objective_config import Bound, Task, bind, student_key
from potstill.training.settings import TrainingSettings

UNTRAINED = "untrained"
JUDGE = "judge"  # the role that judges problems of that kind, whatever the method
EVALUATION = (
    "evaluation"  # the role of a student that is measured; its answers are judged as they come
)
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all arms of a run share."""

    recipe: Recipe
    out: Path
    store: Store
    models: Mapping[str, Model]
    problems: Sequence[Trace]
    tests: Sequence[Trace]
    progress: Progress
    budget: Budget
    threads: int = 0
    retry_errors: bool = False

    def wrapped(self, model: Model, role: str, arm: str) -> Model:
        """A model behind the store, its calls counted for a role of an arm."""
        measuring = role in (EVALUATION, JUDGE)
        return cached(
            model,
            self.store,
            role=role,
            arm=arm,
            seed=self.recipe.seed,
            progress=self.progress,
            budget=self.budget,
            retry_errors=self.retry_errors,
            truncated="keep" if measuring else self.recipe.truncated,
            when_spent="stop"
            if measuring
            else self.recipe.when_spent,  # half a measurement is none
        )

    def session(self, ledger: Ledger, arm: str) -> Session:
        """What the operators of an arm report to, with the run's judge where it has one."""
        judge = self.models.get(JUDGE)
        return Session(
            ledger=ledger,
            judgements=self.store.judgements,
            judge=self.wrapped(judge, JUDGE, arm) if judge else None,
        )


def execute(
    recipe: Recipe,
    out: Path,
    *,
    title: str = "",
    progress: Progress = silent,
    threads: int = 0,
    retry_errors: bool = False,
) -> Results:
    """Run every arm of a recipe in `out` and write results.json and rows.

    Args:
        recipe: what to run.
        out: the run folder; an unfinished run of the same recipe in it is taken up again.
        title: of the report.
        progress: called with (label, done, total).
        threads: CPU threads of local models and training; 0 is one a core. Part of the fingerprint.
        retry_errors: ask again where a recorded generation failed.
    """
    with opened(
        recipe, out, progress=progress, threads=threads, retry_errors=retry_errors
    ) as bench:
        store = bench.store
        evaluations = _baseline(bench)
        for name, arm in recipe.arms.items():
            evaluations |= _run_arm(bench, name, arm)
        names = {model.id: role for role, model in bench.models.items()}
        title = title or f"Potstill: {', '.join(recipe.arms)}"
        results = gather(store, recipe, evaluations, title=title, names=names)
        results = dataclasses.replace(
            results, notes=[*files.notes(), *bench.budget.notes(), *results.notes]
        )
        save(results, out / "results.json")
        manifest.finish(out, ["results.json"])
    return results


@contextmanager
def opened(
    recipe: Recipe,
    out: Path,
    *,
    progress: Progress = silent,
    threads: int = 0,
    retry_errors: bool = False,
) -> Iterator[Bench]:
    """What a run of this recipe in this folder works with; the store is open for the length of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"a run started in {os.environ['WORLD_SIZE']} processes: each would ask the models for everything",
            expected="one process; only a training is shared out",
            fix="potstill run in one process, or torchrun --nproc-per-node 2 -m potstill train on its rows",
        )
    threads = threads or os.cpu_count() or 1
    problems, tests = posed(recipe)
    given = {role: spec for role, spec in recipe.roles.items() if spec}
    models = {
        role: load_model(spec, threads=threads, batch=recipe.batch) for role, spec in given.items()
    }
    _check_roles(recipe, models)
    check_judge([*problems, *tests], models.get(JUDGE), f"--role {JUDGE}=SPEC")
    with Store.open(out) as store:
        manifest.start(out, settled(recipe) | {"threads": threads}, empty=store.empty())
        files.save(out)
        budget = afford(recipe, models, store)
        yield Bench(
            recipe, out, store, models, problems, tests, progress, budget, threads, retry_errors
        )


def posed(recipe: Recipe) -> tuple[list[Trace], list[Trace]]:
    """The problems to train on and those to measure on, as the learner sees them."""
    wanted = recipe.evaluate
    problems = load_problems(
        recipe.problems,
        mapping=recipe.mapping,
        limit=recipe.limit,
        seed=recipe.seed,
        kind=recipe.kind,
    )
    kind, mapping = wanted.kind or recipe.kind, wanted.mapping or recipe.mapping
    tests = (
        load_problems(
            wanted.problems, mapping=mapping, limit=wanted.limit, seed=recipe.seed, kind=kind
        )
        if wanted.problems
        else []
    )
    recorded = any(spec.startswith("recorded:") for spec in recipe.roles.values())
    return pose_all(problems, recipe.prompt, recorded=recorded), pose_all(
        tests, recipe.prompt, recorded=recorded
    )


def afford(recipe: Recipe, models: Mapping[str, Model], store: Store) -> Budget:
    """The run's budget, less what this folder has paid for; refuses a limit of money where a price is missing."""
    limits = {
        name: Limit(limit.tokens, limit.money) for name, limit in recipe.budget.by_name().items()
    }
    budget = Budget.of(store.attempts, limits, prices.own(recipe.prices))
    for role, model in models.items():
        budget.gate(role, model, "")
    return budget


def _check_roles(recipe: Recipe, models: Mapping[str, Model]) -> None:
    """Refuse before the first call a model that can't do what its role is annotated with.

    Recorded and scripted models pass: they stand in for samples, and say themselves which prompt nobody recorded.
    """
    from potstill.methods.catalogue import entry

    for name, arm in recipe.arms.items():
        for role in entry(arm.method).roles:
            model, spec = models.get(role.name), recipe.roles.get(role.name, "")
            fits = role.annotation not in (Trainable, Scored) or isinstance(model, role.annotation)
            truncation.able(recipe.truncated, model, f"the {role.name} {spec}")
            if model is not None and not fits and not spec.startswith(("recorded:", "scripted:")):
                raise ConfigError(
                    f"arm {name}: the {role.name} {spec} can't be what {arm.method} needs: {role.annotation.__name__}",
                    expected="a local checkpoint, with weights to train and to score with",
                    fix=f"--{role.name} transformers:PATH, world:student, or openai:NAME?…&weights=PATH",
                )


def _baseline(bench: Bench) -> dict[str, Evaluation]:
    """The untrained student's evaluation, where there are problems to measure on and a student that can answer."""
    student = bench.models.get("student")
    if student is None or not bench.tests:
        return {}
    ledger = bench.store.ledger(UNTRAINED)
    solver = partial(plain, bench.wrapped(student, EVALUATION, UNTRAINED))
    found = _measured(bench, UNTRAINED, solver, ledger)
    ledger.finish()
    return found


def _run_arm(bench: Bench, name: str, arm: Arm) -> dict[str, Evaluation]:
    """Drive one method; the arm's evaluation by its name."""
    ledger = bench.store.ledger(name)
    roles = {
        role: bench.wrapped(model, role, name) for role, model in _roles(arm, bench.models).items()
    }
    with using(bench.session(ledger, name)):
        ledger.made(bench.problems)
        ledger.step("problems", bench.recipe.problems, len(bench.problems), len(bench.problems))
        problems = _clean(bench)
        train = partial(_train, bench, name, arm.training, ledger)
        try:
            solver = drive(METHODS[arm.method], problems, roles, arm.values, train)
        except StageError:
            exposure.explain(bench.store, name)
            raise
    found = (
        _measured(bench, name, solver, bench.store.ledger(f"{name} evaluated"))
        if bench.tests
        else {}
    )
    if found:
        _answer_examples(bench, name, solver)
    ledger.finish()
    return found


def _roles(arm: Arm, models: Mapping[str, Model]) -> dict[str, Model]:
    """The models that the method's signature asks for."""
    from potstill.methods.catalogue import entry

    return {role.name: models[role.name] for role in entry(arm.method).roles if role.name in models}


def _clean(bench: Bench) -> list[Trace]:
    """The training problems that are no evaluation problems; overlap stops the run unless it is to be dropped."""
    held_out: list[Problem] = [t.problem for t in bench.tests]
    n = _overlap_words(bench.recipe)
    if not held_out:
        return list(bench.problems)
    if bench.recipe.overlap == "stop":
        try:
            check_overlap(held_out, bench.problems, n=n)
        except StageError as error:
            fix = "leave them out with --overlap drop (or choose another evaluation set)"
            raise StageError(error.found, expected=error.expected, fix=fix) from None
    kept = decontaminate(held_out, bench.problems, n=n)
    if not kept:
        raise InputError(
            "every training problem is an evaluation problem", fix="choose other problems"
        )
    return kept


def _overlap_words(recipe: Recipe) -> int:
    if recipe.overlap_n is not None:
        return recipe.overlap_n
    return 0 if recipe.problems.startswith("world:") else NGRAM


def _train(
    bench: Bench, arm: str, training: TrainingSettings, ledger: Ledger, stage: Stage
) -> Model:
    """The student of a stage: found by the stage's id, or trained and registered."""
    from potstill.models.local.transformers import Local
    from potstill.training.fit import fit

    exposure.check(bench.store, arm)
    chat = _chat(stage.model)
    bound = _bound(bench, training, stage)
    settings = dataclasses.replace(_settings(training, bound, bench.threads), chat=chat)
    key = student_key(stage, settings.identity(), bound.task)
    rows = _scored(stage, bound.task)
    ledger.rows(key, rows)
    _write_rows(bench.out / "rows" / f"{arm}.jsonl", rows)
    folder = bench.out / "students" / key
    start = getattr(stage.model, "weights", None)
    if start is None:
        raise StageError(
            f"the model {stage.model.id} has no weights to train",
            fix="give a transformers: or world: student",
        )
    report = fit(
        stage.rows,
        start,
        folder,
        settings,
        task=bound.task,
        progress=lambda _, done, total: bench.progress(f"{arm}/train", done, total),
    )
    model = Local(folder, threads=bench.threads, chat=chat)
    bench.store.students.put(
        Student(key, model.id, folder, settings.identity(), _report(report, arm, model.id))
    )
    return bench.wrapped(model, EVALUATION, arm)


def _bound(bench: Bench, training: TrainingSettings, stage: Stage) -> Bound:
    """The stage's keywords and the recipe's over them; a role's name stands for its model."""
    given = {**stage.constants, **training.objective_config}
    for name in ("teacher", "reference"):
        if isinstance(given.get(name), str) and given[name] in bench.models:
            given[name] = bench.models[given[name]]
    return bind(given.pop("objective", stage.objective), given)


def _scored(stage: Stage, task: Task) -> list[Trace]:
    """The rows with their perplexity under the model they are to train, where it gives likelihoods; logged only."""
    rows = list(stage.rows)
    if task.rollout == 1:
        return rows
    return (
        score("perplexity", perplexity(stage.model), rows)
        if isinstance(stage.model, Scored)
        else rows
    )


def _chat(model: Any) -> Any:
    """What the student's chat template is told: a student is trained as it is asked."""
    encoder = getattr(getattr(model, "inner", model), "encoder", None)
    if encoder and encoder.plain:
        raise StageError(
            "the student reads prompts as plain text (?chat=plain)",
            expected="a student with a chat template: it is trained as it is asked",
            fix="put a chat_template.jinja into its folder and leave ?chat=plain out",
        )
    return encoder.chat if encoder else "auto"


def _settings(training: TrainingSettings, bound: Bound, threads: int) -> TrainingSettings:
    """The arm's settings over the stage's own; the stage's count only where the recipe left the default."""
    fields = {f.name: f.default for f in dataclasses.fields(TrainingSettings)}
    own = {k: v for k, v in bound.settings.items() if getattr(training, k) == fields[k]}
    return dataclasses.replace(training, **own, threads=training.threads or threads)


def _report(report: Any, arm: str, model: str) -> dict[str, Any]:
    plain_report = dataclasses.asdict(report)
    losses = plain_report.pop("losses")
    ends = {"first_loss": losses[0], "last_loss": losses[-1]} if losses else {}
    return plain_report | ends | {"arm": arm, "student": model}


def _measured(bench: Bench, name: str, solver: Solver, ledger: Ledger) -> dict[str, Evaluation]:
    wanted = bench.recipe.evaluate
    with using(bench.session(ledger, name)):
        ledger.made(bench.tests)
        asking = partial(solver, n=wanted.n, **dict(wanted.sampling.changed()))
        found = evaluate(
            asking,
            list(bench.tests),
            name=name,
            n=wanted.n,
            sampling=wanted.sampling,
            seed=bench.recipe.seed,
            threads=bench.threads,
        )
    ledger.finish()
    return {name: found}


def _answer_examples(bench: Bench, name: str, solver: Solver) -> None:
    """Ask the trained student the problems of the rows that the report shows."""
    ledger = bench.store.ledger(examples_of(name))
    asked = {t.problem.id: t for t in bench.problems}
    rows = shown(trained_on(bench.store, name))
    longest = bench.recipe.evaluate.sampling.max_tokens
    with using(bench.session(ledger, name)):
        ledger.made(
            verify(
                solver(
                    [asked[row.problem.id] for row in rows if row.problem.id in asked],
                    n=1,
                    temperature=0.0,
                    max_tokens=longest,
                )
            )
        )
    ledger.finish()


def _write_rows(path: Path, rows: Sequence[Trace]) -> None:
    """The rows an arm trains on, as JSONL a person can read: id, problem, prompt, completion, parents, scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "id": row.id,
            "problem": row.problem.id,
            "gold": row.problem.answer,
            "prompt": row.prompt,
            "completion": row.text,
            **({"rejected": row.rival.text} if row.rival else {}),
            "author": row.author.model if row.author else "",
            "operator": row.operator,
            "parents": row.parents,
            "saw_gold": row.saw_gold,
            "scores": dict(row.scores),
        }
        for row in rows
    ]
    draft = path.with_suffix(".part")
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    draft.replace(path)
