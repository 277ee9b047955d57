"""The command line as a user runs it, and packages as a user installs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "example_plugin"

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "h1r-{name}"
version = "0.1.0"
[project.entry-points.h1r]
{name} = "h1r_{name}"
"""
HOOK = "from h1r_cli import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"
FAULTY = {
    "broken": "import not_there\n",
    "clash": HOOK.format(hook="h1r_profiles", body="from pathlib import Path; return {'cpu': Path(__file__)}"),
    "misspelt": HOOK.format(hook="h1r_reward", body="return {}"),
    "usurper": HOOK.format(hook="h1r_commands", body="import click; return [click.Command('generate')]"),
    "raising": HOOK.format(hook="h1r_profiles", body="return {}['laptop']"),
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def h1r(tmp_path: Path) -> Run:
    """Runs `h1r ARGUMENTS` in an empty directory and checks its exit status."""

    def run(
        *arguments: str, packages: Path | None = None, status: int = 0, env: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "h1r_cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(packages or ""), **env},
        )
        assert done.returncode == status, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def example_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the example plugin is installed in."""
    return install(tmp_path_factory.mktemp("packages"), EXAMPLE)


@pytest.fixture(scope="session")
def faulty_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the packages of FAULTY; H1R_WITHOUT switches each off."""
    sources = tmp_path_factory.mktemp("sources")
    for name, code in FAULTY.items():
        (sources / name).mkdir()
        (sources / name / "pyproject.toml").write_text(PYPROJECT.format(name=name))
        (sources / name / f"h1r_{name}.py").write_text(code)
    return install(tmp_path_factory.mktemp("packages"), *(sources / name for name in FAULTY))


def install(target: Path, *sources: Path) -> Path:
    """Build and install packages with pip, without a network; returns `target`, for PYTHONPATH."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), *map(str, sources)], check=True)
    return target
