"""Risk: a request to GitHub's API that its job, the repository's plan or its visibility does not allow."""

import re
import runpy

import github_calls
import github_rights
import pytest
from conftest import ROOT
from github import DESCRIPTION, GitHub, Refused
from github_needs import ACTIONS, COMMANDS, NEEDS

# What the double answers and nobody asks for yet.
SPARE = {
    "GET /attestations/{subject_digest}",  # by `gh attestation verify`
    "DELETE /releases/{release_id}",
    "GET /commits/{ref}/status",
    "GET /issues/comments/{comment_id}",
    "GET /issues/{issue_number}",
    "GET /pulls/{pull_number}",
    "GET /releases/assets/{asset_id}",
    "GET /releases/tags/{tag}",
}


@pytest.fixture(scope="module")
def workflows(tmp_path_factory):
    """The folders of the workflows, of the repository that is generated and of the template, and what they ask for."""
    tool = runpy.run_path(str(ROOT / "tools" / "workflows.py"))
    folders = tool["folders"](tmp_path_factory.mktemp("baked"))
    return folders, tool["asked"](*folders), tool["asked"]


@pytest.fixture(scope="module")
def code():
    return github_rights.modules()


def test_the_code_asks_for_exactly_what_the_table_names(code):
    asked = {call.operation for module in code.values() for call in module.calls}
    by_actions = {operation for operations in ACTIONS.values() for operation in operations}
    assert asked | by_actions | SPARE == set(NEEDS) | set(COMMANDS)
    assert not SPARE & (asked | by_actions)


def test_every_job_may_do_what_it_asks_for_and_is_given_the_token(workflows, code):
    _, asked, _ = workflows
    assert {(each.repository, f"{each.workflow}/{each.job}") for each in asked} == {
        ("generated", "approve/record"),
        ("generated", "collect/bring"),
        ("generated", "compare/decide"),
        ("generated", "deliver/accept"),
        ("generated", "deliver/attest"),
        ("generated", "deliver/staging"),
        ("generated", "deliver/production"),
        ("generated", "monitor/live"),
        ("generated", "monitor/probation"),
        ("generated", "monitor/missed"),
        ("generated", "release/attest"),
        ("generated", "release/publish"),
        ("generated", "update/look"),
        ("template", "newest/tell"),
        ("template", "release/attest"),
        ("template", "release/publish"),
    }
    assert github_rights.problems(asked, code) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "compare",
            "pull-requests: write",
            "pull-requests: read",
            "compare/decide: DELETE .* needs `issues: write` or",
        ),
        ("compare", "pull-requests: write", "issues: write", ""),
        ("update", "issues: write", "pull-requests: write", "update/look: POST /issues .* needs `issues: write`"),
        (
            "approve",
            "actions: write",
            "actions: read",
            r"approve/record: POST /actions/.* \(deliver\) needs `actions: w",
        ),
        (
            "release",
            "GITHUB_TOKEN: ${{ github.token }}",
            "OTHER: x",
            "release/publish: .* the step has no GITHUB_TOKEN",
        ),
        ("deliver", "attestations: write", "attestations: read", r"POST /attestations \(actions/attest\) needs"),
        ("monitor", "actions: write", "actions: read", r"monitor/(missed|probation): POST /actions/.* needs"),
        ("collect", "checks: read", "contents: write", r"collect/bring: GET /commits/.* \(propose\) needs"),
    ],
)
def test_a_job_that_loses_a_right_or_the_token_is_named(workflows, code, tmp_path, file, old, new, told):
    (generated, own), _, asked = workflows
    for path in generated["docker"].glob("*.yml"):
        text = path.read_text()
        assert path.stem != file or old in text
        (tmp_path / path.name).write_text(text.replace(old, new) if path.stem == file else text)
    found = github_rights.problems(asked({"docker": tmp_path}, own), code)
    assert re.search(told, "\n".join(found)) if told else not found


# --- What is read from the code ---------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path):
    """module(text) -> that module, read."""

    def module(text):
        (tmp_path / "module.py").write_text(text)
        return github_calls.Module(tmp_path / "module.py")

    return module


FORMS = {
    "of a client": ("github('POST', 'issues', {})", {"POST /issues"}),
    "of a new client": ("GitHub(environment)('GET', f'releases/{number}')", {"GET /releases/{release_id}"}),
    "with a query": ("github.pages('issues?state=open')", {"GET /issues"}),
    "an upload": ("github.upload(url, file)", {"POST /releases/{release_id}/assets"}),
    "by a name": ("path = f'issues/{n}'\n    github('GET', path)\n    path = 'x'", {"GET /issues/{issue_number}"}),
    "by two names": (
        "github, path = GitHub(a), 'releases'\n    path += f'/{n}/assets'\n    github.pages(path)",
        {"GET /releases/{release_id}/assets"},
    ),
    "handed to a function": (
        "made(f'issues/{n}')\n\ndef made(at):\n    github('PATCH', at)",
        {"PATCH /issues/{issue_number}"},
    ),
    "as it is there": (
        "at = f'releases/{n}' if n else None\n    github('PATCH' if at else 'POST', at or 'releases')",
        {"PATCH /releases/{release_id}", "POST /releases"},
    ),
    "one of two": (
        "github('GET', f'releases/{n}' if n else 'releases')",
        {"GET /releases/{release_id}", "GET /releases"},
    ),
}
BY_GH = {
    "read back": (
        "Setting('', 'PUT', 'actions/permissions', {'a': 1})\n    Setting('', 'PUT', f'rulesets/{n}', file)\n"
        "    ask(setting.path)",
        {"PUT /actions/permissions", "GET /actions/permissions", "PUT /rulesets/{ruleset_id}"},
    ),
    "made": ("make('', 'POST', 'keys', {})", {"POST /keys"}),
    "a command": ("words = ['gh', 'secret', 'set', x, '--env', y]\n    gh(words, '')", {"gh secret set --env"}),
    "a setting's": ("gh(root, setting.words(repository), '')", set()),
}


