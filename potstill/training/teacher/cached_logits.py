"""Cached teacher logits on disk: written once, read by any student of the same tokens.

A folder holds `teacher_cache.json` (who, at what temperature, over which tokens) and safetensors shards: for each row
the token ids that the entries belong to, and for each counted target k ids (int32) and log-probabilities (float16).
Stored entries are found by the tokens they were made on; text is never cut into tokens again to align them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from potstill import __version__
from potstill.data.atomic_write import replacing, write_text
from potstill.errors import StageError, StoreError
from potstill.models.local import checkpoint
from potstill.objectives.truncated import top_k
from potstill.records import Progress
from potstill.training import logprobs
from potstill.training.dataset import collate
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.objective_config import read_manifest
from potstill.training.teacher.tokenizer_check import PROBES

MARK = "teacher_cache.json"
SHARD = 512  # rows a shard
TOGETHER = 8  # rows in a forward pass of the teacher


class CachedLogits(NamedTuple):
    """What `teacher_cache.json` says: the teacher (by content), entries a token, temperature, and which rows."""

    teacher: str
    vocabulary: str
    k: int
    temperature: float
    rows: int
    tokens: int
    bytes: int
    content: str = ""
    version: str = __version__


def write(
    folder: Path,
    teacher: Path,
    rows: Sequence[TokenizedRow],
    *,
    k: int = 64,
    temperature: float = 1.0,
    device: str = "auto",
    progress: Progress | None = None,
) -> CachedLogits:
    """Store the teacher's k best entries at every counted target of the rows; returns what was stored.

    A k above the vocabulary is the vocabulary. A head padded beyond the tokenizer's ids is cut to them.

    Store at the temperature that will be trained: what lies outside the stored entries can't be re-tempered. A folder
    that is finished for the same teacher and rows is left as it is; one that was never finished is begun anew.
    """
    if k < 1 or temperature <= 0 or not rows:
        raise StageError(
            f"k={k}, temperature={temperature:g}, {len(rows)} rows", expected="more than 0 of each"
        )
    width = tokens_of(teacher)
    k = min(k, words(teacher) or k, width)
    unique = list({_name(row): row for row in rows}.values())
    told = CachedLogits(
        checkpoint.content_id(teacher),
        vocabulary(teacher),
        k,
        temperature,
        len(unique),
        0,
        0,
        _names(unique),
    )
    if _finished(folder, told):
        return about(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("teacher_cache-*"):
        old.unlink()
    model = _loaded(teacher, device)
    tokens = size = 0
    order = sorted(range(len(unique)), key=lambda at: len(unique[at]))  # less padding
    for number, start in enumerate(range(0, len(order), SHARD)):
        tensors: dict[str, torch.Tensor] = {}
        for at in range(start, min(start + SHARD, len(order)), TOGETHER):
            if progress:
                progress("rows", at, len(order))
            part = [unique[row] for row in order[at : min(at + TOGETHER, start + SHARD)]]
            tensors |= {
                name: tensor
                for made in _entries(model, part, k, temperature, width)
                for name, tensor in made
            }
        path = folder / f"teacher_cache-{number:05d}.safetensors"
        with replacing(path) as draft:
            save_file(tensors, draft)
        tokens += sum(len(t) for name, t in tensors.items() if name.endswith("/ids"))
        size += path.stat().st_size
    if progress:
        progress("rows", len(order), len(order))
    told = told._replace(tokens=tokens, bytes=size)
    # Last: a folder without it was never finished.
    write_text(folder / MARK, json.dumps(told._asdict(), indent=1, sort_keys=True))
    return told


@contextmanager
def threads(count: int) -> Iterator[None]:
    """CPU threads of the teacher; 0 leaves torch's setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loaded(teacher: Path, device: str) -> Any:
    from potstill.models.local import weights
    from potstill.training.checkpoint import check_output_head

    place = weights.resolve_device(device)
    model = weights.load_weights(teacher, weights.resolve_dtype("auto", place))
    check_output_head(model)
    return model.to(place).eval().requires_grad_(False)


def _finished(folder: Path, told: CachedLogits) -> bool:
    """Whether the folder holds just this; refuses one that holds something else."""
    inside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if MARK in inside:
        found = about(folder)
        if found._replace(tokens=0, bytes=0, version=told.version) == told:
            return True
        raise StoreError(
            f"{folder} holds cached teacher logits of another teacher, other rows, k or temperature",
            expected="a folder of its own for each",
            fix="give another folder, or delete this one",
        )
    foreign = sorted(name for name in inside if not name.startswith("teacher_cache"))
    if foreign:
        raise StoreError(
            f"{folder} is not empty ({', '.join(foreign[:5])})",
            expected="a new folder",
            fix="give another folder",
        )
    return False


