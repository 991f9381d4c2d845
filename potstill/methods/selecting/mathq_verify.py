"""MathQ-Verify: questions go through five checks, by vote of several models, before a teacher is asked.

| constant | value | source |
|---|---|---|
| checks, in their order; a failed one ends it | `CHECKS` | released code |
| reply | JSON, `judgement_test` and `error_type` | released code |
| voters, most | 5, of nine models | released code |
| votes for a valid question | more than half | inferred: subset and number are chosen on a labelled set |
| temperature | 0 | inferred |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from json import JSONDecodeError, JSONDecoder
from typing import Any, Literal

from potstill.errors import ConfigError
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace, split_reasoning
from potstill.traces import (
    Share,
    ask,
    count_reading,
    keep,
    report_shares,
    right_test,
    sample,
    score,
    verify,
)

# What each check looks at, in the order of the paper's five stages.
CHECKS: Mapping[str, str] = {
    "instructions": "Is it a mathematical problem and nothing else? It fails where it gives away its answer, or has "
    "other instructions in it, such as to rewrite or to translate something.",
    "language": "Look at its language only: spelling, grammar and LaTeX. It fails where they are wrong.",
    "conditions": "Take it apart into its smallest conditions and its smallest questions, and look at each condition "
    "alone. It fails where one violates its domain or the facts, as half a person does. Averages may be fractions, "
    "and magic is allowed where the problem says so.",
    "contradictions": "Compare its conditions with each other. It fails where two of them contradict each other, or "
    "where they lead to an absurd answer. Whether a single condition violates its domain does not matter here.",
    "completeness": "Are its conditions enough to answer what it asks? Conditions that are not needed are no fault; "
    "an analytical and a numerical answer are both fine unless it says otherwise.",
}
DIRECT = {"direct": "Is it a valid problem: well posed, free of contradictions, and complete?"}
FORM = """\
You may think first. End with a JSON object with exactly these keys:
{{"judgement_test": true or false, "error_type": "what is wrong, or null"}}

