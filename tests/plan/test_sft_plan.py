"""The arithmetic of a fine-tuning run."""

from __future__ import annotations

from h1r_cli.data.survey import Planned
from h1r_cli.plan.sft import SftPlan, lines, steps_of


def test_the_papers_run_has_18_165_steps_and_727_of_warm_up():
    # 3.1 M conversations x 3 epochs / 512 = 18,164.06; 4 % of 18,165 is 726.6
    steps = steps_of(3_100_000, 3.0, 512)
    plan = SftPlan((), 3.0, 512, steps, 0.04)
    assert (steps, plan.warmup_steps) == (18_165, 727)


def test_the_report_by_hand():
    # 100 easy at 0.5 are 50 draws, 50 hard at 1.5 are 75: 125 an epoch; 2 epochs / 10 a step = 25 steps
    # tokens 50 x 20 + 75 x 40 = 4,000 an epoch: 32 a conversation, 320 a step, 8,000 in all
    kinds = (
        Planned(("math", "easy"), 100, 0.5, 50, 1000.0, 800.0),
        Planned(("math", "hard"), 50, 1.5, 75, 3000.0, 2700.0),
    )
    found = list(lines(SftPlan(kinds, 2.0, 10, 25, 0.04)))
    assert found[1].split() == ["math", "easy", "100", "0.5", "50", "40.0", "%", "1", "k", "25.0", "%", "80.0", "%"]
    assert found[3:] == [
        "an epoch: 125 conversations, about 4 k tokens",
        "steps: 125 conversations x 2 epochs / 10 a step = 25",
        "warm-up: 4 % of them = 1 steps, then linear to 0",
        "tokens: about 320 a step, 8 k in all",
        "ranks: 1",
        "rows: 1 a step of about 320 tokens (at most 16,384), 1 micro-batches on each rank",
    ]
    # 320 tokens in rows of 50 are 7, so 8 for 2 groups of 2 ranks: 4 turns of 40 tokens
    found = list(lines(SftPlan(kinds, 2.0, 10, 25, 0.04, ranks=4, sequence_parallel=2, row_tokens=50)))
    assert found[-2:] == [
        "ranks: 4 = 2 data-parallel x 2 that share each row",
        "rows: 8 a step of about 40 tokens (at most 50), 4 micro-batches on each rank",
    ]
    assert "steps: 50 of 10 conversations, as set: 4.00 epochs" in list(lines(SftPlan(kinds, 2.0, 10, 50, 0.04)))
