"""The README is true: each `$ h1r ...` in it runs and prints what is shown, but for numbers and verdicts.

Commands of one block run one after the other in one directory.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    re.findall(r"^\$ (h1r .*?)\n(.*?)(?=^\$ |\Z)", block, flags=re.DOTALL | re.MULTILINE)
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
]


def masked(text: str) -> list[str]:
    """The lines with everything that may differ between machines and runs replaced: numbers, versions, verdicts."""
    text = re.sub(r"\(reference \d+\)", "", text)
    text = re.sub(r"\bright\b|\bwrong\b|no answer", "JUDGED", text)
    text = re.sub(r"votes .*? \| pruned", "votes V | pruned", text)
    text = re.sub(r"runs/[\w-]+", "RUN", text)
    text = re.sub(r"arith-[0-9a-f]{16}", "ID", text)
    text = re.sub(r"[\d.,]*\d", "#", text)
    return sorted(re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("block", BLOCKS, ids=[block[-1][0] for block in BLOCKS])
def test_the_readme_shows_what_is_printed(block, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command, shown in block:
        done = subprocess.run(
            [sys.executable, "-m", "h1r_cli", *shlex.split(command)[1:]],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80"},
        )
        assert done.returncode == (2 if shown.startswith("error: ") else 0), done.stderr
        errors = re.findall(r"^(?:error: .*|  known: .*|  fix: .*)\n", done.stderr, re.M)
        printed = masked(done.stdout + "".join(errors))
        for line in masked(shown):
            if line != "...":
                assert line in printed


def test_the_readme_shows_every_command():
    from h1r_cli.registry import load

    shown = {command.split()[1] for block in BLOCKS for command, _ in block}
    assert shown >= set(load().names("h1r_commands")) - {"train-sft", "serve"}
    assert "h1r train-sft --config nano --profile cpu" in README
    assert "h1r serve --model h1r-nano --port 8000" in README


def test_the_file_tree_names_every_room():
    tree = re.search(r"```text\n(h1r_cli/.*?)```", README, flags=re.DOTALL)[1]
    for package in ("h1r_cli", "plugins/h1r_plugins", "profiles/h1r_profiles"):
        rooms = [path for path in (ROOT / package).iterdir() if path.is_dir() and not path.name.startswith("_")]
        for room in rooms:
            assert f"{room.name}/" in tree, room


def test_the_plugin_in_the_readme_works(tmp_path):
    code = re.search(r"```python\n(\"\"\"Reward `length`.*?)```", README, flags=re.DOTALL)[1]
    (tmp_path / "h1r_length.py").write_text(code)
    script = (
        "import h1r_length; from h1r_cli.types import Problem;"
        "verify = h1r_length.h1r_rewards()['length'](limit_chars=3);"
        "print(verify(Problem('p', 'q'), 'abc').reward, verify(Problem('p', 'q'), 'abcd').reward)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "1.0 0.0\n"
