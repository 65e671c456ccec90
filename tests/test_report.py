"""Risk: the report says something else than the gate, breaks on a hostile name, or needs what a reader has not got."""

import json
import os
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt

from conveyor.core.ci import Where
from conveyor.core.environment import Environment
from conveyor.core.files import sha256, write_json
from conveyor.core.params import Gate
from conveyor.gate import decide as conveyor_decide
from conveyor.gate.looks import Look
from conveyor.report import changed, pictures, wording
from conveyor.report import page as report_page
from conveyor.report.markdown import markdown as as_markdown
from conveyor.steps.report import run as run_report

HEADER = {"schema": 1, "commit": "c" * 40, "dirty": False, "data_sha256": "d" * 64, "created": "2026-11-24T09:28:10Z"}
OUTCOMES = ["bootstrap", "promote", "keep", "block", "incomparable"]
HOSTILE = [
    "a|b",
    "`x` **y** _z_ ~~w~~ $q^$",
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x.png onerror=alert(1)>',
    "[click](javascript:alert(1)) ![x](http://evil.example/y.png)",
    "https://evil.example www.evil.example",
    "{{ 7 * 7 }} {% raw %} &lt;",
    "back\\slash \\| # > -",
]
GOLDEN = Path(__file__).with_name("golden")
TASKS = ["binary", "multiclass", "regression"]
LOOK = Look(place=4, again=0, level=0.04, before=3, share=0.818)
VOID = {"meta", "br", "hr", "img", "link", "input"}


def scores(rows: int = 1500, noise: float = 1.0, seed: int = 7):
    """Labels and the probabilities of a model that sees their cause through noise."""
    rng = np.random.default_rng(2013)
    signal = rng.normal(0, 1.5, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(1 - signal))).astype(np.int64)
    return y, 1 / (1 + np.exp(1 - signal - np.random.default_rng(seed).normal(0, noise, rows)))


def passed(**more):
    held = {"type": "expect_column_values_to_not_be_null", "column": "a", "passed": True, "detail": "no missing value"}
    more = {"passed": True, "failures": [], "expectations": [held], **more}
    return {**HEADER, "rows": 9000, "columns": ["a"], "docs": None, **more}


def refused(*names):
    broken = [{"type": "expect_x", "column": n, "passed": False, "detail": f"column {n}: broken"} for n in names]
    return passed(passed=False, failures=[b["detail"] for b in broken], expectations=passed()["expectations"] + broken)


def around(made, rows: int, champion: bool = True, **more):
    """decision.json around a decision of the gate."""
    header = {"champion": {"event": 2, "key": "e" * 64, "digest": "e" * 64, "commit": "c" * 40} if champion else None}
    header |= {"challenger": {"key": "f" * 64, "digest": "f" * 64}, "ledger": 2, "holdout": "a" * 64}
    header |= {"holdout_rows": rows + 12, "left_out": {"champion_trained": 12, "altered": 0}}
    header |= {"rule_of": "params.yaml", "flags": [], "warnings": []}
    return {**HEADER, **header, **more, "decision": made.model_dump(mode="json")}


def lineage(key: str = "f", **more):
    """lineage.json of a bundle, as train writes it."""
    inputs = {"data": "d" * 64, "params": "1" * 64, "code": "2" * 64, "locks": "3" * 64}
    params = {"estimator": "forest", "forest": {"n_estimators": 100, "max_depth": None}}
    asked = {"task": "binary", "target": "late", "classes": ["0", "1"], "trained_rows": 16000}
    own = {"scoring_code": "4" * 64, "versions": {"python": "3.12.0", "scikit-learn": "1.9.1"}, "mlflow_run": "5" * 32}
    features = {"features": {"origin": "str", "distance": "int64"}, "modules": {"model.py": "6" * 64}}
    return {
        **HEADER,
        "key": key * 64,
        "inputs": inputs,
        "params": params,
        "seed": 7,
        **asked,
        **own,
        **features,
        **more,
    }


def segments(rows: int, values: int = 3):
    """Two columns to guard."""
    every = np.arange(rows)
    return pd.DataFrame(
        {"origin": [f"= {n}" for n in every % values], "distance": np.where(every % 2, "up to 9", "above 9")}
    )


@pytest.fixture
def decide():
    """The gate's own decision as decision.json has it, with the labels and predictions that it was drawn from."""

    def decide(outcome, y=None, challenger=None, error="column 'a' is missing", values=3, **gate):
        rule = {"metric": "roc_auc", "promote_when": "superior", "margin": 0.001, "confidence": 0.95} | gate
        if y is None:
            y, challenger = scores(noise={"promote": 0.2, "block": 4.0}.get(outcome, 1.0))
        champion = {"bootstrap": None, "incomparable": np.full(len(y), np.nan)}.get(outcome, scores(seed=8)[1])
        rule = Gate(floors={"roc_auc": 0.55}, **rule)
        error = error if outcome == "incomparable" else None
        parts = segments(len(y), values) if values else None
        look = None if champion is None else LOOK
        made = conveyor_decide.decide(y, champion, challenger, rule, error, segments=parts, look=look)
        assert made.outcome == outcome, made.reason
        models = {"challenger": challenger} if champion is None else {"champion": champion, "challenger": challenger}
        return around(made, len(y), champion is not None), (y, models)

    return decide


