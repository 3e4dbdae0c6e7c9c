"""Accepting a user's file: parse it, compare it with what is stored, and record it for the reference assets.

What belongs here: the steps between a file and a recorded import, used by the command line and the demo alike, and
which session is the first affected. What does not: parsing rules (``importing``), applying (``storage.imports``, called
by assets), running the history (``operations.history``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Protocol, cast

import polars as pl

from sigmasight_pipeline import sessions
from sigmasight_pipeline.importing import changes as compare
from sigmasight_pipeline.importing import flows, marks
from sigmasight_pipeline.importing.portfolios import parse_portfolio, slug
from sigmasight_pipeline.importing.positions import PositionRow, parse_positions
from sigmasight_pipeline.importing.problems import Parsed, Problem
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations.history import available
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import imports, stored_books, tables
from sigmasight_pipeline.storage.database import Database

DEFAULT_BENCHMARK = "SPY"


class RejectedFileError(ValueError):
    """A file with errors; nothing was changed. `errors` has all of them."""

    def __init__(self, file_name: str, errors: Sequence[Problem]) -> None:
        lines = "\n".join(f"  {error}" for error in errors)
        super().__init__(f"{file_name}: {len(errors)} error(s), nothing was imported:\n{lines}")
        self.errors = tuple(errors)


class ReplaceNeededError(ValueError):
    """The file differs from what is stored; nothing was changed."""

    def __init__(self, file_name: str, code: str, differences: Sequence[str]) -> None:
        lines = "\n".join(f"  {difference}" for difference in differences)
        super().__init__(
            f"{file_name} would change portfolio {code}, nothing was imported; add --replace to apply:\n{lines}"
        )
        self.differences = tuple(differences)


class ImportedMeanwhileError(ValueError):
    """Another import of the same portfolio was accepted between reading what is stored and recording this one."""

    def __init__(self, file_name: str, code: str) -> None:
        super().__init__(
            f"{file_name} was not imported: another import of portfolio {code} was accepted at the same time; "
            "run the command again to see what this file would change"
        )


@dataclass(frozen=True)
class Accepted:
    """An accepted file.

    `first_session` is the first whose results change, None where none does. `look_back` says that the file brings
    symbols without stored prices: those of the sessions before are needed too.
    """

    portfolios: tuple[str, ...]
    rows: int
    first_session: date | None
    is_new: bool = False
    look_back: bool = False
    differences: tuple[str, ...] = ()
    remarks: tuple[Problem, ...] = field(default=())

    @property
    def unchanged(self) -> bool:
        """Whether the file says what is stored already."""
        return not self.is_new and not self.differences


@dataclass(frozen=True)
class Book:
    """What is said of a portfolio beside its positions; None leaves what is stored (or the default) as it is.

    Without a code the portfolio is the one of that name, or a new one with a code made of the name.
    """

    name: str
    code: str | None = None
    equity: str | None = None
    inception: date | None = None
    description: str | None = None
    benchmark: str | None = None


class Reading(Protocol):
    """How a parser is called with a file's content: here, or where it can be ended (``operations.reading_apart``)."""

    def __call__(self, reader: Callable[..., Parsed[Any]], content: bytes, **details: Any) -> Parsed[Any]:
        """What the parser makes of the content."""


def read_here(reader: Callable[..., Parsed[Any]], content: bytes, **details: Any) -> Parsed[Any]:
    """Call the parser in this process, however long it takes."""
    return reader(content, **details)


