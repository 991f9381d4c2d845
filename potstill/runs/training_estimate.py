"""What a training will ask of models, from its settings: rollouts, evaluations, a teacher's readings, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.methods.role_annotations import keys_of
from potstill.models.phase import Phase
from potstill.records import Stage
from potstill.runs.open_folder import JUDGE, STUDENT, TEACHER_WEIGHTS
from potstill.runs.recipe import Arm, Recipe
from potstill.runs.recipe_checks import role_stand_in
from potstill.runs.stand_in import Assumptions, CallGroup, RoleCalls
from potstill.runs.teacher_roles import PREFIX as TEACHER_PREFIX
from potstill.runs.teacher_roles import teacher_roles, with_role_teachers
from potstill.runs.train import SCORED_ROWS, merge_settings, role_of
from potstill.traces.llm_judge import SETTINGS as JUDGE_SETTINGS
from potstill.training import eval_schedule
from potstill.training.memory_estimate import count_steps
from potstill.training.objective_config import ObjectiveConfig, bind

TRAINING: Phase = "training"


class StageSize(NamedTuple):
    """The rows of a stage in the whole run, and tokens of a mean one: prompt and completion, and the prompt alone."""

    rows: int
    tokens: float
    prompt: float


def estimate_training_calls(
    stage: Stage,
    number: int,
    *,
    arm: Arm,
    recipe: Recipe,
    size: StageSize,
    assume: Mapping[str, Assumptions],
) -> list[tuple[CallGroup, RoleCalls]]:
    """What the training of a stage asks in the whole run, by role.

    Args:
        stage: as a method yielded it to stand-ins.
        number: of the stage in its arm, from 1.
        arm: whose training settings count.
        recipe: of the run.
        size: of the stage.
        assume: by role; "" for all others.
    """
    keywords = {**stage.constants, **arm.training.objective_config}
    teacher_role = teacher_of(keywords, recipe)
    if teacher_role:
        [teacher_key, *_] = keys_of(teacher_role, recipe.roles)
        keywords["teacher"] = role_stand_in(recipe.roles[teacher_key])
    stand_ins = {}
    for role in teacher_roles(recipe.roles).values():
        stand_ins[role] = role_stand_in(recipe.roles[role])
    keywords = with_role_teachers(keywords, stand_ins)
    bound = bind(keywords.pop("objective", stage.objective), keywords)
    config = bound.config
    settings = merge_settings(arm.training, bound, threads=1)
    steps, step_rows = count_steps(settings, size.rows, size.tokens)

    # The student: what its rows' perplexity reads, what it writes, and what it writes to be evaluated.
    student_role = role_of(stage.model, STUDENT)
    start = RoleCalls()
    if config.on_policy_fraction < 1:
        # Each scored row is read for its perplexity, and for its answer where that is wanted.
        readings = 2 if recipe.answer_probability else 1
        add_readings(start, readings * min(SCORED_ROWS, size.rows), size.tokens)
    written = round(
        steps
        * config.on_policy_fraction
        * step_rows
        * config.num_generations
        / config.num_iterations
    )
    evaluated = 0
    if eval_schedule.is_evaluated(config):
        rows = min(config.eval_rows or eval_schedule.DEFAULT_ROWS, size.rows)
        evaluated = rows * eval_schedule.count_evaluations(config, steps)
    student = RoleCalls()
    answer = assume.get(student_role, assume[""]).completion
    for _ in range(written + evaluated):
        completion = min(answer, config.max_new_tokens)
        student.add(size.prompt, completion, config.max_new_tokens, None)

    groups = [
        (CallGroup(student_role, TRAINING, number), start),
        (CallGroup(student_role, TRAINING, number, is_trained=True), student),
    ]
    if config.has_teacher:
        teacher = teacher_calls(config, size, steps=steps, step_rows=step_rows, written=written)
        # Of several teachers each may be asked about every row: no more is known before the rows are there.
        names = [TEACHER_PREFIX + name for name in config.teachers]
        for role in names or [teacher_role or TEACHER_WEIGHTS]:
            group = CallGroup(role, TRAINING, number, is_local=not is_server(config))
            groups.append((group, teacher))
    judged_share = sum(row.problem.kind == JUDGE for row in stage.rows) / max(1, len(stage.rows))
    if is_verdict_wanted(config) and judged_share:
        judge = judge_calls(round(written * judged_share), size, assume.get(JUDGE, assume[""]))
        groups.append((CallGroup(JUDGE, TRAINING, number), judge))
    return [(group, calls) for group, calls in groups if calls.calls]


def teacher_of(keywords: Mapping[str, Any], recipe: Recipe) -> str:
    """The role of the teacher of a training; "" where it has none, or one that is a folder."""
    teacher = keywords.get("teacher")
    role = teacher if isinstance(teacher, str) else role_of(teacher, "")
    return role if keys_of(role, recipe.roles) else ""


def teacher_calls(
    config: ObjectiveConfig, size: StageSize, *, steps: int, step_rows: float, written: int
) -> RoleCalls:
    """What a teacher reads: on a server each text once, here the rows of every step."""
    calls = RoleCalls()
    if is_server(config):
        texts = written
        if config.on_policy_fraction < 1:
            texts += size.rows
        add_readings(calls, texts, size.tokens)
    else:
        add_readings(calls, steps, step_rows * config.num_generations * size.tokens)
    return calls


def is_server(config: ObjectiveConfig) -> bool:
    """Whether the teacher is a server that scores texts or tokens, and no weights here."""
    return config.is_teacher_served


def judge_calls(count: int, size: StageSize, assumptions: Assumptions) -> RoleCalls:
    """Verdicts on so many rollouts."""
    calls = RoleCalls()
    limit = JUDGE_SETTINGS["max_new_tokens"]
    for _ in range(count):
        calls.add(size.tokens, min(assumptions.completion, limit), limit, None)
    return calls


def is_verdict_wanted(config: ObjectiveConfig) -> bool:
    """Whether rewards or a teacher's prompt say whether a text is right; a reward of the method's does not."""
    if config.needs_feedback:
        return True
    return "advantages" in config.needs and not callable(config.reward)


def add_readings(calls: RoleCalls, count: int, tokens: float) -> None:
    """Count calls that read so many tokens and write none."""
    for _ in range(count):
        calls.add(tokens, 0.0, 0.0, None)
