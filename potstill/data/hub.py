"""Rows of a Hugging Face dataset; the `datasets` package is imported only here, only when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from potstill.data.tabular import Row, nan_as_none
from potstill.errors import InputError

_FORM = "hf:NAME[/CONFIG][:SPLIT][?config=…&revision=…&streaming=1]"
_OPTIONS = frozenset({"config", "revision", "streaming"})
_IS_STREAMING = {"": False, "0": False, "1": True}


class DatasetSpec(NamedTuple):
    """A dataset's name, which part of it, and whether its rows come as they are fetched."""

    name: str
    config: str | None
    split: str
    revision: str | None
    streaming: bool = False


def is_dataset(spec: str) -> bool:
    """Whether a spec names a dataset: `hf:NAME`, and not a file on the hub, `hf://datasets/…`."""
    return spec.startswith("hf:") and not spec.startswith("hf://")


def parse_spec(spec: str) -> DatasetSpec:
    """The dataset that `NAME[/CONFIG][:SPLIT][?config=…]` names; of OWNER/NAME/CONFIG the third part is the config."""
    path, _, query = spec.partition("?")
    name, _, split = path.partition(":")
    options = dict(parse_qsl(query))
    parts = name.split("/")
    has_unknown_option = not set(options) <= _OPTIONS
    has_two_configs = len(parts) == 3 and "config" in options
    streaming = _IS_STREAMING.get(options.get("streaming", ""))
    is_no_name = not all(parts) or len(parts) > 3
    if has_unknown_option or has_two_configs or is_no_name or streaming is None:
        raise InputError(
            f"hf:{spec} can't be read as a dataset",
            expected=_FORM,
            fix="hf:openai/gsm8k/main:train",
        )
    config = parts[2] if len(parts) == 3 else options.get("config")
    return DatasetSpec(
        "/".join(parts[:2]), config, split or "train", options.get("revision"), streaming
    )


def read_rows(spec: str) -> Iterator[Row]:
    """Rows of a dataset on the hub or in the local cache; the split is "train" unless named.

    With `?streaming=1` they are read while they are fetched, and nothing is kept on the disk; the rows and their order
    are the same.
    """
    wanted = parse_spec(spec)
    dataset = _load(wanted)
    rows = enumerate(dataset, 1)
    if not wanted.streaming:
        return ((f"row {number}", nan_as_none(dict(row))) for number, row in rows)
    return _stream_rows(wanted, rows)


def _load(wanted: DatasetSpec) -> Iterable[Any]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"hf:{wanted.name} needs the datasets package", fix="pip install 'potstill[data]'"
        ) from error
    # Named only where it is wanted: the plain call stays the one that caches.
    options = {"streaming": True} if wanted.streaming else {}
    try:
        dataset: Iterable[Any] = datasets.load_dataset(
            wanted.name, wanted.config, split=wanted.split, revision=wanted.revision, **options
        )
    except Exception as error:  # boundary: the hub client's errors have no common base
        raise _not_loaded(wanted, error) from error
    return dataset


def _stream_rows(wanted: DatasetSpec, rows: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    """The rows while they are fetched: the network may break at any of them."""
    while True:
        try:
            number, row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # boundary: the hub client's errors have no common base
            raise _not_loaded(wanted, error) from error
        yield f"row {number}", nan_as_none(dict(row))


def _not_loaded(wanted: DatasetSpec, error: Exception) -> InputError:
    return InputError(
        f"hf:{wanted.name} can't be loaded: {type(error).__name__}: {str(error).strip()[:300]}",
        expected="a dataset on the Hugging Face hub or in the local cache, with that split and configuration",
        fix="check the name and the network (HF_HUB_OFFLINE=1 uses the local cache alone); "
        f"hf:{wanted.name}/CONFIG:{wanted.split} names a configuration",
    )
