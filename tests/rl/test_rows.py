"""Groups into rows: what each token weighs, wherever it falls."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from hand_made import group, rollout

from h1r_cli.data.packing import IGNORED
from h1r_cli.rewards.pool import NO_VERDICT
from h1r_cli.rl.rows import COLUMNS, PolicyRowTensors, Weighing, copies_of, parts_of, rows_of, trained_of
from h1r_cli.train.ranks import ALONE, Ranks

MIXED = group(rollout(0, 2, True), rollout(1, 4, False), rollout(2, 6, True), rollout(3, 1, False))


def columns(row):
    learnt = row.targets != IGNORED
    return {name: row.columns[number][learnt] for number, name in enumerate(COLUMNS)}


def test_a_response_is_predicted_from_the_last_token_of_its_prompt_on():
    (row,) = rows_of(trained_of(group(rollout(0, 2, True), rollout(1, 2, False)), Weighing()), Weighing(), 64, ALONE)
    assert row.token_ids.tolist() == [7, 8, 9, 1, 2] * 2
    assert row.targets.tolist() == [IGNORED, IGNORED, 1, 2, IGNORED] * 2
    assert row.lengths == (5, 5)


def test_rollouts_of_one_row_share_their_prompt_but_for_its_last_token():
    members = trained_of(group(rollout(0, 2, True), rollout(1, 1, False)), Weighing())
    (row,) = rows_of(members, Weighing(), 64, ALONE, share_prompts=True)
    assert row.token_ids.tolist() == [7, 8, 9, 1, 2, 9, 1]
    assert row.targets.tolist() == [IGNORED, IGNORED, 1, 2, IGNORED, 1, IGNORED]
    assert (row.lengths, row.prefixes) == ((2, 3, 2), (None, 0, 0))


def test_long_rollouts_and_those_of_other_prompts_share_nothing():
    members = trained_of(group(rollout(0, 2, True), rollout(1, 9, False), rollout(2, 9, True)), Weighing())
    rows = rows_of([*members, *members[:1]], Weighing(), 4 * 14, ALONE, share_prompts=True)
    # 2 + 3 + 10 tokens of the first two would be more than a quarter of a row
    assert sorted(length for row in rows for length in row.lengths) == [5, 5, 12, 12]


@pytest.mark.parametrize("aggregation", ["sequence-mean", "token-mean"])
def test_weights_are_those_of_the_formula(aggregation):
    weighing = Weighing(aggregation, nll_coef=0.5)
    (row,) = rows_of(trained_of(MIXED, weighing), weighing, 64, ALONE)
    found = columns(row)
    # longest first: 6, 4, 2, 1 tokens of 13; N = 4; right are those of 6 and 2, so that mu / 8 = 0.0625
    lengths = [6, 4, 2, 1]
    each = [1 / 13] * 4 if aggregation == "token-mean" else [1 / (4 * length) for length in lengths]
    assert found["weights"] == pytest.approx(np.repeat(each, lengths))
    assert found["nll_weights"] == pytest.approx(np.repeat([0.0625, 0, 0.0625, 0], lengths))
    # rewards 1, 0, 1, 0: mean 1/2, unbiased deviation sqrt(1/3), so that |A| = sqrt(3) / 2
    assert found["advantages"] == pytest.approx(np.repeat(np.array([1, -1, 1, -1]) * 3**0.5 / 2, lengths), rel=1e-5)


@pytest.mark.parametrize("share_prompts", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_rows_and_ranks_change_no_token_and_no_weight(world, share_prompts):
    weighing = Weighing()
    groups = [group(*(rollout(i, 1 + 3 * i + place, i % 2 == 0) for i in range(4))) for place in range(3)]
    members = [one for each in groups for one in trained_of(each, weighing)]
    whole = columns(rows_of(members, weighing, 10_000, ALONE)[0])
    parts = [
        rows_of(members, weighing, 120, Ranks(rank, world), share_prompts=share_prompts) for rank in range(world)
    ]
    assert len({len(rows) for rows in parts}) == 1
    found = [columns(row) for rows in parts for row in rows]
    for name in ("weights", "nll_weights", "advantages", "behaviour"):
        together = np.sort(np.concatenate([one[name] for one in found]))
        assert together == pytest.approx(np.sort(whole[name]))


def test_a_masked_response_is_not_trained_on_but_compared_with():
    cut = group(rollout(0, 2, True), rollout(1, 4, False, end="length"), rollout(2, 2, False))
    masked = trained_of(cut, Weighing(overlong="mask"))
    plain = trained_of(cut, Weighing())
    assert [one.rollout.index for one in masked] == [0, 2]
    assert masked[0].advantage == plain[0].advantage
    (row,) = rows_of(masked, Weighing(overlong="mask"), 64, ALONE)
    assert columns(row)["weights"].sum() == pytest.approx(1.0)


def test_a_rollout_without_a_verdict_says_nothing_of_the_others():
    overdue = rollout(2, 3, False, reason=NO_VERDICT + "over 60 s")
    with_it, without = (trained_of(group(rollout(0, 2, True), rollout(1, 2, False), *more), Weighing()) for more in
                        ((overdue,), ()))  # fmt: skip
    assert [one.advantage for one in with_it] == [one.advantage for one in without]


def test_the_soft_penalty_lowers_the_reward_of_long_responses():
    weighing = Weighing(overlong="penalty", overlong_buffer_tokens=4, max_tokens=10)
    short, long = trained_of(group(rollout(0, 5, True), rollout(1, 8, True)), weighing)
    # 8 tokens are 2 into a buffer of 4: reward 1 - 1/2
    assert short.advantage == pytest.approx(-long.advantage)
    assert short.advantage == pytest.approx(0.5**0.5, rel=1e-4)


def test_a_rank_without_a_row_has_one_that_teaches_nothing():
    rows = rows_of(trained_of(group(rollout(0, 2, True)), Weighing()), Weighing(), 64, Ranks(1, 2))
    assert [row.targets.tolist() for row in rows] == [[IGNORED]]


def test_a_row_that_ranks_share_is_padded_to_a_multiple_of_them():
    class Third:
        size, rank = 3, 2

    (row,) = rows_of(trained_of(group(rollout(0, 4, True)), Weighing()), Weighing(), 64, ALONE)
    part = PolicyRowTensors.of(row, "cpu", Third())
    assert part.documents.lengths == (7, 2)
    assert part.token_ids.tolist() == [4, 0, 0]
    assert part.targets.tolist() == [IGNORED] * 3
    assert part.owners.tolist() == [0, 1, 1]
    assert part.columns.shape == (len(COLUMNS), 3)
    assert part.columns.dtype == torch.float32


def test_copies_are_of_rollouts_of_positive_advantage_and_are_dealt_to_the_updates():
    groups = [group(rollout(0, 2, True), rollout(1, 3, False), place=place) for place in range(4)]
    copies = copies_of(groups, 6, Weighing(), Random(0))
    assert [copy.advantage > 0 for copy in copies] == [True] * 6
    assert copies_of([group(rollout(0, 2, True))], 6, Weighing(), Random(0)) == []
    first, second = parts_of(groups, copies, 2, Weighing())
    for part, those in ((first, groups[:2]), (second, groups[2:])):
        assert len(part) == 2 * 2 + 3
        assert {id(one.rollout) for one in part[:4]} == {id(r) for g in those for r in g.rollouts}
    counts = Counter(id(one.rollout) for one in (*first, *second))
    assert sum(counts.values()) == 4 * 2 + 6
    assert all(counts[id(g.rollouts[1])] == 1 for g in groups)


def test_an_update_without_any_rollout_is_none():
    assert len(parts_of([MIXED], [], 3, Weighing())) == 1
