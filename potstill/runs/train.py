"""From a stage to its student: find it in the run folder, or train and register it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.cluster.pool import release_idle_gpus
from potstill.data.atomic_write import write_text
from potstill.data.metadata_columns import columns_of
from potstill.errors import StageError
from potstill.evaluation.row_steps import ANSWER_PROBABILITY, STEP_COUNT, steps_of_row
from potstill.models.model import Model, Scored
from potstill.models.phase import in_training
from potstill.records import LEARNING_KINDS, Stage, Trace, learnt_stretches
from potstill.runs.open_folder import STUDENT, TEACHER_WEIGHTS, Folder
from potstill.runs.stages import read_rows
from potstill.runs.teacher_roles import teacher_roles, with_role_teachers
from potstill.runs.training_host import FolderHost
from potstill.store.cached_model import CachedModel
from potstill.store.ledger import Ledger
from potstill.store.students import Student
from potstill.traces import answer_probability, perplexity
from potstill.training.host import Asked
from potstill.training.objective_config import BoundKeywords, ObjectiveConfig, bind
from potstill.training.row_sample import sample_rows
from potstill.training.settings import TrainingSettings
from potstill.training.student_key import student_key

SCORED_ROWS = 64  # of a stage, whose likelihoods are taken before the training
CURVE_POINTS = 40  # of a learning curve in the results


def train_stage(
    folder: Folder,
    stage: Stage,
    training: TrainingSettings,
    *,
    arm: str,
    ledger: Ledger,
    label: str = "",
    answer_probabilities: bool = False,
) -> Model:
    """The trained student of a stage, behind the store; a student that is there already is not trained again.

    Args:
        folder: where the student is kept.
        stage: what to train, on which rows, with which objective.
        training: the settings of the training; they win over the stage's own.
        arm: the name under which the rows and the student's calls are counted.
        ledger: of the arm.
        label: the stage's name or number in the arm.
        answer_probabilities: also score rows by how probable the answer is behind them without their last line.
    """
    from potstill.models.local.replicas import replicate_student
    from potstill.training.fit import fit

    chat_mode = student_chat_mode(stage.model)
    keywords = stage_keywords(folder, stage, training, arm)
    roles: dict[Asked, str] = {
        "student": role_of(stage.model, STUDENT),
        "teacher": role_of(keywords.get("teacher"), TEACHER_WEIGHTS),
    }
    bound = bind(keywords.pop("objective", stage.objective), keywords)
    settings = merge_settings(training, bound, folder.threads)
    settings = dataclasses.replace(settings, chat=chat_mode)
    stage = limit_rows(stage, settings, ledger)
    key = student_key(stage.rows, settings, bound.config, start_id=stage.model.id)

    # The rows are written before the training, so that they can be read while it runs.
    with in_training(key.id):
        rows = score_rows(stage, bound.config, answer_probabilities=answer_probabilities)
    ledger.rows(key.id, rows, label=label)
    write_rows(folder.path / "rows" / f"{arm}.jsonl", rows)

    output_dir = folder.path / "students" / key.id
    host = FolderHost(folder, key.id, arm, roles=roles)
    release_idle_gpus()
    with in_training(key.id):
        report = fit(
            stage.rows,
            starting_weights(stage),
            output_dir,
            settings,
            config=bound.config,
            key=key,
            progress=lambda _, done, total: folder.progress(f"{arm}/train", done, total),
            host=host,
        )
        host.record_use()
    student = replicate_student(stage.model, output_dir, threads=folder.threads, chat=chat_mode)
    training_report = report_to_json(report, arm, student.id)
    folder.store.students.put(
        Student(key.id, student.id, output_dir, settings.identity(), training_report)
    )
    # What the student writes is counted under the role that it starts from, whoever asks it and when.
    return folder.wrap_model(student, roles["student"], arm)


def limit_rows(stage: Stage, settings: TrainingSettings, ledger: Ledger) -> Stage:
    """The stage with at most `max_train_samples` rows; the ledger says how many were left."""
    rows = sample_rows(stage.rows, settings.max_train_samples, settings.seed)
    if len(rows) == len(stage.rows):
        return stage
    ledger.add_step("sample rows", "max_train_samples", len(stage.rows), len(rows))
    return Stage(stage.model, rows, stage.objective, name=stage.name, **stage.constants)


def train_rows(stage: Stage, out: Path, training: TrainingSettings) -> Model:
    """The trained student of a stage outside of any run folder, stored in `out`.

    Called again with the same rows and settings it returns the student that is there.
    """
    from potstill.models.local.replicas import replicate_student
    from potstill.training.fit import fit

    chat_mode = student_chat_mode(stage.model)
    bound = bind(stage.objective, stage.constants)
    settings = merge_settings(training, bound, training.threads)
    settings = dataclasses.replace(settings, chat=chat_mode)
    fit(stage.rows, starting_weights(stage), out, settings, config=bound.config)
    return replicate_student(stage.model, out, threads=settings.threads, chat=chat_mode)


def role_of(model: Any, default: str) -> str:
    """The role under which a stage's model is counted, and so the student that is made of it."""
    role: str = getattr(model, "role", default)
    return role


