"""The double of GitHub's API is judged first: what it does, what it refuses, and that it says so at its end."""

import base64
import importlib.util
import json
import re
from hashlib import sha256

import pytest
import requests
from act import REPOSITORY, TOKEN, ActError, in_private, pull_request_payload
from conftest import ROOT
from github import DESCRIPTION, GitHub, grants

ALL = ("actions", "attestations", "contents", "issues")
GRANTS = {
    "all/all": dict.fromkeys(ALL, "write"),
    "all/none": {},
    "all/read": dict.fromkeys(ALL, "read"),
    **{f"only/{scope}": {scope: "write"} for scope in (*ALL, "pull-requests")},
}
STATEMENT = {
    "subject": [{"name": "image", "digest": {"sha256": "0" * 64}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {},
}
WORKFLOW = """
name: approve
on: {workflow_dispatch: {inputs: {key: {required: true}, sure: {type: boolean, default: false}}}}
permissions: {contents: read}
jobs:
  write: {runs-on: ubuntu-24.04, permissions: {issues: write}, steps: [{run: "true"}]}
  read: {runs-on: ubuntu-24.04, steps: [{run: "true"}]}
"""


@pytest.fixture
def double(tmp_path):
    """The double of a repository with one workflow that is started by hand, one that is not, and pull request 7."""
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/approve.yml").write_text(WORKFLOW)
    (tmp_path / ".github/workflows/ci.yml").write_text("name: ci\non: push\njobs: {}\n")
    with GitHub(GRANTS, tmp_path) as double:
        double.open(pull_request_payload("a" * 40, "b" * 40, "c" * 40, 7))
        yield double


@pytest.fixture
def ask(double):
    """ask(method, path, body) -> the answer, asked as one job; `data` and more go to requests."""
    session = requests.Session()
    session.trust_env = False

    def ask(method, path, body=None, job="all/all", **more):
        headers = {"Authorization": f"Bearer {TOKEN}", "User-Agent": f"conveyor/{job}"} | more.pop("headers", {})
        url = path if path.startswith("http") else f"{double.url}/repos/{REPOSITORY}/{path}".rstrip("/")
        return session.request(method, url, json=body, headers=headers, timeout=20, **more)

    yield ask
    session.close()


def attested(statement=STATEMENT):
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    return {"bundle": {"mediaType": "x", "verificationMaterial": {}, "dsseEnvelope": {"payload": payload}}}


def upload(ask, release, name, content=b"bytes", **more):
    place = release["upload_url"].partition("{")[0]
    headers = {"Content-Type": "application/octet-stream"}
    return ask("POST", place, params={"name": name}, data=content, headers=headers, **more)


def violated(double, words):
    """That just this was noted, which would have failed the test."""
    with pytest.raises(AssertionError, match=words):
        double.assert_clean()
    assert len(double.violations) == 1
    double.violations.clear()


# --- What it does -----------------------------------------------------------------------------------------------------


def test_a_comment_is_made_read_changed_and_deleted(double, ask):
    made = ask("POST", "issues/7/comments", {"body": "one"})
    assert made.status_code == 201 and made.json()["user"]["type"] == "Bot"
    place = f"issues/comments/{made.json()['id']}"
    assert ask("PATCH", place, {"body": "two"}).json()["body"] == "two" == ask("GET", place).json()["body"]
    assert [each["body"] for each in double.comments[7]] == ["two"]
    assert [each["id"] for each in ask("GET", "issues/7/comments").json()] == [made.json()["id"]]
    assert ask("DELETE", place).status_code == 204 and double.comments[7] == []
    assert ask("GET", place).status_code == ask("GET", "issues/8/comments").status_code == 404
    assert double.requests[0] == ("all/all", "POST", "issues/7/comments", 201)
    for body, words in ((" ", "Body can't be blank"), ("x" * 65_537, "body is too long")):
        refused = ask("POST", "issues/7/comments", {"body": body})
        assert refused.status_code == 422 and words in refused.json()["message"]


def test_an_issue_is_made_listed_by_its_labels_and_closed(double, ask):
    made = ask("POST", "issues", {"title": "Drift", "body": "much", "labels": ["monitor"]}).json()
    assert made["number"] == 8, "a pull request has a number, too"
    assert [each["number"] for each in ask("GET", "issues").json()] == [8, 7]
    assert "pull_request" in ask("GET", "issues/7").json() and "pull_request" not in made
    assert [each["number"] for each in ask("GET", "issues?labels=monitor&state=open").json()] == [8]
    closed = ask("PATCH", "issues/8", {"state": "closed", "state_reason": "completed", "labels": []}).json()
    assert (closed["state"], closed["labels"], closed["title"]) == ("closed", [], "Drift")
    assert ask("GET", "issues?labels=monitor&state=all").json() == []
    assert [each["number"] for each in ask("GET", "issues?state=closed").json()] == [8]
    assert double.issues[0]["state"] == "closed" and ask("GET", "issues/9").status_code == 404


def test_a_release_is_drafted_filled_published_and_deleted(double, ask):
    draft = ask("POST", "releases", {"tag_name": "v1", "draft": True, "name": "One", "body": "notes"}).json()
    assert draft["published_at"] is None and ask("GET", "releases/tags/v1").status_code == 404
    made = upload(ask, draft, "model.tar.gz")
    assert made.status_code == 201 and made.json()["digest"] == f"sha256:{sha256(b'bytes').hexdigest()}"
    assert double.releases[0]["assets"][0]["bytes"] == b"bytes"
    again = upload(ask, draft, "model.tar.gz")
    assert again.status_code == 422 and again.json()["errors"][0]["code"] == "already_exists"

    place = f"releases/{draft['id']}"
    assert ask("PATCH", place, {"draft": False}).json()["name"] == "One"
    (asset,) = ask("GET", "releases/tags/v1").json()["assets"]
    assert ask("GET", f"{place}/assets").json() == [asset] == [ask("GET", asset["url"]).json()]
    # The store is another host, and a client that sends it the token is told so.
    assert ask("GET", asset["url"], headers={"Accept": "application/octet-stream"}).content == b"bytes"
    assert ask("GET", f"{double.url}/storage/{asset['id']}").status_code == 400
    violated(double, "asked with a token")

    twice = ask("POST", "releases", {"tag_name": "v1"})
    assert twice.status_code == 422 and twice.json()["errors"][0]["field"] == "tag_name"
    assert ask("DELETE", f"releases/assets/{asset['id']}").status_code == 204 and double.releases[0]["assets"] == []
    assert ask("DELETE", place).status_code == 204 and double.releases == []
    assert ask("GET", place).status_code == ask("GET", asset["url"]).status_code == 404


def test_a_draft_is_seen_by_who_may_write(ask):
    draft = ask("POST", "releases", {"tag_name": "v1", "draft": True}).json()
    assert [each["id"] for each in ask("GET", "releases").json()] == [draft["id"]]
    assert ask("GET", "releases", job="all/read").json() == []
    assert ask("GET", f"releases/{draft['id']}", job="all/read").status_code == 404


@pytest.mark.parametrize(
    ("workflow", "body", "status", "words"),
    [
        ("approve.yml", {"ref": "main", "inputs": {"key": "1"}}, 204, ""),
        ("approve.yml", {"ref": "main"}, 422, "Required input 'key' not provided"),
        (
            "approve.yml",
            {"ref": "main", "inputs": {"key": "1", "kye": "1"}},
            422,
            r"Unexpected inputs provided: \['kye'\]",
        ),
        (
            "approve.yml",
            {"ref": "main", "inputs": {"key": "1", "sure": "yes"}},
            422,
            "not in the list of allowed values",
        ),
        ("approve.yml", {"ref": "topic", "inputs": {"key": "1"}}, 422, "No ref found for: topic"),
        ("ci.yml", {"ref": "main"}, 422, "does not have 'workflow_dispatch' trigger"),
        ("absent.yml", {"ref": "main"}, 404, "Not Found"),
    ],
    ids=["good", "required", "unknown", "type", "ref", "trigger", "workflow"],
)
def test_a_workflow_is_started_with_what_it_declares(double, ask, workflow, body, status, words):
    answer = ask("POST", f"actions/workflows/{workflow}/dispatches", body)
    assert answer.status_code == status
    if status == 204:
        assert double.dispatches == [{"workflow": workflow, **body}]
    else:
        assert re.search(words, answer.json()["message"]) and not double.dispatches


def test_repository_pull_request_checks_and_statuses_are_read(double, ask):
    told = ask("GET", "").json()
    assert (told["full_name"], told["visibility"], told["owner"]["type"]) == (REPOSITORY, "public", "Organization")
    pull = ask("GET", "pulls/7").json()
    assert (pull["head"]["sha"], pull["title"], pull["state"]) == ("b" * 40, "A change", "open")
    assert ask("GET", "pulls/8").status_code == 404
    double.checks["b" * 40] = [{"name": "ci", "status": "completed", "conclusion": "success"}]
    assert ask("GET", f"commits/{'b' * 40}/check-runs").json()["check_runs"][0]["conclusion"] == "success"
    assert ask("GET", "commits/release/1/status").json()["state"] == "pending"
    double.statuses["main"] = [{"context": "ci", "state": "success"}, {"context": "x", "state": "error"}]
    assert ask("GET", "commits/main/status").json()["state"] == "failure"


def test_an_attestation_is_kept_as_what_its_envelope_says(double, ask):
    made = ask("POST", "attestations", attested())
    kept = dict(*double.attestations)
    assert made.status_code == 201 and kept.pop("id") == made.json()["id"]
    assert kept.pop("bundle") == attested()["bundle"]
    assert ask("GET", f"attestations/sha256:{STATEMENT['subject'][0]['digest']['sha256']}").json()["attestations"]
    assert ask("GET", f"attestations/sha256:{'f' * 64}").status_code == 404
    assert kept == {
        "job": "all/all",
        "subject": STATEMENT["subject"],
        "predicate_type": STATEMENT["predicateType"],
        "predicate": {},
    }
    assert ask("POST", "attestations", attested({"subject": []})).status_code == 422
    violated(double, "no in-toto statement")
    double.open(in_private(pull_request_payload("a" * 40, "b" * 40, "c" * 40, 7)))
    assert ask("POST", "attestations", attested()).status_code == 403, "a private repository needs a paid plan for it"
    double.enterprise = True
    assert ask("POST", "attestations", attested()).status_code == 201


def test_a_long_list_comes_in_pages_and_each_names_the_next(double, ask):
    double.comments[7] = [{"id": n, "body": str(n), "user": None, "html_url": "x"} for n in range(250)]
    answer = ask("GET", "issues/7/comments?per_page=100")
    seen, pages = answer.json(), 1
    while "next" in answer.links:
        assert "/repositories/1/" in answer.links["next"]["url"], "GitHub names a repository by its number there"
        answer, pages = ask("GET", answer.links["next"]["url"]), pages + 1
        seen += answer.json()
    assert [each["id"] for each in seen] == list(range(250)) and pages == 3
    assert answer.links["first"]["url"].endswith("page=1") and len(ask("GET", "issues/7/comments").json()) == 30
    assert len(ask("GET", "issues/7/comments?per_page=1000").json()) == 100, "that is the most"


# --- What it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "words"),
    [
        ("POST", "issues/7/comments", {"body": {"text": "x"}}, 422, "'text' was unexpected|'body' is a required"),
        ("POST", "issues/7/comments", {"body": {"body": 5}}, 422, "body: 5 is not of type 'string'"),
        ("POST", "issues/7/comments", {"data": b"{"}, 400, "no JSON"),
        ("GET", "issues?label=x", {}, 422, "no parameter label"),
        ("GET", "issues?state=opened", {}, 422, "state: 'opened' is not one of"),
        ("GET", "issues/7/comments?page=two", {}, 422, "page: 'two' is not of type 'integer'"),
        ("DELETE", "issues/comments/1", {"body": {"x": 1}}, 422, "takes no body"),
        ("POST", "releases", {"body": {"tag": "v1"}}, 422, "'tag' was unexpected|'tag_name' is a required"),
        ("POST", "actions/workflows/approve.yml/dispatches", {"body": {"inputs": {}}}, 422, "'ref' is a required"),
        ("POST", "releases/1/assets", {"data": b"x"}, 422, "name is missing"),
        ("GET", "issues?creator=ada", {}, 501, "creator: not stood in for"),
        ("POST", "issues", {"body": {"title": "x", "assignees": ["ada"]}}, 501, "assignees: not stood in for"),
        ("DELETE", "issues/7", {}, 501, "not stood in for"),
        ("GET", "issues/seven", {}, 501, "not stood in for"),
        ("GET", "elsewhere", {}, 501, "not stood in for"),
        ("PUT", "pulls/7/update-branch", {"body": {}}, 501, "not stood in for"),
    ],
)
def test_what_github_does_not_describe_or_the_double_does_not_know_fails_the_test(
    double, ask, method, path, more, status, words
):
    assert ask(method, path, **more).status_code == status
    violated(double, words)


@pytest.mark.parametrize(("name", "content"), [("a model.bin", b"x"), (".hidden", b"x"), ("empty", b"")])
def test_an_asset_that_github_would_rename_or_refuse_fails_the_test(double, ask, name, content):
    release = ask("POST", "releases", {"tag_name": "v1"}).json()
    assert upload(ask, release, name, content).status_code == 422
    violated(double, "GitHub would rename|has no content")


def test_leaving_the_double_raises_what_was_noted_but_hides_no_other_failure():
    def visit(then):
        with GitHub({}) as double:
            double.violations.append("something")
            then()

    with pytest.raises(AssertionError, match="something"):
        visit(lambda: None)
    with pytest.raises(ZeroDivisionError):
        visit(lambda: 1 / 0)


def test_an_answer_that_github_would_not_give_fails_the_test(double, ask):
    ask("POST", "issues/7/comments", {"body": "x"})
    double.comments[7][0]["body"] = 5
    assert ask("GET", "issues/7/comments").status_code == 500
    violated(double, "the double: GET .*0: body: 5 is not of type 'string'")


WRITES = {
    "comment on a pull request": ("POST", "issues/7/comments", {"body": "x"}, {"issues", "pull-requests"}),
    "comment on an issue": ("POST", "issues/8/comments", {"body": "x"}, {"issues"}),
    "change a comment": ("PATCH", "issues/comments/1", {"body": "x"}, {"issues", "pull-requests"}),
    "issue": ("POST", "issues", {"title": "x"}, {"issues"}),
    "release": ("POST", "releases", {"tag_name": "v1"}, {"contents"}),
    "start": (
        "POST",
        "actions/workflows/approve.yml/dispatches",
        {"ref": "main", "inputs": {"key": "1"}},
        {"actions"},
    ),
    "attestation": ("POST", "attestations", attested(), {"attestations"}),
}


@pytest.mark.parametrize(("method", "path", "body", "scopes"), WRITES.values(), ids=WRITES)
def test_a_write_needs_the_permission_of_its_job_and_a_token_that_writes(double, ask, method, path, body, scopes):
    double._ids = 1
    double.comments[7] = [{"id": 1, "body": "", "user": None, "html_url": "x"}]
    double.issues.append({"id": 1, "number": 8, "title": "x", "body": "", "state": "open", "labels": [], "user": None})
    double.issues[0]["html_url"] = "x"
    for job in GRANTS:
        answer = ask(method, path, body, job=job)
        if job == "all/all" or job.partition("only/")[2] in scopes:
            assert answer.status_code in (200, 201, 204), job
            double.releases.clear()
        else:
            assert (answer.status_code, answer.json()["message"]) == (403, "Resource not accessible by integration"), (
                job
            )
    double.read_only = True
    assert {ask(method, path, body, job=job).status_code for job in GRANTS} == {403}


def test_a_pull_request_from_a_fork_or_of_dependabot_only_reads(double, ask):
    for change in ({"sender": {"login": "dependabot[bot]"}}, {"pull_request": {"head": {"repo": {"fork": True}}}}):
        payload = pull_request_payload("a" * 40, "b" * 40, "c" * 40, 7)
        payload["sender"] |= change.get("sender", {})
        payload["pull_request"]["head"]["repo"] |= {"fork": "pull_request" in change}
        double.open(payload)
        assert ask("POST", "issues/7/comments", {"body": "x"}).status_code == 403
        assert ask("GET", "issues/7/comments").json() == []


def test_a_private_repository_is_read_by_who_was_granted_it(double, ask):
    assert ask("GET", "issues/7/comments", job="all/none").status_code == 200
    double.private = True
    for job, status in (("all/none", 403), ("all/read", 200), ("only/pull-requests", 200), ("only/contents", 403)):
        assert ask("GET", "issues/7/comments", job=job).status_code == status
    assert ask("GET", "", job="all/none").json()["visibility"] == "private"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer other"},
        {"Authorization": None},
        {"User-Agent": "conveyor/all/other"},
        {"User-Agent": "conveyor"},
        {"User-Agent": None},
    ],
)
def test_who_does_not_say_what_job_it_is_or_has_another_token_is_nobody(double, ask, headers):
    assert ask("GET", "", headers=headers).status_code == 401
    assert double.requests[0][3] == 401


