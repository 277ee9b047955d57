"""The fenced code blocks of an answer, and which language each is in."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAGS = {
    "python": ("python", "py", "python3", "py3"),
    "cpp": ("cpp", "c++", "cc", "cxx", "c++17", "c++20"),
    "c": ("c",),
    "java": ("java",),
    "javascript": ("javascript", "js", "node", "nodejs"),
    "go": ("go", "golang"),
    "bash": ("bash", "sh", "shell"),
}
_LANGUAGE_OF = {tag: language for language, tags in TAGS.items() for tag in tags}

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*")
_HINTS = (  # the first that is found decides: narrow ones before wide ones
    ("go", re.compile(r"^package \w+\s*$", re.MULTILINE)),
    ("java", re.compile(r"\bpublic static void main\b|^import java\.", re.MULTILINE)),
    ("cpp", re.compile(r"^\s*#\s*include\s*<(?:iostream|bits/|vector|string|algorithm|map|set|c\w+>)", re.MULTILINE)),
    ("cpp", re.compile(r"\busing namespace std\b|\bstd::")),
    ("c", re.compile(r"^\s*#\s*include\s*[<\"]", re.MULTILINE)),
    ("bash", re.compile(r"\A\s*#!.*\b(?:ba)?sh\b")),
    ("javascript", re.compile(r"\bconsole\.log\(|\brequire\(['\"]|^(?:const|let|var) \w+ =", re.MULTILINE)),
    ("python", re.compile(r"^(?:def \w+\(|class \w+|import \w+|from \w+ import |print\()", re.MULTILINE)),
    ("python", re.compile(r"\bprint\(|\binput\(")),
    ("bash", re.compile(r"^\s*(?:read -?\w|echo |while read )", re.MULTILINE)),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A closed fenced block; `tag` is what stands behind the fence, lower case."""

    tag: str
    text: str

    @property
    def language(self) -> str | None:
        """By the tag; without one, by how the text looks. None for a tag of no programming language."""
        return _LANGUAGE_OF.get(self.tag) if self.tag else looks_like(self.text)


def blocks(text: str) -> list[Block]:
    """The closed blocks in order, by CommonMark's rule: a block ends at a fence at least as long as its own."""
    found: list[Block] = []
    fence, tag, lines = "", "", list[str]()
    for line in text.splitlines():
        match = _FENCE.fullmatch(line)
        if not fence:
            if match is not None:
                fence, tag, lines = match[1], match[2].lower().strip("{}."), []
        elif match is not None and match[1].startswith(fence) and not line.strip(" \t").strip(fence[0]):
            found.append(Block(tag, "\n".join(lines) + "\n"))
            fence = ""
        else:
            lines.append(line)
    return found


def program_in(text: str, language: str | None = None) -> Block | None:
    """The last block in `language`, or in any language that is known; None where there is none.

    A block without a tag counts as what it looks like. If none looks like `language`, the last one without a tag is
    taken at its word.
    """
    found = blocks(text)
    suitable = [b for b in found if b.language is not None and (language is None or b.language == language)]
    if not suitable and language is not None:
        suitable = [b for b in found if not b.tag]
    return suitable[-1] if suitable else None


def looks_like(text: str) -> str | None:
    """The language of a program without a tag, by telling lines; None if nothing tells.

    >>> looks_like("#include <iostream>")
    'cpp'
    """
    return next((language for language, hint in _HINTS if hint.search(text)), None)
