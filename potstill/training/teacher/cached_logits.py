"""Cached teacher logits on disk: written once, read by any student of the same tokens.

A folder holds `teacher_cache.json` (who, at what temperature, over which tokens) and safetensors shards: for each row
the token ids that the entries belong to, and for each counted target k ids (int32) and log-probabilities (float16).
Stored entries are found by the tokens they were made on; text is never cut into tokens again to align them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from potstill import __version__
from potstill.cluster.pool import ReplicaPool, Resources
from potstill.data.atomic_write import replacing, write_text
from potstill.errors import StageError, StoreError
from potstill.models.local import checkpoint, weights
from potstill.models.ray_spec import ReplicaSettings
from potstill.objectives.truncated import top_k
from potstill.records import Progress
from potstill.training import logprobs
from potstill.training.dataset import batching
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.full_disk import explain_full_disk
from potstill.training.objective_config import MANIFEST, read_manifest
from potstill.training.teacher.tokenizer_check import PROBES

ROWS_A_SHARD = 512
ROWS_A_BATCH = 8  # in a forward pass of the teacher
POSITIONS_A_BATCH = 256  # whose logits are computed at once

Entries: TypeAlias = tuple[Tensor, Tensor]
"""Of one row: ids and log-probabilities, [n, k] each."""
ComputeParts: TypeAlias = Callable[
    [Sequence[list[TokenizedRow]]], Iterator[tuple[int, list[Entries]]]
]
"""The entries of parts, each with the part's place, in any order."""


class CachedLogits(NamedTuple):
    """The manifest of a folder: the teacher (by content), entries a token, temperature, and which rows."""

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
    replicas: ReplicaSettings | None = None,
) -> CachedLogits:
    """Store the teacher's k best entries at every counted target of the rows; return what was stored.

    A k above the vocabulary is the vocabulary. A head padded beyond the tokenizer's ids is cut to them.

    Store at the temperature that will be trained: what lies outside the stored entries can't be re-tempered. A folder
    that is finished for the same teacher and rows is left as it is; one that was never finished is begun anew.
    """
    if k < 1 or temperature <= 0 or not rows:
        raise StageError(
            f"k={k}, temperature={temperature:g}, {len(rows)} rows", expected="more than 0 of each"
        )
    width = count_tokenizer_ids(teacher)
    k = min(k, vocabulary_size(teacher) or k, width)
    distinct = list({row_id(row): row for row in rows}.values())
    manifest = CachedLogits(
        teacher=checkpoint.content_id(teacher),
        vocabulary=vocabulary_id(teacher),
        k=k,
        temperature=temperature,
        rows=len(distinct),
        tokens=0,
        bytes=0,
        content=rows_id(distinct),
    )
    if _is_finished(folder, manifest):
        return load_manifest(folder)

    folder.mkdir(parents=True, exist_ok=True)
    for old_shard in folder.glob("teacher_cache-*"):
        old_shard.unlink()
    worker = EntriesWorker(teacher, device, k=k, temperature=temperature, width=width)
    compute_parts = _compute_here(worker) if replicas is None else _compute_on(worker, replicas)
    by_length = sorted(distinct, key=len)  # less padding
    token_count = byte_count = 0
    for number, start in enumerate(range(0, len(by_length), ROWS_A_SHARD)):
        shard_rows = by_length[start : start + ROWS_A_SHARD]
        parts = split_rows(shard_rows)
        entries_of_part: dict[int, list[Entries]] = {}
        for place, entries in compute_parts(parts):
            if progress:
                # Of those before this one: a shard counts as done once it is on the disk.
                progress("rows", start + len(entries_of_part) * ROWS_A_BATCH, len(by_length))
            entries_of_part[place] = entries
        tensors: dict[str, Tensor] = {}
        for place, part in enumerate(parts):
            for row, (ids_NK, log_probs_NK) in zip(part, entries_of_part[place], strict=True):
                tensors[f"{row_id(row)}/ids"] = ids_NK
                tensors[f"{row_id(row)}/logp"] = log_probs_NK.to(torch.float16)
        path = folder / f"teacher_cache-{number:05d}.safetensors"
        fix = "the same command then begins anew"
        with explain_full_disk(folder, fix), replacing(path) as draft:
            save_file(tensors, draft)
        token_count += sum(len(t) for name, t in tensors.items() if name.endswith("/ids"))
        byte_count += path.stat().st_size
    if progress:
        progress("rows", len(by_length), len(by_length))
    manifest = manifest._replace(tokens=token_count, bytes=byte_count)
    # Last: a folder without it was never finished.
    write_text(folder / MANIFEST, json.dumps(manifest._asdict(), indent=1, sort_keys=True))
    return manifest


