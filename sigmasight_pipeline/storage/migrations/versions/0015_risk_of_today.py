"""Constant holdings, concentration by company, who makes up the value at risk, and what today's
positions would have lost on the returns that happened.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0012"

CONSTANT = """
ALTER TABLE sigmasight.symbol_factor_betas
    DROP CONSTRAINT symbol_factor_betas_quality_check,
    ADD CONSTRAINT symbol_factor_betas_quality_check
        CHECK (quality IN ('ok', 'constant', 'insufficient_history', 'no_variance', 'factor_without_data'));
ALTER TABLE sigmasight.position_factor_exposures
    DROP CONSTRAINT position_factor_exposures_quality_check,
    ADD CONSTRAINT position_factor_exposures_quality_check
        CHECK (quality IN ('ok', 'constant', 'insufficient_history', 'no_variance', 'factor_without_data', 'no_beta',
                           'no_delta_adjusted_exposure', 'private'));
ALTER TABLE sigmasight.position_interest_rate_betas
    DROP CONSTRAINT position_interest_rate_betas_quality_check,
    ADD CONSTRAINT position_interest_rate_betas_quality_check
        CHECK (quality IN ('ok', 'constant', 'insufficient_history', 'no_variance', 'factor_without_data', 'no_beta',
                           'no_delta_adjusted_exposure', 'private'));
"""

COMPANIES = """
ALTER TABLE sigmasight.portfolio_exposures
    DROP CONSTRAINT portfolio_exposures_concentration_status_check,
    ADD CONSTRAINT portfolio_exposures_concentration_status_check
        CHECK (concentration_status IN ('ok', 'no_exposure', 'low_coverage'));
"""

METRICS = """
ALTER TABLE sigmasight.portfolio_risk_metrics
    ADD COLUMN factor_var_dollars numeric(20, 2) CHECK (factor_var_dollars >= 0),
    ADD COLUMN factor_var_contributions jsonb;
ALTER TABLE sigmasight.scenario_accuracy
    ADD COLUMN pairs_without_exposure integer NOT NULL DEFAULT 0 CHECK (pairs_without_exposure >= 0);
ALTER TABLE sigmasight.scenario_accuracy ALTER COLUMN pairs_without_exposure DROP DEFAULT;
"""

SIMULATED = """
CREATE TABLE sigmasight.portfolio_simulated_risk (
    session_date                          date             NOT NULL,
    portfolio_id                          bigint           NOT NULL,
    var_95                                double precision,
    var_99                                double precision,
    expected_shortfall_95                 double precision,
    expected_shortfall_975                double precision,
    expected_shortfall_975_dollars        numeric(20, 2),
    linear_expected_shortfall_975_dollars numeric(20, 2),
    worst_pnl                             numeric(20, 2),
    worst_session                         date,
    tail_sessions                         jsonb,
    coverage                              double precision CHECK (coverage >= 0 AND coverage <= 1),
    modelled_share                        double precision CHECK (modelled_share >= 0 AND modelled_share <= 1),
    positions_covered                     integer          NOT NULL CHECK (positions_covered >= 0),
    positions_total                       integer          NOT NULL CHECK (positions_total >= 0),
    n_obs                                 integer          NOT NULL CHECK (n_obs >= 0),
    window_sessions                       integer          NOT NULL CHECK (window_sessions >= 0),
    status                                text             NOT NULL
        CHECK (status IN ('ok', 'no_positions', 'low_coverage', 'insufficient_history', 'no_net_asset_value')),
    computed_at                           timestamptz      NOT NULL,
    code_version                          text             NOT NULL,
    run_id                                text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id)
);
CREATE INDEX portfolio_simulated_risk_portfolio_session
    ON sigmasight.portfolio_simulated_risk (portfolio_id, session_date);

CREATE TABLE sigmasight.position_risk_contributions (
    session_date     date             NOT NULL,
    position_id      bigint           NOT NULL,
    portfolio_id     bigint           NOT NULL,
    component_es_975 numeric(20, 2),
    share_of_es_975  double precision,
    marginal_es_975  double precision,
    status           text             NOT NULL
        CHECK (status IN ('ok', 'not_simulated', 'low_coverage', 'insufficient_history')),
    computed_at      timestamptz      NOT NULL,
    code_version     text             NOT NULL,
    run_id           text             NOT NULL,
    PRIMARY KEY (session_date, position_id)
);
CREATE INDEX position_risk_contributions_position_session
    ON sigmasight.position_risk_contributions (position_id, session_date);
"""


def upgrade() -> None:
    """Create what this revision adds."""
    op.execute(CONSTANT)
    op.execute(COMPANIES)
    op.execute(METRICS)
    op.execute(SIMULATED)