def stage_keywords(
    folder: Folder, stage: Stage, training: TrainingSettings, arm: str
) -> dict[str, Any]:
    """The stage's keywords with the recipe's over them; the name of a role stands for its model."""
    keywords = {**stage.constants, **training.objective_config}
    teachers = {}
    for role in teacher_roles(folder.models).values():
        teachers[role] = folder.wrap_model(folder.models[role], role, arm)
    keywords = with_role_teachers(keywords, teachers)
    # Behind the store: what a teacher on a server is asked in a training is counted as everything else is.
    for name in ("teacher", "reference"):
        given = keywords.get(name)
        if isinstance(given, str) and given in folder.models:
            keywords[name] = folder.wrap_model(folder.models[given], given, arm)
        elif isinstance(given, Model) and not isinstance(given, CachedModel):
            keywords[name] = folder.wrap_model(given, name, arm)
    return keywords


def merge_settings(
    training: TrainingSettings, bound: BoundKeywords, threads: int
) -> TrainingSettings:
    """The arm's settings over the stage's own: a stage's setting counts where the arm left the default."""
    stage_settings: dict[str, Any] = {}
    for field in dataclasses.fields(TrainingSettings):
        if field.name in bound.settings and getattr(training, field.name) == field.default:
            stage_settings[field.name] = bound.settings[field.name]
    stage_settings["threads"] = training.threads or stage_settings.get("threads") or threads
    return dataclasses.replace(training, **stage_settings)


def student_chat_mode(model: Any) -> Any:
    """What the student's chat template is told: a student is trained as it is asked."""
    encoder = getattr(getattr(model, "inner", model), "encoder", None)
    if encoder is None:
        return "auto"
    if encoder.is_plain:
        raise StageError(
            "the student reads prompts as plain text (?chat=plain)",
            expected="a student with a chat template: it is trained as it is asked",
            fix="put a chat_template.jinja into its folder and leave ?chat=plain out",
        )
    return encoder.chat


def starting_weights(stage: Stage) -> Path:
    """The checkpoint that the training starts from."""
    weights: Path | None = getattr(stage.model, "weights", None)
    if weights is None:
        raise StageError(
            f"the model {stage.model.id} has no weights to train",
            fix="give a transformers: or world: student",
        )
    return weights


