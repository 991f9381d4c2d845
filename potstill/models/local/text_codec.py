"""Text to tokens and back again: the tokens of a text as it stands behind other text, and exactly that text of tokens.

Tokenizers of the Llama-2 kind put a blank before the first word of whatever they encode and take it away from whatever
they decode. So a completion, which stands behind a prompt, is decoded behind an anchor and encoded behind an anchor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

from potstill.models.local.special_tokens import OPEN, SpecialTokens, read_special_tokens

# Texts to encode behind: the first is used whose tokens don't grow together with those of the text.
ANCHORS = ("\n", "a", ".", "0")
PROBES = ("Probe27", " Probe", "\\boxed{7}", "7")  # texts that any tokenizer can give back
_SURROGATE = re.compile("[\ud800-\udfff]")


class EncodedText(NamedTuple):
    """Token ids, and where in the text each token begins and ends."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@final
class TextCodec:
    """A tokenizer for what stands behind other text: completions, and pieces of them.

    Args:
        tokenizer: of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._unknown_ids: dict[int, list[int]] = {}

    @cached_property
    def special_tokens(self) -> SpecialTokens:
        """The special tokens by what they do."""
        return read_special_tokens(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """The tokens of one text."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; one call of the tokenizer where it is exact by itself."""
        if not texts:
            return []
        if self._is_exact:
            readable = [without_surrogates(text) for text in texts]
            encoded: list[list[int]] = self.tokenizer(readable, add_special_tokens=False)[
                "input_ids"
            ]
            return encoded
        return [self.encode_with_offsets(text).ids for text in texts]

    def encode_with_offsets(self, text: str) -> EncodedText:
        """The tokens of one text with their places in it."""
        if self._is_exact:
            return self._encode_plainly(text)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        position = 0
        # Behind an added token the tokenizer would put a blank again: what lies between them is encoded apart.
        for part in self._added_tokens.split(text):
            if not part:
                continue
            if self._added_tokens.fullmatch(part):
                encoded = EncodedText([self._added_ids[part]], [(0, len(part))])
            else:
                encoded = self._encode_behind_anchor(part)
            ids.extend(encoded.ids)
            offsets.extend((position + start, position + stop) for start, stop in encoded.offsets)
            position += len(part)
        return EncodedText(ids, offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that tokens add behind other text, special tokens as they are written."""
        anchor, anchor_text = self._decoding_anchor
        decoded = self.tokenizer.decode(
            [anchor, *ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(decoded)[len(anchor_text) :]

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text that a model wrote: without the tokens that end it or build turns, with those that say something."""
        control_ids = self.special_tokens.control_ids
        return self.decode([token for token in ids if token not in control_ids])

    def restores(self, text: str, ids: Sequence[int]) -> bool:
        """Whether tokens give the text back, character for character."""
        return self.decode(ids) == text

    def encode_document(self, text: str) -> list[int]:
        """A plain text from its start, with the tokens that the tokenizer puts before it and without those behind it.

        An end-of-text token behind a prompt would ask for another text.
        """
        text = without_surrogates(text)
        bare = list(self.tokenizer.encode(text, add_special_tokens=False))
        whole = list(self.tokenizer.encode(text, add_special_tokens=True))
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[: start + len(bare)]
        return bare

    def unknown_ids(self, width: int) -> list[int]:
        """Of a model's ids from 0 to `width`, those without a token: a head is often padded beyond its tokenizer."""
        if width not in self._unknown_ids:
            token_ids = set(self.tokenizer.get_vocab().values())
            self._unknown_ids[width] = [token for token in range(width) if token not in token_ids]
        return self._unknown_ids[width]

    @cached_property
    def _is_exact(self) -> bool:
        """Whether the tokenizer by itself gives text back as it stands behind other text."""
        encoded = [self.tokenizer.encode(probe, add_special_tokens=False) for probe in PROBES]
        return all(self.restores(probe, ids) for probe, ids in zip(PROBES, encoded, strict=True))

    @cached_property
    def _decoding_anchor(self) -> tuple[int, str]:
        token = self.tokenizer.encode("a", add_special_tokens=False)[-1]
        return token, self.tokenizer.decode([token])

    @cached_property
    def _anchors(self) -> dict[str, list[int]]:
        return {anchor: self._encode_plainly(anchor).ids for anchor in ANCHORS}

    @cached_property
    def _added_ids(self) -> dict[str, int]:
        added = self.tokenizer.added_tokens_decoder
        return {str(token): int(token_id) for token_id, token in added.items() if str(token)}

    @cached_property
    def _added_tokens(self) -> re.Pattern[str]:
        longest_first = sorted(self._added_ids, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest_first))
        return re.compile(f"({alternatives})" if alternatives else r"((?!))")

    def _encode_plainly(self, text: str) -> EncodedText:
        readable = without_surrogates(text)
        encoded = self.tokenizer(readable, add_special_tokens=False, return_offsets_mapping=True)
        return EncodedText(list(encoded["input_ids"]), list(encoded["offset_mapping"]))

    def _encode_behind_anchor(self, text: str) -> EncodedText:
        for anchor, anchor_ids in self._anchors.items():
            ids, offsets = self._encode_plainly(anchor + text)
            text_ids = ids[len(anchor_ids) :]
            if ids[: len(anchor_ids)] == anchor_ids and self.restores(text, text_ids):
                places = []
                for start, stop in offsets[len(anchor_ids) :]:
                    places.append((max(0, start - len(anchor)), stop - len(anchor)))
                return EncodedText(text_ids, places)
        return self._encode_plainly(text)  # whoever needs it exact asks `restores`


def without_surrogates(text: str) -> str:
    """A text with a replacement character for each lone surrogate, which JSON can hold and a tokenizer refuses.

    Its tokens then do not give the text back, so that whoever trains on it or scores it is told so by `restores`.
    """
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def without_open_thought(prompt: str, answer: str) -> str:
    """A rendered prompt without the `<think>` that it ends with, where the answer behind it brings its own."""
    bare = prompt.rstrip()
    if opens_thought(answer) and bare.endswith(OPEN):
        return bare.removesuffix(OPEN)
    return prompt


def opens_thought(answer: str) -> bool:
    """Whether an answer begins with a thought in tags."""
    return answer.lstrip().startswith(OPEN)


def begin_answer(text: str, answer_blank: str) -> str:
    """A text as it stands behind the prompt: behind the template's blank, where it brings no white space of its own."""
    if not text or text[0].isspace() or text.startswith(OPEN):
        return text
    return answer_blank + text
