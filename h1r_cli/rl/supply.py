"""The groups of each step: from the cache, from rollouts, and from more rollouts until there are enough that teach.

A group whose rollouts are all right or all wrong, by their verdicts' `correct`, has nothing to tell them apart and
gives no policy gradient. What is done about it is PAPER section 3's choice of three:

    backfill    drop it, and draw further problems until the batch is full (the paper's; the most stable)
    reject      drop it, and train on a smaller batch
    duplicate   drop it, and fill the batch with copies of rollouts of positive advantage, drawn at random

What is kept for later steps is dropped where their stage does not draw from its problems.

A rollout's seed follows from its problem's place in the stream, so that which rollouts a step sees depends on neither
ranks nor timing, unless the last of a generation may go on in the next (`carried_frac`). Every rank has all groups,
and the same cache; each generates and judges its share.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from h1r_cli.errors import H1RError
from h1r_cli.rl.ahead import Ahead
from h1r_cli.rl.books import Books
from h1r_cli.rl.cache import Cache
from h1r_cli.rl.curriculum import Curriculum
from h1r_cli.rl.ledger import Ledger
from h1r_cli.rl.making import all_of, filled, rest_of
from h1r_cli.rl.rollout import Engines, Roller, Wanted, is_unfinished
from h1r_cli.rl.rows import Trained, Weighing, copies_of, teaches
from h1r_cli.rl.store import Stored
from h1r_cli.seeds import seed_for
from h1r_cli.train.ranks import Ranks
from h1r_cli.types import Group, Problem, Rollout

Filling = Literal["backfill", "reject", "duplicate"]
RATE_WEIGHT = 0.3  # of the newest generation, in the running share of groups that teach
CLOSE_S = 10.0  # for a batch in the making to be given up


@dataclass(frozen=True, slots=True)
class Demand:
    """What a step asks for."""

    batch_groups: int  # B
    group_size: int  # G
    filling: Filling = "backfill"
    generation_groups: int | None = None  # problems of one generation; None: as many as are likely to be missing
    most_generations: int = 10  # of one step, after which the run is stopped
    cache_refresh_steps: int = 0  # 0: never
    cache_age_steps: int = 0  # oldest that a cached group may be; 0: any
    carried_frac: float = 0.0  # of a generation's rollouts: the last, which go on in the next
    seed: int = 0


@dataclass(slots=True)
class Batch:
    """What a step trains on, and what came of it on the way."""

    groups: list[Group] = field(default_factory=list)
    copies: list[Trained] = field(default_factory=list)  # of the groups' rollouts, which are trained on once more
    stored: list[Stored] = field(default_factory=list)  # every group that was generated or trained in this step
    generated: list[Group] = field(default_factory=list)
    from_cache: int = 0  # groups
    generations: int = 0  # calls for rollouts
    lost_tokens: int = 0  # that are in no group of `generated`, and never will be
    carried: int = 0  # rollouts that go on in the next step


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch that is being made, and what the supply was like before."""

    batch: Ahead[Batch]
    state: dict[str, Any]
    kept: tuple[Group, ...]


