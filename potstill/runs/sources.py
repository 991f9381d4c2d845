"""Where a recipe's models and problems come from: the kinds of `models` and `data.problems`, and the built-in world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from potstill import config, models, plugins
from potstill.config import Mistakes, Setting, convert_settings, merge_layers, parse_query
from potstill.data import files, problems
from potstill.errors import ConfigError, InputError, ModelError
from potstill.extras import require_extra
from potstill.models.local.gguf_checkpoint import cached_checkpoint, is_gguf
from potstill.models.model import Model
from potstill.models.ray_spec import inner_spec
from potstill.models.token_scoring import TokenScored
from potstill.records import Problem, Trace, Verdict, blank
from potstill.template import template_names
from potstill.traces.prompts import check_template, render_prompt
from potstill.verifiers import check_gold, failed_gold
from potstill.world.families import SHIPPED
from potstill.world.gym.problems import SPLITS
from potstill.world.gym.styles import STYLES
from potstill.world.gym.teacher import GymTeacher
from potstill.world.oracle import Oracle
from potstill.world.oracle.program import SLIP_RATE
from potstill.world.tasks import TASKS, make_problems

CHECKPOINTS = Path(__file__).parents[1] / "world" / "checkpoints"
# What the build measured of the checkpoints, by family.
BUILD_RECORD = CHECKPOINTS.parent / "build.json"
WORLD_MODELS = (*SHIPPED, "oracle", "gym-teacher")
# Options of `world:TASK?…`, with their defaults.
WORLD_OPTIONS = (
    Setting("split", str, "train"),
    Setting("size", int, 500),
    Setting("seed", int, 0),
)
# Options of `world:oracle?…`.
ORACLE_OPTIONS = (Setting("slip_rate", float, SLIP_RATE),)
# Options of `world:gym-teacher?…`.
GYM_TEACHER_OPTIONS = (Setting("style", str, GymTeacher.style),)
MAX_FAILURES_SHOWN = 5  # gold answers that an error lists

_BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
_LETTER = "{question}\n\n{choices}\n\nPlease reason step by step, and put the letter of the answer within \\boxed{{}}."
_TAGGED = "{question}\n\nPlease reason step by step, and put your final answer between <answer> and </answer>."
_QUERY = "{schema}\n\n{question}\n\nPlease reason step by step, and put one SQLite query that answers it into ```sql."
# What the learner sees by default, by kind of problem; the world's stories and walks are asked as they are.
PROMPTS = {
    "math": _BOXED,
    "number": _BOXED,
    "exact": _BOXED,
    "choice": _LETTER,
    "table": _QUERY,
    "gym": _TAGGED,
}


# Models.


def load_model(spec: str, *, threads: int = 0, batch: bool = False) -> Model:
    """The model that a spec names, such as world:student, transformers:PATH or recorded:FILE.

    Args:
        spec: the model.
        threads: CPU threads of a local one.
        batch: whether a remote one that speaks OpenAI's protocol is asked in batches.
    """
    options: dict[str, Any] = {}
    if threads and inner_spec(spec).startswith("transformers:"):
        options["threads"] = threads
    if batch and spec.startswith("openai:"):
        options["batch"] = True
    world = {"world": partial(world_model, threads=threads)}
    return models.load(spec, extra=world, **options)


def load_checkpoint(spec: str, *, role: str, threads: int = 0, can_be_server: bool = False) -> Any:
    """The model of a spec or of a bare path, with weights.

    Args:
        spec: the model; a path without a kind is `transformers:PATH`.
        role: what it is needed for, for errors: "student", "teacher", "reference".
        threads: CPU threads.
        can_be_server: whether a model without weights will do that says how likely given texts or tokens are.

    Raises:
        ModelError: it has no weights.
    """
    model = load_model(spec if ":" in spec else f"transformers:{spec}", threads=threads)
    has_weights = getattr(model, "weights", None) is not None
    gives_scores = hasattr(model, "likelihood") or isinstance(model, TokenScored)
    if has_weights or (can_be_server and gives_scores):
        return model
    lacks = "no weights to train" if role == "student" else "no weights"
    expected = f"transformers:PATH or world:{'teacher' if role == 'teacher' else 'student'}"
    if can_be_server:
        expected += ", or a server that scores (?score=prompt_logprobs)"
    raise ModelError(f"{spec} has {lacks}", expected=expected, fix=f"--{role} …")


def world_model(rest: str, threads: int = 0) -> Model:
    """A built-in teacher or student, or a program that stands in for a model: the oracle, the gym's teacher.

    Args:
        rest: the spec behind `world:`, such as `student` or `oracle?slip_rate=0.3`.
        threads: CPU threads of a checkpoint.
    """
    name, _, query = rest.partition("?")
    if name == "oracle":
        return load_oracle(query)
    if name == "gym-teacher":
        return load_gym_teacher(query)
    if name in TASKS:
        raise ConfigError(
            f"world:{name} is a task, no model",
            available=WORLD_MODELS,
            fix=f"--problems world:{rest}, and a model such as world:student in the role",
        )
    if name not in WORLD_MODELS:
        raise ConfigError(
            f"no world model called {name!r}",
            available=WORLD_MODELS,
            wanted=name,
            fix="world:student",
        )
    if query:
        raise ConfigError(f"world:{name} has no options", fix=f"world:{name}")
    folder = CHECKPOINTS / name
    if not folder.is_dir():
        raise ModelError(
            f"world:{name} is not in this installation ({folder})",
            expected="the checkpoints shipped as package data",
            fix=f"potstill world build {name}",
        )
    require_extra("local", f"world:{name}", fix="--teacher openai:NAME?at=…")
    from potstill.models.local.transformers import TransformersModel

    return TransformersModel(folder, threads=threads)


def load_oracle(query: str) -> Oracle:
    """The oracle of `world:oracle?slip_rate=0.3`: how likely an answer of a role that can slip has a slip."""
    mistakes = Mistakes()
    keyed = merge_layers(ORACLE_OPTIONS, [("", parse_query(query))], mistakes, what="option")
    options = {setting.name: setting.default for setting in ORACLE_OPTIONS}
    options.update(convert_settings(ORACLE_OPTIONS, keyed, mistakes))
    if not 0 <= options["slip_rate"] <= 1:
        mistakes.add("slip_rate", f"{options['slip_rate']} is not from 0 to 1")
    mistakes.raise_if_any("world:oracle", fix="world:oracle?slip_rate=0.1")
    return Oracle(**options)


def load_gym_teacher(query: str) -> GymTeacher:
    """The program of `world:gym-teacher?style=long`, in the style that it writes in."""
    mistakes = Mistakes()
    keyed = merge_layers(GYM_TEACHER_OPTIONS, [("", parse_query(query))], mistakes, what="option")
    options = {setting.name: setting.default for setting in GYM_TEACHER_OPTIONS}
    options.update(convert_settings(GYM_TEACHER_OPTIONS, keyed, mistakes))
    if options["style"] not in STYLES:
        mistakes.add("style", f"{options['style']!r} is not one of {', '.join(STYLES)}")
    mistakes.raise_if_any("world:gym-teacher", fix="world:gym-teacher?style=long")
    return GymTeacher(**options)


def priced_name(spec: str) -> tuple[str, bool]:
    """The name under which a spec's model stands in a price table, and whether it runs on this machine."""
    kind, _, name_and_query = spec.partition(":")
    name, _, query = name_and_query.partition("?")
    if kind not in models.REMOTE_KINDS:
        return "", True
    from potstill.models.remote.options import ServerOptions, parse_server_options

    if kind == "litellm":
        from potstill.models.remote.litellm import VendorOptions

        return name, VendorOptions(**parse_server_options(query)).host == "local"
    options = ServerOptions(**parse_server_options(query))
    return f"{options.at}/{name}" if options.at else name, options.host == "local"


