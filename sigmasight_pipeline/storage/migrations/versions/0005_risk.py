"""Scenarios, correlations, risk metrics, attribution."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

SQL = """
CREATE TABLE sigmasight.stress_test_scenarios (
    scenario_id      text             NOT NULL,
    name             text             NOT NULL,
    description      text,
    category         text             NOT NULL
        CHECK (category IN (
            'market', 'rates', 'commodity', 'international', 'rotation', 'volatility',
            'historical'
        )),
    severity         text             NOT NULL
        CHECK (severity IN ('mild', 'base', 'moderate', 'severe', 'extreme')),
    shocks           jsonb            NOT NULL,
    volatility_shift double precision NOT NULL CHECK (volatility_shift > -1),
    active           boolean          NOT NULL,
    PRIMARY KEY (scenario_id)
);

CREATE TABLE sigmasight.market_risk_scenarios (
    session_date  date             NOT NULL,
    portfolio_id  bigint           NOT NULL,
    scenario      text             NOT NULL,
    scenario_type text             NOT NULL CHECK (scenario_type IN ('market', 'rates')),
    shock         double precision NOT NULL,
    pnl           numeric(20, 2),
    pnl_linear    numeric(20, 2),
    impact_pct    double precision,
    coverage      double precision CHECK (coverage BETWEEN 0 AND 1),
    status        text             NOT NULL
        CHECK (status IN ('ok', 'low_coverage', 'factor_without_data', 'no_positions', 'no_net_asset_value')),
    computed_at   timestamptz      NOT NULL,
    code_version  text             NOT NULL,
    run_id        text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, scenario)
);
CREATE INDEX market_risk_scenarios_portfolio_session
    ON sigmasight.market_risk_scenarios (portfolio_id, session_date);

CREATE TABLE sigmasight.stress_test_results (
    session_date             date             NOT NULL,
    portfolio_id             bigint           NOT NULL,
    scenario_id              text             NOT NULL,
    direct_pnl               numeric(20, 2),
    correlated_pnl           numeric(20, 2),
    correlation_effect       numeric(20, 2),
    sum_of_single_factor_pnl numeric(20, 2),
    revaluation_effect       numeric(20, 2),
    total_pnl                numeric(20, 2),
    impact_pct               double precision,
    factor_impacts           jsonb,
    effective_shocks         jsonb,
    lam                      double precision CHECK (lam >= 0),
    condition_number         double precision CHECK (condition_number >= 1),
    mahalanobis              double precision CHECK (mahalanobis >= 0),
    max_z                    double precision CHECK (max_z >= 0),
    implausible              boolean,
    coverage                 double precision CHECK (coverage BETWEEN 0 AND 1),
    status                   text             NOT NULL
        CHECK (status IN ('ok', 'low_coverage', 'factor_without_data', 'no_positions', 'no_net_asset_value')),
    computed_at              timestamptz      NOT NULL,
    code_version             text             NOT NULL,
    run_id                   text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, scenario_id)
);
CREATE INDEX stress_test_results_portfolio_session
    ON sigmasight.stress_test_results (portfolio_id, session_date);

CREATE TABLE sigmasight.stress_position_results (
    session_date   date             NOT NULL,
    scenario_id    text             NOT NULL,
    position_id    bigint           NOT NULL,
    portfolio_id   bigint           NOT NULL,
    implied_return double precision CHECK (implied_return >= -1),
    pnl            numeric(20, 2),
    pnl_linear     numeric(20, 2),
    floored        boolean          NOT NULL,
    status         text             NOT NULL
        CHECK (status IN ('ok', 'no_beta', 'no_delta_adjusted_exposure', 'factor_without_data')),
    computed_at    timestamptz      NOT NULL,
    code_version   text             NOT NULL,
    run_id         text             NOT NULL,
    PRIMARY KEY (session_date, scenario_id, position_id)
);
CREATE INDEX stress_position_results_position_session
    ON sigmasight.stress_position_results (position_id, session_date);

