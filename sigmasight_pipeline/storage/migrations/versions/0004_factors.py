"""Greeks of positions and portfolios, exposures of groups, and the factor model."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

SQL = """
-- rows older than the engine of Greeks keep their status `not_built`; a re-run replaces them
ALTER TABLE sigmasight.position_greeks DROP CONSTRAINT position_greeks_status_check;
ALTER TABLE sigmasight.position_greeks ADD CONSTRAINT position_greeks_status_check
    CHECK (status IN ('ok', 'fallback', 'expired', 'exit', 'not_built'));

ALTER TABLE sigmasight.portfolio_exposures
    ADD COLUMN delta_adjusted_coverage double precision CHECK (delta_adjusted_coverage BETWEEN 0 AND 1);
ALTER TABLE sigmasight.portfolio_exposures DROP CONSTRAINT portfolio_exposures_greeks_status_check;
ALTER TABLE sigmasight.portfolio_exposures ADD CONSTRAINT portfolio_exposures_greeks_status_check
    CHECK (greeks_status IN ('ok', 'partial', 'low_coverage', 'not_built'));
ALTER TABLE sigmasight.portfolio_snapshots DROP CONSTRAINT portfolio_snapshots_greeks_status_check;
ALTER TABLE sigmasight.portfolio_snapshots ADD CONSTRAINT portfolio_snapshots_greeks_status_check
    CHECK (greeks_status IN ('ok', 'partial', 'low_coverage', 'not_built'));

CREATE TABLE sigmasight.group_exposures (
    session_date       date           NOT NULL,
    portfolio_id       bigint         NOT NULL,
    group_kind         text           NOT NULL
        CHECK (group_kind IN ('tag', 'sector', 'underlying', 'position_type')),
    group_name         text           NOT NULL,
    long_exposure      numeric(20, 2) NOT NULL CHECK (long_exposure >= 0),
    short_exposure     numeric(20, 2) NOT NULL CHECK (short_exposure <= 0),
    gross_exposure     numeric(20, 2) NOT NULL CHECK (gross_exposure >= 0),
    net_exposure       numeric(20, 2) NOT NULL,
    delta_adjusted_net numeric(20, 2),
    greeks_status      text           NOT NULL CHECK (greeks_status IN ('ok', 'partial')),
    daily_pnl          numeric(20, 2) NOT NULL,
    position_count     integer        NOT NULL CHECK (position_count >= 0),
    computed_at        timestamptz    NOT NULL,
    code_version       text           NOT NULL,
    run_id             text           NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, group_kind, group_name)
);
CREATE INDEX group_exposures_portfolio_session
    ON sigmasight.group_exposures (portfolio_id, session_date);

CREATE TABLE sigmasight.symbol_factor_betas (
    session_date        date             NOT NULL,
    symbol              text             NOT NULL,
    factor              text             NOT NULL,
    beta                double precision,
    beta_raw            double precision,
    alpha               double precision,
    std_error           double precision CHECK (std_error >= 0),
    t_stat              double precision,
    p_value             double precision CHECK (p_value BETWEEN 0 AND 1),
    r_squared           double precision CHECK (r_squared BETWEEN 0 AND 1),
    residual_volatility double precision CHECK (residual_volatility >= 0),
    n_obs               integer          NOT NULL CHECK (n_obs >= 0),
    window_sessions     integer          NOT NULL CHECK (window_sessions >= 0),
    quality             text             NOT NULL
        CHECK (quality IN ('ok', 'insufficient_history', 'no_variance', 'factor_without_data')),
    computed_at         timestamptz      NOT NULL,
    code_version        text             NOT NULL,
    run_id              text             NOT NULL,
    PRIMARY KEY (session_date, symbol, factor)
);
CREATE INDEX symbol_factor_betas_symbol_session
    ON sigmasight.symbol_factor_betas (symbol, session_date);

CREATE TABLE sigmasight.position_factor_exposures (
    session_date    date             NOT NULL,
    position_id     bigint           NOT NULL,
    factor          text             NOT NULL,
    portfolio_id    bigint           NOT NULL,
    beta            double precision,
    exposure_dollar numeric(20, 2),
    quality         text             NOT NULL
        CHECK (quality IN (
            'ok', 'insufficient_history', 'no_variance', 'factor_without_data', 'no_beta',
            'no_delta_adjusted_exposure', 'private'
        )),
    computed_at     timestamptz      NOT NULL,
    code_version    text             NOT NULL,
    run_id          text             NOT NULL,
    PRIMARY KEY (session_date, position_id, factor)
);
CREATE INDEX position_factor_exposures_position_session
    ON sigmasight.position_factor_exposures (position_id, session_date);

CREATE TABLE sigmasight.portfolio_factor_exposures (
    session_date      date             NOT NULL,
    portfolio_id      bigint           NOT NULL,
    factor            text             NOT NULL,
    beta              double precision,
    exposure_dollar   numeric(20, 2),
    coverage          double precision CHECK (coverage BETWEEN 0 AND 1),
    private_share     double precision CHECK (private_share BETWEEN 0 AND 1),
    positions_covered integer          NOT NULL CHECK (positions_covered >= 0),
    positions_total   integer          NOT NULL CHECK (positions_total >= 0),
    status            text             NOT NULL
        CHECK (status IN ('ok', 'low_coverage', 'factor_without_data', 'no_positions', 'no_net_asset_value')),
    computed_at       timestamptz      NOT NULL,
    code_version      text             NOT NULL,
    run_id            text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id, factor)
);
CREATE INDEX portfolio_factor_exposures_portfolio_session
    ON sigmasight.portfolio_factor_exposures (portfolio_id, session_date);

CREATE TABLE sigmasight.position_interest_rate_betas (
    session_date date             NOT NULL,
    position_id  bigint           NOT NULL,
    portfolio_id bigint           NOT NULL,
    symbol       text             NOT NULL,
    ir_beta      double precision,
    std_error    double precision CHECK (std_error >= 0),
    r_squared    double precision CHECK (r_squared BETWEEN 0 AND 1),
    n_obs        integer          NOT NULL CHECK (n_obs >= 0),
    quality      text             NOT NULL
        CHECK (quality IN (
            'ok', 'insufficient_history', 'no_variance', 'factor_without_data', 'no_beta',
            'no_delta_adjusted_exposure', 'private'
        )),
    computed_at  timestamptz      NOT NULL,
    code_version text             NOT NULL,
    run_id       text             NOT NULL,
    PRIMARY KEY (session_date, position_id)
);
CREATE INDEX position_interest_rate_betas_position_session
    ON sigmasight.position_interest_rate_betas (position_id, session_date);

CREATE TABLE sigmasight.factor_correlations (
    session_date date             NOT NULL,
    weighting    text             NOT NULL CHECK (weighting IN ('equal', 'half_life')),
    factor_1     text             NOT NULL,
    factor_2     text             NOT NULL,
    correlation  double precision CHECK (correlation BETWEEN -1 AND 1),
    covariance   double precision,
    n_obs        integer          NOT NULL CHECK (n_obs >= 0),
    status       text             NOT NULL
        CHECK (status IN ('ok', 'insufficient_history', 'no_variance', 'factor_without_data')),
    computed_at  timestamptz      NOT NULL,
    code_version text             NOT NULL,
    run_id       text             NOT NULL,
    PRIMARY KEY (session_date, weighting, factor_1, factor_2)
);
"""


def upgrade() -> None:
    """Widen the closed lists and create the tables and indexes; comments come from the registry (`storage.schema`)."""
    op.execute(SQL)
