"""REER's score: does a lower perplexity of the response mean a better thought, and what of the response is in it?

The thoughts of a search are judged three ways: by the story's verifier (is each step right?), by what the student
answers when it goes on behind them, and by what a student learns from them. All three are compared with the score S.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from potstill.errors import ModelError
from potstill.evaluation.correlation import Correlation, pairwise_auc, rank_correlation
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.leakage import LeakageParts, measure_leakage
from potstill.methods.searching.reer.reference import read_reference, reference_passage
from potstill.methods.searching.reer.search import S
from potstill.methods.searching.reer.settings import Settings
from potstill.models.model import Model, Scored
from potstill.records import Problem, Progress, Trace
from potstill.runs.sources import load_model
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.arms import RunsByArm
from potstill.studies.chart import Dot, DotChart
from potstill.studies.study import StudyPage, StudySettings
from potstill.traces import Session, answer_probability, nll, right, sample, score, using, verify
from potstill.traces.word_overlap import split_words
from potstill.verifiers.story import parse_story, required_equations, steps

QUESTION = "Does a lower perplexity of the response mean a better thought, and how much of the response is in it?"
SIZES: Mapping[str, int] = {"train": 100, "test": 120, "n": 2, "steps": 30, "thoughts": 6}
ROLES: Mapping[str, str] = {
    "generator": "world:oracle?slip_rate=0.5",
    "student": "world:student",
    "second_scorer": "world:teacher",
}

# The arms of the method that are trained: what each thought is.
ARMS: Mapping[str, str] = {
    "no-thought": "none",
    "answer-leak": "the response itself",
    "forward": "written from the question alone",
    "initial": "written with a sight of the response",
    "random": "initial, each segment replaced by any candidate",
    "hidden": "forward, searched by S without a sight of the response",
    "best-of-n": "the lowest S of 21 initial ones",
    "reer": "initial, searched by S",
}
SEARCHED = ("reer", "hidden", "random", "best-of-n")  # whose thoughts are compared with one another
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1e-3, "batch_size": 16}

# The student writes its chains in one line without tags; thoughts look as these do. The response states the answer.
REER_SETTINGS: Mapping[str, Any] = {
    "reference": "answer",
    "segment": "sentence",
    "min_tokens": 1,
    "min_segment_chars": 1,
    "score_prompt": "",
    "opening": "",
    "closing": " ",
    "asks_reflection": False,
}
ANSWER_CUE = " The answer is \\boxed{"
NAMED = "in the end"  # how the oracle's segment editor names the number that is wanted
BENT = "bent: a wrong chain that ends in the response's number"
NAMES = "says which number is wanted"
RIGHT = "right in every step"
WRONG = "wrong, and ends elsewhere"

# What S is compared with, by the name of the column of a thought.
OUTCOMES: Mapping[str, str] = {
    "steps": "share of its steps that are right",
    "answered": "the student's answer behind it is right",
    "second": "S by the second scorer, lower",
}
CONTROLS = ("length", "leak")

SETUP = """\
{train} training and {test} test stories of the built-in world, {n} answers a test story at temperature 0.6, {seeds}
seeds, each with training stories of its own. The response y is the sentence that states the answer; the thought z is
a chain of equations before it. S is the clipped mean negative log-likelihood of y behind z under the untrained
student, whom each arm then trains on z and y: {steps} steps of 16 rows at a rate of 1e-3 (Muon). Equal for all arms:
the stories, the responses, the rows but for those that fail, the steps. Not equal: the calls of the generator (in the
table) and the tokens learnt.

**The generator is `world:oracle`, a program** that errs at a set rate. As a writer of thoughts it slips in one step
of a chain, and where it sees the response and its last step misses that number it makes the step arrive there half of
the time. As an editor of a marked sentence it half of the time works the step out from those before it, and half of the
time, where it sees the response, makes the last one arrive at its number or says of an earlier one which number is
wanted. So there is something to fall for; how often S falls for it is the student's doing, how often it is offered is
the program's.

