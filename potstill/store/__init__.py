"""Completions, traces and students on disk: what a killed run comes back to."""

from potstill.store.cached import cached
from potstill.store.desk import Progress
from potstill.store.store import Counts, Store
from potstill.store.students import Student
from potstill.store.traces import from_json, to_json

__all__ = ["Counts", "Progress", "Store", "Student", "cached", "from_json", "to_json"]
