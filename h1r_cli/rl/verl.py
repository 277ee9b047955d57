"""The settings of `h1r train-rl` in verl's words: overrides of its Hydra configuration.

Read from the source of verl 0.9.1, whose `verl.trainer.main_ppo` runs the trainer under `verl/trainer/ppo/v1`:

    backfill       algorithm.filter_groups, which that trainer heeds: groups whose `acc` is all the same are replaced;
                   what is left over is thrown away, so there is no cache
    TIS            algorithm.rollout_correction, decoupled: weights of pi_old / pi_rollout, by token or by sequence
    aggregation    seq-mean-token-mean is ours by sequence, token-mean ours by token; both over the whole mini-batch
    dual clip      always on there (clip_ratio_c = 3), and not in the paper: NO_DUAL_CLIP is beyond its largest ratio
    packing        model.use_remove_padding leaks a Mamba state from one rollout into the next, and vLLM's prefix
                   cache ends the engine on a hybrid model: both off

`h1r_cli.rl.verl_limits` has what there is no word for. A test changes every setting once, and fails where that shows
in neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h1r_cli.settings import TrainRlSettings

VERSION = "0.9.1"  # whose source was read
REWARD_MODULE = "pkg://h1r_cli.commands.verl_reward"
NO_DUAL_CLIP = 1e9  # verl bounds the ratio by e^20 = 4.9e8
PLAIN = re.compile(r"[A-Za-z_/][\w./:-]*")  # needs no quotes in Hydra's grammar, but where it is a word of it
WORDS = ("null", "true", "false", "nan", "inf")
AGGREGATION = {"sequence-mean": "seq-mean-token-mean", "token-mean": "token-mean"}
IMPORTANCE = {"token": "token", "sequence": "sequence", "off": None}
ENGINE = {  # option of the engine `vllm` -> key of actor_rollout_ref.rollout; 0 leaves a size to vLLM
    "slots": "max_num_seqs",
    "tensor_parallel": "tensor_model_parallel_size",
    "max_model_len": "max_model_len",
    "batched_tokens": "max_num_batched_tokens",
    "memory_frac": "gpu_memory_utilization",
    "eager": "enforce_eager",
    "dtype": "dtype",
}


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything lies, and what the data are like."""

    run: Path
    model: Path
    train: Path
    val: Path | None
    judges: Path  # what `h1r_cli.commands.verl_reward` reads
    problems: int
    prompt_tokens: int  # of the longest prompt
    resume: bool = False
    observers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> options


def overrides(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    """Key of verl's configuration -> value; a key that begins with + is new there."""
    return {
        **_algorithm(settings),
        **_data(settings, files),
        **_actor(settings, files),
        **_rollout(settings, files),
        **_reward(settings, files),
        **_trainer(settings, files),
    }


def argument(key: str, value: Any) -> str:
    r"""One override as Hydra's grammar writes it.

    >>> print(argument("a.b", "it's"), argument("c", [None, True, 2e-6]))
    a.b='it\'s' c=[null,true,2e-06]
    """
    return f"{key}={_written(value)}"


def environment(files: Files) -> dict[str, str]:
    """What verl's loggers take from the environment."""
    wandb = files.observers.get("wandb", {})
    told = {"WANDB_ENTITY": wandb.get("entity"), "WANDB_RUN_GROUP": wandb.get("group")}
    return {
        "VERL_FILE_LOGGER_PATH": str(files.run / "verl" / "metrics.jsonl"),
        "TENSORBOARD_DIR": str(files.run / "tensorboard"),
        "WANDB_DIR": str(files.run),
        **{key: value for key, value in told.items() if value is not None},
    }


def _written(value: Any) -> str:
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and value.lower() not in WORDS:
            return value
        # a backslash is one but before a quote, and before the end
        escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
        return f"'{escaped}'"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_written, value))}]"
    return json.dumps(value)


def _algorithm(settings: TrainRlSettings) -> dict[str, Any]:
    grpo = settings.grpo
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "algorithm.filter_groups.enable": settings.supply.filling == "backfill",
        "algorithm.filter_groups.metric": "acc",  # the verdict's `correct`, whatever its reward
        "algorithm.rollout_correction.rollout_is": IMPORTANCE[grpo.importance],
        "algorithm.rollout_correction.rollout_is_threshold": grpo.importance_cap,
        "algorithm.rollout_correction.rollout_rs": None,
        "algorithm.rollout_correction.bypass_mode": False,
    }


