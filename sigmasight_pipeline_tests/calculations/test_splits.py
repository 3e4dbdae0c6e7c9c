"""Splits as steps, and symbols continued under another name."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.splits import NO_SPLITS, SplitSteps, continued
from sigmasight_pipeline.calculations.timeline import day_numbers
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import closes, frame, split

D1, D2, D3, D4, D5 = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))


def node(steps: SplitSteps, symbol: str, day: date) -> int:
    days = np.array([(day - date(1970, 1, 1)).days])
    return int(steps.nodes(np.array([steps.codes.get(symbol, NO_SPLITS)]), days)[0])


@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.integers(1, 28), st.integers(1, 5), st.integers(1, 5)),
        max_size=6,
        unique_by=lambda item: item[:2],
    ),
    st.integers(1, 28),
    st.integers(1, 28),
)
def test_ratio_between_two_days_is_the_product_of_the_splits_between(
    given_splits: list[tuple[str, int, int, int]], start: int, end: int
) -> None:
    actions = [split(symbol, date(2024, 3, day), new, old) for symbol, day, new, old in given_splits]
    steps = SplitSteps(frame(tables.corporate_actions, actions), ["A", "B", "C"])
    for symbol in "ABC":
        product = Fraction(1)
        for name, day, new, old in given_splits:
            if name == symbol and min(start, end) < day <= max(start, end):
                product *= Fraction(new, old)
        nodes = [node(steps, symbol, date(2024, 3, day)) for day in (start, end)]
        assert steps.ratio(*nodes) == (product if start <= end else 1 / product)


def test_coded_lists_each_ratio_once() -> None:
    actions = frame(tables.corporate_actions, [split("A", D2, 2), split("A", D4, 3, 2), split("B", D3, 7)])
    steps = SplitSteps(actions, ["A", "B"])
    start = np.array([0, 0, 2, 0, 2, 2])
    end = np.array([0, 2, 0, 1, 3, 0])
    codes, ratios = steps.coded(start, end)
    assert [ratios[code] for code in codes] == [1, 3, Fraction(1, 3), 2, 7, Fraction(1, 3)]
    assert len(ratios) == 5
    assert (steps.whole(0, 1), steps.whole(0, 2), steps.whole(2, 1), steps.whole(2, 3)) == (True, False, False, True)
    assert node(steps, "unknown", D5) == 0


LINKS = [
    {"symbol": "A", "kind": "stock", "active": False, "last_session": D1, "replaced_by": "B"},
    {"symbol": "B", "kind": "stock", "active": False, "last_session": D3, "replaced_by": "C"},
    {"symbol": "C", "kind": "stock", "active": True},
]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([], {"A": "aaaaa", "B": "bbbbb", "C": "ccccc"}),
        (LINKS, {"A": "abbcc", "B": "bbbcc", "C": "ccccc"}),
        (
            [LINKS[0] | {"last_session": D3}, LINKS[1] | {"last_session": D1}],
            {"A": "aaacc", "B": "bcccc", "C": "ccccc"},
        ),
        ([LINKS[0] | {"last_session": None}], {"A": "aaaaa", "B": "bbbbb", "C": "ccccc"}),
        ([LINKS[0], LINKS[1] | {"replaced_by": "A"}], {"A": "abbbb", "B": "bbbaa", "C": "ccccc"}),
    ],
)
def test_a_replaced_symbol_goes_on_with_its_successors_rows(links: list[dict], expected: dict[str, str]) -> None:  # type: ignore[type-arg]  # rows of any columns
    """Letters tell whose row stands for a symbol on each of five days."""
    owner = {"A": 1, "B": 2, "C": 3}
    days = [D1, D2, D3, D4, D5]
    rows = [row for symbol, price in owner.items() for row in closes(symbol, dict.fromkeys(days, price))]
    result = continued(frame(tables.daily_prices, rows), frame(tables.instruments, links), "session_date")
    found = {
        symbol: "".join("abc"[int(price) - 1] for price in own.sort("session_date")["close"])
        for (symbol,), own in result.partition_by("symbol", as_dict=True).items()
    }
    assert found == expected
    assert len(day_numbers(result["session_date"])) == 15
