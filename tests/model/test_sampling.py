"""Drawing: the inverse of the cumulative distribution, by hand and by property."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.model.sampling import Uniforms, draw
from h1r_cli.types import Sampling

PLAIN = Sampling(temperature=1.0, top_p=1.0)


def one(probs, sampling, uniform):
    ids, logprobs = draw(torch.tensor([probs]).log(), [sampling], [uniform])
    return ids.item(), math.exp(logprobs.item())


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2), (0.999, 2)])
def test_the_uniform_number_picks_its_share_of_the_distribution(uniform, token):
    # cumulative: 0.5, 0.8, 1.0
    assert one([0.5, 0.3, 0.2], PLAIN, uniform) == (token, pytest.approx([0.5, 0.3, 0.2][token]))


def test_temperature_divides_the_logits_and_the_logprob_is_of_what_was_sampled():
    # p^(1/0.5) = (0.25, 0.09, 0.04) / 0.38
    assert one([0.5, 0.3, 0.2], Sampling(temperature=0.5, top_p=1.0), 0.7) == (1, pytest.approx(0.09 / 0.38))
    assert one([0.5, 0.3, 0.2], Sampling(temperature=0.5, top_p=1.0), 0.6) == (0, pytest.approx(0.25 / 0.38))


def test_the_nucleus_keeps_the_likeliest_until_their_mass_reaches_top_p():
    # sorted 0.5, 0.3, 0.2: before the third stands 0.8, which is not below 0.75, so two are kept, renormalised
    nucleus = Sampling(temperature=1.0, top_p=0.75)
    assert one([0.2, 0.5, 0.3], nucleus, 0.99) == (2, pytest.approx(0.3 / 0.8))
    assert one([0.2, 0.5, 0.3], nucleus, 0.1) == (1, pytest.approx(0.5 / 0.8))


def test_a_nucleus_smaller_than_the_likeliest_token_keeps_that_token():
    assert one([0.2, 0.5, 0.3], Sampling(temperature=1.0, top_p=0.1), 0.99) == (1, pytest.approx(1.0))


def test_top_k_is_taken_before_the_nucleus():
    # top-2: 0.5, 0.3 -> 0.625, 0.375; top-p 0.6 then keeps the first alone
    assert one([0.2, 0.5, 0.3], Sampling(temperature=1.0, top_k=2, top_p=0.6), 0.99) == (1, pytest.approx(1.0))
    assert one([0.2, 0.5, 0.3], Sampling(temperature=1.0, top_k=2, top_p=1.0), 0.99) == (2, pytest.approx(0.375))


def test_temperature_zero_takes_the_likeliest_with_certainty():
    assert one([0.2, 0.5, 0.3], Sampling(temperature=0.0), 0.99) == (1, 1.0)


def test_an_impossible_token_never_comes_not_even_at_the_far_end():
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf]])
    for sampling in (PLAIN, Sampling(temperature=1.0, top_p=0.9)):
        ids, logprobs = draw(logits, [sampling], [math.nextafter(1.0, 0.0)])
        assert ids.item() in (0, 2)
        assert logprobs.isfinite().all()


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.6, 1.0, 1.5]),
    top_p=st.sampled_from([0.3, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 3]),
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(SAMPLINGS, st.floats(0, 1, exclude_max=True)), min_size=1, max_size=6), st.integers(0, 99))
def test_a_row_does_not_see_its_neighbours(rows, seed):
    logits = 3 * torch.randn(len(rows), 11, generator=torch.Generator().manual_seed(seed))
    ids, logprobs = draw(logits, [sampling for sampling, _ in rows], [uniform for _, uniform in rows])
    for row, (sampling, uniform) in enumerate(rows):
        alone, its_logprob = draw(logits[row : row + 1], [sampling], [uniform])
        assert ids[row] == alone[0]
        assert logprobs[row] == its_logprob[0]


def test_a_seed_gives_the_same_numbers_again_across_blocks():
    first, again, other = Uniforms(7), Uniforms(7), Uniforms(8)
    numbers = [first.next() for _ in range(600)]
    assert numbers == [again.next() for _ in range(600)]
    assert numbers != [other.next() for _ in range(600)]
    assert len(set(numbers)) == 600
    assert all(0 <= number < 1 for number in numbers)
