"""Who holds what when: first and last rows, flags, terms after splits, refused contracts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from sigmasight_pipeline.calculations.holdings import NonWholeSplitRatioError, holdings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.reference_valuation import MICRO, ReferenceValuation, half_even
from sigmasight_pipeline_tests.calculations.table_rows import (
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    split,
    stock,
)
from sigmasight_pipeline_tests.properties.books import Book, books

MON, TUE, WED, THU, FRI = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
DAYS = [MON, TUE, WED, THU, FRI]
CALL = "AAA240315C00100000"
NAMES = ("calendar", "portfolios", "positions", "actions", "instruments")


def held(positions: list[dict[str, Any]], **rows: Any) -> pl.DataFrame:
    return holdings(
        sessions=rows.get("sessions", DAYS),
        calendar=sessions_frame(DAYS, rows.get("closed", ())),
        portfolios=frame(tables.portfolios, [portfolio(1, rows.get("inception", MON))]),
        positions=frame(tables.positions, positions),
        actions=frame(tables.corporate_actions, rows.get("actions", [])),
        instruments=frame(tables.instruments, []),
    )


@pytest.mark.parametrize(
    ("case", "position", "rows", "expected"),
    [
        ("open to the end", stock(1, "AAA", 1, 1, WED), {}, "WED:entry THU FRI"),
        ("to its exit", stock(1, "AAA", 1, 1, MON, exit_date=TUE), {}, "MON:entry TUE:exit"),
        ("in and out at once", stock(1, "AAA", 1, 1, TUE, exit_date=TUE), {}, "TUE:entry+exit"),
        ("brought in", stock(1, "AAA", 1, 1, MON), {"inception": THU}, "THU:brought FRI:brought"),
        ("entered on inception", stock(1, "AAA", 1, 1, THU), {"inception": THU}, "THU:entry FRI"),
        ("out before inception", stock(1, "AAA", 1, 1, MON, exit_date=TUE), {"inception": THU}, ""),
        ("out on inception", stock(1, "AAA", 1, 1, MON, exit_date=THU), {"inception": THU}, "THU:brought+exit"),
        ("before the first session", stock(1, "AAA", 1, 1, date(2020, 1, 2)), {"sessions": [MON]}, "MON:brought"),
        ("entry on a closed session", stock(1, "AAA", 1, 1, TUE), {"closed": [TUE]}, "WED:entry THU FRI"),
        ("exit on a closed one", stock(1, "AAA", 1, 1, WED, exit_date=THU), {"closed": [THU]}, "WED:entry FRI:exit"),
        ("a weekend entry", stock(1, "AAA", 1, 1, date(2024, 3, 2)), {"sessions": [MON]}, "MON:brought"),
        ("not entered yet", stock(1, "AAA", 1, 1, date(2024, 3, 11)), {}, ""),
        ("expiry after the calendar", option(1, CALL, 1, 1, THU), {}, "THU:entry FRI"),
        ("expiry", option(1, "AAA240307C00100000", 1, 1, WED), {}, "WED:entry THU:expiry"),
        ("expiry moved forward by a closure", option(1, "AAA240307C00100000", 1, 1, MON), {"closed": [THU]},
         "MON:entry TUE WED:expiry"),
        ("an exit on the expiry session", option(1, "AAA240307C00100000", 1, 1, WED, exit_date=THU), {},
         "WED:entry THU:exit"),
        ("an exit before it", option(1, CALL, 1, 1, WED, exit_date=THU), {}, "WED:entry THU:exit"),
        ("private", private(1, "FUND", 1, 1, THU), {}, "THU:entry FRI"),
        ("alone, its exit session", stock(1, "AAA", 1, 1, MON, exit_date=TUE), {"sessions": [TUE]}, "TUE:exit"),
        ("alone, the session after it", stock(1, "AAA", 1, 1, MON, exit_date=TUE), {"sessions": [WED]}, ""),
        ("alone, some sessions", stock(1, "AAA", 1, 1, MON), {"sessions": [FRI, TUE]}, "TUE FRI"),
    ],
)  # fmt: skip
def test_rows_and_flags(case: str, position: dict[str, Any], rows: dict[str, Any], expected: str) -> None:
    found = []
    for row in held([position], **rows).iter_rows(named=True):
        flags = {
            "entry": row["is_entry"],
            "brought": row["brought_in"],
            "exit": row["is_exit"] and not row["is_expiry"],
            "expiry": row["is_expiry"],
        }
        marks = "+".join(name for name, is_set in flags.items() if is_set)
        found.append(f"{row['session_date']:%a}".upper() + (f":{marks}" if marks else ""))
        assert row["held_since_previous"] == (len(found) > 1 or case.startswith("alone")), case
    assert " ".join(found) == expected, case


@settings(max_examples=40, deadline=None)
@given(books())
def test_rows_and_terms_equal_the_reference(book: Book) -> None:
    """The contracts' own strike after splits, the quantity also on the exit session."""
    reference = ReferenceValuation(book.frames, max_stale_sessions=5, max_mark_age=5)
    positions = {row["position_id"]: row for row in reference.positions}
    rows = holdings(sessions=book.sessions, **{name: book.frames[name] for name in NAMES}).to_dicts()
    assert [(row["session_date"], row["position_id"]) for row in rows] == [
        (row["session_date"], row["position_id"]) for row in reference.rows(book.sessions)
    ]
    for row in rows:
        position = positions[row["position_id"]]
        life = reference.life(position)
        assert life is not None
        ratio = reference.ratio(reference.split_symbol(position), life[0], row["session_date"])
        assert Fraction(row["quantity"]) == half_even(Fraction(position["quantity"]) * ratio, MICRO), row
        assert Fraction(row["entry_price"]) == half_even(Fraction(position["entry_price"]) / ratio, MICRO), row
        strike = position["strike_price"]
        assert row["strike_price"] == (None if strike is None else float(Fraction(strike) / ratio)), row
        assert (row["contract"] is None) == (strike is None), row


