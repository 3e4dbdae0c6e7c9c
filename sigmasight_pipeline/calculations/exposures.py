"""What a portfolio is exposed to at each session: sides, kinds, counts and concentration by company.

What belongs here: sums over the positions held by a portfolio, and the delta-adjusted exposure they are made
with. What does not: values and Greeks of single positions (``valuation``, ``position_greeks``), parts of a
portfolio (``group_exposures``), and net asset value, cash and returns (``snapshots``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.division import ratio
from sigmasight_pipeline.calculations.money import CENTS, MONEY, AmountOverflowError
from sigmasight_pipeline.calculations.portfolio_lives import alive_at
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.calculations.timeline import open_sessions

LARGEST_SQUARE_ROOT = 1.3e19
"""The square of a sum of cents up to this fits 128 bits."""

COUNTS = ("position_count", "long_count", "short_count", "option_count", "stock_count", "private_count")
GREEKS = ("delta", "gamma", "theta", "vega", "rho")
SIDES = ("long", "short", "gross", "net")
KINDS = ("stock", "option", "private")
CONCENTRATION = ("hhi", "effective_positions", "top_1_weight", "top_3_weight", "top_10_weight")

_KEYS = ["session_date", "portfolio_id"]
_POSITION_KEYS = ["session_date", "position_id"]
_IS_PRIVATE = pl.col("investment_class") == "PRIVATE"


class MissingGreeksError(ValueError):
    """A held position that is not PRIVATE has no row of ``position_greeks``."""

    def __init__(self, missing: int, position_id: int, session: date) -> None:
        super().__init__(
            f"position {position_id} has no Greeks at {session} ({missing} such rows missing); "
            "compute position_greeks for these sessions first"
        )


def portfolio_sessions(sessions: Sequence[date], calendar: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """Every (session_date, portfolio_id) that must have a result: open sessions of every portfolio's life.

    Ordered by session_date and portfolio_id. Raises timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    return alive_at(timeline.dates.gather(timeline.positions(sessions)), portfolios)


def held(position_values: pl.DataFrame) -> pl.DataFrame:
    """The rows of positions still held at their session: all but those of the exit session."""
    return position_values.filter(~pl.col("price_source").is_in(EXIT_SOURCES))


def with_delta_adjusted(
    position_values: pl.DataFrame, positions: pl.DataFrame, position_greeks: pl.DataFrame
) -> pl.DataFrame:
    """Rows of `position_values` with investment_class, is_held, the position's Greeks and `delta_adjusted`.

    delta_adjusted (US dollars, signed) is the exposure of PRIVATE positions and of the exit session (0), else
    that of the row of ``position_greeks``: NULL where it is a fallback. Greeks are NULL for PRIVATE. Raises
    MissingGreeksError where a held position that is not PRIVATE has no such row.
    """
    greeks = position_greeks.select("session_date", "position_id", *GREEKS, "delta_adjusted_exposure", "status")
    private = pl.col("investment_class") == "PRIVATE"
    rows = (
        position_values.join(positions.select("position_id", "investment_class"), on="position_id")
        .join(greeks, on=["session_date", "position_id"], how="left")
        .with_columns(is_held=~pl.col("price_source").is_in(EXIT_SOURCES))
    )
    missing = rows.filter("is_held", ~private, pl.col("status").is_null())
    if len(missing):
        raise MissingGreeksError(len(missing), missing["position_id"][0], missing["session_date"][0])
    known = pl.when(private | ~pl.col("is_held")).then(pl.col("exposure")).otherwise(pl.col("delta_adjusted_exposure"))
    return rows.with_columns(delta_adjusted=known).drop("status", "delta_adjusted_exposure")


