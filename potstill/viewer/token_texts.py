"""The text of each token, by the vocabulary in `tokenizer.json`; joined they are the text, and no tokenizer is loaded.

A token is bytes, and may end inside a character. Its text then stands at the token that completes the character.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import InputError

TOKENIZER_FILE = "tokenizer.json"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK_MARK = "▁"  # how tokenizers of the SentencePiece kind write a blank


class Vocabulary(NamedTuple):
    """What each token id stands for.

    Args:
        tokens: by id, as the file writes them.
        added: by id, the text of tokens that stand for themselves, such as `<|im_end|>`.
        special: ids of those that are no text.
        is_byte_level: whether a character of a token is a byte (GPT-2's table); else blanks are marked.
    """

    tokens: Mapping[int, str]
    added: Mapping[int, str]
    special: frozenset[int]
    is_byte_level: bool

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of a token; those of `⟨id⟩` for an id that the file does not have."""
        if token_id in self.added:
            return self.added[token_id].encode("utf-8")
        token = self.tokens.get(token_id)
        if token is None:
            return f"⟨{token_id}⟩".encode()
        if self.is_byte_level:
            table = byte_of_character()
            # A character that is none of the table's stands for itself.
            parts = [bytes([table[c]]) if c in table else c.encode("utf-8") for c in token]
            return b"".join(parts)
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte:
            return bytes([int(byte[1], 16)])
        return token.replace(_BLANK_MARK, " ").encode("utf-8")


class TokenTexts(NamedTuple):
    """The texts of a row's tokens, and the bytes (in hex) of those that begin or end inside a character."""

    texts: list[str]
    bytes_by_place: dict[int, str]


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a checkpoint.

    Raises:
        InputError: there is no tokenizer.json, or none that can be read.
    """
    path = folder / TOKENIZER_FILE
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise InputError(
            f"there is no {TOKENIZER_FILE} in {folder.name}",
            fix="the tokens are shown by their ids",
        ) from error
    return _load_vocabulary(path, changed)


@functools.lru_cache(maxsize=4)
def _load_vocabulary(path: Path, changed: int) -> Vocabulary:
    try:
        document = json.loads(path.read_text("utf-8"))
        model: Mapping[str, Any] = document["model"]
        tokens: dict[int, str] = {}
        # BPE and word pieces have ids by token, Unigram has a list.
        if isinstance(model["vocab"], dict):
            tokens = {int(token_id): token for token, token_id in model["vocab"].items()}
        else:
            tokens = {token_id: token for token_id, (token, _) in enumerate(model["vocab"])}
        added = {
            int(entry["id"]): str(entry["content"]) for entry in document.get("added_tokens", [])
        }
        special = {
            int(entry["id"]) for entry in document.get("added_tokens", []) if entry.get("special")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} can't be read: {type(error).__name__}: {error}") from error
    is_byte_level = '"ByteLevel"' in json.dumps(
        [document.get("decoder"), document.get("pre_tokenizer")]
    )
    return Vocabulary(tokens, added, frozenset(special), is_byte_level)


@functools.cache
def byte_of_character() -> Mapping[str, int]:
    """GPT-2's table: printable bytes stand for themselves, the others are characters from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    for place, byte in enumerate(others):
        table[chr(256 + place)] = byte
    return table


def decode_tokens(vocabulary: Vocabulary, ids: Sequence[int]) -> TokenTexts:
    """The texts of tokens in a row; what is no UTF-8 is U+FFFD."""
    # Bytes are decoded as they come, so that a character of several tokens is whole where it ends.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts: list[str] = []
    bytes_by_place: dict[int, str] = {}
    is_inside = False  # a character that an earlier token began
    for place, token_id in enumerate(ids):
        content = vocabulary.bytes_of(token_id)
        texts.append(decoder.decode(content, final=place == len(ids) - 1))
        pending = decoder.getstate()[0]
        if is_inside or pending:
            bytes_by_place[place] = content.hex(" ")
        is_inside = bool(pending)
    return TokenTexts(texts, bytes_by_place)
