"""Prompts tried on the same problems: what they share is asked once, and the one with most sound texts is chosen."""

from __future__ import annotations

import json

import pytest
from scripted_world import number, student

from potstill.cli import main
from potstill.errors import ConfigError, StageError
from potstill.models.scripted import Rule, ScriptedModel
from potstill.runs import recipe as recipes
from potstill.runs.tune_prompts import REWRITES_FILE, TUNING_FILE, Scope, tune_prompts

pytestmark = (
    pytest.mark.slow
)  # thirteen prompts are thirteen arms in a store, with their Parquet files

PROBLEMS = [number(f"p{n}", f"What is {n} + 1?", str(n + 1)) for n in range(1, 8)]
FOLLOWS = r"Wrong attempts:\n\\boxed[^\n]*\n\nReference"  # one attempt, and the reference behind it


def answers(text: str) -> list[Rule]:
    """The text with each problem's number in the place of N."""
    rules = []
    for problem in PROBLEMS:
        told = text.replace("N", problem.problem.answer)
        rules.append(
            Rule((told,), pattern=problem.question.replace("+", r"\+").replace("?", r"\?"))
        )
    return rules


def cast() -> dict[str, ScriptedModel]:
    """A student that errs, and rewrites only where one attempt stands before the reference."""
    rewriting = [
        Rule(("Add one to it. \\boxed{" + str(n + 1) + "}",), pattern=f"(?s)is {n} . 1.*{FOLLOWS}")
        for n in range(1, 8)
    ]
    solving = [Rule(("It is \\boxed{8}.",), prompt=PROBLEMS[6].prompt)]
    erring = [Rule(("\\boxed{99}",), prompt=problem.prompt) for problem in PROBLEMS[:6]]
    return {
        "teacher": ScriptedModel(answers("So it is \\boxed{N}.")),
        "student": student([*erring, *solving, *rewriting, *answers("I keep saying \\boxed{99}.")]),
    }


def tune(out, models=None, method="orion", only=(), **values):
    settings = (
        {"n": 1, "settings": {"min_new_tokens": 1, "prompt": "paper"}} if method == "orion" else {}
    )
    recipe = recipes.from_data(
        {
            "method": method,
            "values": {**settings, **values},
            "roles": {"teacher": "world:teacher", "student": "world:student"},
            "problems": "python",
        },
        rows_only=True,
    )
    models = models or cast()
    return tune_prompts(recipe, out, Scope(7, only=only), models=models, problems=PROBLEMS), models


def test_the_prompt_with_the_most_sound_texts_is_chosen_and_the_folder_says_on_what(
    tmp_path,
) -> None:
    tuning, _ = tune(tmp_path)
    assert tuning.choice.name == "errors-first-one" and tuning.current == "paper"
    assert tuning.set_flags == ["--set", "settings.prompt=errors-first-one"]
    best, *others = tuning.choice.prompts
    assert best.share.value == 1 and best.outcome.statuses == {"sound": 6}
    paper = next(prompt for prompt in others if prompt.outcome.name == "paper")
    assert (paper.share.value, paper.outcome.statuses) == (0, {"wrong": 6})
    assert paper.difference.high < 0
    assert list(paper.outcome.reasons) == ["right: wrong"]
    assert any("more sound texts than paper" in sentence for sentence in tuning.choice.sentences)
    # The seventh problem was solved: with errors shown there was nothing to rewrite.
    assert len(tuning.choice.problems) == 6 and len(tuning.dev_problems) == 7
    assert all(prompt.outcome.is_control for prompt in tuning.choice.prompts[-3:])
    document = json.loads((tmp_path / TUNING_FILE).read_text())
    assert document["set"] == {"settings.prompt": "errors-first-one"}
    assert document["problems"] == list(tuning.dev_problems)
    lines = [json.loads(line) for line in (tmp_path / REWRITES_FILE).read_text().splitlines()]
    assert sum(line["status"] == "sound" for line in lines if line["prompt"] == "paper") == 0
    assert len(lines) == 10 * 6 + 3 * 7


def test_what_the_prompts_share_is_asked_once_and_a_second_call_asks_nobody(tmp_path) -> None:
    tuning, models = tune(tmp_path)
    assert len(models["teacher"].calls) == 7
    shared = [request for request in models["student"].calls if request.prompt.startswith("Solve:")]
    assert len(shared) == 7
    again, asked_again = tune(tmp_path)
    assert not asked_again["teacher"].calls and not asked_again["student"].calls
    assert again.to_json() == tuning.to_json()


