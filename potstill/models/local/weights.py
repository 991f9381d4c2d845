"""Loading a checkpoint's weights: safetensors only, whole, and no code that came with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from potstill.errors import ConfigError, ModelError
from potstill.models.local import checkpoint

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device(name: str) -> str:
    """The device that a name or "auto" means here."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        available = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        raise ConfigError(
            f"no device {name!r} here", available=available, wanted=name, fix="choose device=cpu"
        )
    return name


def dtype(name: str, place: str) -> torch.dtype:
    """The number format that a name or "auto" means on a device."""
    if name == "auto":
        return torch.float32 if place == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise ConfigError(
            f"unknown dtype={name}",
            available=("auto", *DTYPES),
            wanted=name,
            fix="choose dtype=auto",
        )
    return DTYPES[name]


def load(path: Path, number: torch.dtype) -> Any:
    """The model of a folder; an error if weights are missing, which transformers would fill with random numbers."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    checkpoint.check(path)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        options = {
            "dtype": number,
            "use_safetensors": True,
            "local_files_only": True,
            "trust_remote_code": False,
        }
        model, report = AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, **options
        )
    except Exception as error:  # boundary: a checkpoint can be broken in any way
        message = f"{path} can't be loaded ({type(error).__name__}: {str(error)[:200]})"
        fix = "download or save the checkpoint again; its architecture must be one that transformers itself has"
        raise ModelError(message, expected=checkpoint.LEADS_TO, fix=fix) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    missing = sorted(report["missing_keys"])
    if missing:
        message = f"{path}: {len(missing)} weights are missing, the first is {missing[0]}"
        raise ModelError(
            message, expected=checkpoint.LEADS_TO, fix="save the checkpoint again, whole"
        )
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        message = f"{path} has layers of kind {', '.join(sorted(kinds))}"
        raise ModelError(
            message,
            expected="full or sliding attention",
            fix="serve it with vLLM and use the server",
        )
    return model