Problem:
-------------------------------
{question}
{choices}
-------------------------------"""
UNREAD = "no verdict"


def mathq_verify(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    judges: Sequence[Model] = (),
    *,
    arm: Literal["mathq-verify", "direct", "unfiltered"] = "mathq-verify",
    votes: int | None = None,
    n: int = 1,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.7, max_new_tokens=8192),
    judging: Options = options(temperature=0.0, max_new_tokens=2048),
) -> Generator[Stage, Trainable, None]:
    """MathQ-Verify: let's verify math questions step by step (Shen et al., arXiv:2505.13903).

    A judge calls q valid where v_1(q) = ... = v_5(q) = true; q is kept where at least k of the judges do.

    Learns from: the teacher's right chains on the questions that are valid.
    Needs: teacher (writes chains), student (is trained), [judges] (check the questions, in the teacher's place).
    Controls: arm=direct (one question about validity, the paper's own baseline), unfiltered (all questions).
    Departure: a reply that can't be read is no vote for validity, as in the released code, but is counted apart; there
        the text between its first and last brace is read, here its last JSON object. The wording of the checks is
        ours, and the check of conditions does not ask for their list, which no other check is shown. Inferred: the
        teacher and the student behind the filter, for the paper stops at the questions.
    Partial: the voters are those that are given: which of them, and how many votes, is not searched on a labelled set.
    Paper: 171
    Cite: Chengyu Shen, Zhen Hao Wong, Runming He, Hao Liang, Meiyi Qiang, Zimo Meng, Zhengyang Zhao, Bohan Zeng,
        Zhengzhou Zhu, Bin Cui, Wentao Zhang: Let's Verify Math Questions Step by Step (2025).

    Args:
        teacher: reasons; without judges it checks the questions too.
        student: learns.
        judges: the voters.
        arm: the method or one of its controls.
        votes: judges that must call a question valid; more than half of them where it is left open.
        n: chains a question.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        sampling: of the teacher's chains.
        judging: of the judges' replies.
    """
    voters = judges or [teacher]
    # A majority, where nothing is said; one judge alone decides.
    needed = len(voters) // 2 + 1 if votes is None else votes
    if not 1 <= needed <= len(voters):
        raise ConfigError(
            f"mathq_verify got votes={votes} of {len(voters)} judges",
            expected=f"from 1 to {len(voters)}",
            fix="--role judges=A --role judges=B",
        )
    checks = DIRECT if arm == "direct" else CHECKS

    # The questions, before anybody writes a chain.
    questions = problems
    if arm != "unfiltered":
        failures: list[dict[str, str]] = []
        for number, voter in enumerate(voters, 1):
            failures.append(check_questions(checks, voter, number, problems, dict(judging)))
        questions = keep(partial(is_elected, failures, needed), problems)
        report_checks(checks, problems, failures, questions)

    # The chains, on what is left.
    chains = sample(teacher, questions, n=n, **dict(sampling))
    yield Stage(student, keep(right_test(problems, steps), verify(chains)), "sft")


def check_questions(
    checks: Mapping[str, str],
    voter: Model,
    number: int,
    problems: Sequence[Trace],
    judging: Mapping[str, Any],
) -> dict[str, str]:
    """By question the first check that it fails at one judge, or UNREAD; those that pass all are not in it.

    A question that fails a check is not asked about again.
    """
    failures: dict[str, str] = {}
    remaining = list(problems)
    for name, check in checks.items():
        prompt = f"Check a mathematical problem in one respect. {check}\n\n{FORM}"
        judge = ask(voter, prompt, read_judgement, **judging)
        for trace in score(f"judge_{number}_{name}", judge, remaining):
            verdict = trace.scores[f"judge_{number}_{name}"]
            if verdict is None:
                failures[trace.problem.id] = UNREAD
            elif not verdict:
                failures[trace.problem.id] = name
        # What fails here is not asked about in the later checks, which take it for granted.
        remaining = [trace for trace in remaining if trace.problem.id not in failures]
    return failures


def read_judgement(text: str) -> float | None:
    """1 or 0 by the last JSON object of a reply whose `judgement_test` is true or false; None without one."""
    reply = split_reasoning(text)[1]
    starts = [match.start() for match in re.finditer(r"\{", reply)]
    # From the last brace backwards: what was thought before may hold formulas, and drafts of the verdict.
    for start in reversed(starts):
        try:
            value, stop = JSONDecoder().raw_decode(reply, start)
        except (JSONDecodeError, RecursionError):
            continue  # a brace of the thought, or of a formula
        judgement = value.get("judgement_test")
        if isinstance(judgement, bool):
            is_last = not reply[stop:].strip(" \n`")
            count_reading("judgement", text, "strict" if is_last else "tolerant")
            return float(judgement)
    count_reading("judgement", text, "unparsed")
    return None


def is_elected(
    failures: Sequence[Mapping[str, str]], needed: int, trace: Trace
) -> tuple[bool, str]:
    """So many judges as are needed call the question valid; else the reason says what it failed."""
    # A judge that names no failure votes for the question.
    reasons: Counter[str] = Counter()
    for failures_of_judge in failures:
        if trace.problem.id in failures_of_judge:
            reasons[failures_of_judge[trace.problem.id]] += 1
    valid = len(failures) - reasons.total()
    named = ", ".join(f"{name} ({count})" for name, count in sorted(reasons.items()))
    return valid >= needed, f"valid to {valid} of {len(failures)} judges; it fails: {named}"


def report_checks(
    checks: Mapping[str, str],
    problems: Sequence[Trace],
    failures: Sequence[Mapping[str, str]],
    questions: Sequence[Trace],
) -> None:
    """Say which checks questions failed, and how many are left."""
    reasons: Counter[str] = Counter()
    for failures_of_judge in failures:
        reasons.update(failures_of_judge.values())
    votes = len(failures) * len(problems)
    shares = [Share("questions that are valid by vote", len(questions), len(problems))]
    for name in (*checks, UNREAD):
        shares.append(Share(f"votes against, for {name}", reasons[name], votes))
    hint = "Each judge checks a question until it fails one check; a reply that can't be read is no vote for it."
    report_shares("Validity of the questions", shares, hint=hint)
