"""The end of the report: notes, how the learner was asked, the recipe, every fingerprint."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.report.markup import Html, tag
from potstill.report.section import (
    Section,
    data_table,
    fold,
    make_section,
    read_settings_text,
    settings_table,
)


def setup_section(results: Results) -> Section | None:
    """Which models played which roles, what the learner was shown, and every setting."""
    parts: list[Html] = []
    specs: Mapping[str, str] = results.recipe.get("roles", {})
    if results.models:
        rows = [(role, specs.get(role, ""), model) for role, model in results.models.items()]
        parts.append(tag("h3", "Models"))
        parts.append(data_table(("role", "model", "id"), rows, name="models by role"))
    if results.prompts:
        parts.append(tag("h3", "What the learner sees"))
        for number, prompt in enumerate(results.prompts, 1):
            name = f"the learner’s prompt, {number} of {len(results.prompts)}"
            parts.append(tag("pre", prompt, tabindex=0, role="group", aria_label=name))
    if results.recipe:
        settings = settings_table(results.recipe, name="settings of the run")
        parts.append(fold("Every setting", settings))
    if not parts:
        return None
    return make_section("Setup", "", *parts)


def notes_section(results: Results) -> Section:
    """Notes, and the fingerprints folded away."""
    notes = None
    if results.notes:
        items = [tag("li", note) for note in results.notes]
        notes = tag("ul", *items, class_="said")
    tables: list[Html] = []
    for name, evaluation in results.evaluations.items():
        tables.append(_fingerprint_table(name, evaluation))
    fingerprints = fold("Fingerprints", *tables) if tables else None
    method = tag(
        "p",
        "Intervals are 95 %, with the problem as the unit: Wilson on the effective number of draws for shares, "
        "Student’s t on paired differences. pass@k is the unbiased estimator. "
        "A tie in maj@k counts as its share of right answers.",
        class_="soft",
    )
    return make_section("Notes and fingerprints", "", notes, method, fingerprints)


def _fingerprint_table(name: str, evaluation: Evaluation) -> Html:
    fingerprint = evaluation.fingerprint
    values = {**fingerprint.task, **fingerprint.run, "task": fingerprint.task_id}
    rows: list[tuple[str, Html]] = []
    for key, value in values.items():
        rows.append((key, tag("span", read_settings_text(value) or "–", class_="mono")))
    title = f"Fingerprint of {name}"
    table = data_table(("component", "value"), rows, name=title.lower())
    return tag("div", tag("h3", title), table)
