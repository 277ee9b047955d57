"""Which policies no other beats, and that the picture shows them."""

import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.pareto import Point, draw, front

each_property = settings(derandomize=True, deadline=None)


def test_a_front_by_hand():
    #         kept        dearer, worse  kept        as good, dearer  kept        ties with it
    points = [(10.0, 0.5), (20.0, 0.4), (20.0, 0.6), (30.0, 0.6), (40.0, 0.9), (40.0, 0.9)]
    assert front(points) == [True, False, True, False, True, True]
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
@each_property
def test_on_the_front_is_exactly_what_nothing_beats(points):
    def beaten(one):
        return any(cost <= one[0] and value >= one[1] and (cost, value) != one for cost, value in points)

    assert front(points) == [not beaten(one) for one in points]


def test_the_picture_is_written_in_both_formats_and_names_what_is_on_the_front(tmp_path):
    points = [
        Point(1e3, 0.5, 0.3, 0.7, "lowest-window keep 0.1", "window 8, budget 8, majority", True),
        Point(2e5, 0.8, 0.6, 0.9, "never", "window 8, budget 32, majority", True),
        Point(3e5, 0.4, 0.2, 0.6, "never", "window 8, budget 64, majority", False),
    ]
    files = [tmp_path / "pareto.svg", tmp_path / "pareto.png"]
    draw(points, "accuracy", "95 %", files)
    assert files[1].read_bytes().startswith(b"\x89PNG\r\n")
    texts = [element.text or "" for element in ElementTree.parse(files[0]).iter("{http://www.w3.org/2000/svg}text")]
    said = "\n".join(texts)
    assert "lowest-window keep 0.1, window 8, budget 8, majority" in said
    assert "never, window 8, budget 32, majority" in said
    assert "budget 64" not in said
    for part in ("accuracy", "tokens, all problems", "Pareto front", "bars: 95 %"):
        assert part in said


def test_the_same_points_give_the_same_svg(tmp_path):
    points = [Point(1e3, 0.5, 0.3, 0.7, "never", "majority", True)]
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw(points, "accuracy", "95 %", [file])
    assert files[0].read_bytes() == files[1].read_bytes()
