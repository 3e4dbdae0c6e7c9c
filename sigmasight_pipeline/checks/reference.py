"""Rules of the reference assets: what an import must have left behind, and how far the calendar reaches.

What belongs here: rules on portfolios, positions, sessions, instruments, factors and scenarios as stored. What does
not: rules on session results (the sibling modules).
"""

from __future__ import annotations

import json
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.factor_returns import PROXY_KINDS, RATE_KIND
from sigmasight_pipeline.calculations.stress_factors import MARKET
from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing
from sigmasight_pipeline.sessions import MINIMUM_HORIZON_DAYS
from sigmasight_pipeline.storage import tables


def _today(judged: Judged, frame: pl.DataFrame, detail: pl.Expr) -> pl.DataFrame:
    return findings(frame.with_columns(session_date=pl.lit(judged.sessions[0])), detail)


def _horizon(judged: Judged) -> pl.DataFrame:
    last = judged.frame["session_date"].max()
    ahead = (last - judged.sessions[0]).days if isinstance(last, date) else -1
    if ahead >= MINIMUM_HORIZON_DAYS:
        return nothing()
    detail = f"the calendar ends {ahead} days ahead: restart the code location to load it anew"
    return findings(pl.DataFrame({"session_date": [judged.sessions[0]]}), pl.lit(detail))


HORIZON = Rule(
    "calendar_horizon",
    "WARN",
    f"The calendar reaches at least {MINIMUM_HORIZON_DAYS} days ahead.",
    _horizon,
)

EQUITY_POSITIVE = Rule(
    "equity_positive",
    "ERROR",
    "Every portfolio has a positive equity at inception.",
    lambda judged: _today(
        judged,
        judged.frame.filter(pl.col("initial_equity") <= 0),
        pl.format("{} has initial equity {}", "code", pl.col("initial_equity").cast(pl.String)),
    ),
)

_LONG = ("LONG", "LC", "LP")

_SIGN = Rule(
    "sign_fits_type",
    "ERROR",
    "Long types have a positive quantity, short types a negative one.",
    lambda judged: _today(
        judged,
        judged.frame.filter(
            pl.when(pl.col("position_type").is_in(_LONG))
            .then(pl.col("quantity") <= 0)
            .otherwise(pl.col("quantity") >= 0)
        ),
        pl.format("position {} ({}) is {}", "position_id", "symbol", "position_type"),
    ),
)

_OPTION_FIELDS = ("underlying_symbol", "option_kind", "strike_price", "expiration_date")

_COMPLETE = Rule(
    "option_fields_complete",
    "ERROR",
    "An option has underlying, kind, strike and expiration; anything else has none of them.",
    lambda judged: _today(
        judged,
        judged.frame.filter(
            pl.when(pl.col("investment_class") == "OPTIONS")
            .then(pl.any_horizontal(pl.col(name).is_null() for name in _OPTION_FIELDS))
            .otherwise(pl.any_horizontal(pl.col(name).is_not_null() for name in _OPTION_FIELDS))
        ),
        pl.format("position {} ({})", "position_id", "symbol"),
    ),
)


def _entry_on_session(judged: Judged) -> pl.DataFrame:
    # sessions before the installation's first one are not stored; entries there were moved when imported
    known = judged.database.read(tables.trading_sessions, columns=["session_date"])
    if known.is_empty():
        return nothing()
    first = known["session_date"].min()
    off = judged.frame.filter(
        (pl.col("entry_date") >= first) & ~pl.col("entry_date").is_in(known["session_date"].implode())
    )
    return _today(
        judged,
        off,
        pl.format("position {} ({}) entered on {}", "position_id", "symbol", pl.col("entry_date").cast(pl.String)),
    )


_ON_SESSION = Rule("entry_on_session", "WARN", "Every entry is on a session.", _entry_on_session)

POSITION_RULES = (_SIGN, _COMPLETE, _ON_SESSION)

LONGEST_DURATION = 40.0
"""Years: beyond that of a 40-year zero-coupon bond a duration is a typing error."""


def _unknown_symbols(judged: Judged) -> pl.DataFrame:
    """Symbols that positions, portfolios or active factors name and no instrument has."""
    factors = judged.inputs["factors"].filter("active")
    named = pl.concat(
        [
            judged.inputs["positions"].select("symbol", by=pl.lit("a position")),
            judged.inputs["positions"].select(symbol="underlying_symbol", by=pl.lit("an option")),
            judged.inputs["portfolios"].select(symbol="benchmark_symbol", by=pl.lit("a portfolio, as benchmark")),
            factors.select(symbol="proxy_symbol", by=pl.format("factor {}", "factor")),
        ]
    )
    unknown = named.drop_nulls("symbol").unique().join(judged.frame, on="symbol", how="anti").sort("symbol", "by")
    return _today(judged, unknown, pl.format("{} is named by {} and is no instrument", "symbol", "by"))


_SYMBOLS_KNOWN = Rule(
    "symbols_known",
    "ERROR",
    "Every symbol that a position, an option, a portfolio or an active factor names is an instrument.",
    _unknown_symbols,
)


