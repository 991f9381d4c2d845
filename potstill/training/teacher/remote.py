"""A remote teacher scores given tokens: its log-probability of each, found by text and checked token by token.

It reads text and tokenises it by itself, so what can be compared is what our tokenizer cuts into the very tokens that
were sampled, and what comes back as one number for each of them. A completion of which that isn't true has no scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from potstill.errors import StageError
from potstill.models.model import Completion, Scored
from potstill.models.scoring import Passage, score_passages
from potstill.records import Trace
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow


class ServedTeacher(ABC):
    """A teacher that is no model at hand: it is asked for rows, before their loss is computed."""

    @abstractmethod
    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row; empty where the row can't be scored."""


@final
class RemoteTeacher(ServedTeacher):
    """A model of the contract `Scored` as a teacher of tokens.

    Args:
        model: on a server, or anything that gives likelihoods; under a cache, texts are scored once.
        traces: the stage's rows, which a tokenized row names by its index.
        chat: the student's tokenizer and template.
    """

    def __init__(self, model: Scored, traces: Sequence[Trace], chat: ChatTemplate) -> None:
        self._model, self._traces, self._chat = model, traces, chat

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row; empty where the tokens can't be compared."""
        passages: dict[int, Passage] = {}
        for index, row in enumerate(rows):
            passage = self._as_text(row)
            if passage is not None:
                passages[index] = passage
        scores: dict[int, Sequence[float]] = {}
        if passages:
            answers = score_passages(self._model, list(passages.values()))
            refuse_failures(answers)
            scores = {
                index: answer.logprobs for index, answer in zip(passages, answers, strict=True)
            }
        return [counted_values(row, scores.get(index, [])) for index, row in enumerate(rows)]

    def _as_text(self, row: TokenizedRow) -> Passage | None:
        """The prompt, and the completion as a text that is cut into these tokens again; None where there is none."""
        prompt, ids = self._traces[row.trace_index].prompt, row.completion_ids
        if self._chat.encode_prompt(prompt) != row.prompt_ids:
            return None
        body = self._chat.without_end(ids)
        text = self._chat.codec.decode(body)
        if not ids or self._chat.codec.encode(text) != body:
            return None
        # The server reads the end of the turn by its name.
        for end_id in ids[len(body) :]:
            text += str(self._chat.tokenizer.convert_ids_to_tokens(end_id))
        return Passage(prompt, text)


def refuse_failures(answers: Sequence[Completion]) -> None:
    """Refuse to go on where the teacher gave no answer to a text: a student that learnt less would never tell."""
    failures = [answer.error for answer in answers if answer.error and not is_too_long(answer)]
    if failures:
        raise StageError(
            f"the teacher failed on {len(failures)} of {len(answers)} texts: {failures[0][:160]}",
            expected="its log-probabilities of each text",
            fix="the same command with --retry-errors asks again; the training goes on from its last checkpoint",
        )


def is_too_long(answer: Completion) -> bool:
    """Whether a text is longer than the teacher's context: it has no scores, and is counted as unscored."""
    return answer.error.startswith("context")


def counted_values(row: TokenizedRow, log_probs: Sequence[float]) -> list[float]:
    """Those of a completion's log-probabilities whose tokens count; none where there is not one a token."""
    if len(log_probs) != len(row) - row.prompt_length:
        return []
    is_learnt = row.is_learnt[row.prompt_length :].tolist()
    return [value for value, counts in zip(log_probs, is_learnt, strict=True) if counts]
