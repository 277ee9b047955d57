"""Reward `instructions`: each kind of IFEval by hand, all problems of both benchmarks, and nothing left to chance."""

import json
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("if_verifiable", reason="the extra instructions is not installed")

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.types import Problem
from h1r_plugins.rewards.instructions import NEEDED_DATA, checkers, instructions, read_constraints, require_data

EVAL = Path(__file__).parents[2] / "../shared/data/eval"
PROSE = "The cat sat on the mat and looked at the dog in the garden"
verifier = instructions()


def reference(*constraints):
    """The reference of pairs (kind, arguments)."""
    kinds, kwargs = zip(*constraints, strict=True)
    return json.dumps({"instruction_id_list": kinds, "kwargs": kwargs})


def judge(completion, *constraints, credit="all"):
    return instructions(credit=credit)(Problem("p", "?", reference(*constraints)), completion)


def lacks_data(kind):
    try:
        for resource in NEEDED_DATA.get(kind, ()):
            require_data(resource, kind)
    except ConfigError:
        return True
    return False


BY_HAND = [  # kind, arguments, a text that follows it, one that does not
    ("keywords:existence", {"keywords": ["cat", "mat"]}, PROSE, "The cat sat"),
    ("keywords:frequency", {"keyword": "the", "frequency": 4, "relation": "at least"}, PROSE, "The cat"),
    ("keywords:frequency", {"keyword": "the", "frequency": 4, "relation": "less than"}, "The cat", PROSE),
    ("keywords:forbidden_words", {"forbidden_words": ["cow"]}, PROSE, "A cow"),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 3, "let_relation": "at least"}, PROSE, "a and"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", "#a b"),
    ("keywords:letter_frequency", {"letter": "Z", "let_frequency": 1, "let_relation": "less than"}, PROSE, "zoo"),
    ("language:response_language", {"language": "de"}, "Die Katze liegt auf der Matte und schläft.", PROSE),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", "One, two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "two words", PROSE),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
        "One\n\nTwo more",
        "Two\n\nOne",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] in [city]", "[name] in city"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Dear\n\nP.S. bye", "Dear\n\nbye"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes, of course"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and *two*", "*one* and two"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\nx\nSection 2\ny",
        "Section 1\nx",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Cats>>\nThey purr", "<Cats>\nThey purr"),
    ("combination:two_responses", {}, "One\n******\nTwo", "One\nTwo"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Say hi. Hi!", "Hi!"),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Hello. That is all.", "That is all. Hello."),
    ("startend:quotation", {}, '"Hello"', 'He said "hello"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "A B", "a B"),
    ("change_case:english_capital", {}, PROSE.upper(), PROSE),
    ("change_case:english_lowercase", {}, PROSE.lower(), PROSE),
    ("punctuation:no_comma", {}, PROSE, "Yes, no"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "kwargs", "followed", "broken"), BY_HAND)
def test_a_constraint_of_ifeval_is_followed_or_broken(kind, kwargs, followed, broken):
    if lacks_data(kind):
        pytest.skip(f"NLTK's data for {kind} are not installed")
    verdict = judge(f"<think> {broken} </think>\n\n{followed}\n", (kind, kwargs))  # a thought is not judged
    assert (verdict.reward, verdict.correct, verdict.extracted) == (1.0, True, followed)
    assert verdict.parts == {kind: 1.0}
    verdict = judge(f"<think> {followed} </think>{broken}", (kind, kwargs))
    assert (verdict.reward, verdict.correct, verdict.reason) == (0.0, False, f"broken: {kind}")


def test_all_or_nothing_or_the_share():
    said = (
        ("punctuation:no_comma", {}),
        ("detectable_format:title", {}),
        ("keywords:existence", {"keywords": ["cat"]}),
    )
    verdict = judge("<<cats>> a cat, a dog", *said)
    assert (verdict.reward, verdict.correct) == (0.0, False)
    verdict = judge("<<cats>> a cat, a dog", *said, credit="share")
    assert (verdict.reward, verdict.correct) == (pytest.approx(2 / 3), False)
    assert verdict.parts == {"punctuation:no_comma": 0.0, "detectable_format:title": 1.0, "keywords:existence": 1.0}
    assert judge("<<cats>> a cat", *said, credit="share").correct


def test_a_kind_that_comes_twice_has_two_parts():
    twice = [("keywords:existence", {"keywords": [word]}) for word in ("cat", "cow")]
    assert judge(PROSE, *twice).parts == {"keywords:existence": 1.0, "keywords:existence#2": 0.0}


@pytest.mark.parametrize("text", ["", " \n", "<think> so", "<think> so </think> ", "x" * 40_000])
def test_nothing_and_far_too_much_follow_no_constraint(text):
    assert judge(text, ("punctuation:no_comma", {})).parts == {"punctuation:no_comma": 0.0}


@pytest.mark.parametrize("kind", ["change_case:english_capital", "change_case:english_lowercase"])
def test_a_text_without_a_language_is_in_none(kind):
    checker = checkers()["language:response_language"]("language:response_language")
    checker.build_description(language="de")
    assert checker.check_following("12345 678")  # what the package says
    assert not judge("12345 678", ("language:response_language", {"language": "de"})).correct
    assert not judge("12345 678", (kind, {})).correct


