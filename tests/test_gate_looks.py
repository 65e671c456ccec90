"""Risk: one gate judges many models, and of those that it promotes too many are no better."""

import json
import re

import numpy as np
import pytest
from conftest import TEMPLATE
from scipy.special import zeta
from scipy.stats import norm

from conveyor.core.errors import Misuse
from conveyor.core.params import Gate, load
from conveyor.core.project import Project
from conveyor.gate import looks, overlap
from conveyor.gate.decide import decide
from conveyor.gate.looks import AGAIN, DECAY, History, Look, Seen, Sight, level, next_look
from conveyor.gate.spread import Spread
from conveyor.ledger.events import Event, Newer, Unsound, read
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.state import State

RULE = {"metric": "log_loss", "promote_when": "superior", "margin": 0.0, "confidence": 0.95}


def rule(**more):
    return Gate(**{**RULE, **more})


def seen(name, rows="rows", against="first", **more):
    return Seen(key=name, holdout=rows, against=against, **more)


def asked(history, name="new", rows="rows", against="first", recipe=None, **more):
    return next_look(History(looks=tuple(history)), rule(**more), name, against, Sight(holdout=rows, recipe=recipe))


# Levels


def test_the_levels_before_a_promotion_are_those_of_the_formula():
    rest = 1 / 1.1 - 0.5  # of the mass: the first place has half, later looks a tenth of each level
    tail = zeta(1.4) - 1
    assert level(rule(), 1) == 1 - 0.95
    for place in (2, 3, 20, 52):
        assert level(rule(), place) == pytest.approx(0.1 * rest * place**-1.4 / tail, rel=1e-12)
    assert [round(level(rule(), place), 6) for place in (2, 5, 20, 52)] == [0.007362, 0.002041, 0.000293, 0.000077]
    assert (pytest.approx(tail, rel=1e-15), 1.4) == (looks.TAIL, looks.DECAY)


def test_a_promotion_eases_the_tests_after_it():
    # After the place 7 the wealth of one more discovery is spent: at 9 that of its second place.
    rest = 0.1 * (1 / 1.1 - 0.5) / looks.TAIL
    assert level(rule(), 9, (7,)) == pytest.approx(rest * (9**-1.4 + 2**-1.4), rel=1e-12)
    assert level(rule(), 9, (3, 7)) == pytest.approx(rest * (9**-1.4 + 6**-1.4 + 2**-1.4), rel=1e-12)
    assert level(rule(), 8, (7,)) == 1 - 0.95  # the cap: 0.05 and a little


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.51])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5, 0.99])
def test_all_levels_with_all_later_looks_add_up_to_the_false_share_at_most(confidence, share):
    gate = rule(confidence=confidence, false_share=share)
    of_first = [level(gate, place) for place in range(1, 20_000)]
    of_later = [looks.later(again) for again in range(20_000)]
    assert of_later[0] == 1 and sum(of_later) < 1 + AGAIN
    assert sum(of_first) * (1 + AGAIN) <= share * (1 + 1e-9)
    assert all(0 < found <= 1 - confidence for found in of_first)
    assert all(a >= b for a, b in zip(of_first, of_first[1:], strict=False))
    assert all(a > b for a, b in zip(of_later, of_later[1:], strict=False))


def test_the_first_look_has_the_level_of_the_printed_interval():
    for confidence in (0.95, 0.97, 0.99):
        assert level(rule(confidence=confidence), 1) == 1 - confidence
    # Where the first look would leave nothing for the others it has half of the share.
    assert level(rule(confidence=0.9), 1) == pytest.approx(0.05) and level(rule(confidence=0.9), 2) > 0.005


def test_a_share_of_null_tests_each_as_if_it_were_the_first():
    history = [seen(f"m{number}") for number in range(30)]
    assert {asked(history[:number], false_share=None).level for number in (0, 1, 30)} == {1 - 0.95}
    assert asked(history, "m3", "other rows", false_share=None).level == 1 - 0.95
    assert asked(history, false_share=None).before == 30  # it is counted all the same


