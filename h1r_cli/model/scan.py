"""The state-space recurrence of Mamba-2 in plain torch, by chunks, its gradient by hand.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

Within a chunk a masked product of C and B, as in attention; between chunks the recurrence itself, one step a chunk
(SSD, arXiv 2405.21060 section 6). Memory is linear in L: L (H Q + H P + H P S / Q), never L H P S. What a chunk has
within itself is computed for the chunks of all documents at once, however their lengths differ.

Axis letters: B documents, L tokens of a document, K chunks of the longest document, M chunks of all, F chunks that
something comes before, Q tokens of a chunk, G groups, R heads of a group (H = G R heads), P head width, S state size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from h1r_cli.model.layout import Chunks


def ssd_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk: int, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan documents of one length.

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
    rows, length = dt.shape[:2]
    chunk = min(chunk, length)
    short = -length % chunk

    def chunked(t: Tensor) -> Tensor:
        if short:
            t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, short))
        return torch.unflatten(t, 1, (-1, chunk)).transpose(0, 1).flatten(0, 1)

    chunks = Chunks.of([(length + short) // chunk] * rows, x.device)
    y, state = scan_chunks(chunked(x), chunked(dt), a, chunked(b), chunked(c), d, chunks, initial)
    return torch.unflatten(y, 0, (-1, rows)).transpose(0, 1).flatten(1, 2)[:, :length], state


def scan_chunks(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunks: Chunks, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan documents that lie as chunks.

    Args:
        x: [M, Q, H, P].
        dt: [M, Q, H] float32, step lengths; 0 on padding, which leaves the state as it is.
        a, d: [H], as in `ssd_scan`.
        b, c: [M, Q, G, S].
        chunks: which goes on from which.
        initial: h_0 [B, H, P, S] float32; None: 0.

    Returns:
        y [M, Q, H, P] and each document's last state [B, H, P, S], both float32.
    """
    groups = b.shape[2]

    def by_group(t: Tensor, axis: int) -> Tensor:
        return torch.unflatten(t, axis, (groups, -1))

    with torch.autocast(x.device.type, enabled=False):  # states are float32 whatever the rest is
        y, state = _Scan.apply(  # type: ignore[no-untyped-call]
            by_group(x.to(dt.dtype), 2),
            by_group(dt, 2),
            by_group(a, 0),
            b.to(dt.dtype),
            c.to(dt.dtype),
            by_group(d, 0),
            x.new_zeros(0, dtype=dt.dtype) if initial is None else by_group(initial, 1),
            chunks,
        )
    return y.flatten(2, 3), state.flatten(1, 2)


