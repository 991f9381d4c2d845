"""Traces in the layouts that other trainers read, text unchanged: TRL, ShareGPT, Alpaca, messages, preference pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TextIO

from potstill.data.metadata_columns import columns_of
from potstill.errors import StageError
from potstill.records import LEARNING_KINDS, Message, Prompt, Trace, learnt_stretches
from potstill.traces import pair

UNFINISHED = ("length", "cut", "stop_string", "unknown")
"""Finish reasons of texts that end before their answer does."""

_SHAREGPT_ROLES = MappingProxyType({"user": "human", "assistant": "gpt"})  # others keep their names


def trl(trace: Trace) -> dict[str, Any]:
    """TRL's conversational prompt-completion: SFTTrainer's loss is on the completion alone, as ours."""
    return {**_ids(trace), "prompt": _chat(trace.prompt), "completion": _answer_turns(trace)}


def trl_text(trace: Trace) -> dict[str, Any]:
    """TRL's plain prompt-completion: two texts, to which no chat template is applied."""
    return {**_ids(trace), "prompt": _only_question(trace, "trl-text"), "completion": trace.text}


def sharegpt(trace: Trace) -> dict[str, Any]:
    """ShareGPT's conversations (LLaMA-Factory, Axolotl): from human and gpt."""
    conversations = []
    for turn in (*prompt_turns(trace.prompt), Message("assistant", trace.text)):
        speaker = _SHAREGPT_ROLES.get(turn.role, turn.role)
        conversations.append({"from": speaker, "value": turn.content})
    return {**_ids(trace), "conversations": conversations}


def alpaca(trace: Trace) -> dict[str, Any]:
    """Alpaca's instruction, input (empty) and output; a system turn stands under `system`."""
    row = {
        **_ids(trace),
        "instruction": _only_question(trace, "alpaca"),
        "input": "",
        "output": trace.text,
    }
    for turn in prompt_turns(trace.prompt):
        if turn.role == "system":
            row["system"] = turn.content
    return row


def messages(trace: Trace) -> dict[str, Any]:
    """OpenAI's messages, as its fine-tuning takes them, and TRL's conversational language modelling."""
    return {**_ids(trace), "messages": [*_chat(trace.prompt), *_answer_turns(trace)]}


def openai(trace: Trace) -> dict[str, Any]:
    """A vendor's fine-tuning file: messages and nothing else, since vendors refuse other keys."""
    return {"messages": messages(trace)["messages"]}


def preference(trace: Trace) -> dict[str, Any]:
    """TRL's explicit-prompt preference rows (DPOTrainer): prompt, chosen and rejected, all conversational."""
    if trace.rejected is None:
        raise StageError(
            f"row {trace.id} has no rejected trace, which the layout 'preference' needs",
            expected="traces with a rival",
            fix="--pairs makes them of right and wrong attempts at one problem",
        )
    return {
        **_ids(trace),
        "prompt": _chat(trace.prompt),
        "chosen": _answer_turns(trace),
        "rejected": _answer_turns(_check_whole(trace.rejected, "preference")),
    }


LAYOUTS: Mapping[str, Callable[[Trace], dict[str, Any]]] = MappingProxyType(
    {
        "trl": trl,
        "trl-text": trl_text,
        "sharegpt": sharegpt,
        "alpaca": alpaca,
        "messages": messages,
        "openai": openai,
        "preference": preference,
    }
)


def export_rows(traces: Iterable[Trace], layout: str) -> list[dict[str, Any]]:
    """The rows of traces; StageError where the layout has no place for what a trace says about its training.

    Where one of them is not finished, all say how they ended, in `finish_reason` and `stop_string`, but for `openai`,
    whose rows hold messages and nothing else.
    """
    exported = list(traces)
    # All rows say how they ended, or none: a row that says nothing among others would count as not known.
    with_ends = any(trace.finish_reason != "stop" for trace in exported)
    return [export_row(trace, layout, with_end=with_ends) for trace in exported]


def export_row(trace: Trace, layout: str, *, with_end: bool) -> dict[str, Any]:
    """The row of a trace; with its end where a row of the file is not finished, and the layout has a place for it."""
    row = LAYOUTS[layout](_check_whole(trace, layout))
    if with_end and layout != "openai":
        row |= {"finish_reason": trace.finish_reason, "stop_string": trace.stop_string}
    return row


