"""Risk: whoever proposes a model chooses what it is judged by."""

import gzip
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, BakedProject, once

from conveyor.core.project import Project
from conveyor.data import tables as conveyor_tables
from conveyor.gate.looks import Sight
from conveyor.ledger.ledger import ledger_of
from conveyor.steps.compare import run

RUN = {"GITHUB_REPOSITORY": "acme/late-flights", "GITHUB_RUN_ID": "7"}


@dataclass
class Proposal:
    """A repository with a champion, and a checkout of a pull request against it, as the workflow has them."""

    base: BakedProject
    pull: BakedProject

    def score(self) -> None:
        """What the untrusted job hands over: the candidate that is there, scored on the data of the pull request."""
        self.pull.cli("score")
        for name in ("candidate", "scores.parquet"):
            source, target = self.pull.path / "build" / name, self.base.path / "build" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)

    def judge(self) -> dict:
        """build/decision.json of the base, and the outcome as its exit code."""
        pins = [
            yaml.safe_load((side.path / "params.yaml").read_text())["data"]["sha256"] for side in (self.base, self.pull)
        ]
        if pins[0] != pins[1]:
            self.base.cli("validate", "--pull", str(self.pull.path))
        done = self.base.cli("compare", "--pull", str(self.pull.path), check=False)
        made = json.loads((self.base.path / "build" / "decision.json").read_text())
        assert done.returncode == (made["decision"]["outcome"] == "block"), done.stderr
        self.base.cli("report", "--pull", str(self.pull.path))
        report = (self.base.path / "build" / "report.md").read_text()
        for flag in made["flags"]:
            assert flag[:40] in report, report
        return made


@pytest.fixture
def proposal(bootstrapped, shared, tmp_path) -> Proposal:
    def scored(fresh: Path) -> None:
        bootstrapped.cli("score")
        shutil.copytree(bootstrapped.path, fresh / "project", symlinks=True)

    kept = once(shared, "bootstrapped-and-scored", scored) / "project"
    sides = []
    for name in ("base", "pull"):
        shutil.copytree(kept, tmp_path / name / "late-flights", symlinks=True)
        sides.append(BakedProject(tmp_path / name / "late-flights", bootstrapped.options, bootstrapped.venv))
    return Proposal(*sides)


def rows_of(project: BakedProject) -> list[str]:
    return gzip.decompress((project.path / "data" / "flights.csv.gz").read_bytes()).decode().splitlines()


def put_rows(project: BakedProject, rows: list[str]) -> None:
    path = project.path / "data" / "flights.csv.gz"
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode(), mtime=0))
    project.cli("data-lock")


def test_a_pull_request_that_touches_nothing_but_words_is_judged_without_a_flag(proposal):
    (proposal.pull.path / "README.md").write_text("Other words.\n")
    (proposal.pull.path / "docs" / "gate.md").write_text("Other words.\n")
    made = proposal.judge()
    assert (made["flags"], made["rule_of"]) == ([], "the base")
    assert made["decision"]["reason"] == "the two models predict the same on 4043 rows"


def test_a_looser_rule_does_not_let_its_own_model_through(proposal):
    proposal.pull.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    proposal.pull.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    proposal.pull.edit("src/late_flights/model.py", '"departure_minute", ', "")
    proposal.pull.cli("train")
    proposal.score()
    made = proposal.judge()
    assert made["decision"]["outcome"] == "block" and made["decision"]["margin"] == 0.001
    assert made["flags"] == ["changes the rule of the gate (params.yaml: gate); the base's was used"]


