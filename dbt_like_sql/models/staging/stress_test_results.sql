-- Stress results by scenario: stored as one row per session and portfolio; what is said of the scenario itself stands once
-- per session in stress_scenario_diagnostics.
SELECT
    s.session_date,
    s.portfolio_id,
    m.member AS scenario_id,
    u.direct_pnl::numeric(20, 2) AS direct_pnl,
    u.correlated_pnl::numeric(20, 2) AS correlated_pnl,
    u.correlation_effect::numeric(20, 2) AS correlation_effect,
    u.sum_of_single_factor_pnl::numeric(20, 2) AS sum_of_single_factor_pnl,
    u.revaluation_effect::numeric(20, 2) AS revaluation_effect,
    u.total_pnl::numeric(20, 2) AS total_pnl,
    u.impact_pct,
    nullif(s.factor_impacts -> (u.number - 1)::integer, 'null') AS factor_impacts,
    d.effective_shocks,
    d.lam,
    d.condition_number,
    d.mahalanobis,
    d.max_z,
    d.implausible,
    u.coverage,
    u.status,
    s.computed_at,
    s.code_version,
    s.run_id
FROM sigmasight.stress_test_results AS s
CROSS JOIN LATERAL unnest(
    s.direct_pnl, s.correlated_pnl, s.correlation_effect, s.sum_of_single_factor_pnl, s.revaluation_effect, s.total_pnl, s.impact_pct, s.coverage, s.status
) WITH ORDINALITY AS u (direct_pnl, correlated_pnl, correlation_effect, sum_of_single_factor_pnl, revaluation_effect, total_pnl, impact_pct, coverage, status, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'scenario' AND m.number = u.number
LEFT JOIN sigmasight.stress_scenario_diagnostics AS d ON d.session_date = s.session_date AND d.scenario_id = m.member
WHERE u.status IS NOT NULL
