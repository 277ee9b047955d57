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

KINDS: tuple[SandboxKind, ...] = ("bwrap", "namespaces", "none")
AUTO: tuple[SandboxKind, ...] = ("bwrap", "namespaces")  # in this order; "none" has to be written out


def checked(kind: str) -> SandboxKind:
    """The sandbox called `kind`, once it is known to work; of "auto" the first of AUTO that does.

    Raises:
        ConfigError: there is no such sandbox, or none that works on this machine: nothing was run then.
    """
    if kind != "auto" and kind not in KINDS:
        raise ConfigError(
            f"no sandbox is called '{kind}'", known=listing(("auto", *KINDS)), fix="write sandbox = 'auto'"
        )
    troubles = {known: trouble(known) for known in (AUTO if kind == "auto" else KINDS) if kind in ("auto", known)}
    working = [known for known, cause in troubles.items() if cause is None]
    if working:
        return working[0]
    raise ConfigError(
        "no sandbox works here: " + "; ".join(f"{known}: {cause}" for known, cause in troubles.items()),
        known="programs that a model wrote are not run without a sandbox",
        fix="apt-get install bubblewrap util-linux, or use reward 'sandbox-fusion'",
    )


def facts(kind: SandboxKind) -> Mapping[str, str]:
    """What a run's manifest should say of how programs were run."""
    if kind == "none":
        return {"sandbox": "none", "seccomp": "none"}
    return {"sandbox": kind, "seccomp": "none" if seccomp_filter() is None else platform.machine()}


@cache
def trouble(kind: SandboxKind) -> str | None:
    """Why a sandbox does not work here, found out by running `true` in it; None if it does."""
    tools = ("bwrap", "prlimit", "setpriv") if kind == "bwrap" else ("prlimit",)
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{listing(missing)} not installed"
    ended = run(Job(("true",), Limits()), kind)
    return None if ended.ending == "finished" else f"{ended.ending} {ended.detail}".strip()
