"""Rows of a Hugging Face dataset; the `datasets` package is imported only here, only when asked for."""

from __future__ import annotations

from urllib.parse import parse_qsl

from potstill.errors import InputError
from potstill.problems.files import Row


def rows(spec: str) -> list[Row]:
    """Rows of `NAME[:split][?config=CONFIG]`; the split is "train" unless named."""
    path, _, query = spec.partition("?")
    name, _, split = path.partition(":")
    options = dict(parse_qsl(query))
    unknown = sorted(set(options) - {"config", "revision"})
    if unknown or not name:
        raise InputError(f"hf:{spec} can't be read as a dataset", expected="hf:NAME[:split][?config=…&revision=…]")
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"hf:{name} needs the datasets package", fix="pip install 'potstill[data]'") from error
    try:
        data = datasets.load_dataset(
            name, options.get("config"), split=split or "train", revision=options.get("revision")
        )
    except Exception as error:  # boundary: the hub client's errors have no common base
        raise InputError(
            f"hf:{name} can't be loaded: {type(error).__name__}: {str(error).strip()[:300]}",
            expected="a dataset on the Hugging Face hub or in the local cache, with that split and configuration",
            fix=f"check the name and the network; hf:NAME:{split or 'train'}?config=… names a configuration",
        ) from error
    return [(f"row {number}", dict(row)) for number, row in enumerate(data, 1)]
