"""Readers of what a model was asked to say: yes or no, or a few named sections.

A reply that can't be read is None, never a guess. Every reply is counted by how it could be read (`ReplyCounter`), and
a method's report shows the counts: how many were unparsed, and how many were only close to the form asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import ConfigError
from potstill.records import split_reasoning
from potstill.traces import session
from potstill.traces.reply_counts import Reading, ReplyCounter
from potstill.traces.session import ReportSection, Share

_TAG = re.compile(r"<[^<>]*>")
# "Yes or no" is no verdict.
_FIRST_WORD = re.compile(r"(yes|no)\b(?!\W{0,3}(?:and|or)?\W{0,3}(?:yes|no)\b)", re.IGNORECASE)
_SCORE_LINE = re.compile(r"((?:score\W{0,4})?)(\d{1,4})(\W{0,2}/\W{0,2}\d{1,4})?\.?", re.IGNORECASE)
_VERDICT_LINE = re.compile(
    r"(?:(?:the |my |final )*(?:answer|verdict|judge?ment|conclusion|decision)\W*(?:is)?\W*)?(yes|no)\W*",
    re.IGNORECASE,
)


def count_reading(reader: str, text: str, reading: Reading) -> None:
    """Count a reply that a reader of a method's own has read; `read_yes_no` and `read_sections` count theirs."""
    session.current_session().replies.add(reader, text, reading)


def read_yes_no(text: str) -> bool | None:
    """Read a verdict: True for yes, False for no, None where the reply says neither.

    The first word after the thought decides; else a last line that is only the verdict ("Verdict: **no**"). Case, marks
    and tags around the word do not matter. A thought that is not closed has no reply.

    Args:
        text: what the model wrote.
    """
    reply = split_reasoning(text)[1]
    words = re.sub(r"^[\W_]+", "", _TAG.sub(" ", reply))
    match = _FIRST_WORD.match(words)
    if match is None and words:
        last_line = words.splitlines()[-1]
        match = _VERDICT_LINE.fullmatch(last_line.strip(" \t*_#`\"'"))
    if match is None:
        count_reading("yes or no", text, "unparsed")
        return None
    is_strict = reply.lstrip()[:3].lower().startswith(match[1].lower())
    count_reading("yes or no", text, "strict" if is_strict else "tolerant")
    return match[1].lower() == "yes"


def read_conclusion(text: str, *, reader: str) -> bool | None:
    """Read yes or no at the end of a reply that gives its reasons first; None where its last line ends otherwise.

    "So the answer is no." is read, as not quite in its form; "yes or no", and reasons behind the verdict, are not.

    Args:
        text: what the model wrote.
        reader: what was looked for, as the report names it.
    """
    last_line = split_reasoning(text)[1].strip().rpartition("\n")[2]
    line_words: list[str] = re.findall(r"[^\W\d_]+", last_line.casefold())
    verdicts = {"yes", "no"} & set(line_words)
    if len(verdicts) != 1 or line_words[-1] not in verdicts:
        count_reading(reader, text, "unparsed")
        return None
    count_reading(reader, text, "strict" if len(line_words) == 1 else "tolerant")
    return line_words[-1] == "yes"


def read_word(text: str, words: Sequence[str], *, reader: str) -> str | None:
    """Read which of a few words a reply says; None where it says none of them, or several.

    Behind the thought the words count as they are written, brackets included; the longest word that fits a place is the
    one that stands there, so that "not enough" says no "enough". A reply that is one of the words without its marks or
    in another case is read too, as not quite in its form.

    Args:
        text: what the model wrote.
        words: that it was asked for, such as `["[ENOUGH]", "[NOT_ENOUGH]"]`.
        reader: what was looked for, as the report names it.
    """
    reply = split_reasoning(text)[1]
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(_whole_word(word) for word in longest_first)
    found = set(re.findall(pattern, reply))
    if len(found) == 1:
        count_reading(reader, text, "strict")
        return str(found.pop())
    bare_words = {_bare_word(word): word for word in words}
    word = bare_words.get(_bare_word(reply))
    count_reading(reader, text, "unparsed" if word is None else "tolerant")
    return word


def read_score(text: str, low: int, high: int, *, reader: str) -> float | None:
    """Read a whole number on a scale: a last line "Score: 4"; None where there is none, or one outside the scale.

    A reply that is a number alone, or a last line "Score: 4/5", is read too, as not quite in its form.

    Args:
        text: what the model wrote.
        low: end of the scale.
        high: other end.
        reader: what was looked for, as the report names it.
    """
    reply = split_reasoning(text)[1].strip(" \t\n*_")
    last_line = reply.splitlines()[-1] if reply else ""
    match = _SCORE_LINE.fullmatch(last_line.strip(" \t*_"))
    if match is None or not low <= int(match[2]) <= high:
        count_reading(reader, text, "unparsed")
        return None
    is_strict = match[1] == "Score: " and not match[3]
    count_reading(reader, text, "strict" if is_strict else "tolerant")
    return float(match[2])


def _whole_word(word: str) -> str:
    """A pattern of a word that is no part of a longer one; behind brackets anything may stand."""
    start = r"(?<!\w)" if word[0].isalnum() else ""
    stop = r"(?!\w)" if word[-1].isalnum() else ""
    return start + re.escape(word) + stop


