"""Risk: the log of predictions holds up or breaks the service, fills the disk, tells private values, or is cut off."""

import ctypes
import json
import os
import shutil
import statistics
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import numpy as np
import pytest
from serving import serving, settings

from conveyor.serving import log_files, prediction_log

LIMIT = 1_000_000


@pytest.fixture
def log(tmp_path):
    """Makes a log that is closed after the test."""
    made = []

    def log(target=tmp_path / "log", private=(), limit=LIMIT, days=None):
        made.append(prediction_log.PredictionLog(str(target), "the key", private, limit, days))
        return made[-1]

    yield log
    for each in made:
        each.close()


def put(log, number: int, rows: int = 1) -> None:
    log.put(
        f"id {number}", [{"size": 1.5, "name": f"ü\n{number}"} for _ in range(rows)], np.full(rows, 0.25), 60 * rows
    )


def lines(folder: Path, kind: str = "predictions") -> list[dict]:
    """Every line in order; none may be half-written."""
    texts = [file.read_text() for file in sorted(folder.glob(f"{kind}-*.jsonl"))]
    assert all(text.endswith("\n") or not text for text in texts)
    return [json.loads(line) for text in texts for line in text.splitlines()]


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


class Clock:
    """The module `time`, in which a pause takes no time and is counted."""

    def __init__(self) -> None:
        self.pauses = 0

    def __getattr__(self, name: str):
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.pauses += 1


@pytest.mark.parametrize("room", [60_000_000, 60_000])
def test_the_log_gives_way_to_requests_unless_much_waits(log, tmp_path, monkeypatch, room):
    """One pause for each few kilobytes of lines; none while more than a quarter of the queue is full."""
    clock = Clock()
    monkeypatch.setattr(prediction_log, "time", clock)
    monkeypatch.setattr(prediction_log, "QUEUED_BYTES", room)
    monkeypatch.setattr(prediction_log, "SLICE_BYTES", 8_000)
    one = log()
    for number in range(1000):  # of 60 bytes each
        put(one, number)
    until(lambda: one.waiting == 0)
    assert len(lines(tmp_path / "log")) == 1000
    written = sum(file.stat().st_size for file in (tmp_path / "log").glob("predictions-*.jsonl"))
    most = written // prediction_log.SLICE_BYTES
    assert most > 10
    assert most // 2 <= clock.pauses <= most if room > 60_000 else clock.pauses < most // 2


def test_a_row_is_a_line_with_what_is_needed_to_find_it_again(log, tmp_path):
    first = log()
    rows = [{"size": 1.0, "name": None}, {"size": 2.0, "name": "b"}]
    first.put("an id", rows, np.array([[0.25, 0.75], [0.5, 0.5]]), 99, "the caller's")
    first.close()
    one, two = lines(tmp_path / "log")
    assert abs(time.time() - datetime.fromisoformat(one.pop("time")).timestamp()) < 60
    assert one == {
        "id": "an id",
        "request": "the caller's",
        "row": 1,
        "model": "the key",
        "features": {"size": 1.0, "name": None},
        "prediction": [0.25, 0.75],
    }
    assert (two["row"], two["features"]["name"]) == (2, "b")


def test_it_is_written_while_the_server_runs(log, tmp_path):
    put(log(), 1)
    until(lambda: len(lines(tmp_path / "log")) == 1)


def test_private_columns_are_never_written(log, tmp_path):
    private = log(private=("name", "no such column"))
    put(private, 7, rows=3)
    private.close()
    assert [line["features"] for line in lines(tmp_path / "log")] == [{"size": 1.5}] * 3
    assert "name" not in "".join(file.read_text() for file in (tmp_path / "log").iterdir())


