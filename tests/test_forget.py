"""Risk: a person's rows stay where they can be reached, another's go, a file is half-written, or nobody is told what is
left."""

import gzip
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from conveyor.core.errors import Misuse
from conveyor.core.params import load
from conveyor.core.project import Project
from conveyor.data import source
from conveyor.deploy.host import Host
from conveyor.ledger.permission import TARGET
from conveyor.serving.log_files import Folder
from conveyor.steps.pipeline import alone
from conveyor.watch import erasure, forget, predictions, removal
from conveyor.watch.log_lines import Asked

CSV = (
    b"id,day,who,note,y\r\n"
    b"1,2013-05-01,ann,plain,0\r\n"
    b'2,2013-05-01,bob,"two\nlines, ""quoted""",1\r\n'
    b"\r\n"
    b'3,2013-05-02,ann,"a, b",1\r\n'
    b"007,2013-05-02,bob,,0\r\n"
    b'5,2013-05-03,"Smith, John",last,1'
)
KILLED_PLAN = str(Path(__file__).parent / "killed_plan.py")
SAID = "A person's row has no other place than these tests"


@pytest.fixture
def people(project, tmp_path, monkeypatch):
    """people(content) -> the project with these rows, by id and day, of a group; a URL names the folder of its log."""
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    monkeypatch.setattr(removal, "WAIT", 0.0)
    (tmp_path / "log").mkdir()

    def people(content: bytes = CSV, name: str = "data/people.csv", **changes):
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / name).write_bytes(content)
        about = {"path": name, "target": "y", "key": ["id", "day"], "time": None, "ignore": [], "text": ["id"]}
        for key, value in (about | {"group": "who"} | changes).items():
            project.set_param(f"data.{key}", value)
        project.set_param("gate.guards.segments", [])
        project.cli("data-lock")
        return project

    return people


def forgotten(project, key: str, yes: bool = True) -> list[str]:
    said: list[str] = []
    started = Project(project.path)
    with alone(started):
        said.append(forget.run(started, key, yes, said.append))
    return said


def pinned(project) -> pd.DataFrame:
    """The data as every step reads them: the pin holds."""
    return source.read(load(project.path / "params.yaml").data, project.path)


def line(id: str, row: int = 1, /, **features) -> bytes:
    told = {"id": id, "request": "r", "row": row, "time": "2026-11-29T10:00:00Z", "model": "m"}
    return json.dumps({**told, "features": {"x": 1.5, **features}, "prediction": 0.5}).encode() + b"\n"


def label(id: str, row: int = 1) -> bytes:
    return json.dumps({"id": id, "row": row, "time": "2026-11-29T11:00:00Z", "label": 1}).encode() + b"\n"


def ids(folder: Path, kind: str) -> list[tuple[str, int]]:
    files = sorted(folder.glob(f"{kind}-*.jsonl"))
    return [removal.row_of(each) for file in files for each in file.read_bytes().splitlines()]


# The key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=17,day=2013-05-01", {"id": "17", "day": "2013-05-01"}),
        (' id = 17 , day="2013-05-01"', {"id": "17", "day": "2013-05-01"}),
        ('who="Smith, John ""Jack"""', {"who": 'Smith, John "Jack"'}),
        ('"a, b"=c=d', {"a, b": "c=d"}),
    ],
)
def test_a_key_is_columns_with_values_quoted_as_in_a_csv(text, expected):
    assert forget.pairs(text) == expected


@pytest.mark.parametrize("text", ["", "id", "id=", "=17", "id=17,", "id=17,id=18", 'id="17', 'id="1"7', "id=17,day"])
def test_a_key_that_is_none_is_one_line(text):
    with pytest.raises(Misuse, match="KEY: names no rows; write it as KEY="):
        forget.pairs(text)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("id=1", "KEY: names id; a row is named by id, day, or who: name all of them"),
        ("id=1,day=2013-05-01,who=ann", "KEY: names id, day, who; a row is named by id, day, or who: .*"),
        ("id=9,day=2013-05-01", "KEY: no row, prediction or label of id=9,day=2013-05-01 was found.*; nothing was .*"),
        ("who=eve", "KEY: no row, prediction or label of who=eve was found.*; nothing was changed"),
        ("id=7,day=2013-05-02", "KEY: no row, .*"),
    ],
)
def test_a_key_of_other_columns_or_of_nobody_is_one_line_and_changes_nothing(people, one_line, key, told):
    project = people()
    before = (project.path / "params.yaml").read_bytes()
    one_line(project.cli("forget", "--key", key, "--yes", check=False), 2, told)
    assert (project.path / "data/people.csv").read_bytes() == CSV
    assert (project.path / "params.yaml").read_bytes() == before


