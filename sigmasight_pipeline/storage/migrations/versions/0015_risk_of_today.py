"""Constant holdings, concentration by company, who makes up the value at risk."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0007"

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


def upgrade() -> None:
    """Create what this revision adds."""
    op.execute(CONSTANT)
    op.execute(COMPANIES)
    op.execute(METRICS)
