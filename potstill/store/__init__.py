"""Completions, traces and students on disk: what a killed run comes back to."""

from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.store.students import Student

__all__ = ["Store", "Student", "with_cache"]
