"""One HTML file from a page's parts and its data: nothing is loaded from elsewhere, and no data is ever markup."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

SCRIPTS = ("dom.js", "chart.js", "text.js", "page.js")


def html(data: Any) -> str:
    """The page that shows `data`; its content policy lets no script run but its own, and nothing be fetched.

    Args:
        data: what json can write; the texts in it may be anything.
    """
    style, script = _part("page.css"), "\n".join(_part(name) for name in SCRIPTS)
    parts = {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}
    page = _part("page.html")
    for name, text in {**parts, "data": embedded(data)}.items():
        before, mark, after = page.partition(f"[[{name}]]")
        if not mark:
            raise AssertionError(f"page.html has no place for {name}")
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