@pytest.mark.parametrize(("value", "fault"), [("0", "greater than 0"), ("1", "less than 1"), ("often", "valid number")])
def test_a_share_that_is_none_is_one_line(tmp_path, value, fault, params_text):
    path = tmp_path / "params.yaml"
    path.write_text(params_text.replace("false_share: 0.1 ", f"false_share: {value} "))
    with pytest.raises(Misuse, match=f"gate.false_share: .*{fault}"):
        load(path)


@pytest.fixture
def params_text():
    text = (TEMPLATE / "params.yaml").read_text()
    return text.replace("<< cookiecutter.__package >>", "late").replace("<< cookiecutter.deploy >>", "docker")


# The history


def test_each_challenger_has_a_place_and_its_level():
    history = [seen(f"m{number}") for number in range(4)]
    found = [asked(history[:number]) for number in range(5)]
    assert [(look.place, look.again, look.before) for look in found] == [(n + 1, 0, n) for n in range(5)]
    assert [look.level for look in found] == [level(rule(), place) for place in range(1, 6)]
    history[2] = seen("m2", promoted=True)
    assert asked(history, against="m2").level == level(rule(), 5, (3,))


def test_the_same_test_asked_again_has_the_level_that_it_had():
    history = [seen(f"m{number}", promoted=number == 2) for number in range(6)]
    for number in range(6):
        first = asked(history[:number], f"m{number}")
        again = asked(history, f"m{number}")
        assert (again.place, again.again, again.level) == (first.place, 0, first.level)
    assert asked([*history, *history]).place == 7  # written twice it counts once


def test_a_challenger_that_is_judged_again_as_rows_come_keeps_its_place():
    history = [seen("other"), seen("a1", "r1", recipe="a"), seen("more", "r1")]
    first = level(rule(), 2)
    for week in range(1, 60):
        look = asked(history, f"a{week + 1}", f"r{week + 1}", recipe="a")
        assert (look.place, look.again) == (2, week)
        assert look.level == pytest.approx(first * AGAIN * (week + 1) ** -DECAY / looks.TAIL)
        history.append(seen(f"a{week + 1}", f"r{week + 1}", recipe="a"))
    assert asked(history).place == 4  # the others go on where they were
    # Against another champion it is another question; so is another recipe.
    assert asked(history, "a99", "r99", "second", recipe="a").place == 4
    assert asked(history, "a99", "r99", recipe="b").place == 4


def test_the_recipe_of_the_champion_itself_makes_a_new_challenger_each_time():
    champion, other = "c" * 16, "a" * 16
    assert looks.recipe_of(other, champion) == other and looks.recipe_of(champion, champion) is None
    assert [looks.recipe_of(told, champion) for told in (None, 7, "x", "A" * 16, other + "\n")] == [None] * 5
    history = [seen(f"c{week}", f"r{week}") for week in range(5)]
    assert asked(history, "c5", "r5").place == 6


def test_a_promotion_that_never_came_to_serve_counts_once_and_may_be_asked_again():
    accepted = [seen("a", f"r{number}", recipe="a", promoted=True) for number in range(8)]
    assert asked(accepted, "a", "r9", recipe="a").level == level(rule(), 1)
    once, often = (asked(accepted[:number], "b") for number in (1, 8))
    assert once.level == often.level == level(rule(), 2, (1,))


def test_the_next_model_of_a_promoted_recipe_is_another_discovery_with_a_place_of_its_own():
    """Trained again each week and rolled back each time, it must not have the level of a first look for ever."""
    history = [seen("a0", "r0", recipe="a", promoted=True)]
    look = asked(history, "a1", "r1", recipe="a")
    assert (look.place, look.again, look.level) == (2, 0, level(rule(), 2, (1,)))
    for week in range(1, 9):
        look = asked(history, f"a{week}", f"r{week}", recipe="a")
        assert (look.place, look.again) == (2, week - 1)
        history.append(seen(f"a{week}", f"r{week}", recipe="a"))
    assert look.level < 0.001 and asked(history, "a0", "r99", recipe="a").level == level(rule(), 1)
    assert asked(history, "b", "r1").place == 3


