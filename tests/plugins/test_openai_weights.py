"""Weights for servers that cannot take them; tests/cli/test_train_rl_servers.py has one that can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from completions_peer import peers

from h1r_cli.errors import ConfigError, EngineError
from h1r_cli.generation import collect
from h1r_cli.types import Request, Sampling
from h1r_plugins.engines.openai.engine import openai_engine

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"  # for its tokenizer


def test_a_server_that_takes_no_weights_is_named_with_how_to_start_it(tmp_path):
    with (
        peers() as [peer],
        openai_engine(model=NANO, base_urls=peer.url, weights_dir=tmp_path) as one,
        pytest.raises(EngineError) as error,
    ):
        one.load_weights([("a", torch.zeros(2))], version=1)
    assert f"the server {peer.url.removesuffix('/v1')} has no method h1r_load" in str(error.value)
    assert "--worker-extension-cls" in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_weights_are_refused_while_a_request_is_in_flight_whose_tokens_then_come(tmp_path):
    request = Request("a", (5, 6, 7), Sampling(temperature=1.0, top_p=1.0, max_tokens=12, ignore_eos=True))
    with peers() as [peer], openai_engine(model=NANO, base_urls=peer.url, weights_dir=tmp_path) as one:
        one.submit(request)
        with pytest.raises(ConfigError, match="between requests"):
            one.load_weights([("a", torch.zeros(2))], version=1)
        [done] = collect(one)
        assert len(done.ids) == 12