def of_task(task, rows: int = 3000, classes: int = 4, **more):
    """A decision about each task, with labels and predictions."""
    draw = np.random.default_rng(2013)
    if task == "binary":
        y, ours = scores(rows, 0.2)
        theirs, metric = scores(rows, seed=8)[1], "roc_auc"
    elif task == "multiclass":
        signal = draw.normal(0, 1, (rows, classes))
        y, metric = (signal + draw.gumbel(0, 1, signal.shape)).argmax(axis=1), "log_loss"
        ours, theirs = (np.exp(signal + draw.normal(0, noise, signal.shape)) for noise in (0.1, 1.0))
        ours, theirs = (model / model.sum(axis=1, keepdims=True) for model in (ours, theirs))
    else:
        y = draw.gamma(2.0, 9000.0, rows)
        ours, theirs = (y + draw.normal(0, noise, rows) for noise in (4000, 6000))
        metric = "rmse"
    rule = Gate(metric=metric, promote_when="superior", margin=0.001, confidence=0.95)
    made = conveyor_decide.decide(y, theirs, ours, rule, None, task, segments=segments(rows))
    assert made.outcome == "promote", made.reason
    return around(made, rows, **more), (y, {"champion": theirs, "challenger": ours})


class Page(HTMLParser):
    """What a browser would see: raises where tags do not balance."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text, self.skip = [], [], [], "", False
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> after {self.open}"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    @property
    def words(self):
        return " ".join(self.text.split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_verdict_of_the_gate_comes_first(decide, outcome):
    decision, scored = decide(outcome)
    reason = decision["decision"]["reason"]
    markdown = as_markdown(passed(), decision)
    assert markdown.startswith(f"**Verdict: {outcome}** — {reason}\n")
    page = Page(report_page.page(passed(), decision, None, scored, "flights"))
    assert page.words.index(f"Verdict: {outcome}") < page.words.index(reason) < page.words.index("Rows judged")
    for metric in decision["decision"]["metrics"]:
        shown = f"{metric['challenger']:.4f}"
        assert shown in markdown and shown in page.words
        if metric["gain"] is not None:
            gain, interval = f"{metric['gain']:+.4f}", f"{metric['gain_low']:+.4f} to {metric['gain_high']:+.4f}"
            assert f"| {gain} | {interval} |" in markdown
            # In the picture and in the table.
            assert page.words.count(gain.replace("-", "−")) >= 2 and interval.replace("-", "−") in page.words
    for fact in (
        "1,500",
        "of 1,512 held out; left out are 12 because the champion was trained on them",
        "1 of 1 expectations hold on 9,000 rows",
        "c" * 12,
        "d" * 12,
        "f" * 12,
    ):
        assert fact in markdown
    seen = "number 4 at these rows (3 verdicts of main used about 82 % of them before); tested at level 0.04"
    words = [text.replace("\u00a0", " ") for text in (markdown, page.words)]
    assert [f"{seen} in place of 0.05" in text for text in words] == [outcome != "bootstrap"] * 2
    assert ("- Look: number 4" in markdown) == (outcome != "bootstrap")
    assert "c" * 13 not in markdown
    # Of a model that is not there, or that could not score, nothing is drawn.
    drawn = [label for label in page.values("aria-label") if label.startswith(("ROC", "Calibration"))]
    assert len(drawn) == 2
    assert all(("champion" in label) == (outcome not in ("bootstrap", "incomparable")) for label in drawn)
    gains = [label for label in page.values("aria-label") if label.startswith("Gain")]
    assert len(gains) == 2 * (outcome not in ("bootstrap", "incomparable"))
    if outcome == "incomparable":
        assert "no curves of the champion: 1,500 of its 1,500 predictions are not probabilities" in page.words


def looked(look=LOOK, rule_of="params.yaml", needed=0.0123, **gate):
    """The words about a look, of a verdict whose numbers are written here."""
    gate = {"name": "roc_auc", "gain_error": 0.005, **gate}
    judged = {"confidence": 0.95, "metric": "roc_auc", "metrics": [gate], "look": look and look.model_dump()}
    judged["needed"] = needed
    return wording.look({"decision": judged, "rule_of": rule_of}).replace("\u00a0", " ")


def test_the_report_says_which_look_it_is_what_it_needed_and_what_luck_shows():
    assert looked(None) == ""
    first = Look(place=1, again=0, level=1 - 0.95, before=0)
    assert looked(first) == "number 1 at these rows; tested at level 0.05, which needs a gain of +0.0123"
    second = looked(LOOK.model_copy(update={"before": 1, "share": None, "level": 0.0012}), needed=None)
    assert (
        second == "number 2 at these rows (1 verdict of main used them before); tested at level 0.0012 in place of 0.05"
    )
    fourth = looked()
    # Of four normal numbers the largest is 1.03 on average.
    assert fourth.endswith(
        "; after so many looks a reported gain can be too good by about 0.0052, as that of the luckiest of 4 equal"
        " challengers is"
    )
    assert "luckiest" not in looked(LOOK.model_copy(update={"before": 1})) + looked(gain_error=None)
    assert "this challenger was judged 3 times before, on other rows" in looked(LOOK.model_copy(update={"again": 3}))
    assert "a pull request does not change it" in looked(rule_of="the base") and "pull" not in fourth


def test_refused_data_show_nothing_of_a_decision_that_was_there_before(decide):
    decision, scored = decide("promote")
    markdown = as_markdown(refused("distance", "origin"), decision)
    assert markdown.startswith("**Verdict: data refused** — column distance: broken\n")
    assert "column origin: broken" in markdown and "1 of 3 expectations hold" in markdown
    assert "roc_auc" not in markdown and "f" * 12 not in markdown
    page = Page(report_page.page(refused("distance"), decision, None, scored))
    assert "Verdict: data refused" in page.words and "svg" not in page.tags
    assert page.words.index("✗ fails") < page.words.index("✓ holds")
    unread = passed(passed=False, rows=None, expectations=[], failures=["data.csv: empty; fetch the file again"])
    assert as_markdown(unread).startswith("**Verdict: data refused** — data.csv: empty; fetch the file again\n")
    assert "none was checked" in Page(report_page.page(unread)).words.lower()


def test_a_run_that_ended_before_a_decision_is_no_verdict():
    assert as_markdown(passed()).startswith("**Verdict: none** — ")
    assert "Verdict: none" in Page(report_page.page(passed())).words


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_both(decide, name):
    decision, scored = decide("promote")
    decision["decision"]["reason"] = name
    decision["decision"]["metrics"][1]["name"] = name
    decision["decision"]["guards"][0]["name"] = f"origin = {name}"
    decision["decision"]["unseen"] = [name]
    days(decision["decision"], name, still_correlated=True)
    decision["decision"]["guards"][1]["name"] = name
    decision |= {"flags": [name], "warnings": [name], "rule_of": name}
    made = lineage(params={name: {name: name}}, versions={name: name, "commit": name}, mlflow_run=name, classes=[name])
    made |= {"modules": {name: name}, "scoring_code": name, "features": {name: name}, "trained_rows": name}
    made["inputs"] = {"data": name, "code": name}
    seen = " ".join(name.split())
    for validation, given in ((refused(name), None), (passed(), decision)):
        # As GitHub reads it, with tables, and with tags let through to see whether there are any.
        markdown = as_markdown(validation, given, made, lineage("e"))
        tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown)
        inline = [child for token in tokens for child in token.children or []]
        assert {t.content for t in inline if t.type == "html_inline"} <= {"<sub>", "</sub>"}
        assert not {t.type for t in tokens + inline} & {"link_open", "image", "code_inline", "em_open", "heading_open"}
        folded = {"<details><summary>The guards in numbers</summary>\n", "</details>\n"}
        assert {t.content for t in tokens if t.type == "html_block"} <= folded
        assert not {t.type for t in inline} & {"s_open", "math_inline"}
        text = "".join(t.content for t in inline if t.type in ("text", "text_special"))
        assert text.count(seen) >= (1 if given is None else 12), text
        if given is not None:
            rows = [row.count("|") for row in markdown.splitlines() if row.startswith("|")]
            assert set(rows) == {6, 9, 4}
        page = Page(report_page.page(validation, given, made, scored, before=lineage("e")))
        assert page.words.count(seen) >= (1 if given is None else 12)
        assert not {"script", "img", "a"} & set(page.tags)


def test_names_ping_nobody_link_nowhere_and_stay_on_their_line():
    markdown = as_markdown(refused("@team\n# x\r\n\u202e- [y]: http://evil.example www.evil.example\x1b[2J"))
    assert "@team" not in markdown and "://" not in markdown and "www." not in markdown
    assert not re.search(r"^\s*#", markdown, re.MULTILINE) and "\u202e" not in markdown and "\x1b" not in markdown
    assert "#\u200b12" in as_markdown(refused("owner/name#12"))
    for begin in ("# x", "- x", "+ x", "1. x", "23) x", "---", "## x"):
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(f"- {wording.escape(begin)}")
        assert [token.type for token in tokens].count("list_item_open") == 1, begin
        assert not {"heading_open", "hr"} & {token.type for token in tokens}, begin
    many = as_markdown(refused(*(f"{n:03d}" + "x" * 5000 for n in range(500))))
    assert len(many) < 20_000 and "and 480 more" in many


@pytest.mark.parametrize("outcome", [*OUTCOMES, "data refused"])
def test_the_page_needs_nothing_but_itself(decide, outcome):
    validation = refused("distance") if outcome == "data refused" else passed()
    text = report_page.page(validation, *((None,) if outcome == "data refused" else (decide(outcome)[0],)))
    if outcome != "data refused":
        decision, scored = decide(outcome)
        text = report_page.page(validation, decision, None, scored)
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    references = page.values("src") + page.values("href") + page.values("xlink:href")
    references += re.findall(r"url\(([^)]*)\)", text)
    assert all(reference.startswith("#") for reference in references)
    ids = page.values("id")
    assert len(ids) == len(set(ids)) and {reference[1:] for reference in references} <= set(ids)
    # Accessible: a language, a title, a name for each picture, headers for each column.
    assert ("html", "lang", "en") in page.attributes and "title" in page.tags
    assert page.values("role") == ["img"] * page.tags.count("svg")
    assert len(page.values("aria-label")) == page.tags.count("svg") and page.values("scope")
    # Light and dark, wide and narrow: every colour is a variable that both themes know.
    assert "@media (prefers-color-scheme: dark) {" in text and "width=device-width" in text
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    known = set(re.findall(r"(--\w+):", light))
    assert known == set(re.findall(r"(--\w+):", dark))
    assert set(re.findall(r"var\((--\w+)\)", text)) <= known | {"--tone"}
    body = text.partition("</head>")[2]
    assert not re.findall(r"#[0-9a-f]{6}\b(?!\w)", re.sub(r'(url\(#|href="#|id=")\w+', "", body))


def test_the_same_numbers_make_the_same_page(decide):
    decision, scored = decide("promote")
    first, second = (report_page.page(passed(), decision, None, scored) for _ in range(2))
    assert first == second
    assert "<dc:" not in first and "<metadata" not in first


def test_pictures_agree_with_the_numbers(decide):
    decision, (y, models) = decide("promote")
    stated = {m["name"]: m for m in decision["decision"]["metrics"]}
    for role, predicted in models.items():
        false, true = pictures.roc(y, predicted)
        assert np.trapezoid(true, false) == pytest.approx(stated["roc_auc"][role], abs=2e-3)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        groups = pictures.groups(y, predicted)
        assert len(groups) == 10 and sum(g.rows for g in groups) == len(y)
        assert sum(g.rows * g.observed for g in groups) == pytest.approx(y.sum())
        assert all(0 <= g.low <= g.observed <= g.high <= 1 for g in groups)
    # Ties are one step: a model that says the same of every row has the diagonal for its curve, and one group.
    false, true = pictures.roc(y, np.full(len(y), 0.3))
    assert (false.tolist(), true.tolist()) == ([0, 1], [0, 1])
    assert [g.rows for g in pictures.groups(y, np.full(len(y), 0.3))] == [len(y)]
    assert pictures.groups(np.array([1] * 8 + [0] * 2), np.linspace(0, 1, 10))[0][3:] == pytest.approx(
        (0.4902, 0.9433), abs=1e-4
    )


@pytest.mark.parametrize(
    ("y", "challenger", "said"),
    [
        ([1] * 50, [0.5] * 50, "the 50 rows hold only one class"),
        ([0, 1] * 50, [np.nan] * 100, "100 of its 100 predictions are not probabilities"),
        ([0, 1] * 50, [0.2, np.inf] * 50, "50 of its 100 predictions are not probabilities"),
        ([], [], "there are no rows"),
    ],
    ids=["one class", "NaN", "infinite", "no rows"],
)
def test_what_cannot_be_drawn_is_said(y, challenger, said):
    y, challenger = np.array(y, dtype=np.int64), np.array(challenger, dtype=np.float64)
    rule = Gate(metric="roc_auc", promote_when="superior", margin=0.0, confidence=0.95)
    for champion in (None, np.full(len(y), 0.4)):
        made = conveyor_decide.decide(y, champion, challenger, rule)
        assert made.outcome == "block"
        decision = around(made, len(y), champion is not None)
        models = {"challenger": challenger} if champion is None else {"champion": champion, "challenger": challenger}
        assert as_markdown(passed(), decision).startswith(f"**Verdict: block** — {made.reason}\n")
        page = Page(report_page.page(passed(), decision, None, (y, models)))
        assert f"There are no curves of the challenger: {said}." in page.words
        assert "nan" not in page.words.lower().split()


def test_the_summary_gets_the_report_once(tmp_path):
    build, summary = tmp_path / "build", tmp_path / "summary.md"
    summary.write_text("before\n")
    write_json(build / "validation.json", refused("distance"))
    project = SimpleNamespace(
        root=tmp_path, build=build, package="flights", environment=Environment(summary=str(summary))
    )
    assert run_report(project) == "data refused: build/report.html"
    markdown = (build / "report.md").read_text()
    assert summary.read_text() == "before\n" + markdown
    Page((build / "report.html").read_text())
    project.environment = Environment()
    run_report(project)
    assert summary.read_text() == "before\n" + markdown


def test_curves_are_drawn_from_the_rows_that_were_judged(bootstrapped):
    """Not from the scores, which may come from a job that nobody trusts."""
    page = bootstrapped.path / "build" / "report.html"
    drawn = page.read_text()
    assert [label.split()[0] for label in Page(drawn).values("aria-label")] == ["ROC", "Calibration"]
    judged = pq.read_table(bootstrapped.path / "build" / "judged.parquet")
    assert judged.column_names == ["label", "champion", "challenger"] and judged.num_rows == 4043
    (bootstrapped.path / "build" / "scores.parquet").unlink()
    bootstrapped.cli("report")
    assert page.read_text() == drawn


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_pictures(task):
    decision, scored = of_task(task)
    made = lineage(classes=["ant", "bee", "cat", "dog"])
    page = Page(report_page.page(passed(), decision, made, scored, before=lineage("e")))
    drawn = [label.split()[0] for label in page.values("aria-label")]
    two = {
        "binary": ["ROC", "Calibration"],
        "multiclass": ["Share", "Calibration"],
        "regression": ["Calibration", "Errors"],
    }
    assert drawn == ["Gain", "Gain", *two[task]]
    assert ("bee" in page.words.split()) == (task == "multiclass")
    assert "nan" not in page.words.lower().split()
    markdown = as_markdown(passed(), decision)
    assert f"**{decision['decision']['metric']}** (decides)" in markdown
    assert ("positive" in markdown.split("- Rows")[1].split("\n")[0]) == (task == "binary")


def test_pictures_of_the_other_tasks_agree_with_the_numbers():
    _, (y, models) = of_task("regression")
    groups, errors = pictures.groups(y, models["challenger"]), pictures.spread(y, models["challenger"])
    assert sum(g.rows * g.observed for g in groups) == pytest.approx(y.sum())
    assert all(g.low < g.observed < g.high for g in groups) and all(g.low < g.observed < g.high for g in errors)
    # The middle 80 % of normal errors with standard deviation 4000.
    assert np.mean([g.high - g.low for g in errors]) == pytest.approx(2 * 1.2816 * 4000, rel=0.1)
    assert pictures.groups(np.array([3.0]), np.array([2.0])) == [(1, 2.0, 3.0, 3.0, 3.0)]
    for letters, most in (("origin", 20), ("WORLD", 12), ("航", 8)):
        assert pictures.short(letters * 40)[-1] == "…" and len(pictures.short(letters * 40)) <= most
    assert pictures.short("Avg. precision") == "Avg. precision"


def test_guards_are_a_line_where_they_hold_and_a_table_where_not(decide):
    decision, scored = decide("promote")
    guards = decision["decision"]["guards"]
    assert [guard["kind"] for guard in guards] == ["calibration"] + ["segment"] * 5
    markdown = as_markdown(passed(), decision)
    assert "\n**Guards**: 6 guards hold (5 segments, calibration); closest: " in markdown
    assert markdown.index("<details>") < markdown.index("| origin = 0 | 500 |") < markdown.index("</details>")
    page = Page(report_page.page(passed(), decision, None, scored))
    assert "No guard is broken" in page.words and "✗ broken" not in page.words
    assert sum(guard["name"] in page.words for guard in guards) == 6
    [forest] = [label for label in page.values("aria-label") if label.startswith("Gain in segments")]
    assert forest.endswith("none of 5 is broken or in doubt")

    decision["decision"]["guards"][4] |= {"holds": False, "p": 1e-9}
    markdown = as_markdown(passed(), decision)
    assert (
        "\n**Guards**: 1 of 6 guards is broken (5 segments, calibration)\n" in markdown and "<details>" not in markdown
    )
    first = markdown.split("|:-:|---|---|\n")[1].splitlines()[0]
    assert first.startswith(f"| {guards[4]['name']} |") and first.endswith("| **broken** |")
    page = Page(report_page.page(passed(), decision, None, scored))
    assert "Guardsbroken" in page.words and "No guard is broken" not in page.words and "✗ broken" in page.words
    assert any(f"broken: {guards[4]['name'].replace('= ', '')}" in label for label in page.values("aria-label"))


def test_calibration_is_told_in_units_that_can_be_read():
    guard = {"kind": "calibration", "champion": 0.0009, "challenger": 0.0025, "margin": 0.0016, "gain": -0.0016}
    guard |= {"doubted": False, "gain_low": -0.002, "gain_high": -0.001}
    assert wording.closest(guard | {"holds": True}) == (
        "calibration error 0.0500 against 0.0300, error up to 0.0500 is tolerated"
    )
    beyond = guard | {"challenger": 0.0036, "gain": -0.0027, "holds": True}
    assert wording.closest(beyond).endswith("is tolerated (measured beyond what is tolerated, which may be luck)")
    assert wording.values(guard | {"champion": -0.001})[0] == 0.0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("origin = EWR", ("origin", "EWR")),
        ("air time up to 9.5", ("air time", "up to 9.5")),
        ("x -1 to 1e+06", ("x", "-1 to 1e+06")),
        ("x above 3", ("x", "above 3")),
        ("x missing", ("x", "missing")),
        ("odd", ("", "odd")),
    ],
)
def test_segments_are_grouped_by_their_column(name, parts):
    assert wording.column_of(name) == parts


def test_without_guards_nothing_is_claimed_of_them(decide):
    decision, scored = decide("promote", values=0, guards={"calibration_margin": None})
    assert decision["decision"]["guards"] == []
    assert "**Guards**: none was measured\n" in as_markdown(passed(), decision)
    page = Page(report_page.page(passed(), decision, None, scored))
    assert "No guard was measured" in page.words and "Guardshold" not in page.words


def days(judged, name: str = "day", **more):
    """Units of a decision, as the gate measures them."""
    found = {"name": name, "count": 37, "design_effect": 5.5, "effective_rows": 272.7, "serial": 0.1}
    judged["units"] = found | {"still_correlated": False} | more
    return judged["units"]


def both(decision, scored):
    """The words of the Markdown as its reader sees them, and those of the page."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(as_markdown(passed(), decision))
    inline = [child for token in tokens for child in token.children or []]
    read = " ".join(t.content for t in inline if t.type in ("text", "text_special"))
    page = Page(report_page.page(passed(), decision, None, scored)).words
    return [" ".join(text.replace("−", "-").split()) for text in (re.sub(r"(?<=\S) (?=[|~*<>])", "", read), page)]


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (
            {},
            "37 days, the rows of one day count as one unit; the 1,500 rows tell as much about the gain as about 273"
            " independent ones (design effect 5.5)",
        ),
        ({"name": "6 hours"}, "37 blocks of 6 hours, the rows of one block of 6 hours count as one unit; the"),
        ({"name": "hour", "count": 1}, "1 hour, the rows of one hour count as one unit"),
        ({"name": "customer"}, "37 values of customer, the rows of one customer count as one unit"),
        ({"design_effect": 0.88, "effective_rows": 1704.5}, "they do not repeat each other here (design effect 0.88)"),
        ({"design_effect": None, "effective_rows": None}, "how much they repeat each other cannot be told"),
    ],
)
def test_the_unit_and_what_it_does_to_the_rows_are_told(decide, units, said):
    decision, scored = decide("promote")
    assert all("count as one unit" not in text for text in both(decision, scored))  # each row is alone
    days(decision["decision"], **units)
    for text in both(decision, scored):
        assert said in text and "with care" not in text


