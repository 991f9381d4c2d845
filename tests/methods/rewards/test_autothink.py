"""AutoThink's cast: its learner sees the ellipsis."""

from potstill.runs.cast import Cast

CAST = Cast(poses=True)
