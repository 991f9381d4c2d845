"""Models: text in, text out. `load` makes one from its name on the command line or in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from potstill import plugins
from potstill.config import Mistakes, Setting, convert_settings, merge_layers, parse_query
from potstill.data.urls import local_path
from potstill.errors import ConfigError
from potstill.extras import require_extra
from potstill.models import ray_spec
from potstill.models.model import Model

KINDS = ("scripted", "recorded", "openai", "litellm", "vllm", "transformers", ray_spec.KIND)
REMOTE_KINDS = ("openai", "litellm")  # asked over the network
SPEED_OPTIONS = (
    *("threads", "concurrency", "rpm", "tpm", "timeout", "deadline", "max_paid_tries"),
    *("key", "batch"),
)
"""Options that change no sample."""

# Options of a spec by kind of model; those of servers are the fields of `remote.options.ServerOptions`.
_OPTIONS: Mapping[str, tuple[Setting, ...]] = {
    "scripted": (Setting("fail", float), Setting("seed", int), Setting("name", str)),
    "recorded": (
        Setting("columns", tuple[str, ...]),
        Setting("question", str),
        Setting("reasoning", str),
        Setting("answer", str),
        Setting("label", str),
        Setting("finish_reason", str),
        Setting("match", Literal["exact", "contained"]),
        Setting("missing", Literal["refuse", "drop"]),
    ),
    "transformers": (
        Setting("dtype", str),
        Setting("device", str),
        Setting("threads", int),
        Setting("batch", int),
        Setting("chat", str),
        Setting("gather", bool),
    ),
    "vllm": (
        Setting("dtype", str),
        Setting("chat", str),
        Setting("memory", float),
        Setting("tensor_parallel", int),
        Setting("context", int),
    ),
}
# Kinds whose paths replicas read, each on its node.
_REPLICATED_KINDS = ("transformers", "vllm", "scripted")
# Other words for `columns` of recorded:.
_COLUMN_ALIASES = ("model", "models", "column", "completion")


def load(
    spec: str, *, extra: Mapping[str, Callable[[str], Model]] | None = None, **options: Any
) -> Model:
    """The model that `kind:PATH` or `kind:PATH?option=value&…` names.

    Args:
        spec: `scripted:FILE`, `recorded:FILE?model=COLUMN`, `transformers:FOLDER?dtype=bfloat16&chat=plain`,
            `transformers:FILE.gguf`,
            `openai:NAME?url=http://HOST/v1&concurrency=256`, `openai:NAME?at=deepseek`, `litellm:VENDOR/NAME`,
            `vllm:FOLDER`, `ray:transformers:FOLDER?replicas=4&gpus=1`.
        extra: more kinds, each a function from what stands behind the colon to a model.
        options: win over those in the spec.
    """
    kind, colon, place = spec.partition(":")
    _refuse_secrets(spec, kind)
    if kind == ray_spec.KIND:
        return _load_replicated_model(spec, extra, options)
    if colon and extra and kind in extra:
        return extra[kind](place)
    if colon and kind not in KINDS and kind in plugins.plugin_names("models"):
        return _load_plugin_model(kind, place)
    if not colon or kind not in KINDS:
        kinds = (*KINDS, *plugins.plugin_names("models"), *(extra or ()))
        raise _unknown_kind_error(spec, kind, kinds)
    path, _, query = place.partition("?")
    if kind in REMOTE_KINDS:
        return _load_remote_model(kind, spec, path, query, options)
    options = {**read_options(kind, query, spec), **options}
    if kind == "recorded":
        return _load_recording(path, options)
    return _load_local_model(kind, local_path(path), options)


def identity(spec: str) -> str:
    """The spec without what moves no sample: how fast a server is asked, with which key, on which port of this machine.

    A run folder is the same run under another spec of the same identity.
    """
    # A completion does not depend on the replica that wrote it.
    spec = ray_spec.inner_spec(spec)
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        return spec
    from potstill.models.remote.options import host_of

    path, _, query = place.partition("?")
    options = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in SPEED_OPTIONS:
            continue
        if name == "url" and kind in REMOTE_KINDS:
            name, value = "host", host_of(value)
        options.append((name, value))
    if not options:
        return f"{kind}:{path}"
    return f"{kind}:{path}?{urlencode(sorted(options), safe='/:')}"


def _load_replicated_model(
    spec: str, extra: Mapping[str, Callable[[str], Model]] | None, options: dict[str, Any]
) -> Model:
    """The model behind `ray:`, on replicas that load it as this process would."""
    settings = _replica_settings(spec)
    inner = _with_absolute_path(ray_spec.inner_spec(spec))
    load_inner = partial(load, inner, extra=extra, **options)
    planner = load_inner()
    from potstill.models.local.replicas import replicate

    return replicate(planner, load_inner, settings, name=inner)


def _replica_settings(spec: str) -> ray_spec.ReplicaSettings:
    """The settings of `ray:`, and a check of the model's own options, as far as they are known here."""
    inner_kind = ray_spec.inner_spec(spec).partition(":")[0]
    if inner_kind in (*REMOTE_KINDS, "recorded", ray_spec.KIND):
        raise ConfigError(
            f"{spec}: replicas are of models that compute, and {inner_kind}: is none",
            expected=f"ray: and the spec of a local model, as {ray_spec.EXAMPLE}",
            available=(*_REPLICATED_KINDS, "world"),
            fix="a server answers many requests at once by itself: concurrency=N",
        )
    inner_options = None
    if inner_kind in _OPTIONS:
        # Where a replica computes is said by gpus=.
        inner_options = [option for option in _OPTIONS[inner_kind] if option.name != "device"]
    return ray_spec.read_replica_settings(spec, inner_options)


