"""Option quotes of a run: asked of the source, judged beside the prices of the same run.

What belongs here: reading what the judgement needs. What does not: the judgement (``market_data.option_screening``),
and writing quotes, which happens together with prices (``assets.market_data``).
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl

from sigmasight_pipeline.assets.session_run import SessionRun
from sigmasight_pipeline.calculations.option_volatility import historical_lookback
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.market_data.instruments import option_listings
from sigmasight_pipeline.market_data.option_screening import REASONS, Limits, Market, ScreenedQuotes, screen_options
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.windows import last_known
from sigmasight_pipeline.symbols import parse_option


def screened_quotes(
    run: SessionRun,
    source: MarketDataSource,
    *,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    prices: pl.DataFrame,
    actions: pl.DataFrame,
    rejections: pl.DataFrame,
) -> ScreenedQuotes:
    """The quotes of the contracts of `positions` in the run's sessions, and earlier ones they confirm.

    `prices`: rows of ``daily_prices`` as the run will store them, with those it releases into earlier sessions;
    `actions`: rows of ``corporate_actions`` from the first on record; `rejections`: rows of ``rejected_prices`` of the
    run's sessions and every one that waits.
    """
    contracts = option_listings(positions, actions)
    quotes = source.option_bars(contracts, run.first, run.last).filter(pl.col("session_date").is_in(run.sessions))
    alive = [contract for contract in contracts if parse_option(contract).expiration_date >= run.first]
    previous = run.read(last_known(tables.option_prices, known="close")).filter(
        pl.col("session_date") < run.first, pl.col("symbol").is_in(alive)
    )
    about_options = rejections.filter(pl.col("reason").is_in(REASONS))
    underlyings = sorted({parse_option(contract).underlying for contract in contracts})
    names = [*underlyings, *_continuations(underlyings, instruments)]
    values = run.settings
    known = _prices(run, names, prices, [*previous["session_date"], *about_options["session_date"]])
    own_actions = actions.filter(pl.col("symbol").is_in(names))
    opened = run.calendar.filter(~pl.col("is_closed"))["session_date"]
    return screen_options(
        quotes,
        previous=previous,
        rejections=about_options,
        last=run.last,
        market=Market(
            calendar=run.calendar,
            prices=known,
            actions=own_actions,
            instruments=instruments,
            returns=daily_returns(known, own_actions, run.calendar, opened.filter(opened <= run.last).to_list()),
        ),
        limits=Limits(
            default_treasury_yield=values.default_treasury_yield,
            historical_volatility_window=values.historical_volatility_window,
            historical_volatility_min=values.historical_volatility_min,
        ),
        source=source.name,
        now=datetime.now(UTC),
    )


def _continuations(underlyings: list[str], instruments: pl.DataFrame) -> list[str]:
    """The names under which underlyings trade on."""
    successor = dict(instruments.drop_nulls("replaced_by").select("symbol", "replaced_by").iter_rows())
    found: list[str] = []
    for name in underlyings:
        following = successor.get(name)
        while following is not None and following not in found and following != name:
            found.append(following)
            following = successor.get(following)
    return found


def _prices(run: SessionRun, names: list[str], prices: pl.DataFrame, days: list[date]) -> pl.DataFrame:
    """Closes of `names`: of the run, and stored ones as far back as a historical volatility at any of `days` reads."""
    opened = run.calendar.filter(~pl.col("is_closed"))["session_date"].unique().sort()
    start = int(opened.search_sorted(min([*days, run.first])))
    # one more, for the return of the first session
    reach = max(start - historical_lookback(run.settings.historical_volatility_window) - 1, 0)
    stored = run.database.read(
        tables.daily_prices,
        where="symbol = ANY(%s) AND session_date BETWEEN %s AND %s",
        params=(names, opened[reach], run.last),
    )
    received = prices.filter(pl.col("symbol").is_in(names))
    return pl.concat([stored.join(received, on=["session_date", "symbol"], how="anti"), received]).sort(
        "session_date", "symbol"
    )
