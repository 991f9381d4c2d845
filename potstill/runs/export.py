"""Traces in the layouts that other trainers read, text unchanged: TRL, ShareGPT, Alpaca, messages, preference pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from potstill.data.atomic_write import replacing
from potstill.errors import StageError
from potstill.records import Message, Prompt, Trace
from potstill.traces import pair

_SHAREGPT = MappingProxyType({"user": "human", "assistant": "gpt"})  # other roles keep their names


def trl(trace: Trace) -> dict[str, Any]:
    """TRL's conversational prompt-completion: SFTTrainer's loss is on the completion alone, as ours."""
    return {**_named(trace), "prompt": _chat(trace.prompt), "completion": _said(trace)}


def trl_text(trace: Trace) -> dict[str, Any]:
    """TRL's plain prompt-completion: two texts, to which no chat template is applied."""
    return {**_named(trace), "prompt": _asked(trace, "trl-text"), "completion": trace.text}


def sharegpt(trace: Trace) -> dict[str, Any]:
    """ShareGPT's conversations (LLaMA-Factory, Axolotl): from human and gpt."""
    told = [*turns(trace.prompt), Message("assistant", trace.text)]
    conversations = [
        {"from": _SHAREGPT.get(turn.role, turn.role), "value": turn.content} for turn in told
    ]
    return {**_named(trace), "conversations": conversations}


def alpaca(trace: Trace) -> dict[str, Any]:
    """Alpaca's instruction, input (empty) and output; a system turn stands under `system`."""
    system = [turn.content for turn in turns(trace.prompt) if turn.role == "system"]
    row = {
        **_named(trace),
        "instruction": _asked(trace, "alpaca"),
        "input": "",
        "output": trace.text,
    }
    return {**row, "system": system[0]} if system else row


def messages(trace: Trace) -> dict[str, Any]:
    """OpenAI's messages, as its fine-tuning takes them, and TRL's conversational language modelling."""
    return {**_named(trace), "messages": [*_chat(trace.prompt), *_said(trace)]}


def preference(trace: Trace) -> dict[str, Any]:
    """TRL's explicit-prompt preference rows (DPOTrainer): prompt, chosen and rejected, all conversational."""
    if trace.rival is None:
        raise StageError(
            f"row {trace.id} has no rejected trace, which the layout 'preference' needs",
            expected="traces with a rival",
            fix="--pairs makes them of right and wrong attempts at one problem",
        )
    return {
        **_named(trace),
        "prompt": _chat(trace.prompt),
        "chosen": _said(trace),
        "rejected": _said(_whole(trace.rival, "preference")),
    }


LAYOUTS: Mapping[str, Callable[[Trace], dict[str, Any]]] = MappingProxyType(
    {
        "trl": trl,
        "trl-text": trl_text,
        "sharegpt": sharegpt,
        "alpaca": alpaca,
        "messages": messages,
        "preference": preference,
    }
)


def rows(traces: Iterable[Trace], layout: str) -> list[dict[str, Any]]:
    """The rows of traces; StageError where the layout has no place for what a trace says about its training."""
    return [LAYOUTS[layout](_whole(trace, layout)) for trace in traces]


def pairs(traces: Iterable[Trace], k: int = 1) -> list[Trace]:
    """Right attempts with a wrong one of the same problem and prompt as rival, at most `k` a problem.

    Where nothing was judged, the file's own label counts. Unparsed is never taken for wrong, and neither is an answer
    that was cut off: a rejected text that merely ends too early would teach length.
    """
    whole = [t for t in traces if t.text and not t.error and not t.given and t.finish != "length"]
    good, bad = ([t for t in whole if _status(t) == status] for status in ("right", "wrong"))
    plain = [trace.annotate(rival=None) for trace in good]
    return [trace for trace in pair(plain, bad, by=_asking, k=k) if trace.rival]


def _asking(trace: Trace) -> tuple[str, Prompt]:
    return trace.problem.id, trace.prompt


def _status(trace: Trace) -> str:
    if trace.verdict.status != "unjudged":
        return trace.verdict.status
    label = trace.scores.get("label")
    return "unjudged" if label is None else "right" if label == 1.0 else "wrong"


def write(made: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    """JSON lines; ASCII, so that lone surrogates and odd line ends come back as they were."""
    for row in made:
        file.write(json.dumps(row) + "\n")


def save(made: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows as a .parquet file, or else as JSON lines; whole or not at all."""
    with replacing(path) as draft:
        if path.suffix == ".parquet":
            _parquet(made, draft)
        else:
            with draft.open("w", encoding="ascii") as file:
                write(made, file)


def _parquet(made: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.Table.from_pylist([dict(row) for row in made])
    except (UnicodeEncodeError, pyarrow.ArrowException) as error:
        raise StageError(
            f"the rows can't be written as parquet: {' '.join(str(error).split())[:200]}",
            expected="texts that UTF-8 can hold",
            fix="write them as .jsonl, which keeps half characters",
        ) from error
    pyarrow.parquet.write_table(table, path, compression="zstd", write_page_checksum=True)


def turns(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as turns; a bare string is what the user says."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _named(trace: Trace) -> dict[str, Any]:
    return {"id": trace.id, "problem_id": trace.problem.id}


def _chat(prompt: Prompt) -> list[dict[str, str]]:
    return [turn._asdict() for turn in turns(prompt)]


def _said(trace: Trace) -> list[dict[str, str]]:
    return [Message("assistant", trace.text)._asdict()]


def _asked(trace: Trace, layout: str) -> str:
    """The one thing that the user says; a system turn before it only where the layout has a place for it."""
    told = turns(trace.prompt)
    roles = [turn.role for turn in told]
    if roles == ["user"] or (layout == "alpaca" and roles == ["system", "user"]):
        return told[-1].content
    raise StageError(
        f"row {trace.id} has the turns {', '.join(roles)}, which the layout {layout!r} can't say",
        expected="one user turn",
        fix="--format trl or --format messages",
    )


def _whole(trace: Trace, layout: str) -> Trace:
    masked = trace.given > 0 or any(
        span.weight != 1.0 or span.kind in ("tool", "user") for span in trace.spans
    )
    rival = bool(trace.rival) and layout != "preference"
    lost = [
        name
        for name, there in (
            ("a rejected trace", rival),
            ("masked text", masked),
            ("a weight", trace.weight != 1),
        )
        if there
    ]
    if lost:
        raise StageError(
            f"row {trace.id} has {' and '.join(lost)}, which the layout {layout!r} can't say",
            expected="rows whose whole text is learnt with weight 1",
            fix="read the run's rows/ARM.jsonl, or train them with potstill"
            + ("; --format preference keeps rejected traces" if rival else ""),
        )
    return trace
