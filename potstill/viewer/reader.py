"""One run folder, open for reading: its store, its index, its results, and a name for what is there now.

Beside a writer a connection lasts as long as one request: SQLite can fold its log into the store at the writer's end
only where nobody else has the file open. Where nobody writes, each thread keeps its connection until the files change.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.errors import StoreError
from potstill.evaluation import results as results_file
from potstill.evaluation.results import Results
from potstill.runs import manifest
from potstill.runs.folder_layout import BUDGET_FILE, RESULTS_FILE, UNFINISHED_FILE
from potstill.runs.row_logprobs import LOGPROBS_FILE
from potstill.store import database, lock
from potstill.store.history import DropCount
from potstill.store.store import Store
from potstill.training.rollout_log import ROLLOUTS_FILE
from potstill.viewer.index.index_file import IndexFile
from potstill.viewer.notes import NOTES_FILE
from potstill.viewer.run_folders import RunFolder

PROGRESS_FILE = "progress.json"
MAX_DOCUMENTS = 16  # that are remembered


class FileStamp(NamedTuple):
    """What tells whether a file was changed or replaced; zeros where it is not there."""

    inode: int = 0
    size: int = 0
    changed: int = 0


def stamp_of(path: Path) -> FileStamp:
    """The stamp of a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return FileStamp()
    return FileStamp(status.st_ino, status.st_size, status.st_mtime_ns)


class ArmDrops(NamedTuple):
    """What an arm dropped, counted in two ways."""

    by_test: Sequence[DropCount]
    by_reason: Sequence[DropCount]


@final
class RunReader:
    """Reads one run; several threads may use it at once.

    Args:
        run: the folder and its name.
        index_folder: where the index lies.
        notes: the notes file, where it is not the run's own.
    """

    def __init__(self, run: RunFolder, index_folder: Path, notes: Path | None = None) -> None:
        self.run, self.folder = run, run.path
        self.notes_path = notes or run.path / NOTES_FILE
        self.index = IndexFile(run.path, index_folder)
        self._of_thread = threading.local()
        self._results_lock = threading.Lock()
        self._documents_lock = threading.Lock()
        self.finished_drops: dict[tuple[str, int], ArmDrops] = {}  # by arm and its generation
        self._documents: dict[str, tuple[str, dict[str, Any]]] = {}
        self._results: tuple[tuple[FileStamp, ...], Results] | None = None

    @property
    def has_store(self) -> bool:
        """Whether there is a store; a folder of results alone has none."""
        return (self.folder / database.FILE).is_file()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store with the index attached as `view`, for one request, which sees both as they are at its beginning.

        Raises:
            StoreError: there is no store, or it can't be read; the error says what mends it.
        """
        # Without a writer the files stay as they are, also a killed one's with its log, which would be read again at
        # every opening: the connection may be kept.
        stamps = self._store_stamps()
        opened: tuple[tuple[FileStamp, ...], Store] | None
        opened = getattr(self._of_thread, "store", None)
        if lock.has_writer(self.folder / lock.FILE):
            if opened is not None:
                opened[1].close()
                self._of_thread.store = None
            with self.open_store() as store, store.database.snapshot():
                yield store
            return
        if opened is None or opened[0] != stamps:
            if opened is not None:
                opened[1].close()
            opened = (stamps, self.open_store())
            self._of_thread.store = opened
        with opened[1].database.snapshot():
            yield opened[1]

    def open_store(self) -> Store:
        """A connection of the caller's own, which it closes, for what takes longer than a request."""
        store = Store.open(self.folder, create=False, readonly=True)
        try:
            self.index.attach(store.database)
            store.database.read("PRAGMA temp_store = MEMORY")
        except BaseException:
            store.close()
            raise
        return store

    def _store_stamps(self) -> tuple[FileStamp, ...]:
        path = self.folder / database.FILE
        index = FileStamp(stamp_of(self.index.path).inode)
        return stamp_of(path), stamp_of(path.with_name(f"{path.name}-wal")), index

    def manifest(self) -> manifest.Manifest | None:
        """What made the run; None where nothing says so, as of an imported store."""
        try:
            return manifest.read(self.folder)
        except StoreError:
            if (self.folder / manifest.FILE).exists():
                raise
            return None

    def saved_results(self) -> Results:
        """The results as the run last wrote them; of a run that has written none, its manifest's settings alone.

        They are parsed again only where a file has changed.
        """
        unfinished, finished = self.folder / UNFINISHED_FILE, self.folder / RESULTS_FILE
        stamps = (stamp_of(unfinished), stamp_of(finished))
        with self._results_lock:
            if self._results is None or self._results[0] != stamps:
                self._results = (stamps, self._load_results(unfinished, finished))
            return self._results[1]

    def _load_results(self, unfinished: Path, finished: Path) -> Results:
        # While there are unfinished results the finished ones are of an earlier run.
        for path in (unfinished, finished):
            if path.exists():
                return results_file.load(path)
        made_by = self.manifest()
        settings = made_by.settings if made_by is not None else {}
        return Results(
            title=str(settings.get("title") or self.run.name),
            seed=int(settings.get("seed") or 0),
            note="",
            recipe=settings,
            ending=results_file.Ending("running"),
        )

    def has_results(self) -> bool:
        """Whether the run came to its results."""
        return (self.folder / RESULTS_FILE).exists() and not (
            self.folder / UNFINISHED_FILE
        ).exists()

    def remember(self, name: str, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A document that is made anew only where something of the run has changed.

        Args:
            name: of the document.
            describe: makes it.
        """
        # One at a time: a page asks for the same document in several places at once.
        with self._documents_lock:
            generation = self.generation()
            remembered = self._documents.get(name)
            if remembered is None or remembered[0] != generation:
                remembered = (generation, describe())
                if len(self._documents) > MAX_DOCUMENTS:
                    self._documents.clear()
                self._documents[name] = remembered
        return dict(remembered[1])

    def generation(self) -> str:
        """A name for what is shown now: another one whenever a file of the run, its notes or the index has changed."""
        # Stamps, not contents: this is asked for with every request and while a page waits for changes.
        parts = [str(self.index.progress_mark())]
        for path in self._shown_files():
            parts.append(str(stamp_of(path)))
        return "g-" + hashlib.sha256("\n".join(parts).encode("ascii")).hexdigest()[:16]

    def _shown_files(self) -> list[Path]:
        names = [database.FILE, f"{database.FILE}-wal", RESULTS_FILE, UNFINISHED_FILE]
        names += [manifest.FILE, manifest.MARK, PROGRESS_FILE, BUDGET_FILE]
        files = [self.folder / name for name in names]
        # A training writes its steps as they come.
        students = self.folder / "students"
        if students.is_dir():
            for student in sorted(students.iterdir()):
                files += [student / "steps.jsonl", student / "training" / "steps.jsonl"]
                files += [student / ROLLOUTS_FILE, student / "training" / ROLLOUTS_FILE]
                files.append(student / LOGPROBS_FILE)  # a run may be scored while it is looked at
        return [*files, self.notes_path]
