"""The report's examples: rows beside what they came from, answers to held-out problems, each with who wrote it."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.evaluation.results import Example, Passage
from potstill.report.markup import Html, join_nodes, tag
from potstill.report.section import Section, make_section

_BADGES = ("right", "wrong", "error", "unparsed")  # statuses with a badge of their own
_SUMMARY_CHARS = 110  # of a question, in the line that unfolds its example


def examples_section(examples: Sequence[Example]) -> Section | None:
    """Rows that arms trained on, each beside what it was made from and what the trained student answers now."""
    hint = (
        "Rows for training, as models wrote them. An answer of a trained student is one to a problem that it was "
        "trained on; held-out problems have a section of their own. The first wrong step is marked where steps can be "
        "judged."
    )
    return _example_card(
        "Training examples",
        hint,
        [example for example in examples if example.passage("row")],
        kind="training example",
    )


def held_out_section(examples: Sequence[Example]) -> Section | None:
    """Answers to problems that the arms were measured on: some that they solve, and some that they do not."""
    hint = (
        "Problems that no arm was trained on: some that an arm solves in every answer, then some that it solves in "
        "none. The first answer to each is shown, beside the untrained student's."
    )
    return _example_card(
        "Held-out problems",
        hint,
        [example for example in examples if example.held_out],
        kind="held-out example",
    )


def rejected_section(examples: Sequence[Example]) -> Section | None:
    """Texts that operators dropped, with the reason."""
    hint = "Some of what was written and not trained on, for each kind of reason; the most frequent first."
    return _example_card(
        "Rejected texts",
        hint,
        [example for example in examples if example.passage("rejected")],
        kind="rejected text",
    )


def _example_card(
    title: str, hint: str, examples: Sequence[Example], *, kind: str
) -> Section | None:
    by_arm: dict[str, list[Example]] = {}
    for example in examples:
        by_arm.setdefault(example.arm, []).append(example)
    if not by_arm:
        return None
    blocks: list[Html] = []
    for arm, arm_examples in by_arm.items():
        blocks.append(tag("h3", arm))
        for number, example in enumerate(arm_examples, 1):
            name = f"{arm}, {kind} {number}"
            # The first example of the card is unfolded: it shows what the others hold.
            is_first = len(blocks) == 1
            blocks.append(_draw_example(example, name, is_open=is_first))
    return make_section(title, hint, *blocks)


def _draw_example(example: Example, name: str, *, is_open: bool) -> Html:
    # What is known of the problem, and the texts side by side.
    facts: list[str] = []
    if example.gold is not None:
        facts.append(f"Gold answer {example.gold}.")
    if example.note:
        facts.append(f"{example.note.capitalize()}.")
    passages: list[Html] = []
    for number, passage in enumerate(example.passages, 1):
        passages.append(_draw_passage(passage, example, f"{name}, text {number}"))

    # The line that unfolds it is short; a question that does not fit in it stands below.
    summary = " ".join(example.question.split())
    whole_question = None
    if len(summary) > _SUMMARY_CHARS or summary != example.question:
        summary = f"{summary[: _SUMMARY_CHARS - 1]}…"
        whole_question = tag("p", example.question, class_="question")
    return tag(
        "details",
        tag("summary", summary or "(no question)"),
        whole_question,
        tag("p", " ".join(facts), class_="soft"),
        tag("div", *passages, class_="passages"),
        class_="example",
        open=is_open,
    )


def _draw_passage(passage: Passage, example: Example, name: str) -> Html:
    # What the verifier says, and whether the limit ended it.
    badges: list[Html] = []
    if passage.status:
        status = passage.status if passage.status in _BADGES else "unjudged"
        badges.append(tag("span", status, class_=f"badge {status}"))
    if passage.cut:
        badges.append(tag("span", "cut", class_="badge cut", title="ended by the token limit"))

    # An attempt at another problem is shown with what was asked there.
    heading = passage_heading(passage, example)
    other_question = None
    if passage.question:
        other_question = tag("p", f"Asked: {passage.question}", class_="soft asked")
    text = tag(
        "pre", mark_first_error(passage), tabindex=0, role="group", aria_label=f"{name}: {heading}"
    )
    title = tag("h4", tag("span", heading), tag("span", *badges, class_="badges"))
    return tag("div", title, other_question, text, class_="passage")


def passage_heading(passage: Passage, example: Example) -> str:
    """What a text is, and who wrote it."""
    writer = f", by the {passage.author}" if passage.author else ""
    if passage.part == "attempt" and passage.question:
        return f"A wrong attempt at another problem{writer}"
    if passage.part == "answer" and not example.held_out:
        return "The trained student’s answer to this training problem"
    headings = {
        "attempt": f"A wrong attempt{writer}",
        "source": f"The right text that it was made from{writer}",
        "row": f"The training row{writer}",
        "rejected": f"The rejected text{writer}",
        "before": "Before the training",
        "answer": "After the training",
    }
    return headings[passage.part]


def mark_first_error(passage: Passage) -> Html:
    """The text with its first wrong step marked; spans that don't lie in the text are ignored."""
    wrong_spans: list[tuple[int, int]] = []
    for span in passage.spans:
        is_wrong = span.score is not None and span.score < 1
        if is_wrong and 0 <= span.start < span.stop <= len(passage.text):
            wrong_spans.append((span.start, span.stop))
    if not wrong_spans:
        return join_nodes(passage.text or "(nothing)")
    start, stop = min(wrong_spans)
    return join_nodes(
        passage.text[:start],
        tag("mark", passage.text[start:stop], title="first wrong step"),
        passage.text[stop:],
    )
