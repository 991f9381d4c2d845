"""Completions, traces and students on disk: what a killed run comes back to."""

from potstill.data.trace_json import from_json, to_json
from potstill.store.cache_client import Progress
from potstill.store.cached_model import cached
from potstill.store.store import Counts, Store
from potstill.store.students import Student

__all__ = ["Counts", "Progress", "Store", "Student", "cached", "from_json", "to_json"]
