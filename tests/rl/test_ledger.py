"""Where each generated token went: booked once, and the books balance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.rl.ledger import BOOKS, Ledger


def test_tokens_that_were_generated_and_not_booked_do_not_balance():
    ledger = Ledger()
    ledger.generate("easy", 10)
    ledger.book("easy", "trained", 9)
    with pytest.raises(AssertionError, match=r"easy problems: 10 tokens were generated"):
        ledger.check()


def test_what_leaves_the_cache_twice_does_not_balance():
    ledger = Ledger()
    ledger.generate("easy", 10)
    ledger.book("easy", "cached", 10)
    ledger.move("easy", "cached", "trained", 10)
    ledger.check()
    ledger.move("easy", "cached", "expired", 10)
    with pytest.raises(AssertionError):
        ledger.check()


def test_an_error_in_one_difficulty_is_not_hidden_by_another():
    ledger = Ledger()
    for difficulty, booked in (("easy", 11), ("hard", 9)):
        ledger.generate(difficulty, 10)
        ledger.book(difficulty, "trained", booked)
    with pytest.raises(AssertionError):
        ledger.check()


booked = st.tuples(st.sampled_from(["easy", "hard"]), st.sampled_from(BOOKS), st.integers(0, 10**9))


@given(st.lists(booked, max_size=30))
@settings(derandomize=True, deadline=None)
def test_the_shares_sum_to_one_and_come_back_from_what_is_kept(entries):
    ledger = Ledger()
    for difficulty, book, tokens in entries:
        ledger.generate(difficulty, tokens)
        ledger.book(difficulty, book, tokens)
    ledger.check()
    metrics = ledger.metrics()
    total = metrics.pop("ledger/generated_tokens")
    assert total == sum(tokens for *_, tokens in entries)
    assert sum(metrics.values()) == pytest.approx(1.0 if total else 0.0)
    again = Ledger(ledger.state())
    again.check()
    assert again.metrics() == ledger.metrics()


def test_the_shares_of_each_difficulty_are_of_its_own_tokens_and_none_are_told_where_none_is_known():
    ledger = Ledger()
    for difficulty, book, tokens in (("hard", "all-wrong", 30), ("hard", "trained", 10), ("easy", "trained", 40)):
        ledger.generate(difficulty, tokens)
        ledger.book(difficulty, book, tokens)
    told = ledger.by_difficulty()
    assert {key: value for key, value in told.items() if value} == {
        "ledger_easy/generated_tokens": 40.0,
        "ledger_easy/trained_frac": 1.0,
        "ledger_hard/generated_tokens": 40.0,
        "ledger_hard/all_wrong_frac": 0.75,
        "ledger_hard/trained_frac": 0.25,
    }
    unrated = Ledger()
    unrated.generate("unrated", 5)
    unrated.book("unrated", "lost", 5)
    assert unrated.by_difficulty() == {}
