"""The tokens of a row: written down at the training, and shown so that joined they are the prompt and the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.viewer.overlap_page import shared_runs
from potstill.viewer.token_page import find_tokens_file, read_rows
from potstill.viewer.token_texts import (
    Vocabulary,
    byte_of_character,
    decode_tokens,
    read_vocabulary,
)


def test_a_token_may_end_inside_a_character():
    character_of = {byte: character for character, byte in byte_of_character().items()}
    pieces = [b"a ", "😀".encode()[:2], "😀".encode()[2:], b"\xff"]
    tokens = {n: "".join(character_of[byte] for byte in piece) for n, piece in enumerate(pieces)}
    vocabulary = Vocabulary(tokens, {9: "<|im_end|>"}, frozenset({9}), is_byte_level=True)
    decoded = decode_tokens(vocabulary, [0, 1, 2, 3, 9, 77])
    assert decoded.texts == ["a ", "", "😀", "\ufffd", "<|im_end|>", "⟨77⟩"]
    assert decoded.bytes_by_place == {1: "f0 9f", 2: "98 80"}


def test_marked_blanks_and_byte_tokens():
    vocabulary = Vocabulary(
        {0: "▁two", 1: "<0xC3>", 2: "<0xA9>"}, {}, frozenset(), is_byte_level=False
    )
    assert "".join(decode_tokens(vocabulary, [0, 1, 2]).texts) == " twoé"


def test_shared_runs_are_found_longest_first():
    reference = "The pile grows: 8 + 17 = 25. Then it is halved."
    runs = shared_runs("So the pile grows, 8 + 17 = 25, and it is halved", reference)
    assert [words for _, _, words in runs] == [6, 3]
    text = "a b c " * 300
    assert shared_runs(text, text)[0][2] == 900


@pytest.mark.slow
def test_a_training_writes_down_its_tokens(tiny_checkpoint: Path, tmp_path: Path):
    from learning_rows import rows

    from potstill.training.fit import fit
    from potstill.training.settings import TrainingSettings

    traces = rows()
    result = fit(
        traces, tiny_checkpoint, tmp_path / "out", TrainingSettings(max_steps=0, num_train_epochs=2)
    )
    path = find_tokens_file(tmp_path / "out")
    assert path is not None
    vocabulary = read_vocabulary(tmp_path / "out")
    learnt = 0
    for trace in traces:
        row = read_rows(path, trace.id)["chosen"]
        texts = decode_tokens(vocabulary, row["ids"]).texts
        assert "".join(texts[row["prompt_length"] :]).startswith(trace.text.lstrip())
        assert str(trace.prompt) in "".join(texts[: row["prompt_length"]])
        learnt += sum(
            n
            for n, weight in zip(row["run_lengths"], row["run_weights"], strict=True)
            if weight > 0
        )
        assert row["run_weights"][0] == 0
    assert learnt * row["metadata"]["num_train_epochs"] == result.loss_tokens