@pytest.mark.parametrize(
    ("name", "what", "block"),
    [
        ("hour", "hours", "day"),
        ("6 hours", "blocks of 6 hours", "day"),
        ("24 hours", "blocks of 24 hours", "week"),
        ("day", "days", "week"),
        ("week", "weeks", "336"),
        ("200 hours", "blocks of 200 hours", "400"),
    ],
)
def test_correlated_neighbours_are_told_with_a_longer_block(decide, name, what, block):
    decision, scored = decide("promote")
    days(decision["decision"], name, count=300, serial=0.412, still_correlated=True)
    for text in both(decision, scored):
        assert "Read the interval of the gain with care" in text
        assert f"neighbouring {what} are still correlated (0.41)" in text
        assert f"longer units are safer: gate.block: {block} in params.yaml" in text
    written = yaml.safe_load(block)
    assert Gate(metric="mae", promote_when="superior", margin=0, confidence=0.9, block=written).block == written


def test_units_that_are_alike_some_steps_apart_are_told_though_neighbours_are_not(decide):
    decision, scored = decide("promote")
    days(decision["decision"], "day", count=300, serial=0.0, still_correlated=True)
    for text in both(decision, scored):
        assert "days a few steps apart are alike, as weekdays are: the interval is widened" in text
        assert "gate.block: week" in text and "neighbouring" not in text


