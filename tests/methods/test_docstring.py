"""What a docstring says of a method, in sections that can be read."""

from __future__ import annotations

import pytest

from potstill.methods import METHODS, docstring, listing
from potstill.methods.catalogue import method_entry
from potstill.methods.docstring import Citation, Item, MethodText, bibtex

DOC = """A title (arXiv:2401.00001).

Learns from: right chains,
    and wrong ones.
Needs: teacher (writes), [sampler] (writes in its place).
Controls: arm=none (nothing, shown), all-of-it (one by one), settings.weight and settings.sign=same.
Departures: none of note.

Args:
    n: not a section.
"""


def test_sections_are_read_over_their_lines():
    text = MethodText(DOC, "Partial: a half.\nCite: A B, C D-E: On x: a study (2024).\n")
    assert text.section("Learns from") == "right chains, and wrong ones."
    assert text.needs == [Item("teacher", "writes"), Item("[sampler]", "writes in its place")]
    assert text.controls == [
        Item("arm=none", "nothing, shown"),
        Item("arm=all-of-it", "one by one"),
        Item("settings.weight", ""),
        Item("settings.sign=same", ""),
    ]
    assert text.citation == Citation(("A B", "C D-E"), "On x: a study", "2024")
    assert (text.title, text.arxiv) == ("A title (arXiv:2401.00001).", "2401.00001")


@pytest.mark.parametrize(
    ("doc", "exactness"),
    [
        ("T.", "exact"),
        ("T.\n\nDeparture: x.", "departs"),
        (DOC, "departs"),
        (DOC + "\nPartial: y.", "partial"),
        (DOC + "\nPartial: y.\nPaper: 7 (from the abstract)", "from the abstract"),
    ],
)
def test_exactness_is_what_the_docstring_admits(doc, exactness):
    assert MethodText(doc).exactness == exactness


def test_a_method_names_its_rows_of_the_index_of_papers():
    assert MethodText("T.\n\nPaper: 57, 106.").papers == ("57", "106")
    assert MethodText("T.\n\nPaper: R1 (from the abstract)").papers == ("R1",)
    assert MethodText("T.").papers == ()


def test_bibtex_of_a_paper_that_is_cited():
    text = MethodText("T (arXiv:2401.00001).\n\nCite: A B, C D: On x (2024).")
    assert bibtex("star", text) == (
        "@misc{star2024,\n  title = {On x},\n  author = {A B and C D},\n  year = {2024},\n"
        "  eprint = {2401.00001},\n  archivePrefix = {arXiv},\n}"
    )
    assert bibtex("star", MethodText("T.")) == ""


def test_controls_that_are_none_are_no_arms():
    assert MethodText("T.\n\nControls: none; it is compared, with others.").controls == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_is_learnt_needed_controlled_and_cited(name):
    entry = method_entry(name)
    text = entry.text
    assert text.section("Learns from"), f"{name}: write `Learns from:` (docs/adding-a-method.md)"
    assert text.citation is not None, (
        f"{name}: write `Cite: First Author, Second Author: Title (2023).`"
    )
    roles = [f"[{role.name}]" if role.optional else role.name for role in entry.roles]
    assert [item.name for item in text.needs] == roles, f"{name}: `Needs:` against its signature"
    assert text.section("Controls"), f"{name}: write `Controls:`, or `Controls: none.`"


def choices_of(values, prefix=""):
    """Each choice of a method's values as NAME=VALUE; of a Literal its options, else NAME alone."""
    choices = {}
    for value in values:
        if value.fields:
            choices |= choices_of(value.fields, f"{prefix}{value.name}.")
        else:
            choices[prefix + value.name] = value
    return choices


@pytest.mark.parametrize("name", METHODS)
def test_every_control_is_a_value_of_the_method_and_every_arm_is_a_control(name):
    entry = method_entry(name)
    values = choices_of(entry.values)
    controls = [item.name for item in entry.text.controls]
    for control in controls:
        key, has_value, value = control.partition("=")
        assert key in values, f"{name}: no value {key}"
        options = [str(option) for option in docstring.literal_options(values[key].annotation)]
        assert not has_value or not options or value in options, f"{name}: {control}: {options}"
    if "arm" in values:
        arms = set(map(str, docstring.literal_options(values["arm"].annotation)))
        named = {control.removeprefix("arm=") for control in controls if control.startswith("arm=")}
        assert arms - {str(values["arm"].default)} <= named, f"{name}: `Controls:` leaves arms out"


def test_every_family_says_what_it_learns_from_and_what_to_begin_with():
    for family in listing.list_families().values():
        assert family.learns_from.endswith(".")
        assert family.begin_with in family.methods or not family.methods, family.name
