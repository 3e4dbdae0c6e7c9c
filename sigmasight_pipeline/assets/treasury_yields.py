"""Treasury yields as the source gives them, carried over bond-market holidays.

What belongs here: the asset. What does not: how a level is carried (``market_data.treasury``) and any other market data
(``assets.market_data``).
"""

from datetime import timedelta

import dagster as dg
import polars as pl

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_run import SessionRun
from sigmasight_pipeline.checks import market_data as rules
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.market_data.treasury import carried_yields
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.upkeep import newest_priced_session

GROUP = "market_data"

SOURCE_POOL = "market_data_source"
"""Dagster concurrency pool of everything that asks a source, so that its rate limit is shared."""

YIELD_REACH_DAYS = 21
"""Calendar days before the first session from which yields are asked for: more than the oldest that may be carried."""


@catalog.partitioned_asset(
    tables.treasury_yields,
    GROUP,
    deps=[dg.AssetDep(tables.trading_sessions.name)],
    pool=SOURCE_POOL,
    more="Bond-market holidays are sessions: the level is carried forward and marked by `observed_date`.",
    rules=[rules.YIELDS_COMPLETE],
)
def treasury_yields(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    market_data: MarketDataResource,
    settings: SettingsResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Store the curve of every session, carried over bond-market holidays."""
    run = SessionRun(context, postgres.database, settings.values, tables.treasury_yields, code_version="1")
    source = market_data.source
    _leave_beyond_prices(run, source)
    observed = source.treasury_yields(run.first - timedelta(days=YIELD_REACH_DAYS), run.last)
    frame = carried_yields(
        observed, sessions=run.sessions, trading_sessions=run.calendar, max_yield_age=run.settings.max_yield_age
    ).with_columns(source=pl.lit(source.name))
    frame = run.write(frame)
    verdicts = run.judge([rules.YIELDS_COMPLETE], frame, {})
    run.annotate(frame, {"ten_year_yield": pl.col("yield").filter(pl.col("tenor") == "10Y").first()})
    return run.result(frame, verdicts)


def _leave_beyond_prices(run: SessionRun, source: MarketDataSource) -> None:
    """Leave out sessions nobody can have computed yet: after the last one with prices, stored or in the source.

    A source without bounds of its own may have prices of any session.
    """
    bounds = source.stored_range()
    if bounds is None:
        return
    known = max(bounds[1], newest_priced_session(run.database) or bounds[1])
    run.leave_waiting([day for day in run.sessions if day > known], known)
