"""Risk: the bytes of a model are lost, cannot be stored, or are others than those that were judged."""

import os
import sys
from pathlib import Path

import pytest

from conveyor.core.errors import Misuse
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.ledger import fsck, models
from conveyor.ledger.events import Moved
from conveyor.model.bundle import Bundle


def large(place, name: str, size: int) -> Bundle:
    path = place.bundle(name).path
    (path / "model.skops").write_bytes(os.urandom(size))
    return Bundle(path)


def accepted(place, bundle: Bundle):
    ledger = place.open(push=True)
    ledger.live(ledger.accept(bundle, ledger.number, "promote", "it is better"))
    return ledger


def outside(place, url: str):
    """The repository, with the bytes of its models at a URL."""
    place.project.set_param("ledger.models", url)
    return place


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
def test_a_large_file_is_stored_in_pieces_and_comes_back_whole(place, monkeypatch, remote):
    monkeypatch.setattr(models, "PIECE", 1000)
    if remote:
        place.remote()
    bundle = large(place, "first", 2500)
    ledger = accepted(place, bundle)
    listed = place.project.git("ls-tree", "-r", "-l", ledger.events[0].model).stdout.splitlines()
    sizes = {line.split("\t")[1]: int(line.split()[3]) for line in listed}
    assert [sizes[f"model.skops/{number:06d}"] for number in range(3)] == [1000, 1000, 500]
    assert max(sizes.values()) <= 1000
    reader = place.open(place.clone("colleague")) if remote else place.open()
    assert reader.bundle(reader.champion()).files == bundle.files


def test_a_model_beyond_what_origin_takes_is_told_before_it_is_pushed_and_stays(place, monkeypatch):
    monkeypatch.setattr(models, "MOST", 5000)
    bare = place.remote()
    bundle, before = large(place, "first", 6000), place.refs(bare)
    ledger = place.open(push=True)
    message = "^the model has 0.0 GB, and origin takes at most 0.0 GB; set ledger.models in params.yaml .* keeps this"
    with pytest.raises(Misuse, match=message):
        ledger.accept(bundle, 0, "bootstrap", "")
    assert place.refs(bare) == before
    outside(place, f"file://{place.folder}/models")
    assert accepted(place, bundle).number == 2


def test_training_tells_it_and_keeps_the_model(sound, tmp_path):
    sound.git("init", "--quiet", "--bare", str(tmp_path / "remote.git"))
    sound.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    small = "import sys; from conveyor.ledger import models; models.MOST = 5000; from conveyor import cli; cli.main()"
    done = sound.run(sys.executable, "-c", small, "train", check=False, env={"PYTHONPATH": "src"})
    assert done.returncode == 2 and "error: the model has 0.0 GB, and origin takes at most" in done.stderr
    assert Bundle(sound.path / "build" / "candidate").key


@pytest.mark.parametrize("where", ["kept/models", "file://{}/models", "memory://models"])
def test_bytes_can_be_kept_in_a_folder_or_at_a_url(place, where):
    bare = place.remote()
    outside(place, where.format(place.folder))
    ledger = place.promote("first", push=True)
    assert ledger.events[0].model is None
    assert not [ref for ref in place.refs(bare) if "models" in ref]
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files
    assert fsck.damages(Project(place.project.path))[1] == []


def test_bytes_that_are_lost_or_damaged_at_a_url_are_told_and_written_again_by_who_has_them(place):
    outside(place, f"file://{place.folder}/models")
    ledger = place.promote("first")
    [file] = (place.folder / "models").iterdir()
    assert file.name == f"{place.bundle('first').digest}.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    message = r"^ledger.models: \w+.tar, the bytes of model \w+ of event 1, is damaged; restore"
    with pytest.raises(Misuse, match=message):
        ledger.bundle(ledger.champion())
    other = place.bundle("second")
    file.write_bytes(models._packed(other.files))
    with pytest.raises(Misuse, match=r"^ledger: the bytes of model \w+ have digest \w+…, event 1 says"):
        ledger.bundle(ledger.champion())
    file.unlink()
    [damage] = fsck.damages(Project(place.project.path))[1]
    assert "is missing, the bytes of model" in damage.what
    assert damage.mend == f"restore {file.name} there from a back-up"
    assert ledger.models.keep(place.bundle("first")) is None
    assert file.read_bytes() == whole and fsck.damages(Project(place.project.path))[1] == []


def test_two_who_keep_the_same_bytes_at_once_do_each_other_no_harm(place, monkeypatch):
    """The other one is a moment faster with the file that both have written."""
    from fsspec.implementations.local import LocalFileSystem

    outside(place, f"file://{place.folder}/models")
    right = LocalFileSystem.mv

    def late(system, *given, **more):
        right(system, *given, **more)
        right(system, *given, **more)

    monkeypatch.setattr(LocalFileSystem, "mv", late)
    ledger = place.promote("first")
    assert [file.name for file in (place.folder / "models").iterdir()] == [f"{place.bundle('first').digest}.tar"]
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_bytes_in_git_stay_where_they_are_when_a_team_moves_to_a_url(place):
    place.promote("first")
    outside(place, f"file://{place.folder}/models")
    ledger = place.promote("second")
    first = ledger.lived[0]
    assert ledger.restore(first.key, place.folder / "restored")
    assert Bundle(place.folder / "restored").files == place.bundle("first").files
    assert fsck.damages(Project(place.project.path))[1] == []


def test_pruning_deletes_them_at_the_url_too(place):
    outside(place, f"file://{place.folder}/models")
    for name in ("a", "b", "c"):
        ledger = place.promote(name)
    place.act("prune", ledger, 2)
    kept = {f"{place.bundle(name).digest}.tar" for name in "bc"}
    assert {file.name for file in (place.folder / "models").iterdir()} == kept


