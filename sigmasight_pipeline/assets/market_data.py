"""Market data assets: prices, actions, quotes and yields as the source gives them, and the returns made of them.

What belongs here: what is asked of the source, what is stored of it, and the rules on it. What does not: any particular
source, and judging single prices (``market_data``).

Prices, corporate actions and option quotes are one step with three assets: a price is judged against the split of its
day, a contract is quoted under the symbol the split gave it, and continuity through a split needs all three.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from sigmasight_pipeline import sessions as session_calendar
from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.option_quotes import screened_quotes
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.assets.treasury_yields import GROUP, SOURCE_POOL, treasury_yields
from sigmasight_pipeline.calculations.portfolio_lives import ending_with_their_books
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.checks import market_data as rules
from sigmasight_pipeline.checks.rules import Verdict
from sigmasight_pipeline.checks.schema import validate
from sigmasight_pipeline.market_data.actions import on_sessions as actions_on_sessions
from sigmasight_pipeline.market_data.coverage import coverage
from sigmasight_pipeline.market_data.instruments import needed_symbols, priced_symbols
from sigmasight_pipeline.market_data.option_screening import ScreenedQuotes
from sigmasight_pipeline.market_data.screening import Screened, screen
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.upkeep import keep_beside_prices, newest_priced_session
from sigmasight_pipeline.storage.windows import as_of, last_known, look_back, on_sessions, until

FIRST_FAILING_SESSION = "first_failing_session"
"""Metadata of the failure by which prices stop a range; the launcher runs the chain up to the session before it."""

MISSING_NAMED = 10
"""Symbols named in the message of a session without enough prices."""


@dataclass(frozen=True)
class _Received:
    """What one run got from the source, judged but not yet written."""

    prices: pl.DataFrame
    actions: pl.DataFrame
    quotes: pl.DataFrame
    screened: Screened
    options: ScreenedQuotes
    inputs: dict[str, pl.DataFrame]


def _spec(name: str, more: str, deps: list[dg.AssetDep]) -> dg.AssetSpec:
    table = tables.named(name)
    return dg.AssetSpec(
        name,
        description=f"{catalog.described(table, more)}\n\n{catalog.LAUNCH_RANGES}",
        deps=deps,
        partitions_def=catalog.partitions(),
        **catalog.shown(table, GROUP, grain="session", code_version="1", filtered=table is tables.daily_prices),
    )


_REFERENCE = [
    dg.AssetDep(name)
    for name in (
        tables.trading_sessions.name,
        tables.positions.name,
        tables.instruments.name,
        tables.factor_definitions.name,
    )
]


@dg.multi_asset(
    name="market_prices",
    specs=[
        _spec(
            tables.daily_prices.name,
            "As traded: splits and dividends are in corporate_actions. A changed value of the source goes to "
            "daily_price_revisions before it is replaced; an unbelievable one to rejected_prices. A run restricted to "
            "some portfolios adds prices that are missing and changes none.",
            _REFERENCE,
        ),
        _spec(
            tables.corporate_actions.name,
            "Partitioned by ex-date; an ex-date that is no session is moved to the next one.",
            _REFERENCE,
        ),
        _spec(
            tables.option_prices.name,
            "Of the contracts held, under the OCC symbol of the session: a split of the underlying renames them.",
            _REFERENCE,
        ),
    ],
    check_specs=[
        *(rule.spec(tables.daily_prices.name) for rule in rules.DAILY_PRICES),
        rules.SPLITS_CONTINUOUS.spec(tables.corporate_actions.name),
        *(rule.spec(tables.option_prices.name) for rule in rules.OPTION_CLOSES),
    ],
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=catalog.MAX_SESSIONS_PER_RUN),
    pool=SOURCE_POOL,
    op_tags=catalog.step_tags(pool=SOURCE_POOL, early=True),
)
def market_prices(
    context: dg.AssetExecutionContext,
    config: PortfolioConfig,
    postgres: PostgresResource,
    market_data: MarketDataResource,
    settings: SettingsResource,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Fetch, screen and store; stop at the first session without enough prices, but for newest ones without any."""
    run = SessionRun(context, postgres.database, settings.values, tables.daily_prices, code_version="1")
    received = _leaving_waiting(run, _receive(run, market_data.source, only_missing=bool(config.portfolios)))
    failing = received.inputs["coverage"].filter(pl.col("coverage") < run.settings.coverage_error)["session_date"]
    first_failing = failing.min() if not failing.is_empty() else None
    days = [day for day in (*run.closed, *run.sessions) if not isinstance(first_failing, date) or day < first_failing]
    days.sort()
    _write(run, received, days)
    verdicts = {
        tables.daily_prices.name: run.judge(rules.DAILY_PRICES, received.prices, received.inputs),
        tables.corporate_actions.name: run.for_table(tables.corporate_actions).judge(
            [rules.SPLITS_CONTINUOUS], received.actions, received.inputs
        ),
        tables.option_prices.name: run.for_table(tables.option_prices).judge(
            rules.OPTION_CLOSES, received.quotes, received.inputs
        ),
    }
    if isinstance(first_failing, date):
        # told before the failure is raised: after it Dagster takes nothing more of the step
        for name, found in verdicts.items():
            yield from (verdict.dagster_result(name) for verdict in found)
        _stop(run, received, days, first_failing, verdicts[tables.daily_prices.name])
    frames = {
        tables.daily_prices: received.prices,
        tables.corporate_actions: received.actions,
        tables.option_prices: received.quotes,
    }
    for table, frame in frames.items():
        own = run.for_table(table)
        own.annotate(
            frame,
            {"symbols": pl.col("symbol").n_unique()},
            day="ex_date" if table is tables.corporate_actions else "session_date",
            extra=_coverage_by_session(received) if table is tables.daily_prices else None,
        )
        yield own.result(frame, verdicts.get(table.name, []))


