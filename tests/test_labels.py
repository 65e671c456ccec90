"""Risk: a prediction is counted twice, or gets the label of another one, and nobody is told what was left out."""

import gzip
import io
import json
import tarfile
from uuid import uuid4

import given_log
import numpy as np
import pandas as pd
import pytest

from conveyor.core import environment
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy.host import Host
from conveyor.ledger.permission import TARGET
from conveyor.watch import labels, log_days, log_rows, predictions
from conveyor.watch.log_lines import FEATURE, Asked

NOW = pd.Timestamp("2026-11-30T12:00:00Z")
NO_FEATURE = Asked((), several=False)
KEY = {"scheduled": "2013-07-01T09:40:00Z", "carrier": "UA", "flight": 332, "origin": "EWR"}


def line(id: str = "a1", row: int = 1, time: str = "2026-11-29T10:00:00.123Z", model: str = "m", **more) -> bytes:
    told = {"id": id, "request": None, "row": row, "time": time, "model": model, "features": {"dest": "IAH"}}
    return json.dumps({**told, "prediction": 0.25, **more}).encode() + b"\n"


def read(*contents: bytes, wanted=(), several=False) -> log_rows.Read:
    files = ((f"log/predictions-{number}.jsonl", content) for number, content in enumerate(contents))
    return given_log.parsed(files, wanted, several, NOW)


def test_each_row_of_a_request_counts_once_in_the_order_of_time():
    first, second = line(time="2026-11-29T10:00:01.000Z"), line("a2", time="2026-11-29T10:00:00.000Z")
    found = read(first + line(row=2), second + first)
    assert found.rows["id"].tolist() == ["a2", "a1", "a1"] and (found.files, found.repeated) == (2, 1)
    assert found.rows["time"].is_monotonic_increasing and str(found.rows["time"].dt.tz) == "UTC"


@pytest.mark.parametrize(
    "content",
    [
        line()[:40],
        b'{"id": 1}\n',
        b"[]\n",
        b"\xff\xfe\n",
        line(prediction=None),
        line(prediction=[0.5, 0.5]),
        line(row="x"),
        line(time="yesterday"),
        line(prediction="no number"),
    ],
)
def test_what_is_no_line_is_counted_and_costs_no_other_one(content):
    found = log_rows.sound(read(line("a2") + content, line("a3")), "m", "binary", 2)
    assert found.damaged == 1 and found.rows["id"].tolist() == ["a2", "a3"]


def test_a_line_without_features_is_none_where_they_are_asked_for():
    content = line(features=None) + line("a2", features=[]) + line("a3")
    assert read(content, wanted=("dest",)).rows["feature dest"].tolist() == ["IAH"] and not read(content).damaged


def test_a_time_that_has_not_come_waits_but_not_for_a_clock_that_is_a_little_ahead():
    found = read(line(time="2026-11-30T12:04:00Z"), line("a2", time="2026-11-30T12:06:00Z"))
    assert found.rows["id"].tolist() == ["a1"] and found.future == 1


def test_an_empty_log_and_a_log_with_other_files_beside_it_have_no_rows():
    assert len(read().rows) == len(read(b"", b"\n").rows) == 0
    others = iter([("log/tried-host-7", b"\n"), ("log/other-1.jsonl", line())])
    found = given_log.parsed(others, (), False, NOW)
    assert (len(found.rows), found.files, found.damaged) == (0, 0, 0)


def test_of_several_classes_a_prediction_is_a_list():
    found = read(line(prediction=[0.2, 0.3, 0.5]) + line("a2"), several=True)
    found = log_rows.sound(found, "m", "multiclass", 3)
    assert np.stack(found.rows["prediction"]).tolist() == [[0.2, 0.3, 0.5]] and found.damaged == 1


def test_a_million_lines_take_seconds_and_little_memory(tmp_path):
    """In proportion: a twentieth of them, at a twentieth of a generous limit for a busy machine."""
    import time
    import tracemalloc

    lines = b"".join(line(f"{number:032x}", features=KEY | {"dest": "IAH"}) for number in range(2_500))
    files = [
        log_days.LogFile(f"predictions-{n}.jsonl", "", lambda n=n: lines.replace(b'"id": "0', b'"id": "%d' % (n % 10)))
        for n in range(20)
    ]
    asked = Asked(("flight",), several=False)
    tracemalloc.start()
    began = time.process_time()
    found = log_rows.read_of(log_days.parts(files, asked, tmp_path), asked, NOW)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.rows["id"].nunique() == 25_000 and found.repeated == 25_000
    assert took < 10 and peak < 60e6


# Joined


def join(rows: list[dict], said: dict, classes=("0", "1")) -> labels.Joined:
    given = pd.DataFrame(said)
    log = read(*[line(**row) for row in rows], wanted=labels.key_columns(given))
    return labels.joined(log.rows, given, list(classes))


