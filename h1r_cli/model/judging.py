"""A pruner that runs beside an engine: it judges a request's tokens as they stream in, and the engine then aborts."""

from __future__ import annotations

from dataclasses import dataclass

from h1r_cli.types import Finished, Pruner, Request, Tokens


@dataclass(slots=True)
class Judge:
    """The pruner of one request. `cut_tokens` is after how many tokens it cut, None while it keeps all."""

    request: Request
    pruner: Pruner
    cut_tokens: int | None = None
    _seen: int = 0

    @property
    def confidences(self) -> tuple[str, ...]:
        """What the stream must bring: the confidences that the request reports, and the pruner's."""
        return tuple(dict.fromkeys((*self.request.confidences, self.request.policy_confidence)))

    def kept(self, event: Tokens) -> Tokens:
        """A chunk up to the token that the pruner does not keep, with the confidences that the request reports.

        Not to be asked again once `cut_tokens` is set: what comes after the cut is dropped.
        """
        tokens = 0
        for units in event.confidence[self.request.policy_confidence]:
            tokens += 1
            if not self.pruner.keep(units):
                self.cut_tokens = self._seen + tokens
                break
        self._seen += tokens
        confidence = {name: event.confidence[name][:tokens] for name in self.request.confidences}
        logprobs = event.behaviour_logprobs[:tokens]
        tops = event.top_logprobs[:tokens]
        return Tokens(event.request_id, event.ids[:tokens], logprobs, confidence, event.version, tops)

    def ended(self, event: Finished) -> Finished:
        """The end as the caller sees it; a stop at the very token that the pruner cuts at stays a stop."""
        cut = self.cut_tokens
        if cut is None or (event.reason == "stop" and event.tokens == cut):
            return Finished(event.request_id, event.reason, event.tokens, event.tokens)
        return Finished(event.request_id, "pruned", cut, cut)


def judge_of(request: Request) -> Judge | None:
    """The judge of a request that has a policy."""
    return None if request.policy is None else Judge(request, request.policy.start(request.threshold_nats))
