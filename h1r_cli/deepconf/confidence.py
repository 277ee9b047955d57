"""How sure a model is of what it writes: per token from the logits, per window and per trace from the tokens.

The DeepConf paper (Fu et al. 2025, arXiv 2508.15260) speaks of "group confidence"; that is the **window
confidence** here, since a group is the rollouts of one problem. A token's confidence is rounded once to 2^-16
nat; all that follows sums integers of that unit, so neither order nor device can change a decision.

Which confidence a token gets is a choice. For all of them larger is surer:

    top-k           token_confidence            the papers', and the default   >= 0
    sampled         sampled_confidence          sees which token was drawn     <= 0
    entropy         entropy_confidence          needs the whole vocabulary     <= 0
    self-certainty  self_certainty_confidence   needs the whole vocabulary     >= 0

What share of the traces a threshold keeps is called `keep_frac`. The sources turn it round from one to the next:

    keep_frac   paper's eta        authors' `main`            authors' `reproduce`         np.percentile
    0.1         10, DeepConf-low   confidence_percentile=10   CONFIDENCE_PERCENTILE = 90   90, prunes hardest
    0.5         50                 confidence_percentile=50   CONFIDENCE_PERCENTILE = 50   50
    0.9         90, DeepConf-high  confidence_percentile=90   CONFIDENCE_PERCENTILE = 10   10, prunes least

The default of `deepthink()` on `main` is 90 (high), that of its online example 10 (low). Falcon-H1R writes "the
eta-th percentile of the minimum confidence scores, eta = 10 % for aggressive filtering": read to the letter that
is the 10th percentile, which prunes least; "aggressive" and the cited algorithm mean keep_frac 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Units = Sequence[int] | NDArray[np.int64]  # [T] token confidences, in units of 2^-16 nat

NO_LEVEL = (1 << 63) - 1  # of a token that no threshold ends a trace at
NEVER_NEGATIVE = frozenset({"top-k", "self-certainty"})  # so that they can weigh votes


# --- per token, from the logits -----------------------------------------------------------------------------


def token_confidence(log_probs: Tensor, top_k: int = 20) -> Tensor:
    """Mean negative log-probability of the `top_k` likeliest tokens (the paper's C_i).

        C_i = -(1/k) * sum_{j=1..k} log P_i(j)

    Larger is surer: the surer the model, the less probable its other candidates. Which token was drawn plays no
    part. The k float32 values are summed in float64, so a row comes out the same in every batch.

    Args:
        log_probs: [..., V] float32, `logits.float().log_softmax(-1)` of the raw logits: before temperature and
            before any sampling filter.
        top_k: k, 1 <= k <= V; the papers' 20.

    Returns:
        [...] int64, units of 2^-16 nat.

    Raises:
        ConfigError: k is not in 1..V.
    """
    vocabulary = log_probs.shape[-1]
    if not 1 <= top_k <= vocabulary:
        raise ConfigError(
            f"top_k of the token confidence is {top_k}",
            known=f"the model has {vocabulary} tokens",
            fix=f"set it between 1 and {vocabulary}",
        )
    top = log_probs.topk(top_k, dim=-1, sorted=True).values  # [..., k]
    return _to_units(-top.double().mean(dim=-1))


def sampled_confidence(log_probs: Tensor, token_ids: Tensor) -> Tensor:
    """Log-probability of the tokens that were drawn: 0 at most, larger is surer.

    Args:
        log_probs: [..., V] float32 of the raw logits, as for `token_confidence`.
        token_ids: [...] int64.

    Returns:
        [...] int64, units of 2^-16 nat.
    """
    return _to_units(log_probs.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1))


def entropy_confidence(log_probs: Tensor) -> Tensor:
    """The entropy of the next token with its sign turned: 0 at most, larger is surer.

        -H_i = sum_{j=1..V} P_i(j) * log P_i(j)

    A token that cannot be drawn (log-probability -inf) counts nothing, as 0 log 0 does. Summed in float64. Fu et
    al. 2025 (arXiv 2508.15260) has H_i as the token entropy.

    Args:
        log_probs: [..., V] float32 of the raw logits, as for `token_confidence`.

    Returns:
        [...] int64, units of 2^-16 nat.
    """
    import torch

    return _to_units(-torch.special.entr(log_probs.double().exp()).sum(dim=-1))


def self_certainty_confidence(log_probs: Tensor) -> Tensor:
    """How far the next token's distribution is from uniform, KL(U || P): 0 at least, larger is surer.

        -(1/V) * sum_{j=1..V} log(V * P_i(j)) = -log V - (1/V) * sum_j log P_i(j)

    Kang et al. 2025 (arXiv 2502.18581), the self-certainty of one token; they average it over the tokens. V
    counts the tokens that can be drawn: those with log-probability -inf, such as the padding of a vocabulary, are
    left out, else every divergence would be infinite. Summed in float64.

    Args:
        log_probs: [..., V] float32 of the raw logits, as for `token_confidence`.

    Returns:
        [...] int64, units of 2^-16 nat.
    """
    possible = log_probs.isfinite()  # [..., V]
    count = possible.sum(dim=-1).double()  # [...]
    total = log_probs.double().masked_fill(~possible, 0.0).sum(dim=-1)
    return _to_units(-total / count - count.log())


def _to_units(nats: Tensor) -> Tensor:
    return (nats * UNITS_PER_NAT).round().long()


# --- per window and per trace, from the tokens --------------------------------------------------------------


def window_confidences(units: Units, window_tokens: int) -> NDArray[np.float64]:
    """Mean over each run of W consecutive tokens, stride 1 (the paper's group confidence C_G).

    Args:
        units: [T] token confidences of one trace, in units of 2^-16 nat.
        window_tokens: W >= 1; the papers' 2048.

    Returns:
        [max(1, T - W + 1)] nats, in order. A trace shorter than W is one window, as in the authors' code; an
        empty trace has none.
    """
    sums, width = _window_sums(units, window_tokens)
    return sums / (width * UNITS_PER_NAT)


def lowest_window_confidence(units: Units, window_tokens: int) -> float:
    """The least sure window, nats (the paper's lowest group confidence); 0 for an empty trace."""
    return float(window_confidences(units, window_tokens).min()) if len(units) else 0.0


def bottom_window_confidence(units: Units, window_tokens: int, frac: float = 0.1) -> float:
    """Mean of the least sure `frac` of the windows, of max(1, int(n * frac)), nats; 0 for an empty trace."""
    if not len(units):
        return 0.0
    sums, width = _window_sums(units, window_tokens)
    count = max(1, int(len(sums) * frac))
    sums.partition(count - 1)
    return int(sums[:count].sum()) / (count * width * UNITS_PER_NAT)


def tail_confidence(units: Units, tail_tokens: int = 2048) -> float:
    """Mean over the last `tail_tokens` tokens, or over all of a shorter trace, nats; 0 for an empty trace."""
    return mean_confidence(units[-tail_tokens:])


def mean_confidence(units: Units) -> float:
    """Mean over all tokens of a trace (the paper's C_avg), nats; 0 for an empty trace."""
    import numpy as np

    return int(np.sum(units, dtype=np.int64)) / (len(units) * UNITS_PER_NAT) if len(units) else 0.0


def lowest_window_score_units(units: Units, window_tokens: int) -> int:
    """The highest whole threshold u that no window of the trace falls below: sum >= u * W for each.

        u = min over windows of floor(sum / W)

    Args:
        units: [T] token confidences, in units of 2^-16 nat.
        window_tokens: W >= 1.

    Returns:
        u in units of 2^-16 nat. A trace shorter than W is never cut; so that it has a say in the threshold it
        counts as one window of its own length. 0 for an empty trace.
    """
    if not len(units):
        return 0
    sums, width = _window_sums(units, window_tokens)
    return int(sums.min()) // width  # floor is monotone: the least sum has the least floor


def window_levels(units: Units, window_tokens: int) -> NDArray[np.int64]:
    """For each token the highest whole threshold u under which the window that ends with it is kept.

        u = floor(sum / W), since sum >= u * W exactly when u <= floor(sum / W)

    Args:
        units: [T] token confidences, in units of 2^-16 nat.
        window_tokens: W >= 1.

    Returns:
        [T] in units of 2^-16 nat; `NO_LEVEL` for tokens that fill no window.
    """
    import numpy as np

    levels = np.full(len(units), NO_LEVEL)
    if len(units) >= window_tokens:
        levels[window_tokens - 1 :] = _window_sums(units, window_tokens)[0] // window_tokens
    return levels


def survived_units(levels: NDArray[np.int64], units: Units) -> int:
    """The highest whole threshold that keeps every token of a trace: the lowest of its levels [T].

    A trace that no threshold ends, as one shorter than a window, counts by the mean of its tokens, rounded down; an
    empty one is 0.
    """
    if not len(units):
        return 0
    lowest = int(levels.min())
    return lowest if lowest < NO_LEVEL else sum(map(int, units)) // len(units)


def _window_sums(units: Units, window_tokens: int) -> tuple[NDArray[np.int64], int]:
    """Exact sums of all full windows, and how many tokens each holds: W, or all T where there are fewer."""
    import numpy as np

    if window_tokens < 1:
        raise ConfigError(f"a confidence window holds {window_tokens} tokens", fix="set 1 or more")
    if not len(units):
        return np.zeros(0, dtype=np.int64), window_tokens
    width = min(window_tokens, len(units))
    totals = np.zeros(len(units) + 1, dtype=np.int64)
    np.cumsum(units, dtype=np.int64, out=totals[1:])
    return totals[width:] - totals[:-width], width


# --- the threshold ------------------------------------------------------------------------------------------


def threshold_nats(scores_nats: Sequence[float], keep_frac: float) -> float:
    """The threshold that a share `keep_frac` of the warm-up traces survives (see the table above).

    The percentile is rounded **up** to a whole unit of 2^-16 nat. Scores are whole units, so that a score
    reaches the rounded threshold exactly when it reaches the percentile; rounding down could let one more pass.

    Args:
        scores_nats: [N] one score for each warm-up trace, at least one.
        keep_frac: 0 < keep_frac <= 1; 0.1 is the papers' aggressive setting ("low").

    Returns:
        Nats; infinite where the scores are.
    """
    percentile = top_percentile(scores_nats, keep_frac)
    return math.ceil(percentile * UNITS_PER_NAT) / UNITS_PER_NAT if math.isfinite(percentile) else percentile


def threshold_units(threshold_nats: float) -> int:
    """A threshold in units: one between two counts as the upper, an infinite one is above all confidences."""
    return math.ceil(threshold_nats * UNITS_PER_NAT) if threshold_nats < math.inf else 1 << 40


def top_percentile(values: Sequence[float], keep_frac: float) -> float:
    """The 100 * (1 - keep_frac)-th percentile, interpolated linearly as numpy's default does.

    An index that is whole but for floating-point noise is taken as whole, so that the value at the border is
    kept; infinite values are allowed.

    Raises:
        ConfigError: `keep_frac` is not in (0, 1].
        ValueError: there are no values.
    """
    if not 0 < keep_frac <= 1:
        raise ConfigError(
            f"keep-frac is {keep_frac}",
            known="the share of traces to keep: 0.1 prunes hardest, 0.9 least",
            fix="set it above 0 and at most 1",
        )
    if not values:
        raise ValueError("the percentile of no values")
    ordered = sorted(values)
    index = round((1 - keep_frac) * (len(ordered) - 1), 9)
    low, high = ordered[math.floor(index)], ordered[math.ceil(index)]
    return low if low == high else low + (high - low) * (index - math.floor(index))
