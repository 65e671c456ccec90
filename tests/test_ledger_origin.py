"""Risk: a push is lost, made twice, or taken for somebody else's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ledgers import WRITER, kinds

from conveyor.core import git as git_module
from conveyor.core.errors import Misuse, Refused
from conveyor.gate.looks import Sight
from conveyor.ledger import store
from conveyor.ledger.events import Moved
from conveyor.model.bundle import Bundle


def test_with_a_remote_everything_is_pushed_and_nothing_stays_local_only(place):
    bare = place.remote()
    place.promote("first", push=True)
    remote = place.refs(bare)
    assert {"refs/heads/ledger", "refs/tags/champion/000002", f"refs/models/{place.bundle('first').key}"} < set(remote)
    assert "refs/heads/ledger" not in place.refs()


def test_another_clone_reads_the_champion_and_its_bytes(place):
    place.remote()
    place.promote("first", push=True)
    ledger = place.open(place.clone("colleague"))
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_a_champion_whose_commit_origin_has_dropped_can_be_followed(place):
    """The first champion was made on a laptop, from a commit that was amended before it was pushed."""
    place.promote("first")
    place.project.git("commit", "--amend", "--message", "amended", "--allow-empty")
    place.remote()
    place.project.git("push", "--quiet", "origin", "ledger", "refs/tags/champion/*", "refs/models/*")
    bare = place.folder / "remote.git"
    for word in (["reflog", "expire", "--expire=now", "--all"], ["gc", "--quiet", "--prune=now"]):
        place.project.run("git", "--git-dir", str(bare), *word)
    assert place.promote("second", place.clone("colleague"), push=True).champion().key == place.key("second")


def test_a_shallow_clone_can_write_the_next_event(place):
    place.remote()
    place.promote("first", push=True)
    shallow = place.folder / "shallow"
    place.project.git("clone", "--quiet", "--depth=1", f"file://{place.folder / 'remote.git'}", str(shallow))
    assert place.promote("second", shallow, push=True).number == 4


def test_without_push_a_clone_with_a_remote_cannot_write(place):
    place.remote()
    assert not place.open().writable and place.open(push=True).writable


def test_of_two_writers_one_wins_and_the_other_is_told_so(place):
    bare = place.remote()
    one, two = (place.open(place.clone(name), push=True) for name in ("one", "two"))
    one.accept(place.bundle("first"), 0, "bootstrap", "")
    with pytest.raises(Moved):
        two.accept(place.bundle("second"), 0, "bootstrap", "")
    assert f"refs/models/{place.bundle('second').key}" not in place.refs(bare)
    two.read()
    assert two.pending().key == place.bundle("first").key


def test_two_real_processes_race_and_exactly_one_event_is_written(place):
    bare = place.remote()
    place.bundle("a"), place.bundle("b")
    script = (
        f"{WRITER}print('ready', flush=True); input()\n"
        "try: ledger.accept(bundle, 0, 'bootstrap', ''); print('won')\n"
        "except Moved: print('moved')"
    )
    source = str(place.project.path / "src")
    racers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                place.clone(f"racer-{name}"),
                place.folder / "bundles" / name,
            ],
            env={**os.environ, "PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    assert [racer.stdout.readline().strip() for racer in racers] == ["ready", "ready"]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    assert sorted(results) == ["moved", "won"]
    winner = place.bundle("ab"[results.index("won")])
    assert [ref for ref in place.refs(bare) if "models" in ref] == [f"refs/models/{winner.key}"]


def test_a_remote_that_refuses_the_push_is_named_and_nothing_is_written(place):
    bare = place.remote()
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho branch is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    ledger, before = place.open(push=True), place.refs(bare)
    with pytest.raises(Misuse, match="^ledger: origin did not take the event: .*nothing was changed$"):
        ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    assert place.refs(bare) == before


@pytest.mark.parametrize(("taken", "of"), [("refs/tags/champion", "event 1 waits"), ("refs/heads/ledger/x", "nothing")])
def test_a_ref_in_the_place_of_the_ledgers_is_named_with_the_mend(place, taken, of):
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "update-ref", taken, "refs/heads/main")
    with pytest.raises(Misuse, match=f"'{taken}' exists; cannot create .*; rename that ref: .* its place; {of}"):
        place.promote("first", push=True)
    place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", taken)
    assert place.promote("first", push=True).champion().event == 2


def test_a_full_disk_is_not_called_a_matter_of_access():
    error = git_module.GitError("fatal: write error: No space left on device")
    assert str(store.Store.unread(error)).endswith("No space left on device; make room")


def test_a_remote_that_is_gone_is_an_error_and_not_a_fresh_start(place):
    place.project.git("remote", "add", "origin", str(place.folder / "nowhere.git"))
    with pytest.raises(Misuse, match="^ledger: origin cannot be read: .*check the remote and your access$"):
        place.open()


def test_pruning_at_origin_deletes_the_refs_there_with_the_event(place):
    bare = place.remote()
    for name in ("a", "b", "c"):
        ledger = place.promote(name, push=True)
    place.act("prune", ledger, 2)
    assert {ref for ref in place.refs(bare) if "models" in ref} == {f"refs/models/{place.key(name)}" for name in "bc"}
    assert kinds(place.open(place.clone("colleague")))[-1] == "pruned"


def test_a_clone_that_has_other_bytes_under_a_name_fetches_those_of_origin(place):
    """A laptop made its first champion before it had an origin, and origin then made one from the same inputs."""
    place.promote("first")
    place.project.git("update-ref", f"refs/models/{place.key('second')}", f"refs/models/{place.key('first')}")
    place.remote()
    place.project.git("--git-dir", str(place.folder / "remote.git"), "update-ref", "-d", "refs/heads/ledger")
    place.project.git("--git-dir", str(place.folder / "remote.git"), "tag", "-d", "champion/000002")
    place.promote("second", place.clone("colleague"), push=True)
    ledger = place.open()
    assert ledger.bundle(ledger.champion()).files == place.bundle("second").files


def test_three_writers_at_once_lose_nothing(place):
    """Each tries until it is in: three champions one after another, none lost, no number twice."""
    place.remote()
    script = (
        f"{WRITER}while True:\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if any(event.key == bundle.key for event in ledger.events): break\n"  # another writer settled it
        "        ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, place.clone(f"w{name}"), place.bundle(name).path],
            env=environment,
        )
        for name in "abc"
    ]
    assert [writer.wait(180) for writer in writers] == [0, 0, 0]
    ledger = place.open()
    assert sorted(e.key for e in ledger.events if e.type == "accepted") == sorted(place.key(name) for name in "abc")
    assert ledger.pending() is None and kinds(ledger).count("live") >= 3


def test_a_remote_that_stops_answering_is_waited_for_within_bounds(place, monkeypatch):
    monkeypatch.setattr(git_module, "SECONDS", 2)
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'sleep 300'")
    place.project.git("remote", "add", "origin", "ssh://127.0.0.1/nowhere")
    began = time.monotonic()
    with pytest.raises(Misuse, match="^ledger: origin cannot be read: .* did not answer within 2 sec"):
        place.open()
    assert time.monotonic() - began < 20


# Answers that are lost, and servers that do half


LOST = 'case " $* " in *" push "*) real "$@" || exit; echo "fatal: the remote end hung up" >&2; exit 128;; esac'
CUT = (
    'case " $* " in *" push "*) real "$@" || exit; touch "$(dirname "$0")/cut"; exit 128;;'
    ' *" fetch "*) [ ! -e "$(dirname "$0")/cut" ] || { echo "fatal: unable to access: cut" >&2; exit 128; };; esac'
)


def asked(place, verb: str, root: Path):
    """A verb of a person in a process of its own, as far as the ledger goes."""
    ledger = place.open(root, push=True)
    given = {"rollback": (None, "it is slow"), "quarantine": (1, "bad labels"), "prune": (2,)}[verb]
    return place.act(verb, ledger, *given)


def three(place) -> Path:
    bare = place.remote()
    for name in ("first", "second", "third"):
        place.promote(name, push=True)
    return bare


@pytest.mark.parametrize("verb", ["rollback", "quarantine", "prune"])
def test_a_push_whose_answer_was_lost_is_known_to_have_happened(place, monkeypatch, verb):
    three(place)
    place.git_that(monkeypatch, LOST)
    said = asked(place, verb, place.project.path)
    expected = {
        "rollback": "champion/000008 is model",
        "quarantine": "is quarantined",
        "prune": "deleted the bytes of 1",
    }
    assert expected[verb] in said
    written = kinds(place.open())[6:]
    assert written == {"rollback": ["rolled_back", "live"], "quarantine": ["quarantined"], "prune": ["pruned"]}[verb]


@pytest.mark.parametrize("verb", ["rollback", "quarantine", "prune"])
def test_a_server_that_shows_a_push_a_moment_later_has_taken_it(place, monkeypatch, verb):
    """A copy of it may answer who reads."""
    three(place)
    script = """case " $* " in *" push "*) real "$@" || exit; echo 2 > '{0}'; exit;; esac
        case " $* " in *" fetch "*refs/heads/ledger*)
            left=$(cat '{0}' 2>/dev/null || echo 0)
            [ "$left" = 0 ] || {{ echo $((left - 1)) > '{0}'; exit 0; }};;
        esac"""
    place.git_that(monkeypatch, script.format(place.folder / "behind"))
    asked(place, verb, place.project.path)
    written = kinds(place.open())[6:]
    assert written == {"rollback": ["rolled_back", "live"], "quarantine": ["quarantined"], "prune": ["pruned"]}[verb]


def test_a_promotion_whose_answers_are_lost_is_written_once(place, monkeypatch):
    place.remote()
    place.git_that(monkeypatch, LOST)
    ledger = place.promote("first", push=True)
    ledger.approve(place.bundle("second"), ledger.number, "why")
    assert kinds(place.open()) == ["accepted", "live", "approved"]


def test_a_lost_push_is_found_behind_the_events_that_others_wrote_meanwhile(place, monkeypatch):
    three(place)
    other = place.clone("colleague")
    script = f"{WRITER}ledger.note(bundle, ledger.number, 'keep', 'no', Sight(holdout=sys.argv[2]))\n"
    (place.folder / "other.py").write_text(script)
    bundle = place.bundle("fourth").path
    place.git_that(
        monkeypatch,
        f"""case " $* " in *" push "*)
            real "$@" || exit
            if [ ! -e '{place.folder}/once' ]; then
                touch '{place.folder}/once'
                '{sys.executable}' '{place.folder}/other.py' '{other}' '{bundle}' >&2 || exit 99
            fi
            exit 128;;
        esac""",
    )
    monkeypatch.setenv("PYTHONPATH", str(place.project.path / "src"))
    assert asked(place, "quarantine", place.project.path).endswith("is quarantined")
    assert kinds(place.open())[6:] == ["quarantined", "kept"]


@pytest.mark.parametrize("verb", ["rollback", "quarantine", "prune"])
def test_one_who_got_no_answer_asks_again_and_nothing_is_done_twice(place, monkeypatch, verb):
    three(place)
    place.git_that(monkeypatch, CUT)
    message = "was sent to origin and may be written: run the same again, it goes on from what is there$"
    with pytest.raises(Misuse, match=message):
        asked(place, verb, place.project.path)
    place.git_that(monkeypatch, "")
    asked(place, verb, place.project.path)
    asked(place, verb, place.project.path)
    written = kinds(place.open())[6:]
    assert written == {"rollback": ["rolled_back", "live"], "quarantine": ["quarantined"], "prune": ["pruned"]}[verb]
    assert place.open().pending() is None


ACTS = {
    "accepted": lambda place, ledger: ledger.accept(place.bundle("fourth"), ledger.number, "promote", "better"),
    "live": lambda place, ledger: ledger.settle(),
    "approved": lambda place, ledger: ledger.approve(place.bundle("fourth"), ledger.number, "why"),
    "blocked": lambda place, ledger: ledger.note(
        place.bundle("fourth"), ledger.number, "block", "no", Sight(holdout="rows", rows=7)
    ),
    "confirmed": lambda place, ledger: ledger.confirm(ledger.champion(), "no worse"),
    "released": lambda place, ledger: ledger.release(ledger.lived[-1], "v1.0.0", "an image"),
}


@pytest.mark.parametrize("kind", ACTS)
def test_a_workflow_that_got_no_answer_is_started_again_and_nothing_is_written_twice(place, monkeypatch, kind):
    three(place)
    if kind == "live":
        ACTS["accepted"](place, place.open(push=True))
    number = place.open().number
    place.git_that(monkeypatch, CUT)
    with pytest.raises(Misuse, match="was sent to origin and may be written: run the same again"):
        ACTS[kind](place, place.open(push=True))
    place.git_that(monkeypatch, "")
    for _ in range(2):
        ACTS[kind](place, place.open(push=True))
    assert kinds(place.open())[number:] == [kind]


def test_a_roll_back_is_asked_for_again_with_another_reason_or_event_to_go_further(place):
    three(place)
    asked(place, "rollback", place.project.path)
    ledger = place.open(push=True)
    assert "event 7 is this roll-back already" in place.act("rollback", ledger, None, "it is slow")
    assert "event 7 is this roll-back already" in place.act("rollback", ledger, 4, "it is slow")
    place.act("rollback", ledger, 2, "it is slow")
    assert place.open().champion().key == place.key("first")


def test_a_run_that_is_started_again_does_not_roll_back_the_champion_that_came_since(place, monkeypatch):
    """A person who sees a red run starts it again; what it asked for was done, and another model was delivered."""
    three(place)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/late")
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    asked(place, "rollback", place.project.path)
    assert "event 7 is this roll-back already" in asked(place, "rollback", place.project.path)
    monkeypatch.setenv("GITHUB_RUN_ID", "78")
    place.promote("fourth", push=True)
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    with pytest.raises(
        Refused, match="^rollback: event 7 is the roll-back of this run already, and champion/000010 is"
    ):
        asked(place, "rollback", place.project.path)
    assert place.open().number == 10
    monkeypatch.setenv("GITHUB_RUN_ID", "79")
    assert "champion/000012 is model" in asked(place, "rollback", place.project.path)


def test_a_run_whose_roll_back_did_not_come_to_serve_goes_back_when_it_is_started_again(place, monkeypatch):
    three(place)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/late")
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    ledger = place.open(push=True)
    ledger.abort(ledger.roll_back(None, "it is slow"), "it does not become healthy")
    assert "champion/000010 is model" in asked(place, "rollback", place.project.path)


def test_a_server_without_atomic_pushes_takes_one_ref_after_another(place):
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "config", "receive.advertiseAtomic", "false")
    place.promote("first", push=True)
    ledger = place.open(place.clone("colleague"))
    assert ledger.number == 2 and ledger.bundle(ledger.champion()).files == place.bundle("first").files
    one, two = (place.open(place.clone(name), push=True) for name in ("one", "two"))
    one.accept(place.bundle("second"), 2, "promote", "")
    with pytest.raises(Moved):
        two.accept(place.bundle("third"), 2, "promote", "")
    assert kinds(place.open()) == ["accepted", "live", "accepted"]


@pytest.mark.parametrize("lost", ["refs/tags/champion", "refs/models"])
def test_a_server_that_wrote_some_refs_is_completed(place, lost):
    """Without atomic pushes a hook can refuse one ref of several; the next push is taken."""
    bare = place.remote()
    git = ("git", "--git-dir", str(bare), "config")
    place.project.run(*git, "receive.advertiseAtomic", "false")
    hook = bare / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f'#!/bin/sh\ncase "$1" in {lost}*) [ -e "$GIT_DIR/once" ] || {{ touch "$GIT_DIR/once"; exit 1; }};; esac\n'
    )
    hook.chmod(0o755)
    try:
        place.promote("first", push=True)
    except Misuse as refused:
        assert "nothing was changed" in str(refused) and lost == "refs/models"
        place.promote("first", push=True)
    assert f"refs/models/{place.key('first')}" in place.refs(bare) and "refs/tags/champion/000002" in place.refs(bare)
    assert place.open(place.clone("colleague")).number == 2


def test_a_server_that_hides_the_bytes_gets_no_champion(place):
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "config", "uploadpack.hideRefs", "refs/models")
    message = "^ledger: origin took event 1 and does not show refs/models/.*: it hides or drops that ref; allow"
    with pytest.raises(Misuse, match=message):
        place.promote("first", push=True)
    ledger = place.open(push=True)
    with pytest.raises(Misuse, match="^ledger: origin does not show what it took: refs/models/.* of origin is missing"):
        ledger.live(ledger.pending())
    assert kinds(place.open()) == ["accepted"]


def test_a_server_that_refuses_the_bytes_and_takes_the_event_is_named(place):
    """git's own server does so for a ref that it hides from pushes, atomic or not."""
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "config", "transfer.hideRefs", "refs/models")
    message = "^ledger: origin took event 1 and does not show refs/models/.*: .*hidden ref.*; allow refs/models"
    with pytest.raises(Misuse, match=message):
        place.promote("first", push=True)
    assert kinds(place.open()) == ["accepted"]
    place.project.run("git", "--git-dir", str(bare), "config", "--unset", "transfer.hideRefs")
    assert place.promote("first", push=True).champion() and place.open(place.clone("colleague")).number == 2


