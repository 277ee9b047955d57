"""Agreement of two sets of verdicts, by hand and by the definition of Cohen's kappa."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.rewards.agreement import agreement, differ, kinds, unjudged
from h1r_cli.types import Verdict

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def verdicts(pairs):
    return [(Verdict(float(one), one), Verdict(float(other), other)) for one, other in pairs]


def test_kappa_by_hand():
    # 20 both right, 5 one alone, 10 the other alone, 15 both wrong, of 50: observed 35/50 = 0.7
    # by chance 25/50 * 30/50 + 25/50 * 20/50 = 0.5, so (0.7 - 0.5) / (1 - 0.5) = 0.4
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = agreement(verdicts(pairs))
    assert (found.both_right, found.only_one, found.only_other, found.both_wrong) == (20, 5, 10, 15)
    assert found.observed_frac == 0.7
    assert found.kappa == 0.4


@settings(derandomize=True, deadline=None)
@given(PAIRS)
def test_kappa_is_what_its_definition_gives(pairs):
    total = len(pairs)
    observed = sum(one == other for one, other in pairs) / total
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(one[word] / total * other[word] / total for word in (True, False))
    kappa = agreement(verdicts(pairs)).kappa
    if chance == 1:
        assert kappa is None
    else:
        assert kappa == pytest.approx((observed - chance) / (1 - chance))


@settings(derandomize=True, deadline=None)
@given(PAIRS)
def test_kappa_knows_no_first_and_no_second(pairs):
    there = agreement(verdicts(pairs)).kappa
    back = agreement((other, one) for one, other in verdicts(pairs)).kappa
    assert there == back


def test_verdicts_differ_by_word_or_by_reward():
    assert not differ(Verdict(1.0, True, reason="a"), Verdict(1.0, True, reason="b"))
    assert differ(Verdict(1.0, True), Verdict(0.9, True))
    assert differ(Verdict(1.0, True), Verdict(1.0, False))


def test_reasons_are_counted_by_kind_the_most_frequent_first():
    reasons = [
        "equal as numbers",
        "expected '1'",
        "expected '2'",
        "no verdict: over 60 s",
        "wrong_answer: test 2 of 9",
    ]
    found = [Verdict(0.0, False, reason=reason) for reason in reasons]
    assert list(kinds(found).items()) == [
        ("expected", 2), ("equal as numbers", 1), ("no verdict", 1), ("wrong_answer", 1),
    ]  # fmt: skip
    assert unjudged(found) == 1