def test_a_text_in_no_clear_language_is_judged_the_same_each_time():
    constraint = ("language:response_language", {"language": "it"})  # langdetect unseeded wavers
    assert len({judge("total normal", constraint).correct for _ in range(40)}) == 1


def test_a_span_from_the_first_word_is_that_span():
    span = {"prompt_to_repeat": "Zero one two three", "n_start": 0.0, "n_end": 2.0}  # floats, as IFBench has them
    assert judge("zero ONE", ("repeat:repeat_span", span)).correct
    assert not judge("one two", ("repeat:repeat_span", span)).correct


@given(st.text(alphabet="[]a\n", max_size=30), st.integers(1, 4))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_placeholders_are_counted_as_the_package_counts_them(text, wanted):
    found = len(re.findall(r"\[.*?\]", text.strip()))  # its expression
    verdict = judge(text, ("detectable_content:number_placeholders", {"num_placeholders": wanted}))
    assert verdict.correct == (found >= wanted)


# --- the benchmarks' problems


def problems(name):
    path = EVAL / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {name} beside the repository")
    for row in map(json.loads, filter(None, path.read_text(encoding="utf-8").split("\n"))):
        yield Problem(
            str(row["key"]), row["prompt"], json.dumps({k: row[k] for k in ("instruction_id_list", "kwargs")})
        )


def kinds(problem):
    return set(json.loads(problem.answer)["instruction_id_list"])


@pytest.mark.parametrize(("name", "count", "of_kinds"), [("ifeval", 541, 25), ("ifbench", 300, 58)])
def test_every_problem_is_covered_by_checkers_that_draw_nothing(name, count, of_kinds):
    found = list(problems(name))
    assert len(found) == count
    assert len(set().union(*map(kinds, found))) == of_kinds
    assert set().union(*map(kinds, found)) <= checkers().keys()
    for problem in found:
        if not any(map(lacks_data, kinds(problem))):
            before = random.getstate()
            assert read_constraints(problem.id, problem.answer)
            assert random.getstate() == before, problem.id


ODD = [
    "",
    ".",
    "\n\n",
    "'",
    "((a)",
    "[[[[" * 50,
    "<<",
    "\x00",
    "\ud800",
    "***\n***",
    "-",
    "{" * 2000,
    "你好。",
    "P.S.",
]


@pytest.mark.parametrize("name", ["ifeval", "ifbench"])
def test_odd_texts_get_a_verdict_from_every_kind_and_the_same_one_twice(name):
    seen = set()
    for problem in problems(name):
        if kinds(problem) <= seen or any(map(lacks_data, kinds(problem))):
            continue
        seen |= kinds(problem)
        for text in ODD:
            assert verifier(problem, text) == verifier(problem, text)


@pytest.mark.parametrize("text", ["[" * 32_000, "<<" * 16_000, "(" * 32_000, "Hello there. " * 2_400])
def test_no_kind_takes_long_over_a_long_text(text):
    slow = ["detectable_content:number_placeholders", "detectable_format:title", "format:parentheses"]
    kwargs = [{"num_placeholders": 1}, {}, {}]
    begin = time.perf_counter()
    judge(text, *zip(slow, kwargs, strict=True))
    assert time.perf_counter() - begin < 5


# --- what is refused


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("12", "has no list of constraints as its answer"),
        ("not JSON", "has no list of constraints as its answer"),
        (json.dumps({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}), "has no list of constraints"),
        (json.dumps({"instruction_id_list": [], "kwargs": []}), "has no constraint"),
        (reference(("punctuation:no_coma", {})), "has a constraint of unknown kind 'punctuation:no_coma'"),
        (reference(("length_constraints:number_words", {"relation": "at least"})), "without 'num_words'"),
        (
            reference(("length_constraints:number_words", {"relation": "about", "num_words": 3})),
            "has a constraint 'length_constraints:number_words' that cannot be read",
        ),
        (
            reference(("language:response_language", {"language": "ca"})),
            "has a constraint 'language:response_language' that cannot be read: 'ca'",
        ),
    ],
)
def test_a_reference_that_cannot_be_judged_is_an_error_that_names_the_problem(answer, what):
    with pytest.raises(DataError, match=f"^problem 'p' .*{what}|^problem 'p' {what}"):
        verifier(Problem("p", "?", answer), "text")


@pytest.mark.parametrize("kind", NEEDED_DATA)
def test_missing_data_are_an_error_that_says_how_to_get_them(kind):
    if not lacks_data(kind):
        pytest.skip("NLTK's data are installed")
    with pytest.raises(ConfigError, match=r"fix: python -m nltk.downloader \w+$"):
        verifier(Problem("p", "?", reference((kind, {}))), "text")


def test_without_a_reference_nothing_is_correct():
    verdict = verifier(Problem("p", "?"), "<think> a </think> b")
    assert (verdict.reward, verdict.correct, verdict.reason) == (0.0, False, "no reference answer")
