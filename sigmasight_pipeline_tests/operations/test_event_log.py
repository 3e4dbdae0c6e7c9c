"""The pooled event log stores what Dagster's own class stores, of checks one row a run, and survives what a pool could
break on."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import psycopg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster_postgres.event_log import PostgresEventLogStorage
from polars.testing import assert_frame_equal
from sqlalchemy import select

from sigmasight_pipeline.operations.dagster_storage import PooledRunStorage
from sigmasight_pipeline.operations.event_log import PooledEventLogStorage
from sigmasight_pipeline.operations.instance import dagster_storage_url
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.operations.instances import DAGSTER_CLASS, PROJECT_CLASS, fresh_instance

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
JUDGED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
RANGE = {RANGE_START_TAG: "2024-01-03", RANGE_END_TAG: "2024-01-09"}
BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=252)
CHECKS = ("always", "never", "warned")


@dg.asset
def book() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    return dg.MaterializeResult(metadata={"rows": 3}, tags={"kind": "reference"}, data_version=dg.DataVersion("1"))


@dg.multi_asset(
    specs=[dg.AssetSpec(name, partitions_def=DAYS, deps=[book]) for name in ("prices", "quotes")],
    check_specs=[dg.AssetCheckSpec(name, asset="prices") for name in CHECKS],
    backfill_policy=BACKFILL,
)
def market(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]  # as above
    for key in context.partition_keys:
        context.add_asset_metadata({"dagster/row_count": len(key)}, "prices", partition_key=key)
    passed = {"always": True, "never": False, "warned": False}
    yield dg.MaterializeResult(
        asset_key="prices",
        check_results=[
            dg.AssetCheckResult(check_name=name, passed=passed[name], severity=dg.AssetCheckSeverity.WARN)
            for name in CHECKS
        ],
    )
    context.log_event(dg.AssetObservation("prices", partition="2024-01-03", metadata={"seen": 1}))
    yield dg.MaterializeResult(asset_key="quotes")


@dg.asset(
    partitions_def=DAYS,
    deps=["prices"],
    backfill_policy=BACKFILL,
    check_specs=[dg.AssetCheckSpec("unreached", asset="broken")],
)
def broken() -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    raise dg.Failure("this asset always fails", metadata={"reason": "to have failure events"})


@dg.asset(partitions_def=DAYS, deps=[broken], backfill_policy=BACKFILL)
def skipped() -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    return dg.MaterializeResult()


DEFINITIONS = dg.Definitions(
    assets=[book, market, broken, skipped],
    jobs=[
        dg.define_asset_job("once", selection=[book]),
        dg.define_asset_job("ranged", selection=[market, broken, skipped], partitions_def=DAYS),
    ],
    executor=dg.in_process_executor,
)

STORED = {
    # what was stored, in order; not when, nor by which run
    "events of the run": "SELECT dagster_event_type, step_key, asset_key, partition FROM event_logs "
    "WHERE step_key IS NULL ORDER BY id",
    "events by step": "SELECT step_key, dagster_event_type, asset_key, partition FROM event_logs "
    "WHERE step_key IS NOT NULL ORDER BY step_key, id",
    "assets": "SELECT asset_key, e.dagster_event_type, e.partition, a.last_materialization IS NULL AS never, "
    "a.wipe_timestamp, a.tags, a.last_run_id = e.run_id AS by_that_run, "
    "a.last_materialization_timestamp > now() - interval '1 hour' AS recent FROM asset_keys a "
    "JOIN LATERAL (SELECT * FROM event_logs e WHERE e.asset_key = a.asset_key ORDER BY id DESC LIMIT 1) e "
    "USING (asset_key) ORDER BY 1",
    # what Dagster's class plans and never evaluates is the one difference
    "checks": "SELECT asset_key, check_name, partition, execution_status, "
    "(SELECT e.event = evaluation_event FROM event_logs e WHERE e.id = evaluation_event_storage_id) AS the_event, "
    "materialization_event_storage_id IS NULL AS untargeted FROM asset_check_executions "
    "WHERE execution_status <> 'PLANNED' ORDER BY evaluation_event_storage_id",
    "tags": "SELECT t.asset_key, t.key, e.partition, e.dagster_event_type FROM asset_event_tags t "
    "JOIN event_logs e ON e.id = t.event_id WHERE t.key <> 'dagster/input_event_pointer' ORDER BY 1, 2, 3, e.id",
    "slots": "SELECT count(*) FROM concurrency_slots",
}


def stored(instance: dg.DagsterInstance) -> dict[str, pl.DataFrame]:
    """What the three runs left in the event log's tables."""
    url = instance.event_log_storage.postgres_url.replace("+psycopg2", "")  # type: ignore[attr-defined]  # both classes have it
    with psycopg.connect(url) as connection:
        found = {}
        for name, query in STORED.items():
            cursor = connection.execute(query)
            columns = [column.name for column in cursor.description or ()]
            found[name] = pl.DataFrame(cursor.fetchall(), schema=columns, orient="row", infer_schema_length=None)
        return found


