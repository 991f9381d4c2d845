"""The rows of a stage as its objective wants them: alone, in pairs, with cached teacher logits, or prompts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import StageError
from potstill.models.local import checkpoint
from potstill.records import Trace
from potstill.training.dataset.chat_template import Chat, chat
from potstill.training.dataset.check import check, check_lengths
from potstill.training.dataset.collate import Item
from potstill.training.dataset.implicit_cot import bare
from potstill.training.dataset.tokenize import Row, render
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings
from potstill.training.teacher import cached_logits
from potstill.training.teacher.cross_tokenizer import Across
from potstill.training.teacher.tokenizer_check import same_tokens

SCORE = "score"  # of a trace, how good its rationale is, 0 to 1
LOST_ACROSS = 0.5  # share of rows that may fail to align with a teacher of another tokenizer
SAME = "both sides are the same"
LOST = "its rival can't be trained on"


class Rows(NamedTuple):
    """Rendered rows or pairs, and how many were left out by reason."""

    rows: Sequence[Row | Item]
    reasons: Mapping[str, int]


class StoredRows(NamedTuple):
    """All rows, pairs taken apart, and how many were left out by reason."""

    rows: Sequence[Row]
    reasons: Mapping[str, int]


def rendered(
    rows: Sequence[Trace],
    template: Chat,
    start: Path,
    settings: TrainingSettings,
    config: ObjectiveConfig,
) -> Rows:
    """The rows ready to train on; refuses those that would teach the wrong thing.

    What is too long is left out, never cut, and refused above `max_dropped_share`: of rows, of either side of pairs, of
    prompts.
    """
    limit = longest(start, settings)
    for of in (None if config.across else config.teacher, config.reference):
        if isinstance(of, str | Path):
            same_tokens(start, Path(of))
    if config.on_policy_fraction == 1:
        prompts = render(rows, template, max_length=limit, prompts=True)
        check_lengths(rows, prompts, limit, settings.max_dropped_share)
        return Rows(prompts.rows, prompts.reasons)
    if config.across:
        found, both = alone(rows, template, limit, settings), sides(start, settings, config)
        found = _across(found, rows, both, settings, config)
        crossed = config.objective == "cot2align" and config.constants.get("crossed", True)
        return _crossed(found, rows, both, template, limit) if crossed else found
    if "mismatched" in config.needs and not any(row.rival for row in rows):
        return labelled(alone(rows, template, limit, settings), rows)
    if config.objective == "step_dpo":
        _one_prefix(rows)
    paired = bool({"pairs", "labels"} & set(config.needs))
    found = (
        pairs(rows, template, limit, settings.max_dropped_share)
        if paired
        else alone(rows, template, limit, settings)
    )
    if (
        paired and config.objective != "distillm2"
    ):  # whose sides are learnt each by a divergence of its own
        found = differing(found, len(rows))
    if "prompts" in config.needs:
        return Rows(by_prompt(found.rows, rows), found.reasons)
    return _with_cached_logits(found, config, start) if config.teacher_cache else found


def alone(rows: Sequence[Trace], template: Chat, limit: int, settings: TrainingSettings) -> Rows:
    """One row a trace."""
    rendering = render(rows, template, max_length=limit)
    check(rows, rendering, template, max_length=limit, max_dropped_share=settings.max_dropped_share)
    return Rows(rendering.rows, rendering.reasons)


def pairs(rows: Sequence[Trace], template: Chat, limit: int, max_dropped_share: float) -> Rows:
    """(better, worse) of each trace and its rival; where one side can't be trained on, neither is."""
    rivals = [_rival(row) for row in rows]
    sides = [render(side, template, max_length=limit) for side in (rows, rivals)]
    for side, rendering in zip((rows, rivals), sides):
        check(side, rendering, template, max_length=limit, max_dropped_share=max_dropped_share)
    worse = {row.trace: row for row in sides[1].rows}
    made = [(row, worse[row.trace]) for row in sides[0].rows if row.trace in worse]
    lost = len(sides[0].rows) - len(made)
    if not made:
        raise StageError(
            f"none of {len(rows)} pairs can be trained: of each, one side is left out",
            expected="at least one pair of two rows",
            fix=f"look at what was left out: {sides[0].reasons}, {sides[1].reasons}",
        )
    return Rows(made, {**sides[0].reasons, **({LOST: lost} if lost else {})})


