"""A run of reinforcement learning as one page."""

from __future__ import annotations

import json

from h1r_cli.report.rl import write_page
from h1r_cli.rl.ledger import Ledger
from h1r_cli.rl.metrics import of_ledger

MEASURED = (
    "rl/correct_frac", "rl/teaching_frac", "rl/length_mean_tokens", "rl/length_p95_tokens", "rl/entropy_nats",
    "rl/mismatch_nats", "rl/clipped_frac", "rl/capped_frac", "rl/rollout_s",
)  # fmt: skip


def page(run, ledgers):
    run.mkdir()
    rows = [
        {"step": step} | dict.fromkeys(MEASURED, 0.5) | of_ledger(ledger) for step, ledger in enumerate(ledgers, 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_page(run)
    return (run / "report.html").read_text()


def ledger(**trained):
    made = Ledger()
    for difficulty, tokens in trained.items():
        made.generate(difficulty, tokens)
        made.book(difficulty, "trained", tokens)
    return made


def test_where_tokens_went_is_shown_by_difficulty_where_that_is_known(tmp_path):
    told = page(tmp_path / "rated", [ledger(hard=5), ledger(hard=5, easy=7)])
    assert [name for name in ("easy", "medium", "hard", "unrated") if f"ledger, {name}" in told] == ["easy", "hard"]
    assert "ledger, " not in page(tmp_path / "unrated", [ledger(unrated=5)])