def run_everything(instance: dg.DagsterInstance) -> None:
    """One run without partitions, one over a range in which an asset fails, one of a single partition."""
    runs = [("once", {}), ("ranged", RANGE), ("ranged", {"dagster/partition": "2024-01-10"})]
    for job, tags in runs:
        result = DEFINITIONS.resolve_job_def(job).execute_in_process(
            instance=instance,
            tags=tags,
            partition_key=tags.get("dagster/partition"),
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert result.success == (job == "once")


def check_rows(log: PostgresEventLogStorage) -> list[tuple[str, str, str | None]]:
    """Name, status and partition of every check's row, in order."""
    table = AssetCheckExecutionsTable
    with log.index_connection() as connection:
        chosen = select(table.c.check_name, table.c.execution_status, table.c.partition).order_by(table.c.id)
        return [(name, status, partition) for name, status, partition in connection.execute(chosen)]


def asked(log: PostgresEventLogStorage) -> dict[str, object]:
    """What Dagster reads back of it."""
    checks = [dg.AssetCheckKey(dg.AssetKey("prices"), name) for name in CHECKS]
    latest = log.get_latest_asset_check_execution_by_key(checks)
    return {
        "materialised": [log.get_materialized_partitions(dg.AssetKey(name)) for name in ("prices", "quotes", "broken")],
        "assets": sorted(record.asset_entry.asset_key.to_string() for record in log.get_asset_records()),
        "checks": {key.name: (record.status, record.partition) for key, record in latest.items()},
        "history": {
            key.name: len(log.get_asset_check_execution_history(key, limit=100, status=JUDGED)) for key in checks
        },
        "rows": log.get_latest_storage_id_by_partition(
            dg.AssetKey("prices"), dg.DagsterEventType.ASSET_MATERIALIZATION
        ).keys(),
    }


def test_it_stores_what_dagsters_own_class_stores(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    left, answers = {}, {}
    for storage in (PROJECT_CLASS, DAGSTER_CLASS):
        with fresh_instance(server, tmp_path / storage[1], monkeypatch, storage) as instance:
            log = instance.event_log_storage
            assert type(log) is {PROJECT_CLASS: PooledEventLogStorage, DAGSTER_CLASS: PostgresEventLogStorage}[storage]
            run_everything(instance)
            left[storage], answers[storage] = stored(instance), asked(log)
    for name, frame in left[DAGSTER_CLASS].items():
        assert not frame.is_empty(), name
        assert_frame_equal(left[PROJECT_CLASS][name], frame)
    assert answers[PROJECT_CLASS] == answers[DAGSTER_CLASS]
    # a batch that cannot be stored is stored event by event, which is right and slow
    assert "Falling back" not in "".join(capfd.readouterr())


def test_a_run_leaves_one_row_per_check_and_none_that_was_not_evaluated(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as instance:
        log = instance.event_log_storage
        assert isinstance(log, PooledEventLogStorage)
        during: list[list[tuple[str, str, str | None]]] = []

        @dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL, check_specs=[dg.AssetCheckSpec("seen", asset="looks")])
        def looks() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
            during.append(check_rows(log))
            return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="seen", passed=len(during) > 1)])

        job = dg.Definitions(assets=[looks], executor=dg.in_process_executor).resolve_implicit_global_asset_job_def()
        for tags in (RANGE, RANGE, {"dagster/partition": "2024-01-10"}):
            assert job.execute_in_process(instance=instance, tags=tags).success
        # while the run is on its way the check is planned: the UI shows that it is being executed
        planned = [rows[-1] for rows in during]
        assert planned == [("seen", "PLANNED", None)] * 3
        assert check_rows(log) == [("seen", verdict, None) for verdict in ("FAILED", "SUCCEEDED", "SUCCEEDED")]
        run_everything(instance)  # a check that is not reached in its second and third run
        assert [row for row in check_rows(log) if row[0] == "unreached" or row[1] == "PLANNED"] == []