@pytest.mark.parametrize(("text", "operations"), FORMS.values(), ids=FORMS)
def test_a_request_is_found_in_each_form_in_which_it_can_be_written(module, text, operations):
    read = module(f"def act(n):\n    {text}\n")
    assert {call.operation for call in read.calls} == operations
    assert {call.where for call in read.calls} <= read.reached("act")


@pytest.mark.parametrize(("text", "operations"), BY_GH.values(), ids=BY_GH)
def test_a_request_through_gh_is_found_where_gh_is_known_and_nowhere_else(module, text, operations):
    text = f"def act(n):\n    {text}\n"
    assert {call.operation for call in module(f"from x import setup\n{text}").calls} == operations
    assert not module(text).calls


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("github('GET', path)", "module.py:2: path is not assigned where it can be read"),
        ("github(method(), 'issues')", "module.py:2: a text that cannot be read"),
        ("github('GET', 'issues/events')", "GET issues/events: no operation"),
        ("github('PUT', 'issues')", "PUT issues: no operation"),
        ("api = GitHub(environment)", "module.py:2: a client of another name than github"),
        ("path, api = '', GitHub(environment)", "module.py:2: a client of another name than github"),
        ("github.search('x')", "module.py:2: search is no request that is known"),
        ("from x import setup\n    gh(['gh', 'pr', 'list'], '')", "module.py:3: no command of gh"),
    ],
)
def test_a_request_that_cannot_be_read_or_is_not_in_the_table_is_named(module, text, told):
    with pytest.raises(github_calls.Unread, match=f"^{re.escape(told)}"):
        module(f"def act():\n    {text}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def act():\n    github('GET', 'issues')\n", "other.py: GET /issues in act: no verb leads to it"),
        ("import requests\nrequests.get(environment.api_url)\n", "other.py: api_url: GitHub is asked through "),
        ('run(["gh", "pr", "list"])\n', r'other.py: \["gh", : GitHub is asked through github/attested.py'),
    ],
)
def test_a_request_of_no_verb_or_past_the_client_is_named(workflows, code, module, text, told):
    found = github_rights.problems(workflows[1], code | {"other.py": module(text)})
    assert len(found) == 1 and re.match(told, found[0])


# --- What GitHub's description says besides ---------------------------------------------------------------------------

WHO = re.compile("collaborator access|admin (access|permissions)|write permission")  # the permission says that


def test_each_condition_in_githubs_description_is_in_the_table_and_each_note_stands_on_something():
    """A new version of the description can say more: then somebody has to look."""
    for name in set(NEEDS) - SPARE:
        need, told = NEEDS[name], DESCRIPTION["operations"][name]
        conditions = [each for each in told.get("conditions", []) if not WHO.search(each)]
        conditions += [each for key, each in told.get("restricts", {}).items() if key == "patterns_allowed"]
        for each in conditions:
            assert any(words in each for words in need.said), f"{name}: {each}"
        for words in need.said:
            assert any(words in each for each in conditions), f"{name}: {words}"
    for name, need in {**NEEDS, **COMMANDS}.items():
        assert bool(need.note) == bool(need.said or need.page), name


def test_the_double_wants_the_permission_of_the_table(tmp_path):
    """Of every operation that it answers, by a token that has all other permissions."""
    every = {permission for need in NEEDS.values() for permission in need.any_of}
    for name, need in NEEDS.items():
        for job, granted in (
            ("one/all", every),
            ("one/enough", set(need.any_of)),
            ("one/others", every - set(need.any_of)),
        ):
            double = GitHub({job: dict.fromkeys(granted, "write")}, private=True)
            double.pulls[1] = {}
            try:
                double._allow(job, name, {"issue_number": 1})
            except Refused as no:
                assert no.status == 403 and job == "one/others", name
            else:
                assert job != "one/others" or need.any_of == ("metadata",), name


def test_the_page_says_who_asks_for_what_with_which_permission_and_on_which_plan(workflows):
    lines = github_rights.chapter(workflows[1]).splitlines()
    for row, *parts in (
        (
            "POST /actions/workflows/{workflow_id}/dispatches",
            "| `actions: write` | approve/record<br>monitor/probation<br>monitor/missed |  |",
        ),
        ("GET /issues/{issue_number}/comments", "`issues: read` or `pull-requests: read`", "compare/decide"),
        ("POST /attestations", "deliver/attest<br>release/attest<br>the template's release/attest", "Enterprise Cloud"),
        ("PUT /actions/permissions/selected-actions", "`administration: write`", "public repository only"),
        ("POST /rulesets", "`make github-setup`<br>`make github-setup LEDGER_KEY=1`", 'Enterprise ("About rulesets")'),
    ):
        (line,) = [line for line in lines if line.startswith(f"| `{row}` |")]
        assert all(part in line for part in parts), line
