"""Verdicts per second of the reward `math` against math-verify called plainly, on the same completions.

    python benchmarks/math_reward.py MATH500.jsonl [--repeats 3] [--workers 2] [--batch 2048]

The completions are the solutions of MATH-500 (a JSONL file of {solution, answer}): half are judged against their own
answer, half against another problem's; then the answers alone, boxed, against those of other problems: the hard tail.
Ours runs in one process and in the pool; each repeat starts with empty caches and the three take turns. math-verify
is called in one process as verl does: `parse` of the boxed reference as LaTeX and of the completion as LaTeX or
plain, then `verify`. Printed are rates (median, least to most), the ratios, the verdicts that differ, the slowest
ones, and the time of a batch of RL, which is made of the same completions over and over.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from h1r_cli.rewards.latex.answer import read
from h1r_cli.rewards.pool import Pool
from h1r_cli.rewards.process import Job
from h1r_cli.rewards.worker import serve
from h1r_cli.types import Problem
from h1r_plugins.rewards import math as reward

Pairs = Sequence[tuple[str, str]]  # reference, completion


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shifted(path: Path, *by: int) -> list[str]:
    """All reference answers, in another order for each shift."""
    answers = [row["answer"] for row in rows(path)]
    return [answers[(place + shift) % len(answers)] for shift in by for place in range(len(answers))]


def solutions(path: Path) -> list[tuple[str, str]]:
    return list(zip(shifted(path, 0, 137), [row["solution"] for row in rows(path)] * 2, strict=True))


def boxed(path: Path) -> list[tuple[str, str]]:
    completions = [f"\\boxed{{{answer}}}" for answer in shifted(path, 0)]
    return list(zip(shifted(path, 137, 211), completions * 2, strict=True))


def forget() -> None:
    for cache in (
        reward._equal_by_math_verify,
        reward._parsed,
        reward._found_by_math_verify,
        reward.normalised,
        read,
    ):
        cache.cache_clear()


def ours(pairs: Pairs) -> list[bool]:
    forget()
    verify = reward.math()
    return [verify(Problem("p", "?", reference), completion).correct for reference, completion in pairs]


def plainly(pairs: Pairs) -> list[bool]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    found = []
    for reference, completion in pairs:
        gold = parse(f"\\boxed{{{reference}}}", (LatexExtractionConfig(),))
        found.append(bool(verify(gold, parse(completion, (ExprExtractionConfig(), LatexExtractionConfig())))))
    return found


def pooled(pairs: Pairs, workers: int) -> tuple[list[bool], float]:
    """The verdicts, and the seconds of them alone: the processes are up, and their caches nearly bare."""
    jobs = [Job("math", Problem("p", "?", reference), completion) for reference, completion in pairs]
    with Pool(serve, {"math": ("math", {})}, workers) as pool:
        warm = [
            Job("math", Problem("w", "?", "\\log_2 8"), f"\\boxed{{\\ln {place}}}") for place in range(100 * workers)
        ]
        list(pool.verdicts(warm))
        began = time.perf_counter()
        found = [verdict.correct for verdict in pool.verdicts(jobs)]
        return found, time.perf_counter() - began


def timed(run: Callable[[Pairs], list[bool]], pairs: Pairs) -> tuple[list[bool], float]:
    began = time.perf_counter()
    return run(pairs), time.perf_counter() - began


def compare(name: str, pairs: Pairs, repeats: int, workers: int) -> None:
    print(f"{name}: {len(pairs)} completions, {repeats} repeats")
    runs: dict[str, Callable[[Pairs], tuple[list[bool], float]]] = {
        "math-verify": lambda pairs: timed(plainly, pairs),
        "ours, 1 process": lambda pairs: timed(ours, pairs),
        f"ours, pool of {workers}": lambda pairs: pooled(pairs, workers),
    }
    rates: dict[str, list[float]] = {key: [] for key in runs}
    verdicts = {}
    for _ in range(repeats):
        for key, run in runs.items():
            verdicts[key], seconds = run(pairs)
            rates[key].append(len(pairs) / seconds)
    theirs = statistics.median(rates["math-verify"])
    for key, found in rates.items():
        median = statistics.median(found)
        print(
            f"  {key:18} {median:9,.0f} verdicts/s ({min(found):,.0f} to {max(found):,.0f})  x {median / theirs:.1f}"
        )
    mine = verdicts["ours, 1 process"]
    assert mine == verdicts[f"ours, pool of {workers}"], "the pool's verdicts are those of one process"
    differing = [pair for pair, a, b in zip(pairs, mine, verdicts["math-verify"], strict=True) if a != b]
    print(f"  {len(differing)} verdicts differ; {sum(mine)} right by ours")
    for reference, completion in differing:
        print(f"    {reference} | ...{completion[-80:]!r}")


def slowest(pairs: Pairs) -> None:
    verify, found = reward.math(), []
    forget()
    for reference, completion in pairs:
        began = time.perf_counter()
        verify(Problem("p", "?", reference), completion)
        found.append((time.perf_counter() - began, reference, completion[-40:]))
    print("  slowest:")
    for took, reference, end in sorted(found)[:-6:-1]:
        print(f"    {1e3 * took:.0f} ms: {reference} | ...{end!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    asked = parser.parse_args()
    plainly([("1", "\\boxed{1}"), ("x", "$x$")])  # its imports are no part of the rates
    for name, pairs in (("solutions", solutions(asked.path)), ("answers of other problems", boxed(asked.path))):
        compare(name, pairs, asked.repeats, asked.workers)
        slowest(pairs)
    pairs = [*solutions(asked.path), *boxed(asked.path)]
    batch = (pairs * (asked.batch // len(pairs) + 1))[: asked.batch]
    _, seconds = pooled(batch, asked.workers)
    print(f"a batch of {len(batch)} in the pool: {seconds:.2f} s")


if __name__ == "__main__":
    main()
