"""The engine `generate` on a tiny model: what it writes, what it reports, and what it refuses."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from h1r_cli.build import build
from h1r_cli.errors import ConfigError
from h1r_cli.generation import collect
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.model.weights import read_weights
from h1r_cli.registry import load
from h1r_cli.types import Finished, Request, Sampling, Tokens
from h1r_plugins.engines.generate_engine import generate_engine
from h1r_plugins.engines.transformers_engine import transformers_engine

PROMPTS = [(5, 6, 7), (9, 10), (5, 6, 8)]
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=24, min_tokens=24, ignore_eos=True)
FREE = replace(GREEDY, temperature=1.0)
ENDLESS = replace(FREE, max_tokens=1000, min_tokens=0)


@pytest.fixture(scope="module")
def engine(tiny):
    with generate_engine(model=tiny, chunk_tokens=1) as made:
        yield made


def run(engine, sampling, prompts=PROMPTS):
    """All prompts together; each one's completion by the prompt's place."""
    for number, prompt in enumerate(prompts):
        engine.submit(Request(str(number), prompt, sampling))
    return {done.request_id: done for done in collect(engine)}


def ids_of(found):
    return {name: (done.ids, done.end) for name, done in found.items()}


def test_greedy_tokens_are_those_of_the_transformers_engine(engine, tiny):
    with transformers_engine(model=tiny) as oracle:
        assert ids_of(run(engine, GREEDY)) == ids_of(run(oracle, GREEDY))


def test_end_tokens_stop_as_in_the_transformers_engine_and_nothing_comes_after(engine, tiny):
    prompts = [(number, 6, 7) for number in range(5, 11)]
    free = run(engine, GREEDY, prompts)
    stop = free["0"].ids[3]
    ending = replace(GREEDY, ignore_eos=False, min_tokens=0, stop_token_ids=(stop,))
    found = run(engine, ending, prompts)
    with transformers_engine(model=tiny) as oracle:
        assert ids_of(found) == ids_of(run(oracle, ending, prompts))
    assert found["0"].end == "stop"
    assert {done.end for done in found.values()} == {"stop", "length"}  # a row ends while another goes on
    assert all(stop not in done.ids[:-1] for done in found.values())
    before = engine.stats().decode_steps
    assert len(run(engine, ending, prompts[:1])["0"].ids) == engine.stats().decode_steps - before  # generate ends too


def test_the_models_own_end_token_ends_a_completion_and_min_tokens_puts_it_off(tiny):
    [end] = load_tokenizer(tiny).end_ids
    prompts = [(number, 6, 7) for number in range(5, 37)]
    hot = replace(FREE, temperature=3.0, max_tokens=64, ignore_eos=False)
    with generate_engine(model=tiny) as engine:
        early, late = run(engine, replace(hot, min_tokens=0), prompts), run(engine, hot, prompts)
    stopped = [done for done in early.values() if done.end == "stop"]
    assert stopped
    assert all(done.ids.index(end) == len(done.ids) - 1 for done in stopped)
    assert any(len(done.ids) < 24 for done in stopped)
    assert all(len(done.ids) >= 24 for done in late.values())


def test_without_end_tokens_a_completion_has_exactly_the_tokens_asked_for(tiny):
    many = [(number, 6) for number in range(5, 37)]
    hot = replace(FREE, temperature=3.0, max_tokens=64, min_tokens=64)  # so hot that some draw the end token
    with generate_engine(model=tiny) as engine:
        found = run(engine, hot, many)
    assert {(len(done.ids), done.end) for done in found.values()} == {(64, "length")}
    assert any(set(load_tokenizer(tiny).end_ids) & set(done.ids) for done in found.values())


def test_tokens_come_while_generate_runs(engine):
    engine.submit(Request("a", PROMPTS[0], ENDLESS))
    events = engine.events()
    first = next(events)
    assert len(first.ids) == 1
    assert not engine._batch.stopped.any()
    assert engine._batch.steps.qsize() < ENDLESS.max_tokens - 2  # it has not written them all yet
    engine.abort("a")
    assert [type(event) for event in events] == [Finished]


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 24), (10, [10, 10, 4]), (32, [24])])
def test_chunks_have_the_tokens_asked_for(tiny, chunk, sizes):
    with generate_engine(model=tiny, chunk_tokens=chunk) as engine:
        for number in range(2):
            engine.submit(Request(str(number), PROMPTS[number], FREE))
        events = list(engine.events())
    for name in "01":
        *chunks, end = [event for event in events if event.request_id == name]
        assert [len(one.ids) for one in chunks] == sizes
        assert all(math.isnan(value) for one in chunks for value in one.behaviour_logprobs)
        assert [len(one.behaviour_logprobs) for one in chunks] == sizes
        assert (end.reason, end.tokens) == ("length", 24)


def test_an_aborted_row_ends_while_the_others_go_on(engine):
    whole = ids_of(run(engine, GREEDY, [PROMPTS[0], PROMPTS[2]]))
    for number in (0, 2):
        engine.submit(Request(str(number), PROMPTS[number], GREEDY))
    seen, ends, ids = Counter(), {}, []
    for event in engine.events():
        if isinstance(event, Finished):
            ends[event.request_id] = event
            continue
        seen[event.request_id] += len(event.ids)
        ids += event.ids if event.request_id == "2" else ()
        if event.request_id == "0" and seen["0"] == 5:
            engine.abort("0")
    assert (ends["0"].reason, ends["0"].tokens) == ("aborted", 5)
    assert seen == {"0": 5, "2": 24}
    assert (tuple(ids), ends["2"].reason) == whole["1"]


def test_an_abort_ends_generate_itself(engine):
    before = engine.stats().decode_steps
    engine.submit(Request("a", PROMPTS[0], ENDLESS))
    for event in engine.events():
        if isinstance(event, Tokens):
            engine.abort("a")
    assert event.reason == "aborted"
    assert engine.stats().decode_steps - before < ENDLESS.max_tokens / 2


def test_a_request_that_waits_can_be_aborted_and_its_name_used_again(tiny):
    with generate_engine(model=tiny, slots=1) as engine:
        for name in "ab":
            engine.submit(Request(name, PROMPTS[0], FREE))
        engine.abort("b")
        found = ids_of({done.request_id: done for done in collect(engine)})
        assert found["b"] == ((), "aborted")
        assert found["a"][1] == "length"
        assert engine.stats().prompt_tokens == len(PROMPTS[0])  # the other never began
        engine.abort("c")  # nobody yet
        engine.submit(Request("b", PROMPTS[0], FREE))
        engine.submit(Request("c", PROMPTS[0], FREE))
        assert {done.end for done in collect(engine)} == {"length"}


def test_an_engine_that_is_left_stops_at_once(tiny):
    with generate_engine(model=tiny, chunk_tokens=1) as engine:
        engine.submit(Request("a", PROMPTS[0], ENDLESS))
        next(engine.events())
        steps = engine._batch.steps
    assert steps.qsize() < ENDLESS.max_tokens / 2


def test_a_batch_is_of_one_length_and_one_sampling_and_has_no_more_than_the_slots(tiny):
    prompts = [(1, 2), (3, 4, 5), (6, 7), (8, 9), (10, 11, 12)]
    with generate_engine(model=tiny, slots=2) as engine:
        run(engine, FREE, prompts)
        stats = engine.stats()
        assert stats.decode_steps == 3 * 24  # lengths 2 2 | 3 3 | 2
        assert (stats.prompt_tokens, stats.generated_tokens, stats.prompt_tokens_shared) == (12, 5 * 24, 0)
        assert (stats.running, stats.waiting) == (0, 0)
        engine.submit(Request("a", (1, 2), FREE))
        engine.submit(Request("c", (1, 2), replace(FREE, top_k=5)))
        engine.submit(Request("b", (1, 2), replace(FREE, seed=1)))
        assert engine.stats().waiting == 3
        ends = []
        for event in engine.events():
            if isinstance(event, Finished):
                ends.append(event.request_id)
                assert engine.stats().waiting == (1 if len(ends) < 3 else 0)
        assert ends == ["a", "b", "c"]
        assert engine.stats().decode_steps == 5 * 24


def test_what_is_drawn_follows_from_the_seed_of_the_first_and_leaves_the_readers_numbers_alone(engine):
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    found = [ids_of(run(engine, replace(FREE, seed=seed), PROMPTS[:1])) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
    assert torch.rand(2).equal(wanted)


def test_temperature_top_k_and_top_p_sharpen_and_their_off_values_do_not(engine):
    greedy = ids_of(run(engine, GREEDY))
    hot = replace(FREE, temperature=20.0, max_tokens=200, min_tokens=200)
    assert ids_of(run(engine, replace(FREE, temperature=1e-4))) == greedy
    assert ids_of(run(engine, replace(FREE, top_k=1))) == greedy
    assert ids_of(run(engine, replace(FREE, top_p=1e-6))) == greedy
    assert len({token for done in run(engine, hot).values() for token in done.ids}) > 150  # not the default top 50


def test_a_prompt_may_hold_the_pad_token(engine, tiny):
    prompts = [(0, 0, 7), (5, 6, 0)]
    with transformers_engine(model=tiny) as oracle:
        assert ids_of(run(engine, GREEDY, prompts)) == ids_of(run(oracle, GREEDY, prompts))


def test_the_models_own_generation_settings_change_nothing(tiny, engine, tmp_path):
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text(
        '{"eos_token_id": 2, "do_sample": true, "top_k": 1, "repetition_penalty": 3.0}'
    )
    with generate_engine(model=tmp_path) as other:
        assert ids_of(run(other, GREEDY)) == ids_of(run(engine, GREEDY))
        assert ids_of(run(other, FREE)) == ids_of(run(engine, FREE))


def test_what_generate_raises_is_raised_where_events_are_read_and_the_rest_goes_on(tiny):
    with generate_engine(model=tiny) as engine:
        engine.submit(Request("bad", (1_000_000, 1), FREE))  # no such token
        engine.submit(Request("good", PROMPTS[0], FREE))
        with pytest.raises(IndexError):
            list(engine.events())
        assert ids_of({done.request_id: done for done in collect(engine)})["good"][1] == "length"


def test_a_reader_who_stops_and_comes_back_has_lost_nothing(tiny):
    with generate_engine(model=tiny, chunk_tokens=2) as engine:
        wanted = ids_of(run(engine, GREEDY))
        for number, prompt in enumerate(PROMPTS):
            engine.submit(Request(str(number), prompt, GREEDY))
        ids, ends = dict.fromkeys(wanted, ()), {}
        while len(ends) < 3:
            for event in engine.events():
                if isinstance(event, Tokens):
                    ids[event.request_id] += event.ids
                else:
                    ends[event.request_id] = event.reason
                break
    assert {name: (ids[name], ends[name]) for name in ids} == wanted


def test_new_weights_write_what_a_fresh_engine_on_them_writes(tiny, other):
    with generate_engine(model=other) as fresh:
        wanted = ids_of(run(fresh, GREEDY))
    with generate_engine(model=tiny) as engine:
        assert ids_of(run(engine, GREEDY)) != wanted
        engine.load_weights(read_weights(other), version=7)
        engine.submit(Request("a", PROMPTS[0], GREEDY))
        assert {event.version for event in engine.events() if isinstance(event, Tokens)} == {7}
        engine.sleep()
        engine.wake()
        assert ids_of(run(engine, GREEDY)) == wanted


def test_neither_weights_nor_sleep_come_between_a_requests_tokens(tiny):
    with generate_engine(model=tiny, chunk_tokens=1) as engine:
        engine.submit(Request("a", PROMPTS[0], FREE))
        for begun in (False, True):
            if begun:
                next(engine.events())
            with pytest.raises(ConfigError, match="between requests"):
                engine.load_weights(read_weights(tiny), version=1)
            with pytest.raises(ConfigError, match="between requests"):
                engine.sleep()


@pytest.mark.parametrize(
    ("wish", "told"),
    [({"confidences": ("top-k",)}, "confidences"), ({"top_logprobs": 3}, "likeliest"), ({"policy": 1}, "a pruner")],
)
def test_what_generate_cannot_give_is_refused(engine, wish, told):
    with pytest.raises(ConfigError, match=f"asks for {told}.*, and engine 'generate' gives tokens alone\n  fix: use"):
        engine.submit(Request("a", PROMPTS[0], FREE, **wish))
    assert list(engine.events()) == []


def test_an_empty_prompt_and_a_name_in_flight_are_refused(engine):
    with pytest.raises(ConfigError, match="empty prompt"):
        engine.submit(Request("a", (), FREE))
    engine.submit(Request("a", PROMPTS[0], FREE))
    with pytest.raises(ConfigError, match="in flight already"):
        engine.submit(Request("a", PROMPTS[0], FREE))
    next(engine.events())  # now it runs, and waits no more
    with pytest.raises(ConfigError, match="in flight already"):
        engine.submit(Request("a", PROMPTS[0], FREE))
    assert [done.request_id for done in collect(engine)] == ["a"]


@pytest.mark.parametrize("size", ["slots", "chunk_tokens"])
def test_sizes_below_one_are_refused(tiny, size):
    with pytest.raises(ConfigError, match="at least 1"):
        generate_engine(model=tiny, **{size: 0})


def test_it_is_built_by_its_name(tiny):
    with build(load(), "h1r_engines", "generate", {"slots": 2}, {"model": tiny, "ssm": "torch"}) as engine:
        assert engine.capabilities.confidences == frozenset()
        assert {done.end for done in run(engine, FREE).values()} == {"length"}
