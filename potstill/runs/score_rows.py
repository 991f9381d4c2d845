"""Score the rows that a student was trained on: how likely each token was before the training, and is after it.

The store is only read. What is computed is written beside the student, for whoever looks at what a row taught.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.errors import ConfigError, StageError
from potstill.extras import require_extra
from potstill.models.ray_spec import inner_spec
from potstill.records import Progress, no_progress
from potstill.runs import manifest
from potstill.runs.row_logprobs import (
    MOMENTS,
    SCORING_FOLDER,
    LogprobsFolder,
    Moment,
    RowRange,
    RowScores,
    ScoredModels,
    open_parquet,
    plan_parts,
    read_rows,
    scored_tables,
)
from potstill.runs.sources import CHECKPOINTS, load_checkpoint
from potstill.runs.stages import find_stage, why_no_rows
from potstill.store.lock import WriterLock
from potstill.store.store import Store
from potstill.store.students import Student
from potstill.training.settings import FIT_FILE, TOKENS_FILE

if TYPE_CHECKING:
    from potstill.models.local.logprobs import TokenScores

LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """What to score.

    Args:
        run_folder: of a run.
        arm: whose rows.
        stage: of the arm, by its name or number; "" is the last one.
        start: the model that the training began with, where it is not where the run had it.
        limit: the first so many rows; 0 is all.
        device: "auto" takes a GPU if there is one.
        threads: CPU threads; 0 leaves torch's setting.
    """

    run_folder: Path
    arm: str
    stage: str = ""
    start: str = ""
    limit: int = 0
    device: str = "auto"
    threads: int = 0


class MomentSummary(NamedTuple):
    """Over the tokens that are learnt: their mean log-probability in nats, and the share that was the most probable."""

    mean_logprob: float
    top_share: float


class ScoreSummary(NamedTuple):
    """What a scoring came to.

    Args:
        path: of the file.
        student: the stage's key, by which its folder is called.
        models: content ids of both models.
        rows: that have scores, the first ones of `rows_of_student`.
        learnt_tokens: of these rows, over which the summaries are.
        too_long: rows that are longer than a model's context, and have no scores.
        newly_scored: rows that this call computed.
    """

    path: Path
    student: str
    models: ScoredModels
    rows: int
    rows_of_student: int
    learnt_tokens: int
    before: MomentSummary
    after: MomentSummary
    too_long: int
    newly_scored: int


def score_rows(request: ScoreRequest, progress: Progress = no_progress) -> ScoreSummary:
    """Score an arm's rows by the checkpoint that its training began with, then by the student that it made.

    What is there already is not computed again, also after a kill or with a larger limit.

    Raises:
        StageError: the arm has no student, or its weights, its rows' tokens or its start are not there.
        StoreError: another process is scoring the same student.
    """
    require_extra("local", "scoring rows")
    student = find_student(request)
    tokens_path = student.folder / TOKENS_FILE
    checkpoints: dict[Moment, Path] = {
        "before": find_start(request, student),
        "after": student.folder,
    }
    models = ScoredModels(*[_content_id(checkpoints[moment]) for moment in MOMENTS])
    with open_parquet(tokens_path, "train the student again in another folder") as file:
        row_count = int(file.metadata.num_rows)
    wanted = min(request.limit or row_count, row_count)

    (student.folder / SCORING_FOLDER).mkdir(exist_ok=True)
    lock = WriterLock(student.folder / SCORING_FOLDER / LOCK_FILE)
    try:
        scores = LogprobsFolder(student.folder, models)
        scores.begin()
        finished = scores.count_finished()
        parts = plan_parts(tokens_path, finished, wanted)
        scoring = _Scoring(scores, tokens_path, parts, request, progress)
        # One model after the other: two large ones would not lie in memory together.
        for moment in MOMENTS:
            _score_parts(scoring, moment, checkpoints[moment])
        scores.join(tokens_path, parts, finished)
    finally:
        # The parts stay also where this call was stopped: the next one begins behind them.
        lock.release()
    return ScoreSummary(
        path=scores.path,
        student=student.stage,
        models=models,
        rows_of_student=row_count,
        newly_scored=sum(len(rows) for rows in parts),
        **_summarize(scoring),
    )


def find_student(request: ScoreRequest) -> Student:
    """The trained student of the arm's stage, in a folder that has its weights and its rows' tokens."""
    with Store.open(request.run_folder, create=False, readonly=True) as store:
        arms = store.history.arms()
        if request.arm not in arms:
            raise ConfigError(
                f"no arm {request.arm!r} in {request.run_folder}",
                available=arms,
                wanted=request.arm,
                fix="--arm NAME",
            )
        stage = find_stage(store, request.arm, request.stage)
        if stage is None:
            raise StageError(
                f"{request.arm} has no student to score with: {why_no_rows(store, request.arm)}",
                expected="an arm that trained a student on this machine",
            )
        student = store.students.get(stage.stage)
    if student is None:
        raise StageError(
            f"the student of {request.arm} is not trained yet",
            fix="the command that made the run goes on where it was stopped",
        )
    _check_student_folder(request.arm, student)
    return student


def _check_student_folder(arm: str, student: Student) -> None:
    """Refuse a student without weights, or without the tokens of its rows."""
    if not (student.folder / "config.json").is_file() or not list(
        student.folder.glob("*.safetensors*")
    ):
        raise StageError(
            f"the weights of the student of {arm} are not in {student.folder}",
            expected="the checkpoint that the run stored there",
            fix="copy it back from where the run was made, or run the same command again in another folder",
        )
    if not (student.folder / TOKENS_FILE).is_file():
        raise StageError(
            f"{student.folder} has no {TOKENS_FILE}: an older version trained this student, or it writes its own texts",
            expected="the tokens of its rows, as they were trained on",
            fix="train it again in another folder",
        )


def find_start(request: ScoreRequest, student: Student) -> Path:
    """The checkpoint that a training began with: the one that is named, an earlier stage's student, or a role's model.

    Raises:
        StageError: it is in none of these places, or what is named is another one.
    """
    report = json.loads((student.folder / FIT_FILE).read_text("utf-8"))
    start_id = str(report.get("start") or "")
    if request.start:
        path: Path = load_checkpoint(request.start, role="before").weights
        if start_id and _content_id(path) != start_id:
            raise StageError(
                f"{request.start} is another checkpoint than the training of {request.arm} began with "
                f"({_content_id(path)[:12]}, not {start_id[:12]})",
                fix="--before SPEC with the student as it was before",
            )
        return path
    # An earlier stage's student, or a role's model: which of them it was, only its content tells.
    candidates: list[Path] = []
    with Store.open(request.run_folder, create=False, readonly=True) as store:
        candidates += [earlier.folder for earlier in store.students.all()]
    roles: Mapping[str, str] = manifest.read(request.run_folder).settings.get("roles", {})
    for spec in roles.values():
        candidates += local_checkpoints(str(spec))
    for path in candidates:
        if (path / "config.json").is_file() and _content_id(path) == start_id:
            return path
    raise StageError(
        f"the checkpoint that the training of {request.arm} began with is not here ({start_id[:12] or 'unnamed'})",
        expected="the student as it was before, where the run had it",
        fix="--before transformers:PATH",
    )


def local_checkpoints(spec: str) -> list[Path]:
    """Where the checkpoint of a model would lie; nothing of a model that has no weights on this machine."""
    from potstill.models.local.gguf_checkpoint import cached_checkpoint, is_gguf

    kind, _, place = inner_spec(spec).partition(":")
    path = Path(place.partition("?")[0]).expanduser()
    if kind == "world":
        return [CHECKPOINTS / path]
    if kind not in ("transformers", "vllm"):
        return []
    if is_gguf(path):
        return [cached_checkpoint(path)] if path.is_file() else []
    return [path]


def _content_id(path: Path) -> str:
    from potstill.models.local.checkpoint import content_id

    return content_id(path)


class _Scoring(NamedTuple):
    """The rows that are to be scored, where, and how."""

    folder: LogprobsFolder
    tokens_path: Path
    parts: Sequence[RowRange]
    request: ScoreRequest
    progress: Progress


def _score_parts(scoring: _Scoring, moment: Moment, checkpoint: Path) -> None:
    """Score all parts by one model, but for those that an earlier call has scored."""
    missing = [rows for rows in scoring.parts if not scoring.folder.has_part(moment, rows)]
    if not missing:
        return
    from potstill.models.local.transformers import TransformersModel

    request = scoring.request
    # Tokens go in as they are: no template is needed.
    model = TransformersModel(
        checkpoint, device=request.device, threads=request.threads, chat="plain"
    )
    label = f"{request.arm}/score {moment}"
    total = sum(len(rows) for rows in scoring.parts)
    done = total - sum(len(rows) for rows in missing)
    scoring.progress(label, done, total)
    for rows in missing:
        sequences = read_rows(scoring.tokens_path, rows, ["ids"]).column("ids").to_pylist()
        row_scores = []
        # Written part by part, so that a kill costs the rows of one part.
        for ids, tokens in zip(sequences, model.score_tokens(sequences), strict=True):
            row_scores.append(_align(tokens, len(ids)))
        scoring.folder.write_part(moment, rows, row_scores)
        done += len(rows)
        scoring.progress(label, done, total)


def _align(scores: TokenScores, token_count: int) -> RowScores:
    """A value a token: none of the first one, which nothing stands before, and of a row that is too long."""
    if len(scores.logprobs) != token_count - 1:
        return RowScores([None] * token_count, [None] * token_count)
    return RowScores([None, *scores.logprobs], [None, *scores.ranks])


def _summarize(scoring: _Scoring) -> dict[str, Any]:
    """Fields of a `ScoreSummary`: what the file says of the tokens that are learnt."""
    learnt = too_long = rows = 0
    sums = dict.fromkeys(MOMENTS, 0.0)
    firsts = dict.fromkeys(MOMENTS, 0)
    for scores, tokens in scored_tables(scoring.folder.path, scoring.tokens_path):
        for row, weights in zip(scores.to_pylist(), tokens.to_pylist(), strict=True):
            rows += 1
            # Only a row that is longer than a model's context has no score at its last token.
            if row["before"][-1] is None or row["after"][-1] is None:
                too_long += 1
                continue
            places = _learnt_places(weights["run_lengths"], weights["run_weights"])
            learnt += len(places)
            for moment in MOMENTS:
                logprobs, ranks = row[moment], row[f"{moment}_ranks"]
                sums[moment] += sum(logprobs[place] for place in places)
                firsts[moment] += sum(ranks[place] == 0 for place in places)
    summaries: dict[str, Any] = {}
    for moment in MOMENTS:
        count = max(1, learnt)
        summaries[moment] = MomentSummary(sums[moment] / count, firsts[moment] / count)
    return {"rows": rows, "learnt_tokens": learnt, "too_long": too_long} | summaries


def _learnt_places(run_lengths: Sequence[int], run_weights: Sequence[float]) -> list[int]:
    """Where the tokens with a weight stand; the first token of a row has no score, and is never learnt."""
    places: list[int] = []
    start = 0
    # Weights are stored as runs of equal ones.
    for length, weight in zip(run_lengths, run_weights, strict=True):
        if weight > 0:
            places.extend(range(max(start, 1), start + length))
        start += length
    return places