def test_a_pull_request_is_shown_the_level_of_main_and_spends_nothing(proposal):
    ledger = ledger_of(Project(proposal.base.path))
    first = ledger.champion()
    for number in range(6):  # as the runs on main wrote them
        sight = Sight(holdout=f"{number}", rows=4000)
        told = {"key": f"{number}" * 64, "digest": "a" * 64, "commit": first.commit, "data_sha256": "d"}
        ledger._append("kept", {**told, "outcome": "keep", "reason": "", **sight.model_dump()})
    proposal.pull.edit("params.yaml", "logistic: {C: 1.0", "logistic: {C: 0.8")
    proposal.pull.cli("train")
    proposal.score()
    for _ in range(2):
        made = proposal.judge()
        look = made["decision"]["look"]
        assert (look["place"], look["again"], look["before"]) == (7, 0, 6)
        assert look["level"] == pytest.approx(0.1 * (1 / 1.1 - 0.5) * 7**-1.4 / 2.1055472779775806)
        assert made["decision"]["tested"] and made["sight"]["rows"] == made["decision"]["rows"]
        report = (proposal.base.path / "build" / "report.md").read_text()
        assert "- Look: number 7 at these rows (6 verdicts of main used them before); tested at level 0.0013" in report
        assert "main would use the same level, and a pull request does not change it" in report
    assert ledger_of(Project(proposal.base.path)).number == ledger.number


COMMANDS = "changes how commands run or what is tested: "
EDITS = {
    "the split": (
        ("params.yaml", "holdout: 0.2 ", "holdout: 0.5 "),
        "changes the split (params.yaml: split); the base's was used",
    ),
    "what the data mean": (
        ("params.yaml", "ignore: [flight]", "ignore: [flight, visib]"),
        "changes what the data mean (params.yaml: data); the base's was used",
    ),
    "the contract": (
        ("expectations/data.json", '"max_value": 6000', '"max_value": 9000'),
        "changes the data contract; the base's was used: data.json",
    ),
    "the judge": (
        ("src/conveyor/gate/outcome.py", '"block", f"shown to be worse', '"promote", f"shown to be worse'),
        "changes code that judges or moves models; the base's was used: gate/outcome.py",
    ),
    "the trusted types": (
        ("params.yaml", "    - numpy.dtype", "    - os.system\n    - numpy.dtype"),
        "wants more types in a stored model: os.system",
    ),
    "libraries": (("requirements/model.in", "pandas\n", "pandas\nevil\n"), "changes libraries: model.in"),
    "the verbs": (("Makefile", "compare $(PULL_OPTION)", "--help $(PULL_OPTION)"), COMMANDS + "Makefile"),
    "the tests": (("tests/test_data.py", "assert ", "assert True or "), COMMANDS + "tests/test_data.py"),
    "the data's place": (
        ("params.yaml", "path: data/flights.csv.gz", "path: ./data/flights.csv.gz"),
        "reads its data from elsewhere: ./data/flights.csv.gz",
    ),
    "a workflow": (
        (".github/workflows/deliver.yml", "timeout-minutes: 60", "timeout-minutes: 61"),
        "changes workflows: workflows/deliver.yml",
    ),
}


@pytest.mark.parametrize("edit, flag", EDITS.values(), ids=EDITS)
def test_what_a_pull_request_touches_besides_its_model_is_flagged_and_not_used(proposal, edit, flag):
    proposal.pull.edit(*edit)
    made = proposal.judge()
    assert made["flags"] == [flag]
    assert made["decision"]["reason"] == "the two models predict the same on 4043 rows"


def test_files_that_a_pull_request_adds_beside_the_code_are_flagged_whatever_they_are(proposal):
    """What Python would run before or instead of the code that was reviewed: modules, links, compiled files."""
    root = proposal.pull.path
    (root / "src" / "sitecustomize.py").write_text("print('before everything')\n")
    (root / "src" / "conveyor" / "link.py").symlink_to("/etc/hostname")
    compiled = root / "src" / "conveyor" / "gate" / "__pycache__" / "compare.cpython-399.pyc"
    compiled.write_bytes(b"another judge")
    (root / "src" / "conveyor" / "ledger" / "mirror.py").chmod(0o755)
    proposal.pull.git("add", "--all")
    proposal.pull.git("add", "--force", str(compiled))
    assert proposal.judge()["flags"] == [
        "changes code that judges or moves models; the base's was used: gate/__pycache__/compare.cpython-399.pyc,"
        " ledger/mirror.py, link.py",
        "changes code beside the model: sitecustomize.py",
    ]


