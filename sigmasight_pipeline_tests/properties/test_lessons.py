"""The properties the pipeline guarantees, on generated books: re-runs, identities, ranges, no look-ahead, mirror, lots.

The numbers are those of the list of ten properties; telescoping per position stands with the identities.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.exposures import GREEKS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline_tests.calculations.table_rows import dividend, frame, split, stock
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, groups_of, snapshots_of, values_of

CENT = Decimal("0.01")
EXITS = ("exit", "settlement", "settlement_unpriced")
SIGNED = (
    "quantity", "market_value", "exposure", "cost_basis", "unrealized_pnl", "daily_pnl", "realized_pnl",
    "dividend_pnl", "total_pnl", "cash_effect", "weight",
)  # fmt: skip

slow = settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def _same(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """The same rows, bit for bit."""
    if not left.equals(right):
        differing = pl.concat([left, right]).filter(pl.struct(pl.all()).is_unique())
        pytest.fail(f"rows differ:\n{differing.to_dicts()}")


def _shuffled(book: Book, seed: int) -> Book:
    frames = {name: rows.sample(fraction=1, shuffle=True, seed=seed) for name, rows in book.frames.items()}
    return Book(frames=frames, flows=book.flows, seed=book.seed)


@slow
@given(books(), st.integers(0, 2**16))
def test_1_a_rerun_gives_identical_rows_whatever_the_order_of_its_input(book: Book, seed: int) -> None:
    _same(values_of(book, book.sessions), values_of(_shuffled(book, seed), book.sessions))
    _same(snapshots_of(book, book.sessions).frame, snapshots_of(_shuffled(book, seed), book.sessions).frame)


@slow
@given(books())
def test_2_nav_is_the_previous_one_plus_flows_and_pnl(book: Book) -> None:
    for row in _with_previous(book):
        before = row["initial_equity"] if row["is_first"] else row["previous_nav"]
        assert row["net_asset_value"] == before + row["net_cash_flow"] + row["daily_pnl"], row
        assert row["net_asset_value"] == row["initial_equity"] + row["cumulative_pnl"] + row["flows_so_far"], row


@slow
@given(books())
def test_3_nav_is_cash_plus_market_value(book: Book) -> None:
    for row in _with_previous(book):
        assert row["net_asset_value"] == row["cash_balance"] + row["market_value"], row


def _with_previous(book: Book) -> list[dict[str, Any]]:
    rows = snapshots_of(book, book.sessions).frame.sort("portfolio_id", "session_date")
    equity = book.frames["portfolios"].select("portfolio_id", "initial_equity")
    return (
        rows.with_columns(
            previous_nav=pl.col("net_asset_value").shift(1).over("portfolio_id"),
            flows_so_far=pl.col("net_cash_flow").cum_sum().over("portfolio_id"),
        )
        .join(equity, on="portfolio_id")
        .to_dicts()
    )


@slow
@given(books())
def test_telescoping_to_the_cent(book: Book) -> None:
    """sum(daily P&L from the first row to D) = unrealised (or realised) + sum(dividends); brought in: value (or
    proceeds) less opening value + dividends. And total_pnl moves by exactly the daily P&L."""
    rows = values_of(book, book.sessions).sort("position_id", "session_date")
    rows = rows.with_columns(
        earned=pl.col("daily_pnl").cum_sum().over("position_id"),
        paid=pl.col("dividend_pnl").cum_sum().over("position_id"),
        moved=pl.col("total_pnl").diff().over("position_id"),
    )
    first_rows = rows.group_by("position_id", maintain_order=True).first()
    first = {row["position_id"]: row for row in first_rows.iter_rows(named=True)}
    for row in rows.iter_rows(named=True):
        opening = first[row["position_id"]]
        brought_in = opening["cash_effect"] == -opening["market_value"] and opening["daily_pnl"] == 0
        gain = row["unrealized_pnl"] + row["realized_pnl"]
        opening_gain = opening["unrealized_pnl"] + opening["realized_pnl"] if brought_in else 0
        assert row["earned"] == gain - opening_gain + row["paid"], row
        assert row["moved"] in (None, row["daily_pnl"]), row
        if not brought_in and row["session_date"] == opening["session_date"]:
            assert row["total_pnl"] == row["daily_pnl"], row


@settings(slow, max_examples=5)
@given(books(), st.data())
def test_4_one_range_equals_single_sessions_and_any_chunks(book: Book, data: st.DataObject) -> None:
    """Values in any order of sessions; snapshots along the chain, cut anywhere."""
    whole = values_of(book, book.sessions)
    singles = pl.concat([values_of(book, [day]) for day in data.draw(st.permutations(book.sessions))])
    _same(whole, singles.sort("session_date", "position_id"))
    for engine in (exposures_of, groups_of):
        at_once = engine(book, book.sessions, whole)
        _same(at_once, pl.concat([engine(book, [day], whole) for day in book.sessions]))
        _same(at_once, engine(book, book.sessions, whole.sample(fraction=1, shuffle=True, seed=book.seed)))

    cuts = data.draw(st.sets(st.sampled_from(range(1, len(book.sessions)))))
    bounds = [0, *sorted(cuts), len(book.sessions)]
    stored = frame(tables.portfolio_snapshots, []).select(snapshots_of(book, book.sessions).frame.columns)
    opening_cash = []
    for first, last in pairwise(bounds):
        part = snapshots_of(book, book.sessions[first:last], previous=stored)
        stored = pl.concat([stored, part.frame])
        opening_cash.append(part.opening_cash)
    chain = snapshots_of(book, book.sessions)
    _same(chain.frame, stored)
    _same(chain.opening_cash, pl.concat(opening_cash).sort("portfolio_id"))


@slow
@given(books(), st.data())
def test_5_what_comes_later_changes_nothing(book: Book, data: st.DataObject) -> None:
    """Every price, action, mark, model price, exit, entry, flow and renaming after D is changed or taken away."""
    last = data.draw(st.sampled_from(book.open_sessions))
    past = [day for day in book.sessions if day <= last]
    day, tomorrow = pl.col("session_date"), last + timedelta(days=1)
    frames = dict(book.frames)
    for name, column in (("prices", "close"), ("option_prices", "close"), ("marks", "price")):
        changed = pl.when(day > last).then(pl.col(column) * 3).otherwise(pl.col(column))
        frames[name] = frames[name].with_columns(changed.cast(pl.Decimal(20, 6)).alias(column))
    frames["option_model"] = frames["option_model"].filter(day <= last)
    symbols = sorted(set(frames["prices"]["symbol"]))
    later = [split(symbol, tomorrow, 5, 2) for symbol in symbols] + [
        dividend(symbol, tomorrow, 9) for symbol in symbols
    ]
    frames["actions"] = pl.concat(
        [frames["actions"].filter(pl.col("ex_date") <= last), frame(tables.corporate_actions, later)]
    )
    gone = pl.col("exit_date") > last
    frames["positions"] = pl.concat(
        [
            frames["positions"].with_columns(pl.when(~gone).then(pl.col("exit_date", "exit_price"))),
            frame(tables.positions, [stock(99, "AAA", 1000, 1, tomorrow)]),
        ]
    )
    frames["instruments"] = frames["instruments"].with_columns(
        pl.when(pl.col("last_session") <= last).then(pl.col("replaced_by")).otherwise(pl.lit("BBB")),
        pl.col("last_session").fill_null(tomorrow),
    )
    changed_book = Book(frames=frames, flows=book.flows.filter(day <= last), seed=book.seed)
    values, later_values = values_of(book, past), values_of(changed_book, past)
    _same(values, later_values)
    _same(groups_of(book, past, values), groups_of(changed_book, past, later_values))
    _same(snapshots_of(book, past).frame, snapshots_of(changed_book, past).frame)


@slow
@given(books())
def test_6_every_active_portfolio_has_a_row_for_every_open_session_since_inception(book: Book) -> None:
    expected = {
        (row["portfolio_id"], day)
        for row in book.frames["portfolios"].iter_rows(named=True)
        for day in book.open_sessions
        if row["active"] and day >= row["inception_date"]
    }
    values = values_of(book, book.sessions)
    for rows in (exposures_of(book, book.sessions, values), snapshots_of(book, book.sessions).frame):
        assert set(rows.select("portfolio_id", "session_date").iter_rows()) == expected


@slow
@given(books())
def test_7_flipping_every_sign_flips_every_figure(book: Book) -> None:
    positions = book.frames["positions"]
    mirrored = book.with_positions(positions.with_columns(-pl.col("quantity")))
    values, mirror = values_of(book, book.sessions), values_of(mirrored, book.sessions)
    _same(values.with_columns(-pl.col(name) + 0 for name in SIGNED).select(_typed(values)), mirror)

    mine, other = (exposures_of(home, book.sessions, rows) for home, rows in ((book, values), (mirrored, mirror)))
    _mirrored(
        mine,
        other,
        sides=["{}_exposure", "delta_adjusted_{}"],
        flipped=[*GREEKS, "net_exposure", "delta_adjusted_net"],
        kept=[
            "gross_exposure",
            "notional",
            "hhi",
            "effective_positions",
            "top_1_weight",
            "position_count",
            "delta_adjusted_gross",
            "delta_adjusted_coverage",
            "greeks_status",
        ],
    )
    mine, other = (groups_of(home, book.sessions, rows) for home, rows in ((book, values), (mirrored, mirror)))
    _mirrored(
        mine,
        other,
        sides=["{}_exposure"],
        flipped=["net_exposure", "delta_adjusted_net", "daily_pnl"],
        kept=["session_date", "group_name", "gross_exposure", "greeks_status", "position_count"],
    )


def _mirrored(
    mine: pl.DataFrame, other: pl.DataFrame, *, sides: list[str], flipped: list[str], kept: list[str]
) -> None:
    """Long becomes short, `flipped` change sign and `kept` stay, row by row."""
    pairs = [(side.format("long"), side.format("short")) for side in sides]
    for left, right in [*pairs, *(pair[::-1] for pair in pairs), *((name, name) for name in flipped)]:
        assert (-mine[left]).to_list() == other[right].to_list(), (left, right)
    for name in kept:
        assert mine[name].to_list() == other[name].to_list(), name


def _typed(values: pl.DataFrame) -> list[pl.Expr]:
    """Negation widens Decimals; back to the table's types."""
    return [pl.col(name).cast(dtype) for name, dtype in values.schema.items()]


