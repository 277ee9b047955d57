"""A pruner beside an engine: which tokens of a stream its reader sees, and how the end is worded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.model.judging import judge_of
from h1r_cli.types import Finished, Request, Sampling, Tokens
from h1r_plugins.pruning.lowest_window import lowest_window

NAT = 65536
FALLING = (3 * NAT, 3 * NAT, NAT, NAT, 3 * NAT)  # windows of 2 sum to 6, 4, 2, 4 nats
REQUEST = Request("a", (1,), Sampling(), lowest_window(window_tokens=2), 1.5, confidences=("sampled",))


def chunk(begin, end):
    numbers = range(begin, end)
    units = FALLING[begin:end]
    return Tokens("a", tuple(numbers), tuple(-1.0 * n for n in numbers), {"top-k": units, "sampled": units}, 3)


def test_a_request_without_a_policy_has_no_judge():
    assert judge_of(Request("a", (1,), Sampling())) is None


@given(st.lists(st.integers(1, 5), max_size=4))
@settings(derandomize=True, deadline=None)
def test_however_a_stream_is_chopped_it_is_cut_at_the_same_token(lengths):
    # 2 * 1.5 = 3 nats are asked of a window: the one that ends with the fourth token has 2
    judge = judge_of(REQUEST)
    seen, begin = (), 0
    for length in [*lengths, 5]:
        if judge.cut_tokens is None and begin < 5:
            kept = judge.kept(chunk(begin, min(begin + length, 5)))
            assert kept.behaviour_logprobs == tuple(-1.0 * n for n in kept.ids)
            assert kept.confidence == {"sampled": FALLING[begin : begin + len(kept.ids)]}
            seen += kept.ids
            begin += length
    assert (judge.cut_tokens, seen) == (4, (0, 1, 2, 3))


def test_what_streams_is_what_is_reported_and_what_is_judged():
    assert judge_of(REQUEST).confidences == ("sampled", "top-k")


def test_an_end_of_its_own_at_the_cut_stays_a_stop_and_every_other_is_the_pruner_s():
    kept, cut = judge_of(REQUEST), judge_of(REQUEST)
    kept.kept(chunk(0, 3))
    cut.kept(chunk(0, 5))
    assert kept.ended(Finished("a", "length", 3)) == Finished("a", "length", 3, 3)
    assert cut.ended(Finished("a", "stop", 4)) == Finished("a", "stop", 4, 4)
    for reason, tokens in (("stop", 5), ("length", 4), ("aborted", 5)):
        assert cut.ended(Finished("a", reason, tokens)) == Finished("a", "pruned", 4, 4)
