"""Valuation assets: Greeks, position values, exposures and snapshots, session by session.

What belongs here: declarations of what each reads, the engine it calls and its rules; and the snapshot chain, which
depends on its own previous session. What does not: formulas.
"""

from collections.abc import Mapping
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
    priced=True,
    code_version="2",
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
    priced=True,
    code_version="1",
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
        "position_values": on_sessions(tables.position_values),
        "position_greeks": on_sessions(tables.position_greeks),
    },
    engine=exposures.portfolio_exposures,
    group=GROUP,
    priced=True,
    code_version="2",
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

_SNAPSHOT_READS: dict[str, Read] = {
    **_BOOK,
    "position_values": on_sessions(tables.position_values),
    "portfolio_exposures": on_sessions(tables.portfolio_exposures),
    "flows": as_of(tables.portfolio_cash_flows),
}

SNAPSHOTS_VERSION = "2"

CHAIN_FIGURES = ("net_asset_value", "cash_balance", "cumulative_pnl", "cumulative_return", "high_water_mark")
"""What the next session's snapshot is made from: where one of these changes, the sessions after it change too."""


def _newest_stored(run: SessionRun) -> dict[int, date]:
    """Newest stored snapshot of every portfolio of the run."""
    newest, wanted = newest_snapshots(run.database), run.portfolio_ids
    return newest if wanted is None else {key: day for key, day in newest.items() if key in wanted}


def _chain_changed(computed: pl.DataFrame, stored: pl.DataFrame) -> bool:
    """Whether what later sessions are made from differs from what is stored (or was not there yet)."""
    columns = ["portfolio_id", *CHAIN_FIGURES]
    return not computed.select(columns).sort("portfolio_id").equals(stored.select(columns).sort("portfolio_id"))


@catalog.partitioned_asset(
    tables.portfolio_snapshots,
    GROUP,
    deps=[
        *catalog.dependencies(list(_SNAPSHOT_READS.values())),
        catalog.own_previous_session(tables.portfolio_snapshots.name),
    ],
    more="Depends on its own previous session: a session whose predecessor is missing is refused by name. Where a "
    "re-run changes a net asset value that later snapshots were made from, the chain is continued to the newest "
    "one in the same transaction, which also keeps `portfolios.equity_balance`.",
    engine=snapshots.portfolio_snapshots,
    rules=rules.SNAPSHOTS,
    code_version=SNAPSHOTS_VERSION,
    filtered=True,
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
    frames = run.read_all(_SNAPSHOT_READS)
    result = snapshots.portfolio_snapshots(
        sessions=run.sessions, **frames, previous=stored.filter(pl.col("session_date") < run.first)
    )
    frame, sessions = result.frame, run.requested
    later = {key: day for key, day in _newest_stored(run).items() if day > run.last}
    if later and _chain_changed(
        frame.filter((pl.col("session_date") == run.last) & pl.col("portfolio_id").is_in(list(later))),
        stored.filter((pl.col("session_date") == run.last) & pl.col("portfolio_id").is_in(list(later))),
    ):
        continued, sessions = _continued(run, frame, later)
        frame = pl.concat([frame, *continued])
    frame = run.write(run.stamped(frame), sessions=sessions, before_commit=keep_equity(result.opening_cash))
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
    extra = [day for day in sessions if day > run.last]
    for day in extra:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=tables.portfolio_snapshots.name,
                partition=day.isoformat(),
                description=f"continued from {run.last}, whose figures changed",
            )
        )
    return run.result(frame, verdicts, {"continued_sessions": len(extra)})


def _continued(
    run: SessionRun, computed: pl.DataFrame, later: Mapping[int, date]
) -> tuple[list[pl.DataFrame], list[date]]:
    """The chain after the run's last session: frames to write and every session the write now covers."""
    newest = max(later.values())
    opened = run.calendar.filter(~pl.col("is_closed"))["session_date"]
    following = opened.filter((opened > run.last) & (opened <= newest)).to_list()
    frames = {
        name: windows.read(run.database, read, following[0], newest, run.portfolio_ids)
        for name, read in _SNAPSHOT_READS.items()
    }
    previous = computed.filter(pl.col("session_date") == run.last)
    parts = []
    for end in sorted(set(later.values())):
        # a portfolio whose snapshots stop earlier is not carried beyond them
        own = [key for key, day in later.items() if day == end]
        book = {
            name: frame.filter(pl.col("portfolio_id").is_in(own)) if "portfolio_id" in frame.columns else frame
            for name, frame in frames.items()
        }
        parts.append(
            snapshots.portfolio_snapshots(
                sessions=[day for day in following if day <= end],
                **book,
                previous=previous.filter(pl.col("portfolio_id").is_in(own)),
            ).frame
        )
    return parts, [*run.requested, *following]


ASSETS = [
    session_asset(VALUES),
    session_asset(GREEKS),
    session_asset(EXPOSURES),
    session_asset(GROUPS),
    portfolio_snapshots,
]
