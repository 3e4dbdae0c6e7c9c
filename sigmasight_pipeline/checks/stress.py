"""Domain rules of scenarios: rows that must be there, identities of shocks, plausible outcomes.

What belongs here: rules on ``market_risk_scenarios`` and ``stress_test_results`` (with the tables written with it) as
written. What does not: rules on the moments scenarios rest on (``checks.factor_moments``),
on betas and exposures, and bounds a row can be judged by alone (``checks.schema``: figures are finite).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import polars as pl

from sigmasight_pipeline.calculations.factor_returns import RATE_KIND
from sigmasight_pipeline.calculations.money import MONEY, from_units, nearest_units
from sigmasight_pipeline.calculations.portfolio_lives import alive_at
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.stress import single_shocks
from sigmasight_pipeline.calculations.stress_factors import MARKET
from sigmasight_pipeline.checks import stress_scenarios as scenario_rules
from sigmasight_pipeline.checks.factor_moments import FACTOR_CORRELATIONS
from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing

__all__ = ["FACTOR_CORRELATIONS", "MARKET_RISK_SCENARIOS", "STRESS_TEST_RESULTS"]

IDENTITY_TOLERANCE = 1e-12
"""How near an implied return must be to the shock, or to beta x shock, it is by definition."""

CENT = 0.01

_MODELLED = ("underlying_price", "time_to_expiry", "risk_free_rate", "volatility", "dividend_yield", "exercise_style")
"""What an option is re-priced with; without one of them it has no figure."""

_KEYS = ["session_date", "portfolio_id"]
_POSITION = ["session_date", "position_id"]
_SYMBOL_RETURNS = "symbol_scenario_returns"
_OPTION_PNL = "option_scenario_pnl"
_DIAGNOSTICS = "stress_scenario_diagnostics"
_SHOCKS = "stress_scenario_shocks"

_WITHOUT_FIGURE = ("low_coverage", "factor_without_data", "insufficient_history", "ill_conditioned")
"""Reasons somebody can do something about; that stored prices do not reach a replay's window is none."""


def _expected(judged: Judged) -> pl.DataFrame:
    """Every (session_date, portfolio_id, code) that must have results."""
    return alive_at(judged.sessions, judged.inputs["portfolios"], "code")


def _missing(judged: Judged, key: str, ids: Sequence[str], what: str) -> pl.DataFrame:
    """Rows by portfolio, session and `key` that are missing, and those that should not be there."""
    listed = pl.DataFrame({key: list(ids)}, schema={key: pl.String()})
    expected = _expected(judged).join(listed, how="cross")
    gone = expected.join(judged.frame, on=[*_KEYS, key], how="anti")
    extra = judged.frame.join(expected, on=[*_KEYS, key], how="anti")
    named = pl.col(key).sort().str.join(", ")
    return pl.concat(
        [
            findings(gone.group_by(*_KEYS, "code").agg(named=named), pl.format("{} has no row of {}", "code", "named")),
            findings(
                extra.group_by(_KEYS).agg(named=named),
                pl.format("portfolio {} has rows of no active {}: {}", "portfolio_id", pl.lit(what), "named"),
            ),
        ]
    )


def _held(judged: Judged) -> pl.DataFrame:
    """Held PUBLIC and OPTIONS positions with the symbol whose returns and betas they take."""
    facts = (
        judged.inputs["positions"]
        .filter(pl.col("investment_class") != "PRIVATE")
        .select("position_id", "investment_class", "symbol")
    )
    greeks = judged.inputs["position_greeks"].select(*_POSITION, "risk_symbol", "delta_adjusted_exposure", *_MODELLED)
    return (
        judged.inputs["position_values"]
        .filter(~pl.col("price_source").is_in(EXIT_SOURCES), pl.col("session_date").is_in(list(judged.sessions)))
        .select(*_POSITION, "portfolio_id", "quantity", "exposure")
        .join(facts, on="position_id")
        .join(greeks, on=_POSITION)
    )


def _without_figure(judged: Judged, key: str) -> pl.DataFrame:
    unknown = (
        judged.frame.filter(pl.col("status").is_in(_WITHOUT_FIGURE))
        .group_by(*_KEYS, "status")
        .agg(named=pl.col(key).sort().str.join(", "))
    )
    return findings(unknown, pl.format("no figure ({}) for {}", "status", "named"))


