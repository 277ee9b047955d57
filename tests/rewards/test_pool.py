"""The pool of processes that verify: order, deadlines, deaths, memory, and that numbers of workers change nothing."""

from __future__ import annotations

import os
import time

import pytest

from h1r_cli.errors import H1RError
from h1r_cli.rewards.pool import NO_VERDICT, Limits, Pool
from h1r_cli.rewards.process import Job
from h1r_cli.rewards.worker import serve
from h1r_cli.types import Problem

PLUGIN = '''
import os, signal, time
from pathlib import Path
from h1r_cli import hookimpl
from h1r_cli.errors import EngineError
from h1r_cli.types import Verdict

def odd(*, folder: str):
    """Does what the completion says."""
    def verify(problem, completion):
        word, _, rest = completion.partition(" ")
        if word == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        if word == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "die-once":
            flag = Path(folder, rest)
            if not flag.exists():
                flag.touch()
                os._exit(7)
        if word == "eat":
            held = bytearray(700 << 20)
            time.sleep(600)
        if word == "bug":
            raise ZeroDivisionError("of the verifier")
        if word == "unreachable":
            raise EngineError("the judge is gone", known="it was there", fix="start it again")
        if word == "sleep":
            time.sleep(float(rest))
        return Verdict(1.0, True, word, f"process {os.getpid()}")
    return verify

@hookimpl
def h1r_rewards():
    return {"odd": odd}
'''


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Makes a pool of the reward `odd`, offered by a package on the path."""
    (tmp_path / "h1r_odd.py").write_text(PLUGIN)
    facts = tmp_path / "h1r_odd-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: h1r-odd\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[h1r]\nodd = h1r_odd\n")
    monkeypatch.syspath_prepend(tmp_path)
    parts = {"odd": ("odd", {"folder": str(tmp_path)}), "math": ("math", {})}

    def make(workers=1, notify=lambda line: None, ahead=4096, **limits):
        return Pool(serve, parts, workers=workers, limits=Limits(**limits), notify=notify, ahead=ahead)

    return make


def jobs(*completions, verifier="odd"):
    return [Job(verifier, Problem(str(place), "?", "7"), text) for place, text in enumerate(completions)]


def pid(verdict):
    return int(verdict.reason.removeprefix("process "))


def test_verdicts_come_in_the_order_of_their_jobs(pool):
    slow_first = jobs("sleep 0.5", *(f"w{number}" for number in range(200)))
    with pool(workers=2) as two:
        found = [verdict.extracted for verdict in two.verdicts(slow_first)]
    assert found == ["sleep", *(f"w{number}" for number in range(200))]


def test_the_number_of_workers_changes_no_verdict(pool):
    texts = [rf"so \boxed{{{number % 9}}} it is" for number in range(300)] + ["no answer", r"\boxed{\frac{14}{2}}"]
    found = []
    for workers in (1, 3):
        with pool(workers=workers) as made:
            found.append(list(made.verdicts(jobs(*texts, verifier="math"))))
    assert found[0] == found[1]
    assert sum(verdict.correct for verdict in found[0]) == 33 + 1  # 7, 16, …, 295: 33 of 300; and 14/2


def test_an_overdue_verdict_is_none_and_its_process_is_replaced(pool):
    with pool(deadline_s=0.5) as one:
        before, overdue, after = one.verdicts(jobs("a", "hang", "b"))
    assert (overdue.reward, overdue.correct, overdue.reason) == (0.0, False, NO_VERDICT + "over 0.5 s")
    assert (before.extracted, after.extracted) == ("a", "b")
    assert pid(after) != pid(before)
    assert one.metrics()["rewards/odd_unfinished"] == 1.0


def test_a_job_whose_process_dies_is_tried_once_more(pool):
    with pool() as one:
        twice, once, other = one.verdicts(jobs("die", "die-once flag", "a"))
    assert twice.reason == NO_VERDICT + "its process died (SIGSEGV)"
    assert once.correct
    assert other.extracted == "a"


def test_a_verifier_that_eats_memory_is_stopped(pool):
    with pool(memory_gib=0.6) as one:
        eater, other = one.verdicts(jobs("eat", "a"))
    assert eater.reason == NO_VERDICT + "over 0.6 GiB of memory"
    assert other.correct


def test_an_error_of_the_verifier_is_raised_not_scored(pool):
    with (
        pool() as one,
        pytest.raises(RuntimeError, match=r"(?s)reward 'odd' raised on problem '1'.*ZeroDivisionError"),
    ):
        list(one.verdicts(jobs("a", "bug", "b")))
    with pool() as one, pytest.raises(H1RError) as raised:
        list(one.verdicts(jobs("unreachable")))
    assert (raised.value.what, raised.value.known, raised.value.fix) == (
        "the judge is gone", "it was there", "start it again",
    )  # fmt: skip


def test_a_part_that_cannot_be_built_says_so_in_its_own_words(pool):
    with Pool(serve, {"x": ("no-such", {})}, workers=1) as one, pytest.raises(H1RError, match="no reward is called"):
        list(one.verdicts([Job("x", Problem("p", "?"), "text")]))


def test_the_watchdog_names_what_is_waited_for(pool):
    said = []
    with pool(deadline_s=1.0, watchdog_s=0.4, notify=said.append) as one:
        list(one.verdicts(jobs("a")))  # the process is up
        list(one.verdicts(jobs("hang")))
    assert said
    assert said[-1].startswith("no verdict for 0.4 s; waiting for odd on problem '0' for ")


def test_a_caller_that_leaves_early_finds_the_pool_fresh(pool):
    with pool() as one:
        stream = one.verdicts(jobs(*"abcdef", "sleep 0.2", *"ghi"))
        assert next(stream).extracted == "a"
        stream.close()
        assert [verdict.extracted for verdict in one.verdicts(jobs("x", "y"))] == ["x", "y"]


def test_jobs_are_taken_only_so_far_ahead(pool):
    taken = []

    def source():
        for job in jobs(*["a"] * 100):
            taken.append(job)
            yield job

    with pool(ahead=8) as one:
        for handed_on, _ in enumerate(one.verdicts(source())):
            assert len(taken) - handed_on <= 8
    assert len(taken) == 100


def test_jobs_may_be_submitted_while_others_run(pool):
    with pool() as one:
        first = one.submit(jobs("sleep 0.2")[0])
        assert one.poll() == []
        second = one.submit(jobs("b")[0])
        found = {}
        while len(found) < 2:
            found |= dict(one.poll(0.05))
    assert (found[first].extracted, found[second].extracted) == ("sleep", "b")


def test_long_completions_and_long_verdicts_do_not_wait_for_each_other(pool):
    texts = [f"{number}{'x' * 300_000}" for number in range(40)]  # a word each, so extracted whole
    with pool(deadline_s=20.0) as one:
        assert [verdict.extracted for verdict in one.verdicts(jobs(*texts))] == texts


def test_no_process_is_left_behind(pool):
    with pool(workers=2) as two:
        ids = {pid(verdict) for verdict in two.verdicts(jobs(*["sleep 0.05"] * 8))}
    assert len(ids) == 2
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{one}") for one in ids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_verdicts_of_a_closed_pool_are_not_waited_for(pool):
    with pool() as one:
        [job] = jobs("hang")
        one.submit(job)
        assert one.poll(0.2) == []
    with pytest.raises(RuntimeError, match="the pool is closed, and 1 verdicts are missing"):
        one.poll(0.1)
