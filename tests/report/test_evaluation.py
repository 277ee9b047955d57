"""The page of `h1r eval`, from files as a run leaves them, in a real Chromium and as text."""

import json
import random

import pytest

from h1r_cli.data.prompts import written
from h1r_cli.evals.samples import Files
from h1r_cli.report.evaluation import MOST_CHARS, clipped, write_page
from h1r_cli.rewards.completion import thought_and_answer
from h1r_cli.rewards.journal import line
from h1r_cli.types import Problem, Verdict

HOSTILE = "</script><script>document.title = 'taken'</script><b>bold</b>"


@pytest.fixture
def run(tmp_path):
    """Writes a run of one benchmark, `sums`: each sample is (problem, text, correct, end, tokens)."""

    def make(samples, suite=None, name="sums"):
        files = Files(tmp_path, name)
        ids = list(dict.fromkeys(sample[0] for sample in samples))
        problems = [Problem(one, f"What is {one}? {HOSTILE}", "42") for one in ids]
        files.problems.write_text("".join(written(problem) + "\n" for problem in problems))
        with files.completions.open("w") as texts, files.verdicts.open("w") as verdicts:
            for number, (problem, text, correct, end, tokens) in enumerate(samples):
                row = {"id": problem, "sample": number, "text": text, "tokens": tokens, "end": end, "seed": 0}
                texts.write(json.dumps(row) + "\n")
                answer = None if correct is None else "42" if correct else "7"
                reason = "no answer" if correct is None else "equal" if correct else f"expected 42 {HOSTILE}"
                verdicts.write(line((problem, number), Verdict(float(correct or 0), bool(correct), answer, reason)))
        metrics = {f"{name}/{key}": value for key, value in METRICS.items()}
        report = {name: {"metrics": metrics, "setup": {"model": "m", "sampling": {"top_p": 0.95}}, "problems": []}}
        write_page(tmp_path, report, suite)
        return tmp_path / "report.html"

    return make


METRICS = {
    "problems": 3.0,
    "samples": 1.0,
    "avg_at_1_frac": 0.5,
    "avg_at_1_low_frac": 0.1,
    "avg_at_1_high_frac": 0.9,
    "per_solved_tokens": 1234.5,
}
SAMPLES = [
    ("b10", "<think>long thought</think>It is 42.", True, "stop", 30),
    ("b9", "<think>never ends", None, "length", 4000),
    ("a", "no thought at all", False, "stop", 5),
]


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)"
    return browser.execute_script(script, selector)


def click(browser, selector, number=0):
    browser.execute_script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, number)


def column(browser, place):
    return texts(browser, f"tr.row td:nth-child({place})")


@pytest.fixture
def shown(chromium, run):
    chromium.get_log("browser")  # what earlier pages said
    chromium.get(run(SAMPLES).as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    assert chromium.title == "Evaluation: m"  # no text was taken for markup


def test_rows_sort_by_any_column_and_numbers_as_numbers(shown):
    assert column(shown, 1) == ["b10", "b9", "a"]
    click(shown, ".filters ~ .scroll th button", 0)
    assert column(shown, 1) == ["a", "b9", "b10"]
    click(shown, ".filters ~ .scroll th button", 7)
    assert column(shown, 8) == ["5", "30", "4,000"]
    click(shown, ".filters ~ .scroll th button", 7)
    assert column(shown, 8) == ["4,000", "30", "5"]
    assert texts(shown, "th[aria-sort=descending]") == ["tokens"]


def test_filters_keep_their_kind_and_the_order(shown):
    assert texts(shown, ".filters button") == ["all (3)", "right (1)", "wrong (2)", "truncated (1)", "no answer (1)"]
    click(shown, ".filters ~ .scroll th button", 7)
    click(shown, ".filters button", 2)
    assert column(shown, 1) == ["a", "b9"]
    click(shown, ".filters button", 3)
    assert column(shown, 1) == ["b9"]
    click(shown, ".filters button", 0)
    assert column(shown, 1) == ["a", "b10", "b9"]
    shown.execute_script(
        "const box = document.querySelector('.filters input'); box.value = 'LONG thought';"
        "box.dispatchEvent(new Event('input'));"
    )
    assert column(shown, 1) == ["b10"]


def test_a_row_opens_on_thought_and_answer_apart_with_the_reason(shown):
    click(shown, "tr.row", 0)
    assert texts(shown, "article h5") == ["QUESTION", "THINKING", "ANSWER"]
    assert texts(shown, "article .plain.thought") == ["long thought"]
    assert texts(shown, "article .plain.answer") == ["It is 42."]
    assert texts(shown, "article .note") == ["right: equal"]
    click(shown, "tr.row", 1)
    assert "the thought does not end" in texts(shown, "article")[1]
    click(shown, "tr.row", 2)
    assert "no thought at all" in texts(shown, "article")[2]
    assert HOSTILE in texts(shown, "article .note")[2]
    for number in range(3):
        click(shown, "tr.row", number)
    assert texts(shown, "article") == []


def test_numbers_have_their_intervals_and_the_setup_its_keys(shown):
    rows = texts(shown, "#benchmarks section > .scroll:first-of-type tbody tr")
    assert "avg@1\t0.500\t0.100 to 0.900" in rows
    assert any(row.startswith("tokens per solved\t1,234.5") for row in rows)
    click(shown, ".setup summary")
    assert "sampling.top_p\n0.95" in texts(shown, ".setup dl")[0]


def test_nothing_sticks_out_on_a_phone(shown):
    metrics = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    click(shown, "tr.row", 0)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_papers_table_says_inside_or_outside(chromium, run):
    chromium.get(run(SAMPLES, suite="falcon-h1r", name="aime24").as_uri())
    [row] = texts(chromium, "#suite tbody tr")
    assert row.split("\t")[:6] == ["aime24", "0.881", "0.500", "0.100 to 0.900", "inside", "3"]


def test_a_large_run_makes_no_large_page(run):
    chance = random.Random(0)
    long = [(f"p{n % 50}", "<think>" + "x" * 90_000 + "</think>1", True, "stop", 9) for n in range(300)]
    page = run(chance.sample(long, len(long)))
    assert page.stat().st_size < 6_000_000


def test_what_is_left_out_of_a_text_is_counted():
    text = clipped("a" * 60 + "b" * 40, 20)
    assert text == "a" * 10 + " [… 80 characters left out …] " + "b" * 10
    assert clipped("a" * MOST_CHARS, MOST_CHARS) == "a" * MOST_CHARS


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>b", ("a", "b")),
        ("a</think>b", ("a", "b")),  # the prompt opened the thought
        ("<think>a</think>b<think>c", ("a</think>b<think>c", None)),
        ("", (None, "")),
    ],
)
def test_thought_and_answer_are_told_apart(text, parts):
    assert thought_and_answer(text) == parts
