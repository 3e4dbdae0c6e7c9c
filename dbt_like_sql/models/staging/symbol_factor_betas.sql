-- Betas by factor: stored as one row per session and symbol, arrays in the order of the factors' numbers.
SELECT
    b.session_date,
    b.symbol,
    m.member AS factor,
    u.beta,
    u.beta_raw,
    u.alpha,
    u.std_error,
    u.t_stat,
    u.p_value,
    u.r_squared,
    u.residual_volatility,
    u.n_obs,
    b.window_sessions,
    u.quality,
    b.computed_at,
    b.code_version,
    b.run_id
FROM sigmasight.symbol_factor_betas AS b
CROSS JOIN LATERAL unnest(
    b.beta, b.beta_raw, b.alpha, b.std_error, b.t_stat, b.p_value, b.r_squared, b.residual_volatility, b.n_obs, b.quality
) WITH ORDINALITY AS u (beta, beta_raw, alpha, std_error, t_stat, p_value, r_squared, residual_volatility, n_obs, quality, number)
JOIN sigmasight.array_members AS m ON m.dimension = 'factor' AND m.number = u.number
WHERE u.quality IS NOT NULL
