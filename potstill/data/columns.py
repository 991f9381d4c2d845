"""Which column of a file holds what: the names under which people keep questions, completions, golds and labels.

Columns are chosen over a sample of rows, each by everything that stands in it and never by its first cell, which may be
null or empty. A file may mix rows of several layouts; a column then has one role in all of them, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from potstill.data import metadata_columns
from potstill.data.choices import option_columns
from potstill.data.labels import LABEL_NAMES, is_label_column
from potstill.data.messages import is_reasoning_switch, read_reasoning, reasoning_text
from potstill.errors import ConfigError, InputError
from potstill.records import FINISH_REASON_KEYS, REASONING_KEYS, canonical

Row: TypeAlias = Mapping[str, Any]
Purpose: TypeAlias = Literal["answers", "problems"]
"""Whether rows are read for their completions, or for their questions alone."""

SAMPLE_ROWS = 1_000

# Names of columns, best first; compared without case.
QUESTION_NAMES = ("question", "problem", "prompt", "instruction", "query")
CHAT_NAMES = ("conversations", "messages")
COMPLETION_NAMES = (
    *("completions", "completion", "responses", "response", "outputs", "output"),
    *("generations", "generation", "samples"),
)
# Read as completions only where a file has none of the columns above: `solution` is often the gold one.
FALLBACK_COMPLETION_NAMES = ("code", "solution")
# What follows the reasoning, where the reasoning has a column of its own and no column above holds the reply.
REPLY_NAMES = ("attempt", "answer", "final_answer")
# Columns of reasoning and of what follows it, under names that say whose they are.
REASONING_PAIRS = (
    ("deepseek_thinking_trajectory", "deepseek_attempt", "s1K-1.1"),
    ("gemini_thinking_trajectory", "gemini_attempt", "s1K-1.1"),
    ("thinking_trajectories", "attempt", "s1K"),
    ("deepseek_reasoning", "deepseek_solution", "OpenThoughts"),
)
GOLD_NAMES = (
    *("gold", "ground_truth", "expected_answer", "gt", "correct_answer", "answer", "final_answer"),
    *("answer_key", "answerkey", "reference", "target", "ground_truth_solution", "correct"),
    *("reward_model", "solution"),
)
SOLUTION_NAMES = ("solution", "rationale", "gt_cot", "reference_solution", "cot")
CHOICES_NAMES = ("choices", "options")
TABLE_NAMES = ("table", "schema", "database", "create_table_statement")
TESTS_NAMES = ("tests", "rubric", "criteria")
ID_NAMES = ("problem_id", "unique_id", "id")
WRITER_NAMES = ("model", "generator", "author")
# Columns that change the prompt; a row that has one which can't be used is refused.
SYSTEM_NAMES = ("system", "system_prompt", "system_message")
HISTORY_NAMES = ("history",)
CONTEXT_NAMES = ("context", "passage", "evidence")
TOOLS_NAMES = ("tools", "functions")
# Objects that describe a row, and are no completion of a model called by the column's name.
_DESCRIPTIONS = ("metadata", "meta", "info", "extra_info", "usage", "reward_model")

OBJECT_TEXT_NAMES = (*COMPLETION_NAMES, "attempt", "code", "solution", "text", "content")
"""Where the text of a completion stands that is an object."""

# Fields that --map and `recorded:FILE?field=` may name.
PROBLEM_FIELDS = (
    *("question", "answer", "id", "choices", "solution", "table", "tests"),
    *("context", "input", "history", "tools"),
    *(*metadata_columns.FIELDS, metadata_columns.OTHERS),
)
ANSWER_FIELDS = (
    *("question", "completion", "reasoning", "answer", "label", "finish_reason", "gold"),
    *("id", "choices", "solution", "table", "tests"),
    *("context", "input", "system", "history", "tools"),
    *(*metadata_columns.FIELDS, metadata_columns.OTHERS),
)

TRACES = "potstill traces"
PREFERENCE = "preference"
COLUMNS_AS_GIVEN = "columns as given"
BY_MODEL = "a column a model"
REASONING_AND_ANSWER = "question/reasoning/answer"


@dataclass(frozen=True)
class Columns:
    """Which columns of a file hold what; "" and () are: none.

    Args:
        layout: what people call files of this kind.
        question: joined in this order.
        completion: in the order of their completions; chosen and rejected for preference pairs.
        reasoning: one for each completion column; several for a single one are alternatives.
        finish_reason: all are read, and the worst counts.
        choices: one column with all options, or one for each.
        level: and rating, date, topic, source: what else a row says of its problem (`metadata_columns.FIELDS`).
        metadata: further columns that say such things, each under its own name.
        object_labels: keys of completions that are objects, under which they say whether they are right.
    """

    layout: str = ""
    question: tuple[str, ...] = ()
    completion: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    label: str = ""
    finish_reason: tuple[str, ...] = ()
    gold: str = ""
    id: str = ""
    choices: tuple[str, ...] = ()
    solution: str = ""
    table: str = ""
    tests: str = ""
    context: str = ""
    input: str = ""
    system: str = ""
    history: str = ""
    tools: str = ""
    writer: str = ""
    weight: str = ""
    spans: str = ""
    prefix: str = ""
    teacher_prompt: str = ""
    level: str = ""
    rating: str = ""
    date: str = ""
    topic: str = ""
    source: str = ""
    metadata: tuple[str, ...] = ()
    object_labels: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, str]:
        """Layout and fields with their columns, in the words in which --map takes them back."""
        mapping: dict[str, str] = {}
        for field in fields(self):
            text = getattr(self, field.name)
            if isinstance(text, tuple):
                joint = "+" if field.name == "question" else ","
                text = joint.join(text)
            if text and field.name != "object_labels":
                mapping[field.name] = text
        # What follows a thought in a column of its own is called the answer.
        if self.reasoning and self.completion:
            mapping["answer"] = mapping.pop("completion")
        return mapping

    def of_metadata(self) -> dict[str, str]:
        """The columns of the fields that say what else is known of a problem; "" for none."""
        return {field: getattr(self, field) for field in metadata_columns.FIELDS}

    def roles(self) -> dict[str, str]:
        """The field that each column is read as."""
        roles: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            columns = value if isinstance(value, tuple) else (value,)
            if field.name not in ("layout", "object_labels"):
                roles.update((column, field.name) for column in columns if column)
        return roles


def names_of_columns(rows: Iterable[Row]) -> list[str]:
    """The names of all columns, in the order in which they first come."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names)