def test_a_looser_contract_does_not_let_broken_data_through(proposal, one_line):
    rows = rows_of(proposal.pull)
    cells = rows[7].split(",")
    cells[rows[0].split(",").index("distance")] = "60000"
    put_rows(proposal.pull, [*rows[:7], ",".join(cells), *rows[8:]])
    proposal.pull.edit("expectations/data.json", '"max_value": 6000', '"max_value": 90000')
    message = "data/flights.csv.gz: column 'distance': expected values between 1 and 6000, 1 of 20000 rows differ: .*"
    one_line(proposal.base.cli("validate", "--pull", str(proposal.pull.path), check=False), 1, message)


def test_holdout_rows_that_a_pull_request_rewrites_judge_nothing(proposal):
    """A hundred labels of the newest rows are turned round: they are flagged, counted, and left out."""
    rows = rows_of(proposal.pull)
    for place in range(len(rows) - 100, len(rows)):
        cells = rows[place].split(",")
        rows[place] = ",".join([*cells[:-1], str(1 - int(cells[-1]))])
    put_rows(proposal.pull, rows)
    proposal.score()
    made = proposal.judge()
    assert made["flags"] == ["changes 100 rows that the base holds out; they judge nothing"]
    assert made["left_out"] == {"champion_trained": 0, "altered": 100} and made["decision"]["rows"] == 3943


@pytest.mark.parametrize(
    "params, header, told",
    [
        (
            {"target": "delayed"},
            ("late", "delayed"),
            "data.target 'late' becomes 'delayed', so it asks another question",
        ),
        (
            {"task": "regression", "target": "distance"},
            None,
            "data.task 'binary' becomes 'regression' and data.target 'late' becomes 'distance', so it asks",
        ),
        (
            {"key": ["number"], "ignore": []},
            ("flight", "number"),
            "params.yaml: data.key: no column 'flight' in data/flights.csv.gz",
        ),
    ],
)
def test_a_pull_request_that_asks_another_question_is_told_so_and_how_a_person_lets_it_through(
    proposal, params, header, told, tmp_path, monkeypatch
):
    for name, value in params.items():
        proposal.pull.set_param(f"data.{name}", value)
    if header:
        first, *rest = rows_of(proposal.pull)
        put_rows(proposal.pull, [first.replace(*header), *rest])
    output = tmp_path / "output"
    done = proposal.base.cli("validate", "--pull", str(proposal.pull.path), GITHUB_OUTPUT=str(output))
    assert f"not judged: {told}" in done.stdout and output.read_text() == "judged=false\n"
    proposal.base.cli("report", "--pull", str(proposal.pull.path))
    verdict, *_ = (proposal.base.path / "build" / "report.md").read_text().splitlines()
    assert verdict.startswith(f"**Verdict: not judged** — {told}")
    assert verdict.endswith(
        "on main the verdict is incomparable until a person runs the workflow approve, or make approve"
    )


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv",
        "data/../../secret.csv",
        "{outside}",
        "file://{outside}",
        "simplecache::file://{outside}",
        "simplecache::https://example.com/flights.csv",
        "local://{outside}",
        "git://{outside}",
        "data/link.csv",
        "data/loop.csv",
        "data/\0.csv",
    ],
)
def test_a_pull_request_cannot_name_data_that_are_not_its_own(proposal, one_line, path):
    outside = proposal.pull.path.parent / "secret.csv"
    outside.write_text("token\ns3cret\n")
    (proposal.pull.path / "data" / "link.csv").symlink_to(outside)
    (proposal.pull.path / "data" / "loop.csv").symlink_to("loop.csv")
    path = path.format(outside=outside)
    shown = path.replace("\0", "\\x00")
    proposal.pull.set_param("data.path", path)
    done = proposal.base.cli("validate", "--pull", str(proposal.pull.path), check=False)
    one_line(
        done, 2, re.escape(f"{shown}: a pull request's data.path leads out of its repository; name a file of") + ".*"
    )
    verdict = json.loads((proposal.base.path / "build" / "validation.json").read_text())
    assert not verdict["passed"] and "s3cret" not in done.stdout + done.stderr + str(verdict)


def test_holdout_rows_that_a_pull_request_drops_are_flagged(proposal):
    rows = rows_of(proposal.pull)
    put_rows(proposal.pull, rows[:-50])
    proposal.score()
    assert proposal.judge()["flags"] == ["drops 50 rows that the base holds out"]


