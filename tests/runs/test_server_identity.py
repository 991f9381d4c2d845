"""A run folder knows its models by what they are, not by how they are reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import serving

from potstill.cli import main


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint

    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny", positions=128)
    rows = [{"question": f"Say something about {i}.", "answer": "(?s).*"} for i in range(6)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = "run sft --problems train.jsonl --kind regex --student transformers:tiny --set max_new_tokens=40 --out out"
    return [*told.split(), "--set", "training.max_steps=1", "--threads", "1", "--quiet"]


@pytest.mark.slow
def test_another_port_and_pace_is_the_same_run_and_another_model_is_not(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY_NAME", "sk-no-file-may-show-it")
    with serving(words=6) as first, serving(words=6) as second:
        assert main([*words, "--teacher", f"openai:m?url={first.url}&concurrency=2"]) == 0
        asked = first.choices
        assert asked == 6
        paced = f"openai:m?url={second.url}&concurrency=9&rpm=6000&timeout=30&key=MY_KEY_NAME"
        Path("out/results.json").unlink()
        assert main([*words, "--teacher", paced]) == 0, capsys.readouterr().err
        assert (first.choices, second.choices) == (asked, 0), (
            "what was stored counts for the same model elsewhere"
        )
        manifest = Path("out/manifest.json").read_text()
        assert (
            "concurrency" not in manifest
            and "127.0.0.1" not in manifest
            and "MY_KEY" not in manifest
        )
        capsys.readouterr()
        for other in (
            f"openai:other?url={second.url}",
            f"openai:m?url={second.url}&extra.top_k=3",
            "world:teacher",
        ):
            assert main([*words, "--teacher", other]) == 2
            assert "roles" in capsys.readouterr().err
        assert second.choices == 0
