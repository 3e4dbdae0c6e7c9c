"""Small real jobs for tests of operations: a chain of two session assets and one without partitions, made to order.

What belongs here: assets that succeed, fail, or stop a range at a session as market data does, and databases for them.
What does not: assertions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets.market_data import FIRST_FAILING_SESSION
from sigmasight_pipeline.assets.partitions import session_partitions
from sigmasight_pipeline.storage import schema
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_database

DAYS = session_partitions(sessions.calendar().on_or_after(date(2024, 1, 2)))
BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=252)
UNPRICED = "2024-02-06"
"""The session at which `prices` stops a range."""
BROKEN = "2024-03-04"
"""The session at which `values` raises."""


class Portfolios(dg.Config):
    portfolios: list[str] = []  # noqa: RUF012  # Dagster's configuration, copied for every run


@dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL, tags={"filter": "portfolio"})
def position_values(context: dg.AssetExecutionContext, config: Portfolios) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    """Named like a real asset, so that a filter is configured for it."""
    keys = list(context.partition_keys)
    if UNPRICED in keys:
        raise dg.Failure(f"{UNPRICED} has no prices", metadata={FIRST_FAILING_SESSION: UNPRICED}, allow_retries=False)
    if BROKEN in keys:
        raise ValueError("the database went away")
    return dg.MaterializeResult(metadata={"portfolios": ", ".join(config.portfolios)})


@dg.asset(check_specs=[dg.AssetCheckSpec("complete", asset="portfolios", blocking=True)])
def portfolios() -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                passed=False, check_name="complete", description="one is missing", severity=dg.AssetCheckSeverity.ERROR
            )
        ]
    )


TOY = dg.Definitions(
    assets=[position_values, portfolios],
    jobs=[
        dg.define_asset_job("daily", selection=[position_values], partitions_def=DAYS),
        dg.define_asset_job("reference", selection=[portfolios]),
    ],
    executor=dg.in_process_executor,
)


@contextmanager
def migrated(server: EmbeddedServer) -> Iterator[Database]:
    """A migrated database of the caller's own, dropped afterwards."""
    with temporary_database(server) as url:
        schema.upgrade(url)
        database = Database(url)
        try:
            yield database
        finally:
            database.close()
