"""The tokens of a text that was drawn with log-probabilities and is no row: as its author's tokenizer cuts it.

The ids that were drawn are not stored: a text that is cut into as many tokens as were drawn is taken to be these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.extras import is_installed
from potstill.records import Trace
from potstill.store.store import Store
from potstill.viewer.facets import roles_of_models
from potstill.viewer.surprise import describe_logprobs, drawn_completion
from potstill.viewer.token_texts import TOKENIZER_FILE, decode_tokens, read_vocabulary


def describe_drawn_tokens(store: Store, run_folder: Path, trace: Trace) -> dict[str, Any] | None:
    """The page of the tokens of such a text, without a prompt; None where it has none, or they do not fit.

    Args:
        store: with the index attached.
        run_folder: where the students lie, and the manifest with the models of roles.
        trace: that is no row.
    """
    logprobs = drawn_completion(store, trace)
    if not logprobs or not is_installed("tokenizers"):
        return None
    from potstill.models.local.tokenizer_file import encode_text

    for folder in _tokenizer_folders(store, run_folder, trace):
        ids = encode_text(folder / TOKENIZER_FILE, trace.text)
        vocabulary = read_vocabulary(folder)
        decoded = decode_tokens(vocabulary, ids)
        if len(ids) == len(logprobs) and "".join(decoded.texts) == trace.text:
            return {
                "is_available": True,
                "student": "",
                "students": [],
                "sides": ["chosen"],
                "side": "chosen",
                "prompt_length": 0,
                "text_start": 0,
                "ids": ids,
                "texts": decoded.texts,
                "bytes": decoded.bytes_by_place,
                "special": [],
                "weights": [[len(ids), 0.0]],
                "learnt": 0,
                "num_train_epochs": 0,
                "message": "",
                "ranks": None,
                "no_logprobs": "",
                "score_fix": "",
                **describe_logprobs({"drawn": logprobs}, is_counted=[True] * len(ids)),
            }
    return None


def _tokenizer_folders(store: Store, run_folder: Path, trace: Trace) -> Iterator[Path]:
    """Where the tokenizer of a trace's author may lie: with the student of this run, or with the model of its role."""
    if trace.author is None:
        return
    for student in store.students.all():
        if student.model == trace.author.model and (student.folder / TOKENIZER_FILE).is_file():
            yield student.folder
    # Only now: it loads what makes a run.
    from potstill.runs import manifest
    from potstill.runs.score_rows import local_checkpoints

    role = roles_of_models(store).get(trace.author.model, "")
    spec = manifest.read(run_folder).settings.get("roles", {}).get(role, "")
    for folder in local_checkpoints(str(spec)):
        if (folder / TOKENIZER_FILE).is_file():
            yield folder