def test_holdout_rows_that_a_pull_request_repeats_are_refused_and_judge_nothing(proposal, one_line):
    """Copies of the rows that suit a model would count twice."""
    rows = rows_of(proposal.pull)
    put_rows(proposal.pull, [*rows, *rows[-30:]])
    suite = json.loads((proposal.base.path / "expectations" / "data.json").read_text())
    suite["expectations"] = [e for e in suite["expectations"] if "compound" not in e["type"]]
    (proposal.base.path / "expectations" / "data.json").write_text(json.dumps(suite))  # whatever the contract says
    message = (
        r"data/flights.csv.gz: 30 rows repeat the key \(scheduled, carrier, flight, origin\) of a row before them, such"
        r" as row 20001, 20002, 20003; a key names one row.*"
    )
    one_line(proposal.base.cli("validate", "--pull", str(proposal.pull.path), check=False), 1, message)
    proposal.score()
    proposal.base.cli("compare", "--pull", str(proposal.pull.path))
    made = json.loads((proposal.base.path / "build" / "decision.json").read_text())
    assert made["flags"][-1] == "changes 60 rows that the base holds out; they judge nothing"
    assert made["left_out"]["altered"] == 60


def test_newer_rows_are_judged_like_any(proposal):
    july = gzip.decompress((ROOT / "tools" / "flights-july-december.csv.gz").read_bytes()).decode().splitlines()
    rows = rows_of(proposal.pull)
    assert july[0] == rows[0]
    put_rows(proposal.pull, [*rows, *july[1:1001]])
    proposal.score()
    made = proposal.judge()
    assert made["flags"] == [] and made["left_out"] == {"champion_trained": 0, "altered": 0}
    assert made["decision"]["rows"] == pytest.approx(0.2 * 21_000, abs=20)


def test_scores_of_other_rows_of_another_shape_or_of_no_sense_promote_nothing(proposal, one_line):
    import numpy as np

    tables, build = conveyor_tables, proposal.base.path / "build"
    columns, about = tables.read(build / "scores.parquet", ("row", "content", "champion", "challenger"), "score")
    forged = {
        "other rows": {**columns, "row": np.roll(columns["row"], 1)},
        "rows that there are not": {**columns, "row": columns["row"] + 10**9},
        "classes that there are not": {**columns, "challenger": np.tile(columns["challenger"][:, None], 3)},
        "nothing": {name: column[:0] for name, column in columns.items()},
    }
    for name, those in forged.items():
        tables.write(build / "scores.parquet", those, about)
        made = proposal.judge()
        assert made["decision"]["outcome"] == "block", name
        assert made["decision"]["reason"] == "the challenger gave no probability for 4043 of 4043 rows", name
    senseless = {
        "rows that are no numbers of rows": ({**columns, "row": columns["row"] * 1.5}, about),
        "rows of several numbers": ({**columns, "row": np.tile(columns["row"][:, None], 2)}, about),
        "contents that are no hashes": ({**columns, "content": columns["content"].astype(np.float64)}, about),
        "no word on the champion": (columns, {"champion": [], "challenger": "x", "cost": {"rows": "many"}}),
    }
    for those, told in senseless.values():
        tables.write(build / "scores.parquet", those, told)
        done = proposal.base.cli("compare", "--pull", str(proposal.pull.path), check=False)
        message = "scores.parquet: (damaged|the champion has changed since).*; run `make score` again"
        one_line(done, 2, message)


def test_scores_of_before_a_new_champion_want_every_job_again_in_a_workflow(proposal, one_line):
    """Asked to run the failed job again, GitHub would give it the same scores."""
    scores = proposal.base.path / "build" / "scores.parquet"
    columns, about = conveyor_tables.read(scores, ("row", "content", "champion", "challenger"), "score")
    conveyor_tables.write(scores, columns, about | {"champion": {"digest": "0" * 64}})
    for env, mend in (({}, "run `make score` again"), (RUN, "choose Re-run all jobs")):
        done = proposal.base.cli("compare", "--pull", str(proposal.pull.path), check=False, **env)
        one_line(done, 2, f"scores.parquet: the champion has changed since; {mend}")


