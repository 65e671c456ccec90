"""Risk: what an image holds of a bundle is another one than was judged, and nobody sees it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from serving import serving, settings

from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.project import Project
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.steps.promote import judged


@pytest.fixture
def reduced(bootstrapped) -> Path:
    """What an image holds of a bundle."""
    place = bootstrapped.path / "build" / "reduced"
    place.mkdir()
    for name, content in Bundle(bootstrapped.path / "build" / "candidate").answering().items():
        (place / name).write_bytes(content)
    return place


def test_what_is_left_of_a_bundle_gives_the_digest_of_the_whole(bootstrapped, reduced):
    whole, part = (Bundle(p) for p in (bootstrapped.path / "build" / "candidate", reduced))
    assert {path.name for path in reduced.iterdir()} == {
        "golden.json",
        "left-out.json",
        "lineage.json",
        "model.onnx",
        "profile.json",
    }
    assert set(json.loads((reduced / "left-out.json").read_text())) == set(whole.files) - set(part.files)
    assert part.judged == whole.judged == whole.digest
    with serving(bootstrapped, settings(bootstrapped, whole.path), reduced) as server:
        assert server.predict(*server.golden["rows"])[1]["predictions"] == pytest.approx(server.golden["answers"])
        assert server.ask("GET", "/info")[1]["digest"] == whole.digest


def test_a_part_that_is_another_one_or_that_nobody_names_is_no_part_of_it(bootstrapped, reduced):
    whole = Bundle(bootstrapped.path / "build" / "candidate").digest
    listed = json.loads((reduced / "left-out.json").read_text())
    other = "0" * 64
    changes = {name: (reduced / name).read_bytes() + b" " for name in ("golden.json", "lineage.json", "model.onnx")}
    changes |= {"more.json": b"{}", "model.skops": b"another one"}
    for name, content in changes.items():
        before = (reduced / name).read_bytes() if (reduced / name).exists() else None
        (reduced / name).write_bytes(content)
        assert Bundle(reduced).judged != whole, name
        (reduced / name).unlink() if before is None else (reduced / name).write_bytes(before)
    for name in listed:
        less = {other: hash for other, hash in listed.items() if other != name}
        for change in (less, {**listed, name: other}, {**listed, f"{name}x": other}):
            (reduced / "left-out.json").write_text(json.dumps(change))
            assert Bundle(reduced).judged != whole, change
    # What is here counts as it is here, whatever the list says of it.
    golden = sha256((reduced / "golden.json").read_bytes())
    (reduced / "left-out.json").write_text(json.dumps({**listed, "golden.json": golden}))
    assert Bundle(reduced).judged == whole
    (reduced / "golden.json").write_text('{"rows": [], "answers": []}')
    assert Bundle(reduced).judged != whole


@pytest.mark.parametrize(
    "content", ["", "[]", '{"model.skops": 1}', '{"model.skops": null}', "\x00", '{"a": {"b": "c"}}', "[" * 99999]
)
def test_a_damaged_list_of_what_was_left_out_is_one_line(bootstrapped, reduced, content, one_line):
    place = settings(bootstrapped, bootstrapped.path / "build" / "candidate")
    (reduced / "left-out.json").write_text(content)
    done = bootstrapped.run(
        *(sys.executable, "-m", "conveyor.serving.app", "--check"),
        env={"PYTHONPATH": "src", "BUNDLE": str(reduced), "SETTINGS": str(place)},
        check=False,
    )
    one_line(done, 1, ".*left-out.json: .*")


def test_what_an_image_holds_of_a_bundle_is_no_bundle_to_judge_or_to_store(bootstrapped, reduced):
    champion, candidate = (bootstrapped.path / "build" / name for name in ("champion", "candidate"))
    whole = Bundle(candidate).digest
    for place in (champion, candidate):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(reduced, place)
    ledger = ledger_of(Project(bootstrapped.path))
    assert ledger.bundle(ledger.champion()).digest == whole
    assert "model.skops" in Bundle(champion).files  # it was brought again
    # Not even one who says that it was judged brings it in.
    reread = Project(bootstrapped.path)
    with pytest.raises(Misuse, match="is about another candidate"):
        judged(reread)
    assert Bundle(candidate).digest != whole
