"""From time to time, evaluation rows: does the student come nearer to its teacher, and is it still right?

A student that learns its teacher's quirks comes nearer on the teacher's texts and not on its own, or nearer on both
while fewer answers are right. Nothing here touches the training: own seeds, no gradient, modes put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import torch

from potstill.objectives import divergence
from potstill.objectives.inputs import Hidden, Inputs, Several, summed
from potstill.objectives.likelihood import sft
from potstill.records import Trace, Verdict
from potstill.training import distributed, metrics
from potstill.training.dataset import batching
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.teacher_view import teacher_columns
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset
from potstill.training.eval_schedule import DEFAULT_ROWS, eval_interval
from potstill.training.logprobs import build_inputs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.rollout_log import KeptRollout, RolloutLog
from potstill.training.schedules import When
from potstill.verifiers import judge

EXPENSIVE_KINDS = (
    "code",
    "judge",
    "gym",
)  # they run programs or call models: not asked on the side
NOT_JUDGED = Verdict("unjudged")


@final
class Evaluator:
    """Evaluates the student on a few rows.

    Args:
        traces: the stage's rows.
        prompts: the evaluation rows' prompts as tokens; what is written is judged against their problems.
        texts: the same rows with their completions, where they have any: the teacher's texts.
        rollouts: writes as the training does.
        config: says how often, or leaves it to `eval_schedule`.
        log: keeps some of what the student wrote.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        prompts: Sequence[TokenizedRow],
        texts: Sequence[TokenizedRow],
        rollouts: Rollouts,
        config: ObjectiveConfig,
        *,
        log: EvaluationLog,
    ) -> None:
        self._traces, self._prompts, self._texts = traces, prompts, texts
        self._rollouts, self._config, self._log = rollouts, config, log

    def is_due(self, when: When) -> bool:
        """Whether to evaluate before this step."""
        return when.step % eval_interval(self._config, when.total) == 0

    def __call__(self, model: Any, teacher: Any = None, step: int = 0) -> dict[str, float]:
        """Statistics of the student's own texts, of the rows' texts, and the gap between them.

        Args:
            model: the student.
            teacher: whose distributions are compared; None compares nothing.
            step: before which this is, for whoever counts calls, and for the log.
        """
        if self._config.needs_feedback:
            teacher = None  # its prompt is made when a rollout is judged in a step
        was_training = model.training
        model.eval()
        with torch.no_grad():  # each process evaluates its share, and knows all statistics
            own_texts = self._write(model, str(step))
            verdicts = self._judge(own_texts)
            statistics = self._describe(own_texts, verdicts)
            self._keep(own_texts, verdicts, step)
            statistics |= _with_prefix("own", self._measure(model, own_texts, teacher))
            texts = self._texts[distributed.process_rank() :: distributed.process_count()]
            statistics |= _with_prefix("rows", self._measure(model, texts, teacher))
        model.train(was_training)
        if "eval_own_reverse_kl" in statistics and "eval_rows_reverse_kl" in statistics:
            gap = statistics["eval_own_reverse_kl"] - statistics["eval_rows_reverse_kl"]
            statistics["eval_gap"] = gap
        if "eval_rows_nll" in statistics:
            self._rollouts.update_share(statistics["eval_rows_nll"])
        return statistics

    def _write(self, model: Any, place: str) -> list[TokenizedRow]:
        """What the student writes on this process's share of the prompts."""
        rows = self._prompts[distributed.process_rank() :: distributed.process_count()]
        if not rows:
            return []
        seeds = []
        for index in range(len(rows)):
            name = f"watch/{distributed.place_in_batch(index)}"
            seeds.append(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]))
        prompts = [row.prompt_ids for row in rows]
        limits = [self._rollouts.completion_limit(model, row) for row in rows]
        places = [f"eval/{place}/{index}" for index in range(len(rows))]
        self._rollouts.use_weights(model)
        requests = self._rollouts.requests([row.trace_index for row in rows], places)
        with self._rollouts.host.asking(requests) as answers:
            problems = [self._traces[row.trace_index].problem for row in rows]
            drawn = self._rollouts.write_completions(
                model, prompts, seeds, limits=limits, problems=problems
            )
            answers += self._rollouts.completions(prompts, drawn)
        completed = []
        for row, completion in zip(rows, drawn, strict=True):
            completed.append(self._rollouts.as_row(row, completion))
        return completed

    def _judge(self, rows: Sequence[TokenizedRow]) -> dict[int, Verdict]:
        """What the verifiers say of the student's own texts, by the row's place; of those alone that cost little."""
        places: list[int] = []
        answers = []
        for place, row in enumerate(rows):
            problem = self._traces[row.trace_index].problem
            if problem.answer is not None and problem.kind not in EXPENSIVE_KINDS:
                places.append(place)
                answers.append((problem, self._rollouts.text(row.completion_ids)))
        return dict(zip(places, judge(answers), strict=True))

    def _describe(
        self, rows: Sequence[TokenizedRow], verdicts: Mapping[int, Verdict]
    ) -> dict[str, float]:
        """Length, share that the limit cut, and the shares of verdicts of the student's own texts."""
        # Means over the rows of all processes.
        ends = []
        for row in rows:
            is_truncated = 1 - float(row.columns["stopped"][0])
            ends.append((len(row) - row.prompt_length, is_truncated))
        of_all = distributed.gather_shares(ends)
        length = sum(length for length, _ in of_all) / len(of_all)
        truncated = sum(is_truncated for _, is_truncated in of_all) / len(of_all)
        statistics = {"eval_length": length, "eval_truncated": truncated}

        statuses = distributed.gather_shares([verdict.status for verdict in verdicts.values()])
        if statuses:
            right, wrong = statuses.count("right"), statuses.count("wrong")
            statistics["eval_right"] = right / len(statuses)
            statistics["eval_answered"] = (right + wrong) / len(statuses)
        return statistics

    def _keep(
        self, rows: Sequence[TokenizedRow], verdicts: Mapping[int, Verdict], step: int
    ) -> None:
        """Write some of the texts down; the first process writes those of all."""
        rollouts: list[KeptRollout] = []
        for place, row in enumerate(rows):
            problem = self._traces[row.trace_index].problem
            verdict = verdicts.get(place, NOT_JUDGED)
            rollouts.append(
                KeptRollout(
                    step=step,
                    trace=self._log.trace_ids[row.trace_index],
                    problem=problem.id,
                    question=problem.question,
                    gold=problem.answer,
                    text=self._rollouts.text(row.completion_ids),
                    tokens=len(row.completion_ids),
                    is_truncated=not row.columns["stopped"][0],
                    status=verdict.status,
                    answer=verdict.answer,
                    reason=verdict.reason,
                )
            )
        of_all = distributed.gather_shares(rollouts)
        if distributed.process_rank() == 0:
            self._log.file.append(of_all)

    def _measure(self, model: Any, rows: Sequence[TokenizedRow], teacher: Any) -> dict[str, float]:
        """Mean likelihood, entropy, and the divergences to a teacher, over all processes' rows."""
        sums = self._sum_statistics(model, rows, teacher) if rows else {}
        parts: dict[str, list[tuple[float, float]]] = {}
        for of_process in distributed.gather_objects(sums):
            for name, total_and_count in of_process.items():
                parts.setdefault(name, []).append(total_and_count)
        means = {}
        for name, pairs in parts.items():
            total, count = (sum(values) for values in zip(*pairs))
            means[name] = total / max(1, count)
        return means

    def _sum_statistics(
        self, model: Any, rows: Sequence[TokenizedRow], teacher: Any
    ) -> dict[str, tuple[float, float]]:
        """(Sum, count) over the counted tokens of this process's rows."""
        plain = []
        for row in rows:
            plain.append(row.without_columns().with_columns(**teacher_columns(row)))
        batch = batching.to_device(batching.collate_rows(plain), model.device)
        needs = ("distribution",) if teacher is not None else ()
        x = build_inputs(model, batch, teacher=teacher, needs=needs)
        sums = {"nll": sft(x).stats["nll"], "entropy": summed(metrics.entropy(x))}
        if isinstance(x.teacher, Hidden | Several):
            sums["forward_kl"] = divergence.forward_kl(x).stats["forward_kl"]
            sums["reverse_kl"] = divergence.reverse_kl(x).stats["reverse_kl"]
        if isinstance(x.teacher, Hidden):
            of_teacher = Inputs(x.teacher.hidden_NDt, x.teacher.head, x.targets_N)
            sums["teacher_entropy"] = summed(metrics.entropy(of_teacher))
        return {name: (float(total), float(count)) for name, (total, count) in sums.items()}


