"""Temporal consistency: verifiers look for the first wrong step, and examine their own verdicts until these are stable.

The paper was read, prompts included. Its verifiers judge solutions that are there; who writes them here, and who learns
them, is ours.

| constant | value | source |
|---|---|---|
| verdicts of a solution (K) | 5 | paper, sec. 3.1 |
| rounds in which majority and share must hold (q) | 3 | paper, sec. 3.1 |
| rounds, most (T) | 10 | paper, sec. 3.1 |
| temperature of the first round | 0.7 | paper, app. A |
| later rounds: temperature, top-p, top-k | 0.7, 0.8, 40 | paper, app. A, for open models; 1 for closed ones |
| rounds of the debate | 2 | paper, sec. 3.1 |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import chain as flatten
from typing import Any, Literal, NamedTuple

from potstill.errors import ConfigError
from potstill.methods.paragraphs import find_paragraphs, first_wrong_paragraph, split_paragraphs
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace, split_reasoning
from potstill.traces import (
    Share,
    count_reading,
    fill_template,
    is_finished,
    keep,
    line,
    look_up,
    pose,
    prompt_text,
    report_shares,
    right,
    sample,
    score,
    split_by,
    verify,
)
from potstill.traces.keys import group_traces

NO_ERROR = -1
VERIFY = """\
Below are a problem and a solution to it, which is divided into tagged paragraphs that are numbered from 0.

[Problem]
{problem}

[Solution]
{paragraphs}

Review the solution critically, paragraph by paragraph. As soon as a paragraph has an error, give the number of that \
paragraph, in which the earliest error is; where no paragraph has one, give -1. Put the number in \\boxed{{}} at the \
end."""
SELF_CHECK = """\
You check a verifier of solutions. The first verifier went through the solution below paragraph by paragraph, and gave \
the number of the paragraph with the earliest error, or -1 for none. It may be mistaken.

[Problem]
{problem}

[Solution]
{paragraphs}