def test_a_split_that_the_data_of_a_pull_request_cannot_answer_is_incomparable_there_too(proposal):
    """The champion's split went by a column that is gone: then nobody knows which rows it had trained on."""
    root = proposal.base.path
    project = Project(root, pull=proposal.pull.path)
    bundle = ledger_of(project).bundle(ledger_of(project).champion())
    split = bundle.path / "split.json"
    split.write_text(json.dumps(json.loads(split.read_text()) | {"columns": ["departed"]}))
    ledger_of(project).__dict__["bundle"] = lambda champion: bundle
    assert run(project) == (
        "incomparable: the champion cannot score these rows: column 'departed' is missing;"
        " the split of a model needs it"
    )


# On main


def pushed(project: BakedProject, message: str) -> str:
    """Commit everything; returns the commit that main was at before."""
    before = project.git("rev-parse", "HEAD").stdout.strip()
    project.git("commit", "--quiet", "--all", "--message", message)
    return before


def decided(project: BakedProject, before: str) -> dict:
    project.cli("compare", "--before", before, check=False)
    return json.loads((project.path / "build" / "decision.json").read_text())


def test_on_main_a_rule_that_changed_together_with_the_model_waits_for_the_next_change(proposal):
    project = proposal.base
    project.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    project.edit("params.yaml", "seed: 7", "seed: 8")
    before = pushed(project, "a looser rule and a model")
    made = decided(project, before)
    assert made["rule_of"] == f"params.yaml of {before[:12]}, the commit before"
    assert (made["decision"]["promote_when"], made["decision"]["margin"]) == ("superior", 0.001)
    assert made["flags"] == [
        "the rule of the gate has changed together with the model: it is used from the next change on"
    ]
    project.edit("params.yaml", "seed: 8", "seed: 9")
    made = decided(project, pushed(project, "the next change"))
    assert (made["rule_of"], made["flags"]) == ("params.yaml", [])
    assert (made["decision"]["promote_when"], made["decision"]["margin"]) == ("non_inferior", 0.5)


def test_on_main_a_rule_that_changed_alone_is_used_at_once_and_flagged(proposal):
    project = proposal.base
    project.edit("params.yaml", "margin: 0.001 ", "margin: 0.002 ")
    made = decided(project, pushed(project, "a rule"))
    assert made["decision"]["margin"] == 0.002
    assert made["flags"] == ["the rule of the gate has changed, and nothing else"]


def test_on_main_a_threshold_that_changed_together_with_the_model_judges_at_once_for_it_serves_at_once(proposal):
    project = proposal.base
    project.edit("params.yaml", "threshold: 0.5 ", "threshold: 0.25 ")
    project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    project.edit("params.yaml", "seed: 7", "seed: 8")
    before = pushed(project, "a threshold, a margin and a model")
    made = decided(project, before)
    assert made["rule_of"] == f"params.yaml of {before[:12]}, the commit before"
    assert (made["decision"]["threshold"], made["decision"]["margin"]) == (0.25, 0.001)
    assert made["flags"] == [
        "the threshold has changed from 0.5 to 0.25: classes are by the new one",
        "the rule of the gate has changed together with the model: it is used from the next change on",
    ]
    project.edit("params.yaml", "threshold: 0.25 ", "threshold: 0.75 ")
    made = decided(project, pushed(project, "a threshold alone"))
    assert (made["rule_of"], made["decision"]["threshold"]) == ("params.yaml", 0.75)
    assert made["flags"] == ["the threshold has changed from 0.25 to 0.75: classes are by the new one"]


@pytest.mark.parametrize("before", ["0" * 40, "1" * 40], ids=["a new branch", "a commit that is gone"])
def test_on_main_without_a_commit_before_the_first_parent_or_the_present_rule_decides(proposal, before):
    project = proposal.base
    assert decided(project, before)["rule_of"] == "params.yaml"  # the first commit has no parent
    project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    project.edit("params.yaml", "seed: 7", "seed: 8")
    pushed(project, "both")
    assert decided(project, before)["decision"]["margin"] == (0.5 if before == "0" * 40 else 0.001)


