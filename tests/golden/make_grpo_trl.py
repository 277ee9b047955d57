"""Write `grpo_trl.safetensors`: what TRL's `GRPOTrainer` makes of one made-up batch, case by case.

    python tests/golden/make_grpo_trl.py     with an interpreter that has torch, transformers and trl (1.16.0)

Every number that the test compares with comes out of TRL's own methods, on a real trainer of h1r-nano: advantages and
importance ratios out of `_generate_and_score_completions`, to which a `rollout_func` gives the rollouts, and loss and
gradient out of `_compute_loss`. Only what a model would compute is made up: the method that asks it for
log-probabilities hands out those of the batch.

The file has, for B rollouts of at most T tokens, padded on the right:

    mask, policy, old, behaviour, reference, entropies   [B, T]; log-probabilities at padding are no numbers to use
    rewards, advantages, unscaled                        [B]; `unscaled` are TRL's with scale_rewards="none"
    CASE/loss, CASE/gradient, CASE/entropy_gradient      by the log-probabilities and by the entropies

and in its metadata TRL's version, and as JSON `group_size`, the common `settings` and the `cases`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"
INTO = Path(__file__).with_name("grpo_trl.safetensors")
GROUP_SIZE = 4
LENGTHS = (5, 9, 2, 7, 1, 4, 9, 6, 3, 8, 5, 2)  # of the completions, three groups of four
REWARDS = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.25, 1.0, 1.0, 1.0, 1.0)  # of the last group, nothing is learnt
SETTINGS = {"clip_low": 0.2, "clip_high": 0.28, "importance_cap": 2.0}
MODES = {"token": "token_truncate", "sequence": "sequence_truncate"}


@dataclass(frozen=True, slots=True)
class Case:
    """`loss_type` is TRL's; the others are `h1r_cli.rl.loss.Objective`'s. `old`: not the policy itself."""

    loss_type: str
    importance: str = "off"
    old: bool = True
    kl_coef: float = 0.0
    entropy_coef: float = 0.0


CASES = {
    "grpo": Case("grpo"),
    "grpo-on-policy": Case("grpo", old=False),
    "grpo-token": Case("grpo", "token"),
    "grpo-token-on-policy": Case("grpo", "token", old=False),
    "grpo-sequence": Case("grpo", "sequence"),
    "grpo-sequence-on-policy": Case("grpo", "sequence", old=False),
    "grpo-kl": Case("grpo", kl_coef=0.1),
    "grpo-token-kl": Case("grpo", "token", kl_coef=0.1),
    "bnpo": Case("bnpo"),
    "bnpo-token-entropy": Case("bnpo", "token", entropy_coef=0.01),
    "dapo": Case("dapo"),
    "dapo-token": Case("dapo", "token"),
    "dapo-token-on-policy": Case("dapo", "token", old=False),
    "dapo-sequence": Case("dapo", "sequence"),
    "dapo-token-kl": Case("dapo", "token", kl_coef=0.1),
}


class Scripted(GRPOTrainer):
    """TRL's trainer on a batch whose log-probabilities are told; `told` names those of each model."""

    told: dict[str, Tensor]

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **how: Any) -> tuple[Any, Any, Any]:
        if how.get("compute_entropy"):  # the loss asks
            return self.told["policy"], self.told["entropies"], None
        return self.told["reference" if model == "reference" else "old"].detach(), None, None


def make_batch() -> dict[str, Tensor]:
    """Log-probabilities that leave the clip range and pass the cap, on both sides of 0."""
    drawn = torch.Generator().manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))

    def normal(scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=drawn)

    old = -(normal(1.5).abs() + 0.01)
    mask = (torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]).int()
    batch = {"old": old, "policy": old + normal(0.6), "behaviour": old + normal(0.7), "reference": old + normal(0.5)}
    return batch | {"entropies": normal(1.0).abs(), "mask": mask, "rewards": torch.tensor(REWARDS)}


