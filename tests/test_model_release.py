"""Risk: a release says of its model what is not so, or is not the model, or half of it goes out."""

import hashlib
import io
import json
import re
import tarfile

import pytest

from conveyor.core.errors import Misuse, Refused
from conveyor.core.project import Project
from conveyor.ledger.ledger import ledger_of
from conveyor.report import wording


@pytest.fixture
def release():
    from conveyor.github import release

    return release


@pytest.fixture
def released(bootstrapped):
    """The first champion with its card, as `make release` writes it; the registry's part is left out."""
    from conveyor.report import model_card as card

    project = Project(bootstrapped.path)
    event = ledger_of(project).events[-1]
    bundle = ledger_of(project).bundle(event.champion)
    return project, bundle, event, card.markdown(project, bundle, "1.0.0", event, "ghcr.io/acme/model@sha256:0")


def test_the_card_tells_what_the_gate_measured_with_its_intervals(released, bootstrapped):
    project, bundle, event, text = released
    decision = json.loads((bootstrapped.path / "build" / "decision.json").read_text())["decision"]
    assert text.startswith("# late_flights 1.0.0\n")
    for metric in decision["metrics"]:
        value, low, high = (metric[f"challenger{part}"] for part in ("", "_low", "_high"))
        assert f"| {metric['name'].replace('_', '&#95;')} | {value:.4f} | {low:.4f} to {high:.4f} |" in text.replace(
            metric["name"], metric["name"].replace("_", "&#95;")
        )
    balance = decision["balance"]
    assert f"\n\nThreshold: {wording.threshold_line(0.5, balance, 'the model')}.\n" in text and balance is not None
    assert "On 4,043 rows of" in text and "that it was not trained on" in text
    assert "; 37 days, the rows of one day count as one unit; each bound holds with 95" in text
    assert "for values with at least 100 rows." in text
    for known in (event.key, event.digest, bundle.lineage["data_sha256"], bundle.lineage["commit"], project.commit):
        assert known in text
    assert "`ghcr.io/acme/model@sha256:0`" in text, "to be copied"
    assert "rows it was trained on: 15,957" in text and "floor 0.6" in text


def test_the_card_shows_the_segments_that_the_gate_guards_the_worst_first(released):
    project, _, _, text = released
    table = text.split("| segment | value | interval | |\n")[1].split("\n\n")[0].splitlines()[1:]
    assert len(table) > 5
    values = [float(line.split("|")[2]) for line in table]
    assert values == sorted(values)
    for column in project.params.gate.guards.segments:
        assert any(line.startswith(f"| {column} ") for line in table)


def test_the_card_of_other_tasks_is_written_too(bootstrapped, released):
    """Its segments are those of params.yaml; without any there is no table of them."""
    from conveyor.report import model_card as card

    project, bundle, event, _ = released
    rule = project.params.gate.model_copy(
        update={"guards": project.params.gate.guards.model_copy(update={"segments": ()})}
    )
    project.params = project.params.model_copy(update={"gate": rule})
    text = card.markdown(project, bundle, "1.0.0-rc.1", event, "image")
    assert "| segment |" not in text and "a part of the rows is not looked for: no column is guarded." in text
    assert "\n\nNo segment is guarded: `gate.guards.segments` names no column.\n" in text


def test_the_card_says_which_limit_the_model_is_beyond_and_what_nothing_watches(released):
    from conveyor.report import model_card as card

    project, bundle, event, whole = released
    unsaid = ("No floor is set", "does not look at calibration", "all have fewer", "beyond the floor")
    assert not any(words in whole for words in unsaid)

    def text(floors, **guards):
        gate = project.params.gate
        rule = gate.model_copy(update={"floors": floors, "guards": gate.guards.model_copy(update=guards)})
        project.params = project.params.model_copy(update={"gate": rule})
        return card.markdown(project, bundle, "1.0.0", event, "image")

    told = text({}, calibration_margin=None, min_rows=100_000)
    assert f"\n\nNo floor is set: {wording.NO_FLOOR}.\n" in told
    assert "- The gate does not look at calibration: `gate.guards.calibration_margin` is null.\n" in told
    assert "for values with at least 100000 rows; there is none: all have fewer.\n" in told
    told = text({"roc_auc": 0.9, "log_loss": 0.1, "brier": 0.9})
    for name, note in (
        ("roc_auc", "**beyond the floor 0.9**"),
        ("log_loss", "**beyond the floor 0.1**"),
        ("brier", "floor 0.9"),
    ):
        [line] = [
            line
            for line in told.splitlines()
            if line.startswith(f"| {name.replace('_', '&#95;')} |") or line.startswith(f"| {name} |")
        ]
        assert line.endswith(f"| {note} |") or line.endswith(f"| decides, {note} |"), line


def test_the_files_of_the_model_are_those_of_the_bundle_and_packed_alike_each_time(release, released):
    _, bundle, _, _ = released
    packed = release.packed(bundle, "late-flights-1.0.0")
    assert packed == release.packed(bundle, "late-flights-1.0.0")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {f"late-flights-1.0.0/{name}": content for name, content in bundle.files.items()}


