"""Risk: a release is not what its tag says, is changed once it is out, or hangs half-made."""

import gzip
import io
import json
import os
import re
import shutil
import sys
import tarfile
from hashlib import sha256

import pytest
import yaml
from conftest import ROOT, run
from github import GitHub, grants

CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n- Later.\n\n## 1.4.0 - 2026-11-20\n\n- New.\n- Better.\n\n## 1.3.0\n\n- Old.\n"
)
ADDRESS = '{"_address": "https://github.com/your-team/late-flights"}\n'
TOOLS = ("tools/api.py", "tools/portable.py", "tools/release.py")
FILES = {"late-flights-1.4.0.tar.gz", "late-flights-1.4.0-portable.zip", "SHA256SUMS"}
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")


class TemplateRepository:
    """A repository of the template's own tools, as a job has it checked out."""

    def __init__(self, path, github):
        self.path, self.github = path, github
        self.built = path / "build" / "release"

    def git(self, *words):
        return run("git", *IDENTITY, *words, cwd=self.path).stdout.strip()

    def seal(self, version):
        place = self.path / "<<cookiecutter.project>>" / "src" / "conveyor" / "SEAL"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"conveyor {version}\n{'0' * 64}  src/conveyor/api.py\n")

    def commit(self, text, **files):
        for name, content in files.items():
            (self.path / name.replace("_", ".")).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", text)
        return self.git("rev-parse", "HEAD")

    def tool(self, verb, tag="v1.4.0", **env):
        settings = self.github.environment("release/publish") | {"TAG": tag} | env
        return run(sys.executable, "tools/release.py", verb, cwd=self.path, check=False, **settings)

    def release(self):
        """Both verbs, as the jobs of the workflow run them one after the other."""
        made = self.tool("files")
        assert made.returncode == 0, made.stderr
        return self.tool("publish")


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "template"
    (path / "tools").mkdir(parents=True)
    for name in ("Makefile", *TOOLS):
        shutil.copyfile(ROOT / name, path / name)
    with GitHub(grants(ROOT)) as github:
        template = TemplateRepository(path, github)
        template.git("init", "--quiet", "--initial-branch=main")
        template.seal("1.4.0")
        files = {"CHANGELOG_md": CHANGELOG, "_gitignore": "build/\n__pycache__/\n", "cookiecutter_json": ADDRESS}
        template.commit("All there is", **files)
        template.git("tag", "v1.4.0")
        yield template


