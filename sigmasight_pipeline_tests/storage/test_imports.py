"""Applying accepted files: what is kept, replaced, applied anew, and what a second application changes (nothing)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl
import psycopg
import pytest

from sigmasight_pipeline.storage import imports, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.imports import NOTHING, Kind
from sigmasight_pipeline.storage.partitions import MergeCounts

Row = dict[str, Any]
D1, D2, D3 = date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)
CALL = "AAA250117C00100000"


def header(code: str = "book", **fields: Any) -> Row:
    return {
        "code": code,
        "name": code.title(),
        "description": None,
        "base_currency": "USD",
        "benchmark_symbol": "SPY",
        "inception_date": D1,
        "initial_equity": "1000000.00",
        "active": True,
        **fields,
    }


def lot(symbol: str, number: str = "1", **fields: Any) -> Row:
    return {
        "symbol": symbol,
        "lot": number,
        "position_type": "LONG",
        "investment_class": "PUBLIC",
        "quantity": "10.000000",
        "multiplier": "1",
        "entry_price": "100.250000",
        "entry_date": D1,
        "tags": [],
        **fields,
    }


def house(**fields: Any) -> Row:
    return lot("HOUSE", investment_class="PRIVATE", **fields)


def mark(price: str, day: date, **fields: Any) -> Row:
    return {"symbol": "HOUSE", "session_date": day, "price": price, **fields}


def flow(amount: str, day: date, **fields: Any) -> Row:
    kind = "withdrawal" if amount.startswith("-") else "contribution"
    return {"session_date": day, "kind": kind, "sequence": 1, "amount": amount, "note": None, **fields}


def accept(
    database: Database, kind: Kind, rows: Sequence[Row], code: str = "book", portfolio: Row | None = None
) -> int:
    """Record a file as `operations.books` does: rows and, for positions, the portfolio's header."""
    content: Row = {"rows": list(rows)}
    if kind == "positions":
        content["portfolio"] = portfolio or header(code)
    with database.connect() as connection:
        return imports.record_import(
            connection,
            portfolio_code=code,
            kind=kind,
            file_name=f"{code}.csv",
            content_sha256=f"hash of {len(rows)}",
            content=content,
        )


def apply(database: Database) -> tuple[MergeCounts, MergeCounts]:
    """What the reference assets do, each in a transaction of its own."""
    with database.connect() as connection:
        portfolios = imports.apply_portfolios(connection)
    with database.connect() as connection:
        return portfolios, imports.apply_positions(connection)


def counts(inserted: int = 0, updated: int = 0, deleted: int = 0, unchanged: int = 0) -> MergeCounts:
    return MergeCounts(inserted, updated, deleted, unchanged)


def positions(database: Database) -> dict[tuple[str, str], Row]:
    """Stored positions by symbol and lot."""
    rows = database.read(tables.positions, order_by="position_id").iter_rows(named=True)
    return {(row["symbol"], row["lot"]): row for row in rows}


def tags(database: Database) -> list[tuple[str, str]]:
    found = database.query(
        "SELECT p.symbol, t.name FROM sigmasight.position_tags pt JOIN sigmasight.tags t USING (tag_id) "
        "JOIN sigmasight.positions p USING (position_id) ORDER BY 1, 2"
    )
    return list(found.iter_rows())


def marks(database: Database) -> list[tuple[date, str, str]]:
    found = database.read(tables.position_marks, order_by=["session_date", "position_id"])
    return [(row[1], f"{row[2]:.2f}", row[3]) for row in found.iter_rows()]


def flows(database: Database) -> list[tuple[date, str, int, str]]:
    found = database.read(tables.portfolio_cash_flows, order_by=["session_date", "kind", "sequence"])
    return [(row[1], row[2], row[3], str(row[4])) for row in found.iter_rows()]


def everything(database: Database) -> list[pl.DataFrame]:
    """All an import may touch, sorted."""
    names = (tables.portfolios, tables.positions, tables.tags, tables.position_tags, tables.position_marks)
    every = (*names, tables.portfolio_cash_flows, tables.portfolio_imports)
    return [database.read(table).sort(table.primary_key.columns.keys()) for table in every]