@pytest.mark.parametrize(
    ("heading", "found"),
    [
        ("## 1.0.0", True),
        ("## [1.0.0] - 2026-11-24", True),
        ("## v1.0.0", True),
        ("## 1.0.01", False),
        ("## 11.0.0", False),
        ("## 1.0.0-rc.1", False),
        ("## 1.0.0.7", False),
    ],
)
def test_the_words_of_a_version_are_those_under_its_own_heading(release, heading, found):
    text = f"# Changelog\n\n## Unreleased\n\nLater.\n\n{heading}\n\nNow.\n\n### Fixed\n\n- It.\n\n## 0.9.0\n\nOld.\n"
    if found:
        assert release.section(text, "1.0.0") == "Now.\n\n### Fixed\n\n- It."
    else:
        with pytest.raises(Misuse, match=r"CHANGELOG.md: no words under `## 1.0.0`"):
            release.section(text, "1.0.0")


@pytest.mark.parametrize("text", ["## 1.0.0\n", "## 1.0.0\n\n## 0.9.0\n\nOld.\n", ""])
def test_a_version_without_words_is_none(release, text):
    with pytest.raises(Misuse, match=r"CHANGELOG.md: no words"):
        release.section(text, "1.0.0")


@pytest.mark.parametrize("tag", ["v1.0.0", "v0.0.1", "v10.20.30-rc.1"])
def test_a_version_is_read_from_its_tag(release, tag):
    assert release.version_of(tag) == tag[1:]


@pytest.mark.parametrize(
    "tag", ["", "1.0.0", "v1.0", "v01.0.0", "v1.0.0\n", "v1.0.0 ", "v1.0.0$(touch x)", "latest", "v1.0.0-"]
)
def test_what_is_no_version_is_refused(release, tag):
    with pytest.raises(Misuse, match="is no version; tag it as v1.0.0"):
        release.version_of(tag)


def test_a_file_that_was_changed_or_is_missing_is_noticed_before_anything_goes_out(release, tmp_path):
    folder = tmp_path / "release"
    folder.mkdir()
    with pytest.raises(Misuse, match="not whole; run `make release` first"):
        release.whole(folder)
    (folder / "notes.md").write_text("words")
    (folder / "card.md").write_text("card")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'card').hexdigest()}  card.md\n")
    assert [path.name for path in release.whole(folder)] == ["card.md", "SHA256SUMS"]
    (folder / "card.md").write_text("another card")
    with pytest.raises(Misuse, match=r"card.md: not the file that SHA256SUMS names"):
        release.whole(folder)
    (folder / "card.md").unlink()
    with pytest.raises(Misuse, match=r"card.md: not the file that SHA256SUMS names"):
        release.whole(folder)


def test_a_release_wants_an_origin_a_tag_there_and_a_registry(bootstrapped, one_line, tmp_path):
    def told():
        return bootstrapped.cli("release", "--tag", "v1.0.0", check=False)

    one_line(told(), 2, "release: there is no remote origin; a release is made from what is there")
    bootstrapped.git("clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    bootstrapped.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    bootstrapped.git("push", "--quiet", "origin", "refs/models/*")
    one_line(told(), 2, "release: origin has no tag v1.0.0; push it first")
    bootstrapped.git("push", "--quiet", "origin", "HEAD:refs/tags/v1.0.0")
    one_line(told(), 2, r"CHANGELOG\.md: no words under `## 1\.0\.0`; .*")
    (bootstrapped.path / "CHANGELOG.md").write_text("## 1.0.0\n\nFirst.\n")
    assert re.match(r"error: release: no registry|error: docker: ", told().stderr)


def test_a_version_is_one_commit_and_one_model_for_ever(bootstrapped):
    project = Project(bootstrapped.path)
    event = ledger_of(project).events[-1]
    written = ledger_of(project).release(event, "v1.0.0", "image")
    assert (written.type, written.tag, written.commit) == ("released", "v1.0.0", project.commit)
    assert ledger_of(project).release(event, "v1.0.0", "image") == written, "a run that is repeated writes nothing"
    assert ledger_of(project).champion().event == event.number, "the champion is the same"

    bootstrapped.git("commit", "--quiet", "--allow-empty", "--message", "later")
    later = Project(bootstrapped.path)
    with pytest.raises(Refused, match="v1.0.0 was released from commit .*in event 3; a version does not"):
        ledger_of(later).release(ledger_of(later).events[1], "v1.0.0", "image")
    assert ledger_of(later).number == 3


def test_a_model_under_quarantine_is_not_released(bootstrapped, release, monkeypatch):
    project = Project(bootstrapped.path)
    assert release.champion_of(project).key == ledger_of(project).champion().key
    monkeypatch.setattr(ledger_of(project), "quarantine_of", lambda key: ledger_of(project).events[0])
    with pytest.raises(Refused, match="nothing was released"):
        release.champion_of(project)
