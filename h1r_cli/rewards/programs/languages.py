"""How a program of each language is built and run in the sandbox."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from h1r_cli.rewards.sandbox.job import Ended, Job, Limits
from h1r_cli.rewards.sandbox.run import SandboxKind, run

PYTHON = os.path.realpath(sys.executable)
_PUBLIC_CLASS = re.compile(r"^\s*public\s+(?:final\s+)?class\s+([A-Za-z_]\w{0,60})\b", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Language:
    """`compile` works in the program's folder; `{stem}` is the file's name without its ending."""

    file: str
    hello: str  # a program that prints "hello"
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    reserves: bool = False


_ONE_CORE_JVM = ("-XX:+UseSerialGC", "-XX:ActiveProcessorCount=2")
LANGUAGES = {
    "python": Language("main.py", "print('hello')", (PYTHON, "{code}/main.py"), env={"PYTHONHASHSEED": "0"}),
    "cpp": Language(
        "main.cpp",
        '#include <iostream>\nint main() { std::cout << "hello"; }',
        ("{code}/main",),
        ("g++", "-O2", "-std=gnu++17", "-o", "main", "main.cpp"),
    ),
    "c": Language(
        "main.c",
        '#include <stdio.h>\nint main(void) { puts("hello"); }',
        ("{code}/main",),
        ("gcc", "-O2", "-std=gnu17", "-o", "main", "main.c", "-lm"),
    ),
    "java": Language(
        "Main.java",
        'class Main { public static void main(String[] a) { System.out.println("hello"); } }',
        ("java", *_ONE_CORE_JVM, "-Xshare:auto", "-cp", "{code}", "{stem}"),
        ("javac", *(f"-J{word}" for word in _ONE_CORE_JVM), "-encoding", "UTF-8", "{stem}.java"),
        reserves=True,
    ),
    "javascript": Language("main.js", "console.log('hello')", ("node", "{code}/main.js"), reserves=True),
    "go": Language(
        "main.go",
        'package main\nimport "fmt"\nfunc main() { fmt.Println("hello") }',
        ("{code}/main",),
        ("go", "build", "-o", "main", "main.go"),
        {
            "GOCACHE": "/tmp/go-build",
            "GOPATH": "/tmp/go",
            "CGO_ENABLED": "0",
            "GO111MODULE": "off",
            "GOTOOLCHAIN": "local",
        },
        reserves=True,
    ),
    "bash": Language("main.sh", "echo hello", ("bash", "{code}/main.sh")),
}


def build(
    language: str, text: str, folder: Path, kind: SandboxKind, compile_s: float, memory_mib: int
) -> tuple[Job | None, Ended | None]:
    """The job that runs the program, without limits or input of its own yet; or how its compiler failed.

    `folder` is an existing directory that nobody else can enter; the sandbox's user writes into a folder within.
    """
    known = LANGUAGES[language]
    code = folder / "code"
    code.mkdir()
    code.chmod(0o777)
    public = _PUBLIC_CLASS.search(text) if language == "java" else None
    stem = public[1] if public else known.file.partition(".")[0]
    source = code / known.file.replace(known.file.partition(".")[0], stem, 1)
    source.write_text(text, encoding="utf-8", errors="replace")
    source.chmod(0o644)
    if known.compile:
        words = tuple(word.replace("{stem}", stem) for word in known.compile)
        limits = Limits(compile_s, max(2048, memory_mib), reserves=known.reserves, processes=256)
        ended = run(Job(words, limits, {"code": code}, "code", known.env), kind)
        if ended.ending != "finished":
            return None, ended
    words = tuple(word.replace("{stem}", stem) for word in known.run)
    return Job(words, Limits(memory_mib=memory_mib, reserves=known.reserves), {"code": code}, None, known.env), None


@cache
def trouble(language: str, kind: SandboxKind) -> str | None:
    """Why `language` cannot be run here, found out by a program that prints "hello"; None if it can."""
    known = LANGUAGES[language]
    with TemporaryDirectory(prefix="h1r-") as folder:
        job, failed = build(language, known.hello, Path(folder), kind, compile_s=60.0, memory_mib=1024)
        ended = failed if job is None else run(job, kind)
    assert ended is not None
    if ended.ending == "finished" and ended.stdout.strip() == b"hello":
        return None
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    return f"{said[-1] if said else ended.detail or ended.ending}"[:200]
