"""Every hook and its contract. With `types` this is all that a plugin author reads.

A hook returns a table and takes no registrar. A factory's keyword-only arguments are the keys of its TOML table:
their annotations are its schema, their defaults its defaults. A parameter annotated `Engine`, `Verifier` or
`Mapping[str, Verifier]` is built from the nested table of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import click

    from h1r_cli.harness import Harness
    from h1r_cli.types import Benchmark

hookspec = pluggy.HookspecMarker("h1r")

Factories = Mapping[str, Callable[..., Any]]


@hookspec
def h1r_data_sources() -> Factories:
    """Offer data sources. A factory returns ``() -> Iterable[Problem | Conversation]``.

    The source is called afresh for each pass and must yield the same records in the same order for the same
    options. What it returns may also give records by place (``__len__``, ``__getitem__``): then training does not
    hold them in memory.
    """
    raise NotImplementedError


@hookspec
def h1r_rewards() -> Factories:
    """Offer reward verifiers. A factory returns a `Verifier`: ``(Problem, completion) -> Verdict``.

    A verifier is pure, never raises on bad model output (that is reward 0 with a reason), and returns within its
    own time limit.
    """
    raise NotImplementedError


@hookspec
def h1r_pruners() -> Factories:
    """Offer pruning policies: ``score``, ``start(threshold_nats) -> Pruner`` and, if wanted, ``enough``.

    The threshold is set from the warm-up traces' scores; a `Pruner` sees each new token's confidence once, in
    order, in units of 2^-16 nat.
    """
    raise NotImplementedError


@hookspec
def h1r_engines() -> Factories:
    """Offer inference engines. A factory returns an `Engine`, used in a ``with``.

    It takes ``model: Path``, a directory in Hugging Face's format, and whatever else the engine's table may set.
    """
    raise NotImplementedError


@hookspec
def h1r_profiles() -> Mapping[str, Traversable]:
    """Offer hardware profiles: name to TOML file.

    A profile may set only [hardware], [parallel], [engine], [kernels] and [launch]: it changes how fast a run
    goes, never what it computes beyond rounding.
    """
    raise NotImplementedError


@hookspec
def h1r_models() -> Mapping[str, Traversable]:
    """Offer models: name to a directory in Hugging Face's format.

    An `h1r.toml` beside the weights may set `system_prompt`, [sampling] and [deepconf] to what suits the model.
    """
    raise NotImplementedError


@hookspec
def h1r_benchmarks() -> Mapping[str, Benchmark | Harness]:
    """Offer benchmarks: name to data source, reward, samples per problem, sampling, licence and origin.

    One that is an environment is a `Harness` instead: how its own program is run against an endpoint, and how its
    result is read.
    """
    raise NotImplementedError


@hookspec
def h1r_commands() -> list[click.Command]:
    """Offer subcommands. The built-in ones come through this hook too."""
    raise NotImplementedError


@hookspec
def h1r_observers() -> Factories:
    """Offer observers that a run switches on by name. A factory returns an `Observer`: ``(run_dir, step, metrics)``.

    It is made before training starts, so that a missing library shows there, and is called as `h1r_step_done` is.
    """
    raise NotImplementedError


@hookspec
def h1r_step_done(run_dir: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Told after each optimiser step, on rank 0 only. Metrics have flat ``area/name_unit`` keys."""
