"""Trained students under the id of the stage that made them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.records import canonical
from potstill.store.database import Database


class Student(NamedTuple):
    """A trained model: the stage that made it, its own id, the checkpoint's folder, settings, the training's report."""

    stage: str
    model: str
    folder: Path
    settings: Mapping[str, Any]
    report: Mapping[str, Any]


@final
class Students:
    """The table stage -> student; write into it when the weights lie safely on disk, and not before."""

    def __init__(self, database: Database, folder: Path) -> None:
        """Use this connection; checkpoints inside `folder` are kept relative to it, so it can move."""
        self._database, self._folder = database, folder.resolve()

    def get(self, stage: str) -> Student | None:
        """The student of a stage; its folder may have been pruned since."""
        return next(iter(self._read("WHERE stage = ?", stage)), None)

    def all(self) -> list[Student]:
        """Every student, oldest first."""
        return self._read("")

    def put(self, student: Student) -> None:
        """Keep a student; one trained again takes the place of the old one."""
        folder = student.folder.resolve()
        kept = folder.relative_to(self._folder) if folder.is_relative_to(self._folder) else folder
        texts = (canonical(student.settings), canonical(student.report))
        row = (student.stage, student.model, str(kept), *texts, time.time())
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO students VALUES (?, ?, ?, ?, ?, ?)", row)

    def _read(self, where: str, *args: str) -> list[Student]:
        sql = f"SELECT stage, model, folder, settings, report FROM students {where} ORDER BY created, rowid"
        return [
            Student(stage, model, self._folder / folder, json.loads(settings), json.loads(report))
            for stage, model, folder, settings, report in self._database.read(sql, args)
        ]
