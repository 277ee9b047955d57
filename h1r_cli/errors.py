"""The errors that a user can mend, worded in three parts: what, what is known, what to do now."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class H1RError(Exception):
    """Something that a user caused and can fix; `main` prints it and exits with status 2.

    Args:
        what: the actual value and where it came from. Lower case, no full stop.
        known: what exists instead, or who set it; left out when there is nothing to say.
        fix: one imperative.
    """

    def __init__(self, what: str, *, known: str | None = None, fix: str) -> None:
        self.what, self.known, self.fix = what, known, fix
        middle = "" if known is None else f"\n  known: {known}"
        super().__init__(f"{what}{middle}\n  fix: {fix}")


class ConfigError(H1RError):
    """A setting, a profile or an option is wrong."""


class PluginError(H1RError):
    """A plugin does not load, clashes with another, or does not offer what was asked of it."""


class DataError(H1RError):
    """An input file or a record in it cannot be used."""


class MissingDataError(DataError):
    """A data set is neither on this disk nor to be had from here; `origin` is where it comes from."""

    def __init__(self, what: str, *, origin: str, fix: str) -> None:
        self.origin = origin
        super().__init__(what, known=f"they come from {origin}", fix=fix)


class RunDirError(H1RError):
    """A run directory cannot be created or resumed."""


class MissingExtraError(H1RError):
    """An optional dependency is asked for and not installed."""

    def __init__(self, module: str, extra: str, wanted_by: str) -> None:
        super().__init__(f"{wanted_by} needs {module}, which is not installed", fix=f"pip install 'h1r[{extra}]'")


class EngineError(H1RError):
    """An engine died, hangs or ran out of memory; what was finished before is kept."""


def listing(names: Iterable[str]) -> str:
    """Names in order, as one line.

    >>> listing({"math", "code"})
    'code, math'
    """
    return ", ".join(sorted(names)) or "none"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a typing slip most likely meant, or None.

    >>> nearest("mth", ["math", "code"])
    'math'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> PluginError:
    """The error for a name that no plugin provides.

    >>> print(unknown_name("reward", "mth", ["math", "code"]))
    no reward is called 'mth'
      known: code, math
      fix: did you mean 'math'?
    """
    names = list(known)
    guess = nearest(name, names)
    fix = f"did you mean '{guess}'?" if guess else "name one that exists, or install the plugin that offers it"
    return PluginError(f"no {kind} is called '{name}'", known=listing(names), fix=fix)
