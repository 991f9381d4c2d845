"""The card of an exported dataset: a README.md as the Hugging Face hub reads it, with nothing in it that is not known.

What comes from models and files is escaped; secrets are taken out; of paths only the last part is shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.data import uploads
from potstill.data.hub import is_dataset
from potstill.data.learner_prompt import list_templates
from potstill.data.urls import Location, Url, is_url
from potstill.errors import ConfigError
from potstill.escape import visible
from potstill.methods import METHODS
from potstill.methods.catalogue import method_entry, short_name
from potstill.methods.role_annotations import role_of
from potstill.models.phase import split_account
from potstill.models.ray_spec import PREFIX, is_ray_spec
from potstill.plugins import is_object_path
from potstill.records import Trace, digest
from potstill.runs import manifest
from potstill.secrets import redact_environment, redact_secrets
from potstill.store import Store

MARK = "<!-- written by potstill export -->"
UNKNOWN = "unknown: look it up before you publish"
# Licences that were read on the datasets' own pages; everything else is unknown until somebody says it (--licence).
LICENCES: Mapping[str, str] = {
    "hf:openai/gsm8k": "mit",
    "hf:open-thoughts/OpenThoughts-114k": "apache-2.0",
}

SHOWN_REASONS = 30  # reasons of rejects that are shown
MAX_CELL_CHARS = 300

_TRACE_ID = re.compile(r"trace-[0-9a-f]{20}")
# Where a reason begins to quote or to count.
_QUOTE_OR_NUMBER = re.compile(r"[\"\u201c`:]|(?<!\w)'|(?<![\w@.])[-+]?\.?\d")
# A path of this machine, with or without the kind of a model before it.
_LOCAL_PATH = re.compile(r"(?:[A-Za-z_][\w-]+:)?(?:~|\.{0,2}/)[^\n]*$")
# The hub's names for sizes, each with the first count that is too large for it.
_SIZES = (
    (1000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a card says; a run without a recipe (an import, a trace file) leaves `method` and `recipe` out.

    `roles` are specs and `models` ids, by role; a role that was never asked has no id here.
    """

    rows: Sequence[Trace]
    layout: str
    file: str
    command: str
    arm: str = ""
    stage: str = ""
    method: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[str, str, int, int]] = ()
    rejects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""


def card_of_run(store: Store, folder: Path, arm: str, *, stage: str = "", **parts: Any) -> Card:
    """The card of an arm's rows, from the run's manifest and its store.

    Args:
        store: of the run.
        folder: of the run.
        arm: whose rows are exported.
        stage: of the arm, where it has several.
        parts: rows, layout, file, command and licences (spec -> licence).
    """
    licences = parts.pop("licences", {})
    run_manifest = manifest.read(folder)
    settings = dict(run_manifest.settings)
    # An import has no recipe: its manifest names the file and, where it was told, the licence.
    imported = settings.get("import", {})
    if imported.get("licence"):
        licences = {imported["file"]: imported["licence"], **licences}
    source = settings.get("problems") or imported.get("file") or ""
    sources = {public_spec(source): find_licence(source, licences)} if source else {}

    method = settings.get("arms", {}).get(arm, {}).get("method", "")
    # A method of a file or another package is not loaded for its card: every role of the run is named.
    method_roles = {role_of(role) for role in settings.get("roles", {}) if method}
    if method in METHODS:
        method_roles = {role.name for role in method_entry(method).roles}
    roles: dict[str, str] = {}
    for role, spec in settings.get("roles", {}).items():
        if spec and role_of(role) in method_roles:
            roles[role] = spec

    steps: list[tuple[str, str, int, int]] = []
    for step in store.history.steps(arm):
        label = without_local_path(step.label)
        steps.append((step.operator, label, step.taken, step.returned))
    rejects: Counter[tuple[str, str, str]] = Counter()
    for drop in store.history.drops(arm):
        rejects[drop.operator, drop.test, reason_kind(drop.reason)] += 1
    return Card(
        **parts,
        arm=arm,
        stage=stage,
        method=method,
        roles=roles,
        models=ids_of_roles(store, roles),
        sources=sources,
        steps=steps,
        rejects=rejects,
        recipe={} if imported else settings,
        run=digest("manifest", run_manifest._asdict()),
    )