def test_a_promotion_by_a_later_look_eases_only_what_comes_after_it():
    history = [seen("a", "r1", recipe="a"), seen("b"), seen("c"), seen("a", "r2", recipe="a", promoted=True)]
    assert asked(history, "b").level == level(rule(), 2)
    assert asked(history, "d").level == level(rule(), 4, (3,)) == 1 - 0.95


def test_wealth_is_never_negative_and_a_false_discovery_share_follows_from_it():
    """LORD++ keeps the sum of the levels below the share times the models ever promoted, the first champion among
    them."""
    generator = np.random.default_rng(4)
    for _ in range(3):
        history, spent = [], 0.0
        for number in range(300):
            name, recipe = f"m{number}", f"{generator.integers(0, 120):032x}"
            look = asked(history, name, f"r{number}", recipe=recipe)
            promoted = bool(generator.random() < 0.05)
            spent += look.level
            history.append(seen(name, f"r{number}", recipe=recipe, promoted=promoted))
            discoveries = 1 + sum(each.promoted for each in history)
            assert spent <= 0.1 * discoveries * (1 + 1e-9)


# Events


def event(number, kind, key, outcome="", **more):
    about = {"schema": 2, "number": number, "id": f"{number:032x}", "type": kind, "key": key * 64, "digest": key * 64}
    about |= {"commit": "c" * 40, "data_sha256": "d", "time": f"2026-01-01T00:00:{number:02d}Z", "by": "ada"}
    return Event.model_validate({**about, "outcome": outcome, "reason": "", **more})


def told(*events):
    state = State()
    for number, (kind, key, outcome, *more) in enumerate(events, 1):
        state.add(event(number, kind, key, outcome, **(more[0] if more else {})))
    return state.history().looks


def test_a_verdict_counts_where_it_compared_two_models():
    begun = [("accepted", "a", "bootstrap"), ("live", "a", "bootstrap")]
    assert told(*begun) == ()
    rest = [
        ("kept", "b", "keep", {"rows": 7, "recipe": "e" * 16}),
        ("kept", "c", "keep", {"rows": 0}),  # both models predict the same, or too few rows
        ("kept", "d", "incomparable"),
        ("blocked", "e", "block", {"rows": 9}),
        ("approved", "d", "incomparable"),
        ("accepted", "d", "incomparable"),
        ("live", "d", "incomparable"),
        ("accepted", "f", "promote", {"rows": 8, "sketch": overlap.sketch(np.arange(8, dtype=np.uint64))}),
        ("aborted", "f", "promote"),
        ("rolled_back", "a", "rollback", {"replaces": "d" * 64}),
        ("live", "a", "rollback"),
        ("kept", "f", "keep"),  # of before the record of rows: it counts
    ]
    found = told(*begun, *rest)
    assert [(look.key[0], look.against[0], look.promoted, look.rows) for look in found] == [
        ("b", "a", False, 7),
        ("e", "a", False, 9),
        ("f", "d", True, 8),
        ("f", "a", False, None),
    ]
    assert found[0].recipe == "e" * 16 and found[3].sketch is None


def test_the_sketch_of_the_same_rows_is_stored_once_and_found_by_their_digest():
    rows = {"rows": 9, "holdout": "h", "sketch": overlap.sketch(np.arange(9, dtype=np.uint64))}
    begun = [("accepted", "a", "bootstrap"), ("live", "a", "bootstrap"), ("kept", "b", "keep", rows)]
    more = [
        ("blocked", "c", "block", {"holdout": "h"}),
        ("kept", "d", "keep", {"rows": 8, "holdout": "i"}),
        ("kept", "e", "keep", {"rows": 0, "holdout": "h"}),  # these rows told nothing about this one
    ]
    known = (9, rows["sketch"])
    assert [(seen.rows, seen.sketch) for seen in told(*begun, *more)] == [known, known, (8, None)]


