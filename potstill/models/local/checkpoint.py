"""A folder with a transformers checkpoint: what must be in it, its content id, its config and its tokenizer.

Besides `weights.py` and `gguf_checkpoint.py` the only place that calls `from_pretrained`, so that nothing is
downloaded, no code that came with a checkpoint runs, and whatever goes wrong is a message.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from potstill.errors import ModelError, PotstillWarning
from potstill.models.local.chat_template import date_note
from potstill.records import digest

# Everything that the model library may read, refused files included.
CONTENT_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "*.py"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("*.model", "tekken.json", "chat_template*", "additional_chat_templates/*"),
    *("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth"),
)
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
TOKENIZER_STEPS = ("normalizer", "pre_tokenizer", "decoder")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
EXPECTED_CHECKPOINT = "transformers:PATH, where PATH is a folder with config.json, tokenizer.json and model.safetensors"
# What configs call the most positions; most classes map theirs to the first name.
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
UNLIMITED_CONTEXT = 1 << 30  # positions, where the config names no limit
SIZE_NAMES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
CONFIG_FIX = "download or save the checkpoint again; its architecture must be one that transformers itself has"
LISTED_NAMES = 12  # of files or folders in an error

_digests: dict[tuple[str, int, int], str] = {}  # of files, by path, size and time of change


def check_checkpoint(path: Path) -> None:
    """Refuse a folder that is not a checkpoint, saying which part is missing."""
    if not path.is_dir():
        raise ModelError(
            f"no checkpoint folder {path}" + (" (it is a file)" if path.is_file() else ""),
            expected=EXPECTED_CHECKPOINT,
            available=_checkpoints_in(path.parent),
            wanted=path.name,
            fix="download the model into a folder and give the folder's path",
        )
    file_names = sorted(entry.name for entry in path.iterdir())
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} has no config.json",
            expected=EXPECTED_CHECKPOINT,
            available=_checkpoints_in(path) or file_names[:LISTED_NAMES],
            fix="give the folder that holds config.json",
        )
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"{path} has an adapter_config.json: its weights would be laid over another model's",
            expected=EXPECTED_CHECKPOINT,
            fix="merge the adapter into its base model (merge_and_unload, save_pretrained) and give that folder",
        )
    if not any((path / name).is_file() for name in WEIGHT_FILES):
        message = f"{path} has no {WEIGHT_FILES[0]}"
        pickle_names = [name for name in file_names if name.endswith((".bin", ".pt", ".pth"))]
        if pickle_names:
            message += f", only {pickle_names[0]}, which could run code when loaded"
        raise ModelError(
            message,
            expected=EXPECTED_CHECKPOINT,
            available=file_names[:LISTED_NAMES],
            fix="save the weights again with save_pretrained(…, safe_serialization=True)",
        )
    _check_shards(path)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{path} has no tokenizer",
            expected=EXPECTED_CHECKPOINT,
            available=file_names[:LISTED_NAMES],
            fix=f"copy the tokenizer there: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(path)!r})",
        )


def _check_shards(path: Path) -> None:
    """Refuse an index that names weights outside the folder: the checkpoint's id would not know of them."""
    single_file, index = (path / name for name in WEIGHT_FILES)
    if single_file.is_file():
        return
    shard_of_weight = read_json(index).get("weight_map")
    shards = set(shard_of_weight.values()) if isinstance(shard_of_weight, dict) else {""}
    for shard in sorted(map(str, shards)):
        if not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise ModelError(
                f"{index} names {shard!r} for weights",
                expected="names of .safetensors files in the same folder",
                fix="save the weights again with save_pretrained",
            )
        if not (path / shard).is_file():
            raise ModelError(
                f"{path} lacks {shard}, which its {index.name} names",
                expected=EXPECTED_CHECKPOINT,
                fix="download the rest of the weights",
            )


def read_config(path: Path) -> dict[str, Any]:
    """The checkpoint's config.json as it stands there; `load_config` knows defaults and other names too."""
    return read_json(path / "config.json")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint."""
    try:
        values = json.loads(file.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{file} is not JSON ({error})",
            expected=EXPECTED_CHECKPOINT,
            fix=f"copy {file.name} from the model again",
        ) from error
    if not isinstance(values, dict):
        raise ModelError(
            f"{file} is no JSON object",
            expected=EXPECTED_CHECKPOINT,
            fix="copy it from the model again",
        )
    return values


def load_config(path: Path) -> Any:
    """The config as its class reads it: other names mapped, values that the file leaves out at their defaults."""
    from transformers import AutoConfig

    read_config(path)  # a file that is no JSON has a clearer message there
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        _check_sizes(config.get_text_config())
    except Exception as error:  # boundary: a config can be wrong in any way
        raise _load_error(path, "the config", error, CONFIG_FIX) from error
    return config


def _check_sizes(text_config: Any) -> None:
    """Refuse a text model's config that is no config, or has sizes that no model can have."""
    if not hasattr(text_config, "model_type"):
        raise ValueError(f"text_config is {text_config!r:.40}")
    for name in SIZE_NAMES:
        size = getattr(text_config, name, None)
        if isinstance(size, int) and size < 1:
            raise ValueError(f"{name} is {size}")


