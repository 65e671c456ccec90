"""Risk: a request that ends the process that answers it is sent on, and ends one replica after the other."""

import asyncio
import json
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from conftest import bootstrap
from serving import JSON, serving, settings

from conveyor.serving import isolated

DEADLY = str(Path(__file__).parent / "standins" / "replica" / "deadly.py")
AGAIN = {"X-Again": "predict"}


@pytest.fixture(scope="module")
def trained(bake, shared):
    return bootstrap(bake(), shared)


@pytest.fixture
def deadly(trained, tmp_path):
    bundle = trained.path / "build" / "candidate"
    image = settings(trained, bundle, **{"serve.max_seconds": 2.0})
    with serving(trained, image, bundle, DEADLY, PREDICTION_LOG=str(tmp_path / "log")) as server:
        yield server


def lines(folder) -> list[dict]:
    texts = [file.read_text() for file in folder.glob("predictions-*.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_an_answer_from_a_child_is_the_same_and_is_counted_and_logged_once(deadly, tmp_path):
    plain = deadly.predict(deadly.row())[1]
    before = {name: deadly.metric(name) for name in ("rows_total", "prediction_count", "predict_seconds_count")}
    status, said = deadly.predict(deadly.row(), **AGAIN | {"X-Request-Id": "asked.again"})
    assert status == 200 and said["predictions"] == plain["predictions"] and said["id"] != plain["id"]
    assert {name: deadly.metric(name) - before[name] for name in before} == dict.fromkeys(before, 1)
    assert deadly.predict(deadly.row(), **AGAIN | {"X-Probe": "golden"})[0] == 200
    assert deadly.metric("rows_total") == before["rows_total"] + 1
    status, wrong = deadly.predict(deadly.row(distance="x"), **AGAIN)
    assert (status, wrong["row"], wrong["column"]) == (422, 1, "distance")
    assert deadly.end()[0] == 0
    found = lines(tmp_path / "log")
    assert [(line["id"], line["prediction"]) for line in found if line["request"] == "asked.again"] == [
        (said["id"], said["predictions"][0])
    ]
    assert len(found) == 2


@pytest.mark.parametrize("end", ["EXIT", "KILL", "LOOP"])
def test_what_ends_a_process_ends_a_child(deadly, end):
    for _ in range(3):
        began = time.monotonic()
        status, said = deadly.predict(deadly.row(dest=end), **AGAIN)
        assert status == 500 and said["error"].startswith("this request ended the process that answered it; ")
        assert said["row"] is said["column"] is None and time.monotonic() - began < 6
        assert deadly.predict(deadly.row())[0] == 200, "on the same connection"
    assert deadly.ask("GET", "/readyz")[0] == 200
    assert [line for line in Path(f"/proc/{deadly.process.pid}/task").glob("*/children") if line.read_text()] == []
    code, complaint = deadly.end()
    told = [json.loads(line) for line in complaint.splitlines()]
    assert code == 0 and [line["status"] for line in told] == [500] * 3


def test_memory_without_end_ends_a_child(deadly):
    """Within a limit of the process here; in a container the kernel takes the child first."""
    resource.prlimit(deadly.process.pid, resource.RLIMIT_AS, (4_000_000_000, 4_000_000_000))
    status, said = deadly.predict(deadly.row(dest="HOG"), **AGAIN)
    assert status == 500, said
    assert deadly.predict(deadly.row())[0] == 200


def test_a_child_is_the_first_to_go_and_holds_nothing_open(deadly):
    with ThreadPoolExecutor(1) as pool, closing(deadly.connect()) as other:
        other.request("POST", "/predict", json.dumps({"rows": [deadly.row(dest="LOOP")]}), JSON | AGAIN)
        answer = pool.submit(other.getresponse)
        children = Path(f"/proc/{deadly.process.pid}/task/{deadly.process.pid}/children")
        end = time.monotonic() + 1.5
        while not (found := children.read_text(encoding="utf-8").split()):
            assert time.monotonic() < end
        time.sleep(0.2)
        child = Path("/proc") / found[0]
        assert (child / "oom_score_adj").read_text().strip() == "1000"
        kinds = [os.readlink(file) for file in (child / "fd").iterdir()]
        assert not [kind for kind in kinds if kind.startswith("socket:")], kinds
        began = time.monotonic()
        assert deadly.predict(deadly.row())[0] == 200 and time.monotonic() - began < 0.5, "others go on"
        assert answer.result().status == 500


def test_there_are_four_children_at_most_and_others_wait_for_their_turn(deadly):
    """What a replica held that went away comes at once: none of it is refused."""
    body = json.dumps({"rows": [deadly.row(dest="LOOP")]})
    children, most = Path(f"/proc/{deadly.process.pid}/task/{deadly.process.pid}/children"), []

    def ask(_):
        with closing(deadly.connect()) as connection:
            connection.request("POST", "/predict", body, JSON | AGAIN)
            return connection.getresponse().status

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, number) for number in range(12)]
        while not all(one.done() for one in asked):
            most.append(len(children.read_text(encoding="utf-8").split()))
            time.sleep(0.02)
    assert [one.result() for one in asked] == [500] * 12
    assert max(most) == 4
    assert deadly.predict(deadly.row(), **AGAIN)[0] == 200


def test_more_than_may_wait_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(isolated, "WAITING", 2)

    async def ask() -> list:
        place = isolated.Apart(5.0)
        asked = [place.answer(lambda: time.sleep(0.2) or b"{}") for _ in range(isolated.MOST + 4)]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(ask())
    refused = [one for one in found if isinstance(one, isolated.Problem)]
    assert [(one.status, one.retry) for one in refused] == [(503, 1)] * 2
    assert [one for one in found if one not in refused] == [b"{}"] * (isolated.MOST + 2)


def test_a_bug_is_an_error_of_the_server_in_both(deadly):
    for headers in ({}, AGAIN):
        status, said = deadly.predict(deadly.row(dest="BUG"), **headers)
        assert (status, said["error"]) == (500, "the server failed at this request")
    code, complaint = deadly.end()
    told = [json.loads(line) for line in complaint.splitlines()]
    assert code == 0 and len(told) == 2
    assert all("deadly.py" in line["trace"] and "RuntimeError: a bug" in line["trace"] for line in told)


def test_only_that_word_asks_for_a_child(deadly):
    with pytest.raises(OSError):
        deadly.predict(deadly.row(dest="EXIT"), **{"X-Again": "no"})
    assert deadly.process.wait(timeout=5) == 3
