"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"h1r_cli": ROOT, "h1r_plugins": ROOT / "plugins", "h1r_profiles": ROOT / "profiles"}
WITH_EXAMPLES = [
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    for package, root in ROOMS.items()
    for path in sorted((root / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_a_module_come_out_as_written(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
