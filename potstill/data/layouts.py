"""What one row says: the prompt, the question, and the completions that were recorded for it.

Layouts, and where they are from:
  Open-R1          problem, solution, answer, generations[], correctness_math_verify[], is_reasoning_complete[],
                   finish_reasons[], messages: open-r1/OpenR1-Math-220k
  OpenThoughts     system, conversations[{from, value}] with <|begin_of_thought|> … <|end_of_solution|>; `metadata` has
                   problem, deepseek_reasoning, deepseek_solution: open-thoughts/OpenThoughts-114k
  s1K, s1K-1.1     question, solution, thinking_trajectories[], attempt; {deepseek,gemini}_thinking_trajectory and
                   {deepseek,gemini}_attempt, deepseek_grade: simplescaling/s1K
  GSM8K            question, ground_truth, a column a model {is_correct, solution}: openai/grade-school-math
  preference       prompt, chosen, rejected (TRL); whole conversations; Anthropic's "\n\nHuman: … \n\nAssistant: …"
  by their names   messages, ShareGPT, Alpaca (instruction, input, output, system, history), prompt/completion,
                   question/reasoning/answer, KTO

Which column is what is chosen in `columns`. What changes the prompt and can't be used is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from potstill.data.choices import (
    NO_OPTIONS,
    Options,
    format_options,
    read_option_columns,
    read_options,
)
from potstill.data.columns import (
    CHAT_NAMES,
    COLUMNS_AS_GIVEN,
    OBJECT_TEXT_NAMES,
    PREFERENCE,
    REPLY_NAMES,
    Columns,
    cell_text,
    is_empty,
)
from potstill.data.labels import label_at, read_label
from potstill.data.messages import (
    Turn,
    join_reasoning,
    last_question,
    normalise_thought,
    parse_transcript,
    parse_turns,
    read_reasoning,
    to_prompt,
)
from potstill.errors import InputError
from potstill.records import (
    FINISH_REASON_KEYS,
    FinishReason,
    Prompt,
    read_finish_reason,
    split_reasoning,
)

Row: TypeAlias = Mapping[str, Any]

EMPTY_JSON_TEXTS = ("[]", "{}", "null")  # what tables of text write where there are no tools


class NoCompletionError(InputError):
    """A row without a column for completions: a problem alone."""


class RecordedCompletion(NamedTuple):
    """One completion of a row.

    Args:
        text: thought and reply, behind what the answer began with.
        finish_reason: how it ended.
        stop_string: which string ended it, where the file says it.
        finish_word: what the file says of its end, where that is in no table.
        label: what the file says of it: right, wrong, nothing.
        column: where it stands.
        prefix_length: how many characters of the text it began with, and which nobody learns.
        weight: of its turn.
    """

    text: str
    finish_reason: FinishReason = "stop"
    stop_string: str = ""
    finish_word: str = ""
    label: bool | None = None
    column: str = ""
    prefix_length: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class RowContent:
    """What a row says.

    Args:
        question: with its context, without its options: what the problem asks.
        prompt: what stood before the completions, options included.
        completions: in the order of columns and, within one, of its list; of a pair chosen and rejected.
    """

    question: str
    prompt: Prompt
    completions: tuple[RecordedCompletion, ...] = ()
    options: Options = NO_OPTIONS


def read_row(row: Row, columns: Columns, *, needs_question: bool = True) -> RowContent:
    """The question, the prompt and the completions of a row.

    Args:
        row: no trace.
        columns: as chosen for rows of this kind.
        needs_question: whether a row without a question is refused; rows of answers may name a problem by its id.

    Raises:
        InputError: a row without a completion, with a prompt that can't be told, or with columns that can't be used.
    """
    if needs_question and not columns.question and not columns.completion:
        raise _no_question(row)
    if not columns.completion:
        raise NoCompletionError(
            "no completion",
            expected="prompt and completion, question and response, messages that end with the assistant, or the like",
            available=list(row),
            fix="name the column: --map completion=COLUMN, or recorded:FILE?completion=COLUMN",
        )
    if columns.layout == PREFERENCE:
        _refuse_weights_of_pair(row)
    row_prompt = read_question(row, columns)

    # Each completion may bring its own conversation; all of them must answer one prompt.
    completions: list[RecordedCompletion] = []
    prompts: list[tuple[Turn, ...]] = []
    for position in range(len(columns.completion)):
        for completion, turns in _read_column(row, columns, position, row_prompt):
            completions.append(completion)
            prompts.append(turns)
    _check_own_answer(row_prompt.own_answer, completions, columns)

    # The whole prompt: system, history, and the turns that all completions share.
    turns = _only_prompt(prompts, row_prompt)
    turns = _add_history(turns, cell(row, columns.history))
    turns = _add_system(turns, cell(row, columns.system))
    question = row_prompt.question or last_question(turns)
    if needs_question and not question.strip():
        raise _no_question(row)
    return RowContent(question, to_prompt(turns), tuple(completions), row_prompt.options)


class RowPrompt(NamedTuple):
    """What the columns of a row's prompt ask.

    Args:
        turns: without the system's column and the history; none where the prompt stands in the completion's column.
        question: the last thing that the user says, with input and context, without options.
        options: of a multiple choice.
        is_conversation: whether a column holds the prompt as turns.
        own_answer: with which the conversation ended, beside completions in another column.
    """

    turns: tuple[Turn, ...]
    question: str
    options: Options
    is_conversation: bool = False
    own_answer: str = ""


def read_question(row: Row, columns: Columns) -> RowPrompt:
    """The prompt of a row's columns.

    Raises:
        InputError: tools, or a context that can't be shown.
    """
    tools = cell(row, columns.tools)
    if not is_empty(tools) and tools not in EMPTY_JSON_TEXTS:
        raise InputError(
            f"the column {columns.tools!r} offers tools, which prompts of role and text can't say",
            expected="rows without tools",
            fix="leave the row out with --skip-bad, or --map tools= to read it without them",
        )
    options = read_row_options(row, columns)
    # Where the question's column is the completions' too, their conversations hold the prompt.
    cells = [cell(row, column) for column in columns.question]
    if not cells or set(columns.question) <= set(columns.completion):
        return RowPrompt((), "", options)

    # A conversation; an answer at its end is compared with the completions.
    turns = parse_turns(cells[0]) if len(cells) == 1 else None
    if turns is not None:
        own_answer = ""
        if columns.question[0].lower() in CHAT_NAMES and turns[-1].role == "assistant":
            *turns, answer_turn = turns
            own_answer = answer_turn.content
        _check_context(row, columns, turns)
        return RowPrompt(
            tuple(turns),
            last_question(turns),
            options,
            is_conversation=True,
            own_answer=own_answer,
        )

    # A list is no text: joined by commas it would be a question that nobody wrote.
    for column, content in zip(columns.question, cells, strict=True):
        if isinstance(content, list | tuple) and len(content) > 1:
            raise InputError(
                f"the column {column!r} holds a list of {len(content)}",
                expected="the question as a text, or a conversation of turns with role and content",
                fix="leave the row out with --skip-bad, or --map question=COLUMN for a text",
            )

    # A text, with the options behind it where it does not show them itself.
    question = _compose_question(row, columns, cells)
    if not question:
        return RowPrompt((), "", options)
    prompt_text = question
    if options.texts and not _contains_all(question, options.texts):
        prompt_text = f"{question}\n\n{format_options(options.texts)}"
    return RowPrompt((Turn("user", prompt_text),), question, options)


def cell(row: Row, column: str) -> Any:
    """What stands in a column; nothing where there is no such column, also in tables with a nameless one."""
    if not column:
        return None
    return row.get(column)


def read_row_options(row: Row, columns: Columns) -> Options:
    """The options of a row, from one column or from a column each."""
    if len(columns.choices) > 1:
        return read_option_columns(row, columns.choices)
    if not columns.choices:
        return NO_OPTIONS
    return read_options(row.get(columns.choices[0]))


def _compose_question(row: Row, columns: Columns, cells: Sequence[Any]) -> str:
    """The question of text columns, with Alpaca's input behind it and its context before it."""
    for column, value in zip(columns.question, cells, strict=True):
        if isinstance(value, Mapping):
            raise InputError(
                f"the question in {column!r} is an object: {str(value)[:60]!r}",
                expected="a text, or a list of turns",
                fix="--map question=COLUMN",
            )
    # Several columns are joined; a single text stays as it is written.
    parts = [cell_text(value).strip() for value in cells]
    question = " ".join(parts).strip()
    if len(cells) == 1 and isinstance(cells[0], str) and question:
        question = cells[0]
    extra = cell_text(cell(row, columns.input))
    if question and extra.strip():
        question = f"{question}\n\n{extra}"
    context = _context_text(row, columns)
    if context and _squeeze(context) not in _squeeze(question):
        question = f"{context}\n\n{question}" if question else ""
    return question


