"""What is checked and said before a run asks anybody: roles, overlap, what measuring will ask."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from potstill import api
from potstill.cli import run
from potstill.cli.options import Parser
from potstill.errors import ConfigError, InputError, StageError
from potstill.methods.catalogue import describe_method
from potstill.models.remote.openai import OpenAIModel
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Stage, Trace
from potstill.runs import experiment, preflight
from potstill.runs.recipe import Recipe, from_data, shadowing_names

QUESTIONS = ("What is 11 + 2?", "What is 30 + 4?", "What is 50 + 6?")


def problem_file(path: Path, *questions: str) -> str:
    rows = [{"question": question, "answer": "7"} for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe(problems: str, tests: str = "", **parts: Any) -> Recipe:
    roles = {"teacher": "scripted:teacher.json", "student": "scripted:student.json"}
    data = {
        "method": "sft",
        "roles": roles,
        "problems": problems,
        "evaluate": {"problems": tests, "n": 3},
    }
    return from_data({**data, **parts})


@pytest.fixture
def nobody_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(experiment, "load_model", refuse)


@pytest.mark.parametrize(
    ("overlap", "expected"), [("stop", StageError), ("drop", InputError)], ids=["stop", "drop"]
)
def test_overlap_is_refused_before_a_model_is_loaded_or_a_folder_made(
    tmp_path: Path, nobody_is_loaded: None, overlap: str, expected: type[Exception]
) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    made = recipe(problems, problems, overlap=overlap)
    with pytest.raises(expected, match="evaluation"):
        experiment.execute(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_measuring_will_ask_is_said_beforehand(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    tests = problem_file(tmp_path / "t.jsonl", "What is 8 + 8?", "What is 9 + 1?")
    made = recipe(problems, tests, arms={"a": {"method": "sft"}, "b": {"method": "sft"}}, method="")
    loaded = experiment.load_recipe_problems(made)
    _, sentence = preflight.describe_run(made, {}, *loaded)
    assert "2 problems x 3 answers of the untrained student, a, b: 18 answers" in sentence
    [unchecked] = preflight.describe_run(recipe(problems), {}, loaded[0], [])
    assert unchecked.startswith("sft: answers alone are verified")


def test_arms_whose_steps_nobody_judges_are_named_with_the_reason() -> None:
    arms = {"a": {"method": "sft"}, "b": {"method": "orion", "values": {"steps": False}}}
    made = recipe("none.jsonl", arms=arms, method="")
    story, number = (Trace(Problem(kind, "q", "7", kind=kind), "q") for kind in ("story", "number"))
    answers_alone = "answers alone are verified, and not the steps to them"
    assert preflight.describe_unchecked_steps(made, [story]) == [f"b: {answers_alone}: steps=false"]
    assert preflight.describe_unchecked_steps(made, [story, number]) == [
        f"a: {answers_alone}: some of the problems are of a kind without a step verifier (number)",
        f"b: {answers_alone}: steps=false",
    ]


def test_a_role_that_no_arm_uses_is_told(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    roles = {
        "teacher": "scripted:t.json",
        "student": "scripted:s.json",
        "sampler": "scripted:a.json",
        "judge": "scripted:j.json",
    }
    made = recipe(problems, roles=roles)
    loaded, _ = experiment.load_recipe_problems(made)
    sentences = preflight.unused_roles(made, loaded, [])
    assert sentences == [
        "the role sampler (scripted:a.json) is given, and no arm uses it",
        "the role judge (scripted:j.json) is given, and no arm uses it",
    ]
    named = {"objective_config": {"objective": "forward_kl", "teacher": "judge"}}
    taught = recipe(problems, roles=roles | {"judge": "world:teacher"}, training=named)
    assert [text.split()[2] for text in preflight.unused_roles(taught, loaded, [])] == ["sampler"]


METHOD = """
from typing import Protocol
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage

class Mentor(Trainable, Scored, Protocol):
    "A model that is trained and that scores."

def panel(problems, student: Trainable, critic: Scored | None = None, mentor: Mentor = None,
          readers: list[Scored] = ()):
    "A method with roles that may be left out."
    yield Stage(student, [], "sft")