def _data(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    return {
        "data.train_files": str(files.train),
        "data.val_files": str(files.val or files.train),  # it is read in any case
        "data.train_batch_size": settings.global_batch,
        "data.max_prompt_length": files.prompt_tokens,
        "data.max_response_length": settings.rollout.max_tokens,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.shuffle": True,
        "data.seed": settings.seed,
    }


def _actor(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    grpo, actor, model = settings.grpo, "actor_rollout_ref.actor", "actor_rollout_ref.model"
    longest = files.prompt_tokens + settings.rollout.max_tokens
    return {
        f"{model}.path": str(files.model),
        f"{model}.use_remove_padding": False,
        f"{model}.enable_gradient_checkpointing": settings.parallel.activation_checkpointing,
        f"{model}.use_liger": False,
        f"{actor}.ppo_mini_batch_size": settings.global_batch // grpo.updates_per_batch,
        f"{actor}.ppo_epochs": 1,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": max(settings.parallel.micro_batch_tokens, longest),
        f"{actor}.ulysses_sequence_parallel_size": settings.parallel.sequence_parallel,
        f"{actor}.policy_loss.loss_mode": "vanilla",
        f"{actor}.clip_ratio_low": grpo.clip_low,
        f"{actor}.clip_ratio_high": grpo.clip_high,
        f"{actor}.clip_ratio_c": NO_DUAL_CLIP,
        f"{actor}.loss_agg_mode": AGGREGATION[grpo.aggregation],
        f"{actor}.use_kl_loss": grpo.kl_coef > 0,
        f"{actor}.kl_loss_coef": grpo.kl_coef,
        f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.entropy_coeff": grpo.entropy_coef,
        f"{actor}.optim.lr": settings.learning_rate,
        f"{actor}.optim.lr_scheduler_type": "constant",
        f"{actor}.optim.lr_warmup_steps": settings.warmup_steps,
        f"{actor}.optim.weight_decay": settings.weight_decay,
        f"{actor}.optim.clip_grad": settings.clip_norm,
        f"{actor}.data_loader_seed": settings.seed,
        f"{actor}.fsdp_config.seed": settings.seed,
        f"{actor}.fsdp_config.dtype": settings.kernels.dtype,
        "actor_rollout_ref.ref.fsdp_config.dtype": settings.kernels.dtype,
        f"{actor}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{actor}.checkpoint.load_contents": ["model", "optimizer", "extra"],
        "actor_rollout_ref.nccl_timeout": int(settings.launch.timeout_s),
    }


def _rollout(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    rollout, tested = "actor_rollout_ref.rollout", settings.evaluation.sampling
    options = {key: value for key, value in settings.engine.options.items() if value not in (0, "auto")}
    return {
        f"{rollout}.name": "vllm",
        f"{rollout}.n": settings.group_size,
        f"{rollout}.temperature": settings.rollout.temperature,
        f"{rollout}.top_p": settings.rollout.top_p,
        f"{rollout}.top_k": settings.rollout.top_k or -1,
        f"{rollout}.seed": settings.seed,
        f"{rollout}.calculate_log_probs": True,
        f"{rollout}.logprobs_mode": "processed_logprobs",  # of the distribution that was sampled
        f"{rollout}.enable_prefix_caching": False,
        f"{rollout}.tensor_model_parallel_size": 1,
        f"{rollout}.max_model_len": files.prompt_tokens + settings.rollout.max_tokens,
        **{f"{rollout}.{ENGINE[key]}": value for key, value in options.items() if key in ENGINE},
        f"{rollout}.val_kwargs.n": settings.evaluation.samples,
        f"{rollout}.val_kwargs.do_sample": tested.temperature > 0,
        f"{rollout}.val_kwargs.temperature": tested.temperature,
        f"{rollout}.val_kwargs.top_p": tested.top_p,
        f"{rollout}.val_kwargs.top_k": tested.top_k or -1,
    }


def _reward(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    penalty: dict[str, Any] = {}
    if settings.grpo.overlong == "penalty":
        buffer = "+reward.reward_kwargs.overlong_buffer_cfg"
        penalty = {
            f"{buffer}.enable": True,
            f"{buffer}.len": settings.grpo.overlong_buffer_tokens,
            f"{buffer}.penalty_factor": 1.0,
            f"{buffer}.log": False,
            "+reward.reward_kwargs.max_resp_len": settings.rollout.max_tokens,
        }
    return {
        "reward.num_workers": settings.hardware.nodes,  # each with a pool of its own
        "reward.reward_manager.name": "dapo" if penalty else "naive",
        "reward.custom_reward_function.path": REWARD_MODULE,
        "reward.custom_reward_function.name": "compute_score",
        "+reward.custom_reward_function.reward_kwargs.judges": str(files.judges),
        **penalty,
    }


def _trainer(settings: TrainRlSettings, files: Files) -> dict[str, Any]:
    tested = files.val is not None
    epochs = settings.steps // max(1, files.problems // settings.global_batch) + 1  # no end before the last step
    return {
        "trainer.use_v1": True,
        "trainer.v1.trainer_mode": "sync",
        "trainer.nnodes": settings.hardware.nodes,
        "trainer.n_gpus_per_node": settings.hardware.devices_per_node,
        "trainer.total_training_steps": settings.steps,
        "trainer.total_epochs": epochs,
        "trainer.save_freq": settings.checkpoint_every,
        "trainer.max_actor_ckpt_to_keep": settings.keep_checkpoints,
        "trainer.test_freq": settings.evaluation.every if tested else -1,
        "trainer.val_before_train": tested and not files.resume,
        "trainer.default_local_dir": str(files.run / "verl" / "checkpoints"),
        "trainer.rollout_data_dir": str(files.run / "verl" / "rollouts") if settings.store_rollouts else None,
        "trainer.resume_mode": "auto" if files.resume else "disable",
        "trainer.project_name": files.observers.get("wandb", {}).get("project", "h1r"),
        "trainer.experiment_name": files.run.name,
        "trainer.logger": ["console", "file", *files.observers],
    }
