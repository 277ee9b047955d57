"""From settings to what DeepConf votes and prunes by; checked before an engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h1r_cli.build import build, parse_part

if TYPE_CHECKING:
    from h1r_cli.commands.parts import Sampler
    from h1r_cli.deepconf.loop import Parts
    from h1r_cli.registry import Registry
    from h1r_cli.settings import VotedSettings
    from h1r_cli.types import PruningPolicy, Verifier


@dataclass(frozen=True, slots=True)
class Voting:
    """The pruning policy, the verifier of a vote rule `reward:NAME`, and the confidences that are stored."""

    policy: PruningPolicy
    judge: Verifier | None
    confidences: tuple[str, ...]


def voting(registry: Registry, settings: VotedSettings, sampled: Sampler) -> Voting:
    """What [deepconf] and [pruner] name.

    Raises:
        ConfigError: no such vote rule, or a confidence that the engine does not give. PluginError: no such part.
    """
    from h1r_cli.deepconf.result import check_vote, confidences_to_store

    check_vote(settings.deepconf)
    follows = {"window_tokens": settings.deepconf.window_tokens, "vote": settings.deepconf.vote}
    policy: PruningPolicy = build(
        registry, "h1r_pruners", settings.pruner.name, settings.pruner.options, follows, "[pruner]"
    )
    stored = confidences_to_store(settings.deepconf, sampled.engine.capabilities, settings.engine.name)
    return Voting(policy, _judge(registry, settings.deepconf.vote), stored)


def parts_of(sampled: Sampler, how: Voting, verifier: Verifier, directory: Path) -> Parts:
    """What DeepConf's loop works with; the traces go to `directory`."""
    from h1r_cli.deepconf.loop import Parts
    from h1r_cli.deepconf.traces import Store

    store = Store(directory, how.confidences)
    return Parts(sampled.engine, verifier, how.policy, sampled.encode, sampled.decode, store, how.judge)


def _judge(registry: Registry, vote: str) -> Verifier | None:
    """The verifier that a vote rule `reward:NAME[:key=value,...]` names."""
    from h1r_cli.deepconf.vote import REWARD

    if not vote.startswith(REWARD):
        return None
    name, reward_options = parse_part(vote.removeprefix(REWARD))
    judge: Verifier = build(registry, "h1r_rewards", name, reward_options, origin=f"--vote {vote}")
    return judge
