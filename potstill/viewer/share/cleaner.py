"""What a copy must not hold: keys, passwords, folders and hosts of whoever made it.

In texts that models wrote a secret becomes as many dots, so that every offset into the text stays right. In what
describes the run, such as its settings, paths and hosts are shortened to what tells them apart.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from potstill.secrets import (
    MIN_VARIABLE_LENGTH,
    is_placeholder_key,
    is_secret_field,
    is_secret_variable,
    replace_secrets,
)
from potstill.viewer.reader import RunReader
from potstill.viewer.utf16 import utf16_length

DOT = "•"
MAX_SEEN = 20_000  # texts that are remembered
PORTION = 1000  # records between two reports
MIN_CUT = 6  # characters of a secret at the end of a text that was cut there
# Of documents that describe the run: what others wrote, and names by which pages are found.
TEXT_FIELDS = ("question", "gold", "text", "problem", "query")
MIN_HOST = 5  # characters of this machine's name: a shorter one is a word of any text

_PATH = re.compile(
    r"(?<![\w.~\]…/-])(?:(?:/[^\s/\\:\"',;]+){3,}|[A-Za-z]:(?:\\[^\s/\\:\"',;]+){3,})"
)
_URL_HOST = re.compile(r"(?<=://)[^/\s?#\"']+")


@final
class Cleaner:
    """Takes out what a copy must not hold.

    Args:
        secrets: that were found in the run: they are taken out wherever they stand, also where a text was cut.
        folders: paths of this machine that are taken out of texts.
    """

    def __init__(self, secrets: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
        # The longest first: one may begin as another does.
        self.secrets = sorted(set(secrets), key=len, reverse=True)
        self._folders = sorted(set(folders), key=len, reverse=True)
        host = socket.gethostname()
        self._host = host if len(host) >= MIN_HOST else ""

    def clean_text(self, text: str) -> str:
        """The text with dots in the place of each secret and folder; it stays as long as it was."""
        text = replace_secrets(text, dots)
        for hidden in (*self.secrets, *self._folders):
            if hidden in text:
                text = text.replace(hidden, dots(hidden))
        for secret in self.secrets:
            # The beginning of a text, as lists show it, may end inside a secret.
            for length in range(min(len(secret), len(text)), MIN_CUT - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + dots(secret[:length])
        return text

    def shorten(self, value: Any, name: str = "") -> Any:
        """What describes the run, with short paths, without hosts, and without what stands under a secret's name."""
        if isinstance(value, Mapping):
            return {key: self.shorten(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.shorten(item, name) for item in value]
        if not isinstance(value, str):
            return value
        # What a problem says is no path, whatever it looks like.
        if name in TEXT_FIELDS:
            return value
        # A bare `key` names entries of lists here.
        if value and name != "key" and is_secret_field(name):
            return dots(value)
        value = _URL_HOST.sub("[host]", value)
        for folder in self._folders:
            value = value.replace(folder, "…")
        value = _PATH.sub(_last_two, value)
        return value.replace(self._host, "[host]") if self._host else value

    def clean_tokens(self, document: dict[str, Any]) -> dict[str, Any]:
        """The page of a row's tokens: a secret may be spread over several of them."""
        if not document["is_available"]:
            return document
        text = "".join(document["texts"])
        cleaned = self.clean_text(text)
        if cleaned == text:
            return document
        # Cut again where the tokens end; both texts are equally long, in units of UTF-16.
        units = cleaned.encode("utf-16-le", "surrogatepass")
        texts, ids, start = [], [], 0
        token_bytes = dict(document["bytes"])
        for place, (token_text, token_id) in enumerate(
            zip(document["texts"], document["ids"], strict=True)
        ):
            stop = start + 2 * utf16_length(token_text)
            texts.append(units[start:stop].decode("utf-16-le", "surrogatepass"))
            start = stop
            is_hidden = texts[-1] != token_text
            ids.append(None if is_hidden else token_id)
            if is_hidden:
                token_bytes.pop(place, None)
        return {**document, "texts": texts, "ids": ids, "bytes": token_bytes}


def dots(text: str) -> str:
    """As many dots as the text has units of UTF-16."""
    return DOT * utf16_length(text)


def _last_two(match: re.Match[str]) -> str:
    parts = re.split(r"[/\\]", match[0])
    return "…/" + "/".join(parts[-2:])


def make_cleaner(
    reader: RunReader, progress: Callable[[int, int], None] = lambda done, of: None
) -> Cleaner:
    """A cleaner that knows every secret of a run, whole: a list cuts texts, and a part alone does not look like one.

    Args:
        reader: of the run.
        progress: is told how many records were read, of how many.
    """
    secrets: set[str] = set()

    def note(secret: str) -> str:
        secrets.add(secret)
        return dots(secret)

    # A question and a prompt stand in the record of every trace: each is looked at once, as long as it is remembered.
    texts_looked_at: set[str] = set()
    for record in _records_of_run(reader, progress):
        for text in _texts_in(record):
            if len(text) >= MIN_VARIABLE_LENGTH and text not in texts_looked_at:
                texts_looked_at.add(text)
                replace_secrets(text, note)
        if len(texts_looked_at) > MAX_SEEN:
            texts_looked_at.clear()
    # A word behind `Authorization:` is taken out there alone: elsewhere it is a word.
    secrets = {secret for secret in secrets if not is_placeholder_key(secret) and DOT not in secret}
    for name, value in os.environ.items():
        if len(value) >= MIN_VARIABLE_LENGTH and is_secret_variable(name):
            secrets.add(value)
    folders = {str(reader.folder), str(reader.folder.resolve()), str(Path.home())}
    return Cleaner(sorted(secrets), sorted(folder for folder in folders if len(folder) > 1))


def _records_of_run(reader: RunReader, progress: Callable[[int, int], None]) -> Iterator[Any]:
    """Every document that holds texts of the run, whole."""
    made_by = reader.manifest()
    if made_by is not None:
        yield made_by._asdict()
    sources = (("traces", "record"), ("made", "notes"), ("completions", "payload"))
    with reader.store() as store:
        counts = [store.database.read(f"SELECT count(*) FROM {table}") for table, _ in sources]
        total = sum(count for [(count,)] in counts)
        done = 0
        for table, column in sources:
            for (document,) in store.database.pages(table, column):
                yield json.loads(document)
                done += 1
                if done % PORTION == 0 or done == total:
                    progress(done, total)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)