def _context_text(row: Row, columns: Columns) -> str:
    """The text that a question is about."""
    value = cell(row, columns.context)
    if is_empty(value):
        return ""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value).strip()
    if isinstance(value, str):
        return value.strip()
    raise InputError(
        f"the column {columns.context!r} belongs to the question, and holds {str(value)[:60]!r}",
        expected="a text, or a list of texts",
        fix="write it into the question, or --map context= to read the rows without it",
    )


def _check_context(row: Row, columns: Columns, turns: Sequence[Turn]) -> None:
    """Refuse a context that a conversation does not show."""
    context = _squeeze(_context_text(row, columns))
    if context and not any(context in _squeeze(turn.content) for turn in turns):
        raise InputError(
            f"the column {columns.context!r} holds a text that the conversation does not show",
            expected="a conversation that says everything its answer was written from",
            fix="write it into the turns, or --map context= to read the rows without it",
        )


def _check_own_answer(
    own_answer: str, completions: Sequence[RecordedCompletion], columns: Columns
) -> None:
    """Refuse a conversation whose own answer is none of the completions: it would be lost.

    Where the user named the column of the completions, the conversation's answer is not wanted.
    """
    if not own_answer.strip() or columns.layout == COLUMNS_AS_GIVEN:
        return
    for completion in completions:
        _, reply = split_reasoning(completion.text)
        if _squeeze(own_answer) in (_squeeze(completion.text), _squeeze(reply)):
            return
    chat, column = columns.question[0], columns.completion[0]
    raise InputError(
        f"the conversation in {chat!r} ends with another answer than {column!r} holds: {own_answer[:60]!r}",
        expected="one answer, or the same one in both",
        fix=f"--map completion={column} or --map completion={chat} says which one is meant",
    )


