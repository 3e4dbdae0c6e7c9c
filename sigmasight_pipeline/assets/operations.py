"""What the pipeline keeps about itself: whether everything that should be there is, and what others record of it.

What belongs here: the asset `calculation_audit`, and the assets whose rows are written beside runs (verdicts of checks,
ended runs). What does not: what should be there (``calculations.completeness``) and what is done about what is not
(``operations.gaps``).
"""

from collections.abc import Collection, Sequence
from datetime import date

import dagster as dg
import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.calculations import completeness
from sigmasight_pipeline.calculations.estimation_windows import SHORT_WINDOWS
from sigmasight_pipeline.calculations.estimation_windows import short_windows as windows_cut_short
from sigmasight_pipeline.calculations.factor_returns import PROXY_KINDS
from sigmasight_pipeline.checks import operations as rules
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import counting, look_back, retention, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import newest_priced_session
from sigmasight_pipeline.storage.windows import as_of, on_sessions

GROUP = "operations"

AUDIT_VERSION = "2"

ALL_PORTFOLIOS = completeness.ALL_PORTFOLIOS


def _tables(engines: Sequence[completeness.Engine]) -> tuple[Table, ...]:
    return tuple(tables.named(engine.name) for engine in engines)


PORTFOLIO_TABLES = _tables(completeness.PORTFOLIO_ENGINES)
SYMBOL_TABLES = _tables(completeness.SYMBOL_ENGINES)

_REFERENCE = (
    tables.trading_sessions,
    tables.portfolios,
    tables.positions,
    tables.instruments,
    tables.factor_definitions,
    tables.stress_test_scenarios,
)


def short_windows(
    database: Database, settings: Settings, calendar: pl.DataFrame, factors: pl.DataFrame, first: date, last: date
) -> pl.DataFrame:
    """Sessions from `first` to `last` whose betas used fewer returns than are stored (``estimation_windows``).

    Judged by the first factor that has a proxy: a look-back that is not there is missing for all of them.
    """
    proxied = factors.filter("active", pl.col("kind").is_in(PROXY_KINDS)).drop_nulls("proxy_symbol")
    if proxied.is_empty():
        return pl.DataFrame(schema=SHORT_WINDOWS)
    factor, proxy = proxied.sort("display_order", "factor").select("factor", "proxy_symbol").row(0)
    estimated = look_back.estimated(database, factor, first, last)
    if estimated.is_empty():
        return pl.DataFrame(schema=SHORT_WINDOWS)
    opened = calendar.filter(~pl.col("is_closed") & (pl.col("session_date") <= first))["session_date"].sort()
    begin = opened.tail(settings.regression_window).min()
    returns = look_back.one_session_returns(database, begin if isinstance(begin, date) else first, last)
    return windows_cut_short(estimated, returns, calendar, proxy=proxy, window=settings.regression_window)


def world(database: Database, settings: Settings, first: date, last: date) -> completeness.World:
    """What is expected from `first` to `last` is made of this."""
    calendar = database.read(tables.trading_sessions)
    factors = database.read(tables.factor_definitions)
    newest = newest_priced_session(database)
    days = calendar.filter(pl.col("session_date").is_between(first, last)).get_column("session_date")
    return completeness.World(
        calendar=calendar,
        portfolios=database.read(tables.portfolios),
        positions=database.read(tables.positions),
        instruments=database.read(tables.instruments),
        factors=factors,
        scenarios=database.read(tables.stress_test_scenarios),
        correlated=counting.correlated(database, first, last),
        priced=counting.returning_symbols(database, first, last),
        first_yield=counting.first_yield(database),
        unpriced=frozenset(days if newest is None else days.filter(days > newest)),
        kept_from=retention.kept_from(database),
        short=short_windows(database, settings, calendar, factors, first, last),
    )


