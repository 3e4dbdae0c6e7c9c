"""Which received option closes may be stored: impossible and unbelievable ones are held back until confirmed.

What belongs here: the rules about closes of option contracts, as one pure function on frames. What does not: the rules
about prices (``market_data.screening``), reading and writing tables, and checks on what is stored.

A close is impossible outside the no-arbitrage bounds, unbelievable where both its volatility and its price are far from
the last believed ones. It is then quarantined, neither used nor carried; the next close near its volatility confirms
it, and it is released into its own session. Deciding session by session or over a range at once gives the same
stored rows: what an earlier run quarantined takes part again, on the underlying's price as it is known now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite, log1p
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.american_options import exercise_value
from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.black_scholes import DAYS_PER_YEAR
from sigmasight_pipeline.calculations.dividend_yields import dividend_yields
from sigmasight_pipeline.calculations.exercise_styles import is_american
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, implied_by_price, option_price
from sigmasight_pipeline.calculations.option_volatility import TICK, historical_volatilities, sensible
from sigmasight_pipeline.calculations.splits import continued
from sigmasight_pipeline.market_data.screening import Reason
from sigmasight_pipeline.market_data.source import OPTION_BARS
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.symbols import parse_option

VOLATILITY_FACTOR = 3.0
"""A volatility more than this many times the last one, or less than one such part of it, is far from it."""

PRICE_SHARE = 0.5
PRICE_AMOUNT = 0.25
"""A price is far off by more than both: this share of the price at the last volatility, and this many US dollars."""

BOUND_SHARE = 0.01
"""A close may be outside its bounds by this share of them, or by a tick: option and underlying close apart."""

LARGEST_RATE = 0.15
"""Bounds hold for every rate from 0 to this: no yield is needed, which may come later than prices."""

REASONS = (Reason.OUTSIDE_ARBITRAGE_BOUNDS.value, Reason.EXTREME_VOLATILITY.value)

_KEY = ["symbol", "session_date"]
_VALUES = ["close", "bid", "ask", "implied_volatility", "open_interest"]
_REJECTED = polars_schema(tables.rejected_prices)
_STORED = polars_schema(tables.option_prices)


class Market(NamedTuple):
    """Rows of the tables of these names; prices of the underlyings as they will be stored, and before them."""

    calendar: pl.DataFrame
    prices: pl.DataFrame
    actions: pl.DataFrame
    instruments: pl.DataFrame
    returns: pl.DataFrame


class Limits(NamedTuple):
    """Settings of the same names."""

    default_treasury_yield: float
    historical_volatility_window: int
    historical_volatility_min: int


@dataclass(frozen=True)
class ScreenedQuotes:
    """What becomes of the received quotes.

    `accepted`: rows of ``option_prices`` to write; one before the asked sessions is released, so that its session must
    be rewritten. `rejected`: rows of ``rejected_prices``; where rejection_id is NULL they are new, else only `status`
    may differ.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame


def screen_options(
    quotes: pl.DataFrame,
    *,
    previous: pl.DataFrame,
    rejections: pl.DataFrame,
    last: date,
    market: Market,
    limits: Limits,
    source: str,
    now: datetime,
) -> ScreenedQuotes:
    """Judge `quotes` (columns ``source.OPTION_BARS``, one per contract and session).

    `previous`: the last stored row of each contract before the first session asked for, with a close. `rejections`:
    rows of ``rejected_prices`` of the asked sessions, of which `last` is the last, and every row that waits. A row
    without a close is stored as it is, and so is one that cannot be judged: without a price of the underlying, or on
    the expiration date.

    A close is held back where it is outside the no-arbitrage bounds of its exercise style by more than `TICK` and
    `BOUND_SHARE`; or where its implied volatility is more than `VOLATILITY_FACTOR` times the last one (that of the last
    believed close, else the historical one) or less than that part of it, and the close is off the price at that one
    by more than `PRICE_SHARE` and `PRICE_AMOUNT`. The next close within `VOLATILITY_FACTOR` of its volatility confirms
    it, and so does a person. The last volatility of a contract is its own through splits. Source: calculations.md
    section 5.
    """
    known = _known(rejections)
    columns = [*_KEY, *_VALUES]
    candidates = pl.concat(
        [
            quotes.select(columns).with_columns(
                pl.lit(source).alias("source"), rejection_id=pl.lit(None, dtype=pl.Int64), trusted=pl.lit(value=False)
            ),
            _waiting(known.filter(pl.col("session_date") <= last), quotes, previous),
        ]
    )
    candidates = _with_told(candidates, known)
    settled = (
        previous.drop_nulls("close")
        .select(*columns, "source")
        .with_columns(rejection_id=pl.lit(None, dtype=pl.Int64), trusted=pl.lit(value=True), settled=pl.lit(value=True))
    )
    line = pl.concat([settled, candidates.with_columns(settled=pl.lit(value=False))], how="diagonal_relaxed")
    judged = _Judgement(line, market, limits).held_back()
    believed = pl.col("reason").is_null() | pl.col("confirmed")
    accepted = judged.filter(~pl.col("settled"), believed)
    held = judged.filter(~believed)
    # what a later close of the same run bears out is recorded too: judged alone again, it is known
    released = accepted.filter(pl.col("rejection_id").is_not_null() | pl.col("confirmed"))
    return ScreenedQuotes(
        accepted=accepted.select(list(_STORED)).sort("session_date", "symbol"),
        rejected=_as_rejections(held, released, known, source, now),
    )


