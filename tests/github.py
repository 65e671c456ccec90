"""A double of GitHub's REST API for one repository: what it holds are plain attributes, to be read by tests.

Each request and each answer is checked against GitHub's own description (tools/github_schemas.py), and the permission
that it needs is that of tools/github_needs.py. What is asked beyond
what is stood in for here is answered with 501, what the description does not allow with 422; both fail the test that
uses the double. What a token may do is what the permissions of its job grant: the `User-Agent`, which ends with
`/<workflow>/<job>`, says whose it is.
"""

import base64
import json
import re
import threading
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from act import REPOSITORY, TOKEN, ActError, dispatch_inputs, grants, read_workflows, repository, restricted, token_of
from github_needs import NEEDS, PULLS, level
from jsonschema import Draft202012Validator

__all__ = ["GitHub", "grants"]

DESCRIPTION = json.loads((Path(__file__).parent / "standins/github/openapi.json").read_text(encoding="utf-8"))
ROOT, BY_ID = f"/repos/{REPOSITORY}", "/repositories/1"  # GitHub's own links name a repository by its number
BOT = {"login": "github-actions[bot]", "type": "Bot"}
TIME = "2026-01-01T00:00:00Z"


class Refused(Exception):
    """An answer that is no success: its status and GitHub's message."""

    def __init__(self, status, message, **more):
        super().__init__(message)
        self.status, self.told = (
            status,
            {"message": message, **more, "documentation_url": "https://docs.github.com/rest"},
        )


def exists(resource, field):
    return Refused(422, "Validation Failed", errors=[{"resource": resource, "code": "already_exists", "field": field}])


