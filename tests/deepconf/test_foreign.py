"""Traces of other programs: the forms that are read, what is refused, and a recorded run."""

import json
import operator
import pickle
from functools import cache
from pathlib import Path

import pytest

from h1r_cli.deepconf.compare import compare
from h1r_cli.deepconf.foreign import read_foreign
from h1r_cli.deepconf.pool import Family, read_pools
from h1r_cli.deepconf.replay import Policy
from h1r_cli.deepconf.vote import VOTE_RULES, filtered
from h1r_cli.errors import DataError
from h1r_cli.types import UNITS_PER_NAT
from h1r_plugins.pruning.never import never
from h1r_plugins.rewards.math import math

BRUMO = Path(__file__).parents[2] / "../shared/data/replay/brumo_budget64.jsonl"
TRACE = {"status": "completed", "answer": "4", "conf": [2.0, 1.5, 0.25]}
PRUNED = {"status": "pruned", "answer": None, "conf": [1.0], "tokens": 7}


def written(tmp_path, *rows):
    path = tmp_path / "traces.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_line_is_a_problem_with_its_traces(tmp_path):
    path = written(
        tmp_path,
        {"id": "p", "answer": "4", "question": "2+2?", "traces": [TRACE, PRUNED]},
        {"qid": 7, "gold": "5", "traces": [TRACE | {"status": "truncated", "tokens": ["a", "b", "c"]}]},
        {"id": "open", "traces": [TRACE]},
    )
    confidence, rows = read_foreign(path, operator.eq)
    assert confidence == "top-k"
    assert [(row.problem_id, row.index, row.end, row.answer, row.correct, row.tokens) for row in rows] == [
        ("p", 0, "stop", "4", True, 3),
        ("p", 1, "pruned", None, False, 7),
        ("7", 0, "length", "4", False, 3),
        ("open", 0, "stop", "4", None, 3),
    ]
    assert rows[0].units["top-k"].tolist() == [2 * UNITS_PER_NAT, 98304, 16384]


def test_confidences_below_zero_are_log_probabilities_and_weigh_nothing(tmp_path):
    path = written(tmp_path, {"id": "p", "traces": [TRACE, TRACE | {"conf": [-0.5, -1.0]}]})
    assert read_foreign(path, operator.eq)[0] == "sampled"


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("{", "Expecting property name"),
        ({"answer": "4", "traces": [TRACE]}, "no 'id'"),
        ({"id": "p"}, "no 'traces'"),
        ({"id": "p", "traces": [{"status": "completed", "answer": "4"}]}, "no 'conf'"),
        (
            {"id": "p", "traces": [TRACE | {"status": "done"}]},
            "status 'done' of trace 0 is none of aborted, completed",
        ),
        ({"id": "p", "traces": [TRACE | {"conf": [1.0, None]}]}, "conf of trace 0 is no list of finite numbers"),
        ({"id": "p", "traces": [TRACE | {"conf": [[1.0]]}]}, "conf of trace 0 is no list of finite numbers"),
        ([1], "list indices must be integers"),
    ],
)
def test_a_line_that_is_no_problem_is_an_error_with_its_number_and_the_form(tmp_path, row, cause):
    path = written(tmp_path, {"id": "p", "traces": [TRACE]}, row)
    with pytest.raises(DataError, match="line 2 holds no traces of a problem") as error:
        read_foreign(path, operator.eq)
    assert cause in str(error.value)
    assert '\n  known: {"id": ..., "answer"?: ...' in str(error.value)


def test_a_file_without_traces_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no traces"):
        read_foreign(written(tmp_path, {"id": "p", "traces": []}), operator.eq)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("name", ["run.pkl", "run.pickle", "run.jsonl"])
def test_no_pickle_is_ever_loaded(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError) as error:
        read_foreign(path, operator.eq)
    assert ("is a pickle, and none is loaded" in str(error.value)) == (path.suffix != ".jsonl")


@pytest.mark.slow
@pytest.mark.skipif(not BRUMO.exists(), reason="brumo_budget64.jsonl is not here")
def test_a_recorded_run_is_replayed_as_its_readme_says():
    """29 problems of BRUMO 2025, 64 traces each; the weight is the mean confidence of the answer's tokens.

    Problem 22 asks for four complex roots. The published figures take none of its answers for right; `math` reads
    the list as a set, so here the problem is right under every rule, and the other 28 must give the figures.
    """
    same = cache(math().same)
    confidence, rows = read_foreign(BRUMO, same)
    families = [Family("never", never(), 2048, confidence)]
    published = {"majority": 0.552, "mean-confidence-weighted": 0.759, "top10-mean-majority": 0.931}

    def accuracies(rows, rules=tuple(published)):
        """Of each rule: the share of the 29 that is right without problem 22, and whether that one is."""
        judged = [row for row in rows if row.problem_id != "22"], [row for row in rows if row.problem_id == "22"]
        found = []
        for part in judged:
            pools = read_pools(part, families, 2048)
            (one,) = compare(pools, families, [Policy(0, None, None, 1)], {confidence: rules}, same)
            found.append({vote.vote: vote.accuracy.value for vote in one.elected})
        assert set(found[1].values()) == {1.0}
        return {rule: round(value * 28 / 29, 3) for rule, value in found[0].items()}

    assert accuracies(rows) == published
    # the majority of the completed traces alone
    assert accuracies([row for row in rows if row.end == "stop"], ("majority",)) == {"majority": 0.931}
    pools = [pool for pool in read_pools(rows, families, 2048) if pool.problem_id != "22"]
    shares = [sum(trace.correct for trace in pool.whole) / len(pool.whole) for pool in pools]
    assert round(sum(shares) / 29, 3) == 0.389
    for keep_frac, expected in ((0.1, 0.931), (0.5, 0.862)):
        rule = filtered(lambda ballot: ballot.mean, keep_frac, VOTE_RULES["mean-confidence-weighted"])
        right = [
            rule([trace.readings[0].ballot for trace in pool.whole], same).answer in pool.right for pool in pools
        ]
        assert round(sum(right) / 29, 3) == expected
