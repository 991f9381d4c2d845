"""Which source suits the student: two teachers' right texts to the same questions, for two students of other styles.

Tian et al. (arXiv:2505.14464) train one student on each of three teachers' verified answers to the same questions.
Their best source is the one whose texts a scorer finds likeliest, and whose lengths are spread most widely.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import Any

from potstill.evaluation.intervals import Estimate
from potstill.records import Progress, Trace
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.chart import Dot, DotChart
from potstill.studies.study import StudyPage, StudySettings

QUESTION = (
    "Which teacher's right texts suit a student, and do likelihood and lengths say so before?"
)
SIZES: Mapping[str, int] = {"train": 200, "test": 150, "n": 2, "steps": 40, "longer_steps": 72}
ROLES: Mapping[str, str] = {
    "long": "world:teacher",
    "brief": "world:oracle",
    "brief_student": "world:student",
    "long_student": "world:teacher",
}

# The sources in the order of the method's teachers.
SOURCES: Mapping[str, str] = {
    "long": "chains with checks, slips that are taken back, and new starts",
    "brief": "one line an event",
}
# The students by the style that they were taught before: the role that fills them, and the source in their own style.
STUDENTS: Mapping[str, tuple[str, str]] = {
    "brief student": ("brief_student", "brief"),
    "long student": ("long_student", "long"),
}
MIXED = "mixed"
LONGER = "brief-longer"
# What two arms differ in, by the first and the second one.
SOURCE = "long against brief"
EFFECTS: Mapping[str, tuple[str, str]] = {
    SOURCE: ("long", "brief"),
    "long against brief, at as many learnt tokens": ("long", LONGER),
    "long against a source by chance": ("long", MIXED),
    "brief against a source by chance": ("brief", MIXED),
}
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1e-3, "batch_size": 16}
MAX_NEW_TOKENS = 320
TRIES = 8

SETUP = """\
{train} training and {test} test stories of the built-in world, {n} answers a test story at temperature 0.6, {seeds}
seeds, each with training stories of its own. Each source is asked again, at most {tries} times, until it is right in
every step; of each source's texts the likeliest 95 % are left, and the arms learn the questions that both have such a
text to. Every arm takes {steps} steps of 16 rows at a rate of 1e-3 (Muon), the rate of the other studies; nothing was
tuned arm by arm, and the last checkpoint is measured. Equal for the arms of a student: questions, rows and steps. Not
equal: the tokens that are learnt; `{longer}` takes {longer_steps} steps, so that it learns about as many as `long`.
`mixed` has for each question the text of a source by chance.

The sources: `long` is `world:teacher`, `brief` is `world:oracle`, **a program** that writes one line an event. The
students are of one size and were taught to solve in one of these styles each: the *brief student* is `world:student`,
the *long student* `world:teacher` itself, for whom `long` are its own right samples. The perplexity is that of the
texts under the student that learns them, before it does: the paper's scorer is a model of 32 billion parameters, the
same for all, which wrote none of them; there is none here.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm of both students with every seed, and describe the rows of each source."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    sources: dict[str, dict[str, list[dict[str, float]]]] = {}
    for student, (role, _) in STUDENTS.items():
        part = dataclasses.replace(settings, out=settings.out / role)
        runs[student] = arms.run_seeds(part, partial(recipe_of_seed, part, role), progress)
        sources[student] = {name: [] for name in SOURCES}
        for seed in range(settings.seeds):
            with Store.open(part.out / f"seed-{seed}") as store:
                for name in SOURCES:
                    sources[student][name].append(source_figures(read_rows(store, name)))
    return {"arms": runs, "sources": sources, "seeds": settings.seeds, **settings.sizes}


def recipe_of_seed(settings: StudySettings, student: str, seed: int) -> dict[str, Any]:
    """The recipe of one seed of a student: other training stories, the same test stories."""
    sizes = settings.sizes
    # Every arm asks for the same texts; the store of the seed's folder answers all but the first one.
    recipe_arms: dict[str, Any] = {}
    for number, name in enumerate(SOURCES, start=1):
        recipe_arms[name] = {"method": "source_choice", "values": {"source": number}}
    recipe_arms[MIXED] = {"method": "source_choice", "values": {"arm": "mixed"}}
    recipe_arms[LONGER] = {
        **recipe_arms["brief"],
        "training": {"max_steps": sizes["longer_steps"]},
    }
    return {
        "arms": recipe_arms,
        "values": {
            "steps": True,
            "tries": TRIES,
            "sampling": {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": MAX_NEW_TOKENS},
        },
        "training": {**TRAINING, "max_steps": sizes["steps"]},
        "roles": {
            "teachers": [settings.roles[name] for name in SOURCES],
            "scorer": settings.roles[student],
            "student": settings.roles[student],
        },
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": MAX_NEW_TOKENS},
        },
        "overlap_n": 0,
    }


