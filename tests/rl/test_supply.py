"""The groups of each step, from real rollouts of h1r-nano: who is trained, cached, dropped, and booked where."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from h1r_cli.errors import EngineError, H1RError
from h1r_cli.model.load import load_model
from h1r_cli.rl.curriculum import Curriculum, Stage
from h1r_cli.rl.loss import Objective
from h1r_cli.rl.policy import PolicyLoss
from h1r_cli.rl.rollout import is_unfinished
from h1r_cli.rl.rows import PolicyRowTensors, Weighing, is_judged, rows_of, trained_of
from h1r_cli.rl.store import Stored, read_groups, write
from h1r_cli.rl.supply import goes_on
from h1r_cli.train.ranks import ALONE
from h1r_cli.types import Finished
from h1r_plugins.data.arith import arith


def booked(batches):
    """Tokens by book as the stored groups say, a later word on a group in the place of an earlier."""
    last = {}
    for batch in batches:
        for stored in batch.stored:
            for rollout, book in zip(stored.group.rollouts, stored.booked, strict=True):
                last[id(rollout)] = (book, len(rollout.token_ids))
    sums = Counter()
    for book, tokens in last.values():
        sums[book] += tokens
    return sums


def test_every_step_is_full_of_groups_that_teach_and_every_token_is_in_one_book(nano_supply):
    supply = nano_supply()
    batches = [supply.batch(step, version=step) for step in range(4)]
    for batch in batches:
        assert len(batch.groups) == 3
        assert all(0 < group.correct < 4 for group in batch.groups)
    told = booked(batches)
    generated = sum(group.tokens for batch in batches for group in batch.generated)
    metrics = supply.ledger.metrics()
    assert metrics["ledger/generated_tokens"] == generated == sum(told.values())
    for book, tokens in told.items():
        assert metrics[f"ledger/{book.replace('-', '_')}_frac"] == pytest.approx(tokens / generated), book
    assert told["cached"] == sum(group.tokens for group in supply.cache.groups)
    assert {"trained", "all-right", "all-wrong"} <= told.keys()


def test_what_was_cached_comes_first_and_no_problem_is_rolled_out_twice(nano_supply):
    supply = nano_supply(generation_groups=12)
    first = supply.batch(0, version=0)
    kept = supply.cache.groups
    assert kept
    second = supply.batch(1, version=1)
    assert second.groups[: len(kept)] == list(kept[:3])
    assert second.from_cache == min(3, len(kept))
    assert all(group.version == 0 for group in second.groups[: second.from_cache])
    places = [group.place for batch in (first, second) for group in batch.generated]
    assert places == list(range(len(places)))


def test_without_a_cache_the_surplus_is_thrown_away(nano_supply):
    supply = nano_supply(cache=0, generation_groups=12)
    batches = [supply.batch(step, version=step) for step in range(2)]
    assert booked(batches)["surplus"] > 0
    assert booked(batches)["cached"] == 0
    assert [batch.from_cache for batch in batches] == [0, 0]


@pytest.mark.parametrize("how", [{"cache_refresh_steps": 1}, {"cache_age_steps": 1}])
def test_an_old_cache_is_emptied(nano_supply, how):
    supply = nano_supply(generation_groups=12, **how)
    supply.batch(0, version=0)
    assert len(supply.cache)
    later = supply.batch(2, version=2)
    assert later.from_cache == 0
    assert supply.ledger.metrics()["ledger/expired_frac"] > 0


def test_what_is_supplied_follows_from_the_seed_and_comes_back_after_a_stop(nano_supply):
    def told(batches):
        return [[(group.place, group.correct, group.tokens) for group in batch.groups] for batch in batches]

    through = nano_supply()
    whole = told(through.batch(step, version=step) for step in range(3))
    first = nano_supply()
    begin = told([first.batch(0, version=0)])
    second = nano_supply()
    second.restore(first.state(), first.cache.groups)
    assert begin + told(second.batch(step, version=step) for step in (1, 2)) == whole
    assert second.ledger.state() == through.ledger.state()
    other = nano_supply(seed=2)
    assert told([other.batch(0, version=0)]) != whole[:1]


def test_rejecting_leaves_a_smaller_batch_and_duplicating_fills_it_with_copies_of_good_rollouts(nano_supply):
    rejected = nano_supply(batch_groups=8, filling="reject").batch(0, version=0)
    assert 0 < len(rejected.groups) < 8
    assert rejected.generations == 1
    duplicated = nano_supply(batch_groups=8, filling="duplicate")
    batch = duplicated.batch(0, version=0)
    assert [group.place for group in batch.groups] == [group.place for group in rejected.groups]
    trained = [one for group in batch.groups for one in trained_of(group, Weighing())]
    assert len(trained) + len(batch.copies) == 8 * 4
    good = {id(one.rollout): one.advantage for one in trained if one.advantage > 0}
    assert all(good[id(copy.rollout)] == copy.advantage for copy in batch.copies)
    assert len({id(copy.rollout) for copy in batch.copies}) > 1
    metrics = duplicated.ledger.metrics()
    assert metrics["ledger/generated_tokens"] == sum(group.tokens for group in batch.generated)


def test_problems_without_a_signal_stop_the_run_and_say_what_they_were_like(nano_supply):
    hopeless = [replace(problem, answer="-1") for problem in arith(split="rl", size=20)()]
    supply = nano_supply(stages=[Stage(hopeless)], most_generations=2)
    with pytest.raises(H1RError, match="2 generations gave 0 of 3 groups that teach") as error:
        supply.batch(0, version=0)
    assert "groups of 4: 8 with 0 right" in error.value.known


def test_a_long_response_that_is_masked_is_booked_as_truncated(nano_supply):
    short = nano_supply.roller(nano_supply.engine, max_tokens=45)
    weighing = Weighing(overlong="mask", max_tokens=45)
    supply = nano_supply(roller=short, weighing=weighing, group_size=8)
    batches = [supply.batch(step, version=0) for step in range(3)]
    cut = sum(
        len(rollout.token_ids)
        for batch in batches for group in batch.groups for rollout in group.rollouts if rollout.end == "length"
    )  # fmt: skip
    assert booked(batches)["truncated"] == cut > 0


class Dropping:
    """An engine that aborts a request by itself, the first `times` that it is submitted."""

    def __init__(self, engine, name, times):
        self.engine, self.name, self.times = engine, name, times

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, request):
        self.engine.submit(request)
        if request.id == self.name and self.times:
            self.times -= 1
            self.engine.abort(request.id)


def test_a_lost_rollout_is_made_again_and_its_tokens_are_booked(nano_supply):
    def rolling(times):
        dropping = Dropping(nano_supply.engine, "1/2", times)
        return nano_supply.roller(dropping)

    whole = nano_supply().batch(0, version=0)
    again = nano_supply(roller=rolling(1)).batch(0, version=0)
    assert [group.correct for group in again.generated] == [group.correct for group in whole.generated]
    with pytest.raises(EngineError, match=r"dropped the rollout of problem .* twice \(request 1/2\)"):
        nano_supply(roller=rolling(2)).batch(0, version=0)
    list(nano_supply.engine.events())  # what was still in flight


def test_the_last_rollouts_go_on_in_the_next_step_from_the_tokens_that_they_have(nano_supply, tmp_path):
    supply = nano_supply(generation_groups=6, carried_frac=0.25)
    first = supply.batch(0, version=0)
    waiting = {(group.place, rollout.index): rollout for group in supply.carried for rollout in group.rollouts}
    begun = {name: rollout for name, rollout in waiting.items() if is_unfinished(rollout)}
    assert 0 < len(begun) == first.carried <= 6
    assert not any(goes_on(group) for group in (*first.groups, *supply.cache.groups))
    assert supply.ledger.metrics()["ledger/carried_frac"] > 0

    write(tmp_path / "kept.parquet", [Stored(g, [None] * 4, ["carried"] * 4) for g in supply.kept])
    again = nano_supply(generation_groups=6, carried_frac=0.25)
    again.restore(supply.state(), read_groups(tmp_path / "kept.parquet"))
    second, resumed = (one.batch(1, version=1) for one in (supply, again))
    ended = {(group.place, rollout.index): rollout for group in second.generated for rollout in group.rollouts}
    for name, earlier in waiting.items():
        length = len(earlier.token_ids)
        assert ended[name].token_ids[:length].tolist() == earlier.token_ids.tolist()
        assert ended[name].behaviour_logprobs[:length].tolist() == earlier.behaviour_logprobs.tolist()
        assert ended[name].version == 0
        assert (len(ended[name].token_ids) > length) == (name in begun)
        assert is_judged(ended[name])
    assert [group.tokens for group in second.generated] == [group.tokens for group in resumed.generated]
    assert supply.ledger.state() == again.ledger.state()


class Late:
    """An engine that aborts too late: the request has come to its end, and it says that it was aborted."""

    def __init__(self, engine):
        self.engine, self.aborted = engine, set()

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def abort(self, name):
        self.aborted.add(name)

    def events(self):
        for event in self.engine.events():
            late = isinstance(event, Finished) and event.request_id in self.aborted
            yield replace(event, reason="aborted") if late else event


@pytest.mark.parametrize("max_tokens", [96, 50])
def test_a_rollout_that_ended_before_it_was_stopped_does_not_go_on_after_its_end(nano_supply, max_tokens):
    late = Late(nano_supply.engine)
    made = nano_supply(
        generation_groups=6, carried_frac=0.25, roller=nano_supply.roller(late, max_tokens=max_tokens)
    ).batch(0, version=0)
    plain = nano_supply(
        generation_groups=6, roller=nano_supply.roller(nano_supply.engine, max_tokens=max_tokens)
    ).batch(0, version=0)
    assert late.aborted
    assert made.carried == 0
    ends = [[(r.end, len(r.token_ids)) for group in b.generated for r in group.rollouts] for b in (made, plain)]
    assert ends[0] == ends[1]


def test_log_probabilities_of_a_rollout_in_two_parts_are_those_of_the_whole(nano_supply):
    supply = nano_supply(generation_groups=6, carried_frac=0.25)
    supply.batch(0, version=0)
    places = {group.place for group in supply.carried}
    groups = [group for group in supply.batch(1, version=0).generated if group.place in places]
    members = [one for group in groups for one in trained_of(group, Weighing())]
    rows = rows_of(members, Weighing(), 4096, ALONE, share_prompts=True)
    policy = PolicyLoss(load_model(nano_supply.model), Objective(), temperature=0.85)
    with torch.no_grad():
        worst = max(float(policy(PolicyRowTensors.of(row, "cpu"), logprobs_only=True)[2]) for row in rows)
    assert worst < 1e-3


def test_stages_follow_each_other_and_the_last_goes_on():
    easy, hard = (list(arith(split="rl", size=5, steps_min=n, steps_max=n)()) for n in (4, 6))
    stages = Curriculum([Stage(easy, 2), Stage(hard, 1)], seed=0)
    assert [stages.stage_at(step) for step in range(5)] == [0, 0, 1, 1, 1]
    passes = [problem.id for _, problem in stages.problems(1, 0, 10)]
    assert sorted(passes[:5]) == sorted(passes[5:]) == sorted(problem.id for problem in hard)
    assert passes[:5] != passes[5:]
    assert [problem.id for _, problem in stages.problems(1, 3, 4)] == passes[3:7]


def test_what_a_new_stage_does_not_draw_from_expires_and_what_it_does_is_used(nano_supply, tmp_path):
    easy, hard = (list(arith(split="rl", size=40, steps_min=n, steps_max=n)()) for n in (4, 7))
    how = {"generation_groups": 8, "carried_frac": 0.25, "group_size": 6, "batch_groups": 2}
    apart = nano_supply(stages=[Stage(easy, 1), Stage(hard)], **how)
    mixed = nano_supply(stages=[Stage(easy, 1), Stage([*hard, *easy])], **how)
    batches = [apart.batch(0, version=0)]
    cached, carried = apart.cache.groups, apart.carried
    assert cached
    assert carried
    write(tmp_path / "kept.parquet", [Stored(g, [None] * 6, ["cached"] * 6) for g in apart.kept])
    mixed.restore(apart.state(), read_groups(tmp_path / "kept.parquet"))
    batches.append(apart.batch(1, version=1))
    kept = {id(group) for group in (*cached, *carried)}
    assert batches[1].from_cache == 0
    assert {group.problem.tags["steps"] for group in batches[1].generated} == {7}
    expired = sum(group.tokens for group in (*cached, *carried))
    metrics = apart.ledger.metrics()
    assert metrics["ledger/expired_frac"] * metrics["ledger/generated_tokens"] == pytest.approx(expired)
    assert booked(batches)["expired"] == sum(group.tokens for group in carried)
    assert batches[1].lost_tokens == sum(group.tokens for group in carried)
    assert not kept & {id(group) for group in apart.kept}
    assert mixed.batch(1, version=1).from_cache == min(2, len(cached))
    assert mixed.ledger.metrics()["ledger/expired_frac"] == 0


def test_a_batch_that_was_begun_is_the_one_that_comes_and_a_stop_before_it_comes_makes_it_again(nano_supply):
    def told(batch):
        return [(group.place, group.correct, group.tokens, group.version) for group in batch.groups]

    supply = nano_supply(generation_groups=6)
    supply.batch(0, version=0)
    before, cached = supply.state(), supply.kept
    supply.begin(1, version=0)
    supply.wait()
    assert (supply.state(), supply.kept) == (before, cached)  # what a checkpoint written now would keep
    again = nano_supply(generation_groups=6)
    again.restore(supply.state(), supply.kept)
    second = supply.batch(1, version=1)
    assert told(second) == told(again.batch(1, version=0))
    assert {group.version for group in second.groups} == {0}
    assert supply.state() == again.state() != before