class Supply:
    """Makes the batches; what it keeps between steps is the cache, the ledger and the places in the streams.

    Use it in a `with`, inside those of the engine and the judges: at its end no batch is in the making any more.
    """

    def __init__(
        self,
        demand: Demand,
        weighing: Weighing,
        curriculum: Curriculum,
        roller: Roller,
        encode: Callable[[Problem], tuple[int, ...]],
        difficulty: Callable[[Problem], str],
        ranks: Ranks,
        engines: Engines,
        cache_groups: int,
    ) -> None:
        self.demand, self.weighing, self.curriculum, self.roller = demand, weighing, curriculum, roller
        self.encode = encode
        self.ranks, self.engines = ranks, engines
        self.cache, self.books = Cache(cache_groups), Books(Ledger(), difficulty, weighing)
        self.carried: list[Group] = []  # of which some rollouts have not ended
        self.places: Counter[int] = Counter()  # by stage: problems taken from its stream
        self.teaching_frac = 1.0  # running share of the groups that teach
        self._begun: _Begun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, limit_s: float = CLOSE_S) -> bool:
        """Give up the batch that was begun; whether its thread has ended, for which it is given so many seconds."""
        self.roller.left.set()
        return self._begun is None or self._begun.batch.join(limit_s)

    def batch(self, step: int, version: int) -> Batch:
        """The groups to train on in `step`; every rank must call it, and all get the same.

        Args:
            version: of the policy whose weights the engine has; the batch that was begun has the version of then.

        Raises:
            H1RError: `most_generations` did not fill the batch, with what the groups were like.
        """
        if self._begun is not None:
            begun, self._begun = self._begun, None
            return begun.batch.result()
        return self._make(step, version)

    def begin(self, step: int, version: int) -> None:
        """Make the batch of `step` in a thread, while the policy trains on the one before.

        Until `batch` hands it over, `state`, `kept` and `ledger` are as if it had not been begun: a run that goes on
        from there makes it again.
        """
        kept = self.state(), self.kept
        self._begun = _Begun(Ahead(lambda: self._make(step, version)), *kept)

    def wait(self) -> None:
        """Until the engine has nothing to do."""
        if self._begun is not None:
            self._begun.batch.result()

    def _make(self, step: int, version: int) -> Batch:
        demand, batch = self.demand, Batch()
        self._refresh(step, batch)
        cached = self.cache.take(demand.batch_groups)
        batch.groups, batch.from_cache = list(cached), len(cached)
        while len(batch.groups) < demand.batch_groups:
            if batch.generations == demand.most_generations:
                raise self._no_signal(step, batch)
            teaching = self._teaching(step, version, demand.batch_groups - len(batch.groups), batch)
            missing = demand.batch_groups - len(batch.groups)
            batch.groups += teaching[:missing]
            self._keep(teaching[missing:], batch)
            if demand.filling != "backfill" and batch.groups:
                break
        if demand.filling == "duplicate":
            lucky = random.Random(seed_for(demand.seed, "duplicates", step))
            missing = (demand.batch_groups - len(batch.groups)) * demand.group_size
            batch.copies = copies_of(batch.groups, missing, self.weighing, lucky)
        batch.carried = sum(is_unfinished(rollout) for group in self.carried for rollout in group.rollouts)
        self.books.trained(batch.groups, cached, batch.stored)
        self.books.ledger.check()
        return batch

    @property
    def ledger(self) -> Ledger:
        """Where each token went."""
        return self.books.ledger if self._begun is None else Ledger(self._begun.state["ledger"])

    @property
    def kept(self) -> tuple[Group, ...]:
        """The groups that later steps use: the cache's, oldest first, and those that go on."""
        return (*self.cache.groups, *self.carried) if self._begun is None else self._begun.kept

    def state(self) -> dict[str, Any]:
        """The places and the ledger, as plain values; `kept` are to be stored apart."""
        if self._begun is not None:
            return self._begun.state
        places = {str(stage): place for stage, place in self.places.items()}
        return {"places": places, "teaching_frac": self.teaching_frac, "ledger": self.ledger.state()}

    def restore(self, state: Mapping[str, Any], kept: Sequence[Group]) -> None:
        """Take back what `state` and `kept` gave."""
        self.places = Counter({int(stage): place for stage, place in state["places"].items()})
        self.teaching_frac = state["teaching_frac"]
        self.books.ledger = Ledger(state["ledger"])
        self.cache = Cache(self.cache.size, (group for group in kept if not goes_on(group)))
        self.carried = [group for group in kept if goes_on(group)]

    # --- generation ---

    def _teaching(self, step: int, version: int, missing: int, batch: Batch) -> list[Group]:
        """One generation: all its groups are booked but those that teach, which come back."""
        groups = self._generate(step, version, missing, batch)
        teaching = [group for group in groups if teaches(group)]
        for group in groups:
            if not teaches(group):
                self.books.dropped(group, "all-right" if group.correct else "all-wrong", batch.stored)
        if groups:
            self.teaching_frac += RATE_WEIGHT * (len(teaching) / len(groups) - self.teaching_frac)
        return teaching

    def _generate(self, step: int, version: int, missing: int, batch: Batch) -> list[Group]:
        """The groups that a generation ends: those that went on into it, and new ones."""
        stage, demand = self.curriculum.stage_at(step), self.demand
        start, count = self.places[stage], self._how_many(missing)
        going_on, self.carried = self.carried, []
        fresh = [
            Group(problem, place, self.encode(problem), ())
            for place, problem in self.curriculum.problems(stage, start, count)
        ]
        wanted = [one for group in going_on for one in rest_of(group, demand.seed, step)]
        wanted += [one for group in fresh for one in all_of(group, demand.group_size, demand.seed, stage)]
        self.places[stage] += count
        made = iter(self._roll(wanted, version, batch))
        groups = [filled(group, made, demand.group_size) for group in (*going_on, *fresh)]
        batch.generations += 1
        self.books.taken_up(going_on)
        self.books.generated(groups)
        self.carried = [group for group in groups if goes_on(group)]
        self.books.carried(self.carried)
        ended = [group for group in groups if not goes_on(group)]
        batch.generated += ended
        return ended

    def _how_many(self, missing: int) -> int:
        """Problems to ask for: the setting's, or as many as will likely fill the batch."""
        demand = self.demand
        if demand.filling != "backfill":
            return max(0, missing - len(self.carried))
        likely = -(-missing // max(self.teaching_frac, 0.1)) - len(self.carried)
        return demand.generation_groups or max(0, int(min(likely, 4 * demand.batch_groups)))

    def _roll(self, wanted: list[Wanted], version: int, batch: Batch) -> list[Rollout]:
        """This rank makes its share of the rollouts; all get all of them."""
        made = self.roller.roll(self.engines.share(wanted), version, self.demand.carried_frac)
        with self.roller.watch.waiting("rollout"):
            parts = self.ranks.gather_values(made)
        lost = sum(tokens for _, tokens in parts)
        batch.lost_tokens += lost
        self.books.lost(lost)
        return [rollout for rollouts, _ in parts for rollout in rollouts]

    # --- the cache ---

    def _refresh(self, step: int, batch: Batch) -> None:
        """Drop what is too old, and what the step's stage does not draw from."""
        demand, stage = self.demand, self.curriculum.stage_at(step)

        def of_stage(group: Group) -> bool:
            return self.curriculum.draws(stage, group.problem)

        left = [group for group in self.carried if not of_stage(group)]
        self.carried = [group for group in self.carried if of_stage(group)]
        batch.lost_tokens += self.books.given_up(left, batch.stored)
        self.books.expired(self.cache.keep(of_stage))
        oldest = step - demand.cache_age_steps if demand.cache_age_steps else 0
        if demand.cache_refresh_steps and step and step % demand.cache_refresh_steps == 0:
            oldest = step
        self.books.expired(self.cache.expire(oldest))

    def _keep(self, surplus: list[Group], batch: Batch) -> None:
        for group in surplus:
            self.books.dropped(group, "cached" if self.cache.size else "surplus", batch.stored)
        if self.cache.size:
            self.books.expired(self.cache.put(surplus))

    def _no_signal(self, step: int, batch: Batch) -> H1RError:
        counts = Counter(group.correct for group in batch.generated)
        told = ", ".join(f"{counts[right]} with {right} right" for right in sorted(counts))
        return H1RError(
            f"step {step}: {batch.generations} generations gave {len(batch.groups)} of {self.demand.batch_groups} "
            f"groups that teach",
            known=f"groups of {self.demand.group_size}: {told}",
            fix="choose problems that the model solves sometimes (h1r curate), or raise reject_sampling_bound",
        )


def goes_on(group: Group) -> bool:
    """Whether some of its rollouts have not ended."""
    return any(map(is_unfinished, group.rollouts))
