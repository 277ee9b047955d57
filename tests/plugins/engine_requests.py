"""Requests that the tests of engines ask, and a policy that any engine can run."""

from dataclasses import dataclass, replace

from h1r_cli.generation import collect
from h1r_cli.types import Request, Sampling

PROMPTS = [(5, 6, 7), (9,), tuple(range(20, 57)), (5, 6, 8)]
FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)


def request(name, prompt, seed=0, **more):
    return Request(name, prompt, replace(FREE, seed=seed), confidences=("top-k", "sampled"), **more)


def run(engine, requests):
    """All requests together; each one's completion by its id."""
    for one in requests:
        engine.submit(one)
    return {done.request_id: done for done in collect(engine)}


def ids_of(found):
    return {name: done.ids for name, done in found.items()}


@dataclass(frozen=True)
class StopAfter:
    """A policy and pruner that keeps `tokens` tokens less one."""

    tokens: int

    def score(self, token_confidences, /):
        return 0.0

    def start(self, threshold_nats, /):
        left = iter(range(self.tokens - 1, -1, -1))

        class Countdown:
            def keep(self, token_confidence, /):
                return next(left) > 0

        return Countdown()
