"""Domain rules of the valuation assets: rows that must be there, identities that must hold to the cent.

What belongs here: rules on position values and snapshots as written. What does not: rules on Greeks
(``checks.greeks``), exposures (``checks.exposures``) and market data (``checks.market_data``), and schema rules, which
stop a frame before it is written (``checks.schema``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.portfolio_lives import alive_at, lives
from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing
from sigmasight_pipeline.storage import judging

LARGE_RETURN = 0.25
"""A day's return beyond this is reported: it is possible, but more often a wrong price, flow or quantity."""

_POSITION = "position {} ({})"


def held_positions(judged: Judged, *, private: bool) -> pl.DataFrame:
    """(session_date, position_id, portfolio_id, symbol) of positions held in the run's sessions by their own dates.

    The session of the exit is included; PRIVATE positions only with `private`. Deliberately simpler than the engine's
    own holdings, so that it can disagree with them.
    """
    days = pl.DataFrame({"session_date": list(judged.sessions)}, schema={"session_date": pl.Date()})
    opened = judged.inputs["calendar"].filter(~pl.col("is_closed")).select("session_date").sort("session_date")
    portfolios = lives(judged.inputs["portfolios"])
    # an exit on an unscheduled closure takes effect on the session after it, an expiry is settled on the one before
    exit_session = opened.rename({"session_date": "exit_session"})
    expiry_session = opened.rename({"session_date": "expiry_session"})
    until = (
        judged.inputs["positions"]
        .filter(pl.lit(private) | (pl.col("investment_class") != "PRIVATE"))
        .join(portfolios, on="portfolio_id")
        .sort("exit_date")
        .join_asof(exit_session, left_on="exit_date", right_on="exit_session", strategy="forward", coalesce=False)
        .sort("expiration_date")
        .join_asof(expiry_session, left_on="expiration_date", right_on="expiry_session", coalesce=False)
        .with_columns(until=pl.min_horizontal("exit_session", "expiry_session"))
    )
    day, last = pl.col("session_date"), pl.col("until")
    return (
        until.join(days, how="cross")
        .filter(
            day >= pl.max_horizontal("entry_date", "inception_date"),
            last.is_null() | (day <= last),
            day <= pl.col("closing_date"),
        )
        .select("session_date", "position_id", "portfolio_id", "symbol")
    )


