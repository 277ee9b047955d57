"""`h1r --help` is quick because it loads no heavy library; benchmarks/help_time.py says how quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "pydantic", "pyarrow", "sympy", "math_verify", "safetensors", "tqdm")
SHOW_HELP = """
import sys
from h1r_cli.main import main
sys.argv = ["h1r", *{arguments!r}]
try:
    main()
finally:
    print(sorted(set({heavy!r}) & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["deepconf", "--help"], ["train-sft", "--help"], ["plugins", "list"]]
)
def test_help_and_the_list_of_plugins_load_no_heavy_library(arguments, tmp_path):
    code = SHOW_HELP.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_names_every_command_with_what_it_does(h1r):
    shown = h1r("--help").stdout
    for command in (
        "config",
        "curate",
        "deepconf",
        "doctor",
        "eval",
        "generate",
        "plugins",
        "profiles",
        "train-rl",
        "train-sft",
    ):
        assert any(len(line.split()) > 2 for line in shown.splitlines() if line.startswith(f"  {command} ")), command


def test_a_mistyped_command_is_answered_with_the_nearest(h1r):
    done = h1r("deepconv", status=2)
    assert done.stderr.startswith(
        "error: no command is called 'deepconv'\n  known: bench-throughput, compare, config, curate, deepconf, "
    )
    assert done.stderr.endswith("  fix: did you mean 'deepconf'?\n")


def test_a_mistyped_option_is_clicks_error_with_status_2(h1r):
    assert "No such option" in h1r("doctor", "--jsn", status=2).stderr


def test_the_version_is_told(h1r):
    assert h1r("--version").stdout == "h1r, version 0.1.0\n"