def ids_of_roles(store: Store, roles: Iterable[str]) -> dict[str, str]:
    """The id of the model in each role, where it was asked; of a student, of the one that training began from."""
    ids: dict[str, str] = {}
    for account, model in store.completions.first_models().items():
        role, _ = split_account(account)
        if role in roles:
            ids.setdefault(role, model)
    return ids


def card_of_traces(rows: Sequence[Trace], **parts: Any) -> Card:
    """The card of traces that come from no run; `parts` as in `card_of_run`."""
    licences = parts.pop("licences", {})
    sources: dict[str, str] = {}
    for trace in rows:
        spec = trace.problem.source
        if spec and public_spec(spec) not in sources:
            sources[public_spec(spec)] = find_licence(spec, licences)
    return Card(rows, **parts, sources=sources)


def reason_kind(reason: str) -> str:
    """What reasons that differ in what they quote and count have in common: the text before quotes and numbers."""
    reason_without_ids = _TRACE_ID.sub("another trace", reason)
    kind = _QUOTE_OR_NUMBER.split(reason_without_ids, maxsplit=1)[0]
    return kind.rstrip(" :,;(=<>-") or reason


def find_licence(spec: str, licences: Mapping[str, str]) -> str:
    """The licence of a source as far as it is known: named by the user, known here, or in a file beside the source."""
    for name in (spec, public_spec(spec)):
        if name in licences:
            return licences[name]
    if spec.startswith("world:"):
        return "apache-2.0"
    if spec.startswith("gym:"):
        return package_licence("reasoning-gym")
    if is_dataset(spec):
        owner_and_name = re.split(r"[:?]", spec[3:])[0].split("/")[:2]
        return LICENCES.get("hf:" + "/".join(owner_and_name), UNKNOWN)
    if is_url(spec) or not Path(spec).is_file():
        return UNKNOWN
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        file = Path(spec).parent / name
        if file.is_file():
            title = file.read_text("utf-8", "replace").strip().split("\n", 1)[0].strip("# ")
            return f"{title[:60]} ({name} beside the file)"
    return UNKNOWN


def package_licence(name: str) -> str:
    """The licence that an installed package names."""
    try:
        package = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN
    for key in ("License-Expression", "License"):
        if key in package:
            return package[key].strip().split("\n", 1)[0][:60] or UNKNOWN
    return UNKNOWN


def render_card(card: Card) -> str:
    """The card as the text of a README.md."""
    sources = list(card.sources.items()) or [("unknown", UNKNOWN)]
    parts = [
        front_matter(card),
        MARK,
        f"# {escape_markdown(card_title(card))}",
        opening_sentence(card),
        "## How it was made\n\n" + "\n".join(list_authors(card)),
        "## What the learner sees\n\n" + list_prompts(card),
        "## Sources\n\n" + markdown_table(("source", "licence"), sources),
        "## Counts\n\n" + markdown_table(("what", "number"), count_rows(card)),
    ]
    if card.steps:
        steps = markdown_table(("step", "by", "taken", "returned"), card.steps)
        parts.append("## From problems to rows\n\n" + steps)
    if card.rejects:
        parts.append("## Left out\n\n" + rejects_table(card))
    parts.append("## To make it again\n\n" + commands_to_repeat(card))
    return "\n\n".join(parts) + "\n"


def check_can_write(path: Location) -> None:
    """Refuse to overwrite a README.md that somebody else wrote."""
    if path.is_file() and MARK not in path.read_bytes().decode("utf-8", "replace"):
        raise ConfigError(
            f"{path} is there already, and was not written by potstill export",
            expected="a folder of its own for the dataset",
            fix="--out NEW_FOLDER",
        )


def write_card(card: Card, path: Location) -> None:
    """Write the card."""
    check_can_write(path)
    uploads.write_bytes(path, render_card(card).encode("utf-8"))


def public_spec(spec: str) -> str:
    """A spec, of a model, a source or a method, without the folders of whoever ran it."""
    if is_ray_spec(spec):
        return PREFIX + public_spec(spec.removeprefix(PREFIX))
    if is_object_path(spec):
        file, _, method = spec.rpartition(":")
        return f"{Path(file).name}:{method}"
    if is_url(spec):
        # A path on the hub is public, a bucket is not.
        return spec if spec.startswith("hf://") else Url(spec).name
    kind, colon, location = spec.partition(":")
    if not colon or len(kind) == 1:
        return Path(spec).name
    path, mark, query = location.partition("?")
    is_local = kind in ("transformers", "vllm", "recorded", "scripted") or _LOCAL_PATH.match(path)
    name = Path(path).name if is_local and not path.startswith("hf:") else path
    return f"{kind}:{name}{mark}{query}"


