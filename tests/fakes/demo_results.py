"""Hand-made evaluations and a whole results file, for the tests of evaluation, table and report."""

from __future__ import annotations

from dataclasses import replace

from potstill.evaluation.compare import compare
from potstill.evaluation.results import (
    Cost,
    Example,
    Funnel,
    FunnelDrop,
    FunnelStep,
    Length,
    Passage,
    Results,
)
from potstill.evaluation.row_steps import RowSteps
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.records import Span
from potstill.traces import ReportSection, Share
from potstill.traces.usage import Usage

TASK = {
    "problems": "problems-0",
    "prompts": "prompts-0",
    "sampling": "{}",
    "n": "4",
    "verifiers": "story@1",
}
LETTERS = {"r": "right", "w": "wrong", "u": "unparsed", "j": "unjudged", "e": "error"}


def row(problem: str, draws: str, *, tokens: int = 50, steps: bool | None = None) -> Row:
    """A row from letters: `rrwu` is two right, a wrong and an unparsed draw; wrong answers all differ."""
    answers = []
    for i, letter in enumerate(draws):
        status = LETTERS[letter]
        said = {"right": "7", "wrong": f"w{i}"}.get(status)
        answers.append(
            Answer(status, said, None if steps is None else steps and status == "right", tokens)
        )
    return Row(problem, tuple(answers))


def evaluation(
    name: str, *draws: str, task: dict[str, str] | None = None, **options: object
) -> Evaluation:
    """An evaluation with one row for each string of letters."""
    rows = tuple(row(f"p{i}", letters, **options) for i, letters in enumerate(draws))  # type: ignore[arg-type]
    sizes = {**TASK, "n": str(len(draws[0]))}
    return Evaluation(
        name, rows, Fingerprint({**sizes, **(task or {})}, {"models": name, "seed": "0"})
    )


def nested_evaluation(*problems: list[str], usage: dict[str, Usage] | None = None) -> Evaluation:
    """Each problem as its plans, each plan as the letters of its programs: `["rw", "ww"]`."""
    rows = []
    for number, plans in enumerate(problems):
        answers = []
        for group, letters in enumerate(plans):
            for letter in letters:
                status = LETTERS[letter]
                answer = {"right": "7", "wrong": f"wrong, by plan {group}"}.get(status)
                answers.append(Answer(status, answer, group=group))
        rows.append(Row(f"p{number}", tuple(answers), usage or {}))
    return replace(evaluation("nested", "r"), rows=tuple(rows))


def arm(name: str, right: int, *, problems: int = 200, n: int = 4) -> Evaluation:
    """An arm of many problems with about `right` per cent right draws, spread the same way every time."""
    draws = []
    for i in range(problems):
        hard = (i * 37) % 100
        draws.append(
            "".join(
                "r" if (hard * 0.6 + 40 * ((i * 13 + j * 29) % 97) / 97) < right else "w"
                for j in range(n)
            )
        )
    draws[3] = "u" + draws[3][1:]
    return evaluation(name, *draws, steps=True)


