"""Write a copy: the viewer's own page with its scripts and styles in it, and the data as compressed text.

One file, or a folder with a script for each block of traces. Nothing is asked of any server: the page's policy allows
the scripts that are named by their hashes, and no connection at all.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path

from potstill.errors import PotstillError

PACKAGE = Path(__file__).parent.parent
_STYLE_LINK = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_SCRIPT_LINK = re.compile(r'<script src="([^"]+)"></script>')
_FONT = re.compile(r"url\('([\w.]+\.woff2)'\)")
PAGE_FILE = "index.html"
BLOCK_FOLDER = "blocks"
FIRST_DATA = "copy-pages"  # the element by which share.js knows that it stands in a copy


def encode(text: str) -> str:
    """A text as base64 of gzip; the same text is always the same."""
    return base64.b64encode(gzip.compress(text.encode("ascii"), 9, mtime=0)).decode("ascii")


def data_element(name: str, encoded: str, attributes: Mapping[str, str] | None = None) -> str:
    """Data in the page: a script that no browser runs."""
    parts = [f'id="{name}"']
    for attribute, value in (attributes or {}).items():
        parts.append(f'data-{attribute}="{html.escape(value)}"')
    return f'<script type="application/json" {" ".join(parts)}>{encoded}</script>'


def block_script(number: int, encoded: str) -> str:
    """A block as a script of its own: from file:// a page may load scripts, and nothing else."""
    return f'potstill.share.take({number},"{encoded}");\n'


def render_page(first: str, last: str, *, has_scripts: bool) -> str:
    """The page of a copy.

    Args:
        first: data that the scripts find when they begin.
        last: data that may come later.
        has_scripts: whether blocks are scripts beside the page.
    """
    hashes: dict[str, list[str]] = {"script": [], "style": []}

    def inline(kind: str, text: str) -> str:
        # A browser would end the element there; none of our files has it.
        if re.search(rf"</{kind}|<!--", text, re.IGNORECASE):
            raise PotstillError(f"a {kind} of the viewer can't stand in a page")
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        hashes[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{text}</{kind}>"

    page = (PACKAGE / "app" / "index.html").read_text("utf-8")
    page = _STYLE_LINK.sub(lambda match: inline("style", _read_style(match[1])), page)
    page = _SCRIPT_LINK.sub(
        lambda match: inline("script", (PACKAGE / match[1]).read_text("utf-8")), page
    )
    policy = make_policy(hashes["script"], hashes["style"], has_scripts=has_scripts)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    page = page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)
    page = page.replace("<script>", f"{first}\n<script>", 1)
    return page.replace("</body>", f"{last}\n</body>", 1)


def make_policy(scripts: list[str], styles: list[str], *, has_scripts: bool) -> str:
    """The content security policy: scripts and styles by their hashes, no connection, no frame, no form."""
    if has_scripts:
        # From a web server they are 'self'; opened from a disk they are that in some browsers alone.
        scripts = [*scripts, "'self'", "file:"]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(scripts)}",
            f"style-src {' '.join(styles)}",
            "img-src data:",
            "font-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types potstill-share",
        )
    )


def _read_style(name: str) -> str:
    """A style sheet with its font in it."""
    path = PACKAGE / name

    def inline_font(match: re.Match[str]) -> str:
        font = (path.parent / match[1]).read_bytes()
        return f"url('data:font/woff2;base64,{base64.b64encode(font).decode('ascii')}')"

    return _FONT.sub(inline_font, path.read_text("utf-8"))


def is_earlier_copy(folder: Path) -> bool:
    """Whether a folder holds nothing but a copy that was made earlier, which may be replaced."""
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    if names != {PAGE_FILE, BLOCK_FOLDER}:
        return False
    return f'id="{FIRST_DATA}"' in (folder / PAGE_FILE).read_text("utf-8", errors="replace")
