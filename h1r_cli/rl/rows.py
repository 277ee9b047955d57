"""A step's groups as rows to train on: each rollout with its advantage and its share of the loss, packed and dealt.

What a token weighs is counted over all rollouts of the update, before its first backward pass, so that neither rows
nor ranks change it:

    sequence-mean   1 / (N |o_i|)     the mean over N rollouts of the mean over their tokens (PAPER's formula)
    token-mean      1 / sum_i |o_i|   every token alike (DAPO)

A rollout without a verdict, or one that is masked as too long, is neither trained on nor counted.

Rollouts of one group that lie in one row share their prompt, all of it but its last token, which predicts the first
of each: it is computed once (`h1r_cli.model.documents`). Loss and gradient are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from h1r_cli.data.packing import IGNORED, deal
from h1r_cli.model.documents import Documents
from h1r_cli.model.sharding import WHOLE, Whole
from h1r_cli.rewards.pool import NO_VERDICT
from h1r_cli.rl.advantage import advantages, length_penalty
from h1r_cli.rl.loss import Aggregation
from h1r_cli.train.ranks import Ranks
from h1r_cli.types import Group, Rollout

T = TypeVar("T")
COLUMNS = ("behaviour", "advantages", "weights", "nll_weights", "old", "reference")  # of a row, in this order
UNKNOWN = float("nan")  # in a column that is filled in later, or not used
BUNDLE_PART = 4  # of a row is the most that rollouts with one prompt fill together, so that rows can be balanced

Overlong = Literal["plain", "mask", "penalty"]


@dataclass(frozen=True, slots=True)
class Weighing:
    """How rollouts become a loss: see the module and `h1r_cli.rl.loss`."""

    aggregation: Aggregation = "sequence-mean"
    nll_coef: float = 0.1
    overlong: Overlong = "plain"
    overlong_buffer_tokens: int = 4096
    max_tokens: int = 49_152  # of a response


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A rollout that is trained on, with what it is told."""

    prompt_ids: tuple[int, ...]
    rollout: Rollout
    advantage: float

    @property
    def tokens(self) -> int:
        """Of the prompt and the response."""
        return len(self.prompt_ids) + len(self.rollout.token_ids)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyRow:
    """Rollouts side by side, N tokens with their prompts.

    `targets[t]` is the token that follows where that is a response's, else `IGNORED`; `columns` hold there what is
    known of it. `prefixes` are, for each document, the number of the one that is its prompt but for the last token.
    """

    token_ids: NDArray[np.int64]  # [N]
    targets: NDArray[np.int64]  # [N]
    lengths: tuple[int, ...]
    prefixes: tuple[int | None, ...]
    columns: NDArray[np.float32]  # [len(COLUMNS), N]


def is_judged(rollout: Rollout) -> bool:
    """Whether its verifier came to an end."""
    return not rollout.verdict.reason.startswith(NO_VERDICT)


def teaches(group: Group) -> bool:
    """Whether some of its judged rollouts are right and some wrong."""
    judged = [rollout.verdict.correct for rollout in group.rollouts if is_judged(rollout)]
    return any(judged) and not all(judged)


def is_masked(rollout: Rollout, weighing: Weighing) -> bool:
    """Whether it is left out of training as too long."""
    return weighing.overlong == "mask" and rollout.end == "length"


def shaped_reward(rollout: Rollout, weighing: Weighing) -> float:
    """The verdict's reward, less a penalty of its length where that is asked for."""
    reward = rollout.verdict.reward
    if weighing.overlong != "penalty":
        return reward
    return reward + length_penalty(len(rollout.token_ids), weighing.max_tokens, weighing.overlong_buffer_tokens)


def trained_of(group: Group, weighing: Weighing) -> list[Trained]:
    """The rollouts of a group that are trained on; a masked one still counts in the advantage of the others."""
    judged = [rollout for rollout in group.rollouts if is_judged(rollout)]
    told = advantages([shaped_reward(rollout, weighing) for rollout in judged])
    return [
        Trained(group.prompt_ids, rollout, advantage)
        for rollout, advantage in zip(judged, told, strict=True)
        if not is_masked(rollout, weighing)
    ]


def copies_of(groups: Sequence[Group], count: int, weighing: Weighing, lucky: Random) -> list[Trained]:
    """`count` of the groups' rollouts once more, drawn at random from those of positive advantage, if there are any.

    PAPER duplicates "samples": we take them for rollouts, since a group as a whole has no advantage.
    """
    positive = [one for group in groups for one in trained_of(group, weighing) if one.advantage > 0]
    places = sorted(lucky.choices(range(len(positive)), k=count)) if positive else []
    return [positive[place] for place in places]  # in order, so that those of a group are neighbours


def parts_of(
    groups: Sequence[Group], copies: Sequence[Trained], updates: int, weighing: Weighing
) -> list[list[Trained]]:
    """The rollouts of each update of a batch, `updates` at most; groups stay together. None is left without any."""
    count = min(updates, len(groups))
    parts = [
        [one for group in _share(groups, part, count) for one in trained_of(group, weighing)]
        + list(_share(copies, part, count))
        for part in range(count)
    ]
    return [part for part in parts if part]


