"""Net asset value and performance of every portfolio, rolled forward from one session to the next.

What belongs here: the NAV and cash ledgers, returns, period figures, drawdown and the counts of a snapshot.
What does not: values of positions (``valuation``) and exposures (``exposures``).

A snapshot follows from the one before and the figures of its session alone. Compounded figures continue from
the stored ones (index = 1 + cumulative_return), so a range gives the same bits as its sessions one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.division import ratio
from sigmasight_pipeline.calculations.exposures import COUNTS, GREEKS, held
from sigmasight_pipeline.calculations.holdings import brought_in
from sigmasight_pipeline.calculations.money import (
    CENTS,
    LARGEST_UNITS,
    MONEY,
    PRICE,
    AmountOverflowError,
    from_units,
    rounded_product,
    to_units,
)
from sigmasight_pipeline.calculations.portfolio_lives import lives
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES, VALUE_DIVISOR
from sigmasight_pipeline.calculations.timeline import (
    SessionWindowError,
    Timeline,
    day_numbers,
    open_sessions,
    to_dates,
)

PERIODS = ("mtd", "qtd", "ytd")

_KEYS = ["session_date", "portfolio_id"]
_EXPOSURES = ("gross_exposure", "net_exposure", "long_exposure", "short_exposure")
_AMOUNTS = ("net_asset_value", "cash_balance", "cumulative_pnl", "mtd_pnl", "qtd_pnl", "ytd_pnl")
_COST = ("quantity", "entry_price", "multiplier")
_RATIOS = ("cumulative_return", "mtd_return", "qtd_return", "ytd_return", "high_water_mark")


class MissingPreviousSnapshotError(ValueError):
    """Portfolios past their inception have no snapshot at the session before the first one asked for."""

    def __init__(self, portfolios: Sequence[str], session: date, previous: date) -> None:
        super().__init__(
            f"{', '.join(portfolios)} cannot be valued at {session}: there is no snapshot of the session before, "
            f"{previous}; run from the first missing session"
        )
        self.portfolios = tuple(portfolios)
        self.session = session
        self.previous = previous


class MissingExposuresError(ValueError):
    """A portfolio has no row of ``portfolio_exposures`` at a session it must have a snapshot for."""

    def __init__(self, missing: int, portfolio_id: int, session: date) -> None:
        super().__init__(
            f"portfolio {portfolio_id} has no exposures at {session} ({missing} such rows missing); "
            "compute portfolio_exposures for these sessions first"
        )


@dataclass(frozen=True)
class Snapshots:
    """`frame`: the rows of ``portfolio_snapshots`` without provenance. `opening_cash`: portfolio_id and
    opening_cash
    (initial equity less the value of positions brought in) of the portfolios whose first snapshot is in
    `frame`."""

    frame: pl.DataFrame
    opening_cash: pl.DataFrame


def portfolio_snapshots(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    portfolio_exposures: pl.DataFrame,
    flows: pl.DataFrame,
    previous: pl.DataFrame,
) -> Snapshots:
    """Snapshots of every portfolio at `sessions`, a run of sessions without a gap, from its inception to its closing.

    `position_values` and `portfolio_exposures` are the rows of these sessions, `flows` rows of
    ``portfolio_cash_flows``, `previous` rows of ``portfolio_snapshots`` (those of the open session before the
    first are used). Ordered by session_date and portfolio_id.

    net_asset_value = previous one + sum of daily P&L + flows; cash = previous one + sum of cash effects +
    flows: two ledgers, so that NAV = cash + market value is a check. First snapshot: initial equity + P&L,
    and initial equity + cash effects. daily_return = P&L / (previous NAV + flow), on the first session P&L /
    initial equity. Where that base is not positive it is NULL (`no_base`), and cumulative return, high-water
    mark and drawdown are NULL from there (`broken_index`); a period's return is NULL for the rest of that
    period. Flows on or before inception are part of the initial equity and not counted. Raises
    MissingPreviousSnapshotError, MissingExposuresError, AmountOverflowError and timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    wanted = timeline.positions(sessions)
    gaps = np.flatnonzero(np.diff(wanted) > 1)
    if len(gaps):
        left_out = timeline.dates[int(wanted[gaps[0]]) + 1]
        raise SessionWindowError(f"snapshots need sessions without a gap between them, {left_out} is left out; add it")
    owners = lives(portfolios, "code", "initial_equity").sort("portfolio_id")
    inception = timeline.on_or_after(day_numbers(owners.get_column("inception_date")))
    closing = timeline.on_or_before(day_numbers(owners.get_column("closing_date")))
    ledger = _Ledger(timeline, wanted, owners, inception, closing)
    figures = ledger.rolled(
        _state_before(ledger, previous),
        _daily(ledger, position_values, flows),
        to_units(owners.get_column("initial_equity"), MONEY),
    )
    frame = _completed(ledger.frame(figures), portfolio_exposures, position_values)
    return Snapshots(frame=frame, opening_cash=_opening_cash(ledger, positions, position_values))


