"""The table and the metrics of an evaluation, by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.evals.scoring import Elected, Judged, ProblemScore, metrics, powers_of_two, score_problem
from h1r_cli.evals.statistics import clustered_interval
from h1r_cli.types import Verdict


def sample(answer, reference="12", tokens=10, truncated=False):
    correct = answer is not None and float(answer) == float(reference)
    return Judged(Verdict(float(correct), correct, answer), tokens, truncated)


def same_number(a, b):
    return float(a) == float(b)


def test_one_problem_by_hand():
    judged = [sample("12"), sample("7"), sample("12.0", tokens=30), sample(None, tokens=50, truncated=True)]
    assert score_problem("p1", judged, same_number) == ProblemScore(
        problem_id="p1",
        samples=4,
        correct=2,
        majority="12",
        majority_correct=True,
        truncated=1,
        no_answer=1,
        tokens=100,
    )


def test_votes_are_grouped_by_meaning_not_by_spelling():
    judged = [sample("7"), sample("7"), sample("12"), sample("12.0"), sample("12.00")]
    assert score_problem("p", judged, same_number).majority == "12"
    assert score_problem("p", judged, lambda a, b: a == b).majority == "7"


def test_of_equal_answers_the_one_seen_first_is_the_majority():
    judged = [sample("7"), sample("12"), sample("12"), sample("7")]
    assert score_problem("p", judged, same_number).majority == "7"
    assert score_problem("p", judged[1:] + judged[:1], same_number).majority == "12"


def test_a_reward_without_correctness_counts_for_nothing():
    judged = [Judged(Verdict(0.9, False, "7"), 1, False)]
    score = score_problem("p", judged, same_number)
    assert (score.correct, score.majority_correct) == (0, False)


def test_a_problem_that_nobody_answered_has_no_majority():
    score = score_problem("p", [sample(None), sample(None)], same_number)
    assert (score.majority, score.majority_correct, score.no_answer) == (None, False, 2)


def test_the_metrics_of_two_problems_by_hand():
    easy = score_problem("easy", [sample("12")] * 4, same_number)
    hard = score_problem("hard", [sample("12"), sample("7"), sample("7"), sample(None, tokens=90)], same_number)
    found = metrics([easy, hard])
    expected = {
        "eval/problems": 2,
        "eval/samples": 4,
        "eval/avg_at_4_frac": 0.625,  # (4/4 + 1/4) / 2
        "eval/pass_at_1_frac": 0.625,
        "eval/pass_at_2_frac": 0.75,  # (1 + 1/2) / 2
        "eval/pass_at_4_frac": 1.0,
        "eval/maj_at_4_frac": 0.5,
        "eval/truncated_frac": 0.0,
        "eval/no_answer_frac": 0.125,
        "eval/mean_tokens": 20.0,  # (4 * 10 + 3 * 10 + 90) / 8
        "eval/per_problem_tokens": 80.0,  # 160 / 2
        "eval/per_solved_tokens": 32.0,  # 160 / (4 + 1)
    }
    assert {key: found[key] for key in expected} == expected
    interval = clustered_interval([1.0, 0.25], draws=4)
    assert (found["eval/avg_at_4_low_frac"], found["eval/avg_at_4_high_frac"]) == (interval.low, interval.high)
    interval = clustered_interval([1.0, 0.5], draws=2)  # four samples hold two pairs
    assert (found["eval/pass_at_2_low_frac"], found["eval/pass_at_2_high_frac"]) == (interval.low, interval.high)
    assert set(found) - set(expected) == {
        f"eval/{name}_{end}_frac"
        for name in ("avg_at_4", "pass_at_1", "pass_at_2", "pass_at_4", "maj_at_4")
        for end in ("low", "high")
    }


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
@settings(derandomize=True, deadline=None)
def test_pass_at_k_grows_with_k_from_the_average_up(correct_counts):
    scores = [ProblemScore(str(i), 6, c, None, False, 0, 0, 0) for i, c in enumerate(correct_counts)]
    found = metrics(scores, area="x")
    passes = [found[f"x/pass_at_{k}_frac"] for k in powers_of_two(6)]
    assert passes[0] == pytest.approx(found["x/avg_at_6_frac"])
    assert passes == sorted(passes)
    assert passes[-1] == pytest.approx(sum(c > 0 for c in correct_counts) / len(correct_counts))


@pytest.mark.parametrize(("n", "ks"), [(1, [1]), (2, [1, 2]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])])
def test_k_runs_through_the_powers_of_two_and_n(n, ks):
    assert powers_of_two(n) == ks


def test_problems_with_different_numbers_of_samples_are_refused_by_name():
    scores = [score_problem("a", [sample("12")] * 2, same_number), score_problem("b", [sample("12")], same_number)]
    with pytest.raises(DataError, match="problem 'b' has 1 samples, 'a' has 2"):
        metrics(scores)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="no completions"):
        metrics([])
    with pytest.raises(DataError, match="has 0 samples"):
        metrics([score_problem("a", [], same_number)])


def test_a_length_that_one_sample_does_not_say_is_not_made_up():
    known = score_problem("a", [sample("12"), sample("7")], same_number)
    unsaid = score_problem("b", [sample("12"), sample("7", tokens=None, truncated=None)], same_number)
    assert (unsaid.tokens, unsaid.truncated) == (None, None)
    found = metrics([known, unsaid])
    assert not [key for key in found if "tokens" in key or "truncated" in key]


def test_what_the_vote_spends_is_booked_to_the_problems_that_it_solves():
    scores = [score_problem(name, [sample("12"), sample("7")], same_number) for name in "abc"]
    elected = [
        Elected("a", 8, "12", True, traces=8, pruned=4, tokens=60, full_tokens=80.0),
        Elected("b", 8, "7", False, traces=8, pruned=4, tokens=50, full_tokens=80.0),
        Elected("c", 8, "12", True, traces=8, pruned=4, tokens=70, full_tokens=80.0),
    ]
    found = metrics(scores, elected=elected)
    assert found["eval/deepconf_at_8_frac"] == pytest.approx(2 / 3)
    assert found["eval/per_problem_tokens"] == 60  # (60 + 50 + 70) / 3
    assert found["eval/per_solved_tokens"] == 90  # 180 / 2: what problem b cost was spent, too
    assert found["eval/deepconf_saved_frac"] == 1 - 180 / 240
    assert found["eval/mean_tokens"] == 10  # of the warm-up


def test_where_nothing_is_solved_a_solution_has_no_price():
    assert "eval/per_solved_tokens" not in metrics([score_problem("a", [sample("7")], same_number)])