def without_secrets(text: str) -> str:
    """A text without what looks like a key, and without the values of variables that are named like one."""
    return redact_secrets(redact_environment(text))


def front_matter(card: Card) -> str:
    """The YAML in front, as the hub reads it."""
    import yaml

    licences = set(card.sources.values())
    licence = licences.pop() if len(licences) == 1 else ""
    # The hub takes identifiers; a licence's title or several licences are "unknown" to it.
    is_identifier = re.fullmatch(r"[a-z0-9.-]+", licence) is not None
    tags = ["potstill", "distillation", "reasoning"]
    if card.method:
        tags.append(short_name(card.method))
    data = {
        "license": licence if is_identifier else "unknown",
        "task_categories": ["text-generation"],
        "tags": tags,
        "size_categories": [size_category(len(card.rows))],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": card.file}]}
        ],
    }
    return f"---\n{yaml.safe_dump(data, sort_keys=False)}---"


def size_category(count: int) -> str:
    """The hub's name for a number of rows."""
    for limit, name in _SIZES:
        if count < limit:
            return name
    return "n>1T"


def card_title(card: Card) -> str:
    """What the dataset is: the method's title, after the arm's name where that says more."""
    title = "Recorded answers"
    if card.method in METHODS:
        title = method_entry(card.method).title.rstrip(".")
    elif card.method:
        title = f"rows of the method {short_name(card.method)}"
    if card.arm and card.arm not in (card.method, "import"):
        return f"{card.arm}: {title}"
    return title


def opening_sentence(card: Card) -> str:
    """How many rows there are, in which layout, and what is not claimed of them."""
    return (
        f"{len(card.rows):,} rows in the layout `{card.layout}`, written by potstill {__version__}. "
        "The texts were written by models; they are verified only as far as the counts below say."
    )


def list_authors(card: Card) -> list[str]:
    """The method with its paper, the models in its roles, and who wrote the rows, as lines of a list."""
    lines: list[str] = []
    if card.stage:
        lines.append(
            f"- stage: {escape_markdown(card.stage)} of the arm {escape_markdown(card.arm)}"
        )
    if card.method in METHODS:
        method = method_entry(card.method)
        line = f"- method: `{card.method}` ({escape_markdown(method.title)})"
        if method.arxiv:
            line += f", [arXiv:{method.arxiv}](https://arxiv.org/abs/{method.arxiv})"
        lines.append(line)
    elif card.method:
        name = escape_markdown(public_spec(card.method))
        lines.append(f"- method: {name}, which is none of potstill's own")
    else:
        lines.append("- method: none; answers that were recorded elsewhere")
    for role, spec in card.roles.items():
        line = f"- {role}: {escape_markdown(public_spec(spec))}"
        if role in card.models:
            line += f" (id {escape_markdown(card.models[role])})"
        lines.append(line)
    role_of_model = {model: role for role, model in card.models.items()}
    rows_by_author = Counter(row.author.model for row in card.rows if row.author is not None)
    for author, count in rows_by_author.most_common():
        role = f" ({role_of_model[author]})" if author in role_of_model else ""
        lines.append(f"- written by {escape_markdown(author)}{role}: {count:,} rows")
    without_author = [row for row in card.rows if row.author is None and row.operator == "edit"]
    if without_author:
        lines.append(
            f"- written by no model, such as a problem's own solution: {len(without_author):,} rows"
        )
    lines.append(f"- licences and terms of the models: {UNKNOWN}")
    return lines


def list_prompts(card: Card) -> str:
    """The templates of the rows' prompts."""
    blocks = [code_block(f"{template}\n", "text") for template in list_templates(card.rows)]
    return "\n\n".join(blocks)