def is_trace_record(row: Row) -> bool:
    """Whether a row is a trace, as `trace_json.to_json` writes them."""
    return isinstance(row.get("problem"), Mapping) and {"text", "operator", "prompt"} <= row.keys()


class Survey:
    """What a sample of a file's rows says of its columns, all rows together."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Collect the values of each column."""
        self.values: dict[str, list[Any]] = {}
        self.present_columns: set[str] = set()
        for row in rows:
            for column, value in row.items():
                values = self.values.setdefault(column, [])
                if not is_empty(value):
                    values.append(value)
                # An empty text may be a completion; null is nothing.
                if value is not None:
                    self.present_columns.add(column)
        self.object_labels = _find_object_labels(self.values)

    def live(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that hold something in some row."""
        return [column for column in columns if self.values.get(column)]

    def is_label(self, column: str) -> bool:
        """Whether a column says of every answer that it is right or wrong."""
        return is_label_column(self.values.get(column, ()))

    def is_reasoning(self, column: str) -> bool:
        """Whether a column holds thoughts: not a switch (`reasoning: on`), not labels."""
        for value in self.values.get(column, ()):
            if reasoning_text(value).strip() and not is_reasoning_switch(value):
                return True
        return False

    def is_metadata(self, column: str) -> bool:
        """Whether a column holds short texts, numbers or dates."""
        return metadata_columns.is_metadata(self.values.get(column, ()))

    def is_model(self, column: str) -> bool:
        """Whether a column holds one model's completions as objects, as GSM8K's recordings do."""
        values = self.values.get(column, ())
        if not values or column.lower() in (*_DESCRIPTIONS, *CHOICES_NAMES, *TABLE_NAMES):
            return False
        return all(isinstance(value, Mapping) and has_text(value) for value in values)


def _find_object_labels(values: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The keys of objects in cells under which all objects say right or wrong."""
    # All objects, those in lists included.
    objects: list[Mapping[str, Any]] = []
    for cells in values.values():
        for cell in cells:
            items = cell if isinstance(cell, list) else [cell]
            objects += [item for item in items if isinstance(item, Mapping)]
    names = []
    for name in LABEL_NAMES:
        labels = [item.get(name) for item in objects]
        if is_label_column(labels):
            names.append(name)
    return tuple(names)


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list | tuple):
        return all(item is None for item in value)
    return value is None or value == {}


