"""What verl has no word for among the settings of `h1r train-rl`, and what it does in another way whatever is set.

`unmapped` is refused, all of it at once; `differences` is told before verl starts. See `h1r_cli.rl.verl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from h1r_cli.rl.verl import ENGINE
from h1r_cli.settings import TrainRlSettings

LOGGERS: Mapping[str, tuple[str, ...]] = {  # of verl's, those that are observers here -> the options that it knows
    "tensorboard": (),
    "wandb": ("project", "entity", "group"),
}


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A setting whose value verl has nothing for; `instead` is what to do about it, as --set takes it or in words."""

    setting: str
    value: Any
    why: str
    instead: str

    @property
    def is_set(self) -> bool:
        """Whether --set takes `instead`."""
        return self.instead.startswith(f"{self.setting}=")


ONLY: tuple[tuple[str, tuple[Any, ...], str], ...] = (  # setting, the values that verl can do, why
    ("hardware.device", ("cuda",), "its rollouts are vLLM's, on GPUs"),
    ("engine.name", ("vllm",), "it has engines of its own, of which vLLM is one here too"),
    ("parallel.sequence_parallel", (1,), "its Ulysses starts each rank's Mamba from nothing: silently wrong"),
    ("launch.launcher", ("local",), "its ranks are Ray's: on several machines start Ray there first"),
    ("grpo.nll_coef", (0.0,), "no likelihood of correct rollouts in its loss"),
    ("grpo.overlong", ("plain", "penalty"), "no mask of responses that the limit ended"),
    ("supply.filling", ("backfill",), "it replaces groups that teach nothing, or trains on them"),
    ("supply.asynchronous", (False,), "its one-step-off trainer is another program than main_ppo"),
    ("supply.cache_groups", (0,), "surplus groups are thrown away after each step"),
    ("supply.cache_refresh_steps", (0,), "it has no cache"),
    ("supply.cache_age_steps", (0,), "it has no cache"),
    ("supply.carried_frac", (0.0,), "its rollouts end in the step that they began in"),
    ("supply.generation_groups", (None,), "it asks for two problems for each group that teaches nothing"),
    ("learning_rate_schedule", ("constant",), "level or a cosine after the warm-up"),
    ("learning_rate_multipliers", ({},), "one learning rate for all parameters"),
    ("export_dtype", ("bfloat16",), "it writes models in bfloat16"),
)
TESTED: tuple[tuple[str, tuple[Any, ...], str], ...] = (  # the same, where there is a benchmark
    ("evaluation.sampling.min_tokens", (0,), "its sampling has no shortest response"),
    ("evaluation.sampling.ignore_eos", (False,), "rollouts and tests end alike"),
    ("evaluation.sampling.stop_token_ids", ((),), "rollouts and tests end alike"),
)
FIXED = {  # setting, always on here and absent there -> the difference; refused only where it is not the default
    "supply.reject_sampling_bound": "a step to which no group teaches anything goes on without end",
    "grpo.largest_mismatch": "it starts however far engine and trainer are apart (see rollout_corr in its metrics)",
    "watchdog.least_s": "no watchdog",
    "watchdog.factor": "no watchdog",
    "watchdog.first_s": "no watchdog",
}
SPEED = {  # a profile's, without a counterpart: they change how fast a run goes, not what it computes
    "parallel.zero_stage": "it shards by FSDP, weights too",
    "parallel.empty_cache_every": "it empties the cache in its own way",
    "kernels.ssm": "transformers takes mamba-ssm and causal-conv1d where verl's environment has them",
    "kernels.liger": "off: its patches cover no chosen part of a model",
    "launch.threads": "Ray's",
    "launch.deadline_s": "Ray's",
}
DESCRIPTIONS = (  # for the reader
    *("hardware.accelerator", "hardware.memory_gib", "hardware.peak_tflops", "hardware.bandwidth_gb_per_s"),
)
OURS = (  # done before verl starts, or by us in it
    *("model", "problems", "stage", "disjoint", "system_prompt", "reward", "scoring"),
    *("evaluation.benchmark", "evaluation.reward", "evaluation.limit", "observers"),
)
LAUNCHERS = ("launch.rendezvous", "launch.hostfile", "launch.sbatch", "launch.setup")  # of other launchers than local


