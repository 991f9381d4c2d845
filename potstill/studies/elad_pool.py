"""What the study elad-sign measures on a pool without training: every score on shared samples, costs, annotations.

All of it goes through the store of the seed's run folder: what the arms asked there is not asked again, so that every
score and every arm stands on the same chains and continuations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any, get_args

from potstill.methods.selecting.elad.claer import annotate_chains
from potstill.methods.selecting.elad.controls import count_calls
from potstill.methods.selecting.elad.egss import sample_chains, score_steps, standing_chains
from potstill.methods.selecting.elad.reporting import accepted_steps, is_revised
from potstill.methods.selecting.elad.selection import choose_chains
from potstill.methods.selecting.elad.settings import Annotation, Probe, Selection, Settings
from potstill.methods.selecting.elad.steps import count_steps, cut_into_steps
from potstill.models.model import Model
from potstill.records import Problem, Trace, blank
from potstill.runs.sources import load_model
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.study import StudySettings
from potstill.traces import Session, agreement, score, sound, using, verify
from potstill.traces.scores import Score
from potstill.traces.usage import UsageMeter
from potstill.verifiers.story import apply_event, parse_story, required_equations
from potstill.world import story

ARM = "pool"  # under which the store counts what is asked here
GREEDY = "branch, greedy"
ANNOTATIONS: tuple[Annotation, ...] = get_args(Annotation)
PROBES: Mapping[str, tuple[Probe, tuple[tuple[str, Any], ...]]] = {
    "branch": ("branch", Settings().probe_sampling),
    GREEDY: ("branch", (("temperature", 0.0),)),
    "drop-one": ("drop-one", Settings().probe_sampling),
}
"""The probes by name: how a step is taken away, and how answers are sampled."""


def pool_problems(size: int, seed: int) -> list[Problem]:
    """The pool of a seed; the recipe's `problems` names the same stories."""
    return story.problems("story", size=size, seed=seed, split="train")


