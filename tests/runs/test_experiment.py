"""A whole run: a scripted teacher, a tiny real student, the world's stories; again, interrupted, and with mistakes."""

from __future__ import annotations

import json
import math
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.errors import InputError, StageError, StoreError
from potstill.evaluation.results import load, outcome
from potstill.models.local.transformers import TransformersModel
from potstill.models.scripted import ScriptedModel
from potstill.records import Trace
from potstill.report.page import render_page
from potstill.runs import experiment
from potstill.runs.examples import example_rows, further_row_problems
from potstill.runs.experiment import UNTRAINED, execute
from potstill.runs.folder_layout import examples_ledger
from potstill.runs.manifest import is_finished
from potstill.runs.recipe import Recipe, from_data
from potstill.store.store import Store
from potstill.training.trainer import StudentTrainer
from potstill.world import story
from potstill.world.scripted import student_reply

SIZE = 8
TRAIN = f"world:story-easy?size={SIZE}&seed=3"
TEST = "world:story-easy?size=3&seed=3&split=test"
PROBLEMS = story.problems("story-easy", size=SIZE, seed=3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Right on all problems but one; an answer to a problem it has no rule for would be an error."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.json"
    wrong = {PROBLEMS[1].question: "The answer is \\boxed{999}."}
    path.write_text(json.dumps({p.question: p.solution for p in PROBLEMS} | wrong))
    return path


@pytest.fixture(scope="module", autouse=True)
def pupil(tiny_checkpoint):
    """`pupil:` is a student that errs and rewrites as a script says, with the weights of a tiny checkpoint to train."""
    real = experiment.load_model
    made = ScriptedModel(student_reply, weights=tiny_checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiment,
            "load_model",
            lambda spec, **more: made if spec == "pupil:" else real(spec, **more),
        )
        yield made


def recipe(teacher: Path, *sets: str, **parts: Any) -> Recipe:
    settings = {"min_new_tokens": 1, "max_new_tokens": 64, "resamples": 1, "on_fail": "teacher"}
    orion = {"n": 2, "settings": settings}
    data = {
        "arms": {
            "sft": None,
            "orion": {"values": orion},
            "rft": {"values": {"n": 2}},
        },
        "roles": {
            "teacher": f"scripted:{teacher}",
            "student": "pupil:",
            "sampler": f"scripted:{teacher}",
        },
        "problems": TRAIN,
        "evaluate": {"problems": TEST, "n": 2, "sampling": {"max_new_tokens": 4}},
        "training": {"max_steps": 2, "batch_size": 4, "lr": 1e-3},
        "overlap_n": 0,
    }
    return from_data({**data, **parts}, sets)


def small(teacher: Path, *sets: str, **parts: Any) -> Recipe:
    return recipe(teacher, *sets, **{"arms": {"sft": None}, **parts})


@pytest.fixture(scope="module")
def whole(tmp_path_factory, teacher, tiny_checkpoint):
    """One undisturbed run of three arms: its recipe, folder and results."""
    out = tmp_path_factory.mktemp("whole") / "run"
    made = recipe(teacher)
    return made, out, execute(made, out, threads=1)


@pytest.fixture
def nobody_works(monkeypatch):
    """Any call of a model and any training is an error."""

    def refuse(*_: Any, **__: Any):
        raise AssertionError("a finished run asked or trained")

    for owner, name in (
        (ScriptedModel, "write"),
        (TransformersModel, "_complete_batch"),
        (StudentTrainer, "train"),
    ):
        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.slow
def test_the_learners_prompt_is_in_the_results_and_with_the_student(whole):
    _, out, results = whole
    assert list(results.prompts) == ["{question}"]
    for report in out.glob("students/*/fit.json"):
        assert json.loads(report.read_text())["prompts"] == ["{question}"]


def test_a_run_leaves_results_rows_students_and_a_completion_mark(whole):
    made, out, results = whole
    assert is_finished(out)
    assert outcome(load(out / "results.json")) == outcome(results)
    assert list(results.evaluations) == [UNTRAINED, "sft", "orion", "rft"]
    assert [
        (e.name, len(e.rows), {len(r.answers) for r in e.rows})
        for e in results.evaluations.values()
    ] == [(name, 3, {2}) for name in (UNTRAINED, "sft", "orion", "rft")]
    assert results.recipe == json.loads(json.dumps(made.to_json()))
    assert "no evidence" in results.note
    assert {r["rows"] for r in results.training.values()} == {SIZE - 1}
    assert {r["steps"] for r in results.training.values()} == {2}


def test_the_rows_file_is_what_was_trained_on(whole):
    _, out, _ = whole
    for arm in ("sft", "orion", "rft"):
        lines = [
            json.loads(line) for line in (out / "rows" / f"{arm}.jsonl").read_text().splitlines()
        ]
        assert {line["problem_id"] for line in lines} == {p.id for p in PROBLEMS} - {PROBLEMS[1].id}
        by_id = {p.id: p for p in PROBLEMS}
        for line in lines:
            problem = by_id[line["problem_id"]]
            assert (line["prompt"], line["gold"], line["saw_gold"]) == (
                problem.question,
                problem.answer,
                False,
            )
            assert line["operator"] == "rewrite" or line["completion"] == problem.solution
            assert ("run_teacher" in line["scores"]) == (arm == "orion")
        operators = {line["operator"] for line in lines}
        if arm == "orion":  # a chain whose rewrites all fail stays as the teacher wrote it
            assert "rewrite" in operators and operators <= {"rewrite", "sample"}
        else:
            assert operators == {"sample"}
        parents = {len(line["parents"]) for line in lines}
        # The reference, and up to two errors beside it.
        assert max(parents) > 1 and parents <= {1, 2, 3} if arm == "orion" else parents == {1}
        with Store.open(out, readonly=True) as store:
            [(stage, ids)] = store.history.row_ids(arm).items()
            assert ids == [line["id"] for line in lines]
            assert store.history.missing_parents() == []
            assert (out / "students" / stage / "model.safetensors").is_file()
            assert store.students.get(stage).report["rows"] == len(ids)


def test_the_funnel_counts_from_problems_to_rows(whole):
    _, _, results = whole
    steps = [(s.operator, s.label, s.taken, s.returned) for s in results.funnels["sft"].steps]
    assert steps[0] == ("problems", TRAIN, SIZE, SIZE)
    assert steps[1] == ("decontaminate", "n=0", SIZE, SIZE)
    assert [s[0] for s in steps[2:]] == ["sample", "verify", "keep", "train"]
    assert steps[-2:] == [
        ("keep", "sound", SIZE, SIZE - 1),
        ("train", "rows", SIZE - 1, SIZE - 1),
    ]
    [drop] = results.funnels["sft"].drops
    assert (drop.operator, drop.test, drop.reason, drop.count) == (
        "keep",
        "sound",
        "wrong: another total",
        1,
    )
    assert "sound" in {drop.test for drop in results.funnels["orion"].drops}


def test_notes_say_for_how_many_problems_there_are_rows_by_how_hard_they_are(whole):
    _, out, results = whole
    with Store.open(out, readonly=True) as store:
        attempts = [
            t
            for t in store.history.traces("orion", "sample")
            if ("top_p", 0.9) in t.author.settings
        ]
    right = {
        p.id: sum(t.verdict.status == "right" for t in attempts if t.problem.id == p.id)
        for p in PROBLEMS
    }
    assert len(attempts) == 2 * SIZE and len(set(right.values())) > 1
    said = []
    for times, often in enumerate(("never", "sometimes", "always")):
        those = {key for key, n in right.items() if n == times}
        said.append(f"{len(those - {PROBLEMS[1].id})} of {len(those)} it {often} solved")
    what = "rows by how often the student solved the problem in its own attempts"
    assert results.notes == [f"orion: {what}: {', '.join(said)}."]


def test_what_a_method_reports_is_in_the_results_and_on_the_page(whole):
    _, out, results = whole
    assert results.sections["sft"] == results.sections["rft"] == []
    [section] = results.sections["orion"]
    assert {share.label for share in section.shares} <= {
        "shown wrong attempts",
        "shown no attempts",
    }
    assert sum(share.whole for share in section.shares) == SIZE - 1  # a first rewrite a reference
    stored = load(out / "results.json").sections
    assert stored == {"orion": [section]}
    assert section.title in render_page(results)


@pytest.mark.slow
def test_one_arm_is_compared_with_all_others_where_the_recipe_says_so(whole, teacher):
    made, out, results = whole
    pairs = [(c.arm, c.base) for c in results.comparisons]
    assert pairs == [(arm, UNTRAINED) for arm in ("sft", "orion", "rft")]
    compared = execute(
        recipe(teacher, "compare=orion"), out, threads=1
    )  # the folder is the same run's
    more = [(c.arm, c.base) for c in compared.comparisons][len(pairs) :]
    assert more == [("orion", "sft"), ("orion", "rft")]
    assert outcome(execute(made, out, threads=1)) == outcome(results)


def test_lengths_are_split_by_right_and_wrong(whole):
    _, _, results = whole
    for arm, evaluation in results.evaluations.items():
        counted = {
            what: item.count
            for what, item in results.lengths[arm].items()
            if what.endswith("answers")
        }
        statuses = evaluation.statuses()
        right, wrong = statuses.get("right", 0), statuses.get("wrong", 0)
        assert counted == {"answers": 6, "right answers": right, "wrong answers": wrong}


def test_rows_carry_their_perplexity_under_the_untrained_student(whole, pupil):
    _, out, results = whole
    lines = [json.loads(line) for line in (out / "rows" / "sft.jsonl").read_text().splitlines()]
    for line in lines:
        [logs] = pupil.likelihood([(line["prompt"], line["completion"])])
        assert line["scores"]["perplexity"] == pytest.approx(math.exp(-sum(logs) / len(logs)))
    told = results.lengths["sft"]["rows before training"]
    assert (told.count, told.unit) == (SIZE - 1, "perplexity")
    assert told.mean == pytest.approx(
        sum(line["scores"]["perplexity"] for line in lines) / len(lines)
    )


def test_costs_are_counted_by_role_and_arm(whole):
    _, _, results = whole
    assert results.costs["sft"]["teacher"].calls == SIZE
    assert results.costs["orion"]["teacher"].calls == SIZE
    asked = results.costs["orion"]["student"].calls - 2 * SIZE  # rewrites: one or two a reference
    assert SIZE - 1 < asked < 2 * (SIZE - 1)
    assert results.costs["rft"]["sampler"].calls == 2 * SIZE
    assert results.costs[UNTRAINED]["student/evaluation"].calls == 6
    assert set(results.costs) == {UNTRAINED, "sft", "orion", "rft"}


def test_arms_with_the_same_rows_are_the_same_student_trained_once(whole):
    _, out, results = whole
    students = {arm: r["student"] for arm, r in results.training.items()}
    assert students["sft"] == students["rft"] != students["orion"]
    assert len(list((out / "students").iterdir())) == 2
    assert {arm: r["arm"] for arm, r in results.training.items()} == {arm: arm for arm in students}


def test_examples_name_who_wrote_each_text(whole):
    _, _, results = whole
    training = [example for example in results.examples if example.passage("row")]
    parts_by_arm = {}
    for example in training:
        for passage in example.passages:
            parts_by_arm.setdefault(example.arm, set()).add((passage.part, passage.author))
    answer = ("answer", "trained student")
    assert parts_by_arm["sft"] == {("row", "teacher"), answer}
    # RFT's rows are samples: no teacher wrote any of them.
    assert parts_by_arm["rft"] == {("row", "sampler"), answer}
    assert {("attempt", "student"), ("source", "teacher"), ("row", "student")} <= parts_by_arm[
        "orion"
    ]


@pytest.mark.slow
def test_a_finished_run_answers_more_of_its_rows_problems(whole, teacher, tmp_path):
    _, out, results = whole
    folder = shutil.copytree(out, tmp_path / "run")
    # Seven rows, of which the report shows six: one is left, however many are asked for.
    more = recipe(teacher, "evaluate.rows=5")
    assert more.to_json() == recipe(teacher).to_json()
    assert execute(more, folder, threads=1).evaluations == results.evaluations
    with Store.open(folder, readonly=True) as store:
        for arm in ("sft", "orion", "rft"):
            answers = list(store.history.traces(examples_ledger(arm), "sample"))
            assert len({answer.problem.id for answer in answers}) == SIZE - 1
            assert all(answer.verdict.status for answer in answers)


def test_further_rows_are_of_problems_that_the_report_does_not_show():
    rows = []
    for number, problem in enumerate([*PROBLEMS, *PROBLEMS]):
        rows.append(Trace(problem, problem.question, text=f"text {number}", operator="sample"))
    shown = {row.problem.id for row in example_rows(rows)}
    further = further_row_problems(rows, 100)
    assert set(further) == {problem.id for problem in PROBLEMS} - shown
    assert len(set(further)) == len(further) and further_row_problems(rows, 1) == further[:1]


def test_held_out_examples_stand_beside_the_untrained_students_answers(whole):
    _, _, results = whole
    questions = {example.question for example in results.examples if not example.held_out}
    held_out = [example for example in results.examples if example.held_out]
    assert {example.arm for example in held_out} <= {"sft", "orion", "rft"} and held_out
    for example in held_out:
        assert example.question not in questions
        assert [passage.part for passage in example.passages] == ["before", "answer"]
        assert example.note.endswith("of 2 answers are right")


def test_the_same_call_again_asks_nobody_trains_nothing_and_says_the_same(whole, nobody_works):
    made, out, results = whole
    before = (out / "results.json").read_bytes()
    again = execute(made, out, threads=1)
    assert outcome(again) == outcome(results)
    assert (
        json.loads((out / "results.json").read_bytes())["funnels"] == json.loads(before)["funnels"]
    )
    assert is_finished(out)


@pytest.mark.slow
def test_another_folder_gives_the_same_outcome(whole, tmp_path):
    made, _, results = whole
    assert outcome(execute(made, tmp_path / "other", threads=1)) == outcome(results)


@pytest.mark.parametrize(
    "change", ["training.learning_rate=2e-3", "seed=1", "values.n=2", "evaluate.n=1", "limit=4"]
)
def test_a_changed_recipe_on_the_same_folder_is_refused_and_the_run_stays(
    whole, teacher, tiny_checkpoint, change
):
    _, out, _ = whole
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    with pytest.raises(StoreError, match="other settings"):
        execute(recipe(teacher, change), out, threads=1)
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == before
    assert is_finished(out)


def test_other_threads_are_another_run(whole):
    made, out, _ = whole
    with pytest.raises(StoreError, match="threads: 1 found, 2 asked"):
        execute(made, out, threads=2)


class Stopper:
    """Progress that presses Ctrl-C at its n-th call, and counts the calls."""

    def __init__(self, at: int) -> None:
        self.at, self.labels = at, []

    def __call__(self, label: str, done: int, total: int) -> None:
        self.labels.append(label)
        if len(self.labels) == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, teacher, tiny_checkpoint):
    """A run of two arms, and how often it reports progress."""
    made = recipe(
        teacher, arms={"sft": None, "rft": {"values": {"n": 2}, "training": {"epochs": 2}}}
    )
    watch = Stopper(0)
    return (
        made,
        outcome(execute(made, tmp_path_factory.mktemp("undisturbed"), threads=1, progress=watch)),
        watch.labels,
    )


