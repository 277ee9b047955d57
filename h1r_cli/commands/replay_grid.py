"""From the options of `h1r replay` to families and policies: all combinations, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

from h1r_cli.errors import ConfigError, listing

if TYPE_CHECKING:
    from h1r_cli.deepconf.pool import Family, Pool
    from h1r_cli.deepconf.replay import Policy
    from h1r_cli.registry import Registry
    from h1r_cli.settings import DeepConfSettings

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Grid:
    """What is combined; `pruners` maps how the user names a part to its name and options, budget None is all."""

    pruners: Mapping[str, tuple[str, Mapping[str, Any]]]
    keep_fracs: Sequence[float]
    windows: Sequence[int]
    budgets: Sequence[int | None]
    confidences: Sequence[str]
    warmup: int
    votes: Mapping[str, Sequence[str]]  # the rules for each confidence


def grid(settings: DeepConfSettings, stored: Sequence[str], given: Mapping[str, Any]) -> Grid:
    """The options as typed, with the settings of the run where one is not given.

    Args:
        stored: the confidences that there are.
        given: pruner, keep_frac, window, budget, confidence and vote as comma-separated texts, warmup as a number.

    Raises:
        ConfigError: a value that cannot be used, with the option's name.
    """
    from h1r_cli.deepconf.confidence import top_percentile

    plan, own = settings.deepconf, settings.pruner
    keep_fracs = numbers("--keep-frac", given["keep_frac"], float) or [plan.keep_frac]
    for keep_frac in keep_fracs:
        top_percentile([0.0], keep_frac)  # refuses one that is no share
    confidences = _texts(given["confidence"]) or [plan.confidence]
    for name in confidences:
        if name not in stored:
            raise ConfigError(
                f"no confidence '{name}' is stored", known=listing(stored), fix="choose one that is, or run anew"
            )
    return Grid(
        pruners=parts(given["pruner"] or "") or {own.name: (own.name, own.options)},
        keep_fracs=keep_fracs,
        windows=numbers("--window", given["window"], int) or [plan.window_tokens],
        budgets=numbers("--budget", given["budget"], int) or [None],
        confidences=confidences,
        warmup=given["warmup"] or plan.warmup,
        votes={name: _votes(settings, name, _texts(given["vote"])) for name in confidences},
    )


def families(registry: Registry, asked: Grid) -> list[Family]:
    """Each pruner with each window and each confidence."""
    from h1r_cli.build import build
    from h1r_cli.deepconf.pool import Family

    made = []
    for (label, (name, options)), window, confidence in product(
        asked.pruners.items(), asked.windows, asked.confidences
    ):
        policy = build(registry, "h1r_pruners", name, options, {"window_tokens": window}, "--pruner")
        made.append(Family(label, policy, window, confidence))
    return made


def policies(
    asked: Grid, found: Sequence[Family], pools: Sequence[Pool], ran: Callable[[Policy], bool] | None
) -> list[Policy]:
    """Each family with each keep-frac and budget; one keep-frac where the scores of a family are all infinite.

    Args:
        ran: whether a policy is the one of the run itself; None where none can be.
    """
    from dataclasses import replace

    from h1r_cli.deepconf.replay import Policy

    made = []
    for number in range(len(found)):
        scores = (trace.readings[number].score_nats for pool in pools for trace in pool.traces)
        shares = [None] if all(map(math.isinf, scores)) else asked.keep_fracs
        for keep_frac, budget in product(shares, asked.budgets):
            policy = Policy(number, keep_frac, budget, asked.warmup)
            made.append(replace(policy, ran=ran is not None and ran(policy)))
    return made


def ran_in(
    settings: DeepConfSettings, asked: Grid, found: Sequence[Family], pools: Sequence[Pool]
) -> Callable[[Policy], bool]:
    """Whether a policy, on whole pools in their order, is the one that `settings` ran."""
    plan, own = settings.deepconf, (settings.pruner.name, settings.pruner.options)
    sizes = {len(pool.traces) for pool in pools}

    def ran(policy: Policy) -> bool:
        family = found[policy.family]
        whole = policy.budget is None or sizes == {policy.budget}
        shape = (family.window_tokens, family.confidence, policy.warmup)
        return (
            whole
            and asked.pruners[family.pruner] == own
            and shape == (plan.window_tokens, plan.confidence, plan.warmup)
            and policy.keep_frac in (None, plan.keep_frac)
        )

    return ran


def numbers(option: str, text: str | None, kind: type[N]) -> list[N]:
    """The positive numbers of a comma-separated list; none where the option is not given.

    Raises:
        ConfigError: what is no such number.
    """
    found = []
    for part in _texts(text):
        try:
            value = kind(part)
        except ValueError:
            value = kind(0)
        if not 0 < value < math.inf:
            what = "whole number above 0" if kind is int else "number above 0"
            raise ConfigError(
                f"{option} holds '{part}', which is no {what}",
                known=f"{option} {'8,32' if kind is int else '0.1,0.9'}",
                fix="give numbers, separated by commas",
            )
        found.append(value)
    return found


def parts(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Parts on the command line, as typed -> name and options; a comma before `key=value` belongs to the part.

    >>> parts("never,tail-window:window_tokens=8,every_tokens=4")["tail-window:window_tokens=8,every_tokens=4"]
    ('tail-window', {'window_tokens': 8, 'every_tokens': 4})
    """
    from h1r_cli.build import parse_part

    typed: list[str] = []
    for piece in _texts(text):
        if typed and "=" in piece.partition(":")[0]:
            typed[-1] += f",{piece}"
        else:
            typed.append(piece)
    return {one: parse_part(one) for one in typed}


def _texts(text: str | None) -> list[str]:
    return [part for part in (piece.strip() for piece in (text or "").split(",")) if part]


def _votes(settings: DeepConfSettings, confidence: str, names: Sequence[str]) -> list[str]:
    """The vote rules of these names, `all` being those that the confidence serves."""
    from h1r_cli.deepconf.result import check_vote, rules_for
    from h1r_cli.deepconf.vote import REWARD

    if "all" in names:
        return rules_for(confidence)
    chosen = list(dict.fromkeys(names)) or [settings.deepconf.vote]
    for name in chosen:
        if name.startswith(REWARD):
            raise ConfigError(
                f"the vote rule '{name}' is not replayed: it reads texts",
                known=listing(rules_for(confidence)),
                fix="give other rules with --vote",
            )
        check_vote(settings.deepconf.model_copy(update={"vote": name, "confidence": confidence}))
    return chosen
