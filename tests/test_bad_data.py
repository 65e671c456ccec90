"""Risk: data that nobody should learn from are read, guessed at, or end in a traceback."""

import gzip
import json
import re
import sys
from hashlib import sha256

import pytest

from conveyor.cli import main
from conveyor.core.params import load
from conveyor.data.source import read

FILE = "data/flights.csv.gz"


def rows_of(content: bytes) -> list[list[str]]:
    return [line.split(",") for line in gzip.decompress(content).decode().splitlines()]


def packed(rows: list[list[str]], separator: str = ",") -> bytes:
    return gzip.compress("".join(separator.join(row) + "\n" for row in rows).encode(), mtime=0)


def column(change):
    """A change of every cell of the column `distance`, its header left as it is."""

    def changed(content: bytes) -> bytes:
        rows = rows_of(content)
        place = rows[0].index("distance")
        for number, row in enumerate(rows[1:], 1):
            row[place] = change(number, row[place])
        return packed(rows)

    return changed


def cells(change):
    """A change of the whole table, given as rows of cells with the header first."""

    def changed(content: bytes) -> bytes:
        rows = rows_of(content)
        return packed(change(rows) or rows)

    return changed


def ragged(rows):
    del rows[41][3:]


def without_distance(rows):
    place = rows[0].index("distance")
    for row in rows:
        del row[place]


def line_break(rows):
    rows[5][rows[0].index("origin")] = '"EWR\n::error::x"'


def without_target(rows):
    return [row[:-1] for row in rows]


def distance_twice(rows):
    return [[*row, row[rows[0].index("distance")]] for row in rows]


def one_more(rows):
    return [[*row, "x" if number else "airline"] for number, row in enumerate(rows)]


def other_order(rows):
    return [[row[0], row[2], row[1], *row[3:]] for row in rows]


def one_class(rows):
    for row in rows[1:]:
        row[-1] = "0"


def copied_into_the_holdout(rows):
    """The last row becomes the first one in all but its time and its flight number."""
    rows[-1][1:2], rows[-1][3:] = rows[1][1:2], rows[1][3:]


def time_is_text(rows):
    rows[7][0] = "yesterday"