class GitHub:
    """The double, which listens while it is entered.

    Attributes:
        comments: number of an issue or pull request -> its comments, as `id`, `body`, `user`, `html_url`.
        issues: `number`, `title`, `body`, `state`, `labels`, ...
        pulls: number -> what an event told of it, see `open`, or a workflow that opened it.
        may_open: whether the repository lets a workflow open pull requests.
        releases: `id`, `tag_name`, `draft`, `assets`, ...; an asset holds its `bytes`.
        latest: `make_latest` of the last request that made or changed a release.
        dispatches: `workflow`, `ref` and `inputs` of each start of a workflow.
        attestations: `job`, `subject`, `predicate_type` and `predicate` of each.
        merges: `number`, `head` and `way` of each merge; unmergeable: why GitHub merges nothing, None: it does.
        switched: file of a workflow -> its state, where that is or was another one than active.
        checks, statuses: commit -> what is said of it, to be set by a test.
        deployments, runs: `environment`, `sha` and `state`, and `workflow`, `sha` and, where it has not ended, its
            `status`, oldest first; see `ran`.
        refs: the branches and tags at which a workflow can be started, to be added to by a test.
        requests: (workflow/job, method, path, status), the path within the repository.
        read_only: every token is that of a fork. private: reading needs a grant, too, and only an `enterprise` attests.
        violations: what no client of GitHub may ask; not empty, it fails the test.
    """

    def __init__(self, grants, project=None, *, read_only=False, private=False, enterprise=False):
        self.grants, self.read_only, self.private, self.enterprise = grants, read_only, private, enterprise
        self.workflows = {path.name: workflow for path, workflow in read_workflows(project).items()} if project else {}
        self.refs, self.may_open = {"main"}, True
        self.comments, self.issues, self.pulls, self.checks, self.statuses = {}, [], {}, {}, {}
        self.switched = {}
        self.deployments, self.runs, self.merges, self.unmergeable = [], [], [], None
        self.releases, self.dispatches, self.attestations, self.requests, self.violations = [], [], [], [], []
        self.latest, self._faults, self._ids, self._lock = None, [], 0, threading.RLock()

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.double, self.port = self, self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if kind is None:
            self.assert_clean()

    def assert_clean(self):
        assert not self.violations, "\n".join(self.violations)

    @property
    def writes(self):
        """What was asked for that changes something, in order, as "POST releases"."""
        return [f"{method} {path}" for _, method, path, _ in self.requests if method != "GET"]

    def environment(self, job):
        """What a job, "workflow/job", has in its environment to ask with."""
        workflow, _, name = job.partition("/")
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_JOB": name,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "7",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_WORKFLOW": workflow,
        }

    def open(self, payload):
        """Takes over what the event of a pull request says, with the rights that its token has."""
        self.pulls[payload["number"]] = {"state": "open", **payload["pull_request"]}
        self.read_only, self.private = restricted(payload), payload["repository"]["private"]

    def ran(self, run):
        """Takes over what GitHub notes of a run by itself: that it was, and what its jobs deployed."""
        self.runs += [{"workflow": f"{name}.yml", "sha": run.sha} for name in sorted(run.workflows)]
        for environment, result in run.deployments:
            for earlier in self.deployments:  # as GitHub has it, the last success is the only one that is active
                if result == "success" == earlier["state"] and earlier["environment"] == environment:
                    earlier["state"] = "inactive"
            told = {"environment": environment, "sha": run.sha, "state": result}
            self.deployments.append({"id": self._id(), **told})

    def fail(self, method, path, status, times=1, *, headers=None, done=False):
        """The next requests of this kind fail. path: a regular expression. status 0: the connection ends unanswered.

        done: the request has its effect, and only its answer is lost.
        """
        self._faults.append([method, path, times, status, headers or {}, done])

    # --- One request --------------------------------------------------------------------------------------------------

    def answer(self, method, target, headers, content):
        """The status, headers and content of an answer."""
        with self._lock:
            url = urlsplit(target)
            path = url.path.replace(BY_ID, ROOT, 1) if url.path.startswith(BY_ID) else url.path
            if path.startswith("/storage/"):
                return self._storage(path, headers)
            job = headers.get("User-Agent", "").partition("/")[2]
            told = path.removeprefix(ROOT).removeprefix("/") if path.startswith(ROOT) else path
            fault = next(
                (each for each in self._faults if each[0] == method and re.search(each[1], told) and each[2]), None
            )
            more, result = {}, None
            if fault:
                fault[2] -= 1
            if not fault or fault[5]:
                try:
                    status, result, more = self._dispatch(job, method, path, url.query, headers, content)
                except Refused as no:
                    status, result = no.status, no.told
            if fault:
                status, result, more = fault[3], {"message": "injected"}, fault[4]
            self.requests.append((job, method, told, status))
            return status, more, b"" if result is None else json.dumps(result).encode()

    def _dispatch(self, job, method, path, query, headers, content):
        known = (f"Bearer {TOKEN}", f"Bearer {token_of(job)}")  # that of an action's input is one for the run under act
        if headers.get("Authorization") not in known or job not in self.grants:
            raise Refused(401, "Bad credentials")
        if headers.get("X-GitHub-Api-Version", "2022-11-28") != "2022-11-28":
            raise Refused(400, "this version of the API is not stood in for")
        name, operation, found = self._operation(job, method, path)
        what = f"{job}: {method} {path}"
        try:
            self._allow(job, name, found)
            query = self._query(operation, query, what)
            if operation["id"] == "repos/upload-release-asset":
                body = {"content": content, "content_type": headers.get("Content-Type")}
            else:
                body = self._body(operation, content, what)
            request = _Request(self, job, query, body, headers.get("Accept", ""), path)
            status, result = getattr(self, "_" + re.sub(r"\W", "_", operation["id"]))(request, **found)
        except Refused as no:
            if rule := operation["responses"].get(str(no.status)):
                self._valid(rule, no.told, 500, f"the double: {method} {path}")
            raise
        if left := [*request.query, *request.body]:
            raise self._violation(501, f"{what}: {', '.join(left)}: not stood in for")
        return status, self._checked(operation, status, result, f"{method} {path}"), request.headers

    def _operation(self, job, method, path):
        for name, operation in DESCRIPTION["operations"].items():
            if not hasattr(self, "_" + re.sub(r"\W", "_", operation["id"])):
                continue  # another stand-in's
            wanted, _, template = name.partition(" ")
            numbers = [key for key, rule in operation["path"].items() if rule.get("type") == "integer"]
            kinds = dict.fromkeys(numbers, r"\d+") | {"ref": ".+", "tag": ".+"}  # these may hold slashes
            pattern = re.sub(
                r"\{(\w+)\}", lambda key, kinds=kinds: f"(?P<{key[1]}>{kinds.get(key[1], '[^/]+')})", template
            )
            if wanted == method and (found := re.fullmatch(re.escape(ROOT) + pattern, path)):
                parts = found.groupdict()
                return name, operation, {key: int(parts[key]) if key in numbers else parts[key] for key in parts}
        raise self._violation(501, f"{job}: {method} {path}: not stood in for")

    def _violation(self, status, message):
        self.violations.append(message)
        return Refused(status, message)

    def may(self, job, scope, level):
        """Whether the token of a job may read or write what a scope names."""
        granted = self.grants[job].get(scope, "none")
        return level == "read" and granted in ("read", "write") or granted == "write" and not self.read_only

    def _allow(self, job, name, found):
        scopes = set(NEEDS[name].any_of) - {"metadata"}  # which every token reads
        if "issues" in scopes and not self._is_pull(found):
            scopes.discard(PULLS)
        if (
            scopes
            and (level(name) == "write" or self.private)
            and not any(self.may(job, scope, level(name)) for scope in scopes)
        ):
            raise Refused(403, "Resource not accessible by integration")

    def _is_pull(self, found):
        number = found.get("issue_number")
        if "comment_id" in found:
            number = next(
                (n for n, all_ in self.comments.items() for c in all_ if c["id"] == found["comment_id"]), None
            )
        return number in self.pulls

    def _query(self, operation, text, what):
        query = {}
        for key, value in parse_qsl(text, keep_blank_values=True):
            rule = operation["query"].get(key)
            if rule is None:
                raise self._violation(422, f"{what}: there is no parameter {key}")
            query[key] = int(value) if rule.get("type") == "integer" and value.isdigit() else value
            self._valid(rule, query[key], 422, f"{what}: {key}")
        for key in operation["required"]:
            if not query.get(key):
                raise self._violation(422, f"{what}: {key} is missing")
        return query

    def _body(self, operation, content, what):
        rule = operation.get("body")
        if rule is None:
            if content:
                raise self._violation(422, f"{what}: takes no body")
            return {}
        try:
            body = json.loads(content)
        except ValueError:
            self._violation(400, f"{what}: the body is no JSON")
            raise Refused(400, "Problems parsing JSON") from None
        # GitHub ignores what it does not know; here it is a word that somebody got wrong.
        self._valid(rule | {"additionalProperties": False}, body, 422, what)
        return body

    def _valid(self, rule, value, status, what):
        validator = Draft202012Validator(rule | {"schemas": DESCRIPTION["schemas"]})
        if error := next(iter(validator.iter_errors(value)), None):
            raise self._violation(status, ": ".join(map(str, [what, *error.path, error.message[:300]])))

    def _checked(self, operation, status, result, what):
        """The answer with all that GitHub would say beside; empty where nothing here knows it."""
        if str(status) not in operation["responses"]:
            raise self._violation(500, f"the double: {what} never answers {status}")
        rule = operation["responses"][str(status)]
        if rule is None:
            return None
        result = _fill(rule, result)
        self._valid(rule, result, 500, f"the double: {what}")
        return result

    def _id(self):
        self._ids += 1
        return self._ids

    def _web(self, path):
        return f"https://github.com/{REPOSITORY}/{path}"

    # --- What it does; the names are those of GitHub's operations -----------------------------------------------------

    def _repos_get(self, request):
        return 200, {"id": 1, **repository(self.private)}

    def _pulls_get(self, request, pull_number):
        if pull_number not in self.pulls:
            raise Refused(404, "Not Found")
        return 200, self._pull(pull_number)

    def _pull(self, number):
        return {"html_url": self._web(f"pull/{number}")} | self.pulls[number]

    def _pulls_list(self, request):
        state, head = request.query.pop("state", "open"), request.query.pop("head", None)
        found = [
            self._pull(number) for number in sorted(self.pulls)[::-1] if state in ("all", self.pulls[number]["state"])
        ]
        return 200, request.page([each for each in found if head in (None, each["head"]["label"])])

    def _pulls_create(self, request):
        if not self.may_open:
            raise Refused(403, "GitHub Actions is not permitted to create or approve pull requests.")
        title, body, branch, base = (request.take(key) for key in ("title", "body", "head", "base"))
        label = f"{REPOSITORY.partition('/')[0]}:{branch}"
        if any(each["state"] == "open" and each["head"].get("label") == label for each in self.pulls.values()):
            raise Refused(422, f"A pull request already exists for {label}.")
        number = max([0, *self.pulls, *(each["number"] for each in self.issues)]) + 1
        self.pulls[number] = {"number": number, "title": title, "body": body, "state": "open", "user": BOT} | {
            "head": {"ref": branch, "label": label},
            "base": {"ref": base},
        }
        return 201, self._pull(number)

    def _pulls_update(self, request, pull_number):
        if pull_number not in self.pulls:
            raise Refused(404, "Not Found")
        for key in ("title", "body", "state"):
            self.pulls[pull_number][key] = request.take(key, self.pulls[pull_number][key])
        return 200, self._pull(pull_number)

    def _pulls_merge(self, request, pull_number):
        pull, head, way = self.pulls.get(pull_number), request.take("sha"), request.take("merge_method", "merge")
        if pull is None:
            raise Refused(404, "Not Found")
        if self.unmergeable:
            raise Refused(405, self.unmergeable)
        pull["state"] = "closed"
        self.merges.append({"number": pull_number, "head": head, "way": way})
        return 200, {"sha": head, "merged": True, "message": "Pull Request successfully merged"}

    def _checks_list_for_ref(self, request, ref):
        runs = self.checks.get(ref, [])
        return 200, {"total_count": len(runs), "check_runs": request.page(runs)}

    def _repos_get_combined_status_for_ref(self, request, ref):
        told = self.statuses.get(ref, [])
        states = {each["state"] for each in told}
        state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
        return 200, {"state": state, "sha": ref, "total_count": len(told), "statuses": request.page(told)}

    def _repos_list_deployments(self, request):
        place = request.query.pop("environment", "none")
        found = [each for each in self.deployments[::-1] if place in ("none", each["environment"])]
        told = [{key: each[key] for key in ("id", "sha", "environment")} for each in found]
        return 200, request.page(told)

    def _repos_list_deployment_statuses(self, request, deployment_id):
        for each in self.deployments:
            if each["id"] == deployment_id:
                return 200, request.page([{"id": each["id"], "state": each["state"]}])
        raise Refused(404, "Not Found")

    def _actions_list_workflow_runs(self, request, workflow_id):
        sha = request.query.pop("head_sha", None)
        if request.query.pop("branch", "main") != "main":
            return 200, {"total_count": 0, "workflow_runs": []}
        found = [each for each in self.runs if each["workflow"] == workflow_id and sha in (None, each["sha"])]
        told = [
            {"id": number, "head_sha": each["sha"], "status": each.get("status", "completed")}
            | {"html_url": self._web(f"actions/runs/{number}")}
            for number, each in enumerate(found, 1)
        ]
        return 200, {"total_count": len(found), "workflow_runs": request.page(told)}

    def _actions_list_repo_workflows(self, request):
        found = [
            {"id": number, "path": f".github/workflows/{name}", "state": self.switched.get(name, "active")}
            for number, name in enumerate(sorted(self.workflows), 1)
        ]
        return 200, {"total_count": len(found), "workflows": request.page(found)}

    def _actions_enable_workflow(self, request, workflow_id):
        self.switched[sorted(self.workflows)[int(workflow_id) - 1]] = "active"
        return 204, None

    def _actions_create_workflow_dispatch(self, request, workflow_id):
        workflow = self.workflows.get(workflow_id)
        if workflow is None:
            raise Refused(404, "Not Found")
        if "workflow_dispatch" not in workflow["on"]:
            raise Refused(422, "Workflow does not have 'workflow_dispatch' trigger")
        ref, inputs = request.take("ref"), request.take("inputs", {})
        if re.sub("^refs/(heads|tags)/", "", ref) not in self.refs:
            raise Refused(422, f"No ref found for: {ref}")
        try:
            dispatch_inputs(workflow, inputs)
        except ActError as error:
            raise Refused(422, str(error)) from None
        self.dispatches.append({"workflow": workflow_id, "ref": ref, "inputs": inputs})
        return 204, None

    def _repos_create_attestation(self, request):
        if self.private and not self.enterprise:
            raise Refused(403, "Feature not available for this private repository")
        bundle = request.take("bundle")
        try:
            statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
            told = {
                "subject": [{"name": each["name"], "digest": each["digest"]} for each in statement["subject"]],
                "predicate_type": statement["predicateType"],
                "predicate": statement["predicate"],
            }
        except (KeyError, TypeError, ValueError) as error:
            raise self._violation(422, f"{request.job}: the bundle holds no in-toto statement: {error!r}") from None
        self.attestations.append({"id": self._id(), "job": request.job, "bundle": bundle, **told})
        return 201, {"id": self.attestations[-1]["id"]}

    def _repos_list_attestations(self, request, subject_digest):
        kind, _, value = subject_digest.partition(":")
        found = [a for a in self.attestations if any(s["digest"].get(kind) == value for s in a["subject"])]
        if not found:
            raise Refused(404, "Not Found")
        return 200, {"attestations": [{"bundle": a["bundle"], "repository_id": 1} for a in found]}

    # Issues and comments

    def _issue(self, number):
        for issue in self.issues:
            if issue["number"] == number:
                return issue | {"comments": len(self.comments.get(number, []))}
        if number not in self.pulls:
            raise Refused(404, "Not Found")
        pull = self.pulls[number]
        told = {key: pull[key] for key in ("number", "title", "body", "state", "user")}
        links = {key: self._web(f"pull/{number}") for key in ("html_url", "url", "diff_url", "patch_url")}
        return told | {"html_url": links["html_url"], "pull_request": links, "labels": []}

    def _issues_get(self, request, issue_number):
        return 200, self._issue(issue_number)

    def _issues_list_for_repo(self, request):
        """Pull requests are issues, too."""
        state, labels = request.query.pop("state", "open"), request.query.pop("labels", "")
        since = request.query.pop("since", "")
        found = [self._issue(each) for each in sorted([*self.pulls, *(each["number"] for each in self.issues)])[::-1]]
        wanted = {label for label in labels.split(",") if label}
        found = [each for each in found if wanted <= {label["name"] for label in each["labels"]}]
        found = [each for each in found if (each.get("closed_at") or TIME) >= since]
        return 200, request.page([each for each in found if state in ("all", each["state"])])

    def _issues_create(self, request):
        number = max([0, *self.pulls, *(each["number"] for each in self.issues)]) + 1
        title, body, labels = str(request.take("title")), request.take("body", None), request.take("labels", [])
        if not title.strip():
            raise Refused(422, "Validation Failed", errors=[{"code": "missing_field", "field": "title"}])
        self.issues.append(
            {"id": self._id(), "number": number, "title": title, "body": body, "state": "open", "user": BOT}
            | {"labels": _labels(labels), "html_url": self._web(f"issues/{number}")}
        )
        return 201, self._issue(number)

    def _issues_update(self, request, issue_number):
        for issue in self.issues:
            if issue["number"] == issue_number:
                for key in ("title", "body", "state", "state_reason"):
                    issue[key] = request.take(key, issue.get(key))
                issue["closed_at"] = None if issue["state"] == "open" else _now()
                if "labels" in request.body:
                    issue["labels"] = _labels(request.take("labels"))
                return 200, self._issue(issue_number)
        raise Refused(404, "Not Found")

    def _issues_list_comments(self, request, issue_number):
        self._issue(issue_number)
        return 200, request.page(self.comments.get(issue_number, []))

    def _issues_create_comment(self, request, issue_number):
        self._issue(issue_number)
        comment = {"id": self._id(), "body": self._text(request), "user": BOT}
        kind = "pull" if issue_number in self.pulls else "issues"
        comment["html_url"] = self._web(f"{kind}/{issue_number}#issuecomment-{comment['id']}")
        self.comments.setdefault(issue_number, []).append(comment)
        return 201, comment

    def _comment(self, comment_id):
        for of_one in self.comments.values():
            for comment in of_one:
                if comment["id"] == comment_id:
                    return of_one, comment
        raise Refused(404, "Not Found")

    def _issues_get_comment(self, request, comment_id):
        return 200, self._comment(comment_id)[1]

    def _issues_update_comment(self, request, comment_id):
        comment = self._comment(comment_id)[1]
        comment["body"] = self._text(request)
        return 200, comment

    def _issues_delete_comment(self, request, comment_id):
        of_one, comment = self._comment(comment_id)
        of_one.remove(comment)
        return 204, None

    def _text(self, request):
        body = request.take("body")
        if not body.strip() or len(body) > 65_536:
            raise Refused(
                422, "body is too long (maximum is 65536 characters)" if body.strip() else "Body can't be blank"
            )
        return body

    # Releases; a draft is seen by who may write

    def _seen(self, request):
        return [each for each in self.releases if not each["draft"] or self.may(request.job, "contents", "write")]

    def _release(self, request, release_id):
        for release in self._seen(request):
            if release["id"] == release_id:
                return release
        raise Refused(404, "Not Found")

    def _told(self, release):
        return release | {
            "html_url": self._web(f"releases/tag/{release['tag_name']}"),
            "upload_url": f"{self.url}{ROOT}/releases/{release['id']}/assets{{?name,label}}",
            "published_at": None if release["draft"] else TIME,
            "author": BOT,
            "assets": [self._asset_told(asset) for asset in release["assets"]],
        }

    def _repos_list_releases(self, request):
        return 200, [self._told(each) for each in request.page(self._seen(request)[::-1])]

    def _repos_get_release(self, request, release_id):
        return 200, self._told(self._release(request, release_id))

    def _repos_get_release_by_tag(self, request, tag):
        for release in self.releases:
            if release["tag_name"] == tag and not release["draft"]:
                return 200, self._told(release)
        raise Refused(404, "Not Found")

    def _repos_create_release(self, request):
        release = {"id": self._id(), "assets": []}
        self._write(request, release, {"target_commitish": "main", "draft": False, "prerelease": False})
        self.releases.append(release)
        return 201, self._told(release)

    def _repos_update_release(self, request, release_id):
        release = self._release(request, release_id)
        self._write(request, release, {})
        return 200, self._told(release)

    def _write(self, request, release, defaults):
        names = ("tag_name", "target_commitish", "name", "body", "draft", "prerelease")
        self.latest = request.take("make_latest", None)  # of which GitHub's answer says nothing
        if re.fullmatch("[0-9a-f]{40}", request.body.get("target_commitish", "")):
            # Of a commit whose workflows differ from the default branch's: no permission of a job gives that right.
            raise Refused(403, "Resource not accessible by integration")
        after = release | {key: request.take(key, release.get(key, defaults.get(key))) for key in names}
        taken = {each["tag_name"] for each in self.releases if each is not release and not each["draft"]}
        if not after["draft"] and after["tag_name"] in taken:
            raise exists("Release", "tag_name")
        release |= after

    def _repos_delete_release(self, request, release_id):
        self.releases.remove(self._release(request, release_id))
        return 204, None

    def _repos_upload_release_asset(self, request, release_id):
        release, name = self._release(request, release_id), request.query.pop("name")
        content, kind = request.take("content"), request.take("content_type")
        if not re.fullmatch(r"\w([\w.+-]*\w)?", name, re.ASCII):
            raise self._violation(422, f"{request.job}: GitHub would rename the asset {name!r}")
        if not kind or not content:
            raise self._violation(422, f"{request.job}: the asset {name} has no content or no Content-Type")
        if name in {asset["name"] for asset in release["assets"]}:
            raise exists("ReleaseAsset", "name")
        asset = {"id": self._id(), "name": name, "size": len(content), "content_type": kind, "bytes": content}
        asset["digest"] = f"sha256:{sha256(content).hexdigest()}"
        release["assets"].append(asset)
        return 201, self._asset_told(asset)

    def _asset_told(self, asset):
        told = {key: value for key, value in asset.items() if key != "bytes"}
        return told | {"state": "uploaded", "url": f"{self.url}{ROOT}/releases/assets/{asset['id']}", "uploader": BOT}

    def _asset(self, request, asset_id):
        for release in self._seen(request):
            for asset in release["assets"]:
                if asset["id"] == asset_id:
                    return release, asset
        raise Refused(404, "Not Found")

    def _repos_list_release_assets(self, request, release_id):
        return 200, [self._asset_told(each) for each in request.page(self._release(request, release_id)["assets"])]

    def _repos_get_release_asset(self, request, asset_id):
        _, asset = self._asset(request, asset_id)
        if request.accept == "application/octet-stream":
            request.headers["Location"] = f"http://localhost:{self.port}/storage/{asset_id}"
            return 302, None
        return 200, self._asset_told(asset)

    def _repos_delete_release_asset(self, request, asset_id):
        release, asset = self._asset(request, asset_id)
        release["assets"].remove(asset)
        return 204, None

    def _storage(self, path, headers):
        """The store behind a redirection: another host, which wants no token."""
        found = [a for each in self.releases for a in each["assets"] if path == f"/storage/{a['id']}"]
        if headers.get("Authorization") or not found:
            self.violations.append(f"{path}: asked with a token, or not there")
            return 400, {}, b""
        return 200, {}, found[0]["bytes"]


