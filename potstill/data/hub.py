"""Rows of a Hugging Face dataset; the `datasets` package is imported only here, only when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl

from potstill.data.tabular import Row, nan_as_none
from potstill.errors import InputError

_FORM = "hf:NAME[/CONFIG][:SPLIT][?config=…&revision=…]"


class DatasetSpec(NamedTuple):
    """A dataset's name, and which part of it."""

    name: str
    config: str | None
    split: str
    revision: str | None


def parse_spec(spec: str) -> DatasetSpec:
    """The dataset that `NAME[/CONFIG][:SPLIT][?config=…]` names; of OWNER/NAME/CONFIG the third part is the config."""
    path, _, query = spec.partition("?")
    name, _, split = path.partition(":")
    options = dict(parse_qsl(query))
    parts = name.split("/")
    has_unknown_option = bool(set(options) - {"config", "revision"})
    has_two_configs = len(parts) == 3 and "config" in options
    if has_unknown_option or has_two_configs or not all(parts) or len(parts) > 3:
        raise InputError(
            f"hf:{spec} can't be read as a dataset",
            expected=_FORM,
            fix="hf:openai/gsm8k/main:train",
        )
    config = parts[2] if len(parts) == 3 else options.get("config")
    return DatasetSpec("/".join(parts[:2]), config, split or "train", options.get("revision"))


def read_rows(spec: str) -> Iterator[Row]:
    """Rows of a dataset on the hub or in the local cache; the split is "train" unless named."""
    wanted = parse_spec(spec)
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"hf:{wanted.name} needs the datasets package", fix="pip install 'potstill[data]'"
        ) from error
    try:
        dataset = datasets.load_dataset(
            wanted.name, wanted.config, split=wanted.split, revision=wanted.revision
        )
    except Exception as error:  # boundary: the hub client's errors have no common base
        raise InputError(
            f"hf:{wanted.name} can't be loaded: {type(error).__name__}: {str(error).strip()[:300]}",
            expected="a dataset on the Hugging Face hub or in the local cache, with that split and configuration",
            fix="check the name and the network (HF_HUB_OFFLINE=1 uses the local cache alone); "
            f"hf:{wanted.name}/CONFIG:{wanted.split} names a configuration",
        ) from error
    return ((f"row {number}", nan_as_none(dict(row))) for number, row in enumerate(dataset, 1))