def test_terms_through_a_split() -> None:
    rows = held(
        [stock(1, "AAA", 10, 90, MON), option(2, CALL, 1, 9, MON)],
        actions=[split("AAA", WED, 3)],
        sessions=[TUE, WED],
    )
    terms = rows.select("symbol", "quantity", "entry_price", "strike_price").rows()
    assert terms == [
        ("AAA", 10, 90, None),
        (CALL, 1, 9, 100.0),
        ("AAA", 30, 30, None),
        ("AAA240315C00033333", 3, 3, 100 / 3),
    ]
    assert rows["contract"].drop_nulls().n_unique() == 1
    assert rows.schema["quantity"] == pl.Decimal(20, 6)


def test_an_uneven_split_refuses_the_options_held_through_it() -> None:
    positions = [
        stock(1, "AAA", 10, 90, MON),
        option(2, CALL, 1, 9, MON),
        option(3, "AAA240315P00090000", 1, 9, TUE),
        option(4, "AAA240315P00080000", 1, 9, MON, exit_date=TUE, exit_price=1),
        option(5, "AAA240315P00070000", 1, 9, WED),
    ]
    reverse = [split("AAA", WED, 1, 10)]
    assert len(held(positions, actions=reverse, sessions=[MON, TUE])) == 7  # nothing is known of it yet
    with pytest.raises(NonWholeSplitRatioError, match="cannot value AAA240315C00100000, AAA240315P00090000") as caught:
        held(positions, actions=reverse, sessions=[FRI])
    assert caught.value.contracts == (CALL, "AAA240315P00090000")
    assert caught.value.first_session == WED
    kept = [position for position in positions if position["position_id"] in (1, 4, 5)]
    rows = held(kept, actions=reverse, sessions=[WED])
    assert rows["quantity"].to_list() == [Decimal(1), Decimal(1)]


def test_two_uneven_splits_that_multiply_to_a_whole_number_are_refused_too() -> None:
    """Between them the contract had another deliverable; a later session alone must not be more lenient."""
    actions = [split("AAA", TUE, 3, 2), split("AAA", WED, 2)]
    for sessions in (DAYS, [FRI]):
        with pytest.raises(NonWholeSplitRatioError):
            held([option(1, CALL, 1, 9, MON)], actions=actions, sessions=sessions)