Thoughts are compared within a story: up to {thoughts} different ones of all searches, drawn by a hash. A thought is
right if the story's verifier finds every step right; it never sees y. The second scorer is `world:teacher`.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm with every seed, then judge the thoughts of the searches and of the rows."""
    runs = arms.run_seeds(settings, partial(recipe_of_seed, settings), progress)
    thoughts: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    offers: dict[str, dict[str, list[int]]] = {"reer": {}, "random": {}}
    with (
        Store.open(settings.out / "thoughts") as store,
        using(Session(verdict_cache=store.verdicts)),
    ):
        for seed in range(settings.seeds):
            progress("thoughts", seed, settings.seeds)
            with Store.open(settings.out / f"seed-{seed}") as run_store:
                searched = collect_thoughts(run_store, settings.sizes["thoughts"])
                thoughts += judge_thoughts(settings, store, searched, seed)
                for name in ARMS:
                    row_figures = judge_rows(settings, store, read_rows(run_store, name), seed)
                    rows[name].append(row_figures)
                for name, counts in offers.items():
                    count_offers(run_store, name, counts)
    progress("thoughts", settings.seeds, settings.seeds)
    return {
        "arms": runs,
        "rows": rows,
        "offers": offers,
        "correlations": correlate_thoughts(thoughts),
        "compared": {
            "thoughts": len(thoughts),
            "stories": len({thought["group"] for thought in thoughts}),
        },
        "seeds": settings.seeds,
        **settings.sizes,
    }


