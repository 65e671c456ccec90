"""Risk: readers and writers of a ledger without a remote damage it."""

import os
import subprocess
import sys

import pytest
from ledgers import WRITER, kinds, state_of

from conveyor.core.errors import Misuse


def test_a_reader_of_a_local_ledger_writes_nothing_whatever_a_killed_git_has_left(place):
    place.promote("first")
    place.promote("second")
    place.project.git("update-ref", "refs/heads/ledger", "refs/heads/ledger~1")
    before = state_of(place)
    ledger = place.open()
    assert ledger.champion().key == place.key("first") and ledger.pending().key == place.key("second")
    assert state_of(place) == before


@pytest.mark.parametrize("done", range(3))
def test_a_git_that_was_killed_after_any_ref_of_a_transaction_is_finished_by_the_next_writer(place, done):
    """Bytes, witness, branch: git writes them one after another, in this order."""
    place.promote("first")
    ledger = place.open()
    before = place.refs()
    ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    accepted = place.refs()
    ledger.live(ledger.events[-1])
    live = place.refs()
    tag, model = "refs/tags/champion/000004", f"refs/models/{place.key('second')}"
    git = place.project.git
    if done == 0:  # of the first transaction: the bytes and no event
        git("update-ref", "refs/heads/ledger", before["refs/heads/ledger"])
        git("update-ref", "-d", tag)
    elif done == 1:  # nothing of the second one
        git("update-ref", "refs/heads/ledger", accepted["refs/heads/ledger"])
        git("update-ref", "-d", tag)
    else:  # the witness of the second one
        git("update-ref", "refs/heads/ledger", accepted["refs/heads/ledger"])
    assert place.open().champion().key == place.key("first") and place.refs()[model] == live[model]
    script = (
        f"{WRITER}for _ in range(3):\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if ledger.champion().key != bundle.key:\n"
        "            ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    words = [sys.executable, "-c", script, place.project.path, place.bundle("second").path]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ledger = place.open()
    assert ledger.champion().key == place.key("second") and ledger.pending() is None
    assert [event.key for event in ledger.events if event.type == "live"][0] == place.key("first")


def test_readers_and_a_writer_of_a_local_ledger_do_each_other_no_harm(place):
    """Three readers read all the time while ten champions are written."""
    place.promote("first")
    reader = (
        "import sys\nfrom pathlib import Path\nfrom conveyor.core.project import Project\n"
        "from conveyor.ledger.ledger import Ledger\nstop, last, reads = Path(sys.argv[2]), 0, 0\n"
        "while not stop.exists():\n"
        "    number = Ledger(Project(Path(sys.argv[1]))).number\n"
        "    assert number >= last, (number, last)\n"
        "    last, reads = number, reads + 1\n"
        "    if reads == 1: print('ready', flush=True)\n"
        "print(reads, last)\n"
    )
    stop = place.folder / "stop"
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    words = [sys.executable, "-c", reader, place.project.path, stop]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen(words, env=environment, **pipes) for _ in range(3)]
    assert [each.stdout.readline() for each in readers] == ["ready\n"] * 3
    ledger = place.open()
    try:
        for number in range(10):
            ledger.accept(place.bundle("abcdefghij"[number]), ledger.number, "promote", "")
            ledger.live(ledger.events[-1])
    finally:
        stop.touch()
        ended = [(each.communicate(timeout=120), each.returncode) for each in readers]
    for (said, complaint), code in ended:
        assert code == 0, complaint
        assert int(said.split()[0]) > 3, "it has read while the writer wrote"
    assert place.open().number == 22 and kinds(place.open()).count("live") == 11


def test_two_writers_of_a_local_ledger_lose_nothing_and_one_that_was_killed_holds_no_lock(place):
    place.promote("first")
    script = (
        f"{WRITER}while True:\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if any(event.key == bundle.key for event in ledger.events): break\n"
        "        ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    hold = (
        "import os, signal, sys\nfrom filelock import FileLock\nFileLock(sys.argv[1]).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    lock = place.project.path / ".git/conveyor-ledger.lock"
    assert subprocess.run([sys.executable, "-c", hold, lock]).returncode == -9 and lock.exists()
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, place.project.path, place.bundle(name).path], env=environment)
        for name in "ab"
    ]
    assert [writer.wait(180) for writer in writers] == [0, 0]
    ledger = place.open()
    assert {e.key for e in ledger.events if e.type == "live"} >= {place.key("a"), place.key("b")}


def test_what_was_written_before_an_event_that_was_not_is_told(place, monkeypatch):
    """The model on its way is aborted for another one, and then the disk is full."""
    ledger = place.open()
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    counted = f"""case " $* " in *" commit-tree "*)
        echo x >> '{place.folder}/count'
        [ "$(wc -l < '{place.folder}/count')" -lt 3 ] || {{ echo 'fatal: no room' >&2; exit 128; }};;
    esac"""
    place.git_that(monkeypatch, counted)
    ledger = place.open()
    with pytest.raises(Misuse, match="did not take the event: fatal: no room; event 2 was written before it$"):
        ledger.accept(place.bundle("second"), 1, "bootstrap", "")
    assert kinds(place.open()) == ["accepted", "aborted"]


def test_a_lock_that_a_killed_git_left_is_named(place):
    place.promote("first")
    lock = place.project.path / ".git" / "refs" / "heads" / "ledger.lock"
    lock.touch()
    before, ledger = place.refs(), place.open()
    message = r"^ledger: this repository did not take the event: .*ledger.lock': File exists.*; delete that .lock file"
    with pytest.raises(Misuse, match=message):
        ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    assert place.refs() == before
    lock.unlink()
    place.promote("second")