class EvaluationLog(NamedTuple):
    """Where rollouts are kept, and under which ids: those of the stage's rows as they were given."""

    file: RolloutLog
    trace_ids: Sequence[str]


class EvalSplit(NamedTuple):
    """What is trained on, and the rows that the student is evaluated on."""

    train: TrainingDataset
    eval_rows: Sequence[TokenizedRow]


def split_eval_rows(dataset: TrainingDataset, eval_rows: int) -> EvalSplit:
    """Items evenly spaced are evaluated on: `eval_rows` of them and not trained on, or a few that are."""
    # Of rows that are held out, one at least is left to train on.
    available = len(dataset)
    if eval_rows:
        available -= 1
    count = min(eval_rows or DEFAULT_ROWS, available)
    spacing = (len(dataset) - 1) / max(1, count - 1)
    chosen = sorted({round(at * spacing) for at in range(count)})
    first_rows = [dataset[number][0] for number in chosen]
    if not eval_rows:
        return EvalSplit(dataset, first_rows)
    train_items = sorted(set(range(len(dataset))) - set(chosen))
    return EvalSplit(dataset.select(train_items), first_rows)


def make_evaluator(
    traces: Sequence[Trace],
    eval_rows: Sequence[TokenizedRow],
    rollouts: Rollouts,
    template: ChatTemplate,
    config: ObjectiveConfig,
    *,
    log: EvaluationLog,
) -> Evaluator | None:
    """The evaluator of a student; None where there are no rows to evaluate on."""
    if not eval_rows:
        return None
    texts = [row for row in eval_rows if row.loss_weights.any()]
    if config.on_policy_fraction == 1:  # they were tokenized as prompts alone
        finished = [traces[row.trace_index] for row in eval_rows]
        rows = tokenize_traces(finished, template, max_length=1 << 30).rows
        texts = []
        for row in rows:
            eval_row = eval_rows[row.trace_index]
            text_row = replace(row, trace_index=eval_row.trace_index)
            texts.append(text_row.with_columns(**teacher_columns(eval_row)))
    return Evaluator(traces, eval_rows, texts, rollouts, config, log=log)


def _with_prefix(whose: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"eval_{whose}_{name}": value for name, value in values.items()}
