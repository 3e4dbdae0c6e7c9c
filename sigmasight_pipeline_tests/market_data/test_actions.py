"""Ex-dates on the sessions they take effect."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.market_data.actions import on_sessions
from sigmasight_pipeline.market_data.source import ACTIONS

CALENDAR = pl.DataFrame(
    {
        "session_date": [date(2024, 1, 4), date(2024, 1, 5), date(2024, 1, 8), date(2024, 1, 9)],
        "is_closed": [False, False, True, False],
    }
)


def action(day: date, kind: str, **values: object) -> dict[str, object]:
    empty = dict.fromkeys(ACTIONS)
    return {**empty, "symbol": "AAA", "ex_date": day, "kind": kind, **values}


CASES = [
    ("on a session", [action(date(2024, 1, 5), "dividend", cash_amount=Decimal("0.10"))], date(2024, 1, 5), None),
    (
        "on a Saturday, over an unscheduled closure",
        [action(date(2024, 1, 6), "dividend", cash_amount=Decimal("0.10"))],
        date(2024, 1, 9),
        date(2024, 1, 6),
    ),
]


@pytest.mark.parametrize(("name", "told", "session", "moved_from"), CASES, ids=[case[0] for case in CASES])
def test_an_ex_date_moves_to_its_session(name: str, told: list, session: date, moved_from: date | None) -> None:
    row = on_sessions(pl.DataFrame(told, schema=ACTIONS), CALENDAR).row(0, named=True)
    assert (row["ex_date"], row["moved_from"], row["cash_amount"]) == (session, moved_from, Decimal("0.10")), name


def test_actions_that_fall_on_one_session_are_joined_exactly() -> None:
    told = [
        action(date(2024, 1, 6), "split", split_from=Decimal(3), split_to=Decimal("1.1")),
        action(date(2024, 1, 9), "split", split_from=Decimal(7), split_to=Decimal("2.2")),
        action(date(2024, 1, 6), "dividend", cash_amount=Decimal("0.10")),
        action(date(2024, 1, 7), "dividend", cash_amount=Decimal("0.25")),
    ]
    joined = on_sessions(pl.DataFrame(told, schema=ACTIONS), CALENDAR)
    assert joined.select("kind", "split_from", "split_to", "cash_amount").rows() == [
        ("dividend", None, None, Decimal("0.35")),
        ("split", Decimal(21), Decimal("2.42"), None),
    ]


def test_no_actions_stay_none() -> None:
    assert on_sessions(pl.DataFrame(schema=ACTIONS), CALENDAR).is_empty()
