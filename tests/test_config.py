"""The converter: the type that is asked for decides what a text means, and every mistake is reported with its key."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.cli import main
from potstill.config import (
    Mistakes,
    Override,
    Place,
    Setting,
    Untyped,
    apply_override,
    build,
    convert,
    convert_settings,
    find_place,
    merge_layers,
    parse_query,
    read_overrides,
)
from potstill.data import yaml
from potstill.errors import ConfigError
from potstill.methods.catalogue import describe_method
from potstill.records import Stage
from potstill.runs.recipe import from_data, from_file
from potstill.runs.recipe_checks import StageCall, stage_calls
from potstill.runs.train_settings import read_keywords


@dataclass(frozen=True)
class Adapter:
    r: int = 16
    names: str | tuple[str, ...] = "all"


@dataclass(frozen=True)
class Loop:
    learning_rate: float = field(default=0.1, metadata={"alias": "lr"})
    epochs: int = 3
    kind: str = ""
    sort: bool = True
    adapter: Adapter | None = None
    limits: Mapping[str, Adapter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs={self.epochs} is below 1")


def written(kind: Any, text: str) -> tuple[Any, list[str]]:
    """What `--set x=TEXT` gives for a setting of a kind, and the mistakes."""
    mistakes = Mistakes()
    return convert(kind, yaml.read_untyped(text), "x", mistakes), mistakes.lines()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (float, "8e-1", 0.8),
        (float, "1e-4", 1e-4),
        (float, "-.5", -0.5),
        (float, "3", 3.0),
        (int, "010", 10),
        (int, "1e3", 1000),
        (int, "0x10", 16),
        (int, "1_000", 1000),
        (str, "010", "010"),
        (str, "1e3", "1e3"),
        (str, "no", "no"),
        (str, "true", "true"),
        (str, "1:30", "1:30"),
        (str, "2026-11-30", "2026-11-30"),
        (str, "{question} Think first.", "{question} Think first."),
        (str, "a: b # c", "a: b # c"),
        (str, "'quoted'", "quoted"),
        (str, "", ""),
        (bool, "no", False),
        (bool, "off", False),
        (bool, "yes", True),
        (bool, "On", True),
        (bool, "1", True),
        (bool | None, "no", False),
        (bool | None, "null", None),
        (int | None, "null", None),
        (Literal["no", "1"], "no", "no"),
        (Literal["no", "1"], "1", "1"),
        (float | str, "2.5", 2.5),
        (float | str, "exact", "exact"),
        (Any, "010", 10),
        (Any, "no", "no"),
        (Any, "[1, 2e-1, no]", [1, 0.2, "no"]),
        (str | tuple[str, ...], "all", "all"),
        (str | tuple[str, ...], "[a, 1]", ("a", "1")),
        (tuple[tuple[str, Any], ...], "{a: 1}", (("a", 1),)),
        (tuple[float, float], "[0, 1]", (0.0, 1.0)),
        (Mapping[str, tuple[float, float]], "{beta: [0, 1]}", {"beta": (0.0, 1.0)}),
        (Mapping[str, str], "{answer: 010}", {"answer": "010"}),
        (str | Mapping[str, float] | Callable[..., float] | None, "{a: 1}", {"a": 1.0}),
        (Path, "~/x", Path("~/x")),
        (Adapter | None, "{r: 010}", Adapter(r=10)),
        (Adapter | None, "null", None),
    ],
)
def test_what_a_text_means_to_a_type(kind, text, value):
    converted, mistakes = written(kind, text)
    assert (converted, type(converted), mistakes) == (value, type(value), [])


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "1:30", "a whole number"),
        (float, "1:30", "a number"),
        (float, "nan", "a number"),
        (float, ".inf", "a number"),
        (int, "1.5", "a whole number"),
        (int, "true", "a whole number"),
        (int, "", "a whole number"),
        (bool, "2", "true or false"),
        (bool, "maybe", "true or false"),
        (str, "null", "text"),
        (int | None, "many", "a whole number or nothing"),
        (tuple[str, ...], "abc", "a list of text"),
        (tuple[float, float], "[1]", "[a number, a number]"),
        (Mapping[str, str], "[a]", "a mapping"),
        (Literal["a"], "b", "one of 'a'"),
        (Adapter, "3", "a mapping"),
    ],
)
def test_what_does_not_fit_is_refused_under_its_key(kind, text, expected):
    _, mistakes = written(kind, text)
    assert len(mistakes) == 1 and mistakes[0].startswith(f"x: expected {expected}, found ")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, True),
        (int, True),
        (bool, 1),
        (int, 1.5),
        (str, 3),
        (float, float("nan")),
        (int, None),
    ],
)
def test_typed_values_are_not_read_as_another_type(kind, value):
    mistakes = Mistakes()
    convert(kind, value, "x", mistakes)
    assert len(mistakes) == 1


@given(st.integers(-(10**9), 10**9), st.integers(0, 4))
def test_leading_zeros_change_no_whole_number(number, zeros):
    sign, digits = ("-", str(-number)) if number < 0 else ("", str(number))
    assert written(int, f"{sign}{'0' * zeros}{digits}") == (number, [])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_spelling_of_a_number_is_that_number(number):
    for text in (repr(number), f"{number:.17e}", f"{number:.17E}"):
        assert written(float, text) == (number, [])
        assert yaml.load(text, "a file") == number


@given(st.integers(0, 10**4), st.integers(0, 59))
def test_minutes_are_no_number(minutes, seconds):
    text = f"{minutes}:{seconds:02}"
    for kind in (int, float, bool):
        assert len(written(kind, text)[1]) == 1
    assert written(str, text) == (text, []) and written(Any, text) == (text, [])


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="'\""), min_size=1))
def test_a_text_is_taken_as_it_was_written(text):
    if text not in ("null", "Null", "NULL", "~"):
        assert written(str, text) == (text, [])


@given(st.sampled_from(["yes", "no", "on", "off", "true", "false"]), st.sampled_from("aAtT"))
def test_a_word_is_text_for_a_text_and_a_truth_for_a_boolean(word, case):
    text = {"a": word, "A": word.upper(), "t": word.title(), "T": word.title()}[case]
    assert written(str, text) == (text, [])
    assert written(bool, text) == (word in ("yes", "on", "true"), [])


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from([*[f.name for f in dataclasses.fields(Loop)], "lr", "zz"])


@given(st.dictionaries(KEYS, JUNK))
def test_data_of_any_shape_gives_an_instance_or_mistakes_with_their_keys(data):
    mistakes = Mistakes()
    loop = build(Loop, data, "loop", mistakes)
    assert isinstance(loop, Loop) or len(mistakes)
    for key, _ in mistakes.entries:
        assert key == "loop" or key.split(".")[1] in data


@given(st.dictionaries(KEYS, JUNK))
def test_what_was_converted_is_converted_to_itself(data):
    mistakes = Mistakes()
    loop = build(Loop, data, "loop", mistakes)
    if not len(mistakes):
        again = build(Loop, dataclasses.asdict(loop), "loop", mistakes)
        assert again == loop and not len(mistakes)


def test_all_mistakes_are_reported_at_once_with_lines_and_nearest_names():
    mistakes = Mistakes()
    data = {
        "lr": "fast",
        "epoch": 3,
        "epochs": 0,
        "adapter": {"R": 1, "r": "x"},
        "limits": {"a": {"r": []}},
    }
    assert build(Loop, data, "loop", mistakes) is None
    places = {"loop.lr": Place("line 7", "loop.lr"), "loop.adapter": Place("--set a={…}", "a")}
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_if_any("it", places=places, fix="mend it")
    names = "learning_rate (lr), epochs, kind, sort, adapter, limits"
    assert caught.value.found.split("\n  - ") == [
        "it has 6 mistake(s):",
        f"loop.epoch: unknown setting 'epoch' (nearest: loop.epochs); available: {names}",
        "line 7: loop.lr: expected a number, found 'fast'",
        "--set a={…}: a.R: unknown setting 'R'; available: r, names",
        "--set a={…}: a.r: expected a whole number, found 'x'",
        "loop.limits.a.r: expected a whole number, found []",
        "loop.epochs: epochs=0 is below 1",
    ]
    assert caught.value.fix == "mend it"


def test_a_setting_has_two_names_and_may_be_given_under_one_of_them():
    for name in ("lr", "learning_rate"):
        mistakes = Mistakes()
        assert build(Loop, {name: "1e-2"}, "", mistakes) == Loop(learning_rate=0.01)
    build(Loop, {"lr": 1, "learning_rate": 1}, "t", mistakes)
    assert mistakes.lines() == [
        "t.learning_rate: lr and learning_rate are the same setting: give one"
    ]


@pytest.mark.parametrize("file_name", ["lr", "learning_rate"])
@pytest.mark.parametrize("flag_name", ["lr", "learning_rate"])
def test_the_command_line_wins_under_either_name(file_name, flag_name):
    tree, mistakes = {file_name: 1}, Mistakes()
    [override] = read_overrides([f"{flag_name}=2"], yaml.read_untyped, mistakes)
    apply_override(tree, [flag_name], override, mistakes, schema=Loop)
    assert build(Loop, tree, "", mistakes) == Loop(learning_rate=2.0) and not len(mistakes)


def test_an_override_deep_in_a_value_keeps_what_stands_beside_it():
    tree: dict[str, Any] = {"adapter": {"r": 8, "names": ["q"]}}
    before, mistakes = json.dumps(tree), Mistakes()
    copy = dict(tree)
    apply_override(copy, ["adapter", "r"], Override("adapter.r", 4, "--set"), mistakes, schema=Loop)
    assert build(Loop, copy, "", mistakes).adapter == Adapter(4, ("q",))
    assert json.dumps(tree) == before
    apply_override(copy, ["adapter", "r", "x"], Override("adapter.r.x", 4, "--set y"), mistakes)
    assert mistakes.lines() == ["--set y: adapter.r is given as a value too (4)"]


def test_of_several_layers_the_last_wins_and_keeps_its_key():
    mistakes = Mistakes()
    settings = (Setting("n", int), Setting("k", int))
    merged = merge_layers(
        settings, [("values", {"n": 1, "k": 2}), ("arms.a.values", {"n": "x"})], mistakes
    )
    assert convert_settings(settings, merged, mistakes) == {"k": 2}
    assert mistakes.lines() == ["arms.a.values.n: expected a whole number, found 'x'"]


def test_a_default_object_keeps_the_values_that_are_not_given():
    mistakes = Mistakes()
    assert build(Loop, {"sort": False}, "", mistakes, default=Loop(epochs=9)) == Loop(
        epochs=9, sort=False
    )


def test_options_of_a_spec_are_given_once():
    assert parse_query("a=1&b=") == {"a": "1", "b": ""}
    with pytest.raises(ConfigError, match="a is given twice"):
        parse_query("a=1&a=2")


def test_a_place_is_found_above_and_below():
    places = {"a.b": Place("line 2", "a.b"), "c.d.e": Place("--set c.d.e=1", "c.d.e")}
    assert find_place("a.b.x", places) == ("line 2", "a.b.x")
    assert find_place("c", places) == ("--set c.d.e=1", "c")
    assert find_place("z", places) == ("", "z")


def test_untyped_text_is_text_with_a_value():
    value = yaml.load("a: 010", "a file", untyped=True)["a"]
    assert isinstance(value, Untyped) and (value, value.value) == ("010", 10)


def test_importing_the_package_and_its_help_load_no_pydantic():
    program = "import potstill, potstill.config, potstill.runs.recipe, sys\n"
    program += "from potstill.cli import main; main(['--help'])\n"
    program += "assert 'pydantic' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# Recipes and the command line, over the converter.

ROWS = [
    {"question": "2+2?", "completion": "\\boxed{4}"},
    {"question": "3+3?", "completion": "\\boxed{6}"},
]
PROBLEMS = [{"question": "2+2?", "answer": "4"}, {"question": "3+3?", "answer": "6"}]
ROLES = {"teacher": "recorded:r.jsonl", "student": "world:student"}
ARMS = """\
arms:
  a: {method: sft, training: {epochs: 1}}
  b: {method: sft, training: {num_train_epochs: 2, lr: 1e-3}}
  c: {method: sft}
