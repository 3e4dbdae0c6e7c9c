"""Telling people what failed: which failures become messages, what they say, and when each is sent.

What belongs here: reading what nobody was told of, words, the quiet period and when a failed delivery is tried again.
What does not: the statements (``storage.outbox``) and sending one message (``operations.delivery``).

Messages are stored before the sensor's cursor moves, once per failure and channel, and marked when they were delivered.
A process killed between the two delivers again: a message is told at least once, and twice only then.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sigmasight_pipeline.operations.delivery import SETTINGS_NEEDED, Channel, DeliveryError, Secrets, channels
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import outbox
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.outbox import Message, Waiting

FIRST_LOOK = timedelta(days=1)
"""A sensor that was never asked before tells of failures this old."""

LATE = timedelta(days=7)
"""A failure may be recorded this long after it happened (the daemon was down) and is still told."""

PATIENCE = timedelta(minutes=10)
"""A run with a failed check, and a range that was given up, wait this long for the run's end, which says more."""

FIRST_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(hours=1)
"""A failed delivery is tried again after the first, doubled each time up to the second."""

SENDING_SECONDS = 25.0
"""No further message is sent in a tick that has been sending this long: Dagster ends a tick after 60."""

LONGEST_SUBJECT = 150
SHOWN_LINES = 20
"""Failed checks or errors of a file that one message lists."""


