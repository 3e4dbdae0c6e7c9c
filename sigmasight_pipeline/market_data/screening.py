"""Which received prices may be stored: rows refused, moves held back until confirmed, stored values that changed.

What belongs here: the rules about prices of market-data sources, as one pure function on frames. What does not:
reading and writing tables, and checks on what is stored (``market_data.coverage``).

A move is the total return since the last stored close, splits and dividends applied. An extreme one is quarantined;
the next close near it confirms it, and it is then released into its own session. Deciding session by session or over
a range at once gives the same stored rows: a quarantined row of an earlier run takes part like one just received.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import polars as pl

from sigmasight_pipeline.calculations.returns import add_gross
from sigmasight_pipeline.market_data.source import BARS
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema


class Reason(StrEnum):
    """Why a received row was not stored."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    OUTSIDE_RANGE = "outside_range"
    NOT_A_SESSION = "not_a_session"
    AFTER_RENAMING = "after_renaming"
    MISSING_CLOSE = "missing_close"
    NOT_POSITIVE_CLOSE = "not_positive_close"
    VOLUME_NOT_A_NUMBER = "volume_not_a_number"
    NEGATIVE_VOLUME = "negative_volume"
    OUTSIDE_LOW_HIGH = "outside_low_high"
    DUPLICATE_SESSION = "duplicate_session"
    EXTREME_MOVE = "extreme_move"
    OUTSIDE_ARBITRAGE_BOUNDS = "outside_arbitrage_bounds"
    EXTREME_VOLATILITY = "extreme_volatility"


REASONS = tuple(Reason)
"""The closed list; a row has the first that applies, in this order (a source's own finding after the dates). The last
two are of option closes (``market_data.option_screening``)."""


class Notice(StrEnum):
    """What is worth knowing about rows that are stored."""

    LARGE_MOVE = "large_move"
    DUPLICATE_SESSION = "duplicate_session"
    UNUSABLE_OPEN_HIGH_LOW = "unusable_open_high_low"
    RESTATED = "restated"
    RELEASED = "released"


QUARANTINED_KINDS = ("stock", "etf", "fund")
"""Kinds of instrument that do not move so far in a session; an index of volatility may."""

WARNINGS: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "symbol": pl.String(),
    "notice": pl.String(),
    "detail": pl.String(),
}

_VALUES = ["open", "high", "low", "close", "volume"]
_KEY = ["symbol", "session_date"]
_REJECTED = polars_schema(tables.rejected_prices)
_STORED = polars_schema(tables.daily_prices)
_REVISIONS = {n: t for n, t in polars_schema(tables.daily_price_revisions).items() if n != "revision_id"}


