-- Single shocks by portfolio: stored as one row per session and portfolio.
SELECT
    r.session_date,
    r.portfolio_id,
    m.member AS scenario,
    u.scenario_type,
    u.shock,
    u.pnl::numeric(20, 2) AS pnl,
    u.pnl_linear::numeric(20, 2) AS pnl_linear,
    u.impact_pct,
    u.coverage,
    u.status,
    r.computed_at,
    r.code_version,
    r.run_id
FROM sigmasight.market_risk_scenarios AS r
CROSS JOIN LATERAL unnest(
    r.scenario_type, r.shock, r.pnl, r.pnl_linear, r.impact_pct, r.coverage, r.status
) WITH ORDINALITY AS u (scenario_type, shock, pnl, pnl_linear, impact_pct, coverage, status, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'shock' AND m.number = u.number
WHERE u.status IS NOT NULL
