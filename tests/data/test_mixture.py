"""The weighted stream: its composition, its repeatability, its entry at any position."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.mixture import Mixture, Source
from h1r_cli.types import Conversation

shapes = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.75])), min_size=1, max_size=3
)
derandomized = settings(derandomize=True, deadline=None)


def mixture_of(shapes, seed=0):
    return Mixture(
        tuple(
            Source([Conversation(f"{number}-{index}", ()) for index in range(size)], weight)
            for number, (size, weight) in enumerate(shapes)
        ),
        seed,
    )


def ids(mixture, start, stop):
    return [draw.conversation.id for draw in islice(mixture.stream(start), stop - start)]


def test_an_epoch_by_hand():
    # 4 of weight 1, 2 of weight 1.5 and 4 of weight 0.5: 4 + 3 + 2 = 9 conversations
    mixture = mixture_of([(4, 1.0), (2, 1.5), (4, 0.5)])
    assert mixture.until(1) == 9
    drawn = Counter(name[0] for name in ids(mixture, 0, 9))
    assert drawn == {"0": 4, "1": 3, "2": 2}
    # the second epoch brings the other half of source 2
    assert {name for name in ids(mixture, 0, 18) if name[0] == "2"} == {"2-0", "2-1", "2-2", "2-3"}


@derandomized
@given(shapes, st.integers(0, 3), st.integers(0, 40), st.integers(0, 40))
def test_entering_at_a_position_is_going_on_from_it(shapes, seed, start, more):
    mixture = mixture_of(shapes, seed)
    if mixture.until(1):
        assert ids(mixture, start, start + more) == ids(mixture, 0, start + more)[start:]


@derandomized
@given(shapes, st.integers(1, 4))
def test_each_source_repeats_none_before_it_has_given_all(shapes, epochs):
    mixture = mixture_of(shapes)
    seen = Counter(ids(mixture, 0, mixture.until(epochs)))
    for number, (size, weight) in enumerate(shapes):
        counts = [seen[f"{number}-{index}"] for index in range(size)]
        assert sum(counts) == round(size * weight * epochs)
        assert max(counts) - min(counts) <= 1


def test_seeds_and_epochs_have_orders_of_their_own():
    shape = [(50, 1.0)]
    first, second = ids(mixture_of(shape), 0, 50), ids(mixture_of(shape), 50, 100)
    assert sorted(first) == sorted(second)
    assert first != second
    assert first != ids(mixture_of(shape, seed=1), 0, 50)
