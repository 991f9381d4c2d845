"""benchmarks/gpu.sh on a CPU at sizes that prove nothing: every section works on the day that a GPU comes."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import child
import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu
import gpu_sections
from gpu_sections import SECTIONS, TINY, Line, Place

pytestmark = pytest.mark.slow
# What TRL's and liger's loss heads show: milliseconds, where the package is there.
MEASURED_PEERS = [
    "left out" if find_spec(name) is None else "ms" for name in ("trl", "liger_kernel")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place("cpu", TINY, tmp_path_factory.mktemp("gpu"))
    assert gpu_sections.build_model(place) == []
    assert SECTIONS["peak"](place)[0].value.endswith("TFLOP/s")
    return place


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sampling", ["tokens/s", "tokens/s"]),
        ("full", ["tokens/s"]),
        ("lora", ["tokens/s"]),
        pytest.param("fsdp2", ["tokens/s"], marks=pytest.mark.long),
        pytest.param("resume", ["the same bits"], marks=pytest.mark.long),
        ("memory", ["8 of 8 answered", "not supported"]),
        ("on-policy", ["tokens/s"]),
        ("loss-head", 2 * ["ms", "ms", *MEASURED_PEERS]),
    ],
)
def test_a_section_measures_what_it_says(place: Place, name: str, values: list[str]) -> None:
    lines = SECTIONS[name](place)
    assert len(lines) == len(values)
    for line, value in zip(lines, values, strict=True):
        assert line.value.endswith(value), line
    has_share = name in ("sampling", "full", "lora", "fsdp2", "loss-head")
    assert lines[0].share.endswith("%") is has_share


def test_memory_that_runs_out_is_halved(place: Place) -> None:
    [sampling, _] = SECTIONS["memory"](place)
    assert sampling.note == "batches of 8, 4, 4; the error is made up"


def test_without_a_gpu_the_script_says_so_and_ends_well() -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = child.run([ROOT / "benchmarks" / "gpu.sh"], env=environment)
    assert done.stdout.startswith("skipped: torch sees no GPU")


def test_a_section_that_fails_or_hangs_is_told_and_the_others_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {
        "model": "print('[]')",
        "full": "raise RuntimeError('no | kernel')",
        "lora": "import time; time.sleep(60)",
        "peak": 'print(\'[{"what": "product", "value": "9 TFLOP/s"}]\')',
    }
    monkeypatch.setattr(
        gpu, "child_command", lambda place, name: [sys.executable, "-c", programs[name]]
    )
    table = gpu.measure(place, ["full", "peak"])
    assert list(table) == ["peak", "full"]
    assert table["full"][0].note.startswith("RuntimeError: no | kernel; ")
    assert gpu.run_section(place, "lora", 0.6)[0].note == "no end after 1 s"
    assert table["peak"][0].value == "9 TFLOP/s"
    assert gpu.run_section(place, "peak", 0.0)[0].note == "no time left of 460 s"

    gpu.print_table({"full": [Line("not measured", "failed", note="no | kernel")]})
    assert capsys.readouterr().out.splitlines()[-1].count("|") == 7
