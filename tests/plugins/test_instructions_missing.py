"""Reward `instructions` where its extra is not installed."""

from importlib.util import find_spec

import pytest

from h1r_cli.errors import MissingExtraError
from h1r_plugins.rewards.instructions import instructions


@pytest.mark.skipif(find_spec("if_verifiable") is not None, reason="the extra instructions is installed")
def test_without_its_extra_the_reward_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"needs if-verifiable, .*\n  fix: pip install 'h1r\[instructions\]'"):
        instructions()
