"""From prompts to requests to completions, and from completions to traces with their lineage."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion, Model, Request, Sampling
from potstill.records import Author, Prompt, Trace, digest
from potstill.traces.keys import unique
from potstill.traces.prompts import Shown
from potstill.traces.session import current

DRAWS_A_CALL = 1_000_000
_SETTINGS = tuple(f.name for f in dataclasses.fields(Sampling))

Answer = tuple[Request, Completion]


def sampling(operator: str, settings: Mapping[str, Any]) -> Sampling:
    """Keyword settings as `Sampling`; an unknown name is an error with the nearest one."""
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(
                f"{operator} got the unknown setting {name!r}", available=_SETTINGS, wanted=name
            )
    listed = {name: _strings(settings[name]) for name in ("stop", "ban_first") if name in settings}
    return Sampling(**{**settings, **listed})


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def call(
    model: Model, jobs: Sequence[tuple[Prompt, str]], how: Sampling, *, n: int = 1, draw: int = 0
) -> list[list[Answer]]:
    """Ask for `n` completions of each (prompt, prefix) in one bulk call; equal jobs take different draws.

    A request's draw is `draw` * 1,000,000 + how many equal ones came before it in this call: n=8 after n=4 reuses four,
    and draw=1 never meets draw=0.
    """
    if n < 1 or draw < 0:
        raise ConfigError(f"n={n}, draw={draw}", expected="n of at least 1, draw of at least 0")
    if n > DRAWS_A_CALL:  # before they are counted one by one
        raise ConfigError(
            f"n={n}", expected=f"at most {DRAWS_A_CALL} draws a prompt", fix="--set n=8"
        )
    seed = request_seed(model)
    seen: Counter[tuple[Prompt, str]] = Counter()
    requests = []
    for prompt, prefix in jobs:
        for _ in range(n):
            twin = seen[prompt, prefix]
            seen[prompt, prefix] += 1
            requests.append(Request(prompt, prefix, how, draw * DRAWS_A_CALL + twin, seed))
    if max(seen.values(), default=0) > DRAWS_A_CALL:
        raise ConfigError(
            f"one prompt is asked {max(seen.values())} times in a call",
            expected=f"<= {DRAWS_A_CALL}",
        )
    answers = list(zip(requests, _write(model, requests), strict=True))
    return [answers[i : i + n] for i in range(0, len(answers), n)]


def request_seed(model: Model) -> int:
    """The seed of this session's requests; an error where the model's store asks under another one."""
    session_seed = current().seed
    store_seed = getattr(model, "store_seed", None)
    if session_seed is None:
        return 0
    if store_seed is not None and store_seed != session_seed:
        raise ConfigError(
            f"the session has seed {session_seed}, and the store of {model.id} asks under seed {store_seed}",
            expected="one seed: it is recorded with the results",
            fix="open the store or folder with the seed of the evaluation",
        )
    return session_seed


def _write(model: Model, requests: Sequence[Request]) -> Sequence[Completion]:
    completions = model.write(requests) if requests else []
    if len(completions) != len(requests):
        raise ModelError(
            f"model {model.id} returned {len(completions)} completions for {len(requests)} requests",
            expected="one completion a request, in order; a failed one with an error",
        )
    return completions


def written(
    parent: Trace, shown: Shown, model: Model, answer: Answer, *, operator: str, held: str = ""
) -> Trace:
    """The trace that a completion makes: `held` text, which stood there before, and what the author wrote."""
    request, completion = answer
    author = Author(
        model.id, digest("prompt", request.prompt), request.sampling.changed(), request.draw
    )
    return child(
        parent,
        operator,
        shown,
        text=held + completion.text,
        given=len(held),
        finish="" if completion.error else completion.finish,
        author=author,
        error=completion.error,
        tokens=completion.tokens,
    )


def child(parent: Trace, operator: str, shown: Shown, **fields: Any) -> Trace:
    """A trace made from another and from the context it was shown; both are parents, and pass `saw_gold` on."""
    return Trace(
        problem=parent.problem,
        prompt=fields.pop("prompt", parent.prompt),
        parents=unique([parent.id, *(source.id for source in shown.sources)]),
        root=parent.root or (parent.id if parent.text else ""),
        operator=operator,
        saw_gold=parent.saw_gold
        or shown.saw_gold
        or any(source.saw_gold for source in shown.sources),
        **fields,
    )
