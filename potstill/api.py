"""What `import potstill as ps` offers; docs/api.md shows it at work.

The functions of the command line, for Python: problems and models are loaded by the same specs, operators make and
choose traces, a run folder stores what was paid for and keeps the budget, students are trained and measured. The
operators of `potstill.traces` are here in a form that answers from the open folder and returns a `TraceList`.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar

from potstill import traces as operators
from potstill import verifiers
from potstill.api_checks import (
    OPERATOR_FUNCTIONS,
    check_reading,
    numbered_rows,
    refuse_other_than_answer,
    refuse_other_than_function,
    refuse_other_than_model,
    refuse_others,
)
from potstill.data.skipped import record_selection
from potstill.data.trace_files import TraceFile
from potstill.data.urls import local_path
from potstill.errors import (
    BudgetSpent,
    ConfigError,
    InputError,
    ModelError,
    PotstillError,
    StageError,
    StoreError,
)
from potstill.evaluation import instruments
from potstill.evaluation.compare import Comparison
from potstill.evaluation.compare import compare as _compare
from potstill.evaluation.rows import Evaluation
from potstill.metadata import select_problems
from potstill.models.model import Model, Sampling, Scored, Trainable
from potstill.models.scoring import Passage
from potstill.records import (
    Message,
    Problem,
    Progress,
    Span,
    Stage,
    Trace,
    Verdict,
    blank,
    no_progress,
)
from potstill.runs import sources
from potstill.runs.curation.in_python import curate
from potstill.runs.measure import measure_solver
from potstill.runs.open_folder import AnswerRules, Folder
from potstill.runs.open_folder import open_folder as _open_run_folder
from potstill.store.ledger import Ledger
from potstill.traces import check_overlap, line, ok, problem, right, sound, unparsed, using, wrong
from potstill.traces.trace_list import TraceList, trace_list
from potstill.viewer.queried_run import Run, open_run

if TYPE_CHECKING:
    import datasets

__all__ = [
    "BudgetSpent",
    "Comparison",
    "ConfigError",
    "Evaluation",
    "InputError",
    "Message",
    "Model",
    "ModelError",
    "Passage",
    "PotstillError",
    "Problem",
    "ReferenceGate",
    "Run",
    "Sampling",
    "Scored",
    "Session",
    "Span",
    "Stage",
    "StageError",
    "StoreError",
    "Trace",
    "TraceFile",
    "TraceList",
    "Trainable",
    "Verdict",
    "agreement",
    "among",
    "answer_classes",
    "answer_entropy",
    "answer_probability",
    "ask",
    "best",
    "blank",
    "by_metadata",
    "compare",
    "curate",
    "decontaminate",
    "dedupe",
    "dedupe_near",
    "derive",
    "describe_methods",
    "describe_objectives",
    "drive",
    "each",
    "edit",
    "equal",
    "evaluate",
    "few_shot",
    "from_dataset",
    "gain",
    "gold_by_vote",
    "grade",
    "instruments",
    "judge",
    "keep",
    "keep_reasoned",
    "learn",
    "leave_one_out",
    "line",
    "load_model",
    "load_problems",
    "load_rows",
    "mix",
    "nll",
    "ok",
    "open_folder",
    "open_run",
    "pair",
    "perplexity",
    "pose",
    "prefer",
    "problem",
    "read",
    "read_answers",
    "read_sections",
    "read_yes_no",
    "reading_thoughts",
    "rewrite",
    "right",
    "run",
    "same_answer",
    "sample",
    "score",
    "segment",
    "sound",
    "to_dataset",
    "token_logprobs",
    "train",
    "unparsed",
    "until",
    "verify",
    "vote",
    "weigh",
    "where",
    "wrong",
]

P = ParamSpec("P")
R = TypeVar("R")
Problems: TypeAlias = str | Path | Sequence[Problem] | Sequence[Trace]

SESSION_ARM = "session"  # the name under which a Python session's traces are kept in its folder
MEASURING_TEMPERATURE = 0.6  # of `evaluate`, as in a recipe

_SPECS: dict[str, str] = {}  # the spec that each loaded model was asked for by, by the model's id


# ---- Loading ----


def load_problems(
    source: Problems,
    *,
    limit: int = 0,
    seed: int = 0,
    kind: str = "",
    mapping: Mapping[str, str] | None = None,
    prompt: str = "",
    where: str | Sequence[str] = (),
) -> TraceList:
    """Load problems, check that their gold answers pass their own verifier, and pose them to the learner.

    Args:
        source: a file, `hf:NAME`, `gym:TASK`, `world:TASK`, or a list of `Problem`.
        limit: problems at most, chosen by a hash of seed and id; 0 is all.
        seed: of that choice.
        kind: the verifier; "" guesses from the gold answers.
        mapping: field of a problem -> column of the file.
        prompt: what the learner sees, a template with {question}; "" is the default of the problems' kind.
        where: a condition on the problems' metadata, such as "level>=4", or several, which all must hold.

    Returns:
        Blank traces, one a problem: what `sample` continues.

    Raises:
        InputError: no problems, or gold answers that their verifier does not accept.
    """
    check_reading("load_problems", source, limit, mapping)
    where = (where,) if isinstance(where, str) else tuple(where)
    if isinstance(source, str | Path):
        problems = sources.load_problems(
            str(source), mapping=mapping, limit=limit, seed=seed, kind=kind, where=where
        )
        return TraceList(sources.pose_all(problems, prompt))
    problems = [item.problem if isinstance(item, Trace) else item for item in source]
    refuse_others(problems, Problem, "load_problems", fix="a list of ps.Problem, or a file")
    if kind or mapping:
        raise ConfigError(
            "kind= and mapping= are for files; a list of problems has its kinds and no columns",
            fix="leave them out",
        )
    if where:
        selection = select_problems(problems, where)
        record_selection("the list", selection)
        problems = selection.problems
    sources.check_gold_answers(problems, "the list")
    return TraceList(sources.pose_all(problems[: limit or None], prompt))


def load_model(spec: str, *, threads: int = 0) -> Model:
    """Load the model that a spec names.

    Args:
        spec: `transformers:PATH`, `openai:NAME?at=deepseek`, `vllm:PATH`, `recorded:FILE`, `world:teacher`, …
        threads: CPU threads of a local model; 0 leaves torch's setting.

    Raises:
        ConfigError: an unknown kind or option.
        ModelError: there is no such checkpoint, or it can't be read.
    """
    if not isinstance(spec, str):
        raise ConfigError(
            f"load_model was given {spec!r:.60}",
            expected="a spec, as a text",
            fix='ps.load_model("transformers:PATH"), or another spec',
        )
    model = sources.load_model(spec, threads=threads)
    _SPECS[model.id] = spec
    return model


def load_rows(
    source: str | Path | Sequence[Mapping[str, Any]],
    *,
    limit: int = 0,
    mapping: Mapping[str, str] | None = None,
    keep_wrong: bool = False,
) -> TraceList:
    """Load rows to train on, in any layout that docs/data.md names, as traces.

    Rows that must not be learnt (labelled wrong, cut off, of weight 0) are left out; a warning says how many and why.

    Args:
        source: a file or `hf:NAME` with prompts and completions, conversations or preference pairs; or such rows.
        limit: rows at most; 0 is all.
        mapping: field -> column, where the choice is not to be made.
        keep_wrong: keep the rows that are labelled wrong too, for objectives that learn from labels (KTO).

    Raises:
        InputError: no rows, or rows of which nobody can say what they mean.
    """
    from potstill.data.rows import keep_learnable, read_traces

    check_reading("load_rows", source, limit, mapping)
    rows = None if isinstance(source, str | Path) else numbered_rows(source)
    row_traces = read_traces(
        str(source) if rows is None else "the rows",
        mapping=mapping,
        limit=limit,
        what="a file of rows to train on",
        rows=rows,
    )
    row_traces = keep_learnable(row_traces, keep_wrong=keep_wrong)
    for note in row_traces.notes:
        warnings.warn(note, stacklevel=2)
    return TraceList(row_traces.traces)


def from_dataset(
    dataset: datasets.Dataset,
    *,
    as_problems: bool = True,
    kind: str = "",
    mapping: Mapping[str, str] | None = None,
    prompt: str = "",
) -> TraceList:
    """The problems, or the rows to train on, of a Hugging Face dataset.

    Args:
        dataset: one split.
        as_problems: whether a row is a problem to work on, or a completion to learn from.
        kind: the verifier of the problems; "" guesses.
        mapping: field -> column, where the choice is not to be made.
        prompt: what the learner sees of a problem; "" is the default of its kind.
    """
    from potstill.data.rows import problems_of_rows

    check_reading("from_dataset", dataset, 0, mapping)
    if not as_problems:
        return load_rows(list(dataset), mapping=mapping)
    problems = problems_of_rows(
        numbered_rows(dataset),
        spec="the dataset",
        source="dataset",
        mapping=mapping or {},
        kind=kind or None,
    )
    return load_problems(problems, prompt=prompt)


def to_dataset(traces: Sequence[Trace]) -> datasets.Dataset:
    """The traces as a Hugging Face dataset: prompt, text, verdict, scores, lineage; needs the extra potstill[data]."""
    return trace_list(traces).to_dataset()


# ---- A run folder ----


@dataclass(frozen=True, slots=True)
class Session:
    """An open run folder in Python; what `open_folder` gives.

    `derived_rows` are the rows that were trained on here and whose problems a model wrote.
    """

    folder: Folder
    ledger: Ledger
    derived_rows: list[Trace] = dataclasses.field(default_factory=list)

    def __repr__(self) -> str:
        return f"Session({str(self.folder.path)!r})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    def spent(self) -> dict[str, tuple[int, float]]:
        """By model and phase, what this folder has paid: tokens, and money in USD."""
        spent = self.folder.store.attempts.spent_by_role()
        return {role: (amount.tokens, amount.cost) for role, amount in spent.items()}

    def trace(self, id: str) -> Trace | None:
        """A trace that the folder has seen; None where it has not."""
        return self.folder.store.history.trace(id)


_SESSION: ContextVar[Session | None] = ContextVar("potstill_open_folder", default=None)


@contextmanager
def open_folder(
    path: str | Path,
    *,
    budget: str = "",
    seed: int = 0,
    threads: int = 0,
    progress: Progress = no_progress,
    truncated: Literal["keep", "drop", "continue", "raise", "shorter"] = "keep",
    retry_errors: bool = False,
) -> Iterator[Session]:
    """Work in a run folder for the length of a `with` block.

    Every model call of an operator is answered from the folder's store where it is there, paid for at most once, and
    kept before anyone sees it; the budget is never overshot. The same program in the same folder continues where a
    killed one stopped.

    Args:
        path: the folder; made where it is missing.
        budget: what may be spent: "5usd", "2Mtok", both with a comma between; "" is no limit.
        seed: from which every sample is derived.
        threads: CPU threads of trainings; 0 is one a core.
        progress: called with (label, done, total).
        truncated: what becomes of a completion that ends at its token limit, as in a recipe.
        retry_errors: ask again where a recorded generation failed.

    Raises:
        StoreError: the folder belongs to a recipe or another seed, or another process has it open.
    """
    rules = AnswerRules(retry_errors=retry_errors, truncated=truncated)
    with _open_run_folder(
        path, budget=budget, seed=seed, threads=threads, progress=progress, rules=rules
    ) as folder:
        ledger = folder.open_ledger(SESSION_ARM)
        session = Session(folder, ledger)
        token = _SESSION.set(session)
        try:
            with using(folder.session(ledger, SESSION_ARM)):
                yield session
            ledger.finish()
        finally:
            _SESSION.reset(token)


def _behind_store(model: Any, role: str = "") -> Any:
    """The model behind the open folder's store.

    It is returned as it is where no folder is open, where it is no model, and where it is behind a store already: a
    student that was trained here, or a role of a method that a run drives.
    """
    session = _SESSION.get()
    if session is None or not isinstance(model, Model) or hasattr(model, "inner"):
        return model
    return session.folder.wrap_model(model, role or model_name(model), SESSION_ARM)


def _call_behind_store(function: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function with every model among its arguments behind the open folder's store."""
    named = {name: _behind_store(value) for name, value in kwargs.items()}
    return function(*map(_behind_store, args), **named)


