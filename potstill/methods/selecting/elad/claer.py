"""CLAER: the teacher walks through a student's chain, stops at the first wrong step, and writes the rest anew.

Three ways to annotate a chain, from the paper's to the plain one: a verdict a step, one verdict on all steps, and a
chain of the teacher's own that pays no regard to the student's. A verdict that can't be read is asked for once more and
is then no verdict: its chain is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from potstill.methods.selecting.elad.prompts import (
    CHECK_ALL,
    CHECK_ANSWER,
    CHECK_STEP,
    CONTINUE,
    NO_STEPS,
)
from potstill.methods.selecting.elad.settings import Annotation, Settings
from potstill.methods.selecting.elad.steps import (
    blanks_before,
    count_steps,
    numbered_steps,
    text_of_steps,
)
from potstill.models.model import Model
from potstill.records import Span, Trace, split_reasoning
from potstill.traces import (
    Score,
    ask,
    edit,
    fill_template,
    has_answer,
    is_finished,
    keep,
    look_up,
    prompt_text,
    read_yes_no,
    sample,
    score,
    verify,
)

UNREAD = "unread"
REASK_TEMPERATURE = 0.7  # a greedy model would only repeat what could not be read
_STEP_NUMBER = re.compile(r"(?:\bstep\W{0,3}|^\W*no\W{1,3})(\d+)", re.IGNORECASE)


class Annotations(NamedTuple):
    """What a teacher made of chains.

    Args:
        chains: all that it was given, with its verdicts.
        rows: what became of them, judged where there are gold answers.
    """

    chains: list[Trace]
    rows: list[Trace]


def annotate_chains(
    teacher: Model, chains: list[Trace], annotation: Annotation, settings: Settings
) -> Annotations:
    """One row of each chain that the teacher could judge: accepted as it is, or revised from its first wrong step on.

    Args:
        teacher: who judges and writes.
        chains: of the student, cut into units.
        annotation: how they are annotated.
        settings: of the calls.

    Returns:
        The chains with the scores "verdicts" and "first_error" (the number of the first wrong unit, 0 where there is
        none), and the rows, which have all scores of their chains.
    """
    if annotation == "fresh-chain":
        rows = write_chains(teacher, edit(to_blank, chains), settings)
        return Annotations(chains, accept_rows(rows, settings))
    find_errors = walk_steps if annotation == "sequential" else check_at_once
    checked = find_errors(teacher, chains, settings)
    judged = keep(is_read, checked)

    # A chain without an answer is right as far as it goes: the teacher writes its end.
    accepted: list[Trace] = []
    to_revise: list[Trace] = []
    for chain in judged:
        has_answer = count_steps(chain) < len(chain.units)
        if chain.scores["first_error"] == 0 and has_answer:
            accepted.append(weigh_prefix(chain, len(chain.text), settings))
        else:
            to_revise.append(chain)
    if settings.prefix_weight == 0:
        accepted = keep(is_written_by_teacher, accepted)
    revised = revise_chains(teacher, to_revise, settings)
    return Annotations(checked, accept_rows([*accepted, *revised], settings))


# The verdicts.


def walk_steps(teacher: Model, chains: list[Trace], settings: Settings) -> list[Trace]:
    """Ask for a verdict on s_1, then on s_2 and so on, each time of all chains that are still right; stop at a No."""
    # One call a step for all chains: a local teacher judges them in batches.
    verdicts: dict[str, list[str]] = {chain.id: [] for chain in chains}
    walking = [chain for chain in chains if not chain.error and chain.units]
    index = 0
    while walking:
        step_verdicts = ask_about_step(teacher, walking, index, settings)
        still_right: list[Trace] = []
        for chain, verdict in zip(walking, step_verdicts, strict=True):
            verdicts[chain.id].append(verdict)
            if verdict == "yes" and index + 1 < len(chain.units):
                still_right.append(chain)
        walking = still_right
        index += 1

    # The last verdict decides: the walk ended at a No, at one that can't be read, or with the chain.
    first_errors: dict[str, Score] = {}
    for chain_id, of_chain in verdicts.items():
        last = of_chain[-1] if of_chain else UNREAD
        first_errors[chain_id] = None
        if last == "yes":
            first_errors[chain_id] = 0.0
        elif last == "no":
            first_errors[chain_id] = float(len(of_chain))
    joined = {chain_id: " ".join(of_chain) for chain_id, of_chain in verdicts.items()}
    return note_verdicts(chains, joined, first_errors)


def ask_about_step(
    teacher: Model, chains: Sequence[Trace], index: int, settings: Settings
) -> list[str]:
    """The teacher's verdict on one unit of each chain: "yes", "no" or "unread"."""
    numbers_of_answers = {chain.id: count_steps(chain) for chain in chains}
    prompt = partial(show_step, numbers_of_answers, index)
    verdicts: list[str] = []
    for reply in ask_until_read(teacher, prompt, read_verdict, chains, settings):
        verdicts.append(reply if isinstance(reply, str) else UNREAD)
    return verdicts