def test_bytes_that_are_put_back_may_take_as_long_as_a_push_of_them(place, monkeypatch):
    place.remote()
    ledger = place.promote("first", push=True)
    limits, right = [], git_module.bounded

    def bounded(words, root, stdin, env, seconds):
        if "push" in words or "cat-file" in words:
            limits.append(seconds)
        return right(words, root, stdin, env, seconds)

    monkeypatch.setattr(git_module, "bounded", bounded)
    ledger.put({f"refs/models/{place.key('first')}": ledger.events[0].model})
    ledger.put({"refs/tags/champion/000002": ledger.head})
    assert limits == [store.LARGE, git_module.SECONDS]
    ledger.bundle(ledger.champion())  # and so may they when they are read
    assert limits[2:] == [store.LARGE]


def test_no_model_is_live_whose_bytes_origin_has_lost(place):
    bare = place.remote()
    ledger = place.open(push=True)
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    place.project.run("git", "--git-dir", str(bare), "update-ref", "-d", f"refs/models/{place.key('first')}")
    stranger = place.open(place.clone("colleague", "file://"), push=True)
    with pytest.raises(
        Misuse, match="^ledger: refs/models/.* of origin is missing, the bytes of model .* of event 1; "
    ):
        stranger.live(stranger.pending())
    assert kinds(place.open()) == ["accepted"]
    ledger.live(ledger.pending())  # this clone has them
    assert place.open(place.clone("another")).number == 2 and f"refs/models/{place.key('first')}" in place.refs(bare)


