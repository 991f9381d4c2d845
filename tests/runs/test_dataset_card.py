"""The dataset card: what is known and what is not, and nothing that a model or a key could leave in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from potstill.cli import export, main
from potstill.errors import ConfigError
from potstill.records import Author, Problem, Trace, Verdict
from potstill.runs import dataset_card
from potstill.runs.dataset_card import Card

QUESTIONS = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(6)]


def trace(text: str = "2", author: str = "m", **more: Any) -> Trace:
    problem = Problem("p", "1 + 1?", "2", "number", source="train.jsonl")
    return Trace(
        problem, "1 + 1?", text, finish_reason="stop", author=Author(author, "", (), 0), **more
    )


def card(**more: Any) -> Card:
    known: dict[str, Any] = {
        "rows": [trace()],
        "layout": "trl",
        "file": "train.jsonl",
        "command": "potstill export x",
    }
    return Card(**{**known, **more})


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A finished run of sft with a scripted teacher that is right on half of the problems; only read it."""
    folder = tmp_path_factory.mktemp("cards")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    (folder / "LICENSE").write_text("MIT License\n\nCopyright\n")
    answers = [
        {"pattern": f"is {n} and", "answers": [f"\\boxed{{{2 * n if n % 2 else 0}}}"]}
        for n in range(1, 6)
    ]
    (folder / "teacher.json").write_text(
        json.dumps([*answers, {"pattern": "", "answers": ["No <b>idea</b> | ![x](http://x)"]}])
    )
    words = [
        "run",
        "sft",
        "--problems",
        f"{folder}/train.jsonl",
        "--teacher",
        f"scripted:{folder}/teacher.json",
    ]
    words += [
        "--student",
        f"transformers:{tiny_checkpoint}",
        "--out",
        f"{folder}/run",
        "--quiet",
        "--threads",
        "1",
    ]
    assert (
        main([*words, "--set", "training.max_steps=1", "--set", "training.max_dropped_share=1.0"])
        == 0
    )
    return folder / "run"


