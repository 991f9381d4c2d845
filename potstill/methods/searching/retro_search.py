"""Retro-Search: a right chain is gone through again, and each thought is carried on where it was left for another one.

The paper's text was read in descriptions, not whole. Inferred: the keywords, the sampling, and that one rollout is made
at a switch.

| constant | value | source |
|---|---|---|
| thoughts | divided where a step begins with a word of switching, such as "alternatively" | paper |
| steps | divided by blank lines; sentences where a chain has none | paper; the latter is ours |
| banned words | where a rollout's first step begins | paper: in the first step, and nowhere else |
| rollouts at a switch | 1 | inferred |
| where it begins | the first switch; in the partial variant one by chance | paper |
| gamma | cancels out: of two right continuations the one with fewer steps is worth more | derived |
| temperature, top-p | 0.6, 0.95 | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.paragraphs import find_paragraphs
from potstill.methods.reasoning_sentences import reasoning_part
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance_fraction,
    each,
    edit,
    is_finished,
    keep,
    report_shares,
    right_test,
    sample,
    verify,
)

KEYWORDS = ("Alternatively", "Another", "But", "However", "Hmm", "Wait")
_SWITCH = re.compile(rf"\W*(?:{'|'.join(KEYWORDS)})\b", re.IGNORECASE)
# A completion may begin with the white space that divides two steps.
BANNED = tuple(space + keyword for keyword in KEYWORDS for space in ("", " ", "\n", "\n\n"))
SAMPLING: dict[str, Any] = {"temperature": 0.6, "top_p": 0.95}


def retro_search(
    problems: list[Trace],
    student: Trainable,
    teacher: Model | None = None,
    reviser: Model | None = None,
    *,
    arm: Literal["retro-search", "free", "original"] = "retro-search",
    start: Literal["first", "random"] = "first",
    ban: bool = True,
    steps: bool | None = None,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, None]:
    """Retro-Search: untaken paths of a chain are explored for a shorter one (Lu et al., arXiv:2504.04383).

    V(s_i, a) = gamma^(steps from s_i to a) [a is right]. At each switch of thought, from left to right, the reviser
    goes on with the thought before it; a rollout of a higher value takes the place of the rest, and the search goes on
    in it.

    Learns from: right chains, with the shorter ways that were found from their thoughts.
    Needs: student (is trained; writes and revises where nobody else does), [teacher] (writes the chains), [reviser]
        (goes on with their thoughts; a weaker model than the teacher may).
    Controls: arm=original (the chains as they are), free (rollouts may begin with a switch: is it the ban, or
        writing anew?).
    Departure: a keyword inside the first step is no switch and is let be. A rollout whose first step begins with one
        all the same is refused, so that servers which can't ban words may revise with ban=false.
        With `steps` a chain and a rollout are right in every step too.
    Paper: 6
    Cite: Ximing Lu, Seungju Han, David Acuna, Hyunwoo Kim, Jaehun Jung, Shrimai Prabhumoye, Niklas Muennighoff, Mostofa
        Patwary, Mohammad Shoeybi, Bryan Catanzaro, Yejin Choi: Retro-Search: Exploring Untaken Paths for Deeper and
        Efficient Reasoning (2025).

    Args:
        student: learns; alone it improves itself.
        teacher: reasons at length.
        reviser: one long call for each thought of a chain; without one whoever wrote the chain.
        arm: the method or one of its controls.
        start: at the first switch of a chain, or at one by chance, which saves about half of the calls.
        ban: forbid the keywords while a rollout begins, which a model of this machine can do.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain, and longest rollout.
    """
    is_right = right_test(problems, steps)
    writer = teacher or student
    samples = sample(writer, problems, max_new_tokens=max_new_tokens, **SAMPLING)
    chains = keep(is_right, verify(keep(is_finished, samples)))
    if arm == "original":
        yield Stage(student, chains, "sft")
        return

    rollout_settings = {"max_new_tokens": max_new_tokens, **SAMPLING}
    if ban and arm != "free":
        rollout_settings["ban_first"] = BANNED

    def search(chain: list[Trace]) -> list[Trace]:
        """The chain, or what it became: right, and with fewer steps."""
        [current] = chain
        place = first_place(start, current)
        while (switch := next_switch(current.text, place)) is not None:
            # The thought before the switch goes on, freely behind its next step.
            prefix = edit(partial(cut_at, switch), [current])
            rollouts = keep(is_finished, sample(reviser or writer, prefix, **rollout_settings))
            if arm != "free":
                rollouts = keep(continues_thought, rollouts)
            better = keep(shorter_than(current), keep(is_right, verify(rollouts)))
            if better:
                current = better[0]
            place = switch
        return [current]

    rows = each(search, chains)
    report_search(chains, rows)
    yield Stage(student, rows, "sft")


def step_starts(text: str) -> list[int]:
    """Where the steps of a chain's reasoning begin: behind blank lines, or sentences where there is none."""
    start, stop = reasoning_part(text)
    return [start + paragraph.start for paragraph in find_paragraphs(text[start:stop])]


def next_switch(text: str, place: int) -> int | None:
    """Where behind this place a thought begins by a word of switching; None where none does."""
    for begin in step_starts(text):
        if begin > place and _SWITCH.match(text, begin):
            return begin
    return None


def first_place(start: str, chain: Trace) -> int:
    """Where a search begins: at the beginning, or right before one of the switches by chance."""
    switches = [place for place in step_starts(chain.text) if _SWITCH.match(chain.text, place)]
    if start == "first" or not switches:
        return 0
    number = int(chance_fraction("start", chain.problem.id, chain.text) * len(switches))
    return switches[number] - 1


def cut_at(switch: int, trace: Any) -> str:
    """The text before a switch; a space at its end would be a token of its own, and goes."""
    return str(trace.text[:switch].rstrip(" "))


def continues_thought(rollout: Trace) -> tuple[bool, str]:
    """It goes on with the thought, where another switch would be what the chain did."""
    is_switch = _SWITCH.match(rollout.text, rollout.prefix_length) is not None
    return not is_switch, "begins with a switch of thought"


def shorter_than(chain: Trace) -> Callable[[Trace], tuple[bool, str]]:
    """A test of the rollouts that would replace a part of this chain."""
    earlier_count = len(step_starts(chain.text))

    def has_fewer_steps(rollout: Trace) -> tuple[bool, str]:
        """Its way to the answer is shorter; the steps before it are the same."""
        count = len(step_starts(rollout.text))
        return count < earlier_count, f"{count} steps, where there were {earlier_count}"

    return has_fewer_steps


def report_search(chains: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say how many chains got shorter, and by how much."""
    chain_ids = {chain.id for chain in chains}
    changed = sum(row.id not in chain_ids for row in rows)
    chain_steps = sum(len(step_starts(chain.text)) for chain in chains)
    row_steps = sum(len(step_starts(row.text)) for row in rows)
    shares = (
        Share("chains with a shorter way", changed, len(chains)),
        Share("steps of the rows, of their chains'", row_steps, chain_steps),
    )
    hint = "A thought that was left is carried on; where that leads to the answer sooner, it is learnt."
    report_shares("Untaken paths", shares, hint=hint)
