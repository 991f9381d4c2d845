"""What a completion is worth: the numbers that the rules of `objectives.rewards` are made of, and their sums.

A reward is a function of (problem, text), or a name of `objectives.rewards.REWARDS`, or several of them with weights.
The ones that need the whole group, or a model, get it: `Rollout` says what the student wrote, `RewardContext` who is at
hand.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, final

import torch

from potstill.errors import ConfigError, StageError
from potstill.objectives.rewards import (
    PROXY_STUDENT_SHARE,
    PROXY_UPDATE_STEPS,
    REWARDS,
    Group,
)
from potstill.records import Problem, Verdict, split_reasoning
from potstill.training.dataset import batching
from potstill.training.dataset.chat_template import CLOSE, OPEN, ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.host import NO_HOST, TrainingHost
from potstill.training.logprobs import batch_log_probs
from potstill.verifiers.sql import verifier
from potstill.verifiers.sql.similarity import QuerySimilarity

RewardSpec: TypeAlias = Callable[[Any, str], float] | str | Mapping[str, float]

SCORING_BATCH = 16  # rows scored at once
ANSWERS = re.compile(r"\\boxed\{|[Aa]nswer is|<answer>|####")
NAMES = tuple(REWARDS)


class Rollout(NamedTuple):
    """A completion: its problem and text, its tokens behind the prompt's, which prompt of the window it answers."""

    problem: Problem
    text: str
    row: TokenizedRow
    group: int


class RewardContext(NamedTuple):
    """Who is at hand when rewards are given, what makes tokens of texts, the step, the limit of a completion."""

    student: Any
    teacher: Callable[[Sequence[TokenizedRow]], list[list[float]]] | None
    chat: ChatTemplate
    step: int
    max_new_tokens: int


class RewardResult(NamedTuple):
    """The rewards; what the verifier said, whether it read an answer and a right one; None where it wasn't asked."""

    rewards: list[float]
    answered: list[bool] | None
    right: list[bool] | None = None
    verdicts: list[Verdict] | None = None


