"""Risk: data are read as something else than their owner meant, and nobody is told."""

import ast
import datetime
import io
import json
import re
import shutil
from decimal import Decimal
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT
from pyarrow import parquet
from pyarrow.csv import read_csv

from conveyor.core.errors import Misuse
from conveyor.core.params import load
from conveyor.data import formats, source
from conveyor.data.hashing import row_hash
from conveyor.data.split import repeated_keys

MACHINERY = ROOT / "<<cookiecutter.project>>" / "src" / "conveyor"


def csv(text, text_columns=(), numbers=()):
    """{column: (type, values)} of a CSV."""
    frame = formats.read({"": text.encode()}, "rows.csv", tuple(text_columns), tuple(numbers))
    return {name: (str(frame[name].dtype), frame[name].tolist()) for name in frame}


def packed(**columns) -> bytes:
    """A Parquet file."""
    file = io.BytesIO()
    parquet.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), file)
    return file.getvalue()


def kept(values, **more):
    """Type and values of one column of a Parquet file after it was read."""
    column = formats.read({"": packed(x=values)}, "rows.parquet", **({"text": (), "numbers": ()} | more))["x"]
    return str(column.dtype), column.tolist()


# What stays text


@pytest.mark.parametrize(
    "cells, type_, values",
    [
        (["01", "7"], "str", ["01", "7"]),
        ([" 01", "7"], "str", [" 01", "7"]),
        (['"01"', '"7"'], "str", ["01", "7"]),
        (["-01", "7"], "str", ["-01", "7"]),
        (["0", "7"], "int64", [0, 7]),
        (["0.5", "7.5"], "float64", [0.5, 7.5]),
        (["008.45", "250.00"], "str", ["008.45", "250.00"]),
        (["00123", "nan"], "str", ["00123", "nan"]),
        (["9007199254740993", "nan"], "str", ["9007199254740993", "nan"]),
        (["1.5", "nan"], "float64", [1.5, None]),
        ([" 1", "2 "], "int64", [1, 2]),
        (["0x1F", "0x20"], "str", ["0x1F", "0x20"]),
        (["12:30", "23:59"], "str", ["12:30", "23:59"]),
        (["12:30:05", "23:59:00.5"], "str", ["12:30:05", "23:59:00.5"]),
        (["9007199254740993", "1"], "int64", [2**53 + 1, 1]),
        (["9007199254740993", '""'], "str", ["9007199254740993", None]),
        (["12345678901234567890", "1"], "str", ["12345678901234567890", "1"]),
        (["12345678901234567890", "1.5"], "float64", [12345678901234567890.0, 1.5]),
        (["0.1234567890123456789", "1"], "float64", [0.1234567890123456789, 1.0]),
        (['"(0, 10]"', '"(10, 20]"'], "str", ["(0, 10]", "(10, 20]"]),
        (["1e3", "2"], "float64", [1000.0, 2.0]),
        (["1,5".join('""'), "2"], "str", ["1,5", "2"]),
    ],
)
def test_a_column_of_a_csv_is_a_number_only_where_nothing_is_lost_by_it(cells, type_, values):
    of, found = csv("a,x,b\n" + "".join(f"1,{cell},2\n" for cell in cells))["x"]
    assert of == type_
    assert [None if isinstance(value, float) and np.isnan(value) else value for value in found] == values


def test_a_value_with_a_line_break_or_a_zero_after_its_comma_is_no_code():
    assert csv('a,b\n"x\n01",1\n"y,02",2\n')["b"] == ("int64", [1, 2])


def test_a_team_says_otherwise_by_column():
    text = "zip,month\n10115,01\n20095,12\n"
    assert csv(text) == {"zip": ("int64", [10115, 20095]), "month": ("str", ["01", "12"])}
    assert csv(text, ["zip"], ["month"]) == {"zip": ("str", ["10115", "20095"]), "month": ("int64", [1, 12])}


@pytest.mark.parametrize("key", ["text", "numbers"])
def test_a_column_that_is_not_there_is_named(project, one_line, key):
    project.set_param(f"data.{key}", ["zip"])
    one_line(
        project.cli("validate", check=False),
        2,
        rf"params.yaml: data.{key}: no column 'zip' in data/flights.*; it has .*",
    )
    project.set_param("data.text", ["origin"])
    project.set_param("data.numbers", ["origin"])
    message = "params.yaml: data: .*text and numbers both name origin; a column has one type.*"
    one_line(project.cli("validate", check=False), 2, message)


# Parquet


