"""Engine `openai` at the server of `completions_peer`, for the faults that no real one does."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from completions_peer import next_token, peers
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.build import build
from h1r_cli.errors import ConfigError, EngineError
from h1r_cli.generation import collect
from h1r_cli.registry import load
from h1r_cli.types import Finished, Request, Sampling, Tokens
from h1r_plugins.engines.openai.engine import openai_engine
from h1r_plugins.engines.openai.servers import Fleet, base_urls
from h1r_plugins.pruning.lowest_window import lowest_window

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"  # for its tokenizer
PROMPT = (5, 6, 7)
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=12, ignore_eos=True)


@pytest.fixture
def peer():
    with peers() as [made]:
        yield made


def engine(*made, **options):
    return openai_engine(model=NANO, base_urls=tuple(one.url for one in made), **{"backoff_s": 0.0, **options})


def run(engine, requests):
    for one in requests:
        engine.submit(one)
    return {done.request_id: done for done in collect(engine)}


def request(name="a", **more):
    return Request(name, PROMPT, FREE, confidence_top_k=3, **{"confidences": ("top-k", "sampled"), **more})


def expected(count=FREE.max_tokens):
    context = list(PROMPT)
    for _ in range(count):
        context.append(next_token(context))
    return tuple(context[len(PROMPT) :])


def dead_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


# --- what the numbers mean ---


def test_the_drawn_token_beyond_the_k_likeliest_is_left_out_of_the_confidence(peer):
    # (0.25 + 1.75 + 2.0) / 3 = 4/3 nat = 87381.33 units; with the drawn token it would be 8/4 = 2 nat
    with engine(peer) as one:
        done = run(one, [request()])["a"]
    assert set(done.confidence["top-k"]) == {87381}
    assert set(done.confidence["sampled"]) == {-4 * 65536}
    assert done.ids == expected()


def test_a_server_s_own_count_of_prompts_and_what_it_had_in_a_cache_come_before_what_it_was_sent(peer):
    peer.usage = {"prompt_tokens": 9, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
    with engine(peer) as one:
        run(one, [request("a"), request("b")])
        peer.usage = {"prompt_tokens": 9, "prompt_tokens_details": None}
        run(one, [request("c")])
        stats = one.stats()
    assert (stats.prompt_tokens, stats.prompt_tokens_shared) == (2 * 5 + 9, 2 * 4)


# --- faults that pass ---


@given(st.lists(st.tuples(st.sampled_from(["breaks", "ends"]), st.integers(0, 5)), max_size=6))
@settings(derandomize=True, deadline=None, max_examples=25)
def test_wherever_a_stream_breaks_its_tokens_are_those_of_one_that_did_not(breaks):
    with peers() as [peer], engine(peer, retries=9) as one:
        peer.faults = list(breaks)
        done = run(one, [request()])["a"]
        assert (done.ids, done.end) == (expected(), "length")
        assert len(done.behaviour_logprobs) == len(done.confidence["top-k"]) == len(done.ids)


def test_a_stream_that_breaks_goes_on_from_its_tokens_with_another_seed(peer):
    peer.faults = [("breaks", 0), ("breaks", 5)]
    with engine(peer, retries=1) as one:  # in a row without a token
        run(one, [request()])
        stats = one.stats()
    first, again, rest = peer.asked
    assert (first, first["max_tokens"]) == (again, 12)  # nothing had come: all is asked as it was
    assert rest["prompt"] == [*PROMPT, *expected(5)]
    assert rest["max_tokens"] == 7
    assert rest["seed"] != first["seed"]
    assert (stats.prompt_tokens, stats.generated_tokens) == (3 + 8, 12)  # prefilled twice, each token drawn once


def test_a_stream_that_breaks_after_its_last_token_has_ended(peer):
    peer.faults = [("no end", None)]
    with engine(peer) as one:
        done = run(one, [request()])["a"]
    assert (done.ids, done.end, len(peer.asked)) == (expected(), "length", 1)


def test_a_server_that_is_full_or_failing_is_asked_again(peer):
    peer.faults = [("status", 429), ("status", 503), ("hangs", 3)]
    with engine(peer, timeout_s=0.2) as one:
        assert run(one, [request()])["a"].ids == expected()
    assert peer.closed_by_reader.wait(1)
    assert len(peer.asked) == 4


def test_a_stream_goes_where_most_room_is_then_by_turns_and_not_to_one_that_failed():
    fleet = Fleet(("a", "b"))
    a, b = fleet.servers
    assert [fleet.take(), fleet.take()] == [a, b]
    fleet.give_back(b)
    assert fleet.take() is b  # a has one already
    fleet.give_back(a)
    fleet.give_back(b)
    for turn in (a, b, a):
        assert fleet.take() is turn
        fleet.give_back(turn)
    fleet.rest(b)
    assert [fleet.take(), fleet.take()] == [a, a]
    fleet.rest(a)
    assert fleet.take() is b  # all rest: the one that wakes first


def test_a_failing_server_is_asked_once_and_the_others_take_its_requests():
    with peers(2) as [healthy, failing], engine(healthy, failing, concurrency=1) as one:
        failing.faults = [("status", 500)] * 20
        found = run(one, [request(str(number)) for number in range(8)])
        assert {done.ids for done in found.values()} == {expected()}
        assert (len(healthy.asked), len(failing.asked)) == (8, 1)


def test_base_urls_may_be_a_list_of_the_settings(peer):
    options = {"base_urls": [peer.url, f"{peer.url}/"], "backoff_s": 0.0}
    with build(load(), "h1r_engines", "openai", options, {"model": NANO, "device": "cpu"}) as one:
        assert run(one, [request()])["a"].ids == expected()


def test_a_dead_server_beside_a_live_one_is_done_without(peer):
    with openai_engine(model=NANO, base_urls=f"{dead_port()}, {peer.url}", backoff_s=0.0) as one:
        assert one.capabilities.max_length_tokens == 512
        found = run(one, [request(str(number)) for number in range(4)])
    assert {done.ids for done in found.values()} == {expected()}


# --- faults that stay ---


def test_a_refusal_is_told_with_url_status_and_words_and_not_repeated(peer):
    peer.faults = [("status", 400)]
    with engine(peer) as one, pytest.raises(EngineError) as error:
        run(one, [request()])
    assert str(error.value).startswith(f"{peer.url}/completions refuses with HTTP 400\n  known: it says: as the test")
    assert len(peer.asked) == 1


def test_a_request_that_always_fails_is_named_after_what_is_finished_was_given(peer):
    peer.faults = [("none", None), *[("status", 503)] * 3]
    with engine(peer, retries=2) as one:
        assert run(one, [request("whole")])["whole"].end == "length"
        with pytest.raises(EngineError) as error:
            run(one, [request("poor")])
        assert list(one.events()) == []  # nothing is in flight any more
    assert "request poor failed 3 times in a row after 0 tokens" in str(error.value)
    assert "HTTP 503: as the test asked" in str(error.value)


def test_without_a_server_nothing_starts():
    with pytest.raises(EngineError, match="no server of engine 'openai' answers"):
        openai_engine(model=NANO, base_urls=dead_port()).__enter__()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: None, "answers without log-probabilities"),
        (lambda found: {**found, "tokens": ["x"]}, "answers without token ids"),
        (lambda found: {**found, "top_logprobs": [{"token_id:0": -0.5}]}, "the 3 likeliest tokens: it gives 1"),
        (
            lambda found: {**found, "top_logprobs": [{"a": 0.0, "b": -9999.0, "c": -9999.0}]},
            "not those of raw logits",
        ),
    ],
)
def test_an_answer_that_lacks_what_is_needed_is_refused(peer, change, said):
    peer.faults = [("changed", change)]
    with engine(peer) as one, pytest.raises(EngineError, match=said):
        run(one, [request()])


def test_what_cannot_be_done_is_refused_before_anything_is_asked(peer, tmp_path):
    with engine(peer) as one:
        with pytest.raises(ConfigError, match=r"k = 21\n  known: the servers give 20"):
            one.submit(replace(request(), confidence_top_k=21))
        with pytest.raises(ConfigError, match="no confidence 'entropy'"):
            one.submit(request(confidences=("entropy",)))
        with pytest.raises(ConfigError, match="the engine holds 512 tokens"):
            one.submit(replace(request(), sampling=replace(FREE, max_tokens=600)))
        with pytest.raises(ConfigError, match="no folder for new weights"):
            one.load_weights([], version=1)
    with pytest.raises(ConfigError, match=r"does not serve model 'other'\n  known: m"):
        engine(peer, served_name="other").__enter__()
    with pytest.raises(ConfigError, match="'localhost:8000' is no base URL"):
        base_urls("localhost:8000")
    assert peer.asked == []


# --- ends that come from here ---


def test_a_cut_closes_the_stream_and_what_came_after_is_dropped(peer):
    peer.faults = [("hangs", 9)]
    cutting = request(policy=lowest_window(window_tokens=4), threshold_nats=5.0, confidences=())
    with engine(peer) as one:
        one.submit(cutting)
        *chunks, end = one.events()
        assert peer.closed_by_reader.wait(1)
    assert end == Finished("a", "pruned", 4, 4)
    assert sum((chunk.ids for chunk in chunks), ()) == expected(4)
    assert {tuple(chunk.confidence) for chunk in chunks} == {()}


def test_an_aborted_request_reports_no_further_token_and_closes_its_stream(peer):
    peer.faults = [("hangs", 9)]
    with engine(peer) as one:
        one.submit(request())
        seen = 0
        for event in one.events():
            if isinstance(event, Tokens):
                seen += len(event.ids)
                if seen == 5:
                    while one.stats().generated_tokens < 9:
                        time.sleep(0.001)
                    one.abort("a")
        assert peer.closed_by_reader.wait(1)
        assert event == Finished("a", "aborted", 5)
        assert run(one, [request()])["a"].ids == expected()  # its id is free again


def test_a_request_that_waits_can_be_aborted(peer):
    peer.faults = [("hangs", 1)]
    with engine(peer, concurrency=1) as one:
        one.submit(request("runs"))
        one.submit(request("waits"))
        events = one.events()
        assert next(events).request_id == "runs"
        one.abort("waits")
        assert next(events) == Finished("waits", "aborted", 0)
        one.abort("runs")
        assert list(events) == [Finished("runs", "aborted", 1)]
    assert len(peer.asked) == 1


def test_leaving_the_engine_closes_what_runs(peer):
    peer.faults = [("hangs", 1)]
    with engine(peer) as one:
        one.submit(request())
        next(one.events())
    assert peer.closed_by_reader.wait(1)


def test_the_key_comes_from_the_environment_and_goes_with_each_request(peer, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "word")
    for options in ({"api_key_env": "SOME_KEY"}, {"api_key_env": "NOT_SET"}):
        with engine(peer, **options) as one:
            run(one, [request()])
    assert peer.keys == ["Bearer word", None]