def make_trainer(batch: dict[str, Tensor], folder: str) -> Scripted:
    prompts = [f"question {number}" for number in range(len(LENGTHS) // GROUP_SIZE)]
    config = GRPOConfig(
        output_dir=folder,
        num_generations=GROUP_SIZE,
        per_device_train_batch_size=len(LENGTHS),
        max_completion_length=max(LENGTHS),
        epsilon=SETTINGS["clip_low"],
        epsilon_high=SETTINGS["clip_high"],
        vllm_importance_sampling_clip_max=SETTINGS["importance_cap"],
        scale_rewards="group",
        use_bias_correction_kl=False,  # PAPER's k3 is not multiplied by the ratio, which is TRL's default
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    trainer = Scripted(
        AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32),
        reward_funcs=lambda prompts, **_: list(REWARDS),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(NANO),
        rollout_func=lambda prompts, _: {
            "prompt_ids": [list(range(5, 8 + row // GROUP_SIZE)) for row in range(len(LENGTHS))],
            "completion_ids": [list(range(10, 10 + length)) for length in LENGTHS],
            "logprobs": [row[:length].tolist() for row, length in zip(batch["behaviour"], LENGTHS, strict=True)],
        },
    )
    trainer.model.train()
    trainer.ref_model = "reference"
    trainer.current_gradient_accumulation_steps = 1  # `train` sets it
    trainer._last_loaded_step = trainer.state.global_step  # so that no vLLM is looked for
    return trainer


def score(trainer: Scripted, case: Case) -> dict[str, Tensor]:
    """The batch as `_compute_loss` takes it."""
    trainer.loss_type, trainer.beta = case.loss_type, case.kl_coef
    trainer.entropy_coef, trainer._entropy_bonus_enabled = case.entropy_coef, case.entropy_coef > 0
    trainer.use_vllm = case.importance != "off"
    trainer.vllm_importance_sampling_mode = MODES.get(case.importance, "token_truncate")
    trainer.num_iterations = 2 if case.old else 1  # with more than one, TRL asks for old log-probabilities
    prompts = [{"prompt": f"question {row // GROUP_SIZE}"} for row in range(len(LENGTHS))]
    return trainer._generate_and_score_completions(prompts)


def of_case(trainer: Scripted, batch: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    policy, entropies = (batch[name].clone().requires_grad_() for name in ("policy", "entropies"))
    old = batch["old"] if case.old else batch["policy"]
    trainer.told = {"policy": policy, "entropies": entropies, "old": old, "reference": batch["reference"]}
    inputs = score(trainer, case)
    assert torch.equal(inputs["completion_mask"].int(), batch["mask"])
    assert ("old_per_token_logps" in inputs) == (case.old or case.importance != "off")
    loss = trainer._compute_loss(trainer.model, inputs)
    gradients = torch.autograd.grad(loss, [policy, entropies], allow_unused=True, materialize_grads=True)
    return {"loss": loss.detach(), "gradient": gradients[0], "entropy_gradient": gradients[1]}


def main() -> None:
    batch = make_batch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(batch, folder)
        trainer.told = batch
        advantages = {}
        for name, scale in (("unscaled", "none"), ("advantages", "group")):
            trainer.scale_rewards = scale
            advantages[name] = score(trainer, Case("grpo"))["advantages"]
        found = {
            f"{name}/{key}": value
            for name, case in CASES.items()
            for key, value in of_case(trainer, batch, case).items()
        }
    metadata = {"group_size": GROUP_SIZE, "settings": SETTINGS, "cases": {k: asdict(v) for k, v in CASES.items()}}
    told = {"trl": trl.__version__} | {key: json.dumps(value) for key, value in metadata.items()}
    save_file({name: value.contiguous() for name, value in (batch | advantages | found).items()}, INTO, told)


if __name__ == "__main__":
    main()