@pytest.mark.parametrize("url", ["nonsense://x", "file:///proc/nowhere"])
def test_a_url_that_cannot_be_used_is_one_line_and_nothing_is_written(place, url):
    outside(place, url)
    before = place.refs()
    with pytest.raises(Misuse, match=f"^ledger.models: {url}: .*; mend it in params.yaml, or its credentials$"):
        place.promote("first")
    assert place.refs() == before


def test_damaged_bytes_at_a_url_are_written_again_before_the_model_is_accepted_once_more(place):
    outside(place, f"file://{place.folder}/models")
    ledger = place.open()
    ledger.abort(ledger.accept(place.bundle("first"), 0, "bootstrap", ""), "it does not become healthy")
    [file] = (place.folder / "models").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:700])
    assert [damage.mend for damage in fsck.damages(Project(place.project.path))[1]] == [
        f"restore {file.name} there from a back-up"
    ]
    accepted(place, place.bundle("first"))
    assert file.read_bytes() == whole


def test_a_team_that_moves_back_from_a_url_stores_the_bytes_in_git_with_the_next_acceptance(place):
    outside(place, f"file://{place.folder}/models")
    ledger = place.open()
    ledger.abort(ledger.accept(place.bundle("first"), 0, "bootstrap", ""), "it does not become healthy")
    outside(place, None)
    [damage] = fsck.damages(Project(place.project.path))[1]
    assert damage.mend == "set ledger.models to where they are, or train the model again"
    ledger = accepted(place, place.bundle("first"))
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files
    assert fsck.damages(Project(place.project.path))[1] == []


# A prune that was stopped behind its event


def stopped(place, monkeypatch, remote: bool, url: bool) -> Path | None:
    """Three champions, and a prune that has written its event and deleted nothing; the folder of the bytes, if any."""
    bare = place.remote() if remote else None
    if url:
        outside(place, f"file://{place.folder}/models")
    for name in ("a", "b", "c"):
        ledger = place.promote(name, push=True)
    if url:
        with monkeypatch.context() as here:
            here.setattr(models.Models, "sweep", lambda *given: (_ for _ in ()).throw(Misuse("ledger.models: gone")))
            with pytest.raises(Misuse, match="^ledger.models: gone"):
                place.act("prune", ledger, 2)
        return place.folder / "models"
    before = place.refs(bare)
    place.act("prune", ledger, 2)
    ref = f"refs/models/{place.key('a')}"
    place.project.git("--git-dir", str(bare or ".git"), "update-ref", ref, before[ref])
    return None


def bytes_there(place, remote: bool, folder) -> set[str]:
    if folder:
        return {name for name in "abc" if (folder / f"{place.bundle(name).digest}.tar").exists()}
    refs = place.refs(place.folder / "remote.git" if remote else None)
    return {name for name in "abc" if f"refs/models/{place.key(name)}" in refs}


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
@pytest.mark.parametrize("url", [False, True], ids=["in git", "at a URL"])
@pytest.mark.parametrize("how", ["prune", "fsck"])
def test_what_a_stopped_prune_has_left_is_listed_and_deleted_by_the_next_one(place, monkeypatch, remote, url, how):
    folder = stopped(place, monkeypatch, remote, url)
    assert bytes_there(place, remote, folder) == set("abc")
    number = place.open().number
    [damage] = fsck.damages(Project(place.project.path))[1]
    assert damage.what.endswith(", and `prune` deleted the model") and not damage.stops
    if how == "prune":
        assert place.act("prune", place.open(push=True), 2) == "deleted the bytes of 1 models"
        assert place.act("prune", place.open(push=True), 2) == "nothing to delete"
    else:
        if remote:
            with pytest.raises(Misuse, match="read-only from here; PUSH=1 writes it$"):
                fsck.run(Project(place.project.path), repair=True)
            assert bytes_there(place, remote, folder) == set("abc")
        assert "sound" in fsck.run(Project(place.project.path, push=True), repair=True)
    assert bytes_there(place, remote, folder) == set("bc") and place.open().number == number
    assert fsck.damages(Project(place.project.path))[1] == []


@pytest.mark.parametrize("url", [False, True], ids=["in git", "at a URL"])
def test_bytes_that_were_deleted_and_accepted_again_are_not_left_over(place, monkeypatch, url):
    folder = stopped(place, monkeypatch, True, url)
    ledger = place.promote("a", push=True)
    assert fsck.damages(Project(place.project.path))[1] == []
    assert place.act("prune", ledger, 3) == "nothing to delete"
    assert bytes_there(place, True, folder) == set("abc")
    assert ledger.bundle(ledger.champion()).files == place.bundle("a").files


def test_a_half_file_of_a_deleted_model_goes_too_and_other_files_of_the_folder_stay(place, monkeypatch):
    folder = stopped(place, monkeypatch, False, True)
    half = folder / f"{place.bundle('a').digest}.tar.writing"
    half.write_bytes(b"half")
    others = [folder / f"{'f' * 64}.tar", folder / "notes.txt"]
    for each in others:
        each.write_bytes(b"of another ledger")
    place.act("prune", place.open(), 2)
    assert (
        not half.exists() and all(each.exists() for each in others) and bytes_there(place, False, folder) == set("bc")
    )


def test_bytes_that_somebody_accepts_again_meanwhile_are_not_deleted(place, monkeypatch):
    """Between the look at what is left and its deletion."""
    stopped(place, monkeypatch, True, False)
    late = place.open(place.clone("late"), push=True)
    [left] = late.models.left(late, late.head)
    place.promote("a", push=True)
    with pytest.raises((Moved, GitError)):
        late.models.sweep(left)
    assert bytes_there(place, True, None) == set("abc")