@pytest.mark.parametrize("ended", [dg.DagsterInstance.report_run_failed, dg.DagsterInstance.report_run_canceled])
def test_what_a_lost_run_planned_is_gone_once_somebody_says_that_it_is_lost(
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended: Callable[[dg.DagsterInstance, dg.DagsterRun], object],
) -> None:
    """Killed runs say nothing themselves: run monitoring does."""
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as instance:
        log = instance.event_log_storage
        assert isinstance(log, PooledEventLogStorage)
        job = DEFINITIONS.resolve_job_def("ranged")
        runs = [instance.create_run_for_job(job, tags=RANGE, status=dg.DagsterRunStatus.STARTED) for _ in range(2)]
        names = sorted([*CHECKS, "unreached"])
        assert sorted(name for name, _, _ in check_rows(log)) == sorted(names * 2)
        ended(instance, runs[0])
        assert sorted(check_rows(log)) == [(name, "PLANNED", None) for name in names]  # the other run's


def pooled(url: str) -> PooledEventLogStorage:
    return PooledEventLogStorage(dagster_storage_url(url))


def event(step: str) -> dg.EventLogEntry:
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]  # Dagster's
        error_info=None, user_message=step, level="info", run_id="a run", timestamp=1_700_000_000.0, step_key=step
    )


def steps(log: PooledEventLogStorage) -> list[str | None]:
    return [entry.step_key for entry in log.get_logs_for_run("a run")]


def test_a_server_that_restarts_between_two_events_costs_no_event_and_no_run(home: Path) -> None:
    server = EmbeddedServer(home)
    with server.shared():
        log = pooled(server.url("dagster"))
        runs = PooledRunStorage(dagster_storage_url(server.url("dagster")))
        log.store_event(event("before"))
        runs.add_run(dg.DagsterRun(job_name="before"))
        for storage in (log, runs):
            assert "Connections in pool: 1" in storage._engine.pool.status(), (
                "no connection was kept, so the restart proves nothing"
            )
        server.stop()
        server.start()
        log.store_event(event("after"))
        runs.add_run(dg.DagsterRun(job_name="after"))
        assert steps(log) == ["before", "after"]
        assert {run.job_name for run in runs.get_runs()} == {"before", "after"}
        log.dispose()
        runs.dispose()


def test_several_processes_may_create_its_tables_at_once(database_url: str) -> None:
    at_once, failures = threading.Barrier(4), []

    def create(number: int) -> None:
        at_once.wait()
        try:
            log = pooled(database_url)
            log.store_event(event(f"step {number}"))
            log.dispose()
        except Exception as error:  # noqa: BLE001 - whatever a thread meets is the test's to report
            failures.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    log = pooled(database_url)
    assert sorted(map(str, steps(log))) == [f"step {number}" for number in range(4)]
    log.dispose()


def test_dispose_leaves_no_connection_behind(database_url: str) -> None:
    log, runs = pooled(database_url), PooledRunStorage(dagster_storage_url(database_url))
    log.store_event(event("one"))
    runs.add_run(dg.DagsterRun(job_name="one"))
    log.dispose()
    runs.dispose()
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row == (0,)