def test_the_folder_stays_below_its_limit_and_the_oldest_go_first(log, tmp_path):
    """Also where several processes write into it, one of which has ended long ago."""
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "predictions-20200101T000000000000Z-gone-1.jsonl").write_text("{}\n" * 100_000)
    (folder / "something else").write_text("x")
    logs, largest = [log(limit=LIMIT), log(limit=LIMIT)], 0
    for number in range(300):
        put(logs[number % 2], number, rows=100)
        if number % 10 == 0:
            time.sleep(0.02)
            largest = max(largest, sum(file.stat().st_size for file in folder.iterdir()))
    for each in logs:
        each.close()
    files = sorted(folder.glob("predictions-*.jsonl"))
    sizes = [file.stat().st_size for file in files]
    # Two processes may look at the same moment, and each add a tenth of the limit then.
    assert max(largest, sum(sizes)) <= LIMIT * 1.1 and len(files) > 5 and max(sizes) <= LIMIT / 10
    assert sum(each.dropped for each in logs) == 0 and (folder / "something else").exists()
    assert "gone" not in files[0].name and {line["id"] for line in lines(folder)} >= {"id 299"}


def test_a_file_that_another_process_removed_is_begun_anew(log, tmp_path):
    first = log()
    put(first, 1)
    until(lambda: lines(tmp_path / "log"))
    for file in (tmp_path / "log").iterdir():
        file.unlink()
    put(first, 2)
    first.close()
    assert [line["id"] for line in lines(tmp_path / "log")] == ["id 2"]


def test_a_file_holds_an_hour_at_most(log, tmp_path, monkeypatch):
    monkeypatch.setattr(log_files, "HOUR", 0.2)
    first = log()
    for number in range(2):
        put(first, number)
        until(lambda number=number: len(lines(tmp_path / "log")) == number + 1)
        time.sleep(0.3)
    assert len(list((tmp_path / "log").iterdir())) == 2


# Days


def name_of(kind: str, days: int) -> str:
    at = (datetime.now(UTC) - timedelta(days=days)).strftime(log_files.STAMP)
    return f"{kind}-{at}-gone-1.jsonl"


@pytest.mark.parametrize("url", ["", "file://"])
def test_files_of_old_days_are_deleted_at_the_start_and_each_hour_and_no_others(log, tmp_path, monkeypatch, url):
    monkeypatch.setattr(log_files, "HOUR", 0.2)
    folder = tmp_path / "log"
    folder.mkdir()
    names = {(kind, days): name_of(kind, days) for kind in ("predictions", "feedback") for days in (0, 2, 3, 400)}
    others = ("predictions-1.jsonl", "predictions-20200101T000000000000Z", "20200101T000000000000Z-a.jsonl")
    for name in (*names.values(), *others):
        (folder / name).write_text("{}\n")
    target = log(f"{url}{folder}", days=2)
    left = {name for (_, days), name in names.items() if days <= 2} | set(others)
    until(lambda: {file.name for file in folder.iterdir()} == left)
    (folder / name_of("feedback", 3)).write_text("{}\n")
    until(lambda: {file.name for file in folder.iterdir()} == left)
    put(target, 1)
    target.close()
    assert len(lines(folder)) == 4 and {file.name for file in folder.iterdir()} > left


def test_without_a_number_of_days_nothing_is_deleted(log, tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / name_of("predictions", 4000)).write_text("{}\n")
    one = log()
    put(one, 1)
    one.close()
    assert len(list(folder.iterdir())) == 2


def test_a_store_that_deletes_nothing_is_told_once_and_takes_lines(log, slow, monkeypatch, capfd):
    monkeypatch.setattr(log_files, "HOUR", 0.05)
    monkeypatch.setattr(prediction_log, "OBJECT_SECONDS", 0.1)
    monkeypatch.setattr(slow, "seconds", 0.0)
    slow.objects[f"log/{name_of('predictions', 9)}"] = b"{}\n"
    target = log("slow://log", days=2)
    put(target, 1)
    until(lambda: len(slow.objects) == 2)
    time.sleep(0.5)
    target.close()
    assert not target.failing and target.dropped == 0
    told = "prediction log: slow://log: PermissionError: nothing is deleted here; files of more than 2 days stay\n"
    assert capfd.readouterr().err == told


