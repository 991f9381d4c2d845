"""Where a recipe's models and problems come from: the kinds of `models` and `problems`, and the built-in world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from potstill import models
from potstill.data import files, problems
from potstill.errors import ConfigError, InputError, ModelError
from potstill.models.model import Model
from potstill.records import Problem, Trace, Verdict, blank
from potstill.traces.prompts import check_template, render_prompt, template_names
from potstill.verifiers import check_gold, failed_gold
from potstill.world import story
from potstill.world.oracle import Oracle

CHECKPOINTS = Path(__file__).parents[1] / "world" / "checkpoints"
BUILT = CHECKPOINTS.parent / "build.json"  # what the build measured of them
WORLD_MODELS = ("teacher", "student", "oracle")

_BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
_LETTER = "{question}\n\n{choices}\n\nPlease reason step by step, and put the letter of the answer within \\boxed{{}}."
# What the learner sees by default, by kind of problem; the world's stories are asked as they are.
PROMPTS = {"math": _BOXED, "number": _BOXED, "exact": _BOXED, "choice": _LETTER}


def load_model(spec: str, *, threads: int = 0, batch: bool = False) -> Model:
    """The model that a spec names, such as world:student, transformers:PATH or recorded:FILE.

    Args:
        spec: the model.
        threads: CPU threads of a local one.
        batch: whether one behind OpenAI's protocol is asked in batches.
    """
    options: dict[str, Any] = (
        {"threads": threads} if threads and spec.startswith("transformers:") else {}
    )
    if batch and spec.startswith("openai:"):
        options["batch"] = True
    return models.load(spec, extra={"world": lambda name: world_model(name, threads)}, **options)


def world_model(name: str, threads: int = 0) -> Model:
    """The built-in teacher, student or oracle (a program, not a model)."""
    if name == "oracle":
        return Oracle()
    if name not in WORLD_MODELS:
        raise ConfigError(
            f"no world model called {name!r}",
            available=WORLD_MODELS,
            wanted=name,
            fix="world:student",
        )
    folder = CHECKPOINTS / name
    if not folder.is_dir():
        raise ModelError(
            f"the world's {name} is not in this installation ({folder})",
            expected="the checkpoints shipped as package data",
            fix=f"potstill world build {name}",
        )
    from potstill.models.local.transformers import TransformersModel

    return TransformersModel(folder, threads=threads)


def load_problems(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int = 0,
    seed: int = 0,
    kind: str = "",
) -> list[Problem]:
    """Problems whose gold answers pass their own verifier.

    Raises:
        InputError: no problems, or gold answers that their verifier does not accept.
    """
    found: list[Problem] = problems.load(
        spec,
        mapping=dict(mapping or {}),
        limit=limit or None,
        seed=seed,
        kind=kind or None,
        extra={"world": world},
    )
    failing = check_gold(found)
    if failing and files.is_skipping() and len(failing) < len(found):
        return _without(found, failing, spec)
    if failing:
        lines = [f"{_place(found, p)}: {_failure(p, v)}" for p, v in failing[:5]]
        more = f" and {len(failing) - 5} more" if len(failing) > 5 else ""
        said = failed_gold(len(failing), found, spec)
        said["found"] += f": {'; '.join(lines)}{more}"
        said["fix"] += "; --skip-bad leaves those rows out"
        raise InputError(**said)
    return found


def _failure(problem: Problem, verdict: Verdict) -> str:
    """What failed; a program says itself which of its tests, and is too long to show."""
    said = f"{(problem.answer or '')[:80]!r} ({verdict.status}: {verdict.reason})"
    return verdict.reason if problem.kind == "code" else said


def _place(found: Sequence[Problem], problem: Problem) -> str:
    """Where a problem stands in its source and its id, such as "line 7, p3"."""
    place = getattr(found, "places", {}).get(problem.id, "")
    return f"{place}, {problem.id}" if place else problem.id


def _without(
    found: Sequence[Problem], failing: Sequence[tuple[Problem, Verdict]], spec: str
) -> list[Problem]:
    """The problems without those whose gold answer fails, which are listed among the bad rows."""
    for problem, verdict in failing:
        reason = f"the gold answer {problem.answer!r} fails its verifier ({verdict.status}: {verdict.reason})"
        files.refuse(InputError(reason), spec, _place(found, problem), problem.question)
    gone = {problem.id for problem, _ in failing}
    return [problem for problem in found if problem.id not in gone]


def world(rest: str, **given: Any) -> list[Problem]:
    """Problems of `world:TASK?split=test&size=200&seed=0`."""
    task, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    unknown = set(options) - {"split", "size", "seed"}
    if unknown:
        raise ConfigError(
            f"unknown option {min(unknown)!r} of world:{task}", available=("split", "size", "seed")
        )
    numbers = {"size": 500, "seed": 0}
    for name, default in numbers.items():
        text = options.get(name, str(default))
        if not text.isdecimal():
            raise ConfigError(
                f"world:{task}: {name}={text} is not a number", fix=f"world:{task}?{name}=100"
            )
        numbers[name] = int(text)
    size = min(numbers["size"], given.get("limit") or numbers["size"])
    return story.problems(
        task, size=size, seed=numbers["seed"], split=options.get("split", "train")
    )


def pose_all(
    found: Sequence[Problem], template: str = "", *, recorded: bool = False
) -> list[Trace]:
    """Blank traces: what the learner sees is the template, or the default of each problem's kind.

    Recorded models were asked the bare question, so with one of them in a role the default is the bare question.
    """
    if template:
        check_template(template, {})
        if not template_names(template) & {"question", "prompt"}:
            raise ConfigError(
                f"the prompt {template[:60]!r} does not show the question",
                expected="a template with {question} in it",
                fix="--prompt '{question} Think first.'",
            )
    traces = []
    for problem in found:
        shown = template or ("{question}" if recorded else PROMPTS.get(problem.kind, "{question}"))
        told = render_prompt(shown, blank(problem), {})
        if told.saw_gold:
            raise ConfigError(
                "the learner's prompt shows the gold answer",
                fix="leave {answer}, {solution} and {tests} out",
            )
        traces.append(blank(problem, told.prompt))
    return traces


def priced(spec: str) -> tuple[str, bool]:
    """The name under which a spec's model stands in a price table, and whether it runs on this machine."""
    kind, _, rest = spec.partition(":")
    name, _, query = rest.partition("?")
    if kind not in models.REMOTE_KINDS:
        return "", True
    if kind == "litellm":
        from potstill.models.remote.litellm import VendorOptions as Vendor
        from potstill.models.remote.options import parse_server_options

        return name, Vendor(**parse_server_options(query)).host == "local"
    from potstill.models.remote.options import ServerOptions, parse_server_options

    options = ServerOptions(**parse_server_options(query))
    return f"{options.at}/{name}" if options.at else name, options.host == "local"


def checkpoint_of(spec: str) -> Path | None:
    """The folder of a spec's weights, where it has one."""
    kind, _, rest = spec.partition(":")
    name, _, query = rest.partition("?")
    given = {
        "world": CHECKPOINTS / name,
        "transformers": Path(name).expanduser(),
        "vllm": Path(name).expanduser(),
    }
    weights = dict(parse_qsl(query)).get("weights", "")
    found = Path(weights).expanduser() if weights else given.get(kind)
    return found if found is not None and (found / "config.json").is_file() else None
