"""Risk: the key that alone may write the ledger is anybody's, locks the team out, or is lost half-way."""

from pathlib import Path

import pytest
from engine import SshHost
from ledgers import Place, kinds
from standins import gh
from test_repository_settings import MAIN_ONLY, RULESETS, HostedRepository

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.github import ledger_key
from conveyor.github.ledger_key import GUARDS
from conveyor.ledger.key import HOSTS, SIGNERS


@pytest.fixture
def hosted(project, tmp_path, monkeypatch):
    """A repository with a ledger at an origin that GitHub's API knows as acme/late-flights."""
    hosted = HostedRepository(project, tmp_path)
    project.git("remote", "remove", "origin")
    hosted.place = Place(project, tmp_path)
    hosted.bare = hosted.place.remote()
    hosted.place.promote("first", push=True)
    for name, value in {"GITHUB_REPOSITORY": "acme/late-flights", "PATH": hosted.path}.items():
        monkeypatch.setenv(name, value)
    hosted.has(rulesets=[{**RULESETS[name], "id": number, "source": "acme"} for number, name in enumerate(GUARDS)])
    return hosted


def first_run(hosted) -> str:
    return ledger_key.run(Project(hosted.project.path))


def merged(hosted) -> None:
    """What the first run wrote is reviewed and merged."""
    hosted.project.git("add", ".github/ledger", "params.yaml")
    hosted.project.git("commit", "--quiet", "--message", "Events are signed")
    hosted.project.git("push", "--quiet", "origin", "HEAD:main")


def test_the_first_run_makes_a_key_for_environments_of_main_and_writes_what_is_reviewed(hosted):
    said = first_run(hosted)
    assert said.endswith("once it is merged, run this again, which locks the ledger")
    state = hosted.state
    [key] = state["keys"]
    assert (key["title"], key["read_only"]) == ("ledger", False)
    assert (hosted.project.path / SIGNERS).read_text().splitlines()[1] == f"ledger {key['key']}"
    assert (hosted.project.path / HOSTS).read_text().splitlines()[0] == "github.com ssh-ed25519 AAAAgithub"
    assert Project(hosted.project.path).params.ledger.signed_from == 3
    comment = [line for line in (hosted.project.path / "params.yaml").read_text().splitlines() if "signed_from" in line]
    assert comment[0].startswith("  signed_from: 3") and "# the first event that must be signed" in comment[0]
    assert set(state["secrets"]) == {"ledger", "staging", "production"} and len(set(state["secrets"].values())) == 1
    for name, refs in ledger_key.ENVIRONMENTS.items():
        there = state["environments"][name]
        assert there["deployment_branch_policy"] == MAIN_ONLY and "reviewers" not in there
        assert tuple(branch["name"] for branch in there["branches"]) == refs
    assert state["variables"] == {"LEDGER_ENVIRONMENT": "ledger"}
    assert {each["name"] for each in state["rulesets"]} == GUARDS, "nobody is locked out before the signers are on main"
    private = state["secrets"]["ledger"]
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY")
    texts = [path for path, text in hosted.project.texts().items() if "PRIVATE KEY-" in text and path.parts[0] != "src"]
    assert texts == []


def test_until_they_are_on_main_the_second_run_changes_nothing(hosted):
    first_run(hosted)
    before = hosted.state
    with pytest.raises(Misuse, match=f"^github-setup: {SIGNERS} is not on main of origin yet; merge it, fetch"):
        first_run(hosted)
    assert hosted.state["rulesets"] == before["rulesets"] and hosted.state["keys"] == before["keys"]


def test_the_second_run_lets_only_deploy_keys_write_the_branch_and_the_witnesses(hosted):
    first_run(hosted)
    merged(hosted)
    for _ in range(2):  # safe to repeat
        assert first_run(hosted).startswith("only the ledger's key writes the ledger now")
    rulesets = {each["name"]: each for each in hosted.state["rulesets"] if each["name"] not in GUARDS}
    assert set(rulesets) == {"ledger-key", "ledger-key-tags"}
    places = {(each["target"], *each["conditions"]["ref_name"]["include"]) for each in rulesets.values()}
    assert places == {("branch", "refs/heads/ledger"), ("tag", "refs/tags/champion/*")}
    for each in rulesets.values():
        assert [rule["type"] for rule in each["rules"]] == ["creation", "update"]
        assert each["bypass_actors"] == [{"actor_type": "DeployKey", "bypass_mode": "always"}]


def test_the_key_then_writes_signed_events_and_before_it_is_merged_the_token_does(hosted, monkeypatch):
    first_run(hosted)
    secret = hosted.state["secrets"]["ledger"]
    hosted.project.git("stash", "--quiet", "--include-untracked")
    monkeypatch.setenv("LEDGER_KEY", secret)  # as in a workflow, on main as it still is
    ledger = hosted.place.open(push=True)
    assert ledger.store.key is None
    hosted.project.git("stash", "pop", "--quiet")
    merged(hosted)
    hosted.place.promote("second", push=True)
    ledger = hosted.place.open()
    assert kinds(ledger) == ["accepted", "live"] * 2
    assert "gpgsig" in hosted.project.git("cat-file", "commit", ledger.head).stdout


