"""Reference assets: portfolios, positions, instruments, factors, scenarios and the calendar. Not partitioned.

What belongs here: materialising what was stated by people (imports) and by the calendar. What does not: parsing files
(``importing``), and market data.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from sigmasight_pipeline.storage.verdicts import current_session, keep

GROUP = "reference"


def _neighbour(days: list[date], index: int) -> date | None:
    return days[index] if 0 <= index < len(days) else None


@dataclass(frozen=True)
class _Step:
    """One step of a reference asset: when it began, what it writes, and what its rules look at beside that."""

    context: dg.AssetExecutionContext
    database: Database
    name: str
    rules: Sequence[Rule]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def finished(
        self, frame: pl.DataFrame, changes: MergeCounts | None, **inputs: pl.DataFrame
    ) -> dg.MaterializeResult[None]:
        """The materialisation of what was written; its verdicts are kept as rows of the current session."""
        now = datetime.now(UTC)
        session = current_session(self.database, now.date())
        judged = Judged(sessions=[session], frame=frame, inputs=inputs, database=self.database)
        verdicts = [rule.verdict(judged) for rule in self.rules]
        if verdicts:
            rows = [verdict.rows(self.name, self.context.run_id, now) for verdict in verdicts]
            keep(self.database, pl.concat(rows))
        progress.report(progress.StepDone(self.name, None, None, frame.height, (now - self.started).total_seconds()))
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
            asset_key=self.name,
            metadata={"dagster/row_count": frame.height, **counts},
            check_results=[verdict.dagster_result(self.name) for verdict in verdicts],
            data_version=dg.DataVersion(content_hash(frame)),
        )


@catalog.reference_asset(
    tables.trading_sessions,
    GROUP,
    more="From the first session of the installation to as far ahead as the calendar library knows. "
    "Unscheduled closures come from the setting SIGMASIGHT_CLOSED_SESSIONS and are never inferred.",
    rules=[rules.HORIZON],
)
def trading_sessions(
    context: dg.AssetExecutionContext, postgres: PostgresResource, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the calendar."""
    step = _Step(context, postgres.database, str(tables.trading_sessions.name), [rules.HORIZON])
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
    return step.finished(frame, changes)


@catalog.reference_asset(
    tables.factor_definitions,
    GROUP,
    more="From the file SIGMASIGHT_FACTORS_FILE names, else the one that ships: exchanging a proxy is one row and a "
    "re-run.",
    rules=rules.FACTOR_DEFINITIONS,
)
def factor_definitions(
    context: dg.AssetExecutionContext, postgres: PostgresResource, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the factor definitions of the user's file, else those the package ships."""
    step = _Step(context, postgres.database, str(tables.factor_definitions.name), rules.FACTOR_DEFINITIONS)
    shipped = resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv")
    with resources.as_file(shipped) as path:
        stated = read_factor_definitions(settings.values.factors_file or path, settings.values.most_file_bytes)
    frame = validate(tables.factor_definitions, stated)
    with postgres.database.connect() as connection:
        changes = merge_rows(
            connection, tables.factor_definitions, frame, key=("factor",), scope=None, delete_missing=True
        )
    return step.finished(frame, changes)


@catalog.reference_asset(
    tables.stress_test_scenarios,
    GROUP,
    more="From the file SIGMASIGHT_SCENARIOS_FILE names, else the one that ships: one more is a few lines of YAML "
    "and a re-run. A scenario with `active: false` is kept and not computed.",
    rules=rules.STRESS_TEST_SCENARIOS,
    deps=[factor_definitions],
)
def stress_test_scenarios(
    context: dg.AssetExecutionContext, postgres: PostgresResource, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write the scenarios of the user's file, else those the package ships."""
    step = _Step(context, postgres.database, str(tables.stress_test_scenarios.name), rules.STRESS_TEST_SCENARIOS)
    factors = postgres.database.read(tables.factor_definitions)
    shipped = resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")
    with resources.as_file(shipped) as path:
        stated = read_scenarios(settings.values.scenarios_file or path, factors=factors)
    frame = validate(tables.stress_test_scenarios, stated)
    with postgres.database.connect() as connection:
        changes = merge_rows(
            connection, tables.stress_test_scenarios, frame, key=("scenario_id",), scope=None, delete_missing=True
        )
    return step.finished(frame, changes, factors=factors)


@catalog.reference_asset(
    tables.portfolios,
    GROUP,
    more="Applies the imports that wait (`sigmasight import`, `sigmasight import-flows`), together with "
    "`portfolio_cash_flows`. The newest net asset value is kept by portfolio_snapshots alone.",
    rules=[rules.EQUITY_POSITIVE],
)
def portfolios(context: dg.AssetExecutionContext, postgres: PostgresResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Apply waiting portfolio headers and cash flows."""
    step = _Step(context, postgres.database, str(tables.portfolios.name), [rules.EQUITY_POSITIVE])
    with postgres.database.connect() as connection:
        changes = imports.apply_portfolios(connection)
    frame = postgres.database.read(tables.portfolios, order_by="portfolio_id")
    return step.finished(frame, changes)


@catalog.reference_asset(
    tables.positions,
    GROUP,
    more="Applies the imports that wait, together with `tags`, `position_tags` and `position_marks`. Unchanged"
    " positions keep their identifiers.",
    rules=rules.POSITION_RULES,
    deps=[portfolios, trading_sessions],
)
def positions(context: dg.AssetExecutionContext, postgres: PostgresResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Apply waiting positions, their tags, and marks."""
    step = _Step(context, postgres.database, str(tables.positions.name), rules.POSITION_RULES)
    with postgres.database.connect() as connection:
        changes = imports.apply_positions(connection)
    frame = postgres.database.read(tables.positions, order_by="position_id")
    return step.finished(frame, changes)


@catalog.reference_asset(
    tables.instruments,
    GROUP,
    more="Every symbol that is held, underlies an option, is a benchmark or a factor proxy, or that the market"
    " data source prices by itself. Sectors of the file SIGMASIGHT_SECTORS_FILE names win over the source's.",
    rules=rules.INSTRUMENTS,
    deps=[positions, factor_definitions],
)
def instruments(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    market_data: MarketDataResource,
    settings: SettingsResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Write what is known of every symbol."""
    step = _Step(context, postgres.database, str(tables.instruments.name), rules.INSTRUMENTS)
    database = postgres.database
    sectors_file = settings.values.sectors_file
    positions_held = database.read(tables.positions)
    owners = database.read(tables.portfolios)
    proxies = database.read(tables.factor_definitions)
    frame = known_instruments(
        positions=positions_held,
        portfolios=owners,
        factors=proxies,
        stored=database.read(tables.instruments),
        source=market_data.source,
        sectors=None if sectors_file is None else read_sectors(sectors_file, settings.values.most_file_bytes),
    )
    frame = validate(tables.instruments, frame)
    with database.connect() as connection:
        changes = merge_rows(connection, tables.instruments, frame, key=("symbol",), scope=None, delete_missing=False)
    return step.finished(frame, changes, positions=positions_held, portfolios=owners, factors=proxies)


ASSETS = [trading_sessions, factor_definitions, stress_test_scenarios, portfolios, positions, instruments]