CREATE TABLE sigmasight.pairwise_correlations (
    session_date date             NOT NULL,
    portfolio_id bigint           NOT NULL,
    symbol_1     text             NOT NULL,
    symbol_2     text             NOT NULL,
    correlation  double precision CHECK (correlation BETWEEN -1 AND 1),
    p_value      double precision CHECK (p_value BETWEEN 0 AND 1),
    n_obs        integer          NOT NULL CHECK (n_obs >= 0),
    status       text             NOT NULL CHECK (status IN ('ok', 'insufficient_history', 'no_variance')),
    computed_at  timestamptz      NOT NULL,
    code_version text             NOT NULL,
    run_id       text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, symbol_1, symbol_2)
);
CREATE INDEX pairwise_correlations_portfolio_session
    ON sigmasight.pairwise_correlations (portfolio_id, session_date);

CREATE TABLE sigmasight.correlation_calculations (
    session_date              date             NOT NULL,
    portfolio_id              bigint           NOT NULL,
    overall_correlation       double precision CHECK (overall_correlation BETWEEN -1 AND 1),
    correlation_concentration double precision CHECK (correlation_concentration BETWEEN 0 AND 1),
    effective_positions       double precision,
    positions_included        integer          NOT NULL CHECK (positions_included >= 0),
    positions_excluded        integer          NOT NULL CHECK (positions_excluded >= 0),
    min_eigenvalue            double precision,
    data_quality              double precision CHECK (data_quality BETWEEN 0 AND 1),
    duplicate_pairs           integer          NOT NULL CHECK (duplicate_pairs >= 0),
    top_pairs                 jsonb,
    window_sessions           integer          NOT NULL CHECK (window_sessions >= 0),
    min_position_value        numeric(20, 2)   NOT NULL,
    min_portfolio_weight      double precision NOT NULL,
    filter_mode               text             NOT NULL
        CHECK (filter_mode IN ('both', 'value_only', 'weight_only', 'either')),
    status                    text             NOT NULL
        CHECK (status IN ('ok', 'no_positions', 'single_position', 'no_pairs')),
    computed_at               timestamptz      NOT NULL,
    code_version              text             NOT NULL,
    run_id                    text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id)
);
CREATE INDEX correlation_calculations_portfolio_session
    ON sigmasight.correlation_calculations (portfolio_id, session_date);

CREATE TABLE sigmasight.correlation_clusters (
    session_date        date             NOT NULL,
    portfolio_id        bigint           NOT NULL,
    cluster_number      integer          NOT NULL CHECK (cluster_number >= 0),
    nickname            text             NOT NULL,
    average_correlation double precision CHECK (average_correlation BETWEEN -1 AND 1),
    total_value         numeric(20, 2)   NOT NULL CHECK (total_value >= 0),
    portfolio_weight    double precision NOT NULL CHECK (portfolio_weight BETWEEN 0 AND 1),
    member_count        integer          NOT NULL CHECK (member_count >= 0),
    computed_at         timestamptz      NOT NULL,
    code_version        text             NOT NULL,
    run_id              text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, cluster_number)
);
CREATE INDEX correlation_clusters_portfolio_session
    ON sigmasight.correlation_clusters (portfolio_id, session_date);

CREATE TABLE sigmasight.correlation_cluster_positions (
    session_date           date             NOT NULL,
    portfolio_id           bigint           NOT NULL,
    cluster_number         integer          NOT NULL CHECK (cluster_number >= 0),
    symbol                 text             NOT NULL,
    value                  numeric(20, 2)   NOT NULL CHECK (value >= 0),
    portfolio_weight       double precision NOT NULL CHECK (portfolio_weight BETWEEN 0 AND 1),
    correlation_to_cluster double precision CHECK (correlation_to_cluster BETWEEN -1 AND 1),
    computed_at            timestamptz      NOT NULL,
    code_version           text             NOT NULL,
    run_id                 text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, cluster_number, symbol)
);
CREATE INDEX correlation_cluster_positions_portfolio_session
    ON sigmasight.correlation_cluster_positions (portfolio_id, session_date);

