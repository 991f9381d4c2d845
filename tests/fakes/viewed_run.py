"""A run folder to look at, made without a model: errors, teacher's chains, rewrites, rows, drops, hostile texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from potstill.models.model import Completion, Request, Sampling
from potstill.records import Author, Problem, Span, Tokens, Trace, Verdict, blank, digest
from potstill.runs import manifest
from potstill.store import Store
from potstill.store.students import Student
from potstill.viewer.index.indexer import build_index
from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import find_runs

SAMPLING = Sampling(temperature=0.6)
HOSTILE = "<img src=x onerror=alert(1)></script>\u202e \x00 \ud800 😀 5 * 2 = 11."
STAGE = "student-0123456789abcdef0123"


class Made(NamedTuple):
    """Ids of traces of the first problem."""

    error: str
    teacher: str
    rewrite: str


class Dropped(NamedTuple):
    trace: Trace
    operator: str
    test: str
    reason: str


def written(problem: Problem, model: str, text: str, *, index: int = 0, **fields: Any) -> Trace:
    """A trace that a model wrote when it was asked the problem's question."""
    author = Author(model, digest("prompt", problem.question), SAMPLING.changed(), index)
    defaults: dict[str, Any] = {
        "finish_reason": "stop",
        "operator": "sample",
        "parents": (blank(problem).id,),
        "tokens": Tokens(10, len(text) // 3),
    }
    return Trace(problem, problem.question, text=text, author=author, **{**defaults, **fields})


def judged(
    trace: Trace, status: str, answer: str | None, *, wrong_step: int | None = None
) -> Trace:
    """The trace with a verdict, and with a step for each sentence, one of which may be wrong."""
    spans, start = [], 0
    for number, sentence in enumerate(trace.text.split(". ")):
        score = 0.0 if number == wrong_step else 1.0
        spans.append(Span(start, start + len(sentence), "step", 1.0, score))
        start += len(sentence) + 2
    reason = "another total" if status == "wrong" else ""
    verdict = Verdict(status, answer, reason, "story@1")  # type: ignore[arg-type]
    return trace.annotate(
        verdict=verdict, spans=tuple(spans), scores={"steps": float(status == "right")}
    )


def store_call(store: Store, arm: str, role: str, trace: Trace) -> None:
    """The completion that a trace came from."""
    assert trace.author is not None
    request = Request(trace.problem.question, "", SAMPLING, trace.author.sample_index)
    completion = Completion(trace.new, "stop", trace.tokens, "", 0.5, cost=0.001)
    store.completions.put(trace.author.model, role, arm, [(request, completion)])


def make_problems(count: int) -> list[Problem]:
    questions = [
        f"Ann has {n} shells and sells 14. How many are left?" for n in range(19, 19 + count)
    ]
    return [Problem(f"p{n}", text, str(5 + n), kind="story") for n, text in enumerate(questions)]


def fill_orion(
    store: Store, problems: list[Problem], *, finish: bool = True, arm: str = "orion"
) -> Made:
    """An arm in which every problem's error is rewritten, and one rewrite in three is dropped."""
    ledger = store.ledger(arm)
    blanks = [blank(problem) for problem in problems]
    errors, chains, rewrites = [], [], []
    for problem in problems:
        error = judged(
            written(problem, "model-student", f"20 - 14 = 6. {HOSTILE} The answer is 6"),
            "wrong",
            "6",
            wrong_step=1,
        )
        chain = judged(
            written(
                problem,
                "model-teacher",
                f"{14 + int(problem.answer or 0)} - 14 = {problem.answer}. So {problem.answer}",
            ),
            "right",
            problem.answer,
        )
        rewrite = written(
            problem,
            "model-student",
            f"Take 14 away. That leaves {problem.answer}",
            index=1,
            operator="rewrite",
            parents=(chain.id, error.id),
        )
        errors.append(error)
        chains.append(chain)
        rewrites.append(judged(rewrite, "right", problem.answer))
    for role, traces in (("student", errors), ("teacher", chains), ("student", rewrites)):
        for trace in traces:
            store_call(store, arm, role, trace)
    ledger.add_traces([*blanks, *errors, *chains, *rewrites])
    dropped, kept = rewrites[::3], [row for n, row in enumerate(rewrites) if n % 3]
    ledger.add_step("sample", "model-student", len(blanks), len(errors))
    ledger.add_step("keep", "sound", len(rewrites), len(kept))
    ledger.add_drops([Dropped(row, "keep", "sound", f"as {chains[0].id}") for row in dropped])
    if kept:
        ledger.rows(STAGE, kept, label="1")
    if finish:
        ledger.finish()
    return (
        Made(errors[1].id, chains[1].id, rewrites[1].id) if len(problems) > 1 else Made("", "", "")
    )


def make_run(folder: Path, *, problems: int = 6) -> Path:
    """A run of one arm that was killed before its results."""
    manifest.start(folder, {"arms": {"orion": {"method": "orion"}}, "seed": 0})
    with Store.open(folder) as store:
        fill_orion(store, make_problems(problems))
        store.students.put(
            Student(STAGE, "model-trained", folder / "students" / STAGE, {}, {"rows": 4})
        )
    return folder


def open_reader(folder: Path, index_folder: Path) -> RunReader:
    """A reader of a run whose index is whole."""
    [run] = find_runs([folder]).values()
    reader = RunReader(run, index_folder)
    build_index(reader)
    return reader
