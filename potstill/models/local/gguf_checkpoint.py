"""GGUF files as models: transformers reads one once, and writes a checkpoint folder that everything else here can use.

The weights are dequantised to float32, exactly what the file says. The checkpoint lies in the cache folder under the
digest of the file's bytes, so that the file may be moved. Nothing beside the file is read.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.atomic_write import building_folder
from potstill.errors import ModelError, PotstillWarning
from potstill.extras import require_extra
from potstill.models import cache_folder
from potstill.models.local import checkpoint
from potstill.models.local.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

SUFFIX = ".gguf"
WRITER = 1  # raised when the checkpoints that this module writes of a file change
FLOAT32_BYTES = 4
DISK_MARGIN = 64 << 20  # bytes beside the weights: tokenizer, config, what else the disk needs
EXPECTED_FILE = "transformers:FILE.gguf of an architecture that transformers reads"
FILE_FIX = "take the model's safetensors checkpoint instead: transformers:FOLDER"
# How texts are cut before byte-level BPE, by `tokenizer.ggml.pre`. transformers knows the names with a pattern of their
# own. Source: the groups of llama_vocab_pre_type in llama.cpp's src/llama-vocab.cpp.
CUT_AS_GPT2 = ("", "default", "gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling")
DIGITS_APART = (
    *("smollm", "starcoder", "refact", "command-r"),
    *("codeshell", "exaone", "minerva-7b"),
)
# What transformers notes of the session that wrote a file: it would make another model of the same content.
SESSION_KEYS = ("transformers_version", "_model_name_or_path", "is_local", "local_files_only")


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file, and not a checkpoint folder."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def checkpoint_of_gguf(file: Path) -> Path:
    """The checkpoint folder of a GGUF file, written now where it is not in the cache.

    Raises:
        ConfigError: an extra that reads the file is not installed.
        ModelError: there is no such file, it is damaged, or transformers does not know its architecture.
    """
    if not file.is_file():
        raise ModelError(
            f"no file {file}",
            expected=EXPECTED_FILE,
            available=sorted(path.name for path in file.parent.glob(f"*{SUFFIX}")),
            wanted=file.name,
            fix="download the file, or give its path",
        )
    folder = cached_checkpoint(file)
    if folder.is_dir():
        return folder
    header = read_header(file)
    require_extras(f"transformers:{file}")
    weights_bytes = FLOAT32_BYTES * header.weight_count
    message = (
        f"{file.name} is written once as a checkpoint of {weights_bytes / 1e6:,.0f} MB to {folder}"
    )
    warnings.warn(message, PotstillWarning, stacklevel=2)
    with building_folder(folder) as draft:
        if draft is not None:
            write_checkpoint(file, draft)
            digest = checkpoint.file_digest(file)
            cache_folder.write_source(draft, {"file": file.name, "sha256": digest})
    return folder


def cached_checkpoint(file: Path) -> Path:
    """Where the checkpoint of a GGUF file lies once it has been written."""
    return cache_folder.gguf_folder() / f"{checkpoint.file_digest(file)[:32]}-{WRITER}"


def require_extras(purpose: str) -> None:
    """Refuse to go on where the packages that read GGUF files are not installed."""
    require_extra("local", purpose)
    require_extra("gguf", purpose)


def write_checkpoint(file: Path, folder: Path) -> None:
    """Write a GGUF file as a checkpoint: config, float32 weights, tokenizer and chat template.

    Args:
        file: read whole; about 5 bytes of memory a weight are needed.
        folder: an empty one.
    """
    header = read_header(file)
    cache_folder.check_free_space(folder, FLOAT32_BYTES * header.weight_count + DISK_MARGIN)
    # The library looks for other files beside the one that it is given: here there are none.
    source = folder / "source"
    source.mkdir()
    (source / "model.gguf").symlink_to(file.absolute())
    try:
        with _reading(file):
            config = _load_config(source / "model.gguf", header)
            tokenizer = _load_tokenizer(source / "model.gguf", header)
            _save_weights(source / "model.gguf", config, header, folder)
        tokenizer.model_max_length = checkpoint.context_of(config.get_text_config())
        tokenizer.save_pretrained(folder)
    finally:
        shutil.rmtree(source)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _drop_session_keys(folder / name)
    checkpoint.check_checkpoint(folder)
    checkpoint.load_tokenizer(folder)


@contextlib.contextmanager
def _reading(file: Path) -> Any:
    """Say what a library could not read of the file."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # boundary: a file from anywhere can be wrong in any way
        message = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{file} can't be read by transformers ({type(error).__name__}: {message})",
            expected=EXPECTED_FILE,
            fix=FILE_FIX,
        ) from error


def _load_config(file: Path, header: GgufHeader) -> Any:
    """The config that the metadata describe, refused where its model would be larger than what the file holds."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False, local_files_only=True
    )
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > len(header.weights_of_tensor):
        raise ValueError(f"{layers} layers, and {len(header.weights_of_tensor)} tensors")
    with torch.device("meta"):  # no memory is taken
        model = AutoModelForCausalLM.from_config(config)
    parameters = sum(weight.numel() for weight in model.parameters())
    if parameters > header.weight_count:
        raise ValueError(
            f"a model of {parameters:,} weights, and the file has {header.weight_count:,}"
        )
    return config


def _load_tokenizer(file: Path, header: GgufHeader) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False, local_files_only=True
    )
    cut = str(header.metadata.get("tokenizer.ggml.pre", ""))
    backend = tokenizer.backend_tokenizer
    if header.metadata.get("tokenizer.ggml.model") != "gpt2":
        return tokenizer
    if cut in DIGITS_APART:
        backend.pre_tokenizer = _digits_apart()
    elif cut not in CUT_AS_GPT2 and type(backend.pre_tokenizer).__name__ == "ByteLevel":
        message = f"the file's tokenizer cuts texts as {cut!r}, which is not known here; it is read as GPT-2's"
        warnings.warn(message, PotstillWarning, stacklevel=2)
    return tokenizer


def _digits_apart() -> PreTokenizer:
    """Each digit alone, then as GPT-2 cuts."""
    from tokenizers import pre_tokenizers

    steps = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
    return pre_tokenizers.Sequence(steps)


def _save_weights(file: Path, config: Any, header: GgufHeader, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from potstill.models.local.weights import hidden_progress_bars, load_gguf_weights

    quantised = load_gguf_weights(file)
    # The library refuses to save what it has read from GGUF: its weights are given to a model of the same config.
    config.dtype = torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict(), strict=True, assign=True)
    model.tie_weights()
    model.generation_config = quantised.generation_config
    with hidden_progress_bars():
        model.save_pretrained(folder)


def _drop_session_keys(file: Path) -> None:
    if not file.is_file():
        return
    values = checkpoint.read_json(file)
    for key in SESSION_KEYS:
        values.pop(key, None)
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