roles: {teacher: "recorded:r.jsonl", student: "world:student"}
problems: p.jsonl
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, rows in (("p.jsonl", PROBLEMS), ("r.jsonl", ROWS)):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("recipe.yaml").write_text(ARMS)
    return Path("recipe.yaml")


def mistakes_of(path: Path, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_file(path, sets)
    return caught.value.found


@pytest.mark.parametrize("name", ["epochs", "num_train_epochs"])
def test_set_wins_over_an_arms_own_block(recipe, name):
    arms = from_file(recipe, [f"training.{name}=7"]).arms
    assert [arm.training.num_train_epochs for arm in arms.values()] == [7, 7, 7]
    assert arms["b"].training.learning_rate == 1e-3


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.none() | st.integers(1, 9), min_size=1),
    st.integers(1, 9),
    st.sampled_from(["epochs", "num_train_epochs"]),
    st.sampled_from(["epochs", "num_train_epochs"]),
)
def test_the_command_line_wins_in_every_arm(epochs, wanted, file_name, flag_name):
    arms = {}
    for name, value in epochs.items():
        arms[name] = {"method": "sft", "training": {} if value is None else {file_name: value}}
    roles = {**ROLES, "teacher": "world:teacher"}
    data = {"arms": arms, "roles": roles, "problems": "p.jsonl", "training": {file_name: 3}}
    made = from_data(data, [f"training.{flag_name}={wanted}"])
    assert {arm.training.num_train_epochs for arm in made.arms.values()} == {wanted}
    one = from_data(data, [f"arms.{min(arms)}.training.{flag_name}={wanted}"])
    for name, arm in one.arms.items():
        expected = wanted if name == min(arms) else epochs[name] or 3
        assert arm.training.num_train_epochs == expected


