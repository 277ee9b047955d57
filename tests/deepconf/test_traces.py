"""The store: every trace comes back as it went in, whenever the run was killed."""

import shutil
from dataclasses import replace

from h1r_cli.deepconf.columns import read_rows
from h1r_cli.deepconf.traces import FLUSH_TRACES, Store, read_traces
from h1r_cli.types import Trace

TRACE = Trace(
    problem_id="p",
    index=0,
    phase="warm-up",
    seed=2**62,
    token_ids=(5, 6, 130_047),
    behaviour_logprobs=(-0.5, -0.25, 0.0),
    confidence={"top-k": (2**20, 7, 0), "sampled": (-3, 0, -(2**20))},
    end="stop",
    text="<think>\né</think>\n\n\\boxed{1}",
    answer="1",
    correct=None,
    reason="no reference answer",
    score_nats=1.25,
)


def store(directory):
    return Store(directory, confidences=("top-k", "sampled"))


def test_a_trace_comes_back_exactly(tmp_path):
    nothing = replace(TRACE, index=1, token_ids=(), behaviour_logprobs=(), confidence={"top-k": (), "sampled": ()})
    unread = replace(TRACE, index=2, answer=None, correct=False, end="pruned", score_nats=float("inf"))
    with store(tmp_path) as traces:
        for trace in (TRACE, nothing, unread):
            traces.append(trace)
    assert list(store(tmp_path).read()) == [TRACE, nothing, unread]
    assert list(read_traces(store(tmp_path).finish())) == [TRACE, nothing, unread]


def test_full_buffers_are_on_disk_before_the_run_ends(tmp_path):
    traces = store(tmp_path)
    for index in range(FLUSH_TRACES + 3):
        traces.append(replace(TRACE, index=index))
    assert [trace.index for trace in store(tmp_path).read()] == list(range(FLUSH_TRACES))


def test_a_slow_trickle_is_flushed_by_the_clock(tmp_path):
    now = [0.0]
    traces = Store(tmp_path, ("top-k", "sampled"), clock=lambda: now[0])
    with traces:
        traces.append(TRACE)
        assert list(store(tmp_path).read()) == []
        now[0] = 31.0
        traces.append(replace(TRACE, index=1))
        assert len(list(store(tmp_path).read())) == 2


def test_a_part_that_a_kill_cut_short_is_not_read(tmp_path):
    with store(tmp_path) as traces:
        traces.append(TRACE)
    (tmp_path / "traces.parts" / "000002.aside").write_bytes(b"PAR1 half a file")
    assert list(store(tmp_path).read()) == [TRACE]
    store(tmp_path).finish()
    assert [path.name for path in tmp_path.iterdir()] == ["traces.parquet"]


def test_traces_are_there_once_though_a_kill_left_parts_that_were_joined(tmp_path):
    with store(tmp_path) as traces:
        for index in range(3):
            traces.append(replace(TRACE, index=index))
    shutil.copytree(tmp_path / "traces.parts", tmp_path / "kept")
    store(tmp_path).finish()
    (tmp_path / "kept").rename(tmp_path / "traces.parts")  # as a kill before they were taken away leaves it
    with store(tmp_path) as traces:
        assert [trace.index for trace in traces.read()] == [0, 1, 2]
        traces.append(replace(TRACE, problem_id="q", index=1))
    expected = [("p", 0), ("p", 1), ("p", 2), ("q", 1)]
    assert [(row.problem_id, row.index) for row in read_rows(tmp_path, ["top-k"])] == expected
    assert [(trace.problem_id, trace.index) for trace in read_traces(store(tmp_path).finish())] == expected
    assert [path.name for path in tmp_path.iterdir()] == ["traces.parquet"]


def test_a_finished_file_is_gone_on_with(tmp_path):
    with store(tmp_path) as traces:
        traces.append(TRACE)
    store(tmp_path).finish()
    with store(tmp_path) as traces:
        traces.append(replace(TRACE, index=1))
    assert [trace.index for trace in read_traces(store(tmp_path).finish())] == [0, 1]
