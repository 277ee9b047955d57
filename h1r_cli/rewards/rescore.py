"""Recorded completions -> verdicts of a pool, kept as they come -> counts by reason, and where two sets differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from h1r_cli.rewards.agreement import Agreement, agreement, differ, kinds, unjudged
from h1r_cli.rewards.journal import Key, keep, kept
from h1r_cli.rewards.pool import Pool
from h1r_cli.rewards.process import Job
from h1r_cli.types import Verdict

SHOWN = 20  # differences among the printed lines; differences.jsonl has them all
LONGEST_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Rescored:
    """The verdicts on each completion, and those of another verifier or another time on the same, if any."""

    verdicts: Mapping[Key, Verdict]
    others: Mapping[Key, Verdict] | None

    @property
    def agreement(self) -> Agreement | None:
        if self.others is None:
            return None
        return agreement((verdict, self.others[key]) for key, verdict in self.verdicts.items())

    @property
    def differing(self) -> list[Key]:
        """The completions on which the two differ."""
        others = self.others or {}
        return [key for key, verdict in self.verdicts.items() if key in others and differ(verdict, others[key])]

    @property
    def clean(self) -> bool:
        """Whether every completion was judged, and alike."""
        return not self.differing and not unjudged([*self.verdicts.values()])


def rescore(pool: Pool, jobs: Mapping[Key, Job], path: Path) -> dict[Key, Verdict]:
    """The verdict on each job, in their order: those that `path` holds already, then new ones, appended to it."""
    found = kept(path)
    keys = [key for key in jobs if key not in found]
    verdicts = keep(path, keys, pool.verdicts(jobs[key] for key in keys))
    bar = tqdm(verdicts, total=len(jobs), initial=len(found), desc=path.stem, unit="verdict", disable=None)
    found |= zip(keys, bar, strict=True)
    return {key: found[key] for key in jobs}


def report(found: Rescored) -> dict[str, Any]:
    """As report.json has it."""
    verdicts = [*found.verdicts.values()]
    counts: dict[str, Any] = {
        "completions": len(verdicts),
        "problems": len({name for name, _ in found.verdicts}),
        "correct": sum(verdict.correct for verdict in verdicts),
        "mean_reward": statistics.fmean(verdict.reward for verdict in verdicts),
        "unjudged": unjudged(verdicts),
        "reasons": kinds(verdicts),
    }
    both = found.agreement
    if both is not None:
        counts["against"] = {
            "both_right": both.both_right, "only_one": both.only_one, "only_other": both.only_other,
            "both_wrong": both.both_wrong, "kappa": both.kappa, "differing": len(found.differing),
        }  # fmt: skip
    return counts


def differences(found: Rescored, texts: Mapping[Key, str]) -> Iterator[dict[str, Any]]:
    """The completions on which the two differ, with both verdicts and the text."""
    others = found.others or {}
    for name, sample in found.differing:
        key = (name, sample)
        rows = {"verdict": found.verdicts[key], "against": others[key]}
        words = {side: {"correct": v.correct, "reward": v.reward, "reason": v.reason} for side, v in rows.items()}
        yield {"id": name, "sample": sample, **words, "extracted": rows["verdict"].extracted, "text": texts[key]}


def lines(found: Rescored, against: str | None) -> Iterator[str]:
    """What the command prints."""
    said = report(found)
    yield (
        f"{said['completions']} completions of {said['problems']} problems: {said['correct']} correct, "
        f"mean reward {said['mean_reward']:.3f}"
    )
    width = len(str(said["completions"]))
    for reason, count in said["reasons"].items():
        yield f"  {count:{width}}  {reason}"
    if (both := found.agreement) is not None:
        yield from _comparison(found, both, str(against))


def _comparison(found: Rescored, both: Agreement, against: str) -> Iterator[str]:
    kappa = "undefined, since both say one word only" if both.kappa is None else f"{both.kappa:.3f}"
    yield (
        f"against {against}: {100 * both.observed_frac:.1f} % of {both.completions} agree, Cohen's kappa {kappa}, "
        f"{len(found.differing)} differ by word or reward"
    )
    yield f"  {'':12}{'right there':>13}{'wrong there':>13}"
    yield f"  {'right here':12}{both.both_right:13}{both.only_one:13}"
    yield f"  {'wrong here':12}{both.only_other:13}{both.both_wrong:13}"
    others = found.others or {}
    for name, sample in found.differing[:SHOWN]:
        here, there = found.verdicts[name, sample], others[name, sample]
        answer = "" if here.extracted is None else f": {_short(here.extracted)}"
        yield f"  {name}/{sample}  {_word(here)} here, {_word(there)} there{answer}"
    if len(found.differing) > SHOWN:
        yield f"  and {len(found.differing) - SHOWN} more in differences.jsonl"


def _word(verdict: Verdict) -> str:
    word = "right" if verdict.correct else "wrong"
    reward = "" if verdict.reward == verdict.correct else f" with reward {verdict.reward:g}"
    return f"{word}{reward} ({verdict.reason})" if verdict.reason else word + reward


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN_CHARS else line[: LONGEST_SHOWN_CHARS - 1] + "…"