def recipe_of_seed(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of one seed: other training stories, the same test stories."""
    sizes = settings.sizes
    return {
        "arms": {name: {"method": "reer", "values": {"arm": name}} for name in ARMS},
        # The first thoughts and the searched ones are compared as they come: no gate drops any.
        "values": {
            "settings": dict(REER_SETTINGS),
            "gate": {"min_step_share": 0, "min_length_share": 0},
        },
        "training": {**TRAINING, "max_steps": sizes["steps"]},
        "roles": {name: settings.roles[name] for name in ("generator", "student")},
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": 160},
        },
        "overlap_n": 0,
    }


def reer_settings() -> Settings:
    """The settings of the method in every arm, but for what makes the arm."""
    return Settings(**REER_SETTINGS)


def measured_thoughts(store: Store, arm: str) -> Iterator[Trace]:
    """The thoughts of an arm that have a score, candidates included, in the order they were made; no rows."""
    for trace in store.history.traces(arm, operator="edit"):
        if S in trace.scores and "reer_initial" not in trace.scores:
            yield trace


def collect_thoughts(store: Store, count: int) -> list[Trace]:
    """Up to so many different thoughts a story, of all searches, drawn by a hash of what they are."""
    by_problem: dict[str, dict[str, Trace]] = {}
    for arm in SEARCHED:
        for thought in measured_thoughts(store, arm):
            by_problem.setdefault(thought.problem.id, {}).setdefault(thought.text, thought)
    chosen: list[Trace] = []
    for thoughts in by_problem.values():
        ranked = sorted(thoughts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
        chosen += [thoughts[text] for text in ranked[:count]]
    return chosen


def read_rows(store: Store, arm: str) -> list[Trace]:
    """The thoughts of the rows that an arm trained on, with the rows' scores; an empty one where there is none."""
    [row_ids] = store.history.row_ids(arm).values()
    thoughts: list[Trace] = []
    for row in store.history.traces_by_id(row_ids, arm):
        reference = read_reference(reer_settings(), row.problem)
        thought = Trace(
            row.problem,
            row.prompt,
            row.text.removesuffix(reference).rstrip(),
            operator="study",
            scores=row.scores,
        )
        thoughts.append(thought)
    return thoughts


def load_scorer(settings: StudySettings, store: Store, role: str, seed: int) -> Any:
    """The model of a role, behind the study's own store."""
    model: Model = load_model(settings.roles[role], threads=arms.THREADS)
    if not isinstance(model, Scored):
        raise ModelError(f"{model.id} gives no likelihoods", expected="a model with weights")
    return with_cache(
        model, store, role=role, arm="thoughts", seed=seed, retry_errors=settings.retry_errors
    )


def judge_thoughts(
    settings: StudySettings, store: Store, thoughts: list[Trace], seed: int
) -> list[dict[str, Any]]:
    """What is known of each thought, as plain JSON: S by two scorers, steps, the answer behind it, length, leakage."""
    student = load_scorer(settings, store, "student", seed)
    second = load_scorer(settings, store, "second_scorer", seed)
    passage = partial(reference_passage, reer_settings())
    thoughts = score("second", nll(second, passage, clip=reer_settings().clip), thoughts)

    # The student goes on behind the thought and states an answer; it sees question and thought, and no response.
    begun = [Trace(one.problem, one.prompt, one.text, operator="study") for one in thoughts]
    answers = verify(sample(student, begun, prefix=" ", temperature=0.0, max_new_tokens=24))
    judged: list[dict[str, Any]] = []
    for thought, answer in zip(thoughts, answers, strict=True):
        second_score = thought.scores["second"]
        own_score = thought.scores[S]
        if own_score is None or second_score is None:
            continue
        leakage = measure_leakage(leakage_parts(thought))
        judged.append(
            {
                "group": f"{seed}/{thought.problem.id}",
                "own": -float(own_score),
                "second": -float(second_score),
                "steps": right_share(thought.problem, thought.text),
                "answered": float(right(answer)),
                "length": float(len(split_words(thought.text))),
                "leak": leakage.rouge_l_recall or 0.0,
            }
        )
    return judged


def judge_rows(
    settings: StudySettings, store: Store, thoughts: list[Trace], seed: int
) -> dict[str, float]:
    """What an arm's rows are like: means over rows of S, of right thoughts, of kinds of thoughts and of leakage."""
    student = load_scorer(settings, store, "student", seed)
    thoughts = score("probability", answer_probability(student, cue=ANSWER_CUE), thoughts)
    columns: dict[str, list[float]] = {}
    for thought in thoughts:
        leakage = measure_leakage(leakage_parts(thought))
        kind = kind_of(thought)
        values = {
            "initial": thought.scores["reer_initial"],
            "own": thought.scores[S],
            "right": float(kind == RIGHT),
            "bent": float(kind == BENT),
            "rouge_l_recall": leakage.rouge_l_recall,
            "containment_4": leakage.containment_4,
            "longest_run_share": leakage.longest_run_share,
            "probability": thought.scores["probability"],
        }
        for name, value in values.items():
            if value is not None:
                columns.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in columns.items()}


def leakage_parts(thought: Trace) -> LeakageParts:
    """Question, thought and response, between which leakage is measured."""
    reference = read_reference(reer_settings(), thought.problem)
    return LeakageParts(thought.question, thought.text, reference)


def right_share(problem: Problem, text: str) -> float:
    """The share of the story's steps that the thought has and has right."""
    parsed = parse_story(problem.question)
    assert parsed is not None
    right_count = sum(span.score == 1 for span in steps(problem, text))
    return right_count / len(required_equations(parsed))


def kind_of(thought: Trace) -> str:
    """What a thought is, by its steps, its last number, and whether it says which number is wanted."""
    spans = steps(thought.problem, thought.text)
    ends_at_answer = False
    if spans:
        last_step = thought.text[spans[-1].start : spans[-1].stop]
        ends_at_answer = last_step.split()[-1].rstrip(".") == thought.problem.answer
    is_right = right_share(thought.problem, thought.text) == 1 and all(s.score == 1 for s in spans)
    if ends_at_answer and not is_right:
        return BENT
    if NAMED in thought.text:
        return NAMES
    return RIGHT if is_right else WRONG


