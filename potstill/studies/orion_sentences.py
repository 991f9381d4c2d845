"""What came out of `orion-arms`, in sentences: one a world, and one on what its own errors add, all with intervals.

The page and the README quote them word for word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.table import format_points
from potstill.studies import arms
from potstill.studies.orion_leads import WorldPage, judge_claim, kind_of, lead, other_arms
from potstill.studies.orion_worlds import ARMS, OWN, UNTRAINED, Regime

REGIME_WORDS: Mapping[Regime, str] = {
    "matched": "at equal rows and steps",
    "unmatched": "with all rows of each arm",
}
COUNT_WORDS = ("no", "one", "two", "three", "four", "five")
# What ORION's writer is shown, against what it is shown in the control.
ERROR_CONTROLS: Mapping[str, str] = {
    "none": "Seeing its own errors rather than none changes ORION's gain",
    "shuffled": "seeing its own rather than another problem's",
}
ON_POLICY = "on-policy"
# What the student learns from that is taught with its errors in view, against what else.
ON_POLICY_RIVALS: Mapping[str, str] = {
    OWN: "ORION's rewrites",
    "none": "rewrites without errors in view",
    "on-policy-none": "such a teacher without errors",
    "on-policy-shuffled": "one with another problem's errors",
}
CAVEAT = (
    "Students, tasks and training sets are small, the settings of ORION are inferred from its abstract, and the "
    "teacher is no large model: this says nothing of the paper's own experiments."
)


def summary_sentences(pages: Sequence[WorldPage]) -> list[str]:
    """A sentence a world on ORION against the baselines, and one on what its own errors add."""
    measured_pages = pages_to_tell(pages)
    sentences = [describe_baselines(page, page.world.regimes[0]) for page in measured_pages]
    sentences.append(describe_errors(measured_pages))
    sentences += [describe_on_policy(page) for page in pages]
    return [sentence for sentence in sentences if sentence]


def pages_to_tell(pages: Sequence[WorldPage]) -> list[WorldPage]:
    """The worlds that have been measured; of several with the same student and problems the one with the most runs."""
    by_place: dict[str, WorldPage] = {}
    for page in pages:
        cells = page.cells(page.world.regimes[0])
        if OWN not in cells or UNTRAINED not in cells:
            continue
        rival = by_place.get(page.world.place)
        if rival is None or page.count_measured() > rival.count_measured():
            by_place[page.world.place] = page
    return list(by_place.values())


def write_finding(sentences: Sequence[str]) -> str:
    """What came out, as one paragraph, with what it is no evidence for."""
    if not sentences:
        return "Nothing has been measured yet."
    return " ".join([*sentences, CAVEAT])


def describe_baselines(page: WorldPage, regime: Regime) -> str:
    """ORION's gain and its lead over each baseline in a regime, and what they say of the claim."""
    cells = page.cells(regime)
    # Each baseline by what the interval of ORION's lead decides.
    above: list[str] = []
    below: list[str] = []
    undecided: list[str] = []
    verdicts: dict[str, str] = {}
    for name in other_arms(page, regime):
        estimate = lead(cells, OWN, name)
        if estimate is None or kind_of(name) != "baseline":
            continue
        verdicts[name] = judge_claim(estimate)
        called = ARMS[name].called
        sign = arms.sign(estimate)
        if sign == "above":
            above.append(f"{called} (by {format_size(estimate)})")
        elif sign == "below":
            below.append(f"{called} (by {format_size(estimate)})")
        else:
            undecided.append(f"{called} ({format_points(estimate)})")

    parts: list[str] = []
    if above:
        parts.append(f"more than {join_words(above)}")
    if below:
        parts.append(f"less than {join_words(below)}")
    if undecided:
        parts.append(f"not told apart from {join_words(undecided, last='or')}")
    comparison = ", and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    seeds = count_words(len(cells[OWN]), "seed")
    gain = lead(cells, OWN, UNTRAINED)
    assert gain is not None
    return (
        f"{page.world.place.capitalize()}, {REGIME_WORDS[regime]} and over {seeds}, ORION's student gains "
        f"{format_points(gain)} points, {comparison or 'beside no baseline'}, {describe_claim(verdicts)}."
    )


def describe_claim(verdicts: Mapping[str, str]) -> str:
    """What the leads over the baselines say of the claim of over 2 points above all of them."""
    if not verdicts:
        return "so the paper's claim of more than 2 % over all baselines is not tested there"
    # One baseline is enough to contradict a claim about all of them.
    if "no" in verdicts.values():
        return "so the paper's claim of more than 2 % over all baselines does not hold there"
    if "open" in verdicts.values():
        return "so the paper's claim of more than 2 % over all baselines stays open there"
    return "so the paper's claim of more than 2 % over all baselines holds there"


def describe_errors(pages: Sequence[WorldPage]) -> str:
    """ORION less the arms that are shown no errors, or another problem's, in all worlds."""
    parts: list[str] = []
    named_places: list[str] = []
    for control, words in ERROR_CONTROLS.items():
        changes: list[str] = []
        places: list[str] = []
        for page in pages:
            estimate = lead(page.cells(page.world.regimes[0]), OWN, control)
            if estimate is not None:
                changes.append(f"by {format_points(estimate)}")
                places.append(page.world.place)
        if not changes:
            continue
        # The places need no second naming.
        if places == named_places:
            parts.append(f"{words}, {join_words(changes)}")
            continue
        named_places = places
        changes[0] += " points"
        pairs = zip(changes, places, strict=True)
        parts.append(f"{words} {join_words([f'{change} {place}' for change, place in pairs])}")
    return f"{'; '.join(parts)}." if parts else ""


def describe_on_policy(page: WorldPage) -> str:
    """What the same errors are worth in a teacher's prompt, where nobody rewrites; "" where that was not measured."""
    regime = page.world.regimes[0]
    cells = page.cells(regime)
    gain = lead(cells, ON_POLICY, UNTRAINED)
    parts: list[str] = []
    for name, words in ON_POLICY_RIVALS.items():
        estimate = lead(cells, ON_POLICY, name)
        if estimate is not None:
            parts.append(f"{format_points(estimate)} against {words}")
    if gain is None or not parts:
        return ""
    return (
        f"Where nobody rewrites, and the student that is shown chain and errors teaches the one that is not, on-policy "
        f"and token by token, it gains {format_points(gain)} points {page.world.place}: {join_words(parts)}."
    )


def format_size(estimate: Estimate) -> str:
    """How large a difference is whose sign is said, with its interval, in points of 100: `12.3 [8.1, 16.5]`."""
    ends = sorted((abs(100 * estimate.low), abs(100 * estimate.high)))
    return f"{abs(100 * estimate.value):.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"


def join_words(parts: Sequence[str], *, last: str = "and") -> str:
    """Parts as a list in a sentence: "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def count_words(count: int, noun: str) -> str:
    """A count with its noun: "three seeds"."""
    number = COUNT_WORDS[count] if count < len(COUNT_WORDS) else str(count)
    return f"{number} {noun}{'' if count == 1 else 's'}"
