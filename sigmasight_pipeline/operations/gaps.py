"""Gaps: what should be there of computed sessions and is not, and the smallest runs that fill it.

What belongs here: finding them in the tables themselves, grouping them, planning their runs, and saying which were
tried too often. What does not: what should be there (``assets.operations``), statements (``storage.counting``) and
launching (``operations.backfills``).

Sessions after the newest one that is valued or priced are the schedule's business (``missed``). A session without
prices is a gap too: if the exchange was closed, no run fills it, and after some attempts it is reported and left alone.
So are figures from a look-back that was not loaded: what it lacks, and what was estimated without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.assets import operations as audit
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations import backfills, dependence, history, look_back
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import counting, retention, standing, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import newest_priced_session

TRIGGER = "gap"

WINDOW_COVERAGE = 0.8
"""A symbol should have returns of this share of the regression window once it was priced before it."""

RANGES_REMEMBERED = 1000
"""Newest ranges among which one that a person terminated is looked for."""

AUDIT = tables.calculation_audit.name
SNAPSHOTS = tables.portfolio_snapshots.name
PRICES = tables.daily_prices.name

_LOOK_BACK = (PRICES, tables.daily_returns.name, tables.treasury_yields.name)
"""What a look-back is made of; who lacks one of a session may lack any."""

_KEYS = ["session_date", "portfolio_id", "engine"]


@dataclass(frozen=True)
class Gap:
    """Sessions `first` to `last`, of `sessions` of which rows of some of `engines` are missing.

    `portfolios` are codes; none: engines that work by symbol, and what depends on them. With `symbols`, these have too
    few returns in the regression window.
    """

    portfolios: tuple[str, ...]
    first: date
    last: date
    sessions: int
    engines: tuple[str, ...]
    symbols: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key of the requests that are to fill it, up to the number of the attempt."""
        what = hashlib.sha256("\n".join([*self.engines, "", *self.symbols]).encode()).hexdigest()[:8]
        return f"gap:{','.join(self.portfolios) or 'all'}:{self.first}:{self.last}:{what}:"

    @property
    def owner(self) -> str:
        """Whose it is, in words."""
        return ", ".join(self.portfolios) or "all portfolios"

    @property
    def missing(self) -> str:
        """What is missing, in words."""
        of = f" of {', '.join(self.symbols)}" if self.symbols else ""
        return f"{', '.join(self.engines)}{of}"

    def __str__(self) -> str:
        span = str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.owner}, {span} ({self.sessions} session(s)): {self.missing}"


@dataclass(frozen=True)
class Standing:
    """A gap, how often it was tried to fill it, why the last attempt failed, and whether it is left alone now."""

    gap: Gap
    attempts: int
    given_up: bool
    error: str | None

    def __str__(self) -> str:
        tried = f", tried {self.attempts} time(s)" if self.attempts else ""
        return f"{self.gap}{tried}{f' ({self.error})' if self.error else ''}"


def find(database: Database, settings: Settings, source: MarketDataSource) -> list[Gap]:
    """Every gap from the first inception to the newest session any portfolio is valued at or priced; none of a closed
    portfolio after its closing session.

    What the look-back lacks of what `source` has comes first, then engines by symbol. Nothing before the first snapshot
    of any portfolio.
    """
    calendar = database.read(tables.trading_sessions, order_by="session_date")
    newest, earliest = _newest(database), standing.inception_of(database, ())
    line = calendar.filter(~pl.col("is_closed"))["session_date"]
    if newest is None or earliest is None:
        return []
    days = line.filter((line >= earliest) & (line <= newest)).to_list()
    if not days:
        return []
    portfolios = database.read(tables.portfolios)
    expected = _expected(database, settings, portfolios, days)
    missing = _missing(database, expected, days[0], days[-1])
    codes = {audit.ALL_PORTFOLIOS: "", **dict(zip(portfolios["portfolio_id"], portfolios["code"], strict=True))}
    named = {codes[key]: spans for key, spans in grouped(missing, expected, dependence.chained(), line).items()}
    window = line.filter(line <= newest).tail(settings.regression_window).to_list()
    behind = _look_back(database, settings, source, earliest)
    # what is estimated from a look-back that is not there is computed anew with it
    estimated = [] if behind else _estimated_short(database, settings, calendar, days)
    return [*behind, *_joined(named), *estimated, *_short_windows(database, window)]


def _newest(database: Database) -> date | None:
    """The newest session that should be valued: prices are stored of it, or it is; None before the first snapshot.

    Prices beyond the newest snapshot are those of a run that was stopped by the session after them; where every
    portfolio is closed, nothing waits for them.
    """
    newest = standing.newest_snapshot(database)
    if newest is None or standing.closing_of(database) is not None:
        return newest
    return max(newest, newest_priced_session(database) or newest)


def _look_back(database: Database, settings: Settings, source: MarketDataSource, earliest: date) -> list[Gap]:
    """Market data that is missing before the first inception, as far as windows reach back."""
    bounds = source.stored_range()
    begin = settings.first_session if bounds is None else max(settings.first_session, bounds[0])
    before = look_back.before(sessions.calendar(), settings, earliest, begin)
    days = look_back.lacking(database, settings, source, before)
    return [Gap((), days[0], days[-1], len(days), _LOOK_BACK)] if days else []


