"""A real engine, measured as it is, and with each fault planted between it and who measures."""

import time
from array import array
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from h1r_cli.settings import Gates
from h1r_cli.throughput.cell import Bench, Cell, Measured, measure, measure_pair, ratio
from h1r_cli.throughput.figures import figures
from h1r_cli.throughput.gates import batch_faults, steady, variation_fault
from h1r_cli.throughput.timeline import Served, Timeline, prompts, record
from h1r_cli.types import Request, Sampling
from h1r_plugins.engines.torch_engine import torch_engine


def loose(**bounds):
    """Gates that let nearly everything pass but what `bounds` says."""
    usual = {"least_s": 0.0, "least_tokens": 1, "steady_frac": 10.0, "most_variation_frac": 10.0, "stall_s": 60.0}
    return Gates(**usual | bounds)


LOOSE = loose()
CELL = Cell(input_tokens=9, output_tokens=12, batch=3)
VOCABULARY = 300
SEEDS = count()  # an engine that has seen a prompt before remembers it


@dataclass
class Faulty:
    """An engine of which one thing is changed on the way in or out."""

    engine: object
    cut_to: int | None = None  # tokens of each completion
    lengthen: int = 0  # tokens of each prompt
    same_prompt: bool = False
    pauses: list[float] = field(default_factory=list)  # before events, one each, in seconds
    slow_batches: list[float] = field(default_factory=list)  # before batches

    def submit(self, request):
        prompt = request.prompt_ids + (1,) * self.lengthen
        if self.same_prompt:
            prompt = (5,) * len(prompt)
        sampling = request.sampling
        if self.cut_to is not None:
            sampling = replace(sampling, max_tokens=self.cut_to, min_tokens=0)
        self.engine.submit(replace(request, prompt_ids=prompt, sampling=sampling))

    def events(self):
        if self.slow_batches:
            time.sleep(self.slow_batches.pop(0))
        for event in self.engine.events():
            if self.pauses:
                time.sleep(self.pauses.pop(0))
            yield event

    def stats(self):
        return self.engine.stats()


@pytest.fixture(scope="module")
def engine(tiny):
    with torch_engine(model=tiny, chunk_tokens=1) as made:
        yield made


def reasons(engine, bounds=LOOSE, repeats=2, **fault):
    return tried(Faulty(engine, **fault), bounds, repeats).reasons


def tried(engine, bounds=LOOSE, repeats=1):
    return measure(Bench(engine, CELL, VOCABULARY, bounds, next(SEEDS)), repeats)


def test_an_engine_that_does_what_it_is_asked_passes_and_its_counts_are_exact(engine):
    found = tried(engine, repeats=3)
    assert found.valid
    assert len(found.repeats) == 3
    assert [one.output_tokens for one in found.repeats] == [3 * 12] * 3
    for one in found.repeats:
        assert one.output_per_s == pytest.approx(one.output_tokens / one.seconds)
        assert one.total_per_s == pytest.approx((one.output_tokens + 27) / one.seconds)
        assert one.first_chunk_tokens == 1
        assert 0 < one.first_token_s.p50 <= one.first_token_s.p99 < one.whole_s.p50 <= one.seconds


def test_an_early_stop_is_caught(engine):
    [reason] = reasons(engine, cut_to=5)
    assert reason == "early stop: 3 of 3 completions have 5 of 12 tokens"


def test_a_wrong_prompt_length_is_caught(engine):
    [reason] = reasons(engine, lengthen=2)
    assert reason == "prompt length: the engine took 33 tokens of prompts, and 27 were asked for"


def test_prompts_that_are_shared_are_caught(engine):
    found = reasons(engine, same_prompt=True)
    assert any(reason.startswith("prefix cache: ") for reason in found)


def test_a_stall_is_caught(engine):
    bounds = loose(stall_s=0.2)
    assert not [reason for reason in reasons(engine, bounds) if reason.startswith("stall")]
    pauses = [0.0] * 200 + [0.5]  # in the second repeat or so, whichever event it is
    found = reasons(engine, bounds, repeats=4, pauses=pauses)
    assert any(reason.startswith("stall: nothing came for 0.5") for reason in found), found


def test_a_cold_start_is_not_measured_and_one_without_end_is_caught(engine):
    bounds = loose(steady_frac=0.5, most_warmups=6)
    usual = tried(engine).repeats[0].seconds
    warming = tried(Faulty(engine, slow_batches=[20 * usual, 6 * usual]), bounds)
    assert warming.valid
    assert len(warming.warmups) >= 4  # the slow ones, and two that are as fast as each other
    assert warming.warmups[-1] > 3 * warming.warmups[0]
    endless = [usual * more for more in (10, 1, 10, 1, 10, 1)]
    [reason] = reasons(engine, bounds, repeats=1, slow_batches=endless)
    assert reason.startswith("cold: 6 batches were not steady")


def test_what_is_too_short_or_varies_too_much_is_caught(engine):
    assert any("too short: " in one for one in reasons(engine, loose(least_s=60.0)))
    assert "too few tokens: 36, and 1,000 are the least" in reasons(engine, loose(least_tokens=1000))
    bounds = loose(most_variation_frac=0.3)
    found = reasons(engine, bounds, repeats=3, slow_batches=[0, 0, 0, 1.0, 0])
    assert any(one.startswith("variation: ") for one in found), found


def served(at_s, counts, prompt_tokens=10):
    return Served(prompt_tokens, array("d", at_s), array("q", counts), at_s[-1], "length")