def results() -> Results:
    """A quickstart-sized outcome."""
    arms = [arm("untrained", 41), arm("sft", 55), arm("rft", 48), arm("orion", 58)]
    evaluations = {e.name: e for e in arms}
    text = "Ned has 19 shells. 19 - 14 = 5. Then 5 * 2 = 11. So \\boxed{11}."
    wrong = text.index("5 * 2 = 11")
    spans = (Span(19, 30, "step", 1.0, 1.0), Span(wrong, wrong + 10, "step", 1.0, 0.0))
    question = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
    good = "First 19 - 14 = 5. Doubling, 5 * 2 = 10. The answer is \\boxed{10}."
    teacher = "Let me see. 19 - 14 = 5. Check: 5 + 14 = 19. Then 5 * 2 = 10. Wait, again: 5 * 2 = 10. So \\boxed{10}."
    funnel = Funnel(
        (
            FunnelStep("sample", "student", 300, 1200),
            FunnelStep("verify", "story@1", 1200, 1200),
            FunnelStep("keep", "wrong", 1200, 700),
            FunnelStep("rewrite", "own errors", 280, 1120),
            FunnelStep("keep", "right", 1120, 640),
            FunnelStep("best", "shortest", 640, 251),
        ),
        (
            FunnelDrop("keep", "wrong", "right at once", 480),
            FunnelDrop("keep", "wrong", "no boxed number after the reasoning", 20),
            FunnelDrop("keep", "right", "another total", 470),
            FunnelDrop("keep", "right", "mentions the reference", 10),
            FunnelDrop("best", "shortest", "not among the best 1", 389),
        ),
    )
    return Results(
        title="Quickstart: running-total stories",
        seed=0,
        recipe={
            "arms": {"orion": {"method": "orion", "values": {"n": 4}}},
            "roles": {"teacher": "world:teacher", "student": "world:student"},
        },
        models={"teacher": "model-1", "student": "model-2"},
        prompts=["{question}"],
        evaluations=evaluations,
        comparisons=[
            *(
                compare(evaluations[name], evaluations["untrained"])
                for name in ("sft", "rft", "orion")
            ),
            compare(evaluations["orion"], evaluations["sft"]),
        ],
        funnels={"orion": funnel, "rft": Funnel(funnel.steps[:3], funnel.drops[:2])},
        costs={
            "sft": {"teacher": Cost(300, 0, 21_000, 54_000, 33.5, 0)},
            "rft": {"student": Cost(1200, 0, 84_000, 61_000, 20.1, 3)},
            "orion": {
                "teacher": Cost(300, 300, 21_000, 54_000, 0.0, 0),
                "student": Cost(2320, 1200, 310_000, 128_000, 61.0, 5),
            },
        },
        training={
            "sft": {
                "rows": 288,
                "steps": 90,
                "tokens": 61_000,
                "seconds": 41.5,
                "first_loss": 1.9,
                "last_loss": 0.41,
                "loss_curve": [[1, 1.9], [45, 0.8], [90, 0.41]],
                "stats": {"accuracy": [0.5, 0.9]},
                "skipped": {"longer than the context": 3},
            },
            "rft": {
                "rows": 210,
                "steps": 66,
                "tokens": 18_000,
                "seconds": 15.0,
                "loss_curve": [[1, 0.6], [66, 0.44]],
            },
            "orion": {
                "rows": 251,
                "steps": 78,
                "tokens": 24_000,
                "seconds": 22.25,
                "loss_curve": [[1, 0.9], [78, 0.38]],
            },
        },
        lengths={
            "sft": {
                "rows": Length(288, 180.4, 120, 176, 260),
                "answers": Length(800, 170.0, 110, 165, 250),
            },
            "orion": {
                "rows": Length(251, 64.2, 40, 61, 96),
                "answers": Length(800, 66.0, 42, 63, 99),
            },
        },
        row_steps={"sft": RowSteps(288, 1, 9.0), "orion": RowSteps(251, 60, 4.0, 0.412, 64)},
        sections={
            "orion": [
                ReportSection(
                    "First rewrites that pass",
                    "By what the prompt showed.",
                    (
                        Share("shown wrong attempts", 640, 1120),
                        Share("shown no attempts", 610, 1120),
                    ),
                )
            ]
        },
        examples=[
            Example(
                question,
                "10",
                "orion",
                (
                    Passage("attempt", text, "student", spans, "wrong"),
                    Passage("source", teacher, "teacher", (), "right"),
                    Passage("row", good, "student", (), "right"),
                    Passage("answer", good, "trained student", (), "right"),
                ),
            ),
            Example(
                "Ida has 3 pens and buys 4. How many pens are there?",
                "7",
                "orion",
                (
                    Passage("before", "So \\boxed{12}.", "student", (), "wrong"),
                    Passage("answer", "3 + 4", "trained student", (), "unparsed", cut=True),
                ),
                held_out=True,
                note="0 of 4 answers are right",
            ),
        ],
        notes=["Made by hand for the tests."],
    )
