"""The method listings of the design, as printed where they were printed, on the fakes; not the shipped methods."""

from __future__ import annotations

import re
from functools import partial

from potstill.models.scoring import Passage
from potstill.records import Problem, Stage, blank
from potstill.traces import (
    ask,
    best,
    dedupe,
    each,
    edit,
    keep,
    line,
    mix,
    ok,
    pair,
    perplexity,
    pose,
    problem,
    rewrite,
    right,
    sample,
    score,
    segment,
    verify,
    weigh,
    wrong,
)

PLAN = "Plan this: {question}"
CODE = "Follow the plan.\n{text}\n{question}"
EXPLAIN = "Explain {solution} for: {question}"
CORRECTION = "{question} Correct this: {text}"
FIND = "Find the first mistake and correct it. {prompt}"
EVOLVE = "Make a similar problem: {question}"
CHECK = "{question} Are all steps right? So far:{text}"
CORRECT = "{question} Continue. So far:{text}"
CONFIRM = "{question} Write it again."
REFLECT = "{question} Reference:\n{text}\nWrong attempts:\n{attempts}"
STEP = "{question} One next step. So far:{text}"
SWITCHES = r" Then "
MARKERS = ("Wait", "Alternatively")


# 1. Explain-based (arXiv:2404.08148): the solver is a pipeline of two models.
def explain(problems, teacher, student, coder, *, plans=3, programs=2):
    editorials = keep(well_formed, sample(teacher, pose(PLAN, problems), prompt=EXPLAIN))
    reasoner = yield Stage(student, weigh(easier_and_newer, editorials), "sft")
    return partial(solve, reasoner, coder, plans=plans, programs=programs)


def solve(reasoner, coder, problems, *, plans, programs):
    thoughts = sample(reasoner, pose(PLAN, problems), n=plans)
    return sample(coder, pose(CODE, thoughts), n=programs)


def well_formed(trace):
    return "The answer is" in trace.text


def easier_and_newer(trace):
    return 1 / len(trace.question)


# 2. Retro-Search (arXiv:2504.04383): a search over the units of one chain.
def retro_search(problems, teacher, student, reviser):
    chains = keep(right, verify(sample(teacher, problems)))
    yield Stage(student, each(partial(revise, reviser), chains), "sft")


def revise(reviser, trace):
    [now], i = segment(SWITCHES, trace), 1
    while i < len(now.units):
        cut = edit(partial(first, i), [now])
        tried = verify(sample(reviser, cut, ban_first=MARKERS))
        [now] = segment(SWITCHES, best(shortest, [*keep(right, tried), now]))
        i += 1
    return [now]


def first(i, t):
    return "".join(t.units[:i])


def shortest(t):
    return -len(t.text)


# 3. LEMA (arXiv:2310.20689): several readers' mistakes, corrected; the learner sees the wrong chain; evolved questions.
def lema(problems, teacher, student, readers=(), *, n=2, rounds=1, evolved=4):
    base, pool = student, problems
    chains, fixes = [], []
    for round in range(rounds + 1):
        if round:
            pool = evolve(teacher, bootstrap(fixes, evolved, round), round)
        chains += keep(right, verify(sample(teacher, pool, n=n)))
        fixes += corrections(teacher, [student, *readers], pool, n)
        student = yield Stage(base, mix(chains, fixes), "sft")


def corrections(teacher, models, problems, n):
    attempts = verify([t for model in models for t in sample(model, problems, n=n)])
    posed = pose(CORRECTION, keep(wrong, attempts))
    return keep(right, verify(sample(teacher, posed, prompt=FIND)))


def bootstrap(fixes, size, round):
    return mix(dedupe(problem, keep(ok, fixes)), seed=round)[:size]


def evolve(teacher, seeds, round):
    asked = keep(a_question, sample(teacher, pose(EVOLVE, seeds), sample_index=round))
    return [blank(Problem(f"evolved-{t.id}", t.text, total(t.text), kind="sum")) for t in asked]


def a_question(trace):
    return re.fullmatch(r"Add \d+(, \d+)+\.", trace.text) is not None


def total(text):
    return str(sum(map(int, re.findall(r"\d+", text))))


# 4. ELAD (arXiv:2402.13098): the walk to the first wrong step; each round starts from the last student.
def elad(problems, teacher, student, *, rounds=2, budget=30):
    left = problems
    for _ in range(rounds):
        chains = segment(
            SWITCHES,
            best(uncertain, score("nll", perplexity(student), sample(student, left)), k=budget),
        )
        fixed = keep(right, verify(each(partial(first_error, teacher), chains)))
        student = yield Stage(student, fixed, "sft")


def uncertain(trace):
    return trace.scores["nll"]


def first_error(teacher, chain):
    accepted = edit(nothing, chain)
    for upto in edit(prefixes, chain)[1:]:
        [upto] = score("sound", ask(teacher, CHECK, yes_no), [upto])
        if upto.scores["sound"] == 0:
            return sample(teacher, accepted, prompt=CORRECT)
        if upto.scores["sound"] == 1:
            accepted = [upto]
    return rewrite(teacher, chain, prompt=CONFIRM)


