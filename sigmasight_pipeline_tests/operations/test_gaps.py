"""Gaps: found in the tables, planned as the smallest runs, filled to the last bit, given up after enough attempts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from sigmasight_pipeline.assets import operations as audit
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import backfills, freshness, gaps, jobs
from sigmasight_pipeline.operations.gaps import Gap
from sigmasight_pipeline.operations.launcher import Chunk, Outcome
from sigmasight_pipeline.operations.sensors.gaps import gaps as sensor
from sigmasight_pipeline.operations.sensors.gaps import no_gap_given_up
from sigmasight_pipeline.storage import backfills as stored_backfills
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    run_history,
)
from sigmasight_pipeline_tests.operations.gap_world import found, lost

FIRST, MIDDLE, LAST = date(2024, 1, 2), date(2024, 1, 5), date(2024, 1, 9)
DAYS = CALENDAR.between(FIRST, LAST)
BOOK, BOOKS = "hedge-fund", ("demo-operations", "hedge-fund", "high-net-worth", "individual")
ENGINES = [str(table.name) for table in audit.PORTFOLIO_TABLES]
AUDIT = "calculation_audit"
NOW = datetime(2024, 1, 10, 1, tzinfo=UTC)

HERE = [
    "correlation_calculations",
    "correlation_clusters",
    "group_exposures",
    "pairwise_correlations",
    "portfolio_exposures",
    "position_greeks",
    "position_values",
]
"""What a session of a book is made of that no later session reads through snapshots or look-backs."""

CHAIN = [
    AUDIT,
    "market_risk_scenarios",
    "pnl_attribution",
    "portfolio_factor_exposures",
    "portfolio_risk_metrics",
    "portfolio_simulated_risk",
    "portfolio_snapshots",
    "scenario_accuracy",
    "stress_test_results",
]
"""What may change at every later session."""


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    """The demo books over six sessions, with little price history."""
    with temporary_home() as home, installation(server, home, first_session="2023-12-18") as made:
        import_demo(made)
        run_history(made, FIRST, LAST)
        yield made


@pytest.fixture
def whole(opened: Installation) -> Iterator[Installation]:
    """The same, without ranges that were asked for before."""
    with opened.database.connect() as connection:
        connection.execute("TRUNCATE sigmasight.backfill_progress RESTART IDENTITY")
        connection.execute("DELETE FROM sigmasight.input_changes")
    yield opened
    assert found(opened) == [], "a test puts back what it takes away"


def test_every_check_of_a_run_is_a_row(whole: Installation) -> None:
    """Of reference assets too; those that only the clock asks for become rows when it does (``test_freshness``)."""
    checks = defs.resolve_asset_graph().asset_check_keys
    by_runs = {(key.asset_key.to_user_string(), key.name) for key in checks if key.name != freshness.CHECK}
    by_runs.remove((jobs.NO_GAP_GIVEN_UP.asset_key.to_user_string(), jobs.NO_GAP_GIVEN_UP.name))
    kept = whole.database.query(
        "SELECT DISTINCT asset, check_name FROM sigmasight.data_quality_results WHERE check_name <> %s",
        (jobs.NO_GAP_GIVEN_UP.name,),
    )
    assert set(kept.rows()) == by_runs


def planned(opened: Installation, gap: Gap) -> list[tuple[str, date | None, date | None, list[str], tuple[str, ...]]]:
    source = open_source(opened.settings, CALENDAR)
    chunks = gaps.plan(opened.database, opened.settings, source, CALENDAR, gap)
    assert {chunk.trigger for chunk in chunks} == {"gap"}
    return [(chunk.job, chunk.first, chunk.last, list(chunk.assets), chunk.portfolios) for chunk in chunks]


def of_book(opened: Installation, code: str = BOOK) -> int:
    return int(opened.database.query("SELECT portfolio_id FROM sigmasight.portfolios WHERE code = %s", (code,))[0, 0])


def tick(opened: Installation) -> dg.SensorResult:
    """One evaluation of the sensor, with the project's resources."""
    resource = PostgresResource(database_url=opened.database_url)
    with dg.build_sensor_context(
        instance=opened.launcher.instance,
        resources={"postgres": resource, "settings": SettingsResource(), "market_data": MarketDataResource()},
    ) as context:
        answer = sensor(context)
    assert isinstance(answer, dg.SensorResult)
    return answer


def told(answer: dg.SensorResult) -> str:
    assert answer.skip_reason is not None
    return str(answer.skip_reason.skip_message)