def with_trading_symbol(rows: pl.DataFrame, positions: pl.DataFrame, instruments: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``position_values`` by session and position, with investment_class and the symbol of the company.

    That is an option's underlying, under the name it trades under at the session, as its prices are; of PRIVATE
    positions their own.
    """
    is_option = pl.col("investment_class") == "OPTIONS"
    owner = pl.when(is_option).then(pl.col("underlying_symbol")).otherwise(pl.col("symbol"))
    facts = positions.select("position_id", "investment_class", symbol=owner)
    laid_out = rows.select(*_POSITION_KEYS, "portfolio_id").join(facts, on="position_id").sort(_POSITION_KEYS)
    renamed = instruments.filter(pl.col("replaced_by").is_not_null() & pl.col("last_session").is_not_null())
    if renamed.is_empty():
        return laid_out
    names = pl.concat([renamed.get_column("symbol"), renamed.get_column("replaced_by").rename("symbol")]).unique()
    days = laid_out.select(pl.col("session_date").unique())
    # each name stands for its prices: whose row is there at a session is whose prices are used at it
    traded = continued(
        names.to_frame().join(days, how="cross").with_columns(traded="symbol"), instruments, "session_date"
    )
    return (
        laid_out.join(traded, on=["session_date", "symbol"], how="left", maintain_order="left")
        .with_columns(symbol=pl.when(_IS_PRIVATE).then("symbol").otherwise(pl.coalesce("traded", "symbol")))
        .drop("traded")
    )


def portfolio_exposures(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One row per portfolio and open session of `sessions` of its life, also without
    positions.

    Columns are those of ``portfolio_exposures`` without provenance, ordered by session_date and portfolio_id.
    `position_values` and `position_greeks` are the rows of these sessions (others change nothing); `positions`
    gives quantity (its sign is the side) and investment class.

    Delta-adjusted: PRIVATE positions count with their exposure, each position on the side of its own sign;
    positions of unknown delta-adjusted exposure (fallback rows) are left out of it and of the Greeks.
    delta_adjusted_coverage is the share of the gross exposure of PUBLIC and OPTIONS positions that is known,
    NULL where that is 0. greeks_status: ok with every position known; partial where the known ones are
    `min_coverage` of it at least; else low_coverage, and these totals are NULL.

    Concentration is by company: w = abs(sum of its delta-adjusted exposure) / sum of these, an option with its
    underlying, a renamed symbol with its successor (`instruments`); hhi = sum of w^2; NULL, with
    concentration_status no_exposure, where the sum is 0, and low_coverage where greeks_status is. Sums of money and
    the sum of squares are exact integers and Greeks are added in order of position_id, so no figure depends on the
    order of rows. Raises MissingGreeksError, AmountOverflowError and timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    sides = positions.select("position_id", side=pl.col("quantity").cast(pl.Float64).sign())
    rows = (
        with_delta_adjusted(held(position_values).join(wanted, on=_KEYS, how="semi"), positions, position_greeks)
        .join(sides, on="position_id")
        .sort(*_KEYS, "position_id")
    )
    summed = (
        wanted.join(_sums(rows), on=_KEYS, how="left", maintain_order="left")
        .with_columns(
            *(pl.col(f"{side}_exposure").fill_null(0).cast(MONEY) for side in ("long", "short", *KINDS)),
            *(pl.col(name).fill_null(0).cast(MONEY) for name in ("delta_adjusted_long", "delta_adjusted_short")),
            pl.col(GREEKS).fill_null(0.0),
            notional=pl.when(pl.col("notional_known").fill_null(value=True)).then(pl.col("notional").fill_null(0)),
        )
        .with_columns(**_gross_and_net("{}_exposure"), **_gross_and_net("delta_adjusted_{}"))
    )
    covered_gross = summed["stock_exposure"] + summed["option_exposure"]
    exposures = summed.with_columns(delta_adjusted_coverage=ratio(summed["known_gross"], covered_gross)).with_columns(
        greeks_status=_greeks_status(min_coverage)
    )
    given = pl.col("greeks_status") != "low_coverage"
    totals = [f"delta_adjusted_{side}" for side in SIDES] + list(GREEKS)
    companies = rows.join(
        with_trading_symbol(rows, positions, instruments).select(*_POSITION_KEYS, company="symbol"), on=_POSITION_KEYS
    )
    return exposures.join(_concentration(companies), on=_KEYS, how="left", maintain_order="left").select(
        *_KEYS,
        *(f"{name}_exposure" for name in (*SIDES, *KINDS)),
        pl.col("notional").cast(MONEY),
        *(pl.when(given).then(pl.col(name)).alias(name) for name in totals),
        "delta_adjusted_coverage",
        "greeks_status",
        *(pl.col(name).fill_null(0).cast(pl.Int32) for name in COUNTS),
        *(pl.when(given).then(pl.col(name)).alias(name) for name in CONCENTRATION),
        pl.when(~given)
        .then(pl.lit("low_coverage"))
        .when(pl.col("hhi").is_null())
        .then(pl.lit("no_exposure"))
        .otherwise(pl.lit("ok"))
        .alias("concentration_status"),
    )


def _sums(rows: pl.DataFrame) -> pl.DataFrame:
    """Sums and counts of each (session, portfolio) that holds anything; `rows` in order of position_id."""
    exposure, kind = pl.col("exposure"), pl.col("investment_class")
    adjusted, known = pl.col("delta_adjusted"), pl.col("delta_adjusted").is_not_null()
    return rows.group_by(_KEYS).agg(
        long_exposure=exposure.filter(exposure > 0).sum(),
        short_exposure=exposure.filter(exposure < 0).sum(),
        stock_exposure=exposure.abs().filter(kind == "PUBLIC").sum(),
        option_exposure=exposure.abs().filter(kind == "OPTIONS").sum(),
        private_exposure=exposure.abs().filter(kind == "PRIVATE").sum(),
        notional=pl.col("notional").sum(),
        notional_known=pl.col("notional").is_not_null().all(),
        delta_adjusted_long=adjusted.filter(adjusted > 0).sum(),
        delta_adjusted_short=adjusted.filter(adjusted < 0).sum(),
        known_gross=exposure.abs().filter(known & (kind != "PRIVATE")).sum(),
        unknown=(~known).sum(),
        # a running sum, because how Polars splits up a plain one depends on the batch
        **{greek: pl.col(greek).filter(known & (kind != "PRIVATE")).cum_sum().last() for greek in GREEKS},
        position_count=pl.len(),
        long_count=(pl.col("side") > 0).sum(),
        short_count=(pl.col("side") < 0).sum(),
        option_count=(kind == "OPTIONS").sum(),
        stock_count=(kind == "PUBLIC").sum(),
        private_count=(kind == "PRIVATE").sum(),
    )


def _gross_and_net(name: str) -> dict[str, pl.Expr]:
    long, short = pl.col(name.format("long")), pl.col(name.format("short"))
    return {name.format("gross"): (long - short).cast(MONEY), name.format("net"): (long + short).cast(MONEY)}


def _greeks_status(min_coverage: float) -> pl.Expr:
    """Nothing is covered where the positions of unknown delta-adjusted exposure are worth nothing."""
    return (
        pl.when(pl.col("unknown").fill_null(0) == 0)
        .then(pl.lit("ok"))
        .when(pl.col("delta_adjusted_coverage") >= min_coverage)
        .then(pl.lit("partial"))
        .otherwise(pl.lit("low_coverage"))
    )


def _concentration(rows: pl.DataFrame) -> pl.DataFrame:
    """Concentration by `company` of each (session, portfolio) that has any delta-adjusted exposure."""
    cents = pl.col("delta_adjusted").to_physical().cast(pl.Int128)
    size = pl.col("size")
    by_company = (
        rows.group_by(*_KEYS, "company")
        .agg(size=cents.sum().abs())
        .sort(*_KEYS, "size", descending=[False, False, True])
    )
    result = by_company.group_by(_KEYS, maintain_order=True).agg(
        total=size.sum(),
        squares=(size * size).sum(),
        top_1=size.head(1).sum(),
        top_3=size.head(3).sum(),
        top_10=size.head(10).sum(),
    )
    largest = result.get_column("total").cast(pl.Float64).max()
    if isinstance(largest, float) and largest > LARGEST_SQUARE_ROOT:
        raise AmountOverflowError("the exposure of a portfolio", largest / CENTS)
    result = result.filter(pl.col("total") > 0)
    total = result["total"]
    hhi = ratio(result["squares"], total * total)
    return result.select(
        *_KEYS,
        hhi.alias("hhi"),
        ratio(pl.repeat(1.0, len(hhi), eager=True), hhi).alias("effective_positions"),
        *(ratio(result[f"top_{count}"], total).alias(f"top_{count}_weight") for count in (1, 3, 10)),
    )