def test_a_tag_on_main_becomes_a_release_with_its_notes_its_archive_and_their_sums(template):
    done = template.release()
    assert done.returncode == 0 and done.stdout.endswith("is out\n"), done.stderr
    (release,) = template.github.releases
    assert (release["tag_name"], release["draft"], release["body"]) == ("v1.4.0", False, "- New.\n- Better.\n")
    assert template.github.latest == "legacy"  # a mend of an old version does not become the latest
    contents = {asset["name"]: asset["bytes"] for asset in release["assets"]}
    assert set(contents) == FILES
    archive = contents["late-flights-1.4.0.tar.gz"]
    sums = [f"{sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(FILES - {"SHA256SUMS"}, reverse=True)]
    assert contents["SHA256SUMS"].decode() == "".join(sums)
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        names = {
            name.removeprefix("late-flights-1.4.0/")
            for name in packed.getnames()
            if not name.endswith("late-flights-1.4.0")
        }
    top = {name for name in names if not name.startswith("<<")}
    assert top == {".gitignore", "CHANGELOG.md", "Makefile", "cookiecutter.json", "tools", *TOOLS}
    assert "<<cookiecutter.project>>/src/conveyor/SEAL" in names


def test_nobody_sees_a_release_before_its_files_are_there(template):
    template.release()
    assert template.github.writes == ["POST releases", *["POST releases/1/assets"] * 3, "PATCH releases/1"]


def test_the_same_tag_gives_the_same_bytes_whoever_makes_them(template, tmp_path):
    template.tool("files")
    first = {name: (template.built / name).read_bytes() for name in FILES}
    run("git", "clone", "--quiet", template.path, tmp_path / "other", cwd=tmp_path)
    other = TemplateRepository(tmp_path / "other", template.github)
    other.git("config", "tar.umask", "0077")
    other.git("config", "core.autocrlf", "true")
    os.utime(other.path / "Makefile", (1, 1))
    (other.path / "Makefile").write_text("edited, and not committed\n")
    other.tool("files")
    assert {name: (other.built / name).read_bytes() for name in FILES} == first
    assert b"edited, and not committed" not in gzip.decompress(first["late-flights-1.4.0.tar.gz"])


@pytest.mark.parametrize(
    "tag", ["1.4.0", "v1.4", "v1.4.0-rc.1", "v01.4.0", "v1.4.0\n", "v1.4.0;id", "main", "-v1.4.0", "v٣.4.0"]
)
def test_a_tag_that_is_no_version_is_refused(template, one_line, tag):
    for verb in ("files", "publish"):
        one_line(template.tool(verb, tag=tag), 2, f"TAG: {re.escape(repr(tag))} is no version; name it like v1.4.0")
    assert not template.built.exists() and not template.github.requests


def test_without_a_tag_there_is_nothing_to_release(template, one_line):
    one_line(template.tool("files", tag=""), 2, "TAG: not set; .*")
    one_line(template.tool("files", tag="v9.0.0"), 2, "TAG: there is no tag v9.0.0 here; .*")
    template.git("branch", "v8.0.0")  # a branch of that name is none
    one_line(template.tool("files", tag="v8.0.0"), 2, "TAG: there is no tag v8.0.0 here; .*")


def test_a_commit_off_main_is_refused_and_one_behind_its_tip_is_not(template, one_line):
    template.git("checkout", "--quiet", "-b", "side")
    template.commit("Not reviewed")
    template.git("tag", "--force", "v1.4.0")
    one_line(template.tool("files"), 1, r"v1\.4\.0: its commit \w{12} is not on main; .*")
    template.git("checkout", "--quiet", "main")
    template.git("tag", "--force", "v1.4.0")
    template.commit("Later")
    assert template.tool("files").returncode == 0


def test_origin_says_what_main_is(template, tmp_path, one_line):
    """A main that was never pushed does not make a release."""
    run("git", "clone", "--quiet", template.path, tmp_path / "clone", cwd=tmp_path)
    clone = TemplateRepository(tmp_path / "clone", template.github)
    clone.commit("Here only")
    clone.git("tag", "--force", "v1.4.0")
    one_line(clone.tool("files"), 1, r"v1\.4\.0: its commit \w{12} is not on main; .*")
    clone.git("remote", "remove", "origin")
    clone.git("branch", "--move", "main", "trunk")
    one_line(clone.tool("files"), 2, "main: there is no such branch here; fetch it")


@pytest.mark.parametrize(
    "changelog",
    [
        "# Changelog\n\n## Unreleased\n\n- New.\n",
        "# Changelog\n\n## 1.4.0\n\n## 1.3.0\n\n- Old.\n",
        "# Changelog\n\n## 1.4.0\n",
        "# Changelog\n\n## 1.4.01\n\n- Another.\n",
        "# Changelog\n\n## 1x4x0\n\n- Another.\n",
        "# Changelog\n\n### 1.4.0\n\n- Deeper.\n",
    ],
    ids=["none", "empty", "last and empty", "longer", "no dots", "no section"],
)
def test_a_version_of_which_the_changelog_says_nothing_is_refused(template, one_line, changelog):
    template.commit("Another changelog", CHANGELOG_md=changelog)
    template.git("tag", "--force", "v1.4.0")
    (template.path / "CHANGELOG.md").write_text(CHANGELOG)  # what counts is what was tagged
    one_line(template.tool("files"), 1, r"CHANGELOG\.md: no section `## 1\.4\.0` with a word in it; .*")


@pytest.mark.parametrize("version", ["1.3.0", "1.4.00", "v1.4.0"])
def test_a_version_that_the_machinery_does_not_bear_is_refused(template, one_line, version):
    template.seal(version)
    template.commit("Another seal")
    template.git("tag", "--force", "v1.4.0")
    message = rf".*SEAL: says 'conveyor {version}', and the tag is v1\.4\.0; run `make seal VERSION=1\.4\.0`, .*"
    one_line(template.tool("files"), 1, message)


@pytest.mark.parametrize("address", ["https://github.com/eve/late-flights", "", None])
def test_a_release_whose_children_would_be_updated_from_elsewhere_is_refused(template, one_line, address):
    template.commit(
        "Another address", cookiecutter_json=json.dumps({"_address": address} if address is not None else {})
    )
    template.git("tag", "--force", "v1.4.0")
    said = f"cookiecutter.json: _address is {address!r}, and this is https://github.com/your-team/late-flights: .*"
    one_line(template.tool("files"), 1, said)


def test_a_release_with_a_name_that_windows_forbids_is_refused(template, one_line):
    product = template.path / "<<cookiecutter.project>>"
    (product / "what?.md").write_text("")
    template.commit("A question")
    template.git("tag", "--force", "v1.4.0")
    one_line(
        template.tool("files"),
        1,
        re.escape("<<cookiecutter.project>>/what?.md: {=cookiecutter.project=}/what?.md") + " .*",
    )


def test_a_repeated_run_finds_the_release_out_and_changes_nothing(template):
    template.release()
    before, writes = str(template.github.releases), template.github.writes
    done = template.release()
    assert done.returncode == 0 and "is out already, with these files" in done.stdout
    assert str(template.github.releases) == before
    assert template.github.writes == writes


def test_a_moved_tag_does_not_change_a_release_that_is_out(template, one_line):
    template.release()
    before = str(template.github.releases)
    template.commit("One more")
    template.git("tag", "--force", "v1.4.0")
    one_line(template.release(), 1, r"v1\.4\.0: the release is out with other files; .*")
    assert str(template.github.releases) == before


def test_a_release_that_is_out_with_other_files_is_left_as_it_is(template, one_line):
    template.release()
    template.github.releases[0]["assets"][0]["digest"] = "sha256:" + "0" * 64
    one_line(template.release(), 1, r"v1\.4\.0: the release is out with other files; .*")
    template.github.releases[0]["assets"].pop()
    one_line(template.release(), 1, r"v1\.4\.0: the release is out with other files; .*")
    # One that a person made on GitHub names a branch and not a commit, and has no files.
    template.github.releases[0] |= {"target_commitish": "main", "assets": []}
    one_line(template.release(), 1, r"v1\.4\.0: the release is out with other files; .*")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "releases"),
        ("POST", "releases"),
        ("POST", r"releases/\d+/assets"),
        ("GET", r"releases/\d+"),
        ("PATCH", r"releases/\d+"),
    ],
    ids=["before all", "before the draft", "before the files", "after the upload", "before it is out"],
)
def test_a_run_that_was_stopped_anywhere_is_finished_by_the_next(template, one_line, method, path):
    template.github.fail(method, f"^{path}$", 502)
    one_line(template.release(), 2, f"GitHub: {method} .*: 502, injected; .*")
    assert all(release["draft"] for release in template.github.releases)
    assert template.tool("publish").returncode == 0
    (release,) = template.github.releases
    assert not release["draft"] and len(release["assets"]) == len(FILES)


