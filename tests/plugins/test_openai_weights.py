"""Weights for servers that cannot take them; tests/cli/test_train_rl_servers.py has one that can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from completions_peer import peers

from h1r_cli.errors import EngineError
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
