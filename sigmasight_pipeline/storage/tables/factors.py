"""Tables of the factor model: betas of symbols, factor exposures of positions and portfolios, factor moments.

What belongs here: what is estimated from returns, session by session. What does not: factor definitions
(``reference``), and scenarios made of these figures (``risk``).
"""

from __future__ import annotations

from sqlalchemy import Table

from .columns import code, count, key, long_tables, money, provenance, session_key, stat
from .packing import NumberedArrays, derived, stored_as

BETA_QUALITIES = ("ok", "constant", "insufficient_history", "no_variance", "factor_without_data")
"""How a regression came out; every one but ok and constant (a return that does not vary: beta 0) goes with NULLs."""

EXPOSURE_QUALITIES = (*BETA_QUALITIES, "no_beta", "no_delta_adjusted_exposure", "private")
"""How a position's factor exposure came out; private positions are outside the model, with exposure 0."""

FACTOR_STATUSES = ("ok", "low_coverage", "factor_without_data", "no_positions", "no_net_asset_value")

WEIGHTINGS = ("equal", "half_life")

_POSITION = "Position the row is about"
_PORTFOLIO = "Portfolio the row belongs to"
_FACTOR = "Key of the factor (factor_definitions)"

symbol_factor_betas = Table(
    "symbol_factor_betas",
    long_tables,
    session_key(),
    code("symbol", "Canonical symbol", primary_key=True),
    code("factor", _FACTOR, primary_key=True),
    stat("beta", "Slope on the factor's return, of stocks winsorised; per 1.00 of yield for Interest_Rate"),
    stat("beta_raw", "Slope as estimated"),
    stat("alpha", "Intercept, decimal return per session"),
    stat("std_error", "Standard error of beta_raw", ge=0),
    stat("t_stat", "beta_raw / std_error; NULL for a perfect fit"),
    stat("p_value", "Two-sided p-value of beta_raw, n - 2 degrees of freedom", ge=0, le=1),
    stat("r_squared", "Share of the variance explained", ge=0, le=1),
    stat("residual_volatility", "Standard deviation of the residuals (n - 2), decimal return per session", ge=0),
    count("n_obs", "Sessions of the window with a one-session return of both"),
    count("window_sessions", "Sessions of the window"),
    code("quality", "ok, constant (beta 0), or why there is no beta", isin=BETA_QUALITIES),
    *provenance(),
    comment="One row per symbol, factor and session: regression on that factor alone, with diagnostics.",
)

stored_as(
    symbol_factor_betas,
    NumberedArrays(
        by=("session_date", "symbol"), over={"factor": "factor"}, present="quality", shared=("window_sessions",)
    ),
    indexes=[("symbol", "session_date")],
)

position_factor_exposures = Table(
    "position_factor_exposures",
    long_tables,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    code("factor", _FACTOR, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    stat("beta", "Beta of the symbol, for an option of its underlying"),
    money("exposure_dollar", "Delta-adjusted exposure x beta; 0 for PRIVATE", nullable=True),
    code("quality", "ok, constant (beta and exposure 0), or why there is no exposure", isin=EXPOSURE_QUALITIES),
    *provenance(),
    comment="One row per held position, factor and session: its dollars of factor exposure.",
)

derived(position_factor_exposures)

portfolio_factor_exposures = Table(
    "portfolio_factor_exposures",
    long_tables,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    code("factor", _FACTOR, primary_key=True),
    stat("beta", "exposure_dollar / net asset value"),
    money("exposure_dollar", "Sum of the positions' exposures; NULL below the coverage minimum", nullable=True),
    stat(
        "coverage",
        "Share of the gross delta-adjusted exposure of PUBLIC and OPTIONS positions with a beta; NULL when it is 0",
        ge=0,
        le=1,
    ),
    stat("private_share", "PRIVATE share of the gross delta-adjusted exposure; NULL when that is 0", ge=0, le=1),
    count("positions_covered", "PUBLIC and OPTIONS positions with an exposure to the factor"),
    count("positions_total", "PUBLIC and OPTIONS positions held"),
    code("status", "ok, or why there is no figure", isin=FACTOR_STATUSES),
    *provenance(),
    comment="One row per portfolio, factor and session: factor exposure in dollars and as a beta of net asset value.",
)

stored_as(
    portfolio_factor_exposures,
    NumberedArrays(by=("session_date", "portfolio_id"), over={"factor": "factor"}, present="status"),
    indexes=[("portfolio_id", "session_date")],
)

position_interest_rate_betas = Table(
    "position_interest_rate_betas",
    long_tables,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    code("symbol", "Symbol the beta belongs to, for an option its underlying"),
    stat("ir_beta", "Return per 1.00 change of the 10-year Treasury yield (about minus a bond fund's duration)"),
    stat("std_error", "Standard error of ir_beta", ge=0),
    stat("r_squared", "Share of the variance explained", ge=0, le=1),
    count("n_obs", "Sessions with a return and an observed yield change"),
    code("quality", "ok, constant (beta 0), or why there is no beta", isin=EXPOSURE_QUALITIES),
    *provenance(),
    comment="One row per held position and session: the interest-rate beta of its symbol.",
)

derived(position_interest_rate_betas)

factor_correlations = Table(
    "factor_correlations",
    long_tables,
    session_key(),
    code("weighting", "equal, or half_life (exponential weights)", primary_key=True, isin=WEIGHTINGS),
    code("factor_1", _FACTOR, primary_key=True),
    code("factor_2", _FACTOR, primary_key=True),
    stat(
        "correlation", "Correlation of daily factor returns; both directions and the diagonal are stored", ge=-1, le=1
    ),
    stat("covariance", "Covariance of daily factor returns (ddof 1), decimal squared per session"),
    count("n_obs", "Sessions of the window on which both factors have a one-session return"),
    code(
        "status",
        "ok, or why the pair is NULL",
        isin=("ok", "insufficient_history", "no_variance", "factor_without_data"),
    ),
    *provenance(),
    comment="One row per session, weighting and pair of factors: correlation and covariance of their daily returns.",
)

stored_as(
    factor_correlations,
    NumberedArrays(
        by=("session_date", "weighting"), over={"factor_1": "factor", "factor_2": "factor"}, present="status"
    ),
    indexes=[],
)
