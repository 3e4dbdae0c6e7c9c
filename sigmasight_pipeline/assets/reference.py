"""Reference assets: portfolios, positions, instruments, factors, scenarios and the calendar. Not partitioned.

What belongs here: materialising what was stated by people (imports) and by the calendar. What does not: parsing files
(``importing``), and market data.
"""

from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime
from importlib import resources

import dagster as dg
import polars as pl

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import catalog, progress
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.assets.row_hash import content_hash
from sigmasight_pipeline.checks import reference as rules
from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline.checks.schema import validate
from sigmasight_pipeline.importing.scenarios import read_scenarios
from sigmasight_pipeline.market_data.instruments import known_instruments
from sigmasight_pipeline.market_data.stated import read_factor_definitions, read_sectors
from sigmasight_pipeline.storage import imports, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import MergeCounts, merge_rows

GROUP = "reference"


def _neighbour(days: list[date], index: int) -> date | None:
    return days[index] if 0 <= index < len(days) else None


def _finished(
    database: Database,
    name: str,
    frame: pl.DataFrame,
    changes: MergeCounts | None,
    reference_rules: tuple[Rule, ...] = (),
    started: datetime | None = None,
) -> dg.MaterializeResult[None]:
    today = datetime.now(UTC)
    judged = Judged(sessions=[today.date()], frame=frame, inputs={}, database=database)
    seconds = (today - started).total_seconds() if started else 0.0
    progress.report(progress.StepDone(name, None, None, frame.height, seconds))
    counts = (
        {}
        if changes is None
        else {
            "inserted": changes.inserted,
            "updated": changes.updated,
            "deleted": changes.deleted,
            "unchanged": changes.unchanged,
        }
    )
    return dg.MaterializeResult(
        asset_key=name,
        metadata={"dagster/row_count": frame.height, **counts},
        check_results=[rule.verdict(judged).dagster_result(name) for rule in reference_rules],
        data_version=dg.DataVersion(content_hash(frame)),
    )


