"""Screening: every reason, quarantine and release, restatements, and independence of how runs are cut."""

import json
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.market_data.screening import REASONS, Notice, Reason
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline_tests.market_data.screening_store import DAYS, Store, actions, bar, bars

SATURDAY = DAYS[3] + timedelta(days=1)
EXTREME = Reason.EXTREME_MOVE.value

REFUSED = [
    ("unknown symbol", [bar("ZZZ", 1, 5)], [Reason.UNKNOWN_SYMBOL]),
    ("symbol missing", [bar(None, 1, 5)], [Reason.UNKNOWN_SYMBOL]),
    ("before the range", [bar("A", date(2023, 12, 29), 5)], [Reason.OUTSIDE_RANGE]),
    ("after the range", [bar("A", 30, 5)], [Reason.OUTSIDE_RANGE]),
    ("weekend", [bar("A", SATURDAY, 5)], [Reason.NOT_A_SESSION]),
    ("date missing", [bar("A", None, 5)], [Reason.NOT_A_SESSION]),
    ("no close", [bar("A", 1, None)], [Reason.MISSING_CLOSE]),
    ("zero close", [bar("A", 1, 0)], [Reason.NOT_POSITIVE_CLOSE]),
    ("negative close", [bar("A", 1, -5)], [Reason.NOT_POSITIVE_CLOSE]),
    ("volume no number", [bar("A", 1, 5, volume=float("nan"))], [Reason.VOLUME_NOT_A_NUMBER]),
    ("volume infinite", [bar("A", 1, 5, volume=float("inf"))], [Reason.VOLUME_NOT_A_NUMBER]),
    ("volume negative", [bar("A", 1, 5, volume=-1.0)], [Reason.NEGATIVE_VOLUME]),
    (
        "volume unreadable at the source",
        [bar("A", 1, 5, problem="volume_not_a_number", received='{"volume": "n/a"}')],
        [Reason.VOLUME_NOT_A_NUMBER],
    ),
    ("above the high", [bar("A", 1, 5, low=4, high="4.99")], [Reason.OUTSIDE_LOW_HIGH]),
    ("below the low", [bar("A", 1, 5, low="5.01")], [Reason.OUTSIDE_LOW_HIGH]),
    ("two values for a session", [bar("A", 1, 5), bar("A", 1, 6)], [Reason.DUPLICATE_SESSION] * 2),
    ("two volumes for a session", [bar("A", 1, 5, volume=1.0), bar("A", 1, 5)], [Reason.DUPLICATE_SESSION] * 2),
]


