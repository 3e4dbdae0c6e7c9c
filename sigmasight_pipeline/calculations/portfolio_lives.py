"""From which session to which a portfolio has results: its inception, and its closing session where it was closed.

What belongs here: that one answer, for every engine and every rule. What does not: what a portfolio holds
(``holdings``) and stating a closing session (``storage.portfolio_changes``).

A closed portfolio has no rows after its closing session and keeps those up to it, so a session before it that is
computed anew gives them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

LIFE = ("inception_date", "closing_date")

_KEYS = ["session_date", "portfolio_id"]


def lives(portfolios: pl.DataFrame, *more: str) -> pl.DataFrame:
    """portfolio_id, inception_date, closing_date and the columns `more` of every portfolio that has results.

    `portfolios` are rows of that table. closing_date is the last day there is while a portfolio is open. One that is
    neither open nor was ever closed at a session has none. Order is kept.
    """
    return portfolios.filter(pl.col("active") | pl.col("closing_date").is_not_null()).select(
        "portfolio_id", "inception_date", pl.col("closing_date").fill_null(date.max), *more
    )


def alive_at(days: Sequence[date] | pl.Series, portfolios: pl.DataFrame, *more: str) -> pl.DataFrame:
    """session_date, portfolio_id and the columns `more`: every one of `days` with every portfolio that has results of
    it, ordered by session_date and portfolio_id."""
    given = pl.DataFrame({"session_date": days}, schema={"session_date": pl.Date()})
    return (
        given.join(lives(portfolios, *more), how="cross")
        .filter(pl.col("session_date").is_between(*LIFE))
        .select(*_KEYS, *more)
        .sort(_KEYS)
    )


def of_alive(rows: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """Those of `rows` (session_date, portfolio_id, ...) that lie within their portfolio's life; order is kept."""
    return (
        rows.join(lives(portfolios), on="portfolio_id", maintain_order="left")
        .filter(pl.col("session_date").is_between(*LIFE))
        .select(rows.columns)
    )


def ending_with_their_books(positions: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """`positions` whose exit_date is the closing session of their portfolio, where that comes first: what is needed
    to value them ends then. Those of portfolios without results are left out."""
    return (
        positions.join(
            lives(portfolios).select("portfolio_id", "closing_date"), on="portfolio_id", maintain_order="left"
        )
        .with_columns(
            exit_date=pl.min_horizontal(
                "exit_date", pl.when(pl.col("closing_date") < date.max).then(pl.col("closing_date"))
            )
        )
        .drop("closing_date")
    )
