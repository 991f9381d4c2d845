"""An answer in parts, as server-sent events: the text of each choice while it is written."""

from __future__ import annotations

from typing import Any, final

from potstill.models.model import RowProgress
from potstill.serving.answers import Answer
from potstill.serving.prompts import TextStream


@final
class ChoiceStream:
    """One choice of an answer, part by part.

    Args:
        answer: of the call.
        index: of the choice.
    """

    def __init__(self, answer: Answer, index: int) -> None:
        self._answer, self._index = answer, index
        self._text = TextStream(answer.tokens.encoder.decode_text, answer.call.stop)
        self._read_tokens = 0  # whose text is in the stream, sent or held back
        self._sent_tokens = 0  # that a part has told of
        self._is_finished = False

    def next_part(self, progress: RowProgress) -> dict[str, Any] | None:
        """What has come since the last part; None where nothing has that can be sent.

        Args:
            progress: of the row.
        """
        if self._is_finished:
            return None
        row = self._answer.rows[self._index]
        text_start = len(self._text.sent)
        token_count = progress.tokens
        if progress.is_finished:
            # The whole text knows where a stop string or the limit cut it.
            token_count = self._answer.token_count(self._index)
            text = self._text.finish(self._answer.text_of(self._index)[0])
        else:
            text = self._text.push(row.ids[self._read_tokens : token_count])
            self._read_tokens = token_count
        if not text and not progress.is_finished:
            return None
        part = self._answer.part_choice(
            self._index,
            text,
            slice(self._sent_tokens, token_count),
            text_start=text_start,
            is_last=progress.is_finished,
        )
        self._sent_tokens, self._is_finished = token_count, progress.is_finished
        return part


def opening_parts(answer: Answer) -> list[dict[str, Any]]:
    """The first part of a streamed chat: who speaks."""
    parts = []
    for index in range(len(answer.rows)):
        delta = {"role": "assistant", "content": ""}
        parts.append({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})
    return parts
