"""Reward `compose`: one reward of several, by the problem's domain, with weights and with penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, listing
from h1r_cli.rewards.compose import Composition, VotingComposition
from h1r_cli.types import Verifier


def compose(
    *,
    parts: Mapping[str, Verifier],
    main: str = "",
    by_domain: Mapping[str, str] = {},
    weights: Mapping[str, float] = {},
    penalties: Mapping[str, float] = {},
) -> Verifier:
    """`parts` are rewards by keys of your own; the rest says what each is for. In TOML:

        [reward]
        name = "compose"
        by_domain = {math = "math", science = "science"}   # problem.domain -> the main part; or main = "math"
        weights = {science = 0.5, brief = 0.2}             # unset 1 for a main part; others are added to it
        penalties = {format = 0.1}                         # taken off where that part is not correct

        [reward.parts]
        math = {name = "math"}
        science = {name = "choice"}
        brief = {name = "length", limit_chars = 200}       # some plugin's
        format = {name = "format", opened = true}

    A part is a main one, has a weight, or is a penalty; `main` may be left out where one part alone is left for it.
    Beside `by_domain`, `main` is for the domains that it does not name; without it, a problem of such a domain is an
    error. The reward is clipped to [-1, 1]; `correct` is the main part's alone, so that no penalty can hide or fake a
    signal.

    The paper penalises a wrong format and gives no amount (Falcon-H1R, section 3); 0.1 is our choice.
    """
    mains = dict.fromkeys([*by_domain.values(), *([main] if main else [])])
    for key in [*mains, *weights, *penalties]:
        if key not in parts:
            raise _wrong(f"names a part '{key}'", f"parts: {listing(parts)}", f"add [reward.parts.{key}], or mend it")
    left = [key for key in parts if key not in mains and key not in weights and key not in penalties]
    if not mains and len(left) == 1:
        main, left = left[0], []
        mains = {main: None}
    if left or not mains:
        what = f"has no use for '{left[0]}'" if mains else "does not say which part is the main one"
        raise _wrong(what, f"parts: {listing(parts)}", "name it in main, by_domain, weights or penalties")
    both = [key for key in penalties if key in mains or key in weights]
    if both:
        raise _wrong(f"has '{both[0]}' as a penalty and as a reward", None, "let it be one of the two")
    for key, amount in [*weights.items(), *penalties.items()]:
        if not (math.isfinite(amount) and amount > 0):
            raise _wrong(
                f"has {amount} for '{key}'", "weights and penalties are above 0", "set it to a number above 0"
            )
    beside = tuple(key for key in weights if key not in mains)
    made = VotingComposition if any(hasattr(parts[key], "extract") for key in mains) else Composition
    return made(parts, main or None, by_domain, beside, weights, penalties)


def _wrong(what: str, known: str | None, fix: str) -> ConfigError:
    return ConfigError(f"reward 'compose' {what}", known=known, fix=fix)


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"compose": compose}
