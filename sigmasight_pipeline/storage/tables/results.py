"""Result tables: what the engines compute for every session. One row per key, replaced session by session.

What belongs here: outputs of ``calculations`` for positions and portfolios. What does not: inputs, and what the
operations layer records about runs.
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from .columns import code, count, day, flag, key, metadata, money, price, provenance, session_key, stat
from .reference import EXERCISE_STYLES

PRICE_SOURCES = (
    "market",
    "carried",
    "model",
    "mark",
    "intrinsic",
    "entry_price",
    "settlement",
    "settlement_unpriced",
    "exit",
)
VOL_SOURCES = ("implied", "carried", "vendor", "historical", "fallback")
GREEKS_STATUSES = ("ok", "fallback", "expired", "exit", "not_built")
"""How a position's Greeks came about; `not_built`: a row older than the engine of Greeks, which a re-run replaces."""

TOTALS_STATUSES = ("ok", "partial", "low_coverage", "not_built")
"""Whether totals of Greeks cover every position, all but some fallback rows, or too few to be given (NULL)."""

GROUP_KINDS = ("tag", "sector", "underlying", "position_type")

_POSITION = "Position the row is about"
_PORTFOLIO = "Portfolio the row belongs to"

position_values = Table(
    "position_values",
    metadata,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    code("symbol", "Canonical symbol; for an option the OCC symbol adjusted for splits of its underlying"),
    price("quantity", "Signed quantity after splits; 0 on the exit session"),
    price("entry_price", "Entry price divided by the same splits, US dollars", ge=0),
    price("price", "Price the position is valued at, US dollars", ge=0),
    code("price_source", "Where that price came from", isin=PRICE_SOURCES),
    day("price_date", "Session the price was observed on", nullable=True),
    count("stale_sessions", "Age of the price in sessions", nullable=True),
    flag("stale", "Age above the limit (max_stale_sessions, max_mark_age for PRIVATE)"),
    money("market_value", "Signed market value (negative for shorts); 0 on the exit session"),
    money("exposure", "Signed exposure: the market value"),
    money(
        "notional",
        "Absolute quantity x multiplier x underlying (else own) price; NULL without an underlying price",
        nullable=True,
        ge=0,
    ),
    money("cost_basis", "Quantity x entry price x multiplier, signed; 0 on the exit session"),
    money("unrealized_pnl", "Market value less cost basis; 0 on the exit session"),
    money("daily_pnl", "Profit or loss of the session, dividends included"),
    money("realized_pnl", "Proceeds less cost basis on the exit session, else 0"),
    money("dividend_pnl", "Dividends going ex on the session (negative for shorts)"),
    money("total_pnl", "Unrealised or realised P&L plus all dividends on record since entry"),
    money("cash_effect", "Change of cash: less the cost of an entry, plus proceeds, plus dividends"),
    stat("weight", "Signed market value / gross exposure of the portfolio; NULL when that is 0", ge=-1, le=1),
    *provenance(),
    Index("position_values_position_session", "position_id", "session_date"),
    Index("position_values_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per position and session from its entry to its exit: price, market value and the session's P&L.",
)

position_greeks = Table(
    "position_greeks",
    metadata,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    code(
        "risk_symbol", "Symbol whose returns and betas it takes: an option's underlying, under its name of the session"
    ),
    stat("delta", "Position delta in underlying shares, signed"),
    stat("gamma", "Position gamma: change of delta per 1.00 of the underlying"),
    stat("theta", "Position theta, US dollars per calendar day"),
    stat("vega", "Position vega, US dollars per volatility point"),
    stat("rho", "Position rho, US dollars per percentage point of the rate"),
    stat("delta_per_share", "Delta of one underlying unit of the contract", ge=-1, le=1),
    stat("gamma_per_share", "Gamma of one underlying unit of the contract"),
    stat("theta_per_share", "Theta of one underlying unit, US dollars per calendar day"),
    stat("vega_per_share", "Vega of one underlying unit, US dollars per volatility point"),
    stat("rho_per_share", "Rho of one underlying unit, US dollars per percentage point"),
    code(
        "status",
        "ok, expired, exit (zeros), or fallback: a flat table by type for want of volatility or price",
        isin=GREEKS_STATUSES,
    ),
    stat("volatility", "Annual volatility the option is modelled with, decimal", gt=0),
    code("vol_source", "Where the volatility came from; NULL for stocks", nullable=True, isin=VOL_SOURCES),
    code(
        "vol_status",
        "Outcome of inverting the contract's own close: ok, no_time_value, insensitive, ...; NULL without one",
        nullable=True,
    ),
    stat("implied_volatility", "Volatility inverted from the contract's own close of the session", gt=0),
    price("underlying_price", "Valuation price of the underlying, US dollars", nullable=True, gt=0),
    stat("risk_free_rate", "Continuously compounded rate for the time to expiry, decimal"),
    code(
        "rate_source",
        "observed, carried (older yield) or default; NULL for stocks",
        nullable=True,
        isin=("observed", "carried", "default"),
    ),
    stat("time_to_expiry", "Calendar days to expiration / 365", ge=0),
    stat("dividend_yield", "Of the underlying, continuously compounded, decimal; NULL for stocks"),
    code(
        "exercise_style",
        "american: whenever the holder wants, or european: at expiry only; NULL for stocks",
        nullable=True,
        isin=EXERCISE_STYLES,
    ),
    price(
        "model_price",
        "Value per underlying unit by the model of the exercise style, US dollars",
        nullable=True,
        ge=0,
    ),
    money(
        "delta_adjusted_exposure",
        "Position delta x underlying price, signed; a stock's exposure; NULL for fallback rows",
        nullable=True,
    ),
    *provenance(),
    Index("position_greeks_position_session", "position_id", "session_date"),
    comment="One row per position that is not PRIVATE and session, entry to exit: Greeks, volatility and its source.",
)

portfolio_exposures = Table(
    "portfolio_exposures",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    money("long_exposure", "Sum of positive exposures", ge=0),
    money("short_exposure", "Sum of negative exposures (stored negative)", le=0),
    money("gross_exposure", "Long less short", ge=0),
    money("net_exposure", "Long plus short"),
    money("stock_exposure", "Sum of absolute exposures of stocks, ETFs and funds", ge=0),
    money("option_exposure", "Sum of absolute exposures of options", ge=0),
    money("private_exposure", "Sum of absolute exposures of PRIVATE positions", ge=0),
    money("notional", "Sum of notionals; NULL when one of them is", nullable=True, ge=0),
    money("delta_adjusted_long", "Sum of positive delta-adjusted exposures", nullable=True, ge=0),
    money("delta_adjusted_short", "Sum of negative delta-adjusted exposures", nullable=True, le=0),
    money("delta_adjusted_gross", "Delta-adjusted long less short", nullable=True, ge=0),
    money("delta_adjusted_net", "Delta-adjusted long plus short", nullable=True),
    stat("delta", "Sum of position deltas"),
    stat("gamma", "Sum of position gammas"),
    stat("theta", "Sum of position thetas, US dollars per calendar day"),
    stat("vega", "Sum of position vegas, US dollars per volatility point"),
    stat("rho", "Sum of position rhos, US dollars per percentage point"),
    stat(
        "delta_adjusted_coverage",
        "Share of the gross exposure of PUBLIC and OPTIONS positions with Greeks of their own; NULL when that is 0",
        ge=0,
        le=1,
    ),
    code(
        "greeks_status",
        "Delta-adjusted and Greeks totals: ok, partial (fallback rows left out), low_coverage (NULL)",
        isin=TOTALS_STATUSES,
    ),
    count("position_count", "Positions held"),
    count("long_count", "Positions with quantity > 0"),
    count("short_count", "Positions with quantity < 0"),
    count("option_count", "Options held"),
    count("stock_count", "Stocks, ETFs and funds held"),
    count("private_count", "PRIVATE positions held"),
    stat("hhi", "Herfindahl-Hirschman index of delta-adjusted exposure by company; NULL without exposure", ge=0, le=1),
    stat("effective_positions", "1 / hhi", ge=1),
    stat("top_1_weight", "Share of the largest company", ge=0, le=1),
    stat("top_3_weight", "Share of the three largest companies", ge=0, le=1),
    stat("top_10_weight", "Share of the ten largest companies", ge=0, le=1),
    code("concentration_status", "ok, or why there is none", isin=("ok", "no_exposure", "low_coverage")),
    *provenance(),
    Index("portfolio_exposures_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio and session: exposures by side and kind, and concentration by company.",
)

group_exposures = Table(
    "group_exposures",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    code("group_kind", "What the positions are grouped by", primary_key=True, isin=GROUP_KINDS),
    code("group_name", "Tag, sector, underlying symbol or position type", primary_key=True),
    money("long_exposure", "Sum of positive exposures", ge=0),
    money("short_exposure", "Sum of negative exposures (stored negative)", le=0),
    money("gross_exposure", "Long less short", ge=0),
    money("net_exposure", "Long plus short"),
    money("delta_adjusted_net", "Sum of delta-adjusted exposures; NULL where one is unknown", nullable=True),
    code("greeks_status", "ok; partial: a fallback row, no delta-adjusted total", isin=("ok", "partial")),
    money("daily_pnl", "Profit or loss of the session, exits included"),
    count("position_count", "Positions held"),
    *provenance(),
    Index("group_exposures_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio, session and group; a position with several tags counts fully in each.",
)

portfolio_snapshots = Table(
    "portfolio_snapshots",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    money("net_asset_value", "Net asset value: previous one plus P&L plus flows; also cash plus market value"),
    money("cash_balance", "Cash, a ledger of its own"),
    money("market_value", "Sum of signed market values"),
    money("gross_exposure", "Long less short exposure", ge=0),
    money("net_exposure", "Long plus short exposure"),
    money("long_exposure", "Sum of positive exposures", ge=0),
    money("short_exposure", "Sum of negative exposures (stored negative)", le=0),
    money("daily_pnl", "Profit or loss of the session"),
    money("realized_pnl", "Realised P&L of the session"),
    money("dividend_income", "Dividends of the session (negative on shorts)"),
    money("net_cash_flow", "Contributions less withdrawals, at the start of the day"),
    stat("daily_return", "P&L / (previous net asset value + flow)"),
    money("cumulative_pnl", "P&L since inception"),
    stat("cumulative_return", "Compounded return since inception"),
    money("mtd_pnl", "P&L of the calendar month to date"),
    stat("mtd_return", "Compounded return of the calendar month to date"),
    money("qtd_pnl", "P&L of the calendar quarter to date"),
    stat("qtd_return", "Compounded return of the calendar quarter to date"),
    money("ytd_pnl", "P&L of the calendar year to date"),
    stat("ytd_return", "Compounded return of the calendar year to date"),
    stat("high_water_mark", "Highest of 1 and the return index so far", ge=1),
    stat("drawdown", "Return index / high-water mark - 1", le=0),
    stat("leverage", "Gross exposure / net asset value; NULL when that is not positive"),
    code(
        "return_status",
        "ok; no_base: the session's base was not positive; broken_index: an earlier one was not",
        isin=("ok", "no_base", "broken_index"),
    ),
    count("position_count", "Positions held"),
    count("long_count", "Positions with quantity > 0"),
    count("short_count", "Positions with quantity < 0"),
    count("option_count", "Options held"),
    count("stock_count", "Stocks, ETFs and funds held"),
    count("private_count", "PRIVATE positions held"),
    stat("delta", "Net position delta"),
    stat("gamma", "Net position gamma"),
    stat("theta", "Net position theta, US dollars per calendar day"),
    stat("vega", "Net position vega, US dollars per volatility point"),
    stat("rho", "Net position rho, US dollars per percentage point"),
    code("greeks_status", "ok, partial (fallback rows left out), low_coverage (NULL)", isin=TOTALS_STATUSES),
    count("stale_positions", "Held positions with a stale price"),
    count("unpriced_positions", "Held positions valued at their entry price"),
    count("model_priced_positions", "Held options valued by the model"),
    flag("is_first", "First snapshot of the portfolio"),
    *provenance(),
    Index("portfolio_snapshots_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio and session since inception: net asset value, cash, P&L, returns and exposures.",
)
