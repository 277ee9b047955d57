"""Data source `parquet` on files that pyarrow wrote."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from h1r_cli.build import build
from h1r_cli.data.columns import Columns
from h1r_cli.data.parquet import ParquetRecords
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.registry import load
from h1r_cli.types import Conversation, Message, Problem
from h1r_plugins.data.jsonl import jsonl
from h1r_plugins.data.parquet import parquet


def turns(number, thought="so"):
    reply = {"role": "assistant", "content": rf"\boxed{{{number}}}", "reasoning": thought}
    return [{"role": "user", "content": f"which is {number}?"}, reply]


def write(path, rows, row_group_size=None):
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def test_rows_are_the_records_that_the_same_lines_of_jsonl_are(tmp_path):
    call = {"name": "add", "arguments": {"a": 1}}
    tool = {"type": "function", "function": {"name": "add"}}
    asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    rows = [
        {"messages": turns(1), "id": "one", "domain": "math", "tags": {"pass_rate": 0.5}},
        {"messages": turns(2, thought=None)},
        {"messages": [*asked, {"role": "tool", "content": "1"}, turns(3)[1]], "tools": [tool]},
        {"messages": turns(4)[:1], "answer": "4"},
        {"prompt": "p", "answer": "x\n#### 1,200", "tags": {"source": "gsm8k"}},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    expected = list(jsonl(path=str(tmp_path / "rows.jsonl"))())
    found = list(parquet(path=write(tmp_path / "rows.parquet", rows))())
    assert found == expected
    assert [type(record) for record in found] == [Conversation] * 3 + [Problem] * 2


@pytest.fixture
def parts(tmp_path):
    """Three files of 10, 0 and 7 rows, in row groups of 4."""
    rows = [{"messages": turns(number), "id": number} for number in range(17)]
    table = pa.Table.from_pylist(rows)
    for name, start, stop in (("a", 0, 10), ("b", 10, 10), ("c", 10, 17)):
        pq.write_table(table.slice(start, stop - start), tmp_path / f"part-{name}.parquet", row_group_size=4)
    (tmp_path / "README.md").write_text("not a table")
    return tmp_path


def test_a_directory_and_a_glob_give_their_files_by_name(parts):
    for path, numbers in ((parts, range(17)), (parts / "part-[bc].parquet", range(10, 17))):
        assert [record.id for record in parquet(path=str(path))()] == [str(number) for number in numbers]


def test_records_by_place_are_those_of_a_pass_in_any_order(parts):
    records = parquet(path=str(parts))()
    whole = list(records)
    assert len(records) == len(whole) == 17
    places = [place for place in range(17) for _ in range(3)]
    random.Random(0).shuffle(places)
    assert [records[place] for place in places] == [whole[place] for place in places]
    assert list(records) == whole
    with pytest.raises(IndexError):
        records[17]


def test_rows_without_an_id_are_numbered_over_all_files(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.parquet", [{"prompt": "p"}, {"prompt": "q"}])
    records = parquet(path=str(tmp_path))()
    assert [record.id for record in records] == ["1", "2", "3", "4"]
    assert [records[place].id for place in range(4)] == ["1", "2", "3", "4"]


def test_memory_holds_few_row_groups_of_many(tmp_path):
    rng = random.Random(0)
    rows = [{"prompt": rng.randbytes(5_000).hex()} for _ in range(1000)]  # 10 MB in groups of 0.2
    path = write(tmp_path / "large.parquet", rows, row_group_size=20)
    records = ParquetRecords(path, Columns(), cache_bytes=1_000_000)
    before = pa.total_allocated_bytes()
    for place in range(0, 1000, 7):
        assert records[place].prompt == rows[place]["prompt"]
        assert pa.total_allocated_bytes() - before < 2_000_000
    assert sum(1 for _ in records) == 1000
    assert pa.total_allocated_bytes() - before < 2_000_000


def test_columns_may_have_other_names(tmp_path):
    rows = [{"problem": "2+2?", "r1": "2 and 2", "solution": "4", "answer": "4", "subject": "sums", "uuid": "u"}]
    path = write(tmp_path / "named.parquet", rows)
    options = {
        "prompt": "problem",
        "response": "solution",
        "reasoning": "r1",
        "domain_column": "subject",
        "id": "uuid",
    }
    (found,) = build(load(), "h1r_data_sources", "parquet", {"path": path, **options, "tags": ["subject"]})()
    expected = (Message("user", "2+2?"), Message("assistant", "4", "2 and 2"))
    assert found == Conversation("u", expected, "sums", {"subject": "sums"})
    assert list(parquet(path=path)()) == [Problem("1", "2+2?", "4")]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"messages": turns(1)}, {"messages": []}], "row 2: 'messages' is no list of turns"),
        ([{"messages": turns(1)}, {"messages": None}], "row 2: none of the keys prompt, question, problem, messages"),
        ([{"prompt": "a", "id": "x"}, {"prompt": "b", "id": "x"}], "row 2: the id 'x' is that of record 1 too"),
        ([{"prompt": "a"}, {"prompt": " "}], "row 2: 'prompt' is no text"),
    ],
)
def test_a_bad_row_is_named_by_file_number_and_reason(tmp_path, rows, reason):
    path = write(tmp_path / "bad.parquet", rows, row_group_size=1)
    with pytest.raises(DataError) as error:
        list(parquet(path=path)())
    assert str(error.value).startswith(f"{path}, {reason}\n")
    if "record 1" not in reason:  # one id is no error by itself
        with pytest.raises(DataError) as by_place:
            parquet(path=path)()[1]
        assert str(by_place.value) == str(error.value)


def test_what_is_absent_empty_or_no_parquet_is_an_error(tmp_path):
    def said(path, **options):
        with pytest.raises(DataError) as error:
            parquet(path=str(path), **options)()
        assert str(tmp_path) in error.value.what
        assert error.value.fix
        return str(error.value)

    assert "and as a glob it matches nothing" in said(tmp_path / "absent-*.parquet")
    assert "holds no .parquet file" in said(tmp_path)
    (tmp_path / "text.parquet").write_text("no table")
    assert "cannot be read as Parquet: " in said(tmp_path / "text.parquet")
    (tmp_path / "text.parquet").unlink()
    write(tmp_path / "some.parquet", [{"messages": turns(1)}])
    assert "has no column 'chat'\n  known: messages\n" in said(tmp_path / "some.parquet", messages="chat")
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "some.parquet")
    assert "holds no row" in said(tmp_path)


def test_a_file_that_was_cut_short_after_it_was_opened_is_an_error(tmp_path):
    path = write(
        tmp_path / "cut.parquet", [{"prompt": str(number) * 100} for number in range(100)], row_group_size=10
    )
    records = parquet(path=path)()
    with open(path, "r+b") as file:
        file.truncate(200)
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
        records[99]
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
        list(records)


def test_names_that_exclude_each_other_are_refused_before_a_file_is_opened():
    with pytest.raises(ConfigError, match="names chats, and prompt is set too"):
        parquet(path="absent", messages="chat", prompt="q")


def test_a_dry_run_of_train_sft_plans_over_it(tiny, tmp_path):
    rows = [{"messages": turns(number), "pass_rate": 0.1 if number < 20 else 0.9} for number in range(60)]
    write(tmp_path / "train.parquet", rows, row_group_size=16)
    mix = f'[[mix]]\nsource = "parquet"\npath = "{tmp_path}/*.parquet"\ntags = ["pass_rate"]\nby = "pass_rate"\n'
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "{tiny}"\ninit = "scratch"\nglobal_batch = 5\nmax_length_tokens = 256\n{mix}')
    command = [sys.executable, "-m", "h1r_cli", "train-sft", "--config", str(recipe), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # 20 hard at 1.5 are 30, 40 easy at 0.5 are 20: 50 an epoch
    planned = [line.split()[:5] for line in done.stdout.splitlines() if line.startswith("other ")]
    assert planned == [["other", "easy", "40", "0.5", "20"], ["other", "hard", "20", "1.5", "30"]]