@final
class Rewards:
    """The reward of a config, with what it remembers.

    Args:
        spec: a function of (problem, text); None is the verifier alone.
        host: judges what the verifiers can't.
    """

    def __init__(self, spec: RewardSpec | None, host: TrainingHost = NO_HOST) -> None:
        self._host = host
        self._function: Callable[[Any, str], float] | None = None
        self._weights: dict[str, float] = {}
        if spec is None:
            self._weights = {"verifier": 1.0}
        elif isinstance(spec, str):
            self._weights = {spec: 1.0}
        elif isinstance(spec, Mapping):
            self._weights = dict(spec)
        else:
            self._function = spec
        unknown = sorted(set(self._weights) - set(REWARDS))
        if unknown:
            raise ConfigError(
                f"no reward {unknown[0]!r}",
                available=REWARDS,
                wanted=unknown[0],
                fix="reward=verifier",
            )
        self._needs = {REWARDS[name].needs for name in self._weights}
        self._proxy = ProxyModel()

    def check(self, problems: Iterable[Problem]) -> None:
        """Refuse problems that a reward can say nothing of."""
        problems = list(problems)
        judged = sum(problem.kind == "judge" for problem in problems)
        tables = [problem for problem in problems if problem.kind == "table"]
        if "verdict" in self._needs and judged and not self._host.has_judge:
            raise StageError(
                f"the reward asks whether an answer is right, and a model has to judge {judged:,} of the problems",
                expected="a run with a judge",
                fix="potstill run with --role judge=SPEC, or problems of another kind",
            )
        if "gold_query" in self._needs and not any(map(verifier.gold_query, tables)):
            raise StageError(
                "the reward compares SQL queries, and no problem has a gold query",
                expected="problems of the kind table, with a query as their answer",
                fix="reward=verifier, or --kind table",
            )
        if "answer_likelihood" not in self._needs or any(problem.answer for problem in problems):
            return
        names = [name for name in self._weights if REWARDS[name].needs == "answer_likelihood"]
        raise StageError(
            f"the reward {names[0]} asks how likely the gold answer is, and no problem has one",
            expected="problems with an answer",
            fix="reward=verifier, or problems with their answers",
        )

    def __call__(self, rollouts: Sequence[Rollout], context: RewardContext) -> RewardResult:
        """A number a completion; weighted sums of the named rewards."""
        if self._function is not None:
            values = [float(self._function(one.problem, one.text)) for one in rollouts]
            return RewardResult(values, None)
        measured = self._measure(rollouts, context)
        totals = [0.0] * len(rollouts)
        for name, weight in self._weights.items():
            values = _by_group(name, rollouts, measured, context.max_new_tokens)
            totals = [total + weight * value for total, value in zip(totals, values, strict=True)]
        if not measured.verdicts:
            return RewardResult(totals, None)
        answered = [verdict.status in ("right", "wrong") for verdict in measured.verdicts]
        return RewardResult(totals, answered, measured.is_right, measured.verdicts)

    def _measure(self, rollouts: Sequence[Rollout], context: RewardContext) -> _Measured:
        """What the rules need of each completion."""
        measured = _Measured()
        if "verdict" in self._needs:
            measured.verdicts = self._host.judge([(one.problem, one.text) for one in rollouts])
        if "teacher" in self._needs:
            if context.teacher is None:
                raise ConfigError(
                    "the reward `teacher` needs a teacher", expected="teacher= on the stage"
                )
            measured.teacher_log_probs = context.teacher([one.row for one in rollouts])
        if "answer_likelihood" in self._needs:
            measured.answers = self._proxy.score_answers(rollouts, context)
        if "gold_query" in self._needs:
            for one in rollouts:
                measured.queries.append(verifier.compare_with_gold(one.problem, one.text))
        return measured

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: the slow copy of the student."""
        return self._proxy.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._proxy.restore(state)


class AnswerLikelihood(NamedTuple):
    """Of a completion: the gold answer's mean negative log-likelihood behind its reasoning, and the tokens of that."""

    nll: float = 0.0
    reasoning_length: int = 1
    has_answer: bool = False


@dataclass(slots=True)
class _Measured:
    """What is known of each completion; empty where no rule needs it."""

    verdicts: list[Verdict] = field(default_factory=list)
    teacher_log_probs: list[list[float]] = field(default_factory=list)
    answers: list[AnswerLikelihood] = field(default_factory=list)
    queries: list[QuerySimilarity] = field(default_factory=list)

    @property
    def is_right(self) -> list[bool]:
        return [verdict.status == "right" for verdict in self.verdicts]


def _by_group(
    name: str, rollouts: Sequence[Rollout], measured: _Measured, max_new_tokens: int
) -> list[float]:
    """A rule applied to every group of completions, or to all at once, in the order of the completions."""
    # The completions of each prompt, or of the micro-batch, by their places.
    members: dict[int, list[int]] = {}
    for index, one in enumerate(rollouts):
        group_number = 0 if REWARDS[name].of_batch else one.group
        members.setdefault(group_number, []).append(index)
    values = [0.0] * len(rollouts)
    is_right = measured.is_right
    for indices in members.values():
        rows = [rollouts[index].row for index in indices]
        answers = [measured.answers[index] for index in indices if measured.answers]
        queries = [measured.queries[index] for index in indices if measured.queries]
        group = Group(
            texts=[rollouts[index].text for index in indices],
            lengths=[len(row) - row.prompt_length for row in rows],
            max_new_tokens=max_new_tokens,
            is_right=[is_right[index] for index in indices if is_right],
            teacher_log_probs=[
                measured.teacher_log_probs[index] for index in indices if measured.teacher_log_probs
            ],
            answer_nll=[answer.nll for answer in answers],
            reasoning_lengths=[answer.reasoning_length for answer in answers],
            has_answer=[answer.has_answer for answer in answers],
            query_text=[query.text for query in queries],
            query_clauses=[query.clauses for query in queries],
        )
        for index, value in zip(indices, REWARDS[name].rule(group), strict=True):
            values[index] = value
    return values