def count_offers(store: Store, arm: str, counts: dict[str, list[int]]) -> None:
    """Add an arm's candidates by kind: how many were offered, and how many took a segment's place."""
    refused = {drop.id for drop in store.history.drops(arm) if drop.test == "is_chosen"}
    begun: set[str] = set()
    for thought in measured_thoughts(store, arm):
        # The first thought of a story is the initial one, and no candidate.
        if thought.problem.id not in begun:
            begun.add(thought.problem.id)
            continue
        offered = counts.setdefault(kind_of(thought), [0, 0])
        offered[0] += 1
        offered[1] += thought.id not in refused


def correlate_thoughts(thoughts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Within stories, how a lower S goes with each outcome: plain, with length and leakage held, and as pairs."""
    score_values = [thought["own"] for thought in thoughts]
    groups = [thought["group"] for thought in thoughts]
    controls = [[thought[name] for thought in thoughts] for name in CONTROLS]
    correlations: dict[str, dict[str, Any]] = {}
    for name in OUTCOMES:
        outcomes = [thought[name] for thought in thoughts]
        correlations[name] = {
            "plain": to_plain(rank_correlation(score_values, outcomes, groups)),
            "partial": to_plain(
                rank_correlation(score_values, outcomes, groups, controls=controls)
            ),
            "pairs": to_plain(pairwise_auc(score_values, outcomes, groups)),
        }
    return correlations


def to_plain(correlation: Correlation) -> dict[str, Any]:
    """A correlation as plain JSON."""
    estimate = list(correlation.estimate) if correlation.estimate is not None else None
    return {"estimate": estimate, "groups": correlation.groups, "left_out": correlation.left_out}


def to_estimate(plain: Mapping[str, Any]) -> Estimate | None:
    """The estimate of a correlation that was made plain."""
    return Estimate(*plain["estimate"]) if plain["estimate"] is not None else None


def correlate_arms(figures: Mapping[str, Any], column: str, sign: float) -> Estimate | None:
    """Rank correlation over the arms of each seed of a mean of their rows with the accuracy of their students."""
    values: list[float] = []
    accuracies: list[float] = []
    seeds: list[int] = []
    for name in ARMS:
        for seed, accuracy in enumerate(arms.seed_scores(figures["arms"][name])):
            values.append(sign * figures["rows"][name][seed].get(column, 0.0))
            accuracies.append(accuracy)
            seeds.append(seed)
    return rank_correlation(values, accuracies, seeds).estimate


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    runs: RunsByArm = figures["arms"]
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    dots: list[Dot] = []
    for name, outcome in OUTCOMES.items():
        estimate = to_estimate(figures["correlations"][name]["plain"])
        if estimate is not None:
            dots.append(Dot(outcome, *estimate))
    by_score, by_steps = correlate_arms(figures, "own", -1), correlate_arms(figures, "right", 1)
    for label, estimate in (
        ("accuracy learnt, by S of the rows", by_score),
        ("accuracy learnt, by right thoughts", by_steps),
    ):
        if estimate is not None:
            dots.append(Dot(label, *estimate))
    return StudyPage(
        setup=SETUP.format(**sizes),
        tables={
            "A lower S within a story": correlation_table(figures),
            "What the search is offered and takes": offers_table(figures["offers"]),
            "Rows": rows_table(figures["rows"]),
            "Arms": arms.arms_table(runs),
        },
        chart=DotChart("What a lower S goes with", "rank correlation", dots, 0.0),
        finding=write_finding(figures, by_score, by_steps),
    )


def correlation_table(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row an outcome: rank correlation, the same with length and leakage held, and the share of pairs."""
    rows: list[dict[str, str]] = []
    for name, outcome in OUTCOMES.items():
        correlation = figures["correlations"][name]
        rows.append(
            {
                "goes with": outcome,
                "rank correlation": format_correlation(to_estimate(correlation["plain"])),
                "length and leakage held": format_correlation(to_estimate(correlation["partial"])),
                "pairs ordered rightly": format_correlation(to_estimate(correlation["pairs"])),
                "stories": f"{correlation['plain']['groups']:,}",
                "without a difference": f"{correlation['plain']['left_out']:,}",
            }
        )
    return rows


def format_correlation(estimate: Estimate | None) -> str:
    """A correlation with its interval; a dash where nothing can be told."""
    if estimate is None:
        return "–"
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def offers_table(offers: Mapping[str, Mapping[str, Sequence[int]]]) -> list[dict[str, str]]:
    """A row a kind of thought that a candidate makes: offered and taken, by S and by chance."""
    rows: list[dict[str, str]] = []
    for kind in (RIGHT, BENT, NAMES, WRONG):
        row = {"a candidate makes the thought": kind}
        for arm, counts in offers.items():
            offered, taken = counts.get(kind, (0, 0))
            row[f"offered to {arm}"] = f"{offered:,}"
            row[f"taken by {arm}"] = f"{taken / offered:.1%}" if offered else "–"
        rows.append(row)
    return rows


def rows_table(rows_by_arm: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, str]]:
    """A row an arm: S, right and bent thoughts, and leakage; means over seeds."""
    titles = {
        "initial": "S before",
        "own": "S",
        "right": "right thoughts",
        "bent": "bent thoughts",
        "rouge_l_recall": "ROUGE-L recall of y",
        "containment_4": "its 4-grams in z",
        "longest_run_share": "longest run, share of y",
        "probability": "answer, last line hidden",
    }
    rows: list[dict[str, str]] = []
    for name, seeds in rows_by_arm.items():
        row = {"arm": name, "thought": ARMS[name]}
        for column, title in titles.items():
            values = [means[column] for means in seeds if column in means]
            row[title] = f"{sum(values) / len(values):.3f}" if values else "–"
        rows.append(row)
    return rows


