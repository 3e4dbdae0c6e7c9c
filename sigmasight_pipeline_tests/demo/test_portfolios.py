"""The shipped demo portfolios: their numbers are the simulated market's, and they can be valued sensibly."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.demo import portfolios
from sigmasight_pipeline.demo.rebase import AS_STATED, OPTION_MULTIPLIER, PREMIUM_TARGETS, main, rebase
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.demo.universe import UNIVERSE
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.symbols import looks_like_option, parse_option

INCEPTION, LAST = date(2024, 1, 2), date(2025, 6, 30)
BOOKS = {book.code: book for book in portfolios.books()}


def rows(code: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(BOOKS[code].content.decode()))


def is_private(row: dict[str, str]) -> bool:
    return row.get("investment_class") == "PRIVATE"


def multiplier(symbol: str) -> int:
    return OPTION_MULTIPLIER if looks_like_option(symbol) else 1


def test_the_portfolios() -> None:
    assert [(book.code, book.initial_equity, book.inception_date, book.file_name) for book in BOOKS.values()] == [
        ("individual", Decimal(485_000), INCEPTION, "individual.csv"),
        ("high-net-worth", Decimal(2_850_000), INCEPTION, "high-net-worth.csv"),
        ("hedge-fund", Decimal(3_200_000), INCEPTION, "hedge-fund.csv"),
        ("demo-operations", Decimal(250_000), INCEPTION, "demo-operations.csv"),
    ]
    assert all(book.description for book in BOOKS.values())
    closed = {book.code: book.closing_date for book in BOOKS.values() if book.closing_date is not None}
    assert closed == {"demo-operations": date(2025, 5, 30)}
    counts = {code: (len(list(rows(code))), sum(is_private(row) for row in rows(code))) for code in BOOKS}
    assert counts == {
        "individual": (16, 0),
        "high-net-worth": (22, 5),
        "hedge-fund": (30, 0),
        "demo-operations": (14, 1),
    }
    options = [row for row in rows("hedge-fund") if looks_like_option(row["ticker"])]
    shorts = [row for row in rows("hedge-fund") if row not in options and Decimal(row["quantity"]) < 0]
    assert (len(options), len(shorts)) == (8, 9)


@pytest.mark.parametrize("code", BOOKS)
def test_entry_prices_are_closes_of_entry_sessions(
    market: SimulatedMarket, calendar: SessionCalendar, code: str
) -> None:
    for row in rows(code):
        session = date.fromisoformat(row["entry_date"])
        assert calendar.is_session(session), row
        if is_private(row) or row["ticker"] in AS_STATED:
            continue
        read = market.option_bars if looks_like_option(row["ticker"]) else market.daily_bars
        assert read([row["ticker"]], session, session)["close"].item() == Decimal(row["entry_price"]), row
        if row.get("exit_date"):
            left = date.fromisoformat(row["exit_date"])
            assert read([row["ticker"]], left, left)["close"].item() == Decimal(row["exit_price"]), row


@pytest.mark.parametrize("code", BOOKS)
def test_shipped_files_are_what_rebasing_makes_of_them(
    market: SimulatedMarket, calendar: SessionCalendar, code: str
) -> None:
    assert rebase(BOOKS[code].content, market, calendar) == BOOKS[code].content


def test_premiums_are_as_near_their_targets_as_whole_contracts_come() -> None:
    options = {row["ticker"]: row for row in rows("hedge-fund") if looks_like_option(row["ticker"])}
    assert options.keys() == PREMIUM_TARGETS.keys()
    for symbol, target in PREMIUM_TARGETS.items():
        contract_value = Decimal(options[symbol]["entry_price"]) * OPTION_MULTIPLIER
        premium = Decimal(options[symbol]["quantity"]) * contract_value
        assert abs(premium - target) <= contract_value / 2, (symbol, premium, target)
        assert abs(premium / target - 1) < Decimal("0.06"), (symbol, premium, target)


def test_rebasing_moves_dates_and_replaces_prices(market: SimulatedMarket, calendar: SessionCalendar) -> None:
    content = (
        b"ticker,quantity,entry_price,entry_date,tags\n"
        b'AAPL,85,1.00,2024-01-15,"a,b"\n'
        b"AAPL250815P00200000,-1,1.00,2024-01-20,\n"
    )
    [stock, option] = csv.DictReader(io.StringIO(rebase(content, market, calendar).decode()))
    expected = market.daily_bars(["AAPL"], date(2024, 1, 16), date(2024, 1, 16))["close"].item()
    assert (stock["quantity"], stock["entry_date"], stock["tags"]) == ("85", "2024-01-16", "a,b")
    assert Decimal(stock["entry_price"]) == expected
    assert option["entry_date"] == "2024-01-22"
    assert int(option["quantity"]) < -1


def test_rebasing_without_a_close_is_refused(market: SimulatedMarket, calendar: SessionCalendar) -> None:
    content = b"ticker,quantity,entry_price,entry_date\nDJP,1,1,2024-09-11\n"
    with pytest.raises(MarketDataError, match="DJP has no close on 2024-09-11"):
        rebase(content, market, calendar)


def test_rebasing_a_folder_changes_nothing_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("portfolios")
    for book in BOOKS.values():
        (folder / book.file_name).write_bytes(book.content)
    main(folder)
    for book in BOOKS.values():
        assert (folder / book.file_name).read_bytes() == book.content


def test_every_symbol_is_known_and_every_option_alive() -> None:
    for code in BOOKS:
        for row in rows(code):
            if is_private(row):
                continue
            if looks_like_option(row["ticker"]):
                contract = parse_option(row["ticker"])
                assert contract.underlying in UNIVERSE
                # the book of events has contracts that expire on purpose
                assert contract.expiration_date > LAST or code == "demo-operations"
            else:
                assert row["ticker"] in UNIVERSE


@pytest.mark.parametrize(
    ("code", "lowest_cash_share", "largest_leverage"),
    [
        ("individual", 0.005, 1.0),
        ("high-net-worth", 0.10, 1.0),
        ("hedge-fund", 0.10, 2.5),
        ("demo-operations", 0.10, 1.0),
    ],
)
def test_equity_pays_for_the_positions(
    market: SimulatedMarket, code: str, lowest_cash_share: float, largest_leverage: float
) -> None:
    equity = cash = BOOKS[code].initial_equity
    gross = Decimal(0)
    for row in rows(code):
        brought_in = date.fromisoformat(row["entry_date"]) < INCEPTION and not is_private(row)
        price = (
            market.daily_bars([row["ticker"]], INCEPTION, INCEPTION)["close"].item()
            if brought_in
            else Decimal(row["entry_price"])
        )
        if row.get("exit_date"):
            continue
        cost = Decimal(row["quantity"]) * price * multiplier(row["ticker"])
        cash -= cost
        gross += abs(cost)
    assert cash / equity > lowest_cash_share
    assert gross / equity < largest_leverage


def test_private_holdings_are_marked_every_quarter(calendar: SessionCalendar) -> None:
    marks = pl.read_csv(io.BytesIO(portfolios.marks()), try_parse_dates=True)
    assert marks.columns == ["portfolio", "symbol", "date", "price"]
    assert set(marks["portfolio"]) == {"high-net-worth"}
    held = {row["ticker"]: row for row in rows("high-net-worth") if is_private(row)}
    assert set(marks["symbol"]) == set(held)
    values = sorted(float(row["quantity"]) * float(row["entry_price"]) for row in held.values())
    assert values == [142_500, 142_500, 142_500, 285_000, 285_000]
    for symbol, row in held.items():
        own = marks.filter(pl.col("symbol") == symbol)
        days = own["date"].to_list()
        assert days[0] == date.fromisoformat(row["entry_date"]) <= INCEPTION
        assert own["price"][0] == float(row["entry_price"])
        assert days == sorted(set(days))
        assert all(calendar.is_session(day) for day in days)
        assert days[-1] <= LAST
        ages = [len(calendar.between(one, other)) - 1 for one, other in zip(days, [*days[1:], LAST], strict=True)]
        assert max(ages) <= 70, (symbol, ages)
        changes = own["price"].pct_change().drop_nulls().abs()
        assert changes.is_between(0.0, 0.10).all(), symbol
