"""`h1r serve`, asked for what it cannot give, and told to end while it gives."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from h1r_server import h1r_server


def post(host, body, path="/v1/completions"):
    """Status and answer of a server at the root `host`; `body` as bytes, or the fields of a completion."""
    connection = HTTPConnection(urlsplit(host).netloc, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps({"prompt": "2+3=", "max_tokens": 3, **body}).encode()
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def host():
    with h1r_server() as (found, _):
        yield found


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": [5, 314]}, "prompt"),
        ({"prompt": [[5], [-1]]}, "prompt"),
        ({"stop_token_ids": [314], "min_tokens": 2}, "stop_token_ids"),
        ({"stop_token_ids": [-1], "min_tokens": 2}, "stop_token_ids"),
    ],
)
def test_a_token_that_the_model_has_not_is_refused_and_breaks_no_engine(host, body, field):
    status, answer = post(host, body)
    assert (status, answer["error"]["param"]) == (400, field)
    assert "the model has 0 to 313" in answer["error"]["message"]
    assert post(host, {})[0] == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON: RecursionError"),
        (b'{"prompt": "\xff"}', "no JSON: UnicodeDecodeError"),
        (rb'{"prompt": "\ud800"}', "no JSON: UnicodeEncodeError"),
        (rb'{"prompt": "a", "model": "\ud800"}', "no JSON: UnicodeEncodeError"),
        (b'{"prompt": "a", "temperature": 1e400}', "temperature: "),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
    ],
)
def test_a_body_that_is_no_request_is_an_error_in_openais_form(host, body, message):
    status, answer = post(host, body)
    assert status == 400
    assert message in answer["error"]["message"]


def test_calls_of_tools_in_a_chat_are_refused(host):
    turn = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    chat = {"messages": [{"role": "user", "content": "a"}, turn, {"role": "user", "content": "b"}]}
    status, answer = post(host, json.dumps(chat).encode(), "/v1/chat/completions")
    assert (status, answer["error"]["param"]) == (400, "messages")


def test_a_field_that_is_null_is_as_left_out(host):
    names = ("n", "temperature", "top_p", "stop", "stream", "stream_options", "min_tokens", "logprobs", "max_tokens")
    whole = dict.fromkeys(names) | {"seed": 1, "max_tokens": 3}
    assert post(host, whole)[1]["choices"] == post(host, {"seed": 1})[1]["choices"]


def test_an_address_that_is_not_served_is_an_error_in_openais_form(host):
    status, answer = post(host, {}, "/v1/embeddings")
    assert (status, answer["error"]["code"]) == (404, 404)


def test_the_drawn_token_is_told_where_no_likeliest_are_asked_for_and_tokens_have_their_places(host):
    [choice] = post(host, {"logprobs": 0, "temperature": 0, "max_tokens": 6})[1]["choices"]
    told = choice["logprobs"]
    pairs = zip(told["tokens"], told["token_logprobs"], strict=True)
    assert told["top_logprobs"] == [{token: logprob} for token, logprob in pairs]
    places = zip(told["text_offset"], told["tokens"], strict=True)
    assert all(choice["text"][place:].startswith(token) for place, token in places)


@pytest.mark.parametrize("words", [(), ("--deepconf",)])
def test_it_ends_when_it_is_told_to_and_those_who_wait_are_told(words):
    with h1r_server(*words) as (host, process), ThreadPoolExecutor(1) as pool:
        endless = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 60_000, "ignore_eos": True}
        answer = pool.submit(post, host, json.dumps(endless).encode(), "/v1/chat/completions")
        connection = HTTPConnection(urlsplit(host).netloc, timeout=10)
        running = 0
        while not running:
            connection.request("GET", "/health")
            running = json.loads(connection.getresponse().read())["running"]
        connection.close()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
        status, told = answer.result()
        assert status == 500
        assert "the server is ending" in told["error"]["message"]


def test_a_key_that_is_named_has_to_be_there(h1r):
    told = h1r("serve", "--model", "h1r-nano", "--api-key-env", "NOT_SET_ANYWHERE", status=2).stderr
    assert told == (
        "error: --api-key-env NOT_SET_ANYWHERE names a variable that is not set\n  fix: set it, or leave that out\n"
    )
