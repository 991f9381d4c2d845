"""Prefixes: reasoning-gym, the Hugging Face hub, and what the caller adds."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import child
import pytest

from potstill import verifiers
from potstill.data import gym, problems
from potstill.errors import ConfigError, InputError
from potstill.records import Problem
from potstill.runs.sources import default_prompt
from potstill.verifiers.gym import ALPHABETS


def test_more_prefixes_come_from_the_caller() -> None:
    made = [Problem(str(n), f"{n}?", str(n), "story") for n in range(5)]
    asked = []
    loaded = problems.load(
        "world:total?size=5", extra={"world": lambda rest: asked.append(rest) or made}
    )
    assert (asked, loaded) == (["total?size=5"], made)
    assert len(problems.load("world:x", extra={"world": lambda rest: made}, limit=2)) == 2


def test_another_kind_than_the_made_problems_have_is_refused() -> None:
    made = [Problem("1", "1?", "1", "story")]
    extra = {"world": lambda rest, **limits: made}
    assert problems.load("world:x", extra=extra, kind="story") == made
    with pytest.raises(
        ConfigError, match="makes problems of kind story, which can't be judged as 'math'"
    ):
        problems.load("world:x", extra=extra, kind="math")


def test_an_unknown_prefix_and_an_empty_source_are_refused() -> None:
    with pytest.raises(InputError) as raised:
        problems.load("wrold:total", extra={"world": lambda rest: []})
    assert "world:…" in raised.value.available
    with pytest.raises(InputError, match="has no problems"):
        problems.load("world:total", extra={"world": lambda rest: []})


@pytest.mark.slow
def test_gym_items_are_the_same_for_a_seed_and_share_nothing_with_its_neighbour() -> None:
    pytest.importorskip("reasoning_gym")
    first, again, other = (
        problems.load("gym:number_sequence?size=40", seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert len(first) == 40
    assert not {p.id for p in first} & {p.id for p in other}
    assert len({p.question for p in first} & {p.question for p in other}) <= 2
    assert [p.question for p in problems.load("gym:number_sequence?size=10", seed=1)] == [
        p.question for p in first[:10]
    ]


def test_gym_seeds_of_neighbours_are_far_apart() -> None:
    seeds = sorted(gym.hash_seed("chain_sum", seed) for seed in range(200))
    assert min(b - a for a, b in pairwise(seeds)) > 1_000


@pytest.mark.slow
def test_gym_uses_the_scorer_where_the_task_has_one() -> None:
    pytest.importorskip("reasoning_gym")
    [plain] = problems.load("gym:gcd?size=1")
    [scored] = problems.load("gym:countdown?size=1&min_numbers=3&max_numbers=3")
    assert (plain.kind, scored.kind) == ("exact", "gym")
    assert scored.table is not None
    assert "size" not in json.loads(scored.table)["settings"]
    assert scored.answer is not None
    terms = f"0 + {scored.answer}".removeprefix("0 + ")
    texts = [
        f"Answer: {terms}",
        f"Answer: ({terms})",
        "Answer: 1",
        "",
        "I add some.\nThen I stop to think",
    ]
    found = verifiers.judge([(scored, text) for text in texts])
    assert [v.status for v in found] == ["right", "right", "wrong", "unparsed", "unparsed"]
    assert verifiers.check_gold([plain, scored]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "attack"),
    [
        ("countdown", "__import__('os').system('touch {file}')"),
        ("countdown", "open('{file}', 'w')"),
        ("puzzle24", "S('open' + '(...)')"),
        ("spiral_matrix", "[open('{file}', 'w')]"),
        ("simple_integration", "open('{file}', 'w')"),
        ("intermediate_integration", "x.func.mro"),
    ],
)
def test_gym_scorers_that_evaluate_are_given_no_code(
    tmp_path: Path, task: str, attack: str
) -> None:
    pytest.importorskip("reasoning_gym")
    [scored] = problems.load(f"gym:{task}?size=1")
    target = tmp_path / "made"
    [found] = verifiers.judge([(scored, f"Answer: {attack.format(file=target)}")])
    assert (found.status, found.reason) == (
        "unparsed",
        "no answer that this task's scorer can safely be given",
    )
    assert not target.exists()
    assert verifiers.check_gold([scored]) == []


@pytest.mark.slow
@pytest.mark.parametrize("text", ["```\n```", "\\boxed{}", "First\nthen", "$$\n$$"])
def test_an_answer_of_nothing_but_marks_is_unparsed(text: str) -> None:
    pytest.importorskip("reasoning_gym")
    [scored] = problems.load("gym:letter_jumble?size=1", kind="gym")
    [found] = verifiers.judge([(scored, text)])
    assert (found.status, found.reason) == ("unparsed", "no marked answer")


def test_gym_problems_ask_for_the_form_that_their_answers_are_read_in() -> None:
    assert "between <answer> and </answer>" in default_prompt("gym")


@pytest.mark.slow
def test_a_gym_task_that_makes_other_items_in_each_process_says_so() -> None:
    pytest.importorskip("reasoning_gym")
    loaded = problems.load("gym:gcd?size=2", kind="gym")
    other = dataclasses.replace(loaded[0], question=loaded[1].question)
    assert verifiers.check_gold(loaded) == []
    [(_, verdict)] = verifiers.check_gold([other])
    assert verdict.status == "unparsed"
    assert "makes another item in each process; judge it as --kind exact" in verdict.reason


@pytest.mark.slow
def test_every_gym_scorer_that_evaluates_is_known() -> None:
    package = Path(pytest.importorskip("reasoning_gym").__file__).parent
    evaluates = re.compile(
        r"(?<![\w.])(?:eval|exec|parse_expr|sympify)\((?:user_)?answer|sympy?\.parse_expr\(answer|sp\.parse_expr\(answer"
    )
    found = {path.stem for path in package.rglob("*.py") if evaluates.search(path.read_text())}
    assert found == set(ALPHABETS) - {"composite"}


def test_gym_errors_say_what_there_is() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(InputError) as raised:
        problems.load("gym:chian_sum")
    assert raised.value.nearest == ("chain_sum",)
    with pytest.raises(InputError) as raised:
        problems.load("gym:chain_sum?terms=3")
    assert "min_terms" in raised.value.available


def test_a_hub_dataset_that_cannot_be_had_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(InputError, match="ConnectionError: Couldn't reach the hub"):
        problems.load("hf:nobody/nothing:test")
    with pytest.raises(InputError, match="can't be read as a dataset"):
        problems.load("hf:nobody/nothing?split=test")


def test_hub_rows_become_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def local(*args: object, **options: object) -> object:
        asked.append((args, options))
        return datasets.Dataset.from_list([{"question": "1 + 1?", "answer": "so\n#### 2"}])

    monkeypatch.setattr(datasets, "load_dataset", local)
    [found] = problems.load("hf:openai/gsm8k:test?config=main")
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": None})]
    assert (found.answer, found.kind, found.source) == (
        "2",
        "number",
        "hf:openai/gsm8k:test?config=main",
    )


def test_loading_a_file_imports_no_optional_package(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"question": "a", "answer": 1}\n')
    code = (
        "import sys; from potstill.data import problems; problems.load(sys.argv[1]);"
        "print(sorted({'datasets', 'fsspec', 'pyarrow', 'reasoning_gym', 's3fs', 'torch', 'sympy'} & set(sys.modules)))"
    )
    out = child.run([sys.executable, "-c", code, tmp_path / "p.jsonl"])
    assert out.stdout.strip() == "[]"
