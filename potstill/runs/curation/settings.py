"""What a curation does, and what of it decides its result."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.extras import require_extra
from potstill.records import digest
from potstill.runs.export import LAYOUTS
from potstill.traces import minhash
from potstill.traces.metadata import where
from potstill.traces.near_duplicates import compared_text
from potstill.traces.overlap import NGRAM as OVERLAP_NGRAM

TRACES = "traces"  # the layout of a trace file
OUTPUT_LAYOUTS = (TRACES, *LAYOUTS)


@dataclass(frozen=True, slots=True)
class CurationSettings:
    """What a curation does with its rows, in the order of the fields.

    Args:
        inputs: files of rows, or hf:NAME, in any layout that docs/data.md names.
        mapping: field -> column, where the choice is not to be made.
        kind: the verifier; "" guesses it for each input.
        limit: rows of each input at most; 0 is all.
        verify: whether answers that have a gold answer are judged.
        answers_in_thoughts: whether an answer inside a thought counts.
        keep: "right" drops what is judged wrong, and what was not judged and is labelled wrong.
        where: conditions on the problem's metadata.
        finished: drop completions that did not end by themselves.
        near_duplicates: threshold of the Jaccard index; 0 looks for none.
        compared: which text: "row", "text" or "question".
        ngram: words in a row of near-duplicates.
        same_numbers: whether near-duplicates must have the same numbers.
        decontaminate: evaluation problems: files, hf:NAME, gym:TASK, world:TASK.
        overlap_ngram: words in a row that make an overlap with one; 0 compares whole questions.
        overlap_in_texts: whether evaluation questions are looked for in the completions too.
        shares: input -> its share of the rows, in any unit.
        rows: rows at most in the end; 0 is all that the shares allow.
        shuffle: whether the rows come in the order of a hash of seed and id, as `mix` has it.
        seed: of that hash.
        layout: of the output: "traces", or one of `potstill export`.
    """

    inputs: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    limit: int = 0
    verify: bool = False
    answers_in_thoughts: bool = False
    keep: str = "all"
    where: tuple[str, ...] = ()
    finished: bool = False
    near_duplicates: float = 0.0
    compared: str = "row"
    ngram: int = minhash.NGRAM
    same_numbers: bool = False
    decontaminate: tuple[str, ...] = ()
    overlap_ngram: int = OVERLAP_NGRAM
    overlap_in_texts: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    shuffle: bool = False
    seed: int = 0
    layout: str = TRACES

    def __post_init__(self) -> None:
        """Refuse what can't be done, before anything is read."""
        if not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise ConfigError(
                f"{len(self.inputs)} inputs, {len(set(self.inputs))} of them different",
                expected="files of rows, each once",
            )
        if self.kind and self.kind not in verifiers.KINDS:
            verifiers.version(self.kind)  # of an installed package, or refused
        if self.keep not in ("all", "right"):
            raise ConfigError(f"keep is {self.keep!r}", available=("all", "right"))
        if self.layout not in OUTPUT_LAYOUTS:
            raise ConfigError(
                f"no layout is called {self.layout!r}", available=OUTPUT_LAYOUTS, wanted=self.layout
            )
        for condition in self.where:
            where(condition)
        if self.near_duplicates:
            require_extra("curate", "finding near-duplicates")
            minhash.choose_banding(self.near_duplicates)
            compared_text(self.compared)
        self._check_shares()

    def _check_shares(self) -> None:
        for name, share in self.shares.items():
            if name not in self.inputs:
                raise ConfigError(
                    f"a share of {name!r}, which is no input", available=self.inputs, wanted=name
                )
            if not share > 0:
                raise ConfigError(f"the share of {name} is {share:g}", expected="a number above 0")
        # Half a mix would be a guess: the others could mean "all" or "none".
        without_share = [name for name in self.inputs if name not in self.shares]
        if self.shares and without_share:
            raise ConfigError(
                f"{without_share[0]} has no share in the mix",
                expected="a share for each input, or for none",
                fix=f"--mix {without_share[0]}=1",
            )

    @property
    def banding(self) -> minhash.Banding:
        """Of the near-duplicates."""
        return minhash.choose_banding(self.near_duplicates)

    def fingerprint(self) -> str:
        """A digest of all that decides the result: the settings, the inputs as they lie there, the verifier."""
        # Another version of a verifier may judge otherwise; of a guessed kind the version stands in each verdict.
        judged_by = verifiers.version(self.kind) if self.verify and self.kind else ""
        files = []
        for spec in (*self.inputs, *self.decontaminate):
            files.append([spec, *_file_state(spec)])
        return digest("curation", [asdict(self), judged_by, files])

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values, for the report."""
        return asdict(self)


def _file_state(spec: str) -> list[list[int]]:
    """Sizes and times of the local files that an input names, by which changed ones are known."""
    # Without a state (hf:NAME, a URL) the name alone counts.
    path = Path(spec).expanduser()
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if path.is_dir():
        files = sorted(path.iterdir())
    states: list[list[int]] = []
    for file in files or [path]:
        if file.is_file():
            status = file.stat()
            states.append([status.st_size, status.st_mtime_ns])
    return states