@dataclass(frozen=True)
class _Figures:
    """Amounts in cents and ratios by name, NaN for NULL; arrays by portfolio, or by session and portfolio."""

    amounts: dict[str, IntArray]
    ratios: dict[str, FloatArray]


@dataclass(frozen=True)
class _Ledger:
    """Sessions `wanted` (numbers of the timeline, consecutive) by portfolios `owners` (sorted by id), which have
    snapshots from the session `inception` to the session `closing`."""

    timeline: Timeline
    wanted: IntArray
    owners: pl.DataFrame
    inception: IntArray
    closing: IntArray

    def matrix(self, rows: pl.DataFrame, column: str) -> IntArray:
        """Cents of `column`, summed by (session, portfolio); rows of other sessions and portfolios are left out."""
        result = np.zeros((len(self.wanted), len(self.owners)), dtype=np.int64)
        sums = rows.group_by(_KEYS).agg(pl.col(column).sum())
        numbers = pl.DataFrame(
            [self.owners.get_column("portfolio_id"), pl.Series("portfolio", np.arange(len(self.owners)))]
        )
        sums = sums.join(numbers, on="portfolio_id")
        days = day_numbers(sums.get_column("session_date"))
        session = self.timeline.on_or_before(days)
        first = int(self.wanted[0]) if len(self.wanted) else 0
        inside = (session >= first) & (session < first + len(self.wanted))
        inside &= self.timeline.days[np.maximum(session, 0)] == days if len(self.timeline) else False
        sums, session = sums.filter(pl.Series(inside)), session[inside] - first
        portfolio = sums.get_column("portfolio").to_numpy()
        result[session, portfolio] = to_units(sums.get_column(column), MONEY)
        return result

    def rolled(self, state: _Figures, daily: dict[str, IntArray], initial_equity: IntArray) -> _Figures:
        """Every figure by (session, portfolio); meaningless outside a portfolio's life."""
        shape = (len(self.wanted), len(self.owners))
        amounts = {name: np.zeros(shape, dtype=np.int64) for name in (*_AMOUNTS, "base")}
        ratios = {name: np.full(shape, np.nan) for name in (*_RATIOS, "daily_return", "drawdown")}
        for at, index in enumerate(self.wanted.tolist()):
            first = self.inception == index
            pnl, flow = daily["daily_pnl"][at], daily["net_cash_flow"][at]
            base = np.where(first, initial_equity, state.amounts["net_asset_value"] + flow)
            cash = np.where(first, initial_equity, state.amounts["cash_balance"] + flow)
            daily_return = np.full(len(base), np.nan)
            np.divide(pnl, base, out=daily_return, where=base > 0)
            begins = {"cumulative": first}
            begins |= {period: first | new for period, new in self._beginning(index).items()}
            state = _Figures(
                amounts={
                    "net_asset_value": base + pnl,
                    "cash_balance": cash + daily["cash_effect"][at],
                    **{
                        f"{span}_pnl": np.where(new, 0, state.amounts[f"{span}_pnl"]) + pnl
                        for span, new in begins.items()
                    },
                },
                ratios={
                    f"{span}_return": _compounded(state.ratios[f"{span}_return"], new, daily_return)
                    for span, new in begins.items()
                }
                | {"high_water_mark": np.where(first, 1.0, state.ratios["high_water_mark"])},
            )
            _require_small(state.amounts)
            growth = 1.0 + state.ratios["cumulative_return"]
            state.ratios["high_water_mark"] = np.maximum(state.ratios["high_water_mark"], growth)
            for name, cents in (state.amounts | {"base": base}).items():
                amounts[name][at] = cents
            drawdown = growth / state.ratios["high_water_mark"] - 1.0
            for name, figure in (state.ratios | {"daily_return": daily_return, "drawdown": drawdown}).items():
                ratios[name][at] = figure
        return _Figures(amounts | daily, ratios)

    def _beginning(self, index: int) -> dict[str, bool]:
        """Whether the session is the first of its month, quarter and year."""
        day = self.timeline.dates[index]
        before = self.timeline.dates[index - 1] if index else None
        if before is None or before.year != day.year:
            return dict.fromkeys(PERIODS, True)
        quarter = (before.month - 1) // 3 != (day.month - 1) // 3
        return {"mtd": before.month != day.month, "qtd": quarter, "ytd": False}

    def frame(self, figures: _Figures) -> pl.DataFrame:
        """The figures as rows, by session, then portfolio, without those outside the portfolio's life."""
        number = self.wanted[:, None]
        at, portfolio = np.nonzero((self.inception[None, :] <= number) & (number <= self.closing[None, :]))
        first = self.inception[portfolio] == self.wanted[at]
        cents = {name: values[at, portfolio] for name, values in figures.amounts.items()}
        cents["net_cash_flow"][first] = 0
        ratios = {name: values[at, portfolio] for name, values in figures.ratios.items()}
        broken = np.isnan(ratios["cumulative_return"])
        status = np.where(cents.pop("base") <= 0, "no_base", np.where(broken, "broken_index", "ok"))
        return pl.DataFrame(
            [
                to_dates(self.timeline.days[self.wanted[at]], "session_date"),
                self.owners.get_column("portfolio_id").gather(portfolio),
                *(from_units(values, MONEY, name) for name, values in cents.items()),
                *(pl.Series(name, values).fill_nan(None) for name, values in ratios.items()),
                pl.Series("return_status", status.tolist(), dtype=pl.String),
                pl.Series("is_first", first),
            ]
        )


