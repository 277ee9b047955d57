"""Building parts: this module is the plugin, and each of its factories returns what it was given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli import hookimpl, hookspecs
from h1r_cli.build import build, model_directory, parse_part, toml_value
from h1r_cli.errors import ConfigError, DataError, PluginError
from h1r_cli.registry import Registry
from h1r_cli.types import DataSource, Engine, Problem, Verdict, Verifier

if TYPE_CHECKING:
    from h1r_cli.types import Sampling


def numbers(*, first: int, last: int = 3, step: float = 1.0, order: Literal["up", "down"] = "up") -> DataSource:
    return lambda: [Problem(f"{first} {last} {step} {order}", "")]


def exact(*, strip: bool = True) -> Verifier:
    def verify(problem: Problem, completion: str) -> Verdict:
        found = completion.strip() if strip else completion
        return Verdict(float(found == problem.answer), found == problem.answer, found)

    return verify


def judged(*, judge: Engine, weight: float = 1.0) -> tuple[Any, float]:
    return judge, weight


def composed(*, parts: Mapping[str, Verifier]) -> Mapping[str, Verifier]:
    return parts


def hidden(*, sampling: Sampling) -> Sampling:
    return sampling


def echo(*, model: Path, slots: int = 1) -> tuple[Path, int]:
    return model, slots


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., Any]]:
    return {"numbers": numbers}


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Any]]:
    return {"exact": exact, "judged": judged, "composed": composed, "hidden": hidden}


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Any]]:
    return {"echo": echo}


@hookimpl
def h1r_models() -> Mapping[str, Path]:
    return {"here": Path(__file__).parent}


@pytest.fixture
def registry() -> Registry:
    manager = pluggy.PluginManager("h1r")
    manager.add_hookspecs(hookspecs)
    manager.register(sys.modules[__name__], "test")
    return Registry(manager)


def test_options_become_keyword_arguments_and_the_rest_are_defaults(registry):
    source = build(registry, "h1r_data_sources", "numbers", {"first": 2, "order": "down"})
    assert [problem.id for problem in source()] == ["2 3 1.0 down"]


def test_a_whole_number_is_taken_for_a_float_and_nothing_else_is_converted(registry):
    source = build(registry, "h1r_data_sources", "numbers", {"first": 2, "step": 2})
    assert [problem.id for problem in source()] == ["2 3 2.0 up"]


def test_what_the_command_gives_is_passed_to_those_who_take_it_and_the_table_wins(registry):
    given_by_command = {"first": 5, "last": 6, "tokenizer": object()}
    source = build(registry, "h1r_data_sources", "numbers", {"last": 9}, given_by_command)
    assert [problem.id for problem in source()] == ["5 9 1.0 up"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"first": 1, "frist": 2},
            "data source 'numbers' takes no 'frist' (set by --data)\n"
            "  known: first, last, order, step\n"
            "  fix: did you mean 'first'?",
        ),
        (
            {"first": 1, "colour": "red"},
            "data source 'numbers' takes no 'colour' (set by --data)\n"
            "  known: first, last, order, step\n"
            "  fix: leave it out",
        ),
        (
            {"last": 2},
            "data source 'numbers' needs 'first'\n"
            "  known: first, last, order, step\n"
            "  fix: set first, as in numbers:first=...",
        ),
        (
            {"first": "1"},
            "data source 'numbers': first = '1' (input should be a valid integer; set by --data)\n"
            "  fix: give first a value of type int",
        ),
        (
            {"first": True},
            "data source 'numbers': first = True (input should be a valid integer; set by --data)\n"
            "  fix: give first a value of type int",
        ),
        (
            {"first": 1, "order": "Sideways"},
            "data source 'numbers': order = 'Sideways' (input should be 'up' or 'down'; set by --data)\n"
            "  fix: give order a value of type Literal['up', 'down']",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_is_built(registry, options, expected):
    with pytest.raises(ConfigError) as error:
        build(registry, "h1r_data_sources", "numbers", options, origin="--data")
    assert str(error.value) == expected


def test_a_judge_gets_its_engine_from_the_nested_table_with_the_model_found_by_name(registry):
    table = {"judge": {"name": "echo", "model": "here", "slots": 4}, "weight": 0.5}
    assert build(registry, "h1r_rewards", "judged", table) == ((Path(__file__).parent, 4), 0.5)


def test_a_composition_gets_its_parts(registry):
    parts = build(registry, "h1r_rewards", "composed", {"parts": {"a": {"name": "exact", "strip": False}}})
    assert list(parts) == ["a"]
    assert parts["a"](Problem("1", "?", "7"), " 7").correct is False


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("judged", {"judge": "echo"}, "reward 'judged': judge is no table with a name\n  known: echo\n"),
        ("judged", {"judge": {"slots": 4}}, "reward 'judged': judge is no table with a name\n  known: echo\n"),
        ("composed", {"parts": "exact"}, "reward 'composed': parts is no table of rewards\n  known: composed, exact"),
        ("composed", {"parts": {"a": "exact"}}, "reward 'composed': a is no table with a name\n  known: composed"),
        ("composed", {"parts": {"a": {"name": "exactly"}}}, "no reward is called 'exactly'\n"),
    ],
)
def test_a_nested_table_that_is_none_says_what_it_should_be(registry, name, options, expected):
    with pytest.raises((ConfigError, PluginError)) as error:
        build(registry, "h1r_rewards", name, options)
    assert str(error.value).startswith(expected)


def test_a_factory_whose_annotations_only_a_type_checker_can_read_says_so(registry):
    with pytest.raises(PluginError, match="its factory's annotations do not resolve: name 'Sampling' is not defined"):
        build(registry, "h1r_rewards", "hidden", {})


def test_a_model_is_a_directory_before_it_is_a_name(registry, tmp_path, monkeypatch):
    assert model_directory(registry, "here") == Path(__file__).parent
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    assert model_directory(registry, "here") == Path("here")


def test_a_model_that_is_nowhere_says_where_it_was_looked_for(registry):
    with pytest.raises(DataError) as error:
        model_directory(registry, "no/such/model")
    assert str(error.value).startswith("no model 'no/such/model': not a directory, not offered by a plugin, ")


def test_a_part_on_the_command_line_that_is_no_pair_is_refused():
    with pytest.raises(ConfigError, match=r"'test' in 'arith:test' is no option"):
        parse_part("arith:test")


names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
values = st.integers() | st.booleans() | st.floats(allow_nan=False) | st.text("abc-./", min_size=1)


@settings(derandomize=True, deadline=None)
@given(names, st.dictionaries(names, values))
def test_what_is_typed_is_what_is_parsed(name, options):
    def typed(value: object) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    text = f"{name}:" + ",".join(f"{key}={typed(value)}" for key, value in options.items())
    assert parse_part(text) == (name, options)


def test_what_is_no_toml_is_a_word():
    assert [toml_value(text) for text in ("1", "1.5", "true", "[1, 2]", "math", "a b", "'7'")] == [
        *(1, 1.5, True, [1, 2]),
        *("math", "a b", "7"),
    ]
