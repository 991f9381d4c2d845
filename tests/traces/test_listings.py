"""The hard methods on the core: they end, re-run for nothing, survive kills and failures, train the right rows."""

from __future__ import annotations

from functools import partial

import listings
import pytest
from fakes import Book, Cached, Fake, Meter, Trainer, sums

from potstill.runs.driver import drive
from potstill.traces import Session, using

ROLES = {
    "explain": ("teacher", "student", "coder"),
    "retro_search": ("teacher", "student", "reviser"),
    "lema": ("teacher", "student"),
    "elad": ("teacher", "student"),
    "orion": ("teacher", "student"),
    "gkd": ("teacher", "student"),
    "redi": ("teacher", "student"),
    "supercorrect": ("teacher", "student"),
    "mentor_kd": ("teacher", "mentor", "student"),
    "tree_cot": ("teacher", "student"),
    "reer": ("teacher", "student"),
}
SKILLS = {"teacher": 0.85, "student": 0.6, "coder": 0.95, "reviser": 0.9, "mentor": 0.7}


class Run:
    """One run of a listing on the fakes, with everything that a store would keep."""

    def __init__(self, name: str, *, failing: float = 0.0, size: int = 12) -> None:
        self.name, self.failing, self.size = name, failing, size
        self.completions: dict = {}
        self.book, self.trainer = Book(), Trainer(failing=failing)
        self.meter = Meter()

    def model(self, inner: Fake) -> Cached:
        return Cached(inner, self.completions, self.meter)

    def go(self, budget: int | None = None):
        self.meter = Meter(budget)
        self.trainer.wrap, self.trainer.stages = self.model, []
        self.trainer.kept = {
            key: self.model(model.inner) for key, model in self.trainer.kept.items()
        }
        roles = {
            role: self.model(Fake(role, SKILLS[role], self.failing)) for role in ROLES[self.name]
        }
        if self.name == "lema":
            roles["readers"] = [self.model(Fake("reader", 0.5, self.failing))]
        self.problems = sums(self.size)
        with using(Session(self.book, self.book, workers=4)):
            return drive(getattr(listings, self.name), self.problems, roles, {}, self.trainer)

    @property
    def outcome(self):
        return [(stage.id, [row.id for row in stage.rows]) for stage in self.trainer.stages]


@pytest.mark.parametrize("name", ROLES)
def test_a_rerun_makes_no_call_and_no_training(name, judge):
    run = Run(name)
    run.go()
    outcome, trained, judged = run.outcome, run.trainer.trained, len(judge.judged)
    assert outcome and all(rows for _, rows in outcome)
    run.go()
    assert run.outcome == outcome
    assert (run.meter.keys, run.trainer.trained, len(judge.judged)) == ([], trained, judged)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROLES)
def test_8_percent_failures_end_cleanly_and_train_no_errored_row(name):
    run = Run(name, failing=0.08, size=60)
    run.go()
    errors = [t for t in run.book.traces.values() if t.error]
    assert errors, "the injection does something"
    assert all(not row.error and row.text for stage in run.trainer.stages for row in stage.rows)
    assert all(
        not row.rejected.error for stage in run.trainer.stages for row in stage.rows if row.rejected
    )
    reasons = {d.reason for d in run.book.drops if d.trace.error}
    assert reasons <= {"error: timed out"}
    errored = {d.trace.id for d in run.book.drops if d.trace.error}
    dropped_by_stages = sum(stage.errored for stage in run.trainer.stages)
    assert errored or dropped_by_stages, "a failure is in the ledger or counted by its stage"


@pytest.mark.parametrize("name", ROLES)
def test_every_parent_resolves(name):
    run = Run(name)
    run.go()
    known = run.book.traces
    evolved = {
        t.parents[0]
        for t in known.values()
        if t.problem.id.startswith("evolved-") and t.operator == "sample"
    }
    for trace in known.values():
        assert set(trace.parents) <= known.keys() | evolved, trace
        assert not trace.root or trace.root in known