def test_a_copy_of_a_state_counts_on_by_itself():
    state = State()
    state.add(event(1, "accepted", "a", "bootstrap"))
    state.add(event(2, "live", "a", "bootstrap"))
    other = state.copy()
    other.add(event(3, "kept", "b", "keep"))
    assert (len(state.history().looks), len(other.history().looks)) == (0, 1)


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        ({"sketch": "short"}, Unsound),
        ({"sketch": "*" * 86 + "=="}, Unsound),
        ({"rows": -1}, Unsound),
        ({"rows": "7"}, Unsound),
        ({"recipe": "x"}, Unsound),
        ({"level": 0.05}, Newer),
    ],
)
def test_an_event_that_no_writer_wrote_is_refused(change, raised):
    stored = json.loads(event(1, "kept", "b", "keep", rows=7).stored())
    assert read(json.dumps(stored).encode()).rows == 7
    with pytest.raises(raised):
        read(json.dumps({**stored, **change}).encode())


def test_an_event_stays_small():
    rows = np.arange(10**5, dtype=np.uint64)
    more = {"rows": len(rows), "sketch": overlap.sketch(rows), "recipe": "e" * 16, "holdout": "f" * 64}
    with_rows, without = (len(event(1, "kept", "b", "keep", **given).stored()) for given in (more, {}))
    assert with_rows - without < 350


# Rows in common


@pytest.mark.parametrize("rows", [5, 50, 2000, 20_000])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_sketch_tells_the_share_of_rows_in_common_within_its_error(rows, kept):
    generator, off, errors = np.random.default_rng(rows), [], []
    for _ in range(20):
        hashes = generator.integers(0, 2**64, 2 * rows, dtype=np.uint64)
        common = round(kept * rows)
        now, then = hashes[:rows], np.concatenate([hashes[:common], hashes[rows : 2 * rows - common]])
        share, error = overlap.in_common(overlap.sketch(now), rows, overlap.sketch(then), rows)
        off.append(share - common / rows)
        errors.append(error)
    spread = np.sqrt(np.mean(np.square(off)))
    assert np.mean(errors) < 0.11 * np.sqrt(max(1, 128 / rows))
    assert abs(np.mean(off)) < 3.5 * np.mean(errors) / np.sqrt(20) + 0.01
    assert spread < 1.5 * np.mean(errors) + 0.01


def test_a_sketch_depends_on_the_rows_and_not_on_their_order():
    rows = np.arange(10, 3010, dtype=np.uint64)
    shuffled = np.random.default_rng(1).permutation(np.concatenate([rows, rows[:100]]))
    assert overlap.sketch(rows) == overlap.sketch(shuffled) != overlap.sketch(rows[:-200])
    assert len(overlap.sketch(rows)) == 88 and event(1, "kept", "b", "keep", sketch=overlap.sketch(rows))
    # A holdout that has doubled: all of the old rows are in it.
    more = np.arange(10, 6010, dtype=np.uint64)
    assert overlap.in_common(overlap.sketch(rows), 3000, overlap.sketch(more), 6000)[0] == pytest.approx(1, abs=0.15)
    assert overlap.in_common(overlap.sketch(more), 6000, overlap.sketch(rows), 3000)[0] == pytest.approx(0.5, abs=0.12)


def test_no_rows_have_nothing_in_common_and_what_is_no_sketch_is_named():
    none = overlap.sketch(np.zeros(0, dtype=np.uint64))
    some = overlap.sketch(np.arange(9, dtype=np.uint64))
    assert overlap.in_common(none, 0, none, 0) == (0, 0) and overlap.in_common(none, 0, some, 9)[0] == 0
    for wrong in ("", "abc", "*" * 88, some[:-4]):
        with pytest.raises(ValueError, match="no sketch of rows"):
            overlap.in_common(some, 9, wrong, 9)


def test_looks_at_other_rows_are_told_apart_from_looks_at_these():
    def sight(begin, end):
        rows = np.arange(begin, end, dtype=np.uint64)
        return Sight(holdout=f"{begin} {end}", rows=len(rows), sketch=overlap.sketch(rows))

    def verdict(name, begin, end):
        return Seen(key=name, against="first", **sight(begin, end).model_dump())

    history = [verdict("a", 0, 4000), verdict("b", 2000, 6000), verdict("c", 10_000, 14_000)]
    look = next_look(History(looks=tuple(history)), rule(), "new", "first", sight(2000, 6000))
    assert (look.place, look.before) == (4, 2) and look.share == pytest.approx(0.75, abs=0.06)
    # What is not known counts, and an equal digest needs no sketch.
    old = [Seen(key="d", against="first"), Seen(key="e", against="first", holdout="2000 6000")]
    look = next_look(History(looks=tuple(old)), rule(), "new", "first", sight(2000, 6000))
    assert (look.place, look.before, look.share) == (3, 2, 1.0)
    assert next_look(History(looks=tuple(old[:1])), rule(), "new", "first", sight(0, 9)).share is None