def test_failures_come_as_often_as_they_were_ordered(double, ask):
    double.fail("POST", "issues/7/comments", 503, times=2, headers={"Retry-After": "1"})
    answers = [ask("POST", "issues/7/comments", {"body": "x"}) for _ in range(3)]
    assert [each.status_code for each in answers] == [503, 503, 201]
    assert answers[0].headers["Retry-After"] == "1" and len(double.comments[7]) == 1
    double.fail("POST", "comments$", 502, done=True)
    assert ask("POST", "issues/7/comments", {"body": "x"}).status_code == 502
    assert len(double.comments[7]) == 2, "it was done, and only the answer got lost"
    double.fail("GET", "^issues/7$", 0)
    with pytest.raises(requests.ConnectionError):
        ask("GET", "issues/7")
    assert ask("GET", "issues/7").status_code == 200
    assert [each[3] for each in double.requests] == [503, 503, 201, 502, 0, 200]


# --- Where its rules come from ----------------------------------------------------------------------------------------


def test_rights_are_read_from_the_permissions_of_the_generated_workflows(project, tmp_path):
    told = grants(project.path)
    assert (
        told["deliver/accept"] == {"contents": "write", "id-token": "write", "deployments": "read"}
        and told["ci/ci"] == {}
    )
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/a.yml").write_text(WORKFLOW)
    assert grants(tmp_path) == {"approve/write": {"issues": "write"}, "approve/read": {"contents": "read"}}
    (tmp_path / ".github/workflows/a.yml").write_text(WORKFLOW.replace("{contents: read}", "write-all"))
    with pytest.raises(ActError, match="the permissions of read are 'write-all'"):
        grants(tmp_path)


