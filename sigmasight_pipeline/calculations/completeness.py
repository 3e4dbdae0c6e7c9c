"""What should be there for every session, portfolio and engine, and how what is there compares with it.

What belongs here: one declarative table of the engines and the rows each leaves, the sizes these are made of, and the
judgement of counts. What does not: counting stored rows (``storage.counting``), running what is missing
(``operations.gaps``), and figures themselves (``checks``).

Deliberately simpler than the engines, so that it can disagree with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from operator import mul

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.arrays import IntArray
from sigmasight_pipeline.calculations.estimation_windows import SHORT_WINDOWS
from sigmasight_pipeline.calculations.factor_model import REGRESSED_INSTRUMENTS
from sigmasight_pipeline.calculations.factor_moments import Weighting
from sigmasight_pipeline.calculations.factor_returns import regressed_factors
from sigmasight_pipeline.calculations.portfolio_lives import lives
from sigmasight_pipeline.calculations.risk_metrics import WINDOWS
from sigmasight_pipeline.calculations.stress import single_shocks
from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers

ALL_PORTFOLIOS = 0
"""Stands for a portfolio in rows about engines that work for all of them."""

CLOSED = "closed session"
BEFORE_INCEPTION = "before inception"
NOT_PRICED_YET = "no prices stored yet"
NO_PRICES = "no prices stored"
NO_PREVIOUS_SNAPSHOT = "previous snapshot missing"
NOT_COMPUTED = "not computed"
PURGED = "removed for its age"

ESTIMATES = "symbol_factor_betas"
"""The engine whose rows say how many returns of the regression window they were made of."""

WHY_NONE = {
    "valued": "no position held",
    "valued_any": "no position held",
    "modelled": "no position held but PRIVATE ones",
    "factors": "no active factor",
    "regressed": "no active factor that has a return",
    "scenarios": "no active scenario",
    "correlated_pairs": "no symbol passes the filter of correlations",
    "clustered": "no two symbols correlated enough",
    "week_end": "not the last session of its week",
    "listed": "no symbol priced so far",
    "returning": "no symbol with an earlier price",
    "curve": "no yield observed so far",
}
"""Why an engine leaves no row where the size of this name is 0."""

GROUP_KINDS_OF_EVERY_POSITION = 3
"""Sector, underlying and position type; a tag is optional."""


@dataclass(frozen=True)
class Engine:
    """Rows an engine leaves for a session (and portfolio): the product of `sizes`.

    A size that is NULL is not known beforehand, one row is then the least. Not `exact`: the product is a lower bound.
    `tolerant`: enough from the share of the rows that is warned about (setting coverage_warning).
    """

    name: str
    sizes: tuple[str, ...] = ()
    exact: bool = True
    tolerant: bool = False


PORTFOLIO_ENGINES = (
    Engine("position_values", ("valued",)),
    Engine("position_greeks", ("modelled",)),
    Engine("portfolio_exposures"),
    Engine("group_exposures", ("valued_any", "group_kinds"), exact=False),
    Engine("portfolio_snapshots"),
    Engine("portfolio_factor_exposures", ("factors",)),
    Engine("market_risk_scenarios", ("shocks",)),
    Engine("stress_test_results", ("scenarios",)),
    Engine("pairwise_correlations", ("correlated_pairs",)),
    Engine("correlation_calculations"),
    Engine("correlation_clusters", ("clustered",), exact=False),
    Engine("portfolio_risk_metrics", ("windows",)),
    Engine("portfolio_simulated_risk"),
    Engine("scenario_accuracy", ("week_end",)),
    Engine("pnl_attribution", ("valued",), exact=False),
)
"""Engines that work by portfolio. A row of ``portfolio_exposures`` and the like is there without a position too; of
``pnl_attribution`` every position with a value has one row at least."""

SYMBOL_ENGINES = (
    Engine("daily_prices", ("listed",), tolerant=True),
    Engine("treasury_yields", ("curve",), exact=False),
    Engine("daily_returns", ("returning",)),
    Engine("factor_correlations", ("weightings", "regressed", "regressed")),
    Engine("symbol_factor_betas", ("held_symbols", "regressed"), exact=False),
)
"""Engines that work by symbol. Which tenors a curve has is the source's business; betas are due of the symbols held,
and are there of every instrument that was known when they were estimated."""

EXPECTED: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "portfolio_id": pl.Int64(),
    "engine": pl.String(),
    "rows_expected": pl.Int64(),
    "rows_least": pl.Int64(),
    "reason": pl.String(),
}
"""What `expected_rows` returns: `rows_expected` NULL where not known beforehand; `reason` why none is expected."""

_KEYS = ["session_date", "portfolio_id"]


@dataclass(frozen=True)
class World:
    """What expectations are made of: rows of the tables of these names.

    `calendar` are all of ``trading_sessions``, `factors` ``factor_definitions``, `scenarios` ``stress_test_scenarios``.

    `correlated` are session_date, portfolio_id, positions_included and correlation_concentration of
    ``correlation_calculations``; `priced` is session_date and returning (symbols with a price and an earlier one);
    `first_yield` the first session with a yield; `unpriced` are sessions after the newest one with prices; `kept_from`
    has, of engines whose old rows were removed, the first session they are kept of; `short` are sessions estimated from
    fewer returns than are stored (``estimation_windows.short_windows``).
    """

    calendar: pl.DataFrame
    portfolios: pl.DataFrame
    positions: pl.DataFrame
    instruments: pl.DataFrame
    factors: pl.DataFrame
    scenarios: pl.DataFrame
    correlated: pl.DataFrame
    priced: pl.DataFrame
    first_yield: date | None = None
    unpriced: Collection[date] = field(default_factory=frozenset)
    kept_from: Mapping[str, date] = field(default_factory=dict)
    short: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SHORT_WINDOWS))


def expected_rows(sessions: Sequence[date], world: World, *, coverage_warning: float = 0.95) -> pl.DataFrame:
    """What every engine should have left for each of `sessions` and every portfolio open at it (`EXPECTED`), by key.

    Before its inception a portfolio has rows that say so, after its closing session none. Engines that work by symbol
    have rows of portfolio ALL_PORTFOLIOS.
    """
    timeline = Timeline(world.calendar)
    days = pl.DataFrame({"session_date": sorted(set(sessions))}, schema={"session_date": pl.Date()}).with_columns(
        none=pl.when(~pl.col("session_date").is_in(timeline.dates.implode()))
        .then(pl.lit(CLOSED))
        .when(pl.col("session_date").is_in(list(world.unpriced)))
        .then(pl.lit(NOT_PRICED_YET))
    )
    books = _lives(world, timeline)
    parts = [_of_engines(_by_session(days, world, timeline, books), SYMBOL_ENGINES, coverage_warning)]
    if books:
        parts.append(_of_engines(_by_portfolio(days, world, timeline, books), PORTFOLIO_ENGINES, coverage_warning))
    expected = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in EXPECTED.items())
    return _without_purged(expected, world.kept_from).sort(*_KEYS, "engine")


def _without_purged(expected: pl.DataFrame, kept_from: Mapping[str, date]) -> pl.DataFrame:
    """`expected` with no row expected at sessions before an engine's first kept one."""
    first = pl.col("engine").replace_strict(dict(kept_from), default=None, return_dtype=pl.Date())
    purged = (pl.col("session_date") < first).fill_null(value=False) & pl.col("reason").is_null()
    return expected.with_columns(
        pl.when(purged).then(0).otherwise("rows_expected").alias("rows_expected"),
        pl.when(purged).then(0).otherwise("rows_least").alias("rows_least"),
        pl.when(purged).then(pl.lit(PURGED)).otherwise("reason").alias("reason"),
    )


