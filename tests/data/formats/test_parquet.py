"""Parquet files give what the same rows give as lines, and hold what they can give back."""

import datetime
import sys

import pyarrow as pa
import pytest
from foreign_files import FILLED, ROWS, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from agentprm_jax.data.formats import FORMATS, BadItem, read_format, write_format
from agentprm_jax.data.formats.rows import iterate_rows, write_rows
from agentprm_jax.data.formats.values import same_json

LABELLED = sorted(name for name in FORMATS if FORMATS[name].labelled)
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def rows_of(path):
    return [row for _, row in iterate_rows(path, None)]


def put_without_nulls(folder, name):
    return put(folder, name, [without_nulls(ROWS[name][0])])


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return list(map(without_nulls, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", [*LABELLED, "agentgym"])
def test_the_rows_of_a_table_give_the_trajectories_of_the_same_lines(tmp_path, name):
    expected = read_format(name, put_without_nulls(tmp_path, name), **FILLED.get(name, {}))
    parquet.write_table(pa.Table.from_pylist(ROWS[name][:1]), tmp_path / "some.parquet")
    assert read_format(name, tmp_path / "some.parquet", **FILLED.get(name, {})) == expected


@pytest.mark.parametrize("name", LABELLED)
def test_what_is_written_as_a_table_comes_back(tmp_path, name):
    read = read_format(name, put_without_nulls(tmp_path, name), **FILLED.get(name, {}))
    assert write_format(name, read, tmp_path / "some.parquet") == 1
    assert read_format(name, tmp_path / "some.parquet") == read


@given(rows=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_any_rows_come_back_the_same_or_nothing_is_written(tmp_path, rows):
    path = tmp_path / "rows.parquet"
    path.unlink(missing_ok=True)
    try:
        written = write_rows(path, "lines", rows)
    except ValueError as refused:
        error = str(refused)
        assert error.startswith(str(path)), error
        assert list(tmp_path.iterdir()) == []
    else:
        assert written == len(rows)
        assert same_json(rows_of(path), rows)


def test_rows_without_a_value_are_refused_and_no_rows_are_a_table(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.parquet: expected rows with a value, got 2 without any"):
        write_rows(tmp_path / "rows.parquet", "lines", [{}, {}])
    assert write_rows(tmp_path / "rows.parquet", "lines", []) == 0
    assert rows_of(tmp_path / "rows.parquet") == []


def test_a_column_may_first_stand_in_a_late_row(tmp_path):
    rows = [{"number": n, "part": {"even": n}} if n % 2 else {"number": n, "label": n / 2} for n in range(1500)]
    rows.append({"number": 7, "late": ["x"], "part": {"odd": "y"}})
    assert write_rows(tmp_path / "rows.parquet", "lines", iter(rows)) == 1501
    assert rows_of(tmp_path / "rows.parquet") == rows


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": None}, r"row 2, field `a`: expected what Parquet gives back as it is.*got null, which.*as nothing\."),
        ({"a": 1.5}, r"row 1, field `a`: .*got 1, which would come back as 1\.0"),
        ({"b": [None, {"c": None}]}, r"row 2, field `b`"),
        ({"a": "text"}, r"row 2: expected values of one type in a column.*`?a`?.*Write a \.jsonl file instead"),
        ({"a": True}, r"row 2: expected values of one type in a column"),
        ({"a": 2**70}, r"row 2: expected values of one type in a column.*too (big|large)"),
        ({"b": {}}, r"rows\.parquet: expected no object that is empty in all rows"),
    ],
)
def test_what_a_table_cannot_give_back_is_refused_and_nothing_is_written(tmp_path, row, said):
    with pytest.raises(ValueError, match=said) as refused:
        write_rows(tmp_path / "rows.parquet", "lines", [{"a": 1}, row])
    assert str(refused.value).startswith(str(tmp_path / "rows.parquet"))
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_short_whatever_the_row_holds(tmp_path):
    with pytest.raises(ValueError, match="row 1, field `b`") as refused:
        write_rows(tmp_path / "rows.parquet", "lines", [{"a": "x" * 50_000, "b": {"y": "y" * 50_000, "c": None}}])
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([float("nan")], r"the number nan in labels\[0\]"),
        (b"x", "a value of type bytes in labels"),
        (datetime.date(2026, 1, 1), "a value of type date in labels"),
    ],
)
def test_a_value_that_json_has_not_is_named_with_its_row(tmp_path, value, said):
    path = tmp_path / "some.parquet"
    parquet.write_table(pa.table({"labels": pa.array([None, value])}), path)
    with pytest.raises(BadItem, match=rf"some\.parquet, row 2: expected values that JSON has, got {said}"):
        rows_of(path)
    errors = []
    assert [row for _, row in iterate_rows(path, errors)] == [{}]
    assert [error.line for error in errors] == [2]


def test_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "some.parquet")
    with pytest.raises(ValueError, match=r"some\.parquet: expected every column once, got several .* 'a'"):
        rows_of(tmp_path / "some.parquet")


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    write_rows(path, "lines", [{"a": "b" * 1000, "c": n} for n in range(5000)])
    whole = path.read_bytes()
    damaged = [b"", b"{}", whole[:-20], whole[: len(whole) // 2]]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in (60, len(whole) // 5, len(whole) * 7 // 10)
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"rows\.parquet is damaged or no Parquet file"):
            rows_of(path)
    with pytest.raises(FileNotFoundError):
        rows_of(tmp_path / "none.parquet")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"'pyarrow': install agentprm-jax\[parquet\]"):
        write_rows(tmp_path / "rows.parquet", "lines", [])
