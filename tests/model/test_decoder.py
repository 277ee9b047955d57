"""Decoding step by step against the full forward pass."""

import pytest
import torch
from falcon_pairs import VOCAB, configs, off, our_model, their_model, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h1r_cli.errors import H1RError
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.decode import Decoder

LOGITS_OFF = 1e-5
DRAWN_LOGITS_OFF = 1e-4  # of configs at random: a gated norm over a few channels near 0 magnifies rounding
examples = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SMALL = FalconH1Config(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    mamba_d_ssm=16,
    mamba_n_heads=2,
    mamba_d_state=8,
)


def decoded(decoder, texts, starts, steps):
    """[rows, steps, V]: the logits after each of `steps` tokens of each text, from its prompt on."""
    columns = range(steps)
    found = [decoder.step(torch.stack([text[s + i] for text, s in zip(texts, starts, strict=True)])) for i in columns]
    return torch.stack(found, 1)


@examples
@given(configs(), st.lists(st.integers(1, 30), min_size=1, max_size=4), st.booleans())
def test_prefill_and_steps_give_the_logits_of_the_full_pass(config, prompts, limited):
    if limited:
        config = FalconH1Config.from_dict(config.to_dict() | {"time_step_limit": [0.01, 0.4]})
    model, steps = our_model(config), 12
    texts = [tokens(seed, length + steps) for seed, length in enumerate(prompts)]
    with torch.no_grad():
        full = [model(text[None])[0] for text in texts]
    first, states = model.prefill([text[:n].tolist() for text, n in zip(texts, prompts, strict=True)])
    decoder = Decoder(model, slots=4)
    assert [decoder.admit(state) for state in states] == list(range(len(prompts)))
    stepped = decoded(decoder, texts, prompts, steps)
    for row, (length, logits) in enumerate(zip(prompts, full, strict=True)):
        assert off(first[row], logits[length - 1]) < LOGITS_OFF
        assert off(stepped[row], logits[length:]) < DRAWN_LOGITS_OFF


def test_steps_give_the_logits_of_transformers():
    model = our_model(SMALL)
    text = tokens(1, 40)
    _, [state] = model.prefill([text[:9].tolist()])
    decoder = Decoder(model, slots=1)
    decoder.admit(state)
    with torch.no_grad():
        expected = their_model(model)(text[None]).logits[0, 9:]
    assert off(decoded(decoder, [text], [9], 31)[0], expected) < LOGITS_OFF


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=10, max_size=60))
def test_rows_that_come_and_go_at_any_step_decode_as_if_alone(events):
    """Each event admits (1), removes (2) or steps; the caller's map follows the row that moves."""
    model = our_model(SMALL)
    texts = [tokens(seed, 80) for seed in range(4)]
    prompt_lengths = [1, 2, 5, 17]
    with torch.no_grad():
        full = model(torch.stack(texts))
    _, states = model.prefill([text[:n].tolist() for text, n in zip(texts, prompt_lengths, strict=True)])
    decoder, rows = Decoder(model, slots=3), []  # rows: [text, tokens so far]
    for kind, which in events:
        if kind == 1 and len(rows) < 3:
            assert decoder.admit(states[which]) == len(rows)
            rows.append([which, prompt_lengths[which]])
        elif kind == 2 and rows:
            row = which % len(rows)
            decoder.remove(row)
            last = rows.pop()
            if row < len(rows):
                rows[row] = last
        elif rows and max(so_far for _, so_far in rows) < 80:
            logits = decoder.step(torch.stack([texts[text][so_far] for text, so_far in rows]))
            for found, (text, so_far) in zip(logits, rows, strict=True):
                assert off(found, full[text, so_far]) < LOGITS_OFF
            rows = [[text, so_far + 1] for text, so_far in rows]
        assert decoder.active == len(rows)


def test_one_prompt_forks_into_many_rows():
    model = our_model(SMALL)
    prompt = tokens(1, 7).tolist()
    _, [state] = model.prefill([prompt])
    decoder = Decoder(model, slots=2)
    decoder.admit(state)
    decoder.admit(state)
    logits = decoder.step(torch.tensor([3, 8]))
    with torch.no_grad():
        expected = torch.stack([model(torch.tensor([[*prompt, last]]))[0, -1] for last in (3, 8)])
    assert off(logits, expected) < LOGITS_OFF


def test_the_cache_grows_past_its_first_room():
    model = our_model(SMALL)
    text = tokens(1, 600)
    _, [state] = model.prefill([text[:250].tolist()])
    decoder = Decoder(model, slots=1)
    decoder.admit(state)
    stepped = decoded(decoder, [text], [250], 350)[0]
    with torch.no_grad():
        assert off(stepped, model(text[None])[0, 250:]) < LOGITS_OFF


def test_refresh_takes_the_weights_that_the_model_has_now():
    model = our_model(SMALL)
    decoder = Decoder(model, slots=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.1
    decoder.refresh()
    prompt = tokens(1, 5)
    _, [state] = model.prefill([prompt[:4].tolist()])
    decoder.admit(state)
    with torch.no_grad():
        expected = model(prompt[None])[0, -1:]
    assert off(decoder.step(prompt[4:]), expected) < LOGITS_OFF


def test_bfloat16_decodes_near_its_full_pass():
    model = our_model(SMALL).bfloat16()
    text = tokens(1, 30)
    _, [state] = model.prefill([text[:5].tolist()])
    decoder = Decoder(model, slots=1)
    decoder.admit(state)
    with torch.no_grad():
        expected = model.float()(text[None])[0, 5:]
    assert off(decoded(decoder, [text], [5], 25)[0], expected) < 0.05


def test_a_row_too_many_is_an_error():
    model = our_model(SMALL)
    _, [state] = model.prefill([[1, 2]])
    decoder = Decoder(model, slots=1)
    decoder.admit(state)
    with pytest.raises(H1RError, match="of 1 slots 1 are decoding, and 1 are asked for\n  fix: remove rows, or make"):
        decoder.admit(state)


def test_copies_of_a_state_are_rows_that_decode_alike():
    model = our_model(SMALL)
    _, [short, long] = model.prefill([[1, 2], [3, 4, 5, 6, 7, 8, 9]])
    together, apart = Decoder(model, slots=5), Decoder(model, slots=5)
    assert (together.admit(long), together.admit(short, 3)) == (0, 1)
    for state in (long, short, short, short):
        apart.admit(state)
    for column in tokens(0, 12).view(3, 4):
        assert torch.equal(together.step(column), apart.step(column))
    with pytest.raises(H1RError, match="of 5 slots 4 are decoding, and 2 are asked for"):
        together.admit(short, 2)
