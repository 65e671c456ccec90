"""Risk: what was read of a log once is taken for what it holds now, or each look costs as much as the whole log."""

import json
import os
import random
import time

import pandas as pd
import pytest
from given_log import files_of, parsed

from conveyor.core.project import Project
from conveyor.watch import log_days, predictions
from conveyor.watch.log_days import LogFile, parts
from conveyor.watch.log_lines import Asked
from conveyor.watch.log_rows import read_of, sound

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


def test_a_day_that_the_log_has_no_more_is_deleted_here_too(log):
    for kind in ("predictions", "feedback", "refusals"):
        del log.files[log.name(27, kind)]
    found = log.look()
    assert (len(found.rows), log.read) == (2, [])
    assert sorted({place.stem.rpartition("-")[2] for place in log.folder.iterdir()}) == ["20261128", "20261129"]


def test_what_was_kept_for_another_question_is_deleted_and_what_a_killed_look_has_left(log):
    """A column that became private is no question any more, and its values must not stay."""
    old, left, busy = set(log.folder.iterdir()), log.folder / ".writing-old", log.folder / ".writing-new"
    left.touch()
    busy.touch()
    os.utime(left, (time.time() - log_days.STALE - 60,) * 2)
    log.look(Asked((), several=False))
    assert len(log.read) == 9 and not {*old, left} & set(log.folder.iterdir()) and busy.exists()
    log.files.clear()
    log.look()
    assert set(log.folder.iterdir()) == {busy}


def test_one_wrong_bit_of_what_was_kept_is_noticed(log):
    draw = random.Random(7)
    right = log.look()
    for _ in range(60):
        place = draw.choice(sorted(log.folder.iterdir()))
        content = bytearray(place.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        place.write_bytes(content)
        found = log.look()
        assert len(log.read) == 1, "its day is read again"
        for name in ("rows", "features", "labels", "refusals"):
            pd.testing.assert_frame_equal(getattr(right, name), getattr(found, name))


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


def test_a_day_that_another_look_replaces_meanwhile_is_as_this_one_found_it(log):
    listed = [LogFile(file.name, file.mark, file.content) for file in files_of(log.files.items())]

    def replaced():
        yield from parts(listed, ASKED, log.folder)
        for place in log.folder.iterdir():
            place.write_bytes(b"")

    assert len(read_of(replaced(), ASKED, NOW).features) == 3


def test_only_the_user_who_looks_can_read_what_is_kept(log, project, tmp_path, monkeypatch):
    assert {place.stat().st_mode & 0o777 for place in log.folder.iterdir()} == {0o600}
    (tmp_path / "of everybody").mkdir(mode=0o755)
    monkeypatch.setenv("LOG_CACHE", str(tmp_path / "of everybody"))
    kept = predictions.kept(Project(project.path))
    assert kept == tmp_path / "of everybody" / project.package, "another project's days are not these"


def test_a_log_at_a_url_tells_by_its_listing_what_has_changed(project, tmp_path, monkeypatch):
    (tmp_path / "log").mkdir()
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    monkeypatch.setenv("LOG_CACHE", str(tmp_path / "kept"))
    started, file = Project(project.path), tmp_path / "log" / "predictions-20261129T100000000000Z-host-7.jsonl"
    file.write_bytes(line(29, "a") + line(29, "b")[:30])
    assert predictions.read(started, ASKED, NOW).damaged == 1
    assert (
        len(list((tmp_path / "kept" / project.package).iterdir())) == 1
        and not (project.path / "build" / "log").exists()
    )
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


def test_files_beside_the_log_are_counted_and_folders_are_none(project, tmp_path, monkeypatch):
    """A packed part of a log is not read, and must not look as if it were."""
    (tmp_path / "log" / "deeper").mkdir(parents=True)
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    name = Log.name(29).partition("/")[2]
    for place in (name, f"{name}.gz", ".forget-part", "tried-feedback-host-7", f"deeper/{name}"):
        (tmp_path / "log" / place).write_bytes(line(29, "a"))
    found = predictions.read(Project(project.path), ASKED, NOW)
    assert (len(found.rows), found.files, found.others) == (1, 1, 1)


def test_a_prediction_of_a_model_of_another_task_is_no_damage_and_words_are_no_times():
    def told(**more) -> bytes:
        return json.dumps({**json.loads(line(29, "a")), **more}).encode() + b"\n"

    lines = told() + told(id="b", prediction=[0.5, 0.5], model="n") + told(id="c", prediction=["x"])
    lines += told(id="d", time="now") + told(id="e", time="today")
    found = parsed([(Log.name(29), lines)], (), False, NOW)
    assert found.rows["id"].tolist() == ["a", "b"] and found.damaged == 3
    assert [len(sound(found, key, "binary", 2).rows) for key in "mn"] == [2, 1], "of its own model it is"
    assert [len(sound(found, key, "regression", 0).rows) for key in "mn"] == [2, 1]
