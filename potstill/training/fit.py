"""Train a student on traces; its output_dir is known by `fit.json`, written last, and resumed where that is missing.

One road for every objective: an `ObjectiveConfig` says by what the student learns, and whether it writes the
completions itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.utils import logging as hf_logging

from potstill.data.learner_prompt import list_templates
from potstill.models.local import checkpoint, weights
from potstill.records import Progress, Trace
from potstill.training import checkpoint as student
from potstill.training import distributed, node_checks
from potstill.training import output_dir as training_folder
from potstill.training.dataset import batching
from potstill.training.dataset.answer_blank import begin_answers
from potstill.training.dataset.build import build_dataset, make_tokenizer_pair
from potstill.training.dataset.chat_template import ChatTemplate, read_chat_template
from potstill.training.dataset.row_shortening import RowShortener
from potstill.training.dataset.token_replacement import TokenReplacer
from potstill.training.dataset.trained_tokens import write_trained_tokens
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.eval_callback import (
    EvalSplit,
    EvaluationLog,
    Evaluator,
    make_evaluator,
    split_eval_rows,
)
from potstill.training.eval_schedule import is_evaluated
from potstill.training.full_disk import explain_full_disk
from potstill.training.host import NO_HOST, TrainingHost
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import ObjectiveInputs, StepRows, prepare_objective
from potstill.training.rollout.rollout_servers import RolloutServers
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.rollout_log import ROLLOUTS_FILE, RolloutLog
from potstill.training.row_sample import sample_rows
from potstill.training.settings import (
    FIT_FILE,
    TOKENS_FILE,
    FitResult,
    LoraSettings,
    TrainingSettings,
)
from potstill.training.student_key import StudentKey, student_key
from potstill.training.teacher.cross_tokenizer import CrossTokenizerReader
from potstill.training.teacher.make_teacher import make_served_teacher
from potstill.training.teacher.prompts import make_teacher_prompts
from potstill.training.teacher.row_teachers import SKIPPED, RowTeachers, assign_teachers
from potstill.training.teacher.several import SeveralTeachers
from potstill.training.trainer import StudentTrainer, last_checkpoint, step_records, use_bf16

__all__ = ["FitResult", "LoraSettings", "ObjectiveConfig", "TrainingSettings", "fit"]

DRAFT_FOLDER = "student"  # in the working folder, until it is compared with the student in memory
GO_ON = "the same command then goes on from the last whole checkpoint (fewer of them: training.save_steps)"
# Of a step's record; everything else in it is a statistic.
STEP_FIELDS = ("step", "loss", "tokens", "loss_tokens", "seconds")


def fit(
    traces: Sequence[Trace],
    start: Path,
    output_dir: Path,
    settings: TrainingSettings,
    *,
    config: ObjectiveConfig = ObjectiveConfig(),
    key: StudentKey | None = None,
    progress: Progress | None = None,
    host: TrainingHost = NO_HOST,
) -> FitResult:
    """Train the checkpoint `start` on `traces` and store the student in `output_dir`.

    Called again with the same traces and settings it returns the stored `FitResult` without training or needing
    `start`; a student of another start is refused where `start` is there to be compared.

    After a kill it goes on from the last checkpoint and ends with the same weights, bit for bit on the same
    CPU and threads. In several processes each takes its share of the rows, the first one writes, and all return the
    stored `FitResult`.

    Args:
        traces: finished ones; each is tokenized by the start's chat template. With rivals, for objectives of pairs;
            where the student writes, their prompts are what counts.
        start: a transformers checkpoint.
        output_dir: a folder that does not exist, is empty, or was begun by an equal call.
        config: the objective and what it needs; supervised fine-tuning if nothing is said.
        key: the student's, where the caller has made it already.
        progress: called as (label, steps done, steps in all).
        host: the run around the training, which judges and counts.
    """
    distributed.join_processes()
    with node_checks.explain_lost_process():
        return _fit(
            traces,
            start,
            output_dir,
            settings,
            config=config,
            key=key,
            progress=progress,
            host=host,
        )


def _fit(
    traces: Sequence[Trace],
    start: Path,
    output_dir: Path,
    settings: TrainingSettings,
    *,
    config: ObjectiveConfig,
    key: StudentKey | None,
    progress: Progress | None,
    host: TrainingHost,
) -> FitResult:
    """`fit` in connected processes."""
    traces = sample_rows(traces, settings.max_train_samples, settings.seed)
    key = key or student_key(traces, settings, config)
    node_checks.check_same_folder(output_dir)
    if (output_dir / FIT_FILE).is_file():
        stored_result = training_folder.read_result(output_dir, key)
        training_folder.check_start(output_dir, start)
        return stored_result
    distributed.check_supported(config, distributed.process_count(), settings)
    template = read_chat_template(checkpoint.load_tokenizer(start), settings.chat)
    start_id = checkpoint.content_id(start)
    training_id = key.id + start_id + template.rendered_digest
    node_checks.check_same_training(
        {**key.parts, "start": start_id, "chat template": template.rendered_digest}
    )
    training_folder.check_free(output_dir, training_id, len(traces), key)

    is_first_process = distributed.process_rank() == 0
    progress = progress if is_first_process else None
    work_folder = output_dir / training_folder.WORK_FOLDER
    with explain_full_disk(output_dir, GO_ON), _training_session(settings):
        prepared = _prepare(
            traces,
            start,
            template,
            work_folder,
            settings,
            config=config,
            progress=progress,
            host=host,
        )
        trainer = prepared.trainer
        # The folder is claimed after everything that can be refused.
        with (
            training_folder.claim(output_dir, training_id, key)
            if is_first_process
            else nullcontext()
        ):
            if is_first_process and config.on_policy_fraction != 1:
                _write_tokens(work_folder, prepared.dataset, traces, settings)
            # The first process says where all go on from, and that after it has claimed the folder.
            resume_from = distributed.of_first_process(last_checkpoint(work_folder))
            if resume_from:
                node_checks.wait_for_folder(resume_from)
            try:
                trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
            finally:
                if prepared.rollouts:
                    prepared.rollouts.close()
            trained = trainer.gather_student(lambda: student.load_student(start, settings))
            if is_first_process:
                _finish(trained, prepared, traces, output_dir, settings, key=key, start_id=start_id)
    stored: FitResult | None = None
    if is_first_process:  # a network file system may show the report to the others later
        stored = training_folder.read_result(output_dir, key)
    result = distributed.of_first_process(stored)
    assert result is not None
    if progress:
        progress("training", result.steps, result.steps)
    return result


def _write_tokens(
    work_folder: Path, dataset: TrainingDataset, traces: Sequence[Trace], settings: TrainingSettings
) -> None:
    """Write down what each row teaches, for who looks at it; where the student writes all texts, rows are prompts."""
    metadata = {"num_train_epochs": settings.num_train_epochs, "max_steps": settings.max_steps}
    # By the traces as they were given: those of the dataset may begin with a blank of the template's.
    trace_ids = [trace.id for trace in traces]
    write_trained_tokens(work_folder / TOKENS_FILE, dataset, trace_ids, metadata)


def _finish(
    trained: Any,
    prepared: _Prepared,
    traces: Sequence[Trace],
    output_dir: Path,
    settings: TrainingSettings,
    *,
    key: StudentKey,
    start_id: str,
) -> None:
    """Store the student and what was trained beside it, then write what the training did."""
    student.store_student(
        trained,
        prepared.start,
        output_dir,
        prepared.template,
        settings,
        draft=output_dir / training_folder.WORK_FOLDER / DRAFT_FOLDER,
        rows=prepared.dataset.rows,
    )
    projectors = prepared.trainer.objective_inputs.projectors
    if projectors:
        projectors.save(output_dir)
    steps = step_records(prepared.trainer.state)
    training_folder.finish(
        output_dir,
        _summarize(key, prepared.dataset, steps, traces, settings),
        steps,
        key,
        start_id=start_id,
        template_digest=prepared.template.rendered_digest,
    )


class _Prepared(NamedTuple):
    """A trainer before its first step, the dataset that is trained on, the start and its template."""

    trainer: StudentTrainer
    dataset: TrainingDataset
    start: Path
    template: ChatTemplate
    rollouts: Rollouts | None


def _prepare(
    traces: Sequence[Trace],
    start: Path,
    template: ChatTemplate,
    work_folder: Path,
    settings: TrainingSettings,
    *,
    config: ObjectiveConfig,
    progress: Progress | None,
    host: TrainingHost,
) -> _Prepared:
    """Everything that can still be refused: traces tokenized, models loaded, the reference's values computed."""
    trace_ids = [trace.id for trace in traces]
    traces = begin_answers(traces, template.answer_blank)
    dataset = build_dataset(
        traces, template, start, settings, config, folder=_existing_parent(work_folder)
    )
    dataset, row_teachers = _with_teachers(dataset, traces, config, settings)
    teacher_prompts = make_teacher_prompts(traces, template, start, settings, config)
    if teacher_prompts and not config.needs_feedback:
        dataset = teacher_prompts.add_to(
            dataset,
            prompts_alone=config.on_policy_fraction == 1,
            max_dropped_share=settings.max_dropped_share,
        )
    model = _load_student(start, settings, config, dataset)

    # Who writes, cuts or scores rows while the student is trained, and who evaluates it.
    bf16 = use_bf16(settings)
    split = EvalSplit(dataset, [])
    rollouts: Rollouts | None = None
    if is_evaluated(config):
        split = split_eval_rows(dataset, config.eval_rows)
        servers = None
        if config.rollout_server:
            servers = RolloutServers(config, start, template.end_ids)
        rollouts = Rollouts(
            traces,
            template,
            config,
            settings,
            bf16=bf16,
            host=host,
            teacher_prompts=teacher_prompts,
            servers=servers,
        )
        rollouts.choose_among(split.train.item_rows)
    step_rows = _step_rows(rollouts, traces, template, config, settings)
    cross_tokenizer = None
    if config.crosses_tokenizers:
        cross_tokenizer = CrossTokenizerReader(make_tokenizer_pair(start, settings, config), traces)
    objective_inputs = prepare_objective(
        config,
        model,
        step_rows=step_rows,
        served_teacher=make_served_teacher(traces, template, config, start, row_teachers),
        row_teachers=row_teachers,
        packing=settings.packing,
        bf16=bf16,
        cross_tokenizer=cross_tokenizer,
        seed=settings.seed,
    )
    _check_teacher_ids(objective_inputs, dataset)
    evaluation: Evaluator | None = None
    if rollouts:
        log = EvaluationLog(RolloutLog(work_folder / ROLLOUTS_FILE), trace_ids)
        evaluation = make_evaluator(traces, split.eval_rows, rollouts, template, config, log=log)
    trainer = StudentTrainer(
        model,
        split.train,
        settings,
        work_folder,
        progress,
        objective_inputs=objective_inputs,
        evaluation=evaluation,
        decode=template.codec.decode,
        host=host,
    )
    return _Prepared(trainer, split.train, start, template, rollouts)