def read_context(path: Path) -> int:
    """The most positions that the model can attend to."""
    return context_of(load_config(path).get_text_config())


def context_of(text_config: Any) -> int:
    """The most positions of a text model's config."""
    for name in CONTEXT_NAMES:
        positions = getattr(text_config, name, None)
        if isinstance(positions, int) and positions > 0:
            return positions
    return UNLIMITED_CONTEXT


def read_end_ids(path: Path) -> tuple[int, ...]:
    """Ids that end an answer by the generation config, or by the config where there is none, as the library does."""
    file = path / "generation_config.json"
    values = read_json(file) if file.is_file() else read_config(path)
    end_ids = values.get("eos_token_id")
    if end_ids is None and not file.is_file():
        text_config = values.get("text_config")
        if isinstance(text_config, dict):
            end_ids = text_config.get("eos_token_id")
    if not isinstance(end_ids, list):
        end_ids = [] if end_ids is None else [end_ids]
    if not all(type(token) is int and token >= 0 for token in end_ids):
        raise ModelError(
            f"{path}: eos_token_id is {end_ids}",
            expected="a token id from 0 on, or a list of them",
            fix="copy generation_config.json from the model again",
        )
    return tuple(end_ids)


def load_tokenizer(path: Path) -> Any:
    """The transformers tokenizer of a checkpoint, which cuts text as its tokenizer.json says.

    For some architectures AutoTokenizer builds a tokenizer of the class that it holds to be the right one, from the
    file's vocabulary alone: a student with a tokenizer of its own would read other tokens than it was trained on.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    check_checkpoint(path)
    read_config(path)  # the library looks there for the tokenizer's class
    tokenizer = _from_pretrained(AutoTokenizer, path)
    if not _follows_file(tokenizer, path / "tokenizer.json"):
        tokenizer = _from_pretrained(PreTrainedTokenizerFast, path)
    note = date_note(tokenizer)
    if note:
        warnings.warn(note, PotstillWarning, stacklevel=2)
    return tokenizer


def _from_pretrained(tokenizer_class: Any, path: Path) -> Any:
    try:
        return tokenizer_class.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # boundary: a tokenizer file can be broken in any way
        fix = "copy the tokenizer files from the model again"
        raise _load_error(path, "the tokenizer", error, fix) from error


def _follows_file(tokenizer: Any, file: Path) -> bool:
    """Whether a tokenizer has the steps of its tokenizer.json; true of one that has no such file."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return True
    steps_of_file = read_json(file)
    for name in TOKENIZER_STEPS:
        step = getattr(backend, name)
        loaded = None if step is None else json.loads(step.__getstate__())
        if loaded != steps_of_file.get(name):
            return False
    return True


def check_token_id(name: str, highest_id: int, embeddings: int) -> None:
    """Refuse an id that a model has no embedding for: a tokenizer that is of another model, or has grown."""
    if highest_id >= embeddings:
        raise ModelError(
            f"{name}: the tokenizer gives the id {highest_id}, and the model has {embeddings} embeddings, "
            f"from 0 to {embeddings - 1}",
            expected="a tokenizer and weights of one model",
            fix="copy the tokenizer files of this model again, or give it more embeddings (resize_token_embeddings)",
        )


def _load_error(path: Path, part: str, error: Exception, fix: str) -> ModelError:
    message = " ".join(str(error).split())[:200]
    return ModelError(
        f"{path}: {part} can't be loaded ({type(error).__name__}: {message})",
        expected=EXPECTED_CHECKPOINT,
        fix=fix,
    )


def content_id(path: Path, kind: str = "hf") -> str:
    """`hf-` and a digest over the bytes of all that can be read of a checkpoint: moving or copying it keeps its id."""
    files: set[Path] = set()
    for pattern in CONTENT_FILES:
        files.update(file for file in path.glob(pattern) if file.is_file())
    names = [[file.relative_to(path).as_posix(), file_digest(file)] for file in sorted(files)]
    return digest(kind, names)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces; remembered while size and time of change stay."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _checkpoints_in(folder: Path) -> list[str]:
    """Names of the folders below this one that look like checkpoints."""
    if not folder.is_dir():
        return []
    names = sorted(p.name for p in folder.iterdir() if (p / "config.json").is_file())
    return names[:LISTED_NAMES]