def cell_text(value: Any) -> str:
    """A cell as text: 18.0 is "18", a list is joined by commas, nothing is ""."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(item) for item in value)
    return canonical(value) if isinstance(value, Mapping) else str(value)


def has_text(item: Mapping[str, Any]) -> bool:
    """Whether an object has the text of a completion in it."""
    names = list(OBJECT_TEXT_NAMES)
    if read_reasoning(item):
        names += REPLY_NAMES
    return any(isinstance(item.get(name), str) for name in names)


class ColumnChooser:
    """The columns of each row of a file, chosen from a sample of its rows.

    Args:
        rows: the sample.
        mapping: field -> column, where the choice is not to be made; "" for none. Several columns are joined by "+"
            (a question) or separated by "," (completions).
        purpose: "problems" looks for no completions.
        source: the file, for messages.
    """

    def __init__(
        self, rows: Sequence[Row], mapping: Mapping[str, str], purpose: Purpose, source: str
    ) -> None:
        """Survey the sample; the columns of a kind of row are chosen when the first of them is read."""
        self.source, self._purpose = source, purpose
        self._mapping = dict(mapping)
        self._survey = Survey([row for row in rows if not is_trace_record(row)])
        self._check_mapping(rows)
        self._chosen: dict[frozenset[str], Columns] = {}

    def choose(self, row: Row) -> Columns:
        """The columns of one row.

        Raises:
            InputError: a column that was empty in the whole sample, or would change its role from row to row.
        """
        if is_trace_record(row):
            key = frozenset([TRACES])
            traces = Columns(TRACES, ("problem",), ("text",))
            return self._chosen.setdefault(key, traces)
        key = frozenset(row)
        if key not in self._chosen:
            chosen = self._choose(list(row))
            self._check_roles(row, chosen)
            self._chosen[key] = chosen
        self._check_surprises(row)
        return self._chosen[key]

    @property
    def completion_columns(self) -> tuple[str, ...]:
        """The columns that completions were read from so far."""
        names: dict[str, None] = {}
        for columns in self._chosen.values():
            names.update(dict.fromkeys(columns.completion))
        return tuple(names)

    def has(self, field: str, rows: Iterable[Row]) -> bool:
        """Whether some kind of these rows has a column for a field."""
        kinds = {frozenset(row): list(row) for row in rows if not is_trace_record(row)}
        return any(getattr(self._choose(names), field) for names in kinds.values())

    def to_mapping(self) -> dict[str, str]:
        """Layout and fields with the columns they were read from, in the words in which --map takes them back.

        Where rows of several layouts stand in one file, each field has the columns of all of them, with "or" between.
        """
        texts: dict[str, dict[str, None]] = {}
        for columns in self._chosen.values():
            for field, text in columns.to_mapping().items():
                if self._purpose == "problems" and field == "gold":
                    field = "answer"
                texts.setdefault(field, {})[text] = None
        return {field: " or ".join(columns) for field, columns in texts.items()}

    def unread_columns(self) -> list[str]:
        """The columns with something in them that nothing was read from."""
        roles: dict[str, str] = {}
        for columns in self._chosen.values():
            roles |= columns.roles()
        return [column for column in self._survey.live(self._survey.values) if column not in roles]

    def scales(self) -> list[str]:
        """The columns that are called like labels and hold a scale or something else."""
        columns = self._survey.live(self._survey.values)
        named = [column for column in columns if column.lower() in LABEL_NAMES]
        unread = self.unread_columns()
        return [name for name in named if name in unread and not self._survey.is_label(name)]

    def _choose(self, names: Sequence[str]) -> Columns:
        """The columns of rows that have these names."""
        pick = _Picker(names, self._survey, self._mapping)
        answers = Columns()
        if self._purpose == "answers":
            answers = self._choose_answers(pick)
        question = self._choose_question(pick, answers)

        # A column is read as one thing: what holds completions or the question holds no gold answer.
        taken = {*answers.completion, *answers.reasoning, *question}
        gold = self._choose_gold(pick, taken)
        columns = replace(
            answers,
            question=question,
            gold=gold,
            finish_reason=self._choose_finish(pick),
            id=pick.one("id", ID_NAMES, taken=taken),
            choices=self._choose_options(pick),
            solution=pick.one("solution", SOLUTION_NAMES, taken={*taken, gold}),
            table=pick.one("table", TABLE_NAMES, taken=taken),
            tests=pick.one("tests", TESTS_NAMES, taken=taken),
            context=pick.one("context", CONTEXT_NAMES, taken=taken),
            history=pick.one("history", HISTORY_NAMES, taken=taken),
            tools=pick.one("tools", TOOLS_NAMES, taken=taken),
        )
        # `input` belongs to Alpaca's instruction, and means anything elsewhere.
        if question and question[0].lower() == "instruction":
            columns = replace(columns, input=pick.one("input", ("input",), taken=taken))
        # How a model is told to answer is no part of a problem: `system` is then among the unread columns.
        if self._purpose == "problems":
            return self._add_metadata(pick, columns)

        columns = replace(
            columns,
            system=pick.one("system", SYSTEM_NAMES, taken=taken),
            writer=pick.one("writer", WRITER_NAMES, taken=taken),
            weight=pick.one("weight", ("weight",)),
            spans=pick.one("spans", ("spans",)),
            prefix=pick.one("prefix", ("prefix",)),
            teacher_prompt=pick.one("teacher_prompt", ("teacher_prompt",)),
            object_labels=self._survey.object_labels,
        )
        # The sides of a pair say themselves which is right.
        if columns.layout != PREFERENCE:
            label = pick.one("label", LABEL_NAMES, test=self._survey.is_label)
            columns = replace(columns, label=label)
        return self._add_metadata(pick, columns)

    def _add_metadata(self, pick: _Picker, columns: Columns) -> Columns:
        """The columns with those that say what else is known of a problem, of those that have no role yet."""
        taken = set(columns.roles())
        chosen: dict[str, Any] = {}
        for field, names in metadata_columns.COLUMN_NAMES.items():
            column = pick.one(field, names, taken=taken, test=self._survey.is_metadata)
            if not column and field not in self._mapping:
                # Nothing stands in it so far; rows behind the sample may have something.
                free = [name for name in pick.named(names) if name not in taken]
                column = next((name for name in free if not self._survey.values.get(name)), "")
            chosen[field] = column
            taken.add(column)
        return replace(columns, **chosen, metadata=pick.mapped(metadata_columns.OTHERS))

    def _choose_answers(self, pick: _Picker) -> Columns:
        """Layout, completion columns and reasoning columns."""
        # What the user named.
        replies = pick.mapped("completion") or pick.mapped("answer")
        is_mapped = bool(self._mapping.get("completion") or self._mapping.get("answer"))
        if self._mapping.get("reasoning"):
            if not is_mapped:
                replies = pick.all_of((*COMPLETION_NAMES, *REPLY_NAMES))[:1]
            reasoning = pick.mapped("reasoning")
            return Columns(REASONING_AND_ANSWER, completion=replies, reasoning=reasoning)
        if is_mapped:
            reasoning = self._reasoning_beside(pick, replies)
            return Columns(COLUMNS_AS_GIVEN, completion=replies, reasoning=reasoning)

        # Names that leave no doubt.
        pair = pick.all_of(("chosen", "rejected"))
        if len(pair) == 2:
            self._reasoning_beside(pick, pair)
            return Columns(PREFERENCE, completion=pair)
        named = _named_reasoning(pick)
        if named and "reasoning" not in self._mapping:
            return named
        completion = self._completion_columns(pick)
        if completion:
            reasoning = self._reasoning_beside(pick, completion)
            layout = _layout_name(pick, completion)
            if reasoning:
                layout = REASONING_AND_ANSWER
            return Columns(layout, completion=completion, reasoning=reasoning)
        if self._has_completions():
            # Other rows of the file have theirs, and this row's is null, or not there.
            return Columns(completion=pick.named((*COMPLETION_NAMES, *CHAT_NAMES))[:1])

        # Names that mean a completion where nothing else in the file does.
        replies = pick.all_of(REPLY_NAMES)[:1]
        reasoning = self._reasoning_beside(pick, replies)
        if reasoning and replies:
            return Columns(REASONING_AND_ANSWER, completion=replies, reasoning=reasoning)
        completion = reasoning[:1] or pick.all_of(FALLBACK_COMPLETION_NAMES)[:1]
        if not completion:
            return Columns()
        return Columns("prompt/completion", completion=completion)

    def _reasoning_beside(self, pick: _Picker, completion: Sequence[str]) -> tuple[str, ...]:
        """The columns of thoughts that belong to one completion column.

        Raises:
            InputError: a thought beside several completion columns, of which any may be meant.
        """
        if self._mapping.get("reasoning") == "":
            return ()
        reasoning = tuple(name for name in pick.reasoning() if name not in completion)
        if reasoning and len(completion) > 1:
            raise InputError(
                f"the column {reasoning[0]!r} beside {' and '.join(completion)}: "
                "nobody can tell whose thought it is",
                expected="thoughts inside the completions, as turns or objects with reasoning_content",
                fix="put them there, or --map reasoning= to read the completions without",
            )
        return reasoning

    def _completion_columns(self, pick: _Picker) -> tuple[str, ...]:
        """The columns of a row that hold completions beyond doubt."""
        # An empty text is a completion too, for a model may answer nothing; null is none.
        present = self._survey.present_columns
        named = pick.all_of(COMPLETION_NAMES)
        named += tuple(column for column in pick.named(COMPLETION_NAMES) if column in present)
        if named:
            return named[:1]
        models = tuple(name for name in pick.names if self._survey.is_model(name))
        return models or pick.all_of(CHAT_NAMES)[:1]

    def _has_completions(self) -> bool:
        """Whether some row of the file has a column for completions, be it null everywhere."""
        strong = (*COMPLETION_NAMES, *CHAT_NAMES)
        columns = self._survey.values
        return any(column.lower() in strong or self._survey.is_model(column) for column in columns)

    def _choose_question(self, pick: _Picker, answers: Columns) -> tuple[str, ...]:
        if "question" in self._mapping:
            return pick.mapped("question")
        body = pick.all_of(("body", "question"))
        if len(body) == 2:  # SVAMP's layout
            return body
        names = [name for name in pick.all_of(QUESTION_NAMES) if name not in answers.completion]
        chats = pick.all_of(CHAT_NAMES)
        return tuple(names[:1]) or chats[:1]

    def _choose_gold(self, pick: _Picker, taken: set[str]) -> str:
        """The gold answers' column; never a label, and beside `gt_cot` not the `gt` made of them.

        `gt` is then what an evaluation made of the answer in order to compare it: "4:30p.." of "4:30 p.m.".
        """
        field = "answer" if self._purpose == "problems" else "gold"
        names = list(GOLD_NAMES)
        if pick.all_of(("gt_cot",)):
            names.insert(0, "answer")
        return pick.one(field, names, taken=taken, test=self._is_gold)

    def _is_gold(self, column: str) -> bool:
        """Whether a column may hold gold answers: `correct` and the like may be labels instead."""
        return column.lower() not in LABEL_NAMES or not self._survey.is_label(column)

    def _choose_finish(self, pick: _Picker) -> tuple[str, ...]:
        if "finish_reason" in self._mapping:
            return pick.mapped("finish_reason")
        columns = pick.all_of(FINISH_REASON_KEYS)
        if columns:
            # A stop string may be line breaks alone, which look like nothing.
            at_stop = [name for name in pick.named(("stop_reason",)) if name not in columns]
            columns = (*columns, *at_stop)
        return columns

    def _choose_options(self, pick: _Picker) -> tuple[str, ...]:
        if "choices" in self._mapping:
            return pick.mapped("choices")
        named = pick.all_of(CHOICES_NAMES)[:1]
        if named:
            return named
        # Columns behind the last option may be empty in the whole file; one between others is a fault.
        columns = option_columns(pick.names)
        filled = self._survey.live(columns)
        gaps = [name for name in columns if name not in filled]
        if len(filled) > 1 and tuple(filled) != columns[: len(filled)]:
            raise InputError(
                f"{self.source}: the option columns {', '.join(filled)} are filled, and {gaps[0]} is empty throughout",
                expected="a text in each option's column, or empty ones behind the last",
                fix=f"--map choices={','.join(filled)} to read these, or --map choices= for no options",
            )
        return option_columns(filled)

    def _check_mapping(self, rows: Sequence[Row]) -> None:
        """Refuse fields that there are not, and columns that no row of the sample has."""
        fields_of_map = PROBLEM_FIELDS if self._purpose == "problems" else ANSWER_FIELDS
        columns = names_of_columns(rows)
        for field, text in self._mapping.items():
            if field not in fields_of_map:
                raise ConfigError(
                    f"--map names no field {field!r}", available=fields_of_map, wanted=field
                )
            for column in split_columns(field, text):
                if column not in columns:
                    raise ConfigError(
                        f"{self.source} has no column {column!r}",
                        expected=f"the {field}",
                        available=columns,
                        wanted=column,
                        fix=f"--map {field}=COLUMN, or --map {field}= for none{self._recorded_fix(field)}",
                    )
        if (
            self._purpose == "answers"
            and self._mapping.get("completion")
            and self._mapping.get("answer")
        ):
            raise ConfigError(
                "completion and answer are both given",
                expected="one of them",
                fix="give reasoning and answer where they are two columns, else completion alone",
            )

    def _check_roles(self, row: Row, chosen: Columns) -> None:
        """Refuse a row where a column would be a completion, and something else in other rows of the file."""
        for names, earlier in self._chosen.items():
            for column in (*earlier.completion, *chosen.completion):
                role, earlier_role = chosen.roles().get(column), earlier.roles().get(column)
                if role == earlier_role or column not in names or is_empty(row.get(column)):
                    continue
                raise InputError(
                    f"the column {column!r} would be the {role or 'unread part'} of this row, "
                    f"and the {earlier_role or 'unread part'} of rows before it",
                    expected="rows in which a column always holds the same thing",
                    fix="name the column of the completions: --map completion=COLUMN, or recorded:FILE?columns=COLUMN",
                )

    def _recorded_fix(self, field: str) -> str:
        """How the spec of a recorded model names a column: --map is for the problems there."""
        if self._purpose != "answers":
            return ""
        option = "columns" if field == "completion" else field
        return f"; of a recorded model recorded:FILE?{option}=COLUMN"

    def _check_surprises(self, row: Row) -> None:
        """Refuse a column of a known name that held nothing in the sample, and so has no role."""
        for column, value in row.items():
            if self._survey.values.get(column) or is_empty(value):
                continue
            if column.lower() in _KNOWN_NAMES and column not in self._mapping.values():
                raise InputError(
                    f"the column {column!r} held nothing in the first {SAMPLE_ROWS:,} rows, and does now",
                    expected="columns that a sample of the rows shows",
                    fix="put such a row first, or name the columns with --map FIELD=COLUMN",
                )


class _Picker:
    """Columns of one kind of row by their known names."""

    def __init__(self, names: Sequence[str], survey: Survey, mapping: Mapping[str, str]) -> None:
        self.names = list(names)
        self._survey, self._mapping = survey, mapping
        self._by_lower: dict[str, str] = {}
        for name in names:
            self._by_lower.setdefault(name.lower(), name)

    def named(self, known: Iterable[str]) -> tuple[str, ...]:
        """The columns under these names, in the order of the names."""
        return tuple(self._by_lower[name] for name in known if name in self._by_lower)

    def all_of(self, known: Iterable[str]) -> tuple[str, ...]:
        """The columns under these names that hold something in some row, in the order of the names."""
        return tuple(self._survey.live(self.named(known)))

    def one(
        self,
        field: str,
        known: Sequence[str],
        *,
        taken: Iterable[str] = (),
        test: Any = None,
    ) -> str:
        """The column of a field: the user's, else the first of these names that is not taken and passes the test."""
        if field in self._mapping:
            return next(iter(self.mapped(field)), "")
        for column in self.all_of(known):
            if column not in taken and (test is None or test(column)):
                return column
        return ""

    def mapped(self, field: str) -> tuple[str, ...]:
        """The columns that the user named for a field, those that this kind of row has."""
        named = split_columns(field, self._mapping.get(field, ""))
        return tuple(column for column in named if column in self.names)

    def reasoning(self) -> tuple[str, ...]:
        """The columns that hold thoughts."""
        columns = self.all_of(REASONING_KEYS)
        return tuple(column for column in columns if self._survey.is_reasoning(column))