def _long_only(judged: Judged, key: str, pnl: str) -> pl.DataFrame:
    """Losses beyond the gross exposure of portfolios that hold nothing but long stocks and funds."""
    plain = (pl.col("investment_class") == "PUBLIC") & (pl.col("quantity") > 0)
    limits = _held(judged).group_by(_KEYS).agg(plain=plain.all(), gross=pl.col("exposure").sum()).filter("plain")
    beyond = judged.frame.join(limits, on=_KEYS).filter(pl.col(pnl) < -pl.col("gross"))
    return findings(
        beyond,
        pl.format(
            "{} loses {} of a gross exposure of {}",
            key,
            (-pl.col(pnl)).cast(pl.String),
            pl.col("gross").cast(pl.String),
        ),
    )


_LONG_ONLY = "A portfolio of long stocks and funds alone loses at most its gross exposure."
_FIGURES = "Every scenario has a figure: enough of the exposure has a beta, every factor has data."


def _shocks(judged: Judged) -> pl.DataFrame:
    """One row per active scenario and total shock it states: scenario_id, factor, shock, and how many shocks it has."""
    stated = [
        (scenario_id, json.loads(text))
        for scenario_id, text in judged.inputs["scenarios"].filter("active").select("scenario_id", "shocks").iter_rows()
    ]
    rows = [
        (scenario_id, factor, None if isinstance(shock, dict) else float(shock))
        for scenario_id, shocks in stated
        for factor, shock in shocks.items()
    ]
    schema = {"scenario_id": pl.String(), "factor": pl.String(), "shock": pl.Float64()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(shocks=pl.len().over("scenario_id"))


RESULTS_PRESENT = Rule(
    "one_row_per_portfolio_and_scenario",
    "ERROR",
    "Every portfolio has a row for every active scenario and session of its life, and nothing else has.",
    lambda judged: _missing(
        judged,
        "scenario_id",
        judged.inputs["scenarios"].filter("active").get_column("scenario_id").to_list(),
        "scenario",
    ),
)


def _market_anchor(judged: Judged) -> pl.DataFrame:
    anchored = _shocks(judged).filter(pl.col("factor") == MARKET, pl.col("shocks") > 1)
    solved = judged.frame.filter(pl.col("effective_shocks").is_not_null()).join(anchored, on="scenario_id")
    effective = pl.col("effective_shocks").str.json_path_match(f"$.{MARKET}").cast(pl.Float64)
    off = solved.with_columns(effective=effective).filter(
        ((pl.col("effective") - pl.col("shock")).abs() > IDENTITY_TOLERANCE) | pl.col("effective").is_null()
    )
    proxy = judged.inputs["factors"].filter(pl.col("factor") == MARKET).select(symbol="proxy_symbol")
    moved = (
        judged.inputs[_SYMBOL_RETURNS]
        .join(proxy, on="symbol")
        .join(anchored, on="scenario_id")
        .filter((pl.col("implied_return") - pl.col("shock")).abs() > IDENTITY_TOLERANCE)
    )
    return pl.concat(
        [
            findings(
                off.unique([*_KEYS, "scenario_id"]),
                pl.format(
                    "{}: the market moves by {} instead of {}",
                    "scenario_id",
                    pl.col("effective").cast(pl.String).fill_null("nothing"),
                    "shock",
                ),
            ),
            findings(
                moved,
                pl.format(
                    "{}: the market's proxy {} moves by {} instead of {}",
                    "scenario_id",
                    "symbol",
                    "implied_return",
                    "shock",
                ),
            ),
        ]
    )


MARKET_ANCHOR = Rule(
    "market_anchor",
    "ERROR",
    "Where the market is shocked among others, it and its proxy move by exactly that shock.",
    _market_anchor,
)


def _single_shock(judged: Judged) -> pl.DataFrame:
    single = _shocks(judged).filter(pl.col("shocks") == 1)
    betas = judged.inputs["symbol_factor_betas"].select("session_date", "symbol", "factor", "beta")
    compared = (
        judged.inputs[_SYMBOL_RETURNS]
        .join(single, on="scenario_id")
        .join(betas, on=["session_date", "symbol", "factor"])
        .with_columns(expected=pl.max_horizontal(pl.col("beta") * pl.col("shock"), pl.lit(-1.0)))
        .drop_nulls("beta")
        .filter((pl.col("implied_return") - pl.col("expected")).abs() > IDENTITY_TOLERANCE)
    )
    return findings(
        compared,
        pl.format(
            "{}: {} moves by {}, its beta x shock is {}",
            "scenario_id",
            "symbol",
            "implied_return",
            "expected",
        ),
    )


SINGLE_SHOCK = Rule(
    "single_shock",
    "ERROR",
    "In a scenario of one shock every symbol moves by its beta x shock, but never loses more than everything.",
    _single_shock,
)

_SUMS = {"pnl": "total_pnl", "pnl_linear": "correlated_pnl"}


def _position_pnl(judged: Judged) -> pl.DataFrame:
    """P&L of every held position and scenario, by its symbol's return; of an option pnl is what was re-priced."""
    is_option = pl.col("investment_class") == "OPTIONS"
    known = pl.col("delta_adjusted_exposure").is_not_null() & (
        ~is_option | pl.all_horizontal(pl.col(name).is_not_null() for name in _MODELLED)
    )
    dollars = (pl.col("delta_adjusted_exposure").cast(pl.Float64) * pl.col("implied_return")).alias("P&L of a position")
    moved = (
        _held(judged)
        .filter(known)
        .select(*_POSITION, "portfolio_id", "delta_adjusted_exposure", symbol="risk_symbol", is_option=is_option)
        .join(judged.inputs[_SYMBOL_RETURNS], on=["session_date", "symbol"])
    )
    linear = from_units(nearest_units(moved.select(dollars).to_series(), MONEY), MONEY)
    return (
        moved.with_columns(pnl_linear=linear)
        .join(
            judged.inputs[_OPTION_PNL].select(*_POSITION, "scenario_id", "pnl"),
            on=[*_POSITION, "scenario_id"],
            how="left",
        )
        .select(*_KEYS, "scenario_id", "pnl_linear", pnl=pl.when("is_option").then("pnl").otherwise("pnl_linear"))
    )


def _sums(judged: Judged) -> pl.DataFrame:
    keys = [*_KEYS, "scenario_id"]
    summed = _position_pnl(judged).group_by(keys).agg(pl.col(name).sum() for name in _SUMS)
    compared = judged.frame.join(summed, on=keys, how="left").with_columns(pl.col(list(_SUMS)).fill_null(0))
    return pl.concat(
        findings(
            compared.filter(pl.col(total) != pl.col(part)),
            pl.format(
                "{}: {} is {}, its positions add up to {}",
                "scenario_id",
                pl.lit(total),
                pl.col(total).cast(pl.String),
                pl.col(part).cast(pl.String),
            ),
        )
        for part, total in _SUMS.items()
    )


POSITIONS_ADD_UP = Rule(
    "positions_add_up",
    "ERROR",
    "A portfolio's P&L in a scenario is the sum of its positions', to the cent.",
    _sums,
)


def _alike(judged: Judged) -> pl.DataFrame:
    """Crises of one result in which a holding moves alike too.

    The market's own proxy moves as both state, and options worth nothing in both have lost the same: that is right.
    """
    crises = judged.inputs["scenarios"].filter("active", pl.col("category") == "historical").select("scenario_id")
    shared = (
        judged.frame.join(crises, on="scenario_id")
        .filter(pl.col("total_pnl") != 0)
        .group_by(*_KEYS, "total_pnl")
        .agg(pl.col("scenario_id").sort().str.join(", "), count=pl.len())
        .filter(pl.col("count") > 1)
    )
    if shared.is_empty():
        return nothing()
    proxy = judged.inputs["factors"].filter(pl.col("factor") == MARKET).select(symbol="proxy_symbol")
    own = _held(judged).select(*_POSITION, "portfolio_id", symbol="risk_symbol").join(proxy, on="symbol", how="anti")
    moving_alike = (
        judged.inputs[_SYMBOL_RETURNS]
        .join(crises, on="scenario_id")
        .join(own.join(shared, on=_KEYS, how="semi"), on=["session_date", "symbol"])
        .filter(pl.col("implied_return") != 0)
        .group_by(*_KEYS, "position_id", "implied_return")
        .len()
        .filter(pl.col("len") > 1)
    )
    told = shared.join(moving_alike, on=_KEYS, how="semi")
    return findings(told, pl.format("{} all come to {}", "scenario_id", pl.col("total_pnl").cast(pl.String)))


CRISES_DIFFER = Rule(
    "crises_differ",
    "WARN",
    "Different crises come to different results where their shocks differ for what is held.",
    _alike,
)


def _of_scenarios(judged: Judged, which: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    return findings(
        which(judged.inputs[_DIAGNOSTICS], judged.inputs[_SHOCKS]), pl.format("{}: {}", "scenario_id", "told")
    )


IMPLAUSIBLE = Rule(
    "implausible_scenarios",
    "WARN",
    "The shocks of a scenario fit together: their joint distance is at most five times that of the largest alone.",
    lambda judged: _of_scenarios(judged, scenario_rules.implausible),
)

STATED_SHOCKS_HONOURED = Rule(
    "stated_shocks_honoured",
    "WARN",
    "Every stated shock is applied with its sign and at least half its size, or the scenario says why it need not be.",
    lambda judged: _of_scenarios(
        judged,
        lambda diagnostics, shocks: scenario_rules.not_honoured(
            diagnostics,
            shocks.join(judged.inputs["scenarios"].filter(pl.col("accepted").is_null()), on="scenario_id", how="semi"),
        ),
    ),
)

MOMENTS_LONG_ENOUGH = Rule(
    "moments_long_enough",
    "WARN",
    "The factors a scenario shocks have at least 80 % of the betas' window in common.",
    lambda judged: _of_scenarios(judged, scenario_rules.short_moments),
)

RESULTS_LONG_ONLY = Rule(
    "long_only_loss", "ERROR", _LONG_ONLY, lambda judged: _long_only(judged, "scenario_id", "total_pnl")
)

RESULTS_WITHOUT_FIGURE = Rule(
    "scenarios_without_figure", "WARN", _FIGURES, lambda judged: _without_figure(judged, "scenario_id")
)

STRESS_TEST_RESULTS: Sequence[Rule] = (
    RESULTS_PRESENT,
    MARKET_ANCHOR,
    SINGLE_SHOCK,
    POSITIONS_ADD_UP,
    RESULTS_LONG_ONLY,
    CRISES_DIFFER,
    IMPLAUSIBLE,
    STATED_SHOCKS_HONOURED,
    MOMENTS_LONG_ENOUGH,
    RESULTS_WITHOUT_FIGURE,
)

RISK_PRESENT = Rule(
    "one_row_per_portfolio_and_shock",
    "ERROR",
    "Every portfolio has a row for every single shock and session of its life, and nothing else has.",
    lambda judged: _missing(judged, "scenario", [name for name, _, _ in single_shocks()], "shock"),
)


def _linear(judged: Judged) -> pl.DataFrame:
    """Where pnl_linear is not the sum of exposure x beta x shock."""
    factors = judged.inputs["factors"]
    rates = factors.filter("active", pl.col("kind") == RATE_KIND).get_column("factor").to_list()
    kinds = [("market", MARKET), *(("rates", rate) for rate in rates)]
    of_type = pl.DataFrame(kinds, schema={"scenario_type": pl.String(), "factor": pl.String()}, orient="row")
    betas = judged.inputs["symbol_factor_betas"].select("session_date", "symbol", "factor", "beta")
    # a maximum passes over what is NULL: without a beta a position would be expected to lose everything
    moved = pl.max_horizontal(pl.col("beta") * pl.col("shock"), pl.lit(-1.0))
    expected = (
        _held(judged)
        .select(*_POSITION, "portfolio_id", X=pl.col("delta_adjusted_exposure").cast(pl.Float64), symbol="risk_symbol")
        .join(of_type, how="cross")
        .join(betas, on=["session_date", "symbol", "factor"])
        .filter(pl.col("beta").is_not_null())
        .join(judged.frame.select(*_KEYS, "scenario", "scenario_type", "shock"), on=[*_KEYS, "scenario_type"])
        .group_by(*_KEYS, "scenario")
        .agg(expected=(pl.col("X") * moved).sum(), count=pl.len())
    )
    # a position's P&L is rounded to the cent before it is added up
    off = (pl.col("pnl_linear").cast(pl.Float64) - pl.col("expected")).abs() > CENT * pl.col("count")
    return findings(
        judged.frame.join(expected, on=[*_KEYS, "scenario"]).filter(off),
        pl.format(
            "{}: linear P&L is {}, exposure x beta x shock {}",
            "scenario",
            pl.col("pnl_linear").cast(pl.String),
            pl.col("expected").round(2),
        ),
    )


RISK_SINGLE_SHOCK = Rule(
    "single_shock",
    "ERROR",
    "Linear P&L is the sum of delta-adjusted exposure x beta x shock, no position losing more than its exposure.",
    _linear,
)

RISK_LONG_ONLY = Rule("long_only_loss", "ERROR", _LONG_ONLY, lambda judged: _long_only(judged, "scenario", "pnl"))

RISK_WITHOUT_FIGURE = Rule(
    "shocks_without_figure", "WARN", _FIGURES, lambda judged: _without_figure(judged, "scenario")
)

MARKET_RISK_SCENARIOS: Sequence[Rule] = (RISK_PRESENT, RISK_SINGLE_SHOCK, RISK_LONG_ONLY, RISK_WITHOUT_FIGURE)
