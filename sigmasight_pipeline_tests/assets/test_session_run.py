"""What every session asset does around its engine, on a real database: sessions, checks, writing, reporting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.tags import BACKFILL_ID_TAG
from sqlalchemy import Table

from sigmasight_pipeline.assets import progress
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource, _database
from sigmasight_pipeline.assets.row_hash import content_hash
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.assets.session_run import (
    REPORT_TAG,
    ReferenceNotReadyError,
)
from sigmasight_pipeline.assets.unpriced import TRIGGER_TAG, NotPricedYetError, UnpricedSessionsError
from sigmasight_pipeline.checks.rules import Rule, findings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.copying import RefusedWriteError
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import merge_rows, replace_sessions
from sigmasight_pipeline.storage.standing import UnknownPortfolioError
from sigmasight_pipeline.storage.windows import as_of
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT, rows

CALENDAR = [date(2024, 1, day) for day in (2, 3, 4, 5)]
CLOSED = date(2024, 1, 4)
D1, D2, D3 = [day for day in CALENDAR if day != CLOSED]
TABLE = tables.portfolio_exposures

ODD = Rule(
    "odd_exposure",
    "WARN",
    "No session has one.",
    lambda judged: findings(judged.frame.filter(pl.col("session_date") == D2), pl.lit("second session")),
)


@dataclass
class Engine:
    """An engine whose rows a test chooses; it remembers the sessions it was asked for."""

    seed: int = 0
    portfolios: int = 2
    fault: dict[str, Any] = field(default_factory=dict)
    asked: list[list[date]] = field(default_factory=list)

    def exposures(self, *, sessions: Sequence[date], calendar: pl.DataFrame) -> pl.DataFrame:
        """Rows of every portfolio."""
        assert calendar.height == len(CALENDAR)
        self.asked.append(list(sessions))
        # of a seed per session, so that a session's rows do not depend on the others asked for
        days = [rows(TABLE, [day], 2, seed=self.seed + day.toordinal()) for day in sessions]
        made = pl.concat(days).drop(tables.PROVENANCE)
        made = made.with_columns(portfolio_id=pl.col("portfolio_id") + 1)
        return made.filter(pl.col("portfolio_id") <= self.portfolios).with_columns(**self.fault)


def asset(engine: Engine, grain: Sequence[Table] = (), *, priced: bool = False) -> dg.AssetsDefinition:
    return session_asset(
        SessionAsset(
            table=TABLE,
            reads={"calendar": as_of(tables.trading_sessions)},
            engine=engine.exposures,
            group="valuation",
            code_version="7",
            rules=[ODD],
            figures={"gross": pl.col("gross_exposure").sum()},
            grain=grain,
            priced=priced,
        )
    )


def run(
    database: Database,
    engine: Engine,
    first: date = D1,
    last: date = D3,
    portfolios: Sequence[str] = (),
    grain: Sequence[Table] = (),
    *,
    priced: bool = False,
    tags: dict[str, str] | None = None,
    raises: bool = True,
) -> dg.ExecuteInProcessResult:
    """One run over a range, as the launcher makes it."""
    ends = {"start": first, "end": last}
    return dg.materialize(
        [asset(engine, grain, priced=priced)],
        resources={"postgres": PostgresResource(database_url=database.url), "settings": SettingsResource()},
        tags={f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in ends.items()} | (tags or {}),
        run_config={"ops": {TABLE.name: {"config": {"portfolios": list(portfolios)}}}},
        raise_on_error=raises,
    )


@pytest.fixture
def stored(database: Database) -> Iterator[Database]:
    """The calendar with an unscheduled closure, and two portfolios."""
    calendar = sessions_frame(CALENDAR, [CLOSED]).with_columns(opens_at=pl.lit(MOMENT), closes_at=pl.lit(MOMENT))
    calendar = calendar.select(pl.col(name).cast(kind) for name, kind in polars_schema(tables.trading_sessions).items())
    books = frame(tables.portfolios, [portfolio(1, D1), portfolio(2, D1)]).drop("portfolio_id")
    with database.connect() as connection:
        merge_rows(
            connection, tables.trading_sessions, calendar, key=("session_date",), scope=None, delete_missing=True
        )
        merge_rows(connection, tables.portfolios, books, key=("code",), scope=None, delete_missing=True)
    yield database
    _database(database.url).close()


def kept(database: Database) -> pl.DataFrame:
    return database.read(TABLE, order_by=["session_date", "portfolio_id"])


def content(database: Database) -> pl.DataFrame:
    return kept(database).drop(tables.PROVENANCE)


def materialized(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    """The materialisation of every partition."""
    steps = [event for event in result.all_events if event.is_step_materialization]
    return [step.step_materialization_data.materialization for step in steps]


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """Metadata by partition."""
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in materialized(result)
    }


def test_a_range_is_computed_checked_written_and_told(stored: Database) -> None:
    engine, heard = Engine(), list[progress.StepDone]()
    with progress.listening(heard.append):
        result = run(stored, engine)
    assert engine.asked == [[D1, D2, D3]]
    written = kept(stored)
    assert written["session_date"].unique().sort().to_list() == [D1, D2, D3]
    assert written["code_version"].unique().to_list() == ["7"]
    assert written["run_id"].unique().to_list() == [result.run_id]
    # one verdict per session, one evaluation for the run
    quality = stored.read(tables.data_quality_results, order_by="session_date")
    assert quality.select("session_date", "asset", "check_name", "severity", "passed", "run_id").rows() == [
        (day, TABLE.name, "odd_exposure", "WARN", day != D2, result.run_id) for day in (D1, D2, D3)
    ]
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["failing_sessions"].value == D2.isoformat()
    # every partition has its own row count and figures; the closure says why it has none
    told = metadata(result)
    assert set(told) == {day.isoformat() for day in CALENDAR}
    for day in (D1, D2, D3):
        own = written.filter(pl.col("session_date") == day)
        assert told[day.isoformat()]["dagster/row_count"] == 2
        assert told[day.isoformat()]["gross"] == pytest.approx(float(own["gross_exposure"].sum()), abs=1e-9)
    assert told[CLOSED.isoformat()]["dagster/row_count"] == 0
    assert str(told[CLOSED.isoformat()]["status"]).startswith("closed: ")
    assert [(step.asset, step.first, step.last, step.rows) for step in heard] == [(TABLE.name, D1, D3, 6)]


def test_a_result_is_as_old_as_the_reading_of_its_inputs(stored: Database) -> None:
    """What changes while it is computed has not been seen by it, and must count as newer."""
    moments: list[datetime] = []

    class Timed(Engine):
        """Says when it began."""

        def exposures(self, *, sessions: Sequence[date], calendar: pl.DataFrame) -> pl.DataFrame:
            """As the other."""
            moments.append(datetime.now(UTC))
            return super().exposures(sessions=sessions, calendar=calendar)

    run(stored, Timed())
    assert kept(stored)["computed_at"].max() < moments[0]


def test_a_run_that_reports_tells_what_it_moved(stored: Database) -> None:
    run(stored, Engine())
    assert stored.read(tables.recomputation_changes).is_empty(), "ordinary runs do not pay for it"
    result = run(stored, Engine(seed=1, portfolios=1), D2, D3, ["book-1"], tags={REPORT_TAG: "true"})
    told = stored.read(tables.recomputation_changes).drop("recorded_at")
    assert told.rows() == [(result.run_id, TABLE.name, 1, 0, 2, 0, 0, D2, D3, None)]
    assert metadata(result)[D2.isoformat()]["run_rows_updated"] == 2
    again = run(stored, Engine(seed=1), D1, D3, tags={REPORT_TAG: "true"})
    assert metadata(again)[D2.isoformat()]["run_rows_unchanged"] == 2
    assert metadata(again)[D2.isoformat()]["run_rows_updated"] == 4


def test_a_run_too_large_for_one_part_is_told_as_one(stored: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, verdicts, figures = set[str](), list[object](), list[object]()
    for grain, asked in (((), [[D1, D2, D3]]), ((tables.portfolios,), [[D1], [D2], [D3]])):
        # two portfolios are two rows a session: two rows at a time are one session, the closure among them
        monkeypatch.setattr("sigmasight_pipeline.assets.session_asset.ROWS_AT_A_TIME", 2 if grain else 1_000)
        engine = Engine()
        result = run(stored, engine, grain=grain)
        assert engine.asked == asked
        versions |= {(event.tags or {})["dagster/data_version"] for event in materialized(result)}
        (evaluation,) = result.get_asset_check_evaluations()
        verdicts.append((evaluation.passed, evaluation.description, evaluation.metadata))
        figures.append({day: told["gross"] for day, told in metadata(result).items() if "gross" in told})
        assert sum(int(str(told["dagster/row_count"])) for told in metadata(result).values()) == kept(stored).height
        assert set(metadata(result)) == {day.isoformat() for day in CALENDAR}
    assert len(versions) == 1
    assert verdicts[0] == verdicts[1]
    assert figures[0] == figures[1]


def test_what_was_judged_is_told_before_the_run_fails(stored: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the check that found something shows "Not evaluated"."""

    class Broken(Engine):
        """Fails at the last session."""

        def exposures(self, *, sessions: Sequence[date], calendar: pl.DataFrame) -> pl.DataFrame:
            """As the other."""
            if D3 in sessions:
                raise ArithmeticError("broken")
            return super().exposures(sessions=sessions, calendar=calendar)

    monkeypatch.setattr("sigmasight_pipeline.assets.session_asset.ROWS_AT_A_TIME", 2)
    result = run(stored, Broken(), grain=(tables.portfolios,), raises=False)
    assert not result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.metadata["sessions_checked"].value) == (False, 2)
    assert evaluation.metadata["failing_sessions"].value == D2.isoformat()
    assert kept(stored)["session_date"].unique().sort().to_list() == [D1, D2]


