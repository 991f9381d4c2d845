"""`report.html`: a run's results on one self-contained page. No script, no network, model text always escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from potstill import __version__
from potstill.data.atomic_write import write_text
from potstill.evaluation.results import Ending, Results
from potstill.evaluation.table import BASE
from potstill.report.costs import costs_section, lengths_section
from potstill.report.examples import examples_section, held_out_section, rejected_section
from potstill.report.funnels import funnels_section
from potstill.report.instruments import scores_section, surface_section, total_cost_section
from potstill.report.markup import Html, tag
from potstill.report.outcome import (
    answer_section,
    arms_section,
    differences_section,
    method_sections,
    table_section,
)
from potstill.report.row_steps import row_steps_section
from potstill.report.section import Section, slug
from potstill.report.small_print import notes_section, setup_section
from potstill.report.strata import strata_section
from potstill.report.training import training_section


def write_report(results: Results, path: Path, *, base: str = BASE, by: Sequence[str] = ()) -> None:
    """Write the report atomically.

    Args:
        results: of a run.
        path: of the HTML file.
        base: the arm that the others are compared with.
        by: the metadata by which problems are scored apart; without any the usual ones that they have.
    """
    write_text(path, render_page(results, base=base, by=by))


def render_page(results: Results, *, base: str = BASE, by: Sequence[str] = ()) -> str:
    """The whole page as HTML text."""
    style_sheet = resources.files("potstill.report").joinpath("report.css")
    css = style_sheet.read_text(encoding="utf-8")

    # Only sections that have something to say are drawn, and listed in the contents.
    sections = _list_sections(results, base, by)
    ids = _section_ids(sections)
    drawn: list[Html] = []
    for section, section_id in zip(sections, ids, strict=True):
        drawn.append(_draw_section(section, section_id))
    footer = tag(
        "footer",
        f"Written by potstill {__version__}. This page needs no network and runs no script.",
    )
    contents = _table_of_contents(sections, ids)
    body = tag("body", _page_header(results), contents, tag("main", *drawn), footer)
    whole = tag("html", _page_head(results.title, css), body, lang="en")
    return f"<!doctype html>\n{whole}\n"


def _list_sections(results: Results, base: str, by: Sequence[str]) -> list[Section]:
    """The sections that have something to say, in the order of the page."""
    sections = (
        answer_section(results),
        arms_section(results),
        differences_section(results, base),
        table_section(results, base),
        strata_section(results, base, by),
        surface_section(results),
        scores_section(results),
        funnels_section(results.funnels, ended=results.ending.status == "finished"),
        row_steps_section(results.row_steps),
        *method_sections(results),
        examples_section(results.examples),
        held_out_section(results.examples),
        rejected_section(results.examples),
        training_section(results.training),
        costs_section(results.costs, list(results.evaluations.values())),
        total_cost_section(results),
        lengths_section(results.lengths),
        setup_section(results),
        notes_section(results),
    )
    return [section for section in sections if section is not None]


def _section_ids(sections: Sequence[Section]) -> list[str]:
    """An id for each section, no two of them equal: a method may call a section as it likes."""
    ids: list[str] = []
    for section in sections:
        base_id = candidate = slug(section.title)
        number = 2
        while candidate in ids:
            candidate = f"{base_id}-{number}"
            number += 1
        ids.append(candidate)
    return ids


def _draw_section(section: Section, section_id: str) -> Html:
    hint = tag("p", section.hint, class_="hint") if section.hint else None
    return tag("section", tag("h2", section.title), hint, section.content, id=section_id)


def _table_of_contents(sections: Sequence[Section], ids: Sequence[str]) -> Html:
    items: list[Html] = []
    for section, section_id in zip(sections, ids, strict=True):
        link = tag("a", section.title, href=f"#{section_id}")
        items.append(tag("li", link))
    return tag("nav", tag("ul", *items), aria_label="Contents")


def _page_head(title: str, css: str) -> Html:
    """The policy forbids everything but this one style sheet, by its digest."""
    digest = hashlib.sha256(css.encode()).digest()
    css_digest = base64.b64encode(digest).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{css_digest}'; base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title or "Potstill report"),
        tag("style", Html(css)),
    )


def _page_header(results: Results) -> Html:
    evaluations = list(results.evaluations.values())
    # All arms were measured on the same problems.
    facts: list[Html] = []
    if evaluations:
        first = evaluations[0]
        facts.append(_fact(f"{len(evaluations)}", " arms measured"))
        facts.append(_fact(f"{len(first.rows):,}", " test problems"))
        facts.append(_fact(f"{first.n}", " draws a problem"))
    facts.append(tag("li", "seed ", tag("b", str(results.seed))))
    return tag(
        "header",
        tag("div", "Potstill report", class_="brand"),
        tag("h1", results.title or "Potstill report"),
        _ending_line(results.ending),
        tag("p", results.note, class_="note") if results.note else None,
        tag("ul", *facts, class_="facts"),
    )


def _fact(number: str, words: str) -> Html:
    return tag("li", tag("b", number), words)


def _ending_line(ending: Ending) -> Html | None:
    """Says that these are not the results of a whole run, and why; nothing where they are."""
    if ending.status == "finished":
        return None
    sentences = {
        "running": "This run has not come to its end: it is running, or it was killed.",
        "stopped": "This run was stopped before its end.",
        "failed": "This run failed before its end.",
    }
    hint = "The same command goes on from here; potstill report writes this page again."
    message = None
    if ending.message:
        message = tag(
            "pre", ending.message, tabindex=0, role="group", aria_label="how the run ended"
        )
    sentence = tag("b", sentences[ending.status])
    return tag("div", tag("p", sentence, f" {hint}"), message, class_="ending")
