"""Which symbols are known and priced, which a session needs, and under which names contracts are quoted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sigmasight_pipeline.calculations.contracts import contract_of, listings
from sigmasight_pipeline.calculations.splits import SplitSteps
from sigmasight_pipeline.calculations.timeline import day_numbers
from sigmasight_pipeline.checks.schema import validate
from sigmasight_pipeline.market_data.instruments import (
    COLUMNS,
    known_instruments,
    needed_symbols,
    option_listings,
    priced_symbols,
)
from sigmasight_pipeline.market_data.source import INSTRUMENTS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline_tests.calculations.table_rows import dividend, frame, option, portfolio, private, split, stock

DAY = date(2024, 1, 2)
CALL, PUT = "NVDA250117C00500000", "MSFT250117P00312500"


@dataclass
class Vendor:
    """A source that knows some symbols; it remembers which it was asked for."""

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    own: Collection[str] = ()
    name: str = "vendor"
    local: bool = True
    asked: list[str] = field(default_factory=list)

    def symbols(self) -> Collection[str]:
        return self.own

    def instruments(self, symbols: Collection[str]) -> pl.DataFrame:
        self.asked = list(symbols)
        rows = [{"symbol": symbol, **known} for symbol, known in self.known.items() if symbol in symbols]
        return pl.DataFrame([{name: row.get(name) for name in INSTRUMENTS} for row in rows], schema=INSTRUMENTS)

    def stored_range(self) -> None:
        """No bounds of its own."""

    def daily_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        raise AssertionError("instruments need no prices")

    def corporate_actions(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        raise AssertionError("instruments need no actions")

    def option_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        raise AssertionError("instruments need no quotes")

    def treasury_yields(self, first: date, last: date) -> pl.DataFrame:
        raise AssertionError("instruments need no yields")


POSITIONS = frame(
    tables.positions,
    [
        stock(1, "AAPL", 10, 100, DAY),
        stock(2, "AAPL", -5, 100, DAY),
        option(3, CALL, 1, 5, DAY),
        option(4, PUT, -1, 5, DAY),
        option(5, CALL, -1, 5, DAY),
        private(6, "HOUSE", 1, 1000, DAY, notes="A house"),
        private(7, "BARN", 1, 1000, DAY),
    ],
)
PORTFOLIOS = frame(tables.portfolios, [portfolio(1, DAY), portfolio(2, DAY, benchmark_symbol="QQQ")])
FACTORS = frame(
    tables.factor_definitions,
    [
        {"factor": "Value", "proxy_symbol": "VTV", "active": True},
        {"factor": "Rate", "proxy_symbol": None, "active": True},
        {"factor": "Old", "proxy_symbol": "OLD", "active": False},
    ],
)
PRICED = ["AAPL", "MSFT", "NVDA", "QQQ", "SPY", "VTV"]


def known(vendor: Vendor, stored: pl.DataFrame | None = None, positions: pl.DataFrame = POSITIONS) -> pl.DataFrame:
    rows = known_instruments(
        positions=positions,
        portfolios=PORTFOLIOS,
        factors=FACTORS,
        stored=empty_frame(tables.instruments) if stored is None else stored,
        source=vendor,
    )
    assert validate(tables.instruments, rows).equals(rows)
    assert rows["symbol"].is_sorted()
    return rows


def row(rows: pl.DataFrame, symbol: str) -> dict[str, Any]:
    """What is known of one symbol, without what is not."""
    (found,) = rows.filter(pl.col("symbol") == symbol).iter_rows(named=True)
    return {name: value for name, value in found.items() if value is not None and name != "symbol"}


def stored_row(symbol: str, **fields: Any) -> pl.DataFrame:
    return frame(tables.instruments, [{"symbol": symbol, "kind": "stock", "active": True, **fields}])


def test_columns_are_the_registrys() -> None:
    assert polars_schema(tables.instruments) == COLUMNS


def test_every_symbol_something_depends_on() -> None:
    vendor = Vendor(own=["DIA", "AAPL"])
    rows = known(vendor)
    assert vendor.asked == sorted(["DIA", *PRICED])
    assert priced_symbols(rows) == vendor.asked
    assert rows["symbol"].to_list() == sorted([*vendor.asked, CALL, PUT, "HOUSE", "BARN"])
    assert row(rows, "AAPL") == {"kind": "stock", "active": True}
    assert row(rows, CALL) == {"kind": "option", "active": True, "name": "NVDA 2025-01-17 500 call"}
    assert row(rows, PUT)["name"] == "MSFT 2025-01-17 312.5 put"
    house = {"kind": "private", "active": True, "name": "A house", "sector": "Private", "sector_source": "import"}
    assert row(rows, "HOUSE") == house
    assert row(rows, "BARN") == {**house, "name": "BARN"}


def test_nothing_held() -> None:
    assert known(Vendor(), positions=POSITIONS.clear())["symbol"].to_list() == ["QQQ", "SPY", "VTV"]


TOLD = {
    "kind": "etf",
    "name": "Fund",
    "sector": "Equity",
    "industry": "Index",
    "duration": 6.5,
    "last_session": date(2024, 5, 1),
    "replaced_by": "NEW",
}


def test_what_the_source_says_is_taken_whole() -> None:
    assert row(known(Vendor({"AAPL": TOLD})), "AAPL") == {
        **TOLD,
        "sector_source": "vendor",
        "active": False,  # trading stopped where there is a last session
    }


STORED = {
    **TOLD,
    "sector": "Stored",
    "sector_source": "person",
    "active": False,
    "first_session": date(2020, 1, 2),
}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # the source says nothing of a symbol that is still held: all stays as it was
        (None, STORED),
        # it wins where it speaks; a sector somebody gave is kept, with its source, and the first session always
        (
            {"kind": "stock", "name": "Other"},
            {
                "kind": "stock",
                "name": "Other",
                "sector": "Stored",
                "sector_source": "person",
                "active": True,
                "first_session": date(2020, 1, 2),
            },
        ),
        ({**TOLD, "sector": "Told"}, {**STORED, "sector": "Told", "sector_source": "vendor"}),
    ],
)
def test_what_is_stored_of_a_held_symbol(told: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    vendor = Vendor({} if told is None else {"AAPL": told})
    assert row(known(vendor, stored_row("AAPL", **STORED)), "AAPL") == expected


def test_what_is_held_no_more_is_not_forgotten() -> None:
    rows = known(Vendor(), stored_row("GONE", **STORED))
    assert row(rows, "GONE") == STORED
    assert "GONE" not in Vendor().asked


def test_a_private_symbol_that_is_listed_now_is_a_stock() -> None:
    listed = frame(tables.positions, [stock(1, "HOUSE", 10, 100, DAY)])
    rows = known(Vendor(), stored_row("HOUSE", kind="private", name="A house"), listed)
    assert row(rows, "HOUSE")["kind"] == "stock"
    # held both ways it is priced: it has a market
    both = pl.concat([POSITIONS, frame(tables.positions, [stock(9, "HOUSE", 10, 100, DAY)])])
    for stored in (None, stored_row("HOUSE", kind="etf")):
        assert row(known(Vendor(), stored, both), "HOUSE")["kind"] == ("stock" if stored is None else "etf")


def test_a_second_time_changes_nothing() -> None:
    vendor = Vendor({"AAPL": TOLD, "VTV": {"kind": "etf"}}, own=["DIA"])
    first = known(vendor, stored_row("GONE", **STORED))
    assert_frame_equal(known(vendor, first), first)
    # nor does a source that falls silent
    assert_frame_equal(known(Vendor(), first), first)


DAYS = [date(2024, 1, day) for day in (2, 3, 4)]
D1, D2, D3 = DAYS


@pytest.mark.parametrize(
    ("position", "needed"),
    [
        (stock(1, "AAA", 1, 1, D1), [(day, "AAA") for day in DAYS]),
        (stock(1, "AAA", 1, 1, D2), [(D2, "AAA"), (D3, "AAA")]),
        (stock(1, "AAA", 1, 1, D1, exit_date=D2), [(D1, "AAA"), (D2, "AAA")]),
        (stock(1, "AAA", 1, 1, date(2023, 1, 3), exit_date=date(2023, 12, 29)), []),
        (private(1, "HOUSE", 1, 1, D1), []),
        # an option needs its underlying
        (option(1, "AAA240103C00100000", 1, 1, D1), [(D1, "AAA"), (D2, "AAA")]),
        (option(1, "AAA250117C00100000", 1, 1, D1, exit_date=D1), [(D1, "AAA")]),
        # one that stopped trading is needed until then
        (stock(1, "DEAD", 1, 1, D1), [(D1, "DEAD"), (D2, "DEAD")]),
        (option(1, "DEAD250117C00100000", 1, 1, D1), [(D1, "DEAD"), (D2, "DEAD")]),
    ],
)
def test_what_a_session_needs(position: dict[str, Any], needed: list[tuple[date, str]]) -> None:
    instruments = stored_row("DEAD", last_session=D2)
    for positions in ([position], [position, {**position, "position_id": 2}]):  # twice held is needed once
        found = needed_symbols(
            sessions=pl.Series(DAYS),
            positions=frame(tables.positions, positions),
            instruments=instruments,
            factors=FACTORS.clear(),
            ever_priced=["AAA"],
        )
        assert found.rows() == needed


@pytest.mark.parametrize(
    ("ever_priced", "needed"),
    [(["VTV", "OLD"], [(day, "VTV") for day in DAYS]), (["SPY"], []), ([], [])],
    ids=["priced once", "never priced", "nothing priced"],
)
def test_proxies_are_needed_once_they_were_priced(ever_priced: list[str], needed: list[tuple[date, str]]) -> None:
    found = needed_symbols(
        sessions=pl.Series(DAYS),
        positions=POSITIONS.clear(),
        instruments=empty_frame(tables.instruments),
        factors=FACTORS,
        ever_priced=ever_priced,
    )
    assert found.rows() == needed


def test_no_sessions_need_nothing() -> None:
    found = needed_symbols(
        sessions=pl.Series([], dtype=pl.Date),
        positions=POSITIONS,
        instruments=empty_frame(tables.instruments),
        factors=FACTORS,
        ever_priced=PRICED,
    )
    assert found.is_empty()


ENTRY = date(2024, 3, 1)


@pytest.mark.parametrize(
    ("actions", "listed"),
    [
        ([], [CALL]),
        ([split("NVDA", date(2024, 6, 10), 10)], [CALL, "NVDA250117C00050000"]),
        # on the day of entry the contract has its new strike already; before it had the old one
        ([split("NVDA", ENTRY, 10)], [CALL, "NVDA250117C05000000"]),
        ([split("NVDA", date(2024, 1, 9), 2)], [CALL, "NVDA250117C01000000"]),
        (
            [
                split("NVDA", date(2024, 1, 9), 2),
                split("NVDA", date(2024, 4, 9), 4),
                split("NVDA", date(2024, 5, 9), 5),
            ],
            [CALL, "NVDA250117C01000000", "NVDA250117C00125000", "NVDA250117C00025000"],
        ),
        # splits of others, and dividends, rename nothing; a strike no symbol can hold has no quotes
        ([split("MSFT", date(2024, 6, 10), 10), dividend("NVDA", date(2024, 6, 10), 1)], [CALL]),
        ([split("NVDA", date(2024, 6, 10), 1, 1000)], [CALL]),
    ],
)
def test_names_a_contract_is_quoted_under(actions: list[dict[str, Any]], listed: list[str]) -> None:
    held = frame(tables.positions, [option(1, CALL, 1, 5, ENTRY), stock(2, "NVDA", 1, 1, ENTRY)])
    assert option_listings(held, frame(tables.corporate_actions, actions)) == sorted(listed)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.dates(date(2024, 1, 2), date(2024, 12, 30)), st.sampled_from([2, 3, 4, 5, 10])),
        max_size=4,
        unique_by=lambda one: one[0],
    ),
    st.dates(date(2024, 1, 2), date(2024, 12, 30)),
)
def test_names_are_those_the_engines_look_up(splits: list[tuple[date, int]], entry: date) -> None:
    actions = frame(tables.corporate_actions, [split("NVDA", day, ratio) for day, ratio in splits])
    position = option(1, CALL, 1, 5, entry)
    steps = SplitSteps(actions, ["NVDA"])
    (node,) = steps.nodes(np.zeros(1, dtype=np.int64), day_numbers(pl.Series([entry])))
    contract = contract_of(CALL, "NVDA", "C", Fraction(500), position["expiration_date"], int(node), steps)
    expected = listings([contract], steps).get_column("option_symbol").unique().sort().to_list()
    assert option_listings(frame(tables.positions, [position]), actions) == expected
