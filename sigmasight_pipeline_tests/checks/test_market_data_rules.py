"""Rules on prices, actions, yields and returns: each finds its planted fault, and only that."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.checks import market_data as rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.market_data.coverage import coverage
from sigmasight_pipeline.market_data.screening import WARNINGS, Notice
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.calculations.table_rows import closes, dividend, frame, split
from sigmasight_pipeline_tests.checks import cases
from sigmasight_pipeline_tests.checks.cases import Finding, found, judged
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT, weekdays

DAYS = weekdays(12, date(2024, 1, 2))
SESSIONS = DAYS[6:10]
D1, D2, D3, D4 = SESSIONS
BEFORE = DAYS[5]
SYMBOLS = [f"S{number:02}" for number in range(20)]

Frames = dict[str, pl.DataFrame]


def shares(*absent: tuple[date, int]) -> Frames:
    """Coverage when that many of the twenty needed symbols have no price on those sessions."""
    needed = pl.DataFrame(
        [(day, symbol) for day in SESSIONS for symbol in SYMBOLS],
        schema={"session_date": pl.Date(), "symbol": pl.String()},
        orient="row",
    )
    gone = {(day, symbol) for day, count in absent for symbol in SYMBOLS[:count]}
    priced = needed.filter(pl.Series([row not in gone for row in needed.rows()], dtype=pl.Boolean))
    covered, missing = coverage(priced, needed)
    return {"coverage": covered, "missing": missing}


def waiting(*days: date) -> Frames:
    return {"waiting": pl.DataFrame({"session_date": list(days)}, schema={"session_date": pl.Date()})}


def proxies(*rows: tuple[str, str]) -> Frames:
    defined = [{"factor": factor, "proxy_symbol": proxy, "active": True} for factor, proxy in rows]
    return {"unpriced_proxies": frame(tables.factor_definitions, defined)}


def notices(*rows: tuple[date, Notice]) -> Frames:
    told = [(day, "AAA", notice.value, f"AAA: {notice.value}") for day, notice in rows]
    refused = empty_frame(tables.rejected_prices).with_columns(detail=pl.lit(None, pl.String))
    return {"notices": pl.DataFrame(told, schema=WARNINGS, orient="row"), "rejections": refused}


def refused(*rows: tuple[date, str], **fields: str) -> Frames:
    made = frame(tables.rejected_prices, [{"session_date": day, **fields} for day, _ in rows])
    told = pl.Series("detail", [text for _, text in rows], dtype=pl.String)
    return notices() | {"rejections": made.with_columns(told)}


def stuck(count: int, *, last: date = D3) -> pl.DataFrame:
    """The last `count` closes of AAA up to `last` are the same, those of BBB never."""
    end = DAYS.index(last)
    same = {day: 50 if number > end - count else 60 + number for number, day in enumerate(DAYS[: end + 1])}
    rows = [*closes("AAA", same), *closes("BBB", {day: 10 + number for number, day in enumerate(DAYS)})]
    return frame(tables.daily_prices, rows)


CALL, HALVED = "AAA240119C00100000", "AAA240119C00050000"


def through_split(after: float, option_after: float = 2.5, *, ex: date = D2, **prices: float) -> Frames:
    """AAA closed at 100 and its call at 5 before a split of two for one; `after` and `option_after` from it on."""
    before = DAYS[DAYS.index(ex) - 1]
    quotes = [*closes(CALL, {before: 5}), *closes(HALVED, {ex: option_after})]
    return {
        "with_history": frame(tables.daily_prices, closes("AAA", {before: 100, ex: after})),
        "option_history": frame(tables.option_prices, quotes),
        "actions": frame(tables.corporate_actions, [split("AAA", ex, 2), dividend("BBB", ex, "0.5")]),
    }


Case = tuple[Rule, Frames, list[Finding]]

BY_INPUTS: list[Case] = [
    (rules.COVERAGE_ERROR, shares(), []),
    (rules.COVERAGE_ERROR, shares((D2, 4)), []),
    (rules.COVERAGE_ERROR, shares((D2, 5)), [(D2, None, "75.0% of 20 needed symbols have a price")]),
    (
        rules.COVERAGE_ERROR,
        shares((D1, 20), (D3, 19)),
        [
            (D1, None, "0.0% of 20 needed symbols have a price"),
            (D3, None, "5.0% of 20 needed symbols have a price"),
        ],
    ),
    (rules.COVERAGE_WARNING, shares((D2, 1)), []),
    (rules.COVERAGE_WARNING, shares((D4, 2)), [(D4, None, "90.0% of 20 needed symbols have a price")]),
    (rules.PRICES_ARRIVED, waiting(), []),
    (rules.PRICES_ARRIVED, waiting(D4), [(D4, None, "no prices yet: the session waits for them")]),
    (rules.MISSING, shares(), []),
    (
        rules.MISSING,
        shares((D2, 1), (D4, 3)),
        [(D2, None, "no price of S00"), (D4, None, "no price of S00, S01, S02")],
    ),
    (rules.NEVER_PRICED, proxies(), []),
    (
        rules.NEVER_PRICED,
        proxies(("Value", "VTV"), ("Size", "IWM")),
        [(D4, None, "IWM (Size) was never priced"), (D4, None, "VTV (Value) was never priced")],
    ),
    (rules.REJECTED, refused(), []),
    (rules.REJECTED, refused((D3, "AAA: negative_volume")), [(D3, None, "AAA: negative_volume")]),
    (rules.SPLITS_CONTINUOUS, through_split(50), []),
    (rules.SPLITS_CONTINUOUS, through_split(52.4, 2.6), []),
    (
        rules.SPLITS_CONTINUOUS,
        through_split(100, 5),
        [(D2, None, f"AAA: value changed by 100.0 % through the split of {D2}, allowed are 5.0 %")],
    ),
    (
        rules.SPLITS_CONTINUOUS,
        through_split(50, 5),
        [(D2, None, f"{CALL}: value changed by 112.1 % through the split of {D2}, allowed are 5.6 %")],
    ),
    (rules.SPLITS_CONTINUOUS, through_split(100, ex=BEFORE), []),
    # an option that moves otherwise is the market's, and only told
    (rules.SPLITS_CONTINUOUS, through_split(50, 1.5), []),
    (
        rules.OPTIONS_CONTINUOUS,
        through_split(50, 1.5),
        [(D2, None, f"{CALL}: value changed by -36.4 % through the split of {D2}, allowed are 5.6 %")],
    ),
    (rules.OPTIONS_CONTINUOUS, through_split(50, 2.36), []),
    (rules.QUARANTINED_CLOSES, refused((D3, "AAA: negative_volume")), []),
    (
        rules.QUARANTINED_CLOSES,
        refused((D3, f"{CALL}: extreme_volatility"), reason="extreme_volatility", status="quarantined"),
        [(D3, None, f"{CALL}: extreme_volatility")],
    ),
    (rules.QUARANTINED_CLOSES, refused((D3, CALL), reason="extreme_volatility", status="confirmed"), []),
    (rules.REJECTED, refused((D3, CALL), reason="extreme_volatility", status="quarantined"), []),
]


@pytest.mark.parametrize(
    ("rule", "inputs", "findings"),
    BY_INPUTS,
    ids=[f"{rule.name}: {len(findings)}" for rule, _, findings in BY_INPUTS],
)
def test_what_was_received(rule: Rule, inputs: Frames, findings: list[Finding]) -> None:
    assert found(rule, judged(SESSIONS, None, inputs)) == findings


NOTICED = {
    Notice.LARGE_MOVE: rules.LARGE_MOVES,
    Notice.RESTATED: rules.RESTATED,
    Notice.RELEASED: rules.RESTATED,
    Notice.DUPLICATE_SESSION: rules.REJECTED,
    Notice.UNUSABLE_OPEN_HIGH_LOW: rules.REJECTED,
}


@pytest.mark.parametrize("notice", Notice)
def test_every_notice_is_told_by_one_rule(notice: Notice) -> None:
    what = judged(SESSIONS, None, notices((D3, notice)))
    for rule in {id(rule): rule for rule in NOTICED.values()}.values():
        expected = [(D3, None, f"AAA: {notice.value}")] if rule is NOTICED[notice] else []
        assert found(rule, what) == expected, rule.name


def repeated(database: Database, stored: pl.DataFrame, kind: str = "stock") -> list[Finding]:
    """What the rule says of SESSIONS when these closes are stored and it is given the last sessions of them."""
    full = stored.with_columns(
        source=pl.lit("test"), fetched_at=pl.lit(MOMENT), run_id=pl.lit("r"), computed_at=pl.lit(MOMENT)
    )
    kept = [column.name for column in tables.daily_prices.columns]
    replace_sessions(database, {tables.daily_prices: full.select(name for name in kept if name in full.columns)}, DAYS)
    since = DAYS[DAYS.index(D1) - rules.REPEATED_SESSIONS + 1]
    history = stored.filter(pl.col("session_date").is_between(since, D4))
    known = frame(tables.instruments, [{"symbol": "AAA", "kind": kind}])
    return found(
        rules.REPEATED, judged(SESSIONS, None, {"with_history": history, "instruments": known}, database=database)
    )


def again(*days: date) -> list[Finding]:
    return [(day, None, "AAA: close 50.000000 again") for day in days]


STUCK: list[tuple[pl.DataFrame, list[Finding]]] = [
    (stuck(rules.REPEATED_SESSIONS - 1), []),
    (stuck(rules.REPEATED_SESSIONS), again(D3)),
    (stuck(rules.REPEATED_SESSIONS + 1), again(D2, D3)),
    # what was stuck before the run was told by the run before
    (stuck(rules.REPEATED_SESSIONS, last=BEFORE), []),
]


@pytest.mark.parametrize(("stored", "findings"), STUCK)
@pytest.mark.parametrize("kind", ["stock", "fund"])
def test_closes_that_stopped_moving(
    shared_database: Database, stored: pl.DataFrame, findings: list[Finding], kind: str
) -> None:
    assert repeated(shared_database, stored, kind) == findings


def test_a_close_that_never_moved_is_told_once_and_of_a_fund_never(shared_database: Database) -> None:
    """A money market fund is at 1.00 by nature; of a stock it is a feed that was dead from the start."""
    stored = frame(tables.daily_prices, closes("AAA", dict.fromkeys(DAYS, 50)))
    assert repeated(shared_database, stored, "fund") == []
    assert repeated(shared_database, stored, "stock") == []  # its fifth session is before the run
    start = DAYS.index(D2) - rules.REPEATED_SESSIONS + 1
    young = frame(tables.daily_prices, closes("AAA", dict.fromkeys(DAYS[start:], 50)))
    assert repeated(shared_database, young, "stock") == again(D2)
    assert repeated(shared_database, young, "fund") == []


def price(**fields: Any) -> dict[str, Any]:
    return {"session_date": D2, "symbol": "AAA", "low": 99, "high": 101, "close": 100, **fields}


BY_ROWS: list[tuple[Rule, dict[str, Any], list[Finding]]] = [
    (rules.INSIDE_RANGE, price(), []),
    (rules.INSIDE_RANGE, price(close=101), []),
    (rules.INSIDE_RANGE, price(close=99), []),
    (rules.INSIDE_RANGE, price(low=None, high=None), []),
    (
        rules.INSIDE_RANGE,
        price(close="101.01"),
        [(D2, None, "AAA: close 101.010000 outside 99.000000 to 101.000000")],
    ),
    (
        rules.INSIDE_RANGE,
        price(close="98.99"),
        [(D2, None, "AAA: close 98.990000 outside 99.000000 to 101.000000")],
    ),
    (rules.INSIDE_RANGE, price(close=102, low=None), [(D2, None, "AAA: close 102.000000 outside ? to 101.000000")]),
    (rules.INSIDE_RANGE, price(close=98, high=None), [(D2, None, "AAA: close 98.000000 outside 99.000000 to ?")]),
]


@pytest.mark.parametrize(("rule", "row", "findings"), BY_ROWS)
def test_one_price(rule: Rule, row: dict[str, Any], findings: list[Finding]) -> None:
    good = price(session_date=D1, symbol="BBB")
    assert found(rule, judged(SESSIONS, frame(tables.daily_prices, [good, row]))) == findings


def curve(*without: date) -> pl.DataFrame:
    return frame(
        tables.treasury_yields,
        [
            {"session_date": day, "tenor": tenor, "yield": 0.04}
            for day in SESSIONS
            for tenor in ("2Y", "10Y")
            if tenor == "2Y" or day not in without
        ],
    )


@pytest.mark.parametrize("without", [[], [D2], [D1, D4], SESSIONS])
def test_ten_year_yield(without: list[date]) -> None:
    assert found(rules.YIELDS_COMPLETE, judged(SESSIONS, curve(*without))) == [
        (day, None, "no 10-year yield") for day in without
    ]


PRICES = frame(
    tables.daily_prices,
    [
        *closes("OLD", dict.fromkeys([BEFORE, *SESSIONS], 10)),
        *closes("NEW", dict.fromkeys([D2, D3], 10)),
        *closes("GAP", dict.fromkeys([BEFORE, D3], 10)),
    ],
)
RETURNS = [*(("OLD", day) for day in SESSIONS), ("NEW", D3), ("GAP", D3)]


@pytest.mark.parametrize("gone", [None, *RETURNS])
def test_every_price_has_a_return(gone: tuple[str, date] | None) -> None:
    """But the first there is of a symbol: NEW starts on D2."""
    kept = [{"symbol": symbol, "session_date": day} for symbol, day in RETURNS if (symbol, day) != gone]
    told = found(rules.RETURNS_COMPLETE, judged(SESSIONS, frame(tables.daily_returns, kept), {"prices": PRICES}))
    assert told == ([] if gone is None else [(gone[1], None, f"{gone[0]} has a price and no return")])


QUOTE = {"session_date": D2, "symbol": CALL, "close": 5, "bid": "4.9", "ask": "5.1", "implied_volatility": 0.3}
QUOTES: list[tuple[Rule, dict[str, Any], list[Finding]]] = [
    (rules.QUOTES_IN_ORDER, {"bid": "5.2"}, [(D2, None, f"{CALL}: bid 5.200000, ask 5.100000")]),
    (rules.QUOTES_IN_ORDER, {"bid": "5.1"}, []),
    (rules.QUOTES_IN_ORDER, {"bid": None}, []),
    (rules.QUOTED_VOLATILITIES, {"implied_volatility": 30.0}, [(D2, None, f"{CALL}: volatility 30.0")]),
    (rules.QUOTED_VOLATILITIES, {"implied_volatility": 0.001}, [(D2, None, f"{CALL}: volatility 0.001")]),
    (rules.QUOTED_VOLATILITIES, {"implied_volatility": None}, []),
]


@pytest.mark.parametrize(("rule", "fault", "expected"), QUOTES)
def test_quotes_of_options(rule: Rule, fault: dict[str, Any], expected: list[Finding]) -> None:
    assert found(rule, judged(SESSIONS, frame(tables.option_prices, [QUOTE]))) == []
    assert found(rule, judged(SESSIONS, frame(tables.option_prices, [QUOTE | fault]))) == expected


def test_every_rule_has_a_case() -> None:
    tabled = [case[0] for case in (*BY_INPUTS, *BY_ROWS)]
    tested = cases.names_of(
        rules,
        [
            *tabled,
            rules.REPEATED,
            *NOTICED.values(),
            rules.YIELDS_COMPLETE,
            rules.RETURNS_COMPLETE,
            rules.QUOTES_IN_ORDER,
            rules.QUOTED_VOLATILITIES,
        ],
    )
    assert tested == cases.rules_of(rules)


@pytest.mark.parametrize("name", sorted(cases.rules_of(rules)))
def test_nothing_but_closures_is_nothing_to_find(name: str) -> None:
    """A run of unscheduled closures has no sessions and gets no rows, whatever was never priced."""
    inputs = (
        shares() | waiting() | proxies(("Value", "VTV")) | notices() | through_split(50) | {"with_history": stuck(9)}
    )
    inputs |= {"coverage": inputs["coverage"].clear(), "missing": inputs["missing"].clear(), "prices": PRICES}
    table = {
        "YIELDS_COMPLETE": tables.treasury_yields,
        "RETURNS_COMPLETE": tables.daily_returns,
        "QUOTES_IN_ORDER": tables.option_prices,
        "QUOTED_VOLATILITIES": tables.option_prices,
    }
    rule: Rule = getattr(rules, name)
    assert found(rule, judged([], empty_frame(table.get(name, tables.daily_prices)), inputs)) == []
