"""Risk: new rows come twice, half or wrong, change rows that were there, or reach main without a person."""

import gzip
import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from act import git
from engine import free_port
from github import GitHub, grants
from pyarrow import parquet

from conveyor.adopt import append, collect, origin, sniff
from conveyor.core.errors import Misuse
from conveyor.core.params import Source, load
from conveyor.data import formats, source

KNOWN, ALL = 2000, 2500
KILLED_PLAN = str(Path(__file__).parent / "killed_plan.py")
COLLECTED = r"collect   asks .*\ncollect   (.*)\n"


@pytest.fixture
def flights(project) -> pd.DataFrame:
    """All rows, as text. The project has the first of them."""
    rows = pd.read_csv(project.path / "data/flights.csv.gz", dtype=str, keep_default_na=False).head(ALL)
    rows.head(KNOWN).to_csv(project.path / "data/flights.csv.gz", index=False, compression={"method": "gzip"})
    project.cli("data-lock")
    project.git("commit", "--quiet", "--all", "--message", "fewer rows")
    return rows


def asks(project, **where: str) -> None:
    project.set_param("data.source", where)


def pinned(project) -> pd.DataFrame:
    """The data as every step reads them: the pin holds."""
    return source.read(load(project.path / "params.yaml").data, project.path)


def tree(project) -> dict[str, bytes]:
    listed = project.git("ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    return {name: (project.path / name).read_bytes() for name in listed if (project.path / name).is_file()}


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    return formats.read({"": rows.to_csv(index=False).encode()}, "rows", (), ())


def as_parquet(rows: pd.DataFrame) -> bytes:
    return sniff.parquet_of(rows)


def as_sqlite(rows: pd.DataFrame, path: Path) -> None:
    """As a program in another language would: times are text there."""
    with sqlite3.connect(path) as base:
        typed(rows).assign(scheduled=rows["scheduled"]).to_sql("departures", base, index=False)
    base.close()


WAYS = {
    "csv": lambda rows, place: {"url": named(place / "new.csv", rows.to_csv(index=False).encode())},
    "semicolons": lambda rows, place: {"url": named(place / "new.txt", rows.to_csv(index=False, sep=";").encode())},
    "file-url": lambda rows, place: {"url": f"file://{named(place / 'new.csv', rows.to_csv(index=False).encode())}"},
    "parquet": lambda rows, place: {"url": named(place / "new.parquet", as_parquet(typed(rows)))},
    "folder": lambda rows, place: {
        "url": str(Path(named(place / "new" / "a.parquet", as_parquet(typed(rows)))).parent)
    },
    "json": lambda rows, place: {
        "url": named(
            place / "n.jsonl",
            typed(rows).assign(scheduled=rows["scheduled"]).to_json(orient="records", lines=True).encode(),
        )
    },
    "command": lambda rows, place: {
        "command": f"cat {named(place / 'n e w.csv', rows.to_csv(index=False).encode(), True)}"
    },
    "sql": lambda rows, place: sql(rows, place),
}


def named(path: Path, content: bytes, quoted: bool = False) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return shlex.quote(str(path)) if quoted else str(path)


def at(place: Path, rows: pd.DataFrame) -> dict[str, str]:
    """A source with these rows as CSV."""
    return {"url": named(place / "n.csv", rows.to_csv(index=False).encode())}


def sql(rows: pd.DataFrame, place: Path) -> dict[str, str]:
    as_sqlite(rows, place / "rows.db")
    return {"sql": f"sqlite:///{place}/rows.db", "query": "SELECT * FROM departures WHERE scheduled >= :since"}


@pytest.mark.parametrize("way", WAYS)
def test_new_rows_come_once_from_any_source_and_no_byte_of_the_old_ones_changes(project, flights, tmp_path, way):
    before = (project.path / "data/flights.csv.gz").read_bytes()
    asks(project, **WAYS[way](flights, tmp_path))
    told = project.cli("collect").stdout
    assert "500 new rows" in told and "data/flights.csv.gz has 2,500 rows now" in told
    after = (project.path / "data/flights.csv.gz").read_bytes()
    assert after.startswith(before)
    assert (
        pd.read_csv(io.BytesIO(gzip.decompress(after)), dtype=str, keep_default_na=False)[KNOWN:]
        .iloc[:, 1:4]
        .equals(flights[KNOWN:].iloc[:, 1:4])
    )
    pd.testing.assert_frame_equal(pinned(project), typed(flights))
    again = tree(project)
    assert "nothing new" in project.cli("collect").stdout and tree(project) == again


def test_a_parquet_file_and_a_folder_of_them_keep_their_types(project, flights, tmp_path):
    rows = typed(flights).assign(
        flight=lambda t: t["flight"].astype("int16"), carrier=lambda t: t["carrier"].astype("category")
    )
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    folder = project.path / "data" / "rows"
    (project.path / "data/rows.parquet").write_bytes(as_parquet(rows[:KNOWN]))
    for month, part in rows[:KNOWN].groupby(rows["scheduled"][:KNOWN].dt.day):
        (folder / f"day={month}").mkdir(parents=True)
        (folder / f"day={month}" / "a.parquet").write_bytes(as_parquet(part))
    project.edit("expectations/data.json", '"flight", "type_list": ["int64"]', '"flight", "type_list": ["int16"]')
    known = {}
    for path in ("data/rows.parquet", "data/rows"):
        project.set_param("data.path", path)
        if path == "data/rows":
            project.set_param("data.ignore", ["flight", "day"])
            with_day = flights.assign(day=pd.to_datetime(flights["scheduled"]).dt.day)
            (tmp_path / "new.csv").write_text(with_day.to_csv(index=False))
            suite = json.loads((project.path / "expectations/data.json").read_text())
            suite["expectations"][0]["kwargs"]["column_list"].append("day")
            (project.path / "expectations/data.json").write_text(json.dumps(suite))
        project.cli("data-lock")
        known[path] = {file: file.read_bytes() for file in folder.rglob("*.parquet")}
        assert "500 new rows" in project.cli("collect").stdout
        assert len(pinned(project)) == ALL
        assert "nothing new" in project.cli("collect").stdout
    kinds = parquet.read_schema(project.path / "data/rows.parquet")
    assert str(kinds.field("flight").type) == "int16" and pa.types.is_dictionary(kinds.field("carrier").type)
    assert all(file.read_bytes() == content for file, content in known["data/rows"].items())
    new, *others = set(folder.rglob("*.parquet")) - set(known["data/rows"])
    assert new.parent.name.startswith("day=") and {file.parent.parent for file in (new, *others)} == {folder}
    assert str(parquet.read_schema(new).field("flight").type) == "int16"


def test_data_at_a_url_get_a_new_file_because_main_still_reads_the_old_one(project, flights, tmp_path):
    plain = named(tmp_path / "rows.csv", flights.head(KNOWN).to_csv(index=False).encode())
    project.set_param("data.path", f"file://{plain}")
    project.cli("data-lock")
    before = Path(plain).read_bytes()
    asks(project, url=named(tmp_path / "new.csv", flights.head(2300).to_csv(index=False).encode()))
    project.cli("collect")
    assert Path(plain).read_bytes() == before and len(pinned(project)) == 2300
    second = load(project.path / "params.yaml").data.path
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    project.cli("collect")
    third = load(project.path / "params.yaml").data.path
    assert len(pinned(project)) == ALL and len({plain, second, third}) == 3
    assert Path(third).name.count("-") == 1, "one digest in a name"


def test_a_broken_contract_leaves_nothing_at_a_url(project, flights, tmp_path, one_line):
    folder = tmp_path / "store"
    project.set_param(
        "data.path", f"file://{named(folder / 'rows.csv', flights.head(KNOWN).to_csv(index=False).encode())}"
    )
    project.cli("data-lock")
    asks(project, **at(tmp_path, flights.assign(temp="451.0")))
    before = tree(project)
    one_line(project.cli("collect", check=False), 1, "with the new rows, .*; nothing was changed")
    assert tree(project) == before and [file.name for file in folder.iterdir()] == ["rows.csv"]


def test_what_is_known_waits_or_is_left_out_is_counted_and_stays_as_it_is(project, flights, tmp_path):
    answer = flights.copy()
    answer.loc[5, "distance"] = "999"
    answer.loc[KNOWN : KNOWN + 9, "late"] = ""
    answer["gate_number"] = "A1"
    doubled = pd.concat([answer, answer.tail(3)])
    asks(project, url=named(tmp_path / "new.csv", doubled.to_csv(index=False).encode()))
    told = project.cli("collect").stdout
    for words in (
        "490 new rows",
        "1,999 known",
        "1 with other values than here",
        "10 without a target yet",
        "the data have no column gate_number",
    ):
        assert words in told
    assert pinned(project)["distance"][5] != 999 and len(pinned(project)) == KNOWN + 490
    proposal = json.loads((project.path / "build/proposal.json").read_text())
    assert "**490 new rows**" in proposal["body"] and "`gate_number`" in proposal["body"]
    (tmp_path / "new.csv").write_text(flights.to_csv(index=False))
    assert "10 new rows" in project.cli("collect").stdout, "they have a target now"


def test_keys_are_compared_as_text(project):
    data = load(project.path / "params.yaml").data.model_copy(update={"key": ("code",), "time": None, "target": "y"})
    known = pd.DataFrame({"code": ["007", "8"], "y": [1.0, 2.0]})
    answer = pd.DataFrame({"code": ["7", "007", "08"], "y": [3.0, 1.0, 4.0]})
    found = collect.sort(answer, known, data, "there")
    assert (found.new["code"].tolist(), found.known, found.changed) == (["7", "08"], 1, 0)


@pytest.mark.parametrize(
    "known, new, cells",
    [
        ([1, 2], [3.0, np.nan], ["3", ""]),
        ([1.5, 2.0], [3, 4], ["3", "4"]),
        ([1.5, 2.0], [3.0, 0.1], ["3.0", "0.1"]),
        ([True, False], [1, 0], ["true", "false"]),
        (["2013-06-30", "2013-07-01"], ["2013-07-02", None], ["2013-07-02", ""]),
        (["2013-06-30T01:00", "2013-07-01"], ["2013-07-02", None], ["2013-07-02T00:00:00", ""]),
        (["2013-06-30T00:00Z", "2013-07-01T00:00Z"], ["2013-07-02T00:00+02:00", None], ["2013-07-01T22:00:00Z", ""]),
        (["a", "b"], ['c,"d"\ne', None], ['"c,""d""\ne"', ""]),
    ],
)
def test_a_value_is_written_as_its_column_is(known, new, cells):
    def column(values):
        is_time = isinstance(values[0], str) and values[0].startswith("2")
        aware = is_time and values[0][-1] in "Z0" and ("Z" in values[0] or "+" in values[0])
        return pd.to_datetime(pd.Series(values), utc=aware, format="ISO8601") if is_time else pd.Series(values)

    old = pd.DataFrame({"a": ["x", "y"], "b": column(known)})
    rows, _ = append.alike(pd.DataFrame({"b": column(new), "a": ["z", "z"]}), old, "there")
    before = b"a,b\nx,1\ny,2"  # without a line feed at its end
    after = append.appended({"": before}, "here", old, rows)[""]
    assert after.decode() == before.decode() + "\n" + "".join(f"z,{cell}\n" for cell in cells)
    windows = append.appended({"": b"a,b\r\nx,1\r\n"}, "here", old, rows)[""]
    assert windows.count(b"\r\n") == 4


def failing(command: str) -> dict[str, str]:
    return {"command": f"{shlex.quote(sys.executable)} -c {shlex.quote(command)}"}


HALF = (
    "import sys; print('scheduled,carrier'); print('2013-07-01T00:00:00Z,UA'); sys.stdout.flush();"
    " sys.exit('the server went away')"
)
FAULTS = {
    "away": (
        lambda rows, place: {"url": str(place / "no.csv")},
        2,
        ".*no.csv: no such file; put the data there or mend data.source in params.yaml",
    ),
    "url-away": (
        lambda rows, place: {"url": f"http://127.0.0.1:{free_port()}/rows.csv"},
        2,
        "http.*: cannot be read: .*; check data.source in params.yaml and its credentials",
    ),
    "half": (
        lambda rows, place: failing(HALF),
        2,
        "data.source.command: exited with 1: the server went away; nothing was changed, mend that and run it again",
    ),
    "silent": (lambda rows, place: failing("pass"), 2, "data.source.command: wrote nothing; .* the header alone"),
    "no-command": (
        lambda rows, place: {"command": "no-such-program now"},
        2,
        "data.source.command: no-such-program: No such file or directory; mend it in params.yaml",
    ),
    "cut-off": (
        lambda rows, place: {"url": named(place / "n.parquet", as_parquet(typed(rows))[:-900])},
        2,
        ".*n.parquet: damaged.*",
    ),
    "cut-off-gzip": (
        lambda rows, place: {"url": named(place / "n.csv.gz", gzip.compress(rows.to_csv(index=False).encode())[:-900])},
        2,
        ".*n.csv.gz: damaged.*fetch the file again",
    ),
    "fewer-columns": (
        lambda rows, place: at(place, rows.drop(columns=["temp", "dest"])),
        2,
        ".*n.csv: has no column dest, temp, which the data have; it has .*; mend data.source",
    ),
    "other-type": (
        lambda rows, place: at(place, rows.assign(temp="warm")),
        2,
        ".*column 'temp' is text there, as 'warm', and number in the data; bring it to number there",
    ),
    "no-zone": (
        lambda rows, place: at(place, rows.assign(scheduled=rows["scheduled"].str.removesuffix("Z"))),
        2,
        ".*column 'scheduled': the data have a zone and it has none; write the zone.*",
    ),
    "contract": (
        lambda rows, place: at(place, rows.assign(temp="451.0")),
        1,
        r"with the new rows, which begin at row 2001, data/flights.*: column 'temp': .* 500 of .*; nothing was changed",
    ),
    "contradicting": (
        lambda rows, place: at(place, pd.concat([rows, rows.tail(2).assign(temp="1.0")])),
        2,
        r".*2 rows repeat the key \(scheduled, carrier, flight, origin\) of a row before them .*, such as row 2501.*",
    ),
    "no-database": (
        lambda rows, place: {"sql": "sqlite:///no.db", "query": "SELECT 1"},
        2,
        "data.source.sql: no.db: no such file; mend it in params.yaml",
    ),
    "no-table": (
        lambda rows, place: sql(rows, place) | {"query": "SELECT * FROM nowhere"},
        2,
        "data.source.sql: no such table: nowhere; check data.source.*",
    ),
    "same-name": (
        lambda rows, place: sql(rows, place) | {"query": "SELECT *, 1 AS late FROM departures"},
        2,
        "data.source.query: answers column 'late' twice; name one of them otherwise, by AS",
    ),
    "no-driver": (
        lambda rows, place: {"sql": "oracle://db.example.com/x", "query": "SELECT 1"},
        2,
        "data.source.sql: No module named .*; add the driver to requirements/run.in, then `make lock` and `make setup`",
    ),
    "no-dialect": (
        lambda rows, place: {"sql": "nosuch://db.example.com/x", "query": "SELECT 1"},
        2,
        "data.source.sql: .*nosuch; add the driver .*",
    ),
    "no-url": (
        lambda rows, place: {"sql": "rows", "query": "SELECT 1"},
        2,
        "data.source.sql: .*; write it as postgresql.*",
    ),
    "database-away": (
        lambda rows, place: {"sql": f"postgresql+psycopg://me@127.0.0.1:{free_port()}/x", "query": "SELECT 1"},
        2,
        "data.source.sql: connection failed: .*; check data.source .*; nothing was changed",
    ),
    "password": (
        lambda rows, place: {"sql": "postgresql+psycopg://me:secret@h/x", "query": "SELECT 1"},
        2,
        "params.yaml: data.source.sql: a password has no place in this file; leave it out and set SOURCE_PASSWORD",
    ),
    "no-words": (
        lambda rows, place: {"command": " "},
        2,
        "params.yaml: data.source.command: .*",
    ),
    "two-ways": (
        lambda rows, place: {"url": "a.csv", "command": "b"},
        2,
        "params.yaml: data.source: give url, or command, or sql with query",
    ),
    "no-query": (
        lambda rows, place: {"sql": "sqlite:///a.db"},
        2,
        "params.yaml: data.source: give url, or command, or sql with query",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_is_away_half_or_changed_is_one_line_and_changes_nothing(
    project, flights, tmp_path, one_line, fault
):
    where, code, message = FAULTS[fault]
    asks(project, **where(flights, tmp_path))
    before = tree(project)
    one_line(project.cli("collect", check=False), code, message)
    assert tree(project) == before and not list(project.path.rglob("*.db"))


def test_without_new_rows_or_without_a_source_it_says_so(project, flights, tmp_path):
    before = tree(project)
    assert "data.source in params.yaml names no source" in project.cli("collect").stdout
    assert tree(project) == before
    asks(project, url=named(tmp_path / "new.csv", flights.head(0).to_csv(index=False).encode()))
    assert "nothing new" in project.cli("collect").stdout


def test_a_command_gets_the_newest_time_and_no_token(project, flights, tmp_path):
    seen = tmp_path / "seen.json"
    script = named(
        tmp_path / "ask.py",
        b"import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w')); print(open(sys.argv[2]).read())",
    )
    rows = named(tmp_path / "new.csv", flights.to_csv(index=False).encode())
    asks(project, command=shlex.join([sys.executable, script, str(seen), rows]))
    secrets = {"GITHUB_TOKEN": "t", "LEDGER_KEY": "k", "SOURCE_PASSWORD": "for the source"}
    assert "500 new rows" in project.cli("collect", **secrets).stdout
    told = json.loads(seen.read_text())
    assert pd.Timestamp(told["SINCE"]) == pd.Timestamp(flights["scheduled"][KNOWN - 1])
    assert told["SOURCE_PASSWORD"] == "for the source" and not {"GITHUB_TOKEN", "LEDGER_KEY"} & told.keys()


def test_a_command_without_an_end_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "MINUTES", 0.01)
    command = "sh -c '(sleep 2; touch late) & sleep 60'"
    with pytest.raises(Misuse, match="^data.source.command: did not end within 0.01 minutes, and was ended; nothing"):
        origin._of_command(tmp_path, command, None)
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_data_behind_a_link_are_not_written(project, flights, tmp_path, one_line):
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    data = project.path / "data" / "flights.csv.gz"
    data.rename(tmp_path / "elsewhere.csv.gz")
    data.symlink_to(tmp_path / "elsewhere.csv.gz")
    before = tree(project)
    message = "data.path: data/flights.csv.gz is a link, and collect writes no file behind one; name the file itself"
    one_line(project.cli("collect", check=False), 2, message)
    assert tree(project) == before and data.is_symlink()


def test_since_needs_a_column_of_times(project, flights, tmp_path, one_line):
    asks(project, **sql(flights, tmp_path))
    project.set_param("data.time", None)
    one_line(project.cli("collect", check=False), 2, "data.source.query: names :since, and data.time is null; .*")


@pytest.mark.parametrize("written", [0, 1])
def test_a_killed_collect_is_finished_by_the_next_one(project, flights, tmp_path, written):
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    done = project.run(
        sys.executable, "-P", KILLED_PLAN, str(written), "collect", check=False, env={"PYTHONPATH": "src"}
    )
    assert done.returncode == -signal.SIGKILL
    assert "an earlier run was killed; its files are in place" in project.cli("collect").stdout
    assert len(pinned(project)) == ALL
    assert "nothing new" in project.cli("collect").stdout


def small(project, content: bytes, **more) -> None:
    """Adopts a small file of one's own; more: besides target `y`."""
    (project.path / "own.csv").write_bytes(content)
    words = [word for name, value in more.items() for word in (f"--{name}", value)]
    project.cli("adopt", "--data", "own.csv", "--target", "y", *words)
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "own data")


def comma(amount: float, places: int = 2) -> str:
    return f"{amount:.{places}f}".replace(".", ",")


@pytest.fixture
def german(project) -> list[str]:
    """Adopted rows with decimal commas and days before months: id, day, amount, x, y."""
    rng = np.random.default_rng(7)
    days = pd.date_range("2024-01-01", periods=400, freq="12h")
    rows = [
        f"{n};{day:%d/%m/%Y};{comma(rng.uniform(1, 99))};{rng.integers(9)};{rng.integers(2)}"
        for n, day in enumerate(days)
    ]
    small(project, "\n".join(["id;day;amount;x;y", *rows, ""]).encode(), key="id")
    assert pinned(project)["amount"].max() < 100
    return rows


def answers(project, *rows: str, header: str = "id;day;amount;x;y", check=True):
    (project.path / "answer.csv").write_text("\n".join([header, *rows, ""]))
    asks(project, url="answer.csv")
    return project.cli("collect", check=check)


def test_marks_mean_what_they_meant_when_the_data_were_adopted(project, german):
    """A few new rows alone could be read in two ways: 12,125 as a large number, 03/06 as a day in March."""
    assert "2 new rows" in answers(project, "9000;03/06/2024;12,125;1;1", "9001;04/06/2024;1.040,5;2;0").stdout
    new = pinned(project).tail(2)
    assert new["amount"].tolist() == [12.125, 1040.5]
    assert new["day"].dt.strftime("%Y-%m-%d").tolist() == ["2024-06-03", "2024-06-04"]


def test_other_marks_than_then_are_refused(project, german, one_line):
    before = tree(project)
    for row in ("9000;06/13/2024;1,5;1;1", "9000;13/06/2024;1,2,5;1;1"):
        done = answers(project, row, check=False)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
        assert pinned(project)["id"].max() == 399
    assert tree(project)["data/own.parquet"] == before["data/own.parquet"]


def test_codes_that_come_as_numbers_are_not_other_rows(project, one_line):
    rows = [f"{n:05d},{n % 7},{n % 2}" for n in range(400)]
    small(project, "\n".join(["code,x,y", *rows, ""]).encode(), key="code")
    lines = "".join(json.dumps({"code": n, "x": n % 7, "y": n % 2}) + "\n" for n in range(400))
    (project.path / "answer.jsonl").write_text(lines)
    asks(project, url="answer.jsonl")
    message = "answer.jsonl: column 'code' is number there, as 0, and text in the data; bring it to text there"
    one_line(project.cli("collect", check=False), 2, message)


def test_the_columns_of_the_data_tell_the_separator_of_a_header_alone(project):
    rows = [f"{n},{n % 7},{n % 2}" for n in range(400)]
    small(project, "\n".join(['id,"a|b",y', *rows, ""]).encode(), key="id")
    assert "nothing new" in answers(project, header='id,"a|b",y').stdout
    assert "1 new row" in answers(project, "900,3,1", header='id,"a|b",y').stdout


def test_a_time_that_has_not_come_does_not_keep_all_new_rows_away():
    now = pd.Timestamp.now("UTC")
    for zone in ("UTC", None):
        times = pd.Series([now - pd.Timedelta(days=2), now - pd.Timedelta(days=1), now + pd.Timedelta(days=900)])
        times = times.dt.tz_localize(None) if zone is None else times
        assert collect._newest(times) == times[1] and collect._newest(times[2:]) == times[2]


def test_a_target_of_true_and_false_may_wait_too(project):
    rows = [f"{n},{n % 7},{'true' if n % 3 else 'false'}" for n in range(400)]
    small(project, "\n".join(["id,x,y", *rows, ""]).encode(), key="id")
    done = answers(project, "900,1,true", "901,2,", "902,3,false", header="id,x,y")
    assert "2 new rows" in done.stdout and "1 without a target yet" in done.stdout


@pytest.mark.parametrize("gaps_before", [False, True])
def test_a_feature_of_true_and_false_may_have_gaps_before_and_after(project, gaps_before):
    rows = [f"{n},{'' if gaps_before and n % 50 == 0 else str(n % 3 == 0).lower()},{n % 2}" for n in range(400)]
    small(project, "\n".join(["id,x,y", *rows, ""]).encode(), key="id")
    assert "3 new rows" in answers(project, "900,true,1", "901,,0", "902,false,1", header="id,x,y").stdout
    assert pinned(project)["x"].tolist()[-3:] == [True, None, False]


def test_rows_of_the_newest_day_come_from_sqlite_where_days_are_texts(project):
    days = pd.date_range("2024-01-01", periods=100).repeat(4)
    rows = [f"{n},{day:%Y-%m-%d},{n % 7},{n % 2}" for n, day in enumerate(days)]
    small(project, "\n".join(["id,day,x,y", *rows, ""]).encode(), key="id", time="day")
    newest, later = (f"{days[-1] + pd.Timedelta(days=more):%Y-%m-%d}" for more in (0, 1))
    with sqlite3.connect(project.path / "rows.db") as base:
        base.execute("CREATE TABLE rows (id INTEGER, day TEXT, x INTEGER, y INTEGER)")
        base.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?)", [(900, newest, 1, 0), (901, later, 2, 1), (902, "2023-01-01", 2, 1)]
        )
    base.close()
    asks(project, sql="sqlite:///rows.db", query="SELECT * FROM rows WHERE day >= :since")
    assert "2 new rows" in project.cli("collect").stdout