@slow
@given(books(), st.integers(1, 99))
def test_8_splitting_a_lot_changes_no_total(book: Book, share: int) -> None:
    """Each rounded amount may differ by 0.01 per extra lot; a difference of amounts by as much for each of them."""
    positions = book.frames["positions"]
    part = (pl.col("quantity").cast(pl.Float64) * share / 100).round(6).cast(pl.Decimal(20, 6))
    lots = positions.with_columns(part=part).filter(pl.col("part") != 0, pl.col("part") != pl.col("quantity"))
    rest = lots.with_columns(pl.col("quantity") - pl.col("part")).drop("part")
    new = lots.with_columns(quantity="part", position_id=pl.col("position_id") + 1000).drop("part")
    whole = positions.filter(~pl.col("position_id").is_in(lots["position_id"].to_list()))
    divided = book.with_positions(
        pl.concat([whole, *(rows.cast(pl.Schema(polars_schema(tables.positions))) for rows in (rest, new))])
    )
    marks = book.frames["marks"]
    divided.frames["marks"] = pl.concat([marks, marks.with_columns(pl.col("position_id") + 1000)])
    keys = ["session_date", "position_id"]
    summed = (
        values_of(divided, book.sessions)
        .with_columns(pl.col("position_id") % 1000)
        .group_by(keys)
        .agg(pl.col("market_value", "cost_basis", "dividend_pnl", "notional", "daily_pnl").sum())
    )
    for row in values_of(book, book.sessions).join(summed, on=keys, suffix="_of_lots").iter_rows(named=True):
        for name, amounts in (
            ("market_value", 1),
            ("cost_basis", 1),
            ("notional", 1),
            ("dividend_pnl", 2),
            ("daily_pnl", 4),
        ):
            difference = abs((row[name] or 0) - row[f"{name}_of_lots"])
            assert difference <= amounts * CENT, (name, row)
    _same_totals(book, divided, extra_lots=lots.height)


