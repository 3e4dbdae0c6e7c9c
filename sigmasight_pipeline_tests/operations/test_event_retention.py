"""Old rows of Dagster's tables go; what its UI shows of the newest state stays, whenever the removal is stopped."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sigmasight_pipeline.operations.event_log import PooledEventLogStorage
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG
from sigmasight_pipeline.storage import event_retention
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.event_retention import Removed
from sigmasight_pipeline_tests.operations.instances import DAGSTER_CLASS, fresh_instance

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=252)
VALUES, BROKEN, BOOK = (dg.AssetKey(name) for name in ("values", "sometimes", "book"))
CHECK = dg.AssetCheckKey(VALUES, "positive")


class Rows(dg.Config):
    rows: int = 1
    fails: bool = False


@dg.asset
def book() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset(
    name="values",
    partitions_def=DAYS,
    backfill_policy=BACKFILL,
    check_specs=[dg.AssetCheckSpec("positive", asset="values")],
)
def values_(context: dg.AssetExecutionContext, config: Rows) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    for key in context.partition_keys:
        context.add_asset_metadata({"dagster/row_count": config.rows}, partition_key=key)
    context.log_event(
        dg.AssetObservation("values", partition=context.partition_keys[0], metadata={"seen": config.rows})
    )
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="positive", passed=config.rows > 1)])


@dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL)
def sometimes(config: Rows) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    if config.fails:
        raise dg.Failure("this one fails")
    return dg.MaterializeResult(metadata={"rows": config.rows})


DEFINITIONS = dg.Definitions(
    assets=[book, values_, sometimes],
    jobs=[
        dg.define_asset_job("once", selection=[book]),
        dg.define_asset_job("ranged", selection=[values_, sometimes], partitions_def=DAYS),
    ],
    executor=dg.in_process_executor,
)


def run(instance: dg.DagsterInstance, first: str, last: str, *, rows: int, fails: bool = False) -> str:
    config = {name: {"config": {"rows": rows, "fails": fails}} for name in ("values", "sometimes")}
    tags = {RANGE_START_TAG: first, RANGE_END_TAG: last} if first != last else {"dagster/partition": first}
    job = DEFINITIONS.resolve_job_def("ranged")
    return job.execute_in_process(instance=instance, tags=tags, run_config={"ops": config}, raise_on_error=False).run_id


@pytest.fixture
def instance(server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as made:
        yield made


def url(instance: dg.DagsterInstance) -> str:
    log = instance.event_log_storage
    return str(log.postgres_url).replace("+psycopg2", "")  # type: ignore[attr-defined]  # both classes have it


def state(instance: dg.DagsterInstance) -> dict[str, object]:
    """What the UI shows of assets, partitions and checks."""
    log = instance.event_log_storage
    found: dict[str, object] = {}
    for key in (VALUES, BROKEN, BOOK):
        records = instance.fetch_materializations(key, limit=1000).records
        newest: dict[str | None, object] = {}
        for record in records:  # the newest first
            shown = record.asset_materialization
            assert shown is not None
            newest.setdefault(record.partition_key, (record.storage_id, record.run_id, shown.metadata, shown.tags))
        observed = instance.fetch_observations(key, limit=1000).records
        seen = {one.partition_key: one.storage_id for one in reversed(observed)}
        attempts = log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        found |= {
            f"{key} materialised": log.get_materialized_partitions(key),
            f"{key} failed or under way": attempts,
            f"{key} newest": newest,
            f"{key} observed": seen,
            f"{key} row": [
                (record.asset_entry.last_materialization, record.asset_entry.last_run_id)
                for record in log.get_asset_records([key])
            ],
        }
        for _, run_id, *_ in newest.values():  # type: ignore[misc]  # a tuple
            assert instance.get_run_by_id(run_id) is not None, "the UI links to a run that is not there"
    (latest,) = log.get_latest_asset_check_execution_by_key([CHECK]).values()
    found["check"] = (latest.id, latest.status, latest.event)
    return found


def everything(instance: dg.DagsterInstance) -> dict[str, int]:
    names = ("runs", "run_tags", "event_logs", "asset_event_tags", "asset_check_executions", "job_ticks")
    with psycopg.connect(url(instance)) as connection:
        return {name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()[0][0] for name in names}


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def removed(instance: dg.DagsterInstance, before: datetime, *, dry_run: bool = False) -> Removed:
    runs = event_retention.old_runs(url(instance), before=before)
    parts = event_retention.remove(url(instance), runs, before=before, dry_run=dry_run)
    return sum(parts, Removed())


def history(instance: dg.DagsterInstance) -> list[str]:
    """A range computed twice, the second time further; then a session that fails, and one that is replaced."""
    DEFINITIONS.resolve_job_def("once").execute_in_process(instance=instance)
    return [
        run(instance, "2024-01-02", "2024-01-06", rows=1),
        run(instance, "2024-01-02", "2024-01-09", rows=2),
        run(instance, "2024-01-04", "2024-01-04", rows=3, fails=True),
        run(instance, "2024-01-05", "2024-01-05", rows=4),
    ]


def test_the_newest_state_stays_and_what_nothing_is_left_of_goes(instance: dg.DagsterInstance) -> None:
    superseded, *kept = history(instance)
    before, rows = state(instance), everything(instance)
    assert removed(instance, datetime.now(UTC) - timedelta(days=1)) == Removed(), "nothing is as old as that"
    shown = removed(instance, later(), dry_run=True)
    assert everything(instance) == rows, "a dry run removes nothing"
    assert removed(instance, later()) == shown
    left = everything(instance)
    assert shown.events == rows["event_logs"] - left["event_logs"]
    assert shown.verdicts == rows["asset_check_executions"] - left["asset_check_executions"] == 3
    assert left["asset_event_tags"] < rows["asset_event_tags"]
    assert shown.runs == 1
    assert not instance.has_run(superseded)
    assert all(instance.has_run(run_id) for run_id in kept)
    assert state(instance) == before
    # what a kept run says of itself as a whole
    kinds = [entry.dagster_event_type for entry in instance.all_logs(kept[0]) if entry.is_dagster_event]
    assert kinds[0] is dg.DagsterEventType.RUN_START
    assert dg.DagsterEventType.STEP_START not in kinds
    assert kinds[-1] is dg.DagsterEventType.RUN_SUCCESS
    assert removed(instance, later()) == Removed(), "a second time there is nothing left to remove"


def test_stopped_after_any_commit_the_state_is_whole_and_the_next_one_goes_on(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_retention, "RUNS_AT_A_TIME", 1)
    history(instance)
    before = state(instance)
    runs = event_retention.old_runs(url(instance), before=later())
    for stop in range(1, len(runs) + 2):
        steps = event_retention.remove(url(instance), runs, before=later())
        for _ in range(stop):
            next(steps)
        steps.close()  # type: ignore[attr-defined]  # a generator: as a kill between two transactions
        assert state(instance) == before
    assert removed(instance, later()) == Removed(), "the last of them went to the end"


def test_a_run_under_way_is_left_alone(instance: dg.DagsterInstance) -> None:
    history(instance)
    job = DEFINITIONS.resolve_job_def("ranged")
    tags = {RANGE_START_TAG: "2024-01-02", RANGE_END_TAG: "2024-01-03"}
    alive = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    planned = len(instance.all_logs(alive.run_id))
    assert planned
    removed(instance, later())
    assert len(instance.all_logs(alive.run_id)) == planned
    (latest,) = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK]).values()
    assert (latest.run_id, latest.status.value) == (alive.run_id, "PLANNED")


def test_the_newest_tick_of_every_sensor_stays(instance: dg.DagsterInstance) -> None:
    with psycopg.connect(url(instance)) as connection:
        for selector in ("one", "other"):
            for number in range(3):
                connection.execute(
                    "INSERT INTO job_ticks (job_origin_id, selector_id, status, type, timestamp, tick_body) "
                    "VALUES (%s, %s, 'SKIPPED', 'SENSOR', %s, '{}')",
                    (selector, selector, datetime(2024, 1, 1 + number)),  # noqa: DTZ001  # Dagster's column has no zone
                )
    assert removed(instance, later()).ticks == 4
    with psycopg.connect(url(instance)) as connection:
        left = connection.execute("SELECT selector_id, timestamp FROM job_ticks ORDER BY 1").fetchall()
    assert left == [(name, datetime(2024, 1, 3)) for name in ("one", "other")]  # noqa: DTZ001  # as above


def test_rows_earlier_versions_left_are_removed_once(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """Planned by partition, as Dagster's own class does it; verdicts, and what a living run planned, stay."""
    assert event_retention.remove_rows_of_earlier_versions(database_url) == 0, "Dagster has no tables there yet"
    monkeypatch.setattr(event_retention, "COMPACTED_ROWS", 1)
    with fresh_instance(server, tmp_path / "instance", monkeypatch, DAGSTER_CLASS) as instance:
        run(instance, "2024-01-02", "2024-01-06", rows=2)
        job = DEFINITIONS.resolve_job_def("ranged")
        alive = instance.create_run_for_job(
            job, tags={"dagster/partition": "2024-01-04"}, status=dg.DagsterRunStatus.STARTED
        )
        rows = everything(instance)["asset_check_executions"]
        assert rows == 5 + 1 + 1
        assert event_retention.remove_rows_of_earlier_versions(url(instance)) == 5
        assert event_retention.remove_rows_of_earlier_versions(url(instance)) == 0
        latest = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=10)
        assert [(one.run_id == alive.run_id, one.status.value) for one in latest] == [
            (True, "PLANNED"),
            (False, "SUCCEEDED"),
        ]
        # the class that came after it clears the rest when that run ends
        log = PooledEventLogStorage(instance.event_log_storage.postgres_url)  # type: ignore[attr-defined]  # has it
        instance.report_run_failed(alive)
        log._forget_planned_checks(alive.run_id)
        assert len(log.get_asset_check_execution_history(CHECK, limit=10)) == 1
        log.dispose()