def test_set_of_one_arm_wins_over_set_of_all(recipe):
    arms = from_file(recipe, ["arms.a.training.epochs=9", "training.epochs=7", "n=2"]).arms
    assert [arm.training.num_train_epochs for arm in arms.values()] == [9, 7, 7]
    assert [arm.values["n"] for arm in arms.values()] == [2, 2, 2]
    mapped = from_file(recipe, ["training={epochs: 5}"]).arms
    assert [arm.training.num_train_epochs for arm in mapped.values()] == [5, 5, 5]


def test_a_method_for_all_arms_is_refused(recipe):
    assert "--set method=rft: the recipe has arms" in mistakes_of(recipe, "method=rft")
    recipe.write_text(f"method: rft\n{ARMS}")
    assert "line 1: method: 'rft' is none of the arms'" in mistakes_of(recipe)


@pytest.mark.parametrize("limit", ["1:30", "two", "1.5", "-1", "true"])
def test_a_limit_that_is_no_number_of_problems_is_refused_with_its_line(recipe, limit, capsys):
    recipe.write_text(f"{ARMS}limit: {limit}\n")
    assert "line 7: limit: " in mistakes_of(recipe)
    assert main(["plan", "recipe.yaml", "--quiet"]) == 2
    assert "line 7: limit: " in capsys.readouterr().err


