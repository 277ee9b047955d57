"""Weights to and from a directory, with transformers as the other reader and writer."""

import json

import pytest
import torch
from falcon_pairs import VOCAB, off, our_model, their_model, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
from h1r_cli.model.weights import load_weights, read_weights, save


def small(**keys):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    mixer = {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_state": 8, "mamba_rms_norm": True}
    return FalconH1Config.from_dict({"vocab_size": VOCAB, "num_key_value_heads": 1} | sizes | mixer | keys)


def loaded(directory):
    model = FalconH1ForCausalLM(FalconH1Config.from_file(directory))
    load_weights(model, read_weights(directory))
    return model.eval()


@pytest.mark.parametrize("keys", [{}, {"tie_word_embeddings": True}, {"time_step_limit": [0.01, 0.4]}])
def test_what_we_save_loads_in_transformers_with_equal_logits(tmp_path, keys):
    from transformers import FalconH1ForCausalLM as TheirModel

    model = our_model(small(rope_theta=1e11, **keys))
    save(model, tmp_path)
    theirs = TheirModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert off(model(tokens(1, 1, 20)), theirs(tokens(1, 1, 20)).logits) < 1e-5
        assert torch.equal(loaded(tmp_path)(tokens(1, 1, 20)), model(tokens(1, 1, 20)))


@pytest.mark.parametrize("shard", ["50GB", "5KB"])
@pytest.mark.parametrize("tied", [False, True])
def test_what_transformers_saves_loads_here(tmp_path, shard, tied):
    model = our_model(small(tie_word_embeddings=tied))
    their_model(model).save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "50GB")
    again = loaded(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_a_file_in_bfloat16_is_half_as_large_and_says_so(tmp_path):
    model = our_model(small())
    save(model, tmp_path / "full")
    save(model, tmp_path / "half", torch.bfloat16)
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert torch.equal(loaded(tmp_path / "half").lm_head.weight, model.lm_head.weight.bfloat16().float())


def test_saving_again_replaces_the_files_and_leaves_no_other(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    for seed in (0, 1):
        save(our_model(small(), seed), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert torch.equal(loaded(tmp_path).lm_head.weight, our_model(small(), 1).lm_head.weight)


def test_weights_of_another_model_are_refused_by_name():
    model = our_model(small())
    state = dict(model.named_parameters())
    state["model.extra.weight"] = state.pop("model.final_layernorm.weight")
    state["lm_head.weight"] = torch.zeros(3, 16)
    with pytest.raises(DataError) as error:
        load_weights(model, state.items())
    assert error.value.what == (
        "the weights are not those of this config: 1 missing: model.final_layernorm.weight; "
        "1 unknown: model.extra.weight; 1 of another shape: lm_head.weight [3, 16] instead of [41, 16]"
    )


def test_a_head_that_comes_to_an_untied_model_is_needed_and_to_a_tied_one_is_passed_over():
    tied, untied = our_model(small(tie_word_embeddings=True)), our_model(small())
    load_weights(tied, untied.named_parameters())
    assert torch.equal(tied.lm_head.weight, untied.model.embed_tokens.weight)
    with pytest.raises(DataError, match=r"1 missing: lm_head\.weight"):
        load_weights(untied, tied.named_parameters())


def test_a_directory_without_weights_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has no weights\n  known: model\.safetensors, or model\.safetensors\.index"):
        list(read_weights(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(DataError, match=r"names weights in gone\.safetensors, which is not there"):
        list(read_weights(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(DataError, match="is not a safetensors file"):
        list(read_weights(tmp_path))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_weights_from_scratch_follow_the_seed_and_give_steps_and_decays_of_mamba_2(seed):
    first, second = (FalconH1ForCausalLM(small()) for _ in range(2))
    init_weights(first, seed)
    init_weights(second, seed)
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name
    mixer = first.model.layers[0].mamba
    step, rate = torch.nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 0.0009 < step.min() <= step.max() < 0.11
    assert 0.99 < rate.min() <= rate.max() < 16.01
