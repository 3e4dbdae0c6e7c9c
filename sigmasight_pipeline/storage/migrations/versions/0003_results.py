"""Result tables of valuation, and the verdicts of the data-quality checks."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

SQL = """
CREATE TABLE sigmasight.position_values (
    session_date   date             NOT NULL,
    position_id    bigint           NOT NULL,
    portfolio_id   bigint           NOT NULL,
    symbol         text             NOT NULL,
    quantity       numeric(20, 6)   NOT NULL,
    entry_price    numeric(20, 6)   NOT NULL CHECK (entry_price >= 0),
    price          numeric(20, 6)   NOT NULL CHECK (price >= 0),
    price_source   text             NOT NULL
        CHECK (price_source IN (
            'market', 'carried', 'model', 'mark', 'intrinsic', 'entry_price',
            'settlement', 'settlement_unpriced', 'exit'
        )),
    price_date     date,
    stale_sessions integer          CHECK (stale_sessions >= 0),
    stale          boolean          NOT NULL,
    market_value   numeric(20, 2)   NOT NULL,
    exposure       numeric(20, 2)   NOT NULL,
    notional       numeric(20, 2)   CHECK (notional >= 0),
    cost_basis     numeric(20, 2)   NOT NULL,
    unrealized_pnl numeric(20, 2)   NOT NULL,
    daily_pnl      numeric(20, 2)   NOT NULL,
    realized_pnl   numeric(20, 2)   NOT NULL,
    dividend_pnl   numeric(20, 2)   NOT NULL,
    total_pnl      numeric(20, 2)   NOT NULL,
    cash_effect    numeric(20, 2)   NOT NULL,
    weight         double precision CHECK (weight BETWEEN -1 AND 1),
    computed_at    timestamptz      NOT NULL,
    code_version   text             NOT NULL,
    run_id         text             NOT NULL,
    PRIMARY KEY (session_date, position_id)
);
CREATE INDEX position_values_portfolio_session
    ON sigmasight.position_values (portfolio_id, session_date);
CREATE INDEX position_values_position_session
    ON sigmasight.position_values (position_id, session_date);

CREATE TABLE sigmasight.position_greeks (
    session_date            date             NOT NULL,
    position_id             bigint           NOT NULL,
    portfolio_id            bigint           NOT NULL,
    delta                   double precision,
    gamma                   double precision,
    theta                   double precision,
    vega                    double precision,
    rho                     double precision,
    delta_per_share         double precision CHECK (delta_per_share BETWEEN -1 AND 1),
    gamma_per_share         double precision,
    theta_per_share         double precision,
    vega_per_share          double precision,
    rho_per_share           double precision,
    status                  text             NOT NULL
        CHECK (status IN ('not_built', 'ok', 'fallback', 'partial', 'none')),
    volatility              double precision CHECK (volatility > 0),
    vol_source              text
        CHECK (vol_source IN ('implied', 'carried', 'vendor', 'historical', 'fallback')),
    vol_status              text,
    implied_volatility      double precision CHECK (implied_volatility > 0),
    underlying_price        numeric(20, 6)   CHECK (underlying_price > 0),
    risk_free_rate          double precision,
    rate_source             text             CHECK (rate_source IN ('observed', 'carried', 'default')),
    time_to_expiry          double precision CHECK (time_to_expiry >= 0),
    model_price             numeric(20, 6)   CHECK (model_price >= 0),
    delta_adjusted_exposure numeric(20, 2),
    computed_at             timestamptz      NOT NULL,
    code_version            text             NOT NULL,
    run_id                  text             NOT NULL,
    PRIMARY KEY (session_date, position_id)
);
CREATE INDEX position_greeks_position_session
    ON sigmasight.position_greeks (position_id, session_date);

CREATE TABLE sigmasight.portfolio_exposures (
    session_date         date             NOT NULL,
    portfolio_id         bigint           NOT NULL,
    long_exposure        numeric(20, 2)   NOT NULL CHECK (long_exposure >= 0),
    short_exposure       numeric(20, 2)   NOT NULL CHECK (short_exposure <= 0),
    gross_exposure       numeric(20, 2)   NOT NULL CHECK (gross_exposure >= 0),
    net_exposure         numeric(20, 2)   NOT NULL,
    stock_exposure       numeric(20, 2)   NOT NULL CHECK (stock_exposure >= 0),
    option_exposure      numeric(20, 2)   NOT NULL CHECK (option_exposure >= 0),
    private_exposure     numeric(20, 2)   NOT NULL CHECK (private_exposure >= 0),
    notional             numeric(20, 2)   CHECK (notional >= 0),
    delta_adjusted_long  numeric(20, 2)   CHECK (delta_adjusted_long >= 0),
    delta_adjusted_short numeric(20, 2)   CHECK (delta_adjusted_short <= 0),
    delta_adjusted_gross numeric(20, 2)   CHECK (delta_adjusted_gross >= 0),
    delta_adjusted_net   numeric(20, 2),
    delta                double precision,
    gamma                double precision,
    theta                double precision,
    vega                 double precision,
    rho                  double precision,
    greeks_status        text             NOT NULL
        CHECK (greeks_status IN ('not_built', 'ok', 'fallback', 'partial', 'none')),
    position_count       integer          NOT NULL CHECK (position_count >= 0),
    long_count           integer          NOT NULL CHECK (long_count >= 0),
    short_count          integer          NOT NULL CHECK (short_count >= 0),
    option_count         integer          NOT NULL CHECK (option_count >= 0),
    stock_count          integer          NOT NULL CHECK (stock_count >= 0),
    private_count        integer          NOT NULL CHECK (private_count >= 0),
    hhi                  double precision CHECK (hhi BETWEEN 0 AND 1),
    effective_positions  double precision CHECK (effective_positions >= 1),
    top_1_weight         double precision CHECK (top_1_weight BETWEEN 0 AND 1),
    top_3_weight         double precision CHECK (top_3_weight BETWEEN 0 AND 1),
    top_10_weight        double precision CHECK (top_10_weight BETWEEN 0 AND 1),
    concentration_status text             NOT NULL CHECK (concentration_status IN ('ok', 'no_exposure')),
    computed_at          timestamptz      NOT NULL,
    code_version         text             NOT NULL,
    run_id               text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id)
);
CREATE INDEX portfolio_exposures_portfolio_session
    ON sigmasight.portfolio_exposures (portfolio_id, session_date);