def time_is_missing(rows):
    rows[7][0] = ""


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 286367\n"
UNREADABLE = {
    "empty": (lambda content: b"", f"{FILE}: empty; fetch the file again"),
    "header only": (cells(lambda rows: rows[:1]), f"{FILE}: has a header and no rows; fetch the file again"),
    "truncated gzip": (lambda content: content[:1000], f"{FILE}: truncated or damaged gzip; fetch the file again"),
    "damaged gzip": (
        lambda content: content[:500] + b"\0" * 500 + content[1000:],
        f"{FILE}: truncated or damaged gzip; fetch the file again",
    ),
    "UTF-16": (
        lambda content: gzip.decompress(content).decode().encode("utf-16"),
        f"{FILE}: UTF-16 text; save it as UTF-8",
    ),
    "UTF-16 in gzip": (
        lambda content: gzip.compress(gzip.decompress(content).decode().encode("utf-16")),
        f"{FILE}: UTF-16 text; save it as UTF-8",
    ),
    "semicolons": (
        lambda content: packed(rows_of(content), ";"),
        f"{FILE}: its header 'scheduled;carrier;flight;.*' is separated by semicolons; separate the columns by commas",
    ),
    "semicolons and decimal commas": (
        lambda content: gzip.compress(gzip.decompress(content).replace(b",", b";").replace(b".", b",")),
        f"{FILE}: its header 'scheduled;carrier;flight;.*' is separated by semicolons; separate the columns by commas",
    ),
    "a line for a spreadsheet": (
        lambda content: gzip.compress(b"sep=;\r\n" + gzip.decompress(content)),
        f"{FILE}: its first line is 'sep=;'; delete it, and separate the columns by commas",
    ),
    "binary": (lambda content: b"\x89PNG\r\n\x1a\n" * 9, rf"{FILE}: no UTF-8 text \(byte 0\); save it as CSV in UTF-8"),
    "binary that is text": (
        lambda content: b"PK\0\0" * 99,
        f"{FILE}: binary, not text; save it as CSV in UTF-8, or as Parquet",
    ),
    "ragged row": (cells(ragged), f"{FILE}: Row #42: Expected 15 columns, got 3: .*; mend that row"),
    "Git LFS pointer": (lambda content: POINTER, f"{FILE}: a Git LFS pointer, not the data; run `git lfs pull`"),
    "column twice": (cells(distance_twice), f"{FILE}: column 'distance' stands twice; rename or drop one"),
    "target missing": (
        cells(without_target),
        f"params.yaml: data.target: no column 'late' in {FILE}; it has scheduled, carrier, .*",
    ),
    "time as text": (
        cells(time_is_text),
        f"{FILE}: column 'scheduled' is no time; 'yesterday' in row 7 is no date: mend it",
    ),
    "time missing": (
        cells(time_is_missing),
        f"{FILE}: column 'scheduled' has no value in row 7; fill it or drop the row",
    ),
}
MEND = "mend the data, or expectations/data.json if the contract has changed"
MORE = r"\(and \d+ more in build/data_docs/index.html\)"
REFUSED = {
    "column missing": (cells(without_distance), r"expected the columns \[.*\], column 'distance' is missing"),
    "column extra": (cells(one_more), r"expected the columns \[.*\], column 'airline' is not among them"),
    "columns reordered": (
        cells(other_order),
        r"expected the columns \[.*\], column 'flight' stands in the place of 'carrier'",
    ),
    "number as text": (
        column(lambda number, cell: f"{cell} mi" if number == 3 else cell),
        r"column 'distance': expected the type \['int64'\], found str; '\d+ mi' in row 3 is no number: mend it, or"
        " leave the cell empty",
    ),
    "infinities": (
        column(lambda number, cell: "inf" if number == 3 else cell),
        "column 'distance': expected values between 1 and 6000, 1 of 20000 rows differ: inf in row 3",
    ),
    "fractions": (
        column(lambda number, cell: f"{cell}.5"),
        r"column 'distance': expected the type \['int64'\], found float64",
    ),
    "a gap among whole numbers": (
        column(lambda number, cell: "" if number == 3 else cell),
        "column 'distance': expected no missing value, 1 of 20000 rows differ: nan in row 3",
    ),
    "a line break in a value": (
        cells(line_break),
        r"column 'origin': expected only \[.*\], 1 of 20000 rows differ: EWR\\n::error::x in row 5",
    ),
    "a row twice": (
        cells(lambda rows: rows.append(rows[-1])),
        r"expected no two rows alike in \[.*\], 2 of 20001 rows differ: 2013-07-01 03:59:00\+00:00, B6, \d+, JFK"
        " in row 20000, .* in row 20001",
    ),
    "infinities among fractions": (
        cells(lambda rows: rows[5].__setitem__(rows[0].index("temp"), "inf")),
        "column 'temp': expected values between -40 and 130, 1 of 20000 rows differ: inf in row 5",
    ),
    "all null": (
        column(lambda number, cell: ""),
        "column 'distance': expected no missing value, 20000 of 20000 rows differ:"
        " None in row 1, None in row 2, None in row 3",
    ),
    "one class": (
        cells(one_class),
        r"column 'late': expected exactly the values \[0, 1\], found no \[1\] " + MORE,
    ),
    "ten rows": (cells(lambda rows: rows[:11]), "expected between 1000 and 10000000 rows, found 10"),
    "rows on both sides": (
        cells(copied_into_the_holdout),
        "the holdout and the training rows share more rows than 0, equal in all features and the target: 1, such as"
        " row 20000; drop them, or allow as many by split.shared_rows in params.yaml",
    ),
}


def plant(project, change) -> None:
    """Spoil the data and pin what came of it, so that it is the content that is judged."""
    path = project.path / FILE
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    project.edit("params.yaml", sha256(before).hexdigest(), sha256(path.read_bytes()).hexdigest())


def unharmed(project) -> None:
    """Nothing was trained, nothing is half-written, no ref moved."""
    build = project.path / "build"
    assert not (build / "candidate").exists() and not list(build.rglob(".writing-*"))
    assert project.git("for-each-ref", "--format=%(refname)").stdout.split() == ["refs/heads/main"]


@pytest.mark.parametrize("change, message", UNREADABLE.values(), ids=UNREADABLE)
def test_data_that_cannot_be_read_are_named(project, one_line, change, message):
    plant(project, change)
    one_line(project.cli("pipeline", check=False), 2, message)
    unharmed(project)
    assert (project.path / "build" / "report.md").read_text().startswith("**Verdict: data refused**")


@pytest.mark.filterwarnings("ignore")  # Great Expectations warns of its own code while it is imported
@pytest.mark.parametrize("change, message", REFUSED.values(), ids=REFUSED)
def test_data_that_break_the_contract_are_named(project, monkeypatch, capsys, change, message):
    # In this process, through the same main: importing Great Expectations takes longer than all of these checks.
    plant(project, change)
    monkeypatch.chdir(project.path)
    monkeypatch.setattr(sys, "argv", ["late_flights", "pipeline"])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len(lines)) == (1, 1), lines
    mend = "" if "split.shared_rows" in message else f"; {MEND}"
    assert re.fullmatch(rf"error: {FILE}: {message}{mend}", lines[0]), lines[0]
    unharmed(project)
    assert (project.path / "build" / "report.md").read_text().startswith("**Verdict: data refused**")
    assert (project.path / "build" / "data_docs" / "index.html").is_file()


