"""The warm-up: a pretrained model becomes a student of a few tasks, by some program-written chains, in minutes.

A recipe (`potstill/world/gym/warm_ups/NAME.yaml`) says of which families how many chains, in which style, and how they
are learnt. Its problems are a split of their own, `world:gym?split=warm-up`, which shares no problem with another.
The checkpoint is made, not shipped; beside it lies what it was made of.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from potstill import config, verifiers
from potstill.config import Mistakes
from potstill.data import yaml
from potstill.errors import ConfigError, InputError
from potstill.models import cache_folder
from potstill.models.model import Model, Request, Sampling
from potstill.records import Progress, Trace, canonical
from potstill.runs.sources import pose_all
from potstill.training.settings import TrainingSettings
from potstill.verifiers.equations.families import FAMILIES, solve_question
from potstill.world.gym.problems import PREFIX, make_problems
from potstill.world.gym.styles import STYLES

RECIPES = Path(__file__).parents[1] / "world" / "gym" / "warm_ups"
SPLIT = "warm-up"
CHECK_SPLIT = "dev"
# Steps between checkpoints, at most: half a minute on one core with SmolLM2-135M, whose adapter has 5 M parameters.
SAVE_STEPS = 10
CHECK_TOKENS = 128  # new tokens of an answer when the student is checked


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a pretrained model is warmed up.

    Args:
        base: the model, as `potstill models get` calls it.
        chains: how many of each family are learnt.
        steps: optimizer steps by strength; a student of each strength is trained from the base anew.
        style: in which the chains are written, one of `potstill.world.gym.styles.STYLES`.
        seed: of the choice of problems.
        training: how they are learnt; `max_steps` is that of the strength.
    """

    base: str
    chains: Mapping[str, int]
    steps: Mapping[str, int]
    style: str = "short"
    seed: int = 0
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Refuse families and styles that there are none of."""
        for family, count in self.chains.items():
            if family not in FAMILIES:
                raise ConfigError(
                    f"chains: no family {family!r}", available=tuple(FAMILIES), wanted=family
                )
            if count < 1:
                raise ConfigError(f"chains: {count} chains of {family}, which is below 1")
        if not self.chains or not self.steps:
            raise ConfigError("a warm-up needs chains and steps")
        if self.style not in STYLES:
            raise ConfigError(f"no style {self.style!r}", available=tuple(STYLES))

    def to_json(self) -> dict[str, Any]:
        """All that decides the rows and their training, as plain data."""
        values = dataclasses.asdict(self)
        return {**values, "training": self.training.to_json()}


class WarmedUp(NamedTuple):
    """A student that is here.

    Args:
        folder: its checkpoint.
        is_new: whether it was trained now.
        source: what it was made of, as `potstill-source.json` says.
    """

    folder: Path
    is_new: bool
    source: Mapping[str, Any]


def read_recipe(name: str, file: Path | None = None) -> WarmUp:
    """The recipe of a model, or that of a file.

    Raises:
        ConfigError: there is none, or it has mistakes.
    """
    path = file or RECIPES / f"{name}.yaml"
    if not path.is_file():
        available = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
        raise ConfigError(
            f"no warm-up recipe at {path}" if file else f"there is no warm-up of {name!r}",
            available=available,
            wanted=name,
            fix=f"potstill models warm-up {available[0]}, or --recipe FILE.yaml",
        )
    mistakes = Mistakes()
    recipe = config.build(WarmUp, yaml.read(path, untyped=True), "", mistakes)
    mistakes.raise_if_any(str(path), fix=f"{RECIPES.name}/ has whole ones")
    assert isinstance(recipe, WarmUp)
    return recipe


def default_folder(recipe: WarmUp, strength: str) -> Path:
    """Where a student is put unless another folder is named."""
    return cache_folder.models_folder() / f"{recipe.base}-{strength}"


def write_rows(recipe: WarmUp) -> list[Trace]:
    """The rows of a warm-up: each problem as a learner is asked it, with the chain that a program wrote."""
    write = STYLES[recipe.style]
    rows: list[Trace] = []
    for family, count in recipe.chains.items():
        task = PREFIX + family.replace("_", "-")
        problems = make_problems(task, size=count, seed=recipe.seed, split=SPLIT)
        for trace in pose_all(problems):
            solution = solve_question(trace.question)
            assert solution is not None
            text = write(solution, Random(trace.problem.id))
            row = dataclasses.replace(trace, text=text, finish_reason="stop", operator="import")
            rows.append(row)
    return rows


def warm_up(
    recipe: WarmUp,
    base: Path,
    folder: Path,
    *,
    strength: str,
    progress: Progress,
    threads: int = 0,
) -> WarmedUp:
    """Train a student of a strength, or find it there; one that was stopped goes on.

    Args:
        recipe: what is learnt.
        base: the pretrained checkpoint.
        folder: becomes the student's checkpoint; it is not there, was begun by an equal call, or holds this student.
        strength: a key of the recipe's steps.
        progress: takes the steps done.
        threads: CPU threads; another number changes the last bits of the weights. 0 is the recipe's.

    Raises:
        ConfigError: the recipe has no such strength.
        InputError: the base is not there, or the folder holds something else.
    """
    if strength not in recipe.steps:
        raise ConfigError(
            f"the warm-up has no strength {strength!r}",
            available=tuple(recipe.steps),
            wanted=strength,
        )
    if not (base / "config.json").is_file():
        raise InputError(
            f"no checkpoint in {base}",
            expected=f"the model {recipe.base}",
            fix=f"potstill models get {recipe.base}",
        )
    from potstill.models.local import checkpoint
    from potstill.training.fit import fit

    training = dataclasses.replace(
        recipe.training,
        max_steps=recipe.steps[strength],
        threads=threads or recipe.training.threads,
        # Not the recipe's: when checkpoints are written is no part of what is learnt, and of its id.
        save_steps=min(recipe.training.save_steps, SAVE_STEPS),
    )
    source: dict[str, Any] = {
        "warm_up": recipe_id(recipe, strength),
        "strength": strength,
        "base": checkpoint.content_id(base),
        "recipe": recipe.to_json(),
        "threads": training.threads,
    }
    stored_source = find_student(folder, source)
    if stored_source is not None:
        return WarmedUp(folder, is_new=False, source=stored_source)
    report = fit(write_rows(recipe), base, folder, training, progress=progress)
    source["losses"] = [round(loss, 4) for loss in report.losses]
    source["tokens"] = report.tokens
    source["seconds"] = round(report.seconds, 1)
    source["checkpoint"] = checkpoint.content_id(folder)
    cache_folder.write_source(folder, source)
    return WarmedUp(folder, is_new=True, source=source)


def recipe_id(recipe: WarmUp, strength: str) -> str:
    """A digest of what is learnt and how long; the steps of other strengths are not part of it."""
    contents = canonical({**recipe.to_json(), "steps": recipe.steps[strength]})
    return f"warm-up-{hashlib.sha256(contents.encode()).hexdigest()[:12]}"


def find_student(folder: Path, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a finished student was made of; None where the folder holds none yet.

    Raises:
        InputError: the folder holds something else, or its files have changed.
    """
    from potstill.models.local import checkpoint

    if not folder.exists() or not any(folder.iterdir()):
        return None
    stored = cache_folder.read_source(folder)
    if stored is None:
        # A training that was stopped, or stopped before its source was written: `fit` looks at what it finds.
        return None
    for name in ("warm_up", "base", "threads"):
        if stored.get(name) != source[name]:
            raise InputError(
                f"{folder} is another student: its {name} is {stored.get(name)}, not {source[name]}",
                fix="delete it, or name another folder: --out FOLDER",
            )
    if stored.get("checkpoint") != checkpoint.content_id(folder):
        raise InputError(
            f"{folder} is not as it was trained: its files have changed",
            expected=f"the checkpoint {stored.get('checkpoint')}",
            fix="delete it and run potstill models warm-up again",
        )
    return stored