@pytest.mark.parametrize("name", sorted(GUARDS))
@pytest.mark.parametrize("how", ["missing", "disabled"])
def test_a_key_that_code_without_a_review_could_read_is_not_made(hosted, name, how):
    """Who may push to main, or may push a tag v*, chooses what runs in the environment with the key."""
    kept = [each for each in hosted.state["rulesets"] if each["name"] != name]
    off = [{**RULESETS[name], "id": 9, "source": "acme", "enforcement": "disabled"}] if how == "disabled" else []
    hosted.has(rulesets=kept + off)
    with pytest.raises(Misuse, match=f"^github-setup: the ruleset '{name}' is not active, .*APPLY=1` makes it, then"):
        first_run(hosted)
    assert hosted.written() == [] and not (hosted.project.path / SIGNERS).exists()


def test_a_plan_without_environments_is_refused_before_a_key_is_made(hosted):
    hosted.has(fail={"PUT /environments/ledger": (1, "", "gh: Not Found (HTTP 404)")})
    with pytest.raises(Misuse, match="Not Found .*; the ledger's key needs environments, which this plan may not"):
        first_run(hosted)
    assert "keys" not in hosted.state and not (hosted.project.path / SIGNERS).exists()


def test_an_environment_that_took_no_rule_for_branches_is_refused_before_a_key_is_made(hosted, monkeypatch):
    right = gh.environment
    assert right("x", {"deployment_branch_policy": MAIN_ONLY})["deployment_branch_policy"] == MAIN_ONLY
    script = (hosted.bin / "gh").read_text()
    blind = hosted.bin / "blind.py"
    text = (
        Path(gh.__file__)
        .read_text(encoding="utf-8")
        .replace('policy = kept.get("deployment_branch_policy")', "policy = None")
    )
    blind.write_text(text.replace("Path(__file__).parent", f"Path({str(Path(gh.__file__).parent)!r})"))
    (hosted.bin / "gh").write_text(script.replace(gh.__file__, str(blind)))
    with pytest.raises(Misuse, match="environment ledger took no rule for branches: this plan has none .* nothing"):
        first_run(hosted)
    assert not (hosted.project.path / SIGNERS).exists()


def test_an_environment_that_another_branch_can_use_is_refused(hosted):
    there = {"deployment_branch_policy": MAIN_ONLY, "branches": [{"id": 1, "name": "feature/*", "type": "branch"}]}
    hosted.has(environments={"ledger": there})
    with pytest.raises(
        Misuse, match=r"^github-setup: feature/\* can use environment ledger, and would get the key; rem"
    ):
        first_run(hosted)
    assert "secrets" not in hosted.state


def test_a_key_of_the_name_that_is_there_is_not_replaced(hosted):
    hosted.has(keys=[{"title": "ledger", "key": "ssh-ed25519 AAAA", "read_only": False}])
    with pytest.raises(
        Misuse, match="^github-setup: there is a deploy key 'ledger', whose private half nobody can read"
    ):
        first_run(hosted)
    assert len(hosted.state["keys"]) == 1 and "secrets" not in hosted.state


def test_the_reviewers_and_rules_that_a_person_has_added_stay(hosted):
    hosted.has(environments={"production": {"reviewers": [{"type": "User", "id": 9}], "branches": []}})
    first_run(hosted)
    assert hosted.state["environments"]["production"]["reviewers"] == [{"type": "User", "id": 9}]


def test_a_value_that_is_set_already_is_not_written_over():
    with pytest.raises(Misuse, match="^params.yaml: ledger.signed_from: has a value, or is missing"):
        ledger_key.signed_from("ledger:\n  signed_from: 7\n", 3)
    text = "ledger:\n  models: null\n  signed_from: null           # why\n"
    assert ledger_key.signed_from(text, 12) == "ledger:\n  models: null\n  signed_from: 12             # why\n"


# The push itself, by ssh


@pytest.fixture
def over_ssh(place, monkeypatch, tmp_path):
    """A ledger at a host that is reached by ssh."""
    (tmp_path / "host").mkdir()
    host = SshHost(tmp_path / "host")
    bare = place.remote()
    secrets = host.secrets()
    monkeypatch.setenv("PATH", host.environment()["PATH"])
    monkeypatch.setenv("LEDGER_KEY", secrets["DEPLOY_KEY"])
    place.project.git("remote", "set-url", "origin", f"{host.url}{bare}")
    folder = place.project.path / ".github/ledger"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "signers").write_text(f"ledger {(tmp_path / 'host/user.pub').read_text()}")
    (folder / "known_hosts").write_text(secrets["DEPLOY_KNOWN_HOSTS"])
    host.start()
    yield place, bare
    host.stop()


def test_a_repository_whose_path_has_signs_of_ssh_and_of_the_shell_is_pushed_from_too(over_ssh, tmp_path):
    place, bare = over_ssh
    root = tmp_path / 'o\'brien 100%d "late"'
    place.project.path.rename(root)
    assert place.promote("first", root, push=True).number == 2 and "refs/heads/ledger" in place.refs(bare)


def test_it_is_pushed_by_ssh_with_the_key_and_only_to_the_host_that_is_known(over_ssh):
    place, bare = over_ssh
    assert place.promote("first", push=True).number == 2
    assert "refs/heads/ledger" in place.refs(bare)
    (place.project.path / HOSTS).write_text("[127.0.0.1]:1 ssh-ed25519 AAAA\n")
    with pytest.raises(Misuse, match="^ledger: origin did not take the event: .*; nothing was changed$"):
        place.promote("second", push=True)
    (place.project.path / HOSTS).unlink()
    with pytest.raises(Misuse, match=f"^{HOSTS}: missing; `make github-setup LEDGER_KEY=1` writes it$"):
        place.promote("second", push=True)
    assert place.open().number == 2
