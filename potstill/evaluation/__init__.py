"""Run benchmarks, measure with intervals, compare honestly; `evaluate`, `compare`, `results`, `table`."""
