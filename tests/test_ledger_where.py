"""Risk: the ledger is read from, or written to, another repository than the team's."""

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from conveyor.core.errors import Misuse
from conveyor.core.git import ELSEWHERE, GitError
from conveyor.ledger.repository import place_of


def test_the_token_of_a_workflow_reaches_git_and_no_file(place, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret-token")
    monkeypatch.setenv("GITHUB_SERVER_URL", "http://127.0.0.1:9")
    ledger = place.open()
    ledger.store.git.variables.update(ledger.store.credentials())
    sent = ledger.store.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.1:9/owner/repo")
    assert sent == "AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0LXRva2Vu"
    with pytest.raises(GitError):  # and no other host sees it
        ledger.store.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.2:9/owner/repo")
    assert b"secret-token" not in (place.project.path / ".git" / "config").read_bytes()


def test_the_ledger_of_a_repository_in_a_subdirectory_is_found(place):
    inner = place.project.path / "models" / "late"
    inner.mkdir(parents=True)
    (inner / "params.yaml").write_bytes((place.project.path / "params.yaml").read_bytes())
    ledger = place.open(inner)
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    again = place.open(inner)
    assert again.bundle(again.pending().champion).files == place.bundle("first").files


def test_a_branch_of_somebody_elses_is_not_taken_for_a_damaged_ledger(place):
    place.project.git("branch", "ledger")
    place.project.git("tag", "champion/v1")
    with pytest.raises(Misuse, match="^ledger: the branch `ledger` .* holds no events: .*; it is not ours, rename it$"):
        place.open()
    place.project.git("branch", "-m", "ledger", "accounts")
    assert place.promote("first").champion()


def elsewhere(place) -> Path:
    """Another repository, of somebody else's."""
    other = place.folder / "other.git"
    place.project.git("clone", "--quiet", "--bare", str(place.project.path), str(other))
    return other


def test_variables_of_another_repository_do_not_reach_this_one(place, monkeypatch):
    """A hook of git sets them, and so does `git -c` around a command."""
    bare, other = place.remote(), elsewhere(place)
    before = place.refs(other)
    monkeypatch.setenv("GIT_DIR", str(other))
    monkeypatch.setenv("GIT_WORK_TREE", str(place.folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(place.folder / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / "objects"))
    monkeypatch.setenv("GIT_NAMESPACE", "elsewhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{other}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(bare))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'url.{other}.insteadOf={bare}'")
    place.promote("first", push=True)
    for name in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CONFIG_NOSYSTEM"]:
        monkeypatch.delenv(name)
    assert place.refs(other) == before and "refs/heads/ledger" in place.refs(bare)


def test_no_variable_that_git_calls_one_of_a_repository_reaches_another(place):
    names = place.project.git("rev-parse", "--local-env-vars").stdout.split()
    kept = [name for name in names if not ELSEWHERE.fullmatch(name) and name not in place.open().store.git.variables]
    assert len(names) > 10 and kept == []


@pytest.mark.parametrize("name", ["late (fetch).git", "late (push) [x] y.git", "late [blob:none].git"])
def test_an_origin_with_an_odd_name_is_one_place(place, name):
    bare = place.remote()
    place.project.git("remote", "set-url", "origin", str(bare.rename(place.folder / name)))
    assert place.promote("first", push=True).number == 2


def test_an_origin_that_is_pushed_to_another_repository_is_refused_with_the_mend(place):
    place.remote()
    place.project.git("remote", "set-url", "--push", "origin", str(elsewhere(place)))
    with pytest.raises(Misuse, match="^ledger: origin is pushed to another repository than it is fetched") as error:
        place.open()
    place.project.run("sh", "-c", str(error.value).split("`")[1])
    assert place.open().number == 0


def test_an_origin_whose_pushes_a_setting_sends_elsewhere_is_refused_with_the_mend(place):
    bare, other = place.remote(), elsewhere(place)
    name = f"url.{other}.pushInsteadOf"
    place.project.git("config", name, str(bare))
    with pytest.raises(Misuse, match=r"or remove the url\.\*\.pushInsteadOf that changes it$"):
        place.open(push=True)
    place.project.git("config", "--unset", name)
    assert place.open().number == 0


def test_a_lock_that_cannot_be_made_is_one_line(place):
    place.remote()
    (place.project.path / ".git/conveyor-ledger.lock").mkdir()
    with pytest.raises(Misuse, match="^ledger: origin cannot be read: .*conveyor-ledger.lock: Is a directory; this"):
        place.open()


def test_an_origin_with_two_urls_is_refused(place):
    place.remote()
    place.project.git("remote", "set-url", "--add", "origin", str(elsewhere(place)))
    with pytest.raises(Misuse, match="^ledger: origin has more than one URL"):
        place.open()


def test_a_remote_that_is_not_called_origin_is_refused_with_both_mends(place):
    place.remote()
    place.project.git("remote", "rename", "origin", "upstream")
    with pytest.raises(Misuse, match="^ledger: the remote is called upstream, .* called origin") as error:
        place.open()
    rename, remove = str(error.value).split("`")[1::2]
    place.project.run("sh", "-c", rename)
    assert place.open().store.remote
    place.project.git("remote", "rename", "origin", "upstream")
    place.project.run("sh", "-c", remove)
    assert not place.open().store.remote


@pytest.mark.parametrize(
    "one, other",
    [
        ("https://github.com/team/flights.git", "git@github.com:team/flights.git"),
        ("https://github.com/team/flights", "ssh://git@github.com/team/flights.git/"),
        ("https://ada@github.com/team/flights", "ssh://git@ssh.github.com:443/team/flights"),
        ("/srv/flights.git", "/srv/flights"),
    ],
)
def test_two_urls_of_one_repository_are_equal(one, other):
    assert place_of(one) == place_of(other)
    assert place_of(one) != place_of(other.replace("flights", "trains"))


def test_a_second_project_of_one_repository_is_refused(place):
    inner = place.project.path / "second"
    for name in ("params.yaml", "src/conveyor/SEAL"):
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        (inner / name).write_bytes((place.project.path / name).read_bytes())
    place.project.git("add", "second")
    for root in (place.project.path, inner):
        with pytest.raises(Misuse, match=r"^ledger: \./ and second/ are two projects, and a repository has one ledger"):
            place.open(root)


def test_a_project_whose_machinery_has_a_conflict_in_a_merge_is_one_project(place):
    """The index then has a file three times."""
    seal = "src/conveyor/SEAL"
    blob = place.project.git("rev-parse", f"HEAD:{seal}").stdout.strip()
    stages = "".join(f"100644 {blob} {stage}\t{seal}\n" for stage in (1, 2, 3))
    lines = f"0 {'0' * 40}\t{seal}\n{stages}".encode()
    subprocess.run(["git", "update-index", "--index-info"], cwd=place.project.path, input=lines, check=True)
    assert place.open().number == 0


def test_a_setting_for_every_origin_makes_none(place, monkeypatch):
    """`git remote` then lists an origin without a URL."""
    settings = place.folder / "settings"
    settings.write_text('[remote "origin"]\n\tprune = true\n[remote "upstream"]\n\tprune = true\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert not place.promote("first").store.remote
    bare = place.remote()
    assert place.promote("second", push=True).store.remote and "refs/heads/ledger" in place.refs(bare)


def test_what_a_person_has_set_for_their_own_pushes_does_no_harm(place):
    bare = place.remote()
    git = place.project.git
    git("tag", "--annotate", "--message", "of their own", "v0.0.1")
    for name, value in {
        "push.followTags": "true",
        "push.gpgSign": "true",
        "push.pushOption": "ci.skip",
        "push.default": "nothing",
        "push.recurseSubmodules": "only",
        "remote.origin.mirror": "true",
        "remote.origin.prune": "true",
        "fetch.pruneTags": "true",
        "fetch.all": "true",
        "core.hooksPath": str(place.folder),
        "commit.gpgSign": "true",
        "log.showSignature": "true",
        "diff.renames": "copies",
        "core.quotePath": "false",
        "diff.relative": "true",
        "diff.orderFile": str(place.folder / "nowhere"),
        "i18n.logOutputEncoding": "utf-16",
        "log.diffMerges": "off",
    }.items():
        git("config", name, value)
    (place.folder / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (place.folder / "pre-push").chmod(0o755)
    place.promote("first", push=True)
    ledger = place.promote("second", push=True)
    assert ledger.number == 4 and place.open().number == 4
    assert "refs/tags/v0.0.1" not in place.refs(bare) and "refs/tags/v0.0.1" in place.refs()


class Headers(BaseHTTPRequestHandler):
    """Notes the headers of each request, and answers that nothing is here."""

    seen: ClassVar[list[list[str]]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get_all("Authorization") or [])
        self.send_error(404)

    def log_message(self, *_) -> None:
        pass


def test_the_token_replaces_the_header_that_checkout_left(place, monkeypatch):
    """Two Authorization headers in one request are refused by GitHub."""
    server = HTTPServer(("127.0.0.1", 0), Headers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    place.project.git("remote", "add", "origin", f"{url}/team/flights")
    place.project.git("config", f"http.{url}/.extraheader", "AUTHORIZATION: basic Y2hlY2tvdXQ=")
    monkeypatch.setenv("GITHUB_TOKEN", "secret-token")
    monkeypatch.setenv("GITHUB_SERVER_URL", url)
    with pytest.raises(Misuse, match="^ledger: origin cannot be read"):
        place.open()
    server.shutdown()
    server.server_close()
    server.server_close()
    assert Headers.seen and all(seen == ["basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0LXRva2Vu"] for seen in Headers.seen)


class Page(BaseHTTPRequestHandler):
    """Answers each request with a page, as a proxy that wants a login does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")

    def log_message(self, *_) -> None:
        pass


@pytest.mark.parametrize("known", [True, False], ids=["a clone that has read it", "a new clone"])
def test_a_page_of_a_proxy_is_not_taken_for_an_origin_without_a_ledger(place, known):
    """git takes the page for a repository without refs: it would be the first champion's turn again."""
    bare = place.remote()
    place.promote("first", push=True)
    clone = place.clone("colleague")
    if known:
        place.open(clone)
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place.project.git("-C", str(clone), "remote", "set-url", "origin", f"http://127.0.0.1:{server.server_port}/flights")
    with pytest.raises(
        Misuse, match='^ledger: origin shows no branch at all; if it is new, .* "A new origin", else ch'
    ):
        place.open(clone)
    server.shutdown()
    server.server_close()
    place.project.git("-C", str(clone), "remote", "set-url", "origin", str(bare))
    assert place.open(clone).number == 2


def test_a_new_origin_has_no_ledger_yet(place):
    place.project.run("git", "init", "--quiet", "--bare", str(place.folder / "remote.git"))
    place.project.git("remote", "add", "origin", str(place.folder / "remote.git"))
    assert place.open().number == 0
    place.project.git("push", "--quiet", "--set-upstream", "origin", "main")
    assert place.open().number == 0 and place.promote("first", push=True).number == 2


def test_a_git_that_is_too_old_is_named(place, monkeypatch):
    # It knows no --path-format: `git rev-parse --verify` stops at an option that it does not know, without a word.
    script = 'case "$*" in version) echo "git version 2.30.2"; exit;; *--path-format*--verify*) exit 1;; esac'
    place.git_that(monkeypatch, script)
    with pytest.raises(Misuse, match=r"^git: git version 2.30.2 is too old; install 2.31 or newer$"):
        place.open()
    assert "It needs git 2.31, to sign 2.34." in (place.project.path / "docs/ledger.md").read_text()
