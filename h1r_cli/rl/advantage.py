"""What a group of rollouts says of each of them: GRPO's advantage, and the rewards that it compares."""

from __future__ import annotations

import math
from collections.abc import Sequence

EPSILON = 1e-6  # verl's; where all rewards are equal the advantages are 0 by their numerator


def advantages(rewards: Sequence[float]) -> list[float]:
    """How much better than its group each rollout is, in standard deviations.

        A_i = (R_i - mean_j R_j) / (std_j R_j + 1e-6)

    PAPER section 3 divides by the standard deviation (so this is not Dr. GRPO); that it is the unbiased one, over
    G - 1, and the 1e-6 are verl's.

    Args:
        rewards: [G], of the rollouts of one problem.

    Returns:
        [G]; 0 for a rollout that is alone.

    >>> [round(advantage, 4) for advantage in advantages([1.0, 0.0, 0.0, 1.0])]
    [0.866, -0.866, -0.866, 0.866]
    """
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
    return [(reward - mean) / (deviation + EPSILON) for reward in rewards]


def length_penalty(tokens: int, max_tokens: int, buffer_tokens: int) -> float:
    """DAPO's soft penalty of over-long responses (arXiv 2503.14476, equation 13), in [-1, 0], added to the reward.

        0                                     |y| <= L_max - L_buffer
        (L_max - L_buffer - |y|) / L_buffer   up to L_max
        -1                                    beyond

    PAPER mentions none: it is a setting, and off.

    >>> [length_penalty(tokens, 100, 20) for tokens in (80, 85, 100)]
    [0.0, -0.25, -1.0]
    """
    start = max_tokens - buffer_tokens
    return 0.0 if tokens <= start else max(-1.0, (start - tokens) / buffer_tokens)
