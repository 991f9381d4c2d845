"""What axe looks for in the report: contrast in both schemes, order of headings, landmarks, names, table headers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from importlib import resources

import pytest
from demo_results import results

from potstill.evaluation.results import Ending, Results
from potstill.report.page import render_page

VOID = {"meta", "br"}
MIN_CONTRAST = 4.5  # WCAG 2, AA, of text that is not large
# Foregrounds on the backgrounds that they stand on.
CONTRASTS = {
    "ink": ("page", "card"),
    "soft": ("page", "card"),
    "accent": ("page", "card"),
    "better": ("page", "card"),
    "worse": ("page", "card"),
    "plain": ("page", "card"),
    "marked": ("mark",),
}


@dataclass
class Element:
    """An element with its attributes, children and text."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child.walk()

    def all(self, *names: str) -> list[Element]:
        return [element for element in self.walk() if element.name in names]

    @property
    def whole_text(self) -> str:
        return "".join(element.text for element in self.walk())


class TreeBuilder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data


def unfinished() -> Results:
    return replace(results(), ending=Ending("failed", "nobody answers"), title="")


@cache
def page(kind: str) -> Element:
    pages = {"whole": results, "unfinished": unfinished, "empty": lambda: Results("t", 0)}
    builder = TreeBuilder()
    builder.feed(render_page(pages[kind]()))
    return builder.root


@pytest.fixture(params=["whole", "unfinished", "empty"])
def root(request: pytest.FixtureRequest) -> Element:
    return page(request.param)


def test_the_page_says_its_language_and_title(root: Element) -> None:
    [html] = root.all("html")
    [title] = root.all("title")
    assert html.attributes["lang"] == "en" and title.text.strip()


def test_everything_stands_in_a_landmark(root: Element) -> None:
    [body] = root.all("body")
    assert [child.name for child in body.children] == ["header", "nav", "main", "footer"]
    assert not body.text.strip()
    assert all(nav.attributes.get("aria-label") for nav in root.all("nav"))


def test_headings_go_down_one_level_at_a_time(root: Element) -> None:
    headings = [element for element in root.walk() if re.fullmatch("h[1-6]", element.name)]
    levels = [int(heading.name[1]) for heading in headings]
    assert levels[0] == 1 and levels.count(1) == 1
    for level, previous in zip(levels[1:], levels, strict=False):
        assert level <= previous + 1
    assert all(heading.whole_text.strip() for heading in headings)


def test_ids_and_names_are_unique_and_links_lead_somewhere(root: Element) -> None:
    ids = Counter(e.attributes["id"] for e in root.walk() if "id" in e.attributes)
    assert set(ids.values()) <= {1}
    targets = {link.attributes["href"] for link in root.all("a")}
    assert targets == {f"#{section.attributes['id']}" for section in root.all("section")}
    groups = [e for e in root.walk() if e.attributes.get("role") == "group"]
    labels = Counter(group.attributes["aria-label"] for group in groups)
    assert "" not in labels and set(labels.values()) <= {1}


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(root: Element) -> None:
    for element in root.walk():
        scrolls = element.name == "pre" or element.attributes.get("class") == "scroll"
        if scrolls:
            assert element.attributes.get("tabindex") == "0"
            assert element.attributes.get("role") == "group"
            assert element.attributes.get("aria-label")


def test_tables_have_headers(root: Element) -> None:
    for table in root.all("table"):
        assert table.all("thead")
        for header in table.all("th"):
            assert header.attributes.get("scope") in ("col", "row") and header.whole_text.strip()
        widths = {len(row.children) for row in table.all("tr")}
        assert len(widths) == 1


def test_drawings_have_a_name_or_are_hidden(root: Element) -> None:
    for drawing in root.all("svg"):
        is_hidden = drawing.attributes.get("aria-hidden") == "true"
        is_named = drawing.attributes.get("role") == "img" and drawing.attributes.get("aria-label")
        assert is_hidden or is_named


def test_lists_hold_items_and_details_begin_with_a_summary(root: Element) -> None:
    for element in root.all("ul", "ol"):
        assert {child.name for child in element.children} == {"li"}
    for element in root.all("dl"):
        names = [child.name for child in element.children]
        assert names[::2] == ["dt"] * (len(names) // 2) and set(names[1::2]) == {"dd"}
    for element in root.all("details"):
        assert element.children[0].name == "summary" and element.children[0].whole_text.strip()


def css() -> str:
    return resources.files("potstill.report").joinpath("report.css").read_text("utf-8")


def schemes() -> dict[str, dict[str, str]]:
    """The colours by name, in the light and in the dark scheme."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css(), re.DOTALL)
    )
    return {"light": light, "dark": {**light, **dark}}


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = []
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        channels.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_enough(scheme: str) -> None:
    colours = schemes()[scheme]
    for foreground, backgrounds in CONTRASTS.items():
        for background in backgrounds:
            ratio = contrast(colours[foreground], colours[background])
            assert ratio >= MIN_CONTRAST, (scheme, foreground, background, round(ratio, 2))


def test_no_text_has_a_colour_that_is_not_checked() -> None:
    used = re.findall(r"(?<![-\w])color:\s*var\(--(\w+)\)", css())
    used += re.findall(r"svg text \{ fill: var\(--(\w+)\)", css())
    assert set(used) == set(CONTRASTS)
    literal = re.findall(r"(?<![-\w])color:\s*(?!var\(|currentcolor)\S+", css())
    assert not literal
