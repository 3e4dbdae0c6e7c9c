"""Alerts: every failure is told once, in words a person can act on, whatever fails on the way to that person."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from sigmasight_pipeline.operations import alerts
from sigmasight_pipeline.operations.alerts import ForeignCursorError, together
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import outbox, schema
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import StorageError
from sigmasight_pipeline.storage.outbox import Waiting
from sigmasight_pipeline_tests.conftest import drop_database
from sigmasight_pipeline_tests.operations.alerting import FIRST, LAST, MINUTE, NOW, Installation, by_mail, subjects
from sigmasight_pipeline_tests.operations.receivers import SECRET_PATH, MailServer, Webhook


@pytest.fixture(scope="module")
def migrated_url(server: EmbeddedServer) -> Iterator[str]:
    """A migrated database for the whole module: making one takes a second."""
    name = f"test_{uuid4().hex}"
    schema.create_database_if_missing(server.url(name))
    schema.upgrade(server.url(name))
    yield server.url(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        drop_database(connection, name)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(migrated_url)
    with opened.connect() as connection:
        connection.execute(
            "TRUNCATE sigmasight.alert_outbox, sigmasight.batch_runs, sigmasight.data_quality_results, "
            "sigmasight.inbox_files, sigmasight.backfill_progress"
        )
    yield opened
    opened.close()


@pytest.fixture
def installation(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    yield Installation(database, monkeypatch)
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def hooked(installation: Installation, receiver: Webhook) -> Installation:
    """An installation that tells a webhook."""
    installation.set(alert_webhook_url=receiver.url)
    return installation


def test_the_sensor_tells_of_everything_that_failed_once(
    hooked: Installation, receiver: Webhook, mail: MailServer
) -> None:
    hooked.set(**by_mail(mail))
    now = datetime.now(UTC)
    hooked.run(ended_at=now - MINUTE)
    hooked.rejected(received_at=now - MINUTE)
    number = hooked.given_up("inbox:1", now - 11 * MINUTE)
    before = hooked.cursor
    said = hooked.sensor_tick()
    assert said.startswith("3 new message(s); 1 message(s) on run daily by webhook: sent; ")
    told = {
        "SigmaSight: daily 2024-03-01 to 2024-03-28 failed",
        "SigmaSight: the file book.csv was rejected",
        f"SigmaSight: backfill {number} 2024-03-01 to 2024-03-28 was given up",
    }
    for got in (subjects(receiver), [message["Subject"] for message in mail.got]):
        assert len(got) == 3
        assert set(got) == told
    assert {status for _, status, _ in hooked.statuses()} == {"sent"}
    # a second tick, and one of a process that was killed before its cursor was kept
    for cursor in (hooked.cursor, before):
        hooked.cursor = cursor
        assert hooked.sensor_tick() == "0 new message(s)"
    assert len(receiver.got) == len(mail.got) == 3


def test_a_message_says_what_failed_and_what_to_do(hooked: Installation, receiver: Webhook) -> None:
    hooked.run(error_message="the check portfolio_snapshots.nav_identity failed: NAV is off")
    hooked.check()
    hooked.check(check_name="cash_identity", session_date=FIRST)
    hooked.check(check_name="cash_identity", session_date=LAST)
    hooked.check(check_name="large_return", severity="WARN")
    hooked.check(check_name="no_gap", passed=True)
    hooked.tick()
    (message,) = receiver.got
    assert message["topic"] == "run daily"
    assert message["subject"] == "SigmaSight: daily 2024-03-01 to 2024-03-28 failed"
    assert message["body"] == (
        "the check portfolio_snapshots.nav_identity failed: NAV is off\n\n"
        "Failed checks:\n"
        "- portfolio_snapshots.cash_identity: 2 session(s), first 2024-03-01: NAV is off by 0.01\n\n"
        "Run run-1, started by schedule, ended 2024-03-30 05:59 UTC after 12 s: failure.\n"
        "Next: `sigmasight runs --failed` and the run in the Dagster UI show it; what it wrote is kept. Put right what "
        "is named above, then: `sigmasight backfill --from 2024-03-01 --to 2024-03-28`."
    )


def test_failed_checks_of_a_run_that_did_not_fail(hooked: Installation, receiver: Webhook) -> None:
    hooked.run(status="success", error_message=None)
    hooked.check()
    hooked.run("run-2", status="canceled", error_message="canceled by a person")
    hooked.run("run-3", status="success", error_message=None)
    hooked.check("run-3", severity="WARN")
    hooked.tick()
    assert subjects(receiver) == ["SigmaSight: daily 2024-03-01 to 2024-03-28: 1 check(s) failed"]
    assert "- portfolio_snapshots.nav_identity: 1 session(s), first 2024-03-01" in receiver.got[0]["body"]


def test_a_run_that_goes_on_is_given_time_to_say_more_itself(hooked: Installation, receiver: Webhook) -> None:
    hooked.check("ends")
    hooked.check("goes-on", check_name="cash_identity")
    hooked.tick()
    assert receiver.got == []
    hooked.run("ends")
    hooked.tick(NOW + MINUTE)
    assert subjects(receiver) == ["SigmaSight: daily 2024-03-01 to 2024-03-28 failed"]
    hooked.tick(NOW + 9 * MINUTE)
    assert subjects(receiver)[1:] == ["SigmaSight: 1 check(s) failed in 2024-03-01"]
    assert "Run goes-on; its end is not recorded" in receiver.got[1]["body"]
    hooked.run("goes-on", ended_at=NOW + 30 * MINUTE)
    assert hooked.tick(NOW + 120 * MINUTE) == "0 new message(s)"


def test_a_failure_recorded_late_is_told(hooked: Installation, receiver: Webhook) -> None:
    hooked.tick(NOW - timedelta(days=3))
    hooked.tick()
    hooked.run(ended_at=NOW - timedelta(days=2))  # the daemon was down when it ended
    hooked.tick(NOW + MINUTE)
    assert len(receiver.got) == 1


def test_a_range_is_told_of_only_where_no_run_says_why(hooked: Installation, receiver: Webhook) -> None:
    ended = NOW - 20 * MINUTE
    by_its_run = hooked.given_up("a", ended)
    hooked.run(backfill_id=by_its_run, ended_at=ended - MINUTE)
    canceled = hooked.given_up("b", ended)
    hooked.run("run-2", status="canceled", backfill_id=canceled, ended_at=ended - MINUTE)
    again = hooked.given_up("c", ended, "stopped by Ctrl-C")
    hooked.run("run-3", backfill_id=again, ended_at=ended - timedelta(hours=1, minutes=1))  # of an earlier attempt
    hooked.run("run-4", backfill_id=again, status="success", ended_at=ended - MINUTE)
    just_now = hooked.given_up("d", NOW - MINUTE)  # its run may not be recorded yet
    hooked.set(alert_quiet_minutes=0)
    hooked.tick()
    assert [message["topic"] for message in receiver.got] == ["run daily", "backfill"]
    assert "(and 1 more)" in receiver.got[0]["subject"]
    assert f"Run run-3, started by schedule, part of backfill {again}, " in receiver.got[0]["body"]
    message = receiver.got[1]
    assert message["subject"] == f"SigmaSight: backfill {again} 2024-03-01 to 2024-03-28 was given up"
    assert message["body"].startswith("stopped by Ctrl-C (daily 2024-03-01 to 2024-03-28 (20 sessions))\n\n")
    assert "Asked for by inbox: book.csv. 0 of 20 sessions were done" in message["body"]
    hooked.run("run-5", backfill_id=just_now, ended_at=NOW - 2 * MINUTE)
    hooked.tick(NOW + 20 * MINUTE)
    assert [message["topic"] for message in receiver.got[2:]] == ["run daily"]


def test_a_rejected_file_is_told_with_all_its_errors(hooked: Installation, receiver: Webhook) -> None:
    hooked.rejected("evil\r\nBcc: x@example.com.csv", portfolio_code="book")
    hooked.rejected("long.csv", errors=json.dumps({"errors": [f"line {n}: no" for n in range(30)]}))
    hooked.set(alert_quiet_minutes=0)
    hooked.rejected("kept.csv", status="accepted", errors=None)
    hooked.tick()
    evil, long = hooked.messages()
    assert evil["subject"] == "SigmaSight: the file evil Bcc: x@example.com.csv was rejected"
    assert "- line 2, column quantity: 'x' is no number\n- line 3: entry date is missing\n" in evil["body"]
    assert "for portfolio book; nothing of it was imported" in evil["body"]
    assert long["body"].startswith("- line 0: no\n")
    assert "- line 19: no\n... and 10 more\n" in long["body"]


def test_mail_goes_while_the_webhook_is_down_which_is_tried_again_ever_later(
    hooked: Installation, receiver: Webhook, mail: MailServer
) -> None:
    hooked.set(**by_mail(mail))
    receiver.status = 500
    hooked.run()
    said = hooked.tick()
    assert f"by webhook: the webhook of 127.0.0.1:{receiver.port} answered 500" in said
    assert len(mail.got) == 1
    pauses, moment = [], NOW
    for attempt in range(1, 10):
        waits, told = hooked.messages()
        assert (waits["status"], waits["attempts"], told["status"]) == ("pending", attempt, "sent")
        assert "answered 500" in waits["last_error"]
        due = waits["next_attempt_at"]
        pauses.append((due - moment).total_seconds())
        if attempt == 1:
            assert "wait until" in hooked.tick(due - timedelta(seconds=1))
        assert len(receiver.got) == attempt
        moment = due
        hooked.tick(moment)
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    receiver.status = 200
    hooked.tick(moment + timedelta(hours=1))
    assert hooked.statuses() == [("webhook", "sent", 11), ("mail", "sent", 1)]
    assert len(mail.got) == 1


def test_a_message_that_is_always_refused_does_not_hold_up_the_others(hooked: Installation, receiver: Webhook) -> None:
    hooked.rejected()
    receiver.status = 400
    hooked.tick()
    hooked.run()
    moment = NOW + timedelta(minutes=1)
    order: list[str] = []

    def refuse_the_file() -> None:
        order.append(receiver.got[-1]["topic"])
        receiver.status = 400 if order[-1] == "inbox" else 200

    receiver.on_receive = refuse_the_file
    hooked.tick(moment)
    assert order == ["run daily", "inbox"]
    assert hooked.statuses() == [("webhook", "pending", 2), ("webhook", "sent", 1)]


def test_a_topic_is_quiet_after_a_message_and_then_told_together(hooked: Installation, receiver: Webhook) -> None:
    hooked.run("run-1")
    hooked.tick()
    for number in (2, 3, 4):
        hooked.run(f"run-{number}", ended_at=NOW + MINUTE, error_message=f"error {number}")
    hooked.rejected(received_at=NOW + MINUTE)
    said = hooked.tick(NOW + 2 * MINUTE)
    assert "3 message(s) on run daily by webhook wait until 2024-03-30 07:00 UTC" in said
    assert subjects(receiver)[1:] == ["SigmaSight: the file book.csv was rejected"], "another topic waits for nobody"
    hooked.tick(NOW + 59 * MINUTE)
    assert len(receiver.got) == 2
    hooked.tick(NOW + 60 * MINUTE)
    (message,) = receiver.got[2:]
    assert message["subject"] == "SigmaSight: daily 2024-03-01 to 2024-03-28 failed (and 2 more)"
    assert message["body"].startswith("error 2\n")
    assert message["body"].endswith(
        "\n\n2 more:\n" + "\n".join(["- SigmaSight: daily 2024-03-01 to 2024-03-28 failed"] * 2)
    )
    assert {status for _, status, _ in hooked.statuses()} == {"sent"}
    assert len(receiver.got) == 3


def test_a_flood_is_one_message_of_bounded_length(hooked: Installation, receiver: Webhook) -> None:
    hooked.set(alert_max_length=600)
    for number in range(40):
        hooked.run(f"run-{number:02}", ended_at=NOW - MINUTE + timedelta(seconds=number), error_message="no " * 1000)
    hooked.tick()
    (message,) = receiver.got
    assert len(message["text"]) <= 600
    counted = re.search(
        r"39 more:\n(- .*\n)+\.\.\. and (\d+) more that `sigmasight alerts list` shows\.$", message["body"]
    )
    assert counted is not None, message["body"]
    rows = hooked.messages()
    suppressed = [row for row in rows if row["status"] == "suppressed"]
    assert len(suppressed) == int(counted.group(2)) > 0
    assert len(rows) == 40
    assert all(len(row["subject"]) + 2 + len(row["body"]) <= 600 for row in rows)
    assert all("Put right what is named above" in row["body"] for row in rows), "what to do next is never cut away"


@pytest.mark.parametrize("limit", [200, 300, 1000])
@pytest.mark.parametrize("count", [2, 3, 500])
def test_messages_told_together_keep_to_any_length(limit: int, count: int) -> None:
    rows = [Waiting(n, "mail", "t", "s" * (limit // 3), "b" * (limit // 2), 0, NOW) for n in range(count)]
    subject, body, told = together(rows, limit)
    assert len(f"{subject}\n\n{body}") <= limit
    assert 1 <= told <= count
    assert body.count("- s") == told - 1
    assert f"{count - 1} more:" in body


def test_without_a_channel_nothing_is_kept_for_later(installation: Installation, receiver: Webhook) -> None:
    installation.run()
    installation.rejected()
    said = installation.tick()
    assert said.startswith("no channel is set, 2 message(s) are not told: set SIGMASIGHT_ALERT_WEBHOOK_URL, or ")
    assert installation.messages() == []
    assert "no channel is set, 0 message(s)" in installation.tick(NOW + MINUTE)
    installation.set(alert_webhook_url=receiver.url)
    installation.run("run-2", ended_at=NOW + 2 * MINUTE)
    installation.tick(NOW + 3 * MINUTE)
    assert len(receiver.got) == 1
    assert "Run run-2," in receiver.got[0]["body"]


def test_a_new_sensor_does_not_tell_old_stories(hooked: Installation, receiver: Webhook) -> None:
    hooked.run("old", ended_at=NOW - timedelta(hours=25))
    hooked.run("yesterday", ended_at=NOW - timedelta(hours=23))
    hooked.tick()
    assert [row["alert_key"] for row in hooked.messages()] == ["run:yesterday"]


def test_a_channel_that_is_taken_away_keeps_its_messages(
    hooked: Installation, receiver: Webhook, mail: MailServer
) -> None:
    receiver.status = 500
    hooked.run()
    hooked.tick()
    hooked.set(alert_webhook_url="", **by_mail(mail))
    assert "1 message(s) wait for webhook, which no setting names any more" in hooked.tick(NOW + MINUTE)
    assert mail.got == [], "a new channel is not told old stories"
    hooked.set(alert_webhook_url=receiver.url)
    receiver.status = 200
    hooked.tick(NOW + 2 * MINUTE)
    assert hooked.statuses() == [("webhook", "sent", 2)]


def test_what_was_sent_but_not_marked_is_sent_again(hooked: Installation, receiver: Webhook) -> None:
    """At least once: between sending and marking, the database goes away."""
    hooked.run()

    receiver.on_receive = lambda: hooked.execute("ALTER TABLE sigmasight.alert_outbox RENAME TO gone")
    with pytest.raises(StorageError):
        hooked.tick()
    receiver.on_receive = lambda: None
    hooked.execute("ALTER TABLE sigmasight.gone RENAME TO alert_outbox")
    assert hooked.statuses() == [("webhook", "pending", 0)]
    hooked.tick(NOW + MINUTE)
    assert hooked.statuses() == [("webhook", "sent", 1)]
    assert len(receiver.got) == 2
    hooked.tick(NOW + 2 * MINUTE)
    assert len(receiver.got) == 2


def test_two_processes_do_not_send_the_same(hooked: Installation, receiver: Webhook) -> None:
    hooked.run()
    with outbox.only_sender(hooked.database) as alone:
        assert alone
        assert hooked.tick().endswith("another process is sending")
        assert receiver.got == []
    hooked.tick()
    assert len(receiver.got) == 1


def test_a_slow_receiver_does_not_outlast_the_tick(
    hooked: Installation, receiver: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "SENDING_SECONDS", -1.0)
    hooked.run()
    assert "1 message(s) on run daily by webhook wait for the next tick" in hooked.tick()
    assert receiver.got == []
    monkeypatch.undo()
    hooked.set(alert_webhook_url=receiver.url)
    hooked.tick()
    assert len(receiver.got) == 1


def test_a_cursor_that_is_not_its_own_is_refused(hooked: Installation) -> None:
    for cursor in ("1234", "{}", "none", '{"start": 1, "read_until": 2}'):
        hooked.cursor = cursor
        with pytest.raises(ForeignCursorError, match="reset it in the Dagster UI"):
            hooked.tick()


def test_no_secret_is_told_stored_or_logged(
    hooked: Installation, receiver: Webhook, mail: MailServer, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    database_password = server.address().password
    secrets = [SECRET_PATH, "webhooksecret42", "smtp secret", database_password, "s3cr3t"]
    told = f"{receiver.url} {database_password} smtp secret {hooked.database.url} postgresql://u:s3cr3t@h/x"
    now = datetime.now(UTC)
    mail.user, mail.password = "sigma", "another"
    hooked.set(smtp_user="sigma", smtp_password="smtp secret", **by_mail(mail))
    hooked.run(ended_at=now - MINUTE, error_message=told)
    hooked.check(description=told, checked_at=now - MINUTE)
    hooked.rejected(f"{receiver.url}.csv", errors=json.dumps([told]), received_at=now - MINUTE)
    hooked.given_up("x", now - 11 * MINUTE, told)
    receiver.status, receiver.answer = 500, told
    said = [hooked.sensor_tick()]  # the webhook quotes its address, the mail server the password
    hooked.execute("UPDATE sigmasight.alert_outbox SET next_attempt_at = now() - interval '1 minute'")
    receiver.status, mail.password = 200, "smtp secret"
    said.append(hooked.sensor_tick())
    assert {status for _, status, _ in hooked.statuses()} == {"sent"}
    assert len(receiver.got) == 4
    assert len(mail.got) == 3
    everything = {
        "skip": str(said),
        "cursor": str(hooked.cursor),
        "webhook": json.dumps(receiver.got),
        "mail": "".join(f"{m['Subject']} {m.get_content()}" for m in mail.got),
        "log": caplog.text,
        "outbox": json.dumps(hooked.messages(), default=str),
    }
    assert "***" in everything["outbox"]
    assert "535 no such user: sigma ***" in everything["skip"]
    for place, text in everything.items():
        for secret in secrets:
            assert secret not in text, f"{secret} in {place}"
