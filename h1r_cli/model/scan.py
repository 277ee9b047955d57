"""The state-space recurrence of Mamba-2 in plain torch, by chunks, its gradient by hand.

Axis letters: B documents, L tokens of a document, K chunks of a document, M = B K chunks of all, Q tokens of a
chunk, G groups, R heads of a group (H = G R heads), P head width, S state size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def ssd_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk: int, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The state-space recurrence of Mamba-2, by chunks (SSD, arXiv 2405.21060 section 6).

        h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

    Within a chunk a masked product of C and B, as in attention; between chunks the recurrence itself, one step a
    chunk. Memory is linear in L: L (H Q + H P + H P S / Q), never L H P S.

    Args:
        x: [B, L, H, P].
        dt: [B, L, H] float32, step lengths; 0 leaves the state as it is.
        a: [H] float32, negative decay rates.
        b: [B, L, G, S], shared by the R = H / G heads of a group.
        c: [B, L, G, S].
        d: [H] float32, skip.
        chunk: Q; speed, not result.
        initial: h_0 [B, H, P, S] float32; None: 0.

    Returns:
        y [B, L, H, P] and the state after the last token [B, H, P, S], both float32.
    """
    rows, length, heads, width = x.shape
    groups, size = b.shape[2:]
    chunk = min(chunk, length)
    short = -length % chunk

    def chunked(t: Tensor, *split: int) -> Tensor:
        if short:
            t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, short))
        return t.to(dt.dtype).reshape(-1, chunk, groups, *split)

    with torch.autocast(x.device.type, enabled=False):  # states are float32 whatever the rest is
        y, state = _Scan.apply(  # type: ignore[no-untyped-call]
            chunked(x, heads // groups, width),
            chunked(dt, heads // groups),
            a.view(groups, -1),
            chunked(b, size),
            chunked(c, size),
            d.view(groups, -1),
            x.new_zeros(0, dtype=dt.dtype) if initial is None else torch.unflatten(initial, 1, (groups, -1)),
            rows,
        )
    return y.reshape(rows, -1, heads, width)[:, :length], state.reshape(rows, heads, width, size)


class _Scan(torch.autograd.Function):
    """Keeps its inputs, y less the skip, the decays within chunks [M, G, R, Q, Q], the states [B, K+1, G, R, P, S].

    With l the log of the decay since the chunk began, token j enters as dt_j x_j exp(-l_j), and what token i reads,
    y_i less the skip, has the factor exp(l_i). So the gradient of l_i is that of y_i times what was read, less that
    of dt_i x_i times dt_i x_i: no product with the decays themselves is needed.

    Shapes: x and y [M, Q, G, R, P], dt [M, Q, G, R], b and c [M, Q, G, S], a and d [G, R], the initial and the last
    state [B, G, R, P, S]; an initial state of no element is 0.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, initial: Tensor, rows: int
    ) -> tuple[Tensor, Tensor]:
        decay = _Decay(dt, a)
        between = decay.between()
        bs, cs = b.transpose(1, 2), c.transpose(1, 2)  # [M, G, Q, S]
        scores = (cs @ bs.mT)[:, :, None] * between  # [M, G, R, Q, Q]
        y = _time_first(scores @ _heads_first(x, dt))

        added = _by_head(_state_of(x * decay.entering[..., None], bs), x)  # [M, G, R, P, S]
        states = _carried(_by_row(added, rows), _by_row(decay.kept, rows), initial)
        if states.shape[1] > 2 or len(initial):  # else no chunk has anything before it
            before = states[:, :-1].flatten(3, 4).flatten(0, 1)  # [M, G, R P, S]
            seen = torch.unflatten((cs @ before.mT).transpose(1, 2), -1, x.shape[-2:])  # [M, Q, G, R, P]
            y = seen.mul_(decay.since[..., None]).add_(y)
        ctx.save_for_backward(x, dt, a, b, c, d, y, between, states)
        ctx.goes_on = len(initial) > 0
        return torch.addcmul(y, x, d[..., None]), states[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, a, b, c, d, y, between, states = ctx.saved_tensors
        decay, rows = _Decay(dt, a), len(states)
        bs, cs = b.transpose(1, 2), c.transpose(1, 2)
        grad_heads = _heads_first(grad_y)

        shared = ((grad_heads @ _heads_first(x, dt).mT) * between).sum(2)  # [M, G, Q, Q]
        grad_c, grad_b = shared @ bs, shared.mT @ cs  # [M, G, Q, S]
        scores = (cs @ bs.mT)[:, :, None] * between
        within = _time_first(scores.mT @ grad_heads)  # the gradient of dt x

        grad_after = grad_state[:, None]  # [B, K, G, R, P, S]
        grad_initial = None
        if states.shape[1] > 2 or ctx.goes_on:
            before = states[:, :-1].flatten(3, 4).flatten(0, 1)
            grad_seen = grad_y * decay.since[..., None]
            grad_c += grad_seen.flatten(-2).transpose(1, 2) @ before
            grad_before = _by_row(_by_head(_state_of(grad_seen, cs), x), rows)
            kept = _by_row(decay.kept, rows)
            grad_after = _carried_back(grad_before, kept, grad_state)
            if ctx.goes_on:
                grad_initial = torch.addcmul(grad_before[:, 0], grad_after[:, 0], kept[:, 0])
        after = grad_after.flatten(3, 4).flatten(0, 1)  # [M, G, R P, S]
        grad_b += (x * decay.entering[..., None]).flatten(-2).transpose(1, 2) @ after
        grad_dtx = torch.unflatten((bs @ after.mT).transpose(1, 2), -1, x.shape[-2:])
        grad_dtx = grad_dtx.mul_(decay.to_end[..., None]).add_(within)  # [M, Q, G, R, P]

        grad_dt = (grad_dtx * x).sum(-1)
        grad_log = (grad_y * y).sum(-1) - dt * grad_dt  # [M, Q, G, R]
        grad_log[:, -1] += (grad_after * states[:, 1:]).sum((-2, -1)).flatten(0, 1)
        grad_exponent = grad_log.flip(1).cumsum(1, dtype=torch.float64).flip(1).to(dt.dtype)  # of dt a
        grad_x = grad_dtx.mul_(dt[..., None]).addcmul_(grad_y, d[..., None])
        grad_dt += grad_exponent * a
        grad_a, grad_d = (grad_exponent * dt).sum((0, 1)), (grad_y * x).sum((0, 1, 4))
        return grad_x, grad_dt, grad_a, grad_b.transpose(1, 2), grad_c.transpose(1, 2), grad_d, grad_initial, None


class _Decay:
    """What is left of things after a while within a chunk.

    `since` [M, Q, G, R] is the decay from the chunk's begin to each token, `to_end` from each token to the chunk's
    end, `entering` that times dt, and `kept` [M, G, R, 1, 1] from begin to end. The logarithms, to base 2, are
    float64, since differences of long sums become exponents.
    """

    def __init__(self, dt: Tensor, a: Tensor) -> None:
        self.dtype = dt.dtype
        self.log = (dt * a).cumsum(1, dtype=torch.float64) / math.log(2)  # [M, Q, G, R]
        self.since = self.log.exp2().to(self.dtype)
        self.to_end = (self.log[:, -1:] - self.log).exp2().to(self.dtype)
        self.entering = self.to_end * dt
        self.kept = self.since[:, -1, ..., None, None]

    def between(self) -> Tensor:
        """[M, G, R, Q, Q], from token j to token i for i >= j, else 0."""
        log = self.log.permute(0, 2, 3, 1)  # [M, G, R, Q]
        difference = (log[..., :, None] - log[..., None, :]).to(self.dtype)
        return difference.exp2_().tril_()


def _carried(added: Tensor, kept: Tensor, initial: Tensor) -> Tensor:
    """The recurrence from chunk to chunk, state_k = kept_k state_(k-1) + added_k.

    Args:
        added: [B, K, G, R, P, S].
        kept: [B, K, G, R, 1, 1].
        initial: [B, G, R, P, S], state_0; of no element: 0.

    Returns:
        [B, K+1, G, R, P, S], the state before the first chunk and after each.
    """
    states = added.new_empty(added.shape[0], added.shape[1] + 1, *added.shape[2:])
    each = states.unbind(1)
    each[0].copy_(initial) if len(initial) else each[0].zero_()
    for k, (new, share) in enumerate(zip(added.unbind(1), kept.unbind(1), strict=True)):
        torch.addcmul(new, each[k], share, out=each[k + 1])
    return states


def _carried_back(grad_before: Tensor, kept: Tensor, grad_last: Tensor) -> Tensor:
    """The gradient of the state after each chunk [B, K, G, R, P, S].

    `grad_before` [B, K, G, R, P, S] is what each chunk's reading asks of the state before it, `grad_last`
    [B, G, R, P, S] what is asked of the last state.
    """
    after = torch.empty_like(grad_before, memory_format=torch.contiguous_format)
    each, asked, shares = after.unbind(1), grad_before.unbind(1), kept.unbind(1)
    each[-1].copy_(grad_last)
    for k in range(len(each) - 1, 0, -1):
        torch.addcmul(asked[k], each[k], shares[k], out=each[k - 1])
    return after


def _state_of(x: Tensor, b: Tensor) -> Tensor:
    """Sum over a chunk of x_t b_t^T: [M, Q, G, R, P] and [M, G, Q, S] -> [M, G, R P, S]."""
    return x.flatten(-2).permute(0, 2, 3, 1) @ b


def _by_head(state: Tensor, x: Tensor) -> Tensor:
    """[M, G, R P, S] -> [M, G, R, P, S]."""
    return torch.unflatten(state, 2, x.shape[-2:])


def _by_row(t: Tensor, rows: int) -> Tensor:
    """[M, ...] -> [B, K, ...]."""
    return torch.unflatten(t, 0, (rows, -1))


def _heads_first(x: Tensor, dt: Tensor | None = None) -> Tensor:
    """[M, Q, G, R, P], times dt [M, Q, G, R] if there is one -> [M, G, R, Q, P], contiguous."""
    turned = x.permute(0, 2, 3, 1, 4)
    if dt is None:
        return turned.contiguous()
    return torch.mul(turned, dt.permute(0, 2, 3, 1)[..., None], out=x.new_empty(turned.shape))


def _time_first(x: Tensor) -> Tensor:
    """[M, G, R, Q, P] -> [M, Q, G, R, P]."""
    return x.permute(0, 3, 1, 2, 4)
