"""How things are called in a run folder and in its ledgers; it imports nothing, for who only looks at runs."""

from __future__ import annotations

RESULTS_FILE = "results.json"
UNFINISHED_FILE = "unfinished.json"
"""The same of a run that has not come to its end; the end takes it away."""
BUDGET_FILE = "budget.json"
"""What the newest program in the folder may spend; not there where it has no limit."""
UNTRAINED = "untrained"
"""The arm of the student before any training."""


def examples_ledger(arm: str) -> str:
    """The ledger that keeps a trained student's answers to the problems of its example rows."""
    return f"{arm} examples"


def evaluation_ledger(arm: str) -> str:
    """The ledger that keeps the answers that an arm was measured by."""
    return arm if arm == UNTRAINED else f"{arm} evaluated"
