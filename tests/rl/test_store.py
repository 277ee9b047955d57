"""Rollouts on disk."""

from __future__ import annotations

import numpy as np
from hand_made import group, rollout

from h1r_cli.rl.store import Stored, read_groups, write
from h1r_cli.types import Group, Message, Problem


def test_groups_come_back_as_they_were(tmp_path):
    chat = Problem("chat", (Message("system", "s"), Message("user", "q", None)), "3", "code", {"pass_rate": 0.25})
    first = group(rollout(0, 3, True, version=2), rollout(1, 5, False, end="length", reason="wrong"), place=4)
    second = Group(chat, 4, (1, 2), (rollout(0, 2, True, reward=0.5),))  # the same place, of another stage
    stored = [
        Stored(first, [0.7, None], ["trained", "truncated"]),
        Stored(second, [None], ["cached"]),
    ]
    write(tmp_path / "deep" / "file.parquet", stored)
    found = read_groups(tmp_path / "deep" / "file.parquet")
    assert [one.problem for one in found] == [first.problem, chat]
    assert [(one.place, one.prompt_ids) for one in found] == [(4, (7, 8, 9)), (4, (1, 2))]
    for before, after in zip((first, second), found, strict=True):
        for was, now in zip(before.rollouts, after.rollouts, strict=True):
            assert np.array_equal(was.token_ids, now.token_ids)
            assert np.array_equal(was.behaviour_logprobs, now.behaviour_logprobs)
            assert (was.index, was.version, was.end, was.text) == (now.index, now.version, now.end, now.text)
            assert was.verdict == now.verdict


def test_no_group_is_a_file_too(tmp_path):
    write(tmp_path / "none.parquet", [])
    assert read_groups(tmp_path / "none.parquet") == []
