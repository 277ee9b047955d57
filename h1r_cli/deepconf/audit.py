"""The regret audit: some traces run without the pruner, so that one sees what the pruner would have thrown away.

Each online trace is in the audit with the probability `audit_frac`, decided by its seed. It is generated to its own
end; then the pruner reads its confidences. A trace that the pruner would have cut keeps the place of the cut
(`Trace.cut_tokens`) and takes part in no vote, the plain majority neither, so that the answers do not depend on what
the audit lets live; any other is an ordinary trace. What an audited trace generated beyond its cut is counted as
generated: an audit costs tokens, and the report says how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h1r_cli.evals.statistics import wilson
from h1r_cli.seeds import seed_for

if TYPE_CHECKING:
    from h1r_cli.types import EndReason, PruningPolicy, Trace

Z_95 = 1.959964  # of the normal distribution, two-sided


@dataclass(frozen=True, slots=True)
class Regret:
    """What the pruner would have cost.

    `cut` audited traces ended by themselves and would have been cut; `right` of them were right (None without a
    reference answer); `extra_tokens` were generated beyond the cuts, those of aborted traces too.
    """

    cut: int
    right: int | None
    extra_tokens: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval for the share of right ones among all that would be cut; None when it says nothing.

        It is for traces drawn anew on these same problems. Their spread over problems makes it wider than need be,
        never too narrow; of other problems it says nothing.
        """
        return wilson(self.right / self.cut, self.cut, Z_95) if self.right is not None and self.cut else None


def audited(trace_seed: int, audit_frac: float) -> bool:
    """Whether the online trace of that seed is in the audit: so resume and replay agree without a note of it."""
    return seed_for(trace_seed, "audit") < audit_frac * 2**63


def cut_tokens(policy: PruningPolicy, threshold_nats: float, units: Sequence[int], end: EndReason) -> int | None:
    """How many tokens the trace would have had under the pruner; None where the pruner would have let it be.

    A stop token comes before a cut that falls on it, as in the engines.

    Args:
        units: [T] token confidences of the whole trace, in units of 2^-16 nat.
        end: how the trace ended.
    """
    pruner = policy.start(threshold_nats)
    cut = next((count for count, unit in enumerate(units, 1) if not pruner.keep(unit)), None)
    return unless_stopped(cut, len(units), end)


def unless_stopped(cut: int | None, tokens: int, end: EndReason) -> int | None:
    """`cut`, or None where the pruner would have cut at the stop token that ended the trace: the stop comes first."""
    return None if cut == tokens and end == "stop" else cut


def regret(traces: Iterable[Trace], judged: bool) -> Regret:
    """The audit of one problem's traces; `judged`: it has a reference answer."""
    marked = [trace for trace in traces if trace.cut_tokens is not None]
    whole = [trace for trace in marked if trace.end in ("stop", "length")]
    right = sum(trace.correct is True for trace in whole) if judged else None
    return Regret(len(whole), right, sum(len(trace.token_ids) - (trace.cut_tokens or 0) for trace in marked))


def total(regrets: Sequence[Regret]) -> Regret:
    """The audit of several problems; right and wrong of those with a reference answer alone, where there is one."""
    judged = [regret for regret in regrets if regret.right is not None]
    counted = judged or regrets
    return Regret(
        cut=sum(regret.cut for regret in counted),
        right=sum(regret.right or 0 for regret in judged) if judged else None,
        extra_tokens=sum(regret.extra_tokens for regret in regrets),
    )