def test_what_a_killed_upload_left_in_the_draft_is_replaced(template):
    template.github.fail("PATCH", r"^releases/\d+$", 502)
    template.release()
    (draft,) = template.github.releases
    draft["assets"][0] |= {"digest": None, "bytes": b"half"}
    draft["assets"].append({"id": 99, "name": "of another run", "digest": "sha256:" + "0" * 64})
    kept = draft["assets"][1]["id"]
    assert template.tool("publish").returncode == 0
    assert {asset["name"] for asset in draft["assets"]} == FILES
    assert kept in [asset["id"] for asset in draft["assets"]]  # what had arrived is not sent again


def test_files_that_are_not_as_their_sums_say_are_not_published(template, one_line):
    one_line(template.tool("publish"), 2, "build/release: .*SHA256SUMS.*; run `make release-files` first")
    template.tool("files")
    (template.built / "late-flights-1.4.0.tar.gz").write_bytes(b"another")
    one_line(template.tool("publish"), 2, "build/release/late-flights-1.4.0.tar.gz: not what SHA256SUMS says; .*")
    assert not template.github.requests


def test_what_github_refuses_is_one_line_and_the_token_follows_no_redirect(template, one_line):
    template.tool("files")
    one_line(template.tool("publish", GITHUB_TOKEN="wrong"), 2, "GitHub: GET .*: 401, Bad credentials; check .*")
    one_line(template.tool("publish", GITHUB_TOKEN=""), 2, "GITHUB_TOKEN: not set; .*")
    one_line(template.tool("publish", GITHUB_REPOSITORY=""), 2, "GITHUB_REPOSITORY: not set; .*")
    one_line(template.tool("publish", GITHUB_API_URL="http://127.0.0.1:9"), 2, "GitHub: GET .*refused.*; run it again")
    template.github.fail("GET", "releases", 302, headers={"Location": f"{template.github.url}/elsewhere"})
    one_line(template.tool("publish"), 2, "GitHub: GET .*: 302, .*")
    assert "elsewhere" not in str(template.github.requests)


def test_the_release_is_found_beyond_the_first_page(template):
    template.release()
    template.github.releases[:0] = [
        {"id": 1000 + n, "tag_name": f"v0.0.{n}", "draft": False, "assets": []} for n in range(230)
    ]
    done = template.release()
    assert done.returncode == 0 and "is out already" in done.stdout
    assert len(template.github.releases) == 231


def test_the_commands_of_the_workflow_make_the_release_without_installing_anything(template):
    """As its jobs do: a checkout for each, and the artifact between them. The machine's own Python is enough."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    steps = {
        name: [step for step in job["steps"] if step.get("run", "").startswith("make")] for name, job in jobs.items()
    }
    commands = {name: [step["run"] for step in found] for name, found in steps.items() if found}
    assert commands == {"build": ["make release-files"], "publish": ["make release"]}
    for job in ("build", "publish"):
        clone = template.path.parent / job
        run("git", "clone", "--quiet", "--branch=v1.4.0", template.path, clone, cwd=template.path)
        if job == "publish":
            shutil.copytree(template.path.parent / "build/build", clone / "build")
        (step,) = steps[job]
        shared = template.github.environment(f"release/{job}")
        known = {"GITHUB_TOKEN": shared.pop("GITHUB_TOKEN"), "TAG": "v1.4.0"}
        given = {name: known[name] for name in step["env"]}
        run(*step["run"].split(), cwd=clone, VENV="none", PATH="/usr/bin:/bin", **shared, **given)
        assert not (clone / "none").exists()
    assert [release["draft"] for release in template.github.releases] == [False]