def measure_pool(
    settings: StudySettings,
    seed: int,
    selections: Mapping[str, Selection],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """Score the pool of a seed with every probe, select with every arm, annotate in every way, inject errors.

    Args:
        settings: of the study.
        seed: whose pool and samples.
        selections: the arms that choose, by name.
        counts: how many problems each of them annotates.

    Returns:
        "items", a problem each; "chosen", ids by arm; "costs", of the pool by what was asked; "annotations", by kind;
        "injected", a chain each. All plain JSON.
    """
    sizes = settings.sizes
    pool = [blank(problem) for problem in pool_problems(sizes["pool"], seed)]
    with Store.open(settings.out / f"seed-{seed}") as store:
        models: dict[str, Model] = {}
        for role in ("student", "teacher"):
            model = load_model(settings.roles[role], threads=arms.THREADS)
            models[role] = with_cache(
                model, store, role=role, arm=ARM, seed=seed, retry_errors=settings.retry_errors
            )
        student, teacher = models["student"], models["teacher"]

        # Each part in a session of its own, which counts samples from the first on, as each arm of the run did.
        base = Selection(n=sizes["chains"], settings=Settings(seed_share=0.0, rounds=1))
        costs: dict[str, dict[str, float]] = {}
        chosen: dict[str, list[str]] = {}
        entropies: dict[str, Score] = {}
        for name, selection in selections.items():
            with fresh_session(store), count_calls() as calls:
                candidates, chosen_chains = choose_chains(student, pool, counts[name], 1, selection)
            costs[f"selecting, {name}"] = total_calls(calls)
            chosen[name] = sorted(chain.problem.id for chain in chosen_chains)
            if selection.arm == "inter-same-calls":
                entropies = {chain.problem.id: chain.scores.get("inter") for chain in candidates}
            with fresh_session(store), count_calls() as calls:
                annotate_chains(teacher, chosen_chains, "sequential", selection.settings)
            costs[f"annotating, {name}"] = total_calls(calls)
        with fresh_session(store), count_calls() as calls:
            chains, standing = sample_pool(student, pool, base)
        costs["chains"] = total_calls(calls)
        probed: dict[str, list[Trace]] = {}
        for name, (probe, sampling) in PROBES.items():
            selection = replace(
                base, probe=probe, settings=replace(base.settings, probe_sampling=sampling)
            )
            with fresh_session(store):
                sample_chains(
                    student, pool, base.n, base.settings
                )  # as before the probes of an arm
                with count_calls() as calls:
                    probed[name] = score_steps(student, standing, chains, selection)
            costs[name] = total_calls(calls)
        annotations: dict[str, Any] = {}
        checked: list[Trace] = []
        for annotation in ANNOTATIONS:
            with fresh_session(store), count_calls() as calls:
                made = annotate_chains(teacher, standing, annotation, base.settings)
                annotations[annotation] = annotation_figures(made.chains, made.rows, calls)
            if annotation == "sequential":
                checked = made.chains
        with fresh_session(store):
            injected = inject_errors(student, standing, sizes["injected"], base)
    items = [item_figures(*of_problem) for of_problem in by_problem(checked, probed)]
    for item in items:
        item["inter_same_calls"] = entropies.get(item["problem"])
    return {
        "items": items,
        "chosen": chosen,
        "costs": costs,
        "annotations": annotations,
        "injected": injected,
    }


@contextmanager
def fresh_session(store: Store) -> Iterator[None]:
    """A session that counts samples from the first on."""
    with using(Session(verdict_cache=store.verdicts)):
        yield


def sample_pool(
    student: Model, pool: list[Trace], selection: Selection
) -> tuple[list[Trace], list[Trace]]:
    """All chains of the pool with their agreement, and the judged chain that stands for each problem, in steps."""
    chains = sample_chains(student, pool, selection.n, selection.settings)
    chains = score("agreement", agreement, chains)
    standing = standing_chains(student, pool, chains, selection.settings)
    return chains, verify(standing)


def by_problem(
    checked: Sequence[Trace], probed: Mapping[str, Sequence[Trace]]
) -> list[tuple[Trace, dict[str, Trace]]]:
    """Each checked chain with the same chain as every probe scored it."""
    result: list[tuple[Trace, dict[str, Trace]]] = []
    for place, chain in enumerate(checked):
        result.append((chain, {name: traces[place] for name, traces in probed.items()}))
    return result


def item_figures(chain: Trace, probed: Mapping[str, Trace]) -> dict[str, Any]:
    """What is known of one problem of the pool, as plain JSON."""
    figures: dict[str, Any] = {
        "problem": chain.problem.id,
        "right": chain.verdict.status == "right",
        "sound": sound(chain),
        "agreement": chain.scores.get("agreement"),
        "inter": chain.scores.get("inter"),
        "length": count_steps(chain),
        "first_error": chain.scores.get("first_error"),
    }
    for name, trace in probed.items():
        figures[name] = {
            "change": trace.scores.get("change"),
            "noise": trace.scores.get("noise"),
            "probes": json.loads(str(trace.scores.get("probes") or "[]")),
        }
    return figures


def annotation_figures(
    chains: Sequence[Trace], rows: Sequence[Trace], calls: UsageMeter
) -> dict[str, Any]:
    """What one way of annotating the whole pool found and took, as plain JSON."""
    right = [chain for chain in chains if chain.verdict.status == "right"]
    revised = [chain for chain in chains if is_revised(chain)]
    misled = [row for row in rows if 0.0 in accepted_steps(row)]
    return {
        **total_calls(calls),
        "chains": len(chains),
        "rows": len(rows),
        "revised": len(revised),
        "right_chains": len(right),
        "right_revised": sum(map(is_revised, right)),
        "false_alarms": sum(is_revised(chain) for chain in chains if sound(chain)),
        "gold_match": sum(row.verdict.status == "right" for row in rows),
        "misled": len(misled),
    }


def total_calls(meter: UsageMeter) -> dict[str, float]:
    """Calls and tokens of a meter."""
    totals = {"calls": 0.0, "prompt_tokens": 0.0, "completion_tokens": 0.0}
    for by_role in meter.by_problem().values():
        for usage in by_role.values():
            totals["calls"] += usage.calls
            totals["prompt_tokens"] += usage.prompt_tokens
            totals["completion_tokens"] += usage.completion_tokens
    return totals


# Known errors.


def inject_errors(
    student: Model, standing: Sequence[Trace], count: int, selection: Selection
) -> list[dict[str, Any]]:
    """Put one error into chains that are right in every step, and probe the chains with and without it.

    The error is one near miss at a step of its own for each chain, carried on through the steps behind it, as a slip of
    the student is. Only branches are probed.
    """
    originals: list[Trace] = []
    slipped: list[Trace] = []
    steps: list[int] = []
    for chain in standing:
        if len(originals) < count and sound(chain):
            rng = Random(chain.problem.id)
            step, text = slip_once(chain.problem, rng)
            originals.append(brief_chain(chain, story_text(chain.problem)))
            slipped.append(brief_chain(chain, text))
            steps.append(step)
    if not originals:
        return []
    before = score_steps(student, cut_into_steps(originals, selection.settings), [], selection)
    after = score_steps(student, cut_into_steps(slipped, selection.settings), [], selection)
    figures: list[dict[str, Any]] = []
    for one, other, step in zip(before, after, steps, strict=True):
        figures.append(
            {
                "problem": one.problem.id,
                "step": step,
                "before": json.loads(str(one.scores["probes"])),
                "after": json.loads(str(other.scores["probes"])),
            }
        )
    return figures


def brief_chain(chain: Trace, text: str) -> Trace:
    """A text in the place of a chain's, by the same author."""
    return replace(chain, text=text, operator="study", spans=(), finish_reason="stop")


def story_text(problem: Problem) -> str:
    """The brief right chain of a story."""
    parsed = parse_story(problem.question)
    assert parsed is not None
    return story.brief_solution(parsed)


def slip_once(problem: Problem, rng: Random) -> tuple[int, str]:
    """The brief chain with one wrong result that is carried on, and the number of that step, from 1."""
    parsed = parse_story(problem.question)
    assert parsed is not None
    slip = rng.randrange(len(parsed.events))
    total = parsed.start
    sentences: list[str] = []
    for index, equation in enumerate(required_equations(parsed)):
        result = apply_event(total, parsed.events[index])
        if index == slip:
            result = story.near_miss(result, rng)
        sentences.append(story.write_equation(equation._replace(left=total, result=result)))
        total = result
    sentences.append(f"The answer is \\boxed{{{total}}}.")
    return slip + 1, " ".join(sentences)