@pytest.mark.parametrize(
    "share", [0.45, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.05, 0.7, 0.95))]
)
@pytest.mark.slow
def test_stopped_anywhere_and_taken_up_again_it_ends_the_same(undisturbed, tmp_path, share):
    made, expected, labels = undisturbed
    with pytest.raises(KeyboardInterrupt):
        execute(made, tmp_path, threads=1, progress=Stopper(max(1, int(len(labels) * share))))
    assert not is_finished(tmp_path)
    assert outcome(execute(made, tmp_path, threads=1)) == expected
    assert is_finished(tmp_path)


@pytest.mark.slow
def test_stopped_at_every_report_in_turn_it_ends_the_same(undisturbed, tmp_path):
    made, expected, labels = undisturbed
    for at in count(1):
        try:
            found = execute(made, tmp_path, threads=1, progress=Stopper(at))
        except KeyboardInterrupt:
            assert at <= len(labels)
        else:
            assert outcome(found) == expected
            return


@pytest.mark.slow
def test_training_problems_that_are_evaluated_on_stop_the_run_or_are_dropped(
    teacher, tiny_checkpoint, tmp_path
):
    leaked = {
        "problems": TRAIN.replace(f"size={SIZE}", "size=2"),
        "n": 1,
        "sampling": {"max_new_tokens": 4},
    }
    asked: list[str] = []
    with pytest.raises(
        StageError, match="2 training problems overlap the evaluation set"
    ) as caught:
        execute(
            small(teacher, evaluate=leaked),
            tmp_path / "stop",
            threads=1,
            progress=lambda label, done, total: asked.append(label),
        )
    assert not [label for label in asked if "evaluation" in label], "nothing was measured before"
    assert "--overlap drop" in caught.value.fix
    assert not is_finished(tmp_path / "stop")
    results = execute(small(teacher, "overlap=drop", evaluate=leaked), tmp_path / "drop", threads=1)
    assert results.training["sft"]["rows"] == SIZE - 2
    assert [d.count for d in results.funnels["sft"].drops if d.operator == "decontaminate"] == [
        1,
        1,
    ]
    everything = {**leaked, "problems": TRAIN}
    with pytest.raises(InputError, match="every training problem is an evaluation problem"):
        execute(small(teacher, "overlap=drop", evaluate=everything), tmp_path / "all", threads=1)