def test_a_run_of_nothing_but_a_closure_empties_it(stored: Database) -> None:
    run(stored, Engine())
    with stored.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolio_exposures SET session_date = %s WHERE session_date = %s", (CLOSED, D3)
        )
    engine = Engine()
    assert run(stored, engine, CLOSED, CLOSED).success
    assert engine.asked == []
    assert kept(stored)["session_date"].unique().sort().to_list() == [D1, D2]


def test_sessions_after_the_newest_price_wait_and_repeat_what_was_found(stored: Database) -> None:
    """A backfill of the Dagster UI reaches through look-backs to sessions nobody has prices of yet."""
    with pytest.raises(UnpricedSessionsError, match="no prices are stored of 2024-01-02 and 2 more"):
        run(stored, Engine(), priced=True)
    prices = rows(tables.daily_prices, [D1, D2], 1)
    replace_sessions(stored, [(tables.daily_prices, prices)], [D1, D2])
    engine = Engine()
    told = metadata(run(stored, engine, priced=True))
    assert engine.asked == [[D1, D2]]
    assert set(told) == {str(D1), str(D2), str(CLOSED)}, "no partition is green with nothing in it"
    before, verdicts = content(stored), stored.read(tables.data_quality_results)
    for tag in (TRIGGER_TAG, BACKFILL_ID_TAG):
        later = run(stored, Engine(seed=1), D3, D3, priced=True, tags={tag: "one"})
        assert materialized(later) == []
        assert content(stored).equals(before)
        assert stored.read(tables.data_quality_results).equals(verdicts), "nothing was judged, nothing is added"
        (evaluation,) = later.get_asset_check_evaluations()
        assert not evaluation.passed, "what the newest run found stands"
        assert evaluation.metadata["failing_sessions"].value == D2.isoformat()
        assert evaluation.metadata["sessions_checked"].value == 2
    with pytest.raises(
        NotPricedYetError,
        match=f"{D3} has no prices yet, and the newest session with prices is {D2}: .*sigmasight backfill --from {D3}",
    ):
        run(stored, Engine(), D3, D3, priced=True)
    replace_sessions(stored, [(tables.daily_prices, prices.clear())], [D1])
    with pytest.raises(UnpricedSessionsError, match="no prices are stored of 2024-01-02: "):
        run(stored, Engine(), D1, D1, priced=True)


