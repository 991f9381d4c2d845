"""The page of a study: question, finding, setup, tables, figure and fingerprint, as Markdown."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.data.atomic_write import write_text
from potstill.studies.chart import render_svg
from potstill.studies.study import StudyPage

LINE_WIDTH = 120
GENERATED = "Written by `{command}`; change the study, not this page."


def write_page(
    folder: Path,
    name: str,
    page: StudyPage,
    *,
    question: str,
    fingerprint: Mapping[str, Any],
    command: str,
) -> tuple[Path, Path]:
    """Write NAME.md and NAME.svg into a folder, more figures of its sections, and NAME.json where it has a summary.

    Args:
        folder: of the page.
        name: of the study.
        page: what its figures say.
        question: of the study.
        fingerprint: of everything that could change the figures.
        command: that makes the page again.

    Returns:
        The paths of page and figure.
    """
    markdown, figure = folder / f"{name}.md", folder / f"{name}.svg"
    write_text(figure, render_svg(page.chart))
    for title, chart in page.charts.items():
        write_text(folder / figure_name(name, title), render_svg(chart))
    text = render_page(name, page, question=question, fingerprint=fingerprint, command=command)
    write_text(markdown, text)
    if page.summary:
        summary = json.dumps(page.summary, indent=1, allow_nan=False)
        write_text(folder / f"{name}.json", f"{summary}\n")
    return markdown, figure


def render_page(
    name: str, page: StudyPage, *, question: str, fingerprint: Mapping[str, Any], command: str
) -> str:
    """The page as Markdown."""
    parts = [
        f"# {question}",
        GENERATED.format(command=command),
        f"**What came out.** {page.finding}",
        f"![{page.chart.title}]({name}.svg)",
        page.setup.strip(),
    ]
    for title, rows in page.tables.items():
        parts += [f"## {title}", markdown_table(rows)]
    for title, text in page.sections.items():
        parts += [f"## {title}", text.strip()]
        if title in page.charts:
            parts.append(f"![{page.charts[title].title}]({figure_name(name, title)})")
    parts += ["## Fingerprint", fingerprint_list(fingerprint)]
    return "\n\n".join(_fill(part) for part in parts) + "\n"


def figure_name(name: str, title: str) -> str:
    """The file of a section's figure: the study's name and the title in letters, digits and hyphens."""
    words = re.findall(r"[a-z0-9]+", title.lower())
    return f"{name}-{'-'.join(words)}.svg"


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same columns as a Markdown table."""
    lines = [_table_line(rows[0]), "|" + "---|" * len(rows[0])]
    for row in rows:
        lines.append(_table_line(row.values()))
    return "\n".join(lines)


def fingerprint_list(fingerprint: Mapping[str, Any]) -> str:
    """The components of a fingerprint as a list."""
    lines: list[str] = []
    for key, value in fingerprint.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"- {key}: `{text}`")
    return "\n".join(lines)


def _table_line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _fill(part: str) -> str:
    """A paragraph in lines of equal length; tables, lists, headings and paragraphs with lines of their own stay."""
    if part.startswith(("#", "|", "-", "!")) or "\n" in part:
        return part
    return "\n".join(
        textwrap.wrap(part, LINE_WIDTH, break_long_words=False, break_on_hyphens=False)
    )
