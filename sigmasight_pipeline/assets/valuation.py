"""Valuation assets: Greeks, position values, exposures and snapshots, session by session.

What belongs here: declarations of what each reads, the engine it calls and its rules; and the snapshot chain, which
depends on its own previous session. What does not: formulas.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date

import dagster as dg
import polars as pl

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.calculations import exposures, group_exposures, priced_book, snapshots
from sigmasight_pipeline.calculations.priced_book import VolatilityRules
from sigmasight_pipeline.checks import exposures as exposure_rules
from sigmasight_pipeline.checks import greeks as greeks_rules
from sigmasight_pipeline.checks import valuation as rules
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import tables, windows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import keep_equity, newest_snapshots
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
    code_version="3",
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
    code_version="2",
    rules=rules.POSITION_VALUES,
    parameters=lambda settings: {
        "volatility": _volatility(settings),
        "max_stale_sessions": settings.max_stale_sessions,
        "max_mark_age": settings.max_mark_age,
    },
    figures={
        "market_value": pl.col("market_value").sum(),
        "daily_pnl": pl.col("daily_pnl").sum(),
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
    figures={
        "gross_exposure": pl.col("gross_exposure").sum(),
        "net_exposure": pl.col("net_exposure").sum(),
        "delta_adjusted_net": pl.col("delta_adjusted_net").sum(),
        "vega": pl.col("vega").sum(),
    },
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

SNAPSHOT_READS: dict[str, Read] = {
    **_BOOK,
    "position_values": on_sessions(tables.position_values),
    "portfolio_exposures": on_sessions(tables.portfolio_exposures),
    "flows": as_of(tables.portfolio_cash_flows),
}

SNAPSHOTS_VERSION = "2"

CHAIN_FIGURES = ("net_asset_value", "cash_balance", "cumulative_pnl", "cumulative_return", "high_water_mark")
"""What the next session's snapshot is made from: where one of these changes, the sessions after it change too."""


def later_snapshots(database: Database, last: date, portfolio_ids: Collection[int] | None) -> dict[int, date]:
    """Newest stored snapshot of every portfolio (of `portfolio_ids`) that has one after `last`."""
    return {
        key: day
        for key, day in newest_snapshots(database).items()
        if day > last and (portfolio_ids is None or key in portfolio_ids)
    }


def _chain_changed(computed: pl.DataFrame, stored: pl.DataFrame) -> bool:
    """Whether what later sessions are made from differs from what is stored (or was not there yet)."""
    columns = ["portfolio_id", *CHAIN_FIGURES]
    return not computed.select(columns).sort("portfolio_id").equals(stored.select(columns).sort("portfolio_id"))


@catalog.partitioned_asset(
    tables.portfolio_snapshots,
    GROUP,
    deps=[
        *catalog.dependencies(list(SNAPSHOT_READS.values())),
        catalog.own_previous_session(tables.portfolio_snapshots.name),
    ],
    more="Depends on its own previous session: a session whose predecessor is missing is refused by name. Where a "
    "re-run changes a net asset value that later snapshots were made from, the chain is continued to the newest "
    "one in the same transaction, which also keeps `portfolios.equity_balance`.",
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
    """Roll net asset value forward through the run's sessions, and on to the newest where the past changed."""
    run = SessionRun(
        context,
        postgres.database,
        settings.values,
        tables.portfolio_snapshots,
        code_version=SNAPSHOTS_VERSION,
        portfolios=config.portfolios,
    )
    run.leave_out_unpriced()
    stored = run.read(look_back(tables.portfolio_snapshots, sessions=1))
    frames = run.read_all(SNAPSHOT_READS)
    result, following = rolled_forward(
        run.database,
        sessions=run.sessions,
        frames=frames,
        previous=stored.filter(pl.col("session_date") < run.first),
        stored=stored.filter(pl.col("session_date") == run.last),
        last=run.last,
        portfolio_ids=run.portfolio_ids,
    )
    sessions = [*run.requested, *following]
    frame = run.write(run.stamped(result.frame), sessions=sessions, before_commit=keep_equity(result.opening_cash))
    verdicts = run.judge(rules.SNAPSHOTS, frame, frames)
    run.annotate(
        frame,
        {
            "net_asset_value": pl.col("net_asset_value").sum(),
            "daily_pnl": pl.col("daily_pnl").sum(),
            "portfolios": pl.col("portfolio_id").n_unique(),
            "worst_daily_return": pl.col("daily_return").min(),
        },
    )
    for day in following:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=tables.portfolio_snapshots.name,
                partition=day.isoformat(),
                description=f"continued from {run.last}, whose figures changed",
            )
        )
    return run.result(frame, verdicts, {"continued_sessions": len(following)})


def rolled_forward(
    database: Database,
    *,
    sessions: Sequence[date],
    frames: Mapping[str, pl.DataFrame],
    previous: pl.DataFrame,
    stored: pl.DataFrame,
    last: date,
    portfolio_ids: Collection[int] | None,
    to_newest: bool = True,
) -> tuple[snapshots.Snapshots, list[date]]:
    """Snapshots of `sessions` and, where those at `last` differ from what is `stored` there, on to the newest stored.

    `frames` by the names of SNAPSHOT_READS; `previous` are the snapshots of the session before. Returns the snapshots
    and the sessions after `last` they now cover. Nothing is written.
    """
    result = snapshots.portfolio_snapshots(sessions=sessions, **frames, previous=previous)
    later = later_snapshots(database, last, portfolio_ids) if to_newest else {}
    of_later = pl.col("portfolio_id").is_in(list(later))
    at_last = result.frame.filter((pl.col("session_date") == last) & of_later)
    if not later or not _chain_changed(at_last, stored.filter(of_later)):
        return result, []
    newest = max(later.values())
    opened = frames["calendar"].filter(~pl.col("is_closed"))["session_date"].sort()
    following = opened.filter((opened > last) & (opened <= newest)).to_list()
    after = {
        name: windows.read(database, read, following[0], newest, portfolio_ids) for name, read in SNAPSHOT_READS.items()
    }
    parts = [result.frame]
    for end in sorted(set(later.values())):
        # a portfolio whose snapshots stop earlier is not carried beyond them
        own = pl.col("portfolio_id").is_in([key for key, day in later.items() if day == end])
        book = {name: frame.filter(own) if "portfolio_id" in frame.columns else frame for name, frame in after.items()}
        parts.append(
            snapshots.portfolio_snapshots(
                sessions=[day for day in following if day <= end], **book, previous=at_last.filter(own)
            ).frame
        )
    return replace(result, frame=pl.concat(parts)), following


ASSETS = [
    session_asset(VALUES),
    session_asset(GREEKS),
    session_asset(EXPOSURES),
    session_asset(GROUPS),
    portfolio_snapshots,
]
