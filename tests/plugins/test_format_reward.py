"""Reward `format`: the shape, the scripts and the end of a completion, each with what is wrong and what is not."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import ConfigError
from h1r_cli.rewards.repetition import WINDOW_CHARS, repeated_tail
from h1r_cli.rewards.scripts import foreign_share, script_of
from h1r_cli.types import Problem
from h1r_plugins.rewards.format import format_reward

MATH500 = Path(__file__).parents[2] / "../shared/data/eval/math500.jsonl"
GOOD = "<think>\nTwo and two make four.\n</think>\n\nThe answer is 4."
PROBLEM = Problem("p", "?")
ENGLISH = "the quick brown fox jumps over the lazy dog "  # 35 letters


def reason(completion, **options):
    verdict = format_reward(**options)(PROBLEM, completion)
    assert verdict.correct == (verdict.reward == 1.0) == (verdict.reason == "as it should be")
    return verdict.reason


# --- shape


@pytest.mark.parametrize(
    ("completion", "fault"),
    [
        (GOOD, "as it should be"),
        (f"\n {GOOD}\n", "as it should be"),
        ("4", "no thought"),
        ("", "no thought"),
        ("thinking </think> 4", "no thought"),
        (f"Well. {GOOD}", "text before the thought"),
        ("<think> on and on", "the thought does not end"),
        ("<think> a </think> b <think> c </think> d", "more than one think block"),
        ("<think> a <think> b </think> c", "more than one think block"),
        ("<think> a </think> b </think> c", "more than one think block"),
        ("<think> \n </think> 4", "an empty thought"),
        ("<think> a </think> \n", "no answer after the thought"),
    ],
)
def test_the_shape_is_one_thought_at_the_start_and_an_answer_behind_it(completion, fault):
    assert reason(completion) == fault
    assert reason(completion, shape=False) == "as it should be"


@pytest.mark.parametrize(
    ("completion", "fault"),
    [
        ("thinking </think> 4", "as it should be"),
        ("<think> thinking </think> 4", "as it should be"),
        ("</think> 4", "an empty thought"),
        ("thinking", "the thought does not end"),
        ("a <think> b </think> c", "more than one think block"),
    ],
)
def test_a_thought_that_the_prompt_opened_needs_no_tag(completion, fault):
    assert reason(completion, opened=True) == fault


plain = st.text(alphabet="ab .\n</think>", max_size=20).filter(lambda text: text.strip() and "<" not in text)


@given(plain, plain)
@settings(derandomize=True, deadline=None)
def test_any_thought_and_any_answer_make_the_shape_and_no_part_of_it_can_be_missing(thought, answer):
    assert reason(f"<think>{thought}</think>{answer}") == "as it should be"
    for missing in (f"{thought}</think>{answer}", f"<think>{thought}{answer}", f"<think>{thought}</think>"):
        assert reason(missing) != "as it should be"


# --- scripts


def test_the_foreign_share_by_hand():
    # 35 Latin letters and 2 Chinese characters: 2 / 37
    assert foreign_share(ENGLISH + "因此") == (pytest.approx(2 / 37), "CJK")
    # 4 Cyrillic and 3 Arabic of 42: 7 / 42, Cyrillic is the commoner
    assert foreign_share(ENGLISH + "тоже سلم") == (pytest.approx(7 / 42), "CYRILLIC")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 + 1 = 2",
        "die Größe façade",
        r"so α + β = γ, \alpha\text{ and } π",  # noqa: RUF001
        "𝑥 ∈ ℝ, ℵ₀ and ｆｕｌｌ width",  # noqa: RUF001
        "日本語とカタカナー",
        "한국어",
        "η αβγ",  # a Greek text
        "see ```print('привет')``` here",
        "see ```привет",  # a fence that is cut off
    ],
)
def test_mathematics_code_and_one_languages_own_letters_are_not_foreign(text):
    assert foreign_share(text) == (0.0, None)


def test_latin_letters_in_another_language_are_foreign_to_it():
    # 2 Latin of 12 letters
    assert foreign_share("получается ok") == (pytest.approx(2 / 12), "LATIN")
    assert foreign_share("η λέξη ok") == (pytest.approx(2 / 7), "LATIN")  # 5 Greek: a Greek text


prose = st.text(alphabet=st.characters(exclude_characters="`\\") | st.sampled_from("abcжщלמΣΨΩ漢字"), max_size=60)


@given(prose)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_the_foreign_share_is_what_a_naive_loop_counts(text):
    scripts = [script for script in map(script_of, text) if script is not None]
    if max(set(scripts), key=scripts.count, default=None) != "GREEK":
        scripts = [script for script in scripts if script != "GREEK"]
    most = max(map(scripts.count, scripts), default=0)
    assert foreign_share(text)[0] == pytest.approx(1 - most / len(scripts) if scripts else 0.0)


def test_mixed_scripts_are_named_and_the_share_that_is_allowed_can_be_set():
    mixed = f"<think>{ENGLISH}因此</think> so 4"  # 2 of 39
    assert reason(mixed, max_foreign_share=0.06) == "as it should be"
    assert reason(mixed, max_foreign_share=0.05) == "mixed scripts: 5% foreign, CJK"  # 5.1 %
    assert reason(mixed, max_foreign_share=1.0) == "as it should be"


# --- repetition


def test_a_repeated_tail_by_hand():
    assert repeated_tail("well, " + "no, " * 10, times=10, least_chars=20) == " no,"  # the last blank is off
    assert repeated_tail("well, " + "no, " * 10, times=11, least_chars=20) is None
    assert repeated_tail("well, " + "no, " * 10, times=10, least_chars=50) is None
    assert repeated_tail("no, " * 10 + "well", times=10, least_chars=20) is None  # not at the end
    assert repeated_tail("-" * 30, times=8, least_chars=30) == "-"
    assert repeated_tail("", times=2, least_chars=1) is None


def naive_tail(text, times, least_chars):
    """Whether some suffix is one block, `times` times or more: every length and every period tried."""
    text = text.rstrip()
    return any(
        size >= times * period and all(text[-i - 1] == text[-i - 1 - period] for i in range(size - period))
        for size in range(least_chars, len(text) + 1)
        for period in range(1, size // times + 1)
    )


@given(st.text(alphabet="ab", max_size=8), st.text(alphabet="abc", max_size=4), st.integers(0, 9), st.integers(2, 5))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_repeated_tail_is_found_where_a_naive_search_finds_one(head, block, copies, times):
    text = head + block * copies
    assert (repeated_tail(text, times, least_chars=6) is not None) == naive_tail(text, times, 6)


def test_endless_repetition_is_wrong_in_the_thought_and_in_the_answer():
    loop = "Wait, let me check this again. " * 20  # 620 characters
    assert reason(f"<think>{loop}</think> 4") == "endless repetition of ' Wait, let me check this again.'"
    assert reason(f"<think> a </think> 4 {loop}").startswith("endless repetition of")
    assert reason(f"<think> a </think> 4 {loop}", repeats=0) == "as it should be"
    assert reason(f"<think> a </think> 4 {loop}", repeats=21) == "as it should be"
    assert reason(f"<think> a </think> 4 {loop}", repeated_chars=700) == "as it should be"
    assert reason(f"<think> {loop} so it is 4. </think> 4") == "as it should be"  # it found the way out


def test_all_that_is_wrong_is_named():
    assert reason("кот " * 40 + ENGLISH + "x" * 500) == (
        "no thought; mixed scripts: 18% foreign, CYRILLIC; endless repetition of 'x'"
    )  # 120 of 120 + 35 + 500


@pytest.mark.skipif(not MATH500.exists(), reason="no MATH-500 beside the repository")
def test_nothing_is_wrong_with_a_persons_solutions():
    rows = [json.loads(line) for line in MATH500.read_text(encoding="utf-8").splitlines()]
    assert {reason(f"<think>{row['solution']}</think> {row['answer']}") for row in rows} == {"as it should be"}


@pytest.mark.parametrize("unit", ["a", "ab", "<think>", "```", "漢", "\\x", "a" * (WINDOW_CHARS - 1) + "b"])
def test_a_megabyte_is_judged_in_seconds(unit):
    begin = time.perf_counter()
    reason(unit * (1_000_000 // len(unit)))
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    "options", [{"max_foreign_share": 1.5}, {"max_foreign_share": -0.1}, {"repeats": 1}, {"repeated_chars": 0}]
)
def test_thresholds_that_mean_nothing_are_refused(options):
    with pytest.raises(ConfigError, match="of reward 'format'"):
        format_reward(**options)
