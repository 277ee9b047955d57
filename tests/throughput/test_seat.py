"""Engines in processes of their own: measured, put to sleep, out of memory, killed; the grid goes on after each."""

import os
import resource
import signal
from pathlib import Path

import psutil
import pytest

from h1r_cli.settings import BenchThroughputSettings, Gates
from h1r_cli.throughput.grid import grid
from h1r_cli.throughput.loop import Journal, Rig, run
from h1r_cli.throughput.worker import serve

LOOSE = Gates(least_s=0.0, least_tokens=1, steady_frac=10.0, most_variation_frac=10.0, stall_s=60.0)
CONFIG = {"model_type": "unknown"}  # roofs are not what is tried here


def starved(pipe, settings):
    """A process that may have no more memory than it has."""
    import torch

    from h1r_cli.model import decode, falcon_h1, load, tokenizer  # noqa: F401  code is not what memory is short for

    torch.set_num_threads(1)
    most = psutil.Process().memory_info().vms + (300 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    serve(pipe, settings)


def killed(pipe, settings):
    """A process that the kernel ends when its first order comes."""
    from h1r_cli.throughput.orders import Done

    pipe.send(Done())
    pipe.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(pipe, settings):
    """A process that ends by itself before it is ready."""
    os._exit(3)


def settings(tiny, **given):
    usual = {"model": str(tiny), "shapes": ((9, 12),), "batch": (2,), "repeats": 2, "gates": LOOSE}
    return BenchThroughputSettings(**usual | given)


def measured(asked, path, serve_=serve):
    rig = Rig(asked, serve_, [CONFIG] * 2, pytest.fail)
    before = spawned()
    try:
        return list(run(grid(asked), rig, Journal(path / "cells.jsonl")))
    finally:
        assert spawned() <= before


def spawned():
    """The processes that this one has started and that run."""
    children = [child for child in psutil.Process().children() if child.name().startswith("python")]
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


def test_a_cell_is_measured_in_a_process_of_its_own_and_its_memory_is_that_process_s(tiny, tmp_path):
    [cell] = measured(settings(tiny), tmp_path)
    found = cell.a
    assert (found.outcome, found.reasons, len(found.repeats)) == ("valid", (), 2)
    assert [one.output_tokens for one in found.repeats] == [24, 24]
    assert all(one.first_chunk_tokens == 1 for one in found.repeats)
    assert found.typical in found.repeats
    assert found.low_per_s <= found.output_per_s <= found.high_per_s
    assert 50 << 20 < found.loaded_bytes <= found.memory_bytes < 4 << 30
    assert (found.joules_per_token, found.clock_mhz, found.throttled) == (None, None, None)


def test_where_only_one_may_be_resident_the_other_sleeps_and_both_are_measured(tiny, tmp_path):
    asked = settings(tiny, vs={}, resident="one")
    [cell] = measured(asked, tmp_path)
    assert [one.outcome for one in cell.found] == ["valid", "valid"]
    assert (len(cell.a.repeats), len(cell.b.repeats), cell.ratio.pairs) == (2, 2, 2)


def test_a_cell_for_which_memory_does_not_suffice_is_a_result_and_the_next_one_is_measured(tiny, tmp_path):
    engine = {"name": "torch", "slots": 64}
    large = settings(tiny, shapes=((16, 4), (16_384, 2)), batch=(64,), repeats=1, engine=engine)
    small, lost = measured(large, tmp_path, starved)
    assert small.a.outcome == "valid"
    assert lost.a.outcome == "out-of-memory"
    assert lost.a.repeats == ()
    assert "memory" in lost.a.reasons[0]
    backwards = settings(tiny, shapes=((16_384, 2), (16, 4)), batch=(64,), repeats=1, engine=engine)
    (tmp_path / "backwards").mkdir()
    found = measured(backwards, tmp_path / "backwards", starved)
    assert [one.a.outcome for one in found] == ["out-of-memory", "valid"]


def test_a_process_that_is_killed_is_out_of_memory_and_one_that_ends_has_failed(tiny, tmp_path):
    [cell] = measured(settings(tiny), tmp_path, killed)
    assert cell.a.outcome == "out-of-memory"
    assert "as the kernel does when memory runs out" in cell.a.reasons[0]
    (tmp_path / "other").mkdir()
    first, second = measured(settings(tiny, batch=(1, 2)), tmp_path / "other", leaving)
    assert (first.a.outcome, second.a.outcome) == ("failed", "failed")
    assert first.a.reasons == second.a.reasons == ("its process ended with exit status 3",)


def test_one_side_that_is_lost_takes_the_ratio_and_leaves_the_other_side(tiny, tmp_path):
    asked = settings(tiny, vs={"engine": {"name": "torch", "slots": 7}})

    [cell] = measured(asked, tmp_path, only_seven_is_killed)
    assert (cell.a.outcome, cell.b.outcome, cell.ratio) == ("valid", "out-of-memory", None)
    assert len(cell.a.repeats) == 2


def only_seven_is_killed(pipe, settings):
    (killed if settings.engine.options.get("slots") == 7 else serve)(pipe, settings)


def dies_asleep(pipe, settings):
    """A's process ends when it is put to sleep for the second time: before B's second turn."""
    if settings.engine.options.get("slots") == 7:
        return serve(pipe, settings)
    orders = []

    class Counting:
        def send(self, answer):
            pipe.send(answer)

        def recv(self):
            orders.append(pipe.recv())
            if sum(getattr(order, "action", None) == "sleep" for order in orders) == 2:
                os._exit(5)
            return orders[-1]

    serve(Counting(), settings)


def test_a_side_that_is_lost_when_it_is_put_to_sleep_is_the_one_that_has_failed(tiny, tmp_path):
    asked = settings(tiny, vs={"engine": {"name": "torch", "slots": 7}}, resident="one", repeats=4, batch=(1, 2))
    first, second = measured(asked, tmp_path, dies_asleep)
    for cell in (first, second):
        assert (cell.a.outcome, cell.a.reasons) == ("failed", ("its process ended with exit status 5",))
        assert (cell.b.outcome, len(cell.b.repeats)) == ("valid", 4)


def test_what_failed_is_tried_again_by_a_run_that_goes_on(tiny, tmp_path):
    asked = settings(tiny, repeats=1)
    [failed] = measured(asked, tmp_path, leaving)
    [again] = measured(asked, tmp_path)
    assert (failed.a.outcome, again.a.outcome) == ("failed", "valid")
    [kept] = measured(asked, tmp_path, leaving)  # it is whole, and no engine is started
    assert kept == again


def test_prompts_for_a_server_are_unlike_those_of_every_other_run_and_side(tiny):
    server = settings(tiny, engine={"name": "openai", "base_urls": "http://a/v1"}, vs={})
    own = settings(tiny, vs={})
    [asked], [ours] = grid(server), grid(own)
    runs = [Rig(server, serve, [CONFIG] * 2, pytest.fail) for _ in range(2)]
    assert len({rig._begin(asked, place).seed for rig in runs for place in (0, 1)}) == 4
    here = [Rig(own, serve, [CONFIG] * 2, pytest.fail) for _ in range(2)]
    assert len({rig._begin(ours, place).seed for rig in here for place in (0, 1)}) == 1


def test_what_is_in_the_journal_is_not_measured_again_and_half_a_line_is(tiny, tmp_path):
    asked = settings(tiny, batch=(1, 2), repeats=1)
    measured(asked, tmp_path)
    journal = Path(tmp_path / "cells.jsonl")
    first, second = journal.read_text().splitlines(keepends=True)
    journal.write_text(first + second[:40])
    again = measured(asked, tmp_path)
    lines = journal.read_text().splitlines(keepends=True)
    assert lines[0] == first
    assert lines[1] != second
    assert [one.batch for one in again] == [1, 2]


def test_fresh_engines_are_started_for_each_cell(tiny, tmp_path):
    started = tmp_path / "started"
    os.environ["H1R_TEST_STARTED"] = str(started)
    try:
        measured(settings(tiny, batch=(1, 2), repeats=1), tmp_path, counted)
        assert started.read_text() == "."
        started.unlink()
        (tmp_path / "fresh").mkdir()
        measured(settings(tiny, batch=(1, 2), repeats=1, fresh_engine=True), tmp_path / "fresh", counted)
        assert started.read_text() == ".."
    finally:
        del os.environ["H1R_TEST_STARTED"]


def counted(pipe, settings):
    with Path(os.environ["H1R_TEST_STARTED"]).open("a") as file:
        file.write(".")
    serve(pipe, settings)
