"""`h1r doctor`: what is true of the machine that the test runs on."""

from __future__ import annotations

import json
import platform

import pytest
import torch


def test_the_findings_are_those_of_this_machine(h1r):
    found = json.loads(h1r("doctor", "--json").stdout)
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert len(found["cuda"]) == torch.cuda.device_count()
    assert found["kernels"]["ssm_scan"].startswith("torch: ")
    assert found["todo"] == []
    assert {"mamba", "test"} <= found["extras"].keys()
    assert found["extras"]["mamba"].keys() == {"mamba-ssm", "causal-conv1d"}
    assert found["extras"]["test"]["pytest"] == pytest.__version__


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without a CUDA device")
def test_a_profile_for_another_machine_tells_what_is_missing_and_still_exits_with_0(h1r):
    told = h1r("doctor", "--profile", "h100x1").stdout
    assert "kernels with profile h100x1" in told
    assert "to do: profile h100x1 computes on cuda and torch sees none" in told
