"""One data file, CSV or Parquet: named columns to typed ones, and the line at fault named where that fails.

What belongs here: finding a file, its header, reading cells as dates, prices, numbers, codes or text, and the error
that names file, line, what was found and what is expected. What does not: what a table means (``market_data.files``).

Files may hold millions of rows: cells are read by one lazy Polars pass, and a fault is first found as a row number;
only then is the file read again to name its line and its text.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from sigmasight_pipeline.market_data.source import PRICE, MarketDataError
from sigmasight_pipeline.setting_rules import shown
from sigmasight_pipeline.user_files import (
    LARGEST_MB,
    MEGABYTE,
    UserFileError,
    UserFileTooLargeError,
    check_user_file,
    open_user_file,
)

SUFFIXES = (".csv", ".parquet")
ROW = "row"
"""Column of a frame read here: the number of the record in its file, from 0, blank lines included."""

UNREADABLE = "_unreadable"

MOST_BYTES = LARGEST_MB * MEGABYTE

LEAST_BYTES_PER_ROW = 8
"""A small Parquet file can say that it has rows without end: it may have as many as would fit, at this size."""

NAMES_SHOWN = 12
"""Names of a header that are shown where one is missing."""

Kind = Literal["text", "code", "date", "price", "number"]


@dataclass(frozen=True)
class Column:
    """A column of a file. `mandatory`: the header must have it. `empty`: a cell may be without value.

    `values` closes the list of a code, `bounds` that of a number (both included), `hint` is added to what an error
    says is expected. `lenient`: an unreadable cell is no error; the frame marks it in a column `_unreadable`.
    """

    name: str
    kind: Kind
    mandatory: bool = True
    empty: bool = False
    values: tuple[str, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    hint: str = ""
    lenient: bool = False

    @property
    def dtype(self) -> pl.DataType:
        """The Polars type the column is read as."""
        kinds = {"date": pl.Date(), "price": PRICE, "number": pl.Float64()}
        return kinds.get(self.kind, pl.String())

    @property
    def expected(self) -> str:
        """What a cell must hold, in words."""
        low, high = self.bounds
        match self.kind:
            case "date":
                words = "a date as YYYY-MM-DD"
            case "code":
                words = f"one of {', '.join(self.values)}"
            case "text":
                words = "a value"
            case _ if low is not None and high is not None:
                words = f"a number from {low:g} to {high:g}"
            case _ if low is not None:
                words = f"a number of at least {low:g}"
            case _:
                words = "a number"
        return words + (" or nothing" if self.empty else "") + (f"; {self.hint}" if self.hint else "")


def find_file(folder: Path, name: str) -> Path | None:
    """The file of table `name` in `folder`: `name`.csv or `name`.parquet; None without one, an error with both."""
    # a link that leads nowhere is there too, and is an error when it is read
    found = [path for suffix in SUFFIXES if os.path.lexists(path := folder / f"{name}{suffix}")]
    if len(found) > 1:
        raise MarketDataError(f"{folder} has both {found[0].name} and {found[1].name}: remove the one not to be used")
    return found[0] if found else None


def ordinary_file(path: Path, most_bytes: int) -> os.stat_result:
    """What the system says of an ordinary file of at most `most_bytes`; MarketDataError for anything else."""
    try:
        return check_user_file(path, most_bytes)
    except UserFileTooLargeError as problem:
        raise MarketDataError(f"{problem}, or raise SIGMASIGHT_MAX_FILE_MB") from None
    except UserFileError as problem:
        raise MarketDataError(str(problem)) from None


class DataFile:
    """A file with the columns it may have, of at most `most_bytes` (a Parquet file unpacked).

    Every method raises MarketDataError where the file is not as declared.
    """

    def __init__(self, path: Path, columns: Sequence[Column], most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self.columns = columns
        self.most_bytes = most_bytes
        self._is_csv = path.suffix != ".parquet"

    def read(self) -> pl.DataFrame:
        """Every row, typed, with its record number in `row`; optional columns the file lacks are NULL.

        Has `_unreadable` (Boolean) where a lenient column is declared: the cell held something that is no number.
        """
        with self._reading():
            self._check_size()
            names = self._header()
            raw = self._scan(names)
            kinds = {name: _plain(dtype) for name, dtype in raw.collect_schema().items()}
            present = [column for column in self.columns if column.name in names]
            values = [self._parsed(column, kinds[column.name]) for column in present]
            unreadable = [pl.col(column.name).is_not_null() & pl.col(f"_{column.name}").is_null() for column in present]
            faults = [
                pl.when(_fault(column, broken)).then(pl.lit(number, dtype=pl.UInt8))
                for number, (column, broken) in enumerate(zip(present, unreadable, strict=True))
            ]
            lenient = [b for column, b in zip(present, unreadable, strict=True) if column.lenient]
            frame = (
                raw.with_columns(_cleaned(column.name, kinds[column.name]) for column in present)
                .filter(pl.any_horizontal(pl.col(column.name).is_not_null() for column in present))
                .with_columns(values)
                .select(
                    ROW,
                    *(
                        pl.col(f"_{column.name}").alias(column.name)
                        if column in present
                        else pl.lit(None, dtype=column.dtype).alias(column.name)
                        for column in self.columns
                    ),
                    *([pl.any_horizontal(lenient).alias(UNREADABLE)] if lenient else []),
                    _fault=pl.coalesce(faults),
                )
                .collect(engine="streaming")
            )
        at_fault = frame.filter(pl.col("_fault").is_not_null()).sort(ROW).head(1)
        for row in at_fault.iter_rows(named=True):
            column = present[row["_fault"]]
            raise self.error(row[ROW], column.name, column.expected)
        frame = frame.drop("_fault")
        if UNREADABLE not in frame.columns:
            return frame.with_columns(pl.lit(False).alias(UNREADABLE))
        return frame

    def parse(
        self, frame: pl.DataFrame, column: str, parser: Callable[[str], str], where: pl.Expr | None = None
    ) -> pl.DataFrame:
        """`frame` with each text of `column` replaced by what `parser` makes of it; a ValueError names the line."""
        chosen = frame if where is None else frame.filter(where)
        renamed: dict[str, str] = {}
        for text in chosen[column].drop_nulls().unique().sort():
            try:
                if (parsed := parser(text)) != text:
                    renamed[text] = parsed
            except ValueError as problem:
                row = int(chosen.filter(pl.col(column) == text)[ROW].sort()[0])
                raise MarketDataError(f"{self.place(row)}: {problem}") from problem
        if not renamed:
            return frame
        replaced = pl.col(column).replace(renamed)
        return frame.with_columns(replaced if where is None else pl.when(where).then(replaced).otherwise(column))

    def refuse(self, frame: pl.DataFrame, broken: pl.Expr, column: str, expected: str) -> None:
        """Raise an error about the first row of `frame` where `broken` is true."""
        rows = frame.filter(broken)[ROW]
        if not rows.is_empty():
            raise self.error(int(rows.sort()[0]), column, expected)

    def refuse_duplicates(self, frame: pl.DataFrame, key: Sequence[str], hint: str) -> None:
        """Raise an error about the first row of `frame` whose `key` an earlier row has already."""
        again = frame.sort(ROW).filter(~pl.struct(key).is_first_distinct()).head(1)
        for row in again.iter_rows(named=True):
            named = ", ".join(f"{name} {_short(row[name])}" for name in key)
            raise MarketDataError(f"{self.place(row[ROW])}: a second row for {named}; {hint}")

    def error(self, row: int, column: str, expected: str) -> MarketDataError:
        """The error about one cell: file, line, what was found, what is expected."""
        cell = self._cells([row]).row(0, named=True).get(column)
        found = "is empty" if cell is None or not str(cell).strip() else f"is {shown(str(cell).strip())}"
        return MarketDataError(f"{self.place(row)}: {column} {found}; expected {expected}")

    def received(self, rows: Sequence[int]) -> list[dict[str, str | None]]:
        """The declared columns of those records, as text, in the order of `rows`."""
        cells = self._cells(rows)
        return [
            {name: None if value is None else str(value) for name, value in record.items()}
            for record in cells.iter_rows(named=True)
        ]

    def place(self, row: int) -> str:
        """Where a record is, in words: the file with its line (CSV) or row (Parquet), counted from 1."""
        if not self._is_csv:
            return f"{self.path}, row {row + 1}"
        for number, (line, _) in enumerate(self._records()):
            if number == row + 1:
                return f"{self.path}, line {line}"
        raise MarketDataError(f"{self.path} changed while it was read; run again")

    def _header(self) -> list[str]:
        if self._is_csv:
            _, found = next(self._records(), (0, []))
        else:
            found = pl.scan_parquet(self.path, glob=False).collect_schema().names()
        names = [name.strip().lower() for name in found]
        known = [name for name in names if name in {column.name for column in self.columns}]
        expected = ", ".join(column.name for column in self.columns if column.mandatory)
        if not any(names):
            raise MarketDataError(f"{self.path} is empty; expected a header line with {expected}")
        if not known:  # what is no file of ours is not quoted: a path may lead anywhere
            raise MarketDataError(f"{self.path}, line 1: no column is one of those looked for; expected {expected}")
        for column in self.columns:
            if column.mandatory and column.name not in names:
                listed = ", ".join(map(_short, names[:NAMES_SHOWN])) + (", ..." if len(names) > NAMES_SHOWN else "")
                raise MarketDataError(
                    f"{self.path}, line 1: there is no column {column.name}, only {listed}; expected {expected}"
                )
            if names.count(column.name) > 1:
                raise MarketDataError(f"{self.path}, line 1: the column {column.name} is there twice; keep one")
        return names

    def _scan(self, names: Sequence[str]) -> pl.LazyFrame:
        wanted = {f"c{n}": name for n, name in enumerate(names) if name in {c.name for c in self.columns}}
        positions = [f"c{n}" for n in range(len(names))]
        if self._is_csv:
            scan = pl.scan_csv(self.path, infer_schema=False, new_columns=positions, row_index_name=ROW, glob=False)
        else:
            scan = pl.scan_parquet(self.path, row_index_name=ROW, glob=False)
            scan = scan.rename(dict(zip(scan.collect_schema().names()[1:], positions, strict=True)))
            # bytes that are no text are read as text there, and break what looks at them first
            texts = [name for name, dtype in scan.collect_schema().items() if _plain(dtype) == pl.String]
            scan = scan.with_columns(pl.col(name).cast(pl.String).cast(pl.Binary).cast(pl.String) for name in texts)
        return scan.select(ROW, *(pl.col(position).alias(name) for position, name in wanted.items()))

    def _cells(self, rows: Sequence[int]) -> pl.DataFrame:
        order = pl.DataFrame({ROW: rows}, schema={ROW: pl.UInt32})
        with self._reading():
            cells = self._scan(self._header()).filter(pl.col(ROW).is_in(list(rows))).collect()
        return order.join(cells.cast({ROW: pl.UInt32}), on=ROW, maintain_order="left").drop(ROW)

    def _parsed(self, column: Column, dtype: pl.DataType) -> pl.Expr:
        cell, parsed = pl.col(column.name), f"_{column.name}"
        is_text = dtype == pl.String
        match column.kind:
            case "date" if is_text:
                # the parser would take 2024-1-2 too; a length is checked faster than a pattern
                iso = pl.when(cell.str.len_bytes() == len("YYYY-MM-DD")).then(cell)
                return iso.str.to_date("%Y-%m-%d", strict=False).alias(parsed)
            case "date" if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
                return cell.cast(pl.Date).alias(parsed)
            case "price" | "number" if is_text or dtype.is_numeric():
                number = cell.cast(column.dtype, strict=False)
                if column.kind == "number":
                    number = pl.when(number.is_finite()).then(number)
                return number.alias(parsed)
            case "code" if is_text:
                spelt = {value.lower(): value for value in column.values}
                return cell.str.to_lowercase().replace_strict(spelt, default=None).alias(parsed)
            case "text" if is_text or dtype.is_integer():
                return cell.cast(pl.String).alias(parsed)
        raise MarketDataError(f"{self.path}: the column {column.name} is {dtype}; expected {column.expected}")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Header and records of a CSV file, each with the line it begins on; for naming a place, never for data."""
        try:
            with open_user_file(self.path, self.most_bytes) as stream:
                reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
                begins, in_header = 1, True
                for record in reader:
                    if record or not in_header:
                        in_header = False
                        yield begins, record
                    begins = reader.line_num + 1
        except UserFileError as problem:
            raise MarketDataError(str(problem)) from None
        except UnicodeDecodeError as problem:
            raise MarketDataError(f"{self.path} is not UTF-8 text; save it as UTF-8 or as Parquet") from problem
        except csv.Error as fault:
            raise MarketDataError(
                f"{self.path}, line {begins}: the row cannot be read ({fault}); check its quotes"
            ) from fault

    def _check_size(self) -> None:
        """Refuse what is no ordinary file of an allowed size before a library opens it in its own way."""
        ordinary_file(self.path, self.most_bytes)
        if self._is_csv:
            return
        content = pyarrow.parquet.read_metadata(self.path)
        size = sum(content.row_group(number).total_byte_size for number in range(content.num_row_groups))
        if max(size, content.num_rows * LEAST_BYTES_PER_ROW) > self.most_bytes:
            raise MarketDataError(
                f"{self.path} has {content.num_rows:,} rows of {size:,} bytes unpacked, {self.most_bytes:,} bytes are "
                "allowed; leave out what is not needed, or raise SIGMASIGHT_MAX_FILE_MB"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what the libraries say of an unreadable file into one sentence with a line."""
        try:
            yield
        except UnicodeDecodeError as problem:
            raise MarketDataError(f"{self.path} is not UTF-8 text; write it again as UTF-8") from problem
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException) as problem:
            raise MarketDataError(self._structural_fault(problem)) from problem
        except OSError as problem:
            said = problem.strerror or _first_line(problem)
            raise MarketDataError(f"{self.path} cannot be read: {said}") from problem

    def _structural_fault(self, problem: BaseException) -> str:
        said = _first_line(problem)
        if not self._is_csv:
            why = "it is damaged" if isinstance(problem, pl.exceptions.PanicException) else said
            return f"{self.path} is not a readable Parquet file ({why}); write it again"
        width, line = 0, 1
        for line, record in self._records():
            width = width or len(record)
            if len(record) > width:
                return f"{self.path}, line {line}: {len(record)} values; expected {width} as in the header"
        return f"{self.path}, line {line}: no end to what begins here ({said}); look for a quote that is never closed"


def _first_line(problem: BaseException) -> str:
    """What a library says, as far as it is one short sentence without signs of other bytes."""
    first = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
    return _short("".join(sign if sign.isprintable() else "?" for sign in first))


def _short(value: object) -> str:
    """A value as an error shows it without quotes: not endless."""
    return shown(value)[1:-1]


def _plain(dtype: pl.DataType) -> pl.DataType:
    """Dictionary-encoded text is text."""
    return pl.String() if dtype in (pl.Categorical, pl.Enum) else dtype


def _cleaned(name: str, dtype: pl.DataType) -> pl.Expr:
    """The cell without surrounding spaces; blank, NaN and the text nan are no value."""
    cell = pl.col(name)
    if dtype.is_float():
        return cell.fill_nan(None)
    if dtype == pl.String:
        text = cell.cast(pl.String).str.strip_chars()
        return pl.when(~text.is_in(["", "nan", "NaN", "NAN"])).then(text).alias(name)
    return cell


def _fault(column: Column, unreadable: pl.Expr) -> pl.Expr:
    parsed = pl.col(f"_{column.name}")
    fault = pl.lit(False) if column.lenient else unreadable
    if not column.empty:
        fault = fault | pl.col(column.name).is_null()
    low, high = column.bounds
    if low is not None:
        fault = fault | (parsed < low).fill_null(False)
    if high is not None:
        fault = fault | (parsed > high).fill_null(False)
    return fault