def test_a_prompt_that_no_text_passes_is_an_outcome_and_a_method_without_errors_is_an_error(
    tmp_path,
) -> None:
    models = cast()
    models["student"] = student(answers("\\boxed{99}"))
    with pytest.raises(
        StageError, match="no prompt gave a sound text on 7 problems; paper: right: wrong"
    ):
        tune(tmp_path / "none", models)
    models = cast()
    models["student"] = student(answers("It is \\boxed{N}."))
    with pytest.raises(
        StageError, match="orion learns from errors, and none of 7 attempts is wrong"
    ):
        tune(tmp_path / "right", models)


def test_another_method_is_tuned_by_its_own_table(tmp_path) -> None:
    """LEMA's corrector follows one example; its rows are posed anew, and count for the text that they were made of."""
    fix = " Step 1\nExplanation: it is one more.\nCorrect solution:\nStep 1: So \\boxed{N}."
    label = "Original solution.*"
    one_example = f"(?s)^(?!.*{label * 3})(?=.*{label * 2})"
    fixes = []
    for rule, problem in zip(answers(fix), PROBLEMS, strict=True):
        question = problem.question.replace("+", r"\+").replace("?", r"\?")
        fixes.append(Rule(rule.answers, pattern=f"{one_example}.*{question}"))
    models = {
        "teacher": ScriptedModel([*fixes, *answers("So \\boxed{N}.")]),
        "student": student(answers("Step: \\boxed{99}")),
    }
    tuning, _ = tune(tmp_path, models, method="lema")
    assert tuning.choice.name == "one-example" and tuning.current == "four-examples"
    assert tuning.overrides == {"settings.examples": 1}
    assert {prompt.share.value for prompt in tuning.choice.prompts[1:]} == {0.0}
    assert any("none of" in note for note in tuning.notes)


def test_a_method_without_prompts_says_which_have_some(tmp_path) -> None:
    with pytest.raises(ConfigError, match="sft declares no prompts") as caught:
        tune(tmp_path, method="sft")
    assert caught.value.available == ("lema", "orion")


def test_the_command_prints_the_choice_and_writes_it_into_the_recipe(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    problems = [
        {"question": "Add 2 and 3.", "answer": "5"},
        {"question": "Add 4 and 5.", "answer": "9"},
    ]
    lines = [json.dumps(problem) + "\n" for problem in problems]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    (tmp_path / "teacher.json").write_text(
        json.dumps(
            [
                {"pattern": "2 and 3", "answers": ["\\boxed{5}"]},
                {"pattern": "4 and 5", "answers": ["\\boxed{9}"]},
            ]
        )
    )
    right = [
        {"pattern": "(?s)A right solution.*2 and 3", "answers": ["So \\boxed{5}."]},
        {"pattern": "(?s)A right solution.*4 and 5", "answers": ["So \\boxed{9}."]},
    ]
    (tmp_path / "student.json").write_text(
        json.dumps([*right, {"pattern": "", "answers": ["\\boxed{1}"]}])
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "method: orion  # the heart\nproblems: train.jsonl\nkind: number\n"
        "roles: {teacher: 'scripted:teacher.json', student: 'scripted:student.json'}\n"
        "values:\n  n: 1  # one attempt\n  settings: {min_new_tokens: 1}\n"
    )
    words = ["tune-prompts", "recipe.yaml", "--write", "--quiet", "--out", "tuned"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["choice"] == "solve-last" and document["written"] == ["recipe.yaml"]
    assert "settings: {prompt: solve-last, min_new_tokens: 1}" in recipe.read_text()
    assert "# the heart" in recipe.read_text() and "# one attempt" in recipe.read_text()
    # The recipe's own prompt is now the chosen one; the store answers.
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "solve-last (chosen)" in printed and "--set settings.prompt=solve-last" in printed


def test_some_prompts_may_be_named_and_must_be_there(tmp_path) -> None:
    tuning, _ = tune(tmp_path, only=("plain", "errors-first-one", "no-attempts-paper"))
    assert [prompt.outcome.name for prompt in tuning.choice.prompts] == [
        "errors-first-one",
        "plain",
        "no-attempts-paper",
    ]
    with pytest.raises(ConfigError, match="no prompt 'plane'"):
        tune(tmp_path / "other", only=("plane", "paper"))
    with pytest.raises(ConfigError, match="1 prompts to choose from: paper"):
        tune(tmp_path / "other", only=("paper",))
