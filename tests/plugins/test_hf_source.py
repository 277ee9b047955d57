"""Data source `hf` on files and directories of this disk: nothing here asks the hub."""

from __future__ import annotations

import json
import sys

import pytest

from h1r_cli.errors import DataError, MissingExtraError
from h1r_cli.types import Conversation, Message, Problem
from h1r_plugins.data.hf import hf
from h1r_plugins.data.jsonl import jsonl

ROWS = [
    {
        "id": str(number),
        "messages": [
            {"role": "user", "content": f"which is {number}?"},
            {"role": "assistant", "content": str(number), "reasoning": "so" if number else None},
        ],
    }
    for number in range(5)
]


def test_without_its_extra_the_source_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # how Python says that a module cannot be imported
    with pytest.raises(MissingExtraError, match=r"'hf' needs datasets, .*\n  fix: pip install 'h1r\[datasets\]'"):
        hf(path="anything")


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, with its cache in a directory of the test and the hub out of reach."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    return library


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def ways(tmp_path, datasets, file):
    """The same rows in every form that a path may have."""
    whole = datasets.Dataset.from_list(ROWS)
    (tmp_path / "directory").mkdir()
    whole.to_parquet(tmp_path / "directory" / "train-00000-of-00001.parquet")
    whole.to_parquet(tmp_path / "rows.parquet")
    whole.with_format("numpy").save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(tmp_path / "splits")
    return [file, *(tmp_path / name for name in ("directory", "rows.parquet", "saved", "splits"))]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_a_directory_and_a_saved_dataset_give_the_records_of_jsonl(tmp_path, datasets, file, streaming):
    expected = list(jsonl(path=str(file))())
    for path in ways(tmp_path, datasets, file):
        records = hf(path=str(path), streaming=streaming)()
        assert list(records) == expected, path
        assert list(records) == expected, "another pass"


def test_records_by_place_are_those_of_a_pass(datasets, file):
    records = hf(path=str(file))()
    whole = list(records)
    assert len(records) == 5
    assert [records[place] for place in (3, 0, 4, 3)] == [whole[place] for place in (3, 0, 4, 3)]
    with pytest.raises(IndexError):
        records[5]


def test_a_stream_gives_no_record_by_place(datasets, file):
    records = hf(path=str(file), streaming=True)()
    assert not hasattr(records, "__getitem__")
    assert not hasattr(records, "__len__")


def test_splits_and_slices_are_named_as_the_library_names_them(tmp_path, datasets, file):
    assert [record.id for record in hf(path=str(file), split="train[1:3]")()] == ["1", "2"]
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS[:1])}).save_to_disk(tmp_path / "splits")
    assert [record.id for record in hf(path=str(tmp_path / "splits"), split="test")()] == ["0"]
    with pytest.raises(DataError, match="splits' has no split 'train'\n  known: test\n"):
        hf(path=str(tmp_path / "splits"))()


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_may_have_other_names(tmp_path, datasets, streaming):
    row = {"problem": "2+2?", "r1": "2 and 2", "solution": "4", "level": 3}
    (tmp_path / "named.jsonl").write_text(json.dumps(row))
    path = str(tmp_path / "named.jsonl")
    options = {"prompt": "problem", "response": "solution", "reasoning": "r1", "tags": ("level",)}
    (found,) = hf(path=path, streaming=streaming, **options)()
    expected = (Message("user", "2+2?"), Message("assistant", "4", "2 and 2"))
    assert found == Conversation("1", expected, tags={"level": 3})
    assert list(hf(path=path, streaming=streaming, answer="solution")()) == [Problem("1", "2+2?", "4")]
    with pytest.raises(DataError, match=r"named\.jsonl' has no column 'chat'\n  known: level, problem, r1, solution"):
        list(hf(path=path, streaming=streaming, messages="chat")())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_row_is_named_by_dataset_number_and_reason(tmp_path, datasets, streaming):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(map(json.dumps, [ROWS[0], {"id": "bad", "messages": []}])))
    with pytest.raises(DataError) as error:
        list(hf(path=str(path), streaming=streaming)())
    assert str(error.value).startswith(f"dataset '{path}', row 2: 'messages' is no list of turns\n  fix: ")
    path.write_text("\n".join(map(json.dumps, [ROWS[0], ROWS[0]])))
    with pytest.raises(DataError, match="row 2: the id '0' is that of record 1 too"):
        list(hf(path=str(path), streaming=streaming)())


@pytest.mark.parametrize("streaming", [False, True])
def test_what_the_library_cannot_load_is_an_error_with_its_reason(tmp_path, datasets, file, streaming):
    def said(path, **options):
        with pytest.raises(DataError) as error:
            list(hf(path=str(path), streaming=streaming, **options)())
        assert error.value.what.startswith(f"dataset '{path}' cannot be loaded: ")
        assert error.value.fix
        return error.value.what

    assert "['train']" in said(file, split="test")
    assert "BuilderConfig 'main' not found" in said(file, name="main")
    assert "Couldn't find any data file" in said(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "doesn't contain any data files" in said(tmp_path / "empty")
    (tmp_path / "broken.jsonl").write_text('{"id": "a"}\n{')
    assert "JSON parse error" in said(tmp_path / "broken.jsonl")
    assert "Couldn't reach 'nobody/nothing'" in said("nobody/nothing")
