"""The layouts in which people keep recorded answers, as pure functions: a row gives a question and recordings.

Seen, and where:
  Open-R1          problem, solution, answer, generations[], correctness_math_verify[], correctness_llama[] (or null),
                   is_reasoning_complete[], finish_reasons[], messages: programs that read open-r1/OpenR1-Math-220k
  OpenThoughts     system, conversations[{from, value}] with <|begin_of_thought|> … <|end_of_solution|>, and the config
                   `metadata`: problem, deepseek_reasoning, deepseek_solution, ground_truth_solution: a copy of the card
                   of open-thoughts/OpenThoughts-114k; the card of open-r1/OpenThoughts-114k-math, which adds problem,
                   solution (the gold one), messages (of the gold solution), correct
  s1K, s1K-1.1     question, solution, thinking_trajectories[], attempt; {deepseek,gemini}_thinking_trajectory,
                   {deepseek,gemini}_attempt, deepseek_grade: programs that read simplescaling/s1K and s1K-1.1
  GSM8K            question, ground_truth, a column a model {is_correct, solution}: openai/grade-school-math's file
Inferred from their names, as everybody uses them: messages, ShareGPT, Alpaca, prompt/completion, chosen/rejected (TRL),
question/reasoning/answer, and that deepseek_grade is "Yes" or "No".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from potstill.errors import ConfigError, InputError
from potstill.records import Message, Prompt

QUESTIONS = ("question", "problem", "prompt", "instruction", "query")
COMPLETIONS = ("completions", "completion", "responses", "response", "outputs", "output", "generations", "generation",
               "samples", "reasoning", "code", "solution")  # fmt: skip
CHATS = ("conversations", "messages")
LABELS = ("is_correct", "correct", "label", "score", "correctness_math_verify", "deepseek_grade")
REASONINGS = (
    "reasoning",
    "reasoning_content",
    "thinking",
    "thinking_trajectory",
    "thought",
    "chain_of_thought",
)
REPLIES = ("completion", "response", "output", "attempt", "answer", "final_answer")
# Reasoning and reply in two columns, under names that say whose they are.
PAIRS = (
    ("deepseek_thinking_trajectory", "deepseek_attempt", "s1K-1.1"),
    ("gemini_thinking_trajectory", "gemini_attempt", "s1K-1.1"),
    ("thinking_trajectories", "attempt", "s1K"),
    ("deepseek_reasoning", "deepseek_solution", "OpenThoughts"),
)
FINISHES = ("finish", "finish_reason", "finish_reasons", "is_reasoning_complete")
BY_MODEL = "a column a model"
FIELDS = ("question", "completion", "reasoning", "answer", "label", "finish")
_BEFORE_CHATS = COMPLETIONS[: COMPLETIONS.index("reasoning")]
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_THOUGHT = re.compile(
    r"\s*<\|begin_of_thought\|>(.*?)<\|end_of_thought\|>\s*(?:<\|begin_of_solution\|>)?(.*?)"
    r"(?:<\|end_of_solution\|>)?\s*",
    re.DOTALL,
)
_TRUTHS: Mapping[Any, bool] = {"yes": True, "no": False, "true": True, "false": False}


class Recording(NamedTuple):
    """One recorded completion, how it ended, what its file says of it, and the column that it comes from."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    label: bool | None = None
    tokens: int = 0
    column: str = ""


class Columns(NamedTuple):
    """Which columns hold what; `reasoning` and `completion` belong together, one by one. "" is: found row by row."""

    layout: str
    completion: tuple[str, ...]
    question: str = ""
    reasoning: tuple[str, ...] = ()
    label: str = ""
    finish: str = ""

    def shown(self) -> dict[str, str]:
        """Field -> column, as one can give them back."""
        reply = "answer" if self.reasoning else "completion"
        fields = {
            "question": self.question,
            "reasoning": ",".join(self.reasoning),
            reply: ",".join(self.completion),
            "label": self.label,
            "finish": self.finish,
        }
        return {name: column for name, column in fields.items() if column}


def guess(row: Mapping[str, Any], given: Mapping[str, str], where: str) -> Columns:
    """The columns of a row's layout; those in `given` (question, completion, reasoning, answer, label, finish) win."""
    _check_given(row, given, where)
    if is_trace(row):
        return Columns("potstill traces", ("text",), "problem")
    reply = given.get("completion") or given.get("answer") or ""
    found = _replies(row, reply, given.get("reasoning"), where)
    question = given.get("question") or next(
        (n for n in (*QUESTIONS, *CHATS, "chosen") if row.get(n)), ""
    )
    label = given.get("label") or next((n for n in LABELS if row.get(n) is not None), "")
    finish = given.get("finish") or next((n for n in FINISHES if row.get(n) is not None), "")
    return found._replace(question=question, label=label, finish=finish)