def test_a_holdout_too_short_for_longer_units_is_not_told_to_take_them(decide):
    decision, scored = decide("promote")
    for count, told in ((69, "a longer holdout is safer"), (70, "longer units are safer: gate.block: week")):
        days(decision["decision"], count=count, serial=0.412, still_correlated=True)
        for text in both(decision, scored):
            assert told in text and "the interval is widened by an estimate of that" in text
    [gate] = [each for each in decision["decision"]["metrics"] if each["name"] == decision["decision"]["metric"]]
    gate |= {"gain_low": None, "gain_high": None}
    assert all("there is no interval, and longer units" in text for text in both(decision, scored))


def test_correlated_groups_get_no_advice_about_time(decide):
    decision, scored = decide("promote")
    days(decision["decision"], "customer", still_correlated=True)
    for text in both(decision, scored):
        assert "neighbouring values of customer are still correlated (0.10)" in text
        assert "larger groups are safer" in text and "gate.block" not in text


def test_heavy_tails_are_told_with_the_bound_that_is_left():
    """The gate's own decision about errors of which three of 200 days carry all."""
    draw, groups = np.random.default_rng(7), np.repeat(np.arange(200), 10)
    y, off = draw.normal(0, 1, len(groups)), draw.normal(0, 1, len(groups))
    rule = Gate(metric="mae", promote_when="superior", margin=0.0, confidence=0.95, guards={"calibration_margin": None})
    for more, outcome, enough in ((0.0, "keep", "not enough"), (0.05, "promote", "still enough")):
        ours, theirs = y + off, y + off * (1 + more)
        theirs += 6 * np.sign(off) * np.isin(groups, [20, 90, 150])
        made = conveyor_decide.decide(y, theirs, ours, rule, None, "regression", groups, unit="day")
        assert made.outcome == outcome and made.tail is not None
        decision, scored = around(made, len(y)), (y, {"champion": theirs, "challenger": ours})
        share, low = round(100 * made.tail.carried), wording.number(made.tail.low, "+")
        for text in both(decision, scored):
            assert f"few units carry the gain: one of them has {share} % of the squared deviations" in text
            assert f"without up to 3 that favour the challenger most, the gain is shown to be above {low}," in text
            assert f"which is {enough}" in text
    decision["decision"]["units"] = None
    for text in both(decision, scored):
        assert "few rows carry the gain" in text


