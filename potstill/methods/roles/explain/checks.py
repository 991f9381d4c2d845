"""What an editorial must be to become a row: whole, in words, and no retelling of the solution (inferred).

What its writer thought before it wrote is no part of the editorial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from potstill.methods.roles.explain.prompts import CODE_BLOCK, SECTIONS, WALKTHROUGH
from potstill.records import Trace
from potstill.traces import read_sections

COPIED_TOKENS = 4  # of the solution in a row that count as copied
_CODE_TOKEN = re.compile(r"\w+|[^\w\s]")


def has_every_section(trace: Trace) -> tuple[bool, str]:
    """Every section of the prompt is there and says something."""
    return read_sections(trace.text, tuple(SECTIONS)) is not None, "a section is missing or empty"


def has_no_code_block(trace: Trace) -> tuple[bool, str]:
    """It is in words: no fenced block and no code element."""
    return CODE_BLOCK.search(trace.reply) is None, "has a block of code"


def is_no_walkthrough(trace: Trace) -> tuple[bool, str]:
    """It does not go through the solution line by line, nor mention what only its writer saw."""
    mention = WALKTHROUGH.search(trace.reply)
    return mention is None, f"mentions {mention[0]!r}" if mention is not None else ""


def copies_little(max_share: float, trace: Trace) -> tuple[bool, str]:
    """It repeats at most this share of the solution, by the score `copied`."""
    share = trace.scores["copied"]
    is_within = isinstance(share, float) and share <= max_share
    return is_within, f"repeats more than {max_share:.0%} of the solution's runs of {COPIED_TOKENS}"


def score_copied_shares(
    solution_by_id: Mapping[str, str], editorials: Sequence[Trace]
) -> list[float | None]:
    """A scorer: the share of the solution's runs of 4 tokens that each editorial repeats.

    Args:
        solution_by_id: solutions by the id of the trace that an editorial was made from.
        editorials: what is scored.
    """
    shares: list[float | None] = []
    for editorial in editorials:
        # An editorial has one parent: the solution that its writer saw.
        [solution] = [solution_by_id[parent] for parent in editorial.parents]
        solution_runs = token_runs(solution)
        copied_runs = solution_runs & token_runs(editorial.reply)
        shares.append(len(copied_runs) / max(1, len(solution_runs)))
    return shares


def token_runs(text: str) -> set[tuple[str, ...]]:
    """The different runs of 4 tokens of a text: words and single marks."""
    tokens = _CODE_TOKEN.findall(text)
    last_start = len(tokens) - COPIED_TOKENS
    return {tuple(tokens[start : start + COPIED_TOKENS]) for start in range(last_start + 1)}
