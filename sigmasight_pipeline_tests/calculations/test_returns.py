"""Daily returns: worked examples, an exact oracle that loops, properties of splits, dividends and gaps."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import log, prod

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.returns import daily_returns

PRICE = pl.Decimal(20, 6)
ACTIONS = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "split_from": PRICE,
    "split_to": PRICE,
    "cash_amount": PRICE,
}
FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(12)]
"""Twelve sessions in a row; weekends play no part in a return."""


def sessions_frame(closed=()):
    return pl.DataFrame({"session_date": DAYS, "is_closed": [day in closed for day in DAYS]})


def prices_frame(rows):
    """Rows (symbol, day number, close)."""
    return pl.DataFrame(
        [(DAYS[n], symbol, Decimal(str(close))) for symbol, n, close in rows],
        schema={"session_date": pl.Date(), "symbol": pl.String(), "close": PRICE},
        orient="row",
    )


def actions_frame(rows):
    """Rows (symbol, day number, 'split', new shares per old one) or (symbol, day number, 'dividend',
    amount)."""
    return pl.DataFrame(
        [
            (
                symbol,
                DAYS[n],
                kind,
                Decimal(1) if kind == "split" else None,
                Decimal(str(value)) if kind == "split" else None,
                Decimal(str(value)) if kind == "dividend" else None,
            )
            for symbol, n, kind, value in rows
        ],
        schema=ACTIONS,
        orient="row",
    )


def returns(prices, actions=(), sessions=None, closed=()):
    return daily_returns(
        prices_frame(prices),
        actions_frame(actions),
        sessions_frame(closed),
        DAYS if sessions is None else sessions,
    )


def oracle(prices, actions):
    """Exact simple returns by (symbol, day number), straight from the formula."""
    result = {}
    for symbol in {row[0] for row in prices}:
        closes = sorted((n, Fraction(str(close))) for name, n, close in prices if name == symbol)
        own = [(n, kind, Fraction(str(value))) for name, n, kind, value in actions if name == symbol]

        def ratio(after, through, own=own):
            return prod((v for n, kind, v in own if kind == "split" and after < n <= through), start=Fraction(1))

        for (p, before), (d, close) in pairwise(closes):
            gross = close * ratio(p, d)
            for j, kind, amount in own:
                if kind == "dividend" and p < j <= d:
                    gross += amount * ratio(p, j - 1)
            result[symbol, d] = (gross / before - 1, d - p)
    return result


AT = [("A", 0, "100"), ("A", 1, "103")]
WORKED = [
    ("plain", AT, [], [(1, 0.03, 1)]),
    ("dividend", AT, [("A", 1, "dividend", "2")], [(1, 0.05, 1)]),
    ("split 2:1", [("A", 0, "100"), ("A", 1, "51.5")], [("A", 1, "split", "2")], [(1, 0.03, 1)]),
    ("reverse split", [("A", 0, "2"), ("A", 1, "16.8")], [("A", 1, "split", "0.125")], [(1, 0.05, 1)]),
    # 100 shares at 10.50, 2:1 split and 0.10 per old share, close 5.40: (10.80 + 0.10) / 10.50 - 1
    (
        "dividend on the day of a split is per old share",
        [("A", 0, "10.50"), ("A", 1, "5.40")],
        [("A", 1, "split", "2"), ("A", 1, "dividend", "0.10")],
        [(1, 10.90 / 10.50 - 1, 1)],
    ),
    # over a gap: split on day 1, dividend on day 2 per new share, worth two of them per old share
    (
        "gap over a split and a later dividend",
        [("A", 0, "10"), ("A", 3, "5.1")],
        [("A", 1, "split", "2"), ("A", 2, "dividend", "0.25")],
        [(3, 0.07, 3)],
    ),
    (
        "gap over a dividend and a later split",
        [("A", 0, "10"), ("A", 3, "5.1")],
        [("A", 1, "dividend", "0.25"), ("A", 2, "split", "2")],
        [(3, 0.045, 3)],
    ),
    ("action on the day of the earlier close is in it", AT, [("A", 0, "split", "2")], [(1, 0.03, 1)]),
    ("action after the later close is not in it", AT, [("A", 2, "dividend", "5")], [(1, 0.03, 1)]),
    ("action of another symbol", AT, [("B", 1, "split", "2")], [(1, 0.03, 1)]),
    ("first close ever", AT[:1], [], []),
]


@pytest.mark.parametrize(("prices", "actions", "expected"), [c[1:] for c in WORKED], ids=[c[0] for c in WORKED])
def test_worked_examples(prices, actions, expected):
    rows = returns(prices, actions).rows(named=True)
    assert [(DAYS.index(row["session_date"]), row["sessions_spanned"]) for row in rows] == [
        (n, spanned) for n, _, spanned in expected
    ]
    for row, (_, simple, _) in zip(rows, expected, strict=True):
        assert row["simple_return"] == pytest.approx(simple, abs=1e-14)
        assert row["log_return"] == pytest.approx(log(1 + simple), abs=1e-14)


def test_no_close_no_row_and_the_next_one_spans_the_gap():
    rows = returns([("A", 0, "10"), ("A", 4, "11"), ("A", 5, "11"), ("B", 0, "1"), ("B", 1, "1")])
    assert rows.select("symbol", "session_date", "sessions_spanned").rows() == [
        ("B", DAYS[1], 1),
        ("A", DAYS[4], 4),
        ("A", DAYS[5], 1),
    ]


def test_a_closed_session_counts_neither_as_a_session_nor_as_a_price():
    rows = returns([("A", 0, "10"), ("A", 1, "99"), ("A", 2, "11")], closed=[DAYS[1]])
    assert rows.select("session_date", "sessions_spanned").rows() == [(DAYS[2], 1)]
    assert rows["simple_return"].to_list() == pytest.approx([0.1], abs=1e-14)


def test_only_the_asked_sessions_come_back():
    rows = returns([("A", n, 10 + n) for n in range(6)], sessions=DAYS[3:5])
    assert rows["session_date"].to_list() == DAYS[3:5]


def test_columns_and_types_and_empty_input():
    expected = {
        "session_date": pl.Date(),
        "symbol": pl.String(),
        "simple_return": pl.Float64(),
        "log_return": pl.Float64(),
        "sessions_spanned": pl.Int32(),
    }
    assert dict(returns(AT).schema) == expected
    assert dict(returns([]).schema) == expected


closes = st.integers(1, 5_000_000).map(lambda n: Decimal(n) / 1000)
day_numbers = st.integers(0, len(DAYS) - 1)
some_prices = st.lists(
    st.tuples(st.sampled_from("AB"), day_numbers, closes), max_size=20, unique_by=lambda row: row[:2]
)
some_actions = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from("AB"),
            day_numbers,
            st.just("split"),
            st.sampled_from(["2", "3", "10", "0.5", "0.125", "1.05"]),
        ),
        st.tuples(
            st.sampled_from("AB"),
            day_numbers,
            st.just("dividend"),
            st.integers(1, 5000).map(lambda n: Decimal(n) / 1000),
        ),
    ),
    max_size=10,
    unique_by=lambda row: row[:3],
)


@given(prices=some_prices, actions=some_actions)
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_exact_oracle(prices, actions):
    got = {(row["symbol"], DAYS.index(row["session_date"])): row for row in returns(prices, actions).rows(named=True)}
    expected = oracle(prices, actions)
    assert set(got) == set(expected)
    for key, (simple, spanned) in expected.items():
        assert got[key]["simple_return"] == pytest.approx(float(simple), rel=1e-13, abs=1e-14)
        assert got[key]["log_return"] == pytest.approx(log(simple + 1), rel=1e-12, abs=1e-14)
        assert got[key]["sessions_spanned"] == spanned


@given(prices=some_prices, actions=some_actions)
@settings(max_examples=40, deadline=None)
def test_a_range_and_single_sessions_give_the_same_bits_with_and_without_the_future(prices, actions):
    whole = returns(prices, actions)
    singles = []
    for n, day in enumerate(DAYS):
        seen = [row for row in prices if row[1] <= n]
        last = {symbol: max((r[1] for r in seen if r[0] == symbol and r[1] < n), default=-1) for symbol in "AB"}
        inputs = [row for row in seen if row[1] in (n, last[row[0]])]
        singles.append(returns(inputs, [row for row in actions if row[1] <= n], sessions=[day]))
    assert pl.concat(singles).equals(whole)


@given(
    path=st.lists(st.integers(1000, 2000), min_size=2, max_size=len(DAYS)),
    split_day=day_numbers,
    ratio=st.sampled_from([2, 4, 5, 10]),
)
@settings(max_examples=60, deadline=None)
def test_splitting_changes_no_return(path, split_day, ratio):
    plain = [("A", n, Decimal(close)) for n, close in enumerate(path)]
    split = [("A", n, close / ratio if n >= split_day else close) for _, n, close in plain]
    whole, halved = returns(plain), returns(split, [("A", split_day, "split", ratio)])
    assert halved["simple_return"].to_list() == pytest.approx(whole["simple_return"].to_list(), abs=1e-15)


@given(prices=some_prices, actions=some_actions)
@settings(max_examples=60, deadline=None)
def test_total_return_telescopes_to_shares_held_with_dividends_reinvested(prices, actions):
    rows = returns(prices, actions)
    for symbol in "AB":
        own = sorted((n, Fraction(close)) for name, n, close in prices if name == symbol)
        if len(own) < 2:
            continue
        shares = Fraction(1)
        for (p, _), (d, close) in pairwise(own):
            cash = Fraction(0)
            for day in range(p + 1, d + 1):
                today = {kind: Fraction(str(v)) for name, n, kind, v in actions if (name, n) == (symbol, day)}
                cash += shares * today.get("dividend", Fraction(0))
                shares *= today.get("split", Fraction(1))
            shares += cash / close
        wealth = float(shares * own[-1][1] / own[0][1])
        logs = rows.filter(pl.col("symbol") == symbol)["log_return"].sum()
        assert logs == pytest.approx(log(wealth), abs=1e-12)
