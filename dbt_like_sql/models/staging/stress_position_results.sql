-- P&L of positions by scenario: delta-adjusted exposure x the return of the symbol whose returns they take, rounded
-- half-even to the cent (round() of a double is); of an option pnl is what it was re-priced at.
SELECT
    v.session_date,
    d.scenario_id,
    v.position_id,
    v.portfolio_id,
    r.implied_return[m.number] AS implied_return,
    CASE
        WHEN q.status = 'ok' AND p.investment_class = 'OPTIONS' THEN o.pnl[m.number]
        WHEN q.status = 'ok' THEN q.pnl_linear
    END::numeric(20, 2) AS pnl,
    CASE WHEN q.status = 'ok' THEN q.pnl_linear END::numeric(20, 2) AS pnl_linear,
    coalesce(r.floored[m.number], FALSE) AS floored,
    CASE r.is_own[m.number] WHEN TRUE THEN 'own' WHEN FALSE THEN 'model' END AS return_source,
    q.status,
    d.computed_at,
    d.code_version,
    d.run_id
FROM sigmasight.stress_scenario_diagnostics AS d
JOIN sigmasight.array_members AS m ON m.dimension = 'scenario' AND m.member = d.scenario_id
JOIN sigmasight.position_values AS v ON v.session_date = d.session_date
JOIN sigmasight.positions AS p ON p.position_id = v.position_id
-- rows only of scenarios that are computed for the portfolio, and not removed for their age
JOIN sigmasight.stress_test_results AS t
    ON t.session_date = v.session_date AND t.portfolio_id = v.portfolio_id AND t.status[m.number] IS NOT NULL
JOIN sigmasight.position_greeks AS g ON g.session_date = v.session_date AND g.position_id = v.position_id
LEFT JOIN sigmasight.symbol_scenario_returns AS r ON r.session_date = v.session_date AND r.symbol = g.risk_symbol
LEFT JOIN sigmasight.option_scenario_pnl AS o ON o.session_date = v.session_date AND o.position_id = v.position_id
CROSS JOIN LATERAL (
    SELECT
        round(g.delta_adjusted_exposure::double precision * r.implied_return[m.number] * 100)::bigint * 0.01
            AS pnl_linear,
        CASE
            WHEN d.status <> 'ok' THEN d.status
            WHEN g.delta_adjusted_exposure IS NULL THEN 'no_delta_adjusted_exposure'
            -- an option that lacks one of these cannot be re-priced
            WHEN p.investment_class = 'OPTIONS'
                AND num_nulls(
                    g.underlying_price, g.time_to_expiry, g.risk_free_rate, g.volatility, g.dividend_yield
                ) > 0
                THEN 'no_delta_adjusted_exposure'
            WHEN r.implied_return[m.number] IS NULL THEN 'no_beta'
            ELSE 'ok'
        END AS status
) AS q
WHERE
    p.investment_class <> 'PRIVATE'
    AND v.price_source NOT IN ('exit', 'settlement', 'settlement_unpriced')
    AND d.status NOT IN ('window_not_stored', 'window_after_session')
