"""Risk: a ledger that was tampered with is believed, a sound one is refused, or the mend that is told is wrong."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ledgers import kinds

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger import fsck
from conveyor.ledger.events import path_of

BRANCH = "refs/heads/ledger"


def told(place, root: Path | None = None, repair: bool = False) -> list[str]:
    """The damages that `make fsck` lists."""
    return [damage.line for damage in fsck.damages(Project(root or place.project.path, push=repair))[1]]


def commands(line: str) -> list[str]:
    """The commands in a line."""
    return re.findall("`(git [^`]*)`", line)


def event(place, number: int) -> dict:
    return json.loads(place.project.git("show", f"{BRANCH}:{path_of(number)}").stdout)


# Commits that no writer has written: each is refused, and the last sound commit is named


def rewriting(place, ledger):
    """Event 1 is written again by a commit that also adds event 3: an ordinary push takes it."""
    old = {**event(place, 1), "by": "somebody else"}
    return place.forge({**place.forged(ledger), path_of(1): json.dumps(old).encode()})


def merging(place, ledger):
    return place.forge(place.forged(ledger), (BRANCH, "main"))


def adding_two(place, ledger):
    more = {path_of(4): place.forged(ledger, number=4)[path_of(3)]}
    return place.forge({**place.forged(ledger), **more})


def adding_none(place, ledger):
    return place.forge({"champion.json": b"{}"})


def adding_a_file(place, ledger):
    return place.forge({**place.forged(ledger), "notes.txt": b"hello"})


def removing(place, ledger):
    return place.forge({**place.forged(ledger), path_of(1): None})


def linking(place, ledger):
    blob = place.project.git("rev-parse", f"{BRANCH}:{path_of(1)}").stdout.strip()
    return place.forge({**place.forged(ledger), path_of(3): ("120000", blob)})


def making_a_submodule(place, ledger):
    return place.forge({**place.forged(ledger), path_of(3): ("160000", ledger.head)})


def with_event(**changes):
    def forge(place, ledger):
        return place.forge(place.forged(ledger, **changes))

    return forge


def with_bytes(change):
    def forge(place, ledger):
        files = place.forged(ledger)
        return place.forge({**files, path_of(3): change(files[path_of(3)])})

    return forge


def with_another_summary(place, ledger):
    return place.forge({**place.forged(ledger), "champion.json": b'{"schema": 2, "event": 3, "champion": null}'})


FORGED = {
    "rewrites an older event": (rewriting, r"commit \w{12} rewrites events/0000/000001.json"),
    "is a merge": (merging, r"commit \w{12} is a merge"),
    "adds two events": (adding_two, r"commit \w{12} adds events/0000/000004.json"),
    "adds none": (adding_none, r"commit \w{12} adds no events/0000/000003.json"),
    "adds another file": (adding_a_file, r"commit \w{12} adds notes.txt"),
    "removes one": (removing, r"commit \w{12} removes events/0000/000001.json"),
    "makes a link": (linking, r"commit \w{12} makes events/0000/000003.json a symbolic link"),
    "makes a submodule": (making_a_submodule, r"commit \w{12} makes events/0000/000003.json a submodule"),
    "another champion.json": (with_another_summary, "champion.json does not follow from the events"),
    "truncated": (with_bytes(lambda content: content[:50]), ".*000003.json is no JSON object"),
    "empty": (with_bytes(lambda content: b""), ".*000003.json is no JSON object"),
    "too deep": (with_bytes(lambda content: b"[" * 100_000), ".*000003.json is no JSON object"),
    "a list": (with_bytes(lambda content: b"[]"), ".*000003.json is no JSON object"),
    "byte order mark": (with_bytes(lambda content: b"\xef\xbb\xbf" + content), ".*000003.json is no JSON object"),
    "UTF-16": (with_bytes(lambda content: content.decode().encode("utf-16")), ".*000003.json is no JSON object"),
    "Latin-1": (with_bytes(lambda content: content.replace(b"Eve", b"\xc9ve")), ".*000003.json is no JSON object"),
    "a key twice": (with_bytes(lambda content: b'{"by": "Eve", ' + content[1:]), ".*000003.json has a key twice"),
    "NaN": (with_bytes(lambda content: content.replace(b'"Eve"', b"NaN")), ".*000003.json holds NaN"),
    "too long": (with_bytes(lambda content: content + b" " * 2**20), r".*000003.json has \d+ bytes, where 1048576"),
    "a surrogate": (with_bytes(lambda content: content.replace(b"Eve", b"\\ud800")), r".*damaged \(key by\)"),
    "a surrogate in a list": (with_event(keys=["\ud800"]), r".*damaged \(key keys.0\)"),
    "schema true": (with_event(schema=True), r".*000003.json is damaged \(key schema\)"),
    "schema 1": (with_event(schema=1, id=None), ".*000003.json has schema 1, which is not kept there"),
    "a number beyond": (with_event(number=10**30), r".*000003.json is damaged \(key number\)"),
    "rows beyond": (with_event(rows=10**30), r".*000003.json is damaged \(key rows\)"),
    "another number": (with_event(number=9), ".*000003.json says it is event 9"),
    "no time": (with_event(time="yesterday"), r".*000003.json is damaged \(key time\)"),
    "before the last": (with_event(time="2001-01-01T00:00:00Z"), ".*000003.json is of 2001.*, before event 2"),
    "no id": (with_event(id=None), ".*000003.json has no id"),
    "a live that nothing accepted": (
        with_event(type="live"),
        ".*000003.json does not follow from the events before it",
    ),
    "a key gone": (with_event(key=None), r".*000003.json is damaged \(key key\)"),
}


@pytest.mark.parametrize("forge, message", FORGED.values(), ids=FORGED)
def test_what_no_writer_has_written_is_refused_and_the_way_back_is_told(place, forge, message):
    ledger = place.promote("first")
    sound = ledger.head
    forge(place, ledger)
    with pytest.raises(Misuse, match=f"^ledger: {message}") as error:
        place.open()
    way = f'; the last sound commit is {sound[:12]}; docs/ledger.md, "A bad commit", says how to go back to it'
    assert str(error.value).endswith(way)
    assert told(place) == [str(error.value).removeprefix("ledger: ")]
    place.project.git("update-ref", BRANCH, sound)
    assert place.open().champion().key == place.key("first") and told(place) == []


def test_an_id_that_was_used_before_is_refused(place):
    ledger = place.promote("first")
    place.forge(place.forged(ledger, id=event(place, 1)["id"]))
    with pytest.raises(Misuse, match="^ledger: events/0000/000003.json has the id of event 1"):
        place.open()


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"schema": 3}, "has schema 3, this version knows 2"),
        ({"type": "retired"}, "is of the kind 'retired', which this version does not know"),
        ({"judged_by": "AAAA"}, "has the key 'judged_by', which this version does not know"),
    ],
)
def test_what_a_newer_version_wrote_is_no_damage(place, changes, what):
    ledger = place.promote("first")
    place.forge(place.forged(ledger, **changes))
    message = f"ledger: events/0000/000003.json {what}: a newer version of the machinery wrote it; `make update`"
    with pytest.raises(Misuse, match=f"^{re.escape(message)}$"):
        place.open()


@pytest.mark.parametrize("changes", [{"schema": 3}, {"type": "retired"}, {"judged_by": "AAAA"}], ids=str)
def test_what_a_newer_version_wrote_and_has_verified_in_this_clone_is_no_damage_either(place, changes):
    """A branch with the older machinery is checked out again."""
    bare = place.remote()
    ledger = place.promote("first", push=True)
    place.project.git("fetch", "--quiet", "origin", "ledger:ledger")
    newer = place.forge(place.forged(ledger, **changes))
    place.project.git("push", "--quiet", str(bare), "ledger")
    place.project.git("update-ref", "refs/conveyor/verified/2", newer)
    with pytest.raises(Misuse, match="this version (knows 2|does not know)") as error:
        place.open()
    assert str(error.value).endswith(": a newer version of the machinery wrote it; `make update`")


def test_a_clone_that_has_verified_the_ledger_refuses_what_comes_after(place):
    """It verifies what is new, and only that: the forged commit is the new one."""
    bare = place.remote()
    ledger = place.promote("first", push=True)
    clone = place.clone("colleague")
    assert place.open(clone).number == 2
    place.project.git("fetch", "--quiet", "origin", "ledger:ledger")
    place.forge({**place.forged(ledger), "notes.txt": b"hello"})
    place.project.git("push", "--quiet", str(bare), "ledger")
    for _ in range(2):
        with pytest.raises(Misuse, match=r"^ledger: commit \w{12} adds notes.txt"):
            place.open(clone)


def test_a_rewritten_branch_is_named_with_both_commits_where_it_was_read_before(place):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    two = ledger.head
    place.promote("second", push=True)
    clone = place.clone("colleague")
    three = place.project.run("git", "-C", str(clone), "rev-parse", "origin/ledger~1").stdout.strip()
    place.open(clone)
    place.project.git("fetch", "--quiet", "origin", f"{two}:{BRANCH}")
    other = place.forge(place.forged(ledger))
    place.project.git("push", "--quiet", "--force", str(bare), "ledger")
    message = f"event 3 was commit {three[:12]} when this clone last read it, and is {other[:12]} now"
    for _ in range(2):
        with pytest.raises(Misuse, match=f"^ledger: {message}: it was rewritten"):
            place.open(clone)
        assert f"{message}: it was rewritten" in told(place, clone)[0], "fsck forgets nothing"


# Refs that do not fit together


def repaired(place, root: Path | None = None) -> None:
    """What `make fsck REPAIR=1` promises."""
    assert "sound" in fsck.run(Project(root or place.project.path, push=True), repair=True)
    assert told(place, root) == []


def test_a_deleted_branch_is_an_error_and_the_command_that_is_told_brings_it_back(place):
    ledger = place.promote("first")
    place.project.git("update-ref", "-d", BRANCH)
    with pytest.raises(Misuse, match="^ledger: this repository has the witness champion/000002 and no branch") as error:
        place.open()
    place.project.run(*shlex.split(commands(str(error.value))[0]))
    assert place.open().head == ledger.head


@pytest.mark.parametrize("known", [True, False], ids=["a clone that has read it", "a new clone"])
def test_a_branch_deleted_at_origin_is_brought_back_from_what_a_clone_has(place, known):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    clone = place.clone("colleague")
    if known:
        place.open(clone)
    place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", BRANCH)
    with pytest.raises(Misuse, match="^ledger: origin has the witness champion/000002 and no branch `ledger`") as error:
        place.open(clone)
    place.project.run("git", "-C", str(clone), *shlex.split(commands(str(error.value))[-1])[1:])
    assert place.open(clone).head == ledger.head


def test_a_branch_that_was_set_back_is_an_error_and_the_command_that_is_told_brings_it_forward(place):
    back = place.promote("first").head
    ledger = place.promote("second")
    place.project.git("update-ref", BRANCH, back)
    with pytest.raises(Misuse, match="^ledger: the last event is 2, and the witness champion/000004 says") as error:
        place.open()
    place.project.run(*shlex.split(commands(str(error.value))[0]))
    assert place.open().head == ledger.head


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
def test_a_missing_witness_is_an_error_and_put_back_by_the_repair(place, remote):
    bare = place.remote() if remote else place.project.path
    place.promote("first", push=True)
    place.promote("second", push=True)
    place.project.run("git", "--git-dir", str(bare if remote else bare / ".git"), "tag", "--delete", "champion/000002")
    with pytest.raises(Misuse, match="^ledger: the witness champion/000002 is missing; `make fsck REPAIR=1`"):
        place.open()
    if remote:
        with pytest.raises(Misuse, match="^fsck: the ledger at origin is read-only from here; PUSH=1 writes it$"):
            fsck.run(Project(place.project.path), repair=True)
    repaired(place)
    assert place.open().number == 4


def test_a_witness_of_the_last_event_that_was_never_written_is_written_with_the_next(place):
    """A server that takes one ref after another was stopped behind the branch: nobody is kept from reading."""
    bare = place.remote()
    place.promote("first", push=True)
    place.project.run("git", "--git-dir", str(bare), "tag", "--delete", "champion/000002")
    assert place.open().champion().key == place.key("first")
    place.promote("second", push=True)
    assert {"refs/tags/champion/000002", "refs/tags/champion/000004"} < set(place.refs(bare)) and told(place) == []


def test_a_witness_that_stands_elsewhere_is_an_error_and_the_command_that_is_told_puts_it_back(place):
    place.promote("first")
    place.project.git("tag", "--force", "champion/000002", "main")
    with pytest.raises(Misuse, match="^ledger: the witness champion/000002 is at .*, and event 2 is commit") as error:
        place.open()
    place.project.run(*shlex.split(commands(str(error.value))[0]))
    assert place.open().number == 2


def test_a_tag_of_somebody_elses_under_the_prefix_stops_nobody_and_is_listed(place):
    place.promote("first")
    place.project.git("tag", "champion/000001", "main")
    place.project.git("tag", "champion/best", "main")
    assert place.open().number == 2
    [line] = told(place)
    assert line.startswith("the tag champion/000001 belongs to no champion: event 1 is accepted; ")
    place.project.run(*shlex.split(commands(line)[0]))
    assert told(place) == []


def test_a_tag_ahead_that_follows_nothing_is_named_with_its_removal(place):
    place.promote("first")
    place.project.git("tag", "champion/000009", "main")
    with pytest.raises(Misuse, match="witness champion/000009 says that there were more; its commit") as error:
        place.open()
    place.project.run(*shlex.split(commands(str(error.value))[0]))
    assert place.open().number == 2


def test_refs_that_are_read_between_two_writes_are_looked_at_again(place, monkeypatch):
    """The listing of a server is not one moment: branch before, witness after."""
    from conveyor.ledger.store import Store

    place.remote()
    place.promote("first", push=True)
    first = place.open().reading.look
    place.promote("second", push=True)
    right, turns = Store.look, []

    def torn(store, *given, **more):
        turns.append(given)
        look = right(store, *given, **more)
        return look if len(turns) > 2 else type(look)(first.head, look.tags, look.models, {})

    monkeypatch.setattr(Store, "look", torn)
    assert place.open(place.clone("colleague")).number == 4 and len(turns) == 3


@pytest.mark.parametrize("words", [["--depth=1", "--no-single-branch"], ["--depth=1"], ["--single-branch"]])
def test_a_clone_that_lacks_commits_gets_those_of_the_ledger_and_stays_as_it_is(place, words):
    place.remote()
    place.project.git("commit", "--allow-empty", "--message", "second")
    place.project.git("push", "--quiet", "origin", "main")
    place.promote("first", push=True)
    place.promote("second", push=True)
    clone = place.folder / "clone"
    place.project.git("clone", "--quiet", *words, f"file://{place.folder / 'remote.git'}", str(clone))
    count = place.project.run("git", "-C", str(clone), "rev-list", "--count", "HEAD").stdout
    ledger = place.open(clone)
    assert ledger.number == 4 and ledger.bundle(ledger.champion()).files == place.bundle("second").files
    assert place.project.run("git", "-C", str(clone), "rev-list", "--count", "HEAD").stdout == count
    assert place.promote("third", clone, push=True).number == 6 and told(place, clone) == []


def test_a_fork_of_main_alone_takes_the_ledger_along_as_the_page_says(place):
    """What a fork on GitHub copies: main, and perhaps the tags."""
    bare = place.remote()
    ledger = place.promote("first", push=True)
    fork = place.folder / "fork.git"
    place.project.git("clone", "--quiet", "--bare", str(bare), str(fork))
    for ref in place.refs(fork):
        if ref not in ("refs/heads/main", "refs/tags/champion/000002"):
            place.project.run("git", "--git-dir", str(fork), "update-ref", "-d", ref)
    clone = place.folder / "of the fork"
    place.project.git("clone", "--quiet", str(fork), str(clone))
    with pytest.raises(Misuse, match='and no branch `ledger`; if it is a fork, docs/ledger.md, "A fork"'):
        place.open(clone)
    for command in page("A fork"):
        place.project.run("sh", "-c", f"cd '{clone}' && {command.replace('UPSTREAM', str(bare))}")
    again = place.open(clone)
    assert again.head == ledger.head and again.bundle(again.champion()).files == place.bundle("first").files
    assert told(place, clone) == []


# Bytes


def test_missing_bytes_at_origin_are_noticed_by_monitor_and_put_back_from_a_clone_that_has_them(place, capsys):
    from conveyor.deploy import monitor

    bare = place.remote()
    place.promote("first", push=True)
    ref = f"refs/models/{place.key('first')}"
    place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", ref)
    other = place.clone("colleague", "file://")
    assert place.open(other).number == 2
    [line] = told(place, other)
    assert line == (
        f"{ref} of origin is missing, the bytes of model {place.key('first')[:12]} of event 1;"
        " `make fsck REPAIR=1 PUSH=1` in a clone that has judged or served the model puts them back"
    )
    with pytest.raises(Misuse, match="^monitor: 1 damage in the ledger: refs/models/.* is missing, the bytes of"):
        monitor.run(Project(place.project.path))
    assert "**Damaged**" in (place.project.path / "build" / "monitor.md").read_text()
    with pytest.raises(Misuse, match="is missing, the bytes of model .*; `make fsck` says what brings them back"):
        place.open(other).bundle(place.open(other).champion())
    repaired(place)
    ledger = place.open(other)
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_missing_bytes_of_a_local_ledger_are_named_and_put_back_while_git_has_them(place):
    ledger = place.promote("first")
    place.project.git("update-ref", "-d", f"refs/models/{place.key('first')}")
    with pytest.raises(Misuse, match=f"^ledger: refs/models/{place.key('first')} of this repository is missing"):
        ledger.bundle(ledger.champion())
    repaired(place)
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_other_model_bytes_under_its_name_are_refused_and_put_right(place):
    ledger = place.promote("first")
    place.promote("second")
    first, second = (f"refs/models/{place.key(name)}" for name in ("first", "second"))
    place.project.git("update-ref", first, second)
    champion = ledger.champion()
    with pytest.raises(Misuse, match=rf"^ledger: {first} is commit \w{{12}}, event 1 says \w{{12}}; `make fsck` says"):
        ledger.bundle(champion)
    assert not (place.project.path / "build" / "champion").exists()
    repaired(place)
    assert ledger.bundle(champion).files == place.bundle("first").files


def test_the_ledger_of_a_laptop_moves_to_a_new_origin_with_the_command_of_the_page(place):
    place.promote("first")
    bare = place.folder / "new.git"
    place.project.run("git", "init", "--quiet", "--bare", str(bare))
    place.project.git("remote", "add", "origin", str(bare))
    place.project.git("push", "--quiet", "origin", "main", "ledger")
    for command in page("A new origin"):
        place.project.run("sh", "-c", command)
    ledger = place.open()
    place.project.git("update-ref", "-d", f"refs/models/{place.key('first')}")
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files and told(place) == []


# The page: each of its commands is tried


def section(title: str) -> str:
    """A section of the generated page on the ledger."""
    text = (Path(__file__).parents[1] / "<<cookiecutter.project>>/docs/ledger.md").read_text()
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def page(title: str) -> list[str]:
    """The commands of a section."""
    return [line.strip().partition("  #")[0] for line in section(title).splitlines() if line.startswith("    git ")]


def test_a_back_up_holds_all_and_is_restored_as_the_page_says(place):
    bare = place.remote()
    place.promote("first", push=True)
    ledger = place.promote("second", push=True)
    kept = place.folder / "back-up.git"
    for command in page("Back up and restore")[:1]:
        place.project.run("sh", "-c", command.replace("BACKUP", str(kept)))
    new = place.folder / "restored.git"
    place.project.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(new))
    for command in page("Back up and restore")[1:]:
        place.project.run("sh", "-c", command.replace("BACKUP", str(kept)).replace("NEW", str(new)))
    place.project.git("remote", "set-url", "origin", str(new))
    clone = place.folder / "colleague"
    place.project.git("clone", "--quiet", str(new), str(clone))
    again = place.open(clone)
    assert again.head == ledger.head and told(place, clone) == [] and bare.exists()
    assert again.bundle(again.champion()).files == place.bundle("second").files


def test_a_bad_commit_is_removed_at_origin_as_the_page_says(place):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    place.project.git("fetch", "--quiet", "origin", "ledger:ledger")
    bad = place.forge({**place.forged(ledger), "notes.txt": b"hello"})
    place.project.git("push", "--quiet", str(bare), "ledger")
    place.project.git("branch", "--quiet", "-D", "ledger")
    with pytest.raises(Misuse, match="adds notes.txt"):
        place.open()
    for command in page("A bad commit"):
        place.project.run("sh", "-c", command.replace("BAD", bad).replace("GOOD", ledger.head))
    assert place.open().head == ledger.head and kinds(place.open()) == ["accepted", "live"]


@pytest.mark.parametrize("right", ["before", "now"])
def test_a_rewritten_branch_is_settled_either_way_by_the_command_that_is_told(place, right):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    two = ledger.head
    before = place.promote("second", push=True).head
    clone = place.clone("colleague")
    place.open(clone)
    place.project.git("fetch", "--quiet", "origin", f"{two}:{BRANCH}")
    now = place.forge(place.forged(ledger))
    place.project.git("push", "--quiet", "--force", str(bare), "ledger", ":refs/tags/champion/000004")
    with pytest.raises(Misuse, match="now: it was rewritten; ") as error:
        place.open(clone)
    back, forward = commands(str(error.value))
    place.project.run("sh", "-c", f"cd '{clone}' && {back if right == 'before' else forward}")
    if right == "before":
        repaired(place, clone)
    assert place.open(clone).head == (before if right == "before" else now)


def test_a_repository_is_read_while_damaged_objects_are_named(place):
    ledger = place.promote("first")
    blob = place.project.git("rev-parse", f"{BRANCH}:{path_of(1)}").stdout.strip()
    (place.project.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(Misuse, match="^ledger: the branch `ledger` of this repository cannot be read: an object"):
        place.open()
    commit = subprocess.check_output(
        ["git", "rev-parse", f"{ledger.head}~1"], cwd=place.project.path, text=True
    ).strip()
    (place.project.path / ".git/objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(Misuse, match="^ledger: the branch `ledger` of this repository cannot be read: .*; docs"):
        place.open()


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
def test_a_branch_set_back_is_noticed_by_a_clone_that_has_read_more_and_nothing_is_written_there(place, remote):
    """The last events have no tag that would tell."""
    bare = place.remote() if remote else place.project.path / ".git"
    place.promote("first", push=True)
    ledger = place.open(push=True)
    for number in range(3):
        ledger.note(place.bundle(f"kept {number}"), ledger.number, "keep", "no", Sight(holdout="rows"))
    ledger.store.note(ledger.reading.rules, ledger.head)
    place.project.run("git", "--git-dir", str(bare), "update-ref", BRANCH, f"{BRANCH}~2")
    set_back = place.refs(bare if remote else None)
    for _ in range(2):
        with pytest.raises(Misuse, match="^ledger: event 4 was commit .*, and is not there now: it was rewritten"):
            place.open(push=True)
        assert "it was rewritten" in told(place)[0]
    now = place.refs(bare if remote else None)
    assert now[BRANCH] == set_back[BRANCH]


def test_a_ledger_that_is_gone_from_origin_is_no_new_beginning_for_a_clone_that_has_read_it(place):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    for ref in place.refs(bare):
        if ref != "refs/heads/main":
            place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", ref)
    with pytest.raises(Misuse, match="^ledger: origin has no branch `ledger` any more, which this clone") as error:
        place.open()
    assert told(place)
    place.project.run("sh", "-c", commands(str(error.value))[0])
    repaired(place)
    assert place.open().head == ledger.head


def test_a_tag_ahead_is_believed_only_with_a_sound_event(place):
    """A commit with the right paths, whose event follows from nothing; only its tag is there."""
    ledger = place.promote("first")
    place.forge(place.forged(ledger, type="live"))
    place.project.git("tag", "champion/000003", BRANCH)
    place.project.git("update-ref", BRANCH, ledger.head)
    with pytest.raises(Misuse, match="champion/000003 says that there were more; its commit does not follow") as error:
        place.open()
    with pytest.raises(Misuse, match="^fsck: 1 damage"):
        fsck.run(Project(place.project.path, push=True), repair=True)
    assert place.refs()[BRANCH] == ledger.head
    place.project.run(*shlex.split(commands(str(error.value))[0]))
    assert place.promote("second").number == 4


def test_a_day_that_does_not_exist_is_refused(place):
    ledger = place.promote("first")
    place.forge(place.forged(ledger, time="2027-02-30T00:00:00Z"))
    with pytest.raises(Misuse, match=r"000003.json is damaged \(key time\)"):
        place.open()


def hiding_a_submodule(place, ledger):
    """A person's settings can take changes of submodules out of git's answers."""
    place.project.git("config", "diff.ignoreSubmodules", "all")
    return place.forge({**place.forged(ledger), "library": ("160000", ledger.head)})


def removing_the_summary(place, ledger):
    return place.forge({**place.forged(ledger), "champion.json": None})


@pytest.mark.parametrize(
    "forge, message",
    [
        (hiding_a_submodule, r"commit \w{12} makes library a submodule"),
        (removing_the_summary, r"commit \w{12} removes champion.json"),
    ],
)
def test_what_git_does_not_show_by_itself_is_refused_too(place, forge, message):
    test_what_no_writer_has_written_is_refused_and_the_way_back_is_told(place, forge, message)


def test_a_live_with_other_bytes_than_were_accepted_is_refused(place):
    ledger = place.promote("first")
    accepted = ledger.accept(place.bundle("second"), 2, "promote", "")
    told = {name: getattr(accepted, name) for name in ("key", "commit", "data_sha256")}
    place.forge(place.forged(ledger, type="live", digest="f" * 64, **told))
    with pytest.raises(Misuse, match=r"^ledger: events/0000/000004.json does not follow from the events before it"):
        place.open()


# A merge that puts another branch first: whoever follows first parents does not see the ledger any more


@pytest.mark.parametrize("known", [True, False], ids=["a clone that has read it", "a new clone"])
@pytest.mark.parametrize("more", [0, 2])
def test_a_merge_with_another_branch_before_the_ledger_is_named_and_taken_back_as_the_page_says(place, known, more):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    clone = place.clone("colleague")
    if known:
        place.open(clone)
    place.promote("second", push=True)
    sound = place.refs(bare)[BRANCH]
    place.project.git("fetch", "--quiet", "origin", "ledger:ledger")
    merge = bad = place.forge(place.forged(ledger), ("main", BRANCH))
    for number in range(more):
        bad = place.forge({"notes.txt": str(number).encode()})
    place.project.git("push", "--quiet", str(bare), "ledger")  # an ordinary push takes it
    line = (
        f"commit {merge[:12]} is a merge that puts another branch before the ledger; the last sound commit is"
        f' {sound[:12]}; docs/ledger.md, "A bad commit", says how to go back to it'
    )
    with pytest.raises(Misuse, match=f"^ledger: {re.escape(line)}$"):
        place.open(clone)
    assert told(place, clone) == [line]
    for command in page("A bad commit"):
        place.project.run("sh", "-c", f"cd '{clone}' && {command.replace('BAD', bad).replace('GOOD', sound)}")
    assert place.open(clone).number == 4 and told(place, clone) == []


def test_what_is_wrong_before_such_a_merge_is_told_first(place):
    ledger = place.promote("first")
    place.forge({**place.forged(ledger), "notes.txt": b"hello"})
    place.forge(place.forged(ledger), ("main", BRANCH))
    with pytest.raises(Misuse, match=r"^ledger: commit \w{12} adds notes.txt; the last sound commit is"):
        place.open()


def test_a_ledger_whose_first_events_are_cut_off_is_not_taken_for_somebody_elses_branch(place):
    ledger = place.promote("first")
    place.forge(place.forged(ledger), ())
    with pytest.raises(Misuse, match=r'no commit is sound; docs/ledger.md, "Back up and restore"$') as error:
        place.open()
    assert "not ours" not in str(error.value)


@pytest.mark.parametrize("name", ["0000002", "00002", "٠٠٠٠٠٢", "000002-old", "2"])
def test_a_tag_whose_name_is_no_number_of_six_digits_is_not_the_ledgers(place, name):
    bare = place.remote()
    place.promote("first", push=True)
    place.project.run("git", "--git-dir", str(bare), "tag", f"champion/{name}", "main")
    clone = place.clone("colleague")
    assert place.open(clone).number == 2 and told(place, clone) == []


def test_a_bad_commit_of_a_local_ledger_is_taken_back_as_the_page_says(place):
    ledger = place.promote("first")
    place.forge({**place.forged(ledger), "notes.txt": b"hello"})
    [command] = re.findall("`(git branch [^`]*)`", section("A bad commit"))
    place.project.run("sh", "-c", command.replace("GOOD", ledger.head))
    assert place.open().head == ledger.head and told(place) == []


RULED = """#!{python}
import json, subprocess, sys
from fnmatch import fnmatch
name, old, new = sys.argv[1:]
rules = set()
for each in json.load(open({file!r})):
    if any(fnmatch(name, pattern) for pattern in each["conditions"]["ref_name"]["include"]):
        rules |= {{rule["type"] for rule in each["rules"]}}
