"""What must hold of factor exposures on any book: sums, mirror image, lots, order of rows, ranges, no look-ahead."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.factor_exposures import (
    portfolio_factor_exposures,
    position_factor_exposures,
    position_interest_rate_betas,
)
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.reference_snapshots import EXITS
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, stock
from sigmasight_pipeline_tests.calculations.test_factor_exposures import (
    FACTORS,
    MON,
    TUE,
    beta,
    greeks,
    inputs,
    portfolios,
    value,
)
from sigmasight_pipeline_tests.properties.books import STOCKS, UNDERLYINGS, Book, books, greeks_of, made, values_of

CENT = Decimal("0.01")

few = settings(max_examples=15, deadline=None)


def made_up_betas(book: Book) -> pl.DataFrame:
    """Betas of the generated market, missing here and there; every third session nothing is known of Oil."""
    rows = []
    for at, day in enumerate(book.sessions):
        for number, symbol in enumerate((*STOCKS, *UNDERLYINGS)):
            for order, factor in enumerate(("Market", "Interest_Rate", "Oil")):
                choice = (at * 7 + number * 3 + order) % 17
                if factor == "Oil" and at % 3 == 0:
                    rows.append(beta(symbol, factor, None, day, quality="factor_without_data", n_obs=0))
                elif choice == 0:
                    rows.append(beta(symbol, factor, None, day, quality="no_variance"))
                elif choice > 1:
                    rows.append(beta(symbol, factor, (choice - 5) * 0.37, day))
    return frame(tables.symbol_factor_betas, rows)


def frames_of(book: Book) -> dict[str, pl.DataFrame]:
    """Everything the engines read of a book, with Greeks of `greeks_of`; net asset value falls below 0 in time."""
    values = values_of(book, book.sessions)
    nav = [
        {"session_date": day, "portfolio_id": key, "net_asset_value": 9000 - 777 * at}
        for at, day in enumerate(book.sessions)
        for key in (1, 2)
    ]
    return {
        "calendar": book.frames["calendar"],
        "portfolios": book.frames["portfolios"],
        "factors": FACTORS,
        "positions": book.frames["positions"],
        "instruments": book.frames["instruments"],
        "position_values": values,
        "position_greeks": greeks_of(book, values),
        "symbol_factor_betas": made_up_betas(book),
        "portfolio_snapshots": frame(tables.portfolio_snapshots, nav),
    }


def computed(frames: dict[str, pl.DataFrame], sessions: list[date]) -> dict[str, pl.DataFrame]:
    """The three tables."""

    def given(*names: str) -> dict[str, Any]:
        return {"sessions": sessions, **{name: frames[name] for name in names}}

    rates = ("factors", "positions", "instruments", "position_values", "symbol_factor_betas")
    of_positions = position_factor_exposures(**given(*rates, "position_greeks"))
    book = ("calendar", "portfolios", "factors", "positions", "position_values", "position_greeks")
    return {
        "positions": of_positions,
        "portfolios": portfolio_factor_exposures(
            **given(*book, "portfolio_snapshots"), position_factor_exposures=of_positions
        ),
        "rates": position_interest_rate_betas(**given(*rates)),
    }


def same(left: dict[str, pl.DataFrame], right: dict[str, pl.DataFrame]) -> None:
    """The same rows of every table, bit for bit."""
    for name, rows in left.items():
        assert rows.equals(right[name]), (name, pl.concat([rows, right[name]]).filter(pl.struct(pl.all()).is_unique()))


def check_reference(book: Book) -> set[str]:
    """Portfolios against a second writing, one position after the other; returns the statuses seen."""
    frames = frames_of(book)
    found = computed(frames, book.sessions)
    classes = dict(frames["positions"].select("position_id", "investment_class").iter_rows())
    adjusted = {
        (day, key): amount
        for day, key, amount in frames["position_greeks"]
        .select("session_date", "position_id", "delta_adjusted_exposure")
        .iter_rows()
    }
    held = frames["position_values"].filter(~pl.col("price_source").is_in(list(EXITS)))
    own: dict[Any, list[tuple[int, bool, Fraction]]] = defaultdict(list)
    for row in held.iter_rows(named=True):
        day, key = row["session_date"], row["position_id"]
        size = adjusted.get((day, key))
        own[day, row["portfolio_id"]].append(
            (key, classes[key] == "PRIVATE", abs(Fraction(row["exposure"] if size is None else size)))
        )
    dollars = {
        (row["session_date"], row["position_id"], row["factor"]): (row["exposure_dollar"], row["quality"])
        for row in found["positions"].iter_rows(named=True)
    }
    assert len(dollars) == held.height * 4
    nav = {
        (day, key): amount
        for day, key, amount in frames["portfolio_snapshots"]
        .select("session_date", "portfolio_id", "net_asset_value")
        .iter_rows()
    }
    for row in found["portfolios"].iter_rows(named=True):
        day, key, factor = row["session_date"], row["portfolio_id"], row["factor"]
        known = [(name, private, size, *dollars[day, name, factor]) for name, private, size in own[day, key]]
        public = [(size, amount, quality) for _, private, size, amount, quality in known if not private]
        gross = sum(size for size, _, _ in public)
        private_gross = sum(size for _, private, size, _, _ in known if private)
        covered = [(size, amount) for size, amount, _ in public if amount is not None]
        share = sum(size for size, _ in covered) / gross if gross else None
        total = sum((Fraction(amount) for _, amount in covered), Fraction(0))
        worth = nav[day, key]
        if factor == "Short_Interest" or (public and all(why == "factor_without_data" for *_, why in public)):
            want: tuple[Any, ...] = ("factor_without_data", None, None)
        elif not public:
            want = ("no_positions", 0, 0.0)
        elif len(covered) < len(public) and (share is None or share < Fraction(4, 5)):
            want = ("low_coverage", None, None)
        elif worth <= 0:
            want = ("no_net_asset_value", total, None)
        else:
            want = ("ok", total, float(total / Fraction(worth)))
        assert (row["status"], row["exposure_dollar"], row["beta"]) == want, row
        assert row["coverage"] == (None if share is None else float(share)), row
        everything = gross + private_gross
        assert row["private_share"] == (float(private_gross / everything) if everything else None), row
        assert (row["positions_covered"], row["positions_total"]) == (len(covered), len(public)), row
    return set(found["portfolios"]["status"])


@few
@given(books())
def test_portfolios_equal_a_second_writing(book: Book) -> None:
    check_reference(book)


def test_generated_books_reach_every_status() -> None:
    seen = set().union(*(check_reference(made(seed, 9, 1)) for seed in range(8)))
    assert seen == {"ok", "low_coverage", "factor_without_data", "no_positions", "no_net_asset_value"}


@few
@given(books(), st.integers(0, 2**16))
def test_ranges_order_and_other_portfolios_change_no_bit(book: Book, seed: int) -> None:
    frames = frames_of(book)
    whole = computed(frames, book.sessions)
    shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=seed) for name, rows in frames.items()}
    same(whole, computed(shuffled, book.sessions))
    singles = [computed(frames, [day]) for day in book.sessions]
    same(whole, {name: pl.concat([single[name] for single in singles]) for name in whole})
    # a run for one portfolio and one session alone, of nothing but what it reads
    for key in (1, 2):
        own = {
            name: rows.filter(portfolio_id=key) if "portfolio_id" in rows.columns else rows
            for name, rows in frames.items()
        }
        day = book.open_sessions[-1]
        alone = {
            name: rows.filter(session_date=day) if "session_date" in rows.columns and name != "calendar" else rows
            for name, rows in own.items()
        }
        want = {name: rows.filter(portfolio_id=key, session_date=day) for name, rows in whole.items()}
        same(want, computed(alone, [day]))


@few
@given(books(), st.data())
def test_what_comes_later_changes_nothing(book: Book, data: st.DataObject) -> None:
    last = data.draw(st.sampled_from(book.open_sessions))
    past = [day for day in book.sessions if day <= last]
    frames = frames_of(book)
    later = dict(frames)
    for name, column in (
        ("position_values", "exposure"),
        ("position_greeks", "delta_adjusted_exposure"),
        ("symbol_factor_betas", "beta"),
        ("portfolio_snapshots", "net_asset_value"),
    ):
        dtype = frames[name].schema[column]
        changed = pl.when(pl.col("session_date") > last).then(pl.col(column) * 3).otherwise(pl.col(column)).cast(dtype)
        later[name] = frames[name].with_columns(changed.alias(column))
    later["instruments"] = frames["instruments"].with_columns(
        pl.when(pl.col("last_session") < last).then(pl.col("replaced_by")).otherwise(pl.lit("BBB")),
        pl.when(pl.col("last_session") < last).then(pl.col("last_session")).otherwise(last),
    )
    same(computed(frames, past), computed(later, past))


@few
@given(books())
def test_flipping_every_sign_flips_every_exposure(book: Book) -> None:
    mirrored = book.with_positions(book.frames["positions"].with_columns(-pl.col("quantity")))
    mine, other = (computed(frames_of(home), home.sessions) for home in (book, mirrored))
    assert mine["rates"].equals(other["rates"])
    for name, flipped in (("positions", ["exposure_dollar"]), ("portfolios", ["exposure_dollar", "beta"])):
        assert mine[name].drop(flipped).equals(other[name].drop(flipped)), name
        for figure in flipped:
            assert (-mine[name][figure]).to_list() == other[name][figure].to_list(), (name, figure)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=5), st.floats(-30, 30))
def test_splitting_a_lot_changes_no_total_beyond_a_cent_per_lot(cents: list[int], slope: float) -> None:
    def total(lots: list[int]) -> Decimal:
        keys = range(1, len(lots) + 1)
        frames = inputs(
            positions=[stock(key, "AAA", 1, 1, MON) for key in keys],
            position_values=[value(key, 1) for key in keys],
            position_greeks=[greeks(key, Decimal(lot) / 100) for key, lot in zip(keys, lots, strict=True)],
            symbol_factor_betas=[beta("AAA", "Market", slope)],
        )
        amount = portfolios(frames)["Market"]["exposure_dollar"]
        assert isinstance(amount, Decimal)
        return amount

    assert abs(total(cents) - total([sum(cents)])) <= (len(cents) - 1) * CENT


@pytest.mark.parametrize("slope", [1.0, -0.3333, 16.77])
def test_an_option_hedges_its_underlying(slope: float) -> None:
    """Equal and opposite delta-adjusted exposures cancel exactly, in every factor, whatever the option is worth."""
    frames = inputs(
        positions=[stock(1, "AAA", 10, 1, MON), option(2, "AAA240315P00100000", 1, 1, MON)],
        position_values=[value(1, "1234.57"), value(2, "8.15")],
        position_greeks=[greeks(1, "1234.57"), greeks(2, "-1234.57")],
        symbol_factor_betas=[beta("AAA", "Market", slope), beta("AAA", "Interest_Rate", -slope)],
    )
    for factor in ("Market", "Interest_Rate"):
        row = portfolios(frames)[factor]
        assert (row["exposure_dollar"], row["beta"], row["coverage"], row["status"]) == (0, 0.0, 1.0, "ok"), factor


def test_one_portfolio_alone_has_the_bits_it_has_among_others() -> None:
    """1,750 / 1,870 has another last bit when it is multiplied out with the reciprocal of 1,870."""
    row = portfolios(min_coverage=0.75)["Market"]
    assert row["coverage"] == 1750 / 1870 != 1750 * (1 / 1870)
    assert row["session_date"] == TUE