def test_bytes_that_a_stopped_run_left_without_an_event_are_replaced(place):
    bare = place.remote()
    place.project.run(
        "git", "--git-dir", str(bare), "update-ref", f"refs/models/{place.key('first')}", "refs/heads/main"
    )
    ledger = place.promote("first", push=True)
    again = place.open(place.clone("colleague"))
    assert again.bundle(ledger.champion()).files == place.bundle("first").files


def test_equal_bytes_make_an_equal_commit(place):
    ledger = place.open()
    first = ledger.models.keep(place.bundle("first"))
    time.sleep(1.1)
    assert ledger.models.keep(place.bundle("first")) == first


def test_a_model_on_its_way_becomes_live_whatever_else_is_written(place):
    three(place)
    slow = place.open(place.clone("slow"), push=True)
    accepted = slow.accept(place.bundle("fourth"), slow.number, "promote", "")
    asked(place, "quarantine", place.project.path)
    slow.live(accepted)
    assert kinds(place.open())[6:] == ["accepted", "quarantined", "live"]
    slow.live(accepted)  # it is written: not once more
    assert place.open().number == 9


def test_a_push_may_take_the_longer_the_more_it_brings(place, monkeypatch):
    place.remote()
    limits = []
    right = git_module.bounded

    def bounded(words, root, stdin, env, seconds):
        if "push" in words:
            limits.append(seconds)
        return right(words, root, stdin, env, seconds)

    monkeypatch.setattr(git_module, "bounded", bounded)
    bundle = place.bundle("first")
    (bundle.path / "model.skops").write_bytes(os.urandom(3_000_000))
    ledger = place.open(push=True)
    ledger.accept(Bundle(bundle.path), 0, "bootstrap", "")
    ledger.live(ledger.pending())
    assert limits == [pytest.approx(git_module.SECONDS + 15, abs=0.1), git_module.SECONDS]


