"""Our settings in verl's words, and what it has no words for."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from pydantic import BaseModel
from verl_recipe import FILES, RECIPE, resolved

from h1r_cli.commands import train_rl_verl
from h1r_cli.config import known_keys
from h1r_cli.errors import ConfigError
from h1r_cli.rl import verl, verl_limits
from h1r_cli.settings import TrainRlSettings


def told(**changes):
    return verl.overrides(resolved(RECIPE, changes).settings, FILES)


def refused(*layers):
    return {one.setting: one.instead for one in verl_limits.unmapped(resolved(*layers).settings)}


# --- the table ----------------------------------------------------------------------------------------------


def test_the_published_recipe_in_verls_words():
    words = verl.overrides(TrainRlSettings(), FILES)
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    assert (words[f"{actor}.clip_ratio_low"], words[f"{actor}.clip_ratio_high"]) == (0.2, 0.28)
    assert words[f"{actor}.optim.lr"] == 2e-6
    assert words[f"{actor}.optim.lr_warmup_steps"] == 10
    assert words[f"{actor}.loss_agg_mode"] == "seq-mean-token-mean"
    assert words["algorithm.rollout_correction.rollout_is"] == "token"
    assert words["algorithm.rollout_correction.rollout_is_threshold"] == 2.0
    assert (words[f"{rollout}.n"], words["data.train_batch_size"]) == (16, 128)
    assert (words[f"{rollout}.temperature"], words[f"{rollout}.top_p"], words[f"{rollout}.top_k"]) == (0.85, 1.0, -1)
    assert words["data.max_response_length"] == 49_152


def test_a_micro_batch_holds_the_longest_rollout():
    key = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    assert told(parallel={"micro_batch_tokens": 10})[key] == 100 + 128
    assert told(parallel={"micro_batch_tokens": 999})[key] == 999


def test_the_epochs_do_not_end_before_the_steps():
    # 40 problems in batches of 16 are 2 steps an epoch, and verl counts from epoch (step - 1) // 2
    words = verl.overrides(resolved(RECIPE).settings, verl.Files(*([Path("/x")] * 5), problems=40, prompt_tokens=9))
    assert words["trainer.total_epochs"] > (60 - 1) // 2


def test_updates_of_a_batch_are_its_mini_batches():
    assert told(grpo={"updates_per_batch": 4})["actor_rollout_ref.actor.ppo_mini_batch_size"] == 4
    assert "grpo.updates_per_batch" in refused(RECIPE, {"grpo": {"updates_per_batch": 3}})


def test_the_defaults_are_refused_all_at_once_with_what_to_set():
    assert refused({}) == {
        "hardware.device": "hardware.device=cuda",
        "engine.name": "engine.name=vllm",
        "grpo.nll_coef": "grpo.nll_coef=0",
        "supply.cache_groups": "supply.cache_groups=0",
    }


def test_what_the_refusal_says_to_set_is_not_refused():
    with pytest.raises(ConfigError) as caught:
        train_rl_verl.refuse_unmapped(resolved({"observers": ["other:x=1"]}))
    sets, _, words = caught.value.fix.partition(" and ")
    assert words == "no observer other:x=1, or train with --backend h1r"
    sets = [word for word in shlex.split(sets) if word != "--set"]
    tables = {}
    for text in sets:
        key, _, value = text.partition("=")
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = json.loads(value) if value[0].isdigit() else value
    assert refused({}, tables) == {}
    assert "grpo.nll_coef = 0.1" in caught.value.what
    assert "grpo.nll_coef by default" in caught.value.known


def test_a_recipe_that_verl_can_do_is_not_refused():
    assert refused(RECIPE) == {}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"supply": {"filling": "reject"}}, "supply.filling"),
        ({"grpo": {"overlong": "mask"}}, "grpo.overlong"),
        ({"watchdog": {"factor": 3.0}}, "watchdog.factor"),
        ({"stage": [{"steps": 3}, {}]}, "stage"),
        ({"parallel": {"sequence_parallel": 2}}, "parallel.sequence_parallel"),
        ({"engine": {"quantization": "fp8"}}, "engine.quantization"),
        ({"observers": ["wandb:colour=red"]}, "observers"),
        ({"evaluation": {"sampling": {"max_tokens": 64}}}, "evaluation.sampling.max_tokens"),
        ({"global_batch": 5, "group_size": 3}, "global_batch"),
        ({"learning_rate_multipliers": {"norm": 2.0}}, "learning_rate_multipliers"),
    ],
)
def test_what_verl_cannot_do_is_refused(changes, setting):
    assert list(refused(RECIPE, changes)) == [setting]


def other(value, info):
    """Another value of a setting, of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if not isinstance(value, float) else value / 2 or 0.5
    choices = [one for one in getattr(info.annotation, "__args__", ()) if isinstance(one, str) and one != value]
    return choices[0] if choices else None


def leaves(model, prefix=""):
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel) and name not in ("engine", "reward"):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", other(value, info)


CHANGED = dict(leaves(resolved(RECIPE).settings))
BY_HAND = {  # those whose other values are of no plain kind
    "evaluation.sampling": {"temperature": 0.0},
    "learning_rate_multipliers": {"norm": 2.0},
    "supply.generation_groups": 3,
    "engine": {"name": "vllm", "slots": 5},
    "kernels.liger": ["rope"],
}


ASIDE = (*verl_limits.OURS, *verl_limits.DESCRIPTIONS, *verl_limits.LAUNCHERS)
ONE_VALUE = ("rollout.min_tokens", "rollout.top_p", "rollout.top_k")


@pytest.mark.parametrize(
    "key", [key for key in sorted(CHANGED) if key not in ONE_VALUE and not key.startswith(ASIDE)]
)
def test_no_setting_is_dropped_silently(key):
    """Changed, it shows in what verl is told, or in what is refused or told the user."""
    nested = BY_HAND.get(key, CHANGED[key])
    assert nested is not None, "give it another value in BY_HAND"
    for name in reversed(key.split(".")):
        nested = {name: nested}
    penalty = {"grpo": {"overlong": "penalty"}}
    before, after = resolved(RECIPE, penalty).settings, resolved(RECIPE, penalty, nested).settings
    assert before != after
    shown = [
        (verl.overrides(one, FILES), verl_limits.unmapped(one), verl_limits.differences(one))
        for one in (before, after)
    ]
    assert shown[0] != shown[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"top_p": 0.5},
        {"top_k": 3},
        {"max_tokens": 64},
        {"min_tokens": 3},
        {"ignore_eos": True},
        {"stop_token_ids": [3]},
    ],
)
def test_nothing_of_the_evaluations_sampling_is_dropped(changed):
    before, after = resolved(RECIPE).settings, resolved(RECIPE, {"evaluation": {"sampling": changed}}).settings
    assert (verl.overrides(before, FILES), refused(RECIPE)) != (
        verl.overrides(after, FILES),
        {one.setting: one.instead for one in verl_limits.unmapped(after)},
    )


def test_observers_are_loggers():
    both = verl.Files(*[Path("/x")] * 5, problems=1, prompt_tokens=1, observers={"wandb": {"entity": "us"}})
    assert verl.overrides(TrainRlSettings(), both)["trainer.logger"] == ["console", "file", "wandb"]
    assert verl.environment(both)["WANDB_ENTITY"] == "us"


def test_every_setting_is_among_those_that_are_changed():
    known = {
        f"{table}.sampling" if rest else table
        for table, _, rest in (k.partition(".sampling.") for k in known_keys(TrainRlSettings))
    }
    assert known - CHANGED.keys() == set()
