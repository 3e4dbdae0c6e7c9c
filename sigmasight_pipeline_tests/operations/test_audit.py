"""The audit finds every planted fault, says where and what to do, and finds nothing on a healthy world."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.operations.audit import Audit, audit
from sigmasight_pipeline.operations.audit_findings import CODES
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.operations.restatement import OutOfDate, Outstanding
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.standing import UnknownPortfolioError
from sigmasight_pipeline_tests.storage.audit_world import (
    D4,
    D5,
    D6,
    ENGINE,
    LAST,
    NOW,
    backfill,
    place,
    planted,
    run,
    verdict,
    world,
)


@pytest.fixture(scope="module")
def database(server: EmbeddedServer) -> Iterator[Database]:
    with world(server) as opened:
        yield opened


def page(database: Database, *statements: str, **wanted: Any) -> Audit:
    with planted(database, *statements) as connection:
        return audit(connection, Settings(), now=NOW, **wanted)


def test_a_healthy_world_has_no_finding(database: Database) -> None:
    found = page(database)
    assert found.findings == ()
    assert found.healthy
    assert found.looked_at["sessions_behind"] == 0


REPEATED = (
    "INSERT INTO portfolio_snapshots SELECT * FROM portfolio_snapshots WHERE (session_date, portfolio_id) = ('{}', 1)"
)

FAULTS: dict[str, tuple[list[str], list[tuple[str, str | None, str | None, int]], str]] = {
    # statements, (code, portfolio, first, count), what the first finding's command has
    "missing snapshot": (
        [f"DELETE FROM portfolio_snapshots WHERE session_date IN ('{D5}', '{D6}') AND portfolio_id = 1"],
        [("snapshot_missing", "book", D5, 2)],
        f"sigmasight backfill --from {D5} --to {LAST} --portfolio book",
    ),
    "a portfolio without any snapshot": (
        ["DELETE FROM portfolio_snapshots WHERE portfolio_id = 2", "UPDATE portfolios SET equity_balance = NULL, "
         "equity_as_of = NULL WHERE portfolio_id = 2"],
        [("snapshot_missing", "other", "2024-01-02", 10)],
        "--from 2024-01-02 --to 2024-01-16 --portfolio other",
    ),
    "broken NAV": (
        [f"UPDATE portfolio_snapshots SET net_asset_value = net_asset_value + 0.01, cash_balance = cash_balance + 0.01 "
         f"WHERE session_date >= '{D5}' AND portfolio_id = 1", "UPDATE portfolios SET equity_balance = 1590.01 "
         "WHERE portfolio_id = 1"],
        [("net_asset_value_identity", "book", D5, 1)],
        f"sigmasight repair --from {D5} --to {LAST} --portfolio book",
    ),
    "broken cash": (
        [f"UPDATE portfolio_snapshots SET cash_balance = 499.99 WHERE session_date = '{D5}' AND portfolio_id = 2"],
        [("cash_identity", "other", D5, 1)],
        "repair",
    ),
    "a position's value": (
        [f"UPDATE position_values SET market_value = market_value + 1 WHERE session_date = '{D5}' AND position_id = 1"],
        [("market_value_identity", "book", D5, 1)],
        "repair",
    ),
    "a position's P&L": (
        [f"UPDATE position_values SET daily_pnl = daily_pnl + 1, total_pnl = total_pnl + 1 "
         f"WHERE session_date = '{LAST}' AND position_id = 1"],
        [("daily_pnl_identity", "book", LAST, 1)],
        "repair",
    ),
    "broken telescope": (
        [f"UPDATE position_values SET total_pnl = 7 WHERE session_date = '{LAST}' AND position_id = 1"],
        [("telescoping_identity", "book", LAST, 1)],
        "repair",
    ),
    "duplicate": (
        ["ALTER TABLE portfolio_snapshots DROP CONSTRAINT portfolio_snapshots_pkey", REPEATED.format("2024-01-02")],
        [("duplicate_rows", None, "2024-01-02", 1), ("key_missing", None, None, 1)],
        "sigmasight backfill --from 2024-01-02 --to 2024-01-02",
    ),
    "lost primary key": (
        ["ALTER TABLE daily_prices DROP CONSTRAINT daily_prices_pkey"],
        [("key_missing", None, None, 1)],
        "ALTER TABLE sigmasight.daily_prices ADD CONSTRAINT daily_prices_pkey PRIMARY KEY (session_date, symbol)",
    ),
    "lost unique key": (
        ["ALTER TABLE portfolios DROP CONSTRAINT portfolios_code_key"],
        [("key_missing", None, None, 1)],
        "ADD CONSTRAINT portfolios_code_key UNIQUE (code)",
    ),
    "lost index": (
        ["DROP INDEX daily_prices_symbol_session"],
        [("index_missing", None, None, 1)],
        "CREATE INDEX daily_prices_symbol_session ON sigmasight.daily_prices (symbol, session_date)",
    ),
    "lost partial index": (
        ["DROP INDEX data_quality_results_errors"],
        [("index_missing", None, None, 1)],
        "ON sigmasight.data_quality_results (checked_at) WHERE NOT passed AND severity = 'ERROR'",
    ),
    "orphans of a position": (
        [f"UPDATE position_greeks SET position_id = 99 WHERE session_date = '{D5}' AND position_id = 1"],
        [("orphan_rows", None, D5, 1)],
        f"sigmasight backfill --from {D5} --to {D5}",
    ),
    "a position of another portfolio": (
        [f"UPDATE position_greeks SET portfolio_id = 2 WHERE session_date = '{D5}' AND position_id = 1"],
        [("orphan_rows", None, D5, 1)],
        "backfill",
    ),
    "orphans of a scenario": (
        ["INSERT INTO array_members (dimension, number, member) VALUES ('scenario', 3, 'old')",
         f"UPDATE stress_test_results SET status[3] = 'ok' WHERE session_date = '{D5}'"],
        [("orphan_rows", None, D5, 2)],
        "backfill",
    ),
    "orphans of a symbol and a factor": (
        ["INSERT INTO array_members (dimension, number, member) VALUES ('factor', 3, 'Luck')",
         f"UPDATE symbol_factor_betas SET quality[3] = 'ok', symbol = 'GONE' WHERE session_date = '{D5}' "
         "AND symbol = 'AAA'"],
        [("orphan_rows", None, D5, 1), ("orphan_rows", None, D5, 1)],
        "backfill",
    ),
    "a place in arrays that nobody was given": (
        [f"UPDATE symbol_factor_betas SET quality[3] = 'ok' WHERE session_date = '{D5}' AND symbol = 'AAA'"],
        [("orphan_rows", None, D5, 1)],
        "backfill",
    ),
    "orphans of a symbol among correlations": (
        [f"UPDATE pairwise_correlations SET symbols[1] = 'GONE' WHERE session_date = '{D5}'"],
        [("orphan_rows", None, D5, 2)],
        f"sigmasight backfill --from {D5} --to {D5}",
    ),
    "orphans of a portfolio": (
        [f"INSERT INTO portfolio_exposures SELECT (jsonb_populate_record(r, '{{\"portfolio_id\": 9}}')).* "
         f"FROM portfolio_exposures r WHERE session_date = '{D5}' AND portfolio_id = 1"],
        [("orphan_rows", None, D5, 1)],
        "backfill",
    ),
    "a Saturday": (
        ["UPDATE daily_prices SET session_date = '2024-01-06' WHERE session_date = '2024-01-05' AND symbol = 'SPY'"],
        [("row_off_calendar", None, "2024-01-06", 1)],
        "DELETE FROM daily_prices WHERE session_date NOT IN",
    ),
    "a closed session": (
        [f"UPDATE trading_sessions SET is_closed = true WHERE session_date = '{D5}'",
         f"UPDATE trading_sessions SET previous_session = '{D4}' WHERE session_date = '{D6}'",
         *(f"DELETE FROM {name} WHERE session_date = '{D5}'" for name in (
             "portfolio_snapshots", "position_values", "position_greeks", "stress_test_results",
             "stress_scenario_diagnostics", "symbol_scenario_returns", "pairwise_correlations", "portfolio_exposures",
             "portfolio_factor_exposures", "market_risk_scenarios", "correlation_calculations", "factor_correlations",
             "portfolio_risk_metrics", "daily_returns", "symbol_factor_betas")),
         f"UPDATE portfolio_snapshots SET net_cash_flow = 10 WHERE session_date = '{D6}'",
         f"UPDATE position_values SET total_pnl = total_pnl - 10 WHERE session_date >= '{D6}'"],
        [("row_off_calendar", None, D5, 2)],
        "DELETE FROM daily_prices",
    ),
    "the future": (
        ["INSERT INTO trading_sessions VALUES ('2024-01-17', now(), now(), false, false, '2024-01-16', NULL)",
         "UPDATE daily_prices SET session_date = '2024-01-17' WHERE session_date = '2024-01-16' AND symbol = 'SPY'"],
        [("row_off_calendar", None, "2024-01-17", 1)],
        "DELETE FROM daily_prices WHERE session_date > '2024-01-16'",
    ),
    "missing scenario": (
        [f"UPDATE stress_test_results SET status[{place('scenario', 'crash')}] = NULL "
         f"WHERE session_date = '{D5}' AND portfolio_id = 1"],
        [("scenario_missing", "book", D5, 1)],
        f"sigmasight backfill --from {D5} --to {D5} --portfolio book",
    ),
    "missing result": (
        [f"DELETE FROM portfolio_risk_metrics WHERE session_date = '{D5}' AND portfolio_id = 2"],
        [("result_missing", "other", D5, 1)],
        "backfill",
    ),
    "stale price, flagged": (
        [f"UPDATE position_values SET stale = true, stale_sessions = 6 WHERE session_date = '{LAST}' "
         "AND position_id = 1"],
        [("price_stale", "book", LAST, 1)],
        f"--to {LAST} --portfolio book",
    ),
    "stale price, by its date alone": (
        [f"UPDATE position_values SET price_date = '2024-01-02', price_source = 'carried' "
         f"WHERE session_date = '{LAST}' AND position_id = 2"],
        [("price_stale", "other", LAST, 1)],
        "backfill",
    ),
    "unpriced": (
        [f"UPDATE position_values SET price_source = 'entry_price' WHERE session_date = '{LAST}' AND position_id = 1"],
        [("position_unpriced", "book", LAST, 1)],
        "backfill",
    ),
    "equity balance": (
        ["UPDATE portfolios SET equity_balance = 1590.01 WHERE portfolio_id = 1"],
        [("equity_balance", "book", LAST, 1)],
        f"sigmasight repair --from {LAST} --to {LAST} --portfolio book",
    ),
    "failed check": (
        [verdict("portfolio_snapshots", "cash_identity", "a", passed=False)],
        [("check_failed", None, D5, 1)],
        f"sigmasight backfill --from {D5} --to {D5}",
    ),
    "short history": (
        [f"DELETE FROM daily_returns WHERE symbol = 'AAA' AND session_date > '{D4}'"],
        [("short_history", None, None, 1)],
        "sigmasight gaps --fill",
    ),
    "never priced": (
        ["INSERT INTO instruments (symbol, kind, active) VALUES ('BBB', 'stock', true)"],
        [("short_history", None, None, 1)],
        "gaps",
    ),
    "incomplete engine": (
        [ENGINE.format(day=D5, portfolio=1, status="partial"), ENGINE.format(day=D6, portfolio=1, status="partial"),
         ENGINE.format(day=D6, portfolio=0, status="not_expected")],
        [("engine_incomplete", "book", D5, 2)],
        "sigmasight gaps --fill --portfolio book",
    ),
    "incomplete engine of all": (
        [ENGINE.format(day=D6, portfolio=0, status="missing")],
        [("engine_incomplete", None, D6, 1)],
        "sigmasight gaps --fill",
    ),
    "failed run": ([run(1, "success", 1), run(2, "failure", 2)], [("run_failed", None, D5, 1)], "backfill"),
    "failed backfill": (
        [backfill("completed", D5, D5), backfill("failed", D5, D6), backfill("completed", D5, D5),
         backfill("completed", D4, LAST, '["position_greeks"]')],
        [("backfill_failed", None, D5, 1)],
        f"sigmasight backfill --from {D5} --to {D6}",
    ),
    "waiting import": (
        ["INSERT INTO portfolio_imports (portfolio_code, kind, file_name, content_sha256, content, imported_at) "
         "VALUES ('book', 'positions', 'book.csv', 'x', '{}', now())"],
        [("import_waiting", "book", None, 1)],
        "sigmasight backfill --portfolio book",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(database: Database, name: str) -> None:
    statements, expected, command = FAULTS[name]
    found = page(database, *statements).findings
    assert [
        (one.code, one.portfolio, None if one.first is None else one.first.isoformat(), one.count) for one in found
    ] == expected, found
    assert command in found[0].command
    assert found[0].severity == CODES[found[0].code]


def test_results_older_than_their_inputs_are_found(database: Database) -> None:
    rows = pl.DataFrame({"table_name": "daily_prices", "session_date": D4, "portfolio_id": [1, 2], "change_id": 7})
    chunk = Chunk("daily", date.fromisoformat(D5), date.fromisoformat(LAST), 7)
    stale = OutOfDate(Outstanding(rows), "1 change(s) of inputs, the newest: daily_prices", (chunk,))
    (finding,) = page(database, stale=stale).findings
    assert (finding.code, finding.severity, finding.command, finding.count) == (
        OUT_OF_DATE, "ERROR", "sigmasight gaps --fill", 1
    )  # fmt: skip
    assert (str(finding.first), str(finding.last)) == (D5, LAST)
    assert finding.what == "what depends on 1 change(s) of inputs, the newest: daily_prices was not computed anew"


OUT_OF_DATE = "results_out_of_date"


def test_every_code_is_planted() -> None:
    # what is late is a question of the clock, asked in storage/test_standing
    planted_elsewhere = {OUT_OF_DATE, "results_late"}
    assert {code for _, expected, _ in FAULTS.values() for code, *_ in expected} | planted_elsewhere == set(CODES)


EXPLAINED: dict[str, list[str]] = {
    "a symbol that stopped trading": [
        "UPDATE instruments SET active = false, last_session = '2024-01-02' WHERE symbol = 'AAA'",
        "DELETE FROM daily_returns WHERE symbol = 'AAA'",
        "UPDATE position_values SET price_date = '2024-01-02', stale_sessions = 9, stale = true, "
        f"price_source = 'carried' WHERE session_date = '{LAST}'",
    ],
    "a symbol first priced late": [
        f"UPDATE instruments SET first_session = '{D6}' WHERE symbol = 'SPY'",
        f"DELETE FROM daily_returns WHERE symbol = 'SPY' AND session_date <= '{D6}'",
    ],
    "a warning": [verdict("daily_prices", "missing_symbols", "a", passed=False, severity="WARN")],
    "an error put right since": [
        verdict("portfolio_snapshots", "cash_identity", "a", passed=False),
        verdict("portfolio_snapshots", "cash_identity", "b", passed=True, minute=5),
    ],
    "a gap in prices": [f"DELETE FROM daily_prices WHERE symbol = 'AAA' AND session_date = '{D5}'"],
    "a failed run that was run again": [run(1, "failure", 1), run(2, "success", 2)],
    "a failed backfill done again": [backfill("failed", D5, D6), backfill("completed", D4, LAST)],
    "a failed backfill the schedule did": [
        backfill("failed", D5, D5),
        "UPDATE backfill_progress SET completed_at = '2024-01-08 23:00+00'",
        run(1, "success", 1),
    ],
    "a closed portfolio after its closing": [
        f"DELETE FROM portfolio_snapshots WHERE session_date = '{LAST}' AND portfolio_id = 2",
        "UPDATE portfolios SET active = false WHERE portfolio_id = 2",
        "UPDATE portfolios SET equity_balance = 1580, equity_as_of = '2024-01-12' WHERE portfolio_id = 2",
    ],
    "an inactive scenario": [
        "UPDATE stress_test_scenarios SET active = false WHERE scenario_id = 'rally'",
        f"UPDATE stress_test_results SET status[{place('scenario', 'rally')}] = NULL",
    ],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_is_explained_is_no_finding(database: Database, name: str) -> None:
    assert page(database, *EXPLAINED[name]).findings == ()


def test_portfolio_and_range_restrict_it(database: Database) -> None:
    faults = FAULTS["missing snapshot"][0] + FAULTS["broken cash"][0]
    assert {one.code for one in page(database, *faults).findings} == {"snapshot_missing", "cash_identity"}
    (only,) = page(database, *faults, portfolios=["book"]).findings
    assert only.code == "snapshot_missing"
    assert [one.code for one in page(database, *faults, portfolios=["other"]).findings] == ["cash_identity"]
    assert page(database, *faults, first=date(2024, 1, 10)).healthy
    assert page(database, *faults, last=date(2024, 1, 5)).healthy
    (cut,) = page(database, *faults, portfolios=["book"], last=date(2024, 1, 8)).findings
    assert (cut.count, cut.command) == (1, f"sigmasight backfill --from {D5} --to {LAST} --portfolio book")
    with pytest.raises(UnknownPortfolioError, match="nope; known: book, other"):
        page(database, portfolios=["nope"])


def test_a_check_of_another_portfolio_is_left_out(database: Database) -> None:
    failed = FAULTS["failed check"][0]
    assert not page(database, *failed, portfolios=["book"]).healthy
    assert page(database, *failed, portfolios=["other"]).healthy


def test_identities_are_told_to_the_cent(database: Database) -> None:
    told = {row["identity"]: row for row in page(database, *FAULTS["broken NAV"][0]).sections["identities"]}
    assert str(told["net_asset_value"]["worst_residual"]) == "0.01"
    assert told["net_asset_value"] | {"worst_residual": 0} == {
        "identity": "net_asset_value",
        "checked": 20,
        "broken": 1,
        "worst_residual": 0,
        "portfolio": "book",
    }
    assert told["telescoping"]["checked"] == 18


def test_before_anything_is_computed(database: Database) -> None:
    emptied = [f"TRUNCATE {name}" for name in ("portfolio_snapshots", "position_values", "daily_prices")]
    unset = "UPDATE portfolios SET equity_balance = NULL, equity_as_of = NULL"
    assert page(database, *emptied, unset).findings == ()
    codes = {one.code for one in page(database, *emptied[:2], unset).findings}
    assert codes == {"snapshot_missing"}, "prices are there and nothing was made of them"


def test_the_shape_of_the_document(database: Database) -> None:
    document = json.loads(json.dumps(page(database, *FAULTS["broken cash"][0]).as_dict(), default=str))
    assert list(document) == ["healthy", "looked_at", "findings", "sections"]
    assert document["healthy"] is False
    assert document["findings"][0] == {
        "severity": "ERROR",
        "code": "cash_identity",
        "what": "net asset value is not cash plus market value; worst residual 0.01",
        "command": f"sigmasight repair --from {D5} --to {LAST} --portfolio other",
        "portfolio": "other",
        "first": D5,
        "last": D5,
        "count": 1,
    }
    assert {name: _first(rows) for name, rows in document["sections"].items()} == {
        name: set(columns.split()) for name, columns in SECTIONS.items()
    }


SECTIONS = {
    "snapshots": "portfolio inception active closing present missing first last",
    "coverage": "portfolio session positions private greeks greeks_fallback greeks_none betas betas_none rate_betas "
    "rate_betas_none factors factors_ok",
    "betas": "session factor symbols ok smallest_n_obs median_n_obs median_r_squared largest_r_squared",
    "correlations": "portfolio session runs runs_ok lowest_data_quality pairs pairs_missing clusters",
    "stress": "portfolio newest scenarios sessions present present_ok missing",
    "identities": "identity checked broken worst_residual portfolio",
    "prices": "symbols sessions rows first last missing gaps stale rejected",
    "instruments": "kind instruments with_name with_sector active delisted",
    "short_histories": "symbol active first_session last_session returns window_sessions possible reason",
    "checks": "",
    "calculation_audit": "",
    "runs": "runs succeeded failed canceled since newest errors",
    "open_backfills": "",
}


def _first(section: Any) -> Any:
    return set(section if isinstance(section, dict) else section[0] if section else ())