def show_step(numbers_of_answers: Mapping[str, int], index: int, chain: Trace) -> str:
    """The prompt for a verdict on the unit at `index`: the problem and the chain up to there, and no further."""
    template = CHECK_ANSWER if index == numbers_of_answers[chain.id] else CHECK_STEP
    values = {
        "prompt": prompt_text(chain),
        "steps": numbered_steps(chain, index + 1),
        "number": str(index + 1),
    }
    return fill_template(template, values)


def read_verdict(text: str) -> str | None:
    """Yes or no as a score's text."""
    verdict = read_yes_no(text)
    if verdict is None:
        return None
    return "yes" if verdict else "no"


def check_at_once(teacher: Model, chains: list[Trace], settings: Settings) -> list[Trace]:
    """Ask for the number of the first wrong unit in one call: the whole chain is read once, not once a step."""
    walking = [chain for chain in chains if not chain.error and chain.units]
    replies = ask_until_read(teacher, show_all_steps, read_first_error, walking, settings)
    first_errors: dict[str, Score] = {chain.id: None for chain in chains}
    verdicts = {chain.id: UNREAD for chain in chains}
    for chain, number in zip(walking, replies, strict=True):
        if isinstance(number, float):
            first_errors[chain.id] = number
            verdicts[chain.id] = "yes" if number == 0 else f"no, step {number:.0f}"
    return note_verdicts(chains, verdicts, first_errors)


def show_all_steps(chain: Trace) -> str:
    """The prompt for one verdict on all units."""
    values = {"prompt": prompt_text(chain), "steps": numbered_steps(chain, len(chain.units))}
    return fill_template(CHECK_ALL, values)


def read_first_error(text: str) -> float | None:
    """The number of the first wrong step, 0 where every step is right; None where a No names no step."""
    verdict = read_yes_no(text)
    if verdict is None:
        return None
    if verdict:
        return 0.0
    number = _STEP_NUMBER.search(split_reasoning(text)[1])
    if number is None or int(number[1]) == 0:
        return None
    return float(number[1])


def ask_until_read(
    teacher: Model,
    prompt: Callable[[Trace], str],
    parse: Callable[[str], Score],
    chains: Sequence[Trace],
    settings: Settings,
) -> list[Score]:
    """A reply for each chain, asked for again where it can't be read; None where it never could."""
    replies: dict[str, Score] = {chain.id: None for chain in chains}
    for attempt in range(settings.verdict_tries):
        unread = [chain for chain in chains if replies[chain.id] is None]
        if not unread:
            break
        # Calls about one chain are equal whoever makes them, so that arms which chose it share its verdicts.
        scorer = ask(
            teacher,
            prompt,
            parse,
            sample_index=attempt,
            temperature=REASK_TEMPERATURE if attempt else 0.0,
            max_new_tokens=settings.verdict_tokens,
        )
        for chain, reply in zip(unread, scorer(unread), strict=True):
            # A number that no step of the chain has is no reply about it.
            if not (isinstance(reply, float) and reply > len(chain.units)):
                replies[chain.id] = reply
    return [replies[chain.id] for chain in chains]


