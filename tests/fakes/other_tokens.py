"""A tiny teacher of another tokenizer, template, width and depth than the tiny student's."""

from pathlib import Path

from tiny import tiny_checkpoint

TURNS = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|done|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = (
    "So So So 7 - 0 = 7. So 3 - 1 = 4.",
    "Wait, that is wrong; 42. Ned has 10 shells.",
    "9 - 2 = 6. 1 - 3 = 2. 8 - 5.",
) * 3
SPECIAL = ["<|pad|>", "<|user|>", "<|assistant|>", "<|done|>"]


def byte_level():
    """Byte-level BPE that learned from other sentences, so that it cuts in other places."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    how = {
        "vocab_size": 330,
        "special_tokens": SPECIAL,
        "initial_alphabet": alphabet,
        "show_progress": False,
    }
    raw.train_from_iterator(TEXTS, trainers.BpeTrainer(**how))
    return raw


def marks():
    """Unigram pieces with marks for spaces, one before the text, as SentencePiece has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace()
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "})
    how = {
        "vocab_size": 120,
        "unk_token": "<unk>",
        "special_tokens": ["<unk>", *SPECIAL],
        "show_progress": False,
    }
    raw.train_from_iterator(TEXTS, trainers.UnigramTrainer(**how, initial_alphabet=letters))
    return raw


def other_checkpoint(path: Path, kind: str = "bytes", **config) -> Path:
    """The teacher; its tokenizer is "bytes" or "marks"."""
    from transformers import PreTrainedTokenizerFast

    raw = byte_level() if kind == "bytes" else marks()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|done|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = TURNS
    shape = {"hidden_size": 48, "num_hidden_layers": 3, "seed": 5, **config}
    tiny_checkpoint(path, vocab_size=len(tokenizer), **shape)
    tokenizer.save_pretrained(path)
    return path
