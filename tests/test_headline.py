"""Risk: a headline or a tile of the report reads better than its evidence, or says nothing of what nothing watched."""

import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from test_report import LOOK, Page, around, days, passed, refused, scores, segments

from conveyor.core import ci
from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse
from conveyor.core.files import write_json
from conveyor.core.params import Gate
from conveyor.gate import aa, decide
from conveyor.gate.decision import BANNED
from conveyor.github import comment
from conveyor.report import aa as aa_section
from conveyor.report import page as report_page
from conveyor.report import wording
from conveyor.report.headline import headline
from conveyor.report.markdown import markdown
from conveyor.steps import report

WORSE = "The challenger looks worse, but not by enough to block"
RULE = {"metric": "roc_auc", "promote_when": "superior", "margin": 0.001, "confidence": 0.95}


def judged(challenger, champion, y, rows=None, **rule):
    """decision.json of the gate's own decision about two models."""
    own = Gate(**RULE | {"floors": {"roc_auc": 0.55}} | rule)
    made = decide.decide(y, champion, challenger, own, segments=rows, look=LOOK)
    return around(made, len(y))


def usual(outcome="keep", **changes):
    """A decision whose guards hold with room to spare; changes of the deciding metric, or of other keys."""
    y, ours = scores(noise=1.0 if outcome == "keep" else 0.2)
    made = judged(ours, scores(seed=8)[1], y, segments(len(y)))
    assert made["decision"]["outcome"] == outcome
    for guard in made["decision"]["guards"]:
        guard |= {"gain": 0.0, "gain_low": -0.001, "gain_high": 0.001, "doubted": False, "holds": True, "p": 0.9}
    gate = next(m for m in made["decision"]["metrics"] if m["name"] == "roc_auc")
    gate |= {key: changes.pop(key) for key in ("gain", "gain_low", "gain_high") if key in changes}
    made["decision"] |= changes
    return made


def tiles(decision):
    """The tiles of the page: the text of each by its name."""
    found = report_page.page(passed(), decision)
    facts = re.search(r'<dl class="facts">(.*?)</dl>', found, re.DOTALL)[1]
    each = re.findall(r"<div><dt>(.*?)</dt>\s*<dd[^>]*>(.*?)</dd></div>", facts, re.DOTALL)
    assert len(each) == facts.count("<dt>")
    return {name: html.unescape(" ".join(re.sub("<[^>]*>", " ", text).split())) for name, text in each}


LOW = {"gain": -0.01, "gain_low": -0.03, "gain_high": 0.01}
NONE = {"gain_low": None, "gain_high": None}


@pytest.mark.parametrize(
    ("outcome", "changes", "title", "sentence"),
    [
        ("keep", LOW, WORSE, "may be luck"),
        (
            "keep",
            LOW | {"gain_high": -0.001},
            WORSE,
            "probably worse than the champion, but not shown by more than 0.001",
        ),
        ("keep", LOW | NONE, "The challenger looks worse, on too few rows to tell", "too few rows"),
        ("keep", {"gain": 0.01} | NONE, "The champion stays", "too few rows"),
        ("keep", {"gain": 0.01}, "The champion stays", "does not show"),
        ("keep", {"gain": 0.0}, "The champion stays", "does not show"),
        ("promote", {}, "The challenger wins", "shown to be better, so"),
        ("promote", {"promote_when": "non_inferior"}, "The challenger wins", "shown to be better, so"),
        (
            "promote",
            {"promote_when": "non_inferior", "gain": 0.001, "gain_low": -0.0005},
            "The challenger passes as no worse",
            "not worse by more than 0.001, so it may become the champion. A gain is not shown",
        ),
        (
            "promote",
            {"promote_when": "non_inferior", "margin": 0.02} | LOW,
            "The challenger passes, though it looks worse",
            "not worse by more than 0.02, so it may become the champion. A gain is not shown",
        ),
    ],
)
def test_the_headline_is_no_better_than_the_sign_of_the_estimate(outcome, changes, title, sentence):
    made = usual(outcome, **changes)
    said = headline(passed(), made)
    assert said.title == title and sentence in said.sentence
    page, text = Page(report_page.page(passed(), made)), markdown(passed(), made)
    assert page.words.index(f"Verdict: {outcome} {title} {said.sentence}") < page.words.index("Rows judged")
    # The comment is the Markdown, so its reader sees the headline right below the verdict.
    assert comment.body(text, None, "<!-- mark -->").split("\n")[2] == f"**{title}.** {said.sentence}"
    gate = next(m for m in made["decision"]["metrics"] if m["name"] == "roc_auc")
    assert ("worse" in title) == (gate["gain"] < 0 or title.endswith("no worse"))


