"""The training dataset as its objective wants it: single rows, pairs, rationales by prompt, or prompts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from potstill.errors import StageError
from potstill.models.local import checkpoint
from potstill.records import Trace
from potstill.training.dataset.answer_blank import begin_answers
from potstill.training.dataset.chat_template import ChatTemplate, read_chat_template
from potstill.training.dataset.row_shortening import text_without_reasoning
from potstill.training.dataset.tokenize import (
    check_lengths,
    check_rows,
    tokenize_prompts,
    tokenize_traces,
)
from potstill.training.dataset.training_dataset import TokenizedRows, TrainingDataset
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings
from potstill.training.student_key import label_of, rationale_score
from potstill.training.teacher import cached_logits
from potstill.training.teacher.cross_tokenizer import TokenizerPair
from potstill.training.teacher.tokenizer_check import check_same_tokens

MAX_UNALIGNED_SHARE = 0.5  # of the rows, where the teacher has another tokenizer
SAME_TOKENS = "both sides are the same"
RIVAL_SKIPPED = "its rival can't be trained on"
NO_LIMIT = 1 << 30


def build_dataset(
    traces: Sequence[Trace],
    template: ChatTemplate,
    start: Path,
    settings: TrainingSettings,
    config: ObjectiveConfig,
    *,
    folder: Path | None = None,
) -> TrainingDataset:
    """Tokenize traces into what the objective trains on; refuse those that would teach the wrong thing.

    What is too long is left out, never cut, and refused above `max_dropped_share`: rows, either side of pairs, prompts.

    Args:
        start: the student's starting checkpoint.
        folder: where arrays lie that are too large for memory; None is the system's temporary folder.
    """
    # Whoever reads the student's tokens must have the same ones.
    max_length = max_row_length(start, settings)
    readers = [config.reference]
    if not config.crosses_tokenizers:
        readers += [config.teacher, *config.teachers.values()]
    for model in readers:
        if isinstance(model, str | Path):
            check_same_tokens(start, Path(model))

    if config.on_policy_fraction == 1:  # the student writes every completion
        prompts = tokenize_prompts(traces, template, max_length=max_length)
        check_lengths(traces, prompts, max_length, settings.max_dropped_share)
        return TrainingDataset.of_rows(traces, prompts.rows, prompts.skip_reasons)

    # Objectives that take rows in a way of their own.
    tokenize = Tokenizing(template, max_length, settings.max_dropped_share, folder)
    if config.crosses_tokenizers:
        return _build_across_tokenizers(traces, tokenize, start, settings, config)
    if "mismatched" in config.needs and not any(trace.rejected for trace in traces):
        return label_rows(tokenize.singles(traces))

    # All others: single rows or pairs, and what is added to them.
    config.hooks.check_rows(traces)
    is_paired = bool({"pairs", "labels"} & set(config.needs))
    dataset = tokenize.pairs(traces) if is_paired else tokenize.singles(traces)
    if is_paired and not config.hooks.keeps_equal_pairs:
        dataset = drop_equal_pairs(dataset)
    if "prompts" in config.needs:
        return group_by_prompt(dataset)
    if config.teacher_cache:
        return _add_cached_logits(dataset, config, start)
    return dataset


class Tokenizing:
    """Tokenizes and checks traces for one training.

    Args:
        template: the student's.
        max_length: tokens of a row at most.
        max_dropped_share: share of the traces that may be too long.
        folder: for arrays that are too large for memory.
    """

    def __init__(
        self, template: ChatTemplate, max_length: int, max_dropped_share: float, folder: Path | None
    ) -> None:
        self.template, self.max_length = template, max_length
        self._max_dropped_share, self._folder = max_dropped_share, folder

    def singles(self, traces: Sequence[Trace]) -> TrainingDataset:
        """One row a trace."""
        tokenized = tokenize_traces(
            traces, self.template, max_length=self.max_length, folder=self._folder
        )
        check_rows(
            traces,
            tokenized,
            self.template,
            max_length=self.max_length,
            max_dropped_share=self._max_dropped_share,
        )
        return TrainingDataset.of_rows(traces, tokenized.rows, tokenized.skip_reasons)

    def pairs(self, traces: Sequence[Trace]) -> TrainingDataset:
        """(better, worse) of each trace and its rival; where one side can't be trained on, neither is."""
        rivals = [_rival_of(trace) for trace in traces]
        better, worse = self.singles(traces), self.singles(rivals)
        rows = TokenizedRows.from_rows(chain(better.rows, worse.rows), self._folder)
        worse_row_by_trace = {}
        for row, trace_index in enumerate(worse.rows.trace_index.tolist(), len(better.rows)):
            worse_row_by_trace[trace_index] = row

        items = []
        for row, trace_index in enumerate(better.rows.trace_index.tolist()):
            if trace_index in worse_row_by_trace:
                items.append((row, worse_row_by_trace[trace_index]))
        if not items:
            raise StageError(
                f"none of {len(traces)} pairs can be trained: of each, one side is left out",
                expected="at least one pair of two rows",
                fix=f"look at what was left out: {dict(better.skipped)}, {dict(worse.skipped)}",
            )
        dataset = TrainingDataset.of_rows(traces, rows, better.skipped).with_items(items)
        return dataset.with_skipped({RIVAL_SKIPPED: len(better) - len(items)})


