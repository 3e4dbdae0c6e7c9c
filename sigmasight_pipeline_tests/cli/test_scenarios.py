"""`sigmasight scenarios`: files are checked without an installation; what is not honoured is never shown unmarked."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sigmasight_pipeline.cli import scenarios as command
from sigmasight_pipeline.cli import summary
from sigmasight_pipeline.cli.console import UserError
from sigmasight_pipeline.operations import scenarios
from sigmasight_pipeline.storage import schema, tables
from sigmasight_pipeline.storage.copying import copy_rows, relation
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.calculations.stress_world import long, market, scenario, worst
from sigmasight_pipeline_tests.calculations.table_rows import frame

STATED = [
    scenario("contradiction", {"Market": -0.2, "Growth": 0.3, "Momentum": -0.4}),
    scenario("down", {"Market": -0.1}),
    scenario("exact", {"Market": -0.2, "Technology": {"relative": 0.1}}, confidence="exact"),
    scenario("gone", {"Market": -0.2, "Mars": 0.1}, active=False),
    worst("worst_month", 21),
]


def checked(path: Path) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(command.app, ["check", str(path)])
    return done.output, None if isinstance(done.exception, SystemExit) else done.exception


def test_a_right_file_is_told_and_how_to_use_it() -> None:
    with resources.as_file(resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")) as path:
        said, error = checked(path)
        assert error is None
        assert "46 scenario(s), 8 replay, 37 vector, 1 worst" in said
        assert f"SIGMASIGHT_SCENARIOS_FILE={path}" in said


def test_a_wrong_file_is_refused_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "scenarios:\n  - id: mine\n    name: Mine\n    category: market\n    severity: base\n"
        "    shocks: {Value: {relative: 0.1}}\n  - id: mine\n    name: Mine\n    category: replay\n"
        "    severity: base\n    replay: {from: 2020-03-23, to: 2020-02-19}\n"
    )
    _, error = checked(path)
    assert isinstance(error, UserError)
    said = str(error)
    assert "3 error(s), no scenario was changed" in said
    for line, reason in ((6, "relative_without_market"), (7, "duplicate_id"), (11, "replay_ends_before_it_begins")):
        assert any(row.startswith(f"  line {line}: ") and reason in row for row in said.splitlines()), said
    _, error = checked(tmp_path / "none.yaml")
    assert "No such file" in str(error)


@pytest.fixture
def stored(database_url: str) -> Iterator[Database]:
    """Scenarios of two sessions as an installation has them."""
    schema.upgrade(database_url)
    database = Database(database_url)
    made = market({"AAA": {"Market": 1.0}}, computed=2).holding(long(1, "AAA"))
    _, _, diagnostics, shocks = made.told(*STATED)
    with database.connect() as connection:
        rows = frame(tables.stress_test_scenarios, STATED)
        copy_rows(connection, relation(tables.stress_test_scenarios), rows)
    stamps = {name: polars_schema(tables.stress_scenario_shocks)[name] for name in tables.PROVENANCE}
    values = {"computed_at": made.sessions[0], "code_version": "2", "run_id": "x"}
    stamped = [
        told.with_columns(pl.lit(values[name]).cast(kind).alias(name) for name, kind in stamps.items())
        for told in (diagnostics, shocks)
    ]
    written = zip((tables.stress_scenario_diagnostics, tables.stress_scenario_shocks), stamped, strict=True)
    replace_sessions(database, list(written), made.sessions)
    yield database
    database.close()


def test_what_is_stated_stands_beside_what_is_applied(stored: Database) -> None:
    session, documents = scenarios.described(stored)
    assert session is not None
    lines = [line for told in documents for line in command._lines(told)]
    text = "\n".join(lines)
    assert "contradiction                      vector, market" in lines
    assert "  Growth            +30.0%" in text
    assert any("stated shocks not honoured, Growth is stated as 0.3 and applied as -" in line for line in lines)
    assert "exact                              exact, market" in lines
    assert any(line.startswith("  Technology        +10.0% beyond the market's") and "100%" in line for line in lines)
    assert "  Mars              +10.0%                    applied        -, honoured     -" in lines
    assert "  not active" in lines
    assert "worst_month                        worst, market" in lines
    assert "  worst 21 sessions" in lines


def test_the_summary_marks_what_is_not_honoured(stored: Database) -> None:
    session, _ = scenarios.described(stored)
    assert session is not None
    marks = scenarios.marks(stored, [session])
    assert marks == {(session, "contradiction"): "stated shocks not honoured"}
    row: dict[str, object] = {"worst_scenario": "contradiction", "worst_pnl": "-20000.00", "worst_impact": -0.02}
    told = summary._worst_scenario(row, f", {marks[session, 'contradiction']}")
    assert told == "worst scenario: contradiction -20,000.00 (-2.0%), stated shocks not honoured\n"
