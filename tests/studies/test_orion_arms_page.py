"""What the README says of ORION is what the recorded study of docs/studies/orion-arms.md came to, word for word."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "studies" / "orion-arms.md"


def words_of(path: Path) -> str:
    """A file's text with single blanks, so that line breaks do not matter."""
    return " ".join(path.read_text("utf-8").split())


def test_the_readme_quotes_the_findings_of_the_page():
    summary = json.loads(PAGE.with_suffix(".json").read_text("utf-8"))
    assert summary["sentences"]
    readme, page = words_of(ROOT / "README.md"), words_of(PAGE)
    for sentence in summary["sentences"]:
        assert sentence in page
        assert sentence in readme
