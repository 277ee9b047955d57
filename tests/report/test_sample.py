"""Which traces are drawn and which are read out: few of many, every kind among them."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.report.sample import LEAST_OF_A_KIND, Shown, drawn, kind, shares, shown_as_text, spread
from h1r_cli.report.stored import Seen

ENDED = Seen("p", 0, "online", "stop", "42", True, 9.0, None, 100, 9.0)
KINDS = {
    "right": ENDED,
    "wrong": replace(ENDED, answer="7", correct=False),
    "not judged": replace(ENDED, correct=None),
    "cut": replace(ENDED, end="pruned", answer=None, correct=None),
}
each_property = settings(derandomize=True, deadline=None)


def traces(*kinds):
    return [replace(KINDS[name], index=i, lowest_nats=float(i % 7), tokens=50 + i) for i, name in enumerate(kinds)]


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=300), st.integers(24, 60))
@each_property
def test_no_more_than_asked_are_drawn_and_no_kind_is_missing(kinds, most):
    seen = traces(*kinds)
    texts = [Shown(one.index, "") for one in seen[:3]]
    chosen = drawn(seen, texts, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= most
    assert len(chosen) >= min(len(seen), most - 8)  # shares are rounded down, and those of the texts counted twice
    assert {text.index for text in texts} <= set(chosen)
    all_of, drawn_of = Counter(kinds), Counter(kind(seen[index]) for index in chosen)
    for name, number in all_of.items():
        assert drawn_of[name] >= min(number, LEAST_OF_A_KIND)
        surest = max(one.lowest_nats for one in seen if kind(one) == name)
        assert surest in {seen[index].lowest_nats for index in chosen if kind(seen[index]) == name}


def test_shares_by_hand():
    # least 4 + 4 + 2 = 10 of 20; the other 10 by what is left, 96 : 26 : 0 of 122: 7 (7.87) and 2 (2.13)
    assert shares({"right": 100, "wrong": 30, "cut": 2}, 20) == {"right": 11, "wrong": 6, "cut": 2}


def test_a_spread_takes_both_ends():
    seen = traces(*["right"] * 9)
    assert [one.index for one in spread(seen, 3)] == [0, 4, 8]
    assert spread(seen, 20) == seen


def test_read_out_are_the_surest_for_and_against_and_the_longest_that_was_cut():
    seen = [
        replace(KINDS["wrong"], index=0, lowest_nats=5.0),  # elected
        replace(KINDS["wrong"], index=1, lowest_nats=8.0),  # elected, surer
        replace(KINDS["wrong"], index=2, lowest_nats=9.0, answer="8"),
        replace(KINDS["right"], index=3, lowest_nats=2.0),  # less sure, but what should have won
        replace(KINDS["cut"], index=4, tokens=10),
        replace(KINDS["cut"], index=5, tokens=20),
    ]
    texts = shown_as_text(seen, [(one, one.answer == "7") for one in seen[:4]])
    assert [(text.index, text.why) for text in texts] == [
        (1, "the surest vote for the elected answer"),
        (3, "the surest right vote for another answer"),
        (5, "the longest that was cut"),
    ]


def test_where_none_voted_and_none_was_cut_the_surest_is_read_out():
    seen = [replace(ENDED, index=i, answer=None, correct=False, lowest_nats=float(i)) for i in range(3)]
    assert [text.index for text in shown_as_text(seen, [])] == [2]
