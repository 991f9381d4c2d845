"""What the pages bring with them is what was taken from its makers, with its licence; the pages never insert HTML."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import zipfile
from importlib import resources
from pathlib import Path

import child
import pytest

ROOT = Path(__file__).parents[2]
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


@pytest.mark.slow
def test_a_wheel_holds_what_the_pages_need(tmp_path: Path):
    pytest.importorskip("setuptools", minversion="77")
    project = tmp_path / "project"
    shutil.copytree(ROOT / "potstill" / "viewer", project / "potstill" / "viewer")
    for name in ("pyproject.toml", "README.md", "LICENSE", "potstill/__init__.py"):
        shutil.copyfile(ROOT / name, project / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    child.run([sys.executable, "-m", "pip", "wheel", str(project), *options])
    [path] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        folder = "potstill/viewer/vendor"
        for entry in json.loads(wheel.read(f"{folder}/vendor.json")):
            content = wheel.read(f"{folder}/{entry['file']}")
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        names = set(wheel.namelist())
    pages = {f"potstill/viewer/app/{file.name}" for file in (VIEWER / "app").iterdir()}
    assert pages <= names


def test_the_table_of_checks_names_tests_that_exist():
    folder = Path(__file__).parent
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (folder / "README.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 31))
    for number, cell in rows:
        path = folder
        for code in re.findall(r"`([^`]+)`", cell):
            # `file: name`, then further names of the same file; `b/file` alone is all of it.
            file, _, name = code.rpartition(": ")
            if not file and (code.startswith(("b/", "tests/", "make ")) or code == "LIGHT"):
                continue
            if file.startswith("tests/"):
                path = ROOT / file
            elif file:
                path = folder / f"{_file_stem(file)}.py"
            assert f"def test_{name.removesuffix('…')}" in path.read_text("utf-8"), (number, code)


def _file_stem(name: str) -> str:
    return f"browser/test_{name[2:]}" if name.startswith("b/") else f"test_{name}"
