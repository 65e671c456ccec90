"""Risk: the report says something else than the gate, breaks on a hostile name, or needs what a reader has not got."""

import re
from html.parser import HTMLParser
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt

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
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def report(product):
    return import_module(f"{product.__name__}.report")


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


@pytest.fixture
def decide(product):
    """The gate's own decision as decision.json has it, with the labels and predictions that it was drawn from."""

    def decide(outcome, y=None, challenger=None, error="column 'a' is missing", **gate):
        rule = {"metric": "roc_auc", "promote_when": "superior", "margin": 0.001, "confidence": 0.95} | gate
        if y is None:
            y, challenger = scores(noise={"promote": 0.2, "block": 4.0}.get(outcome, 1.0))
        champion = {"bootstrap": None, "incomparable": np.full(len(y), np.nan)}.get(outcome, scores(seed=8)[1])
        rule = product.config.Gate(floors={"roc_auc": 0.55}, **rule)
        made = product.compare.decide(y, champion, challenger, rule, error if outcome == "incomparable" else None)
        assert made.outcome == outcome, made.reason
        decision = {
            **HEADER,
            "champion": None if champion is None else {"event": 2, "key": "e" * 64, "digest": "e" * 64},
            "challenger": {"key": "f" * 64, "digest": "f" * 64},
            "ledger": 2,
            "holdout_rows": len(y) + 12,
            "excluded_rows": 12,
            "decision": made.model_dump(mode="json"),
        }
        models = {"challenger": challenger} if champion is None else {"champion": champion, "challenger": challenger}
        return decision, (y, models)

    return decide


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
def test_the_verdict_of_the_gate_comes_first(report, decide, outcome):
    decision, scored = decide(outcome)
    reason = decision["decision"]["reason"]
    markdown = report.markdown(passed(), decision)
    assert markdown.startswith(f"**Verdict: {outcome}** — {reason}\n")
    page = Page(report.page(passed(), decision, None, scored, "flights"))
    assert page.words.index(f"Verdict: {outcome}") < page.words.index(reason) < page.words.index("Rows judged")
    for metric in decision["decision"]["metrics"]:
        shown = f"{metric['challenger']:.4f}"
        assert shown in markdown and shown in page.words
        if metric["gain"] is not None:
            gain, interval = f"{metric['gain']:+.4f}", f"{metric['gain_low']:+.4f} to {metric['gain_high']:+.4f}"
            assert f"| {gain} | {interval} |" in markdown
            # In the picture and in the table.
            assert page.words.count(gain.replace("-", "−")) >= 2 and interval.replace("-", "−") in page.words
    for fact in ("1,500", "12 of 1,512", "1 of 1 expectations hold on 9,000 rows", "c" * 12, "d" * 12, "f" * 12):
        assert fact in markdown
    assert "c" * 13 not in markdown
    # Of a model that is not there, or that could not score, nothing is drawn.
    drawn = [label for label in page.values("aria-label") if label.startswith(("ROC", "Calibration"))]
    assert len(drawn) == 2
    assert all(("champion" in label) == (outcome not in ("bootstrap", "incomparable")) for label in drawn)
    gains = [label for label in page.values("aria-label") if label.startswith("Gain")]
    assert len(gains) == (outcome not in ("bootstrap", "incomparable"))
    if outcome == "incomparable":
        assert "no curves of the champion: 1,500 of its 1,500 predictions are not probabilities" in page.words


def test_refused_data_show_nothing_of_a_decision_that_was_there_before(report, decide):
    decision, scored = decide("promote")
    markdown = report.markdown(refused("distance", "origin"), decision)
    assert markdown.startswith("**Verdict: data refused** — column distance: broken\n")
    assert "column origin: broken" in markdown and "1 of 3 expectations hold" in markdown
    assert "roc_auc" not in markdown and "f" * 12 not in markdown
    page = Page(report.page(refused("distance"), decision, None, scored))
    assert "Verdict: data refused" in page.words and "svg" not in page.tags
    assert page.words.index("✗ fails") < page.words.index("✓ holds")
    unread = passed(passed=False, rows=None, expectations=[], failures=["data.csv: empty; fetch the file again"])
    assert report.markdown(unread).startswith("**Verdict: data refused** — data.csv: empty; fetch the file again\n")
    assert "none was checked" in Page(report.page(unread)).words.lower()


