"""Risk: a page is right and nobody can read it: on a phone, in the dark, without a network, or behind a dead link."""

import pytest
from browser import SCHEMES, SIZES, Browser, NoBrowser
from pages import HOSTILE, champions, dead, event, given, measured, state, written

from conveyor.ledger.state import State
from conveyor.watch import page, site


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    try:
        found = Browser(tmp_path_factory.mktemp("browser"))
    except NoBrowser as reason:
        pytest.skip(str(reason))  # in .ci/run, which installs it, a skip is a failure
    yield found
    found.close()


LONG = "a" * 300  # a word that no line can hold
CASES = {
    "calm": lambda: given(champions(3), measured()),
    "alarm": lambda: given(champions(3), measured(0.3), "its log_loss has risen", died=["model-1 has died"]),
    "insufficient": lambda: given(champions(1), measured(live=4, holdout=8)),
    "no log": lambda: given(champions(2), line="its live loss is not known: serve.log: is null"),
    "nothing live": lambda: given(State(), line=""),
    "many champions": lambda: given(champions(120, hours=17), measured(live=1000)),
    "hostile": lambda: given(state(event(1, "accepted"), event(2, "live", by=LONG, reason=HOSTILE)), line=LONG),
}


def looked_at(browser, path, size, scheme):
    """What is wrong with a page as it is shown, and what it looks like."""
    browser.show(path, size, scheme)
    assert browser.faults() == [] and browser.beyond() == [] and browser.overlapping() == []
    assert browser.value("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    dark, ink = (browser.value(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (dark, ink) == {
        "light": ("rgb(252, 252, 251)", "rgb(29, 35, 43)"),
        "dark": ("rgb(20, 23, 27)", "rgb(231, 233, 236)"),
    }[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_the_page_of_monitor_fits_its_window_and_asks_for_nothing(browser, tmp_path, case, size, scheme):
    path = tmp_path / "monitor.html"
    path.write_text(page.page(CASES[case]()), encoding="utf-8")
    looked_at(browser, path, size, scheme)
    # Of the two forms of a picture one is shown, and its text is not shrunk below ten pixels.
    pictures = "[...document.querySelectorAll('svg')].filter(e => e.getClientRects().length)"
    drawn = browser.value(f"{pictures}.map(e => e.getBoundingClientRect().width / e.viewBox.baseVal.width)")
    assert len(drawn) == (1 if "<svg" in path.read_text() else 0)
    assert all(12 * scale >= 10 for scale in drawn), drawn


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Folders of sites by name."""
    ledgers = {
        "empty": State(),
        "some": champions(4),
        "twelve": champions(12, hours=150),
        "many": champions(210, hours=3),
    }
    ledgers["hostile"] = state(event(1, "accepted"), event(2, "live", by=LONG, reason=LONG, run=f"https://{LONG}"))
    folders = {}
    for name, ledger in ledgers.items():
        of = site.Site("late-flights", ledger, "2026-08-30T05:17:00Z")
        folders[name] = written(of, tmp_path_factory.mktemp(name))
    return folders


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["empty", "some", "twelve", "many", "hostile"])
def test_each_kind_of_page_of_the_site_fits_its_window_and_asks_for_nothing(browser, sites, name, size, scheme):
    folder = sites[name]
    kinds = [*sorted(folder.glob("*.html"))[-3:], folder / "index.html", *sorted(folder.glob("champion/*.html"))[:1]]
    for path in kinds:
        looked_at(browser, path, size, scheme)
    assert not list(dead(folder))


def test_a_page_with_a_fault_is_noticed(browser, tmp_path):
    """What these tests look at would be seen: a script's error, a request, an element that is too wide."""
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('x')</script><img src='gone.png'><div style='width: 2000px'>wide</div>")
    browser.show(path, "phone", "light")
    assert any("console" in each or '"x"' in each for each in browser.faults())
    assert any(each.endswith("gone.png") for each in browser.faults())
    assert browser.beyond() == ["DIV wide", "2008 px"]
    (tmp_path / "over.html").write_text("<svg aria-label=x><text x=0 y=20>one</text><text x=9 y=24>two</text></svg>")
    browser.show(tmp_path / "over.html", "phone", "light")
    assert browser.overlapping() == ["one over two"]
    (tmp_path / "dead.html").write_text("<a href='nowhere.html'>x</a>")
    assert list(dead(tmp_path)) == ["dead.html: nowhere.html"]