[The first verifier's number]
{location}

[The first verifier's reasoning]
{verdict}

Go through every paragraph as if you solved the problem anew, and say of each whether it is right, why, and whether \
the first verifier is right about it. Don't just accept its number, and don't hesitate to disagree. An error counts \
however small it is; only where there is none in the whole solution, give -1. Put the number of the paragraph with the \
earliest error, or -1, in \\boxed{{}} at the end."""
DEBATE = f"""\
{VERIFY}

These are verdicts of other verifiers:

{{others}}

Use them as additional information, review the solution again, and end with the number in \\boxed{{{{}}}}."""
_NUMBER_IN_BOX = re.compile(r"\\boxed\{\s{0,9}(-?\d{1,6})\s{0,9}\}")
Arm = Literal["temporal-consistency", "vote", "greedy", "debate", "answers", "unfiltered"]


class Checking(NamedTuple):
    """How solutions are checked: who says how many verdicts, in how many rounds, and whether others' are shown."""

    verifiers: Sequence[Model]
    agents: int
    stable_rounds: int
    max_rounds: int
    first: Mapping[str, Any]
    later: Mapping[str, Any]
    is_debate: bool = False


class Majority(NamedTuple):
    """What most verdicts of a round say: a paragraph's number or NO_ERROR (None where none can be read), and how many.

    The share is of all verdicts of the round, those that can't be read included.
    """

    location: int | None
    share: float


def temporal_consistency(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    verifiers: Sequence[Model] = (),
    *,
    arm: Arm = "temporal-consistency",
    agents: int = 5,
    stable_rounds: int = 3,
    max_rounds: int = 10,
    sampling: Options = options(temperature=0.7, max_new_tokens=8192),
    later: Options = options(temperature=0.7, top_p=0.8, top_k=40, max_new_tokens=8192),
) -> Generator[Stage, Trainable, None]:
    """Temporal consistency for LLM reasoning process error identification (Guo et al., arXiv:2503.14495).

    loc_t = the most frequent of loc_t^1 ... loc_t^K, where verifier i sees its own loc_(t-1)^i and the reasons for it,
    and no other's; p_t is its share. It ends where loc_(t-q+1) = ... = loc_t and p_(t-q+1) <= ... <= p_t.

    Learns from: the teacher's chains in which the verifiers find no error, without any gold answer.
    Needs: teacher (writes the chains), student (is trained), [verifiers] (check them, in the teacher's place).
    Controls: arm=vote (one round and its majority), greedy (one verdict at temperature 0), debate (two rounds, each
        verifier sees the others' verdicts), answers (the chains with the right answer: what are labels worth?),
        unfiltered (all chains).
    Departure: prompts in words of ours. Inferred: the teacher and the student, for the paper ends with the verdicts; a
        verdict that can't be read counts for no number, and its verifier begins anew; of two numbers with as many
        verdicts that of the first verifier counts. A chain without a blank line is shown by sentences.
    Paper: 133
    Cite: Jiacheng Guo, Yue Wu, Jiahao Qiu, Kaixuan Huang, Xinzhe Juan, Ling Yang, Mengdi Wang: Temporal Consistency for
        LLM Reasoning Process Error Identification (2025).

    Args:
        teacher: reasons; without verifiers it checks its chains too.
        student: learns.
        verifiers: models that say as many verdicts each.
        arm: the method or one of its controls.
        agents: verdicts of each verifier, in each round.
        stable_rounds: in which the majority must stay and its share must not fall; 1 is one self-check, 0 is none.
        max_rounds: after so many the last majority counts.
        sampling: of the teacher's chains, and of the verdicts of the first round.
        later: of the verdicts of later rounds.
    """
    if agents < 1 or max_rounds < 1:
        raise ConfigError(
            f"temporal_consistency got agents={agents} and max_rounds={max_rounds}",
            expected="at least 1 of each",
            fix="--set agents=5 --set max_rounds=10",
        )
    # The verdicts of the problems' verifiers are for the report and for arm=answers; no verifier of steps sees them.
    chains = verify(keep(is_finished, sample(teacher, problems, **dict(sampling))))
    if arm in ("answers", "unfiltered"):
        rows = keep(right, chains) if arm == "answers" else chains
        yield Stage(student, rows, "sft")
        return

    # The paper's comparisons are one round, one verdict, or other verdicts in view.
    checking = Checking(
        verifiers or [teacher], agents, stable_rounds, max_rounds, dict(sampling), dict(later)
    )
    if arm == "debate":
        checking = checking._replace(max_rounds=2, stable_rounds=3, is_debate=True)
    elif arm in ("vote", "greedy"):
        checking = checking._replace(stable_rounds=0)
    if arm == "greedy":
        checking = checking._replace(agents=1, first={**dict(sampling), "temperature": 0.0})

    # A chain is learnt where no paragraph is wrong to the verifiers.
    rounds = check_chains(checking, chains)
    locations = {chain_line: history[-1].location for chain_line, history in rounds.items()}
    checked_chains = score("first_error", look_up(locations, by=line), chains)
    rows = keep(has_no_error, checked_chains)
    report_locations(checking, checked_chains, rounds)
    yield Stage(student, rows, "sft")


def check_chains(checking: Checking, chains: Sequence[Trace]) -> dict[str, list[Majority]]:
    """The majorities of all rounds, by line of the chain; the last one decides."""
    rounds: dict[str, list[Majority]] = {chain.line: [] for chain in chains}
    open_chains = list(chains)
    verdicts: list[list[Trace]] = [[] for _ in checking.verifiers]
    for _ in range(checking.max_rounds):
        # Each verifier says all its verdicts on all chains in one call; no verifier sees another's, but in a debate.
        all_earlier = list(flatten.from_iterable(verdicts))
        for number, verifier in enumerate(checking.verifiers):
            verdicts[number] = give_verdicts(
                checking, verifier, open_chains, verdicts[number], all_earlier
            )
        locations = read_majorities(open_chains, list(flatten.from_iterable(verdicts)))
        for chain in open_chains:
            rounds[chain.line].append(locations[chain.line])
        # What is stable is not looked at again.
        open_chains = [c for c in open_chains if not is_stable(checking, rounds[c.line])]
        if not open_chains:
            break
    return rounds


def give_verdicts(
    checking: Checking,
    verifier: Model,
    chains: Sequence[Trace],
    own_verdicts: Sequence[Trace],
    all_verdicts: Sequence[Trace],
) -> list[Trace]:
    """One round of a verifier's verdicts on these chains, each with the score `location`.

    A verdict that can be read is examined again by who gave it; the others are given anew, all of them in the first
    round.
    """
    # Chains whose verdict is stable are closed: their verdicts stay out.
    of_chains, _ = split_by(chains, own_verdicts, by=line)
    readable = [verdict for verdict in of_chains if verdict.scores.get("location") is not None]
    # What is shown becomes a parent, so that others' verdicts are handed over in a debate alone.
    show: Callable[..., str] = show_own_verdict
    context = {"chains": chains}
    if checking.is_debate:
        show, context = show_other_verdicts, {"chains": chains, "verdicts": all_verdicts}
    shown_again = pose(show, readable, context=context, by=line)
    verdicts = sample(verifier, shown_again, **checking.later)

    # A failed or unreadable verdict has nothing to examine: its place is filled by a new one.
    readable_counts = Counter(verdict.line for verdict in readable)
    missing: list[Trace] = []
    for chain in chains:
        missing += [chain] * (checking.agents - readable_counts[chain.line])
    verdicts += sample(verifier, pose(show_solution, missing), **checking.first)

    paragraph_counts = {chain.line: len(find_paragraphs(chain.text)) for chain in chains}
    return score("location", partial(read_locations, paragraph_counts), verdicts)


def show_solution(chain: Any) -> str:
    """The prompt of a first verdict."""
    return fill_template(VERIFY, solution_values(chain))


def show_own_verdict(verdict: Any, chains: Sequence[Any]) -> str:
    """The prompt in which a verifier examines its own last verdict; the others' stay out of view."""
    values = solution_values(chains[0])
    values["location"] = str(int(verdict.scores["location"]))
    return fill_template(SELF_CHECK, {**values, "verdict": verdict.reply.strip()})


def show_other_verdicts(verdict: Any, chains: Sequence[Any], verdicts: Sequence[Any]) -> str:
    """The prompt of a debate: the others' last verdicts, and not its own."""
    others = [
        f"One verifier: {other.reply.strip()}" for other in verdicts if other.id != verdict.id
    ]
    values = solution_values(chains[0])
    return fill_template(DEBATE, {**values, "others": "\n\n".join(others)})


def solution_values(chain: Any) -> dict[str, str]:
    """What prompts show of a chain: its problem as the learner sees it, and its paragraphs in numbered tags."""
    paragraphs: list[str] = []
    for number, paragraph in enumerate(split_paragraphs(chain.text)):
        tag = f"paragraph_{number}"
        paragraphs.append(f"<{tag}>\n{paragraph}\n</{tag}>")
    return {"problem": prompt_text(chain), "paragraphs": "\n".join(paragraphs)}


def read_locations(
    paragraph_counts: Mapping[str, int], verdicts: Sequence[Trace]
) -> list[float | None]:
    """A scorer: the number in the last box of each verdict; None without one, or where no paragraph has it."""
    return [read_location(v.text, paragraph_counts[v.line]) for v in verdicts]


def read_location(text: str, paragraph_count: int) -> float | None:
    """The number that a verdict ends with, from NO_ERROR up to that of the last paragraph."""
    # The last box: reasons may quote the solution's own answer, which stands in one too.
    numbers = _NUMBER_IN_BOX.findall(split_reasoning(text)[1])
    if numbers and NO_ERROR <= int(numbers[-1]) < paragraph_count:
        count_reading("first wrong paragraph", text, "strict")
        return float(numbers[-1])
    count_reading("first wrong paragraph", text, "unparsed")
    return None


def read_majorities(chains: Sequence[Trace], verdicts: Sequence[Trace]) -> dict[str, Majority]:
    """What most of the round's verdicts say of each chain; of two numbers with as many the first that was given."""
    groups = group_traces(verdicts, line)
    majorities: dict[str, Majority] = {}
    for chain in chains:
        group = groups[chain.line]
        votes: Counter[int] = Counter()
        for verdict in group:
            location = verdict.scores.get("location")
            if location is not None:
                votes[int(location)] += 1
        # Ties go to the number that was given first, which the order of the problems does not change.
        majority, count = votes.most_common(1)[0] if votes else (None, 0)
        majorities[chain.line] = Majority(majority, count / len(group))
    return majorities


def is_stable(checking: Checking, history: Sequence[Majority]) -> bool:
    """Over the last rounds the majority is the same and its share did not fall; at least one was a self-check."""
    if checking.stable_rounds == 0:
        return True
    if len(history) < max(2, checking.stable_rounds):
        return False
    # Without a readable verdict nothing is stable, however long that lasts.
    last = history[-checking.stable_rounds :]
    shares = [majority.share for majority in last]
    is_same = len({majority.location for majority in last}) == 1
    return is_same and last[0].location is not None and shares == sorted(shares)


def has_no_error(chain: Trace) -> tuple[bool, str]:
    """The verifiers find no wrong paragraph in it."""
    location = chain.scores["first_error"]
    if location is None:
        return False, "no verdict of the verifiers could be read"
    return location == NO_ERROR, f"paragraph {location:.0f} is wrong to the verifiers"


def report_locations(
    checking: Checking, chains: Sequence[Trace], rounds: Mapping[str, Sequence[Majority]]
) -> None:
    """Say how often no error was found, how soon it was stable, and where steps are judged how often it was right."""
    # Where the problems' verifier judges steps, it knows the first wrong one: so the verifiers can be judged.
    wrong_count = located_count = right_count = passed_count = 0
    for chain in chains:
        location = chain.scores["first_error"]
        true_location = first_wrong_paragraph(
            find_paragraphs(chain.text), [span for span in chain.spans if span.kind == "step"]
        )
        if true_location is not None:
            wrong_count += 1
            located_count += location == true_location
        elif chain.scores.get("steps") == 1 and right(chain):
            right_count += 1
            passed_count += location == NO_ERROR

    passing = sum(has_no_error(chain)[0] for chain in chains)
    shares = [Share("chains without an error to the verifiers", passing, len(chains))]
    if checking.max_rounds > 2:
        stable = sum(is_stable(checking, history) for history in rounds.values())
        shares.append(Share("chains whose verdict became stable", stable, len(rounds)))
    hint = "Verifiers look for the first wrong paragraph."
    if wrong_count and right_count:
        located = Share("wrong chains whose error was located", located_count, wrong_count)
        passed = Share("right chains that were called right", passed_count, right_count)
        shares += [located, passed]
        # The paper's measure: the harmonic mean of both.
        products = 2 * located_count * passed_count
        f1 = products / max(1, located_count * right_count + passed_count * wrong_count)
        hint += f" Where steps are judged, they are right with an F1 of {f1:.3f}."
    report_shares("First errors", shares, hint=hint)
