-- Correlations by pair of factors: stored as one matrix per session and weighting.
SELECT
    c.session_date,
    c.weighting,
    m1.member AS factor_1,
    m2.member AS factor_2,
    u.correlation,
    u.covariance,
    u.n_obs,
    u.status,
    c.computed_at,
    c.code_version,
    c.run_id
FROM sigmasight.factor_correlations AS c
CROSS JOIN LATERAL unnest(
    c.correlation, c.covariance, c.n_obs, c.status
) WITH ORDINALITY AS u (correlation, covariance, n_obs, status, number)
JOIN sigmasight.array_members AS m1 ON m1.dimension = 'factor' AND m1.number = (u.number - 1) / array_length(c.correlation, 1) + 1
JOIN sigmasight.array_members AS m2 ON m2.dimension = 'factor' AND m2.number = (u.number - 1) % array_length(c.correlation, 1) + 1
WHERE u.status IS NOT NULL