def check_student(
    model: Model, families: Sequence[str], *, size: int, progress: Progress
) -> list[dict[str, Any]]:
    """What a student can do: greedy answers to problems of the split `dev`, family by family.

    Args:
        model: the student.
        families: which are asked.
        size: problems of each.
        progress: takes how many have been answered.

    Returns:
        For each family the counts of right, wrong, unparsed and cut answers, and of those that are right in every step.
    """
    sampling = Sampling(temperature=0, max_new_tokens=CHECK_TOKENS)
    results: list[dict[str, Any]] = []
    for index, family in enumerate(families):
        progress("checking", index, len(families))
        task = PREFIX + family.replace("_", "-")
        traces = pose_all(make_problems(task, size=size, split=CHECK_SPLIT))
        completions = model.write([Request(trace.prompt, sampling=sampling) for trace in traces])
        items = [(t.problem, c.text) for t, c in zip(traces, completions, strict=True)]
        statuses = [verdict.status for verdict in verifiers.judge(items)]
        sound = 0
        for status, spans in zip(statuses, verifiers.steps(items), strict=True):
            sound += (
                status == "right" and bool(spans) and all(span.score == 1 for span in spans or ())
            )
        result: dict[str, Any] = {"family": family, "problems": len(items)}
        for status in ("right", "wrong", "unparsed"):
            result[status] = statuses.count(status)
        result["sound"] = sound
        result["cut"] = sum(completion.finish_reason == "length" for completion in completions)
        results.append(result)
    progress("checking", len(families), len(families))
    return results