class _Request:
    """What an operation takes out of a request; what it leaves there is not stood in for."""

    def __init__(self, double, job, query, body, accept, path):
        self.double, self.job, self.query, self.body, self.accept, self.path = (
            double,
            job,
            query,
            dict(body),
            accept,
            path,
        )
        self.asked, self.headers = dict(query), {}

    def take(self, key, *default):
        return self.body.pop(key, *default)

    def page(self, items):
        """One page of a list; the others are named in the header Link."""
        size, number = min(self.query.pop("per_page", 30), 100), self.query.pop("page", 1)
        last = max(1, -(-len(items) // size))
        places = {"next": number + 1, "last": last} if number < last else {}
        places |= {"prev": number - 1, "first": 1} if number > 1 else {}
        url = self.double.url + self.path.replace(ROOT, BY_ID, 1)
        links = (f'<{url}?{urlencode(self.asked | {"page": n})}>; rel="{name}"' for name, n in places.items())
        if places:
            self.headers["Link"] = ", ".join(links)
        return items[(number - 1) * size : number * size]


def _now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _labels(given):
    return [{"name": each} if isinstance(each, str) else {"name": each["name"]} for each in given]


def _resolved(rule):
    """A rule itself, whatever refers to it; of several, the first that is not null."""
    while True:
        if "$ref" in rule:
            rule = DESCRIPTION["schemas"][rule["$ref"].rpartition("/")[2]]
        elif choices := rule.get("anyOf") or rule.get("oneOf") or rule.get("allOf"):
            if "properties" in rule:
                return rule
            rule = next(
                (each for each in choices if _resolved(each).get("type") in ("object", ["object", "null"])), choices[0]
            )
        else:
            return rule


def _fill(rule, value):
    """A value with what its rule requires beside it."""
    rule = _resolved(rule)
    if isinstance(value, list):
        return [_fill(rule.get("items", {}), each) for each in value]
    if not isinstance(value, dict):
        return value
    rules = rule.get("properties", {})
    value = {key: _fill(rules.get(key, {}), each) for key, each in value.items()}
    return value | {key: _empty(rules.get(key, {})) for key in rule.get("required", []) if key not in value}


def _empty(rule):
    """The least that a rule allows."""
    if {"type": "null"} in rule.get("anyOf", []):
        return None
    rule = _resolved(rule)
    kind = rule.get("type", "object")
    if "enum" in rule:
        return rule["enum"][0]
    if isinstance(kind, list):
        return None
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}.get(kind, _fill(rule, {}))


class _Handler(BaseHTTPRequestHandler):
    def _any(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, content = self.server.double.answer(self.command, self.path, self.headers, content)
        if not status:
            return
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _any

    def log_message(self, *_):
        """What was asked is in `requests`."""
