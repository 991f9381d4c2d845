"""Cases of the optional folder of faults that drive the operators: chains, stop strings, solvers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from fault_commands import FAULTS, fault_cases
from tiny import tiny_tokenizer

from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.metrics import average, pass_at
from potstill.evaluation.rows import Evaluation
from potstill.models.model import Model, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Trace, blank
from potstill.runs import sources
from potstill.traces import Session, each, edit, sample, using
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.world.scripted import scripted_student

PROBLEM = Problem("p", "What is half?", "1/2")


def learnt_text(trace: Trace) -> str:
    """What a training learns of a trace, special tokens included."""
    template = read_chat_template(tiny_tokenizer())
    [row] = tokenize_traces([trace], template, max_length=10_000).rows
    return str(template.tokenizer.decode(row.input_ids[row.is_learnt].tolist()))


def grow(case: dict[str, Any], seam_of: Callable[..., list[Trace]]) -> Trace:
    model = ScriptedModel(case["script"])
    chain = [blank(PROBLEM)]
    for piece in range(case["expected"]["pieces"]):
        if piece:
            chain = seam_of(case["seam"], chain)
        chain = sample(model, chain, stop=case["stop"])
    return chain[0]


def by_edit(seam: str, chain: list[Trace]) -> list[Trace]:
    return edit(lambda trace: trace.text + seam, chain)


def check_learnt(case: dict[str, Any]) -> None:
    learnt = learnt_text(grow(case, by_edit))
    for text in case["expected"]["learnt_has"]:
        assert text in learnt
    for text in case["expected"].get("learnt_lacks", ()):
        assert text not in learnt


def one_by_one(model: Model, problems: list[Trace], *, n: int, **sampling: Any) -> list[Trace]:
    copies = [problem for problem in problems for _ in range(n)]
    return each(partial(sample, model, **sampling), copies)


def measure(solver: Any, problems: list[Trace], n: int = 4) -> Evaluation:
    return evaluate(solver, problems, name="arm", n=n, sampling=Sampling(), seed=1)


def check_draws(case: dict[str, Any]) -> None:
    problems = [blank(problem) for problem in sources.load_problems(case["problems"])]
    student = scripted_student()
    alone = measure(partial(one_by_one, student), problems)
    together = measure(partial(sample, student), problems)
    assert pass_at(alone, 4).value > average(alone).value
    assert alone.rows == together.rows and not alone.repeats


def vote(model: Model, problems: list[Trace], *, n: int, k: int, **sampling: Any) -> list[Trace]:
    return sample(model, problems, n=n * k, **sampling)[::k]


def check_fingerprints(case: dict[str, Any]) -> None:
    with using(Session()):
        ids = set()
        for k in case["expected"]["values"]:
            solver = partial(vote, ScriptedModel(case["script"]), k=k)
            ids.add(measure(solver, [blank(PROBLEM)], n=1).fingerprint.id)
    assert len(ids) == len(case["expected"]["values"])


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "grown": check_learnt,
    "stopped": check_learnt,
    "draws": check_draws,
    "fingerprint": check_fingerprints,
}


def core_cases() -> list[dict[str, Any]]:
    cases = []
    for folder in fault_cases("core"):
        case = {**json.loads((folder / "expected.json").read_text("utf-8")), "name": folder.name}
        if case["args"][0] in CHECKS:
            cases.append(case)
    return cases


@pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS} is not there")
@pytest.mark.parametrize("case", core_cases(), ids=lambda case: case["name"])
def test_a_case_of_the_folder_of_faults(case: dict[str, Any]) -> None:
    CHECKS[case["args"][0]](case)
