"""Stand-ins of models for a plan: they answer plausibly (right, wrong, not to be read) and count their calls."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.errors import ConfigError
from potstill.models.model import ChecksRequests, Completion, Model, Request, cut_at_stop
from potstill.models.phase import Phase, account_name, current_phase
from potstill.models.scoring import PassageLike, to_passages
from potstill.models.scripted import last_user, render
from potstill.records import Tokens, digest

RIGHT_ANSWER = "1000003"  # what a stand-in writes where it is right: no wrong one writes it
UNREADABLE = "I can't say."  # what it writes where its answer can't be read
MAX_CALLS = (
    20_000  # distinct calls on the few problems of a plan, after which a search has no end in sight
)

_SCORE_RANGE = re.compile(r"from (-?\d+) to (-?\d+)")
_SECTION = re.compile(r"<(?!think\b)(\w+)>[^<>]*</\1>")
_HEADING = re.compile(r"\*\*([A-Z][\w -]{1,40}):\*\*")
_MARK_IN_TAG = re.compile(r"<(\w+)>NUMBER</\1>")
_BOOLEAN_IN_JSON = re.compile(r'"(\w+)": true or false')
_LIST = "numbered list"
LIST_ITEMS = 3  # of a list that a stand-in writes
_YES_OR_NO = re.compile(r"(?i)\byes\b.{0,40}\bno\b|\bno\b.{0,40}\byes\b", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody can know before a call; each can be set with `--assume NAME=VALUE`, for one role as ROLE.NAME.

    Args:
        right: share of completions that are right.
        unparsed: share whose answer can't be read, as far as `right` leaves room; the others are wrong.
        chars: characters a token.
        completion: tokens of a completion; never more than its limit.
    """

    right: float = 0.5
    unparsed: float = 0.05
    chars: float = 4.0
    completion: float = 1000.0

    def __post_init__(self) -> None:
        """Refuse what no model does."""
        is_share = 0 <= self.right <= 1 and 0 <= self.unparsed <= 1
        if not is_share or min(self.chars, self.completion) <= 0:
            values = ", ".join(f"{item.name}={getattr(self, item.name)}" for item in fields(self))
            raise ConfigError(
                f"assumptions: {values}",
                expected="right and unparsed from 0 to 1, chars and completion above 0",
                fix="--assume right=0.5 --assume teacher.completion=2000",
            )


class CallGroup(NamedTuple):
    """Calls that are counted together.

    Args:
        role: that asks for them.
        phase: of the run.
        stage: how many stages were trained before.
        is_trained: whether a trained student is asked, and not the model that the recipe names.
        is_local: whether weights on this machine are read, whatever the model of the role costs.
        is_whole: whether these are all such calls of the run, and not those of a share of its problems.
    """

    role: str
    phase: Phase
    stage: int = 0
    is_trained: bool = False
    is_local: bool = False
    is_whole: bool = False

    @property
    def account(self) -> str:
        """The name under which a run counts them."""
        return account_name(self.role, self.phase)


@dataclass(slots=True)
class RoleCalls:
    """The distinct calls of one group: one entry a call of its prompt, completion, limit and cost."""

    prompts: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)
    max_completions: list[float] = field(default_factory=list)
    costs: list[float | None] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many distinct calls there are."""
        return len(self.prompts)

    def add(self, prompt: float, completion: float, limit: float, cost: float | None) -> None:
        """Count a call: tokens of its prompt and completion, the limit of the completion, and what it cost."""
        self.prompts.append(prompt)
        self.completions.append(completion)
        self.max_completions.append(limit)
        self.costs.append(cost)


class EndlessSearch(Exception):
    """A method asked so much for a few problems that no end is in sight."""


@final
class CallTable:
    """What all stand-ins of a plan were asked; a call that two arms make alike is counted once."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.groups: dict[CallGroup, RoleCalls] = {}
        self._counted: set[str] = set()
        self._lock = threading.Lock()
        self.stage = 0  # how many stages the arm that is driven has trained
        self.is_whole = False  # whether what is asked now is all that the run will ask so
        self._calls_of_arm = 0

    def begin_arm(self) -> None:
        """Another arm is driven from its beginning."""
        self.stage = 0
        self.is_whole = False
        self._calls_of_arm = 0

    def count(
        self,
        role: str,
        key: str,
        *,
        prompt: float,
        completion: float,
        limit: float,
        is_trained: bool,
    ) -> None:
        """Count a call by its key, once."""
        group = CallGroup(role, current_phase(), self.stage, is_trained, is_whole=self.is_whole)
        with self._lock:
            self._calls_of_arm += 1
            if self._calls_of_arm > MAX_CALLS:
                raise EndlessSearch
            if key in self._counted:
                return
            self._counted.add(key)
            self.groups.setdefault(group, RoleCalls()).add(prompt, completion, limit, None)