def note_verdicts(
    chains: list[Trace], verdicts: Mapping[str, str], first_errors: Mapping[str, Score]
) -> list[Trace]:
    """The chains with their scores "verdicts" and "first_error"."""
    chains = score("verdicts", look_up(verdicts, by=chain_id), chains)
    return score("first_error", look_up(first_errors, by=chain_id), chains)


def chain_id(chain: Trace) -> str:
    """Key: the chain itself."""
    return chain.id


def is_read(chain: Trace) -> tuple[bool, str]:
    """The teacher's verdicts on the chain could be read."""
    return chain.scores.get("first_error") is not None, "a verdict that can't be read"


# The revision.


def revise_chains(teacher: Model, chains: list[Trace], settings: Settings) -> list[Trace]:
    """The accepted beginning of each chain, which the student wrote, with a rest that the teacher writes."""
    # Units before the first wrong one; all of them where only the answer is missing.
    accepted_counts: dict[str, int] = {}
    for chain in chains:
        first_error = chain.scores["first_error"]
        assert isinstance(first_error, float)
        accepted_counts[chain.id] = int(first_error) - 1 if first_error else len(chain.units)

    def accepted_steps(chain: Trace) -> str:
        return text_of_steps(chain, accepted_counts[chain.id])

    cut = edit(accepted_steps, chains)
    # The text so far is seen only where the prompt shows it, and stands before what the teacher writes.
    continued = sample(
        teacher,
        cut,
        prompt=show_accepted,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )
    join = partial(join_rest, accepted_counts)
    joined = edit(join, continued, context={"chains": chains})
    return [row if row.error else weigh_prefix(row, row.prefix_length, settings) for row in joined]


def show_accepted(beginning: Trace) -> str:
    """The prompt for the rest of a chain: the problem and what was accepted; the wrong step is not shown."""
    values = {"prompt": prompt_text(beginning), "steps": beginning.text or NO_STEPS}
    return fill_template(CONTINUE, values)


def join_rest(
    accepted_counts: Mapping[str, int], continued: Trace, chains: Sequence[Trace]
) -> dict[str, object]:
    """The teacher's rest behind the student's beginning, with the blanks that the student puts between steps.

    The blanks count as the teacher's, so that each token of the row is one that the student's tokenizer writes.
    """
    [chain] = chains
    beginning = continued.text[: continued.prefix_length]
    # What a teacher thought before it went on is no step of the student's.
    continuation = split_reasoning(continued.new)[1].strip()
    if beginning:
        continuation = blanks_before(chain, accepted_counts[chain.id]) + continuation
    return {
        "text": beginning + continuation,
        "prefix_length": len(beginning),
        "scores": dict(chain.scores),
    }


def weigh_prefix(row: Trace, length: int, settings: Settings) -> Trace:
    """The row with a span over what the teacher accepted of the student's text: its weight in the loss."""
    if not length:
        return row
    accepted = Span(0, length, "accepted", settings.prefix_weight)
    return row.annotate(spans=(*row.spans, accepted))


def is_written_by_teacher(chain: Trace) -> tuple[bool, str]:
    """Never: names what a weight of 0 for the accepted steps leaves out."""
    return False, "accepted whole: nothing of it is the teacher's"


def write_chains(teacher: Model, problems: list[Trace], settings: Settings) -> list[Trace]:
    """A chain of the teacher's own for each problem."""
    return sample(
        teacher,
        problems,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )


def to_blank(trace: Trace) -> dict[str, object]:
    """The problem without the text, with the scores that chose it."""
    return {"text": "", "scores": dict(trace.scores)}


# What becomes a row.


def accept_rows(rows: Sequence[Trace], settings: Settings) -> list[Trace]:
    """The rows that end with an answer; of problems with gold answers the wrong ones too, unless they are checked."""
    rows = keep(is_finished, rows)
    rows = keep(has_answer, verify(rows))
    if settings.check_answers:
        rows = keep(is_not_wrong, rows)
    return rows


def is_not_wrong(row: Trace) -> tuple[bool, str]:
    """Its answer is not judged wrong; what nobody can judge passes."""
    return row.verdict.status != "wrong", "wrong answer"