def _with_teachers(
    dataset: TrainingDataset,
    traces: Sequence[Trace],
    config: ObjectiveConfig,
    settings: TrainingSettings,
) -> tuple[TrainingDataset, RowTeachers | None]:
    """Whose rows are whose, of several teachers, and the dataset without the rows that nobody teaches."""
    if not config.teachers:
        return dataset, None
    row_teachers = assign_teachers(
        traces, config.teachers, config.teacher_by, max_dropped_share=settings.max_dropped_share
    )
    taught = []
    for number, item in enumerate(dataset):
        if all(row_teachers.of_trace[row.trace_index] for row in item):
            taught.append(number)
    lost = len(dataset) - len(taught)
    if lost:
        dataset = dataset.select(taught).with_skipped({SKIPPED: lost})
    return dataset, row_teachers


def _step_rows(
    rollouts: Rollouts | None,
    traces: Sequence[Trace],
    template: ChatTemplate,
    config: ObjectiveConfig,
    settings: TrainingSettings,
) -> StepRows | None:
    """What replaces a step's rows: rollouts, shortened rows, or rows with tokens of the student's; None for none."""
    if config.shortens_rows:
        return RowShortener(traces, template, config, settings)
    if config.replaced_share:
        return TokenReplacer(config, settings, bf16=use_bf16(settings))
    return rollouts if config.writes_rows else None


