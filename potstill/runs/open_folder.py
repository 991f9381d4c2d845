"""An open run folder: its store, budget and ledgers, and models that answer from the store.

The command line's `run` and a Python session work in the same folders. Everything is found again by content, so the
same program in the same folder continues where a killed one stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.budget import flags, prices
from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.data import files
from potstill.data.urls import local_path
from potstill.errors import ConfigError
from potstill.methods.role_annotations import role_of
from potstill.models.model import Model
from potstill.records import Progress, Trace, no_progress
from potstill.runs import manifest
from potstill.runs.budget_file import write_limits
from potstill.runs.progress_file import PROGRESS_FILE, ProgressFile
from potstill.store.cached_model import with_cache
from potstill.store.ledger import Ledger as StoreLedger
from potstill.store.store import Store
from potstill.store.truncation import Policy
from potstill.traces import Ledger, ReportSection, Session
from potstill.traces.session import OnStep

JUDGE = "judge"  # the role that judges problems of the kind "judge", whatever the method
STUDENT = "student"  # the role of a trained model whose start says none
TEACHER_WEIGHTS = (
    "teacher-weights"  # that of a training's teacher which is a folder, and no role's model
)


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """What to do about completions that failed, were cut off, or can't be paid for.

    The last two are rules for training data: they hold for what a method asks, in every round, and never for a
    measurement or a training.

    Args:
        retry_errors: ask again where a recorded generation failed; otherwise the failure is final.
        truncated: what becomes of a completion that ends at its token limit (`store.truncation`).
        when_spent: at the end of the budget "stop" the program, or go on to "train" with what was paid for.
    """

    retry_errors: bool = False
    truncated: Policy = "keep"
    when_spent: Literal["stop", "train"] = "stop"


@dataclass(frozen=True, slots=True)
class Folder:
    """An open run folder. `models` are the models behind the roles, as they were loaded."""

    path: Path
    store: Store
    models: Mapping[str, Model]
    budget: Budget
    seed: int = 0
    threads: int = 0
    progress: Progress = no_progress
    rules: AnswerRules = AnswerRules()

    def wrap_model(self, model: Model, role: str, arm: str) -> Model:
        """The model behind the store; its calls are counted for a role of an arm, in the phase of each call."""
        # A judge's answers are taken as they come, as those of a measurement are.
        is_judge = role == JUDGE
        return with_cache(
            model,
            self.store,
            role=role,
            arm=arm,
            seed=self.seed,
            progress=self.progress,
            budget=self.budget,
            retry_errors=self.rules.retry_errors,
            truncated="keep" if is_judge else self.rules.truncated,
            when_spent="stop" if is_judge else self.rules.when_spent,
        )

    def open_ledger(self, arm: str) -> StoreLedger:
        """A new ledger for an arm; what an earlier run of the arm wrote is forgotten."""
        return self.store.ledger(arm)

    def session(
        self,
        ledger: Ledger,
        arm: str,
        *,
        sections: Callable[[ReportSection], None] | None = None,
        on_step: OnStep | None = None,
        overlap_reason: Callable[[Trace], str] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Session:
        """What the operators of an arm report to, with the folder's judge where it has one.

        Args:
            ledger: takes what operators make and drop.
            arm: the name under which the judge's calls are counted.
            sections: takes what a method adds to the report.
            on_step: told of each line of the funnel.
            overlap_reason: says how a trace overlaps the evaluation set, where there is one.
            on_note: takes what a method says of the run.
        """
        judge = self.models.get(JUDGE)
        return Session(
            ledger=ledger,
            verdict_cache=self.store.verdicts,
            judge=self.wrap_model(judge, JUDGE, arm) if judge is not None else None,
            seed=self.seed,
            sections=sections,
            on_step=on_step,
            overlap_reason=overlap_reason,
            on_note=on_note,
        )


@contextmanager
def open_folder(
    path: Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    models: Mapping[str, Model] | None = None,
    budget: str | Mapping[str, Limit] = "",
    price_table: Mapping[str, prices.Price] | None = None,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = no_progress,
    rules: AnswerRules = AnswerRules(),
) -> Iterator[Folder]:
    """Open a run folder for the length of a `with` block.

    Args:
        path: the folder; made where it is missing.
        settings: what decides the results of the program, as JSON values. A folder of other settings is refused.
        models: the models by role, or by key where several play one (`methods.role_annotations`); a limit of money is
            refused where one of them has no price.
        budget: what the folder may spend, as "5usd" or "teacher=3usd,2Mtok", or the limits by role ("" for all).
        price_table: prices over those that come with potstill.
        seed: from which every random choice is derived.
        threads: CPU threads of local models and training; 0 is one a core. Part of the fingerprint.
        progress: called with (label, done, total); what it was last called with stands in `progress.json`.
        rules: what to do about completions that are not whole.
    """
    path = local_path(path)
    refuse_many_processes()
    threads = threads or os.cpu_count() or 1
    models = dict(models or {})
    if not isinstance(budget, str | Mapping):
        raise ConfigError(
            f"budget={budget!r} says no unit", fix=f'budget="{budget}usd", or "{budget}tok"'
        )
    limits = parse_budget(budget, models) if isinstance(budget, str) else budget
    # The file of a killed process goes once the folder is ours, and ours goes before the folder is another's.
    with Store.open(path) as store, ProgressFile(path / PROGRESS_FILE, progress) as watched:
        recorded = recorded_settings(settings or {}, seed, threads)
        manifest.start(path, recorded, empty=store.is_empty())
        files.save(path)
        write_limits(path, limits)
        account = Budget.from_call_log(store.attempts, limits, price_table or {})
        for key, model in models.items():
            # Refuses a limit of money on a model without a price.
            account.permit(role_of(key), model, "")
        yield Folder(path, store, models, account, seed, threads, watched, rules)


def recorded_settings(settings: Mapping[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """What a folder's manifest holds: everything that decides the results."""
    return {"seed": seed, **settings, "threads": threads or os.cpu_count() or 1}


def parse_budget(text: str, models: Mapping[str, Model]) -> dict[str, Limit]:
    """The limits of a text such as "5usd" or "teacher=3usd,2Mtok", by name; "" is the limit of the whole run."""
    amounts = [amount.strip() for amount in text.split(",") if amount.strip()]
    played_roles = [role_of(key) for key in models]
    roles = dict.fromkeys(("teacher", STUDENT, *played_roles, JUDGE))
    return flags.parse_limits(amounts, tuple(roles))


def refuse_many_processes() -> None:
    """Refuse a program that torchrun or accelerate started several times: each would ask the models for everything."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if int(processes) > 1:
        raise ConfigError(
            f"a run started in {processes} processes: each would ask the models for everything",
            expected="one process; only a training is shared out",
            fix="potstill run in one process, or torchrun --nproc-per-node 2 -m potstill train on its rows",
        )