def test_the_ledger_of_a_laptop_is_not_taken_for_an_older_state_of_the_one_at_origin(place):
    """It bootstraps alone, is then given an origin, and there the workflows have bootstrapped their own."""
    for number in range(30):  # so many that it is noted how far they were verified
        place.promote(f"local {number}")
    assert "refs/conveyor/verified/2-here" in place.refs()
    place.remote()
    for ref in place.refs(place.folder / "remote.git"):
        if ref != "refs/heads/main":
            place.project.run("git", "--git-dir", str(place.folder / "remote.git"), "update-ref", "-d", ref)
    assert place.open().number == 0
    place.promote("first", place.clone("colleague"), push=True)
    assert place.open().champion().key == place.key("first")


@pytest.mark.parametrize("wrong", ["{}^{{tree}}", "{}:champion.json"])
def test_a_record_of_what_was_verified_that_names_something_else_is_not_believed(place, wrong):
    three(place)
    assert place.open().number == 6
    [record] = [ref for ref in place.refs() if ref.startswith("refs/conveyor/verified/")]
    before = place.refs()[record]
    place.project.git("update-ref", record, place.project.git("rev-parse", wrong.format(record)).stdout.strip())
    ledger = place.open()
    assert ledger.champion().key == place.key("third")
    assert place.refs()[record] == before


