"""What contradicts itself in a config whose teacher is a server, or where it has several. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill import objectives
from potstill.models.token_scoring import TokenScored
from potstill.objectives.hooks import Mistake

if TYPE_CHECKING:
    from potstill.training.objective_config import ObjectiveConfig

NO_SEVERAL = ("states", "layers", "own", "aligned", "returns")  # needs that one teacher fills


def top_k_mistakes(config: ObjectiveConfig) -> list[Mistake]:
    """What contradicts itself where a teacher tells its likeliest tokens, and no whole distribution."""
    if not config.is_teacher_served and not config.teachers:
        if not config.loss_top_k:
            return []
        message = (
            "loss_top_k is of a teacher on a server: a checkpoint's whole distribution is compared"
        )
        return [Mistake(message, "loss_top_k=0")]
    mistakes = []
    for model in served_teachers(config):
        if not isinstance(model, TokenScored):
            message = "the teacher's server tells no likeliest tokens: ?score=prompt_logprobs, or a checkpoint"
            mistakes.append(Mistake(message, "teacher="))
    if config.is_teacher_served and not config.loss_top_k:
        message = (
            "a server tells the likeliest tokens and no whole distribution: loss_top_k=20 or more"
        )
        mistakes.append(Mistake(message, "loss_top_k=20"))
    if not config.loss_top_k:
        return mistakes
    if objectives.hooks(config.objective).wants_full_distribution(config.constants):
        message = f"{config.objective} needs the teacher's whole distribution: give a checkpoint"
        mistakes.append(Mistake(message, "teacher="))
    is_tempered = config.constants.get("temperature", 1) != 1 or "temperature" in config.schedule
    if is_tempered and config.constants.get("tail", "bucket") != "renormalise":
        message = (
            "what a server does not tell can't be re-tempered: temperature=1, or tail=renormalise"
        )
        mistakes.append(Mistake(message, "tail=renormalise"))
    if "temperature" in config.schedule:
        message = "a server's entries are of one temperature, which no schedule moves"
        mistakes.append(Mistake(message, "temperature="))
    return mistakes


def several_teachers_mistakes(config: ObjectiveConfig) -> list[Mistake]:
    """What contradicts itself where rows have teachers of their own, or all of them averaged."""
    if not config.teachers:
        if not config.teacher_by:
            return []
        message = "teacher_by chooses among several teachers: teachers="
        return [Mistake(message, "teachers=")]
    mistakes = []
    if len(config.teachers) < 2:
        mistakes.append(Mistake("one teacher is no choice: teacher=", "teacher="))
    if not config.teacher_by:
        message = "which row has which teacher: teacher_by=NAME of metadata, kind or average"
        mistakes.append(Mistake(message, "teacher_by=average"))
    if config.teacher or config.teacher_cache or config.teacher_model_kind:
        mistakes.append(Mistake("one teacher, or several", "teachers="))
    refused = sorted(set(NO_SEVERAL) & set(config.needs))
    if refused:
        message = f"{config.objective} has one teacher (it needs {', '.join(refused)})"
        mistakes.append(Mistake(message, "teacher="))
    if config.writes_with_teacher:
        mistakes.append(Mistake("one teacher writes together with the student", "teacher="))
    if config.rewards_by_teacher and not config.asks_tokens:
        mistakes.append(Mistake("one teacher gives rewards", "teacher="))
    for name, model in config.teachers.items():
        gives_scores = isinstance(model, str | Path | TokenScored)
        if not gives_scores:
            message = (
                f"the teacher {name} scores no tokens: a checkpoint, or ?score=prompt_logprobs"
            )
            mistakes.append(Mistake(message, "teachers="))
    return mistakes


def served_teachers(config: ObjectiveConfig) -> list[Any]:
    """The teachers that are no checkpoints at hand."""
    models = [config.teacher, *config.teachers.values()]
    return [model for model in models if not isinstance(model, str | Path | None)]
