"""Risk: what is generated is broken, carries the template with it, or is nobody's own repository."""

import ast
import json
import os
import re
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations, product

import pytest
import yaml
from conftest import DEFAULTS, OPTIONS, ROOT, TEMPLATE, environment, generate

APACHE = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # the text as the foundation publishes it
TITLES = {
    "MIT": "MIT License",
    "BSD-3-Clause": "BSD 3-Clause License",
    "Apache-2.0": "Apache License",
    "Proprietary": "All rights reserved.",
}


class StrictLoader(yaml.SafeLoader):
    """A key that is there twice is an error: PyYAML would keep the last one and say nothing."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"a key is there twice in {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> list:
    return list(yaml.load_all(text, Loader=StrictLoader))


PARSERS = {".yaml": load_yaml, ".yml": load_yaml, ".toml": tomllib.loads, ".json": json.loads, ".py": ast.parse}


def pairwise(choices: dict[str, list[str]]) -> list[dict[str, str]]:
    """Few sets of answers in which every value meets every value of every other choice."""
    every = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    missing = {pair for answers in every for pair in combinations(answers.items(), 2)}
    chosen = []
    while missing:
        best = max(every, key=lambda answers: len(missing & set(combinations(answers.items(), 2))))
        missing -= set(combinations(best.items(), 2))
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("answers", pairwise(OPTIONS), ids=lambda answers: "-".join(answers.values()))
def test_every_supported_combination_gives_files_that_parse(bake, answers):
    project = bake(**answers)
    parsed = 0
    for path, text in project.texts().items():
        if parse := PARSERS.get(path.suffix):
            parse(text)
            parsed += 1
    assert parsed > 20
    assert project.git("status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(
            key,
            value,
            id=f"{key}-{value}",
        )
        for key, values in {**OPTIONS, "description": ["", "Another"], "owner": ["", "another"]}.items()
        for value in values[1:]
    ],
)
def test_every_answer_changes_what_is_generated(bake, project, key, value):
    assert bake(**{key: value}).texts() != project.texts()


def test_nothing_of_the_template_is_left(project):
    shell_append = re.compile(r'>> "\$')
    marks = re.compile(r"cookiecutter|<<|>>|<%|%>|<#|#>|#%", re.IGNORECASE)
    for path, text in project.texts().items():
        lines = [line for line in text.splitlines() if marks.search(shell_append.sub("", line))]
        assert not lines, f"{path}: {lines}"
        assert not marks.search(path.as_posix())


def test_nobody_who_works_on_the_template_is_named(project):
    log = subprocess.run(
        ["git", "log", "--format=%an%n%ae%n%cn%n%ce"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    names = {"audrey", "feldroy", *filter(None, log.stdout.lower().splitlines())}
    history = project.git("log", "--format=fuller").stdout
    for path, text in {**project.texts(), "git log": history}.items():
        assert not [name for name in names if name in text.lower()], path


@pytest.mark.parametrize("licence", OPTIONS["license"])
def test_the_licence_is_the_one_asked_for_and_names_owner_and_year(bake, licence):
    project = bake(license=licence, owner="ada-lovelace")
    texts = {path.as_posix(): text for path, text in project.texts().items()}
    assert TITLES[licence] in texts["LICENSE"]
    assert not [title for other, title in TITLES.items() if other != licence and title in texts["LICENSE"]]
    holder = texts["NOTICE" if licence == "Apache-2.0" else "LICENSE"]
    assert re.search(rf"^Copyright (\(c\) )?{datetime.now(UTC):%Y} ada-lovelace$", holder, re.MULTILINE)
    assert ("NOTICE" in texts) == (licence == "Apache-2.0")


def test_the_apache_licence_is_unmodified(bake):
    assert sha256((bake(license="Apache-2.0").path / "LICENSE").read_bytes()).hexdigest() == APACHE


def test_every_file_ends_with_one_newline_and_uses_unix_line_ends(project):
    for path, text in project.texts().items():
        assert "\r" not in text, path
        assert not text or re.search(r"[^\n]\n\Z", text), path


def test_file_names_are_legal_on_windows(bake):
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
    for licence in OPTIONS["license"]:
        names = [path.as_posix() for path in bake(license=licence).files()]
        assert len({name.lower() for name in names}) == len(names)
        for name in names:
            assert len(name) <= 150, name
            for part in name.split("/"):
                assert not re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part), name
                assert not reserved.fullmatch(part), name


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.relative_to(TEMPLATE).as_posix()) for path in sorted(TEMPLATE.rglob("*.y*ml"))],
)
def test_yaml_parses_before_it_is_rendered(path):
    assert load_yaml(path.read_text(encoding="utf-8"))


def test_a_key_that_is_there_twice_is_noticed():
    with pytest.raises(yaml.constructor.ConstructorError):
        load_yaml("a: 1\na: 2\n")


def test_the_readme_is_short_and_leads_to_every_page(project):
    readme, pages = project.path / "README.md", sorted((project.path / "docs").iterdir())
    assert not [page.name for page in (readme, *pages) if len(page.read_text().splitlines()) > 120]
    reached = {}
    for page in (readme, *pages):
        links = re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text())
        reached[page] = {(page.parent / target).resolve() if target else page for target, _ in links}
        for target, anchor in links:
            place = page.parent / target if target else page
            assert place.is_file(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.M) if anchor else []
            names = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert not anchor or anchor in names, f"{page.name}: {target}#{anchor}"
    assert len(pages) > 5 and reached[readme] >= {page.resolve() for page in pages}


def test_the_answer_where_to_serve_is_one_line_of_params_yaml_which_a_team_can_change(bake):
    """All else is there whatever was answered: both kinds of deployment, and every page."""
    made = {deploy: bake(deploy=deploy) for deploy in OPTIONS["deploy"]}
    one, other = (project.texts() for project in made.values())
    assert one.keys() == other.keys()
    assert {path.as_posix() for path in one if one[path] != other[path]} == {"params.yaml", ".copier-answers.yml"}
    for deploy, project in made.items():
        [params] = load_yaml((project.path / "params.yaml").read_text())
        assert params["deploy"]["target"] == deploy
        assert (project.path / "container/kubernetes/base/deployment.yaml").is_file()


def test_the_template_holds_small_files_and_no_package():
    """What a tool has left in the folder would go to everybody with the next commit."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 300
    assert not [file.name for file in files if file.stat().st_size > 500_000]
    assert not [file.name for file in files if file.suffix in (".whl", ".zip", ".tar", ".tgz", ".pyc", ".so")]


