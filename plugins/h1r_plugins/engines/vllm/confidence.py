"""Our sampling, confidences and window pruning inside vLLM, as a logits processor of its V1 interface.

The processor draws each row's token itself (h1r_cli.model.device_batch), from the raw logits and the request's own
seed, and leaves vLLM's greedy sampler a row that is 0 at that token and -inf elsewhere. So a trace is drawn as the
other engines draw it, whatever batch it runs in; its behaviour log-probabilities and confidences never cross a
process boundary token by token; and a request that is cut gets an end token in the next step.

It is passed by class path to our own engine, not by vLLM's entry point, which would load it into every vLLM of the
environment. What a request needs travels in `SamplingParams.extra_args`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from h1r_cli.model.device_batch import DeviceBatch, Plan
from h1r_cli.types import Sampling, WindowRule

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig

KEY = "h1r"  # of a plan in extra_args
NOBODY = -1


class ConfidenceProcessor(LogitsProcessor):  # type: ignore[misc]  # vllm has no types here
    """One a worker; every request of the engine must bring a plan.

    A step that only prefills a part of a prompt draws a token too, which vLLM throws away. So a request is watched
    from when it enters a batch until its list of output tokens has grown, and set back where it has not.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.batch = DeviceBatch(device)
        self._vocabulary = vllm_config.model_config.get_vocab_size()
        self._slots = [NOBODY] * vllm_config.scheduler_config.max_num_seqs  # of each row
        self._entering: dict[int, tuple[list[int], int]] = {}  # slot -> its output tokens, and how many they were

    def is_argmax_invariant(self) -> bool:
        """It decides the argmax."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Called before each step: who left, came and moved."""
        self.set_back()
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._entering.pop(self._slots[row], None)
            self._slots[row] = NOBODY
        for row, params, _, output in batch_update.added:
            slot = self.batch.enter(plan_of(params.extra_args), len(output))
            self._entering[slot] = (output, len(output))
            self._slots[row] = slot
        for one, other, how in batch_update.moved:
            self._slots[other], left = self._slots[one], self._slots[other]
            self._slots[one] = left if how == MoveDirectionality.SWAP else NOBODY
        if batch_update.batch_size:
            self.batch.arrange(self._slots[: batch_update.batch_size], self._vocabulary)

    def set_back(self) -> None:
        """Undo the draws of the last step that vLLM threw away."""
        for slot, (output, before) in list(self._entering.items()):
            if len(output) > before:
                del self._entering[slot]
            else:
                self.batch.rewind(slot, before)

    def leave(self, request_id: str) -> None:
        """A request has ended, or was aborted, perhaps in the middle of its prompt."""
        slot = self.batch.leave(request_id)
        if slot is not None:
            self._entering.pop(slot, None)

    def apply(self, logits: Tensor) -> Tensor:
        """[B, V] raw logits -> 0 at each row's token, -inf elsewhere."""
        ids = self.batch.step(logits)
        return logits.fill_(-float("inf")).scatter_(1, ids[:, None], 0.0)


def extra_args(plan: Plan) -> dict[str, Any]:
    """A plan as plain values, for `SamplingParams`."""
    return {KEY: asdict(plan)}


def plan_of(extra: dict[str, Any] | None) -> Plan:
    """The plan of a request, back from its plain values."""
    if extra is None or KEY not in extra:
        raise ValueError(f"a request of this engine carries extra_args[{KEY!r}]")
    values = dict(extra[KEY])
    sampling, rule = dict(values.pop("sampling")), values.pop("rule")
    sampling["stop_token_ids"] = tuple(sampling["stop_token_ids"])
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Plan(
        **plain,
        sampling=Sampling(**sampling),
        rule=None if rule is None else WindowRule(**rule),
    )
