"""Many requests' sampling, confidences and windows as tensors: for an engine that hands over a batch's raw logits.

What `inflight.advance` does request by request is done here for all rows at once, with nothing read back from the
device and no Python loop over requests while the batch stays the same. The formulas are the same functions, so that
a trace is drawn alike and cut at the same token.

A request has a slot, which keeps its state while it moves between rows, is preempted or waits to be read.

Axis letters: S slots, B rows of a batch, T tokens of a request, V vocabulary, W window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from h1r_cli.model.confidences import by_size, confidence_columns, likeliest
from h1r_cli.model.sampling import Rows, Uniforms, draw_rows
from h1r_cli.types import Sampling, WindowRule

NOT_CUT = -1
NO_RULE = WindowRule(1, -(1 << 62))
GROW_SLOTS, GROW_TOKENS = 32, 512


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch must know of a request. `end_ids` end it; the first of them is what a cut request is given."""

    id: str
    sampling: Sampling
    end_ids: tuple[int, ...]
    confidences: tuple[str, ...] = ()
    confidence_top_k: int = 20
    rule: WindowRule | None = None
    policy_confidence: str = "top-k"
    top_logprobs: int = 0

    @property
    def wanted(self) -> tuple[str, ...]:
        """The confidences to compute: those to report, and the rule's."""
        return self.confidences if self.rule is None else (*self.confidences, self.policy_confidence)


@dataclass(frozen=True, slots=True)
class Record:
    """Some tokens of one request, from a place on, as arrays on the host.

    `cut_tokens` is after how many tokens of the whole request the rule cut it, None while it has not.
    """

    ids: NDArray[np.int32]  # [T]
    behaviour_logprobs: NDArray[np.float32]  # [T]
    confidence: Mapping[str, NDArray[np.int32]]  # [T] each, units of 2^-16 nat
    cut_tokens: int | None
    top_ids: NDArray[np.int32]  # [T, n], likeliest first
    top_logprobs: NDArray[np.float32]  # [T, n], nats, of the raw logits


@dataclass(slots=True)
class _Arranged:
    """The batch as it stands: the slot of each row, and what follows from who is in it."""

    slots: Tensor  # [B]
    host: NDArray[np.int64]  # [B], the same
    rows: Rows
    end_ids: Tensor  # [B]
    top_k: tuple[tuple[int, Tensor | None], ...]  # k, and the rows that have it; None: all
    names: tuple[str, ...]
    judged: Tensor | None  # [B] index into `names`; None where no rule is in the batch
    windows: Tensor  # [B]
    least: Tensor  # [B]
    least_length: Tensor  # [B], min_tokens, 0 where there is none
    endings: Tensor | None  # [B, V] bool: what a row may not draw before its least length
    tops: int  # how many of the likeliest tokens the most demanding row asks for
    top_rows: Tensor  # the rows that ask for any