def audited(expected: pl.DataFrame, counted: pl.DataFrame, world: World) -> pl.DataFrame:
    """`expected` (of `expected_rows`) judged by `counted` rows, as rows of ``calculation_audit`` without provenance.

    `counted` has session_date, portfolio_id, engine, rows_present and oldest_computed_at where there is any row; it
    reaches one session back, so that a missing snapshot can be told from one whose predecessor is missing too.
    """
    names = ("rows_present", "rows_least", "rows_expected", "status", "reason")
    present, least, total, status, reason = map(pl.col, names)
    priced = counted.filter(pl.col("engine") == "daily_prices").get_column("session_date").unique()
    because = (
        pl.when(~pl.col("session_date").is_in(priced.implode()))
        .then(pl.lit(NO_PRICES))
        .when(pl.col("unchained"))
        .then(pl.lit(NO_PREVIOUS_SNAPSHOT))
        .otherwise(pl.lit(NOT_COMPUTED))
    )
    some = pl.format("{} of {} row(s)", present, pl.coalesce(total.cast(pl.String), pl.format("at least {}", least)))
    return (
        expected.join(counted, on=[*_KEYS, "engine"], how="left")
        .join(_unchained(expected, counted, world), on=[*_KEYS, "engine"], how="left")
        .join(_shortened(world), on=[*_KEYS, "engine"], how="left")
        .sort(*_KEYS, "engine")
        .with_columns(present.fill_null(0), pl.col("unchained").fill_null(value=False))
        .with_columns(
            status=pl.when(reason.is_not_null())
            .then(pl.lit("not_expected"))
            .when((present >= least) & pl.col("shortened").is_null())
            .then(pl.lit("complete"))
            .when(present > 0)
            .then(pl.lit("partial"))
            .otherwise(pl.lit("missing"))
        )
        .select(
            *_KEYS,
            "engine",
            total.cast(pl.Int32),
            present.cast(pl.Int32),
            coverage=pl.when(total > 0).then((present / total).clip(0.0, 1.0)),
            status=status,
            reason=pl.when(status == "missing")
            .then(because)
            .when(status == "partial")
            .then(pl.coalesce("shortened", some))
            .otherwise(reason),
            oldest_computed_at="oldest_computed_at",
        )
    )


