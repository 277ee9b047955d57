"""Runs of random traces, made by the public types and stored as a run stores them, and a browser to look at them."""

from __future__ import annotations

import operator
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from h1r_cli.deepconf.confidence import threshold_nats
from h1r_cli.deepconf.report import summary
from h1r_cli.deepconf.result import result
from h1r_cli.deepconf.traces import Store
from h1r_cli.report.deepconf import write_page
from h1r_cli.report.section import Showing
from h1r_cli.settings import DeepConf, DeepConfSettings, Part
from h1r_cli.types import UNITS_PER_NAT, Problem, Trace
from h1r_plugins.pruning.lowest_window import lowest_window

WARMUP = 8


def decode(ids):
    """A tokenizer whose tokens are the bytes of UTF-8."""
    return bytes(list(ids)).decode("utf-8", errors="replace")


@dataclass
class RandomRun:
    """A finished run in `directory`: `problems` with `traces` traces each, of `tokens` tokens or so.

    A token's confidence is random around a level of its trace. A trace after the warm-up ends where the pruner
    `lowest-window` cuts it, and gives a random one of `answers` unless it is cut; the first of these is right.
    """

    directory: Path
    problems: int = 1
    traces: int = 32
    tokens: int = 120
    window: int = 16
    answers: tuple[str, ...] = ("41", "42", "seven")
    prompt: str = "What is it?"
    thought: str = "so 6·7 is 42; "
    judged: bool = True
    by_problem: dict[str, list[Trace]] = field(default_factory=dict)

    def __post_init__(self):
        self.settings = DeepConfSettings(
            model="random",
            deepconf=DeepConf(budget=self.traces, warmup=WARMUP, keep_frac=0.5, window_tokens=self.window),
            pruner=Part(name="lowest-window"),
        )
        self.asked = [
            Problem(f"problem/{number}", self.prompt, self.answers[0] if self.judged else None)
            for number in range(self.problems)
        ]
        store = Store(self.directory, ("top-k",))
        self.results = []
        with store:
            for problem in self.asked:
                self.results.append(self.race(problem, store))
        self.traces_path = store.finish()
        self.totals = summary(self.results)
        self.page = self.directory / "report.html"
        showing = Showing(self.settings, decode, operator.eq)
        write_page(self.page, self.traces_path, self.asked, self.results, self.totals, showing)

    def race(self, problem, store):
        policy, traces, threshold = lowest_window(window_tokens=self.window), [], 0.0
        for index in range(self.traces):
            if index == WARMUP:
                threshold = threshold_nats([trace.score_nats for trace in traces], 0.5)
            trace = self.trace(problem, index, policy, None if index < WARMUP else threshold)
            traces.append(trace)
            store.append(trace)
        self.by_problem[problem.id] = traces
        return result(problem, traces, threshold, self.settings.deepconf, operator.eq)

    def trace(self, problem, index, policy, threshold):
        dice = np.random.default_rng([index, len(problem.id), *problem.id.encode()])
        chance = random.Random(f"{problem.id}/{index}")
        answer = chance.choice(self.answers)
        thought = self.thought * (chance.randint(self.tokens // 2, self.tokens) // len(self.thought.encode()) + 1)
        ids = f"<think>{thought}</think>{answer}".encode()
        units = ((dice.normal(8 + dice.normal(), 2, len(ids))) * UNITS_PER_NAT).astype(int).clip(0).tolist()
        pruner = None if threshold is None else policy.start(threshold)
        cut = pruner and next((count for count, unit in enumerate(units, 1) if not pruner.keep(unit)), None)
        ids, units = tuple(ids[:cut]), tuple(units[:cut])
        return Trace(
            problem_id=problem.id, index=index, phase="warm-up" if threshold is None else "online", seed=index,
            token_ids=ids, behaviour_logprobs=(-1.0,) * len(ids), confidence={"top-k": units},
            end="pruned" if cut else "stop", text=decode(ids), answer=None if cut else answer,
            correct=None if cut or problem.answer is None else answer == problem.answer, reason="",
            score_nats=policy.score(units), judged_tokens=0 if threshold is None else len(ids),
        )  # fmt: skip


@pytest.fixture
def random_run(tmp_path):
    def make(**how):
        return RandomRun(tmp_path, **how)

    return make


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, driven by selenium; skips where either is not there."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, of h1r[test], is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()
