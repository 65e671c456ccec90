"""The one-time settings of this repository on GitHub, as code: printed as commands, or made by `gh`.

The printed commands are those that are run. A second run does no harm: a ruleset of the same name is written again, and
a person's additions to an environment stay.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.core.git import Git, GitError, bounded

SECONDS = 60
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.\.?(?:\.git)?/?$)[A-Za-z0-9._-]+?"
REMOTE = rf"(?:(?:https|ssh|git)://(?:[^@/]*@)?([\w.-]+)(?::\d+)?/|(?:[^@/:]+@)?([\w.-]+):/?)({NAME})(?:\.git)?/?"
USES = re.compile(r"^\s*(?:- )?uses: ([\w.-]+)(/[\w./-]+)@", re.MULTILINE)
NUMBERED = "2026-07-15"  # from this day on the subjects of new and renamed repositories hold their numbers
MAIN_ONLY = {"protected_branches": False, "custom_branch_policies": True}
Ask = Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One request.

    Attributes:
        what: what it sets, in words.
        path: relative to the repository's URL.
        body: the body, or the file that holds it.
    """

    what: str
    method: str
    path: str
    body: dict[str, Any] | Path | None = None

    def words(self, repository: str) -> list[str]:
        """The command of this request; a body that is no file goes through standard input."""
        given = ["--input", str(self.body) if isinstance(self.body, Path) else "-"] if self.body else []
        return ["gh", "api", "--method", self.method, f"repos/{repository}/{self.path}".rstrip("/"), *given]

    def line(self, repository: str) -> str:
        """The command for a shell."""
        given = f"echo {shlex.quote(json.dumps(self.body))} | " if isinstance(self.body, dict) else ""
        return given + shlex.join(self.words(repository))


# A private repository cannot choose actions by name: GitHub ignores the patterns, so its workflows would stop.
ALL_ACTIONS = Setting(
    "actions run if they are named by a commit; a private repository cannot choose them",
    "PUT",
    "actions/permissions",
    {"enabled": True, "allowed_actions": "all", "sha_pinning_required": True},
)
# Settings that not every repository can have or needs: they are printed, for a person to decide.
OPTIONAL = (
    ALL_ACTIONS,
    Setting(
        "who lets a deployment to production through (public, or GitHub Enterprise); `gh api users/NAME` says an id",
        "PUT",
        "environments/production",
        {"reviewers": [{"type": "User", "id": 1}], "deployment_branch_policy": MAIN_ONLY},
    ),
    Setting("private reports of vulnerabilities (public)", "PUT", "private-vulnerability-reporting"),
)


