"""The fingerprint of a study: everything that could change its figures."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.records import digest
from potstill.runs.dataset_card import public_spec
from potstill.runs.sources import load_model
from potstill.studies.study import StudySettings

# Parts of the package that print and draw figures, and make none.
DISPLAY = ("cli", "report")
LIBRARIES = ("torch", "transformers", "tokenizers", "math-verify")


def study_fingerprint(name: str, settings: StudySettings) -> dict[str, Any]:
    """Seeds, sizes, models with the ids of their content, the program's sources, and the libraries' versions.

    Returns:
        The components by name, and under "id" a digest of all of them.
    """
    components: dict[str, Any] = {
        "study": name,
        "seeds": settings.seeds,
        "sizes": dict(settings.sizes),
        "models": model_ids(settings.roles),
        "sources": sources_digest(Path(__file__).parents[1]),
        "versions": library_versions(),
    }
    return {"id": digest("study", components), **components}


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