none = "0" * len(old)
kind = "creation" if old == none else "deletion" if new == none else "update"
forward = kind != "update" or not subprocess.call(["git", "merge-base", "--is-ancestor", old, new])
sys.exit(kind in rules or ("non_fast_forward" in rules and not forward))
"""


def ruled(place, bare: Path, off: set[str]) -> None:
    """Let the repository's rulesets hold at a bare remote, but for those that are switched off."""
    from conveyor.github import ledger_key

    shipped = [json.loads(file.read_text()) for file in (place.project.path / ".github/rulesets").glob("*.json")]
    here = [each for each in [*shipped, *ledger_key.rulesets()] if each["name"] not in off]
    assert len(here) == len(shipped) + 2 - len(off), "each name that is switched off is there"
    file, hook = place.folder / "rulesets.json", bare / "hooks/update"
    file.write_text(json.dumps([each for each in here if each["name"] != "main"]))
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(RULED.format(python=sys.executable, file=str(file)))
    hook.chmod(0o755)


def test_a_bad_commit_is_taken_back_only_with_the_rulesets_off_that_the_page_names(place):
    bare = place.remote()
    ledger = place.promote("first", push=True)
    place.project.git("fetch", "--quiet", "origin", "ledger:ledger")
    bad = place.forge({**place.forged(ledger), "notes.txt": b"hello"})
    place.project.git("tag", "champion/000003", bad)
    place.project.git("push", "--quiet", str(bare), "ledger", "champion/000003")
    named = set(re.findall("`(ledger[a-z-]*|tags)`", section("A bad commit").split("    git")[0]))
    assert named == {"ledger", "tags", "ledger-key", "ledger-key-tags"}
    [command] = page("A bad commit")
    back = command.replace("BAD", bad).replace("GOOD", ledger.head)
    for kept in ("ledger", "ledger-key"):
        ruled(place, bare, named - {kept})
        assert place.project.run("sh", "-c", back, check=False).returncode
        assert place.refs(bare)[BRANCH] == bad
    ruled(place, bare, named)
    place.project.run("sh", "-c", back)
    [line] = told(place)
    assert line.startswith("the last event is 2, and the witness champion/000003 says that there were more; ")
    [remove] = commands(line)
    ruled(place, bare, named - {"tags"})
    assert place.project.run("sh", "-c", remove, check=False).returncode
    ruled(place, bare, named)
    place.project.run("sh", "-c", remove)
    assert place.open(place.clone("colleague")).head == ledger.head and told(place) == []


