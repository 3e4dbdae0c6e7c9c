"""`sigmasight import`, `import-marks`, `import-flows`: a user's files into the reference tables, and their history run.

What belongs here: options, messages, and the order of steps. What does not: judging a file (``importing``), comparing
and recording it (``operations.books``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigmasight_pipeline.cli.console import OptionError, UserError, err, note, warn
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.cli.options import parse_day

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.books import Accepted, Importer


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="CSV file, UTF-8, comma or semicolon.")]
Replace = Annotated[bool, typer.Option("--replace", help="Apply a file that changes what is stored.")]
NoRun = Annotated[bool, typer.Option("--no-run", help="Only record the file; print the command that computes it.")]


def import_portfolio(
    file: FileArgument,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Name of the portfolio.")],
    equity: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Equity at inception, US dollars; needed for a new portfolio."),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Short name for commands and files; default: made of the name."),
    ] = None,
    inception: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="First session with results; default: that of the first entry."),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What the portfolio is.")] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="SYMBOL", help="Symbol its returns are compared with (default SPY).")
    ] = None,
    replace: Replace = False,
    no_run: NoRun = False,
) -> None:
    """Import a portfolio CSV and compute its history.

    Columns: ticker, quantity, entry_price, entry_date; optional tags, exit_date, exit_price, investment_class,
    investment_subtype, underlying_symbol, strike_price, expiration_date, option_type, lot, notes. Every error of every
    row is listed, and a file with one changes nothing; the same file again changes nothing.
    """
    from sigmasight_pipeline.importing.portfolios import slug
    from sigmasight_pipeline.operations.books import Book

    if code is not None and (not code or code != slug(code)):
        raise OptionError(f"--code {code}: use lower-case letters and digits, joined by hyphens, for example my-book")
    book = Book(
        name=name,
        code=code,
        equity=equity,
        inception=parse_day(inception, "--inception"),
        description=description,
        benchmark=_benchmark(benchmark),
    )
    _import(file, lambda importer, content: importer.positions(content, file.name, book, replace=replace), no_run)


def _benchmark(text: str | None) -> str | None:
    from sigmasight_pipeline.symbols import SymbolError, canonical_symbol

    try:
        return None if text is None else canonical_symbol(text)
    except SymbolError as error:
        raise OptionError(f"--benchmark {text}: {error}") from None


def import_marks(file: FileArgument, replace: Replace = False, no_run: NoRun = False) -> None:
    """Import values of PRIVATE positions (columns portfolio, symbol, date, price); they add to the stored ones."""
    _import(file, lambda importer, content: importer.marks(content, file.name, replace=replace), no_run)


def import_flows(file: FileArgument, replace: Replace = False, no_run: NoRun = False) -> None:
    """Import cash flows (columns portfolio, date, amount, kind); the file replaces each portfolio's flows as a set."""
    _import(file, lambda importer, content: importer.flows(content, file.name, replace=replace), no_run)


def _import(file: Path, accept: Callable[[Importer, bytes], Accepted], no_run: bool) -> None:
    from sigmasight_pipeline.cli import summary
    from sigmasight_pipeline.cli.running import books_in_hand, market_source
    from sigmasight_pipeline.importing.problems import Severity
    from sigmasight_pipeline.operations.books import Importer

    started = time.monotonic()
    content = _read(file)
    with ExitStack() as stack:
        installation = stack.enter_context(connected(create=True))
        if not no_run:
            stack.enter_context(books_in_hand(installation, f"import of {file.name}"))
        importer = Importer(installation.database, installation.settings, market_source(installation))
        accepted = accept(importer, content)
        for problem in accepted.remarks:
            (warn if problem.severity is Severity.WARNING else note)(str(problem))
        if accepted.unchanged:
            _go_on(installation, accepted, file.name, no_run, started)
            return
        for difference in accepted.differences:
            note(difference)
        note(f"{file.name}: {accepted.rows} row(s) accepted for {', '.join(accepted.portfolios)}.")
        _run_or_tell(installation, accepted, no_run)
        if not no_run:
            summary.print_portfolios(installation.database, time.monotonic() - started)


def _go_on(installation: Installation, accepted: Accepted, name: str, no_run: bool, started: float) -> None:
    """Finish what an earlier import of the same file was broken off at, if anything."""
    from sigmasight_pipeline.cli import summary
    from sigmasight_pipeline.cli.running import missing_of, run_history
    from sigmasight_pipeline.storage import standing

    newest = standing.newest_snapshot(installation.database)
    owed = missing_of(installation, accepted.portfolios, newest)
    if owed is None:
        err.print(f"{name} says what is stored already; nothing was changed.")
        return
    note(f"{name} says what is stored already, but {owed.why}, from {owed.first} on.")
    if no_run:
        options = "".join(f" --portfolio {code}" for code in accepted.portfolios)
        err.print(f"To compute it:\n  sigmasight backfill --from {owed.first}{options}")
        return
    run_history(
        installation,
        first=owed.first,
        last=newest if newest is not None and newest >= owed.first else None,
        portfolios=list(accepted.portfolios),
        trigger="import",
    )
    summary.print_portfolios(installation.database, time.monotonic() - started)


def _run_or_tell(installation: Installation, accepted: Accepted, no_run: bool) -> None:
    from sigmasight_pipeline.cli.running import refresh_reference, run_history
    from sigmasight_pipeline.operations import history
    from sigmasight_pipeline.storage import standing

    if no_run:
        options = "".join(f" --portfolio {code}" for code in accepted.portfolios)
        start = f" --from {accepted.first_session}" if accepted.first_session else ""
        err.print(f"Recorded. To apply it and compute its history:\n  sigmasight backfill{start}{options}")
        return
    first = accepted.first_session
    if first is None:
        refresh_reference(installation, "import")
        note("No figure depends on what was changed; nothing was computed.")
        return
    newest = standing.newest_snapshot(installation.database)
    try:
        run_history(
            installation,
            first=first,
            # to the newest snapshot of the other portfolios, so that all end on one session
            last=newest if newest is not None and newest >= first else None,
            portfolios=list(accepted.portfolios),
            trigger="import",
            look_back=accepted.look_back,
        )
    except history.NothingToRunError as error:
        refresh_reference(installation, "import")
        warn(f"The file is imported, but {error}. `sigmasight backfill` computes what can be later.")


def _read(file: Path) -> bytes:
    from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES
    from sigmasight_pipeline.user_files import UserFileError, read_user_file

    try:
        return read_user_file(file, MAXIMUM_BYTES)
    except UserFileError as error:
        raise UserError(str(error)) from None