def split_rows(rows: Sequence[TokenizedRow]) -> list[list[TokenizedRow]]:
    """The rows that are read in one forward pass each."""
    parts = []
    for start in range(0, len(rows), ROWS_A_BATCH):
        parts.append([row.without_columns() for row in rows[start : start + ROWS_A_BATCH]])
    return parts


@dataclass(frozen=True, slots=True)
class EntriesWorker:
    """Makes what computes the entries of a part of the rows, here or in a replica; picklable.

    Args:
        teacher: its checkpoint.
        device: see `load_teacher`.
        k: entries a token.
        temperature: divides the teacher's logits.
        width: token ids that count.
        threads: CPU threads of torch; 0 leaves them as they are.
    """

    teacher: Path
    device: str
    _: KW_ONLY
    k: int
    temperature: float
    width: int
    threads: int = 0

    def __call__(self) -> Callable[[list[TokenizedRow]], list[Entries]]:
        """The function that reads a part, with the teacher loaded."""
        model = load_teacher(self.teacher, self.device)
        if self.threads:
            torch.set_num_threads(self.threads)

        def read_part(part: list[TokenizedRow]) -> list[Entries]:
            weights.check_token_ids(model, max(int(row.input_ids.max()) for row in part))
            return compute_entries(
                model, part, k=self.k, temperature=self.temperature, width=self.width
            )

        return read_part


def _compute_here(worker: EntriesWorker) -> ComputeParts:
    read_part = worker()

    def compute_parts(parts: Sequence[list[TokenizedRow]]) -> Iterator[tuple[int, list[Entries]]]:
        for place, part in enumerate(parts):
            yield place, read_part(part)

    return compute_parts


def _compute_on(worker: EntriesWorker, replicas: ReplicaSettings) -> ComputeParts:
    """On replicas with as many threads as this process has, so that they make the same bits."""
    thread_count = replicas.threads or torch.get_num_threads()
    cpus = float(thread_count)
    device = "cpu"
    if replicas.gpus:
        device, thread_count, cpus = "cuda", replicas.threads, float(replicas.threads or 1)
    pool: ReplicaPool[list[TokenizedRow], list[Entries]] = ReplicaPool(
        replace(worker, teacher=worker.teacher.absolute(), device=device, threads=thread_count),
        replicas=replicas.replicas,
        resources=Resources(cpus=cpus, gpus=replicas.gpus),
        name=f"replica of {worker.teacher}",
    )
    return pool.map


@contextmanager
def threads(count: int) -> Iterator[None]:
    """CPU threads of the teacher; 0 leaves torch's setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_teacher(teacher: Path, device: str) -> Any:
    """The teacher for forward passes only; refused where its head does more than a projection."""
    from potstill.training.checkpoint import check_output_head

    place = weights.resolve_device(device)
    model = weights.load_weights(teacher, weights.resolve_dtype("auto", place))
    check_output_head(model)
    return weights.move_to_device(model, place).eval().requires_grad_(False)


def _is_finished(folder: Path, manifest: CachedLogits) -> bool:
    """Whether the folder holds just this; refuses one that holds something else."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if MANIFEST in names:
        stored = load_manifest(folder)
        if stored._replace(tokens=0, bytes=0, version=manifest.version) == manifest:
            return True
        raise StoreError(
            f"{folder} holds cached teacher logits of another teacher, other rows, k or temperature",
            expected="a folder of its own for each",
            fix="give another folder, or delete this one",
        )
    foreign = sorted(name for name in names if not name.startswith("teacher_cache"))
    if foreign:
        raise StoreError(
            f"{folder} is not empty ({', '.join(foreign[:5])})",
            expected="a new folder",
            fix="give another folder",
        )
    return False


def read(folder: Path, student: Path, rows: Sequence[TokenizedRow]) -> list[TokenizedRow]:
    """The rows with the columns `cached_ids` and `cached_logp`; StageError where entries were made on other tokens."""
    if load_manifest(folder).vocabulary != vocabulary_id(student):
        raise StageError(
            f"{folder} was made with another tokenizer than the student {student} has",
            expected="the tokenizer and chat template of the student",
            fix="store the entries again with a teacher of the same tokens",
        )
    ids = [row_id(row) for row in rows]
    entries = dict(_read_entries(folder, set(ids)))
    missing = set(ids) - set(entries)
    if missing:
        raise StageError(
            f"{folder} has no entries for {len(missing)} of {len(set(ids))} rows",
            expected="entries of exactly these rows: same texts, same prompts, same template",
            fix="store them again for these rows: potstill cache-teacher",
        )
    return [with_entries(row, entries[name]) for row, name in zip(rows, ids)]