def _broken_links(judged: Judged) -> pl.DataFrame:
    links = judged.frame.filter(pl.col("replaced_by").is_not_null())
    follows = dict(links.select("symbol", "replaced_by").iter_rows())
    known = set(judged.frame["symbol"])

    def fault(symbol: str) -> str | None:
        if follows[symbol] not in known:
            return f"{symbol} is replaced by {follows[symbol]}, which is no instrument"
        seen, at = {symbol}, follows[symbol]
        while at in follows and at not in seen:
            seen.add(at)
            at = follows[at]
        return f"{symbol} is replaced by itself, over {len(seen) - 1} name(s)" if at in seen else None

    told = [detail for symbol in sorted(follows) if (detail := fault(symbol)) is not None]
    undated = links.filter(pl.col("last_session").is_null()).sort("symbol")["symbol"]
    told += [f"{symbol} is replaced by {follows[symbol]} without a last session, so never" for symbol in undated]
    return _today(judged, pl.DataFrame({"told": told}, schema={"told": pl.String()}), pl.col("told"))


_LINKS = Rule(
    "successors_lead_somewhere",
    "ERROR",
    "A replaced symbol has a last session, its successor is an instrument, and no chain of successors is a circle.",
    _broken_links,
)

_DURATIONS = Rule(
    "durations_plausible",
    "WARN",
    f"A duration is given in years: above 0, at most {LONGEST_DURATION:g}.",
    lambda judged: _today(
        judged,
        judged.frame.filter(~pl.col("duration").is_between(0, LONGEST_DURATION, closed="right")),
        pl.format("{} has duration {}", "symbol", "duration"),
    ),
)

_TRADED = Rule(
    "trading_life_in_order",
    "ERROR",
    "No instrument stops trading before it begins.",
    lambda judged: _today(
        judged,
        judged.frame.filter(pl.col("last_session") < pl.col("first_session")),
        pl.format("{} trades from {} to {}", "symbol", "first_session", "last_session"),
    ),
)

INSTRUMENTS = (_SYMBOLS_KNOWN, _LINKS, _TRADED, _DURATIONS)


def _without_proxy(judged: Judged) -> pl.DataFrame:
    lacking = judged.frame.filter("active", pl.col("kind").is_in(PROXY_KINDS), pl.col("proxy_symbol").is_null())
    return _today(judged, lacking.sort("factor"), pl.format("{} ({}) has no proxy", "factor", "kind"))


_PROXIES_GIVEN = Rule("proxies_given", "ERROR", "Every active factor that is a return has a proxy.", _without_proxy)


def _market(judged: Judged) -> pl.DataFrame:
    active = judged.frame.filter("active")
    told = [] if active.filter(pl.col("factor") == MARKET).height else [f"no active factor is {MARKET}"]
    rates = sorted(active.filter(pl.col("kind") == RATE_KIND)["factor"])
    if len(rates) > 1:
        told.append(f"{len(rates)} active factors are the yield's change: {', '.join(rates)}")
    return _today(judged, pl.DataFrame({"told": told}, schema={"told": pl.String()}), pl.col("told"))


_MARKET_GIVEN = Rule(
    "market_given",
    "ERROR",
    f"{MARKET} is an active factor (scenarios, accuracy and attribution need it), and one at most is the yield's.",
    _market,
)

_PROXIES_DISTINCT = Rule(
    "proxies_distinct",
    "WARN",
    "No two active factors share a proxy: they would be one factor counted twice.",
    lambda judged: _today(
        judged,
        judged.frame.filter("active")
        .drop_nulls("proxy_symbol")
        .group_by("proxy_symbol")
        .agg(pl.col("factor").sort())
        .filter(pl.col("factor").list.len() > 1)
        .sort("proxy_symbol"),
        pl.format("{} is the proxy of {}", "proxy_symbol", pl.col("factor").list.join(", ")),
    ),
)

FACTOR_DEFINITIONS = (_PROXIES_GIVEN, _MARKET_GIVEN, _PROXIES_DISTINCT)


def _unknown_shocks(judged: Judged) -> pl.DataFrame:
    active = set(judged.inputs["factors"].filter("active")["factor"])
    told = []
    for scenario, shocks in (
        judged.frame.filter("active").select("scenario_id", "shocks").sort("scenario_id").iter_rows()
    ):
        lacking = sorted(set(json.loads(shocks) if shocks else {}) - active)
        told += [f"{scenario} shocks {', '.join(lacking)}, no active factor(s)"] if lacking else []
    return _today(judged, pl.DataFrame({"told": told}, schema={"told": pl.String()}), pl.col("told"))


_SHOCKS_KNOWN = Rule(
    "shocked_factors_known",
    "WARN",
    "Every factor an active scenario shocks is an active factor.",
    _unknown_shocks,
)


def _none_active(judged: Judged) -> pl.DataFrame:
    told = [] if judged.frame["active"].any() else [f"none of {judged.frame.height} scenario(s) is active"]
    return _today(judged, pl.DataFrame({"told": told}, schema={"told": pl.String()}), pl.col("told"))


_SOME_ACTIVE = Rule("some_scenario_active", "WARN", "At least one scenario is active.", _none_active)

STRESS_TEST_SCENARIOS = (_SHOCKS_KNOWN, _SOME_ACTIVE)
