"""Option closes nobody can believe are held back, and released where the next one bears them out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations import american_options, black_scholes
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.market_data.option_screening import Limits, Market, ScreenedQuotes, screen_options
from sigmasight_pipeline.market_data.source import OPTION_BARS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import closes, frame, sessions_frame, split

WEEKDAYS = [day for n in range(260) if (day := date(2024, 1, 1) + timedelta(days=n)).weekday() < 5]
HISTORY, DAYS = WEEKDAYS[:70], WEEKDAYS[70:]
RATE = float(np.log(1.045))
NOW = datetime(2024, 6, 1, tzinfo=UTC)
LIMITS = Limits(default_treasury_yield=0.045, historical_volatility_window=30, historical_volatility_min=20)

PUT = "SPX241220P05000000"
EXPIRES = date(2024, 12, 20)
STOCK_CALL = "AAA240621C00100000"


def spots(symbol: str, level: float, days: Sequence[date] = WEEKDAYS, daily: float = 0.008) -> dict[date, float]:
    """A price that alternates, so that its historical volatility is `daily` x sqrt(252) nearly."""
    return {day: round(level * (1 + daily * (number % 2)), 4) for number, day in enumerate(days)}


SPX, AAA = spots("SPX", 5000.0), spots("AAA", 100.0)


def put_value(day: date, volatility: float = 0.166) -> float:
    """A year's put on the index at the money: some 200 dollars."""
    years = (EXPIRES - day).days / 365
    return float(black_scholes.price(False, SPX[day], 5000.0, years, RATE, volatility))


def quoted(symbol: str, prices: dict[date, float | None]) -> pl.DataFrame:
    columns = {
        "symbol": [symbol] * len(prices),
        "session_date": list(prices),
        "close": [None if price is None else Decimal(str(round(price, 4))) for price in prices.values()],
    }
    return pl.DataFrame({name: columns.get(name, [None] * len(prices)) for name in OPTION_BARS}, schema=OPTION_BARS)


class Store:
    """What the tables hold between runs: the quotes believed, and the rows refused."""

    def __init__(
        self, received: pl.DataFrame, actions: Sequence[dict[str, Any]] = (), **prices: dict[date, float]
    ) -> None:
        self.received = received
        self.actions = frame(tables.corporate_actions, actions)
        self.prices = frame(
            tables.daily_prices, [row for name, by_day in prices.items() for row in closes(name, by_day)]
        )
        self.stored = frame(tables.option_prices, [])
        self.rejections = frame(tables.rejected_prices, [])

    def run(self, first: date, last: date) -> ScreenedQuotes:
        """One run of the sessions from `first` to `last`: written as the asset writes."""
        calendar = sessions_frame(WEEKDAYS)
        until = self.prices.filter(pl.col("session_date") <= last)
        previous = self.stored.filter(pl.col("session_date") < first, pl.col("close").is_not_null())
        judged = screen_options(
            self.received.filter(pl.col("session_date").is_between(first, last)),
            previous=previous.sort("session_date").unique("symbol", keep="last", maintain_order=True),
            rejections=self.rejections.filter(
                pl.col("status").is_in(["quarantined", "accepted"]) | pl.col("session_date").is_between(first, last)
            ),
            last=last,
            market=Market(
                calendar,
                until,
                self.actions,
                frame(tables.instruments, []),
                daily_returns(until, self.actions, calendar, WEEKDAYS),
            ),
            limits=LIMITS,
            source="files",
            now=NOW,
        )
        rewritten = pl.col("session_date").is_between(first, last)
        kept = self.stored.filter(~rewritten).join(judged.accepted, on=["session_date", "symbol"], how="anti")
        self.stored = pl.concat([kept, judged.accepted]).sort("session_date", "symbol")
        known = judged.rejected.filter(pl.col("rejection_id").is_not_null())
        numbered = judged.rejected.filter(pl.col("rejection_id").is_null()).with_columns(
            rejection_id=pl.int_range(pl.len(), dtype=pl.Int64) + len(self.rejections) + 1
        )
        others = self.rejections.join(known, on="rejection_id", how="anti")
        self.rejections = pl.concat([others, known, numbered]).sort("rejection_id")
        return judged

    def told(self) -> list[tuple[date, str, str]]:
        """Session, reason and status of what was refused."""
        return self.rejections.select("session_date", "reason", "status").rows()


