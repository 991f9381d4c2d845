"""Tiny random checkpoints, real in every file: config, byte-level BPE with a chat template, safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "Ned has 19 shells. Then Ned sells 14. How many shells does he have now?",
    "19 - 14 = 5. 5 - 3 = 2. 2 * 2 = 4. The answer is \\boxed{4}.",
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning.",
    "Let us think step by step. Wait, that is wrong; the total should be 42, so we start again.",
)


def tiny_tokenizer(*, chat: bool = True, vocab: int = 400) -> Any:
    """A byte-level BPE trained on a few sentences: lossless on any text, ChatML template unless `chat` is off."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def tiny_checkpoint(
    path: Path, arch: str = "qwen3", *, chat: bool = True, positions: int = 512, **config: Any
) -> Path:
    """Write a random-weight checkpoint ("qwen3" or "qwen2"; hidden 32, 2 layers) into `path` and return it.

    Args:
        chat: whether the tokenizer has a chat template.
        positions: max_position_embeddings.
        config: `seed` (default 0) and any other field of the architecture's config.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    kinds = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    make_config, make_model = kinds[arch]
    tokenizer = tiny_tokenizer(chat=chat)
    seed = config.pop("seed", 0)
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "initializer_range": 0.25,  # wide enough that greedy decoding has no near ties
    }
    if arch == "qwen3":
        fields["head_dim"] = 8
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model(make_config(**{**fields, **config}))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    generation = {"eos_token_id": [tokenizer.eos_token_id], "pad_token_id": tokenizer.pad_token_id}
    (Path(path) / "generation_config.json").write_text(json.dumps(generation))
    return Path(path)