def _estimated_short(database: Database, settings: Settings, calendar: pl.DataFrame, days: Sequence[date]) -> list[Gap]:
    """Sessions whose betas were estimated from fewer returns than there are, with all that reads these returns."""
    factors = database.read(tables.factor_definitions)
    short = audit.short_windows(database, settings, calendar, factors, days[0], days[-1])["session_date"]
    if short.is_empty():
        return []
    readers = tuple(sorted(dependence.readers(tables.daily_returns.name)))
    return [Gap((), short[0], short[-1], len(short), readers)]


def _expected(database: Database, settings: Settings, portfolios: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    """(session_date, portfolio_id, engine) that should have rows, the rows of the audit among them."""
    found = audit.expected_rows(database, settings, days)
    kept = retention.kept_from(database).get(AUDIT, days[0])
    audited = (
        portfolios.join(pl.DataFrame({"session_date": days}), how="cross")
        .filter(
            pl.col("session_date") >= pl.max_horizontal("inception_date", pl.lit(kept)),
            pl.col("session_date") <= pl.col("closing_date").fill_null(date.max),
        )
        .select("session_date", "portfolio_id", engine=pl.lit(AUDIT))
    )
    return pl.concat([found.filter(pl.col("reason").is_null()).select(_KEYS), audited])


def _missing(database: Database, expected: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """Of `expected`, what has no row, what the audit found to be partial, and audits that are out of date."""
    probed = (*audit.PORTFOLIO_TABLES, *audit.SYMBOL_TABLES, tables.calculation_audit)
    absent = counting.absent(database, probed, first, last)
    findings = counting.audit_findings(database, first, last)
    partial = findings.filter(pl.col("status") == "partial").select(_KEYS)
    there = findings.filter(pl.col("status") == "missing").join(absent, on=_KEYS, how="anti")
    stale = there.select("session_date", "portfolio_id", engine=pl.lit(AUDIT))
    return expected.join(pl.concat([absent, partial, stale]).unique(), on=_KEYS, how="semi")


Span = tuple[int, int, frozenset[str], int]
"""First and last session (numbers on a line), what is missing between them, and of how many sessions."""


def grouped(
    missing: pl.DataFrame, expected: pl.DataFrame, chain: Collection[str], line: pl.Series
) -> dict[int, list[tuple[date, date, int, tuple[str, ...]]]]:
    """`missing` (session_date, portfolio_id, engine) as spans (first, last, sessions, engines) by portfolio.

    Sessions an engine is `expected` at and missing at one after the other are one span; spans of a portfolio that
    overlap or touch are one, too. Of engines in `chain` everything from the first to the last is one span: each session
    is made from the one before. `line` are all sessions there are, oldest first.
    """
    numbered = pl.DataFrame({"session_date": line}).with_row_index("number")
    runs = (
        expected.unique(_KEYS)
        .join(missing.unique(_KEYS).with_columns(gone=pl.lit(value=True)), on=_KEYS, how="left")
        .join(numbered, on="session_date")
        .sort("portfolio_id", "engine", "number")
        .with_columns(pl.col("gone").fill_null(value=False))
        .with_columns(run=pl.col("gone").rle_id().over("portfolio_id", "engine"))
        .filter("gone")
        .with_columns(run=pl.when(pl.col("engine").is_in(list(chain))).then(0).otherwise("run"))
        .group_by("portfolio_id", "engine", "run")
        .agg(first=pl.col("number").min(), last=pl.col("number").max(), numbers="number")
        .sort("portfolio_id", "first", "last", "engine")
    )
    found: dict[int, list[tuple[int, int, set[int], set[str]]]] = {}
    for owner, engine, first, last, numbers in runs.select(
        "portfolio_id", "engine", "first", "last", "numbers"
    ).iter_rows():
        spans = found.setdefault(owner, [])
        if spans and first <= spans[-1][1] + 1:
            begun, end, gone, engines = spans[-1]
            spans[-1] = (begun, max(end, last), gone | set(numbers), engines | {engine})
        else:
            spans.append((first, last, set(numbers), {engine}))
    return {
        owner: [(line[first], line[last], len(gone), tuple(sorted(engines))) for first, last, gone, engines in spans]
        for owner, spans in found.items()
    }


def _joined(spans: Mapping[str, Sequence[tuple[date, date, int, tuple[str, ...]]]]) -> list[Gap]:
    """Gaps of engines by symbol (owner ''), then of portfolios; equal ones of several portfolios are one.

    What a portfolio lacks inside a gap of engines by symbol is filled with it, so it belongs to it.
    """
    common = [Gap((), *span) for span in spans.get("", ())]
    own: dict[tuple[date, date, int, tuple[str, ...]], list[str]] = {}
    for code, of_portfolio in sorted(spans.items()):
        for span in of_portfolio if code else ():
            first, last, _, engines = span
            around = next((gap for gap in common if gap.first <= first and last <= gap.last), None)
            if around is not None and set(engines) <= set(graph.downstream(around.engines)):
                common[common.index(around)] = replace(around, engines=tuple(sorted({*around.engines, *engines})))
            else:
                own.setdefault(span, []).append(code)
    # the newest first: runs that fill an earlier one go on through the later ones
    common.reverse()
    return [*common, *(Gap(tuple(codes), *span) for span, codes in sorted(own.items()))]


def _short_windows(database: Database, window: Sequence[date]) -> list[Gap]:
    """Symbols with too few returns in the sessions `window`, those that lack prices of the same sessions together."""
    least = math.ceil(WINDOW_COVERAGE * len(window))
    by_span: dict[tuple[date, date], list[str]] = {}
    for symbol, _, first, last in counting.short_windows(database, window, least).iter_rows():
        by_span.setdefault((first or window[0], last or window[-1]), []).append(symbol)
    return [
        Gap((), first, last, sum(first <= day <= last for day in window), (tables.daily_returns.name,), tuple(symbols))
        for (first, last), symbols in sorted(by_span.items())
    ]


def plan(
    database: Database, settings: Settings, source: MarketDataSource, calendar: SessionCalendar, gap: Gap
) -> list[Chunk]:
    """The runs that fill `gap`, in order: what is missing and what depends on it, at the sessions it may change.

    History is never recomputed further than the newest snapshot. Where prices of what is held are missing, market data
    comes first and everything is run. Raises ``history.NothingToRunError`` where the source has nothing to offer.
    """
    newest = max(standing.newest_snapshot(database) or gap.last, gap.last)
    size = settings.max_sessions_per_run

    def runs(job: str, first: date, last: date, assets: Collection[str] = ()) -> list[Chunk]:
        return plan_range(
            job,
            first,
            last,
            calendar=calendar,
            size=size,
            portfolios=gap.portfolios,
            trigger=TRIGGER,
            assets=sorted(assets),
        )

    if gap.symbols:
        return runs("market_data", gap.first, gap.last)
    inception = standing.inception_of(database, ())
    behind = inception is not None and gap.last < inception
    if behind or _lacks_prices(database, gap):
        return history.plan_history(
            database,
            settings,
            source,
            calendar,
            first=inception if behind and inception is not None else gap.first,
            last=newest,
            portfolios=gap.portfolios,
            trigger=TRIGGER,
            look_back=not behind,
        )
    changed = dependence.reach(gap.engines)
    furthest = max(changed.values())
    end = newest if math.isinf(furthest) else min(calendar.offset(gap.last, int(furthest)), newest)
    if end <= gap.last:
        return runs("daily", gap.first, gap.last, changed)
    here = [name for name, later in changed.items() if later == 0]
    later = [name for name, sessions in changed.items() if sessions > 0]
    return (runs("daily", gap.first, gap.last, here) if here else []) + runs("daily", gap.first, end, later)


def _lacks_prices(database: Database, gap: Gap) -> bool:
    """Whether values are missing whose positions have no price yet."""
    if not gap.portfolios or tables.position_values.name not in gap.engines:
        return False
    known = database.read(tables.portfolios, columns=["portfolio_id", "code"])
    ids = known.filter(pl.col("code").is_in(gap.portfolios))["portfolio_id"].to_list()
    return counting.unpriced_holdings(database, ids, gap.first, gap.last) > 0


def standings(database: Database, settings: Settings, found: Sequence[Gap]) -> list[Standing]:
    """How often each gap was tried to fill; one that is there after as many attempts as allowed is given up.

    So is one of sessions whose computation a person terminated, until somebody asks for them.
    """
    result, ranges = [], backfills.recent(database, RANGES_REMEMBERED)
    for gap in found:
        earlier = backfills.attempts(database, gap.key)
        ended = all(attempt.status not in backfills.OPEN for attempt in earlier)
        error = None
        if earlier and ended:
            error = earlier[-1].error or "the last attempt ran to its end and did not fill it"
        if stopped := backfills.terminated(ranges, gap.first, gap.last, gap.portfolios):
            error = f"backfill {stopped.backfill_id} was to compute it, and {backfills.CANCELED}"
        given_up = stopped is not None or (ended and len(earlier) >= settings.gap_attempts)
        result.append(Standing(gap, len(earlier), given_up, error))
    return result


def request(
    database: Database, settings: Settings, source: MarketDataSource, calendar: SessionCalendar, standing: Standing
) -> str:
    """Ask for the next attempt to fill a gap; says what was asked for, or why nothing could be."""
    gap = standing.gap
    try:
        chunks = plan(database, settings, source, calendar, gap)
    except history.NothingToRunError as error:
        return f"{gap} cannot be filled: {error}"
    number = backfills.request(
        database,
        key=f"{gap.key}{standing.attempts + 1}",
        trigger=TRIGGER,
        reason=f"gap of {gap} (attempt {standing.attempts + 1} of {settings.gap_attempts})",
        chunks=chunks,
    )
    return f"backfill {number} asked for: {gap}" if number is not None else f"already asked for: {gap}"
