"""The commit of an event: its tree is made from its parent's, so it costs the same in a ledger of any length."""

from __future__ import annotations

from datetime import UTC, datetime

from conveyor.core.errors import Misuse
from conveyor.core.files import to_json
from conveyor.ledger.chain import SUMMARY
from conveyor.ledger.events import SCHEMA, Event, path_of
from conveyor.ledger.state import State
from conveyor.ledger.store import Store


def commit_of(store: Store, state: State, head: str | None, event: Event) -> str:
    """The commit that adds an event to the branch; no ref names it yet.

    Args:
        state: the events before it.
        head: their last commit.

    Raises:
        Misuse: it has to be signed, and there is no key.
        GitError: git cannot store it.
    """
    events, folder, name = path_of(event.number).split("/")
    # The files of schema 1 stay where they are: in the commits before.
    old = bool(state.events) and state.events[-1].schema_ == SCHEMA
    folders = _entries(store, f"{head}:{events}") if old else {}
    files = _entries(store, f"{head}:{events}/{folder}") if folder in folders else {}
    files[name] = f"100644 blob {_blob(store, event.stored())}"
    folders[folder] = f"040000 tree {_tree(store, files)}"
    root = {
        SUMMARY: f"100644 blob {_blob(store, to_json(state.summary(event)))}",
        events: f"040000 tree {_tree(store, folders)}",
    }
    message = f"{event.number:06d} {event.type} {event.key[:12]}"
    words = ["commit-tree", "-S" if store.key else "--no-gpg-sign", _tree(store, root), "-F", "-"]
    words += ["-p", head] if head else []
    return store.git(*_signing(store, event), *words, stdin=message.encode(), more=_by(event))


def _signing(store: Store, event: Event) -> list[str]:
    first = store.project.params.ledger.signed_from
    if store.key:
        return store.key.signing()
    if first is not None and event.number >= first:
        raise Misuse(
            f"ledger: events from {first} on are signed, and LEDGER_KEY is not given: the workflows write this ledger"
        )
    return []


def _by(event: Event) -> dict[str, str]:
    """Author and committer: nobody's name, and the time of the event."""
    seconds = int(datetime.strptime(event.time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    about = {"NAME": "ledger", "EMAIL": "ledger@invalid", "DATE": f"@{seconds} +0000"}
    return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in about.items()}


def _entries(store: Store, tree: str) -> dict[str, str]:
    """The entries of a tree by name, as `git mktree` takes them."""
    listed = store.git("ls-tree", "--full-tree", tree).splitlines()
    return {name: about for about, _, name in (line.partition("\t") for line in listed)}


def _blob(store: Store, text: str) -> str:
    return store.git("hash-object", "-w", "--stdin", "--no-filters", stdin=text.encode())


def _tree(store: Store, entries: dict[str, str]) -> str:
    return store.git("mktree", stdin="".join(f"{about}\t{name}\n" for name, about in entries.items()).encode())
