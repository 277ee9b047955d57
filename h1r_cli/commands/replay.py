"""`h1r replay`: any DeepConf policy on stored traces, without generating."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.errors import DataError

if TYPE_CHECKING:
    from h1r_cli.deepconf.columns import Row
    from h1r_cli.registry import Registry
    from h1r_cli.settings import DeepConfSettings
    from h1r_cli.types import Verifier


@dataclass(frozen=True, slots=True)
class Source:
    """Where the traces are: the settings that they were made with, the confidences stored, and how to read them."""

    settings: DeepConfSettings
    verifier: Verifier
    confidences: Sequence[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    out: Path


@click.command("replay")
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("--pruner", metavar="NAME[:key=value,...],...", help="Pruning policies.")
@click.option("--keep-frac", metavar="FRAC,...", help="Shares of the warm-up traces that the threshold lets pass.")
@click.option("--window", metavar="TOKENS,...", help="Tokens of the confidence window.")
@click.option("--budget", metavar="TRACES,...", help="Traces per problem, warm-up included.  [default: all]")
@click.option("--warmup", type=click.IntRange(1), help="Full traces that set the threshold.")
@click.option("--confidence", metavar="NAME,...", help="What prunes and weighs votes; those that the run stored.")
@click.option("--vote", metavar="RULE,...", help="Vote rules, or `all`.")
@click.option("--resamples", type=click.IntRange(1), default=1, show_default=True, help="Draws from the traces.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier that says which answers are the same.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: RUN/replay]")
@click.pass_obj
def command(registry: Registry, /, run: Path, resamples: int, seed: int, out: Path | None, **given: Any) -> None:
    """Tell what other policies would have answered and cost on the traces of RUN, without generating.

    RUN is a run directory of `h1r deepconf`, or a JSONL file of another program's traces. What no option gives is as
    in the run. Stopping early (--consensus) is not replayed.
    """
    from tqdm import tqdm

    from h1r_cli.commands import replay_grid
    from h1r_cli.deepconf import replay_report
    from h1r_cli.deepconf.compare import compare
    from h1r_cli.deepconf.pareto import draw
    from h1r_cli.deepconf.pool import read_pools
    from h1r_cli.deepconf.replay import check_budgets
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.rundir import RunDir

    source = _source(registry, run, given["reward"])
    asked = replay_grid.grid(source.settings, source.confidences, given)
    families = replay_grid.families(registry, asked)
    started = time.perf_counter()
    pools = read_pools(source.rows(asked.confidences), families, source.settings.deepconf.tail_tokens)
    check_budgets(pools, asked.budgets)
    ran = replay_grid.ran_in(source.settings, asked, families, pools)
    policies = replay_grid.policies(asked, families, pools, ran if run.is_dir() and resamples == 1 else None)
    compared = compare(pools, families, policies, asked.votes, same_answer(source.verifier), resamples, seed)
    found = list(tqdm(compared, total=len(policies), unit="policy", disable=None, leave=False))
    report = replay_report.report(found, pools, resamples, seed)
    report = {"run": str(run), **report, "elapsed_s": time.perf_counter() - started}
    directory = RunDir(out or source.out, resumed=True)
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.write_json("replay.json", report)
    for line in replay_report.lines(found, pools, resamples):
        click.echo(line)
    files = [directory.path / f"pareto.{kind}" for kind in ("svg", "png")]
    draw(replay_report.points(found), *replay_report.axes(found), files)
    click.echo(f"replay.json, pareto.svg and pareto.png -> {directory.path}", err=True)


def _source(registry: Registry, run: Path, reward: str | None) -> Source:
    from h1r_cli.build import build, parse_part
    from h1r_cli.deepconf.columns import read_rows, stored_confidences
    from h1r_cli.deepconf.foreign import read_foreign
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.rundir import default_path

    stored = stored_confidences(run) if run.is_dir() else []
    settings = _settings(run)
    name, options = (settings.reward.name, settings.reward.options) if reward is None else parse_part(reward)
    verifier = build(registry, "h1r_rewards", name, options, origin="[reward]" if reward is None else "--reward")
    if run.is_dir():
        return Source(settings, verifier, stored, lambda names: read_rows(run, names), run / "replay")
    confidence, rows = read_foreign(run, same_answer(verifier))
    plan = settings.deepconf.model_copy(update={"confidence": confidence})
    settings = settings.model_copy(update={"deepconf": plan})
    return Source(settings, verifier, [confidence], lambda names: iter(rows), default_path("replay"))


def _settings(run: Path) -> DeepConfSettings:
    """Those of the run; of foreign traces the defaults, nothing pruned and one vote each."""
    from h1r_cli.config import read_toml, resolve
    from h1r_cli.settings import DeepConf, DeepConfSettings, Part

    if not run.is_dir():
        return DeepConfSettings(pruner=Part(name="never"), deepconf=DeepConf(vote="majority"))
    config = run / "config.toml"
    if not config.is_file():
        raise DataError(
            f"{run} holds no config.toml",
            known="a run of `h1r deepconf` has one beside its traces",
            fix="give the --out of such a run, or a JSONL file of traces",
        )
    return resolve(DeepConfSettings, [read_toml(config, str(config))]).settings


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
