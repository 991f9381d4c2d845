"""Try a method's prompts on the same training problems, and choose the one that its writer follows best.

Each prompt is an arm of one run that ends with its rows, in one folder: what does not depend on the prompt (the
student's attempts, the teacher's chains) is asked once, and a second call asks nobody. The dev split is taken from the
training problems, never from the evaluation set.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from potstill.data import atomic_write
from potstill.errors import ConfigError, StageError
from potstill.evaluation.prompt_choice import PromptChoice, PromptOutcome, choose_prompt
from potstill.methods.catalogue import MethodEntry, method_entry
from potstill.methods.prompt_variants import Overrides, PromptVariants, find_prompt_variants
from potstill.methods.role_annotations import fill_roles, role_of
from potstill.models.model import Model
from potstill.records import Progress, Stage, Trace, no_progress
from potstill.runs import preflight
from potstill.runs.drops import DropCounter, check_errors, kind_of_reason
from potstill.runs.experiment import Run, open_run
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.train import write_rows
from potstill.store import Store
from potstill.traces import using

TUNING_FILE = "tuning.json"
REWRITES_FILE = "rewrites.jsonl"
N_PROBLEMS = 24
STAGE_LABEL = "1"  # rows of the first stage are compared


class Scope(NamedTuple):
    """What is tried.

    Args:
        n_problems: training problems at most, chosen as a recipe's `limit` chooses them.
        arm: which arm of a recipe is tuned, where it has several.
        only: these prompts and controls; all without names.
    """

    n_problems: int = N_PROBLEMS
    arm: str = ""
    only: tuple[str, ...] = ()


class Written(NamedTuple):
    """A text that was written under a prompt: what became of it, and why it is not sound."""

    trace: Trace
    status: str
    reason: str


class TriedPrompt(NamedTuple):
    """A prompt's outcome, its texts, and what else people should know of it."""

    outcome: PromptOutcome
    texts: list[Written]
    note: str


@dataclass(frozen=True, slots=True)
class Tuning:
    """What came of a method's prompts.

    Args:
        method: its name.
        arm: the recipe's arm that was tuned.
        choice: the prompts in order.
        overrides: of the chosen one, by dotted key of the method's values.
        current: the variant that the recipe would use; "" where it is none of them.
        dev_problems: ids of the training problems that were taken.
        notes: what else people should know.
    """

    method: str
    arm: str
    choice: PromptChoice
    overrides: Overrides
    current: str
    dev_problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def set_flags(self) -> list[str]:
        """The words that give `potstill run` the chosen prompt."""
        words: list[str] = []
        for key, value in self.overrides.items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{key}={text}"]
        return words

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "method": self.method,
            "arm": self.arm,
            "choice": self.choice.name,
            "set": dict(self.overrides),
            "flags": self.set_flags,
            "current": self.current,
            "prompts": [prompt.to_json() for prompt in self.choice.prompts],
            "sentences": list(self.choice.sentences),
            "problems": list(self.dev_problems),
            "compared_on": list(self.choice.problems),
            "notes": list(self.notes),
        }


def tune_prompts(
    recipe: Recipe,
    out: Path,
    scope: Scope,
    *,
    progress: Progress = no_progress,
    announce: Callable[[str], None] = lambda line: None,
    threads: int = 0,
    retry_errors: bool = False,
    models: Mapping[str, Model] | None = None,
    problems: Sequence[Trace] | None = None,
) -> Tuning:
    """Try every prompt of a recipe's method and choose one; write tuning.json and rewrites.jsonl into the folder.

    Args:
        recipe: with the method, its values, problems and roles.
        out: the folder; the same call on it asks nobody again.
        scope: what is tried, and on how many problems.
        progress: called with (label, done, total).
        announce: called with a line that people should read as it goes.
        threads: CPU threads of local models; 0 is one a core.
        retry_errors: ask again where a recorded generation failed.
        models: by role, in the place of those that the recipe names.
        problems: blank traces to try the prompts on, in the place of the recipe's.

    Raises:
        ConfigError: the method declares no prompts.
        StageError: no prompt gave a sound text.
    """
    name, arm = choose_arm(recipe, scope.arm)
    entry = method_entry(arm.method)
    table = find_prompt_variants(entry).restricted_to(scope.only)
    tuned = tuning_recipe(recipe, arm, entry, table, scope.n_problems)
    with open_run(
        tuned,
        out,
        progress=progress,
        threads=threads,
        retry_errors=retry_errors,
        models=models,
        problems=None if problems is None else list(problems),
        tests=None if problems is None else [],
        rows_only=True,
    ) as run:
        announce(f"{entry.name}: {len(tuned.arms)} prompts on {len(run.problems)} problems")
        tried = try_prompts(run, entry, table, announce)
        dev_problems = tuple(trace.problem.id for trace in run.problems)

    lines: list[str] = []
    for prompt in tried:
        lines += [json.dumps(written_to_json(prompt.outcome.name, text)) for text in prompt.texts]
    atomic_write.write_text(out / REWRITES_FILE, "".join(f"{line}\n" for line in lines))
    current = current_variant(arm, entry, table)
    choice = choose_prompt([prompt.outcome for prompt in tried], current)
    tuning = Tuning(
        method=arm.method,
        arm=name,
        choice=choice,
        overrides=table.variants[choice.name],
        current=current,
        dev_problems=dev_problems,
        notes=tuple(prompt.note for prompt in tried if prompt.note),
    )
    document = json.dumps(tuning.to_json(), indent=2, ensure_ascii=True)
    atomic_write.write_text(out / TUNING_FILE, document + "\n")
    return tuning


