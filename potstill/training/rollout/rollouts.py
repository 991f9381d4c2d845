"""The student writes: a step's prompts become its own completions, scored, and are trained on like any rows.

Each completion is a function of the weights, the step and the place, so a resumed training writes the same ones.
Tokens stay the ids that were drawn: no text is ever tokenised again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import torch

from potstill.errors import StageError
from potstill.models.local import checkpoint, generate
from potstill.models.model import Completion, Request, Sampling
from potstill.objectives.policy import group_advantages
from potstill.objectives.schedules import AdaptiveShare, Source, choose_source
from potstill.records import Problem, Tokens, Trace, Verdict
from potstill.training import distributed
from potstill.training.dataset import batching, teacher_view
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.host import NO_HOST, TrainingHost, TrainingSampling
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout import rewards, speculative
from potstill.training.rollout.prompt_choice import Observation, PromptChoice, has_spread
from potstill.training.rollout.replay_buffer import ReplayBuffer, row_from_state, row_to_state
from potstill.training.rollout.replicas import ReplicaWriter
from potstill.training.rollout.rewards import RewardContext, Rewards, Rollout
from potstill.training.rollout.rollout_servers import RolloutServers
from potstill.training.rollout.tools import ToolLoop, ToolRollout, Turn
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.prompts import Feedback, TeacherPrompts
from potstill.training.teacher.remote import ServedTeacher


@final
class Rollouts:
    """Replaces the micro-batches of a step by what the student writes on their prompts, or by what it wrote before.

    Where rows come from is decided once a step: by the share `config.on_policy_fraction`, or with a replay buffer by a
    share that starts there and grows with the evaluation loss (`objectives.schedules`).

    Args:
        rows: the stage's rows; a micro-batch names them by its column `trace`.
        template: of the student.
        bf16: write in bfloat16, as the training computes.
        host: the run around the training.
        teacher_prompts: what the teacher reads in the place of the rows' prompts; None where it reads the same.
        servers: write in the student's place; None where it writes itself.
    """

    def __init__(
        self,
        rows: Sequence[Trace],
        template: ChatTemplate,
        config: ObjectiveConfig,
        settings: TrainingSettings,
        *,
        bf16: bool = False,
        host: TrainingHost = NO_HOST,
        teacher_prompts: TeacherPrompts | None = None,
        servers: RolloutServers | None = None,
    ) -> None:
        self._rows, self._chat, self._config = rows, template, config
        self._seed, self._bf16 = settings.seed, bf16
        self.host = host
        self._teacher_prompts, self._servers = teacher_prompts, servers
        self._tools: ToolLoop | None = None
        if config.rollout_tool:
            problems = [row.problem for row in rows]
            self._tools = ToolLoop(config, template.codec, template.end_ids, problems)
        self._replicas: ReplicaWriter | None = None
        if settings.rollout_replicas:
            if self._tools is not None:
                raise StageError(
                    "rollout_replicas call no tools",
                    expected="rollout_tool without rollout_replicas",
                    fix="--set rollout_replicas=0",
                )
            if config.writes_with_teacher or servers is not None:
                raise StageError(
                    "rollout_replicas write for the student alone, and here it writes with a teacher or by a server",
                    expected="rollout_sampling=student, none of the teacher's share in sampling, no rollout_server",
                    fix="--set rollout_replicas=0",
                )
            self._replicas = ReplicaWriter(
                settings.rollout_replicas, trains_all=settings.lora is None, bf16=bf16
            )
        self._rewards = Rewards(config.reward, host)
        if "advantages" in config.needs:
            self._rewards.check(row.problem for row in rows)
        self._buffer: ReplayBuffer | None = None
        if config.replay_buffer_size:
            self._buffer = ReplayBuffer(config.replay_buffer_size)
        self._adaptive_share = AdaptiveShare(config.on_policy_fraction)
        self._prompt_choice: PromptChoice | None = None
        # Of each micro-batch of the last rollouts, the rows of each process.
        self._last_rollouts: list[list[list[TokenizedRow]]] = []

    def __call__(
        self, model: Any, window: list[Batch], when: When, teacher: Any = None
    ) -> list[Batch]:
        """The micro-batches to train on, in the order and number of those that came."""
        source = self._source(when)
        if source == "rows":
            return window
        if source == "replay":
            return [self._replay(batch, f"{when.step}/{at}") for at, batch in enumerate(window)]
        if when.step % self._config.num_iterations and self._has_rollouts_for(window):
            rank = distributed.process_rank()
            rows_of_batches = [of_processes[rank] for of_processes in self._last_rollouts]
        else:
            rows_of_batches = self._roll_out(model, window, when, teacher)
        batches = []
        for rows, batch in zip(rows_of_batches, window):
            batches.append(_as_batch(rows, batch["input_ids"].device))
        return batches

    def _source(self, when: When) -> Source:
        """Where this step's rows come from, by a number of its own."""
        uniform = _seed_of(self._seed, f"source/{when.step}") / 2**63
        if self._buffer is None:
            return choose_source(uniform, self._config.on_policy_fraction)
        return self._adaptive_share.source(uniform, when.done, full=self._buffer.is_full)

    def _has_rollouts_for(self, window: Sequence[Batch]) -> bool:
        """Whether the last rollouts are of as many micro-batches and processes."""
        processes = [len(of_processes) for of_processes in self._last_rollouts]
        return processes == [distributed.process_count()] * len(window)

    def _roll_out(
        self, model: Any, window: Sequence[Batch], when: When, teacher: Any
    ) -> list[list[TokenizedRow]]:
        was_training = model.training
        model.eval()
        if self._servers is not None:
            self._servers.update_weights(model, when.step)
        self.use_weights(model)
        rows_of_batches = []
        for index, batch in enumerate(window):
            place = f"{when.step}/{index}"
            rows_of_batches.append(self._roll_out_batch(model, batch, place, teacher, when))
        model.train(was_training)
        if self._config.num_iterations > 1:
            self._last_rollouts = [distributed.gather_objects(rows) for rows in rows_of_batches]
        return rows_of_batches

    def _replay(self, batch: Batch, place: str) -> Batch:
        """This process's share of the rows that a micro-batch takes from the buffer, which is the same in all."""
        assert self._buffer is not None
        own_count = 0 if batching.is_idle(batch) else len(batch["input_ids"])
        count = sum(distributed.gather_objects(own_count))
        rows = self._buffer.sample(count, _seed_of(self._seed, f"replay/{place}"))
        if not own_count:
            return batch
        own_rows = rows[distributed.process_rank() :: distributed.process_count()]
        return _as_batch(own_rows, batch["input_ids"].device)

    def _roll_out_batch(
        self, model: Any, batch: Batch, place: str, teacher: Any, when: When
    ) -> list[TokenizedRow]:
        """The rows of one micro-batch: `num_generations` completions of each prompt."""
        prompts: list[TokenizedRow] = []
        if not batching.is_idle(batch):
            prompts = teacher_view.prompt_rows(batch)
        places = [distributed.place_in_batch(index) for index in range(len(prompts))]
        if self._prompt_choice is None:
            groups = self._write_groups(model, prompts, place, places, teacher=teacher, when=when)
        else:
            groups = self._write_chosen(model, prompts, place, places, teacher=teacher, when=when)
        rows = [row for group in groups for row in group]
        if self._config.mask_truncated_completions:
            rows = [row if row.columns["stopped"][0] else row.masked() for row in rows]
        if self._buffer is not None:
            size = self._config.num_generations
            groups = [rows[start : start + size] for start in range(0, len(rows), size)]
            for group in distributed.gather_shares(groups):
                self._buffer.add(group)
        return rows

    def _write_chosen(
        self,
        model: Any,
        planned: Sequence[TokenizedRow],
        name: str,
        places: Sequence[int],
        *,
        teacher: Any,
        when: When,
    ) -> list[list[TokenizedRow]]:
        """Groups of the prompts that are chosen; in the place of those without spread other prompts are tried."""
        choice, step = self._prompt_choice, when.step
        assert choice is not None
        prompts = choice.choose(planned, [f"{name}/{place}" for place in places], step)
        groups = self._write_groups(model, prompts, name, places, teacher=teacher, when=when)
        asked_traces = [row.trace_index for row in prompts]
        tries = [1] * len(groups)
        observed = [_observed(0, place, group, step) for place, group in zip(places, groups)]
        for number in range(1, self._config.max_resample_times + 1):
            even = [index for index, group in enumerate(groups) if not has_spread(group)]
            # Which prompts are left is decided by all processes together, as one process would.
            of_processes = distributed.gather_objects((len(even), asked_traces))
            if not any(count for count, _ in of_processes):
                break
            asked_by_all = {index for _, indices in of_processes for index in indices}
            again = f"{name}/again-{number}"
            places_again = [places[index] for index in even]
            names = [f"{again}/{place}" for place in places_again]
            others = choice.draw(names, step, asked_by_all)
            written = self._write_groups(
                model, others, again, places_again, teacher=teacher, when=when
            )
            asked_traces += [row.trace_index for row in others]
            for index, group in zip(even, written, strict=True):
                groups[index] = group
                tries[index] += 1
                observed.append(_observed(number, places[index], group, step))

        # All processes know all, in the same order however the rows were dealt out.
        of_all: list[_Observed] = []
        for of_process in distributed.gather_objects(observed):
            of_all += of_process
        of_all.sort(key=lambda one: (one.number, one.place))
        choice.observe([one.observation for one in of_all])
        marked = []
        for row, group, count in zip(planned, groups, tries, strict=True):
            swapped = float(group[0].trace_index != row.trace_index)
            marked.append(
                [_with_columns(one, tries=float(count), swapped=swapped) for one in group]
            )
        return marked

    def _write_groups(
        self,
        model: Any,
        prompt_rows: Sequence[TokenizedRow],
        name: str,
        places: Sequence[int],
        *,
        teacher: Any,
        when: When,
    ) -> list[list[TokenizedRow]]:
        """The completions of each prompt, with all that is said of them.

        Args:
            name: of the micro-batch in the training, for seeds and for whoever counts calls.
            places: of the prompts in the whole micro-batch.
        """
        config, size = self._config, self._config.num_generations
        # Draw: each completion from a seed that names its step, its place and its number in the group.
        group_of = [index for index in range(len(prompt_rows)) for _ in range(size)]
        names = []
        for number, index in enumerate(group_of):
            names.append(f"{name}/{places[index] * size + number % size}")
        seeds = [_seed_of(self._seed, one) for one in names]
        prompts_drawn = [prompt_rows[index].prompt_ids for index in group_of]
        requests = self.requests([prompt_rows[index].trace_index for index in group_of], names)
        with self.host.asking(requests) as answers:
            limits = [self.completion_limit(model, prompt_rows[index]) for index in group_of]
            problems = [self._rows[prompt_rows[index].trace_index].problem for index in group_of]
            drawn, writers = self._draw(
                model, prompts_drawn, seeds, limits, problems=problems, teacher=teacher
            )
            answers += self.completions(prompts_drawn, drawn)
        rows = []
        for index, completion in zip(group_of, drawn):
            rows.append(self.as_row(prompt_rows[index], completion))
        if self._servers is not None:
            own_log_probs = rewards.score_rows(model, rows)
            rows = self._servers.compared(rows, writers, own_log_probs, when.step)

        if config.writes_with_teacher:
            # They were not drawn from the student alone, so the student is asked for its own share.
            log_probs = rewards.score_rows(model, rows)
            own_share = []
            for row, values in zip(rows, log_probs):
                own_share.append(row.with_columns(sampled=[0.0] * row.prompt_length + list(values)))
            rows = own_share
        verdicts: Sequence[Verdict] | None = None
        if "advantages" in config.needs:
            rows, verdicts = self._add_rewards(model, rows, group_of, teacher, when)
        if verdicts is None and (config.needs_feedback or self._judges_unrewarded):
            verdicts = self._judge(rows)
        if self._prompt_choice is not None:
            rows = _with_solved(rows, verdicts)
        if config.needs_feedback:
            assert verdicts is not None
            rows = self._add_feedback(rows, group_of, verdicts)
        return [list(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _draw(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        limits: Sequence[int],
        *,
        problems: Sequence[Problem],
        teacher: Any,
    ) -> tuple[Sequence[generate.GeneratedRow | ToolRollout], list[int]]:
        """A completion of each prompt, and which server wrote it, where servers write."""
        if self._servers is None:
            pair = self._pair(model, teacher)
            completions = self.write_completions(
                model, prompts, seeds, pair, limits=limits, problems=problems
            )
            return completions, []
        written = self._servers.write(prompts, seeds, limits, self._config.rollout_temperature)
        return [one.row for one in written], [one.server for one in written]

    @property
    def _judges_unrewarded(self) -> bool:
        """Whether the verifier is asked for the pass rates alone."""
        return self._prompt_choice is not None and "advantages" not in self._config.needs

    def _judge(self, rows: Sequence[TokenizedRow]) -> list[Verdict]:
        answers = []
        for row in rows:
            answers.append((self._rows[row.trace_index].problem, self.text(row.completion_ids)))
        return self.host.judge(answers)

    def choose_among(self, prompts: Sequence[TokenizedRow]) -> None:
        """Choose prompts by the student's pass rates from now on, where the config asks for it.

        Args:
            prompts: all that are trained on.
        """
        config = self._config
        if config.chooses_prompts:
            self._prompt_choice = PromptChoice(
                prompts, config.difficulty_pools, config.recheck_steps, self._seed
            )

    def statistics(self, when: When) -> dict[str, float]:
        """How many prompts each difficulty pool has; nothing where prompts are not chosen."""
        return {} if self._prompt_choice is None else self._prompt_choice.counts(when.step)

    def _pair(self, model: Any, teacher: Any) -> speculative.ModelPair | None:
        """Student and teacher as one writer; None where the student writes alone."""
        config = self._config
        if not config.writes_with_teacher:
            return None
        if config.rollout_sampling == "speculative":
            sampling = Sampling(temperature=config.rollout_temperature)
            return speculative.ModelPair(model, teacher, speculative.interleaved(sampling))
        distribution = speculative.mixed(config.teacher_share, config.rollout_temperature)
        return speculative.ModelPair(model, teacher, distribution)

    def completion_limit(self, model: Any, prompt: TokenizedRow) -> int:
        """Tokens that a completion may have: as set, but no more than the student and the teacher can read."""
        text_config = model.config.get_text_config()
        limit = min(
            self._config.max_new_tokens, checkpoint.context_of(text_config) - prompt.prompt_length
        )
        if self._teacher_prompts is None:
            return limit
        of_teacher = len(teacher_view.teacher_prompt_of(prompt))
        return min(limit, self._teacher_prompts.context - of_teacher)

    def write_completions(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        pair: Any = None,
        *,
        limits: Sequence[int] = (),
        problems: Sequence[Problem] = (),
    ) -> Sequence[Any]:
        """Completions (`generate.GeneratedRow`, or `ToolRollout`) of prompts given as tokens, each from its own seed.

        Args:
            pair: who writes in the place of the student alone.
            limits: tokens that each may have (`completion_limit`); without them as many as the student can read.
            problems: of each prompt, where the student may call a tool; without them it calls none.
        """
        if not prompts:
            return []
        if not limits:
            context = checkpoint.context_of(model.config.get_text_config())
            limits = [min(self._config.max_new_tokens, context - len(ids)) for ids in prompts]
        write_turn = partial(self._write_turn, model, pair)
        if self._tools is None or not problems:
            return write_turn(Turn(prompts, seeds, limits))
        return self._tools.write(write_turn, prompts, seeds, limits, problems)

    def _write_turn(self, model: Any, pair: Any, turn: Turn) -> list[generate.GeneratedRow]:
        """What the student writes behind each of these tokens, to its end, its limit or its next call."""
        config = self._config
        index_of: dict[tuple[int, ...], int] = {}  # of each distinct prompt
        for ids in turn.prompts:
            index_of.setdefault(tuple(ids), len(index_of))
        text_config = model.config.get_text_config()
        sampling = Sampling(
            temperature=1.0 if pair else config.rollout_temperature,
            max_new_tokens=config.max_new_tokens,
            logprobs=True,
        )
        batch = generate.GenerationBatch(
            prompts=[list(ids) for ids in index_of],
            prompt_of_row=[index_of[tuple(ids)] for ids in turn.prompts],
            seeds=turn.seeds,
            max_new_tokens=list(turn.limits),
            sampling=sampling,
            end_ids=self._chat.end_ids,
            unknown_ids=self._chat.codec.unknown_ids(text_config.vocab_size),
            has_stop_string=turn.has_call,
        )
        if self._replicas is not None:
            return self._replicas.write(batch)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self._bf16):
            return generate.generate_batch(pair or model, batch)

    def use_weights(self, model: Any) -> None:
        """Have replicas write with the weights that the student has now; to be called when these are others."""
        if self._replicas is not None:
            self._replicas.use_weights(model)

    def close(self) -> None:
        """End the replicas, where there are some."""
        if self._replicas is not None:
            self._replicas.close()

    def requests(self, traces: Sequence[int], places: Sequence[str]) -> list[Request]:
        """What the student is asked, as a run counts it: the rows' prompts, each at its place in the training."""
        config = self._config
        requests = []
        for trace, place in zip(traces, places, strict=True):
            sampling = TrainingSampling(
                temperature=config.rollout_temperature,
                max_new_tokens=config.max_new_tokens,
                place=place,
            )
            requests.append(Request(self._rows[trace].prompt, sampling=sampling, seed=self._seed))
        return requests

    def completions(
        self,
        prompts: Sequence[Sequence[int]],
        drawn: Sequence[generate.GeneratedRow | ToolRollout],
    ) -> list[Completion]:
        """What the student wrote, as a run stores it; observations count as tokens that it read."""
        completions = []
        for prompt, row in zip(prompts, drawn, strict=True):
            observed = sum(row.is_observed) if isinstance(row, ToolRollout) else 0
            tokens = Tokens(len(prompt) + observed, len(row.ids) - observed)
            completion = Completion(self.text(row.ids), tokens=tokens)
            if not row.stopped:
                completion = completion._replace(finish_reason="length")
            completions.append(completion)
        return completions

    def as_row(
        self, prompt_row: TokenizedRow, drawn: generate.GeneratedRow | ToolRollout
    ) -> TokenizedRow:
        """A rollout as a row; what a tool returned is not learnt.

        One that the limit cut keeps its tokens and has no end token: it never learns to stop.
        """
        prompt = prompt_row.prompt_ids
        before = [0.0] * len(prompt)
        columns = {
            **teacher_view.teacher_columns(prompt_row),
            "sampled": before + drawn.logprobs,
            "stopped": [float(drawn.stopped)] * (len(prompt) + len(drawn.ids)),
        }
        weights = [*before, *([1.0] * len(drawn.ids))]
        if isinstance(drawn, ToolRollout):
            weights = [*before, *(float(not observed) for observed in drawn.is_observed)]
        row = TokenizedRow.of(
            prompt_row.trace_index, [*prompt, *drawn.ids], weights, len(prompt), columns
        )
        if not isinstance(drawn, ToolRollout):
            return row
        return _with_columns(row, tool_calls=drawn.calls, tool_failures=drawn.failed_calls)

    def text(self, ids: Sequence[int]) -> str:
        """What a verifier reads of a completion's tokens."""
        return self._chat.codec.decode_answer(ids)

    def _add_rewards(
        self,
        model: Any,
        rows: Sequence[TokenizedRow],
        group_of: list[int],
        teacher: Any,
        when: When,
    ) -> tuple[list[TokenizedRow], Sequence[Verdict] | None]:
        """The rows with advantages and rewards, and the verdicts where a verifier was asked."""
        rollouts = []
        for row, group in zip(rows, group_of):
            text = self.text(row.completion_ids)
            rollouts.append(Rollout(self._rows[row.trace_index].problem, text, row, group))
        scorer: Any = None
        if isinstance(teacher, ServedTeacher):
            scorer = teacher
        elif teacher:
            scorer = partial(rewards.score_rows, teacher)
        context = RewardContext(model, scorer, self._chat, when.step, self._config.max_new_tokens)
        result = self._rewards(rollouts, context)

        values = torch.tensor(result.rewards, dtype=torch.float64)
        advantages = group_advantages(values, torch.tensor(group_of)).tolist()
        with_rewards = []
        for row, advantage, reward in zip(rows, advantages, result.rewards):
            with_rewards.append(_with_columns(row, advantages=advantage, reward=reward))
        rows = with_rewards
        if "labels" in self._config.needs:
            # What no verifier was asked about is right where it is rewarded.
            labels = result.right or [reward > 0 for reward in result.rewards]
            rows = [_with_columns(row, right=float(right)) for row, right in zip(rows, labels)]
        if result.answered is None:
            return list(rows), result.verdicts
        answered_rows = []
        for row, answered in zip(rows, result.answered):
            answered_rows.append(_with_columns(row, answered=float(answered)))
        return answered_rows, result.verdicts

    def _add_feedback(
        self,
        rows: Sequence[TokenizedRow],
        group_of: Sequence[int],
        verdicts: Sequence[Verdict],
    ) -> list[TokenizedRow]:
        """The rows behind a teacher's prompt that says what came of them; not learnt where it can't be shown."""
        assert self._teacher_prompts is not None
        texts = [self.text(row.completion_ids) for row in rows]
        with_feedback = []
        for number, row in enumerate(rows):
            right_attempt = ""
            for other, verdict in enumerate(verdicts):
                is_sibling = other != number and group_of[other] == group_of[number]
                if is_sibling and verdict.status == "right" and not right_attempt:
                    right_attempt = texts[other]
            feedback = Feedback(texts[number], verdicts[number], right_attempt)
            prompt_ids = self._teacher_prompts.after_rollout(self._rows[row.trace_index], feedback)
            is_shown = bool(prompt_ids)
            if len(prompt_ids) + len(row.completion_ids) > self._teacher_prompts.context:
                is_shown = False
            if not is_shown:
                row, prompt_ids = row.masked(), row.prompt_ids
            row = teacher_view.with_teacher_prompt(row, prompt_ids)
            with_feedback.append(_with_columns(row, unscored=float(not is_shown)))
        return with_feedback

    def update_share(self, loss: float) -> None:
        """Move the share of student text by the loss on evaluation rows, where there is a replay buffer."""
        if self._buffer is not None:
            self._adaptive_share = self._adaptive_share.after(loss)

    def state(self) -> dict[str, Any]:
        """The buffer, the share of student text, what the rewards remember, and the last rollouts."""
        rollouts = []
        for of_processes in self._last_rollouts:
            rollouts.append([list(map(row_to_state, rows)) for rows in of_processes])
        return {
            "buffer": self._buffer.state() if self._buffer is not None else {},
            "adaptive_share": list(self._adaptive_share),
            "rewards": self._rewards.state(),
            "last_rollouts": rollouts,
            "prompt_choice": self._prompt_choice.state() if self._prompt_choice else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        if self._buffer is not None:
            self._buffer.restore(state["buffer"])
        self._adaptive_share = AdaptiveShare(*state["adaptive_share"])
        self._rewards.restore(state["rewards"])
        if self._prompt_choice is not None:
            self._prompt_choice.restore(state["prompt_choice"])
        self._last_rollouts = []
        for of_processes in state["last_rollouts"]:
            self._last_rollouts.append([list(map(row_from_state, rows)) for rows in of_processes])


def _as_batch(rows: Sequence[TokenizedRow], device: Any) -> Batch:
    """Rows as a micro-batch, which is idle where there are none."""
    return batching.to_device(batching.collate_rows(rows), device)


def _with_columns(row: TokenizedRow, **values: float) -> TokenizedRow:
    """The row with columns of one value."""
    return row.with_columns(**{name: [value] * len(row) for name, value in values.items()})


class _Observed(NamedTuple):
    """An observation, with the try and the place in the whole micro-batch that it is of."""

    number: int
    place: int
    observation: Observation


def _observed(number: int, place: int, group: Sequence[TokenizedRow], step: int) -> _Observed:
    solved = [float(row.columns["solved"][0]) for row in group]
    pass_rate = sum(solved) / len(solved)
    observation = Observation(group[0].trace_index, pass_rate, has_spread(group), step)
    return _Observed(number, place, observation)


def _with_solved(
    rows: Sequence[TokenizedRow], verdicts: Sequence[Verdict] | None
) -> list[TokenizedRow]:
    """The rows with 1 where they are right, or with their reward where no verifier was asked."""
    solved = []
    for index, row in enumerate(rows):
        if verdicts is not None:
            value = float(verdicts[index].status == "right")
        else:
            value = float(row.columns["reward"][0])
        solved.append(_with_columns(row, solved=value))
    return solved


def _seed_of(seed: int, name: str) -> int:
    """63 bits, hashed from everything that names a draw."""
    digest = hashlib.sha256(f"{seed}/rollout/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
