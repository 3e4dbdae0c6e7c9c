"""What every session asset does around its engine: which sessions, reading, checking, writing, reporting.

What belongs here: the steps all session assets share, so that an asset itself is a declaration. What does not: any
formula, any SQL, any rule.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import psycopg
from pydantic import Field
from sqlalchemy import Table

from sigmasight_pipeline.assets import partition_events, partition_metadata, progress
from sigmasight_pipeline.assets.row_hash import RowHash
from sigmasight_pipeline.assets.unpriced import TRIGGER_TAG, NotPricedYetError, UnpricedSessionsError
from sigmasight_pipeline.checks.rules import Judged, Rule, Verdict
from sigmasight_pipeline.dagster_internals import BACKFILL_ID_TAG
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import recomputations, tables, windows
from sigmasight_pipeline.storage.database import PORTFOLIO, Database
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline.storage.partitions import append_rows, replace_sessions
from sigmasight_pipeline.storage.standing import UnknownPortfolioError
from sigmasight_pipeline.storage.upkeep import (
    InTransaction,
    newest_priced_session,
    newest_verdicts,
    priced_sessions,
)
from sigmasight_pipeline.storage.windows import Read, on_sessions

REPORT_TAG = "sigmasight/report"
"""Tag of runs that compute stored sessions anew on purpose: they report what they moved."""

PORTFOLIOS_SHOWN = 10
"""Portfolios up to which each has figures of its own on a partition; of more, nobody could tell the plots apart."""

FOLLOWED_TAG = "sigmasight/followed_by"
"""Tag of a run of a range that the next run of the same range follows: the session that one begins with."""

LIMITS = (
    "split_tolerance",
    "coverage_error",
    "coverage_warning",
    "regression_window",
    "min_observations",
)
"""Settings the rules judge by, handed to them under these names."""


class ReferenceNotReadyError(RuntimeError):
    """The reference assets have not been materialised yet."""

    def __init__(self) -> None:
        super().__init__(
            "trading_sessions is empty: materialise the reference assets first "
            "(`sigmasight import ...` does, or launch the job `reference` in the Dagster UI)"
        )


class PortfolioConfig(dg.Config):
    """Run configuration of assets that work by portfolio."""

    portfolios: list[str] = Field([], description="Codes of the portfolios to run for; empty: all of them.")


class SessionRun:
    """The sessions of one run of one asset, and everything done with them.

    `sessions` are the run's open sessions (closures left out), oldest first; `closed` are its unscheduled closures,
    `closed_ever` those of all stored sessions.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        database: Database,
        settings: Settings,
        table: Table,
        *,
        code_version: str,
        portfolios: Sequence[str] = (),
    ) -> None:
        self.context = context
        self.database = database
        self.settings = settings
        self.table = table
        self.code_version = code_version
        self.started = time.monotonic()
        # the time of a result is the one before its inputs were read: what changes after it was not seen by it
        self.began = datetime.now(UTC)
        self.moved: list[pl.DataFrame] | None = [] if context.run.tags.get(REPORT_TAG) == "true" else None
        self.requested = [date.fromisoformat(key) for key in sorted(context.partition_keys)]
        self.calendar = database.read(tables.trading_sessions, order_by="session_date")
        if self.calendar.is_empty():
            raise ReferenceNotReadyError
        self.closed_ever = frozenset(self.calendar.filter("is_closed")["session_date"])
        self.sessions = [day for day in self.requested if day not in self.closed_ever]
        self.closed = [day for day in self.requested if day in self.closed_ever]
        self.unpriced: list[date] = []
        self.portfolio_ids = self._portfolio_ids(portfolios)

    def _portfolio_ids(self, codes: Sequence[str]) -> list[int] | None:
        if not codes:
            return None
        known = self.database.read(tables.portfolios, columns=["portfolio_id", "code"])
        by_code = dict(zip(known["code"], known["portfolio_id"], strict=True))
        unknown = [code for code in codes if code not in by_code]
        if unknown:
            raise UnknownPortfolioError(unknown, list(by_code))
        return [by_code[code] for code in codes]

    def leave_out_unpriced(self, *, refused: bool = True) -> None:
        """Leave out the sessions after the newest one that has prices; any other without prices is `refused` by name.

        A backfill launched in the Dagster UI reaches through look-backs to sessions nobody has loaded prices of yet;
        valued at carried prices, they would look like a market that stood still. They get no materialisation either:
        a partition is green where there is something in it. A person who launches nothing but such sessions is told
        so. Raises UnpricedSessionsError, NotPricedYetError.
        """
        priced, newest = priced_sessions(self.database, self.first, self.last), newest_priced_session(self.database)
        unpriced = [day for day in self.sessions if day not in priced]
        if refused and unpriced and (newest is None or unpriced[0] < newest):
            raise UnpricedSessionsError(unpriced)
        self.leave_waiting(unpriced, newest)

    def leave_waiting(self, unpriced: Sequence[date], newest: date | None) -> None:
        """Leave out `unpriced`, sessions that wait for their prices; `newest` is the newest that has any.

        Raises NotPricedYetError where a person asked for nothing else.
        """
        self.unpriced = list(unpriced)
        self.sessions = [day for day in self.sessions if day not in set(unpriced)]
        if unpriced and not self.sessions and not {TRIGGER_TAG, BACKFILL_ID_TAG} & set(self.context.run.tags):
            raise NotPricedYetError(unpriced, newest)
        if unpriced:
            partition_events.materialize_only(self.context, [*self.closed, *self.sessions])
            self.context.log.warning(
                f"{self.table.name}: {unpriced[0]} to {unpriced[-1]} ({len(unpriced)} session(s)) have no prices and "
                "are left out; they are computed by a later run, once there are prices"
            )

    @property
    def followed(self) -> bool:
        """Whether another run of the same range goes on after this one."""
        return FOLLOWED_TAG in self.context.run.tags

    @property
    def first(self) -> date:
        """First session of the run."""
        return self.requested[0]

    @property
    def last(self) -> date:
        """Last session of the run."""
        return self.requested[-1]

    def for_table(self, table: Table) -> SessionRun:
        """The same run, for another table the same step writes."""
        other = copy.copy(self)
        other.table = table
        return other

    def parts(self, sessions_at_a_time: int) -> list[SessionRun]:
        """The run in parts of so many sessions, each to be computed and written by itself."""
        starts = range(0, len(self.requested), sessions_at_a_time)
        return [self._part(self.requested[start : start + sessions_at_a_time]) for start in starts]

    def _part(self, requested: list[date]) -> SessionRun:
        part = copy.copy(self)
        part.requested = requested
        part.sessions, part.closed, part.unpriced = (
            [day for day in days if requested[0] <= day <= requested[-1]]
            for days in (self.sessions, self.closed, self.unpriced)
        )
        return part

    def read(self, read: Read, before: Mapping[str, pl.DataFrame] | None = None) -> pl.DataFrame:
        """The rows a declared read stands for, for this run's sessions and portfolios.

        `before`: what was read before it, by name, for a read that chooses by it.
        """
        values = read.choice(before or {}, self.sessions) if read.choice else ()
        return windows.read(self.database, read, self.first, self.last, self.portfolio_ids, values=values)

    def read_all(self, reads: Mapping[str, Read]) -> dict[str, pl.DataFrame]:
        """Every declared read by its name, in their order."""
        frames: dict[str, pl.DataFrame] = {}
        for name, read in reads.items():
            frames[name] = self.read(read, frames)
        return frames

    def nothing(self) -> pl.DataFrame:
        """A frame of the table without rows."""
        return empty_frame(self.table)

    def stamped(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with the provenance columns."""
        return frame.with_columns(
            computed_at=pl.lit(self.began).cast(pl.Datetime("us", "UTC")),
            code_version=pl.lit(self.code_version),
            run_id=pl.lit(self.context.run_id),
        )

    def write(
        self,
        frame: pl.DataFrame,
        *,
        beyond: Collection[tuple[date, int]] = (),
        before_commit: InTransaction | None = None,
    ) -> pl.DataFrame:
        """Replace the run's sessions (and portfolios) in one transaction.

        `beyond`: see ``partitions.replace_sessions``.
        """
        writes = [(self.table, frame)]
        return self.write_all(writes, sessions=self.requested, beyond=beyond, before_commit=before_commit)[0]

    def write_all(
        self,
        writes: Sequence[tuple[Table, pl.DataFrame]],
        *,
        sessions: Sequence[date],
        beyond: Collection[tuple[date, int]] = (),
        before_commit: InTransaction | None = None,
    ) -> list[pl.DataFrame]:
        """The same for several tables in one transaction.

        A run that reports (REPORT_TAG) compares what it replaces with what it writes, and keeps the counts.
        """
        if self.moved is not None:
            before_commit = self._reporting(writes, sessions, beyond, before_commit)
        replace_sessions(
            self.database,
            writes,
            sessions,
            portfolio_ids=self.portfolio_ids,
            beyond=beyond,
            before_commit=before_commit,
        )
        return [frame.select(column.name for column in table.columns) for table, frame in writes]

    def _reporting(
        self,
        writes: Sequence[tuple[Table, pl.DataFrame]],
        sessions: Sequence[date],
        beyond: Collection[tuple[date, int]],
        before_commit: InTransaction | None,
    ) -> InTransaction:
        """`before_commit`, and keeping what the write moves."""
        results = [(table, frame) for table, frame in writes if set(tables.PROVENANCE) <= set(frame.columns)]
        counts = recomputations.moved(self.database, results, sessions, self.portfolio_ids, beyond)

        def write(connection: psycopg.Connection) -> None:
            if before_commit is not None:
                before_commit(connection)
            recomputations.keep(connection, self.context.run_id, counts)

        if self.moved is not None:
            self.moved.append(counts)
        return write

    def judge(
        self,
        rules: Sequence[Rule],
        frame: pl.DataFrame,
        inputs: Mapping[str, pl.DataFrame],
        *,
        sessions: Sequence[date] | None = None,
    ) -> list[Verdict]:
        """Apply the domain rules and store their verdicts per session.

        A run without a session to judge (closed, or not priced yet) repeats the newest verdicts: Dagster wants one of
        every run, and must not show a failing check as passed because nothing was looked at.
        """
        judged_sessions = self.sessions if sessions is None else sessions
        if not judged_sessions and (stored := [self._newest_verdict(rule) for rule in rules]):
            return stored
        judged = Judged(
            sessions=judged_sessions,
            frame=frame,
            inputs=inputs,
            database=self.database,
            portfolio_ids=self.portfolio_ids,
            limits={name: float(getattr(self.settings, name)) for name in LIMITS},
        )
        verdicts = [rule.verdict(judged) for rule in rules]
        checked_at = datetime.now(UTC)
        rows = [verdict.rows(self.table.name, self.context.run_id, checked_at) for verdict in verdicts]
        if rows:
            with self.database.connect() as connection:
                append_rows(connection, tables.data_quality_results, pl.concat(rows), replace=True)
        return verdicts

    def _newest_verdict(self, rule: Rule) -> Verdict:
        """What the newest run that judged by `rule` found."""
        return Verdict.stored(
            rule, newest_verdicts(self.database, asset=str(self.table.name), check_name=rule.name).to_dicts()
        )

    def annotate(
        self,
        frame: pl.DataFrame,
        figures: Mapping[str, pl.Expr],
        *,
        day: str = "session_date",
        extra: Mapping[date, Mapping[str, float]] | None = None,
        by_portfolio: Mapping[str, pl.Expr] | None = None,
    ) -> None:
        """Give every partition of the run its own row count and the figures worth plotting over partitions.

        `figures` are of all rows of a partition: after a run of some portfolios those of the others are read beside
        `frame`. `by_portfolio` are one figure per portfolio, named by its code.
        """
        if self.portfolio_ids is not None and PORTFOLIO in self.table.columns:
            everybody = windows.read(self.database, on_sessions(self.table), self.first, self.last)
            frame = everybody.filter(pl.col(day).is_in(self.requested))
        per_session = {
            row[day]: row
            for row in frame.group_by(day).agg(pl.len().alias("rows"), **dict(figures)).iter_rows(named=True)
        }
        own = self._by_portfolio(frame, by_portfolio or {})
        by_session: dict[date, dict[str, object]] = {}
        for session in self.requested:
            row = per_session.get(session)
            metadata: dict[str, object] = {"dagster/row_count": row["rows"] if row else 0}
            if session in self.closed:
                metadata["status"] = "closed: unscheduled closure of the exchange, nothing is computed"
            if row:
                metadata |= {name: float(row[name]) for name in figures if row[name] is not None}
            by_session[session] = metadata | {**own.get(session, {}), **(extra or {}).get(session, {})}
        partition_metadata.add(self.context, self.table.name, by_session)

    def _by_portfolio(self, frame: pl.DataFrame, figures: Mapping[str, pl.Expr]) -> dict[date, dict[str, float]]:
        """Figures of each portfolio by session, named by code; none where they are too many to be looked at."""
        if not figures or frame["portfolio_id"].n_unique() > PORTFOLIOS_SHOWN:
            return {}
        codes = self.database.read(tables.portfolios, columns=["portfolio_id", "code"])
        found: dict[date, dict[str, float]] = {}
        rows = frame.group_by("session_date", "portfolio_id").agg(**dict(figures)).join(codes, on="portfolio_id")
        for row in rows.sort("code").iter_rows(named=True):
            told = {f"{name}_{row['code']}": float(row[name]) for name in figures if row[name] is not None}
            found.setdefault(row["session_date"], {}).update(told)
        return found

    def result(
        self,
        written: pl.DataFrame | RowHash,
        verdicts: Sequence[Verdict],
        metadata: Mapping[str, int] | None = None,
    ) -> dg.MaterializeResult[None]:
        """The materialisation: what was written, how long it took, and the check results.

        `metadata` are counts of the whole run; the materialisation names them ``run_...``.
        """
        content = RowHash.of(written) if isinstance(written, pl.DataFrame) else written
        seconds = time.monotonic() - self.started
        name = self.table.name
        progress.report(progress.StepDone(name, self.first, self.last, content.rows, seconds))
        self.context.log.info(
            f"{name}: {content.rows} rows of {len(self.sessions)} session(s) written in {seconds:.2f} s"
        )
        return dg.MaterializeResult(
            asset_key=name,
            # every partition of the run shows them, so they say that they are the run's
            metadata={f"run_{name}": value for name, value in {**(metadata or {}), **self._what_moved()}.items()},
            check_results=[verdict.dagster_result(name) for verdict in verdicts],
            data_version=dg.DataVersion(content.digest),
        )

    def _what_moved(self) -> dict[str, int | float]:
        """Counts of the asset's own table, of a run that reports."""
        own = pl.concat(self.moved or [pl.DataFrame(schema=recomputations.SCHEMA)]).filter(
            pl.col("table_name") == self.table.name
        )
        if own.is_empty():
            return {}
        counts: dict[str, int | float] = {name: int(own[name].sum()) for name in recomputations.COUNTS}
        differences = own["largest_nav_difference"].drop_nulls().cast(pl.Float64)
        if differences.is_empty():
            return counts
        return {**counts, "largest_nav_difference": float(differences[int(differences.abs().arg_max() or 0)])}