def test_a_run_that_ended_before_a_decision_is_no_verdict(report):
    assert report.markdown(passed()).startswith("**Verdict: none** — ")
    assert "Verdict: none" in Page(report.page(passed())).words


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_both(report, decide, name):
    decision, scored = decide("promote")
    decision["decision"]["reason"] = name
    decision["decision"]["metrics"][1]["name"] = name
    made = {"params": {"x": name}, "versions": {name: name}, "mlflow_run": name}
    seen = " ".join(name.split())
    for validation, given in ((refused(name), None), (passed(), decision)):
        # As GitHub reads it, with tables, and with tags let through to see whether there are any.
        markdown = report.markdown(validation, given, made)
        tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown)
        inline = [child for token in tokens for child in token.children or []]
        assert {t.content for t in inline if t.type == "html_inline"} <= {"<sub>", "</sub>"}
        assert not {t.type for t in tokens + inline} & {"html_block", "link_open", "image", "code_inline", "em_open"}
        assert not {t.type for t in inline} & {"s_open", "math_inline"}
        text = "".join(t.content for t in inline if t.type in ("text", "text_special"))
        assert text.count(seen) >= (1 if given is None else 3), text
        if given is not None:
            assert {row.count("|") for row in markdown.splitlines() if row.startswith("|")} == {6}
        page = Page(report.page(validation, given, made, scored))
        assert seen in page.words
        assert not {"script", "img", "a"} & set(page.tags)


def test_names_ping_nobody_link_nowhere_and_stay_on_their_line(report):
    markdown = report.markdown(refused("@team\n# x\r\n\u202e- [y]: http://evil.example www.evil.example\x1b[2J"))
    assert "@team" not in markdown and "://" not in markdown and "www." not in markdown
    assert not re.search(r"^\s*#", markdown, re.MULTILINE) and "\u202e" not in markdown and "\x1b" not in markdown
    many = report.markdown(refused(*(f"{n:03d}" + "x" * 5000 for n in range(500))))
    assert len(many) < 20_000 and "and 480 more" in many


@pytest.mark.parametrize("outcome", [*OUTCOMES, "data refused"])
def test_the_page_needs_nothing_but_itself(report, decide, outcome):
    validation = refused("distance") if outcome == "data refused" else passed()
    text = report.page(validation, *((None,) if outcome == "data refused" else (decide(outcome)[0],)))
    if outcome != "data refused":
        decision, scored = decide(outcome)
        text = report.page(validation, decision, None, scored)
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


def test_the_same_numbers_make_the_same_page(report, decide):
    decision, scored = decide("promote")
    first, second = (report.page(passed(), decision, None, scored) for _ in range(2))
    assert first == second
    assert "<dc:" not in first and "<metadata" not in first


def test_pictures_agree_with_the_numbers(product, decide):
    pictures = import_module(f"{product.__name__}.pictures")
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
def test_what_cannot_be_drawn_is_said(report, product, y, challenger, said):
    y, challenger = np.array(y, dtype=np.int64), np.array(challenger, dtype=np.float64)
    rule = product.config.Gate(metric="roc_auc", promote_when="superior", margin=0.0, confidence=0.95)
    for champion in (None, np.full(len(y), 0.4)):
        made = product.compare.decide(y, champion, challenger, rule)
        assert made.outcome == "block"
        decision = {**HEADER, "champion": champion is not None and {"event": 1, "key": "e", "digest": "e"} or None}
        decision |= {"challenger": {"key": "f", "digest": "f"}, "holdout_rows": len(y), "excluded_rows": 0}
        decision["decision"] = made.model_dump(mode="json")
        models = {"challenger": challenger} if champion is None else {"champion": champion, "challenger": challenger}
        assert report.markdown(passed(), decision).startswith(f"**Verdict: block** — {made.reason}\n")
        page = Page(report.page(passed(), decision, None, (y, models)))
        assert f"There are no curves of the challenger: {said}." in page.words
        assert "nan" not in page.words.lower().split()


def test_the_summary_gets_the_report_once(report, product, tmp_path):
    build, summary = tmp_path / "build", tmp_path / "summary.md"
    summary.write_text("before\n")
    product.files.write_json(build / "validation.json", refused("distance"))
    project = SimpleNamespace(root=tmp_path, build=build, environment=SimpleNamespace(summary=str(summary)))
    assert report.run(project) == "data refused: build/report.html"
    markdown = (build / "report.md").read_text()
    assert summary.read_text() == "before\n" + markdown
    Page((build / "report.html").read_text())
    project.environment.summary = None
    report.run(project)
    assert summary.read_text() == "before\n" + markdown


def test_curves_are_drawn_from_the_rows_that_were_judged(bootstrapped):
    """Not from the scores, which may come from a job that nobody trusts."""
    page = bootstrapped.path / "build" / "report.html"
    drawn = page.read_text()
    assert [label.split()[0] for label in Page(drawn).values("aria-label")] == ["ROC", "Calibration"]
    judged = pq.read_table(bootstrapped.path / "build" / "judged.parquet")
    assert judged.column_names == ["label", "champion", "challenger"] and judged.num_rows == 4000
    (bootstrapped.path / "build" / "scores.parquet").unlink()
    bootstrapped.cli("report")
    assert page.read_text() == drawn
