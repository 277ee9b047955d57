"""The nouns and the contracts: all that a plugin author reads besides `hookspecs`.

Axis letters: P problems, G group, N traces, T tokens, V vocabulary, W window, B rows, S slots, H heads.
Confidences travel as integers of `CONFIDENCE_UNIT_NATS`, so that no order of summation can change a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

UNITS_PER_NAT = 1 << 16  # a token's confidence is rounded once, to 2^-16 nat

Role = Literal["system", "user", "assistant", "tool"]
EndReason = Literal["stop", "length", "pruned", "aborted"]


# --- what goes in -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `reasoning` is the thought before an assistant's content, without its tags.

    `tool_calls` are what an assistant's turn asks tools for, each as chat templates take it: a mapping with `name`
    and `arguments`, or such a mapping under `function`.
    """

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt with its reference answer, if there is one.

    `prompt` is a text (one user turn) or a whole chat that ends with a user turn. `tags` are facts about the
    problem (steps, level, source) that reports group by.
    """

    id: str
    prompt: str | tuple[Message, ...]
    answer: str | None = None
    domain: str = "math"
    tags: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def chat(self) -> tuple[Message, ...]:
        """The prompt as turns."""
        return (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt

    @property
    def text(self) -> str:
        """The last user turn: what a person would call the question."""
        return self.chat[-1].content


@dataclass(frozen=True, slots=True)
class Conversation:
    """One SFT sample: a chat that ends with an assistant turn; `tools` are the functions that it may call."""

    id: str
    messages: tuple[Message, ...]
    domain: str = "other"
    tags: Mapping[str, str | int | float] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def calls_tools(self) -> bool:
        """Whether it is a sample of tool calling, of which every assistant turn is learnt."""
        return any(message.role == "tool" or message.tool_calls for message in self.messages)


# --- what comes back ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one completion.

    `reward` is in [0, 1] for a part and in [-1, 1] for a composition. Curation, zero-variance groups and pass@k
    read `correct` alone. `extracted` is the answer found, None where there is none; `parts` are the rewards that
    a composition was made of.
    """

    reward: float
    correct: bool
    extracted: str | None = None
    reason: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


class Verifier(Protocol):
    """`(Problem, completion) -> Verdict`: pure, and never raises on what a model writes (reward 0 with a reason).

    It works with `problem.answer is None` (correct is then False). It may also have
    `extract(completion) -> str | None` and `same(a, b) -> bool`, by which votes are grouped; without them a vote
    is `Verdict.extracted`, compared as a string.
    """

    def __call__(self, problem: Problem, completion: str, /) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Vote:
    """One trace's say: an answer, and the weight of it."""

    answer: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One reasoning chain at test time, as it is stored.

    `confidence` maps a name ("top-k", "sampled") to T integers of 2^-16 nat; `score_nats` is the pruning policy's
    score of it. `correct` is None where the problem has no reference answer. `judged_tokens` is how many of its
    tokens the pruner saw: 0 for a trace that ran without one. `cut_tokens` marks an audited trace: the pruner would
    have ended it after so many tokens, it was let run on, and it does not vote.
    """

    problem_id: str
    index: int
    phase: Literal["warm-up", "online"]
    seed: int
    token_ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    confidence: Mapping[str, tuple[int, ...]]
    end: EndReason
    text: str
    answer: str | None
    correct: bool | None
    reason: str
    score_nats: float
    judged_tokens: int = 0
    cut_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """One completion sampled in reinforcement learning, judged.

    `behaviour_logprobs` are the engine's, of the distribution that was sampled; `version` is how many updates were
    behind the weights that drew its first token.
    """

    index: int  # in its group
    token_ids: NDArray[np.int32]  # [T]
    behaviour_logprobs: NDArray[np.float32]  # [T], nats
    version: int
    end: EndReason
    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The rollouts of one problem, up to G; `place` is the problem's in the stream that they were drawn for."""

    problem: Problem
    place: int
    prompt_ids: tuple[int, ...]
    rollouts: tuple[Rollout, ...]

    @property
    def correct(self) -> int:
        """How many rollouts are right."""
        return sum(rollout.verdict.correct for rollout in self.rollouts)

    @property
    def version(self) -> int:
        """Of the oldest rollout."""
        return min(rollout.version for rollout in self.rollouts)

    @property
    def tokens(self) -> int:
        """That were generated."""
        return sum(len(rollout.token_ids) for rollout in self.rollouts)


# --- engines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. The defaults are Falcon-H1R's own (model card: T 0.6, top-p 0.95, up to 65,536 tokens).

    `top_k` 0 and `top_p` 1 switch the filter off; temperature 0 takes the likeliest token. `seed` belongs to one
    request: loops derive it from the run's seed. With `ignore_eos` only `max_tokens` ends a completion, and until
    `min_tokens` no stop token does.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}  # it is part of the settings

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    max_tokens: int = 65_536
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()  # beside the model's own end tokens
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make.

    With a `policy`, the engine asks `policy.start(threshold_nats)` about each token's confidence
    `policy_confidence` and ends the completion as "pruned" at the first token that is not kept. `confidences` are
    the names to report with each token.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    policy: PruningPolicy | None = None
    threshold_nats: float = 0.0
    policy_confidence: str = "top-k"
    confidences: tuple[str, ...] = ()
    confidence_top_k: int = 20  # k of "top-k"; the papers' 20
    top_logprobs: int = 0  # how many of the likeliest tokens to report with each


