"""A large run folder that no model wrote, for `benchmarks/view.py` and the viewer's browser tests.

python benchmarks/large_run.py /tmp/large --traces 100000 --calls 1000000

Five ledgers share the traces. `sft` has the teacher's chains, `rft` the student's answers, `orion` and `orion-none` the
student's errors, the teacher's chains and rewrites of both, `orion evaluated` a trained student's answers to other
problems. What calls are left are a judge's, which are short. A million calls follow one another over 30 hours.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.evaluation.compare import compare
from potstill.evaluation.results import Results, save
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Author, Problem, Span, Tokens, Trace, Verdict, blank, digest
from potstill.runs import manifest
from potstill.runs.folder_layout import UNTRAINED, evaluation_ledger
from potstill.runs.results import collect_costs, collect_funnel
from potstill.store import Store
from potstill.store.ledger import Ledger
from potstill.store.students import Student

SAMPLING = Sampling(temperature=0.6)
ARMS = ("sft", "rft", "orion", "orion-none")
MEASURED_ARM = "orion"  # whose answers to the test problems are stored
DRAWS = 8  # traces of each problem in each ledger
STUDENT, TEACHER, JUDGE = "model-student", "model-teacher", "model-judge"
ROLES = {STUDENT: "student", TEACHER: "teacher"}
# Whose each draw of a problem is; what is missing at the end are rewrites.
MODELS = {"sft": (TEACHER,) * DRAWS, "rft": (STUDENT,) * DRAWS}
MODELS_OF_REWRITING = (STUDENT,) * 4 + (TEACHER,) * 2
LONG_TEXT = 160_000  # characters of the one long text: about 32,000 words
STORED_STEPS = 12  # judged steps of a usual text
TRAINED_ROWS = 2000  # of each arm
SECONDS_PER_CALL = 0.108  # from one call to the next
PROBLEMS_PER_BATCH = 250
JUDGE_CALLS_PER_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the run is.

    Args:
        traces: that models wrote; each problem is a bare trace more in each ledger.
        calls: completions, those of the traces included.
        length: characters of a usual text.
    """

    traces: int = 10_000
    calls: int = 20_000
    length: int = 2200


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dropped trace with the reason."""

    trace: Trace
    operator: str
    test: str
    reason: str


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    add_size_arguments(parser)
    args = parser.parse_args()
    make_run(args.folder, Sizes(args.traces, args.calls, args.length))


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for `Sizes`."""
    defaults = Sizes()
    parser.add_argument("--traces", type=int, default=defaults.traces)
    parser.add_argument("--calls", type=int, default=defaults.calls)
    parser.add_argument("--length", type=int, default=defaults.length, help="characters of a text")