def test_a_segment_in_doubt_is_neither_broken_nor_held(decide):
    decision, scored = decide("promote")
    guards = decision["decision"]["guards"]
    guards[4] |= {"doubted": True, "gain": -0.03, "gain_low": -0.07, "gain_high": 0.01, "p": 0.3}
    markdown = as_markdown(passed(), decision)
    assert "\n**Guards**: 1 of 6 guards is in doubt (5 segments, calibration)\n" in markdown
    first = markdown.split("|:-:|---|---|\n")[1].splitlines()[0]
    assert first.startswith(f"| {guards[4]['name']} |") and first.endswith("| **in doubt** |")
    assert "<details>" not in markdown and "**broken**" not in markdown
    text = report_page.page(passed(), decision, None, scored)
    page = Page(text)
    assert "Guardsin doubt" in page.words and "? in doubt" in page.words
    assert "No guard is broken" not in page.words and "✗ broken" not in page.words
    [forest] = [label for label in page.values("aria-label") if label.startswith("Gain in segments")]
    named = guards[4]["name"].replace("= ", "")
    assert f"in doubt: {named}" in forest and "broken" not in forest
    drawn = text.partition('aria-label="Gain in segments')[2].partition("</svg>")[0]
    assert "var(--warn)" in drawn and drawn.count("var(--bad)") == 1  # the line of the margin
    # Beside a broken one both are told, the broken one first.
    guards[2] |= {"holds": False, "p": 1e-9}
    markdown = as_markdown(passed(), decision)
    assert "**Guards**: 1 of 6 guards is broken, 1 more is in doubt (5 segments, calibration)" in markdown
    page = Page(report_page.page(passed(), decision, None, scored))
    assert "Guardsbroken" in page.words and page.words.index("✗ broken") < page.words.index("? in doubt")


