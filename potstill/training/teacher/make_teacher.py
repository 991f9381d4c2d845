"""The teachers that are asked for rows before their loss is computed, as a config names them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from potstill.records import Trace
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.teacher.cached_logits import load_teacher
from potstill.training.teacher.panel import LoadedInTurn, PanelMember, TeacherPanel
from potstill.training.teacher.prompts import teacher_traces
from potstill.training.teacher.remote import RemoteTeacher, ServedTeacher
from potstill.training.teacher.row_teachers import RowTeachers
from potstill.training.teacher.token_teacher import count_ids, make_token_teacher
from potstill.training.teacher.tokenizer_check import check_served_tokens


def make_served_teacher(
    traces: Sequence[Trace],
    template: ChatTemplate,
    config: ObjectiveConfig,
    start: Path,
    row_teachers: RowTeachers | None,
) -> ServedTeacher | None:
    """The teacher that is asked by tokens or by text; None where it is weights at hand, or none at all.

    Args:
        traces: the stage's rows.
        template: of the student.
        start: the student's checkpoint.
        row_teachers: whose rows are whose, of several teachers.
    """
    if config.teachers:
        if not config.asks_tokens:
            return None
        assert row_teachers is not None
        members = {name: _panel_member(name, template, config, start) for name in config.teachers}
        return TeacherPanel(members, row_teachers)
    if not config.is_teacher_served:
        return None
    if config.asks_tokens:
        check_served_tokens(start, template, config.teacher)
        return make_token_teacher(config, template, config.teacher)
    assert not isinstance(config.teacher, str | Path | None)
    read_traces = teacher_traces(traces, config.teacher_prompt_template)
    return RemoteTeacher(config.teacher, read_traces, template)


def _panel_member(
    name: str, template: ChatTemplate, config: ObjectiveConfig, start: Path
) -> PanelMember:
    """One of several teachers: on a server, or a checkpoint that is loaded when its rows come."""
    model = config.teachers[name]
    if not isinstance(model, str | Path):
        check_served_tokens(start, template, model)
        return make_token_teacher(config, template, model)
    return LoadedInTurn(
        partial(load_teacher, Path(model), "auto"),
        top_k=max(1, config.loss_top_k),
        token_count=count_ids(template),
        temperature=float(config.constants.get("temperature", 1.0)),
        stays_loaded=config.writes_rows,
    )