class Importer:
    """Accepts files for one database."""

    def __init__(
        self, database: Database, settings: Settings, source: MarketDataSource, reading: Reading = read_here
    ) -> None:
        self.database = database
        self._read = reading
        self.calendar = sessions.calendar()
        self.first_session = available(settings, source, self.calendar).first
        self.today = datetime.now(UTC).date()

    def positions(self, content: bytes, file_name: str, book: Book, *, replace: bool = False) -> Accepted:
        """Accept a portfolio CSV. RejectedFileError with every error; ReplaceNeededError without `replace`."""
        parsed = self._read(
            parse_positions,
            content,
            file_name=file_name,
            calendar=self.calendar,
            today=self.today,
            first_stored_session=self.first_session,
        )
        stored = self.database.read(tables.portfolios)
        known = _named(stored, book)
        seen = {code: self._newest_import(code, "positions") for code in _codes(known, book)}
        header, errors = self._header(book, known, stored, parsed)
        if parsed.errors or errors:
            raise RejectedFileError(file_name, [*errors, *parsed.errors])
        rows = parsed.frame()
        code = str(header["code"])
        waiting = self._waiting(code)
        recorded = waiting is not None and waiting == _digest(header, rows)
        found = compare.compare_positions(rows, self._stored_positions(code)) if known.height else None
        differences = _header_differences(header, known)
        differences += [str(change) for change in found.changes] if found is not None else []
        if waiting is not None and not recorded:
            differences.append("instead of an earlier import that waits to be applied")
        if differences and not replace and not recorded:
            raise ReplaceNeededError(file_name, code, differences)
        accepted = Accepted(
            (code,),
            rows.height,
            self._first_affected(header, known, found),
            is_new=known.is_empty(),
            look_back=self._brings_symbols(rows),
            differences=tuple(differences),
            remarks=(*parsed.warnings, *parsed.notices),
        )
        if not accepted.unchanged and not recorded:
            self._record(code, "positions", file_name, header, rows, seen=seen.get(code))
        return accepted

    def marks(self, content: bytes, file_name: str, *, replace: bool = False) -> Accepted:
        """Accept manual values of PRIVATE positions; they add to the stored ones."""
        held = self._holdings()
        parsed = self._read(marks.parse_marks, content, calendar=self.calendar, today=self.today, positions=held)
        stored = stored_books.marks(self.database)
        return self._dated(parsed, file_name, "marks", compare.compare_marks, stored, replace)

    def flows(self, content: bytes, file_name: str, *, replace: bool = False) -> Accepted:
        """Accept cash flows; the file replaces the flows of every portfolio it names as a set."""
        stored_portfolios = self.database.read(tables.portfolios, columns=["code", "inception_date"])
        with self.database.connect() as connection:
            inceptions = {**dict(stored_portfolios.iter_rows()), **imports.waiting_inceptions(connection)}
        parsed = self._read(flows.parse_flows, content, calendar=self.calendar, today=self.today, portfolios=inceptions)
        stored = stored_books.flows(self.database)
        return self._dated(parsed, file_name, "flows", compare.compare_flows, stored, replace)

    def _dated(
        self,
        parsed: Parsed[Any],
        file_name: str,
        kind: imports.Kind,
        comparing: Any,
        stored: pl.DataFrame,
        replace: bool,
    ) -> Accepted:
        if parsed.errors:
            raise RejectedFileError(file_name, parsed.errors)
        rows = parsed.frame()
        found: compare.Changes = comparing(rows, _shaped(stored, rows))
        codes = tuple(rows["portfolio_code"].unique().sort())
        if not found:
            return Accepted(codes, rows.height, None, remarks=(*parsed.warnings, *parsed.notices))
        overwritten = [str(change) for change in found.changes if change.kind is not compare.ChangeKind.ADDED]
        if overwritten and not replace:
            raise ReplaceNeededError(file_name, ", ".join(codes), overwritten)
        for code in codes:
            self._record(code, kind, file_name, None, rows.filter(pl.col("portfolio_code") == code))
        return Accepted(
            codes,
            rows.height,
            found.first_session,
            differences=tuple(str(change) for change in found.changes),
            remarks=(*parsed.warnings, *parsed.notices),
        )

    def _header(
        self, book: Book, known: pl.DataFrame, stored: pl.DataFrame, parsed: Parsed[PositionRow]
    ) -> tuple[dict[str, object], list[Problem]]:
        """What the portfolio's own row will say, and what is wrong with it."""
        if known.height:
            row = known.row(0, named=True)
            equity = book.equity if book.equity is not None else str(row["initial_equity"])
        else:
            row, equity = {}, book.equity or ""
        checked = parse_portfolio(book.name, equity, [name for name in stored["name"] if name != row.get("name")])
        if checked.errors:
            return {}, list(checked.errors)
        fields = checked.rows[0]
        renamed = row and slug(book.name) != slug(str(row["name"]))  # by its code; other spellings are the same name
        inception = book.inception or row.get("inception_date") or self._inception(parsed)
        return {
            "code": row.get("code") or book.code or fields.code,
            "name": fields.name if renamed or not row else row["name"],
            "description": book.description or row.get("description"),
            "base_currency": "USD",
            "benchmark_symbol": book.benchmark or row.get("benchmark_symbol") or DEFAULT_BENCHMARK,
            "inception_date": inception and self.calendar.on_or_after(max(inception, self.first_session)),
            "initial_equity": fields.initial_equity,
        }, []

    def _inception(self, parsed: Parsed[PositionRow]) -> date:
        entries = [row.entry_date for row in parsed.rows]
        return max(self.first_session, min(entries)) if entries else self.first_session

    def _first_affected(
        self, header: dict[str, object], known: pl.DataFrame, found: compare.Changes | None
    ) -> date | None:
        inception = header["inception_date"]
        if not isinstance(inception, date):
            raise TypeError(f"a portfolio's inception is a date, not {inception!r}")
        if known.is_empty():
            return inception
        row = known.row(0, named=True)
        if row["initial_equity"] != header["initial_equity"] or row["inception_date"] != inception:
            return min(inception, cast(date, row["inception_date"]))
        first = found.first_session if found else None
        return None if first is None else max(first, inception)

    def _record(
        self,
        code: str,
        kind: imports.Kind,
        file_name: str,
        header: dict[str, object] | None,
        rows: pl.DataFrame,
        *,
        seen: int | None = None,
    ) -> None:
        """Keep the file until it is applied; `seen`: the newest import of the portfolio when the file was compared."""
        content: dict[str, object] = {"rows": rows.to_dicts()}
        if header is not None:
            content["portfolio"] = header
        with self.database.connect() as connection:
            imports.lock_imports(connection, code)
            if seen is not None and imports.newest_import(connection, code, kind) != seen:
                raise ImportedMeanwhileError(file_name, code)
            imports.record_import(
                connection,
                portfolio_code=code,
                kind=kind,
                file_name=file_name,
                content_sha256=_digest(header, rows),
                content=content,
            )

    def _brings_symbols(self, rows: pl.DataFrame) -> bool:
        """Whether a position needs a symbol that no price is stored of."""
        symbols = rows.filter(pl.col("investment_class") != "PRIVATE").select(
            symbol=pl.coalesce("underlying_symbol", "symbol")
        )
        priced = stored_books.priced_symbols(self.database)
        return not symbols.join(priced, on="symbol", how="anti").is_empty()

    def _newest_import(self, code: str, kind: imports.Kind) -> int:
        with self.database.connect() as connection:
            return imports.newest_import(connection, code, kind)

    def _waiting(self, code: str) -> str | None:
        """Digest of the newest positions import that still waits to be applied."""
        with self.database.connect() as connection:
            return imports.waiting_hash(connection, code, "positions")

    def _stored_positions(self, code: str) -> pl.DataFrame:
        stored = stored_books.positions(self.database, code)
        tagged = stored_books.tags(self.database)
        return stored.join(tagged, on="position_id", how="left").with_columns(
            pl.col("tags").fill_null([]).cast(pl.List(pl.String))
        )

    def _holdings(self) -> pl.DataFrame:
        """Every position by its portfolio's code, those of imports still waiting included."""
        stored = stored_books.holdings(self.database)
        with self.database.connect() as connection:
            waiting = imports.waiting_positions(connection)
        return pl.concat([stored.filter(~pl.col("portfolio_code").is_in(waiting["portfolio_code"].unique())), waiting])


