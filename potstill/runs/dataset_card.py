"""The card of an exported dataset: a README.md as the Hugging Face hub reads it, with nothing in it that is not known.

What comes from models and files is escaped; secrets are taken out; of paths only the last part is shown.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.data.atomic_write import write_text
from potstill.errors import ConfigError
from potstill.escape import visible
from potstill.methods import METHODS
from potstill.methods.catalogue import entry
from potstill.records import Trace, digest
from potstill.runs import manifest
from potstill.store import Store

MARK = "<!-- written by potstill export -->"
UNKNOWN = "unknown: look it up before you publish"
# Licences that were read on the datasets' own pages; everything else is unknown until somebody says it (--licence).
LICENCES: Mapping[str, str] = {
    "hf:openai/gsm8k": "mit",
    "hf:open-thoughts/OpenThoughts-114k": "apache-2.0",
}

_REASONS = 30  # rejects by reason that are shown
_TRACE = re.compile(r"trace-[0-9a-f]{20}")
_TOLD = re.compile(
    r"[\"\u201c`:]|(?<!\w)'|(?<![\w@.])[-+]?\.?\d"
)  # what a reason quotes or counts begins so
_PLACED = re.compile(r"(?:(?:transformers|recorded|scripted):)?(?:~|\.{0,2}/)[^\n]*$")
_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|hf|gsk|xai|ghp|github_pat|AKIA|AIza)[-_]?[A-Za-z0-9_-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a card says; a run without a recipe (an import, a trace file) leaves `method` and `recipe` out."""

    rows: Sequence[Trace]
    layout: str
    file: str
    command: str
    arm: str = ""
    method: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[str, str, int, int]] = ()
    rejects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""


def of_run(store: Store, folder: Path, arm: str, **known: Any) -> Card:
    """The card of an arm's rows, from the run's manifest and its store.

    Args:
        known: rows, layout, file, command and licences (spec -> licence).
    """
    licences = known.pop("licences", {})
    settings = dict(manifest.read(folder).settings)
    imported = settings.get("import", {})
    if imported.get("licence"):
        licences = {imported["file"]: imported["licence"], **licences}
    source = settings.get("problems") or imported.get("file") or ""
    method = settings.get("arms", {}).get(arm, {}).get("method", "")
    wanted = [role.name for role in entry(method).roles] if method in METHODS else []
    roles = {
        role: spec for role, spec in settings.get("roles", {}).items() if role in wanted and spec
    }
    rejects = Counter((d.operator, d.test, kind_of(d.reason)) for d in store.history.drops(arm))
    return Card(
        **known,
        arm=arm,
        method=method,
        roles=roles,
        sources={public(source): licence(source, licences)} if source else {},
        steps=[
            (s.operator, _unplaced(s.label), s.taken, s.returned) for s in store.history.steps(arm)
        ],
        rejects=rejects,
        recipe={} if imported else settings,
        run=digest("manifest", manifest.read(folder)._asdict()),
    )


def kind_of(reason: str) -> str:
    """What reasons that differ in what they quote and count have in common: the text before quotes and numbers."""
    head = _TOLD.split(_TRACE.sub("another trace", reason), maxsplit=1)[0]
    return head.rstrip(" :,;(=<>-") or reason


def of_traces(rows: Sequence[Trace], **known: Any) -> Card:
    """The card of traces that come from no run."""
    licences = known.pop("licences", {})
    sources = dict.fromkeys(trace.problem.source for trace in rows if trace.problem.source)
    return Card(rows, **known, sources={public(spec): licence(spec, licences) for spec in sources})


def licence(spec: str, given: Mapping[str, str]) -> str:
    """The licence of a source as far as it is known: given, known, or beside the file."""
    for name in (spec, public(spec)):
        if name in given:
            return given[name]
    if spec.startswith("world:"):
        return "apache-2.0"
    if spec.startswith("gym:"):
        return _of_package("reasoning-gym")
    if spec.startswith("hf:"):
        name = re.split(r"[:?]", spec[3:])[0]
        return LICENCES.get("hf:" + "/".join(name.split("/")[:2]), UNKNOWN)
    folder = Path(spec).parent
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        if (folder / name).is_file() and Path(spec).is_file():
            first = (
                (folder / name).read_text("utf-8", "replace").strip().split("\n", 1)[0].strip("# ")
            )
            return f"{first[:60]} ({name} beside the file)"
    return UNKNOWN