def fail(opened: Installation, gap: Gap, times: int) -> None:
    """Attempts of the sensor's that failed, as the rows they leave."""
    for number in range(1, times + 1):
        made = backfills.request(
            opened.database,
            key=f"{gap.key}{number}",
            trigger="gap",
            reason="a test",
            chunks=[Chunk("daily", gap.first, gap.last, gap.sessions)],
            now=NOW,
        )
        assert made is not None
        stored_backfills.fail(opened.database, made, {"message": f"no prices of {gap.first}"}, NOW)


def test_a_whole_world_has_a_row_or_a_reason_for_everything_and_no_gap(whole: Installation) -> None:
    assert found(whole) == []
    rows = whole.database.read(tables.calculation_audit)
    books = [(of_book(whole, code), engine) for code in BOOKS for engine in ENGINES]
    expected = {(day, *pair) for day in DAYS for pair in (*books, *((0, str(t.name)) for t in audit.SYMBOL_TABLES))}
    assert set(rows.select("session_date", "portfolio_id", "engine").iter_rows()) == expected
    assert set(rows["status"]) == {"complete", "not_expected"}
    assert rows.filter((pl.col("status") == "not_expected") != pl.col("reason").is_not_null()).is_empty()


def test_a_session_lost_in_the_middle_is_found_planned_and_filled_to_the_last_bit(whole: Installation) -> None:
    before = everything(whole)
    owned = [*ENGINES, AUDIT]
    with lost(whole, owned, "session_date = %s AND portfolio_id = %s", MIDDLE, of_book(whole)):
        (gap,) = found(whole)
        assert (gap.portfolios, gap.first, gap.last, gap.sessions) == ((BOOK,), MIDDLE, MIDDLE, 1)
        assert set(gap.engines) == {*owned}, "the session ends a week, so nothing is left out"
        assert planned(whole, gap) == [
            ("daily", MIDDLE, MIDDLE, HERE, (BOOK,)),
            ("daily", MIDDLE, LAST, CHAIN, (BOOK,)),
        ]
        assert f"backfill 1 asked for: {gap}" in told(tick(whole))
        (asked,) = backfills.open_requests(whole.database)
        assert (asked.request_key, asked.requested_by) == (f"{gap.key}1", "gap")
        assert "nothing is looked for while backfill 1" in told(tick(whole)), "it acts once"

        def run(chunk: Chunk, tags: dict[str, str]) -> Outcome:
            return expect(whole.launcher.run(chunk, tags=tags))

        backfills.drive(whole.database, asked, run)
        assert found(whole) == []
        assert_same(whole, before)
        answer = tick(whole)
        assert told(answer) == "0 gap(s), none given up"
        assert [event.passed for event in answer.asset_events if isinstance(event, dg.AssetCheckEvaluation)] == [True]


@pytest.mark.slow
def test_a_session_without_prices_is_filled_to_the_last_bit(whole: Installation) -> None:
    before = everything(whole)
    with lost(whole, ["daily_prices", "daily_returns"], "session_date = %s", MIDDLE):
        source = open_source(whole.settings, CALENDAR)
        (gap,) = found(whole)
        for chunk in gaps.plan(whole.database, whole.settings, source, CALENDAR, gap):
            expect(whole.launcher.run(chunk))
        assert found(whole) == []
        assert_same(whole, before)


def test_a_gap_no_run_fills_is_given_up_after_three_attempts_and_said_so(whole: Installation) -> None:
    with lost(whole, ["group_exposures"], "session_date = %s AND portfolio_id = %s", MIDDLE, of_book(whole)):
        (gap,) = found(whole)
        fail(whole, gap, times=2)
        assert f"backfill 3 asked for: {gap}" in told(tick(whole))
        stored_backfills.fail(whole.database, 3, {"message": "no prices of it"}, NOW)
        for _ in range(2):
            answer = tick(whole)
            assert "1 gap(s) given up, first: hedge-fund, 2024-01-05 (1 session(s)): group_exposures" in told(answer)
            assert backfills.open_requests(whole.database) == [], "no fourth attempt"
            (event,) = answer.asset_events
            assert isinstance(event, dg.AssetCheckEvaluation)
            assert (event.passed, event.check_name) == (False, jobs.NO_GAP_GIVEN_UP.name)
            assert "no prices of it" in (event.description or "")
        document = json.loads(command(whole, "--json", status=1))
        assert [(one["portfolios"], one["attempts"], one["given_up"]) for one in document["gaps"]] == [
            ([BOOK], 3, True)
        ]
        shown = command(whole, status=1)
        assert "given up" in shown
        assert "no prices of it" in shown
    assert told(tick(whole)) == "0 gap(s), none given up", "once it is filled by other means, nothing is given up"


