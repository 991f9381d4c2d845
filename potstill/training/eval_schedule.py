"""How often, and on how many rows, a student is evaluated while it is trained; without tensors, for plans too."""

from __future__ import annotations

import math

from potstill.training.objective_config import ObjectiveConfig

DEFAULT_ROWS = 8  # evaluated on where none are held out
EVALUATIONS = 10  # in a training, unless the config says how often


def is_evaluated(config: ObjectiveConfig) -> bool:
    """Whether a student is evaluated while it is trained: with a teacher, with rollouts, or where the config asks."""
    asks = config.eval_rows or config.eval_steps
    return bool(config.teacher or config.writes_rows or asks)


def eval_interval(eval_steps: int, total_steps: int) -> int:
    """Steps between two evaluations; where nobody says, ten a training, but no more than one in ten steps."""
    return eval_steps or max(10, total_steps // EVALUATIONS)


def count_evaluations(eval_steps: int, total_steps: int) -> int:
    """How often a student is evaluated in a training: before some steps, and once more at the end."""
    return math.ceil(total_steps / eval_interval(eval_steps, total_steps)) + 1
