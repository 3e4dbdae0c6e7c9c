-- Factor exposures of portfolios by factor: stored as one row per session and portfolio.
SELECT
    e.session_date,
    e.portfolio_id,
    m.member AS factor,
    u.beta,
    u.exposure_dollar::numeric(20, 2) AS exposure_dollar,
    u.coverage,
    u.private_share,
    u.positions_covered,
    u.positions_total,
    u.status,
    e.computed_at,
    e.code_version,
    e.run_id
FROM sigmasight.portfolio_factor_exposures AS e
CROSS JOIN LATERAL unnest(
    e.beta, e.exposure_dollar, e.coverage, e.private_share, e.positions_covered, e.positions_total, e.status
) WITH ORDINALITY AS u (beta, exposure_dollar, coverage, private_share, positions_covered, positions_total, status, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'factor' AND m.number = u.number
WHERE u.status IS NOT NULL