def test_an_attempt_that_succeeds_without_filling_the_gap_counts_too(whole: Installation) -> None:
    with lost(whole, ["group_exposures"], "session_date = %s", MIDDLE):
        (gap,) = found(whole)
        assert gap.portfolios == BOOKS, "the same gap of several books is one"
        for number in (1, 2, 3):
            tick(whole)
            stored_backfills.advance(whole.database, number, done_runs=1, sessions=1, last=True, now=NOW)
        assert "given up" in told(tick(whole))
        assert len(backfills.attempts(whole.database, gap.key)) == 3


def test_nothing_is_looked_for_while_a_run_is_going(whole: Installation) -> None:
    instance = whole.launcher.instance
    run = instance.create_run_for_job(
        whole.launcher.definitions.resolve_job_def("reference"), status=dg.DagsterRunStatus.STARTED
    )
    try:
        assert "nothing is looked for while run" in told(tick(whole))
    finally:
        instance.delete_run(run.run_id)


@pytest.mark.parametrize(
    ("engines", "assets"),
    [
        (
            ["pairwise_correlations"],
            [(MIDDLE, MIDDLE, [AUDIT, "correlation_calculations", "correlation_clusters", "pairwise_correlations"])],
        ),
        (
            ["portfolio_factor_exposures"],  # read by the accuracy of scenarios for 90 sessions
            [(MIDDLE, MIDDLE, ["portfolio_factor_exposures"]), (MIDDLE, LAST, [AUDIT, "scenario_accuracy"])],
        ),
        ([AUDIT], [(MIDDLE, MIDDLE, [AUDIT])]),
    ],
)
def test_a_plan_runs_what_is_missing_and_what_depends_on_it(
    whole: Installation, engines: list[str], assets: list[tuple[date, date, list[str]]]
) -> None:
    with lost(whole, engines, "session_date = %s AND portfolio_id = %s", MIDDLE, of_book(whole)):
        (gap,) = found(whole)
        assert gap.engines == tuple(engines)
        assert planned(whole, gap) == [("daily", first, last, names, (BOOK,)) for first, last, names in assets]


def test_missing_prices_come_first_and_everything_that_carries_them_follows(whole: Installation) -> None:
    with lost(whole, ["daily_prices", "daily_returns"], "session_date = %s", MIDDLE):
        (gap,) = found(whole)
        assert (gap.portfolios, gap.engines) == ((), ("daily_prices",))
        first, second = planned(whole, gap)
        assert first == ("daily", MIDDLE, MIDDLE, ["corporate_actions", "daily_prices", "option_prices"], ())
        assert second[:3] == ("daily", MIDDLE, LAST)
        rest = {"corporate_actions", "daily_prices", "option_prices", "treasury_yields"}
        assert set(second[3]) == set(jobs.asset_names("daily")) - rest


def test_what_books_lack_inside_a_gap_of_prices_belongs_to_it(whole: Installation) -> None:
    lacking = ["daily_prices", "group_exposures"]
    with lost(whole, lacking, "session_date = %s", MIDDLE):
        (gap,) = found(whole)
        assert (gap.portfolios, gap.engines) == ((), tuple(lacking))


def test_a_book_without_any_snapshot_is_run_from_its_inception(whole: Installation) -> None:
    owner = of_book(whole)
    with lost(whole, [*ENGINES, AUDIT], "portfolio_id = %s", owner):
        (gap,) = found(whole)
        assert (gap.portfolios, gap.first, gap.last, gap.sessions) == ((BOOK,), FIRST, LAST, len(DAYS))
        assert planned(whole, gap) == [("daily", FIRST, LAST, sorted([*ENGINES, AUDIT]), (BOOK,))]
        # never priced: its prices and those of the window before it are loaded first
        with lost(whole, ["daily_prices"], "symbol = 'NVDA'"):
            gap = next(one for one in found(whole) if one.portfolios)
            (market, daily) = planned(whole, gap)
            assert market == ("market_data", date(2023, 12, 18), date(2023, 12, 29), [], (BOOK,))
            assert daily == ("daily", FIRST, LAST, [], (BOOK,))


def test_sessions_of_a_broken_chain_are_one_gap_and_other_ones_are_not(whole: Installation) -> None:
    ends = [DAYS[3], DAYS[5]]  # the first sessions the book holds anything at
    with lost(whole, ["position_values"], "session_date = ANY(%s) AND portfolio_id = %s", ends, of_book(whole)):
        (gap,) = found(whole)
        assert (gap.first, gap.last, gap.sessions) == (*ends, 2)
    with lost(whole, ["group_exposures"], "session_date = ANY(%s) AND portfolio_id = %s", ends, of_book(whole)):
        assert [(gap.first, gap.last) for gap in found(whole)] == [(day, day) for day in ends]


