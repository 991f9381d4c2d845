"""What a completion is worth, by name: the verifier, its form, its length, a teacher's score, the gold answer's chance.

A reward is a function of (problem, text), or one of these names, or several of them with weights. The ones that need
the whole group, or a model, get it: `Written` says what the student wrote, `Models` who is at hand.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

import torch

from potstill.errors import ConfigError, StageError
from potstill.objectives import rewards as rules
from potstill.records import Problem, split_reasoning
from potstill.training.dataset import collate
from potstill.training.dataset.chat_template import CLOSE, OPEN, Chat
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.logprobs import logp
from potstill.verifiers import judge

Reward: TypeAlias = Callable[[Any, str], float] | str | Mapping[str, float]

SYNC, MIX = (
    100,
    0.9,
)  # NOVER's proxy: steps between syncs (inferred), the policy's share in one (as in its code)
TOGETHER = 16  # rows scored at once
ANSWERS = re.compile(r"\\boxed\{|[Aa]nswer is|<answer>|####")


class Written(NamedTuple):
    """A completion: its problem and text, its tokens behind the prompt's, which prompt of the window it answers."""

    problem: Problem
    text: str
    row: TokenizedRow
    group: int


class Models(NamedTuple):
    """Who is at hand when rewards are given, what makes tokens of texts, the step, the limit of a completion."""

    student: Any
    teacher: Callable[[Sequence[TokenizedRow]], list[list[float]]] | None
    chat: Chat
    step: int
    longest: int


class Judged(NamedTuple):
    """The rewards; whether the verifier read an answer and whether it was right, None where it wasn't asked."""

    rewards: list[float]
    answered: list[bool] | None
    right: list[bool] | None = None


@final
class Rewards:
    """The reward of a config, with what it remembers.

    Args:
        spec: a function of (problem, text); None is the verifier alone.
    """

    def __init__(self, spec: Reward | None) -> None:
        spec = {"verifier": 1.0} if spec is None else {spec: 1.0} if isinstance(spec, str) else spec
        self._own = None if isinstance(spec, Mapping) else spec
        self._parts = dict(spec) if isinstance(spec, Mapping) else {}
        self._proxy = Proxy()
        unknown = sorted(set(self._parts) - set(NAMES))
        if unknown:
            raise ConfigError(
                f"no reward {unknown[0]!r}",
                available=NAMES,
                wanted=unknown[0],
                fix="reward=verifier",
            )

    def check(self, problems: Iterable[Problem]) -> None:
        """Refuse problems that NOVER can say nothing of."""
        if {"nover", "nover_efficiency"} & set(self._parts) and not any(
            problem.answer for problem in problems
        ):
            raise StageError(
                "the reward nover asks how likely the gold answer is, and no problem has one",
                expected="problems with an answer",
                fix="reward=verifier, or problems with their answers",
            )

    def __call__(self, written: Sequence[Written], models: Models) -> Judged:
        """A number a completion; weighted sums of the named parts."""
        if self._own is not None:
            return Judged([float(self._own(one.problem, one.text)) for one in written], None)
        verdicts = (
            judge([(one.problem, one.text) for one in written])
            if {"verifier", "shorter"} & set(self._parts)
            else []
        )
        right = [verdict.status == "right" for verdict in verdicts]
        total = [0.0] * len(written)
        for name, weight in self._parts.items():
            values = self._part(name, written, models, right)
            total = [have + weight * value for have, value in zip(total, values, strict=True)]
        read = [verdict.status in ("right", "wrong") for verdict in verdicts]
        return Judged(total, read or None, right or None)

    def _part(
        self, name: str, written: Sequence[Written], models: Models, right: list[bool]
    ) -> list[float]:
        lengths = [len(one.row) - one.row.prompt_length for one in written]
        if name == "verifier":
            return [float(fine) for fine in right]
        if name == "form":
            return [rules.thought(one.text) for one in written]
        if name == "overlong":
            return [rules.overlong(n, models.longest) for n in lengths]
        if name == "shorter":
            return _grouped(
                written, lambda at: rules.shorter([lengths[i] for i in at], [right[i] for i in at])
            )
        if name == "teacher":
            return self._teacher(written, models)
        made = self._proxy.nover(written, models)
        return [one.reasoning if name == "nover" else one.efficiency for one in made]

    def _teacher(self, written: Sequence[Written], models: Models) -> list[float]:
        """exp of the mean log-probability of a completion's tokens under the teacher: 0 to 1, whatever its length."""
        if models.teacher is None:
            raise ConfigError(
                "the reward `teacher` needs a teacher", expected="teacher= on the stage"
            )
        scored = models.teacher([one.row for one in written])
        means = [sum(values) / len(values) if values else -1e9 for values in scored]
        return [float(torch.tensor(mean, dtype=torch.float64).exp()) for mean in means]

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: NOVER's proxy."""
        return self._proxy.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._proxy.restore(state)