def test_a_year_stays_a_time(project):
    rows = [
        f"{year},{land},{(year * 7 + k) % 11},{(year + k) % 2}"
        for year in range(1990, 2014)
        for k, land in enumerate("ABCDEFGHIJKLMNOP")
    ]
    small(project, "\n".join(["year,land,x,y", *rows, ""]).encode(), key="land,year", time="year")
    assert "2 new rows" in answers(project, "2014,A,1,1", "2014,B,2,0", header="year,land,x,y").stdout
    assert pinned(project)["year"].dt.year.max() == 2014


def test_the_last_line_without_an_end_waits(project, flights, tmp_path):
    text = flights.head(2010).to_csv(index=False)
    asks(project, url=named(tmp_path / "new.csv", text[:-2].encode()))
    assert "9 new rows" in (told := project.cli("collect").stdout) and "1 in the last line, which has no end" in told
    (tmp_path / "new.csv").write_text(text)
    assert "1 new row from" in project.cli("collect").stdout


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"Service unavailable, retry later\n",
            ".*n.csv: has no column scheduled, carrier, .*; it has Service unavailable, .*",
        ),
        (
            b"<!DOCTYPE html><title>Sorry, down</title>\n",
            ".*n.csv: is HTML or XML, perhaps a message of a server, and no rows: .*",
        ),
        (b"<html>\n<p>Sorry,\n</html>\n", ".*n.csv: is HTML or XML, .*"),
        (b"a,b\r1,2\r", ".*n.csv: has no column scheduled, .*; it has a, b; mend data.source"),
        (b"sorry\n", ".*n.csv: has one column; rows need several .*"),
    ],
)
def test_a_message_of_a_server_is_not_an_answer_without_rows(project, flights, tmp_path, one_line, content, told):
    asks(project, url=named(tmp_path / "n.csv", content))
    one_line(project.cli("collect", check=False), 2, told)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("cat new.csv | grep -v x", "'\\|' is for a shell, and none runs the command; write it as sh -c '...', .*"),
        ("cat new.csv > other.csv", "'>' is for a shell, .*"),
        ("cat $HOME/rows.csv", ".*HOME/rows.csv' is for a shell, .*"),
        ("X=1 cat new.csv", "'X=1' is for a shell, .*"),
        ("cd data && cat new.csv", "'&&' is for a shell, .*"),
        ("cat 'new.csv", "no closing quotation; mend it in params.yaml"),
        ("sh -c 'kill -9 $$'", "was ended by signal 9: it said nothing; .*"),
    ],
)
def test_words_for_a_shell_are_told(project, one_line, command, told):
    asks(project, command=command)
    one_line(project.cli("collect", check=False), 2, f"data.source.command: {told}")