@dataclass(frozen=True)
class Screened:
    """What becomes of the received rows.

    `accepted`: rows of ``daily_prices`` to write, new or changed, nothing that is stored already. A row before the
    asked range is a released one: its session must be rewritten and what depends on it recomputed.
    `rejected`: rows of ``rejected_prices``; where rejection_id is NULL they are new, else only `status` may differ.
    `revisions`: rows of ``daily_price_revisions`` (without revision_id): what accepted rows replace.
    `warnings`: columns WARNINGS, about accepted rows and rows of the asked range that are stored already.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    revisions: pl.DataFrame
    warnings: pl.DataFrame


def screen(
    bars: pl.DataFrame,
    *,
    symbols: Collection[str],
    first: date,
    last: date,
    calendar: SessionCalendar,
    closed: Collection[date] = (),
    previous: pl.DataFrame,
    stored: pl.DataFrame,
    actions: pl.DataFrame,
    kinds: Mapping[str, str],
    renamed: Mapping[str, date],
    rejections: pl.DataFrame,
    accepted_rejections: Collection[int] = (),
    large_move: float,
    quarantine_rise: float,
    quarantine_fall: float,
    confirmation_band: float,
    source: str,
    now: datetime,
) -> Screened:
    """Judge `bars` (columns ``source.BARS``), asked for `symbols` from `first` to `last`, both included.

    `closed`: sessions of the calendar marked closed. `previous`: symbol, session_date, close of the last stored row
    before `first`. `stored`: rows of ``daily_prices`` from `first` to `last`; later ones may be given too and confirm
    like a close received. `actions`: rows of ``corporate_actions`` since
    the previous closes. `kinds`: symbol to kind of instrument, a symbol without one counts as a stock.
    `renamed`: last session of each symbol that another one continues; a close under the old name after it would hide
    the new one's.
    `rejections`: rows of ``rejected_prices`` of the asked sessions and every quarantined row of the symbols.
    `accepted_rejections`: ids of quarantined rows a person accepted; one before its symbol's previous close waits
    for a run of its session.

    Moves are decimal: `large_move` 0.5 warns above +50 % and below -50 %; above +`quarantine_rise` or below
    -`quarantine_fall` a stock, ETF or fund is quarantined unless the next close is within `confirmation_band` of it,
    or the row restates a stored close of its own session within that band.
    """
    sessions = [day for day in calendar.between(first, last) if day not in closed]
    good, refused, notices = _judge_rows(bars, symbols, renamed, first, last, sessions)
    known = rejections.with_columns(
        received=pl.Series([_canonical(text) for text in rejections["received"]], dtype=pl.String)
    )
    waiting = known.filter(
        pl.col("reason") == Reason.EXTREME_MOVE,
        pl.col("status").is_in(["quarantined", "accepted"]),
        pl.col("symbol").is_in(list(symbols)),
        pl.col("session_date") <= last,
    ).with_columns(accepted=pl.col("rejection_id").is_in(list(accepted_rejections)))
    candidates = _candidates(good, waiting, stored, previous, source)
    line = pl.concat(
        [
            previous.filter(pl.col("session_date") < first).select(*_KEY, "close", settled=pl.lit(True)),
            stored.join(candidates, on=_KEY, how="anti").select(*_KEY, "close", settled=pl.lit(True)),
            candidates.select(*_KEY, "close", "stored_close", settled=pl.col("unchanged") | pl.col("accepted")),
        ],
        how="diagonal",
    ).with_columns(
        guarded=pl.col("symbol")
        .replace_strict(dict(kinds), default="stock", return_dtype=pl.String)
        .is_in(QUARANTINED_KINDS)
    )
    kept, held = _settle(line, actions, rise=quarantine_rise, fall=quarantine_fall, band=confirmation_band)

    decided = candidates.join(kept.filter(~pl.col("replaced")), on=_KEY)
    accepted = decided.filter(~pl.col("unchanged"))
    quarantined = candidates.join(held, on=_KEY)
    revisions = (
        stored.join(accepted.select(*_KEY), on=_KEY, how="semi")
        .with_columns(replaced_at=pl.lit(now), replaced_by_source=pl.lit(source))
        .cast({"replaced_at": _REVISIONS["replaced_at"]})
        .select(list(_REVISIONS))
        .sort(_KEY[::-1])
    )
    released = decided.filter(pl.col("confirmed") | pl.col("rejection_id").is_not_null())
    rejected = pl.concat(
        [
            refused,
            released.with_columns(reason=pl.lit(Reason.EXTREME_MOVE.value), status=pl.lit("confirmed")).select(
                *_KEY, *_VALUES, "reason", "status", "rejection_id"
            ),
            quarantined.with_columns(reason=pl.lit(Reason.EXTREME_MOVE.value), status=pl.lit("quarantined")).select(
                *_KEY, *_VALUES, "reason", "status", "rejection_id"
            ),
        ],
        how="diagonal",
    )
    in_range = pl.col("session_date").is_between(first, last)
    moved = kept.filter(pl.col("move").abs() > large_move).join(
        accepted.select(*_KEY, new=pl.lit(True)), on=_KEY, how="left"
    )
    warnings = pl.concat(
        [
            notices,
            _notice(
                moved.filter(in_range | pl.col("new")),
                Notice.LARGE_MOVE,
                pl.format("moved {} % since {}", (pl.col("move") * 100).round(1), "previous_date"),
            ),
            _notice(
                accepted.filter(pl.col("stored_close").is_not_null()),
                Notice.RESTATED,
                pl.format("close {} became {}", "stored_close", "close"),
            ),
            _notice(released.filter(~pl.col("unchanged")), Notice.RELEASED, pl.format("close {} confirmed", "close")),
        ]
    ).sort("session_date", "symbol", "notice")
    return Screened(
        accepted=accepted.with_columns(fetched_at=pl.lit(now).cast(_STORED["fetched_at"]))
        .select(list(_STORED))
        .sort(_KEY[::-1]),
        rejected=_as_rejections(rejected, known, source, now),
        revisions=revisions,
        warnings=warnings,
    )


def _judge_rows(
    bars: pl.DataFrame,
    symbols: Collection[str],
    renamed: Mapping[str, date],
    first: date,
    last: date,
    sessions: Collection[date],
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows good in themselves (one per symbol and session), refused ones with their reason, and notices."""
    unlisted = set(bars["problem"].drop_nulls()) - set(REASONS)
    if unlisted:
        raise ValueError(f"a source reported {sorted(unlisted)}, which is none of {', '.join(REASONS)}")
    close, volume, day = pl.col("close"), pl.col("volume"), pl.col("session_date")
    sided = ["open", "high", "low"]
    usable = bars.select(list(BARS)).with_columns(
        pl.when(pl.col(sided) > 0).then(pl.col(sided)),
        unusable=pl.any_horizontal((pl.col(sided) <= 0).fill_null(False)),
    )
    ended = pl.col("symbol").replace_strict(dict(renamed), default=None, return_dtype=pl.Date)
    tests: list[tuple[Reason, pl.Expr]] = [
        (Reason.UNKNOWN_SYMBOL, pl.col("symbol").is_in(list(symbols)).fill_null(False).not_()),
        (Reason.OUTSIDE_RANGE, day.is_between(first, last).not_()),
        (Reason.NOT_A_SESSION, day.is_in(list(sessions)).fill_null(False).not_()),
        (Reason.AFTER_RENAMING, day > ended),
        (Reason.MISSING_CLOSE, close.is_null()),
        (Reason.NOT_POSITIVE_CLOSE, close <= 0),
        (Reason.VOLUME_NOT_A_NUMBER, volume.is_finite().not_()),
        (Reason.NEGATIVE_VOLUME, volume < 0),
        (Reason.OUTSIDE_LOW_HIGH, (close < pl.col("low")).fill_null(False) | (close > pl.col("high")).fill_null(False)),
    ]
    found = [pl.when(test).then(pl.lit(reason.value)) for reason, test in tests]
    judged = usable.with_columns(reason=pl.coalesce(*found[:4], "problem", *found[4:]))
    passed = judged.filter(pl.col("reason").is_null()).with_columns(copies=pl.len().over(_KEY))
    repeated = passed.filter(pl.col("copies") > 1).filter(pl.struct(_VALUES).n_unique().over(_KEY) > 1)
    contradictory = repeated.with_columns(reason=pl.lit(Reason.DUPLICATE_SESSION.value))
    good = passed.join(contradictory, on=_KEY, how="anti").unique(_KEY, keep="first", maintain_order=True)
    refused = pl.concat([judged.filter(pl.col("reason").is_not_null()), contradictory], how="diagonal").select(
        *_KEY, *_VALUES, "received", "reason", status=pl.lit("rejected"), rejection_id=pl.lit(None, dtype=pl.Int64)
    )
    notices = pl.concat(
        [
            _notice(
                good.filter(pl.col("copies") > 1),
                Notice.DUPLICATE_SESSION,
                pl.format("received {} times with the same values", "copies"),
            ),
            _notice(
                good.filter("unusable"),
                Notice.UNUSABLE_OPEN_HIGH_LOW,
                pl.lit("open, high or low is not positive and was left out"),
            ),
        ]
    )
    return good.select(*_KEY, *_VALUES), refused, notices