class ForeignCursorError(ValueError):
    """A cursor this sensor did not write."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the cursor of the sensor alerts cannot be read: {_cut(text, LONGEST_SUBJECT)}; "
            "reset it in the Dagster UI (what was told before is not told again)"
        )


@dataclass(frozen=True)
class Cursor:
    """How far failures were read: none from before `start` is told, all up to `read_until` are."""

    start: datetime
    read_until: datetime

    @classmethod
    def parse(cls, text: str | None, now: datetime) -> Cursor:
        """The cursor a sensor kept; of a sensor that kept none, one that begins a day ago."""
        if text is None:
            return cls(now - FIRST_LOOK, now - FIRST_LOOK)
        try:
            stored = json.loads(text)
            return cls(*(datetime.fromisoformat(stored[name]) for name in ("start", "read_until")))
        except (ValueError, TypeError, KeyError) as error:
            raise ForeignCursorError(text) from error

    def __str__(self) -> str:
        return json.dumps({"start": self.start.isoformat(), "read_until": self.read_until.isoformat()})


def tick(
    database: Database,
    settings: Settings,
    *,
    cursor: str | None,
    urls: Iterable[str],
    keep_cursor: Callable[[str], None],
    now: datetime,
) -> list[str]:
    """Store a message for each failure nobody was told of, hand the cursor on, deliver what is due; says what it did.

    `urls` are database addresses whose passwords must not be told. Without a channel nothing is stored, and failures up
    to now are never told: whoever sets one up later is not flooded with them.
    """
    known = Cursor.parse(cursor, now)
    secrets = Secrets.of(settings, urls)
    ways = channels(settings, secrets)
    since = max(known.start, known.read_until - LATE)
    found = unsaid(database, settings, secrets, since=since, now=now, patience=PATIENCE if ways else timedelta())
    if not ways:
        keep_cursor(str(Cursor(now, now)))
        return [f"no channel is set, {len(found)} message(s) are not told: set {SETTINGS_NEEDED}"]
    stored = outbox.add(database, found, [way.name for way in ways], now)
    keep_cursor(str(replace(known, read_until=max(now, known.read_until))))
    return [f"{stored} new message(s)", *deliver(database, settings, ways, now)]


def unsaid(
    database: Database, settings: Settings, secrets: Secrets, *, since: datetime, now: datetime, patience: timedelta
) -> list[Message]:
    """The messages of all failures since then that nobody was told of: one per run, rejected file and range."""
    settled = now - patience
    messages = [
        *_of_runs(database, since, settled),
        *(_of_file(row) for row in outbox.rejected_files(database, since)),
        *(_of_backfill(row) for row in outbox.failed_backfills(database, since, settled, settings.max_run_seconds)),
    ]
    return [_fit(message, secrets, settings.alert_max_length) for message in messages]


@dataclass(frozen=True)
class _Draft:
    """A message before it is cut to length: of `detail` some may be left out, what is `next` is always said."""

    alert_key: str
    topic: str
    subject: str
    detail: str
    next: str


def _of_runs(database: Database, since: datetime, settled: datetime) -> Iterator[_Draft]:
    checks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for check in outbox.failed_checks(database, since):
        checks[check["run_id"]].append(check)
    for run in outbox.ended_runs(database, since, list(checks)):
        yield _of_run(run, checks.pop(run["run_id"], []))
    for run_id, failed in checks.items():
        if max(check["checked_at"] for check in failed) <= settled:
            yield _of_unended_run(run_id, failed)


def _of_run(run: dict[str, Any], checks: Sequence[dict[str, Any]]) -> _Draft:
    first, last, failed = run["partition_start"], run["partition_end"], run["status"] == "failure"
    what = f"{run['job_name']}{_span(first, last)}"
    error = run["error_message"] or ("it says nothing of why" if failed else "")
    # the error of a run that a check stopped quotes the check
    unquoted = [check for check in checks if f"{check['asset']}.{check['check_name']}" not in error]
    took = "" if run["duration_seconds"] is None else f" after {run['duration_seconds']:.0f} s"
    part_of = f", part of backfill {run['backfill_id']}" if run["backfill_id"] is not None else ""
    facts = (
        f"Run {run['run_id']}, started by {run['trigger']}{part_of}, ended {_moment(run['ended_at'])}{took}: "
        f"{run['status']}."
    )
    again = (
        f"`sigmasight backfill --from {first} --to {last}`"
        if first is not None
        else f"launch {run['job_name']} again in the Dagster UI"
    )
    return _Draft(
        alert_key=run["alert_key"],
        topic=f"run {run['job_name']}",
        subject=f"{what} failed" if failed else f"{what}: {len(checks)} check(s) failed",
        detail="\n\n".join(text for text in (error, _list_of_checks(unquoted)) if text),
        next=f"{facts}\nNext: `sigmasight runs --failed` and the run in the Dagster UI show it; what it wrote is kept. "
        f"Put right what is named above, then: {again}."
        if failed
        else f"{facts}\n{_NEXT_OF_CHECKS}",
    )


_NEXT_OF_CHECKS = (
    "Next: `sigmasight status` shows the findings, the assets' checks in the Dagster UI all their figures."
)


def _of_unended_run(run_id: str, checks: Sequence[dict[str, Any]]) -> _Draft:
    days = [check[name] for check in checks for name in ("first_session", "last_session")]
    return _Draft(
        alert_key=f"run:{run_id}",
        topic="checks",
        subject=f"{len(checks)} check(s) failed{_span(min(days), max(days), ' in')}",
        detail=_list_of_checks(checks),
        next=f"Run {run_id}; its end is not recorded: it still runs, or the sensor run_status is off.\n"
        f"{_NEXT_OF_CHECKS}",
    )


def _list_of_checks(checks: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"- {check['asset']}.{check['check_name']}: {check['sessions']} session(s), first {check['first_session']}: "
        f"{check['description']}"
        for check in checks
    ]
    return "\n".join(["Failed checks:", *_first_lines(lines)]) if lines else ""


def _of_file(row: dict[str, Any]) -> _Draft:
    book = f" for portfolio {row['portfolio_code']}" if row["portfolio_code"] else ""
    place = f"It lies in {row['moved_to']} below the inbox, all its errors beside it. " if row["moved_to"] else ""
    return _Draft(
        alert_key=row["alert_key"],
        topic="inbox",
        subject=f"the file {row['file_name']} was rejected",
        detail="\n".join(_first_lines([f"- {error}" for error in _sentences(row["errors"])]))
        or "It says nothing of why.",
        next=f"Received {_moment(row['received_at'])}{book}; nothing of it was imported.\nNext: {place}"
        "Correct it and drop it into the inbox again.",
    )


def _of_backfill(row: dict[str, Any]) -> _Draft:
    runs = (row["scope"] or {}).get("runs", [])
    days = [run[name] for run in runs for name in ("first", "last") if run.get(name)]
    again = f", then ask for it again: `sigmasight backfill --from {min(days)} --to {max(days)}`" if days else ""
    error = row["error_details"] or {}
    at = f" ({error['run']})" if error.get("run") else ""
    return _Draft(
        alert_key=row["alert_key"],
        topic="backfill",
        subject=f"backfill {row['backfill_id']}{_span(min(days), max(days)) if days else ''} was given up",
        detail=f"{error.get('message') or 'It says nothing of why.'}{at}",
        next=f"Asked for by {row['requested_by']}: {row['reason']}. {row['done_sessions']} of {row['total_sessions']} "
        f"sessions were done by {_moment(row['completed_at'])}.\nNext: `sigmasight runs` shows what ran; put right "
        f"what is named above{again}.",
    )


def _fit(draft: _Draft, secrets: Secrets, limit: int) -> Message:
    """The message of a draft: without secrets, its subject one line, subject and body together within `limit`."""
    subject = _cut(" ".join(secrets.hide(f"SigmaSight: {draft.subject}").split()), min(LONGEST_SUBJECT, limit // 3))
    ending = _cut(secrets.hide(draft.next), limit // 2)
    detail = _cut(secrets.hide(draft.detail.strip()), limit - len(subject) - len(ending) - len("\n\n\n\n"))
    return Message(draft.alert_key, draft.topic, subject, f"{detail}\n\n{ending}")


def deliver(database: Database, settings: Settings, ways: Sequence[Channel], now: datetime) -> list[str]:
    """Send what is due, a topic's messages together; returns what there is to say of it.

    A channel that fails is left alone until the next tick, so that it cannot keep the others waiting.
    """
    with outbox.only_sender(database) as alone:
        if not alone:
            return ["another process is sending"]
        waiting: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
        for row in outbox.waiting(database):
            waiting[row.channel, row.topic].append(row)
        quiet_until = {
            key: moment + timedelta(minutes=settings.alert_quiet_minutes)
            for key, moment in outbox.last_sent(database).items()
        }
        remarks, began = [], time.monotonic()
        for way in ways:
            # one that is refused again and again must not stand before the others
            for topic, rows in sorted(
                ((topic, rows) for (channel, topic), rows in waiting.items() if channel == way.name),
                key=lambda group: min(row.attempts for row in group[1]),
            ):
                said = f"{len(rows)} message(s) on {topic} by {way.name}"
                rested = quiet_until.get((way.name, topic), now)
                due = max(rested, min(row.next_attempt_at for row in rows))
                if due > now:
                    remarks.append(f"{said} wait until {_moment(due)}")
                    continue
                if time.monotonic() - began > SENDING_SECONDS:
                    remarks.append(f"{said} wait for the next tick")
                    continue
                error = _send(database, way, topic, rows, settings.alert_max_length, now)
                remarks.append(f"{said}: {error or 'sent'}")
                if error:
                    break
        names = {way.name for way in ways}
        for channel in sorted({channel for channel, _ in waiting} - names):
            held = sum(len(rows) for (name, _), rows in waiting.items() if name == channel)
            remarks.append(f"{held} message(s) wait for {channel}, which no setting names any more")
    return remarks


def _send(
    database: Database, way: Channel, topic: str, rows: Sequence[Waiting], limit: int, now: datetime
) -> str | None:
    """Send the messages of one topic as one and settle them; returns why that failed, None where it did not."""
    subject, body, told = together(rows, limit)
    try:
        remark = way.send(topic=topic, subject=subject, body=body)
    except DeliveryError as error:
        outbox.mark_failed(database, {row.alert_id: now + _pause(row.attempts) for row in rows}, str(error))
        return str(error)
    ids = [row.alert_id for row in rows]
    outbox.mark_delivered(database, ids[:told], ids[told:], remark, now)
    return None


def _pause(attempts: int) -> timedelta:
    """How long to wait after one more attempt failed."""
    return min(FIRST_RETRY * (1 << min(attempts, 10)), LONGEST_RETRY)


def together(rows: Sequence[Waiting], limit: int) -> tuple[str, str, int]:
    """Several messages as one within `limit`: its subject, its body, and how many of `rows` are told in it.

    The first is told in full where there is room, of the others the subject; those that do not fit are counted.
    """
    first, others = rows[0], rows[1:]
    if not others:
        return first.subject, first.body, 1
    subject = f"{first.subject} (and {len(others)} more)"
    room = limit - len(subject) - len("\n\n")
    rest = "... and {} more that `sigmasight alerts list` shows."
    lines: list[str] = []
    # half for the first, half for the others: a count says little of what else happened
    left = max(room - len(first.body), room // 2) - len(f"\n\n{len(others)} more:\n{rest.format(len(others))}")
    for row in others:
        left -= len(row.subject) + len("- \n")
        if left < 0:
            break
        lines.append(f"- {row.subject}")
    hidden = len(others) - len(lines)
    ending = "\n".join([f"{len(others)} more:", *lines, *([rest.format(hidden)] if hidden else [])])
    return subject, f"{_cut(first.body, room - len(ending) - 2)}\n\n{ending}", 1 + len(lines)


@dataclass(frozen=True)
class Sent:
    """What became of a message by one channel; `remark` says why it failed, or who did not get it."""

    channel: str
    failed: bool
    remark: str | None


def send_test(settings: Settings, now: datetime) -> list[Sent]:
    """Send a test message by every channel now; nothing is stored."""
    subject = "SigmaSight: test message"
    body = (
        f"Sent by `sigmasight alerts test` at {_moment(now)}. Failed runs, failed checks of severity ERROR, rejected "
        "files and ranges that were given up are told this way while the sensor alerts is on."
    )
    results: list[Sent] = []
    for way in channels(settings, Secrets.of(settings)):
        try:
            results.append(Sent(way.name, False, way.send(topic="test", subject=subject, body=body)))
        except DeliveryError as error:
            results.append(Sent(way.name, True, str(error)))
    return results


def _sentences(errors: Any) -> list[str]:
    """Whatever a document of errors holds, as lines."""
    if isinstance(errors, dict):
        return _sentences(list(errors.values()))
    if isinstance(errors, list):
        return [line for error in errors for line in _sentences(error)]
    return [] if errors is None else [str(errors)]


def _first_lines(lines: list[str]) -> list[str]:
    hidden = len(lines) - SHOWN_LINES
    return lines if hidden <= 0 else [*lines[:SHOWN_LINES], f"... and {hidden} more"]


def _span(first: object, last: object, before: str = "") -> str:
    if first is None:
        return ""
    return f"{before} {first}" if first == last else f"{before} {first} to {last}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: max(length - 4, 0)]} ..."