def _compounded(before: FloatArray, begins: BoolArray | bool, daily_return: FloatArray) -> FloatArray:
    """The return compounded by one more session; from 0 where it begins. NaN stays NaN."""
    return (1.0 + np.where(begins, 0.0, before)) * (1.0 + daily_return) - 1.0


def _require_small(amounts: dict[str, IntArray]) -> None:
    largest = max(int(np.abs(cents).max(initial=0)) for cents in amounts.values())
    if largest > LARGEST_UNITS:
        raise AmountOverflowError("the net asset value of a portfolio", largest / CENTS)


def _state_before(ledger: _Ledger, previous: pl.DataFrame) -> _Figures:
    """What the first session continues from; zero for portfolios that begin later, or have ended."""
    timeline, owners = ledger.timeline, ledger.owners
    first = int(ledger.wanted[0]) if len(ledger.wanted) else 0
    before = timeline.dates[first - 1] if first else None
    rows = owners.select("portfolio_id").join(
        previous.filter(pl.col("session_date") == before) if before else previous.clear(),
        on="portfolio_id",
        how="left",
        maintain_order="left",
    )
    missing = (ledger.inception < first) & (first <= ledger.closing)
    missing &= rows.get_column("net_asset_value").is_null().to_numpy()
    if missing.any() and before:
        codes = owners.filter(pl.Series(missing)).get_column("code").to_list()
        raise MissingPreviousSnapshotError(codes, timeline.dates[first], before)
    return _Figures(
        amounts={name: to_units(rows.get_column(name), MONEY) for name in _AMOUNTS},
        ratios={name: rows.get_column(name).fill_null(np.nan).to_numpy() for name in _RATIOS},
    )


