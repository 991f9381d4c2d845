"""The run folder around a training: its judge judges rollouts, and its store, budget and cost table count the calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, final

from potstill import verifiers
from potstill.models.model import Completion, Request
from potstill.models.phase import current_phase
from potstill.records import Problem, Trace, Verdict
from potstill.runs.open_folder import Folder
from potstill.store.cache_client import CacheClient, NewCompletion
from potstill.traces.llm_judge import judge_answers
from potstill.traces.session import current_session
from potstill.training.host import Asked


class ModelInTraining(NamedTuple):
    """A model as it is in one training, known by the stage that it makes; its calls are those of no other model."""

    id: str


@final
class FolderHost:
    """`training.host.TrainingHost` of a stage in a run folder.

    Args:
        folder: of the run.
        stage: the key of the student that is made.
        arm: the name under which calls are counted.
        roles: of the student, and of the teacher where there is one.
    """

    def __init__(self, folder: Folder, stage: str, arm: str, *, roles: Mapping[Asked, str]) -> None:
        self._folder, self._arm, self._roles = folder, arm, roles
        self._student = ModelInTraining(stage)

    @property
    def has_judge(self) -> bool:
        """Whether the run has a judge."""
        return current_session().judge is not None

    def judge(self, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """The run's judge on problems of its kind, the verifiers on all others."""
        model = current_session().judge
        if model is None:
            return verifiers.judge(items)
        judged: list[Trace] = []
        others: list[tuple[Problem, str]] = []
        for problem, text in items:
            if problem.kind == "judge":
                judged.append(Trace(problem, problem.question, text=text, operator="rollout"))
            else:
                others.append((problem, text))
        model_verdicts = iter(judge_answers(model, judged) if judged else [])
        other_verdicts = iter(verifiers.judge(others) if others else [])
        verdicts: list[Verdict] = []
        for problem, _ in items:
            verdicts.append(next(model_verdicts if problem.kind == "judge" else other_verdicts))
        return verdicts

    @contextmanager
    def asking(
        self, requests: Sequence[Request], asked: Asked = "student"
    ) -> Iterator[list[Completion]]:
        """Reserve the calls, and store what came of them.

        Raises:
            BudgetSpent: the calls could exceed a limit; the training goes on from its last checkpoint.
        """
        answers: list[Completion] = []
        if not requests:
            yield answers
            return
        client = self._client(asked)
        budget = self._folder.budget if self._folder.budget.is_limited else None
        if budget and not budget.reserve_batch(client.role, client.inner, self._arm, requests):
            raise budget.spent_error(client.role, self._arm, 0, len(requests))
        try:
            yield answers
        except BaseException:
            if budget:
                budget.release(client.role, client.inner, requests)
            raise
        keys = client.request_keys(requests)
        new = []
        for key, request, answer in zip(keys, requests, answers, strict=True):
            new.append(NewCompletion(key, request, answer))
        client.commit(new)

    def record_use(self) -> None:
        """Record that this arm needed the training's calls, also where its student was there before."""
        self._folder.store.completions.copy_uses(self._student.id, self._arm)

    def _client(self, asked: Asked) -> CacheClient:
        client = CacheClient(
            inner=self._student,
            store=self._folder.store,
            role=self._roles[asked],
            arm=self._arm,
            seed=self._folder.seed,
            progress=self._folder.progress,
            budget=self._folder.budget,
        )
        return client.in_phase(current_phase(), self._student.id)
