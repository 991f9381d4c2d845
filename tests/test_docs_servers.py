"""docs/servers.md against the code: every spec in it can be read, every option and preset is in it and exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from potstill.models import SPEED_OPTIONS
from potstill.models.remote.batch_api import MAX_CALLS
from potstill.models.remote.litellm import VendorOptions
from potstill.models.remote.options import ServerOptions, parse_server_options
from potstill.models.remote.presets import PRESETS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "servers.md").read_text("utf-8")
SPECS = sorted(set(re.findall(r"(?:openai|litellm):[\w./:-]+(?:\?[\w.=&:/-]+)?", PAGE)))


def test_there_are_specs_of_both_kinds():
    assert len([s for s in SPECS if "?" in s]) >= 8
    assert any(s.startswith("litellm:") for s in SPECS)


@pytest.mark.parametrize("spec", [s for s in SPECS if "?" in s and "PRESET" not in s])
def test_a_spec_of_the_page_can_be_read(spec):
    options = parse_server_options(spec.partition("?")[2].replace("HOST:PORT", "host:8000"))
    made = VendorOptions(**options) if spec.startswith("litellm:") else ServerOptions(**options)
    assert made.base.startswith("http")


def test_the_table_of_options_is_that_of_the_code():
    table = PAGE.split("## Options")[1].split("\n\n")[1]
    named = set(
        re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    )
    assert named == {f.name for f in fields(ServerOptions)} - {"extra"}
    assert "`extra.FIELD`" in table
    free = PAGE.split("What changes no sample (")[1].split("the port")[0]
    assert set(re.findall(r"`(\w+)`", free)) == set(SPEED_OPTIONS) - {"threads"}


def test_every_preset_is_on_the_page():
    told = PAGE.split("Presets: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", told)) - {"url"} == set(PRESETS)
    assert f"{MAX_CALLS:,}" in PAGE
