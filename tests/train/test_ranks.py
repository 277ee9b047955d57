"""Two real ranks: how long each waits for the other."""

from __future__ import annotations

import sys

PROGRAM = """
import pathlib, sys, torch
from h1r_cli.launch.ranks import joined
from h1r_cli.settings import TrainRlSettings
from h1r_cli.train.ranks import apart

asked = {"hardware": {"devices_per_node": 2}, "parallel": {"sequence_parallel": 2}, "launch": {"timeout_s": 77.0}}
with joined(TrainRlSettings.model_validate(asked)) as (ranks, _):
    groups = torch.distributed.group.WORLD, ranks.control, apart(ranks).control, ranks.shard.group
    waits = [group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for group in groups]
    if ranks.first:
        pathlib.Path(sys.argv[1]).write_text(str(waits))
"""


def test_each_group_of_ranks_waits_as_long_as_the_settings_say(tmp_path, run_ranks):
    (tmp_path / "program.py").write_text(PROGRAM)
    statuses, said = run_ranks([[sys.executable, tmp_path / "program.py", tmp_path / "told"]] * 2)
    assert statuses == [0, 0], said
    assert (tmp_path / "told").read_text() == "[77.0, 77.0, 77.0, 77.0]"