def _bare_word(text: str) -> str:
    """A word without marks around it, in one case, with one separator."""
    return re.sub(r"[\s_-]+", "_", text.strip(" \t\n.*[]()\"'")).casefold()


class Mark(NamedTuple):
    """A tag or heading of a section: whose it is, whether it closes one, and where it stands."""

    name: str
    closes: bool
    start: int
    stop: int


def read_sections(
    text: str, names: Sequence[str], *, optional: Sequence[str] = ()
) -> dict[str, str] | None:
    """Read the sections `<name>…</name>` of a reply; None where one of the names is missing or empty.

    Tolerant: names in any case, with blanks, hyphens or underscores between words, and with a colon (`<Key insight:>`);
    a section without its closing tag ends at the next tag of any of the names, or with the text; a closing tag may lack
    its slash; headings (`## Cause`, `**Cause:** …`) stand for tags where the reply has none. Of a section that comes
    twice the first one with text counts. What stands in a thought (`<think>`) is not looked at.

    Args:
        text: what the model wrote.
        names: the sections that it must have.
        optional: sections that it may have; "" where it does not.

    Returns:
        The stripped text of each name, or None.
    """
    if isinstance(names, str) or isinstance(optional, str):
        raise ConfigError(
            f"read_sections got the text {names if isinstance(names, str) else optional!r} in the place of names",
            expected="a list, even of one name",
            fix=f"[{names if isinstance(names, str) else optional!r}]",
        )
    all_names = (*names, *optional)
    if not names or len({_normalise(name) for name in all_names}) < len(all_names):
        raise ConfigError(
            f"read_sections got the names {', '.join(all_names) or 'none'}",
            expected="at least one name, each once",
        )
    reader = "sections " + ", ".join(names)
    reply = split_reasoning(text)[1]
    marks = _find_tags(reply, all_names)
    is_strict = bool(marks)
    if not marks:
        marks = _find_headings(reply, all_names)
    sections: dict[str, str] = {}
    for name in all_names:
        sections[name], is_closed = _read_section(reply, name, marks)
        is_strict = is_strict and (is_closed or name in optional)
    if not all(sections[name] for name in names):
        count_reading(reader, text, "unparsed")
        return None
    count_reading(reader, text, "strict" if is_strict else "tolerant")
    return sections


def _read_section(reply: str, name: str, marks: Sequence[Mark]) -> tuple[str, bool]:
    """The text of the first section of a name that is not empty, and whether a closing tag ended it."""
    for index, mark in enumerate(marks):
        if mark.name != name or mark.closes:
            continue
        later = marks[index + 1 :]
        # Its own next mark ends it, also one that should have been a closing tag; else any other section's mark.
        end = next((other for other in later if other.name == name), None)
        if end is None:
            end = next(iter(later), None)
        stop = len(reply) if end is None else end.start
        content = reply[mark.stop : stop].strip()
        if content:
            is_closed = end is not None and end.name == name and end.closes
            return content, is_closed
    return "", False


def _find_tags(reply: str, names: Sequence[str]) -> list[Mark]:
    """The opening and closing tags of the names, in order."""
    by_normal_name = {_normalise(name): name for name in names}
    marks: list[Mark] = []
    for match in _TAG.finditer(reply):
        inside = match[0][1:-1].strip()
        closes = inside.startswith("/")
        name = by_normal_name.get(_normalise(inside.strip("/: \t")))
        if name is not None:
            marks.append(Mark(name, closes, match.start(), match.end()))
    return marks


def _find_headings(reply: str, names: Sequence[str]) -> list[Mark]:
    """Lines that begin with one of the names as a heading: behind `#`, or in bold or plain with a colon."""
    by_normal_name = {_normalise(name): name for name in names}
    marks: list[Mark] = []
    position = 0
    for line in reply.splitlines(keepends=True):
        before_colon, colon, _ = line.partition(":")
        is_heading = bool(colon) or line.lstrip().startswith(("#", "**"))
        name = by_normal_name.get(_normalise(before_colon.strip().strip("#*_ \t")))
        if is_heading and name is not None:
            stop = position + len(before_colon) + len(colon)
            # The stars behind the colon of `**Cause:** text` belong to the heading.
            while stop < position + len(line) and reply[stop] == "*":
                stop += 1
            marks.append(Mark(name, False, position, stop))
        position += len(line)
    return marks


def _normalise(name: str) -> str:
    """A section's name without case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def replies_section(counter: ReplyCounter) -> ReportSection | None:
    """What a report shows of the replies that were read; None where no reader was used."""
    shares: list[Share] = []
    for reader, counts in counter.counts().items():
        total = sum(counts.values())
        shares.append(Share(f"{reader}: unparsed", counts["unparsed"], total))
        if counts["tolerant"]:
            shares.append(Share(f"{reader}: not quite in its form", counts["tolerant"], total))
    if not shares:
        return None
    return ReportSection(
        title="Replies that were read",
        hint=(
            "Of the different replies that the method read for a verdict or for named sections: how many could not be "
            "read, and how many were read although they were not quite in the form that was asked for."
        ),
        shares=tuple(shares),
    )
