"""Random small Falcon-H1 configs, and our model beside transformers' with the same weights."""

import torch
from hypothesis import strategies as st

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights

VOCAB = 41
multipliers = st.floats(0.25, 3.0)


@st.composite
def configs(draw):
    """Every switch both ways; multipliers far from 1; chunks that divide no length."""
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ssm_heads = groups * draw(st.integers(1, 4))
    return FalconH1Config(
        vocab_size=VOCAB,
        hidden_size=draw(st.sampled_from([24, 32])),
        intermediate_size=draw(st.sampled_from([20, 48])),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=kv_heads * draw(st.integers(1, 3)),
        num_key_value_heads=kv_heads,
        head_dim=draw(st.sampled_from([2, 6, 8])),
        attention_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        projectors_bias=draw(st.booleans()),
        mamba_proj_bias=draw(st.booleans()),
        mamba_conv_bias=draw(st.booleans()),
        mamba_d_ssm=ssm_heads * draw(st.sampled_from([3, 8])),
        mamba_n_heads=ssm_heads,
        mamba_n_groups=groups,
        mamba_d_state=draw(st.sampled_from([5, 16])),
        mamba_d_conv=draw(st.integers(2, 4)),
        mamba_chunk_size=draw(st.sampled_from([5, 7, 16, 256])),
        mamba_rms_norm=draw(st.booleans()),
        mamba_norm_before_gate=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
        pad_token_id=None,
        rope_parameters={"rope_theta": draw(st.sampled_from([1e2, 1e4, 1e11]))},
        lm_head_multiplier=draw(multipliers),
        embedding_multiplier=draw(multipliers),
        mlp_multipliers=(draw(multipliers), draw(multipliers)),
        key_multiplier=draw(multipliers),
        attention_out_multiplier=draw(multipliers),
        attention_in_multiplier=draw(multipliers),
        ssm_multipliers=tuple(draw(multipliers) for _ in range(5)),
        ssm_in_multiplier=draw(multipliers),
        ssm_out_multiplier=draw(multipliers),
    )


def our_model(config, seed=0):
    """Weights of every kind are away from 0 and 1, biases and norms too."""
    torch.set_num_threads(1)
    model = FalconH1ForCausalLM(config)
    init_weights(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def their_model(ours):
    """transformers' FalconH1ForCausalLM with our weights and our config.json."""
    from transformers import FalconH1Config as TheirConfig
    from transformers import FalconH1ForCausalLM as TheirModel

    theirs = TheirModel(TheirConfig.from_dict(ours.config.to_dict()))
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


def tokens(seed, *shape):
    """Random token ids."""
    return torch.randint(0, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def off(ours, theirs):
    """Largest difference over the largest value; 0 where both are 0 throughout."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