def _unchained(expected: pl.DataFrame, counted: pl.DataFrame, world: World) -> pl.DataFrame:
    """Sessions after a portfolio's first whose previous session has no snapshot; `unchained` is true."""
    before = world.calendar.select("session_date", "previous_session").drop_nulls()
    stored = counted.filter(pl.col("engine") == "portfolio_snapshots").select(
        "portfolio_id", previous_session="session_date"
    )
    return (
        expected.filter(pl.col("engine") == "portfolio_snapshots")
        .join(before, on="session_date")
        .join(world.portfolios.select("portfolio_id", "inception_date"), on="portfolio_id")
        .filter(pl.col("previous_session") >= pl.col("inception_date"))
        .join(stored, on=["portfolio_id", "previous_session"], how="anti")
        .select(*_KEYS, "engine", unchained=True)
    )


def _shortened(world: World) -> pl.DataFrame:
    """Estimates from windows that could be fuller, with what is wrong with them (`shortened`)."""
    told = pl.format(
        "estimated from {} returns where {} are stored ({}; {} symbol(s) in all)", "used", "stored", "symbol", "symbols"
    )
    return world.short.select(
        "session_date", portfolio_id=pl.lit(ALL_PORTFOLIOS, pl.Int64), engine=pl.lit(ESTIMATES), shortened=told
    )


@dataclass(frozen=True)
class _Life:
    """First and last sessions (numbers) of the positions of one portfolio that have any; the last one's is the exit;
    `until`: the first at whose close it is not held, because of that or the portfolio's closing."""

    portfolio_id: int
    start: IntArray
    end: IntArray
    until: IntArray
    private: NDArray[np.bool_]
    symbol: pl.Series

    def counts(self, number: IntArray) -> dict[str, pl.Series]:
        """Positions with a value, with Greeks, and not PRIVATE held beyond the session, at each of `number`."""
        public = ~self.private

        def between(starts: IntArray, ends: IntArray, side: str) -> pl.Series:
            begun = np.searchsorted(np.sort(starts), number, side="right")
            return pl.Series(begun - np.searchsorted(np.sort(ends), number, side=side), dtype=pl.Int64)  # type: ignore[call-overload]  # left or right

        return {
            "valued": between(self.start, self.end, "left"),
            "modelled": between(self.start[public], self.end[public], "left"),
            "held_public": between(self.start[public], self.end[public], "right"),
        }


def _lives(world: World, timeline: Timeline) -> list[_Life]:
    books = lives(world.portfolios).sort("portfolio_id")
    owned = world.positions.join(books, on="portfolio_id")

    def session(column: str) -> IntArray:
        return timeline.on_or_after(day_numbers(owned.get_column(column)))

    expiry = timeline.expiry(day_numbers(owned.get_column("expiration_date")))
    start = np.maximum(session("entry_date"), session("inception_date"))
    end = np.minimum(session("exit_date"), expiry)
    until = np.minimum(end, timeline.on_or_before(day_numbers(owned.get_column("closing_date"))) + 1)
    private = (owned.get_column("investment_class") == "PRIVATE").to_numpy()
    symbol = owned.select(pl.coalesce("underlying_symbol", "symbol").alias("symbol")).to_series()
    owner = owned.get_column("portfolio_id").to_numpy()
    rows = {key: np.flatnonzero((owner == key) & (start <= end)) for key in books.get_column("portfolio_id")}
    return [_Life(key, start[own], end[own], until[own], private[own], symbol[own]) for key, own in rows.items()]