def _daily(ledger: _Ledger, position_values: pl.DataFrame, flows: pl.DataFrame) -> dict[str, IntArray]:
    """Cents by (session, portfolio) that come from the session itself."""
    summed = ("daily_pnl", "realized_pnl", "dividend_pnl", "cash_effect", "market_value")
    moved = ledger.timeline.moved(flows.select(*_KEYS, "amount"), "session_date")
    return {
        **{name: ledger.matrix(position_values, name) for name in summed},
        "net_cash_flow": ledger.matrix(moved, "amount"),
    }


def _completed(frame: pl.DataFrame, exposures: pl.DataFrame, position_values: pl.DataFrame) -> pl.DataFrame:
    """`frame` with exposures, leverage, counts and Greeks, in the table's column order."""
    source = pl.col("price_source")
    quality = (
        held(position_values)
        .group_by(_KEYS)
        .agg(
            stale_positions=pl.col("stale").sum(),
            unpriced_positions=(source == "entry_price").sum(),
            model_priced_positions=(source == "model").sum(),
        )
    )
    taken = exposures.select(*_KEYS, *_EXPOSURES, *COUNTS, *GREEKS, "greeks_status")
    rows = frame.join(taken, on=_KEYS, how="left", maintain_order="left").join(
        quality, on=_KEYS, how="left", maintain_order="left"
    )
    missing = rows.filter(pl.col("gross_exposure").is_null())
    if len(missing):
        raise MissingExposuresError(len(missing), missing["portfolio_id"][0], missing["session_date"][0])
    return rows.select(
        *_KEYS,
        "net_asset_value",
        "cash_balance",
        "market_value",
        *_EXPOSURES,
        "daily_pnl",
        "realized_pnl",
        pl.col("dividend_pnl").alias("dividend_income"),
        "net_cash_flow",
        "daily_return",
        "cumulative_pnl",
        "cumulative_return",
        *(f"{period}_{figure}" for period in PERIODS for figure in ("pnl", "return")),
        "high_water_mark",
        "drawdown",
        ratio(rows["gross_exposure"], rows["net_asset_value"]).alias("leverage"),
        "return_status",
        *COUNTS,
        *GREEKS,
        "greeks_status",
        *(
            pl.col(name).fill_null(0).cast(pl.Int32)
            for name in ("stale_positions", "unpriced_positions", "model_priced_positions")
        ),
        "is_first",
    )


def _opening_cash(ledger: _Ledger, positions: pl.DataFrame, position_values: pl.DataFrame) -> pl.DataFrame:
    """Initial equity less the opening values of portfolios whose inception is one of the ledger's sessions.

    The opening value is the market value at the inception close, or the proceeds of a position that exits
    then.
    """
    timeline = ledger.timeline
    begins = np.flatnonzero(np.isin(ledger.inception, ledger.wanted))
    starting = ledger.owners[begins].with_columns(
        to_dates(timeline.days[ledger.inception[begins]], "session_date"),
        pl.Series("inception", ledger.inception[begins]),
    )
    values = position_values.select(*_KEYS, "position_id", "price_source", "market_value", "realized_pnl")
    rows = values.join(starting.select(*_KEYS, "inception"), on=_KEYS).join(
        positions.select("position_id", "entry_date", *_COST), on="position_id"
    )
    entry_day = day_numbers(rows.get_column("entry_date"))
    rows = rows.filter(pl.Series(brought_in(timeline, entry_day, rows.get_column("inception").to_numpy())))
    cost = rounded_product(
        [to_units(rows.get_column(name), PRICE) for name in _COST], divisor=VALUE_DIVISOR, what="a cost basis"
    )
    gone = rows.get_column("price_source").is_in(EXIT_SOURCES).to_numpy()
    proceeds = to_units(rows.get_column("realized_pnl"), MONEY) + cost
    opening = np.where(gone, proceeds, to_units(rows.get_column("market_value"), MONEY))
    sums = (
        rows.select("portfolio_id")
        .with_columns(from_units(opening, MONEY, "opening_value"))
        .group_by("portfolio_id")
        .agg(pl.col("opening_value").sum())
    )
    return starting.join(sums, on="portfolio_id", how="left", maintain_order="left").select(
        "portfolio_id",
        opening_cash=(pl.col("initial_equity") - pl.col("opening_value").fill_null(0)).cast(MONEY),
    )
