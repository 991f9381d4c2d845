"""The student on disk: load its starting checkpoint for training, store it as a plain checkpoint."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from potstill.errors import ConfigError, StageError
from potstill.models.local import checkpoint, weights
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow, TokenizedRows
from potstill.training.logprobs import batch_log_probs
from potstill.training.settings import LoraSettings, TrainingSettings

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)
# The stored student is read again and compared on so many rows, cut to so many tokens.
PROBE_ROWS, PROBE_TOKENS = 4, 512
TOLERANCE = 1e-3  # of one plus the loss, where nothing is rounded
ROUNDED_TOLERANCE = 2e-2  # where weights are stored, or read, in half the bits
STORED_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_student(start: Path, settings: TrainingSettings) -> Any:
    """Load the model to be trained, with adapters where the settings ask for them.

    Trained weights are float32, since an update at a learning rate of 1e-5 is lost in bfloat16; on a GPU, a frozen
    base under adapters keeps its dtype.
    """
    keeps_dtype = settings.lora is not None and torch.cuda.is_available()
    model = weights.load_weights(start, None if keeps_dtype else torch.float32)
    check_output_head(model)
    if settings.lora:
        model = _add_adapters(model, settings.lora)
    if settings.gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    return model


def store_student(
    model: Any,
    start: Path,
    output_dir: Path,
    template: ChatTemplate,
    settings: TrainingSettings,
    *,
    draft: Path,
    rows: TokenizedRows,
) -> None:
    """Store the trained student as a checkpoint that says by itself when to stop.

    It becomes the student only when, read again, it has the same loss as the model in memory: merged adapters, tied
    weights and a rounder dtype can make another one of it.

    Args:
        start: the checkpoint that the training began with; its tokenizer is copied.
        template: of the start; its tokens that end an answer become the generation config's, the learnt one first.
        draft: a folder on the same disk, for the student until it is compared.
        rows: some of them are what is compared.
    """
    batch = probe_batch(rows)
    live_loss = mean_loss(model, batch)
    shutil.rmtree(draft, ignore_errors=True)
    save_student(model, start, draft, template, settings)
    check_stored_loss(draft, batch, live_loss, model.device)
    for part in draft.iterdir():
        target = output_dir / part.name
        if target.is_dir():  # of a process that was killed here
            shutil.rmtree(target)
        part.replace(target)
    draft.rmdir()


def probe_batch(rows: TokenizedRows) -> Batch:
    """The first rows as a batch in which every token counts."""
    probes = []
    for row in rows[:PROBE_ROWS]:
        ids = row.input_ids[:PROBE_TOKENS]
        probes.append(TokenizedRow.of(row.trace_index, ids, [1.0] * len(ids), 0))
    return batching.collate_rows(probes)


def mean_loss(model: Any, batch: Batch) -> float:
    """A model's mean negative log-likelihood of a batch's tokens, the first of each row left out."""
    model.eval()
    log_probs = batch_log_probs(model, batching.to_device(batch, model.device))
    counted = batch["loss_weights"][:, 1:] > 0
    return -float(log_probs.double().sum()) / max(1, int(counted.sum()))


def check_stored_loss(folder: Path, batch: Batch, live_loss: float, device: torch.device) -> None:
    """Refuse a checkpoint whose loss is not the one that the model had in memory."""
    try:
        stored = weights.load_weights(folder, weights.resolve_dtype("auto", device.type))
        stored_loss = mean_loss(stored.to(device), batch)
    except torch.OutOfMemoryError:  # beside the trained model and its optimizer
        stored_loss = mean_loss(weights.load_weights(folder, torch.float32), batch)
    is_rounded = device.type != "cpu" or _saved_dtype(folder) != torch.float32
    tolerance = (ROUNDED_TOLERANCE if is_rounded else TOLERANCE) * (1 + abs(live_loss))
    if not abs(stored_loss - live_loss) <= tolerance:  # nan too
        raise StageError(
            f"the stored student is not the trained one: loss {stored_loss:.4f}, in memory {live_loss:.4f}",
            expected=f"the same within {tolerance:.4f}",
            fix="train without lora, or store in float32 (training.dtype); "
            "if neither helps, this architecture can't be stored: please report it",
        )


def save_student(
    model: Any, start: Path, output_dir: Path, template: ChatTemplate, settings: TrainingSettings
) -> None:
    """Write weights, config, tokenizer and generation config."""
    if settings.lora:
        if settings.lora.save_adapter:
            model.save_pretrained(output_dir / "adapter")
        model = model.merge_and_unload()
    model.to(_stored_dtype(start, settings))

    others = [token for token in template.end_ids if token != template.end_token_id]
    model.generation_config.eos_token_id = [template.end_token_id, *others]
    model.config.use_cache = True
    model.save_pretrained(output_dir)

    # The tokenizer's files are copied as they are: saving a tokenizer rewrites them.
    for pattern in TOKENIZER_FILES:
        for file in start.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, output_dir / file.name)


def check_output_head(model: Any) -> None:
    """Refuse an architecture that changes hidden states or logits outside its output embedding (soft caps, scales)."""
    input_ids = torch.tensor([[0, 1, 2, 3]])
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=input_ids, use_cache=False).logits
        hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        logits_of_head = model.get_output_embeddings()(hidden)
    weights.check_no_nan(logits)
    if not torch.allclose(logits.float(), logits_of_head.float()):
        raise StageError(
            f"{type(model).__name__} computes its logits in another way than head(hidden)",
            expected="an architecture like Qwen2, Qwen3 or Llama",
            fix="choose another model; logit scales and soft caps are not supported",
        )


def _stored_dtype(start: Path, settings: TrainingSettings) -> torch.dtype:
    """The dtype that the settings ask for; float16 overflows in training, so it is stored as float32."""
    if settings.dtype == "start":
        return _saved_dtype(start)
    return STORED_DTYPES.get(settings.dtype, torch.float32)


def _saved_dtype(folder: Path) -> torch.dtype:
    """The dtype of a checkpoint's weights, as its config says."""
    config = checkpoint.read_config(folder)
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return STORED_DTYPES.get(name, torch.float32)