def _add_history(turns: tuple[Turn, ...], history: Any) -> tuple[Turn, ...]:
    """The turns before, as Alpaca's list of [question, answer] or as a conversation."""
    if is_empty(history):
        return turns
    earlier = parse_turns(history) or []
    if not earlier:
        exchanges = history if isinstance(history, list | tuple) else [history]
        for exchange in exchanges:
            is_pair = isinstance(exchange, list | tuple) and len(exchange) == 2
            if not is_pair or not all(isinstance(text, str) for text in exchange):
                raise InputError(
                    f"the history holds {str(exchange)[:60]!r}",
                    expected="a list of [question, answer], or turns of {role, content}",
                    fix="correct the row, or --map history= to read the rows without it",
                )
            earlier += [Turn("user", exchange[0]), Turn("assistant", exchange[1])]
    # A conversation may begin with its history already.
    if _bare(turns[: len(earlier)]) == _bare(earlier):
        return turns
    # The system's turn stays in front.
    system_count = 1 if turns and turns[0].role == "system" else 0
    return (*turns[:system_count], *earlier, *turns[system_count:])


def _add_system(turns: tuple[Turn, ...], system: Any) -> tuple[Turn, ...]:
    """The system's turn first; the same one twice is one."""
    if is_empty(system):
        return turns
    if not isinstance(system, str):
        raise InputError(
            f"the system's text is {str(system)[:60]!r}",
            expected="a text",
            fix="correct the row, or --map system= to read the rows without it",
        )
    if not turns or turns[0].role not in ("system", "developer"):
        return (Turn("system", system), *turns)
    if _squeeze(turns[0].content) == _squeeze(system):
        return turns
    raise InputError(
        f"two texts for the system: {system[:60]!r} and {turns[0].content[:60]!r}",
        expected="one",
        fix="--map system= takes the one in the conversation",
    )