def test_the_figures_of_a_timeline_by_hand():
    one, other = served([1.0, 2.0, 3.0], [1, 1, 1]), served([1.5, 2.5, 4.5], [1, 1, 1])
    found = figures(Timeline([one, other], 5.0, 20, 0))
    assert (found.output_per_s, found.total_per_s) == (6 / 5, 26 / 5)
    assert found.prefill_per_s == 20 / 1.5
    assert found.decode_per_s == 3 / 1.5  # after 1.5 and until 3: tokens at 2, 2.5 and 3
    assert found.token_s.p50 == (1.0 + 1.5) / 2
    assert found.longest_gap_s == 1.5
    late = served([4.0, 4.5], [1, 1])  # from 0.5 to 4 its prompt is computed, and the other one waits
    assert figures(Timeline([served([0.5, 4.25], [1, 1]), late], 5.0, 20, 0)).longest_gap_s == 0.25
    assert (found.first_token_s.p50, found.whole_s.p50) == (1.25, 3.75)
    assert found.queued == 0
    waited = served([3.5, 4.0], [1, 1])
    queued = figures(Timeline([one, other, waited], 5.0, 30, 0))
    assert (queued.queued, queued.prefill_per_s) == (1, None)


def test_a_stall_is_seen_while_requests_wait_for_a_slot_and_a_prompt_is_none():
    first = [
        served([1.0, 2.0, 6.0, 7.0], [1] * 4) for _ in range(2)
    ]  # nothing comes for 4 s, and both slots are full
    second = [served([10.0, 11.0], [1, 1]) for _ in range(2)]  # for 3 s a slot is free: their prompts may be computed
    found = figures(Timeline([*first, *second], 11.0, 40, 0))
    assert (found.queued, found.longest_gap_s) == (2, 4.0)


def test_steady_is_two_in_a_row():
    bounds = Gates(steady_frac=0.05)
    assert not steady([100.0], bounds)
    assert not steady([100.0, 94.0], bounds)
    assert steady([50.0, 100.0, 96.0], bounds)
    assert list(variation_fault([], bounds)) == []


def test_prompts_are_exact_and_unlike_each_other():
    found = prompts(8, 33, 50, seed=1)
    assert {len(one) for one in found} == {33}
    assert len(set(found)) == 8
    assert all(1 <= token < 50 for one in found for token in one)
    assert prompts(8, 33, 50, seed=1) == found != prompts(8, 33, 50, seed=2)


def test_a_batch_of_a_real_engine_is_told_token_by_token(engine):
    timeline = record(engine, prompts(2, 5, 300, 0), 7, 0)
    assert [list(one.counts) for one in timeline.served] == [[1] * 7] * 2
    assert all(one.end == "length" for one in timeline.served)
    assert (timeline.prefilled_tokens, timeline.shared_tokens) == (10, 0)
    assert list(batch_faults(timeline, 5, 7, LOOSE)) == []


def test_a_first_token_is_told_before_the_next_step_is_taken(engine):
    before = engine.stats().decode_steps
    for number, prompt in enumerate(prompts(3, 5, 300, 8)):
        engine.submit(Request(str(number), prompt, Sampling(max_tokens=2, min_tokens=2, ignore_eos=True)))
    steps = [engine.stats().decode_steps - before for _ in engine.events()]
    assert steps[:4] == [0, 0, 0, 1]


def with_rates(*rates, reasons=()):
    """A cell measured at these rates."""
    one = served([1.0, 2.0], [1, 11], prompt_tokens=9)
    figure = figures(Timeline([one], 2.0, 9, 0))
    return Measured(CELL, tuple(replace(figure, output_per_s=rate) for rate in rates), (), reasons)


def test_a_ratio_is_the_median_of_pairs_by_hand():
    # pairs 2, 3, 2.5: their median 2.5, and no resample's median lies outside 2 to 3
    found = ratio(with_rates(10.0, 10.0, 20.0), with_rates(20.0, 30.0, 50.0))
    assert (found.value, found.pairs) == (2.5, 3)
    assert (found.low, found.high) == (2.0, 3.0)  # of so few pairs their range
    spread = ratio(with_rates(*[10.0] * 7), with_rates(10.0, 20.0, 20.0, 20.0, 20.0, 20.0, 90.0))
    assert (spread.value, spread.low, spread.high) == (2.0, 2.0, 2.0)  # of seven the extremes hardly make a median
    assert ratio(with_rates(10.0), with_rates(20.0), devices=(2, 4)).value == 1.0


def test_an_invalid_cell_enters_no_ratio():
    assert ratio(with_rates(10.0), with_rates(20.0, reasons=("stall: ...",))) is None
    assert ratio(with_rates(10.0, reasons=("cold: ...",)), with_rates(20.0)) is None
    assert ratio(with_rates(), with_rates(20.0)) is None


def test_two_engines_take_turns_and_a_drift_of_the_machine_hits_both_alike(tiny):
    order = []

    @dataclass
    class Named(Faulty):
        name: str = ""

        def submit(self, request):
            order.append(self.name)
            super().submit(request)

    with torch_engine(model=tiny, chunk_tokens=1) as one, torch_engine(model=tiny, chunk_tokens=1) as other:
        benches = [
            Bench(Named(engine, name=name), CELL, VOCABULARY, LOOSE, next(SEEDS))
            for engine, name in ((one, "a"), (other, "b"))
        ]
        a, b = measure_pair(*benches, 4)
    turns = "".join(order[:: CELL.batch])
    assert turns.endswith("abba" * 2)
    assert (len(a.repeats), len(b.repeats)) == (4, 4)
    found = ratio(a, b)
    assert found.pairs == 4
    assert found.low <= found.value <= found.high
