"""Dagster's PostgreSQL event log with pooled connections, planned events in bulk, and one row per check and run.

What belongs here: the storage class named in ``dagster.yaml``: what makes it faster, and which rows a planned check
leaves. What does not: removing old rows (``storage.event_retention``). The tables are Dagster's own, so that the class
can be dropped at any time by naming ``PostgresEventLogStorage`` in ``dagster.yaml``.

Why: a range run of 10 assets x 252 sessions with three checks each writes some 5,000 events. Dagster 1.13 opens a
connection for each, stores planned events one by one, and serialises a planned check once per partition; the same run
took 31 s with its class and 6 s with this one (2 cores, shared with other work).

Planned checks: Dagster 1.13 stores one row per check and partition of the run, and of a range one evaluation without
a partition; the planned rows are never touched again. They were 38,034 of the 38,249 rows after the demo (74 MB), and
the history of a check showed one verdict among 252 "Skipped". Here a run leaves one row per check: planned when the run
is created, its verdict once there is one, and gone when the run ends without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from dagster import AssetKey, DagsterEventType, PartitionsDefinition
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import ARRAY, Connection, cast, func, select

from sigmasight_pipeline.dagster_internals import (
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    AssetStatusCacheValue,
    EventLogEntry,
    LoadingContext,
    SqlEventLogStorageTable,
    check,
    serialize_value,
)
from sigmasight_pipeline.operations import dagster_repairs
from sigmasight_pipeline.operations.dagster_storage import KeepsConnections, lent
from sigmasight_pipeline.operations.partition_lookup import answer_at_once

dagster_repairs.newest_partitions_end_with_the_history()

RUN_ENDS = frozenset({DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED})
"""The last event of a run, one of these."""


class PooledEventLogStorage(KeepsConnections, PostgresEventLogStorage):
    """PostgresEventLogStorage that keeps connections open and stores planned events in bulk."""

    def _connect(self) -> AbstractContextManager[Connection]:
        return lent(self._engine, self.postgres_url)

    def get_asset_status_cache_values(
        self,
        partitions_defs_by_key: Iterable[tuple[AssetKey, PartitionsDefinition[str] | None]],
        context: LoadingContext,
    ) -> Sequence[AssetStatusCacheValue | None]:
        """The parent's, which asks of every partition whether it is one."""
        pairs = list(partitions_defs_by_key)
        for _, definition in pairs:
            answer_at_once(definition)
        return super().get_asset_status_cache_values(pairs, context)

    @cached_property
    def _seen(self) -> set[str]:
        return set()

    def has_table(self, table_name: str) -> bool:
        """The parent's answer, asked until it is yes: Dagster asks with every event, and tables do not go away."""
        return self._once(table_name, lambda: super(PooledEventLogStorage, self).has_table(table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        parent = super()._has_asset_key_col_on_connection
        return self._once(f"asset_keys.{column_name}", lambda: parent(conn, column_name))

    def _once(self, name: str, ask: Callable[[], bool]) -> bool:
        """Whether `name` exists, as `ask` said it does once."""
        if name not in self._seen and ask():
            self._seen.add(name)
        return name in self._seen

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store planned materialisations with one INSERT; everything else as the parent does."""
        planned: list[EventLogEntry] = []
        others: list[EventLogEntry] = []
        for event in events:
            kind = event.dagster_event_type
            (planned if kind == DagsterEventType.ASSET_MATERIALIZATION_PLANNED else others).append(event)
        if planned:
            self._store_planned_materializations(planned)
        if others:
            super().store_event_batch(others)

    def prepare_insert_event_batch(self, events: Sequence[EventLogEntry]) -> Any:
        """The parent's rows, a column at a time: a statement with a parameter per value takes longer to compile."""
        rows = [self._event_to_row(event) for event in events]
        columns = [SqlEventLogStorageTable.c[name] for name in rows[0]]
        # by position: rows are stored, and their identifiers returned, in this order
        arrays = (cast([row[column.name] for row in rows], ARRAY(column.type)) for column in columns)
        values = func.unnest(*arrays).table_valued(*rows[0]).render_derived()
        return SqlEventLogStorageTable.insert().from_select(list(rows[0]), select(*values.c))

    def _store_planned_materializations(self, events: Sequence[EventLogEntry]) -> None:
        insert = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        with self._connect() as connection:
            event_ids = [int(row[0]) for row in connection.execute(insert)]
        # the asset's own row only ever shows its newest event
        newest = {
            event.get_dagster_event().asset_key: (event, event_id)
            for event, event_id in zip(events, event_ids, strict=True)
        }
        with self.index_transaction() as connection:
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event as the parent does; after the last one of a run, no check of it is planned any more."""
        super().store_event(event)
        if event.is_dagster_event and event.dagster_event_type in RUN_ENDS:
            self._forget_planned_checks(event.run_id)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """One row without a partition: that is the one the evaluation of a range will be stored in."""
        planned = check.inst(event.get_dagster_event().event_specific_data, AssetCheckEvaluationPlanned)
        with self.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.insert().values(
                    asset_key=planned.asset_key.to_string(),
                    check_name=planned.check_name,
                    partition=None,
                    run_id=event.run_id,
                    execution_status=AssetCheckExecutionRecordStatus.PLANNED.value,
                    evaluation_event=serialize_value(event),
                    evaluation_event_timestamp=self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]  # Dagster's
                    evaluation_event_storage_id=event_id,
                )
            )

    def _forget_planned_checks(self, run_id: str) -> None:
        """Remove what `run_id` planned to check and did not: the newest verdict of such a check is an earlier one's."""
        table = AssetCheckExecutionsTable
        planned = table.c.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value
        with self.index_connection() as connection:
            connection.execute(table.delete().where(table.c.run_id == run_id, planned))