# The decision


@pytest.fixture
def drawn():
    """Labels, and two models of which the challenger is better by about 2.2 standard errors."""
    generator = np.random.default_rng(3)
    y = (generator.random(3000) < 0.5).astype(np.int64)
    signal = y + generator.normal(size=3000)
    champion, challenger = (1 / (1 + np.exp(0.5 - signal - generator.normal(0, n, 3000))) for n in (1.0, 0.88))
    return y, champion, challenger


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc", "f1"])
@pytest.mark.parametrize(("when", "margin"), [("superior", 0.0), ("non_inferior", 0.001)])
def test_a_level_decides_as_an_interval_of_that_level_would(drawn, metric, when, margin):
    gate = rule(metric=metric, promote_when=when, margin=margin)
    plain = decide(*drawn, gate)
    measured = next(m for m in plain.metrics if m.name == metric)
    assert plain.look is None and plain.tested
    assert plain.needed == pytest.approx(
        (margin if when == "superior" else -margin) + measured.gain - measured.gain_low
    )
    outcomes = []
    for strict in (0.05, 1e-2, 1e-3, 1e-5, 1e-9):
        look = Look(place=9, again=0, level=strict, before=8)
        made = decide(*drawn, gate, look=look)
        now = next(m for m in made.metrics if m.name == metric)
        assert (now.gain_low, now.gain_high) == (measured.gain_low, measured.gain_high)  # as printed, always
        assert (made.outcome == "promote") == (now.gain > made.needed) and made.look == look
        bound = norm.isf(strict) * now.gain_error  # about: Student and draws are a little wider
        assert made.needed == pytest.approx((margin if when == "superior" else -margin) + bound, rel=0.15)
        outcomes.append(made.outcome)
    assert outcomes[-1] == "keep" and outcomes == sorted(outcomes, reverse=True)


def test_the_reason_says_that_a_first_look_would_have_been_enough(drawn):
    strict = Look(place=9, again=0, level=1e-9, before=8)
    made = decide(*drawn, rule(), look=strict)
    assert decide(*drawn, rule()).outcome == "promote" and made.outcome == "keep"
    assert made.reason.startswith("not shown to be better at level 1e-09, which needs a gain of +0.")
    assert "; at level 0.05, of a first look, it would be: log_loss" in made.reason


def test_a_first_look_decides_as_if_there_were_no_others(drawn):
    for metric in ("log_loss", "roc_auc", "f1"):
        gate = rule(metric=metric)
        alone, first = decide(*drawn, gate), decide(*drawn, gate, look=asked([]))
        assert alone == first.model_copy(update={"look": None})


def test_draws_do_not_reach_to_small_levels():
    """Of 2000 draws the least is about a level of 1/2000: below it Student's bound goes on."""
    spread = Spread(1.0, 0.1, 1999, np.random.default_rng(2).normal(1.0, 0.1, 2000))
    reached = [looks.reach(spread, strict, 0.05) for strict in (0.05, 1e-3, 1e-6, 1e-9)]
    assert reached[0] == pytest.approx(0.1645, rel=0.1) and reached[3] > 0.59
    assert all(a < b for a, b in zip(reached, reached[1:], strict=False))
    assert looks.reach(Spread(1.0, np.inf, 0), 0.01, 0.05) is None


