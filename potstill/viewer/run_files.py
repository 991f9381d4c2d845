"""The page Files: a closed list of what a run holds, by names; nothing else can be downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from potstill.runs import manifest
from potstill.runs.folder_layout import BUDGET_FILE, RESULTS_FILE, UNFINISHED_FILE
from potstill.runs.row_logprobs import LOGPROBS_FILE
from potstill.runs.run_log import FILE as LOG_FILE
from potstill.training.rollout_log import ROLLOUTS_FILE
from potstill.training.settings import FIT_FILE, TOKENS_FILE
from potstill.training.step_log import STEPS_FILE
from potstill.viewer.notes import NOTES_FILE
from potstill.viewer.token_page import STUDENTS_FOLDER

# In the run folder, with what each holds.
RUN_FILES = {
    "report.html": "the report, one page",
    RESULTS_FILE: "everything that was measured",
    UNFINISHED_FILE: "the same of a run that has not come to its end",
    manifest.FILE: "what made the run: versions and settings",
    manifest.MARK: "the mark that the run came to its end",
    BUDGET_FILE: "what the run may spend",
    LOG_FILE: "what the run announced, with times",
    NOTES_FILE: "notes on traces",
}
STUDENT_FILES = {
    FIT_FILE: "what the training did",
    STEPS_FILE: "what was measured at each step",
    ROLLOUTS_FILE: "what the student wrote when it was evaluated in its training",
    TOKENS_FILE: "the tokens of each row, and their weights",
    LOGPROBS_FILE: "how likely each of these tokens was before the training, and is after it",
    "README.md": "the card of the student",
}
CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".md": "text/plain",
    # Of a run, and so of nobody's: a browser must not run it as ours.
    ".html": "application/octet-stream",
}


class RunFile(NamedTuple):
    """A file that can be downloaded."""

    name: str
    path: Path
    label: str

    @property
    def content_type(self) -> str:
        """What it is sent as."""
        return CONTENT_TYPES.get(self.path.suffix, "application/octet-stream")

    def to_json(self) -> dict[str, Any]:
        """As the pages read it."""
        status = self.path.stat()
        return {
            "name": self.name,
            "label": self.label,
            "size": status.st_size,
            "type": self.content_type,
            "changed": status.st_mtime,
        }


def list_files(folder: Path) -> dict[str, RunFile]:
    """The files of a run by name."""
    files: dict[str, RunFile] = {}

    def add(name: str, label: str) -> None:
        path = folder / name
        # A link could lead anywhere.
        if path.is_file() and not path.is_symlink():
            files[name] = RunFile(name, path, label)

    # First the run's own, then its arms', then its students'.
    for name, label in RUN_FILES.items():
        add(name, label)
    for kind, label in (
        ("rows", "the rows that an arm trained on"),
        ("traces", "the traces of an arm"),
    ):
        for suffix in ("jsonl", "parquet"):
            for path in sorted((folder / kind).glob(f"*.{suffix}")):
                add(path.relative_to(folder).as_posix(), label)
    for student in sorted((folder / STUDENTS_FOLDER).glob("student-*")):
        for name, label in STUDENT_FILES.items():
            add(f"{STUDENTS_FOLDER}/{student.name}/{name}", label)
    return files
