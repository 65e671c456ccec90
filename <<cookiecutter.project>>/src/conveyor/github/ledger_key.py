"""The ledger's key on GitHub, in two runs of an administrator through `gh`.

The first makes a deploy key, keeps its private half as a secret of environments that only main can use, and writes what
has to be reviewed: the signers, GitHub's host keys, the first event that must be signed. Once that is on main the
workflows sign and push with the key. The second run lets nobody else write the ledger.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse
from conveyor.core.files import write_text
from conveyor.core.git import Git
from conveyor.core.project import Project
from conveyor.github import setup
from conveyor.ledger.key import HOSTS, SIGNERS
from conveyor.ledger.ledger import ledger_of

NAME = "ledger"
# The jobs that write the ledger run in these; a release does so for a tag v*, which only maintainers make.
ENVIRONMENTS = {NAME: ("main", "v*"), "staging": ("main",), "production": ("main",)}
GUARDS = {"main", "versions"}  # the rulesets by which only reviewed code runs where the key is
VARIABLE = {"name": "LEDGER_ENVIRONMENT", "value": NAME}
Ask = Callable[[str], Any]


def rulesets() -> list[dict[str, Any]]:
    """Only deploy keys create or move the branch and the witnesses."""
    rules = [{"type": "creation"}, {"type": "update"}]
    places = {"ledger-key": ("branch", "refs/heads/ledger"), "ledger-key-tags": ("tag", "refs/tags/champion/*")}
    return [
        {
            "name": name,
            "target": target,
            "enforcement": "active",
            "bypass_actors": [{"actor_type": "DeployKey", "bypass_mode": "always"}],
            "conditions": {"ref_name": {"include": [ref], "exclude": []}},
            "rules": rules,
        }
        for name, (target, ref) in places.items()
    ]


def run(project: Project) -> str:
    """The first run, or the second one where main has the signers.

    Raises:
        Misuse: a ruleset or the plan's environments are missing, there is such a key already, or gh refuses a request.
    """
    host, repository = setup.where(project.root)

    def gh(words: list[str], what: str, given: bytes | None = None) -> bytes:
        return setup.gh(project.root, host, words, what, given)

    def ask(path: str) -> Any:
        return json.loads(gh(["gh", "api", f"repos/{repository}/{path}"], path.partition("?")[0]))

    def make(what: str, method: str, path: str, body: dict[str, Any]) -> None:
        request = setup.Setting(what, method, path, body)
        gh(request.words(repository), what, json.dumps(body).encode())
        print(f"github-setup {what}")

    there_are = ask("rulesets?includes_parents=false&per_page=100")
    if missing := GUARDS - {each["name"] for each in there_are if each["enforcement"] == "active"}:
        raise Misuse(
            f"github-setup: the ruleset {min(missing)!r} is not active, so anybody who may push could get the ledger's"
            " key; `make github-setup APPLY=1` makes it, then run this again"
        )
    if _on_main(project):
        known = {each["name"]: each["id"] for each in there_are}
        for body in rulesets():
            there = f"rulesets/{known[body['name']]}" if body["name"] in known else None
            make(f"ruleset {body['name']}", "PUT" if there else "POST", there or "rulesets", body)
        return "only the ledger's key writes the ledger now; have no other deploy key with write access"
    if (project.root / SIGNERS).is_file():
        raise Misuse(f"github-setup: {SIGNERS} is not on main of origin yet; merge it, fetch, and run this again")
    _environments(ask, make)
    if any(key["title"] == NAME for key in ask("keys?per_page=100")):
        mend = "delete it under Settings, Deploy keys, and run this again"
        raise Misuse(f"github-setup: there is a deploy key {NAME!r}, whose private half nobody can read; {mend}")
    hosts = json.loads(gh(["gh", "api", "meta"], "meta"))["ssh_keys"]
    private, public = _pair()
    for name in ENVIRONMENTS:
        words = ["gh", "secret", "set", "LEDGER_KEY", "--env", name, "--repo", f"{host}/{repository}"]
        gh(words, f"secret LEDGER_KEY of {name}", private.encode())
        print(f"github-setup secret LEDGER_KEY of {name}")
    make("the deploy key of the ledger", "POST", "keys", {"title": NAME, "key": public, "read_only": False})
    path = "actions/variables"
    if any(each["name"] == VARIABLE["name"] for each in ask(f"{path}?per_page=30")["variables"]):
        make("variable LEDGER_ENVIRONMENT", "PATCH", f"{path}/{VARIABLE['name']}", VARIABLE)
    else:
        make("variable LEDGER_ENVIRONMENT", "POST", path, VARIABLE)
    first = ledger_of(project).number + 1
    write_text(project.root / SIGNERS, f"# Who signs the events of the ledger; see docs/ledger.md.\nledger {public}\n")
    write_text(project.root / HOSTS, "".join(f"{host} {key}\n" for key in hosts))
    params = project.root / "params.yaml"
    write_text(params, signed_from(params.read_text(encoding="utf-8"), first))
    return (
        f"{SIGNERS}, {HOSTS} and ledger.signed_from: {first} in params.yaml are for a pull request now; once it is"
        " merged, run this again, which locks the ledger"
    )


def signed_from(text: str, first: int) -> str:
    """The text of params.yaml with ledger.signed_from.

    Raises:
        Misuse: the key is missing, or has a value already.
    """
    new, count = re.subn(r"(?m)^(  signed_from: )null( ?)( *)", lambda m: f"{m[1]}{first:<5}{m[3]}", text)
    if count != 1:
        raise Misuse("params.yaml: ledger.signed_from: has a value, or is missing; write `signed_from: null` first")
    return new


def _on_main(project: Project) -> bool:
    """Whether main of origin names the signers that are here."""
    git, here = Git(project.root), project.root / SIGNERS
    if not here.is_file():
        return False
    store = ledger_of(project).store
    main = store.at_origin("refs/heads/main").get("refs/heads/main", "")
    return git.succeeds("cat-file", "-e", f"{main}:{SIGNERS}") and (
        git.bytes("cat-file", "blob", f"{main}:{SIGNERS}") == here.read_bytes()
    )


def _environments(ask: Ask, make: Callable[[str, str, str, dict[str, Any]], None]) -> None:
    """Make the environments, and see that only these refs can use them: else the secret would be everybody's."""
    for name, refs in ENVIRONMENTS.items():
        there = {each["name"]: each for each in ask("environments?per_page=100").get("environments", ())}
        body = {**setup.protection(there.get(name, {})), "deployment_branch_policy": setup.MAIN_ONLY}
        try:
            make(f"environment {name}", "PUT", f"environments/{name}", body)
            now = {each["name"]: each for each in ask("environments?per_page=100").get("environments", ())}
        except Misuse as error:
            raise Misuse(f"{error}; the ledger's key needs environments, which this plan may not have") from None
        if now.get(name, {}).get("deployment_branch_policy") != setup.MAIN_ONLY:
            raise Misuse(
                f"github-setup: environment {name} took no rule for branches: this plan has none for this repository,"
                " and the ledger's key needs one; nothing was made"
            )
        place = f"environments/{name}/deployment-branch-policies"
        known = {branch["name"] for branch in ask(place).get("branch_policies", ())}
        for ref in refs:
            if ref not in known:
                kind = "tag" if ref.startswith("v") else "branch"
                make(f"only {ref} uses {name}", "POST", place, {"name": ref, "type": kind})
        if others := sorted(known - set(refs)):
            mend = "remove it under Settings, Environments, and run this again"
            raise Misuse(f"github-setup: {others[0]} can use environment {name}, and would get the key; {mend}")


def _pair() -> tuple[str, str]:
    """A new ed25519 key: the private half, and the public one as one line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", str(file)]
        try:
            subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            raise Misuse("github-setup: ssh-keygen is missing or failed; install OpenSSH, and run this again") from None
        public = file.with_suffix(".pub").read_text(encoding="utf-8").split()
        return file.read_text(encoding="utf-8"), " ".join(public[:2])
