"""Rolling the snapshot chain through a run, and beyond it as far as what later snapshots are made from is current.

What belongs here: how far beyond a run the chain is continued, and what is owed where it is not. What does not: the
formulas of a snapshot (``calculations.snapshots``) and the asset that writes them (``assets.valuation``).

A snapshot is made from the one before, so a run that changes its last session's changes every later one. They are
continued in the same transaction, but only over position values that are current: over older ones net asset value would
no longer be cash plus market value. Where the chain has to stop before the newest snapshot, that is recorded in the
transaction too, and whoever looks next goes on from there (``operations.restatement``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl
import psycopg

from sigmasight_pipeline.calculations import snapshots
from sigmasight_pipeline.storage import changes, judging, tables, windows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.identities import verify_snapshots
from sigmasight_pipeline.storage.upkeep import InTransaction, newest_snapshots
from sigmasight_pipeline.storage.windows import Read, as_of, on_sessions

READS: dict[str, Read] = {
    "calendar": as_of(tables.trading_sessions),
    "portfolios": as_of(tables.portfolios),
    "positions": as_of(tables.positions),
    "position_values": on_sessions(tables.position_values),
    "portfolio_exposures": on_sessions(tables.portfolio_exposures),
    "flows": as_of(tables.portfolio_cash_flows),
}
"""What a snapshot is made from, beside the one before it."""

_KEY = ["session_date", "portfolio_id"]


@dataclass(frozen=True)
class Stored:
    """What is stored, and whose of it. `value_inputs`: tables that position values are made from."""

    database: Database
    portfolio_ids: Collection[int] | None
    value_inputs: Collection[str]

    def read(self, first: date, last: date, portfolio_ids: Collection[int]) -> dict[str, pl.DataFrame]:
        """The frames READS stand for."""
        return {name: windows.read(self.database, read, first, last, portfolio_ids) for name, read in READS.items()}

    def snapshots(self, day: date, portfolio_ids: Collection[int]) -> pl.DataFrame:
        """Stored snapshots of one session."""
        return windows.read(self.database, on_sessions(tables.portfolio_snapshots), day, day, portfolio_ids)


@dataclass(frozen=True)
class Rolled:
    """Snapshots of a run (`own`), of later sessions continued from it (`continued`), and `owed`: of portfolios whose
    later snapshots do not follow from these, the first session they do not follow at."""

    own: pl.DataFrame
    opening_cash: pl.DataFrame
    continued: pl.DataFrame
    owed: Mapping[int, date] = field(default_factory=dict)

    @property
    def frame(self) -> pl.DataFrame:
        """All snapshots."""
        return pl.concat([self.own, self.continued])

    @property
    def beyond(self) -> list[tuple[date, int]]:
        """(session, portfolio) of the snapshots continued."""
        return list(self.continued.select(_KEY).iter_rows())

    @property
    def sessions_beyond(self) -> list[date]:
        """Sessions the chain was continued to, oldest first."""
        return self.continued["session_date"].unique().sort().to_list()


def roll(
    stored: Stored,
    *,
    sessions: Sequence[date],
    frames: Mapping[str, pl.DataFrame],
    previous: pl.DataFrame,
    last: date,
    onward: bool,
) -> Rolled:
    """Snapshots of `sessions` and, with `onward`, of those after `last` whose stored ones do not follow from them.

    `frames` by the names of READS; `previous` are the snapshots of the session before. Without `onward` the chain ends
    with `sessions`, because another run goes on with it. Nothing is written.
    """
    result = snapshots.portfolio_snapshots(sessions=sessions, **frames, previous=previous)
    own, nothing = result.frame, result.frame.clear()
    later = _later(stored, last)
    opened = frames["calendar"].filter(~pl.col("is_closed"))["session_date"].sort()
    following = opened.filter(opened > last).to_list()
    if not later or not following:
        return Rolled(own, result.opening_cash, nothing)
    # a run of nothing but closures goes on from what was before it
    end = own.filter(pl.col("session_date") == sessions[-1]) if sessions else previous
    until = _current_until(stored, following, later)
    diverging = _diverging(stored, following[0], end, [key for key, day in until.items() if day is not None])
    if not diverging or not onward:
        return Rolled(own, result.opening_cash, nothing, dict.fromkeys(diverging, following[0]))
    parts, owed = [nothing], dict[int, date]()
    for day in sorted({day for key in diverging if (day := until[key]) is not None}):
        # a portfolio whose snapshots stop earlier is not carried beyond them
        keys = [key for key in diverging if until[key] == day]
        ahead = [session for session in following if session <= day]
        made = snapshots.portfolio_snapshots(
            sessions=ahead, **stored.read(ahead[0], day, keys), previous=end.filter(pl.col("portfolio_id").is_in(keys))
        ).frame
        right, broken = _adding_up(made)
        parts.append(right)
        owed |= broken
    return Rolled(own, result.opening_cash, pl.concat(parts), owed)


def _later(stored: Stored, last: date) -> dict[int, date]:
    """The newest stored snapshot, up to its closing, of every portfolio that has one after `last`."""
    closings = dict(stored.database.read(tables.portfolios, columns=["portfolio_id", "closing_date"]).iter_rows())
    wanted = set(closings) if stored.portfolio_ids is None else set(stored.portfolio_ids)
    ends = {key: min(day, closings[key] or day) for key, day in newest_snapshots(stored.database).items()}
    return {key: day for key, day in ends.items() if day > last and key in wanted}


def _current_until(stored: Stored, following: Sequence[date], later: Mapping[int, date]) -> dict[int, date | None]:
    """Of every portfolio in `later` the last session, not after its newest, up to which what its snapshots are made
    from is there and not older than its own inputs; None where that is not even the first of `following`."""
    newest, keys = max(later.values()), sorted(later)
    stale = changes.first_stale(
        stored.database, tables.position_values, stored.value_inputs, following[0], newest, keys
    )
    there = judging.exposed(stored.database, following[0], newest, keys)
    sessions = dict(there.group_by("portfolio_id").agg("session_date").iter_rows())
    until: dict[int, date | None] = {}
    for key, end in later.items():
        present = set(sessions.get(key, ()))
        until[key] = None
        for day in following:
            if day > end or day not in present or day >= stale.get(key, date.max):
                break
            until[key] = day
    return until


def _diverging(stored: Stored, day: date, end: pl.DataFrame, keys: Sequence[int]) -> list[int]:
    """Those of the portfolios `keys` whose stored snapshot of `day` is not what follows from the snapshots `end`."""
    begun = set(end["portfolio_id"])
    keys = [key for key in keys if key in begun]
    if not keys:
        return []
    made = snapshots.portfolio_snapshots(
        sessions=[day], **stored.read(day, day, keys), previous=end.filter(pl.col("portfolio_id").is_in(keys))
    ).frame
    same = made.join(stored.snapshots(day, keys).select(made.columns), on=made.columns, how="semi", nulls_equal=True)
    return sorted(set(keys) - set(same["portfolio_id"]))


def _adding_up(made: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, date]]:
    """`made` up to each portfolio's first snapshot that does not add up, and the session of that one.

    Values that nobody knows to be old may be, after an engine changed or a hand did.
    """
    broken = made.filter(pl.col("net_asset_value") != pl.col("cash_balance") + pl.col("market_value"))
    firsts = dict(broken.group_by("portfolio_id").agg(pl.col("session_date").min()).iter_rows())
    end = pl.col("portfolio_id").replace_strict(firsts, default=date.max, return_dtype=pl.Date)
    return made.filter(pl.col("session_date") < end), firsts


def closing(rolled: Rolled, last: date, keep: InTransaction) -> InTransaction:
    """What ends the transaction that writes `rolled`: `keep`, verifying what was written, recording what is owed."""

    def write(connection: psycopg.Connection) -> None:
        keep(connection)
        verify_snapshots(connection, list(rolled.frame.select(_KEY).iter_rows()))
        if rolled.owed:
            what = f"does not follow from the snapshots of {last}, which were computed anew"
            changes.owe(connection, tables.portfolio_snapshots, rolled.owed, what)

    return write