def drop_equal_pairs(dataset: TrainingDataset) -> TrainingDataset:
    """Leave out the pairs whose sides are the same tokens: there is nothing to prefer."""
    differing = []
    for number, item in enumerate(dataset):
        if len(item) == 1 or not item[0].same_tokens(item[1]):
            differing.append(number)
    equal_count = len(dataset) - len(differing)
    if not differing:
        raise StageError(
            f"none of {len(dataset.traces)} pairs can be trained ({equal_count}: {SAME_TOKENS})",
            expected="a better and a worse completion",
            fix="give other rows, or learn the texts alone (sft)",
        )
    return dataset.select(differing).with_skipped({SAME_TOKENS: equal_count})


def label_rows(dataset: TrainingDataset) -> TrainingDataset:
    """Single completions, each with the column `right` [1]: by its label, or by its verdict."""
    labels = [label_of(dataset.traces[row.trace_index]) for row in dataset.item_rows]
    unlabelled = labels.count(None)
    if unlabelled:
        raise StageError(
            f"{unlabelled} of {len(labels)} rows are neither labelled nor judged",
            expected="pairs, or rows with label true or false, or traces with a verdict",
            fix="rows with chosen and rejected, or with label",
        )
    return dataset.with_column("right", [[float(bool(label))] for label in labels])


def group_by_prompt(dataset: TrainingDataset) -> TrainingDataset:
    """Put pairs together by prompt: each rationale once, with the columns `good` [1] and, where all have it, `score`.

    A rationale that several pairs share on the same side is one row.
    """
    # Of each prompt its rationales by their tokens and side: an equal one is one row.
    rows_by_prompt: dict[Any, dict[tuple[bytes, bool], int]] = {}
    rationales: dict[int, tuple[bool, Trace | None]] = {}
    for item, row_numbers in zip(dataset, dataset.items, strict=True):
        for place, (row, number) in enumerate(zip(item, row_numbers.tolist(), strict=True)):
            better = dataset.traces[row.trace_index]
            is_good = place == 0
            rows_by_tokens = rows_by_prompt.setdefault(better.prompt, {})
            rows_by_tokens.setdefault((row.input_ids.tobytes(), is_good), number)
            trace = better if is_good else better.rejected
            rationales[number] = (is_good, trace)
    items = [list(rows.values()) for rows in rows_by_prompt.values()]
    grouped = dataset.with_items(items)

    # The columns, in the order of the rows that are left.
    good: list[list[float]] = []
    scores: list[float | None] = []
    for number in grouped.row_numbers:
        is_good, trace = rationales[number]
        good.append([float(is_good)])
        scores.append(rationale_score(trace) if trace else None)
    grouped = grouped.with_column("good", good)
    if _all_scored(dataset.traces):
        grouped = grouped.with_column("score", [[score or 0.0] for score in scores])
    return grouped


def _all_scored(traces: Sequence[Trace]) -> bool:
    for trace in traces:
        for side in (trace, trace.rejected):
            if side and rationale_score(side) is None:
                return False
    return True


def make_tokenizer_pair(
    start: Path, settings: TrainingSettings, config: ObjectiveConfig
) -> TokenizerPair:
    """The two tokenizers of a config whose teacher has its own."""
    teacher = Path(str(config.teacher))
    return TokenizerPair(start, teacher, max_row_length(teacher, TrainingSettings()), settings.chat)