def unmapped(settings: TrainRlSettings) -> list[Unmapped]:
    """Every setting that stands in verl's way, so that all can be changed at once."""
    tested = settings.evaluation.benchmark is not None
    found = [
        Unmapped(key, value, why, _instead(key, allowed[0]))
        for key, allowed, why in (*ONLY, *(TESTED if tested else ()))
        if (value := _value(settings, key)) not in allowed
    ]
    defaults = TrainRlSettings()
    for key, why in FIXED.items():
        if (value := _value(settings, key)) != (usual := _value(defaults, key)):
            found.append(Unmapped(key, value, why, _instead(key, usual)))
    if len(settings.stage) > 1:
        why = "it draws from one set of problems"
        found.append(Unmapped("stage", len(settings.stage), why, "one [[stage]] table at a time"))
    updates = settings.grpo.updates_per_batch
    if settings.global_batch % updates:
        why = f"its mini-batches are equal, and {updates} does not divide global_batch = {settings.global_batch}"
        found.append(Unmapped("grpo.updates_per_batch", updates, why, _instead("grpo.updates_per_batch", 1)))
    rollouts = settings.global_batch // updates * settings.group_size
    devices = settings.hardware.nodes * settings.hardware.devices_per_node
    if rollouts % devices:
        why = f"each of {devices} devices gets as many of a mini-batch's {rollouts} rollouts, and that is uneven"
        found.append(Unmapped("global_batch", settings.global_batch, why, f"global_batch={devices * updates}"))
    most = settings.rollout.max_tokens
    if tested and settings.evaluation.sampling.max_tokens != most:
        key, why = "evaluation.sampling.max_tokens", "one limit for rollouts and tests"
        found.append(Unmapped(key, settings.evaluation.sampling.max_tokens, why, _instead(key, most)))
    if settings.engine.name == "vllm":
        found += [
            Unmapped(f"engine.{key}", value, "no counterpart", f"no {key} in [engine]")
            for key, value in settings.engine.options.items()
            if key not in ENGINE
        ]
    for text in settings.observers:
        name, _, options = text.partition(":")
        given = [pair.partition("=")[0].strip() for pair in options.split(",") if pair]
        if name not in LOGGERS or not set(given) <= set(LOGGERS[name]):
            why = f"its loggers that are observers here: {', '.join(LOGGERS)}"
            found.append(Unmapped("observers", text, why, f"no observer {text}"))
    return found


def differences(settings: TrainRlSettings) -> list[str]:
    """What verl does in its own way whatever is set, a line each."""
    fixed, nodes = list(dict.fromkeys(FIXED.values())), settings.hardware.nodes
    speed = [
        f"{key} = {_shown(_value(settings, key))}: {why}" for key, why in SPEED.items() if _is_set(settings, key)
    ]
    return [
        *fixed,
        "the learning rate of step s in the warm-up is s / w, here (s + 1) / w: its first step moves nothing",
        "a rollout without a verdict has reward 0; here it is left out",
        "the order of problems and the seeds of rollouts are its own; its rollouts do not follow from the seed",
        "the newest checkpoints are kept, and not the best besides",
        *([f"Ray must run on all {nodes} machines, and each must see the run directory"] if nodes > 1 else []),
        *speed,
    ]


def _is_set(settings: TrainRlSettings, key: str) -> bool:
    return bool(_value(settings, key) != _value(TrainRlSettings(), key))


def _value(settings: TrainRlSettings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def _instead(key: str, value: Any) -> str:
    return f"no {key}" if value in (None, {}, ()) else f"{key}={_shown(value)}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
