-- Implied returns by scenario: stored as one row per session and symbol.
SELECT
    r.session_date,
    r.symbol,
    m.member AS scenario_id,
    u.implied_return,
    u.floored,
    u.is_own,
    r.computed_at,
    r.code_version,
    r.run_id
FROM sigmasight.symbol_scenario_returns AS r
CROSS JOIN LATERAL unnest(
    r.implied_return, r.floored, r.is_own
) WITH ORDINALITY AS u (implied_return, floored, is_own, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'scenario' AND m.number = u.number
WHERE u.implied_return IS NOT NULL
