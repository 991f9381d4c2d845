"""Loading a checkpoint's weights: safetensors only, whole, and no code that came with them.

Whoever needs a model of a folder comes here: sampling, training, teachers, rollouts, studies.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
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


def load_weights(path: Path, dtype: torch.dtype | None) -> Any:
    """The model of a folder, with every weight of its architecture and no other.

    transformers itself fills missing weights with random numbers and leaves surplus ones out.

    Args:
        dtype: None takes what the checkpoint was saved in.
    """
    checkpoint.check_checkpoint(path)
    checkpoint.load_config(path)  # a wrong config has a clearer message there
    model, report = _load_without_progress_bar(path, dtype)
    _check_all_loaded(path, report)
    return model


def load_gguf_weights(file: Path) -> Any:
    """The model of a GGUF file in float32, with every weight of its architecture and no other."""
    # The progress bar of dequantising has no switch; whatever goes wrong is an exception.
    with contextlib.redirect_stderr(io.StringIO()):
        model, report = _load_without_progress_bar(file.parent, torch.float32, gguf_file=file.name)
    _check_all_loaded(file, report)
    return model


def _check_all_loaded(path: Path, report: Mapping[str, Any]) -> None:
    problems = {
        "are missing": report["missing_keys"],
        "have no place in the architecture": report["unexpected_keys"],
        "have another shape than the config says": report["mismatched_keys"],
    }
    for problem, keys in problems.items():
        if keys:
            raise ModelError(
                f"{path}: {len(keys)} weights {problem}, the first is {sorted(map(str, keys))[0]}",
                expected=checkpoint.EXPECTED_CHECKPOINT,
                fix="save the checkpoint again, whole, with the config of its own architecture",
            )


def move_to_device(model: Any, device: Any) -> Any:
    """The model on a device; a message where its memory is too small for the weights."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        size = sum(tensor.nbytes for tensor in model.parameters())
        raise ModelError(
            f"the {size / 2**30:.1f} GiB of weights do not fit on {device} ({str(error)[:150]})",
            expected="free memory for the weights, and for what is computed with them",
            fix="a smaller model, dtype=bfloat16, device=cpu, or several GPUs behind a server (vllm serve)",
        ) from error


def check_no_nan(values: torch.Tensor) -> None:
    """Refuse what a model with broken weights computes, before a token or a score is made of it."""
    if bool(values.isnan().any()):
        raise ModelError(
            "the model computes values that are no numbers (NaN)",
            expected="finite weights, and logits within the number format",
            fix="check the checkpoint's weights, or take dtype=float32",
        )


def check_layer_types(model: Any) -> None:
    """Refuse layers that the cache of `generate` can't hold: it knows keys and values of attention, no other states."""
    layer_types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    unknown_types = sorted(layer_types - {"full_attention", "sliding_attention"})
    if unknown_types:
        raise ModelError(
            f"{type(model).__name__} has layers of kind {', '.join(unknown_types)}",
            expected="full or sliding attention, to write with",
            fix="serve it with vLLM and use the server",
        )


def check_token_ids(model: Any, highest_id: int) -> None:
    """Refuse ids that the model has no embedding for: a tokenizer that is of another model, or has grown."""
    name = getattr(model, "name_or_path", "") or type(model).__name__
    checkpoint.check_token_id(name, highest_id, model.get_input_embeddings().weight.shape[0])


@contextlib.contextmanager
def hidden_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off; whatever goes wrong is an exception."""
    from transformers.utils import logging

    shows_progress_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it warns of is an error here, or of no interest
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress_bar:
            logging.enable_progress_bar()


def _load_without_progress_bar(
    path: Path, dtype: torch.dtype | None, *, gguf_file: str | None = None
) -> tuple[Any, Any]:
    """The model, and what transformers reports of the keys in its files."""
    from transformers import AutoModelForCausalLM

    try:
        with hidden_progress_bars():
            return AutoModelForCausalLM.from_pretrained(  # type: ignore[no-any-return]
                path,
                output_loading_info=True,
                dtype=dtype or "auto",
                use_safetensors=True,
                gguf_file=gguf_file,
                ignore_mismatched_sizes=True,  # reported, and refused by name by the caller
                local_files_only=True,
                trust_remote_code=False,
            )
    except Exception as error:  # boundary: a checkpoint can be broken in any way
        message = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} can't be loaded ({type(error).__name__}: {message})",
            expected=checkpoint.EXPECTED_CHECKPOINT,
            fix=checkpoint.CONFIG_FIX,
        ) from error
