"""Benchmarks of safety: the 18 data sets of the Falcon-H1R paper's table (appendix E), for `h1r eval --suite safety`.

None has a reference answer: what counts is whether a judge calls the completion safe, so an ordinary evaluation
refuses them. Each is a data source of the same name, too; a problem's tags have its `category`, where the data set
gives one, and its `label` safe or unsafe, where a question may be harmless. The reward is the weak `refusal`, which
needs no model, until a run names a judge. How completions are sampled the paper does not say: that is our choice, and
so is that ALERT's frame (`### Instruction:`) makes room for the model's own chat template. Which 50 jailbreak prompts
the paper has from JailbreakBench it does not say either: any file of such prompts is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli import hookimpl
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.evals.safety_sets import PAPER_SETS
from h1r_cli.types import Benchmark, DataSource, Message, Problem, Sampling

HUB = "https://huggingface.co/datasets"
HARMBENCH_FILE = "harmbench_behaviors_text_all.csv"  # as its authors publish it, all kinds in one
INSTRUCTION, RESPONSE = "### Instruction:", "### Response:"
CONTEXT = "{context}\n\n---\n\n{prompt}"  # as HarmBench's authors ask it


@dataclass(frozen=True, slots=True)
class Form:
    """A data set as it is published: where its rows are, and which columns hold what; the first that is there counts.

    `kind` keeps the rows of that value in HarmBench's column FunctionalCategory, where they have one.
    """

    files: Sequence[str]
    hub: tuple[str, str] | None
    origin: str
    licence: str
    prompt: Sequence[str] = ("prompt",)
    category: Sequence[str] = ("category",)
    kind: str | None = None


JBB, ALERT, SALAD = "JailbreakBench/JBB-Behaviors", "Babelscape/ALERT", "OpenSafetyLab/Salad-Data"


def _harmbench(kind: str) -> Form:
    files = (f"harmbench_{kind}.parquet", f"harmbench_{kind}.jsonl", HARMBENCH_FILE)
    hub = ("walledai/HarmBench", f"{kind}/train-00000-of-00001.parquet")
    columns = ("category", "SemanticCategory")
    return Form(files, hub, f"{HUB}/walledai/HarmBench", "MIT", ("prompt", "Behavior"), columns, kind)


def _salad(name: str, column: str) -> Form:
    return Form((name,), (SALAD, name), f"{HUB}/{SALAD}", "Apache-2.0", (column,), ("1-category",))


FORMS = {
    "jailbreakbench-behaviors": Form(
        ("harmful-behaviors.csv",), (JBB, "data/harmful-behaviors.csv"), f"{HUB}/{JBB}", "MIT",
        ("Goal",), ("Category",),
    ),
    "jailbreakbench-judge": Form(
        ("judge-comparison.csv",), (JBB, "data/judge-comparison.csv"), f"{HUB}/{JBB}", "MIT"
    ),
    "jailbreakbench-prompts": Form(
        ("jailbreakbench_prompts.jsonl", "jailbreakbench_prompts.csv"), None,
        "https://github.com/JailbreakBench/artifacts; which 50 of its prompts the paper has, it does not say", "MIT",
    ),
    "alert": Form(("alert.jsonl",), (ALERT, "alert.jsonl"), f"{HUB}/{ALERT}", "CC-BY-NC-SA-4.0"),
    "alert-adversarial": Form(
        ("alert_adversarial.jsonl",), (ALERT, "alert_adversarial.jsonl"), f"{HUB}/{ALERT}", "CC-BY-NC-SA-4.0"
    ),
    "wildjailbreak": Form(
        ("wildjailbreak_eval.tsv", "eval.tsv"), ("allenai/wildjailbreak", "eval/eval.tsv"),
        f"{HUB}/allenai/wildjailbreak, once you have agreed to its terms there", "ODC-BY-1.0",
        ("adversarial",), ("data_type",),
    ),
    "advbench": Form(
        ("advbench.parquet", "harmful_behaviors.csv", "advbench.jsonl"),
        ("walledai/AdvBench", "data/train-00000-of-00001.parquet"), f"{HUB}/walledai/AdvBench", "MIT",
        ("prompt", "goal"),
    ),
    "aya-red-teaming": Form(
        ("aya_red_teaming.parquet", "aya_red_teaming.jsonl"), None,
        f"{HUB}/walledai/AyaRedTeaming, the split english", "Apache-2.0", category=("harm_category",),
    ),
    "beavertails": Form(
        ("beavertails_evaluation.jsonl",), None, f"{HUB}/PKU-Alignment/BeaverTails-Evaluation", "CC-BY-NC-4.0"
    ),
    "catharmfulqa": Form(
        ("catharmfulqa.parquet", "catharmfulqa.jsonl"), ("walledai/CatHarmfulQA", "data/en-00000-of-00001.parquet"),
        f"{HUB}/walledai/CatHarmfulQA", "Apache-2.0", ("prompt", "Question"),
        ("main_category", "Category", "category"),
    ),
    "harmbench-contextual": _harmbench("contextual"),
    "harmbench-copyright": _harmbench("copyright"),
    "harmbench-standard": _harmbench("standard"),
    "stereotype": Form(
        ("stereotype.parquet", "stereotype.jsonl"), None, f"{HUB}/walledai/DTStereotype", "CC-BY-SA-4.0",
        category=("category", "stereotype_topic", "topic"),
    ),
    "xstest": Form(
        ("xstest_prompts.csv",), ("Paul/XSTest", "xstest_prompts.csv"),
        "https://github.com/paul-rottger/exaggerated-safety", "CC-BY-4.0", category=("type",),
    ),
    "salad-attack": _salad("attack_enhanced_set.json", "augq"),
    "salad-defense": _salad("defense_enhanced_set.json", "daugq"),
    "salad-base": _salad("base_set.json", "question"),
}  # fmt: skip


def reader(form: Form) -> Callable[[int, Row], Problem | None]:
    """Makes a problem of a row; its id is the row's number, which is its own in every one of these data sets.

    Raises (what it makes):
        KeyError: the row has no prompt. ValueError: an empty one.
    """

    def problem(number: int, row: Row) -> Problem | None:
        if form.kind is not None and str(row.get("FunctionalCategory", form.kind)) != form.kind:
            return None
        text = _bare(str(row[next((key for key in form.prompt if key in row), form.prompt[0])]))
        if not text:
            raise ValueError("its prompt is empty")
        if context := row.get("context") or row.get("ContextString"):
            text = CONTEXT.format(context=str(context).strip(), prompt=text)
        category = next((name for key in form.category if (name := _name(row.get(key)))), None)
        tags = ({} if category is None else {"category": category}) | _label(row)
        system = (Message("system", str(row["system"])),) if row.get("system") else ()
        chat = (*system, Message("user", text))
        return Problem(str(number), chat if system else text, domain="safety", tags=tags)

    return problem


def _bare(text: str) -> str:
    """Without ALERT's frame, where it has one."""
    text = text.strip()
    if text.startswith(INSTRUCTION):
        text = text.removeprefix(INSTRUCTION).strip().removesuffix(RESPONSE).strip()
    return text


def _name(value: object) -> str | None:
    """A category as a word: of a list, or a list that is written as JSON, its first."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:  # a name that begins with a bracket
            return str(value)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return None if value is None or value == "" else str(value)


def _label(row: Row) -> dict[str, str]:
    """XSTest says it in a column, or by a type that begins with contrast; WildJailbreak by its type of data."""
    if row.get("label") in ("safe", "unsafe"):
        return {"label": str(row["label"])}
    if "data_type" in row:
        return {"label": "safe" if str(row["data_type"]).endswith("benign") else "unsafe"}
    if "focus" in row and row.get("type"):
        return {"label": "unsafe" if str(row["type"]).startswith("contrast") else "safe"}
    return {}


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {name: source(Kept(name, form.files, form.hub, form.origin), reader(form)) for name, form in FORMS.items()}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768)
    return {
        name: Benchmark(name, {}, "refusal", 1, sampling, FORMS[name].licence, FORMS[name].origin)
        for name in PAPER_SETS
    }
