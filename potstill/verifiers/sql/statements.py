"""SQL as text: where a reply's query stands, what its statements are, by what its rows are ordered; nothing runs."""

from __future__ import annotations

import re

from potstill.verifiers import extract

LONGEST = 20_000  # characters of a query

_FENCE = re.compile(
    r"^[ \t]{0,8}```[ \t]*([\w+-]{0,20})[ \t]*\n(.*?)(?:^[ \t]{0,8}```|\Z)",
    re.MULTILINE | re.DOTALL,
)
_QUERY = re.compile(r"\s{0,100}(?:SELECT|WITH|VALUES|\(\s{0,20}SELECT)\b", re.IGNORECASE)
_STATEMENT = re.compile(r"^[ \t>*]{0,8}(?:SELECT|WITH)\b", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*(?:'|\Z)|\"(?:[^\"]|\"\")*(?:\"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)"
    r"|\w+|\s+|.",
    re.DOTALL,
)
_FIRST = frozenset({"SELECT", "WITH", "VALUES", "("})
_LANGUAGES = ("", "sql", "sqlite", "sqlite3", "duckdb", "postgresql", "mysql")


def query(text: str) -> str:
    """The query that a reply gives, or "": its last fence, tag or box, else from its last line that begins one.

    Reasoning is searched for fences alone, and only where nothing is shown after it.
    """
    shown, thought = (part[-extract.TAIL :] for part in extract.split_reply(text))
    return (
        _fenced(shown)
        or _marked(shown)
        or _bare(shown)
        or _fenced(thought.replace("<think>", "\n"))
    )


def _fenced(text: str) -> str:
    found = [
        body
        for language, body in _FENCE.findall(text)
        if language.lower() in _LANGUAGES and body.strip()
    ]
    named = [
        body
        for language, body in _FENCE.findall(text)
        if language and language.lower() in _LANGUAGES
    ]
    queries = named or [body for body in found if _QUERY.match(_without_comments(body))]
    return queries[-1].strip() if queries else ""


def _marked(text: str) -> str:
    found = extract.marked_answer(text)
    body = found.text.strip("`$ \n") if found and found.mark in ("tag", "boxed", "answer") else ""
    return body if _QUERY.match(_without_comments(body)) else ""


def _bare(text: str) -> str:
    starts = list(_STATEMENT.finditer(text))
    if not starts:
        return ""
    begin = next((s for s in starts if s[0].strip(" \t>*").upper() == "WITH"), starts[-1])
    body = text[begin.start() :].split("\n\n", 1)[0].strip().lstrip(">* \t")
    return body.split(";", 1)[0] if ";" in body and "'" not in body else body


def split_statements(sql: str) -> list[str]:
    """The statements of a text, without comments and empty ones."""
    found, current = [], [""]
    for token in tokens(sql):
        if token == ";":
            found.append("".join(current).strip())
            current = [""]
        else:
            current.append(token)
    return [statement for statement in (*found, "".join(current).strip()) if statement]


def tokens(sql: str) -> list[str]:
    """Words, quoted parts, white space and single characters; comments are a space."""
    parts = _TOKEN.findall(sql[:LONGEST])
    return [" " if part.startswith(("--", "/*")) else part for part in parts]


def reads(statement: str) -> bool:
    """Whether a statement begins as a query does; what it may do is the engine's to say."""
    words = [token for token in tokens(statement) if token.strip()]
    return bool(words) and words[0].upper() in _FIRST


def order(statement: str) -> list[str] | None:
    """The terms of the ORDER BY at the statement's top level, without direction; None where there is none."""
    parts, depth = [t for t in tokens(statement) if t.strip()], 0
    terms: list[list[str]] | None = None
    for i, token in enumerate(parts):
        depth += (token == "(") - (token == ")")
        word = token.upper()
        if depth:
            if terms is not None:
                terms[-1].append(token)
            continue
        if word == "ORDER" and i + 1 < len(parts) and parts[i + 1].upper() == "BY":
            terms = [[]]
        elif terms is not None and word in (
            "LIMIT",
            "OFFSET",
            "FETCH",
            "UNION",
            "INTERSECT",
            "EXCEPT",
        ):
            break
        elif terms is not None and token == ",":
            terms.append([])
        elif terms is not None and word != "BY":
            terms[-1].append(token)
    return None if terms is None else [_term(words) for words in terms]


def _term(words: list[str]) -> str:
    """A term as a column may be called: `t."Name" DESC NULLS LAST` is name; an expression keeps its spelling."""
    while words and words[-1].upper() in ("ASC", "DESC", "FIRST", "LAST", "NULLS"):
        words = words[:-1]
    if len(words) == 3 and words[1] == ".":
        words = words[2:]
    return "".join(words).strip('"`[]').lower()


def _without_comments(sql: str) -> str:
    return "".join(tokens(sql[:2_000])).lstrip()