def test_a_print_of_a_cent_on_a_203_dollar_put_is_held_back() -> None:
    prices = {day: put_value(day) for day in DAYS[:6]}
    assert prices[DAYS[2]] == pytest.approx(203, abs=8)
    store = Store(quoted(PUT, prices | {DAYS[2]: 0.01}), SPX=SPX)
    store.run(DAYS[0], DAYS[5])
    assert store.told() == [(DAYS[2], "extreme_volatility", "quarantined")]
    assert store.stored["session_date"].to_list() == [DAYS[n] for n in (0, 1, 3, 4, 5)]


def test_the_first_print_of_a_contract_is_judged_by_history() -> None:
    """Historical volatility is 12.6 %, what a cent implies far below a third of it."""
    store = Store(quoted(PUT, {DAYS[0]: 0.01, DAYS[1]: put_value(DAYS[1])}), SPX=SPX)
    store.run(DAYS[0], DAYS[1])
    assert store.told() == [(DAYS[0], "extreme_volatility", "quarantined")]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_next_close_near_its_volatility_confirms_it(one_by_one: bool) -> None:
    """A takeover: from 17 to 3 % in a session, and it stays there."""
    prices = {day: put_value(day, 0.166 if day < DAYS[2] else 0.03) for day in DAYS[:5]}
    store = Store(quoted(PUT, prices), SPX=SPX)
    if one_by_one:
        for day in DAYS[:2]:
            store.run(day, day)
        store.run(DAYS[2], DAYS[2])
        assert store.told() == [(DAYS[2], "extreme_volatility", "quarantined")]
        assert DAYS[2] not in store.stored["session_date"].to_list(), "neither used nor carried until then"
        for day in DAYS[3:5]:
            store.run(day, day)
        assert store.told() == [(DAYS[2], "extreme_volatility", "confirmed")]
    else:
        store.run(DAYS[0], DAYS[4])
    assert store.stored["session_date"].to_list() == DAYS[:5]
    store.run(DAYS[2], DAYS[2])  # again, alone: what was confirmed stays so
    assert store.stored["session_date"].to_list() == DAYS[:5]


def test_range_and_single_sessions_store_the_same() -> None:
    random = np.random.default_rng(11)
    prices: dict[date, float | None] = {}
    for day in DAYS[:40]:
        kind = random.integers(0, 8)
        fair = put_value(day, float(random.choice([0.166, 0.166, 0.03])))
        prices[day] = None if kind == 0 else 0.01 if kind == 1 else 9000.0 if kind == 2 else fair
    whole, single = (Store(quoted(PUT, prices), SPX=SPX) for _ in range(2))
    whole.run(DAYS[0], DAYS[39])
    for day in DAYS[:40]:
        single.run(day, day)
    assert single.stored.equals(whole.stored)
    columns = ["session_date", "reason", "received", "status"]
    assert single.rejections.select(columns).sort(columns).equals(whole.rejections.select(columns).sort(columns))
    assert set(whole.rejections["status"]) == {"quarantined", "confirmed"}
    assert 5 < whole.rejections.height < 30


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        (20.5, None),  # exercise value 20
        (19.81, None),  # within a per cent of it
        (19.75, "outside_arbitrage_bounds"),
        (119.9, "extreme_volatility"),
        (121.3, "outside_arbitrage_bounds"),  # more than the stock
    ],
)
def test_bounds_of_an_american_call(close: float, expected: str | None) -> None:
    level = spots("AAA", 120.0, daily=0.0)
    level |= {day: price for day, price in spots("AAA", 120.0).items() if day in HISTORY[:-1]}
    store = Store(quoted(STOCK_CALL, {DAYS[0]: close}), AAA=level)
    store.run(DAYS[0], DAYS[0])
    assert [reason for _, reason, _ in store.told()] == ([expected] if expected else [])


