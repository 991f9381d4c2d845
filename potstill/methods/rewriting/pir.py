"""PIR: of a teacher's chain the checks, detours and corrections that the answer needs least are taken out.

The paper's text was not read: summaries of it and its abstract are the source. Inferred: the markers but for two, the
cut into sentences, which text the perplexity is measured on, and how a share is rounded.

| constant | value | source |
|---|---|---|
| share of functional steps taken out | 0.3 | best of 0.2 to 0.3 by the paper's sweep; 0.8 loses accuracy |
| temperature of the teacher | 0.6 | R1's, whose chains the paper's data sets hold |
| kinds of functional steps | verification, alternative, correction | the paper's three |
| markers | `FUNCTIONAL` | "let me check" and "I made a mistake" are the paper's, the others inferred |
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from potstill.methods.reasoning_sentences import (
    FUNCTIONAL,
    marked_kind,
    reasoning_part,
    reasoning_units,
    step_starts,
)
from potstill.methods.replies import reply_of
from potstill.models.model import Model, Scored, Trainable
from potstill.models.scoring import Passage
from potstill.records import Span, Stage, Trace
from potstill.traces import (
    Share,
    ask,
    chance,
    count_reading,
    edit,
    fill_template,
    is_finished,
    keep,
    leave_one_out,
    line,
    report_shares,
    right_test,
    sample,
    score,
    segment,
    split_by,
    verify,
)
from potstill.traces.reasoning_steps import find_units

PROGRESSIVE = "progressive"
TEMPERATURE = 0.6  # of the teacher
CANDIDATE = "candidate"  # the kind of the spans that may go
CLASSIFY = """\
Here is a solution in numbered steps. Some of them only look back: they verify a result (verification), reach it again \
by another method (alternative) or take back an error (correction). All others lead on to the answer (progressive).

Question: {question}

{steps}

For each of the steps {asked} write one line, its number and its kind, such as "3: verification"."""


class ScoringLearner(Trainable, Scored, Protocol):
    """A student that can be trained and says how likely given tokens are."""


def pir(
    problems: list[Trace],
    teacher: Model,
    student: ScoringLearner,
    scorer: Scored | None = None,
    labeller: Model | None = None,
    *,
    arm: Literal["pir", "random", "all-kinds", "whole"] = "pir",
    ratio: float = 0.3,
    measured: Literal["answer", "chain"] = "answer",
    steps: bool | None = None,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, None]:
    """PIR: perplexity-based importance refinement of reasoning (LIMOPro; Xiao et al., arXiv:2505.19187).

    PIR(s_i) = log( PPL(R without s_i) / PPL(R) ). Of the functional steps of a chain the share `ratio` with the lowest
    value is taken out; every progressive step stays.

    Learns from: the teacher's right chains without the checks, detours and corrections that matter least.
    Needs: teacher (writes chains), student (is trained, scores where nobody else does), [scorer] (says how likely
        the answer is), [labeller] (names the kind of steps that no marker names).
    Controls: arm=random (as many functional steps by chance: is it the perplexity?), all-kinds (as many steps of any
        kind by perplexity: is it the kind?), whole (the chains as they are).
    Departure: a step is a sentence, where a model cuts the paper's steps of several. Without a labeller a step without
        a marker is progressive. The perplexity is of the answer behind the reasoning, as the paper's text means it;
        measured=chain is its formula, the whole chain. The scorer is the student where none is given. With `steps` a
        row's steps are right too; a chain whose slip would lose its correction stays whole.
    Paper: 24
    Cite: Yang Xiao, Jiashuo Wang, Ruifeng Yuan, Chunpu Xu, Kaishuai Xu, Wenjie Li, Pengfei Liu: LIMOPro: Reasoning
        Refinement for Efficient and Effective Test-time Scaling (2025).

    Args:
        teacher: reasons at length.
        student: learns.
        scorer: a model whose likelihoods are taken.
        labeller: reads whole chains; one call a chain that has steps without a marker.
        arm: the method or one of its controls.
        ratio: share of a chain's functional steps that goes, rounded to the nearest number.
        measured: what the perplexity is of: the answer behind the reasoning, or the whole chain.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest chain.
    """
    is_right = right_test(problems, steps)
    chains = sample(teacher, problems, temperature=TEMPERATURE, max_new_tokens=max_new_tokens)
    chains = keep(is_right, verify(keep(is_finished, chains)))

    # Sentences as units, and which of them are functional.
    chains = segment(step_starts, chains)
    if labeller is not None:
        chains = score("kinds", ask(labeller, show_steps, read_kinds), chains)
    chains = [mark_candidates(arm, chain) for chain in chains]

    # How much less likely the answer is without each of them, and the least important share taken out.
    rows = chains
    if arm in ("pir", "all-kinds"):
        passage = answer_passage if measured == "answer" else chain_passage
        chains = leave_one_out(scorer or student, chains, passage, kind=CANDIDATE)
    if arm != "whole":
        rows = keep(is_right, verify(edit(partial(drop_steps, ratio), chains)))
        # Where a slip lost its correction, the chain stays as it is.
        _, unrefined = split_by(rows, chains, by=line)
        rows += unrefined
    report_steps(chains, rows)
    yield Stage(student, rows, "sft")


def kinds_of_steps(trace: Trace) -> list[str]:
    """The kind of each sentence: by its marker, else as the labeller read it, else progressive."""
    by_labeller: dict[int, str] = {}
    for entry in str(trace.scores.get("kinds") or "").split():
        number, _, kind = entry.partition(":")
        by_labeller[int(number)] = kind
    kinds: list[str] = []
    for place, unit in enumerate(reasoning_units(trace), 1):
        marked = marked_kind(trace.text[unit.start : unit.stop])
        kinds.append(marked or by_labeller.get(place, PROGRESSIVE))
    return kinds


def show_steps(trace: Any) -> str:
    """The labeller's prompt: all steps, numbered, and the numbers of those that no marker names."""
    lines: list[str] = []
    unmarked: list[str] = []
    for number, unit in enumerate(reasoning_units(trace), 1):
        sentence = trace.text[unit.start : unit.stop].strip()
        lines.append(f"{number}. {sentence}")
        if not marked_kind(sentence):
            unmarked.append(str(number))
    values = {"question": trace.question, "steps": "\n".join(lines), "asked": ", ".join(unmarked)}
    return fill_template(CLASSIFY, values)


