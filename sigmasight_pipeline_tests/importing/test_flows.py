"""Cash flows: every rule by table."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from sigmasight_pipeline.importing.flows import FlowRow, parse_flows
from sigmasight_pipeline.importing.problems import Parsed

from .cases import CALENDAR, TODAY, Case, Place, assert_case, case

INCEPTIONS = {"book": date(2024, 1, 2), "other": date(2024, 2, 1)}


def parse(content: bytes) -> Parsed[FlowRow]:
    return parse_flows(content, calendar=CALENDAR, today=TODAY, portfolios=INCEPTIONS)


def flows(name: str, rows: str, *expected: Place, says: str = "") -> Case:
    return case(name, f"portfolio,date,amount,kind\n{rows}\n", *expected, says=says)


CASES = [
    flows(
        "good", "book,2024-03-01,25000,contribution\nbook,2024-03-01,-500,Withdrawal\nbook,2024-03-04,500,withdrawal"
    ),
    flows("portfolio missing", ",2024-03-01,1,contribution", ("portfolio_missing", 2, "portfolio")),
    flows("portfolio unknown", "x,2024-03-01,1,contribution", ("portfolio_unknown", 2, "portfolio")),
    flows("date missing", "book,,1,contribution", ("date_missing", 2, "date")),
    flows("date in future", "book,2025-07-02,1,contribution", ("date_in_future", 2, "date")),
    flows(
        "on inception", "book,2024-01-02,1,contribution", ("flow_before_inception", 2, "date"), says="initial equity"
    ),
    flows("before inception", "other,2024-01-31,1,contribution", ("flow_before_inception", 2, "date")),
    flows("after inception", "book,2024-01-03,1,contribution"),
    flows(
        "inception only after the move",
        "book,2024-01-01,1,contribution",
        ("session_moved", 2, "date"),
        ("flow_before_inception", 2, "date"),
    ),
    flows("amount missing", "book,2024-03-01,,contribution", ("amount_missing", 2, "amount")),
    flows("amount no number", "book,2024-03-01,x,contribution", ("amount_not_a_number", 2, "amount")),
    flows("amount zero", "book,2024-03-01,0.00,contribution", ("amount_zero", 2, "amount")),
    flows("amount 3 decimals", "book,2024-03-01,0.001,contribution", ("amount_too_many_decimals", 2, "amount")),
    flows("amount 19 digits", f"book,2024-03-01,1{'0' * 18},contribution", ("amount_too_large", 2, "amount")),
    flows("amount brackets", "book,2024-03-01,(500),withdrawal", ("number_formatted", 2, "amount"), says="-500"),
    flows("kind missing", "book,2024-03-01,1,", ("flow_kind_missing", 2, "kind")),
    flows("kind unknown", "book,2024-03-01,1,dividend", ("flow_kind_unknown", 2, "kind"), says="contribution or"),
    flows("negative contribution", "book,2024-03-01,-1,contribution", ("flow_sign_contradicts", 2, "amount")),
    flows("positive withdrawal", "book,2024-03-01,+1,withdrawal", ("flow_sign_contradicts", 2, "amount")),
    flows(
        "repeated",
        "book,2024-03-02,5,contribution\nbook,2024-03-04,6,contribution\nbook,2024-03-04,5,contribution",
        ("session_moved", 2, "date"),
        ("flow_repeated", 4, "amount"),
        says="line 2",
    ),
    flows(
        "all errors of all rows",
        ",x,x,x\nbook,2024-01-02,0,",
        ("portfolio_missing", 2, "portfolio"),
        ("date_format", 2, "date"),
        ("amount_not_a_number", 2, "amount"),
        ("flow_kind_unknown", 2, "kind"),
        ("flow_before_inception", 3, "date"),
        ("amount_zero", 3, "amount"),
        ("flow_kind_missing", 3, "kind"),
    ),
]


@pytest.mark.parametrize("this", CASES, ids=str)
def test_rules(this: Case) -> None:
    assert_case(this, parse(this.content))


def test_signs_and_numbers_on_one_session() -> None:
    parsed = parse(
        b"portfolio,date,amount,kind,notes\n"
        b"book,2024-03-02,100,contribution,first\n"
        b"book,2024-03-04,7,withdrawal,\n"
        b"other,2024-03-04,1,contribution,\n"
        b"book,2024-03-04,+50.5,contribution,\n"
        b"book,2024-03-04,-9,withdrawal,\n"
    )
    monday = date(2024, 3, 4)
    assert parsed.rows == (
        FlowRow("book", monday, "contribution", 1, Decimal(100), "first", 2),
        FlowRow("book", monday, "withdrawal", 1, Decimal(-7), None, 3),
        FlowRow("other", monday, "contribution", 1, Decimal(1), None, 4),
        FlowRow("book", monday, "contribution", 2, Decimal("50.5"), None, 5),
        FlowRow("book", monday, "withdrawal", 2, Decimal(-9), None, 6),
    )
    assert parsed.frame().columns == ["portfolio_code", "session_date", "kind", "sequence", "amount", "note"]
