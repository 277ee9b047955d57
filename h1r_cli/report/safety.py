"""A run of the safety suite as one page: shares by set and category, where thought and answer part, what to look at.

What was unsafe is named by its set and id, and not quoted, unless the run's setting `safety.show_texts` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from h1r_cli.evals.safety_pruned import lines
from h1r_cli.evals.safety_sets import PAPER_SETS
from h1r_cli.evals.safety_table import interval
from h1r_cli.evals.views import TITLES, VIEWS
from h1r_cli.rundir import write_atomically

MOST_FINDINGS, MOST_CHARS = 200, 2000  # on the page; findings.jsonl has them all, whole
STYLE = (
    "body{font-family:sans-serif;margin:2em auto;max-width:960px;padding:0 1em;color:#222;overflow-wrap:anywhere}"
    "p,small{color:#555}table{border-collapse:collapse;margin:.5em 0 1.5em}caption{text-align:left;font-weight:bold}"
    "td,th{padding:.2em .8em .2em 0;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}"
    "td.n{text-align:right}.weak{background:#fff3cd;color:#222;padding:.6em}pre{white-space:pre-wrap;background:#f4f4f4;padding:.5em}"
)
FIELDS = ("leak", "relapse")


def write_page(run: Path) -> None:
    """Write RUN/report.html from RUN/report.json and RUN/findings.jsonl: nothing is loaded, and nothing runs."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    title = escape(run.resolve().name)
    body = "".join(_body(report, run / "findings.jsonl"))
    write_atomically(
        run / "report.html",
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>\n",
    )


def _body(report: Mapping[str, Any], findings: Path) -> Iterator[str]:
    recorded = report["completions"]
    whose = report["setup"]["model"] if recorded is None else f"the completions in {recorded}"
    yield f"<p>Safety of {escape(whose)}: what a judge calls safe, in per cent.</p>"
    for role, told in report["by_judge"].items():
        judge = report["judges"][role]
        yield f"<h2>Judged by {escape(judge['name'])}</h2>"
        if judge["weak"]:
            yield f'<p class="weak">A weak judge: {escape(judge["weak"])}.</p>'
        yield from _sets(told)
        yield from _parted(told["all"])
        yield from _categories(told["sets"])
        if report["pruning"]:
            told_lines = escape("\n".join(lines(report["pruning"][role])))
            yield f"<h3>With DeepConf's pruner and without</h3><pre>{told_lines}</pre>"
    yield from _agreement(report["agreement"])
    yield from _findings(findings)


def _sets(told: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [name, f"{found['problems']:,}", *_cells(found["views"]), *_paper(name)]
        for name, found in told["sets"].items()
    ]
    if told["averages"]:
        means = [told["averages"].get(view) for view in VIEWS]
        simple = ["-" if mean is None else f"{100 * mean['simple_frac']:.1f}" for mean in means]
        weighted = ["-" if mean is None else interval({**mean, "frac": mean["weighted_frac"]}) for mean in means]
        rows += [["simple average", "", *simple, ""], ["weighted by prompts", "", *weighted, ""]]
    heads = ["set", "prompts", *(TITLES[view] for view in VIEWS), "paper"]
    yield _table("% safe, with the 95 % interval", heads, rows)
    yield (
        "<p>The paper's column is Falcon-H1R-7B's thought / both / answer by Llama-Guard-3-8B (appendix E); how it "
        "sampled and asked is not known.</p>"
    )


def _paper(name: str) -> list[str]:
    paper = PAPER_SETS.get(name)
    return ["" if paper is None else f"{paper.thought:g} / {paper.both:g} / {paper.answer:g}"]


def _cells(views: Mapping[str, Any]) -> Iterator[str]:
    for view in VIEWS:
        found = views[view]
        notes = [f"{found[key]:,} {key}" for key in ("missing", "unparsable") if found[key]]
        yield interval(found["safe"]) + (f" [{', '.join(notes)}]" if notes else "")


def _parted(found: Mapping[str, Any]) -> Iterator[str]:
    cells = found["thought_by_answer"]
    rows = [
        ["safe thought", f"{cells['both_safe']:,}", f"{cells['answer_unsafe']:,}"],
        ["unsafe thought", f"{cells['thought_unsafe']:,}", f"{cells['both_unsafe']:,}"],
    ]
    yield _table("Thought by answer", ["", "safe answer", "unsafe answer"], rows)
    what = {
        "leak": "an unsafe thought behind a safe answer",
        "relapse": "the answer refuses, then begins to comply, and the judge calls it unsafe",
        "over_refusal": "answers to harmless questions that refuse at once, by their words",
    }
    shares = [[name.replace("_", "-"), interval(found[name]), f"{found[name]['completions']:,}", words]
              for name, words in what.items() if found[name]["completions"]]  # fmt: skip
    yield _table("Where they part", ["", "% (95 %)", "completions", ""], shares)


def _categories(sets: Mapping[str, Any]) -> Iterator[str]:
    for name, found in sets.items():
        if found["categories"]:
            rows = [[category, f"{one['problems']:,}", *_cells(one)] for category, one in found["categories"].items()]
            yield _table(f"{name} by category", ["category", "prompts", *(TITLES[view] for view in VIEWS)], rows)


def _agreement(views: Mapping[str, Any]) -> Iterator[str]:
    if not views:
        return
    rows = []
    for view, found in views.items():
        kappa = "undefined" if found["kappa"] is None else f"{found['kappa']:.3f}"
        cells = (f"{found[key]:,}" for key in ("both_safe", "only_first", "only_second", "both_unsafe"))
        rows.append([TITLES[view], f"{100 * found['observed_frac']:.1f}", kappa, *cells])
    heads = ["", "% agree", "Cohen's kappa", "both safe", "safe by the first", "safe by the second", "both unsafe"]
    yield _table("The two judges on the same texts", heads, rows)


def _findings(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        shown = [json.loads(line) for line in islice(file, MOST_FINDINGS)]
        more = sum(1 for _ in file)
    if not shown:
        return
    rows = [
        [
            f"{escape(one['set'])} {escape(one['id'])}/{one['sample']}",
            escape(one["category"]),
            ", ".join(field for field in FIELDS if one[field]),
            "".join(_ruling(view, ruling) for view, ruling in one["views"].items()),
        ]
        for one in shown
    ]
    yield "<h2>What was unsafe</h2>"
    yield _html_table("By the first judge", ["completion", "category", "", "worst window"], rows)
    if more:
        yield f"<p>{more:,} more are in findings.jsonl.</p>"


def _ruling(view: str, ruling: Mapping[str, Any]) -> str:
    start, end = ruling["chars"]
    where = f"window {ruling['window']} of {ruling['windows']}, " if ruling["windows"] > 1 else ""
    words = f"<div>{TITLES[view]}: {escape(ruling['reason'])} <small>({where}{end - start:,} characters"
    if "text" not in ruling:
        return f"{words}, redacted)</small></div>"
    return f"{words})</small><pre>{escape(ruling['text'][:MOST_CHARS])}</pre></div>"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _html_table(caption, heads, ([escape(cell) for cell in row] for row in rows))


def _html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The cells are HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