def test_a_label_finds_its_prediction_by_the_id_of_the_answer_and_the_row():
    rows = [{"id": "a"}, {"id": "a", "row": 2}, {"id": "b"}, {"id": "c"}]
    found = join(rows, {"id": ["a", "a", "b", "z"], "row": [1, 2, 1, 1], "label": [1, 0, 1, 1]})
    assert found.rows[["id", "row", "y"]].to_numpy().tolist() == [["a", 1, 1.0], ["a", 2, 0.0], ["b", 1, 1.0]]
    assert (found.waiting, found.unknown, found.repeated, found.contradicting, found.unusable) == (1, 1, 0, 0, 0)
    alone = join(rows, {"id": ["a", "b"], "label": [1, 0]})
    assert alone.rows[["id", "row"]].to_numpy().tolist() == [["a", 1], ["b", 1]], (
        "a label without a row is of the first"
    )


def test_or_by_the_key_of_the_data_as_callers_send_it():
    rows = [{"id": "a", "features": KEY}, {"id": "b", "features": KEY | {"flight": 333}}, {"id": "c", "features": {}}]
    said = pd.DataFrame([KEY, KEY | {"flight": 334}]).assign(label=[1, 0])
    said["scheduled"] = pd.to_datetime(said["scheduled"])
    said = said.rename(columns={name: f"{FEATURE}{name}" for name in KEY})
    found = join(rows, said)
    assert found.rows["id"].tolist() == ["a"] and (found.waiting, found.unknown) == (2, 1)


def test_what_was_said_twice_counts_once_and_what_contradicts_itself_not_at_all():
    rows = [{"id": "a"}, {"id": "b"}]
    found = join(rows, {"id": ["a", "a", "b", "b"], "label": [1, 1, 0, 1]})
    assert found.rows["id"].tolist() == ["a"]
    assert (found.repeated, found.contradicting, found.waiting, found.unknown) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("classes", "said", "expected", "unusable"),
    [
        (("0", "1"), [1, 0, 2, None], [1.0, 0.0], 1),
        (("0", "1"), ["true", "False", "maybe", "1.0"], [1.0, 0.0, 1.0], 1),
        (("no", "yes"), ["yes", "no", "Yes", ""], [1.0, 0.0], 2),
        ((), [1.5, "2", "x", np.inf], [1.5, 2.0], 2),
    ],
)
def test_a_label_that_is_no_class_or_no_number_is_counted(classes, said, expected, unusable):
    ids = [f"a{number}" for number in range(len(said))]
    found = join([{"id": each} for each in ids], {"id": ids, "label": said}, classes)
    assert found.rows["y"].tolist() == expected and found.unusable == unusable


def test_a_row_that_is_not_said_is_the_first_and_one_that_is_no_number_is_none():
    rows = [{"id": each} for each in "abcd"]
    found = join(rows, {"id": list("abcd"), "row": [None, "01", "x", "2"], "label": [1, 1, 1, 1]})
    assert found.rows["id"].tolist() == ["a", "b"] and found.unknown == 2


@pytest.mark.parametrize("name", ["id", "row", "time", "model", "prediction"])
def test_a_column_of_the_key_may_have_a_name_of_the_log(project, name):
    project.set_param("data.key", [name])
    (project.path / "labels.csv").write_text(f"{name},label\n7,1\n8,0\n")
    project.set_param("monitor.labels", "labels.csv")
    given = labels.read(Project(project.path))
    assert labels.key_columns(given) == (name,)
    log = read(line("a1", features={name: 7}), line("a2", features={name: 9}), wanted=labels.key_columns(given))
    found = labels.joined(log.rows, given, ["0", "1"])
    assert found.rows["id"].tolist() == ["a1"] and (found.waiting, found.unknown) == (1, 1)


def test_what_has_no_key_gets_no_label():
    rows = [line(f"{n}", features={"flight": 1} if n == 2 else {}) for n in range(3)]
    log = read(*rows, wanted=("flight",))
    for said in (["", 1, 3], [None, 1, 3]):
        given = pd.DataFrame({"feature flight": pd.Series(said, dtype=object).replace("", None), "label": [1, 0, 1]})
        found = labels.joined(log.rows, given, ["0", "1"])
        assert found.rows[["id", "y"]].to_numpy().tolist() == [["2", 0.0]]
        assert (found.waiting, found.unknown) == (2, 1)


def test_a_file_of_labels_that_has_no_row_yet_is_no_fault(project):
    (project.path / "labels.csv").write_text("id,label\n")
    project.set_param("monitor.labels", "labels.csv")
    given = labels.read(Project(project.path))
    found = labels.joined(read(line("a1")).rows, given, ["0", "1"])
    assert (len(found.rows), found.waiting, found.unknown) == (0, 1, 0)