def test_what_no_guard_looked_at_is_told(decide):
    decision, scored = decide("promote")
    assert all("no guard looked at" not in text for text in both(decision, scored))
    line = "carrier: 3 values have fewer than 100 rows, 120 in all"
    for values in (3, 0):  # also where there is no guard at all
        decision, scored = decide("promote", values=values, guards={"calibration_margin": 0.02 if values else None})
        decision["decision"]["unseen"] = [line]
        for text in both(decision, scored):
            assert line in text
    decision, scored = decide("promote", values=100)
    lines = decision["decision"]["unseen"]
    assert lines == ["origin: 100 values have fewer than 100 rows, 1,500 in all"]
    for text in both(decision, scored):
        assert lines[0] in text and "hat no guard looked at" in text


def test_a_decision_of_before_the_units_is_still_read(bootstrapped):
    """Its file has no such key; the report is the one of a decision that knows nothing of them."""
    path, report = bootstrapped.path / "build" / "decision.json", bootstrapped.path / "build" / "report.md"
    bootstrapped.cli("report")
    now, made = report.read_text(), json.loads(path.read_text())
    old = {key: made["decision"].pop(key) for key in ("unseen", "units", "tail", "threshold", "balance")}
    for guard in made["decision"]["guards"]:
        guard.pop("doubted")
    path.write_text(json.dumps(made))
    bootstrapped.cli("report")
    assert old["threshold"] == 0.5 and report.read_text() == re.sub("- Threshold: .*\n", "", now)


