"""What a method adds to the report in a line or two: how many traces pass a test, and a section of such shares."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.records import Trace
from potstill.traces.selection import Test, passes
from potstill.traces.session import ReportSection, Share, report


def share_of(label: str, test: Test, traces: Sequence[Trace]) -> Share:
    """How many of the traces pass a test: `share_of("errors: wrong", wrong, errors)`.

    Args:
        label: of the bar.
        test: as for `keep`.
        traces: all of them.
    """
    passing = [trace for trace in traces if passes(test, trace)]
    return Share(label, len(passing), len(traces))


def report_shares(title: str, shares: Sequence[Share], *, hint: str) -> None:
    """Add a section of shares to the run's results and report; a share of nothing is left out.

    Args:
        title: of the section.
        shares: its bars.
        hint: how to read it.
    """
    report(ReportSection(title, hint, tuple(share for share in shares if share.whole)))