def _of_package(name: str) -> str:
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN
    told = [found[key] for key in ("License-Expression", "License") if key in found]
    return "".join(told[:1]).strip().split("\n", 1)[0][:60] or UNKNOWN


def render(card: Card) -> str:
    """The card as the text of a README.md."""
    parts = [
        _front(card),
        MARK,
        f"# {_escaped(_title(card))}",
        _opening(card),
        "## How it was made\n\n" + "\n".join(_making(card)),
        "## Sources\n\n"
        + _table(("source", "licence"), list(card.sources.items()) or [("unknown", UNKNOWN)]),
        "## Counts\n\n" + _table(("what", "number"), _counts(card)),
    ]
    if card.steps:
        parts.append(
            "## From problems to rows\n\n" + _table(("step", "by", "taken", "returned"), card.steps)
        )
    if card.rejects:
        parts.append("## Left out\n\n" + _rejects(card))
    parts.append("## To make it again\n\n" + _again(card))
    return "\n\n".join(parts) + "\n"


def check(path: Path) -> None:
    """Refuse to overwrite a README.md that somebody else wrote."""
    if path.exists() and MARK not in path.read_text("utf-8", "replace"):
        raise ConfigError(
            f"{path} is there already, and was not written by potstill export",
            expected="a folder of its own for the dataset",
            fix="--out NEW_FOLDER",
        )


def write(card: Card, path: Path) -> None:
    """Write the card."""
    check(path)
    write_text(path, render(card))


def public(spec: str) -> str:
    """A spec without the folders of whoever ran it."""
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in ("transformers", "recorded", "scripted"):
        return spec if colon and len(kind) > 1 else Path(spec).name
    path, mark, query = rest.partition("?")
    return f"{kind}:{path if path.startswith('hf:') else Path(path).name}{mark}{query}"


