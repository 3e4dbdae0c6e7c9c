"""Group exposures by hand, against a second writing of them on generated books, and tag filters."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.exposures import MissingGreeksError
from sigmasight_pipeline.calculations.group_exposures import (
    TagMatch,
    UnknownTagError,
    group_exposures,
    positions_with_tags,
)
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations.reference_snapshots import EXITS
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock
from sigmasight_pipeline_tests.properties.books import Book, books, exposures_of, greeks_of, groups_of, values_of

MON, TUE, WED = (date(2024, 3, day) for day in (4, 5, 6))
CALL = "AAA240315C00100000"

TAGS = frame(tables.tags, [{"tag_id": at, "name": name} for at, name in enumerate(("core", "hedge", "idle"), start=1)])
SECTORS = {"AAA": "Technology", "BBB": None, "FUND": None, CALL: "an option has none of its own"}

POSITIONS = [
    stock(1, "AAA", 10, 1, MON),
    option(2, CALL, -1, 1, MON),
    stock(3, "BBB", -5, 1, MON),
    private(4, "FUND", 1, 1, MON),
    stock(5, "GONE", 1, 1, MON),
]
VALUES = {
    # exposure, delta-adjusted, daily P&L, price source
    1: ("1000.00", "1000.00", "10.01", "market"),
    2: ("-200.00", "-450.00", "-3.00", "model"),
    3: ("-300.00", "-300.00", "0.50", "market"),
    4: ("500.00", None, "0.00", "mark"),
    5: ("0.00", "0.00", "7.77", "exit"),
}
TAGGED = [(1, 1), (2, 1), (2, 2), (5, 2)]

# kind, name: long, short, delta-adjusted net, P&L, positions
EXPECTED = {
    ("position_type", "LONG"): ("1500.00", "0.00", "1500.00", "17.78", 2),
    ("position_type", "SC"): ("0.00", "-200.00", "-450.00", "-3.00", 1),
    ("position_type", "SHORT"): ("0.00", "-300.00", "-300.00", "0.50", 1),
    ("sector", "Technology"): ("1000.00", "-200.00", "550.00", "7.01", 2),
    ("sector", "unclassified"): ("500.00", "-300.00", "200.00", "8.27", 2),
    ("tag", "core"): ("1000.00", "-200.00", "550.00", "7.01", 2),
    ("tag", "hedge"): ("0.00", "-200.00", "-450.00", "4.77", 1),
    ("underlying", "AAA"): ("1000.00", "-200.00", "550.00", "7.01", 2),
    ("underlying", "BBB"): ("0.00", "-300.00", "-300.00", "0.50", 1),
    ("underlying", "FUND"): ("500.00", "0.00", "500.00", "0.00", 1),
    ("underlying", "GONE"): ("0.00", "0.00", "0.00", "7.77", 0),
}


def grouped(
    values: dict[int, tuple[Any, Any, Any, str]] = VALUES, *, order: int = 1, greeks: bool = True, **fields: Any
) -> pl.DataFrame:
    """Groups of Tuesday of portfolio 1; rows of the inputs in reverse with order -1."""
    made = [
        {"session_date": TUE, "position_id": key, "portfolio_id": 1, "symbol": "as traded", "exposure": exposure,
         "daily_pnl": pnl, "price_source": source}
        for key, (exposure, _, pnl, source) in values.items()
    ]  # fmt: skip
    deltas = [
        {"session_date": TUE, "position_id": key, "portfolio_id": 1, "delta_adjusted_exposure": adjusted,
         "status": "fallback" if adjusted is None else "ok"}
        for key, (_, adjusted, _, _) in values.items() if greeks and key != 4
    ]  # fmt: skip
    inputs = {
        "portfolios": frame(tables.portfolios, [portfolio(1, MON)]),
        "positions": frame(tables.positions, POSITIONS[::order]),
        "instruments": frame(tables.instruments, [{"symbol": key, "sector": name} for key, name in SECTORS.items()]),
        "tags": TAGS,
        "position_tags": frame(tables.position_tags, [{"position_id": key, "tag_id": tag} for key, tag in TAGGED]),
        "position_values": frame(tables.position_values, made[::order]),
        "position_greeks": frame(tables.position_greeks, deltas[::order]),
    }
    return group_exposures(sessions=[TUE], calendar=sessions_frame([MON, TUE]), **(inputs | fields))


def by_group(result: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["group_kind"], row["group_name"]): row for row in result.iter_rows(named=True)}


def test_groups_by_hand() -> None:
    """An option with its stock, several tags, an exit with P&L alone, PRIVATE with its exposure."""
    result = grouped()
    schema = {name: dtype for name, dtype in polars_schema(tables.group_exposures).items() if name not in PROVENANCE}
    assert dict(result.schema) == schema
    rows = by_group(result)
    assert list(rows) == list(EXPECTED)
    for key, (long, short, adjusted, pnl, count) in EXPECTED.items():
        row = rows[key]
        assert (row["long_exposure"], row["short_exposure"]) == (Decimal(long), Decimal(short)), row
        assert row["gross_exposure"] == Decimal(long) - Decimal(short), row
        assert row["net_exposure"] == Decimal(long) + Decimal(short), row
        assert (row["delta_adjusted_net"], row["greeks_status"]) == (Decimal(adjusted), "ok"), row
        assert (row["daily_pnl"], row["position_count"]) == (Decimal(pnl), count), row
    assert grouped(order=-1).equals(result)


def test_a_fallback_leaves_its_groups_without_delta_adjusted_total() -> None:
    rows = by_group(grouped(VALUES | {2: ("-200.00", None, "-3.00", "model")}))
    partial = {key for key, row in rows.items() if row["greeks_status"] == "partial"}
    without = {key for key, row in rows.items() if row["delta_adjusted_net"] is None}
    touched = {("position_type", "SC"), ("sector", "Technology"), ("underlying", "AAA")}
    assert partial == without == touched | {("tag", "core"), ("tag", "hedge")}
    for key in EXPECTED:
        assert rows[key]["net_exposure"] == Decimal(EXPECTED[key][0]) + Decimal(EXPECTED[key][1]), key


@pytest.mark.parametrize(
    ("case", "fields", "groups"),
    [
        ("inactive", {"portfolios": frame(tables.portfolios, [portfolio(1, MON, active=False)])}, 0),
        ("before inception", {"portfolios": frame(tables.portfolios, [portfolio(1, WED)])}, 0),
        ("no tags", {"position_tags": frame(tables.position_tags, [])}, len(EXPECTED) - 2),
        ("nothing known of any symbol", {"instruments": frame(tables.instruments, [])}, len(EXPECTED) - 1),
        ("no positions", {"position_values": frame(tables.position_values, [])}, 0),
    ],
)
def test_which_groups_there_are(case: str, fields: dict[str, pl.DataFrame], groups: int) -> None:
    assert len(grouped(**fields)) == groups, case  # type: ignore[arg-type]  # frames by keyword, none of them `order`


def test_a_held_position_without_a_row_of_greeks_is_an_error() -> None:
    with pytest.raises(MissingGreeksError, match="position 1 has no Greeks at 2024-03-05"):
        grouped(greeks=False)
    exits = {5: VALUES[5]}
    assert by_group(grouped(exits, greeks=False))["tag", "hedge"]["delta_adjusted_net"] == 0


@settings(max_examples=25, deadline=None)
@given(books())
def test_every_column_equals_a_second_writing(book: Book) -> None:
    """One position after the other; and sectors, underlyings and types add up to the portfolio."""
    values = values_of(book, book.sessions)
    greeks = {
        (row["session_date"], row["position_id"]): row["delta_adjusted_exposure"]
        for row in greeks_of(book, values).iter_rows(named=True)
    }
    positions = {row["position_id"]: row for row in book.frames["positions"].iter_rows(named=True)}
    expected: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(
        lambda: {"long": Decimal(0), "short": Decimal(0), "delta": Decimal(0), "pnl": Decimal(0), "count": 0}
    )
    for row in values.iter_rows(named=True):
        own = positions[row["position_id"]]
        names = [
            ("sector", "unclassified"),
            ("underlying", own["underlying_symbol"] or own["symbol"]),
            ("position_type", own["position_type"]),
            *(
                ("tag", name)
                for name, divides in (("core", (0, 1)), ("hedge", (0,)))
                if own["position_id"] % 3 in divides
            ),
        ]
        for kind, name in names:
            group = expected[row["session_date"], row["portfolio_id"], kind, name]
            group["pnl"] += row["daily_pnl"]
            if row["price_source"] not in EXITS:
                group["long" if row["exposure"] > 0 else "short"] += row["exposure"]
                private = own["investment_class"] == "PRIVATE"
                adjusted = row["exposure"] if private else greeks[row["session_date"], row["position_id"]]
                group["delta"] = None if None in (adjusted, group["delta"]) else group["delta"] + adjusted
                group["count"] += 1
    result = groups_of(book, book.sessions, values)
    keys = [(row[0], row[1], row[2], row[3]) for row in result.iter_rows()]
    assert keys == sorted(expected)
    for row in result.iter_rows(named=True):
        want = expected[row["session_date"], row["portfolio_id"], row["group_kind"], row["group_name"]]
        assert (row["long_exposure"], row["short_exposure"]) == (want["long"], want["short"]), row
        assert (row["gross_exposure"], row["net_exposure"]) == (
            want["long"] - want["short"],
            want["long"] + want["short"],
        )
        assert (row["delta_adjusted_net"], row["daily_pnl"], row["position_count"]) == (
            want["delta"], want["pnl"], want["count"],
        ), row  # fmt: skip
        assert row["greeks_status"] == ("partial" if want["delta"] is None else "ok"), row
    check_sums(result, exposures_of(book, book.sessions, values), values)


def check_sums(groups: pl.DataFrame, exposures: pl.DataFrame, values: pl.DataFrame) -> None:
    keys = ["session_date", "portfolio_id"]
    figures = ["long_exposure", "short_exposure", "gross_exposure", "net_exposure", "daily_pnl"]
    pnl = values.group_by(keys).agg(pl.col("daily_pnl").sum())
    whole = exposures.join(pnl, on=keys).select(*keys, *figures).sort(keys)
    for kind in ("sector", "underlying", "position_type"):
        parts = groups.filter(group_kind=kind).group_by(keys).agg(pl.col(figures).sum()).sort(keys)
        assert parts.rows() == whole.rows(), kind


CARRIED = frame(
    tables.position_tags,
    [{"position_id": key, "tag_id": tag} for key, tag in [(30, 1), (30, 2), (7, 2), (7, 3), (9, 1), (9, 2), (9, 3)]],
)


@pytest.mark.parametrize(
    ("names", "match", "positions"),
    [
        (["core"], "any", [9, 30]),
        (["core"], "all", [9, 30]),
        (["core", "idle"], "any", [7, 9, 30]),
        (["core", "idle"], "all", [9]),
        (["core", "core"], "all", [9, 30]),
        (["core", "hedge", "idle"], TagMatch.ALL, [9]),
        ([], "any", []),
        ([], "all", []),
    ],
)
def test_tag_filters_combine_as_any_or_all(names: list[str], match: Any, positions: list[int]) -> None:
    assert positions_with_tags(CARRIED, TAGS, names, match).to_list() == positions


def test_bad_tag_filters() -> None:
    with pytest.raises(UnknownTagError, match="there is no tag Core, x; the tags are: core, hedge, idle") as caught:
        positions_with_tags(CARRIED, TAGS, ["x", "core", "Core"], TagMatch.ANY)
    assert (caught.value.unknown, caught.value.known) == (("Core", "x"), ("core", "hedge", "idle"))
    with pytest.raises(UnknownTagError, match="the tags are: none"):
        positions_with_tags(CARRIED, TAGS.clear(), ["x"], TagMatch.ANY)
    with pytest.raises(ValueError, match="'some' is not a valid TagMatch"):
        positions_with_tags(CARRIED, TAGS, ["core"], "some")  # type: ignore[arg-type]  # what a caller might pass


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.tuples(st.integers(1, 6), st.integers(1, 3))),
    st.sets(st.sampled_from(["core", "hedge", "idle"]), min_size=1),
)
def test_tag_filters_are_unions_and_intersections(carried: set[tuple[int, int]], names: set[str]) -> None:
    rows = frame(tables.position_tags, [{"position_id": key, "tag_id": tag} for key, tag in sorted(carried)])
    sets = [set(positions_with_tags(rows, TAGS, [name], TagMatch.ANY)) for name in names]
    assert positions_with_tags(rows, TAGS, names, TagMatch.ANY).to_list() == sorted(set.union(*sets))
    assert positions_with_tags(rows, TAGS, names, TagMatch.ALL).to_list() == sorted(set.intersection(*sets))