def try_prompts(
    run: Run, entry: MethodEntry, table: PromptVariants, announce: Callable[[str], None]
) -> list[TriedPrompt]:
    """Drive the method once with each prompt, and read what was written under it."""
    tried: list[TriedPrompt] = []
    for number, (name, arm) in enumerate(run.recipe.arms.items()):
        run.folder.progress("prompts", number, len(run.recipe.arms))
        stopped = drive_to_rows(run, name, arm, entry)
        texts = read_written(run.folder.store, name, table)
        note = ""
        if stopped is not None:
            # A method may stop because no text passed: that is an outcome. Where nothing was written, it is none.
            if not texts:
                raise stopped
            note = f"{name}: {stopped.found}"
        outcome = summarize(name, texts, is_control=name in table.controls)
        announce(f"{name}: {outcome.statuses.get('sound', 0)} of {outcome.written} texts are sound")
        tried.append(TriedPrompt(outcome, texts, note))
    run.folder.progress("prompts", len(tried), len(tried))
    return tried


# From a recipe to one with an arm for each prompt.


def choose_arm(recipe: Recipe, name: str) -> tuple[str, Arm]:
    """The arm whose method is tuned."""
    if not name and len(recipe.arms) == 1:
        [name] = recipe.arms
    if name not in recipe.arms:
        message = f"the recipe has {len(recipe.arms)} arms"
        if name:
            message = f"no arm {name!r}"
        raise ConfigError(
            message,
            expected="the arm whose prompts are compared",
            available=recipe.arms,
            wanted=name,
            fix="--arm NAME",
        )
    return name, recipe.arms[name]


def tuning_recipe(
    recipe: Recipe, arm: Arm, entry: MethodEntry, table: PromptVariants, n_problems: int
) -> Recipe:
    """The recipe with an arm for each variant and control, on as many of its training problems."""
    arms: dict[str, Arm] = {}
    for name in [*table.variants, *table.controls]:
        values = override_values(arm.values, entry, table.overrides_of(name))
        arms[name] = Arm(arm.method, values, arm.training)
    limit = min(recipe.limit or n_problems, n_problems)
    return dataclasses.replace(recipe, arms=arms, limit=limit, compare="")


def override_values(
    values: Mapping[str, Any], entry: MethodEntry, overrides: Overrides
) -> dict[str, Any]:
    """The values of a method with others in their place, by dotted key."""
    defaults = {value.name: value.default for value in entry.values}
    changed = dict(values)
    for key, value in overrides.items():
        name, _, field = key.partition(".")
        if name not in defaults:
            raise unknown_key(entry, key, list(defaults))
        if not field:
            changed[name] = value
            continue
        settings = changed.get(name, defaults[name])
        if not dataclasses.is_dataclass(settings) or not hasattr(settings, field):
            raise unknown_key(entry, key, list(defaults))
        changed[name] = dataclasses.replace(settings, **{field: value})  # type: ignore[type-var]
    return changed


def unknown_key(entry: MethodEntry, key: str, names: Sequence[str]) -> ConfigError:
    """The error of a table that sets what the method does not have."""
    return ConfigError(
        f"the table of prompts of {entry.name} sets {key}, which the method does not have",
        available=names,
        wanted=key,
    )


def current_variant(arm: Arm, entry: MethodEntry, table: PromptVariants) -> str:
    """The variant whose values the arm has; "" where it has none's."""
    # Values that the arm leaves out are the defaults.
    defaults = {value.name: value.default for value in entry.values}
    values = {**defaults, **arm.values}
    for name, overrides in table.variants.items():
        if override_values(values, entry, overrides) == values:
            return name
    return ""


# One prompt.