# A disk that is full


def may_mount() -> bool:
    """Whether this user may. In CI a skip is a failure all the same (NO_SKIPS), so the fault is shown there."""
    return os.geteuid() == 0 or (bool(shutil.which("sudo")) and subprocess.run(["sudo", "-n", "true"]).returncode == 0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", "size=200k,mode=1777", "tmpfs", place], check=True)
    yield place
    subprocess.run([*sudo, "umount", place], check=True)


@pytest.mark.skipif(not may_mount(), reason="a small file system is mounted, which root may")
def test_a_full_disk_loses_no_line_that_it_took_and_is_used_again_when_there_is_room(
    log, small_disk, monkeypatch, capfd
):
    monkeypatch.setattr(prediction_log, "RETRY", 0.1)
    monkeypatch.setattr(prediction_log, "QUEUED_BYTES", 30_000)
    (small_disk / "of others").write_bytes(b"x" * 150_000)
    full = log(small_disk)
    for number in range(1000):
        put(full, number)
        time.sleep(0.001)
    told = []
    until(lambda: told.append(capfd.readouterr().err) or full.dropped > 0 and any(told))
    assert "No space left on device; it is tried again" in "".join(told)
    taken = lines(small_disk)  # nothing is half-written
    (small_disk / "of others").unlink()
    before = full.dropped
    until(lambda: len(lines(small_disk)) > len(taken))
    time.sleep(0.5)
    put(full, 5000)
    full.close()
    kept = [int(line["id"].split()[1]) for line in lines(small_disk)]
    assert kept[-1] == 5000 and kept == sorted(set(kept)) and len(kept) == 1001 - before


@pytest.mark.skipif(not may_mount(), reason="a small file system is mounted, which root may")
def test_a_server_answers_as_fast_with_a_full_disk(bootstrapped, small_disk):
    bundle = bootstrapped.path / "build" / "candidate"
    (small_disk / "of others").write_bytes(b"x" * 190_000)
    image = settings(bootstrapped, bundle)

    def seconds(target: str) -> float:
        with serving(bootstrapped, image, bundle, PREDICTION_LOG=target) as server:
            took = []
            for _ in range(400):
                began = time.perf_counter()
                status, _ = server.predict(*[server.row()] * 100)
                took.append(time.perf_counter() - began)
                assert status == 200
            dropped = server.metric("log_dropped_rows_total")
            assert (dropped > 0) == bool(target)
            code, complaint = server.end()
            assert code == 0 and ("No space left on device" in complaint) == bool(target)
            return statistics.median(took)

    assert seconds(str(small_disk)) < 3 * seconds("")


# A store at a URL


class Slow(fsspec.AbstractFileSystem):
    """Takes two seconds for each object, or fails."""

    protocol = "slow"
    cachable = False
    objects: dict = {}
    fails = False
    seconds = 2.0

    def ls(self, path, detail=False, **kwargs):
        return [name for name in self.objects if name.startswith(path)]

    def rm(self, path, recursive=False, maxdepth=None):
        raise PermissionError("nothing is deleted here")

    def makedirs(self, path, exist_ok=False):
        time.sleep(self.seconds / 2)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        time.sleep(self.seconds / 2)
        if self.fails:
            raise PermissionError("the store says no")
        self.objects[path] = bytes(value)


@pytest.fixture
def slow(monkeypatch):
    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setattr(Slow, "objects", {})
    return Slow


def test_a_slow_store_holds_up_nobody_and_drops_are_counted(log, slow, monkeypatch):
    monkeypatch.setattr(prediction_log, "QUEUED_BYTES", 600_000)
    monkeypatch.setattr(prediction_log, "OBJECT_BYTES", 50_000)
    target = log("slow://log")
    slowest = 0.0
    for number in range(300):
        began = time.perf_counter()
        put(target, number, rows=100)
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.002)
    assert slowest < slow.seconds / 4 and target.dropped > 0
    began = time.monotonic()
    target.close(seconds=1)
    assert time.monotonic() - began < 2
    monkeypatch.setattr(slow, "seconds", 0.0)
    target.close()


