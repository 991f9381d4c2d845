"""SQL as text: where a reply's query stands, what its statements are, by what its rows are ordered; nothing runs."""

from __future__ import annotations

import re

from potstill.verifiers import extract, thoughts

MAX_CHARACTERS = 20_000  # of a query

_FENCE = re.compile(
    r"^[ \t]{0,8}```[ \t]*([\w+-]{0,20})[ \t]*\n(.*?)(?:^[ \t]{0,8}```|\Z)",
    re.MULTILINE | re.DOTALL,
)
_QUERY = re.compile(r"\s{0,100}(?:SELECT|WITH|VALUES|\(\s{0,20}SELECT)\b", re.IGNORECASE)
# A line that begins a query, alone or after a label ("SQL: SELECT …"), which may stand between backticks.
_QUERY_LINE = re.compile(
    r"^[ \t>*]{0,8}(?:(?:sqlite|sql|query|(?:the |final )?answer)[ \t*]{0,4}:[ \t*]{0,4})?`?(?P<word>SELECT|WITH)\b",
    re.IGNORECASE | re.MULTILINE,
)
# Comments, quoted strings and names, words, white space, single characters.
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*(?:'|\Z)|\"(?:[^\"]|\"\")*(?:\"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)"
    r"|\w+|\s+|.",
    re.DOTALL,
)
_STATEMENT = re.compile(
    r"(?:SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|ATTACH|DETACH|PRAGMA|VACUUM|BEGIN|COMMIT)\b",
    re.IGNORECASE,
)
_QUERY_WORDS = frozenset({"SELECT", "WITH", "VALUES", "("})
_SQL_LANGUAGES = ("sql", "sqlite", "sqlite3", "duckdb", "postgresql", "mysql")
_AFTER_ORDER_BY = frozenset({"LIMIT", "OFFSET", "FETCH", "UNION", "INTERSECT", "EXCEPT"})
_ORDER_MODIFIERS = frozenset({"ASC", "DESC", "FIRST", "LAST", "NULLS"})


def extract_query(text: str) -> str:
    """Return the query that a reply gives, or "": its last fence, tag or box, else from its last line that begins one.

    Reasoning is searched inside `extract.reading_thoughts` only: for fences alone, where nothing is shown after it.
    """
    reply, reasoning = (part[-extract.TAIL :] for part in thoughts.split_reply(text))
    query = _fenced_query(reply) or _marked_query(reply) or _bare_query(reply)
    if not query and thoughts.reads_thoughts():
        query = _fenced_query(reasoning.replace("<think>", "\n"))
    return query


def _fenced_query(text: str) -> str:
    """The last fence whose language is SQL, or else the last one without a language that holds a query."""
    in_sql: list[str] = []
    queries: list[str] = []
    for language, body in _FENCE.findall(text):
        if language.lower() in _SQL_LANGUAGES:
            in_sql.append(body)
        elif not language and _is_query(body):
            queries.append(body)
    fences = in_sql or queries
    return fences[-1].strip() if fences else ""


def _marked_query(text: str) -> str:
    marked = extract.marked_answer(text)
    if marked is None or marked.mark not in ("tag", "boxed", "answer"):
        return ""
    query = marked.text.strip("`$ \n")
    return query if _is_query(query) else ""


def _bare_query(text: str) -> str:
    """From the first line that begins with WITH, else from the last one with SELECT, to an empty line."""
    lines = list(_QUERY_LINE.finditer(text))
    if not lines:
        return ""
    first_line = lines[-1]
    for line in lines:
        if line["word"].upper() == "WITH":
            first_line = line
            break
    query = text[first_line.start("word") :].split("\n\n", 1)[0]
    if first_line[0][: -len(first_line["word"])].endswith("`"):
        query = query.split("`", 1)[0]
    # What follows a semicolon is a remark, unless it is another statement: then all is refused.
    first, *others = split_statements(query) or [""]
    return query.strip() if any(map(_is_statement, others)) else first


def _is_statement(text: str) -> bool:
    return bool(_STATEMENT.match(text))


def _is_query(sql: str) -> bool:
    without_comments = "".join(split_tokens(sql[:2_000])).lstrip()
    return bool(_QUERY.match(without_comments))


def split_statements(sql: str, *, max_characters: int | None = MAX_CHARACTERS) -> list[str]:
    """Return the statements of a text, without comments and empty ones; None reads it to its end."""
    statements: list[str] = []
    current = ""
    for token in [*split_tokens(sql, max_characters=max_characters), ";"]:
        if token != ";":
            current += token
            continue
        if current.strip():
            statements.append(current.strip())
        current = ""
    return statements


def split_tokens(sql: str, *, max_characters: int | None = MAX_CHARACTERS) -> list[str]:
    """Return words, quoted parts, white space and single characters; a comment becomes a space."""
    tokens = _TOKEN.findall(sql[:max_characters])
    return [" " if token.startswith(("--", "/*")) else token for token in tokens]


def begins_as_query(statement: str) -> bool:
    """Whether a statement begins as a query does; what it may do is the engine's to say."""
    words = [token for token in split_tokens(statement) if token.strip()]
    return bool(words) and words[0].upper() in _QUERY_WORDS


def order_terms(statement: str) -> list[str] | None:
    """Return the terms of the ORDER BY at the statement's top level, without direction; None where there is none."""
    tokens = [token for token in split_tokens(statement) if token.strip()]
    terms: list[list[str]] | None = None
    depth = 0  # of brackets
    for index, token in enumerate(tokens):
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        word = token.upper()
        if depth:
            if terms is not None:
                terms[-1].append(token)
        elif (
            word == "ORDER" and tokens[index + 1 : index + 2] and tokens[index + 1].upper() == "BY"
        ):
            terms = [[]]
        elif terms is None:
            continue
        elif word in _AFTER_ORDER_BY:
            break
        elif token == ",":
            terms.append([])
        elif word != "BY":
            terms[-1].append(token)
    if terms is None:
        return None
    return [_column_of_term(words) for words in terms]


def _column_of_term(words: list[str]) -> str:
    """A term as a column may be called: `t."Name" DESC NULLS LAST` is name; an expression stays as it is written."""
    while words and words[-1].upper() in _ORDER_MODIFIERS:
        words = words[:-1]
    if len(words) == 3 and words[1] == ".":
        words = words[2:]
    return "".join(words).strip('"`[]').lower()
