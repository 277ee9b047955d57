"""The data of each step: the next conversations of the stream, packed into rows and dealt to the ranks.

Which conversations a step takes and which rows they make depends on the stream alone, never on the number of ranks
beyond its making their number a multiple. Each rank tokenises its share to learn the lengths, then the rows that fall
to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from h1r_cli.data.chat import Sample
from h1r_cli.data.mixture import Draw, Mixture
from h1r_cli.data.packing import Row, deal, row_of
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.train.ranks import Ranks
from h1r_cli.types import Conversation


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a step and its parts are."""

    global_batch: int  # conversations of a step
    max_length_tokens: int  # of one conversation
    row_tokens: int  # of one row, at least max_length_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: this rank's rows, a micro-batch each, and what the step comes to over all ranks."""

    rows: list[Row]
    conversations: int  # taken from the stream
    trimmed: int  # that were longer than max_length_tokens
    untrainable: int  # of which nothing was left to learn: taken, and dropped
    tokens: int
    trained_tokens: int
    tokens_by_kind: dict[str, int]  # "domain/difficulty"
    trained_by_domain: Counter[str]
    lengths: list[int]  # of all samples
    row_tokens: list[int]  # of each row of all ranks
    most_row_tokens: int  # that a row may hold

    @property
    def row_count(self) -> int:
        return len(self.row_tokens)

    @property
    def fill_frac(self) -> float:
        """How full the rows are: tokens over places."""
        return self.tokens / (self.row_count * self.most_row_tokens)

    @property
    def imbalance_frac(self) -> float:
        """What the fullest row has above the mean, over the mean: 0 when all ranks have equally much to do."""
        return max(self.row_tokens) * self.row_count / self.tokens - 1


@dataclass(frozen=True, slots=True)
class _Measured:
    """What is known of a conversation once it is tokenised; `sample` where this rank did it."""

    draw: Draw
    tokens: int
    trained: int
    trimmed: bool
    sample: Sample | None


def batches(
    mixture: Mixture,
    position: int,
    tokenize: Callable[[Conversation], Sample],
    limits: Limits,
    ranks: Ranks,
) -> Iterator[Batch]:
    """The steps from `position` of the stream on, without end; every rank must take them together.

    A conversation of which max_length_tokens leave nothing to learn is dropped, and another taken.

    Raises:
        ConfigError: a step has fewer conversations than there are data-parallel ranks.
        DataError: an epoch's worth of conversations in a row leaves nothing to learn.
    """
    if limits.global_batch < ranks.data_world:
        raise ConfigError(
            f"global_batch {limits.global_batch} is less than the {ranks.data_world} data-parallel ranks",
            fix="raise global_batch, or use fewer ranks",
        )
    stream, groups = mixture.stream(position), mixture.domains
    most = mixture.until(1) + limits.global_batch
    while True:
        measured: list[_Measured] = []
        taught: list[_Measured] = []
        while len(taught) < limits.global_batch:
            if len(measured) == most:
                raise _nothing_to_learn(len(measured), len(taught), limits)
            wanted = min(limits.global_batch - len(taught), most - len(measured))
            draws = [next(stream) for _ in range(wanted)]
            found = _measure(draws, tokenize, limits, ranks)
            measured += found
            taught += [one for one in found if one.trained]
        dealt = deal([one.tokens for one in taught], limits.row_tokens, ranks.data_world)
        yield Batch(
            rows=[_row([taught[i] for i in row], tokenize, limits, groups) for row in dealt[ranks.data_rank]],
            conversations=len(measured),
            trimmed=sum(one.trimmed for one in measured),
            untrainable=len(measured) - len(taught),
            tokens=sum(one.tokens for one in taught),
            trained_tokens=sum(one.trained for one in taught),
            tokens_by_kind=dict(_sums(("/".join(one.draw.kind), one.tokens) for one in taught)),
            trained_by_domain=_sums((one.draw.kind[0], one.trained) for one in taught),
            lengths=[one.tokens for one in taught],
            row_tokens=[sum(taught[i].tokens for i in row) for rows in dealt for row in rows],
            most_row_tokens=limits.row_tokens,
        )


def _measure(
    draws: Sequence[Draw], tokenize: Callable[[Conversation], Sample], limits: Limits, ranks: Ranks
) -> list[_Measured]:
    """Each rank tokenises every world-th of `draws`; all learn the lengths."""
    own: dict[int, Sample] = {}
    turns = -(-len(draws) // ranks.world)
    told = [0] * (3 * turns)
    for turn, place in enumerate(range(ranks.rank, len(draws), ranks.world)):
        whole = tokenize(draws[place].conversation)
        own[place] = sample = whole.trimmed(limits.max_length_tokens)
        cut = len(whole.token_ids) > limits.max_length_tokens
        told[3 * turn : 3 * turn + 3] = len(sample.token_ids), sample.trained_tokens, cut
    heard = ranks.gather(told)
    found = []
    for place, draw in enumerate(draws):
        turn, rank = divmod(place, ranks.world)
        tokens, trained, was_trimmed = heard[rank][3 * turn : 3 * turn + 3]
        found.append(_Measured(draw, tokens, trained, bool(was_trimmed), own.get(place)))
    return found


def _row(
    members: Sequence[_Measured],
    tokenize: Callable[[Conversation], Sample],
    limits: Limits,
    groups: Sequence[str],
) -> Row:
    samples = [one.sample or tokenize(one.draw.conversation).trimmed(limits.max_length_tokens) for one in members]
    return row_of(samples, [groups.index(one.draw.kind[0]) for one in members])


def _sums(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    summed: Counter[str] = Counter()
    for name, count in counts:
        summed[name] += count
    return summed


def _nothing_to_learn(taken: int, taught: int, limits: Limits) -> DataError:
    return DataError(
        f"of {taken} conversations in a row {taken - taught} have prompts of {limits.max_length_tokens} tokens or "
        "more",
        fix="raise max_length_tokens, or leave such conversations out",
    )