def _add_adapters(model: Any, lora: LoraSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    target_modules: Any = lora.target_modules
    if isinstance(target_modules, str) and target_modules.isidentifier():
        target_modules = [
            target_modules
        ]  # one layer's name; PEFT would take it for a pattern of whole paths
    elif not isinstance(target_modules, str):
        target_modules = list(target_modules)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=target_modules,
        task_type="CAUSAL_LM",
        use_dora=lora.use_dora,
    )
    try:
        with warnings.catch_warnings():
            # PEFT reads a property that transformers has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted = get_peft_model(model, config)
    except (ValueError, re.error) as error:  # one text is a regular expression to PEFT
        linear_layers = set()
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                linear_layers.add(name.rpartition(".")[2])
        raise ConfigError(
            f"lora.target_modules: {error}",
            expected="names of linear layers",
            available=sorted(linear_layers),
            wanted=str(target_modules),
            fix="target_modules: all-linear",
        ) from error
    _refuse_adapted_tied_head(adapted)
    return adapted


def _refuse_adapted_tied_head(model: Any) -> None:
    """Refuse adapters on a matrix that is head and embedding at once: merged into one they change the other."""
    base = model.get_base_model()
    # An adapted layer wraps the layer that it adapts.
    head = getattr(base.get_output_embeddings(), "base_layer", base.get_output_embeddings())
    table = getattr(base.get_input_embeddings(), "base_layer", base.get_input_embeddings())
    if head.weight is not table.weight:
        return
    for name, layer in base.named_modules():
        if getattr(layer, "base_layer", None) in (head, table):
            raise ConfigError(
                f"lora.target_modules has {name.rpartition('.')[2]}; head and embedding of this model are one matrix",
                expected="layers inside the model",
                fix="leave it out of target_modules, or train without lora",
            )


def _enable_gradient_checkpointing(model: Any) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Frozen embeddings would cut the graph at the first recomputed layer.
    base.enable_input_require_grads()
    enable = getattr(base, "activation_checkpointing_enable", None)  # transformers' newer name
    if enable is None:
        enable = base.gradient_checkpointing_enable
    enable({"use_reentrant": False})
