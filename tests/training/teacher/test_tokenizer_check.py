"""A teacher of other tokens or another template is refused before its numbers are compared."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import StageError
from potstill.training import checkpoint
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import load_frozen
from potstill.training.settings import TrainingSettings
from potstill.training.teacher import cached_logits
from potstill.training.teacher.tokenizer_check import check_same_tokens


def edited(path, change):
    """A checkpoint whose tokenizer.json went through `change`."""
    file = make_checkpoint(path) / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")
    return path


def test_a_copy_and_a_larger_model_pass(tmp_path, tiny_checkpoint):
    check_same_tokens(tiny_checkpoint, make_checkpoint(tmp_path / "larger", hidden_size=48, seed=3))


def test_another_vocabulary_is_named_by_its_first_difference(tmp_path, tiny_checkpoint):
    def swap(content):
        vocab = content["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]

    with pytest.raises(StageError) as error:
        check_same_tokens(tiny_checkpoint, edited(tmp_path / "swapped", swap))
    assert "their vocabularies differ: 'a' is" in error.value.found and "uld" in error.value.fix


def test_another_cutting_of_the_same_vocabulary_is_found(tmp_path, tiny_checkpoint):
    def forget(content):
        content["model"]["merges"] = []

    with pytest.raises(StageError, match=r"they cut .* into other tokens"):
        check_same_tokens(tiny_checkpoint, edited(tmp_path / "merges", forget))


def test_another_template_is_shown_and_stops_the_training(tmp_path, tiny_checkpoint):
    other = make_checkpoint(tmp_path / "other")
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text(template.replace("assistant\n", "model\n"))
    with pytest.raises(StageError, match="their chat templates differ"):
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("jsd", teacher=other),
        )
    with pytest.raises(StageError, match="their chat templates differ"):
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig(reference=other),
        )
    assert not (tmp_path / "out" / "fit.json").exists()


def capped(path):
    """A Gemma 2, whose logits are `30 tanh(z / 30)` behind the head."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    make_checkpoint(path)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    config = Gemma2Config(
        vocab_size=400, num_key_value_heads=2, head_dim=8, initializer_range=2.0, **sizes
    )
    model = Gemma2ForCausalLM(config)
    model.save_pretrained(path)
    return path, model


def test_a_model_that_caps_its_logits_is_no_student_no_teacher_and_no_reference(
    tmp_path, tiny_checkpoint
):
    """Its head alone would give other distributions, silently."""
    path, model = capped(tmp_path / "gemma")
    with pytest.raises(StageError, match="in another way than head"):
        checkpoint.load_student(path, TrainingSettings())
    with pytest.raises(StageError, match="in another way than head"):
        load_frozen(path, model)
    with pytest.raises(StageError, match="in another way than head"):
        cached_logits.load_teacher(path, "cpu")