def make_run(folder: Path, sizes: Sizes) -> None:
    """Write manifest, store and results."""
    rng = random.Random(0)
    recipe = {"arms": {arm: {"method": arm.partition("-")[0]} for arm in ARMS}, "seed": 0}
    manifest.start(folder, recipe)
    problem_count = max(1, sizes.traces // (DRAWS * (len(ARMS) + 1)))
    train, test = make_problems("train", problem_count), make_problems("test", problem_count)
    with Store.open(folder) as store:
        for arm in ARMS:
            fill_arm(store, arm, train, sizes.length, rng)
        fill_evaluation(store, test, sizes.length, rng)
        fill_judge_calls(store, sizes.calls - (len(ARMS) + 1) * problem_count * DRAWS, rng)
        spread_over_time(store)
        results = make_results(store, test, recipe, rng)
    save(results, folder / "results.json")


def make_problems(split: str, count: int) -> list[Problem]:
    """Stories of one sum."""
    problems = []
    for n in range(count):
        question = f"Problem {n}: Ann has {n} shells and buys {n % 97} more, then sells half. How many are left?"
        problem_id = f"{split}-{n}"
        problems.append(Problem(problem_id, question, str(n), kind="story", source=split))
    return problems


def fill_arm(
    store: Store, arm: str, problems: Sequence[Problem], length: int, rng: random.Random
) -> None:
    """All traces of an arm with their calls, verdicts, steps, scores, drops and rows."""
    ledger = store.ledger(arm)
    rows: list[Trace] = []
    for start in range(0, len(problems), PROBLEMS_PER_BATCH):
        batch = problems[start : start + PROBLEMS_PER_BATCH]
        traces: list[Trace] = []
        for problem in batch:
            traces += write_traces(arm, problem, length, rng)
        store_calls(store, arm, traces)
        ledger.add_traces([*(blank(problem) for problem in batch), *traces])
        rows += drop_wrong(ledger, traces)
    stage = f"student-{arm}"
    ledger.add_step("sample", STUDENT, len(problems), len(problems) * DRAWS)
    ledger.add_step("keep", "sound", len(problems) * DRAWS, len(rows))
    ledger.rows(stage, rows[:TRAINED_ROWS], label="1")
    ledger.finish()
    student_folder = store.folder / "students" / stage
    report = {"rows": len(rows[:TRAINED_ROWS])}
    store.students.put(Student(stage, f"model-{arm}", student_folder, {}, report))


def write_traces(arm: str, problem: Problem, length: int, rng: random.Random) -> list[Trace]:
    """What an arm wrote about a problem: draws, and rewrites of the first and the last of them."""
    # Sample indices differ between arms, so that each text has a call of its own.
    first_index = ARMS.index(arm) * DRAWS
    traces = []
    for index, model in enumerate(MODELS.get(arm, MODELS_OF_REWRITING), first_index):
        is_long = (problem.id, index) == ("train-0", 0)
        size = LONG_TEXT if is_long else length
        draft = write_trace(problem, model, index, size, rng)
        traces.append(judge_trace(draft, rng, max_steps=size if is_long else STORED_STEPS))
    parents = (traces[-1].id, traces[0].id)
    for index in range(first_index + len(traces), first_index + DRAWS):
        rewrite = write_trace(problem, STUDENT, index, length, rng, parents=parents)
        traces.append(judge_trace(rewrite, rng))
    return traces


def write_trace(
    problem: Problem,
    model: str,
    index: int,
    length: int,
    rng: random.Random,
    *,
    parents: tuple[str, ...] = (),
) -> Trace:
    """A text of sentences with sums; with parents it is a rewrite of them, else an answer to the question."""
    sentences, characters = [], 0
    while characters < length:
        a, b = rng.randrange(100), rng.randrange(100)
        sentences.append(f"Then she takes {a} and adds {b}, which makes {a} + {b} = {a + b}.")
        characters += len(sentences[-1]) + 1
    text = " ".join([*sentences, f"The answer is {rng.randrange(200)}"])
    author = Author(model, digest("prompt", prompt_of(problem, parents)), SAMPLING.changed(), index)
    return Trace(
        problem,
        problem.question,
        text=text,
        author=author,
        finish_reason="stop",
        operator="rewrite" if parents else "sample",
        parents=parents or (blank(problem).id,),
        tokens=Tokens(40, len(text) // 4),
    )


def prompt_of(problem: Problem, parents: Sequence[str]) -> str:
    """What the writer is asked: the question, or to rewrite texts, which are named for short."""
    if not parents:
        return problem.question
    return f"{problem.question}\nRewrite {' and '.join(parents)}."


def judge_trace(trace: Trace, rng: random.Random, max_steps: int = STORED_STEPS) -> Trace:
    """The trace with a verdict, a judged step for each of its first sentences, and scores."""
    spans, start = [], 0
    for sentence in trace.text.split(". ")[:max_steps]:
        score = float(rng.random() > 0.1)
        spans.append(Span(start, start + len(sentence), "step", 1.0, score))
        start += len(sentence) + 2
    status = rng.choice(["right", "wrong", "wrong", "unparsed"])
    return trace.annotate(
        verdict=Verdict(status, str(rng.randrange(200)), "", "story@1"),
        spans=tuple(spans),
        scores={"steps": rng.random(), "run_teacher": rng.random()},
    )


def store_calls(store: Store, ledger: str, traces: Sequence[Trace]) -> None:
    """The call that each trace came from."""
    answered_by_model: dict[str, list[tuple[Request, Completion]]] = {}
    for trace in traces:
        assert trace.author is not None
        parents = trace.parents if trace.operator == "rewrite" else ()
        prompt = prompt_of(trace.problem, parents)
        request = Request(prompt, "", SAMPLING, trace.author.sample_index)
        completion = Completion(trace.text, "stop", trace.tokens, seconds=0.5, cost=0.0001)
        answered_by_model.setdefault(trace.author.model, []).append((request, completion))
    for model, answered in answered_by_model.items():
        store.completions.put(model, ROLES.get(model, "student"), ledger, answered)


def drop_wrong(ledger: Ledger, traces: Sequence[Trace]) -> list[Trace]:
    """Drop what is not right, and return the rest."""
    sound = [trace for trace in traces if trace.verdict.status == "right"]
    dropped = []
    for trace in traces:
        if trace.verdict.status != "right":
            reason = f"{trace.verdict.status}: another total"
            dropped.append(Dropped(trace, "keep", "sound", reason))
    ledger.add_drops(dropped)
    return sound


def fill_evaluation(
    store: Store, problems: Sequence[Problem], length: int, rng: random.Random
) -> None:
    """A trained student's answers to the test problems."""
    name = evaluation_ledger(MEASURED_ARM)
    ledger = store.ledger(name)
    for start in range(0, len(problems), PROBLEMS_PER_BATCH):
        traces = []
        for problem in problems[start : start + PROBLEMS_PER_BATCH]:
            for index in range(DRAWS):
                draft = write_trace(problem, f"model-{MEASURED_ARM}", index, length, rng)
                traces.append(judge_trace(draft, rng))
        store_calls(store, name, traces)
        ledger.add_traces(traces)
    ledger.finish()


def fill_judge_calls(store: Store, count: int, rng: random.Random) -> None:
    """Calls of which no trace came."""
    for start in range(0, count, JUDGE_CALLS_PER_BATCH):
        answered = []
        for n in range(start, min(count, start + JUDGE_CALLS_PER_BATCH)):
            request = Request(f"Is step {n} right?", "", SAMPLING)
            completion = Completion(
                "Yes.", "stop", Tokens(9, 2), seconds=rng.random(), cost=0.00001
            )
            answered.append((request, completion))
        arm = ARMS[start // JUDGE_CALLS_PER_BATCH % len(ARMS)]
        store.completions.put(JUDGE, "judge", arm, answered)


def spread_over_time(store: Store) -> None:
    """Let calls follow one another as in a run that takes its time."""
    with store.database.transaction() as connection:
        connection.execute(
            "UPDATE completions SET created = created + rowid * ?", (SECONDS_PER_CALL,)
        )


def make_results(
    store: Store, problems: Sequence[Problem], recipe: dict[str, object], rng: random.Random
) -> Results:
    """Results of every arm on these problems, four answers each, and what the store says of how rows were made."""
    task = {"problems": "problems-0", "n": "4"}
    evaluations = {}
    for arm in (UNTRAINED, *ARMS):
        rows = []
        for problem in problems:
            answers = tuple(Answer(rng.choice(["right", "wrong"]), "1", None, 40) for _ in range(4))
            rows.append(Row(problem.id, answers))
        evaluations[arm] = Evaluation(arm, tuple(rows), Fingerprint(task, {"models": arm}))
    return Results(
        "large",
        0,
        evaluations=evaluations,
        recipe=recipe,
        funnels={arm: collect_funnel(store, arm, {}) for arm in ARMS},
        costs={arm: collect_costs(store, arm) for arm in ARMS},
        comparisons=tuple(compare(evaluations[arm], evaluations[UNTRAINED]) for arm in ARMS),
    )


if __name__ == "__main__":
    main()
