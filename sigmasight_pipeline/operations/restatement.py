"""Changed inputs of computed sessions: which are not followed yet by what depends on them, and the range that does it.

What belongs here: judging changes against the results stored, and planning the runs that renew exactly what depends on
them. What does not: recording changes (``storage.changes``, migration 0007) and launching (``operations.backfills``).

Nothing is remembered about a change that was dealt with: it is outstanding while a result that depends on it is older
than it, so that any run, of whoever, settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import dagster as dg
import polars as pl
from dagster import DagsterRunStatus, RunsFilter

from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.operations import backfills, jobs, replayed_changes
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import changes, tables
from sigmasight_pipeline.storage.database import Database

TRIGGER = "restatement"

AUDIT = "calculation_audit"

READ_BY: dict[str, tuple[str, ...]] = {
    "positions": ("position_values",),
    "position_marks": ("position_values",),
    "portfolio_cash_flows": ("portfolio_snapshots",),
    "portfolio_snapshots": ("position_values",),
    "portfolios": ("position_values",),
    "position_tags": ("group_exposures", "correlation_clusters"),
    "tags": ("group_exposures", "correlation_clusters"),
}
"""First results made from a book's own tables, which assets share with others; market tables have assets of their own.

Snapshots are made from their own past. A run that changed it and could not go on says so by a change of snapshots (see
``assets.snapshot_chain``): what is owed begins with values, for stale ones may be what stopped it.
"""

EVERYBODY = 0
"""Stands for the engines that work by symbol, where a portfolio is asked for."""


def dependents(table: str) -> list[str]:
    """Assets of the daily job that a change of `table` makes out of date. Sorted.

    Never a source itself: asked again, it would take back what a person corrected.
    """
    if table == replayed_changes.REPLAYED:
        return sorted(replayed_changes.DEPENDENTS)
    readers = READ_BY.get(table, ())
    found = {*readers, *graph.downstream(readers or [table])}
    return sorted(name for name in found if name in jobs.asset_names("daily") and name != AUDIT)


@dataclass(frozen=True)
class Outstanding:
    """Changes no result has followed yet: (table_name, session_date, portfolio_id, change_id), one row per portfolio
    concerned; EVERYBODY for what is computed by symbol."""

    rows: pl.DataFrame

    def __bool__(self) -> bool:
        return not self.rows.is_empty()

    @property
    def newest_change(self) -> int:
        """The newest change among them."""
        return int(self.rows["change_id"].max())  # type: ignore[arg-type]  # a column of whole numbers

    @property
    def count(self) -> int:
        """How many changes they are."""
        return self.rows["change_id"].n_unique()


def outstanding(database: Database, settings: Settings, calendar: SessionCalendar) -> Outstanding:
    """Changes with a result that depends on them, of their session or a later one, and is older than they are."""
    recorded = changes.recorded(database)
    recorded = recorded.filter(pl.col("table_name").is_in([*changes.DAY, *READ_BY]))
    nobody = pl.DataFrame(
        schema={"table_name": pl.String, "session_date": pl.Date, "portfolio_id": pl.Int64, "change_id": pl.Int64}
    )
    if recorded.is_empty():
        return Outstanding(nobody)
    # a close is seen by every window that reaches back to it, and one more by the first return of a window
    reach = settings.regression_window + 1
    days = recorded["session_date"].unique()
    ends = pl.DataFrame(
        {"session_date": days, "reach": [calendar.offset(calendar.on_or_after(day), reach) for day in days]}
    )
    recorded = recorded.join(ends, on="session_date")
    recorded = pl.concat([recorded, replayed_changes.replayed(database, recorded)])
    engines = {table: dependents(table) for table in recorded["table_name"].unique()}
    concerned = _concerned(recorded, changes.followers(database), database.read(tables.portfolios))
    books = _older(concerned, changes.computed(database, engines, min(days)))
    by_symbol = recorded.filter(
        pl.col("symbol").is_not_null() & pl.col("table_name").is_in(["daily_prices", "corporate_actions"])
    )
    stale = changes.stale_symbols(database, by_symbol).unique(["symbol", "session_date", "changed_at"])
    symbols = by_symbol.join(stale, on=["symbol", "session_date", "changed_at"], how="semi").with_columns(
        portfolio_id=pl.lit(EVERYBODY, dtype=pl.Int64)
    )
    found = [frame.select(nobody.columns).cast(nobody.schema) for frame in (books, symbols)]
    return Outstanding(pl.concat(found).sort("change_id", "portfolio_id"))


def _concerned(recorded: pl.DataFrame, followers: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """`recorded` once per portfolio whose results a change enters."""
    # a closed book's rows are renewed like any other's; after its closing it has none that could be older
    inceptions = portfolios.select("portfolio_id", "inception_date")
    all_of_them = changes.concerned(recorded, followers, inceptions["portfolio_id"].to_list())
    return all_of_them.join(inceptions, on="portfolio_id").filter(
        # what is dated before a book's first session enters it through windows only; actions since each entry do anyway
        (pl.col("inception_date") <= pl.col("reach")) | (pl.col("table_name") == "corporate_actions")
    )


def _older(concerned: pl.DataFrame, computed: pl.DataFrame) -> pl.DataFrame:
    """Rows of `concerned` with a result of their session or a later one that is older than the change."""
    since = (
        computed.sort("table_name", "portfolio_id", "session_date", descending=[False, False, True])
        .with_columns(pl.col("oldest").cum_min().over("table_name", "portfolio_id"))
        .sort("session_date")
    )
    return (
        concerned.sort("session_date")
        .join_asof(
            since, on="session_date", by=["table_name", "portfolio_id"], strategy="forward", check_sortedness=False
        )
        .filter(pl.col("oldest") < pl.col("changed_at"))
    )


def plan(
    database: Database, settings: Settings, calendar: SessionCalendar, found: Outstanding, *, trigger: str = TRIGGER
) -> list[Chunk]:
    """The runs that renew what depends on outstanding changes: from the first changed session to the newest computed.

    Changes of the market are one group, those of books one group per first session; who has to start earliest comes
    first.
    """
    first_value, newest_value, newest_return = changes.computed_range(database)
    newest = newest_value or newest_return
    if newest is None:
        return []
    books = database.read(tables.portfolios, columns=["portfolio_id", "code", "closing_date"])
    names = dict(books.select("portfolio_id", "code").iter_rows())
    start = settings.first_session
    audit = [name for name in (AUDIT,) if name in jobs.asset_names("daily")]
    chunks: list[Chunk] = []
    for group in sorted(_groups(found.rows), key=lambda group: group.first):
        first = calendar.on_or_after(max(group.first, start))
        asked = [names[key] for key in group.portfolios if key != EVERYBODY]
        assets = group.assets if asked else [name for name in group.assets if not graph.filtered_steps([name])]
        parts: list[tuple[date, date, list[str], list[str]]] = []
        if first_value is None or first < first_value:
            # before the first values there are returns and nothing else
            end = newest if first_value is None else calendar.offset(first_value, -1)
            returns = [name for name in assets if name == "daily_returns"]
            parts += [(first, end, returns, [])] if returns else []
        if first_value is not None and assets:
            open_then = books.filter(pl.col("closing_date").fill_null(date.max) >= first)["code"]
            filtered = [] if set(open_then) <= set(asked) else asked
            parts.append((max(first, first_value), newest, [*assets, *audit], filtered))
        for begin, end, restricted, portfolios in parts:
            chunks += plan_range(
                "daily",
                begin,
                end,
                calendar=calendar,
                size=settings.max_sessions_per_run,
                portfolios=portfolios,
                trigger=trigger,
                assets=restricted,
            )
    return chunks


@dataclass(frozen=True)
class _Group:
    """Changes that are followed together."""

    first: date
    portfolios: list[int]
    assets: list[str]


def _groups(rows: pl.DataFrame) -> list[_Group]:
    of_market = pl.col("table_name").is_in([*changes.DAY, replayed_changes.REPLAYED])
    groups = [_group(rows.filter(of_market))] if not rows.filter(of_market).is_empty() else []
    books = rows.filter(~of_market)
    firsts = books.group_by("portfolio_id").agg(pl.col("session_date").min().alias("first"))
    for (_,), together in firsts.sort("first").group_by("first", maintain_order=True):
        own = _group(books.filter(pl.col("portfolio_id").is_in(together["portfolio_id"].to_list())))
        covered = groups[:1] and (
            groups[0].first <= own.first
            and set(own.portfolios) <= set(groups[0].portfolios)
            and set(own.assets) <= set(groups[0].assets)
        )
        groups += [] if covered else [own]
    return groups


def _group(rows: pl.DataFrame) -> _Group:
    assets = {name for table in rows["table_name"].unique() for name in dependents(table)}
    first = rows["session_date"].min()
    if not isinstance(first, date):
        raise TypeError(f"changes have a session, not {first!r}")
    return _Group(first, rows["portfolio_id"].unique().sort().to_list(), sorted(assets))


@dataclass(frozen=True)
class OutOfDate:
    """What changes of inputs still ask for: the changes, what they are in words, and the runs that follow them."""

    outstanding: Outstanding
    what: str
    chunks: tuple[Chunk, ...]

    @property
    def changes(self) -> frozenset[int]:
        """Identifiers of the changes."""
        return frozenset(self.outstanding.rows["change_id"])

    @property
    def first(self) -> date:
        """First session to be computed anew."""
        return min(chunk.first for chunk in self.chunks if chunk.first is not None)

    @property
    def last(self) -> date:
        """Last session to be computed anew."""
        return max(chunk.last for chunk in self.chunks if chunk.last is not None)


def out_of_date(
    database: Database,
    settings: Settings,
    calendar: SessionCalendar,
    *,
    trigger: str = TRIGGER,
    portfolios: Sequence[str] = (),
) -> OutOfDate | None:
    """What outstanding changes ask for; None where nothing is outstanding, or no computed session depends on it.

    With `portfolios` (codes), what they and what is computed by symbol ask for.
    """
    found = outstanding(database, settings, calendar)
    if portfolios:
        known = database.read(tables.portfolios, columns=["portfolio_id", "code"])
        ids = known.filter(pl.col("code").is_in(list(portfolios)))["portfolio_id"].to_list()
        found = Outstanding(found.rows.filter(pl.col("portfolio_id").is_in([*ids, EVERYBODY])))
    chunks = plan(database, settings, calendar, found, trigger=trigger) if found else []
    if not chunks:
        return None
    newest = changes.described(database, found.newest_change)
    return OutOfDate(found, f"{found.count} change(s) of inputs, the newest: {newest}", tuple(chunks))


@dataclass(frozen=True)
class Answer:
    """What a look at the changes came to. `settled`: nothing is outstanding."""

    sentence: str
    settled: bool = False
    backfill_id: int | None = None


def ask(
    database: Database, settings: Settings, calendar: SessionCalendar, *, busy: str | None, now: datetime
) -> Answer:
    """Ask for the range outstanding changes need, once, and again after a failure as often as `gap_attempts` says.

    `busy` says what is running: until it has ended nobody can tell whether it settles them.
    """
    found = out_of_date(database, settings, calendar)
    if found is None:
        return Answer("every change of an input is followed by what depends on it", settled=True)
    waiting = busy or next((str(request) for request in backfills.open_requests(database)), None)
    if waiting:
        return Answer(f"{found.what}; looked at again when this has ended: {waiting}")
    if why := left_alone(database, settings, found):
        return Answer(f"{found.what}; {why}")
    first, last = found.first, found.last
    prefix = _key(found)
    earlier = backfills.attempts(database, prefix)
    backfill_id = backfills.request(
        database,
        key=f"{prefix}{last}:{len(earlier) + 1}",
        trigger=TRIGGER,
        reason=f"restatement of {changes.named(database, found.outstanding.newest_change)}: {found.what}",
        chunks=found.chunks,
        now=now,
    )
    return Answer(f"{found.what}; asked for {first} to {last} (backfill {backfill_id})", backfill_id=backfill_id)


def left_alone(database: Database, settings: Settings, found: OutOfDate) -> str | None:
    """Why nobody follows `found` by himself any more: a person terminated it, or it failed too often; else None."""
    again = f"`sigmasight repair --from {found.first} --to {found.last}` (it does not ask the source again)"
    if stopped := _terminated(database, found.outstanding.newest_change):
        return f"{backfills.CANCELED} (backfill {stopped.backfill_id}): left until another input changes, or {again}"
    earlier = backfills.attempts(database, _key(found))
    if len(earlier) < settings.gap_attempts or earlier[-1].status in backfills.OPEN:
        return None
    said = earlier[-1].error or "it ended, and the results are still older than the change"
    return f"given up after {len(earlier)} attempts: {said}. Put that right, then {again}"


def _key(found: OutOfDate) -> str:
    """How the keys of ranges begin that were asked for to follow `found`."""
    return f"{TRIGGER}:{found.outstanding.newest_change}:{found.first}:"


def _terminated(database: Database, newest_change: int) -> backfills.Backfill | None:
    """The range that was to follow `newest_change` or a later one, where a person terminated it; else None."""
    earlier = backfills.attempts(database, f"{TRIGGER}:")
    if not earlier or not earlier[-1].canceled:
        return None
    return earlier[-1] if int(earlier[-1].request_key.split(":")[1]) >= newest_change else None


def running(instance: dg.DagsterInstance) -> str | None:
    """A run of sessions that has not ended, in words; None where there is none."""
    statuses = [
        DagsterRunStatus.QUEUED,
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    open_runs = instance.get_runs(RunsFilter(statuses=statuses), limit=1)
    return f"run {open_runs[0].run_id[:8]} of {open_runs[0].job_name}" if open_runs else None
