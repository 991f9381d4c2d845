"""One run that the viewer's tests look at; none of them writes into it."""

from __future__ import annotations

import pytest
from viewed_run import make_run, open_reader

from potstill.viewer.reader import RunReader


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    """A reader of it, its index whole."""
    folder = tmp_path_factory.mktemp("viewed")
    return open_reader(make_run(folder / "run"), folder / "index")