def _leaving_waiting(run: SessionRun, received: _Received) -> _Received:
    """`received` without the newest sessions nothing came for, which the run leaves out: they wait for their prices.

    Sessions before them stop the run if they have too few prices, for the ones after would be wrong.
    """
    newest = newest_priced_session(run.database)
    came = received.prices["session_date"].max()
    known = max((day for day in (newest, came) if isinstance(day, date)), default=None)
    waiting = [day for day in run.sessions if known is None or day > known]
    run.leave_waiting(waiting, known)
    told = {"waiting": pl.DataFrame({"session_date": waiting}, schema={"session_date": pl.Date()})}
    for name in ("coverage", "missing"):
        told[name] = received.inputs[name].filter(~pl.col("session_date").is_in(waiting))
    return replace(received, inputs={**received.inputs, **told})


def _receive(run: SessionRun, source: MarketDataSource, *, only_missing: bool) -> _Received:
    """Ask the source for the run's sessions and judge what came."""
    database, values = run.database, run.settings
    positions = database.read(tables.positions)
    instruments = database.read(tables.instruments)
    factors = database.read(tables.factor_definitions)
    symbols = priced_symbols(instruments)
    stored = run.read(on_sessions(tables.daily_prices))
    before = run.read(last_known(tables.daily_prices)).filter(pl.col("session_date") < run.first)
    opened = run.calendar.filter(~pl.col("is_closed") & (pl.col("session_date") < run.first))["session_date"]
    # what is dated between the session before and this one belongs to this one: rows of a weekend, and ex-dates
    since = max(opened, default=run.first - timedelta(days=1)) + timedelta(days=1)
    told = actions_on_sessions(
        source.corporate_actions(symbols, since, run.last),
        run.calendar,
    )
    actions = (
        told.filter(pl.col("ex_date").is_in(run.requested))
        .with_columns(source=pl.lit(source.name))
        .select(list(polars_schema(tables.corporate_actions)))
    )
    history = run.read(until(tables.corporate_actions)).filter(pl.col("ex_date") < run.first)
    bars = source.daily_bars(symbols, since, run.last)
    if only_missing:
        bars = bars.join(stored, on=["session_date", "symbol"], how="anti")
    rejections = database.read(
        tables.rejected_prices,
        where="status IN ('quarantined', 'accepted') OR session_date BETWEEN %s AND %s",
        params=(run.first, run.last),
    )
    screened = screen(
        bars,
        symbols=symbols,
        first=since,
        last=run.last,
        calendar=session_calendar.calendar(),
        closed=run.closed_ever,
        previous=before,
        stored=stored,
        actions=pl.concat([history, actions]),
        kinds=dict(zip(instruments["symbol"], instruments["kind"], strict=True)),
        renamed=dict(instruments.drop_nulls("replaced_by").drop_nulls("last_session")["symbol", "last_session"].rows()),
        rejections=rejections,
        accepted_rejections=rejections.filter(pl.col("status") == "accepted")["rejection_id"].to_list(),
        source=source.name,
        now=datetime.now(UTC),
        large_move=values.large_move,
        quarantine_rise=values.quarantine_rise,
        quarantine_fall=values.quarantine_fall,
        confirmation_band=values.confirmation_band,
    )
    fetched = screened.accepted
    fetched = fetched.filter(pl.col("session_date") >= run.first)
    prices = pl.concat([stored.join(fetched, on=["session_date", "symbol"], how="anti"), fetched]).sort(
        "session_date", "symbol"
    )
    options = screened_quotes(
        run,
        source,
        positions=positions,
        instruments=instruments,
        prices=pl.concat([screened.accepted.filter(pl.col("session_date") < run.first), prices]),
        actions=pl.concat([history, actions]),
        rejections=rejections,
    )
    quotes = options.accepted.filter(pl.col("session_date") >= run.first)
    ever_priced = {*prices["symbol"], *before["symbol"]}
    needed = needed_symbols(
        sessions=pl.Series(run.sessions, dtype=pl.Date),
        positions=ending_with_their_books(positions, database.read(tables.portfolios)),
        instruments=instruments,
        factors=factors,
        ever_priced=ever_priced,
    )
    shares, missing = coverage(prices, needed)
    inputs = {
        "coverage": shares,
        "missing": missing,
        "unpriced_proxies": factors.filter(
            pl.col("active") & pl.col("proxy_symbol").is_not_null() & ~pl.col("proxy_symbol").is_in(list(ever_priced))
        ),
        "notices": screened.warnings.with_columns(detail=pl.format("{}: {}", "symbol", "detail")),
        "rejections": pl.concat([screened.rejected, options.rejected])
        .filter(pl.col("rejection_id").is_null() | pl.col("session_date").is_in(run.requested))
        .with_columns(
            detail=pl.format("{}: {}", pl.col("symbol").fill_null("?"), "reason"),
            session_date=pl.col("session_date").fill_null(run.last),
        ),
        "with_history": pl.concat(
            [run.read(look_back(tables.daily_prices, sessions=rules.REPEATED_SESSIONS)), prices]
        ).unique(["session_date", "symbol"], keep="last"),
        "option_history": pl.concat(
            [run.read(look_back(tables.option_prices, sessions=rules.REPEATED_SESSIONS)), quotes]
        ).unique(["session_date", "symbol"], keep="last"),
        "actions": actions,
        "instruments": instruments,
    }
    return _Received(prices, actions, quotes, screened, options, inputs)