# The data


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("id=1,day=2013-05-01", ["2", "3", "007", "5"]),
        ("day=2013-05-01T00:00:00Z,id=1", ["2", "3", "007", "5"]),
        ("id=007,day=2013-05-02", ["1", "2", "3", "5"]),
        ("who=ann", ["2", "007", "5"]),
        ("who=bob", ["1", "3", "5"]),
        ('who="Smith, John"', ["1", "2", "3", "007"]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_rows_of_a_key_or_a_group_go_and_not_a_byte_of_the_others_changes(people, key, left, packed):
    project = people(gzip.compress(CSV) if packed else CSV)
    forgotten(project, key)
    assert pinned(project)["id"].tolist() == left
    content = (project.path / "data/people.csv").read_bytes()
    content = gzip.decompress(content) if packed else content
    assert content.startswith(b"id,day,who,note,y\r\n")
    for id, bytes_ in {
        "2": b'2,2013-05-01,bob,"two\nlines, ""quoted""",1\r\n',
        "3": b'3,2013-05-02,ann,"a, b",1\r\n',
    }.items():
        assert (bytes_ in content) == (id in left)


def of_parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        {b"of": b"us", **(schema.metadata or {})}
    )
    parquet.write_table(table, out)
    return out.getvalue()


def test_a_parquet_file_keeps_its_types_and_a_folder_its_other_files(people):
    frame = pd.DataFrame({"id": ["1", "2", "3"], "day": pd.to_datetime(["2013-05-01"] * 3), "who": ["a", "b", "a"]})
    frame = frame.assign(n=pd.array([1, 2, 3], dtype="int16"), y=[0, 1, 0])
    project = people(of_parquet(frame), "data/people.parquet")
    forgotten(project, "who=a")
    left = parquet.read_table(project.path / "data/people.parquet")
    assert left["id"].to_pylist() == ["2"] and left.schema.field("n").type == pa.int16()
    assert left.schema.metadata[b"of"] == b"us"
    folder = project.path / "data/parts"
    for number, part in enumerate((frame[:1], frame[1:2], frame[2:])):
        (folder / f"month={number}").mkdir(parents=True)
        (folder / f"month={number}" / "p.parquet").write_bytes(of_parquet(part))
    other = (folder / "month=1" / "p.parquet").read_bytes()
    project.set_param("data.path", "data/parts/")
    project.cli("data-lock")
    forgotten(project, "who=a")
    assert pinned(project)["id"].tolist() == ["2"]
    assert [file.read_bytes() for file in folder.rglob("*.parquet")] == [other]


def test_data_at_a_url_get_another_name_and_the_old_object_is_named(people, tmp_path):
    project = people()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/people.csv").write_bytes(CSV)
    project.set_param("data.path", f"file://{tmp_path}/store/people.csv")
    told = forgotten(project, "who=ann")
    path = load(project.path / "params.yaml").data.path
    assert path != f"file://{tmp_path}/store/people.csv" and pinned(project)["id"].tolist() == ["2", "007", "5"]
    assert (tmp_path / "store/people.csv").read_bytes() == CSV
    assert any("store/people.csv: stays, for main reads it; delete it when main reads" in text for text in told)


def test_the_last_rows_and_rows_that_make_a_column_another_one_are_not_taken_without_a_word(people):
    project = people(b"id,day,who,y\n1,2013-05-01,ann,0\n2,2013-05-01,ann,1\n")
    with pytest.raises(Misuse, match="data/people.csv: no other row would be left; delete the file"):
        forgotten(project, "who=ann")
    project = people(b"id,day,who,n,y\n1,2013-05-01,ann,x,0\n2,2013-05-01,bob,1,1\n")
    with pytest.raises(
        Misuse, match="column 'n' is text, and without these rows it would be number; name it in data.text"
    ):
        forgotten(project, "who=ann")


