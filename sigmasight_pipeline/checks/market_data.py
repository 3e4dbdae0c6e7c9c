"""Domain rules of the market data assets: is every needed price there, and is each one believable.

What belongs here: rules on prices, actions, yields and returns of a run. What does not: deciding which received price
is stored (``market_data.screening``); its findings arrive here as frames and become verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing
from sigmasight_pipeline.market_data.continuity import split_breaks
from sigmasight_pipeline.market_data.coverage import repeated_closes
from sigmasight_pipeline.market_data.option_screening import REASONS as OPTION_REASONS
from sigmasight_pipeline.market_data.screening import Notice
from sigmasight_pipeline.storage import judging

REPEATED_SESSIONS = 5
"""A close that does not move for this many sessions is more often a dead feed than a quiet stock."""


def _below(limit: str) -> object:
    def judge(judged: Judged) -> pl.DataFrame:
        short = judged.inputs["coverage"].filter(pl.col("coverage") < judged.limits[limit])
        return findings(
            short,
            pl.format(
                "{}% of {} needed symbols have a price",
                (pl.col("coverage") * 100).round(1).cast(pl.String),
                "needed",
            ),
        )

    return judge


COVERAGE_ERROR = Rule(
    "coverage",
    "ERROR",
    "Enough of the held and factor symbols have a price (setting coverage_error). The chain is written up to the "
    "session before the first that fails.",
    _below("coverage_error"),  # type: ignore[arg-type]  # a closure over the name of its limit
)

COVERAGE_WARNING = Rule(
    "coverage_complete",
    "WARN",
    "Nearly all of the held and factor symbols have a price (setting coverage_warning).",
    _below("coverage_warning"),  # type: ignore[arg-type]  # as above
)

PRICES_ARRIVED = Rule(
    "newest_sessions_priced",
    "WARN",
    "The source has prices of the newest sessions; those it has none of yet are left out and computed once it has.",
    lambda judged: findings(judged.inputs["waiting"], pl.lit("no prices yet: the session waits for them")),
)

MISSING = Rule(
    "missing_symbols",
    "WARN",
    "Every held and factor symbol has a price.",
    lambda judged: findings(
        judged.inputs["missing"].group_by("session_date").agg(pl.col("symbol").str.join(", ")),
        pl.format("no price of {}", "symbol"),
    ),
)

NEVER_PRICED = Rule(
    "factor_proxies_priced",
    "WARN",
    "The source has prices of every active factor's proxy; a factor without is left out of factor figures.",
    lambda judged: (
        findings(
            judged.inputs["unpriced_proxies"].with_columns(session_date=pl.lit(judged.sessions[-1])),
            pl.format("{} ({}) was never priced", "proxy_symbol", "factor"),
        )
        if judged.sessions
        else nothing()
    ),
)


def _noticed(*notices: Notice) -> object:
    """What the screening noticed of stored prices, of these kinds."""

    def judge(judged: Judged) -> pl.DataFrame:
        told = judged.inputs["notices"].filter(pl.col("notice").is_in([notice.value for notice in notices]))
        return findings(told, pl.col("detail"))

    return judge


_OF_OPTIONS = pl.col("reason").is_in(OPTION_REASONS).fill_null(value=False)

LARGE_MOVES = Rule(
    "large_moves",
    "WARN",
    "No price moved by more than the limit (setting large_move) without a corporate action.",
    _noticed(Notice.LARGE_MOVE),  # type: ignore[arg-type]  # a closure over its kinds of notice
)

REJECTED = Rule(
    "rejected_rows",
    "WARN",
    "No received price was refused, quarantined, sent twice or partly unusable (see rejected_prices).",
    lambda judged: pl.concat(
        [
            findings(judged.inputs["rejections"].filter(~_OF_OPTIONS), pl.col("detail")),
            findings(
                judged.inputs["notices"].filter(
                    pl.col("notice").is_in([Notice.DUPLICATE_SESSION.value, Notice.UNUSABLE_OPEN_HIGH_LOW.value])
                ),
                pl.col("detail"),
            ),
        ]
    ),
)

RESTATED = Rule(
    "restated_values",
    "WARN",
    "No stored price was replaced by a different one, and none was released from quarantine.",
    _noticed(Notice.RESTATED, Notice.RELEASED),  # type: ignore[arg-type]  # as above
)


def _repeated(judged: Judged) -> pl.DataFrame:
    """Closes that stopped moving. One that never moved may be at rest by nature, as a money market fund's is: of a fund
    it is nothing to tell, of anything else it is told once."""
    same = repeated_closes(judged.inputs["with_history"], sessions=REPEATED_SESSIONS).filter(
        pl.col("session_date").is_in(list(judged.sessions))
    )
    if same.is_empty():
        return nothing()
    moved = judging.movements(judged.database, same["symbol"].unique().sort().to_list(), sessions=REPEATED_SESSIONS)
    funds = judged.inputs["instruments"].filter(pl.col("kind") == "fund").get_column("symbol")
    stopped = pl.col("session_date") > pl.col("moved_on")
    noticed = (pl.col("session_date") == pl.col("noticed_on")) & ~pl.col("symbol").is_in(funds.implode())
    return findings(
        same.join(moved, on="symbol", how="left").filter(stopped.fill_null(value=False) | noticed),
        pl.format("{}: close {} again", "symbol", pl.col("close").cast(pl.String)),
    )


REPEATED = Rule(
    "repeated_closes",
    "WARN",
    f"No close stayed the same for {REPEATED_SESSIONS} sessions; one that never moved is told once, of a fund never.",
    _repeated,
)

INSIDE_RANGE = Rule(
    "close_inside_range",
    "ERROR",
    "Every close lies between the day's low and high.",
    lambda judged: findings(
        judged.frame.filter((pl.col("close") < pl.col("low")) | (pl.col("close") > pl.col("high"))),
        pl.format(
            "{}: close {} outside {} to {}",
            "symbol",
            pl.col("close").cast(pl.String),
            pl.col("low").cast(pl.String).fill_null("?"),
            pl.col("high").cast(pl.String).fill_null("?"),
        ),
    ),
)

DAILY_PRICES: Sequence[Rule] = (
    COVERAGE_ERROR,
    COVERAGE_WARNING,
    PRICES_ARRIVED,
    MISSING,
    NEVER_PRICED,
    INSIDE_RANGE,
    LARGE_MOVES,
    REPEATED,
    REJECTED,
    RESTATED,
)


def _discontinuities(judged: Judged, *, forgotten: bool) -> pl.DataFrame:
    breaks = split_breaks(
        prices=judged.inputs["with_history"],
        option_prices=judged.inputs["option_history"],
        actions=judged.inputs["actions"],
        instruments=judged.inputs.get("instruments"),
        tolerance=judged.limits["split_tolerance"],
    )
    told = breaks.filter(pl.col("session_date").is_in(list(judged.sessions)), pl.col("forgotten") == forgotten)
    return findings(told, pl.col("detail"))


SPLITS_CONTINUOUS = Rule(
    "value_continuous_through_splits",
    "ERROR",
    "Quantity times price is continuous through every split (setting split_tolerance), of shares and of options. Of an "
    "option only a change by about the split's ratio counts, a forgotten adjustment.",
    lambda judged: _discontinuities(judged, forgotten=True),
)

LOWEST_QUOTED_VOLATILITY, HIGHEST_QUOTED_VOLATILITY = 0.01, 10.0
"""A vendor's annual volatility outside is a percentage taken for a decimal, or no volatility."""