def _build_across_tokenizers(
    traces: Sequence[Trace],
    tokenize: Tokenizing,
    start: Path,
    settings: TrainingSettings,
    config: ObjectiveConfig,
) -> TrainingDataset:
    """Rows with the teacher's reading of them; those that can't be aligned are left out, and must not be too many."""
    # Each row with the teacher's reading of the same trace.
    both = make_tokenizer_pair(start, settings, config)
    dataset = tokenize.singles(traces)
    traces_of_rows = [traces[row.trace_index] for row in dataset.rows]
    read = both.align(dataset.rows, traces_of_rows)
    aligned = [row for row in read.rows if row is not None]
    unaligned = len(dataset) - len(aligned)
    max_share = max(settings.max_dropped_share, MAX_UNALIGNED_SHARE)
    if unaligned > max_share * len(dataset):
        raise StageError(
            f"{unaligned} of {len(dataset)} rows can't be aligned with the teacher {config.teacher}",
            expected=f"at most {MAX_UNALIGNED_SHARE:.0%}: {read.reasons}",
            fix="another teacher, or distil from its texts (objective sft)",
        )
    skipped = dict(Counter(dataset.skipped) + Counter(read.reasons))
    if not config.hooks.pairs_with_answer_alone(config.constants):
        return TrainingDataset.of_rows(traces, TokenizedRows.from_rows(aligned), skipped)

    # Each row with the same without its reasoning, as an item of two.
    bare_rows = _bare_rows(traces, tokenize, both)
    bare_by_trace = {}
    for number, row in enumerate(bare_rows, len(aligned)):  # they stand behind the whole ones
        bare_by_trace[row.trace_index] = number
    items = []
    for number, row in enumerate(aligned):
        bare_row = bare_by_trace.get(row.trace_index)
        items.append([number] if bare_row is None else [number, bare_row])
    rows = TokenizedRows.from_rows([*aligned, *bare_rows])
    return TrainingDataset.of_rows(traces, rows, skipped).with_items(items)


def _bare_rows(traces: Sequence[Trace], tokenize: Tokenizing, both: TokenizerPair) -> list[Any]:
    """The rows without their reasoning that both sides can read; a row names its trace as before."""
    bare_traces, trace_indices = [], []
    for trace_index, trace in enumerate(traces):
        text = text_without_reasoning(trace.text)
        if text:
            bare_traces.append(replace(trace, text=text))
            trace_indices.append(trace_index)
    # Their rows count in the list of bare traces, and are renamed to the given ones.
    rows = tokenize_traces(bare_traces, tokenize.template, max_length=tokenize.max_length).rows
    traces_of_rows = [bare_traces[row.trace_index] for row in rows]
    aligned = []
    for row in both.align(rows, traces_of_rows).rows:
        if row is not None:
            aligned.append(replace(row, trace_index=trace_indices[row.trace_index]))
    return aligned


def tokenize_for_teacher(
    traces: Sequence[Trace], teacher: Path, settings: TrainingSettings
) -> TrainingDataset:
    """The rows and their rivals' as the teacher reads them; what can't be tokenized is left out."""
    template = read_chat_template(checkpoint.load_tokenizer(teacher), settings.chat)
    traces = begin_answers(traces, template.answer_blank)
    tokenize = Tokenizing(
        template, max_row_length(teacher, settings), settings.max_dropped_share, None
    )
    dataset = tokenize.singles(traces)
    rivals = [trace.rejected for trace in traces if trace.rejected]
    if not rivals:
        return dataset
    worse = tokenize.singles(rivals)
    rows = TokenizedRows.from_rows(chain(dataset.rows, worse.rows))
    return TrainingDataset.of_rows(traces, rows, dataset.skipped).with_skipped(worse.skipped)


def max_row_length(start: Path, settings: TrainingSettings) -> int:
    """Tokens a row may have: as set, but never more than the model's context."""
    return min(checkpoint.read_context(start), settings.max_length or NO_LIMIT)


def _add_cached_logits(
    dataset: TrainingDataset, config: ObjectiveConfig, start: Path
) -> TrainingDataset:
    """The rows with a teacher's cached logits, made at the temperature that is trained at."""
    assert config.teacher_cache is not None
    cached = cached_logits.load_manifest(config.teacher_cache).temperature
    wanted = float(config.constants.get("temperature", 1.0))
    if cached != wanted:
        raise StageError(
            f"{config.teacher_cache} was stored at temperature {cached:g}, and the objective compares at {wanted:g}",
            expected="one temperature: what lies outside the cached teacher logits can't be re-tempered",
            fix=f"temperature={cached:g} in the stage, or potstill cache-teacher --temperature {wanted:g}",
        )
    rows = cached_logits.read(config.teacher_cache, start, dataset.item_rows)
    for name in rows[0].columns:
        dataset = dataset.with_column(name, [row.columns[name] for row in rows])
    return dataset


def _rival_of(trace: Trace) -> Trace:
    if trace.rejected is None:
        raise StageError(
            f"the row {trace.id} has no rival",
            expected="pairs of better and worse completions for this objective",
            fix="pair(good, bad) in the method, or rows with chosen and rejected",
        )
    return trace.rejected
