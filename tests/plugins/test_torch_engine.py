"""What engine `torch` does beyond the contract: batches that change nothing, slots, prompts that are read once."""

import pytest
from engine_requests import FREE, PROMPTS, StopAfter, request, run

from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
from h1r_plugins.engines.torch_engine import torch_engine


def test_a_trace_depends_on_neither_its_batch_nor_its_order(tiny):
    requests = [
        request(f"{seed}-{number}", prompt, seed) for seed in range(8) for number, prompt in enumerate(PROMPTS)
    ]
    with torch_engine(model=tiny, slots=32) as wide, torch_engine(model=tiny, slots=1) as alone:
        together, apart = run(wide, requests), run(alone, requests[::-1])
    for name, done in together.items():
        assert done.ids == apart[name].ids
        assert done.behaviour_logprobs == pytest.approx(apart[name].behaviour_logprobs, abs=1e-4)


def test_a_prompt_is_prefilled_once_for_all_of_its_traces(tiny):
    with torch_engine(model=tiny, slots=4, prompt_cache=2) as engine:
        run(engine, [request(str(seed), PROMPTS[2], seed) for seed in range(10)])
        stats = engine.stats()
    assert stats.prompt_tokens == len(PROMPTS[2])
    assert stats.prompt_tokens_shared == 9 * len(PROMPTS[2])
    assert stats.generated_tokens == 10 * FREE.max_tokens


def test_the_prompts_of_all_that_waits_are_prefilled_in_one_pass(tiny, monkeypatch):
    passes = []
    prefill = FalconH1ForCausalLM.prefill
    monkeypatch.setattr(
        FalconH1ForCausalLM, "prefill", lambda model, prompts: passes.append(len(prompts)) or prefill(model, prompts)
    )
    requests = [
        request(f"{number}-{seed}", prompt, seed) for number, prompt in enumerate(PROMPTS) for seed in range(3)
    ]
    with torch_engine(model=tiny, slots=len(requests)) as engine:
        run(engine, requests)
    with torch_engine(model=tiny, slots=len(requests), prompt_cache=len(PROMPTS) - 1) as engine:
        run(engine, requests)
    assert passes == [len(PROMPTS), len(PROMPTS) - 1, 1]


def test_a_small_prompt_cache_costs_time_and_changes_nothing(tiny):
    requests = [
        request(f"{seed}-{number}", prompt, seed) for seed in range(3) for number, prompt in enumerate(PROMPTS)
    ]
    with torch_engine(model=tiny, slots=8) as large, torch_engine(model=tiny, slots=8, prompt_cache=1) as small:
        assert {n: d.ids for n, d in run(large, requests).items()} == {
            n: d.ids for n, d in run(small, requests).items()
        }
        assert small.stats().prompt_tokens > large.stats().prompt_tokens


def test_a_pruned_slot_goes_to_the_next_request_at_once(tiny):
    # one slot: 5 pruned traces of 4 tokens; each costs its prefill and three decode steps, and no more
    with torch_engine(model=tiny, slots=1) as engine:
        run(engine, [request(str(seed), PROMPTS[0], seed, policy=StopAfter(4)) for seed in range(5)])
        assert engine.stats().decode_steps == 5 * 3
