"""Other causal LMs behind the calls of our own: equal to transformers, isolated, or refused."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.model.documents import Documents
from h1r_cli.model.load import load_model, new_model, save_model

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture
def llama(tmp_path):
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_llama_gives_transformers_logits_for_each_packed_document(llama):
    model = load_model(llama)
    texts = [torch.randint(0, 64, (length,)) for length in (5, 9, 1)]
    with torch.no_grad():
        packed = model.logits(model.hidden(torch.cat(texts), Documents.from_lengths([5, 9, 1])))
        alone = [AutoModelForCausalLM.from_pretrained(llama)(input_ids=text[None]).logits[0] for text in texts]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_what_is_saved_of_it_loads_again(llama, tmp_path):
    model = load_model(llama)
    (llama / "tokenizer_config.json").write_text("{}")
    save_model(model, llama, tmp_path / "copy")
    copy = load_model(tmp_path / "copy")
    for name, tensor in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor), name
    assert (tmp_path / "copy" / "tokenizer_config.json").exists()


def test_a_head_that_scales_its_logits_is_refused(tmp_path):
    GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=4.0)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="logits of GraniteForCausalLM are not its head applied"):
        load_model(tmp_path)


def test_only_a_falcon_h1_is_made_from_scratch(llama, tmp_path):
    with pytest.raises(ConfigError, match="is no Falcon-H1"):
        new_model(llama, seed=0)
    with pytest.raises(DataError, match=r"has no config\.json"):
        new_model(tmp_path, seed=0)