def differing(found: Rows, of: int) -> Rows:
    """Without the pairs whose sides are the same tokens: there is nothing to prefer."""
    apart = [
        pair for pair in found.rows if isinstance(pair, Row) or len({row.ids for row in pair}) > 1
    ]
    same = len(found.rows) - len(apart)
    if not apart:
        raise StageError(
            f"none of {of} pairs can be trained ({same}: {SAME})",
            expected="a better and a worse completion",
            fix="give other rows, or learn the texts alone (likelihood)",
        )
    return Rows(apart, {**found.reasons, **({SAME: same} if same else {})})


def _one_prefix(rows: Sequence[Trace]) -> None:
    """Refuse steps that do not follow the same text: their difference would not be the step's."""
    apart = [
        row
        for row in rows
        if row.rival and row.text[: row.given] != row.rival.text[: row.rival.given]
    ]
    if apart:
        raise StageError(
            f"the two steps of {apart[0].id} follow different texts ({len(apart)} of {len(rows)} pairs)",
            expected="one given beginning of both sides, which is not learnt",
            fix="give the rows a prefix, or traces the same `given` text; or learn whole answers (dpo)",
        )


def labelled(found: Rows, traces: Sequence[Trace]) -> Rows:
    """Single completions, each with the column `right`: by its label, or by its verdict."""
    known = [_label(traces[row.trace]) for row in flat(found.rows)]
    lost = sum(label is None for label in known)
    if lost:
        raise StageError(
            f"{lost} of {len(known)} rows are neither labelled nor judged",
            expected="pairs, or rows with label true or false, or traces with a verdict",
            fix="rows with chosen and rejected, or with label",
        )
    rows = [
        replace(row, columns={**row.columns, "right": [float(bool(label))] * len(row.ids)})
        for row, label in zip(flat(found.rows), known, strict=True)
    ]
    return Rows(rows, found.reasons)


def _label(trace: Trace) -> bool | None:
    label = trace.scores.get("label")
    if isinstance(label, int | float):
        return label > 0
    return {"right": True, "wrong": False}.get(trace.verdict.status)


def by_prompt(found: Sequence[Row | Item], traces: Sequence[Trace]) -> list[Row | Item]:
    """Pairs put together by prompt: each rationale once, with the columns `good` and, where all have one, `score`."""
    scores = [trace.scores.get(SCORE) for row in traces for trace in (row, row.rival) if trace]
    scored = all(isinstance(score, int | float) for score in scores)
    made: dict[Any, dict[Any, Row]] = {}
    for pair in found:
        for at, row in enumerate(pair if isinstance(pair, tuple) else (pair,)):
            trace = traces[row.trace]
            of = trace if at == 0 else trace.rival
            columns = {"good": [float(at == 0)] * len(row.ids)}
            if scored and of is not None:
                columns["score"] = [float(of.scores[SCORE] or 0)] * len(row.ids)
            kept = replace(row, columns={**row.columns, **columns})
            made.setdefault(trace.prompt, {}).setdefault((row.ids, at), kept)
    return [tuple(rationales.values()) for rationales in made.values()]


def sides(start: Path, settings: TrainingSettings, config: ObjectiveConfig) -> Across:
    """The two tokenizers of a config whose teacher has its own."""
    teacher = Path(str(config.teacher))
    return Across(start, teacher, longest(teacher, TrainingSettings()), settings.chat)