def model_name(model: Model) -> str:
    """What people call a model: the spec that it was loaded by, or its id."""
    return _SPECS.get(model.id, model.id)


# ---- Operators ----


def _operator(function: Callable[P, list[Trace]]) -> Callable[P, TraceList]:
    """An operator of `potstill.traces`, its models behind the open folder's store, its traces as a TraceList."""

    @functools.wraps(function)
    def operator(*args: P.args, **kwargs: P.kwargs) -> TraceList:
        name = function.__name__
        if name in OPERATOR_FUNCTIONS and args:
            refuse_other_than_function(args[0], name, OPERATOR_FUNCTIONS[name])
        if name in ("sample", "rewrite") and args:
            refuse_other_than_model(args[0], name)
            if len(args) > 1:
                refuse_others(args[1], Trace, name, fix="ps.load_problems(…)")
        return TraceList(_call_behind_store(function, args, kwargs))

    return operator


def _asking(function: Callable[P, R]) -> Callable[P, R]:
    """What asks a model, or makes a scorer that does, with the model behind the store of the folder that is open."""

    @functools.wraps(function)
    def ask_behind_store(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = _call_behind_store(function, args, kwargs)
        return result

    return ask_behind_store


sample = _operator(operators.sample)
rewrite = _operator(operators.rewrite)
edit = _operator(operators.edit)
pose = _operator(operators.pose)
verify = _operator(operators.verify)
score = _operator(operators.score)
segment = _operator(operators.segment)
keep = _operator(operators.keep)
keep_reasoned = _operator(operators.keep_reasoned)
ReferenceGate = operators.ReferenceGate
learn = _operator(operators.learn)
best = _operator(operators.best)
pair = _operator(operators.pair)
weigh = _operator(operators.weigh)
mix = _operator(operators.mix)
dedupe = _operator(operators.dedupe)
dedupe_near = _operator(operators.dedupe_near)
decontaminate = _operator(operators.decontaminate)
derive = _operator(operators.derive)
where = operators.where
by_metadata = operators.by_metadata
gold_by_vote = _operator(operators.gold_by_vote)
vote = _operator(operators.vote)
each = _operator(operators.each)
among = _operator(operators.among)
until = _operator(operators.until)
few_shot = operators.few_shot
agreement = operators.agreement
read_sections = operators.read_sections
read_yes_no = operators.read_yes_no
answer_classes = operators.answer_classes
answer_entropy = operators.answer_entropy
read_answers = operators.read_answers
same_answer = operators.same_answer
grade = operators.grade
prefer = operators.prefer
ask = _asking(operators.ask)
nll = _asking(operators.nll)
perplexity = _asking(operators.perplexity)
gain = _asking(operators.gain)
answer_probability = _asking(operators.answer_probability)
token_logprobs = _asking(operators.token_logprobs)
leave_one_out = _operator(operators.leave_one_out)
reading_thoughts = verifiers.reading_thoughts


def judge(problem: Problem | Trace, text: str) -> Verdict:
    """The verdict of a problem's verifier on a text: right, wrong, unparsed or unjudged, with the reason.

    Args:
        problem: a problem, or a trace on it, such as `load_problems` gives.
        text: the answer, with the reasoning before it if there is any.
    """
    refuse_other_than_answer("judge", problem, text)
    if isinstance(problem, Trace):
        problem = problem.problem
    return verifiers.judge([(problem, text)])[0]


def read(problem: Problem | Trace, text: str) -> str | None:
    """The final answer of a text, as the problem's verifier reads it without looking at the gold answer.

    Args:
        problem: a problem, or a trace on it; it says which verifier reads, and the options. It needs no gold answer.
        text: the answer, with the reasoning before it if there is any.

    Returns:
        The answer, or None where none can be read.
    """
    refuse_other_than_answer("read", problem, text)
    return operators.read(problem, text)


def equal(problem: Problem | Trace, first: str, second: str) -> bool:
    """Whether two answers are one to the problem's verifier: `0.5` and `\\frac12` of kind math are.

    Args:
        problem: a problem, or a trace on it; it needs no gold answer.
        first: an answer, as `read` or a verdict gives it.
        second: another one.
    """
    refuse_other_than_answer("equal", problem, first, second)
    return operators.equal(problem, first, second)


# ---- Training and measuring ----


def train(
    student: Model,
    rows: Sequence[Trace],
    *,
    objective: str = "sft",
    out: str | Path | None = None,
    name: str = "trained",
    **settings: Any,
) -> Model:
    """Train a student on traces and return it.

    Args:
        student: a local model (`transformers:PATH`, `world:student`); it is not changed.
        rows: what it learns from; failed generations are left out.
        objective: a name that `describe_objectives()` lists.
        out: the folder of the student; in an open folder it is chosen by content, and a student that is there already
            is not trained again.
        name: of the rows and calls in the open folder's tables.
        settings: training settings (`learning_rate`, `num_train_epochs`, `batch_size` …), the objective's constants,
            and `teacher=`, `reference=` models; docs/training.md lists them.

    Raises:
        ConfigError: an unknown setting, or a value it can't have.
        StageError: no rows, or rows that would teach the wrong thing.
    """
    from potstill.runs.train import train_rows, train_stage
    from potstill.runs.train_settings import convert_training_keywords
    from potstill.training.settings import TrainingSettings

    refuse_other_than_model(student, "train")
    refuse_others(rows, Trace, "train", fix="ps.load_rows(…) reads files and lists of rows")
    settings = convert_training_keywords(objective, settings)
    stage = Stage(_behind_store(student), list(rows), objective, **settings)
    session = _SESSION.get()
    if session is not None:
        session.derived_rows.extend(row for row in stage.rows if row.problem.parents)
    if session is not None and out is None:
        trained = train_stage(
            session.folder, stage, TrainingSettings(), arm=name, ledger=session.ledger
        )
    elif out is not None:
        trained = train_rows(stage, local_path(out), TrainingSettings())
    else:
        raise ConfigError(
            "train was called without a folder for the student.",
            fix='with ps.open_folder("runs/mine"): …, or train(…, out="students/mine")',
        )
    _SPECS.setdefault(trained.id, name)
    return trained


def evaluate(
    solver: Model | Callable[..., list[Trace]],
    problems: Problems,
    *,
    n: int = 4,
    temperature: float = MEASURING_TEMPERATURE,
    name: str = "",
    seed: int = 0,
    **sampling: Any,
) -> Evaluation:
    """Measure a model, or a solver, with intervals that are clustered by problem.

    The sampling is bound here and nowhere else, so that the fingerprint says what was really asked.

    Args:
        solver: a model, or a function called as solver(problems, n=…, **sampling) that returns n traces a problem.
        problems: what to ask: problems, blank traces, or a spec of `load_problems`.
        n: answers a problem.
        temperature: of each answer; 0 is greedy.
        name: of the evaluation in comparisons; "" is the model's.
        seed: of every sample; in an open folder it is the folder's.
        sampling: other fields of `Sampling`.

    Raises:
        StageError: a problem that a model wrote (`derive`), and that was trained on in this folder, is among these.
    """
    from potstill.evaluation.benchmark import evaluate as measure
    from potstill.runs.recordings import recorded_problems
    from potstill.runs.trained_prompt import other_prompt_note

    blanks = problems if isinstance(problems, TraceList) else load_problems(problems)
    if not callable(solver):
        refuse_other_than_model(solver, "evaluate")
    fields = tuple(field.name for field in dataclasses.fields(Sampling))
    unknown = [field for field in sampling if field not in fields]
    if unknown:
        raise ConfigError(
            f"evaluate got the unknown setting {unknown[0]!r}", available=fields, wanted=unknown[0]
        )
    settings = Sampling(temperature=temperature, **sampling)
    if isinstance(solver, Model):
        name = name or model_name(getattr(solver, "inner", solver))
        answered, missing_note = recorded_problems(solver, blanks, n, spec=name)
        if missing_note:
            warnings.warn(missing_note, stacklevel=2)
            blanks = TraceList(answered)
        prompt_note = other_prompt_note(getattr(solver, "inner", solver), blanks)
        if prompt_note:
            warnings.warn(prompt_note, stacklevel=2)
        solver = functools.partial(operators.plain, _behind_store(solver))
    name = name or getattr(solver, "__name__", "solver")
    session = _SESSION.get()
    if session is not None:
        # Whole questions alone are compared: nobody says here whether problems come from one mould.
        check_overlap([blank.problem for blank in blanks], session.derived_rows, n=0)
        return measure_solver(
            session.folder,
            solver,
            blanks,
            name=name,
            n=n,
            sampling=settings,
            ledger_name=f"{SESSION_ARM}: {name}",
        )
    return measure(solver, blanks, name=name, n=n, sampling=settings, seed=seed)


def compare(arm: Evaluation, base: Evaluation, *, force: bool = False) -> Comparison:
    """The paired difference of two evaluations in avg@n, with its 95 % interval; `print` gives the sentence.

    Args:
        arm: the evaluation that is compared.
        base: the evaluation that it is compared with.
        force: compare also what was not asked the same; the sentence then says what differs.

    Raises:
        ConfigError: the two were not asked the same, or share no problem.
    """
    return _compare(arm, base, force=force)


# ---- Methods ----


def run(
    method: str,
    problems: Problems,
    *,
    out: str | Path | None = None,
    evaluate: Problems | None = None,
    eval_n: int = 4,
    budget: str = "",
    seed: int = 0,
    threads: int = 0,
    progress: Progress = no_progress,
    training: Mapping[str, Any] | None = None,
    **roles_and_values: Any,
) -> Run:
    """Run a method to its end: collect, verify, train, measure.

    Args:
        method: a name that `describe_methods()` lists, or `FILE.py:NAME`.
        problems: to train on.
        out: the run folder; runs/METHOD where it is not given. The same call on the same folder continues a killed run.
        evaluate: problems to measure the untrained and the trained student on; nothing is measured without.
        eval_n: answers a problem when measuring; `n` is the method's own value, where it has one.
        budget: what may be spent: "5usd", "teacher=2Mtok".
        seed: from which every random choice is derived.
        threads: CPU threads; 0 is one a core.
        progress: called with (label, done, total).
        training: training settings, as in a recipe.
        roles_and_values: the method's roles (models or specs) and values, by name.

    Raises:
        ConfigError: every mistake in roles, values and settings at once, before anything is asked.
        BudgetSpent: nothing is lost; the same call with a larger budget goes on.
    """
    from potstill.methods import catalogue
    from potstill.report.page import write_report
    from potstill.runs.run_method import RunSettings, run_method, split_roles

    models, values = split_roles(catalogue.method_entry(method), roles_and_values)
    settings = RunSettings(eval_n, budget, seed, threads, training or {}, values)
    folder = local_path(out or Path("runs") / catalogue.short_name(method))
    run_method(
        method,
        _as_posed(problems, models),
        [] if evaluate is None else _as_posed(evaluate, models),
        models,
        settings,
        out=folder,
        name_model=model_name,
        progress=progress,
        publish=lambda results: write_report(results, folder / "report.html"),
    )
    return Run(folder)


def _as_posed(problems: Problems, roles: Mapping[str, Any]) -> TraceList:
    """Blank traces; recorded models were asked the bare question, so with one in a role the learner sees that too."""
    if isinstance(problems, TraceList):
        return problems
    specs: list[Any] = []
    for value in roles.values():
        specs += value if isinstance(value, list | tuple) else [value]
    is_recorded = any(isinstance(spec, str) and spec.startswith("recorded:") for spec in specs)
    return load_problems(problems, prompt="{question}" if is_recorded else "")


def drive(
    method: Callable[..., Any],
    problems: Sequence[Trace],
    roles: Mapping[str, Any],
    values: Mapping[str, Any],
    train: Callable[[Stage], Any],
) -> Callable[..., list[Trace]]:
    """Drive a method's generator with a trainer of your own, and return its solver.

    Args:
        method: a generator function that yields stages.
        problems: blank traces.
        roles: models by the method's parameter names.
        values: the method's other parameters.
        train: takes a stage and returns the model that it makes.
    """
    from potstill.runs.driver import drive as drive_method

    behind_store = {name: _behind_store(model) for name, model in roles.items()}
    return drive_method(method, list(problems), behind_store, values, train)


def describe_methods(name: str = "") -> list[dict[str, Any]]:
    """The methods with their papers, roles and values; or the one of this name."""
    from potstill.methods import catalogue

    names = [name] if name else catalogue.method_names()
    return [catalogue.entry_to_json(catalogue.method_entry(each_name)) for each_name in names]


def describe_objectives() -> list[dict[str, Any]]:
    """The objectives by name, with what they need and their constants with defaults."""
    from potstill import objectives

    described = []
    for name in objectives.TABLE:
        entry = objectives.entry(name)
        described.append(
            {
                "name": name,
                "needs": list(entry.needs),
                "constants": dict(objectives.constants(name)),
            }
        )
    return described