def test_a_student_without_weights_and_a_stage_without_rows_are_explained(
    teacher, tiny_checkpoint, tmp_path
):
    roles = {"teacher": f"scripted:{teacher}", "student": f"scripted:{teacher}"}
    with pytest.raises(StageError, match="has no weights to train"):
        execute(small(teacher, roles=roles, evaluate={}), tmp_path / "a", threads=1)
    mute = tmp_path / "mute.json"
    mute.write_text(json.dumps(["I do not know."]))
    roles = {"teacher": f"scripted:{mute}", "student": f"transformers:{tiny_checkpoint}"}
    with pytest.raises(StageError, match=r"sft: none of 8 answers is in a form that can be read"):
        execute(small(teacher, roles=roles, evaluate={}), tmp_path / "b", threads=1)
    assert not is_finished(tmp_path / "b")


@pytest.mark.slow
def test_without_evaluation_problems_only_the_arm_is_trained(teacher, tiny_checkpoint, tmp_path):
    results = execute(small(teacher, evaluate={}), tmp_path, threads=1)
    assert results.evaluations == {} and not results.comparisons
    assert results.training["sft"]["rows"] == SIZE - 1
    assert [s.operator for s in results.funnels["sft"].steps][:2] == ["problems", "sample"]


@pytest.mark.slow
def test_a_failed_generation_is_final_until_it_is_asked_for_again(
    teacher, tiny_checkpoint, tmp_path
):
    answers = json.loads(teacher.read_text())
    flaky = tmp_path / "flaky.json"
    flaky.write_text(
        json.dumps({"rules": [{"prompt": q, "answer": a} for q, a in answers.items()], "fail": 0.5})
    )
    roles = {"teacher": f"scripted:{flaky}", "student": f"transformers:{tiny_checkpoint}"}
    made = small(teacher, roles=roles, evaluate={})
    results = execute(made, tmp_path / "run", threads=1)
    errors = results.costs["sft"]["teacher"].errors
    assert 0 < errors < SIZE and results.training["sft"]["rows"] < SIZE - 1
    assert {d.reason for d in results.funnels["sft"].drops} >= {"error: scripted failure"}
    assert outcome(execute(made, tmp_path / "run", threads=1)) == outcome(results)
    asked = []
    real = ScriptedModel.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ScriptedModel,
            "write",
            lambda self, requests: asked.extend(requests) or real(self, requests),
        )
        execute(made, tmp_path / "run", threads=1, retry_errors=True)
    assert len(asked) == errors