QUOTES_IN_ORDER = Rule(
    "quotes_in_order",
    "WARN",
    "No bid of an option is above its ask.",
    lambda judged: findings(
        judged.frame.filter(pl.col("bid") > pl.col("ask")),
        pl.format("{}: bid {}, ask {}", "symbol", pl.col("bid").cast(pl.String), pl.col("ask").cast(pl.String)),
    ),
)

QUOTED_VOLATILITIES = Rule(
    "quoted_volatilities_plausible",
    "WARN",
    f"A vendor's volatility is a decimal from {LOWEST_QUOTED_VOLATILITY:g} to {HIGHEST_QUOTED_VOLATILITY:g}.",
    lambda judged: findings(
        judged.frame.filter(
            ~pl.col("implied_volatility").is_between(LOWEST_QUOTED_VOLATILITY, HIGHEST_QUOTED_VOLATILITY)
        ),
        pl.format("{}: volatility {}", "symbol", "implied_volatility"),
    ),
)

OPTIONS_CONTINUOUS = Rule(
    "option_value_near_model_through_splits",
    "WARN",
    "Through a split an option is worth what its last volatility gives (setting split_tolerance).",
    lambda judged: _discontinuities(judged, forgotten=False),
)

QUARANTINED_CLOSES = Rule(
    "no_close_in_quarantine",
    "WARN",
    "No close of an option is outside its no-arbitrage bounds, or at a volatility nothing bears out: such a one is "
    "neither used nor carried (see rejected_prices).",
    lambda judged: findings(
        judged.inputs["rejections"].filter(_OF_OPTIONS, pl.col("status") == "quarantined"),
        pl.col("detail"),
    ),
)

OPTION_CLOSES: Sequence[Rule] = (QUARANTINED_CLOSES, OPTIONS_CONTINUOUS, QUOTES_IN_ORDER, QUOTED_VOLATILITIES)

YIELDS_COMPLETE = Rule(
    "ten_year_yield_present",
    "WARN",
    "Every session has a 10-year yield, observed or carried over a bond-market holiday.",
    lambda judged: findings(
        pl.DataFrame({"session_date": list(judged.sessions)}, schema={"session_date": pl.Date()}).join(
            judged.frame.filter(pl.col("tenor") == "10Y"), on="session_date", how="anti"
        ),
        pl.lit("no 10-year yield"),
    ),
)

RETURNS_COMPLETE = Rule(
    "expected_rows",
    "ERROR",
    "Every price with an earlier close has a return.",
    lambda judged: findings(
        judged.inputs["prices"]
        .sort("symbol", "session_date")
        .filter(pl.col("session_date") > pl.col("session_date").min().over("symbol"))
        .filter(pl.col("session_date").is_in(list(judged.sessions)))
        .join(judged.frame, on=["session_date", "symbol"], how="anti"),
        pl.format("{} has a price and no return", "symbol"),
    ),
)
