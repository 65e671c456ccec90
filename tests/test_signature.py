"""Risk: a body that is looked at column by column is taken, refused or understood otherwise than value by value."""

import json
import random
import tracemalloc

import numpy as np
import pytest

from conveyor.model import signature
from conveyor.serving import telemetry


@pytest.fixture(scope="module")
def asked():
    """A signature with each kind of column, with and without gaps."""
    Column = signature.Column
    columns = [
        Column("size", "number", True, [0.0, 9.0], None),
        Column("count", "number", False, None, None),
        Column("shop", "text", False, None, frozenset({"north", "süd"}), closed=True),
        Column("note", "text", True, None, None),
        Column("open", "truth", True, None, None),
        Column("at", "time", True, None, None),
    ]
    return signature.Signature(columns, max_rows=9)


@pytest.fixture
def both(asked, monkeypatch):
    """both(body) -> what is made of it column by column and value by value: all of it, or the complaint."""

    def read(body: bytes, few: float):
        monkeypatch.setattr(signature, "FEW", few)
        try:
            rows, columns = asked.read(body)
        except signature.BadRows as bad:
            return str(bad), bad.row, bad.column
        numbers = np.where(np.isnan(columns.numbers), None, columns.numbers).tolist()
        # A whole number is as good as a float of the same value; the truth is not.
        kinds = [{name: isinstance(value, bool) for name, value in row.items()} for row in rows]
        return rows, kinds, columns.names, numbers, columns.others, len(columns)

    return lambda body: (read(body, -1), read(body, float("inf")))


GOOD = {
    "size": ["1.5", "-0.0", "-0", "7", "1e30", "-1e30", "5e-324", "9007199254740993", "null", "1E2"],
    "count": ["0", "3.25", "12", "-4", "9007199254740992", "1e-400"],
    "shop": ['"north"', '"süd"', r'"s\u00fcd"'],
    "note": ['""', '"nan"', '"a\\nb"', '"\\ud83d\\udeeb"', "null", '"1"'],
    "open": ["true", "false", "null"],
    "at": ['"2013-06-30T12:00:00Z"', '"2013-06-30"', "null"],
}
BAD = [
    *("true", "null", '"1"', "NaN", "Infinity", "-Infinity", "1e999", "1.1e30", "1" + "0" * 30, "1" + "0" * 400),
    *("9" * 5000, "[]", "[1]", "{}", '"west"', '"\\ud800"', '"2013-13-45"', '"12:00"', "01", "1.", "-", "", "1 2"),
]


def body(draw: random.Random) -> bytes:
    """A body as a caller may send it: right, or wrong in a place or two."""
    rows = []
    for _ in range(draw.choice([1, 2, 5, 9, 9, 10]) if draw.random() < 0.98 else 0):
        cells = [(name, draw.choice(values)) for name, values in GOOD.items()]
        if draw.random() < 0.3:
            draw.shuffle(cells)
        if draw.random() < 0.05:
            place = draw.randrange(len(cells))
            cells[place] = cells[place][0], draw.choice(BAD)
        if draw.random() < 0.03:  # a key that stands twice, with a right or a wrong value
            name, values = draw.choice(list(GOOD.items()))
            cells.insert(draw.randrange(7), (name, draw.choice([*values, *BAD])))
        if draw.random() < 0.02:
            del cells[draw.randrange(len(cells))]
        if draw.random() < 0.02:
            cells.append((draw.choice(["more", "Size", "", "si\\u007ae", "rows"]), "1"))
        row = "{" + ", ".join(f'"{name}": {value}' for name, value in cells) + "}"
        rows.append(row if draw.random() < 0.995 else draw.choice(["7", "[]", "null", '"size"']))
    made = '{"rows": [' + ",".join(rows) + "]}"
    if draw.random() < 0.03:
        made = draw.choice(
            [made[:-1] + ', "more": 1}', "[" + made + "]", made + "x", made.replace("rows", "row"), "null"]
        )
    sent = made.encode()
    if draw.random() < 0.03:
        place = draw.randrange(len(sent))
        sent = sent[:place] + draw.choice([b"", b"\xff", b'"', b",", b"\x00"]) + sent[place + 1 :]
    return sent