@pytest.mark.parametrize(
    "values, type_, read",
    [
        (pa.array(["a", "b"]).dictionary_encode(), "str", ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), "str", ["a", "b"]),
        (pa.array([1, 2]).dictionary_encode(), "int64", [1, 2]),
        (pa.array([1, 2], pa.uint8()), "uint8", [1, 2]),
        ([1, 2], "int64", [1, 2]),
        ([1.5, 2.0], "float64", [1.5, 2.0]),
        (pa.array(np.array([1.5, 2], np.float16)), "float32", [1.5, 2.0]),
        ([True, False], "bool", [True, False]),
        ([Decimal("1.5"), Decimal("2.25")], "float64", [1.5, 2.25]),
        (pa.array([Decimal("12345678901234567890"), 1], pa.decimal128(20, 0)), "str", ["12345678901234567890", "1"]),
        ([2**60 + 1, None], "str", [str(2**60 + 1), None]),
        ([datetime.time(12, 30), datetime.time(1, 0, 0, 500000)], "str", ["12:30:00", "01:00:00.5"]),
        (pa.array([datetime.time(10, 20)] * 2, pa.time32("s")), "str", ["10:20:00", "10:20:00"]),
        (pa.array([Decimal(1), None], pa.decimal128(38, 0)), "float64", [1.0, None]),
        (
            pa.array([0, 10**9], pa.timestamp("s", "Europe/Berlin")).cast(pa.timestamp("ms", "UTC")),
            "datetime64[ms, UTC]",
            [pd.Timestamp(0, tz="UTC"), pd.Timestamp(10**18, tz="UTC")],
        ),
        ([datetime.date(2013, 1, 2)] * 2, "datetime64[ms]", [pd.Timestamp("2013-01-02")] * 2),
    ],
)
def test_a_column_of_parquet_comes_in_a_type_that_models_know(values, type_, read):
    of, found = kept(values)
    assert (of, [None if pd.isna(value) else value for value in found]) == (type_, read)


@pytest.mark.parametrize(
    "values, read",
    [
        ([7, 8], ["7", "8"]),
        ([12345678901.0, None, float("nan"), 1.5], ["12345678901", None, None, "1.5"]),
        ([Decimal("1.50"), None], ["1.50", None]),
        ([True, None], ["true", None]),
        ([datetime.datetime(2013, 1, 2), None], ["2013-01-02 00:00:00", None]),
        (pa.array([0, None], pa.timestamp("us", "UTC")), ["1970-01-01 00:00:00Z", None]),
    ],
)
def test_a_column_of_parquet_can_be_text_as_people_write_it(values, read):
    of, found = kept(values, text=("x",))
    assert (of, [None if pd.isna(value) else value for value in found]) == ("str", read)


@pytest.mark.parametrize(
    "values, type_, read",
    [
        (["1", " 02 "], "int64", [1, 2]),
        (["1.5", None], "float64", [1.5, None]),
        ([2**60, None], "float64", [2.0**60, None]),
        (pa.array([Decimal(10**20)], pa.decimal128(38, 0)), "float64", [1e20]),
    ],
)
def test_a_column_of_parquet_can_be_numbers_though_they_lose_something(values, type_, read):
    of, found = kept(values, numbers=("x",))
    assert (of, [None if pd.isna(value) else value for value in found]) == (type_, read)
    with pytest.raises(Misuse, match="column 'x': .*'a'.*; data.numbers names it; write it as numbers or as text in"):
        kept(["1", "a"], numbers=("x",))


@pytest.mark.parametrize("named", [{}, {"text": ("x",)}, {"numbers": ("x",)}])
@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}], [b"x"], [datetime.timedelta(1)]])
def test_a_column_that_no_model_takes_is_named_with_its_type(values, named):
    message = r"^rows.parquet: column 'x' holds .*, which no model takes; write it as numbers or as text in the file"
    with pytest.raises(Misuse, match=message):
        kept(values, **named)


@pytest.mark.parametrize(
    "values, message",
    [
        (pa.array([10**16], pa.timestamp("ms")), "column 'x': it holds a time outside of the years 1 to 9999"),
        (pa.array([0], pa.timestamp("s", "Foo/Bar")), r"column 'x' of type timestamp\[.*Foo/Bar\] cannot be used \("),
    ],
)
def test_a_time_that_nobody_can_read_is_named(values, message):
    with pytest.raises(Misuse, match=f"^rows.parquet: {message}"):
        kept(values)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"": b"PAR1junk"}, "^d: damaged Parquet: .*; fetch the file again$"),
        ({"": packed(x=["abcabc"]).replace(b"abcabc", b"ab\xffabc")}, "^d: damaged Parquet: .*UTF8.*; fetch"),
        ({"": packed(x=pa.array([], pa.int64()))}, "^d: has columns and no rows"),
        ({"x=5/a.parquet": packed(x=[1])}, "^d/x=5/a.parquet: column 'x' holds other values than its folder says"),
        ({"a.parquet": b""}, "^d/a.parquet: empty; fetch the file again$"),
        ({"a.parquet": packed(x=[1]), "b.parquet": packed(x=["b"])}, "^d: its files do not fit together: .* x .*"),
    ],
)
def test_parquet_that_cannot_be_read_is_one_line_with_its_file(files, message):
    with pytest.raises(Misuse, match=message) as refused:
        formats.read(files, "d", (), ())
    assert "\n" not in str(refused.value)