def without_secrets(text: str) -> str:
    """A text without what looks like a key, and without the values of variables that are named like one."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAMES.search(name):
            text = text.replace(value, "[secret]")
    return _SECRETS.sub("[secret]", text)


def _front(card: Card) -> str:
    """The YAML in front, as the hub reads it."""
    import yaml

    known = set(card.sources.values())
    one = known.pop() if len(known) == 1 else ""
    plain = one if re.fullmatch(r"[a-z0-9.-]+", one) else "unknown"
    count = len(card.rows)
    size = next((name for most, name in _SIZES if count < most), "n>1T")
    data = {
        "license": plain,
        "task_categories": ["text-generation"],
        "tags": ["potstill", "distillation", "reasoning", *([card.method] if card.method else [])],
        "size_categories": [size],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": card.file}]}
        ],
    }
    return f"---\n{yaml.safe_dump(data, sort_keys=False)}---"


_SIZES = (
    (1000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


def _title(card: Card) -> str:
    made = entry(card.method).title.rstrip(".") if card.method in METHODS else "Recorded answers"
    return f"{card.arm}: {made}" if card.arm and card.arm not in (card.method, "import") else made


def _opening(card: Card) -> str:
    return (
        f"{len(card.rows):,} rows in the layout `{card.layout}`, written by potstill {__version__}. "
        "The texts were written by models; they are verified only as far as the counts below say."
    )


def _making(card: Card) -> list[str]:
    lines = []
    if card.method in METHODS:
        found = entry(card.method)
        paper = (
            f", [arXiv:{found.arxiv}](https://arxiv.org/abs/{found.arxiv})" if found.arxiv else ""
        )
        lines.append(f"- method: `{card.method}` ({_escaped(found.title)}){paper}")
    else:
        lines.append("- method: none; answers that were recorded elsewhere")
    lines += [f"- {role}: {_escaped(public(spec))}" for role, spec in card.roles.items()]
    authors = Counter(trace.author.model for trace in card.rows if trace.author)
    lines += [
        f"- written by {_escaped(author)}: {count:,} rows"
        for author, count in authors.most_common()
    ]
    lines.append(f"- licences and terms of the models: {UNKNOWN}")
    return lines


def _counts(card: Card) -> list[tuple[str, str]]:
    statuses = Counter(trace.verdict.status for trace in card.rows)
    lengths = sorted(len(trace.text) for trace in card.rows)
    recorded = any(trace.operator == "import" for trace in card.rows)
    seen = sum(trace.saw_gold for trace in card.rows)
    found = [
        ("rows", f"{len(card.rows):,}"),
        ("problems", f"{len({trace.problem.id for trace in card.rows}):,}"),
        *((f"judged {status}", f"{count:,}") for status, count in sorted(statuses.items())),
        (
            "cut off at the limit of tokens",
            f"{sum(trace.finish == 'length' for trace in card.rows):,}",
        ),
        ("writer saw the gold answer", "unknown (recorded elsewhere)" if recorded else f"{seen:,}"),
        ("median length in characters", f"{lengths[len(lengths) // 2]:,}" if lengths else "0"),
        ("fingerprint of the rows", fingerprint(card.rows, card.layout)),
    ]
    return [*found, ("fingerprint of the run", card.run)] if card.run else found


def fingerprint(rows: Sequence[Trace], layout: str) -> str:
    """Content id of an export: the rows with their rivals, in order, and the layout."""
    return digest(
        "export", [layout, [[trace.id, trace.rival.id if trace.rival else ""] for trace in rows]]
    )


def _rejects(card: Card) -> str:
    most = Counter(card.rejects).most_common()
    lines = [
        (operator, test, reason, f"{count:,}")
        for (operator, test, reason), count in most[:_REASONS]
    ]
    rest = sum(count for _, count in most[_REASONS:])
    if rest:
        lines.append(("", "", f"{len(most) - _REASONS} more reasons", f"{rest:,}"))
    return _table(("step", "test", "reason", "traces"), lines)


def _again(card: Card) -> str:
    import yaml

    blocks = []
    if card.recipe:
        plain = {
            name: value for name, value in card.recipe.items() if value not in ("", None, {}, [])
        }
        plain["roles"] = {role: public(spec) for role, spec in card.recipe.get("roles", {}).items()}
        plain["problems"] = public(str(card.recipe.get("problems", "")))
        plain.pop("threads", None)
        text = yaml.safe_dump(_clean(plain), sort_keys=False, allow_unicode=False)
        blocks += [
            f"`recipe.yaml`:\n\n{_fenced(text, 'yaml')}",
            _fenced("potstill run recipe.yaml --out run\n", "sh"),
        ]
    return "\n\n".join([*blocks, _fenced(card.command + "\n", "sh")])


def _fenced(text: str, language: str) -> str:
    """A code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(without_secrets(text))}{fence}"


def _clean(value: Any) -> Any:
    """Plain data without secrets, before YAML breaks them over lines."""
    if isinstance(value, Mapping):
        return {without_secrets(str(name)): _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return _unplaced(without_secrets(value)) if isinstance(value, str) else value


def _unplaced(text: str) -> str:
    """A text, or if it is the path of a file on this machine, the file's name."""
    return public(text) if _PLACED.match(text) else text


def _table(names: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    told = [
        names,
        ["---"] * len(names),
        *([_escaped(str(cell)) for cell in line] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in told)


def _escaped(text: str, most: int = 300) -> str:
    """Text of models and files as one line that is no markup: no links, images, HTML, tables or hidden characters."""
    flat = " ".join(
        visible(without_secrets(text)[:most]).split()
    )  # secrets first: escaped, they would not be found
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~$])", r"\\\1", flat).replace("://", ":&#47;&#47;")