def read_kinds(text: str) -> str | None:
    """The kinds of a reply as "3:verification 5:correction"; None where no line can be read."""
    text = reply_of(text)
    kinds = "|".join((PROGRESSIVE, *FUNCTIONAL))
    entries = re.findall(
        rf"^\W{{0,9}}(?:step )?(\d{{1,4}})\W{{1,4}}({kinds})\b", text, re.IGNORECASE | re.MULTILINE
    )
    count_reading("kinds of steps", text, "strict" if entries else "unparsed")
    if not entries:
        return None
    return " ".join(f"{number}:{kind.lower()}" for number, kind in entries)


def mark_candidates(arm: str, trace: Trace) -> Trace:
    """The chain with a span on each step that may go: the functional ones, or with arm=all-kinds all of them."""
    candidates: list[Span] = []
    for unit, kind in zip(reasoning_units(trace), kinds_of_steps(trace), strict=True):
        if kind != PROGRESSIVE or arm == "all-kinds":
            candidates.append(Span(unit.start, unit.stop, CANDIDATE))
    return trace.annotate(spans=(*trace.spans, *candidates))


def answer_passage(trace: Trace) -> Passage:
    """The answer, behind the prompt and the reasoning."""
    _, stop = reasoning_part(trace.text)
    return Passage(trace.prompt, trace.text[stop:], prefix=trace.text[:stop])


def chain_passage(trace: Trace) -> Passage:
    """The whole chain, behind the prompt."""
    return Passage(trace.prompt, trace.text)


def drop_steps(ratio: float, trace: Any) -> str:
    """The text without the least important of its candidates; where nobody scored them, without some by chance."""
    candidates = [span for span in trace.spans if span.kind == CANDIDATE]
    functional = sum(kind != PROGRESSIVE for kind in kinds_of_steps(trace))
    count = math.floor(ratio * functional + 0.5)

    def importance(span: Span) -> tuple[float, str]:
        # Without a value it is not known to matter little; equal values are ranked by chance.
        value = 0.0 if not is_scored else math.inf if span.score is None else span.score
        return value, chance(trace.id, span.start)

    is_scored = any(span.score is not None for span in candidates)
    text = str(trace.text)
    for span in sorted(sorted(candidates, key=importance)[:count], key=lambda span: -span.start):
        text = text[: span.start] + text[span.stop :]
    return text


def report_steps(chains: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say how many steps of each kind there were, and how many are left."""
    before: Counter[str] = Counter()
    for chain in chains:
        before.update(kinds_of_steps(chain))
    total = sum(before.values())
    left = sum(len(find_units(slice_of(row))) for row in rows)
    shares = [Share(f"{kind} steps", count, total) for kind, count in sorted(before.items())]
    shares.append(Share("steps left in the rows", left, total))
    report_shares(
        "Steps by kind",
        shares,
        hint="Of the functional steps (all but the progressive ones) those that matter least are taken out.",
    )


def slice_of(row: Trace) -> str:
    """The reasoning of a row."""
    start, stop = reasoning_part(row.text)
    return row.text[start:stop]
