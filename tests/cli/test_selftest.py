"""`h1r selftest` with two real processes, and that its checks can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from h1r_cli.model.documents import Documents
from h1r_cli.model.load import load_model
from h1r_cli.selftest.alone import packing
from h1r_cli.selftest.check import Check, relative

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"


@pytest.mark.slow
def test_every_check_passes_with_two_processes(tmp_path):
    command = [sys.executable, "-m", "h1r_cli", "selftest", "--processes", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all 15 checks passed\n")
    checks = {check["name"]: check for check in json.loads((tmp_path / "selftest.json").read_text())}
    spread = [name for name in checks if name.startswith("ranks: ")]
    assert len(spread) == 8, "2 ways to spread over two ranks, each with ZeRO 0 to 3"
    assert checks["packing: a document among other documents"]["tolerance"] == 0
    assert checks["resume: weights, moments and losses of a stopped run"]["tolerance"] == 0
    assert all(checks[name]["tolerance"] <= 1e-5 for name in spread)


class Leaking(torch.nn.Module):
    """A model that takes a packed row for one document, as a remove-padding path without seq_idx does."""

    def __init__(self):
        super().__init__()
        self.inner = load_model(NANO)
        self.vocabulary = self.inner.vocabulary

    def hidden(self, token_ids, documents):
        return self.inner.hidden(token_ids, Documents.from_lengths([len(token_ids)]))

    def logits(self, hidden):
        return self.inner.logits(hidden)


def test_a_model_whose_documents_see_each_other_fails_each_check_of_packing():
    leaked, loss, gradient = packing(Leaking, torch.device("cpu"))
    assert not leaked.passed
    assert not loss.passed
    assert not gradient.passed
    assert leaked.line().startswith("  FAIL  packing: a document among other documents: ")


def test_a_figure_that_is_no_number_fails_and_one_that_could_not_be_had_does_not():
    assert not Check("x", float("nan"), 1e-5).passed
    assert Check("x", None, 1e-5, "no device").passed
    assert Check("x", None, 1e-5, "no device").line() == "  --  x: not run, no device"
    assert Check("x", 0.0, 0.0).line() == "  ok    x: equal (to the bit)"


def test_the_relative_difference_by_hand():
    # off by (3, 4), wanted (0, 10): 5 / 10
    assert relative([torch.tensor([3.0]), torch.tensor([14.0])], [torch.tensor([0.0]), torch.tensor([10.0])]) == 0.5
