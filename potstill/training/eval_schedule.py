"""How often, and on how many rows, a student is evaluated while it is trained; without tensors, for plans too."""

from __future__ import annotations

import math

from potstill.training.objective_config import ObjectiveConfig

DEFAULT_ROWS = 8  # evaluated on where none are held out
# In a training, unless the config says how often. Where the student writes its rows anyway, an evaluation is like a
# step. Elsewhere it takes as long as many, and it is only logged: at the start, halfway, and at the end.
EVALUATIONS = 10
EVALUATIONS_OF_GIVEN_ROWS = 2
MIN_INTERVAL = 10  # steps between two of them


def is_evaluated(config: ObjectiveConfig) -> bool:
    """Whether a student is evaluated while it is trained: with a teacher, with rollouts, or where the config asks."""
    asks = config.eval_rows or config.eval_steps
    return bool(config.has_teacher or config.writes_rows or asks)


def eval_interval(config: ObjectiveConfig, total_steps: int) -> int:
    """Steps between two evaluations."""
    if config.eval_steps:
        return config.eval_steps
    evaluations = EVALUATIONS if config.writes_rows else EVALUATIONS_OF_GIVEN_ROWS
    return max(MIN_INTERVAL, math.ceil(total_steps / evaluations))


def count_evaluations(config: ObjectiveConfig, total_steps: int) -> int:
    """How often a student is evaluated in a training: before some steps, and once more at the end."""
    return math.ceil(total_steps / eval_interval(config, total_steps)) + 1
