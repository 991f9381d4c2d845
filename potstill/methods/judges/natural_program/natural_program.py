"""Natural Program: chains whose steps cite their premises are checked step by step, and the valid ones vote.

The released code was read, and the paper in descriptions. It has one model for all; who learns, and what, is ours, but
for its verifier that was trained on checks.

| constant | value | source |
|---|---|---|
| chains a question | 10 | released code |
| chains that are checked | those of the two most frequent answers, and of any as frequent | released code |
| votes on a step (k') | 3; right where more than half say so | released code |
| temperature, longest text | 0.7, 2,048 tokens, of chains and of checks | released code |
| a chain | is checked up to the first step that fails | released code |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.methods.judges.natural_program.prompts import CHECK, CHECK_WHOLE, WRITE
from potstill.methods.judges.natural_program.statements import Statement, read_statements
from potstill.methods.replies import reply_of
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    answer_classes,
    dedupe,
    fill_template,
    has_answer,
    is_finished,
    keep,
    line,
    mix,
    plain,
    pose,
    problem,
    prompt_text,
    read_conclusion,
    report_shares,
    right,
    same_answer,
    sample,
    share_of,
    split_by,
    verify,
    vote,
)
from potstill.traces.keys import group_traces

NOT_READ = "its statements can't be read"
Arm = Literal["natural-program", "whole", "vote", "answers"]


class Checking(NamedTuple):
    """How chains are checked: by whom, with how many votes, and whether each as a whole."""

    verifier: Model
    votes: int
    settings: Mapping[str, Any]
    is_whole: bool = False


class Checked(NamedTuple):
    """What a check says: by line of the chain why it is not valid, and the replies that agree with their vote."""

    failures: Mapping[str, str]
    replies: list[Trace]


def natural_program(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    verifier: Model | None = None,
    *,
    arm: Arm = "natural-program",
    learns: Literal["chains", "checks", "both"] = "chains",
    answer_by: Literal["plain", "vote", "verified"] = "plain",
    n: int = 10,
    votes: int = 3,
    sampling: Options = options(temperature=0.7, max_new_tokens=2048),
) -> Generator[Stage, Trainable, Any]:
    """Natural Program: deductive verification of chain-of-thought reasoning (Ling et al., arXiv:2306.03872).

    V(S) = V(s_1) and ... and V(s_m), where V(s) sees s and the premises that it cites, and nothing else. The answer is
    the most frequent one of the valid chains (unanimity-plurality voting).

    Learns from: the teacher's valid chains with the elected answer, without any gold answer; or the checks of steps.
    Needs: teacher (writes the chains, and checks them), student (is trained), [verifier] (checks in its place).
    Controls: arm=whole (a chain is checked as one text: the paper's comparison), vote (no check: self-consistency),
        answers (chains with the right answer: what are labels worth?), answer_by=verified (the trained student writes
        and checks several chains itself), vote (they vote unchecked), learns=checks (a student that checks), both
        (chains and checks).
    Departure: every statement is checked by itself, where the released code joins statements of one line to the next.
        A text whose statements can't be read, or have no grounds, is not valid, and a reply without yes or no is no
        vote for a step; there either counts as right. Prompts are in words of ours. Inferred: which chains and checks a
        student learns; where no chain is valid, all of them vote in answer_by=verified.
    Partial: citations behind the steps, which solve more and verify less; the three checks in three calls.
    Paper: 112
    Cite: Zhan Ling, Yunhao Fang, Xuanlin Li, Zhiao Huang, Mingu Lee, Roland Memisevic, Hao Su: Deductive Verification
        of Chain-of-Thought Reasoning (2023).

    Args:
        teacher: writes statements that cite each other; without a verifier it checks its own.
        student: learns.
        verifier: checks the steps.
        arm: the method or one of its controls.
        learns: the chains, the replies of the checks that agree with their vote, or both.
        answer_by: how the student answers: once, by the vote of n chains, or by that of those it finds valid.
        n: chains a question.
        votes: replies on each step.
        sampling: of chains and of replies.
    """
    # The learner sees the bare problem: the form of the statements is for the writer.
    written = sample(teacher, problems, prompt=WRITE, n=n, **dict(sampling))
    chains = verify(keep(has_answer, keep(is_finished, written)))
    checking = Checking(verifier or teacher, votes, dict(sampling), is_whole=arm == "whole")

    # Unanimity: a chain is valid where all its steps are. The answers that few chains have are not checked.
    checks: list[Trace] = []
    candidates = chains
    if arm in ("natural-program", "whole"):
        frequent = keep(is_frequent(chains), chains)
        checked = check_chains(checking, frequent)
        candidates = keep(partial(is_valid, checked.failures), frequent)
        checks = dedupe(prompt_and_text, checked.replies)
        report_checks(chains, frequent, candidates)

    # Plurality: of the valid chains those with the most frequent answer are learnt.
    rows = keep(right, candidates)
    if arm != "answers":
        rows = among(vote(candidates), candidates, by=same_answer(candidates))
    # A check is posed under a prompt of its own, so both kinds can be rows of one stage.
    learnt = {"chains": rows, "checks": checks, "both": mix(rows, checks)}
    student = yield Stage(student, learnt[learns], "sft")

    if answer_by == "plain":
        return partial(plain, student)
    # The student checks itself as the teacher was checked; its chains are sampled as the measurement says.
    own_checking = Checking(student, votes, dict(sampling)) if answer_by == "verified" else None
    return partial(solve_by_chains, student, n, own_checking)


def solve_by_chains(
    student: Model,
    candidates: int,
    checking: Checking | None,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """For each of n answers several chains of the student, of which the valid ones vote; unchecked all of them."""
    answers: list[Trace] = []
    for _ in range(n):
        chains = sample(student, problems, n=candidates, **sampling)
        voters = chains
        if checking is not None:
            frequent = keep(is_frequent(chains), chains)
            checked = check_chains(checking, frequent)
            valid = keep(partial(is_valid, checked.failures), frequent)
            # Where no chain is valid, all of them vote.
            _, without_valid = split_by(valid, chains)
            voters = [*valid, *without_valid]
        answers += vote(voters)
    return answers


# Which chains are checked, and what a check says.


def is_frequent(chains: Sequence[Trace]) -> Callable[[Trace], tuple[bool, str]]:
    """A test: its answer is one of the two most frequent ones to its problem, or as frequent as the second."""
    # Answers are equal where the verifier of the problem's kind says so.
    classes = dict(zip((chain.id for chain in chains), answer_classes(chains), strict=True))
    least_votes: dict[str, int] = {}
    counts: dict[str, Counter[int]] = {}
    for problem_id, group in group_traces(chains, problem).items():
        numbers = [classes[chain.id] for chain in group]
        votes = Counter(number for number in numbers if number is not None)
        counts[str(problem_id)] = votes
        least_votes[str(problem_id)] = min((c for _, c in votes.most_common(2)), default=0)

    def has_frequent_answer(chain: Trace) -> tuple[bool, str]:
        """Its answer is one of the two most frequent ones."""
        number = classes.get(chain.id)
        if number is None:
            return False, "no answer can be read"
        count = counts[chain.problem.id][number]
        return count >= least_votes[chain.problem.id], f"a rare answer: of {count} chains"

    return has_frequent_answer


def check_chains(checking: Checking, chains: Sequence[Trace]) -> Checked:
    """Check every step of each chain, with its own premises in view alone, up to the first one that fails."""
    # What can't be read can't be checked, and is never valid by default.
    failures: dict[str, str] = {}
    for chain in chains:
        if not checking.is_whole and not steps_of(chain.text):
            failures[chain.line] = NOT_READ
    open_chains = [chain for chain in chains if chain.line not in failures]
    agreeing: list[Trace] = []
    number = 0
    while open_chains:
        # The same step of all chains in one call.
        template: Callable[..., str] = partial(show_step, number)
        part = f"step {number + 1}"
        if checking.is_whole:
            template, part = show_whole, "it"
        replies = sample(
            checking.verifier, pose(template, open_chains), n=checking.votes, **checking.settings
        )
        verdicts = {reply.id: read_check(reply) for reply in replies}
        still_open: list[Trace] = []
        groups = group_traces(replies, line)
        for chain in open_chains:
            group = groups[chain.line]
            # More than half of all votes that were asked for, so that failed and unreadable ones count against it.
            is_right = 2 * sum(verdicts[reply.id] is True for reply in group) > checking.votes
            agreeing += [reply for reply in group if verdicts[reply.id] is is_right]
            # Behind a failed step nothing is asked: the chain is lost whatever the rest says.
            if not is_right:
                failures[chain.line] = f"{part} is not valid to the verifier"
            elif not checking.is_whole and number + 1 < len(steps_of(chain.text)):
                still_open.append(chain)
        open_chains = still_open
        number += 1
    return Checked(failures, agreeing)


def steps_of(text: str) -> list[Statement]:
    """The statements of a chain that are steps; none where the text is no program."""
    return [statement for statement in read_statements(text) or [] if statement.premises]


def show_step(number: int, chain: Any) -> str:
    """The prompt that checks one step: the texts of the statements that it cites, and its own."""
    texts = {statement.number: statement.text for statement in read_statements(chain.text) or []}
    step = steps_of(chain.text)[number]
    # Neither labels nor the other statements are shown: what the step needs must be in what it cites.
    premises = "\n".join(texts[premise] for premise in step.premises)
    return fill_template(CHECK, {"premises": premises, "step": step.text})


def show_whole(chain: Any) -> str:
    """The prompt that checks a chain as one text."""
    values = {"problem": prompt_text(chain), "text": reply_of(chain.text)}
    return fill_template(CHECK_WHOLE, values)


def read_check(reply: Trace) -> bool | None:
    """Yes or no at the end of a check; None of a failed one, one that was cut off, and one that ends otherwise."""
    if reply.error:
        return None
    verdict = read_conclusion(reply.text, reader="check of a step")
    return verdict if reply.finish_reason != "length" else None


def prompt_and_text(check: Trace) -> tuple[str, str]:
    """Key: what a check was shown and what it says; chains of one problem share steps."""
    return prompt_text(check), check.text


def is_valid(failures: Mapping[str, str], chain: Trace) -> tuple[bool, str]:
    """Every step of it is right to the verifier."""
    return chain.line not in failures, failures.get(chain.line, "")


def report_checks(
    chains: Sequence[Trace], frequent: Sequence[Trace], valid: Sequence[Trace]
) -> None:
    """Say how many chains are valid, whose answers are elected, and where steps are judged how good the checks are."""
    # Of chains that are not valid, those that are right after all are what verification costs.
    invalid = [chain for chain in frequent if chain not in set(valid)]
    shares = [
        share_of("chains whose statements can be read", is_program, chains),
        Share("checked chains that are valid", len(valid), len(frequent)),
        share_of("valid chains: right", right, valid),
        share_of("chains that are not valid: wrong", is_known_wrong, invalid),
    ]
    hint = "A chain is valid where the verifier finds each step right in the light of its own premises."
    report_shares("Deductive verification", shares, hint=hint)


def is_program(chain: Trace) -> bool:
    """Its statements can be read."""
    return bool(steps_of(chain.text))


def is_known_wrong(chain: Trace) -> bool:
    """Its answer is wrong, or a step of it where steps are judged."""
    return not right(chain) or chain.scores.get("steps", 1) != 1
