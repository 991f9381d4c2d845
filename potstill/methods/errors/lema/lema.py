"""LEMA: learning from mistakes that a corrector finds, explains and corrects (arXiv:2310.20689 v4).

Constants and what is inferred stand in `settings.py`, the prompts in `prompts.py`, the parse format in
`corrections.py`, the arms in `arms.py`, the evolution of questions in `evolution.py`.

Departure: steps are the lines or sentences of what a model wrote, which the prompt numbers (the paper asks its
    reasoners for numbered lines); rows are written in one form, however the corrector marked its parts; the data
    sets' own solutions are no rows; answers are read by the problems' verifiers, and an attempt without a readable
    one is no failure. Whole texts are steps, a thought included. A question that repeats one that is there is not
    evolved further, and one that overlaps the evaluation set is dropped. The corrector sees no gold answer, as in
    the paper. The chain that a correction makes must have as much of the attempt's reasoning as `gate` asks for.
Paper: R5
Cite: Shengnan An, Zexiong Ma, Zeqi Lin, Nanning Zheng, Jian-Guang Lou, Weizhu Chen: Learning From Mistakes Makes LLM
    Better Reasoner (2023).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial

from potstill.errors import ConfigError, StageError
from potstill.methods.checks import require_wrong_attempts
from potstill.methods.errors.lema.arms import (
    FULL,
    rows_of_arm,
    show_attempt,
    write_chain,
    write_solution,
)
from potstill.methods.errors.lema.corrections import (
    correction_parts,
    read_correction,
    write_parts,
)
from potstill.methods.errors.lema.evolution import draw_seed_questions, evolve
from potstill.methods.errors.lema.facets import corrections_section, score_facets
from potstill.methods.errors.lema.prompts import few_shot_prompt
from potstill.methods.errors.lema.settings import Arm, Match, Settings
from potstill.methods.errors.lema.steps import find_steps
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace, learnt_stretches
from potstill.traces import (
    ReferenceGate,
    Score,
    among,
    count_reading,
    dedupe,
    edit,
    keep,
    keep_reasoned,
    line,
    mix,
    pose,
    refuse_hidden_end,
    report,
    right,
    right_test,
    sample,
    score,
    verify,
    words,
    wrong,
)
from potstill.traces.reply_counts import Reading


def lema(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    corrector: Model | None = None,
    reasoners: Sequence[Model] = (),
    *,
    arm: Arm = "full",
    match: Match = "none",
    rounds: int = 0,
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """LEMA: learn from wrong attempts that were found, explained and corrected (An et al., arXiv:2310.20689).

    Failure: r~ ~ M_r(q) with Ans(r~) != a. Correction: c ~ M_c(P_c + q + r~) with Ans(c) = a.
    Data: { (q, r) } and { (q + r~, c) }; the loss is on r and c. At test time the student sees q alone.

    Learns from: the teacher's right chains, and corrections of wrong attempts, which the learner sees.
    Needs: teacher (writes, votes on evolved questions), student (writes and is trained), [corrector] (writes
        corrections and evolved questions; else the teacher does), [reasoners] (write the wrong attempts; else the
        student does).
    Controls: arm=cot (right chains alone), arm=spliced (one more right chain for each correction: is it the error
        signal?), arm=no-step (the number of the incorrect step), arm=no-explanation (the explanation), arm=no-solution
        (the correct solution), arm=whole-chain (the wrong chain as context of a right one), arm=caution (the
        explanation without the wrong chain), arm=shuffled-explanations (what the explanation says), arm=random-text
        (the room that it takes), arm=shuffled-attempts (that the mistake is the question's own), arm=injection (both
        ways: from right chains to wrong ones too), match=rows (the
        number of rows), match=characters (the size of what is learnt).

    Args:
        teacher: of right chains; its answers vote on the gold answer of an evolved question.
        student: what is trained; in the second round of evolution it makes the mistakes.
        corrector: sees question and wrong attempt, and no gold answer.
        reasoners: whose wrong attempts are pooled. The student is among them only where it is named.
        arm: which part of a correction is learnt, and beside what; the table in `arms.py`.
        match: right chains are left out until the data is as large as without corrections: in "rows" or in "characters"
            that are learnt; "none" leaves all of them.
        rounds: of evolution; from the second on the student of the round before makes the mistakes.
        gate: how much of a wrong attempt's steps and length the chain that its correction makes of it must have.
        settings: what the paper does not report, and sizes.
    """
    refuse_hidden_end(gate, "lema", "its corrector sees no reference")
    if arm == "cot" and rounds:
        raise ConfigError(
            f"arm=cot has no corrections whose questions could be evolved (rounds={rounds})",
            fix="--set rounds=0",
        )

    corrector = corrector or teacher
    is_right = right_test(problems, settings.steps)
    correct = partial(correct_failures, corrector, is_right, gate, settings)
    # Step 2, failures, and step 3, corrections. They come first: models without errors cost no teacher.
    failures: list[Trace] = []
    corrections: list[Trace] = []
    if arm != "cot":
        failures = collect_failures(list(reasoners) or [student], problems, settings)
        corrections = correct(failures)

    # Step 1, the teacher's right chains.
    chains = verify(sample(teacher, problems, n=settings.chains, **dict(settings.chain_sampling)))
    chains = dedupe(words, keep(is_right, chains))

    # Step 5, correction-centric evolution: new questions from those that were got wrong and could be corrected.
    make_rows = partial(training_rows, chains, arm=arm, match=match, settings=settings)
    base, makers = student, list(reasoners) or [student]
    seed_questions = draw_seed_questions(problems, corrections, settings) if rounds else []
    for evolution_round in range(1, rounds + 1):
        if evolution_round > 1:
            name = f"round-{evolution_round - 1}"
            student = yield Stage(base, make_rows(corrections, failures), "sft", name=name)
            makers = [student]
        questions = evolve(corrector, teacher, seed_questions, settings)
        new_failures = collect_failures(makers, questions, settings)
        corrections += correct(new_failures)
        failures += new_failures

    # Step 6, training on the union; every round begins with the base student.
    yield Stage(base, make_rows(corrections, failures), "sft")


def collect_failures(
    reasoners: Sequence[Model], problems: list[Trace], settings: Settings
) -> list[Trace]:
    """The wrong attempts of all reasoners, each wording once; those whose answer can't be read are none."""
    attempts: list[Trace] = []
    for reasoner in reasoners:
        sampling = dict(settings.attempt_sampling)
        attempts += verify(sample(reasoner, problems, n=settings.attempts, **sampling))
    require_wrong_attempts("lema", attempts, alternative="the right chains alone are --set arm=cot")
    attempts = score("solve_rate", solve_rates, attempts)
    return dedupe(words, keep(wrong, attempts))