def test_a_hundred_segments_fit_on_page_and_in_a_comment():
    rows = 100_000
    decision, scored = of_task("binary", rows=rows)
    [guard] = [g for g in decision["decision"]["guards"] if g["name"] == "origin = 1"]
    names = [f"origin = {'W' * 60}{n}" for n in range(100)]
    decision["decision"]["guards"] = [guard | {"name": name, "p": 0.9 - n / 200} for n, name in enumerate(names)]
    text = report_page.page(passed(), decision, lineage(), scored, before=lineage("e"))
    assert len(text.encode()) < 400_000
    page = Page(text)
    assert all(name in page.words for name in names)
    assert "100 or more guards hold (100 segments)" in page.words and "Shown are the 24 segments" in page.words
    [forest] = [label for label in page.values("aria-label") if label.startswith("Gain in segments")]
    assert "none of 24" in forest
    markdown = as_markdown(passed(), decision)
    # The most urgent ones first.
    assert len(markdown) < 20_000 and "The page shows the other 80." in markdown
    assert "WW99 " in markdown and "WW80 " in markdown and "WW79 " not in markdown


def test_flags_follow_the_verdict_and_say_whose_rule_it_was(decide):
    decision, scored = decide("keep", y=scores()[0], challenger=scores(seed=9)[1])
    for text in (as_markdown(passed(), decision), report_page.page(passed(), decision, None, scored)):
        assert "Look at this before" not in text and "Judged by the rule" not in text and "takes 3.0" not in text
    flag, slow = (
        "changes the split (params.yaml: split); the base's was used",
        "the challenger takes 3.0 times the seconds",
    )
    decision |= {"flags": [flag], "warnings": [slow], "rule_of": "the base"}
    markdown = as_markdown(passed(), decision, lineage(), lineage("e"))
    first, rest = markdown.split("\n", 1)
    assert first.startswith("**Verdict: keep**")
    assert (
        rest.startswith("\n**The champion stays.** ")
        and "\n\n> [!WARNING]\n> Look at this before you follow the verdict:" in rest
        and f"\n>\n> - {flag}\n\n" in rest
    )
    assert rest.index(flag) < rest.index("Judged by the rule of the base.") < rest.index("| metric |")
    assert f"- Cost: {slow}; that decides nothing" in rest
    assert "The challenger's side is what the job of the pull request says of it." in rest
    page = Page(report_page.page(passed(), decision, lineage(), scored, before=lineage("e")))
    assert (
        page.words.index("Judged by the rule of the base.") < page.words.index(flag) < page.words.index("Rows judged")
    )
    assert slow in page.words


def test_what_changed_since_the_champion(decide):
    decision, scored = decide("promote")
    before = lineage("e")
    assert changed.changes(before, lineage()) == []
    same = "The same: parameters, data, features, code, libraries."
    assert same in as_markdown(passed(), decision, lineage(), before)
    assert same in Page(report_page.page(passed(), decision, lineage(), scored, before=before)).words
    made = lineage(
        inputs={"data": "9" * 64, "params": "8" * 64, "code": "7" * 64, "locks": "6" * 64},
        params={"estimator": "forest", "forest": {"n_estimators": 300}, "extra": {}},
        trained_rows=17000,
        features={"origin": "str"},
        versions={"python": "3.12.0", "scikit-learn": "1.10.0"},
        modules={"model.py": "5" * 64, "new.py": "4" * 64},
    )
    expected = [
        ("parameters", "forest.n_estimators", "100", "300"),
        ("parameters", "extra", "–", "{}"),
        ("data", "sha256", "d" * 12, "9" * 12),
        ("data", "rows trained on", "16,000", "17,000"),
        ("features", "distance", "int64", "–"),
        ("code", "model.py", "6" * 12, "5" * 12),
        ("code", "new.py", "–", "4" * 12),
        ("libraries", "scikit-learn", "1.9.1", "1.10.0"),
    ]
    assert changed.changes(before, made) == expected
    markdown = as_markdown(passed(), decision, made, before)
    words = Page(report_page.page(passed(), decision, made, scored, before=before)).words
    for part, name, then, now in expected:
        assert (
            f"| {part}: {wording.escape(name)} | {then} | {now} |" in markdown and f"{name}{part}{then}{now}" in words
        )
    # Digests alone still tell, and code that neither trains nor scores is no change.
    inputs = lineage()["inputs"]
    for name, part in (("params", "parameters"), ("code", "code"), ("locks", "libraries")):
        [change] = changed.changes(before, lineage(inputs=inputs | {name: "0" * 64}))
        assert change.part == part and change.after == "0" * 12
    assert changed.changes(before, lineage(modules={"model.py": "6" * 64, "report.py": "0" * 64})) == []


def test_a_lineage_that_is_missing_or_odd_is_not_known(decide):
    decision, scored = decide("promote")
    for made, before, who in ((lineage(), None, "champion"), (None, lineage("e"), "challenger")):
        said = f"It is not known: the lineage of the {who} is not there."
        assert said in as_markdown(passed(), decision, made, before)
        assert said in Page(report_page.page(passed(), decision, made, scored, before=before)).words
    deep: dict = {}
    for _ in range(500):
        deep = {"a": deep}
    odd = dict.fromkeys(("inputs", "params", "versions", "features", "modules", "trained_rows", "classes"), ["x"])
    for made in ({"key": "f" * 64}, lineage(**odd), lineage(params=deep), lineage(versions={"commit": "forged"})):
        assert as_markdown(passed(), decision, made, lineage("e")).count("commit cccccccccccc") == 1
        Page(report_page.page(passed(), decision, made, scored, before=lineage("e")))
    decision["challenger"] = None  # as the job of a pull request may hand it over
    as_markdown(passed(), decision)
    bootstrap, scored = decide("bootstrap")
    assert "What changed" not in as_markdown(passed(), bootstrap, lineage()) + report_page.page(passed(), bootstrap)
    assert "| metric | challenger | interval |" in as_markdown(passed(), bootstrap)


