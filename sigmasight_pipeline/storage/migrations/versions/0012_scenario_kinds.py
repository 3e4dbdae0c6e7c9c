"""Kinds of scenarios, and what is told of a scenario whatever anybody holds."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0010"

SQL = """
ALTER TABLE sigmasight.stress_test_scenarios
    ADD COLUMN kind           text NOT NULL DEFAULT 'vector' CHECK (kind IN ('vector', 'replay', 'worst')),
    ADD COLUMN confidence     text CHECK (confidence IN ('noisy', 'exact')),
    ADD COLUMN replay_from    date,
    ADD COLUMN replay_to      date,
    ADD COLUMN worst_sessions integer CHECK (worst_sessions >= 2),
    ADD COLUMN accepted       text,
    ALTER COLUMN volatility_shift DROP NOT NULL,
    DROP CONSTRAINT stress_test_scenarios_category_check,
    ADD CONSTRAINT stress_test_scenarios_category_check CHECK (category IN (
        'market', 'rates', 'commodity', 'international', 'rotation', 'combined', 'volatility', 'historical', 'replay'
    ));
UPDATE sigmasight.stress_test_scenarios SET confidence = 'noisy';
ALTER TABLE sigmasight.stress_test_scenarios ALTER COLUMN kind DROP DEFAULT;

ALTER TABLE sigmasight.stress_test_results
    DROP CONSTRAINT stress_test_results_status_check,
    ADD CONSTRAINT stress_test_results_status_check CHECK (status IN (
        'ok', 'factor_without_data', 'insufficient_history', 'ill_conditioned', 'window_not_stored',
        'window_after_session', 'low_coverage', 'no_positions', 'no_net_asset_value'
    ));

ALTER TABLE sigmasight.stress_position_results
    ADD COLUMN return_source text CHECK (return_source IN ('model', 'own')),
    DROP CONSTRAINT stress_position_results_status_check,
    ADD CONSTRAINT stress_position_results_status_check CHECK (status IN (
        'ok', 'no_beta', 'no_delta_adjusted_exposure', 'factor_without_data', 'insufficient_history', 'ill_conditioned'
    ));
UPDATE sigmasight.stress_position_results SET return_source = 'model' WHERE implied_return IS NOT NULL;

CREATE TABLE sigmasight.stress_scenario_diagnostics (
    session_date      date             NOT NULL,
    scenario_id       text             NOT NULL,
    kind              text             NOT NULL CHECK (kind IN ('vector', 'replay', 'worst')),
    status            text             NOT NULL
        CHECK (status IN (
            'ok', 'factor_without_data', 'insufficient_history', 'ill_conditioned', 'window_not_stored',
            'window_after_session'
        )),
    lam               double precision CHECK (lam >= 0),
    condition_number  double precision CHECK (condition_number >= 1),
    mahalanobis       double precision CHECK (mahalanobis >= 0),
    max_z             double precision CHECK (max_z >= 0),
    implausible       boolean,
    moments_n_obs     integer          CHECK (moments_n_obs >= 0),
    window_sessions   integer          NOT NULL CHECK (window_sessions >= 0),
    window_from       date,
    window_to         date,
    volatility_shift  double precision NOT NULL CHECK (volatility_shift >= -1),
    volatility_source text             NOT NULL CHECK (volatility_source IN ('stated', 'index', 'none')),
    computed_at       timestamptz      NOT NULL,
    code_version      text             NOT NULL,
    run_id            text             NOT NULL,
    PRIMARY KEY (session_date, scenario_id)
);
CREATE INDEX stress_scenario_diagnostics_scenario_session
    ON sigmasight.stress_scenario_diagnostics (scenario_id, session_date);

CREATE TABLE sigmasight.stress_scenario_shocks (
    session_date   date             NOT NULL,
    scenario_id    text             NOT NULL,
    factor         text             NOT NULL,
    stated         double precision,
    relative       double precision,
    effective      double precision,
    honoured_share double precision,
    computed_at    timestamptz      NOT NULL,
    code_version   text             NOT NULL,
    run_id         text             NOT NULL,
    PRIMARY KEY (session_date, scenario_id, factor)
);
CREATE INDEX stress_scenario_shocks_scenario_session
    ON sigmasight.stress_scenario_shocks (scenario_id, session_date);
"""


def upgrade() -> None:
    """Alter and create the tables; comments come from the registry (`storage.schema`)."""
    op.execute(SQL)
