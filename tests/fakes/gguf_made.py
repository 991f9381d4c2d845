"""A tiny Llama as llama.cpp would write it: a GGUF file made with the package `gguf`, and the model that it holds."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tiny import tiny_tokenizer

# Names of llama.cpp, by those of transformers.
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HEADS, KV_HEADS, HIDDEN, POSITIONS = 4, 2, 32, 128


def tiny_llama(tokens: list[str]) -> Any:
    """A random Llama with tied embeddings, whose greedy answers do not end and are ASCII.

    llama.cpp returns no half characters, and no log-probabilities of them.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.25,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    for index, token in enumerate(tokens):
        if token.startswith("<|") or not token.replace("Ġ", " ").isascii():
            model.model.embed_tokens.weight.data[index] = 0  # a logit of 0 is never the highest
    return model


def write_gguf(path: Path, *, without: str = "", cut: str = "smollm", **metadata: int) -> Any:
    """Write a tiny Llama into `path` and return it, as transformers' model.

    Args:
        without: a tensor that the file lacks.
        cut: `tokenizer.ggml.pre`.
        metadata: numbers under `llama.` that win over the true ones.
    """
    import gguf

    tokenizer = tiny_tokenizer()
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(core["vocab"], key=core["vocab"].__getitem__)
    model = tiny_llama(tokens)
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {
        "block_count": 2,
        "context_length": POSITIONS,
        "embedding_length": HIDDEN,
        "feed_forward_length": 64,
        "vocab_size": len(tokenizer),
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HIDDEN // HEADS,
    }
    for key, number in {**numbers, **metadata}.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_name("tiny")

    control = {added.content for added in tokenizer.added_tokens_decoder.values()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in control else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in core["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    for name, array in named_arrays(model).items():
        if name != without:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def named_arrays(model: Any) -> dict[str, Any]:
    """The weights under llama.cpp's names; queries and keys with its order of the rotary halves."""
    arrays = {
        "token_embd.weight": model.model.embed_tokens.weight.detach().numpy(),
        "output_norm.weight": model.model.norm.weight.detach().numpy(),
    }
    for number, layer in enumerate(model.model.layers):
        for ours, theirs in LAYER_NAMES.items():
            array = layer.get_submodule(ours).weight.detach().numpy()
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs)
            if heads:
                rows = len(array) // heads // 2
                halves = array.reshape(heads, 2, rows, HIDDEN)
                array = halves.swapaxes(1, 2).reshape(array.shape)
            arrays[f"blk.{number}.{theirs}.weight"] = array
    return arrays


# A header by hand, for what no library would write.


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def small_file(
    *entries: bytes,
    tensors: bytes = b"",
    tensor_count: int = 0,
    data: bytes = b"",
    version: int = 3,
) -> bytes:
    """A GGUF file of these entries (key, type and value as bytes)."""
    counts = struct.pack("<IQQ", version, tensor_count, len(entries))
    return b"GGUF" + counts + b"".join(entries) + tensors + data


def entry(key: str, value_type: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", value_type) + value


def tensor(name: str, *sizes: int, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + shape + struct.pack("<IQ", 0, offset)