def expected_rows(database: Database, settings: Settings, sessions: Sequence[date]) -> pl.DataFrame:
    """What should be there of `sessions`, see ``completeness.expected_rows``."""
    found = world(database, settings, min(sessions), max(sessions))
    return completeness.expected_rows(sessions, found, coverage_warning=settings.coverage_warning)


def audit(
    database: Database, settings: Settings, sessions: Sequence[date], portfolio_ids: Collection[int] | None = None
) -> pl.DataFrame:
    """Rows of ``calculation_audit`` of `sessions` (and portfolios) without provenance, by what is stored now."""
    found = world(database, settings, min(sessions), max(sessions))
    before = found.calendar.filter(pl.col("session_date") < min(sessions)).get_column("session_date").max()
    counted = counting.row_counts(
        database,
        (*PORTFOLIO_TABLES, *SYMBOL_TABLES),
        before if isinstance(before, date) else min(sessions),
        max(sessions),
        portfolio_ids,
    )
    expected = completeness.expected_rows(sessions, found, coverage_warning=settings.coverage_warning)
    if portfolio_ids is not None:
        expected = expected.filter(pl.col("portfolio_id").is_in([*portfolio_ids, ALL_PORTFOLIOS]))
    return completeness.audited(expected, counted, found)


@catalog.partitioned_asset(
    tables.calculation_audit,
    GROUP,
    more="Written last in every run, also where nothing is missing. A run restricted to some portfolios renews their "
    "rows and those of engines that work by symbol.",
    engine=completeness.audited,
    rules=rules.CALCULATION_AUDIT,
    deps=catalog.dependencies(
        [*map(as_of, _REFERENCE), *(on_sessions(table) for table in (*PORTFOLIO_TABLES, *SYMBOL_TABLES))]
    ),
    code_version=AUDIT_VERSION,
    filtered=True,
)
def calculation_audit(
    context: dg.AssetExecutionContext,
    config: PortfolioConfig,
    postgres: PostgresResource,
    settings: SettingsResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Count what is there, compare it with what should be."""
    run = SessionRun(
        context,
        postgres.database,
        settings.values,
        tables.calculation_audit,
        code_version=AUDIT_VERSION,
        portfolios=config.portfolios,
    )
    newest = newest_priced_session(run.database)
    run.leave_waiting([day for day in run.sessions if newest is None or day > newest], newest)
    frame = audit(run.database, run.settings, run.requested, run.portfolio_ids)
    run.moved = None  # a count that is renewed is no figure that moved
    if run.portfolio_ids is not None:
        run.portfolio_ids = [*run.portfolio_ids, ALL_PORTFOLIOS]
    frame = run.write(run.stamped(frame))
    verdicts = run.judge(rules.CALCULATION_AUDIT, frame, {"portfolios": run.database.read(tables.portfolios)})
    share = pl.col("status").filter(pl.col("status") != "not_expected")
    run.annotate(
        frame,
        {
            "share_complete": (share == "complete").mean(),
            "missing": (pl.col("status") == "missing").sum(),
            "partial": (pl.col("status") == "partial").sum(),
        },
    )
    return run.result(frame.drop("oldest_computed_at"), verdicts)


ASSETS = [calculation_audit]


def _kept_beside(table: Table, more: str, deps: Collection[dg.AssetDep] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        str(table.name),
        description=catalog.described(table, more),
        deps=list(deps),
        **catalog.shown(table, GROUP, grain="run", code_version="1"),
    )


EXTERNAL = [
    _kept_beside(
        tables.data_quality_results,
        "Written by the step of every asset for the rules that judged it; a later run's verdict stands beside an "
        "earlier one's.",
        catalog.dependencies(
            [on_sessions(table) for table in (*PORTFOLIO_TABLES, *SYMBOL_TABLES, tables.calculation_audit)]
        ),
    ),
    _kept_beside(
        tables.batch_runs,
        "Written by the sensor `run_status` and by the commands that run something.",
    ),
]
"""Tables that are no asset's result: they are shown with what they are made of, and nothing materialises them."""