def test_a_shell_may_be_asked_for_and_python_is_the_one_with_the_libraries(project, flights, tmp_path):
    rows = named(tmp_path / "new.csv", flights.to_csv(index=False).encode())
    asks(project, command=f"sh -c 'tail -n +1 {rows} | cat'")
    assert "500 new rows" in project.cli("collect").stdout
    asks(project, command="python -c 'import sys; sys.exit(sys.executable)'")
    assert f"exited with 1: {sys.executable};" in project.cli("collect", check=False).stderr


def test_what_was_changed_after_a_kill_is_not_written_over(project, flights, tmp_path, one_line):
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    project.run(sys.executable, "-P", KILLED_PLAN, "1", "collect", check=False, env={"PYTHONPATH": "src"})
    one_line(
        project.cli("validate", check=False),
        2,
        "build/adopt: `adopt`, `collect` or `forget` was killed .*; run it again; to keep .*, delete build/adopt",
    )
    project.cli("data-lock")
    project.set_param("model.seed", 8)
    told = project.cli("collect").stdout
    assert "drops the files of an earlier run, which was killed: params.yaml has changed since" in told
    assert load(project.path / "params.yaml").model.seed == 8 and len(pinned(project)) == ALL
    assert not (project.path / "build" / "adopt").exists()


