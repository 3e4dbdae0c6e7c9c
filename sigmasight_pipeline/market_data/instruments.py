"""Which symbols the pipeline must price, and what is known of each.

What belongs here: gathering symbols from positions, portfolios, factors and the source into rows of ``instruments``,
and which of them a session needs. What does not: reading or writing tables.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.contracts import adjusted_symbol
from sigmasight_pipeline.market_data.source import INSTRUMENTS, MarketDataSource
from sigmasight_pipeline.symbols import SymbolError

COLUMNS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "kind": pl.String(),
    "name": pl.String(),
    "sector": pl.String(),
    "industry": pl.String(),
    "sector_source": pl.String(),
    "duration": pl.Float64(),
    "active": pl.Boolean(),
    "first_session": pl.Date(),
    "last_session": pl.Date(),
    "replaced_by": pl.String(),
    "exercise_style": pl.String(),
    "dividend_yield": pl.Float64(),
}

OVERRIDE = "override"
"""Source of a sector the user's own file states."""

PRICED_KINDS = ("stock", "etf", "fund", "index")
"""Kinds that have daily prices; options have their own table and PRIVATE positions have marks."""


def known_instruments(
    *,
    positions: pl.DataFrame,
    portfolios: pl.DataFrame,
    factors: pl.DataFrame,
    stored: pl.DataFrame,
    source: MarketDataSource,
    sectors: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Rows of ``instruments``: every symbol held, underlying an option, benchmark, proxy, or the source's own.

    What the source says wins over what was stored (its sector where it names none excepted); a symbol the source does
    not know keeps its stored row, and is a stock where it has none. `stored` are rows of ``instruments``. `sectors`
    (symbol, sector, industry) wins over both, also where its industry is NULL; a sector it named once is forgotten
    when it names it no more.
    """
    overridden = pl.col("sector_source") == OVERRIDE
    stored = stored.with_columns(
        pl.when(~overridden.fill_null(value=False)).then(pl.col(name)).alias(name)
        for name in ("sector", "industry", "sector_source")
    )
    options = positions.filter(pl.col("investment_class") == "OPTIONS")
    private = positions.filter(pl.col("investment_class") == "PRIVATE")
    public = positions.filter(pl.col("investment_class") == "PUBLIC")
    priced = sorted(
        {
            *public["symbol"],
            *options["underlying_symbol"].drop_nulls(),
            *portfolios["benchmark_symbol"].drop_nulls(),
            *factors.filter("active")["proxy_symbol"].drop_nulls(),
            *source.symbols(),
        }
    )
    told = source.instruments(priced).select(pl.col(name).cast(dtype) for name, dtype in INSTRUMENTS.items())
    seen = stored.select("symbol", "first_session", stored_sector="sector", stored_sector_source="sector_source")
    silent = stored.filter(pl.col("symbol").is_in(priced) & pl.col("kind").is_in(PRICED_KINDS)).join(
        told, on="symbol", how="anti"
    )
    market = (
        pl.DataFrame({"symbol": priced}, schema={"symbol": pl.String()})
        .join(silent, on="symbol", how="anti")
        .join(told, on="symbol", how="left")
        .join(seen, on="symbol", how="left")
        .with_columns(
            kind=pl.col("kind").fill_null("stock"),
            sector_source=pl.when(pl.col("sector").is_not_null())
            .then(pl.lit(source.name))
            .otherwise(pl.col("stored_sector_source")),
            sector=pl.coalesce("sector", "stored_sector"),
            # trading stopped where the source names a last session; prices are not expected any more
            active=pl.col("last_session").is_null(),
        )
    )
    contracts = options.unique("symbol", keep="first", maintain_order=True).select(
        "symbol",
        kind=pl.lit("option"),
        name=pl.format(
            "{} {} {} {}",
            "underlying_symbol",
            pl.col("expiration_date").dt.to_string(),
            pl.col("strike_price").cast(pl.Float64).cast(pl.String).str.strip_suffix(".0"),
            pl.when(pl.col("option_kind") == "C").then(pl.lit("call")).otherwise(pl.lit("put")),
        ),
        active=pl.lit(True),
    )
    holdings = private.unique("symbol", keep="first", maintain_order=True).select(
        "symbol",
        kind=pl.lit("private"),
        name=pl.coalesce("notes", "symbol"),
        sector=pl.lit("Private"),
        sector_source=pl.lit("import"),
        active=pl.lit(True),
    )
    found = pl.concat([_complete(part) for part in (market, silent, contracts, holdings)])
    kept = stored.join(found, on="symbol", how="anti").select(list(COLUMNS))
    rows = pl.concat([found, kept]).unique("symbol", keep="first", maintain_order=True).sort("symbol")
    return rows if sectors is None else _overridden(rows, sectors)


def _overridden(rows: pl.DataFrame, sectors: pl.DataFrame) -> pl.DataFrame:
    stated = sectors.select("symbol", stated_sector="sector", stated_industry="industry")
    named = pl.col("stated_sector").is_not_null()
    return (
        rows.join(stated, on="symbol", how="left", maintain_order="left")
        .with_columns(
            sector=pl.when(named).then("stated_sector").otherwise("sector"),
            industry=pl.when(named).then("stated_industry").otherwise("industry"),
            sector_source=pl.when(named).then(pl.lit(OVERRIDE)).otherwise("sector_source"),
        )
        .select(list(COLUMNS))
    )


def _complete(part: pl.DataFrame) -> pl.DataFrame:
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in COLUMNS.items() if name not in part.columns]
    return part.with_columns(missing).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def priced_symbols(instruments: pl.DataFrame) -> list[str]:
    """Symbols with daily prices, sorted."""
    return instruments.filter(pl.col("kind").is_in(PRICED_KINDS))["symbol"].sort().to_list()


def needed_symbols(
    *,
    sessions: pl.Series,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    factors: pl.DataFrame,
    ever_priced: Collection[str],
) -> pl.DataFrame:
    """(session_date, symbol) pairs a session's coverage is measured on.

    Held on the session (an option by its underlying), plus proxies of active factors that the source has ever priced:
    a feed without a proxy must not stop the P&L, the factor's own figures will be NULL with the reason. A symbol that
    stopped trading is not needed after its last session.
    """
    days = pl.DataFrame({"session_date": sessions}, schema={"session_date": pl.Date()})
    held = (
        positions.filter(pl.col("investment_class") != "PRIVATE")
        .with_columns(
            symbol=pl.coalesce("underlying_symbol", "symbol"),
            until=pl.min_horizontal("exit_date", "expiration_date"),
        )
        .join(days, how="cross")
        .filter(
            (pl.col("session_date") >= pl.col("entry_date"))
            & (pl.col("until").is_null() | (pl.col("session_date") <= pl.col("until")))
        )
        .select("session_date", "symbol")
    )
    proxies = (
        factors.filter(pl.col("active") & pl.col("proxy_symbol").is_in(list(ever_priced)))
        .select(symbol="proxy_symbol")
        .join(days, how="cross")
        .select("session_date", "symbol")
    )
    stopped = instruments.select("symbol", "last_session")
    return (
        pl.concat([held, proxies])
        .unique()
        .join(stopped, on="symbol", how="left")
        .filter(pl.col("last_session").is_null() | (pl.col("session_date") <= pl.col("last_session")))
        .select("session_date", "symbol")
        .sort("session_date", "symbol")
    )


def option_listings(positions: pl.DataFrame, actions: pl.DataFrame) -> list[str]:
    """Every OCC symbol the held contracts are or were listed under, sorted: a split of the underlying renames them."""
    splits = actions.filter(pl.col("kind") == "split")
    ratios = SplitRatios(splits)
    found: set[str] = set()
    options = positions.filter(pl.col("investment_class") == "OPTIONS")
    for symbol, underlying, entry in options.select("symbol", "underlying_symbol", "entry_date").iter_rows():
        found.add(symbol)
        for ex_date in splits.filter(pl.col("symbol") == underlying)["ex_date"]:
            if ex_date > entry:
                ratio = ratios.ratio(underlying, entry, ex_date)
            else:
                ratio = 1 / ratios.ratio(underlying, ex_date - timedelta(days=1), entry)
            # a contract that cannot be listed under a whole strike has no quotes to ask for
            with suppress(SymbolError):
                found.add(adjusted_symbol(symbol, ratio))
    return sorted(found)
