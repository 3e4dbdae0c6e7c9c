"""The dividend yield options are priced with: what the underlying paid in the last year, at its price.

What belongs here: summing the dividends of a year and turning them into a continuous rate. What does not: forecasts,
and what a yield does to a price (``option_pricing``).
"""

from __future__ import annotations

import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.exercise_styles import INDEX_PROXIES
from sigmasight_pipeline.calculations.splits import continued

YEAR = 365
"""Calendar days of dividends that make the yield."""

LARGEST_YIELD = 0.20
"""A higher one is a liquidation or an error of the data, not what the next year pays."""

LONGEST_BREAK = 4
"""Calendar days without a session at most (a holiday beside a weekend): a calendar that starts later than this after
the beginning of the year does not cover it."""

_KEYS = ["symbol", "session_date"]


def dividend_yields(
    days: pl.DataFrame,
    *,
    calendar: pl.DataFrame,
    prices: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
) -> pl.DataFrame:
    """`days` (symbol, session_date, price: valuation price, US dollars, or NULL) with `dividend_yield`, in their order.

    - Stated: `instruments.dividend_yield`, as it is.
    - Else ln(1 + dividends of the `YEAR` days up to the session, each per share of the session / price), continuously
      compounded, decimal, at most `LARGEST_YIELD`. 0 where no year of actions is on record: where the symbol had no
      price (under this name or one it continues) on or before the first open session of that year.
    - An index: stated, else the yield of the fund that stands for it (``exercise_styles.INDEX_PROXIES``), else 0.

    `prices`, `actions`, `instruments`, `calendar`: rows of the tables of those names (``trading_sessions``), the
    actions from the first on record; of each symbol the last close before the first of `days` and those since. A
    session's yield reads nothing after it. Never NULL. Source: calculations.md section 5.
    """
    symbols = days["symbol"].unique().sort().to_list()
    stated = dict(instruments.select("symbol", "dividend_yield").drop_nulls("dividend_yield").iter_rows())
    kinds = dict(instruments.select("symbol", "kind").iter_rows())
    proxied = {
        symbol: INDEX_PROXIES.get(symbol) for symbol in symbols if kinds.get(symbol) == "index" and symbol not in stated
    }
    proxies = sorted({proxy for proxy in proxied.values() if proxy is not None} - set(stated))
    at_proxies = _priced(days["session_date"].unique().sort(), proxies, prices, actions)
    own = pl.concat([days.select(*_KEYS, "price"), at_proxies]).unique(_KEYS, keep="first")
    paid = _of_own_dividends(own, calendar, continued(actions, instruments, "ex_date"), _first_prices(instruments))
    wanted = days.select(
        session_date="session_date",
        symbol=pl.col("symbol").replace({name: proxy or "" for name, proxy in proxied.items()}),
    )
    found = wanted.join(paid, on=_KEYS, how="left", maintain_order="left")
    told = pl.coalesce(
        days["symbol"].replace_strict(stated, default=None, return_dtype=pl.Float64),
        found["symbol"].replace_strict(stated, default=None, return_dtype=pl.Float64),
        found["dividend_yield"],
        pl.lit(0.0),
    )
    return days.with_columns(dividend_yield=told)


def _of_own_dividends(
    days: pl.DataFrame, calendar: pl.DataFrame, actions: pl.DataFrame, first_prices: pl.DataFrame
) -> pl.DataFrame:
    """Columns symbol, session_date, dividend_yield of the symbols' own dividends."""
    year_before = pl.col("session_date").dt.offset_by(f"-{YEAR}d")
    dividends = actions.filter(pl.col("kind") == "dividend").select("symbol", "ex_date", "cash_amount")
    pairs = (
        days.select(_KEYS)
        .join(dividends, on="symbol")
        .filter(pl.col("ex_date") > year_before, pl.col("ex_date") <= pl.col("session_date"))
        # a dividend that goes ex together with a split is per old share
        .with_columns(before=pl.col("ex_date").dt.offset_by("-1d"))
    )
    paid = (
        SplitRatios(actions)
        .between(pairs, after="before", through="session_date")
        .with_columns(
            share=pl.col("cash_amount").cast(pl.Float64) * pl.col("denominator") / pl.col("numerator"),
        )
        .sort("symbol", "session_date", "ex_date")
        # in order of the ex-dates, so that the sum is the same in every batch
        .group_by(_KEYS, maintain_order=True)
        .agg(paid=pl.col("share").cum_sum().last())
    )
    opened = calendar.filter(~pl.col("is_closed")).select(start="session_date").unique().sort("start")
    rate = (1.0 + pl.col("paid") / pl.col("price").cast(pl.Float64)).log().clip(upper_bound=LARGEST_YIELD)
    on_record = (pl.col("first_session") <= pl.col("start")) & (
        pl.col("start") <= pl.col("year_before").dt.offset_by(f"{LONGEST_BREAK}d")
    )
    return (
        days.with_columns(year_before=year_before)
        .sort("year_before")
        .join_asof(opened, left_on="year_before", right_on="start", strategy="forward", coalesce=False)
        .join(first_prices, on="symbol", how="left")
        .join(paid, on=_KEYS, how="left")
        .select(*_KEYS, dividend_yield=pl.when(on_record & (pl.col("price") > 0)).then(rate).fill_null(0.0))
    )


def _first_prices(instruments: pl.DataFrame) -> pl.DataFrame:
    """The first priced session of each symbol, or of a name it continues: symbol, first_session."""
    rows = instruments.drop_nulls("first_session")
    predecessors = rows.drop_nulls("replaced_by").select("first_session", symbol="replaced_by")
    return (
        pl.concat([rows.select("symbol", "first_session"), predecessors.select("symbol", "first_session")])
        .group_by("symbol")
        .agg(pl.col("first_session").min())
    )


def _priced(sessions: pl.Series, symbols: list[str], prices: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """The last close of each symbol at each session, divided by the splits since: symbol, session_date, price."""
    closes = prices.filter(pl.col("symbol").is_in(symbols)).select("symbol", "close", seen="session_date").sort("seen")
    found = (
        pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
        .join(sessions.to_frame("session_date"), how="cross")
        .sort("session_date")
        .join_asof(closes, left_on="session_date", right_on="seen", by="symbol", coalesce=False, check_sortedness=False)
    )
    shares = SplitRatios(actions).between(found, after="seen", through="session_date")
    return shares.select(*_KEYS, price=pl.col("close").cast(pl.Float64) * pl.col("denominator") / pl.col("numerator"))
