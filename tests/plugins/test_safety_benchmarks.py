"""The paper's data sets of safety: rows as they are published, made up here and harmless, as problems."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from h1r_cli.build import build
from h1r_cli.errors import DataError
from h1r_cli.evals.safety_sets import PAPER_SETS
from h1r_cli.registry import load

DATA = Path(__file__).parents[2] / "../shared/data/eval"
REGISTRY = load()
TEA, JAM = "How do I brew tea?", "Where do I buy jam?"
FRAME = "### Instruction:\n{}\n\n### Response:\n"
SALAD = {"1-category": "O1: Drinks", "2-category": "O2: Hot", "3-category": "O3: Tea"}
JUDGED = {"Index": 0, "goal": "x", "target_response": "y", "human_majority": 0}
FORMS = {  # name -> file, two rows, the category of the first
    "jailbreakbench-behaviors": (
        "harmful-behaviors.csv",
        [
            {"Index": i, "Goal": text, "Target": "x", "Behavior": "b", "Category": "Drinks"}
            for i, text in enumerate((TEA, JAM))
        ],
        "Drinks",
    ),
    "jailbreakbench-judge": ("judge-comparison.csv", [{**JUDGED, "prompt": TEA}, {**JUDGED, "prompt": JAM}], None),
    "jailbreakbench-prompts": (
        "jailbreakbench_prompts.jsonl",
        [{"prompt": TEA, "category": "Drinks"}, {"prompt": JAM}],
        "Drinks",
    ),
    "alert": (
        "alert.jsonl",
        [{"id": 1, "category": "tea", "prompt": FRAME.format(text)} for text in (TEA, JAM)],
        "tea",
    ),
    "alert-adversarial": (
        "alert_adversarial.jsonl",
        [{"id": 1, "category": "tea", "prompt": FRAME.format(text), "attack_type": "suffix"} for text in (TEA, JAM)],
        "tea",
    ),
    "wildjailbreak": (
        "eval.tsv",
        [
            {"adversarial": TEA, "label": 1, "data_type": "adversarial_harmful"},
            {"adversarial": JAM, "label": 0, "data_type": "adversarial_benign"},
        ],
        "adversarial_harmful",
    ),
    "advbench": ("harmful_behaviors.csv", [{"goal": TEA, "target": "Sure"}, {"goal": JAM, "target": "Sure"}], None),
    "aya-red-teaming": (
        "aya_red_teaming.parquet",
        [{"prompt": TEA, "harm_category": '["Drinks", "Heat"]'}, {"prompt": JAM, "harm_category": '["Food"]'}],
        "Drinks",
    ),
    "beavertails": (
        "beavertails_evaluation.jsonl",
        [{"prompt": text, "category": "drinks", "category_id": 3} for text in (TEA, JAM)],
        "drinks",
    ),
    "catharmfulqa": (
        "catharmfulqa.parquet",
        [{"prompt": text, "main_category": "Drinks", "sub_category": "Hot"} for text in (TEA, JAM)],
        "Drinks",
    ),
    "harmbench-contextual": (
        "harmbench_contextual.jsonl",
        [
            {"prompt": TEA, "context": "A kettle.", "category": "drinks"},
            {"prompt": JAM, "context": "A shop.", "category": "food"},
        ],
        "drinks",
    ),
    "harmbench-copyright": ("harmbench_copyright.jsonl", [{"prompt": TEA}, {"prompt": JAM}], None),
    "harmbench-standard": (
        "harmbench_standard.parquet",
        [{"prompt": text, "category": "c"} for text in (TEA, JAM)],
        "c",
    ),
    "stereotype": ("stereotype.jsonl", [{"system": "Be brief.", "prompt": text} for text in (TEA, JAM)], None),
    "xstest": (
        "xstest_prompts.csv",
        [
            {"id": 1, "prompt": TEA, "type": "homonyms", "label": "safe", "focus": "tea", "note": ""},
            {"id": 2, "prompt": JAM, "type": "contrast_homonyms", "label": "unsafe", "focus": "jam", "note": ""},
        ],
        "homonyms",
    ),
    "salad-attack": (
        "attack_enhanced_set.json",
        [{"aid": 1, "qid": 7, "baseq": "x", "augq": text, "method": "m", **SALAD} for text in (TEA, JAM)],
        "O1: Drinks",
    ),
    "salad-defense": (
        "defense_enhanced_set.json",
        [{"did": 1, "qid": 7, "baseq": "x", "daugq": text, "dmethod": "m", **SALAD} for text in (TEA, JAM)],
        "O1: Drinks",
    ),
    "salad-base": (
        "base_set.json",
        [{"qid": 0, "question": text, "source": "s", **SALAD} for text in (TEA, JAM)],
        "O1: Drinks",
    ),
}


def written(path, rows):
    """As their endings say."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def problems(name, data_dir):
    return list(build(REGISTRY, "h1r_data_sources", name, {}, {"data_dir": data_dir})())


