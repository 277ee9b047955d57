"""Both engines report the confidences that they say they know, each by its one formula."""

import pytest
import torch

from h1r_cli.deepconf.confidence import (
    entropy_confidence,
    sampled_confidence,
    self_certainty_confidence,
    token_confidence,
)
from h1r_cli.generation import collect
from h1r_cli.model.load import load_model
from h1r_cli.types import Request, Sampling
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.engines.transformers_engine import transformers_engine

PROMPT = (5, 6, 7)
WARM = Sampling(temperature=0.85, top_p=0.9, max_tokens=12, seed=3, ignore_eos=True)


@pytest.mark.parametrize("factory", [torch_engine, transformers_engine])
def test_every_confidence_that_an_engine_offers_is_its_formula_of_the_raw_logits(factory, tiny):
    with factory(model=tiny) as engine:
        offered = tuple(sorted(engine.capabilities.confidences))
        engine.submit(Request("a", PROMPT, WARM, confidences=offered))
        [done] = collect(engine)
    with torch.no_grad():
        logits = load_model(tiny)(torch.tensor([[*PROMPT, *done.ids]]))[0, len(PROMPT) - 1 : -1]
    raw = logits.log_softmax(-1)  # [T, V]
    formulas = {
        "entropy": entropy_confidence(raw),
        "sampled": sampled_confidence(raw, torch.tensor(done.ids)),
        "self-certainty": self_certainty_confidence(raw),
        "top-k": token_confidence(raw, 20),
    }
    assert offered == tuple(formulas)
    for name, expected in formulas.items():
        assert done.confidence[name] == pytest.approx(expected.tolist(), abs=8)  # 2^-16 nat a unit
