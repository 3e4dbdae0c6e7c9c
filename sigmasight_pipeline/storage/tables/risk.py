"""Risk tables: what moves together, risk metrics of portfolios, attribution of P&L.

What belongs here: figures made of positions, exposures and the factor model. What does not: the factor model itself
(``factors``) and scenarios (``scenarios``).
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from .columns import (
    code,
    count,
    day,
    document,
    key,
    long_tables,
    metadata,
    money,
    provenance,
    session_key,
    stat,
)
from .packing import MemberColumns, PairTriangle, stored_as

CORRELATION_STATUSES = ("ok", "no_positions", "no_variance", "single_position", "no_pairs")

PAIR_STATUSES = ("ok", "insufficient_history", "no_variance")

METRIC_STATUSES = ("ok", "insufficient_history", "missing_return", "no_variance", "missing_rate")

COMPONENTS = (
    "trade",
    "market",
    "other_factors",
    "dividend",
    "specific",
    "delta",
    "gamma",
    "theta",
    "vega",
    "rho",
    "unexplained",
    "mark",
)

SIMULATION_STATUSES = ("ok", "no_positions", "low_coverage", "insufficient_history", "no_net_asset_value")
"""How a simulation came out; with no_net_asset_value only the shares of net asset value are NULL."""

CONTRIBUTION_STATUSES = ("ok", "not_simulated", "low_coverage", "insufficient_history")

FILTER_MODES = ("both", "value_only", "weight_only", "either")

_POSITION = "Position the row is about"
_PORTFOLIO = "Portfolio the row belongs to"

pairwise_correlations = Table(
    "pairwise_correlations",
    long_tables,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    code("symbol_1", "Symbol, an option by its underlying", primary_key=True),
    code("symbol_2", "The other symbol; both directions and the diagonal are stored", primary_key=True),
    stat("correlation", "Pearson correlation of log returns, pairwise complete", ge=-1, le=1),
    stat("p_value", "Two-sided p-value; NULL on the diagonal", ge=0, le=1),
    count("n_obs", "Common one-session returns in the window"),
    code("status", "ok, or why there is no correlation", isin=PAIR_STATUSES),
    *provenance(),
    comment="One row per portfolio, session and ordered pair of included symbols.",
)

stored_as(
    pairwise_correlations,
    PairTriangle(by=("session_date", "portfolio_id"), pair=("symbol_1", "symbol_2")),
    indexes=[("portfolio_id", "session_date")],
)

correlation_calculations = Table(
    "correlation_calculations",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    stat("overall_correlation", "Mean correlation of the available pairs, signed", ge=-1, le=1),
    stat("correlation_concentration", "Share of the included value that lies in clusters", ge=0, le=1),
    stat("effective_positions", "(sum w)^2 / (w' C w) on the repaired matrix, at most the symbols"),
    count("positions_included", "Symbols that passed the filter"),
    count("positions_excluded", "Symbols that did not"),
    count("positions_constant", "Included symbols whose returns do not vary: in no pair"),
    stat("min_eigenvalue", "Smallest eigenvalue of the pairwise matrix; negative: not positive semi-definite"),
    stat("data_quality", "Share of the pairs of symbols that vary with a correlation", ge=0, le=1),
    count("duplicate_pairs", "Pairs correlated above 0.9999: one instrument under two symbols"),
    document("top_pairs", "The most correlated pairs: symbol_1, symbol_2, correlation"),
    count("window_sessions", "Sessions of the window asked for"),
    money("min_position_value", "Filter: smallest value of a symbol"),
    stat("min_portfolio_weight", "Filter: smallest weight of a symbol", nullable=False),
    code("filter_mode", "How the two filters combine", isin=FILTER_MODES),
    code("status", "ok, or why figures are NULL", isin=CORRELATION_STATUSES),
    *provenance(),
    Index("correlation_calculations_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio and session: how much its positions move together.",
)

correlation_clusters = Table(
    "correlation_clusters",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    count("cluster_number", "From 1, by value descending", primary_key=True),
    code("nickname", "A tag or sector shared by all members, else '<largest symbol> lookalikes'"),
    stat("average_correlation", "Mean correlation of the pairs of members", ge=-1, le=1),
    money("total_value", "Sum of the members' values", ge=0),
    stat("portfolio_weight", "Share of the portfolio's value before filtering", nullable=False, ge=0, le=1),
    count("member_count", "Symbols in the cluster"),
    *provenance(),
    Index("correlation_clusters_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio, session and cluster of symbols that move together.",
)

correlation_cluster_positions = Table(
    "correlation_cluster_positions",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    count("cluster_number", "Cluster of correlation_clusters", primary_key=True),
    code("symbol", "Member", primary_key=True),
    money("value", "Absolute delta-adjusted exposure of the symbol", ge=0),
    stat("portfolio_weight", "Share of the portfolio's value before filtering", nullable=False, ge=0, le=1),
    stat("correlation_to_cluster", "Mean correlation with the other members", ge=-1, le=1),
    *provenance(),
    Index("correlation_cluster_positions_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio, session, cluster and member symbol.",
)

portfolio_risk_metrics = Table(
    "portfolio_risk_metrics",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    count("window_sessions", "Daily returns the row is made of: 21, 63, 90 or 252", primary_key=True),
    stat("volatility", "Standard deviation (ddof 1) x sqrt(252), decimal", ge=0),
    stat("sharpe", "Mean excess return / its standard deviation x sqrt(252); NULL where the returns do not vary"),
    stat("sortino", "Mean excess return / downside deviation x sqrt(252); NULL without a loss, and likewise"),
    stat("max_drawdown", "Deepest fall from a high of the window, decimal, at most 0", ge=-1, le=0),
    day("drawdown_start", "Session of that high; NULL where it is before the window's first return", nullable=True),
    day("drawdown_end", "Session of that low", nullable=True),
    stat("beta", "Slope on the benchmark's return"),
    stat("correlation_to_benchmark", "Correlation with the benchmark's return", ge=-1, le=1),
    stat("var_95", "Parametric one-day value at risk at 95 %, share of net asset value, loss positive"),
    stat("var_99", "The same at 99 %"),
    stat("hist_var_95", "Historical one-day value at risk at 95 %, loss positive"),
    stat("hist_var_99", "The same at 99 %"),
    stat("expected_shortfall_95", "Mean of the worst returns beyond 95 %, loss positive"),
    stat("factor_var_95", "One-day value at risk at 95 % of the positions held, from the factor model", ge=0),
    money("factor_var_dollars", "The same loss in US dollars, the sum of its contributions", nullable=True, ge=0),
    document("factor_var_contributions", "Its split after Euler: US dollars by style factor, and specific; adds up"),
    stat("hit_rate", "Share of returns above 0", ge=0, le=1),
    count("n_obs", "Daily returns available, at most window_sessions"),
    count("benchmark_n_obs", "Pairs with the benchmark's return"),
    code("status", "ok, or why figures are NULL", isin=METRIC_STATUSES),
    code(
        "benchmark_status",
        "ok, or why beta and correlation are NULL",
        isin=("ok", "insufficient_history", "no_variance"),
    ),
    code(
        "factor_var_status",
        "ok, or why factor_var_95 is NULL",
        isin=("ok", "low_coverage", "factor_without_data", "no_net_asset_value"),
    ),
    *provenance(),
    Index("portfolio_risk_metrics_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio, session and window: volatility, Sharpe, drawdown, value at risk, shortfall.",
)

portfolio_simulated_risk = Table(
    "portfolio_simulated_risk",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    stat("var_95", "One-day value at risk at 95 % of the positions held, share of net asset value, loss positive"),
    stat("var_99", "The same at 99 %"),
    stat("expected_shortfall_95", "Mean of the worst simulated sessions beyond 95 %, share of net asset value"),
    stat("expected_shortfall_975", "The same beyond 97.5 %"),
    money("expected_shortfall_975_dollars", "That in US dollars, the sum of the positions' components", nullable=True),
    money(
        "linear_expected_shortfall_975_dollars",
        "The same with options by their delta alone: the difference is gamma",
        nullable=True,
    ),
    money("worst_pnl", "P&L of the positions on the worst of the sessions, US dollars", nullable=True),
    day("worst_session", "Session whose returns that was", nullable=True),
    document("tail_sessions", "Sessions the 97.5 % shortfall is the mean of, worst first"),
    stat("coverage", "Share of the gross delta-adjusted exposure simulated; NULL when that is 0", ge=0, le=1),
    stat("modelled_share", "Of it, session by session, what a ridge value stood in for a return", ge=0, le=1),
    count("positions_covered", "PUBLIC and OPTIONS positions simulated"),
    count("positions_total", "PUBLIC and OPTIONS positions held"),
    count("n_obs", "Sessions simulated, at most window_sessions"),
    count("window_sessions", "Sessions of the window asked for"),
    code("status", "ok, or why figures are NULL", isin=SIMULATION_STATUSES),
    *provenance(),
    Index("portfolio_simulated_risk_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio and session: what the positions held would have lost on the returns that really "
    "happened, options re-priced.",
)

position_risk_contributions = Table(
    "position_risk_contributions",
    metadata,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    money("component_es_975", "Its part of the portfolio's 97.5 % shortfall, negative for a hedge", nullable=True),
    stat("share_of_es_975", "Component / the portfolio's shortfall; NULL when that is 0"),
    stat("marginal_es_975", "Component / market value: what one more dollar in it brings; NULL for a worthless one"),
    code("status", "ok, or why there is no component", isin=CONTRIBUTION_STATUSES),
    *provenance(),
    Index("position_risk_contributions_position_session", "position_id", "session_date"),
    comment="One row per PUBLIC or OPTIONS position and session: its part of the simulated loss, exact to the cent.",
)

pnl_attribution = Table(
    "pnl_attribution",
    long_tables,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    code("component", "Where the P&L came from", primary_key=True, isin=COMPONENTS),
    key("portfolio_id", _PORTFOLIO),
    money("pnl", "US dollars; the components of a position add up to its daily P&L"),
    *provenance(),
    comment="One row per position, session and component of its daily P&L, adding up to the cent.",
)

stored_as(
    pnl_attribution,
    MemberColumns(
        by=("session_date", "position_id"), over="component", value="pnl", members=COMPONENTS, shared=("portfolio_id",)
    ),
    indexes=[("portfolio_id", "session_date")],
)

scenario_accuracy = Table(
    "scenario_accuracy",
    metadata,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    money("rmse", "Root mean square of predicted less actual P&L", nullable=True, ge=0),
    stat("correlation", "Correlation of predicted and actual P&L", ge=-1, le=1),
    stat("hit_rate", "Share of sessions on which both had the same sign", ge=0, le=1),
    money("bias", "Mean of predicted less actual P&L", nullable=True),
    count("n_obs", "Pairs of sessions compared, at most 90"),
    count("pairs_without_exposure", "Pairs left out because nothing was held that could be predicted"),
    code("status", "ok, or why figures are NULL", isin=("ok", "insufficient_history", "no_variance")),
    *provenance(),
    Index("scenario_accuracy_portfolio_session", "portfolio_id", "session_date"),
    comment="One row per portfolio and last session of an ISO week: how well yesterday's market beta predicted today.",
)
