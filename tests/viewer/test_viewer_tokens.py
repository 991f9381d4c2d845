"""The tokens of a row: written down at the training, and shown so that joined they are the prompt and the text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from viewed_run import SAMPLING, make_problems, open_reader, written

from potstill.models.model import Completion, Request
from potstill.runs import manifest
from potstill.runs.sources import CHECKPOINTS
from potstill.store import Store
from potstill.viewer.overlap_page import shared_runs
from potstill.viewer.row_files import read_rows
from potstill.viewer.surprise import describe_surprise, drawn_logprobs
from potstill.viewer.token_page import TokenRequest, describe_tokens, find_tokens_file
from potstill.viewer.token_texts import (
    Vocabulary,
    byte_of_character,
    decode_tokens,
    read_vocabulary,
)

STUDENT = CHECKPOINTS / "student"


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


def test_a_row_has_its_log_probabilities_by_moment(tmp_path: Path):
    row = {"trace": "trace-1", "side": "chosen", "ids": [5, 6, 7]}
    row |= {"run_lengths": [1, 2], "run_weights": [0.0, 1.0]}
    unknown = describe_surprise(tmp_path, row, [], command="potstill score RUN --arm a")
    assert unknown["logprobs"] is None and unknown["score_fix"] == "potstill score RUN --arm a"
    scores = {"trace": "trace-1", "side": "chosen", "before": [None, -3.0, -1.0]}
    scores |= {
        "after": [None, -0.5, -0.5],
        "before_ranks": [None, 4, 1],
        "after_ranks": [None, 0, 0],
    }
    parquet.write_table(pa.Table.from_pylist([scores]), tmp_path / "logprobs.parquet")
    known = describe_surprise(tmp_path, row, [None, -1.0, -1.0], command="")
    assert known["logprobs"] == {
        "before": [None, -3.0, -1.0],
        "after": [None, -0.5, -0.5],
        "drawn": [None, -1.0, -1.0],
    }
    assert known["mean_nats"] == {"before": 2.0, "after": 0.5, "drawn": 1.0}
    assert known["ranks"]["before"] == [None, 4, 1] and not known["no_logprobs"]


@pytest.mark.slow
def test_a_drawn_text_has_its_own_log_probabilities_where_they_fit(tmp_path: Path):
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(
        str(STUDENT / "tokenizer.json")
    )
    folder = tmp_path / "run"
    manifest.start(folder, {"roles": {"student": "world:student"}})
    [problem] = make_problems(1)
    text = "Take 14 away. That leaves 5."
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    drawn = tuple(-float(place) for place in range(len(ids)))
    request = Request(problem.question, "", SAMPLING, 0)
    with Store.open(folder) as store:
        trace = written(problem, "model-student", text)
        completion = Completion(text, "stop", logprobs=drawn)
        store.completions.put("model-student", "student", "sft", [(request, completion)])
        store.ledger("sft").add_traces([trace])
    reader = open_reader(folder, tmp_path / "index")
    with reader.store() as store:
        page = describe_tokens(store, folder, TokenRequest(trace.id))
        assert page["ids"] == ids and "".join(page["texts"]) == text
        assert page["logprobs"] == {"drawn": list(drawn)} and page["students"] == []
        assert page["mean_nats"]["drawn"] == pytest.approx((len(ids) - 1) / 2)
        # As a row it stands behind a prompt, and ends with a token that was not drawn.
        row = {"prompt_length": 2, "texts": ["<s>", "?", *page["texts"], "<e>"]}
        row["ids"] = [0, 0, *ids, 0]
        assert drawn_logprobs(store, trace.id, row) == [None, None, *drawn, None]
        row["texts"] = ["<s>", "?", *page["texts"][:-1], "!", "<e>"]
        assert drawn_logprobs(store, trace.id, row) == []