def _write(run: SessionRun, received: _Received, days: list[date]) -> None:
    """Store the sessions `days`: prices, quotes, actions, and what was refused or replaced, in one transaction."""
    if not days:
        return
    screened, options = received.screened, received.options
    actions = validate(tables.corporate_actions, received.actions.filter(pl.col("ex_date").is_in(days)))
    revisions = screened.revisions.filter(pl.col("session_date") <= days[-1])
    refused = pl.concat([screened.rejected, options.rejected]).filter(
        pl.col("session_date").is_null() | (pl.col("session_date") <= days[-1])
    )
    # a quarantined row of an earlier session that was confirmed is released into its own session
    before, on_days = pl.col("session_date") < run.first, pl.col("session_date").is_in(days)
    released = {
        tables.daily_prices: screened.accepted.filter(before),
        tables.option_prices: options.accepted.filter(before),
    }
    earlier = sorted({day for rows in released.values() for day in rows["session_date"]})
    received_on = {tables.daily_prices: received.prices, tables.option_prices: received.quotes}
    run.write_all(
        [
            (
                table,
                pl.concat(
                    [
                        run.database.read(table, where="session_date = ANY(%s)", params=(earlier,)).join(
                            rows, on=["session_date", "symbol"], how="anti"
                        ),
                        rows,
                        received_on[table].filter(on_days),
                    ]
                ),
            )
            for table, rows in released.items()
        ],
        sessions=[*earlier, *days],
        before_commit=keep_beside_prices(days, actions=actions, revisions=revisions, rejected=refused),
    )


def _coverage_by_session(received: _Received) -> dict[date, dict[str, float]]:
    return {
        row["session_date"]: {"coverage": row["coverage"]} for row in received.inputs["coverage"].iter_rows(named=True)
    }


def _stop(run: SessionRun, received: _Received, written: list[date], failing: date, verdicts: list[Verdict]) -> None:
    """Record what was written and fail the run, naming the session and what is missing."""
    for day in written:
        for name in (tables.daily_prices.name, tables.corporate_actions.name, tables.option_prices.name):
            run.context.log_event(dg.AssetMaterialization(asset_key=name, partition=day.isoformat()))
    row = received.inputs["coverage"].filter(pl.col("session_date") == failing).row(0, named=True)
    missing = received.inputs["missing"].filter(pl.col("session_date") == failing)["symbol"].to_list()
    named = ", ".join(missing[:MISSING_NAMED]) + (", ..." if len(missing) > MISSING_NAMED else "")
    if row["coverage"] == 0:
        advice = (
            f"If the exchange was closed on {failing}, add it to SIGMASIGHT_CLOSED_SESSIONS; otherwise add the prices"
        )
    else:
        advice = "Add the missing prices"
    raise dg.Failure(
        description=(
            f"{failing} has prices of {row['coverage']:.0%} of the {row['needed']} needed symbols, below "
            f"{run.settings.coverage_error:.0%} (missing: {named}). "
            f"{'The sessions of this run before it were written. ' if written else ''}"
            f"{advice} and run from {failing} again."
        ),
        metadata={
            FIRST_FAILING_SESSION: failing.isoformat(),
            "missing_symbols": ", ".join(missing),
            "checks": "; ".join(f"{v.rule.name}: {v.sentence}" for v in verdicts if not v.passed),
        },
        allow_retries=False,
    )


RETURNS = SessionAsset(
    table=tables.daily_returns,
    reads={
        "prices": last_known(tables.daily_prices),
        "actions": until(tables.corporate_actions),
        "trading_sessions": as_of(tables.trading_sessions),
    },
    engine=daily_returns,
    group=GROUP,
    code_version="1",
    rules=[rules.RETURNS_COMPLETE],
    early=True,
    follows_prices=True,
    figures={"symbols": pl.len(), "median_return": pl.col("simple_return").median()},
    description="Splits and dividends included; a return over a gap says how many sessions it spans.",
)

ASSETS = [market_prices, treasury_yields, session_asset(RETURNS)]