def _with_absolute_path(spec: str) -> str:
    """The spec as other processes can read it, which work in other folders."""
    kind, _, place = spec.partition(":")
    path, mark, query = place.partition("?")
    if kind not in _REPLICATED_KINDS:
        return spec
    return f"{kind}:{local_path(path).absolute()}{mark}{query}"


def _load_plugin_model(kind: str, place: str) -> Model:
    model = plugins.load_plugin("models", kind)(place)
    if not isinstance(model, Model) or not isinstance(model.id, str):
        raise ConfigError(
            f"the model kind {kind!r} of an installed package made {model!r:.80} of {place!r}, which is no model",
            expected="an object with an id, a text, and write(requests), as docs/api.md says",
        )
    return model


def _unknown_kind_error(spec: str, kind: str, kinds: tuple[str, ...]) -> ConfigError:
    import difflib  # here, because few commands fail

    nearest = difflib.get_close_matches(kind, kinds, n=1) or kinds[-1:]
    fix = f"write {nearest[0]}:NAME, as in `--student {nearest[0]}:…`"
    if Path(spec).is_dir():
        fix = f"write transformers:{spec}"
    return ConfigError(
        f"unknown model kind in {spec!r}",
        expected="KIND:PATH",
        available=kinds,
        wanted=kind,
        fix=fix,
    )


def _load_remote_model(
    kind: str, spec: str, name: str, query: str, options: dict[str, Any]
) -> Model:
    from potstill.models.remote.options import parse_server_options

    options = {**parse_server_options(query), **options}
    if options.get("weights"):
        require_extra("local", f"{spec}, whose prompts are rendered here,")
    if kind == "litellm":
        from potstill.models.remote.litellm import load_vendor_model

        return load_vendor_model(name, **options)
    from potstill.models.remote.openai import OpenAIModel

    return OpenAIModel(name, **options)


def _load_recording(spec: str, options: dict[str, Any]) -> Model:
    from potstill.models.recorded import Recorded

    match = options.pop("match", "exact")
    return Recorded.load(spec, contained=match == "contained", **options)


def _load_local_model(kind: str, path: Path, options: dict[str, Any]) -> Model:
    if kind == "scripted":
        from potstill.models.scripted import ScriptedModel

        return ScriptedModel.load(path, **options)
    if kind not in ("transformers", "vllm"):
        raise NotImplementedError(f"nothing loads a model of the kind {kind!r} in KINDS")
    from potstill.models.local.checkpoint import check_checkpoint
    from potstill.models.local.gguf_checkpoint import checkpoint_of_gguf, is_gguf

    if kind == "transformers" and is_gguf(path):
        path = checkpoint_of_gguf(path)
    check_checkpoint(path)
    require_extra("local" if kind == "transformers" else kind, f"{kind}:{path}")
    if kind == "vllm":
        from potstill.models.local.vllm import VllmModel

        return VllmModel(path, **options)
    from potstill.models.local.transformers import TransformersModel

    return TransformersModel(path, **options)


def check_options(spec: str) -> None:
    """Refuse options that the kind of model does not have; nothing is loaded. Unknown kinds pass.

    Raises:
        ConfigError: lists every mistake in the options.
    """
    kind, _, place = spec.partition(":")
    _refuse_secrets(spec, kind)
    if kind not in KINDS:
        return
    if kind == ray_spec.KIND:
        _replica_settings(spec)
        check_options(ray_spec.inner_spec(spec))
        return
    name, _, query = place.partition("?")
    if kind not in REMOTE_KINDS:
        read_options(kind, query, spec)
        return
    from potstill.models.remote.options import ServerOptions, parse_server_options

    options = parse_server_options(query)
    if kind == "litellm":
        from potstill.models.remote.litellm import VendorOptions

        VendorOptions(vendor=name.partition("/")[0], **options).warn_of_clear_text()
    else:
        ServerOptions(**options).warn_of_clear_text()


def _refuse_secrets(spec: str, kind: str) -> None:
    from potstill.models.remote.options import refuse_secrets

    refuse_secrets(spec, is_remote=kind in REMOTE_KINDS)


def read_options(kind: str, query: str, spec: str) -> dict[str, Any]:
    """The options behind the question mark of a spec, converted.

    Raises:
        ConfigError: lists every mistake in them.
    """
    options: dict[str, Any] = dict(parse_query(query))
    if kind == "recorded":
        options = {"columns" if k in _COLUMN_ALIASES else k: v for k, v in options.items()}
    for setting in _OPTIONS[kind]:
        # A list is written with commas: ?columns=first,second
        if setting.name in options and setting.kind == tuple[str, ...]:
            options[setting.name] = options[setting.name].split(",")
    mistakes = Mistakes()
    keyed = merge_layers(_OPTIONS[kind], [("", options)], mistakes, what="option")
    converted = convert_settings(_OPTIONS[kind], keyed, mistakes)
    example = f"?{_OPTIONS[kind][0].name}=…" if _OPTIONS[kind] else ", which has no options"
    mistakes.raise_if_any(spec, fix=f"write {kind}:PATH{example}")
    return converted