def score_rows(
    stage: Stage, config: ObjectiveConfig, *, answer_probabilities: bool = False
) -> list[Trace]:
    """The rows with what is logged of them: how many steps each has, and of a sample how likely it is before training.

    Likelihoods are taken of `SCORED_ROWS` rows at most, where the model gives them: the perplexity of the row, and
    where it is wanted the probability of the gold answer behind the row without its last line.
    """
    rows: list[Trace] = []
    for row in stage.rows:
        scores = {**row.scores, STEP_COUNT: float(steps_of_row(row))}
        rows.append(row.annotate(scores=scores) if row.text else row)
    writes_all_rows_itself = config.on_policy_fraction == 1
    if writes_all_rows_itself or not isinstance(stage.model, Scored):
        return rows
    # By their ids, which are hashes of what they are: no part of the file is preferred.
    places = sorted(range(len(rows)), key=lambda place: rows[place].id)[:SCORED_ROWS]
    scorers = {"perplexity": perplexity(stage.model)}
    if answer_probabilities:
        scorers[ANSWER_PROBABILITY] = answer_probability(stage.model)
    for name, scorer in scorers.items():
        values = scorer([rows[place] for place in places])
        for place, value in zip(places, values, strict=True):
            if isinstance(value, float) and math.isfinite(value):
                rows[place] = rows[place].annotate(scores={**rows[place].scores, name: value})
    return rows


def write_rows(path: Path, rows: Sequence[Trace]) -> None:
    """Write the rows an arm trains on as JSONL that a person can read: prompt, completion, author, lineage, scores."""
    lines = [json.dumps(row_to_json(row)) + "\n" for row in rows]
    write_text(path, "".join(lines))


def write_stage_files(folder: Folder, arm: str) -> None:
    """Write the rows of each stage of an arm into a file of its own, `rows/ARM/LABEL.jsonl`, where it has several."""
    stages = folder.store.history.stages(arm)
    if len(stages) < 2:
        return
    for stage in stages:
        rows = read_rows(folder.store, arm, stage.row_ids)
        write_rows(folder.path / "rows" / arm / f"{stage.label}.jsonl", rows)


def row_to_json(row: Trace) -> dict[str, Any]:
    """A row as a line of the rows file."""
    line: dict[str, Any] = {
        "id": row.id,
        "problem_id": row.problem.id,
        "gold": row.problem.answer,
        **columns_of(row.problem),
        "prompt": row.prompt,
        "completion" if row.rejected is None else "chosen": row.text,
        "finish_reason": row.finish_reason,
    }
    if row.stop_string:
        line["stop_string"] = row.stop_string
    weights = span_weights(row)
    if weights:
        line["spans"] = weights
    if row.weight != 1:
        line["weight"] = row.weight
    if row.rejected is not None:
        line["rejected"] = row.rejected.text
    if row.teacher_prompt:
        line["teacher_prompt"] = row.teacher_prompt
    line |= {
        "author": row.author.model if row.author is not None else "",
        "operator": row.operator,
        "parents": row.parents,
        "saw_gold": row.saw_gold,
        "scores": dict(row.scores),
    }
    return line


def span_weights(row: Trace) -> list[tuple[int, int, float]]:
    """The stretches of a row's text with another weight than 1 in the loss, as (start, stop, weight).

    What is not learnt has the weight 0. `potstill train --rows` reads them.
    """
    weights: list[tuple[int, int, float]] = []
    position = 0
    for start, stop in [*learnt_stretches(row), (len(row.text), len(row.text))]:
        if position < start:
            weights.append((position, start, 0.0))
        position = stop
    for span in row.spans:
        if span.weight != 1.0 and span.kind not in LEARNING_KINDS:
            weights.append((span.start, span.stop, span.weight))
    return weights


def loss_curve(losses: Sequence[float], points: int = CURVE_POINTS) -> list[list[float]]:
    """A curve of losses as [step, loss], each the mean over an equal stretch of steps that ends there."""
    stretches = min(points, len(losses))
    curve: list[list[float]] = []
    for stretch in range(stretches):
        start = stretch * len(losses) // stretches
        end = (stretch + 1) * len(losses) // stretches
        curve.append([end, sum(losses[start:end]) / (end - start)])
    return curve


def report_to_json(report: Any, arm: str, student: str) -> dict[str, Any]:
    """The training's report as plain data: of the losses the first, the last and a curve of few points."""
    values = dataclasses.asdict(report)
    losses = values.pop("losses")
    if losses:
        values |= {"first_loss": losses[0], "last_loss": losses[-1]}
        values["loss_curve"] = loss_curve(losses)
    return values | {"arm": arm, "student": student}