@pytest.mark.parametrize("said", [[0.5, 0.5], [9, 9, 9], [-1, 1, 1], [0.2, 0.2, 0.2]])
def test_a_prediction_of_another_shape_or_no_probabilities_counts_as_damaged(said):
    found = read(line("a1", prediction=said), line("a2", prediction=[0.2, 0.3, 0.5]), several=True)
    sound = log_rows.sound(found, found.rows["model"][0], "multiclass", 3)
    assert sound.rows["id"].tolist() == ["a2"] and sound.damaged == 1
    other = log_rows.sound(found, "another model", "multiclass", 3)
    assert len(other.rows) == 2 and not other.damaged


def test_labels_are_the_data_unless_a_file_of_their_own_is_named(project, tmp_path):
    by_key = labels.read(Project(project.path))
    assert labels.key_columns(by_key) == ("scheduled", "carrier", "flight", "origin") and len(by_key) == 20_000
    project.set_param("monitor.labels", "labels.csv.gz")
    (project.path / "labels.csv.gz").write_bytes(gzip.compress(b"id,row,late\na,1,1\nb,1,0\n"))
    by_id = labels.read(Project(project.path))
    assert by_id.to_dict("list") == {"id": ["a", "b"], "row": [1, 1], "label": [1, 0]}
    assert labels.key_columns(by_id) == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,other\na,1\n", "labels.csv: has no column 'late' or 'label'; a label needs `id`, or the key .*"),
        (b"late,flight\n1,2\n", "labels.csv: has no column 'scheduled'; a label needs `id`, or the key .*"),
        (b"", "labels.csv: empty; fetch the file again"),
        (None, "labels.csv: no such file; put the data there or mend monitor.labels in params.yaml"),
    ],
)
def test_labels_without_a_name_or_a_value_are_one_line(project, content, told):
    project.set_param("monitor.labels", "labels.csv")
    if content is not None:
        (project.path / "labels.csv").write_bytes(content)
    with pytest.raises(Misuse, match=told):
        labels.read(Project(project.path))


# Where the log is


def test_a_log_at_a_url_is_read_and_one_that_is_away_is_one_line(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    assert not len(predictions.read(Project(project.path), NO_FEATURE, NOW).rows), "nothing was written yet"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "predictions-1.jsonl").write_bytes(line())
    assert predictions.read(Project(project.path), NO_FEATURE, NOW).rows["id"].tolist() == ["a1"]
    monkeypatch.setenv("PREDICTION_LOG", "nosuch://bucket/log")
    with pytest.raises(Misuse, match="serve.log: nosuch://bucket/log: cannot be read: .*; check DATA_OPTIONS"):
        predictions.read(Project(project.path), NO_FEATURE, NOW)
    project.set_param("serve.log", None)
    monkeypatch.delenv("PREDICTION_LOG")
    with pytest.raises(predictions.NoLog, match="serve.log: is null, so no prediction is kept"):
        predictions.read(Project(project.path), NO_FEATURE, NOW)


def test_a_log_in_the_volume_of_a_host_is_read_also_where_its_replica_has_ended(
    project, engine, base_image, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEPLOY_NAME", f"log-{uuid4().hex[:8]}")
    started = Project(project.path)
    host = Host(started, TARGET, engine, lambda text: None)
    assert host.log == predictions.log_of(started) == "/var/log/predictions"
    with pytest.raises(predictions.NoLog, match="nothing is deployed in production on this engine"):
        predictions.read(started, NO_FEATURE, NOW)
    labels = host.labels("replica", release="r1", key="k", digest="d")
    image, volume = base_image(project.base), engine.volumes.create(host.volume("predictions"))
    folder = {volume.name: {"bind": host.log, "mode": "rw"}}
    replica = engine.containers.create(image, ["true"], labels=labels, volumes=folder)
    try:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as files:
            for name, content in (
                ("predictions-1.jsonl", line() + line("a2")[:30]),
                ("predictions-2.jsonl", line("a3")),
            ):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                files.addfile(about, io.BytesIO(content))
        replica.put_archive(host.log, archive.getvalue())
        found = predictions.read(started, NO_FEATURE, NOW)
    finally:
        replica.remove(force=True)
        volume.remove()
    assert (found.rows["id"].tolist(), found.files, found.damaged) == (["a1", "a3"], 2, 1)


def test_a_folder_of_pods_is_not_read(project):
    project.set_param("deploy.target", "kubernetes")
    with pytest.raises(predictions.NoLog, match="is a folder of the pods; name a URL"):
        predictions.read(Project(project.path), NO_FEATURE, NOW)
    assert environment.data_options() == {}
