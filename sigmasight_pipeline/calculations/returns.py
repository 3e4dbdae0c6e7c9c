"""Total returns of symbols from one close to the next, splits and dividends included.

What belongs here: what one share of the earlier close is worth at the later one, and the returns made of
it. What does not: returns of portfolios, and judging whether a move is believable
(``market_data.screening``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.division import ratio


def add_gross(pairs: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """`pairs` with `gross`: what a share held at the earlier close is worth at the later one, with dividends.

    With p the earlier and D the later date: close_D x ratios of splits in (p, D], plus for every dividend j
    in (p, D] its amount x ratios of splits in (p, j), so that a dividend going ex together with a split is
    per old share.

    `pairs` has symbol, previous_date, close and session_date; the stretches of one symbol do not overlap.
    Where previous_date is NULL so is gross. `actions` has the columns of ``corporate_actions`` (cash_amount
    in US dollars per old share). The sum runs in order of the ex-dates, so that it is the same in every
    batch.
    """
    splits = SplitRatios(actions)
    dividends = (
        actions.filter(pl.col("kind") == "dividend")
        .select("symbol", "ex_date", "cash_amount")
        .sort("ex_date")
        .join_asof(
            pairs.select("symbol", "previous_date", "session_date").sort("session_date"),
            left_on="ex_date",
            right_on="session_date",
            by="symbol",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("previous_date") < pl.col("ex_date"))
        .with_columns(_day_before=pl.col("ex_date").dt.offset_by("-1d"))
    )
    received = (
        _with_shares(splits.between(dividends, after="previous_date", through="_day_before"))
        .sort("symbol", "session_date", "ex_date")
        .group_by("symbol", "session_date")
        .agg(dividends=(pl.col("cash_amount").cast(pl.Float64) * pl.col("shares")).cum_sum().last())
    )
    return (
        _with_shares(splits.between(pairs, after="previous_date", through="session_date"))
        .join(received, on=["symbol", "session_date"], how="left", maintain_order="left")
        .with_columns(gross=pl.col("close").cast(pl.Float64) * pl.col("shares") + pl.col("dividends").fill_null(0.0))
        .drop("shares", "dividends")
    )


def _with_shares(split: pl.DataFrame) -> pl.DataFrame:
    """`split` with `shares`, what one old share has become, in place of numerator and denominator."""
    shares = ratio(split["numerator"], split["denominator"]).alias("shares")
    return split.drop("numerator", "denominator").with_columns(shares)


def daily_returns(
    prices: pl.DataFrame,
    actions: pl.DataFrame,
    trading_sessions: pl.DataFrame,
    sessions: Sequence[date],
) -> pl.DataFrame:
    """Returns of every symbol with a close on one of `sessions` and an earlier close.

    simple_return = gross / close_p - 1 and log_return = ln(gross / close_p), decimal, with p the last
    session before that has a close and gross as in `add_gross`; sessions_spanned counts open sessions from
    p to the session (1 without a gap).

    `prices`: session_date, symbol, close (positive) of `sessions` and, for every symbol, its last close
    before them; more rows change nothing. `actions`: the columns of ``corporate_actions``.
    `trading_sessions`: session_date and is_closed of every session; prices on other days are no prices and
    are left out.

    Columns session_date, symbol, simple_return, log_return, sessions_spanned (Int32), sorted by the first
    two.
    """
    open_sessions = (
        trading_sessions.filter(~pl.col("is_closed"))
        .select("session_date")
        .unique()
        .sort("session_date")
        .with_row_index("position")
    )
    pairs = (
        prices.select("session_date", "symbol", "close")
        .join(open_sessions, on="session_date")
        .sort("symbol", "session_date")
        .with_columns(
            previous_date=pl.col("session_date").shift(1).over("symbol"),
            previous_close=pl.col("close").shift(1).over("symbol").cast(pl.Float64),
            sessions_spanned=pl.col("position").cast(pl.Int32).diff().over("symbol"),
        )
        .filter(pl.col("previous_date").is_not_null(), pl.col("session_date").is_in(list(sessions)))
    )
    found = add_gross(pairs, actions)
    growth = pl.col("growth")
    return (
        found.with_columns(ratio(found["gross"], found["previous_close"]).alias("growth"))
        .select(
            "session_date",
            "symbol",
            simple_return=growth - 1.0,
            log_return=growth.log(),
            sessions_spanned=pl.col("sessions_spanned"),
        )
        .sort("session_date", "symbol")
    )
