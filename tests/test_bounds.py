"""Risk: one request, however it is made, costs so much memory or time that the server dies or is deaf meanwhile."""

import json
import os
import re
from pathlib import Path

import pytest
from conftest import bootstrap
from serving import serving, settings

from conveyor.serving import bounds

MB = 1024 * 1024
FULL = 1_900_000  # bytes, nearly max_bytes


@pytest.fixture(scope="module")
def trained(bake, shared):
    return bootstrap(bake(), shared)


@pytest.fixture(scope="module")
def server(trained):
    bundle = trained.path / "build" / "candidate"
    with serving(trained, settings(trained, bundle), bundle) as server:
        for rows in (1, 1000):
            assert server.predict(*[server.row()] * rows)[0] == 200  # what is made once is made
        yield server


def filled(head: bytes, part: bytes, tail: bytes, size: int = FULL) -> bytes:
    """A body of so many bytes that repeats one part."""
    return head + part * ((size - len(head) - len(tail)) // len(part)) + tail


def numbered(head: bytes, part: bytes, tail: bytes, size: int = FULL) -> bytes:
    """The same with a number in each part."""
    made = b",".join(part % number for number in range(size // (len(part) + 4)))
    return head + made + tail


ROW = b'{"rows": [{'
HOSTILE = {
    "unknown columns in one row": numbered(ROW, b'"%d":0', b"}]}"),
    "unknown columns in many rows": filled(b'{"rows": [', b'{"a":1,"b":2,"c":3},', b"{}]}"),
    "unknown columns after many rows": filled(b'{"rows": [' + b"{}," * 900 + b"{", b'"x":1,', b'"y":2}]}'),
    "unknown fields of the body": numbered(b'{"rows": [], ', b'"%d":0', b"}"),
    "one column again and again": filled(ROW, b'"distance":1,', b'"distance":1}]}'),
    "braces in names of columns": numbered(ROW, b'"}{%d":0', b"}]}"),
    "quotes in names of columns": numbered(ROW, rb'"\"}%d":0', b"}]}"),
    "backslashes in names of columns": numbered(ROW, rb'"\\":0,"%d":0', b"}]}"),
    "lists for rows": filled(b'{"rows": [', b"[],", b"[]]}"),
    "objects for rows": filled(b'{"rows": [', b"{},", b"{}]}"),
    "numbers for rows": filled(b'{"rows": [', b"1,", b"1]}"),
    "broken numbers for rows": filled(b'{"rows": [', b"1e9,", b"1]}"),
    "texts for rows": filled(b'{"rows": [', b'"",', b'""]}'),
    "nulls for rows": filled(b'{"rows": [', b"null,", b"null]}"),
    "a list of numbers for a value": filled(ROW + b'"distance": [', b"1,", b"1]}]}"),
    "a list of lists for a value": filled(ROW + b'"distance": [', b"[],", b"[]]}]}"),
    "an object for a value": numbered(ROW + b'"distance": {', b'"%d":0', b"}}]}"),
    "lists in lists": b'{"rows": ' + b"[" * FULL,
    "objects in objects": filled(b"", b'{"a":', b""),
    "a number of many digits": filled(ROW + b'"distance": ', b"1", b"}]}"),
    "a fraction of many digits": filled(ROW + b'"distance": 0.', b"1", b"}]}"),
    "a number beyond all": ROW + b'"distance": 1e999999}]}' + b" " * FULL,
    "blanks": b" " * FULL,
    "colons": ROW + b":" * FULL,
    "commas": b'{"rows": [' + b"," * FULL,
    "quotes": b'"' * FULL,
    "backslashes": b'{"rows": ["' + b"\\" * FULL,
    "no UTF-8": filled(ROW + b'"carrier": "', b"\xff", b'"}]}'),
    "half characters": filled(ROW + b'"carrier": "', rb"\ud800", b'"}]}'),
    "a long name of a column": filled(ROW + b'"', b"a", b'": 1}]}'),
    "a long text in an unknown column": filled(ROW + b'"x": "', b"a", b'"}]}'),
    "a long text of wide characters": filled(ROW + b'"x": "', b"a", "\U0001f600".encode() + b'"}]}'),
    "a long text of escapes": filled(ROW + b'"x": "', rb"\u00e9", b'"}]}'),
    "a text for all rows": filled(b'{"rows": "', b"a", b'"}'),
    "half of a body": filled(ROW + b'"carrier": "', b"a", b""),
    "UTF-16": '{"rows": []}'.encode("utf-16") + b" " * FULL,
    "zeros": b"\x00" * FULL,
}


class Watch:
    """What the server needs while a block runs: bytes above what it had, and seconds of CPU, in which it is deaf."""

    def __init__(self, server) -> None:
        self._folder = Path("/proc") / str(server.process.pid)

    def _memory(self, name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", (self._folder / "status").read_text())[1]) * 1024

    def _cpu(self) -> float:
        times = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        (self._folder / "clear_refs").write_text("5")  # VmHWM begins anew
        self._before, self._began = self._memory("VmRSS"), self._cpu()
        return self

    def __exit__(self, *error: object) -> None:
        self.memory, self.cpu = self._memory("VmHWM") - self._before, self._cpu() - self._began


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_refused_at_little_cost(server, kind):
    body = HOSTILE[kind]
    found = []
    for _ in range(6):  # the machine is shared: the best one is the server's
        with Watch(server) as watch:
            status, said = server.ask("POST", "/predict", body)
        assert status in (413, 422) and list(said) == ["error", "row", "column"] and len(said["error"]) < 400, said
        assert watch.memory <= 4 * len(body) + 20 * MB, f"{watch.memory / MB:.0f} MB"
        found.append(watch.cpu)
        if watch.cpu <= 0.1:
            break
    assert min(found) <= 0.1, found
    assert server.predict(server.row())[0] == 200


@pytest.mark.parametrize(
    "kind, message, row, column",
    [
        ("unknown columns in one row", "row 1: unknown column '0'; leave it out", 1, "0"),
        ("one column again and again", r"row 1: holds \d+ values; the model has \d+ columns", 1, None),
        ("braces in names of columns", "row 1: unknown column '}{0'; leave it out", 1, "}{0"),
        ("unknown fields of the body", r"row 1: holds \d+ values; the model has \d+ columns", 1, None),
        ("objects for rows", r"`rows` should hold 1 to 1000 rows; the body holds \d+ objects", None, None),
        ("lists in lists", "the body holds too many lists; a row is one object, {column: value, ...}", None, None),
        ("numbers for rows", "the body holds too many values; a row is one object, {column: value, ...}", None, None),
        ("UTF-16", "the body is UTF-16; send it as UTF-8", None, None),
        ("a number beyond all", "row 1: .*", 1, None),
    ],
)
def test_what_is_too_much_is_named(server, kind, message, row, column):
    status, said = server.ask("POST", "/predict", HOSTILE[kind])
    assert status == 422 and re.fullmatch(message, said["error"]), said
    assert said["row"] == row and (column is None or said["column"] == column)


def test_a_misspelt_column_is_found_in_a_row_of_many(server):
    row = {name: value for name, value in server.row().items() if name != "distance"} | {"distanc": 1}
    row |= {f"x{number}": 0 for number in range(5000)}
    status, said = server.predict(*[server.row()] * 500, row)
    assert (status, said["column"], said["row"]) == (422, "distanc", 501)
    assert said["error"] == "row 501: unknown column 'distanc'; did you mean 'distance'?"


def test_honest_bodies_pass_whatever_their_texts_hold(server):
    strange = '{"a": [1, {"b": "c, d: e"}], "f": "\\"}{][,,::\\\\"}' * 5
    rows = [server.row(dest=strange, carrier=f"{number}:{number}:00, {{{{"[::-1]) for number in range(1000)]
    for indent in (None, 1):
        body = json.dumps({"rows": rows}, indent=indent).encode()
        status, said = server.ask("POST", "/predict", body)
        assert (status, len(said["predictions"])) == (200, 1000)
    long = server.row(dest="ü{,:" * 180_000)
    with Watch(server) as watch:
        assert server.predict(long)[0] == 200
    assert watch.memory <= 4 * 1_700_000 + 20 * MB
    marked = b"\xef\xbb\xbf" + json.dumps({"rows": [server.row()]}).encode()
    assert server.ask("POST", "/predict", marked)[0] == 200


def test_structure_is_what_stands_outside_of_strings():
    for value, found in [
        ({"a": 1}, b"{:}"),
        ({"": {"{": ["}", ",", 1.5]}}, b"{:{:[,,]}}"),
        ({'"': '\\"', "\\": '{"a": "\\\\"}'}, b"{:,:}"),
        (["\\\\", '"', "", "{", ""], b"[,,,,]"),
    ]:
        for indent in (None, 2):
            assert bounds.skeleton(bounds.plain(json.dumps(value, indent=indent).encode())) == found


def test_a_wide_body_within_its_bounds_passes():
    row = {f"column {number}": "a: b, {c}" if number % 7 == 0 else number for number in range(500)}
    body = json.dumps({"rows": [row] * 1000}).encode()
    assert bounds.check(body, 500, 1000) is None
    with pytest.raises(bounds.Beyond, match="holds 501 values; the model has 12 columns"):
        bounds.SPARE, spare = 100, bounds.SPARE
        try:
            bounds.check(body, 12, 1000)
        finally:
            bounds.SPARE = spare
