"""Problems, Compare, Training, Money, Journal, Files, export and the live stream, on the level of the API."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest
from demo_results import arm, evaluation, results
from viewed_run import (
    STAGE,
    Dropped,
    fill_orion,
    judged,
    make_problems,
    make_run,
    open_reader,
    written,
)

from potstill.budget.amounts import Intent, Limit
from potstill.errors import ConfigError, InputError
from potstill.evaluation.compare import compare
from potstill.evaluation.results import save
from potstill.records import Verdict
from potstill.runs import manifest
from potstill.runs.budget_file import write_limits
from potstill.runs.open_folder import open_folder
from potstill.store import Store
from potstill.store.admin.maintain import store_stats
from potstill.traces.verification import verdict_key
from potstill.training.rollout_log import KeptRollout, RolloutLog
from potstill.viewer.answers import Answers, Parameters
from potstill.viewer.live import LiveStream, RunWatch
from potstill.viewer.reader import RunReader
from potstill.viewer.run_catalogue import RunCatalogue
from potstill.viewer.run_folders import RunFolder, find_meant_runs, find_runs
from potstill.viewer.trace_page import find_verdict_time


def ask(reader: RunReader, path: str, **parameters: str) -> dict:
    answers = Answers({reader.run.name: reader})
    values = {name: [value] for name, value in parameters.items()}
    return answers.answer(path.format(R=reader.run.name).split("/"), Parameters(values))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    """A folder of results alone, of four arms."""
    folder = tmp_path_factory.mktemp("measured")
    save(results(), folder / "results.json")
    return RunReader(RunFolder("measured", folder, "measured"), folder / "index")


def test_the_matrix_of_training_problems_counts_what_each_role_answered(reader: RunReader):
    matrix = ask(reader, "run/{R}/problems", set="train", sort="spread", order="desc")
    assert [column["column"] for column in matrix["columns"]] == [
        "orion: student",
        "orion: teacher",
    ]
    assert matrix["rows"][0]["cells"]["orion: student"] == {
        "right": 0,
        "n": 1,
        "unparsed": 0,
        "errors": 0,
        "cut": 0,
    }
    assert {row["spread"] for row in matrix["rows"]} == {1.0}
    [facet] = [facet for facet in matrix["facets"] if facet["name"] == "teacher"]
    assert facet["values"][0]["count"] == matrix["count"] == 6
    first = ask(reader, "run/{R}/problems", set="train", limit="4")
    rest = ask(reader, "run/{R}/problems", set="train", limit="4", after=first["next"])
    assert (len(first["rows"]), len(rest["rows"]), rest["next"]) == (4, 2, None)


def test_a_problem_shows_every_draw_with_equal_answers_together(reader: RunReader):
    page = ask(reader, "run/{R}/problem/p1")
    columns = {column["label"]: column for column in page["columns"]}
    assert columns["orion: student, sample"]["answers"][0]["traces"][0]["first_wrong"] == 2
    assert (page["previous"], page["following"], len(page["rows"])) == ("p0", "p2", 1)


@pytest.mark.slow
def test_numbers_of_the_overview_are_those_of_the_results(measured: RunReader):
    overview = ask(measured, "run/{R}", base="sft")
    demo = results()
    for line in overview["arms"]:
        if line["arm"] in ("untrained", "rft"):
            comparison = compare(demo.evaluations[line["arm"]], demo.evaluations["sft"])
            assert line["difference"]["difference"] == comparison.difference.value
            assert line["difference"]["sentence"] == comparison.sentence
    assert overview["standings"][0].startswith("Highest avg@4: orion")


@pytest.mark.slow
def test_problems_are_found_by_the_arm_that_lost_them(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    names = {"untrained": ("rrrr", "rrww", "wwww"), "a": ("rwww", "rrww", "rrrr")}
    evaluations = {name: evaluation(name, *draws) for name, draws in names.items()}
    demo = dataclasses.replace(results(), evaluations=evaluations, comparisons=())
    save(demo, folder / "results.json")
    reader = open_reader(folder, tmp_path / "index")
    facets = {facet["name"]: facet for facet in ask(reader, "run/{R}/problems")["facets"]}
    assert facets["lost"]["label"] == "lost against untrained, by"
    for way, problem in (("lost", "p0"), ("gained", "p2")):
        assert [value["value"] for value in facets[way]["values"]] == ["a"]
        found = ask(reader, "run/{R}/problems", **{f"f.{way}": "a"})
        assert [row["problem"] for row in found["rows"]] == [problem]
        assert found["rows"][0]["facets"][way] == ["a"]


def test_what_was_measured_can_be_chosen_for_a_comparison(measured: RunReader):
    [line] = ask(measured, "runs")["runs"]
    assert line["measured"][0] == "untrained" and len(line["measured"]) == 4


@pytest.mark.slow
def test_a_test_that_stands_twice_says_what_it_dropped_each_time(tmp_path: Path):
    problems = make_problems(3)
    chains = [written(problem, "model-teacher", "a chain") for problem in problems]
    rewrites = [
        written(problem, "model-student", "a rewrite", operator="rewrite", parents=(chain.id,))
        for problem, chain in zip(problems, chains, strict=True)
    ]
    folder = tmp_path / "run"
    manifest.start(folder, {"arms": {"orion": {"method": "orion"}}, "seed": 0})
    with Store.open(folder) as store:
        ledger = store.ledger("orion")
        ledger.add_traces([*chains, *rewrites])
        for operator, dropped in (("sample", chains[:1]), ("rewrite", rewrites[:2])):
            ledger.add_step(operator, "model", 3, 3)
            ledger.add_step("keep", "sound", 3, 3 - len(dropped))
            ledger.add_drops([Dropped(trace, "keep", "sound", "") for trace in dropped])
        ledger.finish()
    reader = open_reader(folder, tmp_path / "index")
    steps = ask(reader, "run/{R}")["funnels"]["orion"]["steps"]
    kept = [step for step in steps if step["operator"] == "keep"]
    assert [step["traces"] for step in kept] == [1, 2]
    for step in kept:
        assert ask(reader, "run/{R}/traces", q=step["query"])["count"] == step["traces"]


@pytest.mark.slow
def test_flips_are_those_that_are_counted_by_hand(tmp_path: Path):
    evaluations = {
        "a": evaluation("a", "rrrr", "rrww", "wwww", "wwww"),
        "b": evaluation("b", "wwww", "rrrr", "wwww", "rwww"),
        "other": arm("other", 40, n=2),
    }
    demo = dataclasses.replace(results(), evaluations=evaluations, comparisons=())
    save(demo, tmp_path / "results.json")
    reader = RunReader(RunFolder("r", tmp_path, "r"), tmp_path / "index")
    page = ask(reader, "compare", a="r:a", b="r:b")
    assert [(flip["problem"], flip["change"], flip["is_flip"]) for flip in page["flips"]] == [
        ("p0", 1.0, True),
        ("p1", -0.5, False),
        ("p3", -0.25, False),
    ]
    table = page["table"]
    assert (table["both"], table["only_a"], table["only_b"], table["neither"]) == (1, 1, 0, 2)
    unequal = ask(reader, "compare", a="r:a", b="r:other")
    assert not unequal["is_comparable"] and "comparison" not in unequal
    assert [one["name"] for one in unequal["differs"]] == ["n"]
    with pytest.raises(ConfigError):
        compare(evaluations["a"], evaluations["other"])
    with pytest.raises(InputError):
        ask(reader, "compare", a="r:a", b="r:nobody")


def test_steps_and_verdicts_have_their_times(reader: RunReader, store: Store):
    steps = ask(reader, "run/run")["funnels"]["orion"]["steps"]
    assert [step["operator"] for step in steps] == ["sample", "keep", "train"]
    assert all(0 < time.time() - step["ended"] < 3600 for step in steps)
    [problem] = make_problems(1)
    trace = judged(written(problem, "model-student", "So 5"), "right", "5")
    store.verdicts.put({verdict_key(trace, "story@1"): "null"})
    assert 0 < time.time() - (find_verdict_time(store, trace) or 0) < 3600
    assert find_verdict_time(store, trace.annotate(verdict=Verdict("right", "5", "", ""))) is None


def test_costs_are_those_of_cache_stats(reader: RunReader):
    costs = ask(reader, "run/{R}/costs")
    with Store.open(reader.folder, readonly=True) as store:
        stats = store_stats(store)
    for row in stats["paid"]:
        [line] = [
            one
            for one in costs["paid"]
            if (one["arm"], one["role"], one["model"]) == (row["arm"], row["role"], row["model"])
        ]
        for name in (
            "completions",
            "errors",
            "prompt_tokens",
            "completion_tokens",
            "cost",
            "seconds",
        ):
            assert line[name] == pytest.approx(row[name])
    for role, spent in stats["spent"].items():
        assert costs["spent"][role]["tokens"] == spent["tokens"]
    assert sum(sum(series["calls"]) for series in costs["series"]) == costs["total"]["calls"] == 18


def test_the_journal_pages_through_all_calls_and_finds_verdicts(reader: RunReader):
    first = ask(reader, "run/{R}/journal", limit="10")
    second = ask(reader, "run/{R}/journal", limit="10", after=first["next"])
    keys = [item["key"] for item in first["items"] + second["items"]]
    newest = ask(reader, "run/{R}/journal", order="desc")
    assert len(keys) == first["count"] == 18 and keys[::-1] == [
        item["key"] for item in newest["items"]
    ]
    assert ask(reader, "run/{R}/journal", status="wrong")["count"] == 6
    call = ask(reader, f"run/{{R}}/journal/{keys[0]}")["entries"][-1]
    assert call["payload"]["settings"] == [["temperature", 0.6]]
    assert call["verdicts"][0]["status"] == "wrong"
    assert ask(reader, "run/{R}/journal", kind="attempts")["items"] == []


def test_curves_of_a_training_under_way_are_read_up_to_its_last_whole_line(reader: RunReader):
    folder = reader.folder / "students" / STAGE / "training"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": n, "loss": 2.0 / n, "tokens": 10}) for n in (1, 2, 3)]
    (folder / "steps.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    since = {f"since.{STAGE}": "1"}
    [student] = ask(reader, "run/{R}/training", **since)["students"]
    assert student["series"]["step"] == [2, 3] and student["total_tokens"] == [20, 30]
    # A training that was taken up from an earlier checkpoint is shorter than what the page has of it.
    [again] = ask(reader, "run/{R}/training", **{f"since.{STAGE}": "9"})["students"]
    assert (again["since"], again["series"]["step"]) == (0, [1, 2, 3])
    assert RunWatch(reader).look()["training"] == [{"student": STAGE, "step": 3}]


def test_rollouts_are_shown_by_evaluation(reader: RunReader):
    folder = reader.folder / "students" / STAGE / "training"
    folder.mkdir(parents=True, exist_ok=True)
    log = RolloutLog(folder / "rollouts.jsonl")
    for step in (0, 10):
        log.append([KeptRollout(step, "trace-0", "p0", "q", "5", f"at {step}", 2, False, "wrong")])
    [student] = ask(reader, "run/run/training")["students"]
    assert student["looks"] == [0, 10]
    shown = ask(reader, f"run/run/rollouts/{STAGE}", step="10")
    assert [rollout["text"] for rollout in shown["rollouts"]] == ["at 10"]
    with pytest.raises(InputError, match="no text of"):
        ask(reader, f"run/run/rollouts/{STAGE}", step="5")
    with pytest.raises(InputError, match="there is no student"):
        ask(reader, "run/run/rollouts/..", step="0")
    (folder / "rollouts.jsonl").unlink()


def test_exports_hold_what_the_list_holds(reader: RunReader):
    answers = Answers({reader.run.name: reader})
    lines = {}
    for form in ("jsonl", "ids", "csv"):
        parameters = Parameters({"q": ["operator:rewrite row:yes"], "format": [form]})
        name, _, parts = answers.export(["run", reader.run.name, "export"], parameters)
        lines[form] = "".join(parts).splitlines()
        assert name.startswith("run-traces.")
    ids = [json.loads(line)["id"] for line in lines["jsonl"]]
    assert ids == lines["ids"] == [line.split(",")[0] for line in lines["csv"][1:]]
    assert len(ids) == 4


def test_files_are_a_closed_list(reader: RunReader):
    names = [file["name"] for file in ask(reader, "run/{R}/files")["files"]]
    assert "manifest.json" in names and "store.sqlite" not in names
    answers = Answers({reader.run.name: reader})
    for name in ("../run/manifest.json", "store.sqlite", "students/../manifest.json"):
        with pytest.raises(InputError):
            answers.file(["run", reader.run.name, "file", *name.split("/")])


@pytest.mark.slow
def test_the_live_stream_says_what_is_new(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    watch = RunWatch(reader)
    assert watch.look()["new"]["traces"] == 0
    assert watch.look() is None
    with Store.open(tmp_path / "run") as store:
        assert watch.look()["state"]["status"] == "running"
        fill_orion(store, make_problems(9))
        line = watch.look()
        assert (line["state"]["status"], line["new"]["by_arm"]) == ("running", {"orion": 12})
    assert watch.look()["state"]["status"] == "killed"


@pytest.mark.slow
def test_python_asks_what_the_pages_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import potstill as ps

    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    folder = make_run(tmp_path / "run")
    save(results(), folder / "results.json")
    run = ps.open_run(folder)
    matches = run.find("operator:rewrite row:yes", sort="tokens", descending=True)
    assert len(matches) == 4 and {trace.verdict.status for trace in matches} == {"right"}
    assert len(run.find('"answer is 6"', limit=2)) == 2
    assert run.facets("row:yes")["operator"] == {"rewrite": 4}
    assert run.flips("sft")[0].change > 0
    assert run.costs()["total"]["calls"] == 18
    with pytest.raises(InputError):
        run.find("colour:red")


@pytest.mark.slow
def test_a_cursor_goes_on_where_a_stream_ended(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    answers = Answers({"run": reader})
    [line] = LiveStream(answers, "run").next_lines()
    assert list(LiveStream(answers, "run", line["cursor"]).next_lines()) == []
    with Store.open(tmp_path / "run") as store:
        fill_orion(store, make_problems(9))
    [later] = LiveStream(answers, "run", line["cursor"]).next_lines()
    assert later["new"]["by_arm"] == {"orion": 12}
    [anew] = LiveStream(answers, "run", "no cursor").next_lines()
    assert anew["new"]["traces"] == 0


@pytest.mark.slow
def test_runs_are_looked_for_again_but_not_at_every_look(tmp_path: Path):
    clock = [0.0]
    make_run(tmp_path / "runs" / "one")
    catalogue = RunCatalogue(
        [tmp_path / "runs"], lambda run: RunReader(run, tmp_path / "index"), now=lambda: clock[0]
    )
    answers = Answers(catalogue.readers, find_new_runs=catalogue.refresh)
    stream = LiveStream(answers)
    assert [line["run"] for line in stream.next_lines()] == ["one"]
    # Another run of the same name below another folder gets a name of its own; the first keeps its.
    make_run(tmp_path / "runs" / "later" / "one")
    assert list(stream.next_lines()) == []
    clock[0] += 10
    listed, line = stream.next_lines()
    assert (
        listed["runs"][0] == "one" and listed["runs"][1].startswith("one-") and line["run"] != "one"
    )
    shutil.rmtree(tmp_path / "runs" / "one")
    clock[0] += 10
    assert [line["type"] for line in stream.next_lines()] == ["runs"]


@pytest.mark.slow
def test_limits_are_shown_with_what_counts_against_them(tmp_path: Path):
    folder = tmp_path / "run"
    limits = {
        "": Limit(money=0.02),
        "student": Limit(tokens=10_000),
        "evaluation": Limit(money=1.0),
    }
    with open_folder(folder, budget=limits) as opened:
        fill_orion(opened.store, make_problems(6))
    reader = open_reader(folder, tmp_path / "index")
    whole, evaluation, student = ask(reader, "run/{R}/costs")["limits"]
    assert (whole["shown"], round(whole["share"], 3)) == ("0.018 of 0.02 USD", 0.9)
    with Store.open(folder, readonly=True) as store:
        spent = store.attempts.spent_by_role()["student"]
    assert student["spent"]["tokens"] == spent.tokens and student["limit"] == "student"
    assert evaluation["spent"]["usd"] == 0.0
    with open_folder(folder):
        pass
    assert ask(reader, "run/{R}/costs")["limits"] == []


@pytest.mark.slow
def test_the_page_of_runs_knows_costs_limits_and_age_of_runs_in_every_state(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    write_limits(reader.folder, {"": Limit(money=5.0)})
    unindexed = RunReader(reader.run, tmp_path / "no index")
    for one in (reader, unindexed):
        [line] = ask(one, "runs")["runs"]
        assert (line["state"]["status"], line["calls"]) == ("killed", 18)
        assert line["cost"] == pytest.approx(0.018)
        assert line["limits"][0]["shown"] == "0.018 of 5 USD"
        assert line["began"] <= line["changed"] == line["state"]["since"]
    with Store.open(reader.folder) as store:
        # A call under way counts at the most that it can cost.
        store.attempts.record_intents([Intent("completion-x", "teacher", "orion", "m", 100, 0.5)])
        [line] = ask(reader, "runs")["runs"]
        assert line["state"]["status"] == "running"
        assert line["cost"] == pytest.approx(0.518)
        store.attempts.withdraw_intents(["completion-x"])
    save(results(), reader.folder / "results.json")
    manifest.finish(reader.folder, ["results.json"])
    [line] = ask(reader, "runs")["runs"]
    assert (line["state"]["status"], line["cost"]) == ("finished", pytest.approx(0.018))


def test_a_run_that_lies_within_another_is_found_and_not_meant(tmp_path: Path):
    for folder in ("one", "one/walk", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.json").touch()
    assert list(find_runs([tmp_path])) == ["one", "walk", "two"]
    assert list(find_meant_runs([tmp_path / "one"])) == ["one"]
    assert list(find_meant_runs([tmp_path])) == ["one", "walk", "two"]
