"""A model's directory as a module and a tokenizer: as transformers reads them, and without what is slow to import."""

import subprocess
import sys

import pytest
import torch

from h1r_cli.model.load import load_model
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.model.weights import read_weights

TEXT = "Left to right, modulo 97: 3+4*9-5 <think>\né 漢字</think><|im_end|>"


def test_the_tokenizer_is_the_one_that_transformers_would_choose(tiny):
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(tiny).hub, AutoTokenizer.from_pretrained(str(tiny))
    assert type(ours) is type(theirs)
    assert ours(TEXT).input_ids == theirs(TEXT).input_ids
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template


def test_a_model_with_its_tokenizer_is_loaded_without_the_slow_parts_of_torch_and_transformers(tiny):
    code = (
        "import sys; from pathlib import Path; from h1r_cli.model import load, tokenizer;"
        f"load.load_model(Path({str(tiny)!r})); tokenizer.load_tokenizer(Path({str(tiny)!r}));"
        "print([name for name in ('torch._dynamo', 'transformers.models.auto') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_weight_is_the_file_s_and_of_the_type_that_is_asked_for(tiny, dtype):
    model = load_model(tiny, dtype=dtype)
    wanted = getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    own = dict(model.named_parameters())
    stored = dict(read_weights(tiny))
    assert own.keys() <= stored.keys()
    assert all(torch.equal(own[name], stored[name].to(wanted)) for name in own)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == model.config.tie_word_embeddings
    assert torch.get_default_dtype() == torch.float32
