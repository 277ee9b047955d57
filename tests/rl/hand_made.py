"""Rollouts and groups by hand."""

from __future__ import annotations

import numpy as np

from h1r_cli.types import Group, Problem, Rollout, Verdict


def rollout(index, tokens, correct, *, reward=None, end="stop", reason="", version=0):
    verdict = Verdict(float(correct) if reward is None else reward, correct, None, reason)
    ids = np.arange(1, tokens + 1, dtype=np.int32)
    return Rollout(index, ids, np.full(tokens, -0.5, dtype=np.float32), version, end, "text", verdict)


def group(*rollouts, place=0, answer="1"):
    return Group(Problem(f"p{place}", "question", answer), place, (7, 8, 9), tuple(rollouts))