def test_a_store_that_fails_is_tried_again_and_each_object_is_whole(log, slow, monkeypatch, capfd):
    monkeypatch.setattr(prediction_log, "RETRY", 0.05)
    monkeypatch.setattr(prediction_log, "OBJECT_SECONDS", 0.1)
    monkeypatch.setattr(slow, "seconds", 0.0)
    monkeypatch.setattr(slow, "fails", True)
    target = log("slow://log/of/ours")
    put(target, 1)
    time.sleep(1.5)
    assert not slow.objects and target.dropped == 0
    monkeypatch.setattr(slow, "fails", False)
    until(lambda: slow.objects)
    put(target, 2)
    target.close()
    found = [json.loads(line) for name in sorted(slow.objects) for line in slow.objects[name].splitlines()]
    assert [line["id"] for line in found] == ["id 1", "id 2"]
    assert all(name.startswith("log/of/ours/predictions-") for name in slow.objects)
    told = capfd.readouterr().err
    assert told == "prediction log: slow://log/of/ours: PermissionError: the store says no; it is tried again\n"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_url_is_written_as_a_folder_is(log, tmp_path, kind):
    url = f"{kind}://{tmp_path}/objects"
    target = log(url)
    put(target, 1, rows=2)
    target.close()
    fs, path = fsspec.core.url_to_fs(url)
    [name] = fs.ls(path, detail=False)
    assert [json.loads(line)["row"] for line in fs.cat_file(name).splitlines()] == [1, 2]


def test_a_url_that_nobody_knows_is_told_and_breaks_nothing(log, capfd):
    target = log("gopher://log")
    put(target, 1)
    target.close()
    told = capfd.readouterr().err.splitlines()
    assert told[0].startswith("prediction log: gopher://log: ValueError: Protocol not known: gopher")
    assert told[-1] == "prediction log: gopher://log: 1 rows were not written"


# A folder that takes nothing