def test_every_challenger_that_measures_worse_is_said_to_look_worse_whatever_the_gate_decides():
    seen = set()
    for seed in range(40):
        y, ours = scores(rows=400, noise=1.2, seed=seed)
        made = judged(ours, scores(rows=400, seed=99)[1], y, promote_when=("superior", "non_inferior")[seed % 2])
        gate = next(m for m in made["decision"]["metrics"] if m["name"] == "roc_auc")
        outcome, said = made["decision"]["outcome"], headline(passed(), made)
        seen.add((outcome, gate["gain"] < 0))
        if outcome != "block":
            assert ("looks worse" in said.title) == (gate["gain"] < 0), (said, gate)
            assert "wins" not in said.title or gate["gain_low"] > 0
    assert {("keep", True), ("keep", False)} <= seen


def test_a_headline_of_a_promotion_says_what_the_guards_could_not_rule_out():
    made = usual("promote")
    guards = made["decision"]["guards"]
    guards[2] |= {"gain": -0.05, "p": 0.3}
    assert "though 1 guard measures beyond what is tolerated, which may be luck" in headline(passed(), made).sentence
    made["decision"]["guards"] = []
    assert "though no guard could look for harm" in headline(passed(), made).sentence
    made["decision"]["guards"] = [guard | NONE | {"gain": 0.0} for guard in guards]
    assert "though no guard could look for harm" in headline(passed(), made).sentence
    made["flags"] = [f"{BANNED}: event 7 of Ann: it was slow"]
    said = headline(passed(), made)
    assert (said.tone, said.title) == ("warn", "The challenger is quarantined") and "may become" not in said.sentence


def test_a_gain_that_a_part_of_the_rows_pays_for_is_not_only_a_gain():
    made = usual("keep", gain=0.02, gain_low=0.01, gain_high=0.03)
    made["decision"]["guards"][2] |= {"doubted": True, "gain": -0.05}
    assert "but worse in a part of them" in headline(passed(), made).sentence


def test_a_first_champion_of_which_nothing_was_asked_keeps_to_no_limit():
    y, ours = scores()
    made = around(decide.decide(y, None, ours, Gate(**RULE)), len(y), champion=False)
    assert headline(passed(), made).sentence == "There is nothing to beat yet, and no floor asks anything of it."
    assert made["decision"]["reason"].startswith("no champion yet and no floor is set: roc_auc 0.76")
    made = around(decide.decide(y, None, ours, Gate(**RULE, floors={"roc_auc": 0.5})), len(y), champion=False)
    assert headline(passed(), made).sentence.endswith("it measures no worse than any floor.")


def test_the_annotation_of_a_run_carries_the_headline(tmp_path, capsys):
    write_json(tmp_path / "validation.json", refused("distance"))
    run = Environment(run_url="https://github.example/acme/late/actions/runs/7")
    report.run(SimpleNamespace(root=tmp_path, build=tmp_path, package="late", environment=run))
    assert "::error title=Verdict%3A data refused. The data were refused::column distance" in capsys.readouterr().out


def test_a_tile_says_in_words_that_a_guard_is_beyond_its_limit_or_can_tell_nothing():
    made = usual("keep")
    guards = made["decision"]["guards"]
    assert tiles(made)["Guards"] == "hold 6 guards hold (5 segments, calibration)"
    guards[3] |= NONE
    assert tiles(made)["Guards"] == "cannot tell 1 of 6 guards has too little to tell (5 segments, calibration)"
    guards[1] |= {"gain": -0.05}
    said = (
        "not broken 1 of 6 guards measures beyond what is tolerated, which may be luck, 1 more has too little to tell"
    )
    assert tiles(made)["Guards"].startswith(said)
    text, page = markdown(passed(), made), Page(report_page.page(passed(), made)).words
    assert "**beyond, not shown** |" in text and "**cannot tell** |" in text
    assert "! beyond, not shown" in page and "! cannot tell" in page and page.count("✓ holds") == 4 + 1  # and the data
    # The calibration counts as a segment does, though its limit is one of squares.
    guards[0] |= {"champion": 0.0009, "challenger": 0.0036, "margin": 0.0016, "gain": -0.0027}
    assert tiles(made)["Guards"].startswith("not broken 2 of 6 guards measure beyond")
    guards[2] |= {"doubted": True, "gain": -0.05}
    assert tiles(made)["Guards"].startswith("in doubt 1 of 6 guards is in doubt, 2 more measure beyond")
    guards[4] |= {"holds": False, "gain": -0.5}
    assert tiles(made)["Guards"].startswith("broken 1 of 6 guards is broken, 1 more is in doubt, 2 more measure")


