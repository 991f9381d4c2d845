"""`methods`, `world`, and the recipe that `quickstart` and `run` make."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from potstill.cli import methods, quickstart, world
from potstill.cli.options import Parser
from potstill.cli.run import add_arguments, read_recipe
from potstill.methods import METHODS
from potstill.runs.recipe import from_data


def test_families_as_json(potstill) -> None:
    families = {family["name"]: family for family in potstill("methods", "--json").json["families"]}
    assert "orion" in families["errors"]["methods"] and families["chains"]["begin_with"] == "sft"
    listed = potstill("methods", "--search", "", "--json").json
    assert [method["name"] for method in listed] == list(METHODS)


def test_a_method_as_json(potstill) -> None:
    orion = potstill("methods", "orion", "--json").json
    assert [role["name"] for role in orion["roles"]] == ["teacher", "student"]
    assert orion["family"] == "errors" and orion["exactness"] == "partial"
    assert orion["rehearsal"]["calls"]["teacher"] == 1 and orion["bibtex"].startswith(
        "@misc{orion2025"
    )
    assert {control["name"] for control in orion["controls"]} >= {"arm=none", "arm=shuffled"}
    parameters = {value["name"]: value for value in orion["parameters"]}
    assert parameters["n"]["default"] == 5 and parameters["n"]["help"]


def test_methods_for_people(potstill) -> None:
    families = potstill("methods").out
    assert "begin with" in families and "Wrong attempts" in families
    assert "2505.22131" in potstill("methods", "errors").out
    sft = potstill("methods", "sft").out
    assert "siblings: " in sft and ", rft, sft_gold" in sft
    assert "cost class: low" in sft and "archivePrefix = {arXiv}" in sft
    assert "the learner sees, in 100 % of the rows:" in sft and "teacher is shown" in sft
    told = potstill("methods", "orion").out
    assert "settings.duplicate_jaccard" in told and "0.7" in told and "arm=no-rewriting" in told
    failed = potstill("methods", "orin")
    assert failed.code == 2 and "nearest:   orion" in failed.err


def test_methods_by_roles_and_words(potstill) -> None:
    assert "orion" not in potstill("methods", "--needs", "student").out
    listed = potstill("methods", "chains", "--needs", "student", "--json").json
    assert [method["name"] for method in listed] == ["rft", "sft_gold"]
    assert "no method speaks of: quantum" in potstill("methods", "--search", "quantum").out
    assert "what goes wrong" in potstill("methods", "--search", "which method should I use").out
    failed = potstill("methods", "--needs", "teahcer")
    assert failed.code == 2 and "nearest:   teacher" in failed.err
    assert "orion is no family" in potstill("methods", "orion", "--search", "x").err


def test_world_problems(potstill) -> None:
    found = potstill("world", "problems", "story", "--size", "3", "--json").json
    assert len(found) == 3 and {p["kind"] for p in found} == {"story"}
    assert found[0]["question"] in potstill("world", "problems", "--size", "1").out
    [walk] = potstill("world", "problems", "walk", "--size", "1", "--json").json
    assert walk["kind"] == "walk" and "faces" in walk["question"]
    failed = potstill("world", "problems", "stori")
    assert failed.code == 2 and "nearest:   story" in failed.err


def test_world_info_reads_headers(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, potstill
) -> None:
    from potstill.models.local.transformers import TransformersModel

    (tmp_path / "student").symlink_to(bench / "tiny")
    monkeypatch.setattr(world, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(world, "BUILD_RECORD", tmp_path / "build.json")
    check = {
        "rewriting": {"own": {"traces": 40, "right": 0.5}},
        "differences": {"own - none (steps)": [2.5, -1.0, 6.0]},
    }
    (tmp_path / "build.json").write_text(json.dumps({"story": check}))
    teacher, student, *_ = potstill("world", "info", "--json").json["checkpoints"]
    assert teacher["parameters"] is None
    assert student["parameters"] == sum(
        p.numel() for p in TransformersModel(bench / "tiny").model.parameters()
    )
    assert student["context"] == 128
    told = potstill("world", "info").out
    assert "world:teacher is missing: potstill world build teacher" in told
    assert "own errors" in told and "50.0 %" in told and "+2.5 [-1.0, +6.0]" in told


def test_quickstart_is_a_sound_recipe() -> None:
    made = from_data(quickstart.recipe_data(300, 200, 4, 7))
    assert list(made.arms) == ["sft", "rft", "orion", "orion-no-errors", "orion-shuffled"]
    assert all(arm.values["steps"] is True for arm in made.arms.values())
    assert {arm.training.optimizer for arm in made.arms.values()} == {"muon"}
    assert made.problems == "world:story?split=train&size=300" and made.seed == 7
    assert made.evaluate.problems == "world:story?split=test&size=200" and made.overlap_n == 0


def test_the_walks_are_the_same_recipe_with_fewer_arms() -> None:
    stories = from_data(quickstart.recipe_data(150, 100, 4, 7))
    walks = from_data(quickstart.recipe_data(150, 100, 4, 7, family="walk"))
    assert list(walks.arms) == ["sft", "rft", "orion", "orion-no-errors"]
    for name, arm in walks.arms.items():
        assert (
            arm.training == stories.arms[name].training and arm.method == stories.arms[name].method
        )
    assert walks.arms["orion"].values["gate"].min_step_share == 0.25
    assert walks.roles == {"teacher": "world:walk-teacher", "student": "world:walk-student"}
    assert walks.problems == "world:walk?split=train&size=150"
    settings = ["n=3", "arms.orion-shuffled.training.seed=1", "arms.orion.training.seed=2"]
    assert quickstart.settings_of_family(settings, "story") == settings
    assert quickstart.settings_of_family(settings, "walk") == [settings[0], settings[2]]


@pytest.mark.parametrize("family", quickstart.FAMILIES)
def test_quickstart_problems_do_not_overlap(family) -> None:
    from potstill.runs.sources import load_problems

    train = {p.question for p in load_problems(f"world:{family}?split=train&size=300")}
    test = {p.question for p in load_problems(f"world:{family}?split=test&size=200")}
    assert (len(train), len(test), len(train & test)) == (300, 200, 0)


def flags(*words: str) -> argparse.Namespace:
    parser = Parser(prog="potstill run")
    add_arguments(parser)
    return parser.parse_args(list(words))


def test_flags_become_a_recipe() -> None:
    words = "sft --problems a.jsonl --teacher recorded:no --student transformers:1e3 --set n=3 --set training.lr=1e-4"
    more = "--limit 5 --evaluate b.jsonl --eval-n 2 --overlap drop --map answer=gold"
    made = read_recipe(flags(*words.split(), *more.split(), "--prompt", "{question} Think: no."))
    arm = made.arms["sft"]
    assert (arm.method, dict(arm.values), arm.training.learning_rate) == ("sft", {"n": 3}, 1e-4)
    assert made.roles == {"teacher": "recorded:no", "student": "transformers:1e3"}
    assert (made.problems, made.limit, made.overlap, dict(made.mapping)) == (
        "a.jsonl",
        5,
        "drop",
        {"answer": "gold"},
    )
    assert (made.evaluate.problems, made.evaluate.n) == ("b.jsonl", 2)
    assert made.prompt == "{question} Think: no."


def test_flags_go_over_a_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "method: rft\nproblems: a.jsonl\nseed: 3\nroles: {student: 'world:student'}\nvalues: {n: 8}\n"
    )
    made = read_recipe(
        flags(
            str(file),
            "--problems",
            "b.jsonl",
            "--set",
            "temperature=0.5",
            "--role",
            "sampler=world:teacher",
        )
    )
    assert (made.problems, made.seed) == ("b.jsonl", 3)
    assert made.arms["rft"].values == {"n": 8, "temperature": 0.5}
    assert made.roles == {"student": "world:student", "sampler": "world:teacher"}


def test_quickstart_settings_reach_all_arms_or_one() -> None:
    made = from_data(
        quickstart.recipe_data(30, 20, 2, 5),
        ["steps=false", "arms.orion.training.learning_rate=0.5"],
    )
    assert {arm.values["steps"] for arm in made.arms.values()} == {False}
    assert made.arms["orion"].training.learning_rate == 0.5
    assert (
        made.arms["rft"].training.learning_rate
        == quickstart.ARMS["rft"]["training"]["learning_rate"]
    )
    assert {arm.training.seed for arm in made.arms.values()} == {5}


def test_a_long_prompt_is_shown_from_both_ends() -> None:
    short = "\n".join(str(number) for number in range(methods.SHOWN_LINES))
    assert methods._shorten(short) == short
    lines = methods._shorten("\n".join(str(number) for number in range(100))).split("\n")
    assert (lines[0], lines[12], lines[-1]) == ("0", "… 76 lines …", "99")
