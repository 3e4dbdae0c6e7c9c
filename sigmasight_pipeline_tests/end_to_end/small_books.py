"""Two small books on prices of a folder, computed in runs of five sessions, and every way that computes them anew.

What belongs here: the world (positions, closes, a split), computing it from nothing, the ways a change arrives. What
does not: which change, and what must come of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from click.testing import Result
from typer.testing import CliRunner

from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.operations import backfills, restatement
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.operations.sensors.inbox import inbox as inbox_sensor
from sigmasight_pipeline.operations.sensors.restatement import restatement as restatement_sensor
from sigmasight_pipeline.storage import audit, audit_faults, tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, expect, installation, rows

DAYS = CALENDAR.between(date(2024, 1, 29), date(2024, 2, 13))
CHUNK = 5
"""Sessions of a run."""

SPLIT_DAY = DAYS[3]
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "SPY")
EQUITY = "10000"


@dataclass(frozen=True)
class World:
    """What an installation is computed from. `quantity`: of AAA in the first book; `ratio`: of BBB's split;
    `corrections`: added to closes; `days`: sessions with prices."""

    quantity: int = 100
    ratio: str = "2"
    corrections: Mapping[tuple[str, date], Decimal] = field(default_factory=dict)
    days: int = len(DAYS)

    def book(self, name: str) -> str:
        """The positions of a book as a file."""
        rows = {
            "changed": [f"AAA,{self.quantity},10,{DAYS[0]}", f"BBB,-50,20,{DAYS[0]}"],
            "other": [f"CCC,100,10,{DAYS[0]}", f"DDD,10,10,{DAYS[2]}"],
        }
        return "\n".join(["ticker,quantity,entry_price,entry_date", *rows[name]]) + "\n"

    def with_correction(self, symbol: str, day: date, amount: str) -> World:
        return replace(self, corrections={**self.corrections, (symbol, day): Decimal(amount)})

    def close(self, symbol: str, day: date) -> Decimal:
        """The close of a symbol as traded."""
        n, k = SYMBOLS.index(symbol), DAYS.index(day)
        close = 10 + n + Decimal(k * (n + 1) % 7) / 16 + self.corrections.get((symbol, day), Decimal(0))
        return close / 2 if symbol == "BBB" and day >= SPLIT_DAY else close

    def write(self, folder: Path) -> None:
        """prices.csv and corporate_actions.csv of the price source."""
        lines = [f"{symbol},{day},{self.close(symbol, day)}" for symbol in SYMBOLS for day in DAYS[: self.days]]
        (folder / "prices.csv").write_text("\n".join(["symbol,date,close", *lines]) + "\n")
        columns = "symbol,ex_date,kind,split_from,split_to,cash_amount"
        (folder / "corporate_actions.csv").write_text(f"{columns}\nBBB,{SPLIT_DAY},split,1,{self.ratio},\n")


def command(*arguments: str, status: int = 0) -> Result:
    """A command in this process; it opens the installation of the environment anew."""
    ended = CliRunner().invoke(_command_tree(arguments[0]), list(arguments))
    assert ended.exit_code == status, f"{arguments}: {ended.output} {ended.exception!r}"
    return ended


@dataclass
class Installed:
    """An installation of the two books, and the ways a change of its world arrives."""

    opened: Installation
    folder: Path
    world: World
    cursors: dict[str, str | None] = field(default_factory=dict)

    def import_book(self, name: str, *options: str) -> Result:
        """`sigmasight import` of a book of the world."""
        path = self.folder / f"{name}.csv"
        path.write_text(self.world.book(name))
        return command("import", str(path), "--name", name, *options)

    def compute(self) -> None:
        """From nothing."""
        self.world.write(self.folder)
        for name in ("changed", "other"):
            self.import_book(name, "--equity", EQUITY, "--inception", str(DAYS[0]))

    def tick(self, sensor: Any) -> str:
        """A sensor's tick as the daemon makes it, with the cursor the tick before left."""
        context = dg.build_sensor_context(
            instance=self.opened.launcher.instance,
            cursor=self.cursors.get(sensor.name),
            resources={
                "postgres": PostgresResource(database_url=self.opened.database_url),
                "settings": SettingsResource(),
                "market_data": MarketDataResource(),
            },
        )
        with context:
            answer = sensor(context)
            self.cursors[sensor.name] = context.cursor
        return str(answer.skip_message)

    def run_requests(self) -> list[Chunk]:
        """Run what sensors asked for, as the sensor `backfills` does; returns the runs."""
        done: list[Chunk] = []
        for request in backfills.open_requests(self.opened.database):
            done += request.chunks
            backfills.drive(
                self.opened.database, request, lambda chunk, tags: expect(self.opened.launcher.run(chunk, tags=tags))
            )
        return done

    def follow_changes(self) -> list[Chunk]:
        """Tick the sensor `restatement` and run what it asks for until it asks for nothing."""
        done: list[Chunk] = []
        for _ in range(5):
            self.tick(restatement_sensor)
            more = self.run_requests()
            if not more:
                return done
            done += more
        raise AssertionError("the sensor asks for ever")

    def drop(self, name: str) -> list[Chunk]:
        """Drop a book of the world into the inbox, and run what is asked for it."""
        folder = Path(self.opened.settings.home) / "inbox"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.csv").write_text(self.world.book(name))
        for _ in range(3):
            self.tick(inbox_sensor)
        return self.run_requests()

    def broken(self) -> dict[str, int]:
        """Identities that do not hold over everything stored, and on how many rows."""
        with audit.one_moment(self.opened.database) as connection:
            rows = audit_faults.identities(connection, audit.Scope())
        return {row["identity"]: row["broken"] for row in rows if row["broken"]}

    def snapshots(self) -> pl.DataFrame:
        """Every snapshot, without what says when it was made."""
        return rows(self.opened, tables.portfolio_snapshots)

    def outstanding(self) -> int:
        """Changes that results do not follow yet."""
        return restatement.outstanding(self.opened.database, self.opened.settings, CALENDAR).count


@contextmanager
def installed(
    server: EmbeddedServer, folder: Path, world: World, *, size: int = CHUNK, **further: str
) -> Iterator[Installed]:
    """A fresh installation with `world` computed in runs of `size` sessions; `further` are SIGMASIGHT_ settings."""
    folder.mkdir(exist_ok=True)
    settings = {"price_source": "files", "files_dir": str(folder), "first_session": str(DAYS[0]), **further}
    with temporary_home() as home, installation(server, home, **settings, max_sessions_per_run=str(size)) as opened:
        made = Installed(opened, folder, world)
        made.compute()
        yield made