def _by_portfolio(days: pl.DataFrame, world: World, timeline: Timeline, books: Sequence[_Life]) -> pl.DataFrame:
    """Every session and portfolio not closed before it, with the sizes its engines' rows are made of, and why none."""
    number = timeline.on_or_before(day_numbers(days.get_column("session_date")))
    sizes = [days.with_columns(portfolio_id=pl.lit(life.portfolio_id), **life.counts(number)) for life in books]
    included, share = pl.col("positions_included").cast(pl.Int64), pl.col("correlation_concentration")
    return (
        pl.concat(sizes)
        .join(lives(world.portfolios), on="portfolio_id")
        .filter(pl.col("session_date") <= pl.col("closing_date"))
        .join(world.correlated, on=_KEYS, how="left")
        .join(_week_ends(timeline), on="session_date", how="left")
        .with_columns(
            none=pl.when(pl.col("session_date") < pl.col("inception_date"))
            .then(pl.lit(BEFORE_INCEPTION))
            .otherwise("none"),
            valued_any=(pl.col("valued") > 0).cast(pl.Int64),
            group_kinds=pl.lit(GROUP_KINDS_OF_EVERY_POSITION),
            factors=pl.lit(world.factors.filter("active").height),
            shocks=pl.lit(len(single_shocks())),
            scenarios=pl.lit(world.scenarios.filter("active").height),
            windows=pl.lit(len(WINDOWS)),
            week_end=pl.col("week_end").fill_null(0),
            correlated_pairs=pl.when(pl.col("held_public") == 0).then(0).otherwise(included * included),
            clustered=pl.when((pl.col("held_public") == 0) | included.is_not_null()).then(
                ((pl.col("held_public") > 0) & (share > 0).fill_null(value=False)).cast(pl.Int64)
            ),
        )
    )


def _by_session(days: pl.DataFrame, world: World, timeline: Timeline, books: Sequence[_Life]) -> pl.DataFrame:
    """Every session with the sizes of engines that work by symbol."""
    listed = world.instruments.filter(pl.col("kind").is_in(REGRESSED_INSTRUMENTS)).drop_nulls("first_session")
    day = day_numbers(days.get_column("session_date"))
    begun = np.searchsorted(np.sort(day_numbers(listed.get_column("first_session"))), day, side="right")
    ended = np.searchsorted(np.sort(day_numbers(listed.get_column("last_session"))), day, side="left")
    return days.join(world.priced, on="session_date", how="left").with_columns(
        portfolio_id=pl.lit(ALL_PORTFOLIOS),
        listed=pl.Series(begun - ended, dtype=pl.Int64),
        returning=pl.col("returning").fill_null(0),
        curve=(pl.col("session_date") >= pl.lit(world.first_yield, dtype=pl.Date))
        .fill_null(value=False)
        .cast(pl.Int64),
        weightings=pl.lit(len(Weighting)),
        regressed=pl.lit(regressed_factors(world.factors).height),
        held_symbols=_held_symbols(world, timeline, books, day),
    )


def _held_symbols(world: World, timeline: Timeline, books: Sequence[_Life], day: IntArray) -> pl.Series:
    """Symbols with prices of their own that a portfolio holds at each of the days `day` and are traded still; 1 at
    least, for proxies are regressed whatever is held."""
    known = world.instruments.filter(pl.col("kind").is_in(REGRESSED_INSTRUMENTS))
    until = dict(zip(known.get_column("symbol"), day_numbers(known.get_column("last_session")), strict=True))
    number = timeline.on_or_before(day)
    held: dict[str, NDArray[np.bool_]] = {}
    for life in books:
        for symbol, start, end, private in zip(life.symbol, life.start, life.until, life.private, strict=True):
            if not private and symbol in until:
                now = (start <= number) & (number < end) & (day <= until[symbol])
                held[symbol] = held.get(symbol, np.False_) | now
    count = np.sum(list(held.values()), axis=0) if held else np.zeros(len(day))
    return pl.Series(np.maximum(count, 1), dtype=pl.Int64)


def _week_ends(timeline: Timeline) -> pl.DataFrame:
    day = pl.col("session_date")
    dates = timeline.dates.alias("session_date").to_frame()
    return (
        dates.group_by(year=day.dt.iso_year(), week=day.dt.week())
        .agg(day.max())
        .select("session_date", week_end=pl.lit(1))
    )


def _of_engines(sizes: pl.DataFrame, engines: Sequence[Engine], coverage_warning: float) -> pl.DataFrame:
    parts = []
    for engine in engines:
        known = [pl.col(name).cast(pl.Int64) for name in engine.sizes]
        product = reduce(mul, known, pl.lit(1, dtype=pl.Int64))
        nothing = pl.coalesce(
            "none", *(pl.when(size == 0).then(pl.lit(WHY_NONE.get(size.meta.output_name()))) for size in known)
        )
        least = (product * coverage_warning).ceil().cast(pl.Int64) if engine.tolerant else product
        parts.append(
            sizes.select(
                *_KEYS,
                engine=pl.lit(engine.name),
                rows_expected=pl.when(nothing.is_not_null()).then(0).when(pl.lit(engine.exact)).then(product),
                rows_least=pl.when(nothing.is_not_null()).then(0).otherwise(least.fill_null(1)),
                reason=nothing,
            )
        )
    return pl.concat(parts)