def correct_failures(
    corrector: Model,
    is_right: Callable[[Trace], bool],
    gate: ReferenceGate,
    settings: Settings,
    failures: list[Trace],
) -> list[Trace]:
    """One correction of each wrong attempt, where it can be read into its parts and comes to the gold answer.

    The corrector is shown four examples, the question and the attempt; the gold answer judges what it wrote, later.
    The answer is read in the correct solution alone: the number of a step, or an answer that the explanation mentions,
    is none.

    Args:
        corrector: who writes.
        is_right: whether answers alone are verified, or steps too.
        gate: how much of the attempt's steps and length the corrected chain must have.
        settings: of the sampling.
        failures: the wrong attempts.
    """
    # What the learner will see is what the corrector sees behind its examples.
    posed = pose(partial(show_attempt, FULL), failures)
    sampling = dict(settings.correction_sampling)
    prompt = partial(few_shot_prompt, settings.examples)
    answers = sample(corrector, posed, prompt=prompt, **sampling)
    step_counts = {attempt.line: len(find_steps(attempt.text)) for attempt in failures}
    readable = keep(partial(is_readable, step_counts), keep(is_finished, answers))
    solutions = verify(edit(write_solution, readable))
    corrections = among(keep(right, solutions), readable, by=line)
    # A right answer may come from a wrong diagnosis, or without a step: the chain that the correction makes of the
    # attempt must hold, where its steps can be judged, and have as many as the attempt.
    write = partial(write_chain, is_cautioned=False)
    chains = edit(write, corrections, context={"attempts": failures}, by=line)
    if is_right is not right:
        chains = keep(is_right, verify(chains))
    chains = keep_reasoned(chains, failures, by=line, gate=gate)
    corrections = among(chains, corrections, by=line)
    if answers and not corrections:
        raise no_corrections(answers, solutions)
    report(corrections_section(answers, readable, corrections, failures))
    return corrections