@catalog.reference_asset(
    tables.trading_sessions,
    GROUP,
    more="From the first session of the installation to as far ahead as the calendar library knows. "
    "Unscheduled closures come from the setting SIGMASIGHT_CLOSED_SESSIONS and are never inferred.",
    rules=[rules.HORIZON],
)
def trading_sessions(postgres: PostgresResource, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the calendar."""
    started = datetime.now(UTC)
    values = settings.values
    known = sessions.calendar()
    closed = set(values.closed_sessions)
    # moving SIGMASIGHT_FIRST_SESSION later must lose nothing: sessions stored before it stay, and stay neighbours
    stored = postgres.database.read(tables.trading_sessions, columns=["session_date"])["session_date"].min()
    first = min(values.first_session, stored) if isinstance(stored, date) else values.first_session
    rows = [s for s in known.sessions if s.session_date >= first]
    open_days = [s.session_date for s in rows if s.session_date not in closed]
    frame = pl.DataFrame(
        [
            {
                "session_date": s.session_date,
                "opens_at": s.opens_at,
                "closes_at": s.closes_at,
                "is_half_day": s.is_half_day,
                "is_closed": s.session_date in closed,
                "previous_session": _neighbour(open_days, bisect_left(open_days, s.session_date) - 1),
                "next_session": _neighbour(open_days, bisect_right(open_days, s.session_date)),
            }
            for s in rows
        ],
        schema=polars_schema(tables.trading_sessions),
    )
    frame = validate(tables.trading_sessions, frame)
    with postgres.database.connect() as connection:
        changes = merge_rows(
            connection,
            tables.trading_sessions,
            frame,
            key=("session_date",),
            scope=None,
            delete_missing=False,
        )
    return _finished(postgres.database, tables.trading_sessions.name, frame, changes, (rules.HORIZON,), started)


@catalog.reference_asset(
    tables.factor_definitions,
    GROUP,
    more="From the file SIGMASIGHT_FACTORS_FILE names, else the one that ships: exchanging a proxy is one row and a "
    "re-run.",
)
def factor_definitions(postgres: PostgresResource, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the factor definitions of the user's file, else those the package ships."""
    started = datetime.now(UTC)
    shipped = resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv")
    with resources.as_file(shipped) as path:
        stated = read_factor_definitions(settings.values.factors_file or path)
    frame = validate(tables.factor_definitions, stated)
    with postgres.database.connect() as connection:
        changes = merge_rows(
            connection, tables.factor_definitions, frame, key=("factor",), scope=None, delete_missing=True
        )
    return _finished(postgres.database, tables.factor_definitions.name, frame, changes, (), started)


@catalog.reference_asset(
    tables.stress_test_scenarios,
    GROUP,
    more="From the file SIGMASIGHT_SCENARIOS_FILE names, else the one that ships: one more is a few lines of YAML "
    "and a re-run. A scenario with `active: false` is kept and not computed.",
    deps=[factor_definitions],
)
def stress_test_scenarios(postgres: PostgresResource, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the scenarios of the user's file, else those the package ships."""
    started = datetime.now(UTC)
    factors = postgres.database.read(tables.factor_definitions)
    shipped = resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")
    with resources.as_file(shipped) as path:
        stated = read_scenarios(settings.values.scenarios_file or path, factors=factors)
    frame = validate(tables.stress_test_scenarios, stated)
    with postgres.database.connect() as connection:
        changes = merge_rows(
            connection, tables.stress_test_scenarios, frame, key=("scenario_id",), scope=None, delete_missing=True
        )
    return _finished(postgres.database, tables.stress_test_scenarios.name, frame, changes, (), started)


@catalog.reference_asset(
    tables.portfolios,
    GROUP,
    more="Applies the imports that wait (`sigmasight import`, `sigmasight import-flows`), together with "
    "`portfolio_cash_flows`. The newest net asset value is kept by portfolio_snapshots alone.",
    rules=[rules.EQUITY_POSITIVE],
)
def portfolios(postgres: PostgresResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Apply waiting portfolio headers and cash flows."""
    started = datetime.now(UTC)
    with postgres.database.connect() as connection:
        changes = imports.apply_portfolios(connection)
    frame = postgres.database.read(tables.portfolios, order_by="portfolio_id")
    return _finished(postgres.database, tables.portfolios.name, frame, changes, (rules.EQUITY_POSITIVE,), started)


@catalog.reference_asset(
    tables.positions,
    GROUP,
    more="Applies the imports that wait, together with `tags`, `position_tags` and `position_marks`. Unchanged"
    " positions keep their identifiers.",
    rules=rules.POSITION_RULES,
    deps=[portfolios, trading_sessions],
)
def positions(postgres: PostgresResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Apply waiting positions, their tags, and marks."""
    started = datetime.now(UTC)
    with postgres.database.connect() as connection:
        changes = imports.apply_positions(connection)
    frame = postgres.database.read(tables.positions, order_by="position_id")
    return _finished(postgres.database, tables.positions.name, frame, changes, rules.POSITION_RULES, started)


@catalog.reference_asset(
    tables.instruments,
    GROUP,
    more="Every symbol that is held, underlies an option, is a benchmark or a factor proxy, or that the market"
    " data source prices by itself. Sectors of the file SIGMASIGHT_SECTORS_FILE names win over the source's.",
    deps=[positions, factor_definitions],
)
def instruments(
    postgres: PostgresResource, market_data: MarketDataResource, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write what is known of every symbol."""
    started = datetime.now(UTC)
    database = postgres.database
    sectors_file = settings.values.sectors_file
    frame = known_instruments(
        positions=database.read(tables.positions),
        portfolios=database.read(tables.portfolios),
        factors=database.read(tables.factor_definitions),
        stored=database.read(tables.instruments),
        source=market_data.source,
        sectors=None if sectors_file is None else read_sectors(sectors_file),
    )
    frame = validate(tables.instruments, frame)
    with database.connect() as connection:
        changes = merge_rows(connection, tables.instruments, frame, key=("symbol",), scope=None, delete_missing=False)
    return _finished(database, tables.instruments.name, frame, changes, (), started)


ASSETS = [trading_sessions, factor_definitions, stress_test_scenarios, portfolios, positions, instruments]
