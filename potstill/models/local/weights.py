"""Loading a checkpoint's weights: safetensors only, whole, and no code that came with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from potstill.errors import ConfigError, ModelError
from potstill.models.local import checkpoint

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> str:
    """The device that a name or "auto" means here."""
    available = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if name == "auto":
        return available[-1]
    if name not in available:
        raise ConfigError(
            f"no device {name!r} here", available=available, wanted=name, fix="choose device=cpu"
        )
    return name


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """The number format that a name or "auto" means on a device."""
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    if name not in DTYPES:
        available = ("auto", *DTYPES)
        raise ConfigError(
            f"unknown dtype={name}", available=available, wanted=name, fix="choose dtype=auto"
        )
    return DTYPES[name]


def load_weights(path: Path, dtype: torch.dtype) -> Any:
    """The model of a folder; an error if weights are missing, which transformers would fill with random numbers."""
    checkpoint.check_checkpoint(path)
    model, missing_keys = _load_without_progress_bar(path, dtype)
    if missing_keys:
        raise ModelError(
            f"{path}: {len(missing_keys)} weights are missing, the first is {missing_keys[0]}",
            expected=checkpoint.EXPECTED_CHECKPOINT,
            fix="save the checkpoint again, whole",
        )
    # The cache of `generate` knows keys and values of attention, no states of other layers.
    layer_types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    unknown_types = sorted(layer_types - {"full_attention", "sliding_attention"})
    if unknown_types:
        raise ModelError(
            f"{path} has layers of kind {', '.join(unknown_types)}",
            expected="full or sliding attention",
            fix="serve it with vLLM and use the server",
        )
    return model


def _load_without_progress_bar(path: Path, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """The model, and the names of the weights that its files lack."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    shows_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            output_loading_info=True,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # boundary: a checkpoint can be broken in any way
        raise ModelError(
            f"{path} can't be loaded ({type(error).__name__}: {str(error)[:200]})",
            expected=checkpoint.EXPECTED_CHECKPOINT,
            fix="download or save the checkpoint again; its architecture must be one that transformers itself has",
        ) from error
    finally:
        if shows_progress_bar:
            logging.enable_progress_bar()
    return model, sorted(report["missing_keys"])