@pytest.mark.parametrize("case", ["the same", "too few", "no champion", "not comparable", "not usable"])
def test_what_luck_could_not_promote_is_no_test(drawn, case):
    y, champion, challenger = drawn
    given = {
        "the same": (y, champion, champion),
        "too few": (y[:8], champion[:8], challenger[:8]),
        "no champion": (y, None, challenger),
        "not comparable": (y, np.full(3000, np.nan), challenger),
        "not usable": (y, champion, np.full(3000, np.nan)),
    }[case]
    assert not decide(*given, rule()).tested
    assert decide(*drawn, rule()).tested and decide(y, challenger, champion, rule()).tested


def test_the_best_of_many_equal_challengers_looks_better_by_its_expected_maximum():
    generator = np.random.default_rng(9)
    for count in (3, 5, 20, 52):
        best = generator.normal(size=(20_000, count)).max(axis=1)
        assert looks.best_by_luck(count) == pytest.approx(best.mean(), rel=0.04)
    assert looks.best_by_luck(1) == pytest.approx(0)


def test_the_card_of_a_release_says_that_the_best_of_many_shows_some_luck():
    from conveyor.report.model_card import _flattered

    history = [*(seen(f"m{number}") for number in range(6)), seen("best", promoted=True), seen("later")]
    [line] = _flattered(History(looks=tuple(history)), "best")
    assert "promoted by verdict number 7 of main" in line and "rows that come later tell" in line
    for key, looked in (("m3", history), ("best", [seen("m0"), seen("best", promoted=True)]), ("first", [])):
        assert _flattered(History(looks=tuple(looked)), key) == []


# From end to end


def events_of(project):
    return json.loads(project.cli("history", "--json").stdout)


def test_a_block_is_recorded_once_for_its_rows_counts_as_a_look_and_stays_red(bootstrapped):
    project = bootstrapped
    project.set_param("gate.block", "row")
    project.set_param("model.params.logistic.C", 0.00001)
    for verb in ("pipeline", "accept", "promote", "pipeline"):
        done = project.cli(verb, check=False)
        assert done.returncode == 1 and re.fullmatch("error: block: .*\n", done.stderr), done.stderr
    [_, live, blocked] = events_of(project)
    assert (blocked["type"], blocked["outcome"], live["type"]) == ("blocked", "block", "live")
    made = json.loads((project.path / "build" / "decision.json").read_text())
    assert blocked["rows"] == made["decision"]["rows"] == 4000 and blocked["sketch"] == made["sight"]["sketch"]
    assert len(blocked["recipe"]) == 16 and made["decision"]["look"]["place"] == 1

    # The next one is the second challenger; it is recorded as such, and nothing is spent by a trial of it.
    project.set_param("model.params.logistic.C", 0.8)
    for _ in range(2):
        project.cli("pipeline")
        made = json.loads((project.path / "build" / "decision.json").read_text())
        look = made["decision"]["look"]
        assert (look["place"], look["again"], look["before"], look["share"]) == (2, 0, 1, 1.0)
        assert made["decision"]["outcome"] == "keep" and look["level"] == pytest.approx(level(rule(), 2))
    project.cli("try", "model.seed=9")
    assert [event["type"] for event in events_of(project)] == ["accepted", "live", "blocked", "kept"]
    report = (project.path / "build" / "report.md").read_text()
    assert "- Look: number 2 at these rows (1 verdict of main used about 100\u00a0% of them before)" in report


def test_a_block_that_was_overtaken_is_made_again_and_recorded(bootstrapped):
    """Between its verdict and its record another run wrote an event: it is judged again, and recorded all the same."""
    project = bootstrapped
    project.set_param("gate.block", "row")
    project.set_param("model.params.logistic.C", 0.00001)
    for verb in ("train", "score"):
        project.cli(verb)
    assert project.cli("compare", check=False).returncode == 1
    ledger = ledger_of(Project(project.path))
    first = ledger.champion()
    told = {"key": "7" * 64, "digest": "a" * 64, "commit": first.commit, "data_sha256": "d", "outcome": "keep"}
    ledger._append("kept", {**told, "reason": "", "rows": 4000, "holdout": "other"})
    done = project.cli("promote", check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: block: ")
    assert [event["type"] for event in events_of(project)[2:]] == ["kept", "blocked"]
    made = json.loads((project.path / "build" / "decision.json").read_text())
    assert made["decision"]["look"]["place"] == 2
