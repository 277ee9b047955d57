"""One HTML file from a page's parts and its data: nothing is loaded from elsewhere, and no data is ever markup."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of page: its heading, the file of its sections, and the scripts and styles that fill them."""

    title: str
    sections: str
    scripts: Sequence[str]
    styles: Sequence[str]


DEEPCONF = Kind("DeepConf", "deepconf.html", ("dom.js", "chart.js", "text.js", "page.js"), ("page.css",))
EVALUATION = Kind(
    "Evaluation",
    "evaluation.html",
    ("dom.js", "table.js", "evaluation.js"),
    ("page.css", "table.css", "evaluation.css"),
)
THROUGHPUT = Kind(
    "Throughput",
    "throughput.html",
    ("dom.js", "table.js", "throughput.js"),
    ("page.css", "table.css", "throughput.css"),
)


def html(data: Any, kind: Kind) -> str:
    """The page that shows `data`; its content policy lets no script run but its own, and nothing be fetched.

    Args:
        data: what json can write; the texts in it may be anything.
    """
    style, script = ("\n".join(map(_part, names)) for names in (kind.styles, kind.scripts))
    page = _part("page.html").replace("[[title]]", kind.title).replace("[[main]]", _part(kind.sections))
    parts = {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}
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
