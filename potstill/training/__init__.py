"""From traces to a trained student: rendering, the guard, supervised training."""
