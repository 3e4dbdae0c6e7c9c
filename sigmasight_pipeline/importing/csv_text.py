"""From bytes to rows: what makes a file readable CSV text, and which of its lines is which row.

What belongs here: size, encoding, delimiter, comments, quotes, the header, and the physical line every row
begins on. What does not: the meaning of any cell (``cells`` and the parsers).

Accepted: UTF-8 with or without byte order mark, comma or semicolon, quoted values that may hold line breaks,
lines beginning with `#`, empty lines; columns in any order, any case, with spaces or underscores.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .cells import Row
from .problems import LONGEST_SHOWN_VALUE, Code, Problems

MAXIMUM_BYTES = 10 * 1024 * 1024
MAXIMUM_ROWS = 10_000
MAXIMUM_COLUMNS = 200
READ_AGAIN = 4
"""How often a file may be read over again behind rows that cannot be read, before the rest is left alone."""
TAB = "\t"
READ_AGAIN_AT_LEAST = 100_000
"""Characters read again of a small file, so that each of its rows is named."""

_Record = tuple[int, list[str] | csv.Error]

_SIGNATURES = {
    b"PK\x03\x04": "it is a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "it is an old Excel workbook",
    b"%PDF": "it is a PDF document",
    b"\x1f\x8b": "it is compressed with gzip",
    b"PAR1": "it is a Parquet file",
}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SPREADSHEET_ERROR = re.compile(r"#(?:N/A|REF!|NAME\?|VALUE!|DIV/0!|NUM!|NULL!)\s*[,;]")
"""A row a spreadsheet could not compute begins with `#` too; taken for a comment it would vanish unseen."""


@dataclass(frozen=True)
class Columns:
    """The columns of one kind of file; `names` gives every spelling of a column key (default: the key)."""

    required: Sequence[str]
    optional: Sequence[str]
    names: Mapping[str, Sequence[str]]

    def by_spelling(self) -> dict[str, str]:
        """Normalised spelling to column key."""
        return {
            _normalised(name): key for key in (*self.required, *self.optional) for name in self.names.get(key, (key,))
        }

    def shown(self, key: str) -> str:
        """The first spelling of a column key."""
        return self.names.get(key, (key,))[0]


class _UnreadableError(Exception):
    """The file as a whole cannot be read: one problem says why."""

    def __init__(self, code: Code, line: int | None = None, **details: object) -> None:
        super().__init__(code)
        self.code = code
        self.line = line
        self.details = details


def read_rows(content: bytes, columns: Columns, problems: Problems) -> Iterator[Row]:
    """The rows of a file in order, blank ones left out; whatever is wrong with its form goes to `problems`.

    A row that cannot be read is recorded and left out, and reading goes on behind it.
    """
    try:
        lines = _LINE.findall(_decoded(content))
        delimiter = _delimiter(lines, columns)
        records = _records(lines, delimiter)
        header_line, header = _header(records)
        keys = _header_keys(header, header_line, columns, problems)
        labels = {key: header[index].strip() for index, key in enumerate(keys) if key is not None}
        absent = [key for key in columns.required if key not in labels]
        count = 0
        for line, record in records:
            count += 1
            if count > MAXIMUM_ROWS:
                raise _UnreadableError(Code.TOO_MANY_ROWS, line, limit=MAXIMUM_ROWS)
            if isinstance(record, csv.Error):
                problems.add(Code.ROW_UNREADABLE, line, reason=str(record))
            elif any(cell.strip() for cell in record[len(keys) :]):
                problems.add(Code.ROW_TOO_LONG, line, count=len(record), expected=len(keys), delimiter=delimiter)
            else:
                cells = {key: cell for key, cell in zip(keys, record, strict=False) if key is not None}
                yield Row(line=line, cells=cells, problems=problems, labels=labels, absent=absent)
        if count == 0:
            raise _UnreadableError(Code.FILE_EMPTY)
    except _UnreadableError as error:
        problems.add(error.code, error.line, None, "", **error.details)


def _decoded(content: bytes) -> str:
    if len(content) > MAXIMUM_BYTES:
        raise _UnreadableError(Code.FILE_TOO_LARGE, size=len(content), limit=MAXIMUM_BYTES)
    for signature, reason in _SIGNATURES.items():
        if content.startswith(signature):
            raise _UnreadableError(Code.NOT_CSV, reason=reason)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _UnreadableError(Code.NOT_UTF8, reason="it is UTF-16")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` is what was decoded: the content behind a byte order mark.
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise _UnreadableError(Code.NOT_UTF8, line, reason=f"{found} does not belong there") from None
    if "\0" in text:
        raise _UnreadableError(Code.NOT_CSV, reason="it holds binary data")
    start = text.lstrip()[:1]
    if not start:
        raise _UnreadableError(Code.FILE_EMPTY)
    if start in "<{[":
        raise _UnreadableError(Code.NOT_CSV, reason="it is HTML or XML" if start == "<" else "it is JSON")
    return text


def _delimiter(lines: list[str], columns: Columns) -> str:
    """The delimiter under which the header names most columns."""
    known = columns.by_spelling()
    best, most = ",", (0, 0)
    for delimiter in ",;\t|":
        _, header = next(_records(lines, delimiter), (0, csv.Error()))
        if isinstance(header, list):
            score = (sum(_normalised(name) in known for name in header), len(header))
            if score > most:
                best, most = delimiter, score
    if most[0] > 0 and best in "\t|":
        reason = f"its values are separated by {'tabs' if best == TAB else 'bars'}"
        raise _UnreadableError(Code.NOT_CSV, reason=reason)
    if most == (0, 1):
        raise _UnreadableError(Code.NOT_CSV, reason="its first line has neither commas nor semicolons")
    return best


def _header(records: Iterator[_Record]) -> tuple[int, list[str]]:
    line, header = next(records, (None, None))
    if line is None or header is None:
        raise _UnreadableError(Code.FILE_EMPTY)
    if isinstance(header, csv.Error):
        raise _UnreadableError(Code.ROW_UNREADABLE, line, reason=str(header))
    if len(header) > MAXIMUM_COLUMNS:
        raise _UnreadableError(Code.NOT_CSV, line, reason=f"its first line has {len(header):,} values")
    return line, header


def _records(lines: list[str], delimiter: str) -> Iterator[_Record]:
    """Each record that is not blank with the physical line it begins on, or why it cannot be read.

    After an unreadable record reading goes on with the line after its first: an unclosed quote must not hide
    the errors of every row behind it. Rows that each run to the end of the file would make that take time by the square
    of its size: after some of them the file is given up.
    """
    index, left = 0, READ_AGAIN_AT_LEAST + READ_AGAIN * sum(map(len, lines))
    while index < len(lines):
        start = lines[index].lstrip()
        if not start or (start.startswith("#") and not _SPREADSHEET_ERROR.match(start)):
            index += 1
            continue
        # A reader of its own per record, so that a `#` line is text inside quotes and a comment elsewhere.
        following = (lines[position] for position in range(index, len(lines)))
        reader = csv.reader(following, delimiter=delimiter, strict=True, skipinitialspace=True)
        try:
            record = next(reader)
        except csv.Error as error:
            yield index + 1, error
            left -= sum(map(len, lines[index : index + reader.line_num]))
            if left < 0:
                raise _UnreadableError(Code.ROWS_UNREADABLE, index + 1) from None
            index += 1
            continue
        if any(cell.strip() for cell in record):
            yield index + 1, record
        index += reader.line_num


def _header_keys(header: list[str], line: int, columns: Columns, problems: Problems) -> list[str | None]:
    """The column key of each header name, None where the column is not used."""
    known = columns.by_spelling()
    keys = [known.get(_normalised(name)) for name in header]
    used = {key for key in keys if key is not None}
    if not used:
        expected = ",".join(columns.shown(key) for key in columns.required)
        raise _UnreadableError(Code.NO_HEADER, line, expected=expected)
    for key in columns.required:
        if key not in used:
            found = ", ".join(name.strip()[:LONGEST_SHOWN_VALUE] for name in header if name.strip())
            problems.add(Code.MISSING_COLUMN, line, columns.shown(key), found=found)
    for key in sorted(key for key in used if keys.count(key) > 1):
        problems.add(Code.DUPLICATE_COLUMN, line, columns.shown(key))
    for name, known_key in zip(header, keys, strict=True):
        if known_key is None and name.strip():
            problems.add(Code.COLUMN_IGNORED, line, name.strip())
    return keys


def _normalised(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).lower()