def test_every_set_of_the_papers_table_is_a_benchmark_and_a_source_with_a_made_up_form_here():
    assert set(FORMS) == set(PAPER_SETS) <= set(REGISTRY.names("h1r_data_sources"))
    for name in PAPER_SETS:
        benchmark = REGISTRY.find("h1r_benchmarks", name)
        assert (benchmark.source, benchmark.reward, benchmark.samples) == (name, "refusal", 1)
        assert benchmark.licence
        assert benchmark.origin.startswith("https://")


@pytest.mark.parametrize("name", FORMS)
def test_rows_as_they_are_published_are_problems_without_an_answer(name, tmp_path):
    file, rows, category = FORMS[name]
    written(tmp_path / file, rows)
    first, second = problems(name, tmp_path)
    asked = ["A kettle.\n\n---\n\n" + TEA, "A shop.\n\n---\n\n" + JAM] if "contextual" in name else [TEA, JAM]
    assert [first.text, second.text] == asked
    assert [first.id, second.id] == ["1", "2"]
    assert first.answer is second.answer is None
    assert first.tags.get("category") == category


def test_questions_that_may_be_harmless_are_labelled(tmp_path):
    for name in ("xstest", "wildjailbreak", "advbench"):
        written(tmp_path / FORMS[name][0], FORMS[name][1])
    assert [problem.tags["label"] for problem in problems("xstest", tmp_path)] == ["safe", "unsafe"]
    assert [problem.tags["label"] for problem in problems("wildjailbreak", tmp_path)] == ["unsafe", "safe"]
    assert all("label" not in problem.tags for problem in problems("advbench", tmp_path))


def test_an_xstest_file_without_labels_has_them_by_type(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "label"} for row in FORMS["xstest"][1]]
    written(tmp_path / "xstest_prompts.csv", rows)
    assert [problem.tags["label"] for problem in problems("xstest", tmp_path)] == ["safe", "unsafe"]


def test_harmbenchs_own_file_gives_each_kind_its_rows(tmp_path):
    kinds = ["standard", "contextual", "copyright", "standard"]
    rows = [
        {"Behavior": f"Brew {i}", "FunctionalCategory": kind, "SemanticCategory": "drinks", "ContextString": "A cup."}
        for i, kind in enumerate(kinds)
    ]
    rows[0]["ContextString"] = rows[2]["ContextString"] = rows[3]["ContextString"] = ""
    written(tmp_path / "harmbench_behaviors_text_all.csv", rows)
    assert [problem.text for problem in problems("harmbench-standard", tmp_path)] == ["Brew 0", "Brew 3"]
    assert [problem.text for problem in problems("harmbench-contextual", tmp_path)] == ["A cup.\n\n---\n\nBrew 1"]
    assert [problem.tags["category"] for problem in problems("harmbench-copyright", tmp_path)] == ["drinks"]


def test_a_system_turn_is_kept(tmp_path):
    written(tmp_path / "stereotype.jsonl", FORMS["stereotype"][1])
    assert [(turn.role, turn.content) for turn in problems("stereotype", tmp_path)[0].chat] == [
        ("system", "Be brief."),
        ("user", TEA),
    ]


def test_a_row_without_a_prompt_or_with_an_empty_one_is_named(tmp_path):
    written(tmp_path / "base_set.json", [{"qid": 0, "question": TEA}, {"qid": 1, "augq": TEA}])
    with pytest.raises(DataError, match=r"row 2 of benchmark 'salad-base' .*KeyError: 'question'"):
        problems("salad-base", tmp_path)
    written(tmp_path / "alert.jsonl", [{"prompt": FRAME.format("")}])
    with pytest.raises(DataError, match=r"row 1 of benchmark 'alert' .*its prompt is empty"):
        problems("alert", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_xstest_as_it_is_published_has_the_papers_450_prompts_250_of_them_harmless():
    found = problems("xstest", DATA)
    assert len(found) == len({problem.id for problem in found}) == PAPER_SETS["xstest"].prompts
    assert Counter(problem.tags["label"] for problem in found) == {"safe": 250, "unsafe": 200}
    assert len({problem.tags["category"] for problem in found}) == 18
