"""What each operation of GitHub's REST API needs that is called here, or stood in for in the tests: the one table.

A permission has the name that workflows use. The level is `read` for a GET, `write` for all else. GitHub's page
"Permissions required for GitHub Apps" names the permission. It does not name that of the upload of an asset: here it is
the one of all other requests about releases.

tools/github_calls.py and tools/github_rights.py read the code by this table, tools/github_schemas.py cuts GitHub's
description to it, and the double in tests/github.py answers by it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """What one operation needs.

    Attributes:
        any_of: permissions of which one is enough; none is needed where it is empty.
        note: where plan, visibility or another setting decide, in our words.
        said: words of GitHub's description that the note stands on, one of each sentence; a test looks for them there.
        page: the page of GitHub's documentation that it stands on, where the description says nothing.
    """

    any_of: tuple[str, ...] = ()
    note: str = ""
    said: tuple[str, ...] = ()
    page: str = ""


# GitHub's page names both permissions for a comment on an issue or a pull request; here this one counts on the latter.
PULLS = "pull-requests"
ADMIN, CONTENTS, VARIABLES = Need(("administration",)), Need(("contents",)), Need(("variables",))
ISSUES = Need(("issues",))
ON_EITHER = Need(("issues", PULLS))
CHOSEN, SELECTED = "only where `allowed_actions` is `selected`", "must be configured to `selected`"
WORKFLOWS = "the commit must add or change no workflow file against the default branch"
PAID = "a private repository needs GitHub Pro, Team or Enterprise"
REVIEWERS = "reviewers and waiting times there Enterprise"
MANAGING = "Managing environments for deployment"

RULES = Need(ADMIN.any_of, PAID, page="About rulesets")
SHOWN, DEPLOYED = Need(("actions",)), Need(("deployments",))
DRAFTS = "drafts need a public repository or a paid plan; none is made here"
DRAFTED = ("Draft pull requests are available",)
OPENED = Need(
    (PULLS,),
    f"a workflow's token opens one only where a setting allows it, from a branch that it may write; {DRAFTS}",
    (*DRAFTED, "must have write access to the head", "must be a member of the organization"),
    "Managing GitHub Actions settings for a repository",
)
READS = "the token must be able to read the repository"
ATTESTED = Need(
    ("attestations",), "a private repository needs GitHub Enterprise Cloud", page="README of actions/attest"
)
RELEASED = Need(CONTENTS.any_of, WORKFLOWS, ("must be authorized to modify workflows", "cannot be authorized for this"))

NEEDS = {
    "GET ": Need(("metadata",), "settings of merges are shown to who may write", ("view merge-related settings",)),
    "PATCH ": ADMIN,
    "GET /actions/permissions": ADMIN,
    "PUT /actions/permissions": ADMIN,
    "GET /actions/permissions/selected-actions": Need(ADMIN.any_of, CHOSEN, (SELECTED,)),
    "PUT /actions/permissions/selected-actions": Need(
        ADMIN.any_of,
        f"{CHOSEN}; patterns count in a public repository only",
        (SELECTED, "`patterns_allowed` setting only applies to public repositories"),
    ),
    "GET /actions/permissions/workflow": ADMIN,
    "PUT /actions/permissions/workflow": ADMIN,
    "POST /actions/workflows/{workflow_id}/dispatches": SHOWN,
    "GET /actions/workflows": SHOWN,
    "PUT /actions/workflows/{workflow_id}/enable": SHOWN,
    "GET /actions/workflows/{workflow_id}/runs": SHOWN,
    "GET /actions/variables": VARIABLES,
    "POST /actions/variables": VARIABLES,
    "PATCH /actions/variables/{name}": VARIABLES,
    "POST /attestations": ATTESTED,
    "GET /attestations/{subject_digest}": Need(ATTESTED.any_of, READS, ("must have read access",)),
    "GET /codeowners/errors": CONTENTS,
    "GET /commits/{ref}/check-runs": Need(("checks",)),
    "GET /commits/{ref}/status": Need(("statuses",)),
    "GET /deployments": DEPLOYED,
    "GET /deployments/{deployment_id}/statuses": DEPLOYED,
    "GET /environments": SHOWN,
    "GET /environments/{environment_name}": SHOWN,
    "PUT /environments/{environment_name}": Need(ADMIN.any_of, f"{PAID}; {REVIEWERS}", page=MANAGING),
    "GET /environments/{environment_name}/deployment-branch-policies": SHOWN,
    "POST /environments/{environment_name}/deployment-branch-policies": Need(ADMIN.any_of, PAID, page=MANAGING),
    "GET /issues": ISSUES,
    "POST /issues": ISSUES,
    "DELETE /issues/comments/{comment_id}": ON_EITHER,
    "GET /issues/comments/{comment_id}": ON_EITHER,
    "PATCH /issues/comments/{comment_id}": ON_EITHER,
    "GET /issues/{issue_number}": ISSUES,
    "PATCH /issues/{issue_number}": ON_EITHER,
    "GET /issues/{issue_number}/comments": ON_EITHER,
    "POST /issues/{issue_number}/comments": ON_EITHER,
    "GET /keys": ADMIN,
    "POST /keys": ADMIN,
    "PUT /private-vulnerability-reporting": ADMIN,
    "GET /pulls": Need((PULLS,), DRAFTS, DRAFTED),
    "POST /pulls": OPENED,
    "GET /pulls/{pull_number}": Need((PULLS,)),
    "PATCH /pulls/{pull_number}": OPENED,
    "PUT /pulls/{pull_number}/merge": CONTENTS,
    "GET /releases": Need(CONTENTS.any_of, "drafts are listed to who may write", ("listings for draft releases",)),
    "POST /releases": RELEASED,
    "DELETE /releases/assets/{asset_id}": CONTENTS,
    "GET /releases/assets/{asset_id}": CONTENTS,
    "GET /releases/tags/{tag}": CONTENTS,
    "DELETE /releases/{release_id}": CONTENTS,
    "GET /releases/{release_id}": CONTENTS,
    "PATCH /releases/{release_id}": RELEASED,
    "GET /releases/{release_id}/assets": CONTENTS,
    "POST /releases/{release_id}/assets": CONTENTS,
    "GET /rulesets": Need(("metadata",)),
    "POST /rulesets": RULES,
    "PUT /rulesets/{ruleset_id}": RULES,
}
# Commands of gh itself, which chooses the requests.
COMMANDS = {
    "gh api meta": Need(),
    "gh attestation verify": ATTESTED,
    "gh secret set --env": Need(("environments",), PAID, page=MANAGING),
}
# What a pinned action asks of the same API.
ACTIONS = {"actions/attest": ("POST /attestations",)}


def level(operation: str) -> str:
    """Whether an operation needs its permission to `read` or to `write`."""
    return "read" if operation.startswith(("GET ", "gh attestation verify")) else "write"
