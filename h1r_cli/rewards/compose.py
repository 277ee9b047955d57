"""One reward of several: a main part, others beside it with weights, and penalties off it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

from h1r_cli.errors import DataError, listing
from h1r_cli.types import Problem, Verdict, Verifier


@dataclass(frozen=True, slots=True)
class Composition:
    """The reward of a problem and a completion, clipped to [-1, 1]:

        weight[main] * main + sum of weight[part] * part over `beside` - sum of penalties[part] where part is wrong

    The main part is that of the problem's domain, or `main` whatever the domain; a weight is 1 where none is set.
    `correct`, `extracted` and the beginning of `reason` are the main part's own; `Verdict.parts` holds the plain
    reward of every part that was asked.

    Args:
        by_domain: a problem's domain -> the key of its main part; empty where there is a `main`.
        beside: keys of the parts that are added for every problem.
    """

    parts: Mapping[str, Verifier]
    main: str | None
    by_domain: Mapping[str, str]
    beside: tuple[str, ...]
    weights: Mapping[str, float]
    penalties: Mapping[str, float]

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        """See `Composition`; `reason` names the penalties that were taken.

        Raises:
            DataError: no part is for the problem's domain.
        """
        main = self._main_part(problem)
        verdict = self.parts[main](problem, completion)
        rewards = {main: verdict.reward}
        reward, reasons = self.weights.get(main, 1.0) * verdict.reward, [verdict.reason]
        for part in self.beside:
            rewards[part] = self.parts[part](problem, completion).reward
            reward += self.weights[part] * rewards[part]
        for part, penalty in self.penalties.items():
            said = self.parts[part](problem, completion)
            rewards[part] = said.reward
            if not said.correct:
                reward -= penalty
                reasons.append(f"{part} -{penalty:g}: {said.reason}")
        clipped = max(-1.0, min(1.0, reward))
        return Verdict(clipped, verdict.correct, verdict.extracted, " | ".join(filter(None, reasons)), rewards)

    def _main_part(self, problem: Problem) -> str:
        part = self.by_domain.get(problem.domain, self.main)
        if part is None:
            raise DataError(
                f"problem '{problem.id}' is of domain '{problem.domain}', for which no reward is composed",
                known=listing(self.by_domain),
                fix=f"name its part in by_domain, as in {problem.domain} = ..., or leave such problems out",
            )
        return part

    @property
    def facts(self) -> dict[str, object]:
        """What the manifest should say of the parts: how programs are run, for those that run any."""
        return {key: dict(facts) for key, part in self.parts.items() if (facts := getattr(part, "facts", {}))}

    @property
    def mains(self) -> list[Verifier]:
        """All that can be a main part, each once, in the order of `by_domain`."""
        keys = dict.fromkeys([*self.by_domain.values(), *([] if self.main is None else [self.main])])
        return [self.parts[key] for key in keys]


class VotingComposition(Composition):
    """A composition that votes can be grouped by: at least one of its main parts extracts answers.

    A completion and an answer don't say of which domain their problem is. So `extract` gives what the first of the
    main parts finds, and answers are the same when any of them says so: an answer of one domain has no meaning in
    another (a choice "B" is no number), while asking only one part would split equal answers of the others.
    """

    __slots__ = ()

    def extract(self, completion: str) -> str | None:
        """The answer that the first main part with one finds in a completion."""
        extractors = (getattr(part, "extract", None) for part in self.mains)
        found = (extract(completion) for extract in extractors if extract is not None)
        return next((answer for answer in found if answer is not None), None)

    def same(self, a: str, b: str) -> bool:
        """Whether any of the main parts takes the two answers for one; without any `same`, they are equal texts."""
        return any(getattr(part, "same", operator.eq)(a, b) for part in self.mains)