def test_both_ways_take_the_same_bodies_and_make_the_same_of_them(both):
    draw, taken, refused = random.Random(13), 0, set()
    for _ in range(8000):
        sent = body(draw)
        by_column, by_value = both(sent)
        assert by_column == by_value, sent
        taken += len(by_value) == 6
        refused |= {by_value[0]} if len(by_value) == 3 else set()
    assert taken > 2000 and len(refused) > 200


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", sorted({*BAD, *sum(GOOD.values(), [])}))
def test_both_ways_agree_about_each_value_in_each_column(both, name, value):
    right = {column: values[0] for column, values in GOOD.items()}
    rows = [right, right | {name: value}, right]
    sent = ",".join("{" + ", ".join(f'"{key}": {cell}' for key, cell in row.items()) + "}" for row in rows)
    by_column, by_value = both(f'{{"rows": [{sent}]}}'.encode())
    assert by_column == by_value


def test_a_model_of_texts_alone_and_one_of_a_single_number_are_asked_as_well():
    for kind, values, numbers in (("text", ["a", "b", "a", "c", "d"], 0), ("number", [1.0, 2.5, 0.0, 3.0, 4.0], 1)):
        asked = signature.Signature([signature.Column("it", kind, False, None, None)], max_rows=9)
        rows, columns = asked.read(json.dumps({"rows": [{"it": value} for value in values]}).encode())
        assert rows == [{"it": value} for value in values] and columns.numbers.shape == (5, numbers)
        assert (columns.number("it").tolist() if numbers else columns.others["it"]) == values


def test_a_large_right_body_takes_four_times_its_size_at_most(asked):
    """And twenty megabytes more."""
    many = signature.Signature(list(asked.columns.values()), max_rows=100_000)
    row = {name: json.loads(values[0]) for name, values in GOOD.items()}
    sent = json.dumps({"rows": [row] * 16_000}).encode()
    assert 1_500_000 < len(sent) < 2_000_000
    tracemalloc.start()
    try:
        many.read(sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 4 * len(sent) + 20_000_000


@pytest.mark.parametrize("classes", [[], ["a", "b", "c"]])
@pytest.mark.parametrize("few", [1, 7])
def test_what_is_counted_column_by_column_is_what_each_value_counts(asked, classes, few):
    columns = [*asked.columns.values(), signature.Column("word", "text", False, None, frozenset({"a", "b"}))]
    read = signature.Signature(columns, max_rows=9).read
    counted = telemetry.Observed(columns, classes, [0.25, 0.5], {"key": "k"}, None)
    draw, wanted = np.random.default_rng(3), dict.fromkeys(("beyond", "unseen", "size", "note", "open", "at"), 0)
    sums, below = np.zeros(max(len(classes), 1)), np.zeros(max(len(classes), 1))
    for _ in range(60):
        rows = [
            {
                "size": draw.choice([-1.0, 0.0, 9.0, 9.5, None]),
                "count": draw.normal() * 1e9,
                "shop": "north",
                "note": draw.choice(["x", None]),
                "open": draw.choice([True, None]),
                "at": draw.choice(["2013-06-30", None]),
                "word": draw.choice(["a", "b", "c"]),
            }
            for _ in range(few)
        ]
        said = draw.choice([0.1, 0.25, 0.4, 0.9], (few, *([len(classes)] if classes else [])))
        counted.rows(read(json.dumps({"rows": rows}).encode())[1], said)
        wanted["beyond"] += sum(row["size"] in (-1.0, 9.5) for row in rows)
        wanted["unseen"] += sum(row["word"] == "c" for row in rows)
        for name in ("size", "note", "open", "at"):
            wanted[name] += sum(row[name] is None for row in rows)
        sums, below = sums + said.reshape(few, -1).sum(axis=0), below + (said.reshape(few, -1) <= 0.25).sum(axis=0)
    values = dict(line.rsplit(" ", 1) for line in counted.text().decode().splitlines() if not line.startswith("#"))
    missing = {
        name: float(values[f'missing_values_total{{column="{name}"}}']) for name in ("size", "note", "open", "at")
    }
    beyond, unseen = values['out_of_range_total{column="size"}'], values['unseen_categories_total{column="word"}']
    assert {"beyond": float(beyond), "unseen": float(unseen), **missing} == wanted and min(wanted.values()) > 5
    for number, name in enumerate(classes or [None]):
        label = f'class="{name}",' if name else ""
        assert float(values[f'prediction_bucket{{{label}le="0.25"}}']) == below[number]
        assert float(values["prediction_sum" + (f'{{class="{name}"}}' if name else "")]) == pytest.approx(sums[number])