def exported(run: Path, folder: Path, *more: str) -> str:
    assert (
        main(
            [
                "export",
                str(run),
                "--arm",
                "sft",
                "--format",
                "trl",
                "--out",
                str(folder / "data"),
                *more,
            ]
        )
        == 0
    )
    return (folder / "data" / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_card_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = exported(run, tmp_path)
    rows = (tmp_path / "data" / "train.jsonl").read_text().splitlines()
    assert len(rows) == 3
    assert front(text)["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}
    ]
    assert front(text)["license"] == "unknown" and front(text)["size_categories"] == ["n<1K"]
    assert "- method: `sft` (Teacher SFT: the student learns the teacher's right chains" in text
    assert "[arXiv:2505.22131](https://arxiv.org/abs/2505.22131)" in text
    assert re.search(r"- teacher: scripted:teacher.json \(id scripted-[0-9a-f]{20}\)", text)
    assert re.search(r"- written by scripted-[0-9a-f]{20} \(teacher\): 3 rows", text)
    assert "| train.jsonl | MIT License \\(LICENSE beside the file\\) |" in text
    assert (
        "| rows | 3 |" in text
        and "| judged right | 3 |" in text
        and "| writer saw the gold answer | 0 |" in text
    )
    assert re.search(r"\| keep \| right \| 6 \| 3 \|", text)
    left_out = text.split("## Left out")[1].split("##")[0]
    assert sum(int(count) for count in re.findall(r"\| (\d+) \|$", left_out, re.MULTILINE)) == 3
    assert re.search(r"fingerprint of the rows \| export-[0-9a-f]{20}", text)
    assert re.search(r"fingerprint of the run \| manifest-[0-9a-f]{20}", text)
    assert "potstill export run --arm sft --format trl --out data" in text
    assert (
        str(run.parent) not in text and "http://x" not in text
    )  # no folder of this machine, no link of a model


@pytest.mark.slow
def test_the_recipe_in_the_card_makes_the_same_rows(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = exported(run, tmp_path)
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    monkeypatch.chdir(run.parent)
    student = Path(
        json.loads((run / "manifest.json").read_text())["settings"]["roles"]["student"].split(":")[
            1
        ]
    )
    recipe["roles"]["student"] = (
        f"transformers:{student}"  # the card knows its name, not where it lies
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert (
        main(["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "again"), "--quiet"])
        == 0
    )
    again = exported(tmp_path / "again", tmp_path / "b")
    prints = [re.findall(r"export-[0-9a-f]{20}", said) for said in (text, again)]
    assert prints[0] == prints[1] and prints[0]


def test_a_licence_of_a_source_that_no_row_has_is_refused() -> None:
    licences = export._read_licences(["world:story?size=8=mit", "data/train.jsonl=cc0-1.0"])
    assert licences == {"world:story?size=8": "mit", "data/train.jsonl": "cc0-1.0"}
    export._check_licences(licences, {"world:story?size=8", "train.jsonl"})
    with pytest.raises(ConfigError, match=r"do not come from 'data/train\.jsonl'"):
        export._check_licences(licences, {"world:story?size=8"})
    with pytest.raises(ConfigError, match="--licence mit"):
        export._read_licences(["mit"])


def test_licences_are_given_known_or_unknown(tmp_path: Path) -> None:
    assert dataset_card.find_licence("hf:openai/gsm8k/main:train", {}) == "mit"
    assert dataset_card.find_licence("hf:open-thoughts/OpenThoughts-114k", {}) == "apache-2.0"
    assert dataset_card.find_licence("hf:somebody/something", {}) == dataset_card.UNKNOWN
    assert dataset_card.find_licence("train.jsonl", {"train.jsonl": "cc-by-4.0"}) == "cc-by-4.0"
    assert (
        dataset_card.find_licence(str(tmp_path / "train.jsonl"), {"train.jsonl": "cc0-1.0"})
        == "cc0-1.0"
    )
    assert dataset_card.find_licence(str(tmp_path / "train.jsonl"), {}) == dataset_card.UNKNOWN
    assert dataset_card.find_licence("world:story", {}) == "apache-2.0"
    assert front(dataset_card.render_card(card(sources={"a": "mit"})))["license"] == "mit"
    assert (
        front(dataset_card.render_card(card(sources={"a": "mit", "b": dataset_card.UNKNOWN})))[
            "license"
        ]
        == "unknown"
    )
    assert (
        front(dataset_card.render_card(card(sources={"a": "mit\nx: !!python/object"})))["license"]
        == "unknown"
    )


@pytest.mark.slow
def test_rejects_are_told_by_the_kind_of_their_reason(run: Path, tmp_path: Path) -> None:
    assert (
        len({dataset_card.reason_kind(f"{n} is not {n + 1} (boxed)") for n in range(9)}) == 9
    )  # there is nothing before it
    assert {dataset_card.reason_kind(f"wrong: {n} is not {n + 1}") for n in range(9)} == {"wrong"}
    assert {dataset_card.reason_kind(f"shorter than {n} words") for n in (8, 1.5, -3)} == {
        "shorter than"
    }
    assert {
        dataset_card.reason_kind(f"says {q}, isn't it") for q in ('"yes"', "'no'", "`maybe`")
    } == {"says"}
    assert dataset_card.reason_kind("isn't one of math@2's") == "isn't one of math@2's"
    assert dataset_card.reason_kind(f"the same as trace-{'0a' * 10}") == "the same as another trace"
    left_out = exported(run, tmp_path).split("## Left out")[1].split("##")[0]
    assert re.findall(r"\| ([^|]*) \| (\d+) \|$", left_out, re.MULTILINE) == [
        ("wrong", "2"),
        ("unparsed", "1"),
    ]


HOSTILE = "x|y\n# Head\n<script>alert(1)</script> [l](http://e.x) ![i](//e) `c` ``` \x1b[31m\u202e --- {{ $x$ }}"


def test_what_models_and_files_wrote_is_no_markup() -> None:
    rows = [trace(author=HOSTILE, verdict=Verdict("right"))]
    rejects = {("keep", HOSTILE, HOSTILE): 2}
    recipe = {
        "problems": "p",
        "roles": {"teacher": "x"},
        "prompt": "``` \x1b]0;x\x07 ````\n# no head {question}",
    }
    text = dataset_card.render_card(
        card(
            rows=rows,
            sources={HOSTILE: HOSTILE},
            rejects=rejects,
            steps=[("keep", HOSTILE, 2, 1)],
            recipe=recipe,
        )
    )
    assert (
        "<script" not in text
        and "http://e.x" not in text
        and "\x1b" not in text
        and "\u202e" not in text
    )
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)
    assert not re.search(r"(?<!\\)[\[\]`]", re.sub(r"`(?:trl|recipe.yaml)`", "", outside)), outside
    assert [line for line in outside.splitlines() if line.startswith("#")] == [
        "# Recorded answers",
        "## How it was made",
        "## What the learner sees",
        "## Sources",
        "## Counts",
        "## From problems to rows",
        "## Left out",
        "## To make it again",
    ]
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {3, 5}
    assert front(text)["tags"] == ["potstill", "distillation", "reasoning"]


def test_no_secret_reaches_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "a-very-odd-secret-value")
    told = ["a-very-odd-secret-value", "sk-abcdefghijklmnop1234", "hf_ABCDEFGHIJKLMNOPQRST"]
    roles = {
        "teacher": f"openai:m?url=http://user:hunter22@host/v1&x={told[0]}",
        "student": f"openai:{told[1]}",
    }
    text = dataset_card.render_card(
        card(roles=roles, recipe={"roles": roles, "prompt": told[2]}, command=f"x {told[1]}")
    )
    assert "[secret]" in text
    assert not [
        secret
        for secret in (*told, "hunter22")
        if secret in text or secret in text.replace("\\", "")
    ]


def test_somebody_elses_readme_is_not_overwritten(tmp_path: Path) -> None:
    dataset_card.write_card(card(), tmp_path / "README.md")
    dataset_card.write_card(card(layout="messages"), tmp_path / "README.md")
    assert "`messages`" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(ConfigError, match="was not written by potstill"):
        dataset_card.write_card(card(), tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_saw_gold_is_counted_and_unknown_of_recordings() -> None:
    assert "| writer saw the gold answer | 1 |" in dataset_card.render_card(
        card(rows=[trace(saw_gold=True), trace("3")])
    )
    assert "| writer saw the gold answer | unknown" in dataset_card.render_card(
        card(rows=[trace(operator="import")])
    )


def test_text_that_no_model_wrote_is_counted() -> None:
    solution = Trace(trace().problem, "1 + 1?", "It is 2.", operator="edit")
    line = "- written by no model, such as a problem's own solution: 1 rows"
    assert line in dataset_card.render_card(card(rows=[trace(), solution]))
    assert "written by no model" not in dataset_card.render_card(card())


def test_problems_that_a_model_wrote_are_counted() -> None:
    derived = Problem("new", "What is 3 + 3?", "6", parents=("trace-1",))
    rows = [trace(), Trace(derived, derived.question, "6", operator="sample")]
    counts = dict(dataset_card.count_rows(card(rows=rows)))
    assert counts["problems"] == "2" and counts["of these, problems that a model wrote"] == "1"
    assert "of these, problems that a model wrote" not in dict(dataset_card.count_rows(card()))


def test_a_method_of_ones_own_is_named_without_its_folder() -> None:
    method = "/srv/me/mine.py:star"
    recipe = {"arms": {"star": {"method": method}}}
    text = dataset_card.render_card(card(arm="star", method=method, recipe=recipe))
    assert front(text)["tags"][-1] == "star" and "# star: rows of the method star" in text
    assert "- method: mine.py:star, which is none of potstill's own" in text
    assert "method: mine.py:star\n" in text and "/srv/me" not in text


def test_the_fingerprint_is_one_of_rows_rivals_order_and_layout() -> None:
    rows = [trace("a"), trace("b")]
    same = dataset_card.export_fingerprint(rows, "trl")
    assert same == dataset_card.export_fingerprint(
        [r.annotate(verdict=Verdict("right")) for r in rows], "trl"
    )
    others = [
        (rows[::-1], "trl"),
        (rows, "messages"),
        ([rows[0].annotate(rejected=rows[1]), rows[1]], "trl"),
    ]
    assert len({same, *(dataset_card.export_fingerprint(*other) for other in others)}) == 4


@pytest.mark.slow
def test_the_command_in_the_card_writes_the_same_folder(run: Path, tmp_path: Path) -> None:
    text = exported(run, tmp_path, "--parquet", "--licence", "train.jsonl=mit")
    assert (
        "potstill export run --arm sft --format trl --parquet --licence train.jsonl=mit --out data"
        in text
    )
    assert (tmp_path / "data" / "train.parquet").exists()


@pytest.mark.parametrize("kind", ["transformers", "vllm", "recorded", "ngram", "my-kind"])
def test_no_kind_of_model_shows_the_folders_of_who_ran_it(kind: str) -> None:
    assert dataset_card.public_spec(f"{kind}:/srv/me/secret/qwen?dtype=x") == f"{kind}:qwen?dtype=x"
    assert dataset_card.without_local_path(f"{kind}:~/secret/qwen") == f"{kind}:qwen"
    assert (
        dataset_card.public_spec("openai:org/name?at=openrouter") == "openai:org/name?at=openrouter"
    )