def _read_column(
    row: Row, columns: Columns, position: int, row_prompt: RowPrompt
) -> list[tuple[RecordedCompletion, tuple[Turn, ...]]]:
    """The completions of one column, each with the turns before it."""
    # A cell holds one completion or several, and thoughts stand in columns of their own.
    column = columns.completion[position]
    items = _items(row, column)
    thoughts = _read_thoughts(row, columns, position, len(items))
    results = []
    for index, item in enumerate(items):
        reply = _read_reply(item, columns, column)
        turns = _prompt_of(reply, row_prompt, row, columns)
        finish_reason, finish_word, stop_string = _read_finish(
            row, item, columns, index, len(items)
        )
        is_truncated = finish_reason in ("length", "stop_string")
        text = join_reasoning(thoughts[index], reply.text, is_truncated=is_truncated)
        # What the answer began with: an assistant's turn at the end of the prompt, and the column `prefix`.
        prefix = _read_prefix(row)
        if turns and turns[-1].role == "assistant":
            prefix = turns[-1].content + prefix
            turns = turns[:-1]
        if prefix.strip() and reply.text.startswith(prefix.rstrip()):
            raise InputError(
                f"{column} repeats how the answer begins: {prefix[:60]!r}",
                expected="completions that go on behind the prefix",
                fix="cut the beginning off the completion, or remove the prefix from the row",
            )
        completion = RecordedCompletion(
            text=prefix + text,
            finish_reason=finish_reason,
            stop_string=stop_string,
            finish_word=finish_word,
            label=_read_label(row, item, columns, (column, index, len(items))),
            column=column,
            prefix_length=len(prefix),
            weight=reply.weight,
        )
        results.append((completion, turns))
    return results


class _Reply(NamedTuple):
    """An answer, and the turns before it where it is a conversation."""

    text: str
    before: tuple[Turn, ...] = ()
    weight: float = 1.0


def _items(row: Row, column: str) -> list[Any]:
    """The completions in a cell: one, or those of a list."""
    value = row.get(column)
    if value is None:
        raise InputError(
            f"no completion: {column} is {value!r}",
            expected="a text, or a list of texts",
            fix="correct the row, or leave it out with --skip-bad",
        )
    if isinstance(value, str) and column.lower().endswith("s") and value.lstrip().startswith("["):
        try:
            value = json.loads(value)  # a CSV file holds lists as JSON text
        except ValueError:
            return [value]
    if isinstance(value, list) and parse_turns(value) is None:
        return value
    return [value]


def _read_reply(item: Any, columns: Columns, column: str) -> _Reply:
    """The answer in a text, a conversation or an object."""
    # An object is one turn where it has a role, and else a text under one of several names.
    is_object = isinstance(item, Mapping)
    if is_object and not isinstance(item.get("role", item.get("from")), str):
        return _Reply(_object_text(item, column))
    turns = parse_turns([item] if is_object else item)
    if turns is None and isinstance(item, str):
        if columns.layout != PREFERENCE or columns.question:
            return _Reply(normalise_thought(item))
        # The side of a pair without a prompt holds its whole conversation as one text.
        turns = parse_transcript(item)
    if turns is None:
        raise _no_completion(item, column)

    # Of a conversation the last turn is the answer, and what stands before it the prompt.
    *before, last = turns
    if last.role != "assistant":
        raise InputError(
            f"no completion: the turns of {column} end with the {last.role}'s",
            expected="turns that end with the assistant's",
            fix="correct the row, or leave it out with --skip-bad",
        )
    if before and before[-1].role == "assistant":
        raise InputError(
            f"two turns of the assistant end the turns of {column}",
            expected="a turn of the user, or of a tool, before the answer",
            fix="join the two turns, or leave the row out with --skip-bad",
        )
    return _Reply(last.content, tuple(before), last.weight)