NAMES = ("verifier", "form", "overlong", "shorter", "teacher", "nover", "nover_efficiency")


@final
class Proxy:
    """The slow copy of the student under which NOVER asks how likely the gold answer is."""

    def __init__(self) -> None:
        self._model: Any = None
        self._synced = -1
        self._kept: Mapping[str, Any] | None = None
        self._last: tuple[list[TokenizedRow], list[rules.Nover]] | None = None

    def nover(self, written: Sequence[Written], models: Models) -> list[rules.Nover]:
        """Both rewards of each completion; computed once for the two names."""
        rows = [one.row for one in written]
        if self._last is None or not rows or (self._last[0] is not rows and self._last[0] != rows):
            self._sync(models)
            self._last = rows, self._computed(written, models)
        return self._last[1]

    def _computed(self, written: Sequence[Written], models: Models) -> list[rules.Nover]:
        thoughts = [reasoning(one.text) for one in written]
        asked = [
            at
            for at, (one, text) in enumerate(zip(written, thoughts))
            if text and one.problem.answer
        ]
        rows = [_answer(written[at], thoughts[at], models.chat) for at in asked]
        nll, tokens, valid = [0.0] * len(written), [1] * len(written), [False] * len(written)
        for at, values, row in zip(asked, scores(self._model, rows), rows, strict=True):
            nll[at], valid[at] = -sum(values) / len(values), True
            tokens[at] = int((row.loss_weights == 0).sum()) - row.prompt_length
        made = _grouped(
            written,
            lambda at: rules.nover(
                [nll[i] for i in at], [tokens[i] for i in at], [valid[i] for i in at]
            ),
        )
        return list(made)

    def _sync(self, models: Models) -> None:
        """The copy at the first step; every SYNC steps it becomes MIX of the student and the rest of itself."""
        if self._model is None:
            self._model = copy.deepcopy(models.student).eval().requires_grad_(False)
            if self._kept is not None:
                self._model.load_state_dict(self._kept)
            else:
                self._synced = models.step
            self._kept = None
        if models.step - self._synced < SYNC:
            return
        with torch.no_grad():
            for mine, theirs in zip(
                self._model.parameters(), models.student.parameters(), strict=True
            ):
                mine.lerp_(theirs.to(mine.dtype), MIX)
        self._synced = models.step

    def state(self) -> dict[str, Any]:
        """The copy's weights and when it was synchronised; nothing where there is no copy."""
        if self._model is None:
            return {}
        return {
            "synced": self._synced,
            "weights": {name: t.cpu() for name, t in self._model.state_dict().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said, when a student is at hand."""
        if state:
            self._kept, self._synced = state["weights"], state["synced"]


def reasoning(text: str) -> str:
    """What stands before a text's answer, up to where the answer itself begins; "" where no answer is marked."""
    thought, reply = split_reasoning(text)
    found = list(ANSWERS.finditer(reply if thought else text))
    if thought:
        return f"{OPEN}{thought}{CLOSE}{reply[: found[-1].end()] if found else ''}"
    return text[: found[-1].end()] if found else ""


def scores(model: Any, rows: Sequence[TokenizedRow]) -> list[list[float]]:
    """A model's log-probability of each counted token of each row."""
    made: list[list[float]] = []
    for start in range(0, len(rows), TOGETHER):
        part = [row.without_columns() for row in rows[start : start + TOGETHER]]
        batch = collate.to_device(collate.collate_rows(part), model.device)
        columns = logp(model, batch).cpu()
        for row, column in zip(part, columns):
            made.append(column[row.is_learnt.nonzero()[0]].tolist())
    return made


def _answer(one: Written, thought: str, chat: Chat) -> TokenizedRow:
    """The prompt, the reasoning, and the gold answer as what counts."""
    before = [*one.row.prompt_ids, *_ids(thought, chat)]
    blank = "" if thought.endswith(("{", "<answer>")) else " "
    answer = _ids(f"{blank}{one.problem.answer}", chat)
    weights = [0.0] * len(before) + [1.0] * len(answer)
    return TokenizedRow.of(one.row.trace_index, [*before, *answer], weights, one.row.prompt_length)


def _ids(text: str, chat: Chat) -> list[int]:
    return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def _grouped(written: Sequence[Written], rule: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
    """A rule of a group applied to every group, back in the order of the completions."""
    made: list[Any] = [None] * len(written)
    for group in dict.fromkeys(one.group for one in written):
        at = [i for i, one in enumerate(written) if one.group == group]
        for i, value in zip(at, rule(at), strict=True):
            made[i] = value
    return made
