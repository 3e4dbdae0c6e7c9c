"""Prices that come late: what has some is computed, the rest waits, and nobody has to do anything about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import backfills, books, freshness, missed, restatement, schedules
from sigmasight_pipeline.operations.jobs import asset_names
from sigmasight_pipeline.operations.launcher import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    REASON_TAG,
    Chunk,
    Outcome,
    plan_range,
)
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import backfills as backfill_rows
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.freshness import stored
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    expect,
    installation,
    rows,
    run_history,
    run_sessions,
)
from sigmasight_pipeline_tests.operations.gap_world import found

DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 1, 16))
DONE = DAYS[3]
BOOK = "ticker,quantity,entry_price,entry_date\nAAA,100,10,2024-01-02\nBBB,-50,20,2024-01-02\nCCC,10,30,2024-01-02\n"


def write(folder: Path, last: date, *, of_newest: Sequence[str] = ("AAA", "BBB", "CCC")) -> None:
    """prices.csv through `last`, of which only the symbols `of_newest` have a close."""
    lines = ["symbol,date,close"]
    for number, day in enumerate(day for day in DAYS if day <= last):
        symbols = of_newest if day == last else ("AAA", "BBB", "CCC")
        lines += [f"{symbol},{day},{10 * ('ABC'.index(symbol[0]) + 1) + number / 4}" for symbol in symbols]
    (folder / "prices.csv").write_text("\n".join(lines) + "\n")
    resources._source.cache_clear()


@pytest.fixture
def opened(server: EmbeddedServer, tmp_path: Path) -> Iterator[Installation]:
    """A book of three symbols computed through DONE, the last session with prices."""
    write(tmp_path, DONE)
    settings = {"price_source": "files", "files_dir": str(tmp_path), "first_session": str(DAYS[0])}
    with temporary_home() as home, installation(server, home, **settings) as made:
        importer = books.Importer(made.database, made.settings, open_source(made.settings, CALENDAR))
        importer.positions(BOOK.encode(), "book.csv", books.Book(name="Book", equity="10000"))
        expect(made.launcher.run(Chunk(job="reference")))
        run_history(made, DAYS[0], DONE)
        yield made


def tick(opened: Installation, session: date) -> dg.RunRequest | dg.SkipReason:
    """What the schedule answers at 00:30 UTC after `session`."""
    with dg.build_schedule_context(
        instance=opened.launcher.instance,
        scheduled_execution_time=datetime.combine(session + timedelta(days=1), time(0, 30), UTC),
        resources={
            "postgres": PostgresResource(database_url=opened.database_url),
            "settings": SettingsResource(),
            "market_data": MarketDataResource(),
        },
    ) as context:
        answer = schedules.after_close(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def launched(opened: Installation, answer: dg.RunRequest | dg.SkipReason) -> Outcome:
    """The run the schedule asks for, as the daemon launches it."""
    assert isinstance(answer, dg.RunRequest), answer
    first, last = (date.fromisoformat(answer.tags[tag]) for tag in (RANGE_START_TAG, RANGE_END_TAG))
    (chunk,) = plan_range("daily", first, last, calendar=CALENDAR, size=252, trigger="schedule")
    assert chunk.tags == answer.tags
    return opened.launcher.run(chunk)


def valued(opened: Installation) -> list[date]:
    return rows(opened, tables.portfolio_snapshots)["session_date"].to_list()


def green(opened: Installation, name: str) -> set[str]:
    return set(opened.launcher.instance.get_materialized_partitions(dg.AssetKey(name)))


def test_sessions_wait_for_their_prices_and_are_computed_when_they_come(opened: Installation, tmp_path: Path) -> None:
    """Three nights without prices, which then come at once, of one session less than there should be."""
    for late in DAYS[4:7]:
        answer = tick(opened, late)
        assert isinstance(answer, dg.SkipReason)
        assert str(answer.skip_message).endswith(f"for prices: the source has none after {DONE}")
        assert str(answer.skip_message).startswith(f"{DAYS[4]}")
    write(tmp_path, DAYS[6])
    source = open_source(opened.settings, CALENDAR)
    now = datetime.combine(DAYS[7] + timedelta(days=1), time(12), UTC)
    told = missed.request(opened.database, opened.settings, source, CALENDAR, now)
    assert f"{DAYS[4]} to {DAYS[6]}" in told
    assert f"{DAYS[7]} waits for prices" in told
    assert "asked for before" in missed.request(opened.database, opened.settings, source, CALENDAR, now)
    (asked,) = backfills.open_requests(opened.database)
    assert [(chunk.first, chunk.last) for chunk in asked.chunks] == [(DAYS[4], DAYS[6])]
    expect(launched(opened, tick(opened, DAYS[7])))
    assert valued(opened) == list(DAYS[:7])
    assert found(opened) == []


def test_a_session_with_too_few_prices_does_not_keep_those_before_it_from_being_valued(
    opened: Installation, tmp_path: Path
) -> None:
    write(tmp_path, DAYS[6], of_newest=("AAA",))
    stopped = launched(opened, tick(opened, DAYS[6]))
    assert stopped.first_failing_session == DAYS[6]
    assert "The sessions of this run before it were written." in stopped.errors[0]
    (gap,) = found(opened)
    assert (gap.first, gap.last) == (DAYS[4], DAYS[5]), "priced and not valued: the sensor fills it"
    expect(launched(opened, tick(opened, DAYS[6])))
    assert valued(opened) == list(DAYS[:6])
    again = launched(opened, tick(opened, DAYS[6]))
    assert not again.succeeded
    assert "were written" not in again.errors[0], "there was no session before it in this run"


def corrected(opened: Installation) -> None:
    """The close of the newest computed session is another one, and nothing has followed it yet."""
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.daily_prices SET close = close + 1 WHERE symbol = 'AAA' AND session_date = %s", (DONE,)
        )


def owed(opened: Installation) -> restatement.OutOfDate | None:
    return missed.owed_before(opened.database, opened.settings, CALENDAR)


def test_a_new_session_waits_for_what_changed_before_it(
    opened: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sensors follow it, by waiting for them."""
    monkeypatch.setenv("SIGMASIGHT_SENSORS", "on")
    get_settings.cache_clear()
    corrected(opened)
    write(tmp_path, DAYS[4])
    source = open_source(opened.settings, CALENDAR)
    now = datetime.combine(DAYS[5], time(12), UTC)

    def of_gaps() -> str:
        return missed.request(opened.database, opened.settings, source, CALENDAR, now)

    answer = tick(opened, DAYS[4])
    assert isinstance(answer, dg.SkipReason), "its value would start from one that is older than its close"
    assert "the sensor `gaps` asks for it when this has ended: the restatement for 1 change(s)" in str(
        answer.skip_message
    )
    assert "asked for when this is followed: 1 change(s) of inputs" in of_gaps()
    assert backfills.open_requests(opened.database) == []
    asked = restatement.ask(opened.database, opened.settings, CALENDAR, busy=None, now=now)
    again = tick(opened, DAYS[4])
    assert isinstance(again, dg.SkipReason)
    assert f"when this has ended: backfill {asked.backfill_id}" in str(again.skip_message)
    (request,) = backfills.open_requests(opened.database)
    backfills.drive(opened.database, request, lambda chunk, tags: expect(opened.launcher.run(chunk, tags=tags)))
    expect(launched(opened, tick(opened, DAYS[4])))
    assert owed(opened) is None
    assert valued(opened) == list(DAYS[:5])


