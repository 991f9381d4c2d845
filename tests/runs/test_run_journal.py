"""A run has a report after every end: failed, stopped, killed or finished."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import InputError, PotstillError, StageError
from potstill.evaluation.results import Ending, Results
from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.runs import experiment, headline, run_journal
from potstill.runs.experiment import open_run, run_arms
from potstill.runs.folder_layout import RESULTS_FILE
from potstill.runs.recipe import from_data
from potstill.runs.run_journal import RunPace, load_results
from potstill.runs.train import loss_curve
from potstill.store import Store, with_cache

PROBLEMS = [blank(Problem(f"p{n}", f"{n}+{n}?", str(2 * n), "number")) for n in (1, 2, 3)]
RECIPE_DATA: dict[str, Any] = {
    "method": "rft",
    "roles": {"student": "scripted:s", "sampler": "scripted:s"},
    "problems": "python:problems",
    "values": {"n": 1},
}
RECIPE = from_data(RECIPE_DATA)


def run_with(reply: Any, out: Path) -> list[Results]:
    """Run with a model that answers by a function, and return what was published before the error that ends it."""
    published: list[Results] = []
    models = {"student": ScriptedModel({}), "sampler": ScriptedModel(reply)}
    with open_run(RECIPE, out, models=models, problems=list(PROBLEMS), tests=[]) as run:
        try:
            run_arms(run, publish=published.append)
        except (PotstillError, KeyboardInterrupt):
            return published
    raise AssertionError("the run came to its end")


def wrong_answer(request: Any) -> str:
    return "It is \\boxed{100}."


def interrupt(request: Any) -> str:
    raise KeyboardInterrupt


def test_a_failed_run_publishes_its_funnel_and_what_was_dropped(tmp_path: Path):
    first, last = run_with(wrong_answer, tmp_path / "run")
    assert first.ending == Ending("running") and list(first.prompts) == ["{question}"]
    assert last.ending.status == "failed" and "without rows" in last.ending.message
    funnel = last.funnels["rft"]
    assert ("sample", 3, 3) in [(step.operator, step.taken, step.returned) for step in funnel.steps]
    assert {(drop.operator, drop.test) for drop in funnel.drops} == {("keep", "right")}
    assert sum(drop.count for drop in funnel.drops) == 3
    rejected, *_ = [example for example in last.examples if example.passage("rejected")]
    assert rejected.note == "keep right: wrong" and "100" in rejected.passages[0].text
    assert last.costs["rft"]["sampler"].calls == 3


def test_what_was_published_last_can_be_read_again(tmp_path: Path):
    published = run_with(wrong_answer, tmp_path / "run")
    again = load_results(tmp_path / "run")
    assert again.funnels == published[-1].funnels and again.ending == published[-1].ending
    assert not (tmp_path / "run" / RESULTS_FILE).exists()


def test_a_stopped_run_says_so(tmp_path: Path):
    *_, last = run_with(interrupt, tmp_path / "run")
    assert last.ending == Ending("stopped", "It was stopped from outside.")


def test_a_killed_run_is_read_from_its_store(tmp_path: Path):
    def copy_folder(request: Any) -> str:
        # What a kill at this moment would leave; how far the run is may be written while it is copied.
        ignored = shutil.ignore_patterns("*progress.json*")
        shutil.copytree(tmp_path / "run", tmp_path / "killed", dirs_exist_ok=True, ignore=ignored)
        raise KeyboardInterrupt

    run_with(copy_folder, tmp_path / "run")
    killed = load_results(tmp_path / "killed")
    assert killed.ending == Ending("running")
    assert killed.funnels["rft"].steps[0].operator == "problems"


def test_a_measurement_that_was_broken_off_is_in_the_costs(tmp_path: Path):
    def answer_once(request: Request) -> str:
        if "300+300" in str(request.prompt):
            raise KeyboardInterrupt
        return "It is \\boxed{14}."

    held_out = [blank(Problem(f"t{n}", f"{n}+{n}?", str(2 * n), "number")) for n in range(10, 301)]
    recipe = from_data({**RECIPE_DATA, "evaluate": {"problems": "python:tests", "n": 1}})
    published: list[Results] = []
    models = {"student": ScriptedModel(answer_once), "sampler": ScriptedModel(wrong_answer)}
    out = tmp_path / "run"
    with (
        open_run(recipe, out, models=models, problems=list(PROBLEMS), tests=held_out) as run,
        pytest.raises(KeyboardInterrupt),
    ):
        run_arms(run, publish=published.append)
    assert published[-1].costs["untrained"]["student/evaluation"].calls > 0


def test_a_report_that_cannot_be_written_hides_no_error(tmp_path: Path):
    def refuse(results: Results) -> None:
        if results.ending.status == "failed":
            raise OSError("the disk is full")

    models = {"student": ScriptedModel({}), "sampler": ScriptedModel(wrong_answer)}
    with (
        open_run(RECIPE, tmp_path / "run", models=models, problems=PROBLEMS, tests=[]) as run,
        pytest.raises(PotstillError, match="without rows") as caught,
    ):
        run_arms(run, publish=refuse)
    assert "the disk is full" in caught.value.__notes__[0]


def test_refreshing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(run_journal.time, "monotonic", lambda: clock[0])
    published: list[Results] = []
    models = {"student": ScriptedModel({}), "sampler": ScriptedModel(wrong_answer)}
    with open_run(RECIPE, tmp_path / "run", models=models, problems=PROBLEMS, tests=[]) as run:
        described = run_journal.Results("t", 0, recipe={"arms": {}})
        journal = run_journal.RunJournal(
            described=described, store=run.folder.store, path=tmp_path / "run"
        )
        journal.publish = published.append
        with journal.recording_the_end():
            for second in range(100):
                clock[0] = float(second)
                journal.refresh()
    assert 8 <= len(published) <= 11  # at the beginning, then every ten seconds


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no results"):
        load_results(tmp_path)


def test_a_learning_curve_has_few_points_and_forgets_no_step():
    losses = [float(step) for step in range(1, 101)]
    curve = loss_curve(losses, points=4)
    assert curve == [[25, 13.0], [50, 38.0], [75, 63.0], [100, 88.0]]
    assert loss_curve([2.0, 1.0]) == [[1, 2.0], [2, 1.0]]
    assert loss_curve([]) == []


def run_and_listen(out: Path, lines: list[str]) -> None:
    models = {"student": ScriptedModel({}), "sampler": ScriptedModel(wrong_answer)}
    with (
        open_run(RECIPE, out, models=models, problems=list(PROBLEMS), tests=[]) as run,
        pytest.raises(PotstillError),
    ):
        run_arms(run, announce=lines.append)


def test_a_headline_stands_before_the_first_call_and_a_line_after_each_step(tmp_path: Path):
    lines: list[str] = []
    run_and_listen(tmp_path / "run", lines)
    assert lines[0] == "arm rft; 3 problems" and lines[1] == "the learner sees: {question}"
    assert lines[2].startswith("about 4 calls: sampler 3")
    steps = [line.split("  ")[:2] for line in lines[3:]]
    assert ["rft: sample sampler", "3 → 3"] in steps and ["rft: keep right", "3 → 0"] in steps


def test_run_log_holds_every_line_with_its_time_and_how_the_run_ended(tmp_path: Path):
    run_and_listen(tmp_path / "run", [])
    run_and_listen(tmp_path / "run", [])
    log = (tmp_path / "run" / "run.log").read_text()
    assert log.count("arm rft; 3 problems") == 2
    # What changes nothing and takes no time stands here alone.
    assert log.count("rft: verify") == 2 and "rft: sample sampler  3 → 3  kept from before" in log
    assert "failed: rft yielded a stage without rows" in log
    starts = [line for line in log.splitlines() if line.startswith("20")]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \S", line) for line in starts)


def test_the_headline_says_of_which_calls_it_knows_how_long_they_take():
    calls = {"teacher": 1234, "student": 100}
    assert headline.describe_calls(calls, {}).endswith("some have been answered")
    sentence = headline.describe_calls(calls, {"teacher": 0.5, "judge": 9.0})
    assert sentence == (
        "about 1,300 calls: teacher 1,234, student 100; about 10:17 at the rates of earlier calls in this folder, "
        "without those of student, whose rate is not known yet"
    )


def test_a_run_that_cannot_be_rehearsed_says_so(tmp_path: Path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise StageError("no made-up answer will do")

    monkeypatch.setattr(experiment, "expected_calls", refuse)
    lines: list[str] = []
    run_and_listen(tmp_path / "run", lines)
    expected = "how many calls it makes is not known before it runs: no made-up answer will do"
    assert lines[2] == expected


def test_in_a_new_folder_the_time_is_said_once_as_soon_as_answers_tell(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_journal, "MIN_ELAPSED", 0.0)
    monkeypatch.setattr(run_journal, "MIN_CALLS", 1)
    lines: list[str] = []
    run_and_listen(tmp_path / "run", lines)
    said = [line for line in lines if line.endswith("left at the rate of the first answers")]
    assert len(said) == 1 and lines.index(said[0]) == 4


def test_the_rest_of_a_run_is_estimated_by_its_answers(store: Store, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(run_journal.time, "monotonic", lambda: clock[0])
    pace = RunPace(store)
    pace.expected = 300
    clock[0] = 10.0
    assert pace.seconds_left(10.0) is None
    model = with_cache(ScriptedModel(wrong_answer), store, role="teacher", arm="a", seed=0)
    model.write([Request(f"{n}?") for n in range(100)])
    assert pace.seconds_left(10.0) == pytest.approx(20.0)
    assert headline.seconds_by_role(store).keys() == {"teacher"}