def _across(
    found: Rows,
    traces: Sequence[Trace],
    both: Across,
    settings: TrainingSettings,
    config: ObjectiveConfig,
) -> Rows:
    """The rows with the teacher's reading of them; those that can't be aligned are left out, told, and not too many."""
    rows = flat(found.rows)
    made = both.attached(rows, [traces[row.trace] for row in rows])
    kept = [row for row in made.rows if row is not None]
    if len(rows) - len(kept) > max(settings.max_dropped_share, LOST_ACROSS) * len(rows):
        raise StageError(
            f"{len(rows) - len(kept)} of {len(rows)} rows can't be aligned with the teacher {config.teacher}",
            expected=f"at most {LOST_ACROSS:.0%}: {made.reasons}",
            fix="another teacher, or distil from its texts (objective sft)",
        )
    return Rows(kept, dict(Counter(found.reasons) + Counter(made.reasons)))


def _crossed(
    found: Rows, traces: Sequence[Trace], both: Across, template: Chat, limit: int
) -> Rows:
    """Each row with the same without its chain of thought, as an item of two; alone where there is no such row."""
    plain = [replace(trace, text=bare(trace.text)) for trace in traces]
    some = render([trace for trace in plain if trace.text], template, max_length=limit).rows
    at = [index for index, trace in enumerate(plain) if trace.text]
    there = both.attached(some, [plain[at[row.trace]] for row in some]).rows
    others = {at[row.trace]: replace(row, trace=at[row.trace]) for row in there if row is not None}
    return Rows(
        [(row, others[row.trace]) if row.trace in others else row for row in flat(found.rows)],
        found.reasons,
    )


def stored(traces: Sequence[Trace], teacher: Path, settings: TrainingSettings) -> StoredRows:
    """The rows and their rivals' as the teacher reads them; what can't be rendered is left out."""
    from transformers import AutoTokenizer

    template = chat(AutoTokenizer.from_pretrained(teacher, local_files_only=True), settings.chat)
    limit = longest(teacher, settings)
    good = alone(traces, template, limit, settings)
    rivals = [trace.rival for trace in traces if trace.rival]
    bad = alone(rivals, template, limit, settings) if rivals else Rows((), {})
    reasons = Counter(good.reasons) + Counter(bad.reasons)
    return StoredRows([*flat(good.rows), *flat(bad.rows)], dict(reasons))


def longest(start: Path, settings: TrainingSettings) -> int:
    """Tokens a row may have: as set, but never more than the model's context."""
    config = checkpoint.read_config(start)
    context = config.get("max_position_embeddings") or config.get("text_config", {}).get(
        "max_position_embeddings"
    )
    limits = [limit for limit in (context, settings.max_length) if limit]
    return int(min(limits, default=1 << 30))


def flat(items: Sequence[Row | Item]) -> list[Row]:
    """All rows, those of pairs one after the other."""
    return [row for item in items for row in (item if isinstance(item, tuple) else (item,))]


def _with_cached_logits(found: Rows, config: ObjectiveConfig, start: Path) -> Rows:
    """The rows with a teacher's stored entries, made at the temperature that is trained at."""
    assert config.teacher_cache is not None
    stored, wanted = (
        cached_logits.about(config.teacher_cache).temperature,
        float(config.constants.get("temperature", 1.0)),
    )
    if stored != wanted:
        raise StageError(
            f"{config.teacher_cache} was stored at temperature {stored:g}, and the objective compares at {wanted:g}",
            expected="one temperature: what lies outside the cached teacher logits can't be re-tempered",
            fix=f"temperature={stored:g} in the stage, or potstill cache-teacher --temperature {wanted:g}",
        )
    rows = iter(cached_logits.read(config.teacher_cache, start, flat(found.rows)))
    made = [
        tuple(next(rows) for _ in item) if isinstance(item, tuple) else next(rows)
        for item in found.rows
    ]
    return Rows(made, found.reasons)


def _rival(row: Trace) -> Trace:
    if row.rival is None:
        raise StageError(
            f"the row {row.id} has no rival",
            expected="pairs of better and worse completions for this objective",
            fix="pair(good, bad) in the method, or rows with chosen and rejected",
        )
    return row.rival
