"""One pass over a source: kinds, what is left out, what an epoch comes to."""

from __future__ import annotations

import pytest

from h1r_cli.data.chat import Sample
from h1r_cli.data.filters import FILTERS
from h1r_cli.data.mixture import Source
from h1r_cli.data.survey import View, difficulty, planned, survey
from h1r_cli.types import Conversation, Message


def said(number, domain="math", content=r"\boxed{1}", **tags):
    turns = (Message("user", "Q"), Message("assistant", content, "thought"))
    return Conversation(str(number), turns, domain, tags)


@pytest.mark.parametrize(
    ("by", "value", "found"),
    [
        ("pass_rate", 0.0, "hard"),
        ("pass_rate", 0.25, "hard"),
        ("pass_rate", 0.26, "medium"),
        ("pass_rate", 0.75, "medium"),
        ("pass_rate", 1.0, "easy"),
        ("trace_length", 4095, "easy"),
        ("trace_length", 4096, "medium"),
        ("trace_length", 16_384, "hard"),
        ("trace_length", "long", "unrated"),
        (None, 0.1, "unrated"),
    ],
)
def test_difficulty_by_hand(by, value, found):
    from h1r_cli.data.survey import THRESHOLDS

    tag = "trace_tokens" if by == "trace_length" else "pass_rate"
    assert difficulty(said(1, **{tag: value}), by, THRESHOLDS.get(by, (0, 0))) == found


def test_each_conversation_is_of_one_kind_or_left_out():
    records = [
        said(0, pass_rate=0.1), said(1, pass_rate=0.9), said(2, content="no box"), said(3, pass_rate=0.2), said(4),
    ]  # fmt: skip
    found = survey(records, active=FILTERS, by="pass_rate")
    assert {kind: list(places) for kind, places in found.kept.items()} == {
        ("math", "hard"): [0, 3], ("math", "easy"): [1], ("math", "unrated"): [4],
    }  # fmt: skip
    assert (found.read, found.dropped["unboxed_math"], found.kept_conversations) == (5, 1, 4)


def test_a_domain_for_the_whole_source_holds_for_its_filters_too():
    records = [said(0, domain="other", content="no box")]
    assert survey(records, active=FILTERS).kept_conversations == 1
    assert survey(records, active=FILTERS, domain="math").kept_conversations == 0
    assert View(records, [0], "science")[0].domain == "science"


def test_the_plan_measures_at_even_distances_and_multiplies_by_the_draws():
    # 1,000 conversations, every fifth is measured: place p has p % 10 + 1 tokens, so 1 and 6: 3.5 on average;
    # up to 4 are kept: 1 and 4, so 2.5; weight 0.5 is 500 draws: 1,250 tokens
    records = [said(place) for place in range(1000)]
    source = Source(View(records, range(1000), None), 0.5, ("math", "easy"))

    def tokenize(conversation):
        length = int(conversation.id) % 10 + 1
        return Sample(tuple(range(length)), ((0, length),))

    found = planned(source, tokenize, max_length_tokens=4)
    assert (found.draws, found.tokens, found.trained_tokens) == (500, 1250.0, 1250.0)