def write_finding(
    figures: Mapping[str, Any], by_score: Estimate | None, by_steps: Estimate | None
) -> str:
    """What came out, as one paragraph that the intervals choose."""
    correlations = figures["correlations"]
    sentences = [
        describe_correlation("a larger share of right steps", correlations["steps"]),
        describe_correlation("a right answer of the student behind it", correlations["answered"]),
    ]
    bent_offered, bent_taken = figures["offers"]["reer"].get(BENT, (0, 0))
    right_offered, right_taken = figures["offers"]["reer"].get(RIGHT, (0, 0))
    if bent_offered and right_offered:
        sentences.append(
            f"The search takes {bent_taken / bent_offered:.0%} of the candidates that bend a wrong chain to the "
            f"response's number ({bent_taken:,} of {bent_offered:,}), and {right_taken / right_offered:.0%} of those "
            f"that make the thought right in every step ({right_taken:,} of {right_offered:,})."
        )
    runs = figures["arms"]
    for base in ("initial", "random", "best-of-n", "hidden"):
        lead = arms.difference(runs["reer"], runs[base])
        sentences.append(arms.describe_difference("`reer`", f"`{base}`", lead))
    sentences.append(
        "Over the arms of a seed, accuracy after training has a rank correlation of "
        f"{format_correlation(by_score)} with a low mean S of the rows, and of {format_correlation(by_steps)} with the "
        "share of right thoughts among them."
    )
    sentences.append(
        "The overlap of words between thought and response does not tell a bent thought from a right one: both end in "
        "the same number. The generator is a program and the responses are one sentence: this is no evidence for "
        "long texts, where nothing can be verified, or for large models."
    )
    return " ".join(sentences)


def describe_correlation(outcome: str, correlation: Mapping[str, Any]) -> str:
    """A correlation within stories as a sentence."""
    plain, partial_estimate = to_estimate(correlation["plain"]), to_estimate(correlation["partial"])
    if plain is None or partial_estimate is None:
        return f"Whether a lower S goes with {outcome} can't be told: no story has a difference."
    numbers = (
        f"{format_correlation(plain)}, with length and leakage held "
        f"{format_correlation(partial_estimate)}"
    )
    direction = arms.sign(plain)
    if direction == "undecided":
        return f"Within a story a lower S is not shown to go with {outcome} ({numbers})."
    word = "goes with" if direction == "above" else "goes against"
    return f"Within a story a lower S {word} {outcome} ({numbers})."
