"""Every test here judges sums with the stand-in verifier, which counts its calls, and keeps a ledger."""

import pytest
from fakes import Book, Judge

from potstill import verifiers
from potstill.traces import Session, using


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    fake = Judge()
    for name in ("judge", "steps", "version", "read", "equal"):
        monkeypatch.setattr(verifiers, name, getattr(fake, name), raising=False)
    return fake


@pytest.fixture(autouse=True)
def book():
    held = Book()
    with using(Session(held, held, workers=4)):
        yield held