def test_a_folder_that_cannot_be_written_is_known_before_the_first_row(log, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(prediction_log, "RETRY", 0.2)
    monkeypatch.setattr(prediction_log, "EVERY", 0.1)
    (tmp_path / "log").write_text("a file")
    target = log()
    assert target.failing and target.waiting == 0
    put(target, 1, rows=3)
    assert target.waiting == 3
    time.sleep(1)
    assert target.failing and target.waiting == 3 and target.dropped == 0
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1 and "it is tried again" in told[0] and "tmp" in told[0]
    (tmp_path / "log").unlink()
    until(lambda: not target.failing)
    until(lambda: target.waiting == 0)
    assert len(lines(tmp_path / "log")) == 3


def test_a_folder_that_takes_again_is_known_though_nothing_is_to_be_written(log, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "RETRY", 0.2)
    monkeypatch.setattr(prediction_log, "EVERY", 0.1)
    (tmp_path / "log").write_text("a file")
    target = log()
    assert target.failing
    (tmp_path / "log").unlink()
    until(lambda: not target.failing)
    assert list((tmp_path / "log").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is given to another user, which root may")
@pytest.mark.parametrize("mode, failing", [(0o770, 0), (0o700, 1)])
def test_metrics_say_at_once_whether_the_log_can_be_written_by_any_user_of_its_group(
    bootstrapped, tmp_path, mode, failing
):
    """Some clusters give a container a user of their own, of group 0: here that is root without its privilege."""
    bundle = bootstrapped.path / "build" / "candidate"
    folder = tmp_path / "log"
    folder.mkdir()
    os.chown(folder, 10001, 0)
    folder.chmod(mode)
    drop = ctypes.CDLL(None).prctl
    image = settings(bootstrapped, bundle)

    def unprivileged() -> None:
        for capability in (1, 2):  # to write and to read what is another's
            drop(24, capability, 0, 0, 0)

    with serving(bootstrapped, image, bundle, before=unprivileged, PREDICTION_LOG=str(folder)) as server:
        assert server.metric("log_failing") == failing
        assert server.predict(server.row(), server.row())[0] == 200
        until(lambda: server.metric("log_waiting_rows") == 2 * failing)
        assert server.metric("log_failing") == failing and server.metric("log_dropped_rows_total") == 0
        assert server.ask("GET", "/readyz")[0] == 200


# In the server


def test_the_log_holds_what_the_server_answered_and_is_whole_when_it_ends(bootstrapped, tmp_path):
    bundle = bootstrapped.path / "build" / "candidate"
    image = settings(bootstrapped, bundle, **{"data.private": ["dest"], "serve.log": str(tmp_path / "log")})
    with serving(bootstrapped, image, bundle, PREDICTION_LOG="") as silent:
        silent.predict(silent.row())
        assert silent.end() == (0, "") and not (tmp_path / "log").exists()
    with serving(bootstrapped, image, bundle, PREDICTION_LOG=str(tmp_path / "log")) as server:
        answers = [server.predict(*server.golden["rows"])[1] for _ in range(50)]
        assert server.end() == (0, "")
    found = lines(tmp_path / "log")
    assert [line["id"] for line in found] == [said["id"] for said in answers for _ in said["predictions"]]
    assert [line["prediction"] for line in found] == [p for said in answers for p in said["predictions"]]
    row = {name: value for name, value in server.row().items() if name != "dest"}
    assert found[0]["features"] == row and found[0]["model"] == answers[0]["model"]


# Refusals


def test_requests_without_an_answer_are_counted_by_status_and_nothing_else_of_them_is_kept(bootstrapped, tmp_path):
    bundle, folder = bootstrapped.path / "build" / "candidate", tmp_path / "log"
    image = settings(bootstrapped, bundle)
    with serving(bootstrapped, image, bundle, PREDICTION_LOG=str(folder)) as server:
        for _ in range(3):
            assert server.predict({"secret": "of a caller"})[0] == 422
        assert server.predict(server.row())[0] == 200
        assert server.ask("GET", "/predict")[0] == 405 and server.ask("GET", "/nothing")[0] == 404
        assert server.ask("POST", "/predict", {"rows": [{}]}, {"x-probe": "1"})[0] in (415, 422)
        assert server.end()[0] == 0
    found = lines(folder, "refusals")
    assert [(line["status"], line["count"]) for line in found] == [(405, 1), (422, 3)], "probes are none"
    assert all(set(line) == {"time", "status", "count"} for line in found)
    assert all(abs(time.time() - datetime.fromisoformat(line["time"]).timestamp()) < 60 for line in found)
    assert len(lines(folder)) == 1


def test_each_refusal_counts_once_though_the_thread_looks_while_others_come(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "COUNTED", 0.0)
    monkeypatch.setattr(prediction_log, "EVERY", 0.001)
    refused = prediction_log.RefusedLog(str(tmp_path), LIMIT)
    for number in range(20_000):
        refused.count(422 if number % 2 else 429)
        if number % 1000 == 0:
            time.sleep(0.003)
    refused.close()
    found = lines(tmp_path, "refusals")
    sums = {status: sum(line["count"] for line in found if line["status"] == status) for status in (422, 429)}
    assert sums == {422: 10_000, 429: 10_000} and len(found) > 2


def test_a_minute_without_a_refusal_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "COUNTED", 0.0)
    refused = prediction_log.RefusedLog(str(tmp_path), LIMIT)
    refused.count(503)
    until(lambda: lines(tmp_path, "refusals"))
    refused.close()
    assert [line["count"] for line in lines(tmp_path, "refusals")] == [1]
