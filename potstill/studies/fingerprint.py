"""The fingerprint of a study: everything that could change its figures."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.records import digest
from potstill.runs.dataset_card import public_spec
from potstill.runs.sources import load_model
from potstill.studies.study import StudySettings, write_json

# Parts of the package that print and draw figures, and make none.
DISPLAY = ("cli", "report")
PACKAGE = Path(__file__).parents[1]
HISTORY_FILE = "history.json"  # what a folder was worked on with
LIBRARIES = ("torch", "transformers", "tokenizers", "math-verify")


def study_fingerprint(name: str, settings: StudySettings) -> dict[str, Any]:
    """Seeds, sizes, models with the ids of their content, the program's sources, and the libraries' versions.

    A folder that was begun with other sources keeps what they made: the fingerprint has the digests of all of them.

    Returns:
        The components by name, and under "id" a digest of all of them.
    """
    components: dict[str, Any] = {
        "study": name,
        "seeds": settings.seeds,
        "sizes": dict(settings.sizes),
        "models": model_ids(settings.roles),
        "sources": note_version(settings.out, "sources", sources_digest(PACKAGE)),
        "versions": note_version(settings.out, "versions", library_versions()),
    }
    return {"id": digest("study", components), **components}


def note_version(out: Path, name: str, version: Any) -> Any:
    """Add a version to those that a folder was worked on with.

    Returns:
        The version where it is the only one, else the list of all, the first one first.
    """
    file = out / HISTORY_FILE
    history: dict[str, list[Any]] = {}
    if file.exists():
        history = json.loads(file.read_text("utf-8"))
    versions = history.setdefault(name, [])
    if version not in versions:
        versions.append(version)
        write_json(file, history)
    return versions[0] if len(versions) == 1 else versions


def model_ids(roles: Mapping[str, str]) -> dict[str, str]:
    """Each role's spec with the id of its model, which for a checkpoint is a digest of its weights."""
    ids: dict[str, str] = {}
    for role, spec in roles.items():
        ids[role] = f"{public_spec(spec)} ({load_model(spec).id})"
    return ids


def sources_digest(package: Path) -> str:
    """A digest of every Python file that can change a figure."""
    sha256 = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        # Names count too: a file that is moved is imported otherwise.
        if relative.parts[0] not in DISPLAY:
            sha256.update(f"{relative.as_posix()}\0".encode())
            sha256.update(path.read_bytes())
    return sha256.hexdigest()[:20]


def library_versions() -> dict[str, str]:
    """The versions of Python, of the program, and of the libraries that compute figures and are installed."""
    versions = {"python": platform.python_version(), "potstill": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions
