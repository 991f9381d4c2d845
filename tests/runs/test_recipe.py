"""A recipe binds its values to the code, or says everything that is wrong with it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.methods import METHODS
from potstill.methods.errors.orion.settings import Settings
from potstill.models.model import Sampling
from potstill.runs.recipe import Arm, Recipe, from_data, from_file
from potstill.training.settings import LoraSettings, TrainingSettings

ROLES = {"teacher": "world:teacher", "student": "world:student"}
BASE: dict[str, Any] = {"method": "sft", "roles": ROLES, "problems": "world:story"}
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def mistakes(data: Any, *sets: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_data(data, sets)
    first, *lines = caught.value.found.split("\n")
    assert first == f"the recipe has {len(lines)} mistake(s):"
    return [line.removeprefix("  - ") for line in lines]


def test_the_smallest_recipe_has_the_defaults():
    made = from_data(BASE)
    assert made == Recipe(
        arms={"sft": Arm("sft", {}, TrainingSettings())}, roles=ROLES, problems="world:story"
    )
    assert (made.seed, made.limit, made.overlap, made.evaluate.problems, made.evaluate.n) == (
        0,
        0,
        "stop",
        "",
        4,
    )


def test_everything_is_converted_to_what_the_code_takes():
    made = from_data(
        {
            **BASE,
            "method": "orion",
            "values": {
                "n": 3,
                "arm": "none",
                "steps": True,
                "settings": {"attempts_per_prompt": 2, "reflection_sampling": {"temperature": 0.1}},
            },
            "training": {
                "lr": 1,
                "max_steps": 5,
                "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
                "bf16": None,
            },
            "evaluate": {
                "problems": "world:story?split=test",
                "n": 2,
                "sampling": {"temperature": 0, "stop": ["x"]},
            },
            "mapping": {"answer": "gold"},
            "overlap": "drop",
        }
    )
    [arm] = made.arms.values()
    assert arm.values == {
        "n": 3,
        "arm": "none",
        "steps": True,
        "settings": Settings(attempts_per_prompt=2, reflection_sampling=(("temperature", 0.1),)),
    }
    assert arm.training == TrainingSettings(
        learning_rate=1.0, max_steps=5, lora=LoraSettings(r=4, target_modules=("q_proj", "v_proj"))
    )
    assert isinstance(arm.training.learning_rate, float)
    assert made.evaluate.sampling == Sampling(temperature=0.0, stop=("x",))
    assert made.mapping == {"answer": "gold"} and made.overlap == "drop"


def test_arms_share_values_and_training_and_override_them():
    made = from_data(
        {
            "roles": ROLES,
            "problems": "p.jsonl",
            "values": {"n": 2},
            "training": {"epochs": 2, "lr": 0.1},
            "arms": {
                "sft": None,
                "twice": {"method": "sft", "values": {"n": 8}, "training": {"epochs": 4}},
            },
        }
    )
    assert made.arms == {
        "sft": Arm("sft", {"n": 2}, TrainingSettings(num_train_epochs=2, learning_rate=0.1)),
        "twice": Arm("sft", {"n": 8}, TrainingSettings(num_train_epochs=4, learning_rate=0.1)),
    }


def test_all_mistakes_are_told_at_once():
    found = mistakes(
        {
            "method": "orion",
            "roles": {"techer": "world:teacher", "student": 5},
            "values": {
                "nn": 1,
                "n": "many",
                "arm": "owm",
                "settings": {"resample": 1, "attempts_per_prompt": 1.5},
            },
            "training": {"learning_rte": 1, "epochs": "x", "optimizer": "sgd"},
            "evaluate": {"n": True, "sampling": {"temperatur": 1}},
            "seed": "zero",
            "colour": "red",
        },
        "limit",
        "problems.x.y=[",
    )
    assert [line.split("; available")[0] for line in found] == [
        "--set limit: expected key=value",
        "values.nn: unknown parameter 'nn' (nearest: values.n)",
        "values.n: expected a whole number, found 'many'",
        "values.arm: expected one of 'own', 'none', 'shuffled', 'errors-only', 'no-rewriting', 'teacher-refines', "
        "'on-policy', 'on-policy-none', 'on-policy-shuffled', found 'owm'",
        "values.settings.resample: unknown setting 'resample' (nearest: values.settings.resamples)",
        "values.settings.attempts_per_prompt: expected a whole number, found 1.5",
        "training.learning_rte: unknown setting 'learning_rte' (nearest: training.learning_rate)",
        "training.epochs: expected a whole number, found 'x'",
        "training.optimizer: expected one of 'adamw', 'muon', found 'sgd'",
        "colour: unknown setting 'colour'",
        "roles.student: expected text, found 5",
        "--set problems.x.y=[: problems: expected text, found {'x': {'y': '['}}",
        "evaluate.n: expected a whole number, found True",
        "evaluate.sampling.temperatur: unknown setting 'temperatur' (nearest: evaluate.sampling.temperature)",
        "seed: expected a whole number, found 'zero'",
        "roles.techer: unknown role 'techer' (nearest: roles.teacher)",
        "role 'teacher' of orion has no model (--teacher world:teacher, transformers:PATH, …)",
    ]
    assert found[1].endswith("; available: n, arm, steps, gate, settings")


def test_a_recipe_without_anything_names_what_is_missing():
    found = mistakes({})
    assert found[0] == f"method: unknown method ''; available: {', '.join(METHODS)}"
    assert found[1] == "problems: none given (a file, hf:NAME, gym:TASK or world:TASK)"
    assert len(found) == 2


def test_missing_and_unknown_roles():
    found = mistakes({**BASE, "roles": {"student": "world:student"}})
    assert found == [
        "role 'teacher' of sft has no model (--teacher world:teacher, transformers:PATH, …)"
    ]
    (found,) = mistakes({**BASE, "roles": {**ROLES, "samplr": "x:y"}})
    listed = found.removeprefix(
        "roles.samplr: unknown role 'samplr' (nearest: roles.sampler); available: "
    )
    assert {"judge", "sampler", "student", "teacher"} <= set(listed.split(", "))
    assert from_data({**BASE, "method": "rft", "roles": {"student": "world:student"}}).roles == {
        "student": "world:student"
    }


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"arms": ["sft", "rft"]}, "arms: expected a mapping, found ['sft', 'rft']"),
        ({"arms": {"sft": 5}}, "arms.sft: expected a mapping, found 5"),
        ({"values": [1]}, "values: expected a mapping, found [1]"),
        ({"training": "fast"}, "training: expected a mapping, found 'fast'"),
        ({"arms": {"sft": {"values": 3}}}, "arms.sft.values: expected a mapping, found 3"),
        (
            {"arms": {"sft": {"lr": 3}}},
            "arms.sft.lr: unknown key 'lr'; available: method, values, training",
        ),
        ({"evaluate": 3}, "evaluate: expected a mapping, found 3"),
        (
            {"method": "stf"},
            f"method: unknown method 'stf' (nearest: sft); available: {', '.join(METHODS)}",
        ),
        ({"arms": {"../../x": {"method": "sft"}}}, None),
        ({"arms": {"a/b": {"method": "sft"}}}, None),
        ({"training": {"batch_size": 0}}, None),
    ],
)
def test_odd_shapes_are_mistakes_not_crashes(part, told):
    found = mistakes({**BASE, **part})
    if told:
        assert found == [told]
    else:
        assert len(found) == 1


@pytest.mark.parametrize(
    ("setting", "where", "value"),
    [
        ("n=7", lambda r: r.arms["sft"].values["n"], 7),
        ("values.n=7", lambda r: r.arms["sft"].values["n"], 7),
        ("temperature=1e-1", lambda r: r.arms["sft"].values["temperature"], 0.1),
        ("training.learning_rate=5e-5", lambda r: r.arms["sft"].training.learning_rate, 5e-5),
        ("training.lora.r=8", lambda r: r.arms["sft"].training.lora, LoraSettings(r=8)),
        ("seed=3", lambda r: r.seed, 3),
        ("evaluate.sampling.top_k=5", lambda r: r.evaluate.sampling.top_k, 5),
        ("roles.teacher=scripted:a=b.json", lambda r: r.roles["teacher"], "scripted:a=b.json"),
        ("problems=world:story?size=9", lambda r: r.problems, "world:story?size=9"),
        ("arms.sft.values.n=9", lambda r: r.arms["sft"].values["n"], 9),
    ],
)
def test_set_reaches_every_part_and_a_bare_key_is_a_value_of_the_method(setting, where, value):
    data = {**BASE, "arms": {"sft": {"values": {}}}} if setting.startswith("arms") else BASE
    assert where(from_data(data, [setting])) == value


def test_set_of_an_arm_that_is_not_there_is_refused_unless_it_is_added_by_its_method():
    assert mistakes(BASE, "arms.sft.values.n=5") == [
        "--set arms.sft.values.n=5: the recipe has no arms; write values.n=…"
    ]
    data = {**BASE, "arms": {"sft": {}}}
    (message,) = mistakes(data, "arms.stf.values.n=5")
    assert "unknown arm 'stf' (nearest: arms.sft)" in message
    added = from_data(data, ["arms.two.values.n=5", "arms.two.method=sft"])
    assert list(added.arms) == ["sft", "two"] and added.arms["two"].values["n"] == 5


def test_a_world_model_that_there_is_not_is_a_mistake_of_the_recipe():
    (message,) = mistakes({**BASE, "roles": {**ROLES, "student": "world:studnet"}})
    assert "roles.student: unknown world model 'studnet' (nearest: student)" in message


def test_options_of_the_oracle_are_part_of_a_recipe():
    oracle = {**ROLES, "teacher": "world:oracle?slip_rate=0.4"}
    assert from_data({**BASE, "roles": oracle}).roles["teacher"] == "world:oracle?slip_rate=0.4"
    (message,) = mistakes({**BASE, "roles": {**ROLES, "teacher": "world:oracle?slip_rate=4"}})
    assert "slip_rate" in message and "from 0 to 1" in message


def test_set_leaves_the_data_as_it_was_and_later_ones_win():
    data = {**BASE, "training": {"lora": {"r": 2}}, "roles": dict(ROLES)}
    before = json.dumps(data)
    made = from_data(data, ["training.lora.r=4", "training.lora.r=8", "roles.student=a:b"])
    assert made.arms["sft"].training.lora == LoraSettings(r=8) and made.roles["student"] == "a:b"
    assert json.dumps(data) == before
    assert mistakes(data, "training.lora.r.x=1")[0].endswith(
        "training.lora.r is given as a value too (2)"
    )


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["n", "lr", "sft", "x", "k"]), inner)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "method",
        "arms",
        "roles",
        "values",
        "training",
        "evaluate",
        "problems",
        "seed",
        "mapping",
        "overlap",
        "zz",
    ]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(st.dictionaries(KEYS, JUNK))
def test_no_data_makes_it_crash(junk):
    try:
        from_data({**BASE, **junk})
    except ConfigError as error:
        assert "mistake(s)" in error.found


def test_files_are_read_and_bad_ones_explained(tmp_path):
    good = tmp_path / "r.yaml"
    good.write_text(yaml.safe_dump(BASE))
    assert from_file(good, ["n=2"]) == from_data(BASE, ["n=2"])
    for name, content, told in (
        ("none.yaml", None, "no recipe at"),
        ("bad.yaml", b"a: [", "not YAML"),
        ("latin.yaml", b"a: \xe9", "is not YAML"),
        ("list.yaml", b"- a", "holds list"),
        ("empty.yaml", b"", "is empty"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            from_file(path)
    with pytest.raises(ConfigError, match="can't be read"):
        from_file(tmp_path)


def test_the_arm_to_compare_must_be_there_and_decides_no_result():
    found = mistakes({**BASE, "compare": "orion"})
    assert found == ["compare: unknown arm 'orion'; available: sft"]
    assert "compare" not in from_data({**BASE, "compare": "sft"}).to_json()


def test_a_recipe_saved_beside_its_results_is_plain_data():
    made = from_data(
        {
            **BASE,
            "method": "orion",
            "values": {"settings": {"attempts_per_prompt": 1}},
            "training": {"lora": {}},
        }
    )
    assert (
        json.loads(json.dumps(made.to_json()))["arms"]["orion"]["values"]["settings"][
            "attempts_per_prompt"
        ]
        == 1
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_shipped_recipes_bind(path):
    made = from_file(path)
    assert made.arms and made.problems


def test_mistakes_in_a_file_are_told_with_its_lines(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "method: sft\nproblems: world:story\nroles: {teacher: world:teacher, student: world:student}\n"
        "values:\n  n: two\ntraining:\n  lr: fast\n  epoch: 3\nbudget: {run: 5usd}\nfoo: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        from_file(path, ["limit=x"])
    first, *rest = caught.value.found.split("\n")
    assert first == f"{path} has 6 mistake(s):"
    starts = sorted(line.removeprefix("  - ").split(";")[0] for line in rest)
    assert starts == [
        "--set limit=x: limit: expected a whole number, found 'x'",
        "line 10: foo: unknown setting 'foo'",
        "line 5: values.n: expected a whole number, found 'two'",
        "line 7: training.lr: expected a number, found 'fast'",
        "line 8: training.epoch: unknown setting 'epoch' (nearest: training.epochs)",
        "line 9: budget.run: unknown setting 'run'",
    ]
    assert caught.value.fix == "potstill methods sft"


def test_a_key_that_stands_in_several_places_has_the_line_of_each(tmp_path):
    path = tmp_path / "r.yaml"
    arms = "arms:\n  a: {method: sft, values: {k: 1}}\n  b: {method: sft, values: {k: 2}}\n"
    path.write_text(f"{arms}problems: world:story\nroles: {{teacher: a, student: b}}\n")
    with pytest.raises(ConfigError) as caught:
        from_file(path)
    assert "- line 2: arms.a.values.k: unknown parameter 'k'" in caught.value.found
    assert "- line 3: arms.b.values.k: unknown parameter 'k'" in caught.value.found


@pytest.mark.parametrize(
    ("sets", "key"),
    [
        (["training.lr=1", "training.learning_rate=2"], "training.learning_rate"),
        (["training={lr: 1}", "training.learning_rate=2"], "training.learning_rate"),
        (["training.epochs=1", "training.num_train_epochs=2"], "training.num_train_epochs"),
    ],
)
def test_two_values_under_both_names_of_a_setting_are_a_mistake(sets: list[str], key: str) -> None:
    first, second = (f"--set {text}" for text in sets)
    assert f"{first} and {second} give {key} two values; give one" in mistakes(BASE, *sets)


def test_one_arm_may_differ_from_all_on_the_command_line() -> None:
    data = {**BASE, "arms": {"sft": {}, "rft": {}}}
    made = from_data(data, ["training.lr=1", "arms.rft.training.learning_rate=2"])
    assert [made.arms[name].training.learning_rate for name in ("sft", "rft")] == [1, 2]