@final
class ProxyModel:
    """A slow copy of the student, under which it is asked how likely the gold answer is."""

    def __init__(self) -> None:
        self._model: Any = None
        self._last_update = -1
        self._stored_weights: Mapping[str, Any] | None = None

    def score_answers(
        self, rollouts: Sequence[Rollout], context: RewardContext
    ) -> list[AnswerLikelihood]:
        """How likely the gold answer is behind each completion's reasoning."""
        self._update(context)
        answers = [AnswerLikelihood()] * len(rollouts)
        indices, rows = [], []
        for index, one in enumerate(rollouts):
            reasoning = reasoning_before_answer(one.text)
            if reasoning and one.problem.answer:
                indices.append(index)
                rows.append(_answer_row(one, reasoning, context.chat))
        for index, row, log_probs in zip(indices, rows, score_rows(self._model, rows), strict=True):
            reasoning_length = int((row.loss_weights == 0).sum()) - row.prompt_length
            nll = -sum(log_probs) / len(log_probs)
            answers[index] = AnswerLikelihood(nll, reasoning_length, has_answer=True)
        return answers

    def _update(self, context: RewardContext) -> None:
        """Copy the student at the first step; from time to time move the copy most of the way to it."""
        if self._model is None:
            self._model = copy.deepcopy(context.student).eval().requires_grad_(False)
            if self._stored_weights is not None:
                self._model.load_state_dict(self._stored_weights)
            else:
                self._last_update = context.step
            self._stored_weights = None
        if context.step - self._last_update < PROXY_UPDATE_STEPS:
            return
        with torch.no_grad():
            for parameter, of_student in zip(
                self._model.parameters(), context.student.parameters(), strict=True
            ):
                parameter.lerp_(of_student.to(parameter.dtype), PROXY_STUDENT_SHARE)
        self._last_update = context.step

    def state(self) -> dict[str, Any]:
        """The copy's weights and the step of its last update; nothing where there is no copy."""
        if self._model is None:
            return {}
        weights = {name: tensor.cpu() for name, tensor in self._model.state_dict().items()}
        return {"last_update": self._last_update, "weights": weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said, when a student is at hand."""
        if state:
            self._stored_weights, self._last_update = state["weights"], state["last_update"]


def reasoning_before_answer(text: str) -> str:
    """What stands before a text's answer, up to where the answer itself begins; "" where no answer is marked."""
    thought, reply = split_reasoning(text)
    if not thought:
        marks = list(ANSWERS.finditer(text))
        return text[: marks[-1].end()] if marks else ""
    marks = list(ANSWERS.finditer(reply))
    beginning = reply[: marks[-1].end()] if marks else ""
    return f"{OPEN}{thought}{CLOSE}{beginning}"


def score_rows(model: Any, rows: Sequence[TokenizedRow]) -> list[list[float]]:
    """A model's log-probability of each counted token of each row."""
    log_probs: list[list[float]] = []
    for start in range(0, len(rows), SCORING_BATCH):
        part = [row.without_columns() for row in rows[start : start + SCORING_BATCH]]
        batch = batching.to_device(batching.collate_rows(part), model.device)
        columns = batch_log_probs(model, batch).cpu()  # [B, T]
        for row, column in zip(part, columns):
            log_probs.append(column[row.is_learnt.nonzero()[0]].tolist())
    return log_probs


def _answer_row(rollout: Rollout, reasoning: str, chat: ChatTemplate) -> TokenizedRow:
    """The prompt, the reasoning, and the gold answer as what counts."""
    row = rollout.row
    before = [*row.prompt_ids, *_token_ids(reasoning, chat)]
    blank = "" if reasoning.endswith(("{", "<answer>")) else " "
    answer = _token_ids(f"{blank}{rollout.problem.answer}", chat)
    weights = [0.0] * len(before) + [1.0] * len(answer)
    return TokenizedRow.of(row.trace_index, [*before, *answer], weights, row.prompt_length)


def _token_ids(text: str, chat: ChatTemplate) -> list[int]:
    return chat.codec.encode(text)