@pytest.mark.slow
@pytest.mark.parametrize("name", ROLES)
def test_killed_and_resumed_is_the_same_run(name):
    """At four points each; `test_killed_at_every_point` takes every one for two listings."""
    whole = Run(name, failing=0.08, size=8)
    whole.go()
    calls = len(whole.meter.keys)
    for stop in sorted({1, calls // 3, 2 * calls // 3, calls - 1}):
        killed_then_resumed(name, whole, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "calls"), [("orion", 4, 22), ("retro_search", 12, 28), ("lema", 2, 39)]
)
def test_killed_at_every_point(name, size, calls):
    whole = Run(name, size=size)
    whole.go()
    assert len(whole.meter.keys) == calls
    for stop in range(len(whole.meter.keys)):
        killed_then_resumed(name, whole, stop)


def killed_then_resumed(name: str, whole: Run, stop: int) -> None:
    run = Run(name, failing=whole.failing, size=whole.size)
    with pytest.raises(KeyboardInterrupt):
        run.go(budget=stop)
    first = run.meter.keys
    run.go()
    assert run.outcome == whole.outcome
    assert len(first) == stop and not set(first) & set(run.meter.keys), "nothing is asked twice"
    assert len(first) + len(run.meter.keys) == len(run.completions) == len(whole.completions)
    assert run.trainer.trained == whole.trainer.trained


def test_explain_returns_a_pipeline_of_two_models():
    run = Run("explain")
    solver = run.go()
    assert all(
        row.saw_gold and row.prompt.startswith("Plan this:") for row in run.trainer.stages[0].rows
    )
    assert {row.weight for row in run.trainer.stages[0].rows} != {1.0}
    student = next(iter(run.trainer.kept.values()))
    with using(Session(run.book)):
        programs = solver(run.problems[:2])
    assert len(programs) == 2 * 3 * 2 and not any(t.saw_gold for t in programs)
    assert {t.author.model for t in programs} == {"coder"}
    plans = [run.book.traces[run.book.traces[t.parents[0]].parents[0]] for t in programs]
    assert {t.author.model for t in plans} == {student.id} and len({t.id for t in plans}) == 6
    assert {t.line for t in programs} == {t.id for t in plans}, (
        "the nesting of solve@(M,T) is in the parents"
    )


def test_lema_learns_to_correct_and_starts_from_the_base_again():
    run = Run("lema")
    run.go()
    first, second = run.trainer.stages
    assert first.model.id == second.model.id == "student"
    fixes = [row for row in first.rows if "Correct this:" in row.prompt]
    assert fixes and len(fixes) < len(first.rows)
    for row in fixes:
        mistake = run.book.traces[row.root]
        assert mistake.text in row.prompt and mistake.verdict.status == "wrong"
        assert "Find the first mistake" not in row.prompt, (
            "the writer's instruction is not the learner's"
        )
    assert {row.root for row in fixes} > {""} or all(row.root for row in fixes)
    authors = {run.book.traces[row.root].author.model for row in fixes}
    assert authors == {"student", "reader"}
    assert {row.id for row in first.rows} < {row.id for row in second.rows}
    assert any(row.problem.id.startswith("evolved-") for row in second.rows)


def test_orion_learns_from_the_bare_question_what_errors_shaped():
    run = Run("orion", size=40)
    run.go()
    [stage] = run.trainer.stages
    assert all(
        row.prompt == row.question and row.operator == "rewrite"
        for row in stage.rows
        if row.author.model == "student"
    )
    shaped = [row for row in stage.rows if len(row.parents) > 1]
    assert shaped
    for row in shaped:
        reference, *errors = (run.book.traces[p] for p in row.parents)
        assert reference.author.model == "teacher" and {e.author.model for e in errors} == {
            "student"
        }
        assert not row.saw_gold
    reasons = run.book.reasons
    assert any(reason.startswith("wrong: ") for reason in reasons) and "right" in reasons


def test_elad_continues_from_the_last_student_and_masks_what_was_accepted():
    run = Run("elad", size=60)
    run.go()
    first, second = run.trainer.stages
    assert first.model.id == "student" and second.model.id == run.trainer.kept[first.key({})].id
    continued = [row for row in first.rows if row.prefix_length]
    assert continued and all(
        row.text[: row.prefix_length] == run.book.traces[row.parents[0]].text for row in continued
    )
    assert 10 <= len(first.rows) <= 30, "the budget holds over the whole pool"


def test_retro_search_only_shortens():
    run = Run("retro_search", size=20)
    run.go()
    chains = {
        t.problem.id: t
        for t in run.book.traces.values()
        if t.operator == "sample" and t.author.model == "teacher"
    }
    rows = run.trainer.stages[0].rows
    assert len(rows) > 10 and all(len(r.text) <= len(chains[r.problem.id].text) for r in rows)


def test_gkd_names_its_teacher_and_rollout():
    run = Run("gkd")
    run.go()
    [stage] = run.trainer.stages
    assert (
        stage.constants["teacher"].id == "teacher" and stage.constants["on_policy_fraction"] == 0.5
    )
    assert len(stage.rows) == 12


def test_redi_pairs_right_with_wrong():
    run = Run("redi", size=20)
    run.go()
    _, second = run.trainer.stages
    assert second.rows and {r.verdict.status for r in second.rows} == {"right"}
    assert {r.rejected.verdict.status for r in second.rows} == {"wrong"}
    assert all(r.problem == r.rejected.problem for r in second.rows) and len(
        {r.problem.id for r in second.rows}
    ) == len(second.rows)


def test_supercorrect_pairs_corrections_of_one_line():
    run = Run("supercorrect", size=30)
    solver = run.go()
    first, second = run.trainer.stages
    assert second.model.id == run.trainer.kept[first.key({})].id
    assert second.rows and all(
        r.line == r.rejected.line and r.prompt == r.rejected.prompt for r in second.rows
    )
    assert {r.author.model for r in second.rows} == {"teacher"}
    assert isinstance(solver, partial) and solver.args[0].id == run.trainer.kept[second.key({})].id


def test_mentor_kd_trains_another_model_first():
    run = Run("mentor_kd")
    run.go()
    first, second = run.trainer.stages
    assert (first.model.id, second.model.id) == ("mentor", "student")
    assert second.constants["teacher"] is run.trainer.kept[first.key({})]
    assert {r.author.model for r in second.rows} == {"teacher", run.trainer.kept[first.key({})].id}


def test_tree_rows_are_chains_of_steps():
    run = Run("tree_cot")
    run.go()
    rows, blanks = run.trainer.stages[0].rows, {t.problem.id: t.id for t in run.problems}
    assert len({r.problem.id for r in rows}) > 6
    for row in rows:
        depth, at = 0, row
        while at.parents:
            at, depth = run.book.traces[at.parents[0]], depth + 1
        assert depth == 3 and at.id == blanks[row.problem.id]


def test_reer_never_makes_the_answer_less_likely():
    run = Run("reer")
    run.go()
    rows = run.trainer.stages[0].rows
    assert all(isinstance(row.scores["ppl"], float) and row.saw_gold for row in rows)
    assert "not among the best 1" in run.book.reasons
