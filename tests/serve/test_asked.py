"""Bodies of requests: what is understood, and what is refused by name."""

import pytest

from h1r_cli.serve.asked import BadRequestError, ChatBody, CompletionBody, asked, chat, prompts, read
from h1r_cli.types import Message, Sampling

DEFAULT = Sampling(temperature=0.6, top_p=0.95, max_tokens=100)
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def test_what_a_request_leaves_open_is_the_servers():
    found = asked(read(ChatBody, HELLO), DEFAULT)
    assert found.sampling == DEFAULT
    assert (len(found.seeds), found.top, found.stops, found.stream) == (1, None, (), False)
    assert asked(read(ChatBody, HELLO), DEFAULT).seeds != found.seeds


def test_what_it_sets_is_taken():
    body = HELLO | {
        "temperature": 0, "top_p": 0.5, "top_k": -1, "max_tokens": 9, "max_completion_tokens": 7, "min_tokens": 2,
        "stop": "END", "stop_token_ids": [3], "seed": -1, "n": 3, "logprobs": True, "top_logprobs": 4,
        "stream": True, "stream_options": {"include_usage": True}, "user": "me", "presence_penalty": 0.0,
    }  # fmt: skip
    found = asked(read(ChatBody, body), DEFAULT)
    assert found.sampling == Sampling(0, 0.5, 0, 7, min_tokens=2, stop_token_ids=(3,))
    assert (found.stops, found.top, found.stream, found.usage) == (("END",), 4, True, True)
    assert len(set(found.seeds)) == 3
    assert all(0 <= seed < 1 << 63 for seed in found.seeds)
    assert asked(read(ChatBody, body | {"n": 1}), DEFAULT).seeds == found.seeds[:1]


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"temprature": 1}, "temprature", "did you mean temperature?"),
        ({"temperature": -1}, "temperature", "temperature: "),
        ({"temperature": "1"}, "temperature", "temperature: "),
        ({"top_p": 0}, "top_p", "top_p: "),
        ({"n": 0}, "n", "n: "),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: "),
        ({"messages": []}, "messages", "messages: "),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs needs logprobs"),
    ],
)
def test_what_would_change_the_result_and_is_not_done_is_refused_by_name(more, field, message):
    with pytest.raises(BadRequestError, match=message) as caught:
        asked(read(ChatBody, HELLO | more), DEFAULT)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [None, [], "text", {}])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(BadRequestError):
        read(ChatBody, body)


@pytest.mark.parametrize(
    ("given", "found"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_a_prompt_is_a_text_or_ids_or_several(given, found):
    assert prompts(read(CompletionBody, {"prompt": given})) == found


@pytest.mark.parametrize("given", ["", [], [[]], ["a", ""]])
def test_an_empty_prompt_is_refused(given):
    with pytest.raises(BadRequestError, match="prompt is empty"):
        prompts(read(CompletionBody, {"prompt": given}))


def test_a_chat_is_text_that_ends_with_the_user():
    def turns(*pairs):
        return read(ChatBody, {"messages": [{"role": role, "content": content} for role, content in pairs]}).messages

    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(turns(("developer", "s"), ("user", parts))) == (Message("system", "s"), Message("user", "ab"))
    with pytest.raises(BadRequestError, match="end with the user's"):
        chat(turns(("user", "a"), ("assistant", "b")))
    with pytest.raises(BadRequestError, match="'tool' is none of"):
        chat(turns(("tool", "a"), ("user", "b")))
    with pytest.raises(BadRequestError, match="text alone"):
        chat(turns(("user", [{"type": "image_url", "text": ""}])))
