"""The model against transformers' FalconH1, and against itself under packing and padding."""

import torch
from falcon_pairs import configs, off, our_model, their_model, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LOGITS_OFF, GRADIENT_OFF = 1e-5, 1e-4
examples = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
lengths = st.lists(st.integers(1, 40), min_size=2, max_size=5)


@examples
@given(configs(), st.integers(1, 3), st.integers(2, 70))  # of length 1 its gated norm mixes rows
def test_logits_are_those_of_transformers(config, rows, length):
    ours = our_model(config)
    ids = tokens(1, rows, length)
    with torch.no_grad():
        assert off(ours(ids), their_model(ours)(ids).logits) < LOGITS_OFF


@examples
@given(configs(), st.integers(2, 40))
def test_gradients_are_those_of_transformers(config, length):
    ours = our_model(config)
    theirs = their_model(ours)
    ids = tokens(2, 2, length)
    slope = torch.randn(2, length, config.vocab_size, generator=torch.Generator().manual_seed(3))
    for logits in (ours(ids), theirs(ids).logits):
        (logits * slope).sum().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert off(parameter.grad, expected[name]) < GRADIENT_OFF, name


@examples
@given(configs(), lengths)
def test_a_packed_row_gives_each_document_the_logits_that_it_has_alone(config, lengths):
    model = our_model(config)
    parts = [tokens(seed, 1, length) for seed, length in enumerate(lengths)]
    numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    with torch.no_grad():
        packed = torch.split(model(torch.cat(parts, 1), seq_idx=numbers), lengths, 1)
        for alone, part in zip(map(model, parts), packed, strict=True):
            assert off(part, alone) < LOGITS_OFF


@examples
@given(configs(), st.lists(st.integers(2, 40), min_size=2, max_size=5))  # one token alone asks nothing of q and k
def test_packing_leaves_gradients_as_they_are(config, lengths):
    model = our_model(config)
    parts = [tokens(seed, 1, length) for seed, length in enumerate(lengths)]
    numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    slope = torch.randn(1, sum(lengths), config.vocab_size, generator=torch.Generator().manual_seed(3))
    for part, weight in zip(parts, torch.split(slope, lengths, 1), strict=True):
        (model(part) * weight).sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    (model(torch.cat(parts, 1), seq_idx=numbers) * slope).sum().backward()
    for name, parameter in model.named_parameters():
        assert off(parameter.grad, expected[name]) < GRADIENT_OFF, name


@examples
@given(configs(), lengths, st.booleans())
def test_a_padded_batch_gives_each_row_the_logits_that_it_has_alone(config, lengths, left):
    model = our_model(config)
    parts = [tokens(seed, length) for seed, length in enumerate(lengths)]
    width = max(lengths) + 1
    ids, mask = torch.full((len(parts), width), 7), torch.zeros(len(parts), width, dtype=torch.int64)
    for row, part in enumerate(parts):
        place = slice(width - len(part), width) if left else slice(0, len(part))
        ids[row, place], mask[row, place] = part, 1
    with torch.no_grad():
        logits = model(ids, attention_mask=mask)
        assert not logits[mask == 0].any()
        for row, part in enumerate(parts):
            assert off(logits[row][mask[row] == 1], model(part[None])[0]) < LOGITS_OFF


@examples
@given(configs(), lengths, st.data())
def test_a_changed_token_leaves_other_documents_untouched_to_the_bit(config, lengths, data):
    model = our_model(config)
    numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    ids = tokens(4, 1, sum(lengths))
    place = data.draw(st.integers(0, sum(lengths) - 1))
    changed = ids.clone()
    changed[0, place] = (ids[0, place] + 1) % config.vocab_size
    own = numbers[0] == numbers[0, place]
    with torch.no_grad():
        before, after = model(ids, seq_idx=numbers)[0], model(changed, seq_idx=numbers)[0]
    assert torch.equal(before[~own], after[~own])
    assert not torch.equal(before[own], after[own])


@examples
@given(configs(), st.integers(1, 60))
def test_no_token_sees_a_later_one(config, length):
    model = our_model(config)
    ids = tokens(5, 1, length)
    with torch.no_grad():
        longer = model(torch.cat([ids, tokens(6, 1, 9)], 1))[:, :length]
        assert off(longer, model(ids)) < LOGITS_OFF


def test_a_row_may_hold_padding_between_its_documents():
    from h1r_cli.model.config import FalconH1Config

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = FalconH1Config(vocab_size=41, num_key_value_heads=1, mamba_d_ssm=16, mamba_n_heads=2, **sizes)
    model = our_model(config)
    ids = tokens(7, 2, 6)
    numbers = torch.tensor([[-1, 0, 0, -1, 4, 4], [4, 4, 4, 4, 4, -1]])  # the 4 of row 1 is not the 4 of row 0
    with torch.no_grad():
        logits = model(ids, seq_idx=numbers)
        assert off(logits[0, 1:3], model(ids[:1, 1:3])[0]) < LOGITS_OFF
        assert off(logits[0, 4:], model(ids[:1, 4:])[0]) < LOGITS_OFF
        assert off(logits[1, :5], model(ids[1:, :5])[0]) < LOGITS_OFF
        assert not logits[numbers < 0].any()
