"""What the pages bring with them is what was taken from its makers, with its licence; the pages never insert HTML."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources

VIEWER = resources.files("potstill.viewer")


def test_every_vendored_file_has_its_recorded_hash_and_licence():
    vendor = VIEWER / "vendor"
    recorded = json.loads((vendor / "vendor.json").read_text("utf-8"))
    for entry in recorded:
        content = (vendor / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert all((vendor / name).is_file() for name in entry["licence_files"])
    licences = {name for entry in recorded for name in entry["licence_files"]}
    files = {path.name for path in vendor.iterdir()}
    assert files == {entry["file"] for entry in recorded} | licences | {"vendor.json"}


def test_the_pages_insert_no_html_and_run_no_text():
    page = (VIEWER / "app" / "index.html").read_text("utf-8")
    for path in (VIEWER / "app").iterdir():
        text = path.read_text("utf-8")
        if path.name.endswith(".js"):
            assert f'src="app/{path.name}"' in page, f"{path.name} is never loaded"
            unsafe = re.findall(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|dangerously|\beval\(|new Function",
                text,
            )
            assert not unsafe, f"{path.name}: {unsafe}"
            assert text.count("\n") <= 400, f"{path.name} is long"
