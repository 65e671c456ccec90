"""Risk: what was read of a log once is taken for what it holds now, or each look costs as much as the whole log."""

import json
import os
import time

import pandas as pd
import pytest
from given_log import files_of

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.watch import log_days, predictions
from conveyor.watch.log_days import LogFile, parts
from conveyor.watch.log_lines import Asked
from conveyor.watch.log_rows import read_of

NOW = pd.Timestamp("2026-11-30T12:00:00Z")
ASKED = Asked(("dest",), several=False, recent={"hour": "number", "dest": "text"})


def line(day: int, id: str, kind: str = "predictions") -> bytes:
    told = {"id": id, "row": 1, "time": f"2026-11-{day:02d}T10:00:00Z"}
    more = {"model": "m", "features": {"dest": "IAH", "hour": day}, "prediction": 0.25}
    if kind == "refusals":
        return json.dumps({"time": told["time"], "status": 422, "count": day}).encode() + b"\n"
    return json.dumps({**told, **(more if kind == "predictions" else {"label": 1})}).encode() + b"\n"


class Log:
    """Files by name, of which it is known which were read."""

    def __init__(self, folder):
        self.folder, self.files, self.read = folder, {}, []
        for kind in ("predictions", "feedback", "refusals"):
            for day in (27, 28, 29):
                self.files[self.name(day, kind)] = line(day, f"{day}", kind)

    @staticmethod
    def name(day: int, kind: str = "predictions", process: int = 7) -> str:
        return f"log/{kind}-202611{day:02d}T100000000000Z-host-{process}.jsonl"

    def look(self, asked: Asked = ASKED):
        """Everything in it, and which files were read for that."""
        self.read = []

        def content(name: str) -> bytes:
            self.read.append(name)
            return self.files[name]

        listed = [
            LogFile(file.name, file.mark, lambda name=file.name: content(name)) for file in files_of(self.files.items())
        ]
        return read_of(parts(listed, asked, self.folder), asked, NOW)


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path / "kept")
    assert len(made.look().rows) == 3 and len(made.read) == 9
    return made


def test_a_day_is_read_once_and_told_the_same(log):
    first, again = (log.look() for _ in range(2))
    assert log.read == []
    for name in ("rows", "features", "labels", "refusals"):
        assert len(getattr(again, name)) == 3
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))
    assert (again.files, again.damaged) == (9, 0)
    assert (log.folder.stat().st_mode & 0o777) == 0o700, "rows of callers are for nobody else"


def test_a_second_look_costs_less_than_a_third_of_the_first(log):
    for day in range(1, 26):
        log.files[log.name(day)] = b"".join(line(day, f"{day}-{number}") for number in range(1500))

    def look() -> float:
        began = time.process_time()
        assert len(log.look().rows) == 37_503
        return time.process_time() - began

    first = look()
    assert min(look() for _ in range(3)) < first / 3


def test_a_day_that_has_changed_is_read_again_and_no_other(log):
    log.files[log.name(29)] += line(29, "later")
    assert len(log.look().rows) == 4 and log.read == [log.name(29)]
    log.files[log.name(28, process=8)] = line(28, "of another process")
    assert len(log.look().rows) == 5 and log.read == [log.name(28), log.name(28, process=8)]
    log.files[log.name(30)] = line(30, "new")
    assert len(log.look().rows) == 6 and log.read == [log.name(30)]
    del log.files[log.name(28, process=8)]
    assert len(log.look().rows) == 5 and log.read == [log.name(28)]


def test_other_questions_are_asked_of_the_log(log):
    assert list(log.look(Asked((), several=False)).features) == [] and len(log.read) == 9
    assert list(log.look(Asked((), several=False, recent={"hour": "number"})).features) == ["hour"]
    assert len(log.read) == 9
    log.look()
    assert log.read == [], "and the first ones are kept beside them"


def test_a_day_that_the_log_has_no_more_is_deleted_here_too(log):
    for kind in ("predictions", "feedback", "refusals"):
        del log.files[log.name(27, kind)]
    found = log.look()
    assert (len(found.rows), log.read) == (2, [])
    assert sorted({place.stem.rpartition("-")[2] for place in log.folder.iterdir()}) == ["20261128", "20261129"]


def test_what_nobody_has_asked_for_in_a_month_is_deleted(log):
    old = {place: None for place in log.folder.iterdir()}
    for place in old:
        os.utime(place, (time.time() - log_days.UNUSED - 60,) * 2)
    log.look(Asked((), several=False))
    assert len(list(log.folder.iterdir())) == 9 and not old.keys() & set(log.folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"PAR1 no Parquet", None])
def test_a_day_that_is_damaged_here_is_read_again(log, content):
    for place in log.folder.iterdir():
        place.write_bytes(place.read_bytes()[:-40] if content is None else content)
    assert len(log.look().rows) == 3 and len(log.read) == 9
    log.look()
    assert log.read == []


def test_where_nothing_can_be_kept_the_log_is_read_each_time(tmp_path):
    (tmp_path / "file").touch()
    made = Log(tmp_path / "file")
    for _ in range(2):
        assert len(made.look().features) == 3 and len(made.read) == 9


def test_a_day_that_another_run_replaces_meanwhile_is_one_line(log):
    listed = [LogFile(name, "a mark", lambda name=name: log.files[name]) for name in log.files]

    def replaced():
        yield from parts(listed, ASKED, log.folder)
        for place in log.folder.iterdir():
            place.write_bytes(b"")

    with pytest.raises(Misuse, match=r"kept/.*-predictions-20261127.parquet: changed while it was read; run it again"):
        read_of(replaced(), ASKED, NOW)


def test_a_log_at_a_url_tells_by_its_listing_what_has_changed(project, tmp_path, monkeypatch):
    (tmp_path / "log").mkdir()
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    monkeypatch.setenv("LOG_CACHE", str(tmp_path / "kept"))
    started, file = Project(project.path), tmp_path / "log" / "predictions-20261129T100000000000Z-host-7.jsonl"
    file.write_bytes(line(29, "a") + line(29, "b")[:30])
    assert predictions.read(started, ASKED, NOW).damaged == 1
    assert len(list((tmp_path / "kept").iterdir())) == 1 and not (project.path / "build" / "log").exists()
    file.write_bytes(line(29, "a") + line(29, "b"))
    found = predictions.read(started, ASKED, NOW)
    assert (found.rows["id"].tolist(), found.damaged) == (["a", "b"], 0)


def test_a_file_that_the_service_deletes_while_the_log_is_read_costs_no_other_one(project, tmp_path, monkeypatch):
    (tmp_path / "log").mkdir()
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    for day in (27, 28, 29):
        (tmp_path / "log" / Log.name(day).partition("/")[2]).write_bytes(line(day, f"{day}"))
    listed = predictions.parts

    def later(files, *given):
        (tmp_path / "log" / Log.name(27).partition("/")[2]).unlink()
        return listed(files, *given)

    monkeypatch.setattr(predictions, "parts", later)
    assert predictions.read(Project(project.path), ASKED, NOW).rows["id"].tolist() == ["28", "29"]