def unfinished_note(traces: Iterable[Trace]) -> str:
    """How many rows do not end with an end of answer, which other trainers teach behind every row; "" for none."""
    return describe_unfinished(Counter(trace.finish_reason or "unknown" for trace in traces))


def describe_unfinished(finish_reasons: Mapping[str, int]) -> str:
    """The same of the rows' finish reasons, counted."""
    reasons = Counter(finish_reasons)
    del reasons["stop"]
    if not reasons:
        return ""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    return (
        f"{reasons.total():,} rows are not finished ({counts}). Potstill learns no end of turn there; other trainers "
        "do, unless you leave these rows out: where the layout has a place for it, finish_reason says which they are."
    )


def make_pairs(traces: Iterable[Trace], k: int = 1) -> list[Trace]:
    """Right attempts with a wrong one of the same problem and prompt as rival, at most `k` a problem.

    Where nothing was judged, the file's own label counts. Unparsed is never taken for wrong, and neither is an answer
    that was cut off: a rejected text that merely ends too early would teach length.
    """
    right: list[Trace] = []
    wrong: list[Trace] = []
    for trace in traces:
        is_whole = trace.text and not trace.error and _is_learnt_whole(trace)
        is_whole = is_whole and trace.finish_reason not in UNFINISHED
        status = _status_or_label(trace) if is_whole else ""
        if status == "right":
            right.append(trace.annotate(rejected=None))
        elif status == "wrong":
            wrong.append(trace)
    return [trace for trace in pair(right, wrong, by=_problem_and_prompt, k=k) if trace.rejected]


def write_json_lines(rows: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    """JSON lines; ASCII, so that lone surrogates and odd line ends come back as they were."""
    for row in rows:
        file.write(json.dumps(row) + "\n")


def prompt_turns(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as turns; a bare string is what the user says."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _problem_and_prompt(trace: Trace) -> tuple[str, Prompt]:
    return trace.problem.id, trace.prompt


def _status_or_label(trace: Trace) -> str:
    """The verdict's status; where nothing was judged, what the file's label says."""
    label = trace.scores.get("label")
    if trace.verdict.status != "unjudged" or label is None:
        return trace.verdict.status
    return "right" if label == 1.0 else "wrong"


def _ids(trace: Trace) -> dict[str, Any]:
    return {"id": trace.id, "problem_id": trace.problem.id, **columns_of(trace.problem)}


def _chat(prompt: Prompt) -> list[dict[str, str]]:
    return [turn._asdict() for turn in prompt_turns(prompt)]


def _answer_turns(trace: Trace) -> list[dict[str, str]]:
    return [Message("assistant", trace.text)._asdict()]


def _only_question(trace: Trace, layout: str) -> str:
    """The one thing that the user says; a system turn before it only where the layout has a place for it."""
    turns = prompt_turns(trace.prompt)
    roles = [turn.role for turn in turns]
    if roles == ["user"] or (layout == "alpaca" and roles == ["system", "user"]):
        return turns[-1].content
    raise StageError(
        f"row {trace.id} has the turns {', '.join(roles)}, which the layout {layout!r} can't say",
        expected="one user turn",
        fix="--format trl or --format messages",
    )


def _is_learnt_whole(trace: Trace) -> bool:
    """Whether all of the text is learnt, with one weight."""
    has_weights = False
    for span in trace.spans:
        has_weights = has_weights or (span.weight != 1.0 and span.kind not in LEARNING_KINDS)
    return not has_weights and learnt_stretches(trace) in ([], [(0, len(trace.text))])


def _check_whole(trace: Trace, layout: str) -> Trace:
    """The trace, where a layout can say all that it says about its training.

    Raises:
        StageError: a rival, masked text or a weight that would be lost.
    """
    fix = "read the run's rows/ARM.jsonl, or train them with potstill"
    lost = []
    if trace.rejected and layout != "preference":
        lost.append("a rejected trace")
        fix += "; --format preference keeps rejected traces"
    if not _is_learnt_whole(trace):
        lost.append("masked text")
    if trace.weight != 1:
        lost.append("a weight")
    if lost:
        raise StageError(
            f"row {trace.id} has {' and '.join(lost)}, which the layout {layout!r} can't say",
            expected="rows whose whole text is learnt with weight 1",
            fix=fix,
        )
    return trace