CREATE TABLE sigmasight.portfolio_snapshots (
    session_date           date             NOT NULL,
    portfolio_id           bigint           NOT NULL,
    net_asset_value        numeric(20, 2)   NOT NULL,
    cash_balance           numeric(20, 2)   NOT NULL,
    market_value           numeric(20, 2)   NOT NULL,
    gross_exposure         numeric(20, 2)   NOT NULL CHECK (gross_exposure >= 0),
    net_exposure           numeric(20, 2)   NOT NULL,
    long_exposure          numeric(20, 2)   NOT NULL CHECK (long_exposure >= 0),
    short_exposure         numeric(20, 2)   NOT NULL CHECK (short_exposure <= 0),
    daily_pnl              numeric(20, 2)   NOT NULL,
    realized_pnl           numeric(20, 2)   NOT NULL,
    dividend_income        numeric(20, 2)   NOT NULL,
    net_cash_flow          numeric(20, 2)   NOT NULL,
    daily_return           double precision,
    cumulative_pnl         numeric(20, 2)   NOT NULL,
    cumulative_return      double precision,
    mtd_pnl                numeric(20, 2)   NOT NULL,
    mtd_return             double precision,
    qtd_pnl                numeric(20, 2)   NOT NULL,
    qtd_return             double precision,
    ytd_pnl                numeric(20, 2)   NOT NULL,
    ytd_return             double precision,
    high_water_mark        double precision CHECK (high_water_mark >= 1),
    drawdown               double precision CHECK (drawdown <= 0),
    leverage               double precision,
    return_status          text             NOT NULL
        CHECK (return_status IN ('ok', 'no_base', 'broken_index')),
    position_count         integer          NOT NULL CHECK (position_count >= 0),
    long_count             integer          NOT NULL CHECK (long_count >= 0),
    short_count            integer          NOT NULL CHECK (short_count >= 0),
    option_count           integer          NOT NULL CHECK (option_count >= 0),
    stock_count            integer          NOT NULL CHECK (stock_count >= 0),
    private_count          integer          NOT NULL CHECK (private_count >= 0),
    delta                  double precision,
    gamma                  double precision,
    theta                  double precision,
    vega                   double precision,
    rho                    double precision,
    greeks_status          text             NOT NULL
        CHECK (greeks_status IN ('not_built', 'ok', 'fallback', 'partial', 'none')),
    stale_positions        integer          NOT NULL CHECK (stale_positions >= 0),
    unpriced_positions     integer          NOT NULL CHECK (unpriced_positions >= 0),
    model_priced_positions integer          NOT NULL CHECK (model_priced_positions >= 0),
    is_first               boolean          NOT NULL,
    computed_at            timestamptz      NOT NULL,
    code_version           text             NOT NULL,
    run_id                 text             NOT NULL,
    PRIMARY KEY (session_date, portfolio_id)
);
CREATE INDEX portfolio_snapshots_portfolio_session
    ON sigmasight.portfolio_snapshots (portfolio_id, session_date);

CREATE TABLE sigmasight.data_quality_results (
    session_date date        NOT NULL,
    asset        text        NOT NULL,
    check_name   text        NOT NULL,
    run_id       text        NOT NULL,
    severity     text        NOT NULL CHECK (severity IN ('ERROR', 'WARN')),
    passed       boolean     NOT NULL,
    description  text        NOT NULL,
    metadata     jsonb,
    checked_at   timestamptz NOT NULL,
    PRIMARY KEY (session_date, asset, check_name, run_id)
);
CREATE INDEX data_quality_results_failed
    ON sigmasight.data_quality_results (asset, check_name, session_date);
"""


def upgrade() -> None:
    """Create the tables and their indexes; comments come from the registry (`storage.schema`)."""
    op.execute(SQL)