def _check_given(row: Mapping[str, Any], given: Mapping[str, str], where: str) -> None:
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        raise ConfigError(
            f"no field {unknown[0]!r} of recordings", available=FIELDS, wanted=unknown[0]
        )
    if given.get("completion") and given.get("answer"):
        fix = "give reasoning and answer where they are two columns, else completion alone"
        raise ConfigError("completion and answer are both given", expected="one of them", fix=fix)
    for name, columns in given.items():
        for column in columns.split(","):
            if column and column not in row:
                fix = f"choose one of the row's columns: ?{name}={next(iter(row), 'COLUMN')}"
                found = f"{where} has no column {column!r}"
                raise ConfigError(
                    found, expected=f"the {name}", available=row, wanted=column, fix=fix
                )


def _replies(row: Mapping[str, Any], reply: str, reasoning: str | None, where: str) -> Columns:
    """Layout, completion columns and reasoning columns."""
    if reasoning:
        replies = tuple((reply or _first(row, REPLIES) or "").split(","))
        if not replies[0]:
            raise InputError(
                f"{where} has no column for what follows the reasoning",
                available=row,
                fix="?answer=COL",
            )
        return Columns("question/reasoning/answer", replies, reasoning=tuple(reasoning.split(",")))
    if reply:
        return Columns("columns as given", tuple(reply.split(",")))
    if row.get("chosen") and row.get("rejected"):
        return Columns("preference", ("chosen", "rejected"))
    models = tuple(
        name
        for name, value in row.items()
        if isinstance(value, Mapping) and text_of(value) is not None
    )
    if models:
        return Columns(BY_MODEL, models)
    pairs = [pair for pair in PAIRS if row.get(pair[0]) and row.get(pair[1])]
    if pairs and reasoning is None:
        return Columns(
            pairs[0][2], tuple(p[1] for p in pairs), reasoning=tuple(p[0] for p in pairs)
        )
    thought, said = _first(row, REASONINGS, str), _first(row, REPLIES, str)
    if (
        thought
        and said
        and reasoning is None
        and "</think>" not in row[said]
        and "</think>" not in row[thought]
    ):
        return Columns("question/reasoning/answer", (said,), reasoning=(thought,))
    for name in (*_BEFORE_CHATS, "conversations", "reasoning", "code", "solution", "messages"):
        if row.get(name):
            return Columns(_layout_name(row, name), (name,))
    fix = "name the column: recorded:FILE?completion=COLUMN, or --map completion=COLUMN"
    raise InputError(
        f"{where} has no completion",
        expected=f"one of {', '.join(COMPLETIONS)}",
        available=row,
        fix=fix,
    )


def _layout_name(row: Mapping[str, Any], column: str) -> str:
    named = {"conversations": "ShareGPT", "messages": "messages"}
    if column == "generations" and "correctness_math_verify" in row:
        return "Open-R1"
    if column == "output" and "instruction" in row:
        return "Alpaca"
    return named.get(column, "prompt/completion")


def _first(row: Mapping[str, Any], names: Sequence[str], kind: type = object) -> str:
    return next((name for name in names if row.get(name) and isinstance(row[name], kind)), "")


def question(row: Mapping[str, Any], column: str, where: str) -> str:
    """The question of a row, from the named column, else from the first of QUESTIONS or the chat that it has."""
    told = prompt(row, column)
    if isinstance(told, str):
        text: str | None = told
    else:
        text = next((turn.content for turn in reversed(told) if turn.role == "user"), None)
    if text and text.strip():
        return text
    names = (column,) if column else (*QUESTIONS, *CHATS)
    fix = "name the column: recorded:FILE?question=COLUMN, or --map question=COLUMN"
    raise InputError(
        f"{where} has no question",
        expected=f"a text under {', '.join(names)}",
        available=row,
        fix=fix,
    )


def prompt(row: Mapping[str, Any], column: str = "") -> Prompt:
    """What stood before the completion: a text, or the turns before the last answer; "" where there is nothing."""
    names = (column,) if column else (*QUESTIONS, *CHATS, "chosen")
    name = next((name for name in names if row.get(name)), "")
    value = row.get(name)
    if is_trace(row) and isinstance(value, Mapping):
        return str(value.get("question") or "")
    turns = chat(value)
    if turns:
        asked = turns[:-1] if turns[-1].role == "assistant" else turns
        alone = len(asked) == 1 and asked[0].role == "user"
        return asked[0].content if alone else tuple(asked)
    if not isinstance(value, str):
        return ""
    more = row.get("input") if name == "instruction" else None
    return f"{value}\n\n{more}" if isinstance(more, str) and more.strip() else value


def recordings(row: Mapping[str, Any], columns: Columns, where: str) -> list[Recording]:
    """The completions of a row, in the order of columns and, within one, of its list."""
    if is_trace(row) and row.get("error"):
        return []
    made: list[Recording] = []
    for at, column in enumerate(columns.completion):
        if column not in row:
            fix = f"choose one of the row's columns: ?column={next(iter(row), 'COLUMN')}"
            raise InputError(
                f"{where} has no column {column!r}", available=row, wanted=column, fix=fix
            )
        said = row[column]
        several = isinstance(said, list) and not chat(said)
        items = said if several else [said]
        thoughts = _thoughts(
            row, columns.reasoning[at] if at < len(columns.reasoning) else "", len(items), where
        )
        for index, item in enumerate(items):
            place = index if several else None
            made.append(_recording(item, thoughts[index], row, columns, (column, place, where)))
    return made