def test_files_of_a_folder_join_and_its_partitions_are_columns():
    files = {"m=1/a.parquet": packed(x=[1]), "m=2/b.parquet": packed(x=[1.5], y=["new"])}
    frame = formats.read(files, "d/", (), ())
    assert frame["y"].isna().tolist() == [True, False] and frame["m"].tolist() == [1, 2]
    assert str(frame["m"].dtype) == "int64" and frame["x"].tolist() == [1.0, 1.5]
    zeros = {name.replace("m=", "m=0"): content for name, content in files.items()}
    assert formats.read(zeros, "d/", (), ())["m"].tolist() == ["01", "02"]
    assert formats.read(files, "d/", ("m", "x"), ())["x"].tolist() == ["1", "1.5"]
    gap = files | {"m=__HIVE_DEFAULT_PARTITION__/c.parquet": packed(x=[2])}
    assert formats.read(gap, "d/", (), ())["m"].isna().sum() == 1

    def partition(*names):
        column = formats.read({f"m={name}/a.parquet": packed(x=[1]) for name in names}, "d/", (), ())["m"]
        return column.dtype.kind, column.astype(str).tolist()

    assert partition("a%2Fb") == ("O", ["a/b"])
    assert partition("+7") == ("O", ["+7"]) and partition("9" * 20) == ("O", ["9" * 20])
    assert partition("2024-01-01", "2024-01-02") == ("M", ["2024-01-01", "2024-01-02"])
    assert partition(2**53 + 1, "__HIVE_DEFAULT_PARTITION__")[1][0] == str(2**53 + 1)


@pytest.mark.parametrize(
    "one, other, read",
    [
        (pa.array(["a"]).dictionary_encode(), ["b"], ["a", "b"]),
        ([datetime.date(2013, 1, 1)], [datetime.datetime(2013, 1, 2)], ["2013-01-01", "2013-01-02"]),
        ([1], pa.array([], pa.string()), ["1"]),
        ([1], [2.5], ["1.0", "2.5"]),
    ],
)
def test_files_whose_types_say_the_same_fit_together(one, other, read):
    files = {"a.parquet": packed(x=one), "b.parquet": packed(x=other)}
    assert formats.read(files, "d", (), ())["x"].astype(str).tolist() == read


def test_no_file_of_a_folder_is_left_out_silently(project):
    place = as_parquet(project)
    data = load(project.path / "params.yaml").data
    count = len(source.fetch(data.path, project.path))
    (place / "_m=3").mkdir()
    (place / "_m=3" / "a.parquet").write_bytes(packed(x=[1]))
    assert len(source.fetch(data.path, project.path)) == count + 1
    other = place / "b.PARQUET"
    other.write_bytes(b"")
    with pytest.raises(Misuse, match="holds 'b.PARQUET', which does not end in .parquet; name it so, or move it out"):
        source.fetch(data.path, project.path)
    other.unlink()
    (place / "more.parquet").symlink_to(place / "part=0", target_is_directory=True)
    with pytest.raises(Misuse, match="more.parquet is a link to a folder; put the files themselves there"):
        source.fetch(data.path, project.path)


def as_parquet(project, folder=True, url=None):
    """The sample as Parquet: a file, or a folder of partitions with the notes that Spark leaves."""
    table = read_csv(project.path / "data" / "flights.csv.gz")
    place = project.path / "data" / ("flights" if folder else "flights.parquet")
    if folder:
        for number, start in enumerate(range(0, len(table), 9000)):
            part = place / f"part={number}" / f"part-{number}.parquet"
            part.parent.mkdir(parents=True)
            parquet.write_table(table.slice(start, 9000), part)
        (place / "_SUCCESS").write_text("")
        (place / "_temporary").mkdir()
        (place / "_temporary" / "half.parquet").write_bytes(b"PAR1")
        project.set_param("data.ignore", ["flight", "part"])
    else:
        parquet.write_table(table, place)
    project.git("rm", "--quiet", "data/flights.csv.gz")
    project.set_param("data.path", url or place.relative_to(project.path).as_posix())
    if folder:  # the contract names the columns
        suite = project.path / "expectations" / "data.json"
        contract = json.loads(suite.read_text())
        for expectation in contract["expectations"]:
            expectation["kwargs"].get("column_list", []).append("part")
        suite.write_text(json.dumps(contract))
    return place