def test_what_a_colleague_has_committed_after_a_kill_is_not_taken_back(project, flights, tmp_path):
    asks(project, url=named(tmp_path / "new.csv", flights.to_csv(index=False).encode()))
    project.git("commit", "--quiet", "--all", "--message", "a source")
    project.run(sys.executable, "-P", KILLED_PLAN, "1", "collect", check=False, env={"PYTHONPATH": "src"})
    project.git("checkout", "--quiet", "--", ".")
    flights.head(KNOWN + 2).to_csv(project.path / "data/flights.csv.gz", index=False, compression={"method": "gzip"})
    project.cli("data-lock")
    project.git("commit", "--quiet", "--all", "--message", "two rows of a colleague")
    before = (project.path / "data/flights.csv.gz").read_bytes()
    told = project.cli("collect").stdout
    assert "drops the files of an earlier run" in told and "498 new rows" in told
    assert (project.path / "data/flights.csv.gz").read_bytes().startswith(before) and len(pinned(project)) == ALL


class Refusing(BaseHTTPRequestHandler):
    """A server that refuses by the status in the path."""

    def do_GET(self):
        self.send_response(int(self.path.rpartition("/")[2].partition(".")[0]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing on standard error."""


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR])
def test_what_a_server_of_files_says_is_told_without_the_secret_in_its_address(project, one_line, status):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/{status.value}.csv"
            asks(project, url=f"{url}?token=secret")
            done = project.cli("collect", check=False)
        finally:
            server.shutdown()
            thread.join()
    one_line(
        done, 2, f"{url}: .*{status.value}.*{status.phrase}.*; check data.source in params.yaml and its credentials"
    )
    assert "secret" not in done.stdout + done.stderr


def test_data_that_change_while_the_source_answers_are_kept(project, flights, tmp_path, one_line):
    rows = named(tmp_path / "new.csv", flights.to_csv(index=False).encode())
    asks(project, command=f"sh -c 'printf x > data/flights.csv.gz; cat {rows}'")
    message = "data/flights.csv.gz: has changed while `sh` answered; nothing was changed, run it again"
    one_line(project.cli("collect", check=False), 2, message)
    assert (project.path / "data/flights.csv.gz").read_bytes() == b"x"


def typed_parquet(**columns: pa.Array) -> dict[str, bytes]:
    return {"": sniff.packed(pa.table(columns))}


@pytest.mark.parametrize(
    ("column", "new", "told"),
    [
        (pa.array([1.5, 2.5], pa.float32()), [40.1], None),
        (pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(10, 2)), [40.25], None),
        (pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(10, 2)), [40.512], "does not fit decimal"),
        (pa.array([1, 2], pa.int8()), [300], "does not fit int8"),
        (pa.array([15_000, 15_001], pa.date32()), [pd.Timestamp("2011-01-28T13:00")], "does not fit date32"),
        (pa.array([15_000, 15_001], pa.date32()), [pd.Timestamp("2011-01-28")], None),
    ],
)
def test_a_value_that_a_parquet_column_cannot_hold_is_told_by_its_column(column, new, told):
    files = typed_parquet(a=column)
    known = formats.read(files, "here", (), ())
    rows, _ = append.alike(pd.DataFrame({"a": new}), known, "there")
    if told:
        with pytest.raises(Misuse, match=f"here: column 'a' of the new rows {told}"):
            append.appended(files, "here", known, rows)
        return
    after = formats.read(append.appended(files, "here", known, rows), "here", (), ())
    assert len(after) == 3 and str(after["a"].dtype) == str(known["a"].dtype)
    assert after["a"].tolist()[-1] == rows["a"].iloc[0]


def test_a_gap_where_a_parquet_file_takes_none_is_told(project):
    table = pa.table({"a": [1.0]}, schema=pa.schema([pa.field("a", pa.float64(), nullable=False)]))
    files = {"": sniff.packed(table)}
    with pytest.raises(Misuse, match="column 'a' of the new rows has a gap, and the file takes none there"):
        append.appended(files, "here", pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [2.0, None]}))


def test_new_rows_of_a_partitioned_folder_lie_in_the_folders_that_they_name(tmp_path):
    part = {"x": pa.array([1, 2])}
    files = {
        "region=n%20w/year=2024/a.parquet": sniff.packed(pa.table(part)),
        "region=s/year=2024/a.parquet": sniff.packed(pa.table(part)),
    }
    known = formats.read(files, "here", (), ())
    new = pd.DataFrame({"x": [5, 6], "region": ["n w", "t"], "year": [2025, 2025]})
    rows, _ = append.alike(new, known, "there")
    found = append.appended(files, "here", known, rows)
    assert [name.rpartition("/")[0] for name in found] == ["region=n%20w/year=2025", "region=t/year=2025"]
    for name, content in {**files, **found}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert len(pd.read_parquet(tmp_path)) == 6, "others can read it, too"


# PostgreSQL


@contextmanager
def postgres(folder: Path):
    """A server of PostgreSQL on the loopback address, which ends with the block. It does not run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("postgresql is not installed; .ci/run does it")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    place, port = folder / "base", free_port()
    place.mkdir()
    if as_user:
        shutil.chown(place, "postgres")
        for parent in [folder, *folder.parents]:
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)  # pytest makes its folders private
    tool = [*as_user, str(found[-1] / "pg_ctl"), "--pgdata", str(place), "--silent"]
    secret = folder / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    made = f"--auth=scram-sha-256 --pwfile={secret} --username=reader --encoding=UTF8 --no-sync"
    subprocess.run([*tool, "initdb", "--options", made], check=True, capture_output=True, cwd="/")
    listening = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    log = place / "log"
    subprocess.run([*tool, "start", "--wait", "--options", listening, "--log", str(log)], check=True, cwd="/")
    try:
        yield f"postgresql+psycopg://reader@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*tool, "stop", "--mode", "immediate"], check=True, cwd="/")


def test_rows_come_from_postgresql_in_its_own_types(project, flights, tmp_path, one_line):
    import sqlalchemy

    query = "SELECT * FROM departures WHERE scheduled >= :since - INTERVAL '1 day'"
    with postgres(tmp_path) as url:
        engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(password="s3cret"))
        typed(flights).to_sql("departures", engine, index=False)
        with engine.begin() as base:
            base.execute(
                sqlalchemy.text(
                    "ALTER TABLE departures ADD id uuid DEFAULT gen_random_uuid(), ADD more jsonb DEFAULT '[1]'"
                )
            )
            base.execute(
                sqlalchemy.text("ALTER TABLE departures ALTER temp TYPE numeric(6,2), ALTER flight TYPE smallint")
            )
        engine.dispose()
        asks(project, sql=url, query=query)
        before = tree(project)
        no_password = (
            "data.source.sql: .*password.*; check data.source in params.yaml, SOURCE_PASSWORD and the server; .*"
        )
        one_line(project.cli("collect", check=False), 2, no_password)
        done = project.cli("collect", check=False, SOURCE_PASSWORD="wrong s3cret")
        one_line(done, 2, "data.source.sql: .*authentication failed.*")
        assert "s3cret" not in done.stderr and tree(project) == before
        asks(project, sql=url, query="DELETE FROM departures RETURNING *")
        one_line(
            project.cli("collect", check=False, SOURCE_PASSWORD="s3cret"),
            2,
            "data.source.sql: cannot execute DELETE in a read-only.*",
        )
        asks(project, sql=url, query=query)
        assert "500 new rows" in project.cli("collect", SOURCE_PASSWORD="s3cret").stdout
        pd.testing.assert_frame_equal(pinned(project), typed(flights))
        assert "nothing new" in project.cli("collect", SOURCE_PASSWORD="s3cret").stdout