@pytest.mark.parametrize(("rows", "reasons"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_refused_row_is_kept_as_received_with_its_reason_and_never_stored(rows, reasons):
    store = Store()
    result = store.run(bars(*rows, bar("B", 1, 7)), 0, 9)
    assert result.rejected["reason"].to_list() == reasons
    assert set(result.rejected["status"]) == {"rejected"}
    assert store.closes("A") == {}
    assert store.closes("B") == {1: 7.0}
    for text in result.rejected["received"]:
        assert isinstance(json.loads(text), dict)


def test_what_was_received_is_kept():
    result = Store().run(bars(bar("A", 1, "-5.25", volume=3.5)), 0, 9)
    assert json.loads(result.rejected["received"][0]) == {
        "symbol": "A",
        "session_date": str(DAYS[1]),
        "open": None,
        "high": None,
        "low": None,
        "close": "-5.250000",
        "volume": "3.5",
    }


STORED = [
    ("close on the high", [bar("A", 1, 5, low=4, high=5)]),
    ("close on the low", [bar("A", 1, 5, low=5, high=6)]),
    ("fractional volume", [bar("A", 1, 5, volume=0.25)]),
    ("zero volume", [bar("A", 1, 5, volume=0.0)]),
    ("one bad copy beside a good row", [bar("A", 1, 5), bar("A", 1, 0)]),
    ("same values twice", [bar("A", 1, 5, volume=2.0), bar("A", 1, 5, volume=2.0)]),
]


@pytest.mark.parametrize("rows", [c[1] for c in STORED], ids=[c[0] for c in STORED])
def test_rows_that_are_stored(rows):
    store = Store()
    store.run(bars(*rows), 0, 9)
    assert store.closes() == {1: 5.0}


def test_the_frames_have_the_columns_of_the_tables_they_are_written_to():
    received = bars(bar("A", 0, 100), bar("A", 1, 0), bar("A", 2, 1))
    for result in (Store().run(received, 0, 9), Store().run(bars(), 0, 9)):
        assert dict(result.accepted.schema) == polars_schema(tables.daily_prices)
        assert dict(result.rejected.schema) == polars_schema(tables.rejected_prices)
        revisions = polars_schema(tables.daily_price_revisions)
        assert {"revision_id": pl.Int64(), **result.revisions.schema} == revisions


def test_a_session_marked_closed_is_none():
    store = Store(closed=[DAYS[1]])
    store.run(bars(bar("A", 0, 5), bar("A", 1, 5), bar("A", 2, 5)), 0, 2)
    assert list(store.closes()) == [0, 2]
    assert store.verdicts() == [("A", 1, "not_a_session", "rejected")]


def test_a_close_under_an_old_name_after_the_renaming_is_refused():
    store = Store(renamed={"A": DAYS[1]})
    store.run(bars(*(bar(symbol, day, 5) for symbol in ("A", "B") for day in range(4))), 0, 3)
    assert list(store.closes("A")) == [0, 1]
    assert list(store.closes("B")) == [0, 1, 2, 3]
    assert store.verdicts() == [("A", 2, "after_renaming", "rejected"), ("A", 3, "after_renaming", "rejected")]


def test_open_high_low_that_are_not_positive_are_left_out_and_told():
    store = Store()
    result = store.run(bars(bar("A", 1, 5, open_=0, high=6, low=-1)), 0, 9)
    assert store.prices.select("open", "high", "low", "close").rows() == [(None, Decimal(6), None, Decimal(5))]
    assert result.warnings["notice"].to_list() == [Notice.UNUSABLE_OPEN_HIGH_LOW]


def test_a_source_must_use_the_closed_list():
    with pytest.raises(ValueError, match="looks_odd"):
        Store().run(bars(bar("A", 1, 5, problem="looks_odd")), 0, 9)
    assert len(REASONS) == len(set(REASONS))


# Closes by session, what is stored, and what is held back; limits: +400 %, -80 %, band 20 %, warning 50 %.
MOVES = [
    ("up 400 % is not above", [100, 500], {0: 100, 1: 500}, [], [1]),
    ("up more is held", [100, 500.01], {0: 100}, [(1, "quarantined")], []),
    ("down 80 % is not beyond", [100, 20], {0: 100, 1: 20}, [], [1]),
    ("down more is held", [100, 19.99], {0: 100}, [(1, "quarantined")], []),
    ("50 % is not warned of", [100, 150, 75], {0: 100, 1: 150, 2: 75}, [], []),
    ("51 % is", [100, 151], {0: 100, 1: 151}, [], [1]),
    ("confirmed within 20 %", [100, 10, 8], {0: 100, 1: 10, 2: 8}, [(1, "confirmed")], [1]),
    ("21 % away is no confirmation", [100, 10, 7.9], {0: 100}, [(1, "quarantined"), (2, "quarantined")], []),
    ("one bad tick", [100, 1, 101], {0: 100, 2: 101}, [(1, "quarantined")], []),
    ("confirmed after a gap", [100, 10, None, None, 11], {0: 100, 1: 10, 4: 11}, [(1, "confirmed")], [1]),
    (
        "the second of two confirmed by a third",
        [100, 10, 5, 5.5],
        {0: 100, 2: 5, 3: 5.5},
        [(1, "quarantined"), (2, "confirmed")],
        [2],
    ),
    ("crash and rebound, both real", [100, 10, 10, 100, 100], dict(enumerate([100, 10, 10, 100, 100])),
     [(1, "confirmed"), (3, "confirmed")], [1, 3]),
    ("a first close has nothing to be measured from", [0.01], {0: 0.01}, [], []),
]  # fmt: skip


@pytest.mark.parametrize("each", [False, True], ids=["range", "single"])
@pytest.mark.parametrize(("closes", "kept", "held", "warned"), [c[1:] for c in MOVES], ids=[c[0] for c in MOVES])
def test_moves(closes, kept, held, warned, each):
    received = bars(*(bar("A", n, close) for n, close in enumerate(closes) if close is not None))
    store = Store()
    results = store.run_each(received, 0, 9) if each else [store.run(received, 0, 9)]
    assert store.closes() == kept
    assert store.verdicts() == [("A", n, EXTREME, status) for n, status in held]
    large = pl.concat([result.warnings for result in results]).filter(pl.col("notice") == Notice.LARGE_MOVE)
    assert sorted(DAYS.index(day) for day in large["session_date"]) == warned


@pytest.mark.parametrize("kind", ["index", "option"])
def test_only_stocks_etfs_and_funds_are_quarantined(kind):
    store = Store(kinds={"A": kind})
    result = store.run(bars(bar("A", 0, 10), bar("A", 1, 80)), 0, 9)
    assert store.closes() == {0: 10.0, 1: 80.0}
    assert result.warnings["notice"].to_list() == [Notice.LARGE_MOVE]


ACTIONS = [
    ("split 10:1", [100, 10.1], actions(("A", 1, "split", 10)), 0),
    ("reverse split 1:50", [1, 51], actions(("A", 1, "split", "0.02")), 0),
    ("special dividend", [100, 12], actions(("A", 1, "dividend", 85)), 0),
    ("split recorded, price not split", [100, 100], actions(("A", 1, "split", 2)), 1),
]


@pytest.mark.parametrize(("closes", "events", "large"), [c[1:] for c in ACTIONS], ids=[c[0] for c in ACTIONS])
def test_moves_are_measured_after_splits_and_dividends(closes, events, large):
    store = Store(actions=events)
    result = store.run(bars(*(bar("A", n, close) for n, close in enumerate(closes))), 0, 9)
    assert len(store.closes()) == 2
    assert len(result.warnings) == large


def test_an_action_learnt_later_releases_what_it_explains():
    store = Store()
    store.run(bars(bar("A", 0, 100), bar("A", 1, 10)), 0, 1)
    assert store.closes() == {0: 100.0}
    store.actions = actions(("A", 1, "split", 10))
    store.run(bars(bar("A", 1, 10)), 1)
    assert store.closes() == {0: 100.0, 1: 10.0}
    assert store.verdicts() == [("A", 1, EXTREME, "confirmed")]


def test_a_close_released_by_a_later_run_comes_as_a_row_of_its_own_session():
    store = Store()
    store.run_each(bars(bar("A", 0, 100), bar("A", 1, 10)), 0, 1)
    result = store.run(bars(bar("A", 2, 10.5)), 2)
    assert result.accepted["session_date"].to_list() == [DAYS[1], DAYS[2]]
    assert (DAYS[1], "A", "released", "close 10.000000 confirmed") in result.warnings.rows()


def test_a_close_that_arrives_late_is_confirmed_by_a_stored_one():
    store = Store()
    store.run(bars(bar("A", 0, 100)), 0)
    store.run_each(bars(bar("A", 2, 10), bar("A", 3, 10)), 2, 3)
    store.run(bars(bar("A", 1, 10.1)), 1, later=True)
    assert store.closes() == {0: 100.0, 1: 10.1, 2: 10.0, 3: 10.0}


def test_a_person_may_accept_a_quarantined_row():
    store = Store()
    store.run(bars(bar("A", 0, 100), bar("A", 1, 1), bar("A", 2, 100)), 0, 2)
    (number,) = store.rejected["rejection_id"]
    store.rejected = store.rejected.with_columns(status=pl.lit("accepted"))
    store.run(bars(), 5, accept=[number])
    assert store.closes() == {0: 100.0, 2: 100.0}, "of a session outside the range it waits"
    result = store.run(bars(bar("A", 1, 1)), 1, 1, accept=[number])
    assert store.closes() == {0: 100.0, 1: 1.0, 2: 100.0}
    assert result.rejected.select("rejection_id", "status").rows() == [(number, "confirmed")]
    again = store.run(bars(bar("A", 1, 1)), 1, 1, accept=[number])
    assert again.accepted.is_empty()


def test_a_changed_value_goes_to_the_revisions_and_an_unchanged_one_nowhere():
    store = Store()
    store.run(bars(bar("A", 0, 100, volume=5.0), bar("A", 1, 101), bar("B", 1, 7)), 0, 1)
    fetched = store.prices["fetched_at"][0]
    result = store.run(bars(bar("A", 0, 100, volume=5.0), bar("A", 1, 101.5), bar("B", 1, 7)), 0, 1)
    assert result.accepted.select("symbol", "session_date", "close").rows() == [("A", DAYS[1], Decimal("101.5"))]
    old = result.revisions.row(0, named=True)
    assert (old["symbol"], old["session_date"], old["close"]) == ("A", DAYS[1], Decimal(101))
    assert (old["fetched_at"], old["replaced_by_source"]) == (fetched, "test")
    assert old["replaced_at"] > fetched
    assert result.warnings["detail"].to_list() == ["close 101.000000 became 101.500000"]
    unchanged = store.prices.filter((pl.col("symbol") == "B") | (pl.col("session_date") == DAYS[0]))
    assert set(unchanged["fetched_at"]) == {fetched}


def test_a_row_the_source_no_longer_has_stays_stored():
    store = Store()
    store.run(bars(bar("A", 0, 100)), 0)
    result = store.run(bars(), 0)
    assert result.accepted.is_empty()
    assert result.revisions.is_empty()
    assert store.closes() == {0: 100.0}


def test_an_extreme_restatement_leaves_the_stored_value_in_place():
    store = Store()
    store.run(bars(bar("A", 0, 100), bar("A", 1, 250)), 0, 1)
    result = store.run(bars(bar("A", 1, 5), bar("A", 2, 600)), 1, 2)
    assert store.closes() == {0: 100.0, 1: 250.0, 2: 600.0}, "600 is measured from 250"
    assert store.verdicts() == [("A", 1, EXTREME, "quarantined")]
    assert result.revisions.is_empty()


@pytest.mark.parametrize(("restated", "close"), [(10.5, 10.5), (99, 99.0), (5, 10.0)])
def test_restating_a_real_crash_is_measured_against_the_stored_close_too(restated, close):
    store = Store()
    store.run(bars(bar("A", 0, 100), bar("A", 1, 10), bar("A", 2, 10)), 0, 2)
    store.run(bars(bar("A", 1, restated)), 1)
    assert store.closes()[1] == close


some_closes = st.lists(
    st.sampled_from([None, 100, 101, 160, 10, 10.5, 7, 7.2, 1, 600, 620, 3000, 0]), min_size=1, max_size=9
)


@given(path=some_closes, other=some_closes, cuts=st.sets(st.integers(1, 8)))
@settings(max_examples=20, deadline=None)
def test_however_sessions_are_cut_into_runs_the_same_is_stored_and_a_re_run_changes_nothing(path, other, cuts):
    received = bars(
        *(bar("A", n, close) for n, close in enumerate(path) if close is not None),
        *(bar("B", n, close) for n, close in enumerate(other) if close is not None),
    )
    whole, pieces = Store(), Store()
    whole.run(received, 0, 9)
    edges = [0, *sorted(cuts), 10]
    for start, end in pairwise(edges):
        days = [DAYS[n] for n in range(start, end)]
        pieces.run(received.filter(pl.col("session_date").is_in(days)), start, end - 1)
    assert pieces.lasting() == whole.lasting()

    before = whole.prices, whole.rejected, whole.revisions
    again = whole.run(received, 0, 9)
    assert again.accepted.is_empty()
    assert again.revisions.is_empty()
    assert all(x.equals(y) for x, y in zip(before, (whole.prices, whole.rejected, whole.revisions), strict=True))


def walk(path):
    """The rule close by close: stored closes and statuses of held ones, for one stock without actions."""
    stored, held = {}, {}
    last, candidate = None, None
    for n, close in enumerate(path):
        if not close:
            continue
        if candidate is not None and abs(close / candidate[1] - 1) <= 0.2 + 1e-12:
            stored[candidate[0]], held[candidate[0]] = candidate[1], "confirmed"
            last = candidate[1]
        candidate = None
        if last is None or -0.8 <= close / last - 1 <= 4:
            stored[n] = last = close
        else:
            held[n], candidate = "quarantined", (n, close)
    return stored, held


@given(path=some_closes)
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_rule_walked_close_by_close(path):
    store = Store()
    store.run(bars(*(bar("A", n, close) for n, close in enumerate(path) if close is not None)), 0, 9)
    stored, held = walk(path)
    assert store.closes() == stored
    extremes = [(n, status) for _, n, reason, status in store.verdicts() if reason == EXTREME]
    assert extremes == sorted(held.items())