def _thoughts(row: Mapping[str, Any], column: str, count: int, where: str) -> list[str]:
    """The reasoning before each of `count` replies; of several trajectories to one reply all, one after the other."""
    value = row.get(column) if column else None
    parts = [part for part in value if isinstance(part, str)] if isinstance(value, list) else None
    if parts is not None and len(parts) != count:
        if count != 1:
            found = f"{where}: {len(parts)} texts in {column!r} for {count} replies"
            raise InputError(found, expected="as many as replies", fix="correct or remove the row")
        parts = ["\n\n".join(parts)]
    return parts or [value if isinstance(value, str) else ""] * count


def _recording(
    item: Any,
    thought: str,
    row: Mapping[str, Any],
    columns: Columns,
    at: tuple[str, int | None, str],
) -> Recording:
    """One completion; its label stands beside its text, or in the row (in a list, at the same place)."""
    column, index, where = at
    text, beside = text_of(item), item if isinstance(item, Mapping) else row
    if text is None:
        raise InputError(
            f"{where}, {column}: no completion in {str(item)[:60]!r}",
            expected="a text, a {solution: …} or a list of them",
            fix="correct or remove the row, or leave bad rows out with --skip-bad",
        )
    text = joined(thought, text) if thought else text
    names = (columns.label,) if columns.label in beside else LABELS
    label = next((beside[name] for name in names if beside.get(name) is not None), None)
    if columns.layout == "preference":
        label = column == "chosen"
    if is_trace(row):
        label = (row.get("scores") or {}).get("label")
    truth = _truth(_at(label, index))
    return Recording(text, _finish(beside, columns.finish, index), truth, len(text.split()), column)


def _at(value: Any, index: int | None) -> Any:
    if isinstance(value, list):
        return value[index] if index is not None and index < len(value) else None
    return value


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return (
        bool(value)
        if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))
        else None
    )


def _finish(beside: Mapping[str, Any], column: str, index: int | None) -> Literal["stop", "length"]:
    for name in dict.fromkeys((column, *FINISHES)):
        value = _at(beside.get(name), index)
        if value == "length" or (value is False and name == "is_reasoning_complete"):
            return "length"
        if value is not None:
            return "stop"
    return "stop"


def text_of(item: Any) -> str | None:
    """The text of a cell: itself, the last answer of a chat, or what stands in an object; reasoning joined to it."""
    if isinstance(item, str):
        return canonical(item)
    if isinstance(item, Mapping):
        thought = item.get(_first(item, REASONINGS, str), "")
        names = (*REPLIES, *COMPLETIONS) if thought else (*COMPLETIONS, "text", "content")
        said = item.get(_first(item, [name for name in names if name not in REASONINGS], str))
        if not thought or said is None:
            return said if said is None else canonical(said)
        return canonical(said) if "</think>" in said else joined(thought, said)
    turns = chat(item)
    return (
        (canonical(turns[-1].content) or None) if turns and turns[-1].role == "assistant" else None
    )


def chat(value: Any) -> list[Message]:
    """The turns of a list of {role, content} or {from, value}; nothing where it is no chat."""
    turns: list[Message] = []
    for turn in value if isinstance(value, list) else ():
        who = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        if not isinstance(who, str):
            return []
        said = _said(turn.get("content", turn.get("value")))
        thought = next((turn[name] for name in REASONINGS if isinstance(turn.get(name), str)), "")
        turns.append(Message(_ROLES.get(who, who), joined(thought, said) if thought else said))
    return turns


def _said(content: Any) -> str:
    """A turn's text; of a list of parts those that are text."""
    if isinstance(content, list):
        return "".join(
            p["text"] for p in content if isinstance(p, Mapping) and isinstance(p.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def canonical(text: str) -> str:
    """OpenThoughts' markers as <think>; any other text as it is."""
    if "<|begin_of_thought|>" not in text:
        return text
    whole = _THOUGHT.fullmatch(text)
    if whole:
        return joined(whole[1].strip(), whole[2].strip())
    return text.replace("<|begin_of_thought|>", "<think>").replace("<|end_of_thought|>", "</think>")


def joined(reasoning: str, answer: str) -> str:
    """Reasoning and answer as one text."""
    if not reasoning.strip():
        return answer
    return "<think>\n" + reasoning.strip("\n") + "\n</think>\n\n" + answer.strip("\n")


def is_trace(row: Mapping[str, Any]) -> bool:
    """Whether a row is a trace as `potstill import` writes them."""
    return isinstance(row.get("problem"), Mapping) and {"text", "operator", "prompt"} <= row.keys()