def test_a_first_file(database: Database) -> None:
    option = {"position_type": "SC", "investment_class": "OPTIONS", "quantity": "-2", "multiplier": "100"}
    terms = {"underlying_symbol": "AAA", "option_kind": "C", "strike_price": "100", "expiration_date": "2025-01-17"}
    rows = [lot("BBB", exit_date=D3, exit_price="101.5"), lot(CALL, **option, **terms), lot("AAA", source_line=7)]
    accept(database, "positions", rows)
    assert apply(database) == (counts(inserted=1), counts(inserted=3))
    (book,) = database.read(tables.portfolios).iter_rows(named=True)
    assert {name: str(book[name]) for name in ("code", "name", "inception_date", "initial_equity", "active")} == {
        "code": "book",
        "name": "Book",
        "inception_date": "2024-01-02",
        "initial_equity": "1000000.00",
        "active": "True",
    }
    found = positions(database)
    assert {row["portfolio_id"] for row in found.values()} == {book["portfolio_id"]}
    assert (found["BBB", "1"]["exit_date"], str(found["BBB", "1"]["exit_price"])) == (D3, "101.500000")
    assert found["AAA", "1"]["source_line"] == 7
    assert found["AAA", "1"]["exit_date"] is None
    assert found[CALL, "1"]["expiration_date"] == date(2025, 1, 17)
    assert str(found[CALL, "1"]["quantity"]) == "-2.000000"
    with database.connect() as connection:
        assert imports.waiting_count(connection) == 0
    (kept,) = database.read(tables.portfolio_imports).iter_rows(named=True)
    assert kept["applied_at"] is not None
    assert json.loads(kept["content"])["rows"][0]["entry_date"] == "2024-01-02"


def test_unchanged_rows_keep_their_identifiers(database: Database) -> None:
    accept(database, "positions", [lot("AAA"), lot("AAA", "2"), lot("BBB"), lot("CCC")])
    apply(database)
    before = positions(database)
    changed = [lot("CCC"), lot("AAA", quantity="11"), lot("AAA", "2"), lot("BBB", entry_date=D2), lot("DDD")]
    accept(database, "positions", changed)
    assert apply(database) == (counts(unchanged=1), counts(inserted=2, updated=1, deleted=1, unchanged=2))
    after = positions(database)
    same = [("AAA", "2"), ("CCC", "1")]
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    # another quantity is the same position, another entry is another one
    assert after["AAA", "1"]["position_id"] == before["AAA", "1"]["position_id"]
    assert str(after["AAA", "1"]["quantity"]) == "11.000000"
    assert after["BBB", "1"]["position_id"] not in {row["position_id"] for row in before.values()}


def test_applying_twice_changes_nothing(database: Database) -> None:
    accept(database, "positions", [lot("AAA", tags=["core"]), house()])
    accept(database, "marks", [mark("1000", D2)])
    apply(database)
    accept(database, "flows", [flow("5.00", D2)])
    apply(database)
    before = everything(database)
    assert apply(database) == (NOTHING, NOTHING)
    assert all(one.equals(other) for one, other in zip(everything(database), before, strict=True))
    # the same file accepted once more: recorded, nothing else
    accept(database, "positions", [lot("AAA", tags=["core"]), house()])
    assert apply(database) == (counts(unchanged=1), counts(unchanged=2))
    assert all(one.equals(other) for one, other in zip(everything(database)[:-1], before[:-1], strict=True))


def test_of_two_waiting_files_the_newest_counts(database: Database) -> None:
    accept(database, "positions", [lot("OLD"), lot("AAA")], portfolio=header(initial_equity="1.00"))
    accept(database, "positions", [lot("ZZZ")], "other")
    newest = accept(database, "positions", [lot("AAA"), lot("NEW")], portfolio=header(initial_equity="2.00"))
    with database.connect() as connection:
        assert imports.waiting_count(connection) == 3
        assert imports.waiting_positions(connection).select("portfolio_code", "symbol").sort("symbol").rows() == [
            ("book", "AAA"),
            ("book", "NEW"),
            ("other", "ZZZ"),
        ]
    assert apply(database) == (counts(inserted=2), counts(inserted=3))
    assert sorted(symbol for symbol, _ in positions(database)) == ["AAA", "NEW", "ZZZ"]
    equity = database.read(tables.portfolios, order_by="code")["initial_equity"]
    assert [str(value) for value in equity] == ["2.00", "1000000.00"]
    # the older one is done with too, or it would come back with the next run
    assert database.read(tables.portfolio_imports)["applied_at"].null_count() == 0
    assert newest == database.read(tables.portfolio_imports)["import_id"].max()
    assert apply(database) == (NOTHING, NOTHING)


