"""Whether a sandbox works here, found out by running `true` in it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from functools import cache

from h1r_cli.errors import ConfigError, listing
from h1r_cli.rewards.sandbox.job import Job, Limits
from h1r_cli.rewards.sandbox.run import SandboxKind, run
from h1r_cli.rewards.sandbox.seccomp import seccomp_filter

KINDS: tuple[SandboxKind, ...] = ("bwrap", "none")


def checked(kind: str) -> SandboxKind:
    """`kind`, once it is known to work.

    Raises:
        ConfigError: there is no such sandbox, or it does not work on this machine: nothing was run then.
    """
    for known in KINDS:
        if kind == known:
            trouble = _trouble(known)
            if trouble is None:
                return known
            raise ConfigError(
                f"sandbox '{kind}' does not work here: {trouble}",
                known="programs that a model wrote are not run without a sandbox",
                fix="apt-get install bubblewrap util-linux, or use reward 'sandbox-fusion'",
            )
    raise ConfigError(f"no sandbox is called '{kind}'", known=listing(KINDS), fix="write sandbox = 'bwrap'")


def facts(kind: SandboxKind) -> Mapping[str, str]:
    """What a run's manifest should say of how programs were run."""
    if kind == "none":
        return {"sandbox": "none", "seccomp": "none"}
    return {"sandbox": kind, "seccomp": "none" if seccomp_filter() is None else platform.machine()}


@cache
def _trouble(kind: SandboxKind) -> str | None:
    tools = ("prlimit",) if kind == "none" else ("bwrap", "prlimit", "setpriv")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{listing(missing)} not installed"
    ended = run(Job(("true",), Limits()), kind)
    return None if ended.ending == "finished" else f"{ended.ending} {ended.detail}".strip()
