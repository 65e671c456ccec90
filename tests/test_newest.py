"""Risk: a new release of a dependency breaks what users will bake, and nobody hears of it, or hears of it for ever."""

import base64
import os
import re
import shutil
import sys
import zipfile
from hashlib import sha256

import pytest
import yaml
from conftest import ROOT, run
from github import BOT, GitHub, grants

PRODUCT = "<<cookiecutter.project>>"
TITLE = "The newest dependencies break the tests"
JOBS = yaml.safe_load((ROOT / ".github/workflows/newest.yml").read_text())["jobs"]


def wheel(folder, name, version):
    """The smallest package that can be resolved."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    record = "".join(f"{path},sha256={digests[path]},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as packed:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            packed.writestr(path, text)


@pytest.fixture
def locks(tmp_path):
    """make(verb) where each lock holds version 1 of everything, and version 2 is out; returns what they hold then."""
    template, index = tmp_path / "template", tmp_path / "index"
    index.mkdir()
    for folder, wanted in (
        (PRODUCT, {"dev": "-r run.in\nours", "run": "-r model.in", "model": "shared", "serve": "", "update": ""}),
        ("", {"dev": "shared\ntheirs"}),
    ):
        place = template / folder
        (place / "requirements").mkdir(parents=True)
        shutil.copyfile(ROOT / folder / "Makefile", place / "Makefile")
        for name, text in wanted.items():
            (place / "requirements" / f"{name}.in").write_text(f"{text}\n")
    # A venv with nothing but uv: whatever else were run or installed would fail.
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/uv").symlink_to(os.path.join(sys.prefix, "bin", "uv"))
    found = [template / PRODUCT / "requirements" / f"{name}.txt" for name in ("dev", "run", "model", "serve", "update")]
    found.append(template / "requirements/dev.txt")
    for lock in found:
        lock.touch()

    def make(*words):
        stamps = (found[0].read_text() + found[-1].read_text(), found[0].read_text())
        for name, stamp in zip(("template.txt", "installed.txt"), stamps, strict=True):
            (venv / name).write_text(stamp)
        offline = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index), "UV_NO_CACHE": "1", "UV_NO_CONFIG": "1"}
        run("make", *words, f"VENV={venv}", "PYTHON=false", cwd=template, **offline)
        return [re.findall(r"(?m)^(\w+==\d+)", lock.read_text()) for lock in found]

    for name in ("ours", "shared", "theirs"):
        wheel(index, name, "1")
    assert make("upgrade") == [
        ["ours==1", "shared==1"],
        ["shared==1"],
        ["shared==1"],
        [],
        [],
        ["shared==1", "theirs==1"],
    ]
    for name in ("ours", "shared", "theirs"):
        wheel(index, name, "2")
    return make


def test_upgrade_brings_every_lock_to_the_newest_version_and_they_still_agree(locks):
    assert locks("upgrade") == [
        ["ours==2", "shared==2"],
        ["shared==2"],
        ["shared==2"],
        [],
        [],
        ["shared==2", "theirs==2"],
    ]


def test_without_it_a_lock_keeps_what_it_holds(locks):
    assert locks("lock") == [["ours==1", "shared==1"], ["shared==1"], ["shared==1"], [], [], ["shared==1", "theirs==1"]]


def test_the_workflow_tests_what_it_has_resolved_and_tells_with_the_result():
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in JOBS.items()}
    assert commands["test"] == ["make upgrade", "make test-python"]
    assert commands["tell"] == ["make tell"]
    assert JOBS["tell"]["needs"] == ["test"]
    assert JOBS["tell"]["if"] == "${{ !cancelled() }}"  # a failure is what it is for
    assert JOBS["tell"]["steps"][-1]["env"]["RESULT"] == "${{ needs.test.result }}"


@pytest.fixture
def github():
    with GitHub(grants(ROOT)) as github:
        yield github


@pytest.fixture
def tell(github):
    """tell(result) -> `make tell` as the job runs it, with the machine's own Python."""

    def tell(result, **env):
        settings = github.environment("newest/tell") | {"RESULT": result, "VENV": "none", "PATH": "/usr/bin:/bin"} | env
        return run(*JOBS["tell"]["steps"][-1]["run"].split(), cwd=ROOT, check=False, **settings)

    return tell


def test_a_failure_opens_one_issue_that_says_where_and_how_to_see_it(github, tell):
    assert tell("failure").returncode == 0
    (issue,) = github.issues
    assert (issue["title"], issue["state"]) == (TITLE, "open")
    assert "https://github.com/your-team/late-flights/actions/runs/7" in issue["body"]
    verbs = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    assert set(re.search(r"`make ([a-z -]+)`", issue["body"])[1].split()) <= set(verbs)


def test_the_next_failure_is_a_comment_on_it_and_the_next_success_closes_it(github, tell):
    for result in ("failure", "failure", "success"):
        assert tell(result).returncode == 0
    (issue,) = github.issues
    assert issue["state"] == "closed"
    still, again = (comment["body"] for comment in github.comments[1])
    assert still.startswith("They still do: https://") and again.startswith("They pass again: https://")
    assert tell("failure").returncode == 0
    assert [issue["state"] for issue in github.issues] == ["closed", "open"]


def test_a_success_or_an_answer_that_was_not_given_changes_nothing(github, tell):
    for result in ("success", "cancelled", "skipped"):
        assert tell(result).returncode == 0
    assert github.issues == [] and github.writes == []


def test_what_others_wrote_is_left_alone(github, tell):
    """Anybody may open an issue of that title, or a pull request, which GitHub lists among the issues."""
    somebody = {"login": "somebody", "type": "User"}
    github.pulls[2] = {"number": 2, "title": TITLE, "body": "", "state": "open", "user": BOT}
    github.issues += [
        {"number": 1, "title": TITLE, "state": "open", "user": somebody, "labels": []},
        {"number": 3, "title": f"{TITLE} of mine", "state": "open", "user": BOT, "labels": []},
    ]
    assert tell("success").returncode == tell("failure").returncode == 0
    assert [issue["state"] for issue in github.issues] == ["open"] * 3 and github.pulls[2]["state"] == "open"
    assert github.comments == {} and github.issues[2]["title"] == TITLE


def test_it_is_found_among_many_issues(github, tell):
    tell("failure")
    others = [{"number": 100 + n, "title": "Another", "state": "open", "user": BOT, "labels": []} for n in range(205)]
    github.issues[:0] = others
    assert tell("success").returncode == 0
    assert github.issues[-1]["state"] == "closed" and all(issue["state"] == "open" for issue in others)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"RESULT": "green"}, "RESULT: 'green' is no result of a job; .*"),
        ({"RESULT": ""}, "RESULT: not set; .*"),
        ({"GITHUB_RUN_ID": ""}, "GITHUB_RUN_ID: not set; .*"),
        ({"GITHUB_TOKEN": "wrong"}, "GitHub: GET .*: 401, Bad credentials; check the job's permissions and its token"),
    ],
    ids=["no result", "nothing", "no run", "wrong token"],
)
def test_what_is_wrong_with_the_job_is_one_line_and_makes_it_red(tell, one_line, env, said):
    done = tell("failure", **env)
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("make: ***"))
    one_line(done, 2, said)
