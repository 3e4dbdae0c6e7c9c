-- P&L of options by scenario: stored as one row per session and position.
SELECT
    o.session_date,
    o.position_id,
    m.member AS scenario_id,
    o.portfolio_id,
    u.pnl::numeric(20, 2) AS pnl,
    o.computed_at,
    o.code_version,
    o.run_id
FROM sigmasight.option_scenario_pnl AS o
CROSS JOIN LATERAL unnest(
    o.pnl
) WITH ORDINALITY AS u (pnl, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'scenario' AND m.number = u.number
WHERE u.pnl IS NOT NULL