def _load_student(
    start: Path, settings: TrainingSettings, config: ObjectiveConfig, dataset: TrainingDataset
) -> Any:
    """The model that is trained, on its device; refused where it can't read the rows as they will be given."""
    model = student.load_student(start, settings)
    model = weights.move_to_device(model, weights.resolve_device("auto"))
    weights.check_token_ids(model, int(dataset.rows.input_ids.values.max()))
    if is_evaluated(config):
        weights.check_layer_types(model)
    if settings.packing:
        batching.check_packing(getattr(model, "get_base_model", lambda: model)().base_model)
    return model


def _check_teacher_ids(objective_inputs: ObjectiveInputs, dataset: TrainingDataset) -> None:
    """Refuse rows with ids that a teacher or a reference has no embedding for."""
    rows = dataset.rows
    ids_of_teacher = rows.columns.get("theirs", rows.input_ids)
    teacher = objective_inputs.local_teacher
    if teacher is objective_inputs.self_teacher:  # it has the student's own tokens
        teacher = None
    models = teacher.models if isinstance(teacher, SeveralTeachers) else [teacher]
    for model in models:
        if model is not None and len(ids_of_teacher.values):
            weights.check_token_ids(model, int(ids_of_teacher.values.max()))
    if objective_inputs.reference is not None:
        weights.check_token_ids(objective_inputs.reference, int(rows.input_ids.values.max()))


