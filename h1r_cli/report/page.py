"""One HTML file from a page's parts and its data: nothing is loaded from elsewhere, and no data is ever markup."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

SCRIPTS = ("dom.js", "chart.js", "text.js", "page.js")
STYLES = ("page.css",)


def html(data: Any, body: str = "page.html", scripts: Sequence[str] = SCRIPTS, styles: Sequence[str] = STYLES) -> str:
    """The page that shows `data`; its content policy lets no script run but its own, and nothing be fetched.

    Args:
        data: what json can write; the texts in it may be anything.
        body: the file with the page's frame; `scripts` and `styles` are the files that go into it.
    """
    style, script = ("\n".join(map(_part, names)) for names in (styles, scripts))
    parts = {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}
    page = _part(body)
    for name, text in {**parts, "data": embedded(data)}.items():
        before, mark, after = page.partition(f"[[{name}]]")
        if not mark:
            raise AssertionError(f"{body} has no place for {name}")
        page = before + text + after
    return page


def embedded(data: Any) -> str:
    """`data` as JSON that may stand in a script element: `<` is escaped, so that no text can close or open one.

    >>> embedded({"text": "</script>"})
    '{"text":"\\\\u003c/script>"}'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair becomes its JSON escape


def size_bytes(data: Any) -> int:
    """How much of the page `data` takes up."""
    return len(embedded(data).encode())


def _part(name: str) -> str:
    return files("h1r_cli.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
