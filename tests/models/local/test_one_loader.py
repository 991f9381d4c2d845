"""One loader for all: no other call of `from_pretrained`, and the same refusals for sampling, training and teachers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, tiny_tokenizer

import potstill
from potstill.errors import ModelError
from potstill.models.local import checkpoint, weights
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Request, Sampling
from potstill.training.checkpoint import load_student
from potstill.training.objective_inputs import load_frozen
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.cached_logits import load_teacher

PACKAGE = Path(potstill.__file__).parent
LOADERS = {
    "models/local/checkpoint.py",
    "models/local/gguf_checkpoint.py",  # writes the checkpoint that the others load
    "models/local/weights.py",
}


def test_nobody_else_loads_a_checkpoint() -> None:
    callers = set()
    for path in PACKAGE.rglob("*.py"):
        if ".from_pretrained(" in path.read_text("utf-8"):
            callers.add(path.relative_to(PACKAGE).as_posix())
    assert callers == LOADERS


def drop_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def add_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reshape_weight(folder: Path) -> None:
    change_config(folder, intermediate_size=48)


def break_sizes(folder: Path) -> None:
    change_config(folder, num_attention_heads=0)


def hide_text_config(folder: Path) -> None:
    change_config(folder, text_config="x")


def name_outside_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "m.safetensors")
    index = {"weight_map": {"model.norm.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def hide_weights_behind_a_decoy(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")


def bring_code(folder: Path) -> None:
    (folder / "own.py").write_text(f"open({str(folder / 'code-was-run')!r}, 'w').close()")
    change_config(folder, model_type="own", auto_map={"AutoConfig": "own.A", "AutoModel": "own.B"})


def bring_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


ROADS: dict[str, Callable[[Path], object]] = {
    "sampling": lambda folder: TransformersModel(folder).model,
    "training": lambda folder: load_student(folder, TrainingSettings()),
    "a teacher in training": lambda folder: load_frozen(folder, torch.zeros(1)),
    "cached teacher logits": lambda folder: load_teacher(folder, "cpu"),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_weight, "1 weights are missing, the first is model.layers.1.mlp.up_proj.weight"),
        (add_weight, "1 weights have no place in the architecture"),
        (reshape_weight, "weights have another shape than the config says"),
        (break_sizes, "num_attention_heads is 0"),
        (hide_text_config, "text_config is 'x'"),
        (name_outside_shards, r"names '../other/model.safetensors' for weights"),
        (hide_weights_behind_a_decoy, "no model.safetensors, only pytorch_model.bin"),
        (bring_code, "the config can't be loaded"),
        (bring_an_adapter, "adapter_config.json"),
    ],
)
def test_every_road_refuses_the_same(
    road: str, spoil: Callable[[Path], None], message: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as refusal:
        ROADS[road](folder)
    assert refusal.value.fix
    assert not (folder / "code-was-run").exists()


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"model_type": "gpt2", "n_positions": 77}, 77),
        ({"model_type": "gpt2"}, 1024),  # the class's default
        ({"model_type": "qwen2", "max_position_embeddings": 99}, 99),
        ({"model_type": "mpt", "max_seq_len": 55}, 55),
        ({"model_type": "mamba"}, checkpoint.UNLIMITED_CONTEXT),
    ],
)
def test_the_context_is_what_the_configs_class_says(
    config: dict[str, object], context: int, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert checkpoint.read_context(tmp_path) == context


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_no_numbers_are_a_message(
    tiny_checkpoint: Path, tmp_path: Path, temperature: float
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][:] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = TransformersModel(folder)
    with pytest.raises(ModelError, match="no numbers"):
        model.write([Request("Add 3.", sampling=Sampling(temperature=temperature))])
    with pytest.raises(ModelError, match="no numbers"):
        model.likelihood([("Add 3.", "7")])
    with pytest.raises(ModelError, match="no numbers"):
        load_student(folder, TrainingSettings())


@pytest.mark.parametrize("end_ids", [-1, [2, -1], "x", [None]])
def test_ends_that_are_no_ids_are_a_message(tmp_path: Path, end_ids: object) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": end_ids}))
    with pytest.raises(ModelError, match="eos_token_id is"):
        checkpoint.read_end_ids(tmp_path)


def test_what_the_library_reads_is_in_the_id(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ids = {checkpoint.content_id(tiny_checkpoint)}
    names = ["adapter_config.json", "pytorch_model.bin", "additional_chat_templates/tool.jinja"]
    for number, name in enumerate(names):
        folder = shutil.copytree(tiny_checkpoint, tmp_path / str(number))
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        ids.add(checkpoint.content_id(folder))
    assert len(ids) == 1 + len(names)


def test_trained_layers_need_no_cache_but_writing_does(tiny_checkpoint: Path) -> None:
    model = weights.load_weights(tiny_checkpoint, None)
    weights.check_layer_types(model)
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ModelError, match="layers of kind linear_attention"):
        weights.check_layer_types(model)


def test_the_tokenizer_cuts_as_its_file_says(tmp_path: Path) -> None:
    """Of Qwen2 the library builds its own tokenizer, which splits digits, whatever tokenizer.json says."""
    folder = tiny_checkpoint(tmp_path / "qwen2", "qwen2")
    written, loaded = tiny_tokenizer(), checkpoint.load_tokenizer(folder)
    text = "Ned has 19 shells. 19 - 14 = 5."
    assert loaded.encode(text) == written.encode(text)
    assert loaded.chat_template == written.chat_template
    assert loaded.eos_token_id == written.eos_token_id


def test_weights_that_do_not_fit_are_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "to", no_memory)
    with pytest.raises(ModelError, match="weights do not fit on cuda"):
        weights.move_to_device(model, "cuda")