# The pull request


@pytest.fixture
def proposed(project, flights, tmp_path):
    """A function that runs `collect` and `propose` as the workflow does, with so many rows at the source."""
    remote = tmp_path / "remote.git"
    project.git("init", "--quiet", "--bare", str(remote))
    project.git("remote", "add", "origin", str(remote))
    asks(project, url=str(tmp_path / "new.csv"))
    project.git("commit", "--quiet", "--all", "--message", "a source")
    project.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    with GitHub(grants(project.path), project.path) as double:

        def run(rows: int, check: bool = True):
            (tmp_path / "new.csv").write_text(flights.head(rows).to_csv(index=False))
            project.git("checkout", "--quiet", "--", ".")
            shutil.rmtree(project.path / "build", ignore_errors=True)
            project.cli("collect")
            return project.cli("propose", check=check, **double.environment("collect/bring"))

        yield double, remote, run


def test_one_pull_request_holds_the_new_rows_and_each_run_writes_it_anew(project, proposed):
    double, remote, run = proposed
    main = git(remote, "rev-parse", "refs/heads/main")
    assert "pushed: branch collect, https://github.com/" in run(2200).stdout
    [pull] = double.pulls.values()
    assert pull["title"].startswith("200 new rows for flights.csv.gz (2013-") and pull["base"] == {"ref": "main"}
    assert "starts no checks" in pull["body"] and "| new | 200 |" in pull["body"]
    changed = git(remote, "diff", "--name-only", "refs/heads/main", "refs/heads/collect").split()
    assert changed == ["data/flights.csv.gz", "params.yaml"]
    settings = yaml.safe_load(git(remote, "show", "refs/heads/collect:params.yaml"))["data"]
    content = subprocess.run(
        ["git", "show", "refs/heads/collect:data/flights.csv.gz"], cwd=remote, capture_output=True, check=True
    ).stdout
    assert source.pin({"": content}) == settings["sha256"]
    assert project.git("status", "--porcelain", "--untracked-files=no").stdout.split() == [
        "M",
        "data/flights.csv.gz",
        "M",
        "params.yaml",
    ]

    head = git(remote, "rev-parse", "refs/heads/collect")
    assert "found as it is" in run(2200).stdout
    assert git(remote, "rev-parse", "refs/heads/collect") == head and double.writes == ["POST pulls"]
    time.sleep(1.1)
    run(ALL)
    [pull] = double.pulls.values()
    assert pull["title"].startswith("500 new rows") and double.writes == ["POST pulls", "PATCH pulls/1"]
    assert git(remote, "rev-list", "--count", "refs/heads/main..refs/heads/collect") == "1"
    assert git(remote, "rev-parse", "refs/heads/main") == main


