"""Runs that end with their rows: nothing is trained, so nobody needs weights, torch or a student that is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, final

from potstill.errors import ConfigError, PotstillError
from potstill.extras import extra_error, missing_packages
from potstill.methods.catalogue import method_entry
from potstill.methods.role_annotations import keys_of, needs_weights
from potstill.models.model import Completion, Model, Request
from potstill.models.ray_spec import inner_spec
from potstill.records import Stage, Trace, digest
from potstill.runs.open_folder import Folder
from potstill.runs.recipe import Recipe
from potstill.runs.sources import checkpoint_of, load_model
from potstill.runs.train import write_rows
from potstill.store.ledger import Ledger

ROWS_ONLY_NOTE = (
    "nothing was trained or measured: these are the rows of the first stage (--rows-only)"
)


@final
class UnaskedStudent:
    """A student that rows are collected for and that is not loaded.

    Args:
        name: its spec, or its role where it has none; part of its id.
        weights: its checkpoint, where it is here.
        refusal: what to raise where it is asked after all.
    """

    def __init__(self, name: str, weights: Path | None, refusal: PotstillError) -> None:
        self.id = digest("unasked", name)
        self.weights, self.refusal = weights, refusal

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """Refuse: nothing is loaded that could answer."""
        raise self.refusal


class RowsCollected(Exception):
    """The rows of an arm's first stage are written: the arm ends here."""


def collect_rows(folder: Folder, stage: Stage, *, arm: str, ledger: Ledger, label: str) -> NoReturn:
    """Write the rows of a stage and end the arm.

    Args:
        folder: of the run.
        stage: whose rows are wanted.
        arm: the name under which they are written.
        ledger: of the arm.
        label: of the stage.
    """
    ledger.rows(stage.id, stage.rows, label=label)
    write_rows(folder.path / "rows" / f"{arm}.jsonl", stage.rows)
    raise RowsCollected


def load_to_collect(recipe: Recipe, threads: int) -> dict[str, Model]:
    """The models of a run that ends with its rows, by key.

    A student that is not given, or that this installation can't load, stands there unloaded.
    """
    models: dict[str, Model] = {}
    for key, spec in recipe.roles.items():
        if spec:
            models[key] = load_or_leave(spec, threads=threads, batch=recipe.batch)
    return models | left_out_students(recipe, models)


def load_or_leave(spec: str, *, threads: int, batch: bool) -> Model:
    """The model of a spec; a checkpoint that this installation can't load stands there unloaded."""
    if is_local_checkpoint(spec) and missing_packages("local"):
        return UnaskedStudent(spec, checkpoint_of(spec), missing_extra_error(spec))
    return load_model(spec, threads=threads, batch=batch)


def left_out_students(recipe: Recipe, models: Mapping[str, Model]) -> dict[str, Model]:
    """A student that is not loaded for each role that the methods train and that the recipe leaves out."""
    students: dict[str, Model] = {}
    for arm in recipe.arms.values():
        for role in method_entry(arm.method).roles:
            is_trained = needs_weights(role.annotation) and not role.optional
            if is_trained and not keys_of(role.name, models):
                students[role.name] = UnaskedStudent(role.name, None, not_given_error(role.name))
    return students


def is_local_checkpoint(spec: str) -> bool:
    """Whether a model's weights are computed with here."""
    kind, _, name = inner_spec(spec).partition(":")
    return kind == "transformers" or (kind == "world" and name != "oracle")


def refuse_asked_students(
    recipe: Recipe, models: Mapping[str, Model], problems: Sequence[Trace]
) -> None:
    """Refuse, before anybody is asked, a method that asks a student which is not loaded.

    Whether it does is seen by driving it with stand-ins, which ask and cost nothing.
    """
    unloaded: dict[str, UnaskedStudent] = {}
    for key, model in models.items():
        if isinstance(model, UnaskedStudent):
            unloaded[key] = model
    if not unloaded:
        return
    from potstill.runs.dry_run import drive_with_stand_ins
    from potstill.runs.stand_in import Assumptions

    driven = drive_with_stand_ins(
        recipe, problems, [], {"": Assumptions()}, extra_roles=tuple(unloaded), rows_only=True
    )
    for key, model in unloaded.items():
        if driven.calls_of(key) is not None:
            raise model.refusal


def missing_extra_error(spec: str) -> ConfigError:
    """What is wrong where a student that can't be loaded is asked."""
    return extra_error("local", spec, fix="a student on a server: --student openai:NAME?at=…")


def not_given_error(role: str) -> ConfigError:
    """What is wrong where a student that was not given is asked."""
    return ConfigError(
        f"the role {role} has no model, and the method asks it for its rows",
        fix=f"--{role} openai:NAME?at=…, or the model that will be trained",
    )