def test_the_same_rows_have_the_same_data_version(stored: Database) -> None:
    def versions(engine: Engine) -> set[str]:
        return {(event.tags or {})["dagster/data_version"] for event in materialized(run(stored, engine))}

    first = versions(Engine())
    before = content(stored)
    assert versions(Engine()) == first
    assert content(stored).equals(before)
    assert versions(Engine(seed=1)) != first
    assert not content(stored).equals(before)


def test_a_frame_that_must_not_land_changes_nothing(stored: Database) -> None:
    run(stored, Engine())
    before = kept(stored)
    quality = stored.read(tables.data_quality_results).height
    with pytest.raises(RefusedWriteError, match="NaN or infinite in hhi"):
        run(stored, Engine(seed=1, fault={"hhi": pl.lit(float("nan"))}))
    with pytest.raises(RefusedWriteError, match="session_date 2024-01-05, which this write does not cover"):
        run(stored, Engine(seed=1, fault={"session_date": pl.lit(D3)}), D1, D1)
    assert kept(stored).equals(before)
    assert stored.read(tables.data_quality_results).height == quality


def test_a_run_of_one_portfolio_touches_no_other(stored: Database) -> None:
    run(stored, Engine())
    before = content(stored)
    told = metadata(run(stored, Engine(seed=1, portfolios=1), portfolios=["book-1"]))
    after = content(stored)
    for day in (D1, D2, D3):
        of_day = after.filter(pl.col("session_date") == day)
        assert told[day.isoformat()]["dagster/row_count"] == of_day.height == 2, "of the partition, not of the run"
        assert told[day.isoformat()]["gross"] == pytest.approx(float(of_day["gross_exposure"].sum()), abs=1e-9)
    other = pl.col("portfolio_id") == 2
    assert after.filter(other).equals(before.filter(other))
    assert not after.filter(~other).equals(before.filter(~other))
    with pytest.raises(UnknownPortfolioError, match=r"unknown portfolio\(s\) nobody; known: book-1, book-2"):
        run(stored, Engine(seed=2), portfolios=["book-1", "nobody"])
    assert content(stored).equals(after)


def test_without_reference_assets_the_run_says_what_to_do(database: Database) -> None:
    with pytest.raises(ReferenceNotReadyError, match="materialise the reference assets first"):
        run(database, Engine())
    _database(database.url).close()


def test_content_hash() -> None:
    made = rows(TABLE, [D1, D2], 5)
    same = content_hash(made)
    later = made.with_columns(computed_at=pl.col("computed_at").dt.offset_by("1d"), run_id=pl.lit("x"))
    assert content_hash(made.reverse()) == content_hash(later.sample(fraction=1, shuffle=True, seed=3)) == same
    prices = rows(tables.daily_prices, [D1], 3)
    refetched = prices.with_columns(pl.col("fetched_at").dt.offset_by("1h"))
    assert content_hash(refetched) == content_hash(prices)
    different = [
        made.head(9),
        pl.concat([made, made.head(1)]),
        made.with_columns(hhi=pl.col("hhi") + 1e-12),
        made.with_columns(portfolio_id=pl.col("portfolio_id") + 1),
        made.clear(),
    ]
    hashes = {content_hash(one) for one in [made, *different]}
    assert len(hashes) == len(different) + 1
    assert content_hash(made.clear()) == "empty"