def test_a_branch_that_a_person_has_added_to_is_left_alone(project, proposed, one_line):
    double, remote, run = proposed
    run(2200)
    project.git("stash", "--quiet")
    project.git("fetch", "--quiet", "origin", "collect")
    project.git("checkout", "--quiet", "FETCH_HEAD")
    project.edit("README.md", "## Start", "## Begin")
    project.git("commit", "--quiet", "--all", "--message", "a person's")
    project.git("push", "--quiet", "origin", "HEAD:refs/heads/collect")
    project.git("checkout", "--quiet", "-")
    head = git(remote, "rev-parse", "refs/heads/collect")
    message = r"propose: the branch collect holds a commit of others \(\w+ Ada\); merge or close its pull request .*"
    one_line(run(ALL, check=False), 2, message)
    assert git(remote, "rev-parse", "refs/heads/collect") == head


def test_a_repository_that_lets_no_workflow_open_one_gets_the_branch_and_a_link(proposed, one_line):
    double, remote, run = proposed
    double.may_open = False
    message = "propose: this workflow may open no pull request: allow it (.*), or open it yourself: https://github.com/.*/compare/main...collect.expand=1"
    one_line(run(2200, check=False), 2, message.replace("(.*)", r"\(.*\)"))
    assert git(remote, "rev-list", "--count", "refs/heads/main..refs/heads/collect") == "1"
    double.may_open = True
    assert "found as it is" in run(2200).stdout and len(double.pulls) == 1