def test_every_other_tile_says_in_words_that_its_number_is_beyond_its_limit():
    made = usual("keep", needed=0.02, gain=0.01)
    assert "which needs a gain of +0.0200: +0.0100 is not enough" in tiles(made)["Look"]
    made = usual("keep", needed=0.02, gain=0.03)
    assert "which needs a gain of +0.0200; after" in tiles(made)["Look"] and "Cost" not in tiles(made)
    floor = made["decision"]["floors"][0]
    assert "does not" not in tiles(made)["Floor of ROC AUC"]
    floor |= {"value": 0.5, "holds": False}
    assert tiles(made)["Floor of ROC AUC"] == "0.5000 does not hold: at least 0.55"
    made["warnings"] = ["the challenger takes 2.4 times the champion's seconds for 100 rows", "and 3.0 times the bytes"]
    assert tiles(made)["Cost"] == f"higher {made['warnings'][0]} and 3.0 times the bytes"
    days(made["decision"], count=9)
    assert tiles(made)["Units"].endswith("; at least 10 are needed to tell anything")
    days(made["decision"], count=10)
    assert "are needed" not in tiles(made)["Units"] + tiles(made)["Rows judged"]
    made["decision"]["class_counts"] = [1491, 9]
    assert "(9 of them positive; a class has 9, at least 10 are needed)" in tiles(made)["Rows judged"]
    rate = aa.Rate(share=0.2, nominal=0.01, error=0.01)
    fine = rate.model_copy(update={"share": 0.01})
    for promoted, blocked, said in (
        (fine, fine, "It keeps its promise"),
        (fine, rate, "It blocks too often"),
        (rate, rate, "It promotes and blocks too often"),
    ):
        found = {"promoted": promoted.model_dump(), "blocked": blocked.model_dump(), "greater": rate.model_dump()}
        found |= {"differ": 0.5, "smallest_gain": None, "refits": 2, "units": 9, "unit": "day", "rows": 9}
        section = aa_section.section(found | {"decisions": []}, "ROC AUC")
        assert (section["headline"], section["good"]) == (said, said == "It keeps its promise")


def unwatched(**rule):
    """A decision under such guards, and the words of its Markdown, comment and page."""
    y, ours = scores()
    rows = segments(len(y)) if rule.pop("guarded", False) else None
    made = judged(ours, scores(seed=8)[1], y, rows, **rule)
    text = markdown(passed(), made)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(comment.body(text, None, "<!-- mark -->"))
    read = " ".join(child.content for token in tokens for child in token.children or [])
    return made, (" ".join(read.split()), Page(report_page.page(passed(), made)).words)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"floors": {}}, wording.NO_FLOOR),
        ({"guards": {"calibration_margin": None}, "guarded": True}, "guards.calibration_margin in params.yaml is null"),
        ({"guards": {"min_rows": 1501}}, "calibration: fewer than 1501 rows"),
        ({}, "segments: gate.guards.segments in params.yaml names no column"),
        ({"guards": {"min_rows": 1400}, "guarded": True}, "segments: none has enough rows"),
        ({"guards": {"min_rows": 1400}, "guarded": True}, "origin: 3 values have fewer than 1400 rows, 1,500 in all"),
    ],
)
def test_what_nothing_watched_is_told_everywhere(rule, said):
    made, texts = unwatched(**rule)
    for text in texts:
        assert said in text
    _, whole = unwatched(guarded=True)
    assert all(said not in text for text in whole)
    if not made["decision"]["guards"]:
        assert tiles(made)["Guards"] == "none no guard was measured"
    if not made["decision"]["floors"]:
        assert tiles(made)["Floor"] == f"none {wording.NO_FLOOR}"