def _object_text(item: Mapping[str, Any], column: str) -> str:
    """The text of a completion that is an object, its thought joined to it."""
    thought = read_reasoning(item)
    names = list(OBJECT_TEXT_NAMES)
    if thought:
        names = [*REPLY_NAMES, *OBJECT_TEXT_NAMES]
    for name in names:
        if isinstance(item.get(name), str):
            return join_reasoning(thought, normalise_thought(item[name]))
    raise _no_completion(item, column)


def _prompt_of(
    reply: _Reply, row_prompt: RowPrompt, row: Row, columns: Columns
) -> tuple[Turn, ...]:
    """The turns before a reply: those of the prompt's column, of its own conversation, or both, each once."""
    before = reply.before
    # Only one of both holds the prompt.
    if not before:
        return row_prompt.turns
    if not row_prompt.turns:
        _check_context(row, columns, before)
        return before
    # The conversation goes on behind the prompt.
    if before[0].role == "assistant":
        return (*row_prompt.turns, *before)
    # The conversation begins with the prompt, or repeats it but for the system's turn.
    prompt, conversation = _bare(row_prompt.turns), _bare(before)
    if conversation[: len(prompt)] == prompt:
        return before
    without_system = [turn for turn in prompt if turn[0] != "system"]
    if conversation == without_system:
        return row_prompt.turns
    # A question in a column of its own, and the conversation that asks it, perhaps with more words.
    if not row_prompt.is_conversation:
        question = _squeeze(row_prompt.question)
        if any(question in content for _, content in conversation):
            return before
    raise InputError(
        f"the conversation in {columns.completion[0]} answers another prompt than the row's: "
        f"{last_question(before)[:60]!r}, not {row_prompt.question[:60]!r}",
        expected="one prompt",
        fix="correct the row, or --map question= to read the conversation alone",
    )


def _only_prompt(prompts: Sequence[tuple[Turn, ...]], row_prompt: RowPrompt) -> tuple[Turn, ...]:
    """The one prompt of all completions of a row."""
    if not prompts:
        return row_prompt.turns
    for other in prompts[1:]:
        if _bare(other) != _bare(prompts[0]):
            raise InputError(
                f"the completions answer different prompts: {last_question(prompts[0])[:60]!r} "
                f"and {last_question(other)[:60]!r}",
                expected="one prompt a row",
                fix="correct the row, or leave it out with --skip-bad",
            )
    return prompts[0]


def _read_thoughts(row: Row, columns: Columns, position: int, count: int) -> list[str]:
    """The reasoning before each of `count` replies; of several pieces for one reply all, one after the other."""
    # Several completion columns have one reasoning column each; for one they are alternatives.
    names = columns.reasoning
    if len(columns.completion) > 1:
        names = names[position : position + 1]
    thoughts: list[tuple[str, list[str]]] = []
    for name in names:
        texts = _thoughts_of_cell(row.get(name), name, count)
        if any(text.strip() for text in texts):
            thoughts.append((name, texts))
    if not thoughts:
        return [""] * count
    # Servers give one thought under two names, at times cut in one of them; two thoughts are nobody's guess.
    name, texts = max(thoughts, key=lambda entry: sum(map(len, entry[1])))
    for other, others in thoughts:
        for text, other_text in zip(texts, others, strict=True):
            if other_text.strip() not in text:
                raise InputError(
                    f"{name!r} and {other!r} hold different thoughts",
                    expected="one thought a completion",
                    fix=f"--map reasoning={name}, or the other one",
                )
    return texts


def _thoughts_of_cell(value: Any, column: str, count: int) -> list[str]:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        if len(value) == count:
            return list(value)
        if count != 1:
            raise InputError(
                f"{len(value)} texts in {column!r} for {count} replies",
                expected="as many as replies",
                fix="correct or remove the row",
            )
        return ["\n\n".join(value)]
    # A switch in a column of thoughts ("off") says that there is none.
    return [read_reasoning({"reasoning": value})] * count


