"""Valuation assets: Greeks, position values, exposures and snapshots, session by session.

What belongs here: declarations of what each reads, the engine it calls and its rules; and the snapshot chain, which
depends on its own previous session. What does not: formulas.
"""

import dagster as dg
import polars as pl

from sigmasight_pipeline.assets import catalog, snapshot_chain
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.calculations import exposures, group_exposures, priced_book, snapshots
from sigmasight_pipeline.calculations.priced_book import VolatilityRules
from sigmasight_pipeline.checks import exposures as exposure_rules
from sigmasight_pipeline.checks import greeks as greeks_rules
from sigmasight_pipeline.checks import valuation as rules
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.upkeep import keep_equity
from sigmasight_pipeline.storage.windows import Read, as_of, last_known, look_back, on_sessions, until

GROUP = "valuation"


def _volatility(settings: Settings) -> VolatilityRules:
    return VolatilityRules(
        max_carried_volatility_age=settings.max_carried_volatility_age,
        historical_volatility_window=settings.historical_volatility_window,
        historical_volatility_min=settings.historical_volatility_min,
        max_yield_age=settings.max_yield_age,
        default_treasury_yield=settings.default_treasury_yield,
    )


VOLATILITY = _volatility(get_settings())
"""The look-backs that become partition mappings are those of the settings the code location was loaded with."""

_BOOK: dict[str, Read] = {
    "calendar": as_of(tables.trading_sessions),
    "portfolios": as_of(tables.portfolios),
    "positions": as_of(tables.positions),
}

_MARKET: dict[str, Read] = {
    "instruments": as_of(tables.instruments),
    "prices": last_known(tables.daily_prices, before=VOLATILITY.quote_look_back),
    "option_prices": last_known(tables.option_prices, before=VOLATILITY.quote_look_back, known="close"),
    "returns": look_back(tables.daily_returns, sessions=VOLATILITY.return_look_back),
    "yields": look_back(tables.treasury_yields, sessions=VOLATILITY.yield_look_back),
    "actions": until(tables.corporate_actions, column="ex_date"),
}


GREEKS = SessionAsset(
    table=tables.position_greeks,
    reads={**_BOOK, **_MARKET, "position_values": on_sessions(tables.position_values)},
    engine=priced_book.book_greeks,
    group=GROUP,
    early=True,
    priced=True,
    code_version="4",
    rules=greeks_rules.POSITION_GREEKS,
    parameters=lambda settings: {"volatility": _volatility(settings)},
    figures={
        "options": pl.col("vol_source").is_not_null().sum(),
        "share_of_options_with_implied_volatility": (pl.col("vol_source") == "implied").sum()
        / pl.col("vol_source").is_not_null().sum().replace(0, None),
    },
    description="In the units traders quote: theta a calendar day, vega a volatility point, rho a percentage point.",
)

VALUES = SessionAsset(
    table=tables.position_values,
    reads={**_BOOK, **_MARKET, "marks": as_of(tables.position_marks)},
    engine=priced_book.book_values,
    group=GROUP,
    early=True,
    priced=True,
    code_version="3",
    rules=rules.POSITION_VALUES,
    parameters=lambda settings: {
        "volatility": _volatility(settings),
        "max_stale_sessions": settings.max_stale_sessions,
        "max_mark_age": settings.max_mark_age,
    },
    figures={
        **catalog.over_all_portfolios("market_value", "daily_pnl"),
        "share_priced_by_the_market": (pl.col("price_source") == "market").mean(),
        "stale_positions": pl.col("stale").sum(),
    },
    description="Telescopes to the cent: daily P&L adds up to the P&L since entry. The previous session's value is "
    "computed anew from prices and actions, never read from a stored row.",
)

