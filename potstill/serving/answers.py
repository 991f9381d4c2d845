"""What a client is answered: bodies of OpenAI's protocol with vLLM's additions, made of finished rows."""

from __future__ import annotations

import time
import uuid
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.models.model import cut_at_stop
from potstill.models.token_scoring import encode_array
from potstill.serving.call import CompletionCall
from potstill.serving.prompts import UNFINISHED, EncodedPrompt, PromptTokens

if TYPE_CHECKING:
    from potstill.models.local.logprobs import TopScores
    from potstill.models.local.running_batch import Row

LOWEST_LOGPROB = -9999.0  # what stands for minus infinity, which JSON does not have, as in vLLM


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's answer in the making: what is the same in its body and in every part of its stream.

    Args:
        call: what was asked.
        model: the served name.
        prompts: the call's, encoded.
        rows: of the engine, `n` of each prompt one after another.
        tokens: texts of tokens.
    """

    call: CompletionCall
    model: str
    prompts: Sequence[EncodedPrompt]
    rows: Sequence[Row]
    tokens: PromptTokens
    created: int = field(default_factory=lambda: int(time.time()))
    identifier: str = field(default_factory=lambda: uuid.uuid4().hex)

    def prompt_of(self, index: int) -> EncodedPrompt:
        """The prompt of a choice."""
        return self.prompts[index // self.call.n]

    def to_json(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        kind = "chat.completion" if self.call.is_chat else "text_completion"
        body = self._head(kind)
        body["choices"] = [self._choice(index) for index in range(len(self.rows))]
        if self.call.is_chat:
            if self.call.prompt_logprobs is not None:
                body["prompt_logprobs"] = self._prompt_logprobs(0)
            if self.call.return_token_ids:
                body["prompt_token_ids"] = self.prompts[0].ids
        body["usage"] = self.usage()
        return body

    def usage(self) -> dict[str, int]:
        """Tokens read and written; a prompt counts once, whatever `n` is."""
        prompt_tokens = sum(len(prompt.ids) for prompt in self.prompts)
        new_tokens = sum(len(row.ids) for row in self.rows)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": new_tokens,
            "total_tokens": prompt_tokens + new_tokens,
        }

    def part(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A part of a stream."""
        body = self._head("chat.completion.chunk" if self.call.is_chat else "text_completion")
        body["choices"] = choices
        return body

    def part_choice(
        self, index: int, text: str, tokens: slice, *, text_start: int, is_last: bool
    ) -> dict[str, Any]:
        """What a part of a stream says of one choice: new text, and its new tokens.

        Args:
            index: of the choice.
            text: the new text.
            tokens: places of the new tokens.
            text_start: characters that were sent before.
            is_last: whether the row is finished.
        """
        row = self.rows[index]
        finish_reason: str | None = None
        stop_reason: str | int | None = None
        if is_last:
            _, end = self.text_of(index)
            finish_reason, stop_reason = row.finish_reason, end
        choice: dict[str, Any] = {"index": index}
        if self.call.is_chat:
            choice["delta"] = {"content": text}
        else:
            choice["text"] = text
        choice |= {
            "logprobs": self._logprobs(index, tokens, text_start),
            "finish_reason": finish_reason,
            "stop_reason": stop_reason,
        }
        if self.call.return_token_ids:
            choice["token_ids"] = row.ids[tokens]
        return choice

    def token_count(self, index: int) -> int:
        """How many of a row's tokens are told of: its ending token only with `return_token_ids`."""
        row = self.rows[index]
        if self.call.return_token_ids:
            return len(row.ids)
        return len(_content_ids(row))

    def text_of(self, index: int) -> tuple[str, str | int | None]:
        """The text of a choice, and what ended it: a stop string, or a token that the call named."""
        row = self.rows[index]
        text = self.tokens.encoder.decode_text(_content_ids(row))
        text, stop_string = cut_at_stop(text, self.call.stop)
        if stop_string:
            return text, stop_string
        if row.finish_reason == "length":
            return text.rstrip(UNFINISHED), None  # a character that the limit cut in the middle
        if row.ids and row.ids[-1] in self.call.stop_token_ids:
            return text, row.ids[-1]
        return text, None

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.call.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.identifier}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.rows[0].written_by or None,
            "seed": self.call.seed,
        }

    def _choice(self, index: int) -> dict[str, Any]:
        row, prompt = self.rows[index], self.prompt_of(index)
        text, stop_reason = self.text_of(index)
        choice: dict[str, Any] = {"index": index}
        if self.call.is_chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = self._prompt_text(index) + text if self.call.echo else text
        choice |= {
            "logprobs": self._logprobs(index, slice(0, self.token_count(index))),
            "finish_reason": row.finish_reason,
            "stop_reason": stop_reason,
        }
        if self.call.return_token_ids:
            choice["token_ids"] = row.ids
            if not self.call.is_chat:
                choice["prompt_token_ids"] = prompt.ids
        if self.call.prompt_logprobs is not None and not self.call.is_chat:
            choice["prompt_logprobs"] = self._prompt_logprobs(index)
        return choice

    def _prompt_text(self, index: int) -> str:
        prompt = self.prompt_of(index)
        return self.tokens.decode(prompt.ids[prompt.added_count :])

    def _prompt_logprobs(self, index: int) -> list[dict[str, Any] | None] | dict[str, Any]:
        """One entry a token of the prompt, null for the first: the token itself, then the most probable ones."""
        scores = self._prompt_scores(index)
        k = self.call.prompt_logprobs or 0
        if self.call.packs_prompt_logprobs:
            return _packed_scores(self.prompt_of(index).ids, scores, k)
        entries: list[dict[str, Any] | None] = [None]
        prompt_ids = self.prompt_of(index).ids
        for place, token in enumerate(prompt_ids[1:]):
            entry = {str(token): self._entry(token, scores.logprobs[place], scores.ranks[place])}
            ranked = list(zip(scores.top_ids[place], scores.top_logprobs[place]))[:k]
            for rank, (candidate, logprob) in enumerate(ranked):
                if candidate != token:
                    entry[str(candidate)] = self._entry(candidate, logprob, rank)
            entries.append(entry)
        return entries

    def _prompt_scores(self, index: int) -> TopScores:
        """The scores of a choice's prompt, which its first row has."""
        scores = self.rows[index - index % self.call.n].prompt_scores
        assert scores is not None
        return scores

    def _entry(self, token: int, logprob: float, rank: int) -> dict[str, Any]:
        return {
            "logprob": max(logprob, LOWEST_LOGPROB),
            "rank": rank + 1,
            "decoded_token": self.tokens.token_text(token),
        }

    def _logprobs(self, index: int, tokens: slice, text_start: int = 0) -> dict[str, Any] | None:
        if self.call.top_logprobs is None:
            return None
        scored = self._scored_tokens(index, tokens)
        if self.call.is_chat:
            return {"content": [self._chat_entry(token) for token in scored], "refusal": None}
        return self._plain_logprobs(index, scored, text_start)

    def _scored_tokens(self, index: int, tokens: slice) -> list[ScoredToken]:
        """New tokens with their scores."""
        row = self.rows[index]
        scored = []
        for place in range(*tokens.indices(len(row.ids))):
            top = list(zip(row.scores.top_ids[place], row.scores.top_logprobs[place]))
            scored.append(ScoredToken(row.ids[place], row.scores.logprobs[place], top))
        return scored

    def _chat_entry(self, scored: ScoredToken) -> dict[str, Any]:
        top_entries = [self._named_token(token, logprob) for token, logprob in scored.top]
        entry = self._named_token(scored.token, scored.logprob or 0.0)
        entry["top_logprobs"] = top_entries
        return entry

    def _named_token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.tokens.token_text(token)
        text_bytes = None if UNFINISHED in text else list(text.encode())
        return {
            "token": self._token_name(token),
            "logprob": max(logprob, LOWEST_LOGPROB),
            "bytes": text_bytes,
        }

    def _token_name(self, token: int) -> str:
        return f"token_id:{token}" if self.call.tokens_as_ids else self.tokens.token_text(token)

    def _plain_logprobs(self, index: int, scored: list[ScoredToken], offset: int) -> dict[str, Any]:
        """Log-probabilities in the form of plain completions; of the prompt too where it is repeated."""
        prompt_scored: list[ScoredToken] = []
        prompt_offsets: list[int] = []
        if self.call.echo:
            prompt = self.prompt_of(index)
            prompt_scored = self._scored_prompt(index)
            prompt_offsets = self.tokens.text_offsets(prompt.ids, prompt.added_count)
            offset += len(self._prompt_text(index))
        new_offsets = self.tokens.text_offsets([entry.token for entry in scored])
        names, logprobs, top_logprobs = [], [], []
        for entry in [*prompt_scored, *scored]:
            names.append(self._token_name(entry.token))
            logprob = entry.logprob
            logprobs.append(None if logprob is None else max(logprob, LOWEST_LOGPROB))
            candidates: dict[str, float] = {}
            for token, candidate_logprob in entry.top:
                # Two tokens of one text, such as parts of characters: the more probable one counts.
                candidates.setdefault(
                    self._token_name(token), max(candidate_logprob, LOWEST_LOGPROB)
                )
            top_logprobs.append(candidates if entry.logprob is not None else None)
        return {
            "tokens": names,
            "token_logprobs": logprobs,
            "top_logprobs": top_logprobs if self.call.top_logprobs else None,
            "text_offset": prompt_offsets + [offset + place for place in new_offsets],
        }

    def _scored_prompt(self, index: int) -> list[ScoredToken]:
        """The prompt's tokens with their scores; the first has none."""
        prompt_ids = self.prompt_of(index).ids
        scores = self._prompt_scores(index)
        scored = [ScoredToken(prompt_ids[0], None, [])]
        k = self.call.top_logprobs or 0
        for place, token in enumerate(prompt_ids[1:]):
            top = list(zip(scores.top_ids[place], scores.top_logprobs[place]))[:k]
            scored.append(ScoredToken(token, scores.logprobs[place], top))
        return scored


