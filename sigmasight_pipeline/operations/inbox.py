"""The inbox: a dropped file becomes an import and a range to be run, or a list of what is wrong with it. Once.

What belongs here: which files are complete, judging one, what is asked for it, and where it goes. What does not: the
file system (``inbox_folder``), what a file states of itself (``inbox_header``), rules of rows (``importing``),
comparing with what is stored (``books``), statements (``storage.inbox``), and launching (sensor ``backfills``).

One transaction stores the import, the range asked for and the row of `inbox_files`; then the file is moved. What stops
in between leaves nothing, or a row that knows the file by its fingerprint: the next tick only moves it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath

import psycopg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.importing.portfolios import named_codes, slug
from sigmasight_pipeline.importing.problems import Code, Problem, Severity
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations import backfills, history
from sigmasight_pipeline.operations.books import Accepted, Book, Importer, RejectedFileError
from sigmasight_pipeline.operations.inbox_folder import (
    Arrival,
    InboxError,
    InboxFolder,
    MovingFileError,
    RefusedFileError,
)
from sigmasight_pipeline.operations.inbox_header import BEGINNING, Header, kind_of, read_header
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.operations.reading_apart import SMALL_BYTES, ReadingApart, SlowFileError
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import inbox as rows
from sigmasight_pipeline.storage import standing
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.errors import ServerUnreachableError
from sigmasight_pipeline.storage.imports import Kind
from sigmasight_pipeline.storage.inbox import InboxFile, OneTransaction, StatedPortfolio

TRIGGER = "inbox"

FILES_PER_TICK = 20
SECONDS_PER_TICK = 30.0
"""Files judged in one tick, and how long one after another is begun: Dagster ends a tick after a minute."""

ORDER: Mapping[Kind, int] = {"positions": 0, "marks": 1, "flows": 2}
"""Marks and flows need the portfolio that may have been dropped with them."""

_UNREADABLE = {Code.FILE_TOO_LARGE, Code.FILE_EMPTY, Code.NOT_CSV, Code.NOT_UTF8, Code.NO_HEADER}
"""Of a file nothing can be read of, nothing else is told."""


@dataclass(frozen=True)
class Look:
    """What one look at the inbox came to: what was done or is waited for, what failed, what to remember."""

    done: tuple[str, ...]
    failures: tuple[str, ...]
    cursor: str

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        return "; ".join((*self.failures, *self.done)) or "nothing lies in the inbox"


class _RejectedError(Exception):
    """A file with errors; raised inside the transaction, of which nothing is kept."""

    def __init__(self, code: str | None, errors: Sequence[str]) -> None:
        super().__init__(*errors)
        self.code = code
        self.errors = tuple(errors)


class _TooEarlyError(Exception):
    """Flows of a portfolio whose import waits to be applied: the file stays where it is until then."""


def look(
    database: Database, settings: Settings, source: Callable[[], MarketDataSource], cursor: str | None, now: datetime
) -> Look:
    """Judge and move every file that has not changed since the last look; `cursor` is what that one remembered.

    A file that fails for a reason that is not its own stays, and does not keep the others waiting. InboxError once
    there is nothing new to remember beside such failures; what keeps every file from being judged is raised at once.
    """
    seen = _remembered(cursor)
    done: list[str] = []
    failures: list[tuple[str, Exception]] = []
    with ExitStack() as opened:
        folder = opened.enter_context(InboxFolder.of(settings))
        folder.make_places()
        present = folder.arrivals()
        ready = [arrival for arrival in present if seen.get(arrival.name) == arrival.fingerprint]
        kinds = {arrival.name: _kind(folder, arrival) for arrival in ready}
        # small ones first: they do not wait for one that takes all the time it has
        ready.sort(key=lambda arrival: (ORDER[kinds[arrival.name]], arrival.size > SMALL_BYTES))
        gone: set[str] = set()
        reading = opened.enter_context(ReadingApart(settings.inbox_file_seconds))
        began, begun = time.monotonic(), 0
        for arrival in ready[:FILES_PER_TICK]:
            if time.monotonic() - began > SECONDS_PER_TICK:
                break
            begun += 1
            judge = _Judge(database, settings, source, folder, arrival, kinds[arrival.name], reading, now)
            try:
                done.append(judge.settle())
                gone.add(arrival.name)
            except (MovingFileError, _TooEarlyError) as error:
                done.append(str(error))
            except ServerUnreachableError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the next file must not wait for it; told below
                failures.append((f"{arrival.shown} could not be settled: {error}", error))
    fresh = len(present) - len(ready)
    done += [f"{fresh} file(s) wait until they are complete"] if fresh else []
    done += [f"{len(ready) - begun} file(s) wait for the next look"] if len(ready) > begun else []
    remembered = {arrival.name: arrival.fingerprint for arrival in present if arrival.name not in gone}
    told = tuple(sentence for sentence, _ in failures)
    if failures and remembered == seen:
        raise InboxError("; ".join(told)) from failures[0][1]
    return Look(tuple(done), told, json.dumps(remembered))


def _remembered(cursor: str | None) -> dict[str, str]:
    """Fingerprints by name; a cursor nobody can read is as good as none."""
    try:
        seen = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return seen if isinstance(seen, dict) else {}


def _kind(folder: InboxFolder, arrival: Arrival) -> Kind:
    try:
        return kind_of(folder.read(arrival, BEGINNING))
    except (RefusedFileError, MovingFileError, OSError):
        return "positions"  # told when it is its turn


@dataclass(frozen=True)
class _Judge:
    """Everything done with one file of one tick."""

    database: Database
    settings: Settings
    source: Callable[[], MarketDataSource]
    folder: InboxFolder
    arrival: Arrival
    kind: Kind
    reading: ReadingApart
    now: datetime

    def settle(self) -> str:
        """Judge the file, where that was not done before, and move it; returns what became of it, in words."""
        name = self.arrival.shown
        content: bytes | None = None
        try:
            content = self.folder.read(self.arrival)
            file, told = self._accept(content)
        except (RefusedFileError, SlowFileError) as error:
            file, told = self._reject(content, None, [str(error)])
        except _RejectedError as error:
            file, told = self._reject(content, error.code, error.errors)
        try:
            lies = self.folder.move(self.arrival, file.moved_to, file.errors if file.status == "rejected" else ())
        except OSError as error:
            where = self.folder.path / file.moved_to
            raise InboxError(
                f"it was {file.status}, but cannot be moved to {where.parent} ({error.strerror}); make that a folder "
                "SigmaSight may write to, or take the file away: it is not judged again"
            ) from error
        if lies is None:
            rows.lose(self.database, file.file_id)
            return f"{name} was {file.status}, but is gone or another file now"
        rows.settle(self.database, file.file_id, lies)
        return f"{file.status} {name}{told}"

    def _accept(self, content: bytes) -> tuple[InboxFile, str]:
        """Store, all or nothing, what the file changes, the range that computes it, and what became of it."""
        digest = hashlib.sha256(content).hexdigest()
        with self.database.connect() as connection:
            if known := self._judged_before(connection):
                return known, " (judged before, moved now)"
            joined = OneTransaction(self.database, connection)
            waiting = rows.waiting_imports(connection)
            accepted = self._import(joined, content)
            code = ", ".join(accepted.portfolios)
            # what waits to be applied is not stored yet: the same file again says nothing new while its range is open
            repeated = waiting == rows.waiting_imports(connection) and rows.is_on_its_way(self.database, digest, code)
            unchanged = accepted.unchanged or repeated
            file = rows.add(
                connection,
                file_name=self.arrival.shown,
                fingerprint=self.arrival.fingerprint,
                content_sha256=digest,
                portfolio_code=code,
                status="unchanged" if unchanged else "accepted",
                errors=[str(remark) for remark in accepted.remarks if remark.severity is Severity.WARNING],
                moved_to=self._free_place("accepted"),
                now=self.now,
            )
            if unchanged:
                return file, f" ({accepted.rows} rows, as {'asked for' if repeated else 'stored'} already)"
            chunks, remark = self._history(accepted)
            backfill_id = backfills.request(
                joined,
                key=f"{TRIGGER}:{file.file_id}",
                trigger=TRIGGER,
                reason=f"file {self.arrival.shown} was dropped into the inbox",
                chunks=chunks,
                now=self.now,
            )
            if backfill_id is None:
                raise InboxError(f"a range {TRIGGER}:{file.file_id} was asked for before the file arrived")
            rows.set_backfill(connection, file.file_id, backfill_id)
        return file, f" ({accepted.rows} rows for {code}): backfill {backfill_id} asked for{remark}"

    def _reject(self, content: bytes | None, code: str | None, errors: Sequence[str]) -> tuple[InboxFile, str]:
        with self.database.connect() as connection:
            if known := self._judged_before(connection):
                return known, " (judged before, moved now)"
            file = rows.add(
                connection,
                file_name=self.arrival.shown,
                fingerprint=self.arrival.fingerprint,
                content_sha256=None if content is None else hashlib.sha256(content).hexdigest(),
                portfolio_code=code,
                status="rejected",
                errors=errors,
                moved_to=self._free_place("rejected"),
                now=self.now,
            )
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return file, f": {errors[0]}{more}"

    def _judged_before(self, connection: psycopg.Connection) -> InboxFile | None:
        """What became of the file where it could not be moved yet; from here on nobody else judges it."""
        rows.lock(connection)
        known = rows.judged(connection, self.arrival.shown, self.arrival.fingerprint)
        if known is None:
            # another look may have judged it while this one waited: then it was moved before its row was settled
            self.folder.state(self.arrival)
        return known

    def _free_place(self, status: str) -> str:
        return self.folder.free_place(self.arrival, "rejected" if status == "rejected" else "accepted")

    def _import(self, database: Database, content: bytes) -> Accepted:
        importer = Importer(database, self.settings, self.source(), self.reading)
        if self.kind == "positions":
            return self._positions(importer, content)
        accept = importer.marks if self.kind == "marks" else importer.flows
        try:
            return accept(content, self.arrival.shown, replace=True)
        except RejectedFileError as error:
            with database.connect() as connection:
                waiting = {code for code, kind in rows.waiting_imports(connection) if kind == "positions"}
            unknown = {slug(e.value) for e in error.errors if e.code is Code.PORTFOLIO_UNKNOWN}
            if unknown & waiting:
                raise _TooEarlyError(
                    f"{self.arrival.shown} is for {', '.join(sorted(unknown & waiting))}, not applied yet: it waits"
                ) from None
            raise _RejectedError(None, [str(problem) for problem in error.errors]) from None

    def _positions(self, importer: Importer, content: bytes) -> Accepted:
        stem = PurePath(self.arrival.shown).stem
        code = slug(stem)
        if not code:
            raise _RejectedError(
                None, ["its name makes no code of a portfolio; name it with Latin letters or digits, as my-book.csv"]
            )
        header = read_header(content, importer.calendar, importer.today)
        with importer.database.connect() as connection:
            known = rows.stated_portfolio(connection, code)
            others = rows.portfolio_codes(connection)
        try:
            accepted = importer.positions(content, self.arrival.shown, _book(code, stem, header, known), replace=True)
        except RejectedFileError as error:
            unreadable = [str(problem) for problem in error.errors if problem.code in _UNREADABLE]
            told = [
                _without_equity(code, others) if problem.code is Code.EQUITY_MISSING else _of_header(problem, header)
                for problem in error.errors
            ]
            raise _RejectedError(code, unreadable or [*header.errors, *told]) from None
        if header.errors:
            raise _RejectedError(code, header.errors)
        return accepted

    def _history(self, accepted: Accepted) -> tuple[list[Chunk], str]:
        """The runs that apply the file and compute what it changes, as far as the other portfolios are computed."""
        reference = Chunk(job="reference", trigger=TRIGGER)
        first = accepted.first_session
        if first is None:
            return [reference], ", which changes no figure"
        calendar, source = sessions.calendar(), self.source()
        newest = standing.newest_snapshot(self.database)
        try:
            plan = history.plan_history(
                self.database,
                self.settings,
                source,
                calendar,
                first=first,
                last=newest
                if newest is not None and newest >= first
                else history.available(self.settings, source, calendar).last,
                portfolios=accepted.portfolios,
                trigger=TRIGGER,
                look_back=accepted.look_back,
            )
        except history.NothingToRunError as error:
            return [reference], f", which only applies it: {error}"
        return [reference, *plan], f" from {first}"


def _book(code: str, stem: str, header: Header, known: StatedPortfolio | None) -> Book:
    """What is said of the portfolio; an import that waits counts as stored, what the file states itself comes first."""
    stated = (known.waiting if known is not None else None) or {}
    inception = stated.get("inception_date")
    return Book(
        name=header.values.get("name") or (stem if known is None else known.name),
        code=code,
        equity=header.values.get("equity") or stated.get("initial_equity"),
        inception=header.inception or (None if inception is None else datetime.fromisoformat(inception).date()),
        description=header.values.get("description") or stated.get("description"),
        benchmark=header.benchmark or stated.get("benchmark_symbol"),
    )


def _without_equity(code: str, others: Sequence[str]) -> str:
    """What to do about a file that states no equity: its name makes the code of a new portfolio, or is misspelt."""
    missing = "its equity is missing; add a first line such as `# equity: 1000000`"
    if not others:
        return f"the portfolio {code} is new and {missing}"
    near = difflib.get_close_matches(code, others, n=1) or sorted(others)[:1]
    return (
        f"there is no portfolio {code} (the codes are {named_codes(others)}): if it is new, {missing}; "
        f"if not, name the file after its code, as {near[0]}.csv"
    )


def _of_header(problem: Problem, header: Header) -> str:
    """A problem in words, told by the line that states what is wrong."""
    if problem.line is None and problem.column is not None:
        return str(replace(problem, line=header.lines.get(problem.column)))
    return str(problem)