def read_rows(store: Store, arm: str) -> list[Trace]:
    """The rows that an arm trained on, with their perplexities."""
    [row_ids] = store.history.row_ids(arm).values()
    return list(store.history.traces_by_id(row_ids, arm))


def source_figures(rows: Sequence[Trace]) -> dict[str, float]:
    """What is known of a source's texts before a student learns from them.

    Returns:
        "perplexity", the mean over texts; "words", their mean length; "spread", its standard deviation over its mean.
    """
    perplexities: list[float] = []
    for row in rows:
        perplexity = row.scores["perplexity"]
        assert perplexity is not None  # the method keeps what was scored alone
        perplexities.append(float(perplexity))
    lengths = [len(row.text.split()) for row in rows]
    words = fmean(lengths)
    return {
        "perplexity": fmean(perplexities),
        "words": words,
        "spread": pstdev(lengths) / words,
    }


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    tables: dict[str, list[dict[str, str]]] = {"Sources": sources_table(figures)}
    estimates: dict[str, dict[str, Estimate]] = {}
    dots: list[Dot] = []
    for student, runs in figures["arms"].items():
        estimates[student] = arms.effect_estimates(runs, EFFECTS)
        tables[f"Effects, {student}"] = arms.effects_table(runs, EFFECTS, estimates[student])
        tables[f"Arms, {student}"] = arms.arms_table(runs)
        for effect, estimate in estimates[student].items():
            value, low, high = (100 * end for end in estimate)
            dots.append(Dot(f"{student}: {effect}", value, low, high))
    return StudyPage(
        setup=SETUP.format(**sizes, tries=TRIES, longer=LONGER),
        tables=tables,
        chart=DotChart("What the source changes", "points of accuracy", dots, 0.0),
        finding=write_finding(figures, estimates),
    )


def sources_table(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a student and source: what is known before, and what the student reaches."""
    rows: list[dict[str, str]] = []
    for student, sources in figures["sources"].items():
        for name, source in sources.items():
            rows.append(
                {
                    "student": student,
                    "source": name,
                    "what it is": SOURCES[name],
                    "perplexity": f"{arms.mean_figure(source, 'perplexity'):.2f}",
                    "words a text": f"{arms.mean_figure(source, 'words'):.0f}",
                    "spread of lengths": f"{arms.mean_figure(source, 'spread'):.2f}",
                    "avg@n": f"{arms.score(figures['arms'][student][name]):.1f}",
                }
            )
    return rows


def write_finding(
    figures: Mapping[str, Any], estimates: Mapping[str, Mapping[str, Estimate]]
) -> str:
    """What came out, as one paragraph that the intervals choose."""
    sentences: list[str] = []
    for student, (_, own_style) in STUDENTS.items():
        lead = estimates[student][SOURCE]
        scores = {
            arm: f"{arms.score(runs):.1f} %" for arm, runs in figures["arms"][student].items()
        }
        [foreign] = set(SOURCES) - {own_style}
        sentences.append(
            f"The {student}, whose own style is `{own_style}`, reaches {scores[own_style]} by it and {scores[foreign]} "
            f"by `{foreign}`; it had {scores[arms.UNTRAINED]} before."
        )
        sentences.append(arms.describe_difference("`long`", "`brief`", lead))
        sources = figures["sources"][student]
        likeliest = min(sources, key=lambda name: arms.mean_figure(sources[name], "perplexity"))
        widest = max(sources, key=lambda name: arms.mean_figure(sources[name], "spread"))
        sentences.append(describe_criterion("lowest perplexity", likeliest, lead))
        sentences.append(describe_criterion("widest spread of lengths", widest, lead))
    sentences.append(
        "Two sources, of which one is a program, and students that know one of both styles already, in a small world: "
        "this is no evidence for large models."
    )
    return " ".join(sentences)


def describe_criterion(criterion: str, chosen: str, lead: Estimate) -> str:
    """Whether the source that a criterion chooses is the one that teaches more; `lead` is that of long over brief."""
    better = {"above": "long", "below": "brief", "undecided": ""}[arms.sign(lead)]
    if not better:
        outcome = "and neither source is shown to teach more"
    elif chosen == better:
        outcome = "which teaches more"
    else:
        outcome = "which teaches less"
    return f"The {criterion} chooses `{chosen}`, {outcome}."
