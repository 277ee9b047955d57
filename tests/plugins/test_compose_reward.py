"""Reward `compose`, built from TOML through the registry; this module is the plugin that offers `length`."""

import sys
import textwrap

import pluggy
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli import hookimpl, hookspecs
from h1r_cli.build import build
from h1r_cli.errors import ConfigError, DataError, PluginError
from h1r_cli.registry import Registry
from h1r_cli.types import Problem, Verdict
from h1r_plugins.rewards import choice, format, math
from h1r_plugins.rewards import compose as compose_plugin
from h1r_plugins.rewards.compose import compose

GOOD = "<think> a </think> "


def length(*, limit_chars: int = 20):
    def verify(problem, completion):
        short = len(completion) <= limit_chars
        return Verdict(float(short), short, None, f"{len(completion)} chars")

    return verify


def says(reward, correct=True, extracted=None, reason="said"):
    """A part that always says the same."""
    return lambda problem, completion: Verdict(reward, correct, extracted, reason)


@hookimpl
def h1r_rewards():
    return {"length": length}


@pytest.fixture
def registry():
    manager = pluggy.PluginManager("h1r")
    manager.add_hookspecs(hookspecs)
    for module in (choice, format, math, compose_plugin, sys.modules[__name__]):
        manager.register(module, module.__name__)
    return Registry(manager)


def from_toml(registry, text):
    table = tomli.loads(text)["reward"]
    return build(registry, "h1r_rewards", table.pop("name"), table)


def in_docstring():
    """The example in the docstring of `compose`."""
    lines = textwrap.dedent(compose.__doc__.partition("In TOML:")[2].partition("A part is")[0])
    return textwrap.dedent(lines)


def test_the_example_of_the_docstring_builds_and_scores_as_it_says(registry):
    verify = from_toml(registry, in_docstring())
    # a math problem: 1 + 0.2 for being brief, clipped to 1; no penalty
    verdict = verify(Problem("m", "?", "12", "math"), GOOD + r"\boxed{12}")
    assert (verdict.reward, verdict.correct, verdict.extracted) == (1.0, True, "12")
    assert verdict.parts == {"math": 1.0, "brief": 1.0, "format": 1.0}
    # wrong, brief, and with an empty thought: 0 + 0.2 - 0.1
    verdict = verify(Problem("m", "?", "12", "math"), r"</think> \boxed{13}")
    assert verdict.reward == pytest.approx(0.1)
    assert not verdict.correct
    assert verdict.parts == {"math": 0.0, "brief": 1.0, "format": 0.0}
    assert verdict.reason == "expected '12' | format -0.1: an empty thought"
    # a science problem counts half: 0.5 + 0 for over 200 characters
    verdict = verify(Problem("s", "?", "B", "science"), GOOD + " " * 177 + "the answer B")
    assert verdict.parts == {"science": 0.0, "brief": 0.0, "format": 1.0}
    verdict = verify(Problem("s", "?", "B", "science"), GOOD + " " * 177 + "answer is B.")
    assert (verdict.reward, verdict.correct, verdict.extracted) == (0.5, True, "B")


def test_a_domain_that_no_part_is_for_is_an_error_that_names_the_known_ones(registry):
    verify = from_toml(registry, in_docstring())
    with pytest.raises(DataError, match=r"'p' is of domain 'law'[^\n]*\n  known: math, science"):
        verify(Problem("p", "?", "B", "law"), "B")


def test_main_is_for_the_domains_that_by_domain_does_not_name():
    parts = {"a": says(0.25), "b": says(0.75)}
    verify = compose(parts=parts, main="a", by_domain={"law": "b"})
    assert verify(Problem("p", "?", domain="law"), "").reward == 0.75
    assert verify(Problem("p", "?", domain="math"), "").reward == 0.25


def test_the_one_part_that_has_no_other_use_is_the_main_one():
    verify = compose(parts={"f": says(0.0, correct=False), "m": says(1.0)}, penalties={"f": 0.1})
    assert verify(Problem("p", "?"), "").reward == pytest.approx(0.9)


def test_a_penalty_is_whole_whatever_the_reward_of_the_part_that_failed():
    verify = compose(parts={"f": says(0.7, correct=False), "m": says(0.5)}, main="m", penalties={"f": 0.1})
    verdict = verify(Problem("p", "?"), "")
    assert verdict.reward == pytest.approx(0.4)
    assert verdict.parts == {"m": 0.5, "f": 0.7}


@given(
    st.floats(0, 1), st.booleans(), st.floats(0, 1), st.booleans(), st.floats(0.01, 3), st.floats(0.01, 3),
    st.floats(0.01, 3),
)  # fmt: skip
@settings(derandomize=True, deadline=None)
def test_the_formula_clipped_and_correct_is_the_main_parts_whatever_the_others_say(
    reward, correct, other, shaped, weight, beside, penalty
):
    parts = {"m": says(reward, correct, "x"), "o": says(other, not correct, "y"), "f": says(0.0, shaped)}
    verify = compose(parts=parts, main="m", weights={"m": weight, "o": beside}, penalties={"f": penalty})
    verdict = verify(Problem("p", "?"), "")
    plain = weight * reward + beside * other - penalty * (not shaped)
    assert verdict.reward == pytest.approx(min(1.0, max(-1.0, plain)))
    assert (verdict.correct, verdict.extracted) == (correct, "x")
    assert verdict.parts == {"m": reward, "o": other, "f": 0.0}


# --- votes


def test_the_first_main_part_that_finds_an_answer_extracts_it_and_any_may_call_two_the_same(registry):
    verify = from_toml(registry, in_docstring())
    assert verify.extract(GOOD + r"\boxed{\frac12}") == r"\frac12"  # by math, the first
    assert verify.extract(GOOD + "the answer is (b)") == "B"  # by choice
    assert verify.extract(GOOD + "who knows") is None
    assert verify.same(r"\frac12", "0.5")  # by math
    assert verify.same(r"\text{(B)}", "b")  # by choice
    assert not verify.same("B", "C")


def test_a_composition_whose_main_parts_extract_nothing_does_not_either(registry):
    verify = compose(parts={"m": length(), "c": choice.choice()}, main="m", weights={"c": 0.5})
    assert not hasattr(verify, "extract")  # so a vote is Verdict.extracted


# --- what is refused


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"main": "c"}, "names a part 'c'"),
        ({"main": "a", "by_domain": {"law": "c"}}, "names a part 'c'"),
        ({"main": "a", "penalties": {"c": 0.1}}, "names a part 'c'"),
        ({}, "does not say which part is the main one"),
        ({"weights": {"a": 1.0, "b": 1.0}}, "does not say which part is the main one"),
        ({"main": "a"}, "has no use for 'b'"),
        ({"main": "a", "weights": {"b": 0.0}}, "has 0.0 for 'b'"),
        ({"main": "a", "penalties": {"b": -0.1}}, "has -0.1 for 'b'"),
        ({"main": "a", "penalties": {"b": float("nan")}}, "has nan for 'b'"),
        ({"main": "a", "weights": {"b": 0.1}, "penalties": {"b": 0.1}}, "has 'b' as a penalty and as a reward"),
    ],
)
def test_a_composition_that_makes_no_sense_is_refused(options, what):
    with pytest.raises(ConfigError, match=f"^reward 'compose' {what}"):
        compose(parts={"a": says(1.0), "b": says(1.0)}, **options)


def test_an_unknown_reward_within_is_refused_by_name(registry):
    with pytest.raises(PluginError, match="no reward is called 'maths'"):
        from_toml(registry, '[reward]\nname = "compose"\nparts.m = {name = "maths"}')
