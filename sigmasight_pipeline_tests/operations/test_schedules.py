"""The schedule after the close: when it ticks, and which sessions it asks for."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from sigmasight_pipeline import definitions, sessions
from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.partitions import session_partitions
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import missed, schedules
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import schema, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.conftest import drop_database
from sigmasight_pipeline_tests.storage import sample_rows

CALENDAR = sessions.calendar()

Asked = Callable[[datetime], dg.RunRequest | dg.SkipReason]


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
        connection.execute("DELETE FROM sigmasight.portfolio_snapshots")
    yield opened
    opened.close()


@pytest.fixture
def ask(database: Database) -> Iterator[Asked]:
    """Evaluate the schedule at a moment, with the project's resources on the test's database."""
    resource = PostgresResource(database_url=database.url)

    def evaluate(moment: datetime) -> dg.RunRequest | dg.SkipReason:
        with dg.build_schedule_context(
            scheduled_execution_time=moment,
            resources={"postgres": resource, "settings": SettingsResource(), "market_data": MarketDataResource()},
        ) as context:
            answer = schedules.after_close(context)
        assert isinstance(answer, dg.RunRequest | dg.SkipReason)
        return answer

    yield evaluate
    resource.database.close()


def store_snapshots(database: Database, days: Sequence[date]) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO sigmasight.portfolios (portfolio_id, code, name, base_currency, benchmark_symbol, "
            "inception_date, initial_equity, active) OVERRIDING SYSTEM VALUE "
            "VALUES (0, 'book', 'Book', 'USD', 'SPY', '2024-01-02', 1000, true) ON CONFLICT DO NOTHING"
        )
    rows = sample_rows.rows(tables.portfolio_snapshots, days, per_session=1)
    replace_sessions(database, [(tables.portfolio_snapshots, rows)], days)


def tick_after(session: date) -> datetime:
    """00:30 UTC on the day after `session`."""
    return datetime.combine(session + timedelta(days=1), time(0, 30), UTC)


def asked_range(answer: dg.RunRequest | dg.SkipReason) -> tuple[str, str]:
    assert isinstance(answer, dg.RunRequest), answer
    return answer.tags[RANGE_START_TAG], answer.tags[RANGE_END_TAG]


def ticks(first: datetime, last: datetime) -> list[datetime]:
    """When the schedule's cron fires from `first` to `last`, as the daemon computes it."""
    found: list[datetime] = []
    schedule = schedules.after_close
    for moment in schedule_execution_time_iterator(
        first.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone
    ):
        if moment > last:
            return found
        found.append(moment)
    raise AssertionError("a cron has no last tick")


def test_it_ticks_once_after_every_close_and_the_partition_exists_by_then() -> None:
    # sixteen months: three changes of New York's clock, holidays, half-days, Fridays, two turns of the year
    first, last = date(2023, 12, 1), date(2025, 3, 31)
    asked_at: dict[date, datetime] = {}
    for moment in ticks(datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC)):
        asked_at.setdefault(CALENDAR.on_or_before(moment.date() - timedelta(days=1)), moment)
    for session in (s for s in CALENDAR.sessions if first <= s.session_date < last - timedelta(days=2)):
        moment = asked_at[session.session_date]
        local = moment.astimezone(ZoneInfo("America/New_York"))
        assert local.date() == session.session_date, f"{session.session_date} is asked for at {local}"
        assert moment - session.closes_at >= timedelta(hours=3, minutes=30), session


@pytest.mark.parametrize("session", [date(2024, 3, 8), date(2024, 3, 11), date(2024, 7, 3), date(2024, 12, 31)])
def test_the_partition_appears_with_the_tick_and_not_before(session: date) -> None:
    partitions = session_partitions(date(2024, 1, 2))
    tick = tick_after(session)
    assert sessions.newest_complete_session(tick) == session
    assert partitions.get_partition_keys(current_time=tick)[-1] == session.isoformat()
    assert partitions.get_partition_keys(current_time=tick - timedelta(hours=1))[-1] < session.isoformat()