def test_a_file_replaces_its_own_portfolio_only(database: Database) -> None:
    accept(database, "positions", [lot("AAA", tags=["x"]), lot("BBB")])
    accept(database, "positions", [lot("AAA", tags=["x"])], "other")
    apply(database)
    other = database.read(tables.positions).filter(pl.col("symbol") == "AAA").sort("position_id").tail(1)
    accept(database, "positions", [lot("BBB")])
    assert apply(database) == (counts(unchanged=1), counts(deleted=1, unchanged=1))
    left = database.read(tables.positions)
    assert left.filter(pl.col("symbol") == "AAA").equals(other)
    assert tags(database) == [("AAA", "x")]


def test_what_an_import_does_not_say_stays(database: Database) -> None:
    accept(database, "positions", [lot("AAA")])
    apply(database)
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolios SET equity_balance = 7, equity_as_of = %s, opening_cash = 3", (D2,)
        )
    accept(database, "positions", [lot("AAA")], portfolio=header(description="Now described"))
    assert apply(database)[0] == counts(updated=1)
    (book,) = database.read(tables.portfolios).iter_rows(named=True)
    assert (book["description"], str(book["equity_balance"]), book["equity_as_of"], str(book["opening_cash"])) == (
        "Now described",
        "7.00",
        D2,
        "3.00",
    )


def test_tags_are_those_of_the_file(database: Database) -> None:
    accept(database, "positions", [lot("AAA", tags=["tech", "core"]), lot("BBB", tags=["core", "core"]), lot("CCC")])
    apply(database)
    assert tags(database) == [("AAA", "core"), ("AAA", "tech"), ("BBB", "core")]
    first = database.read(tables.tags, order_by="tag_id")
    assert first["kind"].unique().to_list() == ["regular"]
    # only tags changed: the positions are unchanged rows, their tags are not
    accept(database, "positions", [lot("AAA", tags=["new"]), lot("BBB", tags=["core"]), lot("CCC", tags=["tech"])])
    assert apply(database)[1] == counts(unchanged=3)
    assert tags(database) == [("AAA", "new"), ("BBB", "core"), ("CCC", "tech")]
    assert database.read(tables.tags, order_by="tag_id").head(2).equals(first)


def test_marks_add_up_and_the_last_one_said_counts(database: Database) -> None:
    accept(database, "positions", [house(), lot("AAA")])
    accept(database, "marks", [mark("1000", D1), mark("1010", D2, source="appraisal")])
    accept(database, "marks", [mark("1011", D2), mark("1020", D3)])
    apply(database)
    expected = [(D1, "1000.00", "manual"), (D2, "1011.00", "manual"), (D3, "1020.00", "manual")]
    assert marks(database) == expected
    accept(database, "marks", [mark("999", D1, source="audit")])
    assert apply(database) == (NOTHING, NOTHING)
    assert marks(database) == [(D1, "999.00", "audit"), *expected[1:]]


def test_marks_are_applied_anew_after_a_replaced_position(database: Database) -> None:
    accept(database, "positions", [house(), lot("AAA")])
    accept(database, "marks", [mark("1000", D1), mark("1010", D2)])
    apply(database)
    accept(database, "marks", [mark("1011", D2), mark("1020", D3)])
    apply(database)
    # bought a session later: another row, of which nothing was marked before its entry
    accept(database, "positions", [house(entry_date=D2), lot("AAA")])
    assert apply(database)[1] == counts(inserted=1, deleted=1, unchanged=1)
    assert marks(database) == [(D2, "1011.00", "manual"), (D3, "1020.00", "manual")]
    # and one that was sold takes none after that
    accept(database, "positions", [house(entry_date=D1, exit_date=D2, exit_price="1")])
    apply(database)
    assert marks(database) == [(D1, "1000.00", "manual"), (D2, "1011.00", "manual")]