class DeviceBatch:
    """See the module. `enter` gives a slot, `arrange` says which slot each row has, `step` draws a token for each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slot_of: dict[str, int] = {}
        self._plans: dict[int, Plan] = {}
        self._streams: dict[int, Uniforms] = {}
        self._free: list[int] = []
        self._host_counts = np.zeros(0, dtype=np.int64)  # tokens of each slot, as the host knows without asking
        self._counts = self._sums = self._cut = torch.zeros(0, dtype=torch.int64, device=device)  # [S]
        self._uniforms = torch.zeros(0, Uniforms.BLOCK, dtype=torch.float64, device=device)  # [S, block]
        self._ids = torch.zeros(0, 0, dtype=torch.int32, device=device)  # [S, T]
        self._logprobs = torch.zeros(0, 0, dtype=torch.float32, device=device)  # [S, T]
        self._units: dict[str, Tensor] = {}  # name -> [S, T] int32
        kinds = (torch.int32, torch.float32)  # ids and log-probabilities of the likeliest tokens
        self._tops = [torch.zeros(0, 0, 0, dtype=kind, device=device) for kind in kinds]  # [S, T, n]
        self._now: _Arranged | None = None

    # --- who is there ---

    @torch.inference_mode()
    def enter(self, plan: Plan, tokens: int = 0) -> int:
        """The slot of a request that has generated `tokens` so far; one that was here before keeps its own.

        What a slot holds beyond `tokens` is forgotten: a step whose draw was thrown away.
        """
        slot = self._slot_of.get(plan.id)
        if slot is None:
            slot = self._take_free()
            self._slot_of[plan.id], self._plans[slot] = slot, plan
            self._streams[slot] = Uniforms(plan.sampling.seed)
            self._set(slot, 0)
        elif self._host_counts[slot] != tokens:
            self.rewind(slot, tokens)
        if self._host_counts[slot] != tokens:
            raise AssertionError(f"request {plan.id} comes with {tokens} tokens that were not drawn here")
        return slot

    @torch.inference_mode()
    def rewind(self, slot: int, tokens: int) -> None:
        """Go back to when the request had `tokens`: what was drawn since does not count."""
        plan = self._plans[slot]
        stream = self._streams[slot] = Uniforms(plan.sampling.seed)
        for _ in range(tokens // Uniforms.BLOCK + (tokens % Uniforms.BLOCK > 0)):
            self._uniforms[slot] = stream.block().to(self._device)
        cut = int(self._cut[slot])
        self._set(slot, min(tokens, int(self._host_counts[slot])))
        if plan.rule is not None:
            begin = max(0, tokens - plan.rule.window_tokens)
            self._sums[slot] = self._units[plan.policy_confidence][slot, begin:tokens].sum()
            self._cut[slot] = cut if cut <= tokens else NOT_CUT

    def leave(self, request_id: str) -> int | None:
        """Give a request's slot back, and say which; None where the request is unknown."""
        if (slot := self._slot_of.pop(request_id, None)) is not None:
            del self._plans[slot], self._streams[slot]
            self._free.append(slot)
        return slot

    @torch.inference_mode()
    def read(self, request_id: str, begin: int = 0) -> Record | None:
        """The tokens of a request from `begin` on, up to where it was cut; None where the request is unknown."""
        slot = self._slot_of.get(request_id)
        if slot is None:
            return None
        cut = int(self._cut[slot])
        tokens = int(self._host_counts[slot]) if cut == NOT_CUT else cut
        top_ids, tops = (t[slot, begin:tokens, : self._plans[slot].top_logprobs] for t in self._tops)
        return Record(
            self._ids[slot, begin:tokens].cpu().numpy(),
            self._logprobs[slot, begin:tokens].cpu().numpy(),
            {name: self._units[name][slot, begin:tokens].cpu().numpy() for name in self._plans[slot].confidences},
            None if cut == NOT_CUT else cut,
            top_ids.cpu().numpy(),
            tops.cpu().numpy(),
        )

    # --- a step ---

    @torch.inference_mode()
    def arrange(self, slots: Sequence[int], vocabulary: int) -> None:
        """Row b of the batches from now on belongs to `slots[b]`."""
        plans = [self._plans[slot] for slot in slots]
        names = tuple(sorted({name for plan in plans for name in plan.wanted}))
        rules = [plan.rule or NO_RULE for plan in plans]
        judged = [names.index(plan.policy_confidence) if plan.rule is not None else 0 for plan in plans]
        early = [0 if plan.sampling.ignore_eos else plan.sampling.min_tokens for plan in plans]
        self._now = _Arranged(
            slots=self._column(slots),
            host=np.asarray(slots, dtype=np.int64),
            rows=Rows.of([plan.sampling for plan in plans], self._device),
            end_ids=self._column([plan.end_ids[0] for plan in plans]),
            top_k=by_size([plan.confidence_top_k for plan in plans], self._device),
            names=names,
            judged=self._column(judged) if any(plan.rule is not None for plan in plans) else None,
            windows=self._column([rule.window_tokens for rule in rules]),
            least=self._column([rule.least_sum for rule in rules]),
            least_length=self._column(early),
            endings=self._endings(plans, vocabulary) if any(early) else None,
            tops=min(vocabulary, max((plan.top_logprobs for plan in plans), default=0)),
            top_rows=self._column([row for row, plan in enumerate(plans) if plan.top_logprobs]),
        )
        if self._now.tops > self._tops[0].shape[2]:
            self._tops = [_wider(t, *self._logprobs.shape, self._now.tops) for t in self._tops]
        for name in names:
            if name not in self._units:
                self._units[name] = torch.zeros(self._logprobs.shape, dtype=torch.int32, device=self._device)

    @torch.inference_mode()
    def step(self, logits: Tensor) -> Tensor:
        """Draw a token for each row: [B, V] float32 raw logits -> [B] int64.

        A row that its rule has cut gets its end token instead: its `cut_tokens`-th token was drawn as any other.
        """
        now = self._arranged()
        self._make_room(int(self._host_counts[now.host].max()) + 1)
        self._refill(now.host)
        slots, counts = now.slots, self._counts[now.slots]
        uniforms = self._uniforms[slots, counts % Uniforms.BLOCK][:, None]
        ids, logprobs = draw_rows(self._possible(logits, counts), now.rows, uniforms)
        self._ids[slots, counts] = ids.int()
        self._logprobs[slots, counts] = logprobs
        if now.names:
            columns = confidence_columns(now.names, logits, ids, now.top_k)
            for name, units in columns.items():
                self._units[name][slots, counts] = units.int()
        if now.tops:
            self._note_likeliest(logits, counts)
        cut = self._cut[slots]
        if now.judged is not None:
            self._judge(_pick([columns[name] for name in now.names], now.judged), counts, cut)
        self._counts[slots] = counts + 1
        self._host_counts[now.host] += 1
        return torch.where(cut == NOT_CUT, ids, now.end_ids)

    def _note_likeliest(self, logits: Tensor, counts: Tensor) -> None:
        """Keep the likeliest tokens of the rows that ask for any."""
        rows = (now := self._arranged()).top_rows
        for held, found in zip(self._tops, likeliest(logits[rows], now.tops), strict=True):
            held[now.slots[rows], counts[rows], : now.tops] = found.to(held.dtype)

    def _judge(self, units: Tensor, counts: Tensor, cut: Tensor) -> None:
        """Slide each row's window over its token's `units` [B], and note where it is cut for the first time."""
        now = self._arranged()
        if now.judged is None:
            return
        leaving = (counts - now.windows).clamp(min=0)  # the place of the token that leaves the window
        fallen = _pick([self._units[name][now.slots, leaving] for name in now.names], now.judged)
        sums = self._sums[now.slots] + units - torch.where(counts >= now.windows, fallen, 0)
        self._sums[now.slots] = sums
        unsure = (counts + 1 >= now.windows) & (sums < now.least) & (cut == NOT_CUT)
        self._cut[now.slots] = torch.where(unsure, counts + 1, cut)

    def _possible(self, logits: Tensor, counts: Tensor) -> Tensor:
        """`logits` without the end tokens of rows below their least length."""
        now = self._arranged()
        if now.endings is None:
            return logits
        return logits.masked_fill(now.endings & (counts < now.least_length)[:, None], -torch.inf)

    # --- room ---

    def _refill(self, host: NDArray[np.int64]) -> None:
        """A new block of uniform numbers for each slot whose last one is used up: one token in 256."""
        for slot in host[self._host_counts[host] % Uniforms.BLOCK == 0]:
            self._uniforms[slot] = self._streams[int(slot)].block().to(self._device)

    def _take_free(self) -> int:
        if not self._free:
            held = len(self._counts)
            self._grow(held + max(GROW_SLOTS, held), self._logprobs.shape[1])
            self._free = list(range(len(self._counts) - 1, held - 1, -1))
        return self._free.pop()

    def _make_room(self, tokens: int) -> None:
        if tokens > self._logprobs.shape[1]:
            self._grow(len(self._counts), max(2 * self._logprobs.shape[1], GROW_TOKENS))

    def _grow(self, slots: int, tokens: int) -> None:
        self._counts, self._sums, self._cut = (_wider(t, slots) for t in (self._counts, self._sums, self._cut))
        self._host_counts = np.pad(self._host_counts, (0, slots - len(self._host_counts)))
        self._uniforms = _wider(self._uniforms, slots, Uniforms.BLOCK)
        self._ids = _wider(self._ids, slots, tokens)
        self._logprobs = _wider(self._logprobs, slots, tokens)
        self._tops = [_wider(t, slots, tokens, t.shape[2]) for t in self._tops]
        self._units = {name: _wider(units, slots, tokens) for name, units in self._units.items()}

    def _set(self, slot: int, tokens: int) -> None:
        self._host_counts[slot] = tokens
        self._counts[slot], self._sums[slot], self._cut[slot] = tokens, 0, NOT_CUT

    def _arranged(self) -> _Arranged:
        if self._now is None:
            raise AssertionError("a batch is arranged before its first step")
        return self._now

    def _column(self, values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int64, device=self._device)

    def _endings(self, plans: Sequence[Plan], vocabulary: int) -> Tensor:
        endings = torch.zeros(len(plans), vocabulary, dtype=torch.bool)
        for row, plan in enumerate(plans):
            endings[row, list(plan.end_ids)] = True
        return endings.to(self._device)


def _pick(columns: Sequence[Tensor], which: Tensor) -> Tensor:
    """[B] of column which[b] for each row b."""
    return columns[0] if len(columns) == 1 else torch.stack(list(columns)).gather(0, which[None])[0]


def _wider(held: Tensor, *shape: int) -> Tensor:
    """`held` in the corner of a larger tensor of zeros."""
    wider = held.new_zeros(shape)
    wider[tuple(slice(size) for size in held.shape)] = held
    return wider
