"""Finding a program in an answer, and whether what it printed or returned is what was expected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.rewards.programs.blocks import blocks, program_in
from h1r_cli.rewards.programs.compare import same_output, same_value
from h1r_cli.rewards.programs.inside import decode, encode

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.tuples(st.integers()), max_size=3)
    ),
    max_leaves=10,
)


@given(plain)
@settings(derandomize=True, deadline=None)
def test_a_plain_value_crosses_unchanged(value):
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


class Sly(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


def test_only_plain_values_cross():
    assert type(decode(encode(Sly("x")))) is str
    with pytest.raises(TypeError, match="not plain"):
        encode(object())


@given(st.text(alphabet="ab`~ \n", max_size=40))
@settings(derandomize=True, deadline=None)
def test_a_text_within_a_longer_fence_comes_back_whole(text):
    lines = text.split("\n")
    assert [b.text for b in blocks("````````````````````````````````````````````py\n" + text + "\n" + "`" * 44)] == [
        "\n".join(lines) + "\n"
    ]


@pytest.mark.parametrize(
    ("answer", "language", "found"),
    [
        ("```python\na\n```", None, "a\n"),
        ("```python\na\n```\n```python\nb\n```", None, "b\n"),
        ("```python\na\n```\n```text\n3\n```", None, "a\n"),
        ("```python\na\n```\n```cpp\nb\n```", "python", "a\n"),
        ("```\nprint(1)\n```", None, "print(1)\n"),
        ("```\nx\n```", None, None),
        ("```\nx\n```", "python", "x\n"),
        ("~~~js\na\n```\n~~~", None, "a\n```\n"),
        ("```python\na", None, None),  # not closed
        ("print(1)", "python", None),
    ],
)
def test_the_program_is_the_last_suitable_block(answer, language, found):
    block = program_in(answer, language)
    assert (block and block.text) == found


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3", "3\n", True),
        ("1  2 \n3\n\n", "1 2\n3", True),
        ("1\n2", "1 2", False),
        ("1\n\n2", "1\n2", False),
        ("0.3333333", "0.33333333", True),  # off by 3.3e-8
        ("0.33333", "0.33333333", False),  # off by 3.3e-6
        ("1000001.0", "1000000.5", True),  # off by 0.5 of 1e6: 5e-7
        ("1", "1.0", True),
        ("1", "01", False),
        ("100000000", "100000001", False),  # integers are exact
        ("nan", "nan", True),
        ("inf", "1.0", False),
        ("YES", "yes", False),
        ("", "0", False),
    ],
)
def test_outputs_are_the_same_word_by_word_and_line_by_line(printed, expected, same):
    assert same_output(printed, expected) is same


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ((1, [2]), [1, [2]], True),
        ({1: "a"}, {"1": "a"}, True),
        (0.1 + 0.2, 0.3, True),
        (2, 2.0, True),
        (True, 1, False),
        (1, True, False),
        ({1}, [1], False),
        (None, 0, False),
        ("1", 1, False),
        ([1], [1, 2], False),
        (10**400, 1.0, False),
        (float("nan"), 1.0, False),
    ],
)
def test_values_are_the_same_as_what_json_can_say(value, expected, same):
    assert same_value(value, expected) is same
