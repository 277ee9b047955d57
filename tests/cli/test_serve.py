"""`h1r serve` as a process, asked by OpenAI's own client and by our engine `openai`."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import openai
import pytest
from h1r_server import h1r_server

from h1r_cli.generation import collect
from h1r_cli.types import UNITS_PER_NAT, Request, Sampling
from h1r_plugins.engines.openai.engine import openai_engine
from h1r_plugins.engines.torch_engine import torch_engine

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"
SUM = [{"role": "user", "content": "Left to right, modulo 97: 3+4+5*2"}]
ENDLESS = {"temperature": 1, "extra_body": {"ignore_eos": True}}
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)


def client_of(root, key="none"):
    return openai.OpenAI(base_url=f"{root}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def root():
    with h1r_server() as (found, process):
        yield found
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def client(root):
    return client_of(root)


def health(root):
    with urlopen(f"{root}/health", timeout=10) as answer:
        return json.load(answer)


def idle(root):
    """The counters once nothing is in flight."""
    until = time.monotonic() + 20
    while (found := health(root))["running"] + found["waiting"]:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_chat_has_its_thought_apart_and_the_stream_says_the_same(client):
    whole = client.chat.completions.create(model="h1r-nano", messages=SUM, temperature=0)
    [choice] = whole.choices
    assert choice.finish_reason == "stop"
    assert re.fullmatch(r"\\boxed\{\d+\}", choice.message.content)
    assert "<think>" not in choice.message.reasoning_content + choice.message.content
    thought = answer = ""
    for chunk in client.chat.completions.create(
        model="h1r-nano", messages=SUM, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        for part in chunk.choices:
            thought += getattr(part.delta, "reasoning_content", None) or ""
            answer += part.delta.content or ""
    assert (thought, answer) == (choice.message.reasoning_content, choice.message.content)
    assert chunk.usage == whole.usage
    assert whole.usage.completion_tokens > 20


def test_completions_are_those_of_the_engine_with_the_likeliest_tokens(client, root):
    prompt = (5, 6, 7)
    asked = {
        "model": "h1r-nano",
        "prompt": list(prompt),
        "max_tokens": 12,
        "seed": 11,
        "logprobs": 3,
        "temperature": 1,
        "top_p": 0.95,
    }
    asked |= {"extra_body": {"ignore_eos": True, "return_tokens_as_token_ids": True}}
    [choice] = client.completions.create(**asked).choices
    [again] = client.completions.create(**asked).choices
    assert again.logprobs.tokens == choice.logprobs.tokens
    with torch_engine(model=NANO) as engine:
        sampling = Sampling(1.0, 0.95, max_tokens=12, ignore_eos=True, seed=11)
        engine.submit(Request("a", prompt, sampling, confidences=("sampled",), top_logprobs=3))
        [done] = [event for event in engine.events() if hasattr(event, "ids") and event.ids]
    assert choice.logprobs.tokens == [f"token_id:{one}" for one in done.ids]
    sampled = [units / UNITS_PER_NAT for units in done.confidence["sampled"]]
    assert choice.logprobs.token_logprobs == pytest.approx(sampled, abs=1e-4)
    for told, tops, drawn in zip(choice.logprobs.top_logprobs, done.top_logprobs, done.ids, strict=True):
        likeliest = {f"token_id:{one}": logprob for one, logprob in tops}
        assert {name: told[name] for name in likeliest} == pytest.approx(likeliest, abs=1e-4)
        assert set(told) == {*likeliest, f"token_id:{drawn}"}


def test_a_chats_log_probabilities_are_in_openais_form(client):
    found = client.chat.completions.create(
        model="h1r-nano", messages=SUM, temperature=0, logprobs=True, top_logprobs=2, max_tokens=6
    )
    told = found.choices[0].logprobs.content
    assert len(told) == 6
    for one in told:
        assert one.token == one.top_logprobs[0].token  # temperature 0 takes the likeliest
        assert one.logprob == pytest.approx(one.top_logprobs[0].logprob, abs=1e-4)
        assert one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob
        assert bytes(one.bytes).decode() == one.token


def test_choices_differ_by_seeds_that_follow_from_one(client):
    asked = {"model": "h1r-nano", "messages": SUM, "temperature": 1, "seed": 5}
    found = client.chat.completions.create(**asked, n=4)
    said = [(choice.message.reasoning_content, choice.message.content) for choice in found.choices]
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert len(set(said)) > 1
    [first] = client.chat.completions.create(**asked).choices
    assert (first.message.reasoning_content, first.message.content) == said[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_cuts_the_text_and_ends_the_request_in_the_engine(client, root, stream):
    asked = {"model": "h1r-nano", "prompt": "3+4=7; ", "temperature": 0, "max_tokens": 5000}
    [whole] = client.completions.create(**asked | {"max_tokens": 30}, extra_body={"ignore_eos": True}).choices
    stop = whole.text[4:7]
    before = idle(root)["generated_tokens"]
    found = client.completions.create(**asked, stop=[stop], stream=stream, extra_body={"ignore_eos": True})
    chunks = list(found) if stream else [found]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.text[: whole.text.find(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert idle(root)["generated_tokens"] - before < 60


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_request_in_the_engine(root, stream):
    before = idle(root)["generated_tokens"]
    hasty = client_of(root).with_options(timeout=1.0)
    asked = {"model": "h1r-nano", "prompt": "3+4", "max_tokens": 60_000, **ENDLESS}
    if stream:
        with hasty.completions.create(**asked, stream=True) as found:
            assert next(iter(found)).choices[0].text
    else:
        with pytest.raises(openai.APITimeoutError):
            hasty.completions.create(**asked)
    spent = idle(root)["generated_tokens"] - before
    assert 0 < spent < 30_000


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"model": "gpt"}, 404, "model", "no model is called 'gpt'; 'h1r-nano' is"),
        ({"presence_penalty": 1}, 400, "presence_penalty", "not supported"),
        ({"extra_body": {"temprature": 1}}, 400, "temprature", "did you mean temperature?"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "messages", "end with the user's"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, change, status, param, message):
    with pytest.raises(openai.APIStatusError, match=re.escape(message)) as caught:
        client.chat.completions.create(**{"model": "h1r-nano", "messages": SUM} | change)
    assert (caught.value.status_code, caught.value.param) == (status, param)
    assert caught.value.type == "invalid_request_error"


def run(engine, requests):
    for one in requests:
        engine.submit(one)
    return {done.request_id: done for done in collect(engine)}


def test_our_own_engine_openai_draws_from_it_what_the_torch_engine_draws(root):
    requests = [
        Request(f"{number}-{seed}", prompt, replace(FREE, seed=seed), confidences=("sampled", "top-k"))
        for number, prompt in enumerate([(5, 6, 7), (9,)])
        for seed in (1, 2)
    ]
    with openai_engine(model=NANO, base_urls=f"{root}/v1") as ours, torch_engine(model=NANO) as engine:
        found, wanted = run(ours, requests), run(engine, requests)
    for name, done in found.items():
        assert done.ids == wanted[name].ids
        assert done.end == wanted[name].end
        assert done.behaviour_logprobs == pytest.approx(wanted[name].behaviour_logprobs, abs=1e-4)
        for confidence, units in done.confidence.items():  # 2^-16 nat a unit
            assert units == pytest.approx(wanted[name].confidence[confidence], abs=8)


def test_a_key_is_asked_for_and_log_probabilities_are_of_what_is_sampled_on_demand(tmp_path):
    words = ("--set", "logprobs_mode=processed_logprobs", "--api-key-env", "MY_KEY", "--served-name", "mine")
    with h1r_server(*words, MY_KEY="secret") as (root, process):
        for key in ("wrong", "secre"):
            with pytest.raises(openai.AuthenticationError):
                client_of(root, key).models.list()
        client = client_of(root, "secret")
        assert [model.id for model in client.models.list()] == ["mine"]
        greedy = client.completions.create(model="mine", prompt="3+4", max_tokens=4, temperature=0, logprobs=0)
        assert greedy.choices[0].logprobs.token_logprobs == [0.0] * 4
        drawn = client.completions.create(model="mine", prompt="3+4", max_tokens=8, top_p=0.5, logprobs=0, seed=1)
        assert all(math.isfinite(one) for one in drawn.choices[0].logprobs.token_logprobs)
        with pytest.raises(openai.BadRequestError, match="of the drawn tokens alone"):
            client.completions.create(model="mine", prompt="3+4", logprobs=2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_deepconf_answers_a_chat_as_the_command_does(h1r, tmp_path):
    plan = ("--budget", "12", "--set", "deepconf.warmup=4", "--set", "deepconf.window_tokens=8")
    sampling = ("--temperature", "1", "--max-tokens", "64")
    alone = ("--prompt", SUM[0]["content"], "--seed", "3", "--model", "h1r-nano")
    h1r("deepconf", *alone, *plan, *sampling, "--out", "run")
    [wanted] = json.loads((tmp_path / "run" / "report.json").read_text())["problems"]
    with h1r_server("--deepconf", *plan, *sampling) as (root, _):
        client = client_of(root)
        found = client.chat.completions.create(model="h1r-nano", messages=SUM, seed=3)
        vote = found.h1r
        assert (vote["answer"], vote["pruned"], vote["tokens"]) == tuple(
            wanted[key] for key in ("answer", "pruned", "tokens")
        )
        assert vote["weights"] == pytest.approx(wanted["weights"], abs=1e-3)
        assert vote["answer"] in found.choices[0].message.content
        assert (vote["traces"], found.usage.completion_tokens) == (12, vote["tokens"])
        [chunk] = [
            chunk
            for chunk in client.chat.completions.create(model="h1r-nano", messages=SUM, seed=3, stream=True)
            if chunk.choices and chunk.choices[0].finish_reason
        ]
        assert chunk.h1r["answer"] == vote["answer"]
        with pytest.raises(openai.BadRequestError, match="answers by DeepConf"):
            client.completions.create(model="h1r-nano", prompt="a")


def test_an_address_that_others_reach_takes_a_key_before_anything_is_loaded(h1r):
    told = h1r("serve", "--model", "h1r-nano", "--host", "0.0.0.0", status=2).stderr
    assert told.startswith("error: 0.0.0.0 can be reached from other machines, and no key is set\n")
    assert "--budget is of --deepconf" in h1r("serve", "--model", "h1r-nano", "--budget", "8", status=2).stderr