def missing_rows(expected: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """A finding for every (session_date, position_id) `expected` that is not `present`."""
    missing = expected.join(present, on=["session_date", "position_id"], how="anti")
    return findings(missing, pl.format(_POSITION + " has no row", "position_id", "symbol"))


ONE_ROW_PER_POSITION = Rule(
    "one_row_per_held_position",
    "ERROR",
    "Every held position has a row for every session, and nothing else has.",
    lambda judged: pl.concat(
        [
            missing_rows(held_positions(judged, private=True), judged.frame),
            findings(
                judged.frame.join(held_positions(judged, private=True), on=["session_date", "position_id"], how="anti"),
                pl.format(_POSITION + " has a row but is not held", "position_id", "symbol"),
            ),
        ]
    ),
)

STALE = Rule(
    "stale_prices",
    "WARN",
    "No position is valued at a price older than the limit (max_stale_sessions, max_mark_age).",
    lambda judged: findings(
        judged.frame.filter(pl.col("stale")),
        pl.format(_POSITION + ": price is {} sessions old", "position_id", "symbol", "stale_sessions"),
    ),
)

UNPRICED = Rule(
    "unpriced_positions",
    "WARN",
    "No position is valued at its entry price for want of any other.",
    lambda judged: findings(
        judged.frame.filter((pl.col("price_source") == "entry_price") & (pl.col("quantity") != 0)),
        pl.format(_POSITION + " was never priced", "position_id", "symbol"),
    ),
)

SETTLEMENT_UNPRICED = Rule(
    "settlement_priced",
    "ERROR",
    "Every expired option was settled on a price of its underlying at most five sessions old.",
    lambda judged: findings(
        judged.frame.filter(pl.col("price_source") == "settlement_unpriced"),
        pl.format(
            _POSITION + " settled at {} without a price of its underlying",
            "position_id",
            "symbol",
            pl.col("price").cast(pl.String),
        ),
    ),
)

SIGN = Rule(
    "market_value_sign",
    "ERROR",
    "A long position has no negative market value, a short one no positive one.",
    lambda judged: findings(
        judged.frame.filter(
            ((pl.col("quantity") > 0) & (pl.col("market_value") < 0))
            | ((pl.col("quantity") < 0) & (pl.col("market_value") > 0))
        ),
        pl.format(
            _POSITION + ": quantity {} and market value {}",
            "position_id",
            "symbol",
            pl.col("quantity").cast(pl.String),
            pl.col("market_value").cast(pl.String),
        ),
    ),
)


def _telescoping(judged: Judged) -> pl.DataFrame:
    if judged.frame.is_empty():
        return nothing()
    before = judging.total_pnl_before(judged.database, judged.sessions[0])
    columns = ["session_date", "position_id", "total_pnl"]
    chain = (
        pl.concat(
            [
                before.select(columns).with_columns(daily_pnl=pl.lit(None, pl.Decimal(20, 2))),
                judged.frame.select(*columns, "daily_pnl"),
            ]
        )
        .sort("position_id", "session_date")
        .with_columns(previous=pl.col("total_pnl").shift(1).over("position_id"))
        .filter(pl.col("total_pnl") - pl.col("previous") != pl.col("daily_pnl"))
        .join(
            judged.frame.select("session_date", "position_id", "portfolio_id", "symbol"),
            on=["session_date", "position_id"],
        )
    )
    return findings(
        chain,
        pl.format(
            _POSITION + ": total P&L moved by {}, the day's P&L is {}",
            "position_id",
            "symbol",
            (pl.col("total_pnl") - pl.col("previous")).cast(pl.String),
            pl.col("daily_pnl").cast(pl.String),
        ),
    )


TELESCOPING = Rule(
    "telescoping",
    "ERROR",
    "The day's P&L is exactly the change of the P&L since entry, position by position.",
    _telescoping,
)

NO_LATER_PRICE = Rule(
    "nothing_after_its_session",
    "ERROR",
    "No row uses a price observed after its session.",
    lambda judged: findings(
        judged.frame.filter(pl.col("price_date") > pl.col("session_date")),
        pl.format(_POSITION + ": price of {}", "position_id", "symbol", pl.col("price_date").cast(pl.String)),
    ),
)

POSITION_VALUES: Sequence[Rule] = (
    ONE_ROW_PER_POSITION,
    SIGN,
    TELESCOPING,
    NO_LATER_PRICE,
    SETTLEMENT_UNPRICED,
    STALE,
    UNPRICED,
)


def _portfolio_rows(judged: Judged) -> pl.DataFrame:
    """Portfolios x sessions of their lives that have no row."""
    expected = alive_at(judged.sessions, judged.inputs["portfolios"], "code")
    missing = expected.join(judged.frame, on=["session_date", "portfolio_id"], how="anti")
    return findings(missing, pl.format("{} has no row", "code"))


PORTFOLIO_ROWS = Rule(
    "expected_rows",
    "ERROR",
    "Every portfolio has a row for every session of its life.",
    _portfolio_rows,
)


def _chain(judged: Judged, broken: str, shown: str, detail: str, *names: str) -> pl.DataFrame:
    if not judged.sessions:  # a run of nothing but unscheduled closures
        return nothing()
    first, last, owners = judged.sessions[0], judged.sessions[-1], judged.owners
    found = judging.broken_chain(judged.database, first, last, owners, broken=broken, shown=shown)
    return nothing() if found.is_empty() else findings(found, pl.format(detail, "code", *names))


NAV_IDENTITY = Rule(
    "net_asset_value_identity",
    "ERROR",
    "Net asset value is the previous one plus the day's P&L plus flows, exactly.",
    lambda judged: _chain(
        judged,
        "net_asset_value <> CASE WHEN is_first THEN initial_equity ELSE previous_nav END + daily_pnl + net_cash_flow",
        "(net_asset_value - CASE WHEN is_first THEN initial_equity ELSE previous_nav END - daily_pnl - net_cash_flow)"
        "::text AS residual",
        "{}: residual {}",
        "residual",
    ),
)

CASH_IDENTITY = Rule(
    "cash_identity",
    "ERROR",
    "Net asset value is cash plus market value, exactly.",
    lambda judged: _chain(
        judged,
        "net_asset_value <> cash_balance + market_value",
        "(net_asset_value - cash_balance - market_value)::text AS residual",
        "{}: residual {}",
        "residual",
    ),
)

NO_GAP = Rule(
    "no_missing_session",
    "ERROR",
    "Every snapshot but the first follows that of the previous session.",
    lambda judged: _chain(
        judged,
        "NOT is_first AND previous_date IS DISTINCT FROM previous_session",
        "previous_session::text AS missing",
        "{}: no snapshot of {}; fill it first (`sigmasight backfill --from` that session)",
        "missing",
    ),
)


def _equity_balance(judged: Judged) -> pl.DataFrame:
    if not judged.sessions:
        return nothing()
    found = judging.unsynchronised_equity(judged.database, judged.owners)
    if found.is_empty():
        return nothing()
    # the newest snapshot may lie after the run, whose transaction should have kept the balance all the same
    found = found.with_columns(session_date=pl.lit(judged.sessions[-1], dtype=pl.Date))
    return findings(found, pl.format("{}: equity balance {} is not the newest value {}", "code", "balance", "value"))


EQUITY_SYNCHRONISED = Rule(
    "equity_balance_synchronised",
    "ERROR",
    "The portfolio's equity balance is the newest snapshot's net asset value.",
    _equity_balance,
)

LARGE_RETURNS = Rule(
    "large_daily_return",
    "WARN",
    f"No day's return is beyond {LARGE_RETURN:.0%} either way.",
    lambda judged: findings(
        judged.frame.filter(pl.col("daily_return").abs() > LARGE_RETURN),
        pl.format("portfolio {}: {}%", "portfolio_id", (pl.col("daily_return") * 100).round(1).cast(pl.String)),
    ),
)

SNAPSHOTS: Sequence[Rule] = (
    PORTFOLIO_ROWS,
    NAV_IDENTITY,
    CASH_IDENTITY,
    NO_GAP,
    EQUITY_SYNCHRONISED,
    LARGE_RETURNS,
)
