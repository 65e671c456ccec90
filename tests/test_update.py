"""Risk: a repository cannot get a newer release of the template, or an update loses what its team wrote."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import copier
import pytest
import released
from conftest import ROOT, TEMPLATE, BakedProject, environment, generate, once
from released import NEW, OLD

from conveyor.core import seal
from conveyor.core.errors import Misuse
from conveyor.core.git import Git
from conveyor.core.migrations import Renamed, renamed
from conveyor.core.venv import holding
from conveyor.update import merge, tree
from conveyor.update.lines import merged
from conveyor.update.template import Origin, fetched, unpacked
from conveyor.update.update import _advice

DESCRIPTION = 'Sagt "zu spät" \\ 50 % 😀'
CI, DELIVER = ".github/workflows/ci.yml", ".github/workflows/deliver.yml"


@pytest.fixture(scope="session")
def generated(shared, template):
    """A repository that cookiecutter made of the first release."""

    def make(fresh):
        released.git(fresh, "clone", "--quiet", "--branch", OLD, str(template), "template")
        generate(fresh, template=fresh / "template", description=DESCRIPTION)
        released.adopt(fresh / "late-flights", template)
        released.pack(fresh / "late-flights")

    return once(shared, "generated", make) / "late-flights"


@pytest.fixture
def team(generated, venv, tmp_path, shared):
    """A copy of it, with an environment that has copier."""
    place = shutil.copytree(generated, tmp_path / "late-flights", symlinks=True)
    return with_copier(BakedProject(place, {"project": "late-flights"}, venv), shared)


def with_copier(project: BakedProject, shared: Path) -> BakedProject:
    """Give it the environment that holds copier, without an installation; what copier makes twice is kept."""
    kept = shared / "renders"
    kept.mkdir(exist_ok=True)
    lock = (project.path / "requirements/update.txt").read_bytes()
    environment = project.path / "build/environments" / sha256(lock).hexdigest()[:16]
    (environment / "bin").mkdir(parents=True)
    words = shlex.join([sys.executable, "-S", str(Path(__file__).with_name("kept_renders.py")), str(kept)])
    (environment / "bin/python").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (environment / "bin/python").chmod(0o755)
    (environment / "complete").touch()
    return project


@pytest.fixture(scope="session")
def updated_once(generated, shared):
    def make(fresh):
        place = shutil.copytree(generated, fresh / "late-flights", symlinks=True)
        update(with_copier(BakedProject(place, {"project": "late-flights"}, place), shared))

    return once(shared, "updated", make) / "late-flights"


@pytest.fixture
def updated(updated_once, venv, tmp_path):
    """A copy of it that was updated, not committed."""
    place = shutil.copytree(updated_once, tmp_path / "late-flights", symlinks=True)
    return BakedProject(place, {"project": "late-flights"}, venv)


def params_with_comments(project):
    project.edit(
        "params.yaml",
        "keep: 3                     # releases",
        "keep: 7                     # we look back far\n  # releases",
    )
    project.edit("params.yaml", "margin: 0.001  ", "margin: 0.002  ")
    return ["keep_releases: 7            # we look back far", "margin: 0.002"]


def model(project):
    project.edit("src/late_flights/model.py", "# A new destination", "# Ours: a new destination")
    (project.path / "src/late_flights/features.py").write_text("OURS = 1\n")
    return ["# Ours: a new destination", "OURS = 1"]


def contract(project):
    project.edit("expectations/data.json", '"max_value": 6000', '"max_value": 6001')
    return ['"max_value": 6001']


def workflow(project):
    project.edit(DELIVER, "\npermissions: {}\n", '\npermissions: {}\n\nenv:\n  OURS: "1"\n')
    return ['  OURS: "1"']


def readme(project):
    text = (project.path / "README.md").read_text()
    (project.path / "README.md").write_text(
        text.replace("# late-flights", "# Late flights of ours", 1) + "\nOurs at the end.\n"
    )
    return ["# Late flights of ours", "Ours at the end."]


def makefile(project):
    with (project.path / "Makefile").open("a") as file:
        file.write("\nours:  ## what only we have\n\t@true\n")
    return ["ours:  ## what only we have"]


def owned(project):
    project.edit("pyproject.toml", "owned = []", 'owned = ["container/Caddyfile"]')
    file = project.path / "container/Caddyfile"
    file.write_text("# Ours.\n" + file.read_text())
    return ["# Ours.", '"container/Caddyfile"']


def lock(project):
    with (project.path / "requirements/model.in").open("a") as file:
        file.write("ours\n")
    for name in ("model", "dev"):
        file = project.path / f"requirements/{name}.txt"
        head, first, rest = file.read_text().partition("alembic==" if name == "dev" else "joblib==")
        file.write_text(f"{head}aaa-ours==1 \\\n    --hash=sha256:{'0' * 64}\n{first}{rest}")
    return ["ours\n", "aaa-ours==1"]


def job(project):
    project.edit(CI, "  test:\n    name: check and test\n", "  everything:\n    name: check and test, ours\n")
    project.edit(CI, "needs: [test]", "needs: [everything]")
    return ["  everything:", "ours", "needs: [everything]"]


def sample(project):
    (project.path / "data/flights.csv.gz").unlink()
    (project.path / "data/ours.csv.gz").write_bytes(b"\0ours\n\xff")
    return []


def other_data(project):
    (project.path / "data/flights.csv.gz").write_bytes(b"\0other\xff")
    return []


def clash(project):
    project.edit(CI, "timeout-minutes: 20", "timeout-minutes: 30 # ours are slow")
    return ["timeout-minutes: 30 # ours are slow"]


# What a team edits, and the files in which an update finds that both sides changed the same lines.
EDITS = {
    "`params.yaml`: the value and the comment of a parameter that gets another name, and another value": (
        params_with_comments,
        [],
    ),
    "`model.py`, and a module of the team's own": (model, []),
    "the data contract": (contract, []),
    "a workflow, which the release changes elsewhere": (workflow, []),
    "`README.md`": (readme, []),
    "`Makefile`: a verb of the team's own": (makefile, []),
    "`container/Caddyfile`, which the team owns and the release changes elsewhere": (owned, []),
    "`requirements/`: a library of the team's own, and the locks": (lock, []),
    "a job that has another name": (job, []),
    "the sample is deleted, and a binary file is added": (sample, []),
    "the bytes of the sample, a binary file": (other_data, []),
    "a line of a workflow that the release changes, too": (clash, [CI]),
}


def update(project, *words, **more):
    return project.cli("update", *words, **more)


def sound(project) -> None:
    """What must hold after every update: the machinery is the new one, and the parameters are read by it."""
    version, known = seal.read(project.path)
    owned_files = ["container/Caddyfile"] if "# Ours." in (project.path / "container/Caddyfile").read_text() else []
    assert version == NEW[1:] and "src/conveyor/gate/added.py" in known
    assert not (project.path / "container/kubernetes/base/disruption-budget.yaml").exists()
    seal.check(project.path, owned_files)
    assert project.cli("migrate").returncode == 0 and "keep_releases" in (project.path / "params.yaml").read_text()
    assert f"_commit: {NEW}\n" in (project.path / ".copier-answers.yml").read_text()


@pytest.mark.parametrize("edit, clashes", EDITS.values(), ids=[function.__name__ for function, _ in EDITS.values()])
def test_an_update_keeps_what_the_team_wrote(team, template, edit, clashes):
    kept = edit(team)
    team.git("add", "--all")
    team.git("commit", "--quiet", "--message", "Ours")
    before = {name: (team.path / name).read_bytes() for name in team.git("ls-files").stdout.split("\n") if name}
    done = update(team)
    changed = [name for name in team.git("diff", "--name-only", "HEAD").stdout.split("\n") if name]
    after = "\n".join((team.path / name).read_text(errors="replace") for name in before if (team.path / name).is_file())
    assert not [text for text in kept if text not in after]
    assert team.git("diff", "--name-only", "--diff-filter=U").stdout.split() == clashes
    assert [name for name in clashes if "<<<<<<< this repository" not in (team.path / name).read_text()] == []
    assert (f"conflicts: {len(clashes)}, fix" if clashes else "no conflict") in done.stdout
    # Nothing but what the release changes is another file now.
    expected = set(released.git(template, "diff", "--name-only", OLD, NEW, "--", released.PRODUCT).splitlines())
    expected = {name.removeprefix(f"{released.PRODUCT}/").strip('"') for name in expected} | {".copier-answers.yml"}
    assert set(changed) <= expected
    if not clashes:
        sound(team)
    assert all(
        (team.path / name).read_bytes() == content for name, content in before.items() if name.startswith("data/")
    )
    assert not (team.path / "data/flights.csv.gz").exists() or edit is not sample
    assert "is called `deploy.keep_releases`" in (team.path / "build/update.md").read_text()
    assert "Not out yet" not in (team.path / "build/update.md").read_text()


def test_copier_s_own_update_replaces_a_binary_file_that_the_team_changed(tmp_path):
    """Why git merges here. Once this fails, copier can do it."""
    place, made = tmp_path / "template", tmp_path / "made"
    place.mkdir()
    (place / "copier.yml").write_text('_templates_suffix: ""\n')
    (place / "{{ _copier_conf.answers_file }}").write_text("{{ _copier_answers | to_nice_yaml }}")
    (place / "data.bin").write_bytes(b"\0theirs\xff")
    for number in (1, 2):
        (place / "news.txt").write_text(f"{number}\n")
        if number == 1:
            released.git(place, "init", "--quiet")
        released.git(place, "add", "--all")
        released.git(place, "commit", "--quiet", "--message", "News")
        released.git(place, "tag", f"v{number}.0.0")
    copier.run_copy(str(place), made, vcs_ref="v1.0.0", defaults=True, quiet=True)
    (made / "data.bin").write_bytes(b"\0ours\xff")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Ours"]):
        released.git(made, *words)
    copier.run_update(made, defaults=True, overwrite=True, quiet=True)
    assert (made / "data.bin").read_bytes() == b"\0theirs\xff"


def test_the_documents_list_these_edits_and_what_became_of_them():
    rows = re.findall(r"(?m)^\| (.+?) \| (.+?) \|$", (ROOT / "docs/updates.md").read_text())[1:]
    assert rows == [
        (what, f"a conflict, marked in `{clashes[0]}`" if clashes else "merged") for what, (_, clashes) in EDITS.items()
    ]


def committed(project, message="Ours"):
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", message)


def test_what_a_repository_is_after_an_update_is_what_the_new_release_generates(updated, template, tmp_path):
    team = updated
    released.git(tmp_path, "clone", "--quiet", "--branch", NEW, str(template), "template")
    (tmp_path / "new").mkdir()
    generate(tmp_path / "new", template=tmp_path / "template", description=DESCRIPTION)
    team.git("add", "--all")
    tracked = team.git("ls-files").stdout.split()
    fresh = tmp_path / "new/late-flights"
    assert sorted(tracked) == sorted(released.git(fresh, "ls-files").split())
    assert [name for name in tracked if (team.path / name).read_bytes() != (fresh / name).read_bytes()] == [
        ".copier-answers.yml"
    ]


def live(project) -> str:
    return [event["key"] for event in json.loads(project.cli("history", "--json").stdout) if event["type"] == "live"][
        -1
    ]


def test_updated_with_every_edit_its_own_checks_pass_and_the_champion_is_found_and_kept(
    bootstrapped, template, tmp_path
):
    """With copier from its own lock, and a champion that the old release made."""
    project = bootstrapped
    released.adopt(project.path, template)
    for edit, _ in EDITS.values():
        if edit not in (sample, other_data, clash, lock):  # which these checks would rightly refuse
            edit(project)
    committed(project)
    champion = live(project)
    done = update(project)
    assert "no conflict" in done.stdout
    sound(project)
    committed(project, "Updated")
    face = tmp_path / "venv"
    face.mkdir()
    for entry in project.venv.iterdir():
        (face / entry.name).symlink_to(entry)
    (face / "installed.txt").unlink()
    shutil.copyfile(project.path / "requirements/dev.txt", face / "installed.txt")
    passed = project.make("pipeline", "check", "test", VENV=str(face)).stdout
    assert " passed" in passed and "skipped" not in passed and re.search(r"compare +keep", passed)
    assert project.git("status", "--porcelain").stdout == ""
    assert live(project) == champion


def test_the_newest_release_is_said_to_be_here_and_changes_nothing(updated):
    team = updated
    committed(team, "Updated")
    assert f"{NEW} is here; the newest release is {NEW}" in update(team).stdout
    assert f"{NEW} is here; the newest release is {NEW}" in update(team, "--to", NEW).stdout
    assert team.git("status", "--porcelain").stdout == ""


def answers(text, instead):
    return lambda project: project.edit(".copier-answers.yml", text, instead)


def no_room_for_news(project):
    readme(project)
    (project.path / "build/update.md").mkdir()


def linked_params(project):
    (project.path / "params.yaml").rename(project.path.parent / "params.yaml")
    (project.path / "params.yaml").symlink_to(project.path.parent / "params.yaml")


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (None, ["--to", "v9.0.0"], "TO: .* has no release 'v9.0.0'; its newest are v0.1.0, v0.2.0"),
        (None, ["--to", "nightly"], "TO: .* has no release 'nightly'; .*"),
        (None, ["--to", "--upload-pack=touch planted"], "TO: .* has no release .*"),
        (
            answers("_commit: v0.1.0", "_commit: v0.0.9"),
            [],
            ".copier-answers.yml: _commit: is v0.0.9, and .* write v0.1.0",
        ),
        (answers("_commit: v0.1.0", "_commit: main"), [], ".copier-answers.yml: _commit: 'main' is no release; .*"),
        (answers("_src_path:", "_src_path: /nowhere\nwas:"), [], ".copier-answers.yml: _src_path: /nowhere: .*"),
        (answers("_src_path:", "_src_path: --upload-pack=x\nwas:"), [], ".copier-answers.yml: _src_path: names no .*"),
        (
            answers('project: "late-flights"', 'project: "a--b"'),
            [],
            ".copier-answers.yml: project: release v0.1.0 does not take it: .*hyphen.*; correct it and commit",
        ),
        (
            answers('project: "late-flights"', "project: [a, b]"),
            [],
            ".copier-answers.yml: project: release v0.1.0 does not take it: .*; correct it and commit",
        ),
        (
            answers('deploy: "docker"', 'deploy: "nowhere"'),
            [],
            ".copier-answers.yml: deploy: release v0.1.0 does not take it: .*'kubernetes'.*; correct it and commit",
        ),
        (lambda project: (project.path / ".copier-answers.yml").unlink(), [], ".copier-answers.yml: missing; .*"),
        (
            lambda project: project.edit("src/conveyor/gate/decide.py", "import", "import  "),
            [],
            "seal: src/conveyor/gate/decide.py differs: .*",
        ),
        (lambda project: (project.path / "params.yaml").write_text("a: [\n"), [], "params.yaml:2: not YAML: .*"),
        (no_room_for_news, [], "build/.*: Is a directory; make room or mend the access, and run again"),
        (linked_params, [], "params.yaml: is a link, .*; put the file itself here and commit it"),
    ],
    ids=[
        "no-such",
        "no-version",
        "option",
        "unknown",
        "branch",
        "nowhere",
        "hostile",
        "answer",
        "list",
        "choice",
        "none",
        "seal",
        "yaml",
        "news",
        "link",
    ],
)
def test_what_cannot_be_updated_is_one_line_and_changes_nothing(team, one_line, spoil, words, said):
    if spoil:
        spoil(team)
        committed(team)
    one_line(update(team, *words, check=False), 2, said)
    assert team.git("status", "--porcelain").stdout == "" and not (team.path / "planted").exists()


@pytest.mark.parametrize("staged", [False, True], ids=["edited", "staged"])
def test_a_tree_that_is_not_committed_is_refused_in_one_line(team, one_line, staged):
    team.edit("params.yaml", "seed: 7", "seed: 8")
    (team.path / "notes.txt").write_text("ours\n")
    if staged:
        team.git("add", "--all")
    one_line(update(team, check=False), 2, r"update: \S+ and 1 more: not committed; commit it, or `git stash -u`")
    assert "seed: 8" in (team.path / "params.yaml").read_text() and (team.path / "notes.txt").read_text() == "ours\n"
    team.git("stash", "-u")
    tree.check(Git(team.path))


# Files of the release v0.2.1: each is in the way of a file that git does not know, in one of the tests below.
MORE = ("src/late_flights/added.py", "docs/more.md", "src/late_flights/more/extra.py", "more/extra.md", "README.md")


@pytest.fixture(scope="session")
def template_with_more(template, shared):
    """The template with a third release, which no test changes."""

    def make(fresh):
        shutil.copytree(template, fresh, symlinks=True, dirs_exist_ok=True)
        for name in MORE:
            file = fresh / released.PRODUCT / name.replace("late_flights", "<<cookiecutter.__package>>")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("THEIRS = 1\n" if name.endswith(".py") else "Theirs.\n")
        released.git(fresh, "add", "--all")
        released.git(fresh, "commit", "--quiet", "--message", "More")
        released.git(fresh, "tag", "v0.2.1")

    return once(shared, "released-more", make)


def test_a_file_that_git_does_not_know_and_the_release_adds_stops_the_update_and_is_left(
    team, template_with_more, one_line
):
    """It is in the way: git would write over it."""
    released.adopt(team.path, template_with_more)
    (team.path / ".git/info").mkdir(exist_ok=True)
    (team.path / ".git/info/exclude").write_text("added.py\n")
    ours = team.path / "src/late_flights/added.py"
    ours.write_text("OURS = 1\n")
    one_line(update(team, check=False), 2, "src/late_flights/added.py: is in the way of a file of the release, .*")
    assert ours.read_text() == "OURS = 1\n" and team.git("status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("ours", "kept"),
    [
        ("docs/more.md", "file"),
        ("src/late_flights/more", "file"),
        ("more", "link"),
        ("README.md", "file"),
    ],
    ids=["file", "in place of a folder", "link in place of a folder", "that the team has deleted for git"],
)
def test_what_a_person_keeps_beside_git_is_never_written_over(team, template_with_more, one_line, tmp_path, ours, kept):
    """Files that git ignores: it would write over them, and `git reset --hard` would delete them."""
    if (team.path / ours).exists():
        team.git("rm", "--quiet", ours)
    with (team.path / ".gitignore").open("a") as file:
        file.write(f"/{ours}\n")
    released.adopt(team.path, template_with_more)
    team.git("commit", "--quiet", "--all", "--allow-empty", "--message", "Ours")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/ours.md").write_text("Ours.\n")
    if kept == "link":
        (team.path / ours).symlink_to(tmp_path / "elsewhere")
    else:
        (team.path / ours).write_text("Ours.\n")
    one_line(update(team, check=False), 2, f"{ours}: is in the way of a file of the release, .*")
    assert team.git("status", "--porcelain").stdout == ""
    file = tmp_path / "elsewhere/ours.md" if kept == "link" else team.path / ours
    assert file.read_text() == "Ours.\n" and (kept == "file" or (team.path / ours).is_symlink())
    assert list((tmp_path / "elsewhere").iterdir()) == [tmp_path / "elsewhere/ours.md"]


def test_what_is_edited_while_an_update_runs_stays_and_stops_it(team, one_line):
    [python] = team.path.glob("build/environments/*/bin/python")
    model = team.path / "src/late_flights/model.py"
    python.write_text(python.read_text().replace("exec", f"echo '# Edited.' >>'{model}'\nexec"))
    one_line(update(team, check=False), 2, "update: src/late_flights/model.py was changed meanwhile; run it again")
    assert model.read_text().endswith("# Edited.\n") and "keep: 3" in (team.path / "params.yaml").read_text()


def test_a_commit_that_is_made_during_the_merge_stops_it(team):
    git = Git(team.path)
    head = git("rev-parse", "HEAD")
    team.git("commit", "--quiet", "--allow-empty", "--message", "More")
    with pytest.raises(Misuse, match="^update: HEAD was changed meanwhile; run it again$"):
        tree.put(git, head, f"{head}^{{tree}}", {})
    assert team.git("status", "--porcelain").stdout == ""


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path):
    """As after an upgrade of Python, to which the environment has links."""
    place, lock = tmp_path / "environment", tmp_path / "lock.txt"
    (place / "bin").mkdir(parents=True)
    (place / "bin/python").symlink_to(tmp_path / "gone")
    (place / "complete").touch()
    lock.touch()
    assert subprocess.run([holding(place, lock, "install"), "-c", "pass"]).returncode == 0


def test_libraries_that_cannot_be_installed_end_with_a_remedy(tmp_path, monkeypatch):
    def fail(*words):
        raise subprocess.CalledProcessError(1, words, stderr=b"...\nNo network\n")

    monkeypatch.setattr("conveyor.core.venv._run", fail)
    with pytest.raises(Misuse, match=".*: No network; see that the package index answers, and run it again$"):
        holding(tmp_path / "environment", tmp_path / "lock.txt", "install")


def test_the_repository_of_a_caller_s_git_is_left_alone(team, tmp_path):
    """As where git runs an alias."""
    released.git(tmp_path, "init", "--quiet", "other")
    other = tmp_path / "other/.git"
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    assert "no conflict" in update(team, GIT_DIR=str(other), GIT_WORK_TREE=str(other.parent)).stdout
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    assert team.git("tag").stdout == "" and team.git("config", "core.bare").stdout == "false\n"


def test_each_conflict_comes_with_what_to_do(team):
    team.git("rm", "--quiet", DELIVER)
    (team.path / "requirements/dev.txt").write_text("ours==1\n")
    clash(team)
    committed(team)
    said = update(team).stdout
    assert f"conflict in {CI}: both versions are marked in it; fix it, then `git add`" in said
    assert f"conflict in {DELIVER}: it is not in your repository, and the release changes it; `git rm` it, or" in said
    assert "conflict in requirements/dev.txt: it is now that of the release; `make lock`, then `git add`" in said
    assert "conflicts: 3, fix them first" in said and "ours" not in (team.path / "requirements/dev.txt").read_text()
    team.git("reset", "--quiet", "--hard")
    assert team.git("status", "--porcelain").stdout == "" and not (team.path / DELIVER).exists()


def test_outside_a_repository_or_in_a_folder_of_one_it_is_refused(team, one_line, tmp_path):
    shutil.rmtree(team.path / ".git")
    one_line(update(team, check=False), 2, "update: run it in the root of a git repository that has a commit")
    released.git(tmp_path, "init", "--quiet")
    one_line(update(team, check=False), 2, "update: run it in the root of a git repository that has a commit")
    released.git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "Others")
    one_line(update(team, check=False), 2, "update: this folder is inside another git repository, .*")


def test_a_key_that_has_another_name_is_named_by_the_new_release(updated, one_line):
    team = updated
    team.edit("params.yaml", "keep_releases:", "keep:")
    said = "params.yaml: deploy.keep: is called keep_releases since version 0.2.0; rename it"
    one_line(team.cli("validate", check=False), 2, said)


def test_an_update_that_is_undone_leaves_the_repository_as_it_was(team):
    before = {path: path.read_bytes() for path in team.path.rglob("*") if path.is_file() and ".git" not in path.parts}
    update(team)
    team.git("reset", "--quiet", "--hard")
    after = {path: path.read_bytes() for path in before if path.exists()}
    assert after == before and team.git("status", "--porcelain").stdout == ""


# Keys that have another name, and lines that stand alone


TEXT = "# Top\ndeploy:\n  keep: 3     # releases\n  other: {keep: 1}\nkeep: x\n"


@pytest.mark.parametrize(
    ("old", "text", "new"),
    [
        ("deploy.keep", TEXT, TEXT.replace("  keep: 3     #", "  held: 3     #")),
        ("deploy.other.keep", TEXT, TEXT.replace("{keep: 1}", "{held: 1}")),
        ("keep", TEXT, TEXT.replace("\nkeep: x", "\nheld: x")),
        ("deploy.none", TEXT, TEXT),
        ("none.keep", TEXT, TEXT),
        ("keep.deeper", TEXT, TEXT),
        ("deploy.keep", "deploy: {keep: 1, held: 2}\n", "deploy: {keep: 1, held: 2}\n"),
        ("deploy.keep", 'deploy:\n  "keep": 3 # é\n', "deploy:\n  held: 3 # é\n"),
        ("deploy.keep", "deploy:\n  keep: [1,\n    2]  # two\n", "deploy:\n  held: [1,\n    2]  # two\n"),
        ("deploy.keep", "deploy:\n  keep: 'a # b'  # c", "deploy:\n  held: 'a # b'  # c"),
        ("deploy.keep", "", ""),
    ],
)
def test_a_key_gets_another_name_and_all_else_stays(old, text, new):
    assert renamed(text, (Renamed("1.0.0", old, "held"),)) == new


def test_a_comment_keeps_its_column_where_there_is_room():
    longer = (Renamed("1.0.0", "keep", "keep_them"),)
    assert renamed("keep: 3         # why\n", longer) == "keep_them: 3    # why\n"
    assert renamed("keep: 3  # why\n", longer) == "keep_them: 3 # why\n"


BASE = "a\nb\nc\nd\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ("a\nB\nc\nd\n", "a\nnew\nb\nc\nd\n", "a\nnew\nB\nc\nd\n"),
        ("a\nB\nc\nd\n", "a\nb\nC\nd\n", "a\nB\nC\nd\n"),
        ("a\nB\nc\nd\n", "a\nB\nc\nd\n", "a\nB\nc\nd\n"),
        ("a\nb\nc\nd\nours\n", "A\nb\nc\nd\n", "A\nb\nc\nd\nours\n"),
        ("a\nc\nd\n", "a\nb\nc\nD\n", "a\nc\nD\n"),
        ("c\nd\n", "a\nb\nnew\nc\nd\n", None),
        ("c\nd\n", "A\nb\nc\nd\n", None),
        ("a\nc\nd\n", "a\nb\nnew\nc\nd\n", None),
        ("a\nB\nc\nd\n", "a\nbb\nc\nd\n", None),
        ("a\nx\nb\nc\nd\n", "a\ny\nb\nc\nd\n", None),
        ("a\nd\n", "a\nb\nC\nd\n", None),
        ("a\nb\nc\nd", "a\nb\nc\nD\n", "a\nb\nc\nD\n"),
        ("a\nb\nc\nD", "a\nb\nc\nd\nnew\n", "a\nb\nc\nD\nnew\n"),
        ("a\nb\nc\nd\nours", "A\nb\nc\nd", "A\nb\nc\nd\nours\n"),
        ("a\nb\nc\nd\nours", "a\nb\nc\nd\nnew\n", None),
    ],
)
def test_lines_that_touch_are_merged_and_lines_that_overlap_are_not(ours, theirs, both):
    assert merged(BASE, ours, theirs) == merged(BASE, theirs, ours) == both
    assert merged(BASE[:-1], ours, theirs) == both


# The merge of small repositories, and how its result gets into the working tree


@pytest.fixture
def small(tmp_path):
    """small(old, ours, new) -> a repository with the files ``ours``; a path as content makes a link."""

    def small(old, ours, new):
        for place, files in (("old", old), ("ours", ours), ("new", new)):
            for name, content in ({"params.yaml": "a: 1\n"} | files).items():
                file = tmp_path / place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.symlink_to(content) if isinstance(content, Path) else file.write_text(content)
        project = BakedProject(tmp_path / "ours", {}, tmp_path)
        project.git("init", "--quiet")
        committed(project)
        return project

    return small


def merge_small(project):
    place = project.path.parent
    scratch = Path(tempfile.mkdtemp(dir=place))
    return merge.merge(project.path, place / "old", place / "new", [], NEW, lambda _: None, scratch)


def contents(project):
    """What is in the working tree, with what git ignores, by path."""
    return {file.as_posix(): read(project.path / file) for file in project.files()}


def read(file):
    return file.readlink() if file.is_symlink() else (file.read_bytes(), file.stat().st_mode & 0o111)


def test_a_last_line_without_an_end_and_a_line_that_the_release_adds_after_it_stay_two_lines(small):
    project = small(
        {"params.yaml": "a: 1\nb: 2\n"}, {"params.yaml": "a: 1\nb: 3"}, {"params.yaml": "a: 1\nb: 2\nc: 4\n"}
    )
    assert merge_small(project).conflicts == []
    assert (project.path / "params.yaml").read_text() == "a: 1\nb: 3\nc: 4\n"


def test_ignored_files_in_a_folder_that_the_release_makes_a_file_stop_it_and_stay(small):
    old = {"more/known.md": "Known.\n", ".gitignore": "*.own\n"}
    project = small(old, old, {"more": "Theirs.\n", ".gitignore": "*.own\n"})
    (project.path / "more/deep").mkdir()
    (project.path / "more/deep/notes.own").write_text("Ours.\n")
    before = contents(project)
    with pytest.raises(Misuse, match="^more/deep/notes.own: is in the way of a file of the release, "):
        merge_small(project)
    assert contents(project) == before and project.git("status", "--porcelain").stdout == ""
    shutil.rmtree(project.path / "more/deep")
    assert merge_small(project).conflicts == [] and (project.path / "more").read_text() == "Theirs.\n"


OLD_FILES = {"a": "1\n", "gone": "1\n", "kept": "1\n", "more/known": "1\n", "z": "1\n"}
NEW_FILES = {"a": "2\n", "added/deep/file": "2\n", "b": "2\n", "kept": "1\n", "more": "2\n", "z": "2\n"}


def failing(project):
    """Let git fail once to write z in the working tree, which is the last of the files."""
    once_, script = project.path.parent / "once", project.path.parent / "smudge"
    once_.touch()
    script.write_text(f'#!/bin/sh\n[ "$PWD" = {project.path} ] && rm {once_} 2>/dev/null && exit 1\nexec cat\n')
    script.chmod(0o755)
    for name, value in {"smudge": script, "clean": "cat", "required": "true"}.items():
        project.git("config", f"filter.full.{name}", str(value))
    (project.path / ".git/info").mkdir(exist_ok=True)
    (project.path / ".git/info/attributes").write_text("z filter=full\n")


@pytest.mark.parametrize("clash", [False, True])
def test_a_write_that_fails_is_undone(small, clash):
    project = small(OLD_FILES, OLD_FILES | ({"a": "3\n"} if clash else {}), NEW_FILES)
    before = contents(project)
    failing(project)
    with pytest.raises(Misuse, match="^update: .*; nothing was changed: mend that, then run it again$"):
        merge_small(project)
    assert contents(project) == before and not (project.path / "added").exists()
    assert project.git("status", "--porcelain", "--ignored").stdout == ""
    tree.check(Git(project.path))
    assert len(merge_small(project).conflicts) == clash and (project.path / "z").read_text() == "2\n"


def test_a_write_that_fails_and_cannot_be_undone_says_what_undoes_it(small):
    project = small(OLD_FILES, OLD_FILES, NEW_FILES)
    before = contents(project)
    failing(project)
    real = Git.succeeds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Git, "succeeds", lambda self, *words: words[1] != "--reset" and real(self, *words))
        with pytest.raises(Misuse, match="^update: .*; files are half-written: mend that, then `git reset --hard`$"):
            merge_small(project)
    assert contents(project) != before
    with pytest.raises(Misuse, match="^update: an update was killed; `git reset --hard` undoes it and what was "):
        tree.check(Git(project.path))
    project.git("commit", "--quiet", "--message", "As git has it")
    with pytest.raises(Misuse, match="^update: .* not committed; commit it, or `git stash -u`$"):
        tree.check(Git(project.path))
    project.git("reset", "--quiet", "--hard", "HEAD~1")
    assert contents(project) == before
    tree.check(Git(project.path))
    (project.path / "a").write_text("Ours.\n")
    with pytest.raises(Misuse, match="^update: a: not committed; commit it, or `git stash -u`$"):
        tree.check(Git(project.path))


def test_a_file_that_git_cannot_delete_undoes_the_update(small, monkeypatch):
    """git only warns of it."""
    project = small(OLD_FILES, OLD_FILES, NEW_FILES)
    before = contents(project)
    real = Git.bytes

    def bytes_(self, *words, **more):
        done = real(self, *words, **more)
        if words[:3] == ("read-tree", "-m", "-u") and "--dry-run" not in words:
            (project.path / "gone").write_text("1\n")
        return done

    monkeypatch.setattr(Git, "bytes", bytes_)
    with pytest.raises(Misuse, match="^update: unable to delete gone; nothing was changed: "):
        merge_small(project)
    assert contents(project) == before and project.git("status", "--porcelain").stdout == ""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_while_git_writes_leaves_no_conflict_that_looks_merged(small, tmp_path, name):
    project = small(OLD_FILES, OLD_FILES | {"a": "3\n"}, NEW_FILES)
    before = contents(project)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/git"
    kill = f'case "$*" in "read-tree -m -u "[0-9a-f]*) kill -{name[3:]} $PPID; sleep 0.2;; esac'
    wrapper.write_text(f'#!/bin/sh\n{kill}\nexec {shutil.which("git")} "$@"\n')
    if name == "SIGKILL":
        wrapper.write_text(wrapper.read_text().replace("sleep 0.2", "exit 1"))
    wrapper.chmod(0o755)
    code = (
        "from pathlib import Path; from conveyor.update.merge import merge; here = Path();"
        "merge(here / 'ours', here / 'old', here / 'new', [], 'new', lambda _: None, (here / 'scratch').resolve())"
    )
    more = {"PYTHONPATH": str(TEMPLATE / "src"), "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"}
    words = [sys.executable, "-B", "-c", code.replace("Path();", "Path.cwd();")]
    done = subprocess.run(words, cwd=tmp_path, env=environment(**more), capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if name == "SIGKILL" else 0), done.stderr
    assert project.git("diff", "--name-only", "--diff-filter=U").stdout == "a\n"
    if name == "SIGKILL":
        with pytest.raises(
            Misuse, match="^update: an update was killed; `git reset --hard` undoes it and what was edited "
        ):
            tree.check(Git(project.path))
    else:
        assert (project.path / "z").read_text() == "2\n" and "<<<<<<<" in (project.path / "a").read_text()
    project.git("reset", "--quiet", "--hard")
    assert contents(project) == before
    tree.check(Git(project.path))


@pytest.mark.parametrize(
    ("old", "ours", "new"),
    [
        ("1\n", Path("other"), "2\n"),
        ("1\n", Path("other"), Path("another")),
        ("1\n", "3\n", Path("other")),
        (None, Path("other"), "2\n"),
    ],
)
def test_a_link_at_a_conflict_stays_and_the_advice_brings_that_of_the_release(small, old, ours, new):
    project = small({"a file": old} if old else {}, {"a file": ours, "other": "Ours.\n"}, {"a file": new})
    before = contents(project)
    [conflict] = merge_small(project).conflicts
    assert contents(project) == before and project.git("diff", "--name-only", "--diff-filter=U").stdout == "a file\n"
    said = _advice(conflict, [])
    assert said.startswith("one version is a link, and yours stays; `git checkout --theirs -- 'a file'` takes that of ")
    project.git(*shlex.split(re.search("`git (.*?)`", said)[1]))
    project.git("add", "--all")
    file = project.path / "a file"
    assert (file.readlink() if isinstance(new, Path) else file.read_text()) == new


def test_a_link_that_the_release_deletes_stays_and_the_advice_is_about_that(small):
    project = small({"link": Path("a")}, {"link": Path("b")}, {})
    [conflict] = merge_small(project).conflicts
    assert (project.path / "link").readlink() == Path("b") and _advice(conflict, []).startswith("you changed it, and ")


def test_a_file_of_one_side_that_is_a_folder_of_the_other_stops_it_and_the_advice_works(small):
    project = small({}, {"more/ours": "Ours.\n"}, {"more": "Theirs.\n"})
    with pytest.raises(Misuse, match="^more: the release has a file of this name; `git mv` yours, commit, then run it"):
        merge_small(project)
    assert project.git("status", "--porcelain").stdout == ""
    project.git("mv", "more", "ours")
    committed(project)
    assert merge_small(project).conflicts == []
    assert (project.path / "more").read_text() == "Theirs.\n" and (project.path / "ours/ours").is_file()


def test_a_folder_of_the_release_that_is_a_file_of_the_team_stops_it_and_the_advice_works(small):
    project = small({}, {"more": "Ours.\n"}, {"more/theirs": "Theirs.\n"})
    with pytest.raises(Misuse, match="^more: the release has a folder of this name; `git mv` yours, commit, then run "):
        merge_small(project)
    assert project.git("status", "--porcelain").stdout == "" and (project.path / "more").read_text() == "Ours.\n"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_folder_becomes_a_link_to_one_that_has_the_same_files_or_the_reverse(small, reverse):
    """What is seen through the link is neither a file that was not deleted nor one in the way."""
    folder, link = {"more/a": "1\n", "other/a": "1\n"}, {"more": Path("other"), "other/a": "1\n"}
    old, new = (link, folder) if reverse else (folder, link)
    project = small(old, old, new)
    assert merge_small(project).conflicts == []
    assert (project.path / "more").is_symlink() == (new is link) and (project.path / "more/a").read_text() == "1\n"


@pytest.mark.parametrize("name", ["file", "params.yaml"])
@pytest.mark.parametrize("side", ["ours", "new"])
def test_the_executable_bit_that_one_side_sets_stays_at_a_conflict_and_without_one(small, side, name):
    both = {"file": ("1\n", "2\n", "3\n"), "params.yaml": ("a: 1\nb: 1\n", "a: 2\nb: 1\n", "a: 1\nb: 2\n")}
    project = small(*({name: text} for text in both[name]))
    (project.path.parent / side / name).chmod(0o755)
    committed(project) if side == "ours" else None
    assert len(merge_small(project).conflicts) == (name == "file")
    assert os.access(project.path / name, os.X_OK)


def test_a_file_that_the_team_owns_and_the_release_deletes_can_be_kept_as_the_advice_says(small):
    project = small({"src/conveyor/x.py": "1\n"}, {"src/conveyor/x.py": "2\n"}, {})
    [conflict] = merge_small(project).conflicts
    said = "`git add` it and `git mv` it into a folder of yours; remove it from `owned` in pyproject.toml"
    assert said in _advice(conflict, ["src/conveyor/x.py"]) and said not in _advice(conflict, [])
    project.git("add", "src/conveyor/x.py")
    project.git("mv", "src/conveyor/x.py", "src/x.py")
    assert project.git("status", "--porcelain").stdout == "R  src/conveyor/x.py -> src/x.py\n"


def begun(*words):
    """A merge, rebase or cherry-pick with a conflict that is solved, not finished: the tree is clean."""

    def begin(project):
        project.git("switch", "--quiet", "--create", "other")
        (project.path / "a").write_text("2\n")
        committed(project)
        project.git("switch", "--quiet", "-")
        (project.path / "a").write_text("3\n")
        committed(project)
        project.git(*words, check=False)
        project.git("checkout", "HEAD", "--", "a")
        assert project.git("status", "--porcelain").stdout == ""

    return begin


def marked(option):
    return lambda project: project.git("update-index", option, "a")


@pytest.mark.parametrize(
    ("begin", "said", "end"),
    [
        (begun("merge", "other"), "update: a merge is in progress; .* `git merge --abort`", ["merge", "--abort"]),
        (begun("rebase", "other"), "update: a rebase is in progress; .* `git rebase --abort`", ["rebase", "--abort"]),
        (begun("cherry-pick", "other"), "update: a cherry-pick is .* `git cherry-pick .*`", ["cherry-pick", "--abort"]),
        (
            marked("--assume-unchanged"),
            "a: is marked assume-unchanged, .*; `git update-index --no-assume-unchanged -- a`, .*",
            ["update-index", "--no-assume-unchanged", "--", "a"],
        ),
        (
            marked("--skip-worktree"),
            "a: is marked skip-worktree, .*; `git update-index --no-skip-worktree -- a`, then .*",
            ["update-index", "--no-skip-worktree", "--", "a"],
        ),
        (
            lambda project: project.git("sparse-checkout", "set", "nothing"),
            "update: this checkout is sparse; `git sparse-checkout disable`, then run it again",
            ["sparse-checkout", "disable"],
        ),
        (
            lambda project: (project.path / ".git/index.lock").touch(),
            ".git/index.lock: git is at work here; if no git is, delete this file, then run it again",
            None,
        ),
    ],
    ids=["merge", "rebase", "cherry-pick", "assume-unchanged", "skip-worktree", "sparse", "lock"],
)
def test_where_git_is_not_ready_an_update_does_not_begin_and_the_advice_helps(small, begin, said, end):
    project = small({}, {"a": "1\n", "more/b": "1\n"}, {})
    begin(project)
    with pytest.raises(Misuse, match=f"^{said}$"):
        tree.check(Git(project.path))
    project.git(*end) if end else (project.path / ".git/index.lock").unlink()
    tree.check(Git(project.path))


def test_a_bisect_is_no_reason_to_wait(small):
    project = small({}, {"a": "1\n"}, {})
    project.git("bisect", "start")
    tree.check(Git(project.path))


@pytest.mark.parametrize("conditional", [False, True], ids=["of the repository", "for its folder"])
def test_a_release_is_fetched_with_the_settings_of_git_that_hold_in_the_repository(
    small, template, tmp_path, monkeypatch, conditional
):
    project = small({}, {}, {})
    file = tmp_path / "settings"
    words = ["config", "--file", str(file) if conditional else ".git/config", f"url.{template}.insteadOf", 'a "b" \\c']
    project.git(*words)
    everywhere = tmp_path / "everywhere"
    everywhere.write_text(
        f'[safe]\n\tbareRepository = explicit\n\tdirectory = *\n[includeIf "gitdir:{project.path}/"]\n\tpath = {file}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(everywhere))
    bare = fetched(Git(project.path), Origin('a "b" \\c', OLD, {}), [OLD, NEW], tmp_path / "git")
    assert (unpacked(bare, OLD, tmp_path / "files") / "cookiecutter.json").is_file()
    assert project.git("tag").stdout == "" and not (project.path / ".git/shallow").exists()


def test_a_path_that_cannot_be_printed_is_one_line_with_escapes(team, one_line):
    odd = ".github/workflows/c\udcff\ni.yml"
    clash(team)
    team.git("mv", CI, odd)
    committed(team)
    plain = {"PYTHONPATH": "src", "PYTHONIOENCODING": "ascii"}
    done = update(team, **plain)
    [line] = [line for line in done.stdout.splitlines() if "conflict in" in line]
    assert r"conflict in .github/workflows/c\udcff\ni.yml: both versions are marked in it" in line
    team.git("reset", "--quiet", "--hard")
    (team.path / odd).write_text("Ours.\n")
    one_line(update(team, check=False, **plain), 2, r"update: \.github/workflows/c\\udcff\\ni\.yml: not committed; .*")