def test_without_sensors_the_schedule_itself_follows_what_changed(opened: Installation, tmp_path: Path) -> None:
    corrected(opened)
    write(tmp_path, DAYS[4])
    found = owed(opened)
    assert found is not None
    answer = tick(opened, DAYS[4])
    assert isinstance(answer, dg.RunRequest)
    (chunk,) = found.chunks
    assert (chunk.first, chunk.last) == (DONE, DONE)
    assert answer.asset_selection == chunk.asset_selection
    assert answer.tags[REASON_TAG].startswith(f"restatement before {DAYS[4]}: 1 change(s)")
    assert not run_sessions(opened, DAYS[4]).succeeded, "asked for beforehand it does not add up"
    expect(opened.launcher.run(chunk))
    expect(launched(opened, tick(opened, DAYS[4])))
    assert valued(opened) == list(DAYS[:5])


def test_what_a_person_terminated_keeps_no_session_waiting(opened: Installation, tmp_path: Path) -> None:
    corrected(opened)
    write(tmp_path, DAYS[4])
    now = datetime.combine(DAYS[5], time(12), UTC)
    asked = restatement.ask(opened.database, opened.settings, CALENDAR, busy=None, now=now)
    assert asked.backfill_id is not None
    terminated = {"message": backfills.CANCELED, "canceled": True}
    backfill_rows.fail(opened.database, asked.backfill_id, terminated, now)
    assert owed(opened) is None
    answer = tick(opened, DAYS[4])
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags[RANGE_START_TAG] == str(DAYS[4])


def test_what_has_no_prices_is_not_green_and_a_person_is_told(opened: Installation, tmp_path: Path) -> None:
    write(tmp_path, DAYS[5])
    expect(run_sessions(opened, DAYS[4], DAYS[6]))
    for name in asset_names("daily"):
        assert green(opened, name) == {str(day) for day in DAYS[:6]}, name
    (checked,) = opened.database.query(
        "SELECT passed, severity FROM sigmasight.data_quality_results "
        "WHERE check_name = 'newest_sessions_priced' AND session_date = %s",
        (DAYS[6],),
    ).to_dicts()
    assert checked == {"passed": False, "severity": "WARN"}
    by_hand = opened.launcher.definitions.resolve_job_def("daily").execute_in_process(
        instance=opened.launcher.instance,
        tags={RANGE_START_TAG: str(DAYS[6]), RANGE_END_TAG: str(DAYS[7])},
        raise_on_error=False,
    )
    failures = {event.step_key: str(event.step_failure_data.error) for event in by_hand.get_step_failure_events()}
    assert f"the newest session with prices is {DAYS[5]}" in failures["market_prices"]
    assert f"sigmasight backfill --from {DAYS[6]}" in failures["market_prices"]
    for name in asset_names("daily"):
        assert green(opened, name) == {str(day) for day in DAYS[:6]}, name


def test_freshness_says_that_it_is_prices_that_are_late(opened: Installation) -> None:
    answers = freshness.freshness(
        stored(opened.database, freshness.NAMES),
        {},
        datetime.combine(DAYS[6] + timedelta(days=1), time(12), UTC),
        calendar=CALENDAR,
        grace_hours=4,
        closed=(),
    )
    answer = answers["portfolio_snapshots"]
    assert answer.late == 3
    assert answer.sentence.endswith("it waits for prices, of which none are stored after that")
