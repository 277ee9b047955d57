"""A small server that speaks the completions API by hand, and does what a test asks it to do wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOPS = (-0.25, -1.75, -2.0)  # of the three likeliest tokens, ids 0 to 2, everywhere
DRAWN = -4.0  # of the token that comes


def next_token(context):
    """It depends on all that came before, so that a continuation from a wrong prefix shows."""
    return 10 + (sum(context) * 7 + len(context)) % 200


class Handler(BaseHTTPRequestHandler):
    """One connection. What it does with a completion is the next of the peer's `faults`, a (kind, value)."""

    protocol_version = "HTTP/1.1"
    server: Peer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole(200, {"object": "list", "data": [{"id": "m", "max_model_len": 512}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions":
            return self.whole(404, {"detail": "Not Found"})
        self.server.asked.append(asked)
        self.server.keys.append(self.headers["Authorization"])
        kind, value = self.server.faults.pop(0) if self.server.faults else ("none", None)
        if kind == "status":
            return self.whole(value, {"error": {"message": "as the test asked", "code": value}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            self.stream(asked, kind, value)
        except ConnectionError:  # the reader has closed it
            self.server.closed_by_reader.set()

    def whole(self, status, answer):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, asked, kind, value):
        context = list(asked["prompt"])
        for left in range(asked["max_tokens"], 0, -1):
            if len(context) - len(asked["prompt"]) == value:
                return self.fault(kind)
            context.append(next_token(context))
            choice = {"text": "x", "finish_reason": None, "logprobs": logprobs(context[-1], asked)}
            if kind == "changed":
                choice["logprobs"] = value(choice["logprobs"])
            if left == 1 and kind != "no end":
                choice["finish_reason"] = "length"
            self.event(json.dumps({"choices": [choice]}))
        if self.server.usage and asked["stream_options"]["include_usage"]:
            self.event(json.dumps({"choices": [], "usage": self.server.usage}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def fault(self, kind):
        if kind == "hangs":
            self.connection.settimeout(5)
            assert self.rfile.read(1) == b""  # it blocks until the reader closes
            self.server.closed_by_reader.set()
        elif kind == "breaks":
            self.wfile.write(b'40\r\ndata: {"choices": [{"te')  # half an event
        elif kind == "ends":  # properly, but too early
            self.wfile.write(b"0\r\n\r\n")

    def event(self, text):
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Peer(ThreadingHTTPServer):
    """A server that remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.asked, self.keys = [], [], []
        self.usage = None  # what it tells of a completion
        self.closed_by_reader = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


def logprobs(token, asked):
    likeliest = {f"token_id:{number}": value for number, value in enumerate(TOPS[: asked["logprobs"]])}
    name = f"token_id:{token}"
    return {"tokens": [name], "token_logprobs": [DRAWN], "top_logprobs": [{name: DRAWN, **likeliest}]}


@contextmanager
def peers(count=1) -> Iterator[list[Peer]]:
    made = [Peer() for _ in range(count)]
    try:
        yield made
    finally:
        for peer in made:
            peer.shutdown()
            peer.server_close()


class Scripted(Handler):
    """Replies with the next of its server's `replies`, token by token, and its end token; `holds_tokens` at most.

    The server has both, and the model directory `model` whose tokenizer it speaks with.
    """

    def do_GET(self):
        self.whole(200, {"object": "list", "data": [{"id": "m", "max_model_len": self.server.holds_tokens}]})

    def stream(self, asked, kind, value):
        from h1r_cli.model.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(self.server.model)
        ids = [*tokenizer.hub.encode(self.server.replies.pop(0), add_special_tokens=False), *tokenizer.end_ids]
        for left, token in zip(range(asked["max_tokens"], 0, -1), ids, strict=False):
            finish = "stop" if token in tokenizer.end_ids else "length" if left == 1 else None
            choice = {"text": "x", "finish_reason": finish, "logprobs": logprobs(token, asked)}
            self.event(json.dumps({"choices": [choice]}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def scripted_peer(model, holds_tokens):
    """A peer that says what is put into its `replies`."""
    with peers() as [peer]:
        peer.RequestHandlerClass, peer.replies = Scripted, []
        peer.model, peer.holds_tokens = model, holds_tokens
        yield peer