def test_a_server_that_takes_witnesses_and_hides_them_is_told_by_the_repair(place, capsys):
    bare = place.remote()
    place.promote("first", push=True)
    place.promote("second", push=True)
    place.project.run("git", "--git-dir", str(bare), "config", "uploadpack.hideRefs", "refs/tags")
    with pytest.raises(Misuse, match="^fsck: 2 damages"):
        fsck.run(Project(place.project.path, push=True), repair=True)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("it was written and is not shown: the server hides" in line for line in said)


def test_a_new_fork_begins_its_own_ledger_as_the_page_says(place):
    bare = place.remote()
    place.promote("first", push=True)
    place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", BRANCH)
    clone = place.clone("of the fork")
    with pytest.raises(Misuse, match='"A fork"'):
        place.open(clone)
    command = re.findall("`(git push [^`]*)`", section("A fork"))[-1]
    place.project.run("sh", "-c", f"cd '{clone}' && {command}")
    assert place.open(clone).number == 0
    assert place.promote("second", clone, push=True).number == 2 and told(place, clone) == []


def test_a_shallow_clone_of_a_local_ledger_is_told_what_brings_the_rest(place):
    place.promote("first")
    place.promote("second")
    clone, url = place.folder / "shallow", f"file://{place.project.path}"
    place.project.git("clone", "--quiet", "--depth=1", "--no-single-branch", url, str(clone))
    for words in (("branch", "ledger", "origin/ledger"), ("remote", "remove", "origin")):
        place.project.git("-C", str(clone), *words)
    with pytest.raises(Misuse, match="^ledger: this repository lacks the first events; `git fetch --unshal") as error:
        place.open(clone)
    [command] = commands(str(error.value))
    place.project.run("sh", "-c", f"cd '{clone}' && {command.replace('URL', url)}")
    place.project.git("-C", str(clone), "fetch", "--quiet", url, "refs/tags/*:refs/tags/*")
    assert place.open(clone).number == 4


def test_a_ledger_moves_from_one_origin_to_another_as_the_page_says(place):
    """A clone that has read it: its branch is not a local one, so the command for a laptop's ledger is not for it."""
    bare = place.remote()
    ledger = place.promote("first", push=True)
    new, kept = place.folder / "new.git", place.folder / "back-up.git"
    place.project.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(new))
    assert "Back up and restore" in section("A new origin")
    first, second = page("Back up and restore")
    place.project.run("sh", "-c", first.replace("BACKUP", str(kept)))
    place.project.git("remote", "set-url", "origin", str(new))
    with pytest.raises(Misuse, match='if it is new, docs/ledger.md, "A new origin", else check'):
        place.open()
    place.project.run("sh", "-c", second.replace("BACKUP", str(kept)).replace("NEW", str(new)))
    again = place.open()
    assert again.head == ledger.head and told(place) == [] and place.refs(new) == place.refs(bare)