def test_rows_that_cannot_be_told_apart_in_a_file_are_refused(people):
    """A quote inside of a cell: the reader of the data takes it as it is, and counts of quotes do not tell rows."""
    project = people(b'id,day,who,y\n1,2013-05-01,ann "x,0\n2,2013-05-01,bob,1\n3,2013-05-01,eve,1\n')
    with pytest.raises(Misuse, match="data/people.csv: its rows cannot be told apart; write the file anew as Parquet"):
        forgotten(project, "who=bob")


# The log and labels


def test_predictions_go_by_key_and_by_group_and_labels_with_them(people, tmp_path):
    project, log = people(), tmp_path / "log"
    log.joinpath("predictions-1.jsonl").write_bytes(
        line("a", 1, id="1", day="2013-05-01")  # by the key of a row of the group
        + line("a", 2, id="2", day="2013-05-01")
        + line("b", who="ann")
        + line("c", who="bob")
        + line("d")
        + line("e", id="3")
        + b'{"half'
    )
    log.joinpath("feedback-1.jsonl").write_bytes(label("a", 1) + label("a", 2) + label("b") + label("c") + label("z"))
    log.joinpath("predictions-2.jsonl").write_bytes(line("f", who="ann"))
    untouched = log / "predictions-3.jsonl"
    untouched.write_bytes(line("g", who="bob"))
    told = forgotten(project, "who=ann")
    assert ids(log, "predictions") == [("a", 2), ("c", 1), ("d", 1), ("e", 1), None, ("g", 1)]
    assert ids(log, "feedback") == [("a", 2), ("c", 1), ("z", 1)]
    assert untouched.exists() and not [file for file in log.iterdir() if file.name.startswith(".")]
    assert "forget    the log of production: deleted predictions 3, labels of callers 2, in files 3" in told
    assert "forget    not reached: damaged lines of the log, 1: nobody can tell whose they are" in told
    found = predictions.read(Project(project.path), Asked((), False), pd.Timestamp.now("UTC"))
    assert len(found.rows) == 5 and len(found.labels) == 3


def test_days_of_the_log_that_were_kept_where_the_next_look_finds_them_go_too(people, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG_CACHE", str(tmp_path / "kept"))
    project, log = people(), tmp_path / "log"
    log.joinpath("predictions-1.jsonl").write_bytes(line("b", who="ann") + line("c", who="bob"))
    log.joinpath("refusals-1.jsonl").write_bytes(b'{"time": "2026-11-29T10:00:00Z", "status": 422, "count": 3}\n')
    asked = Asked(("who",), several=False)
    assert len(predictions.read(Project(project.path), asked, pd.Timestamp.now("UTC")).rows) == 2
    kept = tmp_path / "kept" / project.package
    assert len(list(kept.iterdir())) == 2
    (kept / ".writing-x").write_bytes(b"of a killed look")
    log.joinpath("predictions-0.jsonl.gz").write_bytes(b"packed")
    told = forgotten(project, "who=ann")
    assert not kept.exists() and "damaged" not in told
    assert f"forget    {kept}: deleted; monitor reads the log again" in told
    assert "forget    not reached: files beside the log, 1, which are not read: predictions-0.jsonl.gz" in told
    found = predictions.read(Project(project.path), asked, pd.Timestamp.now("UTC"))
    assert (found.rows["id"].tolist(), found.refusals["count"].tolist()) == (["c"], [3])


def test_a_log_without_a_file_is_told_and_one_that_may_not_be_read_stops_it(people, tmp_path, monkeypatch, one_line):
    project = people()
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/typo")
    told = forgotten(project, "who=bob")
    assert f"the log of predictions: file://{tmp_path}/typo holds no file of it; is that the right place?" in str(told)
    monkeypatch.setenv("PREDICTION_LOG", "http://127.0.0.1:9/log")
    done = project.cli("forget", "--key", "who=ann", "--yes", check=False)
    one_line(done, 2, "serve.log: http://127.0.0.1:9/log: cannot be read: .*; check DATA_OPTIONS and the store")


def test_a_rewritten_file_of_the_log_keeps_its_owner_and_who_may_read_it(tmp_path):
    file = tmp_path / "predictions-1.jsonl"
    file.write_bytes(line("a") + line("b"))
    file.chmod(0o640)
    owner = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *owner)
    assert removal.remove(str(tmp_path), [file.name], {("a", 1)}, wait=0) == 1
    [left] = tmp_path.iterdir()
    about = left.stat()
    assert (about.st_mode & 0o777, (about.st_uid, about.st_gid)) == (0o640, owner)