def _candidates(
    good: pl.DataFrame,
    waiting: pl.DataFrame,
    stored: pl.DataFrame,
    previous: pl.DataFrame,
    source: str,
) -> pl.DataFrame:
    """One row per symbol and session that is received, or waits in quarantine: what might be stored, and what is.

    Adds rejection_id, accepted (by a person), unchanged (stored with the same values), stored_close, source.
    """
    # On a row before the last stored close that close has spoken; a person's word on it waits for its session's run.
    alive = (
        waiting.select("rejection_id", *_KEY, "source", "accepted")
        .with_columns(_values_of(waiting["received"]))
        .join(previous.select("symbol", last_stored="session_date"), on="symbol", how="left")
        .filter(pl.col("last_stored").is_null() | (pl.col("session_date") > pl.col("last_stored")))
        .sort("accepted", "rejection_id")
        .unique(_KEY, keep="last", maintain_order=True)
    )
    by_hand, held = alive.filter("accepted"), alive.filter(~pl.col("accepted"))
    received = (
        good.join(by_hand, on=_KEY, how="anti")
        .join(held.select(*_KEY, "close", "rejection_id"), on=[*_KEY, "close"], how="left")
        .with_columns(source=pl.lit(source), accepted=pl.lit(False))
    )
    left = held.join(received, on=_KEY, how="anti").join(stored, on=_KEY, how="anti")
    columns = [*_KEY, *_VALUES, "rejection_id", "source", "accepted"]
    candidates = pl.concat([frame.select(columns) for frame in (by_hand, received, left)])
    now_stored = stored.select(*_KEY, *(pl.col(name).alias(f"stored_{name}") for name in _VALUES))
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"stored_{name}")) for name in _VALUES)
    return candidates.join(now_stored, on=_KEY, how="left").with_columns(unchanged=same)


