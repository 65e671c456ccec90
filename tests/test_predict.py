"""Risk: predictions for a file differ from those of the service, hide a bad row, or leave half a file behind."""

import gzip
import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from conftest import environment

DATA = "data/flights.csv.gz"


@pytest.fixture
def rows(bootstrapped):
    """The first rows of the data, in a file."""
    frame = pd.read_csv(bootstrapped.path / DATA, dtype=str).head(50)
    frame.to_csv(bootstrapped.path / "rows.csv", index=False)
    return frame


def predict(project, source="rows.csv", target="out.csv"):
    return project.cli("predict", source, target, check=False)


def test_the_rows_of_a_file_are_predicted_by_the_champion_and_kept_as_they_are(bootstrapped, rows):
    project = bootstrapped
    done = project.make("predict", "IN=rows.csv", "OUT=made/out.csv")
    assert re.search(r"predict   50 rows by champion \w{12} \(compiled\): made/out.csv \(", done.stdout)
    out = pd.read_csv(project.path / "made" / "out.csv", dtype=str)
    pd.testing.assert_frame_equal(out[list(rows)], rows)
    assert list(out) == [*rows, "prediction"]

    # The holdout's first rows are the golden ones, with the answers of the training.
    golden = json.loads((project.path / "build" / "champion" / "golden.json").read_text())
    pd.DataFrame(golden["rows"]).to_parquet(project.path / "golden.parquet")
    assert predict(project, "golden.parquet", "golden.csv.gz").returncode == 0
    with gzip.open(project.path / "golden.csv.gz", "rt") as text:
        said = pd.read_csv(text)["prediction"]
    assert said.to_numpy() == pytest.approx(golden["answers"], abs=1e-5)


def test_csv_its_gzip_and_parquet_say_the_same(bootstrapped, rows):
    project, said = bootstrapped, {}
    for target in ("out.csv", "out.csv.gz", "out.parquet"):
        assert predict(project, target=target).returncode == 0
        read = pd.read_parquet if target.endswith("parquet") else pd.read_csv
        said[target] = read(project.path / target)["prediction"].to_numpy()
    assert said["out.csv"].tolist() == said["out.csv.gz"].tolist() == said["out.parquet"].tolist()


def test_a_gap_in_a_file_is_a_missing_value(bootstrapped, rows):
    rows.assign(temp=None, carrier=None).to_csv(bootstrapped.path / "rows.csv", index=False)
    assert predict(bootstrapped).returncode == 0
    out = pd.read_csv(bootstrapped.path / "out.csv")
    assert out["prediction"].between(0, 1).all() and out["temp"].isna().all()


WRONG = {
    "text for a number": ({"distance": "far"}, "row 31: column 'distance' should be a number or null, not 'far'"),
    "no number": ({"temp": "inf"}, "row 31: column 'temp' should be a finite number of at most 1e+30, not inf"),
    "digits with lines": ({"distance": "1_000"}, "row 31: column 'distance' should be a number or null, not '1_000'"),
}


def test_line_breaks_in_quoted_cells_stay_in_their_cells_wherever_a_block_ends(bootstrapped, rows):
    many = pd.concat([rows] * 300, ignore_index=True).assign(note=["one\ntwo " * 20] * 15_000)  # three blocks
    many.to_csv(bootstrapped.path / "rows.csv", index=False)
    done = predict(bootstrapped)
    assert done.returncode == 0, done.stderr
    out = pd.read_csv(bootstrapped.path / "out.csv")
    assert out["note"].tolist() == many["note"].tolist() and out["prediction"].notna().all()


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_named_with_its_row_and_column_and_nothing_is_written(bootstrapped, rows, one_line, kind):
    change, message = WRONG[kind]
    [(column, value)] = change.items()
    rows.loc[30, column] = value
    rows.to_csv(bootstrapped.path / "rows.csv", index=False)
    (bootstrapped.path / "out.csv").write_text("of yesterday")
    one_line(predict(bootstrapped), 2, rf"rows\.csv: {re.escape(message)}; mend that row")
    assert (bootstrapped.path / "out.csv").read_text() == "of yesterday"
    assert not list(bootstrapped.path.glob(".writing-*"))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda text: text.replace("distance", "distanc", 1),
            "column 'distance' is missing, .*; is 'distanc' meant\\?",
        ),
        (lambda text: text.replace("flight", "prediction", 1), "has a column 'prediction' already; rename it"),
        (lambda text: text.replace("flight", "carrier", 1), "cannot be read: column 'carrier' stands twice; mend that"),
        (lambda text: text + "a,b\n", "cannot be read: .*Expected 15 columns, got 2.*; mend that"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows; nothing was predicted"),
        (lambda text: "", "cannot be read: Empty CSV file.*; mend that"),
    ],
)
def test_a_file_that_cannot_be_predicted_is_one_line(bootstrapped, rows, one_line, change, message):
    file = bootstrapped.path / "rows.csv"
    file.write_text(change(file.read_text()))
    one_line(predict(bootstrapped), 2, rf"rows\.csv: {message}")
    assert not (bootstrapped.path / "out.csv").exists() and not list(bootstrapped.path.glob(".writing-*"))


def test_missing_files_and_unknown_endings_are_named(bootstrapped, rows, one_line):
    one_line(predict(bootstrapped, "none.csv"), 2, r"none\.csv: no such file; name the rows as IN=rows\.csv")
    one_line(predict(bootstrapped, target="out.xlsx"), 2, r"out\.xlsx: ends in none of \.csv, .*; rename it")
    file = bootstrapped.path / "cut.csv.gz"
    file.write_bytes(gzip.compress((bootstrapped.path / "rows.csv").read_bytes())[:-20])
    one_line(predict(bootstrapped, "cut.csv.gz"), 2, r"cut\.csv\.gz: cannot be read: .*; mend that")


def test_without_a_champion_it_says_what_to_do(sound, one_line):
    (sound.path / "rows.csv").write_text("a\n1\n")
    one_line(predict(sound), 2, "ledger: there is no champion yet; run `make pipeline` first")


def test_a_large_file_is_predicted_in_bounded_memory_and_says_how_far_it_is(bootstrapped):
    """Ten times the rows take hardly more memory."""
    project = bootstrapped
    frame = pd.read_csv(project.path / DATA, dtype=str)
    frame.to_parquet(project.path / "small.parquet")
    pd.concat([frame] * 15).to_parquet(project.path / "large.parquet")

    def peak(source: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "conveyor", "predict", source, "out.parquet"]
        process = subprocess.Popen(
            words, cwd=project.path, env=environment(PYTHONPATH="src"), stdout=subprocess.PIPE, text=True
        )
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        process.stdout.close()
        assert status == 0
        return usage.ru_maxrss, said

    small, _ = peak("small.parquet")
    large, said = peak("large.parquet")
    assert large < 1.5 * small, (small, large)
    assert "predict   300000 rows by champion" in said and re.search(r"^predict   \d+0000 rows$", said, re.M)
