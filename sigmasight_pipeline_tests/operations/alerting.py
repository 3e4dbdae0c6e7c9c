"""Failures and who is told of them: rows of every kind of failure, and a sensor that ticks when it is told.

What belongs here: what the tests of alerts set up and read. What does not: assertions about alerts, and the receivers
(``receivers``).
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from sqlalchemy import Table

from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.operations import alerts, backfills
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.operations.sensors.alerts import alerts as sensor
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import backfills as backfill_rows
from sigmasight_pipeline.storage import outbox, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import append_rows
from sigmasight_pipeline_tests.operations.receivers import MailServer, Webhook
from sigmasight_pipeline_tests.storage import sample_rows

NOW = datetime(2024, 3, 30, 6, 0, tzinfo=UTC)
FIRST, LAST = date(2024, 3, 1), date(2024, 3, 28)
MINUTE = timedelta(minutes=1)

RUN_DEFAULTS = {
    "job_name": "daily",
    "partition_start": FIRST,
    "partition_end": LAST,
    "trigger": "schedule",
    "status": "failure",
    "duration_seconds": 12.3,
    "error_message": "portfolio_snapshots: the disk is full",
    "backfill_id": None,
}


class Installation:
    """A database, settings, and the cursor of a sensor that ticks when it is told."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.monkeypatch = monkeypatch
        self.cursor: str | None = None

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            self.monkeypatch.setenv(f"SIGMASIGHT_{name.upper()}", str(value))
        get_settings.cache_clear()

    def tick(self, now: datetime = NOW) -> str:
        """What the sensor's logic says at a moment of the test's choice."""

        def keep(cursor: str) -> None:
            self.cursor = cursor

        return "; ".join(
            alerts.tick(
                self.database,
                get_settings(),
                cursor=self.cursor,
                urls=[self.database.url],
                keep_cursor=keep,
                now=now,
            )
        )

    def sensor_tick(self) -> str:
        """One evaluation of the sensor itself, now, as the daemon makes it."""
        resources = {"postgres": PostgresResource(database_url=self.database.url), "settings": SettingsResource()}
        with dg.build_sensor_context(cursor=self.cursor, resources=resources) as context:
            answer = sensor(context)
            self.cursor = context.cursor
        assert isinstance(answer, dg.SkipReason)
        return str(answer.skip_message)

    def messages(self) -> list[dict[str, Any]]:
        return outbox.listing(self.database, 1000).sort("alert_id").to_dicts()

    def statuses(self) -> list[tuple[str, str, int]]:
        return [(row["channel"], row["status"], row["attempts"]) for row in self.messages()]

    def execute(self, statement: str) -> None:
        with self.database.connect() as connection:
            connection.execute(statement.encode())

    def insert(self, table: Table, **values: Any) -> None:
        """One row; columns that do not matter here get something that fits."""
        with self.database.connect() as connection:
            append_rows(connection, table, sample_rows.rows(table, per_session=1, values=values))

    def run(self, run_id: str = "run-1", ended_at: datetime = NOW - MINUTE, **changes: Any) -> None:
        self.insert(tables.batch_runs, run_id=run_id, ended_at=ended_at, **{**RUN_DEFAULTS, **changes})

    def check(self, run_id: str = "run-1", **changes: Any) -> None:
        values = {
            "session_date": FIRST,
            "asset": "portfolio_snapshots",
            "check_name": "nav_identity",
            "severity": "ERROR",
            "passed": False,
            "description": "NAV is off by 0.01",
            "checked_at": NOW - 2 * MINUTE,
            **changes,
        }
        self.insert(tables.data_quality_results, run_id=run_id, **values)

    def rejected(self, name: str = "book.csv", **changes: Any) -> None:
        values = {
            "content_sha256": uuid4().hex,
            "file_name": name,
            "portfolio_code": None,
            "backfill_id": None,
            "status": "rejected",
            "errors": json.dumps(["line 2, column quantity: 'x' is no number", "line 3: entry date is missing"]),
            "moved_to": f"rejected/{name}",
            "received_at": NOW - MINUTE,
            **changes,
        }
        self.insert(tables.inbox_files, **values)

    def given_up(self, key: str, completed_at: datetime, message: str = "killed") -> int:
        chunk = Chunk("daily", FIRST, LAST, 20, trigger="inbox")
        asked = completed_at - timedelta(hours=2)
        number = backfills.request(
            self.database, key=key, trigger="inbox", reason="book.csv", chunks=[chunk], now=asked
        )
        assert number is not None
        backfill_rows.fail(self.database, number, {"run": str(chunk), "message": message}, completed_at)
        return number


def by_mail(mail: MailServer) -> dict[str, object]:
    return {
        "alert_mail_to": "risk@example.com",
        "alert_mail_from": "sigmasight@example.com",
        "smtp_host": "127.0.0.1",
        "smtp_port": mail.port,
        "smtp_starttls": "false",
    }


def subjects(receiver: Webhook) -> list[str]:
    return [message["subject"] for message in receiver.got]
