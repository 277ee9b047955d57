"""The likeliest tokens of each, as the engines report them; the reference is a log-softmax of the raw logits."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from h1r_cli.errors import ConfigError
from h1r_cli.model.load import load_model
from h1r_cli.types import Finished, Request, Sampling, Tokens
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.engines.transformers_engine import transformers_engine
from h1r_plugins.engines.vllm.engine import VllmEngine, vllm_engine


def vllm_in_chunks(*, model):
    options = {"slots": 3, "max_model_len": 256, "batched_tokens": 32, "eager": True, "chunk_tokens": 1}
    return vllm_engine(model=model, dtype="float32", **options)


needs_vllm = [pytest.mark.slow, pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")]
ENGINES = [
    pytest.param(torch_engine, id="torch"),
    pytest.param(transformers_engine, id="transformers"),
    pytest.param(vllm_in_chunks, id="vllm", marks=needs_vllm),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tiny):
    with request.param(model=tiny) as entered:
        yield entered


PROMPTS = [(5, 6, 7), (9,), tuple(range(20, 117)), (5, 6, 8)]  # the third longer than a step of vLLM's takes
WARM = Sampling(temperature=0.7, top_p=0.9, max_tokens=12, min_tokens=3, ignore_eos=True)


def chunks(engine, requests):
    """Each request's chunks by its id."""
    found = {}
    for one in requests:
        engine.submit(one)
    for event in engine.events():
        if isinstance(event, Tokens):
            found.setdefault(event.request_id, []).append(event)
        else:
            assert isinstance(event, Finished)
    return found


def test_the_likeliest_tokens_are_those_of_the_raw_logits(engine, tiny):
    counts = (0, 3, 5, 400)  # of 314 tokens
    requests = [
        Request(f"{number}-{count}", prompt, replace(WARM, seed=number), top_logprobs=count)
        for number, prompt in enumerate(PROMPTS)
        for count in counts
    ]
    found = chunks(engine, requests)
    model = load_model(tiny)
    for one in requests:
        told = found[one.id]
        ids = [token for chunk in told for token in chunk.ids]
        tops = [top for chunk in told for top in chunk.top_logprobs]
        assert len(ids) == WARM.max_tokens
        if not one.top_logprobs:
            assert tops == []
            continue
        with torch.no_grad():
            text = torch.tensor([[*one.prompt_ids, *ids]])
            raw = model(text)[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)  # [T, V]
        wanted = raw.topk(min(one.top_logprobs, raw.shape[1]))
        assert [len(top) for top in tops] == [wanted.values.shape[1]] * len(ids)
        values = [[logprob for _, logprob in top] for top in tops]
        assert torch.tensor(values) == pytest.approx(wanted.values, abs=1e-4)
        for top, row in zip(tops, raw, strict=True):
            assert row[[token for token, _ in top]] == pytest.approx(torch.tensor([v for _, v in top]), abs=1e-4)


def test_fewer_than_none_are_refused(engine):
    with pytest.raises(ConfigError, match="asks for the -1 likeliest"):
        engine.submit(Request("a", (5,), WARM, top_logprobs=-1))


def test_tokens_come_in_chunks_of_the_size_that_is_asked_for(engine):
    [told] = chunks(engine, [Request("a", (5, 6), replace(WARM, max_tokens=20))]).values()
    sizes = [len(chunk.ids) for chunk in told]
    assert sum(sizes) == 20
    if isinstance(engine, VllmEngine):  # a step may bring two tokens where the reader was slow
        assert len(sizes) > 10
    else:
        assert sizes == [20]  # 32 at once