@final
class StandIn:
    """A writer of made-up answers: right, wrong or not to be read by a hash at the assumed shares."""

    def __init__(
        self,
        role: str,
        assume: Mapping[str, Assumptions],
        table: CallTable,
        *,
        weights: Path,
        recording: Model | None = None,
        checker: ChecksRequests | None = None,
        trained_on: str = "",
        key: str = "",
    ) -> None:
        """Stand in for a role.

        Args:
            role: under which its calls are counted.
            assume: how it answers, by role or by role and phase (`student/evaluation`); "" for all others.
            table: where its calls are counted.
            weights: a path in the place of a checkpoint.
            recording: what the role really reads from; a prompt that nobody recorded is its error here too.
            checker: the model of the role, where it can refuse a request unasked: what stops a run stops its plan.
            trained_on: the id of the stage that made it; "" where nothing has been trained.
            key: of the model, where several play the role: models with one id would take each other's samples.
        """
        self.role, self.weights = role, weights
        name = key or role
        self.id = f"plan-{name}-{trained_on}" if trained_on else f"plan-{name}"
        self._assume_by_name, self._table = assume, table
        self._recording, self._is_trained = recording, bool(trained_on)
        self._checker = checker

    def trained(self, stage_id: str) -> StandIn:
        """The stand-in of the student that a stage makes of this one."""
        return StandIn(
            self.role, self._assume_by_name, self._table, weights=self.weights, trained_on=stage_id
        )

    @property
    def _assume(self) -> Assumptions:
        """How it answers in the phase of this call."""
        assumptions = self._assume_by_name
        for name in (account_name(self.role, current_phase()), self.role):
            if name in assumptions:
                return assumptions[name]
        return assumptions[""]

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """A made-up completion a request."""
        return [self._complete(request) for request in requests]

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Made-up log-probabilities, one a word, from -3 to 0 by a hash of the passage."""
        rows: list[list[float]] = []
        for prompt, text, prefix in to_passages(passages):
            key = digest("plan-score", [self.id, prompt, text, prefix])
            tokens = (len(render(prompt)) + len(prefix) + len(text)) / self._assume.chars
            self._table.count(
                self.role, key, prompt=tokens, completion=0, limit=0, is_trained=self._is_trained
            )
            rows.append([-3.0 * share_of(key)] * max(1, len(text.split())))
        return rows

    def _complete(self, request: Request) -> Completion:
        if self._checker is not None:
            self._checker.check_request(request)
        if self._recording is not None:
            [recorded] = self._recording.write([request])
            if recorded.error:
                return recorded
        key = request.key(self.id)
        limit = request.sampling.max_new_tokens
        whole = self._write_text(request, key, tokens=min(self._assume.completion, limit))
        text, stop_string = cut_at_stop(whole, request.sampling.stop)
        prompt_tokens = count_prompt_chars(request) / self._assume.chars
        tokens = min(self._assume.completion, limit)
        if text != whole or request.prefix:  # a part of an answer of the assumed length
            tokens = min(tokens, len(text) / self._assume.chars)
        self._table.count(
            self.role,
            key,
            prompt=prompt_tokens,
            completion=tokens,
            limit=limit,
            is_trained=self._is_trained,
        )
        return Completion(
            text,
            "stop_string" if stop_string else "stop",
            Tokens(math.ceil(prompt_tokens), math.ceil(tokens)),
            stop_string=stop_string,
            logprobs=made_up_logprobs(key, math.ceil(tokens)) if request.sampling.logprobs else (),
        )

    def _write_text(self, request: Request, key: str, *, tokens: float) -> str:
        """Paragraphs and an answer at their end; behind a prefix only what is left of them.

        Where the prompt shows worked examples they begin with the last of these, so that its form can be read.
        """
        chars = int(tokens * self._assume.chars)
        ending = self._write_ending(request, share_of(key))
        prompt = render(request.prompt)
        if ending.startswith(("Yes. ", "No. ")):
            # The verdict comes first; what else the prompt shows, such as the tags of a text, is not asked for.
            verdict, _, answer = ending.partition(" ")
            filler = filler_text(key, chars - len(request.prefix) - len(ending))
            return f"{verdict} {filler}{answer}"
        example = last_worked_example(prompt)
        filler_chars = chars - len(request.prefix) - len(example) - len(ending)
        sections = named_sections(prompt)
        is_mark = _MARK_IN_TAG.search(prompt) is not None
        if sections and not is_mark and not request.prefix and ending != UNREADABLE:
            return write_sections(sections, key, ending, chars=filler_chars)
        headings = list(dict.fromkeys(_HEADING.findall(prompt)))
        if headings and ending != UNREADABLE:
            return write_under_headings(headings, key, ending, chars=3 * filler_chars // 4)
        if _LIST in last_user(request.prompt):
            items = [f"{number}. {key[-6:]}{number}" for number in range(1, LIST_ITEMS + 1)]
            return "\n".join(items)
        return example + filler_text(key, filler_chars) + ending

    def _write_ending(self, request: Request, chance: float) -> str:
        """What ends an answer, in the form that the prompt asks for; right where `chance` is below the share."""
        is_right = chance < self._assume.right
        if not is_right and chance < self._assume.right + self._assume.unparsed:
            return UNREADABLE
        prompt = render(request.prompt)
        boolean = _BOOLEAN_IN_JSON.search(prompt)
        if boolean is not None:
            return f"\n{json.dumps({boolean[1]: is_right})}"
        if "Verdict: " in prompt:
            return f"\nVerdict: {'right' if is_right else 'wrong'}"
        if "Better: " in prompt:
            return f"\nBetter: {'first' if is_right else 'second'}"
        tag = _MARK_IN_TAG.search(prompt)
        if tag is not None or "Score: " in prompt:
            scale = _SCORE_RANGE.search(prompt)
            low, high = (scale[1], scale[2]) if scale is not None else ("0", "1")
            mark = high if is_right else low
            return f"\n<{tag[1]}>{mark}</{tag[1]}>" if tag is not None else f"\nScore: {mark}"
        number = RIGHT_ANSWER if is_right else str(int(chance * 1000))
        answer = f"The answer is \\boxed{{{number}}}."
        if _YES_OR_NO.search(prompt):
            # In a line of its own too: behind much other text that is where a verdict is read.
            word = "Yes" if is_right else "No"
            return f"{word}. {answer}\nVerdict: {word.lower()}"
        return answer


def last_worked_example(prompt: str) -> str:
    """What stands behind the label at a prompt's end, where the same label has been answered before; else ""."""
    examples, _, label = prompt.rstrip().rpartition("\n")
    if not label.endswith(":"):
        return ""
    _, found, behind = examples.rpartition(f"\n{label} ")
    if not found:
        return ""
    example, _, _ = behind.partition("\n\n")
    return f"{example}\n"


