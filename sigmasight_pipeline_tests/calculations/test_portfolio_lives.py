"""Sessions of a portfolio's life: both ends included, no end while it is open."""

from __future__ import annotations

from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.portfolio_lives import alive_at, ending_with_their_books, lives, of_alive
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, stock

D1, D2, D3 = DAYS = [date(2024, 1, day) for day in (2, 3, 4)]
BOOKS = frame(
    tables.portfolios,
    [
        portfolio(3, D2, active=False, closing_date=D2),
        portfolio(1, D2),
        portfolio(2, D1, active=False, closing_date=D2),
        portfolio(4, D1, active=False),
    ],
)


def test_both_ends_are_part_of_a_life() -> None:
    assert alive_at(DAYS, BOOKS).rows() == [(D1, 2), (D2, 1), (D2, 2), (D2, 3), (D3, 1)]
    assert alive_at([D3], BOOKS, "code").rows() == [(D3, 1, "book-1")]
    assert alive_at([], BOOKS).is_empty()


def test_an_open_one_ends_never_and_one_that_is_neither_has_no_life() -> None:
    assert dict(lives(BOOKS).select("portfolio_id", "closing_date").iter_rows()) == {3: D2, 1: date.max, 2: D2}


def test_rows_within_a_life_keep_their_order_and_columns() -> None:
    rows = pl.DataFrame({"portfolio_id": [1, 2, 4, 2, 1], "session_date": [D3, D3, D1, D1, D1], "x": [1, 2, 3, 4, 5]})
    found = of_alive(rows, BOOKS)
    assert found.columns == rows.columns
    assert found["x"].to_list() == [1, 4]


def test_what_is_needed_of_positions_ends_with_their_book() -> None:
    positions = frame(
        tables.positions,
        [
            stock(1, "A", 1, 1, D1),
            stock(2, "A", 1, 1, D1, portfolio_id=2),
            stock(3, "A", 1, 1, D1, portfolio_id=2, exit_date=D1, exit_price=1),
            stock(4, "A", 1, 1, D1, portfolio_id=2, exit_date=D3, exit_price=1),
            stock(5, "A", 1, 1, D1, portfolio_id=4),
        ],
    )
    found = ending_with_their_books(positions, BOOKS)
    assert found.columns == positions.columns
    assert dict(found.select("position_id", "exit_date").iter_rows()) == {1: None, 2: D2, 3: D1, 4: D2}
