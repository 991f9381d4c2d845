"""`import potstill as ps`: light, complete, typed; folders resume, budgets hold, evaluations say what was asked."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest

import potstill
import potstill as ps
from potstill import api
from potstill.errors import BudgetSpent, ConfigError, InputError, StoreError
from potstill.models.scripted import ScriptedModel
from potstill.world.scripted import scripted_student, scripted_teacher


@pytest.fixture
def stories():
    return ps.load_problems("world:story?size=6")


def test_importing_it_loads_nothing_and_offers_everything():
    code = (
        "import sys, time; began = time.perf_counter(); import potstill; "
        "took = time.perf_counter() - began; heavy = {'torch', 'potstill.api', 'pydantic'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "import potstill.verifiers; assert 'potstill.api' not in sys.modules; "
        "potstill.load_problems; assert 'torch' not in sys.modules; print(took)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_two_lists_of_names_are_one():
    assert potstill.__all__ == api.__all__ == sorted(api.__all__)
    assert all(getattr(potstill, name) is getattr(api, name) for name in api.__all__)
    assert set(api.__all__) <= set(dir(potstill))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = potstill.nothing


def test_a_folder_pays_for_no_likelihood_twice(stories, tmp_path):
    passages = [(story.prompt, "So it is 5.") for story in stories]
    for scored in (len(set(passages)), 0):
        student = scripted_student()
        with ps.open_folder(tmp_path / "run"):
            chains = ps.sample(student, stories)
            before = len(student.scored)
            ps.token_logprobs(student, passages)
            assert len(student.scored) - before == scored
            ps.score("nll", ps.nll(student), chains)
            ps.score("nll", ps.nll(student, clip=2.0), chains)
            assert len(student.scored) - before == scored * 2


def test_a_folder_pays_for_nothing_twice(stories, tmp_path):
    for calls in (6, 0):
        teacher = scripted_teacher()
        with ps.open_folder(tmp_path / "run"):
            chains = ps.keep(ps.right, ps.verify(ps.sample(teacher, stories)))
            assert chains and len(teacher.calls) == calls


def test_without_a_folder_the_model_is_asked_each_time(stories):
    teacher = scripted_teacher()
    assert ps.sample(teacher, stories) == ps.sample(teacher, stories)
    assert len(teacher.calls) == 12


def test_a_budget_stops_before_it_is_overshot_and_a_larger_one_goes_on(stories, tmp_path):
    teacher = scripted_teacher()
    with pytest.raises(BudgetSpent), ps.open_folder(tmp_path, budget="500tok"):
        ps.sample(teacher, stories, max_new_tokens=200)
    with ps.open_folder(tmp_path, budget="1Mtok") as session:
        assert len(ps.sample(teacher, stories, max_new_tokens=200)) == 6
        [(tokens, money)] = session.spent().values()
        assert tokens > 0 and money == 0
    assert len(teacher.calls) == 6


def test_another_seed_in_the_same_folder_is_refused(stories, tmp_path):
    with ps.open_folder(tmp_path, seed=1):
        ps.sample(scripted_teacher(), stories)
    with pytest.raises(StoreError, match="seed"), ps.open_folder(tmp_path, seed=2):
        pass


def test_the_folder_of_a_session_knows_where_a_trace_came_from(stories, tmp_path):
    with ps.open_folder(tmp_path) as session:
        chains = ps.sample(scripted_teacher(), stories)
        shorter = ps.edit(lambda trace: trace.text[:40], chains)
        assert session.trace(shorter[0].parents[0]).text == chains[0].text
        assert repr(session) == f"Session({str(tmp_path)!r})"


def test_an_evaluation_says_what_was_asked(stories):
    student = scripted_student()
    plain = ps.evaluate(student, stories, n=2)
    warmer = ps.evaluate(student, stories, n=2, temperature=0.9)
    assert plain.fingerprint.task["sampling"] != warmer.fingerprint.task["sampling"]
    assert {request.sampling.temperature for request in student.calls} == {0.6, 0.9}
    with pytest.raises(ConfigError, match="were not asked the same"):
        ps.compare(plain, warmer)
    assert "is not distinguishable from" in str(
        ps.compare(plain, ps.evaluate(student, stories, n=2))
    )
    assert re.fullmatch(
        r"Evaluation\('scripted-\w+': [\d.]+ % of 12 answers right, 6 problems\)", repr(plain)
    )
    assert "<table>" in plain._repr_html_()


def test_a_solver_of_ones_own_is_measured(stories):
    def vote(problems, *, n, **sampling):
        return ps.sample(scripted_teacher(), problems, n=n, **sampling)

    assert ps.evaluate(vote, stories, n=2).name == "vote"


def test_it_works_inside_a_running_event_loop(stories, tmp_path):
    async def notebook() -> int:
        with ps.open_folder(tmp_path):
            return len(ps.verify(ps.sample(scripted_teacher(), stories)))

    assert asyncio.run(notebook()) == 6


def test_driving_a_method_with_a_trainer_of_ones_own(stories, tmp_path):
    def learn(problems, student: ps.Trainable, *, n: int = 2):
        yield ps.Stage(student, ps.sample(student, problems, n=n), "sft")

    stages = []
    with ps.open_folder(tmp_path):
        roles = {"student": scripted_student()}
        solver = ps.drive(
            learn, stories, roles, {"n": 3}, lambda stage: stages.append(stage) or stage.model
        )
        assert len(stages[0].rows) == 18 and len(solver(stories, n=1)) == 6


def test_what_there_is_can_be_listed():
    methods = {method["name"]: method for method in ps.describe_methods()}
    assert {"orion", "rft", "sft"} <= set(methods) and methods["orion"]["arxiv"] == "2505.22131"
    assert ps.describe_methods("rft") == [methods["rft"]]
    pytest.importorskip("torch", reason="objectives are described by their functions")
    objectives = {objective["name"]: objective for objective in ps.describe_objectives()}
    assert objectives["dpo"]["constants"]["beta"] > 0


def test_rows_to_train_on_come_from_files_lists_and_datasets(tmp_path):
    rows = [
        {"prompt": "1 + 1?", "completion": "It is 2.", "correct": True},
        {"prompt": "1 + 2?", "completion": "It is 4.", "correct": False},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserWarning, match="1 rows are not learnt"):
        loaded = ps.load_rows(file)
    assert [trace.text for trace in loaded] == ["It is 2."]
    with pytest.warns(UserWarning):
        assert [trace.text for trace in ps.load_rows(rows)] == ["It is 2."]

    datasets = pytest.importorskip("datasets", reason="needs the extra potstill[data]")
    dataset = datasets.Dataset.from_list([{"question": "1 + 1?", "answer": "2"}])
    assert [trace.problem.answer for trace in ps.from_dataset(dataset)] == ["2"]
    with pytest.warns(UserWarning):
        learnt = ps.from_dataset(datasets.Dataset.from_list(rows), as_problems=False)
    assert ps.to_dataset(learnt)["text"][0] == "It is 2."


def test_a_verdict_says_why():
    problem = ps.Problem("p", "1 + 1?", "2", kind="number")
    verdict = ps.judge(problem, "The answer is 3.")
    assert verdict.status == "wrong" and verdict.answer == "3"
    (posed,) = ps.load_problems([problem])
    assert ps.judge(posed, "The answer is 3.") == verdict


def test_mistakes_are_clear_errors(stories, tmp_path):
    with pytest.raises(InputError, match="no results"):
        ps.open_run(tmp_path)
    with pytest.raises(ConfigError, match="no role or value 'temprature'"):
        ps.run("sft", stories, teacher=scripted_teacher(), student="world:student", temprature=1.0)
    with pytest.raises(ConfigError, match="without a folder"):
        ps.train(ScriptedModel(["x"], weights=tmp_path), [])


def test_arguments_of_another_kind_are_errors_that_say_what_to_give(stories, tmp_path):
    student = ScriptedModel(["x"], weights=tmp_path)
    mistakes = {
        "train was given a dict": lambda: ps.train(student, [{"prompt": "a"}], out=tmp_path),
        "train was given 'world:student' as the model": lambda: ps.train("world:student", []),
        "learning_rate: expected a number, found 'fast'": lambda: ps.train(
            student, stories, learning_rate="fast", out=tmp_path
        ),
        "sample was given 'world:teacher' as the model": lambda: ps.sample(
            "world:teacher", stories
        ),
        "sample was given a Problem": lambda: ps.sample(student, [stories[0].problem]),
        "evaluate was given 'world:student' as the model": lambda: ps.evaluate("world:student", []),
        "unknown setting 'temprature'": lambda: ps.evaluate(student, stories, temprature=1),
        "load_problems was given a str": lambda: ps.load_problems(["1 + 1?"]),
        "load_problems was given None": lambda: ps.load_problems(None),
        "load_rows was given 7": lambda: ps.load_rows(7),
        "row 1 is a str: 'a'": lambda: ps.load_rows(["a"]),
        "limit is 1.5": lambda: ps.load_problems("world:story", limit=1.5),
        "limit is -1": lambda: ps.load_rows([], limit=-1),
        "mapping is 'a=b'": lambda: ps.load_problems("world:story", mapping="a=b"),
        "load_model was given None": lambda: ps.load_model(None),
        "judge was given a str and a str": lambda: ps.judge("1 + 1?", "2"),
        "judge was given a Problem and a Trace": lambda: ps.judge(stories[0], stories[0]),
        "keep was given 'right' as its function": lambda: ps.keep("right", stories),
        "best was given 'length' as its function": lambda: ps.best("length", stories),
        "budget=5 says no unit": lambda: ps.open_folder(tmp_path / "run", budget=5).__enter__(),
    }
    for message, call in mistakes.items():
        with pytest.raises(ConfigError, match=message) as error:
            call()
        assert error.value.fix or error.value.available


def test_gold_answers_of_a_list_pass_their_verifier_too():
    problem = ps.Problem("p", "1 + 1?", "two or so", kind="number")
    with pytest.raises(InputError, match="1 of 1 gold answers in the list fail"):
        ps.load_problems([problem])


def test_n_of_a_run_is_the_methods_and_eval_n_that_of_the_measurement(stories, tmp_path):
    teacher = scripted_teacher()
    with pytest.raises(ConfigError, match=r"values\.n: expected a whole number, found 'two'"):
        ps.run("sft", stories, teacher=teacher, student="world:student", n="two", out=tmp_path)


def test_a_recording_with_gaps_is_measured_on_what_it_has_where_it_says_so(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"question": "1+1?", "completion": "2"}\n')
    asked = [ps.Problem("a", "1+1?", "2", "number"), ps.Problem("b", "2+2?", "4", "number")]
    problems = ps.load_problems(asked, prompt="{question}")
    with pytest.raises(InputError, match="is recorded for 1 of 2 problems"):
        ps.evaluate(ps.load_model(f"recorded:{file}"), problems, n=1)
    dropping = ps.load_model(f"recorded:{file}?missing=drop")
    with pytest.warns(UserWarning, match="for 1 of 2 problems"):
        evaluation = ps.evaluate(dropping, problems, n=1)
    assert [row.right for row in evaluation.rows] == [1]


def test_a_derived_problem_that_was_trained_on_is_no_evaluation_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "potstill.runs.train.train_stage", lambda folder, stage, *_, **__: stage.model
    )
    student = ScriptedModel(["\\boxed{6}"], weights=tmp_path)
    problems = ps.load_problems([ps.Problem("p", "What is 2 + 2?", "4", "number")])
    written = ps.rewrite(ScriptedModel(["What is 3 + 3?"]), problems, prompt="Another: {question}")
    new = ps.derive(lambda trace: trace.text, written)
    test = ps.load_problems([ps.Problem("t", "What is 3+3?", "6", "number")])
    with ps.open_folder(tmp_path / "run"):
        assert ps.evaluate(student, test, n=1).count("right") == 1  # measured before, nothing leaks
        ps.train(student, ps.sample(student, new))
        with pytest.raises(ps.StageError, match="same question as evaluation problem 't'"):
            ps.evaluate(student, test, n=1)
