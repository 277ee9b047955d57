"""Surplus groups, kept for later steps."""

from __future__ import annotations

from hand_made import group, rollout
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.rl.cache import Cache


def numbered(*places, version=0):
    return [group(rollout(0, 3, True, version=version), place=place) for place in places]


def places(found):
    return [one.place for one in found]


def test_the_oldest_is_used_first_and_dropped_first():
    cache = Cache(3)
    assert cache.put(numbered(1, 2)) == []
    assert places(cache.put(numbered(3, 4, 5))) == [1, 2]
    assert places(cache.take(2)) == [3, 4]
    assert places(cache.take(2)) == [5]
    assert len(cache) == 0


def test_what_an_older_policy_sampled_expires():
    cache = Cache(5)
    cache.put(numbered(1, 2, version=4) + numbered(3, version=6))
    assert places(cache.expire(oldest_version=6)) == [1, 2]
    assert places(cache.groups) == [3]


@given(st.integers(0, 5), st.lists(st.integers(0, 7), max_size=8))
@settings(derandomize=True, deadline=None)
def test_nothing_is_lost_and_nothing_beyond_the_size_is_kept(size, arrivals):
    cache, left, number = Cache(size), [], 0
    for count in arrivals:
        left += places(cache.put(numbered(*range(number, number + count))))
        number += count
        assert len(cache) <= size
    assert left + places(cache.groups) == list(range(number))
