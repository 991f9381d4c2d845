"""Lines of the tables `one_training.py`: methods as files are, and what they train is what `potstill train` trains."""

from __future__ import annotations

import inspect
import json
import shutil

import pytest
from scripted_world import number, run, student

from potstill.cli import main
from potstill.errors import ConfigError, StageError
from potstill.methods import METHODS
from potstill.methods.catalogue import entry_to_json, method_entry
from potstill.methods.discovery import MethodFolders
from potstill.methods.lines import Arm, Constant, Line
from potstill.methods.one_training import make_method
from potstill.models.scripted import ScriptedModel
from potstill.objectives import keywords
from potstill.records import Problem, blank
from potstill.training.objective_config import LOOP_KEYWORDS

LINES = {name: file.line for name, file in METHODS.files.items() if file.line is not None}
P1 = number("p1", "What is 2 + 2?", "4")
P2 = number("p2", "What is 3 + 4?", "7")
SUMS = {"What is 2 + 2?": "It is \\boxed{4}.", "What is 3 + 4?": "It is \\boxed{8}."}


def write_sum(request):
    [text] = [text for question, text in SUMS.items() if question in request.prompt]
    return text


def roles(name):
    teacher = ScriptedModel(write_sum, name="teacher", weights=student(["no"]).weights)
    models = {"teacher": teacher, "student": student(["\\boxed{4}"])}
    return {role: models[role] for role in LINES[name].roles}


def test_a_line_is_in_the_catalogue_as_a_file_is():
    entry = method_entry("gkd")
    assert (entry.family, entry.arxiv, entry.text.papers) == (
        "distributions",
        "2306.13649",
        ("108",),
    )
    assert [role.name for role in entry.roles] == ["teacher", "student"]
    told = {value["name"]: value for value in entry_to_json(entry)["parameters"]}
    assert told["arm"]["type"] == "'paper' | 'supervised' | 'on-policy'"
    assert told["on_policy_fraction"]["default"] == 0.5
    assert told["on_policy_fraction"]["help"].endswith("(paper: 0.5 to 1 are best).")
    assert inspect.signature(METHODS["gkd"]) == inspect.signature(make_method(LINES["gkd"], "x"))
    assert METHODS["gkd"] is METHODS["gkd"]


def test_an_arm_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="gkd has no arm 'suprevised'"):
        LINES["gkd"].arm("suprevised")


def test_the_teachers_right_texts_are_learnt_with_the_lines_constants():
    ran = run("gkd", [P1, P2], models := roles("gkd"), beta=0.1, max_new_tokens=64)
    [stage] = ran.stages
    assert [row.text for row in stage.rows] == ["It is \\boxed{4}."]
    assert stage.objective == "jsd" and stage.constants == {
        "beta": 0.1,
        "on_policy_fraction": 0.5,
        "rollout_temperature": 1.0,
        "max_new_tokens": 64,
        "teacher": models["teacher"],
    }


def test_the_problems_own_solutions_are_learnt_where_they_are_asked_for():
    solved = blank(Problem("p3", "What is 1 + 1?", "2", kind="number", solution="1 + 1 = 2."))
    models = roles("taid")
    ran = run("taid", [P1, solved], models, texts="solutions")
    assert [row.text for row in ran.rows] == ["1 + 1 = 2."] and not models["teacher"].calls
    with pytest.raises(StageError, match="taid was to learn the problems' own solutions"):
        run("taid", [P1], roles("taid"), texts="solutions")


def test_an_arm_changes_what_it_says_or_takes_another_objective():
    [stage] = run("gkd", [P1], roles("gkd"), arm="on-policy").stages
    assert stage.objective == "jsd" and stage.constants["on_policy_fraction"] == 1.0
    [stage] = run("uld", [P1], roles("uld"), arm="texts-alone").stages
    assert stage.objective == "sft" and stage.constants == {}


def test_a_student_that_writes_all_texts_gets_the_problems():
    [stage] = run("shorterbetter", [P1, P2], roles("shorterbetter")).stages
    assert list(stage.rows) == [P1, P2]
    assert stage.constants["reward"] == {"verifier": 2.0, "optimal_length": 0.001}