def _settle(
    line: pl.DataFrame, actions: pl.DataFrame, *, rise: float, fall: float, band: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Walk every symbol's closes in order: the rows that stay (with move and confirmed), and those held back.

    Each round judges the first extreme move of every symbol that has one: the next close confirms it, or it leaves
    the line (its session's stored close takes its place) and later moves are measured without it.
    """
    line = line.with_columns(confirmed=pl.lit(False), replaced=pl.lit(False)).sort(_KEY)
    finished: list[pl.DataFrame] = []
    held: list[pl.DataFrame] = []
    while True:
        measured = add_gross(
            line.with_columns(
                previous_date=pl.col("session_date").shift(1).over("symbol"),
                previous_close=pl.col("close").shift(1).over("symbol"),
            ),
            actions,
        ).with_columns(move=pl.col("gross") / pl.col("previous_close").cast(pl.Float64) - 1.0)
        near_stored = (pl.col("close").cast(pl.Float64) / pl.col("stored_close").cast(pl.Float64) - 1.0).abs() <= band
        extreme = (
            ~pl.col("settled")
            & pl.col("guarded")
            & ((pl.col("move") > rise) | (pl.col("move") < -fall))
            & ~near_stored.fill_null(False)
        ).fill_null(False)
        judged = measured.with_columns(
            extreme=extreme, next_near=(pl.col("move").shift(-1).over("symbol").abs() <= band).fill_null(False)
        ).with_columns(first=pl.col("extreme") & (pl.col("extreme").cum_sum().over("symbol") == 1))
        unfinished = pl.col("extreme").any().over("symbol")
        finished.append(judged.filter(~unfinished))
        judged = judged.filter(unfinished)
        if judged.is_empty():
            return pl.concat(finished), pl.concat(held) if held else line.select(_KEY).clear()
        refuted = pl.col("first") & ~pl.col("next_near")
        held.append(judged.filter(refuted).select(_KEY))
        stands_in = refuted & pl.col("stored_close").is_not_null()
        line = (
            judged.with_columns(
                close=pl.when(stands_in).then("stored_close").otherwise("close"),
                settled=pl.col("settled") | pl.col("first"),
                confirmed=pl.col("confirmed") | (pl.col("first") & pl.col("next_near")),
                replaced=pl.col("replaced") | stands_in,
            )
            .filter(~refuted | stands_in)
            .select(line.columns)
        )


def _as_rejections(rejected: pl.DataFrame, known: pl.DataFrame, source: str, now: datetime) -> pl.DataFrame:
    """Rows of ``rejected_prices``; one that is known already keeps its id, its time and what was received."""
    texts = [
        _canonical(row["received"]) if row["received"] is not None else _received(row)
        for row in rejected.iter_rows(named=True)
    ]
    fresh = rejected.with_columns(received=pl.Series(texts, dtype=pl.String))
    identity = ["session_date", "symbol", "reason", "received"]
    ids = known.select(*identity, known_id="rejection_id").unique(identity, keep="first", maintain_order=True)
    found = fresh.join(ids, on=identity, how="left", nulls_equal=True).with_columns(
        rejection_id=pl.coalesce("rejection_id", "known_id")
    )
    new = found.filter(pl.col("rejection_id").is_null()).unique(identity, keep="first", maintain_order=True)
    old = found.filter(pl.col("rejection_id").is_not_null()).select("rejection_id", "status").unique("rejection_id")
    return pl.concat(
        [
            known.drop("status").join(old, on="rejection_id").select(list(_REJECTED)),
            new.with_columns(source=pl.lit(source), rejected_at=pl.lit(now).cast(_REJECTED["rejected_at"])).select(
                list(_REJECTED)
            ),
        ]
    ).sort("session_date", "symbol", "reason", "received")


def _notice(rows: pl.DataFrame, notice: Notice, detail: pl.Expr) -> pl.DataFrame:
    return rows.select("session_date", "symbol", notice=pl.lit(notice.value), detail=detail.cast(pl.String)).select(
        list(WARNINGS)
    )


def _received(row: Mapping[str, object]) -> str:
    cells = {name: None if row[name] is None else str(row[name]) for name in (*_KEY, *_VALUES)}
    return json.dumps(cells, sort_keys=True)


def _canonical(text: str) -> str:
    """The same object always as the same text: the database does not keep the order of keys."""
    return json.dumps(json.loads(text), sort_keys=True)


def _values_of(received: pl.Series) -> list[pl.Series]:
    """The prices and volume of quarantined rows, as `_received` wrote them."""
    objects = [json.loads(text) for text in received]
    return [pl.Series(name, [cells[name] for cells in objects], dtype=pl.String).cast(BARS[name]) for name in _VALUES]
