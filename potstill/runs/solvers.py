"""The solver of a method that trains nothing: any student can be measured with it, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.errors import ConfigError, StageError
from potstill.evaluation.benchmark import Solver
from potstill.methods.catalogue import MethodEntry
from potstill.methods.role_annotations import fill_roles, keys_of, missing_abilities
from potstill.models.model import Model, Trainable
from potstill.records import Stage
from potstill.runs.driver import drive
from potstill.runs.open_folder import STUDENT


def method_solver(
    method: MethodEntry, models: Mapping[str, Model], values: Mapping[str, Any]
) -> Solver:
    """Return what a method measures its student with, where it trains nothing.

    Args:
        method: of the family `testtime`, or any other whose values say that nothing is trained.
        models: by key of `methods.role_annotations`; the student among them.
        values: of the method's parameters, in the place of its defaults.

    Raises:
        ConfigError: the method trains, it has no student, or a role has no model or one that can't play it.
    """
    check_solver_roles(method, models)
    try:
        # Without problems nothing is asked before the solver is there.
        return drive(method.method, [], fill_roles(method.roles, models), values, _refuse_stage)
    except StageError as error:
        raise ConfigError(
            f"{method.name} trains its student with these values, so its solver comes of a run",
            expected="a method that trains nothing: potstill methods testtime",
            fix=f"potstill run {method.name} --evaluate SPEC",
        ) from error


def _refuse_stage(stage: Stage) -> Model:
    raise StageError(f"a stage {stage.objective} of {len(stage.rows)} rows")


def check_solver_roles(method: MethodEntry, models: Mapping[str, Model]) -> None:
    """Refuse models in roles that the method does not have, roles without one, and models that can't play theirs."""
    names = [role.name for role in method.roles]
    if STUDENT not in names:
        raise ConfigError(
            f"{method.name} has no student to be measured with it", expected="a role `student`"
        )
    for key in models:
        if key.partition(".")[0] not in names:
            raise ConfigError(
                f"{method.name} has no role {key!r}", available=names, wanted=key, fix="--role"
            )
    for role in method.roles:
        keys = keys_of(role.name, models)
        if not keys and not role.optional:
            raise ConfigError(
                f"{method.name} needs a model in the role {role.name}",
                expected=role.help,
                fix=f"--role {role.name}=SPEC",
            )
        for key in keys:
            # Where nothing is trained, nobody needs weights.
            missing = missing_abilities(models[key], role.annotation)
            missing = [ability for ability in missing if ability != Trainable.__name__]
            if missing:
                raise ConfigError(
                    f"the {key} can't be what {method.name} needs: {' and '.join(missing)}",
                    expected="a local checkpoint, or for scores a server with score=",
                )