def share_of(key: str) -> float:
    """A number in [0, 1) that depends on a text alone."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8


def made_up_logprobs(key: str, count: int) -> tuple[float, ...]:
    """Log-probabilities from -3 to 0, one a token."""
    return tuple(-3.0 * share_of(f"{key} {number}") for number in range(count))


def count_prompt_chars(request: Request) -> int:
    """How long a prompt is, the given beginning of the answer included."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return len(prompt) + len(request.prefix)
    return sum(len(message.content) for message in prompt) + len(request.prefix)


def filler_text(key: str, size: int) -> str:
    """Sentences and paragraphs of about this many characters that never repeat themselves; some change their mind."""
    if size <= 0:
        return ""
    sentences: list[str] = []
    length = 0
    while length < size:
        number = len(sentences)
        is_near_end = length > 0.8 * size  # a text that ends has made up its mind
        opening = "Wait, " if number % 7 == 6 and not is_near_end else ""
        end = ".\n\n" if number % 3 == 2 else ". "
        sentence = f"{opening}{key[-6:]}{number} makes {key[-4:]}{number}{end}"
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences)[:size].rstrip() + "\n\n"


def named_sections(prompt: str) -> list[str]:
    """The sections that a prompt asks for by showing them as `<name>…</name>`, in order, each once."""
    return list(dict.fromkeys(_SECTION.findall(prompt)))


def write_sections(names: Sequence[str], key: str, ending: str, *, chars: int) -> str:
    """Made-up sections between their tags, of about so many characters in all; the last one has the answer."""
    share = chars // len(names)
    parts: list[str] = []
    for name in names:
        filler = filler_text(f"{key}{name}", max(1, share - 2 * len(name)))
        content = filler + ending if name == names[-1] else filler
        parts.append(f"<{name}>\n{content.strip()}\n</{name}>")
    return "\n".join(parts)


def write_under_headings(names: Sequence[str], key: str, ending: str, *, chars: int) -> str:
    """The same under headings in bold: a write-up, and so shorter than a chain."""
    share = chars // len(names)
    parts = [f"**{name}:** {filler_text(f'{key}{name}', share).strip()}" for name in names]
    return "\n".join(parts) + ending


def measured_assumptions(
    assume: Mapping[str, Assumptions], role: str, values: Mapping[str, Any]
) -> Assumptions:
    """A role's assumptions with what a pilot measured in their place."""
    given = assume.get(role, assume[""])
    settings = {item.name: getattr(given, item.name) for item in fields(given)}
    return Assumptions(**{**settings, **values})