def split_columns(field: str, text: str) -> tuple[str, ...]:
    """The columns of "a,b", or of "Body+Question" for a question."""
    separator = "+" if field == "question" else ","
    return tuple(part for part in text.split(separator) if part)


_KNOWN_NAMES = frozenset(
    (
        *(*QUESTION_NAMES, *CHAT_NAMES, *COMPLETION_NAMES, *GOLD_NAMES, *CHOICES_NAMES),
        *(*REASONING_KEYS, *FINISH_REASON_KEYS, *LABEL_NAMES, *SYSTEM_NAMES, *HISTORY_NAMES),
        *(*CONTEXT_NAMES, *TOOLS_NAMES, "chosen", "rejected"),
    )
)


def _named_reasoning(pick: _Picker) -> Columns | None:
    """Columns of reasoning and reply under names that belong together."""
    pairs = [pair for pair in REASONING_PAIRS if len(pick.all_of(pair[:2])) == 2]
    if not pairs:
        return None
    replies: list[str] = []
    reasoning: list[str] = []
    for reasoning_name, reply_name, _ in pairs:
        reasoning += pick.all_of((reasoning_name,))
        replies += pick.all_of((reply_name,))
    layout = pairs[0][2]
    return Columns(layout, completion=tuple(replies), reasoning=tuple(reasoning))


def _layout_name(pick: _Picker, completion: Sequence[str]) -> str:
    column = completion[0].lower()
    if column == "conversations":
        return "ShareGPT"
    if column == "messages":
        return "messages"
    if column == "generations" and pick.all_of(("correctness_math_verify",)):
        return "Open-R1"
    if column == "output" and pick.all_of(("instruction",)):
        return "Alpaca"
    if column in COMPLETION_NAMES:
        return "prompt/completion"
    return BY_MODEL