def _named(stored: pl.DataFrame, book: Book) -> pl.DataFrame:
    """The stored row of the portfolio that is meant, if any: by its code, else its name, else the name's code."""
    if book.code is not None:
        return stored.filter(pl.col("code") == book.code)
    code = slug(book.name)
    by_name = stored.filter(pl.col("name").map_elements(slug, return_dtype=pl.String) == code)
    return by_name if by_name.height else stored.filter(pl.col("code") == code)


def _codes(known: pl.DataFrame, book: Book) -> list[str]:
    """The code the portfolio has, or will have where it is new."""
    return known["code"].to_list() or [book.code or slug(book.name)]


def _shaped(stored: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """`stored` with the columns of `rows`; those that only say where a row came from are NULL."""
    return stored.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in rows.schema.items() if name not in stored.columns
    ).select(pl.col(name).cast(kind) for name, kind in rows.schema.items())


def _header_differences(header: dict[str, object], known: pl.DataFrame) -> list[str]:
    if known.is_empty():
        return []
    row = known.row(0, named=True)
    return [f"changed portfolio: {name} {row[name]} -> {value}" for name, value in header.items() if row[name] != value]


def _digest(header: dict[str, object] | None, rows: pl.DataFrame) -> str:
    facts = rows.drop([name for name in ("source_file", "source_line") if name in rows.columns])
    return hashlib.sha256(repr((header, facts.rows())).encode()).hexdigest()


def accept_demo(importer: Importer, source: MarketDataSource) -> list[str]:
    """Accept the demo portfolios, their marks and cash flows; returns the codes of those that were new or changed.

    Their entry prices are closes of the market `source` simulates, whatever its seed.
    """
    from sigmasight_pipeline.demo import portfolios as shipped  # noqa: PLC0415  # only the demo needs its files
    from sigmasight_pipeline.demo.rebase import rebase  # noqa: PLC0415  # as above

    accepted = [
        importer.positions(
            rebase(book.content, source, importer.calendar),
            book.file_name,
            Book(
                name=book.name,
                code=book.code,
                equity=str(book.initial_equity),
                inception=book.inception_date,
                description=book.description,
            ),
            replace=True,
        )
        for book in shipped.books()
    ]
    marked = importer.marks(shipped.marks(), "marks.csv", replace=True)
    flowed = importer.flows(shipped.flows(), "flows.csv", replace=True)
    changed = [item for item in [*accepted, marked, flowed] if not item.unchanged]
    return list(dict.fromkeys(code for item in changed for code in item.portfolios))