def missing_key_variable(spec: str) -> str:
    """The environment variable of the key that a spec's server needs and that is not set; "" where none is missing."""
    kind, _, name_and_query = spec.partition(":")
    if kind != "openai":
        return ""
    from potstill.models.remote.options import ServerOptions, parse_server_options

    options = ServerOptions(**parse_server_options(name_and_query.partition("?")[2]))
    return options.key_variable if options.lacks_key else ""


def missing_checkpoint(spec: str) -> Path | None:
    """The folder that a spec names and that is not here; None where it is, or where it names none."""
    kind, _, name_and_query = inner_spec(spec).partition(":")
    folder = Path(name_and_query.partition("?")[0]).expanduser()
    return folder if kind in ("transformers", "vllm") and not folder.exists() else None


def load_unreachable_model(spec: str, *, batch: bool) -> Model:
    """The model of an openai: spec whose key is not here: it says what it can do, and is never asked."""
    from potstill.models.remote.openai import OpenAIModel
    from potstill.models.remote.options import parse_server_options

    name, _, query = spec.partition(":")[2].partition("?")
    options = parse_server_options(query)
    if batch:
        options["batch"] = True
    return OpenAIModel(name, client_class=_no_client, **options)


def _no_client(options: Any) -> Any:
    """In the place of what sends requests."""
    return None