def test_the_description_is_cut_to_what_is_used_and_says_null_as_a_json_schema_does():
    spec = importlib.util.spec_from_file_location("github_schemas", ROOT / "tools/github_schemas.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert set(tool.NEEDS) == set(DESCRIPTION["operations"])
    # What is not stood in for here are the settings, which tests/standins/gh.py stands in for.
    places = "actions/(permissions|variables)|codeowners|environments|keys|private-vulnerability-reporting|rulesets"
    settings = rf"PATCH |(GET|PATCH|POST|PUT) /({places})\b.*"
    for name, operation in DESCRIPTION["operations"].items():
        here = hasattr(GitHub, f"_{operation['id'].replace('/', '_').replace('-', '_')}")
        assert here != bool(re.fullmatch(settings, name)), name

    used = set()
    described = {
        "type": "object",
        "description": "prose",
        "properties": {
            "title": {"type": "string", "nullable": True, "enum": ["a"], "title": "prose", "x-more": 1},
            "user": {"nullable": True, "allOf": [{"$ref": "#/components/schemas/user"}]},
        },
        "required": ["title"],
    }
    assert tool.schema(described, used) == {
        "type": "object",
        "properties": {
            "title": {"type": ["string", "null"], "enum": ["a", None]},
            "user": {"anyOf": [{"allOf": [{"$ref": "#/schemas/user"}]}, {"type": "null"}]},
        },
        "required": ["title"],
    }
    assert used == {"user"}