def test_a_recipes_scalars_mean_what_its_settings_ask_for(recipe):
    recipe.write_text(
        f"{ARMS}seed: 010\nkind: no\nbatch: off\nmapping: {{answer: 010}}\nlimit: 1e1\n"
    )
    made = from_file(recipe)
    assert (made.seed, made.kind, made.batch, made.mapping, made.limit) == (
        10,
        "no",
        False,
        {"answer": "010"},
        10,
    )


OBJECTIVE_MISTAKES = {
    "an unknown objective": (
        {"objective": "jsdd"},
        "objective: unknown objective 'jsdd' (nearest: jsd)",
    ),
    "an unknown constant": (
        {"objective": "jsd", "betta": 0.5, "teacher": "teacher"},
        "betta: unknown keyword 'betta'",
    ),
    "a constant of another objective": (
        {"objective": "sft", "beta": 0.5},
        "beta: unknown keyword 'beta'",
    ),
    "an unknown constant of the method's objective": (
        {"betta": 0.5},
        "betta: unknown keyword 'betta'",
    ),
    "a constant that is no number": (
        {"objective": "jsd", "beta": "half"},
        "beta: expected a number, found 'half'",
    ),
    "a keyword of the loop that is none": (
        {"max_new_tokens": "1:30"},
        "max_new_tokens: expected a whole number",
    ),
    "a keyword out of range": (
        {"objective": "sft", "num_generations": 0},
        "num_generations=0 is out of range",
    ),
    "a model that nobody plays": (
        {"objective": "jsd", "teacher": "techer"},
        "teacher: 'techer' is no role",
    ),
    "a distribution from a server": ({"objective": "jsd", "teacher": "server"}, "no weights"),
    "a missing teacher": ({"objective": "jsd"}, "a teacher= or teacher_cache= is needed"),
}


