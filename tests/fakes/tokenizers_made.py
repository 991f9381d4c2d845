"""Real tokenizers of three kinds, trained here on a few lines with characters of one to four bytes."""

from __future__ import annotations

import json

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra potstill[local]")

TEXTS = [
    "Größe: 12 µm, naïve — 3 × 4 = 12; also ≈ 12,0 €",
    "The answer is 42. Therefore the answer, the answer is \\boxed{42}.",
    "数学の問題を解く。答えは四十二です。 🙂🙃 👩‍👩‍👧 \n\n\tx = 7",
    "Добавим 3 и 4: получится 7. Ответ: 7",
] * 4


def byte_level(size, texts=TEXTS):
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=True
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def marks(size=120, texts=TEXTS):
    """A unigram model with "▁" for spaces, one before the text, and bytes to fall back on, as SentencePiece has it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=size, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["vocab"]
    vocabulary = [("<unk>", 0.0), *((f"<0x{b:02X}>", 0.0) for b in range(256))]
    vocabulary += [(piece, score) for piece, score in learned if piece != "<unk>"]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = tokenizer.pre_tokenizer
    made.decoder = tokenizers.decoders.Metaspace()
    return made


def llama_like():
    """BPE over "▁" with bytes to fall back on; a blank is put before whatever is encoded, as in Llama-2 and Mistral."""
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    lines = [line.replace(" ", "▁") for text in TEXTS for line in text.split("\n")]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>"], show_progress=False
    )
    raw.train_from_iterator(["▁" + line for line in lines] + bytes_, trainer)
    vocabulary = dict(raw.get_vocab())
    for name in bytes_:
        vocabulary.setdefault(name, len(vocabulary))
    merges = [tuple(pair) for pair in json.loads(raw.to_str())["model"]["merges"]]
    raw = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    )
    raw.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    raw.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    return raw
