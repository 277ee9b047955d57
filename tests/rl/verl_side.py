"""What test_verl.py runs by the interpreter of verl's environment: verl's own code reads what we wrote for it.

Its arguments, as JSON: the overrides of `h1r train-rl --backend verl`, the completions to judge, as (row, text), and
tokens for the loss, as {name: [rollouts, tokens]}. The last line that it prints is JSON.
"""

import asyncio
import json
import sys
from types import SimpleNamespace

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl import DataProto
from verl.trainer.config import RolloutCorrectionConfig
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.reward import load_reward_manager
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights
from verl.trainer.ppo.utils import create_rl_dataset, need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config


def judged(manager, tokenizer, row, text):
    """A completion as verl's reward loop hands it to its manager: padded at the right."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    prompt = tokenizer.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=True)["input_ids"]
    padding = 5
    tensors = {
        "prompts": torch.tensor([prompt]),
        "responses": torch.tensor([[*ids, tokenizer.eos_token_id, *[0] * padding]]),
        "attention_mask": torch.tensor([[1] * (len(prompt) + len(ids) + 1) + [0] * padding]),
    }
    told = {key: [row[key]] for key in ("data_source", "reward_model", "extra_info")}
    data = DataProto.from_dict(tensors=tensors, non_tensors=told)
    return manager.loop.run_until_complete(manager.run_single(data))


def loss_of(actor, correction, tokens):
    """The loss of a mini-batch as verl's trainer and actor compute it from the configuration."""
    tokens = {name: torch.tensor(values) for name, values in tokens.items()}
    mask = tokens["mask"]
    weights, _ = compute_rollout_correction_weights(
        tokens["old"] - tokens["behaviour"],
        mask,
        rollout_is=correction.rollout_is,
        rollout_is_threshold=correction.rollout_is_threshold,
    )
    actor.global_batch_info.update(dp_size=1, batch_num_tokens=mask.sum(), global_batch_size=len(mask))
    loss, _ = get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old_log_prob=tokens["old"],
        log_prob=tokens["new"],
        advantages=tokens["advantages"],
        response_mask=mask,
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
        rollout_is_weights=weights,
    )
    return loss.item()


def metric_of(config):
    """By what the trainer of `main_ppo` filters groups; None without verl's extra verl-core, which it imports."""
    try:
        from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    except ImportError:
        return None
    return PPOTrainer._resolve_filter_groups_metric(SimpleNamespace(config=config))


def main():
    command, completions, tokens = map(json.loads, sys.argv[1:])
    given = [one for one in command if not one.startswith("hydra.")]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=given)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    algorithm = omega_conf_to_dataclass(config.algorithm)
    correction = omega_conf_to_dataclass(config.algorithm.rollout_correction, RolloutCorrectionConfig)
    asyncio.set_event_loop(asyncio.new_event_loop())
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    data = create_rl_dataset(config.data.train_files, config.data, tokenizer, None, is_train=True)
    tests = create_rl_dataset(config.data.val_files, config.data, tokenizer, None, is_train=False)
    manager = load_reward_manager(config, tokenizer)
    found = {
        "config": OmegaConf.to_container(config, resolve=True),
        "actor": [actor.clip_ratio_high, actor.clip_ratio_c, actor.loss_agg_mode, actor.optim.lr, actor.engine.dtype],
        "rollout": [rollout.n, rollout.enable_prefix_caching, rollout.calculate_log_probs],
        "filter": [algorithm.filter_groups.enable, algorithm.filter_groups.metric],
        "filters_by": metric_of(config),
        "loss": loss_of(actor, correction, tokens),
        "rows": len(data),
        "tests": len(tests),
        "prompt": tokenizer.apply_chat_template(data[0]["raw_prompt"], add_generation_prompt=True)["input_ids"],
        "judged": [judged(manager, tokenizer, data[row], text) for row, text in completions],
    }
    print(json.dumps(found))


if __name__ == "__main__":  # the processes that judge import this file, as `spawn` has it
    main()