"""
WRITER = "openai:any?url=http://127.0.0.1:1/v1"
STUDENT = {"student": "world:student"}


@pytest.fixture
def panel(tmp_path: Path) -> str:
    (tmp_path / "panel.py").write_text(METHOD)
    return f"{tmp_path / 'panel.py'}:panel"


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"critic": WRITER}, r"the critic openai:\S+ can't be what \S+panel needs: Scored"),
        ({"mentor": WRITER}, "the mentor .* needs: Scored and Trainable"),
        ({"readers": ["scripted:r.json", WRITER]}, r"the readers\.2 .* needs: Scored"),
        ({"readers": WRITER}, r"the readers\.1 .* needs: Scored"),
    ],
)
def test_roles_that_may_be_left_out_are_checked_like_the_others(
    tmp_path: Path, panel: str, roles: dict[str, Any], message: str
) -> None:
    made = recipe("world:story", method=panel, roles=STUDENT | roles)
    writer = OpenAIModel("any", url="http://127.0.0.1:1/v1")
    models = dict.fromkeys(made.roles, writer)
    del models["student"]
    with pytest.raises(ConfigError, match=message) as refused:
        preflight.check_roles(made, models)
    assert refused.value.fix.startswith(f"--role {next(iter(roles))}=")
    preflight.check_roles(made, dict.fromkeys(models, ScriptedModel(["a"], weights=tmp_path)))


def test_a_student_without_weights_is_refused_before_the_teacher_is_asked(tmp_path: Path) -> None:
    made = recipe("world:story", roles={"teacher": "scripted:t", "student": "recorded:r.jsonl"})
    with pytest.raises(ConfigError, match=r"the student recorded:r\.jsonl .* needs: Trainable"):
        preflight.check_roles(made, dict.fromkeys(made.roles, ScriptedModel(["a"])))


def test_a_list_role_has_a_key_for_each_of_its_models(panel: str) -> None:
    roles = {"student": "world:student", "readers": ["scripted:a", "scripted:b"]}
    made = recipe("world:story", method=panel, roles=roles)
    keys = {"student": "world:student", "readers.1": "scripted:a", "readers.2": "scripted:b"}
    assert made.roles == keys
    again = from_data(made.to_json(), ["roles.readers.2=scripted:c"])
    assert again.roles == keys | {"readers.2": "scripted:c"}
    with pytest.raises(ConfigError, match=r"roles\.teacher: expected text"):
        recipe("world:story", roles={"teacher": ["a:b", "c:d"], **STUDENT})


def test_a_role_is_given_several_times_where_several_models_play_it(panel: str) -> None:
    parser = Parser()
    run.add_arguments(parser)
    words = [panel, "--problems", "world:story", "--student", "world:student"]
    words += ["--role", "readers=scripted:a", "--role", "readers=scripted:b"]
    made = run.read_recipe(parser.parse_args(words))
    assert [made.roles["readers.1"], made.roles["readers.2"]] == ["scripted:a", "scripted:b"]
    assert run.read_recipe(parser.parse_args([*words, "--eval-stages"])).evaluate.stages


def shadowed(names: list[str]) -> list[str]:
    """Those of the names that a method's value may not have."""
    namespace: dict[str, Any] = {}
    values = ", ".join(f"{name}=1" for name in names)
    exec(f"def method(problems, *, {values}):\n    yield", namespace)
    messages = shadowing_names(describe_method("method", namespace["method"]))
    return [name for name in names if any(f"value {name} of" in message for message in messages)]


def test_a_value_may_not_have_the_name_of_what_every_run_has() -> None:
    keywords = list(inspect.signature(api.run).parameters)
    keys = ["limit", "kind", "prompt", "truncated", "compare", "values"]
    names = [name for name in [*keywords, *keys] if name not in ("problems", "roles_and_values")]
    assert shadowed(names) == names
    assert shadowed(["n", "steps", "settings", "temperature"]) == []


def test_a_disk_without_room_is_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    preflight.check_disk(tmp_path / "not" / "there", 900)
    with pytest.raises(InputError, match="and the disk has 1e-06 GB"):
        preflight.check_disk(tmp_path / "not" / "there", 2000)
    (tmp_path / "student.bin").write_bytes(bytes(1500))
    preflight.check_disk(tmp_path, 2000)  # what the folder holds is not needed again


def test_every_role_that_is_trained_needs_room_for_its_student(tmp_path, monkeypatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    monkeypatch.setattr(preflight, "checkpoint_of", lambda spec: tmp_path)
    weights = f"transformers:{tmp_path}"
    roles = {"student": weights, "teacher": weights}
    one = from_data({"method": "sft", "roles": roles, "problems": "world:story"})
    assert preflight.students_bytes(one) == 100
    two = from_data({"arms": {"sft": {}, "orion": {}}, "roles": roles, "problems": "world:story"})
    assert preflight.students_bytes(two) == 200


def test_a_new_problem_that_is_an_evaluation_problem_is_refused_and_told_to_who_makes_them(
    tmp_path: Path,
) -> None:
    tests = problem_file(tmp_path / "t.jsonl", "What is 8 + 8?")
    made = recipe(problem_file(tmp_path / "p.jsonl", *QUESTIONS), tests)
    problems, measured = experiment.load_recipe_problems(made)
    leak = Trace(Problem("new", "What is 8+8 ?"), "q", "It is 16.", operator="sample")
    stage = Stage(SimpleNamespace(id="student"), [leak], "sft")
    with pytest.raises(StageError, match="overlap the evaluation set: new"):
        preflight.refuse_leaks(made, stage, problems, measured)
    preflight.refuse_leaks(made, stage, [leak], measured)  # the run's own were looked at before
    preflight.refuse_leaks(made, stage, problems, [])
    reason = preflight.overlap_rule(made, measured)
    assert reason is not None and "same question" in reason(leak)
    assert preflight.overlap_rule(made, []) is None
