"""The run folders that studies are made of: reading them, and bringing the work of one to the next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from potstill.evaluation.results import Results
from potstill.runs import manifest
from potstill.runs.folder_layout import RESULTS_FILE, UNFINISHED_FILE
from potstill.runs.run_journal import load_results
from potstill.store.admin.transfer import export_completions, import_completions
from potstill.store.store import Store
from potstill.training.settings import FIT_FILE


def read_results(folder: Path) -> Results | None:
    """The results of a run folder, finished or not; None where it was not begun."""
    if not any((folder / name).exists() for name in (RESULTS_FILE, UNFINISHED_FILE)):
        return None
    return load_results(folder)


def share_work(sources: Sequence[Path], target: Path) -> None:
    """Bring what runs of other folders were answered, and the students that they trained, into a new run folder.

    Requests and trainings are known by their content: the new run finds what it would ask or train anew, and counts it
    as its own need. Students are linked, not copied.
    """
    if (target / manifest.FILE).exists():
        return
    # Without a manifest nothing was begun here; a kill before it is written leaves a store that is filled once more.
    with TemporaryDirectory() as temporary, Store.open(target) as store:
        export = Path(temporary) / "completions.jsonl"
        for source in sources:
            if not (source / manifest.FILE).exists():
                continue
            with Store.open(source, readonly=True) as source_store:
                export_completions(source_store, export)
            import_completions(store, export)
    for source in sources:
        for student in sorted((source / "students").glob("*")):
            folder = target / "students" / student.name
            if (student / FIT_FILE).exists() and not folder.exists():
                link_folder(student, folder)


def link_folder(source: Path, target: Path) -> None:
    """Link every file of a folder into another one, which is there whole or not at all."""
    # A kill between two links leaves a draft, which the next attempt takes away.
    draft = target.with_name(f"{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, copy_function=os.link)
    draft.rename(target)
