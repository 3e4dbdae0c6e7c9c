"""A rule's verdict: what is found by session, and the two places it goes (the Dagster UI and data_quality_results)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pytest

from sigmasight_pipeline.checks.rules import (
    FINDINGS,
    SHOWN_FINDINGS,
    SHOWN_SESSIONS,
    Rule,
    Severity,
    Verdict,
    findings,
    nothing,
)
from sigmasight_pipeline.checks.schema import validate
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import append_rows
from sigmasight_pipeline_tests.checks.cases import Finding, judged
from sigmasight_pipeline_tests.storage.sample_rows import weekdays

DAYS = weekdays(30, date(2024, 1, 2))
MOMENT = datetime(2024, 6, 3, 22, 15, tzinfo=UTC)
ASSET = str(tables.position_values.name)


def verdict(told: Sequence[Finding], *, sessions: Sequence[date] = DAYS[:3], severity: Severity = "ERROR") -> Verdict:
    """The verdict of a rule that finds `told`."""
    frame = pl.DataFrame(told, schema=FINDINGS, orient="row")
    return Rule("no_fault", severity, "There is no fault.", lambda _: frame).verdict(judged(sessions))


def metadata(result: dg.AssetCheckResult) -> dict[str, object]:
    return {name: value.value for name, value in result.metadata.items()}


TOLD: list[Finding] = [
    (DAYS[2], 1, "late"),
    (DAYS[0], 2, "worse"),
    (DAYS[0], 1, "bad"),
    (DAYS[0], 2, "other"),
    (DAYS[0], None, "all of them"),
]
"""Out of order, as a join may leave them."""


def test_what_was_found_is_sorted_by_session() -> None:
    what = verdict(TOLD)
    assert not what.passed
    assert what.failing_sessions == [DAYS[0], DAYS[2]]
    assert what.findings["session_date"].is_sorted()
    assert dict(what.findings.schema) == FINDINGS
    assert what.sentence == f"5 finding(s) on 2 of 3 session(s), first {DAYS[0]}: all of them"


def test_findings_of_any_frame() -> None:
    frame = pl.DataFrame({"session_date": DAYS[:1], "portfolio_id": pl.Series([7], dtype=pl.Int32), "x": [1]})
    whole = Rule("r", "WARN", "R.", lambda _: findings(frame, pl.format("x is {}", "x"))).verdict(judged(DAYS))
    assert whole.findings.rows() == [(DAYS[0], 7, "x is 1")]
    without = Rule("r", "WARN", "R.", lambda _: findings(frame.drop("portfolio_id"), pl.lit("x"))).verdict(judged(DAYS))
    assert without.findings.rows() == [(DAYS[0], None, "x")]
    assert nothing().is_empty()
    assert dict(nothing().schema) == FINDINGS


def test_one_row_per_session_with_its_portfolios() -> None:
    rows = verdict(TOLD).rows(ASSET, "run-1", MOMENT)
    assert validate(tables.data_quality_results, rows, DAYS[:3]).equals(rows)
    assert rows.select("session_date", "passed", "description").rows() == [
        (DAYS[0], False, "all of them; bad; other; worse"),
        (DAYS[1], True, "passed"),
        (DAYS[2], False, "late"),
    ]
    assert [None if text is None else json.loads(text) for text in rows["metadata"]] == [
        {"findings": 4, "portfolio_ids": [1, 2]},
        None,
        {"findings": 1, "portfolio_ids": [1]},
    ]
    assert rows.select("asset", "check_name", "run_id", "severity", "checked_at").unique().rows() == [
        (ASSET, "no_fault", "run-1", "ERROR", MOMENT)
    ]


def test_a_finding_outside_the_run_gets_its_own_row() -> None:
    """A gap before the run is found by it; the row belongs to the session of the gap."""
    rows = verdict([(DAYS[9], 3, "gap")], sessions=DAYS[:2]).rows(ASSET, "run-1", MOMENT)
    assert rows.select("session_date", "passed").rows() == [(DAYS[0], True), (DAYS[1], True), (DAYS[9], False)]


def test_no_sessions_no_rows() -> None:
    what = verdict([], sessions=[])
    assert what.rows(ASSET, "run-1", MOMENT).is_empty()
    assert what.sentence == "passed on 0 session(s)"


def test_many_findings_of_a_session_are_cut() -> None:
    many = [(DAYS[0], number, f"fault {number:03}") for number in range(SHOWN_FINDINGS + 30)]
    row = verdict(many).rows(ASSET, "run-1", MOMENT).row(0, named=True)
    assert row["description"].split("; ") == [f"fault {number:03}" for number in range(SHOWN_FINDINGS)]
    assert json.loads(row["metadata"])["findings"] == SHOWN_FINDINGS + 30
    assert len(json.loads(row["metadata"])["portfolio_ids"]) == SHOWN_FINDINGS + 30


@pytest.mark.parametrize("asset", [ASSET, tables.position_values.name], ids=["text", "a name of SQLAlchemy's"])
def test_rows_are_stored_and_a_second_run_adds_its_own(shared_database: Database, asset: str) -> None:
    what = verdict(TOLD)
    table = tables.data_quality_results
    for run in ("run-1", "run-2", "run-2"):
        with shared_database.connect() as connection:
            append_rows(connection, table, what.rows(asset, run, MOMENT), replace=True)
    stored = shared_database.read(table, order_by=["run_id", "session_date"])
    assert stored["run_id"].to_list() == ["run-1"] * 3 + ["run-2"] * 3
    assert json.loads(stored["metadata"][0]) == {"findings": 4, "portfolio_ids": [1, 2]}


def test_a_pass_in_the_ui() -> None:
    result = verdict([]).dagster_result(ASSET)
    assert result.passed
    assert result.description == "passed on 3 session(s)"
    assert metadata(result) == {"sessions_checked": 3, "sessions_failing": 0}


@pytest.mark.parametrize("severity", ["ERROR", "WARN"])
def test_a_failure_in_the_ui(severity: Severity) -> None:
    what = verdict(TOLD, severity=severity)
    result = what.dagster_result(ASSET)
    assert not result.passed
    assert result.asset_key == dg.AssetKey(ASSET)
    assert result.check_name == "no_fault"
    assert result.severity.value == severity
    assert result.description == what.sentence
    assert metadata(result) == {
        "sessions_checked": 3,
        "sessions_failing": 2,
        "failing_sessions": f"{DAYS[0]}, {DAYS[2]}",
        "findings": "\n".join(f"- {day}: {text}" for day, _, text in sorted(TOLD, key=lambda one: (one[0], one[2]))),
    }


def test_the_ui_names_the_first_sessions_and_how_many() -> None:
    result = verdict([(day, 1, "bad") for day in reversed(DAYS)], sessions=DAYS).dagster_result(ASSET)
    told = metadata(result)
    assert told["sessions_failing"] == len(DAYS)
    assert told["failing_sessions"] == ", ".join(day.isoformat() for day in DAYS[:SHOWN_SESSIONS])
    assert str(told["findings"]).count("\n") == SHOWN_FINDINGS - 1


@pytest.mark.parametrize(("severity", "blocking"), [("ERROR", True), ("WARN", False)])
def test_errors_block_and_warnings_do_not(severity: Severity, *, blocking: bool) -> None:
    spec = Rule("no_fault", severity, "There is no fault.", lambda _: nothing()).spec(ASSET)
    assert spec.blocking is blocking
    assert (spec.name, spec.description, spec.asset_key) == ("no_fault", "There is no fault.", dg.AssetKey(ASSET))
