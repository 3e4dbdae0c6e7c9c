"""`sigmasight backfill`: run a range of sessions.

What belongs here: turning what the user asked for into ranges for the launcher. What does not: cutting ranges and
running them (``operations``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sigmasight_pipeline.cli.console import OptionError, Runs, UserError, err, note, out, run_chunks, timed
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.cli.options import parse_day

if TYPE_CHECKING:
    from sigmasight_pipeline.market_data.source import MarketDataSource
    from sigmasight_pipeline.operations import owed
    from sigmasight_pipeline.operations.launcher import Chunk
    from sigmasight_pipeline.storage.run_locks import BookLock


def backfill(
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First session; default: inception.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="YYYY-MM-DD", help="Last session; default: the newest there is."),
    ] = None,
    portfolio: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only this portfolio, by its code (repeatable); default: all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs that would be made, and stop.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where an earlier one of the same range was broken off.")
    ] = False,
) -> None:
    """Compute a range of sessions, prices first, in runs of at most 252 sessions, in order.

    Stopped or killed, the same command goes on after the last run that was done. Sessions after the range are computed
    too where they depend on an input that changed, now or before.
    """
    from sigmasight_pipeline.cli import summary

    started = time.monotonic()
    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    if start is not None and end is not None and start > end:
        raise OptionError(f"--from {start} lies after --to {end}; exchange them")
    with connected() as installation:
        run_history(
            installation,
            first=start,
            last=end,
            portfolios=portfolio or [],
            dry_run=dry_run,
            resume=not restart,
        )
        if not dry_run:
            summary.print_portfolios(installation.database, time.monotonic() - started)


def run_history(
    installation: Installation,
    *,
    first: date | None,
    last: date | None,
    portfolios: list[str],
    trigger: str = "backfill",
    look_back: bool = False,
    dry_run: bool = False,
    refresh: bool = True,
    resume: bool = False,
    prices_from: date | None = None,
) -> None:
    """Plan the history of `portfolios` from `first` to `last` and run it, then whatever depends on changed inputs.

    What cannot be planned, or is only to be shown (`dry_run`), changes nothing: imports that wait go on waiting.
    """
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.cli.following import follow_changes
    from sigmasight_pipeline.operations import history
    from sigmasight_pipeline.storage import standing

    database, settings = installation.database, installation.settings
    calendar = sessions.calendar()
    standing.require_portfolios(database, portfolios)
    source = market_source(installation)
    bounds = history.available(settings, source, calendar)
    start = first or standing.inception_of(database, portfolios)
    if start is None:
        raise UserError(
            "there is no portfolio yet: import one with `sigmasight import my.csv --name ... --equity ...`, "
            "or name the range of prices to load with --from and --to"
        )
    chunks = history.plan_history(
        database,
        settings,
        source,
        calendar,
        first=start,
        last=last or bounds.last,
        portfolios=portfolios,
        trigger=trigger,
        look_back=look_back,
        prices_from=prices_from,
    )
    if dry_run:
        for chunk in chunks:
            out.print(str(chunk))
        return
    if refresh:
        refresh_reference(installation, trigger)
    if waiting := bounds.waiting(calendar, start, last):
        note(f"{waiting}; the schedule or the next `sigmasight backfill` takes them.")
    for closed in (day for day in settings.closed_sessions if start <= day <= bounds.last):
        note(f"{closed} is marked closed and is not computed.")

    def run_on(more: list[Chunk]) -> None:
        _run(installation, more, last=None, trigger=trigger, resume=False)

    daily = next((chunk.first for chunk in chunks if chunk.job == "daily"), None)
    # nobody else's are followed before it: what is wrong with another book must not keep this one from being computed
    follow_changes(installation, run_on, trigger=trigger, before=daily, portfolios=portfolios)
    _run(installation, chunks, last=last, trigger=trigger, resume=resume)
    follow_changes(installation, run_on, trigger=trigger)


def follow_inputs(installation: Installation, portfolios: Sequence[str], trigger: str) -> None:
    """Run whatever of `portfolios` (codes) is older than the inputs it was made from."""
    from sigmasight_pipeline.cli.following import follow_changes

    def run_on(more: list[Chunk]) -> None:
        _run(installation, more, last=None, trigger=trigger, resume=False)

    follow_changes(installation, run_on, trigger=trigger, portfolios=portfolios)


def _run(installation: Installation, chunks: Sequence[Chunk], *, last: date | None, trigger: str, resume: bool) -> None:
    """Run chunks as a range of its own, which the same range goes on with where it was broken off (`resume`)."""
    from sigmasight_pipeline.operations import backfills, runs
    from sigmasight_pipeline.operations.launcher import this_process

    launcher, database = installation.launcher, installation.database
    daily = next(chunk for chunk in chunks if chunk.job == "daily")
    key = f"{trigger}:{daily.first}:{last or 'newest'}:{','.join(daily.portfolios) or 'all'}#"
    earlier = backfills.attempts(database, key)
    if earlier and earlier[-1].status == "processing":
        raise UserError(f"{earlier[-1]} is this range, and another process runs it right now: let it end")
    broken_off = backfills.resumable(earlier, chunks) if resume else None
    if broken_off is not None:
        note(f"Going on with {broken_off}, which was broken off: {broken_off.error} (--restart begins anew.)")
    else:
        reason = f"sigmasight command ({trigger})"
        backfills.request(
            database,
            key=f"{key}{len(earlier) + 1}",
            trigger=trigger,
            reason=reason,
            chunks=chunks,
            driver=this_process(),
        )
    backfill = broken_off or backfills.attempts(database, key)[-1]
    try:
        backfills.drive(database, backfill, Runs(launcher, total=len(backfill.chunks), done=backfill.done_runs).run)
    finally:
        runs.sync(launcher.instance, database)


WAITING_SECONDS = 1.0
"""How often a command looks whether what it waits for has ended."""


@contextmanager
def books_in_hand(installation: Installation, what: str) -> Iterator[None]:
    """Have the books alone inside the block, in which `what` is done; waits until they are free, saying for whom.

    A run that is under way has read positions already; applied now, others would fail its checks. One that begins
    meanwhile waits until what the file changes is computed.
    """
    from sigmasight_pipeline.operations import backfills, runs
    from sigmasight_pipeline.storage.run_locks import BookLock

    launcher, database, told = installation.launcher, installation.database, ""
    with BookLock(installation.database_url, what) as lock:
        while busy := _others(installation, lock):
            about, _, _ = busy.partition(" (")
            if about != told:
                note(f"Waiting for {busy} to end before positions are changed; Ctrl-C stops the waiting.")
                told = about
            with err.status(f"Waiting for {busy} ..."):
                time.sleep(WAITING_SECONDS)
            runs.fail_dead(launcher.instance)
            backfills.fail_abandoned(database, datetime.now(UTC))
        with lock.in_hand():
            yield


def _others(installation: Installation, lock: BookLock) -> str | None:
    """What has the books right now, in words: a command's range, between its runs too, or a run; None: we have them."""
    from sigmasight_pipeline.operations import backfills

    driven = [one for one in backfills.open_requests(installation.database) if one.driver is not None]
    return str(driven[0]) if driven else ", ".join(lock.take()) or None


def missing_of(installation: Installation, portfolios: Sequence[str], through: date | None) -> owed.Owed | None:
    """What the history of `portfolios` owes, up to `through` (None: the newest session there are prices of)."""
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.operations import history, owed

    database, settings, calendar = installation.database, installation.settings, sessions.calendar()
    source = market_source(installation)
    with timed("Looking for what is missing ..."):
        return owed.first_owed(
            database,
            settings,
            source,
            calendar,
            portfolios,
            through or history.available(settings, source, calendar).last,
        )


def refresh_reference(installation: Installation, trigger: str) -> None:
    """Run the reference assets: they apply waiting imports and renew the calendar."""
    from sigmasight_pipeline.operations.launcher import Chunk

    run_chunks(installation.launcher, [Chunk(job="reference", trigger=trigger)])


def market_source(installation: Installation) -> MarketDataSource:
    """The market data source the settings name."""
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.market_data.factory import open_source

    return open_source(installation.settings, sessions.calendar())
