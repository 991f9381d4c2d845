"""The student on disk: loading its starting checkpoint for training, storing it as a plain one."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from potstill.errors import ConfigError, ModelError, StageError
from potstill.models.local import checkpoint
from potstill.training.settings import LoraSettings, TrainingSettings

TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(start: Path, settings: TrainingSettings) -> Any:
    """The model to be trained, with adapters where the settings ask for them.

    Trained weights are fp32, since an update of lr 1e-5 is lost in bfloat16; on a GPU, a frozen base under adapters
    keeps its dtype.
    """
    frozen = settings.lora is not None and torch.cuda.is_available()
    dtype = "auto" if frozen else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(start, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        fix = "check the folder with: python -c 'AutoModelForCausalLM.from_pretrained(PATH)'"
        raise ModelError(
            f"{start} can't be loaded: {error}", expected="a causal language model", fix=fix
        ) from error
    check_head(model)
    if settings.lora:
        model = _adapted(model, settings.lora)
    if settings.gradient_checkpointing:
        _recompute(model)
    return model


def save(model: Any, start: Path, out: Path, end: int, settings: TrainingSettings) -> None:
    """Store weights, config, tokenizer and generation config: a checkpoint that says by itself when to stop.

    Args:
        end: id of the end-of-turn token the student was trained to write.
    """
    if settings.lora:
        if settings.lora.save_adapter:
            model.save_pretrained(out / "adapter")
        model = model.merge_and_unload()
    model.to(_dtype(start, settings))
    generation = model.generation_config
    known = generation.eos_token_id
    ends = [] if known is None else known if isinstance(known, list) else [known]
    generation.eos_token_id = [end, *(token for token in ends if token != end)]
    model.config.use_cache = True
    model.save_pretrained(out)
    for file in sorted({file for part in TOKENIZER for file in start.glob(part) if file.is_file()}):
        shutil.copyfile(
            file, out / file.name
        )  # as they were: saving a tokenizer again rewrites its files


def _dtype(start: Path, settings: TrainingSettings) -> torch.dtype:
    config = checkpoint.read_config(start)
    name = (
        str(config.get("dtype") or config.get("torch_dtype") or "float32")
        if settings.dtype == "start"
        else settings.dtype
    )
    return DTYPES.get(name, torch.float32)  # float16 overflows in training, so it is stored as fp32


def _adapted(model: Any, lora: LoraSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = (
        lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    )
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
        use_dora=lora.use_dora,
    )
    try:
        with (
            warnings.catch_warnings()
        ):  # peft asks transformers by a name that transformers calls deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        linear = {
            name.rpartition(".")[2]
            for name, m in model.named_modules()
            if isinstance(m, torch.nn.Linear)
        }
        raise ConfigError(
            f"lora.target_modules: {error}",
            expected="names of linear layers",
            available=sorted(linear),
            wanted=str(targets),
            fix="target_modules: all-linear",
        ) from error


def _recompute(model: Any) -> None:
    """Activation checkpointing under the name that this version of transformers has for it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.enable_input_require_grads()  # frozen embeddings would cut the graph at the first recomputed layer
    enable = (
        getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    )
    enable({"use_reentrant": False})


def check_head(model: Any) -> None:
    """Refuse an architecture that changes hidden states or logits outside its output embedding (soft caps, scales)."""
    ids = torch.tensor([[0, 1, 2, 3]])
    model.eval()
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours = model.get_output_embeddings()(hidden)
    if not torch.allclose(whole.float(), ours.float()):
        raise StageError(
            f"{type(model).__name__} computes its logits in another way than head(hidden)",
            expected="an architecture like Qwen2, Qwen3 or Llama",
            fix="choose another model; logit scales and soft caps are not supported",
        )
