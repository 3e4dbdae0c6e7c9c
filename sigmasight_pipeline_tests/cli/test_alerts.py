"""`sigmasight alerts`: a test message by every channel, and the messages there were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sigmasight_pipeline.cli import alerts
from sigmasight_pipeline.cli.console import UserError
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import outbox
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.outbox import Message
from sigmasight_pipeline_tests.end_to_end.installations import installation
from sigmasight_pipeline_tests.operations.receivers import mail_server, webhook

NOW = datetime(2024, 3, 30, 6, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(alerts.app, arguments)


def test_a_test_message_says_of_every_channel_whether_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as hook, mail_server() as mail:
        for name, value in {
            "ALERT_WEBHOOK_URL": hook.url,
            "ALERT_MAIL_TO": "risk@example.com",
            "ALERT_MAIL_FROM": "sigmasight@example.com",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail.port),
            "SMTP_STARTTLS": "false",
        }.items():
            monkeypatch.setenv(f"SIGMASIGHT_{name}", value)
        done = command("test")
        assert (done.exit_code, done.stdout) == (0, "webhook: sent\nmail: sent\n")
        assert hook.got[0]["subject"] == mail.got[0]["Subject"] == "SigmaSight: test message"
        hook.status = 500
        done = command("test")
        assert done.exit_code == 1
        assert done.stdout.startswith(f"webhook: failed: the webhook of 127.0.0.1:{hook.port} answered 500")
        assert done.stdout.endswith("\nmail: sent\n"), "a channel that fails keeps no other from going"
        assert len(mail.got) == 2


def test_without_a_channel_it_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGMASIGHT_ALERT_WEBHOOK_URL", raising=False)
    error = command("test").exception
    assert isinstance(error, UserError)
    assert error.exit_status == 2
    assert "set SIGMASIGHT_ALERT_WEBHOOK_URL, or SIGMASIGHT_ALERT_MAIL_TO with" in str(error)


def test_the_messages_that_wait_come_first(server: EmbeddedServer, home: Path) -> None:
    with installation(server, home) as opened:
        done = command("list")
        assert (done.exit_code, done.stdout) == (0, "")
        assert json.loads(command("list", "--json").stdout) == {"alerts": []}
        for number in range(1, 5):
            message = Message(f"run:{number}", "run daily", f"SigmaSight: daily {number} failed", f"body {number}")
            outbox.add(opened.database, [message], ["webhook"], NOW)
        outbox.mark_delivered(opened.database, [2], [3], None, NOW)
        outbox.mark_failed(opened.database, {1: NOW + timedelta(minutes=5)}, "it answered 500")
        found = json.loads(command("list", "--json").stdout)["alerts"]
        assert [(row["alert_id"], row["status"]) for row in found] == [
            (4, "pending"),
            (1, "pending"),
            (3, "suppressed"),
            (2, "sent"),
        ]
        assert found[1]["body"] == "body 1"
        assert [row["alert_id"] for row in json.loads(command("list", "--json", "--limit", "1").stdout)["alerts"]] == [
            4
        ]
        shown = CliRunner().invoke(alerts.app, ["list"], env={"COLUMNS": "200"}).stdout
        for text in ("SigmaSight: daily 1 failed", "waits until 03-30 06:05", "it answered 500", "counted in another"):
            assert text in shown