def test_what_the_audit_found_partial_is_a_gap_and_an_audit_out_of_date_too(whole: Installation) -> None:
    owner, key = of_book(whole), "session_date = %s AND portfolio_id = %s AND engine = 'position_values'"

    def say(status: str) -> None:
        with whole.database.connect() as connection:
            connection.execute(
                f"UPDATE sigmasight.calculation_audit SET status = %s WHERE {key}".encode(), (status, MIDDLE, owner)
            )

    try:
        say("partial")
        assert [(gap.portfolios, gap.first, gap.engines) for gap in found(whole)] == [
            ((BOOK,), MIDDLE, ("position_values",))
        ]
        say("missing")  # and the rows are there by now
        assert [gap.engines for gap in found(whole)] == [(AUDIT,)]
    finally:
        say("complete")


def test_a_closed_session_is_no_gap(whole: Installation) -> None:
    def close(flag: bool) -> None:
        with whole.database.connect() as connection:
            connection.execute(
                "UPDATE sigmasight.trading_sessions SET is_closed = %s WHERE session_date = %s", (flag, MIDDLE)
            )

    everywhere = [*ENGINES, AUDIT, *(str(table.name) for table in audit.SYMBOL_TABLES)]
    with lost(whole, everywhere, "session_date = %s", MIDDLE):
        assert len(found(whole)) == 1
        try:
            close(True)
            # a week without its Friday ends on Thursday
            assert [(gap.first, gap.engines) for gap in found(whole)] == [(DAYS[2], ("scenario_accuracy",))]
        finally:
            close(False)


def test_symbols_with_too_few_returns_are_named_and_their_prices_loaded(whole: Installation) -> None:
    window = CALENDAR.between(date(2023, 12, 18), LAST)[-10:]
    gone = list(window[2:5])
    with lost(whole, ["daily_prices", "daily_returns"], "symbol = 'XOM' AND session_date = ANY(%s)", gone):
        short = [gap for gap in found(whole, regression_window=10) if gap.symbols]
        assert short == [Gap((), gone[0], gone[-1], 3, ("daily_returns",), ("XOM",))]
        assert planned(whole, short[0]) == [("market_data", gone[0], gone[-1], [], ())]
        # eight of ten would be enough
        with lost(whole, ["daily_returns"], "symbol = 'AAPL' AND session_date = ANY(%s)", gone[:2]):
            assert [gap.symbols for gap in found(whole, regression_window=10) if gap.symbols] == [("XOM",)]


def command(opened: Installation, *options: str, status: int) -> str:
    """What `sigmasight gaps` prints."""
    assert opened.database_url
    result = CliRunner().invoke(_command_tree("gaps"), ["gaps", *options], env={"COLUMNS": "200"})
    assert result.exit_code == status, result.output
    return result.stdout if "--json" in options else result.output


def test_the_command_shows_fills_and_looks_again(whole: Installation) -> None:
    nothing = {"gaps": [], "out_of_date": None, "failed": []}
    assert json.loads(command(whole, "--json", status=0)) == nothing
    with lost(whole, [AUDIT], "session_date = %s AND portfolio_id = %s", MIDDLE, of_book(whole)):
        shown = command(whole, status=1)
        assert all(part in shown for part in (BOOK, str(MIDDLE), AUDIT))
        assert "Nothing is missing." in command(whole, "--portfolio", "individual", status=0)
        assert json.loads(command(whole, "--portfolio", BOOK, "--fill", "--json", status=0)) == nothing
        rows = whole.database.read(tables.batch_runs)
        assert rows.filter(pl.col("trigger") == "gap").height, "it is recorded"


def test_the_check_is_no_part_of_a_run_and_can_be_evaluated_by_hand(whole: Installation) -> None:
    daily = whole.launcher.definitions.resolve_job_def("daily")
    assert not [node.name for node in daily.graph.nodes if "gap" in node.name]
    resource = PostgresResource(database_url=whole.database_url)
    with lost(whole, ["group_exposures"], "session_date = %s", MIDDLE):
        (gap,) = found(whole)
        fail(whole, gap, times=3)
        result = no_gap_given_up(postgres=resource, settings=SettingsResource(), market_data=MarketDataResource())
        assert isinstance(result, dg.AssetCheckResult)
        assert not result.passed
        kept = whole.database.query(
            "SELECT passed, description FROM sigmasight.data_quality_results "
            "WHERE check_name = 'no_gap_given_up' AND run_id = 'by hand'"
        )
        assert kept.rows() == [(False, result.description)]
    result = no_gap_given_up(postgres=resource, settings=SettingsResource(), market_data=MarketDataResource())
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed
