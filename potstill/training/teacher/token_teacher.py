"""A teacher of distributions behind a server: the k likeliest tokens at each place, asked for by the row's own ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import StageError
from potstill.models.model import Completion
from potstill.models.scoring import token_scoring_request
from potstill.models.token_scoring import TokenScored, TopLogprobs
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.teacher.remote import (
    ServedTeacher,
    counted_values,
    is_too_long,
    refuse_failures,
)

ROWS_AT_ONCE = (
    256  # whose answers lie in memory as texts; a server works on as many as its calls in flight
)


@final
class TokenTeacher(ServedTeacher):
    """A model that scores tokens (`TokenScored`) as a teacher of distributions.

    Args:
        model: on a server; under a cache, rows are scored once and paid for once.
        top_k: entries a token that are asked for.
        token_count: ids that the student's tokenizer knows: an entry beyond them would be no token of its own.
        temperature: of the comparison. At another than 1 the entries are renormalised: what lies outside them can't be
            re-tempered, so only a comparison inside them (`tail=renormalise`) is exact.
    """

    def __init__(
        self, model: TokenScored, *, top_k: int, token_count: int, temperature: float = 1.0
    ) -> None:
        self._model, self.top_k = model, top_k
        self._token_count, self._temperature = token_count, temperature

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[list[float]]:
        """The log-probability of each counted token, a list a row; empty where a row is beyond the context."""
        log_probs = []
        for row, answer in zip(rows, self._answers(rows), strict=True):
            if not answer.error and not answer.logprobs:
                raise StageError(
                    "the teacher's server does not say how likely a token is that is not among the likeliest",
                    expected="a server that does, for this objective or reward",
                    fix="score=prompt_logprobs (vLLM) or score=input_top_logprobs (SGLang)",
                )
            log_probs.append(counted_values(row, answer.logprobs))
        return log_probs

    def entries(self, rows: Sequence[TokenizedRow]) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Of each row the ids [n, k] and log-probabilities [n, k] at its n counted tokens; None beyond the context."""
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            for row, answer in zip(part, self._answers(part), strict=True):
                yield None if answer.error else self._entries_of(row, answer)

    def _answers(self, rows: Sequence[TokenizedRow]) -> list[Completion]:
        """One answer a row; of one beyond the teacher's context an error."""
        requests = []
        for row in rows:
            # The first token of a text is predicted by nothing.
            start = max(1, row.prompt_length)
            ids = row.input_ids.tolist()
            requests.append(token_scoring_request(ids, start=start, top_logprobs=self.top_k))
        answers = self._model.score_tokens(requests)
        refuse_failures([answer for answer in answers if not is_too_long(answer)])
        return answers

    def _entries_of(self, row: TokenizedRow, answer: Completion) -> tuple[Tensor, Tensor]:
        table = TopLogprobs.from_text(answer.text)
        ids = np.frombuffer(table.ids, np.int32).reshape(-1, table.k)
        log_probs = np.frombuffer(table.logprobs, np.float32).reshape(-1, table.k)
        counted = row.is_learnt[max(1, row.prompt_length) :]
        ids_NK, log_probs_NK = torch.tensor(ids[counted]), torch.tensor(log_probs[counted])
        if ids_NK.numel() and int(ids_NK.max()) >= self._token_count:
            raise StageError(
                f"the teacher's {table.k} likeliest tokens hold the id {int(ids_NK.max())}, and the student's "
                f"tokenizer has {self._token_count}",
                expected="tokens of the student's tokenizer: a head may be padded beyond them",
                fix="a smaller loss_top_k",
            )
        if self._temperature != 1:
            log_probs_NK = (log_probs_NK / self._temperature).log_softmax(-1)
        return ids_NK, log_probs_NK


def make_token_teacher(config: ObjectiveConfig, chat: ChatTemplate, model: Any) -> TokenTeacher:
    """A teacher on a server as a config asks it, for a student of this tokenizer."""
    assert isinstance(model, TokenScored)
    return TokenTeacher(
        model,
        top_k=max(1, config.loss_top_k),
        token_count=count_ids(chat),
        temperature=float(config.constants.get("temperature", 1.0)),
    )


def count_ids(chat: ChatTemplate) -> int:
    """How many ids a student's tokenizer knows."""
    ids: dict[str, int] = chat.tokenizer.get_vocab()
    return max(ids.values()) + 1
