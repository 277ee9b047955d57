"""The file: no network, no markup out of data, a size that is kept, and numbers that are the run's."""

import doctest
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.report import page
from h1r_cli.report.page import DEEPCONF, embedded, html
from h1r_cli.report.section import MOST_LINES

FIVE_MB = 5_000_000
LARGEST_PARTS = 100_000


def data_of(path):
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found)


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(derandomize=True, deadline=None)
def test_whatever_is_embedded_comes_back_and_closes_nothing(data):
    text = embedded(data)
    assert "<" not in text
    assert json.loads(text) == data


def test_half_a_surrogate_pair_can_be_written():
    assert json.loads(embedded("\ud800").encode()) == "\ud800"


def test_the_page_itself_is_small_and_names_nothing_on_the_network():
    text = html({}, DEEPCONF)
    assert len(text) < LARGEST_PARTS
    assert set(re.findall(r"[a-z]*:?//[^\s\"'`,;)]+\.[^\s\"'`,;)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\ssrc=|href|url\(|@import|fetch|XMLHttpRequest|innerHTML|outerHTML|insertAdjacent", text)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(page).failed == 0


def test_the_numbers_are_the_results(random_run):
    run = random_run(problems=3)
    data = data_of(run.page)
    assert data["totals"] == run.totals
    for shown, result in zip(data["problems"], run.results, strict=True):
        assert shown["answer"] == result.answer
        assert shown["correct"] == result.correct
        assert shown["threshold"] == result.threshold_nats
        assert {vote["answer"]: vote["weight"] for vote in shown["votes"]} == result.weights
        assert sum(vote["traces"] for vote in shown["votes"]) == result.voters
        assert [vote["answer"] for vote in shown["votes"] if vote["elected"]] == [result.answer]
        assert {rule["rule"]: rule["answer"] for rule in shown["rules"]} == result.answers_by_rule


def test_a_line_ends_where_its_trace_was_cut_and_below_the_threshold(random_run):
    run = random_run()
    [problem], traces = data_of(run.page)["problems"], run.by_problem["problem/0"]
    assert len(problem["lines"]) == len(traces)
    cut = [line for line in problem["lines"] if line["end"] == "pruned"]
    assert len(cut) == run.results[0].pruned > 0
    for line in cut:
        assert line["at"][-1] == line["tokens"] == len(traces[line["index"]].token_ids)
        assert line["nats"][-1] == min(line["nats"]) <= round(1000 * problem["threshold"])


def test_at_512_traces_a_sample_is_drawn_and_its_data_stay_small(random_run):
    run = random_run(traces=512, tokens=1500, window=64)
    [problem] = data_of(run.page)["problems"]
    assert problem["traces"] == 512
    assert MOST_LINES - 8 <= len(problem["lines"]) <= MOST_LINES
    assert run.page.stat().st_size < 400_000


def test_many_problems_of_the_costliest_text_stay_under_five_megabytes(random_run):
    costly = "<" * 400  # six bytes each, once escaped
    answers = tuple(f"{number}{costly}" for number in range(20))
    run = random_run(problems=120, traces=60, tokens=300, answers=answers, prompt=costly * 10, thought="\x01<é€")
    data = data_of(run.page)
    assert run.page.stat().st_size < FIVE_MB
    assert (len(data["problems"]), data["problems_in_all"]) == (100, 120)
    assert min(len(problem["lines"]) for problem in data["problems"]) > MOST_LINES - 12
    assert any(problem["votes_left_out"]["answers"] for problem in data["problems"])


@pytest.mark.parametrize("judged", [True, False])
def test_without_reference_answers_nothing_is_right_or_wrong(random_run, judged):
    [problem] = data_of(random_run(judged=judged).page)["problems"]
    verdicts = {vote["correct"] for vote in problem["votes"]} | {rule["correct"] for rule in problem["rules"]}
    verdicts |= {line["correct"] for line in problem["lines"] if line["end"] == "stop"}
    assert verdicts == ({True, False} if judged else {None})