EXPOSURES = SessionAsset(
    table=tables.portfolio_exposures,
    reads={
        **_BOOK,
        "instruments": as_of(tables.instruments),
        "position_values": on_sessions(tables.position_values),
        "position_greeks": on_sessions(tables.position_greeks),
    },
    engine=exposures.portfolio_exposures,
    group=GROUP,
    early=True,
    priced=True,
    code_version="3",
    rules=exposure_rules.EXPOSURES,
    parameters=lambda settings: {"min_coverage": settings.min_coverage},
    figures=catalog.over_all_portfolios("gross_exposure", "net_exposure", "delta_adjusted_net", "vega"),
)

GROUPS = SessionAsset(
    table=tables.group_exposures,
    reads={
        **_BOOK,
        "instruments": as_of(tables.instruments),
        "tags": as_of(tables.tags),
        "position_tags": as_of(tables.position_tags),
        "position_values": on_sessions(tables.position_values),
        "position_greeks": on_sessions(tables.position_greeks),
    },
    engine=group_exposures.group_exposures,
    group=GROUP,
    priced=True,
    code_version="1",
    rules=exposure_rules.GROUP_EXPOSURES,
    figures={"groups": pl.struct("group_kind", "group_name").n_unique()},
    grain=(tables.positions,),
)

SNAPSHOTS_VERSION = "2"


@catalog.partitioned_asset(
    tables.portfolio_snapshots,
    GROUP,
    deps=[
        *catalog.dependencies(list(snapshot_chain.READS.values())),
        catalog.own_previous_session(tables.portfolio_snapshots.name),
    ],
    more="Depends on its own previous session: a session whose predecessor is missing is refused by name. Where a "
    "re-run changes what later snapshots were made from, the chain is continued in the same transaction as far as "
    "their position values are current, and what is still owed after that is recorded in it; it also keeps "
    "`portfolios.equity_balance`. Nothing is written that does not add up.",
    engine=snapshots.portfolio_snapshots,
    rules=rules.SNAPSHOTS,
    code_version=SNAPSHOTS_VERSION,
    filtered=True,
    early=True,
)
def portfolio_snapshots(
    context: dg.AssetExecutionContext,
    config: PortfolioConfig,
    postgres: PostgresResource,
    settings: SettingsResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Roll net asset value forward through the run's sessions, and on over current values where the past changed."""
    run = SessionRun(
        context,
        postgres.database,
        settings.values,
        tables.portfolio_snapshots,
        code_version=SNAPSHOTS_VERSION,
        portfolios=config.portfolios,
    )
    run.leave_out_unpriced()
    frames = run.read_all(snapshot_chain.READS)
    rolled = snapshot_chain.roll(
        snapshot_chain.Stored(run.database, run.portfolio_ids, value_inputs()),
        sessions=run.sessions,
        frames=frames,
        previous=run.read(look_back(tables.portfolio_snapshots, sessions=1)).filter(pl.col("session_date") < run.first),
        last=run.last,
        onward=not run.followed,
    )
    run.write(
        run.stamped(rolled.frame),
        beyond=rolled.beyond,
        before_commit=snapshot_chain.closing(rolled, run.last, keep_equity(rolled.opening_cash)),
    )
    verdicts = run.judge(rules.SNAPSHOTS, rolled.own, frames)
    run.annotate(
        rolled.own,
        {
            **catalog.over_all_portfolios("net_asset_value", "daily_pnl"),
            "portfolios": pl.col("portfolio_id").n_unique(),
            "worst_daily_return": pl.col("daily_return").min(),
        },
        by_portfolio={name: pl.col(name).sum() for name in ("net_asset_value", "daily_pnl")},
    )
    for day in rolled.sessions_beyond:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=tables.portfolio_snapshots.name,
                partition=day.isoformat(),
                description=f"continued from {run.last}, whose figures changed",
            )
        )
    return run.result(rolled.frame, verdicts, {"continued_sessions": len(rolled.sessions_beyond)})


def value_inputs() -> list[str]:
    """Tables whose recorded changes make position values out of date."""
    return [str(read.table.name) for read in VALUES.reads.values()]


ASSETS = [
    session_asset(VALUES),
    session_asset(GREEKS),
    session_asset(EXPOSURES),
    session_asset(GROUPS),
    portfolio_snapshots,
]