def settings(root: Path, ask: Ask) -> Iterator[Setting]:
    """All settings in their order; ``ask`` returns what is at a path already."""
    if ask("").get("private"):
        yield ALL_ACTIONS
    else:
        yield Setting(
            "actions run if they are chosen, and named by a commit",
            "PUT",
            "actions/permissions",
            {"enabled": True, "allowed_actions": "selected", "sha_pinning_required": True},
        )
        yield Setting(
            "chosen are those of GitHub itself, and those that the workflows name",
            "PUT",
            "actions/permissions/selected-actions",
            {"github_owned_allowed": True, "verified_allowed": False, "patterns_allowed": _others(root)},
        )
    collects = params.load(root / "params.yaml").data.source is not None
    pulls = "may open pull requests, for `collect` (GitHub has one setting for that and for approvals)"
    yield Setting(
        f"a workflow may read unless its job asks for more, and {pulls if collects else 'approves no pull request'}",
        "PUT",
        "actions/permissions/workflow",
        {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": collects},
    )
    yield Setting(
        "pull requests are merged whole or squashed, and their branches go",
        "PATCH",
        "",
        {
            "allow_merge_commit": True,
            "allow_squash_merge": True,
            "allow_rebase_merge": False,
            "delete_branch_on_merge": True,
        },
    )
    known = {ruleset["name"]: ruleset["id"] for ruleset in ask("rulesets?includes_parents=false&per_page=100") or ()}
    for file in sorted((root / ".github/rulesets").glob("*.json")):
        name, file = _name(file), file.relative_to(root)
        there = f"rulesets/{known[name]}" if name in known else None
        yield Setting(f"ruleset {name}", "PUT" if there else "POST", there or "rulesets", file)
    environments = {there["name"]: there for there in ask("environments?per_page=100").get("environments", ())}
    for name in ("staging", "production"):
        kept = protection(environments.get(name, {}))
        place = f"environments/{name}"
        yield Setting(f"environment {name}", "PUT", place, {**kept, "deployment_branch_policy": MAIN_ONLY})
        place += "/deployment-branch-policies"
        if "main" not in (branch["name"] for branch in ask(place).get("branch_policies", ())):
            yield Setting(f"only main deploys to {name}", "POST", place, {"name": "main", "type": "branch"})


def _ignored(made: list[Setting], ask: Ask) -> list[str]:
    """The keys that GitHub does not show as they were sent: it can ignore one without a word."""
    found = []
    for setting in made:
        if isinstance(setting.body, dict) and setting.method in ("PUT", "PATCH"):
            there = ask(setting.path)
            place = f"{setting.path}: " if setting.path else ""
            # An environment shows its reviewers and waiting time in another form.
            keys = ["deployment_branch_policy"] if setting.path.startswith("environments/") else list(setting.body)
            found += [f"{place}{key} {setting.body[key]}" for key in keys if there.get(key) != setting.body[key]]
    return found


def subject(repository: dict[str, Any]) -> str:
    """The OIDC subject of this repository's jobs in the build environment, as GitHub writes it.

    Repositories that were created or renamed since NUMBERED have their numbers in it; a rename is not shown, so that of
    an older repository is given in both forms.

    Args:
        repository: as GitHub's API describes it.
    """
    owner, name = repository["owner"], repository["name"]
    plain = f"repo:{owner['login']}/{name}:environment:BUILD_ENVIRONMENT"
    numbered = f"repo:{owner['login']}@{owner['id']}/{name}@{repository['id']}:environment:BUILD_ENVIRONMENT"
    return numbered if str(repository["created_at"]) >= NUMBERED else f"{plain}, or if it was renamed since, {numbered}"


def _others(root: Path) -> list[str]:
    """The actions that are not GitHub's own, as patterns."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((root / ".github").rglob("*.y*ml"))]
    found = {owner + rest for text in texts for owner, rest in USES.findall(text) if owner not in ("actions", "github")}
    return [f"{name}@*" for name in sorted(found)]


def _name(file: Path) -> str:
    """The name of the ruleset in a file."""
    try:
        name = json.loads(file.read_bytes())["name"]
    except (ValueError, TypeError, KeyError):
        name = None
    if not isinstance(name, str):
        raise Misuse(f".github/rulesets/{file.name}: no ruleset with a name; `git checkout` brings it back")
    return name


def protection(environment: dict[str, Any]) -> dict[str, Any]:
    """The rules that a person has added besides the branches: a PUT without them would remove them."""
    kept: dict[str, Any] = {}
    for rule in environment.get("protection_rules", ()):
        if rule["type"] == "wait_timer":
            kept["wait_timer"] = rule["wait_timer"]
        if rule["type"] == "required_reviewers":
            kept["prevent_self_review"] = rule.get("prevent_self_review", False)
            kept["reviewers"] = [{"type": who["type"], "id": who["reviewer"]["id"]} for who in rule["reviewers"]]
    return kept


def where(root: Path) -> tuple[str, str]:
    """GitHub's host, and OWNER/NAME there, from GITHUB_REPOSITORY or else from the remote named origin.

    Raises:
        Misuse: neither names one. The URL is not in the line: it can hold a token.
    """
    host = urlsplit(os.environ.get("GITHUB_SERVER_URL") or "https://github.com").hostname or ""
    if given := os.environ.get("GITHUB_REPOSITORY"):
        if not re.fullmatch(NAME, given):
            raise Misuse(f"GITHUB_REPOSITORY: {given[:100]!r} is no repository; write it as OWNER/NAME")
        return host, given
    try:
        url = Git(root)("remote", "get-url", "origin")
    except GitError as error:
        raise Misuse(f"no repository on GitHub is known: {error}; set GITHUB_REPOSITORY=OWNER/NAME") from None
    found = re.fullmatch(REMOTE, url)
    # ssh's configuration can give the host another name, which could mean another GitHub.
    if not found or (found[1] or found[2]).lower() not in (host, f"ssh.{host}"):
        raise Misuse(f"the remote named origin is no repository on {host}; set GITHUB_REPOSITORY=OWNER/NAME")
    return host, found[3]


def run(root: Path, apply: bool) -> None:
    """Print the settings of a new repository; with ``apply`` make them.

    Raises:
        Misuse: gh is missing, or refuses a setting, which the line names; or GitHub refuses a line of CODEOWNERS.
    """
    host, repository = where(root)
    if not apply:
        print(f"# Once, by an administrator of {repository}, which has no such settings yet.")
        print("# `make github-setup APPLY=1` runs these; it updates what is there, and keeps what a person added.")
        print(f"export GH_HOST={host}")
        for setting in settings(root, lambda path: {}):
            print(f"\n# {setting.what}\n{setting.line(repository)}")
        for setting in OPTIONAL:
            print(f"\n# optional: {setting.what}\n# {setting.line(repository)}")
        form = r'"repo:\(.owner.login)@\(.owner.id)/\(.name)@\(.id):environment:BUILD_ENVIRONMENT"'
        print(
            "\n# the subject that a cloud role (AWS_ROLE) trusts, of a repository created or renamed since July 2026:"
        )
        print(f"# gh api repos/{repository} --jq {shlex.quote(form)}")
        return

    def ask(path: str) -> Any:
        what = path.partition("?")[0] or "the repository"
        try:
            return json.loads(gh(root, host, ["gh", "api", f"repos/{repository}/{path}".rstrip("/")], what))
        except ValueError:
            raise Misuse(f"github-setup: {what}: gh answered no JSON; update gh, and run it again") from None

    made = []
    for setting in settings(root, ask):
        given = json.dumps(setting.body).encode() if isinstance(setting.body, dict) else None
        gh(root, host, setting.words(repository), setting.what, given)
        print(f"github-setup {setting.what}")
        made.append(setting)
    if ignored := _ignored(made, ask):
        mend = "the plan, or a policy of the organisation, may forbid it. All else is set"
        raise Misuse(f"github-setup: GitHub did not take {', '.join(ignored)}; {mend}")
    for error in ask("codeowners/errors")["errors"]:
        mend = "name a person or an @organisation/team that may write here, push that to main, and run it again"
        raise Misuse(f"{error['path']}:{error['line']}: {error['kind']}; {mend}. All else is set")
    print(f"github-setup a cloud role (AWS_ROLE) trusts only {subject(ask(''))}")


def gh(root: Path, host: str, words: list[str], what: str, given: bytes | None = None) -> bytes:
    again = "what comes before it is set; mend that, and run it again"
    try:
        done = bounded(words, root, given, {**os.environ, "GH_HOST": host, "GH_PROMPT_DISABLED": "1"}, SECONDS)
    except FileNotFoundError:
        raise Misuse("gh is not installed; install GitHub's command line, and log in by `gh auth login`") from None
    except subprocess.TimeoutExpired:
        raise Misuse(f"github-setup: {what}: gh did not answer within {SECONDS} seconds; {again}") from None
    if done.returncode:
        told = " ".join(done.stderr.decode(errors="replace").split())[:300] or f"gh exited with {done.returncode}"
        raise Misuse(f"github-setup: {what}: {told}; {again}")
    return done.stdout