def checkpoint_of(spec: str) -> Path | None:
    """The folder of a spec's weights, where it has one."""
    kind, _, name_and_query = inner_spec(spec).partition(":")
    name, _, query = name_and_query.partition("?")
    folder = None
    if kind == "world":
        folder = CHECKPOINTS / name
    elif kind in ("transformers", "vllm"):
        folder = Path(name).expanduser()
        if kind == "transformers" and is_gguf(folder) and folder.is_file():
            folder = cached_checkpoint(folder)  # None below, where it has not been written yet
    weights = dict(parse_qsl(query)).get("weights", "")
    if weights:
        folder = Path(weights).expanduser()
    if folder is None or not (folder / "config.json").is_file():
        return None
    return folder


# Problems.


def load_problems(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    limit: int = 0,
    seed: int = 0,
    kind: str = "",
    where: Sequence[str] = (),
) -> list[Problem]:
    """Problems whose gold answers pass their own verifier.

    Args:
        spec: a file, hf:NAME, gym:TASK or world:TASK.
        mapping: problem field -> column.
        limit: problems at most, chosen by a hash of seed and id; 0 is all.
        seed: of that choice.
        kind: verifier; "" guesses.
        where: conditions on their metadata, such as "level>=4".

    Raises:
        InputError: no problems, or gold answers that their verifier does not accept.
    """
    loaded: list[Problem] = problems.load(
        spec,
        mapping=dict(mapping or {}),
        limit=limit or None,
        seed=seed,
        kind=kind or None,
        where=where,
        extra={"world": world_problems},
    )
    return check_gold_answers(loaded, spec)


def check_gold_answers(loaded: list[Problem], spec: str) -> list[Problem]:
    """The problems, whose gold answers pass their own verifier; with --skip-bad those that do.

    Args:
        loaded: the problems.
        spec: what to call their source in an error.

    Raises:
        InputError: gold answers that their verifier does not accept.
    """
    failing = check_gold(loaded)
    if not failing:
        return loaded
    if files.is_skipping() and len(failing) < len(loaded):
        return _skip_failing(loaded, failing, spec)
    lines = []
    for problem, verdict in failing[:MAX_FAILURES_SHOWN]:
        lines.append(f"{_place_of(loaded, problem)}: {_describe_failure(problem, verdict)}")
    more = ""
    if len(failing) > MAX_FAILURES_SHOWN:
        more = f" and {len(failing) - MAX_FAILURES_SHOWN} more"
    parts = failed_gold(len(failing), loaded, spec)
    raise InputError(
        f"{parts['found']}: {'; '.join(lines)}{more}",
        expected=parts["expected"],
        fix=f"{parts['fix']}; --skip-bad leaves those rows out",
    )


