"""A run's rows in the layouts that other trainers read, text unchanged: TRL and ShareGPT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TextIO

from potstill.errors import StageError
from potstill.records import Message, Prompt, Trace

_SHAREGPT = MappingProxyType({"user": "human", "assistant": "gpt"})  # other roles keep their names


def trl(trace: Trace) -> dict[str, Any]:
    """TRL's conversational prompt-completion: SFTTrainer's loss is on the completion alone, as ours."""
    return {
        "id": trace.id,
        "problem": trace.problem.id,
        "prompt": [turn._asdict() for turn in turns(trace.prompt)],
        "completion": [{"role": "assistant", "content": trace.text}],
    }


def sharegpt(trace: Trace) -> dict[str, Any]:
    """ShareGPT's conversations (LLaMA-Factory, Axolotl): from human and gpt."""
    told = [*turns(trace.prompt), Message("assistant", trace.text)]
    conversations = [{"from": _SHAREGPT.get(turn.role, turn.role), "value": turn.content} for turn in told]
    return {"id": trace.id, "problem": trace.problem.id, "conversations": conversations}


LAYOUTS: Mapping[str, Callable[[Trace], dict[str, Any]]] = MappingProxyType({"trl": trl, "sharegpt": sharegpt})


def rows(traces: Iterable[Trace], layout: str) -> list[dict[str, Any]]:
    """The rows of traces; StageError where the layout has no place for what a trace says about its training."""
    return [LAYOUTS[layout](_whole(trace, layout)) for trace in traces]


def write(made: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    """JSON lines; ASCII, so that lone surrogates and odd line ends come back as they were."""
    for row in made:
        file.write(json.dumps(row) + "\n")


def turns(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as turns; a bare string is what the user says."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _whole(trace: Trace, layout: str) -> Trace:
    masked = trace.given > 0 or any(span.weight != 1.0 or span.kind in ("tool", "user") for span in trace.spans)
    lost = [
        name
        for name, there in (("a rejected trace", trace.rival), ("masked text", masked), ("a weight", trace.weight != 1))
        if there
    ]
    if lost:
        raise StageError(
            f"row {trace.id} has {' and '.join(lost)}, which the layout {layout!r} can't say",
            expected="rows whose whole text is learnt with weight 1",
            fix="read the run's rows/ARM.jsonl, or train them with potstill",
        )
    return trace
