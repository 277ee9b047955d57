"""Benchmark `arith`: the test split of the data source of that name, which h1r-nano was not trained on."""

from __future__ import annotations

from collections.abc import Mapping

from h1r_cli import hookimpl
from h1r_cli.types import Benchmark, Sampling

ARITH = Benchmark(
    source="arith",
    source_options={"split": "test", "size": 200},
    reward="math",
    samples=8,
    sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=256),
    licence="Apache-2.0",
    origin="made up by h1r's data source `arith`",
)


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    return {"arith": ARITH}