def count_rows(card: Card) -> list[tuple[str, str]]:
    """What can be counted of the rows, and their fingerprints."""
    statuses = Counter(row.verdict.status for row in card.rows)
    lengths = sorted(len(row.text) for row in card.rows)
    problems = {row.problem.id for row in card.rows}
    cut = sum(row.finish_reason == "length" for row in card.rows)
    at_stop_string = sum(row.finish_reason == "stop_string" for row in card.rows)
    saw_gold = f"{sum(row.saw_gold for row in card.rows):,}"
    if any(row.operator == "import" for row in card.rows):
        saw_gold = "unknown (recorded elsewhere)"
    counts = [("rows", f"{len(card.rows):,}"), ("problems", f"{len(problems):,}")]
    derived = {row.problem.id for row in card.rows if row.problem.parents}
    if derived:
        counts.append(("of these, problems that a model wrote", f"{len(derived):,}"))
    for status, count in sorted(statuses.items()):
        counts.append((f"judged {status}", f"{count:,}"))
    counts += [
        ("cut off at the limit of tokens", f"{cut:,}"),
        ("ended at a stop string", f"{at_stop_string:,}"),
        ("writer saw the gold answer", saw_gold),
        ("median length in characters", f"{lengths[len(lengths) // 2]:,}" if lengths else "0"),
        ("fingerprint of the rows", export_fingerprint(card.rows, card.layout)),
    ]
    if card.run:
        counts.append(("fingerprint of the run", card.run))
    return counts


def export_fingerprint(rows: Sequence[Trace], layout: str) -> str:
    """Content id of an export: the rows with their rivals, in order, and the layout."""
    ids: list[list[str]] = []
    for row in rows:
        rival_id = row.rejected.id if row.rejected is not None else ""
        ids.append([row.id, rival_id])
    return digest("export", [layout, ids])


def rejects_table(card: Card) -> str:
    """The most frequent reasons for which traces were left out."""
    reasons = Counter(card.rejects).most_common()
    lines: list[tuple[str, str, str, str]] = []
    for (operator, test, reason), count in reasons[:SHOWN_REASONS]:
        lines.append((operator, test, reason, f"{count:,}"))
    not_shown = sum(count for _, count in reasons[SHOWN_REASONS:])
    if not_shown:
        lines.append(("", "", f"{len(reasons) - SHOWN_REASONS} more reasons", f"{not_shown:,}"))
    return markdown_table(("step", "test", "reason", "traces"), lines)


def commands_to_repeat(card: Card) -> str:
    """The recipe of the run, without folders and secrets, and the commands that make the dataset again."""
    import yaml

    blocks: list[str] = []
    if card.recipe:
        recipe = {
            name: value for name, value in card.recipe.items() if value not in ("", None, {}, [])
        }
        roles = card.recipe.get("roles", {})
        recipe["roles"] = {role: public_spec(spec) for role, spec in roles.items()}
        recipe["problems"] = public_spec(str(card.recipe.get("problems", "")))
        recipe.pop("threads", None)
        text = yaml.safe_dump(without_private_values(recipe), sort_keys=False, allow_unicode=False)
        blocks.append(f"`recipe.yaml`:\n\n{code_block(text, 'yaml')}")
        blocks.append(code_block("potstill run recipe.yaml --out run\n", "sh"))
    blocks.append(code_block(card.command + "\n", "sh"))
    return "\n\n".join(blocks)


def code_block(text: str, language: str) -> str:
    """A code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(without_secrets(text))}{fence}"


def without_private_values(value: Any) -> Any:
    """Plain data without secrets and paths of this machine, before YAML breaks them over lines."""
    if isinstance(value, Mapping):
        return {
            without_secrets(str(name)): without_private_values(item) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_private_values(item) for item in value]
    if isinstance(value, str):
        return without_local_path(without_secrets(value))
    return value


def without_local_path(text: str) -> str:
    """A text, or if it is the path of a file on this machine, the file's name."""
    return public_spec(text) if _LOCAL_PATH.match(text) else text


def markdown_table(names: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table with these columns; the cells are escaped."""
    rows = [list(names), ["---"] * len(names)]
    for line in lines:
        rows.append([escape_markdown(str(cell)) for cell in line])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escape_markdown(text: str) -> str:
    """Text of models and files as one line that is no markup: no links, images, HTML, tables or hidden characters."""
    # Secrets are taken out first: escaped, they would not be found.
    text = visible(without_secrets(text)[:MAX_CELL_CHARS])
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]()#!|~$])", r"\\\1", line)
    return line.replace("://", ":&#47;&#47;")