def read(folder: Path, student: Path, rows: Sequence[TokenizedRow]) -> list[TokenizedRow]:
    """The rows with the columns `cached_ids` and `cached_logp`; StageError where entries were made on other tokens."""
    told = about(folder)
    if told.vocabulary != vocabulary(student):
        raise StageError(
            f"{folder} was made with another tokenizer than the student {student} has",
            expected="the tokenizer and chat template of the student",
            fix="store the entries again with a teacher of the same tokens",
        )
    names = [_name(row) for row in rows]
    found = dict(_stored(folder, set(names)))
    missing = set(names) - set(found)
    if missing:
        raise StageError(
            f"{folder} has no entries for {len(missing)} of {len(set(names))} rows",
            expected="entries of exactly these rows: same texts, same prompts, same template",
            fix="store them again for these rows: potstill cache-teacher",
        )
    return [_joined(row, *found[name]) for row, name in zip(rows, names)]


def about(folder: Path) -> CachedLogits:
    """What a folder of cached teacher logits says of itself."""
    try:
        return CachedLogits(**json.loads(read_manifest(folder)))
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{folder / MARK} can't be read ({error})", expected="what potstill cache-teacher wrote"
        ) from error


def words(teacher: Path) -> int:
    """Entries that a teacher's distribution has; 0 where its config doesn't say."""
    config = checkpoint.read_config(teacher)
    return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 0)


def tokens_of(teacher: Path) -> int:
    """How many ids the tokenizer knows: what a padded head has beyond them, a student may not have."""
    from potstill.models.local.prompt import PromptEncoder

    ids: dict[str, int] = PromptEncoder(teacher).tokenizer.get_vocab()
    return max(ids.values()) + 1


def vocabulary(path: Path) -> str:
    """A digest of the tokenizer and chat template of a checkpoint, by what they do."""
    from potstill.models.local.prompt import PromptEncoder

    encoder = PromptEncoder(path)
    told = [
        sorted(encoder.tokenizer.get_vocab().items()),
        [encoder.encode_prompt(probe) for probe in PROBES],
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


def _entries(
    model: Any, rows: Sequence[TokenizedRow], k: int, temperature: float, width: int
) -> Iterator[list[tuple[str, torch.Tensor]]]:
    batch = collate.to_device(
        collate.collate_rows([row.without_columns() for row in rows]), model.device
    )
    with torch.no_grad():
        x = logprobs.positions(model, batch)
        kept = [
            top_k(x.head(part)[:, :width], k, temperature=temperature)
            for part in x.hidden_ND.split(256)
        ]
    ids = torch.cat([part.ids_NK for part in kept]).to(torch.int32).cpu()
    logp = torch.cat([part.logp_NK for part in kept]).to(torch.float16).cpu()
    counts = (batch["loss_weights"][:, 1:] > 0).sum(1).tolist()
    for row, row_ids, row_logp in zip(rows, ids.split(counts), logp.split(counts)):
        yield [(f"{_name(row)}/ids", row_ids.clone()), (f"{_name(row)}/logp", row_logp.clone())]


def _stored(
    folder: Path, wanted: set[str]
) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    for path in sorted(folder.glob("teacher_cache-*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = sorted({name.rpartition("/")[0] for name in file.keys()})  # noqa: SIM118  no mapping
                for name in wanted & set(names):
                    yield name, (file.get_tensor(f"{name}/ids"), file.get_tensor(f"{name}/logp"))
        except Exception as error:  # boundary: a truncated file fails in many ways
            raise StoreError(
                f"{path} is damaged ({str(error)[:100]})", fix="store the entries again"
            ) from error


def _joined(row: TokenizedRow, ids: torch.Tensor, logp: torch.Tensor) -> TokenizedRow:
    """The row with its entries at the counted targets, and zeros elsewhere; as small in memory as on disk."""
    counted = 1 + row.is_learnt[1:].nonzero()[0]  # the first token is no target
    all_ids = torch.zeros(len(row), ids.shape[1], dtype=ids.dtype)
    all_logp = torch.zeros(len(row), ids.shape[1], dtype=logp.dtype)
    all_ids[counted], all_logp[counted] = ids, logp
    return row.with_columns(cached_ids=all_ids, cached_logp=all_logp)


def _names(rows: Sequence[TokenizedRow]) -> str:
    """All rows, whatever their order."""
    return hashlib.sha256("".join(sorted(map(_name, rows))).encode()).hexdigest()[:20]


def _name(row: TokenizedRow) -> str:
    """A row by its tokens and by which of them count."""
    told = json.dumps([row.input_ids.tolist(), row.is_learnt.tolist()])
    return hashlib.sha256(told.encode()).hexdigest()[:24]