def drive_to_rows(run: Run, name: str, arm: Arm, entry: MethodEntry) -> StageError | None:
    """Drive a method up to its first stage and write down its rows, none where no text passed.

    Returns:
        The error that a method stopped by because it had nothing to learn from.
    """
    folder = run.folder
    # Each prompt has the ledger and the counted samples of an arm: what two of them ask alike is asked once.
    ledger = folder.open_ledger(name)
    wrapped_models: dict[str, Model] = {}
    for key, model in folder.models.items():
        wrapped_models[key] = folder.wrap_model(model, role_of(key), name)
    roles = fill_roles(entry.roles, wrapped_models)
    drops = DropCounter()
    session = folder.session(
        ledger, name, overlap_reason=preflight.overlap_rule(run.recipe, run.tests)
    )
    # Up to the first stage: no student is trained.
    stopped: StageError | None = None
    rows: list[Trace] = []
    with using(dataclasses.replace(session, drop_counts=drops)):
        ledger.add_traces(run.problems)
        problems = preflight.remove_overlap(run.recipe, run.problems, run.tests)
        try:
            stage = next(entry.method(problems, **roles, **arm.values), None)
            check_errors(name, drops)
        except StageError as error:
            stopped = error
            stage = None
    if isinstance(stage, Stage):
        rows = list(stage.rows)
        ledger.rows(stage.id, rows, label=STAGE_LABEL)
    elif stopped is None:
        raise ConfigError(f"{entry.name} trains nothing: it has no rows to compare prompts by")
    # Also where there is none, so that nobody reads the rows of another call.
    write_rows(folder.path / "rows" / f"{name}.jsonl", rows)
    ledger.finish()
    return stopped


def read_written(store: Store, arm: str, table: PromptVariants) -> list[Written]:
    """What was written under an arm's prompt, each text with what became of it."""
    traces = {trace.id: trace for trace in store.history.traces(arm)}
    # A text may be dropped more than once: the first test that dropped it is the reason.
    rows = rows_by_text(store, arm, traces, table)
    reasons: dict[str, str] = {}
    for drop in store.history.drops(arm):
        reasons.setdefault(drop.id, f"{drop.test}: {kind_of_reason(drop.reason)}")
    texts: list[Written] = []
    for trace in traces.values():
        if not table.is_written(trace):
            continue
        row = rows.get(trace.id)
        if row is None:
            status = "dropped"
            if trace.error:
                status = "failed"
            elif trace.verdict.status in ("wrong", "unparsed"):
                status = trace.verdict.status
            texts.append(Written(trace, status, reasons.get(trace.id, "no row was made of it")))
        elif row.scores.get("steps") == 0:
            texts.append(Written(trace, "wrong", "a step is wrong"))
        else:
            texts.append(Written(trace, "sound", ""))
    return texts


def rows_by_text(
    store: Store, arm: str, traces: Mapping[str, Trace], table: PromptVariants
) -> dict[str, Trace]:
    """The row that was made of each text, by the text's id; texts of which none was made are left out."""
    rows: dict[str, Trace] = {}
    for row_ids in store.history.row_ids(arm).values():
        for row_id in row_ids:
            # From the row up to the text itself: a method may have cut it or moved it under another prompt.
            family = [traces[row_id]]
            while family:
                member = family.pop()
                if table.is_written(member):
                    rows[member.id] = traces[row_id]
                else:
                    family += [traces[parent] for parent in member.parents if parent in traces]
    return rows


def summarize(name: str, texts: Sequence[Written], *, is_control: bool) -> PromptOutcome:
    """The outcome of a prompt."""
    by_problem: dict[str, list[float]] = {}
    words_by_problem: dict[str, set[str]] = {}
    for text in texts:
        is_sound = float(text.status == "sound")
        by_problem.setdefault(text.trace.problem.id, []).append(is_sound)
        words = " ".join(text.trace.text.split())
        words_by_problem.setdefault(text.trace.problem.id, set()).add(words)
    shares = {problem: sum(values) / len(values) for problem, values in by_problem.items()}
    reasons = Counter(text.reason for text in texts if text.reason)
    tokens = sum(text.trace.tokens.completion for text in texts)
    return PromptOutcome(
        name=name,
        is_control=is_control,
        shares=shares,
        texts={problem: frozenset(words) for problem, words in words_by_problem.items()},
        written=len(texts),
        statuses=Counter(text.status for text in texts),
        reasons=dict(reasons.most_common()),
        tokens=tokens / max(1, len(texts)),
    )


def written_to_json(prompt: str, text: Written) -> dict[str, Any]:
    """A line of rewrites.jsonl."""
    trace = text.trace
    return {
        "prompt": prompt,
        "problem": trace.problem.id,
        "question": trace.question,
        "answer": trace.problem.answer,
        "status": text.status,
        "reason": text.reason,
        "text": trace.text,
        "trace": trace.id,
    }