def _known(rejections: pl.DataFrame) -> pl.DataFrame:
    """The rows about option closes, what was received spelt in one way, with its values as columns."""
    rows = rejections.filter(pl.col("reason").is_in(REASONS))
    objects = [json.loads(text) for text in rows["received"]]
    return rows.with_columns(
        pl.Series("received", [json.dumps(cells, sort_keys=True) for cells in objects], dtype=pl.String),
        *(
            pl.Series(name, [cells.get(name) for cells in objects], dtype=pl.String).cast(OPTION_BARS[name])
            for name in _VALUES
        ),
    )


def _waiting(known: pl.DataFrame, quotes: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """What earlier runs held back and no later close has overtaken; a row received again speaks for itself."""
    waits = known.filter(pl.col("status").is_in(["quarantined", "accepted"]))
    return (
        waits.join(quotes, on=_KEY, how="anti")
        .join(previous.select("symbol", last_stored="session_date"), on="symbol", how="left")
        .filter(pl.col("last_stored").is_null() | (pl.col("session_date") > pl.col("last_stored")))
        .with_columns(trusted=pl.col("status") == "accepted")
        .unique(_KEY, keep="last", maintain_order=True)
        .select(*_KEY, *_VALUES, "source", "rejection_id", "trusted")
    )


def _with_told(candidates: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The candidates with the rejection they repeat, trusted where that was confirmed or accepted since."""
    told = (
        known.select(*_KEY, "close", told_id="rejection_id", told=pl.col("status").is_in(["accepted", "confirmed"]))
        .sort("told", "told_id")
        .unique([*_KEY, "close"], keep="last")
    )
    return (
        candidates.join(told, on=[*_KEY, "close"], how="left", maintain_order="left")
        .with_columns(
            rejection_id=pl.coalesce("rejection_id", "told_id"),
            trusted=pl.col("trusted") | pl.col("told").fill_null(value=False),
        )
        .drop("told", "told_id")
    )


class _Judgement:
    """The quotes of all contracts in order, with what each is judged by, as arrays."""

    def __init__(self, line: pl.DataFrame, market: Market, limits: Limits) -> None:
        self._rows = _with_terms(line, market)
        rows = self._rows
        self.close, self.spot, strike = (_floats(rows[name]) for name in ("close", "price", "strike"))
        is_call = rows["is_call"].to_numpy()
        self.terms = OptionTerms(is_call, strike, rows["is_american"].to_numpy(), _floats(rows["dividend_yield"]))
        self.years = rows["days_left"].to_numpy() / DAYS_PER_YEAR
        self.rate = log1p(limits.default_treasury_yield)
        self.judgeable = np.isfinite(self.close) & np.isfinite(self.spot) & (self.spot > 0.0) & (self.years > 0.0)
        rates = np.full(len(rows), self.rate)
        closes = np.where(self.judgeable, self.close, np.nan)
        inverted = implied_by_price(self.terms, closes, self.spot, self.years, rates)
        self.implied = inverted.volatility
        self.sensible = sensible(self.terms, inverted, self.spot, self.years, rates).volatility
        self.historical = self._historical(market, limits)
        self.impossible = self.judgeable & self._outside_bounds()

    def _historical(self, market: Market, limits: Limits) -> FloatArray:
        opened = market.calendar.filter(~pl.col("is_closed"))["session_date"].unique().sort()
        return historical_volatilities(
            self._rows["underlying"],
            self._rows["session_date"],
            market.returns,
            opened.to_list(),
            window=limits.historical_volatility_window,
            minimum=limits.historical_volatility_min,
        )

    def _outside_bounds(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """By more than a tick and a share of the bound, whatever the rate is."""
        terms, carry = self.terms, np.exp(-self.terms.dividend_yield * self.years)
        with np.errstate(invalid="ignore"):
            forward = np.where(
                terms.is_call,
                self.spot * carry - terms.strike,
                terms.strike * np.exp(-LARGEST_RATE * self.years) - self.spot * carry,
            )
            least = np.maximum(forward, 0.0)
            early = exercise_value(terms.is_call, self.spot, terms.strike)
            least = np.where(terms.is_american, np.maximum(least, early), least)
            most = np.where(terms.is_call, self.spot * np.maximum(carry, 1.0), terms.strike)
            below, above = least - self.close, self.close - most
            outside: np.ndarray[Any, np.dtype[np.bool_]] = (below > np.maximum(TICK, BOUND_SHARE * least)) | (
                above > np.maximum(TICK, BOUND_SHARE * most)
            )
        return outside

    def held_back(self) -> pl.DataFrame:
        """The rows with `reason`, why one was not believed, else NULL, and `confirmed`: a later one bore it out."""
        reasons: list[str | None] = [None] * len(self._rows)
        confirmed = [False] * len(self._rows)
        trusted = self._rows["trusted"].to_numpy()
        last: float = float("nan")
        held: int | None = None
        contract = None
        for row, identity in enumerate(self._rows["identity"]):
            if identity != contract:
                contract, last, held = identity, float("nan"), None
            if not self.judgeable[row]:
                continue
            if not trusted[row]:
                if held is not None and self._confirms(held, row):
                    confirmed[held] = True
                    held = None
                else:
                    reason = self._reason(row, last)
                    if reason is not None:
                        reasons[row], held = reason.value, row
                        continue
            last, held = float(self.sensible[row]), None
        return self._rows.with_columns(pl.Series("reason", reasons, dtype=pl.String), pl.Series("confirmed", confirmed))

    def _confirms(self, held: int, row: int) -> bool:
        """Whether the volatility at `row` is near that of the close held back before it."""
        if self.impossible[held] or self.impossible[row]:
            return False
        ratio = self.implied[row] / self.implied[held]
        return bool(1.0 / VOLATILITY_FACTOR <= ratio <= VOLATILITY_FACTOR)

    def _reason(self, row: int, last: float) -> Reason | None:
        """Why the close at `row` is not believed after the volatility `last` (NaN: none)."""
        if self.impossible[row]:
            return Reason.OUTSIDE_ARBITRAGE_BOUNDS
        usual = last if isfinite(last) else float(self.historical[row])
        if not isfinite(usual):
            return None
        # without an implied volatility it is beyond every one: below where nothing is paid for time, else above
        ratio = self.implied[row] / usual
        if 1.0 / VOLATILITY_FACTOR <= ratio <= VOLATILITY_FACTOR:
            return None
        terms = self.terms.at(np.array([row]))
        fair = float(option_price(terms, self.spot[row], self.years[row], self.rate, usual)[0])
        off = abs(self.close[row] - fair)
        return Reason.EXTREME_VOLATILITY if off > PRICE_AMOUNT and off > PRICE_SHARE * fair else None


def _with_terms(line: pl.DataFrame, market: Market) -> pl.DataFrame:
    """`line` by contract and session, with the contract's terms and the underlying's price and dividend yield."""
    contracts = {symbol: parse_option(symbol) for symbol in line["symbol"].unique()}
    terms = pl.DataFrame(
        [
            (symbol, item.underlying, item.kind, item.kind == "C", float(item.strike), item.expiration_date)
            for symbol, item in contracts.items()
        ],
        schema={
            "symbol": pl.String,
            "underlying": pl.String,
            "kind": pl.String,
            "is_call": pl.Boolean,
            "strike": pl.Float64,
            "expiration_date": pl.Date,
        },
        orient="row",
    )
    terms = terms.with_columns(
        is_american(terms.select(option_symbol="symbol", underlying_symbol="underlying"), market.instruments)
    )
    rows = _priced(line.join(terms, on="symbol"), market)
    paying = dividend_yields(
        rows.select("session_date", "price", symbol="underlying").unique(_KEY, keep="first"),
        calendar=market.calendar,
        prices=market.prices,
        actions=market.actions,
        instruments=market.instruments,
    ).select("session_date", "dividend_yield", underlying="symbol")
    newest = market.actions["ex_date"].max()
    bases = SplitRatios(continued(market.actions, market.instruments, "ex_date")).between(
        rows.with_columns(newest=pl.lit(newest, dtype=pl.Date)),
        after="session_date",
        through="newest",
        symbol="underlying",
    )
    return (
        bases.with_columns(
            # one name for a contract through the splits that rename it: its strike on the newest share
            identity=pl.format(
                "{} {} {} {}",
                "underlying",
                "expiration_date",
                "kind",
                (pl.col("strike") * pl.col("denominator").fill_null(1) / pl.col("numerator").fill_null(1)).round(2),
            ),
            days_left=(pl.col("expiration_date") - pl.col("session_date")).dt.total_days(),
        )
        .join(paying, on=["underlying", "session_date"], how="left")
        .sort("identity", "session_date", "settled", descending=[False, False, True])
    )


def _priced(rows: pl.DataFrame, market: Market) -> pl.DataFrame:
    """`rows` with `price`: the underlying's last close at the session, divided by the splits since; NULL without."""
    closes = (
        continued(market.prices.select("symbol", "session_date", "close"), market.instruments, "session_date")
        .select(underlying="symbol", seen="session_date", seen_close="close")
        .sort("seen")
    )
    found = rows.sort("session_date").join_asof(
        closes, left_on="session_date", right_on="seen", by="underlying", coalesce=False, check_sortedness=False
    )
    return (
        SplitRatios(continued(market.actions, market.instruments, "ex_date"))
        .between(found, after="seen", through="session_date", symbol="underlying")
        .with_columns(price=pl.col("seen_close").cast(pl.Float64) * pl.col("denominator") / pl.col("numerator"))
        .drop("seen", "seen_close", "numerator", "denominator")
    )


def _as_rejections(
    held: pl.DataFrame, released: pl.DataFrame, known: pl.DataFrame, source: str, now: datetime
) -> pl.DataFrame:
    """Rows of ``rejected_prices``: what is held back, and what no longer is; known ones keep what was received."""
    status_of = {
        **dict.fromkeys(released["rejection_id"], "confirmed"),
        **dict.fromkeys(held["rejection_id"].drop_nulls(), "quarantined"),
    }
    old = known.filter(pl.col("rejection_id").is_in(list(status_of))).with_columns(
        status=pl.col("rejection_id").replace_strict(status_of, default=None, return_dtype=pl.String)
    )
    new = pl.concat(
        [held.with_columns(status=pl.lit("quarantined")), released.with_columns(status=pl.lit("confirmed"))]
    ).filter(pl.col("rejection_id").is_null())
    fresh = new.select(
        *_KEY,
        "reason",
        pl.Series("received", [_received(row) for row in new.iter_rows(named=True)], dtype=pl.String),
        source=pl.lit(source),
        rejected_at=pl.lit(now).cast(_REJECTED["rejected_at"]),
        status="status",
        rejection_id=pl.lit(None, dtype=pl.Int64),
    )
    return pl.concat([old.select(list(_REJECTED)), fresh.select(list(_REJECTED))]).sort("session_date", "symbol")


def _received(row: Mapping[str, object]) -> str:
    cells = {name: None if row[name] is None else str(row[name]) for name in (*_KEY, *_VALUES)}
    return json.dumps(cells, sort_keys=True)


def _floats(series: pl.Series) -> FloatArray:
    """The numbers of a column; NaN where NULL."""
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