CREATE TABLE sigmasight.portfolio_risk_metrics (
    session_date             date             NOT NULL,
    portfolio_id             bigint           NOT NULL,
    window_sessions          integer          NOT NULL CHECK (window_sessions >= 0),
    volatility               double precision CHECK (volatility >= 0),
    sharpe                   double precision,
    sortino                  double precision,
    max_drawdown             double precision CHECK (max_drawdown BETWEEN -1 AND 0),
    drawdown_start           date,
    drawdown_end             date,
    beta                     double precision,
    correlation_to_benchmark double precision CHECK (correlation_to_benchmark BETWEEN -1 AND 1),
    var_95                   double precision,
    var_99                   double precision,
    hist_var_95              double precision,
    hist_var_99              double precision,
    expected_shortfall_95    double precision,
    factor_var_95            double precision CHECK (factor_var_95 >= 0),
    hit_rate                 double precision CHECK (hit_rate BETWEEN 0 AND 1),
    n_obs                    integer          NOT NULL CHECK (n_obs >= 0),
    benchmark_n_obs          integer          NOT NULL CHECK (benchmark_n_obs >= 0),
    status                   text             NOT NULL
        CHECK (status IN ('ok', 'insufficient_history', 'missing_return', 'no_variance', 'missing_rate')),
    benchmark_status         text             NOT NULL
        CHECK (benchmark_status IN ('ok', 'insufficient_history', 'no_variance')),
    factor_var_status        text             NOT NULL
        CHECK (factor_var_status IN ('ok', 'low_coverage', 'factor_without_data', 'no_net_asset_value')),
    computed_at              timestamptz      NOT NULL,
    code_version             text             NOT NULL,
    run_id                   text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, window_sessions)
);
CREATE INDEX portfolio_risk_metrics_portfolio_session
    ON sigmasight.portfolio_risk_metrics (portfolio_id, session_date);

CREATE TABLE sigmasight.pnl_attribution (
    session_date date           NOT NULL,
    position_id  bigint         NOT NULL,
    component    text           NOT NULL
        CHECK (component IN (
            'trade', 'market', 'other_factors', 'dividend', 'specific', 'delta', 'gamma',
            'theta', 'vega', 'rho', 'unexplained', 'mark'
        )),
    portfolio_id bigint         NOT NULL,
    pnl          numeric(20, 2) NOT NULL,
    computed_at  timestamptz    NOT NULL,
    code_version text           NOT NULL,
    run_id       text           NOT NULL,
    PRIMARY KEY (session_date, position_id, component)
);
CREATE INDEX pnl_attribution_portfolio_session
    ON sigmasight.pnl_attribution (portfolio_id, session_date);

CREATE TABLE sigmasight.scenario_accuracy (
    session_date date             NOT NULL,
    portfolio_id bigint           NOT NULL,
    rmse         numeric(20, 2) CHECK (rmse >= 0),
    correlation  double precision CHECK (correlation BETWEEN -1 AND 1),
    hit_rate     double precision CHECK (hit_rate BETWEEN 0 AND 1),
    bias         numeric(20, 2),
    n_obs        integer          NOT NULL CHECK (n_obs >= 0),
    status       text             NOT NULL CHECK (status IN ('ok', 'insufficient_history', 'no_variance')),
    computed_at  timestamptz      NOT NULL,
    code_version text             NOT NULL,
    run_id       text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id)
);
CREATE INDEX scenario_accuracy_portfolio_session
    ON sigmasight.scenario_accuracy (portfolio_id, session_date);
"""


def upgrade() -> None:
    """Create the tables and their indexes; comments come from the registry (`storage.schema`)."""
    op.execute(SQL)