@dataclass(frozen=True, slots=True)
class Tokens:
    """A chunk of one request's completion, in order.

    `behaviour_logprobs` [T] are those of the distribution that was sampled (after temperature, top-k, top-p), NaN
    where an engine cannot know them; `confidence[name]` [T] come from the raw logits, in units of 2^-16 nat.
    `version` is that of the weights. `top_logprobs` [T] has for each token the likeliest ones, as many as were asked
    for and likeliest first, each with its log-probability by the raw logits.
    """

    request_id: str
    ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    confidence: Mapping[str, tuple[int, ...]]
    version: int
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request; comes after its last `Tokens`.

    `tokens` counts what was generated, all chunks; `judged_tokens` is how many of them the request's pruner saw.
    """

    request_id: str
    reason: EndReason
    tokens: int
    judged_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do: names of confidences, and the longest prompt + completion (None: unbounded).

    `top_logprobs` is how many of the likeliest tokens it reports with each at most (None: any number). `shared` says
    that a run's processes have one and the same model behind their engines: servers that outlive it.
    """

    confidences: frozenset[str]
    max_length_tokens: int | None = None
    shared: bool = False
    top_logprobs: int | None = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started."""

    prompt_tokens: int = 0  # prefilled
    prompt_tokens_shared: int = 0  # taken from a prompt that was prefilled before
    generated_tokens: int = 0
    decode_steps: int = 0
    running: int = 0
    waiting: int = 0
    preemptions: int = 0  # requests whose memory was taken away, and that were computed again


class Engine(Protocol):
    """Generates; used in a `with`. Requests may be submitted at any time, also while `events` is being read.

    `events` yields until nothing is in flight. `abort` lets at most two further tokens come, then `Finished`.
    `load_weights` takes names and tensors as in the checkpoint, refuses while requests are in flight, and clears
    every cache; `sleep` gives the memory back until `wake`.
    """

    @property
    def capabilities(self) -> Capabilities: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def submit(self, request: Request, /) -> None: ...
    def events(self) -> Iterator[Tokens | Finished]: ...
    def abort(self, request_id: str, /) -> None: ...
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]], /, version: int) -> None: ...
    def sleep(self) -> None: ...
    def wake(self) -> None: ...
    def stats(self) -> EngineStats: ...


# --- pruning ------------------------------------------------------------------------------------------------


class Pruner(Protocol):
    """Watches one trace: each token's confidence once, in order, in units of 2^-16 nat; False ends the trace."""

    def keep(self, token_confidence: int, /) -> bool: ...


class PruningPolicy(Protocol):
    """The rule that cuts traces.

    `score(token_confidences)` is the highest threshold in nats that the trace survives: the statistic of the
    warm-up. A policy may also have `enough(votes, running, left) -> bool`, asked whenever a trace ends: `votes`
    maps answers to their weight so far, `running` traces are in flight and `left` are not yet started.
    """

    def score(self, token_confidences: Sequence[int], /) -> float: ...
    def start(self, threshold_nats: float, /) -> Pruner: ...


@runtime_checkable
class StopsEarly(Protocol):
    """An optional part of a `PruningPolicy`."""

    def enough(self, votes: Mapping[str, float], running: int, left: int, /) -> bool: ...


@runtime_checkable
class GivesLevels(Protocol):
    """Another optional part of a `PruningPolicy`: with it, stored traces are replayed thousands of times faster.

    `levels(token_confidences)` holds for each token the highest threshold that keeps it, in units of 2^-16 nat and
    whatever came before; 2^63 - 1 where none ends the trace. A threshold t then ends a trace at its first token with
    levels[i] < ceil(t * 65,536), exactly where a `Pruner` started with t does.
    """

    def levels(self, token_confidences: NDArray[np.int64], /) -> NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class WindowRule:
    """A pruner as two numbers, which an engine can run where the logits are.

    A trace ends once its last `window_tokens` confidences, when it has as many, sum to less than `least_sum` units.
    """

    window_tokens: int
    least_sum: int


@runtime_checkable
class CutsByWindow(Protocol):
    """Another optional part of a `PruningPolicy`: `rule(threshold_nats)` cuts exactly where `start(...)` does."""

    def rule(self, threshold_nats: float, /) -> WindowRule: ...


# --- training -----------------------------------------------------------------------------------------------

Observer = Callable[[Path, int, Mapping[str, float]], None]  # run directory, step, metrics; on rank 0 alone


# --- benchmarks ---------------------------------------------------------------------------------------------

DataSource = Callable[[], Iterable[Problem | Conversation]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named evaluation: where its problems come from and how they are asked and judged.

    `source` and `reward` are names of a data source and a verifier with their options; `template` holds
    `{prompt}`.
    """

    source: str
    source_options: Mapping[str, object]
    reward: str
    samples: int
    sampling: Sampling
    licence: str
    origin: str
    template: str = "{prompt}"
    reward_options: Mapping[str, object] = field(default_factory=dict)