def is_finished(trace: Trace) -> tuple[bool, str]:
    """Its writer came to an end: a correction that was cut has no end to learn."""
    return not trace.error and trace.finish_reason != "length", trace.error or "cut at its limit"


def is_readable(step_counts: Mapping[str, int], trace: Trace) -> tuple[bool, str]:
    """It names an incorrect step, explains it and corrects it, in a form that can be read."""
    has_options = bool(trace.problem.choices)
    correction = read_correction(
        trace.reply, has_options=has_options, step_count=step_counts[trace.line]
    )
    if isinstance(correction, str):
        count_reading("corrections", trace.text, "unparsed")
        return False, correction
    is_as_asked = trace.text.strip() == write_parts(correction_parts(correction))
    reading: Reading = "strict" if is_as_asked else "tolerant"
    count_reading("corrections", trace.text, reading)
    return True, ""


def no_corrections(answers: Sequence[Trace], solutions: Sequence[Trace]) -> StageError:
    """The error of a corrector that can't do what it is asked for."""
    statuses = Counter(solution.verdict.status for solution in solutions)
    counts = "".join(f", {count} {status}" for status, count in statuses.most_common())
    return StageError(
        f"lema: none of {len(answers)} corrections can be learnt ({len(solutions)} can be read{counts})",
        expected="an incorrect step, 'Explanation:' and 'Correct solution:' that comes to the gold answer",
        fix="another model in the role corrector; on the built-in world --role corrector=world:oracle",
    )


def training_rows(
    chains: list[Trace],
    corrections: list[Trace],
    failures: list[Trace],
    *,
    arm: Arm,
    match: Match,
    settings: Settings,
) -> list[Trace]:
    """Right chains and what the arm makes of the corrections, in one order."""
    if arm == "cot":
        return mix(chains, seed=settings.seed)
    rows = rows_of_arm(arm, corrections, failures)
    rows = score_facets(rows, corrections, failures)
    if match != "none":
        chains = match_size(match, chains, rows, settings)
    return mix(chains, rows, seed=settings.seed)


def match_size(
    match: Match, chains: list[Trace], rows: list[Trace], settings: Settings
) -> list[Trace]:
    """As many of the chains as make, with the rows, a data set of the size of all chains."""
    size = row_size if match == "rows" else learnt_characters
    # Rows of corrections come first; chains fill what they leave of the size that all chains have.
    room = sum(size(chain) for chain in chains) - sum(size(row) for row in rows)
    fitting: set[str] = set()
    for chain in mix(chains, seed=settings.seed):
        if size(chain) <= room:
            room -= size(chain)
            fitting.add(chain.id)

    def fits_size(trace: Trace) -> tuple[bool, str]:
        return trace.id in fitting, f"the data has its size in {match} without it"

    return keep(fits_size, chains)


def row_size(trace: Trace) -> int:
    """Every row counts as one."""
    return 1


def learnt_characters(trace: Trace) -> int:
    """Characters of a row that have a loss."""
    return sum(stop - start for start, stop in learnt_stretches(trace))


def solve_rates(traces: Sequence[Trace]) -> list[Score]:
    """The share of the attempts at each trace's problem, of all reasoners, that are right."""
    totals: Counter[str] = Counter(trace.problem.id for trace in traces)
    solved: Counter[str] = Counter(trace.problem.id for trace in traces if right(trace))
    return [solved[trace.problem.id] / totals[trace.problem.id] for trace in traces]
