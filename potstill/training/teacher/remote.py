"""A teacher behind a wire scores given tokens: its log-probability of each, found by text and checked token by token.

It reads text and cuts it by itself, so what can be compared is what our tokenizer cuts into the very tokens that were
sampled, and what comes back as one number for each of them. A completion of which that isn't true has no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from potstill.models.model import Scored
from potstill.records import Prompt, Trace
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.rows import TokenizedRow


@final
class RemoteTeacher:
    """A model of the contract `Scored` as a teacher of tokens.

    Args:
        model: behind a server, or anything that gives likelihoods; under a cache, texts are scored once.
        rows: the stage's rows, which a rendered row names by its index.
        chat: the student's tokenizer and template.
    """

    def __init__(self, model: Scored, rows: Sequence[Trace], chat: ChatTemplate) -> None:
        self._model, self._rows, self._chat = model, rows, chat
        self._end = str(chat.tokenizer.convert_ids_to_tokens(chat.end_token_id))

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row; empty where the tokens can't be compared."""
        asked = {at: pair for at, row in enumerate(rows) if (pair := self._pair(row))}
        found = (
            dict(zip(asked, self._model.likelihood(list(asked.values())), strict=True))
            if asked
            else {}
        )
        return [_counted(row, found.get(at, [])) for at, row in enumerate(rows)]

    def _pair(self, row: TokenizedRow) -> tuple[Prompt, str] | None:
        """What is asked: the prompt, and the completion as a text that is cut into these tokens again."""
        prompt, ids = self._rows[row.trace_index].prompt, row.completion_ids
        if self._ids(self._chat.render_prompt(prompt)) != row.prompt_ids:
            return None
        ended = ids[-1:] == [self._chat.end_token_id]
        body = ids[:-1] if ended else ids
        text = str(
            self._chat.tokenizer.decode(
                body, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        ) + (self._end if ended else "")
        return (prompt, text) if text and self._ids(text) == ids else None

    def _ids(self, text: str) -> list[int]:
        made: Any = self._chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(made)


def _counted(row: TokenizedRow, values: Sequence[float]) -> list[float]:
    """Those of a completion's values whose tokens count; none where there is not one a token."""
    if len(values) != len(row) - row.prompt_length:
        return []
    is_learnt = row.is_learnt[row.prompt_length :].tolist()
    return [value for value, counts in zip(values, is_learnt, strict=True) if counts]