@pytest.mark.parametrize("folder", [False, True], ids=["a file", "a folder"])
def test_the_sample_as_parquet_makes_the_same_model_and_judges_it_on_the_same_rows(project, one_line, folder):
    before = source.read(load(project.path / "params.yaml").data, project.path)
    place = as_parquet(project, folder)
    project.cli("data-lock")
    data = load(project.path / "params.yaml").data
    files = {file.relative_to(place).as_posix(): file for file in sorted(place.rglob("part-*.parquet"))}
    listed = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in files.items())
    assert data.sha256 == sha256(listed.encode() if folder else place.read_bytes()).hexdigest()
    after = source.read(data, project.path)
    assert (row_hash(after[before.columns]) == row_hash(before)).all()
    assert "bootstrap" in project.cli("pipeline").stdout
    assert "unchanged" in project.cli("pipeline").stdout
    if folder:
        next(iter(files.values())).unlink()
        one_line(project.cli("validate", check=False), 2, "data/flights: its sha256 .* differs from the pin .*")
        shutil.rmtree(place / "part=1")
        shutil.rmtree(place / "part=2", ignore_errors=True)
        one_line(project.cli("validate", check=False), 2, "data/flights: holds no file that ends in .parquet; .*")


def test_a_folder_behind_a_url_is_read_as_one_in_the_repository(project):
    place = as_parquet(project)
    data = load(project.path / "params.yaml").data
    inside = source.fetch(data.path, project.path)
    assert list(inside) == [f"part={number}/part-{number}.parquet" for number in range(len(inside))] and len(inside) > 1
    assert source.fetch(f"file://{place}/", project.path) == inside
    (project.path / "nothing").mkdir()
    for url in (f"file://{project.path}/nothing/", "memory://nowhere/", "http://127.0.0.1:9/flights/"):
        with pytest.raises(source.NoAccess, match=f"^{url}: holds no file that ends in .parquet, or none for whoever"):
            source.fetch(url, project.path)


# Rows and keys


@pytest.mark.parametrize(
    "keys, again",
    [
        (["7", "007", "07"], []),
        (["7", "8", "7"], [2]),
        (["x", "7.0", "7"], [2]),
        ([7, 8, 7], [2]),
        ([None, "a", None], [2]),
        (["12e45678", "98e76543", "1.1", "1.10"], []),
        (["true", "True", "a"], [1]),
    ],
)
def test_a_key_is_compared_as_text_where_it_has_leading_zeros(project, keys, again):
    data = load(project.path / "params.yaml").data.model_copy(update={"key": ("id",)})
    assert repeated_keys(pd.DataFrame({"id": keys}), data).tolist() == again


def test_a_row_keeps_its_side_of_the_split_when_its_column_becomes_text():
    whole, text = pd.DataFrame({"id": [7, 10115]}), pd.DataFrame({"id": ["007", "10115"]})
    assert (row_hash(whole) == row_hash(text)).all()
    assert (row_hash(whole, codes=True) != row_hash(text, codes=True)).tolist() == [True, False]


def test_a_hash_hangs_on_the_value_alone_however_often_it_stands_there():
    cells = ["007", "7", " 7 ", "x", None, "true", "2013-01-01", "nan", "12345678901234567890", "9007199254740993", ""]
    alone = [row_hash(pd.DataFrame({"a": pd.Series([cell], dtype=object)}))[0] for cell in cells]
    places = np.random.default_rng(0).integers(0, len(cells), 500)
    for dtype in (object, "str"):
        many = pd.DataFrame({"a": pd.Series([cells[place] for place in places], dtype=dtype)})
        assert row_hash(many).tolist() == [alone[place] for place in places]


# Text files of ours


def test_the_machinery_opens_no_text_without_its_encoding():
    """Another locale, as that of Windows, would read another text. (ruff sees only what it can tell the type of.)"""
    opened = []
    for file in MACHINERY.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            given = {keyword.arg for keyword in node.keywords}
            mode = next(
                (k.value for k in node.keywords if k.arg == "mode"), node.args[1:2][0] if node.args[1:] else None
            )
            binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
            plain_open = isinstance(node.func, ast.Name) and name == "open" and not binary
            method = name == "read_text" or (name == "write_text" and isinstance(node.func, ast.Attribute))
            as_text = name in ("run", "Popen", "check_output") and given & {"text", "universal_newlines"}
            if (plain_open or method or as_text) and "encoding" not in given:
                opened.append(f"{file.relative_to(MACHINERY)}:{node.lineno}")
    assert not opened and re.search(r"read_text\(encoding", (MACHINERY / "core" / "project.py").read_text("utf-8"))
