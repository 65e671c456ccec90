"""Risk: what one job hands to the next holds something else than the files of a step."""

import os

import pytest

from conveyor.core import files
from conveyor.core.errors import Misuse
from conveyor.core.files import check_received

WORKFLOW = {"GITHUB_RUN_ID": "1", "GITHUB_REPOSITORY": "your-team/late-flights"}
VERBS = (["compare"], ["accept"], ["deploy"])


def link_out(build):
    (build / "candidate").mkdir(parents=True)
    (build / "candidate" / "model.skops").symlink_to("/etc/hostname")
    return "build/candidate/model.skops"


def link_folder(build):
    build.mkdir()
    (build / "candidate").symlink_to("/etc")
    return "build/candidate"


def pipe(build):
    (build / "candidate").mkdir(parents=True)
    os.mkfifo(build / "candidate" / "golden.json")
    return "build/candidate/golden.json"


@pytest.mark.parametrize("plant", [link_out, link_folder, pipe], ids=lambda made: made.__name__)
def test_a_link_or_a_pipe_is_refused_before_it_is_followed(project, one_line, plant):
    path = plant(project.path / "build")
    for words in VERBS:
        refused = project.cli(*words, check=False, **WORKFLOW)
        one_line(refused, 2, f"{path}: neither a file nor a folder; nothing of it is used")


@pytest.mark.parametrize(("most", "told"), [("MOST_FILES", "3 files"), ("MOST_BYTES", "of 2 MB")])
def test_more_than_was_to_be_expected_is_refused(tmp_path, monkeypatch, most, told):
    (tmp_path / "build" / "candidate").mkdir(parents=True)
    (tmp_path / "build" / "candidate" / "model.skops").write_bytes(bytes(2**21))
    (tmp_path / "build" / "scores.parquet").write_bytes(b"")
    check_received(tmp_path / "build", apart="environments")
    monkeypatch.setattr(files, most, 2)
    with pytest.raises(Misuse, match=f"build: holds .*{told}.*; nothing of it is used"):
        check_received(tmp_path / "build", apart="environments")


def test_an_environment_that_was_built_here_may_hold_links(tmp_path):
    (tmp_path / "build" / "environments" / "bin").mkdir(parents=True)
    (tmp_path / "build" / "environments" / "bin" / "python").symlink_to("/usr/bin/python3")
    check_received(tmp_path / "build", apart="environments")
    # But only there.
    (tmp_path / "build" / "candidate" / "environments").mkdir(parents=True)
    (tmp_path / "build" / "candidate" / "environments" / "python").symlink_to("/usr/bin/python3")
    with pytest.raises(Misuse, match="candidate/environments/python: neither a file nor a folder"):
        check_received(tmp_path / "build", apart="environments")


def test_on_a_laptop_the_build_folder_is_ones_own(project, one_line):
    (project.path / "build").mkdir()
    (project.path / "build" / "notes").symlink_to("/etc/hostname")
    one_line(project.cli("compare", check=False), 2, r"scores\.parquet: missing; run `make score` first")
