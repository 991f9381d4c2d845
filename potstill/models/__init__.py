"""Models: text in, text out. `load` makes one from its name on the command line or in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from potstill.errors import ConfigError
from potstill.models.model import Model

KINDS = ("scripted", "recorded", "openai", "litellm", "vllm", "transformers")
WIRED = ("openai", "litellm")  # behind a wire, with the options of `wire_options`
FREE = (
    "threads",
    *("concurrency", "rpm", "tpm", "timeout", "deadline", "key", "batch"),
)  # options that move no sample


def _switch(text: str) -> bool:
    return bool(("0", "1").index(text))


_RENAMED = {"model": "columns", "models": "columns", "column": "columns", "completion": "columns"}
_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "scripted": {"fail": float, "seed": int, "name": str},
    "recorded": {
        "columns": lambda text: tuple(text.split(",")),
        **dict.fromkeys(("question", "reasoning", "answer", "label", "finish", "match"), str),
    },
    "transformers": {
        "dtype": str,
        "device": str,
        "threads": int,
        "batch": int,
        "chat": str,
        "gather": _switch,
    },
    "vllm": {"dtype": str, "chat": str, "memory": float, "parallel": int, "context": int},
}


def load(
    spec: str, *, extra: Mapping[str, Callable[[str], Model]] | None = None, **options: Any
) -> Model:
    """The model that `kind:PATH` or `kind:PATH?option=value&…` names.

    Args:
        spec: `scripted:FILE`, `recorded:FILE?model=COLUMN`, `transformers:FOLDER?dtype=bfloat16&chat=plain`,
            `openai:NAME?url=http://HOST/v1&concurrency=256`, `openai:NAME?at=deepseek`, `litellm:VENDOR/NAME`,
            `vllm:FOLDER`.
        extra: more kinds, each a function from what stands behind the colon to a model.
        options: win over those in the spec.
    """
    kind, colon, rest = spec.partition(":")
    if colon and extra and kind in extra:
        return extra[kind](rest)
    if not colon or kind not in KINDS:
        kinds = (*KINDS, *(extra or ()))
        fix = (
            f"write transformers:{spec}"
            if Path(spec).is_dir()
            else f"write {kinds[-1]}:NAME, as in `--student {kinds[-1]}:…`"
        )
        raise ConfigError(
            f"unknown model kind in {spec!r}",
            expected="KIND:PATH",
            available=kinds,
            wanted=kind,
            fix=fix,
        )
    path, _, query = rest.partition("?")
    if kind in WIRED:
        return _wired(kind, spec, path, query, options)
    options = {**_options(kind, query, spec), **options}
    return _make(kind, Path(path).expanduser(), options)


def identity(spec: str) -> str:
    """The spec without what moves no sample: how fast a server is asked, with which key, on which port of this machine.

    A run folder is the same run under another spec of the same identity.
    """
    kind, _, rest = spec.partition(":")
    path, _, query = rest.partition("?")
    kept = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name not in FREE
    ]
    if kind in WIRED:
        from potstill.models.remote.options import host_of

        kept = [
            ("host", host_of(value)) if name == "url" else (name, value) for name, value in kept
        ]
    return (
        f"{kind}:{path}" + (f"?{urlencode(sorted(kept), safe='/:')}" if kept else "")
        if kind in KINDS
        else spec
    )


def _wired(kind: str, spec: str, path: str, query: str, options: dict[str, Any]) -> Model:
    from potstill.models.remote.options import parse, refuse_secrets

    refuse_secrets(spec)
    options = {**parse(query), **options}
    if kind == "litellm":
        from potstill.models.remote.litellm import vendor

        return vendor(path, **options)
    from potstill.models.remote.openai import OpenAIModel

    return OpenAIModel(path, **options)


def _make(kind: str, path: Path, options: dict[str, Any]) -> Model:
    if kind == "scripted":
        from potstill.models.scripted import ScriptedModel

        return ScriptedModel.load(path, **options)
    if kind == "recorded":
        from potstill.models.recorded import Recorded

        match = options.pop("match", "exact")
        if match not in ("exact", "contained"):
            raise ConfigError(
                f"unknown match={match}",
                available=("exact", "contained"),
                wanted=match,
                fix="choose one",
            )
        return Recorded.load(path, contained=match == "contained", **options)
    from potstill.models.local.checkpoint import check_checkpoint

    check_checkpoint(path)
    if kind == "vllm":
        from potstill.models.local.vllm import VllmModel

        return VllmModel(path, **options)
    from potstill.models.local.transformers import TransformersModel

    return TransformersModel(path, **options)


def _options(kind: str, query: str, spec: str) -> dict[str, Any]:
    known, found = _OPTIONS[kind], {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        name = _RENAMED.get(name, name) if kind == "recorded" else name
        if name not in known:
            fix = f"write {kind}:PATH?{next(iter(known))}=…"
            raise ConfigError(
                f"unknown option {name!r} in {spec!r}", available=known, wanted=name, fix=fix
            )
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise ConfigError(
                f"{name}={value} in {spec!r} is no {known[name].__name__.lstrip('_')}",
                fix=f"give a number: {name}=1",
            ) from error
    return found
