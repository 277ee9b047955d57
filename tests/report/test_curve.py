"""Lines of few points: each is a window of the trace, and neither the dip nor the end moves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.confidence import window_confidences
from h1r_cli.report.curve import curve, thinned
from h1r_cli.types import UNITS_PER_NAT

NAT = UNITS_PER_NAT
each_property = settings(derandomize=True, deadline=None)


def test_a_window_stands_at_the_token_that_completes_it():
    line = curve([4 * NAT, 1 * NAT, 3 * NAT, 0], 2)
    assert line.tokens.tolist() == [2, 3, 4]
    assert line.nats.tolist() == [2.5, 2.0, 1.5]


def test_a_trace_shorter_than_the_window_is_one_point_at_its_end():
    line = curve([4 * NAT, 2 * NAT], 8)
    assert (line.tokens.tolist(), line.nats.tolist()) == ([2], [3.0])


def test_thinning_by_hand():
    # windows 5 9 1 7 8 6 2 4, four points: two stretches of four, lowest 1 and 2, and both ends
    line = thinned(curve([n * NAT for n in (5, 9, 1, 7, 8, 6, 2, 4)], 1), 4)
    assert line.tokens.tolist() == [1, 3, 7, 8]
    assert line.nats.tolist() == [5, 1, 2, 4]


@given(st.lists(st.integers(-(2**21), 2**21), min_size=1, max_size=400), st.integers(1, 50), st.integers(4, 40))
@each_property
def test_every_point_is_a_window_and_the_ends_and_the_least_sure_stay(units, window, points):
    line, windows = thinned(curve(units, window), points), window_confidences(units, window).tolist()
    assert len(line.nats) <= points
    first = len(units) - len(windows) + 1
    assert line.nats.tolist() == [windows[token - first] for token in line.tokens.tolist()]
    assert (line.tokens[0], line.tokens[-1]) == (first, len(units))
    assert line.nats.min() == min(windows)
    assert (line.tokens[1:] > line.tokens[:-1]).all()


def test_an_empty_trace_is_a_line_without_points():
    assert thinned(curve([], 4), 8).nats.tolist() == []