class _Scan(torch.autograd.Function):
    """Keeps its inputs, y less the skip, decays within chunks [M, G, R, Q, Q], and states after them [M, G, R, P, S].

    With l the log of the decay since the chunk began, token j enters as dt_j x_j exp(-l_j), and what token i reads,
    y_i less the skip, has the factor exp(l_i). So the gradient of l_i is that of y_i times what was read, less that
    of dt_i x_i times dt_i x_i: no product with the decays themselves is needed.

    Shapes: x and y [M, Q, G, R, P], dt [M, Q, G, R], b and c [M, Q, G, S], a and d [G, R], the initial and the last
    state [B, G, R, P, S]; an initial state of no element is 0. The first M - F chunks have nothing before them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, initial: Tensor, chunks: Chunks
    ) -> tuple[Tensor, Tensor]:
        decay = _Decay(dt, a)
        between = decay.between()
        bs, cs = b.transpose(1, 2), c.transpose(1, 2)  # [M, G, Q, S]
        scores = (cs @ bs.mT)[:, :, None] * between  # [M, G, R, Q, Q]
        y = x.new_empty(x.shape).copy_(_time_first(scores @ _heads_first(x, dt)))

        after = _by_head(_state_of(x * decay.entering[..., None], bs), x)  # [M, G, R, P, S]
        _carry(after, decay.kept, initial, chunks)
        first = 0 if len(initial) else chunks.counts[0]
        if first < len(x):
            before = _before(after, initial, chunks).flatten(2, 3)  # [F, G, R P, S]
            seen = torch.unflatten((cs[first:] @ before.mT).transpose(1, 2), -1, x.shape[-2:])  # [F, Q, G, R, P]
            y[first:].addcmul_(seen, decay.since[first:, ..., None])
        ctx.save_for_backward(x, dt, a, b, c, d, initial, y, between, after)
        ctx.chunks = chunks
        return torch.addcmul(y, x, d[..., None]), after.index_select(0, chunks.last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, a, b, c, d, initial, y, between, after = ctx.saved_tensors
        decay, chunks = _Decay(dt, a), ctx.chunks
        bs, cs = b.transpose(1, 2), c.transpose(1, 2)
        grad_heads = _heads_first(grad_y)

        shared = ((grad_heads @ _heads_first(x, dt).mT) * between).sum(2)  # [M, G, Q, Q]
        grad_c, grad_b = shared @ bs, shared.mT @ cs  # [M, G, Q, S]
        scores = (cs @ bs.mT)[:, :, None] * between
        within = _time_first(scores.mT @ grad_heads)  # the gradient of dt x

        grad_after, grad_initial = torch.empty_like(after), None
        grad_after[chunks.last] = grad_state
        first = 0 if len(initial) else chunks.counts[0]
        if first < len(x):
            grad_seen = grad_y[first:] * decay.since[first:, ..., None]
            before = _before(after, initial, chunks).flatten(2, 3)  # [F, G, R P, S]
            grad_c[first:] += grad_seen.flatten(-2).transpose(1, 2) @ before
            grad_before = _by_head(_state_of(grad_seen, cs[first:]), x)  # [F, G, R, P, S]
            grad_initial = _carry_back(grad_after, grad_before, decay.kept, chunks)
        states = grad_after.flatten(2, 3)  # [M, G, R P, S]
        grad_b += (x * decay.entering[..., None]).flatten(-2).transpose(1, 2) @ states
        grad_dtx = torch.unflatten((bs @ states.mT).transpose(1, 2), -1, x.shape[-2:])
        grad_dtx = grad_dtx.mul_(decay.to_end[..., None]).add_(within)  # [M, Q, G, R, P]

        grad_dt = (grad_dtx * x).sum(-1)
        grad_log = (grad_y * y).sum(-1) - dt * grad_dt  # [M, Q, G, R]
        grad_log[:, -1] += (grad_after * after).sum((-2, -1))
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
        log = self.log.permute(0, 2, 3, 1).contiguous()  # [M, G, R, Q], else the differences take five times as long
        difference = (log[..., :, None] - log[..., None, :]).to(self.dtype)
        return difference.exp2_().tril_()


def _carry(after: Tensor, kept: Tensor, initial: Tensor, chunks: Chunks) -> None:
    """The recurrence from chunk to chunk, in place: state_k = kept_k state_(k-1) + added_k.

    `after` [M, G, R, P, S] holds what each chunk adds, and then the state after it; `kept` is [M, G, R, 1, 1], and
    `initial` [B, G, R, P, S], or without an element for 0.
    """
    if len(initial):
        after[: len(initial)].addcmul_(initial, kept[: len(initial)])
    steps, shares = (torch.split(t, list(chunks.counts)) for t in (after, kept))
    for previous, own, share in zip(steps, steps[1:], shares[1:], strict=False):
        own.addcmul_(previous[: len(own)], share)


def _carry_back(grad_after: Tensor, grad_before: Tensor, kept: Tensor, chunks: Chunks) -> Tensor | None:
    """The gradient of the state after each chunk, in place, and that of the initial state, if there is one.

    `grad_after` [M, G, R, P, S] holds those of each document's last state, and `grad_before` [F, G, R, P, S] is what
    the chunks ask of the state before them by reading it.
    """
    goes_on = len(grad_before) == len(grad_after)  # and so does each document's first chunk, from the initial state
    steps, shares = (torch.split(t, list(chunks.counts)) for t in (grad_after, kept))
    asked = torch.split(grad_before, list(chunks.counts if goes_on else chunks.counts[1:]))
    for k in range(1, len(steps)):
        own, previous = steps[-k], steps[-k - 1]
        torch.addcmul(asked[-k], own, shares[-k], out=previous[: len(own)])
    return torch.addcmul(asked[0], steps[0], shares[0]) if goes_on else None


def _before(after: Tensor, initial: Tensor, chunks: Chunks) -> Tensor:
    """[F, G, R, P, S], the states that chunks go on from."""
    found = after.index_select(0, chunks.before)
    return torch.cat([initial, found]) if len(initial) else found


def _state_of(x: Tensor, b: Tensor) -> Tensor:
    """Sum over a chunk of x_t b_t^T: [M, Q, G, R, P] and [M, G, Q, S] -> [M, G, R P, S]."""
    return x.flatten(-2).permute(0, 2, 3, 1) @ b


def _by_head(state: Tensor, x: Tensor) -> Tensor:
    """[M, G, R P, S] -> [M, G, R, P, S]."""
    return torch.unflatten(state, 2, x.shape[-2:])


def _heads_first(x: Tensor, dt: Tensor | None = None) -> Tensor:
    """[M, Q, G, R, P], times dt [M, Q, G, R] if there is one -> [M, G, R, Q, P], contiguous."""
    turned = x.permute(0, 2, 3, 1, 4)
    if dt is None:
        return turned.contiguous()
    return torch.mul(turned, dt.permute(0, 2, 3, 1)[..., None], out=x.new_empty(turned.shape))


def _time_first(x: Tensor) -> Tensor:
    """[M, G, R, Q, P] -> [M, Q, G, R, P]."""
    return x.permute(0, 3, 1, 2, 4)