def test_a_person_who_is_only_in_the_log_is_found_there(people, tmp_path):
    project = people()
    (tmp_path / "log/predictions-1.jsonl").write_bytes(
        line("a", id=9, day="2013-05-01") + line("b", id=8, day="2013-05-01")
    )
    forgotten(project, "id=9,day=2013-05-01")
    assert ids(tmp_path / "log", "predictions") == [("b", 1)]
    assert (project.path / "data/people.csv").read_bytes() == CSV


def test_a_replica_that_writes_meanwhile_loses_no_line(tmp_path, monkeypatch):
    """The writer of the service itself, in a thread, while lines are removed from the file that it has open."""
    store, stop, written = Folder(tmp_path, 10_000_000, "predictions"), threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            id = f"n{len(written)}"
            store.write(line(id, who="ann" if len(written) % 3 == 0 else "bob"))
            written.append(id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        person = erasure.Person(
            {("who",): frozenset(forget.row_hash(pd.DataFrame({"who": ["ann"]}), codes=True).tolist())}
        )
        gone: set[tuple[str, int]] = set()
        for _ in range(5):
            time.sleep(0.1)
            found = erasure.find(((f.name, f.read_bytes()) for f in sorted(tmp_path.glob("*.jsonl"))), person)
            assert removal.remove(str(tmp_path), found.names, set(found.rows), wait=0.1) == len(found.rows) > 0
            gone |= found.rows
    finally:
        stop.set()
        writer.join()
    kept = ids(tmp_path, "predictions")
    assert len(kept) == len(set(kept)) and set(kept) | gone == {(id, 1) for id in written} and not set(kept) & gone


KILLED = """
import os, signal, sys
from conveyor.watch import removal
point, folder = sys.argv[1:]
done = getattr(os, point)
def killed(*words):
    done(*words) if point == "rename" else None
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, point, killed)
removal.remove(folder, sorted(os.listdir(folder)), {("a", 1)}, 0.0)
"""


@pytest.mark.parametrize("point", ["rename", "fsync", "replace"])
def test_a_kill_while_the_log_is_written_leaves_each_file_old_or_new(project, tmp_path, point):
    log = tmp_path / "log"
    log.mkdir()
    (log / "feedback-1.jsonl").write_bytes(label("a") + label("b"))
    (log / "predictions-1.jsonl").write_bytes(line("a") + line("b"))
    done = project.run(sys.executable, "-c", KILLED, point, str(log), check=False, env={"PYTHONPATH": "src"})
    assert done.returncode == -signal.SIGKILL
    assert ids(log, "feedback") == ids(log, "predictions") == [("a", 1), ("b", 1)]
    names = sorted(file.name for file in log.glob("*.jsonl"))
    assert removal.remove(str(log), names, {("a", 1)}, 0.0) == 2
    assert ids(log, "feedback") == ids(log, "predictions") == [("b", 1)]
    assert not [file for file in log.iterdir() if not file.name.endswith(".jsonl")]


def test_objects_of_a_store_are_replaced_as_a_whole(people, monkeypatch):
    project, store = people(), fsspec.filesystem("memory")
    folder = f"/log-{uuid4().hex}"
    monkeypatch.setenv("PREDICTION_LOG", f"memory:/{folder}")
    store.pipe_file(f"{folder}/predictions-1.jsonl", line("a", who="ann") + line("b", who="bob"))
    store.pipe_file(f"{folder}/predictions-2.jsonl", line("c", who="ann"))
    store.pipe_file(f"{folder}/feedback-1.jsonl", label("c") + label("b"))
    forgotten(project, "who=ann")
    left = {name.rpartition("/")[2]: store.cat_file(name) for name in store.find(folder)}
    assert left == {"predictions-1.jsonl": line("b", who="bob"), "feedback-1.jsonl": label("b")}


def test_labels_of_a_file_go_by_key_and_by_id_and_those_at_a_url_are_named(people, tmp_path):
    project = people()
    (tmp_path / "log/predictions-1.jsonl").write_bytes(line("a", who="ann") + line("a", 2, who="bob"))
    project.set_param("monitor.labels", "labels.csv")
    (project.path / "labels.csv").write_bytes(b"id,row,label\na,1,1\na,2,0\nb,1,1\n")
    told = forgotten(project, "who=ann")
    assert (project.path / "labels.csv").read_bytes() == b"id,row,label\na,2,0\nb,1,1\n"
    assert "forget    labels.csv: deleted labels 1" in told
    project.set_param("monitor.labels", f"file://{tmp_path}/labels.csv?token=secret")
    told = forgotten(project, "who=bob")
    assert f"forget    not reached: monitor.labels, file://{tmp_path}/labels.csv: delete the labels there" in told


def test_without_a_log_it_does_the_rest_and_says_so(people, monkeypatch):
    project = people()
    project.set_param("serve.log", None)
    monkeypatch.delenv("PREDICTION_LOG")
    told = forgotten(project, "who=ann")
    [text] = [text for text in told if "not reached: the log of predictions: serve.log: is null" in text]
    assert text.endswith("; reach it before you do it here: keys of the group are known by the data")
    assert pinned(project)["id"].tolist() == ["2", "007", "5"]


def test_the_volume_of_a_host_is_rewritten_by_a_replica(people, engine, base_image, monkeypatch):
    monkeypatch.setenv("DEPLOY_NAME", f"forget-{uuid4().hex[:8]}")
    monkeypatch.delenv("PREDICTION_LOG")
    project = people()
    started = Project(project.path)
    host = Host(started, TARGET, engine, lambda text: None)
    labels = host.labels("replica", release="r1", key="k", digest="d")
    image, volume = base_image(project.base), engine.volumes.create(host.volume("predictions"))
    waits = ["python", "-c", "import time; time.sleep(600)"]
    folder = {volume.name: {"bind": host.log, "mode": "rw"}}
    replica = engine.containers.create(image, waits, labels=labels, volumes=folder, read_only=True, cap_drop=["ALL"])
    try:
        files = {"predictions-1.jsonl": line("a", who="ann") + line("b", who="bob"), "feedback-1.jsonl": label("a")}
        replica.put_archive(host.log, erasure.archive(files))
        with pytest.raises(Misuse, match="no replica runs that could write there; run `make deploy` first"):
            forgotten(project, "who=ann")
        assert (project.path / "data/people.csv").read_bytes() == CSV, "nothing was changed"
        replica.start()
        told = forgotten(project, "who=ann")
        found = predictions.read(started, Asked(("who",), False), pd.Timestamp.now("UTC"))
        assert found.rows["feature who"].tolist() == ["bob"] and not len(found.labels)
        assert "forget    the log of production: deleted predictions 1, labels of callers 1, in files 2" in told
    finally:
        replica.remove(force=True)
        volume.remove()


# What is told, and when


def test_it_says_first_what_it_would_do_and_does_it_only_when_told_so(people, tmp_path):
    project = people()
    (project.path / "build/candidate").mkdir(parents=True)
    (tmp_path / "log/predictions-1.jsonl").write_bytes(line("a", who="ann"))
    before = {file: file.read_bytes() for file in [*(tmp_path / "log").iterdir(), *project.path.glob("*.yaml")]}
    told = forgotten(project, "who=ann", yes=False)
    assert told[0] == "forget    would be: data/people.csv: 2 of 5 rows deleted, and the pin moved"
    assert told[-1] == "nothing was changed: YES=1 does it"
    assert all(file.read_bytes() == content for file, content in before.items())
    assert (project.path / "data/people.csv").read_bytes() == CSV and (project.path / "build/candidate").is_dir()
    assert not (project.path / "build/forget.md").exists()
    assert "nothing was changed" in project.make("-s", "forget", "KEY=who=ann", PREDICTION_LOG="").stdout
    done = project.make("-s", "forget", "KEY=who=ann", "YES=1", PREDICTION_LOG="")
    assert "forget    done, see build/forget.md" in done.stdout and pinned(project)["id"].tolist() == ["2", "007", "5"]


def test_the_report_names_what_cannot_be_reached_and_no_value_of_the_rows(people, tmp_path):
    project = people()
    (tmp_path / "log/predictions-1.jsonl").write_bytes(line("a", who="ann", x=SAID))
    told = forgotten(project, "who=ann")
    text = (project.path / "build/forget.md").read_text()
    for what in (
        "old commits of data/people.csv",
        "GitHub keeps them for 90 days",
        "logs of callers",
        "where the data",
    ):
        assert what in text
    assert "did not send who, id, day beside the features" in text and "`who=ann`" in text
    for value in (SAID, "2013-05", "a, b", "plain"):
        assert value not in text + "".join(told)


def test_a_champion_of_these_data_is_named_and_build_keeps_no_row(bootstrapped, tmp_path, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    project = Project(bootstrapped.path)
    key = forget.ledger_of(project).champion().key[:12]
    first = source.frame_of(project).iloc[0]
    asked = ",".join(f"{name}={first[name]}" for name in project.params.data.key)
    (bootstrapped.path / "build/environments/x").mkdir(parents=True, exist_ok=True)
    told = forgotten(bootstrapped, asked)
    models = f"models of these data, which hold some rows as examples: {key}; train anew, then `make prune`"
    assert f"forget    not reached: {models}" in told
    left = {place.name for place in (bootstrapped.path / "build").iterdir()}
    assert left <= {".lock", "environments", "forget.md"} and {"environments", "forget.md"} <= left
    assert len(pinned(bootstrapped)) == 19_999
    assert bootstrapped.cli("validate").returncode == 0
    again = bootstrapped.cli("forget", "--key", asked, "--yes", check=False, PREDICTION_LOG=f"file://{tmp_path}/log")
    assert again.returncode == 2 and "no row, prediction or label" in again.stderr


@pytest.mark.parametrize("written", range(4))
def test_a_killed_run_is_finished_by_the_next_ones(people, tmp_path, one_line, written):
    """Killed before the first file (a label), then before the data, params.yaml and the report."""
    project, log = people(), tmp_path / "log"
    (log / "predictions-1.jsonl").write_bytes(line("a", id="1", day="2013-05-01") + line("b", who="bob"))
    project.set_param("monitor.labels", "labels.csv")
    (project.path / "labels.csv").write_bytes(b"id,row,label\na,1,1\nb,1,1\n")
    (project.path / "build/candidate").mkdir(parents=True)
    words = (sys.executable, "-P", KILLED_PLAN, str(written), "forget", "--key", "who=ann", "--yes")
    done = project.run(*words, check=False, env={"PYTHONPATH": "src"})
    assert done.returncode == -signal.SIGKILL
    assert len(ids(log, "predictions")) == (2 if written == 0 else 1), "labels that need them go before predictions"
    one_line(
        project.cli("forget", "--key", "who=ann", "--yes", check=False), 2, "forget: an earlier run was killed; .*"
    )
    last = project.cli("forget", "--key", "who=ann", "--yes", check=False)
    assert last.returncode == (0 if written == 0 else 2), "after the data nothing is left"
    assert pinned(project)["id"].tolist() == ["2", "007", "5"] and ids(log, "predictions") == [("b", 1)]
    assert (project.path / "labels.csv").read_bytes() == b"id,row,label\nb,1,1\n"
    assert not (project.path / "build/candidate").exists()
    report = (project.path / "build/forget.md").read_text()
    for told in ("labels.csv: deleted labels 1", "the log of production: deleted predictions 1", "2 of 5 rows deleted"):
        assert told in report, "what a stopped run has changed is told, too"
