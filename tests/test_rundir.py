"""The run directory: created once, resumed with the same settings, and honest about how the run ended."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.config import Layer, resolve
from h1r_cli.errors import RunDirError
from h1r_cli.generation import kept_rows
from h1r_cli.rewards.journal import kept
from h1r_cli.rundir import CHUNK_BYTES, cut_torn_line, digest, open_run, write_atomically
from h1r_cli.settings import GenerateSettings


def settled(**values):
    return resolve(GenerateSettings, [Layer("--set", values)])


def status(path):
    return json.loads((path / "manifest.json").read_text())["status"]


def test_the_manifest_is_there_while_the_run_goes_on_and_tells_who_set_what(tmp_path):
    resolved = settled(seed=3, sampling={"top_k": 5})
    with open_run(tmp_path / "run", "generate", resolved, resume=False, facts={"data": "sha"}) as run:
        assert not run.resumed
        manifest = json.loads((run.path / "manifest.json").read_text())
        assert manifest["status"] == "running"
    assert status(tmp_path / "run") == "finished"
    assert manifest["command"] == "generate"
    assert manifest["seed"] == 3
    assert manifest["data"] == "sha"
    assert manifest["origins"] == {"seed": "--set", "sampling.top_k": "--set"}
    assert {"python", "torch", "h1r"} <= manifest["versions"].keys()


@pytest.mark.parametrize(
    ("ending", "expected"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted"), (SystemExit, "failed")]
)
def test_the_manifest_says_how_the_run_ended(tmp_path, ending, expected):
    with pytest.raises(ending), open_run(tmp_path, "generate", settled(), resume=False, facts={}):
        raise ending
    assert status(tmp_path) == expected


def test_a_directory_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirError) as error, open_run(tmp_path, "generate", settled(), resume=False, facts={}):
        pass
    assert str(error.value) == f"{tmp_path} exists\n  fix: go on with --resume, or give another --out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_an_empty_directory_is_taken(tmp_path):
    with open_run(tmp_path, "generate", settled(), resume=False, facts={}):
        pass
    assert status(tmp_path) == "finished"


def test_there_must_be_a_run_to_resume(tmp_path):
    with (
        pytest.raises(RunDirError, match="holds no run to resume"),
        open_run(tmp_path, "generate", settled(), resume=True, facts={}),
    ):
        pass


def test_a_run_is_resumed_with_the_settings_that_it_had(tmp_path):
    for resume in (False, True):
        with open_run(tmp_path, "generate", settled(seed=3), resume=resume, facts={}) as run:
            assert run.resumed is resume
            run.metrics(1, {"loss/nats": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss/nats": 0.5}\n' * 2


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"seed": 3}, {"seed": 4}, "seed was 3 in {0} and is now 4\n  known: set by --set\n"),
        ({"seed": 3}, {}, "seed was 3 in {0} and is now 0\n  known: set by default\n"),
        ({}, {"system_prompt": "hm"}, "system_prompt was None in {0} and is now 'hm'\n  known: set by --set\n"),
        ({"sampling": {"top_k": 1}}, {}, "sampling.top_k was 1 in {0} and is now 0\n  known: set by default\n"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path, then, now, expected):
    with open_run(tmp_path, "generate", settled(**then), resume=False, facts={}):
        pass
    before = (tmp_path / "config.toml").read_text()
    with pytest.raises(RunDirError) as error, open_run(tmp_path, "generate", settled(**now), resume=True, facts={}):
        pass
    fix = f"  fix: resume with --config {tmp_path / 'config.toml'}, or start afresh with another --out"
    assert str(error.value) == expected.format(tmp_path) + fix
    assert (tmp_path / "config.toml").read_text() == before


def test_a_run_is_not_resumed_on_other_data_but_on_the_same_in_another_place(tmp_path):
    data = {"file": "a.jsonl", "sha256": "0f", "problems": 3}
    with open_run(tmp_path, "generate", settled(), resume=False, facts={"data": data}):
        pass
    with open_run(tmp_path, "generate", settled(), resume=True, facts={"data": data | {"file": "b.jsonl"}}):
        pass
    other = {"data": data | {"sha256": "ff"}}
    with (
        pytest.raises(RunDirError, match=f"the data of {tmp_path} have changed"),
        open_run(tmp_path, "generate", settled(), resume=True, facts=other),
    ):
        pass


@pytest.mark.parametrize("key", ["--completions", "problems_sha256", "kept_sha256"])
@pytest.mark.parametrize("within", [lambda data: data, lambda data: [data]])
def test_what_an_older_manifest_does_not_say_of_the_data_is_taken_as_it_is(tmp_path, key, within):
    for resume, data in ((False, {"a": "0f"}), (True, {"a": "0f", key: "1"}), (True, {"a": "0f", key: "1"})):
        with open_run(tmp_path, "generate", settled(), resume=resume, facts={"data": within(data)}):
            pass
    for other in ({"a": "0f", key: "2"}, {"a": "0f", key: None}, {"a": "0f"}, {"a": "ff", key: "1"}):
        with (
            pytest.raises(RunDirError, match=f"the data of {tmp_path} have changed"),
            open_run(tmp_path, "generate", settled(), resume=True, facts={"data": within(other)}),
        ):
            pass


def test_a_run_is_resumed_on_other_hardware(tmp_path):
    with open_run(tmp_path, "generate", settled(launch={"threads": 1}), resume=False, facts={}):
        pass
    moved = settled(launch={"threads": 2}, engine={"name": "torch", "slots": 4})
    with open_run(tmp_path, "generate", moved, resume=True, facts={}) as run:
        assert run.resumed
    assert "threads = 2" in (tmp_path / "config.toml").read_text()


def test_the_config_that_a_run_writes_makes_the_same_settings(tmp_path):
    import tomli

    resolved = settled(seed=3, samples=2, system_prompt="think")
    with open_run(tmp_path, "generate", resolved, resume=False, facts={}) as run:
        written = tomli.loads((run.path / "config.toml").read_text())
    assert resolve(GenerateSettings, [Layer("config", written)]).settings == resolved.settings


def test_a_write_leaves_no_trace_beside_the_file(tmp_path):
    write_atomically(tmp_path / "report.json", "old")
    write_atomically(tmp_path / "report.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "new")]


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path):
    code = (
        "import sys; from pathlib import Path; from h1r_cli.rundir import write_atomically\n"
        "for n in range(10**9): write_atomically(Path(sys.argv[1]), str(n % 10) * 200_000)"
    )
    file = tmp_path / "file"
    writer = subprocess.Popen([sys.executable, "-c", code, str(file)])
    while not file.exists():
        time.sleep(0.01)
    for _ in range(200):
        text = file.read_text()
        assert (len(text), len(set(text))) == (200_000, 1)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    text = file.read_text()
    assert (len(text), len(set(text))) == (200_000, 1)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=6), st.integers(0, 3), st.binary(max_size=6), st.booleans())
def test_what_stands_after_the_last_newline_is_cut_off_however_long(start, chunks, tail, newline):
    content = start + b"\n" * newline + b"x" * (chunks * CHUNK_BYTES) + tail
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_bytes(content)
        cut_torn_line(path)
        assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


ROW = {"id": "a", "sample": 0, "text": "\u00e9", "tokens": 1, "end": "stop", "reward": 1.0}


@pytest.mark.parametrize("read", [kept_rows, kept])
def test_what_was_recorded_is_not_written_again_when_a_run_goes_on(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    line = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()
    path.write_bytes(line * 2)
    os.utime(path, (1, 1))
    found = read(path)
    assert path.stat().st_mtime == 1
    with path.open("ab") as file:
        file.write(line[: line.index(b"\xc3") + 1])  # cut short in the middle of a character
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no byte can be written, as on a full disk
    try:
        assert read(path) == found
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == line * 2


def test_a_digest_is_sha256(tmp_path):
    # the example of FIPS 180-2: SHA-256 of "abc"
    (tmp_path / "abc").write_text("abc")
    assert digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_metrics_that_are_made_again_are_forgotten_and_after_no_step_all_of_them(tmp_path):
    with open_run(tmp_path / "run", "generate", settled(), resume=False, facts={}) as run:
        for step in range(4):
            run.metrics(step, {"x": 1.0})

        def steps():
            return [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]

        run.forget_metrics_after(2)
        assert steps() == [0, 1, 2]
        run.forget_metrics_after(0)
        assert steps() == []