def test_a_record_that_names_a_commit_of_the_code_is_forgotten_and_not_pushed(place):
    """The mend for a rewritten ledger would put the code in its place."""
    three(place)
    place.project.git("update-ref", "refs/conveyor/verified/2", "main")
    mend = "`git update-ref -d refs/conveyor/verified/2` forgets it"
    with pytest.raises(Misuse, match=f"names [0-9a-f]{{12}}, no event; {mend}") as no:
        place.open().champion()
    assert "push" not in str(no.value)
    place.project.git("update-ref", "-d", "refs/conveyor/verified/2")
    assert place.open().champion().key == place.key("third")


def test_a_server_without_atomic_pushes_deletes_nothing_for_an_event_that_lost_the_race(place):
    bare = three(place)
    place.project.run("git", "--git-dir", str(bare), "config", "receive.advertiseAtomic", "false")
    late = place.open(place.clone("late"), push=True)
    place.promote("fourth", push=True)
    before = place.refs(bare)
    with pytest.raises(Moved):
        late.prune(2)
    assert place.refs(bare) == before
    late.read()
    assert late.prune(2) == sorted(place.key(name) for name in ("first", "second"))
    kept = {f"refs/models/{place.key(name)}" for name in ("third", "fourth")}
    assert {ref for ref in place.refs(bare) if "models" in ref} == kept


def test_one_who_loses_the_race_leaves_the_winners_bytes_on_a_server_without_atomic_pushes(place):
    """The same key with other bytes: two runs trained it."""
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "config", "receive.advertiseAtomic", "false")
    winner, loser = (place.open(place.clone(name), push=True) for name in ("one", "two"))
    winner.accept(place.bundle("first"), 0, "bootstrap", "")
    before = place.refs(bare)
    other = place.bundle("first")
    (other.path / "model.skops").write_bytes(b"other bytes of the same inputs")
    with pytest.raises(Moved):
        loser.accept(Bundle(other.path), 0, "bootstrap", "")
    assert place.refs(bare) == before
