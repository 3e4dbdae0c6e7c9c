"""The closed list of codes: every one is produced by a row of some table, and is told in one sentence."""

from __future__ import annotations

import json

from sigmasight_pipeline.importing.problems import Code, Severity

from . import test_csv_text, test_flows, test_marks, test_portfolios, test_positions
from .cases import codes


def test_every_code_is_produced_by_a_row_of_a_table() -> None:
    tables = [test_csv_text.CASES, test_positions.CASES, [test_positions.OUTSIDE], test_marks.CASES, test_flows.CASES]
    produced = {code for table in tables for code in codes(table)}
    produced |= {code for _, _, expected in test_portfolios.CASES for code in expected}
    assert produced == {str(code) for code in Code}


def test_codes_are_stable_text() -> None:
    assert f"{Code.QUANTITY_ZERO}" == "quantity_zero"
    assert json.dumps([Code.QUANTITY_ZERO]) == '["quantity_zero"]'
    assert all(code.name.lower() == str(code) for code in Code)
    assert {code for code in Code if code.severity is not Severity.ERROR} == {
        Code.COLUMN_IGNORED,
        Code.UNDERLYING_IGNORED,
        Code.SESSION_MOVED,
        Code.ENTRY_BEFORE_FIRST_SESSION,
        Code.EXIT_BEFORE_FIRST_SESSION,
        Code.FLOW_REPEATED,
    }