def test_refused_data_end_a_process_with_exit_code_1(project, one_line):
    plant(project, column(lambda number, cell: f"{cell} mi"))
    message = rf"{FILE}: column 'distance': expected the type \['int64'\], found str; {MEND}"
    one_line(project.cli("validate", check=False), 1, message)


def test_a_missing_file_is_named(project, one_line):
    (project.path / FILE).unlink()
    message = f"{FILE}: no such file; put the data there or mend data.path in params.yaml"
    one_line(project.cli("pipeline", check=False), 2, message)
    unharmed(project)


def test_data_that_differ_from_their_pin_are_named_and_the_way_out_too(project, one_line):
    path = project.path / FILE
    path.write_bytes(packed(rows_of(path.read_bytes())[:-1]))
    message = (
        f"{FILE}: its sha256 {sha256(path.read_bytes()).hexdigest()[:12]}… differs from the pin .*… in params.yaml;"
        " restore the file, or run `make data-lock` if the change is meant"
    )
    one_line(project.cli("pipeline", check=False), 2, message)
    unharmed(project)


def test_data_behind_a_url_are_read_as_a_file_is(project, tmp_path):
    """file:// goes the same way as every other fsspec URL."""
    moved = tmp_path / "flights.csv.gz"
    (project.path / FILE).rename(moved)
    project.edit("params.yaml", f"path: {FILE}", f"path: file://{moved}")
    assert "41 expectations hold on 20000 rows" in project.cli("validate").stdout


@pytest.mark.parametrize("url", ["nonsense://bucket/file.csv", "s3://bucket/file.csv", "file:///nowhere/file.csv"])
def test_a_url_that_cannot_be_read_is_named(project, one_line, url):
    project.edit("params.yaml", f"path: {FILE}", f"path: {url}")
    one_line(
        project.cli("validate", check=False),
        2,
        f"{url}: (cannot be read: .*|no such file); .*data.path in params.yaml.*",
    )


UNUSABLE = (
    ({"type": "expect_nothing", "kwargs": {}}, "expect_nothing not found"),
    ({"type": "expect_column_to_exist", "kwargs": {"column": "x", "colum": "x"}}, "colum: extra fields not permitted"),
    (
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["flight"]}},
        "column_list: column_list must contain at least two columns.",
    ),
    (
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "flight"}},
        "__root__: min_value and max_value cannot both be None",
    ),
    ({"type": "expect_column_to_exist", "kwargs": {"column": "late"}, "meta": "x"}, "'str' object is not a mapping"),
)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "expectations/data.json: missing; `git checkout expectations/data.json` brings it back"),
        ("{", "expectations/data.json: not JSON: .*; mend it"),
        ("[]", "expectations/data.json: no suite of expectations; it needs `name` and a list `expectations`"),
        (
            '{"name": "", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "late"}}]}',
            'expectations/data.json: `name` is no text; write one, as in "name": "data"',
        ),
        *(
            (
                json.dumps({"expectations": [expectation]}),
                f"expectations/data.json: expectation 1, {expectation['type']}, is refused: {why}; mend it",
            )
            for expectation, why in UNUSABLE
        ),
    ],
    ids=[
        "missing",
        "no JSON",
        "no suite",
        "no name",
        "unknown",
        "unknown argument",
        "one column",
        "no bound",
        "meta is text",
    ],
)
def test_a_broken_contract_is_named(sound, one_line, content, message):
    path = sound.path / "expectations" / "data.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    one_line(sound.cli("pipeline", check=False), 2, message)
    unharmed(sound)
    # The sound verdict of the run before is none on what is there now.
    assert (sound.path / "build" / "report.md").read_text().startswith("**Verdict: data refused**")


@pytest.mark.parametrize(
    "convert, file",
    [("true", "flights.csv"), ("true", "of 2013/new york/flights.csv"), ("false", "a.csv"), ("input", "a.csv")],
)
def test_a_file_with_the_line_ends_of_windows_keeps_its_pin_in_every_clone(project, tmp_path, convert, file):
    rows = gzip.decompress((project.path / FILE).read_bytes()).replace(b"\n", b"\r\n")
    place = project.path / "data" / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(rows)
    project.set_param("data.path", f"data/{file}")
    project.cli("data-lock")
    project.git("config", "core.autocrlf", convert)
    project.git("add", "--all")
    project.git("commit", "--quiet", "-m", "data from Windows")
    project.git("-c", f"core.autocrlf={convert}", "clone", "--quiet", str(project.path), str(tmp_path / "clone"))
    params = load(tmp_path / "clone" / "params.yaml")
    assert len(read(params.data, tmp_path / "clone")) == 20000