def test_without_a_champion_and_without_a_comparison_no_guard_is_said_to_have_looked():
    y, ours = scores()
    first = around(decide.decide(y, None, ours, Gate(**RULE)), len(y), champion=False)
    gone = judged(ours, np.full(len(y), np.nan), y)
    for made, said in ((first, "there is none"), (gone, "the two models could not be compared")):
        for text in (markdown(passed(), made), Page(report_page.page(passed(), made)).words):
            assert f"everything: {'guards compare with a champion, and ' * (made is first)}{said}" in text


def test_a_calibration_that_cannot_be_computed_is_told(monkeypatch):
    from conveyor.gate import guards

    monkeypatch.setattr(guards, "_guard", lambda *given: None)
    y, ours = scores()
    checked = guards.check(y, scores(seed=8)[1], ours, Gate(**RULE), segments=pd.DataFrame(index=range(len(y))))
    assert checked.unseen == ("calibration: its error cannot be computed",)


# Where a report comes from

PULL = {
    "number": 12,
    "head": {"ref": "better/trees (2)", "sha": "a" * 40, "repo": {"full_name": "fork/late"}},
}
KNOWN = {"server_url": "https://github.example", "repository": "acme/late"}


def told(tmp_path, commit="c" * 40, pull=None, **environment):
    """The origin, and its lines in Markdown and page: text and address by name."""
    if pull:
        (tmp_path / "event.json").write_text(json.dumps({"pull_request": pull}))
        environment["event"] = str(tmp_path / "event.json")
    origin = ci.origin(Environment(**environment), commit)
    page = Page(report_page.page(passed(), None, origin=origin))
    text = markdown(passed(), None, origin=origin)
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    inline = [child for token in tokens for child in token.children or []]
    links = [child.attrGet("href") for child in inline if child.type == "link_open"]
    assert links == page.values("href")
    words = "".join(child.content for child in inline)
    for where in origin:
        assert f"{where.name} {where.short}" in words.replace("\u200b", "")
        assert f"{where.name}{where.short}" in page.words
    return links


def test_pull_request_branch_and_commits_are_linked_where_the_address_is_known(tmp_path):
    home = "https://github.example/acme/late"
    assert told(tmp_path, pull=PULL, **KNOWN) == [
        f"{home}/pull/12",
        "https://github.example/fork/late/tree/better/trees%20%282%29",
        f"{home}/pull/12/commits/{'a' * 40}",
        f"{home}/commit/{'c' * 40}",
    ]
    gone = PULL | {"head": PULL["head"] | {"repo": None}}
    assert len(told(tmp_path, pull=gone, **KNOWN)) == 3
    assert told(tmp_path, ref="refs/heads/main", **KNOWN) == [f"{home}/tree/main", f"{home}/commit/{'c' * 40}"]
    assert told(tmp_path, ref="refs/tags/v1", **KNOWN) == [f"{home}/commit/{'c' * 40}"]


def test_they_are_plain_text_where_it_is_not(tmp_path):
    assert told(tmp_path) == told(tmp_path, pull=PULL) == told(tmp_path, ref="refs/heads/main") == []


@pytest.mark.parametrize("ref", ['"><script>x</script>', "a](javascript:x) [b", "x`|y_*z", "#1 @team"], ids=range(4))
def test_a_hostile_branch_is_text_and_leads_to_itself_alone(tmp_path, ref):
    links = told(tmp_path, pull=PULL | {"head": PULL["head"] | {"ref": ref}}, **KNOWN)
    assert len(links) == 4 and all(re.fullmatch(r"https://github\.example/[\w/%.~-]+", link) for link in links)


def test_the_report_of_a_run_finds_its_event_or_says_that_it_cannot(tmp_path):
    write_json(tmp_path / "validation.json", refused("distance"))
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": PULL}))
    project = SimpleNamespace(root=tmp_path, build=tmp_path, package="late")
    project.environment = Environment(**KNOWN, event=str(tmp_path / "event.json"))
    report.run(project)
    assert "](https://github.example/acme/late/pull/12)" in (tmp_path / "report.md").read_text()
    assert 'href="https://github.example/acme/late/pull/12"' in (tmp_path / "report.html").read_text()
    project.environment = Environment(**KNOWN, event=str(tmp_path / "gone.json"))
    with pytest.raises(Misuse, match="^GITHUB_EVENT_PATH: cannot be read"):
        report.run(project)