def _read_finish(
    row: Row, item: Any, columns: Columns, index: int, count: int
) -> tuple[FinishReason, str, str]:
    """How a completion ended, the worst of what is said of it; the word for it that nobody knows; the stop string."""
    own_names = [name for name in FINISH_REASON_KEYS if isinstance(item, Mapping) and name in item]
    beside, names = row, list(columns.finish_reason)
    if own_names:
        beside, names = item, own_names
    reasons: list[FinishReason] = []
    unknown_word = stop_string = ""
    # Collect what each column says of this completion.
    for name in names:
        value = _value_at(beside.get(name), index, count)
        if name == "stop_reason" and reasons:
            # vLLM's stop_reason is the token or the text at which it stopped, nothing at the end of the answer.
            if isinstance(value, str) and value and read_finish_reason(value) == "unknown":
                reasons, stop_string = [*reasons, "stop_string"], value
            continue
        if is_empty(value):
            continue
        key = name.lower()
        if key == "is_reasoning_complete" or isinstance(value, bool):
            value, key = read_label(value), "is_reasoning_complete"
        reason = read_finish_reason(value, key=key, in_file=True)
        if reason == "unknown":
            unknown_word = str(value)[:40]
        reasons.append(reason)
    if not reasons:
        if names:
            return "unknown", "nothing", ""
        return "stop", "", ""
    # Any bad end outweighs a good one, and an unknown one is not good.
    bad = [reason for reason in reasons if reason not in ("stop", "stop_string", "unknown")]
    if bad:
        return bad[0], "", ""
    if "unknown" in reasons:
        return "unknown", unknown_word, ""
    if "stop_string" in reasons:
        named = beside.get("stop_string")
        return "stop_string", "", stop_string or (named if isinstance(named, str) else "")
    return "stop", "", ""


def _value_at(value: Any, index: int, count: int) -> Any:
    """What a cell says of completion `index`: a list has one value each, a single value holds for all."""
    if not isinstance(value, list):
        return value
    if count == 1 and len(value) > 1 and len(set(map(str, value))) > 1:
        raise InputError(
            f"{len(value)} ends for one completion: {str(value)[:60]}",
            expected="one a completion",
            fix="name the column of the completions they belong to, or --map finish= to read no ends",
        )
    if index >= len(value):
        return None
    return value[index]


def _read_label(row: Row, item: Any, columns: Columns, at: tuple[str, int, int]) -> bool | None:
    """What the file says of a completion: inside its object, or in the row."""
    column, index, count = at
    if columns.layout == PREFERENCE:
        return column == columns.completion[0]
    if isinstance(item, Mapping):
        for name in columns.object_labels:
            if item.get(name) is not None:
                return read_label(item[name])
    return label_at(cell(row, columns.label), index, count, columns.label)


def _read_prefix(row: Row) -> str:
    """How the answer begins: text that both sides of a pair go on from, and that nobody learns (Step-DPO)."""
    value = row.get("prefix")
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"prefix is {value!r:.40}", expected="a text", fix="correct it, or rename the column"
        )
    return value or ""


def _refuse_weights_of_pair(row: Row) -> None:
    weight_columns = [name for name in ("weight", "spans") if row.get(name) and row[name] != 1]
    if weight_columns:
        raise InputError(
            f"a pair with {' and '.join(weight_columns)}",
            expected="pairs without: they are compared by sums of log-probabilities, which weights would bend",
            fix=f"leave the column out, or rename it: {', '.join(weight_columns)}",
        )


def _bare(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Roles and texts, without what spaces and weights add."""
    return [(turn.role, _squeeze(turn.content)) for turn in turns]


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _contains_all(text: str, parts: Sequence[str]) -> bool:
    return all(part in text for part in parts)


def _no_completion(item: Any, column: str) -> InputError:
    return InputError(
        f"no completion: {column} is {item!r:.40}",
        expected="a text, turns that end with the assistant's, a {solution: …}, or a list of them",
        fix="correct or remove the row, or leave bad rows out with --skip-bad",
    )


def _no_question(row: Row) -> InputError:
    return InputError(
        "no question",
        expected="a text or turns under question, problem, prompt, instruction, messages and the like",
        available=list(row),
        fix="name the column: --map question=COLUMN, or recorded:FILE?question=COLUMN",
    )