def test_what_cannot_be_judged_is_stored() -> None:
    """Without a close, without a price of the underlying, on the expiration date."""
    last = DAYS[0]
    symbol = f"AAA{last:%y%m%d}C00100000"
    quotes = pl.concat(
        [quoted(PUT, {DAYS[0]: None}), quoted("VOID241220C00001000", {DAYS[0]: 7.0}), quoted(symbol, {last: 90.0})]
    )
    store = Store(quotes, SPX=SPX, AAA=AAA)
    store.run(DAYS[0], DAYS[0])
    assert store.told() == []
    assert store.stored.height == 3


def test_cheap_options_and_small_differences_are_left_alone() -> None:
    """Far out of the money a few cents are many volatilities: 0.05 after 0.01 is no finding."""
    symbol = "AAA240621C00150000"
    store = Store(quoted(symbol, {DAYS[0]: 0.01, DAYS[1]: 0.2, DAYS[2]: 0.01}), AAA=AAA)
    store.run(DAYS[0], DAYS[2])
    assert store.told() == []


def test_the_last_volatility_is_carried_through_a_split() -> None:
    ex_date = DAYS[2]
    level = {day: price / 4 if day >= ex_date else price for day, price in AAA.items()}

    def value(day: date, strike: float) -> float:
        years = (date(2024, 6, 21) - day).days / 365
        return float(american_options.price(True, level[day], strike, years, RATE, 0.3, 0.0))

    before = quoted(STOCK_CALL, {day: value(day, 100.0) for day in DAYS[:2]})
    after = quoted("AAA240621C00025000", {ex_date: value(ex_date, 25.0) * 4, DAYS[3]: value(DAYS[3], 25.0)})
    for received, told in ((after, True), (after.filter(pl.col("session_date") != ex_date), False)):
        store = Store(pl.concat([before, received]), [split("AAA", ex_date, 4)], AAA=level)
        store.run(DAYS[0], DAYS[1])
        store.run(DAYS[2], DAYS[3])
        assert bool(store.told()) == told, store.told()


def test_a_close_held_back_for_a_wrong_price_of_the_stock_is_judged_anew() -> None:
    """The stock fell to 20, which was quarantined itself: its put at 80 looked worth more than nothing explains."""
    symbol = "AAA240621P00100000"
    fell = {day: price if day < DAYS[1] else 20.0 for day, price in AAA.items()}
    waits = {day: price for day, price in fell.items() if day != DAYS[1]}
    store = Store(quoted(symbol, {DAYS[0]: 4.0, DAYS[1]: 80.2}), AAA=waits)
    store.run(DAYS[0], DAYS[0])
    store.run(DAYS[1], DAYS[1])
    assert store.told() == [(DAYS[1], "extreme_volatility", "quarantined")]
    store.prices = frame(tables.daily_prices, closes("AAA", fell))
    store.run(DAYS[2], DAYS[2])
    assert store.told() == [(DAYS[1], "extreme_volatility", "confirmed")]
    assert store.stored["session_date"].to_list() == DAYS[:2]


def test_a_person_may_accept_one() -> None:
    store = Store(quoted(PUT, {DAYS[0]: put_value(DAYS[0]), DAYS[1]: 0.01}), SPX=SPX)
    store.run(DAYS[0], DAYS[1])
    store.rejections = store.rejections.with_columns(status=pl.lit("accepted"))
    store.run(DAYS[1], DAYS[1])
    assert store.told() == [(DAYS[1], "extreme_volatility", "confirmed")]
    assert store.stored["session_date"].to_list() == DAYS[:2]
