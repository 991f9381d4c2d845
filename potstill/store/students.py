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
        self._database, self._run_folder = database, folder.resolve()

    def get(self, stage: str) -> Student | None:
        """The student of a stage; its folder may have been pruned since."""
        students = self._read_students("WHERE stage = ?", stage)
        return students[0] if students else None

    def all(self) -> list[Student]:
        """Every student, oldest first."""
        return self._read_students("")

    def put(self, student: Student) -> None:
        """Store a student; one trained again takes the place of the old one."""
        folder = student.folder.resolve()
        # Relative to the run folder, which may be moved or copied with its students.
        if folder.is_relative_to(self._run_folder):
            folder = folder.relative_to(self._run_folder)
        row = (
            student.stage,
            student.model,
            str(folder),
            canonical(student.settings),
            canonical(student.report),
            time.time(),
        )
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO students VALUES (?, ?, ?, ?, ?, ?)", row)

    def _read_students(self, where: str, *args: str) -> list[Student]:
        sql = f"SELECT stage, model, folder, settings, report FROM students {where} ORDER BY created, rowid"
        students = []
        for stage, model, folder, settings, report in self._database.read(sql, args):
            students.append(
                Student(
                    stage=stage,
                    model=model,
                    folder=self._run_folder / folder,  # an absolute folder stays as it is
                    settings=json.loads(settings),
                    report=json.loads(report),
                )
            )
        return students
