"""config.json: what is read, refused, written, and how many parameters follow from it."""

import json
from pathlib import Path

import pytest
import torch
from falcon_pairs import configs
from hypothesis import given, settings

from h1r_cli.errors import ConfigError
from h1r_cli.model.config import FalconH1Config, parameter_count
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM

SEVEN = json.loads((Path(__file__).parents[1] / "golden/falcon_h1_sizes.json").read_text())["7b"]
examples = settings(max_examples=40, deadline=None, derandomize=True)


def on_meta(config):
    with torch.device("meta"):
        return FalconH1ForCausalLM(config)


def test_the_7b_config_has_the_parameters_that_its_weights_have():
    config = FalconH1Config.from_dict(SEVEN["config"])
    assert parameter_count(config) == SEVEN["parameters"]
    parameters = dict(on_meta(config).named_parameters())
    assert len(parameters) == SEVEN["tensors"]
    assert sum(p.numel() for p in parameters.values()) == SEVEN["parameters"]


@examples
@given(configs())
def test_parameters_are_counted_without_making_them(config):
    assert parameter_count(config) == sum(p.numel() for p in on_meta(config).parameters())


@examples
@given(configs())
def test_a_config_survives_json(config):
    written = json.loads(json.dumps(config.to_dict()))
    again = FalconH1Config.from_dict(written)
    assert again.to_dict() == config.to_dict()
    assert json.loads(json.dumps(again.to_dict())) == written


def test_the_defaults_are_those_of_transformers():
    from transformers import FalconH1Config as TheirConfig

    # mamba_d_head and rope_parameters are the two that transformers derives; head_dim it derives when it is used
    theirs, ours = TheirConfig().to_dict(), FalconH1Config.from_dict({}).to_dict()
    ours.pop("architectures")
    assert {key: value for key, value in ours.items() if theirs.get(key) != value} == {"head_dim": 128}


def test_unknown_keys_are_kept():
    written = FalconH1Config.from_dict(
        {"architectures": ["Mine"], "dtype": "bfloat16", "quantization_config": {"bits": 8}}
    ).to_dict()
    assert written["architectures"] == ["Mine"]
    assert written["dtype"] == "bfloat16"
    assert written["quantization_config"] == {"bits": 8}


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 1e11, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 1e11, "rope_type": "default"}},
        {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 1e11}},
    ],
)
def test_the_base_of_the_rotation_is_read_in_both_spellings(keys):
    config = FalconH1Config.from_dict(keys)
    assert config.rope_theta == 1e11
    assert config.to_dict()["rope_parameters"] == {"rope_type": "default", "rope_theta": 1e11}


def test_infinity_is_read_as_transformers_writes_it():
    config = FalconH1Config.from_dict({"time_step_limit": [0.5, {"__float__": "Infinity"}]})
    assert config.time_step_limit == (0.5, float("inf"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"num_attention_heads": 5, "num_key_value_heads": 2},
            "num_key_value_heads 2, which does not divide num_attention_heads 5",
        ),
        (
            {"hidden_size": 10, "num_attention_heads": 4, "num_key_value_heads": 4},
            "num_attention_heads 4, which does not divide hidden_size 10",
        ),
        ({"mamba_d_ssm": 100, "mamba_n_heads": 8}, "mamba_n_heads 8, which does not divide mamba_d_ssm 100"),
        ({"mamba_n_groups": 3}, "mamba_n_groups 3, which does not divide mamba_n_heads 128"),
        ({"mamba_d_head": 9}, "mamba_d_head 9, but mamba_d_ssm / mamba_n_heads is 8"),
        ({"head_dim": 7}, "an odd head_dim 7"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type 'linear'"),
        ({"ssm_multipliers": [1.0, 2.0]}, "2 ssm_multipliers"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(keys, message):
    with pytest.raises(ConfigError) as error:
        FalconH1Config.from_dict(keys)
    assert error.value.what == f"the model's config has {message}"


def test_another_architecture_is_refused():
    with pytest.raises(ConfigError, match="model_type 'llama'\n  known: falcon_h1"):
        FalconH1Config.from_dict({"model_type": "llama"})


def test_a_directory_without_a_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        FalconH1Config.from_file(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        FalconH1Config.from_file(tmp_path)