def test_a_proposal_of_another_commit_is_none(project, proposed, one_line):
    double, _, run = proposed
    run(2200)
    project.git("commit", "--quiet", "--allow-empty", "--message", "another")
    done = project.cli("propose", check=False, **double.environment("collect/bring"))
    one_line(done, 2, "build/proposal.json: is of commit .*, not of this one; run `make collect` again")


def test_where_new_rows_come_from_is_no_input_of_a_model_and_a_reviewer_is_told_of_it(project):
    from conveyor.core.project import Project
    from conveyor.steps import judge, train

    shutil.copytree(project.path, project.path.parent / "pull")
    before = train.key(Project(project.path))
    pull = project.path.parent / "pull"
    text = (pull / "params.yaml").read_text()
    (pull / "params.yaml").write_text(text.replace("source: null", "source: {command: fetch}"))
    assert Source(command="fetch") == load(pull / "params.yaml").data.source
    assert train.key(Project(pull)) == before
    flags = judge.of_pull_request(Project(project.path, pull=pull), pull).flags
    assert flags == ["changes where `make collect` gets new rows (params.yaml: data.source)"]


def test_a_url_in_params_holds_no_password():
    with pytest.raises(ValueError, match="leave it out and set DATA_OPTIONS"):
        Source(url="https://me:secret@example.com/rows.csv")
    for url in ("postgresql://me:secret@h/x", "postgresql://me@h/x?sslmode=off&password=secret"):
        with pytest.raises(ValueError, match="leave it out and set SOURCE_PASSWORD"):
            Source(sql=url, query="SELECT 1")
    assert Source(url="https://example.com/a:b@c.csv").url