def _existing_parent(folder: Path) -> Path:
    """The nearest folder above that is there: large arrays lie on the disk of the output."""
    return next(parent for parent in folder.absolute().parents if parent.is_dir())


def _summarize(
    key: StudentKey,
    dataset: TrainingDataset,
    steps: Sequence[Mapping[str, float]],
    traces: Sequence[Trace],
    settings: TrainingSettings,
) -> FitResult:
    return FitResult(
        key=key.id,
        rows=len(dataset),
        skipped=dict(dataset.skipped),
        steps=len(steps),
        tokens=int(sum(step["tokens"] for step in steps)),
        loss_tokens=int(sum(step["loss_tokens"] for step in steps)),
        seconds=sum(step["seconds"] for step in steps),
        losses=tuple(step["loss"] for step in steps),
        stats=_first_and_last(steps),
        threads=torch.get_num_threads(),
        prompts=tuple(list_templates(traces)),
        chat=settings.chat,
    )


def _first_and_last(steps: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Each statistic at the first and at the last step that had it."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for step in steps:
        for name, value in step.items():
            if name not in STEP_FIELDS:
                first.setdefault(name, value)
                last[name] = value
    return {name: (first[name], last[name]) for name in first}


@contextmanager
def _training_session(settings: TrainingSettings) -> Iterator[None]:
    """Thread count, random state and quiet progress bars for the training, put back afterwards."""
    threads = torch.get_num_threads()
    had_progress_bars = hf_logging.is_progress_bar_enabled()
    python_state, numpy_state = random.getstate(), np.random.get_state()  # the Trainer seeds both
    hf_logging.disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    # Of all GPUs that it sees, this process trains on one.
    own_gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(own_gpus):
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if had_progress_bars:
            hf_logging.enable_progress_bar()