def load_manifest(folder: Path) -> CachedLogits:
    """What a folder of cached teacher logits says of itself."""
    try:
        return CachedLogits(**json.loads(read_manifest(folder)))
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{folder / MANIFEST} can't be read ({error})",
            expected="what potstill cache-teacher wrote",
        ) from error


def vocabulary_size(teacher: Path) -> int:
    """Entries that a teacher's distribution has; 0 where its config doesn't say."""
    return int(getattr(checkpoint.load_config(teacher).get_text_config(), "vocab_size", 0) or 0)


def count_tokenizer_ids(teacher: Path) -> int:
    """How many ids the tokenizer knows: what a padded head has beyond them, a student may not have."""
    from potstill.models.local.prompt import PromptEncoder

    ids: dict[str, int] = PromptEncoder(teacher).tokenizer.get_vocab()
    return max(ids.values()) + 1


def vocabulary_id(path: Path) -> str:
    """A digest of the tokenizer and chat template of a checkpoint, by what they do."""
    from potstill.models.local.prompt import PromptEncoder

    encoder = PromptEncoder(path)
    vocabulary = sorted(encoder.tokenizer.get_vocab().items())
    content = [vocabulary, [encoder.encode_prompt(probe) for probe in PROBES]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]


def compute_entries(
    model: Any, rows: Sequence[TokenizedRow], *, k: int, temperature: float, width: int
) -> list[tuple[Tensor, Tensor]]:
    """The k best entries at each row's counted targets: ids (int32) and log-probabilities (float32), [n, k] each.

    Args:
        model: the teacher.
        rows: in the student's tokens; they are read in one forward pass.
        temperature: divides the teacher's logits.
        width: token ids that count: a head may be padded beyond the tokenizer's.
    """
    plain = [row.without_columns() for row in rows]
    batch = batching.to_device(batching.collate_rows(plain), model.device)
    with torch.no_grad():
        x = logprobs.build_inputs(model, batch)
        parts = []
        for hidden_ND in x.hidden_ND.split(POSITIONS_A_BATCH):
            logits_NV = x.head(hidden_ND)[:, :width]
            parts.append(top_k(logits_NV, k, temperature=temperature))
    ids_NK = torch.cat([part.ids_NK for part in parts]).to(torch.int32).cpu()
    log_probs_NK = torch.cat([part.logp_NK for part in parts]).float().cpu()

    # Cut the counted positions of the batch into its rows again.
    counts = (batch["loss_weights"][:, 1:] > 0).sum(1).tolist()
    entries = []
    for ids, log_probs in zip(ids_NK.split(counts), log_probs_NK.split(counts)):
        entries.append((ids.clone(), log_probs.clone()))
    return entries


def _read_entries(folder: Path, wanted: set[str]) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """(Row id, its ids and log-probabilities) of the wanted rows."""
    for path in sorted(folder.glob("teacher_cache-*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                row_ids = {name.rpartition("/")[0] for name in file.keys()}  # noqa: SIM118  no mapping
                for name in wanted & row_ids:
                    yield name, (file.get_tensor(f"{name}/ids"), file.get_tensor(f"{name}/logp"))
        except Exception as error:  # boundary: a truncated file fails in many ways
            raise StoreError(
                f"{path} is damaged ({str(error)[:100]})", fix="store the entries again"
            ) from error


def with_entries(row: TokenizedRow, entries: tuple[Tensor, Tensor]) -> TokenizedRow:
    """The row with its entries at the counted targets, and zeros elsewhere; as small in memory as they are given."""
    ids, log_probs = entries  # [n, k] of the n counted targets
    counted = 1 + row.is_learnt[1:].nonzero()[0]  # the first token is no target
    ids_TK = torch.zeros(len(row), ids.shape[1], dtype=ids.dtype)
    log_probs_TK = torch.zeros(len(row), ids.shape[1], dtype=log_probs.dtype)
    ids_TK[counted], log_probs_TK[counted] = ids, log_probs
    return row.with_columns(cached_ids=ids_TK, cached_logp=log_probs_TK)


def rows_id(rows: Sequence[TokenizedRow]) -> str:
    """A digest of all rows, whatever their order."""
    return hashlib.sha256("".join(sorted(map(row_id, rows))).encode()).hexdigest()[:20]


def row_id(row: TokenizedRow) -> str:
    """A digest of a row's tokens and of which of them count."""
    content = json.dumps([row.input_ids.tolist(), row.is_learnt.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()[:24]
