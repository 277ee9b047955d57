"""The problems of `h1r train-rl`: none is lost among several tables, and none is one that is tested on."""

from __future__ import annotations

import json

import pytest

from h1r_cli import registry
from h1r_cli.commands.train_rl_data import curriculum
from h1r_cli.config import Layer, resolve
from h1r_cli.errors import DataError
from h1r_cli.settings import TrainRlSettings

TEST = "arith:split=test,size=20"


@pytest.fixture
def table(tmp_path):
    """Writes sums without ids into a file, and returns the table that names it."""

    def write(name, *sums):
        lines = [json.dumps({"prompt": one, "answer": str(eval(one))}) for one in sums]
        (tmp_path / name).write_text("\n".join(lines))
        return {"source": "jsonl", "path": str(tmp_path / name)}

    return write


def made(**settings):
    """The ids and questions of each stage, and the report."""
    stages, report = curriculum(registry.load(), resolve(TrainRlSettings, [Layer("test", settings)]).settings)
    return [[(problem.id, problem.text) for problem in stage.problems] for stage in stages.stages], report


def test_problems_of_two_files_without_ids_are_all_there_under_ids_of_their_own(table):
    (problems,), report = made(problems=[table("a", "1+1", "1+2"), table("b", "1+1", "2+2", "2+3")])
    assert problems == [("1", "1+1"), ("2", "1+2"), ("1", "1+1"), ("2#2", "2+2"), ("3", "2+3")]
    assert (report["problems"], report["renamed"]) == (4, 1)


def test_a_change_in_any_file_shows_in_the_digest(table):
    def digest(first, second, third):
        stage = {"from": [table("b", *second), table("c", *third)]}
        return made(problems=[table("a", *first)], stage=[{"steps": 1}, stage])[1]["sha256"]

    base = (["1+1"], ["2+2", "2+3"], ["3+3"])
    others = [(["1+2"], *base[1:]), (base[0], ["2+2"], base[2]), (base[0], ["2+2", "2+4"], base[2])]
    others += [(*base[:2], ["1+1"]), (["1+1", "2+2"], ["2+3"], ["3+3"])]
    assert digest(*base) not in [digest(*one) for one in others]


def test_problems_of_each_file_and_stage_are_looked_for_in_other_data(table, tmp_path):
    tested = f"jsonl:path={table('tested', '1+1', '5+5')['path']}"
    first, second = table("a", "1+1", "1+2"), table("b", "2+2", "5+5")
    for settings in (
        {"problems": [first, second]},
        {"problems": [second], "stage": [{"steps": 1}, {"from": [first]}]},
    ):
        with pytest.raises(DataError, match=r"2 of 4 problems are in jsonl:path=.*tested: "):
            made(**settings, disjoint={"against": [tested]})


def test_the_benchmark_is_data_that_the_problems_must_not_be_in():
    same = {"source": "arith", "split": "test", "size": 30}
    with pytest.raises(DataError, match=f"20 of 30 problems are in {TEST}: ") as caught:
        made(problems=[same], evaluation={"benchmark": TEST})
    assert caught.value.known == f"disjoint.against and evaluation.benchmark name {TEST}"
    _, report = made(problems=[same], evaluation={"benchmark": TEST}, disjoint={"allow": True})
    assert (report["overlap_allowed"], report["disjoint_from"], len(report["matches"])) == (True, [TEST], 20)
    _, report = made(problems=[same | {"split": "rl"}], evaluation={"benchmark": "arith"})
    assert (report["disjoint_from"], report["matches"]) == (["arith"], [])