SINCE = [
    # newest snapshot, tick, range asked for
    (date(2024, 3, 7), tick_after(date(2024, 3, 8)), ("2024-03-08", "2024-03-08")),  # Friday, before summer time begins
    (date(2024, 3, 8), tick_after(date(2024, 3, 11)), ("2024-03-11", "2024-03-11")),  # Monday, after it began
    (date(2024, 11, 1), tick_after(date(2024, 11, 4)), ("2024-11-04", "2024-11-04")),  # Monday after it ended
    (date(2024, 1, 12), tick_after(date(2024, 1, 16)), ("2024-01-16", "2024-01-16")),  # Monday was a holiday
    (date(2024, 7, 2), tick_after(date(2024, 7, 3)), ("2024-07-03", "2024-07-03")),  # a half-day
    (date(2024, 3, 1), tick_after(date(2024, 3, 8)), ("2024-03-04", "2024-03-08")),  # a week was missed
    (date(2023, 12, 29), tick_after(date(2025, 6, 30)), ("2024-01-02", "2024-12-31")),  # 374 missed: the oldest 252
    (None, tick_after(date(2024, 3, 8)), ("2024-03-08", "2024-03-08")),  # nothing yet: the newest session
]


@pytest.mark.parametrize(("newest", "moment", "expected"), SINCE)
def test_it_asks_for_what_is_missing(
    database: Database, ask: Asked, newest: date | None, moment: datetime, expected: tuple[str, str]
) -> None:
    if newest is not None:
        store_snapshots(database, [newest])
    answer = ask(moment)
    assert asked_range(answer) == expected
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags[TRIGGER_TAG] == "schedule"
    assert answer.run_key == f"{expected[0]}:{expected[1]}:{moment.date()}", "the daemon launches a key once"


def test_a_long_gap_is_caught_up_in_order_until_nothing_is_left(database: Database, ask: Asked) -> None:
    store_snapshots(database, [date(2023, 12, 29)])
    covered: list[date] = []
    for _ in range(3):
        answer = ask(tick_after(date(2025, 6, 30)))
        if isinstance(answer, dg.SkipReason):
            assert str(answer.skip_message) == "2025-06-30 is done, the newest snapshot is of 2025-06-30"
            break
        first, last = map(date.fromisoformat, asked_range(answer))
        days = CALENDAR.between(first, last)
        assert len(days) <= 252
        covered += days
        store_snapshots(database, [last])  # the run succeeded
    else:
        pytest.fail("the gap was never closed")
    assert covered == list(CALENDAR.between(date(2024, 1, 2), date(2025, 6, 30)))


@pytest.mark.parametrize(
    "moment",
    [
        tick_after(date(2024, 7, 4)),  # the day after a holiday: the session before it is done
        datetime(2024, 3, 10, 0, 30, tzinfo=UTC),  # a manual tick on a Sunday
        datetime(2024, 3, 8, 15, 0, tzinfo=UTC),  # during the session of the 8th, which has not ended
    ],
)
def test_it_skips_and_says_why_when_nothing_is_missing(database: Database, ask: Asked, moment: datetime) -> None:
    newest = sessions.newest_complete_session(moment)
    store_snapshots(database, [newest])
    answer = ask(moment)
    assert isinstance(answer, dg.SkipReason)
    assert f"{newest} is done" in str(answer.skip_message)


def test_after_the_last_session_of_a_fixed_history_there_is_nothing_to_ask_for(database: Database) -> None:
    end = date(2024, 3, 8)
    settings = Settings(last_session=end)
    source = open_source(settings, CALENDAR)
    store_snapshots(database, [date(2024, 3, 6)])
    asked = missed.look(database, settings, source, CALENDAR, tick_after(date(2024, 3, 15)))
    assert [(chunk.first, chunk.last) for chunk in asked.chunks] == [(date(2024, 3, 7), end)]
    store_snapshots(database, [end])
    done = missed.look(database, settings, source, CALENDAR, tick_after(date(2024, 3, 15)))
    assert not done.chunks
    assert done.sentence.startswith(f"{end} is done")
    assert f"the history ends at {end}" in done.sentence


def test_the_run_it_asks_for_is_one_its_job_can_do(ask: Asked) -> None:
    answer = ask(tick_after(date(2024, 3, 8)))
    job = definitions.defs.resolve_job_def("daily")
    assert schedules.after_close.job_name == job.name
    assert asked_range(answer)[0] in catalog.partitions().get_partition_keys()
    names = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {"daily_prices", "portfolio_snapshots"} <= names
    assert "positions" not in names, "applying imports is not the clock's business"


def test_schedules_are_off_until_somebody_turns_them_on() -> None:
    assert {s.name: s.default_status for s in schedules.SCHEDULES} == {
        "after_close": dg.DefaultScheduleStatus.STOPPED,
        "renew_reference": dg.DefaultScheduleStatus.STOPPED,
        "freshness": dg.DefaultScheduleStatus.STOPPED,
    }