def test_the_hooks_fit_on_one_page():
    hooks = sorted((ROOT / "hooks").iterdir())
    assert [path.name for path in hooks if path.suffix == ".py"] == ["post_gen_project.py", "pre_gen_project.py"]
    assert sum(len(path.read_text().splitlines()) for path in hooks if path.is_file()) <= 60


def git(path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=path, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def assert_one_commit_of_everything(project, author: str) -> None:
    assert (
        git(project, "log", "--all", "--format=%an <%ae> %cn <%ce> %s %D")
        == f"{author} {author} First commit HEAD -> main"
    )
    assert git(project, "status", "--porcelain", "--ignored") == ""
    assert "data/flights.csv.gz" in git(project, "ls-files").splitlines()


def test_a_template_that_was_run_gives_no_compiled_module(tmp_path):
    template = tmp_path / "template"
    template.mkdir()
    for name in ("hooks", TEMPLATE.name):
        shutil.copytree(ROOT / name, template / name)
    shutil.copy(ROOT / "cookiecutter.json", template)
    for folder in ("src/conveyor", "src/conveyor/core"):
        compiled = template / TEMPLATE.name / folder / "__pycache__" / "planted.cpython-399.pyc"
        compiled.parent.mkdir(exist_ok=True)
        compiled.write_bytes(b"\0")
    generate(tmp_path, template=template)
    assert_one_commit_of_everything(tmp_path / "late-flights", "your-team <noreply@localhost>")


def test_the_first_commit_needs_no_identity_and_guesses_none(tmp_path):
    done = generate(tmp_path, env={"HOME": "/nonexistent", "EMAIL": "root@machine.example"})
    assert_one_commit_of_everything(tmp_path / "late-flights", "your-team <noreply@localhost>")
    assert done.stdout.splitlines() == [f"cd {tmp_path / 'late-flights'}", "make setup", "make pipeline"]
    assert done.stderr == ""


def test_the_first_commit_is_by_the_user_whom_git_knows(tmp_path):
    config = tmp_path / "config"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    generate(tmp_path, env={"GIT_CONFIG_GLOBAL": str(config)})
    assert_one_commit_of_everything(tmp_path / "late-flights", "Ada <ada@example.org>")


def test_the_first_commit_survives_the_settings_of_its_user(tmp_path):
    """A key that is not there, hooks that refuse everything, a private list that ignores the data."""
    hook = tmp_path / "init/hooks/pre-commit"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (tmp_path / "ignored").write_text("*.gz\n")
    config = tmp_path / "config"
    config.write_text(
        "[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = false\n[user]\n\tuseConfigOnly = true\n"
        f"[core]\n\thooksPath = {hook.parent}\n\texcludesFile = {tmp_path / 'ignored'}\n"
        f"[init]\n\ttemplateDir = {tmp_path / 'init'}\n\tdefaultBranch = trunk\n"
    )
    generate(tmp_path, env={"GIT_CONFIG_GLOBAL": str(config)})
    assert_one_commit_of_everything(tmp_path / "late-flights", "your-team <noreply@localhost>")
    assert not (tmp_path / "late-flights/.git/hooks/pre-commit").exists()


def test_a_project_inside_another_repository_gets_its_own(tmp_path):
    git(tmp_path, "init", "--quiet")
    generate(tmp_path, env={"GIT_DIR": str(tmp_path / ".git"), "GIT_WORK_TREE": str(tmp_path)})
    assert_one_commit_of_everything(tmp_path / "late-flights", "your-team <noreply@localhost>")
    assert git(tmp_path, "status", "--porcelain") == "?? late-flights/"


def test_a_project_generated_over_a_repository_leaves_its_history_alone(tmp_path):
    generate(tmp_path)
    before = git(tmp_path / "late-flights", "rev-parse", "HEAD")
    generate(tmp_path, "--overwrite-if-exists", description="Another")
    assert git(tmp_path / "late-flights", "rev-parse", "HEAD") == before
    assert git(tmp_path / "late-flights", "status", "--porcelain") != ""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(None, "git is not installed", id="missing"),
        pytest.param("echo 'fatal: disk full' >&2; exit 128", "fatal: disk full", id="failing"),
    ],
)
def test_without_a_working_git_the_project_is_generated_and_one_line_says_so(tmp_path, script, reason):
    tools = tmp_path / "bin"
    tools.mkdir()
    if script:
        (tools / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "git").chmod(0o755)
    done = generate(tmp_path, env={"PATH": os.fspath(tools)})
    assert done.stderr == f"No first commit, make it before you run the pipeline: {reason}\n"
    assert (tmp_path / DEFAULTS["project"] / "params.yaml").exists()