def nothing(t):
    return ""


def prefixes(t):
    return ["".join(t.units[:i]) for i in range(len(t.units))]


def yes_no(reply):
    return {"yes": 1, "no": 0}.get(reply)


# 5. ORION (arXiv:2505.22131): own errors shape only the writer's prompt; the learner sees the bare question.
def orion(problems, teacher, student, *, n=4, errors="own"):
    chains = keep(right, verify(sample(teacher, problems)))
    mistakes = dedupe(problem_and_answer, keep(wrong, verify(sample(student, problems, n=n))))
    shown = {"own": mistakes, "none": []}[errors]
    refined = rewrite(student, chains, prompt=REFLECT, context={"attempts": shown})
    yield Stage(student, keep(right, verify(refined)), "sft")


def problem_and_answer(trace):
    return problem(trace), trace.answer


# 6. GKD (arXiv:2306.13649): rows give prompts, the student writes a share of the texts.
def gkd(problems, teacher, student, *, on_policy_fraction=0.5):
    yield Stage(
        student,
        keep(ok, sample(teacher, problems)),
        "jsd",
        beta=0.5,
        teacher=teacher,
        on_policy_fraction=on_policy_fraction,
    )


# 7. REDI (arXiv:2505.24850): the right ones, then right against wrong.
def redi(problems, teacher, student, *, n=4):
    chains = verify(sample(teacher, problems, n=n))
    student = yield Stage(student, keep(right, chains), "sft")
    yield Stage(student, pair(keep(right, chains), keep(wrong, chains)), "redi", alpha=0.8)


# 8. SuperCorrect (arXiv:2410.09008): corrections by the teacher against the student's own, each of the same wrong line.
def supercorrect(problems, teacher, student):
    student = yield Stage(
        student, keep(right, verify(sample(teacher, pose(PLAN, problems)))), "sft"
    )
    mistakes = keep(wrong, verify(sample(student, pose(PLAN, problems), n=2)))
    posed = pose(CORRECTION, mistakes)
    good = keep(
        right, verify(sample(teacher, posed, prompt=FIND, context={"wrong": mistakes}, by=line))
    )
    bad = keep(wrong, verify(sample(student, posed)))
    student = yield Stage(student, pair(good, bad, by=line), "preference", beta=0.1)
    return partial(plan_first, student)


def plan_first(student, problems):
    return sample(student, pose(PLAN, problems))


# 9. Mentor-KD (arXiv:2410.09037): an intermediate model is trained first; it writes more rows and gives soft labels.
def mentor_kd(problems, teacher, mentor, student, *, n=2):
    chains = keep(right, verify(sample(teacher, problems)))
    mentor = yield Stage(mentor, chains, "sft")
    more = keep(right, verify(sample(mentor, problems, n=n)))
    yield Stage(student, mix(chains, more), "divergence", teacher=mentor)


# 10. Tree of thoughts as data: a beam a problem; every finished right leaf is a row.
def tree_cot(problems, teacher, student, *, width=2, depth=4):
    grown = each(partial(grow, teacher, width, depth), problems)
    yield Stage(student, dedupe(text_of, keep(right, verify(grown))), "sft")


def grow(teacher, width, depth, root):
    beam, leaves = root, []
    for level in range(depth):
        tried = keep(
            ok,
            sample(
                teacher,
                beam,
                prompt=STEP,
                n=width,
                sample_index=level,
                prefix="" if level == 0 else " Then ",
            ),
        )
        tried = score("sound", ask(teacher, CHECK, yes_no), dedupe(text_of, tried))
        leaves += keep(well_formed, tried)
        beam = best(soundness, keep(unfinished, tried), k=width)
    return leaves


def text_of(trace):
    return trace.text


def unfinished(trace):
    return not well_formed(trace)


def soundness(trace):
    return trace.scores["sound"]


# 11. REER (arXiv:2509.06160): local search for the reasoning that makes the known answer likely.
def reer(problems, teacher, student, *, tries=2):
    drafts = segment(
        SWITCHES, keep(ok, sample(teacher, problems, prompt="Why? {question} {answer}"))
    )
    yield Stage(student, each(partial(climb, teacher, student, tries), drafts), "sft")


def climb(teacher, student, tries, draft):
    likely = partial(score, "ppl", perplexity(student, known_answer))
    [now] = likely(draft)
    for i in range(len(now.units)):
        tried = likely(sample(teacher, edit(partial(first, i), [now]), n=tries, sample_index=i))
        [now] = segment(SWITCHES, best(likeliest, [now, *tried]))
    return [now]


def known_answer(trace):
    return Passage(trace.prompt, trace.problem.answer, prefix=trace.text)


def likeliest(trace):
    return None if trace.scores["ppl"] is None else -trace.scores["ppl"]
