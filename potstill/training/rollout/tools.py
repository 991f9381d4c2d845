"""Tools in rollouts: the student writes a call, reads what the tool returns, and goes on.

A call is a fenced block of the tool's language (```python, ```sql) in the student's text, and ends with its closing
fence. Behind it stands the observation, a fenced block ```output that the student did not write: it is read, by the
student, a verifier and a teacher, and never learnt. A rollout without a call is the one that would be written without
tools.

Source: the interleaved form of ToRA (arXiv:2309.17452); observations out of the loss as in ReTool (arXiv:2504.11536).
Departure: ReTool marks calls with <code> and <interpreter>; fences need no new tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, final

from potstill import escape
from potstill.errors import StageError
from potstill.models.local.special_tokens import CLOSE, OPEN
from potstill.models.local.text_codec import TextCodec
from potstill.records import Problem
from potstill.training.objective_config import ObjectiveConfig
from potstill.verifiers.code import execute, sandbox
from potstill.verifiers.code.sandbox import Limits
from potstill.verifiers.sql import verifier as sql
from potstill.verifiers.workers import pool

if TYPE_CHECKING:
    from potstill.models.local.generate import GeneratedRow

FENCE = "```"
LANGUAGES = {"python": ("python", "py"), "table": ("sql",)}  # of a call, by the tool
BEGINNING, END, CUT_END = "```output\n", "\n```\n", "\n(cut)\n```\n"  # of an observation
NO_OUTPUT = "(no output)"
# Of one program. What it prints is cut to max_observation_tokens, so more than this is a loop's.
PROGRAM_LIMITS = Limits(seconds=5, output=1 << 20)
NEWEST_IDS = 8  # among which a fence stands that has just been written: a token is at least a byte
CHARACTERS_PER_TOKEN = (
    16  # of a text that is cut to tokens, so that a long one is never tokenized whole
)


class Turn(NamedTuple):
    """What the student is to write on: token ids, the seed and the limit of each.

    Args:
        has_call: whether a row's newest ids end a call, which ends its turn; None where nothing is a call.
    """

    prompts: Sequence[Sequence[int]]
    seeds: Sequence[int]
    limits: Sequence[int]
    has_call: Callable[[Sequence[int]], bool] | None = None


WriteTurn: TypeAlias = Callable[[Turn], "list[GeneratedRow]"]


class ToolAnswer(NamedTuple):
    """What a tool returns, and whether the call failed."""

    text: str
    is_failed: bool = False


class ToolRollout(NamedTuple):
    """A completion with the observations in it, as `generate.GeneratedRow` has it.

    Args:
        ids: what the student wrote and what it read between.
        stopped: whether it ended by itself.
        logprobs: of the student's tokens; 0 of those that it read.
        is_observed: which tokens it read.
        calls: how many calls it made.
        failed_calls: how many of them failed.
    """

    ids: list[int]
    stopped: bool
    logprobs: list[float]
    is_observed: list[bool]
    calls: int
    failed_calls: int


@dataclass(slots=True)
class _OpenRollout:
    """A rollout under way."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    is_observed: list[bool] = field(default_factory=list)
    stopped: bool = False
    calls: int = 0
    failed_calls: int = 0

    def add_turn(self, turn: GeneratedRow) -> None:
        self.ids += turn.ids
        self.logprobs += turn.logprobs
        self.is_observed += [False] * len(turn.ids)
        self.stopped = turn.stopped

    def add_observation(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.logprobs += [0.0] * len(ids)
        self.is_observed += [True] * len(ids)


@final
class ToolLoop:
    """Writes rollouts turn by turn: all rows that are open together, then all their calls, and on.

    Args:
        config: with `rollout_tool`.
        codec: of the student's tokenizer.
        end_ids: tokens that end a completion.
        problems: of all rows that are trained on.

    Raises:
        ConfigError: no sandbox works here, and programs are to be run.
        StageError: a problem has no table that could be asked.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        codec: TextCodec,
        end_ids: Sequence[int],
        problems: Sequence[Problem],
    ) -> None:
        self._tool = config.rollout_tool
        self._max_calls, self._max_tokens = config.max_tool_calls, config.max_observation_tokens
        self._codec, self._end_ids = codec, frozenset(end_ids)
        self._languages = LANGUAGES[self._tool]
        self._sandbox = ""
        if self._tool == "python":
            self._sandbox = sandbox.choose_sandbox()
        else:
            check_tables(problems)

    def write(
        self,
        write_turn: WriteTurn,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        limits: Sequence[int],
        problems: Sequence[Problem],
    ) -> list[ToolRollout]:
        """A completion of each prompt, which ends by itself or at its limit; past the last call fences are only text.

        Args:
            write_turn: has the student write.
            prompts: token ids.
            seeds: one a rollout; its turns' are made of it.
            limits: tokens of a rollout, observations included.
            problems: of each prompt.
        """
        rollouts = [_OpenRollout() for _ in prompts]
        open_rows = list(range(len(prompts)))
        for turn in range(self._max_calls + 1):
            if not open_rows:
                break
            next_turn = Turn(
                prompts=[[*prompts[row], *rollouts[row].ids] for row in open_rows],
                seeds=[seed_of_turn(seeds[row], turn) for row in open_rows],
                limits=[limits[row] - len(rollouts[row].ids) for row in open_rows],
                has_call=self.has_call if turn < self._max_calls else None,
            )
            turns = write_turn(next_turn)
            # Whatever stopped without an end token stopped at a call.
            calling_rows = []
            calls = []
            for row, written in zip(open_rows, turns, strict=True):
                rollouts[row].add_turn(written)
                if written.stopped and written.ids[-1] not in self._end_ids:
                    calling_rows.append(row)
                    calls.append((problems[row], self._read_call(written.ids)))
            open_rows = []
            for row, answer in zip(calling_rows, self._answer(calls), strict=True):
                if self._add_answer(rollouts[row], answer, limits[row]):
                    open_rows.append(row)
        return [_close(rollout) for rollout in rollouts]

    def has_call(self, ids: Sequence[int]) -> bool:
        """Whether a turn's newest ids end a call."""
        newest_text = self._codec.decode_answer(ids[-NEWEST_IDS:])
        if FENCE not in newest_text:
            return False
        return find_call(self._codec.decode_answer(ids), self._languages) is not None

    def _read_call(self, ids: Sequence[int]) -> str:
        call = find_call(self._codec.decode_answer(ids), self._languages)
        assert call is not None
        return call

    def _add_answer(self, rollout: _OpenRollout, answer: ToolAnswer, limit: int) -> bool:
        """Put an observation behind a call; False where the limit leaves no room behind it, which cuts the rollout."""
        rollout.calls += 1
        rollout.failed_calls += answer.is_failed
        begins_line = self._codec.decode_answer(rollout.ids[-NEWEST_IDS:]).endswith("\n")
        ids = self.observation_ids(answer.text, begins_line=begins_line)
        if len(rollout.ids) + len(ids) >= limit:
            rollout.stopped = False
            return False
        rollout.add_observation(ids)
        return True

    def observation_ids(self, text: str, *, begins_line: bool) -> list[int]:
        """A tool's text as the student reads it, in `max_observation_tokens` at most; it ends no turn and no block.

        Args:
            begins_line: whether what stands before it ends a line.
        """
        beginning = BEGINNING if begins_line else "\n" + BEGINNING
        longest = self._max_tokens * CHARACTERS_PER_TOKEN
        body = _harmless(text[:longest]).strip("\n") or NO_OUTPUT
        # A control token's text would be that token.
        control_ids = self._codec.special_tokens.control_ids
        before, after, after_cut, inside = self._codec.encode_all([beginning, END, CUT_END, body])
        inside = [token for token in inside if token not in control_ids]
        if len(text) <= longest and len(before) + len(inside) + len(after) <= self._max_tokens:
            return [*before, *inside, *after]
        room = max(0, self._max_tokens - len(before) - len(after_cut))
        inside = inside[:room]
        # The bytes of one character may be several tokens.
        while inside and self._codec.decode(inside).endswith("\N{REPLACEMENT CHARACTER}"):
            inside.pop()
        return [*before, *inside, *after_cut]

    def _answer(self, calls: Sequence[tuple[Problem, str]]) -> list[ToolAnswer]:
        """What the tool returns for each call; a call that fails returns why."""
        if not calls:
            return []
        if self._tool == "table":
            answers = []
            for outcome, text in sql.show_all(calls):
                is_failed = outcome != "pass"
                answers.append(ToolAnswer(f"{outcome}: {text}" if is_failed else text, is_failed))
            return answers
        workers = max(1, min(len(calls), pool.core_count()))
        with ThreadPoolExecutor(workers, thread_name_prefix="tool") as threads:
            return list(threads.map(lambda call: self._run_program(call[1]), calls))

    def _run_program(self, program: str) -> ToolAnswer:
        result = execute.run_program(self._sandbox, [[program]], "", PROGRAM_LIMITS)
        printed = result.output.decode("utf-8", "replace")
        if result.outcome == "pass":
            return ToolAnswer(printed)
        # The reason first: what was printed before it may be cut.
        return ToolAnswer(f"{result.outcome}: {result.detail}\n{printed}", is_failed=True)


def find_call(text: str, languages: Sequence[str]) -> str | None:
    """The first closed block of one of these languages in a text; None where there is none.

    A line of fences inside an open block closes it, as in Markdown, so a block shown inside another is no call.
    """
    language: str | None = None  # of the open block
    lines: list[str] = []
    for line in text.split("\n"):
        is_fence = line.startswith(FENCE)
        if language is None:
            name = line.lstrip("`").strip().lower()
            if is_fence and "`" not in name:  # else it is code within a line
                language, lines = name, []
        elif not is_fence:
            lines.append(line)
        elif language in languages:
            return "\n".join(lines)
        else:
            language = None
    return None


def seed_of_turn(seed: int, turn: int) -> int:
    """The seed of a rollout's turn: the rollout's own for the first, 63 bits hashed from both for each that follows."""
    if turn == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/turn/{turn}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_tables(problems: Sequence[Problem]) -> None:
    """Refuse problems without a table that sqlite reads."""
    without = 0
    for problem in problems:
        engine, table = sql.requested_engine(problem.table or "")
        if problem.kind != "table" or not table.strip() or engine not in ("", "sqlite"):
            without += 1
    if without:
        raise StageError(
            f"rollout_tool=table, and {without:,} of {len(problems):,} problems have no table for sqlite",
            expected="problems of the kind table, each with its table",
            fix="--kind table, or --set rollout_tool=python",
        )


def _harmless(text: str) -> str:
    """A tool's text without what is not seen, fences and marks of thought."""
    text = escape.terminal(text.replace("\r\n", "\n")).replace(FENCE, "'''")
    for mark in (OPEN, CLOSE):
        text = text.replace(mark, mark.replace("think", " think "))
    return text


def _close(rollout: _OpenRollout) -> ToolRollout:
    return ToolRollout(
        ids=rollout.ids,
        stopped=rollout.stopped,
        logprobs=rollout.logprobs,
        is_observed=rollout.is_observed,
        calls=rollout.calls,
        failed_calls=rollout.failed_calls,
    )