@pytest.mark.parametrize("name", OBJECTIVE_MISTAKES)
def test_a_mistake_in_the_objective_is_found_before_anything_is_asked(name):
    pytest.importorskip("torch", reason="constants are read from the objectives' functions")
    keywords, message = OBJECTIVE_MISTAKES[name]
    roles = {**ROLES, "teacher": "world:teacher", "sampler": "openai:x?url=http://127.0.0.1:1/v1"}
    keywords = {key: "sampler" if value == "server" else value for key, value in keywords.items()}
    data = {
        "method": "sft",
        "roles": roles,
        "problems": "p.jsonl",
        "training": {"objective_config": keywords},
    }
    with pytest.raises(ConfigError) as caught:
        from_data(data)
    assert (
        f"training.objective_config.{message}" in caught.value.found
        or message in caught.value.found
    )


def test_values_of_the_objective_are_converted():
    pytest.importorskip("torch", reason="constants are read from the objectives' functions")
    keywords = {"objective": "jsd", "beta": "5e-1", "teacher": "teacher"}
    roles = {**ROLES, "teacher": "world:teacher"}
    data = {
        "method": "sft",
        "roles": roles,
        "problems": "p.jsonl",
        "training": {"objective_config": keywords},
    }
    [arm] = from_data(data, ["training.objective_config.rollout_temperature=010"]).arms.values()
    assert arm.training.objective_config == {
        "objective": "jsd",
        "beta": 0.5,
        "teacher": "teacher",
        "rollout_temperature": 10.0,
    }


def two_stages(problems, student, *, beta=0.1):
    """Two stages, the second with a constant that only the run knows."""
    student = yield Stage(student, problems, "sft", learning_rate=1e-4)
    yield Stage(student, problems, objective="jsd", beta=beta)


def test_the_stages_of_a_method_are_read_without_running_it():
    assert stage_calls(describe_method("two", two_stages)) == [
        StageCall("sft", {"learning_rate": 1e-4}, True),
        StageCall("jsd", {}, False),
    ]
    assert stage_calls(describe_method("none", eval("lambda problems: (yield)"))) == []


def test_options_of_a_model_are_checked_before_it_is_loaded():
    roles = {
        "teacher": "openai:x?url=http://127.0.0.1:1/v1&nn=2&n=two",
        "student": "transformers:x?dtyp=1",
    }
    with pytest.raises(ConfigError) as caught:
        from_data({"method": "sft", "roles": roles, "problems": "p.jsonl"})
    found = caught.value.found
    assert "roles.teacher: " in found and "unknown option 'nn' (nearest: n)" in found
    assert "n: expected a whole number, found 'two'" in found
    assert "roles.student: " in found and "unknown option 'dtyp' (nearest: dtype)" in found


def test_train_reads_the_same_values_as_a_recipe():
    pytest.importorskip("torch", reason="constants are read from the objectives' functions")
    settings, keywords = read_keywords(
        "dpo", ["lr=1e-4", "epochs=010", "beta=8e-1", "bf16=no", "training.seed=3"]
    )
    assert (settings.learning_rate, settings.num_train_epochs, settings.bf16, settings.seed) == (
        1e-4,
        10,
        False,
        3,
    )
    assert keywords == {"beta": 0.8}
    with pytest.raises(ConfigError) as caught:
        read_keywords("dpo", ["bta=1", "epochs=1:30", "seed"])
    assert caught.value.found.count("\n  - ") == 3


def test_the_recipes_of_the_page_are_read():
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text("utf-8")
    whole, arms, stages = page.split("```yaml\n")[1:]
    made = from_data(yaml.load(whole.split("```")[0], "the page", untyped=True))
    assert (made.limit, made.arms["orion"].values, made.budget.roles["teacher"].tokens) == (
        200,
        {"n": 4},
        2_000_000,
    )
    rest = {"roles": {**ROLES, "teacher": "world:teacher"}, "problems": "p.jsonl"}
    made = from_data(
        yaml.load(arms.split("```")[0], "the page", untyped=True) | rest, ["training.epochs=7"]
    )
    assert [arm.training.num_train_epochs for arm in made.arms.values()] == [7, 7]
    rest = {"method": "sft", "roles": ROLES, "problems": "p.jsonl"}
    data = yaml.load(stages.split("```")[0], "the page", untyped=True) | rest
    with pytest.raises(ConfigError, match="unknown setting or stage 'warm-up'"):
        from_data(data)  # a method with these stages is not among the built-in ones
    del data["training"]
    assert from_data(data).evaluate.stages