def test_on_main_a_rule_that_does_not_fit_new_data_is_not_asked_of_them(proposal):
    """Other data and their gate come in one change: the segments of before are no columns any more."""
    project = proposal.base
    rows = rows_of(project)
    project.edit("params.yaml", "carrier, flight, origin]", "carrier, flight, airport]")
    project.edit("params.yaml", "segments: [origin, carrier]", "segments: [airport, carrier]")
    project.edit("params.yaml", "margin: 0.001 ", "margin: 0.01 ")
    put_rows(project, [rows[0].replace("origin", "airport"), *rows[1:]])
    made = decided(project, pushed(project, "another column"))
    assert made["decision"]["margin"] == 0.01
    assert made["flags"] == [
        "the rule of the gate has changed together with the data: that of before does not fit these"
    ]


# Data that the champion cannot answer for


def test_a_champion_of_another_question_is_incomparable_until_a_person_approves(proposal, one_line):
    project = proposal.base
    project.edit("params.yaml", "target: late ", "target: weekend ")
    rows = rows_of(project)
    weekday = rows[0].split(",").index("weekday")
    put_rows(project, [rows[0] + ",weekend", *(f"{row},{int(int(row.split(',')[weekday]) > 5)}" for row in rows[1:])])
    project.edit("params.yaml", "{roc_auc: 0.6}", "{}")
    project.edit("expectations/data.json", '"visib", "late"]', '"visib", "late", "weekend"]')
    project.edit("params.yaml", "ignore: [flight]", "ignore: [flight, late]")
    one_line(
        project.cli("approve", "--because", "x", check=False), 2, ".*decision.json: missing; run `make compare` first"
    )
    done = project.cli("pipeline")
    reason = "the champion cannot score these rows: it was trained for target late, and these data ask for weekend"
    made = json.loads((project.path / "build" / "decision.json").read_text())["decision"]
    assert (made["outcome"], made["reason"]) == ("incomparable", reason)
    assert 'incomparable: nothing to promote, champion/000002 stays; `make approve BECAUSE="..."`' in done.stdout
    message = 'approve: needs a reason for the record; give one: make approve BECAUSE="..."'
    one_line(project.cli("approve", check=False), 2, message)

    done = project.make("approve", BECAUSE="another question; $(touch pwned) `x`", GITHUB_ACTOR="ada")
    assert "champion/000006 is model" in done.stdout and not (project.path / "pwned").exists()
    events = json.loads(project.cli("history", "--json").stdout)
    assert [event["type"] for event in events[2:]] == ["kept", "approved", "accepted", "live"]
    assert (events[3]["by"], events[3]["reason"]) == ("ada", "another question; $(touch pwned) `x`")
    assert events[5]["reason"] == "approved by ada: another question; $(touch pwned) `x`"
    again = project.cli("approve", "--because", "x", check=False)
    one_line(
        again, 2, "approve: the gate came to a verdict, keep; only an incomparable one waits for a person|.*another.*"
    )
    assert "keep" in project.cli("pipeline").stdout


def test_a_changed_split_column_is_incomparable_and_not_an_error(proposal):
    """The champion's split went by time; the data have that column no more."""
    project = proposal.base
    rows = [row.split(",", 1) for row in rows_of(project)]
    put = [f"{n or 'day'},{rest}" for n, (_, rest) in enumerate(rows)]
    path = project.path / "data" / "flights.csv.gz"
    path.write_bytes(gzip.compress(("\n".join(put) + "\n").encode(), mtime=0))
    project.edit("params.yaml", "time: scheduled ", "time: null ")
    project.edit("params.yaml", "key: [scheduled, carrier, flight, origin]", "key: [day]")
    project.edit("params.yaml", "ignore: [flight]", "ignore: [flight, day]")
    project.cli("data-lock")
    suite = json.loads((project.path / "expectations" / "data.json").read_text())
    text = json.dumps(suite).replace('"scheduled", "carrier", "flight", "origin"]', '"day", "carrier"]')
    text = text.replace('"scheduled", "carrier"', '"day", "carrier"')
    (project.path / "expectations" / "data.json").write_text(text)
    project.cli("pipeline")
    made = json.loads((project.path / "build" / "decision.json").read_text())["decision"]
    assert made["outcome"] == "incomparable" and "column 'scheduled' is missing" in made["reason"]