def test_every_line_has_a_control_and_constants_of_its_objective_or_loop_with_sources():
    for name, line in LINES.items():
        assert line.arms or line.compared_with, name
        known = {*keywords(line.objective), *LOOP_KEYWORDS}
        for constant in line.constants:
            assert constant.name in known and constant.meaning and constant.source, name


def test_two_lines_of_one_name_are_refused(tmp_path, monkeypatch):
    for family in ("a", "b"):
        (tmp_path / family).mkdir()
        (tmp_path / family / "__init__.py").write_text("")
        (tmp_path / family / "one_training.py").write_text("")
    monkeypatch.setattr("potstill.methods.discovery.read_lines", lambda module: (LINES["gkd"],))
    with pytest.raises(ConfigError, match="Two methods are called 'gkd'"):
        list(MethodFolders(tmp_path, "nowhere"))


def test_a_line_without_a_teacher_needs_none():
    line = Line(
        name="short",
        title="Short",
        authors="Nobody",
        arxiv="2401.00001",
        paper=1,
        cite="Nobody: Short (2024).",
        objective="sft",
        texts="student",
        learns_from="its texts.",
        constants=(Constant("on_policy_fraction", 1.0, "all", "inferred"),),
        arms=(Arm("given", "given texts", {"on_policy_fraction": 0.0}, texts="teacher"),),
    )
    assert line.roles == ("teacher", "student") and "arm=given (given texts)." in line.docstring
    assert "teacher (writes), student (writes and is trained)." in line.docstring


# On tiny checkpoints: what a line trains.

STEPS = ("max_steps=2", "batch_size=2", "learning_rate=1e-3")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with tiny checkpoints and four sums with solutions."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny_sums import write_sums

    return write_sums(tmp_path_factory.mktemp("tiny"))


def flags(sets):
    return [word for setting in sets for word in ("--set", setting)]


def model_flags(tiny, line):
    specs = [word for role in line.roles for word in (f"--{role}", f"transformers:{tiny / role}")]
    return [*specs, "--threads", "1", "--quiet"]


def run_line(tiny, line, out):
    sets = [f"training.{setting}" for setting in STEPS]
    sets.append("max_new_tokens=12")
    if line.learns_given_texts:
        sets.append("texts=solutions")
    problems = ["--problems", str(tiny / "sums.jsonl"), "--kind", "number"]
    command = ["run", line.name, *problems, *model_flags(tiny, line), *flags(sets)]
    assert main([*command, "--out", str(out)]) == 0
    [folder] = (out / "students").iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_line_trains_what_potstill_train_does_with_the_same_constants(name, tiny, tmp_path):
    line = LINES[name]
    folder = run_line(tiny, line, tmp_path / "run")

    constants = {constant.name: constant.value for constant in line.constants}
    if "max_new_tokens" in constants or "on_policy_fraction" in constants:
        constants["max_new_tokens"] = 12
    sets = [f"{constant}={json.dumps(value)}" for constant, value in constants.items()]
    models = model_flags(tiny, line)
    if not line.teacher and "teacher" in line.roles:
        models = models[2:]
    command = ["train", "--rows", str(tmp_path / "run"), "--arm", name, *models]
    command += ["--objective", line.objective, *flags([*sets, *STEPS])]
    assert main([*command, "--out", str(tmp_path / "train")]) == 0
    weights = (tmp_path / "train" / "model.safetensors").read_bytes()
    # All but those who want a thought of words, which the tiny student never has, learn something.
    start = (tiny / "student" / "model.safetensors").read_bytes()
    assert (weights != start) or name == "nover"
    assert weights == (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_line_run_again_trains_nothing_and_resumed_ends_in_the_same_student(tiny, tmp_path):
    folder = run_line(tiny, LINES["gkd"], tmp_path / "run")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert run_line(tiny, LINES["gkd"], tmp_path / "run") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    weights = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)  # as if it had been killed before the training
    again = run_line(tiny, LINES["gkd"], tmp_path / "run")
    assert again == folder and (again / "model.safetensors").read_bytes() == weights