class ScoredToken(NamedTuple):
    """A token, its log-probability (None of a text's first one), and the most probable tokens at its place."""

    token: int
    logprob: float | None
    top: list[tuple[int, float]]


def _content_ids(row: Row) -> list[int]:
    """The tokens of a row's text: without the one that ended it."""
    ids: list[int] = row.ids
    if row.finish_reason == "stop" and ids and ids[-1] in row.end_ids:
        return ids[:-1]
    return ids


def model_list(names: Sequence[str], created: int, context: int) -> dict[str, Any]:
    """The body of /v1/models."""
    models = []
    for name in names:
        models.append(
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "potstill",
                "root": names[0],
                "parent": None,
                "max_model_len": context,
            }
        )
    return {"object": "list", "data": models}


def token_list(tokens: PromptTokens, ids: Sequence[int], context: int, *, with_texts: bool) -> Any:
    """The body of /tokenize."""
    texts = [tokens.token_text(token) for token in ids] if with_texts else None
    return {"count": len(ids), "max_model_len": context, "tokens": ids, "token_strs": texts}


def _packed_scores(token_ids: Sequence[int], scores: TopScores, k: int) -> dict[str, Any]:
    """Scores of a prompt's tokens but the first as arrays, in a fraction of the bytes and of the time of objects.

    Of n tokens `token_ids` has n int32, `token_logprobs` n float32, `top_ids` n * k int32 and `top_logprobs` n * k
    float32, the small end first, in base64.
    """
    top_ids, top_logprobs = array("i"), array("f")
    for ids, logprobs in zip(scores.top_ids, scores.top_logprobs, strict=True):
        top_ids.extend(ids[:k])
        top_logprobs.extend(max(logprob, LOWEST_LOGPROB) for logprob in logprobs[:k])
    own_logprobs = array("f", [max(logprob, LOWEST_LOGPROB) for logprob in scores.logprobs])
    count = len(own_logprobs)
    return {
        "n": count,
        "k": len(top_ids) // max(1, count),
        "token_ids": encode_array(array("i", token_ids[1:])),
        "token_logprobs": encode_array(own_logprobs),
        "top_ids": encode_array(top_ids),
        "top_logprobs": encode_array(top_logprobs),
    }