def _share(items: Sequence[T], part: int, count: int) -> Sequence[T]:
    return items[len(items) * part // count : len(items) * (part + 1) // count]


def rows_of(
    members: Sequence[Trained], weighing: Weighing, row_tokens: int, ranks: Ranks, *, share_prompts: bool = False
) -> list[PolicyRow]:
    """This rank's rows of an update, as many as every other rank has; none above `row_tokens` but for one rollout.

    Args:
        share_prompts: whether the model computes a prefix of several documents once.
    """
    bundles = _bundles(members, row_tokens // BUNDLE_PART if share_prompts else 0)
    lengths = [_tokens(bundle) for bundle in bundles]
    dealt = deal(lengths, max(row_tokens, *lengths), ranks.data_world)[ranks.data_rank]
    generated = sum(len(one.rollout.token_ids) for one in members)
    right = sum(len(one.rollout.token_ids) for one in members if one.rollout.verdict.correct)

    def columns(one: Trained) -> NDArray[np.float32]:
        tokens = len(one.rollout.token_ids)
        weight = 1 / generated if weighing.aggregation == "token-mean" else 1 / (len(members) * tokens)
        nll = weighing.nll_coef / right if one.rollout.verdict.correct else 0.0
        told = np.full((len(COLUMNS), tokens), UNKNOWN, dtype=np.float32)
        told[0] = one.rollout.behaviour_logprobs
        told[1:4] = np.array([[one.advantage], [weight], [nll]], dtype=np.float32)
        return told

    return [_row([bundles[i] for i in row], columns) for row in dealt]


def _bundles(members: Sequence[Trained], most_tokens: int) -> list[list[Trained]]:
    """Rollouts that share their prompt: neighbours with the same, up to so many tokens together."""
    bundles: list[list[Trained]] = []
    for one in members:
        if bundles and one.prompt_ids == bundles[-1][0].prompt_ids and _tokens([*bundles[-1], one]) <= most_tokens:
            bundles[-1].append(one)
        else:
            bundles.append([one])
    return bundles


def _tokens(bundle: Sequence[Trained]) -> int:
    """Of a row that they fill."""
    if len(bundle) == 1:
        return bundle[0].tokens
    return len(bundle[0].prompt_ids) - 1 + sum(1 + len(one.rollout.token_ids) for one in bundle)


def _row(bundles: Sequence[Sequence[Trained]], columns: Callable[[Trained], NDArray[np.float32]]) -> PolicyRow:
    """For none a row of one token that teaches nothing: the rank computes all the same, as the others wait for it."""
    length = sum(map(_tokens, bundles)) or 1
    ids = np.zeros(length, dtype=np.int64)
    targets = np.full(length, IGNORED, dtype=np.int64)
    told = np.zeros((len(COLUMNS), length), dtype=np.float32)
    lengths: list[int] = []
    prefixes: list[int | None] = []
    start = 0
    for bundle in bundles:
        prompt, prefix = bundle[0].prompt_ids, None
        if len(bundle) > 1 and len(prompt) > 1:
            prefix, shared, prompt = len(lengths), prompt[:-1], prompt[-1:]
            ids[start : start + len(shared)] = shared
            lengths.append(len(shared))
            prefixes.append(None)
            start += len(shared)
        for one in bundle:
            first = start + len(prompt)
            end = first + len(one.rollout.token_ids)
            ids[start:first] = prompt
            ids[first:end] = one.rollout.token_ids
            targets[first - 1 : end - 1] = one.rollout.token_ids
            told[:, first - 1 : end - 1] = columns(one)
            lengths.append(end - start)
            prefixes.append(prefix)
            start = end
    return PolicyRow(ids, targets, tuple(lengths) or (1,), tuple(prefixes) or (None,), told)


@dataclass(frozen=True, slots=True)
class PolicyRowTensors:
    """A row on the device, of which this rank has N / S places; `documents` are the whole row's."""

    token_ids: Tensor  # [N/S]
    targets: Tensor  # [N/S]
    columns: Tensor  # [len(COLUMNS), N/S]
    owners: Tensor  # [N/S], the number of each token's document
    documents: Documents

    @classmethod
    def of(cls, row: PolicyRow, device: torch.device | str, shard: Whole = WHOLE) -> PolicyRowTensors:
        """Padded, where several ranks share it, by a document of its own that teaches nothing."""
        short = -len(row.token_ids) % shard.size
        lengths = (*row.lengths, short) if short else row.lengths
        prefixes = (*row.prefixes, None) if short else row.prefixes

        def here(values: NDArray[np.generic], padding: int) -> Tensor:
            wide = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, short)], constant_values=padding)
            return torch.from_numpy(wide).chunk(shard.size, dim=-1)[shard.rank].to(device)

        return cls(
            here(row.token_ids, 0),
            here(row.targets, IGNORED),
            here(row.columns, 0),
            here(np.repeat(np.arange(len(row.lengths)), row.lengths), len(row.lengths)),
            Documents.from_lengths(lengths, device, prefixes),
        )
