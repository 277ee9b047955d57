"""`h1r profiles`: what there is, and what one means."""

from __future__ import annotations

import pytest
import tomli


def test_every_profile_is_listed_with_its_first_line_and_its_owner(h1r):
    lines = h1r("profiles", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["cpu", "h100x1", "h100x256", "h100x8", "h200x1"]
    assert lines[0].endswith("one process, plain PyTorch, float32.  'h1r_profiles' (built in)")


@pytest.mark.parametrize("name", ["cpu", "h100x1", "h100x8", "h200x1", "h100x256"])
def test_what_is_shown_is_the_profile_and_is_valid_itself(h1r, name, tmp_path):
    shown = h1r("profiles", "show", name).stdout
    assert set(tomli.loads(shown)) <= {"hardware", "parallel", "engine", "kernels", "launch"}
    assert "# hardware.device: what the ranks compute on\n" in shown
    (tmp_path / "copy.toml").write_text(shown)
    assert h1r("profiles", "show", "copy.toml").stdout.startswith(shown.rstrip())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[sampling]\ntemperature = 0.1\n",
            "error: profile mine.toml sets 'sampling', which is not a profile's to set\n"
            "  known: engine, hardware, kernels, launch, parallel\n"
            "  fix: move it to a file for --config\n",
        ),
        (
            "[launch]\nthread = 1\n",
            "error: no setting is called 'launch.thread' (set by profile mine.toml)\n"
            "  known: launch.deadline_s, launch.hostfile, launch.launcher, launch.rendezvous, launch.sbatch, "
            "launch.setup, launch.threads, launch.timeout_s\n"
            "  fix: did you mean 'launch.threads'?\n",
        ),
        (
            "[launch]\nthreads = 'two'\n",
            "error: launch.threads = 'two': input should be a valid integer\n"
            "  known: set by profile mine.toml\n"
            "  fix: give launch.threads such a value\n",
        ),
        (
            "[launch\n",
            "error: profile mine.toml is no TOML: "
            "Expected ']' at the end of a table declaration (at line 1, column 8)\n"
            "  fix: mend the line that it names\n",
        ),
    ],
)
def test_a_profile_that_is_wrong_says_where(h1r, tmp_path, text, expected):
    (tmp_path / "mine.toml").write_text(text)
    assert h1r("profiles", "show", "mine.toml", status=2).stderr == expected


def test_a_profile_file_that_is_not_there_says_so(h1r):
    assert h1r("profiles", "show", "gone.toml", status=2).stderr.startswith("error: gone.toml is no file\n")