def test_a_mark_is_of_every_private_lot_and_of_no_other(database: Database) -> None:
    accept(database, "positions", [house(), house(lot="2", quantity="5"), lot("HOUSE", "3")])
    accept(database, "positions", [house()], "other")
    accept(database, "marks", [mark("1000", D2)])
    apply(database)
    found = database.query(
        "SELECT f.code, p.lot FROM sigmasight.position_marks JOIN sigmasight.positions p USING (position_id) "
        "JOIN sigmasight.portfolios f USING (portfolio_id) ORDER BY 1, 2"
    )
    assert found.rows() == [("book", "1"), ("book", "2")]


def test_flows_are_replaced_as_a_set(database: Database) -> None:
    accept(database, "positions", [lot("AAA")])
    accept(database, "positions", [lot("AAA")], "other")
    apply(database)
    accept(database, "flows", [flow("10.00", D1)], "other")
    accept(database, "flows", [flow("5.00", D2), flow("6.00", D2, sequence=2), flow("-1.50", D3, note="fee")])
    apply(database)
    others = (D1, "contribution", 1, "10.00")
    expected = [(D2, "contribution", 1, "5.00"), (D2, "contribution", 2, "6.00"), (D3, "withdrawal", 1, "-1.50")]
    assert flows(database) == [others, *expected]
    accept(database, "flows", [flow("7.00", D2)])
    accept(database, "flows", [flow("8.00", D2)])
    apply(database)
    assert flows(database) == [others, (D2, "contribution", 1, "8.00")]
    # a new file of positions says nothing of flows
    accept(database, "positions", [lot("BBB")])
    apply(database)
    assert flows(database) == [others, (D2, "contribution", 1, "8.00")]


def test_a_file_accepted_between_the_two_steps(database: Database) -> None:
    """Portfolios and positions are two assets: what arrives between them is applied whole and not lost."""
    accept(database, "positions", [lot("AAA")])
    with database.connect() as connection:
        assert imports.apply_portfolios(connection) == counts(inserted=1)
    accept(database, "positions", [lot("BBB")], "other")
    accept(database, "positions", [lot("CCC")], portfolio=header(initial_equity="3.00"))
    with database.connect() as connection:
        imports.apply_positions(connection)
    apply(database)
    assert sorted(symbol for symbol, _ in positions(database)) == ["BBB", "CCC"]
    equity = database.read(tables.portfolios, order_by="code").select("code", pl.col("initial_equity").cast(pl.Float64))
    assert equity.rows() == [("book", 3.0), ("other", 1e6)]


def test_a_failure_leaves_the_file_waiting(database: Database) -> None:
    """One transaction: what may not be written is not half applied, and not lost."""
    accept(database, "positions", [lot("AAA")])
    apply(database)
    before = everything(database)
    accept(database, "positions", [lot("BBB"), lot("CCC", investment_class="GOLD")])
    waiting = everything(database)[-1]
    with database.connect() as connection:
        imports.apply_portfolios(connection)
    with (
        pytest.raises(Exception, match="1 investment_class none of PUBLIC, OPTIONS, PRIVATE, the first GOLD"),
        database.connect() as connection,
    ):
        imports.apply_positions(connection)
    assert all(one.equals(other) for one, other in zip(everything(database)[:-1], before[:-1], strict=True))
    assert everything(database)[-1].equals(waiting)


def test_what_waits(database: Database) -> None:
    def hashes(connection: psycopg.Connection[Any]) -> list[str | None]:
        kinds: list[Kind] = ["positions", "marks", "flows"]
        return [imports.waiting_hash(connection, "book", kind) for kind in kinds]

    with database.connect() as connection:
        assert hashes(connection) == [None, None, None]
        assert imports.waiting_count(connection) == 0
        assert imports.waiting_positions(connection).is_empty()
    accept(database, "positions", [lot("AAA")])
    accept(database, "positions", [lot("AAA", exit_date=D2, exit_price="1"), house()])
    accept(database, "flows", [flow("1.00", D2)])
    with database.connect() as connection:
        assert hashes(connection) == ["hash of 2", None, "hash of 1"]
        assert imports.waiting_positions(connection).rows() == [
            ("book", "AAA", "PUBLIC", D1, D2),
            ("book", "HOUSE", "PRIVATE", D1, None),
        ]
    apply(database)
    with database.connect() as connection:
        assert hashes(connection) == [None, None, None]
