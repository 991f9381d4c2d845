"""A teacher's kept entries on disk: written once, read by any student of the same tokens.

A folder holds `kept.json` (who, at what temperature, over which tokens) and safetensors shards: for each row the token
ids that the entries belong to, and for each counted target k ids (int32) and log-probabilities (float16). Stored
entries are found by the tokens they were made on; text is never cut into tokens again to align them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from potstill import __version__
from potstill.errors import StageError, StoreError
from potstill.models import checkpoint
from potstill.objectives.truncated import top_k
from potstill.training import items, positions
from potstill.training.render import Row
from potstill.training.teacher import PROBES

MARK = "kept.json"
SHARD = 512  # rows a shard
TOGETHER = 8  # rows in a forward pass of the teacher


class Kept(NamedTuple):
    """What `kept.json` says: the teacher and its tokenizer by content, entries a token, temperature, rows, bytes."""

    teacher: str
    vocabulary: str
    k: int
    temperature: float
    rows: int
    tokens: int
    bytes: int
    version: str = __version__


def write(
    folder: Path, teacher: Path, rows: Sequence[Row], *, k: int = 64, temperature: float = 1.0, device: str = "cpu"
) -> Kept:
    """Store the teacher's k best entries at every counted target of the rows; returns what was stored.

    Store at the temperature that will be trained: what lies outside the kept entries can't be re-tempered.
    """
    from potstill.models import weights

    model = weights.load(teacher, weights.dtype("auto", device)).to(device).eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = size = 0
    for number, start in enumerate(range(0, len(rows), SHARD)):
        tensors: dict[str, torch.Tensor] = {}
        for at in range(start, min(start + SHARD, len(rows)), TOGETHER):
            part = rows[at : min(at + TOGETHER, start + SHARD)]
            tensors |= {name: t for row, made in zip(part, _entries(model, part, k, temperature)) for name, t in made}
        path = folder / f"kept-{number:05d}.safetensors"
        save_file(tensors, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        tokens += sum(len(t) for name, t in tensors.items() if name.endswith("/ids"))
        size += path.stat().st_size
    told = Kept(checkpoint.content_id(teacher), vocabulary(teacher), k, temperature, len(rows), tokens, size)
    draft = folder / f"{MARK}.part"
    draft.write_text(json.dumps(told._asdict(), indent=1, sort_keys=True), "utf-8")
    draft.replace(folder / MARK)  # last: a folder without it was never finished
    return told


def read(folder: Path, student: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows with the columns `kept_ids` and `kept_logp`; StageError where entries were made on other tokens."""
    told = about(folder)
    if told.vocabulary != vocabulary(student):
        raise StageError(
            f"{folder} was made with another tokenizer than the student {student} has",
            expected="the tokenizer and chat template of the student",
            fix="store the entries again with a teacher of the same tokens",
        )
    found = dict(_stored(folder))
    missing = [row for row in rows if _name(row) not in found]
    if missing:
        raise StageError(
            f"{folder} has no entries for {len(missing)} of {len(rows)} rows",
            expected="entries of exactly these rows: same texts, same prompts, same template",
            fix="store them again for these rows: potstill keep",
        )
    return [_joined(row, *found[_name(row)], told.k) for row in rows]


def about(folder: Path) -> Kept:
    """What a folder of kept entries says of itself."""
    try:
        return Kept(**json.loads((folder / MARK).read_text("utf-8")))
    except FileNotFoundError:
        raise StoreError(
            f"{folder} holds no kept entries, or they were never finished",
            expected=f"a folder with {MARK}",
            fix="potstill keep",
        ) from None
    except (ValueError, TypeError) as error:
        raise StoreError(f"{folder / MARK} can't be read ({error})", expected="what potstill keep wrote") from error


def vocabulary(path: Path) -> str:
    """A digest of the tokenizer and chat template of a checkpoint, by what they do."""
    from potstill.models.encoding import Encoder

    encoder = Encoder(path)
    told = [sorted(encoder.tokenizer.get_vocab().items()), [encoder.prompt(probe) for probe in PROBES]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


def _entries(model: Any, rows: Sequence[Row], k: int, temperature: float) -> Iterator[list[tuple[str, torch.Tensor]]]:
    batch = items.to(items.collate([[items.prepared(replace(row, columns={}))] for row in rows]), model.device)
    with torch.no_grad():
        x = positions.positions(model, batch)
        kept = [top_k(x.head(part), k, temperature=temperature) for part in x.hidden_ND.split(256)]
    ids = torch.cat([part.ids_NK for part in kept]).to(torch.int32).cpu()
    logp = torch.cat([part.logp_NK for part in kept]).to(torch.float16).cpu()
    counts = (batch["weights"][:, 1:] > 0).sum(1).tolist()
    for row, row_ids, row_logp in zip(rows, ids.split(counts), logp.split(counts)):
        yield [(f"{_name(row)}/ids", row_ids.clone()), (f"{_name(row)}/logp", row_logp.clone())]


def _stored(folder: Path) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    for path in sorted(folder.glob("kept-*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = sorted({name.rpartition("/")[0] for name in file.keys()})  # noqa: SIM118  no mapping
                for name in names:
                    yield name, (file.get_tensor(f"{name}/ids"), file.get_tensor(f"{name}/logp"))
        except Exception as error:  # boundary: a truncated file fails in many ways
            raise StoreError(f"{path} is damaged ({str(error)[:100]})", fix="store the entries again") from error


def _joined(row: Row, ids: torch.Tensor, logp: torch.Tensor, k: int) -> Row:
    """The row with its entries at the counted targets, and zeros elsewhere."""
    counted = [at for at, weight in enumerate(row.weights) if weight > 0 and at]
    all_ids, all_logp = torch.zeros(len(row.ids), k, dtype=torch.long), torch.zeros(len(row.ids), k)
    all_ids[counted], all_logp[counted] = ids.long(), logp.float()
    return replace(row, columns={**row.columns, "kept_ids": all_ids, "kept_logp": all_logp})  # type: ignore[dict-item]


def _name(row: Row) -> str:
    """A row by its tokens and by which of them count."""
    told = json.dumps([row.ids, [weight > 0 for weight in row.weights]])
    return hashlib.sha256(told.encode()).hexdigest()[:24]