def _same_totals(book: Book, divided: Book, extra_lots: int) -> None:
    """Exposures of portfolios and groups; made-up deltas are up to 19 times the exposure."""
    for engine, keys in (
        (exposures_of, ["session_date", "portfolio_id"]),
        (groups_of, ["session_date", "portfolio_id", "group_kind", "group_name"]),
    ):
        mine, other = (engine(home, home.sessions, values_of(home, home.sessions)) for home in (book, divided))
        for row in mine.join(other, on=keys, suffix="_of_lots", how="full").iter_rows(named=True):
            assert row["greeks_status"] == row["greeks_status_of_lots"], row
            for name, size in (
                *((f"{side}_exposure", 1) for side in ("long", "short", "gross", "net")),
                ("delta_adjusted_net", 19),
            ):
                left, right = row[name], row[f"{name}_of_lots"]
                assert (left is None) == (right is None), (name, row)
                assert left is None or abs(left - right) <= size * extra_lots * CENT, (name, row)


def test_generated_books_reach_every_rule() -> None:
    """The strategy is worth its name: among the first sixty seeds there is each price source, and each event."""
    from sigmasight_pipeline_tests.properties.books import made

    rows = pl.concat([values_of(book := made(seed, 6, 3), book.sessions) for seed in range(60)])
    assert set(rows["price_source"]) == {
        "market", "carried", "model", "mark", "intrinsic", "entry_price", *EXITS,
    }  # fmt: skip
    for name in ("stale", "dividend_pnl", "realized_pnl"):
        assert rows[name].cast(pl.Float64).sum() != 0, name
    assert rows["notional"].null_count() > 0
    assert {day.year for day in rows["session_date"]} == {2023, 2024}