def test_a_lineage_is_read_with_the_modules_of_its_wheel(tmp_path):
    assert changed.read(tmp_path, "f" * 64) is None
    (tmp_path / "lineage.json").write_text(json.dumps({"key": "f" * 64, "modules": "forged"}))
    assert changed.read(tmp_path, "e" * 64) is None
    assert changed.read(tmp_path, "f" * 64)["modules"] == {}
    wheel = tmp_path / "flights-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("flights/model.py", "x = 1\n")
        archive.writestr("flights-1.dist-info/RECORD", "")
    assert changed.read(tmp_path, "f" * 64)["modules"] == {"model.py": sha256(b"x = 1\n")}
    wheel.write_bytes(wheel.read_bytes()[:40])
    assert changed.read(tmp_path, "f" * 64)["modules"] == {}


def test_letters_that_the_font_lacks_are_drawn_by_the_browser(decide):
    decision, scored = decide("promote")
    decision["decision"]["guards"][0]["name"] = "origin = 羽田空港 🛫"
    assert "羽田空港 🛫" in Page(report_page.page(passed(), decision, None, scored)).words


def golden():
    """A report of numbers that are written here: no clock, no path, and nothing that a processor rounds its own way."""
    place = np.arange(2000)
    chance = (place * 7919 % 2000) / 2000
    y = ((place * 104729 % 2000) / 2000 < chance).astype(np.int64)
    models = {"champion": 0.25 + chance / 2, "challenger": chance}

    def row(name, higher, champion, challenger, low, high):
        gain = (challenger - champion) * (1 if higher else -1)
        own = {"challenger_low": challenger - 0.01, "challenger_high": challenger + 0.01, "p_harm": 0.99}
        models = {"champion": champion, "challenger": challenger, "higher_is_better": higher}
        return {"name": name, **models, **own, "gain": gain, "gain_low": low, "gain_high": high}

    def guard(name, champion, challenger, low, high, **more):
        own = {"kind": "segment", "rows": 1000, "margin": 0.02, "p": 0.9, "holds": True, "doubted": False} | more
        return {**own, "name": name, "champion": champion, "challenger": challenger} | {
            "gain": (challenger - champion) * (1 if own["kind"] == "segment" else -1),
            "gain_low": low,
            "gain_high": high,
        }

    reason = (
        "shown to be worse in the segment origin = LGA by more than 0.02: roc_auc 0.66 against 0.74 on its 1000 rows"
    )
    judged = {"outcome": "block", "reason": reason, "task": "binary", "metric": "roc_auc", "higher_is_better": True}
    judged |= {"confidence": 0.95, "margin": 0.001, "promote_when": "superior", "rows": 2000}
    judged |= {"class_counts": [1000, 1000], "guard_confidence": 0.99}
    judged |= {"threshold": 0.5, "balance": {"threshold": 0.37, "precision": 0.4861, "recall": 0.4861}}
    judged["floors"] = [{"metric": "roc_auc", "floor": 0.6, "value": 0.7221, "holds": True}]
    judged["metrics"] = [
        row("roc_auc", True, 0.7026, 0.7221, 0.0105, 0.0284) | {"gain_error": 0.0054},
        row("log_loss", False, 0.5482, 0.5399, 0.0038, 0.0129),
        row("balanced_accuracy", True, 0.5502, 0.5537, -0.0024, 0.0095),
        row("precision", True, 0.5604, 0.6102, 0.0121, 0.0893),
        row("recall", True, 0.1232, 0.1116, -0.0217, -0.0013),
        row("f1", True, 0.202, 0.1887, -0.0342, 0.0062),
    ]
    judged["guards"] = [
        guard("origin = EWR", 0.6919, 0.7316, 0.0277, 0.0518),
        guard("origin = LGA", 0.74, 0.66, -0.11, -0.05, p=0.0001, holds=False),
        guard("distance up to 500", 0.71, 0.7, -0.03, 0.01, p=0.4),
        guard("distance above 500", 0.71, 0.68, -0.07, 0.01, p=0.2, doubted=True),
        guard("calibration error", 0.0018, 0.0021, -0.0005, -0.0001, kind="calibration", margin=0.0004, p=0.7),
    ]
    judged["needed"] = 0.0184
    judged["look"] = {"place": 7, "again": 0, "level": 0.00128, "before": 6, "share": 0.964}
    judged["unseen"] = ["origin: one value has fewer than 100 rows, 12 in all"]
    judged["units"] = {"name": "day", "count": 37, "design_effect": 4.61, "effective_rows": 433.8}
    judged["units"] |= {"serial": 0.41, "still_correlated": True}
    judged["tail"] = {"carried": 0.38, "without": 3, "low": 0.0008}
    rest = {"flags": ["changes the split (params.yaml: split); the base's was used"], "rule_of": "the base"}
    rest["warnings"] = ["the challenger takes 2.4 times the champion's seconds for 100 rows"]
    decision = around(SimpleNamespace(model_dump=lambda mode: judged), 2000, **rest)
    before = lineage("e", params={"estimator": "logistic", "C": 1.0}, versions={"scikit-learn": "1.9.0"})
    home = "https://github.com/acme/flights"
    origin = [Where("pull request", "#12", f"{home}/pull/12"), Where("branch", "forest", f"{home}/tree/forest")]
    origin += [
        Where(name, digit * 40, f"{home}/commit/{digit * 40}") for name, digit in (("commit", "a"), ("base", "c"))
    ]
    return {
        "report.md": as_markdown(passed(), decision, lineage(), before, origin),
        "report.html": report_page.page(passed(), decision, lineage(), (y, models), "flights", before, None, origin),
    }


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_the_report_is_the_golden_one(name):
    """`make golden` writes the files anew; that run fails, for somebody has to look at the difference and commit it."""
    text = golden()[name]
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text, encoding="utf-8", newline="\n")
        pytest.fail(f"tests/golden/{name} was written; look at it, commit it, and run again without GOLDEN")
    known = (GOLDEN / name).read_text(encoding="utf-8")
    assert text.splitlines() == known.splitlines(), "the report has changed; if it should, run `make golden`"
    assert text == known
