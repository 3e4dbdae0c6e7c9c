"""A user's own book and prices, from the first import to a replaced file: every figure checked against arithmetic."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.cli.commands import (
    FIRST,
    LAST,
    PATIENCE,
    SESSIONS,
    CommandLine,
    close,
    on_server,
    together,
    write_prices,
)

EQUITY = Decimal(1_000_000)


@dataclass(frozen=True)
class Lot:
    """A line of the portfolio file."""

    symbol: str
    quantity: Decimal
    price: Decimal
    entry: date
    exit: date | None = None
    exit_price: Decimal | None = None
    name: str = ""
    kind: str = ""

    def line(self) -> str:
        cells = (self.symbol, self.quantity, self.price, self.entry, self.exit, self.exit_price, self.name, self.kind)
        return ",".join("" if cell is None else str(cell) for cell in cells) + ",unused"


LOTS = (
    Lot("AAA", Decimal(1000), Decimal("99.50"), FIRST),
    # 800 bought at once; 500 of them sold a week later
    Lot("AAA", Decimal(500), Decimal("101.25"), date(2024, 1, 4), date(2024, 1, 10), Decimal("104.00"), "sold"),
    Lot("AAA", Decimal(300), Decimal("101.25"), date(2024, 1, 4), name="kept"),
    Lot("BBB", Decimal(-2000), Decimal("49.80"), date(2024, 1, 3)),
    Lot("Harbor Fund", Decimal(100), Decimal("1000"), date(2024, 1, 5), kind="PRIVATE"),
)
MARKS = {date(2024, 1, 31): Decimal("1010.00"), date(2024, 2, 9): Decimal("1025.50")}
FLOWS = {date(2024, 1, 16): Decimal("50000.00"), date(2024, 2, 1): Decimal("-20000.25")}

Figures = dict[date, tuple[Decimal, Decimal]]


def expected(
    lots: tuple[Lot, ...], marks: dict[date, Decimal], flows: dict[date, Decimal], last: date = LAST
) -> Figures:
    """Net asset value and cash of every session: equity, flows, and what each lot cost, brought in and is worth."""
    figures: Figures = {}
    for day in (session for session in SESSIONS if session <= last):
        cash = EQUITY + sum(amount for moved, amount in flows.items() if moved <= day)
        held = Decimal(0)
        for lot in (lot for lot in lots if lot.entry <= day):
            cash -= lot.quantity * lot.price
            if lot.exit is not None and lot.exit_price is not None and lot.exit <= day:
                cash += lot.quantity * lot.exit_price
            elif lot.kind == "PRIVATE":
                known = [marks[marked] for marked in sorted(marks) if marked <= day]
                held += lot.quantity * (known[-1] if known else lot.price)
            else:
                held += lot.quantity * close(lot.symbol, day)
        figures[day] = (cash + held, cash)
    return figures


def stored(cli: CommandLine, code: str = "my-book") -> Figures:
    """What the snapshots say."""
    rows = cli.rows(
        "SELECT session_date, net_asset_value, cash_balance FROM sigmasight.portfolio_snapshots "
        f"JOIN sigmasight.portfolios USING (portfolio_id) WHERE code = '{code}'"
    )
    return {day: (nav, cash) for day, nav, cash in rows}  # type: ignore[misc]  # rows come untyped


def write_book(folder: Path, lots: tuple[Lot, ...]) -> None:
    header = "Ticker,Quantity,entry price,ENTRY_DATE,exit_date,exit_price,lot,investment_class,broker"
    (folder / "my.csv").write_text("\n".join([header, *(lot.line() for lot in lots)]) + "\n")


@pytest.fixture
def cli(server: EmbeddedServer, tmp_path: Path) -> Iterator[CommandLine]:
    write_prices(tmp_path)
    write_book(tmp_path, LOTS)
    with on_server(server, tmp_path) as commands:
        yield commands


def test_from_the_first_file_to_a_replaced_one(cli: CommandLine) -> None:
    recorded = cli("import", "my.csv", "--name", "My book", "--equity", "1000000", "--no-run")
    assert "the column broker is not used and was ignored [column_ignored]" in recorded.err
    assert "sigmasight backfill --from 2024-01-02 --portfolio my-book" in recorded.err
    assert "1 import(s) wait to be applied" in cli("status", status=1).err
    before = cli.contents()
    planned = cli("backfill", "--dry-run")
    assert planned.out == "daily 2024-01-02 to 2024-02-15 (32 sessions)\n"
    assert cli.contents() == before

    done = cli("backfill", "--from", "2024-01-02", "--to", "2024-02-15", "--portfolio", "my-book")
    assert stored(cli) == expected(LOTS, {}, {})
    assert stored(cli)[date(2024, 1, 10)] == (Decimal("1008000.00"), Decimal("871100.00"))  # by hand
    assert "1,036,750.00" in done.out
    assert "My book  (my-book)" in done.out

    (cli.folder / "marks.csv").write_text(
        "portfolio,symbol,date,price\n"
        + "".join(f"my-book,harbor fund,{day},{price}\n" for day, price in MARKS.items())
    )
    cli("import-marks", "marks.csv")
    assert stored(cli) == expected(LOTS, MARKS, {})

    (cli.folder / "flows.csv").write_text(
        "portfolio,date,amount,kind\nMy book,2024-01-16,50000,contribution\nMy book,2024-02-01,20000.25,withdrawal\n"
    )
    without = stored(cli)
    cli("import-flows", "flows.csv")
    assert stored(cli) == expected(LOTS, MARKS, FLOWS)
    for day, (nav, cash) in stored(cli).items():
        moved = sum(amount for moved, amount in FLOWS.items() if moved <= day)
        assert (nav - without[day][0], cash - without[day][1]) == (moved, moved), day

    before = cli.contents()
    again = (["import", "my.csv", "--name", "my BOOK"], ["import-marks", "marks.csv"], ["import-flows", "flows.csv"])
    for done in together(partial(cli, *arguments) for arguments in again):
        assert "says what is stored already; nothing was changed." in done.err
    assert cli.contents() == before

    changed: tuple[Lot, ...] = (
        LOTS[0],
        LOTS[1],
        replace(LOTS[2], quantity=Decimal(400)),
        replace(LOTS[3], price=Decimal("49.90")),
    )
    changed += (LOTS[4], Lot("SPY", Decimal(10), Decimal("420"), date(2024, 1, 30)))
    write_book(cli.folder, changed)
    shown = cli("import", "my.csv", "--name", "My book", status=1).error
    assert shown.splitlines() == [
        "Error: my.csv would change portfolio my-book, nothing was imported; add --replace to apply:",
        "  added SPY 2024-01-30 1",
        "  changed AAA 2024-01-04 kept: quantity 300 -> 400",
        "  changed BBB 2024-01-03 1: entry_price 49.8 -> 49.9",
    ]
    assert cli.contents() == before

    cli("import", "my.csv", "--name", "My book", "--replace")
    assert stored(cli) == expected(changed, MARKS, FLOWS)
    assert cli.rows("SELECT equity_balance, equity_as_of FROM sigmasight.portfolios") == [(stored(cli)[LAST][0], LAST)]

    standing = cli("status", status=1)
    assert "Prices: 96 rows, 3 symbols, 2024-01-02 to 2024-02-15" in standing.out
    assert "the newest snapshot is of 2024-02-15" in standing.err, "a book whose prices ended is late"


def test_prices_missing_in_the_middle(cli: CommandLine) -> None:
    """The chain ends before the session, which is named with its symbols; with the prices added it is completed.

    Also where Ctrl-C interrupts the command that completes it.
    """
    gap = date(2024, 1, 25)
    write_prices(cli.folder, without=[("AAA", gap), ("BBB", gap)])
    said = cli.fails("import", "my.csv", "--name", "My book", "--equity", "1000000", status=1)
    assert "2024-01-25 has prices of 33% of the 3 needed symbols" in said
    assert "(missing: AAA, BBB)" in said
    assert (
        "The sessions of this run before it were written. Add the missing prices and run from 2024-01-25 again." in said
    )
    assert stored(cli) == expected(LOTS, {}, {}, last=date(2024, 1, 24))
    assert cli.rows("SELECT max(session_date) FROM sigmasight.daily_prices") == [(date(2024, 1, 24),)]

    write_prices(cli.folder)
    started = cli.start("backfill", "--from", "2024-01-25")
    assert started.stderr is not None
    while not (line := started.stderr.readline()).startswith("[1/1] reference"):
        assert line, "it ended before it had begun"
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130, told
    assert told.endswith("Stopped. Sessions already written are complete; run the command again to go on.\n"), told

    cli("backfill", "--from", "2024-01-25")
    assert stored(cli) == expected(LOTS, {}, {})