def brings_kinds(spec: str) -> bool:
    """Whether the problems of a spec are made with their kinds, as the world's and a plugin's are."""
    prefix, colon, _ = spec.partition(":")
    return bool(colon) and (prefix == "world" or prefix in plugins.plugin_names("problems"))


def _describe_failure(problem: Problem, verdict: Verdict) -> str:
    """What failed; a program's reason says which of its tests, and its text is too long to show."""
    if problem.kind == "code":
        return verdict.reason
    return f"{(problem.answer or '')[:80]!r} ({verdict.status}: {verdict.reason})"


def _place_of(loaded: Sequence[Problem], problem: Problem) -> str:
    """Where a problem stands in its source and its id, such as "line 7, p3"."""
    place = getattr(loaded, "places", {}).get(problem.id, "")
    return f"{place}, {problem.id}" if place else problem.id


def _skip_failing(
    loaded: Sequence[Problem], failing: Sequence[tuple[Problem, Verdict]], spec: str
) -> list[Problem]:
    """The problems without those whose gold answer fails, which are listed among the bad rows."""
    for problem, verdict in failing:
        reason = f"the gold answer {problem.answer!r} fails its verifier ({verdict.status}: {verdict.reason})"
        files.refuse(InputError(reason), spec, _place_of(loaded, problem), problem.question)
    skipped_ids = {problem.id for problem, _ in failing}
    return [problem for problem in loaded if problem.id not in skipped_ids]


def world_problems(rest: str, **limits: Any) -> list[Problem]:
    """Problems of `world:TASK?split=test&size=200&seed=0`.

    Args:
        rest: the spec behind `world:`.
        limits: the limit that `data.problems.load` hands on, so that no more are made than are needed.
    """
    task, _, query = rest.partition("?")
    if task in WORLD_MODELS:
        raise ConfigError(
            f"world:{task} is a model, no task",
            available=TASKS,
            fix=f"--teacher world:{rest}, and problems such as world:story?split=train",
        )
    if task not in TASKS:
        make_problems(task, size=1)  # refuses it, before its options are looked at
    mistakes = Mistakes()
    keyed = merge_layers(WORLD_OPTIONS, [("", parse_query(query))], mistakes, what="option")
    options = {setting.name: setting.default for setting in WORLD_OPTIONS}
    options.update(convert_settings(WORLD_OPTIONS, keyed, mistakes))
    for name in ("size", "seed"):
        if options[name] < 0:
            mistakes.add(name, f"{options[name]} is below 0")
    # Any name would draw problems of its own, a mistyped one too.
    if options["split"] not in SPLITS:
        mistakes.add("split", config.unknown_name("split", options["split"], SPLITS))
    mistakes.raise_if_any(f"world:{task}", fix=f"world:{task}?split=test&size=100")
    size = min(options["size"], limits.get("limit") or options["size"])
    return make_problems(task, size=size, seed=options["seed"], split=options["split"])


# Prompts.


def default_prompt(kind: str) -> str:
    """The template by which problems of a kind are asked where nobody gives one."""
    return PROMPTS.get(kind, "{question}")


def pose_all(
    problems: Sequence[Problem], template: str = "", *, recorded: bool = False
) -> list[Trace]:
    """Blank traces: what the learner sees is the template, or the default of each problem's kind.

    Args:
        problems: what is asked.
        template: of the prompt, over the problem's fields; "" is the default.
        recorded: whether a recorded model plays a role. Recorded models were asked the bare question, so the bare
            question is then the default.
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
    for problem in problems:
        default = "{question}" if recorded else default_prompt(problem.kind)
        prompt = render_prompt(template or default, blank(problem), {})
        if prompt.saw_gold:
            raise ConfigError(
                "the learner's prompt shows the gold answer",
                fix="leave {answer}, {solution} and {tests} out",
            )
        traces.append(blank(problem, prompt.prompt))
    return traces
