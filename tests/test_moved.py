"""Risk: a change of the live rows is not seen, is told of rows that have not changed, or shows what is private."""

import json
import time
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import given_log
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.data import formats
from conveyor.ledger.ledger import ledger_of
from conveyor.model.scoring import of_own_bundle
from conveyor.watch import log_days, log_rows, loss, moved, segments
from conveyor.watch.log_lines import Asked
from conveyor.watch.monitor import look
from conveyor.watch.wording import cells

FLIGHTS = ROOT / "tools" / "flights-july-december.csv.gz"  # what came after the sample
KINDS = {"age": "number", "town": "text"}
NOW = pd.Timestamp("2026-11-30T12:00:00Z")


def rows(days: int, each: int, seed: int, begin: int = 0, alike: float = 0.5) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of two columns, whose days differ by chance, and the number of the day of each."""
    draw, count = np.random.default_rng(seed), days * each
    weather = alike * np.repeat(draw.normal(size=days), each)
    ages = draw.normal(size=count) + weather
    towns = np.where(draw.random(count) < 1 / (1 + np.exp(-weather)), "Rome", "Oslo")
    return pd.DataFrame({"age": ages, "town": towns}), np.repeat(np.arange(days) + begin, each)


def found(before, before_day, now, now_day, kinds=KINDS) -> dict[str, moved.Column]:
    return {each.name: each for each in moved.tested(moved.columns(before, before_day, now, now_day, kinds))}


@pytest.fixture
def both():
    """Rows of training, and live ones of the same kind."""
    return *rows(60, 40, 1), *rows(28, 40, 2, begin=500)


def test_rows_of_the_same_kind_seldom_move_though_their_days_differ():
    """400 pairs of samples without a change: at 5 % at most 33 of them, with .1 % of the luck of a binomial, differ."""
    wrong = covered = intervals = 0
    for seed in range(400):
        columns = found(*rows(40, 20, 2 * seed), *rows(20, 20, 2 * seed + 1))
        wrong += any(column.moved for column in columns.values())
        for change in (columns["age"].change("pairs"), columns["age"].change("deviations")):
            if change.low is not None:
                intervals, covered = intervals + 1, covered + (change.low <= 0 <= change.high)
    assert wrong <= 33
    assert intervals > 700 and covered / intervals > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)


def test_what_has_moved_is_found_with_its_size_and_its_interval(both):
    before, day, now, live = both
    now = now.assign(age=now["age"] + 1.2, town=np.where(np.arange(len(now)) % 3 == 0, "Bern", now["town"]))
    columns = found(before, day, now, live)
    age, town = columns["age"], columns["town"]
    assert age.moved and town.moved
    pairs = np.mean(now["age"].to_numpy()[:, None] > before["age"].to_numpy()) - 0.5
    assert age.change("pairs").value == pytest.approx(pairs, abs=1e-9)
    wanted = (now["age"].mean() - before["age"].mean()) / before["age"].std(ddof=0)
    assert age.change("deviations").value == pytest.approx(wanted)
    assert age.change("pairs").low < pairs < age.change("pairs").high
    share = np.mean(now["town"] == "Bern")
    assert (town.change("category").category, town.unseen) == ("Bern", ("Bern",))
    assert town.change("category").now == pytest.approx(share) and town.change("unseen").now == pytest.approx(share)
    assert town.distance == pytest.approx(share)


def test_rows_of_one_day_count_once_and_not_each():
    """One live day of snow: a test of rows would be sure."""
    before, day = rows(60, 40, 1, alike=0)
    now, live = rows(28, 40, 2, begin=500, alike=0)
    snow = live == 510
    now.loc[snow, "age"] += 9
    assert abs(found(before, day, now, live)["age"].change("deviations").value) > 0.25
    assert not found(before, day, now, live)["age"].moved


def test_a_category_that_no_day_of_training_has_gets_an_interval_though_days_are_uneven():
    """The mean of equal numbers differs from them by rounding, and the same rounding of all days looks like weather."""
    before, day = rows(182, 110, 1)
    kept = np.random.default_rng(5).random(len(before)) < 0.8
    now, live = rows(28, 100, 2, begin=500)
    fresh = np.random.default_rng(6).random(len(now)) < 0.0566
    for share in (fresh, live % 7 < 7):
        town = found(before[kept], day[kept], now.assign(town=np.where(share, "Bern", now["town"])), live)["town"]
        assert town.change("unseen").low is not None and town.moved


def test_columns_are_tested_together_by_the_procedure_of_holm():
    def column(name: str, p: float) -> moved.Column:
        return moved.Column(name, "number", changes=(moved.Change("pairs", 0.3, 0.1, 0.5, p),))

    family = {"a": 0.03, "b": 0.011, "c": 0.9, "d": 0.016}
    told = moved.tested([column(*each) for each in family.items()])
    assert [each.name for each in told] == list(family)
    assert [each.moved for each in told] == [False, True, False, True], "of 4, 3 and 2: .0125, .0167 and .025"
    family["b"] = 0.013
    assert not any(each.moved for each in moved.tested([column(*each) for each in family.items()]))


def test_a_small_difference_is_no_move_however_sure_it_is():
    before, day = rows(60, 2000, 1, alike=0)
    now, live = rows(28, 2000, 2, begin=500, alike=0)
    change = found(before, day, now.assign(age=now["age"] + 0.1), live)["age"]
    assert change.change("pairs").low > 0 and not change.moved and change.size < moved.SIZE


def test_a_column_that_is_gone_is_told_and_has_moved(both):
    before, day, now, live = both
    column = found(before, day, now[["town"]], live)["age"]
    assert (column.gone, column.moved, column.size, column.changes) == (True, True, 1.0, ())


def test_values_that_have_all_become_missing_have_moved(both):
    before, day, now, live = both
    columns = found(before, day, now.assign(age=np.nan, town=None), live)
    for column in columns.values():
        assert column.moved and column.change("missing").now == 1 and column.change("missing").before == 0
        assert column.change("pairs") is None and column.change("category") is None


@pytest.mark.parametrize("where", ["training", "live"])
def test_a_column_of_one_value_has_no_deviation_and_raises_nothing(both, where):
    before, day, now, live = both
    same = {"age": 1.0, "town": "Rome"}
    columns = (
        found(before.assign(**same), day, now, live)
        if where == "training"
        else found(before, day, now.assign(**same), live)
    )
    for column in columns.values():
        assert column.constant == (where,)
    assert (columns["age"].change("deviations") is None) == (where == "training")
    alone = found(before.assign(**same), day, now.assign(**same), live)
    assert not any(column.moved for column in alone.values()) and alone["age"].constant == ("training", "live")


def test_a_constant_score_is_told(both):
    before, day, now, live = both
    score = moved.score("prediction", np.full(len(before), 0.25), day, np.full(len(now), 0.25), live)
    assert score.constant == ("training", "live") and score.size == 0
    stuck = moved.score("prediction", before["age"].to_numpy(), day, np.full(len(now), 9.0), live)
    [told] = moved.tested([stuck])
    assert told.moved and told.constant == ("live",) and told.change("outside") is None


def test_a_number_that_became_text_in_the_log_is_no_number(both):
    before, day, now, live = both
    column = found(before, day, now.assign(age=np.inf), live)["age"]
    assert column.moved and column.change("unreadable").now == 1 and column.change("missing").now == 0


def test_fewer_than_ten_days_give_no_interval_and_no_move(both):
    before, day, now, live = both
    few = live < 509
    column = found(before, day, now[few].assign(age=99.0), live[few])["age"]
    assert column.change("pairs").low is None and column.change("pairs").value > 0.4 and not column.moved


def test_a_value_beyond_the_range_of_training_is_counted(both):
    before, day, now, live = both
    far = now["age"].where(np.arange(len(now)) % 10 > 0, 50.0)
    column = found(before, day, now.assign(age=far), live)["age"]
    assert column.change("outside").now == pytest.approx(0.1, abs=0.01) and column.change("outside").before == 0


def test_long_and_many_categories_stay_short(both):
    before, day, now, live = both
    names = [f"{'x' * 90}\n{place}" for place in range(len(now))]
    column = found(before, day, now.assign(town=names), live)["town"]
    assert len(column.unseen) == 3 and all(len(name) <= 30 and "\n" not in name for name in column.unseen)
    assert column.moved and column.change("unseen").now == 1


def test_times_and_truth_values_are_compared(both):
    before, day, now, live = both
    kinds = {"seen": "time", "old": "truth"}
    before = pd.DataFrame(
        {"seen": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(before["age"], "D"), "old": True}
    )
    now = pd.DataFrame({"seen": ["2014-01-01T00:00:00Z"] * (len(now) - 1) + ["soon"], "old": "true"})
    columns = found(before, day, now, live, kinds)
    assert columns["seen"].moved and columns["seen"].change("unreadable").now == pytest.approx(1 / len(now))
    assert not columns["old"].moved and columns["old"].distance == 0


def test_a_million_rows_cost_in_proportion_and_little_memory():
    def cost(each: int) -> tuple[float, float]:
        given = *rows(60, each, 1), *rows(28, each, 2, begin=500)
        tracemalloc.start()
        began = time.process_time()
        found(*given)
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return took, peak

    cost(100)
    (little, _), (much, peak) = cost(600), cost(12_000)  # 52,800 rows, and twenty times as many
    assert much < 60 * max(little, 0.05) and peak < 1e9


# Traffic


def test_traffic_tells_the_days_without_any_and_leaves_out_the_present_one():
    days = [day for day in range(1, 30) if day not in (7, 8)]  # November; today is the 30th
    times = pd.Series(pd.to_datetime([f"2026-11-{day:02d}T10:00Z" for day in days for _ in range(day)]))
    times = pd.concat([times, pd.Series([pd.Timestamp("2026-11-30T11:00Z")])], ignore_index=True)
    refused = [("2026-11-03T01:00Z", 422, 2), ("2026-11-29T23:59Z", 422, 4), ("2026-11-29T00:00Z", 500, 1)]
    refused += [("2026-11-30T00:00Z", 422, 9), ("2026-11-01T00:00Z", 422, 9)]  # today, and before the 28 days
    refusals = pd.DataFrame(refused, columns=["time", "status", "count"])
    refusals["time"] = pd.to_datetime(refusals["time"])
    seen = moved.traffic(times, refusals, NOW, 28)
    assert (seen.refused, seen.refused_last, seen.refused_median) == (((422, 6), (500, 1)), 5, 0)
    assert (seen.days, seen.last, seen.empty, seen.idle, seen.median) == (28, 29, 2, 0, 15.5)
    assert moved.traffic(times, refusals, NOW + pd.Timedelta(days=9), 28).idle == 9
    assert (
        moved.traffic(times.tail(1), refusals, NOW, 28) is None
        and moved.traffic(times.head(0), refusals, NOW, 28) is None
    )


# The log


def line(number: int, time: str, **features) -> str:
    told = {"id": f"{number}", "request": None, "row": 1, "time": time, "model": "m", "features": features}
    return json.dumps({**told, "prediction": 0.5}) + "\n"


def test_a_huge_number_of_one_caller_is_no_error_and_no_page_of_digits(both):
    before, day, now, live = both
    now = now.assign(age=now["age"].where(now.index != now.index[0], 1e308))
    with warnings.catch_warnings(action="error"):
        age = found(before, day, now, live)["age"]
    assert max(map(len, cells(age)[2])) < 100


def parsed(*contents: str, recent=KINDS, now=NOW) -> log_rows.Read:
    files = (
        (f"predictions-202611{day:02d}T000000000000Z-h-1.jsonl", content.encode())
        for day, content in enumerate(contents, 1)
    )
    return given_log.parsed(files, (), False, now, recent)


def test_features_are_kept_of_the_last_days_only_and_of_those_that_were_asked_for():
    old = "".join(line(n, "2026-09-01T10:00:00Z", age=n, town="Rome", gone=1) for n in range(5))
    new = line(7, "2026-11-29T10:00:00Z", age=7, town="Oslo", other="x")
    read = parsed(old, new + line(8, "2026-11-02T10:00:00Z", age=8, town=None))
    assert len(read.rows) == 7 and sorted(read.features["age"]) == [7, 8] and list(read.features) == ["age", "town"]
    assert read.rows.loc[read.features.index, "id"].tolist() == ["8", "7"]
    assert list(parsed(old, new, recent={"gone": "number"}).features) == [], "no line of the last days has it"


def test_a_value_that_is_no_number_where_one_was_is_kept_as_such():
    values = [1, 2.5, True, None, "3", 10**400, [1], "\ud800"]
    read = parsed("".join(line(n, f"2026-11-29T10:00:0{n}Z", age=each, town=each) for n, each in enumerate(values)))
    assert read.features["age"].tolist()[:3] == [1, 2.5, 1] and np.isnan(read.features["age"].iloc[3])
    assert np.isinf(read.features["age"].iloc[4:]).all() and not read.damaged
    assert read.features["town"].tolist()[:3] + read.features["town"].tolist()[6:] == ["1", "2.5", "true", "[1]", "?"]


def test_a_clock_that_is_ahead_does_not_make_all_other_lines_old():
    ahead = line(1, "2027-11-29T10:00:00Z", age=1, town="Rome")
    read = parsed(line(2, "2026-11-29T10:00:00Z", age=2, town="Rome") + ahead, ahead)
    assert read.features["age"].tolist() == [2] and read.future == 2


def test_a_prediction_that_is_no_finite_number_is_damage():
    content = "".join(line(n, "2026-11-29T10:00:00Z").replace("0.5", bad) for n, bad in enumerate(("NaN", "Infinity")))
    read = parsed(content + line(9, "2026-11-29T10:00:00Z", age=1))
    assert (len(read.rows), read.damaged) == (1, 2)


def test_features_of_a_long_log_take_no_memory_once_they_are_old(tmp_path):
    """A file for each month of ten years: beside the log without features, those of a few files are in memory."""
    import pyarrow as pa

    names = [f"f{number}" for number in range(20)]
    months = [f"{year}-{month:02d}-15T10:00:00Z" for year in range(2016, 2026) for month in range(1, 13)]

    def most(recent: dict[str, str], folder: Path) -> int:
        """The most bytes that Arrow holds between two files."""
        held, asked = [], Asked((), False, recent)

        def content(place: int) -> bytes:
            held.append(pa.total_allocated_bytes())
            each = (line(1000 * place + n, months[place], **{name: n + 0.1 for name in names}) for n in range(300))
            return "".join(each).encode()

        files = [
            log_days.LogFile(
                f"predictions-{month[:10].replace('-', '')}T100000000000Z-h-1.jsonl", "", partial(content, place)
            )
            for place, month in enumerate(months)
        ]
        before = pa.total_allocated_bytes()
        assert len(log_rows.read_of(log_days.parts(files, asked, folder), asked, NOW).rows) == 36_000
        return max(held) - before

    (blocked := tmp_path / "file").touch()  # where no day can be kept
    without = most({}, tmp_path)
    for folder in (tmp_path, blocked):
        assert most(dict.fromkeys(names, "number"), folder) < without + 1e6 < without + 20 * 8 * 36_000 / 5


# Segments


def test_a_segment_whose_loss_rose_comes_first_with_an_interval_of_its_own():
    before, day = rows(40, 40, 1, alike=0)
    now, live = rows(28, 40, 2, begin=500, alike=0)
    draw = np.random.default_rng(3)
    then_loss = draw.exponential(size=len(before))
    now_loss = draw.exponential(size=len(now)) + np.where(now["town"] == "Rome", 1.0, 0.0)
    first, *others = segments.compared(now[["town"]], live, now_loss, before[["town"]], day, then_loss)
    assert (first.column, first.value) == ("town", "= Rome") and 0.5 < first.low < 1 < first.high < 1.5
    assert [each.value for each in others] == ["= Oslo"] and others[0].low < 0 < others[0].high
    wanted = now_loss[now["town"] == "Rome"].mean() - then_loss[before["town"] == "Rome"].mean()
    assert first.difference == pytest.approx(wanted)


def test_a_segment_of_few_rows_is_left_out_and_one_of_few_days_has_no_interval():
    before, day = rows(40, 40, 1, alike=0)
    now, live = rows(9, 40, 2, begin=500, alike=0)
    now.loc[:10, "town"] = "Bern"
    found = segments.compared(now[["town"]], live, np.ones(len(now)), before[["town"]], day, np.ones(len(before)))
    assert {each.value for each in found} == {"= Rome", "= Oslo"} and all(each.low is None for each in found)


# The verb


@pytest.fixture(scope="module")
def answered():
    """Flights of the second half of 2013 as features of a log."""
    return formats.read({"": FLIGHTS.read_bytes()}, "flights", (), ())


def logged(project, folder, frame: pd.DataFrame, features: list[str]) -> None:
    """Writes the log of a champion that has answered these rows, and their labels."""
    started = Project(project.path)
    champion = ledger_of(started).champion()
    with of_own_bundle(started, ledger_of(started).bundle(champion), frame) as scored:
        said = scored.predictions
    times = frame["scheduled"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    given = (
        frame[features].assign(scheduled=times).astype(object).where(frame[features].notna(), None).to_dict("records")
    )
    told = (
        {"id": f"{n:x}", "request": None, "row": 1, "time": t, "model": champion.key, "features": f, "prediction": p}
        for n, (t, f, p) in enumerate(zip(times, given, said, strict=True))
    )
    folder.mkdir(exist_ok=True)
    (folder / "predictions-1.jsonl").write_text("".join(json.dumps(each) + "\n" for each in told))
    labels = pd.DataFrame({"id": [f"{n:x}" for n in range(len(frame))], "label": frame["late"]})
    labels.to_csv(project.path / "labels.csv", index=False)
    project.set_param("monitor.labels", "labels.csv")


def monitor(project, folder) -> str:
    project.cli("monitor", PREDICTION_LOG=f"file://{folder}")
    return (project.path / "build" / "monitor.md").read_text()


def test_the_monitor_tells_what_moved_by_the_end_of_the_year_and_never_what_is_private(
    bootstrapped, tmp_path, answered
):
    project = bootstrapped
    features = [name for name in answered if name not in ("late", "scheduled", "flight")]
    frame = answered.assign(dest=answered["dest"].where(answered["dest"] != "ATL", "MOON"), visib=50.0)
    given = frame.assign(humid=np.nan)
    project.set_param("data.private", ["carrier"])
    logged(project, tmp_path / "log", given, [name for name in features if name != "pressure"])
    (project.path / "expectations" / "data.json").write_text("{}")  # that of the champion's commit counts
    text = monitor(project, tmp_path / "log")
    what = text.split("## What moved")[1].split("## Segments")[0]
    lines = {row.split("|")[1].strip(): row for row in what.splitlines() if row.startswith("| ")}
    assert " predictions of 28 days, beside the rows" in what
    assert "**The log_loss has not shown to be higher" in text, "what moved is no alarm"
    assert "gone from the log" in lines["pressure"] and "new: MOON" in lines["dest"]
    assert "missing 0.0% → 100.0%" in lines["humid"] and "one value only (live)" in lines["visib"]
    assert "| **yes** |" in lines["dest"] and "| no |" in lines["distance"]
    assert "column 'visib': expected values between 0 and 20" in what and "in row" not in what
    assert "Private features, which are not logged: 1" in what and "carrier" not in what
    found = text.split("## Segments")[1]
    assert "| origin = EWR |" in found and "carrier" not in found


def test_with_few_labels_the_loss_of_all_rows_is_told(bootstrapped, tmp_path, answered):
    project, folder = bootstrapped, tmp_path / "log"
    logged(project, folder, answered, [name for name in answered if name not in ("late", "scheduled")])
    labels = pd.read_csv(project.path / "labels.csv")
    labels.sample(frac=0.2, random_state=1).to_csv(project.path / "labels.csv", index=False)
    text = monitor(project, folder)
    lines = text.split("## Live loss")[1].split("## What moved")[0]
    assert "predictions of the last 28 days have a label: their mean loss is 0." in lines
    assert "- If calibration still holds, the loss of all of them is 0." in lines
    assert "| carrier = " in text.split("## Segments")[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data.time": None}, "Not known: data.time is null: a holdout without time"),
        ({"serve.log": None}, "Not known: serve.log: is null, so no prediction is kept"),
    ],
    ids=["no time", "no log"],
)
def test_without_what_it_needs_it_says_why_in_a_line(bootstrapped, tmp_path, answered, change, why):
    project, folder = bootstrapped, tmp_path / "log"
    logged(project, folder, answered.tail(500), ["scheduled", "carrier", "origin"])
    for key, value in change.items():
        project.set_param(key, value)
    given = {} if "serve.log" in change else {"PREDICTION_LOG": f"file://{folder}"}
    project.cli("monitor", **given)
    text = (project.path / "build" / "monitor.md").read_text()
    what = text.split("## What moved\n\n")[1]
    assert what.startswith(why) and "## Segments" not in what and what.count("Not known") == 1


def test_the_log_of_another_model_is_told_in_a_line(bootstrapped, tmp_path, answered):
    project, folder = bootstrapped, tmp_path / "log"
    logged(project, folder, answered.tail(500), ["scheduled", "carrier", "origin"])
    file = folder / "predictions-1.jsonl"
    file.write_text(file.read_text().replace('"model": "', '"model": "other'))
    what = monitor(project, folder).split("## What moved\n\n")[1]
    assert what.startswith("Not known: the last 28 days of the log hold no prediction of this model.")
    assert "- Traffic: a median of " in what


def test_data_of_then_that_are_gone_are_told_in_a_line(bootstrapped, tmp_path, answered, monkeypatch):
    project, folder = bootstrapped, tmp_path / "log"
    logged(project, folder, answered.tail(500), ["scheduled", "carrier", "origin"])

    def gone(*_):
        raise Misuse("the data of commit 0123456789ab are no longer what they were")

    monkeypatch.setattr(loss, "data_of", gone)
    monkeypatch.setenv("PREDICTION_LOG", f"file://{folder}")
    told = look(Project(project.path), print)
    assert told.state is None and "are no longer what they were" in told.explained.why
    assert told.explained.columns == () and told.explained.traffic.days == 6
